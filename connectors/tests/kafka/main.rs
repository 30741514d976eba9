//! The Kafka connectors against a real broker, or librdkafka's mock cluster where there is none.

mod broker;
mod read;
mod sink;
mod source;
