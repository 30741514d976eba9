//! How much of what there is an epoch takes: pure arithmetic.

use std::ops::Range;
use std::time::Duration;

use crate::kafka::Offsets;

/// What bounds an epoch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    /// Records of all partitions.
    pub(super) all: Option<u64>,
    /// Records of each.
    pub(super) each: Option<u64>,
}

/// How many records a rate allows in a time.
pub(super) fn allowed(rate: u64, time: Duration) -> u64 {
    (rate as f64 * time.as_secs_f64()) as u64
}

/// How much of the time so many records take.
pub(super) fn time_of(records: u64, rate: u64) -> Duration {
    Duration::from_secs_f64(records as f64 / rate as f64)
}

/// A range in equal pieces of at most so many records; none where it is empty.
pub(super) fn pieces(range: Range<i64>, most: u64) -> impl Iterator<Item = Range<i64>> {
    let all = count(Some(range.start), range.end);
    let pieces = all.div_ceil(most);
    let at = move |piece: u64| {
        let taken = u128::from(all) * u128::from(piece) / u128::from(pieces);
        range.start + taken as i64
    };
    (0..pieces).map(move |piece| at(piece)..at(piece + 1))
}

/// How many records lie between `from` and `to`.
pub(super) fn backlog(from: &Offsets, to: &Offsets) -> u64 {
    to.0.iter().map(|(of, end)| count(from.get(of), *end)).sum()
}

fn count(from: Option<i64>, end: i64) -> u64 {
    from.map_or(0, |from| {
        u64::try_from(end.saturating_sub(from)).unwrap_or(0)
    })
}

/// Where an epoch ends that begins at `from`, of what there is up to `to`. Partitions share a limit
/// by how much there is of each, so that none falls behind the others. One without anything new
/// stays where it is.
pub(super) fn cut(from: &Offsets, to: &Offsets, limits: Limits) -> Offsets {
    let each = limits.each.unwrap_or(u64::MAX);
    let fits = |of, end| count(from.get(of), end).min(each);
    let total: u64 = to.0.iter().map(|(of, end)| fits(of, *end)).sum();
    let share = |there: u64| match limits.all {
        Some(all) if total > all => {
            let share = u128::from(all) * u128::from(there) / u128::from(total);
            // One at least, or a small partition would wait for ever.
            (share as u64).max(1).min(there)
        }
        _ => there,
    };
    let mut ends = from.clone();
    for (of, end) in &to.0 {
        let taken = share(fits(of, *end)) as i64;
        if let Some(position) = ends.0.get_mut(of) {
            *position += taken;
        }
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::TopicPartition;

    fn offsets(values: &[i64]) -> Offsets {
        (0..)
            .zip(values)
            .map(|(partition, offset)| (TopicPartition::new("t", partition), *offset))
            .collect()
    }

    #[test]
    fn partitions_share_a_limit_by_what_they_have() {
        let (from, to) = (offsets(&[0, 0, 5, 7]), offsets(&[900, 100, 6, 7]));
        let limits = Limits {
            all: Some(100),
            each: None,
        };
        assert_eq!(cut(&from, &to, limits), offsets(&[89, 9, 6, 7]));
        assert_eq!(cut(&from, &to, Limits::default()), to);
        assert_eq!(backlog(&from, &to), 1001);
    }

    #[test]
    fn a_limit_of_each_partition_comes_first() {
        let limits = Limits {
            all: Some(10),
            each: Some(8),
        };
        let ends = cut(&offsets(&[0, 0]), &offsets(&[1000, 4]), limits);
        assert_eq!(ends, offsets(&[6, 3]));
    }

    #[test]
    fn pieces_of_a_range_are_alike() {
        let cut = |from, to| -> Vec<(i64, i64)> {
            let pieces = pieces(from..to, 4);
            pieces.map(|piece| (piece.start, piece.end)).collect()
        };
        assert_eq!(cut(7, 7), []);
        assert_eq!(cut(9, 7), []);
        assert_eq!(cut(7, 11), [(7, 11)]);
        assert_eq!(cut(7, 17), [(7, 10), (10, 13), (13, 17)]);
    }

    #[test]
    fn a_rate_loses_nothing_by_being_asked_often() {
        let (mut taken, mut waited) = (0, Duration::ZERO);
        for _ in 0..2000 {
            waited += Duration::from_millis(1);
            let each = allowed(150, waited);
            taken += each;
            waited = waited.saturating_sub(time_of(each, 150));
        }
        assert!((299..=300).contains(&taken), "{taken}");
    }

    #[test]
    fn a_log_that_became_shorter_gives_nothing() {
        let from = offsets(&[10]);
        assert_eq!(cut(&from, &offsets(&[3]), Limits::default()), from);
    }
}
