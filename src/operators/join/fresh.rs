//! What is new in an epoch, by input and key.

use std::ops::Range;

use crate::operators::join::encode::LONE;
use crate::row::{Bytes, RowError};
use crate::state::{Rows, places_by_row};
use crate::time::EventTime;

/// A row that came or went.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    /// As it is kept.
    pub(super) value: &'a [u8],
    pub(super) diff: i64,
    pub(super) expiry: EventTime,
}

/// The rows of one input, sorted by key and value, each once.
#[derive(Default)]
pub(super) struct Side<'a> {
    /// Each key once.
    pub(super) keys: Bytes,
    /// Where the rows of each key end.
    ends: Vec<usize>,
    pub(super) rows: Vec<Row<'a>>,
    /// Those that match nothing, apart.
    pub(super) lone: Vec<Row<'a>>,
}

impl<'a> Side<'a> {
    /// Where the rows of a key are.
    pub(super) fn of_key(&self, key: usize) -> Range<usize> {
        let start = if key == 0 { 0 } else { self.ends[key - 1] };
        start..self.ends[key]
    }

    fn add(&mut self, key: &[u8], tag: u8, row: Row<'a>) -> Result<(), RowError> {
        if row.diff == 0 {
            return Ok(());
        }
        if tag >= LONE {
            self.lone.push(row);
            return Ok(());
        }
        self.rows.push(row);
        if self.keys.last() == Some(key) {
            if let Some(end) = self.ends.last_mut() {
                *end += 1;
            }
        } else {
            self.keys.try_push(key)?;
            self.ends.push(self.rows.len());
        }
        Ok(())
    }
}

/// The rows of both inputs.
pub(super) fn fresh(parts: &[Rows]) -> Result<[Side<'_>; 2], RowError> {
    let mut sides = [Side::default(), Side::default()];
    let places = places_by_row(parts);
    let value = |place: &(u64, u32, u32)| parts[place.1 as usize].vals.get(place.2 as usize);
    let key = |place: &(u64, u32, u32)| parts[place.1 as usize].keys.get(place.2 as usize);
    for of_key in places.chunk_by(|a, b| a.0 == b.0 && key(a) == key(b)) {
        for same in of_key.chunk_by(|a, b| value(a) == value(b)) {
            let Some((tag, rest)) = value(&same[0]).split_first() else {
                continue;
            };
            let diffs = same
                .iter()
                .map(|at| parts[at.1 as usize].diffs.get(at.2 as usize));
            let row = Row {
                value: rest,
                diff: diffs.sum(),
                expiry: parts[same[0].1 as usize].expiry.get(same[0].2 as usize),
            };
            sides[usize::from(tag % LONE)].add(key(&same[0]), *tag, row)?;
        }
    }
    Ok(sides)
}
