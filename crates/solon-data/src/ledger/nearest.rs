//! Finds the ids most similar to a mistyped one.

use super::{Ledger, LedgerError};

/// How many ids are suggested.
const SHOWN: usize = 3;

/// Up to [`SHOWN`] ids that contain `wanted`, or that differ from it in at most a third of its characters; best first.
pub(super) fn nearest_ids(ledger: &Ledger, wanted: &str) -> Result<Vec<String>, LedgerError> {
    // Such an id is longer than any real one; comparing it would only cost time.
    if wanted.is_empty() || wanted.len() > 200 {
        return Ok(Vec::new());
    }
    let read = || -> rusqlite::Result<Vec<String>> {
        let mut statement = ledger.connection.prepare("SELECT id FROM items WHERE length(id) <= 200")?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    let ids = read().map_err(ledger.failed("read"))?;
    let letters: Vec<char> = wanted.chars().collect();
    let limit = (letters.len() / 3).max(1);
    let mut scored: Vec<(usize, String)> = ids
        .into_iter()
        .filter_map(|id| {
            let distance = edit_distance(&letters, &id);
            (distance <= limit || id.contains(wanted)).then_some((distance, id))
        })
        .collect();
    scored.sort();
    Ok(scored.into_iter().take(SHOWN).map(|(_, id)| id).collect())
}

/// The Levenshtein distance, one row at a time.
fn edit_distance(left: &[char], right: &str) -> usize {
    let mut row: Vec<usize> = (0..=left.len()).collect();
    for letter in right.chars() {
        let mut diagonal = row[0];
        row[0] += 1;
        for (index, other) in left.iter().enumerate() {
            let substituted = diagonal + usize::from(*other != letter);
            diagonal = row[index + 1];
            row[index + 1] = substituted.min(diagonal + 1).min(row[index] + 1);
        }
    }
    row[left.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_the_textbook_ones() {
        let check = |left: &str, right: &str, expected| {
            assert_eq!(edit_distance(&left.chars().collect::<Vec<_>>(), right), expected);
        };
        check("kitten", "sitting", 3);
        check("", "abc", 3);
        check("abc", "", 3);
        check("é", "e", 1);
        check("pair-1", "pair-1", 0);
    }
}
