//! Functions of ours, beside `DataFusion`'s and `datafusion-spark`'s.
//!
//! | module | what it holds |
//! |---|---|
//! | [`window`] | event-time windows of a timestamp, `window_time` |
//! | [`clock`] | `current_timestamp()`, which the engine fixes per epoch |
//! | [`aggregates`] | Spark's aggregates |
//! | [`approx`] | `approx_count_distinct` on the engine's own sketch |
//! | [`arithmetic`] | `+ - * / %`, `div` and their relatives |
//! | [`cast`] | `CAST` and `TRY_CAST` |
//! | [`coalesce`] | the first value that is not NULL |
//! | [`common_type`] | the type that several types meet in |
//! | [`decimals`] | decimals as whole numbers with a scale |
//! | [`intervals`] | intervals as text |
//! | [`item`] | `a[i]` of arrays and maps |
//! | [`datetime`] | dates, timestamps and intervals |
//! | [`define`] | how functions of ours are declared |
//! | [`strings`], [`regex`], [`url`] | of text |
//! | [`math`], [`bitwise`], [`digits`] | of numbers |
//! | [`hash`], [`misc`] | `hash` and `xxhash64`; `typeof`, `raise_error` and the like |
//! | [`random`] | random values and numbers of rows, by where a row was read |
//! | [`text_formats`] | values from and to JSON and CSV |
//! | [`collections`] | arrays, maps and structs |
//! | [`interval`] | lengths of time in words |
//! | [`session`] | the session of one row |
//! | [`short_circuit`] | AND and OR whose left side guards the right |
//! | [`spark`] | the names that Spark has, and what of them is here |

pub mod aggregates;
pub mod approx;
pub mod arithmetic;
pub mod bitwise;
pub mod cast;
pub mod clock;
pub mod coalesce;
pub mod collections;
pub mod common_type;
pub mod datetime;
pub mod decimals;
pub mod define;
pub mod digits;
pub mod hash;
pub mod interval;
pub mod intervals;
pub mod item;
pub mod math;
pub mod misc;
pub mod random;
pub mod regex;
pub mod session;
pub mod short_circuit;
pub mod spark;
pub mod strings;
pub mod text_formats;
pub mod url;
pub mod window;

use std::sync::Arc;

use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF};

/// The scalar functions.
pub fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    let mut all = window::functions();
    all.extend(session::functions());
    all.extend(clock::functions());
    all.extend(strings::functions());
    all.extend(regex::functions());
    all.extend(url::functions());
    all.extend(hash::functions());
    all.extend(math::functions());
    all.extend(bitwise::functions());
    all.extend(misc::functions());
    all.extend(random::functions());
    all.extend(datetime::functions());
    all.extend(text_formats::functions());
    all.extend(collections::functions());
    all.extend(arithmetic::functions());
    all.push(coalesce::coalesce());
    all.push(item::item());
    all.extend(super::marks::functions());
    all
}

/// The aggregate functions.
pub fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    let mut all = aggregates::functions();
    all.push(approx::approx_count_distinct());
    all
}

/// The functions that take a lambda.
pub fn higher_order_functions() -> Vec<Arc<HigherOrderUDF>> {
    collections::higher_order::functions()
}
