//! The session of one row, before sessions that touch become one.
//!
//! | function | gives |
//! |---|---|
//! | `__session_window(ts, gap)` | `[ts, ts + gap)` |
//! | `__sessions(ts, gap, keys...)` | the same; it marks where the rows of each combination of `keys` are to be merged |
//!
//! `gap` is an interval, or text such as `'5 minutes'`; both may differ from row to row. As in Spark, a
//! row whose time or gap is null, whose gap is text that is no length of time, or whose gap is not
//! greater than zero is in no session. Months and years have no fixed length and are an error.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, StructArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, DurationMicrosecondType, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit,
    TimeUnit,
};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::interval::parse_micros;
use super::window::{event_times, instant_type, is_window, window_fields, window_type};

/// The name of [`session_window`].
pub const SESSION_WINDOW: &str = "__session_window";

/// The name of the function that marks a table's sessions.
pub const SESSIONS: &str = "__sessions";

/// `__session_window(ts, gap)`.
pub fn session_window() -> Arc<ScalarUDF> {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| make(SESSION_WINDOW));
    Arc::clone(&FUNCTION)
}

/// All of this module.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    static MARK: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| make(SESSIONS));
    vec![session_window(), Arc::clone(&MARK)]
}

/// Whether an expression is the session of a row with one gap for all rows.
pub fn has_constant_gap(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.name() == SESSION_WINDOW
        && matches!(call.args.get(1), Some(Expr::Literal(..))))
}

fn make(name: &'static str) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(SessionWindow {
        name,
        signature: Signature::user_defined(Volatility::Immutable),
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SessionWindow {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for SessionWindow {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [time, gap, keys @ ..] = types else {
            return plan_err!("a session window needs a timestamp and a gap");
        };
        if !keys.is_empty() && self.name == SESSION_WINDOW {
            return plan_err!("a session window takes a timestamp and a gap");
        }
        let time = match time {
            DataType::Struct(fields) if is_window(fields) => time.clone(),
            other => instant_type(other)?,
        };
        let gap = match gap {
            DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => DataType::Utf8,
            DataType::Duration(_) => DataType::Duration(TimeUnit::Microsecond),
            DataType::Utf8
            | DataType::Interval(IntervalUnit::DayTime | IntervalUnit::MonthDayNano) => gap.clone(),
            other => {
                return plan_err!(
                    "the gap of a session window must be a length of time, such as '5 minutes' or INTERVAL '5' MINUTE, not {}",
                    crate::plan::sql::type_name(other)
                );
            }
        };
        Ok([vec![time, gap], keys.to_vec()].concat())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(window_type(&instant_type(&types[0])?))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let times = args.args[0].to_array(args.number_rows)?;
        let times = event_times(&times);
        let gaps = match &args.args[1] {
            ColumnarValue::Scalar(gap) => {
                let gap = gap_of_scalar(gap)?;
                Int64Array::from(vec![gap; times.len()])
            }
            ColumnarValue::Array(gaps) => gaps_of(gaps)?,
        };
        let nulls: NullBuffer = (0..times.len())
            .map(|row| times.is_valid(row) && gaps.is_valid(row) && gaps.value(row) > 0)
            .collect::<Vec<bool>>()
            .into();
        let ends = (0..times.len())
            .map(|row| {
                if nulls.is_null(row) {
                    return Ok(0);
                }
                let time = times.value(row);
                time.checked_add(gaps.value(row)).ok_or_else(|| {
                    exec_datafusion_err!("the session of timestamp {time} us is out of range")
                })
            })
            .collect::<Result<Vec<i64>>>()?;
        let zone = match times.data_type() {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        let ends = TimestampMicrosecondArray::from(ends).with_timezone_opt(zone);
        let fields = window_fields(times.data_type());
        let starts = TimestampMicrosecondArray::new(times.values().clone(), None)
            .with_data_type(times.data_type().clone());
        let windows =
            StructArray::try_new(fields, vec![Arc::new(starts), Arc::new(ends)], Some(nulls))?;
        Ok(ColumnarValue::Array(Arc::new(windows)))
    }
}

fn gap_of_scalar(gap: &ScalarValue) -> Result<Option<i64>> {
    let gaps = gaps_of(&gap.to_array()?)?;
    Ok(gaps.is_valid(0).then(|| gaps.value(0)))
}

/// Gaps in microseconds; null where there is none.
fn gaps_of(gaps: &ArrayRef) -> Result<Int64Array> {
    match gaps.data_type() {
        DataType::Utf8 => {
            // Neighbours often have the same gap.
            let mut last: Option<(&str, Option<i64>)> = None;
            gaps.as_string::<i32>()
                .iter()
                .map(|text| {
                    let Some(text) = text else { return Ok(None) };
                    if let Some((known, micros)) = last
                        && known == text
                    {
                        return Ok(micros);
                    }
                    let micros = match parse_micros(text) {
                        Ok(micros) => Some(micros),
                        Err(None) => None,
                        Err(Some(why)) => {
                            return exec_err!("the gap '{text}' cannot be used: {why}");
                        }
                    };
                    last = Some((text, micros));
                    Ok(micros)
                })
                .collect()
        }
        DataType::Duration(_) => {
            let gaps = cast(gaps, &DataType::Duration(TimeUnit::Microsecond))?;
            let gaps = gaps.as_primitive::<DurationMicrosecondType>();
            Ok(Int64Array::new(
                gaps.values().clone(),
                gaps.nulls().cloned(),
            ))
        }
        DataType::Interval(IntervalUnit::DayTime) => gaps
            .as_primitive::<IntervalDayTimeType>()
            .iter()
            .map(|gap| {
                gap.map(|gap| fixed(0, gap.days, i64::from(gap.milliseconds) * 1_000))
                    .transpose()
            })
            .collect(),
        DataType::Interval(IntervalUnit::MonthDayNano) => gaps
            .as_primitive::<IntervalMonthDayNanoType>()
            .iter()
            .map(|gap| {
                gap.map(|gap| fixed(gap.months, gap.days, gap.nanoseconds.div_euclid(1_000)))
                    .transpose()
            })
            .collect(),
        _ => Ok(new_null_array(&DataType::Int64, gaps.len())
            .as_primitive()
            .clone()),
    }
}

fn fixed(months: i32, days: i32, micros: i64) -> Result<i64> {
    if months != 0 {
        return exec_err!("a gap of months or years has no fixed length; use days");
    }
    (i64::from(days) * 86_400_000_000)
        .checked_add(micros)
        .ok_or_else(|| exec_datafusion_err!("a gap of {days} days is too long"))
}
