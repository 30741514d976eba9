//! `tidemark.sqlite`: the logs and the manifest on disk.
//!
//! Written with a write-ahead log and full synchronisation: a transaction is durable when it
//! returns, at the price of one sync (a rollback journal needs three), and `tidemark checkpoint`
//! can read while the query runs. (`EXTRA` is `FULL` here, and right too on a file system where
//! `SQLite` has to fall back to a rollback journal.) Entries are JSON with a CRC32C beside them, since `SQLite` by
//! itself does not notice a flipped bit inside a text. The tables are described in
//! `docs/format.md`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemark_connectors::storage::{Moment, Storage};
use uuid::Uuid;

use super::Fingerprint;
use super::error::{CheckpointError, Outcome, Result};

/// The database's name in the checkpoint's directory.
pub(super) const DATABASE: &str = "tidemark.sqlite";

/// The version of the tables and of the state that is written and read. In 1 the values that `min`
/// and `max` keep ascended where they descend now.
pub const FORMAT_VERSION: u32 = 2;

/// "TDMK", so that `file` and others can tell the database from any other.
const APPLICATION_ID: i32 = 0x5444_4d4b;

/// How long to wait for another connection (a backup, a curious `sqlite3`) to let go.
const BUSY: Duration = Duration::from_secs(10);

const SCHEMA: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE offsets (
  epoch INTEGER PRIMARY KEY, group_first INTEGER NOT NULL,
  entry TEXT NOT NULL, crc INTEGER NOT NULL
) STRICT;
CREATE TABLE commits (
  last INTEGER PRIMARY KEY, first INTEGER NOT NULL,
  entry TEXT NOT NULL, crc INTEGER NOT NULL
) STRICT;
CREATE TABLE source_log (
  source INTEGER NOT NULL, epoch INTEGER NOT NULL,
  range TEXT NOT NULL, crc INTEGER NOT NULL,
  PRIMARY KEY (source, epoch)
) STRICT, WITHOUT ROWID;
CREATE TABLE state_files (
  name TEXT PRIMARY KEY, kind TEXT NOT NULL CHECK (kind IN ('delta', 'snapshot')),
  worker INTEGER NOT NULL, workers INTEGER NOT NULL,
  first INTEGER NOT NULL, last INTEGER NOT NULL,
  bytes INTEGER NOT NULL, crc INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Who a checkpoint belongs to, as it is stored.
#[derive(Clone, Debug)]
pub(super) struct Meta {
    pub(super) query: Uuid,
    pub(super) name: String,
    pub(super) fingerprint: Fingerprint,
}

/// The open database.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    pub(super) connection: Connection,
}

impl Database {
    /// Opens the database in `dir` to write. Makes the tables if they are not there yet, which
    /// is right only where there is no state (`fresh`).
    pub(super) fn open(
        dir: &Path,
        storage: &dyn Storage,
        new: &Meta,
        fresh: bool,
    ) -> Result<(Self, Meta)> {
        let path = dir.join(DATABASE);
        let failed = |source| CheckpointError::DatabaseWrite {
            action: "open the database",
            path: path.clone(),
            source,
            outcome: Outcome::DidNotHappen,
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(failed)?;
        connection.busy_timeout(BUSY).map_err(failed)?;
        let mut database = Self {
            path: path.clone(),
            connection,
        };
        // Before anything is written: a newer version may want another journal, too.
        let version = database.version()?;
        if version == 0 && !fresh {
            return Err(database.damaged("it is empty, and there are state files beside it"));
        }
        database
            .connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = EXTRA;")
            .map_err(failed)?;
        if version == 0 {
            database.write("create the tables", storage, |tx| {
                tx.execute_batch(SCHEMA)?;
                set_meta(tx, "query_id", &new.query.to_string())?;
                set_meta(tx, "name", &new.name)?;
                set_meta(tx, "fingerprint", &json(&new.fingerprint))?;
                tx.pragma_update(None, "application_id", APPLICATION_ID)?;
                tx.pragma_update(None, "user_version", FORMAT_VERSION)
            })?;
        }
        let meta = database.meta()?;
        Ok((database, meta))
    }

    /// Opens the database in `dir` only to read. `alone`: nobody else has it open.
    pub(super) fn read_only(dir: &Path, alone: bool) -> Result<Self> {
        let path = dir.join(DATABASE);
        if !path.is_file() {
            return Err(CheckpointError::NoCheckpoint {
                dir: dir.to_path_buf(),
            });
        }
        let failed = |source| CheckpointError::DatabaseRead {
            action: "open the database",
            path: path.clone(),
            source,
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(failed)?;
        connection.busy_timeout(BUSY).map_err(failed)?;
        let database = Self {
            path: path.clone(),
            connection,
        };
        match database.version() {
            // A directory that we may not write to has no room for the shared index of the
            // write-ahead log. Where there is no such log to read, it is not needed either.
            Err(CheckpointError::DatabaseRead { source, .. })
                if alone
                    && !dir.join(format!("{DATABASE}-wal")).exists()
                    && matches!(
                        source.sqlite_error_code(),
                        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)
                    ) =>
            {
                let uri = format!("file:{}?immutable=1", escaped(&path));
                let flags = flags | OpenFlags::SQLITE_OPEN_URI;
                let connection = Connection::open_with_flags(uri, flags).map_err(failed)?;
                let database = Self {
                    path: path.clone(),
                    connection,
                };
                database.version()?;
                Ok(database)
            }
            Err(error) => Err(error),
            Ok(0) => Err(CheckpointError::NoCheckpoint {
                dir: dir.to_path_buf(),
            }),
            Ok(_) => Ok(database),
        }
    }

    /// The version of the tables; 0: there are none. Refuses what is newer, older, or not ours.
    fn version(&self) -> Result<u32> {
        let pragma = |name: &str| {
            self.connection
                .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
                .map_err(self.reading("read the version"))
        };
        let version = pragma("user_version")? as u32;
        if version > FORMAT_VERSION {
            return Err(CheckpointError::NewerFormat {
                path: self.path.clone(),
                found: version,
                supported: FORMAT_VERSION,
            });
        }
        let tables: i64 = self
            .connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(self.reading("read the version"))?;
        let ours = pragma("application_id")? == i64::from(APPLICATION_ID);
        if ours != (version > 0) || (!ours && tables > 0) {
            return Err(self.damaged("it is not a database of Tidemark's"));
        }
        if ours && version < FORMAT_VERSION {
            return Err(CheckpointError::OlderFormat {
                path: self.path.clone(),
                found: version,
                supported: FORMAT_VERSION,
            });
        }
        Ok(version)
    }

    pub(super) fn meta(&self) -> Result<Meta> {
        let get = |key: &str| {
            self.meta_value(key)?
                .ok_or_else(|| self.damaged(&format!("it does not know the query's {key}")))
        };
        let query = get("query_id")?;
        let fingerprint = get("fingerprint")?;
        Ok(Meta {
            query: Uuid::parse_str(&query)
                .map_err(|error| self.damaged(&format!("its query id '{query}': {error}")))?,
            name: get("name")?,
            fingerprint: serde_json::from_str(&fingerprint)
                .map_err(|error| self.damaged(&format!("its fingerprint: {error}")))?,
        })
    }

    fn meta_value(&self, key: &str) -> Result<Option<String>> {
        self.connection
            .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| {
                row.get(0)
            })
            .optional()
            .map_err(self.reading("read what is known of the query"))
    }

    pub(super) fn rename_query(&mut self, storage: &dyn Storage, name: &str) -> Result<()> {
        self.write("write the query's name", storage, |tx| {
            set_meta(tx, "name", name)
        })
    }

    /// What the last start said of the query.
    pub(super) fn outline(&self) -> Result<Option<String>> {
        self.meta_value("outline")
    }

    /// Adds one to how often the query was started, and gives that number; keeps what the start says of the query.
    pub(super) fn count_start(&mut self, storage: &dyn Storage, outline: &str) -> Result<u64> {
        let starts = match self.meta_value("starts")? {
            None => 1,
            Some(text) => {
                let before: u64 = text.parse().map_err(|error| {
                    self.damaged(&format!("its number of starts '{text}': {error}"))
                })?;
                before.saturating_add(1)
            }
        };
        self.write("count the start of the query", storage, |tx| {
            set_meta(tx, "outline", outline)?;
            set_meta(tx, "starts", &starts.to_string())
        })?;
        Ok(starts)
    }

    /// Runs `change` in a transaction of its own.
    pub(super) fn write(
        &mut self,
        action: &'static str,
        storage: &dyn Storage,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<()> {
        let path = self.path.clone();
        let failed = |outcome| {
            let path = path.clone();
            move |source| CheckpointError::DatabaseWrite {
                action,
                path,
                source,
                outcome,
            }
        };
        let died = |outcome| {
            let path = path.clone();
            move |source| CheckpointError::Write {
                action,
                path,
                source,
                outcome,
            }
        };
        let tx = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed(Outcome::DidNotHappen))?;
        change(&tx).map_err(failed(Outcome::DidNotHappen))?;
        storage
            .moment(Moment::BeforeTransaction)
            .map_err(died(Outcome::DidNotHappen))?;
        tx.commit().map_err(|error| {
            // A full disk or a lock shows before anything counts; whatever else went wrong may
            // have gone wrong after the log was written.
            let outcome = match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::ReadOnly) => {
                    Outcome::DidNotHappen
                }
                _ => Outcome::MayHaveHappened,
            };
            failed(outcome)(error)
        })?;
        storage
            .moment(Moment::AfterTransaction)
            .map_err(died(Outcome::MayHaveHappened))
    }

    pub(super) fn rows(&self, action: &'static str, sql: &str) -> Result<Vec<(i64, String, i64)>> {
        let mut statement = self
            .connection
            .prepare_cached(sql)
            .map_err(self.reading(action))?;
        statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .and_then(Iterator::collect)
            .map_err(self.reading(action))
    }

    pub(super) fn checked<T: DeserializeOwned>(
        &self,
        place: &str,
        text: &str,
        sum: i64,
    ) -> Result<T> {
        if crc(text) != sum {
            return Err(self.damaged(&format!("an entry of {place} does not have its checksum")));
        }
        serde_json::from_str(text)
            .map_err(|error| self.damaged(&format!("an entry of {place}: {error}")))
    }

    pub(super) fn damaged(&self, reason: &str) -> CheckpointError {
        CheckpointError::DamagedLog {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    pub(super) fn reading(
        &self,
        action: &'static str,
    ) -> impl FnOnce(rusqlite::Error) -> CheckpointError {
        let path = self.path.clone();
        move |source| CheckpointError::DatabaseRead {
            action,
            path,
            source,
        }
    }
}

fn set_meta(tx: &Transaction<'_>, key: &str, value: &str) -> rusqlite::Result<()> {
    tx.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", [key, value])
        .map(drop)
}

pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("entries have string keys and no failing serialisers")
}

pub(super) fn crc(text: &str) -> i64 {
    i64::from(crc32c::crc32c(text.as_bytes()))
}

/// A path as it stands in an `SQLite` URI.
fn escaped(path: &Path) -> String {
    path.to_string_lossy()
        .replace('%', "%25")
        .replace('?', "%3f")
        .replace('#', "%23")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::CommitEntry;
    use tidemark_connectors::storage::Disk;

    fn database(dir: &Path) -> Database {
        let new = Meta {
            query: Uuid::from_u128(1),
            name: "q".into(),
            fingerprint: Fingerprint::new(),
        };
        Database::open(dir, &Disk, &new, true)
            .expect("an empty directory becomes a database")
            .0
    }

    #[test]
    fn a_full_database_says_that_nothing_happened_and_goes_on_when_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = database(dir.path());
        let pages = |n: i64| {
            move |database: &Database| {
                database
                    .connection
                    .pragma_update_and_check(None, "max_page_count", n, |_| Ok(()))
                    .expect("a limit can be set");
            }
        };
        pages(1)(&database);
        let mut written = 0;
        let error = loop {
            let entry = CommitEntry {
                first: written,
                last: written,
                ..CommitEntry::default()
            };
            match database.commit(&Disk, &entry, &[]) {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.outcome(), Some(Outcome::DidNotHappen));
        let text = error.to_string();
        assert!(text.contains("free some space"), "{text}");
        assert_eq!(database.commits().expect("readable").len() as u64, written);
        pages(1_000_000)(&database);
        let entry = CommitEntry {
            first: written,
            last: written,
            ..CommitEntry::default()
        };
        database
            .commit(&Disk, &entry, &[])
            .expect("there is room now");
    }

    #[test]
    fn the_journal_is_a_write_ahead_log_and_every_commit_is_synced() {
        let dir = tempfile::tempdir().unwrap();
        let database = database(dir.path());
        let pragma = |name| {
            database
                .connection
                .pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0))
                .expect("a pragma can be read")
        };
        assert_eq!(
            pragma("journal_mode"),
            rusqlite::types::Value::Text("wal".into())
        );
        assert_eq!(pragma("synchronous"), rusqlite::types::Value::Integer(3));
    }
}
