//! A Parquet file's footer and the headers of its pages, looked at before the `parquet` crate reads them.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use parquet::basic::Compression;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader as _, Length as _};

use super::thrift::{Met, walk};

/// The footer's length and the mark behind it.
const END: u64 = 8;
/// Groups that may lie in one another in a schema; a list of lists has two for each. The crate builds them by recursion.
const DEPTH: usize = 200;

/// Looks at a file's footer. Leaves to the crate to say what a file is that has none.
///
/// # Errors
/// Where it says more than its bytes can hold, or the schema nests too deep.
pub(super) fn check_footer(mut file: &File) -> Result<()> {
    let length = file.len();
    let mut end = [0; END as usize];
    if length < END {
        return Ok(());
    }
    file.seek(SeekFrom::Start(length - END))?;
    file.read_exact(&mut end)?;
    let footer = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
    if !end.ends_with(b"PAR1") || footer > length - END {
        return Ok(());
    }
    // Of each of the schema's elements how many others it holds, in their order.
    let mut held = Vec::new();
    let mut own = 0;
    walk(&mut file.get_read(length - END - footer)?.take(footer), &mut |path, met| match (path, met) {
        ([2, 5], Met::Number(number)) => own = number,
        ([2], Met::EndOfStruct) => held.push(std::mem::take(&mut own)),
        _ => {}
    })
    .map_err(|error| ParquetError::General(format!("the footer: {error}")))?;
    check_schema(&held)
}

fn check_schema(held: &[i64]) -> Result<()> {
    // Of each group around an element how many are still to come.
    let mut around: Vec<i64> = Vec::new();
    for own in held {
        if !(0..=held.len() as i64).contains(own) {
            let all = held.len();
            return Err(ParquetError::General(format!("a group of {own} in a schema of {all} elements")));
        }
        around.truncate(around.iter().rposition(|left| *left > 0).map_or(0, |last| last + 1));
        if let Some(left) = around.last_mut() {
            *left -= 1;
        }
        around.push(*own);
        if around.len() > DEPTH {
            return Err(ParquetError::General(format!("the schema is more than {DEPTH} groups deep")));
        }
    }
    Ok(())
}

/// Looks at the headers of a column's pages.
///
/// # Errors
/// Where one says more than its bytes can hold.
pub(super) fn check_pages(file: &File, column: &ColumnChunkMetaData) -> Result<()> {
    let (mut start, mut left) = column.byte_range();
    while left > 0 {
        let mut from = file.get_read(start)?.take(left);
        let [mut uncompressed, mut compressed] = [0, 0];
        walk(&mut from, &mut |path, met| match (path, met) {
            ([2], Met::Number(number)) => uncompressed = number,
            ([3], Met::Number(number)) => compressed = number,
            _ => {}
        })
        .map_err(|error| ParquetError::General(format!("the header of the page at byte {start}: {error}")))?;
        left = from.limit();
        let Some(after) = u64::try_from(compressed).ok().and_then(|bytes| left.checked_sub(bytes)) else {
            return Err(ParquetError::General(format!("a page of {compressed} bytes where {left} are left")));
        };
        // Three bytes of Snappy are at most 64 of what was compressed. The crate fills as many as are named before it looks.
        if column.compression() == Compression::SNAPPY && uncompressed > 64 + 22 * compressed {
            return Err(ParquetError::General(format!("a page of {uncompressed} bytes in {compressed}")));
        }
        left = after;
        let (chunk, length) = column.byte_range();
        start = chunk + length - left;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Arc;

    use parquet::schema::parser::parse_message_type;
    use parquet::schema::types::SchemaDescriptor;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn footer(footer: &[u8]) -> Result<()> {
        let length = (footer.len() as u32).to_le_bytes();
        check_footer(&file(&[b"PAR1", footer, &length, b"PAR1"].concat()))
    }

    fn error(result: Result<()>) -> String {
        result.unwrap_err().to_string()
    }

    /// A footer that has a schema of groups, each in the one before, with a column in the last.
    fn nested(groups: usize) -> Vec<u8> {
        // Field 2, a list of structs; in a group, field 5 is 1.
        let elements = (groups + 1) as u32;
        let length = [(elements & 0x7f | 0x80) as u8, (elements >> 7) as u8];
        [&[0x29, 0xfc][..], &length, &[0x55, 0x02, 0x00].repeat(groups), &[0x00, 0x00]].concat()
    }

    #[test]
    fn a_footer_that_says_more_than_it_holds_is_refused() {
        footer(&nested(100)).unwrap();
        assert!(error(footer(&nested(2000))).contains("more than 200 groups deep"));
        // One element, a group of 2^31 - 1.
        let many = [0x29, 0x1c, 0x55, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0x00, 0x00];
        assert!(error(footer(&many)).contains("a group of 2147483647 in a schema of 1 elements"));
        assert!(error(footer(&[0x29, 0x1c, 0x55, 0x01, 0x00, 0x00])).contains("a group of -1"));
        // Field 15, a list of 2^31 - 1 booleans.
        let skipped = [0xf9, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07, 0x00];
        assert!(error(footer(&skipped)).contains("the footer: 2147483647 elements in 1 bytes"));
        // Siblings are not deep: a root with 300 groups of one column each.
        let held: Vec<i64> = [300].into_iter().chain([1, 0].repeat(300)).collect();
        check_schema(&held).unwrap();
    }

    #[test]
    fn a_file_without_a_footer_is_left_to_the_crate() {
        for bytes in [&b""[..], b"PAR1", b"PAR1\xff\xff\xff\x7fPAR1", b"PAR1 and something PARE"] {
            check_footer(&file(bytes)).unwrap();
        }
    }

    #[test]
    fn a_page_that_says_more_than_it_holds_is_refused() {
        let pages = |bytes: &[u8], compression| {
            let schema = parse_message_type("message schema { required binary a (UTF8); }").unwrap();
            let column = SchemaDescriptor::new(Arc::new(schema)).column(0);
            let column = ColumnChunkMetaData::builder(column)
                .set_compression(compression)
                .set_data_page_offset(4)
                .set_total_compressed_size(bytes.len() as i64)
                .build()
                .unwrap();
            check_pages(&file(&[b"PAR1", bytes].concat()), &column)
        };
        // A page of two bytes, of 108 unpacked, twice.
        let small = [0x25, 0xd8, 0x01, 0x15, 0x04, 0x00, 0x77, 0x77];
        pages(&small.repeat(2), Compression::SNAPPY).unwrap();
        pages(&[], Compression::SNAPPY).unwrap();
        let large = [0x25, 0xda, 0x01, 0x15, 0x04, 0x00, 0x77, 0x77];
        assert!(error(pages(&large, Compression::SNAPPY)).contains("a page of 109 bytes in 2"));
        pages(&large, Compression::ZSTD(parquet::basic::ZstdLevel::default())).unwrap();
        assert!(
            error(pages(&small[..7], Compression::SNAPPY)).contains("a page of 2 bytes where 1 are left")
        );
        assert!(error(pages(&[0x35, 0x03, 0x00], Compression::SNAPPY)).contains("a page of -2 bytes"));
        let skipped = [0xf9, 0xf1, 0xff, 0xff, 0xff, 0xff, 0x07, 0x00];
        assert!(error(pages(&skipped, Compression::SNAPPY)).contains("the page at byte 4"));
        assert!(error(pages(&small[..3], Compression::SNAPPY)).contains("the page at byte 4"));
    }
}
