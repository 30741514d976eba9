//! Spark's functions of numbers.
//!
//! Doubles are computed by the platform's library: the last digit of `exp`, `pow`, `log` and of
//! trigonometric functions may differ from Java's.

mod conv;
mod round;

use std::f64::consts::{E, LN_2, PI};
use std::sync::Arc;

use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::logical_expr::ScalarUDF;

use super::define::{Function, Gives, Param, function};

use DataType::{Float64, Int64, Utf8};
use Param::{Any, Double, Int, Long};

/// All of this module.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let all = [
        of_double("acos", f64::acos),
        of_double("acosh", |x| (x + (x * x - 1.0).sqrt()).ln()),
        of_double("asin", f64::asin),
        of_double("asinh", |x| match x {
            f64::NEG_INFINITY => x,
            _ => (x + (x * x + 1.0).sqrt()).ln(),
        }),
        of_double("atan", f64::atan),
        of_double("atanh", |x| 0.5 * (x.ln_1p() - (-x).ln_1p())),
        of_double("cbrt", f64::cbrt),
        of_double("cos", f64::cos),
        of_double("cosh", f64::cosh),
        of_double("cot", |x| 1.0 / x.tan()),
        of_double("csc", |x| 1.0 / x.sin()),
        of_double("degrees", f64::to_degrees),
        of_double("exp", f64::exp),
        of_double("expm1", f64::exp_m1),
        of_double("radians", f64::to_radians),
        of_double("rint", f64::round_ties_even),
        of_double("sec", |x| 1.0 / x.cos()),
        of_double("signum", sign).also(&["sign"]),
        of_double("sin", f64::sin),
        of_double("sinh", f64::sinh),
        of_double("sqrt", f64::sqrt),
        of_double("tan", f64::tan),
        of_double("tanh", f64::tanh),
        logarithm("ln", 0.0, f64::ln),
        logarithm("log10", 0.0, f64::log10),
        logarithm("log2", 0.0, |x| x.ln() / LN_2),
        logarithm("log1p", -1.0, f64::ln_1p),
        function("log", &[Double, Double], Float64, |call| {
            let (first, second) = (call.doubles(0), (call.len() > 1).then(|| call.doubles(1)));
            call.values::<Float64Type>(|row| {
                let positive = |x: f64| x > 0.0 || x.is_nan();
                let Some(first) = first.get(row).filter(|x| positive(*x)) else {
                    return Ok(None);
                };
                Ok(match &second {
                    None => Some(first.ln()),
                    Some(second) => (second.get(row).filter(|x| positive(*x)))
                        .map(|second| second.ln() / first.ln()),
                })
            })
        })
        .optional(1),
        of_doubles("atan2", |y, x| (y + 0.0).atan2(x + 0.0)),
        of_doubles("hypot", f64::hypot),
        of_doubles("pow", power).also(&["power"]),
        function("e", &[], Float64, |call| {
            call.values::<Float64Type>(|_| Ok(Some(E)))
        }),
        function("pi", &[], Float64, |call| {
            call.values::<Float64Type>(|_| Ok(Some(PI)))
        }),
        function("bin", &[Long], Utf8, |call| {
            use std::fmt::Write as _;
            let number = call.longs(0);
            call.texts(|row, out| Ok(number.get(row).and_then(|n| write!(out, "{n:b}").ok())))
        }),
        function("factorial", &[Int], Int64, |call| {
            let number = call.ints(0);
            call.values::<Int64Type>(|row| {
                let number = number.get(row).filter(|n| (0..=20).contains(n));
                Ok(number.map(|n| (1..=i64::from(n)).product()))
            })
        }),
        // A number or an interval as it is.
        function(
            "positive",
            &[Any],
            Gives::Of(|types, _| Ok(types[0].clone())),
            |call| call.array(0),
        )
        .coerced(|name, types| match &types[0] {
            interval @ (DataType::Interval(_) | DataType::Duration(_)) => {
                Ok(vec![interval.clone()])
            }
            other => Ok(vec![Param::Number.coerce(name, 0, other)?]),
        }),
        function(
            "width_bucket",
            &[Double, Double, Double, Long],
            Int64,
            |call| {
                let (value, from, to) = (call.doubles(0), call.doubles(1), call.doubles(2));
                let count = call.longs(3);
                call.values::<Int64Type>(|row| {
                    let numbers = (value.get(row), from.get(row), to.get(row), count.get(row));
                    let (Some(value), Some(from), Some(to), Some(count)) = numbers else {
                        return Ok(None);
                    };
                    Ok(bucket(value, from, to, count))
                })
            },
        ),
    ];
    (all.into_iter()
        .chain(round::functions())
        .chain(conv::functions()))
    .map(Function::udf)
    .collect()
}

/// A function of one double.
fn of_double(name: &'static str, compute: fn(f64) -> f64) -> Function {
    function(name, &[Double], Float64, move |call| {
        let number = call.doubles(0);
        call.values::<Float64Type>(|row| Ok(number.get(row).map(compute)))
    })
}

/// A function of two doubles.
fn of_doubles(name: &'static str, compute: fn(f64, f64) -> f64) -> Function {
    function(name, &[Double, Double], Float64, move |call| {
        let (left, right) = (call.doubles(0), call.doubles(1));
        call.values::<Float64Type>(|row| {
            let both = left.get(row).zip(right.get(row));
            Ok(both.map(|(left, right)| compute(left, right)))
        })
    })
}

/// A logarithm, which is NULL for numbers up to `above`.
fn logarithm(name: &'static str, above: f64, compute: fn(f64) -> f64) -> Function {
    function(name, &[Double], Float64, move |call| {
        let number = call.doubles(0);
        call.values::<Float64Type>(|row| {
            let number = number.get(row).filter(|x| *x > above || x.is_nan());
            Ok(number.map(compute))
        })
    })
}

/// Zeros and what is no number stay what they are.
fn sign(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() {
        x
    } else {
        x.signum()
    }
}

/// Java's power: what is no number is contagious, and so is 1 to the infinite.
fn power(base: f64, exponent: f64) -> f64 {
    if exponent.is_nan() || (base.abs() == 1.0 && exponent.is_infinite()) {
        f64::NAN
    } else {
        base.powf(exponent)
    }
}

/// The bucket of `value` among `count` of equal width; 0 before the first, `count + 1` behind the
/// last. NULL where there are no buckets.
fn bucket(value: f64, from: f64, to: f64, count: i64) -> Option<i64> {
    let finite = from.is_finite() && to.is_finite() && !value.is_nan();
    if count <= 0 || count == i64::MAX || from == to || !finite {
        return None;
    }
    let (low, high) = (from.min(to), from.max(to));
    Some(if from < to {
        match value {
            _ if value < low => 0,
            _ if value >= high => count + 1,
            _ => (count as f64 * (value - low) / (high - low)) as i64 + 1,
        }
    } else {
        match value {
            _ if value > high => 0,
            _ if value <= low => count + 1,
            _ => (count as f64 * (high - value) / (high - low)) as i64 + 1,
        }
    })
}
