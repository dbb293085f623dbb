//! A packed batch: a flat token axis cut into segments, each attending to itself and its ancestors.
//!
//! Nothing is padded, sequences never see each other, and what two sequences share (a pair's prompt, a critique's
//! preamble) is one segment with two children, computed once.

use crate::backend::Span;

/// Tokens on a flat axis, with the tree they form.
#[derive(Clone, Debug, Default)]
pub struct PackedBatch {
    /// Token ids, `[tokens]`.
    pub tokens: Vec<u32>,
    /// Each token's position on its path, `[tokens]`.
    pub positions: Vec<u32>,
    /// The segments. A child comes after its parent, and a tree's segments are contiguous.
    pub spans: Vec<Span>,
}

/// Rows whose next token is scored: hidden state `rows[i]` predicts `targets[i]`.
#[derive(Clone, Debug, Default)]
pub struct Scored {
    /// Rows of the pack.
    pub rows: Vec<u32>,
    /// The token each predicts.
    pub targets: Vec<u32>,
}

impl Scored {
    /// Number of scored tokens.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing is scored.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl PackedBatch {
    /// Starts a new tree with this segment and returns its number.
    pub fn push_root(&mut self, tokens: &[u32]) -> usize {
        let tree = self.spans.last().map_or(0, |span| span.tree + 1);
        self.push(tokens, None, 0, tree)
    }

    /// Continues segment `parent`, which must belong to the last tree.
    pub fn push_child(&mut self, parent: usize, tokens: &[u32]) -> usize {
        let above = self.spans[parent];
        assert_eq!(Some(above.tree), self.spans.last().map(|s| s.tree), "trees are contiguous");
        self.push(tokens, Some(parent), above.prefix + above.len, above.tree)
    }

    fn push(&mut self, tokens: &[u32], parent: Option<usize>, prefix: usize, tree: usize) -> usize {
        self.spans.push(Span { start: self.tokens.len(), len: tokens.len(), parent, prefix, tree });
        self.tokens.extend_from_slice(tokens);
        self.positions.extend((prefix..prefix + tokens.len()).map(|p| p as u32));
        self.spans.len() - 1
    }

    /// Scores every token of a child segment: the first is predicted by its parent's last token.
    pub fn score_child(&self, child: usize, scored: &mut Scored) {
        let span = self.spans[child];
        let above = self.spans[span.parent.expect("a child segment")];
        for i in 0..span.len {
            let row = if i == 0 { above.start + above.len - 1 } else { span.start + i - 1 };
            scored.rows.push(row as u32);
            scored.targets.push(self.tokens[span.start + i]);
        }
    }

    /// Scores those tokens of a root segment whose `mask` is set; the first token has nothing before it.
    pub fn score_masked(&self, root: usize, mask: &[bool], scored: &mut Scored) {
        let span = self.spans[root];
        for i in (1..span.len).filter(|i| mask[*i]) {
            scored.rows.push((span.start + i - 1) as u32);
            scored.targets.push(self.tokens[span.start + i]);
        }
    }

    /// The row of a segment's last token.
    pub fn last_row(&self, segment: usize) -> u32 {
        (self.spans[segment].start + self.spans[segment].len - 1) as u32
    }

    /// Tokens in the pack.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether the pack is empty.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_shares_its_prompt_and_scores_its_answers() {
        let mut batch = PackedBatch::default();
        batch.push_root(&[9]);
        let prompt = batch.push_root(&[1, 2, 3]);
        let chosen = batch.push_child(prompt, &[4, 5]);
        let rejected = batch.push_child(prompt, &[6]);
        assert_eq!(batch.positions, [0, 0, 1, 2, 3, 4, 3]);
        assert_eq!(batch.spans[rejected].tree, 1);
        let mut scored = Scored::default();
        batch.score_child(chosen, &mut scored);
        batch.score_child(rejected, &mut scored);
        assert_eq!((scored.rows, scored.targets), (vec![3, 4, 3], vec![4, 5, 6]));
    }

    #[test]
    fn a_mask_never_scores_the_first_token() {
        let mut batch = PackedBatch::default();
        batch.push_root(&[7, 8, 9]);
        let mut scored = Scored::default();
        batch.score_masked(0, &[true, false, true], &mut scored);
        assert_eq!((scored.rows, scored.targets), (vec![1], vec![9]));
    }
}
