//! Columns that are written in the names of directories: `country=DE/day=2026-01-01/part.json`.

use std::path::Path;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field};

use crate::format::casts::{Casts, parse_float, parse_integer};
use crate::format::columns::Column;
use crate::{ConnectorError, Result};

/// The directory name of null.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// A column and its value, as a directory names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) value: Option<String>,
}

/// The keys in the directories between `root` and the file at `path`.
pub(super) fn keys(root: &Path, path: &Path) -> Vec<Key> {
    let between = path
        .parent()
        .and_then(|parent| parent.strip_prefix(root).ok());
    between
        .into_iter()
        .flat_map(Path::components)
        .filter_map(|part| {
            let text = part.as_os_str().to_string_lossy();
            let (name, value) = text.split_once('=')?;
            let value = if value == NULL {
                None
            } else {
                Some(decode(value))
            };
            (!name.is_empty()).then(|| Key {
                name: decode(name),
                value,
            })
        })
        .collect()
}

/// Undoes `%3A` and the like.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text
            .get(at + 1..at + 3)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        if let Some(byte) = hex.filter(|_| bytes[at] == b'%') {
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.into())
}

/// The value as an array of one row.
pub(super) fn array(key: &Key, field: &Field, casts: &Casts, path: &Path) -> Result<ArrayRef> {
    let mut column = Column::new(field.name(), field.data_type())?;
    match &key.value {
        None => column.push_null(),
        Some(text) => {
            if !column.push_text(text.as_bytes(), casts) {
                return Err(ConnectorError::Schema(format!(
                    "{}: the directory '{}={text}' is no {}; declare the column '{}' as STRING, or move the directory away",
                    path.display(),
                    key.name,
                    column.type_name(),
                    key.name
                )));
            }
        }
    }
    column.take().map_err(|source| ConnectorError::Arrow {
        context: format!("building the partition column '{}'", key.name),
        source,
    })
}

/// The columns of all keys that the files have, in order of appearance: INT, BIGINT, DOUBLE, DATE
/// or STRING, whichever all values of a key are.
pub(super) fn infer<'a>(files: impl Iterator<Item = &'a [Key]>) -> Vec<Arc<Field>> {
    let mut found: Vec<(String, Option<DataType>)> = Vec::new();
    for key in files.flatten() {
        let known = found.iter().position(|(name, _)| *name == key.name);
        let index = known.unwrap_or(found.len());
        if known.is_none() {
            found.push((key.name.clone(), None));
        }
        let column = &mut found[index].1;
        if let Some(text) = &key.value {
            let value = type_of(text);
            *column = Some(match column.take() {
                None => value,
                Some(before) if before == value => before,
                Some(before) => widen(&before, &value),
            });
        }
    }
    found
        .into_iter()
        .map(|(name, found)| Arc::new(Field::new(name, found.unwrap_or(DataType::Utf8), true)))
        .collect()
}

fn type_of(text: &str) -> DataType {
    let bytes = text.as_bytes();
    if let Some(number) = parse_integer(bytes) {
        return if i32::try_from(number).is_ok() {
            DataType::Int32
        } else {
            DataType::Int64
        };
    }
    if parse_float::<f64>(bytes).is_some() {
        DataType::Float64
    } else if bytes.len() == 10 && Casts::default().date(bytes).is_some() {
        DataType::Date32
    } else {
        DataType::Utf8
    }
}

fn widen(one: &DataType, other: &DataType) -> DataType {
    let rank = |found: &DataType| match found {
        DataType::Int32 => Some(0),
        DataType::Int64 => Some(1),
        DataType::Float64 => Some(2),
        _ => None,
    };
    match (rank(one), rank(other)) {
        (Some(left), Some(right)) => {
            if left > right {
                one.clone()
            } else {
                other.clone()
            }
        }
        _ => DataType::Utf8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Vec<Key> {
        keys(Path::new("/in"), Path::new(path))
    }

    #[test]
    fn keys_are_decoded_and_null_has_a_name_of_its_own() {
        let found = of("/in/a=x%3Ay/plain/b=__HIVE_DEFAULT_PARTITION__/f.json");
        assert_eq!(
            found[0],
            Key {
                name: "a".into(),
                value: Some("x:y".into())
            }
        );
        assert_eq!(
            found[1],
            Key {
                name: "b".into(),
                value: None
            }
        );
        assert!(of("/in/f=1.json").is_empty());
    }

    #[test]
    fn types_are_the_narrowest_that_hold_all_values() {
        let files = [
            of("/in/a=1/b=2026-01-01/c=1/f"),
            of("/in/a=3000000000/b=x/c=1/f"),
        ];
        let fields = infer(files.iter().map(Vec::as_slice));
        let types: Vec<_> = fields.iter().map(|f| f.data_type().clone()).collect();
        assert_eq!(types, [DataType::Int64, DataType::Utf8, DataType::Int32]);
    }
}
