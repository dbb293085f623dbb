//! Writes the GGUF container, version 3: metadata, then tensors one at a time.
//!
//! Contract: the same keys and tensors give the same bytes. The file appears whole or not at all (`staging.rs`). Beside
//! the values of one tensor, a few megabytes are held in memory.
//!
//! Source: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use super::gguf::MAGIC;
use super::gguf_quant::GgmlType;
use super::gguf_quantize::quantize;
use super::{WeightsError, element_count, staging};

/// GGUF's own where the file names no other.
const ALIGNMENT: usize = 32;
/// Values that are quantised at a time: whole blocks of every type.
const PIECE: usize = 1 << 20;

/// What a metadata key holds.
#[derive(Clone, Debug, PartialEq)]
pub enum GgufValue {
    /// A whole number.
    U32(u32),
    /// A number.
    F32(f32),
    /// True or false.
    Bool(bool),
    /// A string.
    Text(String),
    /// A list of strings.
    Texts(Vec<String>),
    /// A list of whole numbers.
    I32s(Vec<i32>),
    /// A list of numbers.
    F32s(Vec<f32>),
}

impl GgufValue {
    /// Number of the type in the file.
    fn id(&self) -> u32 {
        match self {
            Self::U32(_) => 4,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::Text(_) => 8,
            Self::Texts(_) | Self::I32s(_) | Self::F32s(_) => 9,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let list = |out: &mut Vec<u8>, kind: u32, count: usize| {
            out.extend(kind.to_le_bytes());
            out.extend((count as u64).to_le_bytes());
        };
        match self {
            Self::U32(value) => out.extend(value.to_le_bytes()),
            Self::F32(value) => out.extend(value.to_le_bytes()),
            Self::Bool(value) => out.push((*value).into()),
            Self::Text(text) => write_text(text, out),
            Self::Texts(texts) => {
                list(out, 8, texts.len());
                texts.iter().for_each(|text| write_text(text, out));
            }
            Self::I32s(values) => {
                list(out, 5, values.len());
                out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            Self::F32s(values) => {
                list(out, 6, values.len());
                out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
        }
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// A tensor to write.
#[derive(Debug)]
pub(super) struct PlannedTensor {
    /// Its name in the file.
    pub(super) name: String,
    /// Slowest axis first; the last is whole blocks of `kind`.
    pub(super) shape: Vec<usize>,
    /// How its values are stored.
    pub(super) kind: GgmlType,
}

impl PlannedTensor {
    fn bytes(&self) -> usize {
        let values = element_count(&self.shape).unwrap_or(0);
        values / self.kind.block_length() * self.kind.block_bytes()
    }
}

/// Writes a file. `values` gives those of a tensor by its place in `tensors`; it is called in their order.
pub(super) fn write<'a>(
    path: &Path,
    keys: &[(String, GgufValue)],
    tensors: &[PlannedTensor],
    values: impl Fn(usize) -> Cow<'a, [f32]>,
) -> Result<(), WeightsError> {
    let mut seen = BTreeSet::new();
    if let Some((twice, _)) = keys.iter().find(|(key, _)| !seen.insert(key)) {
        return Err(WeightsError::invalid(path, twice, "the key comes twice", "give each key once"));
    }
    let header = header(keys, tensors);
    staging::write_file(path, |writer| {
        writer.write_all(&header)?;
        let mut piece = Vec::new();
        for (place, tensor) in tensors.iter().enumerate() {
            let values = values(place);
            debug_assert_eq!(Some(values.len()), element_count(&tensor.shape));
            for values in values.chunks(PIECE) {
                quantize(tensor.kind, values, &mut piece);
                writer.write_all(&piece)?;
            }
            let bytes = tensor.bytes();
            writer.write_all(&[0; ALIGNMENT][..bytes.next_multiple_of(ALIGNMENT) - bytes])?;
        }
        Ok(())
    })
}

/// Everything before the tensors' data, with the padding after it.
fn header(keys: &[(String, GgufValue)], tensors: &[PlannedTensor]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((keys.len() as u64).to_le_bytes());
    for (key, value) in keys {
        write_text(key, &mut out);
        out.extend(value.id().to_le_bytes());
        value.write(&mut out);
    }
    let mut offset = 0;
    for tensor in tensors {
        write_text(&tensor.name, &mut out);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        // The file's order is the fastest axis first.
        out.extend(tensor.shape.iter().rev().flat_map(|&axis| (axis as u64).to_le_bytes()));
        out.extend(tensor.kind.id().to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset += tensor.bytes().next_multiple_of(ALIGNMENT);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    out
}

#[cfg(test)]
mod tests {
    use super::super::gguf::GgufFile;
    use super::*;

    fn planned(name: &str, shape: &[usize], kind: GgmlType) -> PlannedTensor {
        PlannedTensor { name: name.to_string(), shape: shape.to_vec(), kind }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/model.gguf");
        let keys = [
            ("count", GgufValue::U32(7)),
            ("eps", GgufValue::F32(1e-5)),
            ("flag", GgufValue::Bool(true)),
            ("name", GgufValue::Text("zoë".to_string())),
            ("tokens", GgufValue::Texts(vec!["a".to_string(), String::new()])),
            ("types", GgufValue::I32s(vec![1, -1])),
            ("scores", GgufValue::F32s(vec![1.5, f32::NEG_INFINITY])),
        ]
        .map(|(key, value)| (key.to_string(), value));
        let tensors = [
            planned("t", &[2, 3], GgmlType::F32),
            planned("u", &[1], GgmlType::F32),
            planned("v", &[4], GgmlType::BF16),
        ];
        let data = [vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], vec![7.0], vec![0.5, -2.0, 0.0, 3.0]];
        write(&path, &keys, &tensors, |place| Cow::Borrowed(&data[place])).unwrap();
        let mut file = GgufFile::open(&path).unwrap();
        for (tensor, data) in tensors.iter().zip(&data) {
            let read = file.read(&tensor.name).unwrap();
            assert_eq!((&read.shape, &read.data), (&tensor.shape, data));
        }
        let metadata = &file.metadata;
        assert_eq!(metadata.u64("count").unwrap(), Some(7));
        assert_eq!(metadata.f32("eps").unwrap(), Some(1e-5));
        assert_eq!(metadata.bool("flag").unwrap(), Some(true));
        assert_eq!(metadata.string("name").unwrap(), Some("zoë"));
        assert_eq!(metadata.strings("tokens").unwrap().unwrap(), ["a", ""]);
        assert_eq!(metadata.i32s("types").unwrap().unwrap(), [1, -1]);
        assert_eq!(metadata.f32s("scores").unwrap().unwrap(), [1.5, f32::NEG_INFINITY]);
        let once = std::fs::read(&path).unwrap();
        write(&path, &keys, &tensors, |place| Cow::Borrowed(&data[place])).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), once);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_key_that_comes_twice_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let keys = [("k".to_string(), GgufValue::U32(1)), ("k".to_string(), GgufValue::U32(2))];
        let message = write(&path, &keys, &[], |_| Cow::Borrowed(&[])).unwrap_err().to_string();
        assert!(message.contains("k: the key comes twice") && !path.exists(), "{message}");
        let message = write(folder.path(), &[], &[], |_| Cow::Borrowed(&[])).unwrap_err().to_string();
        assert!(message.contains("file: a folder"), "{message}");
    }
}
