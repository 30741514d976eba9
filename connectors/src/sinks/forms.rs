//! The forms of single values: numbers, moments, intervals, bytes.
//!
//! Doubles are written as Java's `Double.toString` does (`1.0`, `1.0E10`, `NaN`, `Infinity`),
//! with the shortest digits that read back as the same number.

use std::fmt::Write as _;

use crate::format::datetime::civil;
pub use crate::format::zone::Zone;

/// How a TIMESTAMP is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moments {
    /// `2026-01-01 12:00:00.5`: the fraction without its trailing zeros.
    Sql,
    /// `2026-01-01T12:00:00.500Z`: milliseconds; microseconds where there are any.
    Iso,
}

pub(super) fn hex(out: &mut String, bytes: &[u8]) {
    out.push('[');
    for (index, byte) in bytes.iter().enumerate() {
        let space = if index > 0 { " " } else { "" };
        let _ = write!(out, "{space}{byte:02X}");
    }
    out.push(']');
}

pub(crate) fn base64(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let bits = group
            .iter()
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for digit in 0..4 {
            if digit <= group.len() {
                out.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
            } else {
                out.push('=');
            }
        }
    }
}

/// A DOUBLE as Java writes it.
pub(crate) fn double(out: &mut String, value: f64) {
    java_number(out, value, &value);
}

pub(super) fn float(out: &mut String, value: f32) {
    java_number(out, f64::from(value), &value);
}

/// `value` decides on the form, `digits` prints the number in its own precision.
fn java_number<F: std::fmt::Display + std::fmt::LowerExp>(
    out: &mut String,
    value: f64,
    digits: &F,
) {
    let start = out.len();
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value < 0.0 { "-Infinity" } else { "Infinity" });
    } else if value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        let _ = write!(out, "{digits}");
        if !out[start..].contains('.') {
            out.push_str(".0");
        }
    } else {
        let _ = write!(out, "{digits:e}");
        if let Some(at) = out[start..].find('e').map(|at| start + at) {
            let mark = if out[start..at].contains('.') {
                "E"
            } else {
                ".0E"
            };
            out.replace_range(at..=at, mark);
        }
    }
}

/// Days since 1970-01-01 as `yyyy-MM-dd`.
pub(super) fn date(out: &mut String, days: i64) {
    let (year, month, day) = civil(days);
    if year > 9999 {
        out.push('+');
    } else if year < 0 {
        out.push('-');
    }
    let _ = write!(out, "{:04}-{month:02}-{day:02}", year.abs());
}

fn clock(out: &mut String, second_of_day: i64) {
    let (hours, minutes, seconds) = (
        second_of_day / 3600,
        second_of_day / 60 % 60,
        second_of_day % 60,
    );
    let _ = write!(out, "{hours:02}:{minutes:02}:{seconds:02}");
}

/// `.5` for half a second, nothing for none.
fn trimmed_fraction(out: &mut String, nanos: i64) {
    if nanos > 0 {
        let _ = write!(out, ".{nanos:09}");
        out.truncate(out.trim_end_matches('0').len());
    }
}

pub(super) fn time(out: &mut String, second_of_day: i64, nanos: i64) {
    clock(out, second_of_day);
    trimmed_fraction(out, nanos);
}

/// A moment; `zone` is `None` for a `TIMESTAMP_NTZ`.
pub(super) fn moment(
    out: &mut String,
    seconds: i64,
    nanos: i64,
    zone: Option<Zone>,
    form: Moments,
) {
    let offset = zone
        .zip(seconds.checked_mul(1_000_000))
        .and_then(|(zone, micros)| zone.offset(micros))
        .map_or(0, i64::from);
    let local = seconds.saturating_add(offset);
    date(out, local.div_euclid(86_400));
    out.push(if form == Moments::Iso { 'T' } else { ' ' });
    clock(out, local.rem_euclid(86_400));
    match form {
        Moments::Sql => trimmed_fraction(out, nanos),
        Moments::Iso => {
            let _ = if nanos % 1_000_000 == 0 {
                write!(out, ".{:03}", nanos / 1_000_000)
            } else if nanos % 1_000 == 0 {
                write!(out, ".{:06}", nanos / 1_000)
            } else {
                write!(out, ".{nanos:09}")
            };
            if zone.is_some() && offset == 0 {
                out.push('Z');
            } else if zone.is_some() {
                let minutes = offset.abs() / 60;
                let sign = if offset < 0 { '-' } else { '+' };
                let _ = write!(out, "{sign}{:02}:{:02}", minutes / 60, minutes % 60);
            }
        }
    }
}

pub(super) fn day_time(out: &mut String, nanos: i128) {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let seconds = (nanos / 1_000_000_000) as i64;
    let _ = write!(out, "INTERVAL '{sign}{} ", seconds / 86_400);
    clock(out, seconds % 86_400);
    trimmed_fraction(out, (nanos % 1_000_000_000) as i64);
    out.push_str("' DAY TO SECOND");
}

/// Spark's `CalendarInterval`: `1 years 2 months 3 days 4 hours 5 minutes 6.7 seconds`.
pub(super) fn calendar(out: &mut String, months: i32, days: i32, nanos: i64) {
    let start = out.len();
    let seconds = nanos / 1_000_000_000;
    let parts = [
        (i64::from(months / 12), "years"),
        (i64::from(months % 12), "months"),
        (i64::from(days), "days"),
        (seconds / 3600, "hours"),
        (seconds / 60 % 60, "minutes"),
    ];
    for (count, unit) in parts {
        if count != 0 {
            let _ = write!(out, "{count} {unit} ");
        }
    }
    let rest = nanos % 60_000_000_000;
    if rest != 0 || out.len() == start {
        let sign = if rest < 0 { "-" } else { "" };
        let _ = write!(out, "{sign}{}", rest.abs() / 1_000_000_000);
        trimmed_fraction(out, rest.abs() % 1_000_000_000);
        out.push_str(" seconds");
    } else {
        out.truncate(out.trim_end().len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubled(value: f64) -> String {
        let mut out = String::new();
        double(&mut out, value);
        out
    }

    #[test]
    fn doubles_read_as_java_writes_them() {
        let expected = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1_234_567.0, "1234567.0"),
            (12_345_678.0, "1.2345678E7"),
            (1e10, "1.0E10"),
            (0.001, "0.001"),
            (0.000_12, "1.2E-4"),
            (-1e7, "-1.0E7"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::MAX, "1.7976931348623157E308"),
        ];
        for (value, text) in expected {
            assert_eq!(doubled(value), text);
        }
        let mut out = String::new();
        float(&mut out, 0.1);
        assert_eq!(out, "0.1");
    }

    fn at(micros: i64, zone: Option<Zone>, form: Moments) -> String {
        let mut out = String::new();
        let nanos = micros.rem_euclid(1_000_000) * 1000;
        moment(&mut out, micros.div_euclid(1_000_000), nanos, zone, form);
        out
    }

    #[test]
    fn moments_follow_the_zone() {
        let noon = 1_767_268_800_000_000;
        let berlin = Zone::parse("Europe/Berlin");
        assert!(berlin.is_some());
        assert_eq!(
            at(noon, Some(Zone::UTC), Moments::Sql),
            "2026-01-01 12:00:00"
        );
        assert_eq!(
            at(noon + 120_000, Some(Zone::UTC), Moments::Sql),
            "2026-01-01 12:00:00.12"
        );
        assert_eq!(at(noon, berlin, Moments::Sql), "2026-01-01 13:00:00");
        assert_eq!(
            at(noon, Some(Zone::UTC), Moments::Iso),
            "2026-01-01T12:00:00.000Z"
        );
        assert_eq!(
            at(noon + 1, Some(Zone::UTC), Moments::Iso),
            "2026-01-01T12:00:00.000001Z"
        );
        assert_eq!(
            at(noon, berlin, Moments::Iso),
            "2026-01-01T13:00:00.000+01:00"
        );
        assert_eq!(at(noon, None, Moments::Iso), "2026-01-01T12:00:00.000");
        assert_eq!(at(-1, None, Moments::Sql), "1969-12-31 23:59:59.999999");
        assert!(Zone::parse("+02:00").is_some() && Zone::parse("Nowhere/Land").is_none());
    }

    #[test]
    fn dates_intervals_and_bytes() {
        let text = |write: &dyn Fn(&mut String)| {
            let mut out = String::new();
            write(&mut out);
            out
        };
        assert_eq!(text(&|out| date(out, 0)), "1970-01-01");
        assert_eq!(text(&|out| date(out, 11_016)), "2000-02-29");
        assert_eq!(text(&|out| date(out, -719_529)), "-0001-12-31");
        assert_eq!(text(&|out| date(out, 2_932_897)), "+10000-01-01");
        assert_eq!(
            text(&|out| day_time(out, 93_784_500_000_000)),
            "INTERVAL '1 02:03:04.5' DAY TO SECOND"
        );
        assert_eq!(
            text(&|out| calendar(out, 14, 3, 0)),
            "1 years 2 months 3 days"
        );
        assert_eq!(
            text(&|out| calendar(out, 0, 0, -1_500_000_000)),
            "-1.5 seconds"
        );
        assert_eq!(text(&|out| calendar(out, 0, 0, 0)), "0 seconds");
        assert_eq!(text(&|out| base64(out, b"AB")), "QUI=");
        assert_eq!(text(&|out| base64(out, b"ABC")), "QUJD");
        assert_eq!(text(&|out| hex(out, b"AB")), "[41 42]");
    }
}
