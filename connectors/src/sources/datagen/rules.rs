//! The rule of one generated column: a pure function of the seed and the row's number.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int64Array, TimestampMicrosecondArray, UInt32Array, make_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Field, TimeUnit};
use arrow::error::ArrowError;

use crate::format::casts::Casts;
use crate::format::columns::Column;
use crate::format::values::Bytes;
use crate::sources::generating;
use crate::sources::random::{draw, mix, push_number, scale, skewed, unit};
use crate::{ConnectorError, Options, Result};

/// What the rules that speak of time share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Rows a second; `None`: as fast as they are read.
    pub(super) rows_per_second: Option<u64>,
    pub(super) bounded: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    Sequence {
        start: i64,
    },
    /// Between `min` and `min + span`, both included; `skew` > 0 prefers small ones.
    Integer {
        min: i64,
        span: u64,
        skew: f64,
    },
    Float {
        min: f64,
        max: f64,
    },
    Boolean,
    /// One of some values, by the upper edges of their shares.
    Values {
        values: ArrayRef,
        edges: Vec<u64>,
    },
    /// So many letters and digits.
    Letters {
        length: usize,
    },
    /// `start` (or the query's own) plus the row's number times `step.0 / step.1`, and late by at most `disorder`.
    EventTime {
        start: Option<i64>,
        step: (i64, i64),
        disorder: u64,
    },
}

/// How a column is made.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    kind: Kind,
    data_type: DataType,
    prefix: Option<String>,
    null_rate: f64,
    seed: u64,
    /// How many rows there can be, where a sequence ends.
    pub(super) rows: Option<u64>,
}

/// The options of a field, behind `fields.NAME.`.
pub(super) const KEYS: &[&str] = &[
    "kind",
    "min",
    "max",
    "start",
    "end",
    "length",
    "values",
    "skew",
    "null-rate",
    "prefix",
    "step",
    "disorder",
];

struct Keys<'a> {
    options: &'a Options,
    name: &'a str,
}

impl Keys<'_> {
    fn key(&self, what: &str) -> String {
        format!("fields.{}.{what}", self.name)
    }

    fn get(&self, what: &str) -> Option<&str> {
        self.options.get(&self.key(what))
    }

    fn bad(&self, what: &str, expected: &str) -> ConnectorError {
        self.options.bad(&self.key(what), expected.into())
    }

    fn number<T: std::str::FromStr>(&self, what: &str) -> Result<Option<T>> {
        let Some(text) = self.get(what) else {
            return Ok(None);
        };
        text.trim()
            .parse()
            .map(Some)
            .map_err(|_| self.bad(what, "a number that fits the column"))
    }

    /// A number, or for a DATE or TIMESTAMP such a value, in the unit of the column.
    fn value(&self, what: &str, data_type: &DataType) -> Result<Option<i64>> {
        let Some(text) = self.get(what) else {
            return Ok(None);
        };
        let casts = Casts::default();
        let found = match data_type {
            DataType::Timestamp(..) if text.eq_ignore_ascii_case("now") => return Ok(None),
            DataType::Timestamp(..) => casts.timestamp(text.as_bytes()),
            DataType::Date32 => casts.date(text.as_bytes()).map(i64::from),
            DataType::Decimal128(precision, scale) => {
                crate::format::casts::parse_decimal(text.as_bytes(), *precision, *scale)
                    .and_then(|value| i64::try_from(value).ok())
            }
            _ => text.trim().parse().ok(),
        };
        found
            .map(Some)
            .ok_or_else(|| self.bad(what, "a value of the column's type"))
    }

    fn micros(&self, what: &str) -> Result<Option<i64>> {
        let key = self.key(what);
        Ok(self
            .options
            .duration(&key)?
            .map(|length| length.as_micros() as i64))
    }
}

/// The least and greatest value of an integer-like type, as far as they are useful.
fn range_of(data_type: &DataType) -> Option<(i64, i64)> {
    Some(match data_type {
        DataType::Int8 => (0, i64::from(i8::MAX)),
        DataType::Int16 => (0, i64::from(i16::MAX)),
        DataType::Int32 => (0, i64::from(i32::MAX)),
        DataType::Int64 => (0, i64::MAX),
        DataType::Decimal128(precision, _) => (0, 10_i64.pow(u32::from(*precision).min(18)) - 1),
        // The year 2025.
        DataType::Date32 => (20_089, 20_453),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            (1_735_689_600_000_000, 1_767_225_599_999_999)
        }
        _ => return None,
    })
}

impl Rule {
    pub(super) fn new(field: &Field, options: &Options, seed: u64, pace: Pace) -> Result<Self> {
        let keys = Keys {
            options,
            name: field.name(),
        };
        let data_type = field.data_type().clone();
        let mut rows = None;
        let prefix = keys.get("prefix").map(str::to_owned);
        if prefix.is_some() && data_type != DataType::Utf8 {
            return Err(keys.bad("prefix", "no prefix: only a STRING has one"));
        }
        let kind = keys.get("kind").unwrap_or("random").to_ascii_lowercase();
        let kind = match kind.as_str() {
            "sequence" => {
                let numeric = data_type == DataType::Utf8 || range_of(&data_type).is_some();
                if !numeric {
                    return Err(keys.bad(
                        "kind",
                        "random: only whole numbers, times and STRINGs have sequences",
                    ));
                }
                let start = keys.value("start", &data_type)?.unwrap_or(0);
                if let Some(end) = keys.value("end", &data_type)? {
                    let count = i128::from(end) - i128::from(start) + 1;
                    rows = Some(
                        u64::try_from(count)
                            .map_err(|_| keys.bad("end", "an end after the start"))?,
                    );
                }
                Kind::Sequence { start }
            }
            "event-time" | "eventtime" | "event_time" => {
                if !matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _)) {
                    return Err(keys.bad(
                        "kind",
                        "sequence or random: only a TIMESTAMP is an event time",
                    ));
                }
                let fixed = if pace.bounded {
                    Some(1_767_225_600_000_000)
                } else {
                    None
                };
                let start = match keys.get("start") {
                    Some(now) if now.eq_ignore_ascii_case("now") => None,
                    _ => keys.value("start", &data_type)?.or(fixed),
                };
                let step = match (keys.micros("step")?, pace.rows_per_second) {
                    (Some(step), _) => (step, 1),
                    (None, Some(rate)) => (1_000_000, i64::try_from(rate).unwrap_or(i64::MAX)),
                    (None, None) => (1_000, 1),
                };
                Kind::EventTime {
                    start,
                    step,
                    disorder: keys.micros("disorder")?.unwrap_or(0) as u64,
                }
            }
            "random" => Self::random(&keys, field, prefix.is_some())?,
            _ => return Err(keys.bad("kind", "sequence, random or event-time")),
        };
        let null_rate = keys.number::<f64>("null-rate")?.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&null_rate) {
            return Err(keys.bad("null-rate", "a share between 0 and 1"));
        }
        // Columns of other names draw other numbers.
        let salt = field.name().bytes().fold(0_u64, |salt, byte| {
            mix(salt ^ u64::from(byte)).wrapping_add(1)
        });
        Ok(Self {
            kind,
            data_type,
            prefix,
            null_rate,
            seed: mix(seed ^ salt),
            rows,
        })
    }

    fn random(keys: &Keys<'_>, field: &Field, prefixed: bool) -> Result<Kind> {
        let data_type = field.data_type();
        let skew = keys.number::<f64>("skew")?.unwrap_or(0.0);
        if !(0.0..=10.0).contains(&skew) {
            return Err(keys.bad("skew", "an exponent between 0 (even) and 10"));
        }
        if let Some(text) = keys.get("values") {
            return Self::values(keys, field, text, skew);
        }
        let integers = match range_of(data_type) {
            Some(range) => Some(range),
            None if data_type == &DataType::Utf8 && (prefixed || keys.get("max").is_some()) => {
                Some((0, 999_999))
            }
            None => None,
        };
        if let Some((least, most)) = integers {
            let min = keys.value("min", data_type)?.unwrap_or(least);
            let max = keys.value("max", data_type)?.unwrap_or(most);
            if max < min {
                return Err(keys.bad("max", "a number that is not below '.min'"));
            }
            let fits = match data_type {
                DataType::Int8 => i8::try_from(min).is_ok() && i8::try_from(max).is_ok(),
                DataType::Int16 => i16::try_from(min).is_ok() && i16::try_from(max).is_ok(),
                DataType::Int32 => i32::try_from(min).is_ok() && i32::try_from(max).is_ok(),
                _ => true,
            };
            if !fits {
                return Err(keys.bad("max", "a number that fits the column's type"));
            }
            return Ok(Kind::Integer {
                min,
                span: max.abs_diff(min),
                skew,
            });
        }
        match data_type {
            DataType::Float32 | DataType::Float64 => {
                let min = keys.number("min")?.unwrap_or(0.0);
                let max = keys.number("max")?.unwrap_or(1.0_f64.max(min));
                if max < min {
                    return Err(keys.bad("max", "a number that is not below '.min'"));
                }
                Ok(Kind::Float { min, max })
            }
            DataType::Boolean => Ok(Kind::Boolean),
            DataType::Utf8 | DataType::Binary => Ok(Kind::Letters {
                length: keys.number("length")?.unwrap_or(10),
            }),
            other => Err(ConnectorError::Schema(format!(
                "the connector 'datagen' cannot make the column '{}' of type {other}: declare it as a number, BOOLEAN, STRING, BINARY, DATE or TIMESTAMP",
                field.name()
            ))),
        }
    }

    /// `a,b,c` or `a:3,b:1`.
    fn values(keys: &Keys<'_>, field: &Field, text: &str, skew: f64) -> Result<Kind> {
        let mut column = Column::new(field.name(), field.data_type())?;
        let weighted = text.split(',').all(|value| {
            value
                .rsplit_once(':')
                .is_some_and(|(_, weight)| weight.trim().parse::<f64>().is_ok_and(|w| w >= 0.0))
        });
        let mut shares = Vec::new();
        for (rank, value) in text.split(',').enumerate() {
            let (value, weight) = match value.rsplit_once(':').filter(|_| weighted) {
                Some((value, weight)) => (value, weight.trim().parse().unwrap_or(0.0)),
                None => (value, ((rank + 1) as f64).powf(-skew)),
            };
            if !column.push_text(value.trim().as_bytes(), &Casts::default()) {
                return Err(keys.bad(
                    "values",
                    "values of the column's type, as in 'a,b,c' or 'a:3,b:1'",
                ));
            }
            shares.push(weight);
        }
        let total: f64 = shares.iter().sum();
        if total <= 0.0 {
            return Err(keys.bad("values", "at least one weight above 0"));
        }
        let mut sum = 0.0;
        let edges = shares
            .iter()
            .map(|share| {
                sum += share / total;
                (sum * u64::MAX as f64) as u64
            })
            .collect();
        let values = column
            .take()
            .map_err(|source| generating(field.name(), source))?;
        Ok(Kind::Values { values, edges })
    }

    /// The rows `rows`; `origin` is when the query began, in microseconds.
    pub(super) fn make(&self, rows: &[u64], origin: i64) -> Result<ArrayRef, ArrowError> {
        let seed = self.seed;
        let array: ArrayRef = match &self.kind {
            Kind::Sequence { start } => self.integers(
                rows.iter()
                    .map(|row| start.wrapping_add(*row as i64))
                    .collect(),
            )?,
            Kind::Integer { min, span, skew } => {
                let picks = rows.iter().map(|row| {
                    let bits = draw(seed, *row);
                    let offset = if *skew > 0.0 {
                        skewed(unit(bits), *span, *skew)
                    } else {
                        scale(bits, *span)
                    };
                    min.wrapping_add_unsigned(offset)
                });
                self.integers(picks.collect())?
            }
            Kind::Float { min, max } => {
                let values: Vec<f64> = rows
                    .iter()
                    .map(|row| min + unit(draw(seed, *row)) * (max - min))
                    .collect();
                let array: ArrayRef = Arc::new(arrow::array::Float64Array::from(values));
                if self.data_type == DataType::Float64 {
                    array
                } else {
                    arrow::compute::cast(&array, &self.data_type)?
                }
            }
            Kind::Boolean => Arc::new(
                rows.iter()
                    .map(|row| Some(draw(seed, *row) >> 63 == 1))
                    .collect::<BooleanArray>(),
            ),
            Kind::Values { values, edges } => {
                let last = edges.len() - 1;
                let picks: Vec<u32> = rows
                    .iter()
                    .map(|row| {
                        let bits = draw(seed, *row);
                        let pick = if edges.len() <= 16 {
                            edges.iter().take_while(|edge| **edge <= bits).count()
                        } else {
                            edges.partition_point(|edge| *edge <= bits)
                        };
                        pick.min(last) as u32
                    })
                    .collect();
                let picked = take(values, &UInt32Array::from(picks), None)?;
                match &self.prefix {
                    Some(prefix) => prefixed(prefix, &picked)?,
                    None => picked,
                }
            }
            Kind::Letters { length } => self.letters(rows, *length)?,
            Kind::EventTime {
                start,
                step,
                disorder,
            } => {
                let start = start.unwrap_or(origin);
                let times: Vec<i64> = rows
                    .iter()
                    .map(|row| {
                        let passed = match i64::try_from(*row)
                            .ok()
                            .and_then(|row| row.checked_mul(step.0))
                        {
                            Some(product) => product / step.1,
                            None => {
                                (i128::from(*row) * i128::from(step.0) / i128::from(step.1)) as i64
                            }
                        };
                        let late = scale(draw(seed, *row), *disorder) as i64;
                        start.wrapping_add(passed).wrapping_sub(late)
                    })
                    .collect();
                let DataType::Timestamp(_, zone) = &self.data_type else {
                    return Err(ArrowError::SchemaError(
                        "an event time that is no timestamp".into(),
                    ));
                };
                Arc::new(TimestampMicrosecondArray::from(times).with_timezone_opt(zone.clone()))
            }
        };
        if self.null_rate <= 0.0 {
            return Ok(array);
        }
        let valid: NullBuffer = rows
            .iter()
            .map(|row| unit(draw(!seed, *row)) >= self.null_rate)
            .collect::<Vec<_>>()
            .into();
        let data = array.to_data().into_builder().nulls(Some(valid)).build()?;
        Ok(make_array(data))
    }

    /// Numbers in the column's type.
    fn integers(&self, numbers: Vec<i64>) -> Result<ArrayRef, ArrowError> {
        match &self.data_type {
            DataType::Utf8 => {
                let prefix = self.prefix.as_deref().unwrap_or_default().as_bytes();
                let mut bytes = Bytes::new();
                bytes.values.reserve(numbers.len() * (prefix.len() + 8));
                for number in numbers {
                    bytes.values.extend_from_slice(prefix);
                    push_number(&mut bytes.values, number);
                    bytes.seal(true);
                }
                Column::Utf8(bytes).take()
            }
            DataType::Int64 => Ok(Arc::new(Int64Array::from(numbers))),
            DataType::Timestamp(_, zone) => Ok(Arc::new(
                TimestampMicrosecondArray::from(numbers).with_timezone_opt(zone.clone()),
            )),
            DataType::Date32 => {
                let days: Vec<i32> = numbers.into_iter().map(|day| day as i32).collect();
                Ok(Arc::new(arrow::array::Date32Array::from(days)))
            }
            DataType::Decimal128(precision, scale) => {
                let values: Vec<i128> = numbers.into_iter().map(i128::from).collect();
                let array = arrow::array::Decimal128Array::from(values);
                Ok(Arc::new(
                    array.with_precision_and_scale(*precision, *scale)?,
                ))
            }
            other => {
                let array: ArrayRef = Arc::new(Int64Array::from(numbers));
                let options = CastOptions {
                    safe: false,
                    ..CastOptions::default()
                };
                cast_with_options(&array, other, &options)
            }
        }
    }

    fn letters(&self, rows: &[u64], length: usize) -> Result<ArrayRef, ArrowError> {
        const ALPHABET: &[u8; 64] =
            b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
        let mut bytes = Bytes::new();
        for row in rows {
            let mut state = draw(self.seed, *row);
            let mut left = length;
            while left > 0 {
                let mut bits = state;
                let some = left.min(10);
                for _ in 0..some {
                    bytes.values.push(ALPHABET[(bits & 63) as usize]);
                    bits >>= 6;
                }
                left -= some;
                state = mix(state.wrapping_add(1));
            }
            bytes.seal(true);
        }
        if self.data_type == DataType::Binary {
            Column::Binary(bytes).take()
        } else {
            Column::Utf8(bytes).take()
        }
    }
}

/// Texts with something before each.
fn prefixed(prefix: &str, values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let values = values.to_data();
    let texts = arrow::array::StringArray::from(values);
    let mut bytes = Bytes::new();
    for text in texts.iter().flatten() {
        bytes.values.extend_from_slice(prefix.as_bytes());
        bytes.push(text.as_bytes());
    }
    Column::Utf8(bytes).take()
}
