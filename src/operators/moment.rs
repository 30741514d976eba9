//! The moments of rows in event time.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{Date32Type, TimestampMicrosecondType};

use crate::plan::EventTimeKind;
use crate::time::{EventTime, NEVER, NO_WATERMARK};

/// For each of so many rows the moment that a column of this kind says: of a window its end; [`NEVER`] where
/// there is none.
pub fn moments(kind: EventTimeKind, column: &ArrayRef, rows: usize) -> Vec<EventTime> {
    let (times, shift) = match kind {
        EventTimeKind::Instant | EventTimeKind::WindowEnd => (Some(column), 0),
        // A list of windows is never grouped by; without a moment a group is never complete.
        EventTimeKind::Windows(_) => (None, 0),
        EventTimeKind::WindowStart(size) => (Some(column), size),
        EventTimeKind::Window(_) | EventTimeKind::Session => (
            column
                .as_struct_opt()
                .and_then(|window| window.column_by_name("end")),
            0,
        ),
    };
    let nulls = column.logical_nulls();
    // A date stands for its midnight in UTC.
    let midnights = times.and_then(|times| times.as_primitive_opt::<Date32Type>());
    let midnights = midnights.map(|dates| {
        dates.unary::<_, TimestampMicrosecondType>(|day| i64::from(day) * 86_400_000_000)
    });
    let times = times
        .and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>())
        .or(midnights.as_ref());
    (0..rows)
        .map(|row| match times {
            Some(times)
                if times.is_valid(row) && nulls.as_ref().is_none_or(|n| n.is_valid(row)) =>
            {
                // The ends of the range mean "never" and "not yet".
                times
                    .value(row)
                    .saturating_add(shift)
                    .clamp(NO_WATERMARK + 1, NEVER - 1)
            }
            _ => NEVER,
        })
        .collect()
}
