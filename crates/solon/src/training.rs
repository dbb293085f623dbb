//! From records and texts to what the trainers take: token ids, adapters, heads, reward statistics.

use crate::memory::TOKENS_PER_PASS;
use anyhow::{Context, Result, bail};
use solon_data::records::{ChatMessage, PreferencePair};
use solon_draws::Draws;
use solon_infer::chat::ChatModel;
use solon_infer::engine::Engine;
use solon_infer::generate::{Request, Settings};
use solon_infer::prefixes::KEPT;
use solon_infer::sampling::Sampling;
use solon_model::parameters::Projection;
use solon_model::{Adapter, Cpu, Decoder, LoraSettings, ScalarHead};
use solon_text::Message;
use solon_train::ppo::trainer::PpoPrompt;
use solon_train::ppo::{self, PpoPreset};
use solon_train::reward::rewards;
use solon_train::sft::SftExample;
use solon_train::{RewardScale, TokenPair};

/// A fresh adapter on every matrix of the model.
pub fn fresh_adapter(model: &ChatModel, rank: usize, alpha: f32, draws: Draws) -> Adapter<Cpu> {
    let settings = LoraSettings { rank, alpha, targets: Projection::ALL.to_vec() };
    Adapter::fresh(model.decoder.backend(), model.config(), settings, |name, index| {
        draws.item("adapter").item(name).uniform(index as u64) as f32
    })
}

/// A scalar head's starting weight: N(0, 1/(hidden + 1)) in variance ("N details", 8).
pub fn head_weight(hidden: usize, draws: Draws) -> Vec<f32> {
    let deviation = 1.0 / ((hidden + 1) as f64).sqrt();
    (0..hidden as u64).map(|i| (draws.normal(i) * deviation) as f32).collect()
}

/// A conversation to learn from.
#[derive(Clone, Debug)]
pub struct Demonstration {
    /// Its id.
    pub id: String,
    /// Ends with the assistant's turn.
    pub messages: Vec<Message>,
    /// How many messages are context: answers among them are not learnt.
    pub prompt_len: usize,
    /// The last answer was cut off: its words are learnt, but not that it ends there.
    pub cut_off: bool,
}

/// Tokenises conversations; the assistant's turns are learnt.
pub fn sft_examples(model: &ChatModel, demonstrations: &[Demonstration]) -> Result<Vec<SftExample>> {
    demonstrations
        .iter()
        .map(|demonstration| {
            let Demonstration { id, messages, prompt_len, cut_off } = demonstration;
            let mut encoded = model.text.encode_conversation(messages).with_context(|| id.clone())?;
            if messages[..*prompt_len].iter().any(|message| message.role == "assistant") {
                let context = model.text.prompt_ids(&messages[..*prompt_len]).with_context(|| id.clone())?;
                let context = context.len().min(encoded.loss_mask.len());
                encoded.loss_mask[..context].fill(false);
            }
            if *cut_off {
                encoded.ids.pop();
                encoded.loss_mask.pop();
            }
            let (tokens, context) = (encoded.ids.len(), model.config().max_position_embeddings);
            if tokens > context {
                bail!(
                    "{id} has {tokens} tokens, the model's context is {context}\nhint: shorten it or leave it out"
                );
            }
            Ok(SftExample { id: id.clone(), tokens: encoded.ids, mask: encoded.loss_mask })
        })
        .collect()
}

/// Tokenises preference pairs.
pub fn pairs_of(model: &ChatModel, records: &[PreferencePair]) -> Result<Vec<TokenPair>> {
    records
        .iter()
        .map(|record| {
            let messages: Vec<Message> =
                record.prompt.iter().map(|m| Message::new(&m.role, &m.content)).collect();
            let mut chosen = model.text.completion_ids(&record.chosen)?;
            let mut rejected = model.text.completion_ids(&record.rejected)?;
            // An answer that ran into the limit has no end, in training as in the rollouts it is compared with.
            for (answer, cut_off) in [&mut chosen, &mut rejected].into_iter().zip(record.cut_off) {
                if cut_off && answer.len() > 1 {
                    answer.pop();
                }
            }
            let prompt = model.prompt_ids(&record.id, &messages, chosen.len().max(rejected.len()))?;
            let mut probability = record.probability;
            // Trainers are given oriented pairs only.
            if probability < 0.5 {
                std::mem::swap(&mut chosen, &mut rejected);
                probability = 1.0 - probability;
            }
            Ok(TokenPair {
                id: record.id.clone(),
                prompt,
                chosen,
                rejected,
                probability: probability as f32,
                margin: None,
            })
        })
        .collect()
}

/// TRL's PPO with this KL coefficient and temperature.
pub fn ppo_preset(kl_coefficient: f64, temperature: f64) -> PpoPreset {
    let mut preset = ppo::TRL;
    preset.temperature = temperature;
    preset.reward.kl_coefficient = kl_coefficient;
    preset
}

/// Mean and standard deviation of a reward model on one sampled answer to each prompt ("N details", 9).
pub fn reward_statistics(
    decoder: &Decoder<Cpu>,
    policy: Option<&Adapter<Cpu>>,
    (adapter, head): (&Adapter<Cpu>, &ScalarHead<Cpu>),
    prompts: &[PpoPrompt],
    stop_ids: &[u32],
    (max_new_tokens, temperature): (usize, f32),
    draws: Draws,
) -> Result<RewardScale> {
    let requests: Vec<Request> =
        prompts.iter().map(|p| Request { prompt: p.tokens.clone(), draws: draws.item(&p.id) }).collect();
    let settings = Settings {
        sampling: Sampling { temperature, ..Sampling::default() },
        max_new_tokens,
        stop_ids,
        stop_text: None,
        slots: 64,
        logprob_temperature: 1.0,
    };
    let completions = Engine::new(decoder, policy, KEPT).generate(&requests, &settings, &mut |_| {});
    let answers: Vec<(&[u32], &[u32])> =
        requests.iter().zip(&completions).map(|(r, c)| (&r.prompt[..], &c.token_ids[..])).collect();
    let scores = rewards(decoder, Some(adapter), head, &answers, TOKENS_PER_PASS);
    Ok(RewardScale::of(&scores)?)
}

/// A conversation as the ledger shows it.
pub fn transcript(messages: &[ChatMessage]) -> String {
    messages.iter().map(|m| format!("{}: {}", m.role, m.content)).collect::<Vec<_>>().join("\n")
}

/// A preference pair as the ledger shows it.
pub fn pair_text(pair: &PreferencePair) -> String {
    format!("{}\nchosen: {}\nrejected: {}", transcript(&pair.prompt), pair.chosen, pair.rejected)
}
