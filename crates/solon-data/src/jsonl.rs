//! JSON Lines: one JSON value per line.
//!
//! Contract: a file is read completely or refused, and the error names file, line and field. It may be compressed with gzip or Zstandard. A
//! byte-order mark, blank lines and CRLF are allowed. A line over [`MAX_LINE_BYTES`] is refused before it is held in memory. Files come from
//! outside, so no bytes may cause a panic.

pub(crate) mod field;

use std::io::{BufRead, Read};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::DataError;
use crate::files::write_atomically;
use crate::input::{Content, Input};

/// The longest line that is read: 16 MiB, about four million tokens of text.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// A value and its line number, from 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbered<T> {
    /// Counted from 1, blank lines included: what an editor shows.
    pub line: usize,
    /// The value.
    pub value: T,
}

/// The lines of a text, one by one.
pub(crate) struct Lines<'a> {
    path: &'a Path,
    reader: &'a mut dyn BufRead,
    bytes: Vec<u8>,
    line: usize,
}

impl<'a> Lines<'a> {
    pub fn of(path: &'a Path, reader: &'a mut dyn BufRead) -> Self {
        Self { path, reader, bytes: Vec::new(), line: 0 }
    }

    /// The next line that is not blank, with its number; without a byte-order mark, but with its end.
    pub fn next(&mut self) -> Result<Option<(usize, &str)>, DataError> {
        let path = self.path;
        loop {
            self.bytes.clear();
            self.line += 1;
            let limit = MAX_LINE_BYTES as u64 + 1;
            let read = (&mut *self.reader)
                .take(limit)
                .read_until(b'\n', &mut self.bytes)
                .map_err(DataError::io("read", path))?;
            if read == 0 {
                return Ok(None);
            }
            if self.bytes.len() > MAX_LINE_BYTES {
                let message =
                    format!("the line is longer than {} MiB; split the record", MAX_LINE_BYTES >> 20);
                return Err(DataError::line(path, self.line, message));
            }
            if let Some(at) = not_utf8(&self.bytes) {
                return Err(DataError::line(path, self.line, at));
            }
            if self.line == 1 && self.bytes.starts_with("\u{feff}".as_bytes()) {
                self.bytes.drain(..'\u{feff}'.len_utf8());
            }
            if !self.bytes.trim_ascii().is_empty() {
                break;
            }
        }
        // Checked above; borrowed anew because the loop may not return what it borrowed.
        Ok(std::str::from_utf8(&self.bytes).ok().map(|text| (self.line, text)))
    }
}

/// What to say of bytes that are not UTF-8.
pub(crate) fn not_utf8(bytes: &[u8]) -> Option<String> {
    let error = std::str::from_utf8(bytes).err()?;
    Some(format!("byte {} is not UTF-8; save the file as UTF-8", error.valid_up_to() + 1))
}

/// Reads every line of `path` as a `T`.
///
/// # Errors
/// [`DataError::Io`] if the file cannot be read; [`DataError::Line`] for the first line that is too long, is not UTF-8,
/// or is not a `T`; [`DataError::Format`] for a JSON array, and for a file that is known to be something else.
pub fn read_jsonl<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, DataError> {
    Ok(read_jsonl_numbered(path)?.into_iter().map(|numbered| numbered.value).collect())
}

/// Like [`read_jsonl`], with line numbers for the caller's own messages.
///
/// # Errors
/// As [`read_jsonl`].
pub fn read_jsonl_numbered<T: DeserializeOwned>(path: &Path) -> Result<Vec<Numbered<T>>, DataError> {
    let mut input = Input::open(path)?;
    let binary = match input.content {
        Content::Parquet => Some("Parquet"),
        Content::Arrow => Some("Arrow"),
        _ => None,
    };
    if let Some(name) = binary {
        let message =
            format!("is {name}, not JSON Lines; convert it (`Dataset.to_json` of Hugging Face's datasets)");
        return Err(DataError::Format { path: path.to_path_buf(), message });
    }
    let mut lines = Lines::of(path, &mut input.reader);
    let mut values = Vec::new();
    while let Some((line, text)) = lines.next()? {
        if values.is_empty() && text.trim_start().starts_with('[') {
            refuse_array::<T>(path, text)?;
        }
        let value = serde_json::from_str(text)
            .map_err(|error| DataError::line(path, line, field::describe(text, &error)))?;
        values.push(Numbered { line, value });
    }
    Ok(values)
}

/// Writes one value per line, atomically.
///
/// # Errors
/// [`DataError::Io`] if the system refuses or a value does not serialise; then `path` is unchanged.
pub fn write_jsonl<T: Serialize>(path: &Path, values: impl IntoIterator<Item = T>) -> Result<(), DataError> {
    write_atomically(path, |out| {
        for value in values {
            serde_json::to_writer(&mut *out, &value)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    })
}

/// Refuses a file that begins with `[`: it is a JSON array. It is accepted if the caller reads arrays.
fn refuse_array<T: DeserializeOwned>(path: &Path, text: &str) -> Result<(), DataError> {
    if serde_json::from_str::<T>(text).is_ok() {
        return Ok(());
    }
    Err(DataError::Format {
        path: path.to_path_buf(),
        message: "is a JSON array, not JSON Lines; convert it (`jq --compact-output '.[]' FILE`)".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::fs;

    #[derive(Debug, Deserialize, Serialize, PartialEq)]
    struct Row {
        name: String,
        scores: Vec<f64>,
    }

    fn read(bytes: &[u8]) -> Result<Vec<Row>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        fs::write(&path, bytes).unwrap();
        read_jsonl(&path).map_err(|error| {
            let message = error.to_string();
            message.replace(&format!("{}/", folder.path().display()), "")
        })
    }

    #[test]
    fn marks_blank_lines_and_windows_endings_are_tolerated() {
        let rows =
            read(b"\xef\xbb\xbf{\"name\":\"a\",\"scores\":[1]}\r\n\r\n  \n{\"name\":\"b\",\"scores\":[]}")
                .unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[1].name, "b");
        assert_eq!(read(b"").unwrap(), []);
        assert_eq!(read(b"\xef\xbb\xbf").unwrap(), []);
    }

    #[test]
    fn errors_name_file_line_and_field() {
        let check = |bytes: &[u8], expected: &str| assert_eq!(read(bytes).unwrap_err(), expected);
        check(
            b"\n{\"name\":\"a\",\"scores\":[1,\"x\"]}\n",
            "rows.jsonl:2: field `scores[1]`: invalid type: string \"x\", expected f64 (column 27)",
        );
        check(
            b"{\"name\":3,\"scores\":[]}",
            "rows.jsonl:1: field `name`: invalid type: integer `3`, expected a string (column 9)",
        );
        check(b"{\"name\":\"a\"}", "rows.jsonl:1: missing field `scores` (column 12)");
        check(
            b"{\"name\":\"a\",\"scores\":[NaN]}",
            "rows.jsonl:1: field `scores[0]`: NaN is no JSON value; give a number, or leave the field out (column 23)",
        );
        check(b"{\"name\":\"a\",\"scor", "rows.jsonl:1: EOF while parsing a string (column 17)");
        check(b"{\"name\":\"\xff\"}", "rows.jsonl:1: byte 10 is not UTF-8; save the file as UTF-8");
        check(
            b"[\n{}\n]",
            "rows.jsonl is a JSON array, not JSON Lines; convert it (`jq --compact-output '.[]' FILE`)",
        );
    }

    #[test]
    fn a_file_may_be_compressed() {
        let packed = |text: &str| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
            encoder.finish().unwrap()
        };
        let (one, two) = ("{\"name\":\"a\",\"scores\":[]}\n", "{\"name\":\"b\",\"scores\":[1]}\n");
        // Several members in one file are one text.
        let whole = [packed(one), packed(two)].concat();
        assert_eq!(read(&whole), read(format!("{one}{two}").as_bytes()));
        let cut = read(&whole[..whole.len() - 9]).unwrap_err();
        assert!(cut.contains("rows.jsonl"), "{cut}");
        assert!(read(&packed("{}\n")).unwrap_err().starts_with("rows.jsonl:1: "));
    }

    #[test]
    fn a_line_at_the_limit_is_read_and_one_over_it_refused() {
        let row = |length: usize| {
            let mut bytes = br#"{"scores":[],"name":""#.to_vec();
            bytes.resize(length - 3, b'a');
            bytes.extend(b"\"}\n");
            bytes
        };
        assert_eq!(read(&row(MAX_LINE_BYTES)).unwrap().len(), 1);
        let error = read(&row(MAX_LINE_BYTES + 1)).unwrap_err();
        assert_eq!(error, "rows.jsonl:1: the line is longer than 16 MiB; split the record");
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep.jsonl");
        fs::write(&path, format!("{{\"a\":{}", "[".repeat(1 << 20))).unwrap();
        let error = read_jsonl::<serde_json::Value>(&path).unwrap_err().to_string();
        assert!(error.contains("recursion limit"), "{error}");
        assert!(read_jsonl::<Row>(&path).is_err());
    }

    #[test]
    fn a_message_does_not_repeat_a_long_value() {
        let error =
            read(format!("{{\"name\":\"a\",\"scores\":\"{}\"}}", "é".repeat(10_000)).as_bytes()).unwrap_err();
        assert!(error.len() < 800 && error.contains("…"), "{error}");
    }

    #[test]
    fn what_is_written_is_read_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        let scores = vec![0.1 + 0.2, f64::MIN_POSITIVE, -1.1415926535897931e-17, 5e-324, f64::from(-7.3_f32)];
        let rows = [Row { name: "line\nbreak \u{2028} \u{0}".into(), scores }];
        write_jsonl(&path, &rows).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        let back: Vec<Row> = read_jsonl(&path).unwrap();
        let bits = |row: &Row| row.scores.iter().map(|score| score.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back[0]), bits(&rows[0]));
        assert_eq!(back, rows);
    }
}
