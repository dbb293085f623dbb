//! BLEU of one text against one reference, from 0 to 100, as sacrebleu 2.6 computes it with `tokenize="intl"`,
//! `smooth_method="exp"` and no effective order. lm-evaluation-harness calls it so for TruthfulQA.
//!
//! Contract: a pure function of two texts. A text of fewer than four tokens has BLEU 0, because it has no 4-gram.
//! Source: Papineni et al. 2002; sacrebleu, `tokenizers/tokenizer_intl.py` and `metrics/bleu.py`.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

/// The longest n-grams that count.
const ORDER: usize = 4;

/// Tokens: punctuation is apart unless it stands between digits, and so is every symbol.
fn tokens(text: &str) -> Vec<String> {
    static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        let rules = [(r"(\P{N})(\p{P})", "$1 $2 "), (r"(\p{P})(\P{N})", " $1 $2"), (r"(\p{S})", " $1 ")];
        rules.into_iter().filter_map(|(pattern, with)| Some((Regex::new(pattern).ok()?, with))).collect()
    });
    let mut text = text.trim_end().to_owned();
    for (pattern, with) in RULES.iter() {
        text = pattern.replace_all(&text, *with).into_owned();
    }
    text.split_whitespace().map(str::to_owned).collect()
}

fn counts(tokens: &[String], n: usize) -> HashMap<&[String], usize> {
    let mut counts = HashMap::new();
    for gram in tokens.windows(n) {
        *counts.entry(gram).or_default() += 1;
    }
    counts
}

/// BLEU of a text against a reference.
pub(crate) fn bleu(text: &str, reference: &str) -> f64 {
    let (text, reference) = (tokens(text), tokens(reference));
    let mut correct = [0; ORDER];
    for (place, correct) in correct.iter_mut().enumerate() {
        let wanted = counts(&reference, place + 1);
        let found = counts(&text, place + 1);
        *correct =
            found.iter().map(|(gram, count)| wanted.get(gram).map_or(0, |most| *count.min(most))).sum();
    }
    if correct.iter().all(|correct| *correct == 0) || text.len() < ORDER {
        return 0.0;
    }
    // A precision of 0 becomes half of what one match would give, the next one a quarter, and so on.
    let mut halved = 1.0;
    let mut sum = 0.0;
    for (place, correct) in correct.into_iter().enumerate() {
        let total = (text.len() - place) as f64;
        let precision = if correct == 0 {
            halved *= 2.0;
            100.0 / (halved * total)
        } else {
            100.0 * correct as f64 / total
        };
        sum += precision.ln();
    }
    let short = reference.len() as f64 / text.len() as f64;
    let penalty = if text.len() < reference.len() { (1.0 - short).exp() } else { 1.0 };
    penalty * (sum / ORDER as f64).exp()
}
