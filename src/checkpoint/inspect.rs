//! What a checkpoint holds, read only: for `tidemark checkpoint DIR`.
//!
//! Works beside a running query, and on a directory that may not be written to. State files that
//! are damaged or missing, and logs that do not fit together, are part of the answer; only a
//! database that cannot be read is an error.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemark_connectors::storage::Disk;
use uuid::Uuid;

use super::database::Database;
use super::directory::{Scales, orphans};
use super::error::Result;
use super::lock::{Holder, Lock};
use super::log::CommitEntry;
use super::{
    Checkpoint, Decision, FORMAT_VERSION, Fingerprint, Logs, StateDir, StateFile, StateFileReader,
    decide,
};

/// What a checkpoint holds.
#[derive(Debug)]
pub struct Inspection {
    /// The directory.
    pub dir: PathBuf,
    /// The query's name.
    pub name: String,
    /// The query's id.
    pub query_id: Uuid,
    /// The version of its format.
    pub format_version: u32,
    /// What the query is made of.
    pub fingerprint: Fingerprint,
    /// What the last start said of the query, as JSON; none: a version before this one was that start.
    pub outline: Option<String>,
    /// Who runs on it.
    pub holder: Holder,
    /// The offset log, the commit log and the manifest.
    pub logs: Logs,
    /// How the query would start, if its sink holds what is committed.
    pub decision: Decision,
    /// Every file of the manifest, and whether it is whole.
    pub files: Vec<FileReport>,
    /// Files that belong to no committed epoch; the next start removes them.
    pub orphans: Vec<String>,
    /// What is wrong with the database itself.
    pub problems: Vec<String>,
    /// How many bytes it takes.
    pub bytes: u64,
}

/// A file of the manifest.
#[derive(Clone, Debug)]
pub struct FileReport {
    /// What the manifest says.
    pub file: StateFile,
    /// Operator, trace and bytes of each section.
    pub sections: Vec<(u32, u32, u64)>,
    /// The newest commit needs it.
    pub current: bool,
    /// What is wrong with it.
    pub problem: Option<String>,
}

impl Checkpoint {
    /// Reads everything in the checkpoint in `dir` and verifies every checksum. Writes nothing.
    pub fn inspect(dir: impl AsRef<Path>) -> Result<Inspection> {
        let dir = dir.as_ref();
        let holder = Lock::holder(dir);
        let in_use = holder != Holder::Nobody;
        let database = Database::read_only(dir, !in_use)?;
        let meta = database.meta()?;
        let state = StateDir::new(dir, meta.query, Arc::new(Disk));
        let mut logs = Logs {
            groups: database.groups()?,
            commits: database.commits()?,
            manifest: database.manifest()?,
            present: state.list()?.into_iter().collect(),
        };
        let current = logs.last_commit().map_or_else(Vec::new, |commit| {
            logs.manifest.files_for(commit.last, commit.workers)
        });
        let mut files: Vec<FileReport> = logs
            .manifest
            .files()
            .iter()
            .map(|file| {
                let mut report = FileReport {
                    file: file.clone(),
                    sections: Vec::new(),
                    current: current.iter().any(|known| known.name == file.name),
                    problem: None,
                };
                if let Err(error) = read(&state, &mut report) {
                    report.problem = Some(error.to_string());
                }
                report
            })
            .collect();
        files.sort_by(|a, b| {
            let key = |r: &FileReport| (r.file.workers, r.file.worker, r.file.last, r.file.first);
            key(a).cmp(&key(b))
        });
        if in_use {
            // The query may have forgotten files while we read: those are not missing.
            logs.manifest = database.manifest()?;
            files.retain(|report| {
                report.problem.is_none()
                    || logs
                        .manifest
                        .files()
                        .iter()
                        .any(|file| file.name == report.file.name)
            });
            logs.groups = database.groups()?;
            logs.commits = database.commits()?;
            logs.present = state.list()?.into_iter().collect();
        }
        let present: Vec<(String, u64)> = logs
            .present
            .iter()
            .map(|(name, bytes)| (name.clone(), *bytes))
            .collect();
        Ok(Inspection {
            dir: dir.to_path_buf(),
            name: meta.name,
            query_id: meta.query,
            format_version: FORMAT_VERSION,
            fingerprint: meta.fingerprint,
            outline: database.outline()?,
            holder,
            decision: decide(&logs, None),
            files,
            orphans: orphans(&present, &logs.manifest),
            problems: database.integrity()?,
            bytes: Scales {
                dir: dir.to_path_buf(),
                state,
            }
            .weigh()?,
            logs,
        })
    }
}

fn read(state: &StateDir, report: &mut FileReport) -> Result<()> {
    let reader = StateFileReader::open(state, &report.file)?;
    report.sections = reader
        .sections()
        .iter()
        .map(|s| (s.operator, s.trace, s.length))
        .collect();
    reader.verify()
}

impl Inspection {
    /// Nothing is wrong with it, and a query could start on it.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
            && self.files.iter().all(|report| report.problem.is_none())
            && !matches!(self.decision, Decision::Refuse(_))
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "checkpoint {}", self.dir.display())?;
        writeln!(f, "  query     {} ({})", self.name, self.query_id)?;
        writeln!(
            f,
            "  format    version {}, {} bytes on disk",
            self.format_version, self.bytes
        )?;
        match self.holder {
            Holder::Process(pid) => writeln!(f, "  in use    by the process with pid {pid}")?,
            Holder::Unknown => writeln!(f, "  in use    by another process")?,
            Holder::Nobody => writeln!(f, "  in use    by nobody")?,
        }
        for (part, value) in self.fingerprint.parts() {
            writeln!(f, "  made of   {part}: {value}")?;
        }
        self.epochs(f)?;
        for report in &self.files {
            let StateFile {
                name,
                bytes,
                worker,
                workers,
                ..
            } = &report.file;
            let current = if report.current {
                ""
            } else {
                " (only for older epochs)"
            };
            write!(
                f,
                "  state     {name}: worker {worker} of {workers}, {bytes} bytes"
            )?;
            writeln!(
                f,
                ", {}{current}",
                counted(report.sections.len(), "section")
            )?;
            if let Some(problem) = &report.problem {
                writeln!(f, "  PROBLEM   {problem}")?;
            }
        }
        for name in &self.orphans {
            writeln!(
                f,
                "  orphan    {name}: of no committed epoch; the next start removes it"
            )?;
        }
        for problem in &self.problems {
            writeln!(f, "  PROBLEM   tidemark.sqlite: {problem}")?;
        }
        let newest = self.logs.last_commit().map(|commit| commit.last);
        if let Some(epoch) = self.whole()
            && Some(epoch) < newest
        {
            writeln!(
                f,
                "  remedy    the state of epoch {epoch} is whole: tidemark checkpoint {} --rollback {epoch}",
                self.dir.display()
            )?;
        }
        match &self.decision {
            Decision::Ready { next, .. } => writeln!(f, "  restart   goes on with epoch {next}"),
            Decision::ReplayThenCommit { groups, next, .. } => {
                let first = groups.first().map_or(*next, |replay| replay.group.first());
                let last = groups.last().map_or(*next, |replay| replay.group.last());
                if first == last {
                    writeln!(f, "  restart   replays epoch {first}")
                } else {
                    writeln!(f, "  restart   replays the epochs {first} to {last}")
                }
            }
            Decision::Refuse(reason) => writeln!(f, "  PROBLEM   cannot restart: {reason}"),
        }
    }
}

impl Inspection {
    fn epochs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.logs.last_commit() {
            Some(commit) => {
                writeln!(
                    f,
                    "  committed up to epoch {}{}",
                    commit.last,
                    restorable(&self.logs.commits)
                )?;
                writeln!(f, "  watermark {}", Watermark(commit.watermark))?;
                for operator in &commit.operators {
                    writeln!(
                        f,
                        "  operator  {} {}: {} rows, {} bytes in memory",
                        operator.operator, operator.name, operator.rows, operator.bytes
                    )?;
                }
            }
            None => writeln!(f, "  committed nothing yet")?,
        }
        // Of what is done, the newest epoch; of what is not, all.
        let open = self.logs.uncommitted();
        let done = self.logs.groups.len() - open.len();
        let shown = &self.logs.groups[done.saturating_sub(1)..];
        for entry in shown.iter().flat_map(|group| &group.entries) {
            let state = match self.logs.last_commit() {
                Some(commit) if entry.epoch <= commit.last => "committed",
                _ => "not committed",
            };
            writeln!(
                f,
                "  epoch {}   {state}, watermark {}{}",
                entry.epoch,
                Watermark(entry.watermark),
                if entry.no_data { ", without data" } else { "" }
            )?;
            for (source, range) in entry.sources.iter().enumerate() {
                if let Some(range) = &range.range {
                    writeln!(f, "    source {source}: {} to {}", range.start, range.end)?;
                }
            }
        }
        Ok(())
    }
}

/// From which epoch on a restart could begin.
fn restorable(commits: &[CommitEntry]) -> String {
    match (commits.first(), commits.last()) {
        (Some(first), Some(last)) if first.last < last.last => {
            format!(
                "; the epochs {} to {} can be restored",
                first.last, last.last
            )
        }
        _ => String::new(),
    }
}

fn counted(number: usize, what: &str) -> String {
    if number == 1 {
        format!("1 {what}")
    } else {
        format!("{number} {what}s")
    }
}

/// A watermark for people.
pub(super) struct Watermark(pub(super) i64);

impl fmt::Display for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == crate::time::NO_WATERMARK {
            return f.write_str("none");
        }
        match chrono::DateTime::from_timestamp_micros(self.0) {
            Some(time) => write!(f, "{}", time.format("%Y-%m-%dT%H:%M:%S%.3fZ")),
            None => write!(f, "{} us", self.0),
        }
    }
}
