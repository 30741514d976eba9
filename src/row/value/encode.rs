//! Columns to rows.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::datatypes::DataType;

use super::{Layout, layout, unsupported};
use crate::row::error::Result;
use crate::row::varint;

/// A column whose values can be read one by one, its type looked at once.
pub(super) struct Source {
    array: ArrayRef,
    nulls: Option<NullBuffer>,
    kind: Kind,
}

/// Values by layout. A `Buffer` starts at the array's first value.
enum Kind {
    Null,
    Bool,
    Fixed(Buffer, usize),
    Signed(Buffer, usize),
    Unsigned(Buffer, usize),
    Wide(Buffer),
    /// Strings and binaries by their width of offset: 32, 64, or views.
    Text32,
    Text64,
    TextView,
    Binary32,
    Binary64,
    BinaryView,
    List(Box<Source>),
    Struct(Vec<Source>),
}

impl Source {
    pub(super) fn new(array: &ArrayRef) -> Result<Self> {
        let data_type = array.data_type();
        let layout = layout(data_type).ok_or_else(|| unsupported(data_type))?;
        let values = |width: usize| {
            let data = array.to_data();
            data.buffers()[0].slice_with_length(data.offset() * width, data.len() * width)
        };
        let kind = match layout {
            Layout::Null => Kind::Null,
            Layout::Bool => Kind::Bool,
            Layout::Fixed(width) => Kind::Fixed(values(width), width),
            Layout::Signed(width) => Kind::Signed(values(width), width),
            Layout::Unsigned(width) => Kind::Unsigned(values(width), width),
            Layout::Wide => Kind::Wide(values(16)),
            Layout::Text => match data_type {
                DataType::Utf8 => Kind::Text32,
                DataType::LargeUtf8 => Kind::Text64,
                _ => Kind::TextView,
            },
            Layout::Binary => match data_type {
                DataType::Binary => Kind::Binary32,
                DataType::LargeBinary => Kind::Binary64,
                _ => Kind::BinaryView,
            },
            Layout::List => {
                let elements: ArrayRef = match data_type {
                    DataType::LargeList(_) => array.as_list::<i64>().values().clone(),
                    DataType::FixedSizeList(..) => array.as_fixed_size_list().values().clone(),
                    DataType::Map(..) => std::sync::Arc::new(array.as_map().entries().clone()),
                    _ => array.as_list::<i32>().values().clone(),
                };
                Kind::List(Box::new(Self::new(&elements)?))
            }
            Layout::Struct => {
                let columns = array.as_struct().columns().iter();
                Kind::Struct(columns.map(Self::new).collect::<Result<_>>()?)
            }
        };
        Ok(Self {
            // The null type has no bitmap, and is null all the same.
            nulls: array.nulls().filter(|n| n.null_count() > 0).cloned(),
            array: array.clone(),
            kind,
        })
    }

    #[inline]
    fn is_null(&self, i: usize) -> bool {
        matches!(self.kind, Kind::Null) || self.nulls.as_ref().is_some_and(|n| n.is_null(i))
    }

    /// The elements of list `i`.
    fn elements(&self, i: usize) -> Range<usize> {
        match self.array.data_type() {
            DataType::LargeList(_) => {
                let offsets = self.array.as_list::<i64>().value_offsets();
                offsets[i] as usize..offsets[i + 1] as usize
            }
            DataType::FixedSizeList(_, width) => {
                let start = self.array.as_fixed_size_list().value_offset(i) as usize;
                start..start + *width as usize
            }
            DataType::Map(..) => {
                let offsets = self.array.as_map().value_offsets();
                offsets[i] as usize..offsets[i + 1] as usize
            }
            _ => {
                let offsets = self.array.as_list::<i32>().value_offsets();
                offsets[i] as usize..offsets[i + 1] as usize
            }
        }
    }

    /// Appends value `i`, which is not null.
    fn value(&self, i: usize, out: &mut Vec<u8>) {
        match &self.kind {
            Kind::Null => {}
            Kind::Bool => out.push(u8::from(self.array.as_boolean().value(i))),
            Kind::Fixed(values, width) => {
                out.extend_from_slice(&values[i * width..(i + 1) * width]);
            }
            Kind::Signed(values, width) => {
                let value = match width {
                    2 => i64::from(i16::from_le_bytes(at(values, i))),
                    4 => i64::from(i32::from_le_bytes(at(values, i))),
                    _ => i64::from_le_bytes(at(values, i)),
                };
                varint::put_signed(out, value);
            }
            Kind::Unsigned(values, width) => {
                let value = match width {
                    2 => u64::from(u16::from_le_bytes(at(values, i))),
                    4 => u64::from(u32::from_le_bytes(at(values, i))),
                    _ => u64::from_le_bytes(at(values, i)),
                };
                varint::put(out, value);
            }
            Kind::Wide(values) => varint::put_wide(out, i128::from_le_bytes(at(values, i))),
            Kind::Text32 => bytes(self.array.as_string::<i32>().value(i).as_bytes(), out),
            Kind::Text64 => bytes(self.array.as_string::<i64>().value(i).as_bytes(), out),
            Kind::TextView => bytes(self.array.as_string_view().value(i).as_bytes(), out),
            Kind::Binary32 => bytes(self.array.as_binary::<i32>().value(i), out),
            Kind::Binary64 => bytes(self.array.as_binary::<i64>().value(i), out),
            Kind::BinaryView => bytes(self.array.as_binary_view().value(i), out),
            Kind::List(elements) => {
                let range = self.elements(i);
                varint::put(out, range.len() as u64);
                bitmap(range.len(), |j| elements.is_null(range.start + j), out);
                for j in range {
                    if !elements.is_null(j) {
                        elements.value(j, out);
                    }
                }
            }
            Kind::Struct(fields) => row(fields, i, out),
        }
    }
}

/// Value `i` of a buffer of values of `N` bytes. Arrow's buffers are in the machine's order, which is
/// little-endian wherever this runs.
#[inline]
fn at<const N: usize>(values: &Buffer, i: usize) -> [u8; N] {
    *values[i * N..]
        .first_chunk::<N>()
        .expect("an array's buffer holds all of its values")
}

fn bytes(value: &[u8], out: &mut Vec<u8>) {
    varint::put(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Appends one bit for each of `len`, the first in the lowest bit of the first byte.
#[inline]
fn bitmap(len: usize, set: impl Fn(usize) -> bool, out: &mut Vec<u8>) {
    for start in (0..len).step_by(8) {
        let bits = (start..len.min(start + 8)).fold(0, |b, i| b | u8::from(set(i)) << (i - start));
        out.push(bits);
    }
}

/// Appends row `i` of `columns`.
pub(super) fn row(columns: &[Source], i: usize, out: &mut Vec<u8>) {
    bitmap(columns.len(), |c| columns[c].is_null(i), out);
    for column in columns {
        if !column.is_null(i) {
            column.value(i, out);
        }
    }
}
