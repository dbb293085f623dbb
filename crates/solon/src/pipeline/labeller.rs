//! The labeller: an adapter warmed up on the worked examples and on contrasts of the policy's own answers.

use super::phase1::{SLOTS, fault, sampling, text_of};
use super::{Pipeline, Trained};
use crate::feedback_model::LocalModel;
use crate::progress;
use crate::recipe::Preferences;
use crate::run_folder::{safe_point, settings_hash};
use anyhow::Result;
use serde_json::json;
use solon_data::ledger::{ItemKind, NewItem};
use solon_data::records::PromptRecord;
use solon_feedback::{
    ChatMessage, Contrast, FeedbackModel, GenerateRequest, KnownPair, Outcome, labeller_training,
};

/// What a needless refusal is made to begin with.
const REFUSAL: &str = "I can't";

impl Pipeline {
    /// The labeller adapter, and known pairs it has not seen. It goes on from the SFT model, which already tells what to
    /// refuse from what to answer.
    pub(super) fn labeller(
        &mut self,
        revise: &str,
        sft: &Trained,
        settings: Preferences,
    ) -> Result<(Trained, Vec<KnownPair>)> {
        let contrasts = self.contrasts(revise, sft, settings)?;
        let made = labeller_training(&self.constitution, &contrasts, settings.ask)?;
        let what = "warming up the labeller";
        let trained = self.warm_up("labeller", what, made.training, Some(sft), settings.labeller)?;
        Ok((trained, made.held_out))
    }

    /// Pairs whose better answer is known by how they were made: a red-team prompt's revision is better than the answer it
    /// revises, and a helpful prompt's answer better than a refusal, which the SFT model writes when its first words are
    /// put into its mouth.
    fn contrasts(&mut self, revise: &str, sft: &Trained, settings: Preferences) -> Result<Vec<Contrast>> {
        let hash = settings_hash(&json!([settings.contrasts, settings.sample]))?;
        self.stage("contrast", &[revise, &sft.hash, &hash], |this| {
            let mut revised = Vec::new();
            for (place, item) in this.revised_items()?.into_iter().enumerate() {
                let Outcome::Revised(better) = item.outcome() else { continue };
                let mut pair = contrast(place, &item.prompt_id, &item.request, better, &item.initial)
                    .parent(format!("revise/{}/{}", item.id, item.rounds), "better")
                    .parent(format!("respond/{}", item.id), "worse");
                pair.dropped_reason =
                    solon_eval::evades(&item.initial).then(|| "the first answer refused".to_owned());
                revised.push(pair);
            }
            this.insert("contrast", &revised)?;
            let made = this.made("contrast", ItemKind::Pair)?;
            let prompts: Vec<PromptRecord> = this.helpful.iter().take(settings.contrasts).cloned().collect();
            let bar = progress::bar("contrasting answers", 2 * prompts.len(), "answers");
            let first = this.red_team.len();
            for (chunk, prompts) in prompts.chunks(SLOTS).enumerate() {
                safe_point()?;
                let todo: Vec<(usize, &PromptRecord)> = (first + chunk * SLOTS..)
                    .zip(prompts)
                    .filter(|(_, p)| !made.contains(&format!("contrast/{}", p.id)))
                    .collect();
                bar.inc(2 * (prompts.len() - todo.len()) as u64);
                let requests: Vec<GenerateRequest> = todo
                    .iter()
                    .flat_map(|(_, p)| [("answer", ""), ("refusal", REFUSAL)].map(|side| (p, side)))
                    .map(|(p, (side, begin))| GenerateRequest {
                        id: format!("{}/{side}", p.id),
                        messages: vec![ChatMessage::user(text_of(p))],
                        begin: begin.to_owned(),
                    })
                    .collect();
                let model = LocalModel { model: &this.model, adapter: Some(&sft.adapter), slots: SLOTS };
                let sampling = sampling(settings.sample, this.recipe.seed, "contrast");
                let answers = model.generate(&requests, &sampling, &mut |n| bar.inc(n as u64))?;
                // A labeller must not tell the answers apart by which was cut off.
                let answers: Vec<String> =
                    answers.into_iter().map(|answer| answer.to_last_sentence().text).collect();
                let mut items = Vec::new();
                for ((place, prompt), both) in todo.iter().zip(answers.chunks(2)) {
                    let (answer, refusal) = (&both[0], &both[1]);
                    let mut item = contrast(*place, &prompt.id, text_of(prompt), answer, refusal)
                        .parent(prompt.id.clone(), "prompt");
                    let evades = solon_eval::evades(answer).then(|| "evasion".to_owned());
                    item.dropped_reason = evades.or_else(|| fault(answer)).or_else(|| fault(refusal));
                    items.push(item);
                }
                this.insert("contrast", &items)?;
            }
            bar.finish_and_clear();
            Ok(json!({"pairs": revised.len() + prompts.len(), "dropped": this.dropped("contrast")?}))
        })?;
        let pairs = self.run.ledger.kept_items("contrast", ItemKind::Pair)?;
        let contrasts = pairs.into_iter().map(|item| {
            let text = |key: &str| item.data[key].as_str().unwrap_or_default().to_owned();
            Contrast {
                request: text("prompt"),
                better: text("better"),
                worse: text("worse"),
                id: item.id.clone(),
            }
        });
        Ok(contrasts.collect())
    }
}

/// Whether a known pair is a contrast, and not a worked example of the constitution.
pub(super) fn is_contrast(pair_id: &str) -> bool {
    pair_id.starts_with("contrast/")
}

/// A contrast as the ledger holds it.
fn contrast(place: usize, prompt_id: &str, prompt: &str, better: &str, worse: &str) -> NewItem {
    let text = format!("(better) {better}\n(worse) {worse}");
    let mut item = NewItem::new(format!("contrast/{prompt_id}"), ItemKind::Pair, place as u64, text);
    item.prompt_id = Some(prompt_id.to_owned());
    item.data = json!({"prompt": prompt, "better": better, "worse": worse});
    item
}
