//! Tokenised preference pairs.
//!
//! Contract: pairs are *oriented*: `chosen` is the answer that is more likely the better one, `probability >= 0.5`.
//! Otherwise "accuracy" and "margin" would have no meaning. A probability of exactly 0.5 is a tie: it is trained on,
//! but left out of accuracy.

use crate::objective::Sequence;
use crate::step::TrainError;

/// A tokenised preference.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenPair {
    /// The id of the preference it comes from.
    pub id: String,
    /// Prompt ids, generation prompt included.
    pub prompt: Vec<u32>,
    /// The preferred answer's ids, end of turn included; for a reward model up to the one at which its score is read.
    pub chosen: Vec<u32>,
    /// The other answer's ids, alike.
    pub rejected: Vec<u32>,
    /// Probability that `chosen` is the better one, 0.5 to 1.
    pub probability: f32,
    /// How much larger the chosen answer's reward should be, if annotators graded it. Only reward models use it.
    pub margin: Option<f32>,
}

impl TokenPair {
    /// Number of tokens that the pair takes in a pass: the answers share their prompt.
    pub(crate) fn tokens(&self) -> usize {
        self.prompt.len() + self.chosen.len() + self.rejected.len()
    }

    /// Both answers after their prompt, chosen first, made by `sequence`.
    pub(crate) fn sequences(&self, sequence: fn(&[u32], &[u32]) -> Sequence) -> Vec<Sequence> {
        vec![sequence(&self.prompt, &self.chosen), sequence(&self.prompt, &self.rejected)]
    }

    /// Refuses an empty set, and pairs that are not oriented or have no prompt.
    pub(crate) fn check_all(pairs: &[TokenPair]) -> Result<(), TrainError> {
        if pairs.is_empty() {
            return Err(TrainError::Empty { what: "the set of preference pairs" });
        }
        let fault = pairs.iter().find_map(|pair| Some((pair, pair.fault()?)));
        match fault {
            Some((pair, reason)) => Err(TrainError::Example { id: pair.id.clone(), reason }),
            None => Ok(()),
        }
    }

    /// Refuses an answer without tokens, of which nothing can be learnt. A reward model may read the end of the prompt.
    pub(crate) fn check_answered(pairs: &[TokenPair]) -> Result<(), TrainError> {
        match pairs.iter().find(|pair| pair.chosen.is_empty() || pair.rejected.is_empty()) {
            None => Ok(()),
            Some(pair) => {
                Err(TrainError::Example { id: pair.id.clone(), reason: "an answer has no tokens".to_owned() })
            }
        }
    }

    fn fault(&self) -> Option<String> {
        let probability = self.probability;
        if self.prompt.is_empty() {
            return Some("its prompt has no tokens".to_owned());
        }
        if !(0.5..=1.0).contains(&probability) {
            return Some(format!(
                "its chosen answer is the better one with probability {probability}; the pair must be oriented: \
                 between 0.5 and 1"
            ));
        }
        let margin = self.margin.filter(|margin| !margin.is_finite())?;
        Some(format!("its margin is {margin}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(probability: f32) -> TokenPair {
        let (prompt, chosen, rejected) = (vec![1], vec![2], vec![3, 4]);
        TokenPair { id: "p".to_owned(), prompt, chosen, rejected, probability, margin: Some(0.5) }
    }

    #[test]
    fn pairs_that_are_not_oriented_are_refused() {
        for probability in [0.5, 0.75, 1.0] {
            TokenPair::check_all(&[pair(probability)]).unwrap();
        }
        for probability in [0.25, 0.0, 0.4999, 1.5, f32::NAN] {
            let error = TokenPair::check_all(&[pair(1.0), pair(probability)]).unwrap_err().to_string();
            assert!(error.starts_with("p: ") && error.contains("must be oriented"), "{error}");
        }
        let empty = TokenPair { rejected: Vec::new(), ..pair(1.0) };
        assert!(TokenPair::check_all(std::slice::from_ref(&empty)).is_ok());
        assert!(TokenPair::check_answered(&[pair(1.0), empty]).is_err());
        assert!(TokenPair::check_all(&[TokenPair { prompt: Vec::new(), ..pair(1.0) }]).is_err());
        let graded = TokenPair { margin: Some(f32::INFINITY), ..pair(1.0) };
        assert!(TokenPair::check_all(&[graded]).is_err());
        assert!(TokenPair::check_all(&[]).is_err());
    }
}
