//! LLaMA-Factory's sharegpt format: `conversations` of `from` and `value`, or of `role` and `content`, with a `system` column.
//!
//! Source: LLaMA-Factory, `data/README.md` and `SharegptDatasetConverter` in `src/llamafactory/data/converter.py`. There a system message
//! overrides the `system` column; here they must agree.

use super::columns::with_system;
use super::turn::Turn;
use super::turns::messages;
use crate::rows::{Fault, Row};

/// The column of the conversation.
pub(super) const COLUMN: &str = "conversations";

/// The conversation.
pub(super) fn conversation(row: &mut Row) -> Result<Vec<Turn>, Fault> {
    let turns = messages(row, COLUMN)?.unwrap_or_default();
    with_system(row, turns)
}
