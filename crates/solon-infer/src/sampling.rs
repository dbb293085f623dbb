//! From a row of logits to the next token.
//!
//! Filters apply in transformers' order: temperature, top-k, top-p, min-p. Among equal tokens the lower id comes first.
//! A draw is one uniform number keyed by the request and the position, so a completion does not depend on its batch.

use solon_kernels::log_prob::row_weights;
use solon_records::SamplingSettings;
use std::cmp::Ordering;

/// A temperature below it is greedy, as in FastChat: the softmax has one weight that is not 0, or overflows.
const GREEDY_BELOW: f32 = 1e-4;

/// The next token, given a uniform number in [0, 1).
pub fn choose(settings: &SamplingSettings, logits: &[f32], uniform: f64) -> u32 {
    if settings.temperature < GREEDY_BELOW {
        return argmax(logits);
    }
    let mut weights = vec![0.0; logits.len()];
    row_weights(logits, 1.0 / settings.temperature, &mut weights);
    if settings.top_k == 0 && settings.top_p >= 1.0 && settings.min_p <= 0.0 {
        return pick(weights.iter().enumerate().map(|(i, w)| (i as u32, *w)), uniform);
    }
    let all: Vec<(u32, f32)> = weights.iter().enumerate().map(|(i, w)| (i as u32, *w)).collect();
    let limit = if settings.top_k == 0 { all.len() } else { settings.top_k.min(all.len()) };
    // The filters keep the first tokens of the ranking, usually few: rank only as many as needed.
    let mut count = if settings.top_k == 0 { limit.min(256) } else { limit };
    let kept = loop {
        let ranked = likeliest(all.clone(), count);
        match nucleus(settings, &ranked, &weights) {
            Some(kept) => break ranked[..kept].to_vec(),
            None if count == limit => break ranked,
            None => count = (8 * count).min(limit),
        }
    };
    let floor = kept[0].1 * settings.min_p;
    pick(kept.into_iter().take_while(|(_, w)| *w >= floor), uniform)
}

/// How many of the most likely tokens top-p and min-p keep; `None` if they keep more than are ranked.
fn nucleus(settings: &SamplingSettings, ranked: &[(u32, f32)], weights: &[f32]) -> Option<usize> {
    if settings.top_p >= 1.0 {
        return ranked.iter().position(|(_, w)| *w < ranked[0].1 * settings.min_p);
    }
    // Top-p takes its share of the tokens that top-k kept.
    let total: f64 = match settings.top_k {
        0 => weights.iter().map(|w| f64::from(*w)).sum(),
        _ => ranked.iter().map(|(_, w)| f64::from(*w)).sum(),
    };
    let mut sum = 0.0;
    let enough = ranked.iter().position(|(_, w)| {
        sum += f64::from(*w) / total;
        sum >= f64::from(settings.top_p)
    })?;
    Some(enough + 1)
}

/// The `count` most likely tokens in order; among equals the lower id first.
fn likeliest(mut tokens: Vec<(u32, f32)>, count: usize) -> Vec<(u32, f32)> {
    let order = |a: &(u32, f32), b: &(u32, f32)| -> Ordering { b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)) };
    if count < tokens.len() {
        tokens.select_nth_unstable_by(count, order);
        tokens.truncate(count);
    }
    tokens.sort_unstable_by(order);
    tokens
}

/// The `count` most likely tokens with their logits, in order.
pub fn likeliest_of(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    match count {
        0 => Vec::new(),
        1 => {
            let best = argmax(logits);
            vec![(best, logits[best as usize])]
        }
        _ => likeliest(logits.iter().enumerate().map(|(i, x)| (i as u32, *x)).collect(), count),
    }
}

/// The index of the largest element; the first among equals.
fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, x) in logits.iter().enumerate() {
        if *x > logits[best] {
            best = i;
        }
    }
    best as u32
}

/// Samples among weighted tokens by inverse CDF, in their order.
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

    fn all() -> SamplingSettings {
        SamplingSettings::of_length(1)
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        assert_eq!(choose(&SamplingSettings::greedy(1), &LOGITS, 0.9), 1);
        let nearly = SamplingSettings { temperature: 1e-40, ..all() };
        assert_eq!(choose(&nearly, &LOGITS, 0.9), 1);
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let sampling = SamplingSettings { temperature: 1.3, ..all() };
        let draws = Draws::new(5, "frequencies");
        let mut counts = [0_u32; 5];
        for i in 0..40_000 {
            counts[choose(&sampling, &LOGITS, draws.uniform(i)) as usize] += 1;
        }
        let weights: Vec<f64> = LOGITS.iter().map(|x| (f64::from(*x) / 1.3).exp()).collect();
        for i in 0..5 {
            let expected = weights[i] / weights.iter().sum::<f64>();
            assert!((f64::from(counts[i]) / 40_000.0 - expected).abs() < 0.01, "token {i}");
        }
    }

    #[test]
    fn filters_keep_what_they_say() {
        let reachable = |sampling: SamplingSettings| -> Vec<u32> {
            let mut seen: Vec<u32> =
                (0..1000).map(|i| choose(&sampling, &LOGITS, f64::from(i) / 1000.0)).collect();
            seen.sort_unstable();
            seen.dedup();
            seen
        };
        assert_eq!(reachable(SamplingSettings { top_k: 2, ..all() }), [1, 4]);
        assert_eq!(reachable(SamplingSettings { top_p: 0.5, ..all() }), [1, 4]);
        assert_eq!(reachable(SamplingSettings { min_p: 0.3, ..all() }), [1, 3, 4]);
        assert_eq!(reachable(all()), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn ranking_as_much_as_needed_is_ranking_everything() {
        let draws = Draws::new(9, "flat");
        // Nearly flat, so that the nucleus goes far beyond the tokens ranked first.
        let logits: Vec<f32> = (0..5000).map(|i| draws.uniform(i) as f32 * 0.3).collect();
        let mut ranked: Vec<u32> = (0..5000).collect();
        ranked.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
        let weight = |token: &u32| f64::from(logits[*token as usize]).exp();
        for (sampling, last) in [
            (SamplingSettings { top_p: 0.01, ..all() }, None),
            (SamplingSettings { top_p: 0.6, ..all() }, None),
            (SamplingSettings { top_k: 700, ..all() }, Some(699)),
            (SamplingSettings { min_p: 0.9, ..all() }, None),
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
            let got = choose(&sampling, &logits, 1.0 - 1e-12);
            assert_eq!(got, ranked[last], "{sampling:?}");
        }
    }
}
