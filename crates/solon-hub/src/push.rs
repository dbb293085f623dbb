//! Files here become a commit of a repository at the Hub.
//!
//! Contract: one commit with all files, or none. Files that the repository has already are not sent again. Nothing becomes
//! public unless it was asked for: a repository that others can read is refused before the first byte is sent.
//!
//! Source: `huggingface_hub/_commit_api.py` and `hf_api.py` (`create_repo`, `create_commit`).

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::hash::ContentHash;
use crate::http::{About, JSON, NDJSON};
use crate::lfs::Large;
use crate::name::is_inside;
use crate::{Event, Hub, HubError, Network, RepositoryKind, RepositoryName};

/// Bytes of a file's start by which the Hub decides how it is kept.
const SAMPLE: u64 = 512;
/// The largest file that the Hub may ask for inside the commit itself.
const MOST_INSIDE: u64 = 10 << 20;

/// A file that is to be pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Its path in the repository.
    pub name: String,
    /// Where it is here.
    pub path: PathBuf,
}

/// Who can read a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// Everybody.
    Public,
    /// Its owners.
    Private,
}

/// A file with what the Hub asks about it.
struct Known<'a> {
    upload: &'a Upload,
    size: u64,
    sample: Vec<u8>,
    sha256: String,
    git: String,
}

impl Hub {
    /// Makes files a commit of a model's branch, and returns the address of what was made. The repository is made if it is
    /// not there.
    ///
    /// # Errors
    /// Each [`HubError`].
    pub fn push(
        &self,
        name: &RepositoryName,
        files: &[Upload],
        visibility: Visibility,
        message: &str,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<String, HubError> {
        let about = About { kind: RepositoryKind::Model, name };
        let refuse = |reason: &str, hint: &str| HubError::NotPushed {
            repository: name.to_string(),
            reason: reason.to_owned(),
            hint: hint.to_owned(),
        };
        if self.settings.network == Network::Forbidden {
            return Err(refuse("HF_HUB_OFFLINE is set", "unset it"));
        }
        if !self.client.is_logged_in() {
            let hint = "set HF_TOKEN to a token that may write, of https://huggingface.co/settings/tokens, or log in with \
                        `hf auth login`; it is sent to an https address alone";
            return Err(refuse("there is no token that says who pushes", hint));
        }
        if let Some(wrong) = files.iter().find(|file| !is_inside(&file.name)) {
            return Err(refuse(&format!("{:?} is no name of a file", wrong.name), "rename it"));
        }
        let known = files.iter().map(Known::of).collect::<Result<Vec<_>, _>>()?;
        self.make(about, visibility)?;
        if visibility == Visibility::Private && !self.is_private(about)? {
            return Err(refuse(
                "everybody can read that repository",
                "add --public if that is what you want",
            ));
        }
        let page = format!("{}/{}", self.settings.endpoint, name.id);
        let modes = self.modes(about, &known)?;
        let lines = |(file, mode): (&Known<'_>, &Mode)| match mode {
            Mode::There => Ok(None),
            Mode::Inside => file.inside().map(Some),
            Mode::Large => Ok(Some(json!({"key": "lfsFile", "value": {
                "path": file.upload.name, "algo": "sha256", "oid": file.sha256, "size": file.size,
            }}))),
        };
        let changes = known.iter().zip(&modes).filter_map(|file| lines(file).transpose());
        let changes = changes.collect::<Result<Vec<Value>, HubError>>()?;
        if changes.is_empty() {
            on(Event::Note(&format!("{name} has all of these files already")));
            return Ok(page);
        }
        let large = known
            .iter()
            .zip(&modes)
            .filter(|(_, mode)| **mode == Mode::Large)
            .map(|(file, _)| Large { path: &file.upload.path, sha256: &file.sha256, size: file.size });
        crate::lfs::upload(&self.client, about, &large.collect::<Vec<_>>(), on)?;
        let header = json!({"key": "header", "value": {"summary": message, "description": ""}});
        let text: String = std::iter::once(&header).chain(&changes).map(|line| format!("{line}\n")).collect();
        let made = self.post(about, &format!("commit/{}", self.branch(about)), NDJSON, &text)?;
        match made["commitUrl"].as_str() {
            Some(address) => Ok(address.to_owned()),
            None => Ok(page),
        }
    }

    /// The branch, as it stands in an address.
    fn branch(&self, about: About<'_>) -> String {
        about.name.revision.replace('/', "%2F")
    }

    /// Posts to a path of the repository's interface.
    fn post(&self, about: About<'_>, path: &str, content_type: &str, text: &str) -> Result<Value, HubError> {
        let address = self.client.address(&format!("api/{}/{}/{path}", about.kind.plural(), about.name.id));
        let reply = self.client.post(about, &address, content_type, text);
        match reply.map_err(|failure| self.client.failed(about, failure))? {
            (409, value) => {
                let says = value["error"].as_str().unwrap_or("somebody else changes it");
                Err(self.client.misread(about, &format!("HTTP 409: {says}")))
            }
            (_, value) => Ok(value),
        }
    }

    /// Makes the repository, if it is not there.
    fn make(&self, about: About<'_>, visibility: Visibility) -> Result<(), HubError> {
        let (organisation, name) = about.name.id.split_once('/').unwrap_or_default();
        // Servers know one of the two words for who can read it.
        let visible = match visibility {
            Visibility::Public => ("public", false),
            Visibility::Private => ("private", true),
        };
        let wish = json!({
            "type": "model", "organization": organisation, "name": name, "visibility": visible.0, "private": visible.1,
        });
        let address = self.client.address("api/repos/create");
        // It is there already: HTTP 409. Or it is, and the token may write to it and make none.
        match self.client.post(about, &address, JSON, &wish.to_string()) {
            Ok(_) => Ok(()),
            Err(failure) => {
                let error = self.client.failed(about, failure);
                match error {
                    HubError::Access { status: 403, .. } => {
                        self.is_private(about).map(|_| ()).map_err(|_| error)
                    }
                    _ => Err(error),
                }
            }
        }
    }

    /// Whether the repository can be read by its owners alone.
    fn is_private(&self, about: About<'_>) -> Result<bool, HubError> {
        let address = self.client.address(&format!("api/{}/{}", about.kind.plural(), about.name.id));
        let text = self.client.text(about, &address).map_err(|failure| self.client.failed(about, failure))?;
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        Ok(value["private"].as_bool() == Some(true))
    }

    /// How each file is to be sent.
    fn modes(&self, about: About<'_>, files: &[Known<'_>]) -> Result<Vec<Mode>, HubError> {
        let rows: Vec<Value> = files
            .iter()
            .map(|file| json!({"path": file.upload.name, "sample": STANDARD.encode(&file.sample), "size": file.size}))
            .collect();
        let path = format!("preupload/{}", self.branch(about));
        let reply = self.post(about, &path, JSON, &json!({"files": rows}).to_string())?;
        let told = reply["files"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mode = |file: &Known<'_>| {
            let row = told.iter().find(|row| row["path"] == file.upload.name.as_str());
            let row = row.ok_or_else(|| {
                self.client.misread(about, &format!("it does not say how {} is sent", file.upload.name))
            })?;
            let there = row["oid"].as_str();
            Ok(match row["uploadMode"].as_str() {
                _ if there == Some(&file.sha256) || there == Some(&file.git) => Mode::There,
                Some("lfs") if file.size > 0 => Mode::Large,
                _ if file.size <= MOST_INSIDE => Mode::Inside,
                _ => Mode::Large,
            })
        };
        files.iter().map(mode).collect()
    }
}

/// How a file is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Not at all: the repository has it.
    There,
    /// Inside the commit.
    Inside,
    /// Before the commit, by Git LFS.
    Large,
}

impl<'a> Known<'a> {
    /// Reads a file once.
    fn of(upload: &'a Upload) -> Result<Self, HubError> {
        let path = &upload.path;
        let mut file = File::open(path).map_err(HubError::io("open", path))?;
        let size = file.metadata().map_err(HubError::io("read", path))?.len();
        let mut sample = Vec::new();
        let mut hashers = [ContentHash::Sha256(String::new()), ContentHash::Git(String::new())]
            .map(|hash| hash.hasher(size));
        let mut buffer = vec![0; 1 << 18];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    let missing = (SAMPLE as usize - sample.len()).min(read);
                    sample.extend_from_slice(&buffer[..missing]);
                    hashers.iter_mut().for_each(|hasher| hasher.update(&buffer[..read]));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(HubError::io("read", path)(error)),
            }
        }
        let [sha256, git] = hashers.map(crate::hash::Hasher::finish);
        Ok(Self { upload, size, sample, sha256, git })
    }

    /// The line of a commit that holds the file itself.
    fn inside(&self) -> Result<Value, HubError> {
        let bytes = std::fs::read(&self.upload.path).map_err(HubError::io("read", &self.upload.path))?;
        let value =
            json!({"content": STANDARD.encode(bytes), "path": self.upload.name, "encoding": "base64"});
        Ok(json!({"key": "file", "value": value}))
    }
}
