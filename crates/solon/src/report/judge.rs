//! How far a judge can be believed: how often it was right on answers whose labels are known.

use super::data::{Judge, JudgedSet};
use super::figures::{count, decimal, percent};
use super::html::Html;

/// Writes how often the judge was right where the right verdict is known.
pub fn write(html: &mut Html, judge: &Judge) {
    if judge.sets.is_empty() {
        return html.element("p", &[("class", &"note")], |html| {
            html.leaf("b", &[], "The judge was not measured. ");
            html.text(format!("Figures judged by {} are not to be relied on.", judge.name));
        });
    }
    html.element("div", &[("class", &"scroll")], |html| {
        html.element("table", &[("class", &"judge")], |html| {
            html.leaf("caption", &[], format!("The judge {} on answers whose labels are known.", judge.name));
            html.element("thead", &[], |html| {
                html.element("tr", &[], |html| {
                    for (i, name) in COLUMNS.into_iter().enumerate() {
                        let class = if i > 0 { "number" } else { "" };
                        html.leaf("th", &[("scope", &"col"), ("class", &class)], name);
                    }
                });
            });
            html.element("tbody", &[], |html| {
                for row in rows(judge) {
                    html.element("tr", &[], |html| {
                        html.leaf("th", &[("scope", &"row")], &row[0]);
                        for cell in &row[1..] {
                            html.leaf("td", &[("class", &"number")], cell);
                        }
                    });
                }
            });
        });
    });
}

/// The heads of the columns of [`rows`].
pub const COLUMNS: [&str; 6] =
    ["Labelled set", "Answers", "No verdict", "Accuracy", "Kappa", "Kappa at least"];

/// One row for each set of labelled answers.
pub fn rows(judge: &Judge) -> Vec<[String; 6]> {
    let number = |value: Option<f64>| value.map_or("–".to_owned(), decimal);
    let row = |set: &JudgedSet| {
        [
            set.name.clone(),
            count(set.answers),
            count(set.unjudged),
            percent(set.accuracy.unwrap_or(f64::NAN)),
            number(set.kappa),
            decimal(set.kappa_low),
        ]
    };
    judge.sets.iter().map(row).collect()
}

/// What stands beside every measure that a judge decides: its quality on each set of labelled answers. The sets are not taken
/// together, because a judge that tells the sets apart would seem to agree with the labels.
pub fn beside(judges: &[Judge]) -> Vec<String> {
    let mut said = Vec::new();
    for judge in judges {
        // Which judge is only unclear where there are two.
        let who = if judges.len() > 1 { format!("judge {}", judge.name) } else { "judge".to_owned() };
        said.extend(judge.sets.iter().map(|set| match (set.accuracy, set.kappa) {
            (Some(accuracy), Some(kappa)) => {
                format!("{who} right on {}, kappa {} ({})", percent(accuracy), decimal(kappa), set.name)
            }
            _ => format!("{who} gave no verdict ({})", set.name),
        }));
        if judge.sets.is_empty() {
            said.push(format!("{who} not measured"));
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::super::data::{Better, Evaluation, Measure, Rate, Report};
    use super::super::evaluation::evaluations;
    use super::*;

    #[test]
    fn the_judges_quality_stands_beside_what_it_judged() {
        let measure = |name: &str, judged| Measure {
            key: name.into(),
            name: name.into(),
            explanation: String::new(),
            better: Better::Lower,
            most: 1.0,
            scored: true,
            judged,
            cells: vec![Some(Rate {
                rate: 0.5,
                low: 0.4,
                high: 0.6,
                count: Some(1),
                total: 2,
                p_value: None,
                against_origin: None,
            })],
        };
        let set = JudgedSet {
            name: "xstest".into(),
            answers: 100,
            unjudged: 4,
            accuracy: Some(0.75),
            kappa: Some(0.5),
            kappa_low: 0.31,
        };
        let judge = Judge { name: "local:m".into(), sets: vec![set] };
        let written = |judge: Judge| {
            let mut html = Html::default();
            let rows = vec![measure("attack", true), measure("length", false)];
            let columns = vec!["base".to_owned()];
            let one = Evaluation { columns, rows, judges: vec![judge], ..Default::default() };
            evaluations(&mut html, &Report { evaluations: vec![one], ..Default::default() });
            html.finish()
        };
        let html = written(judge.clone());
        assert_eq!(html.matches("judge right on 75.0%, kappa 0.50 (xstest)").count(), 1, "{html}");
        assert!(html.contains(">xstest</th>") && html.contains(">0.31</td>"), "{html}");
        let html = written(Judge { sets: vec![], ..judge });
        assert!(
            html.contains("judge not measured") && html.contains("The judge was not measured."),
            "{html}"
        );
    }
}
