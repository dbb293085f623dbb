//! The whole crate against a Hub of our own on loopback, with every fault that a Hub or a network may have.

mod faults;
mod offline;
mod push;
mod server;
mod who_asks;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::*;
use server::{COMMIT, Reply, Repository, Request, Server, name_of};

const TOKEN: &str = "hf_the_secret";

/// A cache and settings of a caller in a hurry.
struct Place {
    home: tempfile::TempDir,
    settings: HubSettings,
}

impl Place {
    fn at(url: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let settings = HubSettings {
            endpoint: url.to_owned(),
            cache: home.path().join("hub"),
            token: None,
            network: Network::Allowed,
            retries: 3,
            wait: Duration::ZERO,
            patience: Duration::from_secs(10),
        };
        Self { home, settings }
    }

    fn with_token(mut self) -> Self {
        self.settings.token = Token::new(TOKEN);
        self
    }

    fn hub(&self) -> Hub {
        Hub::new(self.settings.clone())
    }

    fn model(&self, name: &str) -> Result<PathBuf, HubError> {
        self.hub().model(&named(name), &mut |_| {})
    }

    fn data(&self, name: &str) -> Result<Vec<PathBuf>, HubError> {
        self.hub().data(&named(name), &mut |_| {})
    }

    /// What is said of a model that cannot be had.
    fn error(&self, name: &str) -> String {
        self.model(name).unwrap_err().to_string()
    }

    fn folder(&self) -> PathBuf {
        self.home.path().join("hub/models--org--name")
    }

    fn blobs(&self) -> Vec<String> {
        names(&self.folder().join("blobs"))
    }
}

fn named(name: &str) -> RepositoryName {
    RepositoryName::read(name).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A Hub that holds a model, and the place of somebody who asks it.
fn hub_with(repository: Repository) -> (Server, Place) {
    let server = Server::start(move |request, _| repository.answer(request));
    let place = Place::at(&server.url);
    (server, place)
}

fn check_holds(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn a_model_is_its_needed_files_in_the_official_layout() {
    let repository = Repository::model();
    let (server, place) = hub_with(repository.clone());
    let mut events = Vec::new();
    let mut on = |event: Event<'_>| match event {
        Event::Note(note) => panic!("{note}"),
        Event::Begins { bytes, here } => events.push((bytes, here)),
        Event::At(bytes) => events.push((0, bytes)),
        Event::Ends => events.push((0, 0)),
    };
    let folder = place.hub().model(&named("org/name"), &mut on).unwrap();
    assert_eq!(folder, place.folder().join("snapshots").join(COMMIT));
    assert_eq!(name_in_cache(&folder), Some(named(&format!("org/name@{COMMIT}"))));
    assert_eq!(names(&folder), ["config.json", "model.safetensors", "tokenizer.json"]);
    for name in names(&folder) {
        assert_eq!(std::fs::read(folder.join(&name)).unwrap(), repository.file(&name));
        assert!(place.folder().join("blobs").join(name_of(repository.file(&name))).is_file());
    }
    assert_eq!(std::fs::read_to_string(place.folder().join("refs/main")).unwrap(), COMMIT);
    // The weights come last.
    let listing = "/api/models/org/name/revision/main?blobs=true";
    assert_eq!(server.paths(), [listing, "config.json", "tokenizer.json", "model.safetensors"]);
    assert_eq!(events.first(), Some(&(80_020, 0)));
    assert_eq!(events[events.len() - 2..], [(0, 80_020), (0, 0)]);
    assert!(server.requests().iter().all(|request| request.header("accept-encoding") == Some("identity")));
}

#[test]
fn a_second_time_no_file_is_asked_for() {
    let (server, place) = hub_with(Repository::model());
    let first = place.model("org/name").unwrap();
    let asked = server.requests().len();
    assert_eq!(place.hub().model(&named("org/name"), &mut |event| panic!("{event:?}")).unwrap(), first);
    assert_eq!(server.requests().len(), asked + 1, "the listing alone");
    assert_eq!(place.hub().cached_model(&named("org/name")), Some(first));
    assert_eq!(server.requests().len(), asked + 1, "nothing");
}

#[test]
fn a_pinned_commit_that_is_here_asks_nothing() {
    let (server, place) = hub_with(Repository::model());
    let pinned = format!("org/name@{COMMIT}");
    let first = place.model(&pinned).unwrap();
    assert!(!place.folder().join("refs").exists());
    let asked = server.requests().len();
    assert_eq!(place.model(&pinned).unwrap(), first);
    assert_eq!(server.requests().len(), asked);
    check_holds(
        &place.error("org/name@v9"),
        &["org/name@v9", "no revision `v9`", "Invalid rev id", "/tree/main"],
    );
    // A listing of another commit than the one that was asked for.
    let other = "f".repeat(40);
    let server = Server::start(|_, _| Repository::model().listing());
    check_holds(&Place::at(&server.url).error(&format!("org/name@{other}")), &["another commit"]);
}

#[test]
fn shards_come_with_their_index() {
    let index = br#"{"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}}"#;
    let repository = Repository::new(&[
        ("config.json", b"{}"),
        ("tokenizer.json", b"{ }"),
        ("model.safetensors.index.json", index),
        ("model-1.safetensors", &[1; 1500]),
        ("model-2.safetensors", &[2; 1500]),
        ("model-3.safetensors", &[3; 1500]),
    ]);
    let (server, place) = hub_with(repository.clone());
    let folder = place.model("org/name").unwrap();
    assert_eq!(
        server.paths()[1..],
        [
            "model.safetensors.index.json",
            "config.json",
            "tokenizer.json",
            "model-1.safetensors",
            "model-2.safetensors"
        ]
    );
    assert_eq!(place.hub().cached_model(&named("org/name")), Some(folder.clone()));
    std::fs::remove_file(folder.join("model-2.safetensors")).unwrap();
    assert_eq!(place.hub().cached_model(&named("org/name")), None);
    // An index may name what is not there, or what is not to be written.
    for (shard, part) in
        [("gone.safetensors", "lists no file gone.safetensors"), ("../x.safetensors", "not allowed")]
    {
        let index = format!(r#"{{"weight_map":{{"a":"{shard}"}}}}"#);
        let files = [
            ("config.json", &b"{}"[..]),
            ("tokenizer.json", b"{}"),
            ("model.safetensors.index.json", index.as_bytes()),
        ];
        let (_server, place) = hub_with(Repository::new(&files));
        check_holds(&place.error("org/name"), &[part]);
        assert!(!place.home.path().join("hub/x.safetensors").exists());
    }
}

#[test]
fn one_gguf_file_or_adapter_or_split_is_downloaded() {
    let (server, place) = hub_with(Repository::new(&[("a-Q4_0.gguf", b"GGUF4"), ("a-Q8_0.gguf", b"GGUF8")]));
    let file = place.model("org/name:Q8_0").unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"GGUF8");
    assert!(file.ends_with("a-Q8_0.gguf"));
    check_holds(&place.error("org/name"), &["several GGUF files", "a-Q4_0.gguf", "hint: "]);
    assert_eq!(server.paths()[1], "a-Q8_0.gguf");

    let adapter =
        [("adapter_config.json", &b"{}"[..]), ("adapter_model.safetensors", b"a"), ("x.json", b"{}")];
    let (_server, place) = hub_with(Repository::new(&adapter));
    let folder = place.hub().adapter(&named("org/name"), &mut |_| {}).unwrap();
    assert_eq!(names(&folder), ["adapter_config.json", "adapter_model.safetensors"]);
    check_holds(&place.error("org/name"), &["--adapter"]);

    let (server, place) = hub_with(Repository::new(&[("a b/train.jsonl", b"{}\n"), ("test.jsonl", b"{}")]));
    // The path of a file in an address is encoded, and the server sees it so.
    check_holds(&place.data("org/name:train").unwrap_err().to_string(), &["no such file"]);
    let files = place.data("org/name:test").unwrap();
    assert!(files.len() == 1 && files[0].starts_with(place.home.path().join("hub/datasets--org--name")));
    let paths: Vec<String> = server.requests().into_iter().map(|request| request.path).collect();
    let file = |name: &str| format!("/datasets/org/name/resolve/{COMMIT}/{name}");
    assert_eq!(paths[0], "/api/datasets/org/name/revision/main?blobs=true");
    assert_eq!([&paths[1], &paths[3]], [&file("a%20b/train.jsonl"), &file("test.jsonl")]);
}

#[test]
fn the_shards_of_a_split_are_downloaded_in_their_order() {
    let files =
        [("t-00001-of-00002.jsonl", &b"{\"b\":1}"[..]), ("t-00000-of-00002.jsonl", b"{}"), ("x.csv", b"")];
    let (server, mut place) = hub_with(Repository::new(&files));
    let read = |place: &Place| {
        let files = place.data("org/name:t").unwrap();
        files.iter().map(|file| std::fs::read(file).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(read(&place), [&b"{}"[..], b"{\"b\":1}"]);
    assert_eq!(server.paths().iter().filter(|path| path.starts_with("t-")).count(), 2);
    // Without the Hub they are the same files.
    drop(server);
    place.settings.network = Network::Forbidden;
    assert_eq!(read(&place), [&b"{}"[..], b"{\"b\":1}"]);
}

/// Mirrors of the Hub may list names alone.
#[test]
fn a_size_and_a_hash_that_are_not_listed_come_from_the_files_headers() {
    let repository = Repository::model();
    let bare = |repository: &Repository| {
        let mut listing: serde_json::Value = serde_json::from_slice(&repository.listing().body).unwrap();
        for sibling in listing["siblings"].as_array_mut().unwrap() {
            *sibling = serde_json::json!({"rfilename": sibling["rfilename"]});
        }
        Reply::new(200, listing.to_string())
    };
    let known = repository.clone();
    let mirror = Server::start(move |request, _| match request.path.starts_with("/api/") {
        true => bare(&known),
        false => known.answer(request),
    });
    let place = Place::at(&mirror.url);
    place.model("org/name").unwrap();
    let heads = mirror.requests().iter().filter(|request| request.method == "HEAD").count();
    assert_eq!((heads, place.blobs().len()), (3, 3));
    assert!(place.blobs().contains(&name_of(repository.file("model.safetensors"))));
    // What lies elsewhere is named by the Hub's own headers, not by those of where it lies.
    let known = repository.clone();
    let moved = Server::start(move |request: &Request, _| match request.path.starts_with("/api/") {
        true => bare(&known),
        false => {
            let file = known.file(request.path.rsplit('/').next().unwrap());
            Reply::new(302, "")
                .with("Location", format!("{}{}", mirror.url, request.path))
                .with("X-Linked-Etag", format!("\"{}\"", name_of(file)))
                .with("X-Linked-Size", file.len().to_string())
        }
    });
    Place::at(&moved.url).model("org/name").unwrap();
    // And a file that nothing is known of is not taken.
    let silent = Server::start(move |request, _| match request.path.starts_with("/api/") {
        true => bare(&repository),
        false => Reply::new(200, "{}"),
    });
    check_holds(&Place::at(&silent.url).error("org/name"), &["neither size nor hash of config.json"]);
}
