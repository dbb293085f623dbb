//! What a server said, as it is recorded, and what that is as a reply to a question.
//!
//! Contract: an answer is what was read of a server's reply and nothing derived from it, so that one recorded answer serves
//! any options.

use serde::{Deserialize, Serialize};

use crate::account::Tokens;
use crate::question::UNLISTED;
use crate::{Reply, Unanswered, UnansweredKind};

/// A well-formed reply of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    /// May be blank.
    pub text: String,
    pub end: End,
    /// The likeliest first tokens, where the server lists them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<Likely>,
    /// As the server counts them, where it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    /// By itself.
    Whole,
    /// At the limit of new tokens, or of the model's context.
    Cut,
    /// The server withheld it or broke it off by its own rules.
    Declined,
}

/// A token and how likely it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Likely {
    pub token: String,
    /// In nats.
    pub logprob: f64,
}

impl Answer {
    /// The reply to a question with these options.
    pub fn reply(&self, of: &[String]) -> Result<Reply, Unanswered> {
        if self.end == End::Declined {
            let what = "the server withheld the answer by its own rules";
            return Err(Unanswered::new(UnansweredKind::Declined, what));
        }
        if let Some(log_probs) = options(&self.first, of) {
            return Ok(Reply::Options(log_probs));
        }
        match (self.text.trim().is_empty(), self.end) {
            (false, end) => Ok(Reply::Said { text: self.text.clone(), truncated: end == End::Cut }),
            (true, End::Cut) => {
                let what = "the reply has no text within the limit of new tokens\n\
                            hint: a model that reasons first needs a larger limit";
                Err(Unanswered::new(UnansweredKind::Empty, what))
            }
            (true, _) => Err(Unanswered::new(UnansweredKind::Empty, "the reply has no text")),
        }
    }
}

/// The log-prob of each option among the listed tokens; those that differ in case or in white space count together. `None`
/// where the likeliest token is no option: then the answer begins otherwise, and the options' small rest says nothing.
fn options(listed: &[Likely], options: &[String]) -> Option<Vec<f64>> {
    let is = |likely: &Likely, option: &String| likely.token.trim().eq_ignore_ascii_case(option.trim());
    // A log-prob is at most 0; what a server says beyond is no log-prob.
    let known = || listed.iter().filter(|likely| (UNLISTED..=0.0).contains(&likely.logprob));
    let likeliest = known().max_by(|a, b| a.logprob.total_cmp(&b.logprob))?;
    if !options.iter().any(|option| is(likeliest, option)) {
        return None;
    }
    let of = |option: &String| {
        let probability: f64 =
            known().filter(|likely| is(likely, option)).map(|likely| likely.logprob.exp()).sum();
        if probability > 0.0 { probability.ln() } else { UNLISTED }
    };
    Some(options.iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str, end: End, first: &[(&str, f64)], options: &[&str]) -> Result<Reply, UnansweredKind> {
        let first = first
            .iter()
            .map(|(token, logprob)| Likely { token: (*token).to_owned(), logprob: *logprob })
            .collect();
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        Answer { text: text.to_owned(), end, first, tokens: None }.reply(&options).map_err(|error| error.kind)
    }

    #[test]
    fn options_are_read_from_log_probs_where_the_likeliest_is_one() {
        let asked = |first: &[(&str, f64)]| reply("yes", End::Whole, first, &["yes", "no"]);
        let Ok(Reply::Options(log_probs)) = asked(&[("yes", -1.0), (" Yes", -1.0), ("x", -4.0)]) else {
            panic!()
        };
        assert!((log_probs[0] - (2.0 * (-1.0_f64).exp()).ln()).abs() < 1e-12 && log_probs[1] == UNLISTED);
        // One token is listed, and it is the less liked of the two options.
        assert_eq!(asked(&[("no", -0.01)]), Ok(Reply::Options(vec![UNLISTED, (-0.01_f64).exp().ln()])));
        for first in [&[][..], &[("maybe", -0.1)], &[("I", -0.001), ("no", -9.0)], &[("yes", 1e308)]] {
            assert_eq!(
                asked(first),
                Ok(Reply::Said { text: "yes".to_owned(), truncated: false }),
                "{first:?}"
            );
        }
        // The same answer serves a question without options, or with others.
        assert!(matches!(
            reply("yes", End::Cut, &[("yes", -0.1)], &[]),
            Ok(Reply::Said { truncated: true, .. })
        ));
        assert!(matches!(reply("A", End::Cut, &[("A", -0.1)], &["A", "B"]), Ok(Reply::Options(_))));
    }

    #[test]
    fn what_holds_no_text_is_no_reply() {
        assert_eq!(reply(" \n", End::Whole, &[], &[]), Err(UnansweredKind::Empty));
        assert_eq!(reply("", End::Cut, &[], &[]), Err(UnansweredKind::Empty));
        assert_eq!(reply("Well,", End::Declined, &[], &[]), Err(UnansweredKind::Declined));
    }
}
