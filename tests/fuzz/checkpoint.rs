//! Damaged checkpoints: a query that goes on from one is refused, or answers as if nothing was.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tidemark::checkpoint::{Checkpoint, StateDir, StateFileReader};
use tidemark::state::{Input, Sections};
use tidemark_connectors::sources::memory::MemorySource;
use tidemark_connectors::storage::Disk;

use crate::common::{Captured, Run};
use crate::fuzz;

const SCRIPT: &str = "CREATE TABLE events (user STRING, n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE)
    WITH ('connector' = 'memory', 'name' = 'events');
  SELECT window.start AS s, user, count(*) AS n, max(n) AS top, count(DISTINCT n) AS d
  FROM events GROUP BY window(ts, '5 minutes'), user;";

fn schema() -> SchemaRef {
    let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("user", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
        Field::new("ts", zoned, true),
    ]))
}

/// An epoch's rows: eight users, a minute each.
fn rows(epoch: i64) -> RecordBatch {
    let users: StringArray = (0..40).map(|n| Some(format!("u{}", n % 8))).collect();
    let numbers: Int64Array = (0..40).map(|n| Some(n * epoch)).collect();
    let times: TimestampMicrosecondArray = (0..40)
        .map(|n| Some((epoch * 4 + n % 5) * 60_000_000))
        .collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(users),
        Arc::new(numbers),
        Arc::new(times.with_timezone("UTC")),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn run(checkpoint: &Path, epochs: i64, workers: usize) -> Result<Captured, String> {
    let source = MemorySource::new(schema()).one_batch_per_epoch();
    for epoch in 0..epochs {
        source.add(rows(epoch)).unwrap();
    }
    let captured = Captured::default();
    let run = Run {
        script: SCRIPT,
        mode: "changelog",
        workers,
        tables: &[("events".into(), source)],
        checkpoint: Some(checkpoint),
    };
    run.stream(&captured).map_err(|error| error.to_string())?;
    Ok(captured)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(file, target).unwrap();
    }
}

/// The input is a file of the checkpoint, by its number in the first byte, and what it holds.
#[test]
fn a_damaged_checkpoint_is_refused_or_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("query1");
    run(dir.path(), 3, 1).unwrap();
    run(dir.path(), 5, 2).unwrap();
    let sound = files(&whole);
    let corpus: Vec<Vec<u8>> = sound
        .iter()
        .enumerate()
        .map(|(number, file)| {
            let mut input = vec![number as u8];
            input.extend(fs::read(file).unwrap());
            input
        })
        .collect();
    let wanted = {
        let again = tempfile::tempdir().unwrap();
        copy(dir.path(), again.path());
        run(again.path(), 6, 1).unwrap().epochs()
    };
    fuzz("checkpoint", &corpus, |input| {
        let Some((number, bytes)) = input.split_first() else {
            return Ok(());
        };
        let again = tempfile::tempdir().unwrap();
        copy(dir.path(), again.path());
        let file = &sound[usize::from(*number) % sound.len()];
        let damaged = again.path().join(file.strip_prefix(dir.path()).unwrap());
        fs::write(damaged, bytes).unwrap();
        let _ = Checkpoint::inspect(again.path().join("query1"));
        match run(again.path(), 6, 1) {
            Err(_) => Ok(()),
            Ok(captured) if captured.epochs() == wanted => Ok(()),
            Ok(captured) => Err(format!(
                "{} is damaged, and the query gives {:?} instead of {wanted:?}",
                file.display(),
                captured.epochs()
            )),
        }
    });
}

/// Sections are kept safe by checksums; their readers stand bytes that are wrong all the same.
#[test]
fn sections_of_state_are_read_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 5, 1).unwrap();
    let checkpoint = dir.path().join("query1");
    let inspection = Checkpoint::inspect(&checkpoint).unwrap();
    let state = StateDir::new(&checkpoint, inspection.query_id, Arc::new(Disk));
    let mut corpus = vec![];
    for file in inspection.logs.manifest.files() {
        let reader = StateFileReader::open(&state, file).unwrap();
        for section in reader.sections() {
            let mut bytes = vec![];
            reader
                .read(section)
                .unwrap()
                .read_to_end(&mut bytes)
                .unwrap();
            corpus.push(bytes);
        }
    }
    let sound = corpus[0].clone();
    fuzz("sections", &corpus, |input| {
        let fold = |sections: &[&[u8]], watermark| {
            let inputs = sections.iter().map(|bytes| Input::from(*bytes)).collect();
            Sections::open(vec![inputs])
                .and_then(|sections| sections.fold(watermark, &mut std::io::sink()))
        };
        let _ = fold(&[input], i64::MIN);
        let _ = fold(&[&sound, input], 0);
        Ok(())
    });
}
