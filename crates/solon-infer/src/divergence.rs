//! How far a model's answers are from what another model would have written: KL(writer ‖ other) of each answer.
//!
//! Contract: the sum over an answer's tokens of the KL of the whole next-token distributions, in nats, given the tokens
//! before. It is not estimated from the sampled tokens, so it also holds for answers that were decoded greedily. Both
//! decoders have one vocabulary.

use solon_model::{Adapter, AnswerPack, Backend, Decoder, Predictions};

/// A decoder and the adapter on it.
pub struct Policy<'a, B: Backend> {
    /// The decoder.
    pub decoder: &'a Decoder<B>,
    /// The adapter.
    pub adapter: Option<&'a Adapter<B>>,
}

/// Approximate number of tokens in one pass.
const PASS: usize = 1024;

/// KL(`writer` ‖ `other`) of each answer after its prompt, in nats: `[answers]`.
pub fn answer_divergences<B: Backend>(
    writer: &Policy<'_, B>,
    other: &Policy<'_, B>,
    answers: &[(&[u32], &[u32])],
) -> Vec<f64> {
    let mut out = Vec::with_capacity(answers.len());
    let mut left = answers;
    while !left.is_empty() {
        let mut tokens = 0;
        let fits = left.iter().take_while(|(prompt, answer)| {
            tokens += prompt.len() + answer.len();
            tokens <= PASS
        });
        let (pass, rest) = left.split_at(fits.count().max(1));
        let AnswerPack { pack, scored, lengths, .. } = AnswerPack::of(pass.iter().copied());
        let [written, compared] =
            [writer, other].map(|policy| policy.decoder.hidden_states(policy.adapter, &pack));
        let written = Predictions { decoder: writer.decoder, hidden: &written };
        let mut each = other.decoder.divergences(&compared, written, &scored.rows).into_iter();
        out.extend(lengths.iter().map(|length| each.by_ref().take(*length).map(f64::from).sum::<f64>()));
        left = rest;
    }
    out
}
