//! Spark's functions and operators by name, with what is to be said about each of them here.
//!
//! `spark.txt` beside this file holds them: under a `[family]` a line for each name, sorted, with
//! its [`Status`] and a note. `tests/functions.rs` holds the file against the planner and against
//! the cases under `tests/sql`, and writes `docs/functions.md` from it.

use std::sync::LazyLock;

/// What is to be said about one of Spark's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Its answers are Spark's; cases under `tests/sql` hold it to that.
    Works,
    /// Its answer is one of several that Spark may give; the note says which.
    Settled,
    /// The same, but for what the note says.
    Differs,
    /// It answers, and has not been held against Spark.
    Unchecked,
    /// It is not here. The note says why, or nothing where it is to come.
    Missing,
    /// The planner knows the name and refuses it, for the reason of the note.
    Refused,
}

impl Status {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "works" => Self::Works,
            "settled" => Self::Settled,
            "differs" => Self::Differs,
            "unchecked" => Self::Unchecked,
            "missing" => Self::Missing,
            "refused" => Self::Refused,
            _ => return None,
        })
    }
}

/// One of Spark's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The function or the operator.
    pub name: &'static str,
    /// The section of the file that it stands in.
    pub family: &'static str,
    /// What is to be said about it.
    pub status: Status,
    /// How it differs, or why it is not here; often empty.
    pub note: &'static str,
}

/// All entries, by family as in the file. A line that is no entry is left out; the test reports it.
pub fn entries() -> &'static [Entry] {
    static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| {
        let mut family = "";
        let mut entries = vec![];
        for line in LIST.lines() {
            if let Some(heading) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                family = heading;
            } else if let Some((name, status, note)) = fields(line) {
                entries.push(Entry {
                    name,
                    family,
                    status,
                    note,
                });
            }
        }
        entries
    });
    &ENTRIES
}

/// The file as it stands.
pub const LIST: &str = include_str!("spark.txt");

fn fields(line: &'static str) -> Option<(&'static str, Status, &'static str)> {
    let (name, rest) = line.split_once(' ')?;
    let rest = rest.trim_start();
    let (status, note) = rest.split_once(' ').unwrap_or((rest, ""));
    Some((name, Status::of(status)?, note.trim_start()))
}
