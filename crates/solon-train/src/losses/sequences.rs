//! Converts between tokens and sequences: sums of per-token log-probs, and their gradient.
//!
//! Contract: a flat token axis and `lengths`, the number of scored tokens of each sequence in order; no padding, no
//! mask. A sequence's log-prob is the sum over its tokens, so each token's gradient is its sequence's.
//! Source: DPO (2305.18290) section 4, `log pi(y|x)`.

use super::{LossError, check_finite};

/// The sum of each sequence's `logprobs`.
///
/// - `logprobs`: `[n_scored]`, nats
/// - `lengths`: `[n_sequences]`, scored tokens of each; their sum is `n_scored`
///
/// Returns `[n_sequences]`, nats, in `f64`: a sum of -1000 in `f32` would be off by up to 3e-5, as much as a pair's
/// margin in the first steps.
///
/// # Errors
/// No sequences, a sequence without tokens, lengths that do not add up, or a log-prob that is not finite.
pub fn sum_by_sequence(logprobs: &[f32], lengths: &[usize]) -> Result<Vec<f64>, LossError> {
    check_finite("logprobs", logprobs)?;
    let sequences = split(logprobs, lengths, "logprobs")?;
    Ok(sequences.map(|tokens| tokens.iter().map(|&logprob| f64::from(logprob)).sum()).collect())
}

/// Gives every token the gradient of its sequence's sum: the transpose of [`sum_by_sequence`].
///
/// - `d_sequences`: `[n_sequences]`, d loss / d sequence log-prob
///
/// Returns `[n_scored]`, d loss / d token log-prob.
///
/// # Errors
/// The number of lengths must equal the number of gradients, and no length may be zero.
pub fn spread_over_tokens(d_sequences: &[f32], lengths: &[usize]) -> Result<Vec<f32>, LossError> {
    if lengths.len() != d_sequences.len() {
        return Err(LossError::Length {
            input: "lengths",
            actual: lengths.len(),
            expected: d_sequences.len(),
        });
    }
    check_sequences(lengths)?;
    Ok(d_sequences
        .iter()
        .zip(lengths)
        .flat_map(|(&gradient, &length)| std::iter::repeat_n(gradient, length))
        .collect())
}

/// Refuses an empty list, and a sequence without tokens.
pub(crate) fn check_sequences(lengths: &[usize]) -> Result<(), LossError> {
    if lengths.is_empty() {
        return Err(LossError::Empty { input: "lengths" });
    }
    match lengths.iter().position(|&length| length == 0) {
        Some(index) => Err(LossError::EmptySequence { index }),
        None => Ok(()),
    }
}

/// Splits a flat axis into its sequences, after checking that `lengths` covers it exactly.
pub(crate) fn split<'a, T>(
    flat: &'a [T],
    lengths: &'a [usize],
    input: &'static str,
) -> Result<impl DoubleEndedIterator<Item = &'a [T]>, LossError> {
    check_sequences(lengths)?;
    // Lengths may come from a file: their sum must not wrap around to a valid number.
    let expected = lengths.iter().fold(0usize, |sum, &length| sum.saturating_add(length));
    if flat.len() != expected {
        return Err(LossError::Length { input, actual: flat.len(), expected });
    }
    let ends = lengths.iter().scan(0, |end, &length| {
        *end += length;
        Some((*end - length)..*end)
    });
    Ok(ends.collect::<Vec<_>>().into_iter().map(move |range| &flat[range]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_spreads_are_transposes() {
        let (logprobs, lengths) = ([-1.0, -2.0, -0.5, -0.25, -4.0, -8.0], [2, 1, 3]);
        assert_eq!(sum_by_sequence(&logprobs, &lengths).unwrap(), [-3.0, -0.5, -12.25]);
        assert_eq!(spread_over_tokens(&[1.0, 2.0, 3.0], &lengths).unwrap(), [1.0, 1.0, 2.0, 3.0, 3.0, 3.0]);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert_eq!(sum_by_sequence(&[], &[]), Err(LossError::Empty { input: "lengths" }));
        assert_eq!(sum_by_sequence(&[-1.0], &[1, 0]), Err(LossError::EmptySequence { index: 1 }));
        assert!(matches!(sum_by_sequence(&[-1.0], &[2]), Err(LossError::Length { .. })));
        assert!(matches!(sum_by_sequence(&[-1.0], &[usize::MAX, 2]), Err(LossError::Length { .. })));
        assert!(matches!(sum_by_sequence(&[f32::NAN], &[1]), Err(LossError::NotFinite { index: 0, .. })));
        assert!(matches!(spread_over_tokens(&[1.0], &[1, 1]), Err(LossError::Length { .. })));
    }
}
