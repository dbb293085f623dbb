//! The seam to any feedback model: the policy, the policy with an adapter, another local model, or a server.
//!
//! Contract: answers come in the order of the requests, one each; an answer depends on its own request and the sampling
//! alone (draws keyed by seed, stage and request id), never on the batch. This crate quotes untrusted text with
//! [`crate::for_model`] before it goes into a message.

use serde::{Deserialize, Serialize};

use crate::FeedbackError;

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl ChatMessage {
    /// A user's turn.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".into(), content: content.into() }
    }

    /// An assistant's turn.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: "assistant".into(), content: content.into() }
    }
}

/// One answer to be sampled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerateRequest {
    /// Keys the draws; unique within a stage.
    pub id: String,
    /// The conversation so far, ending with a user's turn.
    pub messages: Vec<ChatMessage>,
    /// What the answer is made to begin with; may be empty.
    pub begin: String,
}

/// A sampled answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The answer with what it was made to begin with, without end-of-turn tokens.
    pub text: String,
    /// The answer was cut off at `max_new_tokens`.
    pub truncated: bool,
    /// `[n_tokens]`, those that were sampled; empty where the backend does not tell.
    pub token_ids: Vec<u32>,
    /// `[n_tokens]`, nats, of the sampled tokens; empty where the backend does not tell.
    pub logprobs: Vec<f32>,
}

impl Generated {
    /// An answer that was cut off, up to its last whole sentence; as it is where it has none.
    pub fn to_last_sentence(mut self) -> Self {
        let whole = whole_sentences(&self.text).len();
        if self.truncated && whole < self.text.len() {
            self.text.truncate(whole);
            self.truncated = false;
        }
        self
    }
}

/// A text up to the last sentence that another begins after; as it is where there is none.
pub fn whole_sentences(text: &str) -> &str {
    let end = text.char_indices().rfind(|(at, c)| {
        matches!(c, '.' | '!' | '?')
            && text[at + 1..].starts_with([' ', '\n'])
            && !text[..*at].ends_with(|c: char| c.is_ascii_digit())
    });
    end.map_or(text, |(at, _)| &text[..=at])
}

/// A question with given answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChoiceRequest {
    /// Names the request in errors and logs.
    pub id: String,
    /// The conversation so far, ending with a user's turn.
    pub messages: Vec<ChatMessage>,
    /// The answers to be scored, each as the whole of the assistant's next turn or its beginning.
    pub options: Vec<String>,
}

/// How answers are sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// The longest answer, in tokens.
    pub max_new_tokens: usize,
    /// 0 is greedy.
    pub temperature: f32,
    /// Keep the likeliest whose probabilities reach this sum; 1 keeps all.
    pub top_p: f32,
    /// Keep the k likeliest; 0 keeps all.
    pub top_k: usize,
    /// Keep tokens at least this fraction as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Keys the draws.
    pub seed: u64,
    /// Keys the draws, so that two stages never share any.
    pub stage: String,
    /// Strings that end an answer; they are not part of it.
    pub stop: Vec<String>,
}

/// Anything that can answer and score.
pub trait FeedbackModel {
    /// One answer per request, in order. `progress` hears how many requests were finished since it was last told.
    fn generate(
        &self,
        requests: &[GenerateRequest],
        sampling: &Sampling,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Generated>, FeedbackError>;

    /// `[n_requests][n_options]`: the log-prob, in nats and finite, of each option as the assistant's answer.
    fn choose(
        &self,
        requests: &[ChoiceRequest],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Vec<f64>>, FeedbackError>;
}

/// [`FeedbackModel::generate`], held to its contract.
pub(crate) fn generate(
    model: &dyn FeedbackModel,
    requests: &[GenerateRequest],
    sampling: &Sampling,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Generated>, FeedbackError> {
    let Some(first) = requests.first() else { return Ok(Vec::new()) };
    let answers = model.generate(requests, sampling, progress)?;
    if answers.len() != requests.len() {
        return Err(FeedbackError::Contract {
            id: first.id.clone(),
            reason: format!("{} requests were made, {} answers came", requests.len(), answers.len()),
        });
    }
    Ok(answers)
}

/// [`FeedbackModel::choose`], held to its contract.
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
            reason: format!("{} requests were made, {} rows of log-probs came", requests.len(), rows.len()),
        });
    }
    for (request, row) in requests.iter().zip(&rows) {
        if row.len() != request.options.len() || row.iter().any(|logprob| !logprob.is_finite()) {
            return Err(FeedbackError::Contract {
                id: request.id.clone(),
                reason: format!("{} finite log-probs were due, {row:?} came", request.options.len()),
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

    /// Sampling for tests, which a script ignores.
    pub fn sampling() -> Sampling {
        Sampling {
            max_new_tokens: 64,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            seed: 1,
            stage: "test".into(),
            stop: Vec::new(),
        }
    }

    impl FeedbackModel for Scripted {
        fn generate(
            &self,
            requests: &[GenerateRequest],
            _: &Sampling,
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
            messages: vec![ChatMessage::user("?")],
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
