//! Losses: they take per-token log-probs, sequence sums, rewards or values, and return a scalar, metrics and gradients.
//!
//! Contract: a loss knows no model, no text and no file, and uses no random numbers. Inputs are `f32` (sequence sums
//! are `f64`), arithmetic is `f64`, and elements are taken in order. So a gradient depends only on its own element, the
//! settings and the normaliser.
//!
//! Every loss gets its `normaliser` from the caller: the count over the *whole* optimizer step, all micro-batches and
//! ranks. The `loss` of one call is then a share, and shares add up to the loss of the step. Dividing by each
//! micro-batch's own count would give short micro-batches more weight (TRL #2175). A mean per sequence needs no option:
//! call once per sequence with `normaliser = tokens * sequences`. Metrics merge over [`exact_sum::ExactSum`], so they
//! do not depend on the split either.
//!
//! Inputs that are empty, of unequal length or not finite are errors that name the place. So a trainer can skip the
//! step and does not write NaN into the weights.

pub mod dpo;
pub mod exact_sum;
pub mod hold;
pub mod policy;
pub mod reward;
pub mod sequences;
pub mod sft;
pub mod value;

#[cfg(test)]
pub(crate) mod finite_difference;

/// A larger term means that the run has diverged. The limit also keeps [`exact_sum::ExactSum`] far from its range.
pub const LARGEST_TERM: f64 = 1e18;

/// An error of a loss.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LossError {
    /// The input is empty.
    #[error("{input} is empty\nhint: check for an all-zero loss mask, or a filter that dropped everything")]
    Empty {
        /// Name of the input.
        input: &'static str,
    },
    /// A sequence has no tokens; even an empty answer has its end-of-text token.
    #[error("sequence {index} has no scored tokens\nhint: drop it, or keep its end-of-text token")]
    EmptySequence {
        /// Index of the sequence.
        index: usize,
    },
    /// Two inputs that must have the same length do not.
    #[error("{input} has {actual} elements where {expected} were expected")]
    Length {
        /// Name of the input.
        input: &'static str,
        /// Its length.
        actual: usize,
        /// The length it should have.
        expected: usize,
    },
    /// An input is NaN or infinite, or a term computed from it is too large.
    #[error(
        "{input}[{index}] is {value}; the run has diverged\nhint: lower the learning rate, or resume from an earlier checkpoint"
    )]
    NotFinite {
        /// Name of the input or term.
        input: &'static str,
        /// Index of the element.
        index: usize,
        /// Its value.
        value: f64,
    },
    /// A preference probability is outside 0 to 1.
    #[error("probability[{index}] is {value}; it must be between 0 and 1")]
    Probability {
        /// Index of the pair.
        index: usize,
        /// Its value.
        value: f64,
    },
    /// A setting is out of range.
    #[error("{setting} is {value}; it must be {expected}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// Its value.
        value: f64,
        /// The allowed range.
        expected: &'static str,
    },
}

/// `ln(1 / (1 + exp(-x)))`, without overflow on either side.
///
/// ```
/// use solon_train::losses::log_sigmoid;
/// assert!((log_sigmoid(0.0) + 2f64.ln()).abs() < 1e-15);
/// assert_eq!(log_sigmoid(-1000.0), -1000.0);
/// assert_eq!(log_sigmoid(1000.0), 0.0);
/// ```
pub fn log_sigmoid(x: f64) -> f64 {
    // min(x, 0) - ln(1 + exp(-|x|)): the exponent is never positive.
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

/// `1 / (1 + exp(-x))`, the derivative of `-log_sigmoid(-x)`, without overflow on either side.
pub fn sigmoid(x: f64) -> f64 {
    let small = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) }
}

/// Refuses an empty first input, and any input of another length. The names are used in the error.
pub(crate) fn check_lengths(inputs: &[(&'static str, usize)]) -> Result<(), LossError> {
    let (first, expected) = inputs[0];
    if expected == 0 {
        return Err(LossError::Empty { input: first });
    }
    match inputs.iter().find(|(_, actual)| *actual != expected) {
        Some(&(input, actual)) => Err(LossError::Length { input, actual, expected }),
        None => Ok(()),
    }
}

/// Refuses NaN and infinities, naming the first.
pub(crate) fn check_finite<T: Copy + Into<f64>>(input: &'static str, values: &[T]) -> Result<(), LossError> {
    match values.iter().position(|&value| !value.into().is_finite()) {
        Some(index) => Err(LossError::NotFinite { input, index, value: values[index].into() }),
        None => Ok(()),
    }
}

/// Refuses preference probabilities outside 0 to 1, and NaN.
pub(crate) fn check_probability(values: &[f32]) -> Result<(), LossError> {
    match values.iter().position(|value| !(0.0..=1.0).contains(value)) {
        Some(index) => Err(LossError::Probability { index, value: values[index].into() }),
        None => Ok(()),
    }
}

/// Refuses a term that only a diverged run produces.
pub(crate) fn check_term(input: &'static str, index: usize, value: f64) -> Result<f64, LossError> {
    // Written so that NaN fails, too.
    if value.abs() <= LARGEST_TERM { Ok(value) } else { Err(LossError::NotFinite { input, index, value }) }
}

/// Refuses a setting for which `holds` is false.
pub(crate) fn check_setting(
    setting: &'static str,
    value: f64,
    holds: bool,
    expected: &'static str,
) -> Result<(), LossError> {
    // An infinity satisfies `> 0`, but is never a valid setting.
    if holds && value.is_finite() { Ok(()) } else { Err(LossError::Setting { setting, value, expected }) }
}

/// Refuses a normaliser below one, because it is a count.
pub(crate) fn check_normaliser(normaliser: f64) -> Result<(), LossError> {
    check_setting(
        "normaliser",
        normaliser,
        normaliser >= 1.0,
        "the count over the whole optimizer step, at least 1",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_sigmoid_is_accurate_in_the_tails() {
        for (x, expected) in [(40.0, -4.248354255291589e-18), (-40.0, -40.0), (1.0, -0.31326168751822286)] {
            assert!((log_sigmoid(x) - expected).abs() <= 1e-15 * expected.abs(), "{x}: {}", log_sigmoid(x));
        }
        assert_eq!(log_sigmoid(f64::MAX), 0.0);
        assert_eq!(log_sigmoid(f64::MIN), f64::MIN);
    }

    #[test]
    fn sigmoid_and_its_mirror_sum_to_one() {
        for x in [-800.0, -30.0, -1.5, 0.0, 2.0, 30.0, 800.0] {
            assert!((sigmoid(x) + sigmoid(-x) - 1.0).abs() < 1e-15);
        }
    }

    #[test]
    fn checks_name_the_place() {
        assert_eq!(check_lengths(&[("logprobs", 0)]), Err(LossError::Empty { input: "logprobs" }));
        assert_eq!(
            check_lengths(&[("logprobs", 3), ("advantages", 2)]),
            Err(LossError::Length { input: "advantages", actual: 2, expected: 3 })
        );
        let error = check_finite("logprobs", &[0.0f32, f32::NEG_INFINITY]).unwrap_err();
        assert!(error.to_string().starts_with("logprobs[1] is -inf"), "{error}");
        assert!(check_probability(&[0.0, 1.0, f32::NAN]).is_err());
        assert!(check_term("loss", 0, f64::NAN).is_err());
        assert!(check_normaliser(f64::INFINITY).is_err());
        assert!(check_normaliser(0.0).is_err());
    }
}
