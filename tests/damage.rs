//! Checkpoints that something happened to, as a user meets them: each is refused with the file's name
//! and the remedy, and one that this version wrote is read by every later build of it.

#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tidemark_connectors::sinks::file::manifest::committed_files;

const SCRIPT: &str = "CREATE TABLE t (k STRING, v INT) WITH ('connector' = 'file', 'path' = 'in', 'format' = 'json', 'maxFilesPerTrigger' = '1');
CREATE TABLE o WITH ('connector' = 'console', 'outputMode' = 'update', 'trigger' = 'available-now', 'checkpointLocation' = 'ck');
INSERT INTO o SELECT k, count(*) AS n, max(v) AS m FROM t GROUP BY k;
";
const REMEDY: &str = "restore the file from a copy of the checkpoint, go back to an epoch that does not need it (`tidemark checkpoint DIR` names it), or start over with a new 'checkpointLocation'";

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("there is a temporary directory"));
        fs::create_dir(place.path("in")).expect("a directory");
        fs::write(place.path("s.sql"), SCRIPT).expect("a file");
        place
    }

    /// With a checkpoint of two epochs and another file to read.
    fn committed() -> Self {
        let place = Self::new();
        place.input("a", &[("a", 1), ("b", 2)]);
        place.input("b", &[("a", 3), ("c", 4)]);
        let (code, _, said) = place.run();
        assert_eq!((code, said.as_str()), (0, ""));
        place.input("c", &[("a", 5)]);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn input(&self, name: &str, rows: &[(&str, i32)]) {
        let rows = rows
            .iter()
            .map(|(k, v)| format!("{{\"k\":\"{k}\",\"v\":{v}}}\n"));
        let file = self.path(&format!("in/{name}.json"));
        fs::write(file, rows.collect::<String>()).expect("a file");
    }

    /// Exit code, standard output, standard error.
    fn tidemark(&self, args: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_tidemark"))
            .args(args)
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .output()
            .expect("the command starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        (code, text(&output.stdout), text(&output.stderr))
    }

    fn run(&self) -> (i32, String, String) {
        self.tidemark(&["run", "s.sql", "--progress", "none"])
    }

    fn delta(&self) -> PathBuf {
        let mut files: Vec<PathBuf> = fs::read_dir(self.path("ck/state"))
            .expect("it is a checkpoint")
            .flatten()
            .map(|entry| entry.path())
            .collect();
        files.sort();
        files.pop().expect("it has state")
    }

    /// The query is refused with a message that has all of `words`; nothing was written meanwhile.
    #[track_caller]
    fn refuses(&self, words: &[&str]) {
        let (code, out, said) = self.run();
        assert_eq!((code, out.as_str()), (1, ""), "{said}");
        for word in words {
            assert!(said.contains(word), "'{word}' is not in: {said}");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a file");
        }
    }
}

fn name(path: &Path) -> String {
    let name = path.file_name().expect("a file has a name");
    format!("ck/state/{}", name.to_string_lossy())
}

#[test]
fn a_truncated_state_file() {
    let place = Place::committed();
    let file = place.delta();
    let bytes = fs::read(&file).expect("a file");
    fs::write(&file, &bytes[..bytes.len() - 7]).expect("a file");
    let length = format!("has {} bytes", bytes.len() - 7);
    let known = name(&file).replace("ck/state/", "");
    place.refuses(&[
        &known,
        &length,
        "restore the directory 'state' of the checkpoint from a copy",
    ]);
    let (code, out, _) = place.tidemark(&["checkpoint", "ck"]);
    assert_eq!(code, 1);
    assert!(
        out.contains("PROBLEM") && out.contains(&length) && out.contains(&name(&file)),
        "{out}"
    );
    // Put back, it goes on.
    fs::write(&file, &bytes).expect("a file");
    let (code, out, said) = place.run();
    assert_eq!(code, 0, "{said}");
    assert!(out.contains("|  a|  3|  5|"), "{out}");
}

#[test]
fn every_flipped_bit_of_a_state_file_is_noticed() {
    let place = Place::committed();
    let file = place.delta();
    let bytes = fs::read(&file).expect("a file");
    for at in (0..bytes.len()).step_by(11) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&file, damaged).expect("a file");
        place.refuses(&[&name(&file), "is damaged", REMEDY]);
    }
}

/// What a file sink holds, as a reader of its manifest sees it.
fn committed_rows(place: &Place) -> Vec<String> {
    let files = committed_files(&place.path("out")).expect("a manifest");
    let mut rows: Vec<String> = (files.unwrap_or_default().iter())
        .flat_map(|file| {
            let text = fs::read_to_string(file).expect("a file");
            text.lines().map(String::from).collect::<Vec<_>>()
        })
        .collect();
    rows.sort();
    rows
}

#[test]
fn a_query_goes_back_to_an_epoch_whose_state_is_whole() {
    let script = SCRIPT.replace("'console'", "'file', 'path' = 'out', 'format' = 'json'");
    let (place, whole) = (Place::new(), Place::new());
    for each in [&place, &whole] {
        fs::write(each.path("s.sql"), &script).expect("a file");
        for (name, v) in [("a", 1), ("b", 2), ("c", 3)] {
            each.input(name, &[("x", v), (name, v)]);
        }
        let (code, _, said) = each.run();
        assert_eq!((code, said.as_str()), (0, ""));
    }
    let file = place.delta();
    let mut bytes = fs::read(&file).expect("a file");
    bytes[40] ^= 1;
    fs::write(&file, bytes).expect("a file");
    place.refuses(&[&name(&file), "is damaged", REMEDY]);
    let (code, out, _) = place.tidemark(&["checkpoint", "ck"]);
    assert_eq!(code, 1);
    let remedy = "the state of epoch 1 is whole: tidemark checkpoint ck --rollback 1\n";
    assert!(out.contains(remedy), "{out}");

    let (code, _, said) = place.tidemark(&["checkpoint", "ck", "--rollback", "2"]);
    let refused = "error: checkpoint ck: the state of epoch 2 is not whole, so the query cannot go back to it; that of epoch 1 is; this did not happen\n";
    assert_eq!((code, said.as_str()), (1, refused));
    let (code, _, said) = place.tidemark(&["checkpoint", "ck", "--rollback", "7"]);
    let unknown = "error: checkpoint ck: the state of epoch 7 is not kept; those of the commits from epoch 0 to 2 are\n";
    assert_eq!((code, said.as_str()), (2, unknown));
    let (code, out, said) = place.tidemark(&["checkpoint", "ck", "--rollback", "1"]);
    assert_eq!((code, said.as_str()), (0, ""));
    assert_eq!(
        out,
        "ck is back at epoch 1; the next start runs epoch 2 again, as logged\n"
    );

    // Epoch 2 is run again, and the sink, which holds it, is not given it a second time; what comes
    // after builds on it.
    for each in [&place, &whole] {
        each.input("d", &[("x", 9), ("c", 9)]);
        let (code, _, said) = each.run();
        assert_eq!((code, said.as_str()), (0, ""));
    }
    assert_eq!(committed_rows(&place), committed_rows(&whole));
    let (code, out, _) = place.tidemark(&["checkpoint", "ck"]);
    assert_eq!(code, 0, "{out}");
}

#[test]
fn a_state_file_of_another_checkpoint() {
    let (place, other) = (Place::committed(), Place::committed());
    fs::copy(other.delta(), place.delta()).expect("a file");
    place.refuses(&[&name(&place.delta()), "is damaged", REMEDY]);
}

#[test]
fn a_database_that_is_gone_or_cut() {
    let place = Place::committed();
    let database = place.path("ck/tidemark.sqlite");
    let bytes = fs::read(&database).expect("a file");
    fs::write(&database, &bytes[..bytes.len() / 2]).expect("a file");
    place.refuses(&[
        "ck/tidemark.sqlite",
        "restore it from a copy, or start over with a new 'checkpointLocation'",
    ]);
    fs::remove_file(&database).expect("a file");
    place.refuses(&["ck", "'checkpointLocation'"]);
    assert!(!database.exists(), "no new one was made beside the state");
}

#[test]
fn a_state_directory_that_is_gone() {
    let place = Place::committed();
    fs::remove_dir_all(place.path("ck/state")).expect("a directory");
    place.refuses(&["cannot be restored", "is missing", "from a copy"]);
}

#[test]
fn a_directory_that_may_not_be_written_to() {
    let place = Place::new();
    place.input("a", &[("a", 1)]);
    // Permissions do not bind root; this file system binds everybody.
    if !Path::new("/proc/self").exists() {
        eprintln!("skipped: there is no /proc to fail on");
        return;
    }
    fs::write(place.path("s.sql"), SCRIPT.replace("'ck'", "'/proc/ck'")).expect("a file");
    place.refuses(&["/proc/ck", "this did not happen"]);
}

#[test]
fn a_full_disk_ends_the_query_and_a_restart_goes_on() {
    // A limit on the size of files stands for the disk: the state file of an epoch with many keys
    // does not fit.
    let place = Place::committed();
    let keys: Vec<(String, i32)> = (0..40_000)
        .map(|k| (format!("key-{}", k * 7919), k))
        .collect();
    let rows: Vec<(&str, i32)> = keys.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    place.input("d", &rows);
    let limited = Command::new("bash")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 200; exec \"$0\" run s.sql --progress none",
        ])
        .arg(env!("CARGO_BIN_EXE_tidemark"))
        .current_dir(place.0.path())
        .output()
        .expect("there is a shell");
    let said = String::from_utf8_lossy(&limited.stderr);
    assert_eq!(limited.status.code(), Some(1), "{said}");
    assert!(
        said.contains("ck/state/") && said.contains("this did not happen"),
        "{said}"
    );
    let (code, shown, said) = place.tidemark(&["checkpoint", "ck"]);
    assert_eq!(code, 0, "{shown}{said}");
    assert!(shown.contains("  restart   replays epoch "), "{shown}");
    let (code, _, said) = place.run();
    assert_eq!(code, 0, "{said}");
}

#[test]
fn the_rows_of_an_operator_are_shown() {
    let place = Place::committed();
    let (code, out, said) = place.tidemark(&["checkpoint", "ck", "--state", "1"]);
    assert_eq!((code, said.as_str()), (0, ""), "{out}");
    let rows = out
        .split_once("state of operator 1: ")
        .expect("its state")
        .1;
    assert!(
        rows.starts_with("3 rows\n  worker 0, trace 0: an append-only table\n"),
        "{out}"
    );
    let (_, out, _) = place.tidemark(&["checkpoint", "ck", "--state", "1", "--limit", "2"]);
    assert!(out.contains("3 rows, of which the first 2\n"), "{out}");
    assert_eq!(out.matches(" -> ").count(), 2, "{out}");
    let (code, _, said) = place.tidemark(&["checkpoint", "ck", "--state", "9"]);
    assert_eq!(code, 2);
    assert_eq!(
        said,
        "error: the checkpoint ck holds no state of operator 9; it holds that of operator 1\n"
    );
}

/// The checkpoint under `tests/fixtures` was written by format version 2. Where this fails, state
/// on users' disks can no longer be read: raise `FORMAT_VERSION` and write another one with
/// `TIDEMARK_FIXTURE=1`.
#[test]
fn a_checkpoint_of_this_format_version_is_restored() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoint-2");
    if std::env::var_os("TIDEMARK_FIXTURE").is_some() {
        let written = Place::committed();
        let _ = fs::remove_dir_all(&fixture);
        copy(&written.path("ck"), &fixture);
        fs::remove_file(fixture.join("tidemark.lock")).expect("a checkpoint has a lock");
        return;
    }
    let place = Place::new();
    copy(&fixture, &place.path("ck"));
    let rows = |out: &str| -> Vec<String> {
        let lines = out.lines().filter(|line| line.starts_with('|'));
        lines.map(|line| line.replace(' ', "")).collect()
    };
    place.input("c", &[("a", 2), ("b", 9), ("d", 1)]);
    let (code, out, said) = place.run();
    assert_eq!(code, 0, "{said}");
    assert_eq!(
        rows(&out),
        ["|k|n|m|", "|a|3|3|", "|b|2|9|", "|d|1|1|"],
        "{out}"
    );
}

#[test]
fn a_checkpoint_stays_under_two_and_a_half_times_its_live_state() {
    let place = Place::new();
    fs::write(
        place.path("s.sql"),
        format!(
            "SET 'minBatchesToRetain' = '1';\n{}",
            SCRIPT.replace("'console'", "'noop'")
        ),
    )
    .expect("a file");
    // Thousands of keys, a few of which change with each epoch.
    let keys: Vec<String> = (0..4000).map(|k| format!("k{}", k * 7919)).collect();
    for epoch in 0..300 {
        let step = if epoch == 0 { 1 } else { 100 };
        let rows: Vec<(&str, i32)> = (keys.iter().skip(epoch % step).step_by(step))
            .map(|k| (k.as_str(), epoch as i32))
            .collect();
        place.input(&format!("{epoch:05}"), &rows);
    }
    let (code, _, said) = place.run();
    assert_eq!((code, said.as_str()), (0, ""));
    let state = |place: &Place| -> u64 {
        let files = fs::read_dir(place.path("ck/state")).expect("it is a checkpoint");
        files
            .flatten()
            .map(|entry| entry.metadata().expect("a file").len())
            .sum()
    };
    let (code, shown, _) = place.tidemark(&["checkpoint", "ck"]);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("committed up to epoch 299\n"), "{shown}");
    // The same state written once, by another number of workers: a snapshot from each.
    let bytes = state(&place);
    place.input("last", &[("k0", 1)]);
    let (code, _, said) = place.tidemark(&["run", "s.sql", "--progress", "none", "-w", "2"]);
    assert_eq!((code, said.as_str()), (0, ""));
    let files = fs::read_dir(place.path("ck/state"))
        .expect("it is a checkpoint")
        .flatten();
    let live: u64 = files
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with("snapshot") && name.contains("of2-")
        })
        .map(|entry| entry.metadata().expect("a file").len())
        .sum();
    assert!(
        live > 0 && bytes * 10 < live * 25,
        "{bytes} bytes for a state of {live}:\n{shown}"
    );
}
