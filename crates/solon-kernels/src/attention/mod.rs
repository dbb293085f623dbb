//! Causal attention over packed segments and over a cache: forward and backward.
//!
//! One kernel serves training and decoding. Its products are those of [`gemm`](crate::gemm)'s tile. A query's scores are
//! written side by side, whatever blocks the keys are stored in. Softmax reads them as one row, and the lane of a key is
//! given by its place in the path. Values are added position by position. So the result of a query depends on its own path
//! alone: not on the queries beside it, not on whether the keys came from a cache, not on threads. This holds for finite
//! values, because what a query does not see is multiplied by zero.
//!
//! Forward, nothing of size T×T is held: scratch is one tile's rows of scores. Backward, scratch is four tiles' rows, and
//! every 512 tokens of a span hold the gradients of their path's keys until they are summed.
//!
//! In bf16, queries, keys, values and weights (before their division by the sum) are rounded like the inputs of products.
//! Sums, scores and softmax are f32.
//!
//! Backward recomputes the probabilities from the saved log-sum (FlashAttention, Dao et al. 2022, §3.1):
//! `dV += Pᵀ dO`, `dP = dO Vᵀ`, `dS = P ∘ (dP − rowsum(dO ∘ O))`, `dQ = dS K`, `dK += dSᵀ Q`.

mod backward;
mod forward;
mod kv_block;

pub use backward::packed_grad;
pub use forward::{CachedPath, cached, packed};
pub use kv_block::KvBlock;

/// Widest head.
pub const MAX_HEAD_DIM: usize = 256;

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

    /// The `row`-th query that reads key head `head`, of tokens from `first` on, of which the first has `prefix` positions
    /// before it: rows run over tokens, then over the head's query heads.
    fn row(self, first: usize, prefix: usize, head: usize, row: usize) -> Row {
        let (token, query_head) = (row / self.group(), head * self.group() + row % self.group());
        Row { place: (first + token) * self.queries + query_head, limit: prefix + token + 1 }
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

/// Checks that the spans cover `tokens` in order, each after its parent, and that the kernels can handle the heads.
///
/// # Panics
/// If they do not.
fn check(heads: Heads, spans: &[Span], tokens: usize) {
    assert!(heads.dim <= MAX_HEAD_DIM, "heads of {} are wider than {MAX_HEAD_DIM}", heads.dim);
    assert!(heads.queries.is_multiple_of(heads.keys), "key heads divide query heads");
    let mut end = 0;
    for (s, span) in spans.iter().enumerate() {
        let prefix = match span.parent {
            Some(parent) => {
                assert!(parent < s, "a span comes after its parent");
                spans[parent].prefix + spans[parent].len
            }
            None => 0,
        };
        assert!(span.start == end && span.prefix == prefix, "span {s} does not go on where it should");
        end += span.len;
    }
    assert_eq!(end, tokens, "spans cover every token");
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
    use crate::gemm::Precision;
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
        packed(HEADS, &spans(), Precision::F32, (q, k, v), &mut out, &mut logsum);
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
        for precision in [Precision::F32, Precision::Bf16] {
            let (mut out, mut logsum) = (vec![0.0; q.len()], vec![0.0; q.len() / HEADS.dim]);
            packed(HEADS, &spans(), precision, (&q, &k, &v), &mut out, &mut logsum);
            // The second answer, its path cut into blocks at even and odd places, its own tokens in the last.
            // A block may hold more than the path sees of it: what another sequence went on with.
            for (cuts, unseen) in [([7, 12], 0), ([8, 11], 1), ([1, 18], 5), ([16, 3], 20), ([18, 1], 1)] {
                let mut tokens = (0..19).chain(24..27);
                let blocks: Vec<Vec<KvBlock>> = [(cuts[0], unseen), (cuts[1], unseen), (3, 0)]
                    .map(|(len, unseen)| {
                        let mut heads = vec![KvBlock::with_capacity(8, precision, len + unseen); 2];
                        for token in tokens.by_ref().take(len).chain(5..5 + unseen) {
                            for (head, keys) in heads.iter_mut().enumerate() {
                                let at = token * 16 + head * 8;
                                keys.push(&k[at..at + 8], &v[at..at + 8]);
                            }
                        }
                        heads
                    })
                    .into();
                let blocks = blocks.iter().zip([cuts[0], cuts[1], 3]).map(|(b, seen)| (&b[..], seen));
                let path = CachedPath { first_row: 0, rows: 3, blocks: blocks.collect() };
                let mut again = vec![0.0; 3 * 32];
                cached(HEADS, &[path], &q[24 * 32..27 * 32], &mut again);
                assert_eq!(again, out[24 * 32..27 * 32], "{precision:?}, cut at {cuts:?}, {unseen} unseen");
            }
        }
    }

    #[test]
    fn bf16_is_close_to_f32_in_both_directions() {
        let (q, k, v) = (numbers(33 * 32, 0.37), numbers(33 * 16, 0.71), numbers(33 * 16, 0.53));
        let dout = numbers(33 * 32, 0.91);
        let all = |precision| {
            let (mut out, mut logsum) = (vec![0.0; q.len()], vec![0.0; q.len() / HEADS.dim]);
            packed(HEADS, &spans(), precision, (&q, &k, &v), &mut out, &mut logsum);
            let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
            let into = (&mut dq[..], &mut dk[..], &mut dv[..]);
            packed_grad(HEADS, &spans(), precision, (&q, &k, &v), &out, &logsum, &dout, into);
            [out, logsum, dq, dk, dv]
        };
        for (exact, rounded) in all(Precision::F32).iter().zip(all(Precision::Bf16)) {
            let largest = exact.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
            for (x, y) in exact.iter().zip(&rounded) {
                assert!((x - y).abs() < 0.02 * largest, "{x} {y}, the largest is {largest}");
            }
        }
    }

    #[test]
    fn gradients_are_finite_differences() {
        let (q, k, v) = (numbers(33 * 32, 0.37), numbers(33 * 16, 0.71), numbers(33 * 16, 0.53));
        let dout = numbers(33 * 32, 0.91);
        let (out, logsum) = forward(&q, &k, &v);
        let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
        packed_grad(
            HEADS,
            &spans(),
            Precision::F32,
            (&q, &k, &v),
            &out,
            &logsum,
            &dout,
            (&mut dq, &mut dk, &mut dv),
        );
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

    #[test]
    fn gradients_are_the_references() {
        let (q, k, v) = (numbers(33 * 32, 0.37), numbers(33 * 16, 0.71), numbers(33 * 16, 0.53));
        let dout = numbers(33 * 32, 0.91);
        let (out, logsum) = forward(&q, &k, &v);
        let zeros = || [vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]];
        let ([mut dq, mut dk, mut dv], [mut dq1, mut dk1, mut dv1]) = (zeros(), zeros());
        let into = (&mut dq[..], &mut dk[..], &mut dv[..]);
        packed_grad(HEADS, &spans(), Precision::F32, (&q, &k, &v), &out, &logsum, &dout, into);
        let spans = spans();
        for (s, span) in spans.iter().enumerate() {
            let tokens: Vec<usize> = path_tokens(&spans, s).collect();
            for (t, head) in (0..span.len).flat_map(|t| (0..4).map(move |head| (t, head))) {
                let own = (span.start + t) * 32 + head * 8..(span.start + t) * 32 + head * 8 + 8;
                for token in &tokens[..span.prefix + t + 1] {
                    let seen = token * 16 + head / 2 * 8..token * 16 + head / 2 * 8 + 8;
                    reference::attend_one_grad(
                        (&q[own.clone()], &k[seen.clone()], &v[seen.clone()]),
                        HEADS.scale(),
                        (&out[own.clone()], logsum[(span.start + t) * 4 + head], &dout[own.clone()]),
                        (&mut dq1[own.clone()], &mut dk1[seen.clone()], &mut dv1[seen]),
                    );
                }
            }
        }
        for (got, expected) in [(dq, dq1), (dk, dk1), (dv, dv1)] {
            for (i, (x, y)) in got.iter().zip(&expected).enumerate() {
                assert!((x - y).abs() < 1e-5, "{i}: {x} {y}");
            }
        }
    }
}
