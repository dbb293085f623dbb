//! `solon eval compare`: two files of results item by item, in words or as JSON. What is compared is in `solon-eval`'s `samples`.
//!
//! Contract: text of the files, which are untrusted, cannot control the terminal.

use crate::cli::CompareArgs;
use crate::out::{out, outln};
use anyhow::Result;
use solon_eval::Outcome;
use solon_eval::samples::{
    Choices, Differing, FigureRow, Form, LogProbs, SampleComparison, Side, compare_samples, read,
};
use solon_feedback::for_terminal;
use std::fmt::Write;

/// Reads both, and prints what they have in common.
pub fn run(args: &CompareArgs) -> Result<()> {
    let found = compare_samples(&read(&args.first)?, &read(&args.second)?, args.show)?;
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&found)?);
    } else {
        out!("{}", shown(&found)?);
    }
    Ok(())
}

/// The comparison in words.
fn shown(found: &SampleComparison) -> Result<String> {
    let mut text = String::new();
    for (letter, Side { path, form, items, .. }) in [("A", &found.first), ("B", &found.second)] {
        let form = match form {
            Form::Solon => "solon eval",
            Form::LmEvaluationHarness => "lm-evaluation-harness",
        };
        writeln!(text, "{letter}  {}: {items} items of {form}", path.display())?;
    }
    let SampleComparison { both, by_question, other_question, .. } = found;
    let (only_a, only_b) = (found.first.only_here, found.second.only_here);
    writeln!(text, "\n{both} items in both, {only_a} only in A, {only_b} only in B")?;
    if *by_question > 0 {
        writeln!(text, "{by_question} of them have other ids in A and B, and the same question")?;
    }
    if *other_question > 0 {
        writeln!(text, "{other_question} ids are in both for questions that differ; they are not compared")?;
    }
    if let Some(Choices { same, other_options }) = &found.choices {
        writeln!(text, "{:<24} {same}", "same choice")?;
        if *other_options > 0 {
            writeln!(
                text,
                "{other_options} items have other numbers of options; their options are not compared"
            )?;
        }
    }
    if let Some(LogProbs { options, not_finite, largest, largest_at, median }) = &found.log_probs {
        let over = format!("over {options} options");
        let largest_at = for_terminal(largest_at);
        writeln!(
            text,
            "{:<24} at most {largest:.2e} (in {largest_at}), median {median:.2e} nats {over}",
            "log-probs apart"
        )?;
        if *not_finite > 0 {
            writeln!(text, "{not_finite} options have a finite log-prob in one file only")?;
        }
    }
    if let Some(same) = &found.same_answers {
        writeln!(text, "{:<24} {same}", "same answer")?;
    }
    figures(&mut text, &found.figures)?;
    if found.figures.is_empty() {
        writeln!(text, "\nNo figure is in both files: neither says which option is right")?;
    }
    writeln!(text, "\n{} items differ in the choice, the answer or a figure", found.differing)?;
    for item in &found.shown {
        differing(&mut text, item)?;
    }
    let left = found.differing - found.shown.len();
    if left > 0 && !found.shown.is_empty() {
        writeln!(text, "  and {left} more")?;
    }
    Ok(text)
}

fn figures(text: &mut String, rows: &[FigureRow]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(text, "\n{:<24} {:<32} {:<32} B - A [95% interval], p", "figure", "A", "B")?;
    for row in rows {
        let FigureRow { name, first, second, first_only, second_only, difference, p_value, .. } = row;
        let name = for_terminal(name);
        let difference = difference
            .map(|mean| match mean.low.is_finite() {
                true => format!("{:+.3} [{:+.3}, {:+.3}]", mean.mean, mean.low, mean.high),
                false => format!("{:+.3} [of too few items]", mean.mean),
            })
            .unwrap_or_default();
        writeln!(
            text,
            "{name:<24} {first:<32} {second:<32} {difference}, p = {p_value:.4} (+{second_only} -{first_only})"
        )?;
    }
    writeln!(
        text,
        "p: exact McNemar test (of numbers the sign test); (+ items that are higher in B, - in A). Each row counts as one item."
    )?;
    Ok(())
}

/// Characters that are shown of an answer.
const SHOWN: usize = 70;

fn differing(text: &mut String, item: &Differing) -> Result<()> {
    writeln!(text, "  {}", for_terminal(&item.id))?;
    for (place, letter) in ["A", "B"].into_iter().enumerate() {
        let mut parts = Vec::new();
        if let Some(choices) = &item.choices {
            parts.push(format!("option {}", choices[place]));
        }
        if let Some(log_probs) = &item.log_probs {
            let numbers: Vec<String> = log_probs[place].iter().map(|x| format!("{x:.4}")).collect();
            parts.push(format!("log-probs {}", numbers.join(" ")));
        }
        if let Some(answers) = &item.answers {
            let start: String =
                for_terminal(&answers[place]).replace('\n', " ").chars().take(SHOWN).collect();
            parts.push(format!("{start:?}"));
        }
        for (name, outcomes) in &item.figures {
            let outcome = match outcomes[place] {
                Outcome::Holds(holds) => if holds { "yes" } else { "no" }.to_owned(),
                Outcome::Number(number) => format!("{number}"),
                Outcome::Unknown => "unknown".to_owned(),
            };
            parts.push(format!("{} {outcome}", for_terminal(name)));
        }
        writeln!(text, "    {letter}: {}", parts.join("; "))?;
    }
    Ok(())
}
