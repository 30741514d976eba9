use std::collections::BTreeMap;
use std::time::Instant;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType};

use super::*;

fn utc() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn try_open(columns: &[(&str, DataType)], pairs: &[(&str, &str)]) -> Result<DatagenSource> {
    let fields: Vec<_> = columns
        .iter()
        .map(|(name, t)| Field::new(*name, t.clone(), true))
        .collect();
    DatagenSource::open(
        &pairs.iter().copied().collect(),
        Some(Arc::new(Schema::new(fields))),
    )
}

fn read(source: &DatagenSource, range: &PlannedRange) -> Vec<RecordBatch> {
    let all: Vec<usize> = (0..source.schema().fields().len()).collect();
    let mut batches = Vec::new();
    for split in &range.splits {
        let mut reader = source.reader().open(split, &all).expect("a split");
        while let Read::Batch { batch, .. } = reader.read().expect("a batch") {
            batches.push(batch);
        }
    }
    batches
}

/// All rows of a bounded generator, in one batch.
fn all(columns: &[(&str, DataType)], pairs: &[(&str, &str)]) -> RecordBatch {
    let mut source = try_open(columns, pairs).expect("a source");
    let range = source
        .plan(ReadLimit::default())
        .expect("a plan")
        .expect("rows");
    assert!(source.exhausted());
    arrow::compute::concat_batches(&source.schema(), &read(&source, &range)).expect("one batch")
}

#[test]
fn rows_do_not_depend_on_epochs_or_partitions() {
    let columns = [
        ("id", DataType::Int64),
        ("name", DataType::Utf8),
        ("x", DataType::Float64),
        ("t", utc()),
    ];
    let rows_of = |partitions: &str, limit: Option<u64>| {
        let pairs = [
            ("number-of-rows", "20000"),
            ("seed", "7"),
            ("numPartitions", partitions),
            ("fields.id.kind", "sequence"),
            ("fields.t.kind", "event-time"),
            ("fields.t.disorder", "1 minute"),
            ("fields.name.null-rate", "0.1"),
        ];
        let mut source = try_open(&columns, &pairs).expect("a source");
        let mut rows = BTreeMap::new();
        while let Some(range) = source
            .plan(ReadLimit {
                rows: limit,
                bytes: None,
            })
            .expect("a plan")
        {
            for batch in read(&source, &range) {
                let ids = batch.column(0).as_primitive::<Int64Type>();
                let names = batch.column(1).as_string::<i32>();
                let times = batch.column(3).as_primitive::<TimestampMicrosecondType>();
                for row in 0..batch.num_rows() {
                    let name = names.is_valid(row).then(|| names.value(row).to_owned());
                    assert!(
                        rows.insert(ids.value(row), (name, times.value(row)))
                            .is_none()
                    );
                }
            }
        }
        assert!(source.exhausted());
        rows
    };
    let one = rows_of("1", None);
    assert_eq!(one.len(), 20_000);
    assert!(one == rows_of("3", Some(777)));
    let nulls = one.values().filter(|(name, _)| name.is_none()).count();
    assert!((1_800..2_200).contains(&nulls), "{nulls}");
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let pairs = [
        ("number-of-rows", "100"),
        ("fields.n.kind", "sequence"),
        ("fields.n.start", "5"),
    ];
    let columns = [("n", DataType::Int64)];
    let mut source = try_open(&columns, &pairs).expect("a source");
    let first = source
        .plan(ReadLimit {
            rows: Some(60),
            bytes: None,
        })
        .expect("a plan")
        .expect("rows");
    let mut again = try_open(&columns, &pairs).expect("a source");
    again.restore(&[first]).expect("restored");
    assert_eq!(again.origin, source.origin);
    let rest = again
        .plan(ReadLimit::default())
        .expect("a plan")
        .expect("rows");
    assert_eq!(
        (rest.start.clone(), rest.end.clone()),
        (json!(60), json!(100))
    );
    assert_eq!(
        read(&again, &rest)[0]
            .column(0)
            .as_primitive::<Int64Type>()
            .value(0),
        65
    );
    assert!(again.plan(ReadLimit::default()).expect("a plan").is_none());
}

#[test]
fn values_come_by_weight_and_numbers_by_skew() {
    let columns = [
        ("v", DataType::Utf8),
        ("k", DataType::Int32),
        ("u", DataType::Utf8),
        ("b", DataType::Boolean),
    ];
    let pairs = [
        ("number-of-rows", "40000"),
        ("fields.v.values", "a:3,b:1"),
        ("fields.k.max", "999"),
        ("fields.k.skew", "1.2"),
        ("fields.u.prefix", "user_"),
        ("fields.u.min", "1"),
        ("fields.u.max", "3"),
    ];
    let batch = all(&columns, &pairs);
    let a = batch
        .column(0)
        .as_string::<i32>()
        .iter()
        .flatten()
        .filter(|v| *v == "a")
        .count();
    assert!((29_000..31_000).contains(&a), "{a}");
    let keys = batch.column(1).as_primitive::<Int32Type>();
    let small = keys.values().iter().filter(|k| **k < 10).count();
    assert!(
        small > 16_000 && keys.values().iter().all(|k| (0..1000).contains(k)),
        "{small}"
    );
    assert!(keys.values().iter().any(|k| *k > 500));
    assert!(
        batch
            .column(2)
            .as_string::<i32>()
            .iter()
            .flatten()
            .all(|u| ["user_1", "user_2", "user_3"].contains(&u))
    );
    let trues = batch.column(3).as_boolean().true_count();
    assert!((19_000..21_000).contains(&trues), "{trues}");
}

#[test]
fn event_time_is_early_by_no_more_than_the_disorder() {
    let pairs = [
        ("number-of-rows", "10000"),
        ("fields.t.kind", "event-time"),
        ("fields.t.start", "2026-01-01"),
        ("fields.t.step", "1 second"),
        ("fields.t.disorder", "10 seconds"),
    ];
    let batch = all(&[("t", utc())], &pairs);
    let times = batch.column(0).as_primitive::<TimestampMicrosecondType>();
    let late: Vec<i64> = (0_i64..)
        .zip(times.values())
        .map(|(n, t)| 1_767_225_600_000_000 + n * 1_000_000 - t)
        .collect();
    assert!(late.iter().all(|late| (0..=10_000_000).contains(late)));
    assert!(late.iter().any(|late| *late > 9_000_000));
}

#[test]
fn every_scalar_type_can_be_made() {
    let columns = [
        ("a", DataType::Int8),
        ("b", DataType::Int16),
        ("c", DataType::Float32),
        ("d", DataType::Decimal128(10, 2)),
        ("e", DataType::Date32),
        ("f", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("g", DataType::Binary),
        ("h", DataType::Utf8),
    ];
    let batch = all(
        &columns,
        &[
            ("number-of-rows", "10"),
            ("fields.h.length", "25"),
            ("fields.d.max", "9.99"),
        ],
    );
    assert_eq!(batch.num_rows(), 10);
    assert_eq!(batch.column(7).as_string::<i32>().value(3).len(), 25);
}

#[test]
fn the_pace_bounds_what_is_available() {
    let mut source =
        try_open(&[("n", DataType::Int64)], &[("rows-per-second", "1000")]).expect("a source");
    source.plan(ReadLimit::default()).expect("a plan");
    source.counter.since = Instant::now()
        .checked_sub(Duration::from_secs(2))
        .map(|since| (since, 0));
    let range = source
        .plan(ReadLimit::default())
        .expect("a plan")
        .expect("rows");
    assert!(
        (2000..3000).contains(&range.end.as_u64().expect("a number")),
        "{range:?}"
    );
    source.freeze().expect("frozen");
    while source.plan(ReadLimit::default()).expect("a plan").is_some() {}
    assert!(source.exhausted());
}

#[test]
fn a_sequence_with_an_end_bounds_the_source() {
    let batch = all(
        &[("n", DataType::Int32)],
        &[
            ("fields.n.kind", "sequence"),
            ("fields.n.start", "3"),
            ("fields.n.end", "7"),
        ],
    );
    assert_eq!(
        batch
            .column(0)
            .as_primitive::<Int32Type>()
            .values()
            .as_ref(),
        [3, 4, 5, 6, 7]
    );
}

#[test]
fn mistakes_are_named() {
    let columns = [("n", DataType::Int32), ("s", DataType::Utf8)];
    for (pairs, expected) in [
        ([("fields.m.kind", "sequence")], "fields.s.kind"),
        ([("fields.n.max", "3000000000")], "fits the column"),
        ([("fields.n.kind", "event-time")], "only a TIMESTAMP"),
        ([("fields.n.prefix", "x")], "only a STRING"),
        ([("fields.n.values", "1,x")], "values of the column's type"),
        ([("fields.s.null-rate", "2")], "between 0 and 1"),
        ([("numPartitions", "0")], "at least 1"),
    ] {
        let error = try_open(&columns, &pairs).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(DatagenSource::open(&Options::new(), None).is_err());
}
