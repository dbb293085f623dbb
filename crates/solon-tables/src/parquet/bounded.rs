//! A Parquet file of which no more is believed than its bytes can hold.
//!
//! The `parquet` crate (60.1) makes room for as many values as a header names, for as many bytes as a page is said to have, and builds a
//! schema by recursion; a file of a few hundred bytes asked for terabytes, and one of twenty kilobytes used up the stack. Beyond the end of the
//! file it goes on to skip, for hours where a list is said to have millions of numbers. So reading beyond the end is an error here, footer
//! and headers are looked at before the crate reads them (`headers.rs`), and each page before it is decoded (`pages.rs`).
//!
//! A list of one row may have eight million values, which the crate holds in a gigabyte. What is not bounded: that Zstandard unpacks a page of up to 2 GiB from much less, and that texts of which each repeats the one before
//! are written out, a thousand at a time.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};

use bytes::Bytes;
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, FileReader, Length, RowGroupReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;

use super::headers::{check_footer, check_pages};
use super::pages::Pages;

/// The bytes of a file; reading beyond its end is an error.
pub(super) struct BoundedBytes(pub File);

/// Bytes of a file from some place on.
pub(super) struct BoundedRead(BufReader<File>);

impl Length for BoundedBytes {
    fn len(&self) -> u64 {
        Length::len(&self.0)
    }
}

impl ChunkReader for BoundedBytes {
    type T = BoundedRead;

    fn get_read(&self, start: u64) -> Result<BoundedRead> {
        self.0.get_read(start).map(BoundedRead)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        match start.checked_add(length as u64) {
            Some(end) if end <= Length::len(self) => self.0.get_bytes(start, length),
            _ => {
                Err(ParquetError::General(format!("{length} bytes from byte {start} on are not in the file")))
            }
        }
    }
}

impl Read for BoundedRead {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(into)? {
            0 if !into.is_empty() => Err(ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }
}

/// A file that is looked at before it is believed.
pub(super) struct BoundedFile {
    file: File,
    reader: SerializedFileReader<BoundedBytes>,
}

struct BoundedGroup<'a> {
    file: &'a File,
    group: Box<dyn RowGroupReader + 'a>,
}

struct BoundedPages {
    reader: Box<dyn PageReader>,
    pages: Pages,
}

impl BoundedFile {
    /// # Errors
    /// Where the file is not Parquet, or its footer says more than its bytes can hold.
    pub(super) fn new(file: File) -> Result<Self> {
        check_footer(&file)?;
        let reader = SerializedFileReader::new(BoundedBytes(file.try_clone()?))?;
        Ok(Self { file, reader })
    }
}

impl FileReader for BoundedFile {
    fn metadata(&self) -> &ParquetMetaData {
        self.reader.metadata()
    }

    fn num_row_groups(&self) -> usize {
        self.reader.num_row_groups()
    }

    fn get_row_group(&self, index: usize) -> Result<Box<dyn RowGroupReader + '_>> {
        Ok(Box::new(BoundedGroup { file: &self.file, group: self.reader.get_row_group(index)? }))
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        RowIter::from_file(projection, self)
    }
}

impl RowGroupReader for BoundedGroup<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.group.metadata()
    }

    fn num_columns(&self) -> usize {
        self.group.num_columns()
    }

    fn get_column_page_reader(&self, index: usize) -> Result<Box<dyn PageReader>> {
        let column = self.metadata().column(index);
        check_pages(self.file, column)?;
        let reader = self.group.get_column_page_reader(index)?;
        Ok(Box::new(BoundedPages { reader, pages: Pages::of(column.column_descr()) }))
    }

    fn get_column_bloom_filter(&self, index: usize) -> Option<&Sbbf> {
        self.group.get_column_bloom_filter(index)
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

impl Iterator for BoundedPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for BoundedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.reader.get_next_page()?;
        if let Some(page) = &page {
            self.pages.check(page)?;
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.reader.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.reader.skip_next_page()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;
    use crate::ParquetRows;

    #[test]
    fn reading_beyond_the_end_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        std::fs::write(&path, b"0123456789").unwrap();
        let file = BoundedBytes(File::open(&path).unwrap());
        assert_eq!(file.get_bytes(4, 6).unwrap(), "456789");
        for (start, length) in [(4, 7), (11, 0), (u64::MAX, 1), (0, usize::MAX)] {
            let error = file.get_bytes(start, length).unwrap_err().to_string();
            assert!(error.contains("are not in the file"), "{error}");
        }
        let mut read = file.get_read(8).unwrap();
        let mut two = [0; 2];
        read.read_exact(&mut two).unwrap();
        assert_eq!(&two, b"89");
        // What skips would go on for as long as it is told to.
        assert_eq!(read.read(&mut two).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(read.read(&mut []).unwrap(), 0);
    }

    #[test]
    fn a_dictionary_that_names_more_values_than_it_has_bytes_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        let schema = Arc::new(parse_message_type("message schema { required binary a (UTF8); }").unwrap());
        let mut writer =
            SerializedFileWriter::new(File::create(&path).unwrap(), schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let values: Vec<_> = (0..200).map(|i| ByteArray::from(format!("{i:03}").as_str())).collect();
        column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        let rows = || ParquetRows::open(&path).unwrap().collect::<Result<Vec<_>, _>>();
        assert_eq!(rows().unwrap()[199]["a"], "199");

        // The header's field 7, the dictionary's; in it field 1, the number of values: 200, doubled, in two bytes of seven bits.
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(4).position(|four| four == [0x4c, 0x15, 0x90, 0x03]).unwrap();
        bytes[at + 2..at + 4].copy_from_slice(&[0xfe, 0x7f]);
        std::fs::write(&path, bytes).unwrap();
        let error = rows().unwrap_err().to_string();
        assert!(error.contains("a dictionary of 8191 values in 1400 bytes"), "{error}");
    }
}
