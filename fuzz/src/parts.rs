//! Several named parts in one input: `=== NAME`, the end of the line, and the part up to the next such line.
//!
//! Mutations of one text reach every file of a folder so. A part whose name ends in `.safetensors` and that begins with `{` is the
//! header of such a file: its length is put before it, and zeros for the data that it describes behind it, because mutations would
//! seldom keep the two in step. Any other part is as it stands.

use std::path::Path;

use serde_json::Value;

const MARK: &[u8] = b"=== ";
/// No more data is made up than this, whatever a header says.
const MOST_DATA: u64 = 1 << 16;

/// The parts with their names; what comes before the first mark belongs to none.
pub(crate) fn split(input: &[u8]) -> Vec<(&str, &[u8])> {
    let mut parts = Vec::new();
    let mut rest = input;
    while let Some((before, after)) = mark(rest) {
        if let Some((_, body)) = parts.last_mut() {
            *body = before;
        }
        let end = after.iter().position(|byte| *byte == b'\n').unwrap_or(after.len());
        let (name, body) = after.split_at(end);
        rest = body.get(1..).unwrap_or_default();
        parts.push((std::str::from_utf8(name).unwrap_or_default(), rest));
    }
    parts
}

/// What is before and after the next mark, which stands at the start of a line.
fn mark(input: &[u8]) -> Option<(&[u8], &[u8])> {
    if let Some(after) = input.strip_prefix(MARK) {
        return Some((&[], after));
    }
    let at = input.windows(MARK.len() + 1).position(|window| window[0] == b'\n' && &window[1..] == MARK)?;
    Some((&input[..at], &input[at + 1 + MARK.len()..]))
}

/// Puts the parts together.
pub(crate) fn join<'a>(parts: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let parts =
        parts.into_iter().flat_map(|(name, body)| [MARK, name.as_bytes(), b"\n", body, b"\n"].concat());
    parts.collect()
}

/// Writes the parts that are named as one of `names` into an empty folder, as files.
pub(crate) fn write_folder(folder: &Path, input: &[u8], names: &[&str]) {
    for name in names {
        // A file of the input before this one would else be read with it.
        let _ = std::fs::remove_file(folder.join(name));
    }
    for (name, body) in split(input).into_iter().filter(|(name, _)| names.contains(name)) {
        let path = folder.join(name);
        let written = match body.first() {
            Some(b'{') if name.ends_with(".safetensors") => std::fs::write(&path, completed(body)),
            _ => std::fs::write(&path, body),
        };
        written.expect("the temporary folder can be written to");
    }
}

/// A safetensors file with this header.
fn completed(header: &[u8]) -> Vec<u8> {
    let length = serde_json::from_slice(header).map_or(0, |header: Value| data_length(&header));
    let mut file = [&(header.len() as u64).to_le_bytes(), header].concat();
    file.resize(file.len() + length.min(MOST_DATA) as usize, 0);
    file
}

fn data_length(header: &Value) -> u64 {
    let tensors = header.as_object().into_iter().flat_map(|tensors| tensors.values());
    let ends = tensors.filter_map(|tensor| tensor.get("data_offsets")?.get(1)?.as_u64());
    ends.max().unwrap_or(0)
}

/// The header of a safetensors file, to be mutated.
pub(crate) fn header_of(file: &[u8]) -> &[u8] {
    let (length, rest) = file.split_first_chunk::<8>().expect("a length");
    &rest[..u64::from_le_bytes(*length) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        let parts: [(&str, &[u8]); 3] = [("a.json", b"{}"), ("b", b""), ("c.txt", b"x ===\n==")];
        assert_eq!(split(&join(parts)), [("a.json", &b"{}"[..]), ("b", b""), ("c.txt", b"x ===\n==\n")]);
        assert!(split(b"a === b\n").is_empty());
        assert_eq!(split(b"=== "), [("", &b""[..])]);
    }

    #[test]
    fn a_header_gets_its_length_and_its_data() {
        let header = br#"{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let file = completed(header);
        assert_eq!((file.len(), header_of(&file)), (8 + header.len() + 8, &header[..]));
        assert!(completed(br#"{"t":{"data_offsets":[0,99999999999]}}"#).len() < 1 << 17);
        assert_eq!(completed(b"{").len(), 9);
    }
}
