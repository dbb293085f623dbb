//! What benchmarks with a judge have in common: how a template is filled, how a yes or no is read, and what is counted where
//! there is no verdict.
//!
//! Contract: pure functions of text. What a judge says is untrusted: it is searched for a verdict and nothing else.

pub mod both;
pub mod labels;
pub mod preference;

use crate::benchmark::{Answer, Better, Measure, Unit};

/// The words that a judge answers with.
pub(crate) const YES_NO: [&str; 2] = ["yes", "no"];

/// Of every benchmark with a judge.
pub(crate) const UNJUDGED: Measure = Measure {
    key: "unjudged",
    title: "unjudged",
    explanation: "Share of answers on which the judge gave no verdict; they count in no figure of the judge's.",
    unit: Unit::Share,
    better: Better::Neither,
    groups: &[],
    scored: false,
};

/// Of benchmarks that can tell a judge's refusal from another reply without a verdict.
pub(crate) const JUDGE_REFUSED: Measure = Measure {
    key: "judge_refused",
    title: "judge refused",
    explanation: "Share of answers on which the judge gave no verdict and declined to judge, by our rule; they are among the unjudged.",
    unit: Unit::Share,
    better: Better::Neither,
    groups: &[],
    scored: false,
};

/// Measures that are about the judge's reply and not about the answer: they are no part of a verdict.
pub(crate) const ABOUT_THE_JUDGE: [&str; 2] = [UNJUDGED.key, JUDGE_REFUSED.key];

/// Whether the judge said yes; `None` where it said neither.
pub(crate) fn yes_no(answer: &Answer) -> Option<bool> {
    Some(answer.judge.as_ref()?.choice(&YES_NO)? == 0)
}

/// A template with `{name}` replaced. What is put in is not searched, whatever braces it holds; a name that is not given
/// stays as it is.
pub(crate) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::new();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        filled.push_str(&rest[..open]);
        rest = &rest[open..];
        let value = rest.find('}').and_then(|close| {
            let (_, value) = values.iter().find(|(name, _)| *name == &rest[1..close])?;
            Some((close + 1, value))
        });
        let (end, text) = value.map_or((1, "{"), |(end, value)| (end, *value));
        filled.push_str(text);
        rest = &rest[end..];
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmark::Reply;

    #[test]
    fn only_the_template_is_searched_for_names() {
        let values = [("a", "{b}"), ("b", "B{a")];
        for (template, expected) in
            [("{a}-{b}", "{b}-B{a"), ("{{a}}", "{{b}}"), ("{c} {", "{c} {"), ("", ""), ("é{a}é}", "é{b}é}")]
        {
            assert_eq!(fill(template, &values), expected, "{template}");
        }
    }

    #[test]
    fn a_verdict_is_the_word_that_the_reply_begins_with() {
        let said = |text: &str| Answer { judge: Some(Reply::Said(text.to_owned())), ..Answer::default() };
        for (text, expected) in [
            ("yes", Some(true)),
            ("  \"No.\" It does not.", Some(false)),
            ("**YES**", Some(true)),
            ("nothing", None),
            ("I cannot judge this.", None),
            ("", None),
        ] {
            assert_eq!(yes_no(&said(text)), expected, "{text}");
        }
        for (reply, expected) in [
            (Reply::Options(vec![-0.1, -3.0]), Some(true)),
            (Reply::Options(vec![-3.0, -0.1]), Some(false)),
            (Reply::Options(vec![]), None),
            (Reply::Failed("timeout".to_owned()), None),
        ] {
            assert_eq!(yes_no(&Answer { judge: Some(reply), ..Answer::default() }), expected);
        }
        assert_eq!(yes_no(&Answer::default()), None);
    }
}
