//! Parts of strings and binaries.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::ScalarUDF;

use super::{all_alike, is_bytes};
use crate::plan::functions::define::{Call, Function, Gives, Param, function};

use DataType::{Binary, Utf8};
use Param::{Int, Text, TextOrBytes};

/// All of this module.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let all = [
        function("substring", &[TextOrBytes, Int, Int], of_argument(0), |call| {
            let (start, length) = (call.ints(1), (call.len() > 2).then(|| call.ints(2)));
            part(call, |row| {
                let length = match &length {
                    Some(length) => length.get(row),
                    None => Some(i32::MAX),
                };
                start.get(row).zip(length)
            })
        })
        .optional(1)
        .also(&["substr"]),
        function("left", &[TextOrBytes, Int], of_argument(0), |call| {
            let length = call.ints(1);
            part(call, |row| length.get(row).map(|length| (1, length)))
        }),
        function("right", &[TextOrBytes, Int], of_argument(0), |call| {
            let length = call.ints(1);
            let last = |length: i32| match length {
                ..=0 => (1, 0),
                length => (-length, i32::MAX),
            };
            part(call, |row| length.get(row).map(last))
        }),
        function("substring_index", &[Text, Text, Int], Utf8, |call| {
            let (text, by, count) = (call.text(0), call.text(1), call.ints(2));
            call.texts(|row, out| {
                let (Some(text), Some(by), Some(count)) =
                    (text.get(row), by.get(row), count.get(row))
                else {
                    return Ok(None);
                };
                out.push_str(until(text, by, count));
                Ok(Some(()))
            })
        }),
        function("split_part", &[Text, Text, Int], Utf8, split_part),
        function("elt", &[Int, TextOrBytes], of_argument(1), elt)
            .repeated()
            .coerced(|name, types| {
                let mut all = vec![Int.coerce(name, 0, &types[0])?];
                all.extend(all_alike(name, &types[1..])?);
                Ok(all)
            }),
        function(
            "overlay",
            &[TextOrBytes, TextOrBytes, Int, Int],
            of_argument(0),
            overlay,
        )
        .optional(1)
        .coerced(|name, types| {
            let mut all = all_alike(name, &types[..2])?;
            let null = types[..2].contains(&DataType::Null);
            if is_bytes(&types[0]) != is_bytes(&types[1]) && !null {
                return plan_err!(
                    "[DATATYPE_MISMATCH.DATA_DIFF_TYPES] {name} takes two STRINGs or two BINARYs; add a CAST"
                );
            }
            for (index, given) in types.iter().enumerate().skip(2) {
                all.push(Int.coerce(name, index, given)?);
            }
            Ok(all)
        }),
        function(
            "sentences",
            &[Text, Text, Text],
            list_of(list_of(Utf8)),
            sentences,
        )
        .optional(2),
    ];
    all.into_iter().map(Function::udf).collect()
}

fn of_argument(index: usize) -> Gives {
    match index {
        0 => Gives::Of(|types, _| Ok(types[0].clone())),
        _ => Gives::Of(|types, _| Ok(types[1].clone())),
    }
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

/// Of `length` elements, those that SQL's `substring(start, count)` names: from 1, or from the end
/// where `start` is negative; what lies before the first is counted and not there.
fn bounds(length: usize, start: i32, count: i32) -> (usize, usize) {
    let length = length as i64;
    let begin = match start {
        1.. => i64::from(start) - 1,
        0 => 0,
        _ => length + i64::from(start),
    };
    let end = (begin + i64::from(count)).clamp(0, length);
    (begin.clamp(0, end) as usize, end as usize)
}

/// The same as a part of `text`, in characters.
fn slice(text: &str, start: i32, count: i32) -> &str {
    if text.is_ascii() {
        let (begin, end) = bounds(text.len(), start, count);
        return &text[begin..end];
    }
    let (begin, end) = bounds(text.chars().count(), start, count);
    let at = |index: usize| {
        let found = text.char_indices().nth(index);
        found.map_or(text.len(), |(at, _)| at)
    };
    &text[at(begin)..at(end)]
}

/// The part of the first argument from `bounds(row)`: start and length as `substring` has them.
fn part(call: &Call, bounds_of: impl Fn(usize) -> Option<(i32, i32)>) -> Result<ArrayRef> {
    if *call.data_type(0) == Binary {
        let bytes = call.bytes(0);
        return call.binaries(|row, out| {
            Ok(bytes
                .get(row)
                .zip(bounds_of(row))
                .map(|(bytes, (start, count))| {
                    let (begin, end) = bounds(bytes.len(), start, count);
                    out.extend_from_slice(&bytes[begin..end]);
                }))
        });
    }
    let text = call.text(0);
    call.texts(|row, out| {
        let both = text.get(row).zip(bounds_of(row));
        Ok(both.map(|(text, (start, count))| out.push_str(slice(text, start, count))))
    })
}

/// What stands before the `count`-th `by`, or behind the `-count`-th from the end. Delimiters may
/// overlap.
fn until<'a>(text: &'a str, by: &str, count: i32) -> &'a str {
    if by.is_empty() || count == 0 {
        return "";
    }
    let mut at = if count > 0 { 0 } else { text.len() };
    for found in 0..count.unsigned_abs() {
        let next = if count > 0 {
            let from = if found == 0 { 0 } else { next_char(text, at) };
            text[from..].find(by).map(|place| from + place)
        } else {
            let to = if found == 0 {
                text.len()
            } else {
                // The next one ends before the end of the one found.
                previous_char(text, at + by.len())
            };
            text[..to].rfind(by)
        };
        match next {
            Some(place) => at = place,
            None => return text,
        }
    }
    if count > 0 {
        &text[..at]
    } else {
        &text[at + by.len()..]
    }
}

fn next_char(text: &str, at: usize) -> usize {
    at + text[at..].chars().next().map_or(0, char::len_utf8)
}

fn previous_char(text: &str, at: usize) -> usize {
    at - text[..at].chars().next_back().map_or(0, char::len_utf8)
}

fn split_part(call: &Call) -> Result<ArrayRef> {
    let (text, by, index) = (call.text(0), call.text(1), call.ints(2));
    call.texts(|row, out| {
        let (Some(text), Some(by), Some(index)) = (text.get(row), by.get(row), index.get(row))
        else {
            return Ok(None);
        };
        let nth = index.unsigned_abs() as usize;
        let part = match index {
            0 => {
                return exec_err!(
                    "[INVALID_INDEX_OF_ZERO] parts are counted from 1, or from -1 at the end"
                );
            }
            1 | -1 if by.is_empty() => Some(text),
            _ if by.is_empty() => None,
            1.. => text.split(by).nth(nth - 1),
            _ => {
                let parts = text.split(by).count();
                (parts.checked_sub(nth)).and_then(|before| text.split(by).nth(before))
            }
        };
        out.push_str(part.unwrap_or_default());
        Ok(Some(()))
    })
}

fn elt(call: &Call) -> Result<ArrayRef> {
    let index = call.ints(0);
    let argument = |row| match index.get(row) {
        None => Ok(None),
        Some(index) if index >= 1 && (index as usize) < call.len() => Ok(Some(index as usize)),
        Some(index) => exec_err!(
            "[INVALID_ARRAY_INDEX] there is no argument {index} among {}; use CASE where NULL will do",
            call.len() - 1
        ),
    };
    if *call.returns() == Binary {
        let columns: Vec<_> = (1..call.len()).map(|index| call.bytes(index)).collect();
        return call.binaries(|row, out| {
            let value = argument(row)?.and_then(|index| columns[index - 1].get(row));
            Ok(value.map(|value| out.extend_from_slice(value)))
        });
    }
    let columns: Vec<_> = (1..call.len()).map(|index| call.text(index)).collect();
    call.texts(|row, out| {
        let value = argument(row)?.and_then(|index| columns[index - 1].get(row));
        Ok(value.map(|value| out.push_str(value)))
    })
}

/// `overlay(input, replacement, start[, length])`; a negative length is that of the replacement.
fn overlay(call: &Call) -> Result<ArrayRef> {
    let (start, length) = (call.ints(2), (call.len() > 3).then(|| call.ints(3)));
    let place = |row, own: usize| {
        let length = match &length {
            Some(length) => length.get(row)?,
            None => -1,
        };
        let length = if length < 0 { own as i32 } else { length };
        Some((start.get(row)?, length))
    };
    if *call.data_type(0) == Binary {
        let (input, by) = (call.bytes(0), call.bytes(1));
        return call.binaries(|row, out| {
            let (Some(input), Some(by)) = (input.get(row), by.get(row)) else {
                return Ok(None);
            };
            Ok(place(row, by.len()).map(|(start, length)| {
                let (_, head) = bounds(input.len(), 1, start.saturating_sub(1));
                let (tail, _) = bounds(input.len(), start.saturating_add(length), i32::MAX);
                out.extend_from_slice(&input[..head]);
                out.extend_from_slice(by);
                out.extend_from_slice(&input[tail..]);
            }))
        });
    }
    let (input, by) = (call.text(0), call.text(1));
    call.texts(|row, out| {
        let (Some(input), Some(by)) = (input.get(row), by.get(row)) else {
            return Ok(None);
        };
        Ok(place(row, by.chars().count()).map(|(start, length)| {
            out.push_str(slice(input, 1, start.saturating_sub(1)));
            out.push_str(by);
            out.push_str(slice(input, start.saturating_add(length), i32::MAX));
        }))
    })
}

/// The words of each sentence. Language and country of the second and third argument change
/// nothing.
fn sentences(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0);
    let mut out = ListBuilder::new(ListBuilder::new(StringBuilder::new()));
    for row in 0..call.rows() {
        let Some(text) = text.get(row) else {
            out.append(false);
            continue;
        };
        let mut rest = text;
        while !rest.is_empty() {
            let end = sentence_end(rest);
            let mut any = false;
            for word in words(&rest[..end]) {
                out.values().values().append_value(word);
                any = true;
            }
            if any {
                out.values().append(true);
            }
            rest = &rest[end..];
        }
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}

/// Behind the white space that follows the first sentence.
fn sentence_end(text: &str) -> usize {
    let mut ended = false;
    for (at, c) in text.char_indices() {
        match c {
            '.' | '!' | '?' | '。' => ended = true,
            // A lower-case letter goes on with the sentence.
            _ if ended && c.is_whitespace() => {
                let next = text[at..].trim_start().chars().next();
                if next.is_none_or(|next| !next.is_lowercase()) {
                    return text.len() - text[at..].trim_start().len();
                }
                ended = false;
            }
            _ => ended = false,
        }
    }
    text.len()
}

/// Runs of letters, digits and underscores, with `'` or `-` between letters.
fn words(sentence: &str) -> impl Iterator<Item = &str> {
    let of_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '\'' | '-');
    sentence
        .split(move |c| !of_word(c))
        .map(|word| word.trim_matches(['\'', '-']))
        .filter(|word| word.contains(char::is_alphabetic))
}
