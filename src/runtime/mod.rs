//! Runs a compiled plan: epochs, triggers, watermarks, commits, progress.
//!
//! | module | what it does |
//! |---|---|
//! | [`query`] | the user's handle to a query |
//! | [`launch`] | starts a query |
//! | [`cluster`] | several processes that run one query together |
//! | [`sequencer`] | decides each epoch, logs it, commits it |
//! | `epoch` | an epoch as it was decided, and what the workers made of it |
//! | `reports` | what the sequencer hears of the workers |
//! | [`control`] | carries the sequencer's commands and the workers' reports |
//! | [`worker`] | drives one worker's share of the dataflow |
//! | [`watermark`] | how far event time has surely come |
//! | [`progress`] | what a query tells of itself, with Spark's field names |
//! | [`metrics`] | what a process tells Prometheus of its queries |
//! | [`clock`] | the wall clock |
//!
//! For each epoch the sequencer decides ranges and watermark, logs them, and opens the epoch on
//! every worker; a worker that sees the epoch complete everywhere stages its output, writes its
//! state and reports; when all have, the sink commits and then the commit log is written.

pub mod clock;
pub mod cluster;
pub mod control;
pub mod dead_letters;
mod epoch;
pub mod late_rows;
pub mod launch;
pub mod metrics;
pub mod progress;
pub mod query;
mod reports;
pub mod sequencer;
mod side_table;
pub mod watermark;
pub mod worker;

pub use launch::start;
pub use progress::Progress;
pub use query::{QueryConfig, QueryStatus, StreamingQuery};

use tidemark_connectors::ConnectorError;

use crate::checkpoint::{CheckpointError, Refusal};
use crate::operators::OperatorError;
use crate::state::StateError;

/// Why a query did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// A source or sink.
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    /// The checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint and the sink do not allow a start.
    #[error("{0}")]
    Refused(Refusal),
    /// An operator.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// State could not be written or read back.
    #[error(transparent)]
    State(#[from] StateError),
    /// A worker ended with this cause.
    #[error("{0}")]
    Worker(String),
    /// The workers could not be started.
    #[error("the workers could not be started: {0}")]
    Start(String),
    /// The user did not want to wait for the other processes any more.
    #[error("it was stopped before all processes were there")]
    Stopped,
}

impl QueryError {
    /// Whether the query ended because nobody reads its output any more, which is no failure.
    fn is_reader_gone(&self) -> bool {
        matches!(self, Self::Connector(ConnectorError::ReaderGone(_)))
    }
}
