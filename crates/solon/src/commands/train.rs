//! `solon sft`, `reward`, `dpo` and `ppo`: one training stage with files in and files out.
//!
//! The output folder is a run of one stage, so a training that was broken off goes on when the command is given again.

use super::bench::peak_rss_bytes;
use super::open;
use crate::cli::{DpoArgs, MethodFlag, PpoArgs, TrainArgs, UsageError};
use crate::memory::Pass;
use crate::run_folder::{Begun, RunFolder, StageClock, model_hash, settings_hash, stop_on_interrupt};
use crate::training::{self, fresh_adapter, head_weight, pairs_of, reward_statistics, sft_examples};
use anyhow::{Result, bail};
use serde_json::json;
use solon_data::files::sha256_file;
use solon_data::ledger::{ItemKind, NewItem};
use solon_data::records::{read_demonstrations, read_pairs, read_prompts};
use solon_draws::Draws;
use solon_infer::chat::ChatModel;
use solon_kernels::isa::isa;
use solon_model::weights::{Checkpoint, SaveType, TokenIds, save_hugging_face};
use solon_model::{Cpu, Decoder, Training};
use solon_text::Message;
use solon_train::dpo::{DpoTrainer, reference_sums};
use solon_train::losses::dpo::{DpoLoss, DpoSettings};
use solon_train::ppo::trainer::{PpoPrompt, PpoSettings, PpoTrainer, RewardModel};
use solon_train::reward::RewardTrainer;
use solon_train::sft::SftTrainer;
use solon_train::{Learner, MAX_SKIPPED, Optimizer, Schedule, TrainSettings, Trainer};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Everything a training command needs, opened.
struct Job {
    model: ChatModel,
    run: RunFolder,
    draws: Draws,
}

/// Opens model and folder; `None` where the folder holds the finished result of the same command.
fn begin(stage: &'static str, args: &TrainArgs, extra: &str) -> Result<Option<(Job, StageClock)>> {
    if args.batch == 0 || args.epochs == 0 || args.rank == 0 {
        return Err(UsageError("--batch, --epochs and --rank must be at least 1".to_owned()).into());
    }
    stop_on_interrupt()?;
    let training = if args.method == MethodFlag::Full { Training::Full } else { Training::Frozen };
    let model = open(&args.model, training)?;
    // Refused before anything is written or computed.
    pass_of(args, &model.decoder, args.rank)?;
    let mut run = RunFolder::open(&args.out)?;
    let settings = settings_hash(&json!([
        args.method == MethodFlag::Full,
        args.merge,
        args.rank,
        args.learning_rate,
        args.epochs,
        args.batch,
        args.seed,
        args.memory_gb,
        model_hash(&model.path)?,
        args.model.adapter.as_deref().map(model_hash).transpose()?,
        model.decoder.backend().precision().name(),
        isa().name(),
        extra,
    ]))?;
    let inputs = [stage, &settings, &sha256_file(&args.data)?];
    match run.begin(stage, &inputs)? {
        Begun::Done { .. } => {
            eprintln!("{stage}: already done in {}", args.out.display());
            if args.json {
                let done = json!({"out": args.out.display().to_string(), "already_done": true});
                writeln!(std::io::stdout(), "{done}")?;
            }
            Ok(None)
        }
        Begun::Work(clock) => {
            let draws = Draws::new(args.seed, stage);
            Ok(Some((Job { model, run, draws }, clock)))
        }
    }
}

fn pass_of(args: &TrainArgs, decoder: &Decoder<Cpu>, rank: usize) -> Result<Pass> {
    let rank = (args.method == MethodFlag::Lora).then_some(rank);
    Pass::within(args.memory_gb, decoder.config(), rank, decoder.backend().precision())
}

fn loop_of(args: &TrainArgs, learner: &Learner<Cpu>, learning_rate: f64) -> Result<TrainSettings> {
    let rank = learner.adapter.as_ref().map_or(args.rank, |adapter| adapter.settings.rank);
    let pass = pass_of(args, &learner.decoder, rank)?;
    Ok(TrainSettings {
        learning_rate: args.learning_rate.unwrap_or(learning_rate),
        schedule: Schedule::Cosine,
        warmup: 0.05,
        batch_size: args.batch,
        epochs: args.epochs,
        optimizer: Optimizer::default(),
        max_skipped: MAX_SKIPPED,
        tokens_per_pass: pass.tokens,
        keep: pass.keep,
    })
}

/// A learner on the job's model, as the flags ask: its adapter goes on, or a fresh one is made, or every weight is trained.
///
/// Takes the model apart: a decoder that is trained must have the learner as its only owner.
fn learner(job: Job, args: &TrainArgs, scalar: Option<Vec<f32>>) -> Result<(Learner<Cpu>, Unsaved)> {
    let Job { mut model, run, draws } = job;
    let backend = *model.decoder.backend();
    let adapter = match (model.adapter.take(), args.method) {
        (Some(adapter), _) => Some(adapter),
        (None, MethodFlag::Lora) => Some(fresh_adapter(&model, args.rank, 2.0 * args.rank as f32, draws)),
        (None, MethodFlag::Full) => None,
    };
    let scalar = scalar.map(|weight| solon_model::ScalarHead::new(&backend, weight));
    let (files, ids) = (model.text.export_files()?, model.token_ids());
    let ChatModel { decoder, path, .. } = model;
    let learner = Learner::new(decoder, adapter, scalar);
    Ok((learner, Unsaved { run, draws, path, files, ids }))
}

/// What is needed beside a learner to save it.
struct Unsaved {
    run: RunFolder,
    draws: Draws,
    path: PathBuf,
    files: Vec<(String, Vec<u8>)>,
    ids: TokenIds,
}

impl Unsaved {
    /// Saves what was trained under the output folder and ends the stage.
    fn finish(
        mut self,
        clock: StageClock,
        learner: &Learner<Cpu>,
        args: &TrainArgs,
        work: &Work,
    ) -> Result<()> {
        let backend = *learner.decoder.backend();
        let score = learner.scalar.as_ref().map(|head| &head.weight);
        match (&learner.adapter, learner.decoder.trained_values()) {
            (Some(adapter), None) if !args.merge => {
                adapter.to_file(&backend, Some(args.model.model.clone()), score).save(&args.out)?;
            }
            (adapter, trained) => {
                let mut checkpoint = Checkpoint::open(&self.path)?;
                for (name, values) in trained.iter().flat_map(|tensors| tensors.named()) {
                    if let Some(tensor) = checkpoint.tensors.get_mut(&name) {
                        tensor.data.copy_from_slice(values);
                    }
                }
                if let Some(adapter) = adapter {
                    adapter.merge_into(&backend, &mut checkpoint.tensors).map_err(anyhow::Error::msg)?;
                }
                let score = score.map(|weight| solon_model::weights::Tensor {
                    shape: vec![1, weight.len()],
                    data: weight.to_vec(),
                });
                save_hugging_face(
                    &args.out,
                    &checkpoint.config,
                    &checkpoint.tensors,
                    SaveType::F32,
                    score.as_ref(),
                    &self.files,
                    &self.ids,
                )?;
            }
        }
        eprintln!("saved {}", args.out.display());
        self.run.finish(clock, "saved", &json!({}))?;
        if args.json {
            writeln!(std::io::stdout(), "{}", work.to_json(args))?;
        }
        Ok(())
    }
}

/// What training took, without opening and saving.
struct Work {
    seconds: f64,
    tokens: usize,
}

impl Work {
    /// Steps a trainer to its end; `started` is when what belongs to training began.
    fn of(
        out: &mut Unsaved,
        stage: &str,
        what: &str,
        trainer: &mut dyn Trainer,
        started: Instant,
    ) -> Result<Self> {
        let tokens = out.run.train(stage, what, trainer)?;
        Ok(Self { seconds: started.elapsed().as_secs_f64(), tokens })
    }

    fn to_json(&self, args: &TrainArgs) -> serde_json::Value {
        json!({
            "out": args.out.display().to_string(), "already_done": false, "seconds": self.seconds, "tokens": self.tokens,
            "tokens_per_s": self.tokens as f64 / self.seconds, "peak_rss_bytes": peak_rss_bytes(),
        })
    }
}

/// Refuses `--adapter` with `--method full`: which of the two is trained would be a guess.
fn refuse_full_adapter(args: &TrainArgs) -> Result<()> {
    if args.method == MethodFlag::Full && args.model.adapter.is_some() {
        let text = "--method full trains the weights, --adapter an adapter\nhint: leave one of them out";
        return Err(UsageError(text.to_owned()).into());
    }
    Ok(())
}

/// Records training data in the ledger, so that steps can point to it.
fn record(
    run: &mut RunFolder,
    stage: &str,
    kind: ItemKind,
    items: impl Iterator<Item = (String, String)>,
) -> Result<()> {
    let items: Vec<NewItem> =
        items.enumerate().map(|(i, (id, text))| NewItem::new(id, kind, i as u64, text)).collect();
    Ok(run.ledger.insert_items(stage, &items)?)
}

/// `solon sft`.
pub fn sft(args: &TrainArgs) -> Result<()> {
    refuse_full_adapter(args)?;
    let demonstrations = read_demonstrations(&args.data)?;
    let Some((mut job, clock)) = begin("sft", args, "")? else { return Ok(()) };
    let conversations: Vec<training::Demonstration> = demonstrations
        .iter()
        .map(|d| training::Demonstration {
            id: d.id.clone(),
            messages: d.messages.iter().map(|m| Message::new(&m.role, &m.content)).collect(),
            prompt_len: d.prompt_len,
            cut_off: d.cut_off,
        })
        .collect();
    let examples = sft_examples(&job.model, &conversations)?;
    let texts = demonstrations.iter().map(|d| (d.id.clone(), training::transcript(&d.messages)));
    record(&mut job.run, "sft", ItemKind::Demonstration, texts)?;
    let (mut learner, mut out) = learner(job, args, None)?;
    let default = if args.method == MethodFlag::Full { 2e-5 } else { 3e-4 };
    let started = Instant::now();
    let settings = loop_of(args, &learner, default)?;
    let mut trainer = SftTrainer::new(&mut learner, &examples, settings, out.draws.item("order"))?;
    let work = Work::of(&mut out, "sft", "fine-tuning", &mut trainer, started)?;
    out.finish(clock, &learner, args, &work)
}

/// `solon reward`.
pub fn reward(args: &TrainArgs) -> Result<()> {
    refuse_full_adapter(args)?;
    let records = read_pairs(&args.data)?;
    let Some((mut job, clock)) = begin("reward", args, "")? else { return Ok(()) };
    let pairs = pairs_of(&job.model, &records)?;
    let texts = records.iter().map(|p| (p.id.clone(), training::pair_text(p)));
    record(&mut job.run, "reward", ItemKind::Pair, texts)?;
    let head = head_weight(job.model.config().hidden_size, job.draws.item("head"));
    let (mut learner, mut out) = learner(job, args, Some(head))?;
    let default = if args.method == MethodFlag::Full { 9e-6 } else { 1e-4 };
    let started = Instant::now();
    let settings = loop_of(args, &learner, default)?;
    let mut trainer = RewardTrainer::new(&mut learner, &pairs, settings, 0.0, out.draws.item("order"))?;
    let work = Work::of(&mut out, "reward", "reward model", &mut trainer, started)?;
    out.finish(clock, &learner, args, &work)
}

/// `solon dpo`.
pub fn dpo(args: &DpoArgs) -> Result<()> {
    refuse_full_adapter(&args.train)?;
    let records = read_pairs(&args.train.data)?;
    let Some((mut job, clock)) = begin("dpo", &args.train, &format!("beta {}", args.beta))? else {
        return Ok(());
    };
    let pairs = pairs_of(&job.model, &records)?;
    let texts = records.iter().map(|p| (p.id.clone(), training::pair_text(p)));
    record(&mut job.run, "dpo", ItemKind::Pair, texts)?;
    let started = Instant::now();
    let references = reference_sums(&job.model.decoder, job.model.adapter.as_ref(), &pairs, &mut |_| {});
    let (mut learner, mut out) = learner(job, &args.train, None)?;
    let default = if args.train.method == MethodFlag::Full { 1e-6 } else { 5e-5 };
    let loss = DpoSettings { loss: DpoLoss::Sigmoid, beta: args.beta, label_smoothing: 0.0 };
    let settings = loop_of(&args.train, &learner, default)?;
    let mut trainer =
        DpoTrainer::new(&mut learner, &pairs, references, settings, loss, out.draws.item("order"))?;
    let work = Work::of(&mut out, "dpo", "DPO", &mut trainer, started)?;
    out.finish(clock, &learner, &args.train, &work)
}

/// `solon ppo`.
pub fn ppo(args: &PpoArgs) -> Result<()> {
    let train = &args.train;
    if train.method == MethodFlag::Full {
        let text = "PPO trains adapters: policy, reference, reward model and critic share one frozen model\nhint: leave out --method full";
        return Err(UsageError(text.to_owned()).into());
    }
    let records = read_prompts(&train.data)?;
    if !(args.temperature.is_finite() && args.temperature > 0.0) {
        return Err(
            UsageError("--temperature must be above 0: PPO samples what it learns from".to_owned()).into()
        );
    }
    let reward_model = model_hash(&args.reward_model)?;
    let extra =
        format!("{reward_model} {} {} {}", args.kl_coefficient, args.temperature, args.max_new_tokens);
    let Some((mut job, clock)) = begin("ppo", train, &extra)? else { return Ok(()) };
    let reward_model = open_reward_model(&job.model, &args.reward_model)?;
    let mut prompts = Vec::new();
    for record in &records {
        let messages: Vec<Message> =
            record.messages.iter().map(|m| Message::new(&m.role, &m.content)).collect();
        let tokens = job.model.prompt_ids(&record.id, &messages, args.max_new_tokens)?;
        prompts.push(PpoPrompt { id: record.id.clone(), tokens });
    }
    let texts = records.iter().map(|r| (r.id.clone(), training::transcript(&r.messages)));
    record(&mut job.run, "ppo", ItemKind::Prompt, texts)?;
    let backend = *job.model.decoder.backend();
    let reference = job.model.adapter.as_ref().map(|adapter| adapter.duplicate(&backend));
    let decoder = Arc::clone(&job.model.decoder);
    let stop_ids = job.model.text.stop_ids().to_vec();
    let (mut policy, mut out) = learner(job, train, None)?;
    let (critic_adapter, head) = (reward_model.0.duplicate(&backend), reward_model.1.clone());
    let scalar = Some(solon_model::ScalarHead::new(&backend, head.clone()));
    let mut critic = Learner::new(Arc::clone(&decoder), Some(critic_adapter), scalar);
    let head = solon_model::ScalarHead::new(&backend, head);
    let settings = PpoSettings {
        policy: loop_of(train, &policy, 5e-5)?,
        critic_learning_rate: 1e-4,
        max_new_tokens: args.max_new_tokens,
        slots: train.batch,
        preset: training::ppo_preset(args.kl_coefficient, args.temperature),
    };
    let started = Instant::now();
    let scale = reward_statistics(
        &decoder,
        reference.as_ref(),
        (&reward_model.0, &head),
        &prompts[..prompts.len().min(64)],
        &stop_ids,
        (args.max_new_tokens, args.temperature as f32),
        out.draws.item("statistics"),
    )?;
    let model = RewardModel { adapter: Some(&reward_model.0), head: &head, scale };
    let draws = out.draws.item("rollouts");
    let mut trainer = PpoTrainer::new(
        &mut policy,
        &mut critic,
        reference.as_ref(),
        model,
        &prompts,
        &stop_ids,
        settings,
        draws,
    )?;
    eprintln!(
        "{} iterations; rewards of the starting model: mean {:.3}, deviation {:.3}",
        trainer.total_steps(),
        scale.mean,
        scale.deviation
    );
    let work = Work::of(&mut out, "ppo", "PPO", &mut trainer, started)?;
    out.finish(clock, &policy, train, &work)
}

/// The adapter and head of a reward model made by `solon reward` on this model.
fn open_reward_model(model: &ChatModel, folder: &Path) -> Result<(solon_model::Adapter<Cpu>, Vec<f32>)> {
    let file = solon_model::weights::AdapterFile::open(folder)?;
    let backend = *model.decoder.backend();
    let adapter = solon_model::Adapter::from_file(&backend, model.config(), &file)
        .map_err(|reason| anyhow::anyhow!("the reward model {} does not fit: {reason}", folder.display()))?;
    match file.score {
        Some(score) if score.data.len() == model.config().hidden_size => Ok((adapter, score.data)),
        _ => bail!(
            "{} has no score head of one label\nhint: train it with `solon reward` on the same model",
            folder.display()
        ),
    }
}
