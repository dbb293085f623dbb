use super::*;

/// The places and the texts in `name` of all rows of a file with these bytes; or the error without the folder's name.
fn read_as(
    file: &str,
    bytes: &[u8],
    column: &str,
) -> Result<(FileFormat, Vec<(Place, Option<String>)>), String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(file);
    std::fs::write(&path, bytes).unwrap();
    let mut rows = Vec::new();
    let read = read_rows(&path, &mut |mut row| {
        let place = row.place;
        rows.push((place, row.get(column).map_err(|fault| place.fault(&path, fault))?));
        Ok(())
    });
    let shown = format!("{}/", folder.path().display());
    read.map(|(format, _)| (format, rows)).map_err(|error| error.to_string().replace(&shown, ""))
}

fn read(file: &str, text: &str) -> Result<(FileFormat, Vec<(Place, Option<String>)>), String> {
    read_as(file, text.as_bytes(), "a")
}

fn at(line: usize, text: &str) -> (Place, Option<String>) {
    (Place::Line(line), Some(text.to_owned()))
}

/// Rows of one file of JSON records.
fn records(rows: [(usize, &str); 2]) -> Vec<(Place, Option<String>)> {
    let place =
        |(row, (line, text)): (usize, (usize, &str))| (Place::Record { row, line }, Some(text.to_owned()));
    (1..).zip(rows).map(place).collect()
}

#[test]
fn the_same_rows_are_read_from_every_kind_of_json() {
    for (text, format, lines) in [
        ("\u{feff}{\"a\":\"x\"}\r\n\n{\"a\":\"y\"}", FileFormat::JsonLines, [1, 3]),
        ("[{\"a\":\"x\"},{\"a\":\"y\"}]", FileFormat::JsonArray, [1, 1]),
        ("\u{feff}\n[\n  {\n    \"a\": \"x\"\n  },\n  {\"a\": \"y\"}\n]\n", FileFormat::JsonArray, [3, 6]),
        ("{\n  \"a\": \"x\"\n}\n{\n  \"a\": \"y\"\n}", FileFormat::IndentedJson, [1, 4]),
        ("a,b\nx,1\ny,", FileFormat::JsonLines, [0, 0]),
    ] {
        // The name does not matter where the content speaks.
        for name in ["f.jsonl", "f.json", "f", "f.csv"] {
            let expected = match text.starts_with("a,b") {
                // A text whose name says nothing is a table.
                true if ["f.csv", "f"].contains(&name) => Ok((FileFormat::Csv, vec![at(2, "x"), at(3, "y")])),
                true => Err(()),
                false if format == FileFormat::JsonLines => {
                    Ok((format, vec![at(lines[0], "x"), at(lines[1], "y")]))
                }
                false => Ok((format, records([(lines[0], "x"), (lines[1], "y")]))),
            };
            assert_eq!(read(name, text).map_err(|_| ()), expected, "{name}: {text}");
        }
    }
    assert_eq!(read("f.json", "[]").unwrap(), (FileFormat::JsonArray, vec![]));
    assert_eq!(read("f.json", " \n").unwrap(), (FileFormat::JsonLines, vec![]));
}

#[test]
fn a_file_may_be_compressed_whatever_its_name() {
    let text = b"[{\"a\":\"x\"},\n{\"a\":\"y\"}]";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, text).unwrap();
    let expected = records([(1, "x"), (2, "y")]);
    for bytes in [gzip.finish().unwrap(), zstd::encode_all(&text[..], 3).unwrap()] {
        for name in ["f.json", "f.json.gz", "f.json.zst"] {
            assert_eq!(read_as(name, &bytes, "a").unwrap().1, expected);
        }
        let cut = read_as("f.json", &bytes[..bytes.len() - 6], "a").unwrap_err();
        assert!(cut.contains("f.json"), "{cut}");
    }
    let row = format!("{{\"a\":\"x\",\"b\":\"{}\"}}\n", " ".repeat(1000));
    let bomb = zstd::encode_all(row.repeat(20_000).as_bytes(), 3).unwrap();
    let error = read_as("f.jsonl.zst", &bomb, "a").expect_err("a bomb");
    assert!(error.contains("it unpacks to more than 1000 times its size"), "{error}");
    let table = zstd::encode_all(&b"a\nx\n"[..], 3).unwrap();
    assert_eq!(read_as("f.csv.zst", &table, "a").unwrap(), (FileFormat::Csv, vec![at(2, "x")]));
}

#[test]
fn faults_name_line_column_and_field() {
    let check = |text: &str, expected: &str| {
        let error = read("f", text).unwrap_err();
        assert!(error.starts_with(&format!("f:{expected}")), "{text}: {error}");
    };
    check(
        "{\"a\":\"x\"}\n{\"a\":3}",
        "2: field `a`: invalid type: integer `3`, expected a string (column 6)",
    );
    check(
        "[{\"a\":\"x\"}, {\"a\":3}]",
        "1: field `a`: invalid type: integer `3`, expected a string (column 18)",
    );
    check(
        "[\n {\"b\":1},\n {\n  \"a\": 3}]",
        "4: field `a`: invalid type: integer `3`, expected a string (column 8)",
    );
    check("{\n \"a\":\n  3}", "3: field `a`: invalid type");
    check("{\n \"a\": \"x\",\n \"b\" 1\n}", "3: ");
    check("{\"a\":\"x\"}\n{\"a\":\"y", "2: EOF while parsing a string");
    check("{\"a\":\"x\",\"b\":[1,,]}", "1: field `b[1]`: expected value");
    check("[{\"a\":\"x\"} {}]", "1: a comma is missing between two records (column 12)");
    check("[{\"a\":\"x\"},\n]", "2: a record is missing");
    check("[{\"a\":\"x\"},\n", "2: the array is not closed");
    check("[{}] []", "1: something follows after the end");
    check("[{\"a\":\"x\n\"}]", "1: ");
    check("[1]", "1: `1` is no row; each row must be an object");
    check("\"a\"", "1: `\"a\"` is no row");
    check("{\"a\":\"x\",\"a\":\"y\"}", "1: field `a` is there twice");
    let error = read_as("f", b"[{\"a\":\"x\"},\n{\"a\":\"\xff\"}]", "a").unwrap_err();
    assert_eq!(error, "f:2: in the record that begins here, byte 7 is not UTF-8; save the file as UTF-8");
}

#[test]
fn what_python_writes_for_no_number_matters_only_where_it_is_used() {
    for value in ["NaN", "Infinity", "-Infinity", "[1,{\"c\":-Infinity}]"] {
        assert_eq!(read("f", &format!("{{\"b\":{value},\"a\":\"x\"}}")).unwrap().1, [at(1, "x")], "{value}");
    }
    for value in ["NaN", "Infinity", "-Infinity"] {
        let error = read("f", &format!("{{\"a\":{value}}}")).unwrap_err();
        assert!(error.starts_with(&format!("f:1: field `a`: {value} is no JSON value")), "{error}");
    }
    // A text that says so is a text.
    assert_eq!(read("f", "{\"a\":\"NaN\"}").unwrap().1, [at(1, "NaN")]);
}

#[test]
fn half_a_character_matters_only_where_it_is_used() {
    for half in [r"\ud83d", r"\ude00", r"\ud83d x", r"\ud83d\n"] {
        assert_eq!(read("f", &format!("{{\"b\":\"{half}\",\"a\":\"x\"}}")).unwrap().1, [at(1, "x")]);
        let error = read("f", &format!("{{\"a\":\"{half}\"}}")).unwrap_err();
        assert!(error.starts_with("f:1: field `a`: the text holds half a character"), "{error}");
    }
    assert_eq!(read("f", r#"{"a":"\ud83d\ude00"}"#).unwrap().1, [at(1, "😀")]);
}

#[test]
fn other_files_are_named_with_a_way_out() {
    for (bytes, expected) in [
        (&b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"[..], "`git lfs pull`"),
        (b"ARROW1\0\0and then nothing", "cannot be read as Arrow"),
        (b"\xff\xff\xff\xffp\0\0\0", "cannot be read as Arrow: the end of the file is missing"),
        (b"PK\x03\x04", "is a zip archive"),
        (b"<!DOCTYPE html>", "is a web page"),
        (b"PAR1 and then nothing", "cannot be read as Parquet"),
        (b"PARE and then nothing", "is an encrypted Parquet file"),
    ] {
        for name in ["f.jsonl", "f.parquet", "f.csv"] {
            let error = read_as(name, bytes, "a").unwrap_err();
            assert!(error.starts_with(name) && error.contains(expected), "{error}");
        }
    }
}

#[test]
fn what_may_be_given_is_said_of_a_text_that_is_no_data() {
    // As Windows writes it: UTF-16.
    let error = read_as("f.jsonl", b"\xff\xfe{\0}\0", "a").unwrap_err();
    assert!(error.contains("is not UTF-8") && !error.contains("plain text"), "{error}");
    let error = read("f.txt", "Once upon a time").unwrap_err();
    assert!(
        error.starts_with("f.txt:1: this is plain text") && error.contains("hint: data is JSON Lines"),
        "{error}"
    );
}

#[test]
fn cells_are_texts_unless_their_column_must_be_something_else() {
    fn cell<T: serde::de::DeserializeOwned>(cell: &str) -> Result<Option<T>, String> {
        let texts = serde_json::Map::from_iter([("a".to_owned(), cell.into())]);
        let mut row = Row::from_texts(Place::Line(2), texts).unwrap();
        row.given("a").map_err(|fault| fault.message)
    }
    assert_eq!(cell::<String>("3"), Ok(Some("3".into())));
    assert_eq!(cell::<String>("[1]"), Ok(Some("[1]".into())));
    assert_eq!(cell::<f64>("0.5"), Ok(Some(0.5)));
    assert_eq!(cell::<bool>("True"), Ok(Some(true)));
    assert_eq!(cell::<Vec<u8>>("[1, 2]"), Ok(Some(vec![1, 2])));
    assert_eq!((cell::<f64>(""), cell::<String>("")), (Ok(None), Ok(None)));
    assert_eq!(cell::<f64>("half"), Err("field `a`: invalid type: string \"half\", expected f64".into()));
    assert_eq!(
        cell::<Vec<u8>>("[1, -2]"),
        Err("field `a`: the cell, read as JSON: field `[1]`: invalid value: integer `-2`, expected u8".into())
    );
    let python = cell::<Vec<u8>>("[{'role': 'user', 'content': 'x'}]").unwrap_err();
    assert!(python.contains("a list as Python writes it"), "{python}");
}

#[test]
fn tables_are_read_with_their_true_lines() {
    let text = "\u{feff}a,b\r\n\"x, \"\"y\"\"\nz\",1\r\n\r\nw,\r\n";
    let (format, rows) = read("f.csv", text).unwrap();
    assert_eq!(format, FileFormat::Csv);
    assert_eq!(rows, [at(2, "x, \"y\"\nz"), at(5, "w")]);
    let check = |text: &[u8], expected: &str| {
        let error = read_as("f.csv", text, "a").unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    };
    check(b"a,b\nx,1\ny\n", "f.csv:3: has 1 cells, the header has 2");
    check(b"a;b\nx;1\n", "f.csv:1: the columns are separated by semicolons");
    check(&[&[b'x'; 1 << 12], &b"y,a\n"[..]].concat(), "f.csv:1: the name of column 1 has 4097 bytes");
    check(b"a,a\nx,1\n", "f.csv:1: column 2 has the name `a`");
    check(b"a,b\nx,1\n\xff,1\n", "f.csv:3: is not UTF-8");
    let open = [b"a,b\n\"".to_vec(), vec![b'x'; 18 << 20]].concat();
    check(&open, "f.csv:2: the record is longer than 16 MiB");
}

#[test]
fn a_record_over_the_limit_is_refused_in_every_format() {
    let long = "x".repeat(17 << 20);
    for (name, text) in [
        ("f.jsonl", format!("{{\"a\":\"{long}\"}}")),
        ("f.json", format!("[{{\"a\":\"{long}\"}}]")),
        ("f.json", format!("{{\n\"a\":\"{long}\"}}")),
        ("f.csv", format!("a\n{long}\n")),
    ] {
        let error = read(name, &text).unwrap_err();
        assert!(error.contains("16 MiB"), "{error}");
    }
    // Many records in one line are no long record.
    let many = format!("[{}]", vec![format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20)); 18].join(","));
    assert_eq!(read("f.json", &many).unwrap().1.len(), 18);
}

/// Looking for a name among all earlier ones would take minutes here.
#[test]
fn a_table_may_have_many_columns() {
    let names: Vec<String> = (0..400_000).map(|column| format!("c{column}")).collect();
    let (first, rest) = (names[0].as_str(), names[1..].join(","));
    let rows = read_as("f.csv", format!("{first},{rest}\n").as_bytes(), first).unwrap().1;
    assert!(rows.is_empty());
    let error = read("f.csv", &format!("{first},{rest},{first}\n")).unwrap_err();
    assert!(error.starts_with("f.csv:1: column 400001 has the name `c0` of an earlier one"), "{error}");
}

#[test]
fn no_bytes_cause_a_panic() {
    let samples: [&[u8]; 6] = [
        b"{\"a\":\"x\\ud83d\",\"b\":[NaN,{\"c\":-Infinity}]}\n{\"a\":null}",
        b"[{\"a\":\"x\"},\n {\n\"a\":[1,2]}]",
        b"{\n\"a\":\"x\"\n}\n{\n}",
        b"a,b\n\"x\",1\n",
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
        b"\x28\xb5\x2f\xfd\x04\x00\x41\x00\x00[{}]",
    ];
    for sample in samples {
        for at in 0..sample.len() {
            let _ = read_as("f.csv", &sample[..at], "a");
            for byte in [0x22, 0x5c, 0x7d, 0xff] {
                let mut damaged = sample.to_vec();
                damaged[at] = byte;
                let _ = read_as("f.csv", &damaged, "a");
            }
        }
    }
    let deep = "[".repeat(1 << 20);
    assert!(read("f", &deep).is_err());
    assert!(read("f", &format!("{{\"a\":{deep}")).is_err());
    let closed = format!("{{\"b\":{deep}{},\"a\":\"x\"}}", "]".repeat(1 << 20));
    assert_eq!(read("f", &closed).unwrap().1, [at(1, "x")]);
}
