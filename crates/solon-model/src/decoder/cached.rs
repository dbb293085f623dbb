//! New tokens against cached keys and values: prefill and decode. The operations and their order are those of the packed pass.

use super::Decoder;
use crate::adapter::Adapter;
use crate::backend::{Backend, CachedRun};

/// New tokens of several sequences, run by run.
#[derive(Clone, Debug, Default)]
pub struct CachedRows {
    /// Token ids, `[rows]`.
    pub tokens: Vec<u32>,
    /// Each token's position on its path, `[rows]`.
    pub positions: Vec<u32>,
    /// The runs, in row order.
    pub runs: Vec<CachedRun>,
}

impl CachedRows {
    /// Adds a run: tokens from `position` on, appended to `segment`.
    pub fn push(&mut self, tokens: &[u32], position: usize, segment: usize, ancestors: Vec<(usize, usize)>) {
        self.tokens.extend_from_slice(tokens);
        self.positions.extend((position..position + tokens.len()).map(|p| p as u32));
        self.runs.push(CachedRun { ancestors, segment, rows: tokens.len() });
    }
}

impl<B: Backend> Decoder<B> {
    /// An empty cache for this model.
    pub fn new_cache(&self) -> B::Cache {
        self.backend.new_cache(self.config.num_layers, self.heads())
    }

    /// Appends the rows to the cache and returns their hidden states after the final norm, `[rows, hidden]`.
    pub fn forward_cached(
        &self,
        adapter: Option<&Adapter<B>>,
        cache: &mut B::Cache,
        rows: &CachedRows,
    ) -> B::Buffer {
        let mut x = self.embed(&rows.tokens);
        for layer in 0..self.config.num_layers {
            let (_, [q, k, v], _) = self.queries_keys_values(layer, adapter, &x, &rows.positions);
            let attention = self.backend.cached_attention(cache, layer, &rows.runs, &q, &k, &v);
            let ([_, _, _, out], _) = self.after_attention(layer, adapter, &x, &attention);
            x = out;
        }
        self.backend.rms_norm(&x, &self.values.final_norm, self.config.rms_norm_eps)
    }
}
