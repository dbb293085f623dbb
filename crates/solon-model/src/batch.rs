//! A packed batch: a flat token axis cut into segments, each attending to itself and its ancestors.
//!
//! Nothing is padded, and sequences never see each other. A shared prefix (a system turn, a pair's prompt, a critique's
//! preamble) is one segment with several children. It is computed once forward and once backward.

use crate::backend::Span;

/// Tokens on a flat axis, with the forest they form.
#[derive(Clone, Debug, Default)]
pub struct PackedBatch {
    /// Token ids, `[tokens]`.
    pub tokens: Vec<u32>,
    /// Each token's position on its path, `[tokens]`.
    pub positions: Vec<u32>,
    /// The segments. A child comes after its parent.
    pub spans: Vec<Span>,
}

/// Rows whose next token is scored: hidden state `rows[i]` predicts `targets[i]`.
#[derive(Clone, Debug, Default)]
pub struct Scored {
    /// Rows of the pack. A row occurs several times where several sequences share it.
    pub rows: Vec<u32>,
    /// The token each predicts.
    pub targets: Vec<u32>,
}

impl Scored {
    /// Scores token `at` of a sequence, given the sequence and the rows that [`PackedBatch::of`] gave it.
    ///
    /// # Panics
    /// If `at` is 0: nothing predicts a first token.
    pub fn push(&mut self, sequence: &[u32], rows: &[u32], at: usize) {
        assert!(at > 0, "a first token has nothing before it");
        self.rows.push(rows[at - 1]);
        self.targets.push(sequence[at]);
    }

    /// Number of scored tokens.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing is scored.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// A shared prefix shorter than this is not worth a segment of its own.
const MIN_SHARED: usize = 16;

impl PackedBatch {
    /// Packs sequences so that each shared prefix is there once. Also returns the rows of each sequence, token by token.
    pub fn of<T: AsRef<[u32]>>(sequences: &[T]) -> (Self, Vec<Vec<u32>>) {
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_by_key(|i| sequences[*i].as_ref());
        let sorted: Vec<&[u32]> = order.iter().map(|i| sequences[*i].as_ref()).collect();
        let mut pack = Self::default();
        let mut leaves = Vec::with_capacity(sorted.len());
        pack.push_shared(&sorted, 0, None, &mut leaves);
        let mut rows = vec![Vec::new(); sequences.len()];
        for (i, leaf) in order.into_iter().zip(leaves) {
            rows[i] = leaf.map_or_else(Vec::new, |leaf| pack.rows(leaf));
        }
        (pack, rows)
    }

    /// Packs sorted sequences that agree up to `depth`, where `parent` ends; `leaves` gets each one's last segment.
    fn push_shared(
        &mut self,
        sorted: &[&[u32]],
        depth: usize,
        parent: Option<usize>,
        leaves: &mut Vec<Option<usize>>,
    ) {
        for alike in sorted.chunk_by(|a, b| shared_prefix(a, b) >= depth + MIN_SHARED) {
            let shared = shared_prefix(alike[0], alike[alike.len() - 1]);
            let segment = match shared == depth {
                true => parent,
                false => Some(self.push(&alike[0][depth..shared], parent)),
            };
            match alike {
                [_] => leaves.push(segment),
                _ => self.push_shared(alike, shared, segment, leaves),
            }
        }
    }

    /// Appends a segment that continues `parent`, or begins at position 0, and returns its number.
    pub fn push(&mut self, tokens: &[u32], parent: Option<usize>) -> usize {
        let prefix = parent.map_or(0, |parent| self.spans[parent].prefix + self.spans[parent].len);
        self.spans.push(Span { start: self.tokens.len(), len: tokens.len(), parent, prefix });
        self.tokens.extend_from_slice(tokens);
        self.positions.extend((prefix..prefix + tokens.len()).map(|p| p as u32));
        self.spans.len() - 1
    }

    /// The rows of the path to and including a segment, by position.
    pub fn rows(&self, segment: usize) -> Vec<u32> {
        let Span { start, len, parent, .. } = self.spans[segment];
        let mut rows = parent.map_or_else(Vec::new, |parent| self.rows(parent));
        rows.extend(start as u32..(start + len) as u32);
        rows
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

/// Answers after their prompts, packed, with every token of the answers scored.
#[derive(Clone, Debug, Default)]
pub struct AnswerPack {
    /// The pack.
    pub pack: PackedBatch,
    /// The answers' tokens, answer by answer.
    pub scored: Scored,
    /// Tokens of each answer.
    pub lengths: Vec<usize>,
    /// The row of each answer's last token, or of its prompt's where the answer is empty.
    pub last: Vec<u32>,
}

impl AnswerPack {
    /// Packs `(prompt, answer)`s.
    ///
    /// # Panics
    /// If a prompt is empty: nothing would predict its answer.
    pub fn of<'a>(answers: impl IntoIterator<Item = (&'a [u32], &'a [u32])>) -> Self {
        let (sequences, lengths): (Vec<Vec<u32>>, Vec<usize>) =
            answers.into_iter().map(|(prompt, answer)| ([prompt, answer].concat(), answer.len())).unzip();
        let (pack, rows) = PackedBatch::of(&sequences);
        let (mut scored, mut last) = (Scored::default(), Vec::with_capacity(rows.len()));
        for ((sequence, rows), length) in sequences.iter().zip(&rows).zip(&lengths) {
            for at in sequence.len() - length..sequence.len() {
                scored.push(sequence, rows, at);
            }
            last.push(rows[rows.len() - 1]);
        }
        Self { pack, scored, lengths, last }
    }
}

/// Length of the shared prefix of two sequences.
fn shared_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_prefix_is_packed_once() {
        let system: Vec<u32> = (100..120).collect();
        let prompt: Vec<u32> = (200..216).collect();
        let sequences: Vec<Vec<u32>> = vec![
            [&system[..], &prompt, &[4, 5]].concat(),
            [&system[..], &[9]].concat(),
            vec![7, 8],
            [&system[..], &prompt, &[6]].concat(),
            [&system[..], &prompt].concat(),
        ];
        let (pack, rows) = PackedBatch::of(&sequences);
        assert_eq!(pack.len(), 20 + 16 + 2 + 1 + 1 + 2);
        for (sequence, rows) in sequences.iter().zip(&rows) {
            let tokens: Vec<u32> = rows.iter().map(|row| pack.tokens[*row as usize]).collect();
            let positions: Vec<u32> = rows.iter().map(|row| pack.positions[*row as usize]).collect();
            assert_eq!(&tokens, sequence);
            assert_eq!(positions, (0..sequence.len() as u32).collect::<Vec<_>>());
        }
        assert_eq!(rows[0][..36], rows[3][..36]);
        assert_eq!(rows[0][..36], rows[4][..]);
        for (i, span) in pack.spans.iter().enumerate() {
            assert!(span.parent.is_none_or(|parent| parent < i), "a child comes after its parent");
        }
    }

    #[test]
    fn equal_empty_and_barely_alike_sequences_keep_their_rows() {
        let sequences = [vec![1, 2, 3], vec![], vec![1, 2, 3], vec![1, 2, 4]];
        let (pack, rows) = PackedBatch::of(&sequences);
        assert_eq!(pack.len(), 9, "three tokens alike are not worth a segment");
        let lengths: Vec<usize> = rows.iter().map(Vec::len).collect();
        assert_eq!(lengths, [3, 0, 3, 3]);
    }

    #[test]
    fn a_scored_token_is_predicted_by_the_row_before_it() {
        let sequences = [[7, 8, 9], [1, 2, 3]];
        let (pack, rows) = PackedBatch::of(&sequences);
        let mut scored = Scored::default();
        scored.push(&sequences[0], &rows[0], 2);
        assert_eq!(pack.tokens[scored.rows[0] as usize], 8);
        assert_eq!(scored.targets, [9]);
    }
}
