//! Text to a moment.

use super::{Item, Name, OffsetForm, Part, name_of, names};
use crate::format::datetime::{days, micros};
use crate::format::zone::Zone;

/// What was found so far.
#[derive(Clone, Copy)]
pub(super) struct Fields {
    year: Option<i64>,
    /// Whether years are counted within an era.
    of_era: bool,
    before_christ: bool,
    month: Option<u32>,
    day: Option<u32>,
    day_of_year: Option<u32>,
    hour: Option<u32>,
    half_hour: Option<u32>,
    afternoon: Option<bool>,
    minute: u32,
    second: u32,
    fraction: u32,
    pub(super) zone: Option<Zone>,
}

impl Fields {
    pub(super) fn new(of_era: bool) -> Self {
        Self {
            year: None,
            of_era,
            before_christ: false,
            month: None,
            day: None,
            day_of_year: None,
            hour: None,
            half_hour: None,
            afternoon: None,
            minute: 0,
            second: 0,
            fraction: 0,
            zone: None,
        }
    }

    pub(super) fn days(&self) -> Option<i64> {
        let year = match self.year {
            None => 1970,
            Some(year) if self.of_era && year < 1 => return None,
            Some(year) if self.before_christ => 1 - year,
            Some(year) => year,
        };
        // Beyond this no timestamp reaches.
        if !(-300_000..=300_000).contains(&year) {
            return None;
        }
        match self.day_of_year {
            Some(day) if self.month.is_none() && self.day.is_none() => {
                let last = days(year, 12, 31)?;
                let found = days(year, 1, 1)? + i64::from(day) - 1;
                (day >= 1 && found <= last).then_some(found)
            }
            _ => days(year, self.month.unwrap_or(1), self.day.unwrap_or(1)),
        }
    }

    pub(super) fn local(&self) -> Option<i64> {
        let hour = match (self.hour, self.half_hour) {
            (Some(hour), _) => hour,
            (None, Some(hour)) => hour + if self.afternoon == Some(true) { 12 } else { 0 },
            (None, None) if self.afternoon == Some(true) => 12,
            (None, None) => 0,
        };
        let midnight = self.days()?.checked_mul(86_400_000_000)?;
        let of_day = micros(1970, 1, 1, hour, self.minute, self.second, self.fraction)?;
        midnight.checked_add(of_day)
    }

    fn set(&mut self, part: Part, value: i64) -> Option<()> {
        if part == Part::Year {
            self.year = Some(value);
            return Some(());
        }
        let value = u32::try_from(value).ok()?;
        match part {
            Part::Month => self.month = Some(value),
            Part::Day => self.day = Some(value),
            Part::DayOfYear => self.day_of_year = Some(value),
            Part::Hour => self.hour = Some(value),
            Part::HourOfDay if (1..=24).contains(&value) => self.hour = Some(value % 24),
            Part::HourOfHalf if (1..=12).contains(&value) => self.half_hour = Some(value % 12),
            Part::HourOfHalf0 if value < 12 => self.half_hour = Some(value),
            Part::Minute => self.minute = value,
            Part::Second => self.second = value,
            _ => return None,
        }
        Some(())
    }
}

/// Reads items off the front of `text`; gives what they say and the text behind them.
pub(super) fn items<'a>(
    items: &[Item],
    mut text: &'a str,
    mut fields: Fields,
) -> Option<(Fields, &'a str)> {
    for (at, item) in items.iter().enumerate() {
        match item {
            Item::Literal(literal) => {
                let (head, rest) = text.split_at_checked(literal.len())?;
                if !head.eq_ignore_ascii_case(literal) {
                    return None;
                }
                text = rest;
            }
            Item::Optional(inner) => {
                if let Some((found, rest)) = self::items(inner, text, fields) {
                    (fields, text) = (found, rest);
                }
            }
            Item::Number(part, least, most) => {
                let reserved = reserved(&items[at + 1..]);
                let (value, rest) = number(text, *part, *least, *most, reserved)?;
                text = rest;
                fields.set(*part, value)?;
            }
            Item::ShortYear => {
                let (value, rest) = digits(text, 2, 2)?;
                fields.year = Some(2000 + value);
                text = rest;
            }
            Item::Fraction(most) => {
                let (value, rest) = digits(text, 1, *most)?;
                let length = text.len() - rest.len();
                let nanos = value * 10_i64.pow(9 - length as u32);
                fields.fraction = (nanos / 1000) as u32;
                text = rest;
            }
            Item::Name(name, full) => {
                let (index, rest) = word(text, *name, *full)?;
                text = rest;
                match name {
                    Name::Month => fields.month = Some(index as u32 + 1),
                    Name::Half => fields.afternoon = Some(index == 1),
                    Name::Era => fields.before_christ = index == 0,
                    // Patterns with these are not for reading.
                    Name::Day | Name::Quarter => return None,
                }
            }
            Item::Offset(form) => {
                let (seconds, rest) = offset(text, *form)?;
                fields.zone = Some(Zone::Fixed(seconds));
                text = rest;
            }
            Item::LocalOffset(_) => {
                let rest = text.strip_prefix("GMT")?;
                let length = zone_length(rest, false);
                let zone = if length == 0 {
                    Zone::UTC
                } else {
                    Zone::parse(&rest[..length])?
                };
                fields.zone = Some(zone);
                text = &rest[length..];
            }
            Item::ZoneId | Item::ZoneName => {
                let (name, rest) = text.split_at(zone_length(text, true));
                fields.zone = Some(named_zone(name, *item == Item::ZoneName)?);
                text = rest;
            }
        }
    }
    Some((fields, text))
}

/// How many digits the numbers of fixed width at the start of `items` take: a number of any width
/// before them leaves them.
fn reserved(items: &[Item]) -> usize {
    let widths = items.iter().map_while(|item| match item {
        Item::Number(_, least, most) if least == most => Some(*least),
        Item::ShortYear => Some(2),
        _ => None,
    });
    widths.sum()
}

/// A number with at least and at most so many digits, of which `reserved` are left.
fn number(
    text: &str,
    part: Part,
    least: usize,
    most: usize,
    reserved: usize,
) -> Option<(i64, &str)> {
    let sign = match text.as_bytes().first() {
        Some(sign @ (b'-' | b'+')) if part == Part::Year => Some(*sign),
        _ => None,
    };
    let unsigned = &text[usize::from(sign.is_some())..];
    let most = if least == most {
        most
    } else {
        let there = unsigned.bytes().take_while(u8::is_ascii_digit).count();
        most.min(there.saturating_sub(reserved)).max(least)
    };
    let (value, rest) = digits(unsigned, least, most)?;
    let length = unsigned.len() - rest.len();
    // Four letters and more: a plus sign stands before years that are longer, and only there.
    let longer = least >= 4 && length > least;
    match sign {
        Some(b'-') => Some((-value, rest)),
        Some(_) => longer.then_some((value, rest)),
        None => (!longer).then_some((value, rest)),
    }
}

fn digits(text: &str, least: usize, most: usize) -> Option<(i64, &str)> {
    let there = text.bytes().take(most).take_while(u8::is_ascii_digit);
    let length = there.count();
    if length < least || length == 0 {
        return None;
    }
    Some((text[..length].parse().ok()?, &text[length..]))
}

/// The index of the name that `text` begins with.
fn word(text: &str, name: Name, full: bool) -> Option<(usize, &str)> {
    (0..names(name)).find_map(|index| {
        let word = name_of(name, full, index);
        let (head, rest) = text.split_at_checked(word.len())?;
        head.eq_ignore_ascii_case(word).then_some((index, rest))
    })
}

fn offset(text: &str, form: OffsetForm) -> Option<(i32, &str)> {
    if form.zero == "Z"
        && let Some(rest) = text.strip_prefix(['Z', 'z'])
    {
        return Some((0, rest));
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, mut rest) = digits(&text[1..], 2, 2)?;
    let part = |optional: bool, rest: &mut &str| -> Option<i64> {
        let behind = if form.colons {
            rest.strip_prefix(':')
        } else {
            Some(*rest)
        };
        match behind.and_then(|behind| digits(behind, 2, 2)) {
            Some((value, after)) if value < 60 => {
                *rest = after;
                Some(value)
            }
            None if optional => Some(0),
            _ => None,
        }
    };
    let minutes = part(form.short, &mut rest)?;
    let seconds = if form.seconds {
        part(true, &mut rest)?
    } else {
        0
    };
    let distance = i32::try_from(hours * 3600 + minutes * 60 + seconds).ok()?;
    (distance <= 18 * 3600).then_some((sign * distance, rest))
}

fn zone_length(text: &str, letters: bool) -> usize {
    text.bytes()
        .take_while(|byte| {
            byte.is_ascii_digit()
                || matches!(byte, b'+' | b'-' | b':')
                || letters && (byte.is_ascii_alphabetic() || matches!(byte, b'/' | b'_'))
        })
        .count()
}

/// The zone of an identifier, or of an abbreviation that people write.
fn named_zone(name: &str, abbreviated: bool) -> Option<Zone> {
    const ABBREVIATIONS: [(&str, &str); 14] = [
        ("EST", "America/New_York"),
        ("EDT", "America/New_York"),
        ("CST", "America/Chicago"),
        ("CDT", "America/Chicago"),
        ("MST", "America/Denver"),
        ("MDT", "America/Denver"),
        ("PST", "America/Los_Angeles"),
        ("PDT", "America/Los_Angeles"),
        ("CEST", "Europe/Paris"),
        ("EEST", "Europe/Bucharest"),
        ("BST", "Europe/London"),
        ("MSK", "Europe/Moscow"),
        ("IST", "Asia/Kolkata"),
        ("JST", "Asia/Tokyo"),
    ];
    let known = ABBREVIATIONS
        .iter()
        .find(|(short, _)| abbreviated && short.eq_ignore_ascii_case(name));
    Zone::parse(known.map_or(name, |(_, zone)| zone))
}
