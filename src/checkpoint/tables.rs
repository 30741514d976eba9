//! The tables of `tidemark.sqlite`, row by row: reading all of a log, appending, forgetting.

use rusqlite::{Transaction, params};
use tidemark_connectors::PlannedRange;
use tidemark_connectors::storage::Storage;

use super::database::{Database, crc, json};
use super::error::Result;
use super::{CommitEntry, FileKind, Group, Manifest, OffsetEntry, StateFile};
use crate::time::Epoch;

impl Database {
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
            manifest(tx, files.iter().copied())
        })
    }

    /// Adds files to the manifest that stand for others of it.
    pub(super) fn add_files(&mut self, storage: &dyn Storage, files: &[StateFile]) -> Result<()> {
        self.write("write the manifest", storage, |tx| manifest(tx, files))
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

    /// Forgets what was committed after `epoch`. What was logged stays, to be run again.
    pub(super) fn roll_back(&mut self, storage: &dyn Storage, epoch: Epoch) -> Result<()> {
        self.write("roll back the logs", storage, |tx| {
            tx.execute("DELETE FROM commits WHERE last > ?1", [epoch as i64])?;
            tx.execute("DELETE FROM state_files WHERE last > ?1", [epoch as i64])
                .map(drop)
        })
    }

    /// Forgets the oldest `count` ranges of `source`, never one of an epoch after `committed`.
    pub(super) fn trim_source_log(
        &mut self,
        storage: &dyn Storage,
        source: usize,
        count: usize,
        committed: Epoch,
    ) -> Result<usize> {
        let mut trimmed = 0;
        self.write("trim the source log", storage, |tx| {
            trimmed = tx.execute(
                "DELETE FROM source_log WHERE source = ?1 AND epoch IN (
                   SELECT epoch FROM source_log WHERE source = ?1 AND epoch <= ?3
                   ORDER BY epoch LIMIT ?2)",
                params![source as i64, count as i64, committed as i64],
            )?;
            Ok(())
        })?;
        Ok(trimmed)
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
}

fn manifest<'a>(
    tx: &Transaction<'_>,
    files: impl IntoIterator<Item = &'a StateFile>,
) -> rusqlite::Result<()> {
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
}
