//! A pattern's text to its items.

use super::{Item, Name, OffsetForm, Part, Pattern, PatternError};

/// Letters that count by weeks.
const WEEKS: &str = "YWwuec";
/// Letters that Spark never takes.
const NEVER: &str = "ABnNp";
/// Letters that Spark does not take for reading.
const NOT_READ: &str = "EFqQ";
/// Letters of `java.text.SimpleDateFormat`, by which Spark 2 went.
const LEGACY: &str = "GyYMLwWDdFEuaHkKhmsSzZX";

/// Reads a pattern, by `java.time`'s rules and Spark's on top of them.
pub(super) fn pattern(text: &str, reading: bool) -> Result<Pattern, PatternError> {
    let era = letters_of(text).any(|letter| letter == 'G');
    let letters: Vec<char> = text.chars().collect();
    let parsed = refuse_letters(text, reading).and_then(|()| {
        let mut at = 0;
        items(&letters, &mut at, 0).map_err(|why| PatternError::Invalid(text.into(), why))
    });
    match parsed {
        Ok(items) => Ok(Pattern { items, era }),
        // What Spark 2 would have read otherwise is an error of its own.
        Err(_) if is_legacy(text) => Err(PatternError::Unrecognized(text.into())),
        Err(error) => Err(error),
    }
}

/// The letters outside of quotes.
fn letters_of(text: &str) -> impl Iterator<Item = char> {
    text.split('\'').step_by(2).flat_map(str::chars)
}

fn refuse_letters(text: &str, reading: bool) -> Result<(), PatternError> {
    if let Some(letter) = letters_of(text).find(|letter| WEEKS.contains(*letter)) {
        return Err(PatternError::WeekBased(letter));
    }
    let refused = |letter: &char| NEVER.contains(*letter) || reading && NOT_READ.contains(*letter);
    match letters_of(text).find(refused) {
        Some(letter) => Err(PatternError::Illegal(letter, text.into())),
        None => Ok(()),
    }
}

/// Whether `SimpleDateFormat` takes the pattern.
fn is_legacy(text: &str) -> bool {
    let closed = text.matches('\'').count().is_multiple_of(2);
    closed
        && letters_of(text).all(|letter| !letter.is_ascii_alphabetic() || LEGACY.contains(letter))
        && !text.contains("XXXX")
}

/// How deep optional sections may lie within each other.
const DEEPEST: usize = 32;

fn items(letters: &[char], at: &mut usize, depth: usize) -> Result<Vec<Item>, String> {
    if depth > DEEPEST {
        return Err(format!(
            "more than {DEEPEST} optional sections lie within each other"
        ));
    }
    let mut found = Vec::new();
    while let Some(&letter) = letters.get(*at) {
        match letter {
            '[' => {
                *at += 1;
                found.push(Item::Optional(items(letters, at, depth + 1)?));
            }
            ']' if depth > 0 => {
                *at += 1;
                return Ok(found);
            }
            ']' => return Err("it has ']' without '['".into()),
            '{' | '}' | '#' => return Err(format!("'{letter}' is reserved")),
            '\'' => {
                *at += 1;
                push_literal(&mut found, &quoted(letters, at)?);
            }
            'a'..='z' | 'A'..='Z' => {
                let count = letters[*at..].iter().take_while(|l| **l == letter).count();
                *at += count;
                found.push(item(letter, count)?);
            }
            other => {
                *at += 1;
                push_literal(&mut found, other.encode_utf8(&mut [0; 4]));
            }
        }
    }
    // A section that is not closed ends with the pattern.
    Ok(found)
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
    Err("a quote is not closed".into())
}

/// The most digits of a number whose letters do not say.
const ANY_DIGITS: usize = 19;

fn item(letter: char, count: usize) -> Result<Item, String> {
    let number = |part, most_letters: usize| match count {
        1 => Some(Item::Number(part, 1, ANY_DIGITS)),
        _ if count <= most_letters => Some(Item::Number(part, count, count)),
        _ => None,
    };
    let named =
        |name, most_letters: usize| (count <= most_letters).then_some(Item::Name(name, count >= 4));
    let offset = |letters, zero| {
        Some(Item::Offset(OffsetForm {
            colons: matches!(letters, 3 | 5),
            short: letters == 1,
            seconds: letters >= 4,
            zero,
        }))
    };
    let found = match (letter, count) {
        ('y', 2) => Some(Item::ShortYear),
        ('y', 1..=6) => Some(Item::Number(Part::Year, count, ANY_DIGITS)),
        ('M' | 'L', 1 | 2) => number(Part::Month, 2),
        ('M' | 'L', _) => named(Name::Month, 4),
        ('Q' | 'q', 1 | 2) => number(Part::Quarter, 2),
        ('Q' | 'q', _) => named(Name::Quarter, 4),
        ('D', 2) => Some(Item::Number(Part::DayOfYear, 2, 3)),
        ('D', _) => number(Part::DayOfYear, 3),
        ('d', _) => number(Part::Day, 2),
        ('F', _) => number(Part::AlignedWeek, 1),
        ('H', _) => number(Part::Hour, 2),
        ('k', _) => number(Part::HourOfDay, 2),
        ('h', _) => number(Part::HourOfHalf, 2),
        ('K', _) => number(Part::HourOfHalf0, 2),
        ('m', _) => number(Part::Minute, 2),
        ('s', _) => number(Part::Second, 2),
        ('S', 1..=9) => Some(Item::Fraction(count)),
        ('G', _) => named(Name::Era, 4),
        ('E', _) => named(Name::Day, 4),
        ('a', _) => named(Name::Half, 1),
        ('X', 1..=5) => offset(count, "Z"),
        ('x', 1) => offset(1, "+00"),
        ('x', 3 | 5) => offset(count, "+00:00"),
        ('x', 2 | 4) | ('Z', 1..=3) => offset(count.max(2) & !1, "+0000"),
        ('Z', 5) => offset(5, "Z"),
        ('Z' | 'O', 4) => Some(Item::LocalOffset(true)),
        ('O', 1) => Some(Item::LocalOffset(false)),
        ('V', 2) => Some(Item::ZoneId),
        ('z', 1..=3) => Some(Item::ZoneName),
        ('z', 4) => {
            return Err(
                "the full name of a zone ('zzzz') is not there yet: write 'z' or 'VV'".into(),
            );
        }
        _ => None,
    };
    found.ok_or_else(|| format!("'{letter}' does not stand {count} times"))
}
