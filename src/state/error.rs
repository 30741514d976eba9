//! What can go wrong with state.

use crate::row::RowError;
use crate::time::Epoch;

/// The result of anything state does.
pub type Result<T, E = StateError> = std::result::Result<T, E>;

/// An error of a trace or of its bytes.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Changes of an epoch that is already sealed.
    #[error(
        "operator {operator}, trace {trace}: epoch {epoch} is already sealed (the next is {next}); \
         apply each epoch once, in order"
    )]
    Sealed {
        /// The operator that owns the trace.
        operator: u32,
        /// Which of its traces.
        trace: u32,
        /// The epoch of the changes.
        epoch: Epoch,
        /// The first epoch that may still be sealed.
        next: Epoch,
    },
    /// A row that cannot be kept.
    #[error("a row cannot be kept in state: {source}")]
    Row {
        /// Why not.
        #[from]
        source: RowError,
    },
    /// Bytes that are not a section of a state file.
    #[error(
        "a section of a state file is damaged at byte {offset}: {what}; restore an older checkpoint"
    )]
    Corrupt {
        /// Where in the section.
        offset: usize,
        /// What was found or missed.
        what: &'static str,
    },
    /// A section's bytes could not be read.
    #[error("{0}")]
    Read(#[source] std::io::Error),
    /// A section's bytes could not be written.
    #[error("{0}")]
    Write(#[source] std::io::Error),
    /// A section of a later version.
    #[error(
        "a section of a state file has format {found}, this version reads up to {known}; use a newer tidemark"
    )]
    Version {
        /// The format found.
        found: u8,
        /// The newest format known.
        known: u8,
    },
    /// Sections that do not belong together.
    #[error(
        "sections of operator {operator}, trace {trace} do not follow each other: {what}; restore an older checkpoint"
    )]
    Chain {
        /// The operator of the first section.
        operator: u32,
        /// The trace of the first section.
        trace: u32,
        /// What does not fit.
        what: String,
    },
    /// Restored rows of another kind of trace.
    #[error(
        "operator {operator}, trace {trace} keeps {expected} and the checkpoint holds {found}; \
         the query has changed: start it with a new checkpoint location"
    )]
    Kind {
        /// The operator that owns the trace.
        operator: u32,
        /// Which of its traces.
        trace: u32,
        /// What it keeps.
        expected: &'static str,
        /// What was restored.
        found: &'static str,
    },
}
