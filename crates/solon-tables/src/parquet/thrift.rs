//! Thrift's compact protocol: walked to see that a struct is no larger than the bytes it is in.
//!
//! Every list has at least a byte an element, so one that is said to be longer than what is left is refused. Lists and maps of booleans are
//! refused as well: the `parquet` crate (60.1) skips those of fields that it does not know without reading a byte. The types of fields
//! are not compared with Parquet's; where they differ the crate reads something else than is walked here.
//!
//! Source: the [specification](https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md).

use std::io::{BufRead, Error, ErrorKind, Read, Result, Take};

/// How deep structs, lists and maps may lie in one another. Parquet's own are eight deep.
const DEPTH: usize = 32;

/// What a walk comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    Number(i64),
    EndOfStruct,
}

/// Walks a struct and leaves `from` behind it. `met` is called with the ids of the fields that lead to what is met, from the outermost on;
/// a list's elements have the list's.
///
/// # Errors
/// Where the bytes are no struct, end before it does, or nest too deep.
pub(super) fn walk<R: BufRead>(from: &mut Take<R>, met: &mut dyn FnMut(&[i16], Met)) -> Result<()> {
    Walk { from, met, path: Vec::new(), depth: 0 }.structure()
}

struct Walk<'a, R> {
    from: &'a mut Take<R>,
    met: &'a mut dyn FnMut(&[i16], Met),
    path: Vec<i16>,
    depth: usize,
}

impl<R: BufRead> Walk<'_, R> {
    fn structure(&mut self) -> Result<()> {
        let mut id = 0_i16;
        loop {
            let header = self.byte()?;
            if header & 0x0f == 0 {
                (self.met)(&self.path, Met::EndOfStruct);
                return Ok(());
            }
            id = match header >> 4 {
                0 => self.number()? as i16,
                more => id.checked_add(i16::from(more)).ok_or_else(|| wrong("a field's id is too large"))?,
            };
            self.path.push(id);
            match header & 0x0f {
                1 | 2 => {}
                of => self.value(of)?,
            }
            self.path.pop();
        }
    }

    fn value(&mut self, of: u8) -> Result<()> {
        match of {
            3 => self.skip(1),
            4..=6 => {
                let number = self.number()?;
                (self.met)(&self.path, Met::Number(number));
                Ok(())
            }
            7 => self.skip(8),
            8 => {
                let length = self.unsigned()?;
                self.skip(length)
            }
            9..=12 => {
                self.depth += 1;
                if self.depth > DEPTH {
                    return Err(wrong("it nests too deep"));
                }
                match of {
                    11 => self.map()?,
                    12 => self.structure()?,
                    _ => self.list()?,
                }
                self.depth -= 1;
                Ok(())
            }
            13 => self.skip(16),
            _ => Err(wrong("a type that there is not")),
        }
    }

    fn list(&mut self) -> Result<()> {
        let header = self.byte()?;
        let elements = match header >> 4 {
            15 => self.unsigned()?,
            few => u64::from(few),
        };
        self.elements(elements, &[header & 0x0f])
    }

    fn map(&mut self) -> Result<()> {
        let elements = self.unsigned()?;
        if elements == 0 {
            return Ok(());
        }
        let kinds = self.byte()?;
        self.elements(elements, &[kinds >> 4, kinds & 0x0f])
    }

    fn elements(&mut self, elements: u64, kinds: &[u8]) -> Result<()> {
        if elements > self.from.limit() {
            let left = self.from.limit();
            return Err(wrong(&format!("{elements} elements in {left} bytes")));
        }
        for _ in 0..elements {
            for kind in kinds {
                match kind {
                    1 | 2 => return Err(wrong("a list of booleans")),
                    kind => self.value(*kind)?,
                }
            }
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.from.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    fn unsigned(&mut self) -> Result<u64> {
        unsigned(self.from)
    }

    /// A whole number with its sign in the lowest bit.
    fn number(&mut self) -> Result<i64> {
        let number = self.unsigned()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        let mut left = bytes;
        while left > 0 {
            let here = self.from.fill_buf()?.len() as u64;
            if here == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let here = here.min(left);
            self.from.consume(here as usize);
            left -= here;
        }
        Ok(())
    }
}

/// A whole number of seven bits a byte, the lowest first. The pages' data has such numbers too.
pub(super) fn unsigned(from: &mut impl Read) -> Result<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        number |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] < 0x80 {
            return Ok(number);
        }
    }
    Err(wrong("a number of more than 64 bits"))
}

fn wrong(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walked(bytes: &[u8]) -> Result<(Vec<(Vec<i16>, Met)>, u64)> {
        let mut from = bytes.take(bytes.len() as u64);
        let mut all = Vec::new();
        walk(&mut from, &mut |path, met| all.push((path.to_vec(), met)))?;
        Ok((all, from.limit()))
    }

    #[test]
    fn numbers_are_met_by_their_fields() {
        // 1: i32 -3; 2: [struct { 5: i64 300 }, struct {}]; 3: "ab"; 4: true; 20: map of i32 to text { 1: "c" }; a byte behind.
        let bytes = [
            0x15, 0x05, 0x19, 0x2c, 0x56, 0xd8, 0x04, 0x00, 0x00, 0x18, 0x02, b'a', b'b', 0x11, 0x0b, 0x28,
            0x01, 0x58, 0x02, 0x01, b'c', 0x00, 0x77,
        ];
        let (all, left) = walked(&bytes).unwrap();
        let expected = [
            (vec![1], Met::Number(-3)),
            (vec![2, 5], Met::Number(300)),
            (vec![2], Met::EndOfStruct),
            (vec![2], Met::EndOfStruct),
            (vec![20], Met::Number(1)),
            (vec![], Met::EndOfStruct),
        ];
        assert_eq!(all, expected);
        assert_eq!(left, 1);
        for length in 0..bytes.len() - 1 {
            assert!(walked(&bytes[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn what_the_bytes_cannot_hold_is_refused() {
        let error = |bytes: &[u8]| walked(bytes).unwrap_err().to_string();
        // A list of 2^31 - 1 numbers, and one of booleans; a map of booleans.
        assert!(
            error(&[0x19, 0xf5, 0xff, 0xff, 0xff, 0xff, 0x07, 0x00])
                .contains("2147483647 elements in 1 bytes")
        );
        assert!(error(&[0x19, 0x21, 0x01, 0x01, 0x00]).contains("a list of booleans"));
        assert!(error(&[0x1b, 0x01, 0x11, 0x01, 0x01, 0x00]).contains("a list of booleans"));
        assert!(error(&[0x1c; 100]).contains("too deep"));
        assert!(
            error(&[0x15, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01])
                .contains("64 bits")
        );
        assert!(walked(&[0x18, 0xff, 0xff, 0xff, 0xff, 0x07, 0x00]).is_err(), "a text without end");
    }
}
