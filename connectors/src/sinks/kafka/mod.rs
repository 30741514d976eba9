//! The `kafka` sink: rows as records of a topic.
//!
//! | module | what it does |
//! |---|---|
//! | `options` | `WITH (...)`, checked |
//! | `records` | rows to keys, values and headers |
//! | `avro` | rows to Avro records, and their schema in a registry |
//! | `producer` | sending, and the transactions |
//!
//! | mode | a row |
//! |---|---|
//! | append | a record |
//! | update | a record under its key; a row that is gone is a tombstone |
//! | changelog | Debezium's envelope: `before`, `after`, `op` |
//!
//! Exactly once: an epoch is one transaction, so one writer writes all of it. At least once: every
//! worker writes what it has.

mod avro;
mod options;
mod producer;
mod records;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use self::options::{Form, SinkOptions};
use self::producer::Producer;
use self::records::Records;
use crate::{
    Acknowledged, Delivery, Distribution, Options, Output, Result, Sink, SinkConfig, SinkWriter,
    Staged, Staging, Visible,
};

/// Writes records to a topic.
pub struct KafkaSink {
    options: Arc<SinkOptions>,
    /// Made when it is first needed.
    producer: Mutex<Option<Arc<Producer>>>,
}

impl fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSink")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl KafkaSink {
    /// Opens the sink. The brokers are not asked yet.
    pub fn open(options: &Options, config: &SinkConfig) -> Result<Self> {
        Ok(Self {
            options: Arc::new(SinkOptions::new(options, config)?),
            producer: Mutex::new(None),
        })
    }

    fn producer(&self) -> Result<Arc<Producer>> {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(producer) = &*producer {
            return Ok(Arc::clone(producer));
        }
        let connected = Arc::new(Producer::connect(&self.options)?);
        Ok(Arc::clone(producer.insert(connected)))
    }
}

impl Sink for KafkaSink {
    fn description(&self) -> String {
        let topic = self.options.topic.as_deref();
        format!("KafkaSink[{}]", topic.unwrap_or("a topic of each row"))
    }

    fn delivery(&self) -> Delivery {
        self.options.delivery
    }

    fn distribution(&self) -> Distribution {
        match self.options.delivery {
            Delivery::ExactlyOnce => Distribution::Single,
            Delivery::AtLeastOnce => Distribution::PerWorker,
        }
    }

    /// Those who read uncommitted records see them, transaction or not.
    fn visible(&self) -> Visible {
        Visible::AsWritten
    }

    /// A producer has one transaction at a time.
    fn overlaps(&self) -> bool {
        self.options.delivery == Delivery::AtLeastOnce
    }

    fn last_committed(&mut self) -> Result<Option<u64>> {
        self.producer()?.last_committed(&self.options)
    }

    fn discard_uncommitted(&mut self) -> Result<()> {
        self.producer()?.abort(&self.options)
    }

    fn commit(&mut self, epoch: u64, _: &[Staged]) -> Result<()> {
        self.producer()?.commit(&self.options, epoch)
    }

    fn writer(&self, _: usize) -> Result<Box<dyn SinkWriter>> {
        if let Form::Avro(form) = &self.options.form {
            // What is wrong with the registry shows before there are rows.
            form.encoding()?;
        }
        Ok(Box::new(KafkaWriter {
            options: Arc::clone(&self.options),
            producer: self.producer()?,
            records: Records::default(),
            rows: 0,
        }))
    }
}

struct KafkaWriter {
    options: Arc<SinkOptions>,
    producer: Arc<Producer>,
    records: Records,
    /// Records since the last `stage`.
    rows: u64,
}

impl SinkWriter for KafkaWriter {
    fn write(&mut self, epoch: u64, output: &Output) -> Result<()> {
        let Self {
            options,
            producer,
            records,
            rows,
        } = self;
        producer.begin(options, epoch)?;
        records.of(output, options, |record| {
            *rows += 1;
            producer.send(options, epoch, record)
        })?;
        producer.check(options)
    }

    fn stage(&mut self, _: u64) -> Result<Staged> {
        self.producer.flush(&self.options)?;
        Ok(self.staged())
    }

    fn stage_apart(&mut self, epoch: u64) -> Result<Staging> {
        if !self.options.counts() {
            let staged = self.stage(epoch)?;
            return Ok(Box::new(move || Ok(staged)));
        }
        let (options, producer) = (Arc::clone(&self.options), Arc::clone(&self.producer));
        let staged = self.staged();
        Ok(Box::new(move || {
            producer.settle(&options, epoch)?;
            Ok(staged)
        }))
    }

    fn when_acknowledged(&mut self, epoch: u64, then: Acknowledged) {
        self.producer.when_arrived(epoch, then);
    }
}

impl KafkaWriter {
    fn staged(&mut self) -> Staged {
        Staged {
            rows: std::mem::take(&mut self.rows),
            token: Value::Null,
        }
    }
}
