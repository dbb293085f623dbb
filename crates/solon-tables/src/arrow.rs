//! Arrow: IPC streams, as `datasets` writes them, and IPC files.
//!
//! Contract: a file is a stream between two marks (Apache Arrow, "IPC File Format"), so both are read from start to end, from any reader. A
//! message is held no longer than its rows are wanted, and takes no more memory than there are bytes of it, or a bounded number of times as much
//! where they are compressed (`bounds.rs`). Of its rows a few at a time become text: rows without content take no bytes, so a short message
//! may have any number of them, and a value may be written in many rows. How long rows become is known before they are written (`sizes.rs`).
//!
//! Source: <https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc>.

mod bounds;
mod sizes;

use std::io::{Read, copy, sink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowTimestampType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow_array::{Array, ArrayRef, GenericListArray, OffsetSizeTrait, RecordBatch, StructArray};
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_json::WriterBuilder;
use arrow_json::writer::LineDelimited;
use arrow_schema::{ArrowError, DataType, FieldRef, TimeUnit};

use self::bounds::Bounds;
use self::sizes::{MAX_ROW_BYTES, fitting};
use crate::{TableError, guarded};

/// The mark at both ends of a file. Zeros follow the first, up to a border of 8 or 64 bytes.
const FILE: [u8; 8] = *b"ARROW1\0\0";
/// Rows that are held as text, fewer where they are long.
const ROWS: usize = 1024;
/// Before the length of each message, and before the zero that ends a stream.
const CONTINUATION: [u8; 4] = [0xff; 4];
const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// The rows of an Arrow stream or file, each as the text of a JSON object. After an error there are none.
pub struct ArrowRows<R> {
    path: PathBuf,
    /// None after the end, or after an error.
    reader: Option<R>,
    decoder: StreamDecoder,
    bounds: Bounds,
    /// Rows that have become text, of all record batches.
    done: u64,
    /// Rows of the last record batch that are still to become text.
    left: Option<RecordBatch>,
    /// Rows that are still to be given, one on each line.
    lines: std::vec::IntoIter<String>,
}

impl<R: Read> ArrowRows<R> {
    /// The rows of what `reader` gives from its start; `path` is named in errors.
    pub fn new(path: &Path, reader: R) -> Self {
        let (decoder, lines) = (StreamDecoder::new(), Vec::new().into_iter());
        let (path, reader, bounds) = (path.to_owned(), Some(reader), Bounds::default());
        Self { path, reader, decoder, bounds, done: 0, left: None, lines }
    }

    /// Makes the next rows text, if there are more.
    fn fill(&mut self) -> Result<(), String> {
        while self.lines.len() == 0 {
            match self.left.take() {
                Some(batch) => self.write(&batch)?,
                None if self.reader.is_some() => self.batch()?,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Makes the first rows of a batch text and keeps the others.
    fn write(&mut self, batch: &RecordBatch) -> Result<(), String> {
        let rows = guarded("Arrow", || fitting(batch, ROWS))?;
        if rows == 0 && batch.num_rows() > 0 {
            let (row, most) = (self.done + 1, MAX_ROW_BYTES >> 20);
            return Err(format!("row {row} is longer than {most} MiB as JSON; split it"));
        }
        let lines = guarded("Arrow", || objects(&batch.slice(0, rows)))?;
        self.done += rows as u64;
        let left = batch.num_rows() - rows;
        self.left = (left > 0).then(|| batch.slice(rows, left));
        self.lines = lines.into_iter();
        Ok(())
    }

    /// Reads the next message, which may be a record batch or the end.
    fn batch(&mut self) -> Result<(), String> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        let (message, is_last) = message(reader)?;
        let (decoder, bounds) = (&mut self.decoder, &mut self.bounds);
        self.left = guarded("Arrow", || {
            let mut buffer = Buffer::from_vec(message);
            // With a mark the decoder ends the message before it where that has no body, as a schema.
            let mut found =
                decoder.decode(&mut buffer.slice_with_length(0, CONTINUATION.len())).map_err(unreadable)?;
            if !is_last {
                bounds.check(buffer.get(8..).unwrap_or_default(), decoder.schema().as_deref())?;
            }
            buffer.advance(CONTINUATION.len());
            while !buffer.is_empty() {
                // A message is one batch at most.
                found = decoder.decode(&mut buffer).map_err(unreadable)?.or(found);
            }
            if is_last {
                decoder.finish().map_err(unreadable)?;
            }
            Ok(found)
        })?;
        if is_last {
            // A pipe's writer would fail if the footer of a file were not taken.
            copy(reader, &mut sink()).map_err(|error| error.to_string())?;
            self.reader = None;
        }
        Ok(())
    }
}

impl<R: Read> Iterator for ArrowRows<R> {
    type Item = Result<String, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(reason) = self.fill() {
            (self.reader, self.left) = (None, None);
            return Some(Err(TableError { path: self.path.clone(), reason }));
        }
        self.lines.next().map(Ok)
    }
}

/// The bytes of the next message with its length, and whether it is the end of the stream. The end may be left out.
fn message(reader: &mut impl Read) -> Result<(Vec<u8>, bool), String> {
    let mut bytes = Vec::new();
    take(reader, 8, &mut bytes)?;
    if bytes == FILE {
        while bytes == FILE || bytes == [0; 8] {
            bytes.clear();
            take(reader, 8, &mut bytes)?;
        }
        if bytes.is_empty() {
            return Err(cut());
        }
    }
    if bytes.is_empty() || bytes == END {
        return Ok((END.to_vec(), true));
    }
    let Some((mark, length)) =
        bytes.split_first_chunk::<4>().and_then(|(mark, rest)| Some((*mark, rest.first_chunk::<4>()?)))
    else {
        return Err(cut());
    };
    if mark != CONTINUATION {
        return Err("cannot be read as Arrow: a message has no mark\nhint: Arrow before 0.15 wrote so; write the file again".to_owned());
    }
    let length = u64::from(u32::from_le_bytes(*length));
    take(reader, length, &mut bytes)?;
    if bytes.len() as u64 != 8 + length {
        return Err(cut());
    }
    let about = guarded("Arrow", || {
        let message = arrow_ipc::root_as_message(bytes.get(8..).unwrap_or_default());
        Ok(message.map_err(|error| format!("cannot be read as Arrow: {error}"))?.bodyLength())
    });
    let body =
        u64::try_from(about?).map_err(|_| "cannot be read as Arrow: a message has a negative length")?;
    let before = bytes.len() as u64;
    take(reader, body, &mut bytes)?;
    match bytes.len() as u64 == before.saturating_add(body) {
        true => Ok((bytes, false)),
        false => Err(cut()),
    }
}

/// Reads so many bytes, or what there is. Memory grows with what there is: a length from outside is not believed.
fn take(reader: &mut impl Read, bytes: u64, into: &mut Vec<u8>) -> Result<(), String> {
    reader.take(bytes).read_to_end(into).map(drop).map_err(|error| error.to_string())
}

fn cut() -> String {
    "cannot be read as Arrow: the end of the file is missing".to_owned()
}

fn unreadable(error: ArrowError) -> String {
    let text = error.to_string();
    let hint = match text.contains("lz4 feature") {
        true => "\nhint: write it without compression, or with Zstandard",
        false => "",
    };
    format!("cannot be read as Arrow: {text}{hint}")
}

/// The rows of a part of a record batch as JSON objects.
fn objects(batch: &RecordBatch) -> Result<Vec<String>, String> {
    let batch = &in_utc(batch).map_err(unreadable)?;
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(batch).and_then(|()| writer.finish()).map_err(unreadable)?;
    let text = String::from_utf8(writer.into_inner()).map_err(|error| error.to_string())?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// The batch with its points in time in UTC, in structs and lists too: names of time zones would need a table of them, and the time is
/// the same. Maps, dictionaries and lists of a fixed length stay as they are: with a zone in them a file is refused.
fn in_utc(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    if !batch.columns().iter().any(|column| has_zone(column.data_type())) {
        return Ok(batch.clone());
    }
    let columns = batch.schema_ref().fields().iter().zip(batch.columns());
    let columns: Vec<_> = columns
        .map(|(field, column)| Ok((field.name().clone(), without_zone(column)?, true)))
        .collect::<Result<_, ArrowError>>()?;
    RecordBatch::try_from_iter_with_nullable(columns)
}

/// Whether there are points in time with a zone, where [`without_zone`] finds them.
fn has_zone(kind: &DataType) -> bool {
    match kind {
        DataType::Timestamp(_, zone) => zone.is_some(),
        DataType::Struct(fields) => fields.iter().any(|field| has_zone(field.data_type())),
        DataType::List(field) | DataType::LargeList(field) => has_zone(field.data_type()),
        _ => false,
    }
}

fn without_zone(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    fn utc<T: ArrowTimestampType>(column: &ArrayRef) -> ArrayRef {
        Arc::new(column.as_primitive::<T>().clone().with_timezone("+00:00"))
    }
    fn list<O: OffsetSizeTrait>(column: &ArrayRef, field: &FieldRef) -> Result<ArrayRef, ArrowError> {
        let list = column.as_list::<O>();
        let values = without_zone(list.values())?;
        let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
        Ok(Arc::new(GenericListArray::try_new(holding(field, &values), offsets, values, nulls)?))
    }
    Ok(match column.data_type() {
        kind if !has_zone(kind) => Arc::clone(column),
        DataType::Struct(fields) => {
            let column = column.as_struct();
            let columns = column.columns().iter().map(without_zone).collect::<Result<Vec<_>, _>>()?;
            let fields = fields.iter().zip(&columns).map(|(field, column)| holding(field, column)).collect();
            Arc::new(StructArray::try_new(fields, columns, column.nulls().cloned())?)
        }
        DataType::List(field) => list::<i32>(column, field)?,
        DataType::LargeList(field) => list::<i64>(column, field)?,
        DataType::Timestamp(TimeUnit::Second, Some(_)) => utc::<TimestampSecondType>(column),
        DataType::Timestamp(TimeUnit::Millisecond, Some(_)) => utc::<TimestampMillisecondType>(column),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => utc::<TimestampMicrosecondType>(column),
        DataType::Timestamp(TimeUnit::Nanosecond, Some(_)) => utc::<TimestampNanosecondType>(column),
        _ => Arc::clone(column),
    })
}

/// The field with the type of what it holds now.
fn holding(field: &FieldRef, column: &ArrayRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(column.data_type().clone()))
}

#[cfg(test)]
mod tests;
