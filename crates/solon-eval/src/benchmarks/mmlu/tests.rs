//! Questions as the harnesses put them, answers as they judge them, and files that do not fit.

use super::*;
use crate::benchmarks::tests::{describes_itself_consistently, shared_data};
use crate::{Judged, summarise};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::fs;
use std::sync::Arc;

const HEADER: &str = "question,choice0,choice1,choice2,choice3,answer\n";
const TEST: &str = "\" Which is, of these, a bone?\",The femur,The liver,\"The \"\"iris\"\"\",A vein,0\nWhat beats?,Bone,Heart,Skin,Hair,B\n";
const DEV: &str = "What sees?,Eye,Ear,Nose,Toe,A\nWhat hears?,Eye,Ear,Nose,Toe,B\n";

fn folder(test: &str, dev: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (split, text) in [("test", test), ("dev", dev)] {
        fs::create_dir(folder.path().join(split)).unwrap();
        fs::write(folder.path().join(format!("{split}/anatomy_{split}.csv")), text).unwrap();
    }
    folder
}

fn settings(json: serde_json::Value) -> Settings {
    let mut settings = json.as_object().unwrap().clone();
    settings.entry("subjects").or_insert(vec!["anatomy"].into());
    settings
}

fn opened(folder: &tempfile::TempDir, keys: serde_json::Value) -> Box<dyn Benchmark> {
    open(folder.path(), settings(keys)).unwrap()
}

#[test]
fn questions_are_put_as_the_harnesses_put_them() {
    let folder = folder(TEST, DEV);
    let asked = |keys: serde_json::Value| {
        let item = opened(&folder, keys).items()[0].clone();
        let context: Vec<String> = item.messages.iter().map(|m| m.content.clone()).collect();
        (context.concat(), item.options, item.id, item.messages)
    };
    let letters = "The following are multiple choice questions (with answers) about anatomy.\n\n";
    let question =
        "Which is, of these, a bone?\nA. The femur\nB. The liver\nC. The \"iris\"\nD. A vein\nAnswer:";
    let (context, options, id, _) = asked(serde_json::json!({"template": false}));
    assert_eq!((context.as_str(), id.as_str()), (format!("{letters}{question}").as_str(), "anatomy/0"));
    assert_eq!(options, [" A", " B", " C", " D"]);
    let (context, options, ..) = asked(serde_json::json!({"shots": 2, "template": false}));
    let shots = "What sees?\nA. Eye\nB. Ear\nC. Nose\nD. Toe\nAnswer: A\n\nWhat hears?\nA. Eye\nB. Ear\nC. Nose\nD. Toe\nAnswer: B\n\n";
    assert_eq!((context, options.len()), (format!("{letters}{shots}{question}"), 4));
    // In a template: the system's message, an example as a turn, the question.
    let (_, options, _, messages) = asked(serde_json::json!({"shots": 1}));
    let example = "What sees?\nA. Eye\nB. Ear\nC. Nose\nD. Toe\nAnswer:";
    let turns =
        [Message::system(letters), Message::user(example), Message::assistant("A"), Message::user(question)];
    assert_eq!((messages, options), (turns.to_vec(), LETTERS.map(str::to_owned).to_vec()));
    let (context, options, ..) =
        asked(serde_json::json!({"format": "continuation", "shots": 1, "template": false}));
    assert_eq!(
        context,
        "The following are questions (with answers) about anatomy.\n\nQuestion: What sees?\nAnswer: Eye\n\n\
         Question: Which is, of these, a bone?\nAnswer:"
    );
    assert_eq!(options, [" The femur", " The liver", " The \"iris\"", " A vein"]);
    let (context, _, _, messages) = asked(serde_json::json!({"format": "cloze"}));
    assert_eq!(messages.len(), 1);
    // lighteval leaves the question as it is.
    assert_eq!(
        context,
        "The following are questions about anatomy.\nQuestion:  Which is, of these, a bone?\nAnswer:"
    );
}

#[test]
fn a_header_and_numbers_are_the_same_as_letters() {
    let (plain, headed) =
        (folder(TEST, DEV), folder(&format!("{HEADER}{}", TEST.replace(",B\n", ",1\n")), DEV));
    let (plain, headed) = (opened(&plain, serde_json::json!({})), opened(&headed, serde_json::json!({})));
    assert_eq!(plain.items(), headed.items());
    assert_eq!(plain.items().iter().map(|item| item.right[0]).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(opened(&folder(TEST, DEV), serde_json::json!({"limit": 1})).items().len(), 1);
}

/// Rows of (subject, question, choices, answer) as the Hub's copy of MMLU has them.
fn parquet(path: &Path, rows: &[(&str, &str, [&str; 4], i64)]) {
    let texts = |texts: Vec<&str>| texts.into_iter().map(ByteArray::from).collect::<Vec<_>>();
    let schema = "message schema { optional binary question (UTF8); optional binary subject (UTF8);
        optional group choices (LIST) { repeated group list { optional binary element (UTF8); } } optional int64 answer; }";
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer =
        SerializedFileWriter::new(fs::File::create(path).unwrap(), schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let present = vec![1; rows.len()];
    for values in
        [texts(rows.iter().map(|row| row.1).collect()), texts(rows.iter().map(|row| row.0).collect())]
    {
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, Some(&present), None).unwrap();
        column.close().unwrap();
    }
    let mut column = group.next_column().unwrap().unwrap();
    let values = texts(rows.iter().flat_map(|row| row.2).collect());
    let repeats: Vec<i16> = rows.iter().flat_map(|_| [0, 1, 1, 1]).collect();
    column
        .typed::<ByteArrayType>()
        .write_batch(&values, Some(&vec![3; values.len()]), Some(&repeats))
        .unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let values: Vec<i64> = rows.iter().map(|row| row.3).collect();
    column.typed::<Int64Type>().write_batch(&values, Some(&present), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn files_of_the_hub_are_the_same_as_csv() {
    let csv = folder(TEST, DEV);
    let keys = || serde_json::json!({"shots": 2});
    let expected = opened(&csv, keys()).items().to_vec();
    let row = |subject: &'static str, text: &'static str| {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let of = |row: csv::StringRecord| {
            let leak = |at: usize| &*row[at].to_owned().leak();
            (subject, leak(0), [1, 2, 3, 4].map(leak), i64::from(&row[5] == "B"))
        };
        rows.into_iter().map(of).collect::<Vec<_>>()
    };
    let (test, dev) = (row("anatomy", TEST), row("anatomy", DEV));
    let other = row("virology", DEV);
    // A folder for each subject, in one file or several, as well as one for all of them.
    let apart = tempfile::tempdir().unwrap();
    let at = |folder: &tempfile::TempDir, name: &str| folder.path().join(name);
    parquet(&at(&apart, "anatomy/test-00000-of-00002.parquet"), &test[..1]);
    parquet(&at(&apart, "anatomy/test-00001-of-00002.parquet"), &test[1..]);
    parquet(&at(&apart, "anatomy/dev-00000-of-00001.parquet"), &dev);
    parquet(&at(&apart, "all/test-00000-of-00001.parquet"), &other);
    assert_eq!(opened(&apart, keys()).items(), expected);
    for place in ["all/", "data/", ""] {
        let together = tempfile::tempdir().unwrap();
        parquet(
            &at(&together, &format!("{place}test-00000-of-00001.parquet")),
            &[&other[..], &test].concat(),
        );
        parquet(&at(&together, &format!("{place}dev.parquet")), &[&dev[..], &other].concat());
        assert_eq!(opened(&together, keys()).items(), expected, "{place}");
        let error =
            open(together.path(), settings(serde_json::json!({"subjects": ["econometrics"]}))).err().unwrap();
        assert!(error.to_string().contains("no questions of `test` in the subject econometrics"), "{error}");
    }
    // What does not fit is named with its row.
    let wrong = tempfile::tempdir().unwrap();
    for (rows, part) in [
        (&[("anatomy", "?", ["a", "b", "c", "d"], 4)][..], "row 1: the answer is \"4\""),
        (
            &[("anatomy", "?", ["a", "b", "c", "d"], 0), ("virology", "?", ["a"; 4], 0)],
            "row 2: the subject is \"virology\"",
        ),
    ] {
        parquet(&at(&wrong, "anatomy/test.parquet"), rows);
        let error = open(wrong.path(), settings(serde_json::json!({}))).err().unwrap().to_string();
        assert!(error.contains("test.parquet: ") && error.contains(part), "{part}: {error}");
    }
    let empty = tempfile::tempdir().unwrap();
    let error = open(empty.path(), settings(serde_json::json!({}))).err().unwrap();
    assert!(error.to_string().contains("a CSV for each subject"), "{error}");
}

#[test]
fn rows_and_settings_that_do_not_fit_are_named() {
    let error = |test: &str, keys: serde_json::Value| {
        open(folder(test, DEV).path(), settings(keys)).err().unwrap().to_string()
    };
    let none = || serde_json::json!({});
    for (test, keys, part) in [
        ("What?,a,b,c,A\n", none(), "anatomy_test.csv, line 1: the row has 5 columns"),
        ("What?,a,b,c,d,A\n\"Which\nof\",a,b,c,d,E\n", none(), "line 2: the answer is \"E\""),
        (" ,a,b,c,d,A\n", none(), "the question is empty"),
        (HEADER, none(), "the file has no questions"),
        (TEST, serde_json::json!({"shots": 3}), "has 2 questions"),
        (TEST, serde_json::json!({"format": "cloze", "shots": 1}), "without examples"),
        (TEST, serde_json::json!({"subjects": ["anatomi"]}), "no subject `anatomi`"),
        (TEST, serde_json::json!({"subjects": ["virology"]}), "virology_test.csv"),
        (TEST, serde_json::json!({"shot": 1}), "unknown field `shot`"),
    ] {
        let error = error(test, keys);
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn the_right_choice_is_the_likeliest_or_the_likeliest_for_its_length() {
    let folder = folder(TEST, DEV);
    for format in ["letters", "continuation", "cloze"] {
        let benchmark = opened(&folder, serde_json::json!({"format": format}));
        describes_itself_consistently(&KNOWN, &*benchmark);
        let judged = benchmark.items().iter().map(|item| {
            // "Bone" and "Heart", "The femur" and "A vein": the longer loses in sum and wins by length, and is right.
            let log_probs = match item.id.as_str() {
                "anatomy/0" => vec![-2.0, -9.0, -9.0, -3.0],
                _ => vec![-2.0, -2.4, -9.0, -9.0],
            };
            Judged::new(&*benchmark, item, Answer::chosen(item, log_probs, false))
        });
        let summary = summarise(&*benchmark, judged.collect::<Vec<_>>()).unwrap();
        let right = |key| summary.rate(key).map(|rate| rate.count);
        match format {
            "letters" => assert_eq!((right("accuracy"), right("accuracy_by_length")), (Some(1), None)),
            "continuation" => {
                assert_eq!((right("accuracy"), right("accuracy_by_length")), (Some(1), Some(2)));
            }
            _ => assert_eq!((right("accuracy"), right("accuracy_stem")), (Some(2), Some(2))),
        }
    }
}

/// The harness's filters, then its `exact_match`.
#[test]
fn a_written_answer_is_right_where_its_first_line_is_the_letter() {
    let folder = folder(TEST, DEV);
    let benchmark = opened(&folder, serde_json::json!({"format": "generative", "shots": 1}));
    describes_itself_consistently(&KNOWN, &*benchmark);
    let sampling = SamplingSettings { stop: vec!["\n".to_owned()], ..SamplingSettings::greedy(16) };
    assert_eq!(benchmark.ask(), Ask::Generate(sampling));
    let item = &benchmark.items()[0];
    assert!(item.options.is_empty() && item.messages.len() == 4);
    for (text, right) in [
        ("A", true),
        (" (a). ", true),
        ("A\nB", true),
        ("\nA", false),
        ("A. The femur", false),
        ("B", false),
        ("", false),
    ] {
        let judged = benchmark.judge(item, &Answer::written(text.to_owned(), false));
        assert_eq!(judged.outcomes["accuracy"], right.into(), "{text:?}");
        assert_eq!(judged.outcomes["accuracy_stem"], right.into());
    }
    let keys = settings(serde_json::json!({"format": "generative", "template": false}));
    let error = open(folder.path(), keys).err().unwrap().to_string();
    assert!(error.contains("hint: leave `template` out"), "{error}");
}

#[test]
fn a_folder_without_official_subjects_has_its_own() {
    let folder = folder(TEST, DEV);
    for split in ["test", "dev"] {
        let path = |name: &str| folder.path().join(format!("{split}/{name}_{split}.csv"));
        fs::rename(path("anatomy"), path("zoo_keeping")).unwrap();
        fs::copy(path("zoo_keeping"), path("baking")).unwrap();
    }
    let open = |keys: serde_json::Value| super::open(folder.path(), keys.as_object().unwrap().clone());
    let benchmark = open(serde_json::json!({"shots": 1})).unwrap();
    let ids: Vec<&str> = benchmark.items().iter().map(|item| item.id.as_str()).collect();
    assert_eq!(ids, ["baking/0", "baking/1", "zoo_keeping/0", "zoo_keeping/1"]);
    assert!(benchmark.items().iter().all(|item| item.group == "other"));
    let asked = benchmark.method().asked;
    assert!(asked.contains("own test files") && asked.contains("2 subjects, none of them MMLU's"), "{asked}");
    assert_eq!(open(serde_json::json!({"subjects": ["baking"]})).unwrap().items().len(), 2);
    let error = open(serde_json::json!({"subjects": ["anatomy"]})).err().unwrap().to_string();
    assert!(error.contains("no subject `anatomy`") && error.ends_with("baking, zoo_keeping"), "{error}");
    // Beside an official subject they are none.
    fs::write(folder.path().join("test/virology_test.csv"), TEST).unwrap();
    let error = open(serde_json::json!({})).err().unwrap().to_string();
    assert!(error.contains("abstract_algebra_test.csv"), "{error}");
    let nothing = tempfile::tempdir().unwrap();
    let error = |path: &Path| super::open(path, Settings::new()).err().unwrap().to_string();
    assert!(error(nothing.path()).contains("hint: give the folder that holds `test`"));
    fs::create_dir(nothing.path().join("test")).unwrap();
    assert!(error(nothing.path()).contains("there is no SUBJECT_test.csv"));
}

/// The project's own questions, which stand in for MMLU's where these are not there.
#[test]
fn the_projects_own_questions_are_sixty_and_each_letter_is_right_as_often() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/knowledge");
    let benchmark = super::open(&folder, Settings::from_iter([("shots".to_owned(), 3.into())])).unwrap();
    let items = benchmark.items();
    assert_eq!(items.len(), 60);
    for place in 0..4 {
        assert_eq!(items.iter().filter(|item| item.right == [place]).count(), 15);
    }
    let texts: std::collections::HashSet<&str> =
        items.iter().map(|item| item.messages.last().unwrap().content.as_str()).collect();
    assert_eq!(texts.len(), 60);
}

#[test]
fn the_official_files_have_their_size() {
    let Some(data) = shared_data("mmlu") else { return };
    let benchmark = open(&data, Settings::new()).unwrap();
    let items = benchmark.items();
    assert_eq!(items.len(), 14_042);
    let answers = [0, 1, 2, 3].map(|place| items.iter().filter(|item| item.right == [place]).count());
    assert_eq!(answers, [3222, 3462, 3582, 3776]);
    let with_five = open(&data, Settings::from_iter([("shots".to_owned(), 5.into())])).unwrap();
    assert_eq!(with_five.items().len(), 14_042);
}
