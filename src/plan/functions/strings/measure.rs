//! Lengths, searching, distances and checks.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Float64Type, Int32Type};
use datafusion::common::Result;
use datafusion::logical_expr::ScalarUDF;

use super::all_alike;
use crate::plan::functions::define::{Call, Function, Param, function};

use DataType::{Boolean, Float64, Int32, Utf8};
use Param::{Bytes, Int, Text, TextOrBytes};

/// All of this module.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let aliases = ["len", "char_length", "character_length"];
    let all = [
        length("length", |t| t.chars().count(), 1).also(&aliases),
        length("octet_length", str::len, 1),
        length("bit_length", str::len, 8),
        function("ascii", &[Text], Int32, |call| {
            let text = call.text(0);
            let first = |text: &str| text.chars().next().map_or(0, |c| c as i32);
            call.values::<Int32Type>(|row| Ok(text.get(row).map(first)))
        }),
        function("chr", &[Param::Long], Utf8, |call| {
            let code = call.longs(0);
            call.texts(|row, out| {
                Ok(code.get(row).map(|code| {
                    if code >= 0 {
                        out.push(char::from((code & 0xFF) as u8));
                    }
                }))
            })
        })
        .also(&["char"]),
        find("contains", |text, part| {
            part.is_empty() || text.windows(part.len()).any(|window| window == part)
        }),
        find("startswith", <[u8]>::starts_with),
        find("endswith", <[u8]>::ends_with),
        function("instr", &[Text, Text], Int32, |call| {
            let (text, part) = (call.text(0), call.text(1));
            call.values::<Int32Type>(|row| {
                let both = text.get(row).zip(part.get(row));
                Ok(both.map(|(text, part)| place(text, part, 1)))
            })
        }),
        function("locate", &[Text, Text, Int], Int32, locate)
            .optional(1)
            .also(&["position"]),
        function("find_in_set", &[Text, Text], Int32, |call| {
            let (word, set) = (call.text(0), call.text(1));
            call.values::<Int32Type>(|row| {
                let both = word.get(row).zip(set.get(row));
                Ok(both.map(|(word, set)| {
                    let at = set.split(',').position(|item| item == word);
                    at.map_or(0, |at| at as i32 + 1)
                }))
            })
        }),
        function("levenshtein", &[Text, Text, Int], Int32, levenshtein).optional(1),
        function("jaro_winkler_similarity", &[Text, Text], Float64, |call| {
            let (left, right) = (call.text(0), call.text(1));
            call.values::<Float64Type>(|row| {
                let both = left.get(row).zip(right.get(row));
                Ok(both.map(|(left, right)| strsim::jaro_winkler(left, right)))
            })
        }),
        function("soundex", &[Text], Utf8, |call| {
            let text = call.text(0);
            call.texts(|row, out| Ok(text.get(row).map(|text| soundex(text, out))))
        }),
        function("luhn_check", &[Text], Boolean, |call| {
            let text = call.text(0);
            call.truths(|row| Ok(text.get(row).map(luhn)))
        }),
    ];
    all.into_iter().map(Function::udf).collect()
}

/// A measure of a string, or of a binary in bytes, times `unit`.
fn length(name: &'static str, measure: fn(&str) -> usize, unit: usize) -> Function {
    function(name, &[TextOrBytes], Int32, move |call| {
        if *call.data_type(0) == DataType::Binary {
            let bytes = call.bytes(0);
            return call
                .values::<Int32Type>(|row| Ok(bytes.get(row).map(|b| (b.len() * unit) as i32)));
        }
        let text = call.text(0);
        call.values::<Int32Type>(|row| Ok(text.get(row).map(|t| (measure(t) * unit) as i32)))
    })
}

/// A question about two strings, or two binaries.
fn find(name: &'static str, holds: fn(&[u8], &[u8]) -> bool) -> Function {
    function(name, &[Bytes, Bytes], Boolean, move |call| {
        if *call.data_type(0) == DataType::Binary {
            let (left, right) = (call.bytes(0), call.bytes(1));
            return call
                .truths(|row| Ok(left.get(row).zip(right.get(row)).map(|(l, r)| holds(l, r))));
        }
        let (left, right) = (call.text(0), call.text(1));
        call.truths(|row| {
            let both = left.get(row).zip(right.get(row));
            Ok(both.map(|(l, r)| holds(l.as_bytes(), r.as_bytes())))
        })
    })
    .coerced(all_alike)
}

/// The character, counted from 1, at which `part` stands first in `text` from `start` on; 0 where
/// it does not.
fn place(text: &str, part: &str, start: i32) -> i32 {
    if start < 1 {
        return 0;
    }
    if part.is_empty() {
        return 1;
    }
    let Some((from, _)) = text.char_indices().nth(start as usize - 1) else {
        return 0;
    };
    match text[from..].find(part) {
        Some(at) => text[..from + at].chars().count() as i32 + 1,
        None => 0,
    }
}

/// A null `start` gives 0, whatever the strings are.
fn locate(call: &Call) -> Result<ArrayRef> {
    let (part, text) = (call.text(0), call.text(1));
    let start = (call.len() > 2).then(|| call.ints(2));
    call.values::<Int32Type>(|row| {
        let start = match &start {
            Some(start) => match start.get(row) {
                Some(start) => start,
                None => return Ok(Some(0)),
            },
            None => 1,
        };
        let both = part.get(row).zip(text.get(row));
        Ok(both.map(|(part, text)| place(text, part, start)))
    })
}

fn levenshtein(call: &Call) -> Result<ArrayRef> {
    let (left, right) = (call.text(0), call.text(1));
    let limit = (call.len() > 2).then(|| call.ints(2));
    call.values::<Int32Type>(|row| {
        let limit = match &limit {
            Some(limit) => match limit.get(row) {
                Some(limit) => limit,
                None => return Ok(None),
            },
            None => i32::MAX,
        };
        let both = left.get(row).zip(right.get(row));
        Ok(both.map(|(left, right)| {
            let distance = strsim::levenshtein(left, right) as i32;
            if distance <= limit { distance } else { -1 }
        }))
    })
}

/// The American Soundex code; a text that does not begin with an ASCII letter is its own.
fn soundex(text: &str, out: &mut String) {
    /// By letter from A; `0` is a vowel and parts equal codes, `7` is passed over.
    const CODES: &[u8; 26] = b"01230127022455012623017202";
    let code = |letter: u8| CODES[usize::from(letter.to_ascii_uppercase() - b'A')];
    let bytes = text.as_bytes();
    let Some(&first) = bytes.first().filter(|first| first.is_ascii_alphabetic()) else {
        out.push_str(text);
        return;
    };
    out.push(char::from(first.to_ascii_uppercase()));
    let mut last = code(first);
    for &byte in &bytes[1..] {
        if !byte.is_ascii_alphabetic() {
            last = b'0';
            continue;
        }
        match code(byte) {
            b'7' => {}
            code => {
                if code != b'0' && code != last {
                    out.push(char::from(code));
                    if out.len() == 4 {
                        return;
                    }
                }
                last = code;
            }
        }
    }
    while out.len() < 4 {
        out.push('0');
    }
}

/// Whether the digits of `text` have a right check digit by Luhn's rule.
fn luhn(text: &str) -> bool {
    let mut sum = 0;
    for (index, byte) in text.bytes().rev().enumerate() {
        if !byte.is_ascii_digit() {
            return false;
        }
        let digit = u32::from(byte - b'0') * if index % 2 == 1 { 2 } else { 1 };
        sum += digit / 10 + digit % 10;
    }
    !text.is_empty() && sum % 10 == 0
}
