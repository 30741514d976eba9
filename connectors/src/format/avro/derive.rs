//! Schemas of columns, and columns of schemas, where only one of them is given.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field as Column, FieldRef, Fields, TimeUnit};
use serde_json::{Value, json};

use super::cursor::Fault;
use super::schema::{AvroSchema, Decimal, Field, Meaning, Type, TypeId};

/// The schema of a record of these columns, all of which may be null: so columns can be added and left
/// out later.
pub(super) fn schema_of(
    columns: &Fields,
    name: &str,
    namespace: Option<&str>,
) -> Result<Value, Fault> {
    let mut schema = record(columns, name, namespace.unwrap_or_default())?;
    if let Some(namespace) = namespace {
        check_name(namespace, "namespace", '.')?;
        schema["namespace"] = json!(namespace);
    }
    Ok(schema)
}

/// A record; what is in it is named after it, so that no two types have the same name.
fn record(columns: &Fields, name: &str, namespace: &str) -> Result<Value, Fault> {
    check_name(name, "record", '_')?;
    let inner = if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}.{name}")
    };
    let mut fields = vec![];
    for (index, column) in columns.iter().enumerate() {
        check_name(column.name(), "column", '_')?;
        let twin = |other: &FieldRef| other.name() == column.name();
        if columns[..index].iter().any(twin) {
            return Err(format!(
                "two columns are called '{}': rename one of them with AS",
                column.name()
            ));
        }
        fields.push(json!({
            "name": column.name(),
            "type": nullable(column.name(), column.data_type(), &inner)?,
            "default": null,
        }));
    }
    Ok(json!({"type": "record", "name": name, "fields": fields}))
}

fn nullable(name: &str, of: &DataType, namespace: &str) -> Result<Value, Fault> {
    Ok(match of {
        DataType::Null => json!("null"),
        of => json!(["null", value(name, of, namespace)?]),
    })
}

fn value(name: &str, of: &DataType, namespace: &str) -> Result<Value, Fault> {
    use DataType as D;
    let logical = |kind: &str, logical: &str| json!({"type": kind, "logicalType": logical});
    Ok(match of {
        D::Boolean => json!("boolean"),
        D::Int8 | D::Int16 | D::Int32 => json!("int"),
        D::Int64 => json!("long"),
        D::Float32 => json!("float"),
        D::Float64 => json!("double"),
        D::Utf8 | D::LargeUtf8 | D::Utf8View => json!("string"),
        D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => json!("bytes"),
        D::Date32 => logical("int", "date"),
        D::Timestamp(TimeUnit::Microsecond, Some(_)) => logical("long", "timestamp-micros"),
        D::Timestamp(TimeUnit::Microsecond, None) => logical("long", "local-timestamp-micros"),
        D::Decimal128(precision, scale) if *scale >= 0 => {
            json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
        }
        D::Dictionary(_, values) => value(name, values, namespace)?,
        D::List(item) | D::LargeList(item) | D::FixedSizeList(item, _) => {
            json!({"type": "array", "items": nullable(name, item.data_type(), namespace)?})
        }
        D::Struct(columns) => {
            let mut record = record(columns, name, namespace)?;
            record["namespace"] = json!(namespace);
            record
        }
        D::Map(entries, _) => match entries.data_type() {
            D::Struct(pair) if pair.len() == 2 && *pair[0].data_type() == D::Utf8 => {
                json!({"type": "map", "values": nullable(name, pair[1].data_type(), namespace)?})
            }
            _ => {
                return Err(format!(
                    "column '{name}' is a MAP whose keys are no STRINGs, which Avro does not have: make the keys STRINGs"
                ));
            }
        },
        other => {
            return Err(format!(
                "column '{name}' is a {other}, which Avro does not have: CAST it"
            ));
        }
    })
}

/// Names begin with a letter or `_`, and go on with these and digits.
fn check_name(name: &str, what: &str, also: char) -> Result<(), Fault> {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    let fits = name.starts_with(letter)
        && name
            .chars()
            .all(|c| letter(c) || c.is_ascii_digit() || c == also);
    if fits {
        return Ok(());
    }
    let remedy = if what == "column" {
        ": rename it with AS"
    } else {
        ""
    };
    Err(format!(
        "the {what} '{name}' cannot be a name in Avro, which has letters, digits and _ only{remedy}"
    ))
}

/// The columns of a schema's records.
pub(super) fn columns_of(schema: &AvroSchema) -> Result<Fields, Fault> {
    let fields = schema.fields(schema.root()).unwrap_or_default();
    columns(schema, fields, &mut vec![schema.root()])
}

/// `within` are the types that contain these fields.
fn columns(
    schema: &AvroSchema,
    fields: &[Field],
    within: &mut Vec<TypeId>,
) -> Result<Fields, Fault> {
    fields
        .iter()
        .map(|field| {
            let of = data_type(schema, field.of, within)
                .map_err(|why| format!("the field '{}': {why}", field.name))?;
            Ok(Column::new(&field.name, of, true))
        })
        .collect()
}

fn data_type(schema: &AvroSchema, of: TypeId, within: &mut Vec<TypeId>) -> Result<DataType, Fault> {
    if within.contains(&of) {
        return Err(format!(
            "{} contains itself, which no column can hold: declare the columns that are wanted",
            schema.describe(of)
        ));
    }
    within.push(of);
    let zone = |local: bool| (!local).then(|| Arc::from("UTC"));
    let found = match schema.get(of) {
        // All of them NULL.
        Type::Null => DataType::Utf8,
        Type::Boolean => DataType::Boolean,
        Type::Int(Meaning::Date) => DataType::Date32,
        Type::Int(_) => DataType::Int32,
        Type::Long(Meaning::Timestamp { local, .. }) => {
            DataType::Timestamp(TimeUnit::Microsecond, zone(*local))
        }
        Type::Long(_) => DataType::Int64,
        Type::Float => DataType::Float32,
        Type::Double => DataType::Float64,
        Type::String | Type::Enum { .. } => DataType::Utf8,
        Type::Bytes(Some(decimal))
        | Type::Fixed {
            decimal: Some(decimal),
            ..
        } => decimal_type(*decimal)?,
        Type::Bytes(None) | Type::Fixed { .. } => DataType::Binary,
        Type::Array(items) => {
            let item = data_type(schema, *items, within)?;
            DataType::List(Arc::new(Column::new_list_field(item, true)))
        }
        Type::Map(values) => {
            let value = data_type(schema, *values, within)?;
            let entries = Fields::from(vec![
                Column::new("key", DataType::Utf8, false),
                Column::new("value", value, true),
            ]);
            let entries = Column::new("entries", DataType::Struct(entries), false);
            DataType::Map(Arc::new(entries), false)
        }
        Type::Record { fields, .. } => DataType::Struct(columns(schema, fields, within)?),
        Type::Union(_) => union(schema, &schema.branches(of), within)?,
    };
    within.pop();
    Ok(found)
}

/// As Spark has it: the one type, the wider of two numbers, or a struct of `member0`, `member1`, ...
fn union(
    schema: &AvroSchema,
    branches: &[TypeId],
    within: &mut Vec<TypeId>,
) -> Result<DataType, Fault> {
    let types = branches
        .iter()
        .map(|branch| data_type(schema, *branch, within))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(match types.as_slice() {
        [] => DataType::Utf8,
        [only] => only.clone(),
        [DataType::Int32, DataType::Int64] | [DataType::Int64, DataType::Int32] => DataType::Int64,
        [DataType::Float32, DataType::Float64] | [DataType::Float64, DataType::Float32] => {
            DataType::Float64
        }
        several => DataType::Struct(
            several
                .iter()
                .enumerate()
                .map(|(index, of)| Column::new(format!("member{index}"), of.clone(), true))
                .collect(),
        ),
    })
}

fn decimal_type(Decimal { precision, scale }: Decimal) -> Result<DataType, Fault> {
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(precision @ ..=38), Ok(scale)) => Ok(DataType::Decimal128(precision, scale)),
        _ => Err(format!(
            "a decimal of {precision} digits is more than a DECIMAL holds, which has 38: declare it as BINARY"
        )),
    }
}
