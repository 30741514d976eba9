//! "Why is there no output?": what a query waits for, in words.
//!
//! | module | what it does |
//! |---|---|
//! | `marks` | where the partitions stand, and which of them holds the watermark |
//! | `findings` | what keeps rows from coming out |
//! | `pressure` | what the query does not keep up with |
//! | `table` | the way of the rows, from the partitions to the sink |
//! | `words` | lengths of time, moments, numbers |
//!
//! All of it is a function of what a commit remembers ([`CommitEntry`]), the [`Outline`] of the plan and,
//! where the query runs, of what it is doing; so a running query, a checkpoint at rest and a script are
//! told of alike. Nothing is asked of a worker.

mod findings;
mod marks;
mod pressure;
mod table;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::checkpoint::{CommitEntry, Difference, Holder, Inspection};
use crate::plan::{Outline, Plan};
use crate::runtime::launch::fingerprint;
use crate::runtime::metrics::lags;
use crate::runtime::{StreamingQuery, clock};
use crate::time::EventTime;

use pressure::Held;
use words::{ago, span, wrapped};

/// An epoch that takes longer is told of.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a query says nothing of itself.
#[derive(Debug, thiserror::Error)]
pub enum WhyError {
    /// The checkpoint was last used by a version that did not say what its query is made of.
    #[error(
        "the checkpoint {0} does not say what its query is made of: it was last run by an older version; give the script instead of the checkpoint"
    )]
    NoOutline(String),
    /// It is another query's.
    #[error(
        "the checkpoint {place} is not that of this query: {}; give the script that it belongs to, or the checkpoint alone",
        .differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    OtherQuery {
        /// The directory.
        place: String,
        /// What differs.
        differences: Vec<Difference>,
    },
    /// What it says cannot be read.
    #[error(
        "what the checkpoint {place} says of its query cannot be read: {source}; give the script instead of the checkpoint"
    )]
    Outline {
        /// The directory.
        place: String,
        /// Why not.
        source: serde_json::Error,
    },
}

/// What a query is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It runs here: what it says, and for how long an epoch has been under way.
    Running {
        doing: String,
        busy: Option<Duration>,
    },
    /// It has ended: with this cause, if it failed.
    Ended(Option<String>),
    /// Only its checkpoint is there.
    AtRest,
    /// A process runs on its checkpoint.
    Elsewhere,
    /// There is only its plan.
    Planned,
}

/// What is known of a query.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    name: &'a str,
    outline: &'a Outline,
    state: State,
    commit: Option<&'a CommitEntry>,
    /// Records that were there and not read after the last epoch, by source and partition, where known.
    unread: Vec<Option<BTreeMap<String, u64>>>,
    /// Who of sink and sources has not answered for long, and for how long.
    silent: Option<(String, Duration)>,
    /// What its last epoch took longest in.
    held: Option<Held>,
    /// Microseconds since 1970.
    now: EventTime,
}

impl StreamingQuery {
    /// What it waits for, in words: which partition holds the watermark, which rows wait where and when
    /// they come out.
    pub fn why(&self) -> String {
        let outline = self.plan().outline();
        let standing = self.standing();
        let progress = self.last_progress();
        let unread = progress.iter().flat_map(|progress| {
            progress.sources.iter().map(|source| {
                if source.latest_offset.is_null() {
                    return None;
                }
                let lags = lags(&source.end_offset, &source.latest_offset);
                Some(lags.into_iter().map(|(name, lag)| (name, lag.offsets)))
            })
        });
        let state = if self.is_active() {
            let status = self.status();
            let committed = standing.as_ref().map_or(0, |commit| commit.timestamp_us);
            let since = u64::try_from(clock::now() - committed).unwrap_or(0);
            let busy = self.in_status_for().min(Duration::from_micros(since));
            State::Running {
                busy: (status.is_trigger_active && busy > PATIENCE).then_some(busy),
                doing: status.message,
            }
        } else {
            State::Ended(self.exception())
        };
        let subject = Subject {
            name: self.name(),
            outline: &outline,
            state,
            commit: standing.as_deref(),
            unread: unread.map(|lags| lags.map(Iterator::collect)).collect(),
            silent: self.silent(),
            held: progress.as_ref().and_then(Held::of),
            now: clock::now(),
        };
        subject.told()
    }
}

/// What the query of a checkpoint waits for, as of its newest commit. `plan`: its plan, where it is known.
pub fn of_checkpoint(inspection: &Inspection, plan: Option<&Plan>) -> Result<String, WhyError> {
    let place = || inspection.dir.display().to_string();
    if let Some(plan) = plan {
        let differences = inspection.fingerprint.differences(&fingerprint(plan));
        if !differences.is_empty() {
            return Err(WhyError::OtherQuery {
                place: place(),
                differences,
            });
        }
    }
    let outline = match (plan, &inspection.outline) {
        (Some(plan), _) => plan.outline(),
        (None, Some(text)) => serde_json::from_str(text).map_err(|source| WhyError::Outline {
            place: place(),
            source,
        })?,
        (None, None) => return Err(WhyError::NoOutline(place())),
    };
    let subject = Subject {
        name: &inspection.name,
        outline: &outline,
        state: match inspection.holder {
            Holder::Nobody => State::AtRest,
            Holder::Process(_) | Holder::Unknown => State::Elsewhere,
        },
        commit: inspection.logs.last_commit(),
        unread: vec![],
        silent: None,
        held: None,
        now: clock::now(),
    };
    Ok(subject.told())
}

/// What a query will wait for that has not run yet.
pub fn of_plan(plan: &Plan) -> String {
    let subject = Subject {
        name: &plan.name,
        outline: &plan.outline(),
        state: State::Planned,
        commit: None,
        unread: vec![],
        silent: None,
        held: None,
        now: clock::now(),
    };
    subject.told()
}

impl Subject<'_> {
    fn told(&self) -> String {
        let mut out = wrapped("", &self.headline());
        let findings = self.findings();
        out.push_str(&wrapped("", &self.lead(findings.len())));
        for finding in findings {
            out.push_str(&wrapped("  - ", &finding));
        }
        self.table(&mut out);
        out
    }

    /// Which query it is, and how it is.
    fn headline(&self) -> String {
        let mut line = format!("Query {}, {} mode: ", self.name, self.outline.mode);
        let _ = match &self.state {
            State::Running { doing, busy: None } => {
                write!(line, "it runs ({})", words::uncapital(doing))
            }
            State::Running {
                busy: Some(busy), ..
            } => {
                let busy = span(i64::try_from(busy.as_micros()).unwrap_or(i64::MAX));
                write!(line, "it runs; an epoch has been under way for {busy}")
            }
            State::Ended(None) => write!(line, "it has ended"),
            State::Ended(Some(cause)) => write!(line, "it has failed: {cause}"),
            State::AtRest => write!(line, "it is not running; this is what its checkpoint says"),
            State::Elsewhere => write!(
                line,
                "another process runs it; this is what its checkpoint says"
            ),
            State::Planned => write!(line, "it has not run yet; this is what its plan says"),
        };
        if let Some(commit) = self.commit {
            let since = ago(self.now - commit.timestamp_us);
            let _ = write!(line, ". Epoch {} was committed {since}", commit.last);
        }
        line.push('.');
        line
    }

    /// What came out, before what does not.
    fn lead(&self, findings: usize) -> String {
        let written = self.commit.and_then(|commit| {
            let (epoch, at) = commit.history.last_written?;
            Some((commit, epoch, ago(self.now - at)))
        });
        let rows = |count| words::counted(count, "row");
        let said = match (written, self.commit) {
            (Some((commit, epoch, since)), _) if epoch == commit.last => format!(
                "The last epoch gave {} ({since}; {} in all)",
                rows(commit.output_rows),
                rows(commit.history.written)
            ),
            (Some((commit, epoch, since)), _) => format!(
                "Nothing has come out since epoch {epoch}, {since} ({} in all)",
                rows(commit.history.written)
            ),
            (None, None) if self.state == State::Planned => {
                return "What it will give, and when:".into();
            }
            (None, _) => "Nothing has come out yet".into(),
        };
        if findings == 0 {
            format!("{said}. Nothing waits.")
        } else {
            format!("{said}:")
        }
    }

    /// Rows read of a source so far.
    fn read(&self, source: usize) -> u64 {
        let read = self.commit.map(|commit| &commit.history.read);
        read.and_then(|read| read.get(source).copied()).unwrap_or(0)
    }

    /// Records of a partition that were there and not read.
    fn unread_of(&self, source: usize, partition: &str) -> Option<u64> {
        let unread = self.unread.get(source)?.as_ref()?;
        // What an epoch did not read of had nothing to read.
        Some(unread.get(partition).copied().unwrap_or(0))
    }
}
