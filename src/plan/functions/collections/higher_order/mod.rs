//! Functions that take a lambda: it is evaluated over the elements of all rows at once.
//!
//! | module | what it holds |
//! |---|---|
//! | [`define`] | how such functions are declared, and their calls |
//! | [`arrays`] | `transform`, `filter`, `exists`, `forall`, `zip_with` |
//! | [`maps`] | `map_filter`, `transform_keys`, `transform_values`, `map_zip_with` |
//! | [`aggregate`] | `aggregate`, `reduce` |
//! | [`sort`] | `array_sort` |
//!
//! A body may name columns of the row: their values come along with each element.

pub mod aggregate;
pub mod arrays;
pub mod define;
pub mod maps;
pub mod sort;

use std::sync::Arc;

use datafusion::logical_expr::HigherOrderUDF;

/// All of them.
pub fn functions() -> Vec<Arc<HigherOrderUDF>> {
    let mut all = arrays::functions();
    all.extend(maps::functions());
    all.push(aggregate::aggregate());
    all.push(sort::array_sort());
    all
}
