//! Degenerate answers: empty text, or text that repeats itself.
//!
//! Contract: a pure function of the text. The evaluation uses it for the empty and repetition rates, and the stages use
//! it to drop such answers before training. Whether an answer was cut off at the token limit cannot be seen in its
//! text; the sampler reports it beside the answer.
//! Source: the duplicate n-gram share follows MassiveText's repetition filters (Rae et al., "Scaling language models",
//! 2021, table A1). The loop checks are our own, made for what small models do. Words are separated by whitespace, so
//! in scripts without spaces only short loops are found.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

/// What is wrong with an answer's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// No letter and no digit: empty, whitespace or punctuation only.
    Empty,
    /// One piece of text repeated too often without a break: a word 10 times, two or three words 6 times, four words or
    /// more 3 times (so a sentence or line three times in a row), or a run of letters within a word 12 times and 48
    /// characters long (of four letters or more: 6 times). Or with other text between: the same five words four times,
    /// where they are two fifths of the text, or the same line four times, where it is half of the lines. Or four list
    /// numbers in a row that number nothing ("1. 1. 1. 1.").
    Loop,
    /// More than half of the 4-grams of words repeat an earlier one, among at least 40.
    DuplicateNgrams,
}

impl Fault {
    /// The name in files: `empty`, `loop` or `duplicate-ngrams`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Loop => "loop",
            Self::DuplicateNgrams => "duplicate-ngrams",
        }
    }

    /// Whether the text repeats itself.
    pub fn is_repetition(self) -> bool {
        matches!(self, Self::Loop | Self::DuplicateNgrams)
    }
}

/// The longest repeated piece that is searched for, in words.
const LONGEST_PERIOD: usize = 80;
/// With fewer 4-grams than this, their duplicate share is not used: a short list may well repeat itself.
const FEWEST_NGRAMS: usize = 40;
/// A text with a larger share of duplicate 4-grams is repetitive. A song whose chorus comes three times has about a
/// third; a text that says everything twice has a half.
const DUPLICATE_SHARE: f64 = 0.5;
/// Letter loops inside one word: longest piece, minimum repetitions, minimum characters.
const LETTER_LOOP: (usize, usize, usize) = (16, 12, 48);
/// The repetitions that are enough for a piece of four letters or more ("minimal_minimal_…").
const SYLLABLE_TIMES: usize = 6;
/// List numbers in a row, without text, that are a loop.
const EMPTY_ITEMS: usize = 4;
/// A piece that comes again and again with other text between: its words, how often it comes, and its share of the text.
const AGAIN: (usize, usize, f64) = (5, 4, 0.4);
/// Fewest words of a line that counts as repeated.
const LINE_WORDS: usize = 3;

/// The fault of an answer's text, if it has one.
pub fn fault(text: &str) -> Option<Fault> {
    if !text.chars().any(char::is_alphanumeric) {
        return Some(Fault::Empty);
    }
    let words = words(text);
    if word_loop(&words)
        || text.split_whitespace().any(letter_loop)
        || empty_list(text)
        || again_and_again(text, &words)
    {
        return Some(Fault::Loop);
    }
    (duplicate_share(&words) > DUPLICATE_SHARE).then_some(Fault::DuplicateNgrams)
}

/// Lower-case words without punctuation. Numbers that open a list item are left out, because in a looping list only
/// they change.
fn words(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        for (place, token) in line.split_whitespace().enumerate() {
            let word = token.trim_matches(|letter: char| !letter.is_alphanumeric());
            let marker = place == 0 && is_marker(token);
            if !word.is_empty() && !marker {
                found.push(word.to_lowercase());
            }
        }
    }
    found
}

/// Whether a token may number a list item: "1." or "12)".
fn is_marker(token: &str) -> bool {
    token
        .strip_suffix(['.', ')'])
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether list numbers follow each other without text: at the start of a line, or alone on one line after another.
fn empty_list(text: &str) -> bool {
    let mut alone = 0;
    text.lines().filter(|line| !line.trim().is_empty()).any(|line| {
        let markers = line.split_whitespace().take_while(|token| is_marker(token)).count();
        let bare = markers == line.split_whitespace().count();
        alone = if bare { alone + markers } else { 0 };
        alone.max(markers) >= EMPTY_ITEMS
    })
}

/// Whether one piece of text comes again and again, with other text between.
fn again_and_again(text: &str, words: &[String]) -> bool {
    let (length, times, share) = AGAIN;
    let mut places: HashMap<&[String], (usize, usize)> = HashMap::new();
    let mut most = 0;
    for (place, piece) in words.windows(length).enumerate() {
        // Numbers may repeat in good tables and matrices.
        if piece.iter().filter(|word| word.chars().any(char::is_alphabetic)).count() < LINE_WORDS {
            continue;
        }
        let (count, next) = places.entry(piece).or_default();
        // Overlapping occurrences count once.
        if *count == 0 || place >= *next {
            (*count, *next) = (*count + 1, place + length);
            most = most.max(*count);
        }
    }
    if most >= times && (most * length) as f64 >= share * words.len() as f64 {
        return true;
    }
    let mut lines: HashMap<String, usize> = HashMap::new();
    let mut total = 0;
    for line in text.lines().filter(|line| line.chars().any(char::is_alphanumeric)) {
        total += 1;
        let line = self::words(line);
        if line.iter().filter(|word| word.chars().any(char::is_alphabetic)).count() >= LINE_WORDS {
            *lines.entry(line.join(" ")).or_default() += 1;
        }
    }
    lines.values().any(|count| *count >= times && 2 * count >= total)
}

fn word_loop(words: &[String]) -> bool {
    (1..=LONGEST_PERIOD.min(words.len() / 2)).any(|period| {
        let times = match period {
            1 => 10,
            2 | 3 => 6,
            _ => 3,
        };
        has_run(words.len(), period, period * (times - 1), |place| {
            words[place] == words[place + period]
                // Numbers may repeat in good tables and matrices.
                && words[place + 1..=place + period].iter().any(|word| word.chars().any(char::is_alphabetic))
        })
    })
}

fn letter_loop(token: &str) -> bool {
    let (longest, times, fewest) = LETTER_LOOP;
    let letters: Vec<char> = token.chars().collect();
    if letters.len() < fewest {
        return false;
    }
    (1..=longest.min(letters.len() / SYLLABLE_TIMES)).any(|period| {
        let times = if period >= 4 { SYLLABLE_TIMES } else { times };
        has_run(letters.len(), period, (period * (times - 1)).max(fewest - period), |place| {
            letters[place] == letters[place + period]
                && letters[place + 1..=place + period].iter().any(|letter| letter.is_alphabetic())
        })
    })
}

/// Whether `equal(place)` is true `needed` times in a row. `equal` says that the piece at `place` equals the one
/// `period` later.
fn has_run(length: usize, period: usize, needed: usize, equal: impl Fn(usize) -> bool) -> bool {
    let mut run = 0;
    (0..length.saturating_sub(period)).any(|place| {
        run = if equal(place) { run + 1 } else { 0 };
        run >= needed
    })
}

/// The share of 4-grams of words that repeat an earlier one; 0 below [`FEWEST_NGRAMS`].
fn duplicate_share(words: &[String]) -> f64 {
    let total = words.windows(4).len();
    if total < FEWEST_NGRAMS {
        return 0.0;
    }
    let distinct: HashSet<&[String]> = words.windows(4).collect();
    (total - distinct.len()) as f64 / total as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected: Option<Fault>, texts: &[&str]) {
        for text in texts {
            assert_eq!(fault(text), expected, "{text}");
        }
    }

    #[test]
    fn names_are_those_in_files() {
        for fault in [Fault::Empty, Fault::Loop, Fault::DuplicateNgrams] {
            assert_eq!(serde_json::to_value(fault).unwrap(), fault.name());
        }
    }

    #[test]
    fn nothing_said() {
        check(Some(Fault::Empty), &["", " \n\t", "...", "- - -", "```\n```", "😀"]);
    }

    #[test]
    fn good_text_passes() {
        check(
            None,
            &[
                "4",
                "Ha ha ha! That is very, very, very funny.",
                "Photosynthesis turns light into sugar. Plants take in water and carbon dioxide, and give off oxygen.",
                "1. Wash the rice.\n2. Add water.\n3. Bring to the boil.\n4. Turn down and wait.\n5. Serve.",
                "1. 2 x 1 = 2\n2. 2 x 2 = 4\n3. 2 x 3 = 6\n4. 2 x 4 = 8\n5. 2 x 5 = 10",
                "| a | b |\n|---|---|\n| 0 | 0 |\n| 0 | 0 |\n| 0 | 0 |\n| 0 | 0 |\n",
                "[[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]",
                "Title\n================================================================",
                "The sum is 0.33333333333333333333333333333333333333333333333333333333333333.",
            ],
        );
    }

    #[test]
    fn a_poem_with_a_refrain_passes() {
        let refrain = "Row on, row on, across the bay,\nThe tide will carry us home today.\n";
        let poem = format!(
            "The lamps are lit along the quay,\nThe gulls have all gone out to sea;\n{refrain}\n\
             My father's nets are patched and dry,\nThe moon hangs low, the wind is high;\n{refrain}\n\
             And when the morning bells begin\nWe'll haul the silver harvest in;\n{refrain}"
        );
        check(None, &[&poem]);
    }

    #[test]
    fn code_passes() {
        check(
            None,
            &[
                "```rust\nfn main() {\n    for i in 0..10 {\n        if i % 2 == 0 {\n            println!(\"{i}\");\n        \
                 }\n    }\n}\n```\nThis prints the even numbers.",
                "```python\nassert add(1, 2) == 3\nassert add(2, 2) == 4\nassert add(3, 2) == 5\nassert add(4, 2) == 6\n\
                 assert add(5, 2) == 7\nassert add(6, 2) == 8\n```",
                "<ul>\n  <li>One</li>\n  <li>Two</li>\n  <li>Three</li>\n</ul>\n</div>\n</div>\n</div>\n</div>",
                "int a[4][4] = {\n  {1, 0, 0, 0},\n  {0, 1, 0, 0},\n  {0, 0, 1, 0},\n  {0, 0, 0, 1},\n};",
            ],
        );
    }

    #[test]
    fn loops_are_found() {
        let words = "good ".repeat(10);
        let pairs = "and so ".repeat(6);
        let letters = "a".repeat(48);
        let syllables = "lol".repeat(20);
        let lines = "1. Use a clean pan.\n2. Use a clean pan.\n3. Use a clean pan.\n";
        let sentences = "Be safe. I hope this helps you. I hope this helps you! I hope this helps you";
        check(Some(Fault::Loop), &[&words, &pairs, &letters, &syllables, lines, sentences]);
        let just_under = ["good ".repeat(9), "and so ".repeat(5), "a".repeat(47)];
        check(None, &just_under.each_ref().map(String::as_str));
    }

    #[test]
    fn empty_lists_are_loops() {
        let after_text = format!("Here is a list of tasks:\n\n{}", "1. ".repeat(11));
        check(Some(Fault::Loop), &["1. 1. 1. 1. 1. 1", &after_text, "1.\n2.\n\n3.\n4.\n", "1) 1) 1) 1)"]);
        check(
            None,
            &[
                "1. 1. 1.",
                "1.\nWash it.\n2.\nDry it.\n3.\nIron it.\n4.\nFold it.",
                "[[1. 1. 1. 1. 1.]\n [1. 1. 1. 1. 1.]]",
            ],
        );
    }

    #[test]
    fn what_comes_again_with_other_text_between_is_a_loop() {
        let names = ["red", "green", "blue", "black"];
        let said = |n: usize| -> String {
            names[..n].iter().map(|name| format!("I do not know if {name} suits. ")).collect()
        };
        let lines = |n: usize| -> String {
            names[..n].iter().map(|name| format!("Keep it up.\nThe {name} one.\n")).collect()
        };
        let joined = format!("get_{}", "minimal_".repeat(9));
        check(Some(Fault::Loop), &[&said(4), &lines(4), &joined]);
        check(None, &[&said(3), &lines(3), "get_minimal_minimal_minimal_value"]);
        // Four times in a long text is no loop.
        let long = format!(
            "{}{}",
            said(4),
            "Each of them was tried by somebody else in another light, and here is what they wrote \
            afterwards in their own words: the first was happy, the second less so, and the third sent it back by post."
        );
        check(None, &[&long]);
    }

    #[test]
    fn loops_that_change_a_word_are_found() {
        let steps: String = (1..20)
            .map(|day| format!("On day {day} you should take a long walk in the park and rest. "))
            .collect();
        check(Some(Fault::DuplicateNgrams), &[&steps]);
    }
}
