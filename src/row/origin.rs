//! Where the rows of a batch were read.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, UInt32Array};

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
    Listed(Arc<[u64]>),
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
        match &self.rows {
            Rows::From(first) => first + index as u64,
            Rows::Listed(rows) => rows[index],
        }
    }

    /// The origin of the rows that `keep` keeps: those that are true, without null.
    #[must_use]
    pub fn filter(&self, keep: &BooleanArray) -> Self {
        let true_rows = keep.values().set_indices();
        self.listed(true_rows.filter(|row| keep.is_valid(*row)))
    }

    /// The origin of the rows at these indices.
    #[must_use]
    pub fn take(&self, indices: &UInt32Array) -> Self {
        self.listed(indices.values().iter().map(|index| *index as usize))
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
            rows: Rows::Listed(indices.map(|index| self.row(index)).collect()),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_numbers_through_filter_take_and_slice() {
        let origin = Origin::contiguous(0, "p".into(), 2, 100);
        let kept = origin.filter(&BooleanArray::from(vec![
            Some(true),
            None,
            Some(false),
            Some(true),
        ]));
        assert_eq!([kept.row(0), kept.row(1)], [100, 103]);
        let taken = kept.take(&UInt32Array::from(vec![1, 1, 0]));
        assert_eq!([taken.row(0), taken.row(1), taken.row(2)], [103, 103, 100]);
        assert_eq!(taken.slice(2, 1).row(0), 100);
        assert_eq!(origin.slice(5, 2).row(1), 106);
    }
}
