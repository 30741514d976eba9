//! What each aggregate takes, and what it gives, as in Spark.

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit};
use datafusion::common::{Result, plan_err};

use crate::plan::AggregateFunction as Function;
use crate::plan::functions::collections::holds_map;
use crate::plan::sql::type_name;

/// The types to which arguments of these types are cast.
pub(super) fn taken(name: &str, function: Function, types: &[DataType]) -> Result<Vec<DataType>> {
    let (least, most) = match function {
        Function::Statistic(_) if name.starts_with("regr_") || is_of_two(name) => (2, 2),
        Function::MinBy | Function::MaxBy | Function::PercentileDisc => (2, 2),
        Function::HistogramNumeric => (2, 2),
        Function::Percentile | Function::ApproxPercentile => (2, 3),
        Function::TopK => (1, 3),
        Function::CountMinSketch => (4, 4),
        Function::ListAgg => (1, 2),
        _ => (1, 1),
    };
    if types.len() < least || types.len() > most {
        let wanted = if least == most {
            least.to_string()
        } else {
            format!("{least} to {most}")
        };
        return plan_err!(
            "[WRONG_NUM_ARGS.WITHOUT_SUGGESTION] {name} takes {wanted} arguments, not {}",
            types.len()
        );
    }
    let first = &types[0];
    let refused = |wanted: &str| {
        plan_err!(
            "[DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE] {name} takes {wanted}, not {}; use CAST to make it one",
            type_name(first)
        )
    };
    let number = first.is_numeric() || first.is_null();
    let mut taken = types.to_vec();
    match function {
        Function::Statistic(_) => {
            if let Some(other) = types.iter().find(|t| !is_like_number(t)) {
                return plan_err!(
                    "[DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE] {name} takes numbers, not {}; use CAST to make it one",
                    type_name(other)
                );
            }
            taken.fill(DataType::Float64);
        }
        Function::Percentile | Function::PercentileDisc | Function::Median => {
            if is_like_number(first) {
                taken[0] = DataType::Float64;
            } else if !is_interval(first) {
                return refused("numbers or intervals");
            }
        }
        Function::Sum | Function::Avg | Function::TrySum | Function::TryAvg => match first {
            DataType::Decimal128(..) | DataType::Float64 => {}
            _ if first.is_integer() => taken[0] = DataType::Int64,
            _ if is_like_number(first) => taken[0] = DataType::Float64,
            _ if is_interval(first) => {}
            _ => return refused("numbers or intervals"),
        },
        Function::ApproxPercentile if is_text(first) => taken[0] = DataType::Float64,
        Function::ApproxPercentile | Function::HistogramNumeric
            if number || first.is_temporal() => {}
        Function::ApproxPercentile | Function::HistogramNumeric => {
            return refused("numbers, dates or timestamps");
        }
        Function::TopK => match first {
            DataType::Boolean => {}
            _ if first.is_numeric() || is_text(first) || first.is_temporal() => {}
            _ => {
                return plan_err!(
                    "[DATATYPE_MISMATCH.TYPE_CHECK_FAILURE_WITH_HINT] {name} takes BOOLEAN, numbers, texts, dates and timestamps, not {}; use CAST to make it one",
                    type_name(first)
                );
            }
        },
        Function::CollectUnion => match first {
            DataType::List(item) if holds_map(item.data_type()) => {
                return plan_err!(
                    "[DATATYPE_MISMATCH.UNSUPPORTED_INPUT_TYPE] {name} does not take arrays of MAP, which cannot be compared; use map_entries"
                );
            }
            DataType::List(_) => {}
            DataType::Null => taken[0] = list_of(DataType::Null),
            _ => return refused("an ARRAY"),
        },
        Function::BitmapOf if number || is_text(first) => taken[0] = DataType::Int64,
        Function::BitmapOf => return refused("numbers"),
        Function::BitmapAnd | Function::BitmapOr => match first {
            DataType::Binary | DataType::Null => taken[0] = DataType::Binary,
            _ => return refused("BINARY"),
        },
        Function::CountMinSketch => {
            taken[0] = match first {
                _ if is_text(first) => DataType::Utf8,
                DataType::Binary => DataType::Binary,
                _ if first.is_integer() => DataType::Int64,
                _ => return refused("whole numbers, STRING or BINARY"),
            };
        }
        Function::Bits(_) if first.is_null() => taken[0] = DataType::Int32,
        Function::Bits(_) if !first.is_integer() => return refused("whole numbers"),
        Function::Min | Function::Max if !matches!(first, DataType::Boolean | DataType::Null) => {
            return refused("BOOLEAN");
        }
        Function::Min | Function::Max => taken[0] = DataType::Boolean,
        Function::ListAgg => {
            let binary = matches!(first, DataType::Binary | DataType::LargeBinary);
            taken.fill(if binary {
                DataType::Binary
            } else {
                DataType::Utf8
            });
        }
        _ => {}
    }
    if matches!(
        function,
        Function::Percentile | Function::PercentileDisc | Function::ApproxPercentile
    ) {
        taken[1] = match &types[1] {
            DataType::List(_) | DataType::FixedSizeList(..) => list_of(DataType::Float64),
            _ => DataType::Float64,
        };
        taken.iter_mut().skip(2).for_each(|t| *t = DataType::Int64);
    }
    if matches!(function, Function::HistogramNumeric | Function::TopK) {
        taken.iter_mut().skip(1).for_each(|t| *t = DataType::Int64);
    }
    Ok(taken)
}

/// The type of the result, of arguments as [`taken`] has them.
pub(super) fn given(name: &str, function: Function, types: &[DataType]) -> Result<DataType> {
    let Some(first) = types.first() else {
        return plan_err!("[WRONG_NUM_ARGS.WITHOUT_SUGGESTION] {name} needs an argument");
    };
    let several = |inner: DataType| match types.get(1) {
        Some(DataType::List(_)) => list_of(inner),
        _ => inner,
    };
    Ok(match function {
        Function::Statistic(_) => DataType::Float64,
        Function::Percentile | Function::PercentileDisc | Function::ApproxPercentile => {
            several(first.clone())
        }
        Function::CollectList | Function::CollectSet => list_of(first.clone()),
        Function::BitmapOf
        | Function::BitmapAnd
        | Function::BitmapOr
        | Function::CountMinSketch => DataType::Binary,
        Function::TopK => {
            let item = [
                Field::new("item", first.clone(), true),
                Field::new("count", DataType::Int64, false),
            ];
            list_of(DataType::Struct(Fields::from(item.to_vec())))
        }
        Function::HistogramNumeric => {
            let bin = [
                Field::new("x", first.clone(), true),
                Field::new("y", DataType::Float64, true),
            ];
            list_of(DataType::Struct(Fields::from(bin.to_vec())))
        }
        Function::Sum | Function::TrySum => match first {
            DataType::Decimal128(precision, scale) => {
                DataType::Decimal128((precision + 10).min(38), *scale)
            }
            other => other.clone(),
        },
        Function::Avg | Function::TryAvg => match first {
            DataType::Decimal128(precision, scale) => {
                DataType::Decimal128((precision + 4).min(38), (scale + 4).min(38))
            }
            interval if is_interval(interval) => interval.clone(),
            _ => DataType::Float64,
        },
        _ => first.clone(),
    })
}

fn is_of_two(name: &str) -> bool {
    matches!(name, "corr" | "covar_pop" | "covar_samp")
}

fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

/// Numbers, and text, which Spark reads as a number where it has to.
fn is_like_number(data_type: &DataType) -> bool {
    data_type.is_numeric() || data_type.is_null() || is_text(data_type)
}

/// Intervals. The SQL planner asks before constants have their types, when those of months and
/// those of days are one; [`refuse_mixed_intervals`] asks again.
fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Duration(_) | DataType::Interval(_))
}

/// Refuses intervals of months and days together where an aggregate would have to divide or add
/// them; `types` are those of the arguments once constants have theirs.
pub(super) fn refuse_mixed_intervals(
    name: &str,
    function: Function,
    types: &[DataType],
) -> Result<()> {
    let measures = matches!(
        function,
        Function::Sum
            | Function::Avg
            | Function::TrySum
            | Function::TryAvg
            | Function::Median
            | Function::Percentile
            | Function::PercentileDisc
    );
    match types.first() {
        Some(DataType::Interval(IntervalUnit::MonthDayNano)) if measures => plan_err!(
            "[DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE] {name} takes numbers or intervals of months or of days, not INTERVAL, which has both; use make_ym_interval or make_dt_interval"
        ),
        _ => Ok(()),
    }
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Field::new_list_field(item, true).into())
}
