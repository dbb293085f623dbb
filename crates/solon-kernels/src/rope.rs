//! Rotary position embeddings (Su et al. 2021), in the half-split pairing of the Hugging Face models: element `i` turns
//! with element `i + head_dim/2`.

use std::sync::OnceLock;

use crate::parallel::for_rows;

/// Positions whose angles are computed together.
const BLOCK: usize = 256;

/// Cosines and sines of every position's angles, times the attention factor.
///
/// A block of positions is computed when the first of them is turned: models say that they read millions of tokens, and most prompts
/// have hundreds.
#[derive(Clone)]
pub struct RopeTable {
    frequencies: Vec<f32>,
    attention_factor: f32,
    blocks: Vec<OnceLock<Block>>,
}

/// `[BLOCK, head_dim/2]` each.
#[derive(Clone)]
struct Block {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

/// Which way to turn: the gradient turns back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// As the model does.
    Forward,
    /// The transpose: the inverse rotation, times the same attention factor.
    Back,
}

impl RopeTable {
    /// For positions below `positions`. Every element becomes `attention_factor` times as long; it is 1 but for scalings that sharpen
    /// attention.
    pub fn new(frequencies: &[f32], attention_factor: f32, positions: usize) -> Self {
        let blocks = (0..positions.div_ceil(BLOCK)).map(|_| OnceLock::new()).collect();
        Self { frequencies: frequencies.to_vec(), attention_factor, blocks }
    }

    /// Cosines and sines of the position's angles, `[head_dim/2]` each.
    fn of(&self, position: usize) -> (&[f32], &[f32]) {
        let (block, half) = (position / BLOCK, self.frequencies.len());
        let values = self.blocks[block]
            .get_or_init(|| Block::new(&self.frequencies, self.attention_factor, block * BLOCK));
        let at = position % BLOCK * half;
        (&values.cos[at..at + half], &values.sin[at..at + half])
    }
}

impl Block {
    /// Angles `position * frequency`, computed in f32 as transformers does.
    fn new(frequencies: &[f32], attention_factor: f32, start: usize) -> Self {
        let of_position = |position| frequencies.iter().map(move |frequency| position as f32 * frequency);
        let angles = (start..start + BLOCK).flat_map(of_position).map(f64::from);
        let (sin, cos) = angles
            .map(|angle| (angle.sin() as f32 * attention_factor, angle.cos() as f32 * attention_factor))
            .unzip();
        Self { cos, sin }
    }
}

/// Turns each head of each row of `x` (`[rows, heads * head_dim]`) by its row's position.
pub fn rope(x: &mut [f32], width: usize, table: &RopeTable, positions: &[u32], turn: Turn) {
    assert_eq!(x.len(), width * positions.len());
    let half = table.frequencies.len();
    let sign = if turn == Turn::Forward { 1.0 } else { -1.0 };
    for_rows(x, width, |first, rows| {
        for (row, position) in rows.chunks_exact_mut(width).zip(&positions[first..]) {
            let (cos, sin) = table.of(*position as usize);
            for head in row.chunks_exact_mut(2 * half) {
                let (low, high) = head.split_at_mut(half);
                for i in 0..half {
                    let (a, b, s) = (low[i], high[i], sign * sin[i]);
                    low[i] = a * cos[i] - b * s;
                    high[i] = b * cos[i] + a * s;
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    #[test]
    fn back_undoes_forward_and_position_zero_is_still() {
        let table = RopeTable::new(&[1.0, 0.1, 0.01], 1.0, 50);
        let start: Vec<f32> = (0..24).map(|i| i as f32).collect();
        let mut x = start.clone();
        rope(&mut x, 12, &table, &[0, 37], Turn::Forward);
        assert_eq!(x[..12], start[..12]);
        assert_ne!(x[12..], start[12..]);
        rope(&mut x, 12, &table, &[0, 37], Turn::Back);
        for (a, b) in x.iter().zip(&start) {
            assert!((a - b).abs() < 1e-5);
        }
    }

    #[test]
    fn a_quarter_turn_moves_low_to_high() {
        let table = RopeTable::new(&[std::f32::consts::FRAC_PI_2], 1.0, 2);
        let mut x = vec![1.0, 0.0];
        rope(&mut x, 2, &table, &[1], Turn::Forward);
        assert!(x[0].abs() < 1e-6 && (x[1] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn both_turns_are_the_references() {
        let frequencies: Vec<f32> = (0..32).map(|i| 1e4_f32.powf(-(i as f32) / 32.0)).collect();
        let (width, rows) = (3 * 64, 200);
        let positions: Vec<u32> = (0..rows).map(|row| row * 37 % 2048).collect();
        let start: Vec<f32> = (0..rows as usize * width).map(|i| (i as f32 * 0.37).sin()).collect();
        for (turn, factor) in
            [(Turn::Forward, 1.0), (Turn::Back, 1.0), (Turn::Forward, 1.25), (Turn::Back, 0.5)]
        {
            let table = RopeTable::new(&frequencies, factor, 2048);
            let (mut x, mut expected) = (start.clone(), start.clone());
            rope(&mut x, width, &table, &positions, turn);
            reference::rope(&mut expected, width, &frequencies, factor, &positions, turn);
            for (i, (x, y)) in x.iter().zip(&expected).enumerate() {
                assert!((x - y).abs() < 1e-6, "{turn:?} {i}: {x} {y}");
            }
        }
    }

    /// A model's file may claim any number of positions.
    #[test]
    fn only_what_is_turned_is_computed() {
        let table = RopeTable::new(&[0.5; 128], 1.0, 1 << 24);
        let mut x = vec![1.0; 2 * 256];
        rope(&mut x, 256, &table, &[3, (1 << 24) - 1], Turn::Forward);
        assert_eq!(table.blocks.iter().filter(|block| block.get().is_some()).count(), 2);
    }
}
