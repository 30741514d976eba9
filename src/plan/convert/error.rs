//! Why a query cannot become a plan, and what to write instead.

use datafusion::error::DataFusionError;
use tidemark_connectors::OutputMode;

/// A query that cannot run as it is written.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// An operator or function that streams do not have.
    #[error("{operator} is not supported in a streaming query: {reason}; instead, {instead}")]
    NotSupported {
        /// What was asked for, with its SQL text.
        operator: String,
        /// Why there is none.
        reason: String,
        /// What can be written in its place.
        instead: String,
    },
    /// An output mode that the query cannot honour.
    #[error("output mode '{mode}' is not possible for {operator}: {reason}; {remedy}")]
    Mode {
        /// The mode that was asked for.
        mode: OutputMode,
        /// The operator in the way, as SQL.
        operator: String,
        /// Why it is in the way.
        reason: String,
        /// What would make it possible.
        remedy: String,
    },
    /// A scan of a table that the statement does not name.
    #[error(
        "the query reads table '{table}', which is not among the tables it was planned with ({known}); declare it with CREATE TABLE"
    )]
    UnknownTable {
        /// The table.
        table: String,
        /// The tables there are.
        known: String,
    },
    /// An expression that does not fit what feeds it: the planner's mistake, not the user's.
    #[error(
        "cannot plan {what}: {source}; this is a defect of the planner, please report it with the query"
    )]
    Expression {
        /// What was being planned.
        what: String,
        /// `DataFusion`'s reason.
        source: DataFusionError,
    },
}

/// The result of planning.
pub type Result<T, E = ConvertError> = std::result::Result<T, E>;

pub(crate) fn unsupported(
    operator: impl Into<String>,
    reason: impl Into<String>,
    instead: impl Into<String>,
) -> ConvertError {
    ConvertError::NotSupported {
        operator: operator.into(),
        reason: reason.into(),
        instead: instead.into(),
    }
}
