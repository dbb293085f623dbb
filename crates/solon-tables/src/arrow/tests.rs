use arrow_array::builder::{Int64Builder, ListBuilder, MapBuilder, StringBuilder};
use arrow_array::types::Int8Type;
use arrow_array::{
    BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, FixedSizeListArray, Float64Array,
    Int8Array, Int32Array, Int64Array, ListViewArray, NullArray, RecordBatchOptions, RunArray, StringArray,
    StringViewArray, TimestampMicrosecondArray, UnionArray,
};
use arrow_buffer::OffsetBuffer;
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use arrow_schema::{Field, Schema, UnionFields};

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

pub(super) fn rows(bytes: &[u8]) -> Result<Vec<String>, String> {
    ArrowRows::new(Path::new("t.arrow"), bytes).collect::<Result<_, _>>().map_err(|error| error.to_string())
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
    let times: ArrayRef =
        Arc::new(TimestampMicrosecondArray::from(vec![Some(1_500_000), None]).with_timezone("Europe/Berlin"));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let batch = RecordBatch::try_from_iter([("at", times), ("text", texts)]).unwrap();
    let expected = [r#"{"at":"1970-01-01T00:00:01.500Z","text":"a"}"#, r#"{"at":null,"text":"b"}"#];
    assert_eq!(objects(&batch).unwrap(), expected);
}

#[test]
fn times_inside_structs_and_lists_are_given_in_utc_too() {
    let times: ArrayRef =
        Arc::new(TimestampMicrosecondArray::from(vec![Some(1_500_000), None]).with_timezone("Europe/Berlin"));
    let field = |name: &str, column: &ArrayRef| Arc::new(Field::new(name, column.data_type().clone(), true));
    let turns: ArrayRef = Arc::new(StructArray::from(vec![(field("at", &times), times)]));
    let list =
        |offsets| GenericListArray::<i32>::new(field("item", &turns), offsets, Arc::clone(&turns), None);
    let list: ArrayRef = Arc::new(list(OffsetBuffer::new(vec![0, 0, 2].into())));
    let batch = RecordBatch::try_from_iter([("turn", Arc::clone(&turns)), ("turns", list)]).unwrap();
    let expected = [
        r#"{"turn":{"at":"1970-01-01T00:00:01.500Z"},"turns":[]}"#,
        r#"{"turn":{"at":null},"turns":[{"at":"1970-01-01T00:00:01.500Z"},{"at":null}]}"#,
    ];
    assert_eq!(objects(&batch).unwrap(), expected);
    // A part of it, whose lists do not begin with the first item.
    assert_eq!(objects(&batch.slice(1, 1)).unwrap(), expected[1..]);
}

pub(super) fn stream_of(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    bytes
}

/// Two rows with a column of each kind that has values in it, or shares them.
pub(super) fn of_every_kind() -> RecordBatch {
    let items = |values: &ArrayRef| Arc::new(Field::new("item", values.data_type().clone(), true));
    let mut lists = ListBuilder::new(ListBuilder::new(Int64Builder::new()));
    lists.append_value([Some(vec![Some(1), None]), None, Some(vec![])]);
    lists.append_null();
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["one", "two"]));
    let keys = |keys: Vec<Option<i8>>| Int8Array::from(keys);
    let keyed: ArrayRef =
        Arc::new(DictionaryArray::<Int8Type>::new(keys(vec![Some(1), None]), Arc::clone(&texts)));
    let runs: ArrayRef = Arc::new(RunArray::try_new(&Int32Array::from(vec![1, 2]), &texts).unwrap());
    let run_of_nulls = RunArray::try_new(&Int32Array::from(vec![2]), &Int64Array::from(vec![None]));
    let views: ArrayRef =
        Arc::new(StringViewArray::from(vec![Some("a text that is longer than a view"), None]));
    let list_views: ArrayRef = Arc::new(ListViewArray::new(
        items(&keyed),
        vec![1, 0].into(),
        vec![1, 2].into(),
        Arc::clone(&keyed),
        None,
    ));
    let fixed: ArrayRef = Arc::new(FixedSizeListArray::new(items(&runs), 1, Arc::clone(&runs), None));
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    maps.keys().append_value("k");
    maps.values().append_value(7);
    maps.keys().append_value("l");
    maps.values().append_null();
    maps.append(true).unwrap();
    maps.append(false).unwrap();
    let columns: [(&str, ArrayRef); 12] = [
        ("lists", Arc::new(lists.finish())),
        ("keyed", keyed),
        ("runs", runs),
        ("run_of_nulls", Arc::new(run_of_nulls.unwrap())),
        ("views", views),
        ("list_views", list_views),
        ("fixed", fixed),
        ("maps", Arc::new(maps.finish())),
        ("bytes", Arc::new(BinaryArray::from_opt_vec(vec![Some(b"\x01\xff"), None]))),
        ("fixed_bytes", Arc::new(FixedSizeBinaryArray::try_from_iter([b"ab", b"cd"].iter()).unwrap())),
        ("is", Arc::new(BooleanArray::from(vec![true, false]))),
        ("none", Arc::new(NullArray::new(2))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

#[test]
fn values_of_every_kind_are_what_they_are_in_json() {
    let expected = [
        r#"{"lists":[[1,null],null,[]],"keyed":"two","runs":"one","run_of_nulls":null,"#.to_owned()
            + r#""views":"a text that is longer than a view","list_views":[null],"fixed":["one"],"#
            + r#""maps":{"k":7,"l":null},"bytes":"01ff","fixed_bytes":"6162","is":true,"none":null}"#,
        r#"{"lists":null,"keyed":null,"runs":"two","run_of_nulls":null,"#.to_owned()
            + r#""views":null,"list_views":["two",null],"fixed":["two"],"#
            + r#""maps":null,"bytes":null,"fixed_bytes":"6364","is":false,"none":null}"#,
    ];
    assert_eq!(rows(&stream_of(&of_every_kind())).unwrap(), expected);
    assert_eq!(objects(&of_every_kind()).unwrap(), expected);
    // JSON has no name for which member of a union it is.
    let member: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let fields = [(0, Arc::new(Field::new("n", DataType::Int64, true)))];
    let union = UnionArray::try_new(UnionFields::from_iter(fields), vec![0].into(), None, vec![member]);
    let union = RecordBatch::try_from_iter([("u", Arc::new(union.unwrap()) as ArrayRef)]).unwrap();
    assert!(rows(&stream_of(&union)).unwrap_err().contains("Unsupported data type for JSON"));
}

#[test]
fn a_long_batch_is_given_whole_and_in_order() {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..2 * ROWS as i64 + 1));
    let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
    let expected: Vec<String> = (0..=2 * ROWS).map(|n| format!("{{\"n\":{n}}}")).collect();
    assert_eq!(rows(&stream_of(&batch)).unwrap(), expected);
}

/// As text these would take all memory.
#[test]
fn any_number_of_rows_without_content_is_given_one_by_one() {
    const MANY: usize = 1 << 40;
    let nulls: ArrayRef = Arc::new(NullArray::new(MANY));
    let nulls = RecordBatch::try_from_iter([("none", nulls)]).unwrap();
    let options = RecordBatchOptions::new().with_row_count(Some(MANY));
    let empty = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options).unwrap();
    for (batch, expected) in [(nulls, r#"{"none":null}"#), (empty, "{}")] {
        let bytes = stream_of(&batch);
        assert!(bytes.len() < 1000);
        let found = ArrowRows::new(Path::new("t.arrow"), bytes.as_slice()).take(2 * ROWS);
        assert!(found.map(Result::unwrap).all(|row| row == expected));
    }
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
