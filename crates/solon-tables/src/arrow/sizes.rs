//! How long rows become as text, measured before they are written.
//!
//! A value may be written many times: keys of a dictionary, runs and views name it in a few bytes each, and dictionaries of lists of keys of
//! dictionaries of lists multiply. So a walk goes where `arrow-json` would go, only adds up, and ends where a row has become too long. It
//! takes no memory, and less time than the writing.
//!
//! Sizes are what values take at least: a whole number is a digit with a comma, and what JSON escapes counts as it is. So a row that is
//! refused would be too long, and one that is not may take a dozen times its size for as long as it is written.

use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ListLikeArray, OffsetSizeTrait, RecordBatch, downcast_dictionary_array, downcast_run_array,
};
use arrow_buffer::ArrowNativeType;
use arrow_schema::DataType;

/// Bytes that a row may have, as `solon-data` has it (`MAX_LINE_BYTES`), and that rows may have which are text at once.
pub(super) const MAX_ROW_BYTES: u64 = 16 << 20;
/// Nulls and runs inside other values, for each of which `arrow-json` (60.1) takes a bit when it begins to write.
const MAX_BITS: u64 = 1 << 30;
/// A null with or without a comma.
const NULL: u64 = 4;
/// Quotes, brackets or braces.
const MARKS: u64 = 2;

/// How many of the first rows, at most `rows`, are text at once; 0 where the first row alone is too long.
///
/// # Errors
/// Where they cannot be written without too much memory.
pub(super) fn fitting(batch: &RecordBatch, rows: usize) -> Result<usize, String> {
    // A column itself is written as far as its rows go; what is inside it may be longer.
    let bits = batch.columns().iter().map(|column| bits_inside(column)).fold(0, u64::saturating_add);
    if bits > MAX_BITS {
        return Err(format!(
            "cannot be read as Arrow: lists with {bits} nulls or runs\nhint: write it in smaller batches"
        ));
    }
    let rows = batch.num_rows().min(rows);
    let mut left = MAX_ROW_BYTES;
    for row in 0..rows {
        let Some(rest) = after_row(batch, row, left) else { return Ok(row) };
        left = rest;
    }
    Ok(rows)
}

/// What a row leaves of so many bytes; None where it is longer.
fn after_row(batch: &RecordBatch, row: usize, left: u64) -> Option<u64> {
    let mut columns = batch.schema_ref().fields().iter().zip(batch.columns());
    columns.try_fold(left.checked_sub(MARKS)?, |left, (field, column)| {
        after(column, row, left.checked_sub(name(field.name()))?)
    })
}

/// What a value leaves of so many bytes; None where it is longer.
fn after(array: &dyn Array, at: usize, left: u64) -> Option<u64> {
    match array.is_null(at) {
        true => left.checked_sub(NULL),
        false => after_some(array, at, left),
    }
}

/// The same of a value that is not null, or is written as if it were not: a dictionary's value for a key.
fn after_some(array: &dyn Array, at: usize, left: u64) -> Option<u64> {
    let text = |bytes: usize| left.checked_sub(MARKS)?.checked_sub(bytes as u64);
    let hexadecimal = |bytes: usize| text(bytes.saturating_mul(2));
    match array.data_type() {
        DataType::Utf8 => text(array.as_string::<i32>().value_length(at).as_usize()),
        DataType::LargeUtf8 => text(array.as_string::<i64>().value_length(at).as_usize()),
        DataType::Utf8View => text(array.as_string_view().value(at).len()),
        DataType::Binary => hexadecimal(array.as_binary::<i32>().value_length(at).as_usize()),
        DataType::LargeBinary => hexadecimal(array.as_binary::<i64>().value_length(at).as_usize()),
        DataType::BinaryView => hexadecimal(array.as_binary_view().value(at).len()),
        DataType::FixedSizeBinary(_) => hexadecimal(array.as_fixed_size_binary().value(at).len()),
        DataType::List(_) => after_list(array.as_list::<i32>(), at, left),
        DataType::LargeList(_) => after_list(array.as_list::<i64>(), at, left),
        DataType::ListView(_) => after_list(array.as_list_view::<i32>(), at, left),
        DataType::LargeListView(_) => after_list(array.as_list_view::<i64>(), at, left),
        DataType::FixedSizeList(_, _) => after_list(array.as_fixed_size_list(), at, left),
        DataType::Struct(fields) => {
            let mut columns = fields.iter().zip(array.as_struct().columns());
            columns.try_fold(left.checked_sub(MARKS)?, |left, (field, column)| {
                after(column, at, left.checked_sub(name(field.name()))?)
            })
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            let offsets = map.value_offsets();
            let mut entries = offsets[at].as_usize()..offsets[at + 1].as_usize();
            entries.try_fold(left.checked_sub(MARKS)?, |left, entry| {
                after(map.values(), entry, after_some(map.keys(), entry, left)?)
            })
        }
        DataType::Dictionary(_, _) => downcast_dictionary_array! {
            array => match array.key(at) {
                Some(key) => after_some(array.values(), key, left),
                None => left.checked_sub(NULL),
            },
            _ => None
        },
        DataType::RunEndEncoded(_, _) => downcast_run_array! {
            array => after(array.values(), array.get_physical_index(at), left),
            _ => None
        },
        // Unions are refused by `arrow-json`.
        kind => left.checked_sub(scalar(kind)),
    }
}

fn after_list(list: &impl ListLikeArray, at: usize, left: u64) -> Option<u64> {
    let (values, mut range, left) = (list.values(), list.element_range(at), left.checked_sub(MARKS)?);
    match values.data_type() {
        kind if kind.is_primitive() || matches!(kind, DataType::Boolean | DataType::Null) => {
            left.checked_sub(scalar(kind).saturating_mul(range.len() as u64))
        }
        _ => range.try_fold(left, |left, at| after(values, at, left)),
    }
}

/// A value without others in it, with a comma: `0,` or `0.0,` or what is longer.
fn scalar(kind: &DataType) -> u64 {
    match kind.is_integer() || kind.is_decimal() {
        true => 2,
        false => 4,
    }
}

/// A name with its quotes and a colon.
fn name(name: &str) -> u64 {
    name.len() as u64 + 3
}

/// How many nulls and runs there are in an array and in what is inside it.
fn bits(array: &dyn Array) -> u64 {
    match array.data_type() {
        DataType::Null | DataType::RunEndEncoded(_, _) => {
            (array.len() as u64).saturating_add(bits_inside(array))
        }
        _ => bits_inside(array),
    }
}

fn bits_inside(array: &dyn Array) -> u64 {
    fn of_list<O: OffsetSizeTrait>(array: &dyn Array) -> u64 {
        bits(array.as_list::<O>().values())
    }
    match array.data_type() {
        DataType::List(_) => of_list::<i32>(array),
        DataType::LargeList(_) => of_list::<i64>(array),
        DataType::ListView(_) => bits(array.as_list_view::<i32>().values()),
        DataType::LargeListView(_) => bits(array.as_list_view::<i64>().values()),
        DataType::FixedSizeList(_, _) => bits(array.as_fixed_size_list().values()),
        DataType::Map(_, _) => bits(array.as_map().entries()),
        DataType::Struct(_) => {
            let columns = array.as_struct().columns().iter();
            columns.map(|column| bits(column)).fold(0, u64::saturating_add)
        }
        DataType::Dictionary(_, _) => bits(array.as_any_dictionary().values()),
        DataType::RunEndEncoded(_, _) => downcast_run_array! {
            array => bits(array.values()),
            _ => 0
        },
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::builder::StringViewBuilder;
    use arrow_array::types::Int8Type;
    use arrow_array::{
        ArrayRef, DictionaryArray, FixedSizeListArray, Int8Array, Int32Array, ListArray, ListViewArray,
        NullArray, RunArray, StringArray, UInt8Array,
    };
    use arrow_buffer::{Buffer, OffsetBuffer};
    use arrow_schema::Field;

    use super::super::objects;
    use super::super::tests::{of_every_kind, rows, stream_of};
    use super::*;

    const LONG: usize = 1 << 20;

    fn batch(column: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter([("a", column)]).unwrap()
    }

    fn items(values: &dyn Array) -> Arc<Field> {
        Arc::new(Field::new("item", values.data_type().clone(), true))
    }

    fn long_text() -> StringArray {
        StringArray::from(vec!["x".repeat(LONG)])
    }

    #[test]
    fn sizes_are_near_those_of_the_text() {
        let batch = of_every_kind();
        for (row, text) in objects(&batch).unwrap().iter().enumerate() {
            let (size, text_size) =
                (MAX_ROW_BYTES - after_row(&batch, row, MAX_ROW_BYTES).unwrap(), text.len() as u64);
            assert!(size <= 2 * text_size && text_size <= 2 * size, "{size} of {text_size}: {text}");
            assert_eq!(after_row(&batch, row, size), Some(0));
            assert_eq!(after_row(&batch, row, size - 1), None);
        }
    }

    /// A megabyte in a few bytes a row: as many rows are text at once as would be without that.
    #[test]
    fn rows_that_share_a_long_value_become_text_a_few_at_a_time() {
        let mut views = StringViewBuilder::new();
        let block = views.append_block(Buffer::from_vec(vec![b'x'; LONG]));
        (0..1000).for_each(|_| views.try_append_view(block, 0, LONG as u32).unwrap());
        let keys = Int8Array::from(vec![0; 1000]);
        let keyed = DictionaryArray::<Int8Type>::new(keys, Arc::new(long_text()));
        let runs = RunArray::try_new(&Int32Array::from(vec![1000]), &long_text()).unwrap();
        let numbers: ArrayRef = Arc::new(UInt8Array::from(vec![1; LONG / 2]));
        let (starts, sizes) = (vec![0; 1000], vec![LONG as i32 / 2; 1000]);
        let lists = ListViewArray::new(items(&numbers), starts.into(), sizes.into(), numbers, None);
        let columns: [ArrayRef; 4] =
            [Arc::new(views.finish()), Arc::new(keyed), Arc::new(runs), Arc::new(lists)];
        for column in columns {
            let batch = batch(column);
            assert_eq!(fitting(&batch, 1024).unwrap(), 15, "{}", batch.column(0).data_type());
            assert_eq!(fitting(&batch.slice(990, 10), 1024).unwrap(), 10);
            assert_eq!(fitting(&batch, 2).unwrap(), 2);
        }
    }

    #[test]
    fn rows_that_do_not_become_text_at_once_are_all_given() {
        let keys = Int8Array::from_iter((0..40).map(|row| (row % 3 > 0).then_some(0)));
        let keyed = DictionaryArray::<Int8Type>::new(keys, Arc::new(long_text()));
        let found = rows(&stream_of(&batch(Arc::new(keyed)))).unwrap();
        assert_eq!(found.len(), 40);
        for (row, text) in found.iter().enumerate() {
            assert_eq!(text.len(), if row % 3 > 0 { LONG + 8 } else { 10 }, "{row}");
        }
    }

    #[test]
    fn a_row_that_is_too_long_is_named_after_those_before_it() {
        let texts = StringArray::from(vec!["a".to_owned(), "b".to_owned(), "x".repeat(16 * LONG)]);
        let bytes = stream_of(&batch(Arc::new(texts)));
        let mut found = super::super::ArrowRows::new(std::path::Path::new("t.arrow"), bytes.as_slice());
        assert_eq!(found.next().unwrap().unwrap(), r#"{"a":"a"}"#);
        assert_eq!(found.next().unwrap().unwrap(), r#"{"a":"b"}"#);
        let error = found.next().unwrap().unwrap_err().to_string();
        assert_eq!(error, "t.arrow: row 3 is longer than 16 MiB as JSON; split it");
        assert!(found.next().is_none());
        // Columns that are one text.
        let text: ArrayRef = Arc::new(long_text());
        let columns = (0..17).map(|column| (column.to_string(), Arc::clone(&text)));
        assert_eq!(fitting(&RecordBatch::try_from_iter(columns).unwrap(), 1024).unwrap(), 0);
    }

    /// 100 lists of 100 lists of ... of one text, nine deep: longer than can be counted to.
    #[test]
    fn dictionaries_that_multiply_are_measured_as_far_as_a_row_goes() {
        let mut column: ArrayRef = Arc::new(StringArray::from(vec!["ab"]));
        for _ in 0..9 {
            let keyed: ArrayRef =
                Arc::new(DictionaryArray::<Int8Type>::new(Int8Array::from(vec![0; 100]), column));
            let offsets = OffsetBuffer::new(vec![0, 100].into());
            column = Arc::new(ListArray::new(items(&keyed), offsets, keyed, None));
        }
        assert_eq!(fitting(&batch(column), 1024).unwrap(), 0);
    }

    /// Of 8 megapixels, of which each takes a digit and a comma: 16 MB of JSON.
    #[test]
    fn no_row_is_refused_that_would_not_be_too_long() {
        let row = |pixels: usize| {
            let pixels: ArrayRef = Arc::new(UInt8Array::from(vec![0; pixels]));
            let width = i32::try_from(pixels.len()).unwrap();
            batch(Arc::new(FixedSizeListArray::new(items(&pixels), width, pixels, None)))
        };
        assert_eq!(fitting(&row(8_388_000), 1024).unwrap(), 1);
        assert_eq!(fitting(&row(8_389_000), 1024).unwrap(), 0);
        assert_eq!(objects(&row(1000)).unwrap()[0].len(), "{\"a\":[]}".len() + 2 * 1000 - 1);
    }

    #[test]
    fn nulls_inside_lists_that_are_not_written_are_bounded() {
        let nulls: ArrayRef = Arc::new(NullArray::new(MAX_BITS as usize));
        let offsets = OffsetBuffer::new(vec![0, 0].into());
        let lists: ArrayRef = Arc::new(ListArray::new(items(&nulls), offsets, nulls, None));
        assert_eq!(fitting(&batch(Arc::clone(&lists)), 1024).unwrap(), 1);
        let both = RecordBatch::try_from_iter([("a", Arc::clone(&lists)), ("b", lists)]).unwrap();
        assert!(fitting(&both, 1024).unwrap_err().contains("lists with 2147483648 nulls or runs"));
    }
}
