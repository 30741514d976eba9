//! JSON values into columns, by the rules of Spark's `JacksonParser`.
//!
//! A value [`Fit`]s more or less; whenever it does not fit wholly, the record counts as corrupt. A
//! document that is broken is an error: then nothing of it is used.

use super::scanner::{Number, NumberKind, Scan, Scanner, Text, unescape};
use crate::format::casts::{
    Casts, decode_base64, exact_double, parse_decimal, parse_float, parse_integer,
};
use crate::format::columns::{Column, named_float};
use crate::format::names::Names;
use crate::format::values::Values;

/// What decoding needs beside the bytes.
pub(super) struct Context<'a> {
    pub(super) casts: &'a Casts,
    /// Room for strings whose escapes are undone.
    pub(super) scratch: &'a mut Vec<u8>,
}

/// How well a value fits its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It does.
    Whole,
    /// Some field within it was of a wrong type and is null.
    Part,
    /// It is of a wrong type; null was pushed.
    Not,
}

impl From<bool> for Fit {
    fn from(fits: bool) -> Self {
        if fits { Self::Whole } else { Self::Not }
    }
}

/// Decodes the fields of an object, whose brace comes next, as row `row` of `columns`; says which
/// column first had a value of a wrong type.
pub(super) fn object(
    scanner: &mut Scanner<'_>,
    names: &mut Names,
    columns: &mut [Column],
    row: usize,
    context: &mut Context<'_>,
) -> Scan<Option<usize>> {
    let mut wrong = None;
    // How many columns have a value, and which of the first 64.
    let (mut filled, mut which) = (0, 0_u64);
    let mut position = 0;
    while let Some(target) = lead(scanner, names, position, context)? {
        match target {
            None => scanner.skip()?,
            Some(index) => {
                let column = &mut columns[index];
                let bit = if index < 64 { 1 << index } else { 0 };
                if which & bit != 0 || (bit == 0 && column.len() > row) {
                    // The last of two equal names wins.
                    column.truncate(row);
                } else {
                    filled += 1;
                    which |= bit;
                }
                if value(scanner, column, context)? != Fit::Whole {
                    wrong.get_or_insert(index);
                }
            }
        }
        position += 1;
    }
    if filled < columns.len() {
        for column in columns.iter_mut().filter(|column| column.len() == row) {
            column.push_null();
        }
    }
    Ok(wrong)
}

/// Reads up to the next value of an object, of which `position` values are read; the column of that
/// value, if it has one. `None` at the object's end.
#[inline]
fn lead(
    scanner: &mut Scanner<'_>,
    names: &mut Names,
    position: usize,
    context: &mut Context<'_>,
) -> Scan<Option<Option<usize>>> {
    let start = scanner.at;
    if let Some(lead) = names.lead(position)
        && scanner.eat_lead(lead)
    {
        if position > 0 || scanner.entered() {
            return Ok(Some(lead.column));
        }
        scanner.at = start;
    }
    if position > 0 && scanner.closes(b'}') {
        return Ok(None);
    }
    new_lead(scanner, names, position, start, context)
}

/// As [`lead`], where something else comes from `start` on than the last time.
#[cold]
fn new_lead(
    scanner: &mut Scanner<'_>,
    names: &mut Names,
    position: usize,
    start: usize,
    context: &mut Context<'_>,
) -> Scan<Option<Option<usize>>> {
    let more = if position == 0 {
        scanner.enter()?;
        !scanner.closes(b'}')
    } else {
        scanner.another(b'}')?
    };
    if !more {
        return Ok(None);
    }
    let text = scanner.key()?;
    scanner.colon()?;
    if text.escaped {
        context.scratch.clear();
        unescape(text.raw, context.scratch);
        return Ok(Some(names.find(context.scratch)));
    }
    let target = names.find(text.raw);
    if scanner.peek().is_some() {
        names.remember(position, scanner.since(start), target);
    }
    Ok(Some(target))
}

/// Decodes the value that comes next as the next row of `column`.
#[expect(
    clippy::inline_always,
    reason = "the hot loop: the place in the text stays in a register"
)]
#[inline(always)]
pub(super) fn value(
    scanner: &mut Scanner<'_>,
    column: &mut Column,
    context: &mut Context<'_>,
) -> Scan<Fit> {
    match scanner.peek() {
        Some(b'"' | b'\'') => {
            let text = scanner.string()?;
            match column {
                Column::Utf8(values) if !text.escaped => {
                    values.push_start(scanner.text_onward(text), text.raw.len());
                    Ok(Fit::Whole)
                }
                _ => Ok(string(text, column, context).into()),
            }
        }
        Some(b'0'..=b'9' | b'-') => {
            let number = scanner.number()?;
            Ok(decode_number(number, column).into())
        }
        other => uncommon_value(other, scanner, column, context),
    }
}

/// A value that begins with `first` and is neither a string nor a usual number.
fn uncommon_value(
    first: Option<u8>,
    scanner: &mut Scanner<'_>,
    column: &mut Column,
    context: &mut Context<'_>,
) -> Scan<Fit> {
    match first {
        Some(b'n') => {
            scanner.word(b"null")?;
            column.push_null();
            Ok(Fit::Whole)
        }
        Some(b'{') => match column {
            Column::Struct {
                names,
                valid,
                children,
                ..
            } => {
                let row = valid.len();
                let wrong = object(scanner, names, children, row, context)?;
                valid.push(true);
                Ok(if wrong.is_none() {
                    Fit::Whole
                } else {
                    Fit::Part
                })
            }
            Column::Map { .. } => map(scanner, column, context),
            _ => as_written(scanner, column),
        },
        Some(b'[') => match column {
            Column::List { .. } => list(scanner, column, context),
            _ => as_written(scanner, column),
        },
        Some(first @ (b't' | b'f')) => {
            let start = scanner.at;
            let truth = first == b't';
            scanner.word(if truth { b"true" } else { b"false" })?;
            match column {
                Column::Boolean(values) => values.push(truth),
                Column::Utf8(values) => values.push(scanner.since(start)),
                _ => {
                    column.push_null();
                    return Ok(Fit::Not);
                }
            }
            Ok(Fit::Whole)
        }
        Some(_) => {
            let number = scanner.number()?;
            Ok(decode_number(number, column).into())
        }
        None => scanner.error("it ends where a value was expected"),
    }
}

/// A STRING takes any value as it is written; for others it is of a wrong type.
fn as_written(scanner: &mut Scanner<'_>, column: &mut Column) -> Scan<Fit> {
    let start = scanner.at;
    scanner.skip()?;
    if let Column::Utf8(values) = column {
        values.push(scanner.since(start));
        Ok(Fit::Whole)
    } else {
        column.push_null();
        Ok(Fit::Not)
    }
}

fn decode_number(number: Number<'_>, column: &mut Column) -> bool {
    fn narrow<T: TryFrom<i64> + Default>(values: &mut Values<T>, number: Number<'_>) -> bool {
        values.push_option(integer(number).and_then(|value| T::try_from(value).ok()))
    }
    fn integer(number: Number<'_>) -> Option<i64> {
        match number.kind {
            NumberKind::Integer if number.digits < 19 => {
                let value = number.mantissa as i64;
                Some(if number.negative() { -value } else { value })
            }
            NumberKind::Integer => parse_integer(number.raw),
            NumberKind::Float | NumberKind::Named => None,
        }
    }
    match column {
        Column::Int64(values) => values.push_option(integer(number)),
        Column::Float64(values) => values.push_option(match number.kind {
            NumberKind::Named => named_float(number.raw),
            _ => exact_double(
                number.negative(),
                number.mantissa,
                number.digits,
                number.scale,
            )
            .or_else(|| parse_float(number.raw)),
        }),
        Column::Int32(values) => narrow(values, number),
        Column::Int16(values) => narrow(values, number),
        Column::Int8(values) => narrow(values, number),
        Column::Float32(values) => values.push_option(match number.kind {
            NumberKind::Named => named_float(number.raw).map(|value| value as f32),
            _ => parse_float(number.raw),
        }),
        Column::Decimal(values, precision, scale) => {
            values.push_option(parse_decimal(number.raw, *precision, *scale))
        }
        // An integer is a moment in seconds.
        Column::Timestamp(values, _) => {
            values.push_option(integer(number).and_then(|seconds| seconds.checked_mul(1_000_000)))
        }
        Column::Utf8(values) => {
            values.push(number.raw);
            true
        }
        _ => {
            column.push_null();
            false
        }
    }
}

fn string(text: Text<'_>, column: &mut Column, context: &mut Context<'_>) -> bool {
    let Context { casts, scratch } = context;
    let text = if text.escaped {
        scratch.clear();
        unescape(text.raw, scratch);
        scratch.as_slice()
    } else {
        text.raw
    };
    match column {
        Column::Utf8(values) => {
            values.push(text);
            true
        }
        Column::Timestamp(values, _) => values.push_option(casts.timestamp(text)),
        Column::TimestampNtz(values) => values.push_option(casts.timestamp_ntz(text)),
        Column::Date(values) => values.push_option(casts.date(text)),
        Column::Decimal(values, precision, scale) => {
            values.push_option(parse_decimal(text, *precision, *scale))
        }
        Column::Float64(values) => values.push_option(named_float(text)),
        Column::Float32(values) => values.push_option(named_float(text).map(|value| value as f32)),
        Column::Binary(values) => {
            let decoded = decode_base64(text, &mut values.values);
            if !decoded {
                values.unwind();
            }
            values.seal(decoded);
            decoded
        }
        _ => {
            column.push_null();
            false
        }
    }
}

/// An array, whose bracket comes next. A wrong element makes the whole of it null.
fn list(scanner: &mut Scanner<'_>, column: &mut Column, context: &mut Context<'_>) -> Scan<Fit> {
    let Column::List {
        ends, valid, child, ..
    } = column
    else {
        return as_written(scanner, column);
    };
    let before = child.len();
    let mut fit = Fit::Whole;
    scanner.enter()?;
    if !scanner.closes(b']') {
        loop {
            if fit == Fit::Not {
                scanner.skip()?;
            } else {
                fit = worse(fit, value(scanner, child, context)?);
            }
            if !scanner.another(b']')? {
                break;
            }
        }
    }
    if fit == Fit::Not {
        child.truncate(before);
    }
    ends.push(child.len() as i32);
    valid.push(fit != Fit::Not);
    Ok(fit)
}

/// An object as a map, whose brace comes next. A wrong value makes the whole of it null; the last
/// of two equal keys wins.
fn map(scanner: &mut Scanner<'_>, column: &mut Column, context: &mut Context<'_>) -> Scan<Fit> {
    let Column::Map {
        ends,
        valid,
        keys,
        values,
        ..
    } = column
    else {
        return as_written(scanner, column);
    };
    let before = values.len();
    let mut found: Vec<(Vec<u8>, usize)> = Vec::new();
    scanner.enter()?;
    if !scanner.closes(b'}') {
        loop {
            let text = scanner.key()?;
            scanner.colon()?;
            let mut name = Vec::with_capacity(text.raw.len());
            unescape(text.raw, &mut name);
            found.push((name, scanner.at));
            scanner.skip()?;
            if !scanner.another(b'}')? {
                break;
            }
        }
    }
    let end = scanner.at;
    let mut last = std::collections::HashMap::with_capacity(found.len());
    for (index, (name, _)) in found.iter().enumerate() {
        last.insert(name.as_slice(), index);
    }
    let mut fit = Fit::Whole;
    for (index, (name, at)) in found.iter().enumerate() {
        if last.get(name.as_slice()) != Some(&index) {
            continue;
        }
        scanner.at = *at;
        fit = worse(fit, value(scanner, values, context)?);
        if fit == Fit::Not {
            break;
        }
        if let Column::Utf8(keys) = keys.as_mut() {
            keys.push(name);
        }
    }
    scanner.at = end;
    if fit == Fit::Not {
        keys.truncate(before);
        values.truncate(before);
    }
    ends.push(values.len() as i32);
    valid.push(fit != Fit::Not);
    Ok(fit)
}

fn worse(one: Fit, other: Fit) -> Fit {
    match (one, other) {
        (Fit::Not, _) | (_, Fit::Not) => Fit::Not,
        (Fit::Part, _) | (_, Fit::Part) => Fit::Part,
        (Fit::Whole, Fit::Whole) => Fit::Whole,
    }
}
