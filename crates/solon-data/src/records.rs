//! Readers of prompts, demonstrations and preferences.
//!
//! Contract: a row in any of TRL's formats, LLaMA-Factory's or HH-RLHF's becomes one type for each purpose:
//! [`Prompt`](solon_records::Prompt), [`Demonstration`](solon_records::Demonstration),
//! [`Preference`](solon_records::Preference). Nothing is guessed. A row is refused, with its file, line and field, if
//! it could mean two things, if it would train on something else than the user expects, or if a part of it that a chat template renders would
//! be lost. Columns that mean nothing are not read, because datasets have many; [`DataFile::unused`] names them. Texts are kept
//! unchanged; only HH-RLHF's turns are trimmed. Which file formats there are is the matter of [`crate::FileFormat`].
//!
//! Source: <https://huggingface.co/docs/trl/dataset_formats>; <https://github.com/anthropics/hh-rlhf>;
//! <https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md>.

mod alpaca;
mod answered;
mod columns;
mod demonstration;
mod forms;
mod hh;
mod preference;
mod prompt;
mod purpose;
mod several;
mod sharegpt;
mod turn;
mod turns;
mod unpaired;
mod votes;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

pub use answered::{Answered, open_answered};
pub use demonstration::{open_demonstrations, open_unnamed_demonstrations, read_demonstrations};
pub use forms::Form;
pub use preference::{
    LabelRow, open_labels, open_pairs, parse_preference, read_labels, read_pairs, read_preferences,
};
pub use prompt::{open_prompts, read_prompts};
pub use purpose::Purpose;
pub use several::{Identified, Repeated, open_several};
pub use unpaired::{Unpaired, open_unpaired};
pub use votes::{ForeignVote, ForeignVotes, VotedPair, read_foreign_votes};

use crate::rows::{Fault, FileFormat, Place, Row, read_rows};
use crate::{DataError, Packing};
use turns::Id;

/// What a file of records holds.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFile<T> {
    /// The file's format.
    pub format: FileFormat,
    /// How it is compressed as a whole, if it is.
    pub packing: Option<Packing>,
    /// Whose formats its rows are in, each with the number of rows.
    pub forms: BTreeMap<Form, usize>,
    /// Columns that hold something and are not used, in the order in which they are met.
    pub unused: Vec<UnusedColumn>,
    /// Its records.
    pub records: Vec<T>,
    /// Where each record is.
    pub places: Vec<Place>,
    /// Whether each record's id is only where it stands, because its row has none.
    pub derived_ids: Vec<bool>,
}

/// A column that is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedColumn {
    /// Its name; of a field inside messages with its path, such as `messages[].name`.
    pub name: String,
    /// In how many rows it holds something.
    pub rows: usize,
    /// The first of them.
    pub first: Place,
}

/// What the ids of records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ids {
    /// The column `id`, or where the row stands; no two rows have the same.
    Unique,
    /// Where the row stands: nothing refers to it.
    OfPlaces,
}

/// Reads every row of a file with `record`.
fn read<T>(
    path: &Path,
    record: impl FnMut(&mut Row, String) -> Result<(T, Form), Fault>,
) -> Result<DataFile<T>, DataError> {
    read_with(path, Ids::Unique, record)
}

fn read_with<T>(
    path: &Path,
    of: Ids,
    mut record: impl FnMut(&mut Row, String) -> Result<(T, Form), Fault>,
) -> Result<DataFile<T>, DataError> {
    let (mut records, mut places, mut forms) = (Vec::new(), Vec::new(), BTreeMap::new());
    let mut derived_ids = Vec::new();
    let mut unused: Vec<UnusedColumn> = Vec::new();
    let mut unused_places: HashMap<String, usize> = HashMap::new();
    // Ids become keys in the ledger, so they must be unique in a file.
    let mut ids: HashMap<String, Place> = HashMap::new();
    let (format, packing) = read_rows(path, &mut |mut row| {
        let place = row.place;
        let wrong = |fault: Fault| place.fault(path, fault);
        let given = match of {
            Ids::Unique => row.get::<Id>("id").map_err(wrong)?,
            Ids::OfPlaces => None,
        };
        derived_ids.push(given.is_none());
        let id = given.map_or_else(|| place.id(), |id| id.0);
        if let Some(first) = ids.insert(id.clone(), place) {
            let message = format!("field `id`: `{id}` is already the id of {first}; ids must be unique");
            return Err(place.fault(path, message));
        }
        let (one, form) = record(&mut row, id).map_err(wrong)?;
        records.push(one);
        places.push(place);
        *forms.entry(form).or_insert(0) += 1;
        for name in row.unused() {
            match unused_places.get(name) {
                Some(known) => unused[*known].rows += 1,
                None => {
                    unused_places.insert(name.to_owned(), unused.len());
                    unused.push(UnusedColumn { name: name.to_owned(), rows: 1, first: place });
                }
            }
        }
        Ok(())
    })?;
    Ok(DataFile { format, packing, forms, unused, records, places, derived_ids })
}

#[cfg(test)]
mod published;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Reads `text` as a file with `read`; errors are given without the folder's name.
    pub(crate) fn from_text<T>(
        read: impl FnOnce(&Path) -> Result<Vec<T>, DataError>,
        text: &str,
    ) -> Result<Vec<T>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.jsonl");
        std::fs::write(&path, text).unwrap();
        read(&path).map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    #[test]
    fn ids_are_derived_from_the_line_and_may_not_repeat() {
        let records = from_text(read_prompts, "\n{\"prompt\":\"a\"}\n{\"id\":7,\"prompt\":\"b\"}\n").unwrap();
        assert_eq!(records.iter().map(|record| record.id.as_str()).collect::<Vec<_>>(), ["line-2", "7"]);
        let error =
            from_text(read_prompts, "{\"prompt\":\"a\"}\n{\"id\":\"line-1\",\"prompt\":\"b\"}").unwrap_err();
        let ids = |text: &str| {
            from_text(read_prompts, text).unwrap().into_iter().map(|record| record.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(r#"[{"prompt":"a"},{"prompt":"b"}]"#), ["row-1", "row-2"]);
        assert_eq!(error, "f.jsonl:2: field `id`: `line-1` is already the id of line 1; ids must be unique");
        let error = from_text(read_prompts, r#"{"id":"","prompt":"a"}"#).unwrap_err();
        assert!(error.starts_with("f.jsonl:1: field `id`: "), "{error}");
    }

    #[test]
    fn unused_columns_are_named_once_and_fields_of_messages_too() {
        let rows = r#"[{"prompt":[{"role":"user","content":"a","mood":"n"}],"score":NaN,"note":null,"meta":{"x":1}},
            {"prompt":"b","note":"\ud83d","score":1}]"#;
        let file = from_text(|path| open_prompts(path).map(|file| vec![file]), rows).unwrap().remove(0);
        let names: Vec<_> =
            file.unused.iter().map(|column| (column.name.as_str(), column.rows, column.first)).collect();
        let (one, two) = (Place::Record { row: 1, line: 1 }, Place::Record { row: 2, line: 2 });
        let expected = [("score", 2, one), ("meta", 1, one), ("prompt[].mood", 1, one), ("note", 1, two)];
        assert_eq!(names, expected);
        assert_eq!((file.format, file.places), (FileFormat::JsonArray, vec![one, two]));
    }

    /// Looking for a field among all earlier ones would take minutes here.
    #[test]
    fn a_message_may_have_many_fields_that_are_not_used() {
        let fields: Vec<String> = (0..400_000).map(|field| format!("\"f{field}\":1")).collect();
        let row = format!("{{\"prompt\":[{{\"role\":\"user\",\"content\":\"Q\",{}}}]}}", fields.join(","));
        let file = from_text(|path| open_prompts(path).map(|file| vec![file]), &row).unwrap().remove(0);
        assert_eq!((file.unused.len(), file.unused[7].name.as_str()), (400_000, "prompt[].f7"));
    }

    #[test]
    fn a_table_of_texts_may_hold_numbers_and_messages() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.csv");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        let conversation = r#""[{""role"": ""user"", ""content"": ""Q""}]""#;
        write(&format!(
            "id,prompt,chosen,rejected,probability,margin,score\n7,{conversation},A,[B],0.75,2,\n8,Q,\"A\nA\",B,1,-1,x\n"
        ));
        let pairs = read_preferences(&path).unwrap();
        assert_eq!(pairs[0].prompt, pairs[1].prompt);
        let read = |pair: &solon_records::Preference| {
            (pair.id.clone(), pair.rejected.clone(), pair.probability, pair.margin)
        };
        assert_eq!(read(&pairs[0]), ("7".into(), "[B]".into(), 0.75, Some(2.0)));
        assert_eq!(read(&pairs[1]), ("8".into(), "B".into(), 1.0, Some(-1.0)));
        let fault = |text: &str| {
            write(text);
            let error = read_preferences(&path).unwrap_err().to_string();
            error.replace(&format!("{}/", folder.path().display()), "")
        };
        let error = fault("prompt,chosen,rejected,margin\nQ,A,B,much\n");
        assert_eq!(error, "f.csv:2: field `margin`: invalid type: string \"much\", expected f64");
        let error = fault("prompt,chosen,rejected\nQ,,B\n");
        assert_eq!(error, "f.csv:2: missing field `chosen`");
        let error = fault("prompt,chosen,rejected\n\"[{'content': 'Q', 'role': 'user'}]\",A,B\n");
        assert!(error.starts_with("f.csv:2: field `prompt`: holds a list as Python writes it"), "{error}");
        write(&format!(
            "messages\n{}\n",
            conversation.replace("}]", r#"}, {""role"": ""assistant"", ""content"": ""A""}]"#)
        ));
        assert_eq!(read_demonstrations(&path).unwrap()[0].messages.len(), 2);
    }

    #[test]
    fn parquet_is_read_with_its_lists_of_messages() {
        use std::sync::Arc;

        use parquet::data_type::{ByteArray, ByteArrayType, DoubleType};
        use parquet::file::writer::SerializedFileWriter;
        use parquet::schema::parser::parse_message_type;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.bin");
        let schema = "message schema {
            optional group messages (LIST) { repeated group list { optional group element {
                optional binary role (UTF8); optional binary content (UTF8); optional binary reasoning_content (UTF8);
            } } }
            optional double score;
        }";
        let write = |reasons: &[&str]| {
            let schema = Arc::new(parse_message_type(schema).unwrap());
            let file = std::fs::File::create(&path).unwrap();
            let mut writer = SerializedFileWriter::new(file, schema, Default::default()).unwrap();
            let mut group = writer.next_row_group().unwrap();
            let texts = |texts: &[&str]| texts.iter().map(|text| ByteArray::from(*text)).collect::<Vec<_>>();
            for values in [&["user", "assistant"][..], &["Q", "A"], reasons] {
                let mut column = group.next_column().unwrap().unwrap();
                let there: Vec<i16> =
                    (0..2).map(|place| if place < 2 - values.len() { 3 } else { 4 }).collect();
                let values = texts(values);
                column.typed::<ByteArrayType>().write_batch(&values, Some(&there), Some(&[0, 1])).unwrap();
                column.close().unwrap();
            }
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<DoubleType>().write_batch(&[0.5], Some(&[1]), None).unwrap();
            column.close().unwrap();
            group.close().unwrap();
            writer.close().unwrap();
        };
        write(&[]);
        let file = open_demonstrations(&path).unwrap();
        assert_eq!((file.format, file.places), (FileFormat::Parquet, vec![Place::Row(1)]));
        assert_eq!((file.records[0].id.as_str(), file.records[0].messages.len()), ("row-1", 2));
        assert_eq!(file.unused[0].name, "score");
        write(&["because"]);
        let messages = read_demonstrations(&path).unwrap().remove(0).messages;
        assert_eq!((messages[0].beside.reasoning(), messages[1].beside.reasoning()), (None, Some("because")));
    }
}
