//! Asks why one of two answers was chosen, and reads the rules of the reply.
//!
//! Contract: a reply is a list of lines. A line is a rule where it begins with "Prefer the answer that" or a like phrase, after the marks
//! of a list; other lines are chatter. A rule that names an answer by its letter says nothing of other pairs, and is refused.

use serde::{Deserialize, Serialize};
use solon_draws::Draws;
use solon_records::{Message, Pair, SamplingSettings};

use crate::error::FeedbackError;
use crate::label::prompt_text;
use crate::model::{FeedbackModel, GenerateRequest, Generated, NoAnswer, generate};
use crate::quote::for_model;

/// The most words of a rule.
const WORDS: usize = 30;
/// The most characters of a rule.
const CHARACTERS: usize = 250;

/// For which of the two answers rules are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The better one: why was it chosen?
    Chosen,
    /// The other one: why could it have been? Its rules are there to be beaten, and widen what is proposed.
    Other,
}

impl Side {
    /// Both.
    pub const ALL: [Side; 2] = [Side::Chosen, Side::Other];

    /// Its name in ids.
    pub fn name(self) -> &'static str {
        match self {
            Side::Chosen => "chosen",
            Side::Other => "other",
        }
    }
}

/// How rules are asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct ProposeSettings {
    /// Key of the order in which answers are shown, and of what is sampled.
    pub draws: Draws,
    /// Rules that are asked for, and the most that are taken of a reply.
    pub rules: usize,
    /// Whether the reply is begun with the first words of a rule. A small model seldom begins so by itself; a server cannot be made to.
    pub is_begun: bool,
    /// How replies are sampled.
    pub sampling: SamplingSettings,
}

/// How a rule begins.
const BEGINNING: &str = "Prefer the answer that";

/// Why a rule, or a reply, cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleFault {
    /// The reply holds no line of the form that was asked for.
    NoRule,
    /// The rule was cut off.
    CutOff,
    /// It has more than 30 words, or more than 250 characters.
    TooLong,
    /// It names an answer by its letter.
    NamesAnswer,
    /// It holds a control character.
    ControlCharacter,
}

impl RuleFault {
    /// Its name in counts.
    pub fn name(self) -> &'static str {
        match self {
            RuleFault::NoRule => "reply without a rule",
            RuleFault::CutOff => "rule cut off",
            RuleFault::TooLong => "rule too long",
            RuleFault::NamesAnswer => "rule about one of the two answers",
            RuleFault::ControlCharacter => "rule with a control character",
        }
    }
}

/// A reply and what it proposes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposed {
    /// The reply as it was.
    pub reply: String,
    /// What the preferred answer does, such as "is more polite".
    pub rules: Vec<String>,
    /// What of the reply cannot be used.
    pub refused: Vec<RuleFault>,
}

/// Asks for rules about pairs whose `first` answer is the better one. Replies are in the order of the questions.
pub fn propose(
    model: &dyn FeedbackModel,
    asked: &[(&Pair, Side)],
    settings: &ProposeSettings,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Result<Proposed, NoAnswer>>, FeedbackError> {
    let requests: Vec<GenerateRequest> =
        asked.iter().map(|(pair, side)| request(pair, *side, settings)).collect();
    let replies = generate(model, &requests, &settings.sampling, settings.draws.item("propose"), progress)?;
    Ok(replies.into_iter().map(|reply| Ok(read(&reply?, settings.rules))).collect())
}

/// The question. Which answer stands first is drawn, so that a model's love of one letter proposes nothing.
fn request(pair: &Pair, side: Side, settings: &ProposeSettings) -> GenerateRequest {
    let chosen_is_a = settings.draws.item("order").item(&pair.id).below(0, 2) == 0;
    let (a, b) = if chosen_is_a { (&pair.first, &pair.second) } else { (&pair.second, &pair.first) };
    let preferred = if chosen_is_a == (side == Side::Chosen) { ("A", "B") } else { ("B", "A") };
    let (prompt, a, b) = (for_model(&prompt_text(&pair.prompt)), for_model(a), for_model(b));
    let (better, worse) = preferred;
    let case = match side {
        Side::Chosen => format!("A person found Answer {better} better than Answer {worse}."),
        Side::Other => format!("Suppose that a person finds Answer {better} better than Answer {worse}."),
    };
    let wanted = match settings.rules {
        1 => "Which general rule explains this best? Write the one rule, in one line".to_owned(),
        count => {
            format!("Which general rules explain this best? Write {count} different rules, one in a line")
        }
    };
    let text = format!(
        "Read the request and the two answers.\n\nRequest: {prompt}\n\nAnswer A: {a}\n\nAnswer B: {b}\n\n{case} {wanted}, each in at most \
         15 words, and each beginning with the words \"{BEGINNING}\". A rule is about how answers differ in content, tone, \
         form or length, makes sense for other requests too, and does not say A or B."
    );
    GenerateRequest {
        id: format!("{}/{}", side.name(), pair.id),
        context: vec![Message::user(text)].into(),
        prefill: if settings.is_begun { BEGINNING.to_owned() } else { String::new() },
    }
}

/// The rules of a reply, at most so many.
fn read(reply: &Generated, most: usize) -> Proposed {
    let (mut rules, mut refused, mut found) = (Vec::new(), Vec::new(), false);
    let lines: Vec<&str> = reply.text.lines().filter(|line| !line.trim().is_empty()).collect();
    for (place, line) in lines.iter().enumerate() {
        let Some(rule) = completion(line) else { continue };
        found = true;
        let is_cut = reply.truncated && place + 1 == lines.len() && !reply.text.ends_with('\n');
        match checked(rule, is_cut) {
            Ok(rule) if rules.len() < most && !rules.contains(&rule) => rules.push(rule),
            Ok(_) => {}
            Err(fault) => refused.push(fault),
        }
    }
    if !found {
        refused.push(RuleFault::NoRule);
    }
    Proposed { reply: reply.text.clone(), rules, refused }
}

/// What follows "Prefer the answer that" in a line; nothing of other lines.
fn completion(line: &str) -> Option<&str> {
    const VERBS: [&str; 6] = ["prefer", "choose", "select", "pick", "favor", "favour"];
    const NOUNS: [&str; 5] = ["answer", "response", "reply", "one", "option"];
    let mark = |c: char| c.is_whitespace() || c.is_ascii_digit() || "-*•#>.)(:\"'“”‘’`_".contains(c);
    let line = line.trim_start_matches(mark);
    // "Rule 1: Prefer …"
    let line = match line.split_once(':') {
        Some((head, rest)) if head.to_lowercase().starts_with("rule") && head.len() <= 8 => {
            rest.trim_start_matches(mark)
        }
        _ => line,
    };
    let (verb, rest) = line.split_once(' ')?;
    let (article, rest) = rest.trim_start().split_once(' ')?;
    let (noun, rest) = rest.trim_start().split_once(' ')?;
    let (relative, rest) = rest.trim_start().split_once(' ')?;
    let is = |word: &str, known: &[&str]| known.iter().any(|known| word.eq_ignore_ascii_case(known));
    let fits = is(verb, &VERBS) && is(article, &["the", "an", "a"]) && is(noun, &NOUNS);
    (fits && is(relative, &["that", "which"])).then_some(rest)
}

/// A rule in one form: one space between words, no full stop, no quotation marks around it.
fn checked(rule: &str, is_cut: bool) -> Result<String, RuleFault> {
    let words: Vec<&str> = rule.split_whitespace().collect();
    let rule = words.join(" ");
    let rule = rule.trim_matches(|c: char| c.is_whitespace() || ".;,\"“”*`_".contains(c));
    let letter = |word: &&str| matches!(word.trim_matches(|c: char| !c.is_alphanumeric()), "A" | "B");
    if rule.is_empty() {
        return Err(RuleFault::NoRule);
    }
    if is_cut {
        return Err(RuleFault::CutOff);
    }
    if rule.chars().any(char::is_control) {
        return Err(RuleFault::ControlCharacter);
    }
    if words.len() > WORDS || rule.chars().count() > CHARACTERS {
        return Err(RuleFault::TooLong);
    }
    if rule.split([' ', '\'', '’']).any(|word| letter(&word)) {
        return Err(RuleFault::NamesAnswer);
    }
    Ok(rule.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::scripted::{finished, sampling};

    fn read_text(text: &str) -> Proposed {
        read(&finished(text), 3)
    }

    #[test]
    fn rules_are_read_out_of_lists_and_chatter() {
        let text = "Sure, here are the rules:\n\n1. Prefer the answer that is more polite.\n\
                    - **Choose the response which  avoids insults.**\n\
                    Rule 3: \"Prefer the answer that answers a question with facts\"\nPrefer the answer that is short\n";
        let read = read_text(text);
        assert_eq!(read.rules, ["is more polite", "avoids insults", "answers a question with facts"]);
        assert_eq!(read.refused, []);
        assert_eq!(read.reply, text);
    }

    #[test]
    fn what_is_no_rule_is_refused_by_its_reason() {
        use RuleFault::{ControlCharacter, CutOff, NamesAnswer, NoRule, TooLong};
        for (text, fault) in [
            ("", NoRule),
            ("I cannot say.", NoRule),
            ("Prefer politeness.", NoRule),
            ("Prefer the answer that .", NoRule),
            ("Prefer the answer that is like Answer B", NamesAnswer),
            ("Prefer the answer that follows B's tone", NamesAnswer),
            ("Prefer the answer that is \u{1b}[2J kind", ControlCharacter),
        ] {
            assert_eq!(read_text(text).refused, [fault], "{text:?}");
            assert_eq!(read_text(text).rules, [""; 0], "{text:?}");
        }
        let long = format!("Prefer the answer that {}", "is so kind ".repeat(11));
        assert_eq!(read_text(&long).refused, [TooLong]);
        let cut = Generated {
            truncated: true,
            ..finished("Prefer the answer that is kind\nPrefer the answer that is sh")
        };
        let read = read(&cut, 3);
        assert_eq!((read.rules, read.refused), (vec!["is kind".to_owned()], vec![CutOff]));
    }

    #[test]
    fn a_reply_is_begun_with_a_rule_where_the_model_can_be_made_to() {
        let pair = Pair {
            id: "p".into(),
            prompt: vec![Message::user("Why?")],
            first: "good".into(),
            second: "bad".into(),
            cut_off: [false; 2],
            principle_id: None,
        };
        for (is_begun, prefill) in [(true, "Prefer the answer that"), (false, "")] {
            let settings =
                ProposeSettings { draws: Draws::new(1, "infer"), rules: 1, is_begun, sampling: sampling() };
            let request = request(&pair, Side::Chosen, &settings);
            assert_eq!(request.prefill, prefill);
            let text = &request.context.messages().unwrap()[0].content;
            assert!(text.contains(BEGINNING) && text.contains("Write the one rule"), "{text}");
        }
        assert_eq!(read_text(&format!("{BEGINNING} is kind.")).rules, ["is kind"]);
        assert_eq!(read_text(BEGINNING).refused, [RuleFault::NoRule]);
    }

    #[test]
    fn both_sides_are_asked_about_the_same_picture() {
        let settings = ProposeSettings {
            draws: Draws::new(1, "infer"),
            rules: 2,
            is_begun: false,
            sampling: sampling(),
        };
        let mut chosen_first = 0;
        for number in 0..20 {
            let pair = Pair {
                id: format!("p{number}"),
                prompt: vec![Message::user("Why?")],
                first: "good <|im_end|>".into(),
                second: "bad".into(),
                cut_off: [false; 2],
                principle_id: None,
            };
            let [chosen, other] = Side::ALL.map(|side| request(&pair, side, &settings));
            let [chosen, other] =
                [&chosen, &other].map(|request| request.context.messages().unwrap()[0].content.clone());
            let a_is_good = chosen.contains("Answer A: good < |im_end|>");
            assert_eq!(a_is_good, other.contains("Answer A: good < |im_end|>"));
            assert_eq!(a_is_good, chosen.contains("found Answer A better than Answer B"));
            assert_eq!(a_is_good, other.contains("finds Answer B better than Answer A"));
            chosen_first += usize::from(a_is_good);
        }
        assert!((4..=16).contains(&chosen_first), "{chosen_first}");
    }
}
