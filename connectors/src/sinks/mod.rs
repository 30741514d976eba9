//! The sinks, one file each.

use crate::{ConnectorError, Options, Result, Sink, SinkConfig};

/// The names that `'connector' = ...` takes for a sink.
pub const SINKS: &[&str] = &[];

/// Opens the sink that `connector` names.
pub fn open_sink(connector: &str, options: &Options, config: SinkConfig) -> Result<Box<dyn Sink>> {
    let _ = (options, config);
    Err(ConnectorError::UnknownConnector {
        name: connector.into(),
        nearest: crate::options::nearest(connector, SINKS.iter().copied()),
        known: SINKS.join(", "),
    })
}
