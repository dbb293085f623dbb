//! `examples`: the constitution's worked examples as demonstrations: few, but written by people.

use super::{Data, Kind, Stage, parse};
use crate::run::StageRun;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_data::ledger::NewItem;
use solon_feedback::{WorkedExample, split_examples, without_control};
use solon_records::{Demonstration, Message, transcript};

pub const KIND: Kind = Kind {
    name: "examples",
    about: "The worked examples' own revisions, as demonstrations.",
    parse: parse::<Examples>,
    files: Vec::new,
};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Examples {
    /// Which of them.
    #[serde(default)]
    take: Take,
}

/// Which worked examples are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Take {
    /// All.
    All,
    /// All but every fourth, which a labeller is measured on: what measures must not have been learnt.
    #[default]
    Training,
}

impl Stage for Examples {
    fn output(&self) -> Data {
        Data::Demonstrations
    }

    fn needs_constitution(&self) -> bool {
        true
    }

    fn settings(&self) -> Value {
        json!(self)
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let constitution = run.read().constitution()?;
        let held_out = split_examples(constitution).1;
        let kept = |example: &&WorkedExample| match self.take {
            Take::All => true,
            Take::Training => !held_out.iter().any(|held| held.id == example.id),
        };
        let mut items = Vec::new();
        for (place, example) in (0..).zip(constitution.example.iter().filter(kept)) {
            // A template's control token in a text must not end a turn.
            let [request, revision] = [&example.request, &example.revision].map(|text| without_control(text));
            let messages = vec![Message::user(request), Message::assistant(revision)];
            let text = transcript(&messages);
            let demonstration = Demonstration {
                id: example.id.clone(),
                messages,
                prompt_len: 1,
                not_learnt: Vec::new(),
                cut_off: false,
            };
            let id = run.id(&example.id);
            let item = NewItem::of(id, place, text, &demonstration)?;
            items.push(item.parent(format!("principle/{}", example.principle), "principle"));
        }
        run.insert(&items)?;
        Ok(json!({"examples": items.len()}))
    }
}
