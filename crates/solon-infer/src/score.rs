//! Log-probs of given completions after given prompts, in packs that share prompts.

use solon_model::{Adapter, AnswerPack, Backend, Decoder};

/// A prompt and the completions to score after it.
#[derive(Clone, Debug)]
pub struct ScoreItem {
    /// Token ids of the prompt; at least one.
    pub prompt: Vec<u32>,
    /// Token ids of each completion.
    pub completions: Vec<Vec<u32>>,
}

/// Tokens in one pack, about.
const PACK: usize = 1024;

/// Log-probs in nats of every completion's tokens: `[item][completion][token]`, at softmax temperature `temperature`.
/// `progress(n)` hears of each pack's finished items.
pub fn score<B: Backend>(
    decoder: &Decoder<B>,
    adapter: Option<&Adapter<B>>,
    items: &[ScoreItem],
    temperature: f32,
    progress: &mut dyn FnMut(usize),
) -> Vec<Vec<Vec<f32>>> {
    let mut out = Vec::with_capacity(items.len());
    let mut from = 0;
    while from < items.len() {
        let (mut to, mut tokens) = (from, 0);
        while to < items.len() && (to == from || tokens < PACK) {
            tokens += items[to].prompt.len() + items[to].completions.iter().map(Vec::len).sum::<usize>();
            to += 1;
        }
        let answers = items[from..to]
            .iter()
            .flat_map(|item| item.completions.iter().map(|c| (&item.prompt[..], &c[..])));
        let AnswerPack { pack: batch, scored, .. } = AnswerPack::of(answers);
        let hidden = decoder.hidden_states(adapter, &batch);
        let mut log_probs = decoder.log_probs(&hidden, &scored, temperature).into_iter();
        for item in &items[from..to] {
            out.push(item.completions.iter().map(|c| log_probs.by_ref().take(c.len()).collect()).collect());
        }
        progress(to - from);
        from = to;
    }
    out
}
