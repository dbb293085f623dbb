//! `sample`: a model answers each prompt twice, to be labelled.

use super::respond::{fault, request};
use super::{Data, Input, Kind, OneOrMany, Stage, base, parse};
use crate::feedback_model::LocalModel;
use crate::items::{Answer, pair_text};
use crate::run::StageRun;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_data::ledger::{ItemKind, NewItem};
use solon_feedback::{FeedbackModel, GenerateRequest, Generated};
use solon_records::{Pair, Prompt, SamplingSettings};

pub const KIND: Kind =
    Kind { name: "sample", about: "A model answers each prompt twice.", parse: parse::<Sample> };

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
}

/// The two answers' names in ids.
const SIDES: [&str; 2] = ["a", "b"];

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
        let id = |prompt: &Prompt| format!("{name}/{}", prompt.id);
        run.in_chunks("pairs", &prompts, ItemKind::Pair, id, |_, todo| {
            let requests: Vec<GenerateRequest> = todo
                .iter()
                .flat_map(|(_, prompt)| SIDES.map(|side| (prompt, side)))
                .map(|(prompt, side)| GenerateRequest {
                    id: format!("{}/{side}", prompt.id),
                    ..request(prompt)
                })
                .collect();
            let answers = model.generate(&requests, &self.sampling, draws, &mut |_| {})?;
            let mut items = Vec::new();
            for ((place, prompt), both) in todo.iter().zip(answers.as_chunks::<2>().0) {
                items.extend(pair_items(&name, *place, prompt, both)?);
            }
            Ok(items)
        })?;
        Ok(json!({"pairs": prompts.len(), "dropped": run.drops()?}))
    }
}

/// Two answers and their pair as the ledger holds them.
fn pair_items(stage: &str, place: u64, prompt: &Prompt, both: &[Generated; 2]) -> Result<Vec<NewItem>> {
    let mut items = Vec::new();
    for (answer, side) in both.iter().zip(SIDES) {
        let data = Answer {
            prompt_id: prompt.id.clone(),
            prompt: prompt.messages.clone(),
            cut_off: answer.truncated,
            kind: prompt.kind.clone(),
            category: prompt.category.clone(),
        };
        let id = format!("{stage}/{}/{side}", prompt.id);
        let mut item = NewItem::of(id, place, &answer.text, &data)?.parent(prompt.id.clone(), "prompt");
        item.prompt_id = Some(prompt.id.clone());
        items.push(item);
    }
    let [first, second] = both;
    let pair = Pair {
        id: prompt.id.clone(),
        prompt: prompt.messages.clone(),
        first: first.text.clone(),
        second: second.text.clone(),
        cut_off: [first.truncated, second.truncated],
        principle_id: None,
    };
    let mut item = NewItem::of(format!("{stage}/{}", prompt.id), place, pair_text(&pair), &pair)?
        .parent(items[0].id.clone(), "first")
        .parent(items[1].id.clone(), "second");
    item.prompt_id = Some(prompt.id.clone());
    item.dropped_reason = match (fault(&pair.first), fault(&pair.second)) {
        _ if pair.first == pair.second => Some("identical".to_owned()),
        (Some(_), Some(_)) => Some("both degenerate".to_owned()),
        _ => None,
    };
    items.push(item);
    Ok(items)
}
