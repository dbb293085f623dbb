//! Keys and values of one head, in the layout the kernel reads.

use crate::exp::LANES;

/// The keys and values of one head over a run of positions: keys in panels of 16 (`[panel][dim][16]`), values in rows
/// padded to whole lanes.
#[derive(Clone)]
pub struct Keys {
    pub(super) dim: usize,
    pub(super) padded: usize,
    len: usize,
    pub(super) panels: Vec<f32>,
    pub(super) rows: Vec<f32>,
}

impl Keys {
    /// Room for `capacity` positions without moving memory.
    pub fn with_capacity(dim: usize, capacity: usize) -> Self {
        let padded = dim.next_multiple_of(LANES);
        Self {
            dim,
            padded,
            len: 0,
            panels: Vec::with_capacity(capacity.next_multiple_of(LANES) * dim),
            rows: Vec::with_capacity(capacity * padded),
        }
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes held for each position.
    pub fn bytes_per_position(dim: usize) -> usize {
        4 * (dim + dim.next_multiple_of(LANES))
    }

    /// Forgets every position, keeping the memory.
    pub fn clear(&mut self) {
        self.len = 0;
        self.panels.clear();
        self.rows.clear();
    }

    /// Appends a position's key and value, `[dim]` each.
    pub fn push(&mut self, key: &[f32], value: &[f32]) {
        let lane = self.len % LANES;
        if lane == 0 {
            self.panels.resize(self.panels.len() + self.dim * LANES, 0.0);
        }
        let at = self.panels.len() - self.dim * LANES;
        for (slot, x) in self.panels[at + lane..].iter_mut().step_by(LANES).zip(key) {
            *slot = *x;
        }
        self.rows.extend_from_slice(value);
        self.rows.resize((self.len + 1) * self.padded, 0.0);
        self.len += 1;
    }
}
