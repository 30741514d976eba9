//! The calls of an aggregate with what they are computed from: shared by all that accumulate.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::DataType;
use datafusion::common::DFSchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{Expr, when};

use crate::operators::aggregate::accumulate::{Groups, valid_rows};
use crate::operators::aggregate::call::{Call, Kind};
use crate::operators::aggregate::distinct::{Set, sets};
use crate::operators::expression::Expressions;
use crate::operators::{EpochInfo, OperatorError};
use crate::plan;
use crate::row::Delta;

/// Calls, their arguments and filters.
pub struct Calls {
    /// What each computes.
    pub calls: Arc<[Call]>,
    /// Accumulators of no groups.
    pub groups: Groups,
    /// The sets of distinct values that calls count.
    pub sets: Vec<Set>,
    arguments: Vec<Expressions>,
    filters: Vec<Option<Expressions>>,
}

/// For each call its arguments over one batch, and which rows count where it has a filter.
pub type Arguments = Vec<(Vec<ArrayRef>, Option<BooleanArray>)>;

/// Rows to accumulate: row i belongs to group `of[i]`, and comes `diffs[i]` times.
pub struct Grouped<'a> {
    /// The group of each.
    pub of: &'a [u32],
    /// `None`: once each. Zero for rows that do not count.
    pub diffs: Option<&'a [i64]>,
    /// `None`: all rows count.
    pub counted: Option<&'a BooleanArray>,
}

/// Values to keep, row by row.
pub enum Values<'a> {
    /// The arguments of a call that keeps them, and the rows that count.
    OfCall(usize, &'a [ArrayRef], &'a BooleanArray),
    /// The values of a set, and the rows that count for each of its calls.
    OfSet(usize, &'a [ArrayRef], &'a [BooleanArray]),
}

/// Takes what is to be kept.
pub type KeepValues<'a> = dyn FnMut(Values<'_>) -> Result<(), OperatorError> + 'a;

impl Calls {
    /// The calls `of` over rows of `input`, whose results are the columns of `output` from
    /// `first` on; `options` are what expressions are computed with.
    pub fn new(
        of: &[plan::AggregateCall],
        input: &DFSchemaRef,
        input_retracts: bool,
        (output, first): (&DFSchemaRef, usize),
        options: &Arc<ConfigOptions>,
    ) -> Result<Self, OperatorError> {
        let mut prepared = vec![];
        let mut arguments = vec![];
        let mut filters = vec![];
        for (index, call) in of.iter().enumerate() {
            let guarded = guarded(call)?;
            let expressions = Expressions::new(&guarded, input, options)?;
            let types: Vec<DataType> = expressions.types(input)?;
            let field = output.field(first + index);
            let output_type = field.data_type().clone();
            let name = field.name().clone();
            prepared.push(Call::new(call, types, output_type, name, input_retracts)?);
            arguments.push(expressions);
            filters.push(
                call.filter
                    .as_ref()
                    .map(|f| Expressions::new([f], input, options))
                    .transpose()?,
            );
        }
        let calls: Arc<[Call]> = prepared.into();
        let groups = Groups::new(Arc::clone(&calls), input_retracts);
        let sets = sets(&calls, |one, other| of[one].counts_same_values(&of[other]));
        Ok(Self {
            calls,
            groups,
            sets,
            arguments,
            filters,
        })
    }

    /// Computes the arguments and filters of all calls.
    pub fn evaluate(&self, delta: &Delta, epoch: &EpochInfo) -> Result<Arguments, OperatorError> {
        let calls = self.arguments.iter().zip(&self.filters);
        calls
            .map(|(arguments, filter)| {
                let filter = filter.as_ref().map(|f| f.condition(delta, epoch));
                Ok((arguments.evaluate(delta, epoch)?, filter.transpose()?))
            })
            .collect()
    }

    /// Adds rows to their groups. The values that are kept beside them go to `keep`.
    pub fn accumulate(
        &self,
        groups: &mut Groups,
        rows: &Grouped<'_>,
        arguments: &Arguments,
        keep: &mut KeepValues<'_>,
    ) -> Result<(), OperatorError> {
        groups.add_rows(rows.of, rows.diffs);
        let valid = |index: usize| {
            let (arguments, filter) = &arguments[index];
            let required = self.calls[index].required(arguments);
            let valid = valid_rows(rows.of.len(), &required, filter.as_ref());
            match rows.counted {
                Some(counted) => BooleanArray::new(valid.values() & counted.values(), None),
                None => valid,
            }
        };
        for (index, call) in self.calls.iter().enumerate() {
            let of_call = &arguments[index].0;
            if call.keeps_values() {
                keep(Values::OfCall(index, of_call, &valid(index)))?;
            } else if !matches!(call.kind, Kind::Distinct) {
                groups.add(index, of_call, &valid(index), rows.of, rows.diffs)?;
            }
        }
        for (number, set) in self.sets.iter().enumerate() {
            let counted: Vec<_> = set.calls.iter().map(|call| valid(*call)).collect();
            keep(Values::OfSet(number, &arguments[set.calls[0]].0, &counted))?;
        }
        Ok(())
    }
}

/// The arguments of a call and what its rows are ordered by, computed only where its filter holds:
/// `sum(1 / x) FILTER (WHERE x <> 0)` does not fail on x = 0.
fn guarded(call: &plan::AggregateCall) -> Result<Vec<Expr>, OperatorError> {
    let values = call.args.iter().chain(call.order.iter().map(|by| &by.expr));
    let Some(filter) = &call.filter else {
        return Ok(values.cloned().collect());
    };
    values
        .map(|argument| match argument {
            Expr::Column(_) | Expr::Literal(..) => Ok(argument.clone()),
            _ => when(filter.clone(), argument.clone())
                .end()
                .map_err(|error| OperatorError::Unsupported {
                    expression: plan::text::expression(argument),
                    reason: error.strip_backtrace(),
                }),
        })
        .collect()
}
