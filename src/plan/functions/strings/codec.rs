//! Base 16, 32 and 64, character sets, valid UTF-8.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ScalarUDF;

use super::is_bytes;
use crate::plan::functions::define::{Call, Function, Param, function};

use DataType::{Binary, Boolean, Utf8};
use Param::{Bytes, Long, Text};

/// All of this module.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let all = [
        function("hex", &[Param::Any], Utf8, hex).coerced(|name, types| match &types[0] {
            bytes if is_bytes(bytes) => Ok(vec![Binary]),
            number if number.is_numeric() => Ok(vec![Long.coerce(name, 0, number)?]),
            other => Ok(vec![Text.coerce(name, 0, other)?]),
        }),
        function("unhex", &[Text], Binary, |call| {
            let text = call.text(0);
            call.binaries(|row, out| Ok(text.get(row).and_then(|text| unhex(text, out))))
        }),
        function("base64", &[Bytes], Utf8, |call| {
            let bytes = call.bytes(0);
            call.texts(|row, out| Ok(bytes.get(row).map(|bytes| base64(bytes, out))))
        }),
        function("unbase64", &[Text], Binary, |call| {
            let text = call.text(0);
            call.binaries(|row, out| match text.get(row) {
                Some(text) if unbase64(text, out).is_none() => exec_err!(
                    "[CONVERSION_INVALID_INPUT] '{text}' is not base 64; use try_to_binary where NULL will do"
                ),
                text => Ok(text.map(|_| ())),
            })
        }),
        function("to_base32", &[Bytes], Utf8, |call| {
            let bytes = call.bytes(0);
            call.texts(|row, out| Ok(bytes.get(row).map(|bytes| base32(bytes, out))))
        }),
        function("from_base32", &[Text], Binary, |call| {
            let text = call.text(0);
            call.binaries(|row, out| match text.get(row) {
                Some(text) if unbase32(text, out).is_none() => {
                    exec_err!("[CONVERSION_INVALID_INPUT] '{text}' is not base 32")
                }
                text => Ok(text.map(|_| ())),
            })
        }),
        function("encode", &[Text, Text], Binary, |call| {
            let (text, charset) = (call.text(0), call.text(1));
            call.binaries(|row, out| {
                let (Some(text), Some(charset)) = (text.get(row), charset.get(row)) else {
                    return Ok(None);
                };
                encode(Charset::named("encode", charset)?, text, out).map(Some)
            })
        }),
        function("__decode", &[Bytes, Text], Utf8, |call| {
            let (bytes, charset) = (call.bytes(0), call.text(1));
            call.texts(|row, out| {
                let (Some(bytes), Some(charset)) = (bytes.get(row), charset.get(row)) else {
                    return Ok(None);
                };
                decode(Charset::named("decode", charset)?, bytes, out).map(Some)
            })
        }),
        to_binary("to_binary", true),
        to_binary("try_to_binary", false),
        function("is_valid_utf8", &[Bytes], Boolean, |call| {
            let bytes = call.bytes(0);
            call.truths(|row| Ok(bytes.get(row).map(|b| std::str::from_utf8(b).is_ok())))
        }),
        function("make_valid_utf8", &[Bytes], Utf8, |call| {
            let bytes = call.bytes(0);
            let valid = |bytes, out: &mut String| out.push_str(&String::from_utf8_lossy(bytes));
            call.texts(|row, out| Ok(bytes.get(row).map(|bytes| valid(bytes, out))))
        }),
        validate("validate_utf8", true),
        validate("try_validate_utf8", false),
    ];
    all.into_iter().map(Function::udf).collect()
}

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

fn write_hex(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

fn hex(call: &Call) -> Result<ArrayRef> {
    match call.data_type(0) {
        Binary => {
            let bytes = call.bytes(0);
            call.texts(|row, out| Ok(bytes.get(row).map(|bytes| write_hex(bytes, out))))
        }
        Utf8 => {
            let text = call.text(0);
            call.texts(|row, out| Ok(text.get(row).map(|text| write_hex(text.as_bytes(), out))))
        }
        _ => {
            use std::fmt::Write as _;
            let number = call.longs(0);
            call.texts(|row, out| Ok(number.get(row).and_then(|n| write!(out, "{n:X}").ok())))
        }
    }
}

/// A digit missing at the front is a zero. `None` where `text` is no hexadecimal number.
fn unhex(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut digits = text.as_bytes();
    if digits.len() % 2 == 1 {
        out.push(digit(digits[0])?);
        digits = &digits[1..];
    }
    for pair in digits.chunks_exact(2) {
        out.push(digit(pair[0])? << 4 | digit(pair[1])?);
    }
    Some(())
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// With a line break after each 76 characters, as MIME has it.
fn base64(bytes: &[u8], out: &mut String) {
    for (index, group) in bytes.chunks(3).enumerate() {
        if index > 0 && index % 19 == 0 {
            out.push_str("\r\n");
        }
        let number =
            group.iter().fold(0, |n, byte| n << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            out.push(if place <= group.len() {
                char::from(BASE64[(number >> (18 - 6 * place)) as usize & 63])
            } else {
                '='
            });
        }
    }
}

/// Characters outside of the alphabet are passed over, `=` ends it. `None` where one character is
/// left over.
fn unbase64(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let (mut number, mut bits) = (0u32, 0);
    for byte in text.bytes().take_while(|byte| *byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => continue,
        };
        number = number << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((number >> bits) as u8);
        }
    }
    (bits < 6).then_some(())
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn base32(bytes: &[u8], out: &mut String) {
    for group in bytes.chunks(5) {
        let number =
            group.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)) << (8 * (5 - group.len()));
        let letters = (group.len() * 8).div_ceil(5);
        for place in 0..8 {
            out.push(if place < letters {
                char::from(BASE32[(number >> (35 - 5 * place)) as usize & 31])
            } else {
                '='
            });
        }
    }
}

fn unbase32(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let (mut number, mut bits) = (0u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte.to_ascii_uppercase() {
            letter @ b'A'..=b'Z' => letter - b'A',
            digit @ b'2'..=b'7' => digit - b'2' + 26,
            _ => return None,
        };
        number = number << 5 | u32::from(value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push((number >> bits) as u8);
        }
    }
    (bits < 5).then_some(())
}

/// The character sets that Spark takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Charset {
    Ascii,
    Latin1,
    Utf8,
    Utf16,
    Utf16Be,
    Utf16Le,
    Utf32,
}

impl Charset {
    fn named(function: &str, name: &str) -> Result<Self> {
        Ok(match name.to_ascii_uppercase().as_str() {
            "US-ASCII" => Self::Ascii,
            "ISO-8859-1" => Self::Latin1,
            "UTF-8" => Self::Utf8,
            "UTF-16" => Self::Utf16,
            "UTF-16BE" => Self::Utf16Be,
            "UTF-16LE" => Self::Utf16Le,
            "UTF-32" => Self::Utf32,
            _ => {
                return exec_err!(
                    "[INVALID_PARAMETER_VALUE.CHARSET] {function} does not know '{name}'; use one of US-ASCII, ISO-8859-1, UTF-8, UTF-16, UTF-16BE, UTF-16LE, UTF-32"
                );
            }
        })
    }
}

fn malformed<T>(function: &str) -> Result<T> {
    exec_err!(
        "[MALFORMED_CHARACTER_CODING] {function} met what the character set does not have; use UTF-8"
    )
}

fn encode(charset: Charset, text: &str, out: &mut Vec<u8>) -> Result<()> {
    let narrow = |c: char, limit: u32| match u32::from(c) {
        code if code < limit => Ok(code as u8),
        _ => malformed("encode"),
    };
    match charset {
        Charset::Ascii => out.extend(
            text.chars()
                .map(|c| narrow(c, 128))
                .collect::<Result<Vec<_>>>()?,
        ),
        Charset::Latin1 => out.extend(
            text.chars()
                .map(|c| narrow(c, 256))
                .collect::<Result<Vec<_>>>()?,
        ),
        Charset::Utf8 => out.extend_from_slice(text.as_bytes()),
        Charset::Utf16 if text.is_empty() => {}
        Charset::Utf16 => {
            out.extend([0xFE, 0xFF]);
            out.extend(text.encode_utf16().flat_map(u16::to_be_bytes));
        }
        Charset::Utf16Be => out.extend(text.encode_utf16().flat_map(u16::to_be_bytes)),
        Charset::Utf16Le => out.extend(text.encode_utf16().flat_map(u16::to_le_bytes)),
        Charset::Utf32 => out.extend(text.chars().flat_map(|c| u32::from(c).to_be_bytes())),
    }
    Ok(())
}

fn decode(charset: Charset, bytes: &[u8], out: &mut String) -> Result<()> {
    let decoded = match charset {
        Charset::Ascii => bytes
            .is_ascii()
            .then(|| bytes.iter().map(|b| char::from(*b)).collect()),
        Charset::Latin1 => Some(bytes.iter().map(|b| char::from(*b)).collect()),
        Charset::Utf8 => std::str::from_utf8(bytes).ok().map(str::to_owned),
        Charset::Utf16 => match bytes {
            [0xFF, 0xFE, rest @ ..] => utf16(rest, u16::from_le_bytes),
            [0xFE, 0xFF, rest @ ..] | rest => utf16(rest, u16::from_be_bytes),
        },
        Charset::Utf16Be => utf16(bytes, u16::from_be_bytes),
        Charset::Utf16Le => utf16(bytes, u16::from_le_bytes),
        Charset::Utf32 if !bytes.len().is_multiple_of(4) => None,
        Charset::Utf32 => (bytes.chunks_exact(4))
            .map(|c| char::from_u32(u32::from_be_bytes([c[0], c[1], c[2], c[3]])))
            .collect(),
    };
    match decoded {
        Some(decoded) => out.push_str(&decoded),
        None => return malformed("decode"),
    }
    Ok(())
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<String> {
    let units: Vec<u16> = bytes
        .chunks(2)
        .map(|c| Some(unit([c[0], *c.get(1)?])))
        .collect::<Option<_>>()?;
    String::from_utf16(&units).ok()
}

/// `to_char(bytes, format)`.
pub(super) fn bytes_to_char(call: &Call) -> Result<ArrayRef> {
    let (bytes, format) = (call.bytes(0), call.text(1));
    call.texts(|row, out| {
        let (Some(bytes), Some(format)) = (bytes.get(row), format.get(row)) else {
            return Ok(None);
        };
        match format.to_ascii_lowercase().as_str() {
            "hex" => write_hex(bytes, out),
            "base64" => base64(bytes, out),
            "utf-8" => out.push_str(&String::from_utf8_lossy(bytes)),
            _ => return unknown_format("to_char", format),
        }
        Ok(Some(()))
    })
}

/// `to_binary(text[, format])`; without `fails`, what cannot be read is NULL.
fn to_binary(name: &'static str, fails: bool) -> Function {
    function(name, &[Text, Text], Binary, move |call| {
        let (text, format) = (call.text(0), (call.len() > 1).then(|| call.text(1)));
        call.binaries(|row, out| {
            let format = format.as_ref().map_or(Some("hex"), |format| format.get(row));
            let (Some(text), Some(format)) = (text.get(row), format) else {
                return Ok(None);
            };
            let read = match format.to_ascii_lowercase().as_str() {
                "hex" => unhex(text, out),
                "utf-8" | "utf8" => {
                    out.extend_from_slice(text.as_bytes());
                    Some(())
                }
                "base64" => strict_base64(text).and_then(|()| unbase64(text, out)),
                _ => return unknown_format(name, format),
            };
            if read.is_none() && fails {
                return exec_err!(
                    "[CONVERSION_INVALID_INPUT] '{text}' is not {format}; use try_to_binary where NULL will do"
                );
            }
            Ok(read)
        })
    })
    .optional(1)
}

fn unknown_format<T>(function: &str, format: &str) -> Result<T> {
    exec_err!(
        "[DATATYPE_MISMATCH.INVALID_ARG_VALUE] {function} does not know the format '{format}'; use one of hex, utf-8, base64"
    )
}

/// Whether `text` is base 64 and nothing else, with or without its padding.
fn strict_base64(text: &str) -> Option<()> {
    let text: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let padding = text.iter().rev().take_while(|b| **b == b'=').count();
    let body = &text[..text.len() - padding];
    let known = body.iter().all(|b| BASE64.contains(b));
    let padded = match (body.len() % 4, padding) {
        (0 | 2 | 3, 0) => true,
        (rest, padding) => rest + padding == 4 && padding <= 2,
    };
    (known && padded).then_some(())
}

/// The string itself; without `fails`, invalid UTF-8 is NULL.
fn validate(name: &'static str, fails: bool) -> Function {
    function(name, &[Bytes], Utf8, move |call| {
        let bytes = call.bytes(0);
        call.texts(|row, out| {
            let Some(bytes) = bytes.get(row) else {
                return Ok(None);
            };
            match std::str::from_utf8(bytes) {
                Ok(text) => out.push_str(text),
                Err(_) if fails => {
                    return exec_err!(
                        "[INVALID_UTF8_STRING] the bytes are not UTF-8; use make_valid_utf8 or try_validate_utf8"
                    );
                }
                Err(_) => return Ok(None),
            }
            Ok(Some(()))
        })
    })
}
