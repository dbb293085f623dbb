//! Finds the field of a JSON line that an error is about.
//!
//! serde_json reports the column at which it stopped, but not the field. This scans the line up to that column, tracks
//! the keys and positions of the open objects and arrays, and so finds the path (`messages[1].content`).

/// What Python's `json` writes for numbers that JSON does not have. The longer name first.
pub(crate) const NO_NUMBERS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// One open object or array.
enum Open {
    Object { key: Option<String> },
    Array { index: usize },
}

/// Where serde_json stopped in `text`, and what is wrong there.
pub(crate) struct Found {
    /// How many bytes it had read. At least 1, unless the error has no place.
    pub offset: usize,
    /// The field's path, if there is one, and the message.
    pub message: String,
}

/// The error as text: the field's path if there is one, the message, and the column. `line` is one line of JSON.
pub(crate) fn describe(line: &str, error: &serde_json::Error) -> String {
    let found = find(line, error.column(), error);
    match found.offset {
        0 => found.message,
        column => format!("{} (column {column})", found.message),
    }
}

/// Finds the field of an error at which `offset` bytes of `text` had been read.
pub(crate) fn find(text: &str, offset: usize, error: &serde_json::Error) -> Found {
    let full = error.to_string();
    let message = match full.rfind(" at line ") {
        Some(end) => &full[..end],
        None => &full,
    };
    let message = said(message, text, offset);
    let mut path = open_path(text.as_bytes(), offset);
    // serde finds a missing field only at the closing brace. The last key seen is then still current, but it is not the
    // wrong one.
    if message.starts_with("missing field")
        && let Some(Open::Object { key }) = path.last_mut()
    {
        *key = None;
    }
    let path = if error.is_eof() { String::new() } else { written(&path) };
    let field = if path.is_empty() { String::new() } else { format!("field `{path}`: ") };
    Found { offset, message: format!("{field}{message}") }
}

/// serde's message, or a plainer one where it would not be understood.
fn said(message: &str, text: &str, offset: usize) -> String {
    if let Some(name) = no_number_at(text, offset) {
        return format!("{name} is no JSON value; give a number, or leave the field out");
    }
    match message {
        "lone leading surrogate in hex escape" | "unexpected end of hex escape" => {
            let read = text.get(..offset.min(text.len())).unwrap_or_default();
            let escape = read.rfind("\\u").and_then(|at| text.get(at..at + 6));
            let escape = escape.map(|escape| format!(" (`{escape}` stands alone)")).unwrap_or_default();
            format!(
                "the text holds half a character{escape}, as is left where a text was cut inside an emoji; take the half out"
            )
        }
        // serde quotes the wrong value, which may be megabytes of text.
        _ => match message.char_indices().nth(300) {
            Some((end, _)) => format!("{}…", &message[..end]),
            None => message.to_owned(),
        },
    }
}

/// The name of a number that JSON does not have, as Python writes it, if serde stopped at one.
fn no_number_at(text: &str, offset: usize) -> Option<&'static str> {
    let bytes = text.as_bytes();
    NO_NUMBERS.into_iter().find(|name| {
        (offset.saturating_sub(name.len())..=offset).any(|start| {
            bytes.get(start..).is_some_and(|rest| rest.starts_with(name.as_bytes()))
                && (start == 0
                    || !bytes[start - 1].is_ascii_alphanumeric() && !b"\"_".contains(&bytes[start - 1]))
        })
    })
}

fn open_path(bytes: &[u8], column: usize) -> Vec<Open> {
    let mut open: Vec<Open> = Vec::new();
    let mut key_expected = false;
    let mut at = 0;
    let end = column.min(bytes.len());
    while at < end {
        match bytes[at] {
            b'{' => {
                open.push(Open::Object { key: None });
                key_expected = true;
            }
            b'[' => {
                open.push(Open::Array { index: 0 });
                key_expected = false;
            }
            // serde may stop just after the closing mark of the wrong value.
            b'}' | b']' if at + 1 < end => {
                open.pop();
                key_expected = false;
            }
            b',' if at + 1 < end => match open.last_mut() {
                Some(Open::Array { index }) => *index += 1,
                Some(Open::Object { .. }) => key_expected = true,
                None => {}
            },
            b'"' => {
                let start = at + 1;
                at = start;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                if key_expected && let Some(Open::Object { key }) = open.last_mut() {
                    let text = &bytes[start..at.min(bytes.len())];
                    *key = Some(String::from_utf8_lossy(text).chars().take(80).collect());
                    key_expected = false;
                }
            }
            _ => {}
        }
        at += 1;
    }
    open
}

fn written(open: &[Open]) -> String {
    let mut path = String::new();
    for level in open {
        match level {
            Open::Array { index } => path += &format!("[{index}]"),
            Open::Object { key: Some(key) } if path.is_empty() => path += key,
            Open::Object { key: Some(key) } => path += &format!(".{key}"),
            Open::Object { key: None } => {}
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_keys_and_positions_at_every_column() {
        let line = r#"{"a":{"b\"{":[1,{"c":"],}"}]},"d":2}"#;
        let at = |needle: &str| written(&open_path(line.as_bytes(), line.find(needle).unwrap() + 1));
        assert_eq!(at("1,"), r#"a.b\"{[0]"#);
        assert_eq!(at("],}"), r#"a.b\"{[1].c"#);
        assert_eq!(at("2}"), "d");
        for column in 0..=line.len() + 3 {
            open_path(line.as_bytes(), column);
        }
        // An escape at the very end must not read past it.
        open_path(br#"{"a\"#, 9);
    }
}
