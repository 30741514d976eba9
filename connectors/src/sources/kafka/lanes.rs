//! Connections that stand at their place in a partition, and read ahead.
//!
//! A lane is a client that has partitions assigned, each with a queue of its own. A split that
//! begins where the last one of its partition ended finds its records fetched already. Where a
//! partition is read twice at the same time (a table that a query uses twice) there are two lanes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionListElem;

use super::options::SourceOptions;
use crate::Result;
use crate::kafka::client::{self, broker_error};
use crate::kafka::{Consumer, TopicPartition, Watch};

/// How long a queue may take to be put at another place.
const SEEK: Duration = Duration::from_secs(10);

/// The lanes of one process.
#[derive(Default)]
pub(super) struct Lanes {
    all: Mutex<Vec<Lane>>,
}

impl std::fmt::Debug for Lanes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lanes").finish_non_exhaustive()
    }
}

struct Lane {
    consumer: Arc<Consumer>,
    /// It tells of the ends of partitions.
    ends: bool,
    /// The partitions assigned; `None` for one that is being read.
    partitions: HashMap<TopicPartition, Option<Standing>>,
}

/// A queue and the offset up to which records were taken from it.
struct Standing {
    queue: PartitionQueue<Watch>,
    next: i64,
}

/// The queue of a partition, in the hands of one reader.
pub(super) struct Queue {
    pub(super) consumer: Arc<Consumer>,
    pub(super) queue: PartitionQueue<Watch>,
}

impl Lanes {
    /// The queue of a partition, with records from `start` on, and where it `ends`: who follows a partition
    /// would be told of an end with each record.
    pub(super) fn take(
        &self,
        options: &SourceOptions,
        of: &TopicPartition,
        start: i64,
        ends: bool,
    ) -> Result<Queue> {
        let mut lanes = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let at = |lane: &Lane| match lane.partitions.get(of) {
            _ if lane.ends != ends => 3,
            Some(Some(standing)) if standing.next == start => 0,
            None => 1,
            Some(Some(_)) => 2,
            Some(None) => 3,
        };
        let best = (0..lanes.len()).min_by_key(|index| at(&lanes[*index]));
        let index = if let Some(index) = best.filter(|index| at(&lanes[*index]) < 3) {
            index
        } else {
            lanes.push(Lane {
                consumer: Arc::new(consumer(options, ends)?),
                ends,
                partitions: HashMap::new(),
            });
            lanes.len() - 1
        };
        let lane = &mut lanes[index];
        let queue = match lane.partitions.insert(of.clone(), None).flatten() {
            Some(standing) => {
                let queue = Queue {
                    consumer: Arc::clone(&lane.consumer),
                    queue: standing.queue,
                };
                if standing.next != start {
                    queue.seek(options, of, start)?;
                }
                queue
            }
            None => assign(options, &lane.consumer, of, start)?,
        };
        Ok(queue)
    }

    /// Takes a queue back whose records were taken up to `next`.
    pub(super) fn give_back(&self, of: &TopicPartition, queue: Queue, next: i64) {
        let mut lanes = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes
            .iter_mut()
            .find(|lane| Arc::ptr_eq(&lane.consumer, &queue.consumer));
        if let Some(lane) = lane {
            let standing = Standing {
                queue: queue.queue,
                next,
            };
            lane.partitions.insert(of.clone(), Some(standing));
        }
    }
}

/// A client that only reads what it is told to.
fn consumer(options: &SourceOptions, ends: bool) -> Result<Consumer> {
    let mut config = options.client.config();
    config
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", ends.to_string())
        .set("auto.offset.reset", "error");
    if options.client.get("group.id").is_none() {
        // It never joins the group, but without one it may not assign.
        config.set("group.id", &options.group_prefix);
    }
    client::create(&options.client, &config)
}

/// The queue of a partition of a client of its own, to read something once more.
pub(super) fn aside(options: &SourceOptions, of: &TopicPartition, start: i64) -> Result<Queue> {
    assign(options, &Arc::new(consumer(options, true)?), of, start)
}

fn assign(
    options: &SourceOptions,
    consumer: &Arc<Consumer>,
    of: &TopicPartition,
    start: i64,
) -> Result<Queue> {
    let failed = |reason: String| {
        let action = format!("cannot read {of}@{start}");
        broker_error(&options.client, action, None, reason)
    };
    let queue = consumer
        .split_partition_queue(&of.topic, of.partition)
        .ok_or_else(|| failed("the client has no queue for it".into()))?;
    one(of, start)
        .and_then(|list| consumer.incremental_assign(&list))
        .map_err(|error| failed(error.to_string()))?;
    Ok(Queue {
        consumer: Arc::clone(consumer),
        queue,
    })
}

fn one(of: &TopicPartition, offset: i64) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(&of.topic, of.partition, Offset::Offset(offset))?;
    Ok(list)
}

impl Queue {
    /// Puts the queue at `offset`: whatever was fetched before is forgotten.
    pub(super) fn seek(
        &self,
        options: &SourceOptions,
        of: &TopicPartition,
        offset: i64,
    ) -> Result<()> {
        let sought = one(of, offset).and_then(|list| {
            let sought = self.consumer.seek_partitions(list.clone(), SEEK);
            let sought = sought.and_then(|list| {
                list.elements()
                    .iter()
                    .try_for_each(TopicPartitionListElem::error)
            });
            // One that stopped at an error cannot be put elsewhere: it is assigned anew.
            sought.or_else(|_| {
                self.consumer.incremental_unassign(&list)?;
                self.consumer.incremental_assign(&list)
            })
        });
        sought.map_err(|error| {
            let action = format!("cannot read {of}@{offset}");
            let code = error.rdkafka_error_code();
            broker_error(&options.client, action, code, error.to_string())
        })
    }
}
