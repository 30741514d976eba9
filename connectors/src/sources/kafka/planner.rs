//! What the brokers say of the topics: which partitions there are and where they end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;

use super::options::{SourceOptions, Topics};
use crate::Result;
use crate::kafka::client::{self, Client as _, Ending, FIRST_ANSWER};
use crate::kafka::{Consumer, Offsets, Patience, TopicPartition};

/// How often topics and partitions are listed.
const LISTING: Duration = Duration::from_secs(1);

/// Stands for a time in a request: where the log begins.
pub(super) const EARLIEST: i64 = -2;

/// Stands for a time in a request: where the log ends.
pub(super) const LATEST: i64 = -1;

/// Asks the brokers, on the sequencer's thread. It never reads a record.
pub(super) struct Planner {
    options: Arc<SourceOptions>,
    consumer: Ending<Consumer>,
    patience: Patience,
    /// As last listed.
    partitions: BTreeSet<TopicPartition>,
    /// Topics of ours that the brokers do not know.
    missing: BTreeSet<String>,
    listed: Option<Instant>,
}

impl std::fmt::Debug for Planner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planner")
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

impl Planner {
    /// A client that commits as `group`. Nothing is asked yet.
    pub(super) fn new(options: Arc<SourceOptions>, group: &str) -> Result<Self> {
        let mut config = options.client.config();
        config.set("enable.auto.commit", "false");
        if options.client.get("group.id").is_none() {
            config.set("group.id", group);
        }
        // It joins no group: this is how long a commit waits for one that does not answer, and with it
        // the end of a query.
        config.set("session.timeout.ms", "2000");
        Ok(Self {
            consumer: Ending::new(client::create(&options.client, &config)?),
            patience: Patience::new(FIRST_ANSWER),
            options,
            partitions: BTreeSet::new(),
            missing: BTreeSet::new(),
            listed: None,
        })
    }

    /// Asks until there is an answer.
    pub(super) fn insist<T>(
        &mut self,
        mut ask: impl FnMut(&mut Self) -> Result<Option<T>>,
    ) -> Result<T> {
        loop {
            if let Some(answer) = ask(self)? {
                return Ok(answer);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The answer, or nothing where there is none yet and it is worth waiting.
    fn answer<T>(&mut self, action: &str, answer: Result<T, KafkaError>) -> Result<Option<T>> {
        self.consumer.serve();
        match answer {
            Ok(answer) => {
                self.patience
                    .renew(self.options.timeout, self.consumer.context());
                Ok(Some(answer))
            }
            Err(error) => {
                let watch = self.consumer.context();
                self.patience
                    .test(&self.options.client, watch, action, &error)?;
                Ok(None)
            }
        }
    }

    /// Topics of ours that the brokers did not know when they were last listed.
    pub(super) fn missing(&self) -> &BTreeSet<String> {
        &self.missing
    }

    /// The partitions to read, listed again from time to time.
    pub(super) fn partitions(&mut self) -> Result<Option<BTreeSet<TopicPartition>>> {
        if self.listed.is_none_or(|at| at.elapsed() >= LISTING) {
            let options = Arc::clone(&self.options);
            let mut found = BTreeSet::new();
            let mut missing = BTreeSet::new();
            match &options.topics {
                Topics::Pattern(pattern) => {
                    let listed = self.consumer.fetch_metadata(None, self.patience.next_try());
                    let Some(metadata) = self.answer("cannot list the topics", listed)? else {
                        return Ok(None);
                    };
                    let names: Vec<String> = metadata
                        .topics()
                        .iter()
                        .map(|topic| topic.name().to_owned())
                        .filter(|name| pattern.is_match(name))
                        .collect();
                    for name in names {
                        self.take(&metadata, &name, &mut found, &mut missing)?;
                    }
                }
                Topics::Named(_) | Topics::Assigned(_) => {
                    for name in names(&options.topics) {
                        let listed = self
                            .consumer
                            .fetch_metadata(Some(&name), self.patience.next_try());
                        let action = format!("cannot ask for the partitions of topic '{name}'");
                        let Some(metadata) = self.answer(&action, listed)? else {
                            return Ok(None);
                        };
                        self.take(&metadata, &name, &mut found, &mut missing)?;
                    }
                }
            }
            if let Topics::Assigned(wanted) = &options.topics {
                let absent = wanted
                    .iter()
                    .find(|of| !found.contains(*of) && !missing.contains(&*of.topic));
                if let Some(absent) = absent {
                    return Err(client::broker_error(
                        &options.client,
                        format!("cannot read partition {absent} of 'assign'"),
                        Some(RDKafkaErrorCode::UnknownPartition),
                        "the topic has no such partition",
                    ));
                }
                found.retain(|of| wanted.contains(of));
            }
            self.partitions = found;
            self.missing = missing;
            self.listed = Some(Instant::now());
        }
        Ok(Some(self.partitions.clone()))
    }

    /// Takes the partitions of a topic out of an answer.
    fn take(
        &mut self,
        metadata: &Metadata,
        name: &str,
        found: &mut BTreeSet<TopicPartition>,
        missing: &mut BTreeSet<String>,
    ) -> Result<()> {
        let topic = metadata.topics().iter().find(|topic| topic.name() == name);
        let code = topic
            .and_then(rdkafka::metadata::MetadataTopic::error)
            .map(RDKafkaErrorCode::from);
        match (topic, code) {
            (Some(topic), None) => {
                let name: Arc<str> = Arc::from(name);
                found.extend(
                    topic
                        .partitions()
                        .iter()
                        .map(|partition| TopicPartition::new(Arc::clone(&name), partition.id())),
                );
            }
            (_, Some(code)) if client::is_lasting(code) => {
                return Err(client::broker_error(
                    &self.options.client,
                    format!("cannot read topic '{name}'"),
                    Some(code),
                    code.to_string(),
                ));
            }
            _ => _ = missing.insert(name.to_owned()),
        }
        Ok(())
    }

    /// Waits for a while until the topics are there.
    pub(super) fn first_partitions(&mut self) -> Result<BTreeSet<TopicPartition>> {
        let began = Instant::now();
        loop {
            let partitions = self.insist(Self::partitions)?;
            let Some(name) = self.missing.first() else {
                return Ok(partitions);
            };
            if began.elapsed() >= FIRST_ANSWER / 2 {
                return Err(client::broker_error(
                    &self.options.client,
                    format!("cannot read topic '{name}'"),
                    Some(RDKafkaErrorCode::UnknownTopicOrPartition),
                    "the brokers know no such topic",
                ));
            }
            self.listed = None;
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Of each partition the offset of the first record at a time or later (-1 where there is
    /// none), [`EARLIEST`] or [`LATEST`]; one request to each broker.
    pub(super) fn offsets(&mut self, times: &Offsets) -> Result<Option<Offsets>> {
        if times.0.is_empty() {
            return Ok(Some(Offsets::default()));
        }
        let asked = times.to_list().and_then(|list| {
            self.consumer
                .offsets_for_times(list, self.patience.next_try())
        });
        let answered = asked.and_then(|list| {
            list.elements()
                .iter()
                .map(|element| {
                    element.error()?;
                    let of = TopicPartition::new(element.topic(), element.partition());
                    let offset = match element.offset() {
                        Offset::Offset(offset) => offset,
                        _ => LATEST,
                    };
                    Ok((of, offset))
                })
                .collect::<Result<Offsets, KafkaError>>()
        });
        if let Err(error) = &answered
            && error.rdkafka_error_code().is_some_and(client::is_unknown)
        {
            // Which of them is gone, the next listing says.
            self.listed = None;
        }
        self.answer("cannot ask where the topics end", answered)
    }

    /// The same number for each of some partitions.
    pub(super) fn edge(
        &mut self,
        of: &BTreeSet<TopicPartition>,
        edge: i64,
    ) -> Result<Option<Offsets>> {
        self.offsets(&of.iter().map(|of| (of.clone(), edge)).collect())
    }

    /// Tells the consumer group, for those who watch how far a query is. Nothing depends on it, so
    /// that it fails is no matter.
    pub(super) fn commit(&self, offsets: &Offsets) {
        if let Ok(list) = offsets.to_list() {
            let _ = self.consumer.commit(&list, CommitMode::Async);
        }
        self.consumer.serve();
    }
}

/// The topics that the options name.
fn names(topics: &Topics) -> BTreeSet<String> {
    match topics {
        Topics::Named(names) => names.clone(),
        Topics::Assigned(partitions) => partitions.iter().map(|of| of.topic.to_string()).collect(),
        Topics::Pattern(_) => BTreeSet::new(),
    }
}
