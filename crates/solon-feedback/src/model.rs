//! The interface to any feedback model: the policy, the policy with an adapter, another local model, or a server.
//!
//! Contract: answers are in the order of the requests, one for each; a request without one has its reason ([`NoAnswer`]), and the
//! others go on. An answer depends only on its own request and the
//! sampling settings (its draws are keyed by its id), never on the batch. This crate quotes untrusted text with
//! [`crate::for_model`] before it puts it into a message.

use std::fmt;

use serde::{Deserialize, Serialize};
use solon_draws::Draws;
use solon_records::{Context, SamplingSettings};

use crate::FeedbackError;

/// A request for one sampled answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerateRequest {
    /// Key of the request's draws; unique among the requests of one call.
    pub id: String,
    /// What stands before the answer.
    pub context: Context,
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
    /// What it asks about. All requests of a call that ask about the same are answered in one way: with log-probs that the model
    /// shows, or with votes.
    pub about: String,
    /// What stands before each option.
    pub context: Context,
    /// The options to score. After a text each is scored exactly as it follows, white space included.
    pub options: Vec<String>,
    /// Whether an option is the assistant's whole turn, its end included, and not only its first words.
    pub whole: bool,
    /// `[n_options]`, whether it is a turn that was cut off, and so has no end; empty where none is.
    pub cut_off: Vec<bool>,
}

/// How a model weighs the options of a question.
#[derive(Debug, Clone, PartialEq)]
pub struct OptionScores {
    /// `[n_options]`, in nats and finite: of each option as the assistant's answer.
    pub log_probs: Vec<f64>,
    /// `[n_options]`, of sampled answers, where the model shows no log-probs: then `log_probs` are of the middles of Wilson's
    /// intervals of the votes' shares. Empty otherwise.
    pub votes: Vec<u32>,
}

impl OptionScores {
    /// Scores that the model itself gives.
    pub fn shown(log_probs: Vec<f64>) -> Self {
        Self { log_probs, votes: Vec::new() }
    }
}

/// Why a request has no answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoAnswer {
    /// The kind of reason, by which they are counted.
    pub kind: NoAnswerKind,
    /// What happened.
    pub reason: String,
}

/// A kind of reason for [`NoAnswer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoAnswerKind {
    /// No reply came, after all retries.
    NoReply,
    /// The server will not reply to this request.
    Refused,
    /// The request does not fit the model's context.
    TooLong,
    /// The reply has no text.
    Empty,
    /// The reply was cut off before it said anything that can be used.
    CutOff,
    /// The reply is not of the form it has to have.
    Malformed,
    /// The model declines to answer.
    Declines,
    /// The reply names none of the options.
    NoOption,
    /// The reply names several options.
    SeveralOptions,
}

impl NoAnswerKind {
    /// Its name in counts and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoReply => "no reply",
            Self::Refused => "refused by the server",
            Self::TooLong => "too long",
            Self::Empty => "empty",
            Self::CutOff => "cut off",
            Self::Malformed => "malformed",
            Self::Declines => "declines",
            Self::NoOption => "names no option",
            Self::SeveralOptions => "names several options",
        }
    }
}

impl NoAnswer {
    /// A reason.
    pub fn new(kind: NoAnswerKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into() }
    }

    /// Whether a reply may come when the same is asked again.
    pub fn may_come(&self) -> bool {
        self.kind == NoAnswerKind::NoReply
    }

    /// Of a request that was never made.
    pub(crate) fn not_asked() -> Self {
        Self::new(NoAnswerKind::NoReply, "it was not asked")
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.kind.name(), self.reason)
    }
}

/// A model that can answer and score.
pub trait FeedbackModel {
    /// Returns one answer for each request, in order, each sampled with the draws of `draws.item(&request.id)`.
    /// `progress` gets the number of requests finished since its last call.
    ///
    /// Errors where no request can be answered.
    fn generate(
        &self,
        requests: &[GenerateRequest],
        sampling: &SamplingSettings,
        draws: Draws,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Result<Generated, NoAnswer>>, FeedbackError>;

    /// Returns how the options of each request are weighed, in order.
    ///
    /// Errors where no request can be answered.
    fn choose(
        &self,
        requests: &[ChoiceRequest],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Result<OptionScores, NoAnswer>>, FeedbackError>;
}

/// [`FeedbackModel::generate`] with a check of its contract.
pub(crate) fn generate(
    model: &dyn FeedbackModel,
    requests: &[GenerateRequest],
    sampling: &SamplingSettings,
    draws: Draws,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Result<Generated, NoAnswer>>, FeedbackError> {
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
) -> Result<Vec<Result<OptionScores, NoAnswer>>, FeedbackError> {
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
        let Ok(OptionScores { log_probs: row, .. }) = row else { continue };
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
    use solon_records::Message;

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
        ) -> Result<Vec<Result<Generated, NoAnswer>>, FeedbackError> {
            progress(requests.len());
            Ok(requests.iter().map(|request| Ok((self.answer)(request))).collect())
        }

        fn choose(
            &self,
            requests: &[ChoiceRequest],
            progress: &mut dyn FnMut(usize),
        ) -> Result<Vec<Result<OptionScores, NoAnswer>>, FeedbackError> {
            progress(requests.len());
            // No numbers at all stand for no reply.
            let score = |request: &ChoiceRequest| match (self.score)(request) {
                scores if scores.is_empty() => Err(NoAnswer::new(NoAnswerKind::Empty, "no text")),
                scores => Ok(OptionScores::shown(scores)),
            };
            Ok(requests.iter().map(score).collect())
        }
    }

    #[test]
    fn a_model_is_held_to_one_finite_row_per_request() {
        let request = ChoiceRequest {
            id: "pair-9".into(),
            about: "pair-9".into(),
            context: vec![Message::user("?")].into(),
            options: vec!["A".into(), "B".into()],
            whole: false,
            cut_off: Vec::new(),
        };
        for bad in [vec![-1.0], vec![-1.0, f64::NEG_INFINITY], vec![f64::NAN, -1.0]] {
            let model = Scripted::scoring(move |_| bad.clone());
            let error = choose(&model, std::slice::from_ref(&request), &mut |_| {}).unwrap_err();
            assert!(error.to_string().contains("pair-9"), "{error}");
        }
        let model = Scripted::scoring(|_| vec![-1.0, -2.0]);
        assert_eq!(
            choose(&model, &[request], &mut |_| {}).unwrap(),
            [Ok(OptionScores::shown(vec![-1.0, -2.0]))]
        );
    }
}
