//! The Kafka connectors against a real broker, or librdkafka's mock cluster where there is none.

mod broker;
mod faults;
mod options;
mod read;
mod security;
mod sink;
mod source;
