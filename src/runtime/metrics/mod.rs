//! What a process tells Prometheus of its queries.
//!
//! | module | what it does |
//! |---|---|
//! | [`measured`] | what an epoch showed beside its progress |
//! | `lag` | how far a source is read, partition by partition |
//! | `series` | what is kept of a query: counters, histograms, gauges |
//! | `families` | every name that is served, and where its numbers come from |
//! | `page` | Prometheus' text format |
//!
//! A query's sequencer adds each epoch once it is committed; workers know nothing of this. A page is
//! made from a snapshot, so a scrape holds no query up. A query that has ended keeps its counters and
//! loses its gauges. `docs/metrics.md` lists the names.

mod families;
mod lag;
pub mod measured;
mod page;
mod series;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use self::families::Snapshot;
use self::series::Query;
use crate::checkpoint::Scales;
use crate::plan::{Node, Operator, Plan};
use crate::runtime::{Progress, clock};

pub(super) use self::lag::lags;
pub use self::measured::Measured;
pub(super) use self::page::CONTENT_TYPE;

/// Of how many queries that have ended the counters are kept.
const MOST_ENDED: usize = 100;

/// What is known of the queries of this process.
#[derive(Debug)]
pub struct Metrics {
    app_id: String,
    /// Microseconds since 1970.
    started: i64,
    queries: Mutex<BTreeMap<String, Arc<Query>>>,
}

impl Metrics {
    /// Of no query yet. `app_id`: the label that tells this program from others for dashboards made
    /// for Spark.
    pub fn new(app_id: impl Into<String>) -> Self {
        Self {
            app_id: app_id.into(),
            started: clock::now(),
            queries: Mutex::default(),
        }
    }

    /// The page that Prometheus reads.
    pub fn page(&self) -> String {
        let queries = self.lock().clone();
        families::page(&Snapshot {
            app_id: &self.app_id,
            started: self.started,
            queries: &queries,
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Query>>> {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a query's sequencer tells of it. Clones tell of the same query.
#[derive(Clone, Debug)]
pub struct Meter {
    metrics: Arc<Metrics>,
    plan: Arc<Plan>,
    /// How far the operators that wait for event time run behind the watermark, by node.
    lags: Arc<BTreeMap<usize, i64>>,
}

impl Meter {
    /// Of a query that starts now.
    pub fn start(metrics: &Arc<Metrics>, plan: &Arc<Plan>) -> Self {
        let mut lags = BTreeMap::new();
        collect_lags(&plan.root, &mut lags);
        let mut queries = metrics.lock();
        let others = queries.iter().filter(|(name, _)| **name != plan.name);
        let ended: Vec<(Instant, String)> = others
            .filter_map(|(name, query)| Some((query.ended?, name.clone())))
            .collect();
        if ended.len() >= MOST_ENDED
            && let Some((_, oldest)) = ended.into_iter().min()
        {
            queries.remove(&oldest);
        }
        Arc::make_mut(queries.entry(plan.name.clone()).or_default()).start(plan);
        drop(queries);
        Self {
            metrics: Arc::clone(metrics),
            plan: Arc::clone(plan),
            lags: Arc::new(lags),
        }
    }

    /// The query runs on a checkpoint, and this is its start of this number on it.
    pub fn checkpointed(&self, starts: u64, scales: Scales) {
        self.change(|query| query.checkpointed(starts, scales));
    }

    /// An epoch is committed.
    pub fn record(&self, progress: &Progress, measured: Measured) {
        let now = clock::now();
        self.change(|query| query.record((&self.plan, &self.lags), progress, measured, now));
    }

    /// The query has ended.
    pub fn ended(&self, failed: bool) {
        self.change(|query| query.end(failed));
    }

    /// Changes what is known of the query. A page that is being made keeps what it began with.
    fn change(&self, change: impl FnOnce(&mut Query)) {
        let mut queries = self.metrics.lock();
        if let Some(query) = queries.get_mut(&self.plan.name) {
            change(Arc::make_mut(query));
        }
    }
}

fn collect_lags(node: &Node, lags: &mut BTreeMap<usize, i64>) {
    let lag = match &node.operator {
        Operator::Aggregate(aggregate) => aggregate.bound.map(|bound| bound.column.lag),
        Operator::SessionWindow(sessions) => sessions.bound.map(|bound| bound.lag),
        Operator::Deduplicate(deduplicate) => deduplicate.time.as_ref().map(|(_, time)| time.lag),
        Operator::Rank(rank) => rank.bound.map(|bound| bound.column.lag),
        Operator::Over(over) => {
            let column = over.bound.map(|bound| bound.column);
            let column = column.or(over.trailing.map(|trailing| trailing.column));
            column.map(|column| column.lag)
        }
        Operator::Source { .. }
        | Operator::Join(_)
        | Operator::Nearest(_)
        | Operator::FilterProject { .. }
        | Operator::Unnest { .. }
        | Operator::Union
        | Operator::Values { .. } => None,
    };
    if let Some(lag) = lag {
        lags.insert(node.id, lag);
    }
    for input in &node.inputs {
        collect_lags(input, lags);
    }
}
