//! What became of a table from one snapshot to the next: the rows that came and the rows that went.
//!
//! Tables have no order and may hold a row many times, so they are compared as multisets, by a hash of 128 bits
//! of each row. Its keys are drawn anew each time: nobody can make rows that meet. Where there are many rows they
//! are compared a part at a time, each part those whose hash says so, which bounds what is in memory.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};

use super::file::{Frame, FrameReader, FrameWriter};
use super::keep::Keep;
use super::take::Taken;
use crate::{ConnectorError, Result};

/// So many rows are compared at a time: some 100 MB.
const PART: u64 = 1 << 21;

/// Writes what changed into a file, which is durable but for its name then; `None` where nothing did.
pub(super) fn compare(
    keep: &Keep,
    (old, before): (&Path, &[Frame]),
    (new, taken): (&Path, &Taken),
    changes: &Path,
) -> Result<Option<Vec<Frame>>> {
    let after = &taken.frames;
    let same = before.len() == after.len()
        && (before.iter().zip(after)).all(|(one, other)| one.is_like(other));
    if same {
        return Ok(None);
    }
    let storage = &*keep.storage;
    let mut old = FrameReader::open(storage, old)?;
    let mut new = FrameReader::open(storage, new)?;
    let mut out = FrameWriter::create(storage, changes, &keep.schema, taken.read_at)?;
    let failed = |source| ConnectorError::Arrow {
        context: format!("comparing {}", changes.display()),
        source,
    };
    let fields: Vec<SortField> = (keep.schema.fields().iter())
        .map(|field| SortField::new(field.data_type().clone()))
        .collect();
    if !RowConverter::supports_fields(&fields) {
        // Such rows cannot be told from each other: all went, all came.
        for frame in before {
            out.add(old.rows(frame)?, true)?;
        }
        for frame in after {
            out.add(new.rows(frame)?, false)?;
        }
        let (frames, file) = out.finish()?;
        file.sync()?;
        return Ok(Some(frames));
    }
    let hasher = Hasher {
        converter: RowConverter::new(fields).map_err(failed)?,
        keys: [RandomState::new(), RandomState::new()],
    };
    let rows = |frames: &[Frame]| {
        frames
            .iter()
            .map(|frame| u64::from(frame.rows))
            .sum::<u64>()
    };
    let parts = rows(before).max(rows(after)).div_ceil(PART).max(1);
    let mut counts: HashMap<u128, u32> = HashMap::new();
    for part in 0..parts {
        let belongs = |hash: u128| (hash >> 64) as u64 % parts == part;
        for frame in before {
            for hash in hasher.hashes(&old.rows(frame)?).map_err(failed)? {
                if belongs(hash) {
                    *counts.entry(hash).or_default() += 1;
                }
            }
        }
        let mut unmatched = |hash: u128| {
            belongs(hash)
                && match counts.get_mut(&hash) {
                    Some(count) if *count > 0 => {
                        *count -= 1;
                        false
                    }
                    _ => true,
                }
        };
        for frame in after {
            let rows = new.rows(frame)?;
            let came = hasher.keep(&rows, &mut unmatched).map_err(failed)?;
            out.add(came, false)?;
        }
        // What is left in the counts has gone.
        let mut left = |hash: u128| belongs(hash) && !unmatched(hash);
        for frame in before {
            let rows = old.rows(frame)?;
            let went = hasher.keep(&rows, &mut left).map_err(failed)?;
            out.add(went, true)?;
        }
        counts.clear();
    }
    let (frames, file) = out.finish()?;
    if frames.is_empty() {
        return Ok(None);
    }
    file.sync()?;
    Ok(Some(frames))
}

struct Hasher {
    converter: RowConverter,
    keys: [RandomState; 2],
}

impl Hasher {
    fn hashes(&self, batch: &RecordBatch) -> Result<Vec<u128>, ArrowError> {
        if batch.num_columns() == 0 {
            return Ok(vec![0; batch.num_rows()]);
        }
        let rows = self.converter.convert_columns(batch.columns())?;
        let hash = |bytes: &[u8]| {
            let [high, low] = [0, 1].map(|key| u128::from(self.keys[key].hash_one(bytes)));
            high << 64 | low
        };
        Ok(rows.iter().map(|row| hash(row.as_ref())).collect())
    }

    /// The rows whose hash is wanted.
    fn keep(
        &self,
        batch: &RecordBatch,
        wanted: &mut dyn FnMut(u128) -> bool,
    ) -> Result<RecordBatch, ArrowError> {
        let hashes = self.hashes(batch)?;
        let mask: BooleanArray = hashes.into_iter().map(|hash| Some(wanted(hash))).collect();
        if mask.true_count() == 0 {
            return Ok(batch.slice(0, 0));
        }
        filter_record_batch(batch, &mask)
    }
}
