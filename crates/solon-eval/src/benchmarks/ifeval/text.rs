//! Words, sentences, case and language of a text, as IFEval counts them.
//!
//! Contract: pure functions. Words are runs of letters, digits and underscores. Words in capitals are counted among the tokens
//! of NLTK's Treebank rules, of which only those that can part a word are here. A sentence ends at `.`, `?` or `!` before white
//! space, except after an abbreviation or an initial: nearly what NLTK's Punkt does, which was trained.

use std::sync::LazyLock;

use regex::Regex;
use whatlang::{Lang, Script};

/// How many words.
pub(super) fn words(text: &str) -> usize {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    text.split(|c| !inside(c)).filter(|word| !word.is_empty()).count()
}

/// Whether it has a letter with a case, and none in lower case.
pub(super) fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
}

/// Whether it has a letter with a case, and none in upper case.
pub(super) fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)
}

/// How many tokens are in capitals. "DON'T" is two, DO and N'T; "STATE-OF-THE-ART" is one.
pub(super) fn capital_words(text: &str) -> usize {
    static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        let rules = [
            (r#"[«»“”‘’„"]|``|''"#, " $0 "),
            (r"([:,])(\D|$)", " $1 $2"),
            (r"\.\.\.|[;@#$%&?!\[\](){}<>]|--", " $0 "),
            (r"([^' ])('[sS]|'[mM]|'[dD]|')(\s|$)", "$1 $2$3"),
            (r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T)(\s|$)", "$1 $2$3"),
            (r"(?i)\b(can)(not)\b|\b(gim|lem)(me)\b|\b(gon|wan)(na)\b|\b(got)(ta)\b", "$1$3$5$7 $2$4$6$8"),
        ];
        rules.into_iter().filter_map(|(pattern, with)| Some((Regex::new(pattern).ok()?, with))).collect()
    });
    let mut text = text.to_owned();
    for (pattern, with) in RULES.iter() {
        text = pattern.replace_all(&text, *with).into_owned();
    }
    text.split_whitespace().filter(|token| is_upper(token)).count()
}

/// After these a period ends no sentence.
const ABBREVIATIONS: [&str; 27] = [
    "mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "vs", "inc", "ltd", "co", "corp", "gen", "gov", "sen",
    "rep", "capt", "lt", "col", "e.g", "i.e", "u.s", "u.k", "a.m", "p.m", "ph.d",
];

/// How many sentences.
pub(super) fn sentences(text: &str) -> usize {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut number = 0;
    let mut open = false;
    for (place, word) in words.iter().enumerate() {
        open = true;
        let bare = word.trim_end_matches(['"', '\'', ')', ']', '}', '”', '’', '»', '*', '_']);
        let next = words.get(place + 1).and_then(|next| next.chars().find(|c| c.is_alphanumeric()));
        let ends = match bare.chars().last() {
            Some('?' | '!') => true,
            Some('.') if bare.ends_with("..") => next.is_some_and(char::is_uppercase),
            Some('.') => !is_abbreviation(bare.trim_end_matches('.')),
            _ => false,
        };
        if ends {
            number += 1;
            open = false;
        }
    }
    number + usize::from(open)
}

fn is_abbreviation(word: &str) -> bool {
    let word = word.trim_start_matches(|c: char| !c.is_alphanumeric());
    let mut letters = word.chars();
    let initial = letters.next().is_some_and(char::is_uppercase) && letters.next().is_none() && word != "I";
    initial || ABBREVIATIONS.contains(&word.to_lowercase().as_str())
}

/// The languages that IFEval asks for, by the code in its data. Whatlang does not know Swahili.
const LANGUAGES: [(&str, Lang); 29] = [
    ("en", Lang::Eng),
    ("es", Lang::Spa),
    ("pt", Lang::Por),
    ("ar", Lang::Ara),
    ("hi", Lang::Hin),
    ("fr", Lang::Fra),
    ("ru", Lang::Rus),
    ("de", Lang::Deu),
    ("ja", Lang::Jpn),
    ("it", Lang::Ita),
    ("bn", Lang::Ben),
    ("uk", Lang::Ukr),
    ("th", Lang::Tha),
    ("ur", Lang::Urd),
    ("ta", Lang::Tam),
    ("te", Lang::Tel),
    ("bg", Lang::Bul),
    ("ko", Lang::Kor),
    ("pl", Lang::Pol),
    ("he", Lang::Heb),
    ("fa", Lang::Pes),
    ("vi", Lang::Vie),
    ("ne", Lang::Nep),
    ("kn", Lang::Kan),
    ("mr", Lang::Mar),
    ("gu", Lang::Guj),
    ("pa", Lang::Pan),
    ("ml", Lang::Mal),
    ("fi", Lang::Fin),
];

/// Whether a text is in a language. A text in which none can be told follows, as in the harness. In too few Latin letters to tell,
/// it counts as English, or as Swahili.
pub(super) fn language_is(text: &str, code: &str) -> bool {
    // Capitals have no statistics of their own.
    let Some(found) = whatlang::detect(&text.to_lowercase()) else { return true };
    let wanted = LANGUAGES.iter().find(|(known, _)| *known == code).map(|(_, lang)| *lang);
    if wanted == Some(found.lang()) {
        return true;
    }
    let unsure = found.script() == Script::Latin && !found.is_reliable();
    unsure && (code == "en" || wanted.is_none())
}
