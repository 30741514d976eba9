//! A table in memory, by key: what a worker looks rows up in.
//!
//! Rows are numbered as they come. They lie in parts: a large one, and small ones of what changed since, which are
//! put together once they are many. Rows that have gone are left out of what their key finds; once they are half
//! of all, the others are moved together.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{concat_batches, interleave, take, take_record_batch};
use arrow::error::ArrowError;
use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::operators::OperatorError;
use crate::operators::join::Prepared;
use crate::row::{Bytes, Delta, hash};

/// So many parts are looked through at most.
const PARTS: usize = 32;

/// So few rows that have gone are no reason to move others.
const FEW: usize = 4096;

/// A table of so few rows is one part: rows of one are taken out faster than rows of several.
const SMALL: usize = 65_536;

/// See the module.
pub(super) struct Table {
    prepared: Arc<Prepared>,
    side: usize,
    parts: Vec<RecordBatch>,
    /// The number of the first row of each part.
    starts: Vec<usize>,
    /// How often each row is there.
    counts: Vec<i64>,
    /// Rows that no key finds any more.
    gone: usize,
    /// Each key once, with its rows.
    keys: Bytes,
    of_key: Vec<SmallVec<[u32; 2]>>,
    index: HashTable<u32>,
    /// Keys of rows that went, since rows were last added up.
    touched: Vec<u32>,
}

impl Table {
    pub(super) fn new(prepared: &Arc<Prepared>, side: usize) -> Self {
        Self {
            prepared: Arc::clone(prepared),
            side,
            parts: Vec::new(),
            starts: Vec::new(),
            counts: Vec::new(),
            gone: 0,
            keys: Bytes::default(),
            of_key: Vec::new(),
            index: HashTable::new(),
            touched: Vec::new(),
        }
    }

    /// The rows of a key.
    pub(super) fn find(&self, key: &[u8]) -> &[u32] {
        self.key(key).map_or(&[], |at| &self.of_key[at])
    }

    /// How often a row is there.
    pub(super) fn count(&self, row: u32) -> i64 {
        self.counts[row as usize]
    }

    /// The columns of some rows; where there is none, nulls.
    pub(super) fn columns(&self, rows: &[Option<u32>]) -> Result<Vec<ArrayRef>, ArrowError> {
        let schema = &self.prepared.sides[self.side].schema;
        match &self.parts[..] {
            [] => Ok((schema.fields().iter())
                .map(|field| new_null_array(field.data_type(), rows.len()))
                .collect()),
            [only] => {
                let rows = UInt32Array::from(rows.to_vec());
                let columns = only.columns().iter();
                columns.map(|column| take(column, &rows, None)).collect()
            }
            parts => {
                let places: Vec<(usize, usize)> = (rows.iter())
                    .map(|row| row.map_or((parts.len(), 0), |row| self.place(row as usize)))
                    .collect();
                let column = |index: usize| {
                    let nothing = new_null_array(schema.field(index).data_type(), 1);
                    let arrays: Vec<&dyn Array> = (parts.iter())
                        .map(|part| &**part.column(index))
                        .chain([&*nothing])
                        .collect();
                    interleave(&arrays, &places)
                };
                (0..schema.fields().len()).map(column).collect()
            }
        }
    }

    /// The part that a row is in, and where.
    fn place(&self, row: usize) -> (usize, usize) {
        let part = self.starts.partition_point(|start| *start <= row) - 1;
        (part, row - self.starts[part])
    }

    fn key(&self, key: &[u8]) -> Option<usize> {
        let found = self
            .index
            .find(hash(key), |at| self.keys.get(*at as usize) == key);
        found.map(|at| *at as usize)
    }

    fn key_or_new(&mut self, key: &[u8]) -> Result<usize, OperatorError> {
        if let Some(at) = self.key(key) {
            return Ok(at);
        }
        let at = self.keys.len();
        (self.keys.try_push(key)).map_err(|source| self.prepared.row_error(source))?;
        let keys = &self.keys;
        self.index
            .insert_unique(hash(key), at as u32, |at| hash(keys.get(*at as usize)));
        self.of_key.push(SmallVec::new());
        Ok(at)
    }

    /// Takes in rows that came or went. [`Table::settle`] adds them up.
    pub(super) fn change(
        &mut self,
        delta: &Delta,
        keys: Option<&Bytes>,
    ) -> Result<(), OperatorError> {
        let first = self.counts.len();
        for row in 0..delta.rows() {
            let at = self.key_or_new(keys.map_or(&[][..], |keys| keys.get(row)))?;
            self.of_key[at].push((first + row) as u32);
            self.counts.push(delta.diff(row));
            if delta.diff(row) < 0 {
                self.touched.push(at as u32);
            }
        }
        self.starts.push(first);
        self.parts.push(delta.batch.clone());
        Ok(())
    }

    /// Adds up rows that are equal where some have gone, and puts parts together.
    pub(super) fn settle(&mut self) -> Result<(), OperatorError> {
        self.add_up()?;
        let rows = |parts: &[RecordBatch]| parts.iter().map(RecordBatch::num_rows).sum::<usize>();
        let has_columns = !self.prepared.sides[self.side].schema.fields().is_empty();
        if has_columns && self.gone > FEW && self.gone * 2 > self.counts.len() {
            return self.move_together();
        }
        let Some((first, later)) = self.parts.split_first() else {
            return Ok(());
        };
        let (first, later) = (first.num_rows(), rows(later));
        let many = self.parts.len() > PARTS || later * 4 > first || first + later <= SMALL;
        if many && self.parts.len() > 1 {
            self.put_together()?;
        }
        Ok(())
    }

    fn add_up(&mut self) -> Result<(), OperatorError> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for of_some in touched.chunks(FEW) {
            let rows: Vec<Option<u32>> = (of_some.iter())
                .flat_map(|key| &self.of_key[*key as usize])
                .map(|row| Some(*row))
                .collect();
            let columns = self.columns(&rows);
            let columns = columns.map_err(|error| self.prepared.arrow_error(&error))?;
            let encoded = if columns.is_empty() {
                // Rows of no columns are all equal.
                None
            } else {
                let encoded = self.prepared.sides[self.side].rows.encode(&columns);
                Some(encoded.map_err(|source| self.prepared.row_error(source))?)
            };
            let value = |at: usize| encoded.as_ref().map_or(&[][..], |rows| rows.get(at));
            let mut first = 0;
            for key in of_some {
                let of_key = &mut self.of_key[*key as usize];
                let mut order: Vec<usize> = (0..of_key.len()).collect();
                order.sort_by_key(|at| value(first + at));
                for same in order.chunk_by(|a, b| value(first + a) == value(first + b)) {
                    let count = same
                        .iter()
                        .map(|at| self.counts[of_key[*at] as usize])
                        .sum();
                    for at in same {
                        self.counts[of_key[*at] as usize] = 0;
                    }
                    self.counts[of_key[same[0]] as usize] = count;
                }
                first += of_key.len();
                let before = of_key.len();
                of_key.retain(|row| self.counts[*row as usize] != 0);
                self.gone += before - of_key.len();
            }
        }
        Ok(())
    }

    /// Makes one part of all.
    fn put_together(&mut self) -> Result<(), OperatorError> {
        let all = concat_batches(self.parts[0].schema_ref(), &self.parts)
            .map_err(|error| self.prepared.arrow_error(&error))?;
        self.parts = vec![all];
        self.starts = vec![0];
        Ok(())
    }

    /// Leaves out the rows that have gone, and the keys that have none any more.
    fn move_together(&mut self) -> Result<(), OperatorError> {
        self.put_together()?;
        let mut moved = Self::new(&self.prepared, self.side);
        let mut rows = Vec::with_capacity(self.counts.len() - self.gone);
        for (key, of_key) in self.of_key.iter().enumerate() {
            if of_key.is_empty() {
                continue;
            }
            let at = moved.key_or_new(self.keys.get(key))?;
            for row in of_key {
                moved.of_key[at].push(rows.len() as u32);
                moved.counts.push(self.counts[*row as usize]);
                rows.push(*row);
            }
        }
        let rows = take_record_batch(&self.parts[0], &UInt32Array::from(rows));
        moved.parts = vec![rows.map_err(|error| self.prepared.arrow_error(&error))?];
        moved.starts = vec![0];
        *self = moved;
        Ok(())
    }
}
