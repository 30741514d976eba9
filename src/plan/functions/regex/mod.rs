//! Functions of regular expressions, in Java's syntax; see `pattern` for what is translated.

mod pattern;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Field, Int32Type};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err, plan_err};
use datafusion::logical_expr::ScalarUDF;
use regex::{Captures, Regex};

use super::define::{Call, Column, Function, Gives, Param, ResultType, function};
use pattern::compiled;

use Param::{Int, Text};

/// All of this module.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let all = [
        function("regexp_like", &[Text, Text], pattern_of(truth), regexp_like)
            .also(&["rlike", "regexp"]),
        function("regexp_count", &[Text, Text], pattern_of(int), regexp_count),
        function(
            "regexp_instr",
            &[Text, Text, Int],
            pattern_of(int),
            regexp_instr,
        )
        .optional(1),
        function(
            "regexp_substr",
            &[Text, Text],
            pattern_of(text),
            regexp_substr,
        ),
        function(
            "regexp_extract",
            &[Text, Text, Int],
            pattern_of(text),
            regexp_extract,
        )
        .optional(1),
        function(
            "regexp_extract_all",
            &[Text, Text, Int],
            pattern_of(texts),
            regexp_extract_all,
        )
        .optional(1),
        function(
            "regexp_replace",
            &[Text, Text, Text, Int],
            pattern_of(replaced),
            regexp_replace,
        )
        .optional(1),
        function("split", &[Text, Text, Int], pattern_of(texts), split).optional(1),
    ];
    all.into_iter().map(Function::udf).collect()
}

fn pattern_of(gives: ResultType) -> Gives {
    Gives::Of(gives)
}

type Constants<'a> = &'a [Option<&'a ScalarValue>];

/// A constant pattern that is not valid is refused before the query runs.
fn checked(constants: Constants<'_>, gives: DataType) -> Result<DataType> {
    if let Some(Some(ScalarValue::Utf8(Some(pattern)))) = constants.get(1)
        && let Err(error) = compiled(pattern)
    {
        return plan_err!(
            "{}",
            error.strip_backtrace().replace("Execution error: ", "")
        );
    }
    Ok(gives)
}

fn truth(_: &[DataType], constants: Constants<'_>) -> Result<DataType> {
    checked(constants, DataType::Boolean)
}

fn int(_: &[DataType], constants: Constants<'_>) -> Result<DataType> {
    checked(constants, DataType::Int32)
}

fn text(_: &[DataType], constants: Constants<'_>) -> Result<DataType> {
    checked(constants, DataType::Utf8)
}

fn texts(_: &[DataType], constants: Constants<'_>) -> Result<DataType> {
    let item = Field::new("item", DataType::Utf8, true);
    checked(constants, DataType::List(Arc::new(item)))
}

fn replaced(_: &[DataType], constants: Constants<'_>) -> Result<DataType> {
    if let Some(Some(start)) = constants.get(3)
        && let Ok(ScalarValue::Int64(Some(start))) = start.cast_to(&DataType::Int64)
        && start < 1
    {
        return plan_err!(
            "[DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE] regexp_replace starts at character 1 or later, not {start}"
        );
    }
    checked(constants, DataType::Utf8)
}

/// The patterns of a column; the last one used is kept.
#[derive(Default)]
struct Patterns {
    last: Option<(String, Rc<Regex>)>,
}

/// How many patterns a thread remembers.
const REMEMBERED: usize = 16;

thread_local! {
    /// The patterns that this thread has used last. What an expression learns while it matches is kept with it, and
    /// would be lost with each batch.
    static KNOWN: RefCell<VecDeque<(String, Rc<Regex>)>> = const { RefCell::new(VecDeque::new()) };
}

/// The regular expression of a pattern, compiled once.
fn remembered(pattern: &str) -> Result<Rc<Regex>> {
    KNOWN.with_borrow_mut(|known| {
        if let Some((_, regex)) = known.iter().find(|(of, _)| of == pattern) {
            return Ok(Rc::clone(regex));
        }
        let regex = Rc::new(compiled(pattern)?);
        known.truncate(REMEMBERED - 1);
        known.push_front((pattern.to_owned(), Rc::clone(&regex)));
        Ok(regex)
    })
}

impl Patterns {
    fn get(&mut self, pattern: &str) -> Result<&Regex> {
        if self.last.as_ref().is_none_or(|(last, _)| last != pattern) {
            self.last = Some((pattern.to_owned(), remembered(pattern)?));
        }
        if let Some((_, regex)) = &self.last {
            Ok(regex)
        } else {
            exec_err!("no pattern")
        }
    }
}

/// Matches one after the other as Java finds them: an empty one may follow one that is not.
struct Found<'r, 't> {
    regex: &'r Regex,
    text: &'t str,
    from: usize,
}

impl<'t> Found<'_, 't> {
    fn next(&mut self) -> Option<Captures<'t>> {
        if self.from > self.text.len() {
            return None;
        }
        let found = self.regex.captures_at(self.text, self.from)?;
        let whole = found.get_match();
        self.from = whole.end();
        if whole.is_empty() {
            let next = self.text[self.from..].chars().next();
            self.from += next.map_or(1, char::len_utf8);
        }
        Some(found)
    }
}

fn find<'r, 't>(regex: &'r Regex, text: &'t str) -> Found<'r, 't> {
    Found {
        regex,
        text,
        from: 0,
    }
}

fn regexp_like(call: &Call) -> Result<ArrayRef> {
    let (text, pattern) = (call.text(0), call.text(1));
    let mut patterns = Patterns::default();
    call.truths(|row| match text.get(row).zip(pattern.get(row)) {
        Some((text, pattern)) => Ok(Some(patterns.get(pattern)?.is_match(text))),
        None => Ok(None),
    })
}

fn regexp_count(call: &Call) -> Result<ArrayRef> {
    let (text, pattern) = (call.text(0), call.text(1));
    let mut patterns = Patterns::default();
    call.values::<Int32Type>(|row| {
        let Some((text, pattern)) = text.get(row).zip(pattern.get(row)) else {
            return Ok(None);
        };
        let mut found = find(patterns.get(pattern)?, text);
        let mut count = 0;
        while found.next().is_some() {
            count += 1;
        }
        Ok(Some(count))
    })
}

/// The character of the first match; Spark does not look at the third argument's value either.
fn regexp_instr(call: &Call) -> Result<ArrayRef> {
    let (text, pattern) = (call.text(0), call.text(1));
    let group = group_of(call);
    let mut patterns = Patterns::default();
    call.values::<Int32Type>(|row| {
        let (Some(text), Some(pattern), Some(_)) = (text.get(row), pattern.get(row), group(row))
        else {
            return Ok(None);
        };
        let found = patterns.get(pattern)?.find(text);
        Ok(Some(found.map_or(0, |found| {
            text[..found.start()].chars().count() as i32 + 1
        })))
    })
}

fn regexp_substr(call: &Call) -> Result<ArrayRef> {
    let (text, pattern) = (call.text(0), call.text(1));
    let mut patterns = Patterns::default();
    call.texts(|row, out| {
        let Some((text, pattern)) = text.get(row).zip(pattern.get(row)) else {
            return Ok(None);
        };
        let found = patterns.get(pattern)?.find(text);
        let found = found.filter(|found| !found.is_empty());
        Ok(found.map(|found| out.push_str(found.as_str())))
    })
}

/// The third argument, or 1.
fn group_of(call: &Call) -> impl Fn(usize) -> Option<i32> + '_ {
    let group = (call.len() > 2).then(|| call.ints(2));
    move |row| match &group {
        Some(group) => group.get(row),
        None => Some(1),
    }
}

/// A group of a match; one that took no part is empty.
fn group<'t>(found: &Captures<'t>, index: i32) -> Result<&'t str> {
    match usize::try_from(index) {
        Ok(index) if index < found.len() => Ok(found.get(index).map_or("", |m| m.as_str())),
        _ => exec_err!(
            "[INVALID_PARAMETER_VALUE.REGEX_GROUP_INDEX] the regular expression has {} groups, and {index} was asked for; use 0 for all of the match",
            found.len() - 1
        ),
    }
}

fn regexp_extract(call: &Call) -> Result<ArrayRef> {
    let (text, pattern, index) = (call.text(0), call.text(1), group_of(call));
    let mut patterns = Patterns::default();
    call.texts(|row, out| {
        let (Some(text), Some(pattern), Some(index)) =
            (text.get(row), pattern.get(row), index(row))
        else {
            return Ok(None);
        };
        if let Some(found) = patterns.get(pattern)?.captures(text) {
            out.push_str(group(&found, index)?);
        }
        Ok(Some(()))
    })
}

fn regexp_extract_all(call: &Call) -> Result<ArrayRef> {
    let index = group_of(call);
    lists(call, |row, text, regex, out| {
        let Some(index) = index(row) else {
            return Ok(false);
        };
        let mut found = find(regex, text);
        while let Some(found) = found.next() {
            out.append_value(group(&found, index)?);
        }
        Ok(true)
    })
}

/// Arrays of strings, one per row; `write` says whether the row is not null.
fn lists(
    call: &Call,
    mut write: impl FnMut(usize, &str, &Regex, &mut StringBuilder) -> Result<bool>,
) -> Result<ArrayRef> {
    let (text, pattern): (Column<'_, _>, Column<'_, _>) = (call.text(0), call.text(1));
    let mut patterns = Patterns::default();
    let mut out = ListBuilder::new(StringBuilder::new());
    for row in 0..call.rows() {
        let valid = match text.get(row).zip(pattern.get(row)) {
            Some((text, pattern)) => write(row, text, patterns.get(pattern)?, out.values())?,
            None => false,
        };
        out.append(valid);
    }
    Ok(Arc::new(out.finish()))
}

/// `split(text, pattern[, limit])`: at most `limit` parts where it is positive.
fn split(call: &Call) -> Result<ArrayRef> {
    let limit = (call.len() > 2).then(|| call.ints(2));
    lists(call, |row, text, regex, out| {
        let limit = match &limit {
            Some(limit) => match limit.get(row) {
                Some(limit) => limit,
                None => return Ok(false),
            },
            None => -1,
        };
        let most = if limit > 0 {
            limit as usize
        } else {
            usize::MAX
        };
        if regex.as_str().is_empty() && !text.is_empty() {
            // Between characters, without an empty part at the end.
            let mut rest = text;
            let mut parts = 1;
            while let Some(c) = rest.chars().next() {
                let size = c.len_utf8();
                if parts == most || size == rest.len() {
                    break;
                }
                out.append_value(&rest[..size]);
                rest = &rest[size..];
                parts += 1;
            }
            out.append_value(rest);
            return Ok(true);
        }
        let (mut found, mut from, mut parts) = (find(regex, text), 0, 1);
        while parts < most
            && let Some(at) = found.next()
        {
            let at = at.get_match();
            if at.end() == 0 {
                continue;
            }
            out.append_value(&text[from..at.start()]);
            from = at.end();
            parts += 1;
        }
        out.append_value(&text[from..]);
        Ok(true)
    })
}

/// A part of a replacement.
enum Part {
    Literal(String),
    Group(usize),
}

/// Java's replacement: `$1`, `${name}`, and a backslash before a character that stands for itself.
fn template(replacement: &str, regex: &Regex) -> Result<Vec<Part>> {
    let invalid = |why: &str| {
        exec_datafusion_err!(
            "[INVALID_REGEXP_REPLACE] the replacement '{replacement}' {why}; use \\$ for a $"
        )
    };
    let groups = regex.captures_len();
    let mut parts = vec![];
    let mut literal = String::new();
    let mut chars = replacement.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => literal.push(
                chars
                    .next()
                    .ok_or_else(|| invalid("ends with a backslash"))?,
            ),
            '$' if chars.next_if_eq(&'{').is_some() => {
                let name: String = chars.by_ref().take_while(|c| *c != '}').collect();
                let group = regex.capture_names().position(|n| n == Some(name.as_str()));
                parts.push(Part::Literal(std::mem::take(&mut literal)));
                parts.push(Part::Group(group.ok_or_else(|| {
                    invalid(&format!("names the group '{name}', which is not there"))
                })?));
            }
            '$' => {
                let digit = chars.next().and_then(|c| c.to_digit(10));
                let mut group = digit.ok_or_else(|| invalid("has a $ without a group"))? as usize;
                if group >= groups {
                    return Err(invalid(&format!(
                        "names the group {group}, which is not there"
                    )));
                }
                while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10))
                    && group * 10 + (digit as usize) < groups
                {
                    group = group * 10 + digit as usize;
                    chars.next();
                }
                parts.push(Part::Literal(std::mem::take(&mut literal)));
                parts.push(Part::Group(group));
            }
            _ => literal.push(c),
        }
    }
    parts.push(Part::Literal(literal));
    Ok(parts)
}

/// `regexp_replace(text, pattern, replacement[, start])`: all matches from character `start` on.
fn regexp_replace(call: &Call) -> Result<ArrayRef> {
    let (text, pattern, replacement) = (call.text(0), call.text(1), call.text(2));
    let start = (call.len() > 3).then(|| call.ints(3));
    let mut patterns = Patterns::default();
    let mut parsed: Option<(String, &str, Vec<Part>)> = None;
    call.texts(|row, out| {
        let start = match &start {
            Some(start) => start.get(row),
            None => Some(1),
        };
        let (Some(text), Some(pattern), Some(replacement), Some(start)) =
            (text.get(row), pattern.get(row), replacement.get(row), start)
        else {
            return Ok(None);
        };
        if start < 1 {
            return exec_err!(
                "[DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE] regexp_replace starts at character 1 or later, not {start}"
            );
        }
        let regex = patterns.get(pattern)?;
        let skipped = text.char_indices().nth(start as usize - 1);
        let from = skipped.map_or(text.len(), |(at, _)| at);
        let beyond = from == text.len() && start > 1;
        let mut copied = 0;
        let mut found = Found { regex, text, from };
        while !beyond
            && let Some(at) = found.next()
        {
            // An invalid replacement of what is not found is no error.
            let known = parsed.as_ref().is_some_and(|(p, r, _)| p == pattern && *r == replacement);
            if !known {
                parsed = Some((pattern.to_owned(), replacement, template(replacement, regex)?));
            }
            let whole = at.get_match();
            out.push_str(&text[copied..whole.start()]);
            for part in parsed.iter().flat_map(|(_, _, parts)| parts) {
                match part {
                    Part::Literal(literal) => out.push_str(literal),
                    Part::Group(group) => out.push_str(at.get(*group).map_or("", |m| m.as_str())),
                }
            }
            copied = whole.end();
        }
        out.push_str(&text[copied..]);
        Ok(Some(()))
    })
}
