//! The rooms' import table is checked: a room imports only rooms above it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of `src/`, from the ground up.
const ROOMS: [&str; 10] = [
    "time",
    "row",
    "plan",
    "state",
    "operators",
    "compile",
    "checkpoint",
    "runtime",
    "session",
    "cli",
];

/// Which rooms may name which of the engine's outside packages.
const OUTSIDE: [(&str, &[&str]); 8] = [
    (
        "timely",
        &["time", "state", "operators", "compile", "runtime"],
    ),
    ("differential_dataflow", &["time", "state"]),
    ("datafusion", &["plan", "operators"]),
    ("rusqlite", &["checkpoint"]),
    ("clap", &["cli"]),
    ("indicatif", &["cli"]),
    ("ctrlc", &["cli"]),
    ("rustyline", &["cli"]),
];

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the tree is readable") {
        let path = entry.expect("the tree is readable").path();
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

/// The words that follow `prefix` in a text, comments left out.
fn named(text: &str, prefix: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    code.match_indices(prefix)
        .filter(|(at, _)| {
            !code[..*at].ends_with(|before: char| {
                before.is_alphanumeric() || before == '_' || before == ':'
            })
        })
        .map(|(at, _)| {
            let rest = &code[at + prefix.len()..];
            rest.chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect()
        })
        .collect()
}

fn rooms() -> Vec<(usize, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = vec![];
    for (level, room) in ROOMS.iter().enumerate() {
        let mut paths = vec![];
        files(&src.join(room), &mut paths);
        for path in paths {
            let text = fs::read_to_string(&path).expect("the tree is readable");
            all.push((level, path, text));
        }
    }
    all
}

#[test]
fn a_room_imports_only_rooms_above_it() {
    for (level, path, text) in rooms() {
        for other in named(&text, "crate::") {
            if let Some(at) = ROOMS.iter().position(|room| *room == other) {
                assert!(
                    at <= level,
                    "{} imports {other}, which lies below it",
                    path.display()
                );
            }
        }
        assert!(
            !text.contains("use crate::{"),
            "{}: import each room on a line of its own, so that this test sees it",
            path.display()
        );
    }
}

#[test]
fn outside_packages_stay_in_their_rooms() {
    for (level, path, text) in rooms() {
        for (package, allowed) in OUTSIDE {
            let used = !named(&text, &format!("{package}::")).is_empty();
            assert!(
                !used || allowed.contains(&ROOMS[level]),
                "{} names {package}, which belongs to {allowed:?}",
                path.display()
            );
        }
    }
}

#[test]
fn connectors_know_nothing_of_the_engine() {
    let mut paths = vec![];
    files(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("connectors/src"),
        &mut paths,
    );
    for path in paths {
        let text = fs::read_to_string(&path).expect("the tree is readable");
        for package in ["tidemark", "timely", "differential_dataflow", "datafusion"] {
            assert!(
                named(&text, &format!("{package}::")).is_empty(),
                "{} names {package}",
                path.display()
            );
        }
    }
}
