//! Rows that a thread of its own reads ahead of whoever takes them.
//!
//! A statement borrows its connection, and a connection that waits for its server wants its thread for itself:
//! both stay where they were made, and batches come over a channel that holds a few.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use arrow::array::RecordBatch;

use crate::{ConnectorError, Read, Result, SplitReader};

/// Batches that are read ahead.
const AHEAD: usize = 2;

/// What the thread has to say; `None`: that was all.
type Said = Result<Option<RecordBatch>>;

/// Where a thread puts what it has read.
pub(super) struct Taker(SyncSender<Said>);

impl Taker {
    /// Hands rows over, waiting until there is room; `false`: nobody wants more.
    pub(super) fn give(&self, batch: RecordBatch) -> bool {
        self.0.send(Ok(Some(batch))).is_ok()
    }
}

/// Has a thread `read` what is at `place`.
pub(super) fn read_ahead(
    place: String,
    read: impl FnOnce(&Taker) -> Result<()> + Send + 'static,
) -> Result<Box<dyn SplitReader>> {
    let (sender, batches) = sync_channel(AHEAD);
    let taker = Taker(sender);
    let spawned = std::thread::Builder::new()
        .name("tidemark-table".into())
        .spawn(move || {
            let ended = read(&taker).map(|()| None);
            // Whoever does not take it has ended.
            let _ = taker.0.send(ended);
        });
    match spawned {
        Ok(_) => Ok(Box::new(Batches {
            said: batches,
            place,
            ended: false,
        })),
        Err(error) => Err(failed(&place, &error.to_string())),
    }
}

fn failed(place: &str, reason: &str) -> ConnectorError {
    ConnectorError::Database {
        action: "cannot read",
        place: place.into(),
        reason: reason.into(),
        remedy: "Start again",
    }
}

struct Batches {
    said: Receiver<Said>,
    place: String,
    ended: bool,
}

impl SplitReader for Batches {
    fn read(&mut self) -> Result<Read> {
        if self.ended {
            return Ok(Read::End);
        }
        // Without the word that it was all, rows may be missing.
        let said = self.said.recv().unwrap_or_else(|_| {
            Err(failed(
                &self.place,
                "the thread that reads ended before its time",
            ))
        })?;
        self.ended = said.is_none();
        Ok(match said {
            Some(batch) => Read::Batch { batch, dropped: 0 },
            None => Read::End,
        })
    }
}
