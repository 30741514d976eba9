//! JSON values written again as Jackson does: without white space, floats as Java prints them.

use super::scanner::{NumberKind, Scan, Scanner, unescape};
use crate::sinks::java_double;
use crate::sinks::json::string as json_string;

/// Appends the value that comes next, which is read.
pub(super) fn copy(scanner: &mut Scanner<'_>, out: &mut String) -> Scan<()> {
    match scanner.peek() {
        Some(b'{') => {
            out.push('{');
            scanner.enter()?;
            if !scanner.closes(b'}') {
                loop {
                    string(scanner.key()?.raw, out);
                    scanner.colon()?;
                    out.push(':');
                    copy(scanner, out)?;
                    if !scanner.another(b'}')? {
                        break;
                    }
                    out.push(',');
                }
            }
            out.push('}');
        }
        Some(b'[') => {
            out.push('[');
            scanner.enter()?;
            if !scanner.closes(b']') {
                loop {
                    copy(scanner, out)?;
                    if !scanner.another(b']')? {
                        break;
                    }
                    out.push(',');
                }
            }
            out.push(']');
        }
        Some(b'"' | b'\'') => string(scanner.string()?.raw, out),
        Some(b't' | b'f' | b'n') => {
            let start = scanner.at;
            scanner.skip()?;
            push_text(scanner.since(start), out);
        }
        _ => {
            let number = scanner.number()?;
            let text = std::str::from_utf8(number.raw).unwrap_or_default();
            match (number.kind, text.parse::<f64>()) {
                (NumberKind::Float, Ok(value)) if value.is_finite() => {
                    java_double(out, value);
                }
                (NumberKind::Integer, _) => out.push_str(text),
                (_, parsed) => {
                    let name = match parsed {
                        Ok(value) if value > 0.0 => "Infinity",
                        Ok(value) if value < 0.0 => "-Infinity",
                        _ => text,
                    };
                    json_string(out, name);
                }
            }
        }
    }
    Ok(())
}

/// Appends the text of a scalar without quotes, and anything else as [`copy`] does; `false` and
/// nothing for null.
pub(super) fn plain(scanner: &mut Scanner<'_>, out: &mut String) -> Scan<bool> {
    match scanner.peek() {
        Some(b'n') => scanner.word(b"null").map(|()| false),
        Some(b'"' | b'\'') => {
            let mut text = Vec::new();
            unescape(scanner.string()?.raw, &mut text);
            push_text(&text, out);
            Ok(true)
        }
        _ => copy(scanner, out).map(|()| true),
    }
}

/// Appends bytes that are text: what is no UTF-8 becomes U+FFFD.
pub(super) fn push_text(bytes: &[u8], out: &mut String) {
    out.push_str(&String::from_utf8_lossy(bytes));
}

/// A string with its quotes, from what stood between them.
fn string(raw: &[u8], out: &mut String) {
    let mut text = Vec::with_capacity(raw.len());
    unescape(raw, &mut text);
    json_string(out, &String::from_utf8_lossy(&text));
}
