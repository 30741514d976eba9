//! Spark's functions of strings and binaries.
//!
//! | module | what it holds |
//! |---|---|
//! | `measure` | lengths, searching, distances, checks |
//! | `slice` | parts of strings |
//! | `change` | case, padding, trimming, replacing |
//! | `codec` | base 16, 32 and 64, character sets, valid UTF-8 |
//! | `format_number` | numbers by the patterns of Java's `DecimalFormat` |
//! | `number_format` | `to_number` and `to_char` by Spark's number formats |
//! | `printf` | `format_string` |

mod change;
mod codec;
mod format_number;
mod measure;
mod number_format;
mod printf;
mod slice;

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::ScalarUDF;

use super::define::unexpected;

/// All of this module.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let mut all = measure::functions();
    all.extend(slice::functions());
    all.extend(change::functions());
    all.extend(codec::functions());
    all.extend(format_number::functions());
    all.extend(number_format::functions());
    all.extend(printf::functions());
    all
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_)
    )
}

/// All arguments as BINARY if all are, else all as STRING.
fn all_alike(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let to = alike(types);
    (types.iter().enumerate())
        .map(|(index, given)| {
            if given.is_nested() {
                unexpected(name, index, "STRING or BINARY", given)
            } else {
                Ok(to.clone())
            }
        })
        .collect()
}

/// BINARY if there is one and all others are too or are NULL, else STRING.
fn alike(types: &[DataType]) -> DataType {
    let null = |t: &DataType| *t == DataType::Null;
    if types.iter().any(is_bytes) && types.iter().all(|t| is_bytes(t) || null(t)) {
        DataType::Binary
    } else {
        DataType::Utf8
    }
}
