//! Sending records, and the transactions around them.
//!
//! An epoch (or the ticks of a continuous query that are committed together) is one transaction of one producer: its rows, and in the end the offset `epoch + 1` of a
//! consumer group that has the transactional id's name. Transaction and offset become visible
//! together, so the group says which epoch the topic holds. A new producer with the same
//! transactional id ends what a former one has left: a transaction that was being committed is
//! committed, any other is undone, and the former one can write no more. Only after that is the
//! group asked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::options::SinkOptions;
use super::records::Record;
use crate::kafka::acks::UNCOUNTED;
use crate::kafka::client::{self, Client as _, FIRST_ANSWER, TRY, broker_error};
use crate::kafka::{Consumer, Patience, Watch};
use crate::{Acknowledged, ConnectorError, Delivery, Result};

/// How long the end of a transaction may take: what a coordinator needs to come back.
const COMMIT: Duration = Duration::from_mins(2);

/// How long one look whether all has arrived takes: nothing wakes who waits for records that are told of only if refused.
const LOOK: Duration = Duration::from_millis(1);

/// How long one look for what has arrived takes at most.
const LISTEN: Duration = Duration::from_millis(100);

/// The producer of a process.
pub(super) struct Producer {
    client: Arc<BaseProducer<Watch>>,
    /// What has arrived is counted.
    counts: bool,
    /// A member in name of the group that notes epochs; none without transactions.
    group: Option<Consumer>,
    /// The first epoch of the open transaction.
    open: Mutex<Option<u64>>,
}

impl Producer {
    /// Connects: an error within seconds where that cannot be. With transactions, those of former
    /// producers of the same id are over then.
    pub(super) fn connect(options: &SinkOptions) -> Result<Self> {
        let transactions = options.delivery == Delivery::ExactlyOnce;
        let group = transactions.then(|| client::create(&options.client, &group_config(options)));
        let this = Self {
            client: Arc::new(client::create(&options.client, &options.producer())?),
            counts: options.counts(),
            group: group.transpose()?,
            open: Mutex::new(None),
        };
        if this.counts {
            this.listen()?;
        }
        if let Some(topic) = &options.topic {
            this.check_topic(options, topic)?;
        }
        if transactions {
            this.begin_life(options)?;
        }
        Ok(this)
    }

    /// Takes in what has arrived as soon as the brokers say so.
    fn listen(&self) -> Result<()> {
        let client = Arc::downgrade(&self.client);
        std::thread::Builder::new()
            .name("kafka-acks".into())
            .spawn(move || {
                while let Some(client) = client.upgrade() {
                    client.poll(LISTEN);
                }
            })
            .map_err(|error| {
                ConnectorError::Inconsistent(format!("cannot start a thread: {error}"))
            })?;
        Ok(())
    }

    fn check_topic(&self, options: &SinkOptions, topic: &str) -> Result<()> {
        let action = format!("cannot write to topic '{topic}'");
        let mut patience = Patience::new(FIRST_ANSWER);
        loop {
            let within = patience.next_try();
            let answer = self.client.client().fetch_metadata(Some(topic), within);
            self.client.serve();
            let error = match answer {
                Ok(metadata) => {
                    let found = metadata.topics().iter().find(|found| found.name() == topic);
                    let code = match found.map(rdkafka::metadata::MetadataTopic::error) {
                        Some(None) => return Ok(()),
                        Some(Some(code)) => RDKafkaErrorCode::from(code),
                        None => RDKafkaErrorCode::UnknownTopic,
                    };
                    KafkaError::MetadataFetch(code)
                }
                Err(error) => error,
            };
            let watch = self.client.context();
            patience.test(&options.client, watch, &action, &error)?;
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Takes the transactional id over.
    fn begin_life(&self, options: &SinkOptions) -> Result<()> {
        let action = format!(
            "cannot take over the transactional id '{}'",
            options.transactional_id
        );
        // A transaction of a former producer that is being committed may take its time.
        let mut patience = Patience::new(COMMIT);
        loop {
            let answer = self.client.init_transactions(patience.next_try());
            self.client.serve();
            match answer {
                Ok(()) => return Ok(()),
                Err(KafkaError::Transaction(error)) if !error.is_retriable() => {
                    return Err(broker_error(
                        &options.client,
                        action,
                        Some(error.code()),
                        error.string(),
                    ));
                }
                Err(error) => {
                    let watch = self.client.context();
                    patience.test(&options.client, watch, &action, &error)?;
                }
            }
        }
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Option<u64>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a transaction with an epoch, unless one is open.
    pub(super) fn begin(&self, options: &SinkOptions, epoch: u64) -> Result<()> {
        if options.delivery == Delivery::AtLeastOnce {
            return Ok(());
        }
        let mut open = self.open();
        if open.is_none() {
            self.client
                .begin_transaction()
                .map_err(|error| self.error(options, "cannot begin a transaction", &error))?;
            *open = Some(epoch);
        }
        Ok(())
    }

    /// Queues a record, waiting for room where there is none.
    pub(super) fn send(&self, options: &SinkOptions, epoch: u64, record: Record<'_>) -> Result<()> {
        let action = || format!("cannot write to topic '{}'", record.topic);
        let acks = &self.client.context().acks;
        let number = if self.counts {
            acks.send(epoch)
        } else {
            UNCOUNTED
        };
        let mut next = BaseRecord::<[u8], [u8], usize>::with_opaque_to(record.topic, number);
        next.key = record.key;
        next.payload = record.value;
        next.partition = record.partition;
        next.headers = record.headers;
        loop {
            match self.client.send(next) {
                Ok(()) => return Ok(()),
                Err((error, back)) => {
                    if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                        acks.arrived(number);
                        return Err(self.error(options, &action(), &error));
                    }
                    self.check(options)?;
                    self.client.poll(Duration::from_millis(10));
                    next = back;
                }
            }
        }
    }

    /// An error where a record was refused, or writing is no use any more.
    pub(super) fn check(&self, options: &SinkOptions) -> Result<()> {
        self.client.poll(Duration::ZERO);
        let watch = self.client.context();
        if let Some((code, reason)) = self.client.client().fatal_error() {
            return Err(broker_error(
                &options.client,
                "cannot write",
                Some(code),
                reason,
            ));
        }
        if let Some((code, topic)) = watch.undelivered() {
            let action = format!("cannot write to topic '{topic}'");
            let mut reason = code.to_string();
            if let Some((_, last)) = watch.last() {
                reason = format!("{reason}; {last}");
            }
            return Err(broker_error(&options.client, action, Some(code), reason));
        }
        Ok(())
    }

    /// Waits until the brokers have every record that was sent. Ends, as a record that waits too
    /// long is refused ('kafka.delivery.timeout.ms').
    pub(super) fn flush(&self, options: &SinkOptions) -> Result<()> {
        loop {
            match self.client.flush(LOOK) {
                Ok(()) => return self.check(options),
                Err(error) => {
                    self.check(options)?;
                    if error.rdkafka_error_code() != Some(RDKafkaErrorCode::OperationTimedOut) {
                        return Err(self.error(options, "cannot write", &error));
                    }
                }
            }
        }
    }

    /// Waits until the brokers have the records of an epoch and all before it, where they are counted.
    pub(super) fn settle(&self, options: &SinkOptions, epoch: u64) -> Result<()> {
        while !self.client.context().acks.has_arrived(epoch) {
            self.check(options)?;
            std::thread::sleep(Duration::from_millis(1));
        }
        self.check(options)
    }

    /// Calls `then` when the brokers have the records of an epoch and all before it.
    pub(super) fn when_arrived(&self, epoch: u64, then: Acknowledged) {
        self.client.context().acks.when_arrived(epoch, then);
    }

    /// Commits the transaction, whose last epoch this is; there is none where there were no rows.
    pub(super) fn commit(&self, options: &SinkOptions, epoch: u64) -> Result<()> {
        let mut open = self.open();
        let Some(first) = *open else {
            return Ok(());
        };
        if epoch < first {
            return Err(ConnectorError::Inconsistent(format!(
                "epoch {epoch} is committed while the transaction that began with epoch {first} is open"
            )));
        }
        let Some(group) = &self.group else {
            return Ok(());
        };
        group.serve();
        let Some(member) = group.group_metadata() else {
            return Err(ConnectorError::Inconsistent(
                "a client with a group has no group".into(),
            ));
        };
        let note = note(options, Offset::Offset(epoch as i64 + 1))
            .map_err(|error| self.error(options, "cannot note the epoch", &error))?;
        let action = format!(
            "cannot commit epoch {epoch} to topic '{}'",
            options.topic.as_deref().unwrap_or_default()
        );
        self.until_done(options, &action, || {
            self.client.send_offsets_to_transaction(&note, &member, TRY)
        })?;
        self.until_done(options, &action, || self.client.commit_transaction(TRY))?;
        *open = None;
        Ok(())
    }

    /// Undoes the open transaction, if any.
    pub(super) fn abort(&self, options: &SinkOptions) -> Result<()> {
        let mut open = self.open();
        if open.is_none() {
            return Ok(());
        }
        self.until_done(options, "cannot undo a transaction", || {
            self.client.abort_transaction(TRY)
        })?;
        *open = None;
        Ok(())
    }

    /// Calls again what may be called again.
    fn until_done(
        &self,
        options: &SinkOptions,
        action: &str,
        mut call: impl FnMut() -> rdkafka::error::KafkaResult<()>,
    ) -> Result<()> {
        let began = Instant::now();
        loop {
            let error = match call() {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            self.check(options)?;
            let again = match &error {
                KafkaError::Transaction(error) => error.is_retriable(),
                KafkaError::Flush(code) => *code == RDKafkaErrorCode::OperationTimedOut,
                _ => false,
            };
            if !again || began.elapsed() >= COMMIT {
                return Err(self.error(options, action, &error));
            }
        }
    }

    /// The newest epoch that the topic holds; nothing without transactions.
    pub(super) fn last_committed(&self, options: &SinkOptions) -> Result<Option<u64>> {
        let Some(group) = &self.group else {
            return Ok(None);
        };
        let action = format!(
            "cannot ask group '{}' for its epoch",
            options.transactional_id
        );
        let mut patience = Patience::new(FIRST_ANSWER * 3);
        loop {
            let asked = note(options, Offset::Invalid)
                .and_then(|list| group.committed_offsets(list, patience.next_try()));
            let answer = asked.and_then(|list| {
                list.elements()
                    .first()
                    .map_or(Ok(Offset::Invalid), |element| {
                        element.error()?;
                        Ok(element.offset())
                    })
            });
            group.serve();
            match answer {
                Ok(Offset::Offset(next)) => return Ok(u64::try_from(next - 1).ok()),
                Ok(_) => return Ok(None),
                Err(error) => {
                    let refused = RDKafkaErrorCode::GroupAuthorizationFailed;
                    match group.context().last() {
                        Some((code, reason)) if code == refused => {
                            let code = Some(code);
                            return Err(broker_error(&options.client, action, code, reason));
                        }
                        _ => patience.test(&options.client, group.context(), &action, &error)?,
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn error(&self, options: &SinkOptions, action: &str, error: &KafkaError) -> ConnectorError {
        // The first cause says more than what followed from it.
        if let Some((code, reason)) = self.client.client().fatal_error() {
            return broker_error(&options.client, action, Some(code), reason);
        }
        let reason = match error {
            KafkaError::Transaction(error) => error.string(),
            other => other.to_string(),
        };
        broker_error(&options.client, action, error.rdkafka_error_code(), reason)
    }
}

/// The consumer group that notes the epoch.
fn group_config(options: &SinkOptions) -> rdkafka::ClientConfig {
    let mut config = options.client.as_consumer();
    config
        .set("group.id", &options.transactional_id)
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false");
    config
}

/// The place of the note: the first partition of the topic.
fn note(options: &SinkOptions, offset: Offset) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(1);
    let topic = options.topic.as_deref().unwrap_or_default();
    list.add_partition_offset(topic, 0, offset)?;
    Ok(list)
}
