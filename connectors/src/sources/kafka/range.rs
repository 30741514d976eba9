//! The records of a range of offsets.
//!
//! The end of a range need not be a record: markers of transactions and what compaction removed
//! have offsets too. Then nothing with a greater offset may come for long, and what tells is the
//! end of the partition. A message that the end was reached may have lain in the queue since before
//! the range was planned; so the queue is put at its place once more, and what comes first after
//! that is sure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;

use super::KafkaSplit;
use super::lanes::{Lanes, Queue, aside};
use super::options::SourceOptions;
use crate::kafka::TopicPartition;
use crate::kafka::client::{self, Client as _, broker_error};
use crate::{ConnectorError, Result, Wake};

/// What stands after some records were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Whoever takes them has enough for now.
    Enough,
    /// No more are here yet.
    Waiting,
    /// There are no more.
    End,
}

/// What a client has to tell beside records is asked for this often.
const SERVE: Duration = Duration::from_millis(20);

/// The end of a partition that is followed.
pub(super) const ENDLESS: i64 = i64::MAX;

/// Reads from `next` to before `end`.
pub(super) struct Range {
    options: Arc<SourceOptions>,
    /// Where the queue goes back to.
    lanes: Option<Arc<Lanes>>,
    pub(super) of: TopicPartition,
    queue: Option<Queue>,
    /// Nothing before it has been read.
    pub(super) start: i64,
    pub(super) next: i64,
    /// [`ENDLESS`] where there is none.
    end: i64,
    /// The queue was put at its place, and nothing came since.
    confirming: bool,
    /// When something last came.
    heard: Instant,
    /// When the client was last asked what else there is.
    served: Option<Instant>,
}

impl Range {
    /// The records of a split, from a lane.
    pub(super) fn open(
        options: &Arc<SourceOptions>,
        lanes: &Arc<Lanes>,
        split: &KafkaSplit,
    ) -> Result<Self> {
        let ends = split.end != ENDLESS;
        let queue = lanes.take(options, &split.partition(), split.start, ends)?;
        Ok(Self::new(options, Some(Arc::clone(lanes)), split, queue))
    }

    /// The records of a split, once more.
    pub(super) fn again(options: &Arc<SourceOptions>, split: &KafkaSplit) -> Result<Self> {
        let queue = aside(options, &split.partition(), split.start)?;
        Ok(Self::new(options, None, split, queue))
    }

    fn new(
        options: &Arc<SourceOptions>,
        lanes: Option<Arc<Lanes>>,
        split: &KafkaSplit,
        queue: Queue,
    ) -> Self {
        queue.consumer.context().forget();
        Self {
            options: Arc::clone(options),
            lanes,
            of: split.partition(),
            queue: Some(queue),
            start: split.start,
            next: split.start,
            end: split.end,
            confirming: false,
            heard: Instant::now(),
            served: None,
        }
    }

    /// Calls `wake` whenever there is something after there was nothing.
    pub(super) fn wake(&mut self, wake: Wake) {
        if let Some(queue) = &mut self.queue {
            queue.queue.set_nonempty_callback(move || wake());
        }
    }

    /// Hands the records that are here to `take`, until it says that it has enough.
    pub(super) fn records(
        &mut self,
        mut take: impl FnMut(&BorrowedMessage<'_>) -> Result<bool>,
    ) -> Result<Standing> {
        let Some(queue) = &self.queue else {
            return Ok(Standing::End);
        };
        // A clock for each record would cost as much as its offset: it is read again after what may take long.
        let mut now = Instant::now();
        if self.served.is_none_or(|served| now - served >= SERVE) {
            queue.consumer.serve();
            self.served = Some(now);
        }
        while self.next < self.end {
            match queue.queue.poll(Duration::ZERO) {
                None => return self.waiting(),
                Some(Ok(message)) => {
                    self.heard = now;
                    self.confirming = false;
                    let offset = message.offset();
                    if offset < self.next {
                        continue;
                    }
                    self.next = offset + 1;
                    if offset >= self.end {
                        // It belongs to the next range, which will put the queue back.
                        return Ok(Standing::End);
                    }
                    if !take(&message)? {
                        return Ok(if self.next < self.end {
                            Standing::Enough
                        } else {
                            Standing::End
                        });
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    self.heard = Instant::now();
                    if self.confirming {
                        self.next = self.end;
                    } else {
                        queue.seek(&self.options, &self.of, self.next)?;
                        self.confirming = true;
                        now = Instant::now();
                    }
                }
                Some(Err(error)) => {
                    if let Some(next) = self.trouble(queue, &error)? {
                        self.next = next.min(self.end);
                        self.start = self.start.min(next);
                        queue.seek(&self.options, &self.of, next)?;
                    }
                    now = Instant::now();
                }
            }
        }
        Ok(Standing::End)
    }

    /// Nothing is here: fine for a while.
    fn waiting(&self) -> Result<Standing> {
        let Some(queue) = &self.queue else {
            return Ok(Standing::End);
        };
        let watch = queue.consumer.context();
        if let Some((code, reason)) = watch.lasting()
            && self.heard.elapsed() >= client::FIRST_ANSWER
        {
            return Err(self.error(Some(code), reason));
        }
        if self.end == ENDLESS || self.heard.elapsed() < self.options.timeout {
            return Ok(Standing::Waiting);
        }
        let waited = self.options.timeout.as_secs_f64();
        let mut reason = format!("no record came for {waited} s ('kafkaConsumer.pollTimeoutMs')");
        if let Some((_, last)) = watch.last() {
            reason = format!("{reason}; {last}");
        }
        Err(self.error(None, reason))
    }

    fn error(&self, code: Option<RDKafkaErrorCode>, reason: impl Into<String>) -> ConnectorError {
        let action = format!("cannot read {}@{}", self.of, self.next);
        broker_error(&self.options.client, action, code, reason)
    }

    /// What to do about an error: an offset to go on at, nothing, or give up.
    fn trouble(&self, queue: &Queue, error: &KafkaError) -> Result<Option<i64>> {
        let Some(code) = error.rdkafka_error_code() else {
            return Err(self.error(None, error.to_string()));
        };
        if client::is_lasting(code) {
            return Err(self.error(Some(code), code.to_string()));
        }
        let out_of_range = matches!(
            code,
            RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::OffsetOutOfRange
                | RDKafkaErrorCode::LogTruncation
        );
        if !out_of_range && !client::is_unknown(code) {
            // librdkafka goes on by itself.
            return Ok(None);
        }
        let edges = queue.consumer.fetch_watermarks(
            &self.of.topic,
            self.of.partition,
            client::FIRST_ANSWER,
        );
        match edges {
            Ok((low, high)) if (low..=high).contains(&self.next) => {
                // A leader that has only just become one.
                queue.seek(&self.options, &self.of, self.next)?;
                Ok(None)
            }
            Ok((low, high)) => self.lost(
                format!(
                    "{} are gone, the partition holds {low} to {high}: retention or a truncation was faster than the query",
                    self.wanted()
                ),
                low,
            ),
            Err(error) if error.rdkafka_error_code().is_some_and(client::is_unknown) => {
                self.lost(format!("{} are gone with the topic", self.wanted()), self.end)
            }
            Err(_) => Ok(None),
        }
    }

    /// The offsets that are still to be read, for messages.
    fn wanted(&self) -> String {
        match self.end {
            ENDLESS => format!("offsets from {} on", self.next),
            end => format!("offsets {} to {end}", self.next),
        }
    }

    fn lost(&self, reason: String, go_on: i64) -> Result<Option<i64>> {
        if self.options.fail_on_data_loss {
            return Err(ConnectorError::DataLoss {
                place: self.of.to_string(),
                reason,
                remedy: "Write 'failOnDataLoss' = 'false' to go on with what there is; a longer retention gives a query more time".into(),
            });
        }
        if self.end == ENDLESS {
            // A topic that is gone may come back; then it begins anew.
            return Ok((go_on != ENDLESS).then_some(go_on));
        }
        // Behind it there is nothing of this range.
        Ok(Some(if go_on < self.next { self.end } else { go_on }))
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        if let (Some(lanes), Some(queue)) = (&self.lanes, self.queue.take()) {
            lanes.give_back(&self.of, queue, self.next);
        }
    }
}
