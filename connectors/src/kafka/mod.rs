//! What the Kafka source and the Kafka sink have in common.
//!
//! | module | what it does |
//! |---|---|
//! | `acks` | which records have arrived |
//! | `config` | `kafka.*` options to librdkafka's configuration: Java's names translated or refused |
//! | `client` | clients that remember what went wrong, and errors that say what to do |
//! | `offsets` | offsets by topic and partition, as JSON in Spark's form |
//! | `registry` | schemas by their numbers, from a schema registry |

pub(crate) mod acks;
pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod offsets;
pub(crate) mod registry;

pub(crate) use client::{Consumer, Patience, Watch};
pub(crate) use config::ClientOptions;
pub(crate) use offsets::{Offsets, TopicPartition};
pub(crate) use registry::Registry;
