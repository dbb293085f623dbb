//! Random draws keyed by (seed, stage, item, index): a draw is a function of its key, so neither the order of work, nor
//! batching, nor a resumed run changes it.
//!
//! The mixing is that of `solon-kernels::random`, bit for bit (`below(n)` here is `below(0, n)` there), restated because
//! this crate does not otherwise need the kernels. Source: SplitMix64's finaliser, Steele et al. 2014.

/// A point in the tree of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draws(u64);

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A bijection whose every output bit depends on every input bit.
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
        Draws(mix(seed.wrapping_add(GOLDEN))).item(stage)
    }

    /// The key of a named thing below this one.
    pub fn item(self, id: &str) -> Self {
        let mut state = mix(self.0 ^ 0x51_7c_c1_b7_27_22_0a_95 ^ id.len() as u64);
        for chunk in id.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            state = mix(state.wrapping_add(GOLDEN) ^ u64::from_le_bytes(word));
        }
        Draws(state)
    }

    /// The key of a numbered thing below this one.
    pub fn index(self, index: u64) -> Self {
        Draws(mix(self.0.wrapping_add(mix(index.wrapping_add(GOLDEN)))))
    }

    /// 64 random bits.
    pub fn bits(self) -> u64 {
        self.index(0).0
    }

    /// Uniform in [0, 1), with 53 random bits.
    pub fn uniform(self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in `0..n`; 0 where `n` is 0. The bias is below n / 2^64.
    pub fn below(self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_those_of_solon_kernels() {
        let draws = Draws::new(7, "revise").item("prompt-1");
        assert_eq!(draws.bits(), 0xb87d_931a_f7de_e4b7);
        assert_eq!(draws.index(2).bits(), 0xb3a8_b9fd_44aa_1198);
        assert_eq!(draws.below(1000), 720);
        assert_eq!(draws.uniform(), 0.720_666_116_794_628_2);
    }

    #[test]
    fn every_part_of_the_key_counts_and_values_spread_evenly() {
        let base = Draws::new(1, "label").item("a");
        for other in [
            Draws::new(2, "label").item("a"),
            Draws::new(1, "revise").item("a"),
            Draws::new(1, "label").item("b"),
            base.index(1),
        ] {
            assert_ne!(base.bits(), other.bits());
        }
        let mut counts = [0_usize; 6];
        for i in 0..6000 {
            counts[base.index(i).below(6)] += 1;
        }
        assert!(counts.iter().all(|&count| (900..1100).contains(&count)), "{counts:?}");
    }
}
