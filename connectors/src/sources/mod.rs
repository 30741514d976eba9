//! The sources, one file each.

mod counter;
pub mod database;
pub mod datagen;
pub mod file;
pub mod kafka;
pub mod memory;
pub mod nexmark;
mod random;
pub mod rate;
pub mod snapshots;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use crate::{ConnectorError, Options, Result, Source};

/// The names that `'connector' = ...` takes for a source.
pub const SOURCES: &[&str] = &[
    "file", "kafka", "rate", "datagen", "nexmark", "sqlite", "postgres",
];

/// Whether the tables of a connector are all there at once: they can only be static ones.
pub fn is_always_static(connector: &str) -> bool {
    (database::DATABASES.iter()).any(|name| name.eq_ignore_ascii_case(connector))
}

/// The connectors whose tables can be read again and again.
pub const REFRESHED: &[&str] = &["file", "sqlite", "postgres"];

/// Opens the source that `connector` names.
///
/// `schema` holds the columns that the table declares; `None` where they are left to the source
/// (inference, a file that knows its own, a generator with fixed columns). A
/// [`memory::MemorySource`] has no name: whoever feeds it holds it already.
pub fn open_source(
    connector: &str,
    options: &Options,
    schema: Option<SchemaRef>,
) -> Result<Box<dyn Source>> {
    let lower = connector.to_ascii_lowercase();
    if let Some(source) = database::DatabaseSource::open(&lower, options, schema.as_ref())? {
        return Ok(Box::new(source));
    }
    match lower.as_str() {
        "file" => Ok(Box::new(file::FileSource::open(options, schema)?)),
        "kafka" => Ok(Box::new(kafka::KafkaSource::open(options, schema)?)),
        "rate" => Ok(Box::new(rate::RateSource::open(options, schema.as_ref())?)),
        "datagen" => Ok(Box::new(datagen::DatagenSource::open(options, schema)?)),
        "nexmark" => Ok(Box::new(nexmark::NexmarkSource::open(
            options,
            schema.as_ref(),
        )?)),
        _ => Err(ConnectorError::UnknownConnector {
            name: connector.into(),
            nearest: crate::options::nearest(connector, SOURCES.iter().copied()),
            known: SOURCES.join(", "),
        }),
    }
}

/// What went wrong while a generator made a column.
fn generating(column: &str, source: ArrowError) -> ConnectorError {
    ConnectorError::Arrow {
        context: format!("generating the column '{column}'"),
        source,
    }
}
