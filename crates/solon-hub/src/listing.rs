//! What a repository holds at a revision, as the Hub lists it.
//!
//! Contract: a listing is untrusted. Its commit and hashes become names of files here, and so do its paths: a listing with one
//! that leads out of its folder is refused as a whole.
//!
//! Source: `GET /api/models/{id}/revision/{revision}?blobs=true`, <https://huggingface.co/docs/hub/api>.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::hash::ContentHash;
use crate::name::{is_commit, is_inside};

/// The files of one commit.
#[derive(Debug)]
pub(crate) struct Listing {
    pub commit: String,
    pub files: BTreeMap<String, Stated>,
}

/// What the listing states of a file. Mirrors of the Hub may leave it out; then the file's own headers say it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Stated {
    pub size: Option<u64>,
    pub hash: Option<ContentHash>,
}

#[derive(Deserialize)]
struct Reply {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Listing {
    /// Reads a listing; the error says what is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let reply: Reply =
            serde_json::from_str(text).map_err(|error| format!("the listing cannot be read: {error}"))?;
        if !is_commit(&reply.sha) {
            return Err("the listing names no commit".to_owned());
        }
        let mut files = BTreeMap::new();
        for Sibling { rfilename, size, blob_id, lfs } in reply.siblings {
            if !is_inside(&rfilename) {
                return Err(format!("the listing has a file with a name that is not allowed: {rfilename:?}"));
            }
            // Without `lfs` the blob is the file; with it, only a pointer to the file.
            let stated = match lfs {
                Some(Lfs { sha256, size: lfs_size }) => {
                    let hash = sha256.as_deref().and_then(ContentHash::read);
                    Stated { size: lfs_size.or(size), hash }
                }
                None => Stated { size, hash: blob_id.as_deref().and_then(ContentHash::read) },
            };
            files.insert(rfilename, stated);
        }
        Ok(Self { commit: reply.sha, files })
    }

    pub fn names(&self) -> Vec<&str> {
        self.files.keys().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn with_file(file: &str) -> Result<Listing, String> {
        Listing::read(&format!("{{\"sha\":\"{COMMIT}\",\"siblings\":[{file}]}}"))
    }

    #[test]
    fn a_file_in_lfs_is_named_by_its_own_hash_and_not_by_its_pointers() {
        let (git, sha256) = ("b".repeat(40), "c".repeat(64));
        let listing = with_file(&format!(
            r#"{{"rfilename":"a.json","size":3,"blobId":"{git}"}},
               {{"rfilename":"d/m.bin","size":9,"blobId":"{git}","lfs":{{"sha256":"{sha256}","size":9,"pointerSize":1}}}},
               {{"rfilename":"x","blobId":"../../x"}}"#
        ))
        .unwrap();
        assert_eq!(listing.names(), ["a.json", "d/m.bin", "x"]);
        let small = Stated { size: Some(3), hash: Some(ContentHash::Git(git)) };
        let large = Stated { size: Some(9), hash: Some(ContentHash::Sha256(sha256)) };
        assert_eq!(listing.files["a.json"], small);
        assert_eq!(listing.files["d/m.bin"], large);
        assert_eq!(listing.files["x"], Stated::default());
    }

    #[test]
    fn a_listing_that_leads_out_of_its_folder_is_refused() {
        for hostile in
            ["../x", "a/../../x", "/etc/passwd", "", "a//b", ".", "a\\\\..\\\\b", "c:x", "a\\u0000b", "a\\nb"]
        {
            let error = with_file(&format!("{{\"rfilename\":\"{hostile}\"}}")).unwrap_err();
            assert!(error.contains("not allowed"), "{hostile}: {error}");
        }
        for sha in ["", "main", "../../../../../../../../../../../../../x", &"Z".repeat(40)] {
            assert!(Listing::read(&format!("{{\"sha\":\"{sha}\",\"siblings\":[]}}")).is_err(), "{sha}");
        }
        for text in ["", "[]", "{}", "<html>", &"[".repeat(100_000)] {
            assert!(Listing::read(text).is_err());
        }
    }
}
