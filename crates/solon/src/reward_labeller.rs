//! A reward model as a labeller: what it is asked is how good each answer is, and it answers nothing else.

use crate::memory::TOKENS_PER_PASS;
use crate::tokenise;
use anyhow::{Context as _, Result};
use solon_draws::Draws;
use solon_feedback::{
    ChoiceRequest, FeedbackError, FeedbackModel, GenerateRequest, Generated, NoAnswer, NoAnswerKind,
    OptionScores,
};
use solon_infer::chat::{ChatError, ChatModel};
use solon_model::{Adapter, Device, ScalarHead};
use solon_records::{Context, Message, SamplingSettings};
use solon_train::reward::rewards;

/// A model with its scalar head.
pub struct RewardLabeller<'a> {
    chat: &'a ChatModel,
    adapter: Option<&'a Adapter<Device>>,
    head: ScalarHead<Device>,
}

impl<'a> RewardLabeller<'a> {
    /// Errors where the model has no scalar head.
    pub fn new(
        chat: &'a ChatModel,
        adapter: Option<&'a Adapter<Device>>,
        head: Option<Vec<f32>>,
    ) -> Result<Self> {
        let head = head.context(
            "ask = \"reward\" needs a reward model, and this one has no scalar head\nhint: name one that \
             `reward` trained, or ask in another way",
        )?;
        Ok(Self { chat, adapter, head: ScalarHead::new(chat.decoder.backend(), head) })
    }

    /// The tokens of a prompt and of the answers to it, as a reward model learns them; or why they are not scored.
    fn tokens(
        &self,
        request: &ChoiceRequest,
    ) -> Result<Result<(Vec<u32>, Vec<Vec<u32>>), NoAnswer>, FeedbackError> {
        let Context::Chat(messages) = &request.context else {
            return Err(FeedbackError::model("a reward model scores answers to conversations, not texts"));
        };
        let cut_off = request.cut_off.iter().copied().chain(std::iter::repeat(false));
        let answers: Vec<(Message, bool)> =
            request.options.iter().map(Message::assistant).zip(cut_off).collect();
        match tokenise::answers(self.chat, &request.id, messages, &answers, Some(&self.chat.closing())) {
            Ok(tokens) => Ok(Ok(tokens)),
            Err(error @ ChatError::TooLong { .. }) => {
                Ok(Err(NoAnswer::new(NoAnswerKind::TooLong, error.to_string())))
            }
            Err(error) => Err(FeedbackError::model(error)),
        }
    }
}

impl FeedbackModel for RewardLabeller<'_> {
    fn generate(
        &self,
        _: &[GenerateRequest],
        _: &SamplingSettings,
        _: Draws,
        _: &mut dyn FnMut(usize),
    ) -> Result<Vec<Result<Generated, NoAnswer>>, FeedbackError> {
        Err(FeedbackError::model("a reward model writes no answers\nhint: name a model that does"))
    }

    /// The rewards of the options as answers: log-probs of being chosen, up to what all answers to a prompt share.
    fn choose(
        &self,
        requests: &[ChoiceRequest],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Result<OptionScores, NoAnswer>>, FeedbackError> {
        let tokens: Vec<_> = requests.iter().map(|request| self.tokens(request)).collect::<Result<_, _>>()?;
        let items: Vec<(&[u32], &[u32])> = tokens
            .iter()
            .flatten()
            .flat_map(|(prompt, answers)| answers.iter().map(|answer| (&prompt[..], &answer[..])))
            .collect();
        let scores = rewards(&self.chat.decoder, self.adapter, &self.head, &items, TOKENS_PER_PASS);
        progress(requests.len());
        let mut scores = scores.into_iter().map(f64::from);
        let scored = tokens.iter().map(|tokens| {
            let (_, answers) = tokens.as_ref().map_err(Clone::clone)?;
            Ok(OptionScores::shown(scores.by_ref().take(answers.len()).collect()))
        });
        Ok(scored.collect())
    }
}
