//! Java's regular expressions in the syntax of the `regex` crate.
//!
//! What they name differently is translated: `\d`, `\w` and `\s` are ASCII's, `.` stops at every
//! line terminator, `\p{Lower}` and its like, `\Q..\E`, `\Z`, `\h`, `\uXXXX`. What the crate cannot
//! do in time linear in the text is refused by name: look-around, back-references, atomic groups,
//! possessive quantifiers. `$` is the very end of the text, and `(?i)` knows all of Unicode.

use std::iter::Peekable;
use std::str::Chars;

use datafusion::common::{Result, exec_datafusion_err};
use regex::Regex;

const DIGIT: &str = "0-9";
const WORD: &str = "A-Za-z0-9_";
const SPACE: &str = r" \t\n\x0B\x0C\r";
const HORIZONTAL: &str = r" \t\x{A0}\x{1680}\x{180E}\x{2000}-\x{200A}\x{202F}\x{205F}\x{3000}";
const VERTICAL: &str = r"\n\x0B\x0C\r\x{85}\x{2028}\x{2029}";
const NOT_DOT: &str = r"\n\r\x{85}\x{2028}\x{2029}";

/// The regular expression that Java's `pattern` is; the error names what is wrong or not there.
pub(super) fn compiled(pattern: &str) -> Result<Regex> {
    let invalid = |why: &str| {
        exec_datafusion_err!(
            "[INVALID_PARAMETER_VALUE.PATTERN] the regular expression '{pattern}' {why}"
        )
    };
    let translated = translated(pattern).map_err(|what| {
        invalid(&format!(
            "has {what}, which is not supported; use another pattern"
        ))
    })?;
    Regex::new(&translated).map_err(|error| {
        let text = error.to_string();
        let why = text.lines().last().unwrap_or_default();
        invalid(&format!(
            "is not valid: {}",
            why.trim_start_matches("error: ")
        ))
    })
}

/// The error is the name of what cannot be translated.
fn translated(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len() + 8);
    let dot_takes_all = dot_flag(pattern);
    let mut chars = pattern.chars().peekable();
    let mut classes = 0;
    while let Some(c) = chars.next() {
        match c {
            '\\' => escape(&mut chars, classes > 0, &mut out)?,
            '[' => {
                classes += 1;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
            }
            ']' if classes > 0 => {
                classes -= 1;
                out.push(']');
            }
            // Operators of the crate's classes, not of Java's.
            '~' if classes > 0 => out.push_str(r"\~"),
            '-' if classes > 0 && chars.peek() == Some(&'-') => out.push_str(r"\-"),
            _ if classes > 0 => out.push(c),
            '(' => {
                out.push('(');
                let ahead: String = chars.clone().take(3).collect();
                if let Some(kind) = ahead.strip_prefix('?') {
                    let what = match kind {
                        _ if kind.starts_with('=') => Some("look-ahead (?=..)"),
                        _ if kind.starts_with('!') => Some("negative look-ahead (?!..)"),
                        _ if kind.starts_with("<=") => Some("look-behind (?<=..)"),
                        _ if kind.starts_with("<!") => Some("negative look-behind (?<!..)"),
                        _ if kind.starts_with('>') => Some("an atomic group (?>..)"),
                        _ => None,
                    };
                    if let Some(what) = what {
                        return Err(what.into());
                    }
                }
            }
            '*' | '+' | '?' | '}' if chars.peek() == Some(&'+') => {
                return Err(format!("a possessive quantifier {c}+"));
            }
            '.' if !dot_takes_all => out.push_str(&format!("[^{NOT_DOT}]")),
            _ => out.push(c),
        }
    }
    Ok(out)
}

/// Whether an inline flag `s` lets the dot match line terminators.
fn dot_flag(pattern: &str) -> bool {
    pattern.match_indices("(?").any(|(at, _)| {
        let flags = pattern[at + 2..]
            .chars()
            .take_while(char::is_ascii_alphabetic);
        flags.into_iter().any(|flag| flag == 's')
    })
}

fn escape(chars: &mut Peekable<Chars<'_>>, in_class: bool, out: &mut String) -> Result<(), String> {
    let Some(c) = chars.next() else {
        out.push('\\');
        return Ok(());
    };
    let mut class = |members: &str, negated: bool| match (in_class, negated) {
        (true, false) => out.push_str(members),
        (_, true) => out.push_str(&format!("[^{members}]")),
        (false, false) => out.push_str(&format!("[{members}]")),
    };
    match c {
        'd' | 'D' => class(DIGIT, c == 'D'),
        'w' | 'W' => class(WORD, c == 'W'),
        's' | 'S' => class(SPACE, c == 'S'),
        'h' | 'H' => class(HORIZONTAL, c == 'H'),
        'v' | 'V' => class(VERTICAL, c == 'V'),
        'p' | 'P' => {
            let name = property(chars);
            match posix(&name) {
                Some(members) => class(members, c == 'P'),
                None => out.push_str(&format!("\\{c}{{{}}}", unicode(&name))),
            }
        }
        'Q' => {
            let mut quoted = String::new();
            for c in chars.by_ref() {
                quoted.push(c);
                if quoted.ends_with("\\E") {
                    quoted.truncate(quoted.len() - 2);
                    break;
                }
            }
            out.push_str(&regex::escape(&quoted));
        }
        'E' => {}
        'R' => out.push_str(&format!("(?:\\r\\n|[{VERTICAL}])")),
        'Z' => out.push_str(r"\n?\z"),
        'e' => out.push_str(r"\x1B"),
        'u' => {
            let digits: String = chars.by_ref().take(4).collect();
            out.push_str(&format!("\\x{{{digits}}}"));
        }
        '0' => {
            let mut code = 0;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(8)) {
                if code * 8 + digit > 0o377 {
                    break;
                }
                code = code * 8 + digit;
                chars.next();
            }
            out.push_str(&format!("\\x{{{code:X}}}"));
        }
        '1'..='9' => return Err(format!("the back-reference \\{c}")),
        'k' => return Err("a back-reference \\k<..>".into()),
        'G' => return Err("the end of the last match \\G".into()),
        'X' => return Err("a grapheme cluster \\X".into()),
        c if c.is_ascii_alphabetic() => {
            out.push('\\');
            out.push(c);
        }
        c => out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
    }
    Ok(())
}

/// The name behind `\p`.
fn property(chars: &mut Peekable<Chars<'_>>) -> String {
    match chars.next() {
        Some('{') => chars.by_ref().take_while(|c| *c != '}').collect(),
        Some(c) => c.to_string(),
        None => String::new(),
    }
}

/// POSIX's classes, which are ASCII's.
fn posix(name: &str) -> Option<&'static str> {
    Some(match name {
        "Lower" => "a-z",
        "Upper" => "A-Z",
        "ASCII" => r"\x00-\x7F",
        "Alpha" => "A-Za-z",
        "Digit" => DIGIT,
        "Alnum" => "A-Za-z0-9",
        "Punct" => r"!-/:-@\[-`{-\~",
        "Graph" => r"!-\~",
        "Print" => r" -\~",
        "Blank" => r" \t",
        "Cntrl" => r"\x00-\x1F\x7F",
        "XDigit" => "0-9A-Fa-f",
        "Space" => SPACE,
        _ => return None,
    })
}

/// A property as the crate calls it.
fn unicode(name: &str) -> &str {
    match name {
        "javaLowerCase" => "Lowercase",
        "javaUpperCase" => "Uppercase",
        "javaWhitespace" => "White_Space",
        name => name.strip_prefix("Is").unwrap_or(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constructs_that_backtrack_are_refused_by_name() {
        for (pattern, what) in [
            ("a(?=b)", "look-ahead"),
            ("a(?!b)", "negative look-ahead"),
            ("(?<=a)b", "look-behind"),
            ("(?<!a)b", "negative look-behind"),
            ("(?>a)b", "atomic group"),
            (r"(a)\1", "back-reference"),
            ("a*+", "possessive"),
        ] {
            let error = compiled(pattern).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
