//! Kills, torn logs, and files that are not valid ledgers.

use super::*;

#[test]
fn what_was_committed_survives_a_kill_and_what_was_not_is_gone() {
    let (_folder, path, mut ledger) = new_ledger();
    small_run(&mut ledger);
    // A transaction in progress: its pages may already be in the log, without the commit.
    ledger.connection.execute_batch("PRAGMA cache_size = 1; BEGIN IMMEDIATE;").unwrap();
    for ordinal in 0..500 {
        ledger
            .connection
            .execute(
                "INSERT INTO items (id, stage, kind, ordinal, text, data, sha256) VALUES (?1, 'label', 'label', 9, ?2, 'null', '')",
                [format!("half/{ordinal}"), "x".repeat(2000)],
            )
            .unwrap();
    }
    // What SIGKILL leaves on disk: the file and its log as they are, no lock, no shared memory.
    let crashed = tempfile::tempdir().unwrap();
    let copy = crashed.path().join("ledger.sqlite");
    fs::copy(&path, &copy).unwrap();
    let log = path.with_file_name("ledger.sqlite-wal");
    assert!(fs::metadata(&log).unwrap().len() > 500 * 2000, "the half transaction is in the log");
    fs::copy(&log, crashed.path().join("ledger.sqlite-wal")).unwrap();

    let mut recovered = Ledger::open(&copy).unwrap();
    assert_eq!(recovered.raw_items("label", ItemKind::Label).unwrap().len(), 1);
    assert_eq!(recovered.steps("dpo").unwrap().len(), 3);
    let resumed = StageState::Resumed { items: 2, last_step: None };
    assert_eq!(recovered.begin_stage("label", "h3").unwrap(), resumed);
}

#[test]
fn a_log_torn_at_any_place_gives_a_state_that_once_was() {
    let (folder, path, mut ledger) = new_ledger();
    ledger
        .connection
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA wal_autocheckpoint = 0;")
        .unwrap();
    ledger.begin_stage("s", "h").unwrap();
    for ordinal in 0..6 {
        let id = format!("i{ordinal}");
        ledger
            .insert_items(
                "s",
                &[
                    item(&id, ItemKind::Response, ordinal),
                    item(&format!("{id}b"), ItemKind::Response, ordinal),
                ],
            )
            .unwrap();
    }
    let (main, log) = (fs::read(&path).unwrap(), fs::read(path.with_file_name("ledger.sqlite-wal")).unwrap());
    let mut counts = Vec::new();
    for length in (0..=log.len()).step_by(1777).chain([log.len()]) {
        let copy = folder.path().join(format!("{length}.sqlite"));
        fs::write(&copy, &main).unwrap();
        fs::write(folder.path().join(format!("{length}.sqlite-wal")), &log[..length]).unwrap();
        counts.push(Ledger::open(&copy).unwrap().raw_items("s", ItemKind::Response).unwrap().len());
    }
    assert!(counts.is_sorted() && counts.iter().all(|count| count % 2 == 0), "{counts:?}");
    assert_eq!((counts.first(), counts.last()), (Some(&0), Some(&12)));
}

#[test]
fn files_that_are_no_sound_ledger_are_refused_by_name_and_left_alone() {
    let (folder, path, mut ledger) = new_ledger();
    small_run(&mut ledger);
    drop(ledger);
    let sound = fs::read(&path).unwrap();
    let check = |name: &str, bytes: &[u8], expected: &str| {
        let file = folder.path().join(name);
        fs::write(&file, bytes).unwrap();
        let error = Ledger::open(&file).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(name), "{error}");
        // A reader does not check every page; it must report the damage when it reads the damaged one.
        let read =
            Ledger::open_read_only(&file).and_then(|ledger| ledger.raw_items("respond", ItemKind::Prompt));
        let error = read.unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(name), "{error}");
        assert_eq!(fs::read(&file).unwrap(), bytes);
    };
    check(
        "text",
        "not a database, only a text that is long enough".repeat(100).as_bytes(),
        "is not a Solon ledger: it is not an SQLite file",
    );
    check("truncated", &sound[..sound.len() / 2], "is damaged");
    let mut flipped = sound.clone();
    flipped[4096..].fill(0x5a);
    check("flipped", &flipped, "is damaged");

    // The last page is an index that no statement at opening reads; only the check of every page finds the damage.
    let quiet = folder.path().join("quiet");
    let mut bytes = sound.clone();
    let last = bytes.len() - 4096;
    bytes[last..].fill(0x5a);
    fs::write(&quiet, bytes).unwrap();
    Ledger::open_read_only(&quiet).unwrap();
    let error = Ledger::open(&quiet).unwrap_err().to_string();
    assert!(error.contains("quiet is damaged"), "{error}");

    let other = folder.path().join("other");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    let error = Ledger::open(&other).unwrap_err().to_string();
    assert!(error.contains("is an SQLite file of another program"), "{error}");

    Connection::open(&path).unwrap().pragma_update(None, "user_version", SCHEMA_VERSION + 1).unwrap();
    let error = Ledger::open(&path).unwrap_err();
    assert!(
        matches!(error, LedgerError::NewerSchema { found, .. } if found == SCHEMA_VERSION + 1),
        "{error}"
    );
    assert!(error.to_string().contains("use the newer Solon"), "{error}");

    assert!(Ledger::open_read_only(&folder.path().join("absent")).is_err());
    assert!(!folder.path().join("absent").exists());
    assert!(Ledger::open(&folder.path().join("no/such/folder")).is_err());
    fs::write(folder.path().join("empty"), "").unwrap();
    assert!(
        Ledger::open_read_only(&folder.path().join("empty")).unwrap_err().to_string().contains("it is empty")
    );
    Ledger::open(&folder.path().join("empty")).unwrap();
}

#[test]
fn a_full_disk_is_said_and_what_was_there_stays() {
    let (_folder, _path, mut ledger) = new_ledger();
    small_run(&mut ledger);
    ledger.begin_stage("respond again", "h").unwrap();
    let pages = |ledger: &Ledger, most: u32| {
        let set = format!("PRAGMA max_page_count = {most}");
        ledger.connection.query_row(&set, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    // No fewer than there are.
    pages(&ledger, 1);
    let large = NewItem::new("response/large", ItemKind::Response, 9, "x".repeat(100_000));
    let error = ledger.insert_items("respond again", std::slice::from_ref(&large)).unwrap_err();
    assert!(error.may_be_full() && error.to_string().contains("full"), "{error}");
    assert!(ledger.find_item("response/1").unwrap().is_some());
    assert!(ledger.find_item("response/large").unwrap().is_none());
    pages(&ledger, u32::MAX - 1);
    ledger.insert_items("respond again", &[large]).unwrap();
    assert!(ledger.find_item("response/large").unwrap().is_some());
}
