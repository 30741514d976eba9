//! Event-time windows, exact to the microsecond and aligned to 1970-01-01 UTC.
//!
//! | function | gives |
//! |---|---|
//! | `__tumbling_window(ts, size, start)` | the window of `ts` |
//! | `__sliding_windows(ts, size, slide, start)` | all windows that hold `ts`, the earliest first |
//! | `__pane(ts, size, slide, start)` | the start of the newest of these windows and the end of the earliest |
//! | `__cumulate_windows(ts, step, size, start)` | the steps of the window of `ts` that hold it |
//! | `window_time(window)` | the last microsecond of a window, as Spark has it |
//! | `__window_time_ms(window)` | the last millisecond of a window, as Flink has it |
//!
//! Sizes are constants in microseconds; `window(ts, '5 minutes', ...)` is rewritten to them. A
//! window is `STRUCT<start, end>`, `end` not being part of it. `ts` may be a window itself: its
//! last microsecond counts. A null `ts` is in no window.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray, TimestampMicrosecondArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// A window in microseconds since 1970; the end is not part of it.
pub type Span = (i64, i64);

/// The windows of one timestamp. Numbers as in [`sliding`] or [`cumulate`].
type Assign = fn(i64, &[i64], &mut Vec<Span>) -> Option<()>;

/// `[size, slide, start]`. `None` where the windows leave the range of a timestamp.
pub fn sliding(ts: i64, numbers: &[i64], out: &mut Vec<Span>) -> Option<()> {
    let &[size, slide, start] = numbers else {
        return None;
    };
    let newest = ts.checked_sub(ts.checked_sub(start)?.checked_rem_euclid(slide)?)?;
    let first = out.len();
    let mut begin = newest;
    loop {
        let end = begin.checked_add(size)?;
        if end <= ts {
            break;
        }
        out.push((begin, end));
        begin = begin.checked_sub(slide)?;
    }
    out[first..].reverse();
    Some(())
}

/// `[size, slide, start]`: what stands for all windows of `ts` together, the start of the newest and the end
/// of the earliest. Nothing where `ts` lies between windows.
fn pane(ts: i64, numbers: &[i64], out: &mut Vec<Span>) -> Option<()> {
    let first = out.len();
    sliding(ts, numbers, out)?;
    if let (Some(earliest), Some(newest)) = (out.get(first), out.last()) {
        let pane = (newest.0, earliest.1);
        out.truncate(first);
        out.push(pane);
    }
    Some(())
}

/// The windows that a pane stands for, of this size and slide.
pub fn windows_of_pane((newest, first_end): Span, size: i64, slide: i64, out: &mut Vec<Span>) {
    let mut begin = first_end - size;
    while begin <= newest {
        out.push((begin, begin + size));
        begin += slide;
    }
}

/// `[step, size, start]`.
pub fn cumulate(ts: i64, numbers: &[i64], out: &mut Vec<Span>) -> Option<()> {
    let &[step, size, start] = numbers else {
        return None;
    };
    let begin = ts.checked_sub(ts.checked_sub(start)?.checked_rem_euclid(size)?)?;
    let passed = (ts - begin).checked_div(step)?;
    let mut length = (passed + 1).checked_mul(step)?;
    while length <= size {
        out.push((begin, begin.checked_add(length)?));
        length += step;
    }
    Some(())
}

/// `[size, start]`.
fn tumbling(ts: i64, numbers: &[i64], out: &mut Vec<Span>) -> Option<()> {
    let &[size, start] = numbers else { return None };
    let begin = ts.checked_sub(ts.checked_sub(start)?.checked_rem_euclid(size)?)?;
    out.push((begin, begin.checked_add(size)?));
    Some(())
}

/// The function of all windows that hold a timestamp.
pub const SLIDING_WINDOWS: &str = "__sliding_windows";
/// The function of what they have in common.
pub const PANE: &str = "__pane";

/// The type of a window over timestamps of this type.
pub fn window_type(timestamp: &DataType) -> DataType {
    DataType::Struct(window_fields(timestamp))
}

pub(super) fn window_fields(timestamp: &DataType) -> Fields {
    vec![
        Field::new("start", timestamp.clone(), true),
        Field::new("end", timestamp.clone(), true),
    ]
    .into()
}

fn make(function: impl ScalarUDFImpl + 'static) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(function))
}

/// All of this module.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    static ALL: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(|| {
        let signature = || Signature::user_defined(Volatility::Immutable);
        let assign = |name, numbers, list, assign| {
            make(AssignWindows {
                name,
                numbers,
                list,
                assign,
                signature: signature(),
            })
        };
        vec![
            assign("__tumbling_window", 2, false, tumbling as Assign),
            assign(SLIDING_WINDOWS, 3, true, sliding as Assign),
            assign(PANE, 3, false, pane as Assign),
            assign("__cumulate_windows", 3, true, cumulate as Assign),
            make(WindowTime {
                name: "window_time",
                back: 1,
                signature: signature(),
            }),
            make(WindowTime {
                name: "__window_time_ms",
                back: 1_000,
                signature: signature(),
            }),
        ]
    });
    ALL.clone()
}

#[derive(Debug)]
struct AssignWindows {
    name: &'static str,
    numbers: usize,
    list: bool,
    assign: Assign,
    signature: Signature,
}

// The name stands for all the rest.
impl PartialEq for AssignWindows {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
impl Eq for AssignWindows {}
impl std::hash::Hash for AssignWindows {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// The timestamp type that `argument` is taken as.
pub(super) fn instant_type(argument: &DataType) -> Result<DataType> {
    match argument {
        DataType::Timestamp(_, None) => Ok(DataType::Timestamp(TimeUnit::Microsecond, None)),
        DataType::Timestamp(_, Some(_))
        | DataType::Date32
        | DataType::Utf8
        | DataType::Utf8View
        | DataType::Null => Ok(DataType::Timestamp(
            TimeUnit::Microsecond,
            Some("UTC".into()),
        )),
        DataType::Struct(fields) if is_window(fields) => Ok(fields[1].data_type().clone()),
        other => plan_err!(
            "a window needs a TIMESTAMP, not {}",
            crate::plan::sql::type_name(other)
        ),
    }
}

pub(super) fn is_window(fields: &Fields) -> bool {
    matches!(&fields[..], [start, end] if start.name() == "start" && end.name() == "end"
        && matches!(end.data_type(), DataType::Timestamp(TimeUnit::Microsecond, _)))
}

impl ScalarUDFImpl for AssignWindows {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        if types.len() != self.numbers + 1 {
            return plan_err!("{} takes {} arguments", self.name, self.numbers + 1);
        }
        let mut coerced = match &types[0] {
            DataType::Struct(fields) if is_window(fields) => vec![types[0].clone()],
            other => vec![instant_type(other)?],
        };
        coerced.extend(std::iter::repeat_n(DataType::Int64, self.numbers));
        Ok(coerced)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let window = window_type(&instant_type(&types[0])?);
        Ok(if self.list {
            DataType::List(Arc::new(Field::new("item", window, true)))
        } else {
            window
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let numbers: Vec<i64> = (args.args[1..].iter())
            .map(|arg| {
                if let ColumnarValue::Scalar(ScalarValue::Int64(Some(number))) = arg {
                    Ok(*number)
                } else {
                    exec_err!("the lengths of a window must be constants")
                }
            })
            .collect::<Result<_>>()?;
        let times = args.args[0].to_array(args.number_rows)?;
        let times = event_times(&times);
        let zone = match times.data_type() {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        let mut spans = Vec::with_capacity(times.len());
        let mut lengths = Vec::with_capacity(times.len());
        for row in 0..times.len() {
            let before = spans.len();
            if !times.is_null(row) {
                (self.assign)(times.value(row), &numbers, &mut spans).ok_or_else(|| {
                    exec_datafusion_err!(
                        "the window of timestamp {} us is out of range",
                        times.value(row)
                    )
                })?;
            }
            lengths.push(spans.len() - before);
            if !self.list && spans.len() == before {
                // A null struct takes a place like any other.
                spans.push((0, 0));
            }
        }
        let nulls = if self.list {
            times.nulls().cloned()
        } else {
            Some(lengths.iter().map(|length| *length > 0).collect())
        };
        let windows = |nulls: Option<NullBuffer>| windows(&spans, zone.as_ref(), nulls);
        let array: ArrayRef = if self.list {
            let windows = windows(None)?;
            let item = Arc::new(Field::new("item", windows.data_type().clone(), true));
            Arc::new(ListArray::try_new(
                item,
                OffsetBuffer::from_lengths(lengths),
                Arc::new(windows),
                nulls,
            )?)
        } else {
            Arc::new(windows(nulls)?)
        };
        Ok(ColumnarValue::Array(array))
    }
}

/// A column of windows over timestamps of a zone.
pub fn windows(
    spans: &[Span],
    zone: Option<&Arc<str>>,
    nulls: Option<NullBuffer>,
) -> Result<StructArray> {
    let column = |pick: fn(&Span) -> i64| -> ArrayRef {
        let values: Vec<i64> = spans.iter().map(pick).collect();
        Arc::new(TimestampMicrosecondArray::from(values).with_timezone_opt(zone.cloned()))
    };
    let (start, end) = (column(|s| s.0), column(|s| s.1));
    let fields = window_fields(start.data_type());
    Ok(StructArray::try_new(fields, vec![start, end], nulls)?)
}

/// The event times of a column of timestamps, or of windows.
pub(super) fn event_times(array: &ArrayRef) -> TimestampMicrosecondArray {
    match array.as_struct_opt() {
        Some(windows) => last_instants(windows, 1),
        None => array.as_primitive::<TimestampMicrosecondType>().clone(),
    }
}

fn last_instants(windows: &StructArray, back: i64) -> TimestampMicrosecondArray {
    let ends = windows.column(1).as_primitive::<TimestampMicrosecondType>();
    let moved = ends.unary::<_, TimestampMicrosecondType>(|end| end.saturating_sub(back));
    let nulls = NullBuffer::union(ends.nulls(), windows.nulls());
    TimestampMicrosecondArray::new(moved.values().clone(), nulls)
        .with_data_type(ends.data_type().clone())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowTime {
    name: &'static str,
    back: i64,
    signature: Signature,
}

impl ScalarUDFImpl for WindowTime {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [DataType::Struct(fields)] if is_window(fields) => Ok(types.to_vec()),
            _ => plan_err!("window_time takes a window: the column that window(...) gives"),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        instant_type(&types[0])
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let windows = args.args[0].to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(Arc::new(last_instants(
            windows.as_struct(),
            self.back,
        ))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brute_force(ts: i64, size: i64, slide: i64, start: i64) -> Vec<Span> {
        (-200..200)
            .map(|n| start + n * slide)
            .filter(|b| *b <= ts && ts < b + size)
            .map(|b| (b, b + size))
            .collect()
    }

    #[test]
    fn a_pane_stands_for_all_windows_of_a_timestamp() {
        for (size, slide) in [(10, 10), (10, 5), (10, 3), (7, 2), (1, 1), (12, 5), (3, 8)] {
            for ts in -40..40 {
                let numbers = [size, slide, 2];
                let mut panes = Vec::new();
                pane(ts, &numbers, &mut panes).expect("in range");
                let right = brute_force(ts, size, slide, 2);
                assert_eq!(panes.is_empty(), right.is_empty());
                let mut all = Vec::new();
                for pane in panes {
                    windows_of_pane(pane, size, slide, &mut all);
                }
                assert_eq!(all, right);
            }
        }
    }

    #[test]
    fn sliding_windows_are_those_that_hold_the_timestamp() {
        for (size, slide) in [(10, 10), (10, 5), (10, 3), (7, 2), (1, 1), (12, 5)] {
            for start in [-13, -3, 0, 2, 17] {
                for ts in -40..40 {
                    let mut got = Vec::new();
                    sliding(ts, &[size, slide, start], &mut got).expect("in range");
                    assert_eq!(
                        got,
                        brute_force(ts, size, slide, start),
                        "{ts} {size} {slide} {start}"
                    );
                    if size == slide {
                        let mut one = Vec::new();
                        tumbling(ts, &[size, start], &mut one).expect("in range");
                        assert_eq!(one, got);
                    }
                }
            }
        }
    }

    #[test]
    fn cumulated_windows_grow_by_steps_and_hold_the_timestamp() {
        for ts in -40..40 {
            let mut got = Vec::new();
            cumulate(ts, &[2, 6, 1], &mut got).expect("in range");
            let begin = 1 + (ts - 1_i64).div_euclid(6) * 6;
            let expected: Vec<Span> = [2, 4, 6]
                .map(|l| (begin, begin + l))
                .into_iter()
                .filter(|s| ts < s.1)
                .collect();
            assert_eq!(got, expected, "{ts}");
        }
    }

    #[test]
    fn a_window_beyond_all_timestamps_is_no_panic() {
        for ts in [i64::MIN, i64::MIN + 5, i64::MAX, i64::MAX - 5] {
            let _ = sliding(ts, &[100, 10, 3], &mut Vec::new());
            let _ = cumulate(ts, &[10, 100, 3], &mut Vec::new());
        }
        assert_eq!(sliding(i64::MAX, &[100, 100, 0], &mut Vec::new()), None);
    }
}
