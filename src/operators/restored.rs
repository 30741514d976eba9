//! The state that a run begins with, until its operators take it.

use std::collections::BTreeMap;

use crate::state::RestoredSections;

/// What each trace begins with, by operator and trace.
#[derive(Default)]
pub struct Restored {
    traces: BTreeMap<(u32, u32), RestoredSections>,
}

impl Restored {
    /// Nothing: a query's first run.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Adds what a trace of an operator begins with.
    pub fn add(&mut self, operator: u32, trace: u32, begins: RestoredSections) {
        self.traces.insert((operator, trace), begins);
    }

    /// Takes what all traces of one operator begin with.
    #[must_use]
    pub fn part(&mut self, operator: u32) -> Self {
        let mut later = self.traces.split_off(&(operator, 0));
        let other = later.split_off(&(operator + 1, 0));
        self.traces.extend(other);
        Self { traces: later }
    }

    /// Takes what a trace begins with.
    pub fn take(&mut self, operator: u32, trace: u32) -> Option<RestoredSections> {
        self.traces.remove(&(operator, trace))
    }
}
