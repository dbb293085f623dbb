//! The engine as a feedback model: `solon-feedback` asks, and an adapter on the shared decoder answers.
//!
//! A stage keeps one for all its requests, so that shared prefixes of earlier requests are not computed again.

use solon_draws::Draws;
use solon_feedback::{
    ChoiceRequest, FeedbackError, FeedbackModel, GenerateRequest, Generated, NoAnswer, NoAnswerKind,
    OptionScores,
};
use solon_infer::chat::{AnswerSettings, ChatError, ChatModel, ChatRequest, Options, OptionsRequest};
use solon_infer::engine::Engine;
use solon_infer::score::ScoreItem;
use solon_model::{Adapter, Device};
use solon_records::{Message, SamplingSettings};
use solon_text::TextError;
use std::cell::RefCell;

/// A model with one of its adapters.
pub struct LocalModel<'a> {
    model: &'a ChatModel,
    engine: RefCell<Engine<'a, Device>>,
    slots: usize,
}

impl<'a> LocalModel<'a> {
    /// `model`: decoder and text. `adapter`: the adapter that answers. `slots`: the number of answers sampled at the
    /// same time.
    pub fn new(model: &'a ChatModel, adapter: Option<&'a Adapter<Device>>, slots: usize) -> Self {
        Self { model, engine: RefCell::new(model.engine(adapter)), slots }
    }

    /// Whether a conversation and an answer of so many tokens fit the model's context.
    pub fn fits(&self, messages: &[Message], new: usize) -> bool {
        !matches!(self.model.prompt_ids("", messages, new), Err(ChatError::TooLong { .. }))
    }

    /// How likely each option is to follow its context.
    pub fn options(&self, requests: &[OptionsRequest]) -> Result<Vec<Options>, ChatError> {
        self.model.options(&mut self.engine.borrow_mut(), requests)
    }
}

impl LocalModel<'_> {
    /// An answer to each request, in order, each sampled with the draws of `draws.item(&request.id)`.
    ///
    /// Errors where one does not fit the model's context.
    pub fn generate(
        &self,
        requests: &[GenerateRequest],
        sampling: &SamplingSettings,
        draws: Draws,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Generated>, FeedbackError> {
        let requests: Vec<ChatRequest> = requests
            .iter()
            .map(|request| ChatRequest {
                id: request.id.clone(),
                messages: request.messages.clone(),
                prefill: request.prefill.clone(),
                draws: draws.item(&request.id),
            })
            .collect();
        let settings = AnswerSettings { sampling: sampling.clone(), slots: self.slots };
        let answers = self
            .model
            .answer(&mut self.engine.borrow_mut(), &requests, &settings, progress)
            .map_err(FeedbackError::model)?;
        Ok(answers
            .into_iter()
            .map(|answer| Generated {
                truncated: answer.truncated(),
                text: answer.text,
                token_ids: answer.completion.token_ids,
                logprobs: answer.completion.logprobs,
            })
            .collect())
    }

    /// The tokens of an option: of the whole turn, its end included, or of its first words.
    fn option_ids(&self, option: &str, whole: bool) -> Result<Vec<u32>, TextError> {
        let mut ids = self.model.text.completion_ids(option)?;
        if !whole {
            ids.pop();
        }
        Ok(ids)
    }

    /// The reason why a request has no answer, where its conversation and so many tokens do not fit the model's context.
    fn too_long(
        &self,
        id: &str,
        messages: &[Message],
        new: usize,
    ) -> Result<Option<NoAnswer>, FeedbackError> {
        match self.model.prompt_ids(id, messages, new) {
            Ok(_) => Ok(None),
            Err(error @ ChatError::TooLong { .. }) => {
                Ok(Some(NoAnswer::new(NoAnswerKind::TooLong, error.to_string())))
            }
            Err(error) => Err(FeedbackError::model(error)),
        }
    }
}

impl FeedbackModel for LocalModel<'_> {
    fn generate(
        &self,
        requests: &[GenerateRequest],
        sampling: &SamplingSettings,
        draws: Draws,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Result<Generated, NoAnswer>>, FeedbackError> {
        let (mut answers, mut fitting) = (Vec::with_capacity(requests.len()), Vec::new());
        for request in requests {
            match self.too_long(&request.id, &request.messages, sampling.max_new_tokens)? {
                Some(missing) => answers.push(Some(Err(missing))),
                None => {
                    answers.push(None);
                    fitting.push(request.clone());
                }
            }
        }
        let mut made = LocalModel::generate(self, &fitting, sampling, draws, progress)?.into_iter();
        let filled = answers.into_iter().filter_map(|answer| answer.or_else(|| made.next().map(Ok)));
        Ok(filled.collect())
    }

    fn choose(
        &self,
        requests: &[ChoiceRequest],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Result<OptionScores, NoAnswer>>, FeedbackError> {
        let (mut rows, mut items) = (Vec::with_capacity(requests.len()), Vec::new());
        for request in requests {
            let completions: Vec<Vec<u32>> = request
                .options
                .iter()
                .map(|option| self.option_ids(option, request.whole))
                .collect::<Result<_, _>>()
                .map_err(FeedbackError::model)?;
            let longest = completions.iter().map(Vec::len).max().unwrap_or(0);
            match self.model.prompt_ids(&request.id, &request.messages, longest) {
                Ok(prompt) => {
                    rows.push(None);
                    items.push(ScoreItem { prompt, completions });
                }
                Err(error @ ChatError::TooLong { .. }) => {
                    rows.push(Some(Err(NoAnswer::new(NoAnswerKind::TooLong, error.to_string()))));
                }
                Err(error) => return Err(FeedbackError::model(error)),
            }
        }
        let scores = self.engine.borrow_mut().score(&items, 1.0, progress);
        let sum = |logprobs: &Vec<f32>| logprobs.iter().map(|l| f64::from(*l)).sum();
        let mut scores = scores.iter().map(|options| OptionScores::shown(options.iter().map(sum).collect()));
        let filled = rows.into_iter().filter_map(|row| row.or_else(|| scores.next().map(Ok)));
        Ok(filled.collect())
    }
}
