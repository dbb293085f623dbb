//! Continues a list of prompts with the same settings, as one batch (`batch.rs`).
//!
//! The engine knows only tokens; the caller checks stop strings with a function of the ids so far.

use crate::batch::{Batch, BatchSettings, Finished, Sequence, Tokens};
use crate::engine::Engine;
use solon_draws::Draws;
use solon_model::Backend;
use solon_records::SamplingSettings;
use std::sync::Arc;

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

impl<B: Backend> Engine<'_, B> {
    /// Continues every request. `progress(n)` gets the number of requests that finished in each step. Completions are
    /// in request order.
    pub fn generate(
        &mut self,
        requests: &[Request],
        settings: &Settings<'_>,
        progress: &mut dyn FnMut(usize),
    ) -> Vec<Completion> {
        let Settings { stop_ids, stop_text, slots, logprob_temperature, .. } = *settings;
        let mut batch = Batch::new(self, BatchSettings { slots, stop_ids, logprob_temperature });
        let sampling = Arc::new(settings.sampling.clone());
        for Request { prompt, draws } in requests {
            let (prompt, sampling) = (prompt.clone(), sampling.clone());
            batch.add(Sequence { prompt, draws: *draws, sampling, read_prompt: false, likeliest: 0 });
        }
        let mut done: Vec<Option<Completion>> = requests.iter().map(|_| None).collect();
        while !batch.is_empty() {
            let finished = batch.step(&mut |_, tokens| stop_text.is_some_and(|found| found(&tokens.ids)));
            if !finished.is_empty() {
                progress(finished.len());
            }
            for Finished { id, tokens: Tokens { ids: token_ids, logprobs, .. }, finish, .. } in finished {
                // The batch counts requests from 0.
                done[id as usize] = Some(Completion { token_ids, logprobs, finish });
            }
        }
        done.into_iter().flatten().collect()
    }
}
