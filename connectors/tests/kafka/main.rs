//! The Kafka connectors against a real broker, or librdkafka's mock cluster where there is none.

mod avro;
mod broker;
mod faults;
mod options;
mod read;
#[expect(dead_code, reason = "the tests of the client use the rest")]
mod registry;
mod security;
mod sink;
mod source;
