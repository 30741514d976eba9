//! Which part of a query its time goes to: the sources, the operators, the sink, the checkpoint.
//!
//! A worker learns from timely's own log when an operator is scheduled and when it is done. Of the workers
//! the busiest counts, part by part: an epoch is done when the last of them is. The part that took longest is
//! what holds the query where it does not keep up.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use timely::logging::{StartStop, TimelyEvent, TimelyEventBuilder};
use timely::worker::Worker;

use crate::compile::Part;
use crate::plan::{Node, Operator, Plan};

/// How long parts were at work, in microseconds; those that were not are left out.
pub(super) type Spent = Vec<(Part, u64)>;

/// What one worker's time goes to. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Busy(Rc<RefCell<Log>>);

#[derive(Default)]
struct Log {
    /// By timely's number of the operator.
    parts: BTreeMap<usize, Part>,
    /// What is being scheduled, and since when.
    now: Option<(Part, Duration)>,
    spent: BTreeMap<Part, Duration>,
}

impl Busy {
    /// Of a worker whose dataflow is not built yet.
    pub(super) fn listen(worker: &Worker) -> Self {
        let busy = Self::default();
        let log = Rc::clone(&busy.0);
        if let Some(mut register) = worker.log_register() {
            register.insert::<TimelyEventBuilder, _>("timely", move |_, events| {
                if let Some(events) = events {
                    let mut log = log.borrow_mut();
                    for (at, event) in events.drain(..) {
                        if let TimelyEvent::Schedule(event) = event {
                            log.scheduled(event.id, event.start_stop, at);
                        }
                    }
                }
            });
        }
        busy
    }

    /// Says which part each operator belongs to.
    pub(super) fn name(&self, parts: BTreeMap<usize, Part>) {
        self.0.borrow_mut().parts = parts;
    }

    /// Does something that is no operator's.
    pub(super) fn at<T>(&self, part: Part, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        let mut log = self.0.borrow_mut();
        *log.spent.entry(part).or_default() += began.elapsed();
        done
    }

    /// What was spent since this was last asked.
    pub(super) fn take(&self) -> Spent {
        let spent = std::mem::take(&mut self.0.borrow_mut().spent);
        let spent = spent.into_iter();
        spent
            .map(|(part, spent)| (part, micros(spent)))
            .filter(|(_, spent)| *spent > 0)
            .collect()
    }
}

impl Log {
    fn scheduled(&mut self, operator: usize, what: StartStop, at: Duration) {
        // The dataflow itself is scheduled around its operators, and is no part.
        let Some(part) = self.parts.get(&operator).copied() else {
            return;
        };
        match what {
            StartStop::Start => self.now = Some((part, at)),
            StartStop::Stop => {
                if let Some((part, since)) = self.now.take() {
                    *self.spent.entry(part).or_default() += at.saturating_sub(since);
                }
            }
        }
    }
}

/// In microseconds.
pub(super) fn micros(spent: Duration) -> u64 {
    u64::try_from(spent.as_micros()).unwrap_or(u64::MAX)
}

/// What the workers of an epoch were at: of each part the busiest of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct BusyParts(BTreeMap<Part, Duration>);

impl BusyParts {
    /// Takes in what another worker spent on the same epoch.
    pub(super) fn beside(&mut self, spent: &[(Part, u64)]) {
        for (part, spent) in spent {
            let most = self.0.entry(*part).or_default();
            *most = (*most).max(Duration::from_micros(*spent));
        }
    }

    /// Takes in what came after it.
    pub(super) fn then(&mut self, later: &Self) {
        for (part, spent) in &later.0 {
            self.add(*part, *spent);
        }
    }

    /// A part took longer.
    pub(super) fn add(&mut self, part: Part, spent: Duration) {
        *self.0.entry(part).or_default() += spent;
    }

    /// With what the sequencer did itself, by phase.
    pub(super) fn with(&self, phases: &BTreeMap<&'static str, Duration>) -> Self {
        let mut all = self.clone();
        for (phase, spent) in phases {
            match *phase {
                "commitBatch" => all.add(Part::Sink, *spent),
                "walCommit" | "commitOffsets" => all.add(Part::Checkpoint, *spent),
                _ => {}
            }
        }
        all
    }

    /// The names of the parts, and how long they took.
    pub(super) fn named(&self, plan: &Plan) -> Vec<(String, Duration)> {
        let parts = self.0.iter();
        parts
            .map(|(part, spent)| (name(plan, *part), *spent))
            .collect()
    }

    /// The part that took longest, and for how long; none where all were quick.
    pub(super) fn longest(&self) -> Option<(Part, Duration)> {
        let longest = self.0.iter().max_by_key(|(_, spent)| **spent);
        longest
            .filter(|(_, spent)| **spent >= Duration::from_millis(1))
            .map(|(part, spent)| (*part, *spent))
    }
}

/// What people call a part.
pub(super) fn name(plan: &Plan, part: Part) -> String {
    match part {
        Part::Source(index) => {
            let table = plan.sources.get(index);
            format!("source {}", table.map_or("", |table| table.name.as_str()))
        }
        Part::Operator(id) => {
            // The whole result is kept behind the last operator of the plan.
            let kind = find(&plan.root, id).map_or("whole result", kind);
            format!("operator {id} ({kind})")
        }
        Part::Sink => format!("sink {}", plan.sink.name),
        Part::Checkpoint => "checkpoint".into(),
    }
}

fn find(node: &Node, id: usize) -> Option<&Operator> {
    if node.id == id {
        return Some(&node.operator);
    }
    node.inputs.iter().find_map(|input| find(input, id))
}

fn kind(operator: &Operator) -> &'static str {
    match operator {
        Operator::Source { .. } => "source",
        Operator::FilterProject { .. } => "filter and project",
        Operator::Unnest { .. } => "unnest",
        Operator::Union => "union",
        Operator::Aggregate(_) => "aggregate",
        Operator::SessionWindow(_) => "session window",
        Operator::Deduplicate(_) => "deduplicate",
        Operator::Rank(_) => "rank",
        Operator::Over(_) => "over",
        Operator::Join(_) => "join",
        Operator::Nearest(_) => "nearest",
        Operator::Values { .. } => "values",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_worker_counts_and_what_follows_is_added() {
        let mut all = BusyParts::default();
        all.beside(&[(Part::Sink, 3_000), (Part::Operator(2), 1_000)]);
        all.beside(&[(Part::Sink, 500), (Part::Operator(2), 2_000)]);
        assert_eq!(all.longest(), Some((Part::Sink, Duration::from_millis(3))));
        let mut later = BusyParts::default();
        later.beside(&[(Part::Operator(2), 2_000)]);
        all.then(&later);
        let longest = Some((Part::Operator(2), Duration::from_millis(4)));
        assert_eq!(all.longest(), longest);
        assert_eq!(BusyParts::default().longest(), None);
    }

    #[test]
    fn only_known_operators_are_timed() {
        let mut log = Log::default();
        log.parts.insert(7, Part::Source(0));
        let at = Duration::from_micros;
        for (operator, what, time) in [
            (1, StartStop::Start, 0),
            (7, StartStop::Start, 10),
            (7, StartStop::Stop, 40),
            (8, StartStop::Start, 40),
            (8, StartStop::Stop, 90),
            (1, StartStop::Stop, 100),
        ] {
            log.scheduled(operator, what, at(time));
        }
        assert_eq!(log.spent, BTreeMap::from([(Part::Source(0), at(30))]));
    }
}
