//! Spark's aggregates, beside `count`, `min` and `max`, which are `DataFusion`'s.
//!
//! Each is one `SparkAggregate`: a name, and the [`Function`] that it is. The engine keeps a
//! group's state for it (`operators::aggregate`); a batch uses [`accumulator`]. Both compute with
//! the same code, so that both give the same answer:
//!
//! | module | what it holds |
//! |---|---|
//! | [`shape`] | which values of a row are kept, in which order a group's rows are looked at |
//! | [`fold`] | what becomes of a group's values |
//! | [`percentile`] | percentiles and histograms |
//! | [`total`] | sums and averages |
//! | `bitmap`, `count_min` | bitmaps; the Count-Min sketch |
//! | [`types`] | what each takes, and what it gives |
//! | [`calls`] | calls as the planner meets them: arguments that say how rather than what |
//! | [`accumulator`] | for a batch |
//! | [`order`] | the order of a group's rows where the query says none |

pub mod accumulator;
mod bitmap;
pub mod calls;
mod count_min;
pub mod fold;
pub mod order;
pub mod percentile;
pub mod shape;
pub mod total;
pub mod types;

pub use fold::{Fold, Signature};
pub use shape::Shape;

use std::any::Any;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::expr::AggregateFunctionParams;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Signature as Takes, Volatility,
};

use super::super::AggregateFunction as Function;
use crate::row::{BitOperation, Statistic};

/// The functions by their names; of several the first is the one that is shown.
const NAMES: &[(&str, Function)] = &[
    ("any", Function::Max),
    ("first", Function::First),
    ("any_value", Function::First),
    ("approx_percentile", Function::ApproxPercentile),
    ("approx_top_k", Function::TopK),
    ("collect_list", Function::CollectList),
    ("avg", Function::Avg),
    ("array_agg", Function::CollectList),
    ("bit_and", Function::Bits(BitOperation::And)),
    ("bit_or", Function::Bits(BitOperation::Or)),
    ("bit_xor", Function::Bits(BitOperation::Xor)),
    ("bitmap_and_agg", Function::BitmapAnd),
    ("bitmap_construct_agg", Function::BitmapOf),
    ("bitmap_or_agg", Function::BitmapOr),
    ("bool_and", Function::Min),
    ("bool_or", Function::Max),
    ("collect_set", Function::CollectSet),
    ("collect_union", Function::CollectUnion),
    ("corr", Function::Statistic(Statistic::Corr)),
    ("count_min_sketch", Function::CountMinSketch),
    ("covar_pop", Function::Statistic(Statistic::CovarPop)),
    ("covar_samp", Function::Statistic(Statistic::CovarSamp)),
    ("every", Function::Min),
    ("first_value", Function::First),
    ("histogram_numeric", Function::HistogramNumeric),
    ("kurtosis", Function::Statistic(Statistic::Kurtosis)),
    ("last", Function::Last),
    ("last_value", Function::Last),
    ("listagg", Function::ListAgg),
    ("max_by", Function::MaxBy),
    ("mean", Function::Avg),
    ("median", Function::Median),
    ("min_by", Function::MinBy),
    ("mode", Function::Mode),
    ("percentile", Function::Percentile),
    ("percentile_approx", Function::ApproxPercentile),
    ("percentile_cont", Function::Percentile),
    ("percentile_disc", Function::PercentileDisc),
    ("regr_avgx", Function::Statistic(Statistic::RegrAvgX)),
    ("regr_avgy", Function::Statistic(Statistic::RegrAvgY)),
    (
        "regr_intercept",
        Function::Statistic(Statistic::RegrIntercept),
    ),
    ("regr_r2", Function::Statistic(Statistic::RegrR2)),
    ("regr_slope", Function::Statistic(Statistic::RegrSlope)),
    ("regr_sxx", Function::Statistic(Statistic::RegrSxx)),
    ("regr_sxy", Function::Statistic(Statistic::RegrSxy)),
    ("regr_syy", Function::Statistic(Statistic::RegrSyy)),
    ("skewness", Function::Statistic(Statistic::Skewness)),
    ("some", Function::Max),
    ("stddev", Function::Statistic(Statistic::StddevSamp)),
    ("std", Function::Statistic(Statistic::StddevSamp)),
    ("stddev_pop", Function::Statistic(Statistic::StddevPop)),
    ("stddev_samp", Function::Statistic(Statistic::StddevSamp)),
    ("string_agg", Function::ListAgg),
    ("sum", Function::Sum),
    ("try_avg", Function::TryAvg),
    ("try_sum", Function::TrySum),
    ("var_pop", Function::Statistic(Statistic::VarPop)),
    ("var_samp", Function::Statistic(Statistic::VarSamp)),
    ("variance", Function::Statistic(Statistic::VarSamp)),
];

/// All of them, and `count_if` and `regr_count`, which become `count` when they are planned.
pub fn functions() -> Vec<Arc<AggregateUDF>> {
    let named = NAMES.iter().copied();
    let counts = ["count_if", "regr_count"].map(|name| (name, Function::Count));
    (named.chain(counts))
        .map(|(name, function)| {
            Arc::new(AggregateUDF::new_from_impl(SparkAggregate {
                name,
                function,
                takes: Takes::user_defined(Volatility::Immutable),
            }))
        })
        .collect()
}

/// What a function of [`functions`] computes; `None` for others.
pub fn function_of(function: &AggregateUDF) -> Option<Function> {
    let function: &dyn Any = &**function.inner();
    Some(function.downcast_ref::<SparkAggregate>()?.function)
}

/// Refuses what a function of [`functions`] does not take, where the planner could not see it yet.
pub fn check(function: &AggregateUDF, types: &[DataType]) -> Result<()> {
    match function_of(function) {
        Some(known) => types::refuse_mixed_intervals(function.name(), known, types),
        None => Ok(()),
    }
}

/// What SQL calls a function of [`functions`]; `None` for others.
pub fn name_of(function: Function) -> Option<&'static str> {
    let mut names = NAMES.iter().filter(|(_, named)| *named == function);
    names.next().map(|(name, _)| *name)
}

/// Functions whose result depends on the order of the group's rows.
pub fn is_ordered(function: Function) -> bool {
    matches!(
        function,
        Function::First | Function::Last | Function::CollectList | Function::ListAgg
    )
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SparkAggregate {
    name: &'static str,
    function: Function,
    takes: Takes,
}

impl AggregateUDFImpl for SparkAggregate {
    fn name(&self) -> &str {
        self.name
    }

    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        let each = if params.distinct { "DISTINCT " } else { "" };
        let args = params.args.iter();
        let args: Vec<String> = args.map(|arg| arg.schema_name().to_string()).collect();
        let mut name = format!("{}({each}{})", self.name, args.join(", "));
        if let Some(treatment) = &params.null_treatment {
            let _ = write!(name, " {treatment}");
        }
        if let Some(filter) = &params.filter {
            let _ = write!(name, " FILTER (WHERE {})", filter.schema_name());
        }
        for (index, by) in params.order_by.iter().enumerate() {
            let before = if index == 0 { " ORDER BY " } else { ", " };
            let way = if by.asc { "ASC" } else { "DESC" };
            let nulls = if by.nulls_first { "FIRST" } else { "LAST" };
            let _ = write!(
                name,
                "{before}{} {way} NULLS {nulls}",
                by.expr.schema_name()
            );
        }
        Ok(name)
    }

    fn signature(&self) -> &Takes {
        &self.takes
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        types::taken(self.name, self.function, types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        types::given(self.name, self.function, types)
    }

    fn is_nullable(&self) -> bool {
        !matches!(
            self.function,
            Function::CollectList
                | Function::CollectSet
                | Function::CollectUnion
                | Function::TopK
                | Function::BitmapOf
                | Function::BitmapAnd
                | Function::BitmapOr
                | Function::CountMinSketch
        )
    }

    fn supports_null_handling_clause(&self) -> bool {
        matches!(self.function, Function::First | Function::Last)
    }

    fn supports_within_group_clause(&self) -> bool {
        calls::is_within_group(self.name)
    }

    fn with_beneficial_ordering(
        self: Arc<Self>,
        _: bool,
    ) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        Ok(Some(self))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        // The accumulator puts rows in order itself; it only has to be given what they are ordered by.
        AggregateOrderSensitivity::SoftRequirement
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let name = format_state_name(args.name, "state");
        Ok(vec![Arc::new(Field::new(name, DataType::Binary, false))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        accumulator::of(self.function, &args)
    }
}
