//! Columns under construction that can take back what a broken record put into them.
//!
//! Arrow's builders only grow. A record that turns out to be broken in its middle has to leave
//! nothing behind, so these are plain vectors that can be cut.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, ListArray, MapArray, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, FieldRef, Fields as ArrowFields, TimeUnit};
use arrow::error::ArrowError;

use super::casts::{Casts, parse_decimal, parse_double, parse_float, parse_integer};
use super::names::Names;
use super::values::{Bytes, Values, take_nulls, take_offsets};
use crate::{ConnectorError, Result};

/// One column under construction.
#[derive(Debug)]
pub(crate) enum Column {
    Boolean(Values<bool>),
    Int8(Values<i8>),
    Int16(Values<i16>),
    Int32(Values<i32>),
    Int64(Values<i64>),
    Float32(Values<f32>),
    Float64(Values<f64>),
    Decimal(Values<i128>, u8, i8),
    Date(Values<i32>),
    Timestamp(Values<i64>, Arc<str>),
    TimestampNtz(Values<i64>),
    Utf8(Bytes),
    Binary(Bytes),
    List {
        item: FieldRef,
        ends: Vec<i32>,
        valid: Vec<bool>,
        child: Box<Column>,
    },
    Struct {
        fields: ArrowFields,
        names: Names,
        valid: Vec<bool>,
        children: Vec<Column>,
    },
    Map {
        entries: FieldRef,
        ends: Vec<i32>,
        valid: Vec<bool>,
        keys: Box<Column>,
        values: Box<Column>,
    },
}

impl Column {
    /// An empty column of a type; `name` is for the error where there is no such column.
    pub(crate) fn new(name: &str, data_type: &DataType) -> Result<Self> {
        Ok(match data_type {
            DataType::Boolean => Self::Boolean(Values::default()),
            DataType::Int8 => Self::Int8(Values::default()),
            DataType::Int16 => Self::Int16(Values::default()),
            DataType::Int32 => Self::Int32(Values::default()),
            DataType::Int64 => Self::Int64(Values::default()),
            DataType::Float32 => Self::Float32(Values::default()),
            DataType::Float64 => Self::Float64(Values::default()),
            DataType::Decimal128(precision, scale) => {
                Self::Decimal(Values::default(), *precision, *scale)
            }
            DataType::Date32 => Self::Date(Values::default()),
            DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) => {
                Self::Timestamp(Values::default(), Arc::clone(zone))
            }
            DataType::Timestamp(TimeUnit::Microsecond, None) => {
                Self::TimestampNtz(Values::default())
            }
            DataType::Utf8 => Self::Utf8(Bytes::new()),
            DataType::Binary => Self::Binary(Bytes::new()),
            DataType::List(item) => Self::List {
                child: Box::new(Self::new(name, item.data_type())?),
                item: Arc::clone(item),
                ends: Vec::new(),
                valid: Vec::new(),
            },
            DataType::Struct(fields) => Self::Struct {
                names: Names::new(fields.iter().map(|f| f.name().as_str()).enumerate()),
                children: fields
                    .iter()
                    .map(|field| Self::new(field.name(), field.data_type()))
                    .collect::<Result<_>>()?,
                fields: fields.clone(),
                valid: Vec::new(),
            },
            DataType::Map(entries, _) => {
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(unsupported(name, data_type));
                };
                let [key, value] = fields.as_ref() else {
                    return Err(unsupported(name, data_type));
                };
                if key.data_type() != &DataType::Utf8 {
                    return Err(ConnectorError::Schema(format!(
                        "column '{name}': the keys of a MAP are read from text; declare it as MAP<STRING, ...>"
                    )));
                }
                Self::Map {
                    keys: Box::new(Self::new(name, key.data_type())?),
                    values: Box::new(Self::new(name, value.data_type())?),
                    entries: Arc::clone(entries),
                    ends: Vec::new(),
                    valid: Vec::new(),
                }
            }
            other => return Err(unsupported(name, other)),
        })
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Boolean(c) => c.len(),
            Self::Int8(c) => c.len(),
            Self::Int16(c) => c.len(),
            Self::Int32(c) | Self::Date(c) => c.len(),
            Self::Int64(c) | Self::Timestamp(c, _) | Self::TimestampNtz(c) => c.len(),
            Self::Float32(c) => c.len(),
            Self::Float64(c) => c.len(),
            Self::Decimal(c, ..) => c.len(),
            Self::Utf8(c) | Self::Binary(c) => c.len(),
            Self::List { valid, .. } | Self::Struct { valid, .. } | Self::Map { valid, .. } => {
                valid.len()
            }
        }
    }

    /// About how many bytes of variable length it holds.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Utf8(c) | Self::Binary(c) => c.values.len(),
            Self::List { child, .. } => child.bytes() + child.len() * 8,
            Self::Struct { children, .. } => children.iter().map(Self::bytes).sum(),
            Self::Map { keys, values, .. } => keys.bytes() + values.bytes() + values.len() * 8,
            _ => 0,
        }
    }

    pub(crate) fn push_null(&mut self) {
        match self {
            Self::Boolean(c) => _ = c.push_option(None),
            Self::Int8(c) => _ = c.push_option(None),
            Self::Int16(c) => _ = c.push_option(None),
            Self::Int32(c) | Self::Date(c) => _ = c.push_option(None),
            Self::Int64(c) | Self::Timestamp(c, _) | Self::TimestampNtz(c) => {
                _ = c.push_option(None);
            }
            Self::Float32(c) => _ = c.push_option(None),
            Self::Float64(c) => _ = c.push_option(None),
            Self::Decimal(c, ..) => _ = c.push_option(None),
            Self::Utf8(c) | Self::Binary(c) => c.seal(false),
            Self::List {
                ends, valid, child, ..
            } => {
                ends.push(child.len() as i32);
                valid.push(false);
            }
            Self::Struct {
                valid, children, ..
            } => {
                valid.push(false);
                children.iter_mut().for_each(Self::push_null);
            }
            Self::Map {
                ends,
                valid,
                values,
                ..
            } => {
                ends.push(values.len() as i32);
                valid.push(false);
            }
        }
    }

    /// Takes back all rows from `length` on.
    pub(crate) fn truncate(&mut self, length: usize) {
        match self {
            Self::Boolean(c) => c.truncate(length),
            Self::Int8(c) => c.truncate(length),
            Self::Int16(c) => c.truncate(length),
            Self::Int32(c) | Self::Date(c) => c.truncate(length),
            Self::Int64(c) | Self::Timestamp(c, _) | Self::TimestampNtz(c) => c.truncate(length),
            Self::Float32(c) => c.truncate(length),
            Self::Float64(c) => c.truncate(length),
            Self::Decimal(c, ..) => c.truncate(length),
            Self::Utf8(c) | Self::Binary(c) => c.truncate(length),
            Self::List {
                ends, valid, child, ..
            } => {
                ends.truncate(length);
                valid.truncate(length);
                child.truncate(ends.last().map_or(0, |end| *end as usize));
            }
            Self::Struct {
                valid, children, ..
            } => {
                valid.truncate(length);
                for child in children {
                    child.truncate(length);
                }
            }
            Self::Map {
                ends,
                valid,
                keys,
                values,
                ..
            } => {
                ends.truncate(length);
                valid.truncate(length);
                let entries = ends.last().map_or(0, |end| *end as usize);
                keys.truncate(entries);
                values.truncate(entries);
            }
        }
    }

    /// Hands the rows out and is empty afterwards.
    pub(crate) fn take(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Boolean(c) => {
                let values = BooleanBuffer::from(std::mem::take(&mut c.values));
                Arc::new(BooleanArray::new(values, c.take_nulls()))
            }
            Self::Int8(c) => {
                let (values, nulls) = c.take();
                Arc::new(Int8Array::try_new(values, nulls)?)
            }
            Self::Int16(c) => {
                let (values, nulls) = c.take();
                Arc::new(Int16Array::try_new(values, nulls)?)
            }
            Self::Int32(c) => {
                let (values, nulls) = c.take();
                Arc::new(Int32Array::try_new(values, nulls)?)
            }
            Self::Int64(c) => {
                let (values, nulls) = c.take();
                Arc::new(Int64Array::try_new(values, nulls)?)
            }
            Self::Float32(c) => {
                let (values, nulls) = c.take();
                Arc::new(Float32Array::try_new(values, nulls)?)
            }
            Self::Float64(c) => {
                let (values, nulls) = c.take();
                Arc::new(Float64Array::try_new(values, nulls)?)
            }
            Self::Decimal(c, precision, scale) => {
                let (values, nulls) = c.take();
                let array = Decimal128Array::try_new(values, nulls)?;
                Arc::new(array.with_precision_and_scale(*precision, *scale)?)
            }
            Self::Date(c) => {
                let (values, nulls) = c.take();
                Arc::new(Date32Array::try_new(values, nulls)?)
            }
            Self::Timestamp(c, zone) => {
                let (values, nulls) = c.take();
                let array = TimestampMicrosecondArray::try_new(values, nulls)?;
                Arc::new(array.with_timezone(Arc::clone(zone)))
            }
            Self::TimestampNtz(c) => {
                let (values, nulls) = c.take();
                Arc::new(TimestampMicrosecondArray::try_new(values, nulls)?)
            }
            Self::Utf8(c) => {
                let (offsets, values, nulls) = c.take();
                Arc::new(StringArray::try_new(offsets, values, nulls)?)
            }
            Self::Binary(c) => {
                let (offsets, values, nulls) = c.take();
                Arc::new(BinaryArray::try_new(offsets, values, nulls)?)
            }
            Self::List {
                item,
                ends,
                valid,
                child,
            } => Arc::new(ListArray::try_new(
                Arc::clone(item),
                take_offsets(ends),
                child.take()?,
                take_nulls(valid),
            )?),
            Self::Struct {
                fields,
                valid,
                children,
                ..
            } => {
                let length = valid.len();
                let arrays = children
                    .iter_mut()
                    .map(Self::take)
                    .collect::<Result<Vec<_>, _>>()?;
                Arc::new(StructArray::try_new_with_length(
                    fields.clone(),
                    arrays,
                    take_nulls(valid),
                    length,
                )?)
            }
            Self::Map {
                entries,
                ends,
                valid,
                keys,
                values,
            } => {
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(ArrowError::SchemaError("map entries are no struct".into()));
                };
                let pairs =
                    StructArray::try_new(fields.clone(), vec![keys.take()?, values.take()?], None)?;
                Arc::new(MapArray::try_new(
                    Arc::clone(entries),
                    take_offsets(ends),
                    pairs,
                    take_nulls(valid),
                    false,
                )?)
            }
        })
    }

    /// Pushes a value written as text, by Spark's CSV rules; `false` (and null) where it is none.
    pub(crate) fn push_text(&mut self, text: &[u8], casts: &Casts) -> bool {
        fn narrow<T: TryFrom<i64>>(text: &[u8]) -> Option<T> {
            T::try_from(parse_integer(text)?).ok()
        }
        match self {
            Self::Boolean(c) => c.push_option(if text.eq_ignore_ascii_case(b"true") {
                Some(true)
            } else if text.eq_ignore_ascii_case(b"false") {
                Some(false)
            } else {
                None
            }),
            Self::Int8(c) => c.push_option(narrow(text)),
            Self::Int16(c) => c.push_option(narrow(text)),
            Self::Int32(c) => c.push_option(narrow(text)),
            Self::Int64(c) => c.push_option(parse_integer(text)),
            Self::Float32(c) => c.push_option(match named_float(text) {
                Some(value) => Some(value as f32),
                None => parse_float(text.trim_ascii()),
            }),
            Self::Float64(c) => {
                c.push_option(named_float(text).or_else(|| parse_double(text.trim_ascii())))
            }
            Self::Decimal(c, precision, scale) => {
                c.push_option(parse_decimal(text, *precision, *scale))
            }
            Self::Date(c) => c.push_option(casts.date(text)),
            Self::Timestamp(c, _) => c.push_option(casts.timestamp(text)),
            Self::TimestampNtz(c) => c.push_option(casts.timestamp_ntz(text)),
            Self::Utf8(c) | Self::Binary(c) => {
                c.push(text);
                true
            }
            Self::List { .. } | Self::Struct { .. } | Self::Map { .. } => {
                self.push_null();
                false
            }
        }
    }

    /// The type's name, as users write it.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Boolean(_) => "BOOLEAN",
            Self::Int8(_) => "TINYINT",
            Self::Int16(_) => "SMALLINT",
            Self::Int32(_) => "INT",
            Self::Int64(_) => "BIGINT",
            Self::Float32(_) => "FLOAT",
            Self::Float64(_) => "DOUBLE",
            Self::Decimal(..) => "DECIMAL",
            Self::Date(_) => "DATE",
            Self::Timestamp(..) => "TIMESTAMP",
            Self::TimestampNtz(_) => "TIMESTAMP_NTZ",
            Self::Utf8(_) => "STRING",
            Self::Binary(_) => "BINARY",
            Self::List { .. } => "ARRAY",
            Self::Struct { .. } => "STRUCT",
            Self::Map { .. } => "MAP",
        }
    }
}

/// The names that Spark reads as floating-point numbers.
pub(crate) fn named_float(text: &[u8]) -> Option<f64> {
    match text {
        b"NaN" => Some(f64::NAN),
        b"Inf" | b"+INF" | b"INF" | b"+Infinity" | b"Infinity" => Some(f64::INFINITY),
        b"-Inf" | b"-INF" | b"-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn unsupported(name: &str, data_type: &DataType) -> ConnectorError {
    ConnectorError::Schema(format!(
        "column '{name}' is a {data_type}, which this format cannot hold; declare it as STRING, a number, DATE, TIMESTAMP, BINARY, ARRAY, STRUCT or MAP"
    ))
}
