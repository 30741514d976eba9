//! One process of a query, measured from the inside.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tidemark::plan::catalog::Statement;
use tidemark::runtime::{Progress, QueryConfig};
use tidemark::session::Session;
use tidemark_connectors::storage::Disk;
use tidemark_connectors::{Source, open_sink};

use crate::source::{Rows, Shape};

/// What one process does, all of it after a restart where the directory holds a checkpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    /// Where the checkpoint is; `None`: there is none, and the rows go to a table in memory.
    pub(crate) dir: Option<String>,
    /// Without a checkpoint another query, whose rows go nowhere.
    pub(crate) query: Option<String>,
    pub(crate) workers: usize,
    pub(crate) keys: i64,
    /// Microseconds of event time a row; 0: the query has no windows.
    pub(crate) step: i64,
    /// Milliseconds between epochs.
    pub(crate) interval: u64,
    pub(crate) retained: u64,
    /// How many epochs of how many rows.
    pub(crate) phases: Vec<(usize, i64)>,
}

/// What was seen of an epoch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Epoch {
    /// Seconds since 1970 at its end.
    pub(crate) ended: f64,
    /// Milliseconds since the epoch before ended; of the first: since the start.
    pub(crate) ms: f64,
    /// Milliseconds by phase, as progress has them.
    pub(crate) phases: BTreeMap<String, u64>,
    /// Bytes that the process wrote meanwhile, to anything.
    pub(crate) written: u64,
    /// Milliseconds that the folding thread worked meanwhile.
    pub(crate) folding: u64,
    /// Milliseconds of processors that other machines of the host had meanwhile, as far as it says so.
    pub(crate) stolen: u64,
    /// Seconds of processors that the process has used so far.
    pub(crate) cpu: f64,
    /// Resident bytes.
    pub(crate) resident: u64,
    /// The most resident bytes since the start of the phase.
    pub(crate) peak: u64,
}

/// The epochs of each phase.
pub(crate) type Seen = Vec<Vec<Epoch>>;

const QUERY: &str = "SELECT k, count(*) AS n, sum(v) AS total, max(v) AS newest FROM rows
  WHERE k IS NOT NULL GROUP BY k";
const WINDOWS: &str = "SELECT window.start AS start, k, count(*) AS n, sum(v) AS total FROM rows
  WHERE k IS NOT NULL GROUP BY window(ts, '1 minute'), k";

/// Does a task in a process of its own. With `syncs`, also says at what seconds since 1970 files were
/// synced, if `strace` is there to see it.
pub(crate) fn measure(task: &Task, syncs: bool) -> (Seen, Option<Vec<f64>>) {
    let program = std::env::current_exe().expect("this program has a path");
    let dir = task.dir.as_deref().unwrap_or("state");
    let trace = Path::new(dir).with_extension("strace");
    let text = serde_json::to_string(task).expect("a task is plain data");
    let mut command = Command::new(&program);
    if syncs {
        command = Command::new("strace");
        command
            .args([
                "-f",
                "-qq",
                "-ttt",
                "--seccomp-bpf",
                "-e",
                "trace=fsync,fdatasync",
                "-o",
            ])
            .arg(&trace)
            .arg(&program);
    }
    let child = command
        .arg("--task")
        .arg(text)
        .stdout(Stdio::piped())
        .spawn();
    let Ok(child) = child else {
        return (measure(task, false).0, None);
    };
    let output = child
        .wait_with_output()
        .expect("the process can be awaited");
    assert!(output.status.success(), "the measured process failed");
    let seen = serde_json::from_slice(&output.stdout).expect("the process tells what it saw");
    let syncs = fs::read_to_string(&trace).ok().map(|text| {
        let starts = text.lines().filter(|line| line.contains("sync("));
        starts
            .filter_map(|line| line.split_whitespace().nth(1)?.parse().ok())
            .collect()
    });
    let _ = fs::remove_file(&trace);
    (seen, syncs)
}

/// Does a task in this process.
pub(crate) fn perform(task: &Task) -> Seen {
    let (query, watermark) = match &task.query {
        Some(query) => (&query[..], ""),
        None if task.step > 0 => (WINDOWS, ", WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE"),
        None => (QUERY, ""),
    };
    let sink = match (&task.dir, &task.query) {
        (Some(dir), _) => format!("'connector' = 'noop', 'checkpointLocation' = '{dir}'"),
        (None, Some(_)) => "'connector' = 'noop', 'outputMode' = 'update'".into(),
        (None, None) => "'connector' = 'memory'".into(),
    };
    let script = format!(
        "SET 'minBatchesToRetain' = '{}';
         CREATE TABLE rows (k BIGINT, v BIGINT, ts TIMESTAMP{watermark})
           WITH ('connector' = 'datagen', 'rowsPerSecond' = '1');
         CREATE TABLE out WITH ({sink}, 'trigger' = '{} ms');
         INSERT INTO out {query};",
        task.retained, task.interval
    );
    let session = Session::builder().workers(task.workers).build();
    let session = session.expect("a session");
    let script = session.parse(&script, "benchmark").expect("a script");
    let Some(Statement::Query(query)) = script.statements.last() else {
        panic!("the script ends with a query");
    };
    let plan = session.plan(query).expect("a plan");
    let shape = Shape {
        keys: task.keys,
        step: task.step,
        splits: task.workers as i64,
    };
    let epochs = task.phases.iter().flat_map(|(n, rows)| vec![*rows; *n]);
    let config = QueryConfig {
        workers: task.workers,
        cluster: None,
        storage: Arc::new(Disk),
        metrics: None,
    };
    let ends: Vec<usize> = task
        .phases
        .iter()
        .scan(0, |end, (epochs, _)| {
            *end += epochs;
            Some(*end)
        })
        .collect();
    let seen = Arc::new(Mutex::new((Vec::<Epoch>::new(), State::now())));
    let notes = Arc::clone(&seen);
    // To ask the kernel takes as long as a small epoch.
    let asks = task.dir.is_some();
    let listener = Box::new(move |progress: &Progress| {
        let mut notes = notes.lock().expect("nobody panics with the lock");
        let (epochs, before) = &mut *notes;
        let now = if asks { State::now() } else { State::clock() };
        let phases = progress.duration_ms.iter();
        epochs.push(Epoch {
            phases: phases
                .map(|(phase, ms)| ((*phase).to_owned(), *ms))
                .collect(),
            ..now.since(before)
        });
        *before = now;
        if asks && ends.contains(&epochs.len()) {
            // From here on the peak is that of the next phase.
            let _ = fs::write("/proc/self/clear_refs", "5");
        }
    });
    let sources = plan.sources.iter();
    let sources =
        sources.map(|_| -> Box<dyn Source> { Box::new(Rows::new(shape, epochs.clone())) });
    let query = tidemark::runtime::start(
        &plan,
        sources.collect(),
        |table, config| open_sink(&table.connector, &table.options, config),
        &config,
        Some(listener),
    )
    .expect("the query starts");
    query.await_termination().expect("the query ends well");
    let mut epochs = std::mem::take(&mut seen.lock().expect("the query has ended").0);
    let mut phases = vec![];
    for (count, _) in &task.phases {
        let rest = epochs.split_off((*count).min(epochs.len()));
        phases.push(std::mem::replace(&mut epochs, rest));
    }
    phases
}

/// What the kernel says of this process.
struct State {
    at: Instant,
    written: u64,
    folding: u64,
    stolen: u64,
    cpu: f64,
    resident: u64,
    peak: u64,
}

impl State {
    /// Nothing but the time.
    fn clock() -> Self {
        Self {
            at: Instant::now(),
            written: 0,
            folding: 0,
            stolen: 0,
            cpu: 0.0,
            resident: 0,
            peak: 0,
        }
    }

    fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
                .unwrap_or(0u64)
        };
        Self {
            at: Instant::now(),
            written: field(&io, "wchar:"),
            folding: folding(),
            stolen: stolen(),
            cpu: cpu(),
            resident: field(&status, "VmRSS:") * 1024,
            peak: field(&status, "VmHWM:") * 1024,
        }
    }

    fn since(&self, before: &Self) -> Epoch {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        Epoch {
            ended: since_1970.unwrap_or_default().as_secs_f64(),
            ms: (self.at - before.at).as_secs_f64() * 1000.0,
            phases: BTreeMap::new(),
            written: self.written - before.written,
            folding: self.folding.saturating_sub(before.folding),
            stolen: self.stolen - before.stolen,
            cpu: self.cpu,
            resident: self.resident,
            peak: self.peak,
        }
    }
}

/// Seconds of processors that this process has used, its own and the kernel's.
fn cpu() -> f64 {
    /// Of a second, in what the kernel tells processes.
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS
}

/// Milliseconds that the folding thread has worked.
fn folding() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    tasks
        .filter_map(|task| {
            let path = task.ok()?.path();
            let name = fs::read_to_string(path.join("comm")).ok()?;
            if name.trim() != "tidemark-fold" {
                return None;
            }
            // Nanoseconds on a processor come first.
            let times = fs::read_to_string(path.join("schedstat")).ok()?;
            let spent: u64 = times.split_whitespace().next()?.parse().ok()?;
            Some(spent / 1_000_000)
        })
        .sum()
}

/// Milliseconds of processors that were not this machine's when it wanted them.
fn stolen() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = stat
        .lines()
        .next()
        .and_then(|all| all.split_whitespace().nth(8)?.parse::<u64>().ok());
    ticks.unwrap_or(0) * 10
}
