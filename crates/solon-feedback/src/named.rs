//! Which of the given options a reply in words names.
//!
//! Contract: nothing is guessed. A reply that names no option, or several, is none. Options stand alone (the A of "Answer" is none) and as
//! they were written (the article "a" is none); numbers may stand as `8/10` or `8 out of 10`.

use crate::model::NoAnswerKind;

/// The place of the option that a reply names: as the whole reply, in double brackets (`[[A]]`), at its beginning before a stop, where no other
/// option follows, or in a sentence such as "the answer is A". `truncated`: the reply was cut off, so only what it says first or in brackets
/// counts.
///
/// Errors with the kind of fault: [`NoAnswerKind::Empty`], [`NoAnswerKind::NoOption`], [`NoAnswerKind::SeveralOptions`] or
/// [`NoAnswerKind::CutOff`].
pub fn named_option(reply: &str, truncated: bool, options: &[String]) -> Result<usize, NoAnswerKind> {
    let reply = reply.trim();
    if reply.is_empty() {
        return Err(NoAnswerKind::Empty);
    }
    let are_numbers = options.iter().all(|option| option.parse::<u32>().is_ok());
    let reply = if are_numbers { without_scale(reply) } else { reply.to_owned() };
    if let Some(place) = bare(&reply, options) {
        return Ok(place);
    }
    let in_brackets: Vec<usize> =
        (0..options.len()).filter(|place| reply.contains(&format!("[[{}]]", options[*place]))).collect();
    if let [place] = in_brackets[..] {
        return Ok(place);
    }
    let words: Vec<&str> =
        reply.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let held: Vec<usize> =
        (0..options.len()).filter(|place| words.iter().any(|word| *word == options[*place])).collect();
    match held[..] {
        [] if truncated => Err(NoAnswerKind::CutOff),
        [] => Err(NoAnswerKind::NoOption),
        // "A. It is kinder.", "**B**: because", "A\nB is worse": what stands before the first stop is the answer.
        [place] if begins_with(&reply, &options[place]) => Ok(place),
        [place] if !truncated && says(&words, &options[place]) => Ok(place),
        [_] if truncated => Err(NoAnswerKind::CutOff),
        [_] => Err(NoAnswerKind::NoOption),
        _ => match held.iter().find(|place| stops_after(&reply, &options[**place])) {
            Some(place) => Ok(*place),
            None => Err(NoAnswerKind::SeveralOptions),
        },
    }
}

/// The option that is the whole text, but for white space and punctuation around it.
fn bare(text: &str, options: &[String]) -> Option<usize> {
    let edge = |c: char| c.is_whitespace() || c.is_ascii_punctuation();
    options.iter().position(|option| text.trim_matches(edge).eq_ignore_ascii_case(option))
}

/// The rest of a reply that begins with an option, whatever marks stand around that.
fn after<'a>(reply: &'a str, option: &str) -> Option<&'a str> {
    let reply = reply.trim_start_matches(|c: char| c.is_whitespace() || "*_\"'`(".contains(c));
    let rest = reply.strip_prefix(option)?;
    (!rest.starts_with(char::is_alphanumeric))
        .then(|| rest.trim_start_matches(['*', '_', '"', '\'', '`', ')']))
}

/// Whether a reply begins with the option and then stops, or gives its reason.
fn begins_with(reply: &str, option: &str) -> bool {
    after(reply, option).is_some_and(|rest| {
        let rest = rest.trim_start_matches(' ');
        rest.is_empty()
            || stops(rest, ".:,;!-–—\n")
            || ["because", "is better", "is the", "as it", "since"].iter().any(|word| rest.starts_with(word))
    })
}

/// Whether a reply begins with the option and a stop, or its reason: then what follows may name others.
fn stops_after(reply: &str, option: &str) -> bool {
    after(reply, option).is_some_and(|rest| stops(rest, ".:\n") || rest.trim_start().starts_with("because"))
}

/// Whether a text begins with one of these marks. The point of 7.9 is none.
fn stops(text: &str, marks: &str) -> bool {
    let mut chars = text.chars();
    let is_mark = chars.next().is_some_and(|mark| marks.contains(mark));
    is_mark && !(text.starts_with('.') && chars.next().is_some_and(|next| next.is_ascii_digit()))
}

/// Whether the words hold the option in a sentence that names it: after "answer", "prefer", "choose" and the like, with little between.
fn says(words: &[&str], option: &str) -> bool {
    const NAMING: [&str; 11] = [
        "answer", "option", "response", "prefer", "choose", "pick", "select", "choice", "score", "rating",
        "it",
    ];
    const NOT: [&str; 6] = ["not", "neither", "nor", "isn", "never", "no"];
    let Some(place) = words.iter().position(|word| *word == option) else { return false };
    let before = &words[place.saturating_sub(4)..place];
    let is = |list: &[&str], word: &&&str| list.iter().any(|listed| word.eq_ignore_ascii_case(listed));
    let only = words.iter().filter(|word| **word == option).count() == 1;
    let says_it =
        before.iter().any(|word| is(&NAMING, &word)) || before.ends_with(&["is"]) || before.ends_with(&["a"]);
    only && says_it && !words.iter().any(|word| is(&NOT, &word))
}

/// A text without the "/10" of "8/10".
fn without_scale(text: &str) -> String {
    let mut text = text.to_owned();
    for scale in ["/10", "/ 10", " out of 10"] {
        while let Some(at) = text.find(scale) {
            let end = at + scale.len();
            // "1/100" is on another scale.
            if text[end..].starts_with(|c: char| c.is_ascii_digit()) {
                break;
            }
            text.replace_range(at..end, "");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(reply: &str, options: &[&str]) -> Result<usize, NoAnswerKind> {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        named_option(reply, false, &options)
    }

    #[test]
    fn a_letter_is_named_in_the_ways_that_models_name_it() {
        for reply in [
            "B",
            "b",
            " (B) ",
            "B.",
            "**B**",
            "\"B\"",
            "Answer: B",
            "The answer is (B).",
            "B. It is kinder than A.",
            "B: kinder",
            "Both have merits, A more so at first. [[B]]",
            "I prefer B",
            "B\n\nA is worse.",
            "**B** because A is unkind",
        ] {
            assert_eq!(named(reply, &["A", "B"]), Ok(1), "{reply}");
        }
        assert_eq!(named("Yes, it is.", &["Yes", "No"]), Ok(0));
        assert_eq!(named("no", &["Yes", "No"]), Ok(1));
    }

    #[test]
    fn what_names_none_or_both_is_no_answer() {
        use NoAnswerKind::{Empty, NoOption, SeveralOptions};
        for (reply, kind) in [
            ("", Empty),
            (" \n", Empty),
            ("Neither.", NoOption),
            ("It is a bad answer.", NoOption),
            ("I can't help with that.", NoOption),
            ("Answers like these are alike", NoOption),
            ("A and B are the same", SeveralOptions),
            ("A or B", SeveralOptions),
            ("A/B", SeveralOptions),
            ("[[A]] or [[B]]", SeveralOptions),
            ("C", NoOption),
        ] {
            assert_eq!(named(reply, &["A", "B"]), Err(kind), "{reply}");
        }
    }

    #[test]
    fn what_only_looks_like_an_option_is_none() {
        use NoAnswerKind::{CutOff, NoOption, SeveralOptions};
        for (reply, kind) in [
            ("(A) and (B) are equally good.", SeveralOptions),
            ("**A** and **B** are the same", SeveralOptions),
            ("A difficult question, neither is good.", NoOption),
            ("Definitely not A.", NoOption),
        ] {
            assert_eq!(named(reply, &["A", "B"]), Err(kind), "{reply}");
        }
        let letters = ["A", "B"].map(str::to_owned);
        let cut = "Answer A explains the topic kindly, whereas the other";
        assert_eq!(named_option("Let us look at both", true, &letters), Err(CutOff));
        assert_eq!(named_option("B. It is", true, &letters), Ok(1));
        // What was cut off in the middle of weighing is no choice.
        assert_eq!(named_option(cut, true, &letters), Err(CutOff));
        let scale: Vec<String> = (1..=10).map(|score| score.to_string()).collect();
        assert!(named_option("1/100", false, &scale).is_err() && named_option("7.9", false, &scale).is_err());
    }

    #[test]
    fn a_number_is_read_with_its_scale() {
        let scale: Vec<String> = (1..=10).map(|score| score.to_string()).collect();
        for (reply, score) in
            [("8", 8), ("8/10", 8), ("Score: 10/10", 10), ("I give it a 7 out of 10.", 7), ("10", 10)]
        {
            assert_eq!(named_option(reply, false, &scale), Ok(score - 1), "{reply}");
        }
        assert_eq!(named_option("between 7 and 8", false, &scale), Err(NoAnswerKind::SeveralOptions));
        assert_eq!(named_option("11", false, &scale), Err(NoAnswerKind::NoOption));
    }
}
