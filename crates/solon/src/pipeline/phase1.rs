//! Phase 1 of Constitutional AI (Bai et al. 2022 §3): critic, respond, critique and revise, fine-tune.
//!
//! The policy is small, so its critic is an adapter warmed up on the constitution's worked examples. Red-team prompts
//! are answered, criticised and revised; helpful prompts are answered by the model as it is, so that what it could do
//! stays in the mix.

use super::{Pipeline, Trained};
use crate::feedback_model::LocalModel;
use crate::progress;
use crate::run_folder::{safe_point, settings_hash};
use crate::training::sft_examples;
use anyhow::Result;
use serde_json::{Value, json};
use solon_data::ledger::{ItemKind, NewItem};
use solon_draws::Draws;
use solon_feedback::{
    CritiqueRecord, FeedbackModel, GenerateRequest, Generated, Outcome, ReviseItem, ReviseSettings,
    RevisionRecord, TrainingConversation, apply_round, critique_round, revision_round,
    training_conversations,
};
use solon_records::{Demonstration, Message, Prompt, SamplingSettings};
use solon_train::sft::SftTrainer;
use std::sync::Arc;

/// Answers sampled at a time, and requests between two visits to the ledger: what a killed run loses at most.
pub(super) const SLOTS: usize = 64;

/// Says why an answer must not be learnt from, if it must not.
pub(super) fn fault(text: &str) -> Option<String> {
    solon_eval::fault(text).map(|fault| format!("{fault:?}").to_lowercase())
}

impl Pipeline {
    /// Puts principles and prompts into the ledger, so that every trail begins there.
    pub(super) fn record_sources(&mut self) -> Result<String> {
        let constitution = self.constitution.clone();
        let prompts: Vec<Prompt> = self.used_prompts().cloned().collect();
        let hash = settings_hash(&json!([
            constitution.revision.iter().map(|p| (&p.id, &p.critique, &p.revision)).collect::<Vec<_>>(),
            constitution.comparison.iter().map(|p| (&p.id, &p.question)).collect::<Vec<_>>(),
            prompts.iter().map(|p| (&p.id, p.text())).collect::<Vec<_>>(),
        ]))?;
        let (hash, _) = self.stage("sources", &[&hash], |this| {
            let mut items = Vec::new();
            for (i, principle) in constitution.revision.iter().enumerate() {
                let text = format!("{}\n{}", principle.critique, principle.revision);
                let id = format!("principle/{}", principle.id);
                items.push(NewItem::new(id, ItemKind::Principle, i as u64, text));
            }
            for (i, principle) in constitution.comparison.iter().enumerate() {
                let id = format!("principle/{}", principle.id);
                let ordinal = (constitution.revision.len() + i) as u64;
                items.push(NewItem::new(id, ItemKind::Principle, ordinal, principle.question.clone()));
            }
            for (i, prompt) in prompts.iter().enumerate() {
                items.push(NewItem::of(prompt.id.clone(), i as u64, prompt.text(), prompt)?);
            }
            this.insert("sources", &items)?;
            Ok(json!({"principles": constitution.revision.len() + constitution.comparison.len(), "prompts": prompts.len()}))
        })?;
        Ok(hash)
    }

    /// Trains an adapter on conversations, a fresh one or one that goes on.
    pub(super) fn warm_up(
        &mut self,
        stage: &str,
        what: &str,
        conversations: Vec<TrainingConversation>,
        from: Option<&Trained>,
        settings: crate::recipe::Training,
    ) -> Result<Trained> {
        let inputs = settings_hash(&json!([conversations, settings]))?;
        let start = from.map(|trained| trained.hash.as_str()).unwrap_or_default();
        self.stage(stage, &[&inputs, start], |this| {
            let demonstrations: Vec<Demonstration> = conversations
                .iter()
                .map(|c| Demonstration {
                    id: format!("{stage}/{}", c.id),
                    messages: c.messages.clone(),
                    prompt_len: 1,
                    cut_off: false,
                })
                .collect();
            let mut parents = Vec::new();
            for conversation in &conversations {
                // A contrast is in the ledger, a worked example is not.
                let made_of = this.run.ledger.find_item(&conversation.source)?;
                let made_of = made_of.filter(|item| item.kind == ItemKind::Pair).map(|item| item.id);
                let principle = format!("principle/{}", conversation.principle_id);
                parents.push([Some(principle), made_of].into_iter().flatten().collect());
            }
            this.fine_tune(stage, what, &demonstrations, &parents, from, settings)
        })?;
        self.trained(stage)
    }

    /// SFT of a fresh adapter (or one that goes on) on conversations, which are recorded as demonstrations.
    fn fine_tune(
        &mut self,
        stage: &str,
        what: &str,
        demonstrations: &[Demonstration],
        parents: &[Vec<String>],
        from: Option<&Trained>,
        settings: crate::recipe::Training,
    ) -> Result<Value> {
        let mut items = Vec::with_capacity(demonstrations.len());
        for (i, demonstration) in demonstrations.iter().enumerate() {
            let text = demonstration.messages.last().map(|m| m.content.as_str()).unwrap_or_default();
            let mut item = NewItem::of(demonstration.id.clone(), i as u64, text, demonstration)?;
            for parent in &parents[i] {
                item = item.parent(parent.clone(), "learnt from");
            }
            items.push(item);
        }
        self.insert(stage, &items)?;
        let examples = sft_examples(&self.model, demonstrations)?;
        let mut learner = self.learner(stage, from.map(|trained| &trained.adapter), None);
        let settings = self.loop_of(settings.learning_rate, settings.epochs, settings.batch_size)?;
        let draws = self.draws(stage).item("order");
        let mut trainer = SftTrainer::new(&mut learner, &examples, settings, draws)?;
        self.train(stage, what, &mut trainer)?;
        let steps = solon_train::Trainer::total_steps(&trainer);
        self.save_adapter(stage, &learner, steps)?;
        Ok(json!({"examples": examples.len(), "steps": steps}))
    }

    /// The critic adapter.
    pub(super) fn critic(&mut self) -> Result<Trained> {
        let conversations = training_conversations(&self.constitution);
        self.warm_up("critic", "warming up the critic", conversations, None, self.recipe.critic)
    }

    /// The base model's answers to red-team and helpful prompts.
    pub(super) fn respond(&mut self, sources: &str) -> Result<String> {
        let (respond, rehearse) = (self.recipe.respond.clone(), self.recipe.rehearse.clone());
        let counts = (self.recipe.prompts.red_team_count, self.recipe.prompts.helpful_count);
        let settings = settings_hash(&json!([respond, rehearse, counts]))?;
        let (hash, _) = self.stage("respond", &[sources, &settings], |this| {
            let red_team: Vec<Prompt> = this.red_team.iter().take(counts.0).cloned().collect();
            let helpful: Vec<Prompt> = this.helpful.iter().take(counts.1).cloned().collect();
            let made = this.made("respond", ItemKind::Response)?;
            let bar = progress::bar("responding", red_team.len() + helpful.len(), "answers");
            bar.inc(made.len() as u64);
            let model = Arc::clone(&this.model);
            let model = LocalModel::new(&model, None, SLOTS);
            let mut ordinal = 0;
            for (prompts, sample, is_helpful) in [(&red_team, &respond, false), (&helpful, &rehearse, true)] {
                for prompts in prompts.chunks(SLOTS) {
                    safe_point()?;
                    let first = ordinal;
                    ordinal += prompts.len() as u64;
                    let todo: Vec<(u64, &Prompt)> = (first..)
                        .zip(prompts)
                        .filter(|(_, p)| !made.contains(&format!("respond/{}", p.id)))
                        .collect();
                    let requests: Vec<GenerateRequest> = todo
                        .iter()
                        .map(|(_, p)| GenerateRequest {
                            id: p.id.clone(),
                            messages: p.messages.clone(),
                            prefill: String::new(),
                        })
                        .collect();
                    let draws = this.draws("respond");
                    let mut answers = model.generate(&requests, sample, draws, &mut |n| bar.inc(n as u64))?;
                    if is_helpful {
                        ask_again(&model, &requests, sample, draws, &mut answers)?;
                    }
                    let items: Vec<NewItem> = todo
                        .iter()
                        .zip(answers)
                        .map(|((place, prompt), answer)| first_answer(*place, prompt, answer, is_helpful))
                        .collect();
                    this.insert("respond", &items)?;
                }
            }
            bar.finish_and_clear();
            Ok(json!({"answers": red_team.len() + helpful.len(), "dropped": this.dropped("respond")?}))
        })?;
        Ok(hash)
    }

    /// Rounds of critique and revision of the answers to red-team prompts.
    pub(super) fn revise(&mut self, respond: &str, critic: &Trained) -> Result<String> {
        let revise = self.recipe.revise.clone();
        let constitution = settings_hash(&json!(
            self.constitution.revision.iter().map(|p| (&p.id, &p.critique, &p.revision)).collect::<Vec<_>>()
        ))?;
        let settings = settings_hash(&revise)?;
        let (hash, _) = self.stage("revise", &[respond, &critic.hash, &constitution, &settings], |this| {
            let items = this.revise_items()?;
            let settings = ReviseSettings {
                draws: this.draws("revise"),
                critique: revise.critique.clone(),
                revision: revise.revision.clone(),
            };
            let bar =
                progress::bar("critique and revision", items.len() * revise.rounds as usize, "revisions");
            let model = Arc::clone(&this.model);
            let model = LocalModel::new(&model, Some(&critic.adapter), SLOTS);
            // A chunk goes through all its rounds before the next begins, and is recorded when each round ends.
            for chunk in items.chunks(SLOTS) {
                let mut chunk = chunk.to_vec();
                for round in 1..=revise.rounds {
                    safe_point()?;
                    let (critiques, revisions) = match this.recorded_round(&chunk, round)? {
                        Some(records) => records,
                        None => {
                            let constitution = &this.constitution;
                            let critiques = critique_round(
                                &model,
                                constitution,
                                &chunk,
                                round,
                                &settings,
                                &fault,
                                &mut |_| {},
                            )?;
                            let revisions = revision_round(
                                &model,
                                constitution,
                                &chunk,
                                &critiques,
                                round,
                                &settings,
                                &fault,
                                &mut |_| {},
                            )?;
                            this.record_round(&critiques, &revisions)?;
                            (critiques, revisions)
                        }
                    };
                    apply_round(&mut chunk, round, &critiques, &revisions)?;
                    bar.inc(chunk.len() as u64);
                }
            }
            bar.finish_and_clear();
            Ok(json!({"items": items.len(), "rounds": revise.rounds, "dropped": this.dropped("revise")?}))
        })?;
        Ok(hash)
    }

    /// Fine-tuning on the last good revisions and on helpful answers.
    pub(super) fn sft(&mut self, respond: &str, revise: &str) -> Result<Trained> {
        let settings = self.recipe.sft;
        let examples = self.constitution.example.iter().map(|e| (&e.id, &e.request, &e.revision));
        let hash = settings_hash(&json!([settings, examples.collect::<Vec<_>>(), self.kept_back()]))?;
        self.stage("sft", &[respond, revise, &hash], |this| {
            let (demonstrations, parents) = this.demonstrations()?;
            this.fine_tune("sft", "fine-tuning", &demonstrations, &parents, None, settings)
        })?;
        self.trained("sft")
    }

    /// What SFT learns from, and each conversation's parents in the ledger.
    fn demonstrations(&self) -> Result<(Vec<Demonstration>, Vec<Vec<String>>)> {
        let items = self.revised_items()?;
        let kept_back = self.kept_back();
        let mut demonstrations = Vec::new();
        let mut parents = Vec::new();
        let mut learn = |id: &str, request: &str, answer: &str, cut_off: bool| {
            let messages = vec![Message::user(request), Message::assistant(answer)];
            demonstrations.push(Demonstration { id: format!("sft/{id}"), messages, prompt_len: 1, cut_off });
        };
        for item in items.iter().filter(|item| !kept_back.contains(item.prompt_id.as_str())) {
            let Outcome::Revised(revision) = item.outcome() else { continue };
            learn(&item.prompt_id, &item.request, revision, false);
            let last =
                (1..=self.recipe.revise.rounds).rev().map(|round| format!("revise/{}/{round}", item.id));
            let made = self.made("revise", ItemKind::Revision)?;
            let kept: Vec<String> = last.filter(|id| made.contains(id)).take(1).collect();
            parents.push([vec![item.prompt_id.clone()], kept].concat());
        }
        // The worked examples' own revisions: few, but written by people.
        let examples = self.constitution.example.iter();
        for example in examples.filter(|example| !kept_back.contains(example.id.as_str())) {
            learn(&example.id, &example.request, &example.revision, false);
            parents.push(vec![format!("principle/{}", example.principle)]);
        }
        for response in self.run.ledger.kept_raw_items("respond", ItemKind::Response)? {
            let Some(prompt) = self.helpful.iter().find(|p| Some(&p.id) == response.prompt_id.as_ref())
            else {
                continue;
            };
            if kept_back.contains(prompt.id.as_str()) {
                continue;
            }
            learn(&prompt.id, prompt.text(), &response.text, response.data["cut_off"] == true);
            parents.push(vec![prompt.id.clone(), response.id.clone()]);
        }
        Ok((demonstrations, parents))
    }

    /// The answers to red-team prompts after all rounds.
    pub(super) fn revised_items(&self) -> Result<Vec<ReviseItem>> {
        let mut items = self.revise_items()?;
        for round in 1..=self.recipe.revise.rounds {
            let (critiques, revisions) = self.recorded_round(&items, round)?.unwrap_or_default();
            apply_round(&mut items, round, &critiques, &revisions)?;
        }
        Ok(items)
    }

    /// The answers to red-team prompts, as items to revise.
    fn revise_items(&self) -> Result<Vec<ReviseItem>> {
        let responses = self.run.ledger.kept_raw_items("respond", ItemKind::Response)?;
        Ok(responses
            .iter()
            .filter_map(|response| {
                let prompt_id = response.prompt_id.as_ref()?;
                let prompt = self.red_team.iter().find(|p| &p.id == prompt_id)?;
                Some(ReviseItem::new(
                    prompt_id.clone(),
                    prompt_id.clone(),
                    prompt.text(),
                    response.text.clone(),
                ))
            })
            .collect())
    }

    fn record_round(&mut self, critiques: &[CritiqueRecord], revisions: &[RevisionRecord]) -> Result<()> {
        let mut items = Vec::new();
        for (i, record) in critiques.iter().enumerate() {
            let id = format!("critique/{}/{}", record.item_id, record.round);
            let ordinal = u64::from(record.round) * 1_000_000 + i as u64;
            let before = answer_before(&record.item_id, record.round);
            let mut item = NewItem::of(id, ordinal, record.critique.clone(), record)?
                .parent(record.prompt_id.clone(), "prompt")
                .parent(before, "answer")
                .parent(format!("principle/{}", record.principle_id), "principle");
            item.prompt_id = Some(record.prompt_id.clone());
            item.principle_id = Some(record.principle_id.clone());
            item.dropped_reason = record.dropped.as_ref().map(|d| d.key());
            items.push(item);
        }
        for (i, record) in revisions.iter().enumerate() {
            let id = format!("revise/{}/{}", record.item_id, record.round);
            let ordinal = u64::from(record.round) * 1_000_000 + i as u64;
            let mut item = NewItem::of(id, ordinal, record.revision.clone(), record)?
                .parent(format!("critique/{}/{}", record.item_id, record.round), "critique");
            item.prompt_id = Some(record.prompt_id.clone());
            item.principle_id = Some(record.principle_id.clone());
            item.dropped_reason = record.dropped.as_ref().map(|d| d.key());
            items.push(item);
        }
        self.insert("revise", &items)
    }

    /// A round of these items as it was recorded, or `None` where it was not.
    fn recorded_round(
        &self,
        items: &[ReviseItem],
        round: u32,
    ) -> Result<Option<(Vec<CritiqueRecord>, Vec<RevisionRecord>)>> {
        let (mut critiques, mut revisions) = (Vec::new(), Vec::new());
        for item in items {
            if let Some(made) = self.run.ledger.find_item(&format!("critique/{}/{round}", item.id))? {
                critiques.push(serde_json::from_value::<CritiqueRecord>(made.data)?);
            }
            if let Some(made) = self.run.ledger.find_item(&format!("revise/{}/{round}", item.id))? {
                revisions.push(serde_json::from_value::<RevisionRecord>(made.data)?);
            }
        }
        Ok((!critiques.is_empty()).then_some((critiques, revisions)))
    }

    /// Every prompt either phase may use.
    fn used_prompts(&self) -> impl Iterator<Item = &Prompt> {
        self.red_team.iter().chain(&self.helpful)
    }
}

/// Samples helpful answers that evade anew, twice at most: the prompts a model evades are those it would learn to refuse.
fn ask_again(
    model: &dyn FeedbackModel,
    requests: &[GenerateRequest],
    sampling: &SamplingSettings,
    draws: Draws,
    answers: &mut [Generated],
) -> Result<()> {
    for attempt in 2..=3 {
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

/// The base model's answer as the ledger holds it. What is to be criticised ends with a sentence; what is learnt from is
/// learnt as far as it goes.
fn first_answer(place: u64, prompt: &Prompt, answer: Generated, helpful: bool) -> NewItem {
    let answer = if helpful { answer } else { answer.to_last_sentence() };
    let id = format!("respond/{}", prompt.id);
    let mut item =
        NewItem::new(id, ItemKind::Response, place, &answer.text).parent(prompt.id.clone(), "prompt");
    item.prompt_id = Some(prompt.id.clone());
    item.data = json!({"cut_off": answer.truncated});
    // What the model must not learn: loops, and refusing or evading what was harmless.
    let evades = helpful && solon_eval::evades(&answer.text);
    item.dropped_reason = fault(&answer.text).or(evades.then(|| "evasion".to_owned()));
    item
}

/// The ledger's id of the answer that a round criticises.
fn answer_before(item: &str, round: u32) -> String {
    match round {
        1 => format!("respond/{item}"),
        _ => format!("revise/{item}/{}", round - 1),
    }
}
