//! Reads the frames that splits name.

use std::sync::Arc;

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::file::{Frame, FrameReader};
use super::keep::Keep;
use crate::{ConnectorError, Place, Read, Result, SourceReader, Split, SplitReader};

/// So many rows are handed over at once.
const BATCH: usize = 8192;

/// What a split names.
#[derive(Serialize, Deserialize)]
struct Piece {
    /// The table, for people.
    table: String,
    /// The number of the snapshot.
    snapshot: u64,
    /// A file beside the checkpoint's others.
    file: String,
    /// Where the frame begins in it.
    at: u64,
    /// How many records were left out where the table was read.
    #[serde(default, skip_serializing_if = "is_zero")]
    dropped: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The splits of the frames of a file. The first of them counts what was left out.
pub(super) fn splits(
    (partition, table): (&Arc<str>, &str),
    snapshot: u64,
    file: &str,
    frames: &[Frame],
    dropped: u64,
) -> Vec<Split> {
    let piece = |(index, frame): (usize, &Frame)| Split {
        partition: Arc::clone(partition),
        range: serde_json::to_value(Piece {
            table: table.to_owned(),
            snapshot,
            file: file.to_owned(),
            at: frame.at,
            dropped: if index == 0 { dropped } else { 0 },
        })
        .expect("a piece is plain data"),
        bytes: u64::from(frame.bytes),
    };
    frames.iter().enumerate().map(piece).collect()
}

fn piece(range: &Value) -> Option<Piece> {
    Piece::deserialize(range).ok()
}

/// Reads from the files of a table, or where there are none from the table itself.
#[derive(Debug)]
pub(super) struct SnapshotReader {
    pub(super) inner: Arc<dyn SourceReader>,
    pub(super) keep: Option<Arc<Keep>>,
}

impl SourceReader for SnapshotReader {
    fn open(&self, split: &Split, projection: &[usize]) -> Result<Box<dyn SplitReader>> {
        // Versions before this one logged what the table itself understands.
        let (Some(keep), Some(piece)) = (&self.keep, piece(&split.range)) else {
            return self.inner.open(split, projection);
        };
        let columns = (projection.iter())
            .map(|wanted| {
                let found = keep.columns.iter().position(|column| column == wanted);
                found.ok_or_else(|| {
                    ConnectorError::Inconsistent(format!(
                        "{}: its snapshot has no column {wanted}; begin with a new checkpoint",
                        piece.table
                    ))
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let path = keep.dir.join(&piece.file);
        let mut file = FrameReader::open(&*keep.storage, &path)?;
        let frame = file.frame(piece.at)?;
        let rows = file.rows(&frame)?;
        let rows = rows
            .project(&columns)
            .map_err(|source| ConnectorError::Arrow {
                context: format!("reading {}", path.display()),
                source,
            })?;
        Ok(Box::new(FrameRows {
            rows,
            at: 0,
            gone: frame.gone,
            dropped: piece.dropped,
        }))
    }

    fn locate(&self, split: &Split, projection: &[usize], rows: &[u64]) -> Result<Vec<Place>> {
        let Some(piece) = piece(&split.range) else {
            return self.inner.locate(split, projection, rows);
        };
        let place = |row: &u64| Place {
            text: format!(
                "{}, row {row} of {} at {} (its rows have no order)",
                piece.table, piece.file, piece.at
            ),
            ..Place::default()
        };
        Ok(rows.iter().map(place).collect())
    }
}

struct FrameRows {
    rows: RecordBatch,
    at: usize,
    gone: bool,
    dropped: u64,
}

impl SplitReader for FrameRows {
    fn read(&mut self) -> Result<Read> {
        let left = self.rows.num_rows() - self.at;
        if left == 0 {
            return Ok(Read::End);
        }
        let batch = self.rows.slice(self.at, left.min(BATCH));
        self.at += batch.num_rows();
        Ok(Read::Batch {
            batch,
            dropped: std::mem::take(&mut self.dropped),
        })
    }

    fn retracts(&self) -> bool {
        self.gone
    }
}
