//! The state that a run begins with, until its operators take it.

use std::collections::BTreeMap;

use crate::state::{RestoredSections, Section, StateError};
use crate::time::NO_WATERMARK;

/// Sections by operator and trace, in the order of the workers that wrote them.
#[derive(Default)]
pub struct Restored {
    sections: BTreeMap<(u32, u32), BTreeMap<usize, Vec<Section>>>,
}

impl Restored {
    /// Nothing: a query's first run.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Adds a section that worker `shard` of an earlier run wrote; later epochs come later. Only
    /// rows whose key `keep` wants are taken.
    pub fn add(
        &mut self,
        shard: usize,
        (operator, trace): (u32, u32),
        bytes: &[u8],
        keep: &dyn Fn(&[u8]) -> bool,
    ) -> Result<(), StateError> {
        let section = Section::decode(bytes, keep)?;
        self.sections
            .entry((operator, trace))
            .or_default()
            .entry(shard)
            .or_default()
            .push(section);
        Ok(())
    }

    /// All that each trace begins with, as one section each: the snapshot with which a worker begins
    /// its own chain of state files after the number of workers has changed.
    pub fn snapshots(&self) -> Result<Vec<((u32, u32), Vec<u8>)>, StateError> {
        let mut snapshots = vec![];
        for (place, shards) in &self.sections {
            let sections = RestoredSections::from_shards(shards.values().cloned().collect())?;
            snapshots.extend(
                sections
                    .snapshot(NO_WATERMARK)
                    .map(|snapshot| (*place, snapshot)),
            );
        }
        Ok(snapshots)
    }

    /// Takes what all traces of one operator begin with.
    #[must_use]
    pub fn part(&mut self, operator: u32) -> Self {
        let mut later = self.sections.split_off(&(operator, 0));
        let other = later.split_off(&(operator + 1, 0));
        self.sections.extend(other);
        Self { sections: later }
    }

    /// Takes what a trace begins with.
    pub fn take(
        &mut self,
        operator: u32,
        trace: u32,
    ) -> Result<Option<RestoredSections>, StateError> {
        let Some(shards) = self.sections.remove(&(operator, trace)) else {
            return Ok(None);
        };
        RestoredSections::from_shards(shards.into_values().collect()).map(Some)
    }
}
