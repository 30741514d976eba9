//! `tidemark.sqlite`: the logs and the manifest on disk.
//!
//! Written with a write-ahead log and `synchronous = FULL`: a transaction is durable when it
//! returns, at the price of one sync (a rollback journal needs three), and `tidemark checkpoint`
//! can read while the query runs. Entries are JSON with a CRC32C beside them, since `SQLite` by
//! itself does not notice a flipped bit inside a text. The tables are described in
//! `docs/format.md`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemark_connectors::PlannedRange;
use uuid::Uuid;

use super::error::{CheckpointError, Outcome, Result};
use super::storage::{Moment, Storage};
use super::{CommitEntry, FileKind, Fingerprint, Group, Manifest, OffsetEntry, StateFile};
use crate::time::Epoch;

/// The database's name in the checkpoint's directory.
pub(super) const DATABASE: &str = "tidemark.sqlite";

/// The newest version of the tables that is understood.
pub const FORMAT_VERSION: u32 = 1;

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
    connection: Connection,
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
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
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

    /// The version of the tables; 0: there are none. Refuses what is newer, or not ours.
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
        if ours == (version > 0) && (ours || tables == 0) {
            Ok(version)
        } else {
            Err(self.damaged("it is not a database of Tidemark's"))
        }
    }

    pub(super) fn meta(&self) -> Result<Meta> {
        let get = |key: &str| -> Result<String> {
            self.connection
                .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| {
                    row.get(0)
                })
                .map_err(self.reading("read the query's identity"))
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

    pub(super) fn rename_query(&mut self, storage: &dyn Storage, name: &str) -> Result<()> {
        self.write("write the query's name", storage, |tx| {
            set_meta(tx, "name", name)
        })
    }

    pub(super) fn groups(&self) -> Result<Vec<Group>> {
        let rows = self.rows(
            "read the offset log",
            "SELECT group_first, entry, crc FROM offsets ORDER BY epoch",
        )?;
        let mut groups: Vec<Group> = Vec::new();
        let mut current = None;
        for (first, text, crc) in rows {
            let entry: OffsetEntry = self.checked("the offset log", &text, crc)?;
            match groups.last_mut().filter(|_| current == Some(first)) {
                Some(group) => group.entries.push(entry),
                None => groups.push(Group {
                    entries: vec![entry],
                }),
            }
            current = Some(first);
        }
        Ok(groups)
    }

    pub(super) fn commits(&self) -> Result<Vec<CommitEntry>> {
        self.rows(
            "read the commit log",
            "SELECT last, entry, crc FROM commits ORDER BY last",
        )?
        .into_iter()
        .map(|(_, text, crc)| self.checked("the commit log", &text, crc))
        .collect()
    }

    pub(super) fn manifest(&self) -> Result<Manifest> {
        let failed = || self.reading("read the state manifest");
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT name, kind, worker, workers, first, last, bytes, crc FROM state_files",
            )
            .map_err(failed())?;
        let files = statement
            .query_map([], |row| {
                let unsigned = |at| row.get::<_, i64>(at).map(|value| value as u64);
                Ok(StateFile {
                    name: row.get(0)?,
                    kind: match row.get_ref(1)?.as_str()? {
                        "snapshot" => FileKind::Snapshot,
                        _ => FileKind::Delta,
                    },
                    worker: unsigned(2)? as usize,
                    workers: unsigned(3)? as usize,
                    first: unsigned(4)?,
                    last: unsigned(5)?,
                    bytes: unsigned(6)?,
                    crc: unsigned(7)? as u32,
                })
            })
            .and_then(Iterator::collect)
            .map_err(failed())?;
        Ok(Manifest::new(files))
    }

    pub(super) fn source_log(&self, source: usize) -> Result<Vec<PlannedRange>> {
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT epoch, range, crc FROM source_log WHERE source = ?1 ORDER BY epoch",
            )
            .map_err(self.reading("read the source log"))?;
        let rows: Vec<(i64, String, i64)> = statement
            .query_map([source as i64], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .and_then(Iterator::collect)
            .map_err(self.reading("read the source log"))?;
        rows.iter()
            .map(|(_, text, crc)| self.checked("the source log", text, *crc))
            .collect()
    }

    /// Appends a group to the offset log, and its ranges to the source log.
    pub(super) fn log(&mut self, storage: &dyn Storage, entries: &[OffsetEntry]) -> Result<()> {
        let Some(first) = entries.first().map(|entry| entry.epoch as i64) else {
            return Ok(());
        };
        self.write("write the offset log", storage, |tx| {
            let mut offset = tx.prepare_cached("INSERT INTO offsets VALUES (?1, ?2, ?3, ?4)")?;
            let mut range = tx.prepare_cached("INSERT INTO source_log VALUES (?1, ?2, ?3, ?4)")?;
            for entry in entries {
                let text = json(entry);
                offset.execute(params![entry.epoch as i64, first, text, crc(&text)])?;
                for (source, planned) in entry.sources.iter().enumerate() {
                    if let Some(planned) = &planned.range {
                        let text = json(planned);
                        range.execute(params![
                            source as i64,
                            entry.epoch as i64,
                            text,
                            crc(&text)
                        ])?;
                    }
                }
            }
            Ok(())
        })
    }

    /// Appends to the commit log, and the commit's files and those folded meanwhile to the
    /// manifest.
    pub(super) fn commit(
        &mut self,
        storage: &dyn Storage,
        entry: &CommitEntry,
        files: &[&StateFile],
    ) -> Result<()> {
        self.write("write the commit log", storage, |tx| {
            let text = json(entry);
            tx.prepare_cached("INSERT INTO commits VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![
                    entry.last as i64,
                    entry.first as i64,
                    text,
                    crc(&text)
                ])?;
            let mut statement = tx.prepare_cached(
                "INSERT OR REPLACE INTO state_files VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            for file in files {
                statement.execute(params![
                    file.name,
                    file.kind.name(),
                    file.worker as i64,
                    file.workers as i64,
                    file.first as i64,
                    file.last as i64,
                    file.bytes as i64,
                    i64::from(file.crc)
                ])?;
            }
            Ok(())
        })
    }

    /// Forgets commits before `keep`, their offsets, and these files.
    pub(super) fn purge(
        &mut self,
        storage: &dyn Storage,
        keep: Epoch,
        files: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<()> {
        self.write("purge the logs", storage, |tx| {
            tx.execute("DELETE FROM commits WHERE last < ?1", [keep as i64])?;
            // A group goes as a whole, when the commit that covers it has gone.
            tx.execute(
                "DELETE FROM offsets WHERE epoch < (SELECT min(first) FROM commits)",
                [],
            )?;
            let mut statement = tx.prepare_cached("DELETE FROM state_files WHERE name = ?1")?;
            for name in files {
                statement.execute([name.as_ref()])?;
            }
            Ok(())
        })
    }

    /// Forgets the oldest `count` ranges of `source`, never one of an epoch after `committed`.
    pub(super) fn trim_source_log(
        &mut self,
        storage: &dyn Storage,
        source: usize,
        count: usize,
        committed: Epoch,
    ) -> Result<()> {
        self.write("trim the source log", storage, |tx| {
            tx.execute(
                "DELETE FROM source_log WHERE source = ?1 AND epoch IN (
                   SELECT epoch FROM source_log WHERE source = ?1 AND epoch <= ?3
                   ORDER BY epoch LIMIT ?2)",
                params![source as i64, count as i64, committed as i64],
            )
            .map(drop)
        })
    }

    /// What `SQLite` itself finds wrong with the file.
    pub(super) fn integrity(&self) -> Result<Vec<String>> {
        let failed = || self.reading("check the database");
        let mut statement = self
            .connection
            .prepare("PRAGMA integrity_check")
            .map_err(failed())?;
        let found: Vec<String> = statement
            .query_map([], |row| row.get(0))
            .and_then(Iterator::collect)
            .map_err(failed())?;
        Ok(found.into_iter().filter(|line| line != "ok").collect())
    }

    /// Runs `change` in a transaction of its own.
    fn write(
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

    fn rows(&self, action: &'static str, sql: &str) -> Result<Vec<(i64, String, i64)>> {
        let mut statement = self
            .connection
            .prepare_cached(sql)
            .map_err(self.reading(action))?;
        statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .and_then(Iterator::collect)
            .map_err(self.reading(action))
    }

    fn checked<T: DeserializeOwned>(&self, place: &str, text: &str, sum: i64) -> Result<T> {
        if crc(text) != sum {
            return Err(self.damaged(&format!("an entry of {place} does not have its checksum")));
        }
        serde_json::from_str(text)
            .map_err(|error| self.damaged(&format!("an entry of {place}: {error}")))
    }

    fn damaged(&self, reason: &str) -> CheckpointError {
        CheckpointError::DamagedLog {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    fn reading(&self, action: &'static str) -> impl FnOnce(rusqlite::Error) -> CheckpointError {
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

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("entries have string keys and no failing serialisers")
}

fn crc(text: &str) -> i64 {
    i64::from(crc32c::crc32c(text.as_bytes()))
}

/// A path as it stands in an SQLite URI.
fn escaped(path: &Path) -> String {
    path.to_string_lossy()
        .replace('%', "%25")
        .replace('?', "%3f")
        .replace('#', "%23")
}
