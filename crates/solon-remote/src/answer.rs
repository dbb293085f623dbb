//! What a server said, as it is recorded, and what that is as a reply to a question.
//!
//! Contract: an answer is what was read of a server's reply and nothing derived from it, so that one recorded answer serves
//! any options.

use serde::{Deserialize, Serialize};

use crate::account::Tokens;
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

/// The log-prob of each option among the listed tokens; those that differ in white space count together, and words that differ in case too
/// (the article a is not the option A). One that is not listed gets a bound: the least of those that are, or what they leave.
///
/// `None` where the likeliest token is no option: then the answer begins otherwise, and the options' small rest says nothing; and where
/// a listed one begins another that is not (the 1 of 10): then it may be either.
fn options(listed: &[Likely], options: &[String]) -> Option<Vec<f64>> {
    let is = |likely: &Likely, option: &String| match (likely.token.trim(), option.trim()) {
        (token, option) if option.chars().count() > 1 => token.eq_ignore_ascii_case(option),
        (token, option) => token == option,
    };
    // A log-prob is at most 0; what a server says beyond is no log-prob, and far below is none that counts.
    let known = || listed.iter().filter(|likely| (LEAST..=0.0).contains(&likely.logprob));
    let likeliest = known().max_by(|a, b| a.logprob.total_cmp(&b.logprob))?;
    if !options.iter().any(|option| is(likeliest, option)) {
        return None;
    }
    let least = known().map(|likely| likely.logprob).fold(0.0, f64::min);
    let rest = 1.0 - known().map(|likely| likely.logprob.exp()).sum::<f64>();
    let bound = least.min(rest.max(LEAST.exp()).ln());
    let found: Vec<Option<f64>> = options
        .iter()
        .map(|option| {
            let mut of_option = known().filter(|likely| is(likely, option)).peekable();
            of_option.peek()?;
            Some(of_option.map(|likely| likely.logprob.exp()).sum::<f64>().max(LEAST.exp()).ln())
        })
        .collect();
    let longer = |one: usize, other: usize| other != one && options[other].starts_with(options[one].as_str());
    let may_be_either = (0..options.len()).any(|one| {
        found[one].is_some() && (0..options.len()).any(|other| longer(one, other) && found[other].is_none())
    });
    (!may_be_either).then(|| found.into_iter().map(|log_prob| log_prob.unwrap_or(bound)).collect())
}

/// Below this a log-prob is as good as none: e^-100.
const LEAST: f64 = -100.0;

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
        assert!((log_probs[0] - (2.0 * (-1.0_f64).exp()).ln()).abs() < 1e-12);
        // What is not listed is at most as likely as the least that is, and as what all leave.
        assert_eq!(log_probs[1], -4.0);
        let Ok(Reply::Options(log_probs)) = asked(&[("no", -0.01)]) else { panic!() };
        assert!((log_probs[0] - (1.0 - (-0.01_f64).exp()).ln()).abs() < 1e-9, "{log_probs:?}");
        // The article is no letter, and a 1 may begin a 10.
        let letters = reply("a", End::Whole, &[("a", -0.1), ("A", -3.0)], &["A", "B"]);
        assert!(matches!(letters, Ok(Reply::Said { .. })), "{letters:?}");
        let scale = ["1", "2", "10"];
        assert!(matches!(
            reply("1", End::Whole, &[("1", -0.1), ("2", -3.0)], &scale),
            Ok(Reply::Said { .. })
        ));
        let all = [("1", -0.1), ("2", -3.0), ("10", -4.0)];
        assert!(matches!(reply("1", End::Whole, &all, &scale), Ok(Reply::Options(_))));
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
