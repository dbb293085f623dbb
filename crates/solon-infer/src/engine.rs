//! A decoder with an adapter and what it has computed of prompts.

use crate::prefixes::{Prefixes, PromptTokens, Sharing};
use solon_model::{Adapter, Backend, Decoder};

/// Generates ([`Engine::generate`]) and scores ([`Engine::score`]). What prompts begin with alike is computed once, across
/// calls too. The engine borrows the weights for as long as it lives, so they cannot change under what it keeps.
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

    /// Prompt tokens so far.
    pub fn prompt_tokens(&self) -> PromptTokens {
        self.prefixes.tokens
    }
}
