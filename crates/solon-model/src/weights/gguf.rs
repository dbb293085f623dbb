//! The GGUF container, versions 2 and 3: metadata, and tensors read one at a time.
//!
//! Contract: `GgufFile::open` checks the whole header (counts and lengths against the bytes that are left, no key or
//! tensor twice, known types, whole blocks, aligned offsets, data inside the file and not shared) before any data is
//! read. Nothing is allocated from a count in the file: lists grow as their elements are read. The file is not mapped;
//! peak memory is the largest tensor twice.
//!
//! Source: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::error::DAMAGED;
use super::gguf_quant::{GgmlType, dequantize};
use super::{Tensor, WeightsError, check_finite, element_count, with_room};

/// The first four bytes.
pub const MAGIC: &[u8] = b"GGUF";

/// Far above the largest published header (about 20 MB, a vocabulary of 256,000); bounds what a hostile one can take.
const MAX_HEADER: u64 = 256 << 20;
const MAX_NAME: u64 = 4096;

/// What a metadata key holds. Arrays of booleans are kept as 0 and 1.
#[derive(Clone)]
enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Integers(Vec<i32>),
    Floats(Vec<f32>),
    /// An array with a number that i32 cannot hold: an error only for whoever asks for it.
    Unread,
}

/// The key-value pairs of a GGUF file.
///
/// Getters return `None` where the key is absent, and an error where it holds something else than was asked for.
#[derive(Clone)]
pub struct GgufMetadata {
    path: PathBuf,
    entries: BTreeMap<String, Value>,
}

impl fmt::Debug for GgufMetadata {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "GgufMetadata({} keys of {})", self.entries.len(), self.path.display())
    }
}

impl GgufMetadata {
    fn get<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, WeightsError> {
        let Some(value) = self.entries.get(key) else { return Ok(None) };
        let wrong = || WeightsError::invalid(&self.path, key, format!("it holds no {wanted}"), DAMAGED);
        convert(value).map(Some).ok_or_else(wrong)
    }

    /// Whether the key is there, of whatever type.
    pub fn contains(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// A string.
    pub fn string(&self, key: &str) -> Result<Option<&str>, WeightsError> {
        self.get(key, "string", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// An integer of any width that is not negative.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, WeightsError> {
        self.get(key, "whole number", |value| match value {
            Value::Unsigned(value) => Some(*value),
            Value::Signed(value) => u64::try_from(*value).ok(),
            _ => None,
        })
    }

    /// A finite floating-point number of either width.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, WeightsError> {
        self.get(key, "finite number", |value| match value {
            Value::Float(value) => Some(*value as f32).filter(|value| value.is_finite()),
            _ => None,
        })
    }

    /// A boolean.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, WeightsError> {
        self.get(key, "true or false", |value| match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        })
    }

    /// An array of strings.
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>, WeightsError> {
        self.get(key, "list of strings", |value| match value {
            Value::Texts(texts) => Some(texts.as_slice()),
            _ => None,
        })
    }

    /// An array of integers (or booleans, as 0 and 1) that all fit an i32.
    pub fn i32s(&self, key: &str) -> Result<Option<&[i32]>, WeightsError> {
        self.get(key, "list of 32-bit integers", |value| match value {
            Value::Integers(values) => Some(values.as_slice()),
            _ => None,
        })
    }

    /// An array of floating-point numbers, which may be infinite or NaN.
    pub fn f32s(&self, key: &str) -> Result<Option<&[f32]>, WeightsError> {
        self.get(key, "list of numbers", |value| match value {
            Value::Floats(values) => Some(values.as_slice()),
            _ => None,
        })
    }
}

/// Where a tensor lies and how it is stored.
#[derive(Clone, Debug)]
pub(super) struct TensorInfo {
    /// Slowest axis first, the reverse of the file's order.
    pub(super) shape: Vec<usize>,
    kind: GgmlType,
    /// From the start of the data.
    offset: u64,
    bytes: u64,
}

/// An open file and its checked header.
pub(super) struct GgufFile {
    path: PathBuf,
    file: File,
    data_start: u64,
    pub(super) metadata: GgufMetadata,
    pub(super) tensors: BTreeMap<String, TensorInfo>,
}

impl GgufFile {
    /// Opens a file and checks its header against its size.
    pub(super) fn open(path: &Path) -> Result<Self, WeightsError> {
        let mut header = Header::open(path)?;
        if header.array::<4>("magic")? != MAGIC {
            return Err(header.invalid("magic", "not GGUF"));
        }
        let version = header.u32("version")?;
        if !(2..=3).contains(&version) {
            let (hint, found) = match version.swap_bytes() {
                2 | 3 => ("convert it with gguf_convert_endian.py", "a big-endian file".to_string()),
                _ => ("versions 2 and 3 are read; convert the model again", format!("{version}")),
            };
            return Err(WeightsError::unsupported(path, "version", found, hint));
        }
        let tensor_count = header.u64("tensor count")?;
        let key_count = header.u64("key count")?;
        // A tensor takes at least 32 bytes (name length, axis count, one axis, type, offset), a key 13.
        if tensor_count.checked_mul(32).is_none_or(|bytes| bytes > header.left()) {
            return Err(header.invalid("tensor count", format!("{tensor_count} in {} bytes", header.size)));
        }
        if key_count.checked_mul(13).is_none_or(|bytes| bytes > header.left()) {
            return Err(header.invalid("key count", format!("{key_count} in {} bytes", header.size)));
        }

        let mut entries = BTreeMap::new();
        for _ in 0..key_count {
            let key = header.text("key", MAX_NAME)?;
            let value = header.value(&key)?;
            if entries.contains_key(&key) {
                return Err(header.invalid(&key, "the key comes twice"));
            }
            entries.insert(key, value);
        }
        let metadata = GgufMetadata { path: path.to_path_buf(), entries };
        let alignment = metadata.u64("general.alignment")?.unwrap_or(32);
        if !alignment.is_power_of_two() || alignment > 1 << 20 {
            return Err(
                header.invalid("general.alignment", format!("{alignment} is no power of two up to 2^20"))
            );
        }

        let mut tensors = BTreeMap::new();
        for _ in 0..tensor_count {
            let name = header.text("tensor name", MAX_NAME)?;
            let info = header.tensor_info(&name, alignment)?;
            if tensors.contains_key(&name) {
                return Err(WeightsError::tensor(path, name, "listed twice", DAMAGED));
            }
            tensors.insert(name, info);
        }
        let data_start = header.position.next_multiple_of(alignment);
        check_places(path, &tensors, header.size.saturating_sub(data_start))?;
        Ok(Self { path: path.to_path_buf(), file: header.reader.into_inner(), data_start, metadata, tensors })
    }

    /// Reads one tensor and widens it to f32.
    pub(super) fn read(&mut self, name: &str) -> Result<Tensor, WeightsError> {
        let Some(info) = self.tensors.get(name) else {
            return Err(WeightsError::tensor(&self.path, name, "missing", DAMAGED));
        };
        let mut bytes: Vec<u8> = with_room(&self.path, name, info.bytes as usize)?;
        let read = self
            .file
            .seek(SeekFrom::Start(self.data_start + info.offset))
            .and_then(|_| (&mut self.file).take(info.bytes).read_to_end(&mut bytes))
            .map_err(WeightsError::io(&self.path, "read"))?;
        if read as u64 != info.bytes {
            return Err(WeightsError::tensor(
                &self.path,
                name,
                "the file became shorter while it was read",
                DAMAGED,
            ));
        }
        let mut data = with_room(&self.path, name, element_count(&info.shape).unwrap_or(0))?;
        dequantize(info.kind, &bytes, &mut data);
        check_finite(&self.path, name, &data)?;
        Ok(Tensor { shape: info.shape.clone(), data })
    }
}

/// Holds the tensors' places to the size of the data, and refuses bytes that belong to two of them.
fn check_places(
    path: &Path,
    tensors: &BTreeMap<String, TensorInfo>,
    data_size: u64,
) -> Result<(), WeightsError> {
    let mut in_order: Vec<_> = tensors.iter().collect();
    in_order.sort_by_key(|(_, info)| info.offset);
    let mut position = 0;
    for (name, info) in in_order {
        let end =
            info.offset.checked_add(info.bytes).filter(|&end| info.offset >= position && end <= data_size);
        position = end.ok_or_else(|| {
            let found = format!(
                "{} bytes at {}, after data up to {position} of {data_size}",
                info.bytes, info.offset
            );
            WeightsError::tensor(path, name, found, DAMAGED)
        })?;
    }
    Ok(())
}

/// The header while it is being read.
struct Header<'a> {
    path: &'a Path,
    reader: BufReader<File>,
    position: u64,
    size: u64,
}

impl<'a> Header<'a> {
    fn open(path: &'a Path) -> Result<Self, WeightsError> {
        let file = File::open(path).map_err(WeightsError::io(path, "open"))?;
        let size = file.metadata().map_err(WeightsError::io(path, "read the size of"))?.len();
        Ok(Self { path, reader: BufReader::with_capacity(1 << 16, file), position: 0, size })
    }

    fn invalid(&self, field: &str, found: impl Into<String>) -> WeightsError {
        WeightsError::invalid(self.path, field, found, DAMAGED)
    }

    /// Bytes a header may still take.
    fn left(&self) -> u64 {
        self.size.min(MAX_HEADER).saturating_sub(self.position)
    }

    /// Counts bytes about to be read.
    fn advance(&mut self, field: &str, bytes: u64) -> Result<(), WeightsError> {
        if bytes > self.left() {
            let found = format!("{bytes} bytes wanted at byte {}, {} are left", self.position, self.left());
            return Err(self.invalid(field, found));
        }
        self.position += bytes;
        Ok(())
    }

    fn array<const N: usize>(&mut self, field: &str) -> Result<[u8; N], WeightsError> {
        self.advance(field, N as u64)?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(WeightsError::io(self.path, "read"))?;
        Ok(bytes)
    }

    fn u32(&mut self, field: &str) -> Result<u32, WeightsError> {
        self.array(field).map(u32::from_le_bytes)
    }

    fn u64(&mut self, field: &str) -> Result<u64, WeightsError> {
        self.array(field).map(u64::from_le_bytes)
    }

    fn text(&mut self, field: &str, limit: u64) -> Result<String, WeightsError> {
        let length = self.u64(field)?;
        if length > limit {
            return Err(self.invalid(field, format!("a string of {length} bytes")));
        }
        self.advance(field, length)?;
        let mut bytes = Vec::new();
        (&mut self.reader)
            .take(length)
            .read_to_end(&mut bytes)
            .map_err(WeightsError::io(self.path, "read"))?;
        if bytes.len() as u64 != length {
            return Err(self.invalid(field, "the file became shorter while it was read"));
        }
        String::from_utf8(bytes).map_err(|_| self.invalid(field, "a string that is not UTF-8"))
    }

    fn bool(&mut self, field: &str) -> Result<bool, WeightsError> {
        match self.array::<1>(field)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(self.invalid(field, format!("{other} is no boolean"))),
        }
    }

    fn value(&mut self, key: &str) -> Result<Value, WeightsError> {
        let kind = self.u32(key)?;
        match kind {
            8 => self.text(key, MAX_HEADER).map(Value::Text),
            9 => self.list(key),
            _ => self.scalar(key, kind),
        }
    }

    fn scalar(&mut self, key: &str, kind: u32) -> Result<Value, WeightsError> {
        Ok(match kind {
            0 => Value::Unsigned(u8::from_le_bytes(self.array(key)?).into()),
            1 => Value::Signed(i8::from_le_bytes(self.array(key)?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.array(key)?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.array(key)?).into()),
            4 => Value::Unsigned(self.u32(key)?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.array(key)?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array(key)?).into()),
            7 => Value::Bool(self.bool(key)?),
            10 => Value::Unsigned(self.u64(key)?),
            11 => Value::Signed(i64::from_le_bytes(self.array(key)?)),
            12 => Value::Float(f64::from_le_bytes(self.array(key)?)),
            other => return Err(self.invalid(key, format!("value type {other} does not exist"))),
        })
    }

    fn list(&mut self, key: &str) -> Result<Value, WeightsError> {
        let kind = self.u32(key)?;
        let count = self.u64(key)?;
        let size: u64 = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8, // a string has at least its length
            9 => {
                return Err(WeightsError::unsupported(
                    self.path,
                    key,
                    "a list of lists",
                    "no model's metadata has one",
                ));
            }
            other => return Err(self.invalid(key, format!("value type {other} does not exist"))),
        };
        if count.checked_mul(size).is_none_or(|bytes| bytes > self.left()) {
            return Err(self.invalid(key, format!("a list of {count}, with {} bytes left", self.left())));
        }
        if kind == 8 {
            return (0..count)
                .map(|_| self.text(key, MAX_HEADER))
                .collect::<Result<_, _>>()
                .map(Value::Texts);
        }
        let (mut integers, mut floats, mut fits) = (Vec::new(), Vec::new(), true);
        for _ in 0..count {
            let integer = match self.scalar(key, kind)? {
                Value::Float(value) => {
                    floats.push(value as f32);
                    continue;
                }
                Value::Unsigned(value) => i32::try_from(value).ok(),
                Value::Signed(value) => i32::try_from(value).ok(),
                Value::Bool(value) => Some(value.into()),
                _ => None,
            };
            fits &= integer.is_some();
            integers.extend(integer);
        }
        Ok(match kind {
            6 | 12 => Value::Floats(floats),
            _ if fits => Value::Integers(integers),
            _ => Value::Unread,
        })
    }

    fn tensor_info(&mut self, name: &str, alignment: u64) -> Result<TensorInfo, WeightsError> {
        let (path, field) = (self.path, "tensor info");
        let damaged = |found: String| WeightsError::tensor(path, name, found, DAMAGED);
        let axes = self.u32(field)?;
        if !(1..=4).contains(&axes) {
            return Err(damaged(format!("{axes} axes")));
        }
        let mut shape = Vec::new();
        for _ in 0..axes {
            let length = self.u64(field)?;
            let length = usize::try_from(length).ok().filter(|&length| length > 0);
            shape.push(length.ok_or_else(|| damaged("an axis of impossible length".to_string()))?);
        }
        let kind = self.u32(field)?;
        let kind = GgmlType::from_id(kind).ok_or_else(|| {
            WeightsError::unsupported(
                path,
                format!("tensor {name}"),
                format!("ggml type {kind}{}", GgmlType::foreign_name(kind)),
                "choose a file in F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or Q6_K",
            )
        })?;
        let offset = self.u64(field)?;
        // Blocks run along the file's first axis.
        if shape[0] % kind.block_length() != 0 {
            return Err(damaged(format!("rows of {} are not whole blocks of {kind:?}", shape[0])));
        }
        if offset % alignment != 0 {
            return Err(damaged(format!("its offset {offset} is not aligned to {alignment}")));
        }
        // The f32 values must be countable too, not only the stored bytes.
        let count = element_count(&shape).filter(|count| count.checked_mul(4).is_some());
        let bytes = count.and_then(|count| (count / kind.block_length()).checked_mul(kind.block_bytes()));
        let bytes = bytes.ok_or_else(|| damaged(format!("its shape {shape:?} overflows")))? as u64;
        shape.reverse();
        Ok(TensorInfo { shape, kind, offset, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_models::GgufBuilder;
    use super::*;

    fn open(bytes: &[u8]) -> Result<GgufFile, WeightsError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        GgufFile::open(file.path())
    }

    #[track_caller]
    fn refuses(bytes: &[u8], part: &str) {
        let message = open(bytes).err().expect("must be refused").to_string();
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }

    /// One tensor `t` of shape `axes` (fastest first), with 64 bytes of data.
    fn one_tensor(axes: &[u64], kind: u32, offset: u64) -> Vec<u8> {
        GgufBuilder::default().raw_tensor("t", axes, kind, offset).finish(&[0; 64])
    }

    #[test]
    fn reads_metadata_and_tensors() {
        let mut builder = GgufBuilder::default()
            .text("name", "zoë")
            .u32("count", 7)
            .f32("eps", 1e-5)
            .raw_key("negative", 5, &(-1i32).to_le_bytes())
            .raw_key("flag", 7, &[1])
            .texts("tokens", &["a", "b"])
            .raw_list("types", 5, 2, &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])
            .raw_list("large", 10, 1, &[0xff; 8])
            .raw_list("scores", 6, 1, &1.5f32.to_le_bytes());
        builder.tensor("t", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        builder.tensor("u", &[1], &[7.0]);
        let mut file = open(&builder.build()).unwrap();
        assert_eq!(
            file.read("t").unwrap(),
            Tensor { shape: vec![2, 3], data: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] }
        );
        assert_eq!(file.read("u").unwrap(), Tensor { shape: vec![1], data: vec![7.0] });
        let metadata = &file.metadata;
        assert_eq!(metadata.string("name").unwrap(), Some("zoë"));
        assert_eq!(metadata.u64("count").unwrap(), Some(7));
        assert_eq!(metadata.f32("eps").unwrap(), Some(1e-5));
        assert_eq!(metadata.bool("flag").unwrap(), Some(true));
        assert_eq!(metadata.strings("tokens").unwrap().unwrap(), ["a", "b"]);
        assert_eq!(metadata.i32s("types").unwrap().unwrap(), [1, -1]);
        assert_eq!(metadata.f32s("scores").unwrap().unwrap(), [1.5]);
        assert_eq!(metadata.u64("absent").unwrap(), None);
        assert!(
            metadata.u64("negative").is_err()
                && metadata.u64("name").is_err()
                && metadata.i32s("large").is_err()
        );
        assert!(format!("{metadata:?}").len() < 200);
    }

    #[test]
    fn every_truncation_is_an_error() {
        let mut builder = GgufBuilder::default().text("name", "x").texts("tokens", &["a", "b"]);
        builder.tensor("t", &[2, 3], &[1.0; 6]);
        let bytes = builder.build();
        for length in 0..bytes.len() {
            assert!(open(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
        }
        open(&bytes).unwrap();
    }

    #[test]
    fn refuses_hostile_counts_and_lengths() {
        let start = |version: u32, tensors: u64, keys: u64| {
            [MAGIC, &version.to_le_bytes(), &tensors.to_le_bytes(), &keys.to_le_bytes()].concat()
        };
        refuses(b"GGML\0\0\0\0", "magic");
        refuses(&start(1, 0, 0), "version: 1");
        refuses(&start(3u32.swap_bytes(), 0, 0), "big-endian");
        refuses(&start(3, u64::MAX, 0), "tensor count");
        refuses(&start(3, 1 << 40, 0), "tensor count");
        refuses(&start(3, 0, u64::MAX / 13), "key count");
        let with_key = |kind: u32, value: &[u8]| GgufBuilder::default().raw_key("k", kind, value).finish(&[]);
        refuses(&with_key(8, &u64::MAX.to_le_bytes()), "k: a string of");
        refuses(&with_key(8, &100u64.to_le_bytes()), "k: 100 bytes wanted");
        refuses(&with_key(8, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff]), "k: a string that is not UTF-8");
        refuses(&with_key(7, &[2]), "k: 2 is no boolean");
        refuses(&with_key(13, &[0; 8]), "k: value type 13");
        let list =
            |kind: u32, count: u64| GgufBuilder::default().raw_list("k", kind, count, &[0; 16]).finish(&[]);
        refuses(&list(8, u64::MAX), "k: a list of");
        refuses(&list(4, 1 << 62), "k: a list of");
        refuses(&list(0, 1 << 40), "k: a list of");
        refuses(&list(9, 1), "k: a list of lists");
        refuses(&list(99, 1), "k: value type 99");
        refuses(&GgufBuilder::default().u32("k", 1).u32("k", 1).finish(&[]), "k: the key comes twice");
        for alignment in [0, 3, 1 << 30] {
            refuses(
                &GgufBuilder::default().u32("general.alignment", alignment).finish(&[]),
                "general.alignment",
            );
        }
    }

    #[test]
    fn refuses_hostile_tensors() {
        open(&one_tensor(&[16], 0, 0)).unwrap();
        refuses(&one_tensor(&[16], 0, 32), "tensor t: 64 bytes at 32");
        refuses(&one_tensor(&[17], 0, 0), "tensor t: 68 bytes at 0");
        refuses(&one_tensor(&[4], 0, 4), "not aligned");
        refuses(&one_tensor(&[4], 0, u64::MAX - 31), "tensor t: 16 bytes at");
        refuses(&one_tensor(&[u64::MAX], 0, 0), "overflows");
        refuses(&one_tensor(&[1 << 32, 1 << 32], 0, 0), "overflows");
        refuses(&one_tensor(&[1 << 62], 1, 0), "overflows");
        refuses(&one_tensor(&[0], 0, 0), "impossible length");
        refuses(&one_tensor(&[], 0, 0), "0 axes");
        refuses(&one_tensor(&[1; 5], 0, 0), "5 axes");
        refuses(&one_tensor(&[33], 2, 0), "whole blocks of Q4_0");
        refuses(&one_tensor(&[256], 10, 0), "ggml type 10 (Q2_K)");
        refuses(&one_tensor(&[256], 12345, 0), "ggml type 12345");
        let twice = |name: &str, offset| {
            let builder =
                GgufBuilder::default().raw_tensor("t", &[8], 0, 0).raw_tensor(name, &[8], 0, offset);
            builder.finish(&[0; 64])
        };
        open(&twice("u", 32)).unwrap();
        refuses(&twice("t", 32), "tensor t: listed twice");
        refuses(&twice("u", 0), "32 bytes at 0, after data up to 32");
    }

    #[test]
    fn refuses_values_that_are_not_finite() {
        let mut builder = GgufBuilder::default();
        builder.tensor("t", &[2], &[0.0, f32::INFINITY]);
        let message = open(&builder.build()).unwrap().read("t").unwrap_err().to_string();
        assert!(message.contains("tensor t: element 1 is inf"), "{message}");
    }
}
