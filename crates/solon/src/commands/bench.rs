//! `solon bench`: measures the speed of this machine.
//!
//! Warm-up is not timed: models are opened, and one step or one short generation is done first. Other programs read the
//! JSON, so its fields must not change.

use super::precision;
use crate::catalogue;
use crate::cli::{AdapterFlag, BenchCommand, BenchGenerateArgs, BenchModelArgs, BenchTrainArgs, UsageError};
use crate::memory::Pass;
use crate::out::outln;
use crate::run::fresh_adapter;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use solon_draws::Draws;
use solon_infer::chat::{ChatModel, OpenSettings};
use solon_infer::engine::Engine;
use solon_infer::generate::{Request, Settings};
use solon_infer::prefixes::{KEPT, Sharing};
use solon_kernels::isa::isa;
use solon_kernels::{Precision, roofline};
use solon_model::parameters::Projection;
use solon_model::{Keep, ModelConfig, Training};
use solon_records::SamplingSettings;
use solon_train::sft::{SftExample, SftTrainer};
use solon_train::{Learner, Optimizer, Schedule, TrainSettings, Trainer};
use std::time::Instant;

/// Runs one of the benchmarks.
pub fn run(command: &BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Train(args) => train(args),
        BenchCommand::Generate(args) => generation(args),
        BenchCommand::Gemm { repeats, json, .. } => gemm(*repeats, *json),
    }
}

fn train(args: &BenchTrainArgs) -> Result<()> {
    if args.length < 2 {
        return Err(UsageError("--length must be at least 2".into()).into());
    }
    let rank = args.adapter.map(|AdapterFlag::Lora| args.rank);
    let model = open(&args.model, if rank.is_some() { Training::Frozen } else { Training::Full })?;
    check_context(&model, args.length)?;
    let precision = model.decoder.backend().precision();
    let draws = Draws::new(0, "bench");
    let adapter = rank.map(|rank| fresh_adapter(&model, rank, 2.0 * rank as f32, draws));
    let config = model.config().clone();
    let steps = args.model.repeats + 1;
    let pass = Pass::within(args.memory_gb, &config, rank, precision)?;
    let examples: Vec<SftExample> = (0..steps * args.batch)
        .map(|i| SftExample {
            id: i.to_string(),
            tokens: random_ids(args.length, config.vocab_size, draws.index(i as u64)),
            mask: vec![true; args.length],
        })
        .collect();
    let settings = TrainSettings {
        learning_rate: 1e-6,
        schedule: Schedule::Constant,
        warmup: 0.0,
        batch_size: args.batch,
        epochs: 1,
        optimizer: Optimizer::default(),
        max_skipped: 0,
        tokens_per_pass: pass.tokens,
        keep: pass.keep,
    };
    let ChatModel { decoder, .. } = model;
    let mut learner = Learner::new(decoder, adapter, None);
    let mut trainer = SftTrainer::new(&mut learner, &examples, settings, draws)?;
    let mut seconds = Vec::new();
    for step in 0..steps {
        let start = Instant::now();
        trainer.step(step)?;
        if step > 0 {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    let tokens = (args.batch * args.length) as f64;
    let flops = training_flops(&config, args.batch, args.length, rank);
    let mut report = report(&args.model, precision, &seconds, tokens, flops)?;
    report["work"] = json!({
        "kind": "train", "adapter": rank.map(|_| "lora"), "rank": rank, "batch": args.batch, "length": args.length,
        "tokens_per_pass": pass.tokens, "recomputation": pass.keep == Keep::Inputs,
    });
    print(&report, args.model.json)
}

fn generation(args: &BenchGenerateArgs) -> Result<()> {
    let BenchGenerateArgs { batch, prompt_tokens, shared_tokens, new_tokens, .. } = *args;
    if prompt_tokens + shared_tokens == 0 {
        return Err(UsageError("--prompt-tokens or --shared-tokens must be at least 1".into()).into());
    }
    let model = open(&args.model, args.weights.weights.into())?;
    check_context(&model, prompt_tokens + shared_tokens + new_tokens)?;
    let config = model.config().clone();
    let draws = Draws::new(0, "bench");
    let shared = random_ids(shared_tokens, config.vocab_size, draws.item("shared"));
    // Every repeat has its own prompts and its own engine, so that nothing is cached from an earlier repeat.
    let requests = |repeat: usize| -> Vec<Request> {
        (0..batch)
            .map(|i| {
                let draws = draws.index(repeat as u64).index(i as u64);
                let own = random_ids(prompt_tokens, config.vocab_size, draws);
                Request { prompt: [&shared[..], &own].concat(), draws }
            })
            .collect()
    };
    let settings = Settings {
        sampling: SamplingSettings::of_length(new_tokens),
        stop_ids: &[],
        stop_text: None,
        slots: batch,
        logprob_temperature: 1.0,
    };
    let sharing = if args.no_sharing { Sharing::Off } else { KEPT };
    let (mut seconds, mut computed) = (Vec::new(), 0);
    for repeat in 0..=args.model.repeats {
        let requests = requests(repeat);
        let start = Instant::now();
        let mut engine = Engine::new(&model.decoder, None, sharing);
        engine.generate(&requests, &settings, &mut |_| {});
        computed = engine.prompt_tokens().computed;
        if repeat > 0 {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    let prompt = prompt_tokens + shared_tokens;
    let mut flops = generation_flops(&config, batch, prompt, new_tokens);
    if !args.no_sharing && batch > 1 && shared_tokens > 0 {
        // A shared prefix is computed once.
        flops -= (batch - 1) as f64 * generation_flops(&config, 1, shared_tokens, 0);
    }
    let tokens = (batch * new_tokens) as f64;
    let precision = model.decoder.backend().precision();
    let mut report = report(&args.model, precision, &seconds, tokens, flops)?;
    report["work"] = json!({
        "kind": "generate", "batch": batch, "prompt_tokens": prompt_tokens, "shared_tokens": shared_tokens,
        "new_tokens": new_tokens, "sharing": !args.no_sharing, "prompt_tokens_computed": computed,
        "weights": args.weights.weights.name(),
    });
    print(&report, args.model.json)
}

/// The products of SmolLM2-135M's training step, and a large one.
fn gemm(repeats: usize, as_json: bool) -> Result<()> {
    let mut products = Vec::new();
    for precision in [Precision::F32, Precision::Bf16] {
        for (m, n, k) in [(1024, 1536, 576), (1024, 576, 1536), (2048, 2048, 2048)] {
            let mut rates = roofline::product_gflops(m, n, k, precision, 10 * repeats);
            products.push(json!({
                "m": m, "n": n, "k": k, "precision": precision.name(), "gflops": median(&mut rates),
                "with_packing": true,
            }));
        }
    }
    let report =
        json!({"isa": isa().name(), "threads": solon_kernels::threads::count(), "products": products});
    if as_json {
        outln!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    outln!("{} threads, {}", report["threads"], isa().name());
    for product in products {
        let number = |key: &str| product[key].as_u64().unwrap_or_default();
        outln!(
            "{:>5} x {:>5} x {:>5}  {:<5} {:>7.1} GFLOP/s",
            number("m"),
            number("n"),
            number("k"),
            product["precision"].as_str().unwrap_or_default(),
            product["gflops"].as_f64().unwrap_or_default()
        );
    }
    Ok(())
}

fn open(args: &BenchModelArgs, training: Training) -> Result<ChatModel> {
    let path = catalogue::resolve(&args.model)?;
    let settings = OpenSettings { precision: precision(args.precision), training };
    ChatModel::open(&path, None, settings).with_context(|| format!("model {}", args.model))
}

fn check_context(model: &ChatModel, tokens: usize) -> Result<()> {
    let context = model.config().max_position_embeddings;
    if tokens > context {
        let text = format!(
            "{tokens} tokens do not fit the model's context of {context} tokens\nhint: give smaller lengths"
        );
        return Err(UsageError(text).into());
    }
    Ok(())
}

fn random_ids(count: usize, vocab: usize, draws: Draws) -> Vec<u32> {
    (0..count as u64).map(|i| (draws.uniform(i) * vocab as f64) as u32).collect()
}

/// Multiplications and additions of one token's products with the blocks' matrices in the forward pass.
fn block_flops(config: &ModelConfig, rank: usize) -> f64 {
    let matrices = Projection::ALL.iter().map(|p| {
        let (rows, columns) = p.shape(config);
        rows * columns + rank * (rows + columns)
    });
    2.0 * (config.num_layers * matrices.sum::<usize>()) as f64
}

/// The same for one query over `keys` keys and values, in all layers.
fn attention_flops(config: &ModelConfig, keys: f64) -> f64 {
    4.0 * (config.num_layers * config.q_width()) as f64 * keys
}

fn head_flops(config: &ModelConfig) -> f64 {
    2.0 * (config.vocab_size * config.hidden_size) as f64
}

/// The operations that a step needs: forward, the inputs' gradients, and the weights' gradients if weights are trained.
/// What is recomputed to save memory is not counted.
fn training_flops(config: &ModelConfig, batch: usize, length: usize, rank: Option<usize>) -> f64 {
    let products = if rank.is_none() { 3.0 } else { 2.0 };
    let blocks = block_flops(config, 0);
    let factors = block_flops(config, rank.unwrap_or(0)) - blocks;
    let attention = attention_flops(config, (length + 1) as f64 / 2.0);
    let token = products * blocks + 3.0 * factors + 3.0 * attention;
    (batch * length) as f64 * token + (batch * (length - 1)) as f64 * products * head_flops(config)
}

/// The operations that a generation without sharing needs: every prompt token once, the head for every new token.
fn generation_flops(config: &ModelConfig, batch: usize, prompt: usize, new: usize) -> f64 {
    let length = (prompt + new.max(1)) - 1;
    let token = block_flops(config, 0) + attention_flops(config, (length + 1) as f64 / 2.0);
    batch as f64 * (length as f64 * token + new as f64 * head_flops(config))
}

fn report(
    args: &BenchModelArgs,
    precision: Precision,
    seconds: &[f64],
    tokens: f64,
    flops: f64,
) -> Result<Value> {
    let peak_rss = peak_rss_bytes();
    let mut rates: Vec<f64> = seconds.iter().map(|seconds| tokens / seconds).collect();
    let rate = median(&mut rates);
    Ok(json!({
        "tokens_per_s": rate,
        "median_of": rates.len(),
        "slowest": rates.first(),
        "fastest": rates.last(),
        "gemm_peak_gflops": roofline::peak_gflops(precision),
        "achieved_gflops": 1e-9 * flops * rate / tokens,
        "memory_gb_per_s": roofline::memory_gb_per_s(),
        "peak_rss_bytes": peak_rss,
        "isa": isa().name(),
        "threads": solon_kernels::threads::count(),
        "precision": precision.name(),
        "model": args.model,
    }))
}

fn print(report: &Value, as_json: bool) -> Result<()> {
    if as_json {
        outln!("{}", serde_json::to_string(report)?);
        return Ok(());
    }
    let number = |key: &str| report[key].as_f64().unwrap_or_default();
    let (rate, of) = (number("tokens_per_s"), number("median_of"));
    outln!("{rate:.1} tokens/s (median of {of}, {:.1} to {:.1})", number("slowest"), number("fastest"));
    outln!(
        "{:.0} GFLOP/s of this processor's peak of {:.0}; memory is read at {:.1} GB/s",
        number("achieved_gflops"),
        number("gemm_peak_gflops"),
        number("memory_gb_per_s")
    );
    outln!(
        "{:.2} GB peak memory; {} threads, {}, {}",
        1e-9 * number("peak_rss_bytes"),
        report["threads"],
        report["isa"].as_str().unwrap_or_default(),
        report["precision"].as_str().unwrap_or_default()
    );
    Ok(())
}

/// The median; sorts `values`.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 }
}

/// The largest resident memory of this process, if the system reports it (Linux).
pub fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kilobytes)
}
