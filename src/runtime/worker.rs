//! What a worker does: it follows the sequencer's commands and drives its share of the dataflow.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidemark_connectors::storage::Storage;
use tidemark_connectors::{Distribution, SourceReader, Split, Staging};
use timely::worker::Worker;

use crate::checkpoint::{FileKind, RestorePlan, StateDir, StateFile, StateFileWriter, StateFiles};
use crate::compile::{CLOCK, Dataflow, Part, Parts, Routed, compile, routed_parts};
use crate::operators::calls::Outside;
use crate::operators::dead_letter::take_letters;
use crate::operators::late::take_late;
use crate::operators::source::SplitPool;
use crate::operators::{Context, Restored};
use crate::plan::Plan;
use crate::plan::catalog::OnError;
use crate::row::{hash, route};
use crate::runtime::QueryError;
use crate::runtime::busy::{Busy, micros};
use crate::runtime::cluster::Link;
use crate::runtime::control::{
    self, Command, Control, Done, Order, Report, SequencerEnd, Start, Stored,
};
use crate::runtime::latency::LatencyHistogram;
use crate::runtime::launch::OpenWriter;
use crate::state::{HEADER_LEN, RecordedBatch, Recorder, Sections};
use crate::time::{Epoch, Time};

/// A worker that is woken by nobody looks around this often.
const PARK: Duration = Duration::from_millis(100);

/// What the workers of a process share.
pub struct Setup {
    /// What to compile.
    pub plan: Arc<Plan>,
    /// The reading half of each source.
    pub readers: Vec<Arc<dyn SourceReader>>,
    /// The splits of each use of a source.
    pub pools: Vec<Arc<SplitPool>>,
    /// Where the sink wants its writers.
    pub distribution: Distribution,
    /// Gives a worker of this process its writer.
    pub writer: Box<OpenWriter>,
    /// The checkpoint's directory; `None`: the query has none.
    pub checkpoint: Option<PathBuf>,
    /// Where it writes its files.
    pub storage: Arc<dyn Storage>,
    /// The sequencer's end, until the first worker takes it.
    pub sequencer: Mutex<Option<SequencerEnd>>,
    /// Told of a worker that panicked, or of a process that is lost.
    pub failed: Box<dyn Fn(usize, String) + Send + Sync>,
    /// Told when the sequencer ends the query: why if it failed, and after what time it starts again if it does.
    pub ended: Box<dyn Fn(Option<String>, Option<Duration>) + Send + Sync>,
    /// Somebody asks this process to stop the query.
    pub stop_asked: AtomicBool,
    /// Broken once commands may not travel any more.
    pub link: Arc<Link>,
    /// This process's number.
    pub process: usize,
    /// How many workers each process has.
    pub local_workers: usize,
    /// How long records took to be acknowledged, where writers know.
    pub latencies: Arc<LatencyHistogram>,
    /// Where calls to the outside are noted.
    pub outside: Outside,
}

/// The life of one worker.
pub fn run(worker: &mut Worker, setup: &Setup) {
    let index = worker.index();
    let outcome = catch_unwind(AssertUnwindSafe(|| follow(worker, setup)));
    if let Err(panic) = outcome {
        let error = panicked(&format!("worker {index}"), &*panic);
        setup.link.cut();
        (setup.failed)(index, error);
    }
    for dataflow in worker.installed_dataflows() {
        worker.drop_dataflow(dataflow);
    }
}

/// What is told of a panic.
pub(super) fn panicked(who: &str, panic: &(dyn Any + Send)) -> String {
    let reason = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no reason given");
    format!("internal error, {who} panicked: {reason}; please report it with the query")
}

fn follow(worker: &mut Worker, setup: &Setup) {
    let end = match worker.index() {
        0 => setup
            .sequencer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(),
        _ => None,
    };
    let control = control::build(worker, end);
    let index = worker.index();
    let fail = |error: &QueryError| {
        control.report(Report::Failed {
            worker: index,
            error: error.to_string(),
            may_pass: error.may_pass(),
        });
    };
    let mut running: Option<Running> = None;
    while !setup.link.is_broken() {
        while let Some(command) = control.next() {
            match command {
                Command::Start(start) => match Running::start(worker, setup, &start) {
                    Ok(started) => {
                        running = Some(started);
                        control.report(Report::Ready);
                    }
                    Err(error) => fail(&error),
                },
                Command::Open(order) => {
                    if let Some(running) = &mut running {
                        running.open(order, setup);
                    }
                }
                Command::Close { epoch, commit_from } => {
                    if let Some(running) = &mut running {
                        running.close(epoch, commit_from);
                    }
                }
                Command::Stop { cause, again } => {
                    (setup.ended)(cause, again);
                    // What is on its way to other processes leaves.
                    worker.step();
                    worker.step();
                    return;
                }
            }
        }
        if setup.stop_asked.swap(false, Ordering::SeqCst) {
            control.report(Report::StopAsked);
        }
        if let Some(now) = &mut running
            && let Err(error) = now.advance(&control)
        {
            fail(&error);
            running = None;
        }
        let nap = control.attend().map_or(PARK, |nap| nap.min(PARK));
        worker.step_or_park(Some(nap));
    }
}

/// A worker's share of a running query.
struct Running {
    worker: usize,
    peers: usize,
    context: Context,
    dataflow: Dataflow,
    recorder: Recorder,
    latencies: Arc<LatencyHistogram>,
    outside: Outside,
    busy: Busy,
    state_dir: Option<StateDir>,
    orders: VecDeque<Order>,
    /// What is being made durable on threads of their own, in order.
    storing: VecDeque<Receiver<Result<Stored, QueryError>>>,
    /// The last tick that was closed.
    closed: Option<Epoch>,
    /// What the epochs since the last commit added to the state, as it becomes the commit's file. Where the state came
    /// from another number of workers, the first begins with all of it.
    file: Option<(FileKind, StateFileWriter)>,
}

impl Running {
    fn start(worker: &mut Worker, setup: &Setup, start: &Start) -> Result<Self, QueryError> {
        let (index, peers) = (worker.index(), worker.peers());
        let busy = Busy::listen(worker);
        let context = Context::new(index, peers, start.first_epoch);
        context.note_calls(setup.outside.clone());
        if setup.plan.on_error == OnError::DeadLetter {
            context.keep_dead_letters();
        }
        if setup.plan.late_rows.is_some() {
            context.late_rows().keep();
        }
        let state_dir = setup
            .checkpoint
            .as_ref()
            .map(|path| StateDir::new(path, start.query_id, Arc::clone(&setup.storage)));
        let (restored, file) = match (&start.restore, &state_dir) {
            (Some(plan), Some(dir)) => {
                restore(plan, dir, (index, peers), &routed_parts(&setup.plan))?
            }
            _ => (Restored::nothing(), None),
        };
        let recorder = match &state_dir {
            Some(_) => Recorder::new(),
            None => Recorder::disabled(),
        };
        let local = index - setup.process * setup.local_workers;
        let parts = Parts {
            context: context.clone(),
            readers: setup.readers.clone(),
            pools: setup.pools.clone(),
            local_workers: setup.local_workers,
            distribution: setup.distribution,
            writer: (setup.writer)(local, start.query_id)?,
            spread: start.spread.clone(),
            recorder: recorder.clone(),
            restored,
        };
        let mut dataflow = worker.dataflow_named::<Time, _, _>(&setup.plan.name, |scope| {
            compile(scope, &setup.plan, parts)
        })?;
        busy.name(std::mem::take(&mut dataflow.parts));
        Ok(Self {
            worker: index,
            peers,
            context,
            dataflow,
            recorder,
            latencies: Arc::clone(&setup.latencies),
            outside: setup.outside.clone(),
            busy,
            state_dir,
            orders: VecDeque::new(),
            storing: VecDeque::new(),
            closed: None,
            file: file.map(|snapshot| (FileKind::Snapshot, snapshot)),
        })
    }

    fn open(&mut self, mut order: Order, setup: &Setup) {
        self.context.open(order.info);
        let splits = Arc::new(std::mem::take(&mut order.splits));
        self.context.reads(order.info.epoch, Arc::clone(&splits));
        let processes = self.peers / setup.local_workers;
        if let Some(tick) = &mut order.tick {
            self.context.tick(Some(order.info.epoch));
            for (index, partitions) in tick.follow.drain(..).enumerate() {
                let handle = self.dataflow.sources.iter().find(|(of, _)| *of == index);
                for (number, split) in partitions {
                    if let Some((_, handle)) = handle
                        && number as usize % self.peers == self.worker
                    {
                        handle.follow(order.info.epoch, number, split);
                    }
                }
            }
        }
        for (source, handle) in &self.dataflow.sources {
            let splits: Vec<(u32, Split)> = match *source {
                CLOCK => vec![],
                source => (0..)
                    .zip(&splits[source])
                    .skip(setup.process)
                    .step_by(processes)
                    .map(|(number, split)| (number, split.clone()))
                    .collect(),
            };
            handle.open(order.info.epoch, &splits);
        }
        self.orders.push_back(order);
    }

    /// Ends a tick.
    fn close(&mut self, epoch: Epoch, commit_from: Option<Epoch>) {
        self.context.tick(None);
        let order = self.orders.iter_mut().find(|o| o.info.epoch == epoch);
        if let Some(order) = order {
            order.commit_from = commit_from;
        }
        self.closed = Some(epoch);
        for (_, handle) in &self.dataflow.sources {
            handle.end(epoch);
        }
    }

    /// Reports what is done, and a failure.
    fn advance(&mut self, control: &Control) -> Result<(), QueryError> {
        if let Some(error) = self.context.take_failure() {
            return Err(error.into());
        }
        if let Some((epoch, full)) = self.context.take_arrival() {
            control.report(Report::Arrived { epoch, full });
        }
        while let Some(order) = self.orders.front()
            && (order.tick.is_none() || self.closed >= Some(order.info.epoch))
            && self.dataflow.output.is_complete(order.info.epoch)
        {
            let epoch = order.info.epoch;
            let (followed, arrivals) = self.context.take_followed(epoch);
            let mut done = Done {
                followed,
                arrivals,
                worker: self.worker,
                epoch,
                sources: self.context.take_source_reports(epoch),
                operators: self.context.take_stats(epoch),
                dead_letters: take_letters(&self.context, epoch),
                late_rows: take_late(&self.context, epoch),
                ..Done::default()
            };
            match (&order.tick, order.commit_from) {
                (None, Some(first)) => {
                    let (busy, output) = (self.busy.clone(), &self.dataflow.output);
                    done.staged = busy.at(Part::Sink, || output.stage(epoch))?;
                    done.state = busy.at(Part::Checkpoint, || {
                        let file = self.write_state(first, epoch)?;
                        file.map(Unfinished::finish).transpose()
                    })?;
                    done.busy = busy.take();
                }
                (Some(tick), first) => {
                    if tick.stage {
                        let output = &self.dataflow.output;
                        done.staged = self.busy.at(Part::Sink, || output.stage(epoch))?;
                    }
                    if tick.acknowledged && !done.arrivals.is_empty() {
                        let arrivals = std::mem::take(&mut done.arrivals);
                        let latencies = Arc::clone(&self.latencies);
                        let then = Box::new(move || latencies.acknowledged(&arrivals));
                        self.dataflow.output.when_acknowledged(epoch, then);
                    }
                    if let Some(first) = first {
                        // A tick that is staged by itself is already.
                        let staging = if tick.stage {
                            None
                        } else {
                            self.dataflow.output.stage_apart(epoch)?
                        };
                        self.store(staging, first, epoch)?;
                        done.busy = self.busy.take();
                    } else {
                        // Bit by bit: all of it at once would hold up what comes in meanwhile.
                        let busy = self.busy.clone();
                        busy.at(Part::Checkpoint, || self.save_state(epoch))?;
                    }
                }
                (None, None) => {}
            }
            self.context.close(epoch);
            self.orders.pop_front();
            control.report(Report::Done(Box::new(done)));
        }
        while let Some(storing) = self.storing.front() {
            let Ok(stored) = storing.try_recv() else {
                break;
            };
            self.storing.pop_front();
            control.report(Report::Stored(Box::new(stored?)));
        }
        Ok(())
    }

    /// Makes what the ticks of a commit wrote durable, while later ones go on.
    fn store(
        &mut self,
        staging: Option<Staging>,
        first: Epoch,
        last: Epoch,
    ) -> Result<(), QueryError> {
        let file = self.write_state(first, last)?;
        let (sender, receiver) = mpsc::channel();
        self.storing.push_back(receiver);
        let (worker, latencies) = (self.worker, Arc::clone(&self.latencies));
        let calls = Arc::clone(&self.outside.sink);
        let wake = std::thread::current();
        let store = move || -> Result<Stored, QueryError> {
            let began = Instant::now();
            let call = calls.begin();
            let staged = staging.map(|staging| staging()).transpose()?;
            drop(call);
            let at_sink = began.elapsed();
            let state = file.map(Unfinished::finish).transpose()?;
            let at_checkpoint = began.elapsed().saturating_sub(at_sink);
            Ok(Stored {
                worker,
                staged,
                state,
                latencies: latencies.take(),
                busy: vec![
                    (Part::Sink, micros(at_sink)),
                    (Part::Checkpoint, micros(at_checkpoint)),
                ],
            })
        };
        std::thread::Builder::new()
            .name(format!("tidemark-store-{worker}"))
            .spawn(move || {
                let stored = catch_unwind(AssertUnwindSafe(store))
                    .unwrap_or_else(|panic| Err(QueryError::Worker(panicked("a commit", &*panic))));
                // A worker that has ended does not ask.
                let _ = sender.send(stored);
                wake.unpark();
            })
            .map_err(|error| QueryError::Start(error.to_string()))?;
        Ok(())
    }

    /// Writes what the epochs added to the state, or all of it where the workers' number changed.
    fn write_state(&mut self, first: Epoch, last: Epoch) -> Result<Option<Unfinished>, QueryError> {
        self.save_state(last)?;
        Ok(self.file.take().map(|(kind, writer)| Unfinished {
            writer,
            kind,
            epochs: (first, last),
        }))
    }

    /// Writes what the epochs up to this one added to the state and is not written yet.
    fn save_state(&mut self, upto: Epoch) -> Result<(), QueryError> {
        let Some(dir) = &self.state_dir else {
            return Ok(());
        };
        let mut batches = self.recorder.take(upto);
        if batches.is_empty() {
            return Ok(());
        }
        let (_, writer) = match &mut self.file {
            Some(file) => file,
            none => {
                let writer = StateFileWriter::create(dir, self.worker, self.peers)?;
                none.insert((FileKind::Delta, writer))
            }
        };
        let place = |batch: &RecordedBatch| (batch.info().operator, batch.info().trace);
        batches.sort_by_key(place);
        let mut bytes = vec![];
        for batch in &batches {
            let (operator, trace) = place(batch);
            bytes.clear();
            batch.encode(&mut bytes);
            writer.section(operator, trace, &bytes)?;
        }
        Ok(())
    }
}

/// A state file that is not durable yet.
struct Unfinished {
    writer: StateFileWriter,
    kind: FileKind,
    epochs: (Epoch, Epoch),
}

impl Unfinished {
    fn finish(self) -> Result<StateFile, QueryError> {
        let (first, last) = self.epochs;
        Ok(self.writer.finish(self.kind, first, last)?)
    }
}

/// Reads what a worker begins with. Where the state is of another number of workers, that is also
/// written into the file of the worker's next commit.
fn restore(
    plan: &RestorePlan,
    dir: &StateDir,
    (worker, peers): (usize, usize),
    routed: &BTreeMap<u32, Routed>,
) -> Result<(Restored, Option<StateFileWriter>), QueryError> {
    let split = plan.must_split(peers);
    let files = StateFiles::open(dir, plan.files_of(worker, peers))?;
    let mut restored = Restored::nothing();
    let mut snapshot = split
        .then(|| StateFileWriter::create(dir, worker, peers))
        .transpose()?;
    for (operator, trace) in files.traces() {
        let part = routed.get(&operator).copied();
        let keep = |key: &[u8]| {
            let key = part.map_or(key, |part| part(trace, key));
            !split || route(hash(key), peers) == worker
        };
        let sections = Sections::open(files.sections(operator, trace)?)?;
        let begins = match &mut snapshot {
            None => sections.restore(plan.watermark, &keep, None)?.0,
            Some(file) => {
                let mut copy = file.stream(operator, trace);
                copy.leave(HEADER_LEN)?;
                let (begins, header) = sections.restore(plan.watermark, &keep, Some(&mut copy))?;
                copy.end(&header)?;
                begins
            }
        };
        restored.add(operator, trace, begins);
    }
    Ok((restored, snapshot))
}
