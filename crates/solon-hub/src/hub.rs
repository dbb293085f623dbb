//! From the name of a repository to its files here.
//!
//! Contract: see the crate. The commit is fixed first, then the files are chosen from its listing, then downloaded; weights come
//! last. A commit whose files are all here is asked nothing about.

use std::path::PathBuf;

use crate::cache::RepositoryFolder;
use crate::download::{Wanted, fetch};
use crate::hash::ContentHash;
use crate::http::{About, Client, Failure, header};
use crate::listing::{Listing, Stated};
use crate::name::{RepositoryKind, RepositoryName, is_commit};
use crate::needed::{Needed, Unchosen, of_adapter, of_model, shards};
use crate::splits::of_dataset;
use crate::{HubError, HubSettings, Network};

/// What happens during a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// Files of so many bytes together are downloaded, of which some may be here.
    Begins {
        /// Of all files.
        bytes: u64,
        /// Of what is here.
        here: u64,
    },
    /// So many bytes of all files are here. The number can fall, where a file starts again.
    At(u64),
    /// Something that a person should know.
    Note(&'a str),
    /// All files are here.
    Ends,
}

/// The Hub and its cache.
pub struct Hub {
    pub(crate) settings: HubSettings,
    pub(crate) client: Client,
}

/// Where in the cache something is.
struct Found {
    snapshot: PathBuf,
    /// The files of the snapshot that are meant; none where the whole of it is.
    files: Vec<String>,
}

impl Found {
    fn folder(snapshot: PathBuf) -> Self {
        Self { snapshot, files: Vec::new() }
    }

    /// The file, or the folder.
    fn path(self) -> PathBuf {
        match self.files.as_slice() {
            [file] => self.snapshot.join(file),
            _ => self.snapshot,
        }
    }

    fn paths(self) -> Vec<PathBuf> {
        self.files.iter().map(|file| self.snapshot.join(file)).collect()
    }
}

/// What is wanted of a repository.
#[derive(Clone, Copy)]
enum Want {
    Model,
    Adapter,
    Data,
}

impl Want {
    fn kind(self) -> RepositoryKind {
        match self {
            Self::Model | Self::Adapter => RepositoryKind::Model,
            Self::Data => RepositoryKind::Dataset,
        }
    }

    fn needed(self, names: &[&str], choice: Option<&str>) -> Result<Needed, Unchosen> {
        match self {
            Self::Model => of_model(names, choice),
            Self::Adapter => of_adapter(names),
            Self::Data => of_dataset(names, choice).map(Needed::Data),
        }
    }
}

impl Hub {
    /// A Hub that is asked as these settings say.
    pub fn new(settings: HubSettings) -> Self {
        Self { client: Client::new(&settings), settings }
    }

    /// The folder of a model with its needed files, or its GGUF file.
    ///
    /// # Errors
    /// Each [`HubError`].
    pub fn model(&self, name: &RepositoryName, on: &mut dyn FnMut(Event<'_>)) -> Result<PathBuf, HubError> {
        self.get(Want::Model, name, on).map(Found::path)
    }

    /// The folder of an adapter.
    ///
    /// # Errors
    /// Each [`HubError`].
    pub fn adapter(&self, name: &RepositoryName, on: &mut dyn FnMut(Event<'_>)) -> Result<PathBuf, HubError> {
        self.get(Want::Adapter, name, on).map(Found::path)
    }

    /// The files of a split of a data set, in the order in which they are read.
    ///
    /// # Errors
    /// Each [`HubError`].
    pub fn data(
        &self,
        name: &RepositoryName,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<Vec<PathBuf>, HubError> {
        self.get(Want::Data, name, on).map(Found::paths)
    }

    /// The model if it is in the cache. Nothing is asked of the Hub.
    pub fn cached_model(&self, name: &RepositoryName) -> Option<PathBuf> {
        let folder = self.folder(Want::Model, name);
        self.cached(Want::Model, name, &folder.commit_of(&name.revision)?).ok().map(Found::path)
    }

    fn folder(&self, want: Want, name: &RepositoryName) -> RepositoryFolder {
        RepositoryFolder::new(&self.settings.cache, want.kind(), &name.id)
    }

    fn get(
        &self,
        want: Want,
        name: &RepositoryName,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<Found, HubError> {
        let about = About { kind: want.kind(), name };
        let folder = self.folder(want, name);
        let here = || match folder.commit_of(&name.revision) {
            Some(commit) => self.cached(want, name, &commit).map(|path| (commit, path)),
            None => Err(format!("the revision `{}` was never downloaded", name.revision)),
        };
        if self.settings.network == Network::Forbidden {
            let found = here().map_err(|reason| HubError::Offline {
                repository: name.to_string(),
                cache: self.settings.cache.clone(),
                reason,
            })?;
            on(Event::Note(&format!("{name}: HF_HUB_OFFLINE is set; using commit {} of the cache", found.0)));
            return Ok(found.1);
        }
        // A commit does not change. Of a snapshot that others have made nobody knows whether it is whole.
        if is_commit(&name.revision)
            && folder.listed(&name.revision).is_some()
            && let Ok((_, path)) = here()
        {
            return Ok(path);
        }
        let revision = name.revision.replace('/', "%2F");
        let path = format!("api/{}/{}/revision/{revision}?blobs=true", want.kind().plural(), name.id);
        let text = match self.client.text(about, &self.client.address(&path)) {
            Ok(text) => text,
            Err(Failure::Lasting(error)) => return Err(error),
            Err(Failure::Passing { reason, .. }) => {
                let Ok((commit, path)) = here() else { return Err(self.client.unreachable(about, reason)) };
                let note = format!(
                    "{name}: the Hub cannot be reached ({reason}); using commit {commit} of the cache"
                );
                on(Event::Note(&note));
                return Ok(path);
            }
        };
        let listing = Listing::read(&text).map_err(|reason| self.client.misread(about, &reason))?;
        if is_commit(&name.revision) && listing.commit != name.revision {
            return Err(self.client.misread(about, "the listing is of another commit"));
        }
        folder.note_listing(&listing.commit, &listing.names())?;
        let path = self.download(want, about, &folder, &listing, on)?;
        folder.note_commit(&name.revision, &listing.commit)?;
        Ok(path)
    }

    /// What is wanted, if the cache holds all of it; else what is lacking.
    ///
    /// What is chosen depends on what the commit has, not on which part of it happens to be here.
    fn cached(&self, want: Want, name: &RepositoryName, commit: &str) -> Result<Found, String> {
        let folder = self.folder(want, name);
        let here = folder.names(commit);
        if here.is_empty() {
            return Err(format!("no file of the commit {commit} is there"));
        }
        let listed = folder.listed(commit);
        let names: Vec<&str> = listed.as_ref().unwrap_or(&here).iter().map(String::as_str).collect();
        let needed = want.needed(&names, name.choice.as_deref());
        let needed = needed.map_err(|unchosen| format!("of the commit {commit}, {}", unchosen.reason))?;
        let snapshot = folder.snapshot(commit);
        let unlisted = |files: &[String]| {
            let named = matches!((files, &name.choice), ([one], Some(choice)) if one == choice);
            match listed.is_none() && !named {
                true => Err(format!(
                    "it is unknown which files the commit {commit} has beside those that are there; name one"
                )),
                false => Ok(()),
            }
        };
        let (files, found) = match needed {
            Needed::Folder(files) => (files, Found::folder(snapshot)),
            Needed::File(file) => {
                unlisted(std::slice::from_ref(&file))?;
                (vec![file.clone()], Found { snapshot, files: vec![file] })
            }
            Needed::Data(files) => {
                unlisted(&files)?;
                (files.clone(), Found { snapshot, files })
            }
            Needed::Sharded { beside, index } => {
                let text =
                    std::fs::read_to_string(snapshot.join(&index)).map_err(|e| format!("{index}: {e}"))?;
                ([beside, shards(&text)?].concat(), Found::folder(snapshot))
            }
        };
        match files.iter().find(|file| !here.contains(file)) {
            Some(missing) => Err(format!("{missing} is not there")),
            None => Ok(found),
        }
    }

    /// Downloads what is needed of a listing.
    fn download(
        &self,
        want: Want,
        about: About<'_>,
        folder: &RepositoryFolder,
        listing: &Listing,
        on: &mut dyn FnMut(Event<'_>),
    ) -> Result<Found, HubError> {
        let commit = &listing.commit;
        let snapshot = folder.snapshot(commit);
        let needed = want.needed(&listing.names(), about.name.choice.as_deref());
        let needed = needed.map_err(|Unchosen { reason, hint }| HubError::Choice {
            repository: about.name.to_string(),
            reason,
            hint,
        })?;
        let (files, found) = match needed {
            Needed::Folder(files) => (files, Found::folder(snapshot)),
            Needed::File(file) => (vec![file.clone()], Found { snapshot, files: vec![file] }),
            Needed::Data(files) => (files.clone(), Found { snapshot, files }),
            Needed::Sharded { beside, index } => {
                // The index says which weights there are, so it comes first; it gets its name here only after them.
                let wanted = self.wanted(about, listing, &index)?;
                let mut quietly = |event: Event<'_>| {
                    if let Event::Note(_) = event {
                        on(event);
                    }
                };
                fetch(&self.client, folder, about, &wanted, 0, &mut quietly)?;
                let blob = folder.blob(wanted.hash.hex());
                let text = std::fs::read_to_string(&blob).map_err(HubError::io("read", &blob))?;
                let shards = shards(&text).map_err(|reason| self.client.misread(about, &reason))?;
                ([beside, shards, vec![index]].concat(), Found::folder(snapshot))
            }
        };
        let wanted = files.iter().map(|file| self.wanted(about, listing, file));
        let wanted = wanted.collect::<Result<Vec<Wanted<'_>>, HubError>>()?;
        let is_here: Vec<bool> =
            wanted.iter().map(|file| folder.whole(file.hash.hex(), file.size).is_some()).collect();
        let all: u64 = wanted.iter().map(|file| file.size).sum();
        let here =
            wanted.iter().zip(&is_here).filter(|(_, is_here)| **is_here).map(|(file, _)| file.size).sum();
        if here < all {
            on(Event::Begins { bytes: all, here });
        }
        let mut done = here;
        for (file, is_here) in wanted.iter().zip(is_here) {
            if !is_here {
                fetch(&self.client, folder, about, file, done, on)?;
                done += file.size;
            }
            folder.link(commit, file.name, file.hash.hex())?;
        }
        if here < all {
            on(Event::Ends);
        }
        Ok(found)
    }

    /// A file of a listing, with its size and hash. What the listing does not state, the file's own headers do.
    fn wanted<'a>(&self, about: About<'_>, listing: &Listing, name: &'a str) -> Result<Wanted<'a>, HubError> {
        let stated = listing.files.get(name);
        let stated = stated.ok_or_else(|| self.client.misread(about, &format!("it lists no file {name}")))?;
        let page = about.kind.page_prefix();
        let path = format!("{page}{}/resolve/{}/{}", about.name.id, listing.commit, in_address(name));
        let address = self.client.address(&path);
        if let Stated { size: Some(size), hash: Some(hash) } = stated {
            return Ok(Wanted { name, address, size: *size, hash: hash.clone() });
        }
        let headers =
            self.client.head(about, &address).map_err(|failure| self.client.failed(about, failure))?;
        let either = |first: &str, second: &str| header(&headers, first).or_else(|| header(&headers, second));
        let hash = either("x-linked-etag", "etag").and_then(ContentHash::read);
        let size = either("x-linked-size", "content-length").and_then(|size| size.parse().ok());
        match (size.or(stated.size), stated.hash.clone().or(hash)) {
            (Some(size), Some(hash)) => Ok(Wanted { name, address, size, hash }),
            _ => {
                let reason =
                    format!("it names neither size nor hash of {name}, so the file could not be checked");
                Err(self.client.misread(about, &reason))
            }
        }
    }
}

/// A path as it stands in an address.
pub(crate) fn in_address(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/');
    path.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
