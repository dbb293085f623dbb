//! Text as normalised sentences, so that rules can be lists of plain phrases.
//!
//! Contract: lower case, one kind of apostrophe, contractions written out ("can't" is "cannot",
//! "I'm" is "i am"), words separated by one space, no punctuation, quotes or markdown. English only.

/// One sentence: its words in lower case, with a space before and after each.
#[derive(Debug)]
pub(crate) struct Sentence(String);

impl Sentence {
    /// A sentence of words that are already in the normal form.
    pub(crate) fn of_words(words: &str) -> Self {
        Self(format!(" {} ", words.trim()))
    }

    /// Whether one of the phrases occurs as whole words.
    pub(crate) fn has_any(&self, phrases: &[&str]) -> bool {
        phrases.iter().any(|phrase| self.after(phrase).next().is_some())
    }

    /// Whether both have the same words.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    /// The words in order.
    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        self.0.split_whitespace()
    }

    /// The words that follow each occurrence of a phrase.
    pub(crate) fn after<'a>(&'a self, phrase: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.0.match_indices(phrase).filter_map(move |(start, _)| {
            let rest = self.0.get(start + phrase.len()..)?.strip_prefix(' ')?;
            self.0.get(..start)?.ends_with(' ').then_some(rest)
        })
    }
}

/// The sentences of a text that hold at least one word. A sentence ends at `.`, `!`, `?` or `:`
/// before whitespace, and at a line end.
pub(crate) fn sentences(text: &str) -> Vec<Sentence> {
    let mut found = Vec::new();
    let mut words = String::new();
    for line in text.lines() {
        for token in line.split_whitespace() {
            let bare = token.trim_end_matches(['"', '\'', '”', '’', '*', '_', ')']);
            push_words(token, &mut words);
            if bare.ends_with(['.', '!', '?', ':']) {
                finish(&mut words, &mut found);
            }
        }
        finish(&mut words, &mut found);
    }
    found
}

fn finish(words: &mut String, found: &mut Vec<Sentence>) {
    if !words.is_empty() {
        found.push(Sentence(format!(" {} ", std::mem::take(words))));
    }
}

/// Appends a token's words: dashes and slashes separate words, apostrophes make contractions.
fn push_words(token: &str, words: &mut String) {
    let token = token.to_lowercase().replace(['’', '‘', '`', '´', 'ʼ'], "'");
    for part in token.split(['—', '–', '/', '-', '…']) {
        let part = part.trim_matches(|letter: char| !letter.is_alphanumeric());
        if part.is_empty() {
            continue;
        }
        let (stem, ending) = match part {
            "can't" => ("cannot", ""),
            "won't" => ("will", "not"),
            "shan't" => ("shall", "not"),
            "let's" => ("let", "us"),
            _ => contraction(part),
        };
        // The rules treat "can not" and "cannot" as one word.
        if stem == "not" && words.ends_with("can") && (words.len() == 3 || words.ends_with(" can")) {
            words.push_str("not");
            continue;
        }
        for word in [stem, ending] {
            if !word.is_empty() {
                if !words.is_empty() {
                    words.push(' ');
                }
                words.push_str(word);
            }
        }
    }
}

fn contraction(word: &str) -> (&str, &str) {
    const ENDINGS: [(&str, &str); 6] =
        [("n't", "not"), ("'m", "am"), ("'re", "are"), ("'ll", "will"), ("'ve", "have"), ("'d", "would")];
    for (ending, written) in ENDINGS {
        if let Some(stem) = word.strip_suffix(ending) {
            return (stem, written);
        }
    }
    // After other words "'s" is a possessive: "the dog's".
    match word.strip_suffix("'s") {
        Some(stem) if ["it", "that", "he", "she", "there", "here", "what", "this"].contains(&stem) => {
            (stem, "is")
        }
        _ => (word, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_contractions_out_and_drops_marks() {
        let found = sentences("**I’m** sorry — I can't.\n> \"It's can not\" we won't: the dog's e.g. 3.5");
        let found: Vec<&str> = found.iter().map(|sentence| sentence.0.as_str()).collect();
        assert_eq!(
            found,
            [" i am sorry i cannot ", " it is cannot we will not ", " the dog's e.g ", " 3.5 "]
        );
    }

    #[test]
    fn matches_whole_words_only() {
        let sentence = &sentences("Hi cannot; we cannotify but I cannot help")[0];
        assert_eq!(sentence.after("i cannot").collect::<Vec<_>>(), ["help "]);
        assert!(!sentence.has_any(&["hel", "cannotif"]));
    }
}
