//! Continuous batching: many requests, a bounded number of slots, a cache whose shared prefixes are computed once.
//!
//! Every request's path in the cache is up to three segments: what all requests begin with (a critique's preamble), the
//! rest of its prompt (shared by requests with the same prompt), and its own: the prompt's last token and what it
//! generates. One forward pass a step takes the new prompts' tokens and one token of every running request together.
//!
//! Contract: a request's tokens and log-probs depend on its prompt, its key and the weights, not on slots, order,
//! sharing or threads. The engine knows tokens only; stop strings come in as a function of the ids so far.

use crate::sampling::Sampling;
use rayon::prelude::*;
use solon_kernels::Draws;
use solon_model::{Adapter, Backend, CachedRows, Decoder};
use std::collections::{BTreeMap, VecDeque};

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
    /// Each id's log-prob in nats, at [`Settings::logprob_temperature`], over the whole vocabulary.
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
}

/// Settings common to all requests.
pub struct Settings<'a> {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most new tokens a request.
    pub max_new_tokens: usize,
    /// Ids that end a completion.
    pub stop_ids: &'a [u32],
    /// Says whether the ids so far contain a stop string.
    pub stop_text: Option<&'a (dyn Fn(&[u32]) -> bool + Sync)>,
    /// Requests that run at a time.
    pub slots: usize,
    /// Softmax temperature of the recorded log-probs; 1 for the model's own.
    pub logprob_temperature: f32,
    /// Compute what prompts begin with alike once for all of them. The result does not depend on it.
    pub share_prefixes: bool,
}

/// Prompt tokens taken into one step, at most, beside the running requests' tokens.
const PREFILL_PER_STEP: usize = 512;
/// A common beginning shorter than this is not worth a segment.
const MIN_SHARED: usize = 16;

struct Running {
    index: usize,
    path: Vec<(usize, usize)>,
    segment: usize,
    /// The token to run next and its position.
    next: u32,
    position: usize,
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
}

/// A prompt held in the cache, and how many requests still need it.
struct HeldPrompt {
    segment: usize,
    users: usize,
}

/// Continues every request; `progress(n)` hears of each step's finished requests. Completions come in request order.
pub fn generate<B: Backend>(
    decoder: &Decoder<B>,
    adapter: Option<&Adapter<B>>,
    requests: &[Request],
    settings: &Settings<'_>,
    progress: &mut dyn FnMut(usize),
) -> Vec<Completion> {
    let backend = decoder.backend();
    let mut cache = decoder.new_cache();
    let mut done: Vec<Option<Completion>> = requests.iter().map(|_| None).collect();
    let shared = if settings.share_prefixes { shared_prefix(requests) } else { 0 };
    let root = (shared > 0).then(|| {
        let segment = backend.add_segment(&mut cache, shared);
        let mut rows = CachedRows::default();
        rows.push(&requests[0].prompt[..shared], 0, segment, Vec::new());
        decoder.forward_cached(adapter, &mut cache, &rows);
        segment
    });
    let mut users: BTreeMap<&[u32], usize> = BTreeMap::new();
    for request in requests {
        *users.entry(&request.prompt).or_default() += 1;
    }
    let mut held: BTreeMap<&[u32], HeldPrompt> = BTreeMap::new();
    let mut waiting: VecDeque<usize> = (0..requests.len()).collect();
    let mut running: Vec<Running> = Vec::new();
    while !(waiting.is_empty() && running.is_empty()) {
        let mut rows = CachedRows::default();
        // New prompts, up to the slots and the step's share of prompt tokens.
        while running.len() < settings.slots.max(1) && rows.tokens.len() < PREFILL_PER_STEP {
            let Some(index) = waiting.pop_front() else { break };
            let prompt = &requests[index].prompt;
            let last = prompt.len() - 1;
            let mut path: Vec<(usize, usize)> = root.map(|root| (root, shared)).into_iter().collect();
            if last > shared {
                let entry = held.entry(prompt).or_insert_with(|| {
                    let segment = backend.add_segment(&mut cache, last - shared);
                    rows.push(&prompt[shared..last], shared, segment, path.clone());
                    HeldPrompt { segment, users: users[&prompt[..]] }
                });
                path.push((entry.segment, last - shared));
            }
            running.push(Running {
                index,
                path,
                segment: backend.add_segment(&mut cache, settings.max_new_tokens + 1),
                next: prompt[last],
                position: last,
                token_ids: Vec::new(),
                logprobs: Vec::new(),
            });
        }
        let prompt_rows = rows.tokens.len();
        for request in &running {
            rows.push(&[request.next], request.position, request.segment, request.path.clone());
        }
        let hidden = decoder.forward_cached(adapter, &mut cache, &rows);
        let wanted: Vec<u32> = (prompt_rows as u32..rows.tokens.len() as u32).collect();
        let states = backend.gather_rows(&hidden, decoder.config().hidden_size, &wanted);
        let logits = decoder.logits(&states);
        let vocab = decoder.config().vocab_size;
        let values = backend.download(&logits);
        let chosen: Vec<u32> = running
            .par_iter()
            .zip(values.par_chunks_exact(vocab))
            .map(|(request, row)| {
                let draw = requests[request.index].draws.uniform(request.token_ids.len() as u64);
                settings.sampling.choose(row, draw)
            })
            .collect();
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
            if !stopped && request.token_ids.len() < settings.max_new_tokens {
                return true;
            }
            backend.remove_segment(&mut cache, request.segment);
            let prompt = &requests[request.index].prompt[..];
            if let Some(entry) = held.get_mut(prompt) {
                entry.users -= 1;
                if entry.users == 0 {
                    backend.remove_segment(&mut cache, entry.segment);
                    held.remove(prompt);
                }
            }
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

/// How many tokens all prompts begin with, short of any prompt's last; 0 where that is too few to matter.
fn shared_prefix(requests: &[Request]) -> usize {
    let Some(first) = requests.first().filter(|_| requests.len() > 1) else { return 0 };
    let mut shared = first.prompt.len().saturating_sub(1);
    for request in requests {
        let same = first.prompt.iter().zip(&request.prompt).take_while(|(a, b)| a == b).count();
        shared = shared.min(same).min(request.prompt.len().saturating_sub(1));
    }
    if shared >= MIN_SHARED { shared } else { 0 }
}
