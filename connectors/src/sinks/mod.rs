//! The sinks, one file each.
//!
//! | name | what it does | after a crash |
//! |---|---|---|
//! | [`console`] | prints a table per epoch | the epoch in flight may be printed twice |
//! | [`mod@file`] | json, csv or parquet files in a directory, with a manifest | each epoch is there once |
//! | [`kafka`] | records of a topic | each epoch is there once, or at least once |
//! | [`memory`] | a table in this process | each epoch is there once, within one process |
//! | [`noop`] | counts | - |
//!
//! [`result`] is no connector: whoever holds its table opens it, to look at a query's result.

pub mod changes;
pub mod console;
pub mod csv;
pub mod file;
mod forms;
mod held;
pub mod json;
pub mod kafka;
pub mod memory;
pub mod noop;
pub mod result;
pub mod show;
mod text;

pub(crate) use forms::{base64, double as java_double};

use crate::{ConnectorError, Options, Result, Sink, SinkConfig};

/// The names that `'connector' = ...` takes for a sink.
pub const SINKS: &[&str] = &["console", "file", "kafka", "memory", "noop"];

/// Whether the rows of a sink are records as they are, with the columns `key`, `value` and `headers`.
pub fn takes_records(connector: &str, options: &Options) -> bool {
    connector.eq_ignore_ascii_case("kafka") && options.get("format").is_none()
}

/// Opens the sink that `connector` names.
///
/// The table of a `memory` sink opened here is out of reach: whoever wants to ask it makes a
/// [`memory::MemoryTable`] and opens a [`memory::MemorySink`] on it.
pub fn open_sink(connector: &str, options: &Options, config: SinkConfig) -> Result<Box<dyn Sink>> {
    Ok(match connector.to_ascii_lowercase().as_str() {
        "console" => Box::new(console::ConsoleSink::open(options, config)?),
        "file" => Box::new(file::FileSink::open(options, config)?),
        "kafka" => Box::new(kafka::KafkaSink::open(options, &config)?),
        "memory" => {
            let table = memory::MemoryTable::new();
            Box::new(memory::MemorySink::open(table, options, config)?)
        }
        "noop" => Box::new(noop::NoopSink::open(options)?),
        _ => {
            return Err(ConnectorError::UnknownConnector {
                name: connector.into(),
                nearest: crate::options::nearest(connector, SINKS.iter().copied()),
                known: SINKS.join(", "),
            });
        }
    })
}
