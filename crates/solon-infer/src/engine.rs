//! The engine: a decoder with an adapter, and a cache of the prompts it has computed.

use crate::prefixes::{Prefixes, PromptTokens, Sharing};
use solon_model::{Adapter, Backend, Decoder};

/// Generates ([`Engine::generate`]) and scores ([`Engine::score`]). Shared prefixes of prompts are computed once, also
/// across calls. The engine borrows the weights for its whole life, so they cannot change while its cache depends on
/// them.
pub struct Engine<'a, B: Backend> {
    pub(crate) decoder: &'a Decoder<B>,
    pub(crate) adapter: Option<&'a Adapter<B>>,
    pub(crate) cache: B::Cache,
    pub(crate) prefixes: Prefixes,
}

impl<'a, B: Backend> Engine<'a, B> {
    /// An engine that has computed nothing yet.
    pub fn new(decoder: &'a Decoder<B>, adapter: Option<&'a Adapter<B>>, sharing: Sharing) -> Self {
        Self { decoder, adapter, cache: decoder.new_cache(), prefixes: Prefixes::new(sharing) }
    }

    /// Prompt tokens computed and found in the cache so far.
    pub fn prompt_tokens(&self) -> PromptTokens {
        self.prefixes.tokens
    }
}
