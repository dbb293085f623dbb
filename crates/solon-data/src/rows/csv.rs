//! Rows of CSV tables.
//!
//! Contract: the first record is the header. Cells are texts; an empty cell is absent. Another type is read where a column must have it
//! ([`super::Row`]). The line of a record is that of its first character, whatever the line ends are and however many blank lines are
//! before it; the `csv` crate says where the record before it ended.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{self, BufRead, Read};
use std::path::Path;

use serde_json::{Map, Value};

use super::{FileFormat, Place, Row, Visit, json};
use crate::DataError;
use crate::jsonl::MAX_LINE_BYTES;

/// Bytes of a column's name, which each row is given.
const LONGEST_NAME: usize = 1 << 12;

pub(super) fn read(
    path: &Path,
    mut reader: Box<dyn BufRead>,
    visit: Visit<'_>,
) -> Result<FileFormat, DataError> {
    const MARK: &[u8] = "\u{feff}".as_bytes();
    if reader.fill_buf().map_err(DataError::io("read", path))?.starts_with(MARK) {
        reader.consume(MARK.len());
    }
    let seen = RefCell::new(Vec::new());
    let mut table = ::csv::Reader::from_reader(Seen { reader, bytes: &seen });
    let mut lines = LineCount { done: 0, line: 1 };
    let names: Vec<String> = match table.headers() {
        Ok(names) => names.iter().map(str::to_owned).collect(),
        Err(error) => return Err(wrong(path, lines.record_begins(&seen.borrow()), error)),
    };
    let header = lines.record_begins(&seen.borrow());
    if let Some((place, name)) = names.iter().enumerate().find(|(_, name)| name.len() > LONGEST_NAME) {
        let bytes = name.len();
        let message =
            format!("the name of column {} has {bytes} bytes; is the first line a header?", place + 1);
        return Err(DataError::line(path, header, message));
    }
    let mut earlier = HashSet::new();
    if let Some((place, name)) = names.iter().enumerate().find(|(_, name)| !earlier.insert(name.as_str())) {
        let message = format!("column {} has the name `{name}` of an earlier one; rename it", place + 1);
        return Err(DataError::line(path, header, message));
    }
    if let [only] = &names[..]
        && let Some((_, name)) =
            [(';', "semicolons"), ('\t', "tabs")].iter().find(|(mark, _)| only.contains(*mark))
    {
        let message = format!("the columns are separated by {name}; save the table with commas");
        return Err(DataError::line(path, header, message));
    }
    let mut record = ::csv::StringRecord::new();
    loop {
        lines.record_ends(table.position().byte(), &mut seen.borrow_mut());
        let read = table.read_record(&mut record);
        let line = lines.record_begins(&seen.borrow());
        if !read.map_err(|error| wrong(path, line, error))? {
            return Ok(FileFormat::Csv);
        }
        let place = Place::Line(line);
        let texts: Map<String, Value> =
            names.iter().zip(&record).map(|(name, cell)| (name.clone(), Value::from(cell))).collect();
        visit(Row::from_texts(place, texts).map_err(|fault| place.fault(path, fault))?)?;
    }
}

fn wrong(path: &Path, line: usize, error: ::csv::Error) -> DataError {
    let message = match error.kind() {
        ::csv::ErrorKind::Io(source) if source.kind() == io::ErrorKind::FileTooLarge => {
            format!("{}; perhaps a quotation mark is not closed", json::too_long())
        }
        ::csv::ErrorKind::Io(source) => {
            return DataError::io("read", path)(io::Error::new(source.kind(), source.to_string()));
        }
        ::csv::ErrorKind::Utf8 { .. } => "is not UTF-8; save the file as UTF-8".to_owned(),
        ::csv::ErrorKind::UnequalLengths { expected_len, len, .. } => format!(
            "has {len} cells, the header has {expected_len}; quote cells that hold a comma or a line break"
        ),
        _ => format!("is not CSV: {error}"),
    };
    DataError::line(path, line, message)
}

/// In which line records are.
struct LineCount {
    /// How many bytes of the file are done with.
    done: u64,
    /// The line of the next byte, from 1.
    line: usize,
}

impl LineCount {
    /// The line in which a record begins. `seen` holds the bytes that are not done with; blank lines may be before the record.
    fn record_begins(&self, seen: &[u8]) -> usize {
        let blank = seen.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
        self.line + blank.filter(|byte| **byte == b'\n').count()
    }

    /// Is done with the bytes before `end`.
    fn record_ends(&mut self, end: u64, seen: &mut Vec<u8>) {
        let length = usize::try_from(end - self.done).unwrap_or(usize::MAX).min(seen.len());
        self.line += seen.drain(..length).filter(|byte| *byte == b'\n').count();
        self.done = end;
    }
}

/// Keeps what was read of a record. No more is read than a record may have, or a quotation mark that is not closed would take the
/// whole file into memory.
struct Seen<'a, R> {
    reader: R,
    bytes: &'a RefCell<Vec<u8>>,
}

impl<R: Read> Read for Seen<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut bytes = self.bytes.borrow_mut();
        if bytes.len() > MAX_LINE_BYTES + buffer.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let read = self.reader.read(buffer)?;
        bytes.extend_from_slice(&buffer[..read]);
        Ok(read)
    }
}
