//! What the operators of one worker share: the epochs' decisions, the first failure, statistics.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemark_connectors::{ConnectorError, Place, SourceReader, Split};
use timely::dataflow::operators::Capability;
use timely::progress::frontier::MutableAntichain;
use timely::scheduling::Activator;

use crate::operators::aside::Aside;
use crate::operators::calls::Outside;
use crate::operators::dead_letter::{DeadLetter, LetterOrigin, MOST_LETTERS};
use crate::operators::late::{LateRow, MOST_LATE};
use crate::row::{Origin, RowError};
use crate::state::{StateError, StateSize, Waiting};
use crate::time::{Epoch, EventTime, Time};

/// What was decided for an epoch before it opened, the same on every worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochInfo {
    /// Its number.
    pub epoch: Epoch,
    /// Evicts state and closes windows.
    pub watermark: EventTime,
    /// The watermark of the epoch before: rows at or below it are late.
    pub previous_watermark: EventTime,
    /// `current_timestamp()`, microseconds since 1970 UTC.
    pub timestamp: i64,
    /// Another number for each query and epoch: random values without a seed begin with it.
    pub salt: i64,
}

impl EpochInfo {
    /// The time of its updates.
    pub fn time(&self) -> Time {
        Time::new(self.epoch, self.watermark)
    }
}

/// What stops a query from within its dataflow.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// A source or sink failed.
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    /// State could not be kept or restored.
    #[error("state of operator {operator}: {source}")]
    State {
        /// The operator's id in the plan.
        operator: usize,
        /// Why.
        source: StateError,
    },
    /// A row could not be encoded or decoded.
    #[error("operator {operator}: {source}")]
    Row {
        /// The operator's id in the plan.
        operator: usize,
        /// Why.
        source: RowError,
    },
    /// An expression failed on a row.
    #[error("{expression} failed{row}: {reason}")]
    Expression {
        /// As SQL.
        expression: String,
        /// ` on the row k = 'a'`, where it is known.
        row: String,
        /// Why, and the remedy.
        reason: String,
    },
    /// The same, with the place that the row was read from.
    #[error("{source}\n  read from table '{table}', {place}")]
    Located {
        /// The table.
        table: String,
        /// `in/a.json:17`.
        place: String,
        /// What happened.
        source: Box<OperatorError>,
    },
    /// More rows failed than are set aside.
    #[error(
        "more than {MOST_LETTERS} rows of epoch {epoch} failed, the last with: {reason}; a query sets no more aside: mend the expression, or read less at once"
    )]
    TooManyDeadLetters {
        /// The epoch.
        epoch: Epoch,
        /// Why the last of them failed.
        reason: String,
    },
    /// More late rows than are set aside.
    #[error(
        "epoch {epoch} has more than {MOST_LATE} late rows for the table of 'lateRows' on one worker: read less in an epoch ('maxFilesPerTrigger', 'maxOffsetsPerTrigger'), or drop them ('lateRows' = 'drop')"
    )]
    TooManyLateRows {
        /// The epoch.
        epoch: Epoch,
    },
    /// An expression that the engine cannot evaluate.
    #[error("cannot evaluate {expression}: {reason}")]
    Unsupported {
        /// As SQL.
        expression: String,
        /// Why not.
        reason: String,
    },
    /// A result that does not fit its type: of what, and what to do.
    #[error("{0}")]
    Overflow(String),
    /// An invariant of the engine does not hold.
    #[error("internal error in operator {operator}: {reason}; please report it with the query")]
    Internal {
        /// The operator's id in the plan.
        operator: usize,
        /// What was found.
        reason: String,
    },
}

/// What a stateful operator tells of itself for an epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OperatorStats {
    /// As progress names it: `stateStoreSave`-like, here the operator's kind.
    pub name: String,
    /// Rows kept now.
    pub rows_total: u64,
    /// Rows inserted or changed in the epoch.
    pub rows_updated: u64,
    /// Rows forgotten in the epoch.
    pub rows_removed: u64,
    /// Rows that came too late in the epoch.
    pub rows_dropped_by_watermark: u64,
    /// Bytes of state in memory.
    pub memory_used_bytes: u64,
    /// The rows of those kept that are given once the watermark has passed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// Of a join: the rows kept of each input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sides: Option<[u64; 2]>,
}

impl OperatorStats {
    /// Takes in what another worker, or another part of the operator, tells.
    pub fn add(&mut self, other: &Self) {
        if self.name.is_empty() {
            self.name.clone_from(&other.name);
        }
        self.rows_total += other.rows_total;
        self.rows_updated += other.rows_updated;
        self.rows_removed += other.rows_removed;
        self.rows_dropped_by_watermark += other.rows_dropped_by_watermark;
        self.memory_used_bytes += other.memory_used_bytes;
        if let Some(waiting) = &other.waiting {
            self.add_waiting(waiting);
        }
        if let Some(more) = other.sides {
            let sides = self.sides.get_or_insert_default();
            sides
                .iter_mut()
                .zip(more)
                .for_each(|(side, more)| *side += more);
        }
    }

    /// Takes in rows that wait for the watermark.
    pub fn add_waiting(&mut self, waiting: &Waiting) {
        self.waiting.get_or_insert_default().add(waiting);
    }

    /// Takes in what the same operator tells of a later epoch.
    pub fn then(&mut self, later: &Self) {
        let before = std::mem::replace(self, later.clone());
        self.rows_updated += before.rows_updated;
        self.rows_removed += before.rows_removed;
        self.rows_dropped_by_watermark += before.rows_dropped_by_watermark;
    }

    /// Takes in the size of one trace.
    pub fn add_size(&mut self, size: StateSize) {
        self.rows_total += size.rows;
        self.memory_used_bytes += size.bytes;
    }
}

/// What was read of one partition in an epoch, by one worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceProgress {
    /// Rows read.
    pub rows: u64,
    /// Records left out because they could not be decoded.
    pub dropped: u64,
    /// Rows whose event time is not null.
    pub timed_rows: u64,
    /// The least event time.
    pub min: Option<EventTime>,
    /// The greatest event time.
    pub max: Option<EventTime>,
    /// Sum of the event times, for their average.
    pub sum: i128,
}

impl SourceProgress {
    /// Takes in what another worker read.
    pub fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.dropped += other.dropped;
        self.timed_rows += other.timed_rows;
        self.min = [self.min, other.min].into_iter().flatten().min();
        self.max = [self.max, other.max].into_iter().flatten().max();
        self.sum += other.sum;
    }
}

/// By epoch and source: by partition.
pub type SourceReports = BTreeMap<(Epoch, usize), BTreeMap<Arc<str>, SourceProgress>>;

/// A handle to what the operators of one worker share.
#[derive(Clone)]
pub struct Context(Rc<Inner>);

struct Inner {
    worker: usize,
    peers: usize,
    start: Epoch,
    epochs: RefCell<BTreeMap<Epoch, EpochInfo>>,
    /// Of the operators that have something to do while no epoch is open.
    idlers: RefCell<Vec<Rc<Activator>>>,
    failure: RefCell<Option<OperatorError>>,
    stats: RefCell<BTreeMap<(Epoch, usize), OperatorStats>>,
    sources: RefCell<SourceReports>,
    /// What is read in each open epoch, for the places of rows.
    reads: RefCell<BTreeMap<Epoch, Arc<Vec<Vec<Split>>>>>,
    /// What is followed, by epoch, source and number.
    followed: RefCell<BTreeMap<(Epoch, usize, u32), Split>>,
    /// What was read of the partitions that are followed, by epoch and source.
    cuts: RefCell<BTreeMap<Epoch, BTreeMap<usize, Vec<Split>>>>,
    /// What arrived by itself in the epoch that is open.
    arrivals: RefCell<Arrivals>,
    /// The epoch that stays open until it is ended.
    ticking: Cell<Option<Epoch>>,
    /// How each source is read, by its index in the plan.
    readers: RefCell<BTreeMap<usize, ReadSource>>,
    /// Unless somebody wants them a row that fails ends the query.
    dead_letters: Aside<DeadLetter>,
    late_rows: Aside<LateRow>,
    outside: RefCell<Outside>,
}

/// What arrived by itself in an epoch.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// The epoch of something that nobody was told of.
    pub fresh: Option<Epoch>,
    /// The last epoch that somebody was told of: once is enough.
    pub told: Option<Epoch>,
    /// The epoch takes no more.
    pub full: bool,
    /// When batches arrived (microseconds since 1970 UTC), and how many rows each has, by epoch.
    pub times: BTreeMap<Epoch, Vec<(i64, u64)>>,
}

/// How a source is read.
#[derive(Clone)]
pub struct ReadSource {
    /// As SQL calls the table.
    pub table: String,
    /// Opens its splits.
    pub reader: Arc<dyn SourceReader>,
    /// The columns that are read.
    pub columns: Vec<usize>,
}

impl Context {
    /// For the worker `worker` of `peers`, whose first epoch is `start`.
    pub fn new(worker: usize, peers: usize, start: Epoch) -> Self {
        Self(Rc::new(Inner {
            worker,
            peers,
            start,
            epochs: RefCell::default(),
            idlers: RefCell::default(),
            failure: RefCell::default(),
            stats: RefCell::default(),
            sources: RefCell::default(),
            reads: RefCell::default(),
            followed: RefCell::default(),
            cuts: RefCell::default(),
            arrivals: RefCell::default(),
            ticking: Cell::default(),
            readers: RefCell::default(),
            dead_letters: Aside::default(),
            late_rows: Aside::default(),
            outside: RefCell::default(),
        }))
    }

    /// This worker's index.
    pub fn worker(&self) -> usize {
        self.0.worker
    }

    /// How many workers there are, in all processes.
    pub fn peers(&self) -> usize {
        self.0.peers
    }

    /// The first epoch of this run.
    pub fn start(&self) -> Epoch {
        self.0.start
    }

    /// Makes an epoch known.
    pub fn open(&self, info: EpochInfo) {
        self.0.epochs.borrow_mut().insert(info.epoch, info);
    }

    /// What was decided for `epoch`, if it is known and not forgotten yet.
    pub fn epoch(&self, epoch: Epoch) -> Option<EpochInfo> {
        self.0.epochs.borrow().get(&epoch).copied()
    }

    /// What was decided for the epoch of rows that are here; rows never come before it.
    pub fn epoch_of(&self, time: Time, operator: usize) -> Result<EpochInfo, OperatorError> {
        self.epoch(time.epoch)
            .ok_or_else(|| OperatorError::Internal {
                operator,
                reason: format!("rows of epoch {} came before it was opened", time.epoch),
            })
    }

    /// Whether no epoch waits to be done: what is done now delays none. One that is open for what may
    /// arrive does not wait.
    pub fn is_idle(&self) -> bool {
        let ticking = self.0.ticking.get();
        self.0
            .epochs
            .borrow()
            .keys()
            .all(|epoch| Some(*epoch) == ticking)
    }

    /// The epoch that stays open until it is ended; `None`: there is none.
    pub fn tick(&self, epoch: Option<Epoch>) {
        self.0.ticking.set(epoch);
    }

    /// Rows of a partition that is followed, and when the oldest of them arrived.
    pub fn arrived(&self, epoch: Epoch, since: i64, rows: u64) {
        let mut arrivals = self.0.arrivals.borrow_mut();
        if arrivals.told != Some(epoch) {
            (arrivals.fresh, arrivals.told) = (Some(epoch), Some(epoch));
        }
        let times = arrivals.times.entry(epoch).or_default();
        times.push((since, rows));
    }

    /// The open epoch takes no more of what arrives.
    pub fn epoch_full(&self, epoch: Epoch) {
        let mut arrivals = self.0.arrivals.borrow_mut();
        if !std::mem::replace(&mut arrivals.full, true) {
            arrivals.fresh = Some(epoch);
        }
    }

    /// The epoch in which something arrived since this was last asked, and whether it is full.
    pub fn take_arrival(&self) -> Option<(Epoch, bool)> {
        let mut arrivals = self.0.arrivals.borrow_mut();
        let full = arrivals.full;
        arrivals.fresh.take().map(|epoch| (epoch, full))
    }

    /// Where a partition that is followed is read from in an epoch.
    pub fn follows(&self, epoch: Epoch, source: usize, number: u32, since: Split) {
        let mut followed = self.0.followed.borrow_mut();
        followed.insert((epoch, source, number), since);
    }

    /// What followers of a source have read in an epoch that ends.
    pub fn followed(&self, epoch: Epoch, source: usize, splits: Vec<Split>) {
        self.0.arrivals.borrow_mut().full = false;
        let mut cuts = self.0.cuts.borrow_mut();
        let all = cuts.entry(epoch).or_default();
        all.entry(source).or_default().extend(splits);
    }

    /// Takes what followers have read in an epoch, by source, and when that arrived.
    pub fn take_followed(&self, epoch: Epoch) -> (BTreeMap<usize, Vec<Split>>, Vec<(i64, u64)>) {
        let cuts = self.0.cuts.borrow_mut().remove(&epoch);
        let times = self.0.arrivals.borrow_mut().times.remove(&epoch);
        (cuts.unwrap_or_default(), times.unwrap_or_default())
    }

    /// Activates an operator whenever the last open epoch is closed.
    pub fn when_idle(&self, activator: Rc<Activator>) {
        self.0.idlers.borrow_mut().push(activator);
    }

    /// Forgets all epochs up to and including `epoch`.
    pub fn close(&self, epoch: Epoch) {
        let mut epochs = self.0.epochs.borrow_mut();
        *epochs = epochs.split_off(&(epoch + 1));
        drop(epochs);
        if self.is_idle() {
            for idler in &*self.0.idlers.borrow() {
                idler.activate();
            }
        }
        let mut reads = self.0.reads.borrow_mut();
        *reads = reads.split_off(&(epoch + 1));
        let mut followed = self.0.followed.borrow_mut();
        *followed = followed.split_off(&(epoch + 1, 0, 0));
    }

    /// Makes known what is read in an epoch: the splits of each source, by its index in the plan.
    pub fn reads(&self, epoch: Epoch, splits: Arc<Vec<Vec<Split>>>) {
        self.0.reads.borrow_mut().insert(epoch, splits);
    }

    /// Makes known how a source is read. The first use of it counts.
    pub fn read_by(&self, source: usize, how: ReadSource) {
        self.0.readers.borrow_mut().entry(source).or_insert(how);
    }

    /// From now on rows that fail are set aside.
    pub fn keep_dead_letters(&self) {
        self.0.dead_letters.keep();
    }

    /// Whether rows that fail are set aside; else they end the query.
    pub fn keeps_dead_letters(&self) -> bool {
        self.0.dead_letters.keeps()
    }

    /// Sets a row aside.
    pub fn dead_letter(&self, epoch: Epoch, letter: DeadLetter) -> Result<(), OperatorError> {
        let added = self.0.dead_letters.add(epoch, letter, MOST_LETTERS);
        added.map_err(|letter| OperatorError::TooManyDeadLetters {
            epoch,
            reason: letter.reason,
        })
    }

    /// Rows that came too late.
    pub fn late_rows(&self) -> &Aside<LateRow> {
        &self.0.late_rows
    }

    /// Where calls to the outside are noted.
    pub fn outside(&self) -> Outside {
        self.0.outside.borrow().clone()
    }

    /// Notes calls to the outside there, from the next dataflow on.
    pub fn note_calls(&self, outside: Outside) {
        *self.0.outside.borrow_mut() = outside;
    }

    /// Takes the rows of `epoch` that were set aside.
    pub fn take_dead_letters(&self, epoch: Epoch) -> Vec<DeadLetter> {
        self.0.dead_letters.take(epoch)
    }

    /// The places of rows of one split of `epoch`, in their order.
    pub fn places(&self, epoch: Epoch, rows: &[LetterOrigin]) -> Vec<Place> {
        let unknown = |row: &LetterOrigin| Place {
            text: format!("{}, row {}", row.partition, row.row),
            ..Place::default()
        };
        let found = rows.first().and_then(|first| {
            let reads = self.0.reads.borrow();
            let followed = self.0.followed.borrow();
            let planned = reads.get(&epoch).and_then(|of| of.get(first.source));
            let split = planned
                .and_then(|splits| splits.get(first.split as usize))
                .or_else(|| followed.get(&(epoch, first.source, first.split)))?;
            let readers = self.0.readers.borrow();
            let how = readers.get(&first.source)?;
            let numbers: Vec<u64> = rows.iter().map(|row| row.row).collect();
            // Where it cannot be read again, the number of the row must do.
            how.reader.locate(split, &how.columns, &numbers).ok()
        });
        let mut places = found.unwrap_or_default().into_iter();
        rows.iter()
            .map(|row| places.next().unwrap_or_else(|| unknown(row)))
            .collect()
    }

    /// The error of row `row` of a batch from `origin`, with its place.
    pub fn located(
        &self,
        error: OperatorError,
        epoch: Epoch,
        (origin, row): (&Origin, usize),
    ) -> OperatorError {
        let rows = [LetterOrigin::of(origin, row)];
        let place = self.places(epoch, &rows).swap_remove(0).text;
        let readers = self.0.readers.borrow();
        OperatorError::Located {
            table: readers
                .get(&origin.source)
                .map_or_else(String::new, |how| how.table.clone()),
            place,
            source: Box::new(error),
        }
    }

    /// Ends the query with this error; the first one counts.
    pub fn fail(&self, error: impl Into<OperatorError>) {
        self.0.failure.borrow_mut().get_or_insert(error.into());
    }

    /// Whether the query is to end: operators do no more work.
    pub fn failed(&self) -> bool {
        self.0.failure.borrow().is_some()
    }

    /// Takes the failure, if there is one.
    pub fn take_failure(&self) -> Option<OperatorError> {
        self.0.failure.borrow_mut().take()
    }

    /// Adds to the statistics of an operator in an epoch.
    pub fn report(&self, epoch: Epoch, operator: usize, stats: &OperatorStats) {
        self.0
            .stats
            .borrow_mut()
            .entry((epoch, operator))
            .or_default()
            .add(stats);
    }

    /// Takes the statistics of `epoch`, by operator.
    pub fn take_stats(&self, epoch: Epoch) -> BTreeMap<usize, OperatorStats> {
        let mut stats = self.0.stats.borrow_mut();
        let later = stats.split_off(&(epoch + 1, 0));
        std::mem::replace(&mut *stats, later)
            .into_iter()
            .filter(|((of, _), _)| *of == epoch)
            .map(|((_, operator), stats)| (operator, stats))
            .collect()
    }

    /// Adds what was read of one partition.
    pub fn report_source(
        &self,
        epoch: Epoch,
        source: usize,
        partition: &Arc<str>,
        read: &SourceProgress,
    ) {
        self.0
            .sources
            .borrow_mut()
            .entry((epoch, source))
            .or_default()
            .entry(Arc::clone(partition))
            .or_default()
            .add(read);
    }

    /// Takes what was read in `epoch`, by source.
    pub fn take_source_reports(
        &self,
        epoch: Epoch,
    ) -> BTreeMap<usize, BTreeMap<Arc<str>, SourceProgress>> {
        let mut sources = self.0.sources.borrow_mut();
        let later = sources.split_off(&(epoch + 1, 0));
        std::mem::replace(&mut *sources, later)
            .into_iter()
            .map(|((_, source), partitions)| (source, partitions))
            .collect()
    }
}

/// Walks an operator through the epochs, each once it is complete at the input.
///
/// It holds the operator's capability at the lower edge of the first epoch that is not done, so
/// that an epoch may be emitted into until [`EpochCursor::done`], whether it had input or not.
pub struct EpochCursor {
    capability: Option<Capability<Time>>,
    next: Epoch,
    context: Context,
}

impl EpochCursor {
    /// Starts at the context's first epoch.
    pub fn new(mut capability: Capability<Time>, context: &Context) -> Self {
        let next = context.start();
        capability.downgrade(&Time::opening(next));
        Self {
            capability: Some(capability),
            next,
            context: context.clone(),
        }
    }

    /// The next epoch that is complete, with the capability to emit at its time.
    ///
    /// Call [`EpochCursor::done`] before asking again.
    pub fn complete(
        &mut self,
        frontier: &MutableAntichain<Time>,
    ) -> Option<(EpochInfo, Capability<Time>)> {
        let frontier = frontier.frontier();
        if frontier.first().is_some_and(|time| time.epoch <= self.next) {
            return None;
        }
        let Some(info) = self.context.epoch(self.next) else {
            // Beyond the last epoch: the input has ended.
            if frontier.is_empty() {
                self.capability = None;
            }
            return None;
        };
        let capability = self.capability.as_ref()?.delayed(&info.time());
        Some((info, capability))
    }

    /// The epoch last given is done.
    pub fn done(&mut self) {
        self.next += 1;
        if let Some(capability) = &mut self.capability {
            capability.downgrade(&Time::opening(self.next));
        }
    }

    /// The first epoch that is not done.
    pub fn current(&self) -> Epoch {
        self.next
    }
}
