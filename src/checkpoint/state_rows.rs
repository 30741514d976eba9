//! The rows that an operator keeps, as of the newest commit: for `tidemark checkpoint DIR --state N`.
//!
//! A checkpoint does not hold the types of keys and values (the query does, and checks that it is
//! the same by its fingerprint), so both are shown as the bytes that they are, with the text in them.

use std::fmt::{self, Write};
use std::sync::Arc;

use tidemark_connectors::storage::Disk;

use super::error::{CheckpointError, Result};
use super::inspect::{Inspection, Watermark};
use super::{StateDir, StateFiles};
use crate::state::{Sections, TraceKind};
use crate::time::{EventTime, NEVER};

/// A row of an operator's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRow {
    /// The worker that keeps it.
    pub worker: usize,
    /// The trace that holds it.
    pub trace: u32,
    /// What the trace keeps.
    pub kind: TraceKind,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// How often it is there.
    pub count: i64,
    /// When it may be forgotten; the greatest time: never.
    pub expiry: EventTime,
}

/// The rows of an operator.
#[derive(Clone, Debug)]
pub struct StateRows {
    /// The operator.
    pub operator: u32,
    /// The first rows, by worker, trace and key.
    pub rows: Vec<StateRow>,
    /// How many there are in all.
    pub total: usize,
}

impl Inspection {
    /// The first `limit` rows that `operator` keeps as of the newest commit.
    pub fn state(&self, operator: u32, limit: usize) -> Result<StateRows> {
        let mut found = StateRows {
            operator,
            rows: Vec::new(),
            total: 0,
        };
        let dir = StateDir::new(&self.dir, self.query_id, Arc::new(Disk));
        let mut known = false;
        if let Some(commit) = self.logs.last_commit() {
            for worker in 0..commit.workers {
                let chain = self
                    .logs
                    .manifest
                    .chain(worker, commit.workers, commit.last);
                let files = StateFiles::open(&dir, chain)?;
                for (of, trace) in files.traces() {
                    if of != operator {
                        continue;
                    }
                    known = true;
                    // As restoring does: what has expired is not read any more.
                    let restored = Sections::open(files.sections(operator, trace)?)
                        .and_then(|all| all.restore(commit.previous_watermark, &|_| true, None));
                    let (restored, _) = restored.map_err(|error| CheckpointError::DamagedFile {
                        path: dir.path().to_path_buf(),
                        reason: error.to_string(),
                    })?;
                    for row in restored.rows() {
                        found.total += 1;
                        if found.rows.len() < limit {
                            found.rows.push(StateRow {
                                worker,
                                trace,
                                kind: restored.kind(),
                                key: row.key.to_vec(),
                                value: row.val.to_vec(),
                                count: row.diff,
                                expiry: row.expiry,
                            });
                        }
                    }
                }
            }
        }
        if known {
            return Ok(found);
        }
        Err(CheckpointError::NoState {
            dir: self.dir.clone(),
            operator,
            known: self.with_state(),
        })
    }

    fn with_state(&self) -> String {
        let mut operators: Vec<u32> = (self.files.iter())
            .flat_map(|report| report.sections.iter().map(|section| section.0))
            .collect();
        operators.sort_unstable();
        operators.dedup();
        if operators.is_empty() {
            return "no operator of its query keeps any".into();
        }
        let names: Vec<String> = operators.iter().map(u32::to_string).collect();
        format!("it holds that of operator {}", names.join(", "))
    }
}

impl fmt::Display for StateRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "state of operator {}: {} rows",
            self.operator, self.total
        )?;
        if self.rows.len() < self.total {
            write!(f, ", of which the first {}", self.rows.len())?;
        }
        writeln!(f)?;
        let mut place = None;
        for row in &self.rows {
            if place != Some((row.worker, row.trace)) {
                place = Some((row.worker, row.trace));
                writeln!(
                    f,
                    "  worker {}, trace {}: {}",
                    row.worker,
                    row.trace,
                    row.kind.name()
                )?;
            }
            write!(f, "    {} -> {}", shown(&row.key), shown(&row.value))?;
            if row.count != 1 {
                write!(f, ", {} times", row.count)?;
            }
            if row.expiry != NEVER {
                write!(f, ", until {}", Watermark(row.expiry))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Bytes in hexadecimal, with the text in them where there is any.
fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 3 + 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    let letters = bytes.iter().filter(|byte| byte.is_ascii_alphanumeric());
    if letters.count() == 0 {
        return if text.is_empty() { "-".into() } else { text };
    }
    let seen = bytes.iter().map(|byte| match byte {
        b' '..=b'~' => char::from(*byte),
        _ => '.',
    });
    let seen: String = seen.collect();
    let _ = write!(text, " '{seen}'");
    text
}
