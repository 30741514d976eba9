//! Which casts there are, and which of them mean the same to Arrow's kernels.

use arrow::datatypes::{DataType, IntervalUnit};
use datafusion::common::{Result, plan_err};

use crate::plan::sql::type_name;

/// Whether Arrow's own cast gives what Spark's does for every value.
pub(super) fn is_plain(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Binary, BinaryView, Float32, Float64, Int8, Int16, Int32, Int64, LargeBinary, LargeUtf8,
        Null, Timestamp, Utf8, Utf8View,
    };
    from == to
        || matches!(
            (from, to),
            (Null, _)
                | (Int8, Int16 | Int32 | Int64 | Float32 | Float64)
                | (Int16, Int32 | Int64 | Float32 | Float64)
                | (Int32, Int64 | Float32 | Float64)
                | (Int64, Float32 | Float64)
                | (Float32, Float64)
                | (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View)
                | (Binary | LargeBinary | BinaryView, Binary | LargeBinary | BinaryView)
        )
        // Another unit of the same clock.
        || matches!((from, to), (Timestamp(_, a), Timestamp(_, b)) if a == b)
        // Types that SQL cannot name come of functions' own needs.
        || !is_ours(from)
        || !is_ours(to)
}

/// Whether SQL has a name for the type.
fn is_ours(data_type: &DataType) -> bool {
    use DataType as D;
    match data_type {
        D::List(item) => is_ours(item.data_type()),
        D::Map(entries, _) => is_ours(entries.data_type()),
        D::Struct(fields) => fields.iter().all(|f| is_ours(f.data_type())),
        D::Null
        | D::Boolean
        | D::Int8
        | D::Int16
        | D::Int32
        | D::Int64
        | D::Float32
        | D::Float64
        | D::Decimal128(..)
        | D::Utf8
        | D::LargeUtf8
        | D::Utf8View
        | D::Binary
        | D::LargeBinary
        | D::BinaryView
        | D::Date32
        | D::Timestamp(..)
        | D::Duration(_)
        | D::Interval(_) => true,
        _ => false,
    }
}

/// Refuses the casts that Spark refuses in ANSI mode.
pub fn check(from: &DataType, to: &DataType) -> Result<()> {
    let names = || format!("cannot cast {} to {}", type_name(from), type_name(to));
    let number = |t: &DataType| t.is_integer() || t.is_floating() || is_decimal(t);
    let instant = |t: &DataType| matches!(t, DataType::Timestamp(_, Some(_)));
    if allowed(from, to) {
        return Ok(());
    }
    if *from == DataType::Date32 && number(to) {
        return plan_err!(
            "[DATATYPE_MISMATCH.CAST_WITH_FUNC_SUGGESTION] {}; subtract DATE '1970-01-01' for its days",
            names()
        );
    }
    if number(from) && *to == DataType::Date32 {
        return plan_err!(
            "[DATATYPE_MISMATCH.CAST_WITH_FUNC_SUGGESTION] {}; add it to DATE '1970-01-01'",
            names()
        );
    }
    let refused_by_ansi = (*from == DataType::Boolean && instant(to))
        || (instant(from) && *to == DataType::Boolean)
        || (from.is_integer() && is_binary(to));
    if refused_by_ansi {
        return plan_err!(
            "[DATATYPE_MISMATCH.CAST_WITH_CONF_SUGGESTION] {}; cast to BIGINT or STRING between them",
            names()
        );
    }
    plan_err!("[DATATYPE_MISMATCH.CAST_WITHOUT_SUGGESTION] {}", names())
}

fn allowed(from: &DataType, to: &DataType) -> bool {
    use DataType as D;
    let number = |t: &D| t.is_integer() || t.is_floating() || is_decimal(t);
    match (from, to) {
        (from, to) if is_plain(from, to) => true,
        (_, to) if is_string(to) => true,
        (from, to) if is_string(from) => !to.is_nested(),
        (D::Boolean, to) => number(to),
        (from, D::Boolean) => number(from),
        (from, to) if number(from) && number(to) => true,
        (from, D::Timestamp(_, Some(_))) if number(from) => true,
        (D::Timestamp(_, Some(_)), to) if number(to) => true,
        (D::Date32 | D::Timestamp(..), D::Date32 | D::Timestamp(..)) => true,
        (D::Interval(IntervalUnit::YearMonth) | D::Duration(_), to) => {
            matches!(to, D::Interval(IntervalUnit::MonthDayNano))
        }
        (D::List(from), D::List(to)) => allowed(from.data_type(), to.data_type()),
        (D::Map(from, _), D::Map(to, _)) => allowed(from.data_type(), to.data_type()),
        (D::Struct(from), D::Struct(to)) => {
            from.len() == to.len()
                && (from.iter().zip(to)).all(|(f, t)| allowed(f.data_type(), t.data_type()))
        }
        _ => false,
    }
}

pub(super) fn is_string(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

fn is_binary(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView
    )
}

fn is_decimal(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(..))
}
