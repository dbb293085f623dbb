//! `sample`: a model answers each prompt several times, in pairs to be labelled.
//!
//! With `differ = "verdict"` a pair has one answer that declines and one that helps: what two refusals differ in is not what
//! is to be learnt, and training on such pairs moves probability to answers of neither kind (Razin et al. 2024, 2410.08847).

use super::respond::{fault, request};
use super::{Data, Input, Kind, OneOrMany, Stage, base, parse};
use crate::feedback_model::LocalModel;
use crate::items::{Answer, pair_text};
use crate::report::Report;
use crate::run::{Reader, StageRun};
use anyhow::{Context, Result};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use solon_data::ledger::{ItemKind, NewItem};
use solon_draws::Draws;
use solon_eval::declines;
use solon_feedback::{GenerateRequest, Generated};
use solon_records::{Pair, Prompt, SamplingSettings};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

pub const KIND: Kind = Kind {
    name: "sample",
    about: "A model answers each prompt several times.",
    parse: parse::<Sample>,
    files: Vec::new,
};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    /// The model that answers.
    #[serde(default = "base", skip_serializing)]
    from: String,
    /// What it answers; of several inputs one prompt of each in turn.
    #[serde(default, skip_serializing)]
    prompts: OneOrMany,
    /// How answers are sampled.
    #[serde(deserialize_with = "super::settings::sampling")]
    sampling: SamplingSettings,
    /// Answers to each prompt.
    #[serde(default = "two", deserialize_with = "some_answers")]
    answers: usize,
    /// In what the answers of a pair must differ; without it, in their text.
    differ: Option<Differ>,
    /// Most pairs made of a prompt's answers.
    #[serde(default = "one")]
    pairs_each: NonZeroUsize,
}

/// In what the two answers of a pair must differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Differ {
    /// One declines, the other helps.
    Verdict,
}

fn two() -> usize {
    2
}

fn one() -> NonZeroUsize {
    NonZeroUsize::MIN
}

/// The answers' names in ids.
const SIDES: [&str; 16] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];

fn some_answers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let answers = usize::deserialize(deserializer)?;
    match (2..=SIDES.len()).contains(&answers) {
        true => Ok(answers),
        false => Err(D::Error::custom(format!("{answers} answers; give from 2 to {}", SIDES.len()))),
    }
}

impl Stage for Sample {
    fn inputs(&self) -> Vec<Input> {
        vec![
            Input::required("from", [self.from.clone()], &[Data::Model]),
            Input::required("prompts", &self.prompts, &[Data::Prompts]),
        ]
    }

    fn output(&self) -> Data {
        Data::Pairs
    }

    fn settings(&self) -> Value {
        json!(self)
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let prompts = run.read().prompts("prompts")?;
        let policy = run.read().model("from")?;
        let model = LocalModel::new(&policy.chat, policy.adapter.as_ref(), run.slots());
        let (name, draws) = (run.name().to_owned(), run.draws());
        let sides = &SIDES[..self.answers];
        let id = |prompt: &Prompt| self.pair_id(&format!("{name}/{}", prompt.id), 0);
        run.in_chunks("pairs", &prompts, ItemKind::Pair, id, |_, todo| {
            let requests: Vec<GenerateRequest> = todo
                .iter()
                .flat_map(|(_, prompt)| sides.iter().map(move |side| (prompt, side)))
                .map(|(prompt, side)| GenerateRequest {
                    id: format!("{}/{side}", prompt.id),
                    ..request(prompt)
                })
                .collect();
            let answers = model.generate(&requests, &self.sampling, draws, &mut |_| {})?;
            let mut items = Vec::new();
            for ((place, prompt), answers) in todo.iter().zip(answers.chunks(self.answers)) {
                items.extend(self.items(&name, *place, prompt, answers, draws)?);
            }
            Ok(items)
        })?;
        let kinds = self.kinds(&run.read())?;
        let pairs = run.read().own_ids(ItemKind::Pair)?.len();
        Ok(json!({"pairs": pairs, "kinds": kinds, "dropped": run.drops()?}))
    }

    fn report(&self, read: &Reader<'_>, report: &mut Report) -> Result<()> {
        if self.differ.is_none() {
            return Ok(());
        }
        let kinds: BTreeMap<String, OfKind> = serde_json::from_value(read.detail()?["kinds"].clone())?;
        let parts: Vec<String> = kinds
            .iter()
            .map(|(kind, of)| {
                let (percent, pairs) = (100.0 * of.share_declined, of.paired);
                format!(
                    "{kind}, {percent:.0} % of {} answers decline, and {pairs} of {} prompts give a pair",
                    of.samples, of.prompts
                )
            })
            .collect();
        report.notes.push(format!("{}: by the kind of prompt: {}.", read.name(), parts.join("; ")));
        Ok(())
    }

    fn summary(&self, read: &Reader<'_>, summary: &mut Map<String, Value>) -> Result<()> {
        let samples = summary.entry("samples").or_insert_with(|| json!({}));
        samples[read.name()] = read.detail()?["kinds"].clone();
        Ok(())
    }
}

/// What a model's answers to prompts of one kind did.
#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
struct OfKind {
    /// Prompts.
    prompts: usize,
    /// Prompts of whose answers a pair was made.
    paired: usize,
    /// Prompts without a pair, because all usable answers decline.
    all_decline: usize,
    /// Prompts without a pair, because all usable answers help.
    all_help: usize,
    /// Answers that are not degenerate.
    samples: usize,
    /// The share of these that decline: on harmful prompts the more the better, on others the fewer.
    share_declined: f64,
}

/// Why a prompt has no pair.
const ALL_DECLINE: &str = "all answers alike: they decline";
const ALL_HELP: &str = "all answers alike: they help";

impl Sample {
    /// The id of a pair of a prompt's answers; numbered where a prompt may have several.
    fn pair_id(&self, prompt_id: &str, number: usize) -> String {
        match self.pairs_each.get() {
            1 => prompt_id.to_owned(),
            _ => format!("{prompt_id}/{}", number + 1),
        }
    }

    /// A prompt's answers and their pairs as the ledger holds them. The first pair is always there, if need be as dropped.
    fn items(
        &self,
        stage: &str,
        place: u64,
        prompt: &Prompt,
        answers: &[Generated],
        draws: Draws,
    ) -> Result<Vec<NewItem>> {
        let mut items = Vec::new();
        for (answer, side) in answers.iter().zip(SIDES) {
            let data = Answer::to(prompt, answer.truncated);
            let id = format!("{stage}/{}/{side}", prompt.id);
            let mut item = NewItem::of(id, place, &answer.text, &data)?.parent(prompt.id.clone(), "prompt");
            item.prompt_id = Some(prompt.id.clone());
            items.push(item);
        }
        let texts: Vec<&str> = answers.iter().map(|answer| answer.text.as_str()).collect();
        let (pairs, dropped) = match self.pairs(&texts, draws.item("pairs").item(&prompt.id)) {
            Ok(pairs) => (pairs, None),
            Err(reason) => (vec![[0, 1]], Some(reason.to_owned())),
        };
        for (number, [first, second]) in pairs.into_iter().enumerate() {
            let pair = Pair {
                id: self.pair_id(&prompt.id, number),
                prompt: prompt.messages.clone(),
                first: texts[first].to_owned(),
                second: texts[second].to_owned(),
                cut_off: [answers[first].truncated, answers[second].truncated],
                principle_id: None,
            };
            let id = format!("{stage}/{}", pair.id);
            let mut item = NewItem::of(id, place, pair_text(&pair), &pair)?
                .parent(items[first].id.clone(), "first")
                .parent(items[second].id.clone(), "second");
            item.prompt_id = Some(prompt.id.clone());
            item.dropped_reason = dropped.clone();
            items.push(item);
        }
        Ok(items)
    }

    /// Which of a prompt's answers are paired, by their places, the earlier answer first; or why none are.
    fn pairs(&self, texts: &[&str], draws: Draws) -> Result<Vec<[usize; 2]>, &'static str> {
        let mut pairs = match self.differ {
            None => any_pairs(texts, draws),
            Some(Differ::Verdict) => differing_pairs(texts, draws),
        }?;
        pairs.truncate(self.pairs_each.get());
        Ok(pairs)
    }

    /// What the answers did, by the kind of their prompt.
    fn kinds(&self, read: &Reader<'_>) -> Result<BTreeMap<String, OfKind>> {
        let prompts = read.prompts("prompts")?;
        let kind_of: BTreeMap<&str, &str> = prompts
            .iter()
            .map(|prompt| (prompt.id.as_str(), prompt.kind.as_deref().unwrap_or("unknown")))
            .collect();
        let kind = |id: Option<&str>| id.and_then(|id| kind_of.get(id)).context("the prompt is an input");
        let mut kinds: BTreeMap<String, OfKind> = BTreeMap::new();
        for prompt in &prompts {
            kinds.entry((*kind(Some(&prompt.id))?).to_owned()).or_default().prompts += 1;
        }
        let mut declined: BTreeMap<&str, usize> = BTreeMap::new();
        for answer in read.own_with_dropped::<Answer>()? {
            if fault(&answer.text).is_none() {
                let kind = kind(Some(&answer.data.prompt_id))?;
                kinds.entry((*kind).to_owned()).or_default().samples += 1;
                *declined.entry(kind).or_default() += usize::from(declines(&answer.text));
            }
        }
        for pair in read.own_with_dropped::<Pair>()? {
            let of = kinds.entry((*kind(pair.prompt_id.as_deref())?).to_owned()).or_default();
            match pair.dropped_reason.as_deref() {
                Some(ALL_DECLINE) => of.all_decline += 1,
                Some(ALL_HELP) => of.all_help += 1,
                Some(_) => {}
                // The first of a prompt's pairs stands for the prompt.
                None if self.pair_id(pair.prompt_id.as_deref().unwrap_or_default(), 0) == pair.data.id => {
                    of.paired += 1;
                }
                None => {}
            }
        }
        for (kind, of) in &mut kinds {
            let declined = declined.get(kind.as_str()).copied().unwrap_or(0);
            of.share_declined = declined as f64 / of.samples.max(1) as f64;
        }
        Ok(kinds)
    }
}

/// Pairs of different answers of which not both are degenerate, drawn by key; no two pairs have the same texts.
fn any_pairs(texts: &[&str], draws: Draws) -> Result<Vec<[usize; 2]>, &'static str> {
    let faults: Vec<bool> = texts.iter().map(|text| fault(text).is_some()).collect();
    let all: Vec<[usize; 2]> =
        (0..texts.len()).flat_map(|second| (0..second).map(move |first| [first, second])).collect();
    let mut pairs: Vec<[usize; 2]> = Vec::new();
    let mut dropped = "identical";
    for place in draws.permutation(all.len()) {
        let [first, second] = all[place];
        let same = |pair: &[usize; 2]| {
            let known = pair.map(|at| texts[at]);
            known == [texts[first], texts[second]] || known == [texts[second], texts[first]]
        };
        if texts[first] == texts[second] || pairs.iter().any(same) {
            continue;
        }
        match faults[first] && faults[second] {
            true => dropped = "both degenerate",
            false => pairs.push([first, second]),
        }
    }
    if pairs.is_empty() { Err(dropped) } else { Ok(pairs) }
}

/// Pairs of an answer that declines and one that helps, drawn by key; answers are used again only when all were used.
fn differing_pairs(texts: &[&str], draws: Draws) -> Result<Vec<[usize; 2]>, &'static str> {
    let usable = (0..texts.len()).filter(|at| fault(texts[*at]).is_none());
    let (declining, helping): (Vec<usize>, Vec<usize>) = usable.partition(|at| declines(texts[*at]));
    match (declining.len(), helping.len()) {
        (0, 0) => return Err("all answers degenerate"),
        (_, 0) => return Err(ALL_DECLINE),
        (0, _) => return Err(ALL_HELP),
        _ => {}
    }
    let drawn = |answers: Vec<usize>, key: &str| -> Vec<usize> {
        draws.item(key).permutation(answers.len()).into_iter().map(|place| answers[place]).collect()
    };
    let (declining, helping) = (drawn(declining, "declining"), drawn(helping, "helping"));
    let mut pairs = Vec::new();
    // Turned against each other by one more place in each round: every pair comes once.
    let longer = declining.len().max(helping.len());
    for round in 0..declining.len().min(helping.len()) {
        for step in 0..longer {
            let (d, h) = match declining.len() >= helping.len() {
                true => (step, step + round),
                false => (step + round, step),
            };
            let pair = [declining[d % declining.len()], helping[h % helping.len()]];
            pairs.push([pair[0].min(pair[1]), pair[0].max(pair[1])]);
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const NO: [&str; 3] = ["I can't help with that.", "I won't do that.", "No, I can't help you with that."];
    const YES: [&str; 3] = ["Sure. Start with the lock.", "Of course: oil it.", "Turn the key to the left."];

    fn sample(keys: &str) -> Result<Sample, String> {
        toml::from_str(&format!("sampling = {{ max_new_tokens = 4 }}\n{keys}")).map_err(|e| e.to_string())
    }

    fn pairs(keys: &str, texts: &[&str], seed: u64) -> Result<Vec<[usize; 2]>, &'static str> {
        sample(keys).unwrap().pairs(texts, Draws::new(seed, "sample"))
    }

    #[test]
    fn pairs_that_differ_have_one_refusal() {
        let loops = "so so so ".repeat(20);
        let differ = "differ = \"verdict\"\npairs_each = 16";
        let check = |texts: &[&str], expected| assert_eq!(pairs(differ, texts, 1), expected, "{texts:?}");
        check(&[NO[0], YES[0]], Ok(vec![[0, 1]]));
        check(&[YES[0], &loops, NO[0]], Ok(vec![[0, 2]]));
        check(&[NO[0], NO[1], &loops], Err(ALL_DECLINE));
        check(&[YES[0], YES[1], &loops], Err(ALL_HELP));
        check(&[&loops, ""], Err("all answers degenerate"));
        for (no, yes) in [(2, 3), (3, 2), (3, 3), (1, 3)] {
            let texts: Vec<&str> = NO[..no].iter().chain(&YES[..yes]).copied().collect();
            let all = pairs(differ, &texts, 1).unwrap();
            assert!(all.iter().all(|[first, second]| *first < no && *second >= no), "{all:?}");
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), no * yes, "{all:?}");
            assert_eq!(all.len(), no * yes);
            // The shorter side's answers are all used before one of them is used again.
            let (first, short) = (&all[..no.min(yes)], no.min(yes));
            let distinct = |side: usize| first.iter().map(|pair| pair[side]).collect::<BTreeSet<_>>().len();
            assert_eq!([distinct(0), distinct(1)], [short; 2], "{all:?}");
        }
        let one = "differ = \"verdict\"\nanswers = 6";
        let texts: Vec<&str> = NO.into_iter().chain(YES).collect();
        let drawn: BTreeSet<Vec<[usize; 2]>> =
            (0..40).map(|seed| pairs(one, &texts, seed).unwrap()).collect();
        assert!(drawn.len() > 5 && drawn.iter().all(|pairs| pairs.len() == 1), "{drawn:?}");
    }

    #[test]
    fn pairs_without_a_condition_differ_in_text() {
        let loops = "so so so ".repeat(20);
        let check = |texts: &[&str], expected: Result<Vec<[usize; 2]>, _>| {
            assert_eq!(pairs("", texts, 1), expected, "{texts:?}");
        };
        check(&["a", "b"], Ok(vec![[0, 1]]));
        check(&["a", "a"], Err("identical"));
        check(&["a", &loops], Ok(vec![[0, 1]]));
        check(&["", &loops], Err("both degenerate"));
        let many = pairs("answers = 4\npairs_each = 9", &["a b", "c d", "a b", "e f"], 1).unwrap();
        assert_eq!(many.len(), 3, "{many:?}");
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for bad in ["answers = 1", "answers = 17", "pairs_each = 0", "differ = \"words\""] {
            assert!(sample(bad).is_err(), "{bad}");
        }
        assert_eq!(sample("").unwrap().pair_id("p", 0), "p", "a prompt's only pair has the prompt's id");
        assert_eq!(sample("pairs_each = 2").unwrap().pair_id("p", 1), "p/2");
    }
}
