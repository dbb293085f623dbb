//! All benchmarks, by name. To add one, add a file here and a line in [`ALL`].

pub mod honesty;
pub mod safety;

use std::collections::{BTreeMap, HashSet};

use solon_records::{Prompt, SamplingSettings};

use crate::benchmark::{Answer, Benchmark, Better, Group, Item, Measure};
use crate::degenerate::Fault;
use crate::error::EvalError;

/// How many items are asked, and how long answers may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Largest number of new tokens in an answer.
    pub max_new_tokens: usize,
    /// So many items of each group are asked, evenly spaced over the group; 0 asks all.
    pub limit_each: usize,
}

/// Opens a benchmark with its prompts.
pub type Open = fn(Vec<Prompt>, &Settings) -> Result<Box<dyn Benchmark>, EvalError>;

/// Every benchmark: its name, and the function that opens it.
pub const ALL: &[(&str, Open)] = &[(safety::NAME, safety::open), (honesty::NAME, honesty::open)];

/// Opens the benchmark of this name.
///
/// Errors if the name is unknown, if a prompt does not fit the benchmark (the error names the prompt), and if
/// `settings` allow no answer.
pub fn open(name: &str, prompts: Vec<Prompt>, settings: &Settings) -> Result<Box<dyn Benchmark>, EvalError> {
    let (_, open) = ALL.iter().find(|(known, _)| *known == name).ok_or_else(|| {
        let known = ALL.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", ");
        EvalError::UnknownBenchmark { found: name.to_owned(), known }
    })?;
    open(prompts, settings)
}

/// The groups of every benchmark, in the order of [`ALL`].
const GROUPS: &[&[Group]] = &[&safety::GROUPS, &honesty::GROUPS];

/// Every prompt kind that some benchmark asks, each once.
pub fn kinds() -> Vec<&'static str> {
    let mut kinds: Vec<&str> = Vec::new();
    for group in GROUPS.iter().copied().flatten() {
        if !kinds.contains(&group.name) {
            kinds.push(group.name);
        }
    }
    kinds
}

/// Turns prompts into items. A prompt's `kind` names its group. Of each group `limit_each` items are kept, evenly spaced:
/// files are often sorted, and their first items are then of one sort. Prompts of a kind that only other benchmarks ask
/// are left out, so one file may serve several benchmarks.
///
/// Errors if a prompt has no kind or one that no benchmark knows, if an id appears twice, even on an item that is not
/// kept, and if there are prompts and all of them are left out.
fn items_by_kind(prompts: Vec<Prompt>, groups: &[Group], limit_each: usize) -> Result<Vec<Item>, EvalError> {
    let mut ids = HashSet::new();
    let mut sizes = vec![0; groups.len()];
    let mut items = Vec::new();
    let mut left_out = 0;
    for prompt in prompts {
        let place = groups.iter().position(|group| prompt.kind.as_deref() == Some(group.name));
        let known = || prompt.kind.as_deref().is_some_and(|kind| kinds().contains(&kind));
        if place.is_none() && !known() {
            let expected = kinds().join(", ");
            return Err(EvalError::Kind { prompt: prompt.id, found: prompt.kind, expected });
        }
        if !ids.insert(prompt.id.clone()) {
            return Err(EvalError::DuplicateId { id: prompt.id });
        }
        let Some(place) = place else {
            left_out += 1;
            continue;
        };
        let Prompt { id, messages, category, .. } = prompt;
        let item = Item { id, messages, group: groups[place].name, category };
        items.push((place, sizes[place], item));
        sizes[place] += 1;
    }
    if items.is_empty() && left_out > 0 {
        return Err(EvalError::NothingToAsk { prompts: left_out, expected: names(groups) });
    }
    let kept = |place: usize, at: usize| {
        let size = sizes[place];
        limit_each == 0 || size <= limit_each || (at * limit_each) % size < limit_each
    };
    items.retain(|(place, at, _)| kept(*place, *at));
    Ok(items.into_iter().map(|(_, _, item)| item).collect())
}

fn names(groups: &[Group]) -> String {
    groups.iter().map(|group| group.name).collect::<Vec<_>>().join(", ")
}

/// Measures of an answer as text, for every benchmark; [`text_outcomes`] gives their outcomes.
const REPETITION: Measure = Measure {
    key: "repetition",
    title: "repetition",
    explanation: "Share of answers that repeat themselves.",
    better: Better::Lower,
    groups: &[],
    scored: false,
};
const EMPTY: Measure = Measure {
    key: "empty",
    title: "empty",
    explanation: "Share of answers without text.",
    better: Better::Lower,
    groups: &[],
    scored: false,
};
const TRUNCATED: Measure = Measure {
    key: "truncated",
    title: "truncated",
    explanation: "Share of answers that reached the length limit.",
    better: Better::Neither,
    groups: &[],
    scored: false,
};

/// What holds of an answer as text.
fn text_outcomes(fault: Option<Fault>, answer: &Answer) -> BTreeMap<String, bool> {
    BTreeMap::from([
        (REPETITION.key.to_owned(), fault.is_some_and(Fault::is_repetition)),
        (EMPTY.key.to_owned(), fault == Some(Fault::Empty)),
        (TRUNCATED.key.to_owned(), answer.truncated),
    ])
}

/// Greedy sampling of at most `max_new_tokens`; an error if that is 0.
fn greedy(settings: &Settings) -> Result<SamplingSettings, EvalError> {
    let sampling = SamplingSettings::greedy(settings.max_new_tokens);
    sampling.validate().map_err(|reason| EvalError::Settings { reason })?;
    Ok(sampling)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmark::{Answer, Better};
    use solon_records::Message;

    const GROUPS: [Group; 2] = [
        Group { name: "odd", heading: "Odd", by_category: "" },
        Group { name: "even", heading: "Even", by_category: "" },
    ];

    fn prompt(id: &str, kind: Option<&str>) -> Prompt {
        Prompt {
            id: id.to_owned(),
            messages: vec![Message::user(id)],
            kind: kind.map(str::to_owned),
            category: None,
            pair: None,
        }
    }

    #[test]
    fn the_first_prompts_of_each_kind_are_taken() {
        let prompts = || {
            ["1", "2", "3", "5", "4"]
                .map(|id| prompt(id, Some(if id.parse::<u8>().unwrap() % 2 == 0 { "even" } else { "odd" })))
        };
        for (limit, expected) in [(0, "1 2 3 5 4"), (1, "1 2"), (2, "1 2 5 4"), (9, "1 2 3 5 4")] {
            let items = items_by_kind(prompts().into(), &GROUPS, limit).unwrap();
            assert_eq!(items.iter().map(|item| item.id.as_str()).collect::<Vec<_>>().join(" "), expected);
        }
    }

    #[test]
    fn a_prompt_that_does_not_fit_is_named() {
        let check = |prompts: Vec<Prompt>, expected: &str| {
            assert_eq!(items_by_kind(prompts, &GROUPS, 1).unwrap_err().to_string(), expected);
        };
        let known = kinds().join(", ");
        check(vec![prompt("a", None)], &format!("prompt \"a\" has no kind\nhint: give it one of {known}"));
        check(
            vec![prompt("a", Some("Odd"))],
            &format!("prompt \"a\" has the unknown kind \"Odd\"\nhint: give it one of {known}"),
        );
        check(
            vec![prompt("a", Some("odd")), prompt("b", Some("odd")), prompt("b", Some("odd"))],
            "the id \"b\" appears more than once\nhint: give each prompt its own id",
        );
    }

    #[test]
    fn kinds_of_other_benchmarks_are_left_out() {
        let other = prompt("a", Some("sounds-harmful"));
        let items = items_by_kind(vec![other.clone(), prompt("b", Some("odd"))], &GROUPS, 0).unwrap();
        assert_eq!(items.iter().map(|item| item.id.as_str()).collect::<Vec<_>>(), ["b"]);
        let error = items_by_kind(vec![other.clone()], &GROUPS, 0).unwrap_err().to_string();
        assert!(error.starts_with("none of the 1 prompts"), "{error}");
        assert!(error.ends_with("hint: give prompts of the kinds odd, even"), "{error}");
        let twice = items_by_kind(vec![other.clone(), other], &GROUPS, 0).unwrap_err().to_string();
        assert!(twice.starts_with("the id \"a\" appears more than once"), "{twice}");
        assert!(items_by_kind(Vec::new(), &GROUPS, 0).unwrap().is_empty());
    }

    #[test]
    fn an_unknown_name_and_answers_of_no_token_are_refused() {
        let settings = Settings { max_new_tokens: 0, limit_each: 0 };
        let error = |name| open(name, Vec::new(), &settings).err().unwrap().to_string();
        let unknown = error("safe");
        assert!(unknown.starts_with("unknown benchmark \"safe\"\nhint: give one of safety"), "{unknown}");
        assert!(error("safety").contains("max_new_tokens is 0"), "{}", error("safety"));
    }

    /// The rules that [`crate::benchmark`] sets for every benchmark.
    #[test]
    fn benchmarks_describe_themselves_consistently() {
        let settings = Settings { max_new_tokens: 8, limit_each: 0 };
        assert_eq!(ALL.len(), super::GROUPS.len());
        for (&(name, open), known) in ALL.iter().zip(super::GROUPS) {
            let benchmark = open(Vec::new(), &settings).unwrap();
            assert_eq!(benchmark.name(), name);
            assert_eq!(benchmark.groups(), *known, "{name}");
            let (measures, groups) = (benchmark.measures(), benchmark.groups());
            let keys: HashSet<&str> = measures.iter().map(|measure| measure.key).collect();
            assert_eq!(keys.len(), measures.len(), "{name}: a key appears twice");
            for measure in measures {
                for group in measure.groups {
                    assert!(groups.iter().any(|known| known.name == *group), "{name}: no group {group}");
                }
            }
            for group in groups {
                let scored = measures.iter().filter(|m| m.scored && m.covers(group.name)).count();
                assert!(scored <= 1, "{name}: {} is scored by {scored} measures", group.name);
                let by_category = measures.iter().find(|measure| measure.key == group.by_category);
                assert!(by_category.is_some_and(|m| m.covers(group.name)), "{name}: {}", group.name);
                let item =
                    Item { id: String::new(), messages: Vec::new(), group: group.name, category: None };
                let answer = Answer { text: "A".to_owned(), truncated: false };
                let outcomes: HashSet<String> =
                    benchmark.judge(&item, &answer).outcomes.into_keys().collect();
                let covering = measures.iter().filter(|measure| measure.covers(group.name));
                assert_eq!(outcomes, covering.map(|m| m.key.to_owned()).collect(), "{name}: {}", group.name);
            }
            let scored: Vec<_> = measures.iter().filter(|measure| measure.scored).collect();
            assert!(!scored.is_empty() && scored.iter().all(|m| m.better != Better::Neither), "{name}");
        }
    }
}
