//! Lengths of time, moments and numbers as people read them.

use crate::runtime::clock::iso;
use crate::time::EventTime;

/// Lines are broken here.
const WIDTH: usize = 110;

const UNITS: [(u64, &str); 6] = [
    (31_556_952_000_000, "year"),
    (86_400_000_000, "day"),
    (3_600_000_000, "hour"),
    (60_000_000, "minute"),
    (1_000_000, "second"),
    (1_000, "millisecond"),
];

/// A length of time in microseconds, in its two greatest units.
pub(super) fn span(micros: i64) -> String {
    let mut rest = micros.unsigned_abs();
    let first = UNITS.iter().position(|(unit, _)| rest >= *unit);
    let Some(first) = first else {
        return "no time".into();
    };
    let mut words = Vec::new();
    for (unit, word) in &UNITS[first..UNITS.len().min(first + 2)] {
        let count = rest / unit;
        rest %= unit;
        if count > 0 {
            words.push(counted(count, word));
        }
    }
    words.join(" ")
}

/// `4 minutes ago`.
pub(super) fn ago(micros: i64) -> String {
    if micros < 1_000_000 {
        "just now".into()
    } else {
        // Nobody wants to know the milliseconds.
        format!("{} ago", span(micros / 1_000_000 * 1_000_000))
    }
}

/// `2026-01-01T12:00:00Z`; what is less than a second is shown where there is any.
pub(super) fn moment(at: EventTime) -> String {
    iso(at).replace(".000Z", "Z")
}

/// `1,234`.
pub(super) fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 row`, `2 rows`.
pub(super) fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {what}{plural}", number(count))
}

/// With a small first letter, as it stands in the middle of a sentence.
pub(super) fn uncapital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().into_iter().flat_map(char::to_lowercase);
    first.chain(chars).collect()
}

/// A paragraph in lines that are not too long, those after the first indented as far as `mark` is long.
pub(super) fn wrapped(mark: &str, text: &str) -> String {
    let mut out = String::new();
    let mut line = mark.to_owned();
    let indent = " ".repeat(mark.len());
    for word in text.split(' ') {
        let is_empty = line.len() == mark.len();
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            line.clone_from(&indent);
        } else if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
    }
    out + line.trim_end() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_numbers_read_as_words() {
        assert_eq!(span(252_000_000), "4 minutes 12 seconds");
        assert_eq!(span(3_600_000_000), "1 hour");
        assert_eq!(span(73 * 31_556_952_000_000 + 1), "73 years");
        assert_eq!(span(1_500_000), "1 second 500 milliseconds");
        assert_eq!(span(9), "no time");
        assert_eq!(
            (ago(999_999), ago(1_999_999)),
            ("just now".into(), "1 second ago".into())
        );
        assert_eq!(counted(1_234_567, "row"), "1,234,567 rows");
        assert_eq!(counted(1, "row"), "1 row");
        assert_eq!(number(123), "123");
    }

    #[test]
    fn long_paragraphs_are_broken_under_their_mark() {
        let text = "word ".repeat(30);
        let out = wrapped("  - ", text.trim_end());
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("  - word") && lines[0].len() <= WIDTH);
        assert!(lines[1].starts_with("    word"));
    }
}
