//! Intervals as text: Spark's literals, and the strings that are cast to intervals.
//!
//! A day-time interval is a number of microseconds, a year-month interval a number of months.

use arrow::datatypes::IntervalMonthDayNano;

const SECOND: i128 = 1_000_000;
const DAY: i128 = 86_400 * SECOND;

/// A unit: how many months, or how many microseconds.
enum Unit {
    Months(i128),
    Micros(i128),
}

fn unit(name: &str) -> Option<Unit> {
    let singular = name.strip_suffix('s').unwrap_or(name);
    Some(match singular {
        "year" => Unit::Months(12),
        "month" => Unit::Months(1),
        "week" => Unit::Micros(7 * DAY),
        "day" => Unit::Micros(DAY),
        "hour" => Unit::Micros(3_600 * SECOND),
        "minute" => Unit::Micros(60 * SECOND),
        "second" => Unit::Micros(SECOND),
        "millisecond" => Unit::Micros(1_000),
        "microsecond" => Unit::Micros(1),
        _ => return None,
    })
}

/// `1 day 02 hours`, `-1 year`: months and microseconds.
pub fn words(text: &str) -> Option<(i32, i64)> {
    let lower = text.trim().to_ascii_lowercase();
    let rest = lower.strip_prefix("interval").map_or(&*lower, str::trim);
    let mut parts = rest.split_whitespace();
    let (mut months, mut micros) = (0_i128, 0_i128);
    let mut any = false;
    while let Some(number) = parts.next() {
        match unit(parts.next()?)? {
            Unit::Months(length) => months += number.parse::<i64>().ok().map(i128::from)? * length,
            Unit::Micros(length) => micros += scaled(number, length)?,
        }
        any = true;
    }
    any.then_some(())?;
    Some((i32::try_from(months).ok()?, i64::try_from(micros).ok()?))
}

/// `1.5` of a unit; more digits than the unit has are cut.
fn scaled(number: &str, length: i128) -> Option<i128> {
    let (sign, digits) = signed(number);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let number = |digits: &str| match digits {
        "" => Some(0),
        digits if digits.len() > 18 || !digits.bytes().all(|b| b.is_ascii_digit()) => None,
        digits => digits.parse::<i128>().ok(),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let parts = number(fraction)? * length / 10_i128.pow(fraction.len() as u32);
    Some(sign * (number(whole)? * length + parts))
}

fn signed(text: &str) -> (i128, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// The body, the sign before its quotes and the units behind them of `INTERVAL -'1-2' YEAR TO MONTH`.
fn literal(text: &str) -> Option<(i128, &str, String)> {
    let rest = text.get(..8).filter(|head| head.eq_ignore_ascii_case("interval"))?;
    let (sign, rest) = signed(text[rest.len()..].trim());
    let (body, units) = rest.trim().strip_prefix('\'')?.split_once('\'')?;
    Some((sign, body, units.trim().to_ascii_lowercase()))
}

/// A day-time interval: `1 02:03:04.5`, `INTERVAL '2' DAY`, `3 hours`.
pub fn day_time(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Some((sign, body, units)) = literal(text) {
        let micros = match units.split_once(" to ") {
            Some((from, to)) => range(body, from.trim(), to.trim())?,
            None => i128::from(day_time(&format!("{body} {units}"))?),
        };
        return i64::try_from(sign * micros).ok();
    }
    if text.contains(':') {
        return i64::try_from(range(text, "day", "second")?).ok();
    }
    match words(text)? {
        (0, micros) => Some(micros),
        _ => None,
    }
}

/// A year-month interval: `1-2`, `INTERVAL '1-2' YEAR TO MONTH`, `3 months`.
pub fn year_month(text: &str) -> Option<i32> {
    let text = text.trim();
    if let Some((sign, body, units)) = literal(text) {
        let months = match units.split_once(" to ") {
            Some(_) => i128::from(year_month(body)?),
            None => i128::from(year_month(&format!("{body} {units}"))?),
        };
        return i32::try_from(sign * months).ok();
    }
    let (sign, unsigned) = signed(text);
    if let Some((years, months)) = unsigned.split_once('-') {
        let number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<i128>().ok());
        let (years, months) = (number(years)??, number(months)??);
        return (months < 12)
            .then(|| i32::try_from(sign * (years * 12 + months)).ok())
            .flatten();
    }
    match words(text)? {
        (months, 0) => Some(months),
        _ => None,
    }
}

/// An interval of months, days and less: `1 month 2 days 3 hours`.
pub fn calendar(text: &str) -> Option<IntervalMonthDayNano> {
    let (months, micros) = words(text)?;
    let days = i32::try_from(i128::from(micros) / DAY).ok()?;
    let rest = i64::try_from(i128::from(micros) % DAY).ok()?;
    Some(IntervalMonthDayNano::new(months, days, rest.checked_mul(1_000)?))
}

/// `1 02:03` from `day` to `minute`, in microseconds.
pub fn range(text: &str, from: &str, to: &str) -> Option<i128> {
    const UNITS: [(&str, i128); 4] = [
        ("day", DAY),
        ("hour", 3_600 * SECOND),
        ("minute", 60 * SECOND),
        ("second", SECOND),
    ];
    let place = |name: &str| UNITS.iter().position(|(unit, _)| *unit == name);
    let (first, last) = (place(from)?, place(to)?);
    let (sign, unsigned) = signed(text.trim());
    let parts: Vec<&str> = unsigned.split([' ', ':']).collect();
    if first >= last || parts.len() != last - first + 1 {
        return None;
    }
    let mut total = 0;
    for (index, part) in parts.into_iter().enumerate() {
        let at = first + index;
        let digits = part.bytes().all(|b| b.is_ascii_digit() || (at == 3 && b == b'.'));
        let value = digits.then(|| scaled(part, UNITS[at].1)).flatten()?;
        // Only the first part may be as long as it likes.
        let bound = [i128::MAX, DAY, 3_600 * SECOND, 60 * SECOND][at];
        if index > 0 && value >= bound {
            return None;
        }
        total += value;
    }
    Some(sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_in_all_their_spellings() {
        let hours = |hours: i64| hours * 3_600_000_000;
        for (text, expected) in [
            ("1 02:00:00", Some(hours(26))),
            ("-1 02:00:00", Some(-hours(26))),
            ("INTERVAL '1 02' DAY TO HOUR", Some(hours(26))),
            ("INTERVAL -'1' DAY", Some(-hours(24))),
            ("INTERVAL '90:30' MINUTE TO SECOND", Some(5_430_000_000)),
            ("3 hours 0.5 seconds", Some(hours(3) + 500_000)),
            ("1 week", Some(hours(168))),
            ("1 02:60:00", None),
            ("1 month", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(day_time(text), expected, "{text}");
        }
        for (text, expected) in [
            ("1-2", Some(14)),
            ("-1-2", Some(-14)),
            ("INTERVAL '1-2' YEAR TO MONTH", Some(14)),
            ("INTERVAL '3' YEAR", Some(36)),
            ("5 months", Some(5)),
            ("1-12", None),
            ("1 day", None),
        ] {
            assert_eq!(year_month(text), expected, "{text}");
        }
    }
}
