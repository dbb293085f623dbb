//! HH-RLHF's text format: turns marked `\n\nHuman:` and `\n\nAssistant:`.
//!
//! Turns are trimmed, because the space after the mark is not part of them. Consecutive turns of one speaker (the
//! published files have some) are joined by a blank line.
//!
//! Source: <https://github.com/anthropics/hh-rlhf>. TRL's examples split each side at its own last `\n\nAssistant:`
//! instead. If one side has an additional mark, that gives two different prompts.

use solon_records::Message;

const HUMAN: &str = "\n\nHuman:";
const ASSISTANT: &str = "\n\nAssistant:";

/// Whether `text` is a transcript and not plain text.
pub(super) fn is_transcript(text: &str) -> bool {
    (text.starts_with(HUMAN) || text.starts_with("Human:")) && text.contains(ASSISTANT)
}

/// The turns of a prompt that ends with the assistant's mark; `None` for any other text.
pub(super) fn prompt_turns(text: &str) -> Option<Result<Vec<Message>, String>> {
    let body = text.trim_end().strip_suffix(ASSISTANT)?;
    is_transcript(text).then(|| turns(body))
}

/// The shared prompt and the two last answers of two transcripts.
pub(super) fn split_pair(chosen: &str, rejected: &str) -> Result<(Vec<Message>, String, String), String> {
    let shared: usize =
        chosen.chars().zip(rejected.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
    let prefix = &chosen[..shared];
    // Splits at the first mark after the last shared question, not at the last mark, because the answer may itself
    // contain a mark.
    let split = prefix.rfind(HUMAN).or(prefix.starts_with("Human:").then_some(0)).and_then(|question| {
        let answer = prefix[question..].find(ASSISTANT).map(|offset| question + offset);
        answer.or_else(|| prefix.rfind(ASSISTANT))
    });
    let Some(split) = split else {
        return Err(
            "`chosen` and `rejected` share no prompt that ends before an `Assistant:` turn; add a `prompt` field".into(),
        );
    };
    let answer = |side: &str, text: &str| match turns(&text[split..])?.as_slice() {
        [only] => Ok(only.content.clone()),
        _ => Err(format!(
            "field `{side}`: has more turns after the point where `chosen` and `rejected` start to differ; \
             a pair must differ in the assistant's last turn only"
        )),
    };
    Ok((turns(&chosen[..split])?, answer("chosen", chosen)?, answer("rejected", rejected)?))
}

fn turns(text: &str) -> Result<Vec<Message>, String> {
    let mut messages: Vec<Message> = Vec::new();
    let mut rest = text.trim_start();
    // `rest` starts after the blank line of its mark, so marks are compared without it here.
    while !rest.is_empty() {
        let (role, body) =
            match (rest.strip_prefix(HUMAN.trim_start()), rest.strip_prefix(ASSISTANT.trim_start())) {
                (Some(body), _) => ("user", body),
                (_, Some(body)) => ("assistant", body),
                _ => return Err("the text does not start with `Human:` or `Assistant:`".into()),
            };
        // One way through the text for both marks: one of them may be far away, or nowhere.
        let begins_turn = |at: &usize| [HUMAN, ASSISTANT].iter().any(|mark| body[*at..].starts_with(mark));
        let end = body.match_indices('\n').map(|(at, _)| at).find(begins_turn).unwrap_or(body.len());
        let content = body[..end].trim();
        match messages.last_mut() {
            Some(last) if last.role == role => {
                if !last.content.is_empty() && !content.is_empty() {
                    last.content += "\n\n";
                }
                last.content += content;
            }
            _ => messages.push(Message::new(role, content)),
        }
        rest = body[end..].strip_prefix("\n\n").unwrap_or("");
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_splits_at_the_last_shared_answer() {
        let prompt = "\n\nHuman: Hé?\n\nAssistant: Oui.\n\nHuman: Why?";
        let (turns, chosen, rejected) =
            split_pair(&format!("{prompt}\n\nAssistant: éa\n\nb"), &format!("{prompt}\n\nAssistant: êa"))
                .unwrap();
        assert_eq!(turns, [Message::user("Hé?"), Message::assistant("Oui."), Message::user("Why?")]);
        assert_eq!((chosen.as_str(), rejected.as_str()), ("éa\n\nb", "êa"));
    }

    #[test]
    fn doubled_marks_and_empty_answers_are_read() {
        let check = |a: &str, b: &str, expected: (&str, &str)| {
            let prompt = "\n\nHuman: q";
            let (turns, chosen, rejected) =
                split_pair(&format!("{prompt}{a}"), &format!("{prompt}{b}")).unwrap();
            assert_eq!((chosen.as_str(), rejected.as_str()), expected);
            assert_eq!(turns, [Message::user("q")]);
        };
        check("\n\nAssistant: x\n\nAssistant:  y", "\n\nAssistant: z", ("x\n\ny", "z"));
        check("\n\nAssistant: x\n\nAssistant: y", "\n\nAssistant: x\n\nAssistant: z", ("x\n\ny", "x\n\nz"));
        check("\n\nAssistant: ", "\n\nAssistant: z", ("", "z"));
        check("\n\nAssistant: x\n\n\nAssistant: y", "\n\nAssistant: z", ("x\n\ny", "z"));
        check("\n\nAssistant: x", "\n\nAssistant: x", ("x", "x"));
    }

    /// Quadratic, it would take an hour.
    #[test]
    fn thousands_of_questions_without_an_answer_are_read_once() {
        let questions = "\n\nHuman: Q".repeat(500_000);
        let (turns, ..) =
            split_pair(&format!("{questions}\n\nAssistant: x"), &format!("{questions}\n\nAssistant: y"))
                .unwrap();
        assert_eq!(turns.len(), 1);
    }

    #[test]
    fn transcripts_that_are_no_pair_are_refused() {
        let check = |a: &str, b: &str, expected: &str| {
            let error = split_pair(a, b).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check("\n\nHuman: a\n\nAssistant: x", "\n\nHuman: b\n\nAssistant: x", "share no prompt");
        check("", "", "share no prompt");
        check(
            "\n\nHuman: a\n\nAssistant: x\n\nHuman: b\n\nAssistant: y",
            "\n\nHuman: a\n\nAssistant: x\n\nHuman: c\n\nAssistant: y",
            "has more turns",
        );
        check(
            "\n\nHuman: a\n\nAssistant: x",
            "\n\nHuman: a\n\nAssistant: x\n\nHuman: b",
            "field `rejected`: has more turns",
        );
    }

    #[test]
    fn plain_text_is_not_taken_for_a_transcript() {
        assert!(prompt_turns("Write a dialogue:\n\nHuman: hi\n\nAssistant:").is_none());
        assert!(prompt_turns("\n\nHuman: hi").is_none());
        assert!(prompt_turns("Assistant:").is_none());
        assert_eq!(prompt_turns("Human: hi\n\nAssistant:\n").unwrap().unwrap(), [Message::user("hi")]);
    }
}
