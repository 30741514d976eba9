//! Values: rows as short as can be, in no particular order.
//!
//! A row is a bitmap of its nulls (one bit a column, set = null), then each column that is not null:
//!
//! | type | bytes |
//! |---|---|
//! | bool | 1 |
//! | 8-bit integers, floats, timestamps, intervals, decimals of 256 bits, fixed-size binary | as in Arrow, little-endian |
//! | other integers, dates, times, durations, decimals up to 128 bits | varint (unsigned) or zigzag varint |
//! | strings, binary | varint length, then the bytes |
//! | list, map | varint length, a bitmap of nulls, then the elements that are not null; a map's element is a struct |
//! | struct | as a row |
//!
//! A row says nothing of its types: the codec that reads it must have those of the one that wrote it.
//! Any bytes may be decoded; what no codec wrote is an error.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, TimeUnit};

use crate::row::bytes::Bytes;
use crate::row::error::{Result, RowError};
use crate::row::key::list;

mod decode;
mod encode;

use self::decode::Column;
use self::encode::Source;

/// Columns to compact rows and back.
#[derive(Clone, Debug)]
pub struct ValueCodec {
    types: Vec<DataType>,
}

impl ValueCodec {
    /// A codec of columns of these types.
    pub fn new(types: &[DataType]) -> Result<Self> {
        types.iter().try_for_each(check)?;
        Ok(Self {
            types: types.to_vec(),
        })
    }

    /// The types of the columns.
    pub fn types(&self) -> &[DataType] {
        &self.types
    }

    /// The rows of `columns`. Without columns there are no rows to see: a row of no columns is the
    /// empty string.
    pub fn encode(&self, columns: &[ArrayRef]) -> Result<Bytes> {
        let mut out = Bytes::new();
        self.encode_into(columns, &mut out)?;
        Ok(out)
    }

    /// Appends the rows of `columns` to `out`.
    pub fn encode_into(&self, columns: &[ArrayRef], out: &mut Bytes) -> Result<()> {
        let encoder = self.encoder(columns)?;
        for row in 0..columns.first().map_or(0, |c| c.len()) {
            out.try_push_with(|buf| encoder.append(row, buf))?;
        }
        Ok(())
    }

    /// What encodes rows of `columns` one by one.
    pub fn encoder(&self, columns: &[ArrayRef]) -> Result<ValueEncoder> {
        let rows = columns.first().map_or(0, |c| c.len());
        let fits = columns.len() == self.types.len()
            && columns
                .iter()
                .zip(&self.types)
                .all(|(c, t)| c.data_type().equals_datatype(t) && c.len() == rows);
        if !fits {
            return Err(RowError::Schema {
                expected: list(self.types.iter()),
                given: list(columns.iter().map(|c| c.data_type())),
            });
        }
        let sources = columns
            .iter()
            .map(Source::new)
            .collect::<Result<Vec<_>>>()?;
        Ok(ValueEncoder { sources })
    }

    /// The columns of `rows`.
    pub fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let mut columns = self
            .types
            .iter()
            .map(Column::new)
            .collect::<Result<Vec<_>>>()?;
        let count = rows.size_hint().0;
        for (row, bytes) in rows.enumerate() {
            if row == SAMPLE {
                let more = count.saturating_sub(row);
                columns.iter_mut().for_each(|column| column.reserve(more));
            }
            let mut rest = bytes;
            let done = decode::row(&mut columns, &mut rest);
            let what = match done {
                Ok(()) if rest.is_empty() => continue,
                Ok(()) => "bytes are left over",
                Err(what) => what,
            };
            let offset = bytes.len() - rest.len();
            return Err(RowError::Corrupt { row, offset, what });
        }
        self.types
            .iter()
            .zip(columns)
            .map(|(t, c)| c.finish(t))
            .collect()
    }
}

/// Encodes the rows of some columns.
pub struct ValueEncoder {
    sources: Vec<Source>,
}

impl ValueEncoder {
    /// Appends row `row`; nothing where there are no columns.
    #[inline]
    pub fn append(&self, row: usize, out: &mut Vec<u8>) {
        encode::row(&self.sources, row, out);
    }
}

/// After so many rows it is told how much memory all will take.
const SAMPLE: usize = 64;

/// How a type is laid out in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Null,
    Bool,
    /// As in Arrow, of this width.
    Fixed(usize),
    Signed(usize),
    Unsigned(usize),
    Wide,
    Text,
    Binary,
    List,
    Struct,
}

/// The layout of a type; `None` if it has none.
fn layout(data_type: &DataType) -> Option<Layout> {
    use arrow::datatypes::IntervalUnit::{DayTime, MonthDayNano, YearMonth};
    Some(match data_type {
        DataType::Null => Layout::Null,
        DataType::Boolean => Layout::Bool,
        DataType::Int8 | DataType::UInt8 => Layout::Fixed(1),
        DataType::Float16 => Layout::Fixed(2),
        DataType::Float32 => Layout::Fixed(4),
        // Of today's times in microseconds a varint would take eight bytes as well.
        DataType::Float64
        | DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _)
        | DataType::Interval(DayTime) => Layout::Fixed(8),
        DataType::Interval(YearMonth) => Layout::Signed(4),
        DataType::Interval(MonthDayNano) => Layout::Fixed(16),
        DataType::Decimal256(..) => Layout::Fixed(32),
        DataType::FixedSizeBinary(width) => Layout::Fixed(usize::try_from(*width).ok()?),
        DataType::Int16 => Layout::Signed(2),
        DataType::Int32 | DataType::Date32 | DataType::Time32(_) | DataType::Decimal32(..) => {
            Layout::Signed(4)
        }
        DataType::Int64
        | DataType::Date64
        | DataType::Time64(_)
        | DataType::Duration(_)
        | DataType::Timestamp(..)
        | DataType::Decimal64(..) => Layout::Signed(8),
        DataType::UInt16 => Layout::Unsigned(2),
        DataType::UInt32 => Layout::Unsigned(4),
        DataType::UInt64 => Layout::Unsigned(8),
        DataType::Decimal128(..) => Layout::Wide,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Layout::Text,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Layout::Binary,
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(..)
        | DataType::Map(..) => Layout::List,
        DataType::Struct(_) => Layout::Struct,
        _ => return None,
    })
}

/// Refuses types that have no layout, at whatever depth.
fn check(data_type: &DataType) -> Result<()> {
    let known = layout(data_type).is_some();
    match data_type {
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::FixedSizeList(f, _)
        | DataType::Map(f, _) => check(f.data_type()),
        DataType::Struct(fields) => fields.iter().try_for_each(|f| check(f.data_type())),
        _ if known => Ok(()),
        _ => Err(unsupported(data_type)),
    }
}

fn unsupported(data_type: &DataType) -> RowError {
    RowError::ValueType {
        data_type: data_type.clone(),
    }
}

#[cfg(test)]
mod tests;
