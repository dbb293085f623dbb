//! The two hashes by which the Hub names the content of files.
//!
//! Source: a file in Git LFS is named by its SHA-256; any other by Git's own name, the SHA-1 of `blob`, its length and itself.

use sha2::Digest;

use crate::name::is_hex;

/// What a file's content must hash to. It is also the file's name in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContentHash {
    Sha256(String),
    Git(String),
}

impl ContentHash {
    /// Reads a hash, or an `ETag` that is one.
    pub fn read(text: &str) -> Option<Self> {
        let text = text.strip_prefix("W/").unwrap_or(text).trim_matches('"');
        if is_hex(text, 64) {
            return Some(Self::Sha256(text.to_owned()));
        }
        is_hex(text, 40).then(|| Self::Git(text.to_owned()))
    }

    pub fn hex(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::Git(hex) => hex,
        }
    }

    /// A hasher of the same kind, for a file of this many bytes.
    pub fn hasher(&self, size: u64) -> Hasher {
        match self {
            Self::Sha256(_) => Hasher::Sha256(sha2::Sha256::new()),
            Self::Git(_) => {
                let mut hasher = sha1::Sha1::new();
                hasher.update(format!("blob {size}\0"));
                Hasher::Git(hasher)
            }
        }
    }
}

/// Hashes a file while it comes.
#[derive(Clone)]
pub(crate) enum Hasher {
    Sha256(sha2::Sha256),
    Git(sha1::Sha1),
}

impl Hasher {
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Git(hasher) => hasher.update(bytes),
        }
    }

    /// The hash, lowercase hex.
    pub fn finish(self) -> String {
        match self {
            Self::Sha256(hasher) => hex(&hasher.finalize()),
            Self::Git(hasher) => hex(&hasher.finalize()),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_git_and_of_lfs() {
        let of = |expected: &str, bytes: &[u8]| {
            let mut hasher = ContentHash::read(expected).unwrap().hasher(bytes.len() as u64);
            hasher.update(bytes);
            assert_eq!(hasher.finish(), expected.trim_matches('"'));
        };
        // `git hash-object` of an empty file and of "hello\n"; SHA-256 of nothing.
        of("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", b"");
        of("\"ce013625030ba8dba906f756967f9e9ca394464a\"", b"hello\n");
        of("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", b"");
        for wrong in
            ["", "abc", "../../../../../../../../../../../../../etc", &"g".repeat(40), &"A".repeat(64)]
        {
            assert_eq!(ContentHash::read(wrong), None, "{wrong}");
        }
    }
}
