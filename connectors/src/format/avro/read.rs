//! Values into columns, as [`resolve`](super::resolve) has found out.

use super::cursor::{Cursor, Fault};
use super::resolve::{Fill, Record, Slot, Step};
use super::schema::AvroSchema;
use crate::format::columns::Column;

/// Reads a record into `columns`: one value of each, but for columns that are no fields.
pub(super) fn read_record(
    cursor: &mut Cursor<'_>,
    writer: &AvroSchema,
    record: &Record,
    columns: &mut [Column],
) -> Result<(), Fault> {
    for slot in &record.fields {
        match slot {
            Slot::Skip(of) => cursor.skip(writer, *of)?,
            Slot::Read(column, step) => read(cursor, writer, step, &mut columns[*column])?,
        }
    }
    for (column, fill) in &record.absent {
        match fill {
            Fill::Null => columns[*column].push_null(),
            Fill::Default(bytes, step) => {
                read(&mut Cursor::new(bytes), writer, step, &mut columns[*column])?;
            }
        }
    }
    Ok(())
}

fn read(
    cursor: &mut Cursor<'_>,
    writer: &AvroSchema,
    step: &Step,
    column: &mut Column,
) -> Result<(), Fault> {
    match (step, column) {
        (Step::Null, column) => column.push_null(),
        (Step::Unfit(why), _) => return Err(why.clone()),
        (Step::Union(branches), column) => {
            let branch = cursor.choice("branches", branches.len())?;
            read(cursor, writer, &branches[branch], column)?;
        }
        (Step::Boolean, Column::Boolean(values)) => values.push(cursor.boolean()?),
        (Step::Integer, column) => integer(cursor.long()?, column)?,
        (Step::Moment(times), Column::Timestamp(values, _) | Column::TimestampNtz(values)) => {
            let value = cursor.long()?;
            let micros = if *times > 0 {
                value.checked_mul(*times)
            } else {
                Some(value.div_euclid(-times))
            };
            values.push(micros.ok_or_else(|| format!("the time {value} is too far away"))?);
        }
        (Step::Float, column) => {
            let value = f32::from_le_bytes(cursor.array()?);
            match column {
                Column::Float32(values) => values.push(value),
                Column::Float64(values) => values.push(f64::from(value)),
                other => return mismatch(step, other),
            }
        }
        (Step::Double, Column::Float64(values)) => {
            values.push(f64::from_le_bytes(cursor.array()?));
        }
        (Step::Bytes, Column::Utf8(values)) => {
            let bytes = cursor.bytes()?;
            if std::str::from_utf8(bytes).is_err() {
                return Err("a text is no UTF-8".into());
            }
            values.push(bytes);
        }
        (Step::Bytes, Column::Binary(values)) => values.push(cursor.bytes()?),
        (Step::Fixed(size), Column::Binary(values)) => values.push(cursor.take(*size)?),
        (Step::Enum(symbols), Column::Utf8(values)) => {
            let symbol = cursor.choice("symbols", symbols.len())?;
            values.push(symbols[symbol].as_bytes());
        }
        (Step::Decimal { size, factor }, Column::Decimal(values, precision, _)) => {
            let bytes = match size {
                Some(size) => cursor.take(*size)?,
                None => cursor.bytes()?,
            };
            let value = unscaled(bytes)
                .and_then(|value| value.checked_mul(*factor))
                .filter(|value| value.unsigned_abs() < 10_u128.pow(u32::from(*precision)));
            values.push(value.ok_or("a decimal has too many digits")?);
        }
        (
            Step::Array(item),
            Column::List {
                ends, valid, child, ..
            },
        ) => {
            cursor.elements(|cursor| read(cursor, writer, item, child))?;
            ends.push(end(child.len())?);
            valid.push(true);
        }
        (
            Step::Map(value),
            Column::Map {
                ends,
                valid,
                keys,
                values,
                ..
            },
        ) => {
            cursor.elements(|cursor| {
                read(cursor, writer, &Step::Bytes, keys)?;
                read(cursor, writer, value, values)
            })?;
            ends.push(end(values.len())?);
            valid.push(true);
        }
        (
            Step::Record(record),
            Column::Struct {
                valid, children, ..
            },
        ) => {
            read_record(cursor, writer, record, children)?;
            valid.push(true);
        }
        (Step::Members(branches), column) => members(cursor, writer, branches, column)?,
        (step, column) => return mismatch(step, column),
    }
    Ok(())
}

fn members(
    cursor: &mut Cursor<'_>,
    writer: &AvroSchema,
    branches: &[Option<(usize, Step)>],
    column: &mut Column,
) -> Result<(), Fault> {
    let branch = cursor.choice("branches", branches.len())?;
    let Some((member, step)) = &branches[branch] else {
        column.push_null();
        return Ok(());
    };
    let Column::Struct {
        valid, children, ..
    } = column
    else {
        return mismatch(step, column);
    };
    for (index, child) in children.iter_mut().enumerate() {
        if index == *member {
            read(cursor, writer, step, child)?;
        } else {
            child.push_null();
        }
    }
    valid.push(true);
    Ok(())
}

fn integer(value: i64, column: &mut Column) -> Result<(), Fault> {
    let far = || format!("{value} does not fit its column");
    match column {
        Column::Int8(values) => values.push(i8::try_from(value).map_err(|_| far())?),
        Column::Int16(values) => values.push(i16::try_from(value).map_err(|_| far())?),
        Column::Int32(values) | Column::Date(values) => {
            values.push(i32::try_from(value).map_err(|_| far())?);
        }
        Column::Int64(values) => values.push(value),
        Column::Float32(values) => values.push(value as f32),
        Column::Float64(values) => values.push(value as f64),
        other => return mismatch(&Step::Integer, other),
    }
    Ok(())
}

/// A whole number of any length, the greatest byte first.
fn unscaled(bytes: &[u8]) -> Option<i128> {
    let sign = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) {
        0xff
    } else {
        0
    };
    let (high, low) = bytes.split_at(bytes.len().saturating_sub(16));
    let fits =
        high.iter().all(|byte| *byte == sign) && (high.is_empty() || low[0] & 0x80 == sign & 0x80);
    let mut all = [sign; 16];
    all[16 - low.len()..].copy_from_slice(low);
    fits.then(|| i128::from_be_bytes(all))
}

fn end(length: usize) -> Result<i32, Fault> {
    i32::try_from(length).map_err(|_| "it has too many elements for a batch".into())
}

/// What [`resolve`](super::resolve) rules out.
fn mismatch(step: &Step, column: &Column) -> Result<(), Fault> {
    Err(format!("{step:?} gives no {}", column.type_name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_of_any_length() {
        let cases: [(&[u8], Option<i128>); 7] = [
            (&[], Some(0)),
            (&[0x7f], Some(127)),
            (&[0xff], Some(-1)),
            (&[0x00, 0xff], Some(255)),
            (&[0xff; 20], Some(-1)),
            (&[0x80; 17], None),
            (
                &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                Some(i128::MIN),
            ),
        ];
        for (bytes, value) in cases {
            assert_eq!(unscaled(bytes), value, "{bytes:?}");
        }
        let mut too_much = [0; 17];
        too_much[1] = 0x80;
        assert_eq!(unscaled(&too_much), None);
    }
}
