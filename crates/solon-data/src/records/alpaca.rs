//! LLaMA-Factory's alpaca format: `instruction`, `input`, `system`, `history`, and an answer.
//!
//! The user's text is the instruction, and after a line break the input where it is not empty. `history` is a list of pairs of a question
//! and its answer; LLaMA-Factory trains on those answers too.
//!
//! Source: LLaMA-Factory, `data/README.md` and `AlpacaDatasetConverter` in `src/llamafactory/data/converter.py`.

use solon_records::Message;

use super::columns::with_system;
use super::turn::Turn;
use crate::rows::{Fault, Row};

/// The conversation up to the question.
pub(super) fn question(row: &mut Row) -> Result<Vec<Turn>, Fault> {
    let mut turns = Vec::new();
    for (question, answer) in row.get::<Vec<(String, String)>>("history")?.unwrap_or_default() {
        turns.push(Turn::of(Message::user(question)));
        turns.push(Turn::of(Message::assistant(answer)));
    }
    let parts = [row.get::<String>("instruction")?, row.get::<String>("input")?];
    let parts: Vec<String> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    let text = parts.join("\n");
    if text.trim().is_empty() {
        return Err("field `instruction`: is empty".into());
    }
    turns.push(Turn::of(Message::user(text)));
    with_system(row, turns)
}
