//! Nothing lost and nothing twice, whatever is killed: the built command on threads and on processes,
//! `kill -9` at random moments of its life, every sink that claims exactly-once.
//!
//! A round begins with an empty place, starts the command, kills it, starts it again, with a continuous trigger now
//! and then, until a run comes to its end by itself. Then the output is held against that of a run that nothing stopped,
//! and neither the output nor the checkpoint may hold a file that belongs to no committed epoch.
//!
//! `TIDEMARK_KILLS` says how many kills each case gets (3 without it), half of them on two processes,
//! of which one or both are killed. `TIDEMARK_SEED` repeats the moments of a failure as far as the
//! machine does, and `TIDEMARK_COMMAND` names another command to kill, such as a release build. The
//! long form, which tells the kills of each case:
//!
//! `TIDEMARK_KILLS=120 cargo test --test kills -- --nocapture --test-threads=1`

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidemark_connectors::sinks::file::manifest::committed_files;

/// How many kills a case gets when nobody says.
const KILLS: usize = 3;
/// A round that has been killed so often is let come to its end.
const MOST_OF_A_ROUND: usize = 12;
/// A run that has not ended by then hangs.
const PATIENCE: Duration = Duration::from_mins(2);
/// The script that ends by itself, and the one that does not.
const BOUNDED: &str = "script.sql";
const CONTINUOUS: &str = "continuous.sql";
const FILES: usize = 16;
const ROWS: usize = 120;

const EVENTS: &str = "
CREATE TABLE events (id BIGINT, kind STRING, amount DOUBLE, ts TIMESTAMP,
  WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE)
  WITH ('connector' = 'file', 'path' = 'in', 'format' = 'json', 'maxFilesPerTrigger' = '2');
";

/// A sink and the query into it.
struct Target {
    table: &'static str,
    format: &'static str,
    mode: &'static str,
    options: &'static str,
    query: &'static str,
}

struct Case {
    name: &'static str,
    targets: &'static [Target],
    /// A table of rows that failed, without a query of its own.
    letters: bool,
}

const WINDOWED: &str =
    "SELECT window.start AS ws, kind, count(*) AS n, sum(amount) AS s, min(id) AS first
  FROM events GROUP BY window(ts, '2 minutes'), kind";
const STATELESS: &str = "SELECT id, kind, amount * 2 AS twice FROM events WHERE amount > 100";
const NESTED: &str = "SELECT n, count(*) AS kinds, max(kind) AS k FROM
  (SELECT kind, count(*) AS n FROM events GROUP BY kind) GROUP BY n";
const DISTINCT: &str = "SELECT kind, count(*) AS n, count(DISTINCT id) AS d, sum(amount) AS s FROM events GROUP BY kind";
const SESSIONS: &str = "SELECT session_window.start AS s, session_window.end AS e, kind, count(*) AS n, sum(amount) AS a
  FROM events GROUP BY session_window(ts, '3 seconds'), kind";
const FIRST: &str = "SELECT DISTINCT ON (amount) amount, id, kind FROM events";
const WITHIN: &str = "SELECT id, kind, amount FROM DEDUPLICATE_WITHIN_WATERMARK(TABLE events, DESCRIPTOR(kind, amount))";
const RANKED: &str = "SELECT kind, r, id FROM (SELECT kind, id, ROW_NUMBER() OVER (PARTITION BY kind ORDER BY amount DESC) AS r
  FROM events) WHERE r <= 3";
const RANKED_COUNTS: &str = "SELECT ws, kind, n, r FROM (SELECT window.start AS ws, kind, count(*) AS n,
  RANK() OVER (PARTITION BY window ORDER BY count(*) DESC) AS r FROM events GROUP BY window(ts, '2 minutes'), kind) WHERE r <= 2";
const EXPLODED: &str = "SELECT id, kind, explode(sequence(1, 1 + id % 3)) AS x FROM events";
const PAIRED: &str = "SELECT a.id, b.id AS other FROM events a LEFT JOIN events b
  ON a.kind = b.kind AND b.amount > a.amount + 100 AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '10' SECOND";
const UNPAIRED: &str = "SELECT id, kind FROM events a WHERE amount > 150
  AND NOT EXISTS (SELECT 1 FROM events b WHERE b.kind = a.kind AND b.id > a.id + 1800)";
const NEAREST: &str = "SELECT a.id, b.id AS before, b.amount FROM events a LEFT ASOF JOIN events b
  MATCH_CONDITION (a.ts > b.ts) ON a.kind = b.kind AND a.id % 3 = b.id % 3";
const LOOKING_BACK: &str = "SELECT id, kind, lag(amount) OVER (PARTITION BY kind ORDER BY ts, id) AS l,
  count(*) OVER (PARTITION BY kind ORDER BY ts, id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS n FROM events";
const FAILING: &str = "SELECT id, kind, 100 / (id % 10) AS x FROM events";

const CASES: &[Case] = &[
    Case {
        name: "append",
        targets: &[Target {
            table: "out",
            format: "json",
            mode: "append",
            options: "",
            query: WINDOWED,
        }],
        letters: false,
    },
    Case {
        name: "stateless, by kind",
        targets: &[Target {
            table: "out",
            format: "parquet",
            mode: "append",
            options: "'partitionBy' = 'kind', ",
            query: STATELESS,
        }],
        letters: false,
    },
    Case {
        name: "update",
        targets: &[Target {
            table: "out",
            format: "csv",
            mode: "update",
            options: "'header' = 'true', ",
            query: WINDOWED,
        }],
        letters: false,
    },
    Case {
        name: "nested aggregate, changelog",
        targets: &[Target {
            table: "out",
            format: "json",
            mode: "changelog",
            options: "",
            query: NESTED,
        }],
        letters: false,
    },
    Case {
        name: "interval join, append",
        targets: &[Target {
            table: "out",
            format: "json",
            mode: "append",
            options: "",
            query: PAIRED,
        }],
        letters: false,
    },
    Case {
        name: "the nearest row, append",
        targets: &[Target {
            table: "out",
            format: "json",
            mode: "append",
            options: "",
            query: NEAREST,
        }],
        letters: false,
    },
    Case {
        name: "the nearest row, changelog",
        targets: &[Target {
            table: "out",
            format: "json",
            mode: "changelog",
            options: "",
            query: NEAREST,
        }],
        letters: false,
    },
    Case {
        name: "looking back, append",
        targets: &[Target {
            table: "out",
            format: "json",
            mode: "append",
            options: "",
            query: LOOKING_BACK,
        }],
        letters: false,
    },
    Case {
        name: "rows without a match, changelog",
        targets: &[Target {
            table: "out",
            format: "json",
            mode: "changelog",
            options: "",
            query: UNPAIRED,
        }],
        letters: false,
    },
    Case {
        name: "complete, by kind",
        targets: &[Target {
            table: "out",
            format: "json",
            mode: "complete",
            options: "'partitionBy' = 'kind', ",
            query: DISTINCT,
        }],
        letters: false,
    },
    Case {
        name: "sessions",
        targets: &[Target {
            table: "out",
            format: "parquet",
            mode: "append",
            options: "",
            query: SESSIONS,
        }],
        letters: false,
    },
    Case {
        name: "exploded, by kind",
        targets: &[Target {
            table: "out",
            format: "csv",
            mode: "append",
            options: "'header' = 'true', 'partitionBy' = 'kind', ",
            query: EXPLODED,
        }],
        letters: false,
    },
    Case {
        name: "several queries",
        targets: &[
            Target {
                table: "closed",
                format: "json",
                mode: "append",
                options: "",
                query: WINDOWED,
            },
            Target {
                table: "totals",
                format: "parquet",
                mode: "complete",
                options: "",
                query: DISTINCT,
            },
        ],
        letters: false,
    },
    Case {
        name: "dead letters",
        targets: &[Target {
            table: "out",
            format: "json",
            mode: "append",
            options: "'deadLetter' = 'letters', ",
            query: FAILING,
        }],
        letters: true,
    },
    Case {
        name: "first rows",
        targets: &[
            Target {
                table: "first",
                format: "json",
                mode: "append",
                options: "",
                query: FIRST,
            },
            Target {
                table: "within",
                format: "parquet",
                mode: "append",
                options: "",
                query: WITHIN,
            },
            Target {
                table: "ranked",
                format: "csv",
                mode: "changelog",
                options: "'header' = 'true', ",
                query: RANKED,
            },
            Target {
                table: "counts",
                format: "json",
                mode: "append",
                options: "",
                query: RANKED_COUNTS,
            },
        ],
        letters: false,
    },
];

/// Processes, and worker threads of each.
type Shape = (usize, usize);

/// One process with as many threads as are asked for, and two of them.
const SHAPES: &[Shape] = &[(1, 1), (1, 2), (1, 4), (2, 1), (2, 1), (2, 2)];

struct Place(tempfile::TempDir);

impl Place {
    fn new(case: &Case) -> Self {
        let place = Self(tempfile::tempdir().expect("there is a temporary directory"));
        fs::create_dir(place.path("in")).expect("a directory");
        for file in 0..FILES {
            fs::write(place.path(&format!("in/{file:05}.json")), input(file)).expect("a file");
        }
        let mut script = EVENTS.to_owned();
        if case.letters {
            script += "CREATE TABLE letters WITH ('connector' = 'file', 'path' = 'letters', 'format' = 'json');\n";
        }
        for target in case.targets {
            let Target {
                table,
                format,
                mode,
                options,
                query,
            } = target;
            script += &format!(
                "CREATE TABLE {table} WITH ('connector' = 'file', 'path' = '{table}', 'format' = '{format}', {options}
                   'outputMode' = '{mode}', 'trigger' = 'available-now', 'checkpointLocation' = 'checkpoint/{table}');
                 INSERT INTO {table} {query};\n"
            );
        }
        // With these sources and sinks its ticks are the epochs of the other trigger.
        let continuous = script.replace("available-now", "continuous 1 millisecond");
        fs::write(place.path(CONTINUOUS), continuous).expect("a file");
        fs::write(place.path(BOUNDED), script).expect("a file");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self) -> Command {
        let built = env!("CARGO_BIN_EXE_tidemark").into();
        let mut command = Command::new(std::env::var_os("TIDEMARK_COMMAND").unwrap_or(built));
        command.current_dir(self.0.path()).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn start(&self, script: &str, (processes, workers): Shape) -> Vec<Child> {
        if processes > 1 {
            let free: Vec<TcpListener> = (0..processes)
                .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
                .collect();
            let lines = free.iter().map(|listener| {
                let address = listener.local_addr().expect("it is bound");
                format!("{address}\n")
            });
            fs::write(self.path("hosts"), lines.collect::<String>()).expect("a file");
        }
        let start = |process: usize| {
            let mut command = self.command();
            command.args(["run", script, "--progress", "none"]);
            command.args(["-w", &workers.to_string()]);
            if processes > 1 {
                command.args(["-n", &processes.to_string(), "-p", &process.to_string()]);
                command.args(["-H", "hosts"]);
            }
            command.spawn().expect("the command starts")
        };
        (0..processes).map(start).collect()
    }

    /// What a reader of the manifest sees of a directory: rows, each with the directory of its
    /// partition in front, and how often each is there.
    fn rows(&self, table: &str, format: &str) -> BTreeMap<String, usize> {
        let root = self.path(table);
        let files = committed_files(&root).expect("a manifest can be read");
        let mut rows = BTreeMap::new();
        for file in files.expect("the sink keeps a manifest") {
            let parent = file.parent().expect("a file lies in a directory");
            let partition = parent.strip_prefix(&root).expect("under the table's own");
            for row in read(&file, format) {
                let row = match table {
                    // When the epoch was planned: another moment in another run.
                    "letters" => without(&row, "timestamp")
                        .replace(&self.0.path().display().to_string(), "DIR"),
                    _ => row,
                };
                *rows
                    .entry(format!("{}: {row}", partition.display()))
                    .or_insert(0) += 1;
            }
        }
        rows
    }

    fn answer(&self, case: &Case) -> BTreeMap<&'static str, BTreeMap<String, usize>> {
        let targets = case
            .targets
            .iter()
            .map(|target| (target.table, target.format));
        let letters = case.letters.then_some(("letters", "json"));
        targets
            .chain(letters)
            .map(|(table, format)| (table, self.rows(table, format)))
            .collect()
    }

    /// Every file is of a committed epoch, and every checkpoint is sound.
    fn has_no_remains(&self, case: &Case, context: &str) {
        let letters = case.letters.then_some("letters");
        for table in case
            .targets
            .iter()
            .map(|target| target.table)
            .chain(letters)
        {
            let root = self.path(table);
            let mut committed = committed_files(&root)
                .expect("a manifest can be read")
                .expect("the sink keeps a manifest");
            committed.sort();
            let mut there = vec![];
            walk(&root, &mut there);
            there.sort();
            assert_eq!(
                there, committed,
                "{context}: a plain reader of {table} sees more or less than is committed"
            );
            let own = root.join("_tidemark");
            assert!(
                !own.join("pending.json").exists(),
                "{context}: a commit of {table} is pending"
            );
            let staged: Vec<_> = fs::read_dir(own.join("tmp"))
                .into_iter()
                .flatten()
                .collect();
            assert!(
                staged.is_empty(),
                "{context}: staged files of {table} are left: {staged:?}"
            );
        }
        for target in case.targets {
            let place = format!("checkpoint/{}", target.table);
            let shown = self
                .command()
                .args(["checkpoint", &place])
                .stdout(Stdio::piped())
                .output()
                .expect("the command starts");
            let text = String::from_utf8_lossy(&shown.stdout);
            assert!(shown.status.success(), "{context}: {text}{}", said(&shown));
            assert!(
                !text.contains("orphan") && text.contains("goes on with epoch"),
                "{context}: {text}"
            );
        }
    }
}

/// A minute of events, a little out of order.
fn input(file: usize) -> String {
    let mut random = StdRng::seed_from_u64(file as u64);
    let row = |row: usize| {
        let second = file * 60 + row * 60 / ROWS;
        let second = second.saturating_sub(random.random_range(0..20));
        format!(
            "{{\"id\":{},\"kind\":\"k{}\",\"amount\":{},\"ts\":\"2026-01-01T{:02}:{:02}:{:02}.{:03}Z\"}}\n",
            file * ROWS + row,
            random.random_range(0..5),
            f64::from(random.random_range(0..4000)) / 4.0,
            second / 3600,
            second / 60 % 60,
            second % 60,
            random.random_range(0..1000),
        )
    };
    (0..ROWS).map(row).collect()
}

fn without(row: &str, field: &str) -> String {
    let mut row: serde_json::Value = serde_json::from_str(row).expect("a row is an object");
    row.as_object_mut()
        .expect("a row is an object")
        .remove(field);
    row.to_string()
}

/// The data files under a directory, by the rule of plain readers: names with `_` or `.` in front
/// do not count.
fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir)
        .expect("a directory can be listed")
        .flatten()
    {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with(['_', '.']) {
            continue;
        }
        if path.is_dir() {
            walk(&path, files);
        } else {
            files.push(path);
        }
    }
}

fn read(file: &Path, format: &str) -> Vec<String> {
    if format == "parquet" {
        let file = fs::File::open(file).expect("a committed file is there");
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file)
            .expect("a committed file is whole");
        let mut rows = vec![];
        for batch in reader.build().expect("a committed file is whole") {
            let batch = batch.expect("a committed file is whole");
            for row in 0..batch.num_rows() {
                let cell = |column: &arrow::array::ArrayRef| {
                    arrow::util::display::array_value_to_string(column, row).expect("a value")
                };
                let cells: Vec<String> = batch.columns().iter().map(cell).collect();
                rows.push(cells.join("|"));
            }
        }
        return rows;
    }
    let text = fs::read_to_string(file).expect("a committed file is there");
    let header = usize::from(format == "csv");
    text.lines().skip(header).map(str::to_owned).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits for all; one that hangs is killed and fails the test.
fn ended(children: Vec<Child>, context: &str) -> Vec<Output> {
    let begun = Instant::now();
    let end = |mut child: Child| {
        while child
            .try_wait()
            .expect("a child can be waited for")
            .is_none()
        {
            if begun.elapsed() > PATIENCE {
                child.kill().expect("a child can be killed");
                let output = child.wait_with_output().expect("it was killed");
                panic!("{context}: no end after {PATIENCE:?}: {}", said(&output));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        child.wait_with_output().expect("it has ended")
    };
    children.into_iter().map(end).collect()
}

/// Runs to the end; how long that took.
fn finish(place: &Place, shape: Shape, context: &str) -> Duration {
    let begun = Instant::now();
    for output in ended(place.start(BOUNDED, shape), context) {
        assert!(output.status.success(), "{context}: {}", said(&output));
    }
    begun.elapsed()
}

/// Starts the command and kills one of its processes or all. Whether it was killed before its end.
fn kill(place: &Place, shape: Shape, random: &mut StdRng, life: Duration, context: &str) -> bool {
    let script = if random.random_bool(0.3) {
        CONTINUOUS
    } else {
        BOUNDED
    };
    let mut children = place.start(script, shape);
    let moment = life.mul_f64(random.random_range(0.0..1.0));
    let begun = Instant::now();
    while begun.elapsed() < moment {
        std::thread::sleep(Duration::from_millis(1));
        let running = |child: &mut Child| child.try_wait().expect("a child").is_none();
        if !children.iter_mut().any(running) {
            break;
        }
    }
    let victim = random.random_range(0..=children.len());
    for (process, child) in children.iter_mut().enumerate() {
        if victim == process || victim == shape.0 {
            // Its id is ours: the child has not been waited for, or `kill` does nothing.
            child.kill().expect("a child can be killed");
        }
    }
    let outputs = ended(children, context);
    for output in &outputs {
        // Who is left says which process is lost.
        let lost = shape.0 > 1 && output.status.code() == Some(1);
        let fine = output.status.success()
            || output.status.code().is_none()
            || lost && said(output).contains(&format!("process {victim} at 127.0.0.1:"));
        assert!(fine, "{context}: {}", said(output));
    }
    !outputs.iter().all(|output| output.status.success())
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}

fn kills(case: &Case) {
    let wanted_kills = number("TIDEMARK_KILLS").map_or(KILLS, |kills| kills as usize);
    let seed = number("TIDEMARK_SEED").unwrap_or_else(rand::random);
    let mut random = StdRng::seed_from_u64(seed);
    let reference = Place::new(case);
    // How long one process takes, and two.
    let lives = [
        finish(&reference, (1, 2), case.name),
        finish(&Place::new(case), (2, 1), case.name),
    ];
    let wanted = reference.answer(case);
    assert!(
        wanted.values().all(|rows| !rows.is_empty()),
        "{}: no rows",
        case.name
    );
    let mut kills: BTreeMap<Shape, usize> = BTreeMap::new();
    let mut rounds = 0;
    let enough = |kills: &BTreeMap<Shape, usize>| kills.values().sum::<usize>() >= wanted_kills;
    while !enough(&kills) {
        let place = Place::new(case);
        let mut shape = SHAPES[random.random_range(0..SHAPES.len())];
        let mut story = vec![];
        let context = |story: &[String]| {
            format!(
                "{}, TIDEMARK_SEED={seed}, round {rounds}: {}",
                case.name,
                story.join(", ")
            )
        };
        while story.len() < MOST_OF_A_ROUND && !enough(&kills) {
            // The state moves to other workers and processes now and then.
            if random.random_bool(0.3) {
                shape = SHAPES[random.random_range(0..SHAPES.len())];
            }
            story.push(format!("{} x {}", shape.0, shape.1));
            let life = lives[shape.0 - 1];
            if !kill(&place, shape, &mut random, life, &context(&story)) {
                break;
            }
            *kills.entry(shape).or_default() += 1;
        }
        story.push(format!("to the end on {} x {}", shape.0, shape.1));
        finish(&place, shape, &context(&story));
        let answer = place.answer(case);
        for (table, rows) in &wanted {
            assert_eq!(&answer[table], rows, "{}: {table}", context(&story));
        }
        place.has_no_remains(case, &context(&story));
        rounds += 1;
    }
    let by_shape: Vec<String> = kills
        .iter()
        .map(|((processes, workers), kills)| format!("{kills} on {processes} x {workers}"))
        .collect();
    eprintln!(
        "{}: {} kills in {rounds} rounds ({}), TIDEMARK_SEED={seed}",
        case.name,
        kills.values().sum::<usize>(),
        by_shape.join(", ")
    );
}

fn case(name: &str) -> &'static Case {
    let found = CASES.iter().find(|case| case.name == name);
    found.unwrap_or_else(|| panic!("no case '{name}'"))
}

#[test]
fn appended_windows() {
    kills(case("append"));
}

#[test]
fn a_stateless_query_into_partitions() {
    kills(case("stateless, by kind"));
}

#[test]
fn updated_windows() {
    kills(case("update"));
}

#[test]
fn the_changelog_of_a_nested_aggregate() {
    kills(case("nested aggregate, changelog"));
}

#[test]
fn an_interval_join() {
    kills(case("interval join, append"));
}

#[test]
fn the_nearest_row() {
    kills(case("the nearest row, append"));
}

#[test]
fn the_changelog_of_the_nearest_row() {
    kills(case("the nearest row, changelog"));
}

#[test]
fn rows_looked_back_on() {
    kills(case("looking back, append"));
}

#[test]
fn the_changelog_of_rows_without_a_match() {
    kills(case("rows without a match, changelog"));
}

#[test]
fn a_complete_result_into_partitions() {
    kills(case("complete, by kind"));
}

#[test]
fn sessions() {
    kills(case("sessions"));
}

#[test]
fn exploded_rows_into_partitions() {
    kills(case("exploded, by kind"));
}

#[test]
fn several_queries_of_one_script() {
    kills(case("several queries"));
}

#[test]
fn dead_letters() {
    kills(case("dead letters"));
}

#[test]
fn first_rows_of_keys_and_partitions() {
    kills(case("first rows"));
}
