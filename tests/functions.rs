//! Spark's function names (`src/plan/functions/spark.txt`) held against what the planner knows and
//! against the cases under `tests/sql`; `docs/functions.md` is written from them.
//!
//! `TIDEMARK_REWRITE=1` writes the page.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use tidemark::plan::context::session_state;
use tidemark::plan::functions::spark::{Entry, LIST, Status, entries};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Names of all functions that the planner knows; names that begin with `__` are for itself.
fn known() -> BTreeSet<String> {
    let state = session_state("UTC");
    let mut names = BTreeSet::new();
    names.extend(state.scalar_functions().keys().cloned());
    names.extend(state.aggregate_functions().keys().cloned());
    names.extend(state.window_functions().keys().cloned());
    names.extend(state.higher_order_functions().keys().cloned());
    names.retain(|name| !name.starts_with("__"));
    names
}

/// The lines of all files below a directory, without comments.
fn lines(directory: &Path, into: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            lines(&path, into);
        } else {
            let text = fs::read_to_string(&path).unwrap().to_lowercase();
            let cases = text.lines().filter(|line| !line.starts_with('#'));
            into.extend(cases.map(str::to_owned));
        }
    }
}

/// The words that lines of cases hold, and the operators.
struct Words {
    words: BTreeSet<String>,
    text: String,
}

impl Words {
    fn of<'a>(lines: impl Iterator<Item = &'a String>) -> Self {
        let asked: Vec<&str> = lines
            .map(|line| line.split(" ==>").next().unwrap_or_default())
            .collect();
        let text = asked.join("\n");
        let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        Self {
            words: words.map(str::to_owned).collect(),
            text,
        }
    }

    fn hold(&self, name: &str) -> bool {
        self.words.contains(name)
            || (!name.starts_with(char::is_alphabetic) && self.text.contains(name))
    }
}

#[test]
fn the_list_is_in_order_and_true() {
    let mut wrong = String::new();
    let listed = LIST
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('['));
    if listed.count() != entries().len() {
        wrong.push_str("a line of spark.txt is not `name status note`\n");
    }
    for pair in entries().windows(2) {
        if pair[0].family == pair[1].family && pair[0].name >= pair[1].name {
            let _ = writeln!(wrong, "{} stands behind {}", pair[1].name, pair[0].name);
        }
    }
    let mut cases = vec![];
    lines(&root().join("tests/sql"), &mut cases);
    // Random values have cases of their own.
    let positions = fs::read_to_string(root().join("tests/positions.rs")).unwrap();
    cases.extend(positions.lines().map(str::to_owned));
    let asked = Words::of(cases.iter());
    let answered = Words::of(cases.iter().filter(|line| !line.contains("==> error")));
    let known = known();
    for Entry {
        name, status, note, ..
    } in entries()
    {
        let here = known.contains(*name) || answered.hold(name);
        let error = match status {
            Status::Works | Status::Settled | Status::Differs if !here => {
                "is not known to the planner"
            }
            Status::Works | Status::Settled | Status::Differs if !asked.hold(name) => {
                "has no case under tests/sql"
            }
            Status::Missing if known.contains(*name) => "is known to the planner",
            Status::Settled | Status::Differs | Status::Refused if note.is_empty() => {
                "needs a note"
            }
            _ => continue,
        };
        let _ = writeln!(wrong, "{name}, {status:?}: {error}");
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_page_says_what_the_list_says() {
    let path = root().join("docs/functions.md");
    let page = page();
    if std::env::var_os("TIDEMARK_REWRITE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap() == page,
        "docs/functions.md is not up to date: run this test with TIDEMARK_REWRITE=1"
    );
}

fn page() -> String {
    let mut out = String::from(HEADER);
    let mut families: Vec<&str> = entries().iter().map(|e| e.family).collect();
    families.dedup();
    out.push_str(
        "| family | Spark has | the same | differs | not checked |\n|---|---|---|---|---|\n",
    );
    for family in &families {
        let count = |wanted: Option<Status>| {
            let of = entries().iter().filter(|e| e.family == *family);
            of.filter(|e| wanted.is_none_or(|w| e.status == w)).count()
        };
        let _ = writeln!(
            out,
            "| [{family}](#{family}) | {} | {} | {} | {} |",
            count(None),
            count(Some(Status::Works)) + count(Some(Status::Settled)),
            count(Some(Status::Differs)),
            count(Some(Status::Unchecked)),
        );
    }
    for family in &families {
        let _ = write!(out, "\n## {family}\n\n");
        let of = |wanted: &[Status]| -> Vec<&Entry> {
            let all = entries().iter();
            all.filter(|e| e.family == *family && wanted.contains(&e.status))
                .collect()
        };
        list(&mut out, "Works as in Spark", &of(&[Status::Works]));
        for entry in of(&[Status::Settled]) {
            let _ = writeln!(out, "- {} is settled: {}", code(entry.name), entry.note);
        }
        for entry in of(&[Status::Differs]) {
            let _ = writeln!(out, "- {} differs: {}", code(entry.name), entry.note);
        }
        list(&mut out, "Not checked yet", &of(&[Status::Unchecked]));
        let absent = of(&[Status::Missing, Status::Refused]);
        let mut reasons: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
        for entry in absent {
            reasons.entry(entry.note).or_default().push(entry);
        }
        for (reason, names) in reasons {
            let label = match reason {
                "" => "Not here yet".to_owned(),
                reason => format!("Not here ({reason})"),
            };
            list(&mut out, &label, &names);
        }
    }
    let listed: BTreeSet<&str> = entries().iter().map(|e| e.name).collect();
    let more: Vec<String> = known()
        .into_iter()
        .filter(|name| !listed.contains(name.as_str()))
        .map(|name| code(&name))
        .collect();
    let _ = write!(
        out,
        "\n## Additions\n\nNames that Spark does not have, or not in SQL; they come with DataFusion:\n\n{}\n",
        more.join(" ")
    );
    out
}

fn list(out: &mut String, label: &str, entries: &[&Entry]) {
    if !entries.is_empty() {
        let names: Vec<String> = entries.iter().map(|e| code(e.name)).collect();
        let _ = writeln!(out, "- {label}: {}", names.join(" "));
    }
}

fn code(name: &str) -> String {
    format!("`{}`", name.replace('|', "\\|"))
}

const HEADER: &str = "\
# Functions

Spark 4's functions and operators by family, and what Tidemark has of them. What is said to work as in Spark is held
against Spark's own answers by the cases under `tests/sql`. Where Spark leaves open which of several answers it gives,
because rows arrive in any order or because it estimates, Tidemark always gives the same one: such functions are
*settled*, and count as the same. This page is written by `tests/functions.rs` from `src/plan/functions/spark.txt`.

";
