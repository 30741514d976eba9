//! Reading a source as the engine does, on one thread.

use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::display::array_value_to_string;
use tidemark_connectors::{Options, PlannedRange, Read, ReadLimit, Result, Source, open_source};

use crate::broker::PATIENCE;

/// Opens a source of these brokers.
pub(crate) fn open(
    servers: &str,
    options: &[(&str, &str)],
    schema: Option<SchemaRef>,
) -> Result<Box<dyn Source>> {
    let all = [("kafka.bootstrap.servers", servers)];
    let options: Options = all.iter().chain(options).copied().collect();
    open_source("kafka", &options, schema)
}

/// The next range that has records, waiting for it.
pub(crate) fn plan(source: &mut dyn Source) -> Result<PlannedRange> {
    let began = Instant::now();
    loop {
        if let Some(range) = source.plan(ReadLimit::default())?
            && !range.splits.is_empty()
        {
            return Ok(range);
        }
        assert!(began.elapsed() < PATIENCE, "nothing to plan");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The rows of a range, in the order of its splits.
pub(crate) fn rows_of(
    source: &dyn Source,
    range: &PlannedRange,
    columns: &[usize],
) -> Result<Vec<String>> {
    let reader = source.reader();
    let mut rows = vec![];
    for split in &range.splits {
        let mut split = reader.open(split, columns)?;
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < PATIENCE, "a split does not end");
            match split.read()? {
                Read::Batch { batch, .. } => rows.extend(texts(&batch)),
                Read::Pending => std::thread::sleep(Duration::from_millis(1)),
                Read::End => break,
            }
        }
    }
    Ok(rows)
}

/// Plans and reads until there are so many rows.
pub(crate) fn rows(source: &mut dyn Source, columns: &[usize], wanted: usize) -> Vec<String> {
    let mut found = vec![];
    while found.len() < wanted {
        let range = plan(source).expect("a range");
        found.extend(rows_of(source, &range, columns).expect("rows"));
        source.committed(&range).expect("committed");
    }
    found
}

/// The rows of a batch, their values separated by commas.
fn texts(batch: &RecordBatch) -> Vec<String> {
    (0..batch.num_rows())
        .map(|row| {
            let values: Vec<String> = batch
                .columns()
                .iter()
                .map(|column| array_value_to_string(column, row).expect("a value"))
                .collect();
            values.join(",")
        })
        .collect()
}
