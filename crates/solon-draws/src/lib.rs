//! Random draws keyed by (seed, stage, item, position). There is no generator with a state. A draw is a function of its
//! key, so the order of work, batching and resuming do not change it.

/// A key in a tree of keys: (seed, stage), then items and indices below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draws(u64);

/// SplitMix64's finaliser (Steele et al. 2014): a bijection whose every output bit depends on every input bit.
fn mix(mut x: u64) -> u64 {
    x ^= x >> 30;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 27;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Draws {
    /// The root key of a run's stage.
    pub fn new(seed: u64, stage: &str) -> Self {
        Draws(mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15))).item(stage)
    }

    /// The child key with this name.
    pub fn item(self, id: &str) -> Self {
        let mut state = mix(self.0 ^ 0x51_7c_c1_b7_27_22_0a_95 ^ id.len() as u64);
        for chunk in id.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            state = mix(state.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ u64::from_le_bytes(word));
        }
        Draws(state)
    }

    /// The child key with this number.
    pub fn index(self, index: u64) -> Self {
        Draws(mix(self.0.wrapping_add(mix(index.wrapping_add(0x9e37_79b9_7f4a_7c15)))))
    }

    /// 64 random bits at a position.
    pub fn bits(self, position: u64) -> u64 {
        self.index(position).0
    }

    /// Uniform in [0, 1), with 53 random bits.
    pub fn uniform(self, position: u64) -> f64 {
        (self.bits(position) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in `0..n`; `n` must not be zero. The bias is below n / 2^64.
    pub fn below(self, position: u64, n: usize) -> usize {
        ((u128::from(self.bits(position)) * n as u128) >> 64) as usize
    }

    /// A standard normal draw (Box–Muller over two uniforms of the same position).
    pub fn normal(self, position: u64) -> f64 {
        let key = self.index(position);
        let radius = (-2.0 * (1.0 - key.uniform(0)).ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * key.uniform(1)).cos()
    }

    /// A permutation of `0..n` (Fisher–Yates).
    pub fn permutation(self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i as u64, i + 1));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_depend_on_every_part_of_the_key() {
        let base = Draws::new(1, "sample").item("a").bits(0);
        assert_ne!(base, Draws::new(2, "sample").item("a").bits(0));
        assert_ne!(base, Draws::new(1, "label").item("a").bits(0));
        assert_ne!(base, Draws::new(1, "sample").item("b").bits(0));
        assert_ne!(base, Draws::new(1, "sample").item("a").bits(1));
        assert_eq!(base, Draws::new(1, "sample").item("a").bits(0));
    }

    #[test]
    fn the_bits_never_change() {
        let draws = Draws::new(7, "revise").item("prompt-1");
        assert_eq!(draws.bits(0), 0xb87d_931a_f7de_e4b7);
        assert_eq!(draws.index(2).bits(0), 0xb3a8_b9fd_44aa_1198);
        assert_eq!(draws.below(0, 1000), 720);
        assert_eq!(draws.uniform(0), 0.720_666_116_794_628_2);
    }

    #[test]
    fn uniforms_and_normals_have_their_moments() {
        let draws = Draws::new(7, "moments");
        let n = 100_000;
        let mean: f64 = (0..n).map(|i| draws.uniform(i)).sum::<f64>() / n as f64;
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
        let (mut sum, mut squares) = (0.0, 0.0);
        for i in 0..n {
            let x = draws.normal(i);
            sum += x;
            squares += x * x;
        }
        assert!((sum / n as f64).abs() < 0.02 && (squares / n as f64 - 1.0).abs() < 0.02);
    }

    #[test]
    fn a_permutation_holds_every_index_once() {
        let mut order = Draws::new(3, "shuffle").permutation(101);
        assert_ne!(order, (0..101).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..101).collect::<Vec<_>>());
    }
}
