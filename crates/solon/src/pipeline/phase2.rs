//! Phase 2 (Bai et al. 2022 §4; Lee et al. 2023): pairs from the SFT model, AI labels, reward model, PPO, DPO.

use super::labeller::is_contrast;
use super::phase1::{SLOTS, fault, sampling, text_of};
use super::{Pipeline, Trained};
use crate::feedback_model::LocalModel;
use crate::progress;
use crate::recipe::Preferences;
use crate::run_folder::{safe_point, settings_hash};
use crate::training::{head_weight, pairs_of, ppo_preset, reward_statistics};
use anyhow::{Context, Result};
use serde_json::json;
use solon_data::ledger::{ItemKind, NewItem};
use solon_data::records::{ChatMessage, PreferencePair, PromptRecord};
use solon_feedback::{
    Ask, FeedbackModel, GenerateRequest, HELD_OUT, JudgeReport, KnownLabel, KnownPair, Label, LabelSettings,
    Pair, join_known, label_pairs, whole_sentences,
};
use solon_model::ScalarHead;
use solon_train::Trainer;
use solon_train::dpo::{DpoTrainer, reference_sums};
use solon_train::losses::dpo::{DpoLoss, DpoSettings};
use solon_train::ppo::trainer::{PpoPrompt, PpoSettings, PpoTrainer, RewardModel};
use solon_train::reward::RewardTrainer;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Labels and what their maker is worth.
pub(super) struct Labels {
    pub(super) hash: String,
    pub(super) report: JudgeReport,
    /// What it said of the pairs whose better answer is known.
    pub(super) known: Vec<KnownLabel>,
    pub(super) records: Vec<PreferencePair>,
}

impl Pipeline {
    /// Two answers of the SFT model to each prompt.
    pub(super) fn sample(&mut self, sources: &str, sft: &Trained, settings: Preferences) -> Result<String> {
        let hash = settings_hash(&json!([settings.sample, settings.prompts_each]))?;
        let (hash, _) = self.stage("sample", &[sources, &sft.hash, &hash], |this| {
            let prompts = this.phase2_prompts(settings.prompts_each);
            let made = this.made("sample", ItemKind::Pair)?;
            let bar = progress::bar("sampling pairs", 2 * prompts.len(), "answers");
            let model = Arc::clone(&this.model);
            let model = LocalModel::new(&model, Some(&sft.adapter), SLOTS);
            for (chunk, prompts) in prompts.chunks(SLOTS).enumerate() {
                safe_point()?;
                let todo: Vec<(usize, &PromptRecord)> = prompts
                    .iter()
                    .enumerate()
                    .filter(|(_, p)| !made.contains(&format!("pair/{}", p.id)))
                    .map(|(i, p)| (chunk * SLOTS + i, p))
                    .collect();
                bar.inc(2 * (prompts.len() - todo.len()) as u64);
                let requests: Vec<GenerateRequest> = todo
                    .iter()
                    .flat_map(|(_, p)| ["a", "b"].map(|side| (p, side)))
                    .map(|(p, side)| GenerateRequest {
                        id: format!("{}/{side}", p.id),
                        messages: vec![solon_feedback::ChatMessage::user(text_of(p))],
                        begin: String::new(),
                    })
                    .collect();
                let sampling = sampling(settings.sample, this.recipe.seed, "sample");
                let answers = model.generate(&requests, &sampling, &mut |n| bar.inc(n as u64))?;
                let mut items = Vec::new();
                for ((place, prompt), both) in todo.iter().zip(answers.chunks(2)) {
                    let mut texts = Vec::new();
                    for (answer, side) in both.iter().zip(["a", "b"]) {
                        let id = format!("sample/{}/{side}", prompt.id);
                        let mut item =
                            NewItem::new(id, ItemKind::Response, *place as u64, answer.text.clone())
                                .parent(prompt.id.clone(), "prompt");
                        item.prompt_id = Some(prompt.id.clone());
                        items.push(item);
                        texts.push(answer.text.clone());
                    }
                    let (first, second) = (&texts[0], &texts[1]);
                    let id = format!("pair/{}", prompt.id);
                    let mut item =
                        NewItem::new(id, ItemKind::Pair, *place as u64, format!("(1) {first}\n(2) {second}"))
                            .parent(format!("sample/{}/a", prompt.id), "first")
                            .parent(format!("sample/{}/b", prompt.id), "second");
                    item.prompt_id = Some(prompt.id.clone());
                    let cut_off: Vec<bool> = both.iter().map(|answer| answer.truncated).collect();
                    item.data = json!({
                        "prompt": text_of(prompt), "first": first, "second": second, "cut_off": cut_off,
                    });
                    item.dropped_reason = match (fault(first), fault(second)) {
                        _ if first == second => Some("identical".to_owned()),
                        (Some(_), Some(_)) => Some("both degenerate".to_owned()),
                        _ => None,
                    };
                    items.push(item);
                }
                this.insert("sample", &items)?;
            }
            bar.finish_and_clear();
            Ok(json!({"pairs": prompts.len(), "dropped": this.dropped("sample")?}))
        })?;
        Ok(hash)
    }

    /// Labels every pair, and the known pairs the labeller is measured by.
    pub(super) fn label(
        &mut self,
        sample: &str,
        labeller: &Trained,
        held_out: &[KnownPair],
        ask: Ask,
    ) -> Result<Labels> {
        let settings = LabelSettings { seed: self.recipe.seed, stage: "label".to_owned(), ask, clamp: None };
        let known = settings_hash(&json!([held_out, ask]))?;
        let questions = settings_hash(&json!(
            self.constitution.comparison.iter().map(|p| (&p.id, &p.question)).collect::<Vec<_>>()
        ))?;
        let (hash, _) = self.stage("label", &[sample, &labeller.hash, &known, &questions], |this| {
            let pairs = this.sampled_pairs()?;
            let cut_off = this.cut_off_answers()?;
            let known = held_out.iter().map(|k| (k.pair.clone(), true));
            let all: Vec<(Pair, bool)> = pairs.into_iter().map(|p| (p, false)).chain(known).collect();
            let made = this.made("label", ItemKind::Label)?;
            let bar = progress::bar("labelling", 2 * all.len(), "judgements");
            let model = Arc::clone(&this.model);
            let model = LocalModel::new(&model, Some(&labeller.adapter), SLOTS);
            for (chunk, pairs) in all.chunks(SLOTS).enumerate() {
                safe_point()?;
                let todo: Vec<(usize, &(Pair, bool))> = pairs
                    .iter()
                    .enumerate()
                    .filter(|(_, (pair, _))| !made.contains(&format!("label/{}", pair.id)))
                    .map(|(i, pair)| (chunk * SLOTS + i, pair))
                    .collect();
                bar.inc(2 * (pairs.len() - todo.len()) as u64);
                let asked: Vec<Pair> = todo
                    .iter()
                    .map(|(_, (pair, _))| {
                        // Shown up to the last whole sentence, as the labeller saw answers while it learnt.
                        let [first, second] = cut_off.get(&pair.id).copied().unwrap_or_default();
                        let shown = |text: &str, cut: bool| {
                            if cut { whole_sentences(text).to_owned() } else { text.to_owned() }
                        };
                        Pair {
                            first: shown(&pair.first, first),
                            second: shown(&pair.second, second),
                            ..pair.clone()
                        }
                    })
                    .collect();
                let labels =
                    label_pairs(&model, &this.constitution, &asked, &settings, &mut |n| bar.inc(n as u64))?;
                let mut items = Vec::new();
                for ((place, (pair, known)), label) in todo.iter().zip(&labels) {
                    let text = format!("P(first is better) = {:.3}", label.probability);
                    let mut item =
                        NewItem::new(format!("label/{}", pair.id), ItemKind::Label, *place as u64, text)
                            .parent(format!("principle/{}", label.principle_id), "principle");
                    if !known {
                        item = item.parent(format!("pair/{}", pair.id), "pair");
                        item.prompt_id = Some(pair.id.clone());
                    } else if let Some(source) = pair.id.strip_suffix(HELD_OUT).filter(|id| is_contrast(id)) {
                        item = item.parent(source.to_owned(), "pair");
                    }
                    item.principle_id = Some(label.principle_id.clone());
                    item.dropped_reason = known.then(|| "a known pair: it measures the labeller".to_owned());
                    item.data = json!({
                        "prompt": pair.prompt, "first": pair.first, "second": pair.second,
                        "probability": label.probability, "label": label,
                        "cut_off": cut_off.get(&pair.id).copied().unwrap_or_default(),
                    });
                    items.push(item);
                }
                this.insert("label", &items)?;
            }
            bar.finish_and_clear();
            let (report, _) = this.judge_report(held_out)?;
            Ok(json!({"labels": all.len() - held_out.len(), "report": report}))
        })?;
        let (report, known) = self.judge_report(held_out)?;
        let records = self
            .run
            .ledger
            .kept_items("label", ItemKind::Label)?
            .into_iter()
            .map(|item| {
                let text = |key: &str| item.data[key].as_str().unwrap_or_default().to_owned();
                PreferencePair {
                    id: item.id.clone(),
                    prompt: vec![ChatMessage::user(text("prompt"))],
                    chosen: text("first"),
                    rejected: text("second"),
                    probability: item.data["probability"].as_f64().unwrap_or(0.5),
                    source: Some("ai".to_owned()),
                    cut_off: serde_json::from_value(item.data["cut_off"].clone()).unwrap_or_default(),
                }
            })
            .collect();
        Ok(Labels { hash, report, known, records })
    }

    /// The reward model on soft labels.
    pub(super) fn reward(&mut self, labels: &Labels, settings: crate::recipe::Training) -> Result<Trained> {
        let hash = settings_hash(&settings)?;
        self.stage("reward", &[&labels.hash, &hash], |this| {
            let pairs = pairs_of(&this.model, &labels.records)?;
            let head = head_weight(this.model.config().hidden_size, this.draws("reward").item("head"));
            let mut learner = this.learner("reward", None, Some(head));
            let settings = this.loop_of(settings.learning_rate, settings.epochs, settings.batch_size)?;
            let draws = this.draws("reward").item("order");
            let mut trainer = RewardTrainer::new(&mut learner, &pairs, settings, 0.01, draws)?;
            this.train("reward", "reward model", &mut trainer)?;
            let steps = trainer.total_steps();
            this.save_adapter("reward", &learner, steps)?;
            Ok(json!({"pairs": pairs.len(), "steps": steps}))
        })?;
        self.trained("reward")
    }

    /// DPO from the SFT model on the same labels.
    pub(super) fn dpo(
        &mut self,
        labels: &Labels,
        sft: &Trained,
        settings: crate::recipe::Dpo,
    ) -> Result<Trained> {
        let hash = settings_hash(&settings)?;
        self.stage("dpo", &[&labels.hash, &sft.hash, &hash], |this| {
            let pairs = pairs_of(&this.model, &labels.records)?;
            let references = reference_sums(&this.model.decoder, Some(&sft.adapter), &pairs, &mut |_| {});
            let mut learner = this.learner("dpo", Some(&sft.adapter), None);
            let loss = DpoSettings { loss: DpoLoss::Sigmoid, beta: settings.beta, label_smoothing: 0.0 };
            let steps = this.loop_of(settings.learning_rate, settings.epochs, settings.batch_size)?;
            let draws = this.draws("dpo").item("order");
            let mut trainer = DpoTrainer::new(&mut learner, &pairs, references, steps, loss, draws)?;
            this.train("dpo", "DPO", &mut trainer)?;
            let steps = trainer.total_steps();
            this.save_adapter("dpo", &learner, steps)?;
            Ok(json!({"pairs": pairs.len(), "steps": steps}))
        })?;
        self.trained("dpo")
    }

    /// PPO from the SFT model against the reward model; the critic starts from the reward model.
    pub(super) fn ppo(
        &mut self,
        sources: &str,
        reward: &Trained,
        sft: &Trained,
        settings: crate::recipe::Ppo,
    ) -> Result<Trained> {
        let hash = settings_hash(&settings)?;
        self.stage("ppo", &[sources, &reward.hash, &sft.hash, &hash], |this| {
            let mut prompts = Vec::new();
            for prompt in this.phase2_prompts(settings.prompts_each) {
                let messages = [solon_text::Message::user(text_of(&prompt))];
                let tokens = this.model.prompt_ids(&prompt.id, &messages, settings.max_new_tokens)?;
                prompts.push(PpoPrompt { id: prompt.id.clone(), tokens });
            }
            let head = reward.score.clone().context("the reward model has a score head")?;
            let mut policy = this.learner("ppo", Some(&sft.adapter), None);
            let mut critic = this.learner("ppo", Some(&reward.adapter), Some(head.clone()));
            let head = ScalarHead::new(this.model.decoder.backend(), head);
            let stop_ids = this.model.text.stop_ids().to_vec();
            let scale = reward_statistics(
                &this.model.decoder,
                Some(&sft.adapter),
                (&reward.adapter, &head),
                &prompts[..prompts.len().min(48)],
                &stop_ids,
                (settings.max_new_tokens, settings.temperature as f32),
                this.draws("ppo").item("statistics"),
            )?;
            let mut preset = ppo_preset(settings.kl_coefficient, settings.temperature);
            preset.epochs = 2;
            let ppo = PpoSettings {
                policy: this.loop_of(settings.learning_rate, settings.epochs, settings.rollouts)?,
                critic_learning_rate: settings.critic_learning_rate,
                max_new_tokens: settings.max_new_tokens,
                slots: SLOTS,
                preset,
            };
            let model = RewardModel { adapter: Some(&reward.adapter), head: &head, scale };
            let draws = this.draws("ppo").item("rollouts");
            let mut trainer = PpoTrainer::new(
                &mut policy,
                &mut critic,
                Some(&sft.adapter),
                model,
                &prompts,
                &stop_ids,
                ppo,
                draws,
            )?;
            this.train("ppo", "PPO", &mut trainer)?;
            let steps = trainer.total_steps();
            this.save_adapter("ppo", &policy, steps)?;
            Ok(json!({"prompts": prompts.len(), "iterations": steps}))
        })?;
        self.trained("ppo")
    }

    /// Prompts of phase 2: those phase 1 did not use first, from both files alike.
    fn phase2_prompts(&self, each: usize) -> Vec<PromptRecord> {
        let counts = &self.recipe.prompts;
        let take = |prompts: &[PromptRecord], used: usize| -> Vec<PromptRecord> {
            let start = used.min(prompts.len());
            prompts[start..].iter().chain(&prompts[..start]).take(each).cloned().collect()
        };
        let red_team = take(&self.red_team, counts.red_team_count);
        let helpful = take(&self.helpful, counts.helpful_count);
        // One of each in turn, so that every part of the list holds both.
        let mut out = Vec::new();
        let (mut red_team, mut helpful) = (red_team.into_iter(), helpful.into_iter());
        loop {
            let (r, h) = (red_team.next(), helpful.next());
            if r.is_none() && h.is_none() {
                return out;
            }
            out.extend(r.into_iter().chain(h));
        }
    }

    fn sampled_pairs(&self) -> Result<Vec<Pair>> {
        let items = self.run.ledger.kept_items("sample", ItemKind::Pair)?;
        Ok(items
            .into_iter()
            .map(|item| {
                let text = |key: &str| item.data[key].as_str().unwrap_or_default().to_owned();
                Pair {
                    id: item.prompt_id.clone().unwrap_or_default(),
                    prompt: text("prompt"),
                    first: text("first"),
                    second: text("second"),
                    principle_id: None,
                }
            })
            .collect())
    }

    /// Which of the answers to each prompt were cut off, by prompt.
    fn cut_off_answers(&self) -> Result<BTreeMap<String, [bool; 2]>> {
        let items = self.run.ledger.kept_items("sample", ItemKind::Pair)?;
        items
            .into_iter()
            .map(|mut item| {
                let cut_off = serde_json::from_value(item.data["cut_off"].take())?;
                Ok((item.prompt_id.unwrap_or_default(), cut_off))
            })
            .collect()
    }

    /// What the recorded labels say of their maker, and the known pairs among them.
    fn judge_report(&self, held_out: &[KnownPair]) -> Result<(JudgeReport, Vec<KnownLabel>)> {
        let all: Vec<Label> = self
            .run
            .ledger
            .items("label", ItemKind::Label)?
            .into_iter()
            .map(|item| Ok(serde_json::from_value(item.data["label"].clone())?))
            .collect::<Result<_>>()?;
        let known_ids: Vec<&str> = held_out.iter().map(|k| k.pair.id.as_str()).collect();
        let (known, unlabelled): (Vec<Label>, Vec<Label>) =
            all.into_iter().partition(|label| known_ids.contains(&label.pair_id.as_str()));
        let known = join_known(held_out, &known)?;
        // Contrasts are like the pairs at hand; worked examples, which are easier, speak for it only where there are none.
        let contrasts: Vec<KnownLabel> =
            known.iter().filter(|known| is_contrast(&known.label.pair_id)).cloned().collect();
        let measured = if contrasts.is_empty() { &known } else { &contrasts };
        Ok((JudgeReport::new(measured, &unlabelled), known))
    }
}
