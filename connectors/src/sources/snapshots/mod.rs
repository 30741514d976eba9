//! A static table, read once or again from time to time, whose rows are kept for as long as an epoch may be run
//! again.
//!
//! A database gives no rows twice, and a file may be written anew. So what is read of such a table becomes a
//! *snapshot*, a file beside the checkpoint: durable before the range that names it is logged. Its first range
//! gives the rows of the first snapshot. When the refresh interval has passed a thread reads the table again; where
//! its rows differ, the next range gives what changed: the rows that went, taken back, and those that came. The
//! epoch that this range is planned in is the first that sees the table so, at every run of it.
//!
//! | module | what it does |
//! |---|---|
//! | here | when to read, what to plan, which files are needed |
//! | `find` | reads the table, and finds what changed |
//! | `keep` | which files there are |
//! | `take` | reads the table into a file |
//! | `compare` | what changed between two snapshots |
//! | `file` | the files |
//! | `reader` | reads what splits name |
//! | `memory` | files of a query without a checkpoint |
//!
//! Files: `0-3.snapshot` is the third snapshot of source 0, `0-3.changes` what changed from the second one, `0-tmp-*`
//! what is being written. Only the newest snapshot is needed, to compare the next one with; the first one also
//! until its epoch is committed, and changes as long as their epochs can be run again.

mod compare;
mod file;
mod find;
mod keep;
mod memory;
mod reader;
mod take;

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde_json::{Value, json};

use self::file::{Frame, FrameReader, damaged, failed};
use self::find::{Found, find};
use self::keep::Keep;
use self::reader::SnapshotReader;
use self::take::Taken;
use crate::source::{Keeping, METADATA_COLUMN, Wake};
use crate::storage::{Storage, make_dirs};
use crate::{ConnectorError, PlannedRange, ReadLimit, Result, Source, SourceReader};

/// How often to look whether the thread that reads is done.
const LOOK: Duration = Duration::from_millis(100);

/// Opens the table.
pub type Open = Arc<dyn Fn() -> Result<Box<dyn Source>> + Send + Sync>;

/// When a table is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// How long after it was read.
    pub interval: Duration,
    /// How old its rows may become while it cannot be read; `None`: as old as they like.
    pub max_staleness: Option<Duration>,
}

/// A snapshot that is the newest.
#[derive(Debug)]
struct Current {
    number: u64,
    /// Where it is known already.
    frames: Option<Vec<Frame>>,
}

/// A thread that reads.
struct Reading {
    found: Receiver<Result<Option<Found>>>,
    unwanted: Arc<AtomicBool>,
}

/// See the module.
pub struct SnapshotSource {
    connector: Arc<str>,
    open: Open,
    inner: Box<dyn Source>,
    refresh: Option<Refresh>,
    /// `None`: nothing is kept, the table itself is read.
    keep: Option<Arc<Keep>>,
    /// Nothing else is read beside it that could go on.
    alone: bool,
    current: Option<Current>,
    /// The numbers that the log remembers, or will.
    logged: VecDeque<u64>,
    /// The greatest of them whose epoch is known to be committed.
    committed: u64,
    /// All that was logged before this run is committed.
    settled: bool,
    frozen: bool,
    reading: Option<Reading>,
    /// What was read and is in no range yet.
    found: Option<Found>,
    /// When the rows that are in use were read.
    read_at: Instant,
    due: Instant,
    warnings: Vec<String>,
    wake: Option<Wake>,
}

impl fmt::Debug for SnapshotSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotSource")
            .field("table", &self.inner)
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

impl SnapshotSource {
    /// The table of a connector that `open` opens, read again as `refresh` says.
    pub fn new(connector: &str, open: Open, refresh: Option<Refresh>) -> Result<Self> {
        let now = Instant::now();
        Ok(Self {
            connector: Arc::from(connector),
            inner: open()?,
            open,
            refresh,
            keep: None,
            alone: false,
            current: None,
            logged: VecDeque::new(),
            committed: 0,
            settled: false,
            frozen: false,
            reading: None,
            found: None,
            read_at: now,
            due: now,
            warnings: Vec::new(),
            wake: None,
        })
    }

    fn offset(&self) -> Value {
        (self.current.as_ref()).map_or(Value::Null, |current| json!(current.number))
    }

    /// Of the first snapshot.
    fn first(&mut self, keep: &Arc<Keep>) -> Result<PlannedRange> {
        let found = find(&self.open, keep, None, &AtomicBool::new(false))?;
        let found = found.expect("nobody but this thread could have said that it is unwanted");
        let start = self.offset();
        let (number, name) = (1, keep.snapshot(1));
        keep.name(&found.file, &name)?;
        keep.sync()?;
        self.took(number, &found.taken);
        let Taken {
            frames, dropped, ..
        } = found.taken;
        let table = self.inner.description();
        let splits = reader::splits((&self.connector, &table), number, &name, &frames, dropped);
        self.current = Some(Current {
            number,
            frames: Some(frames),
        });
        Ok(PlannedRange {
            start,
            end: self.offset(),
            splits,
        })
    }

    /// Of the next one, if something changed.
    fn next(&mut self, keep: &Keep, found: Found) -> Result<Option<PlannedRange>> {
        let number = self.current.as_ref().map_or(0, |current| current.number);
        let Some((changes, file)) = found.changes else {
            self.took(number, &found.taken);
            keep.remove(&found.file);
            return Ok(None);
        };
        let start = self.offset();
        let number = number + 1;
        let name = keep.changes(number);
        keep.name(&found.file, &keep.snapshot(number))?;
        keep.name(&file, &name)?;
        keep.sync()?;
        self.took(number, &found.taken);
        self.current = Some(Current {
            number,
            frames: Some(found.taken.frames),
        });
        let table = self.inner.description();
        Ok(Some(PlannedRange {
            start,
            end: self.offset(),
            splits: reader::splits((&self.connector, &table), number, &name, &changes, 0),
        }))
    }

    /// The table was read.
    fn took(&mut self, number: u64, taken: &Taken) {
        self.read_at = ago(age(taken.read_at));
        if let Some(refresh) = &self.refresh {
            self.due = Instant::now() + refresh.interval;
        }
        if self.logged.back() != Some(&number) {
            self.logged.push_back(number);
        }
    }

    /// The table could not be read again.
    fn missed(&mut self, refresh: Refresh, error: &ConnectorError) -> Result<()> {
        self.due = Instant::now() + refresh.interval;
        let age = self.read_at.elapsed();
        let table = self.inner.description();
        if refresh.max_staleness.is_some_and(|most| age > most) {
            return Err(ConnectorError::Database {
                action: "cannot read again",
                place: table,
                reason: format!(
                    "{error}. Its rows are {} s old, which is more than 'maxStaleness' allows",
                    age.as_secs()
                ),
                remedy: "Start again when it can be read: nothing is lost",
            });
        }
        self.warnings.push(format!(
            "{table} cannot be read again, so its rows of {} s ago stay; the next try is in {} s: {error}",
            age.as_secs(),
            refresh.interval.as_secs_f64()
        ));
        Ok(())
    }

    /// Has a thread read the table again if it is time; takes what such a thread has found.
    fn look(&mut self, keep: &Arc<Keep>, refresh: Refresh) -> Result<()> {
        if let Some(reading) = &self.reading {
            let found = match reading.found.try_recv() {
                Ok(found) => found,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => Err(ended()),
            };
            self.reading = None;
            match found {
                Ok(found) => self.found = found,
                Err(error) => self.missed(refresh, &error)?,
            }
        } else if !self.frozen && self.found.is_none() && Instant::now() >= self.due {
            self.reading = Some(self.start(keep)?);
        }
        Ok(())
    }

    fn start(&self, keep: &Arc<Keep>) -> Result<Reading> {
        let (sender, found) = channel();
        let unwanted = Arc::<AtomicBool>::default();
        let (open, keep, stop) = (
            Arc::clone(&self.open),
            Arc::clone(keep),
            Arc::clone(&unwanted),
        );
        let wake = self.wake.clone();
        let before = self.before();
        std::thread::Builder::new()
            .name("tidemark-refresh".into())
            .spawn(move || {
                let found = find(&open, &keep, before, &stop);
                // Whoever has ended does not ask.
                let _ = sender.send(found);
                if let Some(wake) = wake {
                    wake();
                }
            })
            .map_err(|source| ConnectorError::Io {
                action: "cannot start a thread to read",
                path: PathBuf::from(self.inner.description()),
                source,
            })?;
        Ok(Reading { found, unwanted })
    }

    /// The snapshot that the next one is compared with.
    fn before(&self) -> Option<(u64, Option<Vec<Frame>>)> {
        let current = self.current.as_ref()?;
        Some((current.number, current.frames.clone()))
    }

    /// Ranges up to that of `committed` are committed: removes the snapshots that no epoch needs any more. One that
    /// is not in the log yet may never be, so the one before it stays until it is.
    fn settle(&mut self, keep: &Keep, committed: u64) {
        self.committed = self.committed.max(committed);
        let last = if self.refresh.is_some() {
            committed.saturating_sub(1)
        } else {
            committed
        };
        for number in self.logged.iter().filter(|number| **number <= last) {
            keep.remove(&keep.dir.join(keep.snapshot(*number)));
        }
    }
}

fn ended() -> ConnectorError {
    ConnectorError::Inconsistent("the thread that reads it ended before its time".into())
}

/// How long ago a moment was, microseconds since 1970 UTC.
fn age(at: i64) -> Duration {
    let age = chrono::Utc::now().timestamp_micros().saturating_sub(at);
    Duration::from_micros(age.max(0).unsigned_abs())
}

fn ago(age: Duration) -> Instant {
    let now = Instant::now();
    now.checked_sub(age).unwrap_or(now)
}

impl Drop for SnapshotSource {
    fn drop(&mut self) {
        if let Some(reading) = &self.reading {
            reading.unwanted.store(true, Ordering::Relaxed);
        }
    }
}

impl Source for SnapshotSource {
    fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }

    fn metadata_schema(&self) -> SchemaRef {
        self.inner.metadata_schema()
    }

    fn description(&self) -> String {
        self.inner.description()
    }

    fn begin(&mut self, query_name: &str, query_id: &str) {
        self.inner.begin(query_name, query_id);
    }

    fn keep(&mut self, keeping: &Keeping) -> Result<()> {
        if keeping.place.is_none() && self.refresh.is_none() {
            return Ok(());
        }
        let (dir, storage): (PathBuf, Arc<dyn Storage>) = match &keeping.place {
            Some((dir, storage)) => (dir.clone(), Arc::clone(storage)),
            None if keeping.processes > 1 => {
                return Err(ConnectorError::OptionRefused {
                    connector: self.connector.to_string(),
                    key: "refreshInterval".into(),
                    instead: "several processes read the table from the query's checkpoint: write its 'checkpointLocation'".into(),
                });
            }
            None => (PathBuf::new(), Arc::new(memory::MemoryFiles::default())),
        };
        let table = self.inner.schema();
        let metadata = self.inner.metadata_schema();
        let field = |column: &usize| match table.fields().get(*column) {
            Some(field) => field.as_ref().clone().with_nullable(true),
            None => Field::new(
                METADATA_COLUMN,
                DataType::Struct(metadata.fields().clone()),
                true,
            ),
        };
        let fields: Vec<Field> = keeping.columns.iter().map(field).collect();
        self.alone = keeping.alone;
        self.keep = Some(Arc::new(Keep {
            dir,
            prefix: keeping.source.to_string(),
            storage,
            columns: keeping.columns.clone(),
            schema: Arc::new(Schema::new(fields)),
        }));
        Ok(())
    }

    fn restore(&mut self, log: &[PlannedRange]) -> Result<()> {
        let Some(keep) = self.keep.clone() else {
            return self.inner.restore(log);
        };
        let made = make_dirs(&*keep.storage, &keep.dir);
        made.map_err(|source| failed("cannot create", &keep.dir, source))?;
        self.logged = log.iter().filter_map(|range| range.end.as_u64()).collect();
        let mut needed: BTreeSet<String> = self
            .logged
            .iter()
            .map(|number| keep.changes(*number))
            .collect();
        needed.extend(
            self.logged
                .front()
                .filter(|first| **first == 1)
                .map(|_| keep.snapshot(1)),
        );
        if let Some(number) = self.logged.back() {
            needed.insert(keep.snapshot(*number));
        }
        keep.clean(&needed)?;
        if let Some(number) = self.logged.back().copied() {
            self.current = Some(Current {
                number,
                frames: None,
            });
            if let Some(refresh) = &self.refresh {
                let path = keep.dir.join(keep.snapshot(number));
                let there = keep.storage.exists(&path);
                if !there.map_err(|source| failed("cannot read", &path, source))? {
                    return Err(damaged(&path, "it is missing"));
                }
                let file = FrameReader::open(&*keep.storage, &path)?;
                let age = age(file.read_at);
                self.read_at = ago(age);
                self.due = Instant::now() + refresh.interval.saturating_sub(age);
            }
        }
        Ok(())
    }

    fn latest_offset(&mut self) -> Result<Option<Value>> {
        match &self.keep {
            Some(_) => Ok(Some(self.offset())),
            None => self.inner.latest_offset(),
        }
    }

    fn plan(&mut self, limit: ReadLimit) -> Result<Option<PlannedRange>> {
        let Some(keep) = self.keep.clone() else {
            return self.inner.plan(limit);
        };
        if !std::mem::replace(&mut self.settled, true) {
            let logged = self.logged.back().copied();
            self.settle(&keep, logged.unwrap_or_default());
        }
        if self.current.is_none() {
            return self.first(&keep).map(Some);
        }
        let Some(refresh) = self.refresh else {
            return Ok(None);
        };
        self.look(&keep, refresh)?;
        match self.found.take() {
            Some(found) => self.next(&keep, found),
            None => Ok(None),
        }
    }

    fn wake(&mut self, wake: Wake) {
        self.wake = Some(wake);
    }

    fn committed(&mut self, range: &PlannedRange) -> Result<()> {
        match (self.keep.clone(), range.end.as_u64()) {
            (Some(keep), Some(number)) => self.settle(&keep, number),
            (Some(_), None) => {}
            (None, _) => self.inner.committed(range)?,
        }
        Ok(())
    }

    fn freeze(&mut self) -> Result<()> {
        let (Some(keep), Some(refresh)) = (self.keep.clone(), self.refresh) else {
            return self.inner.freeze();
        };
        // What a bounded run joins with is the table as it is when the run begins.
        if !self.frozen && self.current.is_some() && Instant::now() >= self.due {
            match find(&self.open, &keep, self.before(), &AtomicBool::new(false)) {
                Ok(found) => self.found = found,
                Err(error) => self.missed(refresh, &error)?,
            }
        }
        self.frozen = true;
        Ok(())
    }

    fn exhausted(&self) -> bool {
        if self.keep.is_none() {
            return self.inner.exhausted();
        }
        let goes_on = self.alone && !self.frozen && self.refresh.is_some();
        self.current.is_some() && self.found.is_none() && !goes_on
    }

    fn poll_interval(&self) -> Duration {
        LOOK
    }

    fn forgettable(&self) -> usize {
        match &self.keep {
            Some(_) => (self.logged.iter())
                .filter(|number| **number < self.committed)
                .count(),
            None => self.inner.forgettable(),
        }
    }

    fn forgotten(&mut self, ranges: usize) {
        let Some(keep) = &self.keep else {
            return self.inner.forgotten(ranges);
        };
        for number in self.logged.drain(..ranges.min(self.logged.len())) {
            keep.remove(&keep.dir.join(keep.changes(number)));
        }
    }

    fn size(&self) -> Option<u64> {
        self.inner.size()
    }

    fn is_kept(&self) -> bool {
        self.keep.is_some()
    }

    fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    fn reader(&self) -> Arc<dyn SourceReader> {
        Arc::new(SnapshotReader {
            inner: self.inner.reader(),
            keep: self.keep.clone(),
        })
    }
}

#[cfg(test)]
mod tests;
