//! Spark's datetime patterns (`yyyy-MM-dd HH:mm:ss`), for reading and for writing.
//!
//! The letters of `java.time.format.DateTimeFormatter` that Spark takes, quoted text and optional
//! sections in brackets. Reading is strict as in Spark: a letter's count is the number of its
//! digits, but a fraction may have fewer digits than its pattern has letters. Names are English.
//!
//! | module | what it does |
//! |---|---|
//! | `parse` | a pattern's text to its items; what is refused |
//! | `read` | text to a moment |
//! | [`write`] | a moment to text |

mod parse;
mod read;
mod write;

use std::fmt;

use super::zone::Zone;

/// A number of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Proleptic; with an era in the pattern the year of that.
    Year,
    Month,
    Quarter,
    Day,
    DayOfYear,
    /// Which seven days of the month, from 1.
    AlignedWeek,
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

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Month,
    Quarter,
    Day,
    Era,
    /// AM or PM.
    Half,
}

/// How a distance from UTC is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OffsetForm {
    /// Whether a colon stands between the parts.
    colons: bool,
    /// Whether minutes may be left out where there are none.
    short: bool,
    /// Whether seconds are written where there are some.
    seconds: bool,
    /// What stands for no distance at all.
    zero: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    /// Between so many and so many digits.
    Number(Part, usize, usize),
    /// Two digits from 2000 on.
    ShortYear,
    /// A name, in full or abbreviated.
    Name(Name, bool),
    /// The digits of the second behind its point.
    Fraction(usize),
    Offset(OffsetForm),
    /// `GMT+8`, or in full `GMT+08:00`.
    LocalOffset(bool),
    /// The zone's identifier.
    ZoneId,
    /// The zone's name: `EST`.
    ZoneName,
    Literal(String),
    Optional(Vec<Self>),
}

/// A pattern, ready to read and write with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    items: Vec<Item>,
    /// Whether there is an era, so that years are counted within it.
    era: bool,
}

/// Why a pattern is refused. The text begins with the name of Spark's error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// Spark 2 took it with another meaning.
    Unrecognized(String),
    /// Letters that count by weeks.
    WeekBased(char),
    /// A letter that there is no meaning for.
    Illegal(char, String),
    /// It is none at all, for this reason.
    Invalid(String, String),
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unrecognized(pattern) => write!(
                f,
                "[INCONSISTENT_BEHAVIOR_CROSS_VERSION.DATETIME_PATTERN_RECOGNITION] the pattern '{pattern}' has letters that are not taken, such as w, Y, u, or too many of a kind; write it with G y M d D E a H h k K m s S"
            ),
            Self::WeekBased(letter) => write!(
                f,
                "[INCONSISTENT_BEHAVIOR_CROSS_VERSION.DATETIME_WEEK_BASED_PATTERN] the letter '{letter}' of a pattern counts by weeks; use extract(WEEK FROM ...) instead"
            ),
            Self::Illegal(letter, pattern) => write!(
                f,
                "[INVALID_DATETIME_PATTERN.ILLEGAL_CHARACTER] the letter '{letter}' is not taken in the pattern '{pattern}'; use quotes around text"
            ),
            Self::Invalid(pattern, why) => write!(
                f,
                "[INVALID_DATETIME_PATTERN.WITH_SUGGESTION] '{pattern}' is no datetime pattern: {why}; use a pattern such as 'yyyy-MM-dd HH:mm:ss'"
            ),
        }
    }
}

impl Pattern {
    /// A pattern to read with.
    pub fn for_reading(text: &str) -> Result<Self, PatternError> {
        parse::pattern(text, true)
    }

    /// A pattern to write with.
    pub fn for_writing(text: &str) -> Result<Self, PatternError> {
        parse::pattern(text, false)
    }

    /// The microseconds since 1970 UTC of a timestamp in `zone`, or in its own where the pattern
    /// has one; `None` where the text does not follow the pattern.
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

    fn read(&self, text: &str) -> Option<read::Fields> {
        let (fields, rest) = read::items(&self.items, text, read::Fields::new(self.era))?;
        rest.is_empty().then_some(fields)
    }

    /// Appends an instant, in microseconds since 1970 UTC, as a clock in `zone` shows it; `None`
    /// where it is out of range.
    pub fn write(&self, micros: i64, zone: Zone, out: &mut String) -> Option<()> {
        let offset = zone.offset(micros)?;
        let local = micros.checked_add(i64::from(offset) * super::zone::SECOND)?;
        let moment = write::Moment::new(local, micros, offset, zone, self.era);
        write::items(&self.items, &moment, out)
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
const QUARTERS: [&str; 4] = ["1st quarter", "2nd quarter", "3rd quarter", "4th quarter"];
const SHORT_QUARTERS: [&str; 4] = ["Q1", "Q2", "Q3", "Q4"];
const ERAS: [&str; 2] = ["Before Christ", "Anno Domini"];
const SHORT_ERAS: [&str; 2] = ["BC", "AD"];
const HALVES: [&str; 2] = ["AM", "PM"];

/// The name with this index.
fn name_of(name: Name, full: bool, index: usize) -> &'static str {
    match (name, full) {
        (Name::Month, true) => MONTHS[index],
        (Name::Month, false) => &MONTHS[index][..3],
        (Name::Day, true) => DAYS[index],
        (Name::Day, false) => &DAYS[index][..3],
        (Name::Quarter, true) => QUARTERS[index],
        (Name::Quarter, false) => SHORT_QUARTERS[index],
        (Name::Era, true) => ERAS[index],
        (Name::Era, false) => SHORT_ERAS[index],
        (Name::Half, _) => HALVES[index],
    }
}

/// How many names of a kind there are.
fn names(name: Name) -> usize {
    match name {
        Name::Month => 12,
        Name::Day => 7,
        Name::Quarter => 4,
        Name::Era | Name::Half => 2,
    }
}

/// The name of a month (1 to 12) in three letters.
pub fn short_month(month: u32) -> &'static str {
    name_of(Name::Month, false, month as usize - 1)
}

/// The name of a day of the week (0 for Monday) in three letters.
pub fn short_day(weekday: u32) -> &'static str {
    name_of(Name::Day, false, weekday as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pattern: &str, text: &str) -> Option<i64> {
        Pattern::for_reading(pattern)
            .expect("a pattern")
            .timestamp(text, Zone::UTC)
    }

    const NOON: i64 = 1_767_268_800_000_000;

    #[test]
    fn common_patterns_are_read() {
        let cases = [
            ("yyyy-MM-dd HH:mm:ss", "2026-01-01 12:00:00", NOON),
            ("dd/MM/yyyy HH:mm", "01/01/2026 12:00", NOON),
            ("yyyyMMddHHmmss", "20260101120000", NOON),
            ("d MMM yyyy, h:mm a", "1 Jan 2026, 12:00 PM", NOON),
            (
                "yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
                "2026-01-01T14:00:00.5+02:00",
                NOON + 500_000,
            ),
            (
                "yyyy-MM-dd'T'HH:mm:ss[.SSS][XXX]",
                "2026-01-01T12:00:00",
                NOON,
            ),
            (
                "d MMMM yyyy HH:mm:ss z",
                "1 January 2026 12:00:00 UTC",
                NOON,
            ),
            ("yy-M-d H", "26-1-1 12", NOON),
        ];
        for (pattern, text, micros) in cases {
            assert_eq!(read(pattern, text), Some(micros), "{pattern}");
        }
    }

    #[test]
    fn text_that_does_not_fit_is_refused() {
        let cases = [
            ("yyyy-MM-dd", "2026-1-01"),
            ("yyyy-MM-dd", "2026-01-01x"),
            ("yyyy-MM-dd", "2026-02-30"),
            ("h:mm a", "13:00 PM"),
            ("yyyyMMddHHmmssSSS", "20260101120000123"),
            ("yyyy", "12026"),
            ("VV", "ü"),
            ("a", "ü"),
        ];
        for (pattern, text) in cases {
            assert_eq!(read(pattern, text), None, "{pattern}: {text}");
        }
    }

    #[test]
    fn a_pattern_that_is_refused_says_why() {
        let why = |text: &str| Pattern::for_reading(text).unwrap_err().to_string();
        assert!(why("yyyy-ww").contains("PATTERN_RECOGNITION"));
        assert!(why("yyyy-MM-dd'T").contains("quote"));
        assert!(why("yyyyB").contains("'B'"));
        assert!(Pattern::for_reading("yyyy[-MM").is_ok());
    }
}
