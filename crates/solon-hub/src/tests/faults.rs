//! Cut connections, wrong bytes, full disks, hostile listings.

use super::server::{ranged, weights};
use super::*;

/// A Hub with a model whose weights are answered by a function of the request and of how many requests for weights came before.
fn with_weights(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> (Server, Place) {
    let came = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::start(move |request, _| match request.path.ends_with("model.safetensors") {
        true => answer(request, came.fetch_add(1, std::sync::atomic::Ordering::SeqCst)),
        false => Repository::model().answer(request),
    });
    let place = Place::at(&server.url);
    (server, place)
}

fn ranges(server: &Server) -> Vec<Option<String>> {
    let requests =
        server.requests().into_iter().filter(|request| request.path.ends_with("model.safetensors"));
    requests.map(|request| request.header("range").map(str::to_owned)).collect()
}

fn bytes(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("model.safetensors")).unwrap()
}

#[test]
fn a_cut_download_goes_on_where_it_was() {
    let (server, place) = with_weights(|request, came| match came {
        0 => ranged(&weights(), request).cut_after(30_000),
        1 => Reply::new(503, "{\"error\":\"busy\"}").with("Retry-After", "0"),
        2 => ranged(&weights(), request).cut_after(20_000),
        _ => ranged(&weights(), request),
    });
    let mut notes = Vec::new();
    let mut note = |event: Event<'_>| {
        if let Event::Note(text) = event {
            notes.push(text.to_owned());
        }
    };
    let folder = place.hub().model(&named("org/name"), &mut note).unwrap();
    assert_eq!(bytes(&folder), weights());
    let from = |at: &str| Some(format!("bytes={at}-"));
    assert_eq!(ranges(&server), [None, from("30000"), from("30000"), from("50000")]);
    check_holds(&notes.join("\n"), &["30000 of 80000 bytes", "HTTP 503: busy", "50000 of 80000 bytes"]);
}

#[test]
fn what_a_killed_process_left_is_gone_on_with() {
    let (server, place) = with_weights(|request, _| ranged(&weights(), request));
    let incomplete = place.folder().join("blobs").join(format!("{}.incomplete", name_of(&weights())));
    std::fs::create_dir_all(incomplete.parent().unwrap()).unwrap();
    std::fs::write(&incomplete, &weights()[..77_000]).unwrap();
    let folder = place.model("org/name").unwrap();
    assert_eq!((bytes(&folder), ranges(&server)), (weights(), vec![Some("bytes=77000-".to_owned())]));
    assert!(!incomplete.exists());
    // What it left may be wrong, or too long: then all of it is downloaded.
    for (left, asked) in [(vec![9; 77_000], 2), (vec![9; 80_000], 1), (vec![9; 80_001], 1)] {
        let (server, place) = with_weights(|request, _| ranged(&weights(), request));
        let incomplete = place.folder().join("blobs").join(format!("{}.incomplete", name_of(&weights())));
        std::fs::create_dir_all(incomplete.parent().unwrap()).unwrap();
        std::fs::write(&incomplete, left).unwrap();
        assert_eq!(bytes(&place.model("org/name").unwrap()), weights());
        assert_eq!(ranges(&server).len(), asked);
    }
}

#[test]
fn a_server_that_cannot_resume_is_asked_for_the_whole() {
    let (server, place) = with_weights(|_, came| match came {
        0 => Reply::new(200, weights()).cut_after(30_000),
        _ => Reply::new(200, weights()),
    });
    assert_eq!(bytes(&place.model("org/name").unwrap()), weights());
    assert_eq!(ranges(&server).len(), 2);
    // One that resumes from another place, or does not know what it holds.
    for odd in [
        |request: &Request| {
            ranged(&weights(), request).with("Content-Range", "bytes 0-79999/80000").cut_after(10)
        },
        |_: &Request| Reply::new(416, ""),
    ] {
        let (_server, place) = with_weights(move |request, came| match came {
            0 => Reply::new(200, weights()).cut_after(30_000),
            1 => {
                let mut reply = odd(request);
                let last = reply.headers.pop();
                reply.headers.retain(|(name, _)| name != "Content-Range");
                reply.headers.extend(last);
                reply
            }
            _ => ranged(&weights(), request),
        });
        assert_eq!(bytes(&place.model("org/name").unwrap()), weights());
    }
}

#[test]
fn a_file_that_stays_truncated_is_an_error_and_what_came_is_kept() {
    // The connection is cut at the same place each time, or the server holds less than it says.
    let cut = |request: &Request| {
        ranged(&weights(), request).cut_after(30_000 - request.header("range").map_or(0, |_| 30_000))
    };
    let shorter = |request: &Request| ranged(&weights()[..30_000], request);
    let whole_and_cut = |_: &Request| Reply::new(200, weights()).cut_after(30_000);
    for answer in [cut as fn(&Request) -> Reply, shorter, whole_and_cut] {
        let (server, place) = with_weights(move |request, _| answer(request));
        check_holds(
            &place.error("org/name"),
            &["org/name: model.safetensors", "30000 of 80000 bytes came", "hint: ", "goes on from there"],
        );
        assert!((5..12).contains(&ranges(&server).len()), "{:?}", ranges(&server));
        assert!(!place.folder().join(format!("snapshots/{COMMIT}/model.safetensors")).exists());
        assert!(!place.folder().join("refs").exists());
        assert_eq!(place.hub().cached_model(&named("org/name")), None);
        assert_eq!(place.blobs().iter().filter(|name| name.ends_with(".incomplete")).count(), 1);
    }
}

#[test]
fn a_file_with_another_hash_is_thrown_away() {
    let mut wrong = weights();
    wrong[79_999] ^= 1;
    let hash = name_of(&wrong);
    let (server, place) = with_weights(move |request, _| ranged(&wrong, request));
    let error = place.error("org/name");
    check_holds(&error, &["org/name: model.safetensors", &name_of(&weights()), &hash, "hint: "]);
    assert_eq!(ranges(&server), [None]);
    assert!(!place.folder().join(format!("snapshots/{COMMIT}/model.safetensors")).exists());
    assert_eq!(place.blobs().len(), 2, "config and tokenizer alone: {:?}", place.blobs());
    // So is a small file, which Git names.
    let server = Server::start(|request, _| match request.path.ends_with("config.json") {
        true => Reply::new(200, "{\"hidden_size\": 8}"),
        false => Repository::model().answer(request),
    });
    check_holds(&Place::at(&server.url).error("org/name"), &["org/name: config.json", "hash"]);
}

/// Longer than the Hub said: what is too much is not read.
#[test]
fn a_file_that_does_not_end_is_cut_at_its_size() {
    let (_server, place) = with_weights(|_, _| Reply::new(200, [weights(), vec![1; 1 << 20]].concat()));
    assert_eq!(bytes(&place.model("org/name").unwrap()), weights());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said_with_what_is_to_come() {
    let (_server, place) = with_weights(|request, _| ranged(&weights(), request));
    let blobs = place.folder().join("blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let incomplete = blobs.join(format!("{}.incomplete", name_of(b"{\"hidden_size\": 4}")));
    // `/dev/full` is never read to its end, so it is only written here: its first read gives more than the file has.
    std::os::unix::fs::symlink("/dev/full", incomplete).unwrap();
    check_holds(&place.error("org/name"), &["no space is left", "18 bytes", "HF_HOME"]);
}

#[test]
fn a_hostile_listing_writes_nothing() {
    for name in ["../../escaped.json", "/tmp/escaped.json", "a\\\\..\\\\escaped.json"] {
        let listing = format!(
            "{{\"sha\":\"{COMMIT}\",\"siblings\":[{{\"rfilename\":\"config.json\"}},{{\"rfilename\":\"{name}\"}}]}}"
        );
        let server = Server::start(move |_, _| Reply::new(200, listing.clone()));
        let place = Place::at(&server.url);
        check_holds(&place.error("org/name"), &["org/name", "not allowed", "escaped.json"]);
        assert_eq!(server.requests().len(), 1);
        assert!(names(place.home.path()).is_empty());
    }
    for text in ["<html>login</html>", "{\"sha\":\"../../x\"}"] {
        let server = Server::start(move |_, _| Reply::new(200, text));
        check_holds(
            &Place::at(&server.url).error("org/name"),
            &["org/name: http://127.0.0.1", "the listing"],
        );
    }
}

#[test]
fn processes_at_the_same_time_download_a_file_once() {
    let (server, place) = with_weights(|request, _| ranged(&weights(), request));
    let folders: Vec<PathBuf> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| place.model("org/name").unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(folders.iter().all(|folder| bytes(folder) == weights()));
    assert_eq!(ranges(&server).len(), 1);
}
