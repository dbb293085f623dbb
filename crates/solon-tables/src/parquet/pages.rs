//! The pages of a column, each looked at before the `parquet` crate decodes it.

use parquet::basic::{Encoding, Type};
use parquet::column::page::Page;
use parquet::errors::{ParquetError, Result};
use parquet::schema::types::ColumnDescriptor;

use super::thrift::unsigned;

/// The most values of a dictionary, of a page whose texts' lengths are coded as differences, and of a list in one row. The crate (60.1) makes
/// room for as many as a file names, or holds all before a row can be seen. A row with more could not be read: it has 16 MiB at most.
const MOST: u64 = 1 << 23;

/// What is known of a column while its pages go by.
pub(super) struct Pages {
    /// A value of a dictionary takes as many at least.
    bits_of_a_value: u64,
    /// How deep lists lie in lists.
    lists: i16,
    may_be_missing: bool,
    /// Values so far of the row in which the last page ended.
    in_this_row: u64,
}

impl Pages {
    pub(super) fn of(column: &ColumnDescriptor) -> Self {
        let bits_of_a_value = match column.physical_type() {
            Type::BOOLEAN => 1,
            // A text has its length before it.
            Type::INT32 | Type::FLOAT | Type::BYTE_ARRAY => 32,
            Type::INT64 | Type::DOUBLE => 64,
            Type::INT96 => 96,
            Type::FIXED_LEN_BYTE_ARRAY => 8 * u64::try_from(column.type_length()).unwrap_or(0).max(1),
        };
        Self {
            bits_of_a_value,
            lists: column.max_rep_level(),
            may_be_missing: column.max_def_level() > 0,
            in_this_row: 0,
        }
    }

    /// Looks at the next page.
    ///
    /// # Errors
    /// Where it says that it has more values than its bytes can hold, or than are taken.
    pub(super) fn check(&mut self, page: &Page) -> Result<()> {
        let (values, bytes) = (u64::from(page.num_values()), page.buffer().len());
        if page.is_dictionary_page() {
            return match values <= MOST && values * self.bits_of_a_value <= 8 * bytes as u64 {
                true => Ok(()),
                false => Err(refused(format!("a dictionary of {values} values in {bytes} bytes"))),
            };
        }
        let (repeats, mut data) = self.parts(page)?;
        if self.lists > 0 {
            self.check_rows(repeats, values)?;
        }
        // Of texts: where each ends, and, in the second, how much of it is the text before.
        let series = match page.encoding() {
            Encoding::DELTA_LENGTH_BYTE_ARRAY => 1,
            Encoding::DELTA_BYTE_ARRAY => 2,
            _ => 0,
        };
        for _ in 0..series {
            skip_differences(&mut data)?;
        }
        Ok(())
    }

    /// A page's repetition levels and its values.
    fn parts<'a>(&self, page: &'a Page) -> Result<(&'a [u8], &'a [u8])> {
        let mut rest = &page.buffer()[..];
        if let Page::DataPageV2 { rep_levels_byte_len, def_levels_byte_len, .. } = page {
            let repeats = take(&mut rest, u64::from(*rep_levels_byte_len))?;
            take(&mut rest, u64::from(*def_levels_byte_len))?;
            return Ok((repeats, rest));
        }
        let mut levels = |are_there: bool| -> Result<&'a [u8]> {
            if !are_there {
                return Ok(&[]);
            }
            let length =
                take(&mut rest, 4)?.iter().rev().fold(0, |length, byte| length << 8 | u64::from(*byte));
            take(&mut rest, length)
        };
        let repeats = levels(self.lists > 0)?;
        levels(self.may_be_missing)?;
        Ok((repeats, rest))
    }

    /// Counts the values of each row: one that repeats at no depth begins another. Their depths are in runs of one value, and in groups of
    /// eight packed bits.
    fn check_rows(&mut self, mut repeats: &[u8], values: u64) -> Result<()> {
        let bits = u64::from(self.lists.unsigned_abs().ilog2()) + 1;
        let mut left = values;
        while left > 0 && !repeats.is_empty() {
            let header = unsigned(&mut repeats)?;
            let run = header >> 1;
            if header & 1 == 0 {
                let depth = take(&mut repeats, bits.div_ceil(8))?;
                let run = run.min(left);
                left -= run;
                self.go_on(run, depth.iter().all(|byte| *byte == 0))?;
            } else {
                let packed = take(&mut repeats, run.saturating_mul(bits))?;
                let run = run.saturating_mul(8).min(left);
                left -= run;
                for value in 0..run {
                    let mut depth = value * bits..(value + 1) * bits;
                    let begins = depth.all(|bit| packed[(bit / 8) as usize] >> (bit % 8) & 1 == 0);
                    self.go_on(1, begins)?;
                }
            }
        }
        Ok(())
    }

    /// Goes on by some values, each of which begins a row or none of which does.
    fn go_on(&mut self, values: u64, begins: bool) -> Result<()> {
        self.in_this_row = match begins {
            true => values.min(1),
            false => self.in_this_row.saturating_add(values),
        };
        match self.in_this_row <= MOST {
            true => Ok(()),
            false => Err(refused(format!("a row with a list of more than {MOST} values"))),
        }
    }
}

/// Skips a series of whole numbers of which the differences are written: a header, then blocks of several small blocks, each packed into as
/// many bits as it takes.
///
/// # Errors
/// Where they are said to be too many, or do not fit the bytes.
fn skip_differences(data: &mut &[u8]) -> Result<()> {
    let (in_block, small_blocks, all) = (unsigned(data)?, unsigned(data)?, unsigned(data)?);
    unsigned(data)?;
    if all > MOST {
        return Err(refused(format!("a page of {all} texts")));
    }
    let together = match in_block.checked_div(small_blocks) {
        None | Some(0) => return Err(refused("differences in blocks of none".into())),
        Some(together) => together,
    };
    let mut left = all.saturating_sub(1);
    while left > 0 {
        unsigned(data)?;
        for bits in take(data, small_blocks)? {
            if left > 0 {
                take(data, (together / 8).saturating_mul(u64::from(*bits)))?;
            }
            left = left.saturating_sub(together);
        }
    }
    Ok(())
}

fn take<'a>(from: &mut &'a [u8], bytes: u64) -> Result<&'a [u8]> {
    let split = usize::try_from(bytes).ok().and_then(|bytes| from.split_at_checked(bytes));
    let Some((taken, rest)) = split else {
        return Err(refused(format!("{bytes} bytes of a page that has {} more", from.len())));
    };
    *from = rest;
    Ok(taken)
}

fn refused(what: String) -> ParquetError {
    ParquetError::General(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_texts(lists: i16) -> Pages {
        Pages { bits_of_a_value: 32, lists, may_be_missing: true, in_this_row: 0 }
    }

    /// A page of as many values, whose levels are all 0.
    fn page(values: u32, encoding: Encoding, data: &[u8]) -> Page {
        Page::DataPage {
            buf: [&[2, 0, 0, 0, 0, 0], data].concat().into(),
            num_values: values,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        }
    }

    fn error(result: Result<()>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_dictionary_has_as_many_values_as_its_bytes_can_hold() {
        let dictionary = |values, bytes: usize| Page::DictionaryPage {
            buf: vec![0; bytes].into(),
            num_values: values,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        let mut texts = of_texts(0);
        texts.check(&dictionary(25, 100)).unwrap();
        assert!(error(texts.check(&dictionary(26, 100))).contains("26 values in 100 bytes"));
        assert!(texts.check(&dictionary(u32::MAX, 100)).is_err());
        assert!(texts.check(&dictionary((MOST + 1) as u32, 4 * (MOST as usize + 1))).is_err());
        let mut answers = Pages { bits_of_a_value: 1, ..texts };
        answers.check(&dictionary(2, 1)).unwrap();
        assert!(answers.check(&dictionary(9, 1)).is_err());
    }

    #[test]
    fn texts_by_their_differences_are_counted_wherever_they_are() {
        // In each block 128 numbers in four small blocks; three numbers, the first 1; a least difference of 0, and the bits of a small
        // block's differences.
        let three = [0x80, 0x01, 0x04, 0x03, 0x02, 0x00, 0x01, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff];
        // The same header of 2^40 numbers.
        let many = [0x80, 0x01, 0x04, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 0x02];
        let mut texts = of_texts(0);
        let lengths = |data: &[u8]| page(3, Encoding::DELTA_LENGTH_BYTE_ARRAY, data);
        texts.check(&lengths(&three)).unwrap();
        assert!(error(texts.check(&lengths(&many))).contains("a page of 1099511627776 texts"));
        assert!(error(texts.check(&lengths(&three[..13]))).contains("4 bytes of a page that has 3 more"));
        assert!(error(texts.check(&lengths(&[0x80, 0x01, 0x00, 0x03, 0x02]))).contains("blocks of none"));
        assert!(error(texts.check(&lengths(&[0x00, 0x04, 0x03, 0x02]))).contains("blocks of none"));
        let both = |series: [&[u8]; 2]| page(3, Encoding::DELTA_BYTE_ARRAY, &series.concat());
        texts.check(&both([&three, &three])).unwrap();
        assert!(error(texts.check(&both([&three, &many]))).contains("a page of 1099511627776 texts"));
        // Numbers take no room before they are read.
        texts.check(&page(3, Encoding::DELTA_BINARY_PACKED, &many)).unwrap();
    }

    #[test]
    fn a_row_is_counted_over_runs_and_packed_values_and_pages() {
        let lists = |lists, repeats: &[u8], values: u32| {
            let page = Page::DataPageV2 {
                buf: repeats.to_vec().into(),
                num_values: values,
                encoding: Encoding::PLAIN,
                num_nulls: 0,
                num_rows: 1,
                def_levels_byte_len: 0,
                rep_levels_byte_len: repeats.len() as u32,
                is_compressed: false,
                statistics: None,
            };
            let mut pages = of_texts(lists);
            let first = pages.check(&page).map(|()| pages.in_this_row);
            (first, pages, page)
        };
        // A row begins, and goes on for a run of 1000; then a packed eight of which the third begins another.
        let long = [0x02, 0x00, 0xd0, 0x0f, 0x01, 0x03, 0b1111_1011];
        assert_eq!(lists(1, &long[..5], 1001).0.unwrap(), 1001);
        assert_eq!(lists(1, &long, 1009).0.unwrap(), 6);
        assert_eq!(lists(1, &long, 1003).0.unwrap(), 1003, "padding is not counted");
        // Two bits each: 2 and 1 go on, 0 begins.
        assert_eq!(lists(2, &[0x03, 0b0001_0010, 0b0101_0101], 8).0.unwrap(), 5);
        // 20 million in one run.
        let (refused, ..) = lists(1, &[0x02, 0x00, 0x80, 0xb4, 0x89, 0x13, 0x01], 20_000_001);
        assert!(error(refused.map(|_| ())).contains("a row with a list of more than 8388608 values"));
        let (first, mut pages, page) = lists(1, &[0x80, 0x9b, 0xee, 0x02, 0x01], 3_000_000);
        assert_eq!(first.unwrap(), 3_000_000);
        pages.check(&page).unwrap();
        assert!(pages.check(&page).is_err(), "a row goes on over pages");
        assert!(lists(1, &[0x80], 3).0.is_err() && lists(1, &[0x05, 0x01], 3).0.is_err(), "cut off");
    }

    #[test]
    fn levels_that_are_longer_than_their_page_are_refused() {
        let page = Page::DataPage {
            buf: vec![0xff; 6].into(),
            num_values: 3,
            encoding: Encoding::PLAIN,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        assert!(error(of_texts(0).check(&page)).contains("4294967295 bytes of a page that has 2 more"));
    }
}
