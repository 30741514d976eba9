//! Time zones, and the way from a wall clock to an instant.
//!
//! The rules are `java.time`'s, as Spark uses them: an hour that spring leaves out reads as one
//! hour later, an hour that autumn repeats as its first occurrence.

use std::fmt;

use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone};
use chrono_tz::{OffsetName, Tz};

use crate::{Options, Result};

/// Microseconds in a second.
pub const SECOND: i64 = 1_000_000;

/// A fixed distance from UTC, or a region with rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// Seconds east of UTC.
    Fixed(i32),
    /// A region of the tz database.
    Region(Tz),
}

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self::Fixed(0);

    /// Reads `Z`, `UTC`, `+02:00`, `GMT-3`, `Europe/Paris`; `None` where there is no such zone.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if matches!(text, "Z" | "z" | "UTC" | "GMT" | "UT") {
            return Some(Self::UTC);
        }
        let sign_at = ["UTC", "GMT", "UT"]
            .iter()
            .find_map(|prefix| text.strip_prefix(prefix));
        let signed = sign_at.unwrap_or(text);
        if let Some(seconds) = parse_offset(signed) {
            return Some(Self::Fixed(seconds));
        }
        match text.parse::<Tz>() {
            Ok(Tz::UTC | Tz::Etc__UTC) => Some(Self::UTC),
            Ok(region) => Some(Self::Region(region)),
            Err(_) => None,
        }
    }

    /// The zone that the option `timeZone` names; UTC where it is not given.
    pub fn from_options(options: &Options) -> Result<Self> {
        match options.get("timeZone") {
            None => Ok(Self::UTC),
            Some(name) => Self::parse(name).ok_or_else(|| {
                options.bad(
                    "timeZone",
                    "a zone such as 'UTC', 'Europe/Berlin' or '+02:00'".into(),
                )
            }),
        }
    }

    /// How many seconds the wall clock is ahead of UTC at an instant, in microseconds; `None` where
    /// that is out of range.
    pub fn offset(self, micros: i64) -> Option<i32> {
        match self {
            Self::Fixed(seconds) => Some(seconds),
            Self::Region(region) => {
                let utc = DateTime::from_timestamp_micros(micros)?.naive_utc();
                let offset = region.offset_from_utc_datetime(&utc);
                Some(offset.fix().local_minus_utc())
            }
        }
    }

    /// The wall clock of an instant, both in microseconds; `None` where it is out of range.
    pub fn to_local(self, micros: i64) -> Option<i64> {
        micros.checked_add(i64::from(self.offset(micros)?) * SECOND)
    }

    /// What the zone is called for short at an instant in microseconds: `EST`, `UTC`, `+01:00`.
    pub fn abbreviation(self, micros: i64) -> Option<String> {
        let Self::Region(region) = self else {
            return Some(self.to_string());
        };
        let utc = DateTime::from_timestamp_micros(micros)?.naive_utc();
        let offset = region.offset_from_utc_datetime(&utc);
        Some(offset.abbreviation()?.to_owned())
    }

    /// The instant of a wall clock, both in microseconds; `None` where it is out of range.
    pub fn to_utc(self, local: i64) -> Option<i64> {
        match self {
            Self::Fixed(seconds) => local.checked_sub(i64::from(seconds) * SECOND),
            Self::Region(region) => {
                let naive = DateTime::from_timestamp_micros(local)?.naive_utc();
                let offset = match region.offset_from_local_datetime(&naive) {
                    LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _) => offset,
                    LocalResult::None => offset_before(region, naive)?,
                };
                local.checked_sub(i64::from(offset.fix().local_minus_utc()) * SECOND)
            }
        }
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(0) => f.write_str("UTC"),
            Self::Region(region) => f.write_str(region.name()),
            Self::Fixed(seconds) => {
                let sign = if *seconds < 0 { '-' } else { '+' };
                let distance = seconds.unsigned_abs();
                let (hours, minutes) = (distance / 3600, distance / 60 % 60);
                write!(f, "{sign}{hours:02}:{minutes:02}")?;
                match distance % 60 {
                    0 => Ok(()),
                    rest => write!(f, ":{rest:02}"),
                }
            }
        }
    }
}

/// The offset that held before the gap in which `naive` lies.
fn offset_before(region: Tz, naive: NaiveDateTime) -> Option<<Tz as TimeZone>::Offset> {
    let earlier = naive.checked_sub_signed(TimeDelta::hours(25))?;
    Some(region.offset_from_utc_datetime(&earlier))
}

/// `+2`, `-03`, `+02:30`, `+0230`, `-08:00:30`, as seconds.
fn parse_offset(text: &str) -> Option<i32> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let mut parts = [0_i32; 3];
    if !rest.contains(':') && rest.len() > 2 {
        if !matches!(rest.len(), 4 | 6) || !rest.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        for (part, at) in parts.iter_mut().zip((0..rest.len()).step_by(2)) {
            *part = rest[at..at + 2].parse().ok()?;
        }
    } else {
        let mut fields = rest.split(':');
        for part in &mut parts {
            let Some(field) = fields.next() else { break };
            if field.is_empty() || field.len() > 2 || !field.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            *part = field.parse().ok()?;
        }
        if fields.next().is_some() {
            return None;
        }
    }
    let [hours, minutes, seconds] = parts;
    (hours <= 18 && minutes < 60 && seconds < 60)
        .then_some(sign * (hours * 3600 + minutes * 60 + seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::datetime::micros;

    #[test]
    fn offsets_and_regions_are_read() {
        assert_eq!(Zone::parse("Z"), Some(Zone::UTC));
        assert_eq!(Zone::parse("+02:00"), Some(Zone::Fixed(7200)));
        assert_eq!(Zone::parse("-0330"), Some(Zone::Fixed(-12_600)));
        assert_eq!(Zone::parse("GMT+1"), Some(Zone::Fixed(3600)));
        assert_eq!(
            Zone::parse("Europe/Paris"),
            Some(Zone::Region(Tz::Europe__Paris))
        );
        assert_eq!(Zone::parse("Mars/Base"), None);
        assert_eq!(Zone::parse("+2:3:4:5"), None);
        assert_eq!(Zone::parse(""), None);
    }

    #[test]
    fn the_missing_hour_is_one_later_and_the_doubled_one_the_first() {
        let paris = Zone::Region(Tz::Europe__Paris);
        let spring = micros(2026, 3, 29, 2, 30, 0, 0).expect("a date");
        assert_eq!(paris.to_utc(spring), micros(2026, 3, 29, 1, 30, 0, 0));
        let autumn = micros(2026, 10, 25, 2, 30, 0, 0).expect("a date");
        assert_eq!(paris.to_utc(autumn), micros(2026, 10, 25, 0, 30, 0, 0));
    }
}
