//! Columns that change what a row means whatever its form is.
//!
//! Contract: what a chat template would render and Solon does not pass on is refused by name. Null and empty values do not matter.

use solon_records::Message;

use super::turn::{Filled, Turn};
use crate::rows::{Fault, Row, Shape};

/// Columns that would be lost, each with what to do.
const NOT_PASSED_ON: [(&str, &str); 6] = [
    ("tools", "tools are not passed to the chat template yet; leave the row or the column out"),
    ("functions", "functions are not passed to the chat template yet; leave the row or the column out"),
    ("chat_template_kwargs", "arguments of the chat template are not supported yet; leave the column out"),
    ("images", "only text is supported; leave the row out"),
    ("videos", "only text is supported; leave the row out"),
    ("audios", "only text is supported; leave the row out"),
];

/// Refuses what would be lost.
pub(super) fn refuse(row: &mut Row) -> Result<(), Fault> {
    for (name, hint) in NOT_PASSED_ON {
        if row.get::<Filled>(name)?.is_some_and(|filled| filled.0) {
            return Err(format!("field `{name}`: {hint}").into());
        }
    }
    if row.get::<bool>("train")? == Some(false) {
        return Err("field `train`: rows are trained on whole; leave out rows that are not to be used".into());
    }
    if let Some(weight) = row.get::<f64>("weight")?
        && weight != 1.0
    {
        return Err(format!(
            "field `weight`: rows have no weights, and this one is {weight}; leave the column out, or rows that are not to be used"
        )
        .into());
    }
    Ok(())
}

/// The turns with the `system` column as their first message. A system message that is there already must say the same.
pub(super) fn with_system(row: &mut Row, mut turns: Vec<Turn>) -> Result<Vec<Turn>, Fault> {
    let system: Option<String> = row.get("system")?;
    let Some(system) = system.filter(|system| !system.trim().is_empty()) else {
        return Ok(turns);
    };
    match turns.first().filter(|turn| turn.message.role == "system") {
        Some(turn) if turn.message.content.trim() == system.trim() => {}
        Some(_) => {
            return Err(
                "field `system`: differs from the system message of the conversation; keep one of them"
                    .into(),
            );
        }
        None => turns.insert(0, Turn::of(Message::system(system))),
    }
    Ok(turns)
}

/// Refuses a `system` column where no format gives it a meaning, unless the conversation says the same.
pub(super) fn refuse_system(row: &mut Row, messages: &[Message]) -> Result<(), Fault> {
    if row.shape("system") != Shape::Text {
        return Ok(());
    }
    let system: String = row.required("system")?;
    let said = messages.first().filter(|message| message.role == "system");
    if system.trim().is_empty() || said.is_some_and(|message| message.content.trim() == system.trim()) {
        return Ok(());
    }
    Err("field `system`: is not part of this format, and the conversation does not begin with it; make it the first message, or take \
         the column out"
        .into())
}

/// Whether a text `prompt` beside a conversation only repeats a part of it.
pub(super) fn restates(prompt: &str, messages: &[Message]) -> bool {
    messages.iter().any(|message| message.content.trim() == prompt.trim())
}
