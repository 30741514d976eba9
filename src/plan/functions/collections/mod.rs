//! Functions of arrays, maps and structs.
//!
//! | module | what it holds |
//! |---|---|
//! | [`arrays`] | making arrays and changing them |
//! | [`elements`] | finding and taking elements |
//! | [`sets`] | arrays as sets of their elements |
//! | [`sequence`] | `sequence` |
//! | [`maps`] | making maps and reading them |
//! | [`structs`] | making structs |
//! | [`generate`] | what generators make of a row, as arrays |
//! | [`higher_order`] | functions that take a lambda |
//! | `types`, `lists` | the types, and columns of lists as ranges of elements |
//!
//! Elements are compared as [`crate::row::KeyCodec`] does: every NaN is the same and the greatest
//! number, -0.0 is 0.0, null is the least.

pub mod arrays;
pub mod elements;
pub mod generate;
pub mod higher_order;
mod lists;
pub mod maps;
pub mod sequence;
pub mod sets;
pub mod structs;
pub(super) mod types;

pub use types::holds_map;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

/// All of them.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let mut all = arrays::functions();
    all.extend(elements::functions());
    all.extend(sets::functions());
    all.push(sequence::sequence());
    all.extend(maps::functions());
    all.extend(structs::functions());
    all.extend(generate::functions());
    all
}
