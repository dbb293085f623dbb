//! `reward`: a reward model on preferences with soft labels. The pairs of some prompts are kept back from it. Its accuracy on
//! them is told and decides whether it passes: nothing is trained against a reward model that did not.
//!
//! Where training stops early, half of the prompts kept back choose the best parameters and the other half measures them,
//! so that what is told was not selected on.

use super::gate::Gate;
use super::settings::{Rates, not_negative, some_share};
use super::{Curve, Data, Input, Keys, Kind, Method, OneOrMany, Stage, Training, base};
use crate::report::Report;
use crate::run::{Reader, StageRun};
use crate::tokenise;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use solon_draws::Draws;
use solon_eval::{Rate, declines};
use solon_feedback::Ask;
use solon_records::Preference;
use solon_train::reward::{RewardEvaluation, RewardTrainer, pair_rewards};
use solon_train::{BestReward, TokenPair, Trainer, correlation};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

pub const KIND: Kind =
    Kind { name: "reward", about: "Trains a reward model on preferences.", parse, files: Vec::new };

struct Reward {
    own: Own,
    training: Training,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Own {
    /// The model to start from; its head is fresh, or its own where it is a reward model.
    #[serde(default = "base", skip_serializing)]
    from: String,
    /// Preferences.
    #[serde(default, skip_serializing)]
    pairs: OneOrMany,
    /// Weight of `(r_chosen + r_rejected)²`, which keeps rewards near 0 (TRL's `center_rewards_coefficient`; 0.01 is its
    /// suggestion); 0 is off.
    #[serde(default, deserialize_with = "not_negative")]
    centering: f64,
    /// The pairs of one prompt in so many are kept back to measure the model on; 0 keeps none back.
    #[serde(default = "eight")]
    hold_out_every: usize,
    /// How often the model is measured while it trains, to end with the parameters that were best on half of the prompts
    /// kept back; 0 ends with the last.
    #[serde(default)]
    stop_early: usize,
    /// The model passes if its accuracy on the pairs kept back is at least this, and is above chance by its interval; 0 lets
    /// every model pass. Left out: [`REQUIRED`] where pairs are kept back.
    #[serde(default, deserialize_with = "some_share")]
    require_accuracy: Option<f64>,
}

/// The accuracy required where the recipe does not say.
const REQUIRED: f64 = 0.5;

/// Above this correlation of the rewards with the answers' lengths, in either direction, the report warns.
const LENGTH_BIAS: f64 = 0.5;

fn eight() -> usize {
    8
}

fn parse(mut keys: Keys) -> Result<Box<dyn Stage>, String> {
    let training = Training::take(&mut keys, &Rates { lora: 1e-4, full: 9e-6 })?;
    let mut own: Own = keys.rest()?;
    if own.hold_out_every == 0 {
        for (key, given) in
            [("stop_early", own.stop_early > 0), ("require_accuracy", own.require_accuracy > Some(0.0))]
        {
            if given {
                return Err(format!(
                    "{key} needs pairs that are kept back, and hold_out_every is 0; give hold_out_every = 8, or leave {key} out"
                ));
            }
        }
    }
    let required = if own.hold_out_every == 0 { 0.0 } else { REQUIRED };
    own.require_accuracy.get_or_insert(required);
    if own.hold_out_every == 1 {
        return Err(
            "hold_out_every is 1, which would keep every pair back; give 2 or more, or 0 for none".to_owned()
        );
    }
    Ok(Box::new(Reward { training, own }))
}

impl Stage for Reward {
    fn inputs(&self) -> Vec<Input> {
        vec![
            Input::required("from", [self.own.from.clone()], &[Data::Model, Data::RewardModel]),
            Input::required("pairs", &self.own.pairs, &[Data::Preferences]),
        ]
    }

    fn output(&self) -> Data {
        Data::RewardModel
    }

    fn ask(&self) -> Option<Ask> {
        Some(Ask::Reward)
    }

    fn settings(&self) -> Value {
        // The last is where scores are read: a model that was trained to another place is trained anew.
        json!([self.own, self.training, "the conversation's end"])
    }

    fn trains(&self) -> Option<Method> {
        Some(self.training.method)
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let started = Instant::now();
        let preferences = run.read().preferences("pairs")?;
        if preferences.is_empty() && !pairs_are_made(&run.read()) {
            bail!("there are no preferences to learn from: {} is empty", run.read().input_shown("pairs"));
        }
        let start = run.start("from", self.training.method)?;
        let head = start
            .head()
            .unwrap_or_else(|| fresh_head(start.chat().config().hidden_size, run.draws().item("head")));
        if preferences.is_empty() {
            let student = run.student(start, Some(head))?;
            run.save(&student, 0)?;
            let why = format!("there are no pairs: none of {} was kept", run.read().input_shown("pairs"));
            let seconds = started.elapsed().as_secs_f64();
            let gate = Gate { passed: false, why };
            return Ok(json!({"pairs": 0, "steps": 0, "tokens": 0, "seconds": seconds, "gate": gate}));
        }
        let parts = parts(&preferences, self.own.hold_out_every, self.own.stop_early > 0)?;
        let all = tokenise::pairs(start.chat(), &preferences, Some(&start.chat().closing()))?;
        let of = |wanted: Part| -> Vec<TokenPair> {
            let pairs = all.iter().zip(&parts).filter(|(_, part)| **part == wanted);
            pairs.map(|(pair, _)| pair.clone()).collect()
        };
        let (learnt, stopping) = (of(Part::Learnt), of(Part::Stops));
        let settings = run.train_settings(&self.training, &start)?;
        let mut student = run.student(start, Some(head))?;
        let draws = run.draws().item("order");
        let mut trainer =
            RewardTrainer::new(&mut student.learner, &learnt, settings, self.own.centering, draws)?;
        let mut steps = trainer.total_steps();
        let mut told = match stopping.is_empty() {
            true => run.train(&mut trainer, started)?,
            false => {
                let mut trainer = BestReward::new(trainer, &stopping, self.own.stop_early)?;
                let mut told = run.train(&mut trainer, started)?;
                let best = trainer.finish();
                steps = best.map_or(steps, |best| best.step);
                told["best"] = json!(best);
                told
            }
        };
        run.save(&student, steps)?;
        told["pairs"] = json!(learnt.len());
        let measures: Vec<&Preference> = preferences
            .iter()
            .zip(&parts)
            .filter(|(_, part)| **part == Part::Measures)
            .map(|(preference, _)| preference)
            .collect();
        let mut rate = None;
        if !measures.is_empty() {
            let learner = &student.learner;
            let head = learner.scalar.as_ref().context("a reward model has a head")?;
            let pairs = of(Part::Measures);
            let tokens = settings.tokens_per_pass;
            let rewards = pair_rewards(&learner.decoder, learner.adapter.as_ref(), head, &pairs, tokens);
            let held_out = HeldOut::of(&measures, &pairs, &rewards)?;
            rate = Some((held_out.rate, [held_out.declines, held_out.helps]));
            told["held_out_accuracy"] = json!(held_out.overall.accuracy);
            told["held_out"] = json!(held_out);
        }
        told["gate"] = json!(Gate::of(self.own.require_accuracy.unwrap_or(REQUIRED), rate));
        Ok(told)
    }

    fn curves(&self) -> Vec<Curve> {
        vec![
            Curve {
                title: "loss and accuracy on the pairs it learns from",
                y_label: "loss, and share that is right",
                series: &[("loss", "loss"), ("accuracy", "accuracy")],
            },
            Curve {
                title: "loss and accuracy on the pairs that choose when to stop",
                y_label: "loss, and share that is right",
                series: &[("eval_loss", "loss"), ("eval_accuracy", "accuracy")],
            },
        ]
    }

    fn report(&self, read: &Reader<'_>, report: &mut Report) -> Result<()> {
        let (detail, name) = (read.detail()?, read.name());
        let gate: Gate = serde_json::from_value(detail["gate"].clone())?;
        if !gate.passed {
            report.warnings.push(format!("The reward model {name} did not pass: {}.", gate.why));
        }
        let held_out = &detail["held_out"];
        if held_out["accuracy"].is_null() {
            report.warnings.push(format!("The reward model {name} was not measured on pairs kept back."));
            return Ok(());
        }
        let rate = |key: &str| -> Option<String> {
            let Shown { count, total, low, high } = serde_json::from_value(held_out[key].clone()).ok()?;
            let percent = 100.0 * count as f64 / total as f64;
            let (low, high) = (100.0 * low, 100.0 * high);
            (total > 0).then(|| format!("{percent:.0} % (of {total}; 95 % interval {low:.0} to {high:.0} %)"))
        };
        let none = || "none".to_owned();
        report.notes.push(format!(
            "{name}: the reward model prefers the better answer in {} of the pairs kept back from its training; where the better \
             answer declines, in {}; where it helps, in {}.",
            rate("rate").unwrap_or_else(none),
            rate("declines").unwrap_or_else(none),
            rate("helps").unwrap_or_else(none),
        ));
        let (loss, constant) = (held_out["loss"].as_f64(), held_out["constant_loss"].as_f64());
        if let (Some(loss), Some(constant)) = (loss, constant)
            && loss >= constant
        {
            report.warnings.push(format!(
                "The reward model {name} is no better than a constant on the pairs kept back (loss {loss:.2}, a constant's {constant:.2})."
            ));
        }
        if let Some(r) = held_out["length_correlation"].as_f64()
            && r.abs() > LENGTH_BIAS
        {
            report.warnings.push(format!(
                "The rewards of {name} follow the length of the answers (correlation {r:.2} over the answers kept back)."
            ));
        }
        if self.own.stop_early > 0 && detail["best"].is_null() {
            report.warnings.push(format!(
                "The reward model {name} ended with its last parameters: too few prompts were kept back to choose others."
            ));
        }
        Ok(())
    }

    fn summary(&self, read: &Reader<'_>, summary: &mut Map<String, Value>) -> Result<()> {
        let detail = read.detail()?;
        let mut told = detail["held_out"].as_object().cloned().unwrap_or_default();
        for key in ["gate", "best"] {
            told.insert(key.to_owned(), detail[key].clone());
        }
        let models = summary.entry("reward_models").or_insert_with(|| json!({}));
        models[read.name()] = Value::Object(told);
        Ok(())
    }
}

/// Whether the pairs are made in this run: then there may be none, because what made them kept none.
fn pairs_are_made(read: &Reader<'_>) -> bool {
    let mut stages = read.input("pairs").iter().filter_map(|name| read.stage_named(name));
    stages.any(|stage| !stage.inputs().is_empty())
}

/// What a pair is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// It is learnt.
    Learnt,
    /// It is kept back, and chooses when to stop.
    Stops,
    /// It is kept back, and measures the model.
    Measures,
}

/// The part of each preference. The pairs of a prompt go together, for a model that has learnt one of them knows more of the
/// others. Prompts whose better answer declines are counted first and then the others, so that one in `every` has its share
/// of both: by their place alone, prompts of two inputs in turn would all be of one input.
fn parts(preferences: &[Preference], every: usize, stops: bool) -> Result<Vec<Part>> {
    let keys: Vec<String> =
        preferences.iter().map(|p| serde_json::to_string(&p.prompt)).collect::<Result<_, _>>()?;
    let mut seen = BTreeSet::new();
    let mut prompts: Vec<(&String, bool)> = Vec::new();
    for (key, preference) in keys.iter().zip(preferences) {
        if seen.insert(key) {
            prompts.push((key, declines(&preference.chosen)));
        }
    }
    prompts.sort_by_key(|(_, declines)| !declines);
    let numbers: BTreeMap<&String, usize> =
        prompts.into_iter().enumerate().map(|(i, (key, _))| (key, i + 1)).collect();
    let part = |number: usize| match every {
        0 => Part::Learnt,
        every if !number.is_multiple_of(every) => Part::Learnt,
        every if stops && (number / every).is_multiple_of(2) => Part::Stops,
        _ => Part::Measures,
    };
    Ok(keys.iter().map(|key| part(numbers[key])).collect())
}

/// A rate as it was told.
#[derive(Deserialize)]
struct Shown {
    count: usize,
    total: usize,
    low: f64,
    high: f64,
}

/// What the pairs kept back say of the model.
#[derive(Serialize)]
struct HeldOut {
    #[serde(flatten)]
    overall: RewardEvaluation,
    /// The accuracy with its interval; ties do not count.
    rate: Rate,
    /// The same where the better answer declines the request.
    declines: Rate,
    /// The same where it helps.
    helps: Rate,
    /// Correlation of the rewards with the answers' lengths in tokens, over chosen and rejected answers.
    length_correlation: Option<f64>,
}

impl HeldOut {
    fn of(preferences: &[&Preference], pairs: &[TokenPair], rewards: &[[f32; 2]]) -> Result<Self> {
        let overall = RewardEvaluation::of(pairs, rewards)?;
        let mut outcomes = [Vec::new(), Vec::new()];
        let (mut all, mut lengths) = (Vec::new(), Vec::new());
        for ((preference, pair), [chosen, rejected]) in preferences.iter().zip(pairs).zip(rewards) {
            if pair.probability != 0.5 {
                outcomes[usize::from(declines(&preference.chosen))].push(chosen > rejected);
            }
            all.extend([f64::from(*chosen), f64::from(*rejected)]);
            lengths.extend([pair.chosen.len() as f64, pair.rejected.len() as f64]);
        }
        let [helps, declines] = outcomes.map(Rate::of);
        let rate = Rate::new(overall.correct, overall.decided);
        Ok(Self { overall, rate, declines, helps, length_correlation: correlation(&all, &lengths) })
    }
}

/// A scalar head's starting weight: variance 1/(hidden + 1) ("N details", 8).
fn fresh_head(hidden: usize, draws: Draws) -> Vec<f32> {
    let deviation = 1.0 / ((hidden + 1) as f64).sqrt();
    (0..hidden as u64).map(|i| (draws.normal(i) * deviation) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use solon_records::Message;

    fn preference(prompt: &str, chosen: &str) -> Preference {
        Preference {
            id: prompt.to_owned(),
            prompt: vec![Message::user(prompt)],
            chosen: chosen.to_owned(),
            rejected: "A cat.".to_owned(),
            probability: 0.9,
            margin: None,
            source: None,
            cut_off: [false; 2],
            beside: Default::default(),
        }
    }

    const NO: &str = "I can't help with that.";

    /// Harmful and harmless prompts in turn: a plain count would keep back the harmless ones alone.
    #[test]
    fn what_is_kept_back_has_its_share_of_refusals() {
        let mut preferences = Vec::new();
        for i in 0..8 {
            preferences.push(preference(&format!("harm {i}"), NO));
            preferences.push(preference(&format!("help {i}"), "Sure: boil the water first."));
        }
        preferences.push(preference("harm 1", "Sure: boil the water first."));
        let kept = |stops: bool, wanted: Part| -> Vec<String> {
            let parts = parts(&preferences, 2, stops).unwrap();
            let kept = preferences.iter().zip(parts).filter(|(_, part)| *part == wanted);
            kept.map(|(preference, _)| preference.id.clone()).collect()
        };
        let all = ["harm 1", "help 1", "harm 3", "help 3", "harm 5", "help 5", "harm 7", "help 7", "harm 1"];
        assert_eq!(kept(false, Part::Measures), all, "with the second pair of a prompt");
        assert_eq!(kept(true, Part::Measures), ["harm 1", "help 1", "harm 5", "help 5", "harm 1"]);
        assert_eq!(kept(true, Part::Stops), ["harm 3", "help 3", "harm 7", "help 7"]);
        assert_eq!(kept(true, Part::Learnt).len(), 8);
        assert!(parts(&preferences, 0, true).unwrap().iter().all(|part| *part == Part::Learnt));
    }

    #[test]
    fn accuracy_is_told_apart_and_ties_do_not_count() {
        let helps = "Sure: boil the water first.";
        let mut all =
            [preference("a", NO), preference("b", NO), preference("c", helps), preference("d", helps)];
        all[3].probability = 0.5;
        let pair = |preference: &Preference, length: usize| TokenPair {
            id: preference.id.clone(),
            prompt: vec![1],
            chosen: vec![2; length],
            rejected: vec![3; 2],
            probability: preference.probability as f32,
            margin: None,
        };
        let pairs: Vec<TokenPair> = all.iter().zip([4, 2, 1, 2]).map(|(p, length)| pair(p, length)).collect();
        let rewards = [[2.0, 0.0], [0.0, 1.0], [0.5, -1.0], [0.0, 0.0]];
        let held_out = HeldOut::of(&all.iter().collect::<Vec<_>>(), &pairs, &rewards).unwrap();
        assert_eq!((held_out.rate.count, held_out.rate.total), (2, 3));
        assert_eq!((held_out.declines.count, held_out.declines.total), (1, 2));
        assert_eq!((held_out.helps.count, held_out.helps.total), (1, 1));
        let (rewards, lengths) =
            ([2.0, 0.0, 0.0, 1.0, 0.5, -1.0, 0.0, 0.0], [4.0, 2.0, 2.0, 2.0, 1.0, 2.0, 2.0, 2.0]);
        assert_eq!(held_out.length_correlation, correlation(&rewards, &lengths));
        assert!(held_out.length_correlation > Some(0.5));
    }

    #[test]
    fn what_needs_pairs_kept_back_is_refused_without() {
        let read = |text: &str| parse(Keys::new(text.parse().unwrap())).err().unwrap_or_default();
        for key in ["stop_early = 4", "require_accuracy = 0.75"] {
            let error = read(&format!("hold_out_every = 0\n{key}"));
            assert!(error.contains("hold_out_every is 0"), "{error}");
            assert_eq!(read(key), "");
        }
        assert_eq!(read("hold_out_every = 0\nrequire_accuracy = 0.0"), "");
        assert!(read("require_accuracy = 1.5").contains("require_accuracy"));
    }
}
