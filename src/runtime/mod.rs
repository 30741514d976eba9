//! Runs a compiled plan: epochs, triggers, watermarks, commits, progress.
//!
//! | module | what it does |
//! |---|---|
//! | [`query`] | the user's handle to a query |
//! | [`launch`] | starts a query |
//! | `lead` | the query in its first process: it runs, and starts again |
//! | `follow` | the query in a process that only brings workers |
//! | `intake` | how much an epoch takes in |
//! | `busy` | which part of a query its time goes to |
//! | [`cluster`] | several processes that run one query together |
//! | [`sequencer`] | decides each epoch, logs it, commits it |
//! | `epoch` | an epoch as it was decided, and what the workers made of it |
//! | `reports` | what the sequencer hears of the workers |
//! | [`control`] | carries the sequencer's commands and the workers' reports |
//! | [`worker`] | drives one worker's share of the dataflow |
//! | [`watermark`] | how far event time has surely come |
//! | [`progress`] | what a query tells of itself, with Spark's field names |
//! | [`http`] | what a process serves of its queries over HTTP |
//! | [`metrics`] | what a process tells Prometheus of its queries |
//! | [`why`] | why a query gives no rows, in words |
//! | [`clock`] | the wall clock |
//!
//! For each epoch the sequencer decides ranges and watermark, logs them, and opens the epoch on
//! every worker; a worker that sees the epoch complete everywhere stages its output, writes its
//! state and reports; when all have, the sink commits and then the commit log is written.

mod busy;
pub mod clock;
pub mod cluster;
pub mod control;
pub mod dead_letters;
mod epoch;
mod follow;
pub mod http;
mod intake;
pub mod late_rows;
pub mod latency;
pub mod launch;
mod lead;
pub mod metrics;
pub mod progress;
pub mod query;
pub mod reports;
pub mod sequencer;
mod side_table;
pub mod watermark;
pub mod why;
pub mod worker;

pub use latency::LatencySummary;
pub use launch::{Sources, start, start_from};
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
    /// A worker ended with this cause, which may pass.
    #[error("{0}")]
    Passing(String),
    /// The workers could not be started.
    #[error("the workers could not be started: {0}")]
    Start(String),
    /// The user did not want to wait for the other processes any more.
    #[error("it was stopped before all processes were there")]
    Stopped,
}

impl QueryError {
    /// Whether it may go away by itself, so that it makes sense to start again.
    fn may_pass(&self) -> bool {
        match self {
            Self::Connector(error) | Self::Operator(OperatorError::Connector(error)) => {
                error.may_pass()
            }
            // A write that may or may not have happened: the logs say which, once they are read again.
            Self::Checkpoint(error) => error.outcome().is_some(),
            Self::Passing(_) => true,
            Self::Operator(_)
            | Self::Refused(_)
            | Self::State(_)
            | Self::Worker(_)
            | Self::Start(_)
            | Self::Stopped => false,
        }
    }

    /// Whether the query ended because nobody reads its output any more, which is no failure.
    fn is_reader_gone(&self) -> bool {
        matches!(self, Self::Connector(ConnectorError::ReaderGone(_)))
    }
}
