//! `prompts`: loads prompts to answer from a file (TRL's prompt-only format).

use super::{Data, Kind, Preflight, Source, Stage, parse};
use crate::run::StageRun;
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_data::ledger::NewItem;
use solon_data::records::read_prompts;
use solon_feedback::prompt_text;
use solon_records::Prompt;
use std::num::NonZeroUsize;

pub const KIND: Kind = Kind { name: "prompts", about: "Loads prompts from a file.", parse: parse::<Prompts> };

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Prompts {
    /// JSONL of `{"prompt": …}` or `{"messages": […]}`.
    file: Source,
    /// Prompts left out at the start of the file.
    #[serde(default)]
    skip: usize,
    /// Prompts taken; all that are left where it is not given.
    count: Option<NonZeroUsize>,
}

impl Prompts {
    fn read(&self) -> Result<Vec<Prompt>> {
        let Prompts { file, skip, count } = self;
        let all = read_prompts(&file.path)?;
        let left = all.len().saturating_sub(*skip);
        let wanted = count.map_or(left.max(1), NonZeroUsize::get);
        if left < wanted {
            bail!(
                "{} has {} prompts; with `skip` = {skip} that leaves {left}, and {wanted} are to be taken\n\
                 hint: lower `skip` or `count`, or leave `count` out to take all that are left",
                file.path.display(),
                all.len()
            );
        }
        Ok(all.into_iter().skip(*skip).take(wanted).collect())
    }
}

impl Stage for Prompts {
    fn output(&self) -> Data {
        Data::Prompts
    }

    fn settings(&self) -> Value {
        json!(self)
    }

    fn preflight(&self, _: &Preflight<'_>) -> Result<Vec<String>> {
        Ok(self.read()?.into_iter().map(|prompt| prompt.id).collect())
    }

    fn prompts(&self) -> Option<Result<Vec<Prompt>>> {
        Some(self.read())
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let mut items = Vec::new();
        for (place, prompt) in (0..).zip(self.read()?) {
            let text = prompt_text(&prompt.messages);
            let mut item = NewItem::of(prompt.id.clone(), place, text, &prompt)?;
            item.prompt_id = Some(prompt.id);
            items.push(item);
        }
        run.insert(&items)?;
        Ok(json!({"prompts": items.len()}))
    }
}
