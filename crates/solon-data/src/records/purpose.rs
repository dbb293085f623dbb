//! What a file of records is for, by its first row.

use std::path::Path;

use super::sharegpt;
use super::turns::messages;
use super::unpaired::is_unpaired;
use crate::DataError;
use crate::rows::{Row, read_rows};

/// What a file of records is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Conversations to imitate.
    Demonstrations,
    /// Pairs of answers, of which one is preferred.
    Preferences,
    /// Answers with a label each, which nothing trains on.
    Unpaired,
    /// Conversations to answer.
    Prompts,
}

impl Purpose {
    /// What the first row of a file says; prompts if there is no row.
    ///
    /// # Errors
    /// Those of reading the first row, but for what is wrong with its columns.
    pub fn of_file(path: &Path) -> Result<Self, DataError> {
        let mut found = None;
        let read = read_rows(path, &mut |mut row| {
            found = Some(purpose(&mut row));
            // No further row is read.
            Err(row.place.fault(path, "was looked at"))
        });
        match (found, read) {
            (Some(purpose), _) => Ok(purpose),
            (None, Ok(_)) => Ok(Self::Prompts),
            (None, Err(error)) => Err(error),
        }
    }
}

fn purpose(row: &mut Row) -> Purpose {
    let has = |columns: &[&str]| columns.iter().any(|column| row.has(column));
    if has(&["chosen", "rejected", "chosen_messages", "unlabelled"]) {
        return Purpose::Preferences;
    }
    if is_unpaired(row) {
        return Purpose::Unpaired;
    }
    if has(&["completion", "output", "text"]) {
        return Purpose::Demonstrations;
    }
    let column = if row.has("messages") { "messages" } else { sharegpt::COLUMN };
    match messages(row, column) {
        Ok(Some(turns)) if !turns.iter().any(|turn| turn.message.is_assistant()) => Purpose::Prompts,
        Ok(None) => Purpose::Prompts,
        // A conversation with a fault is told as training would tell it.
        Ok(Some(_)) | Err(_) => Purpose::Demonstrations,
    }
}
