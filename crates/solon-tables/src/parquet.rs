//! Parquet.

mod bounded;
mod headers;
mod pages;
mod thrift;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;
use parquet::record::reader::RowIter;
use serde_json::{Map, Value};
use solon_records::{GIT_LFS_POINTER, IS_GIT_LFS_POINTER};

use self::bounded::BoundedFile;
use crate::{TableError, guarded};

/// The rows of a Parquet file, which are read while they are asked for. After an error there are none.
pub struct ParquetRows {
    path: PathBuf,
    /// None after an error.
    rows: Option<RowIter<'static>>,
}

impl ParquetRows {
    /// Opens a file.
    ///
    /// # Errors
    /// [`TableError`] where it cannot be read, is not Parquet, or is compressed with something other than Snappy, Zstandard or nothing.
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let rows = guarded("Parquet", || opened(path));
        let rows = rows.map_err(|reason| TableError { path: path.to_owned(), reason })?;
        Ok(Self { path: path.to_owned(), rows: Some(rows) })
    }
}

impl Iterator for ParquetRows {
    type Item = Result<Map<String, Value>, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.rows.as_mut()?;
        let row = guarded("Parquet", || {
            let Some(row) = rows.next() else { return Ok(None) };
            match row.map_err(unreadable)?.to_json_value() {
                Value::Object(row) => Ok(Some(row)),
                other => Err(format!("a row is no record, but {other}")),
            }
        });
        match row {
            Ok(row) => row.map(Ok),
            Err(reason) => {
                self.rows = None;
                Some(Err(TableError { path: self.path.clone(), reason }))
            }
        }
    }
}

fn opened(path: &Path) -> Result<RowIter<'static>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    if is_pointer(&file).map_err(|error| error.to_string())? {
        return Err(IS_GIT_LFS_POINTER.to_owned());
    }
    Ok(RowIter::from_file_into(Box::new(BoundedFile::new(file).map_err(unreadable)?)))
}

fn unreadable(error: ParquetError) -> String {
    format!("cannot be read as Parquet: {error}")
}

/// Whether a file is what Git LFS leaves where the file itself was not fetched. Reads its start and goes back to it.
fn is_pointer(mut file: &File) -> std::io::Result<bool> {
    let mut start = Vec::new();
    file.take(GIT_LFS_POINTER.len() as u64).read_to_end(&mut start)?;
    std::io::Seek::rewind(&mut file)?;
    Ok(start == GIT_LFS_POINTER.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::basic::{Compression, Encoding, ZstdLevel};
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::{WriterProperties, WriterVersion};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    fn read(path: &Path) -> Result<Vec<Map<String, Value>>, TableError> {
        ParquetRows::open(path)?.collect()
    }

    /// Two rows with a text, a list of texts and a number, as Hugging Face's `datasets` writes them.
    fn written(path: &Path, compression: Compression) {
        written_with(path, WriterProperties::builder().set_compression(compression).build());
    }

    fn written_with(path: &Path, properties: WriterProperties) {
        let schema = "message schema {
            optional binary question (UTF8);
            optional group choices (LIST) { repeated group list { optional binary element (UTF8); } }
            optional int64 answer;
        }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let mut writer =
            SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let texts = |texts: &[&str]| texts.iter().map(|text| ByteArray::from(*text)).collect::<Vec<_>>();
        let mut column = group.next_column().unwrap().unwrap();
        let values = texts(&["Welcher?", "Quel ?"]);
        column.typed::<ByteArrayType>().write_batch(&values, Some(&[1, 1]), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let values = texts(&["a", "ü", "c"]);
        let (levels, repeats) = ([3, 3, 3], [0, 1, 0]);
        column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), Some(&repeats)).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[3], Some(&[1, 0]), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
    }

    #[test]
    fn rows_are_objects_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        let zstd = Compression::ZSTD(ZstdLevel::default());
        let expected = serde_json::json!([
            {"question": "Welcher?", "choices": ["a", "ü"], "answer": 3},
            {"question": "Quel ?", "choices": ["c"], "answer": null},
        ]);
        let rows = || Value::from_iter(read(&path).unwrap().into_iter().map(Value::from));
        for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, zstd] {
            written(&path, compression);
            assert_eq!(rows(), expected, "{compression:?}");
        }
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            for encoding in [Encoding::PLAIN, Encoding::DELTA_LENGTH_BYTE_ARRAY, Encoding::DELTA_BYTE_ARRAY] {
                let properties =
                    WriterProperties::builder().set_writer_version(version).set_dictionary_enabled(false);
                let of_texts = ["question", "choices.list.element"];
                let properties = of_texts.iter().fold(properties, |properties, column| {
                    properties.set_column_encoding((*column).into(), encoding)
                });
                written_with(&path, properties.build());
                assert_eq!(rows(), expected, "{version:?}, {encoding}");
            }
        }
    }

    #[test]
    fn a_file_that_is_damaged_or_is_no_table_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        let error = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read(&path).unwrap_err().to_string()
        };
        written(&path, Compression::SNAPPY);
        let whole = std::fs::read(&path).unwrap();
        assert!(error(&whole[..whole.len() - 20]).contains("t.parquet: cannot be read as Parquet"));
        assert!(error(b"").contains("cannot be read as Parquet"));
        assert!(error(b"{\"question\": \"?\"}\n").contains("cannot be read as Parquet"));
        assert!(
            error(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n").contains("git lfs pull")
        );
        std::fs::remove_file(&path).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("t.parquet: No such file"));
        // A byte that is not what was written: an error or other rows, never a panic.
        for at in 0..whole.len() {
            for flip in [0x01, 0x55, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] ^= flip;
                std::fs::write(&path, damaged).unwrap();
                let _ = read(&path);
            }
        }
    }
}
