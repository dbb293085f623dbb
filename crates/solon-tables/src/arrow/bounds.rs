//! What a message may unpack to, looked at before `arrow-ipc` decodes it.
//!
//! A batch is a list of arrays, of which each has a number of values (a node), and a list of buffers, which are ranges of the message's body.
//! Nothing keeps the ranges apart: forty columns may unpack one Zstandard frame of 30 kilobytes to a gigabyte each. And lists of nulls, of
//! structs without fields, and runs have as many values as a node says, in no bytes. `arrow-ipc` (60.1) makes room for all of it.
//!
//! Source: <https://arrow.apache.org/docs/format/Columnar.html#recordbatch-message>.

use arrow_ipc::{Buffer, MessageHeader, RecordBatch, root_as_message};
use arrow_schema::{DataType, Schema};

/// Bytes that any batch may unpack to.
const ANY: u64 = 64 << 20;
/// Bytes that a byte of a batch may unpack to, which only columns of equal values come near.
const RATIO: u64 = 1000;
/// Values that any array may have.
const VALUES: u64 = 1 << 20;
/// Values in a byte: a Boolean and whether a value is null take a bit.
const VALUES_PER_BYTE: u64 = 8;

/// Looks at the messages of one stream.
#[derive(Default)]
pub(super) struct Bounds {
    /// Of all dictionaries so far, as they stay in memory.
    dictionaries: Bytes,
}

/// How many bytes batches have when they are unpacked, and how many they may have for how long they are.
#[derive(Clone, Copy, Default)]
struct Bytes {
    unpacked: u64,
    most: u64,
}

impl Bounds {
    /// Looks at a message: its metadata, then its body.
    ///
    /// # Errors
    /// Where it would unpack to much more than its bytes can hold.
    pub(super) fn check(&mut self, message: &[u8], schema: Option<&Schema>) -> Result<(), String> {
        let header = root_as_message(message).map_err(|error| format!("cannot be read as Arrow: {error}"))?;
        let body = usize::try_from(header.bodyLength()).ok();
        let body = body.and_then(|body| message.get(message.len().checked_sub(body)?..)).unwrap_or_default();
        match header.header_type() {
            MessageHeader::RecordBatch => {
                let Some(batch) = header.header_as_record_batch() else { return Ok(()) };
                let bytes = Bytes::of(&batch, body);
                bytes.check()?;
                // Rows without content are given one by one, however many there are.
                let mut fields = schema.into_iter().flat_map(|schema| schema.fields());
                match fields.all(|field| *field.data_type() == DataType::Null) {
                    true => check_values(&batch, None),
                    false => check_values(&batch, Some(bytes.unpacked)),
                }
            }
            MessageHeader::DictionaryBatch => {
                let Some(dictionary) = header.header_as_dictionary_batch() else { return Ok(()) };
                let Some(batch) = dictionary.data() else { return Ok(()) };
                if dictionary.isDelta() && schema.is_some_and(|schema| has_views(schema, dictionary.id())) {
                    return Err("cannot be read as Arrow: a dictionary of list views is continued\n\
                        hint: write its lists as lists"
                        .to_owned());
                }
                let bytes = Bytes::of(&batch, body);
                self.dictionaries.unpacked = self.dictionaries.unpacked.saturating_add(bytes.unpacked);
                self.dictionaries.most = self.dictionaries.most.saturating_add(bytes.most);
                self.dictionaries.check()?;
                check_values(&batch, Some(bytes.unpacked))
            }
            _ => Ok(()),
        }
    }
}

impl Bytes {
    /// Those of one batch. A range that is named twice counts twice.
    fn of(batch: &RecordBatch<'_>, body: &[u8]) -> Self {
        let is_compressed = batch.compression().is_some();
        let buffers = batch.buffers().into_iter().flatten();
        let unpacked = buffers.map(|buffer| {
            let stored = u64::try_from(buffer.length()).unwrap_or(0);
            is_compressed.then(|| said(buffer, body)).flatten().unwrap_or(stored)
        });
        let ratio = if is_compressed { RATIO } else { 1 };
        let most = (body.len() as u64).saturating_mul(ratio);
        Self { unpacked: unpacked.fold(0, u64::saturating_add), most }
    }

    fn check(self) -> Result<(), String> {
        let most = self.most.max(ANY);
        match self.unpacked <= most {
            true => Ok(()),
            false => Err(format!(
                "cannot be read as Arrow: a batch would take {} bytes, more than {most}\nhint: write it in smaller batches",
                self.unpacked
            )),
        }
    }
}

/// The length that a compressed buffer begins with. None for what is stored as it is, and for what `arrow-ipc` will refuse.
fn said(buffer: &Buffer, body: &[u8]) -> Option<u64> {
    let start = usize::try_from(buffer.offset()).ok()?;
    let length = usize::try_from(buffer.length()).ok()?;
    let stored = body.get(start..start.checked_add(length)?)?;
    u64::try_from(i64::from_le_bytes(*stored.first_chunk()?)).ok()
}

/// Looks at how many values the arrays of a batch have, and whether so many bytes, where they are given, can hold them.
fn check_values(batch: &RecordBatch<'_>, bytes: Option<u64>) -> Result<(), String> {
    let lengths = batch.nodes().into_iter().flatten().map(|node| node.length());
    let mut lengths = lengths.chain([batch.length()]);
    if lengths.clone().any(|length| length < 0) {
        return Err("cannot be read as Arrow: an array has a negative length".to_owned());
    }
    let Some(bytes) = bytes else { return Ok(()) };
    let most = VALUES.saturating_add(bytes.saturating_mul(VALUES_PER_BYTE));
    match lengths.find(|length| length.unsigned_abs() > most) {
        None => Ok(()),
        Some(length) => Err(format!(
            "cannot be read as Arrow: an array of {length} values in a batch of {bytes} bytes\nhint: write it in smaller batches"
        )),
    }
}

/// Whether there are list views in a dictionary: where it is continued they are written out, and many may view the same values.
fn has_views(schema: &Schema, id: i64) -> bool {
    fn inside(kind: &DataType) -> bool {
        match kind {
            DataType::ListView(_) | DataType::LargeListView(_) => true,
            DataType::List(field)
            | DataType::LargeList(field)
            | DataType::FixedSizeList(field, _)
            | DataType::Map(field, _)
            | DataType::RunEndEncoded(_, field) => inside(field.data_type()),
            DataType::Struct(fields) => fields.iter().any(|field| inside(field.data_type())),
            DataType::Union(fields, _) => fields.iter().any(|(_, field)| inside(field.data_type())),
            DataType::Dictionary(_, values) => inside(values),
            _ => false,
        }
    }
    // As `arrow-ipc` finds the type of the values.
    #[expect(deprecated)]
    let fields = schema.fields_with_dict_id(id);
    fields.iter().any(|field| inside(field.data_type()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::types::Int8Type;
    use arrow_array::{
        Array, ArrayRef, BooleanArray, DictionaryArray, FixedSizeListArray, Int8Array, Int64Array,
        LargeListArray, ListViewArray, NullArray, RunArray, StringArray, StructArray,
    };
    use arrow_buffer::OffsetBuffer;
    use arrow_ipc::CompressionType;
    use arrow_ipc::writer::{DictionaryHandling, IpcWriteOptions, StreamWriter};
    use arrow_schema::Field;

    use super::super::message;
    use super::super::tests::{rows, stream_of};
    use super::*;

    fn batch(column: ArrayRef) -> arrow_array::RecordBatch {
        arrow_array::RecordBatch::try_from_iter([("a", column)]).unwrap()
    }

    fn items(values: &dyn Array) -> Arc<Field> {
        Arc::new(Field::new("item", values.data_type().clone(), true))
    }

    fn written(batches: &[arrow_array::RecordBatch], options: IpcWriteOptions) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer =
            StreamWriter::try_new_with_options(&mut bytes, &batches[0].schema(), options).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.finish().unwrap();
        drop(writer);
        bytes
    }

    fn zstd() -> IpcWriteOptions {
        IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD)).unwrap()
    }

    /// The second message of a stream, after its schema: its metadata and its body.
    fn second(stream: &[u8]) -> Vec<u8> {
        let mut reader = stream;
        message(&mut reader).unwrap();
        message(&mut reader).unwrap().0.split_off(8)
    }

    /// A length that buffers begin with, changed.
    fn saying(mut stream: Vec<u8>, from: i64, to: i64) -> Vec<u8> {
        let places: Vec<usize> =
            (0..stream.len() - 8).filter(|at| stream[*at..*at + 8] == from.to_le_bytes()).collect();
        assert!(!places.is_empty());
        places.iter().for_each(|at| stream[*at..*at + 8].copy_from_slice(&to.to_le_bytes()));
        stream
    }

    #[test]
    fn values_that_take_no_bytes_are_bounded() {
        const MANY: usize = 1 << 40;
        let structs: ArrayRef = Arc::new(StructArray::new_empty_fields(MANY, None));
        let nulls: ArrayRef = Arc::new(NullArray::new(MANY));
        let list = |values: &ArrayRef| -> ArrayRef {
            let offsets = OffsetBuffer::new(vec![0, MANY as i64].into());
            Arc::new(LargeListArray::new(items(values), offsets, Arc::clone(values), None))
        };
        let length = i32::MAX;
        let fixed: ArrayRef = Arc::new(NullArray::new(length as usize));
        let fixed: ArrayRef = Arc::new(FixedSizeListArray::new(items(&fixed), length, fixed, None));
        let runs = RunArray::try_new(&Int64Array::from(vec![MANY as i64]), &StringArray::from(vec!["a"]));
        let runs: ArrayRef = Arc::new(runs.unwrap());
        for column in [list(&structs), list(&nulls), fixed, structs, runs] {
            let kind = column.data_type().clone();
            let bytes = stream_of(&batch(column));
            assert!(bytes.len() < 2000);
            let error = rows(&bytes).unwrap_err();
            assert!(error.contains("t.arrow: cannot be read as Arrow: an array of "), "{kind}: {error}");
        }
    }

    #[test]
    fn negative_lengths_are_refused() {
        for column in [Arc::new(NullArray::new(7777)) as ArrayRef, Arc::new(Int64Array::from(vec![0; 7777]))]
        {
            let stream = stream_of(&batch(column));
            assert_eq!(rows(&stream).unwrap().len(), 7777);
            let error = rows(&saying(stream, 7777, -1)).unwrap_err();
            assert!(error.contains("an array has a negative length"), "{error}");
        }
    }

    #[test]
    fn buffers_that_say_they_unpack_to_gigabytes_are_refused() {
        let zeros: ArrayRef = Arc::new(Int64Array::from(vec![0; 1000]));
        let columns = [("a", Arc::clone(&zeros)), ("b", zeros)];
        let batch = arrow_array::RecordBatch::try_from_iter(columns).unwrap();
        let stream = written(&[batch], zstd());
        assert_eq!(rows(&stream).unwrap()[999], r#"{"a":0,"b":0}"#);
        for length in [i64::MAX, 1 << 40, (50 << 20) + 1] {
            let error = rows(&saying(stream.clone(), 8000, length)).unwrap_err();
            assert!(error.contains("a batch would take "), "{length}: {error}");
        }
        // What both together may take is unpacked, and is not as long as it says.
        let error = rows(&saying(stream, 8000, 25 << 20)).unwrap_err();
        assert!(error.contains("Expected decompressed length"), "{error}");
    }

    /// Of equal values a compressed batch may have many in few bytes.
    #[test]
    fn values_are_counted_against_bytes_that_are_unpacked() {
        let many: ArrayRef = Arc::new(BooleanArray::from(vec![false; 3 << 20]));
        let batch = batch(many);
        let stream = written(std::slice::from_ref(&batch), zstd());
        assert!(stream.len() < 2000);
        Bounds::default().check(&second(&stream), Some(&batch.schema())).unwrap();
    }

    #[test]
    fn dictionaries_are_bounded_together() {
        let values = Int64Array::from(vec![0; 1000]);
        let keys = Int8Array::from(vec![0]);
        let batch = batch(Arc::new(DictionaryArray::new(keys, Arc::new(values))));
        let stream = saying(written(&[batch], zstd()), 8000, 50 << 20);
        let (message, mut bounds) = (second(&stream), Bounds::default());
        bounds.check(&message, None).unwrap();
        let error = bounds.check(&message, None).unwrap_err();
        assert!(error.contains("would take 104857"), "{error}");
    }

    #[test]
    fn a_dictionary_of_list_views_is_not_continued() {
        let batch = |lists: i32| {
            let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
            let views: Vec<i32> = (0..lists).map(|at| at % 2).collect();
            let sizes = vec![1; lists as usize];
            let values = ListViewArray::new(items(&numbers), views.into(), sizes.into(), numbers, None);
            let last = Int8Array::from(vec![lists as i8 - 1]);
            batch(Arc::new(DictionaryArray::<Int8Type>::new(last, Arc::new(values))))
        };
        assert_eq!(rows(&stream_of(&batch(2))).unwrap(), [r#"{"a":[2]}"#]);
        let options = IpcWriteOptions::default().with_dictionary_handling(DictionaryHandling::Delta);
        let error = rows(&written(&[batch(1), batch(2)], options)).unwrap_err();
        assert!(error.contains("a dictionary of list views is continued"), "{error}");
    }
}
