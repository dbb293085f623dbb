//! Rows that several files have.

use std::collections::HashMap;

use super::{Looked, Opened};
use crate::files::sha256_parts;
use crate::records::DataFile;
use crate::rows::Place;

/// What the files looked over so far say.
#[derive(Debug, Default)]
pub struct Earlier {
    /// By the hash of what a row says: the number of its file from 0, and its place there.
    seen: HashMap<String, (usize, Place)>,
    files: usize,
}

impl Earlier {
    /// The rows of a file that say the same as a row of an earlier file, whatever their ids: each with that file's number, counted
    /// from 0, and the first such row there.
    pub fn repeated(&mut self, file: &Opened) -> Vec<(Place, usize, Place)> {
        let rows = match file {
            Opened::Demonstrations(file) => contents(file),
            Opened::Preferences(file) => contents(file),
            Opened::Unpaired(file) => contents(file),
            Opened::Prompts(file) => contents(file),
        };
        let number = self.files;
        self.files += 1;
        let mut repeated = Vec::new();
        for (content, place) in rows {
            let (file, first) = *self.seen.entry(content).or_insert((number, place));
            if file < number {
                repeated.push((place, file, first));
            }
        }
        repeated
    }
}

fn contents<T: Looked>(file: &DataFile<T>) -> Vec<(String, Place)> {
    let rows = file.records.iter().zip(&file.places);
    rows.map(|(record, place)| (sha256_parts(record.content()), *place)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::opened;
    use super::*;

    #[test]
    fn a_row_is_found_in_the_first_file_that_has_it_and_not_in_its_own() {
        let row =
            |prompt: &str, id: u8| format!("{{\"id\":{id},\"prompt\":\"{prompt}\",\"completion\":\"A\"}}\n");
        let mut earlier = Earlier::default();
        let first = opened(&(row("a", 1) + &row("b", 2) + &row("a", 3)));
        assert_eq!(earlier.repeated(&first), []);
        assert_eq!(earlier.repeated(&opened(&row("c", 1))), []);
        let third = opened(&(row("c", 9) + &row("d", 8) + &row("a", 7)));
        let expected = [(Place::Line(1), 1, Place::Line(1)), (Place::Line(3), 0, Place::Line(1))];
        assert_eq!(earlier.repeated(&third), expected);
    }
}
