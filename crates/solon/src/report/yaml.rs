//! Writes plain data as YAML: blocks of keys and lists, with every text in double quotes.
//!
//! A text in double quotes is YAML as it is JSON; only characters that are invisible are escaped as well, because YAML reads
//! some of them as ends of lines, and a reader would not see the others.

use super::visible::hides_or_reorders;
use serde_json::Value;

/// `value` as a YAML document, without the marks of a front matter. Keys must be plain words.
pub fn yaml(value: &Value) -> String {
    let mut out = String::new();
    block(&mut out, value, 0);
    out
}

fn block(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(entries) => {
            for (i, (key, value)) in entries.iter().enumerate() {
                // The first key stands behind its list's dash.
                if i > 0 || !out.ends_with("- ") {
                    indent(out, depth);
                }
                out.push_str(key);
                out.push(':');
                below(out, value, depth + 1);
            }
        }
        Value::Array(items) => {
            for item in items {
                indent(out, depth);
                out.push('-');
                match item {
                    Value::Object(entries) if !entries.is_empty() => {
                        out.push(' ');
                        block(out, item, depth + 1);
                    }
                    item => below(out, item, depth + 1),
                }
            }
        }
        scalar => below(out, scalar, depth),
    }
}

/// A value behind its key or dash: on the same line, or as a block below.
fn below(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            out.push('\n');
            block(out, value, depth);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            block(out, value, depth);
        }
        Value::String(text) => {
            out.push(' ');
            quoted(out, text);
            out.push('\n');
        }
        other => {
            out.push(' ');
            out.push_str(&other.to_string());
            out.push('\n');
        }
    }
}

fn quoted(out: &mut String, text: &str) {
    for c in Value::from(text).to_string().chars() {
        match u32::from(c) {
            code @ 0x1_0000.. if hides_or_reorders(c) => out.push_str(&format!("\\U{code:08x}")),
            code if hides_or_reorders(c) => out.push_str(&format!("\\u{code:04x}")),
            _ => out.push(c),
        }
    }
}

fn indent(out: &mut String, depth: usize) {
    out.push_str(&"  ".repeat(depth));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn data_becomes_blocks() {
        let value = json!({
            "license": "mit",
            "tags": ["a", "b: c"],
            "model-index": [{"name": "x", "results": [{"task": {"type": "t"}, "metrics": [{"value": 0.5}]}]}],
            "none": [],
        });
        let expected = "license: \"mit\"\ntags:\n  - \"a\"\n  - \"b: c\"\nmodel-index:\n  - name: \"x\"\n    results:\n      \
                        - task:\n          type: \"t\"\n        metrics:\n          - value: 0.5\nnone: []\n";
        assert_eq!(yaml(&value), expected);
    }

    #[test]
    fn a_text_cannot_leave_its_quotes() {
        let text = "\"\n---\nkey: value\u{2028}\u{85}\0\u{e0041}";
        let expected = "k: \"\\\"\\n---\\nkey: value\\u2028\\u0085\\u0000\\U000e0041\"\n";
        assert_eq!(yaml(&json!({"k": text})), expected);
    }
}
