//! Records of JSON files: one on each line, in an array, or indented over several lines.
//!
//! Contract: a record is a piece of text with its place in the file; whether it is JSON is found later. No more than one record is held.

use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::Path;

use super::scan::Depth;
use super::{FileFormat, Place, Row, Visit};
use crate::DataError;
use crate::input::{Content, Input};
use crate::jsonl::{Lines, MAX_LINE_BYTES, not_utf8};

pub(super) fn read(path: &Path, mut input: Input, visit: Visit<'_>) -> Result<FileFormat, DataError> {
    if input.content == Content::JsonArray {
        let mut records = Records::of(path, input.reader);
        records.space()?;
        records.next()?;
        return records.array(visit).map(|()| FileFormat::JsonArray);
    }
    let mut lines = Lines::of(path, &mut input.reader);
    let Some((line, text)) = lines.next()? else {
        return Ok(FileFormat::JsonLines);
    };
    let depth = Depth::of(text);
    if depth.open > 0 && !depth.in_string {
        // The first record goes on in the next line.
        let start = text.as_bytes().to_vec();
        let rest = Cursor::new(start).chain(input.reader);
        let mut records = Records { line, ..Records::of(path, Box::new(rest)) };
        return records.one_after_another(visit).map(|()| FileFormat::IndentedJson);
    }
    visit(Row::from_json(path, Place::Line(line), 1, text.to_owned())?)?;
    while let Some((line, text)) = lines.next()? {
        visit(Row::from_json(path, Place::Line(line), 1, text.to_owned())?)?;
    }
    Ok(FileFormat::JsonLines)
}

/// Records in a stream of bytes.
struct Records<'a> {
    path: &'a Path,
    reader: BufReader<Box<dyn BufRead>>,
    /// The place of the next byte, both from 1.
    line: usize,
    column: usize,
    /// How many records there were.
    rows: usize,
}

impl<'a> Records<'a> {
    fn of(path: &'a Path, reader: Box<dyn BufRead>) -> Self {
        Self { path, reader: BufReader::new(reader), line: 1, column: 1, rows: 0 }
    }

    fn peek(&mut self) -> Result<Option<u8>, DataError> {
        match self.reader.fill_buf() {
            Ok(bytes) => Ok(bytes.first().copied()),
            // Made only here: this is asked for every byte.
            Err(error) => Err(DataError::io("read", self.path)(error)),
        }
    }

    fn next(&mut self) -> Result<Option<u8>, DataError> {
        let byte = self.peek()?;
        match byte {
            None => return Ok(None),
            Some(b'\n') => (self.line, self.column) = (self.line + 1, 1),
            Some(_) => self.column += 1,
        }
        self.reader.consume(1);
        Ok(byte)
    }

    /// Skips white space and a byte-order mark; gives the byte after it.
    fn space(&mut self) -> Result<Option<u8>, DataError> {
        while let Some(byte) = self.peek()? {
            let mark = self.line == 1 && self.column <= 3 && b"\xef\xbb\xbf".contains(&byte);
            if !byte.is_ascii_whitespace() && !mark {
                return Ok(Some(byte));
            }
            self.next()?;
        }
        Ok(None)
    }

    fn fault(&self, line: usize, message: impl Into<String>) -> DataError {
        DataError::line(self.path, line, message)
    }

    /// The elements of an array whose first bracket has been read.
    fn array(&mut self, visit: Visit<'_>) -> Result<(), DataError> {
        let mut first = true;
        loop {
            match self.space()? {
                Some(b']') if first => break,
                // A comma before the end.
                Some(b']') => {
                    return Err(
                        self.fault(self.line, "a record is missing after the last comma of the array")
                    );
                }
                None => {
                    return Err(
                        self.fault(self.line, "the array is not closed; the end of the file is missing")
                    );
                }
                Some(_) => self.record(&mut *visit)?,
            }
            first = false;
            match self.space()? {
                Some(b',') => self.next()?,
                Some(b']') => break,
                None => {
                    return Err(
                        self.fault(self.line, "the array is not closed; the end of the file is missing")
                    );
                }
                Some(_) => {
                    return Err(self.fault(
                        self.line,
                        format!("a comma is missing between two records (column {})", self.column),
                    ));
                }
            };
        }
        self.next()?;
        match self.space()? {
            None => Ok(()),
            Some(_) => Err(self.fault(self.line, "something follows after the end of the array")),
        }
    }

    fn one_after_another(&mut self, visit: Visit<'_>) -> Result<(), DataError> {
        while self.space()?.is_some() {
            self.record(&mut *visit)?;
        }
        Ok(())
    }

    /// One record. The next byte is its first.
    fn record(&mut self, visit: Visit<'_>) -> Result<(), DataError> {
        let (line, column) = (self.line, self.column);
        self.rows += 1;
        let place = Place::Record { row: self.rows, line };
        let mut bytes = Vec::new();
        let mut depth = Depth::default();
        while let Some(byte) = self.peek()? {
            // A comma or a bracket ends a bare word; a text has no line break in it, so one is where a quotation mark is missing.
            let outside = depth.open == 0 && !depth.in_string && !bytes.is_empty();
            let ends = outside && (matches!(byte, b',' | b']' | b'}') || byte.is_ascii_whitespace());
            if ends || depth.in_string && byte == b'\n' {
                break;
            }
            if bytes.len() == MAX_LINE_BYTES {
                return Err(self.fault(line, too_long()));
            }
            depth.push(byte);
            bytes.push(byte);
            self.next()?;
            if depth.open == 0 && !depth.in_string && matches!(byte, b'"' | b'}' | b']') {
                break;
            }
        }
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let message = not_utf8(error.as_bytes()).unwrap_or_default();
                return Err(self.fault(line, format!("in the record that begins here, {message}")));
            }
        };
        visit(Row::from_json(self.path, place, column, text)?)
    }
}

/// What to say of a record over the limit.
pub(super) fn too_long() -> String {
    format!("the record is longer than {} MiB; split it", MAX_LINE_BYTES >> 20)
}
