//! The schema of JSON records, by the rules of Spark's `JsonInferSchema`.
//!
//! Whole numbers are BIGINT (DECIMAL(38,0) where they are longer), others DOUBLE, everything else
//! that is no number STRING; types that do not go together become STRING; fields come sorted by
//! name; a field that is never anything but null is a STRING.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};

use super::scanner::{NumberKind, Scan, Scanner, Syntax, unescape};
use crate::format::{Malformed, RecordOptions};

#[derive(Clone, Debug, PartialEq)]
enum Type {
    Null,
    Boolean,
    Long,
    /// A whole number of up to 38 digits.
    BigInteger,
    Double,
    Text,
    List(Box<Self>),
    Object(BTreeMap<String, Self>),
}

/// How deep inferred types are nested; what lies deeper is a STRING, as it is written.
const DEEPEST: usize = 64;

/// Gathers the schema of one record after the other.
#[derive(Clone, Debug)]
pub struct JsonInference {
    root: Option<Type>,
    corrupt: bool,
    primitives_as_string: bool,
    corrupt_column: String,
}

impl JsonInference {
    /// Nothing seen yet. With `primitives_as_string` all scalars are STRINGs.
    pub fn new(options: &RecordOptions, primitives_as_string: bool) -> Self {
        Self {
            root: None,
            corrupt: false,
            primitives_as_string,
            corrupt_column: options.corrupt_column.clone(),
        }
    }

    /// Takes a record into account.
    pub fn push_record(&mut self, record: &[u8]) {
        match self.record(record) {
            Ok(Some(found)) => {
                let before = self.root.take().unwrap_or(Type::Null);
                self.root = Some(merge(before, found));
            }
            Ok(None) => {}
            Err(_) => self.corrupt = true,
        }
    }

    fn record(&self, record: &[u8]) -> Scan<Option<Type>> {
        let mut scanner = Scanner::new(record);
        match scanner.peek() {
            None => Ok(None),
            Some(b'{') => self.value(&mut scanner).map(Some),
            Some(b'[') => match self.value(&mut scanner)? {
                Type::List(element) => match *element {
                    object @ Type::Object(_) => Ok(Some(object)),
                    Type::Null => Ok(None),
                    _ => scanner.error("an array of objects was expected"),
                },
                _ => Ok(None),
            },
            Some(_) => scanner.error("an object was expected"),
        }
    }

    /// The type of a single value, whatever it is.
    pub fn type_of(&self, value: &[u8]) -> Result<DataType, Malformed> {
        let mut scanner = Scanner::new(value);
        let found = self.value(&mut scanner);
        let found = found.map_err(|Syntax { what }| {
            let reason = format!("{what} (at its byte {})", scanner.at + 1);
            Malformed::new(0, reason, value)
        })?;
        Ok(canonical(found).unwrap_or(DataType::Utf8))
    }

    fn value(&self, scanner: &mut Scanner<'_>) -> Scan<Type> {
        if scanner.depth() >= DEEPEST {
            scanner.skip()?;
            return Ok(Type::Text);
        }
        let scalar = |found| {
            if self.primitives_as_string {
                Type::Text
            } else {
                found
            }
        };
        match scanner.peek() {
            Some(b'{') => {
                let mut fields = BTreeMap::new();
                scanner.enter()?;
                if !scanner.closes(b'}') {
                    loop {
                        let mut name = Vec::new();
                        unescape(scanner.key()?.raw, &mut name);
                        scanner.colon()?;
                        let found = self.value(scanner)?;
                        let name = String::from_utf8_lossy(&name).into_owned();
                        let merged = match fields.remove(&name) {
                            None => found,
                            Some(before) => merge(before, found),
                        };
                        fields.insert(name, merged);
                        if !scanner.another(b'}')? {
                            break;
                        }
                    }
                }
                Ok(Type::Object(fields))
            }
            Some(b'[') => {
                let mut element = Type::Null;
                scanner.enter()?;
                if !scanner.closes(b']') {
                    loop {
                        element = merge(element, self.value(scanner)?);
                        if !scanner.another(b']')? {
                            break;
                        }
                    }
                }
                Ok(Type::List(Box::new(element)))
            }
            Some(b'"' | b'\'') => scanner.string().map(|_| Type::Text),
            Some(b'n') => scanner.word(b"null").map(|()| Type::Null),
            Some(b't') => scanner.word(b"true").map(|()| scalar(Type::Boolean)),
            Some(b'f') => scanner.word(b"false").map(|()| scalar(Type::Boolean)),
            _ => {
                let number = scanner.number()?;
                let digits = number.raw.iter().filter(|b| b.is_ascii_digit()).count();
                Ok(scalar(
                    if number.kind != NumberKind::Integer || digits > 38 {
                        Type::Double
                    } else if crate::format::casts::parse_integer(number.raw).is_some() {
                        Type::Long
                    } else {
                        Type::BigInteger
                    },
                ))
            }
        }
    }

    /// Whether any record was seen that has fields.
    pub fn is_empty(&self) -> bool {
        !matches!(&self.root, Some(Type::Object(fields)) if !fields.is_empty())
    }

    /// The schema of all records so far, with the corrupt record column where one was broken.
    pub fn finish(self) -> Schema {
        let mut fields = match self.root {
            Some(Type::Object(fields)) => canonical_fields(fields),
            _ => Vec::new(),
        };
        if self.corrupt
            && !fields
                .iter()
                .any(|field| *field.name() == self.corrupt_column)
        {
            fields.insert(0, Field::new(self.corrupt_column, DataType::Utf8, true));
        }
        Schema::new(fields)
    }
}

fn merge(one: Type, other: Type) -> Type {
    match (one, other) {
        (Type::Null, found) | (found, Type::Null) => found,
        (one, other) if one == other => one,
        (Type::Long, Type::BigInteger) | (Type::BigInteger, Type::Long) => Type::BigInteger,
        (Type::Double, Type::Long | Type::BigInteger)
        | (Type::Long | Type::BigInteger, Type::Double) => Type::Double,
        (Type::List(one), Type::List(other)) => Type::List(Box::new(merge(*one, *other))),
        (Type::Object(mut one), Type::Object(other)) => {
            for (name, found) in other {
                let merged = match one.remove(&name) {
                    None => found,
                    Some(before) => merge(before, found),
                };
                one.insert(name, merged);
            }
            Type::Object(one)
        }
        _ => Type::Text,
    }
}

fn canonical_fields(fields: BTreeMap<String, Type>) -> Vec<Field> {
    fields
        .into_iter()
        .filter(|(name, _)| !name.is_empty())
        .filter_map(|(name, found)| Some(Field::new(name, canonical(found)?, true)))
        .collect()
}

/// The Arrow type; `None` for an object without fields, which no column can hold.
fn canonical(found: Type) -> Option<DataType> {
    Some(match found {
        Type::Null | Type::Text => DataType::Utf8,
        Type::Boolean => DataType::Boolean,
        Type::Long => DataType::Int64,
        Type::BigInteger => DataType::Decimal128(38, 0),
        Type::Double => DataType::Float64,
        Type::List(element) => {
            DataType::List(Arc::new(Field::new("item", canonical(*element)?, true)))
        }
        Type::Object(fields) => {
            let fields = canonical_fields(fields);
            if fields.is_empty() {
                return None;
            }
            DataType::Struct(Fields::from(fields))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn infer(records: &[&str]) -> Vec<(String, DataType)> {
        let mut inference = JsonInference::new(&RecordOptions::default(), false);
        for record in records {
            inference.push_record(record.as_bytes());
        }
        let schema = inference.finish();
        schema
            .fields()
            .iter()
            .map(|f| (f.name().clone(), f.data_type().clone()))
            .collect()
    }

    #[test]
    fn types_widen_and_fields_are_sorted() {
        let found = infer(&[
            r#"{"z": 1, "a": 1, "n": null, "t": "x", "l": [1, 2.5], "e": {}}"#,
            r#"{"z": 1.5, "a": true, "b": 12345678901234567890, "o": {"y": 1}}"#,
            r#"[{"o": {"x": "s"}}]"#,
        ]);
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b", "l", "n", "o", "t", "z"]);
        assert_eq!(found[0].1, DataType::Utf8);
        assert_eq!(found[1].1, DataType::Decimal128(38, 0));
        assert!(
            matches!(&found[2].1, DataType::List(item) if item.data_type() == &DataType::Float64)
        );
        assert_eq!(found[3].1, DataType::Utf8);
        assert!(matches!(&found[4].1, DataType::Struct(fields) if fields.len() == 2));
        assert_eq!(found[6].1, DataType::Float64);
    }

    #[test]
    fn a_broken_record_adds_the_corrupt_column() {
        let found = infer(&[r#"{"a": 1}"#, r#"{"a": "#]);
        assert_eq!(found[0].0, "_corrupt_record");
        assert_eq!(found[1], ("a".into(), DataType::Int64));
    }

    #[test]
    fn what_lies_deeper_than_64_levels_is_a_string() {
        let nested = |levels| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
        let depth = |levels| {
            let found = infer(&[&nested(levels)]);
            let mut kind = &found[0].1;
            let mut depth = 1;
            while let DataType::Struct(fields) = kind {
                kind = fields[0].data_type();
                depth += 1;
            }
            (depth, kind.clone())
        };
        assert_eq!(depth(63), (63, DataType::Int64));
        assert_eq!(depth(1000), (64, DataType::Utf8));
    }
}
