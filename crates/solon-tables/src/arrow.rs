//! Arrow: IPC streams, as `datasets` writes them, and IPC files.
//!
//! Contract: a file is a stream between two marks (Apache Arrow, "IPC File Format"), so both are read from start to end, from any reader. A
//! message is held no longer than its rows are wanted, and takes no more memory than there are bytes of it.
//!
//! Source: <https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc>.

use std::io::{Read, copy, sink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowTimestampType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_json::WriterBuilder;
use arrow_json::writer::LineDelimited;
use arrow_schema::{ArrowError, DataType, TimeUnit};

use crate::{TableError, guarded};

/// The mark at both ends of a file. Zeros follow the first, up to a border of 8 or 64 bytes.
const FILE: [u8; 8] = *b"ARROW1\0\0";
/// Before the length of each message, and before the zero that ends a stream.
const CONTINUATION: [u8; 4] = [0xff; 4];
const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// The rows of an Arrow stream or file, each as the text of a JSON object. After an error there are none.
pub struct ArrowRows<R> {
    path: PathBuf,
    /// None after the end, or after an error.
    reader: Option<R>,
    decoder: StreamDecoder,
    /// Rows of the last record batch that are still to be given, one on each line.
    lines: std::vec::IntoIter<String>,
}

impl<R: Read> ArrowRows<R> {
    /// The rows of what `reader` gives from its start; `path` is named in errors.
    pub fn new(path: &Path, reader: R) -> Self {
        let (decoder, lines) = (StreamDecoder::new(), Vec::new().into_iter());
        Self { path: path.to_owned(), reader: Some(reader), decoder, lines }
    }

    /// Reads up to the next record batch with rows, or to the end.
    fn batch(&mut self) -> Result<(), String> {
        while self.lines.len() == 0
            && let Some(reader) = &mut self.reader
        {
            let (message, is_last) = message(reader)?;
            let decoder = &mut self.decoder;
            let lines = guarded("Arrow", || {
                let mut lines = Vec::new();
                let mut buffer = Buffer::from_vec(message);
                while !buffer.is_empty() {
                    if let Some(batch) = decoder.decode(&mut buffer).map_err(unreadable)? {
                        lines.extend(objects(&batch)?);
                    }
                }
                if is_last {
                    decoder.finish().map_err(unreadable)?;
                }
                Ok(lines)
            })?;
            self.lines = lines.into_iter();
            if is_last {
                // A pipe's writer would fail if the footer of a file were not taken.
                copy(reader, &mut sink()).map_err(|error| error.to_string())?;
                self.reader = None;
            }
        }
        Ok(())
    }
}

impl<R: Read> Iterator for ArrowRows<R> {
    type Item = Result<String, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(reason) = self.batch() {
            self.reader = None;
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

/// The rows of a record batch as JSON objects.
fn objects(batch: &RecordBatch) -> Result<Vec<String>, String> {
    let batch = &in_utc(batch).map_err(unreadable)?;
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(batch).and_then(|()| writer.finish()).map_err(unreadable)?;
    let text = String::from_utf8(writer.into_inner()).map_err(|error| error.to_string())?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// The batch with its points in time in UTC: names of time zones would need a table of them, and the time is the same.
fn in_utc(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let has_zone = |column: &ArrayRef| matches!(column.data_type(), DataType::Timestamp(_, Some(_)));
    if !batch.columns().iter().any(has_zone) {
        return Ok(batch.clone());
    }
    let columns = batch.schema_ref().fields().iter().zip(batch.columns());
    RecordBatch::try_from_iter_with_nullable(
        columns.map(|(field, column)| (field.name().clone(), without_zone(column), true)),
    )
}

fn without_zone(column: &ArrayRef) -> ArrayRef {
    fn utc<T: ArrowTimestampType>(column: &ArrayRef) -> ArrayRef {
        Arc::new(column.as_primitive::<T>().clone().with_timezone("+00:00"))
    }
    match column.data_type() {
        DataType::Timestamp(TimeUnit::Second, Some(_)) => utc::<TimestampSecondType>(column),
        DataType::Timestamp(TimeUnit::Millisecond, Some(_)) => utc::<TimestampMillisecondType>(column),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => utc::<TimestampMicrosecondType>(column),
        DataType::Timestamp(TimeUnit::Nanosecond, Some(_)) => utc::<TimestampNanosecondType>(column),
        _ => Arc::clone(column),
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::builder::{ListBuilder, StringBuilder};
    use arrow_array::{Float64Array, Int64Array, StringArray, StructArray, TimestampMicrosecondArray};
    use arrow_ipc::CompressionType;
    use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
    use arrow_schema::Field;

    use super::*;

    /// Rows with a text, a list of structs, a number and a list of texts, with nulls among them.
    fn batch(first: i64) -> RecordBatch {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a\n\u{2028}\"ü"), None]));
        let fields = |name: &str| Arc::new(Field::new(name, DataType::Utf8, true));
        let turns = StructArray::from(vec![
            (fields("role"), Arc::new(StringArray::from(vec!["user", "assistant"])) as ArrayRef),
            (fields("content"), Arc::new(StringArray::from(vec!["Q", "A"])) as ArrayRef),
        ]);
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(first), Some(-1)]));
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.1 + 0.2, f64::NAN]));
        let mut lists = ListBuilder::new(StringBuilder::new());
        lists.append_value([Some("x"), None]);
        lists.append_null();
        let lists: ArrayRef = Arc::new(lists.finish());
        let columns =
            [("text", texts), ("turn", Arc::new(turns)), ("n", numbers), ("f", floats), ("list", lists)];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn expected(first: i64) -> [String; 2] {
        [
            r#"{"text":"a\n\u2028\"ü","turn":{"role":"user","content":"Q"},"n":N,"f":0.30000000000000004,"list":["x",null]}"#
                .replace("\\u2028", "\u{2028}")
                .replace('N', &first.to_string()),
            r#"{"text":null,"turn":{"role":"assistant","content":"A"},"n":-1,"f":null,"list":null}"#
                .to_owned(),
        ]
    }

    fn stream() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, &batch(1).schema()).unwrap();
        (1..=2).for_each(|n| writer.write(&batch(n)).unwrap());
        writer.finish().unwrap();
        drop(writer);
        bytes
    }

    fn file(compression: Option<CompressionType>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
        let mut writer = FileWriter::try_new_with_options(&mut bytes, &batch(1).schema(), options).unwrap();
        (1..=2).for_each(|n| writer.write(&batch(n)).unwrap());
        writer.finish().unwrap();
        drop(writer);
        bytes
    }

    fn rows(bytes: &[u8]) -> Result<Vec<String>, String> {
        ArrowRows::new(Path::new("t.arrow"), bytes)
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())
    }

    #[test]
    fn streams_and_files_give_the_same_objects() {
        let all = [expected(1), expected(2)].concat();
        let stream = stream();
        assert_eq!(rows(&stream).unwrap(), all);
        // The end of a stream may be left out.
        assert_eq!(rows(&stream[..stream.len() - 8]).unwrap(), all);
        assert_eq!(rows(&file(None)).unwrap(), all);
        assert_eq!(rows(&file(Some(CompressionType::ZSTD))).unwrap(), all);
        let mut empty = Vec::new();
        StreamWriter::try_new(&mut empty, &batch(1).schema()).unwrap().finish().unwrap();
        assert_eq!(rows(&empty).unwrap(), [""; 0]);
    }

    /// A column of times must not make a file unreadable whose other columns are wanted.
    #[test]
    fn times_with_a_zone_are_given_in_utc() {
        let times: ArrayRef = Arc::new(
            TimestampMicrosecondArray::from(vec![Some(1_500_000), None]).with_timezone("Europe/Berlin"),
        );
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        let batch = RecordBatch::try_from_iter([("at", times), ("text", texts)]).unwrap();
        let expected = [r#"{"at":"1970-01-01T00:00:01.500Z","text":"a"}"#, r#"{"at":null,"text":"b"}"#];
        assert_eq!(objects(&batch).unwrap(), expected);
    }

    #[test]
    fn what_is_cut_is_refused_wherever_it_is_cut() {
        let whole = stream();
        let mut fewer = 0;
        for end in 1..whole.len() - 8 {
            match rows(&whole[..end]) {
                Err(error) => {
                    assert!(error.starts_with("t.arrow: cannot be read as Arrow"), "{end}: {error}")
                }
                // Between two messages a stream may end.
                Ok(found) => {
                    assert!(found.len() < 4, "{end}");
                    fewer += 1;
                }
            }
        }
        assert_eq!(fewer, 2, "after the schema and after the first batch");
    }

    #[test]
    fn no_bytes_cause_a_panic() {
        for whole in [stream(), file(None), file(Some(CompressionType::ZSTD))] {
            for at in (0..whole.len()).step_by(3) {
                for flip in [0x01, 0x80] {
                    let mut damaged = whole.clone();
                    damaged[at] ^= flip;
                    let _ = rows(&damaged);
                }
            }
        }
        assert!(rows(b"ARROW1\0\0").is_err());
        assert!(rows(b"{\"a\": 1}\n").unwrap_err().contains("t.arrow: cannot be read as Arrow"));
    }
}
