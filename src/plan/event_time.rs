//! Which columns carry event time, and how far they may run behind the watermark.
//!
//! The watermark column of a source is an [`Instant`](EventTimeKind::Instant) with no lag. What is
//! computed from it keeps event time where a bound survives: a row that is not late at the source
//! never appears on the edge with an event time at or below `watermark - lag`.
//!
//! | expression | gives |
//! |---|---|
//! | a column, an alias, a cast to TIMESTAMP | what the column is |
//! | `ts - INTERVAL c`, `ts + INTERVAL c` (fixed lengths) | an instant; the lag grows or shrinks by `c`, never below 0 |
//! | `date_trunc(unit, ts)` | an instant; the lag grows by what can be cut off |
//! | `CAST(ts AS DATE)`, `to_date(ts)`, `trunc(date, unit)` | an instant, midnight UTC of the date; likewise |
//! | `window(ts, ...)` | a window |
//! | `__sliding_windows(ts, ...)`, `__cumulate_windows(ts, ...)` | windows, of which `Unnest` makes a window |
//! | `window.end`, `window.start`, `window_time(window)` | a window's end, its start, an instant |
//! | `__session_window(ts, gap)` | a session; its start may lie behind by any length, and so says nothing |
//!
//! Everything else has none.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator as BinaryOperator};
use tidemark_connectors::format::zone::Zone;
use tidemark_connectors::options::parse_duration;

use super::functions::session::SESSION_WINDOW;
use super::text::is_utc;
use super::{Bound, EventTimeColumn, EventTimeKind};

const MILLISECOND: i64 = 1_000;
const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;

/// How a clock on the wall goes in the session's time zone, as far as lags depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WallClock {
    /// As the instants do.
    Utc,
    /// Any other way: a day may be longer by the hours that a clock is set back, and begin before or
    /// after that of UTC.
    Local,
}

impl WallClock {
    /// That of a time zone.
    pub fn of(time_zone: &str) -> Self {
        match Zone::parse(time_zone) {
            Some(Zone::UTC) => Self::Utc,
            _ => Self::Local,
        }
    }

    /// By how much more a unit of this length may be cut than on paper.
    fn set_back(self, unit: i64) -> i64 {
        match self {
            Self::Utc => 0,
            Self::Local if unit <= SECOND => 0,
            Self::Local => 3 * HOUR,
        }
    }

    /// How far the midnight of a date may lie before that of UTC.
    fn ahead(self) -> i64 {
        match self {
            Self::Utc => 0,
            Self::Local => 18 * HOUR,
        }
    }
}

/// What an expression over a node says about event time.
pub fn of_expression(
    expr: &Expr,
    schema: &DFSchema,
    columns: &[Option<EventTimeColumn>],
    clock: WallClock,
) -> Option<EventTimeColumn> {
    match expr {
        Expr::Column(column) => columns
            .get(schema.maybe_index_of_column(column)?)
            .copied()?,
        Expr::Alias(alias) => of_expression(&alias.expr, schema, columns, clock),
        Expr::Cast(cast) if is_instant(cast.field.data_type()) => {
            instant(of_expression(&cast.expr, schema, columns, clock)?).filter(|_| {
                cast.expr
                    .get_type(schema)
                    .is_ok_and(|from| is_instant(&from))
            })
        }
        Expr::Cast(cast) if *cast.field.data_type() == DataType::Date32 => {
            of_date(&cast.expr, schema, columns, clock)
        }
        Expr::BinaryExpr(binary) => shifted(binary, schema, columns, clock),
        Expr::ScalarFunction(call) => of_call(call, schema, columns, clock),
        _ => None,
    }
}

/// Only instants: a window's end or start moved about is neither.
fn instant(column: EventTimeColumn) -> Option<EventTimeColumn> {
    (column.kind == EventTimeKind::Instant).then_some(column)
}

/// A moment, or the wall clock in UTC, which reads the same.
pub(super) fn is_instant(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(TimeUnit::Microsecond, zone) => zone.as_deref().is_none_or(is_utc),
        _ => false,
    }
}

/// `ts + c` and `ts - c`.
fn shifted(
    binary: &BinaryExpr,
    schema: &DFSchema,
    columns: &[Option<EventTimeColumn>],
    clock: WallClock,
) -> Option<EventTimeColumn> {
    let (time, shift) = match binary.op {
        BinaryOperator::Minus => (&binary.left, interval_micros(&binary.right)?.checked_neg()?),
        BinaryOperator::Plus => match interval_micros(&binary.right) {
            Some(shift) => (&binary.left, shift),
            None => (&binary.right, interval_micros(&binary.left)?),
        },
        _ => return None,
    };
    let column = instant(of_expression(time, schema, columns, clock)?)?;
    // Days have a fixed length in UTC only.
    let DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) = time.get_type(schema).ok()? else {
        return None;
    };
    is_utc(&zone).then_some(EventTimeColumn {
        lag: column.lag.checked_sub(shift)?.max(0),
        ..column
    })
}

fn of_call(
    call: &ScalarFunction,
    schema: &DFSchema,
    columns: &[Option<EventTimeColumn>],
    clock: WallClock,
) -> Option<EventTimeColumn> {
    let arg = |index: usize| {
        call.args
            .get(index)
            .and_then(|expr| of_expression(expr, schema, columns, clock))
    };
    let micros = |index: usize| call.args.get(index).and_then(literal_micros);
    // Windows of windows go by the last instant of the inner one.
    let time = |index: usize| {
        let column = arg(index)?;
        match window(column) {
            Some(column) => Some(last_instant(column, 1)),
            None => instant(column),
        }
    };
    match call.func.name() {
        "window" | "__tumbling_window" => Some(EventTimeColumn {
            kind: EventTimeKind::Window(micros(1)?),
            ..time(0)?
        }),
        "__sliding_windows" => Some(EventTimeColumn {
            kind: EventTimeKind::Windows(micros(1)?),
            ..time(0)?
        }),
        "__cumulate_windows" => Some(EventTimeColumn {
            kind: EventTimeKind::Windows(micros(2)?),
            ..time(0)?
        }),
        SESSION_WINDOW => Some(EventTimeColumn {
            kind: EventTimeKind::Session,
            ..time(0)?
        }),
        "window_time" => window(arg(0)?).map(|column| last_instant(column, 1)),
        "__window_time_ms" => window(arg(0)?).map(|column| last_instant(column, MILLISECOND)),
        "get_field" if call.args.len() == 2 => {
            let column = window(arg(0)?)?;
            let kind = match (column.kind, literal_text(&call.args[1])?) {
                (_, "end") => EventTimeKind::WindowEnd,
                (EventTimeKind::Window(size), "start") => EventTimeKind::WindowStart(size),
                _ => return None,
            };
            Some(EventTimeColumn { kind, ..column })
        }
        "date_trunc" => {
            let column = instant(arg(1)?)?;
            let unit = truncation(literal_text(&call.args[0])?)?;
            let cut = unit - 1 + clock.set_back(unit);
            is_instant(&call.args[1].get_type(schema).ok()?).then_some(EventTimeColumn {
                lag: column.lag.checked_add(cut)?,
                ..column
            })
        }
        "trunc" => {
            let column = instant(arg(0)?)?;
            let unit = truncation(literal_text(&call.args[1])?).filter(|unit| *unit > DAY)?;
            let lag = column.lag.checked_add(unit - DAY)?;
            Some(EventTimeColumn { lag, ..column })
        }
        _ => None,
    }
}

/// The date of a moment, which stands for its midnight in UTC.
fn of_date(
    time: &Expr,
    schema: &DFSchema,
    columns: &[Option<EventTimeColumn>],
    clock: WallClock,
) -> Option<EventTimeColumn> {
    let column = instant(of_expression(time, schema, columns, clock)?)?;
    match time.get_type(schema).ok()? {
        DataType::Date32 => Some(column),
        found if is_instant(&found) => {
            let cut = DAY - 1 + clock.ahead();
            let lag = column.lag.checked_add(cut)?;
            Some(EventTimeColumn { lag, ..column })
        }
        _ => None,
    }
}

fn window(column: EventTimeColumn) -> Option<EventTimeColumn> {
    matches!(
        column.kind,
        EventTimeKind::Window(_) | EventTimeKind::Session
    )
    .then_some(column)
}

/// The instant `back` microseconds before a window's end.
///
/// A window can be open at a watermark of its end less a microsecond. As watermarks are whole
/// milliseconds, a window of whole milliseconds is open only a millisecond before its end, so its
/// last instants need no lag of their own; other windows do, and sessions, which end at any moment.
fn last_instant(column: EventTimeColumn, back: i64) -> EventTimeColumn {
    let whole = |micros: i64| micros % MILLISECOND == 0;
    let aligned =
        matches!(column.kind, EventTimeKind::Window(size) if whole(size)) && whole(column.lag);
    let more = if aligned && back < MILLISECOND {
        0
    } else {
        back
    };
    EventTimeColumn {
        kind: EventTimeKind::Instant,
        lag: column.lag.saturating_add(more),
    }
}

/// How long a unit of `date_trunc` is at most.
fn truncation(unit: &str) -> Option<i64> {
    let length = match unit.to_ascii_lowercase().as_str() {
        "microsecond" => 1,
        "millisecond" => MILLISECOND,
        "second" => SECOND,
        "minute" => 60 * SECOND,
        "hour" => 3_600 * SECOND,
        "day" | "dd" => DAY,
        "week" => 7 * DAY,
        "month" | "mm" | "mon" => 31 * DAY,
        "quarter" => 92 * DAY,
        "year" | "yyyy" | "yy" => 366 * DAY,
        _ => return None,
    };
    Some(length)
}

fn literal_text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(
            ScalarValue::Utf8(Some(text))
            | ScalarValue::Utf8View(Some(text))
            | ScalarValue::LargeUtf8(Some(text)),
            _,
        ) => Some(text),
        _ => None,
    }
}

/// A constant length of time in microseconds: a number of them, an interval or words.
pub fn literal_micros(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Alias(alias) => literal_micros(&alias.expr),
        Expr::Literal(ScalarValue::Int64(Some(micros)), _) => Some(*micros),
        Expr::Literal(..) => match literal_text(expr) {
            Some(text) => i64::try_from(parse_duration(text)?.as_micros()).ok(),
            None => interval_micros(expr),
        },
        _ => None,
    }
}

/// A constant interval of fixed length; months have none.
pub(super) fn interval_micros(expr: &Expr) -> Option<i64> {
    let Expr::Literal(value, _) = expr else {
        return None;
    };
    match value {
        ScalarValue::IntervalDayTime(Some(value)) => {
            let days = i64::from(value.days).checked_mul(DAY)?;
            days.checked_add(i64::from(value.milliseconds) * MILLISECOND)
        }
        ScalarValue::IntervalMonthDayNano(Some(value)) if value.months == 0 => {
            let days = i64::from(value.days).checked_mul(DAY)?;
            days.checked_add(value.nanoseconds.div_euclid(1_000))
        }
        ScalarValue::DurationSecond(Some(value)) => value.checked_mul(SECOND),
        ScalarValue::DurationMillisecond(Some(value)) => value.checked_mul(MILLISECOND),
        ScalarValue::DurationMicrosecond(Some(value)) => Some(*value),
        ScalarValue::DurationNanosecond(Some(value)) => Some(value.div_euclid(1_000)),
        _ => None,
    }
}

/// The element of an unnested column.
pub fn of_element(list: Option<EventTimeColumn>) -> Option<EventTimeColumn> {
    match list?.kind {
        EventTimeKind::Windows(size) => Some(EventTimeColumn {
            kind: EventTimeKind::Window(size),
            ..list?
        }),
        _ => None,
    }
}

/// A column of a union: kept where all inputs agree in kind; the greatest lag and size count.
pub fn of_union(
    inputs: impl IntoIterator<Item = Option<EventTimeColumn>>,
) -> Option<EventTimeColumn> {
    use EventTimeKind::{Instant, Session, Window, WindowEnd, WindowStart, Windows};
    inputs
        .into_iter()
        .reduce(|one, other| {
            let (one, other) = (one?, other?);
            let kind = match (one.kind, other.kind) {
                (Instant, Instant) => Instant,
                (WindowEnd, WindowEnd) => WindowEnd,
                (WindowStart(a), WindowStart(b)) => WindowStart(a.max(b)),
                (Window(a), Window(b)) => Window(a.max(b)),
                (Windows(a), Windows(b)) => Windows(a.max(b)),
                (Session | Window(_), Session | Window(_)) => Session,
                _ => return None,
            };
            Some(EventTimeColumn {
                kind,
                lag: one.lag.max(other.lag),
            })
        })
        .flatten()
}

/// The key that says when a group is complete: a window before its end, an instant, its start.
pub fn bound_of(keys: &[Option<EventTimeColumn>]) -> Option<Bound> {
    let rank = |column: &EventTimeColumn| match column.kind {
        EventTimeKind::Window(_) | EventTimeKind::Session => Some(0),
        EventTimeKind::WindowEnd => Some(1),
        EventTimeKind::Instant => Some(2),
        EventTimeKind::WindowStart(_) => Some(3),
        EventTimeKind::Windows(_) => None,
    };
    keys.iter()
        .enumerate()
        .filter_map(|(key, column)| {
            let column = (*column)?;
            Some((rank(&column)?, Bound { key, column }))
        })
        .min_by_key(|(rank, bound)| (*rank, bound.key))
        .map(|(_, bound)| bound)
}

/// The keys' event time after an aggregate with this bound.
///
/// A group comes out when its bound has passed. Any other key of it is then behind by up to the
/// time between the two, unless both are parts of one and the same window. `keys`: what the keys
/// are, over one and the same node.
pub fn after_aggregate(
    keys: &[Expr],
    columns: &[Option<EventTimeColumn>],
    bound: Option<Bound>,
) -> Vec<Option<EventTimeColumn>> {
    let Some(bound) = bound else {
        return columns.to_vec();
    };
    let span = match bound.column.kind {
        EventTimeKind::Instant => Some(0),
        EventTimeKind::Window(size) | EventTimeKind::WindowStart(size) => Some(size),
        EventTimeKind::WindowEnd | EventTimeKind::Windows(_) | EventTimeKind::Session => None,
    };
    let window_of_bound = keys.get(bound.key).map(window_base);
    keys.iter()
        .zip(columns)
        .enumerate()
        .map(|(key, (expr, column))| {
            let column = (*column)?;
            if key == bound.key || Some(window_base(expr)) == window_of_bound {
                return Some(column);
            }
            let lag = column
                .lag
                .checked_add(bound.column.lag)?
                .checked_add(span?)?;
            Some(EventTimeColumn { lag, ..column })
        })
        .collect()
}

/// The window whose part an expression is, or the expression itself.
pub(super) fn window_base(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => window_base(&alias.expr),
        Expr::ScalarFunction(call)
            if matches!(
                call.func.name(),
                "get_field" | "window_time" | "__window_time_ms"
            ) && !call.args.is_empty() =>
        {
            window_base(&call.args[0])
        }
        other => other,
    }
}
