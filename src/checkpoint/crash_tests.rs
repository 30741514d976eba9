//! Dies at every storage operation of a scripted run and starts again, until it is through.
//!
//! The script runs a query with two, three and two workers, in single epochs and in groups, with
//! folding and purging. Its state is the set of all rows seen; an epoch's rows are named by the
//! range that was logged for it, and each attempt to plan an epoch names other rows. So a replay
//! with another range, a state that misses or repeats an epoch, and a sink that differs from the
//! state all show.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tidemark_connectors::PlannedRange;
use tidemark_connectors::storage::crash::{
    CrashStorage, Loss, Outcome as Effect, Then, memory_directory,
};
use tidemark_connectors::storage::{Moment, Storage};

use super::fold::tests::concatenated;
use super::*;
use crate::time::Epoch;

/// The parts of the script: up to which epoch, with how many workers, how many epochs a group.
const SCRIPT: [(Epoch, usize, Epoch); 4] = [(3, 2, 1), (7, 3, 2), (9, 2, 1), (11, 2, 1)];
const RETAINED: u64 = 2;
const POLICY: FoldPolicy = FoldPolicy {
    min_bytes: 0,
    min_deltas: 2,
    max_deltas: 3,
};

/// What survives every crash because it is not the checkpoint's: the sink, and what was promised.
#[derive(Debug, Default)]
struct World {
    sink: BTreeMap<Epoch, Vec<String>>,
    sink_last: Option<Epoch>,
    attempts: u64,
    logged: BTreeMap<Epoch, OffsetEntry>,
    committed: Option<Epoch>,
}

#[derive(Debug)]
enum Stop {
    Died,
    Wrong(String),
}

impl From<CheckpointError> for Stop {
    fn from(error: CheckpointError) -> Self {
        Self::Wrong(error.to_string())
    }
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Died
    }
}

fn identity() -> Identity {
    Identity {
        name: "rows".into(),
        fingerprint: Fingerprint::new().with("source 0", "numbers"),
    }
}

fn entry(epoch: Epoch, attempt: u64) -> OffsetEntry {
    OffsetEntry {
        epoch,
        watermark: epoch as i64 * 10,
        previous_watermark: epoch as i64 * 10 - 10,
        timestamp_us: attempt as i64,
        partitions: Vec::new(),
        sources: vec![SourceRange {
            range: Some(PlannedRange {
                start: json!(epoch),
                end: json!(format!("{epoch}.{attempt}")),
                splits: Vec::new(),
            }),
        }],
        no_data: false,
    }
}

/// The rows of an epoch, by what was logged; row i belongs to worker i % workers.
fn rows(entry: &OffsetEntry) -> Vec<String> {
    let range = entry.sources[0]
        .range
        .as_ref()
        .expect("every epoch of the script has data");
    (0..6)
        .map(|i| format!("{}#{i}", range.end.as_str().unwrap_or_default()))
        .collect()
}

fn owner(row: &str, workers: usize) -> usize {
    row.rsplit('#')
        .next()
        .and_then(|i| i.parse::<usize>().ok())
        .unwrap_or(0)
        % workers
}

fn parse(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes)
        .split_terminator(';')
        .map(String::from)
        .collect()
}

fn print<'a>(rows: impl IntoIterator<Item = &'a String>) -> Vec<u8> {
    rows.into_iter()
        .flat_map(|row| [row.as_str(), ";"].concat().into_bytes())
        .collect()
}

/// One process's life: opens the checkpoint, recovers, runs up to epoch `until`.
fn live(
    dir: &Path,
    disk: &CrashStorage,
    world: &mut World,
    (until, workers, group): (Epoch, usize, Epoch),
) -> Result<(), Stop> {
    let mut checkpoint = Checkpoint::open_with(dir, &identity(), Arc::new(disk.clone()))?;
    checkpoint.fold_in_background(Arc::new(concatenated), POLICY)?;
    let (groups, resume, mut next) = match checkpoint.recover(world.sink_last)? {
        Decision::Ready { next, resume } => (Vec::new(), resume, next),
        Decision::ReplayThenCommit {
            groups,
            resume,
            next,
        } => (groups, resume, next),
        Decision::Refuse(refusal) => return Err(Stop::Wrong(refusal.to_string())),
    };
    let resumed = resume.as_ref().map(|commit| commit.last);
    if resumed < world.committed {
        return Err(Stop::Wrong(format!(
            "{:?} was committed, {resumed:?} is",
            world.committed
        )));
    }
    world.committed = resumed;
    let mut snapshots = restore(&checkpoint, resume.as_ref(), world, workers)?;
    for replay in groups {
        for entry in &replay.group.entries {
            let promised = world
                .logged
                .entry(entry.epoch)
                .or_insert_with(|| entry.clone());
            if promised != entry {
                return Err(Stop::Wrong(format!(
                    "epoch {} is replayed differently",
                    entry.epoch
                )));
            }
        }
        let held = replay.sink_holds;
        epochs(
            &mut checkpoint,
            disk,
            world,
            &replay.group.entries,
            workers,
            held,
            &mut snapshots,
        )?;
    }
    while next <= until {
        world.attempts += 1;
        let last = (next + group - 1).min(until);
        let entries: Vec<_> = (next..=last)
            .map(|epoch| entry(epoch, world.attempts))
            .collect();
        checkpoint.log_offsets(&entries)?;
        for entry in &entries {
            // What an earlier process logged and this one does not know was never promised.
            if world.logged.insert(entry.epoch, entry.clone()).is_some() {
                return Err(Stop::Wrong(format!(
                    "epoch {} is planned twice",
                    entry.epoch
                )));
            }
        }
        epochs(
            &mut checkpoint,
            disk,
            world,
            &entries,
            workers,
            false,
            &mut snapshots,
        )?;
        next = last + 1;
    }
    Ok(())
}

type Snapshots = Option<Vec<StateFileWriter>>;

/// Reads the state, holds it against what was logged, and begins snapshots after a rescale.
fn restore(
    checkpoint: &Checkpoint,
    resume: Option<&CommitEntry>,
    world: &World,
    workers: usize,
) -> Result<Snapshots, Stop> {
    let Some(commit) = resume else {
        return Ok(None);
    };
    let plan = checkpoint.restore_plan(commit.last)?;
    let split = plan.must_split(workers);
    let mut writers = Vec::new();
    let mut all = Vec::new();
    for worker in 0..workers {
        let mut own = Vec::new();
        for file in plan.files_of(worker, workers) {
            let reader = StateFileReader::open(checkpoint.state_dir(), file)?;
            for section in reader.sections() {
                let text = io::read_to_string(reader.read(section)?)
                    .map_err(|error| Stop::Wrong(error.to_string()))?;
                own.extend(parse(text.as_bytes()));
            }
        }
        if split {
            own.retain(|row| owner(row, workers) == worker);
            let mut writer = StateFileWriter::create(checkpoint.state_dir(), worker, workers)?;
            writer.section(1, 0, &print(&own))?;
            writers.push(writer);
        } else if own.iter().any(|row| owner(row, workers) != worker) {
            return Err(Stop::Wrong(format!("worker {worker} has rows of another")));
        }
        all.extend(own);
    }
    all.sort();
    let mut expected: Vec<String> = world
        .logged
        .range(..=commit.last)
        .flat_map(|(_, entry)| rows(entry))
        .collect();
    expected.sort();
    if all != expected {
        return Err(Stop::Wrong(format!(
            "the state of epoch {} is {all:?}",
            commit.last
        )));
    }
    Ok(split.then_some(writers))
}

/// Steps 2 to 5 of a group, and what is done between commits.
fn epochs(
    checkpoint: &mut Checkpoint,
    disk: &CrashStorage,
    world: &mut World,
    entries: &[OffsetEntry],
    workers: usize,
    sink_holds: bool,
    snapshots: &mut Snapshots,
) -> Result<(), Stop> {
    let (first, last) = (entries[0].epoch, entries[entries.len() - 1].epoch);
    let new: Vec<String> = entries.iter().flat_map(rows).collect();
    let whole = snapshots.is_some();
    let kind = if whole {
        FileKind::Snapshot
    } else {
        FileKind::Delta
    };
    let writers = match snapshots.take() {
        Some(writers) => writers,
        None => (0..workers)
            .map(|w| StateFileWriter::create(checkpoint.state_dir(), w, workers))
            .collect::<Result<_>>()?,
    };
    let mut files = Vec::new();
    for (worker, mut writer) in writers.into_iter().enumerate() {
        writer.section(
            1,
            0,
            &print(new.iter().filter(|row| owner(row, workers) == worker)),
        )?;
        files.push(writer.finish(kind, first, last)?);
    }
    if !sink_holds {
        disk.moment(Moment::BeforeTransaction)?;
        for entry in entries {
            if world.sink.insert(entry.epoch, rows(entry)).is_some() {
                return Err(Stop::Wrong(format!(
                    "the sink is given epoch {} twice",
                    entry.epoch
                )));
            }
        }
        world.sink_last = Some(last);
        disk.moment(Moment::AfterTransaction)?;
    }
    let commit = CommitEntry {
        first,
        last,
        workers,
        watermark: entries[entries.len() - 1].watermark,
        previous_watermark: entries[entries.len() - 1].previous_watermark,
        output_rows: new.len() as u64,
        ..CommitEntry::default()
    };
    checkpoint.commit(&commit, &files)?;
    world.committed = Some(last);
    let done = checkpoint.maintain(RETAINED)?;
    if let Some(error) = done.fold_failures.into_iter().next() {
        return Err(error.into());
    }
    checkpoint.wait_for_folds();
    Ok(())
}

/// Runs the script, dying at each of the `deaths`-th operations in turn. Whether it died at all.
fn run(deaths: &[usize], effect: Effect, loss: Loss) -> bool {
    let place = tempfile::tempdir_in(memory_directory()).expect("there is a directory");
    let disk = CrashStorage::new(place.path());
    let dir = place.path().join("checkpoint");
    let mut world = World::default();
    let mut deaths = deaths.iter();
    let mut die_again = || {
        if let Some(at) = deaths.next() {
            disk.stop(*at, effect, Then::Dies, io::ErrorKind::Other);
        }
    };
    let mut died = false;
    die_again();
    let mut part = 0;
    while part < SCRIPT.len() {
        let lived = live(&dir, &disk, &mut world, SCRIPT[part]);
        match (lived, disk.stopped()) {
            (Ok(()), _) => part += 1,
            (Err(_), Some(_)) => {
                died = true;
                disk.restart(loss).expect("the directory can be written");
                die_again();
            }
            (Err(Stop::Died), None) => panic!("{loss:?}: died out of turn"),
            (Err(Stop::Wrong(reason)), None) => panic!("{loss:?}: {reason}\n{world:#?}"),
        }
    }
    let last = SCRIPT[SCRIPT.len() - 1].0;
    assert_eq!(world.committed, Some(last));
    assert_eq!(world.sink.len() as u64, last + 1);
    for (epoch, rows_written) in &world.sink {
        assert_eq!(*rows_written, rows(&world.logged[epoch]), "epoch {epoch}");
    }
    // The final state, read once more.
    disk.restart(loss).expect("the directory can be written");
    live(&dir, &disk, &mut world, SCRIPT[SCRIPT.len() - 1])
        .unwrap_or_else(|stop| panic!("{loss:?}: {stop:?}"));
    died
}

#[test]
fn the_script_runs_through_without_a_crash() {
    assert!(!run(&[], Effect::DidNotHappen, Loss::Process));
}

/// Dies at every `stride`-th operation of the script, the first time; the second death comes
/// somewhere in the recovery from the first.
fn crashes(effect: Effect, loss: Loss, stride: usize) {
    let mut at = 1;
    while run(&[at, at * 7 % 31 + 1], effect, loss) {
        at += stride;
    }
    assert!(at > 300, "the script has {at} operations");
}

#[test]
fn power_lost_at_any_operation_loses_nothing_that_was_promised() {
    crashes(Effect::DidNotHappen, Loss::Unsynced, 1);
}

#[test]
fn a_process_that_is_killed_goes_on_where_it_was() {
    crashes(Effect::MayHaveHappened, Loss::Process, 3);
}

#[test]
fn half_of_what_was_not_synced_is_not_taken_for_state() {
    crashes(Effect::MayHaveHappened, Loss::Some, 3);
}

#[test]
fn names_without_their_bytes_after_a_power_loss_are_not_taken_for_state() {
    crashes(Effect::DidNotHappen, Loss::Bytes, 3);
}
