//! The labeller: an adapter warmed up on the worked examples and on contrasts of the policy's own answers.

use super::phase1::{SLOTS, fault};
use super::{Pipeline, Trained};
use crate::feedback_model::LocalModel;
use crate::progress;
use crate::recipe::Preferences;
use crate::run_folder::{safe_point, settings_hash};
use anyhow::Result;
use serde_json::json;
use solon_data::ledger::{ItemKind, NewItem};
use solon_feedback::{
    FeedbackModel, GenerateRequest, KnownContrast, KnownPair, Outcome, labeller_training, split_examples,
};
use solon_records::{Message, Pair, Prompt};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a needless refusal is made to begin with.
const REFUSAL: &str = "I can't";

impl Pipeline {
    /// The labeller adapter, and known pairs that neither it nor the SFT model has learnt from. It goes on from the SFT
    /// model, which already tells what to refuse from what to answer.
    pub(super) fn labeller(
        &mut self,
        sources: &str,
        revise: &str,
        sft: &Trained,
        settings: &Preferences,
    ) -> Result<(Trained, Vec<KnownPair>)> {
        let contrasts = self.contrasts(&[sources, revise, &sft.hash], sft, settings)?;
        let made = labeller_training(&self.constitution, &contrasts, settings.ask)?;
        let what = "warming up the labeller";
        let trained = self.warm_up("labeller", what, made.training, Some(sft), settings.labeller)?;
        Ok((trained, made.held_out))
    }

    /// What the labeller is measured on, and SFT therefore must not learn: ids of worked examples, and of every fourth of
    /// the prompts whose answers are contrasted.
    pub(super) fn kept_back(&self) -> BTreeSet<&str> {
        let Some(preferences) = &self.recipe.preferences else { return BTreeSet::new() };
        let examples = split_examples(&self.constitution).1.into_iter().map(|example| example.id.as_str());
        let prompts = [&self.red_team, &self.helpful];
        let fourths = prompts.into_iter().flat_map(|prompts| {
            prompts.iter().take(preferences.contrasts).skip(3).step_by(4).map(|prompt| prompt.id.as_str())
        });
        examples.chain(fourths).collect()
    }

    /// Pairs whose better answer is known by how they were made: a red-team prompt's revision is better than the answer it
    /// revises, and a helpful prompt's answer better than a refusal, which the SFT model writes when its first words are
    /// put into its mouth. Pairs that do not differ in refusing are dropped.
    fn contrasts(
        &mut self,
        inputs: &[&str],
        sft: &Trained,
        settings: &Preferences,
    ) -> Result<Vec<KnownContrast>> {
        let hash = settings_hash(&json!([settings.contrasts, settings.sample]))?;
        self.stage("contrast", &[inputs, &[&hash]].concat(), |this| {
            let revised = this.revisions_beside_answers(settings.contrasts)?;
            this.insert("contrast", &revised)?;
            let made = this.made("contrast", ItemKind::Pair)?;
            let prompts: Vec<Prompt> = this.helpful.iter().take(settings.contrasts).cloned().collect();
            let bar = progress::bar("contrasting answers", 2 * prompts.len(), "answers");
            let model = Arc::clone(&this.model);
            let model = LocalModel::new(&model, Some(&sft.adapter), SLOTS);
            let first = this.red_team.len();
            for (chunk, prompts) in prompts.chunks(SLOTS).enumerate() {
                safe_point()?;
                let todo: Vec<(usize, &Prompt)> = (first + chunk * SLOTS..)
                    .zip(prompts)
                    .filter(|(_, p)| !made.contains(&format!("contrast/{}", p.id)))
                    .collect();
                bar.inc(2 * (prompts.len() - todo.len()) as u64);
                let requests: Vec<GenerateRequest> = todo
                    .iter()
                    .flat_map(|(_, p)| [("answer", ""), ("refusal", REFUSAL)].map(|side| (p, side)))
                    .map(|(p, (side, prefill))| GenerateRequest {
                        id: format!("{}/{side}", p.id),
                        messages: p.messages.clone(),
                        prefill: prefill.to_owned(),
                    })
                    .collect();
                let draws = this.draws("contrast");
                let answers =
                    model.generate(&requests, &settings.sample, draws, &mut |n| bar.inc(n as u64))?;
                // A labeller must not tell the answers apart by which was cut off.
                let answers: Vec<String> =
                    answers.into_iter().map(|answer| answer.to_last_sentence().text).collect();
                let mut items = Vec::new();
                for ((place, prompt), both) in todo.iter().zip(answers.chunks(2)) {
                    let (answer, refusal) = (&both[0], &both[1]);
                    let mut item = contrast(*place, &prompt.id, &prompt.messages, answer, refusal)?
                        .parent(prompt.id.clone(), "prompt");
                    item.dropped_reason =
                        alike(refusal, answer).or_else(|| fault(answer)).or_else(|| fault(refusal));
                    items.push(item);
                }
                this.insert("contrast", &items)?;
            }
            bar.finish_and_clear();
            Ok(json!({"pairs": revised.len() + prompts.len(), "dropped": this.dropped("contrast")?}))
        })?;
        let pairs = self.run.ledger.kept_items::<Pair>("contrast")?;
        let kept_back = self.kept_back();
        let contrasts = pairs.into_iter().map(|item| {
            let held_out = item.prompt_id.as_deref().is_some_and(|id| kept_back.contains(id));
            KnownContrast { preference: item.data.labelled(1.0, "how they were made"), held_out }
        });
        Ok(contrasts.collect())
    }

    /// The contrasts of the first red-team prompts.
    fn revisions_beside_answers(&self, prompts: usize) -> Result<Vec<NewItem>> {
        let first: BTreeSet<&str> = self.red_team.iter().take(prompts).map(|p| p.id.as_str()).collect();
        let mut pairs = Vec::new();
        for (place, item) in self.revised_items()?.iter().enumerate() {
            let Outcome::Revised(better) = item.outcome() else { continue };
            if !first.contains(item.prompt_id.as_str()) {
                continue;
            }
            let prompt = [Message::user(&item.request)];
            let mut pair = contrast(place, &item.prompt_id, &prompt, better, &item.initial)?
                .parent(format!("revise/{}/{}", item.id, item.rounds), "better")
                .parent(format!("respond/{}", item.id), "worse");
            pair.dropped_reason = alike(better, &item.initial);
            pairs.push(pair);
        }
        Ok(pairs)
    }
}

/// Whether a known pair is a contrast, and not a worked example of the constitution.
pub(super) fn is_contrast(pair_id: &str) -> bool {
    pair_id.starts_with("contrast/")
}

/// Why a refusal and an answer are no contrast, if they are not.
fn alike(refusal: &str, answer: &str) -> Option<String> {
    if solon_eval::classify(refusal) != solon_eval::Verdict::Refusal {
        return Some("what should refuse does not".to_owned());
    }
    solon_eval::evades(answer).then(|| "what should answer refuses".to_owned())
}

/// A contrast as the ledger holds it: the better answer is the first.
fn contrast(place: usize, prompt_id: &str, prompt: &[Message], better: &str, worse: &str) -> Result<NewItem> {
    let text = format!("(better) {better}\n(worse) {worse}");
    let pair = Pair {
        id: format!("contrast/{prompt_id}"),
        prompt: prompt.to_vec(),
        first: better.to_owned(),
        second: worse.to_owned(),
        cut_off: [false; 2],
        principle_id: None,
    };
    let mut item = NewItem::of(pair.id.clone(), place as u64, text, &pair)?;
    item.prompt_id = Some(prompt_id.to_owned());
    Ok(item)
}
