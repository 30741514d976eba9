//! The `file` source: the files of a directory, each read once, in the order of their times.
//!
//! | module | what it does |
//! |---|---|
//! | `options` | `WITH (...)`, checked |
//! | `listing` | which files there are |
//! | `partitions` | columns in the names of directories |
//! | `schema` | declared or inferred columns |
//! | `lines` | ranges of a file, line by line, uncompressed |
//! | `parquet` | row groups |
//! | `reader` | splits to batches |
//! | `clean` | archive or delete what is committed |
//!
//! An offset is `{"logOffset": n}`: n + 1 ranges were planned. The files of a range stand in its
//! splits (path, size and time), so the offset log is all that a restart needs to read none twice.
//! All files are one partition, so the watermark is Spark's.

mod clean;
mod lines;
mod listing;
mod locate;
mod options;
mod parquet;
mod partitions;
mod reader;
mod schema;

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::listing::Found;
use self::options::{Clean, Compression, FileOptions, Format};
use self::reader::FileReader;
use crate::{
    Backlog, ConnectorError, Options, PlannedRange, ReadLimit, Result, Source, SourceReader, Split,
};

/// The one partition of a file source.
const PARTITION: &str = "file-0";

/// How long the ranges of a file that can be cut are, at least and at most: a sixty-fourth of it, so that every
/// worker finds one, and the log stays short.
const TEXT_RANGE: (u64, u64) = (4 << 20, 64 << 20);
const PARQUET_RANGE: u64 = 64 << 20;

/// The least time between two listings.
const POLL: Duration = Duration::from_millis(100);

/// What a split's range holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileSplit {
    path: String,
    size: u64,
    /// Milliseconds since 1970.
    mtime: i64,
    start: u64,
    length: u64,
}

impl FileSplit {
    fn of(range: &Value) -> Result<Self> {
        Self::deserialize(range).map_err(|why| {
            ConnectorError::Inconsistent(format!(
                "the offset log holds {range} where a file was expected ({why}): it belongs to another source. Use another checkpointLocation"
            ))
        })
    }
}

/// A watched directory, file or glob.
#[derive(Debug)]
pub struct FileSource {
    options: Arc<FileOptions>,
    reader: Arc<FileReader>,
    /// The files that were planned, by key, with their times.
    seen: HashMap<String, i64>,
    /// The time of the newest file that was planned.
    newest: i64,
    /// Older files are taken for read.
    horizon: i64,
    /// Of every range in the log, the time of its newest file.
    logged: VecDeque<i64>,
    /// The last `logOffset`, -1 before the first.
    offset: i64,
    /// Listed and not yet planned, the next one first.
    unread: VecDeque<Found>,
    frozen: bool,
    listing_took: Duration,
    /// Files that `cleanSource` could not clean.
    left_behind: u64,
}

impl FileSource {
    /// Opens the source; `schema` holds the declared columns, if any.
    pub fn open(options: &Options, schema: Option<SchemaRef>) -> Result<Self> {
        let checked = FileOptions::new(options)?;
        listing::check(&checked.path)?;
        let root = listing::fixed_root(&checked.path);
        if !root.exists() {
            return Err(options.bad(
                "path",
                format!(
                    "a file, a directory or a glob that is there: {} does not exist. Correct the path, or create the directory first",
                    root.display()
                ),
            ));
        }
        let schema = schema::resolve(schema, &checked)?;
        let options = Arc::new(checked);
        Ok(Self {
            reader: Arc::new(FileReader {
                schema,
                options: Arc::clone(&options),
                root,
            }),
            options,
            seen: HashMap::new(),
            newest: i64::MIN,
            horizon: i64::MIN,
            logged: VecDeque::new(),
            offset: -1,
            unread: VecDeque::new(),
            frozen: false,
            listing_took: Duration::ZERO,
            left_behind: 0,
        })
    }

    /// How many files `cleanSource` had to leave where they are: changed since, or not movable.
    pub fn left_behind(&self) -> u64 {
        self.left_behind
    }

    fn key<'a>(&self, path: &'a str) -> &'a str {
        if self.options.file_name_only {
            path.rsplit('/').next().unwrap_or(path)
        } else {
            path
        }
    }

    /// Takes a file for planned.
    fn remember(&mut self, path: &str, mtime: i64) {
        let key = self.key(path).to_owned();
        self.seen.insert(key, mtime);
        self.newest = self.newest.max(mtime);
    }

    /// Forgets files that are too old to be taken for new ones.
    fn purge(&mut self) {
        let Ok(age) = i64::try_from(self.options.max_age.as_millis()) else {
            return;
        };
        if self.newest > i64::MIN {
            self.horizon = self.horizon.max(self.newest.saturating_sub(age));
            let horizon = self.horizon;
            self.seen.retain(|_, mtime| *mtime >= horizon);
        }
    }

    /// Lists the new files, unless some are still unread or the source is frozen.
    fn refresh(&mut self) -> Result<()> {
        let newest_first = self.options.latest_first;
        if self.frozen || (!self.unread.is_empty() && !newest_first) {
            return Ok(());
        }
        let began = Instant::now();
        let mut found = listing::list(&self.options)?;
        found.retain(|file| {
            file.mtime >= self.horizon && !self.seen.contains_key(self.key(&file.path))
        });
        found.sort_by(|one, other| {
            let order = (one.mtime, &one.path).cmp(&(other.mtime, &other.path));
            if newest_first { order.reverse() } else { order }
        });
        let mut keys = HashSet::new();
        found.retain(|file| keys.insert(self.key(&file.path).to_owned()));
        self.unread = found.into();
        self.listing_took = began.elapsed();
        Ok(())
    }

    /// The ranges of a file.
    fn cut(&self, file: &Found) -> Result<Vec<Split>> {
        let path = Path::new(&file.path);
        let format = &self.options.format;
        let range = match format {
            Format::Parquet => PARQUET_RANGE,
            _ if format.multi_line() || self.options.compression_of(path)? != Compression::None => {
                u64::MAX
            }
            _ => (file.size / 64).clamp(TEXT_RANGE.0, TEXT_RANGE.1),
        };
        let mut splits = Vec::new();
        let mut start = 0;
        while start < file.size {
            let left = file.size - start;
            // No crumbs at the end.
            let length = if left < range.saturating_add(range / 2) {
                left
            } else {
                range
            };
            let split = FileSplit {
                path: file.path.clone(),
                size: file.size,
                mtime: file.mtime,
                start,
                length,
            };
            let range = serde_json::to_value(&split)
                .map_err(|why| ConnectorError::Inconsistent(format!("{}: {why}", file.path)))?;
            splits.push(Split {
                partition: Arc::from(PARTITION),
                range,
                bytes: length,
            });
            start += length;
        }
        Ok(splits)
    }

    fn offset_json(offset: i64) -> Value {
        if offset < 0 {
            Value::Null
        } else {
            json!({ "logOffset": offset })
        }
    }
}

impl Source for FileSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.reader.schema)
    }

    fn metadata_schema(&self) -> SchemaRef {
        schema::metadata()
    }

    fn description(&self) -> String {
        format!("FileSource[{}]", self.options.written)
    }

    fn restore(&mut self, log: &[PlannedRange]) -> Result<()> {
        for range in log {
            let mut newest = i64::MIN;
            for split in &range.splits {
                let file = FileSplit::of(&split.range)?;
                newest = newest.max(file.mtime);
                self.remember(&file.path, file.mtime);
            }
            self.logged.push_back(newest);
            if let Some(offset) = range.end.get("logOffset").and_then(Value::as_i64) {
                self.offset = offset;
            }
            self.purge();
        }
        Ok(())
    }

    fn latest_offset(&mut self) -> Result<Option<Value>> {
        self.refresh()?;
        let more = i64::from(!self.unread.is_empty());
        Ok(Some(Self::offset_json(self.offset + more)))
    }

    fn backlog(&self) -> Option<Backlog> {
        Some(Backlog {
            files: self.unread.len() as u64,
            bytes: self.unread.iter().map(|file| file.size).sum(),
        })
    }

    fn plan(&mut self, limit: ReadLimit) -> Result<Option<PlannedRange>> {
        self.refresh()?;
        if self.unread.is_empty() {
            return Ok(None);
        }
        let most_files = self.options.max_files.unwrap_or(u64::MAX);
        let most_bytes = [self.options.max_bytes, limit.bytes]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(u64::MAX);
        let (mut files, mut bytes, mut newest) = (0, 0_u64, i64::MIN);
        let mut splits = Vec::new();
        while let Some(listed) = self.unread.front() {
            if files >= most_files {
                break;
            }
            // It may have been listed long ago, or while it was still being written.
            let Some(file) = listing::look_again(listed)? else {
                self.unread.pop_front();
                continue;
            };
            let after = bytes.saturating_add(file.size);
            // One file at least, or nothing would ever be read.
            if files > 0 && after > most_bytes {
                break;
            }
            splits.extend(self.cut(&file)?);
            self.unread.pop_front();
            files += 1;
            bytes = after;
            newest = newest.max(file.mtime);
            self.remember(&file.path, file.mtime);
        }
        if splits.is_empty() {
            return Ok(None);
        }
        self.purge();
        self.logged.push_back(newest);
        let start = Self::offset_json(self.offset);
        self.offset += 1;
        Ok(Some(PlannedRange {
            start,
            end: Self::offset_json(self.offset),
            splits,
        }))
    }

    fn committed(&mut self, range: &PlannedRange) -> Result<()> {
        if self.options.clean == Clean::Off {
            return Ok(());
        }
        let mut done = HashSet::new();
        for split in &range.splits {
            let file = FileSplit::of(&split.range)?;
            if done.insert(file.path.clone()) && !clean::clean(&file, &self.options.clean) {
                self.left_behind += 1;
            }
        }
        Ok(())
    }

    fn freeze(&mut self) -> Result<()> {
        // A listing of this very moment, not one from before.
        self.unread.clear();
        self.refresh()?;
        self.frozen = true;
        Ok(())
    }

    fn exhausted(&self) -> bool {
        self.frozen && self.unread.is_empty()
    }

    fn poll_interval(&self) -> Duration {
        // A directory that takes long to list is listed less often.
        POLL.max(self.listing_took * 10)
    }

    fn forgettable(&self) -> usize {
        // The last range holds the offset, and the newest file keeps the horizon where it is.
        let keep_from = self
            .logged
            .iter()
            .position(|newest| *newest >= self.horizon);
        keep_from
            .unwrap_or(self.logged.len())
            .min(self.logged.len().saturating_sub(1))
    }

    fn forgotten(&mut self, ranges: usize) {
        self.logged.drain(..ranges.min(self.logged.len()));
    }

    fn size(&self) -> Option<u64> {
        let files = listing::list(&self.options).ok()?;
        Some(files.iter().map(|file| file.size).sum())
    }

    fn reader(&self) -> Arc<dyn SourceReader> {
        Arc::clone(&self.reader) as Arc<dyn SourceReader>
    }
}

#[cfg(test)]
mod tests;
