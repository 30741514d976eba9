//! Random tables: columns, rows, cuts into epochs.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array,
    Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use rand::Rng;
use rand::rngs::StdRng;

use crate::common::cut;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
/// 2026-01-01 00:00 UTC.
const START: i64 = 1_767_225_600 * SECOND;
/// Where the last row of each table lies: all windows of the others are closed by it.
const FAR: i64 = START + 400 * 24 * 60 * MINUTE;
/// The watermark's delay, in minutes; rows are out of order by less.
const DELAY: i64 = 30;

/// What a column or an expression holds, as far as queries can be made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// INT, small.
    Int,
    /// BIGINT.
    Long,
    /// DOUBLE in steps of a quarter: sums of it are exact whatever their order.
    Double,
    /// DOUBLE that is no such step: it is compared and shown, never summed.
    Mean,
    /// DECIMAL.
    Decimal,
    /// STRING.
    Text,
    /// BOOLEAN.
    Bool,
    /// DATE.
    Date,
    /// TIMESTAMP.
    Time,
    /// TIMESTAMP that is the table's event time.
    EventTime,
}

impl Kind {
    fn sql(self) -> &'static str {
        match self {
            Self::Int => "INT",
            Self::Long => "BIGINT",
            Self::Double | Self::Mean => "DOUBLE",
            Self::Decimal => "DECIMAL(10, 2)",
            Self::Text => "STRING",
            Self::Bool => "BOOLEAN",
            Self::Date => "DATE",
            Self::Time | Self::EventTime => "TIMESTAMP",
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Int => DataType::Int32,
            Self::Long => DataType::Int64,
            Self::Double | Self::Mean => DataType::Float64,
            Self::Decimal => DataType::Decimal128(10, 2),
            Self::Text => DataType::Utf8,
            Self::Bool => DataType::Boolean,
            Self::Date => DataType::Date32,
            Self::Time | Self::EventTime => {
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
            }
        }
    }
}

/// A table: its columns and its rows, cut into epochs.
#[derive(Clone)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<(String, Kind)>,
    pub(crate) schema: SchemaRef,
    pub(crate) epochs: Vec<RecordBatch>,
}

impl Table {
    /// A table of up to eight columns and 80 rows.
    pub(crate) fn random(random: &mut StdRng, index: usize) -> Self {
        const KINDS: [Kind; 8] = [
            Kind::Int,
            Kind::Long,
            Kind::Double,
            Kind::Decimal,
            Kind::Text,
            Kind::Bool,
            Kind::Date,
            Kind::Time,
        ];
        let name = ["t", "u"][index];
        let mut kinds = vec![Kind::Int, Kind::Text];
        kinds.extend((0..random.random_range(1..6)).map(|_| KINDS[random.random_range(0..8)]));
        let mut columns: Vec<(String, Kind)> = kinds
            .into_iter()
            .enumerate()
            .map(|(number, kind)| (format!("{name}{number}"), kind))
            .collect();
        columns.push(("ts".into(), Kind::EventTime));
        let fields: Vec<Field> = columns
            .iter()
            .map(|(name, kind)| Field::new(name, kind.data_type(), true))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let rows = random.random_range(0..80);
        let nulls = [0.0, 0.1, 0.4][random.random_range(0..3)];
        let timeless = if random.random_bool(0.2) { 0.1 } else { 0.0 };
        let arrays = columns
            .iter()
            .map(|(_, kind)| match kind {
                Kind::EventTime => times(random, rows, timeless),
                _ => values(random, *kind, rows, nulls),
            })
            .collect();
        let batch =
            RecordBatch::try_new(SchemaRef::clone(&schema), arrays).expect("the columns fit");
        Self {
            name: name.into(),
            columns,
            epochs: cut(random, &batch, 8),
            schema,
        }
    }

    /// The statement that declares it.
    pub(crate) fn declaration(&self) -> String {
        let mut columns = String::new();
        for (name, kind) in &self.columns {
            let _ = write!(columns, "{name} {}, ", kind.sql());
        }
        format!(
            "CREATE TABLE {name} ({columns}WATERMARK FOR ts AS ts - INTERVAL '{DELAY}' MINUTE) \
             WITH ('connector' = 'memory', 'name' = '{name}');\n",
            name = self.name
        )
    }

    /// The row that lies far ahead left out.
    pub(crate) fn without_the_last_row(&self) -> Vec<RecordBatch> {
        let all = concat_batches(&self.schema, &self.epochs).expect("one schema");
        vec![all.slice(0, all.num_rows().saturating_sub(1))]
    }

    /// Whether all windows but that of the last row close: it lies far ahead, and no row is without
    /// an event time, whose group never ends.
    pub(crate) fn closes(&self) -> bool {
        let times = |batch: &RecordBatch| Arc::clone(batch.column(batch.num_columns() - 1));
        let last = self.epochs.last().map(|batch| {
            let times = times(batch);
            let times = times.as_primitive::<TimestampMicrosecondType>();
            times.value(times.len() - 1)
        });
        last == Some(FAR)
            && self
                .epochs
                .iter()
                .all(|batch| times(batch).null_count() == 0)
    }
}

/// Event times that go on with some disorder, and one far ahead at the end.
fn times(random: &mut StdRng, rows: usize, nulls: f64) -> ArrayRef {
    let disorder = random.random_range(0..DELAY);
    let pace = [SECOND, MINUTE, 20 * MINUTE][random.random_range(0..3)];
    let mut times: Vec<Option<i64>> = (0..rows as i64)
        .map(|row| {
            let back = random.random_range(0..=disorder * MINUTE);
            // Most times lie on whole seconds, some on the edges of windows.
            let time = (START + row * pace - back) / SECOND * SECOND;
            (!random.random_bool(nulls)).then_some(time)
        })
        .collect();
    if let Some(last) = times.last_mut() {
        *last = Some(FAR);
    }
    Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))
}

fn values(random: &mut StdRng, kind: Kind, rows: usize, nulls: f64) -> ArrayRef {
    const WORDS: [&str; 8] = ["a", "b", "A", "ü", "日本", "", " a b ", "a_b%"];
    fn some<T>(
        random: &mut StdRng,
        rows: usize,
        nulls: f64,
        mut value: impl FnMut(&mut StdRng) -> T,
    ) -> Vec<Option<T>> {
        (0..rows)
            .map(|_| {
                let value = value(random);
                (!random.random_bool(nulls)).then_some(value)
            })
            .collect()
    }
    match kind {
        Kind::Int => Arc::new(Int32Array::from(some(random, rows, nulls, |r| {
            r.random_range(-5..20)
        }))),
        Kind::Long => Arc::new(Int64Array::from(some(random, rows, nulls, |r| {
            r.random_range(-1_000_000_000_000_i64..1_000_000_000_000)
        }))),
        Kind::Double | Kind::Mean => Arc::new(Float64Array::from(some(random, rows, nulls, |r| {
            f64::from(r.random_range(-40..40)) / 4.0
        }))),
        Kind::Decimal => {
            let values = some(random, rows, nulls, |r| {
                r.random_range(-99_999_i128..99_999)
            });
            let array = Decimal128Array::from(values).with_precision_and_scale(10, 2);
            Arc::new(array.expect("five digits fit into ten"))
        }
        Kind::Text => Arc::new(StringArray::from(some(random, rows, nulls, |r| {
            WORDS[r.random_range(0..WORDS.len())]
        }))),
        Kind::Bool => Arc::new(BooleanArray::from(some(random, rows, nulls, |r| {
            r.random_bool(0.5)
        }))),
        // Two months about the leap day of 2024.
        Kind::Date => Arc::new(Date32Array::from(some(random, rows, nulls, |r| {
            r.random_range(19_753..19_813)
        }))),
        Kind::Time | Kind::EventTime => Arc::new(
            TimestampMicrosecondArray::from(some(random, rows, nulls, |r| {
                START + r.random_range(-50..50) * 7 * MINUTE
            }))
            .with_timezone("UTC"),
        ),
    }
}
