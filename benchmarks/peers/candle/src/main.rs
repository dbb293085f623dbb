//! Steps of full fine-tuning with Candle on the processor, as a row of `peers.py step`.
//!
//!     candle-step --batch 4 --length 256 --steps 2
//!
//! A Llama of SmolLM2-135M's shape with random weights learns random tokens: every position is in the loss, and AdamW
//! is candle-nn's. One step warms up, `--steps` are timed, and `{"tokens_per_s": …}` goes to stdout.
//! RAYON_NUM_THREADS gives the threads.
//!
//! Only operations that Candle differentiates are used. candle-nn's fused `rms_norm`, `softmax_last_dim` and `rope`
//! have no backward pass, and gradients end there without an error: so every weight is checked for a gradient in the
//! step that warms up. Weights are f32, as Candle multiplies no bf16 on the processor. Gradients are not clipped,
//! which spares Candle a pass over them that the other programs make: candle-nn has no function for it.

use std::collections::HashMap;
use std::time::Instant;

use candle_core::{D, DType, Device, Error, Result, Tensor, Var};
use candle_nn::ops::{rms_norm_slow, silu};
use candle_nn::rotary_emb::rope_slow;
use candle_nn::{AdamW, Optimizer, ParamsAdamW};

const VOCABULARY: usize = 49152;
const HIDDEN: usize = 576;
const LAYERS: usize = 30;
const HEADS: usize = 9;
const KV_HEADS: usize = 3;
const HEAD: usize = 64;
const INTERMEDIATE: usize = 1536;
const THETA: f64 = 100_000.0;
const EPS: f32 = 1e-5;

/// Projections are `[in, out]` and not, as candle-nn's, `[out, in]`: their gradients then come without a transpose.
struct Layer {
    attention_norm: Var,
    query: Var,
    key: Var,
    value: Var,
    output: Var,
    mlp_norm: Var,
    gate: Var,
    up: Var,
    down: Var,
}

struct Model {
    embedding: Var,
    layers: Vec<Layer>,
    norm: Var,
    cos: Tensor,
    sin: Tensor,
    mask: Tensor,
}

impl Layer {
    fn new(device: &Device) -> Result<Layer> {
        let weight = |inputs: usize, outputs: usize| Var::randn(0f32, 0.02, (inputs, outputs), device);
        let norm = || Var::ones(HIDDEN, DType::F32, device);
        Ok(Layer {
            attention_norm: norm()?,
            query: weight(HIDDEN, HEADS * HEAD)?,
            key: weight(HIDDEN, KV_HEADS * HEAD)?,
            value: weight(HIDDEN, KV_HEADS * HEAD)?,
            output: weight(HEADS * HEAD, HIDDEN)?,
            mlp_norm: norm()?,
            gate: weight(HIDDEN, INTERMEDIATE)?,
            up: weight(HIDDEN, INTERMEDIATE)?,
            down: weight(INTERMEDIATE, HIDDEN)?,
        })
    }

    fn vars(&self) -> [(&'static str, &Var); 9] {
        [
            ("attention_norm", &self.attention_norm),
            ("query", &self.query),
            ("key", &self.key),
            ("value", &self.value),
            ("output", &self.output),
            ("mlp_norm", &self.mlp_norm),
            ("gate", &self.gate),
            ("up", &self.up),
            ("down", &self.down),
        ]
    }
}

impl Model {
    fn new(length: usize, device: &Device) -> Result<Model> {
        let frequencies: Vec<f32> =
            (0..HEAD / 2).map(|i| THETA.powf(-2.0 * i as f64 / HEAD as f64) as f32).collect();
        let positions = Tensor::arange(0u32, length as u32, device)?.to_dtype(DType::F32)?;
        let angles = positions.unsqueeze(1)?.matmul(&Tensor::new(frequencies, device)?.unsqueeze(0)?)?;
        let mask: Vec<f32> = (0..length * length)
            .map(|at| if at % length > at / length { f32::NEG_INFINITY } else { 0.0 })
            .collect();
        Ok(Model {
            embedding: Var::randn(0f32, 0.02, (VOCABULARY, HIDDEN), device)?,
            layers: (0..LAYERS).map(|_| Layer::new(device)).collect::<Result<_>>()?,
            norm: Var::ones(HIDDEN, DType::F32, device)?,
            cos: angles.cos()?,
            sin: angles.sin()?,
            mask: Tensor::from_vec(mask, (length, length), device)?,
        })
    }

    fn vars(&self) -> HashMap<String, Var> {
        let mut vars = HashMap::from([
            ("embedding".to_string(), self.embedding.clone()),
            ("norm".to_string(), self.norm.clone()),
        ]);
        for (at, layer) in self.layers.iter().enumerate() {
            vars.extend(layer.vars().map(|(name, var)| (format!("layers.{at}.{name}"), var.clone())));
        }
        vars
    }

    fn attention(&self, layer: &Layer, x: &Tensor, batch: usize, length: usize) -> Result<Tensor> {
        let heads = |weight: &Var, count: usize| {
            x.matmul(weight)?.reshape((batch, length, count, HEAD))?.transpose(1, 2)?.contiguous()
        };
        let query = rope_slow(&heads(&layer.query, HEADS)?, &self.cos, &self.sin)?;
        let key = rope_slow(&heads(&layer.key, KV_HEADS)?, &self.cos, &self.sin)?;
        let value = heads(&layer.value, KV_HEADS)?;
        // The query heads of one key are rows of one product, so that keys and values are not repeated.
        let query = (query * (HEAD as f64).powf(-0.5))?;
        let query = query.reshape((batch, KV_HEADS, HEADS / KV_HEADS * length, HEAD))?;
        let scores = query.matmul(&key.t()?)?.reshape((batch, HEADS, length, length))?;
        let weights = softmax(&scores.broadcast_add(&self.mask)?)?;
        let weights = weights.reshape((batch, KV_HEADS, HEADS / KV_HEADS * length, length))?;
        let mixed = weights.matmul(&value)?.reshape((batch, HEADS, length, HEAD))?;
        mixed.transpose(1, 2)?.reshape((batch * length, HEADS * HEAD))?.matmul(&layer.output)
    }

    /// Mean cross-entropy of `targets` after `ids`, both `[batch, length]`.
    fn loss(&self, ids: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let (batch, length) = ids.dims2()?;
        let mut x = self.embedding.index_select(&ids.flatten_all()?, 0)?;
        for layer in &self.layers {
            let normed = rms_norm_slow(&x, &layer.attention_norm, EPS)?;
            x = (x + self.attention(layer, &normed, batch, length)?)?;
            let normed = rms_norm_slow(&x, &layer.mlp_norm, EPS)?;
            let gated = (silu(&normed.matmul(&layer.gate)?)? * normed.matmul(&layer.up)?)?;
            x = (x + gated.matmul(&layer.down)?)?;
        }
        let logits = rms_norm_slow(&x, &self.norm, EPS)?.matmul(&self.embedding.t()?)?;
        let logits = less_maximum(&logits)?;
        let targets = logits.gather(&targets.flatten_all()?.unsqueeze(1)?, 1)?;
        logits.exp()?.sum_keepdim(1)?.log()?.sub(&targets)?.mean_all()
    }
}

/// What candle-nn's `softmax` and `cross_entropy` take off first. Here nothing is computed backwards through the
/// maximum, which has no part in the result: one pass over the logits less.
fn less_maximum(x: &Tensor) -> Result<Tensor> {
    x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())
}

fn softmax(x: &Tensor) -> Result<Tensor> {
    let powers = less_maximum(x)?.exp()?;
    powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)
}

fn run(batch: usize, length: usize, steps: usize) -> Result<f64> {
    let device = Device::Cpu;
    let model = Model::new(length, &device)?;
    let vars = model.vars();
    let params = ParamsAdamW { lr: 1e-5, ..Default::default() };
    let mut optimizer = AdamW::new(vars.values().cloned().collect(), params)?;
    let mut start = Instant::now();
    for number in 0..=steps {
        if number == 1 {
            start = Instant::now();
        }
        let tokens = Tensor::rand(0f32, VOCABULARY as f32, (batch, length + 1), &device)?;
        let tokens = tokens.to_dtype(DType::U32)?.clamp(0u32, VOCABULARY as u32 - 1)?;
        let loss = model.loss(&tokens.narrow(1, 0, length)?, &tokens.narrow(1, 1, length)?)?;
        let grads = loss.backward()?;
        eprintln!("step {number}: loss {}", loss.to_scalar::<f32>()?);
        drop(loss); // and with it what the backward pass was given
        if number == 0 {
            for (name, var) in &vars {
                let grad = grads.get(var).ok_or_else(|| Error::msg(format!("{name} has no gradient")))?;
                let largest = grad.abs()?.max_all()?.to_scalar::<f32>()?;
                if largest == 0.0 || !largest.is_finite() {
                    candle_core::bail!("the largest gradient of {name} is {largest}");
                }
            }
        }
        optimizer.step(&grads)?;
    }
    Ok((batch * length * steps) as f64 / start.elapsed().as_secs_f64())
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut settings = HashMap::from([("--batch", 4), ("--length", 256), ("--steps", 2)]);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let setting = settings.get_mut(name.as_str()).ok_or_else(|| format!("unknown argument {name}"))?;
        *setting = arguments.next().ok_or_else(|| format!("{name} needs a number"))?.parse::<usize>()?;
    }
    // In Candle's own thread pool, as it advises for much short work.
    let rate =
        Device::Cpu.with_context(|| run(settings["--batch"], settings["--length"], settings["--steps"]))?;
    println!("{{\"tokens_per_s\": {rate:.3}}}");
    Ok(())
}
