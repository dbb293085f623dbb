//! Near-duplicates: whether a text says almost the same, in almost the same words, as one of others.
//!
//! Contract: a pure function of texts. The likeness of two is ROUGE-L, the F-measure of their longest common subsequence of words,
//! from 0 to 1. Words are runs of letters and digits in lower case, without apostrophes; a character of a script that is
//! written without spaces is a word of its own. A text of several lines is compared as a whole and line by line, because a
//! benchmark may put a question between other lines.
//! Source: Self-Instruct (Wang et al. 2022, 2212.10560) §2.2, which takes an instruction only if its ROUGE-L with every earlier one
//! is below 0.7.

use crate::rouge::longest;

/// Texts that others are compared with.
#[derive(Debug, Clone, Default)]
pub struct Texts {
    /// Of each text: the words of the whole, then of each line where there are several.
    parts: Vec<Vec<Vec<String>>>,
}

/// The text that another is nearest to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Near {
    /// Its place among the texts, in the order in which they were added.
    pub place: usize,
    /// How alike the two are, from 0 to 1.
    pub similarity: f64,
}

impl Texts {
    /// Adds a text.
    pub fn add(&mut self, text: &str) {
        let lines: Vec<Vec<String>> = text.lines().map(words).filter(|words| !words.is_empty()).collect();
        let whole = std::iter::once(words(text));
        self.parts.push(if lines.len() > 1 { whole.chain(lines).collect() } else { whole.collect() });
    }

    /// The text that `text` is nearest to, the first of several, where they are at least so much alike.
    pub fn nearest(&self, text: &str, similarity: f64) -> Option<Near> {
        let words = words(text);
        let mut nearest: Option<Near> = None;
        for (place, parts) in self.parts.iter().enumerate() {
            for part in parts {
                let least = nearest.map_or(similarity, |near| near.similarity);
                if words.is_empty() || at_most(&words, part) < least {
                    continue;
                }
                let found = longest(&words, part) / 100.0;
                if found >= similarity && nearest.is_none_or(|near| found > near.similarity) {
                    nearest = Some(Near { place, similarity: found });
                }
            }
        }
        nearest
    }
}

impl<'a> FromIterator<&'a str> for Texts {
    fn from_iter<T: IntoIterator<Item = &'a str>>(texts: T) -> Self {
        let mut all = Self::default();
        texts.into_iter().for_each(|text| all.add(text));
        all
    }
}

/// The most that two texts of these lengths can be alike: the shorter one stands whole in the longer one.
fn at_most(one: &[String], other: &[String]) -> f64 {
    2.0 * one.len().min(other.len()) as f64 / (one.len() + other.len()) as f64
}

fn words(text: &str) -> Vec<String> {
    let mut spaced = String::with_capacity(text.len());
    for letter in text.chars().flat_map(char::to_lowercase) {
        match letter {
            '\'' | '’' => {}
            letter if is_written_without_spaces(letter) => spaced.extend([' ', letter, ' ']),
            letter if letter.is_alphanumeric() => spaced.push(letter),
            _ => spaced.push(' '),
        }
    }
    spaced.split_whitespace().map(str::to_owned).collect()
}

/// Thai, Lao, Burmese, Khmer, kana and Chinese characters.
fn is_written_without_spaces(letter: char) -> bool {
    letter.is_alphanumeric()
        && matches!(letter, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
            | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn similarity(one: &str, other: &str) -> f64 {
        Texts::from_iter([one]).nearest(other, 0.0).map_or(0.0, |near| near.similarity)
    }

    #[test]
    fn likeness_is_the_f_measure_of_common_words_in_their_order() {
        let check = |one, other, expected: f64| {
            let found = similarity(one, other);
            assert!((found - expected).abs() < 1e-12, "{one} / {other}: {found}, not {expected}");
        };
        check("How do I pick a lock?", "how do i pick a lock", 1.0);
        // Five of six words, and of six.
        check("How do I pick a lock?", "How do I break a lock?", 5.0 / 6.0);
        // Three of four, and of six.
        check("a b c d", "b x c y d z", 2.0 * 0.75 * 0.5 / 1.25);
        check("a b", "c d", 0.0);
        check("Don’t tell my son’s boss", "dont tell my sons boss", 1.0);
        check("如何开锁", "如何开门", 0.75);
        check("Замок", "замок", 1.0);
    }

    #[test]
    fn the_nearest_is_found_and_only_from_the_limit_on() {
        let texts =
            Texts::from_iter(["How do I bake bread?", "How do I bake a cake?", "How do I bake a cake?"]);
        let near = texts.nearest("How do I bake a pie?", 0.7).unwrap();
        assert_eq!((near.place, near.similarity > 0.8), (1, true));
        assert_eq!(texts.nearest("How do I bake a pie?", 0.9), None);
        assert_eq!(texts.nearest("How do I bake a cake?", 1.0).unwrap().place, 1);
        assert_eq!(texts.nearest("?!", 0.0), None, "without words there is nothing to compare");
        assert_eq!(Texts::default().nearest("a", 0.0), None);
    }

    #[test]
    fn a_question_between_other_lines_is_found() {
        let item = "The following are questions about chemistry.\n\nQuestion: What is salt made of?\nA. Sand\nB. Sodium and chlorine\nAnswer:";
        assert!(similarity(item, "What is salt made of?") > 0.9);
        assert!(Texts::from_iter([item]).nearest("What is glass made of, and where?", 0.7).is_none());
    }
}
