//! Queries of the suite in two processes, and killed in the middle: the same rows.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tidemark_dataflows::nexmark;

/// A run that takes longer hangs.
const PATIENCE: Duration = Duration::from_mins(2);

/// A stateless query, a join, windows, aggregates of aggregates, first rows, files in partitions.
const SOME: [(&str, &str); 6] = [
    ("q2", "append"),
    ("q3", "append"),
    ("q5", "append"),
    ("q4", "complete"),
    ("q19", "complete"),
    ("q10", "append"),
];

struct Place(tempfile::TempDir);

impl Place {
    /// Scripts whose results are files in this directory.
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for (name, mode) in SOME {
            let tables = [("events", "60000"), ("rate", "2000")];
            let tables = tables
                .iter()
                .fold(nexmark::TABLES.to_owned(), |tables, (key, value)| {
                    nexmark::with_option(&tables, key, value)
                })
                .replace("'seed' = '0'", "'maxOffsetsPerTrigger' = '9000'");
            let sql = nexmark::query(name).unwrap();
            let sql = nexmark::with_option(sql, "path", name).replace(
                "'connector' = 'noop'",
                &format!("'connector' = 'file', 'format' = 'json', 'path' = '{name}'"),
            );
            let sql = nexmark::with_option(&sql, "outputMode", mode);
            let sql = sql.replace(
                "-- State",
                &format!("SET 'checkpointLocation' = 'checkpoint/{name}';\n-- State"),
            );
            fs::write(place.0.path().join(format!("{name}.sql")), tables + &sql).unwrap();
        }
        place
    }

    fn start(&self, name: &str, options: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_tidemark"))
            .args(["run", &format!("{name}.sql")])
            .args(options)
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap()
    }

    /// The committed rows, in the order of their text: those that the newest manifest names.
    fn rows(&self, name: &str) -> Vec<String> {
        let read = format!(
            "CREATE TABLE files WITH ('connector' = 'file', 'path' = '{name}', 'format' = '{}', 'schemaInference' = 'true');
             CREATE TABLE out WITH ('connector' = 'file', 'path' = '{name}-read', 'format' = 'json', 'trigger' = 'available-now');
             INSERT INTO out SELECT * FROM files;",
            if name == "q10" { "csv" } else { "json" }
        );
        fs::write(self.0.path().join("read.sql"), read).unwrap();
        ends(self.start("read", &[]));
        let mut files = vec![];
        walk(&self.0.path().join(format!("{name}-read")), &mut files);
        let texts = files.iter().map(|file| fs::read_to_string(file).unwrap());
        let mut rows: Vec<String> = texts
            .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        rows.sort();
        rows
    }
}

/// The files with rows in a directory and those in it.
fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('_') {
            walk(&path, files);
        } else if name.starts_with("part-") {
            files.push(path);
        }
    }
}

fn ends(mut child: Child) {
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("no end after {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{status}");
}

#[test]
fn two_processes_and_killed_ones_give_the_rows_of_one() {
    let (one, two, killed) = (Place::new(), Place::new(), Place::new());
    for (name, _) in SOME {
        ends(one.start(name, &[]));
        let wanted = one.rows(name);
        assert!(!wanted.is_empty(), "{name} finds nothing");

        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let hosts = listeners
            .each_ref()
            .map(|l| l.local_addr().unwrap().to_string());
        drop(listeners);
        fs::write(two.0.path().join("hosts"), hosts.join("\n")).unwrap();
        let both = ["0", "1"].map(|p| two.start(name, &["-n", "2", "-p", p, "-H", "hosts"]));
        both.into_iter().for_each(ends);
        assert!(two.rows(name) == wanted, "{name} in two processes");

        // The later the kill, the more epochs are committed.
        for wait in [150, 300, 450] {
            let mut child = killed.start(name, &["-w", "2"]);
            std::thread::sleep(Duration::from_millis(wait));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        ends(killed.start(name, &["-w", "2"]));
        assert!(killed.rows(name) == wanted, "{name}, killed");
    }
}

/// What `bench nexmark` says with these options, and whether it ended well.
fn bench(options: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidemark"))
        .args(["bench", "nexmark"])
        .args(options)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn the_bench_measures_queries_and_refuses_unknown_ones() {
    let (well, said) = bench(&["-q", "Q2,q10", "--events", "20000", "--checkpoint"]);
    assert!(well, "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines.iter().any(|line| line.starts_with("query  events/s")),
        "{said}"
    );
    let q10 = lines.iter().find(|line| line.starts_with("q10  ")).unwrap();
    assert!(q10.contains(" 18,400 "), "{said}");

    let (well, said) = bench(&["-q", "q4", "--events", "20000", "--json", "--rounds", "2"]);
    assert!(well, "{said}");
    let told: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&told["query"], &told["events"]),
        (&"q4".into(), &20_000.into())
    );
    assert!(told["stateRows"].as_u64() > Some(1000) && told["outputRows"].as_u64() >= Some(5));

    let (well, said) = bench(&["-q", "q23"]);
    assert!(
        !well && said.contains("no query 'q23'") && said.contains("q0 to q22"),
        "{said}"
    );
    let (_, said) = bench(&["-q", "q5", "--events", "777", "--sql"]);
    assert!(
        said.contains("INSERT INTO result") && said.contains("'events' = '777'"),
        "{said}"
    );
}
