//! Rows to the bytes of records.
//!
//! A column is looked at once: its writer is a closure that appends the value of one row, so that no
//! type is matched per value. Making the writers of an empty batch tells whether columns fit a schema.

use arrow::array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType,
};
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, FieldRef};

use super::cursor::Fault;
use super::defaults::encode_default;
use super::resolve::position;
use super::schema::{AvroSchema, Decimal, Field, Meaning, Type, TypeId};

/// Appends the bytes of one row.
pub(super) type ValueWriter = Box<dyn Fn(usize, &mut Vec<u8>) -> Result<(), Fault> + Send>;

/// A whole number: zigzag, seven bits a byte.
pub(super) fn put_long(out: &mut Vec<u8>, value: i64) {
    let mut bits = ((value << 1) ^ (value >> 63)) as u64;
    while bits >= 0x80 {
        out.push(bits as u8 | 0x80);
        bits >>= 7;
    }
    out.push(bits as u8);
}

/// Bytes behind their length.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

/// A writer of rows of `columns` as records of these fields.
pub(super) fn record(
    schema: &AvroSchema,
    fields: &[Field],
    columns: &[FieldRef],
    arrays: &[ArrayRef],
) -> Result<ValueWriter, Fault> {
    for column in columns {
        if position(fields, column.name()).is_none() {
            return Err(format!(
                "the schema has no field for the column '{}'",
                column.name()
            ));
        }
    }
    let mut writers: Vec<ValueWriter> = vec![];
    for field in fields {
        let name = &field.name;
        let same = |column: &FieldRef| column.name() == name;
        let alike = |column: &FieldRef| column.name().eq_ignore_ascii_case(name);
        let at = columns
            .iter()
            .position(same)
            .or_else(|| columns.iter().position(alike));
        writers.push(if let Some(at) = at {
            value((schema, field.of), name, &arrays[at])?
        } else {
            let bytes = absent(schema, field)?;
            Box::new(move |_, out| {
                out.extend_from_slice(&bytes);
                Ok(())
            })
        });
    }
    Ok(Box::new(move |row, out| {
        writers.iter().try_for_each(|write| write(row, out))
    }))
}

/// The bytes of a field that no column is for.
fn absent(schema: &AvroSchema, field: &Field) -> Result<Vec<u8>, Fault> {
    let mut out = vec![];
    let name = &field.name;
    if let Some(default) = &field.default {
        encode_default(schema, field.of, default, &mut out)
            .map_err(|why| format!("the default of '{name}': {why}"))?;
        return Ok(out);
    }
    match schema.get(field.of) {
        Type::Null => Ok(out),
        Type::Union(branches) => match null_branch(schema, branches) {
            Some(branch) => {
                put_long(&mut out, branch as i64);
                Ok(out)
            }
            None => Err(format!("there is no column for the field '{name}'")),
        },
        _ => Err(format!("there is no column for the field '{name}'")),
    }
}

fn null_branch(schema: &AvroSchema, branches: &[TypeId]) -> Option<usize> {
    branches
        .iter()
        .position(|branch| *schema.get(*branch) == Type::Null)
}

/// A writer of the values of a column as values of a type.
fn value(
    (schema, of): (&AvroSchema, TypeId),
    name: &str,
    array: &ArrayRef,
) -> Result<ValueWriter, Fault> {
    let array = &plain(array)?;
    if let Type::Union(branches) = schema.get(of) {
        return union((schema, of), branches, name, array);
    }
    if matches!(
        (array.data_type(), schema.get(of)),
        (DataType::Null, Type::Null)
    ) {
        return Ok(Box::new(|_, _| Ok(())));
    }
    let write = present((schema, of), name, array)?;
    let Some(nulls) = nulls(array) else {
        return Ok(write);
    };
    let why = format!(
        "'{name}' is NULL, and its type in the schema is {} without null",
        schema.describe(of)
    );
    Ok(Box::new(move |row, out| {
        if nulls.is_null(row) {
            return Err(why.clone());
        }
        write(row, out)
    }))
}

/// The one array type of each type of values.
fn plain(array: &ArrayRef) -> Result<ArrayRef, Fault> {
    let target = match array.data_type() {
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        DataType::RunEndEncoded(_, values) => values.data_type().clone(),
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            DataType::List(FieldRef::clone(item))
        }
        _ => return Ok(ArrayRef::clone(array)),
    };
    arrow::compute::cast(array, &target).map_err(|why| why.to_string())
}

fn nulls(array: &ArrayRef) -> Option<NullBuffer> {
    array
        .nulls()
        .filter(|nulls| nulls.null_count() > 0)
        .cloned()
}

fn union(
    (schema, of): (&AvroSchema, TypeId),
    branches: &[TypeId],
    name: &str,
    array: &ArrayRef,
) -> Result<ValueWriter, Fault> {
    let null = null_branch(schema, branches).map(|branch| branch as i64);
    if *array.data_type() == DataType::Null {
        let Some(null) = null else {
            return unfit((schema, of), name, array);
        };
        return Ok(Box::new(move |_, out| {
            put_long(out, null);
            Ok(())
        }));
    }
    let fitting = branches.iter().enumerate().find_map(|(index, branch)| {
        let write = present((schema, *branch), name, array).ok()?;
        Some((index as i64, write))
    });
    let Some((branch, write)) = fitting else {
        return match schema.branches(of)[..] {
            // It says more.
            [only] => present((schema, only), name, array),
            _ => unfit((schema, of), name, array),
        };
    };
    let nulls = nulls(array);
    let why = format!("'{name}' is NULL, and its type in the schema has no null");
    Ok(Box::new(move |row, out| {
        if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            put_long(out, null.ok_or_else(|| why.clone())?);
            return Ok(());
        }
        put_long(out, branch);
        write(row, out)
    }))
}

fn unfit<T>((schema, of): (&AvroSchema, TypeId), name: &str, array: &ArrayRef) -> Result<T, Fault> {
    Err(format!(
        "column '{name}' is a {}, and the schema has {} for it",
        array.data_type(),
        schema.describe(of)
    ))
}

/// A writer of values that are not null, as values of a type that is no union.
fn present(
    (schema, of): (&AvroSchema, TypeId),
    name: &str,
    array: &ArrayRef,
) -> Result<ValueWriter, Fault> {
    use DataType as D;
    Ok(match (array.data_type(), schema.get(of)) {
        (D::Boolean, Type::Boolean) => {
            let values = array.as_boolean().clone();
            Box::new(move |row, out| {
                out.push(u8::from(values.value(row)));
                Ok(())
            })
        }
        (D::Int8, Type::Int(Meaning::Number) | Type::Long(Meaning::Number)) => {
            whole::<Int8Type>(array, Ok)
        }
        (D::Int16, Type::Int(Meaning::Number) | Type::Long(Meaning::Number)) => {
            whole::<Int16Type>(array, Ok)
        }
        (D::Int32, Type::Int(_) | Type::Long(Meaning::Number)) => whole::<Int32Type>(array, Ok),
        (D::Date32, Type::Int(Meaning::Date)) => whole::<Date32Type>(array, Ok),
        (D::Int64, Type::Long(_)) => whole::<Int64Type>(array, Ok),
        (D::Timestamp(_, zone), Type::Long(Meaning::Timestamp { per_second, local }))
            if *local == zone.is_none() =>
        {
            match per_second {
                1_000 => whole::<TimestampMicrosecondType>(array, |v| Ok(v.div_euclid(1_000))),
                1_000_000 => whole::<TimestampMicrosecondType>(array, Ok),
                _ => whole::<TimestampMicrosecondType>(array, |v| {
                    v.checked_mul(1_000)
                        .ok_or_else(|| "a time does not fit nanoseconds".into())
                }),
            }
        }
        (D::Float32, Type::Float) => {
            each::<Float32Type>(array, |v, out| out.extend(v.to_le_bytes()))
        }
        (D::Float32, Type::Double) => {
            each::<Float32Type>(array, |v, out| out.extend(f64::from(v).to_le_bytes()))
        }
        (D::Float64, Type::Double) => {
            each::<Float64Type>(array, |v, out| out.extend(v.to_le_bytes()))
        }
        (D::Decimal128(precision, scale), Type::Bytes(Some(decimal)))
            if fits(*precision, *scale, *decimal) =>
        {
            each::<Decimal128Type>(array, |v, out| {
                let bytes = v.to_be_bytes();
                put_bytes(out, &bytes[redundant(&bytes)..]);
            })
        }
        (
            D::Decimal128(precision, scale),
            Type::Fixed {
                decimal: Some(decimal),
                size,
                ..
            },
        ) if fits(*precision, *scale, *decimal) => {
            let (values, size) = (array.as_primitive::<Decimal128Type>().clone(), *size);
            Box::new(move |row, out| {
                let value = values.value(row);
                let bytes = value.to_be_bytes();
                let least = &bytes[redundant(&bytes)..];
                let Some(room) = size.checked_sub(least.len()) else {
                    return Err(format!("a decimal does not fit {size} bytes"));
                };
                let sign = if value < 0 { 0xff } else { 0 };
                out.extend(std::iter::repeat_n(sign, room));
                out.extend_from_slice(least);
                Ok(())
            })
        }
        (D::Utf8, Type::Enum { symbols, name }) => {
            let (values, symbols) = (array.as_string::<i32>().clone(), symbols.clone());
            let name = name.clone();
            Box::new(move |row, out| {
                let text = values.value(row);
                let symbol = symbols.iter().position(|symbol| symbol == text);
                let symbol =
                    symbol.ok_or_else(|| format!("the enum {name} has no symbol '{text}'"))?;
                put_long(out, symbol as i64);
                Ok(())
            })
        }
        (D::Utf8, Type::String | Type::Bytes(None)) => {
            let values = array.as_string::<i32>().clone();
            Box::new(move |row, out| {
                put_bytes(out, values.value(row).as_bytes());
                Ok(())
            })
        }
        (D::Binary, Type::Bytes(None)) => {
            let values = array.as_binary::<i32>().clone();
            Box::new(move |row, out| {
                put_bytes(out, values.value(row));
                Ok(())
            })
        }
        (D::Binary, Type::Fixed { size, .. }) => {
            let (values, size) = (array.as_binary::<i32>().clone(), *size);
            Box::new(move |row, out| {
                let bytes = values.value(row);
                if bytes.len() != size {
                    return Err(format!(
                        "{} bytes were given for a fixed of {size}",
                        bytes.len()
                    ));
                }
                out.extend_from_slice(bytes);
                Ok(())
            })
        }
        (D::List(_), Type::Array(items)) => {
            let list = array.as_list::<i32>().clone();
            let item = value((schema, *items), name, list.values())?;
            Box::new(move |row, out| {
                let offsets = list.value_offsets();
                block(out, offsets[row]..offsets[row + 1], &item)
            })
        }
        (D::Map(..), Type::Map(values)) if array.as_map().keys().data_type() == &D::Utf8 => {
            let map = array.as_map().clone();
            let keys = map.keys().as_string::<i32>().clone();
            let item = value((schema, *values), name, map.values())?;
            let entry: ValueWriter = Box::new(move |at, out| {
                put_bytes(out, keys.value(at).as_bytes());
                item(at, out)
            });
            Box::new(move |row, out| {
                let offsets = map.value_offsets();
                block(out, offsets[row]..offsets[row + 1], &entry)
            })
        }
        (D::Struct(columns), Type::Record { fields, .. }) => {
            record(schema, fields, columns, array.as_struct().columns())
                .map_err(|why| format!("in '{name}': {why}"))?
        }
        _ => return unfit((schema, of), name, array),
    })
}

/// The elements of an array or a map: one block, and the end.
fn block(
    out: &mut Vec<u8>,
    range: std::ops::Range<i32>,
    element: &ValueWriter,
) -> Result<(), Fault> {
    if !range.is_empty() {
        put_long(out, i64::from(range.end - range.start));
    }
    for at in range {
        element(at as usize, out)?;
    }
    put_long(out, 0);
    Ok(())
}

fn each<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    put: impl Fn(T::Native, &mut Vec<u8>) + Send + 'static,
) -> ValueWriter {
    let values = array.as_primitive::<T>().clone();
    Box::new(move |row, out| {
        put(values.value(row), out);
        Ok(())
    })
}

fn whole<T: ArrowPrimitiveType<Native: Into<i64>>>(
    array: &ArrayRef,
    turn: impl Fn(i64) -> Result<i64, Fault> + Send + 'static,
) -> ValueWriter {
    let values = array.as_primitive::<T>().clone();
    Box::new(move |row, out| {
        put_long(out, turn(values.value(row).into())?);
        Ok(())
    })
}

/// Whether all values of a DECIMAL are values of a decimal of the same scale.
fn fits(precision: u8, scale: i8, of: Decimal) -> bool {
    u32::try_from(scale) == Ok(of.scale) && u32::from(precision) <= of.precision
}

/// How many bytes in front only repeat the sign.
fn redundant(bytes: &[u8; 16]) -> usize {
    let same = |pair: &&[u8]| {
        (pair[0] == 0 && pair[1] & 0x80 == 0) || (pair[0] == 0xff && pair[1] & 0x80 != 0)
    };
    bytes.windows(2).take_while(same).count()
}
