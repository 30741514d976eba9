//! Half-open spans of time, and how those that overlap or touch become one.

use std::ops::Range;

use crate::row::{bound_prefix, read_bound};
use crate::time::EventTime;

/// `[start, end)`, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: EventTime,
    pub(super) end: EventTime,
}

impl Span {
    /// From the least start to the greatest end of spans sorted by start, of which there is one.
    pub(super) fn reach(spans: &[Self]) -> Self {
        spans[1..]
            .iter()
            .fold(spans[0], |all, span| all.join(*span))
    }

    /// Appends start and end so that the order of the bytes is that of the spans.
    pub(super) fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&bound_prefix(self.start));
        out.extend_from_slice(&bound_prefix(self.end));
    }

    /// The span in front of these bytes.
    pub(super) fn take(bytes: &[u8]) -> Self {
        Self {
            start: read_bound(bytes),
            end: read_bound(&bytes[8..]),
        }
    }

    fn join(self, other: Self) -> Self {
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    fn touches(self, other: Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

/// A stretch of time in which something changes, apart from all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// All that is in it as one span.
    pub(super) span: Span,
    /// Which of the changes are in it.
    pub(super) changes: Range<usize>,
    /// Which of the sessions are in it.
    pub(super) sessions: Range<usize>,
}

/// The regions of changes, sorted by start, among sessions, sorted and apart from each other. A
/// session that no change touches is in none.
pub(super) fn regions(changes: &[Span], sessions: &[Span]) -> Vec<Region> {
    let mut regions = Vec::new();
    let (mut change, mut session) = (0, 0);
    while let Some(first) = changes.get(change) {
        while sessions.get(session).is_some_and(|s| s.end < first.start) {
            session += 1;
        }
        let mut span = *first;
        let (from_change, from_session) = (change, session);
        loop {
            if let Some(next) = changes.get(change).filter(|next| next.touches(span)) {
                span = span.join(*next);
                change += 1;
            } else if let Some(next) = sessions.get(session).filter(|next| next.touches(span)) {
                span = span.join(*next);
                session += 1;
            } else {
                break;
            }
        }
        regions.push(Region {
            span,
            changes: from_change..change,
            sessions: from_session..session,
        });
    }
    regions
}

/// The one of these spans, sorted and apart, that holds a moment.
pub(super) fn holding(spans: &[Span], moment: EventTime) -> Option<Span> {
    let after = spans.partition_point(|span| span.start <= moment);
    let span = *spans.get(after.checked_sub(1)?)?;
    (moment < span.end).then_some(span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    fn spans(all: &[(i64, i64)]) -> Vec<Span> {
        all.iter()
            .map(|&(start, end)| Span { start, end })
            .collect()
    }

    fn found(changes: &[(i64, i64)], sessions: &[(i64, i64)]) -> Vec<(i64, i64, usize, usize)> {
        regions(&spans(changes), &spans(sessions))
            .into_iter()
            .map(|r| (r.span.start, r.span.end, r.changes.len(), r.sessions.len()))
            .collect()
    }

    #[test]
    fn spans_that_touch_are_one_and_a_tick_between_keeps_them_apart() {
        assert_eq!(
            found(&[(0, 5), (5, 10), (11, 16)], &[]),
            [(0, 10, 2, 0), (11, 16, 1, 0)]
        );
    }

    #[test]
    fn a_change_joins_the_sessions_on_both_sides_and_leaves_others_out() {
        let sessions = [(0, 5), (7, 12), (20, 25), (40, 45)];
        assert_eq!(
            found(&[(5, 7), (22, 30)], &sessions),
            [(0, 12, 1, 2), (20, 30, 1, 1)]
        );
    }

    #[test]
    fn a_long_span_hides_the_shorter_ones_in_it() {
        assert_eq!(
            found(&[(0, 100), (1, 2), (50, 60), (100, 101)], &[]),
            [(0, 101, 4, 0)]
        );
    }

    #[test]
    fn a_moment_is_held_by_at_most_one_span() {
        let all = spans(&[(0, 5), (7, 9)]);
        let at = |moment| holding(&all, moment).map(|span| span.start);
        assert_eq!(
            [-1, 0, 4, 5, 7, 8, 9].map(at),
            [None, Some(0), Some(0), None, Some(7), Some(7), None]
        );
    }

    #[test]
    fn regions_are_what_sorting_all_spans_gives() {
        let mut random = StdRng::seed_from_u64(7);
        for _ in 0..500 {
            let mut any = |count: usize| {
                let mut all: Vec<(i64, i64)> = (0..count)
                    .map(|_| {
                        let start = random.random_range(0..60);
                        (start, start + random.random_range(1..9))
                    })
                    .collect();
                all.sort_unstable();
                all
            };
            let (changes, old) = (any(8), any(8));
            let sessions: Vec<Span> = regions(&spans(&old), &[])
                .into_iter()
                .map(|r| r.span)
                .collect();
            let mut all = spans(&changes);
            all.extend(&sessions);
            all.sort_unstable_by_key(|span| (span.start, span.end));
            let whole: Vec<Span> = regions(&all, &[]).into_iter().map(|r| r.span).collect();
            let got = regions(&spans(&changes), &sessions);
            for region in &got {
                assert!(whole.contains(&region.span));
            }
            let touched = |w: &&Span| spans(&changes).iter().any(|c| c.touches(**w));
            assert_eq!(got.len(), whole.iter().filter(touched).count());
            assert_eq!(
                got.iter().map(|r| r.changes.len()).sum::<usize>(),
                changes.len()
            );
        }
    }
}
