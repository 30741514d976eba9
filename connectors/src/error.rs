//! What can go wrong at the edge. Every message names the place and the remedy.

use std::path::PathBuf;

/// The result of anything a connector does.
pub type Result<T, E = ConnectorError> = std::result::Result<T, E>;

/// An error of a source, a sink or a format.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// An option that the connector does not have.
    #[error("unknown option '{key}' for connector '{connector}'{}", .nearest.as_ref().map(|n| format!("; did you mean '{n}'?")).unwrap_or_default())]
    UnknownOption {
        /// The connector's name.
        connector: String,
        /// The option as written.
        key: String,
        /// The nearest option it has.
        nearest: Option<String>,
    },
    /// An option that must be given.
    #[error("connector '{connector}' needs the option '{key}': {remedy}")]
    MissingOption {
        /// The connector's name.
        connector: String,
        /// The option's name.
        key: String,
        /// What to write.
        remedy: String,
    },
    /// An option whose value makes no sense.
    #[error("option '{key}' = '{value}': expected {expected}")]
    OptionValue {
        /// The option's name.
        key: String,
        /// The value as written.
        value: String,
        /// What is accepted.
        expected: String,
    },
    /// An option that has no meaning here.
    #[error("option '{key}' cannot be used with connector '{connector}': {instead}")]
    OptionRefused {
        /// The connector's name.
        connector: String,
        /// The option as written.
        key: String,
        /// What to write instead, and why.
        instead: String,
    },
    /// A connector that does not exist.
    #[error("unknown connector '{name}'{}; there are: {known}", .nearest.as_ref().map(|n| format!(", did you mean '{n}'?")).unwrap_or_default())]
    UnknownConnector {
        /// The name as written.
        name: String,
        /// The nearest one that exists.
        nearest: Option<String>,
        /// All that exist.
        known: String,
    },
    /// A file or directory that could not be used.
    #[error("{action} {}: {source}{}", .path.display(), hint(.source))]
    Io {
        /// What was tried: "cannot read".
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A record that could not be decoded, where the mode is `FAILFAST`.
    #[error(
        "malformed record at {place}: {reason}; the record: {record}. Set 'mode' = 'PERMISSIVE' to keep it as nulls or 'DROPMALFORMED' to leave it out"
    )]
    MalformedRecord {
        /// Path and line, or topic, partition and offset.
        place: String,
        /// What is wrong with it.
        reason: String,
        /// The record, cut to a readable length.
        record: String,
    },
    /// A file whose format is broken as a whole.
    #[error("cannot read {} as {format}: {reason}", .path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// The format it was taken for.
        format: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Whoever read the output has closed it, as `head` does: there is nobody left to write for.
    #[error("nobody reads {0} any more")]
    ReaderGone(&'static str),
    /// Brokers that refuse or do not answer.
    #[error("{action} (brokers {servers}): {reason}. {remedy}")]
    Broker {
        /// What was tried: "cannot read web-events-0@17".
        action: String,
        /// The brokers, as the option names them.
        servers: String,
        /// Why not.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// A schema registry that refuses or does not answer.
    #[error("{action} (schema registry {url}): {reason}. {remedy}")]
    Registry {
        /// What was tried: "cannot get schema 7".
        action: String,
        /// Where the registry is, as the option says.
        url: String,
        /// Why not.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// A database that refuses or does not answer.
    #[error("{action} {place}: {reason}. {remedy}")]
    Database {
        /// What was tried: "cannot read".
        action: &'static str,
        /// Which database and table.
        place: String,
        /// Why not.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Records that were to be read are gone.
    #[error("{place}: {reason}. {remedy}")]
    DataLoss {
        /// Topic, partition, offsets.
        place: String,
        /// What happened to them.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// A schema that does not fit.
    #[error("{0}")]
    Schema(String),
    /// What the engine remembers and what the world holds do not agree.
    #[error("{0}")]
    Inconsistent(String),
    /// Arrow refused.
    #[error("{context}: {source}")]
    Arrow {
        /// What was being done.
        context: String,
        /// Arrow's reason.
        source: arrow::error::ArrowError,
    },
}

impl ConnectorError {
    /// Whether it may go away by itself: a disk that is full, a server that does not answer. What is wrong with
    /// data, options or the world's memory of them stays.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Io { .. } | Self::Broker { .. } | Self::Registry { .. }
        )
    }
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::StorageFull => "; free some space and start again: nothing is lost",
        std::io::ErrorKind::PermissionDenied => "; check the permissions",
        std::io::ErrorKind::NotFound => "; check the path",
        std::io::ErrorKind::NotADirectory | std::io::ErrorKind::AlreadyExists => {
            "; a file lies where a directory is wanted: check the path"
        }
        std::io::ErrorKind::ReadOnlyFilesystem => {
            "; the file system is read-only: choose another path"
        }
        _ => "",
    }
}
