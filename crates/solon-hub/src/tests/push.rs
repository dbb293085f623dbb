//! Files to the Hub: what is sent, where, by whom, and what is refused before.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::server::weights;
use super::*;

/// What a Hub to which is pushed holds.
#[derive(Default)]
struct Held {
    /// None: there is no repository. Else whether it is private.
    is_private: Option<bool>,
    /// Large files by their hashes.
    large: BTreeMap<String, Vec<u8>>,
    /// Hashes of files by their names.
    files: BTreeMap<String, String>,
    commits: usize,
}

/// A Hub, where its large files go, and what both hold. Files of at least 1000 bytes are large; those of 50,000 are sent in
/// parts of 30,000, of which the first attempt at the second part fails.
fn hub(held: Held) -> (Server, Server, Arc<Mutex<Held>>) {
    let held = Arc::new(Mutex::new(held));
    let (known, has_failed) = (held.clone(), Mutex::new(false));
    let storage = Server::start(move |request, _| {
        assert_eq!((request.method.as_str(), request.header("authorization")), ("PUT", None));
        if request.path.ends_with("/2") && !std::mem::replace(&mut *has_failed.lock().unwrap(), true) {
            return Reply::new(500, "");
        }
        let hash = request.path.split('/').nth(1).unwrap();
        known.lock().unwrap().large.entry(hash.to_owned()).or_default().extend(&request.body);
        Reply::new(200, "").with("ETag", format!("\"part{}\"", request.path))
    });
    let (known, target) = (held.clone(), storage.url.clone());
    let server = Server::start(move |request, _| {
        if request.header("authorization") != Some("Bearer hf_the_secret") {
            return Reply::new(401, "");
        }
        let reply = answer(request, &mut known.lock().unwrap(), &target);
        reply.unwrap_or_else(|| Reply::new(404, "{\"error\":\"Repository not found\"}"))
    });
    (server, storage, held)
}

fn answer(request: &Request, held: &mut Held, storage: &str) -> Option<Reply> {
    let ok = |value: Value| Some(Reply::new(200, value.to_string()));
    match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/api/repos/create") => {
            let wish = request.json();
            assert_eq!(
                (&wish["organization"], &wish["name"], &wish["type"]),
                (&json!("org"), &json!("name"), &json!("model"))
            );
            if held.is_private.is_some() {
                return Some(Reply::new(409, "{\"error\":\"You already created this model repo\"}"));
            }
            assert_eq!(wish["visibility"] == "private", wish["private"] == true);
            held.is_private = wish["private"].as_bool();
            ok(json!({"url": "…"}))
        }
        ("GET", "/api/models/org/name") => ok(json!({"private": held.is_private?})),
        ("POST", "/api/models/org/name/preupload/main") => {
            let told = |row: &Value| {
                let is_large = row["size"].as_u64().unwrap() >= 1000;
                let mode = if is_large { "lfs" } else { "regular" };
                let name = row["path"].as_str().unwrap();
                json!({"path": name, "uploadMode": mode, "shouldIgnore": false, "oid": held.files.get(name)})
            };
            let rows: Vec<Value> = request.json()["files"].as_array().unwrap().iter().map(told).collect();
            ok(json!({"files": rows}))
        }
        ("POST", "/org/name.git/info/lfs/objects/batch") => {
            assert_eq!(request.header("content-type"), Some("application/vnd.git-lfs+json"));
            let object = |row: &Value| {
                let (hash, size) = (row["oid"].as_str().unwrap(), row["size"].as_u64().unwrap());
                let verify = json!({"href": format!("http://{}/verify", request.header("host").unwrap())});
                let upload = match size {
                    50_000.. => json!({
                        "href": format!("http://{}/complete", request.header("host").unwrap()),
                        "header": {"chunk_size": "30000", "00001": format!("{storage}/{hash}/1"),
                            "00002": format!("{storage}/{hash}/2"), "00003": format!("{storage}/{hash}/3")},
                    }),
                    _ => json!({"href": format!("{storage}/{hash}/whole")}),
                };
                json!({"oid": hash, "size": size, "actions": {"upload": upload, "verify": verify}})
            };
            let rows: Vec<Value> = request.json()["objects"].as_array().unwrap().iter().map(object).collect();
            ok(json!({"transfer": "multipart", "objects": rows}))
        }
        ("POST", "/complete") => {
            let done = request.json();
            let hash = done["oid"].as_str().unwrap();
            let part =
                |number: u64| json!({"partNumber": number, "etag": format!("\"part/{hash}/{number}\"")});
            assert_eq!(done["parts"], json!([part(1), part(2), part(3)]));
            ok(json!({}))
        }
        ("POST", "/verify") => {
            let done = request.json();
            let bytes = &held.large[done["oid"].as_str().unwrap()];
            assert_eq!(
                (name_of(bytes).as_str(), bytes.len() as u64),
                (done["oid"].as_str()?, done["size"].as_u64()?)
            );
            ok(json!({}))
        }
        ("POST", "/api/models/org/name/commit/main") => {
            assert_eq!(request.header("content-type"), Some("application/x-ndjson"));
            let text = std::str::from_utf8(&request.body).unwrap();
            let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            assert_eq!(lines.next().unwrap()["value"]["summary"], "Upload by test");
            for line in lines {
                let value = &line["value"];
                let hash = match line["key"].as_str() {
                    Some("file") => {
                        assert_eq!(value["encoding"], "base64");
                        use base64::Engine;
                        let bytes =
                            base64::engine::general_purpose::STANDARD.decode(value["content"].as_str()?);
                        name_of(&bytes.unwrap())
                    }
                    Some("lfsFile") => value["oid"].as_str()?.to_owned(),
                    other => panic!("{other:?}"),
                };
                held.files.insert(value["path"].as_str()?.to_owned(), hash);
            }
            held.commits += 1;
            ok(json!({"commitUrl": "https://hub/org/name/commit/1"}))
        }
        _ => None,
    }
}

/// Files of a model in a folder.
fn files(place: &Place) -> Vec<Upload> {
    let files = [
        ("README.md", b"# A model".to_vec()),
        ("config.json", vec![b' '; 3000]),
        ("model.safetensors", weights()),
    ];
    let file = |(name, bytes): (&str, Vec<u8>)| {
        let path = place.home.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Upload { name: name.to_owned(), path }
    };
    files.into_iter().map(file).collect()
}

fn push(place: &Place, visibility: Visibility) -> Result<String, HubError> {
    let files = files(place);
    place.hub().push(&named("org/name"), &files, visibility, "Upload by test", &mut |_| {})
}

#[test]
fn files_become_one_commit_and_the_same_files_no_second() {
    let (server, storage, held) = hub(Held::default());
    let place = Place::at(&server.url).with_token();
    let address = push(&place, Visibility::Private).unwrap();
    assert_eq!(address, "https://hub/org/name/commit/1");
    {
        let held = held.lock().unwrap();
        assert_eq!((held.is_private, held.commits, held.large.len()), (Some(true), 1, 2));
        assert_eq!(held.files["README.md"], name_of(b"# A model"));
        assert_eq!(held.files["model.safetensors"], name_of(&weights()));
        assert_eq!(held.large[&name_of(&weights())], weights());
    }
    // One file whole; one in three parts, of which one was sent twice.
    assert_eq!(storage.requests().len(), 5);
    assert_eq!(push(&place, Visibility::Private).unwrap(), format!("{}/org/name", server.url));
    assert_eq!((storage.requests().len(), held.lock().unwrap().commits), (5, 1));
}

#[test]
fn nothing_becomes_public_unasked() {
    let (server, storage, held) = hub(Held { is_private: Some(false), ..Held::default() });
    let place = Place::at(&server.url).with_token();
    let error = push(&place, Visibility::Private).unwrap_err().to_string();
    check_holds(&error, &["everybody can read", "nothing was pushed", "--public"]);
    assert_eq!((storage.requests().len(), server.requests().len()), (0, 2));
    push(&place, Visibility::Public).unwrap();
    assert_eq!(held.lock().unwrap().commits, 1);
    let (server, _storage, held) = hub(Held::default());
    push(&Place::at(&server.url).with_token(), Visibility::Public).unwrap();
    assert_eq!(held.lock().unwrap().is_private, Some(false));
}

#[test]
fn who_may_not_push_is_told_before_anything_is_sent() {
    let (server, storage, _held) = hub(Held::default());
    let mut place = Place::at(&server.url);
    let error = push(&place, Visibility::Private).unwrap_err().to_string();
    check_holds(&error, &["no token", "HF_TOKEN", "hf auth login"]);
    place.settings.network = Network::Forbidden;
    check_holds(
        &push(&place.with_token(), Visibility::Private).unwrap_err().to_string(),
        &["HF_HUB_OFFLINE"],
    );
    assert_eq!((server.requests().len(), storage.requests().len()), (0, 0));
    // The token may make no repository; it may write to one that is there.
    let refusing = Server::start(|request, _| match request.method.as_str() {
        "POST" => Reply::new(403, "{\"error\":\"no rights to create a model under org\"}"),
        _ => Reply::new(404, ""),
    });
    let error = push(&Place::at(&refusing.url).with_token(), Visibility::Private).unwrap_err().to_string();
    check_holds(&error, &["HTTP 403", "no rights to create", "hint: "]);
}
