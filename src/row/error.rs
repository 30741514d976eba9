//! What can go wrong between columns and bytes.

use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// The result of encoding or decoding.
pub type Result<T, E = RowError> = std::result::Result<T, E>;

/// An error of a codec.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// A type that no key can be made of.
    #[error(
        "a column of type {data_type} cannot be part of a key; cast it to a type that has an order"
    )]
    KeyType {
        /// The column's type.
        data_type: DataType,
    },
    /// A type that no value can be made of.
    #[error("a column of type {data_type} cannot be kept in state; cast it to its plain type")]
    ValueType {
        /// The column's type.
        data_type: DataType,
    },
    /// Columns that are not those of the codec.
    #[error("the codec was made for columns ({expected}) and was given ({given})")]
    Schema {
        /// The types of the codec.
        expected: String,
        /// The types it was given.
        given: String,
    },
    /// A row larger than a byte column takes.
    #[error(
        "a row of {bytes} bytes is larger than state can hold ({limit} bytes); drop or shorten its columns"
    )]
    TooLarge {
        /// The size of the row.
        bytes: usize,
        /// The greatest size.
        limit: usize,
    },
    /// A column that holds as much as it can.
    #[error("a column of {bytes} bytes is full; encode fewer rows at a time")]
    Full {
        /// What it holds.
        bytes: usize,
    },
    /// Bytes that no codec wrote.
    #[error("row {row} is damaged at byte {offset}: {what}; restore an older checkpoint")]
    Corrupt {
        /// Which of the rows.
        row: usize,
        /// Where in it.
        offset: usize,
        /// What was found or missed.
        what: &'static str,
    },
    /// Sketches that do not fit together.
    #[error(
        "sketches of precision {ours} and {theirs} cannot be merged; use one relative error for both"
    )]
    Precision {
        /// The precision of the sketch merged into.
        ours: u8,
        /// The precision of the other.
        theirs: u8,
    },
    /// Arrow refused.
    #[error("Arrow could not convert rows: {source}")]
    Arrow {
        /// Why.
        #[from]
        source: ArrowError,
    },
}
