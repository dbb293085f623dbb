//! Finds the field of a JSON line that an error is about.
//!
//! serde_json reports the column at which it stopped, but not the field. This scans the line up to that column, tracks
//! the keys and positions of the open objects and arrays, and so finds the path (`messages[1].content`).

/// One open object or array.
enum Open {
    Object { key: Option<String> },
    Array { index: usize },
}

/// The error as text: the field's path if there is one, serde's message, and the column.
pub(crate) fn describe(line: &str, error: &serde_json::Error) -> String {
    let full = error.to_string();
    let message = match full.rfind(" at line ") {
        Some(end) => &full[..end],
        None => &full,
    };
    // serde quotes the wrong value, which may be megabytes of text.
    let message = match message.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    };
    let mut path = open_path(line.as_bytes(), error.column());
    // serde finds a missing field only at the closing brace. The last key seen is then still current, but it is not the
    // wrong one.
    if message.starts_with("missing field")
        && let Some(Open::Object { key }) = path.last_mut()
    {
        *key = None;
    }
    let path = if error.is_eof() { String::new() } else { written(&path) };
    let field = if path.is_empty() { String::new() } else { format!("field `{path}`: ") };
    match error.column() {
        0 => format!("{field}{message}"),
        column => format!("{field}{message} (column {column})"),
    }
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
