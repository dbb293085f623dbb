//! A batch that requests join and leave while it runs: continuous batching over a bounded number of slots.
//!
//! Each step is one forward pass. It takes some tokens of new prompts and one token of every running request, so that a
//! long prompt does not delay the others. A request's path in the cache is its prompt's path (`prefixes.rs`) and segments
//! of its own, which hold the prompt's last token and the generated tokens. A prompt whose own log-probs are wanted is
//! read into the request's segments instead, since a shared prefix is computed once and its log-probs are not kept.
//!
//! Contract: a request's tokens and log-probs depend on its prompt, its settings, its key and the weights, not on slots,
//! order, sharing, other requests, earlier calls or threads. The batch knows only tokens; the caller decides after each
//! token whether the request ends there.

use crate::engine::Engine;
use crate::generate::Finish;
use crate::prefixes::Prefix;
use crate::sampling::{choose, likeliest_of};
use solon_draws::Draws;
use solon_kernels::threads;
use solon_model::{Backend, CachedRows};
use solon_records::SamplingSettings;
use std::collections::VecDeque;
use std::sync::Arc;

/// A request: a prompt, and how it is continued.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// Token ids of the prompt; at least one.
    pub prompt: Vec<u32>,
    /// The key of its draws.
    pub draws: Draws,
    /// How tokens are sampled, and their largest number. Stop strings are the caller's. A prompt that is read may have no
    /// new tokens.
    pub sampling: Arc<SamplingSettings>,
    /// Whether the log-probs of the prompt's own tokens are wanted.
    pub read_prompt: bool,
    /// Number of likeliest tokens to list for each token.
    pub likeliest: usize,
}

/// Tokens, and what the model predicted where they stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tokens {
    /// Token ids, `[tokens]`.
    pub ids: Vec<u32>,
    /// Log-prob of each in nats over the whole vocabulary, `[tokens]`.
    pub logprobs: Vec<f32>,
    /// The likeliest tokens in place of each with their log-probs, likeliest first: `[tokens][Sequence::likeliest]`; empty
    /// where none were asked for.
    pub likeliest: Vec<Vec<(u32, f32)>>,
}

/// A request that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// What [`Batch::add`] returned.
    pub id: u64,
    /// The prompt from its second token on, where it was read.
    pub prompt: Tokens,
    /// What was generated, an end-of-turn id included where the model gave one.
    pub tokens: Tokens,
    /// Why it ended.
    pub finish: Finish,
}

/// What all requests share.
#[derive(Clone, Copy)]
pub struct BatchSettings<'a> {
    /// Number of requests that run at the same time.
    pub slots: usize,
    /// Ids that end a completion.
    pub stop_ids: &'a [u32],
    /// Softmax temperature of the log-probs; 1 gives the model's own.
    pub logprob_temperature: f32,
}

/// Requests on an engine, in every state of completion.
pub struct Batch<'e, 'a, B: Backend> {
    engine: &'e mut Engine<'a, B>,
    settings: BatchSettings<'e>,
    added: u64,
    waiting: VecDeque<(u64, Sequence)>,
    joining: Vec<Joining>,
    running: Vec<Running>,
}

/// Largest number of prompt tokens in one forward pass, beside the running requests' tokens.
const PREFILL_PER_STEP: usize = 512;
/// Room of a request's first segment; each further one is twice as large.
const FIRST_SEGMENT: usize = 64;
/// Rows of logits held at once while a prompt is read.
const ROWS_OF_LOGITS: usize = 256;

/// A request whose prompt is being computed.
struct Joining {
    id: u64,
    sequence: Sequence,
    prompt: Prompt,
    /// It leaves as soon as its prompt is computed, which others may share.
    is_cancelled: bool,
}

enum Prompt {
    Shared(Prefix),
    Read(Own, Tokens),
}

struct Running {
    id: u64,
    sequence: Sequence,
    prefix: Option<Prefix>,
    prompt: Tokens,
    own: Own,
    /// The token to run next and its position.
    next: u32,
    position: usize,
    tokens: Tokens,
}

impl<'e, 'a, B: Backend> Batch<'e, 'a, B> {
    /// A batch without requests.
    pub fn new(engine: &'e mut Engine<'a, B>, settings: BatchSettings<'e>) -> Self {
        Self {
            engine,
            settings,
            added: 0,
            waiting: VecDeque::new(),
            joining: Vec::new(),
            running: Vec::new(),
        }
    }

    /// Adds a request, which joins when a slot is free. Returns its id: requests are counted from 0.
    pub fn add(&mut self, sequence: Sequence) -> u64 {
        let id = self.added;
        self.added += 1;
        self.waiting.push_back((id, sequence));
        id
    }

    /// Whether nothing is left to do.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.joining.is_empty() && self.running.is_empty()
    }

    /// Ends a request without a result.
    pub fn cancel(&mut self, id: u64) {
        self.waiting.retain(|(waiting, _)| *waiting != id);
        for joining in self.joining.iter_mut().filter(|joining| joining.id == id) {
            joining.is_cancelled = true;
        }
        if let Some(place) = self.running.iter().position(|running| running.id == id) {
            let running = self.running.remove(place);
            self.leave(running.own, running.prefix);
        }
    }

    /// One forward pass. `ends(id, tokens)` gets what a request has generated so far, after each of its tokens, and says
    /// whether it ends there. Returns the requests that have ended, in the order in which they joined.
    pub fn step(&mut self, ends: &mut dyn FnMut(u64, &Tokens) -> bool) -> Vec<Finished> {
        self.admit();
        let mut rows = CachedRows::default();
        let Engine { decoder, cache, prefixes, .. } = &mut *self.engine;
        // Prompts that are read have half of the pass, so that they go on while others come.
        let reads = self.joining.iter().any(|joining| matches!(joining.prompt, Prompt::Read(..)));
        let shared = if reads { PREFILL_PER_STEP / 2 } else { PREFILL_PER_STEP };
        prefixes.push_pending(decoder.backend(), cache, shared, &mut rows);
        let (reading, mut finished) = self.join(&mut rows);
        let first_running = rows.tokens.len();
        let Engine { decoder, adapter, cache, .. } = &mut *self.engine;
        for running in &mut self.running {
            let left = running.sequence.sampling.max_new_tokens - running.tokens.ids.len();
            running.own.push(decoder.backend(), cache, &[running.next], running.position, left, &mut rows);
        }
        if rows.tokens.is_empty() {
            return finished;
        }
        let hidden = decoder.forward_cached(*adapter, cache, &rows);
        self.read(&hidden, reading);
        if !self.running.is_empty() {
            self.sample(&hidden, first_running..rows.tokens.len());
            finished.extend(self.end(ends));
        }
        finished
    }

    /// Gives free slots to waiting requests.
    fn admit(&mut self) {
        let Engine { decoder, cache, prefixes, .. } = &mut *self.engine;
        while self.joining.len() + self.running.len() < self.settings.slots.max(1)
            && let Some((id, sequence)) = self.waiting.pop_front()
        {
            let before_last = &sequence.prompt[..sequence.prompt.len() - 1];
            let prompt = match sequence.read_prompt {
                true => {
                    let own = Own::new(decoder.backend(), cache, Vec::new(), before_last.len());
                    Prompt::Read(own, Tokens::default())
                }
                false => Prompt::Shared(prefixes.attach(before_last)),
            };
            self.joining.push(Joining { id, sequence, prompt, is_cancelled: false });
        }
    }

    /// Lets requests run whose prompt is computed, and adds tokens of those that are read. Returns these as (place among
    /// the joining, first row, number of rows), and requests that wanted no more than their prompt read.
    fn join(&mut self, rows: &mut CachedRows) -> (Vec<(usize, usize, usize)>, Vec<Finished>) {
        let (mut reading, mut finished) = (Vec::new(), Vec::new());
        let mut left = PREFILL_PER_STEP.saturating_sub(rows.tokens.len());
        for Joining { id, sequence, prompt, is_cancelled } in std::mem::take(&mut self.joining) {
            let (last, room) = (sequence.prompt.len() - 1, sequence.sampling.max_new_tokens);
            let Engine { decoder, cache, prefixes, .. } = &mut *self.engine;
            let backend = decoder.backend();
            let computed = match prompt {
                Prompt::Shared(prefix) => match prefixes.ready(&prefix) {
                    Some(path) => {
                        let own = Own::new(backend, cache, path, room.min(FIRST_SEGMENT));
                        Ok((Some(prefix), own, Tokens::default()))
                    }
                    None => Err(Prompt::Shared(prefix)),
                },
                Prompt::Read(own, tokens) if own.len == last || is_cancelled => Ok((None, own, tokens)),
                Prompt::Read(mut own, tokens) => {
                    let (from, count) = (own.len, left.min(last - own.len));
                    if count > 0 {
                        reading.push((self.joining.len(), rows.tokens.len(), count));
                        own.push(
                            backend,
                            cache,
                            &sequence.prompt[from..from + count],
                            from,
                            last - from,
                            rows,
                        );
                        left -= count;
                    }
                    Err(Prompt::Read(own, tokens))
                }
            };
            match computed {
                Err(prompt) => self.joining.push(Joining { id, sequence, prompt, is_cancelled }),
                Ok((prefix, own, _)) if is_cancelled => self.leave(own, prefix),
                Ok((prefix, own, prompt)) if room == 0 => {
                    self.leave(own, prefix);
                    let tokens = Tokens::default();
                    finished.push(Finished { id, prompt, tokens, finish: Finish::Length });
                }
                Ok((prefix, own, prompt)) => {
                    prefixes.tokens.computed += 1;
                    let (next, tokens) = (sequence.prompt[last], Tokens::default());
                    self.running.push(Running {
                        id,
                        sequence,
                        prefix,
                        prompt,
                        own,
                        next,
                        position: last,
                        tokens,
                    });
                }
            }
        }
        (reading, finished)
    }

    /// Keeps what the model predicted in place of the tokens of prompts that are read.
    fn read(&mut self, hidden: &B::Buffer, reading: Vec<(usize, usize, usize)>) {
        for (place, first, count) in reading {
            let Joining { sequence, prompt, .. } = &mut self.joining[place];
            let Prompt::Read(_, tokens) = prompt else { continue };
            let from = tokens.ids.len() + 1;
            let targets = &sequence.prompt[from..from + count];
            for (chunk, targets) in targets.chunks(ROWS_OF_LOGITS).enumerate() {
                let first = (first + chunk * ROWS_OF_LOGITS) as u32;
                let logits = logits(self.engine, hidden, first..first + targets.len() as u32);
                let wanted = vec![sequence.likeliest; targets.len()];
                let Predicted { logprobs, likeliest } =
                    predicted(self.engine, &logits, targets, &wanted, self.settings.logprob_temperature);
                tokens.ids.extend(targets);
                tokens.logprobs.extend(logprobs);
                tokens.likeliest.extend(likeliest.into_iter().filter(|_| sequence.likeliest > 0));
            }
        }
    }

    /// Samples the next token of every running request.
    fn sample(&mut self, hidden: &B::Buffer, rows: std::ops::Range<usize>) {
        let logits = logits(self.engine, hidden, rows.start as u32..rows.end as u32);
        let vocab = self.engine.decoder.config().vocab_size;
        let values = self.engine.decoder.backend().download(&logits);
        let running = &self.running;
        let chosen = threads::map(running.len(), |i| {
            let (Running { sequence, tokens, .. }, row) = (&running[i], &values[i * vocab..(i + 1) * vocab]);
            choose(&sequence.sampling, row, sequence.draws.uniform(tokens.ids.len() as u64))
        });
        let wanted: Vec<usize> = running.iter().map(|running| running.sequence.likeliest).collect();
        let Predicted { logprobs, likeliest } =
            predicted(self.engine, &logits, &chosen, &wanted, self.settings.logprob_temperature);
        let made = chosen.into_iter().zip(logprobs).zip(likeliest);
        for (running, ((token, logprob), likeliest)) in self.running.iter_mut().zip(made) {
            running.tokens.ids.push(token);
            running.tokens.logprobs.push(logprob);
            if running.sequence.likeliest > 0 {
                running.tokens.likeliest.push(likeliest);
            }
            running.next = token;
            running.position += 1;
        }
    }

    /// Ends the requests that are at their end.
    fn end(&mut self, ends: &mut dyn FnMut(u64, &Tokens) -> bool) -> Vec<Finished> {
        let mut finished = Vec::new();
        for running in std::mem::take(&mut self.running) {
            // The caller hears of every token, also of the last.
            let ended = ends(running.id, &running.tokens) || self.settings.stop_ids.contains(&running.next);
            if !ended && running.tokens.ids.len() < running.sequence.sampling.max_new_tokens {
                self.running.push(running);
                continue;
            }
            let Running { id, prefix, prompt, own, tokens, .. } = running;
            self.leave(own, prefix);
            let finish = if ended { Finish::Stop } else { Finish::Length };
            finished.push(Finished { id, prompt, tokens, finish });
        }
        finished
    }

    /// Gives a request's place in the cache back.
    fn leave(&mut self, own: Own, prefix: Option<Prefix>) {
        let Engine { decoder, cache, prefixes, .. } = &mut *self.engine;
        for segment in own.segments {
            decoder.backend().remove_segment(cache, segment);
        }
        if let Some(prefix) = prefix {
            prefixes.release(decoder.backend(), cache, &prefix);
        }
    }
}

/// The segments of a request's own tokens. A full one is followed by a larger one, so that memory grows with what is
/// generated and not with what was allowed.
struct Own {
    /// What comes before the last segment, with how much of it is seen.
    path: Vec<(usize, usize)>,
    /// Its segments; tokens go into the last.
    segments: Vec<usize>,
    /// Tokens in the last segment, and its room.
    held: usize,
    room: usize,
    /// Tokens in all of them.
    len: usize,
}

impl Own {
    fn new<B: Backend>(backend: &B, cache: &mut B::Cache, path: Vec<(usize, usize)>, room: usize) -> Self {
        let room = room.max(1);
        Self { path, segments: vec![backend.add_segment(cache, room)], held: 0, room, len: 0 }
    }

    /// Adds tokens from `position` on to a pass. `left` are all tokens that may still come, these included. More than one
    /// token needs a segment with room for all.
    fn push<B: Backend>(
        &mut self,
        backend: &B,
        cache: &mut B::Cache,
        tokens: &[u32],
        position: usize,
        left: usize,
        rows: &mut CachedRows,
    ) {
        let last = self.segments[self.segments.len() - 1];
        let segment = if self.held == self.room {
            self.path.push((last, self.held));
            self.room = (2 * self.room).max(FIRST_SEGMENT).min(left.max(1));
            self.held = 0;
            let next = backend.add_segment(cache, self.room);
            self.segments.push(next);
            next
        } else {
            last
        };
        rows.push(tokens, position, segment, self.path.clone());
        self.held += tokens.len();
        self.len += tokens.len();
    }
}

/// Logits of some rows of hidden states, `[rows, vocab]`.
fn logits<B: Backend>(engine: &Engine<'_, B>, hidden: &B::Buffer, rows: std::ops::Range<u32>) -> B::Buffer {
    let (decoder, wanted) = (engine.decoder, rows.collect::<Vec<u32>>());
    decoder.logits(&decoder.backend().gather_rows(hidden, decoder.config().hidden_size, &wanted))
}

struct Predicted {
    logprobs: Vec<f32>,
    likeliest: Vec<Vec<(u32, f32)>>,
}

/// The log-prob of each row's target, and of as many of the likeliest tokens as are wanted there.
fn predicted<B: Backend>(
    engine: &Engine<'_, B>,
    logits: &B::Buffer,
    targets: &[u32],
    wanted: &[usize],
    temperature: f32,
) -> Predicted {
    let (backend, vocab) = (engine.decoder.backend(), engine.decoder.config().vocab_size);
    let logprobs = backend.log_probs(logits, vocab, targets, 1.0 / temperature);
    if wanted.iter().all(|count| *count == 0) {
        return Predicted { logprobs, likeliest: vec![Vec::new(); targets.len()] };
    }
    let values = backend.download(logits);
    let likeliest = threads::map(targets.len(), |i| {
        let row = &values[i * vocab..(i + 1) * vocab];
        let of_target = row[targets[i] as usize];
        let found = likeliest_of(row, wanted[i]).into_iter();
        // All logits of a row have the same normaliser, so the target's log-prob gives the others'.
        found.map(|(token, value)| (token, logprobs[i] + (value - of_target) / temperature)).collect()
    });
    Predicted { logprobs, likeliest }
}
