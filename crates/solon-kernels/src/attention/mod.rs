//! Causal attention over packed segments and over a cache: forward and backward.
//!
//! One kernel serves training and decoding. A query's scores over its path are written side by side, whatever blocks the
//! keys are stored in; softmax reads them as one row, with lanes chosen by the key's place in the path; values are added
//! key by key. So a query's result depends on its own path alone: not on the block it was batched in, not on whether the
//! keys came from a cache, not on threads. Nothing of size T×T is ever held: scratch is eight rows of scores.
//!
//! Backward recomputes the probabilities from the saved log-sum (FlashAttention, Dao et al. 2022, §3.1):
//! `dV += Pᵀ dO`, `dP = dO Vᵀ`, `dS = P ∘ (dP − rowsum(dO ∘ O))`, `dQ = dS K`, `dK += dSᵀ Q`.

mod backward;
mod forward;
mod keys;

pub use backward::packed_grad;
pub use forward::{attend, packed};
pub use keys::Keys;

/// Query rows handled together, so that a key is loaded once for eight of them.
const ROWS: usize = 8;

/// The numbers of an attention layer.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Query heads.
    pub queries: usize,
    /// Key/value heads; divides `queries`.
    pub keys: usize,
    /// Width of a head.
    pub dim: usize,
}

impl Heads {
    fn group(self) -> usize {
        self.queries / self.keys
    }

    fn scale(self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }

    /// The `row`-th query of a span that reads key head `head`: rows run over tokens, then over the head's query heads.
    fn row(self, span: &Span, head: usize, row: usize) -> Row {
        let (token, query_head) = (row / self.group(), head * self.group() + row % self.group());
        let place = (span.start + token) * self.queries + query_head;
        Row { place, limit: span.prefix + token + 1 }
    }
}

/// One query of one token.
#[derive(Clone, Copy, Default)]
struct Row {
    /// Its place in `[tokens, heads.queries]`; times `dim`, where its vector begins.
    place: usize,
    /// Positions of its path that it sees.
    limit: usize,
}

/// A run of packed tokens that attends to itself and to its ancestors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First token in the pack.
    pub start: usize,
    /// Tokens.
    pub len: usize,
    /// An earlier span that this one continues.
    pub parent: Option<usize>,
    /// Tokens on the path before this span.
    pub prefix: usize,
}

/// The spans of the path to and including `span`, root first.
fn path(spans: &[Span], span: usize) -> Vec<usize> {
    let mut path = vec![span];
    while let Some(parent) = spans[path[path.len() - 1]].parent {
        path.push(parent);
    }
    path.reverse();
    path
}

/// Token indices along the path to and including `span`.
fn path_tokens(spans: &[Span], span: usize) -> impl Iterator<Item = usize> {
    path(spans, span).into_iter().flat_map(|s| spans[s].start..spans[s].start + spans[s].len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    const HEADS: Heads = Heads { queries: 4, keys: 2, dim: 8 };

    fn numbers(n: usize, a: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * a + a).sin()).collect()
    }

    /// A shared prompt of 19 with two answers, then a sequence by itself.
    fn spans() -> Vec<Span> {
        vec![
            Span { start: 0, len: 19, parent: None, prefix: 0 },
            Span { start: 19, len: 5, parent: Some(0), prefix: 19 },
            Span { start: 24, len: 3, parent: Some(0), prefix: 19 },
            Span { start: 27, len: 6, parent: None, prefix: 0 },
        ]
    }

    fn forward(q: &[f32], k: &[f32], v: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (mut out, mut logsum) = (vec![0.0; q.len()], vec![0.0; q.len() / HEADS.dim]);
        packed(HEADS, &spans(), q, k, v, &mut out, &mut logsum);
        (out, logsum)
    }

    #[test]
    fn packed_equals_the_reference_on_each_path() {
        let (q, k, v) = (numbers(33 * 32, 0.37), numbers(33 * 16, 0.71), numbers(33 * 16, 0.53));
        let (out, logsum) = forward(&q, &k, &v);
        let spans = spans();
        for (s, span) in spans.iter().enumerate() {
            let tokens: Vec<usize> = path_tokens(&spans, s).collect();
            for t in 0..span.len {
                for head in 0..4 {
                    let seen = &tokens[..span.prefix + t + 1];
                    let of = |x: &[f32]| -> Vec<f32> {
                        seen.iter().flat_map(|token| x[token * 16 + head / 2 * 8..][..8].to_vec()).collect()
                    };
                    let at = (span.start + t) * 32 + head * 8;
                    let (expected, sum) =
                        reference::attend_one(&q[at..at + 8], &of(&k), &of(&v), HEADS.scale());
                    for i in 0..8 {
                        assert!((out[at + i] - expected[i]).abs() < 1e-5, "span {s} token {t} head {head}");
                    }
                    assert!((logsum[(span.start + t) * 4 + head] - sum).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn cached_blocks_give_the_same_bits_as_the_pack() {
        let (q, k, v) = (numbers(33 * 32, 0.37), numbers(33 * 16, 0.71), numbers(33 * 16, 0.53));
        let (out, _) = forward(&q, &k, &v);
        // The second answer's last token, with the prompt in blocks of 7 and 12 and the answer in its own block.
        let mut blocks = [Keys::with_capacity(8, 7), Keys::with_capacity(8, 12), Keys::with_capacity(8, 3)];
        for token in (0..19).chain(24..27) {
            let block = if token < 7 {
                0
            } else if token < 19 {
                1
            } else {
                2
            };
            blocks[block].push(&k[token * 16 + 8..][..8], &v[token * 16 + 8..][..8]);
        }
        let path: Vec<(&Keys, usize)> = blocks.iter().map(|b| (b, b.len())).collect();
        let query = &q[26 * 32 + 3 * 8..][..8];
        let (mut one, mut sum) = (vec![0.0; 8], [0.0]);
        attend(&[query], &[22], &path, HEADS.scale(), &mut Vec::new(), &mut one, &mut sum);
        assert_eq!(one, out[26 * 32 + 3 * 8..][..8]);
    }

    #[test]
    fn gradients_are_finite_differences() {
        let (q, k, v) = (numbers(33 * 32, 0.37), numbers(33 * 16, 0.71), numbers(33 * 16, 0.53));
        let dout = numbers(33 * 32, 0.91);
        let (out, logsum) = forward(&q, &k, &v);
        let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
        packed_grad(HEADS, &spans(), (&q, &k, &v), &out, &logsum, &dout, (&mut dq, &mut dk, &mut dv));
        let value = |q: &[f32], k: &[f32], v: &[f32]| -> f64 {
            forward(q, k, v).0.iter().zip(&dout).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let eps = 1e-2_f32;
        for i in (0..q.len()).step_by(7) {
            let (mut up, mut down) = (q.clone(), q.clone());
            up[i] += eps;
            down[i] -= eps;
            let numeric = (value(&up, &k, &v) - value(&down, &k, &v)) / (2.0 * f64::from(eps));
            assert!((numeric - f64::from(dq[i])).abs() < 2e-3, "q {i}: {numeric} {}", dq[i]);
        }
        // Keys and values alike: `side` says which of the two is nudged.
        for (side, gradient) in [&dk, &dv].into_iter().enumerate() {
            for i in (0..k.len()).step_by(5) {
                let nudged = |by: f32| {
                    let mut both = [k.clone(), v.clone()];
                    both[side][i] += by;
                    value(&q, &both[0], &both[1])
                };
                let numeric = (nudged(eps) - nudged(-eps)) / (2.0 * f64::from(eps));
                let exact = gradient[i];
                assert!((numeric - f64::from(exact)).abs() < 2e-3, "{side} {i}: {numeric} {exact}");
            }
        }
    }
}
