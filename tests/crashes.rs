//! Nothing lost and nothing twice, whatever operation on the disk is the last: whole runs of queries
//! on a storage that stops at its n-th operation, for every n.
//!
//! A round runs the queries of a shape until the storage stops, restarts it with what such a crash
//! leaves, lets a fresh engine recover and stops that one as well, somewhere, and then runs to the
//! end. After each restart a reader of the committed files sees whole epochs, as the run that nothing
//! stopped gives them, and all that was told to be committed; at the end it sees all of them.
//!
//! How the storage stops, and what the crash takes, goes round with n, and every other n has a second
//! crash. With `TIDEMARK_CRASHES` set to a number each n meets all of it, with that many second crashes each.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use tempfile::TempDir;
use tidemark::checkpoint::{Checkpoint, CheckpointError};
use tidemark::plan::Plan;
use tidemark::plan::catalog::Statement;
use tidemark::session::Session;
use tidemark_connectors::sinks::file::manifest::committed_files;
use tidemark_connectors::sources::memory::MemorySource;
use tidemark_connectors::storage::crash::{CrashStorage, Loss, Outcome, Then, memory_directory};

const EVENTS: &str = "SET 'minBatchesToRetain' = '2';
  CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '20' SECOND)
  WITH ('connector' = 'memory', 'name' = 'events');";

const WINDOWS: &str = "SELECT window.start AS ws, k, count(*) AS n, sum(v) AS s FROM events GROUP BY window(ts, '1 minute'), k";
const NESTED: &str = "SELECT n, count(*) AS ks, max(k) AS k FROM (SELECT k, count(*) AS n FROM events GROUP BY k) GROUP BY n";
const SESSIONS: &str = "SELECT session_window.start AS s, session_window.end AS e, k, sum(v) AS v FROM events GROUP BY session_window(ts, '25 seconds'), k";
const PER_KEY: &str = "SELECT k, count(*) AS n, max(v) AS m FROM events GROUP BY k";
const LETTERS: &str = "'outputMode' = 'append', 'onError' = 'deadLetter', 'deadLetter' = 'letters'";
const FAILING: &str = "SELECT k, 100 / (v % 4) AS part FROM events";

/// The ways to stop, and what the crash takes.
const CRASHES: [(Outcome, Then, Loss); 8] = [
    (Outcome::DidNotHappen, Then::Dies, Loss::Unsynced),
    (Outcome::MayHaveHappened, Then::GoesOn, Loss::Process),
    (Outcome::MayHaveHappened, Then::Dies, Loss::Process),
    (Outcome::MayHaveHappened, Then::Dies, Loss::Some),
    (Outcome::DidNotHappen, Then::GoesOn, Loss::Unsynced),
    (Outcome::DidNotHappen, Then::Dies, Loss::Bytes),
    (Outcome::MayHaveHappened, Then::Dies, Loss::Unsynced),
    (Outcome::DidNotHappen, Then::Dies, Loss::Some),
];

/// A table to write, by its name, options and query.
type Target = (&'static str, &'static str, &'static str);

/// The rows of a table by epoch, in order.
type Epochs = BTreeMap<u64, Vec<String>>;

/// Queries, planned once, and what they give when nothing stops them.
struct Shape {
    root: TempDir,
    events: MemorySource,
    plans: Vec<Arc<Plan>>,
    /// Those of the plans, and that of dead letters.
    tables: Vec<&'static str>,
    workers: usize,
    expected: Vec<Epochs>,
    operations: usize,
}

/// The epochs that each query told, with their rows.
type Told = Arc<Mutex<Vec<(usize, u64)>>>;

fn batch(number: i64) -> RecordBatch {
    let rows = 0..7_i64;
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let schema = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Utf8, true),
        Field::new("v", DataType::Int64, true),
        Field::new("ts", utc, true),
    ]));
    let keys: StringArray = (rows.clone())
        .map(|row| Some(format!("k{}", (row * row + number) % 5)))
        .collect();
    let values: Int64Array = rows.clone().map(|row| Some(number * 10 + row)).collect();
    // Half a minute each epoch, and one row in seven is of the epoch before.
    let times: TimestampMicrosecondArray = rows
        .map(|row| Some((number * 30 + row * 5 - (row / 6) * 35).max(0) * 1_000_000))
        .collect();
    let columns = vec![
        Arc::new(keys) as _,
        Arc::new(values) as _,
        Arc::new(times.with_timezone("UTC")) as _,
    ];
    RecordBatch::try_new(schema, columns).unwrap()
}

impl Shape {
    fn new(targets: &[Target], epochs: i64, workers: usize) -> Self {
        let root = tempfile::tempdir_in(memory_directory()).unwrap();
        let events = MemorySource::new(batch(0).schema()).one_batch_per_epoch();
        for number in 0..epochs {
            events.add(batch(number)).unwrap();
        }
        let mut script = EVENTS.to_owned();
        let mut tables: Vec<_> = targets.iter().map(|(table, ..)| *table).collect();
        if targets.iter().any(|target| target.1 == LETTERS) {
            let path = root.path().join("letters").display().to_string();
            script += &format!(
                "CREATE TABLE letters WITH ('connector' = 'file', 'path' = '{path}', 'format' = 'json');"
            );
            tables.push("letters");
        }
        for (table, options, query) in targets {
            script += &format!(
                "CREATE TABLE {table} WITH ('connector' = 'file', 'path' = '{root}/{table}', 'format' = 'json',
                   {options}, 'trigger' = 'available-now', 'checkpointLocation' = '{root}/checkpoints/{table}');
                 INSERT INTO {table} {query};",
                root = root.path().display(),
            );
        }
        let session = Session::builder().build().unwrap();
        session.add_source("events", events.clone());
        let statements = session.parse(&script, "crashes").unwrap().statements;
        let plans = (statements.iter())
            .filter_map(|statement| match statement {
                Statement::Query(query) => Some(session.plan(query).unwrap()),
                _ => None,
            })
            .collect();
        let mut shape = Self {
            root,
            events,
            plans,
            tables,
            workers,
            expected: vec![],
            operations: 0,
        };
        let storage = shape.storage();
        shape.run(&storage, workers, &Told::default()).unwrap();
        shape.operations = storage.operations();
        shape.expected = (0..shape.tables.len())
            .map(|table| shape.read(table))
            .collect();
        assert!(shape.expected.iter().all(|epochs| !epochs.is_empty()));
        shape
    }

    /// A storage in the shape's directory, with nothing in it.
    fn storage(&self) -> CrashStorage {
        let storage = CrashStorage::new(self.root.path());
        for entry in fs::read_dir(self.root.path()).unwrap() {
            fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
        storage
    }

    /// A process: runs the queries to their end, side by side, or says why one failed.
    fn run(&self, storage: &CrashStorage, workers: usize, told: &Told) -> Result<(), String> {
        let session = Session::builder()
            .workers(workers)
            .storage(Arc::new(storage.clone()))
            .build()
            .map_err(|error| error.to_string())?;
        session.add_source("events", self.events.clone());
        let started: Vec<_> = (self.plans.iter().enumerate())
            .map(|(table, plan)| {
                let told = Arc::clone(told);
                let listener = Box::new(move |progress: &tidemark::runtime::Progress| {
                    if progress.sink.num_output_rows > 0 {
                        told.lock().unwrap().push((table, progress.batch_id));
                    }
                });
                session.start(plan, Some(listener))
            })
            .collect();
        let ended: Vec<Result<(), String>> = started
            .into_iter()
            .map(|query| {
                let query = query.map_err(|error| error.to_string())?;
                query.await_termination().map_err(|error| error.to_string())
            })
            .collect();
        ended.into_iter().collect()
    }

    fn path(&self, table: usize) -> PathBuf {
        self.root.path().join(self.tables[table])
    }

    /// What a reader of a table's committed files sees.
    fn read(&self, table: usize) -> Epochs {
        let mut epochs = Epochs::new();
        let root = self.path(table);
        for file in committed_files(&root).unwrap().unwrap_or_default() {
            let name = file.file_name().unwrap().to_str().unwrap();
            let epoch = name["part-".len()..][..10].parse().unwrap();
            let dir = file.parent().unwrap().strip_prefix(&root).unwrap();
            let rows = epochs.entry(epoch).or_default();
            for line in fs::read_to_string(&file).unwrap().lines() {
                let mut row: serde_json::Value = serde_json::from_str(line).unwrap();
                // A dead letter says when its epoch was planned: another moment in another run.
                row.as_object_mut().unwrap().remove("timestamp");
                rows.push(format!("{} {row}", dir.display()));
            }
            rows.sort();
        }
        epochs
    }

    /// Whole epochs are there, all that were told are among them, and the checkpoint is sound.
    fn check(&self, told: &Told, when: &str) {
        for (table, expected) in self.expected.iter().enumerate() {
            let epochs = self.read(table);
            for (epoch, rows) in &epochs {
                assert_eq!(Some(rows), expected.get(epoch), "{when}: epoch {epoch}");
            }
            for (_, epoch) in told.lock().unwrap().iter().filter(|told| told.0 == table) {
                assert!(epochs.contains_key(epoch), "{when}: epoch {epoch} is lost");
            }
        }
        self.inspect(false, when);
    }

    fn inspect(&self, ended: bool, when: &str) {
        for table in &self.tables[..self.plans.len()] {
            let dir = self.root.path().join("checkpoints").join(table);
            match Checkpoint::inspect(dir) {
                Ok(found) => assert!(
                    found.is_sound() && (found.orphans.is_empty() || !ended),
                    "{when}: {found}"
                ),
                Err(CheckpointError::NoCheckpoint { .. }) if !ended => {}
                Err(error) => panic!("{when}: {error}"),
            }
        }
    }

    fn check_end(&self, when: &str) {
        for (table, expected) in self.expected.iter().enumerate() {
            assert_eq!(self.read(table), *expected, "{when}");
            let staged = self.path(table).join("_tidemark/tmp");
            assert_eq!(fs::read_dir(staged).unwrap().count(), 0, "{when}");
        }
        self.inspect(true, when);
    }

    /// Stops at the `at`-th operation and, while it recovers, at the `second`. How many runs it took.
    fn round(
        &self,
        at: usize,
        (outcome, then, loss): (Outcome, Then, Loss),
        second: Option<usize>,
    ) -> usize {
        let storage = self.storage();
        let told = Told::default();
        // Another number of workers takes the state over now and then.
        let others = if at.is_multiple_of(5) {
            3 - self.workers
        } else {
            self.workers
        };
        let stops = [(Some(at), then, self.workers), (second, Then::Dies, others)];
        let (mut when, mut runs) = (format!("{outcome:?}, {then:?}, {loss:?}"), 1);
        for (at, then, workers) in stops {
            let Some(at) = at else { continue };
            storage.stop(at, outcome, then, ErrorKind::Other);
            let ended = self.run(&storage, workers, &told);
            let stopped = storage.stopped();
            when += &format!("; operation {at} ({stopped:?}): {ended:?}");
            assert!(ended.is_ok() || stopped.is_some(), "{when}");
            storage.restart(loss).unwrap();
            self.check(&told, &when);
            runs += 1;
        }
        assert_eq!(self.run(&storage, others, &told), Ok(()), "{when}");
        self.check_end(&when);
        runs
    }

    fn crash_everywhere(&self, name: &str) {
        let seconds: Option<usize> = std::env::var("TIDEMARK_CRASHES")
            .ok()
            .map(|text| text.parse().expect("TIDEMARK_CRASHES is a number"));
        let mut runs = 0;
        for at in 1..=self.operations {
            let second = |number: usize| Some((at * 7 + number * 11) % self.operations + 1);
            match seconds {
                None => {
                    let second = second(0).filter(|_| at % 2 == 0);
                    runs += self.round(at, CRASHES[at / 2 % CRASHES.len()], second);
                }
                Some(seconds) => {
                    for number in 0..CRASHES.len() * seconds {
                        let crash = CRASHES[number % CRASHES.len()];
                        runs += self.round(at, crash, second(number));
                    }
                }
            }
        }
        println!("{name}: {} operations, {runs} runs", self.operations);
    }
}

#[test]
fn tumbling_windows_in_append_mode() {
    let shape = Shape::new(&[("windows", "'outputMode' = 'append'", WINDOWS)], 5, 1);
    shape.crash_everywhere("append");
}

#[test]
fn a_nested_aggregate_in_update_mode_with_folds() {
    let shape = Shape::new(&[("nested", "'outputMode' = 'update'", NESTED)], 9, 1);
    shape.crash_everywhere("update");
}

#[test]
fn sessions_on_two_workers() {
    let shape = Shape::new(&[("sessions", "'outputMode' = 'append'", SESSIONS)], 5, 2);
    shape.crash_everywhere("sessions");
}

#[test]
fn several_queries_of_one_process() {
    let targets = [
        ("windows", "'outputMode' = 'append'", WINDOWS),
        ("nested", "'outputMode' = 'update'", NESTED),
    ];
    Shape::new(&targets, 3, 1).crash_everywhere("several queries");
}

#[test]
fn a_changelog_by_key() {
    let options = "'outputMode' = 'changelog', 'partitionBy' = 'k'";
    let shape = Shape::new(&[("keys", options, PER_KEY)], 4, 1);
    shape.crash_everywhere("changelog by key");
}

#[test]
fn rows_that_fail_go_to_a_table_of_their_own() {
    let shape = Shape::new(&[("parts", LETTERS, FAILING)], 3, 2);
    shape.crash_everywhere("dead letters");
}

#[test]
fn a_disk_that_is_full_or_closed_says_so_and_a_restart_goes_on() {
    let options = "'outputMode' = 'changelog', 'partitionBy' = 'k'";
    let shape = Shape::new(&[("keys", options, PER_KEY)], 3, 1);
    let kinds: [(ErrorKind, &[&str]); 3] = [
        (ErrorKind::StorageFull, &["free some space"]),
        (
            ErrorKind::PermissionDenied,
            &["let this user read and write", "check the permissions"],
        ),
        (
            ErrorKind::ReadOnlyFilesystem,
            &["is read-only: choose another"],
        ),
    ];
    let root = shape.root.path().display().to_string();
    let mut refused = 0;
    for at in 1..=shape.operations {
        let (kind, remedies) = kinds[at % kinds.len()];
        let storage = shape.storage();
        storage.stop(at, Outcome::DidNotHappen, Then::GoesOn, kind);
        let ended = shape.run(&storage, 1, &Told::default());
        let stopped = storage.stopped();
        if let Err(error) = ended {
            let helps = remedies.iter().any(|remedy| error.contains(remedy));
            assert!(helps && error.contains(&root), "{stopped:?}: {error}");
            refused += 1;
        }
        storage.restart(Loss::Process).unwrap();
        assert_eq!(
            shape.run(&storage, 1, &Told::default()),
            Ok(()),
            "{stopped:?}"
        );
        shape.check_end(&format!("{stopped:?}"));
    }
    assert!(
        refused * 10 > shape.operations * 9,
        "{refused} of {}",
        shape.operations
    );
}
