//! Where the partitions stand, and which of them holds the watermark.

use super::{State, Subject};
use crate::checkpoint::PartitionState;
use crate::plan::outline::WatermarkOutline;
use crate::time::{EventTime, NO_WATERMARK};

/// A partition of a source with an event time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing<'a> {
    pub(super) source: usize,
    pub(super) of: &'a WatermarkOutline,
    pub(super) state: &'a PartitionState,
    /// Its own watermark, once a row of it had an event time.
    pub(super) mark: Option<EventTime>,
    /// It does not hold the watermark back.
    pub(super) idle: bool,
}

/// What holds the watermark where it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Holder<'a> {
    /// This source has given no row with an event time.
    Silent(usize),
    /// This partition is behind all others that count.
    Slowest(Standing<'a>),
    /// All partitions of this source are left out, and its watermark stays.
    AllIdle(usize),
}

impl Subject<'_> {
    /// The watermark, once there is one.
    pub(super) fn watermark(&self) -> Option<EventTime> {
        let watermark = self.commit?.watermark;
        (watermark != NO_WATERMARK).then_some(watermark)
    }

    /// The sources with an event time.
    pub(super) fn timed_sources(&self) -> impl Iterator<Item = (usize, &WatermarkOutline)> {
        let sources = self.outline.sources.iter().enumerate();
        sources.filter_map(|(index, source)| Some((index, source.watermark.as_ref()?)))
    }

    /// The partitions of a source that rows have come from.
    pub(super) fn marks(&self, source: usize) -> Vec<Standing<'_>> {
        let Some(of) = self.outline.sources[source].watermark.as_ref() else {
            return vec![];
        };
        let partitions = self.commit.iter().flat_map(|commit| &commit.partitions);
        partitions
            .filter(|state| state.source == source)
            .map(|state| Standing {
                source,
                of,
                state,
                mark: state.max_event_time.map(|newest| {
                    let behind = newest.saturating_sub(of.delay);
                    behind.div_euclid(1000).saturating_mul(1000)
                }),
                idle: match (of.idle_timeout, &self.state) {
                    (Some(timeout), State::Running { .. }) => self.silent_for(state) > timeout,
                    _ => state.idle,
                },
            })
            .collect()
    }

    /// For how long nothing has come of a partition.
    pub(super) fn silent_for(&self, state: &PartitionState) -> i64 {
        state.last_data_us.map_or(0, |last| self.now - last)
    }

    /// What holds the watermark; `None` where no source has an event time, or nothing was read.
    pub(super) fn holder(&self) -> Option<Holder<'_>> {
        self.commit?;
        let mut sources: Vec<(Option<EventTime>, Holder<'_>)> = vec![];
        for (source, of) in self.timed_sources() {
            let marks = self.marks(source);
            let slowest = marks
                .iter()
                .filter(|mark| !mark.idle && mark.mark.is_some());
            if let Some(slowest) = slowest.min_by_key(|mark| mark.mark) {
                sources.push((slowest.mark, Holder::Slowest(*slowest)));
            } else if let Some(last) = marks.iter().filter_map(|mark| mark.mark).max() {
                sources.push((Some(last), Holder::AllIdle(source)));
            } else if of.idle_timeout.is_none() || !matches!(self.state, State::Running { .. }) {
                sources.push((None, Holder::Silent(source)));
            }
        }
        let by_mark = |(mark, _): &(Option<EventTime>, Holder<'_>)| *mark;
        let holder = if self.outline.fastest_decides {
            sources.into_iter().max_by_key(by_mark)
        } else {
            sources.into_iter().min_by_key(by_mark)
        };
        holder.map(|(_, holder)| holder)
    }
}
