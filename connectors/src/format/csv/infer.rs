//! The schema of CSV files, by the rules of Spark's `CSVInferSchema`.
//!
//! A column is the first of INT, BIGINT, DECIMAL(38,0), DOUBLE, DATE, TIMESTAMP, BOOLEAN and STRING that all
//! its values are. Names come from the header, else they are `_c0`, `_c1`, ...

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

use super::CsvOptions;
use super::tokens::Tokens;
use crate::format::casts::{parse_decimal, parse_float, parse_integer};
use crate::format::columns::named_float;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Type {
    Null,
    Int,
    Long,
    BigInteger,
    Double,
    Date,
    Timestamp,
    Boolean,
    Text,
}

/// Gathers the schema of one file after the other.
#[derive(Debug)]
pub struct CsvInference {
    options: CsvOptions,
    /// Without it every column is a STRING.
    infer_types: bool,
    names: Option<Vec<String>>,
    types: Vec<Type>,
}

impl CsvInference {
    /// Nothing seen yet.
    pub fn new(options: CsvOptions, infer_types: bool) -> Self {
        Self {
            options,
            infer_types,
            names: None,
            types: Vec::new(),
        }
    }

    /// Takes whole lines of a file into account; `first` says that they are its beginning.
    pub fn push_lines(&mut self, bytes: &[u8], first: bool) {
        let mut tokens = Tokens::default();
        let mut header = first && self.options.header;
        let mut at = 0;
        while at < bytes.len() {
            let (end, found) = self.options.next_record(bytes, at, &mut tokens);
            if found {
                let texts = (0..tokens.len()).map(|index| tokens.get(bytes, index, &self.options));
                if header {
                    header = false;
                    if self.names.is_none() {
                        self.names = Some(safe_names(texts));
                    }
                } else {
                    let texts: Vec<_> = texts.collect();
                    for (index, text) in texts.into_iter().enumerate() {
                        if index == self.types.len() {
                            self.types.push(Type::Null);
                        }
                        if let Some(text) = text {
                            let before = self.types[index];
                            self.types[index] = widen(before, self.type_of(text, before));
                        }
                    }
                }
            }
            at = (end + 1).min(bytes.len());
        }
    }

    /// The narrowest type from `least` on that `text` is a value of.
    fn type_of(&self, text: &[u8], least: Type) -> Type {
        let casts = &self.options.record.casts;
        if !self.infer_types || least == Type::Text {
            Type::Text
        } else if least <= Type::Int
            && parse_integer(text).is_some_and(|n| i32::try_from(n).is_ok())
        {
            Type::Int
        } else if least <= Type::Long && parse_integer(text).is_some() {
            Type::Long
        } else if least <= Type::BigInteger && is_whole(text) {
            Type::BigInteger
        } else if least <= Type::Double
            && (named_float(text).is_some() || parse_float::<f64>(text.trim_ascii()).is_some())
        {
            Type::Double
        } else if least <= Type::Date && is_date(text, casts) {
            Type::Date
        } else if least <= Type::Timestamp && casts.timestamp(text).is_some() {
            Type::Timestamp
        } else if text.eq_ignore_ascii_case(b"true") || text.eq_ignore_ascii_case(b"false") {
            Type::Boolean
        } else {
            Type::Text
        }
    }

    /// Whether any record was seen, or a header.
    pub fn is_empty(&self) -> bool {
        self.types.is_empty() && self.names.is_none()
    }

    /// The schema of all lines so far.
    pub fn finish(self) -> Schema {
        let names = self.names.unwrap_or_else(|| {
            (0..self.types.len())
                .map(|index| format!("_c{index}"))
                .collect()
        });
        let fields: Vec<_> = names
            .into_iter()
            .enumerate()
            .map(|(index, name)| {
                let found = self.types.get(index).copied().unwrap_or(Type::Null);
                Field::new(name, data_type(found), true)
            })
            .collect();
        Schema::new(fields)
    }
}

fn is_whole(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    digits.iter().all(u8::is_ascii_digit) && parse_decimal(text, 38, 0).is_some()
}

/// A whole date and nothing else: `2026` alone is a number, `2026-01-01 12:00` a timestamp.
fn is_date(text: &[u8], casts: &crate::format::casts::Casts) -> bool {
    let whole = casts.date.is_some() || (text.len() == 10 && text[4] == b'-' && text[7] == b'-');
    whole && casts.date(text).is_some()
}

fn widen(one: Type, other: Type) -> Type {
    let (low, high) = (one.min(other), one.max(other));
    match (low, high) {
        (Type::Null, found) => found,
        (low, high) if low == high => low,
        (
            Type::Int | Type::Long | Type::BigInteger,
            Type::Long | Type::BigInteger | Type::Double,
        )
        | (Type::Date, Type::Timestamp) => high,
        _ => Type::Text,
    }
}

fn data_type(found: Type) -> DataType {
    match found {
        Type::Int => DataType::Int32,
        Type::Long => DataType::Int64,
        Type::BigInteger => DataType::Decimal128(38, 0),
        Type::Double => DataType::Float64,
        Type::Date => DataType::Date32,
        Type::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
        Type::Boolean => DataType::Boolean,
        Type::Null | Type::Text => DataType::Utf8,
    }
}

/// The names of a header: an empty one is `_c` and its position, one that stands there twice gets
/// its position behind it.
fn safe_names<'a>(texts: impl Iterator<Item = Option<&'a [u8]>>) -> Vec<String> {
    let names: Vec<String> = texts
        .map(|text| String::from_utf8_lossy(text.unwrap_or_default()).into_owned())
        .collect();
    let mut seen = HashSet::new();
    let twice: HashSet<String> = names
        .iter()
        .map(|name| name.to_lowercase())
        .filter(|name| !seen.insert(name.clone()))
        .collect();
    let mut used = HashSet::new();
    names
        .into_iter()
        .enumerate()
        .map(|(index, name)| {
            let mut name = if name.is_empty() {
                format!("_c{index}")
            } else if twice.contains(&name.to_lowercase()) {
                format!("{name}{index}")
            } else {
                name
            };
            // The name that was made may be there, too.
            while !used.insert(name.to_lowercase()) {
                name = format!("{name}{index}");
            }
            name
        })
        .collect()
}
