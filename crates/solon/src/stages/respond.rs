//! `respond`: a model answers prompts. The answers are criticised and revised, or learnt as they are.

use super::{Data, Input, Kind, OneOrMany, Stage, base, parse};
use crate::feedback_model::LocalModel;
use crate::items::Answer;
use crate::run::StageRun;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_data::ledger::{ItemKind, NewItem};
use solon_draws::Draws;
use solon_feedback::{GenerateRequest, Generated};
use solon_records::{Prompt, SamplingSettings};

pub const KIND: Kind =
    Kind { name: "respond", about: "A model answers prompts.", parse: parse::<Respond>, files: Vec::new };

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Respond {
    /// The model that answers.
    #[serde(default = "base", skip_serializing)]
    from: String,
    /// What it answers.
    #[serde(default, skip_serializing)]
    prompts: OneOrMany,
    /// How answers are sampled.
    #[serde(deserialize_with = "super::settings::sampling")]
    sampling: SamplingSettings,
    /// Where an answer that ran into the limit ends.
    #[serde(default)]
    end: End,
    /// Answers that refuse or evade are asked again up to so many times, and dropped if they still do. For prompts that
    /// should be answered: those a model evades are those it would learn to refuse. Without it, evasions are kept.
    retry_evasions: Option<u32>,
}

/// Where an answer that ran into the limit of new tokens ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// After its last whole sentence, where it has one.
    #[default]
    Sentence,
    /// Where it was cut off: it is learnt as far as it goes, and not that it ends there.
    Token,
}

impl End {
    /// The answer as far as it goes.
    pub fn of(self, answer: Generated) -> Generated {
        match self {
            End::Sentence => answer.to_last_sentence(),
            End::Token => answer,
        }
    }
}

impl Stage for Respond {
    fn inputs(&self) -> Vec<Input> {
        vec![
            Input::required("from", [self.from.clone()], &[Data::Model]),
            Input::required("prompts", &self.prompts, &[Data::Prompts]),
        ]
    }

    fn output(&self) -> Data {
        Data::Answers
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
        run.in_chunks("answers", &prompts, ItemKind::Response, id, |_, todo| {
            let requests: Vec<GenerateRequest> = todo.iter().map(|(_, prompt)| request(prompt)).collect();
            let mut answers = model.generate(&requests, &self.sampling, draws, &mut |_| {})?;
            if let Some(retries) = self.retry_evasions {
                ask_again(&model, &requests, &self.sampling, draws, retries, &mut answers)?;
            }
            let items = todo.iter().zip(answers).map(|((place, prompt), answer)| {
                self.item(format!("{name}/{}", prompt.id), *place, prompt, answer)
            });
            items.collect()
        })?;
        Ok(json!({"answers": prompts.len(), "dropped": run.drops()?}))
    }
}

impl Respond {
    /// An answer as the ledger holds it.
    fn item(&self, id: String, place: u64, prompt: &Prompt, answer: Generated) -> Result<NewItem> {
        let answer = self.end.of(answer);
        let data = Answer::to(prompt, answer.truncated);
        let mut item = NewItem::of(id, place, &answer.text, &data)?.parent(prompt.id.clone(), "prompt");
        item.prompt_id = Some(prompt.id.clone());
        // What a model must not learn: loops, and refusing or evading what should be answered.
        let evades = self.retry_evasions.is_some() && solon_eval::evades(&answer.text);
        item.dropped_reason = fault(&answer.text).or(evades.then(|| "evasion".to_owned()));
        Ok(item)
    }
}

/// A prompt as a request under its own id.
pub fn request(prompt: &Prompt) -> GenerateRequest {
    GenerateRequest { id: prompt.id.clone(), context: prompt.messages.clone().into(), prefill: String::new() }
}

/// Why a text must not be learnt from, if it must not: it is empty or caught in a loop.
pub fn fault(text: &str) -> Option<String> {
    solon_eval::fault(text).map(|fault| fault.name().to_owned())
}

/// Samples answers that evade anew, up to `retries` times.
pub fn ask_again(
    model: &LocalModel<'_>,
    requests: &[GenerateRequest],
    sampling: &SamplingSettings,
    draws: Draws,
    retries: u32,
    answers: &mut [Generated],
) -> Result<()> {
    for attempt in 2..=retries + 1 {
        let evading: Vec<usize> =
            (0..answers.len()).filter(|i| solon_eval::evades(&answers[*i].text)).collect();
        let again: Vec<GenerateRequest> = evading
            .iter()
            .map(|i| GenerateRequest { id: format!("{}/{attempt}", requests[*i].id), ..requests[*i].clone() })
            .collect();
        for (i, answer) in evading.into_iter().zip(model.generate(&again, sampling, draws, &mut |_| {})?) {
            answers[i] = answer;
        }
    }
    Ok(())
}
