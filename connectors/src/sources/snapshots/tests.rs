use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::util::display::array_value_to_string;

use super::*;
use crate::sources::memory::MemorySource;
use crate::storage::Disk;
use crate::{Read, Split};

/// Rows of a table, each a number and a text, and how often the table was read.
#[derive(Clone, Default)]
struct World(Arc<Mutex<(Vec<(i64, String)>, bool)>>);

impl World {
    fn set(&self, rows: &[(i64, &str)]) {
        let rows = rows.iter().map(|(n, text)| (*n, (*text).to_owned()));
        self.0.lock().expect("nobody panics").0 = rows.collect();
    }

    /// Whether the table can be read.
    fn away(&self, away: bool) {
        self.0.lock().expect("nobody panics").1 = away;
    }

    fn open(&self) -> Open {
        let world = self.clone();
        Arc::new(move || {
            let world = world.0.lock().expect("nobody panics");
            if world.1 {
                return Err(ConnectorError::Schema("the table is away".into()));
            }
            let source = MemorySource::new(schema());
            let (numbers, texts): (Vec<i64>, Vec<&str>) =
                world.0.iter().map(|(n, text)| (*n, text.as_str())).unzip();
            let columns = vec![
                Arc::new(Int64Array::from(numbers)) as _,
                Arc::new(StringArray::from(texts)) as _,
            ];
            source.add(RecordBatch::try_new(schema(), columns).expect("a batch"))?;
            Ok(Box::new(source))
        })
    }
}

fn schema() -> SchemaRef {
    let fields = vec![
        Field::new("n", DataType::Int64, true),
        Field::new("text", DataType::Utf8, true),
    ];
    Arc::new(Schema::new(fields))
}

const OFTEN: Option<Refresh> = Some(Refresh {
    interval: Duration::from_millis(1),
    max_staleness: None,
});

fn source(
    world: &World,
    dir: &Path,
    refresh: Option<Refresh>,
    log: &[PlannedRange],
) -> Result<SnapshotSource> {
    let mut source = SnapshotSource::new("memory", world.open(), refresh)?;
    source.keep(&Keeping {
        place: Some((dir.join("tables"), Arc::new(Disk))),
        source: 3,
        columns: vec![0, 1],
        processes: 1,
        alone: false,
    })?;
    source.restore(log)?;
    Ok(source)
}

/// The next range, once there is one.
fn next(source: &mut SnapshotSource) -> PlannedRange {
    let began = Instant::now();
    loop {
        if let Some(range) = source.plan(ReadLimit::default()).expect("a plan") {
            return range;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "nothing changed");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a range adds to a table.
fn read(source: &SnapshotSource, range: &PlannedRange, into: &mut BTreeMap<String, i64>) {
    for split in &range.splits {
        read_split(source, split, into).expect("rows");
    }
    into.retain(|_, count| *count != 0);
}

fn read_split(
    source: &SnapshotSource,
    split: &Split,
    into: &mut BTreeMap<String, i64>,
) -> Result<()> {
    let mut rows = source.reader().open(split, &[0, 1])?;
    while let Read::Batch { batch, .. } = rows.read()? {
        for row in 0..batch.num_rows() {
            let cell = |column: usize| array_value_to_string(batch.column(column), row);
            let text = format!("{} {}", cell(0).expect("text"), cell(1).expect("text"));
            *into.entry(text).or_default() += if rows.retracts() { -1 } else { 1 };
        }
    }
    Ok(())
}

fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("tables")).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().display().to_string())
        .filter(|name| !name.contains("tmp"))
        .collect();
    names.sort();
    names
}

#[test]
fn what_changed_is_given_and_no_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::default();
    world.set(&[(1, "a"), (2, "b"), (2, "b"), (3, "c")]);
    let mut table = source(&world, dir.path(), OFTEN, &[]).expect("a source");
    let mut there = BTreeMap::new();
    let first = next(&mut table);
    read(&table, &first, &mut there);
    assert_eq!((first.start, first.end), (Value::Null, json!(1)));
    // Another order is no change.
    world.set(&[(3, "c"), (2, "b"), (1, "a"), (2, "b")]);
    for _ in 0..50 {
        assert_eq!(table.plan(ReadLimit::default()).expect("a plan"), None);
        std::thread::sleep(Duration::from_millis(1));
    }
    world.set(&[(2, "b"), (1, "a"), (4, "d"), (4, "d")]);
    let second = next(&mut table);
    let mut changes = BTreeMap::new();
    read(&table, &second, &mut changes);
    let expected = [("2 b", -1), ("3 c", -1), ("4 d", 2)];
    assert_eq!(changes, expected.map(|(row, n)| (row.to_owned(), n)).into());
    read(&table, &second, &mut there);
    assert_eq!(
        there,
        [("1 a", 1), ("2 b", 1), ("4 d", 2)]
            .map(|(row, n)| (row.to_owned(), n))
            .into()
    );
    assert_eq!((second.start, second.end), (json!(1), json!(2)));
}

#[test]
fn a_restart_goes_on_with_the_snapshot_that_the_log_names() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::default();
    world.set(&[(1, "a")]);
    let mut table = source(&world, dir.path(), OFTEN, &[]).expect("a source");
    let mut log = vec![next(&mut table)];
    world.set(&[(2, "b")]);
    log.push(next(&mut table));
    world.set(&[(3, "c")]);
    let unlogged = next(&mut table);
    // The first two are committed, and the third is not in the log.
    table.committed(&log[0]).expect("committed");
    table.committed(&log[1]).expect("committed");
    drop(table);
    assert_eq!(
        files(dir.path()),
        ["3-2.changes", "3-2.snapshot", "3-3.changes", "3-3.snapshot"]
    );
    world.set(&[(4, "d")]);
    let mut table = source(&world, dir.path(), OFTEN, &log).expect("a source");
    assert_eq!(files(dir.path()), ["3-2.changes", "3-2.snapshot"]);
    let third = next(&mut table);
    assert_eq!(third.start, unlogged.start);
    let mut changes = BTreeMap::new();
    read(&table, &third, &mut changes);
    assert_eq!(
        changes,
        [("2 b".to_owned(), -1), ("4 d".to_owned(), 1)].into()
    );
    // What is logged can be read again.
    read(&table, &log[1], &mut changes);
    assert_eq!(
        changes,
        [("1 a".to_owned(), -1), ("4 d".to_owned(), 1)].into()
    );
    // Its epoch can never be run again.
    table.committed(&third).expect("committed");
    assert_eq!(table.forgettable(), 2);
    table.forgotten(2);
    assert_eq!(files(dir.path()), ["3-3.changes", "3-3.snapshot"]);
}

#[test]
fn a_table_that_is_read_once_is_kept_until_its_epoch_is_committed() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::default();
    world.set(&[(1, "a")]);
    let mut table = source(&world, dir.path(), None, &[]).expect("a source");
    let range = next(&mut table);
    world.set(&[(2, "b")]);
    let mut again =
        source(&world, dir.path(), None, std::slice::from_ref(&range)).expect("a source");
    let mut there = BTreeMap::new();
    read(&again, &range, &mut there);
    assert_eq!(there, [("1 a".to_owned(), 1)].into());
    assert!(again.exhausted());
    again.committed(&range).expect("committed");
    assert_eq!(files(dir.path()), [""; 0]);
    assert_eq!(again.plan(ReadLimit::default()).expect("a plan"), None);
    // A crash before that leaves it to the next start.
    table.settled = false;
    assert_eq!(table.plan(ReadLimit::default()).expect("a plan"), None);
    // The log of a version that kept no snapshots is one that this one reads, too.
    let old = PlannedRange {
        start: Value::Null,
        end: json!(1),
        splits: vec![],
    };
    let mut table = source(&world, dir.path(), None, &[old]).expect("a source");
    assert_eq!(table.plan(ReadLimit::default()).expect("a plan"), None);
}

#[test]
fn rows_stay_while_a_table_is_away_and_not_for_ever() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::default();
    world.set(&[(1, "a")]);
    let refresh = Refresh {
        interval: Duration::from_millis(1),
        max_staleness: Some(Duration::from_millis(200)),
    };
    let mut table = source(&world, dir.path(), Some(refresh), &[]).expect("a source");
    next(&mut table);
    world.away(true);
    let began = Instant::now();
    let mut warned = vec![];
    let error = loop {
        match table.plan(ReadLimit::default()) {
            Ok(range) => assert_eq!(range, None),
            Err(error) => break error.to_string(),
        }
        warned.append(&mut table.warnings());
        assert!(began.elapsed() < Duration::from_secs(20), "no error came");
        std::thread::sleep(Duration::from_millis(1));
    };
    assert!(began.elapsed() >= Duration::from_millis(150), "too soon");
    assert!(
        error.contains("the table is away") && error.contains("'maxStaleness'"),
        "{error}"
    );
    assert!(
        warned[0].contains("cannot be read again, so its rows of 0 s ago stay"),
        "{warned:?}"
    );
}

#[test]
fn a_bounded_run_reads_once_at_its_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::default();
    world.set(&[(1, "a")]);
    let mut table = source(&world, dir.path(), OFTEN, &[]).expect("a source");
    table.freeze().expect("frozen");
    assert!(!table.exhausted());
    let first = next(&mut table);
    assert!(table.exhausted());
    world.set(&[(2, "b")]);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(table.plan(ReadLimit::default()).expect("a plan"), None);
    let mut table = source(&world, dir.path(), OFTEN, &[first]).expect("a source");
    table.freeze().expect("frozen");
    assert!(!table.exhausted());
    let mut changes = BTreeMap::new();
    let second = next(&mut table);
    read(&table, &second, &mut changes);
    assert_eq!(
        changes,
        [("1 a".to_owned(), -1), ("2 b".to_owned(), 1)].into()
    );
    assert!(table.exhausted());
}

#[test]
fn damage_is_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::default();
    world.set(&[(1, "a")]);
    let mut table = source(&world, dir.path(), OFTEN, &[]).expect("a source");
    let range = next(&mut table);
    let path = dir.path().join("tables/3-1.snapshot");
    let whole = std::fs::read(&path).expect("a file");
    let error = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("written");
        let read = read_split(&table, &range.splits[0], &mut BTreeMap::new());
        read.expect_err("damaged").to_string()
    };
    for at in (0..whole.len()).filter(|at| !(12..24).contains(at)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        let said = error(&bytes);
        assert!(said.contains("3-1.snapshot"), "byte {at}: {said}");
    }
    for length in [0, 23, 30, whole.len() - 1] {
        let said = error(&whole[..length]);
        assert!(said.contains("cut off"), "{length} bytes: {said}");
    }
    std::fs::remove_file(&path).expect("removed");
    let said = source(&world, dir.path(), OFTEN, &[range]).expect_err("missing");
    assert!(said.to_string().contains("it is missing"), "{said}");
}

#[test]
fn many_rows_in_any_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::default();
    // More than a frame of each.
    let rows = |skip: i64, of: &'static str| -> Vec<(i64, &'static str)> {
        (0..100_000)
            .filter(|n| n % 7 != skip)
            .map(|n| (n * 31 % 100_000, of))
            .collect()
    };
    world.set(&rows(0, "x"));
    let mut table = source(&world, dir.path(), OFTEN, &[]).expect("a source");
    let mut there = BTreeMap::new();
    let first = next(&mut table);
    assert!(first.splits.len() > 1);
    read(&table, &first, &mut there);
    let mut later = rows(1, "x");
    later.reverse();
    world.set(&later);
    let second = next(&mut table);
    let mut changes = BTreeMap::new();
    read(&table, &second, &mut changes);
    let gone = changes.values().filter(|count| **count < 0).count();
    assert_eq!((changes.len(), gone), (28_572, 14_286));
    read(&table, &second, &mut there);
    let expected = later.iter().map(|(n, text)| (format!("{n} {text}"), 1));
    assert_eq!(there, expected.collect());
}
