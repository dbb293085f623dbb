//! `contrast`: pairs whose better answer is known by how they were made (RLCD, Yang et al. 2023; Open Character Training, Maiya
//! et al. 2025). Each prompt gets an answer that helps, which is the model's own, and one that declines, which the model writes
//! when its first words are put into its mouth, or which is the prompt's revision. To a harmful prompt the one that declines is
//! better, to any other the one that helps. Pairs that do not differ in declining are dropped: two answers that do the same
//! thing teach nothing.

use super::by_kind::Better;
use super::respond::{End, ask_again, fault, request};
use super::{Data, Input, Kind, OneOrMany, Preflight, Stage, base, parse};
use crate::cli::UsageError;
use crate::feedback_model::LocalModel;
use crate::items::{Labelled, preference_text};
use crate::run::{Reader, StageRun};
use anyhow::{Result, bail};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use solon_data::ledger::{ItemKind, NewItem};
use solon_draws::Draws;
use solon_feedback::GenerateRequest;
use solon_records::{Message, Pair, Prompt, SamplingSettings};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

pub const KIND: Kind = Kind {
    name: "contrast",
    about: "Pairs whose better answer is known: one answer declines, the other helps.",
    parse: parse::<Contrast>,
    files: Vec::new,
};

/// What a refusal may begin with. Several, or what is learnt is the first words and not the refusal.
const OPENINGS: [&str; 6] =
    ["I can't", "I won't", "I'm not able to", "Sorry, but I can't", "No, I can't", "I'm sorry, but I won't"];

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Contrast {
    /// The model that writes the answers that decline.
    #[serde(default = "base", skip_serializing)]
    from: String,
    /// The model whose answers help; the same where it is not given.
    #[serde(default, skip_serializing)]
    unforced: OneOrMany,
    /// Prompts whose kind says which answer is better.
    #[serde(default, skip_serializing)]
    prompts: OneOrMany,
    /// Revised answers: where one that declines was made of a prompt, it is the prompt's answer that declines.
    #[serde(default, skip_serializing)]
    revisions: OneOrMany,
    /// Only prompts of these kinds; all where it is not given.
    kinds: Option<Vec<String>>,
    /// Prompts that are used, from the start; all where it is not given.
    count: Option<NonZeroUsize>,
    /// What an answer that declines is made to begin with: one of these, drawn for each prompt.
    #[serde(default = "openings", deserialize_with = "some_openings")]
    openings: Vec<String>,
    /// How answers are sampled.
    #[serde(deserialize_with = "super::settings::sampling")]
    sampling: SamplingSettings,
    /// Where an answer that ran into the limit ends. A labeller that learns from these pairs must not tell the answers apart
    /// by which was cut off, so it needs the default.
    #[serde(default)]
    end: End,
    /// Answers that should help and evade are asked again up to so many times; the pair is dropped if they still do.
    #[serde(default)]
    retry_evasions: u32,
}

fn openings() -> Vec<String> {
    OPENINGS.map(str::to_owned).into()
}

fn some_openings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let openings = Vec::<String>::deserialize(deserializer)?;
    match openings.is_empty() || openings.iter().any(|opening| opening.trim().is_empty()) {
        true => Err(D::Error::custom("give at least one opening, and none that is empty")),
        false => Ok(openings),
    }
}

/// One answer of a pair.
struct Side {
    text: String,
    cut_off: bool,
}

/// The revision that a prompt's answer came to.
struct Revised {
    /// The item.
    id: String,
    side: Side,
}

impl Stage for Contrast {
    fn inputs(&self) -> Vec<Input> {
        vec![
            Input::required("from", [self.from.clone()], &[Data::Model]),
            Input::optional("unforced", &self.unforced, &[Data::Model]),
            Input::required("prompts", &self.prompts, &[Data::Prompts]),
            Input::optional("revisions", &self.revisions, &[Data::Answers]),
        ]
    }

    fn output(&self) -> Data {
        Data::Preferences
    }

    fn settings(&self) -> Value {
        json!(self)
    }

    fn preflight(&self, preflight: &Preflight<'_>) -> Result<Vec<String>> {
        for stage in (preflight.names)("revisions") {
            if (preflight.names_of)(&stage, "critic").is_empty() {
                let what =
                    format!("revisions = \"{stage}\": that stage revises nothing\nhint: name a revise stage");
                return Err(UsageError(what).into());
            }
        }
        for stage in (preflight.inputs)("prompts") {
            let prompts = stage.prompts().transpose()?.unwrap_or_default();
            prompts.iter().filter(|prompt| self.takes(prompt)).try_for_each(|prompt| {
                Better::of(prompt)?;
                Ok::<_, anyhow::Error>(())
            })?;
        }
        Ok(Vec::new())
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let name = run.name().to_owned();
        let all = run.read().prompts("prompts")?;
        let revisions = self.revisions(&run.read())?;
        let mut prompts = Vec::new();
        for prompt in all.iter().filter(|prompt| self.takes(prompt)).take(self.count()) {
            prompts.push((prompt, Better::of(prompt)?));
        }
        if prompts.is_empty() {
            let (kinds, from) = (self.kinds.clone().unwrap_or_default(), run.read().input_shown("prompts"));
            bail!("{from} has no prompts of the kinds {}\nhint: correct `kinds`", kinds.join(", "));
        }
        let policy = run.read().model("from")?;
        let declining = LocalModel::new(&policy.chat, policy.adapter.as_ref(), run.slots());
        let other = match run.read().input("unforced") {
            [] => None,
            _ => Some(run.read().model("unforced")?),
        };
        let helping = other.as_ref().unwrap_or(&policy);
        let helping = LocalModel::new(&helping.chat, helping.adapter.as_ref(), run.slots());
        let draws = run.draws();
        let id = |(prompt, _): &(&Prompt, Better)| format!("{name}/{}", prompt.id);
        run.in_chunks("pairs", &prompts, ItemKind::Label, id, |_, todo| {
            let todo: Vec<(u64, &Prompt, Better)> =
                todo.iter().map(|(place, (prompt, better))| (*place, *prompt, *better)).collect();
            let unforced = todo.iter().map(|(_, prompt, _)| GenerateRequest {
                id: format!("{}/answer", prompt.id),
                ..request(prompt)
            });
            let helps = self.answers(&helping, unforced.collect(), draws, self.retry_evasions)?;
            let forced = todo.iter().filter(|(_, prompt, _)| !revisions.contains_key(&prompt.id));
            let forced = forced.map(|(_, prompt, _)| GenerateRequest {
                id: format!("{}/refusal", prompt.id),
                prefill: self.opening(draws, &prompt.id).to_owned(),
                ..request(prompt)
            });
            let mut forced = self.answers(&declining, forced.collect(), draws, 0)?.into_iter();
            let mut items = Vec::new();
            for ((place, prompt, better), help) in todo.iter().zip(&helps) {
                let revised = revisions.get(&prompt.id);
                let forced = if revised.is_none() { forced.next() } else { None };
                let Some(decline) = revised.map(|revised| &revised.side).or(forced.as_ref()) else {
                    continue;
                };
                let (chosen, rejected) = match better {
                    Better::Declines => (decline, help),
                    Better::Helps => (help, decline),
                };
                let mut item = known(&name, *place, &prompt.id, &prompt.messages, chosen, rejected)?
                    .parent(prompt.id.clone(), "prompt");
                if let Some(revised) = revised {
                    item = item.parent(revised.id.clone(), "declines");
                }
                item.dropped_reason = alike(&decline.text, &help.text)
                    .or_else(|| fault(&help.text))
                    .or_else(|| fault(&decline.text));
                items.push(item);
            }
            Ok(items)
        })?;
        let kinds = |better| prompts.iter().filter(|(_, wanted)| *wanted == better).count();
        let mut told = json!({
            "pairs": prompts.len(),
            "declining_better": kinds(Better::Declines),
            "helping_better": kinds(Better::Helps),
            "dropped": run.drops()?,
        });
        if !self.revisions.is_empty() {
            let revised = prompts.iter().filter(|(prompt, _)| revisions.contains_key(&prompt.id));
            told["revised"] = json!(revised.count());
        }
        Ok(told)
    }
}

impl Contrast {
    /// Whether prompts of this one's kind are used.
    fn takes(&self, prompt: &Prompt) -> bool {
        let Some(kinds) = &self.kinds else { return true };
        prompt.kind.as_ref().is_some_and(|kind| kinds.contains(kind))
    }

    fn count(&self) -> usize {
        self.count.map_or(usize::MAX, NonZeroUsize::get)
    }

    /// What the answer that declines is made to begin with.
    fn opening(&self, draws: Draws, prompt_id: &str) -> &str {
        &self.openings[draws.item("opening").item(prompt_id).below(0, self.openings.len())]
    }

    /// Samples answers, those that evade anew, which end as the stage says.
    fn answers(
        &self,
        model: &LocalModel<'_>,
        requests: Vec<GenerateRequest>,
        draws: Draws,
        retries: u32,
    ) -> Result<Vec<Side>> {
        let mut answers = model.generate(&requests, &self.sampling, draws, &mut |_| {})?;
        ask_again(model, &requests, &self.sampling, draws, retries, &mut answers)?;
        let sides = answers.into_iter().map(|answer| {
            let answer = self.end.of(answer);
            Side { text: answer.text, cut_off: answer.truncated }
        });
        Ok(sides.collect())
    }

    /// The good revisions that decline, by the id of their prompt.
    fn revisions(&self, read: &Reader<'_>) -> Result<BTreeMap<String, Revised>> {
        let mut revisions = BTreeMap::new();
        for item in read.answers("revisions")? {
            if solon_eval::declines(&item.text) && fault(&item.text).is_none() {
                let side = Side { text: item.text, cut_off: item.data.cut_off };
                revisions.entry(item.data.prompt_id).or_insert(Revised { id: item.id, side });
            }
        }
        Ok(revisions)
    }
}

/// A pair whose better answer is known, as the ledger holds it.
fn known(
    stage: &str,
    place: u64,
    prompt_id: &str,
    prompt: &[Message],
    better: &Side,
    worse: &Side,
) -> Result<NewItem> {
    let pair = Pair {
        id: prompt_id.to_owned(),
        prompt: prompt.to_vec(),
        first: better.text.clone(),
        second: worse.text.clone(),
        cut_off: [better.cut_off, worse.cut_off],
        principle_id: None,
    };
    let preference = pair.labelled(1.0, "contrast");
    let text = preference_text(&preference);
    let labelled = Labelled::given(Some(prompt_id.to_owned()), preference);
    let mut item = NewItem::of(format!("{stage}/{prompt_id}"), place, text, &labelled)?;
    item.prompt_id = Some(prompt_id.to_owned());
    Ok(item)
}

/// Why an answer that is to decline and one that is to help are no contrast, if they are not.
fn alike(declining: &str, helping: &str) -> Option<String> {
    if !solon_eval::declines(declining) {
        return Some("what should refuse does not".to_owned());
    }
    solon_eval::evades(helping).then(|| "what should answer refuses".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn contrast(keys: &str) -> Result<Contrast, String> {
        toml::from_str(&format!("sampling = {{ max_new_tokens = 4 }}\n{keys}")).map_err(|e| e.to_string())
    }

    #[test]
    fn openings_vary_by_prompt_and_each_begins_a_refusal() {
        for opening in OPENINGS {
            assert_eq!(alike(&format!("{opening} help with that."), "Sure."), None, "{opening}");
        }
        let stage = contrast("").unwrap();
        let draws = Draws::new(1, "contrast");
        let drawn: HashSet<&str> = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"]
            .iter()
            .map(|id| stage.opening(draws, id))
            .collect();
        assert!(drawn.len() >= 4, "{drawn:?}");
        for bad in ["openings = []", "openings = [\"No\", \" \"]"] {
            assert!(contrast(bad).is_err_and(|error| error.contains("opening")), "{bad}");
        }
    }

    #[test]
    fn an_end_that_was_not_reached_is_not_taught() {
        let side = |text: &str, cut_off: bool| Side { text: text.to_owned(), cut_off };
        let item = known("c", 0, "p", &[], &side("a", true), &side("b", false)).unwrap();
        let labelled: Labelled = serde_json::from_value(item.data).unwrap();
        assert_eq!(labelled.preference.chosen, "a");
        assert_eq!(labelled.preference.cut_off, [true, false]);
    }
}
