//! Which items of two files are the same.
//!
//! Contract: items are paired by id; what is left is paired by the question, where both files hold it and it stands once in
//! each. Items of one id whose questions differ are not paired.

use std::collections::{BTreeSet, HashMap};

use super::Sample;

/// An item of the first file and the same one of the second.
pub(super) type Pair<'a> = (&'a Sample, &'a Sample);

/// The items that both files have.
pub(super) struct Pairs<'a> {
    /// In the order of the first file.
    pub pairs: Vec<Pair<'a>>,
    /// Those paired by their question.
    pub by_question: usize,
    /// Ids in both files whose questions differ.
    pub other_question: usize,
}

/// Pairs items by id, then by question, in the order of the first file.
pub(super) fn pair<'a>(first: &'a [Sample], second: &'a [Sample]) -> Pairs<'a> {
    let by_id: HashMap<&str, usize> =
        second.iter().enumerate().map(|(place, sample)| (sample.id.as_str(), place)).collect();
    let mut partners: Vec<Option<usize>> = vec![None; first.len()];
    let mut taken = vec![false; second.len()];
    let mut other_question = 0;
    for (partner, sample) in partners.iter_mut().zip(first) {
        let Some(place) = by_id.get(sample.id.as_str()) else { continue };
        if same_question(sample, &second[*place]) {
            *partner = Some(*place);
            taken[*place] = true;
        } else {
            other_question += 1;
        }
    }
    let left = |samples: &'a [Sample], paired: &dyn Fn(usize) -> bool| {
        unique_questions(samples.iter().enumerate().filter(|(place, _)| !paired(*place)))
    };
    let of_first = left(first, &|place| partners[place].is_some());
    let of_second = left(second, &|place| taken[place]);
    let mut by_question = 0;
    for (place, sample) in
        first.iter().enumerate().filter(|(place, _)| partners[*place].is_none()).collect::<Vec<_>>()
    {
        let found = sample.questions.iter().find_map(|question| {
            let question = question.trim();
            of_first.get(question).copied().flatten()?;
            of_second.get(question).copied().flatten().filter(|place| !taken[*place])
        });
        if let Some(other) = found {
            partners[place] = Some(other);
            taken[other] = true;
            by_question += 1;
        }
    }
    let pairs = first.iter().zip(&partners).filter_map(|(sample, place)| Some((sample, &second[(*place)?])));
    Pairs { pairs: pairs.collect(), by_question, other_question }
}

/// Whether two items of one id may be the same; where a file does not hold the question, the id decides.
fn same_question(first: &Sample, second: &Sample) -> bool {
    let known = |sample: &Sample| sample.questions.iter().any(|question| !question.trim().is_empty());
    if !known(first) || !known(second) {
        return true;
    }
    // One file may hold the question alone, and the other what stood around it too.
    let holds = |whole: &str, part: &str| !part.trim().is_empty() && whole.contains(part.trim());
    first.questions.iter().any(|a| second.questions.iter().any(|b| holds(a, b) || holds(b, a)))
}

/// Each question with the place of the one item that has it; none where several have it.
fn unique_questions<'a>(
    samples: impl Iterator<Item = (usize, &'a Sample)>,
) -> HashMap<&'a str, Option<usize>> {
    let mut places: HashMap<&str, Option<usize>> = HashMap::new();
    for (place, sample) in samples {
        let questions: BTreeSet<&str> = sample.questions.iter().map(|question| question.trim()).collect();
        for question in questions.into_iter().filter(|question| !question.is_empty()) {
            places.entry(question).and_modify(|place| *place = None).or_insert(Some(place));
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(id: &str, questions: &[&str]) -> Sample {
        let questions = questions.iter().map(|question| (*question).to_owned()).collect();
        Sample { id: id.to_owned(), questions, ..Sample::default() }
    }

    #[test]
    fn items_are_paired_by_id_and_then_by_question() {
        let first = [asked("1", &["Why?"]), asked("2", &["How? "]), asked("3", &[]), asked("9", &["Twice"])];
        let second = [
            asked("1", &["Who?", "Q: Who? A:"]),
            asked("x", &["How?", "Q: How? A:"]),
            asked("3", &["What?"]),
            asked("y", &["Twice"]),
            asked("z", &["Twice"]),
        ];
        let found = pair(&first, &second);
        let ids: Vec<[&str; 2]> = found.pairs.iter().map(|(a, b)| [a.id.as_str(), b.id.as_str()]).collect();
        assert_eq!(ids, [["2", "x"], ["3", "3"]]);
        assert_eq!((found.by_question, found.other_question), (1, 1));
        // The harness's document holds the question alone, Solon's row what stood around it.
        let whole = [asked("1", &["Q: Why?\nA:"])];
        assert_eq!(pair(&whole, &first).pairs.len(), 1);
    }
}
