//! Rows as a windowed aggregation keeps them: a count and a sum by window and user.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimeUnit};
use tidemark::row::{Bytes, KeyCodec, ValueCodec};
use tidemark::state::{TableChanges, TableKind};

/// Five minutes.
const WINDOW: i64 = 300_000_000;

/// A row before it is encoded.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Row {
    pub(crate) window: i64,
    pub(crate) user: String,
    pub(crate) n: i64,
    pub(crate) amount: f64,
    pub(crate) expiry: i64,
}

/// `windows` times `users` rows in the order of their keys, the same in every run. Users differ in
/// how much they do; `from` tells rows of the same keys apart.
pub(crate) fn rows(windows: i64, users: u64, from: u64) -> Vec<Row> {
    let mut names: Vec<_> = (0..users).map(|user| format!("u{user}")).collect();
    names.sort();
    let mut rows = Vec::new();
    let mut random = 0x9E37_79B9_7F4A_7C15 ^ from;
    for window in 0..windows {
        for user in &names {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let window = 1_767_225_600_000_000 + window * WINDOW;
            rows.push(Row {
                window,
                user: user.clone(),
                n: (random % 64 * (random >> 8 & 63) / 63) as i64 + 1,
                amount: (random >> 20 & 0xFFFFF) as f64 / 100.0,
                expiry: window + WINDOW,
            });
        }
    }
    rows
}

/// The columns of the keys, then those of the values.
pub(crate) fn columns(rows: &[Row]) -> [Vec<ArrayRef>; 2] {
    let windows: Vec<_> = rows.iter().map(|row| row.window).collect();
    let windows = TimestampMicrosecondArray::from(windows).with_timezone("UTC");
    let users: StringArray = rows.iter().map(|row| Some(row.user.as_str())).collect();
    let n: Int64Array = rows.iter().map(|row| row.n).collect();
    let amounts: Float64Array = rows.iter().map(|row| row.amount).collect();
    [
        vec![Arc::new(windows), Arc::new(users)],
        vec![Arc::new(n), Arc::new(amounts)],
    ]
}

/// The codecs of keys and of values.
pub(crate) fn codecs() -> (KeyCodec, ValueCodec) {
    let window = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    (
        KeyCodec::new(&[window, DataType::Utf8]).expect("types of keys"),
        ValueCodec::new(&[DataType::Int64, DataType::Float64]).expect("types of values"),
    )
}

/// The rows as changes of a table in which their keys are new.
pub(crate) fn changes(keys: &Bytes, values: &Bytes, rows: &[Row]) -> TableChanges {
    let mut changes = TableChanges::new(TableKind::AppendOnly);
    for ((key, value), row) in keys.iter().zip(values.iter()).zip(rows) {
        changes.push(key, None, Some(value), row.expiry);
    }
    changes
}
