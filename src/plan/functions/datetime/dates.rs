//! Functions of dates.

use std::sync::Arc;

use arrow::datatypes::{DataType, Date32Type, Int32Type};
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::logical_expr::ScalarUDF;
use tidemark_connectors::format::datetime::{civil, days, days_in_month};

use super::{overflow, plus_months};
use crate::plan::functions::define::{Call, Param, function};

use DataType::{Date32, Int32};

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        function("date_add", &[Param::Date, Param::Int], Date32, |call| {
            from_day_and_number(call, i32::checked_add)
        })
        .also(&["dateadd"])
        .udf(),
        function("date_sub", &[Param::Date, Param::Int], Date32, |call| {
            from_day_and_number(call, i32::checked_sub)
        })
        .udf(),
        function("add_months", &[Param::Date, Param::Int], Date32, |call| {
            from_day_and_number(call, |day, months| {
                i32::try_from(plus_months(day.into(), months.into())?).ok()
            })
        })
        .udf(),
        function("datediff", &[Param::Date, Param::Date], Int32, |call| {
            let (end, start) = (
                call.primitive::<Date32Type>(0),
                call.primitive::<Date32Type>(1),
            );
            call.values::<Int32Type>(|row| match (end.get(row), start.get(row)) {
                (Some(end), Some(start)) => end.checked_sub(start).ok_or_else(overflow).map(Some),
                _ => Ok(None),
            })
        })
        .also(&["date_diff"])
        .udf(),
        function("last_day", &[Param::Date], Date32, |call| {
            from_day(call, |day| {
                let (year, month, of_month) = civil(day);
                Some(day + i64::from(days_in_month(year, month) - of_month))
            })
        })
        .udf(),
        function("next_day", &[Param::Date, Param::Text], Date32, next_day).udf(),
        function("trunc", &[Param::Date, Param::Text], Date32, trunc).udf(),
        function("date_from_unix_date", &[Param::Int], Date32, |call| {
            let days = call.ints(0);
            call.values::<Date32Type>(|row| Ok(days.get(row)))
        })
        .udf(),
        function("unix_date", &[Param::Date], Int32, |call| {
            let days = call.primitive::<Date32Type>(0);
            call.values::<Int32Type>(|row| Ok(days.get(row)))
        })
        .udf(),
    ]
}

type Array = Result<arrow::array::ArrayRef>;

fn from_day(call: &Call, compute: impl Fn(i64) -> Option<i64>) -> Array {
    let dates = call.primitive::<Date32Type>(0);
    call.values::<Date32Type>(|row| {
        let Some(day) = dates.get(row) else {
            return Ok(None);
        };
        let found = compute(day.into()).and_then(|day| i32::try_from(day).ok());
        found.ok_or_else(overflow).map(Some)
    })
}

fn from_day_and_number(call: &Call, compute: impl Fn(i32, i32) -> Option<i32>) -> Array {
    let (dates, numbers) = (call.primitive::<Date32Type>(0), call.ints(1));
    call.values::<Date32Type>(|row| match (dates.get(row), numbers.get(row)) {
        (Some(day), Some(number)) => compute(day, number).ok_or_else(overflow).map(Some),
        _ => Ok(None),
    })
}

/// The day of the week that a name stands for, 0 for Monday.
fn weekday(name: &str) -> Option<i64> {
    const NAMES: [[&str; 3]; 7] = [
        ["MO", "MON", "MONDAY"],
        ["TU", "TUE", "TUESDAY"],
        ["WE", "WED", "WEDNESDAY"],
        ["TH", "THU", "THURSDAY"],
        ["FR", "FRI", "FRIDAY"],
        ["SA", "SAT", "SATURDAY"],
        ["SU", "SUN", "SUNDAY"],
    ];
    let found = NAMES
        .iter()
        .position(|names| names.iter().any(|known| name.eq_ignore_ascii_case(known)));
    found.map(|index| index as i64)
}

fn next_day(call: &Call) -> Array {
    let (dates, names) = (call.primitive::<Date32Type>(0), call.text(1));
    call.values::<Date32Type>(|row| {
        let (Some(day), Some(name)) = (dates.get(row), names.get(row)) else {
            return Ok(None);
        };
        let wanted = weekday(name.trim()).ok_or_else(|| {
            exec_datafusion_err!(
                "[ILLEGAL_DAY_OF_WEEK] '{name}' is no day of the week; use one such as 'MO', 'MON' or 'MONDAY'"
            )
        })?;
        // 1970-01-01 was a Thursday.
        let ahead = (wanted - (i64::from(day) + 4)).rem_euclid(7) + 1;
        let found = i32::try_from(i64::from(day) + ahead);
        found.map_err(|_| overflow()).map(Some)
    })
}

/// The first day of the unit that a day lies in; `None` for a unit that no date is cut to.
pub(super) fn first_day(day: i64, unit: &str) -> Option<i64> {
    let is = |names: &[&str]| names.iter().any(|name| unit.eq_ignore_ascii_case(name));
    let (year, month, _) = civil(day);
    if is(&["YEAR", "YYYY", "YY"]) {
        days(year, 1, 1)
    } else if is(&["QUARTER"]) {
        days(year, (month - 1) / 3 * 3 + 1, 1)
    } else if is(&["MONTH", "MON", "MM"]) {
        days(year, month, 1)
    } else if is(&["WEEK"]) {
        Some(day - (day + 3).rem_euclid(7))
    } else {
        None
    }
}

fn trunc(call: &Call) -> Array {
    let (dates, units) = (call.primitive::<Date32Type>(0), call.text(1));
    call.values::<Date32Type>(|row| {
        let (Some(day), Some(unit)) = (dates.get(row), units.get(row)) else {
            return Ok(None);
        };
        match first_day(day.into(), unit) {
            Some(first) => i32::try_from(first).map_err(|_| overflow()).map(Some),
            None => Ok(None),
        }
    })
}
