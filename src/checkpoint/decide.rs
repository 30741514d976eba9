//! Recovery as a pure function of what the logs and the sink say.
//!
//! | offset log | commit log | sink | decision |
//! |---|---|---|---|
//! | - | - | - | ready for epoch 0 |
//! | ..=e | ..=e | e, or cannot say | ready for e+1, with the state of e |
//! | ..=e | ..=e-1 | e-1, or cannot say | replay e: same ranges, same watermark |
//! | ..=e | ..=e-1 | e | replay e for its state; the sink skips it |
//! | ..=e | | beyond e | refuse: the sink has rows that this checkpoint does not know |
//! | | ..=e | before e, and rows came since | refuse: the sink has lost rows |
//! | ..=e | ..=e | inside a group | refuse: the sink holds half of what was committed at once |
//! | gap | gap | | refuse: the logs do not fit together |
//! | | ..=e | | refuse where a file of the state of e is missing |

use std::fmt;

use super::{CommitEntry, Group, Logs, MissingFile};
use crate::time::{Epoch, NO_WATERMARK};

/// How a query starts.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nothing is half done.
    Ready {
        /// The epoch to plan next.
        next: Epoch,
        /// Whose state to restore first; `None`: start from nothing.
        resume: Option<CommitEntry>,
    },
    /// Groups were logged and not committed: run each again exactly as it was logged, then
    /// commit it.
    ReplayThenCommit {
        /// The groups to run, in order.
        groups: Vec<Replay>,
        /// Whose state to restore first; `None`: start from nothing.
        resume: Option<CommitEntry>,
        /// The epoch to plan after them.
        next: Epoch,
    },
    /// The query cannot start on this checkpoint.
    Refuse(Refusal),
}

/// A group that is run again.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    /// The epochs as they were logged.
    pub group: Group,
    /// The sink holds them already: compute the state, write nothing, commit.
    pub sink_holds: bool,
}

/// Why a query cannot start on a checkpoint, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The sink knows epochs that the offset log does not.
    #[error(
        "the sink already holds epoch {sink} of this query, but its checkpoint {}; rows would be written twice: use the checkpoint that belongs to this sink (this one may be an old copy), or write to a new target with a new 'checkpointLocation'",
        Logged(*.logged)
    )]
    SinkAhead {
        /// The newest epoch in the sink.
        sink: Epoch,
        /// The newest epoch in the offset log.
        logged: Option<Epoch>,
    },
    /// The sink has forgotten epochs that were committed with rows in them.
    #[error(
        "the checkpoint has epoch {committed} committed, but the sink holds only epochs up to {sink}: the {rows} rows of the epochs between are gone from it; restore the sink's target, or start over with a new target and a new 'checkpointLocation'"
    )]
    SinkBehind {
        /// The newest epoch in the sink.
        sink: Epoch,
        /// The newest epoch in the commit log.
        committed: Epoch,
        /// How many rows it was given since.
        rows: u64,
    },
    /// The sink stopped in the middle of epochs that are committed together.
    #[error(
        "the sink's newest epoch is {sink}, inside the epochs {first} to {last} that are committed together; the sink's target is not the one that this checkpoint was written with: use that one, or start over with a new target and a new 'checkpointLocation'"
    )]
    SinkInsideGroup {
        /// The newest epoch in the sink.
        sink: Epoch,
        /// The group's first epoch.
        first: Epoch,
        /// The group's last epoch.
        last: Epoch,
    },
    /// Files of the state are not there.
    #[error(
        "the state of epoch {epoch} cannot be restored: {}; restore the directory 'state' of the checkpoint from a copy, go back to an epoch that does not need them (`tidemark checkpoint DIR` names it), or start over with a new 'checkpointLocation'",
        List(.files)
    )]
    MissingState {
        /// The newest committed epoch.
        epoch: Epoch,
        /// What is missing.
        files: Vec<MissingFile>,
    },
    /// The logs contradict themselves.
    #[error(
        "the logs of the checkpoint do not fit together: {reason}; restore the checkpoint from a copy, or start over with a new 'checkpointLocation'"
    )]
    BrokenLog {
        /// Where.
        reason: String,
    },
}

/// Decides how a query starts. `sink` is the newest epoch that the sink holds of this query, or
/// `None` where it holds none or cannot say.
pub fn decide(logs: &Logs, sink: Option<Epoch>) -> Decision {
    match check(logs, sink) {
        Ok(decision) => decision,
        Err(refusal) => Decision::Refuse(refusal),
    }
}

fn check(logs: &Logs, sink: Option<Epoch>) -> Result<Decision, Refusal> {
    logs_fit_together(logs)?;
    let resume = logs.last_commit();
    if let Some(commit) = resume {
        let files = logs
            .manifest
            .missing(commit.last, commit.workers, &logs.present);
        if !files.is_empty() {
            return Err(Refusal::MissingState {
                epoch: commit.last,
                files,
            });
        }
    }
    let committed = resume.map(|commit| commit.last);
    let known = logs.last_logged().max(committed);
    if let Some(sink) = sink {
        if known.is_none_or(|known| sink > known) {
            return Err(Refusal::SinkAhead {
                sink,
                logged: known,
            });
        }
        if let Some(committed) = committed.filter(|committed| sink < *committed) {
            let rows = logs
                .commits
                .iter()
                .filter(|c| c.last > sink)
                .map(|c| c.output_rows)
                .sum();
            // Epochs without rows need not leave a trace in a target.
            if rows > 0 {
                return Err(Refusal::SinkBehind {
                    sink,
                    committed,
                    rows,
                });
            }
        }
    }
    let next = known.map_or(0, |epoch| epoch + 1);
    let mut groups = Vec::new();
    for group in logs.uncommitted() {
        let (first, last) = (group.first(), group.last());
        if let Some(sink) = sink.filter(|sink| (first..last).contains(sink)) {
            return Err(Refusal::SinkInsideGroup { sink, first, last });
        }
        groups.push(Replay {
            group: group.clone(),
            sink_holds: sink.is_some_and(|sink| sink >= last),
        });
    }
    let resume = resume.cloned();
    Ok(if groups.is_empty() {
        Decision::Ready { next, resume }
    } else {
        Decision::ReplayThenCommit {
            groups,
            resume,
            next,
        }
    })
}

fn logs_fit_together(logs: &Logs) -> Result<(), Refusal> {
    let broken = |reason: String| Err(Refusal::BrokenLog { reason });
    let mut before: Option<&CommitEntry> = None;
    for commit in &logs.commits {
        if commit.first > commit.last {
            return broken(format!(
                "a commit of epochs {} to {}",
                commit.first, commit.last
            ));
        }
        if let Some(before) = before.filter(|before| before.last + 1 != commit.first) {
            return broken(format!(
                "after the commit of epoch {} comes one that begins with epoch {}",
                before.last, commit.first
            ));
        }
        before = Some(commit);
    }
    let done = before.map(|commit| commit.last);
    if let Some(done) = done
        && let Some(group) = logs
            .groups
            .iter()
            .find(|g| g.first() <= done && done < g.last())
    {
        return broken(format!(
            "epoch {done} is committed, but it was logged together with epochs up to {}",
            group.last()
        ));
    }
    let expected = done.map_or(0, |epoch| epoch + 1)..;
    let mut watermark = before.map_or(NO_WATERMARK, |commit| commit.watermark);
    let entries = logs.uncommitted().iter().flat_map(|group| &group.entries);
    for (expected, entry) in expected.zip(entries) {
        if entry.epoch != expected {
            return broken(format!(
                "the offset log goes on with epoch {} where epoch {expected} is next",
                entry.epoch
            ));
        }
        if entry.watermark < watermark {
            return broken(format!(
                "the watermark of epoch {expected} lies before the last one"
            ));
        }
        watermark = entry.watermark;
    }
    Ok(())
}

/// The end of the offset log, in a sentence.
struct Logged(Option<Epoch>);

impl fmt::Display for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(epoch) => write!(f, "knows none after epoch {epoch}"),
            None => f.write_str("is new"),
        }
    }
}

/// The first few of what is missing.
struct List<'a>(&'a [MissingFile]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        for (i, file) in self.0.iter().take(SHOWN).enumerate() {
            write!(f, "{}{file}", if i > 0 { ", " } else { "" })?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
