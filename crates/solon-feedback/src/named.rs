//! Which of the given options a reply in words names.
//!
//! Contract: nothing is guessed. A reply that names no option, or several, is none. Options stand alone (the A of "Answer" is none) and as
//! they were written (the article "a" is none); numbers may stand as `8/10` or `8 out of 10`.

use crate::model::NoAnswerKind;

/// The place of the option that a reply names: as the whole reply, in double brackets (`[[A]]`), before a full stop or the like at its
/// beginning, or as the only one that it holds.
///
/// Errors with the kind of fault: [`NoAnswerKind::Empty`], [`NoAnswerKind::NoOption`] or [`NoAnswerKind::SeveralOptions`].
pub fn named_option(reply: &str, options: &[String]) -> Result<usize, NoAnswerKind> {
    let reply = reply.trim();
    if reply.is_empty() {
        return Err(NoAnswerKind::Empty);
    }
    let are_numbers = options.iter().all(|option| option.parse::<u32>().is_ok());
    let reply = match are_numbers {
        true => without_scale(reply),
        false => reply.to_owned(),
    };
    let bare = |text: &str| {
        let edge = |c: char| c.is_whitespace() || c.is_ascii_punctuation();
        options.iter().position(|option| text.trim_matches(edge).eq_ignore_ascii_case(option))
    };
    if let Some(place) = bare(&reply) {
        return Ok(place);
    }
    let in_brackets: Vec<usize> =
        (0..options.len()).filter(|place| reply.contains(&format!("[[{}]]", options[*place]))).collect();
    if let [place] = in_brackets[..] {
        return Ok(place);
    }
    // "A. It is kinder.", "**B**: because", "A\nB is worse": what stands before the first stop is the answer.
    let first = reply.split(['.', ':', ',', ';', ')', '\n', '*', '!']).find(|part| !part.trim().is_empty());
    if let Some(place) = first.and_then(bare) {
        return Ok(place);
    }
    let words = || reply.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let held: Vec<usize> =
        (0..options.len()).filter(|place| words().any(|word| word == options[*place])).collect();
    match held[..] {
        [place] => Ok(place),
        [] => Err(NoAnswerKind::NoOption),
        _ => Err(NoAnswerKind::SeveralOptions),
    }
}

/// A text without the "/10" of "8/10".
fn without_scale(text: &str) -> String {
    ["/10", "/ 10", " out of 10"].iter().fold(text.to_owned(), |text, scale| text.replace(scale, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(reply: &str, options: &[&str]) -> Result<usize, NoAnswerKind> {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        named_option(reply, &options)
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
    fn a_number_is_read_with_its_scale() {
        let scale: Vec<String> = (1..=10).map(|score| score.to_string()).collect();
        for (reply, score) in
            [("8", 8), ("8/10", 8), ("Score: 10/10", 10), ("I give it a 7 out of 10.", 7), ("10", 10)]
        {
            assert_eq!(named_option(reply, &scale), Ok(score - 1), "{reply}");
        }
        assert_eq!(named_option("between 7 and 8", &scale), Err(NoAnswerKind::SeveralOptions));
        assert_eq!(named_option("11", &scale), Err(NoAnswerKind::NoOption));
    }
}
