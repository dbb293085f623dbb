//! Two judges of the same answers: which figures are theirs, and how far they agree.
//!
//! Contract: two summaries of the same items and answers, that differ in the judge alone. A verdict is what was found for the
//! measures that the judge decides. Items on which one of the two gave no verdict are counted, and are in no figure.

use serde::{Serialize, Serializer};
use solon_stats::{Rate, cohens_kappa_of};

use crate::benchmark::Outcome;
use crate::judge::UNJUDGED;
use crate::summary::{JudgedItem, Summary};

/// How far two judges agree.
///
/// In JSON it is one flat object: `asked`, `items` (those with two verdicts), `share` of them with the same verdict and its
/// interval `low`, `high`, `kappa`; the last four are null where there are none.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgeAgreement {
    /// What both were asked about.
    pub asked: usize,
    /// Where both gave a verdict, and how often it is the same.
    pub same: Rate,
    /// Cohen's kappa of these verdicts, of which there may be more than two, such as grades; `None` of none.
    pub kappa: Option<f64>,
}

impl JudgeAgreement {
    /// The agreement of verdicts in pairs; `None` is no verdict.
    pub fn of<V: Ord + Clone>(verdicts: impl IntoIterator<Item = (Option<V>, Option<V>)>) -> Self {
        let all: Vec<(Option<V>, Option<V>)> = verdicts.into_iter().collect();
        let both: Vec<(V, V)> = all.iter().filter_map(|(a, b)| Some((a.clone()?, b.clone()?))).collect();
        Self {
            asked: all.len(),
            same: Rate::of(both.iter().map(|(a, b)| a == b)),
            kappa: (!both.is_empty()).then(|| cohens_kappa_of(&both)),
        }
    }

    /// In a sentence; `about` says what was judged.
    pub fn sentence(&self, about: &str) -> String {
        let Self { asked, same, kappa } = self;
        let Some(kappa) = kappa else {
            return format!("On none of {asked} {about} do both judges give a verdict.");
        };
        format!(
            "Of {asked} {about} both judges give a verdict on {}, and the same on {:.0} % of them [{:.0}, {:.0}] (kappa {kappa:.2}).",
            same.total,
            100.0 * same.rate,
            100.0 * same.low,
            100.0 * same.high
        )
    }
}

impl Serialize for JudgeAgreement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Flat {
            asked: usize,
            items: usize,
            share: Option<f64>,
            low: Option<f64>,
            high: Option<f64>,
            kappa: Option<f64>,
        }
        let Self { asked, same, kappa } = self;
        let known = |number: f64| (same.total > 0).then_some(number);
        let flat = Flat {
            asked: *asked,
            items: same.total,
            share: known(same.rate),
            low: known(same.low),
            high: known(same.high),
            kappa: *kappa,
        };
        flat.serialize(serializer)
    }
}

/// The measures that one of the judges decides, in the order of the benchmark.
pub fn of_judges(first: &Summary, second: &Summary) -> Vec<&'static str> {
    let decided = |key: &str| first.judged.contains(key) || second.judged.contains(key);
    first.measures.iter().map(|measure| measure.key).filter(|key| decided(key)).collect()
}

/// How far the judges of two summaries agree on a model's answers.
pub fn agreement(first: &Summary, second: &Summary) -> JudgeAgreement {
    let measures = of_judges(first, second);
    let verdict = |judged: &JudgedItem| -> Option<Vec<String>> {
        let outcomes = measures
            .iter()
            .filter(|key| **key != UNJUDGED.key)
            .filter_map(|key| judged.judgement.outcomes.get(*key));
        let known = outcomes.map(|outcome| match outcome {
            Outcome::Holds(holds) => Some(holds.to_string()),
            Outcome::Number(number) => Some(number.to_string()),
            Outcome::Unknown => None,
        });
        known.collect::<Option<Vec<String>>>().filter(|known| !known.is_empty())
    };
    let asked = first
        .items
        .iter()
        .zip(&second.items)
        .filter(|(a, b)| a.answer.judge.is_some() && b.answer.judge.is_some());
    JudgeAgreement::of(asked.map(|(a, b)| (verdict(a), verdict(b))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_is_of_what_both_judged() {
        let verdicts = [("y", "y"), ("y", "y"), ("n", "n"), ("y", "n"), ("", "n"), ("y", "")];
        let known = |verdict: &'static str| (!verdict.is_empty()).then_some(verdict);
        let found = JudgeAgreement::of(verdicts.map(|(a, b)| (known(a), known(b))));
        assert_eq!((found.asked, found.same), (6, Rate::new(3, 4)));
        // Chance: ¾ · ½ + ¼ · ½ = ½.
        assert!((found.kappa.unwrap() - 0.5).abs() < 1e-12);
        assert!(
            found
                .sentence("answers")
                .starts_with("Of 6 answers both judges give a verdict on 4, and the same on 75 %")
        );
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!((&json["asked"], &json["items"], &json["share"]), (&6.into(), &4.into(), &0.75.into()));
        let none = JudgeAgreement::of([(None::<bool>, Some(true))]);
        assert_eq!((none.kappa, none.same.total), (None, 0));
        assert_eq!(none.sentence("answers"), "On none of 1 answers do both judges give a verdict.");
    }
}
