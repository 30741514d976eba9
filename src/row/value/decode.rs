//! Rows to columns. Nothing here trusts what it reads: lengths are held against the bytes that are
//! left before memory is taken for them.

use arrow::array::{ArrayData, ArrayRef, BinaryViewBuilder, StringViewBuilder, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::datatypes::{DataType, i256};

use super::{Layout, layout, unsupported};
use crate::row::error::{Result, RowError};
use crate::row::varint;

/// What a step of decoding may find wrong.
type Step<T = ()> = std::result::Result<T, &'static str>;

/// So much memory is taken at most before there is something to put there: the first values may be unlike the others.
const MOST: usize = 4 << 20;

const SHORT: &str = "the row ends too early";

/// A column being built. A null is a bit, and a default in the values.
pub(super) struct Column {
    valid: Vec<bool>,
    values: Values,
}

enum Values {
    Null,
    Bool(Vec<bool>),
    Fixed(Vec<u8>, usize),
    Signed(Vec<u8>, usize),
    Unsigned(Vec<u8>, usize),
    Wide(Vec<i128>),
    Bytes {
        buf: Vec<u8>,
        ends: Vec<usize>,
    },
    List {
        ends: Vec<usize>,
        /// The length that each list must have.
        width: Option<usize>,
        elements: Box<Column>,
    },
    Struct(Vec<Column>),
}

impl Column {
    pub(super) fn new(data_type: &DataType) -> Result<Self> {
        let layout = layout(data_type).ok_or_else(|| unsupported(data_type))?;
        let values = match layout {
            Layout::Null => Values::Null,
            Layout::Bool => Values::Bool(vec![]),
            Layout::Fixed(width) => Values::Fixed(vec![], width),
            Layout::Signed(width) => Values::Signed(vec![], width),
            Layout::Unsigned(width) => Values::Unsigned(vec![], width),
            Layout::Wide => Values::Wide(vec![]),
            Layout::Text | Layout::Binary => Values::Bytes {
                buf: vec![],
                ends: vec![],
            },
            Layout::List => {
                let (field, width) = match data_type {
                    DataType::FixedSizeList(f, width) => (f, Some(*width as usize)),
                    DataType::List(f) | DataType::LargeList(f) | DataType::Map(f, _) => (f, None),
                    _ => return Err(unsupported(data_type)),
                };
                Values::List {
                    ends: vec![],
                    width,
                    elements: Box::new(Self::new(field.data_type())?),
                }
            }
            Layout::Struct => match data_type {
                DataType::Struct(fields) => {
                    let columns = fields.iter().map(|f| Self::new(f.data_type()));
                    Values::Struct(columns.collect::<Result<_>>()?)
                }
                _ => return Err(unsupported(data_type)),
            },
        };
        Ok(Self {
            valid: vec![],
            values,
        })
    }

    fn null(&mut self) {
        self.valid.push(false);
        match &mut self.values {
            Values::Null => {}
            Values::Bool(values) => values.push(false),
            Values::Fixed(values, width)
            | Values::Signed(values, width)
            | Values::Unsigned(values, width) => values.resize(values.len() + *width, 0),
            Values::Wide(values) => values.push(0),
            Values::Bytes { buf, ends } => ends.push(buf.len()),
            Values::List {
                ends,
                width,
                elements,
            } => {
                // A null list of fixed size still has its elements.
                (0..width.unwrap_or(0)).for_each(|_| elements.null());
                ends.push(elements.valid.len());
            }
            Values::Struct(columns) => columns.iter_mut().for_each(Self::null),
        }
    }

    fn value(&mut self, bytes: &mut &[u8]) -> Step {
        match &mut self.values {
            Values::Null => return Err("a value where the type has none"),
            Values::Bool(values) => match varint::take_array::<1>(bytes).ok_or(SHORT)? {
                [bit @ (0 | 1)] => values.push(bit == 1),
                _ => return Err("a boolean that is neither true nor false"),
            },
            Values::Fixed(values, width) => {
                values.extend_from_slice(varint::take_slice(bytes, *width).ok_or(SHORT)?);
            }
            Values::Signed(values, width) => {
                let value =
                    varint::take_signed(bytes).ok_or("an integer is cut off or too long")?;
                let bits = 8 * *width as u32;
                if bits < 64 && value >> (bits - 1) != 0 && value >> (bits - 1) != -1 {
                    return Err("an integer is out of its type's range");
                }
                values.extend_from_slice(&value.to_le_bytes()[..*width]);
            }
            Values::Unsigned(values, width) => {
                let value = varint::take(bytes).ok_or("an integer is cut off or too long")?;
                let bits = 8 * *width as u32;
                if bits < 64 && value >> bits != 0 {
                    return Err("an integer is out of its type's range");
                }
                values.extend_from_slice(&value.to_le_bytes()[..*width]);
            }
            Values::Wide(values) => {
                values.push(varint::take_wide(bytes).ok_or("a decimal is cut off or too long")?);
            }
            Values::Bytes { buf, ends } => {
                let len =
                    varint::take_len(bytes, bytes.len()).ok_or("a length is out of bounds")?;
                buf.extend_from_slice(varint::take_slice(bytes, len).ok_or(SHORT)?);
                ends.push(buf.len());
            }
            Values::List {
                ends,
                width,
                elements,
            } => {
                // Every element has a bit in the bitmap at least.
                let len =
                    varint::take_len(bytes, bytes.len() * 8).ok_or("a length is out of bounds")?;
                if width.is_some_and(|width| width != len) {
                    return Err("a list is not of its type's length");
                }
                let nulls = varint::take_slice(bytes, len.div_ceil(8)).ok_or(SHORT)?;
                for i in 0..len {
                    elements.either(bit(nulls, i), bytes)?;
                }
                ends.push(elements.valid.len());
            }
            Values::Struct(columns) => row(columns, bytes)?,
        }
        self.valid.push(true);
        Ok(())
    }

    /// Takes memory for `more` values like those that there are: growing step by step would copy them, and touch new
    /// memory each time.
    pub(super) fn reserve(&mut self, more: usize) {
        let there = self.valid.len().max(1);
        self.valid.reserve(more);
        match &mut self.values {
            Values::Null => {}
            Values::Bool(values) => values.reserve(more),
            Values::Fixed(values, width)
            | Values::Signed(values, width)
            | Values::Unsigned(values, width) => values.reserve(more * *width),
            Values::Wide(values) => values.reserve(more),
            Values::Bytes { buf, ends } => {
                buf.reserve((buf.len() * more / there * 9 / 8).min(MOST));
                ends.reserve(more);
            }
            Values::List { ends, elements, .. } => {
                elements.reserve((elements.valid.len() * more / there).min(MOST / 8));
                ends.reserve(more);
            }
            Values::Struct(columns) => columns.iter_mut().for_each(|column| column.reserve(more)),
        }
    }

    fn either(&mut self, null: bool, bytes: &mut &[u8]) -> Step {
        if null {
            self.null();
            return Ok(());
        }
        self.value(bytes)
    }

    /// The array of all that was read.
    pub(super) fn finish(self, data_type: &DataType) -> Result<ArrayRef> {
        let len = self.valid.len();
        let nulls = self
            .valid
            .contains(&false)
            .then(|| NullBuffer::from(self.valid));
        let builder = ArrayData::builder(data_type.clone()).len(len);
        let builder = match self.values {
            Values::Null => builder,
            Values::Bool(values) => {
                let bits = BooleanBuffer::from(values).into_inner();
                builder.nulls(nulls).add_buffer(bits)
            }
            Values::Fixed(values, width)
            | Values::Signed(values, width)
            | Values::Unsigned(values, width) => {
                builder.nulls(nulls).add_buffer(aligned(values, width))
            }
            Values::Wide(values) => builder.nulls(nulls).add_buffer(Buffer::from_vec(values)),
            Values::Bytes { buf, ends } => {
                if matches!(data_type, DataType::Utf8View | DataType::BinaryView) {
                    return views(data_type, &buf, &ends, nulls.as_ref());
                }
                let offsets = match data_type {
                    DataType::LargeUtf8 | DataType::LargeBinary => offsets::<i64>(&ends)?,
                    _ => offsets::<i32>(&ends)?,
                };
                let bytes = Buffer::from_vec(buf);
                let builder = builder.nulls(nulls).add_buffer(offsets);
                // Strings are looked at here, all at once.
                let built = builder.add_buffer(bytes.clone()).build();
                return match built {
                    Ok(data) => Ok(make_array(data)),
                    Err(_) if matches!(data_type, DataType::Utf8 | DataType::LargeUtf8) => {
                        Err(not_text(&bytes, &ends))
                    }
                    Err(error) => Err(error.into()),
                };
            }
            Values::List { ends, elements, .. } => {
                let child = child_type(data_type)?;
                let builder = builder
                    .nulls(nulls)
                    .add_child_data(elements.finish(child)?.to_data());
                match data_type {
                    DataType::FixedSizeList(..) => builder,
                    DataType::LargeList(_) => builder.add_buffer(offsets::<i64>(&ends)?),
                    _ => builder.add_buffer(offsets::<i32>(&ends)?),
                }
            }
            Values::Struct(columns) => {
                let DataType::Struct(fields) = data_type else {
                    return Err(unsupported(data_type));
                };
                let mut children = Vec::with_capacity(columns.len());
                for (field, column) in fields.iter().zip(columns) {
                    children.push(column.finish(field.data_type())?.to_data());
                }
                builder.nulls(nulls).child_data(children)
            }
        };
        Ok(make_array(builder.build()?))
    }
}

/// The error of bytes that are to be strings, and are not.
fn not_text(bytes: &[u8], ends: &[usize]) -> RowError {
    let is_text = |at: usize| {
        let start = at.checked_sub(1).map_or(0, |before| ends[before]);
        std::str::from_utf8(&bytes[start..ends[at]]).is_ok()
    };
    RowError::Corrupt {
        row: (0..ends.len()).find(|at| !is_text(*at)).unwrap_or(0),
        offset: 0,
        what: "a string is not UTF-8",
    }
}

fn child_type(data_type: &DataType) -> Result<&DataType> {
    match data_type {
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::FixedSizeList(f, _)
        | DataType::Map(f, _) => Ok(f.data_type()),
        _ => Err(unsupported(data_type)),
    }
}

/// Values in a buffer aligned as Arrow wants values of this width.
fn aligned(values: Vec<u8>, width: usize) -> Buffer {
    /// Reads all values of one width, and lets Arrow own them.
    macro_rules! read {
        ($t:ty) => {{
            let (words, _) = values.as_chunks::<{ size_of::<$t>() }>();
            Buffer::from_vec(
                words
                    .iter()
                    .map(|w| <$t>::from_le_bytes(*w))
                    .collect::<Vec<_>>(),
            )
        }};
    }
    match width {
        2 => read!(i16),
        4 => read!(i32),
        8 => read!(i64),
        16 => read!(i128),
        32 => read!(i256),
        _ => Buffer::from_vec(values),
    }
}

/// An offset buffer; an error if 32 bits are too few.
fn offsets<O: TryFrom<usize> + Default + arrow::datatypes::ArrowNativeType>(
    ends: &[usize],
) -> Result<Buffer> {
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(O::default());
    for end in ends {
        offsets.push(O::try_from(*end).map_err(|_| RowError::Full { bytes: *end })?);
    }
    Ok(Buffer::from_vec(offsets))
}

fn views(
    data_type: &DataType,
    buf: &[u8],
    ends: &[usize],
    nulls: Option<&NullBuffer>,
) -> Result<ArrayRef> {
    let mut start = 0;
    let slices = ends.iter().enumerate().map(|(i, end)| {
        let slice = &buf[start..*end];
        start = *end;
        nulls.is_none_or(|n| n.is_valid(i)).then_some(slice)
    });
    if *data_type == DataType::BinaryView {
        let mut builder = BinaryViewBuilder::with_capacity(ends.len());
        slices.for_each(|s| builder.append_option(s));
        return Ok(std::sync::Arc::new(builder.finish()));
    }
    let mut builder = StringViewBuilder::with_capacity(ends.len());
    for slice in slices {
        let text = slice.map(std::str::from_utf8).transpose();
        let corrupt = |_| RowError::Corrupt {
            row: 0,
            offset: 0,
            what: "a string is not UTF-8",
        };
        builder.append_option(text.map_err(corrupt)?);
    }
    Ok(std::sync::Arc::new(builder.finish()))
}

#[inline]
fn bit(bitmap: &[u8], i: usize) -> bool {
    bitmap[i / 8] >> (i % 8) & 1 != 0
}

/// Reads one row into `columns`. After an error the columns are of no use.
pub(super) fn row(columns: &mut [Column], bytes: &mut &[u8]) -> Step {
    let nulls = varint::take_slice(bytes, columns.len().div_ceil(8)).ok_or(SHORT)?;
    for (i, column) in columns.iter_mut().enumerate() {
        column.either(bit(nulls, i), bytes)?;
    }
    Ok(())
}
