//! Which of two answers is better, as judges and people say it.
//!
//! Contract: pure functions of verdicts. A judge's text is read as FastChat reads it (`llm_judge/common.py` at 0e6d3e4), and
//! a judge that is asked in both orders prefers an answer only where it does so in both (`show_result.py`, and Zheng et al.,
//! NeurIPS 2023, §3.4). People's votes are counted as PandaLM counts them (Wang et al., ICLR 2024): the majority.

use serde::{Deserialize, Serialize};

/// Which of two answers is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preferred {
    /// The first.
    First,
    /// The second.
    Second,
    /// Neither.
    Tie,
}

impl Preferred {
    /// The verdict in a judge's text: `[[A]]`, else `[[B]]`, else `[[C]]`, which is a tie. `None` where it holds none.
    pub fn said(text: &str) -> Option<Self> {
        let forms = [("[[A]]", Self::First), ("[[B]]", Self::Second), ("[[C]]", Self::Tie)];
        forms.into_iter().find(|(form, _)| text.contains(form)).map(|(_, preferred)| preferred)
    }

    /// The same about the answers in the other order.
    pub fn swapped(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
            Self::Tie => Self::Tie,
        }
    }

    /// What two verdicts about the same two answers in the same order come to: where they differ, a tie.
    pub fn agreed(self, other: Self) -> Self {
        if self == other { self } else { Self::Tie }
    }

    /// What most votes say; a tie where no verdict has more than half of them.
    pub fn majority(votes: &[Self]) -> Self {
        let most = |verdict: &Self| 2 * votes.iter().filter(|vote| *vote == verdict).count() > votes.len();
        [Self::First, Self::Second].into_iter().find(most).unwrap_or(Self::Tie)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::tests::shared_data;
    use Preferred::{First, Second, Tie};

    #[test]
    fn a_verdict_is_read_as_fastchat_reads_it() {
        for (text, expected) in [
            ("Both are short. [[A]]", Some(First)),
            ("[[B]] and not [[C]]", Some(Second)),
            // In this order, wherever they stand.
            ("[[C]], [[B]], [[A]]", Some(First)),
            ("[[C]]", Some(Tie)),
            ("[A] [[a]] [[ A ]] A", None),
            ("", None),
        ] {
            assert_eq!(Preferred::said(text), expected, "{text}");
        }
    }

    #[test]
    fn what_differs_between_orders_is_a_tie() {
        for (one, other, expected) in
            [(First, First, First), (First, Second, Tie), (Second, Tie, Tie), (Tie, Tie, Tie)]
        {
            assert_eq!(one.agreed(other), expected);
            assert_eq!(one.swapped().agreed(other.swapped()), expected.swapped());
        }
    }

    #[test]
    fn a_majority_is_more_than_half() {
        for (votes, expected) in [
            (&[First, Second, First][..], First),
            (&[First, Second, Tie], Tie),
            (&[Second, Second], Second),
            (&[First, Second], Tie),
            (&[], Tie),
        ] {
            assert_eq!(Preferred::majority(votes), expected, "{votes:?}");
        }
    }

    /// The accuracy of the two judges that PandaLM publishes, against the majority of three people. What a judge said that is
    /// no verdict ("garbage") counts as a tie.
    #[test]
    fn published_judges_agree_with_people_as_published() {
        let Some(data) = shared_data("pandalm") else { return };
        let rows = |name: &str| -> Vec<serde_json::Value> {
            serde_json::from_str(&std::fs::read_to_string(data.join(name)).unwrap()).unwrap()
        };
        let verdict = |value: &serde_json::Value| match value.to_string().trim_matches('"') {
            "1" => First,
            "2" => Second,
            _ => Tie,
        };
        let people: Vec<Preferred> = rows("testset-v1.json")
            .iter()
            .map(|row| {
                let votes = ["annotator1", "annotator2", "annotator3"].map(|key| verdict(&row[key]));
                Preferred::majority(&votes)
            })
            .collect();
        let count = |verdict: Preferred| people.iter().filter(|found| **found == verdict).count();
        assert_eq!([First, Second, Tie].map(count), [422, 472, 105]);
        for (file, key, expected) in [
            ("pandalm-7b-testset-v1.json", "pandalm_result", 0.667_668),
            ("gpt-3.5-turbo-testset-v1.json", "gpt_result", 0.710_711),
        ] {
            let judged = rows(file);
            assert_eq!(judged.len(), people.len());
            let right = judged.iter().zip(&people).filter(|(row, people)| verdict(&row[key]) == **people);
            let accuracy = right.count() as f64 / people.len() as f64;
            assert!((accuracy - expected).abs() < 5e-7, "{file}: {accuracy}");
        }
    }
}
