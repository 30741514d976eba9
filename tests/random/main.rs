//! Random queries over random tables: whatever the cuts into epochs, the number of workers and the
//! restarts, a stream's answer is the batch's.
//!
//! | mode | what holds |
//! |---|---|
//! | changelog | all changes sum to the batch answer |
//! | update | rows replaced by their key end at the batch answer |
//! | complete | the last epoch is the batch answer |
//! | append | what came is what has closed: all but the open windows of the last row |
//!
//! Rows are out of order by less than the watermark's delay, so none is late. The last row of each
//! table lies far ahead, so that all windows but its own close.
//!
//! `TIDEMARK_RANDOM_SECONDS` says how long (20), `TIDEMARK_RANDOM_SEED` where to begin: the seed that
//! a failure prints begins with the query that failed. A failure is made smaller for a while and
//! then printed as a case for `tests/sql/queries`.

#[path = "../common/mod.rs"]
mod common;
mod data;
mod generate;
mod shrink;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidemark::session::SessionError;
use tidemark_connectors::ChangeType;
use tidemark_connectors::sinks::show::{Zone, cells};
use tidemark_connectors::sources::memory::MemorySource;

use common::{Captured, Run};
use data::Table;

/// One query, its tables and how it is run.
#[derive(Clone)]
pub(crate) struct Case {
    tables: Vec<Table>,
    query: String,
    mode: &'static str,
    /// How many epochs each run adds, and on how many workers. One run needs no checkpoint.
    runs: Vec<(usize, usize)>,
}

/// How often each row comes.
type Bag = BTreeMap<String, i64>;

/// What became of a case.
enum Verdict {
    /// The stream is the batch.
    Same,
    /// The plan was refused, or its mode was.
    Refused(String),
    /// Both failed: an expression does not like a value.
    BothFailed,
    /// The batch failed in its own planner: there is nothing to hold the stream against.
    NoBatch,
    /// What is wrong.
    Wrong(String),
}

#[test]
fn a_stream_answers_as_the_batch_does() {
    let number = |name: &str, default: u64| {
        std::env::var(name)
            .ok()
            .map_or(default, |text| text.parse().expect(name))
    };
    let seed = number("TIDEMARK_RANDOM_SEED", 1);
    let deadline = Instant::now() + Duration::from_secs(number("TIDEMARK_RANDOM_SECONDS", 20));
    let (mut same, mut failed, mut unanswered) = (BTreeMap::new(), 0, 0);
    let mut refused: BTreeMap<String, u64> = BTreeMap::new();
    let mut next = seed;
    while Instant::now() < deadline {
        for case in cases(&mut StdRng::seed_from_u64(next)) {
            match check(&case) {
                Verdict::Same => *same.entry(case.mode).or_insert(0) += 1,
                Verdict::BothFailed => failed += 1,
                Verdict::NoBatch => unanswered += 1,
                Verdict::Refused(why) => *refused.entry(why).or_insert(0) += 1,
                Verdict::Wrong(why) => {
                    let small = shrink::smaller(&case, Duration::from_secs(30));
                    let why = match check(&small) {
                        Verdict::Wrong(why) => why,
                        _ => why,
                    };
                    panic!(
                        "TIDEMARK_RANDOM_SEED={next}\n{why}\n{}",
                        shrink::show(&small)
                    );
                }
            }
        }
        next += 1;
    }
    println!(
        "{} queries from seed {seed} on: {same:?}, {failed} failed both ways, {unanswered} without an answer of the batch",
        next - seed
    );
    for (why, times) in &refused {
        println!("refused {times} times: {why}");
    }
    let all: u64 = same.values().sum();
    let wrongly: u64 = refused
        .iter()
        .filter(|(why, _)| !why.ends_with("is not possible"))
        .map(|(_, times)| times)
        .sum();
    assert!(all > 0, "no query ran");
    assert!(unanswered * 20 <= all + 20, "the batch answers too few");
    assert!(
        wrongly * 10 <= all,
        "more than a tenth of the plans were refused: {refused:?}"
    );
}

/// One query over its tables, in one or two modes.
fn cases(random: &mut StdRng) -> Vec<Case> {
    let tables: Vec<Table> = (0..2).map(|index| Table::random(random, index)).collect();
    let query = generate::query(random, &tables);
    let epochs = tables.iter().map(|t| t.epochs.len()).max().unwrap_or(0);
    let other = ["append", "update", "complete"][random.random_range(0..3)];
    ["changelog", other]
        .into_iter()
        .map(|mode| {
            let mut runs = vec![];
            let mut left = epochs;
            if random.random_bool(0.3) {
                while left > 1 {
                    let some = random.random_range(1..left);
                    runs.push((some, random.random_range(1..=2)));
                    left -= some;
                }
            }
            runs.push((left, random.random_range(1..=2)));
            Case {
                tables: tables.clone(),
                query: query.clone(),
                mode,
                runs,
            }
        })
        .collect()
}

/// Runs a case both ways. A panic is a difference too.
fn check(case: &Case) -> Verdict {
    catch_unwind(AssertUnwindSafe(|| judge(case)))
        .unwrap_or_else(|_| Verdict::Wrong(format!("a panic\n{}", case.query)))
}

fn judge(case: &Case) -> Verdict {
    let whole = case.batch(|table| table.epochs.clone());
    let streamed = case.stream();
    let (whole, captured) = match (whole, streamed) {
        (Ok(whole), Ok(captured)) => (whole, captured),
        (_, Err(SessionError::Plan(why))) => {
            let why = why.to_string();
            let (what, _) = why.split_once(" for ").unwrap_or((&why, ""));
            return Verdict::Refused(what.to_owned());
        }
        (Err(_), Err(_)) => return Verdict::BothFailed,
        (Ok(_), Err(why)) => return Verdict::Wrong(format!("only the stream failed: {why}")),
        (Err(why), Ok(_)) if is_of_the_planner(&why.to_string()) => return Verdict::NoBatch,
        (Err(why), Ok(_)) => return Verdict::Wrong(format!("only the batch failed: {why}")),
    };
    let wanted = bag_of(&whole);
    let differs = match case.mode {
        "append" => {
            let got = summed(&captured);
            // Rows without a time have no place among those that are looked back on, and are left out.
            if case.query.contains("OVER (") && !case.tables.iter().all(Table::closes) {
                return Verdict::Same;
            }
            let Ok(closed) = case.batch(Table::without_the_last_row) else {
                return Verdict::BothFailed;
            };
            // Where not all closes, what must have come is not known; nor where rows without a time wait for a match.
            let waits = [
                " LEFT ",
                " RIGHT ",
                " FULL ",
                "NOT EXISTS",
                "NOT IN",
                "OR EXISTS",
            ];
            let waits = waits.iter().any(|word| case.query.contains(word));
            let closed = if !waits && case.tables.iter().all(Table::closes) {
                bag_of(&closed)
            } else {
                Bag::new()
            };
            difference(
                &got,
                |row, n| n <= times(&wanted, row) && n >= times(&closed, row),
                &closed,
            )
        }
        "update" => match by_key(&captured) {
            Some(got) => difference(&got, |row, n| n == times(&wanted, row), &wanted),
            None => None,
        },
        "complete" => {
            let got = last(&captured);
            difference(&got, |row, n| n == times(&wanted, row), &wanted)
        }
        _ => {
            let got = summed(&captured);
            difference(&got, |row, n| n == times(&wanted, row), &wanted)
        }
    };
    differs.map_or(Verdict::Same, Verdict::Wrong)
}

/// Errors of `DataFusion`'s optimizer: its check of a merge of sorted inputs is wrong at times, an aggregate whose filter is
/// folded away is looked for, and a window function misses the order of its partitions below a filter that holds of all.
fn is_of_the_planner(why: &str) -> bool {
    why.contains("does not satisfy order requirements")
        || why.contains("PhysicalExpr Column references column")
        || why.contains("Expects PARTITION BY expression to be ordered")
}

impl Case {
    fn script(&self) -> String {
        let tables: String = self.tables.iter().map(Table::declaration).collect();
        format!("{tables}{};\n", self.query)
    }

    /// The batch answer over what `rows` takes of each table.
    fn batch(
        &self,
        rows: impl Fn(&Table) -> Vec<RecordBatch>,
    ) -> Result<Vec<RecordBatch>, SessionError> {
        let sources: Vec<(String, MemorySource)> = self
            .tables
            .iter()
            .map(|table| {
                let source = MemorySource::new(table.schema.clone());
                for batch in rows(table) {
                    source.add(batch).expect("it has the source's schema");
                }
                (table.name.clone(), source)
            })
            .collect();
        let script = self.script();
        Run {
            script: &script,
            mode: "changelog",
            workers: 1,
            tables: &sources,
            checkpoint: None,
        }
        .batch()
    }

    fn stream(&self) -> Result<Captured, SessionError> {
        let script = self.script();
        let sources: Vec<(String, MemorySource)> = self
            .tables
            .iter()
            .map(|table| {
                let source = MemorySource::new(table.schema.clone()).one_batch_per_epoch();
                (table.name.clone(), source)
            })
            .collect();
        let dir = tempfile::tempdir().expect("a directory");
        let captured = Captured::default();
        let mut at = 0;
        for (epochs, workers) in &self.runs {
            for (table, (_, source)) in self.tables.iter().zip(&sources) {
                for batch in table.epochs.iter().skip(at).take(*epochs) {
                    source
                        .add(batch.clone())
                        .expect("it has the source's schema");
                }
            }
            at += epochs;
            let run = Run {
                script: &script,
                mode: self.mode,
                workers: *workers,
                tables: &sources,
                checkpoint: (self.runs.len() > 1).then_some(dir.path()),
            };
            run.stream(&captured)?;
        }
        Ok(captured)
    }
}

fn times(bag: &Bag, row: &str) -> i64 {
    bag.get(row).copied().unwrap_or(0)
}

fn bag_of(batches: &[RecordBatch]) -> Bag {
    let mut bag = Bag::new();
    for batch in batches {
        for row in cells(batch, Zone::UTC).expect("rows can be shown") {
            *bag.entry(plain(&row.join(" | "))).or_insert(0) += 1;
        }
    }
    bag
}

/// A row with 0.0 for -0.0: they are equal, so the least of both is either.
fn plain(row: &str) -> String {
    let cells: Vec<&str> = row
        .split(" | ")
        .map(|cell| if cell == "-0.0" { "0.0" } else { cell })
        .collect();
    cells.join(" | ")
}

/// All changes of all epochs.
fn summed(captured: &Captured) -> Bag {
    let mut bag = Bag::new();
    for (change, row) in captured.epochs().into_values().flatten() {
        let sign = match change {
            ChangeType::Insert | ChangeType::UpdatePostimage => 1,
            ChangeType::Delete | ChangeType::UpdatePreimage => -1,
        };
        *bag.entry(plain(&row)).or_insert(0) += sign;
    }
    bag.retain(|_, n| *n != 0);
    bag
}

/// The rows of the last epoch.
fn last(captured: &Captured) -> Bag {
    let mut bag = Bag::new();
    for (_, row) in captured
        .epochs()
        .into_values()
        .next_back()
        .unwrap_or_default()
    {
        *bag.entry(plain(&row)).or_insert(0) += 1;
    }
    bag
}

/// What is left when rows replace each other by their key; `None` where there is no key.
fn by_key(captured: &Captured) -> Option<Bag> {
    let key = captured.key()?;
    let of = |row: &str| -> Vec<String> {
        let cells: Vec<&str> = row.split(" | ").collect();
        key.iter().map(|column| cells[*column].to_owned()).collect()
    };
    let mut rows: BTreeMap<Vec<String>, String> = BTreeMap::new();
    for changes in captured.epochs().into_values() {
        let (gone, come): (Vec<_>, Vec<_>) = changes
            .into_iter()
            .filter(|(change, _)| *change != ChangeType::UpdatePreimage)
            .partition(|(change, _)| *change == ChangeType::Delete);
        for (_, row) in gone {
            rows.remove(&of(&row));
        }
        for (_, row) in come {
            rows.insert(of(&row), row);
        }
    }
    let mut bag = Bag::new();
    for row in rows.into_values() {
        *bag.entry(plain(&row)).or_insert(0) += 1;
    }
    Some(bag)
}

/// The rows of `got` or `wanted` that do not come as often as they `fit`, if any.
fn difference(got: &Bag, fits: impl Fn(&str, i64) -> bool, wanted: &Bag) -> Option<String> {
    let wrong: Vec<String> = got
        .keys()
        .chain(wanted.keys().filter(|row| !got.contains_key(*row)))
        .filter(|row| !fits(row, times(got, row)))
        .take(8)
        .map(|row| {
            let (stream, batch) = (times(got, row), times(wanted, row));
            format!("  {stream} times in the stream, {batch} in the batch: {row}")
        })
        .collect();
    (!wrong.is_empty()).then(|| format!("the stream is not the batch\n{}", wrong.join("\n")))
}
