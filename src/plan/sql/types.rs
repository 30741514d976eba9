//! Spark's type names as Arrow types, in `CREATE TABLE` and in `CAST`.
//!
//! | Spark | Arrow |
//! |---|---|
//! | `TIMESTAMP` | `Timestamp(Microsecond, "UTC")`, an instant; the session's zone says what a clock shows |
//! | `TIMESTAMP_NTZ` | `Timestamp(Microsecond, None)` |
//! | `INTERVAL DAY TO SECOND` and its parts | `Duration(Microsecond)` |
//! | `INTERVAL YEAR TO MONTH` and its parts | `Interval(YearMonth)`, months |
//! | `INTERVAL` of `make_interval` | `Interval(MonthDayNano)` |
//!
//! An interval type keeps no sub-range: `INTERVAL DAY` is `INTERVAL DAY TO SECOND` here.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, TimeUnit};
use datafusion::common::{DataFusionError, plan_datafusion_err};
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, DataType as SqlType, ExactNumberInfo, IntervalFields, TimezoneInfo,
};

/// What the tokens call `INTERVAL DAY TO SECOND`, which sqlparser does not read as a type here.
pub(super) const DAY_TIME_NAME: &str = "__INTERVAL_DAY_TIME";
/// The same for `INTERVAL YEAR TO MONTH`.
pub(super) const YEAR_MONTH_NAME: &str = "__INTERVAL_YEAR_MONTH";

/// TIMESTAMP: microseconds of an instant.
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The Arrow type of a Spark type; `None` for a name that is no type.
pub(super) fn spark_type(sql: &SqlType) -> Option<DataType> {
    Some(match sql {
        SqlType::Boolean | SqlType::Bool => DataType::Boolean,
        SqlType::TinyInt(None) => DataType::Int8,
        SqlType::SmallInt(None) => DataType::Int16,
        SqlType::Int(None) | SqlType::Integer(None) => DataType::Int32,
        SqlType::BigInt(None) => DataType::Int64,
        SqlType::Float(ExactNumberInfo::None) | SqlType::Real => DataType::Float32,
        SqlType::Double(ExactNumberInfo::None) | SqlType::DoublePrecision => DataType::Float64,
        SqlType::Decimal(info) | SqlType::Numeric(info) | SqlType::Dec(info) => decimal(*info)?,
        SqlType::String(None)
        | SqlType::Text
        | SqlType::Varchar(_)
        | SqlType::Char(_)
        | SqlType::Character(_)
        | SqlType::CharacterVarying(_)
        | SqlType::CharVarying(_) => DataType::Utf8,
        SqlType::Binary(_) | SqlType::Varbinary(_) | SqlType::Bytea | SqlType::Bytes(_) => {
            DataType::Binary
        }
        SqlType::Date => DataType::Date32,
        SqlType::Timestamp(_, zone) => match zone {
            TimezoneInfo::WithoutTimeZone => DataType::Timestamp(TimeUnit::Microsecond, None),
            _ => timestamp_type(),
        },
        SqlType::TimestampNtz(_) => DataType::Timestamp(TimeUnit::Microsecond, None),
        SqlType::Interval { fields, .. } => match fields {
            None => DataType::Interval(IntervalUnit::MonthDayNano),
            Some(IntervalFields::Year | IntervalFields::Month | IntervalFields::YearToMonth) => {
                DataType::Interval(IntervalUnit::YearMonth)
            }
            Some(_) => DataType::Duration(TimeUnit::Microsecond),
        },
        SqlType::Array(
            ArrayElemTypeDef::AngleBracket(item) | ArrayElemTypeDef::SquareBracket(item, _),
        ) => DataType::List(Arc::new(Field::new("item", spark_type(item)?, true))),
        SqlType::Map(key, value) => {
            let entries = Fields::from(vec![
                Field::new("key", spark_type(key)?, false),
                Field::new("value", spark_type(value)?, true),
            ]);
            DataType::Map(
                Arc::new(Field::new("entries", DataType::Struct(entries), false)),
                false,
            )
        }
        SqlType::Struct(fields, _) => {
            let fields: Option<Vec<Field>> = fields
                .iter()
                .map(|f| {
                    Some(Field::new(
                        f.field_name.as_ref()?.value.clone(),
                        spark_type(&f.field_type)?,
                        true,
                    ))
                })
                .collect();
            DataType::Struct(fields?.into())
        }
        SqlType::Custom(name, modifiers) if modifiers.is_empty() => {
            match name.to_string().to_ascii_uppercase().as_str() {
                "BYTE" => DataType::Int8,
                "SHORT" => DataType::Int16,
                "LONG" => DataType::Int64,
                "STRING" => DataType::Utf8,
                "TIMESTAMP_LTZ" => timestamp_type(),
                DAY_TIME_NAME => DataType::Duration(TimeUnit::Microsecond),
                YEAR_MONTH_NAME => DataType::Interval(IntervalUnit::YearMonth),
                "TIMESTAMP_NTZ" => DataType::Timestamp(TimeUnit::Microsecond, None),
                _ => return None,
            }
        }
        _ => return None,
    })
}

fn decimal(info: ExactNumberInfo) -> Option<DataType> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => (10, 0),
        ExactNumberInfo::Precision(p) => (p, 0),
        ExactNumberInfo::PrecisionAndScale(p, s) => (p, s),
    };
    let valid = (1..=38).contains(&precision) && (0..=precision as i64).contains(&scale);
    valid.then_some(DataType::Decimal128(precision as u8, scale as i8))
}

/// A type as Spark writes it.
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "VOID".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Float32 => "FLOAT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Decimal128(p, s) | DataType::Decimal256(p, s) => format!("DECIMAL({p},{s})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BINARY".into(),
        DataType::Date32 | DataType::Date64 => "DATE".into(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP".into(),
        DataType::Timestamp(_, None) => "TIMESTAMP_NTZ".into(),
        DataType::Duration(_) => "INTERVAL DAY TO SECOND".into(),
        DataType::Interval(IntervalUnit::YearMonth) => "INTERVAL YEAR TO MONTH".into(),
        DataType::Interval(_) => "INTERVAL".into(),
        DataType::List(item) | DataType::LargeList(item) => {
            format!("ARRAY<{}>", type_name(item.data_type()))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                format!(
                    "MAP<{}, {}>",
                    type_name(fields[0].data_type()),
                    type_name(fields[1].data_type())
                )
            }
            other => format!("MAP<{}>", type_name(other)),
        },
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|f| format!("{}: {}", f.name(), type_name(f.data_type())))
                .collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        other => other.to_string(),
    }
}

/// Gives `CAST` and typed literals Spark's types.
#[derive(Debug)]
pub(crate) struct SparkTypePlanner;

impl TypePlanner for SparkTypePlanner {
    fn plan_type_field(&self, sql: &SqlType) -> Result<Option<FieldRef>, DataFusionError> {
        match spark_type(sql) {
            Some(data_type) => Ok(Some(Arc::new(Field::new("", data_type, true)))),
            None => Err(plan_datafusion_err!("unknown type '{sql}'")),
        }
    }
}
