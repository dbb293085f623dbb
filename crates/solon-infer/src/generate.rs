//! Continuous batching: many requests, a bounded number of slots, shared prefixes computed once.
//!
//! A request's path in the cache is its prompt's path (`prefixes.rs`) and one segment of its own, which holds the
//! prompt's last token and the generated tokens. Each forward pass takes some tokens of new prompts and one token of
//! every running request. So a long prompt does not delay the others.
//!
//! Contract: a request's tokens and log-probs depend on its prompt, its key and the weights, not on slots, order,
//! sharing, earlier calls or threads. The engine knows only tokens; the caller checks stop strings with a function of
//! the ids so far.

use crate::engine::Engine;
use crate::prefixes::Prefix;
use crate::sampling::choose;
use solon_draws::Draws;
use solon_kernels::threads;
use solon_model::{Backend, CachedRows};
use solon_records::SamplingSettings;
use std::collections::VecDeque;

/// One prompt to continue.
#[derive(Clone, Debug)]
pub struct Request {
    /// Token ids; at least one.
    pub prompt: Vec<u32>,
    /// The key of this request's draws.
    pub draws: Draws,
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The model ended its turn, or a stop string appeared.
    Stop,
    /// The limit of new tokens was reached.
    Length,
}

/// A finished request.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Generated ids, an end-of-turn id included where the model gave one.
    pub token_ids: Vec<u32>,
    /// Log-prob of each id in nats, at [`Settings::logprob_temperature`], over the whole vocabulary.
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
}

/// Settings that all requests share.
pub struct Settings<'a> {
    /// How tokens are sampled, and their largest number. The engine knows no text: see [`Self::stop_text`] for stop
    /// strings.
    pub sampling: SamplingSettings,
    /// Ids that end a completion.
    pub stop_ids: &'a [u32],
    /// Whether the ids so far contain one of the stop strings of `sampling`; required if there are any.
    pub stop_text: Option<&'a (dyn Fn(&[u32]) -> bool + Sync)>,
    /// Number of requests that run at the same time.
    pub slots: usize,
    /// Softmax temperature of the recorded log-probs; 1 gives the model's own.
    pub logprob_temperature: f32,
}

/// Largest number of prompt tokens in one forward pass, beside the running requests' tokens.
const PREFILL_PER_STEP: usize = 512;

/// A request whose prompt is being computed.
struct Admitted {
    index: usize,
    prefix: Prefix,
}

struct Running {
    index: usize,
    prefix: Prefix,
    path: Vec<(usize, usize)>,
    segment: usize,
    /// The token to run next and its position.
    next: u32,
    position: usize,
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
}

impl<B: Backend> Engine<'_, B> {
    /// Continues every request. `progress(n)` gets the number of requests that finished in each step. Completions are
    /// in request order.
    pub fn generate(
        &mut self,
        requests: &[Request],
        settings: &Settings<'_>,
        progress: &mut dyn FnMut(usize),
    ) -> Vec<Completion> {
        let Self { decoder, adapter, cache, prefixes } = self;
        let backend = decoder.backend();
        let mut done: Vec<Option<Completion>> = requests.iter().map(|_| None).collect();
        let mut waiting: VecDeque<usize> = (0..requests.len()).collect();
        let mut admitted: Vec<Admitted> = Vec::new();
        let mut running: Vec<Running> = Vec::new();
        while !(waiting.is_empty() && admitted.is_empty() && running.is_empty()) {
            while admitted.len() + running.len() < settings.slots.max(1)
                && let Some(index) = waiting.pop_front()
            {
                let prompt = &requests[index].prompt;
                admitted.push(Admitted { index, prefix: prefixes.attach(&prompt[..prompt.len() - 1]) });
            }
            let mut rows = CachedRows::default();
            prefixes.push_pending(backend, cache, PREFILL_PER_STEP, &mut rows);
            let prompt_rows = rows.tokens.len();
            for Admitted { index, prefix } in std::mem::take(&mut admitted) {
                let Some(path) = prefixes.ready(&prefix) else {
                    admitted.push(Admitted { index, prefix });
                    continue;
                };
                let last = requests[index].prompt.len() - 1;
                prefixes.tokens.computed += 1;
                running.push(Running {
                    index,
                    prefix,
                    path,
                    segment: backend.add_segment(cache, settings.sampling.max_new_tokens + 1),
                    next: requests[index].prompt[last],
                    position: last,
                    token_ids: Vec::new(),
                    logprobs: Vec::new(),
                });
            }
            for request in &running {
                rows.push(&[request.next], request.position, request.segment, request.path.clone());
            }
            let hidden = decoder.forward_cached(*adapter, cache, &rows);
            if running.is_empty() {
                continue;
            }
            let wanted: Vec<u32> = (prompt_rows as u32..rows.tokens.len() as u32).collect();
            let states = backend.gather_rows(&hidden, decoder.config().hidden_size, &wanted);
            let logits = decoder.logits(&states);
            let vocab = decoder.config().vocab_size;
            let values = backend.download(&logits);
            let chosen = threads::map(running.len(), |i| {
                let (request, row) = (&running[i], &values[i * vocab..(i + 1) * vocab]);
                let draw = requests[request.index].draws.uniform(request.token_ids.len() as u64);
                choose(&settings.sampling, row, draw)
            });
            let logprobs = backend.log_probs(&logits, vocab, &chosen, 1.0 / settings.logprob_temperature);
            for ((request, token), logprob) in running.iter_mut().zip(&chosen).zip(&logprobs) {
                request.token_ids.push(*token);
                request.logprobs.push(*logprob);
                request.next = *token;
                request.position += 1;
            }
            let before = running.len();
            running.retain_mut(|request| {
                let stopped = settings.stop_ids.contains(&request.next)
                    || settings.stop_text.is_some_and(|found| found(&request.token_ids));
                if !stopped && request.token_ids.len() < settings.sampling.max_new_tokens {
                    return true;
                }
                backend.remove_segment(cache, request.segment);
                prefixes.release(backend, cache, &request.prefix);
                done[request.index] = Some(Completion {
                    token_ids: std::mem::take(&mut request.token_ids),
                    logprobs: std::mem::take(&mut request.logprobs),
                    finish: if stopped { Finish::Stop } else { Finish::Length },
                });
                false
            });
            if before > running.len() {
                progress(before - running.len());
            }
        }
        done.into_iter().flatten().collect()
    }
}
