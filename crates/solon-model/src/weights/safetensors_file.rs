//! One safetensors file, read tensor by tensor and written as a stream.
//!
//! Contract: [`SafetensorsFile::open`] checks the whole header (no name twice, known types, sizes that match shapes,
//! offsets that cover the data once and leave no hole) before a byte of data is read, so later reads cannot leave the
//! file. We parse the header ourselves because the `safetensors` crate wants the whole file in memory, which would
//! double the peak, and lets the last of two equal names win.
//!
//! Source: <https://github.com/huggingface/safetensors#format>.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::error::DAMAGED;
use super::{SaveType, Tensor, WeightsError, check_finite, element_count, with_room};

/// The format's own limit on its header.
const MAX_HEADER: u64 = 100_000_000;

/// An open file and its checked table of contents.
pub(super) struct SafetensorsFile {
    path: PathBuf,
    file: File,
    /// Where the data begins.
    data_start: u64,
    /// By name; offsets count from `data_start`.
    pub(super) tensors: BTreeMap<String, TensorInfo>,
}

/// The first bytes of a file.
fn start_of(file: &mut File, path: &Path) -> Result<Vec<u8>, WeightsError> {
    let mut start = Vec::new();
    file.rewind()
        .and_then(|()| file.take(64).read_to_end(&mut start))
        .map_err(WeightsError::io(path, "read"))?;
    Ok(start)
}

impl SafetensorsFile {
    /// Opens a file and checks its header against its size.
    pub(super) fn open(path: &Path) -> Result<Self, WeightsError> {
        let invalid = |field: &str, found: String| WeightsError::invalid(path, field, found, DAMAGED);
        let mut file = File::open(path).map_err(WeightsError::io(path, "open"))?;
        let size = file.metadata().map_err(WeightsError::io(path, "read the size of"))?.len();
        if size < 8 {
            return Err(invalid("header", format!("the file has {size} bytes, fewer than its length field")));
        }
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(WeightsError::io(path, "read"))?;
        let length = u64::from_le_bytes(length);
        // Read as a length, a pointer's first bytes are far more than any file has.
        if length > MAX_HEADER
            && let Some(pointer) = WeightsError::if_pointer(path, &start_of(&mut file, path)?)
        {
            return Err(pointer);
        }
        if length > MAX_HEADER || length > size - 8 {
            return Err(invalid("header length", format!("{length} bytes in a file of {size}")));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(WeightsError::io(path, "read"))?;
        let data_size = size - 8 - length;

        let mut deserializer = serde_json::Deserializer::from_slice(&header);
        let tensors = deserializer
            .deserialize_map(HeaderVisitor)
            .and_then(|tensors| deserializer.end().map(|()| tensors))
            .map_err(|error| invalid("header", error.to_string()))?;
        check_layout(path, &tensors, data_size)?;
        Ok(Self { path: path.to_path_buf(), file, data_start: 8 + length, tensors })
    }

    /// Reads one tensor and widens it to f32.
    pub(super) fn read(&mut self, name: &str) -> Result<Tensor, WeightsError> {
        let Some(info) = self.tensors.get(name) else {
            return Err(WeightsError::tensor(&self.path, name, "missing", DAMAGED));
        };
        let (begin, end) = info.data_offsets;
        let mut bytes: Vec<u8> = with_room(&self.path, name, end - begin)?;
        let read = self
            .file
            .seek(SeekFrom::Start(self.data_start + begin as u64))
            .and_then(|_| (&mut self.file).take((end - begin) as u64).read_to_end(&mut bytes))
            .map_err(WeightsError::io(&self.path, "read"))?;
        if read != end - begin {
            return Err(WeightsError::tensor(
                &self.path,
                name,
                "the file became shorter while it was read",
                DAMAGED,
            ));
        }
        let mut data = with_room(&self.path, name, element_count(&info.shape).unwrap_or(0))?;
        match info.dtype {
            Dtype::F32 => {
                data.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
            }
            Dtype::F16 => {
                data.extend(bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()))
            }
            Dtype::BF16 => {
                data.extend(bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()))
            }
            // check_layout let only the three above pass.
            other => return Err(unsupported_type(&self.path, name, other)),
        }
        check_finite(&self.path, name, &data)?;
        Ok(Tensor { shape: info.shape.clone(), data })
    }
}

/// Bytes per element of the types we read.
fn type_size(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::F32 => Some(4),
        Dtype::F16 | Dtype::BF16 => Some(2),
        _ => None,
    }
}

fn unsupported_type(path: &Path, name: &str, dtype: Dtype) -> WeightsError {
    WeightsError::unsupported(
        path,
        format!("tensor {name}"),
        format!("its type is {dtype}"),
        "F32, F16 and BF16 are read; save the model unquantized in one of them",
    )
}

fn check_layout(
    path: &Path,
    tensors: &BTreeMap<String, TensorInfo>,
    data_size: u64,
) -> Result<(), WeightsError> {
    let mut in_order: Vec<_> = tensors.iter().collect();
    in_order.sort_by_key(|(_, info)| info.data_offsets);
    let mut position = 0;
    for (name, info) in in_order {
        let (begin, end) = info.data_offsets;
        let damaged = |found: String| WeightsError::tensor(path, name, found, DAMAGED);
        let size = type_size(info.dtype).ok_or_else(|| unsupported_type(path, name, info.dtype))?;
        let bytes = element_count(&info.shape)
            .and_then(|count| count.checked_mul(size))
            .ok_or_else(|| damaged(format!("its shape {:?} overflows", info.shape)))?;
        if begin != position || end < begin || end - begin != bytes {
            return Err(damaged(format!(
                "bytes {begin}..{end} for shape {:?} of {}; the data before it ends at {position}",
                info.shape, info.dtype
            )));
        }
        position = end;
    }
    if position as u64 != data_size {
        return Err(WeightsError::invalid(
            path,
            "data",
            format!("{data_size} bytes, but the header describes {position}"),
            DAMAGED,
        ));
    }
    Ok(())
}

/// Collects the header's entries and refuses a name that comes twice.
struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = BTreeMap<String, TensorInfo>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map from tensor names to type, shape and offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut tensors = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<serde::de::IgnoredAny>()?;
                continue;
            }
            let info = map.next_value::<TensorInfo>()?;
            if tensors.contains_key(&name) {
                return Err(serde::de::Error::custom(format!("tensor {name} is listed twice")));
            }
            tensors.insert(name, info);
        }
        Ok(tensors)
    }
}

/// Writes the tensors in the order of the map, converting one at a time. The same input gives the same bytes.
pub(super) fn write(
    writer: &mut impl Write,
    tensors: &BTreeMap<&str, &Tensor>,
    save_type: SaveType,
) -> std::io::Result<()> {
    let (dtype, size) = match save_type {
        SaveType::F32 => ("F32", 4),
        SaveType::Bf16 => ("BF16", 2),
    };
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), serde_json::json!({"format": "pt"}));
    let mut position = 0;
    for (name, tensor) in tensors {
        let end = position + tensor.data.len() * size;
        let info =
            serde_json::json!({"dtype": dtype, "shape": tensor.shape, "data_offsets": [position, end]});
        header.insert(name.to_string(), info);
        position = end;
    }
    let mut header = serde_json::to_vec(&header)?;
    // The format asks for data aligned to 8 bytes, with spaces as filling.
    header.resize(header.len().next_multiple_of(8), b' ');
    writer.write_all(&(header.len() as u64).to_le_bytes())?;
    writer.write_all(&header)?;
    let mut bytes = Vec::new();
    for tensor in tensors.values() {
        for values in tensor.data.chunks(1 << 16) {
            bytes.clear();
            match save_type {
                SaveType::F32 => values.iter().for_each(|value| bytes.extend(value.to_le_bytes())),
                SaveType::Bf16 => {
                    values.iter().for_each(|&value| bytes.extend(bf16::from_f32(value).to_le_bytes()))
                }
            }
            writer.write_all(&bytes)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes `header` and `data` as a file and opens it.
    fn open(header: &str, data: &[u8]) -> Result<SafetensorsFile, WeightsError> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        open_bytes(&bytes)
    }

    fn open_bytes(bytes: &[u8]) -> Result<SafetensorsFile, WeightsError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        SafetensorsFile::open(file.path())
    }

    #[track_caller]
    fn refuses(header: &str, data: &[u8], part: &str) {
        let message = open(header, data).err().expect("must be refused").to_string();
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }

    #[test]
    fn reads_the_three_types() {
        let mut file = open(
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
                "b":{"dtype":"F16","shape":[1,2],"data_offsets":[4,8]},
                "c":{"dtype":"BF16","shape":[],"data_offsets":[8,10]},"__metadata__":{"format":"pt"}}"#,
            &[0, 0, 0x80, 0x3f, 0, 0x3c, 1, 0, 0x80, 0xbf],
        )
        .unwrap();
        assert_eq!(file.read("a").unwrap(), Tensor { shape: vec![1], data: vec![1.0] });
        // 0x0001 is the smallest subnormal of f16.
        assert_eq!(file.read("b").unwrap(), Tensor { shape: vec![1, 2], data: vec![1.0, 2f32.powi(-24)] });
        assert_eq!(file.read("c").unwrap(), Tensor { shape: vec![], data: vec![-1.0] });
    }

    #[test]
    fn refuses_hostile_headers() {
        let zeros = [0; 64];
        refuses(
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
            &zeros[..4],
            "tensor a: bytes 0..4",
        );
        refuses(
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
            &zeros[..4],
            "tensor a: bytes 4..0",
        );
        refuses(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, &zeros[..8], "ends at 0");
        refuses(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, &zeros[..8], "data: 8 bytes");
        refuses(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, &[], "data: 0 bytes");
        refuses(
            r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,4]}}"#,
            &zeros[..4],
            "overflows",
        );
        refuses(
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
                "b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
            &zeros[..4],
            "tensor b: bytes 0..4",
        );
        refuses(
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
                "a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
            &zeros[..4],
            "listed twice",
        );
        refuses(r#"{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#, &zeros[..8], "its type is I64");
        refuses(r#"{"a":{"dtype":"Q9","shape":[1],"data_offsets":[0,8]}}"#, &zeros[..8], "Q9");
        refuses(r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, &zeros[..4], "-1");
        refuses("{} {}", &[], "header");
        refuses(r#"{"a":"#, &[], "header");
    }

    #[test]
    fn refuses_a_bad_length_or_encoding() {
        assert!(open_bytes(&[1, 2, 3]).is_err());
        assert!(open_bytes(&u64::MAX.to_le_bytes()).is_err());
        assert!(open_bytes(&9u64.to_le_bytes()).is_err());
        assert!(open_bytes(&[4, 0, 0, 0, 0, 0, 0, 0, b'{', 0xff, 0xfe, b'}']).is_err());
    }

    #[test]
    fn refuses_values_that_are_not_finite() {
        let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let data = [1.0f32.to_le_bytes(), f32::NAN.to_le_bytes()].concat();
        let message = open(header, &data).unwrap().read("a").unwrap_err().to_string();
        assert!(message.contains("tensor a: element 1 is NaN"), "{message}");
    }

    #[test]
    fn what_it_writes_the_safetensors_crate_reads() {
        let a = Tensor { shape: vec![2, 1], data: vec![1.5, -2.0] };
        let b = Tensor { shape: vec![1], data: vec![0.1] };
        let tensors = BTreeMap::from([("b", &b), ("a", &a)]);
        let mut bytes = Vec::new();
        write(&mut bytes, &tensors, SaveType::Bf16).unwrap();
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(read.tensor("a").unwrap().shape(), [2, 1]);
        assert_eq!(read.tensor("b").unwrap().data(), bf16::from_f32(0.1).to_le_bytes());
        assert_eq!(open_bytes(&bytes).unwrap().read("a").unwrap(), a);
    }
}
