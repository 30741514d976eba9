//! Functions of ours, beside `DataFusion`'s and `datafusion-spark`'s.
//!
//! | module | what it holds |
//! |---|---|
//! | [`window`] | event-time windows of a timestamp, `window_time` |
//! | [`clock`] | `current_timestamp()`, which the engine fixes per epoch |
//! | [`approx`] | `approx_count_distinct` on the engine's own sketch |
//! | [`arithmetic`] | `+ - * / %`, `div` and their relatives |
//! | [`cast`] | `CAST` and `TRY_CAST` |
//! | [`common_type`] | the type that several types meet in |
//! | [`decimals`] | decimals as whole numbers with a scale |
//! | [`intervals`] | intervals as text |
//! | [`item`] | `a[i]` of arrays and maps |
//! | [`interval`] | lengths of time in words |
//! | [`short_circuit`] | AND and OR whose left side guards the right |

pub mod approx;
pub mod arithmetic;
pub mod cast;
pub mod clock;
pub mod common_type;
pub mod decimals;
pub mod interval;
pub mod intervals;
pub mod item;
pub mod short_circuit;
pub mod window;

use std::sync::Arc;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

/// The scalar functions.
pub fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    let mut all = window::functions();
    all.extend(clock::functions());
    all.extend(arithmetic::functions());
    all.push(item::item());
    all
}

/// The aggregate functions.
pub fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    vec![approx::approx_count_distinct()]
}
