//! Case, padding, trimming, replacing.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ScalarUDF;

use super::{alike, all_alike};
use crate::plan::functions::define::{Call, Column, Function, Gives, Param, function};

use DataType::{Binary, Utf8};
use Param::{Int, Text};

/// All of this module.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let all = [
        of_text("upper", upper).also(&["ucase"]),
        of_text("lower", lower).also(&["lcase"]),
        of_text("initcap", initcap),
        of_text("quote", quote),
        pad("lpad", true),
        pad("rpad", false),
        trim("btrim", (true, true), 0),
        trim("ltrim", (true, false), 1),
        trim("rtrim", (false, true), 1),
        trim("__trim", (true, true), 0),
        trim("__trim_leading", (true, false), 0),
        trim("__trim_trailing", (false, true), 0),
        function("replace", &[Text, Text, Text], Utf8, |call| {
            let (text, from, to) = (call.text(0), call.text(1), optional(call, 2));
            call.texts(|row, out| {
                let (Some(text), Some(from)) = (text.get(row), from.get(row)) else {
                    return Ok(None);
                };
                let Some(to) = to.as_ref().map_or(Some(""), |to| to.get(row)) else {
                    return Ok(None);
                };
                if from.is_empty() {
                    out.push_str(text);
                } else {
                    for (index, part) in text.split(from).enumerate() {
                        if index > 0 {
                            out.push_str(to);
                        }
                        out.push_str(part);
                    }
                }
                Ok(Some(()))
            })
        })
        .optional(1),
        function("translate", &[Text, Text, Text], Utf8, translate),
        function("repeat", &[Text, Int], Utf8, |call| {
            let (text, times) = (call.text(0), call.ints(1));
            call.texts(|row, out| {
                let both = text.get(row).zip(times.get(row));
                Ok(both.map(|(text, times)| (0..times).for_each(|_| out.push_str(text))))
            })
        }),
        function("space", &[Int], Utf8, |call| {
            let count = call.ints(0);
            call.texts(|row, out| Ok(count.get(row).map(|n| (0..n).for_each(|_| out.push(' ')))))
        }),
        function(
            "reverse",
            &[Param::Any],
            Gives::Of(|types, _| Ok(types[0].clone())),
            reverse,
        )
        .coerced(|name, types| match &types[0] {
            DataType::List(_) => Ok(types.to_vec()),
            other => Ok(vec![Text.coerce(name, 0, other)?]),
        }),
        function("mask", &[Text; 5], Utf8, mask).optional(4),
    ];
    all.into_iter().map(Function::udf).collect()
}

/// A function of one string.
fn of_text(name: &'static str, write: fn(&str, &mut String)) -> Function {
    function(name, &[Text], Utf8, move |call| {
        let text = call.text(0);
        call.texts(|row, out| Ok(text.get(row).map(|text| write(text, out))))
    })
}

fn optional(call: &Call, index: usize) -> Option<Column<'_, arrow::array::StringArray>> {
    (call.len() > index).then(|| call.text(index))
}

fn upper(text: &str, out: &mut String) {
    if text.is_ascii() {
        let start = out.len();
        out.push_str(text);
        out[start..].make_ascii_uppercase();
    } else {
        text.chars().for_each(|c| out.extend(c.to_uppercase()));
    }
}

fn lower(text: &str, out: &mut String) {
    if text.is_ascii() {
        let start = out.len();
        out.push_str(text);
        out[start..].make_ascii_lowercase();
    } else {
        text.chars().for_each(|c| out.extend(c.to_lowercase()));
    }
}

/// The first letter of each word in upper case; words are parted by white space as ASCII has it.
fn initcap(text: &str, out: &mut String) {
    let mut first = true;
    for c in text.chars() {
        if first {
            let mut upper = c.to_uppercase();
            out.extend(upper.next());
            upper.for_each(|c| out.extend(c.to_lowercase()));
        } else {
            out.extend(c.to_lowercase());
        }
        first = c == ' ';
    }
}

fn quote(text: &str, out: &mut String) {
    out.push('\'');
    for c in text.chars() {
        if c == '\'' {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('\'');
}

/// `lpad` or `rpad`: `(value, length[, pad])`. A binary is padded with zeros unless told otherwise.
fn pad(name: &'static str, left: bool) -> Function {
    const PARAMS: &[Param] = &[Param::TextOrBytes, Int, Param::TextOrBytes];
    let gives = Gives::Of(|types, _| Ok(types[0].clone()));
    function(name, PARAMS, gives, move |call| {
        let length = call.ints(1);
        if *call.data_type(0) == Binary {
            let (bytes, fill) = (call.bytes(0), (call.len() > 2).then(|| call.bytes(2)));
            return call.binaries(|row, out| {
                let fill = fill.as_ref().map_or(Some(&[0][..]), |fill| fill.get(row));
                let (Some(bytes), Some(length), Some(fill)) =
                    (bytes.get(row), length.get(row), fill)
                else {
                    return Ok(None);
                };
                let length = length.max(0) as usize;
                let missing = length.saturating_sub(bytes.len());
                let filled = fill.iter().cycle().take(missing);
                let kept = &bytes[..length.min(bytes.len())];
                if left {
                    out.extend(filled);
                    out.extend_from_slice(kept);
                } else {
                    out.extend_from_slice(kept);
                    out.extend(filled);
                }
                Ok(Some(()))
            });
        }
        let (text, fill) = (call.text(0), optional(call, 2));
        call.texts(|row, out| {
            let fill = fill.as_ref().map_or(Some(" "), |fill| fill.get(row));
            let (Some(text), Some(length), Some(fill)) = (text.get(row), length.get(row), fill)
            else {
                return Ok(None);
            };
            let length = length.max(0) as usize;
            let chars = text.chars().count();
            let filled = fill.chars().cycle().take(length.saturating_sub(chars));
            let end = text
                .char_indices()
                .nth(length)
                .map_or(text.len(), |(at, _)| at);
            if left {
                out.extend(filled);
                out.push_str(&text[..end]);
            } else {
                out.push_str(&text[..end]);
                out.extend(filled);
            }
            Ok(Some(()))
        })
    })
    .optional(1)
    .coerced(|name, types| {
        let length = Int.coerce(name, 1, &types[1])?;
        let values: Vec<DataType> = types.iter().step_by(2).cloned().collect();
        all_alike(name, &values)?;
        let mut all = vec![alike(&values), length];
        all.extend(values.get(1).map(|_| alike(&values)));
        Ok(all)
    })
}

/// Takes characters off the `(start, end)`. Of two arguments, `text` is the place of the string;
/// the other one holds the characters, which are a space where there is one argument only.
fn trim(name: &'static str, (start, end): (bool, bool), text: usize) -> Function {
    function(name, &[Text, Text], Utf8, move |call| {
        let (chars, text) = match call.len() {
            1 => (None, call.text(0)),
            _ => (Some(call.text(1 - text)), call.text(text)),
        };
        call.texts(|row, out| {
            let chars = chars.as_ref().map_or(Some(" "), |chars| chars.get(row));
            let both = text.get(row).zip(chars);
            Ok(both.map(|(mut text, chars)| {
                if start {
                    text = text.trim_start_matches(|c| chars.contains(c));
                }
                if end {
                    text = text.trim_end_matches(|c| chars.contains(c));
                }
                out.push_str(text);
            }))
        })
    })
    .optional(1)
}

/// `translate(text, from, to)`: the first of two equal characters of `from` counts.
fn translate(call: &Call) -> Result<ArrayRef> {
    let (text, from, to) = (call.text(0), call.text(1), call.text(2));
    let mut map: HashMap<char, Option<char>> = HashMap::new();
    let mut of = None;
    call.texts(|row, out| {
        let (Some(text), Some(from), Some(to)) = (text.get(row), from.get(row), to.get(row)) else {
            return Ok(None);
        };
        if of != Some((from, to)) {
            map.clear();
            let mut targets = to.chars();
            for c in from.chars() {
                let target = targets.next();
                map.entry(c).or_insert(target);
            }
            of = Some((from, to));
        }
        out.extend(text.chars().filter_map(|c| match map.get(&c) {
            Some(target) => *target,
            None => Some(c),
        }));
        Ok(Some(()))
    })
}

fn reverse(call: &Call) -> Result<ArrayRef> {
    if *call.data_type(0) == Utf8 {
        let text = call.text(0);
        return call.texts(|row, out| Ok(text.get(row).map(|text| out.extend(text.chars().rev()))));
    }
    let array = call.array(0)?;
    let lists = array.as_list::<i32>();
    let mut indices = Vec::with_capacity(lists.values().len());
    for range in lists.offsets().windows(2) {
        indices.extend((range[0] as u32..range[1] as u32).rev());
    }
    let DataType::List(item) = lists.data_type() else {
        return exec_err!("reverse got {}", lists.data_type());
    };
    let first = lists.offsets()[0];
    let offsets = lists.offsets().iter().map(|offset| offset - first);
    Ok(Arc::new(arrow::array::ListArray::try_new(
        Arc::clone(item),
        arrow::buffer::OffsetBuffer::new(offsets.collect()),
        take(lists.values(), &UInt32Array::from(indices), None)?,
        lists.nulls().cloned(),
    )?))
}

/// `mask(text[, upper[, lower[, digit[, other]]]])`: a null keeps the characters of its kind.
fn mask(call: &Call) -> Result<ArrayRef> {
    let text = call.text(0);
    let masks: Vec<_> = (1..5).map(|index| optional(call, index)).collect();
    let defaults = [Some('X'), Some('x'), Some('n'), None];
    call.texts(|row, out| {
        let Some(text) = text.get(row) else {
            return Ok(None);
        };
        let mut by = defaults;
        for (by, mask) in by.iter_mut().zip(&masks) {
            let Some(mask) = mask else { continue };
            *by = match mask.get(row) {
                None => None,
                Some(mask) => {
                    let mut chars = mask.chars();
                    match (chars.next(), chars.next()) {
                        (Some(only), None) => Some(only),
                        _ => {
                            return exec_err!(
                                "[DATATYPE_MISMATCH.INPUT_SIZE_NOT_ONE] a mask must be one character, not '{mask}'; use NULL to keep the characters"
                            );
                        }
                    }
                }
            };
        }
        out.extend(text.chars().map(|c| {
            let kind = match c {
                _ if c.is_uppercase() => 0,
                _ if c.is_lowercase() => 1,
                _ if c.is_numeric() => 2,
                _ => 3,
            };
            by[kind].unwrap_or(c)
        }));
        Ok(Some(()))
    })
}
