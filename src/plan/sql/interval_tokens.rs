//! Intervals that sqlparser does not read: `INTERVAL 1 day 2 hours`, `INTERVAL '1-2' YEAR TO MONTH`,
//! and the types `INTERVAL DAY TO SECOND`, `INTERVAL YEAR TO MONTH`. They become a literal in words
//! (`INTERVAL '1 day 2 hours'`) or one word for the type.

use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use super::tokens::{Cursor, SourceText, word};
use super::types::{DAY_TIME_NAME, YEAR_MONTH_NAME};
use crate::plan::error::{PlanError, PlanErrorKind, Result};
use crate::plan::functions::intervals;

const DAY: i64 = 86_400_000_000;

const UNITS: [&str; 9] = [
    "YEAR",
    "MONTH",
    "WEEK",
    "DAY",
    "HOUR",
    "MINUTE",
    "SECOND",
    "MILLISECOND",
    "MICROSECOND",
];

/// The tokens with these intervals replaced; each takes the place of what it stands for.
pub(super) fn rewrite(
    source: &SourceText,
    tokens: Vec<TokenWithSpan>,
) -> Result<Vec<TokenWithSpan>> {
    if !tokens.iter().any(|t| is_interval(&t.token)) {
        return Ok(tokens);
    }
    let mut done = Vec::with_capacity(tokens.len());
    let mut cursor = Cursor::new(source, &tokens);
    while !cursor.at_end() {
        let start = cursor.span();
        let replaced = if cursor.peek().is_some_and(is_interval) {
            interval(&mut cursor, start)?
        } else {
            None
        };
        if let Some(tokens) = replaced {
            done.extend(tokens);
        } else {
            done.push(tokens[cursor.at].clone());
            cursor.at += 1;
        }
    }
    Ok(done)
}

fn is_interval(token: &Token) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case("INTERVAL"))
}

/// The unit that the `n`th token names, in lower case.
fn unit(cursor: &Cursor, n: usize) -> Option<String> {
    UNITS.iter().find_map(|unit| {
        let plural = format!("{unit}S");
        (cursor.is_word_at(n, unit) || cursor.is_word_at(n, &plural))
            .then(|| unit.to_ascii_lowercase())
    })
}

/// What the interval at the cursor becomes, the cursor then behind it; `None`: it stays.
fn interval(cursor: &mut Cursor, start: Span) -> Result<Option<Vec<TokenWithSpan>>> {
    if let Some(first) = unit(cursor, 1) {
        return Ok(type_name(cursor, &first, start));
    }
    let negative = cursor.peek_nth(1) == Some(&Token::Minus);
    let value = 1 + usize::from(negative);
    match cursor.peek_nth(value) {
        Some(Token::SingleQuotedString(text)) => {
            let (Some(from), true) = (unit(cursor, value + 1), cursor.is_word_at(value + 2, "TO"))
            else {
                return Ok(None);
            };
            let Some(to) = unit(cursor, value + 3) else {
                return Ok(None);
            };
            let sign = if negative { "-" } else { "" };
            let written = format!("INTERVAL {sign}'{}' {from} TO {to}", text.trim());
            let words = in_words(&written, &from).ok_or_else(|| {
                malformed(
                    cursor,
                    start,
                    &format!("'{text}' is no interval from {from} to {to}"),
                )
            })?;
            cursor.at += value + 4;
            Ok(Some(literal(cursor, start, words)))
        }
        Some(Token::Number(..)) => pairs(cursor, start),
        _ => Ok(None),
    }
}

/// `1 day -2 hours`: two pairs or more.
fn pairs(cursor: &mut Cursor, start: Span) -> Result<Option<Vec<TokenWithSpan>>> {
    let mut words = String::new();
    let (mut n, mut count) = (1, 0);
    loop {
        let negative = cursor.peek_nth(n) == Some(&Token::Minus);
        let at = n + usize::from(negative);
        let Some(Token::Number(digits, false)) = cursor.peek_nth(at) else {
            break;
        };
        let Some(unit) = unit(cursor, at + 1) else {
            break;
        };
        // `INTERVAL 1 DAY - 2` takes something away.
        if negative && count > 0 {
            break;
        }
        let sign = if negative { "-" } else { "" };
        if count > 0 {
            words.push(' ');
        }
        words.push_str(&format!("{sign}{digits} {unit}"));
        n = at + 2;
        count += 1;
    }
    if count < 2 {
        return Ok(None);
    }
    match intervals::words(&words) {
        Some((months, micros)) if months != 0 && micros != 0 => Err(malformed(
            cursor,
            start,
            "years and months do not mix with days and less in one interval",
        )),
        Some((0, micros)) => {
            cursor.at += n;
            Ok(Some(literal(cursor, start, micros_in_words(micros))))
        }
        Some((months, _)) => {
            cursor.at += n;
            Ok(Some(literal(cursor, start, format!("{months} months"))))
        }
        None => Err(malformed(
            cursor,
            start,
            &format!("'{words}' is no interval"),
        )),
    }
}

fn in_words(written: &str, from: &str) -> Option<String> {
    if matches!(from, "year" | "month") {
        return intervals::year_month(written).map(|months| format!("{months} months"));
    }
    intervals::day_time(written).map(micros_in_words)
}

/// In days and microseconds, which every reader of intervals takes.
fn micros_in_words(micros: i64) -> String {
    format!("{} days {} microseconds", micros / DAY, micros % DAY)
}

fn literal(cursor: &Cursor, start: Span, words: String) -> Vec<TokenWithSpan> {
    let end = cursor.tokens[cursor.at - 1].span;
    let span = start.union(&end);
    [word("INTERVAL"), Token::SingleQuotedString(words)]
        .map(|token| TokenWithSpan::new(token, span))
        .to_vec()
}

/// `INTERVAL DAY TO SECOND` as a type, where nothing follows that a value could end with.
fn type_name(cursor: &mut Cursor, first: &str, start: Span) -> Option<Vec<TokenWithSpan>> {
    let to = cursor.is_word_at(2, "TO") && unit(cursor, 3).is_some();
    let length = if to { 4 } else { 2 };
    let ends = matches!(
        cursor.peek_nth(length),
        None | Some(Token::RParen | Token::Comma | Token::Gt | Token::SemiColon)
    );
    if !ends {
        return None;
    }
    let name = if matches!(first, "year" | "month") {
        YEAR_MONTH_NAME
    } else {
        DAY_TIME_NAME
    };
    cursor.at += length;
    let span = start.union(&cursor.tokens[cursor.at - 1].span);
    Some(vec![TokenWithSpan::new(word(name), span)])
}

fn malformed(cursor: &Cursor, at: Span, why: &str) -> PlanError {
    let message = format!(
        "[INVALID_INTERVAL_FORMAT] {why}; write for example INTERVAL '1 02:03:04' DAY TO SECOND, INTERVAL '1-2' YEAR TO MONTH or INTERVAL 2 DAYS"
    );
    cursor.source.error(at, PlanErrorKind::Syntax { message })
}
