//! Log-probs of given completions after given prompts, through the cache that generation uses.
//!
//! Contract: the log-probs have the same bits as those of `Decoder::log_probs` on the packed sequences, and as those
//! recorded during generation.

use crate::engine::Engine;
use crate::prefixes::Prefix;
use solon_model::{Backend, CachedRows, Scored};

/// A prompt and the completions to score after it.
#[derive(Clone, Debug)]
pub struct ScoreItem {
    /// Token ids of the prompt; at least one.
    pub prompt: Vec<u32>,
    /// Token ids of each completion.
    pub completions: Vec<Vec<u32>>,
}

/// Approximate number of tokens in one pass.
const PASS: usize = 1024;

impl<B: Backend> Engine<'_, B> {
    /// Log-probs in nats of every completion's tokens: `[item][completion][token]`, at softmax temperature
    /// `temperature`. `progress(n)` gets the number of items that finished in each pass.
    pub fn score(
        &mut self,
        items: &[ScoreItem],
        temperature: f32,
        progress: &mut dyn FnMut(usize),
    ) -> Vec<Vec<Vec<f32>>> {
        let mut out = Vec::with_capacity(items.len());
        while out.len() < items.len() {
            let left = &items[out.len()..];
            let mut prefixes = Vec::new();
            let mut tokens = 0;
            while prefixes.len() < left.len() && (prefixes.is_empty() || tokens < PASS) {
                let ScoreItem { prompt, completions } = &left[prefixes.len()];
                let found = self.prefixes.tokens.found;
                prefixes.push(self.prefixes.attach(&prompt[..prompt.len() - 1]));
                tokens += prompt.len() - (self.prefixes.tokens.found - found);
                tokens += completions.iter().map(Vec::len).sum::<usize>();
            }
            let items = &left[..prefixes.len()];
            let log_probs = self.score_pass(items, &prefixes, temperature);
            for prefix in &prefixes {
                self.prefixes.release(self.decoder.backend(), &mut self.cache, prefix);
            }
            let mut log_probs = log_probs.into_iter();
            for item in items {
                out.push(
                    item.completions.iter().map(|c| log_probs.by_ref().take(c.len()).collect()).collect(),
                );
            }
            progress(items.len());
        }
        out
    }

    /// Log-probs of some items' completions in order, in one pass if their prompts fit it.
    fn score_pass(&mut self, items: &[ScoreItem], prefixes: &[Prefix], temperature: f32) -> Vec<f32> {
        let (decoder, adapter, backend) = (self.decoder, self.adapter, self.decoder.backend());
        let mut rows = CachedRows::default();
        let paths: Vec<_> = loop {
            self.prefixes.push_pending(backend, &mut self.cache, PASS, &mut rows);
            if let Some(paths) = prefixes.iter().map(|prefix| self.prefixes.ready(prefix)).collect() {
                break paths;
            }
            decoder.forward_cached(adapter, &mut self.cache, &rows);
            rows = CachedRows::default();
        };
        let (mut scored, mut segments) = (Scored::default(), Vec::new());
        for (item, path) in items.iter().zip(paths) {
            let last = item.prompt.len() - 1;
            for completion in item.completions.iter().filter(|completion| !completion.is_empty()) {
                // Each token is predicted by the one before it; the first by the prompt's last token.
                let before = [&item.prompt[last..], &completion[..completion.len() - 1]].concat();
                let segment = backend.add_segment(&mut self.cache, before.len());
                let first = rows.tokens.len();
                rows.push(&before, last, segment, path.clone());
                scored.rows.extend(first as u32..rows.tokens.len() as u32);
                scored.targets.extend_from_slice(completion);
                segments.push(segment);
                self.prefixes.tokens.computed += 1;
            }
        }
        if rows.tokens.is_empty() {
            return Vec::new();
        }
        let hidden = decoder.forward_cached(adapter, &mut self.cache, &rows);
        for segment in segments {
            backend.remove_segment(&mut self.cache, segment);
        }
        decoder.log_probs(&hidden, &scored, temperature)
    }
}
