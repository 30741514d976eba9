//! The sources, one file each.

use arrow::datatypes::SchemaRef;

use crate::{ConnectorError, Options, Result, Source};

/// The names that `'connector' = ...` takes for a source.
pub const SOURCES: &[&str] = &[];

/// Opens the source that `connector` names.
///
/// `schema` holds the columns that the table declares; `None` where they are left to the source
/// (inference, a file that knows its own, a generator with fixed columns).
pub fn open_source(
    connector: &str,
    options: &Options,
    schema: Option<SchemaRef>,
) -> Result<Box<dyn Source>> {
    let _ = (options, schema);
    Err(ConnectorError::UnknownConnector {
        name: connector.into(),
        nearest: crate::options::nearest(connector, SOURCES.iter().copied()),
        known: SOURCES.join(", "),
    })
}
