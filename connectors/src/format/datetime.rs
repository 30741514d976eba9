//! Dates and timestamps as text: Spark's lenient forms, those that `CAST` takes as well.
//!
//! `[+-]yyyy*[-[m]m[-[d]d[( |T)[h]h[:[m]m[:[s]s[.fraction]]][zone]]]]`: whatever is left out is
//! the first of its kind. The usual ISO 8601 form has a path of its own without any search.

use super::zone::{SECOND, Zone};

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar, or `None` for no date.
#[inline]
pub fn days(year: i64, month: u32, day: u32) -> Option<i64> {
    if !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return None;
    }
    // Years begin in March, so that the day that comes and goes is their last (as in Howard Hinnant's
    // days_from_civil); the months from there on are 30.6 days long, rounded well.
    let (year, month) = if month > 2 {
        (year, month)
    } else {
        (year - 1, month + 12)
    };
    let century = year.div_euclid(100);
    let leap_days = year.div_euclid(4) - century + century.div_euclid(4);
    let of_year = i64::from((979 * month - 2919) / 32 + day);
    Some(year * 365 + leap_days + of_year - 719_469)
}

/// The year, month and day of a count of days since 1970-01-01, on the proleptic Gregorian calendar.
pub fn civil(days: i64) -> (i64, u32, u32) {
    // Howard Hinnant's civil_from_days: years begin in March.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month as u32, day as u32)
}

/// How many days a month has; `month` is 1 to 12.
pub fn days_in_month(year: i64, month: u32) -> u32 {
    const DAYS: [u8; 13] = [31, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let leap = month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    DAYS.get(month as usize).map_or(31, |days| u32::from(*days)) + u32::from(leap)
}

/// Microseconds from 1970-01-01 00:00:00 on the same wall clock, or `None` where there is no such
/// moment or it does not fit.
#[inline]
pub fn micros(
    year: i64,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    fraction: u32,
) -> Option<i64> {
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days(year, month, day)? * 86_400 + i64::from(hour * 3600 + minute * 60 + second);
    seconds
        .checked_mul(SECOND)?
        .checked_add(i64::from(fraction))
}

/// A timestamp with a zone of its own or in `zone`, as microseconds since 1970 UTC.
#[inline]
pub fn parse_timestamp(text: &[u8], zone: Zone) -> Option<i64> {
    if let Some((local, rest)) = iso(text) {
        match rest {
            b"Z" => return Some(local),
            b"" => return zone.to_utc(local),
            _ => {}
        }
    }
    let (local, own) = lenient(text)?;
    own.unwrap_or(zone).to_utc(local)
}

/// A timestamp that names no zone, as microseconds on its wall clock.
pub fn parse_timestamp_ntz(text: &[u8]) -> Option<i64> {
    if let Some((local, b"")) = iso(text) {
        return Some(local);
    }
    match lenient(text)? {
        (local, None) => Some(local),
        (_, Some(_)) => None,
    }
}

/// The wall clock of a timestamp, whatever zone stands behind it.
pub(crate) fn parse_wall_clock(text: &[u8]) -> Option<i64> {
    lenient(text).map(|(local, _)| local)
}

/// A date, as days since 1970. A time after it is left out, as Spark does.
pub fn parse_date(text: &[u8]) -> Option<i32> {
    let text = text.trim_ascii();
    let (date, rest) = date_part(text)?;
    let complete = date.fields == 3;
    if !(rest.is_empty() || (complete && matches!(rest[0], b' ' | b'T'))) {
        return None;
    }
    i32::try_from(days(date.year, date.month, date.day)?).ok()
}

/// `yyyy-MM-dd(T| )HH:mm:ss[.fraction]` at the start, and what follows it.
#[inline]
fn iso(text: &[u8]) -> Option<(i64, &[u8])> {
    let (head, mut rest) = text.split_first_chunk::<19>()?;
    let [date @ .., d1, d2, separator, h1, h2, colon, m1, m2, _, _, _] = *head;
    // A blank or the letter.
    let separator = if separator == b' ' { b'T' } else { separator };
    let date = pairs(date, *b"0000-00-")?;
    let time = pairs([d1, d2, separator, h1, h2, colon, m1, m2], *b"00T00:00")?;
    let second = pairs(
        [head[16], head[17], head[18], b'0', b'0', b'0', b'0', b'0'],
        *b":0000000",
    )?;
    let mut fraction = 0;
    if let Some(digits) = rest.strip_prefix(b".") {
        (fraction, rest) = parse_fraction(digits)?;
    }
    let local = micros(
        i64::from(date[0]) * 100 + i64::from(date[2]),
        date[5].into(),
        time[0].into(),
        time[3].into(),
        time[6].into(),
        second[1].into(),
        fraction,
    )?;
    Some((local, rest))
}

/// Of every place in a text the number that its digit and the next one make; `None` unless it has
/// digits where `form` has a 0, and is equal to it elsewhere.
#[inline]
fn pairs(text: [u8; 8], form: [u8; 8]) -> Option<[u8; 8]> {
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // What, added to a digit or to what has to be 0, leaves the high bit alone.
    let room = form.map(|byte| if byte == b'0' { 0x7F - 9 } else { 0x7F });
    let digits = u64::from_le_bytes(text) ^ u64::from_le_bytes(form);
    // A byte that overflows into the next one has its own high bit set.
    if (digits.wrapping_add(u64::from_le_bytes(room)) | digits) & HIGHS != 0 {
        return None;
    }
    Some((digits * 10 + (digits >> 8)).to_le_bytes())
}

/// Digits after the point as microseconds; more than six are cut.
#[inline]
fn parse_fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    const POWERS: [u32; 7] = [1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];
    let (mut value, mut digits) = (0, 0);
    while let Some(digit) = text.get(digits).map(|byte| byte.wrapping_sub(b'0'))
        && digit < 10
    {
        if digits < 6 {
            value = value * 10 + u32::from(digit);
        }
        digits += 1;
    }
    (digits <= 9).then(|| (value * POWERS[digits.min(6)], &text[digits..]))
}

struct DatePart {
    year: i64,
    month: u32,
    day: u32,
    fields: u8,
}

/// A year, with a month and a day where they are written.
fn date_part(text: &[u8]) -> Option<(DatePart, &[u8])> {
    let (sign, mut rest) = match text.first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let year = number(&mut rest, 4, 7)?;
    let mut date = DatePart {
        year: sign * i64::from(year),
        month: 1,
        day: 1,
        fields: 1,
    };
    if let Some(after) = rest.strip_prefix(b"-") {
        rest = after;
        date.month = number(&mut rest, 1, 2)?;
        date.fields = 2;
        if let Some(after) = rest.strip_prefix(b"-") {
            rest = after;
            date.day = number(&mut rest, 1, 2)?;
            date.fields = 3;
        }
    }
    Some((date, rest))
}

/// A wall clock, and the zone where one is written.
fn lenient(text: &[u8]) -> Option<(i64, Option<Zone>)> {
    let text = text.trim_ascii();
    let (date, mut rest) = date_part(text)?;
    let (mut hour, mut minute, mut second, mut fraction) = (0, 0, 0, 0);
    let mut zone = None;
    if !rest.is_empty() {
        if date.fields != 3 || !matches!(rest[0], b' ' | b'T') {
            return None;
        }
        rest = &rest[1..];
        if !rest.is_empty() {
            hour = number(&mut rest, 1, 2)?;
            if let Some(after) = rest.strip_prefix(b":") {
                rest = after;
                minute = number(&mut rest, 1, 2)?;
                if let Some(after) = rest.strip_prefix(b":") {
                    rest = after;
                    second = number(&mut rest, 1, 2)?;
                    if let Some(digits) = rest.strip_prefix(b".") {
                        (fraction, rest) = parse_fraction(digits)?;
                    }
                }
            }
            if !rest.is_empty() {
                zone = Some(Zone::parse(std::str::from_utf8(rest).ok()?)?);
            }
        }
    }
    let local = micros(
        date.year, date.month, date.day, hour, minute, second, fraction,
    )?;
    Some((local, zone))
}

/// Between `least` and `most` digits at the start of `text`, which is moved behind them.
pub fn number(text: &mut &[u8], least: usize, most: usize) -> Option<u32> {
    let digits = text
        .iter()
        .take(most)
        .take_while(|b| b.is_ascii_digit())
        .count();
    if digits < least || text.get(digits).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let value = text[..digits]
        .iter()
        .fold(0, |value, b| value * 10 + u32::from(b - b'0'));
    *text = &text[digits..];
    Some(value)
}

#[cfg(test)]
mod tests {
    use chrono::Datelike;

    use super::*;

    fn utc(text: &str) -> Option<i64> {
        parse_timestamp(text.as_bytes(), Zone::UTC)
    }

    #[test]
    fn days_agree_with_chrono() {
        for day in (-800_000..800_000).step_by(379) {
            let date = chrono::NaiveDate::from_num_days_from_ce_opt(day + 719_163).expect("a date");
            assert_eq!(
                days(i64::from(date.year()), date.month(), date.day()),
                Some(i64::from(day))
            );
        }
        assert_eq!(days(2025, 2, 29), None);
        assert_eq!(days(2024, 2, 29), Some(19_782));
    }

    #[test]
    fn iso_timestamps_with_and_without_a_zone() {
        assert_eq!(utc("2026-01-01T00:00:00Z"), Some(1_767_225_600_000_000));
        assert_eq!(utc("2026-01-01 00:00:00.5"), Some(1_767_225_600_500_000));
        assert_eq!(
            utc("2026-01-01T02:00:00.123456789+02:00"),
            Some(1_767_225_600_123_456)
        );
        assert_eq!(
            utc("2026-01-01T01:00:00 Europe/Paris"),
            Some(1_767_225_600_000_000)
        );
        let paris = Zone::parse("Europe/Paris").expect("a zone");
        assert_eq!(
            parse_timestamp(b"2026-01-01T01:00:00", paris),
            Some(1_767_225_600_000_000)
        );
    }

    #[test]
    fn parts_that_are_left_out_are_the_first_of_their_kind() {
        for text in [
            "2026",
            "2026-01",
            "2026-1-1",
            " 2026-01-01 ",
            "2026-01-01T0:0",
        ] {
            assert_eq!(utc(text), Some(1_767_225_600_000_000), "{text}");
        }
        assert_eq!(parse_date(b"2026-01"), Some(20_454));
        assert_eq!(parse_date(b"2026-01-01T23:59:59"), Some(20_454));
    }

    #[test]
    fn what_is_no_timestamp_is_refused() {
        for text in [
            "",
            "x",
            "2026-13-01",
            "2026-02-30",
            "2026-01-01T24:00:00",
            "20260101T00",
            "26-1-1",
            "2026-01-01T00:00:00 Nowhere/City",
            "12:30",
            "2026-01-01X",
            "2026-01-01T00:60",
        ] {
            assert_eq!(utc(text), None, "{text}");
        }
        assert_eq!(parse_timestamp_ntz(b"2026-01-01T00:00:00Z"), None);
        assert_eq!(parse_date(b"2026-01-01x"), None);
    }
}
