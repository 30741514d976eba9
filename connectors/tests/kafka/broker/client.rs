//! What tests do with a broker: waiting, sending, reading.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A configuration of a client without security.
pub(crate) fn config(servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", servers)
        .set("group.id", "test");
    config
}

pub(super) fn exists(servers: &str, topic: &str) -> bool {
    let client: BaseConsumer = config(servers).create().expect("a client");
    let metadata = client.fetch_metadata(Some(topic), Duration::from_secs(5));
    metadata.is_ok_and(|metadata| {
        metadata.topics().iter().any(|topic| {
            topic.error().is_none()
                && !topic.partitions().is_empty()
                && topic.partitions().iter().all(|p| p.leader() >= 0)
        })
    })
}

/// Looks again and again until it is so.
pub(crate) fn await_that(what: &str, so: impl FnMut() -> bool) {
    assert!(comes(so), "waited too long for {what}");
}

/// The same, whether it came to be so.
pub(super) fn comes(mut so: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !so() {
        if began.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Records for a partition: key and value.
pub(crate) fn produce(
    servers: &str,
    topic: &str,
    partition: i32,
    records: &[(Option<&str>, Option<&str>)],
) {
    let producer: BaseProducer = config(servers).create().expect("a producer");
    for (key, value) in records {
        let mut record = BaseRecord::<str, str>::to(topic).partition(partition);
        if let Some(key) = key {
            record = record.key(*key);
        }
        if let Some(value) = value {
            record = record.payload(*value);
        }
        producer
            .send(record)
            .map_err(|(error, _)| error)
            .expect("queued");
    }
    producer.flush(PATIENCE).expect("delivered");
}

/// Values for a partition.
pub(crate) fn produce_values(servers: &str, topic: &str, partition: i32, values: &[&str]) {
    let records: Vec<_> = values.iter().map(|value| (None, Some(*value))).collect();
    produce(servers, topic, partition, &records);
}

/// Everything that a `read_committed` consumer finds in a topic, by partition: key and value.
pub(crate) fn consume(servers: &str, topic: &str) -> Vec<(Option<String>, Option<String>)> {
    let consumer: BaseConsumer = config(servers)
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()
        .expect("a consumer");
    let metadata = consumer
        .fetch_metadata(Some(topic), PATIENCE)
        .expect("metadata");
    let partitions = metadata.topics()[0].partitions().len();
    let mut found = vec![];
    for partition in 0..partitions as i32 {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Beginning)
            .expect("an offset");
        consumer.assign(&list).expect("assigned");
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < PATIENCE, "cannot read {topic}");
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    found.push((message.key().map(text), message.payload().map(text)));
                }
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(ended)))
                    if ended == partition =>
                {
                    break;
                }
                _ => {}
            }
        }
    }
    found
}

/// Runs a future to its end.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
