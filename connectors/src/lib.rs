//! Tidemark's sources, sinks and formats.
//!
//! This package knows Arrow batches, options and offsets, and nothing of dataflows. The engine's
//! `runtime` drives it through two pairs of traits:
//!
//! | trait | where it lives | what it does |
//! |---|---|---|
//! | [`Source`] | once a query, beside the sequencer | says what there is to read and plans ranges |
//! | [`SourceReader`] / [`SplitReader`] | every worker | reads exactly a planned [`Split`] |
//! | [`Sink`] | once a query, beside the sequencer | commits what the workers staged, once an epoch |
//! | [`SinkWriter`] | every worker (or one) | writes rows, makes them durable when asked |
//!
//! What must be durable is written through a [`storage`].
//!
//! A connector is opened from its options by [`open_source`] and [`open_sink`].

pub mod error;
pub mod format;
mod kafka;
pub mod options;
pub mod sink;
pub mod sinks;
pub mod source;
pub mod sources;
pub mod storage;

pub use error::{ConnectorError, Result};
pub use options::Options;
pub use sink::{
    Acknowledged, ChangeType, Delivery, Distribution, Output, OutputMode, Sink, SinkConfig,
    SinkWriter, Staged, Staging, Visible,
};
pub use sinks::open_sink;
pub use source::{
    Backlog, Follower, Keeping, METADATA_COLUMN, Place, PlannedRange, Read, ReadLimit,
    RecordHeader, Rejected, Source, SourceReader, Split, SplitReader, Wake,
};
pub use sources::open_source;
