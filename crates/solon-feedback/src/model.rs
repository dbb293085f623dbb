//! The interface to any feedback model: the policy, the policy with an adapter, another local model, or a server.
//!
//! Contract: answers are in the order of the requests, one for each. An answer depends only on its own request and the
//! sampling settings (its draws are keyed by its id), never on the batch. This crate quotes untrusted text with
//! [`crate::for_model`] before it puts it into a message.

use solon_draws::Draws;
use solon_records::{Message, SamplingSettings};

use crate::FeedbackError;

/// A request for one sampled answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerateRequest {
    /// Key of the request's draws; unique among the requests of one call.
    pub id: String,
    /// The conversation so far, ending with a user's turn.
    pub messages: Vec<Message>,
    /// The text that the answer must start with; may be empty.
    pub prefill: String,
}

/// A sampled answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The answer, prefill included, without end-of-turn tokens.
    pub text: String,
    /// The answer was cut off at `max_new_tokens`.
    pub truncated: bool,
    /// `[n_tokens]`, the sampled tokens; empty if the backend does not report them.
    pub token_ids: Vec<u32>,
    /// `[n_tokens]`, nats, of the sampled tokens; empty if the backend does not report them.
    pub logprobs: Vec<f32>,
}

impl Generated {
    /// Cuts a truncated answer after its last whole sentence; leaves it unchanged if it has none.
    pub fn to_last_sentence(mut self) -> Self {
        let whole = whole_sentences(&self.text).len();
        if self.truncated && whole < self.text.len() {
            self.text.truncate(whole);
            self.truncated = false;
        }
        self
    }
}

/// The text up to its last sentence end that another sentence follows; all of it if there is none.
pub fn whole_sentences(text: &str) -> &str {
    let end = text.char_indices().rfind(|(at, c)| {
        matches!(c, '.' | '!' | '?')
            && text[at + 1..].starts_with([' ', '\n'])
            && !text[..*at].ends_with(|c: char| c.is_ascii_digit())
    });
    end.map_or(text, |(at, _)| &text[..=at])
}

/// A question with given options as answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChoiceRequest {
    /// Names the request in errors and logs.
    pub id: String,
    /// The conversation so far, ending with a user's turn.
    pub messages: Vec<Message>,
    /// The options to score, each as the assistant's next turn or as its first words.
    pub options: Vec<String>,
}

/// A model that can answer and score.
pub trait FeedbackModel {
    /// Returns one answer for each request, in order, each sampled with the draws of `draws.item(&request.id)`.
    /// `progress` gets the number of requests finished since its last call.
    fn generate(
        &self,
        requests: &[GenerateRequest],
        sampling: &SamplingSettings,
        draws: Draws,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Generated>, FeedbackError>;

    /// Returns `[n_requests][n_options]`: the log-prob, in nats and finite, of each option as the assistant's answer.
    fn choose(
        &self,
        requests: &[ChoiceRequest],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Vec<f64>>, FeedbackError>;
}

/// [`FeedbackModel::generate`] with a check of its contract.
pub(crate) fn generate(
    model: &dyn FeedbackModel,
    requests: &[GenerateRequest],
    sampling: &SamplingSettings,
    draws: Draws,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Generated>, FeedbackError> {
    let Some(first) = requests.first() else { return Ok(Vec::new()) };
    let answers = model.generate(requests, sampling, draws, progress)?;
    if answers.len() != requests.len() {
        return Err(FeedbackError::Contract {
            id: first.id.clone(),
            reason: format!("{} requests were sent, {} answers were returned", requests.len(), answers.len()),
        });
    }
    Ok(answers)
}

/// [`FeedbackModel::choose`] with a check of its contract.
pub(crate) fn choose(
    model: &dyn FeedbackModel,
    requests: &[ChoiceRequest],
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<f64>>, FeedbackError> {
    let Some(first) = requests.first() else { return Ok(Vec::new()) };
    let rows = model.choose(requests, progress)?;
    if rows.len() != requests.len() {
        return Err(FeedbackError::Contract {
            id: first.id.clone(),
            reason: format!(
                "{} requests were sent, {} rows of log-probs were returned",
                requests.len(),
                rows.len()
            ),
        });
    }
    for (request, row) in requests.iter().zip(&rows) {
        if row.len() != request.options.len() || row.iter().any(|logprob| !logprob.is_finite()) {
            return Err(FeedbackError::Contract {
                id: request.id.clone(),
                reason: format!(
                    "{} finite log-probs were expected, {row:?} was returned",
                    request.options.len()
                ),
            });
        }
    }
    Ok(rows)
}

#[cfg(test)]
pub(crate) mod scripted {
    //! A model that answers by rule, for this crate's tests.

    use super::*;

    type Answer = Box<dyn Fn(&GenerateRequest) -> Generated>;
    type Score = Box<dyn Fn(&ChoiceRequest) -> Vec<f64>>;

    /// Answers and scores by two functions of the request.
    pub struct Scripted {
        pub answer: Answer,
        pub score: Score,
    }

    impl Scripted {
        pub fn answering(answer: impl Fn(&GenerateRequest) -> Generated + 'static) -> Self {
            Self { answer: Box::new(answer), score: Box::new(|_| Vec::new()) }
        }

        pub fn scoring(score: impl Fn(&ChoiceRequest) -> Vec<f64> + 'static) -> Self {
            Self { answer: Box::new(|_| finished("")), score: Box::new(score) }
        }
    }

    /// An answer that ended by itself.
    pub fn finished(text: &str) -> Generated {
        Generated { text: text.into(), truncated: false, token_ids: Vec::new(), logprobs: Vec::new() }
    }

    /// Sampling for tests, which the scripted model ignores.
    pub fn sampling() -> SamplingSettings {
        SamplingSettings::of_length(64)
    }

    impl FeedbackModel for Scripted {
        fn generate(
            &self,
            requests: &[GenerateRequest],
            _: &SamplingSettings,
            _: Draws,
            progress: &mut dyn FnMut(usize),
        ) -> Result<Vec<Generated>, FeedbackError> {
            progress(requests.len());
            Ok(requests.iter().map(|request| (self.answer)(request)).collect())
        }

        fn choose(
            &self,
            requests: &[ChoiceRequest],
            progress: &mut dyn FnMut(usize),
        ) -> Result<Vec<Vec<f64>>, FeedbackError> {
            progress(requests.len());
            Ok(requests.iter().map(|request| (self.score)(request)).collect())
        }
    }

    #[test]
    fn a_model_is_held_to_one_finite_row_per_request() {
        let request = ChoiceRequest {
            id: "pair-9".into(),
            messages: vec![Message::user("?")],
            options: vec!["A".into(), "B".into()],
        };
        for bad in [vec![-1.0], vec![-1.0, f64::NEG_INFINITY], vec![f64::NAN, -1.0]] {
            let model = Scripted::scoring(move |_| bad.clone());
            let error = choose(&model, std::slice::from_ref(&request), &mut |_| {}).unwrap_err();
            assert!(error.to_string().contains("pair-9"), "{error}");
        }
        let model = Scripted::scoring(|_| vec![-1.0, -2.0]);
        assert_eq!(choose(&model, &[request], &mut |_| {}).unwrap(), [[-1.0, -2.0]]);
    }
}
