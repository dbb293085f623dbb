//! What a request is about: the stems of its words.
//!
//! Contract: a function of the text, English only. A stem is the first letters of a word, so "smuggle" and "smuggler"
//! have one stem; synonyms have two.

use std::collections::BTreeSet;

use crate::sentences::Sentence;

/// Words of a request that say nothing of its subject.
const STOP: &str = " a an and any are as at be been before but by can could do does else ever every find for from get \
    give go got had has have help her him his how i if in into is it its just keep know let like make me more my need \
    never new not of off on one or our out over please put she so some someone something start such take tell than that \
    the their them then there they thing things this to up us use used want was way ways we were what when where which \
    who why will with without would write you your yours best idea ideas explain list people person person's good place \
    ";

/// The number of different stems of a sentence that are among those asked for.
pub(crate) fn shared(sentence: &Sentence, asked: &BTreeSet<String>) -> usize {
    stems(sentence).filter(|stem| asked.contains(stem)).collect::<BTreeSet<_>>().len()
}

/// The first five letters of each word that has a meaning of its own.
pub(crate) fn stems(sentence: &Sentence) -> impl Iterator<Item = String> + '_ {
    sentence.words().filter(|word| !STOP.contains(&format!(" {word} "))).map(|word| {
        let letters: Vec<char> = word.trim_end_matches("'s").chars().collect();
        // A plural's "s" goes, unless the word is short.
        let end =
            if letters.len() > 3 && letters.ends_with(&['s']) { letters.len() - 1 } else { letters.len() };
        letters[..end.min(5)].iter().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sentences::sentences;

    #[test]
    fn words_of_one_stem_meet() {
        let asked: BTreeSet<String> =
            sentences("How do I smuggle the dogs?").iter().flat_map(stems).collect();
        assert_eq!(asked.iter().map(String::as_str).collect::<Vec<_>>(), ["dog", "smugg"]);
        assert_eq!(shared(&sentences("Find a smuggler with a dog and a dog's lead.")[0], &asked), 2);
    }
}
