//! The 25 instructions of IFEval, and whether a text follows one.
//!
//! Contract: a pure function of a text. Each is what the harness's class of the same instruction does (`tasks/ifeval/
//! instructions.py`), quirks included: keywords are patterns, and words in capitals are counted by the Treebank tokenizer. These
//! differ: languages (`whatlang` for `langdetect`), sentences ([`text::sentences`] for NLTK's Punkt), and a letter that is none of
//! a to z, for which the harness draws another at random and which is counted here as it is. What is missing is refused when the
//! file is read; the harness draws it at random.

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use super::text::{capital_words, is_lower, is_upper, language_is, sentences, words};

/// "less than" or "at least" a number.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bound {
    least: bool,
    number: usize,
}

impl Bound {
    fn holds(self, found: usize) -> bool {
        if self.least { found >= self.number } else { found < self.number }
    }
}

/// An instruction with its arguments.
#[derive(Debug)]
pub(super) struct Instruction {
    name: String,
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    Keywords(Vec<Regex>),
    KeywordFrequency(Regex, Bound),
    ForbiddenWords(Vec<Regex>),
    LetterFrequency(char, Bound),
    Language(String),
    Sentences(Bound),
    Paragraphs(usize),
    Words(Bound),
    FirstWord { paragraphs: usize, nth: usize, word: String },
    Placeholders(usize),
    Postscript(Regex),
    Bullets(usize),
    OneOfThree,
    Highlights(usize),
    Sections(Regex, usize),
    Json,
    Title,
    TwoResponses,
    RepeatPrompt(String),
    End(String),
    CapitalWords(Bound),
    AllCapitals,
    AllLowercase,
    NoComma,
    Quotation,
}

/// What IFEval's prompts offer where one of three answers is to be given.
const THREE: [&str; 3] = ["My answer is yes.", "My answer is no.", "My answer is maybe."];

/// A pattern as the data gives it; as plain text where it is none that can be compiled.
fn pattern(text: &str, before: &str, after: &str) -> Result<Regex, String> {
    let built = |text: &str| {
        let whole = format!("{before}{text}{after}");
        RegexBuilder::new(&whole).case_insensitive(true).multi_line(true).build()
    };
    built(text).or_else(|_| built(&regex::escape(text))).map_err(|error| error.to_string())
}

fn fixed(text: &str) -> Option<Regex> {
    Regex::new(text).ok()
}

fn count(text: &str, pattern: &str) -> usize {
    fixed(pattern).map_or(0, |pattern| pattern.find_iter(text).count())
}

impl Instruction {
    /// As the file names it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Reads an instruction of the file. Errors name the instruction and the argument.
    pub(super) fn read(name: &str, arguments: &Map<String, Value>, prompt: &str) -> Result<Self, String> {
        let missing = |key: &str| format!("{name} needs `{key}`");
        let text = |key: &str| {
            let found = arguments.get(key).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
            found.map(|text| text.trim().to_owned()).ok_or_else(|| missing(key))
        };
        let number = |key: &str| {
            let found = arguments.get(key).and_then(Value::as_f64).filter(|number| *number >= 0.0);
            found.map(|number| number as usize).ok_or_else(|| missing(key))
        };
        let bound = |key: &str, relation: &str| {
            let least = match text(relation)?.as_str() {
                "at least" => true,
                "less than" => false,
                other => {
                    return Err(format!(
                        "{name}: `{relation}` is {other:?}; give \"less than\" or \"at least\""
                    ));
                }
            };
            Ok(Bound { least, number: number(key)? })
        };
        let texts = |key: &str| -> Result<Vec<String>, String> {
            let list = arguments.get(key).and_then(Value::as_array).filter(|list| !list.is_empty());
            let list = list.ok_or_else(|| missing(key))?.iter();
            list.map(|text| text.as_str().map(str::to_owned).ok_or_else(|| missing(key))).collect()
        };
        let rule = match name {
            "keywords:existence" => {
                let keywords = texts("keywords")?;
                Rule::Keywords(keywords.iter().map(|word| pattern(word, "", "")).collect::<Result<_, _>>()?)
            }
            "keywords:frequency" => {
                Rule::KeywordFrequency(pattern(&text("keyword")?, "", "")?, bound("frequency", "relation")?)
            }
            "keywords:forbidden_words" => {
                let words = texts("forbidden_words")?;
                Rule::ForbiddenWords(
                    words.iter().map(|w| pattern(w, r"\b", r"\b")).collect::<Result<_, _>>()?,
                )
            }
            "keywords:letter_frequency" => {
                let letter =
                    text("letter")?.to_lowercase().chars().next().ok_or_else(|| missing("letter"))?;
                Rule::LetterFrequency(letter, bound("let_frequency", "let_relation")?)
            }
            "language:response_language" => Rule::Language(text("language")?),
            "length_constraints:number_sentences" => Rule::Sentences(bound("num_sentences", "relation")?),
            "length_constraints:number_paragraphs" => Rule::Paragraphs(number("num_paragraphs")?),
            "length_constraints:number_words" => Rule::Words(bound("num_words", "relation")?),
            "length_constraints:nth_paragraph_first_word" => Rule::FirstWord {
                paragraphs: number("num_paragraphs")?,
                nth: number("nth_paragraph")?,
                word: text("first_word")?.to_lowercase(),
            },
            "detectable_content:number_placeholders" => Rule::Placeholders(number("num_placeholders")?),
            "detectable_content:postscript" => Rule::Postscript(match text("postscript_marker")?.as_str() {
                "P.P.S" => pattern(r"\s*p\.\s?p\.\s?s.*$", "", "")?,
                "P.S." => pattern(r"\s*p\.\s?s\..*$", "", "")?,
                marker => pattern(&marker.to_lowercase(), r"\s*", ".*$")?,
            }),
            "detectable_format:number_bullet_lists" => Rule::Bullets(number("num_bullets")?),
            "detectable_format:constrained_response" => Rule::OneOfThree,
            "detectable_format:number_highlighted_sections" => Rule::Highlights(number("num_highlights")?),
            "detectable_format:multiple_sections" => {
                let splitter = text("section_spliter")?;
                let whole = format!(r"\s?{splitter}\s?\d+\s?");
                let plain = format!(r"\s?{}\s?\d+\s?", regex::escape(&splitter));
                let sections = Regex::new(&whole).or_else(|_| Regex::new(&plain));
                Rule::Sections(sections.map_err(|error| error.to_string())?, number("num_sections")?)
            }
            "detectable_format:json_format" => Rule::Json,
            "detectable_format:title" => Rule::Title,
            "combination:two_responses" => Rule::TwoResponses,
            "combination:repeat_prompt" => {
                let repeated = text("prompt_to_repeat").unwrap_or_else(|_| prompt.to_owned());
                Rule::RepeatPrompt(repeated.trim().to_lowercase())
            }
            "startend:end_checker" => Rule::End(text("end_phrase")?.to_lowercase()),
            "change_case:capital_word_frequency" => {
                Rule::CapitalWords(bound("capital_frequency", "capital_relation")?)
            }
            "change_case:english_capital" => Rule::AllCapitals,
            "change_case:english_lowercase" => Rule::AllLowercase,
            "punctuation:no_comma" => Rule::NoComma,
            "startend:quotation" => Rule::Quotation,
            other => return Err(format!("there is no instruction `{other}`")),
        };
        Ok(Self { name: name.to_owned(), rule })
    }

    /// Whether a text that is not empty follows it.
    pub(super) fn follows(&self, text: &str) -> bool {
        match &self.rule {
            Rule::Keywords(patterns) => patterns.iter().all(|pattern| pattern.is_match(text)),
            Rule::KeywordFrequency(pattern, bound) => bound.holds(pattern.find_iter(text).count()),
            Rule::ForbiddenWords(patterns) => !patterns.iter().any(|pattern| pattern.is_match(text)),
            Rule::LetterFrequency(letter, bound) => {
                bound.holds(text.to_lowercase().chars().filter(|c| c == letter).count())
            }
            Rule::Language(code) => language_is(text, code),
            Rule::Sentences(bound) => bound.holds(sentences(text)),
            Rule::Paragraphs(number) => paragraphs(text) == Some(*number),
            Rule::Words(bound) => bound.holds(words(text)),
            Rule::FirstWord { paragraphs, nth, word } => {
                first_word(text, *nth) == Some((*paragraphs, word.clone()))
            }
            Rule::Placeholders(least) => count(text, r"\[.*?\]") >= *least,
            Rule::Postscript(pattern) => pattern.is_match(&text.to_lowercase()),
            Rule::Bullets(number) => {
                count(text, r"(?m)^\s*\*[^\*].*$") + count(text, r"(?m)^\s*-.*$") == *number
            }
            Rule::OneOfThree => THREE.iter().any(|answer| text.contains(answer)),
            Rule::Highlights(least) => highlights(text) >= *least,
            Rule::Sections(pattern, least) => pattern.find_iter(text).count() >= *least,
            Rule::Json => is_json(text),
            Rule::Title => fixed(r"<<[^\n]+>>").is_some_and(|pattern| {
                pattern.find_iter(text).any(|title| {
                    !title.as_str().trim_start_matches('<').trim_end_matches('>').trim().is_empty()
                })
            }),
            Rule::TwoResponses => two_responses(text),
            Rule::RepeatPrompt(prompt) => text.trim().to_lowercase().starts_with(prompt),
            Rule::End(phrase) => text.trim().trim_matches('"').to_lowercase().ends_with(phrase),
            Rule::CapitalWords(bound) => bound.holds(capital_words(text)),
            Rule::AllCapitals => is_upper(text) && language_is(text, "en"),
            Rule::AllLowercase => is_lower(text) && language_is(text, "en"),
            Rule::NoComma => !text.contains(','),
            Rule::Quotation => {
                let text = text.trim();
                text.chars().count() > 1 && text.starts_with('"') && text.ends_with('"')
            }
        }
    }
}

/// How many paragraphs three asterisks separate; `None` where one between others is empty.
fn paragraphs(text: &str) -> Option<usize> {
    let parts: Vec<&str> = fixed(r"\s?\*\*\*\s?")?.split(text).collect();
    let mut number = parts.len();
    for (place, part) in parts.iter().enumerate() {
        if part.trim().is_empty() {
            if place > 0 && place + 1 < parts.len() {
                return None;
            }
            number -= 1;
        }
    }
    Some(number)
}

/// How many paragraphs empty lines separate, and the first word of the nth, from 1.
fn first_word(text: &str, nth: usize) -> Option<(usize, String)> {
    let parts: Vec<&str> = text.split("\n\n").collect();
    let number = parts.iter().filter(|part| !part.trim().is_empty()).count();
    if nth > number {
        return None;
    }
    let word = parts.get(nth.checked_sub(1)?)?.split_whitespace().next()?;
    let word = word.trim_start_matches('\'').trim_start_matches('"');
    let end = word.find(['.', ',', '?', '!', '\'', '"']).unwrap_or(word.len());
    Some((number, word[..end].to_lowercase()))
}

/// Texts between asterisks. One between double asterisks counts in both forms, as in the harness.
fn highlights(text: &str) -> usize {
    let of = |wanted: &str, inner: fn(&str) -> &str| {
        fixed(wanted).map_or(0, |pattern| {
            pattern.find_iter(text).filter(|found| !inner(found.as_str()).trim().is_empty()).count()
        })
    };
    let double = |found: &str| -> usize { usize::from(!found.trim().is_empty()) };
    let doubles = fixed(r"\*\*[^\n\*]*\*\*").map_or(0, |pattern| {
        let found = pattern.find_iter(text).map(|found| found.as_str());
        found
            .map(|found| double(found.strip_prefix("**").and_then(|f| f.strip_suffix("**")).unwrap_or("")))
            .sum()
    });
    of(r"\*[^\n\*]*\*", |found| found.trim_matches('*')) + doubles
}

fn is_json(text: &str) -> bool {
    let mut text = text.trim();
    for fence in ["```json", "```Json", "```JSON", "```"] {
        text = text.strip_prefix(fence).unwrap_or(text);
    }
    let text = text.strip_suffix("```").unwrap_or(text).trim();
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// Whether six asterisks separate two texts that differ.
fn two_responses(text: &str) -> bool {
    let parts: Vec<&str> = text.split("******").collect();
    let inner_empty = parts.iter().skip(1).rev().skip(1).any(|part| part.trim().is_empty());
    let found: Vec<&str> = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty()).collect();
    !inner_empty && found.len() == 2 && found[0] != found[1]
}
