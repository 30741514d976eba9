//! A moment to text.

use std::fmt::Write as _;

use super::{Item, Name, OffsetForm, Part, name_of};
use crate::format::datetime::{civil, days};
use crate::format::zone::Zone;

/// A moment, taken apart.
pub(super) struct Moment {
    year: i64,
    of_era: bool,
    month: u32,
    day: u32,
    days: i64,
    /// Microseconds of the day.
    of_day: i64,
    instant: i64,
    offset: i32,
    zone: Zone,
}

impl Moment {
    /// `local`: what the wall clock shows at `instant`, both in microseconds; `offset`: the seconds
    /// that it is ahead of UTC.
    pub(super) fn new(local: i64, instant: i64, offset: i32, zone: Zone, of_era: bool) -> Self {
        const DAY: i64 = 86_400_000_000;
        let days = local.div_euclid(DAY);
        let (year, month, day) = civil(days);
        Self {
            year,
            of_era,
            month,
            day,
            days,
            of_day: local.rem_euclid(DAY),
            instant,
            offset,
            zone,
        }
    }

    /// The year as the pattern counts it.
    fn shown_year(&self) -> i64 {
        if self.of_era && self.year < 1 {
            1 - self.year
        } else {
            self.year
        }
    }

    fn hour(&self) -> i64 {
        self.of_day / 3_600_000_000
    }

    fn number(&self, part: Part) -> i64 {
        match part {
            Part::Year => self.shown_year(),
            Part::Month => i64::from(self.month),
            Part::Quarter => i64::from(self.month.div_ceil(3)),
            Part::Day => i64::from(self.day),
            Part::DayOfYear => self.days - days(self.year, 1, 1).unwrap_or(self.days) + 1,
            Part::AlignedWeek => i64::from((self.day - 1) / 7 + 1),
            Part::Hour => self.hour(),
            Part::HourOfDay => (self.hour() + 23) % 24 + 1,
            Part::HourOfHalf => (self.hour() + 11) % 12 + 1,
            Part::HourOfHalf0 => self.hour() % 12,
            Part::Minute => self.of_day / 60_000_000 % 60,
            Part::Second => self.of_day / 1_000_000 % 60,
        }
    }

    fn name(&self, name: Name, full: bool) -> &'static str {
        let index = match name {
            Name::Month => self.month as usize - 1,
            Name::Quarter => (self.month as usize - 1) / 3,
            // 1970-01-01 was a Thursday.
            Name::Day => (self.days + 3).rem_euclid(7) as usize,
            Name::Era => usize::from(self.year > 0),
            Name::Half => usize::from(self.hour() >= 12),
        };
        name_of(name, full, index)
    }
}

/// Appends the items; `None` where one has no text for this moment.
pub(super) fn items(items: &[Item], moment: &Moment, out: &mut String) -> Option<()> {
    for item in items {
        match item {
            Item::Literal(text) => out.push_str(text),
            Item::Optional(inner) => {
                let start = out.len();
                if self::items(inner, moment, out).is_none() {
                    out.truncate(start);
                }
            }
            Item::Number(part, least, most) => {
                let value = moment.number(*part);
                let length = out.len();
                if value < 0 {
                    out.push('-');
                } else if *part == Part::Year && *least >= 4 && value >= 10_i64.pow(*least as u32) {
                    out.push('+');
                }
                let sign = out.len() - length;
                let _ = write!(out, "{:0least$}", value.unsigned_abs());
                if out.len() - length - sign > *most {
                    return None;
                }
            }
            Item::ShortYear => {
                let _ = write!(out, "{:02}", moment.shown_year().unsigned_abs() % 100);
            }
            Item::Name(name, full) => out.push_str(moment.name(*name, *full)),
            Item::Fraction(count) => {
                let nanos = moment.of_day % 1_000_000 * 1000;
                let start = out.len();
                let _ = write!(out, "{nanos:09}");
                out.truncate(start + count);
            }
            Item::Offset(form) => offset(moment.offset, *form, out),
            Item::LocalOffset(full) => local_offset(moment.offset, *full, out),
            Item::ZoneId => {
                let _ = write!(out, "{}", moment.zone);
            }
            Item::ZoneName => out.push_str(&moment.zone.abbreviation(moment.instant)?),
        }
    }
    Some(())
}

fn parts(offset: i32) -> (char, u32, u32, u32) {
    let sign = if offset < 0 { '-' } else { '+' };
    let distance = offset.unsigned_abs();
    (sign, distance / 3600, distance / 60 % 60, distance % 60)
}

fn offset(offset: i32, form: OffsetForm, out: &mut String) {
    let (sign, hours, minutes, seconds) = parts(offset);
    if offset == 0 {
        out.push_str(form.zero);
        return;
    }
    let colon = if form.colons { ":" } else { "" };
    let _ = write!(out, "{sign}{hours:02}");
    if !form.short || minutes > 0 {
        let _ = write!(out, "{colon}{minutes:02}");
    }
    if form.seconds && seconds > 0 {
        let _ = write!(out, "{colon}{seconds:02}");
    }
}

fn local_offset(offset: i32, full: bool, out: &mut String) {
    let (sign, hours, minutes, seconds) = parts(offset);
    out.push_str("GMT");
    if offset == 0 {
        return;
    }
    let _ = if full {
        write!(out, "{sign}{hours:02}:{minutes:02}")
    } else if minutes > 0 || seconds > 0 {
        write!(out, "{sign}{hours}:{minutes:02}")
    } else {
        write!(out, "{sign}{hours}")
    };
    if seconds > 0 {
        let _ = write!(out, ":{seconds:02}");
    }
}
