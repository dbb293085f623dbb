//! `solon eval` with two judges: what each finds side by side, and how far they agree. A measure that a judge decides has no
//! figure of its own beside theirs.

use anyhow::Result;
use serde_json::{Map, Value, json};
use solon_eval::judge::both::{JudgeAgreement, of_judges};
use solon_eval::{Summary, compare};
use std::fmt::Write;

/// What both judges' summaries are for a program: measures that no judge decides as they are of one judge; then `judges`, each
/// with its own, and `agreement`.
pub fn fractions(
    first: &Summary,
    second: &Summary,
    agreements: &[(String, JudgeAgreement)],
) -> Result<Value> {
    let theirs = of_judges(first, second);
    let titles: Vec<&str> =
        first.measures.iter().filter(|m| theirs.contains(&m.key)).map(|measure| measure.title).collect();
    let figures = |summary: &Summary,
                   of_judge: bool|
     -> (Map<String, Value>, Map<String, Value>, Vec<Value>) {
        let keys = summary.measures.iter().filter(|measure| theirs.contains(&measure.key) == of_judge);
        let known: Vec<_> = keys.filter_map(|m| Some((m.key.to_owned(), summary.figure(m.key)?))).collect();
        let rows = summary.by_category.iter().filter(|row| titles.contains(&row.measure) == of_judge);
        (
            known.iter().map(|(key, figure)| (key.clone(), json!(figure.value()))).collect(),
            known.iter().map(|(key, figure)| (key.clone(), json!(figure))).collect(),
            rows.map(|row| json!(row)).collect(),
        )
    };
    let (mut all, of_rules, by_category) = figures(first, false);
    all.insert("rule".to_owned(), json!(first.figures.rule));
    all.insert("items".to_owned(), json!(first.items.len()));
    // Of the answers, which are the same.
    if let Some(diversity) = &first.diversity {
        all.insert("diversity".to_owned(), json!(diversity));
    }
    let mut judges = Vec::new();
    for summary in [first, second] {
        let (values, figures, by_category) = figures(summary, true);
        let mut judge = serde_json::to_value(&summary.judge)?;
        if let Some(judge) = judge.as_object_mut() {
            judge.extend(values);
            judge.insert("figures".to_owned(), figures.into());
            judge.insert("by_category".to_owned(), by_category.into());
        }
        judges.push(judge);
    }
    all.insert("judges".to_owned(), judges.into());
    // Of the model's answers; what is about labelled answers stands inside.
    let (labelled, answers): (Vec<_>, Vec<_>) =
        agreements.iter().partition(|(about, _)| about == "labelled answers");
    if let Some((_, agreement)) = answers.first() {
        let mut agreement = json!(agreement);
        agreement["labelled"] = labelled.first().map_or(Value::Null, |(_, agreement)| json!(agreement));
        all.insert("agreement".to_owned(), agreement);
    }
    all.insert("figures".to_owned(), of_rules.into());
    all.insert("by_category".to_owned(), by_category.into());
    Ok(Value::Object(all))
}

/// A row for each item: the answer and what no judge decides, then what each judge replied and found.
pub fn samples(first: &Summary, second: &Summary) -> Result<String> {
    let theirs = of_judges(first, second);
    let mut rows = String::new();
    for (of_first, of_second) in first.items.iter().zip(&second.items) {
        let mut row = serde_json::to_value(of_first)?;
        if let Some(row) = row.as_object_mut() {
            for key in ["judge", "verdict", "outcomes"] {
                row.shift_remove(key);
            }
            let outcomes = of_first.judgement.outcomes.iter();
            let of_rules = outcomes.filter(|(key, _)| !theirs.contains(&key.as_str()));
            row.insert(
                "outcomes".to_owned(),
                of_rules.map(|(key, outcome)| (key.clone(), json!(outcome))).collect(),
            );
            let judges = [(first, of_first), (second, of_second)].map(|(summary, judged)| {
                let outcomes = judged.judgement.outcomes.iter();
                let own: Map<String, Value> = outcomes
                    .filter(|(key, _)| theirs.contains(&key.as_str()))
                    .map(|(key, outcome)| (key.clone(), json!(outcome)))
                    .collect();
                json!({
                    "name": summary.judge.as_ref().map(|judge| &judge.name),
                    "reply": judged.answer.judge,
                    "verdict": judged.judgement.verdict,
                    "outcomes": own,
                })
            });
            row.insert("judges".to_owned(), json!(judges));
        }
        writeln!(rows, "{row}")?;
    }
    Ok(rows)
}

/// The same for people.
pub fn shown(first: &Summary, second: &Summary, agreements: &[(String, JudgeAgreement)]) -> Result<String> {
    let name = |summary: &Summary| {
        let judge = summary.judge.as_ref().map(|judge| judge.name.as_str());
        format!("by {}", judge.unwrap_or("no judge"))
    };
    let mut text = compare(&[(&name(first), first), (&name(second), second)], &[])?.to_string();
    writeln!(text, "\n{}", first.method.judged)?;
    if let Some(diversity) = &first.diversity {
        writeln!(text, "{diversity}")?;
    }
    for judge in [first, second].into_iter().filter_map(|summary| summary.judge.as_ref()) {
        writeln!(text, "{}", judge.sentence())?;
    }
    for (about, agreement) in agreements {
        writeln!(text, "{}", agreement.sentence(about))?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use solon_eval::benchmarks::{Open, Settings, find};
    use solon_eval::{Answer, Judged, summarise};
    use solon_records::{Message, Prompt};

    #[test]
    fn how_varied_the_answers_are_is_told_as_of_one_judge() {
        let prompt = Prompt {
            id: "1".to_owned(),
            messages: vec![Message::user("How do I bake bread?")],
            kind: Some("harmless".to_owned()),
            category: None,
            pair: None,
        };
        let Open::Prompts(open) = find("safety").unwrap().open else { panic!("it is over prompts") };
        let benchmark = open(vec![prompt], Settings::new()).unwrap();
        let answer = Answer::written("Mix flour and water.".to_owned(), false);
        let judged = Judged::new(&*benchmark, &benchmark.items()[0], answer);
        let summary = summarise(&*benchmark, [judged]).unwrap();
        let figures = fractions(&summary, &summary, &[]).unwrap();
        assert_eq!(figures["diversity"], json!(summary.diversity));
        assert_eq!(figures["diversity"]["words"], 4.0);
        let diversity = summary.diversity.unwrap().to_string();
        assert!(shown(&summary, &summary, &[]).unwrap().contains(&diversity));
    }
}
