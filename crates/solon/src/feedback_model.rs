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
use solon_records::{Context, Message, SamplingSettings};
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

    /// Whether a conversation or a text and an answer of so many tokens fit the model's context.
    pub fn fits(&self, context: &Context, new: usize) -> bool {
        !matches!(self.model.context_ids("", context, new), Err(ChatError::TooLong { .. }))
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
                context: request.context.clone(),
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

    /// A conversation and its options as ids: as whole turns, or as the first words of one.
    fn turns(
        &self,
        id: &str,
        messages: &[Message],
        options: &[String],
        whole: bool,
    ) -> Result<ScoreItem, ChatError> {
        if whole {
            let options: Vec<Message> = options.iter().map(Message::assistant).collect();
            let (prompt, completions) = self.model.turns(id, messages, &options)?;
            return Ok(ScoreItem { prompt, completions });
        }
        let completions: Vec<Vec<u32>> = options
            .iter()
            .map(|option| self.model.text.continuation_ids(option))
            .collect::<Result<_, _>>()?;
        let longest = completions.iter().map(Vec::len).max().unwrap_or(0);
        Ok(ScoreItem { prompt: self.model.prompt_ids(id, messages, longest)?, completions })
    }

    /// The reason why a request has no answer, where what stands before it and so many tokens do not fit the model's context.
    fn too_long(&self, id: &str, context: &Context, new: usize) -> Result<Option<NoAnswer>, FeedbackError> {
        match self.model.context_ids(id, context, new) {
            Ok(_) => Ok(None),
            Err(error @ ChatError::TooLong { .. }) => {
                Ok(Some(NoAnswer::new(NoAnswerKind::TooLong, error.to_string())))
            }
            Err(error) => Err(FeedbackError::model(error)),
        }
    }

    /// What is scored for a question: its options in order, after a conversation as turns that end there, after a text as they
    /// follow in it.
    fn score_items(
        &self,
        request: &ChoiceRequest,
    ) -> Result<Result<Vec<ScoreItem>, NoAnswer>, FeedbackError> {
        let ChoiceRequest { id, context, options, whole, .. } = request;
        let mut items: Vec<ScoreItem> = Vec::new();
        match context {
            Context::Chat(messages) => match self.turns(id, messages, options, *whole) {
                Ok(item) => items.push(item),
                Err(error @ ChatError::TooLong { .. }) => {
                    return Ok(Err(NoAnswer::new(NoAnswerKind::TooLong, error.to_string())));
                }
                Err(error) => return Err(FeedbackError::model(error)),
            },
            Context::Text(text) => {
                for option in options {
                    let both = Context::Text(format!("{text}{option}"));
                    if let Some(missing) = self.too_long(id, &both, 0)? {
                        return Ok(Err(missing));
                    }
                    let following = self.model.text.following_ids(text, option, true);
                    let (mut prompt, of_context) = following.map_err(FeedbackError::model)?;
                    let completion = prompt.split_off(of_context);
                    if prompt.is_empty() {
                        return Err(FeedbackError::model(ChatError::EmptyPrompt { id: id.clone() }));
                    }
                    // Mostly the options share their context's tokens; where a token spans the border they do not.
                    match items.last_mut().filter(|item| item.prompt == prompt) {
                        Some(item) => item.completions.push(completion),
                        None => items.push(ScoreItem { prompt, completions: vec![completion] }),
                    }
                }
            }
        }
        Ok(Ok(items))
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
            match self.too_long(&request.id, &request.context, sampling.max_new_tokens)? {
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
            match self.score_items(request)? {
                Ok(of_request) => {
                    rows.push(Ok(of_request.iter().map(|item| item.completions.len()).collect::<Vec<_>>()));
                    items.extend(of_request);
                }
                Err(missing) => rows.push(Err(missing)),
            }
        }
        let scores = self.engine.borrow_mut().score(&items, 1.0, progress);
        let sum = |logprobs: &Vec<f32>| logprobs.iter().map(|l| f64::from(*l)).sum();
        let mut scores = scores.iter();
        let filled = rows.into_iter().map(|row| {
            let of_request = scores.by_ref().take(row?.len());
            Ok(OptionScores::shown(of_request.flatten().map(sum).collect()))
        });
        Ok(filled.collect())
    }
}
