//! Columns that change what a row means whatever its form is.
//!
//! Contract: tools and the template's variables are put on the conversation's first message ([`TemplateInputs`]). What cannot be passed on
//! is refused by name. Null and empty values do not matter.

use serde_json::Value;
use solon_records::{Message, TemplateInputs, as_tool};

use super::turn::{Filled, Turn};
use crate::rows::{Fault, Row, Shape};

/// Columns that would be lost, each with what to do.
const NOT_PASSED_ON: [(&str, &str); 3] = [
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

/// Puts what the row gives to the chat template on the first message: `tools`, OpenAI's older `functions`, and `chat_template_kwargs`.
/// LLaMA-Factory's tools are functions without an object around them; `bare_tools` says that the row is in one of its forms.
pub(super) fn with_inputs(row: &mut Row, bare_tools: bool, messages: &mut [Message]) -> Result<(), Fault> {
    let mut taken = |column: &str| -> Result<Value, Fault> { Ok(row.get(column)?.unwrap_or_default()) };
    let fault =
        |column: &'static str| move |reason: String| Fault::from(format!("field `{column}`: {reason}"));
    let mut tools = TemplateInputs::read_tools(taken("tools")?).map_err(fault("tools"))?;
    let functions = TemplateInputs::read_tools(taken("functions")?).map_err(fault("functions"))?;
    let kwargs = taken("chat_template_kwargs")?;
    let chat_template_kwargs = TemplateInputs::read_kwargs(kwargs).map_err(fault("chat_template_kwargs"))?;
    if bare_tools {
        tools = tools.into_iter().map(as_tool).collect();
    }
    if !functions.is_empty() {
        if !tools.is_empty() {
            return Err("has both `tools` and `functions`; keep one of them".into());
        }
        tools = functions.into_iter().map(as_tool).collect();
    }
    TemplateInputs { tools, chat_template_kwargs }.put_on(messages);
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
