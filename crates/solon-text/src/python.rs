//! What templates use of Python and Jinja that minijinja does otherwise or lacks: methods of texts and lists, tests and
//! filters.
//!
//! Contract: what is here gives Python's result or an error. Source: CPython, `Objects/unicodeobject.c`; jinja2, `filters.py`
//! and `tests.py`. `tests/template_snippets.rs` compares it, and its goldens name what is still missing.

use minijinja::value::{Kwargs, Tuple, Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind};
use minijinja_contrib::pycompat;

/// Adds all of it to an environment.
pub(crate) fn add_to(environment: &mut Environment) {
    environment.set_unknown_method_callback(|state, value, method, args| {
        let result = match value.as_str() {
            Some(text) => method_of_text(text, method, args)?,
            None => method_of_list(value, method, args)?,
        };
        match result {
            Some(result) => Ok(result),
            None => pycompat::unknown_method_callback(state, value, method, args),
        }
    });
    // Python cannot iterate over None; a text and a mapping have a length and items.
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_test("sequence", |value: &Value| {
        value.is_undefined() || matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map)
    });
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("trim", |value: &Value, characters: Option<&str>| {
        strip(&value.to_string(), characters, true, true).to_owned()
    });
}

/// What `str.isspace` is true of: Unicode's white space and four control characters.
fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

fn strip<'a>(text: &'a str, characters: Option<&str>, left: bool, right: bool) -> &'a str {
    let stripped = |character: char| match characters {
        Some(characters) => characters.contains(character),
        None => is_space(character),
    };
    let text = if left { text.trim_start_matches(stripped) } else { text };
    if right { text.trim_end_matches(stripped) } else { text }
}

/// `None` where pycompat's method is as Python's, or there is none.
fn method_of_text(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "strip" | "lstrip" | "rstrip" => {
            let (characters,): (Option<&str>,) = from_args(args)?;
            strip(text, characters, method != "rstrip", method != "lstrip").into()
        }
        "removeprefix" => {
            let (start,): (&str,) = from_args(args)?;
            text.strip_prefix(start).unwrap_or(text).into()
        }
        "removesuffix" => {
            let (end,): (&str,) = from_args(args)?;
            text.strip_suffix(end).unwrap_or(text).into()
        }
        "split" => split(text, args, false)?,
        "rsplit" => split(text, args, true)?,
        "partition" => partition(args, |separator| text.split_once(separator), [text, "", ""])?,
        "rpartition" => partition(args, |separator| text.rsplit_once(separator), ["", "", text])?,
        "index" | "rindex" => {
            let (part,): (&str,) = from_args(args)?;
            let found = if method == "index" { text.find(part) } else { text.rfind(part) };
            let found = found.ok_or_else(|| invalid("str.index: the text is not found"))?;
            Value::from(text[..found].chars().count())
        }
        "title" => {
            let () = from_args(args)?;
            title(text).into()
        }
        "splitlines" => {
            let (keep_ends,): (Option<bool>,) = from_args(args)?;
            split_lines(text, keep_ends.unwrap_or(false))
        }
        _ => return Ok(None),
    }))
}

fn method_of_list(list: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    if list.kind() != ValueKind::Seq || method != "index" {
        return Ok(None);
    }
    let (wanted,): (Value,) = from_args(args)?;
    let position = list.try_iter()?.position(|item| item == wanted);
    position
        .map(|position| Some(position.into()))
        .ok_or_else(|| invalid("list.index: the value is not in the list"))
}

fn invalid(reason: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}

fn partition<'a>(
    args: &[Value],
    split: impl Fn(&str) -> Option<(&'a str, &'a str)>,
    missing: [&str; 3],
) -> Result<Value, Error> {
    let (separator,): (&str,) = from_args(args)?;
    if separator.is_empty() {
        return Err(invalid("str.partition: an empty separator"));
    }
    let parts = match split(separator) {
        Some((before, after)) => [before, separator, after],
        None => missing,
    };
    Ok(Tuple::from(parts.map(Value::from)).into())
}

/// `str.split(sep=None, maxsplit=-1)`, or `rsplit`, which counts from the right.
fn split(text: &str, args: &[Value], from_right: bool) -> Result<Value, Error> {
    let (separator, limit, named): (Option<&str>, Option<i64>, Kwargs) = from_args(args)?;
    let separator = match separator {
        Some(separator) => Some(separator),
        None => named.get::<Option<&str>>("sep")?,
    };
    let limit = match limit {
        Some(limit) => limit,
        None => named.get::<Option<i64>>("maxsplit")?.unwrap_or(-1),
    };
    named.assert_all_used()?;
    let most = usize::try_from(limit).map_or(usize::MAX, |limit| limit.saturating_add(1));
    let mut parts: Vec<&str> = match (separator, from_right) {
        (Some(""), _) => return Err(invalid("str.split: an empty separator")),
        (Some(separator), false) => text.splitn(most, separator).collect(),
        (Some(separator), true) => text.rsplitn(most, separator).collect(),
        (None, _) => split_at_space(text, most, from_right),
    };
    if from_right {
        parts.reverse();
    }
    Ok(parts.into_iter().map(Value::from).collect())
}

/// The words of a text, at most `most`; the last part keeps the white space on its far side. From the right if
/// `from_right`, with the last word first.
fn split_at_space(text: &str, most: usize, from_right: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = strip(text, None, !from_right, from_right);
    while !rest.is_empty() {
        let space = if from_right { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(space) = space.filter(|_| parts.len() + 1 < most) else {
            parts.push(rest);
            break;
        };
        let (before, after) = rest.split_at(space);
        if from_right {
            // A separator is a character of one byte or more.
            parts.push(after.trim_start_matches(is_space));
            rest = strip(before, None, false, true);
        } else {
            parts.push(before);
            rest = strip(after, None, true, false);
        }
    }
    parts
}

/// Each letter behind something that is no letter large, all others small.
fn title(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    let mut inside = false;
    for character in text.chars() {
        match inside {
            true => written.extend(character.to_lowercase()),
            false => written.extend(character.to_uppercase()),
        }
        inside = character.is_alphabetic();
    }
    written
}

fn split_lines(text: &str, keep_ends: bool) -> Value {
    let is_end = |character: char| {
        matches!(
            character,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut lines: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some((line, after)) = rest.find(is_end).map(|end| rest.split_at(end)) {
        let end = match after.starts_with("\r\n") {
            true => 2,
            false => after.chars().next().map_or(0, char::len_utf8),
        };
        lines.push(if keep_ends { &rest[..line.len() + end] } else { line });
        rest = &after[end..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines.into_iter().map(Value::from).collect()
}

/// Jinja's `default(value, default_value='', boolean=False)`, whose arguments may have names.
fn default(
    value: &Value,
    other: Option<Value>,
    boolean: Option<Value>,
    named: Kwargs,
) -> Result<Value, Error> {
    let other = other.or(named.get::<Option<Value>>("default_value")?);
    let boolean = boolean.or(named.get::<Option<Value>>("boolean")?);
    named.assert_all_used()?;
    let lacking =
        value.is_undefined() || (boolean.is_some_and(|boolean| boolean.is_true()) && !value.is_true());
    Ok(if lacking { other.unwrap_or_else(|| Value::from("")) } else { value.clone() })
}
