//! How RoPE is scaled, from and to the keys and tensors of a GGUF file.
//!
//! Contract: a file means what it means in llama.cpp. It multiplies YaRN's default attention factor by
//! `rope.scaling.attn_factor`, rounds YaRN's bounds always, and reads the other YaRN keys for some architectures only: where
//! it does not read a key, the key must say what happens without it, or the file is refused by name. Of LongRoPE the short
//! list is run, and the context is bounded to where that holds.
//!
//! Llama 3.1's scaling is a tensor of divisors there (`rope_freqs.weight`). Its numbers are found again where all divisors
//! come out of them; other divisors become a LongRoPE whose two lists are equal, which computes the same.
//!
//! Source: llama.cpp, `src/llama-model.cpp` (`load_hparams`), `src/llama-context.cpp`, `ggml_rope_ext` and
//! `convert_hf_to_gguf.py`.

use std::path::Path;

use super::WeightsError;
use super::gguf::GgufFile;
use super::gguf_write::GgufValue;
use super::save_gguf::{is_interleaved, prefix};
use crate::config::{LongRope, ModelConfig, RopeScaling, Yarn};
use crate::rope;

/// What each frequency is divided by, whatever the sequence: `[head_dim / 2]`.
const DIVISORS: &str = "rope_freqs.weight";
/// LongRoPE's two lists, `[head_dim / 2]` each.
const SHORT: &str = "rope_factors_short.weight";
const LONG: &str = "rope_factors_long.weight";

/// The tensors that are no weights.
pub(super) const ROPE_FACTORS: [&str; 3] = [DIVISORS, SHORT, LONG];

/// The thresholds of YaRN where nothing is said.
const BETA_FAST: f32 = 32.0;
const BETA_SLOW: f32 = 1.0;

/// Reads the scaling of a file.
pub(super) struct Scaling<'a> {
    pub(super) path: &'a Path,
    /// The prefix of the model's keys.
    pub(super) prefix: &'a str,
    pub(super) file: &'a mut GgufFile,
}

impl Scaling<'_> {
    /// Puts the scaling into a configuration that is complete but for it; bounds the context where the scaling does.
    pub(super) fn read_into(mut self, config: &mut ModelConfig) -> Result<(), WeightsError> {
        let scaling = self.of_keys(config)?;
        config.rope_scaling = scaling;
        for name in ROPE_FACTORS {
            let is_read = match (&config.rope_scaling, name) {
                (RopeScaling::LongRope(_), SHORT | LONG) | (RopeScaling::None, DIVISORS) => true,
                _ => !self.file.tensors.contains_key(name),
            };
            if !is_read {
                let found = format!("divisors beside {:?}", config.rope_scaling);
                return Err(self.refuse(name, found, "llama.cpp does not read them together"));
            }
        }
        if self.file.tensors.contains_key(DIVISORS) {
            let divisors = self.factors(DIVISORS)?;
            config.rope_scaling = from_divisors(config, divisors);
        }
        if let RopeScaling::LongRope(longrope) = &config.rope_scaling {
            config.max_position_embeddings = config.max_position_embeddings.min(longrope.original_context);
        }
        Ok(())
    }

    fn of_keys(&mut self, config: &ModelConfig) -> Result<RopeScaling, WeightsError> {
        let factor = match self.number("scaling.factor")? {
            Some(factor) => Some(factor),
            None => self.number("scale_linear")?, // its old name
        };
        let factor = factor.filter(|factor| *factor != 0.0);
        let attention = self.number("scaling.attn_factor")?.unwrap_or(1.0);
        let kind = self.file.metadata.string(&self.key("scaling.type"))?.map(str::to_owned);
        let required = || {
            let key = self.key("scaling.factor");
            factor.ok_or_else(|| WeightsError::invalid(self.path, key, "absent", "convert the model again"))
        };
        let scaling = match (kind.as_deref(), factor) {
            (Some("none"), _) | (None, None) => RopeScaling::None,
            // llama.cpp reads a factor without a type as linear.
            (Some("linear") | None, _) => RopeScaling::Linear { factor: required()? },
            (Some("yarn"), _) => return self.yarn(required()?, attention, config).map(RopeScaling::Yarn),
            (Some("longrope"), _) => {
                return self
                    .longrope(factor, attention, config)
                    .map(|it| RopeScaling::LongRope(Box::new(it)));
            }
            (Some(other), _) => {
                let found = other.chars().take(100).collect::<String>();
                let hint = "supported are none, linear, yarn and longrope";
                return Err(self.refuse(&self.key("scaling.type"), found, hint));
            }
        };
        match attention == 1.0 {
            true => Ok(scaling),
            false => {
                let hint = "it is known with yarn and longrope only";
                Err(self.refuse(&self.key("scaling.attn_factor"), attention.to_string(), hint))
            }
        }
    }

    fn yarn(&self, factor: f32, attention: f32, config: &ModelConfig) -> Result<Yarn, WeightsError> {
        let mut yarn = Yarn {
            factor,
            original_context: self.original_context(config)? as f32,
            beta_fast: BETA_FAST,
            beta_slow: BETA_SLOW,
            truncate: true,
            attention_factor: None,
            mscale: None,
            mscale_all_dim: None,
        };
        if self.prefix == "mistral3" {
            yarn.beta_fast = self.number("scaling.yarn_beta_fast")?.unwrap_or(BETA_FAST);
            yarn.beta_slow = self.number("scaling.yarn_beta_slow")?.unwrap_or(BETA_SLOW);
            let weight = self.number("scaling.yarn_log_multiplier")?.filter(|weight| *weight != 0.0);
            (yarn.mscale, yarn.mscale_all_dim) = (weight.map(|_| 1.0), weight);
        }
        if attention != 1.0 {
            yarn.attention_factor = Some(attention * yarn.attention_factor());
        }
        for (field, meant) in [
            ("scaling.yarn_ext_factor", 1.0),
            ("scaling.yarn_attn_factor", yarn.attention_factor()),
            ("scaling.yarn_beta_fast", yarn.beta_fast),
            ("scaling.yarn_beta_slow", yarn.beta_slow),
        ] {
            if let Some(found) = self.number(field)?
                && (found - meant).abs() > 1e-4 * meant
            {
                let hint = format!(
                    "llama.cpp does not read it for {}, and runs {meant}; use the Hugging Face folder",
                    self.prefix
                );
                return Err(self.refuse(&self.key(field), found.to_string(), &hint));
            }
        }
        Ok(yarn)
    }

    fn longrope(
        &mut self,
        factor: Option<f32>,
        attention_factor: f32,
        config: &ModelConfig,
    ) -> Result<LongRope, WeightsError> {
        if let Some(factor) = factor.filter(|factor| *factor != 1.0) {
            let hint =
                "beside LongRoPE's lists llama.cpp would divide by it once more; convert the model again";
            return Err(self.refuse(&self.key("scaling.factor"), factor.to_string(), hint));
        }
        Ok(LongRope {
            short_factors: self.factors(SHORT)?,
            long_factors: self.factors(LONG)?,
            original_context: self.original_context(config)?,
            long_context: config.max_position_embeddings,
            attention_factor,
        })
    }

    /// The context length of pretraining: all of the context where nothing is said.
    fn original_context(&self, config: &ModelConfig) -> Result<usize, WeightsError> {
        for key in [self.key("scaling.original_context_length"), format!("{}.context_length", self.prefix)] {
            if let Some(tokens) = self.file.metadata.u64(&key)?.filter(|tokens| *tokens > 0) {
                return Ok(usize::try_from(tokens).unwrap_or(usize::MAX));
            }
        }
        Ok(config.max_position_embeddings)
    }

    fn factors(&mut self, name: &str) -> Result<Vec<f32>, WeightsError> {
        if !self.file.tensors.contains_key(name) {
            let hint = "the file is incomplete; convert the model again";
            return Err(WeightsError::tensor(self.path, name, "missing", hint));
        }
        Ok(self.file.read(name)?.data)
    }

    fn number(&self, field: &str) -> Result<Option<f32>, WeightsError> {
        self.file.metadata.f32(&self.key(field))
    }

    fn key(&self, field: &str) -> String {
        format!("{}.rope.{field}", self.prefix)
    }

    fn refuse(&self, field: &str, found: String, hint: &str) -> WeightsError {
        WeightsError::unsupported(self.path, field, found, hint)
    }
}

/// The scaling that has these divisors: Llama 3.1's with the numbers of every published model, or one that lists them.
fn from_divisors(config: &ModelConfig, divisors: Vec<f32>) -> RopeScaling {
    let largest = divisors.iter().copied().fold(1.0, f32::max);
    let candidates = [
        RopeScaling::None,
        RopeScaling::Llama3 {
            factor: largest,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192.0,
        },
    ];
    for rope_scaling in candidates {
        let candidate = ModelConfig { rope_scaling, ..config.clone() };
        let expected = rope::divisors(&candidate);
        let close = |(found, expected): (&f32, &f32)| (found - expected).abs() <= 1e-3 * expected;
        if divisors.len() == expected.len() && divisors.iter().zip(&expected).all(close) {
            return candidate.rope_scaling;
        }
    }
    RopeScaling::LongRope(Box::new(LongRope {
        short_factors: divisors.clone(),
        long_factors: divisors,
        original_context: config.max_position_embeddings,
        long_context: config.max_position_embeddings,
        attention_factor: 1.0,
    }))
}

/// What a file has to say of the scaling.
pub(super) struct RopeParts {
    pub(super) keys: Vec<(String, GgufValue)>,
    /// Tensors, by name: `[head_dim / 2]` each.
    pub(super) factors: Vec<(&'static str, Vec<f32>)>,
}

/// The keys and tensors of a model's scaling, or what of it a GGUF file has no place for.
pub(super) fn write(path: &Path, config: &ModelConfig) -> Result<RopeParts, WeightsError> {
    let prefix = prefix(config.architecture);
    let mut parts = RopeParts { keys: Vec::new(), factors: Vec::new() };
    let mut put =
        |field: &str, value: GgufValue| parts.keys.push((format!("{prefix}.rope.scaling.{field}"), value));
    let kind = |name: &str| GgufValue::Text(name.to_owned());
    let refuse =
        |field: &str, found: String, hint: &str| Err(WeightsError::unsupported(path, field, found, hint));
    match &config.rope_scaling {
        // As of a file's context, so here: beyond it is for whoever sets llama.cpp's own flags.
        RopeScaling::None | RopeScaling::Dynamic { .. } => {}
        RopeScaling::Linear { factor } => {
            put("type", kind("linear"));
            put("factor", GgufValue::F32(*factor));
        }
        RopeScaling::Llama3 { .. } => parts.factors.push((DIVISORS, rope::divisors(config))),
        RopeScaling::Yarn(yarn) => {
            let hint = "llama.cpp runs 32 and 1 for this architecture; use the folder";
            if (yarn.beta_fast, yarn.beta_slow) != (BETA_FAST, BETA_SLOW) {
                let found = format!("{} and {}", yarn.beta_fast, yarn.beta_slow);
                return refuse("beta_fast and beta_slow of YaRN", found, hint);
            }
            let rounded = Yarn { truncate: true, ..*yarn };
            let bounds = |yarn: &Yarn| yarn.mixed(config.head_dim, config.rope_theta);
            if bounds(yarn) != bounds(&rounded) {
                return refuse(
                    "truncate of YaRN",
                    "false".to_owned(),
                    "llama.cpp rounds the bounds; use the folder",
                );
            }
            put("type", kind("yarn"));
            put("factor", GgufValue::F32(yarn.factor));
            put("original_context_length", GgufValue::U32(yarn.original_context as u32));
            let plain = Yarn { attention_factor: None, mscale: None, mscale_all_dim: None, ..*yarn };
            let attention = yarn.attention_factor() / plain.attention_factor();
            if attention != 1.0 {
                put("attn_factor", GgufValue::F32(attention));
            }
        }
        RopeScaling::LongRope(longrope) => {
            let LongRope { short_factors, long_factors, .. } = &**longrope;
            if short_factors == long_factors && longrope.attention_factor == 1.0 {
                parts.factors.push((DIVISORS, short_factors.clone()));
            } else {
                put("type", kind("longrope"));
                put("original_context_length", GgufValue::U32(longrope.original_context as u32));
                put("attn_factor", GgufValue::F32(longrope.attention_factor));
                parts.factors.extend([(SHORT, short_factors.clone()), (LONG, long_factors.clone())]);
            }
        }
    }
    // Only the runtime that rotates neighbours reads divisors, of the families that are saved here.
    if !parts.factors.is_empty() && !is_interleaved(config.architecture) {
        let hint = "llama.cpp reads no divisors for this architecture; use the folder";
        return refuse("rope_scaling", format!("{:?} of {prefix}", config.rope_scaling), hint);
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::super::test_models::{GgufBuilder, gguf, random_tensors, tiny};
    use super::super::{Checkpoint, GgufType, save_gguf};
    use super::*;
    use crate::config::Architecture;

    fn open(builder: &GgufBuilder) -> Result<Checkpoint, WeightsError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), builder.build()).unwrap();
        Checkpoint::open(file.path())
    }

    #[track_caller]
    fn refuses(builder: &GgufBuilder, part: &str) {
        let message = open(builder).expect_err("must be refused").to_string();
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }

    const YARN: Yarn = Yarn {
        factor: 4.0,
        original_context: 16.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        truncate: true,
        attention_factor: None,
        mscale: None,
        mscale_all_dim: None,
    };

    fn longrope(short: f32, long: f32, attention_factor: f32) -> RopeScaling {
        let list = |first: f32| (0..4).map(|place| first + 0.5 * place as f32).collect();
        RopeScaling::LongRope(Box::new(LongRope {
            short_factors: list(short),
            long_factors: list(long),
            original_context: 16,
            long_context: 64,
            attention_factor,
        }))
    }

    fn saved(config: &ModelConfig) -> Result<ModelConfig, WeightsError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        save_gguf(file.path(), config, &random_tensors(config), GgufType::F32, &[])?;
        Ok(Checkpoint::open(file.path()).unwrap().config)
    }

    #[test]
    fn what_is_written_is_read() {
        let llama3 = RopeScaling::Llama3 {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192.0,
        };
        for rope_scaling in [
            RopeScaling::Linear { factor: 4.0 },
            llama3,
            RopeScaling::Yarn(YARN),
            RopeScaling::Yarn(Yarn { attention_factor: Some(0.5), ..YARN }),
            longrope(1.0, 3.0, 1.25),
        ] {
            let short = matches!(rope_scaling, RopeScaling::LongRope(_));
            let config = ModelConfig {
                rope_theta: 500_000.0,
                max_position_embeddings: if short { 16 } else { 64 },
                rope_scaling,
                ..tiny(Architecture::Llama)
            };
            assert_eq!(saved(&config).unwrap(), config);
        }
        // Said otherwise, computed alike.
        let mscale = Yarn { mscale: Some(1.0), mscale_all_dim: Some(0.5), ..YARN };
        let config = ModelConfig { rope_scaling: RopeScaling::Yarn(mscale), ..tiny(Architecture::Qwen3) };
        let read = saved(&config).unwrap();
        assert_eq!(rope::frequencies(&read), rope::frequencies(&config));
        assert!((rope::attention_factor(&read) - mscale.attention_factor()).abs() < 1e-6);
        let dynamic = RopeScaling::Dynamic { factor: 2.0 };
        let config = ModelConfig { rope_scaling: dynamic, ..tiny(Architecture::Llama) };
        assert_eq!(saved(&config).unwrap().rope_scaling, RopeScaling::None);
    }

    #[test]
    fn what_llama_cpp_would_run_otherwise_is_not_written() {
        let refuses = |architecture: Architecture, rope_scaling: RopeScaling, part: &str| {
            let max_position_embeddings = 16;
            let config = ModelConfig { rope_scaling, max_position_embeddings, ..tiny(architecture) };
            let message = saved(&config).expect_err(part).to_string();
            assert!(message.contains(part), "{message:?} does not say {part:?}");
        };
        let yarn = |yarn: Yarn| RopeScaling::Yarn(yarn);
        refuses(Architecture::Llama, yarn(Yarn { beta_fast: 16.0, ..YARN }), "16 and 1");
        refuses(Architecture::Llama, yarn(Yarn { truncate: false, ..YARN }), "truncate");
        refuses(Architecture::Qwen2, longrope(1.0, 3.0, 1.25), "no divisors");
    }

    #[test]
    fn yarn_is_read_as_llama_cpp_reads_it() {
        let of = |architecture: Architecture| {
            let config = tiny(architecture);
            gguf(&config, &random_tensors(&config))
        };
        let yarn = |builder: GgufBuilder, prefix: &str| {
            builder
                .text(&format!("{prefix}.rope.scaling.type"), "yarn")
                .f32(&format!("{prefix}.rope.scaling.factor"), 4.0)
        };
        let read = |builder: &GgufBuilder| open(builder).unwrap().config.rope_scaling;
        let plain =
            yarn(of(Architecture::Qwen2), "qwen2").u32("qwen2.rope.scaling.original_context_length", 16);
        assert_eq!(read(&plain), RopeScaling::Yarn(YARN));
        // The context of the file stands for the original one.
        let whole = Yarn { original_context: 64.0, ..YARN };
        assert_eq!(read(&yarn(of(Architecture::Llama), "llama")), RopeScaling::Yarn(whole));

        let keys = |builder: GgufBuilder, prefix: &str| {
            yarn(builder, prefix)
                .f32(&format!("{prefix}.rope.scaling.yarn_beta_fast"), 16.0)
                .f32(&format!("{prefix}.rope.scaling.yarn_beta_slow"), 2.0)
                .f32(&format!("{prefix}.rope.scaling.yarn_log_multiplier"), 1.0)
        };
        let mistral = read(&keys(of(Architecture::Mistral), "mistral3"));
        let (mscale, mscale_all_dim) = (Some(1.0), Some(1.0));
        let expected = Yarn { beta_fast: 16.0, beta_slow: 2.0, mscale, mscale_all_dim, ..whole };
        assert_eq!(mistral, RopeScaling::Yarn(expected));
        assert_eq!(expected.attention_factor(), 1.0);
        refuses(&keys(of(Architecture::Llama), "llama"), "llama.rope.scaling.yarn_beta_fast: 16");

        let factor = |key: &str, value: f32| yarn(of(Architecture::Llama), "llama").f32(key, value);
        let attention = Yarn { attention_factor: Some(0.5 * YARN.attention_factor()), ..whole };
        assert_eq!(read(&factor("llama.rope.scaling.attn_factor", 0.5)), RopeScaling::Yarn(attention));
        refuses(
            &factor("llama.rope.scaling.yarn_attn_factor", 1.0),
            "llama.rope.scaling.yarn_attn_factor: 1",
        );
        let default = YARN.attention_factor();
        assert_eq!(read(&factor("llama.rope.scaling.yarn_attn_factor", default)), RopeScaling::Yarn(whole));
        refuses(&factor("llama.rope.scaling.yarn_ext_factor", 0.0), "llama.rope.scaling.yarn_ext_factor: 0");
    }

    #[test]
    fn divisors_are_read_whatever_made_them() {
        let config = tiny(Architecture::Llama);
        let with = |builder: GgufBuilder, tensors: &[(&str, &[f32])]| {
            let mut builder = builder;
            tensors.iter().for_each(|(name, values)| builder.tensor(name, &[values.len()], values));
            builder
        };
        let model = || gguf(&config, &random_tensors(&config));
        let divisors = [1.0, 2.0, 2.5, 7.0];
        let read = open(&with(model(), &[(DIVISORS, &divisors)])).unwrap().config;
        for (found, expected) in rope::divisors(&read).iter().zip(divisors) {
            assert!((found - expected).abs() < 1e-6 * expected, "{found} and not {expected}");
        }
        assert_eq!((rope::attention_factor(&read), read.max_position_embeddings), (1.0, 64));
        assert_eq!(saved(&read).unwrap(), read);
        let none = open(&with(model(), &[(DIVISORS, &[1.0; 4])])).unwrap().config;
        assert_eq!(none.rope_scaling, RopeScaling::None);

        let long = || {
            let model = model().text("llama.rope.scaling.type", "longrope");
            model.u32("llama.rope.scaling.original_context_length", 16)
        };
        let lists: [(&str, &[f32]); 2] = [(SHORT, &[1.0, 1.5, 2.0, 2.5]), (LONG, &[3.0, 3.5, 4.0, 4.5])];
        let read = open(&with(long().f32("llama.rope.scaling.attn_factor", 1.25), &lists)).unwrap().config;
        assert_eq!((read.rope_scaling, read.max_position_embeddings), (longrope(1.0, 3.0, 1.25), 16));

        refuses(&with(long(), &lists[..1]), "tensor rope_factors_long.weight: missing");
        refuses(&with(long().f32("llama.rope.scaling.factor", 2.0), &lists), "llama.rope.scaling.factor: 2");
        refuses(&with(long(), &[lists[0], lists[1], (DIVISORS, &divisors)]), DIVISORS);
        refuses(&with(model(), &lists), "rope_factors_short.weight: divisors beside None");
        refuses(&with(model().f32("llama.rope.scaling.factor", 2.0), &[(DIVISORS, &divisors)]), "Linear");
        refuses(&with(model(), &[(DIVISORS, &divisors[..3])]), "short_factor has 3 numbers");
        refuses(&with(model(), &[(DIVISORS, &[1.0, 0.0, 1.0, 1.0])]), "short_factor is 0");
    }

    #[test]
    fn other_keys() {
        let config = tiny(Architecture::Llama);
        let model = || gguf(&config, &random_tensors(&config));
        let read = |builder: &GgufBuilder| open(builder).unwrap().config.rope_scaling;
        let linear = RopeScaling::Linear { factor: 2.0 };
        assert_eq!(read(&model().f32("llama.rope.scaling.factor", 2.0)), linear);
        assert_eq!(read(&model().f32("llama.rope.scale_linear", 2.0)), linear);
        assert_eq!(read(&model().text("llama.rope.scaling.type", "none")), RopeScaling::None);
        refuses(&model().text("llama.rope.scaling.type", "linear"), "llama.rope.scaling.factor: absent");
        refuses(&model().text("llama.rope.scaling.type", "yarn"), "llama.rope.scaling.factor: absent");
        refuses(&model().text("llama.rope.scaling.type", "new"), "llama.rope.scaling.type: new");
        refuses(&model().f32("llama.rope.scaling.attn_factor", 2.0), "llama.rope.scaling.attn_factor: 2");
        refuses(&model().f32("llama.rope.scaling.factor", 0.5), "0.5, below 1");
    }
}
