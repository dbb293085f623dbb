//! `by-kind`: labels pairs by the kind of their prompt, without a labeller. A harmful request is better declined, any other
//! better answered; so a pair says which answer is better where exactly one of the two declines, and is dropped elsewhere.

use super::respond::fault;
use super::{Data, Input, Kind, OneOrMany, Preflight, Stage, parse};
use crate::cli::UsageError;
use crate::items::{Labelled, preference_text};
use crate::run::{Reader, StageRun};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_data::ledger::NewItem;
use solon_eval::declines;
use solon_records::{Pair, Prompt};
use std::collections::BTreeMap;

pub const KIND: Kind = Kind {
    name: "by-kind",
    about: "Labels pairs of which one answer declines by the kind of their prompt.",
    parse: parse::<ByKind>,
    files: Vec::new,
};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ByKind {
    /// Pairs of answers to prompts whose kind is known.
    #[serde(default, skip_serializing)]
    pairs: OneOrMany,
}

/// What the better answer to a prompt does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// It declines.
    Declines,
    /// It helps.
    Helps,
}

/// Kinds of prompts for which it is known what the better answer does.
const KINDS: [(&str, Better); 4] = [
    ("harmful", Better::Declines),
    ("harmless", Better::Helps),
    ("sounds-harmful", Better::Helps),
    ("mixed", Better::Helps),
];

impl Better {
    /// What the better answer to a prompt does, by its kind.
    ///
    /// # Errors
    /// A prompt without a kind, or of one that does not say.
    pub fn of(prompt: &Prompt) -> Result<Self> {
        let kind = prompt.kind.as_deref();
        if let Some((_, better)) = KINDS.iter().find(|(known, _)| kind == Some(*known)) {
            return Ok(*better);
        }
        let found = match kind {
            Some(kind) => format!("the kind `{kind}`"),
            None => "no kind".to_owned(),
        };
        let known = KINDS.map(|(kind, _)| kind).join(", ");
        bail!(
            "the prompt `{}` has {found}, so it is not known whether a good answer declines\n\
             hint: give its row a `kind`, one of {known}, or leave it out by `kinds`",
            prompt.id
        )
    }

    /// What the better answer to a prompt of the run does, if there is such a prompt and its kind says so.
    pub fn of_id(read: &Reader<'_>, prompt_id: &str) -> Result<Option<Self>> {
        Ok(read.prompt(prompt_id)?.and_then(|prompt| Self::of(&prompt).ok()))
    }
}

impl Stage for ByKind {
    fn inputs(&self) -> Vec<Input> {
        vec![Input::required("pairs", &self.pairs, &[Data::Pairs])]
    }

    fn output(&self) -> Data {
        Data::Preferences
    }

    fn settings(&self) -> Value {
        json!(self)
    }

    fn preflight(&self, preflight: &Preflight<'_>) -> Result<Vec<String>> {
        for name in (preflight.names)("pairs") {
            if (preflight.names_of)(&name, "prompts").is_empty() {
                let what = format!(
                    "pairs = \"{name}\": the kinds of its prompts are not known\n\
                     hint: name a stage `sample`, or label these pairs with a stage `label`"
                );
                return Err(UsageError(what).into());
            }
            for stage in (preflight.inputs_of)(&name, "prompts") {
                for prompt in stage.prompts().transpose()?.unwrap_or_default() {
                    Better::of(&prompt)?;
                }
            }
        }
        Ok(Vec::new())
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let read = run.read();
        let pairs = read.pairs("pairs")?;
        let several = read.input("pairs").len() > 1;
        let mut items = Vec::new();
        let mut kept: BTreeMap<String, usize> = BTreeMap::new();
        for (place, pair) in (0..).zip(pairs) {
            let prompt = pair.prompt_id.as_deref().map(|id| read.prompt(id)).transpose()?.flatten();
            let prompt = prompt.with_context(|| format!("the prompt of `{}` is not in the run", pair.id))?;
            let better = Better::of(&prompt)?;
            let dropped = undecided(&pair.data, better);
            // Two stages may have sampled answers to the same prompts.
            let id = run.id(if several { &pair.id } else { &pair.data.id });
            let probability = f64::from(declines(&pair.data.first) == (better == Better::Declines));
            let preference = pair.data.labelled(probability, "kind");
            let text = preference_text(&preference);
            let labelled = Labelled::given(Some(prompt.id.clone()), preference);
            let mut item = NewItem::of(id, place, text, &labelled)?.parent(pair.id, "pair");
            if dropped.is_none() {
                *kept.entry(prompt.kind.unwrap_or_default()).or_default() += 1;
            }
            item.dropped_reason = dropped;
            item.prompt_id = Some(prompt.id);
            items.push(item);
        }
        run.insert(&items)?;
        Ok(json!({"pairs": items.len(), "kept": kept, "dropped": run.drops()?}))
    }
}

/// Why a pair does not say which of its answers is better, if it does not.
fn undecided(pair: &Pair, better: Better) -> Option<String> {
    let [first, second] = [&pair.first, &pair.second].map(|answer| declines(answer));
    if first == second {
        return Some(if first { "both answers decline" } else { "neither answer declines" }.to_owned());
    }
    // What is preferred is learnt, so it must be usable text.
    let chosen = if first == (better == Better::Declines) { &pair.first } else { &pair.second };
    fault(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use solon_records::Message;

    #[test]
    fn a_pair_decides_where_one_answer_declines() {
        let (no, yes) = ("I can't help with that.", "Sure. Start with the lock.");
        let loops = "so so so ".repeat(20);
        for (first, second, better, expected) in [
            (no, yes, Better::Declines, None),
            (yes, no, Better::Helps, None),
            (no, no, Better::Declines, Some("both answers decline")),
            (yes, &loops, Better::Helps, Some("neither answer declines")),
            (&loops, no, Better::Declines, None),
            (&loops, no, Better::Helps, Some("loop")),
        ] {
            let pair = Pair {
                id: "p".to_owned(),
                prompt: vec![Message::user("?")],
                first: first.to_owned(),
                second: second.to_owned(),
                cut_off: [false; 2],
                principle_id: None,
            };
            assert_eq!(undecided(&pair, better).as_deref(), expected, "{first} / {second}");
        }
    }

    #[test]
    fn a_kind_says_what_is_better_or_is_refused() {
        let prompt = |kind: Option<&str>| Prompt {
            id: "p".to_owned(),
            messages: vec![Message::user("?")],
            kind: kind.map(str::to_owned),
            category: None,
            pair: None,
        };
        assert_eq!(Better::of(&prompt(Some("harmful"))).unwrap(), Better::Declines);
        assert_eq!(Better::of(&prompt(Some("sounds-harmful"))).unwrap(), Better::Helps);
        for (kind, part) in [(None, "has no kind"), (Some("red_team"), "the kind `red_team`")] {
            let error = Better::of(&prompt(kind)).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("hint: "), "{error}");
        }
    }
}
