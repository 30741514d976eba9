//! What was sealed, until a checkpoint takes it.
//!
//! Every trace tells its [`Recorder`] of each batch that it seals. All recorders of a worker share one
//! queue; the worker takes from it, once a commit, what belongs into the commit's file.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::state::chunk::RowChunk;
use crate::state::diff::{Diff, Last};
use crate::state::section::{self, SectionInfo, SectionRows};
use crate::time::{Epoch, Time};

/// A cheap handle to a worker's sealed batches, made out to one trace of one operator.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    operator: u32,
    trace: u32,
    /// `None`: nothing is recorded.
    queue: Option<Rc<RefCell<VecDeque<RecordedBatch>>>>,
}

impl Recorder {
    /// The recorder of a worker: operator 0, trace 0; [`Recorder::for_trace`] makes it out to others.
    pub fn new() -> Self {
        Self {
            queue: Some(Rc::default()),
            ..Self::default()
        }
    }

    /// A recorder for queries without a checkpoint: it remembers nothing.
    pub fn disabled() -> Self {
        Self::default()
    }

    /// The same queue, for another trace.
    #[must_use]
    pub fn for_trace(&self, operator: u32, trace: u32) -> Self {
        Self {
            operator,
            trace,
            queue: self.queue.clone(),
        }
    }

    /// The operator it is made out to.
    pub fn operator(&self) -> u32 {
        self.operator
    }

    /// The trace it is made out to.
    pub fn trace(&self) -> u32 {
        self.trace
    }

    pub(crate) fn record<R: Diff>(&self, mut info: SectionInfo, chunks: &[RowChunk<R>])
    where
        Vec<RowChunk<R>>: Into<SectionRows>,
    {
        if let Some(queue) = &self.queue {
            (info.operator, info.trace) = (self.operator, self.trace);
            let rows = chunks.to_vec().into();
            queue.borrow_mut().push_back(RecordedBatch { info, rows });
        }
    }

    /// Takes the batches of all traces of this worker that end with epoch `upto` or before, in the
    /// order in which they were sealed.
    pub fn take(&self, upto: Epoch) -> Vec<RecordedBatch> {
        let Some(queue) = &self.queue else {
            return vec![];
        };
        let mut queue = queue.borrow_mut();
        let (taken, left): (Vec<_>, Vec<_>) = queue
            .drain(..)
            .partition(|b| b.info.upper <= upto.saturating_add(1));
        *queue = left.into();
        taken
    }
}

impl From<Vec<RowChunk<Last>>> for SectionRows {
    fn from(chunks: Vec<RowChunk<Last>>) -> Self {
        Self::Last(chunks)
    }
}

impl From<Vec<RowChunk<i64>>> for SectionRows {
    fn from(chunks: Vec<RowChunk<i64>>) -> Self {
        Self::Count(chunks)
    }
}

/// A batch that was sealed. It shares its rows with the trace.
#[derive(Clone, Debug)]
pub struct RecordedBatch {
    info: SectionInfo,
    rows: SectionRows,
}

impl RecordedBatch {
    /// What it is about.
    pub fn info(&self) -> &SectionInfo {
        &self.info
    }

    /// The first epoch it covers.
    pub fn lower(&self) -> Epoch {
        self.info.lower
    }

    /// The epoch behind the last that it covers.
    pub fn upper(&self) -> Epoch {
        self.info.upper
    }

    /// The time of its rows.
    pub fn time(&self) -> Time {
        self.info.time
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.info.rows == 0
    }

    /// Appends it as a section of a state file.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.rows {
            SectionRows::Last(chunks) => section::encode(&self.info, chunks, out),
            SectionRows::Count(chunks) => section::encode(&self.info, chunks, out),
        }
    }
}
