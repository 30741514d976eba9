//! Which rows of a batch can be among the first of their partition.
//!
//! Over input that never retracts a row is never given once enough rows of its partition stand before it. Those of
//! its own batch are known before it is encoded and sent.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::plan::RankFunction;
use crate::row::Bytes;

/// With more ranks than this to give, hardly a row can be left out.
const MOST: u64 = 64;

/// Finds them.
#[derive(Clone, Copy, Debug)]
pub(super) struct First {
    /// So many rows may come first.
    last: usize,
    /// Equal rows count as one.
    dense: bool,
}

impl First {
    /// Of the rows up to the rank `last`; `None` where there are too many of them.
    pub(super) fn new(function: RankFunction, last: u64) -> Option<Self> {
        (1..=MOST).contains(&last).then_some(Self {
            last: last as usize,
            dense: function == RankFunction::DenseRank,
        })
    }

    /// Leaves those of `rows` that can be given. A row with enough others before it goes; where the order does not
    /// say which of two is first, both stay.
    pub(super) fn retain(self, partitions: &Bytes, orders: &Bytes, rows: &mut Vec<u32>) {
        let mut best: HashMap<&[u8], Vec<&[u8]>> = HashMap::new();
        for row in rows.iter() {
            let order = orders.get(*row as usize);
            match best.entry(partitions.get(*row as usize)) {
                Entry::Vacant(entry) => {
                    entry.insert(vec![order]);
                }
                Entry::Occupied(mut entry) => self.insert(entry.get_mut(), order),
            }
        }
        rows.retain(|row| {
            let row = *row as usize;
            let found = best.get(partitions.get(row));
            let worst = found.and_then(|found| found.get(self.last - 1));
            worst.is_none_or(|worst| orders.get(row) <= *worst)
        });
    }

    /// Keeps the first orders of a partition, sorted.
    fn insert<'a>(self, found: &mut Vec<&'a [u8]>, order: &'a [u8]) {
        if found
            .get(self.last - 1)
            .is_some_and(|worst| order >= *worst)
        {
            return;
        }
        let at = found.partition_point(|other| *other < order);
        if self.dense && found.get(at) == Some(&order) {
            return;
        }
        found.truncate(self.last - 1);
        found.insert(at, order);
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn a_row_stays_unless_enough_others_are_before_it() {
        let mut random = StdRng::seed_from_u64(1);
        for _ in 0..200 {
            let rows: Vec<(u8, u8)> = (0..random.random_range(0..60))
                .map(|_| (random.random_range(0..3), random.random_range(0..20)))
                .collect();
            let (mut partitions, mut orders) = (Bytes::default(), Bytes::default());
            for (partition, order) in &rows {
                partitions.push(&[*partition]);
                orders.push(&[*order]);
            }
            for function in [
                RankFunction::RowNumber,
                RankFunction::Rank,
                RankFunction::DenseRank,
            ] {
                let last = random.random_range(1..6);
                let mut kept: Vec<u32> = (0..rows.len() as u32).collect();
                let first = First::new(function, last).unwrap();
                first.retain(&partitions, &orders, &mut kept);
                let wanted = (0..rows.len()).filter(|row| {
                    let (partition, order) = rows[*row];
                    let before = rows.iter().filter(|of| of.0 == partition && of.1 < order);
                    let mut before: Vec<u8> = before.map(|of| of.1).collect();
                    if function == RankFunction::DenseRank {
                        before.sort_unstable();
                        before.dedup();
                    }
                    (before.len() as u64) < last
                });
                let wanted: Vec<u32> = wanted.map(|row| row as u32).collect();
                assert_eq!(kept, wanted, "{function:?} up to {last} of {rows:?}");
            }
        }
        assert!(First::new(RankFunction::Rank, MOST + 1).is_none());
    }
}
