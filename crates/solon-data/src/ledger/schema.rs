//! The ledger's tables, and the checks a file must pass before it is used.
//!
//! `links.parent` is not a foreign key. When a stage is restarted, its items are deleted, but the items of later stages
//! stay until those stages detect that their inputs changed. If the inputs did not change, the items come back under
//! the same ids, and the links must still exist.

use std::time::Duration;

use super::{Ledger, LedgerError};

/// The version of the tables below, stored in `user_version`. A file with a larger version is refused.
pub const SCHEMA_VERSION: i64 = 1;

/// `application_id` of a Solon ledger: the bytes "Soln".
const APPLICATION_ID: i64 = 0x536f_6c6e;

/// How long we wait for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

const TABLES: &str = "
CREATE TABLE stages (
    name        TEXT PRIMARY KEY,
    input_hash  TEXT NOT NULL,
    status      TEXT NOT NULL CHECK (status IN ('running', 'done')),
    started_at  INTEGER NOT NULL,           -- seconds since 1970, for the reader only
    seconds     REAL,                       -- working time, for the reader only
    output_hash TEXT,
    detail      TEXT NOT NULL DEFAULT 'null' -- JSON
) STRICT;

CREATE TABLE items (
    id             TEXT PRIMARY KEY,
    stage          TEXT NOT NULL REFERENCES stages (name) ON DELETE CASCADE,
    kind           TEXT NOT NULL,
    ordinal        INTEGER NOT NULL,
    prompt_id      TEXT,
    principle_id   TEXT,
    text           TEXT NOT NULL,
    data           TEXT NOT NULL,           -- JSON
    sha256         TEXT NOT NULL,           -- of the content, not of the ordinal or the reason it was dropped
    dropped_reason TEXT
) STRICT;
CREATE INDEX items_in_order ON items (stage, kind, ordinal);

CREATE TABLE links (
    child  TEXT NOT NULL REFERENCES items (id) ON DELETE CASCADE,
    parent TEXT NOT NULL,
    role   TEXT NOT NULL,
    PRIMARY KEY (child, role, parent)
) STRICT, WITHOUT ROWID;
CREATE INDEX links_by_parent ON links (parent);

CREATE TABLE steps (
    stage  TEXT NOT NULL REFERENCES stages (name) ON DELETE CASCADE,
    step   INTEGER NOT NULL,
    data   TEXT NOT NULL,                   -- JSON
    sha256 TEXT,
    PRIMARY KEY (stage, step)
) STRICT;

CREATE TABLE step_items (
    stage    TEXT NOT NULL,
    step     INTEGER NOT NULL,
    position INTEGER NOT NULL,
    item     TEXT NOT NULL,
    PRIMARY KEY (stage, step, position),
    FOREIGN KEY (stage, step) REFERENCES steps (stage, step) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX step_items_by_item ON step_items (item);

CREATE TABLE checkpoints (
    stage  TEXT NOT NULL REFERENCES stages (name) ON DELETE CASCADE,
    step   INTEGER NOT NULL,
    path   TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (stage, step)
) STRICT;
";

/// Checks the file, makes the tables in an empty one, and sets the connection up for writing.
pub(super) fn prepare(ledger: &Ledger) -> Result<(), LedgerError> {
    let connection = &ledger.connection;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(ledger.failed("set up"))?;
    if identify(ledger)? == Found::Empty {
        // One transaction: a kill between the tables and the version leaves an empty file, not half a ledger.
        connection
            .execute_batch(&format!(
                "BEGIN IMMEDIATE; {TABLES}
                 PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            ))
            .map_err(ledger.failed("create"))?;
    }
    // WAL lets `solon explain` read while a run writes. In WAL mode, NORMAL would survive a kill of the process. But a
    // power cut could lose the last commits while the checkpoints they name, which are synced, stay. FULL syncs at
    // every commit. That costs milliseconds; an item or a training step takes seconds.
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
        .map_err(ledger.failed("set up"))?;
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(ledger.failed("check"))?;
    if verdict != "ok" {
        return Err(LedgerError::Damaged { path: ledger.path.clone(), message: verdict });
    }
    Ok(())
}

/// Checks that the file is a ledger this Solon can read.
pub(super) fn check_readable(ledger: &Ledger) -> Result<(), LedgerError> {
    ledger.connection.busy_timeout(BUSY_TIMEOUT).map_err(ledger.failed("set up"))?;
    match identify(ledger)? {
        Found::Ledger => Ok(()),
        Found::Empty => {
            Err(LedgerError::NotALedger { path: ledger.path.clone(), message: "it is empty".into() })
        }
    }
}

#[derive(PartialEq)]
enum Found {
    Empty,
    Ledger,
}

fn identify(ledger: &Ledger) -> Result<Found, LedgerError> {
    let number = |sql: &str| -> Result<i64, LedgerError> {
        ledger.connection.query_row(sql, [], |row| row.get(0)).map_err(ledger.failed("open"))
    };
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    let (application, version) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    match (application, version) {
        (0, 0) if tables == 0 => Ok(Found::Empty),
        (APPLICATION_ID, 1..=SCHEMA_VERSION) => Ok(Found::Ledger),
        (APPLICATION_ID, found) if found > SCHEMA_VERSION => {
            Err(LedgerError::NewerSchema { path: ledger.path.clone(), found, supported: SCHEMA_VERSION })
        }
        _ => Err(LedgerError::NotALedger {
            path: ledger.path.clone(),
            message: "it is an SQLite file of another program".into(),
        }),
    }
}
