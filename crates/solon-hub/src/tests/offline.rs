//! Without the Hub: because it is not to be asked, or cannot be.

use super::*;

/// The address of a server that is not there.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn noted(place: &Place, name: &str) -> (Result<PathBuf, HubError>, String) {
    let mut notes = String::new();
    let mut on = |event: Event<'_>| match event {
        Event::Note(note) => notes += note,
        other => panic!("{other:?}"),
    };
    let path = place.hub().model(&named(name), &mut on);
    (path, notes)
}

#[test]
fn offline_the_cache_alone_is_used_and_that_is_said() {
    let (server, mut place) = hub_with(Repository::model());
    let folder = place.model("org/name").unwrap();
    let asked = server.requests().len();
    place.settings.network = Network::Forbidden;
    for name in ["org/name", &format!("org/name@{COMMIT}")] {
        let (path, notes) = noted(&place, name);
        assert_eq!(path.unwrap(), folder);
        check_holds(&notes, &["HF_HUB_OFFLINE is set", COMMIT]);
    }
    for (name, part) in [
        ("org/name@v1", "the revision `v1` was never downloaded"),
        ("org/other", "never downloaded"),
        ("org/name:Q4_0", "no GGUF file"),
        (&format!("org/name@{}", "f".repeat(40)), "no file of the commit"),
    ] {
        check_holds(&place.error(name), &["HF_HUB_OFFLINE", part, "hint: unset"]);
    }
    // A part is not the whole.
    std::fs::remove_file(folder.join("model.safetensors")).unwrap();
    check_holds(&place.error("org/name"), &["HF_HUB_OFFLINE", "model.safetensors is not there"]);
    assert_eq!(server.requests().len(), asked);
}

#[test]
fn a_hub_that_cannot_be_reached_is_done_without_where_the_cache_has_all() {
    let (_server, mut place) = hub_with(Repository::model());
    check_holds(
        &Place::at(&nobody()).error("org/name"),
        &["cannot be reached at http://127.0.0.1", "HF_HUB_OFFLINE=1"],
    );
    let folder = place.model("org/name").unwrap();
    place.settings.endpoint = nobody();
    let (path, notes) = noted(&place, "org/name");
    assert_eq!(path.unwrap(), folder);
    check_holds(&notes, &["cannot be reached", COMMIT]);
    // A server that is there and ails is the same.
    let ailing = Server::start(|_, _| Reply::new(500, "{\"error\":\"oh\"}"));
    place.settings.endpoint.clone_from(&ailing.url);
    let (path, notes) = noted(&place, "org/name");
    assert_eq!(path.unwrap(), folder);
    check_holds(&notes, &["HTTP 500: oh"]);
    // One that refuses is not: the repository may have been taken away for a reason.
    let refusing = Server::start(|_, _| Reply::new(403, ""));
    place.settings.endpoint.clone_from(&refusing.url);
    check_holds(&place.error("org/name"), &["HTTP 403"]);
}

/// Which files a repository has is not what the cache happens to hold: another program, or another choice, may have put a test
/// split there alone.
#[test]
fn what_is_chosen_does_not_depend_on_what_is_here() {
    let (_server, mut place) = hub_with(Repository::new(&[("train.jsonl", b"{}"), ("test.jsonl", b"{}")]));
    let test = place.data("org/name:test").unwrap();
    place.settings.network = Network::Forbidden;
    assert_eq!(place.data("org/name:test").unwrap(), test);
    let said = |place: &Place, name: &str| place.data(name).unwrap_err().to_string();
    check_holds(&said(&place, "org/name"), &["HF_HUB_OFFLINE", "several"]);
    check_holds(&said(&place, "org/name:train"), &["HF_HUB_OFFLINE", "train.jsonl is not there"]);
    // Others note no listing: then the file has to be named.
    let noted = test[0].ancestors().nth(3).unwrap().join(".solon-listings");
    std::fs::remove_dir_all(noted).unwrap();
    check_holds(&said(&place, "org/name"), &["it is unknown which files", "name one"]);
    assert_eq!(place.data("org/name:test.jsonl").unwrap(), test);
}
