//! Reads a table into a file.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::{RecordBatch, RecordBatchOptions};

use super::Open;
use super::file::{Frame, FrameWriter, Unsynced};
use super::keep::Keep;
use crate::{ConnectorError, Read, ReadLimit, Result};

/// How long to wait for a reader that has nothing yet.
const PAUSE: Duration = Duration::from_millis(1);

/// A table as it was at one moment.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) frames: Vec<Frame>,
    /// When, microseconds since 1970 UTC.
    pub(super) read_at: i64,
    /// Records that could not be decoded and were left out.
    pub(super) dropped: u64,
}

/// Reads all that the table that `open` opens has now, into a file that is not durable yet; `None` where nobody
/// wants it any more.
pub(super) fn take(
    open: &Open,
    keep: &Keep,
    path: &Path,
    unwanted: &AtomicBool,
) -> Result<Option<(Taken, Unsynced)>> {
    let read_at = chrono::Utc::now().timestamp_micros();
    let mut out = FrameWriter::create(&*keep.storage, path, &keep.schema, read_at)?;
    let mut all_dropped = 0;
    let mut source = open()?;
    source.restore(&[])?;
    source.freeze()?;
    let reader = source.reader();
    while let Some(range) = source.plan(ReadLimit::default())? {
        for split in &range.splits {
            let mut rows = reader.open(split, &keep.columns)?;
            loop {
                if unwanted.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                match rows.read()? {
                    Read::Batch { batch, dropped } => {
                        all_dropped += dropped;
                        out.add(fitted(&batch, keep)?, false)?;
                    }
                    Read::Pending => std::thread::sleep(PAUSE),
                    Read::End => break,
                }
            }
        }
    }
    let (frames, file) = out.finish()?;
    let taken = Taken {
        frames,
        read_at,
        dropped: all_dropped,
    };
    Ok(Some((taken, file)))
}

/// A batch with the schema of the file: readers need not name their columns.
fn fitted(batch: &RecordBatch, keep: &Keep) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let columns = batch.columns().to_vec();
    RecordBatch::try_new_with_options(Arc::clone(&keep.schema), columns, &options).map_err(
        |source| ConnectorError::Arrow {
            context: "reading a static table".into(),
            source,
        },
    )
}
