//! The default of a field, which a schema has as JSON, as the bytes of a value.

use serde_json::Value;

use super::cursor::Fault;
use super::schema::{AvroSchema, Type, TypeId};
use super::write::{put_bytes, put_long};

/// How deep the defaults of records may lie in each other.
const DEEPEST: usize = 100;

/// Appends the bytes of `default`, a value of a type. The default of a union is of one of its branches:
/// the first, as the specification had it, or another, as many write it.
pub(super) fn encode_default(
    schema: &AvroSchema,
    of: TypeId,
    default: &Value,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    encode(schema, of, default, (out, 0))
}

fn encode(
    schema: &AvroSchema,
    of: TypeId,
    default: &Value,
    (out, depth): (&mut Vec<u8>, usize),
) -> Result<(), Fault> {
    if depth > DEEPEST {
        return Err(format!("it is more than {DEEPEST} values deep"));
    }
    let depth = depth + 1;
    let wrong = || Err(format!("{default} is no {}", schema.describe(of)));
    match (schema.get(of), default) {
        (Type::Null, Value::Null) => {}
        (Type::Boolean, Value::Bool(value)) => out.push(u8::from(*value)),
        (Type::Int(_), Value::Number(number)) => match number.as_i64() {
            Some(value) if i32::try_from(value).is_ok() => put_long(out, value),
            _ => return wrong(),
        },
        (Type::Long(_), Value::Number(number)) => match number.as_i64() {
            Some(value) => put_long(out, value),
            None => return wrong(),
        },
        (Type::Float, value) => match double(value) {
            Some(value) => out.extend((value as f32).to_le_bytes()),
            None => return wrong(),
        },
        (Type::Double, value) => match double(value) {
            Some(value) => out.extend(value.to_le_bytes()),
            None => return wrong(),
        },
        (Type::String, Value::String(text)) => put_bytes(out, text.as_bytes()),
        (Type::Bytes(_), Value::String(text)) => match bytes(text) {
            Some(bytes) => put_bytes(out, &bytes),
            None => return wrong(),
        },
        (Type::Fixed { size, .. }, Value::String(text)) => match bytes(text) {
            Some(bytes) if bytes.len() == *size => out.extend(bytes),
            _ => return wrong(),
        },
        (Type::Enum { symbols, .. }, Value::String(text)) => {
            match symbols.iter().position(|symbol| symbol == text) {
                Some(index) => put_long(out, index as i64),
                None => return wrong(),
            }
        }
        (Type::Array(items), Value::Array(values)) => {
            if !values.is_empty() {
                put_long(out, values.len() as i64);
            }
            for value in values {
                encode(schema, *items, value, (out, depth))?;
            }
            put_long(out, 0);
        }
        (Type::Map(of), Value::Object(entries)) => {
            if !entries.is_empty() {
                put_long(out, entries.len() as i64);
            }
            for (key, value) in entries {
                put_bytes(out, key.as_bytes());
                encode(schema, *of, value, (out, depth))?;
            }
            put_long(out, 0);
        }
        (Type::Record { fields, .. }, Value::Object(values)) => {
            for field in fields {
                let Some(value) = values.get(&field.name).or(field.default.as_ref()) else {
                    return Err(format!("it lacks the field '{}'", field.name));
                };
                encode(schema, field.of, value, (out, depth))?;
            }
        }
        (Type::Union(branches), value) => {
            let start = out.len();
            for (index, branch) in branches.iter().enumerate() {
                put_long(out, index as i64);
                if encode(schema, *branch, value, (out, depth)).is_ok() {
                    return Ok(());
                }
                out.truncate(start);
            }
            return wrong();
        }
        _ => return wrong(),
    }
    Ok(())
}

/// Numbers, and the words that Java writes for those that JSON does not have.
fn double(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => crate::format::columns::named_float(text.as_bytes()),
        _ => None,
    }
}

/// Bytes are written as the characters from U+0000 to U+00FF.
fn bytes(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(c).ok()).collect()
}
