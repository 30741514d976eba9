//! How the sequencer and the workers talk: a small dataflow beside the query's own, unless there is one worker.
//!
//! Commands go from the first worker to all, reports from all to the first. The sequencer
//! hands commands to the first worker over a channel and wakes it; the first worker leaves reports in its mailbox and
//! has it [attend](Control::attend) to them. There is no second network
//! protocol: between processes this is timely's own communication. Messages are JSON there, because a
//! split's range is; there are a handful an epoch. Between threads they travel as they are.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::iter::repeat_n;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidemark_connectors::{Split, Staged};
use timely::communication::Push;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::Message;
use timely::dataflow::channels::pact::DistributorPact;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::generic::operator::source;
use timely::progress::Stamp;
use timely::scheduling::Activator;
use timely::worker::Worker;
use uuid::Uuid;

use crate::checkpoint::{RestorePlan, StateFile};
use crate::operators::dead_letter::DeadLetter;
use crate::operators::late::LateRow;
use crate::operators::{EpochInfo, OperatorStats, SourceProgress};
use crate::runtime::busy::Spent;
use crate::runtime::latency::{Arrivals, Latencies};
use crate::runtime::reports::Mailbox;
use crate::time::Epoch;

/// What the sequencer tells every worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Build the dataflow.
    Start(Start),
    /// Read and process an epoch.
    Open(Order),
    /// End an epoch that was opened as a [tick](Order::tick).
    Close {
        /// The epoch.
        epoch: Epoch,
        /// As [`Order::commit_from`].
        commit_from: Option<Epoch>,
    },
    /// End at once; nothing is in flight, or what is does not count.
    Stop {
        /// Why, if the query failed.
        cause: Option<String>,
        /// It starts again after this time.
        again: Option<Duration>,
    },
}

/// How a run begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    /// The query's id, which lives as long as its checkpoint.
    pub query_id: Uuid,
    /// The first epoch of this run.
    pub first_epoch: Epoch,
    /// The state to begin with; `None`: nothing.
    pub restore: Option<RestorePlan>,
    /// The joins whose tables are spread over the workers: what the first process decided holds for all.
    pub spread: Vec<usize>,
}

/// An epoch to process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// What was decided for it.
    pub info: EpochInfo,
    /// The splits of each source, by its index in the plan.
    pub splits: Vec<Vec<Split>>,
    /// Make all since the last commit durable when this epoch is done: the first epoch of those.
    pub commit_from: Option<Epoch>,
    /// The epoch is one of a continuous query.
    pub tick: Option<Tick>,
}

/// An epoch that takes in what arrives until it is closed. Making it durable happens apart, and is reported as
/// [`Report::Stored`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tick {
    /// The partitions of each source that are followed from now on, with their numbers.
    pub follow: Vec<Vec<(u32, Split)>>,
    /// The rows of each epoch are staged by themselves.
    pub stage: bool,
    /// Writers know when rows have arrived; else they have when they are committed.
    pub acknowledged: bool,
}

/// What a worker tells the sequencer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Report {
    /// The dataflow is built and holds the state that it begins with.
    Ready,
    /// An epoch is done, and durable where that was asked for.
    Done(Box<Done>),
    /// Something arrived in an open tick.
    Arrived {
        /// The tick.
        epoch: Epoch,
        /// It takes no more.
        full: bool,
    },
    /// What a worker has of the ticks of a commit is durable.
    Stored(Box<Stored>),
    /// Nothing; whoever sleeps is to look up.
    Nudge,
    /// The user asks another process than the first to stop the query.
    StopAsked,
    /// The query cannot go on.
    Failed {
        /// Which worker.
        worker: usize,
        /// Why, for the user.
        error: String,
        /// It may go away by itself.
        may_pass: bool,
    },
}

/// See [`Report::Done`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Done {
    /// Which worker.
    pub worker: usize,
    /// Which epoch.
    pub epoch: Epoch,
    /// What it read, by source and partition.
    pub sources: BTreeMap<usize, BTreeMap<Arc<str>, SourceProgress>>,
    /// What its operators did, by node.
    pub operators: BTreeMap<usize, OperatorStats>,
    /// The rows that it set aside.
    pub dead_letters: Vec<DeadLetter>,
    /// The rows that came too late, where the query has a table for them.
    pub late_rows: Vec<LateRow>,
    /// What its writer staged.
    pub staged: Option<Staged>,
    /// The state file that it wrote.
    pub state: Option<StateFile>,
    /// What it read of the partitions that it follows, by source.
    pub followed: BTreeMap<usize, Vec<Split>>,
    /// When batches of those arrived (microseconds since 1970 UTC), and their rows.
    pub arrivals: Arrivals,
    /// What its time went to since the last commit; told with a commit.
    pub busy: Spent,
}

/// See [`Report::Stored`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stored {
    /// Which worker.
    pub worker: usize,
    /// What its writer staged.
    pub staged: Option<Staged>,
    /// The state file that it wrote.
    pub state: Option<StateFile>,
    /// How many rows took how long to be acknowledged (microseconds), as far as its process knows.
    pub latencies: Latencies,
    /// How long that took.
    pub busy: Spent,
}

/// The sequencer's end, handed to the first worker.
pub struct SequencerEnd {
    /// What the sequencer wants told.
    pub commands: Receiver<Command>,
    /// Where reports go.
    pub reports: Arc<Mailbox>,
    /// Has it hear them.
    pub attend: Attend,
    /// Where the first worker leaves what wakes it.
    pub waker: Waker,
}

/// Has the sequencer hear what was reported, on the caller's thread or its own. When it wants to look again
/// on the caller's.
pub type Attend = Box<dyn Fn() -> Option<Instant> + Send>;

/// Wakes the first worker.
#[derive(Clone, Default)]
pub struct Waker(Arc<OnceLock<Thread>>);

impl Waker {
    /// Tells the first worker that a command waits.
    pub fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

/// A worker's end.
pub struct Control {
    /// On the first worker: what the sequencer wants told.
    commands: Option<Receiver<Command>>,
    inbox: Rc<RefCell<VecDeque<Command>>>,
    outbox: Outbox,
    /// Where there are other workers.
    post: Option<(Outgoing<Command>, Outgoing<Report>)>,
    /// On the first worker: has the sequencer hear.
    attend: Option<Attend>,
    /// When the sequencer wants to look though nothing is reported.
    due: Cell<Option<Instant>>,
}

impl Control {
    /// The next command.
    pub fn next(&self) -> Option<Command> {
        if let Some(commands) = &self.commands {
            loop {
                let command = match commands.try_recv() {
                    Ok(command) => command,
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => Command::Stop {
                        cause: None,
                        again: None,
                    },
                };
                let is_last = matches!(command, Command::Stop { .. });
                match &self.post {
                    Some((commands, _)) => commands.send(command),
                    None => self.inbox.borrow_mut().push_back(command),
                }
                if is_last {
                    break;
                }
            }
        }
        self.inbox.borrow_mut().pop_front()
    }

    /// Tells the sequencer.
    pub fn report(&self, report: Report) {
        match &self.post {
            Some((_, reports)) => reports.send(report),
            None => self.outbox.leave(report),
        }
    }

    /// Has the sequencer hear what has been reported. How long until it is to be asked again, if nothing is reported
    /// until then.
    pub fn attend(&self) -> Option<Duration> {
        let attend = self.attend.as_ref()?;
        let is_due = |due: Instant| due <= Instant::now();
        if self.outbox.left.take() || self.due.get().is_some_and(is_due) {
            self.due.set(attend());
        }
        let due = self.due.get()?;
        Some(due.saturating_duration_since(Instant::now()))
    }
}

/// Where the first worker leaves reports. Clones are the same.
#[derive(Clone, Default)]
struct Outbox {
    mailbox: Option<Arc<Mailbox>>,
    /// There are some that the sequencer was not asked to hear.
    left: Rc<Cell<bool>>,
}

impl Outbox {
    fn leave(&self, report: Report) {
        if let Some(mailbox) = &self.mailbox {
            mailbox.leave(report);
            self.left.set(true);
        }
    }
}

/// What waits to travel. Clones are the same.
struct Outgoing<L> {
    waiting: Rc<RefCell<Vec<L>>>,
    activator: Rc<RefCell<Option<Activator>>>,
}

impl<L> Outgoing<L> {
    fn new() -> Self {
        Self {
            waiting: Rc::default(),
            activator: Rc::default(),
        }
    }

    fn send(&self, letter: L) {
        self.waiting.borrow_mut().push(letter);
        if let Some(activator) = self.activator.borrow().as_ref() {
            activator.activate();
        }
    }
}

impl<L> Clone for Outgoing<L> {
    fn clone(&self) -> Self {
        Self {
            waiting: Rc::clone(&self.waiting),
            activator: Rc::clone(&self.activator),
        }
    }
}

/// What travels: JSON where it leaves the process.
#[derive(Clone, Debug)]
struct Letter<L>(L);

impl<L: Serialize> Serialize for Letter<L> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = serde_json::to_string(&self.0).map_err(S::Error::custom)?;
        serializer.serialize_str(&text)
    }
}

impl<'de, L: DeserializeOwned> Deserialize<'de> for Letter<L> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        serde_json::from_str(&text)
            .map(Self)
            .map_err(D::Error::custom)
    }
}

/// Letters, each with the worker that it is for.
type Mail<L> = Vec<(u64, Letter<L>)>;

/// Sends each letter to the worker that it names.
struct ByTarget<L> {
    parts: Vec<Mail<L>>,
}

impl<L: Clone + 'static> Distributor<Mail<L>> for ByTarget<L> {
    fn partition<T: Clone, P: Push<Message<T, Mail<L>>>>(
        &mut self,
        mail: &mut Mail<L>,
        stamp: &Stamp<T>,
        pushers: &mut [P],
    ) {
        for item in mail.drain(..) {
            self.parts[item.0 as usize].push(item);
        }
        for (part, pusher) in self.parts.iter_mut().zip(pushers) {
            if !part.is_empty() {
                let mut part = std::mem::take(part);
                Message::push_at(&mut part, stamp.clone(), pusher);
            }
        }
    }

    fn flush<T: Clone, P: Push<Message<T, Mail<L>>>>(&mut self, _: &Stamp<T>, _: &mut [P]) {}
}

fn by_target<L>() -> DistributorPact<fn(usize) -> ByTarget<L>> {
    DistributorPact(|peers| ByTarget {
        parts: (0..peers).map(|_| vec![]).collect(),
    })
}

/// Builds the control dataflow, where there are workers that need one. The first worker brings the sequencer's end.
pub fn build(worker: &mut Worker, sequencer: Option<SequencerEnd>) -> Control {
    let (commands, mailbox, attend) = match sequencer {
        Some(end) => {
            end.waker.0.get_or_init(std::thread::current);
            (Some(end.commands), Some(end.reports), Some(end.attend))
        }
        None => (None, None, None),
    };
    let mut control = Control {
        commands,
        inbox: Rc::default(),
        outbox: Outbox {
            mailbox,
            left: Rc::default(),
        },
        post: None,
        attend,
        due: Cell::default(),
    };
    let peers = worker.peers();
    if peers > 1 {
        let (commands, reports) = (Outgoing::new(), Outgoing::new());
        control.post = Some((commands.clone(), reports.clone()));
        let (inbox, outbox) = (Rc::clone(&control.inbox), control.outbox.clone());
        worker.dataflow_named::<u64, _, _>("control", move |scope| {
            let to_all = move |command| (0..).zip(repeat_n(Letter(command), peers)).collect();
            post(scope, "command", commands, to_all, move |command| {
                inbox.borrow_mut().push_back(command);
            });
            let to_first = |report| vec![(0, Letter(report))];
            post(scope, "report", reports, to_first, move |report| {
                outbox.leave(report);
            });
        });
    }
    control
}

/// Carries letters: `address` says to whom one goes, `take` is given those that come.
fn post<L: Clone + Send + Serialize + DeserializeOwned + 'static>(
    scope: Scope<'_, u64>,
    name: &str,
    outgoing: Outgoing<L>,
    address: impl Fn(L) -> Mail<L> + 'static,
    take: impl Fn(L) + 'static,
) {
    source::<_, CapacityContainerBuilder<Mail<L>>, _, _>(scope, name, move |capability, info| {
        *outgoing.activator.borrow_mut() = Some(scope.activator_for(info.address));
        move |output| {
            let letters = std::mem::take(&mut *outgoing.waiting.borrow_mut());
            let mut mail: Mail<L> = letters.into_iter().flat_map(&address).collect();
            if !mail.is_empty() {
                output.session(&capability).give_container(&mut mail);
            }
        }
    })
    .sink(by_target(), name, move |(input, _frontier)| {
        input.for_each_stamp(|_, mails| {
            for (_, Letter(letter)) in mails.flat_map(std::mem::take) {
                take(letter);
            }
        });
    });
}
