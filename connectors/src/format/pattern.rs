//! Spark's datetime patterns (`yyyy-MM-dd HH:mm:ss`), for reading.
//!
//! The common letters of `java.time.format.DateTimeFormatter`: `y u M L d H k h K m s S a E D X x Z
//! z V O`, quoted text and optional sections in brackets. A fraction may have fewer digits than its
//! pattern has letters, as in Spark.

use super::datetime::{days, micros};
use super::zone::Zone;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Year,
    Month,
    Day,
    DayOfYear,
    Hour,
    /// 1 to 24.
    HourOfDay,
    /// 1 to 12, with `a`.
    HourOfHalf,
    /// 0 to 11, with `a`.
    HourOfHalf0,
    Minute,
    Second,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    /// Between so many and so many digits.
    Number(Part, usize, usize),
    /// Two digits from 2000 on.
    ShortYear,
    MonthName,
    DayName,
    Half,
    Fraction(usize),
    Zone,
    Literal(String),
    Optional(Vec<Self>),
}

/// A pattern, ready to read with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    items: Vec<Item>,
}

#[derive(Clone, Copy, Default)]
struct Fields {
    year: Option<i64>,
    month: Option<u32>,
    day: Option<u32>,
    day_of_year: Option<u32>,
    hour: Option<u32>,
    half_hour: Option<u32>,
    afternoon: Option<bool>,
    minute: u32,
    second: u32,
    fraction: u32,
    zone: Option<Zone>,
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const DAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

impl Pattern {
    /// Reads a pattern; the error says which part of it is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let letters: Vec<char> = text.chars().collect();
        let mut at = 0;
        let items = parse_items(&letters, &mut at, 0)?;
        Ok(Self { items })
    }

    /// The microseconds since 1970 UTC of a timestamp in `zone`, or in its own where the pattern
    /// has one.
    pub fn timestamp(&self, text: &str, zone: Zone) -> Option<i64> {
        let fields = self.read(text)?;
        fields.zone.unwrap_or(zone).to_utc(fields.local()?)
    }

    /// The microseconds on the wall clock of a timestamp without a zone.
    pub fn timestamp_ntz(&self, text: &str) -> Option<i64> {
        self.read(text)?.local()
    }

    /// The days since 1970 of a date.
    pub fn date(&self, text: &str) -> Option<i32> {
        i32::try_from(self.read(text)?.days()?).ok()
    }

    fn read(&self, text: &str) -> Option<Fields> {
        let (fields, rest) = read_items(&self.items, text, Fields::default())?;
        rest.is_empty().then_some(fields)
    }
}

impl Fields {
    fn days(&self) -> Option<i64> {
        let year = self.year.unwrap_or(1970);
        match self.day_of_year {
            Some(day) if self.month.is_none() && self.day.is_none() => {
                let last = days(year, 12, 31)?;
                let found = days(year, 1, 1)? + i64::from(day) - 1;
                (day >= 1 && found <= last).then_some(found)
            }
            _ => days(year, self.month.unwrap_or(1), self.day.unwrap_or(1)),
        }
    }

    fn local(&self) -> Option<i64> {
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
}

/// How deep optional parts may be nested.
const DEEPEST: usize = 32;

fn parse_items(letters: &[char], at: &mut usize, depth: usize) -> Result<Vec<Item>, String> {
    if depth > DEEPEST {
        return Err(format!("more than {DEEPEST} optional parts within each other"));
    }
    let mut items = Vec::new();
    while let Some(&letter) = letters.get(*at) {
        match letter {
            '[' => {
                *at += 1;
                items.push(Item::Optional(parse_items(letters, at, depth + 1)?));
            }
            ']' if depth > 0 => {
                *at += 1;
                return Ok(items);
            }
            ']' => return Err("']' without '['".into()),
            '\'' => {
                *at += 1;
                push_literal(&mut items, &quoted(letters, at)?);
            }
            'a'..='z' | 'A'..='Z' => {
                let count = letters[*at..].iter().take_while(|l| **l == letter).count();
                *at += count;
                items.push(item(letter, count)?);
            }
            other => {
                *at += 1;
                push_literal(&mut items, &other.to_string());
            }
        }
    }
    if depth > 0 {
        Err("'[' without ']'".into())
    } else {
        Ok(items)
    }
}

fn push_literal(items: &mut Vec<Item>, text: &str) {
    if let Some(Item::Literal(before)) = items.last_mut() {
        before.push_str(text);
    } else {
        items.push(Item::Literal(text.into()));
    }
}

/// The text up to the closing quote; two quotes are one.
fn quoted(letters: &[char], at: &mut usize) -> Result<String, String> {
    if letters.get(*at) == Some(&'\'') {
        *at += 1;
        return Ok("'".into());
    }
    let mut text = String::new();
    while let Some(&letter) = letters.get(*at) {
        *at += 1;
        if letter != '\'' {
            text.push(letter);
        } else if letters.get(*at) == Some(&'\'') {
            *at += 1;
            text.push('\'');
        } else {
            return Ok(text);
        }
    }
    Err("a quote that is not closed".into())
}

fn item(letter: char, count: usize) -> Result<Item, String> {
    let part = match letter {
        'y' | 'u' if count == 2 => return Ok(Item::ShortYear),
        'y' | 'u' => return Ok(Item::Number(Part::Year, count.max(1), count.max(9))),
        'M' | 'L' if count >= 3 => return Ok(Item::MonthName),
        'E' => return Ok(Item::DayName),
        'a' => return Ok(Item::Half),
        'S' if count <= 9 => return Ok(Item::Fraction(count)),
        'X' | 'x' | 'Z' | 'z' | 'V' | 'O' | 'v' => return Ok(Item::Zone),
        'D' if count <= 3 => return Ok(Item::Number(Part::DayOfYear, count, 3)),
        'M' | 'L' => Part::Month,
        'd' => Part::Day,
        'H' => Part::Hour,
        'k' => Part::HourOfDay,
        'h' => Part::HourOfHalf,
        'K' => Part::HourOfHalf0,
        'm' => Part::Minute,
        's' => Part::Second,
        _ => {
            return Err(format!(
                "the letter '{letter}' is not supported for reading"
            ));
        }
    };
    if count > 2 {
        return Err(format!(
            "'{letter}' stands {count} times, at most 2 make sense"
        ));
    }
    Ok(Item::Number(part, count, 2))
}

fn read_items<'a>(
    items: &[Item],
    mut text: &'a str,
    mut fields: Fields,
) -> Option<(Fields, &'a str)> {
    for (at, item) in items.iter().enumerate() {
        match item {
            Item::Literal(literal) => text = text.strip_prefix(literal.as_str())?,
            Item::Optional(inner) => {
                if let Some((found, rest)) = read_items(inner, text, fields) {
                    (fields, text) = (found, rest);
                }
            }
            Item::Number(part, least, most) => {
                // Numbers side by side have the width of their letters, as in `yyyyMMdd`.
                let adjacent = matches!(
                    items.get(at + 1),
                    Some(Item::Number(..) | Item::Fraction(_) | Item::ShortYear)
                );
                let (value, rest) = digits(text, *least, if adjacent { *least } else { *most })?;
                text = rest;
                fields.set(*part, value)?;
            }
            Item::ShortYear => {
                let (value, rest) = digits(text, 2, 2)?;
                fields.year = Some(2000 + i64::from(value));
                text = rest;
            }
            Item::Fraction(most) => {
                let length = text
                    .bytes()
                    .take(*most)
                    .take_while(u8::is_ascii_digit)
                    .count();
                let (value, rest) = digits(text, 1, *most)?;
                text = rest;
                let nanos = u64::from(value) * 10_u64.pow(9 - length as u32);
                fields.fraction = (nanos / 1000) as u32;
            }
            Item::MonthName => {
                let (index, rest) = name(text, &MONTHS)?;
                fields.month = Some(index as u32 + 1);
                text = rest;
            }
            Item::DayName => text = name(text, &DAYS)?.1,
            Item::Half => {
                let half = text.get(..2)?.to_ascii_lowercase();
                fields.afternoon = Some(match half.as_str() {
                    "am" => false,
                    "pm" => true,
                    _ => return None,
                });
                text = &text[2..];
            }
            Item::Zone => {
                let length = text
                    .bytes()
                    .take_while(|b| {
                        b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b':' | b'/' | b'_')
                    })
                    .count();
                fields.zone = Some(Zone::parse(&text[..length])?);
                text = &text[length..];
            }
        }
    }
    Some((fields, text))
}

impl Fields {
    fn set(&mut self, part: Part, value: u32) -> Option<()> {
        match part {
            Part::Year => self.year = Some(i64::from(value)),
            Part::Month => self.month = Some(value),
            Part::Day => self.day = Some(value),
            Part::DayOfYear => self.day_of_year = Some(value),
            Part::Hour => self.hour = Some(value),
            Part::HourOfDay if (1..=24).contains(&value) => self.hour = Some(value % 24),
            Part::HourOfHalf if (1..=12).contains(&value) => self.half_hour = Some(value % 12),
            Part::HourOfHalf0 if value < 12 => self.half_hour = Some(value),
            Part::Minute => self.minute = value,
            Part::Second => self.second = value,
            Part::HourOfDay | Part::HourOfHalf | Part::HourOfHalf0 => return None,
        }
        Some(())
    }
}

fn digits(text: &str, least: usize, most: usize) -> Option<(u32, &str)> {
    let length = text
        .bytes()
        .take(most)
        .take_while(u8::is_ascii_digit)
        .count();
    if length < least {
        return None;
    }
    Some((text[..length].parse().ok()?, &text[length..]))
}

/// The index of the name that `text` begins with, whole or by its first three letters.
fn name<'a>(text: &'a str, names: &[&str]) -> Option<(usize, &'a str)> {
    let letters = text.bytes().take_while(u8::is_ascii_alphabetic).count();
    let word = text[..letters].to_ascii_lowercase();
    let index = names
        .iter()
        .position(|name| word == *name || word == name[..3])?;
    Some((index, &text[letters..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pattern: &str, text: &str) -> Option<i64> {
        Pattern::parse(pattern)
            .expect("a pattern")
            .timestamp(text, Zone::UTC)
    }

    const NOON: i64 = 1_767_268_800_000_000;

    #[test]
    fn common_patterns_are_read() {
        assert_eq!(
            read("yyyy-MM-dd HH:mm:ss", "2026-01-01 12:00:00"),
            Some(NOON)
        );
        assert_eq!(read("dd/MM/yyyy HH:mm", "01/01/2026 12:00"), Some(NOON));
        assert_eq!(read("yyyyMMddHHmmss", "20260101120000"), Some(NOON));
        assert_eq!(
            read("d MMM yyyy, h:mm a", "1 Jan 2026, 12:00 PM"),
            Some(NOON)
        );
        assert_eq!(
            read(
                "yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
                "2026-01-01T14:00:00.5+02:00"
            ),
            Some(NOON + 500_000)
        );
        assert_eq!(
            read("yyyy-MM-dd'T'HH:mm:ss[.SSS][XXX]", "2026-01-01T12:00:00"),
            Some(NOON)
        );
        assert_eq!(
            read(
                "EEE, d MMMM yyyy HH:mm:ss z",
                "Thu, 1 January 2026 12:00:00 UTC"
            ),
            Some(NOON)
        );
        assert_eq!(read("yy-M-d H", "26-1-1 12"), Some(NOON));
    }

    #[test]
    fn text_that_does_not_fit_is_refused() {
        assert_eq!(read("yyyy-MM-dd", "2026-1-01"), None);
        assert_eq!(read("yyyy-MM-dd", "2026-01-01x"), None);
        assert_eq!(read("yyyy-MM-dd", "2026-02-30"), None);
        assert_eq!(read("h:mm a", "13:00 PM"), None);
    }

    #[test]
    fn a_pattern_that_is_not_understood_says_why() {
        assert!(Pattern::parse("yyyy-ww").unwrap_err().contains("'w'"));
        assert!(
            Pattern::parse("yyyy-MM-dd'T")
                .unwrap_err()
                .contains("quote")
        );
        assert!(Pattern::parse("yyyy[-MM").is_err());
    }
}
