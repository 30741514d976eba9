//! Dates and timestamps as text, where the options of a format have patterns for them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StringBuilder, StructArray};
use arrow::datatypes::{
    DataType, Date32Type, Field, FieldRef, Fields, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{Result, exec_datafusion_err};
use tidemark_connectors::Options;
use tidemark_connectors::format::pattern::Pattern;
use tidemark_connectors::format::zone::Zone;

/// The patterns of the options.
pub(super) struct Formats {
    pub(super) zone: Zone,
    timestamp: Option<Pattern>,
    timestamp_ntz: Option<Pattern>,
    date: Option<Pattern>,
}

impl Formats {
    pub(super) fn new(options: &Options) -> Result<Self> {
        let pattern = |key: &str| {
            let parsed = options.get(key).map(Pattern::for_writing).transpose();
            parsed.map_err(|error| exec_datafusion_err!("{error}"))
        };
        Ok(Self {
            zone: Zone::from_options(options).map_err(super::connector)?,
            timestamp: pattern("timestampFormat")?,
            timestamp_ntz: pattern("timestampNTZFormat")?,
            date: pattern("dateFormat")?,
        })
    }

    /// The array with all dates and timestamps that have a pattern as STRINGs, at any depth.
    pub(super) fn apply(&self, array: &ArrayRef) -> Result<ArrayRef> {
        const DAY: i64 = 86_400_000_000;
        match (
            array.data_type(),
            &self.timestamp,
            &self.timestamp_ntz,
            &self.date,
        ) {
            (DataType::Timestamp(TimeUnit::Microsecond, Some(_)), Some(pattern), _, _) => {
                let times = array.as_primitive::<TimestampMicrosecondType>();
                texts(times.iter(), pattern, self.zone)
            }
            (DataType::Timestamp(TimeUnit::Microsecond, None), _, Some(pattern), _) => {
                let times = array.as_primitive::<TimestampMicrosecondType>();
                texts(times.iter(), pattern, Zone::UTC)
            }
            (DataType::Date32, _, _, Some(pattern)) => {
                let days = array.as_primitive::<Date32Type>();
                let midnights = days.iter().map(|day| day.map(|day| i64::from(day) * DAY));
                texts(midnights, pattern, Zone::UTC)
            }
            (DataType::Struct(fields), ..) => {
                let columns = array.as_struct().columns();
                let columns = columns.iter().map(|column| self.apply(column));
                let columns = columns.collect::<Result<Vec<_>>>()?;
                let fields: Fields = fields
                    .iter()
                    .zip(&columns)
                    .map(|(field, column)| retyped(field, column))
                    .collect();
                Ok(Arc::new(StructArray::try_new_with_length(
                    fields,
                    columns,
                    array.nulls().cloned(),
                    array.len(),
                )?))
            }
            (DataType::List(item), ..) => {
                let list = array.as_list::<i32>();
                let values = self.apply(list.values())?;
                Ok(Arc::new(ListArray::try_new(
                    retyped(item, &values),
                    list.offsets().clone(),
                    values,
                    array.nulls().cloned(),
                )?))
            }
            (DataType::Map(entries, sorted), ..) => {
                let map = array.as_map();
                let inner: ArrayRef = Arc::new(map.entries().clone());
                let inner = self.apply(&inner)?;
                Ok(Arc::new(MapArray::try_new(
                    retyped(entries, &inner),
                    map.offsets().clone(),
                    inner.as_struct().clone(),
                    array.nulls().cloned(),
                    *sorted,
                )?))
            }
            _ => Ok(Arc::clone(array)),
        }
    }
}

fn retyped(field: &FieldRef, column: &ArrayRef) -> FieldRef {
    let nullable = field.is_nullable();
    Arc::new(Field::new(
        field.name(),
        column.data_type().clone(),
        nullable,
    ))
}

fn texts(
    instants: impl Iterator<Item = Option<i64>>,
    pattern: &Pattern,
    zone: Zone,
) -> Result<ArrayRef> {
    let mut out = StringBuilder::new();
    let mut text = String::new();
    for instant in instants {
        text.clear();
        if let Some(instant) = instant {
            pattern.write(instant, zone, &mut text).ok_or_else(|| {
                exec_datafusion_err!(
                    "[DATETIME_OVERFLOW] a timestamp is out of range; use smaller numbers"
                )
            })?;
        }
        out.append_option(instant.map(|_| &text));
    }
    Ok(Arc::new(out.finish()))
}
