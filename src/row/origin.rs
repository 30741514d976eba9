//! Where the rows of a batch were read.
//!
//! A row's *position* is that as bytes, memory-comparable, and different for each row of a query:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | the source's index in the plan |
//! | any | the partition: a zero byte becomes `00 ff`, `00 00` ends it |
//! | 8 | the epoch |
//! | 4 | the split's number |
//! | 8 | the row of the split |
//! | 4 | which of the rows that came of that one |
//!
//! Numbers are big-endian. So rows of one partition are in the order in which they were read,
//! however they were cut into epochs.

use std::sync::Arc;

use arrow::array::{Array, BinaryArray, BinaryBuilder, BooleanArray, UInt32Array};

/// Where the rows of a batch were read: all in one split.
///
/// A row keeps its origin as long as it is still one row that was read: through filters,
/// projections and unions. All elements of a list that became rows share theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The source's index in the plan.
    pub source: usize,
    /// The partition of the source.
    pub partition: Arc<str>,
    /// The number of the split among those of the source in the epoch.
    pub split: u32,
    rows: Rows,
}

/// Which rows of the split, counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rows {
    From(u64),
    /// Each with its number among those that came of one row that was read.
    Listed(Arc<[(u64, u32)]>),
}

/// The numbers at the end of a position, and its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The source's index in the plan.
    pub source: u32,
    /// The split's number.
    pub split: u32,
    /// The row of the split.
    pub row: u64,
    /// Which of the rows that came of that one.
    pub ordinal: u32,
}

impl Place {
    /// What a position says; `None` where the bytes are none.
    pub fn of(position: &[u8]) -> Option<Self> {
        let (source, rest) = position.split_first_chunk()?;
        let (rest, ordinal) = rest.split_last_chunk()?;
        let (rest, row) = rest.split_last_chunk()?;
        let (_, split) = rest.split_last_chunk()?;
        Some(Self {
            source: u32::from_be_bytes(*source),
            split: u32::from_be_bytes(*split),
            row: u64::from_be_bytes(*row),
            ordinal: u32::from_be_bytes(*ordinal),
        })
    }
}

impl Origin {
    /// Rows that lie side by side in a split, from row `first` on.
    pub fn contiguous(source: usize, partition: Arc<str>, split: u32, first: u64) -> Self {
        Self {
            source,
            partition,
            split,
            rows: Rows::From(first),
        }
    }

    /// Which row of the split row `index` of the batch is.
    #[inline]
    pub fn row(&self, index: usize) -> u64 {
        self.numbers(index).0
    }

    #[inline]
    fn numbers(&self, index: usize) -> (u64, u32) {
        match &self.rows {
            Rows::From(first) => (first + index as u64, 0),
            Rows::Listed(rows) => rows[index],
        }
    }

    /// The positions of the first `count` rows, which were read in `epoch`.
    pub fn positions(&self, epoch: u64, count: usize) -> BinaryArray {
        let mut bytes = (self.source as u32).to_be_bytes().to_vec();
        for byte in self.partition.bytes() {
            bytes.push(byte);
            if byte == 0 {
                bytes.push(0xff);
            }
        }
        bytes.extend([0, 0]);
        bytes.extend(epoch.to_be_bytes());
        bytes.extend(self.split.to_be_bytes());
        let fixed = bytes.len();
        let mut positions = BinaryBuilder::with_capacity(count, count * (fixed + 12));
        for index in 0..count {
            let (row, ordinal) = self.numbers(index);
            bytes.truncate(fixed);
            bytes.extend(row.to_be_bytes());
            bytes.extend(ordinal.to_be_bytes());
            positions.append_value(&bytes);
        }
        positions.finish()
    }

    /// The origin of the rows that `keep` keeps: those that are true, without null.
    #[must_use]
    pub fn filter(&self, keep: &BooleanArray) -> Self {
        let true_rows = keep.values().set_indices();
        self.listed(true_rows.filter(|row| keep.is_valid(*row)))
    }

    /// The origin of rows that came of the rows at these indices, those of one side by side.
    #[must_use]
    pub fn expand(&self, indices: &UInt32Array) -> Self {
        let mut last = None;
        let rows = indices.values().iter().map(|index| {
            let row = self.row(*index as usize);
            let ordinal = match last {
                Some((before, ordinal)) if before == row => ordinal + 1,
                _ => 0,
            };
            last = Some((row, ordinal));
            (row, ordinal)
        });
        Self {
            rows: Rows::Listed(rows.collect()),
            ..self.clone()
        }
    }

    /// The origin of the rows from `offset` on.
    #[must_use]
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        match &self.rows {
            Rows::From(first) => Self {
                rows: Rows::From(first + offset as u64),
                ..self.clone()
            },
            Rows::Listed(_) => self.listed(offset..offset + length),
        }
    }

    fn listed(&self, indices: impl Iterator<Item = usize>) -> Self {
        Self {
            rows: Rows::Listed(indices.map(|index| self.numbers(index)).collect()),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_numbers_through_filter_expand_and_slice() {
        let origin = Origin::contiguous(0, "p".into(), 2, 100);
        let kept = origin.filter(&BooleanArray::from(vec![
            Some(true),
            None,
            Some(false),
            Some(true),
        ]));
        assert_eq!([kept.row(0), kept.row(1)], [100, 103]);
        let taken = kept.expand(&UInt32Array::from(vec![1, 1, 0]));
        assert_eq!([taken.row(0), taken.row(1), taken.row(2)], [103, 103, 100]);
        assert_eq!(taken.slice(2, 1).row(0), 100);
        assert_eq!(origin.slice(5, 2).row(1), 106);
    }

    #[test]
    fn positions_differ_and_are_in_the_order_of_reading() {
        let read =
            |partition: &str, split, first| Origin::contiguous(1, partition.into(), split, first);
        let expanded = read("a", 1, 7).expand(&UInt32Array::from(vec![0, 0, 1]));
        let all = [
            read("a", 0, 300).positions(2, 2),
            expanded.positions(2, 3),
            read("a", 0, 0).positions(3, 1),
            read("a\0", 0, 0).positions(0, 1),
            read("ab", 0, 0).positions(0, 1),
        ];
        let all: Vec<&[u8]> = all.iter().flatten().flatten().collect();
        assert!(all.is_sorted_by(|a, b| a < b), "{all:?}");
        assert_eq!(all.len(), 8);
        let kept = expanded
            .slice(1, 2)
            .filter(&BooleanArray::from(vec![true, false]));
        assert_eq!(kept.positions(2, 1).value(0), all[3]);
        let place = Place::of(all[3]).unwrap();
        assert_eq!(
            (place.source, place.split, place.row, place.ordinal),
            (1, 1, 7, 1)
        );
        assert_eq!(Place::of(b"short"), None);
    }
}
