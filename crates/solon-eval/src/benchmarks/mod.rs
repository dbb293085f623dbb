//! All benchmarks, by name. To add one, add a file here and a line in [`ALL`].

pub mod harmbench;
pub mod hhh;
pub mod honesty;
pub mod ifeval;
pub mod mmlu;
pub mod mt_bench;
pub mod or_bench;
pub mod own;
pub mod perplexity;
pub mod safety;
pub mod strong_reject;
pub mod truthfulqa;
pub mod truthfulqa_gen;
pub mod xstest;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroUsize;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use solon_records::{Prompt, SamplingSettings};

use crate::benchmark::{Answer, Ask, Benchmark, Better, Group, Item, Measure, Outcome, Unit};
use crate::degenerate::Fault;
use crate::error::EvalError;

/// A benchmark's settings by key, as a recipe or a command gives them.
pub type Settings = serde_json::Map<String, serde_json::Value>;

/// How a benchmark is opened. An error names what does not fit: a setting, a prompt, a row.
pub enum Open {
    /// Over prompts; it asks those of its kinds.
    Prompts(fn(Vec<Prompt>, Settings) -> Result<Box<dyn Benchmark>, EvalError>),
    /// On published files: a file, or the folder that holds them.
    Files(fn(&Path, Settings) -> Result<Box<dyn Benchmark>, EvalError>),
}

/// A benchmark by its name.
pub struct Known {
    /// Its name on the command line and in recipes.
    pub name: &'static str,
    /// One sentence for lists.
    pub about: &'static str,
    /// What its data are; empty where it asks prompts.
    pub data: &'static str,
    /// Its groups of items. Of a benchmark over prompts they are the kinds of prompts it asks.
    pub groups: &'static [Group],
    /// Its settings that name a file or a folder: what counts of them is the content.
    pub files: &'static [&'static str],
    /// Opens it.
    pub open: Open,
}

/// Every benchmark.
pub const ALL: &[Known] = &[
    safety::KNOWN,
    honesty::KNOWN,
    mmlu::KNOWN,
    truthfulqa::KNOWN,
    truthfulqa_gen::KNOWN,
    ifeval::KNOWN,
    xstest::KNOWN,
    hhh::KNOWN,
    or_bench::KNOWN,
    harmbench::KNOWN,
    strong_reject::KNOWN,
    mt_bench::KNOWN,
    perplexity::KNOWN,
    own::KNOWN,
];

/// The benchmark of this name; the error lists those there are.
pub fn find(name: &str) -> Result<&'static Known, EvalError> {
    ALL.iter().find(|known| known.name == name).ok_or_else(|| {
        let known = ALL.iter().map(|known| known.name).collect::<Vec<_>>().join(", ");
        EvalError::UnknownBenchmark { found: name.to_owned(), known }
    })
}

/// Every prompt kind that some benchmark asks, each once.
pub fn kinds() -> Vec<&'static str> {
    let mut kinds: Vec<&str> = Vec::new();
    let over_prompts = ALL.iter().filter(|known| matches!(known.open, Open::Prompts(_)));
    for group in over_prompts.flat_map(|known| known.groups) {
        if !kinds.contains(&group.name) {
            kinds.push(group.name);
        }
    }
    kinds
}

/// Reads a benchmark's settings; a key that it does not have is refused.
fn read<T: DeserializeOwned>(benchmark: &str, settings: Settings) -> Result<T, EvalError> {
    serde_json::from_value(settings.into())
        .map_err(|error| EvalError::Settings { benchmark: benchmark.to_owned(), reason: error.to_string() })
}

/// The settings of a benchmark whose answers are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// Largest number of new tokens in an answer. Refusals are decided in the first words, but whether one goes on to
    /// help shows later.
    #[serde(default = "answer_length")]
    max_new_tokens: NonZeroUsize,
    /// So many items of each group are asked, evenly spaced over the group; 0 asks all.
    #[serde(default)]
    limit_each: usize,
    /// So many items are asked, from the start; 0 asks all.
    #[serde(default)]
    limit: usize,
}

fn answer_length() -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(127)
}

impl Written {
    /// Reads the settings, leaves the items that are to be asked, and says how they are: greedily.
    fn read(known: &Known, settings: Settings, items: &mut Vec<Item>) -> Result<SamplingSettings, EvalError> {
        let Self { max_new_tokens, limit_each, limit } = read(known.name, settings)?;
        evenly(items, known.groups, limit_each);
        first(items, limit);
        greedy(known, max_new_tokens.get())
    }
}

/// Greedy answers of at most so many tokens.
fn greedy(known: &Known, max_new_tokens: usize) -> Result<SamplingSettings, EvalError> {
    let sampling = SamplingSettings::greedy(max_new_tokens);
    let refused = |reason| EvalError::Settings { benchmark: known.name.to_owned(), reason };
    sampling.validate().map_err(refused)?;
    Ok(sampling)
}

/// The settings of a benchmark whose options are scored.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OverOptions {
    /// Whether the question is a user's turn in the model's chat template.
    #[serde(default = "yes")]
    template: bool,
    /// So many items are asked, from the start; 0 asks all.
    #[serde(default)]
    limit: usize,
}

fn yes() -> bool {
    true
}

impl OverOptions {
    fn ask(&self) -> Ask {
        Ask::Choose { template: self.template }
    }

    /// An option as it is scored; see [`option`].
    fn option(&self, text: &str) -> String {
        option(text, self.template)
    }

    /// In words, for the report.
    fn how(&self) -> &'static str {
        how(self.template)
    }
}

/// An option as it is scored: after plain text with one space before it; in a chat template it begins the answer.
fn option(text: &str, template: bool) -> String {
    if template { text.to_owned() } else { format!(" {text}") }
}

/// How questions are put, in words.
fn how(template: bool) -> &'static str {
    if template { "in the model's chat template" } else { "as plain text" }
}

/// JSONL, a row a line; the error names the line.
fn jsonl<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, EvalError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| EvalError::File { path: path.to_owned(), reason: error.to_string() })?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(place, line)| {
            serde_json::from_str(line).map_err(|error| EvalError::Row {
                path: path.to_owned(),
                line: place as u64 + 1,
                reason: error.to_string(),
            })
        })
        .collect()
}

/// What of a file was asked, for the report: nothing where all was.
fn part(limit: usize) -> String {
    if limit == 0 { String::new() } else { format!(" Only the first {limit} were asked.") }
}

/// Keeps the first `limit` items; all where it is 0.
fn first(items: &mut Vec<Item>, limit: usize) {
    if limit > 0 {
        items.truncate(limit);
    }
}

/// The place of each item by its id, where a benchmark keeps more of its items beside them.
fn places(items: &[Item]) -> HashMap<String, usize> {
    items.iter().enumerate().map(|(place, item)| (item.id.clone(), place)).collect()
}

/// Of each group `limit_each` items are kept, evenly spaced: files are often sorted, and their first items are then of one
/// sort. All are kept where it is 0.
fn evenly(items: &mut Vec<Item>, groups: &[Group], limit_each: usize) {
    for group in groups {
        let size = items.iter().filter(|item| item.group == group.name).count();
        if limit_each == 0 || size <= limit_each {
            continue;
        }
        let mut seen = 0;
        items.retain(|item| {
            if item.group != group.name {
                return true;
            }
            seen += 1;
            ((seen - 1) * limit_each) % size < limit_each
        });
    }
}

/// Turns prompts into items. A prompt's `kind` names its group. Prompts of a kind that only other benchmarks ask are left
/// out, so one file may serve several benchmarks.
///
/// Errors if a prompt has no kind or one that no benchmark knows, if an id appears twice, and if there are prompts and all
/// of them are left out.
fn items_by_kind(prompts: Vec<Prompt>, groups: &[Group]) -> Result<Vec<Item>, EvalError> {
    let mut ids = HashSet::new();
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
        items.push(Item { id, messages, group: groups[place].name, category, ..Item::default() });
    }
    if items.is_empty() && left_out > 0 {
        return Err(EvalError::NothingToAsk { prompts: left_out, expected: names(groups) });
    }
    Ok(items)
}

fn names(groups: &[Group]) -> String {
    groups.iter().map(|group| group.name).collect::<Vec<_>>().join(", ")
}

/// Measures of an answer as text, for every benchmark; [`text_outcomes`] gives their outcomes.
const REPETITION: Measure = Measure {
    key: "repetition",
    title: "repetition",
    explanation: "Share of answers that repeat themselves.",
    unit: Unit::Share,
    better: Better::Lower,
    groups: &[],
    scored: false,
};
const EMPTY: Measure = Measure {
    key: "empty",
    title: "empty",
    explanation: "Share of answers without text.",
    unit: Unit::Share,
    better: Better::Lower,
    groups: &[],
    scored: false,
};
const TRUNCATED: Measure = Measure {
    key: "truncated",
    title: "truncated",
    explanation: "Share of answers that reached the length limit.",
    unit: Unit::Share,
    better: Better::Neither,
    groups: &[],
    scored: false,
};

/// What holds of an answer as text.
fn text_outcomes(fault: Option<Fault>, answer: &Answer) -> BTreeMap<String, Outcome> {
    BTreeMap::from([
        (REPETITION.key.to_owned(), fault.is_some_and(Fault::is_repetition).into()),
        (EMPTY.key.to_owned(), (fault == Some(Fault::Empty)).into()),
        (TRUNCATED.key.to_owned(), answer.truncated.into()),
    ])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
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
            let mut items = items_by_kind(prompts().into(), &GROUPS).unwrap();
            evenly(&mut items, &GROUPS, limit);
            assert_eq!(items.iter().map(|item| item.id.as_str()).collect::<Vec<_>>().join(" "), expected);
        }
    }

    #[test]
    fn a_prompt_that_does_not_fit_is_named() {
        let check = |prompts: Vec<Prompt>, expected: &str| {
            assert_eq!(items_by_kind(prompts, &GROUPS).unwrap_err().to_string(), expected);
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
        let items = items_by_kind(vec![other.clone(), prompt("b", Some("odd"))], &GROUPS).unwrap();
        assert_eq!(items.iter().map(|item| item.id.as_str()).collect::<Vec<_>>(), ["b"]);
        let error = items_by_kind(vec![other.clone()], &GROUPS).unwrap_err().to_string();
        assert!(error.starts_with("none of the 1 prompts"), "{error}");
        assert!(error.ends_with("hint: give prompts of the kinds odd, even"), "{error}");
        let twice = items_by_kind(vec![other.clone(), other], &GROUPS).unwrap_err().to_string();
        assert!(twice.starts_with("the id \"a\" appears more than once"), "{twice}");
        assert!(items_by_kind(Vec::new(), &GROUPS).unwrap().is_empty());
    }

    #[test]
    fn unknown_names_and_settings_that_do_not_fit_are_refused() {
        let unknown = find("safe").err().unwrap().to_string();
        assert!(unknown.contains("safety, honesty, mmlu"), "{unknown}");
        for (key, value) in [("max_new_tokens", 0), ("limit_eac", 1), ("limit", -1)] {
            let settings = Settings::from_iter([(key.to_owned(), value.into())]);
            let error = safety::open(Vec::new(), settings).err().unwrap().to_string();
            assert!(error.starts_with("benchmark safety: "), "{error}");
        }
    }

    #[test]
    fn the_first_items_are_kept() {
        let kept = |limit| {
            let mut items = vec![Item::default(); 3];
            first(&mut items, limit);
            items.len()
        };
        assert_eq!([0, 1, 3, 9].map(kept), [3, 1, 3, 3]);
    }

    /// A folder of published data, where it is there; else the test says that it is skipped.
    pub(crate) fn shared_data(name: &str) -> Option<std::path::PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
        if !folder.is_dir() {
            eprintln!("skipped: there is no published data at {}", folder.display());
            return None;
        }
        Some(folder)
    }

    /// The rules that [`crate::benchmark`] sets for every benchmark.
    pub(crate) fn describes_itself_consistently(known: &Known, benchmark: &dyn Benchmark) {
        let name = known.name;
        assert_eq!(benchmark.name(), name);
        assert_eq!(benchmark.groups(), known.groups, "{name}");
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
            let options = vec![" A".to_owned(), " B".to_owned()];
            let item = Item { group: group.name, options, right: vec![0], ..Item::default() };
            let answer = match benchmark.ask() {
                Ask::Generate(_) => Answer::written("A".to_owned(), false),
                Ask::Choose { .. } => Answer::chosen(&item, vec![-1.0, -2.0], false),
            };
            let outcomes = benchmark.judge(&item, &answer).outcomes;
            let covering: Vec<_> = measures.iter().filter(|measure| measure.covers(group.name)).collect();
            let expected: HashSet<&str> = covering.iter().map(|measure| measure.key).collect();
            let found: HashSet<&str> = outcomes.keys().map(String::as_str).collect();
            assert_eq!(found, expected, "{name}: {}", group.name);
            for measure in covering {
                let fits = match outcomes[measure.key] {
                    Outcome::Number(_) => measure.unit != Unit::Share,
                    Outcome::Holds(_) => measure.unit == Unit::Share,
                    Outcome::Unknown => true,
                };
                assert!(fits, "{name}: {}", measure.key);
            }
        }
        let scored: Vec<_> = measures.iter().filter(|measure| measure.scored).collect();
        let fit = |m: &&Measure| m.better != Better::Neither && m.unit == Unit::Share;
        assert!(scored.iter().all(fit), "{name}");
    }

    #[test]
    fn benchmarks_over_prompts_describe_themselves_consistently() {
        for known in ALL {
            if let Open::Prompts(open) = known.open {
                describes_itself_consistently(known, &*open(Vec::new(), Settings::new()).unwrap());
            }
        }
    }
}
