//! From a row of logits to the next token.
//!
//! Filters apply in transformers' order: temperature, top-k, top-p, min-p. Ties keep the lower id. A draw is one uniform
//! number keyed by the request and the position, so a completion does not depend on what it was batched with.

use solon_kernels::log_prob::row_weights;
use std::cmp::Ordering;

/// How to choose the next token.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// Keep the k likeliest; 0 keeps all.
    pub top_k: usize,
    /// Keep the likeliest whose probabilities reach this sum; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens at least this fraction as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 }
    }
}

impl Sampling {
    /// The likeliest token, always.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Says what is wrong with the settings.
    pub fn validate(&self) -> Result<(), String> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(format!("temperature is {}; it must be 0 (greedy) or more", self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(format!("top_p is {}; it must be above 0 and at most 1", self.top_p));
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return Err(format!("min_p is {}; it must be between 0 and 1", self.min_p));
        }
        Ok(())
    }

    /// The next token, given a uniform number in [0, 1).
    pub fn choose(&self, logits: &[f32], uniform: f64) -> u32 {
        if self.temperature == 0.0 {
            return argmax(logits);
        }
        let mut weights = vec![0.0; logits.len()];
        row_weights(logits, 1.0 / self.temperature, &mut weights);
        if self.top_k == 0 && self.top_p >= 1.0 && self.min_p <= 0.0 {
            return pick(weights.iter().enumerate().map(|(i, w)| (i as u32, *w)), uniform);
        }
        let all: Vec<(u32, f32)> = weights.iter().enumerate().map(|(i, w)| (i as u32, *w)).collect();
        let limit = if self.top_k == 0 { all.len() } else { self.top_k.min(all.len()) };
        // The filters keep a beginning of the ranking, mostly a short one: rank as much as turns out to be needed.
        let mut count = if self.top_k == 0 { limit.min(256) } else { limit };
        let kept = loop {
            let ranked = likeliest(all.clone(), count);
            match self.nucleus(&ranked, &weights) {
                Some(kept) => break ranked[..kept].to_vec(),
                None if count == limit => break ranked,
                None => count = (8 * count).min(limit),
            }
        };
        let floor = kept[0].1 * self.min_p;
        pick(kept.into_iter().take_while(|(_, w)| *w >= floor), uniform)
    }

    /// How many of the likeliest tokens top-p and min-p look at; `None` where they look beyond these.
    fn nucleus(&self, ranked: &[(u32, f32)], weights: &[f32]) -> Option<usize> {
        if self.top_p >= 1.0 {
            return ranked.iter().position(|(_, w)| *w < ranked[0].1 * self.min_p);
        }
        // Top-p takes its share of what top-k left.
        let total: f64 = match self.top_k {
            0 => weights.iter().map(|w| f64::from(*w)).sum(),
            _ => ranked.iter().map(|(_, w)| f64::from(*w)).sum(),
        };
        let mut sum = 0.0;
        let enough = ranked.iter().position(|(_, w)| {
            sum += f64::from(*w) / total;
            sum >= f64::from(self.top_p)
        })?;
        Some(enough + 1)
    }
}

/// The `count` likeliest tokens in order, the lower id first among equals.
fn likeliest(mut tokens: Vec<(u32, f32)>, count: usize) -> Vec<(u32, f32)> {
    let order = |a: &(u32, f32), b: &(u32, f32)| -> Ordering { b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)) };
    if count < tokens.len() {
        tokens.select_nth_unstable_by(count, order);
        tokens.truncate(count);
    }
    tokens.sort_unstable_by(order);
    tokens
}

/// The index of the largest element, the first of equals.
fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, x) in logits.iter().enumerate() {
        if *x > logits[best] {
            best = i;
        }
    }
    best as u32
}

/// Inverse-CDF choice among weighted tokens, in their order.
fn pick(tokens: impl Iterator<Item = (u32, f32)> + Clone, uniform: f64) -> u32 {
    let total: f64 = tokens.clone().map(|(_, w)| f64::from(w)).sum();
    let wanted = uniform * total;
    let (mut sum, mut last) = (0.0, 0);
    for (token, weight) in tokens {
        sum += f64::from(weight);
        last = token;
        if sum > wanted {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use solon_draws::Draws;

    const LOGITS: [f32; 5] = [1.0, 3.0, 0.0, 2.0, 3.0];

    #[test]
    fn greedy_takes_the_first_of_equals() {
        assert_eq!(Sampling::greedy().choose(&LOGITS, 0.9), 1);
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let sampling = Sampling { temperature: 1.3, ..Sampling::default() };
        let draws = Draws::new(5, "frequencies");
        let mut counts = [0_u32; 5];
        for i in 0..40_000 {
            counts[sampling.choose(&LOGITS, draws.uniform(i)) as usize] += 1;
        }
        let weights: Vec<f64> = LOGITS.iter().map(|x| (f64::from(*x) / 1.3).exp()).collect();
        for i in 0..5 {
            let expected = weights[i] / weights.iter().sum::<f64>();
            assert!((f64::from(counts[i]) / 40_000.0 - expected).abs() < 0.01, "token {i}");
        }
    }

    #[test]
    fn filters_keep_what_they_say() {
        let reachable = |sampling: Sampling| -> Vec<u32> {
            let mut seen: Vec<u32> =
                (0..1000).map(|i| sampling.choose(&LOGITS, f64::from(i) / 1000.0)).collect();
            seen.sort_unstable();
            seen.dedup();
            seen
        };
        assert_eq!(reachable(Sampling { top_k: 2, ..Sampling::default() }), [1, 4]);
        assert_eq!(reachable(Sampling { top_p: 0.5, ..Sampling::default() }), [1, 4]);
        assert_eq!(reachable(Sampling { min_p: 0.3, ..Sampling::default() }), [1, 3, 4]);
        assert_eq!(reachable(Sampling::default()), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn ranking_as_much_as_needed_is_ranking_everything() {
        let draws = Draws::new(9, "flat");
        // Nearly flat, so that the nucleus reaches far beyond the first tokens ranked.
        let logits: Vec<f32> = (0..5000).map(|i| draws.uniform(i) as f32 * 0.3).collect();
        let mut ranked: Vec<u32> = (0..5000).collect();
        ranked.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
        let weight = |token: &u32| f64::from(logits[*token as usize]).exp();
        for (sampling, last) in [
            (Sampling { top_p: 0.01, ..Sampling::default() }, None),
            (Sampling { top_p: 0.6, ..Sampling::default() }, None),
            (Sampling { top_k: 700, ..Sampling::default() }, Some(699)),
            (Sampling { min_p: 0.9, ..Sampling::default() }, None),
        ] {
            let total: f64 = ranked.iter().map(weight).sum();
            let mut sum = 0.0;
            let last = last.unwrap_or_else(|| {
                let past = |token: &u32| match sampling.min_p > 0.0 {
                    true => weight(token) < weight(&ranked[0]) * f64::from(sampling.min_p),
                    false => {
                        let before = sum;
                        sum += weight(token) / total;
                        before >= f64::from(sampling.top_p)
                    }
                };
                ranked.iter().position(past).unwrap() - 1
            });
            let got = sampling.choose(&logits, 1.0 - 1e-12);
            assert_eq!(got, ranked[last], "{sampling:?}");
        }
    }
}
