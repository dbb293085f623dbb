//! The filter `tojson` of chat templates: JSON as Python writes it.

use std::io::Write;

use minijinja::value::{Kwargs, Value};
use minijinja::{Error, ErrorKind, State};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// transformers' `tojson`: `json.dumps(value, ensure_ascii=…, indent=…, separators=…, sort_keys=…)`, without Jinja's HTML
/// escapes.
pub(crate) fn tojson(state: &State, value: &Value, options: Kwargs) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, "tojson: the value is undefined"));
    }
    let indent: Option<usize> = options.get("indent")?;
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let separators: Option<Vec<String>> = options.get("separators")?;
    options.assert_all_used()?;
    let python = match separators.as_deref() {
        None => PythonFormatter { item: ", ".to_owned(), key: ": ".to_owned() },
        Some([item, key]) if indent.is_none() => PythonFormatter { item: item.clone(), key: key.clone() },
        Some(_) => {
            let reason = "tojson: `separators` must be two texts, and without `indent`";
            return Err(Error::new(ErrorKind::InvalidOperation, reason));
        }
    };
    let mut paid = Paid { state, bytes: Vec::new() };
    let written = write_json(&mut paid, value, indent, &python).and_then(|()| match sorted {
        false => Ok(()),
        true => {
            let mut value = serde_json::to_value(value)?;
            value.sort_all_objects();
            paid.bytes.clear();
            write_json(&mut paid, &value, indent, &python)
        }
    });
    if let Err(error) = written {
        // Where the fuel is used up, that is the error.
        state.consume_fuel(0)?;
        return Err(Error::new(ErrorKind::BadSerialization, "tojson: value is not JSON").with_source(error));
    }
    let text = String::from_utf8(paid.bytes)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, "tojson: not UTF-8").with_source(error))?;
    Ok(Value::from(if ascii { escape_non_ascii(&text) } else { text }))
}

fn write_json(
    out: impl Write,
    value: &impl Serialize,
    indent: Option<usize>,
    python: &PythonFormatter,
) -> serde_json::Result<()> {
    match indent {
        None => value.serialize(&mut Serializer::with_formatter(out, python.clone())),
        Some(width) => {
            let spaces = " ".repeat(width.min(16));
            let formatter = Indented(PrettyFormatter::with_indent(spaces.as_bytes()));
            value.serialize(&mut Serializer::with_formatter(out, formatter))
        }
    }
}

/// Bytes that fuel is paid for while they are written: a list that holds another one twice, and so on, is short until it is written out.
struct Paid<'a> {
    state: &'a State<'a, 'a>,
    bytes: Vec<u8>,
}

impl Write for Paid<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // As the engine charges for what its own filters serialise.
        self.state.consume_fuel(bytes.len().div_ceil(4) as u64).map_err(std::io::Error::other)?;
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Non-ASCII characters are only inside JSON strings, so they can be escaped afterwards.
fn escape_non_ascii(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() && character != '\u{7f}' {
            escaped.push(character);
        } else {
            let mut units = [0u16; 2];
            for unit in character.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    escaped
}

/// The separators of `json.dumps`; Python's own are `", "` and `": "`.
#[derive(Clone)]
struct PythonFormatter {
    item: String,
    key: String,
}

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(self.item.as_bytes()) }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(self.item.as_bytes()) }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(self.key.as_bytes())
    }

    fn write_f64<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, value: f64) -> std::io::Result<()> {
        writer.write_all(python_float(value).as_bytes())
    }
}

/// `json.dumps` with an indent.
struct Indented<'a>(PrettyFormatter<'a>);

/// Passes what is written on to the inner formatter.
macro_rules! indented {
    ($($name:ident($($argument:ident: $kind:ty)?)),*) => {
        $(fn $name<W: ?Sized + std::io::Write>(&mut self, writer: &mut W $(, $argument: $kind)?) -> std::io::Result<()> {
            self.0.$name(writer $(, $argument)?)
        })*
    };
}

impl Formatter for Indented<'_> {
    indented!(
        begin_array(), end_array(), begin_array_value(first: bool), end_array_value(), begin_object(), end_object(),
        begin_object_key(first: bool), begin_object_value(), end_object_value()
    );

    fn write_f64<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, value: f64) -> std::io::Result<()> {
        writer.write_all(python_float(value).as_bytes())
    }
}

/// A number as Python's `repr` writes it: with an exponent below 1e-4 and from 1e16 on. Source: CPython, `PyOS_double_to_string`.
pub(crate) fn python_float(value: f64) -> String {
    let (digits, exponent) = match format!("{value:e}").split_once('e') {
        Some((digits, exponent)) => (digits.to_owned(), exponent.parse::<i32>().unwrap_or_default()),
        None => return value.to_string(),
    };
    if !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let text = value.to_string();
    if text.contains('.') { text } else { text + ".0" }
}
