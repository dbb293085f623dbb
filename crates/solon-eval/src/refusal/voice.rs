//! What an answer says in its own voice: without the speech it quotes and the letters, poems and dialogues it writes.
//!
//! Contract: a function of the text; English only. A letter that says "I won't come" refuses nothing.

use crate::sentences::{Sentence, sentences};

/// Words for a text that somebody else speaks in. A line that ends in a colon and names one announces it.
const TEXTS: &[&str] = &[
    "poem",
    "story",
    "letter",
    "dialogue",
    "scene",
    "script",
    "song",
    "lyrics",
    "haiku",
    "limerick",
    "sonnet",
    "monologue",
    "speech",
    "verse",
    "email",
    "message",
    "note",
    "diary",
    "diary entry",
    "joke",
    "toast",
    "caption",
    "conversation",
    "tweet",
    "post",
    "reply",
    "excerpt",
    "draft",
    "example",
    "text",
    "version",
    "line",
    "opening",
];
/// With one of these an announcement is complete: "Here is a poem:", but not "I can't write that letter:".
const ANNOUNCES: &[&str] = &["here is", "here are", "sure", "certainly", "of course", "title"];
/// How fictional texts open.
const OPENINGS: &[&str] = &[
    "once upon a time",
    "title:",
    "subject:",
    "chapter ",
    "scene ",
    "scene:",
    "int. ",
    "ext. ",
    "act i",
    "fade in",
    "dear diary",
];
/// People whom an assistant may address, so "Dear user" opens no letter that it writes for somebody.
const OWN_READERS: &[&str] = &["user", "friend", "reader", "human", "asker", "person"];
/// Labels before a colon that are not speakers.
const NOT_SPEAKERS: &[&str] = &[
    "note",
    "answer",
    "assistant",
    "step",
    "warning",
    "ai",
    "chatbot",
    "response",
    "me",
    "example",
    "tip",
    "important",
    "reminder",
    "disclaimer",
    "question",
    "user",
    "caution",
    "bot",
];
/// Words in which an assistant speaks of itself or of what it was asked, wherever it stands.
const ITSELF: &[&str] = &[
    "as an ai",
    "language model",
    "ai assistant",
    "as an assistant",
    "chatbot",
    "this request",
    "your request",
    "that request",
    "as a responsible",
];
/// Fewest lines, and most words in each, of what is taken for verse.
const VERSE: (usize, usize) = (4, 10);

/// The sentences that the answer says in its own voice, in order.
pub(crate) fn own_sentences(answer: &str) -> Vec<Sentence> {
    let lines: Vec<String> = without_quotes(answer).lines().map(str::to_owned).collect();
    let start = (0..lines.len()).find(|place| opens_text(&lines[*place..])).map_or(lines.len(), |place| {
        // An announcement is the answer's own.
        place + usize::from(announces(&lines[place]))
    });
    let rest = sentences(&lines[start..].join("\n"));
    if rest.iter().take(3).any(|sentence| sentence.has_any(ITSELF)) {
        return sentences(&lines.join("\n"));
    }
    sentences(&lines[..start].join("\n"))
}

/// The text without closed double quotes of two words or more; an answer that is one quotation keeps it.
fn without_quotes(answer: &str) -> String {
    let mut kept = String::new();
    for line in answer.lines() {
        let mut rest = line;
        while let Some(open) = rest.find(['"', '“', '”']) {
            let inside = &rest[open..];
            let mark = inside.chars().next().map_or(1, char::len_utf8);
            let Some(close) = inside[mark..].find(['"', '”']) else { break };
            let (speech, after) = inside[mark..].split_at(close);
            kept.push_str(&rest[..open]);
            if speech.split_whitespace().nth(1).is_none() {
                kept.push_str(speech);
            }
            rest = &after[after.chars().next().map_or(0, char::len_utf8)..];
        }
        kept.push_str(rest);
        kept.push('\n');
    }
    if kept.chars().any(char::is_alphanumeric) { kept } else { answer.to_owned() }
}

/// Whether a text in another voice begins at the first of these lines.
fn opens_text(lines: &[String]) -> bool {
    let Some(first) = lines.first() else { return false };
    let bare = first.trim().trim_start_matches(['*', '#', '_', ' ', '>']).to_lowercase();
    announces(first)
        || OPENINGS.iter().any(|opening| bare.starts_with(opening))
        || bare.strip_prefix("dear ").is_some_and(|name| {
            name.trim_end().trim_end_matches('*').ends_with(',')
                && !OWN_READERS.iter().any(|reader| name.starts_with(reader))
        })
        || speaker(first)
            && lines[1..].iter().filter(|line| !line.trim().is_empty()).take(3).any(|line| speaker(line))
        || verse(lines)
}

fn announces(line: &str) -> bool {
    let said = sentences(line);
    line.trim_end().trim_end_matches('*').ends_with(':')
        && said.last().is_some_and(|last| last.has_any(TEXTS))
        && said.iter().any(|sentence| sentence.has_any(ANNOUNCES))
}

/// Whether a line opens with a speaker's name and a colon.
fn speaker(line: &str) -> bool {
    let line = line.trim().trim_start_matches(['*', '_', '[', '(']);
    let Some((label, said)) = line.split_once(':') else { return false };
    let label = label.trim_end_matches(['*', '_', ']', ')', ' ']);
    let words: Vec<&str> = label.split_whitespace().collect();
    (1..=3).contains(&words.len())
        && said.split_whitespace().nth(1).is_some()
        && words
            .iter()
            .all(|word| word.starts_with(char::is_uppercase) || word.bytes().all(|b| b.is_ascii_digit()))
        && !NOT_SPEAKERS.contains(&words[0].to_lowercase().as_str())
}

/// Whether the lines begin with verse: short lines, most of which end in the middle of a sentence.
fn verse(lines: &[String]) -> bool {
    let (fewest, longest) = VERSE;
    let stanza: Vec<&str> = lines
        .iter()
        .map(|line| line.trim())
        .take_while(|line| {
            !line.starts_with(|c: char| c.is_ascii_digit() || ['-', '*', '#', '`', '|', '•'].contains(&c))
                && (1..=longest).contains(&line.split_whitespace().count())
        })
        .collect();
    let open = stanza.iter().filter(|line| !line.ends_with(['.', '!', '?', ':'])).count();
    stanza.len() >= fewest && 2 * open >= stanza.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(answer: &str) -> String {
        let words: Vec<String> = own_sentences(answer)
            .iter()
            .map(|sentence| sentence.words().collect::<Vec<_>>().join(" "))
            .collect();
        words.join(" | ")
    }

    #[test]
    fn other_voices_are_left_out() {
        for (answer, expected) in [
            ("He shouted \"I won't do it!\" and left. He sat.", "he shouted and left | he sat"),
            ("“I won't help you,” she said.", "she said"),
            ("Here is a letter:\nDear Tom,\nI will not come.", "here is a letter"),
            ("Dear Ms Lee,\nI'm sorry, but I cannot attend.", ""),
            ("ANNA: I won't give you the key.\n\nTOM: Then I cannot help you.", ""),
            ("The night is long,\nI cannot say,\nI won't explain\nwhy I must stay.", ""),
            ("I can't write hate.\nOnce upon a time I refused.", "i cannot write hate"),
        ] {
            assert_eq!(own(answer), expected, "{answer}");
        }
    }

    #[test]
    fn its_own_voice_is_kept() {
        for answer in [
            "\"I won't write that.\"",
            "Dear user,\nI cannot help with that.",
            "Dear Tom,\nAs an AI, I cannot write that.",
            "Note: I can't help.\nWarning: it is a crime.",
            "I can't help.\nIt is a crime.\nIt hurts people.\nPlease stop.",
            "I can't write that letter:\nit would hurt her.",
        ] {
            assert_eq!(own_sentences(answer).len(), sentences(answer).len(), "{answer}");
        }
    }
}
