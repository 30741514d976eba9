//! Functions of ours, beside `DataFusion`'s and `datafusion-spark`'s.
//!
//! | module | what it holds |
//! |---|---|
//! | [`window`] | event-time windows of a timestamp, `window_time` |
//! | [`clock`] | `current_timestamp()`, which the engine fixes per epoch |
//! | [`approx`] | `approx_count_distinct` on the engine's own sketch |
//! | [`define`] | how functions of ours are declared |
//! | [`divide`] | Spark's `/` |
//! | [`interval`] | lengths of time in words |
//! | [`overflow`] | arithmetic that fails instead of wrapping around |
//! | [`short_circuit`] | AND and OR whose left side guards the right |
//! | [`spark`] | the names that Spark has, and what of them is here |

pub mod approx;
pub mod clock;
pub mod define;
pub mod divide;
pub mod interval;
pub mod overflow;
pub mod short_circuit;
pub mod spark;
pub mod window;

use std::sync::Arc;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

/// The scalar functions.
pub fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    let mut all = window::functions();
    all.extend(clock::functions());
    all.push(divide::divide());
    all
}

/// The aggregate functions.
pub fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    vec![approx::approx_count_distinct()]
}
