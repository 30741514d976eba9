//! Which aggregates over sliding windows can group rows by pane: those that see the window in their keys
//! alone.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchemaRef};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, SortExpr};
use datafusion::scalar::ScalarValue;

use crate::plan::functions::window::{self, PANE, SLIDING_WINDOWS};
use crate::plan::{Aggregate, AggregateCall, Node, Operator, Supplied};

/// Where an aggregate's input has a pane in the place of a window.
#[derive(Clone, Debug)]
pub struct PaneColumn {
    /// The column.
    pub column: usize,
    /// How long windows are, in microseconds.
    pub size: i64,
    /// How far apart, in microseconds.
    pub slide: i64,
}

/// The same aggregate with panes.
pub struct Paned<'a> {
    /// What gives the rows.
    pub input: &'a Node,
    /// What is kept of those.
    pub filter: Option<&'a Expr>,
    /// What is computed of them: panes in the place of lists of windows.
    pub project: Vec<Expr>,
    /// The schema of that.
    pub schema: &'a DFSchemaRef,
    /// The aggregate over that.
    pub aggregate: Aggregate,
    /// Where the pane is.
    pub place: PaneColumn,
}

/// Looks below an aggregate for a list of windows that is unnested.
pub fn paned<'a>(node: &'a Node, aggregate: &Aggregate) -> Option<Paned<'a>> {
    let mut above = None;
    let mut unnest = node.inputs.first()?;
    if let Operator::FilterProject {
        filter: None,
        project: Some(project),
    } = &unnest.operator
    {
        above = Some((&unnest.schema, &project[..]));
        unnest = unnest.inputs.first()?;
    }
    let Operator::Unnest {
        column,
        keep_empty: false,
    } = unnest.operator
    else {
        return None;
    };
    let below = unnest.inputs.first()?;
    let Operator::FilterProject {
        filter,
        project: Some(project),
    } = &below.operator
    else {
        return None;
    };
    let windows = Column::from(unnest.schema.qualified_field(column));
    let inline = |expr: &Expr| match above {
        Some((schema, project)) => inlined(expr, schema, project),
        None => Some(expr.clone()),
    };
    let keys: Vec<Expr> = aggregate.keys.iter().map(inline).collect::<Option<_>>()?;
    let calls = aggregate.calls.iter().map(|call| {
        let args = call.args.iter().map(inline).collect::<Option<_>>()?;
        let order = call.order.iter().map(|by| {
            let expr = inline(&by.expr)?;
            Some(SortExpr { expr, ..by.clone() })
        });
        Some(AggregateCall {
            args,
            order: order.collect::<Option<_>>()?,
            filter: match &call.filter {
                Some(filter) => Some(inline(filter)?),
                None => None,
            },
            ..call.clone()
        })
    });
    let calls: Vec<AggregateCall> = calls.collect::<Option<_>>()?;
    let of_calls = calls.iter().flat_map(|call| {
        let order = call.order.iter().map(|by| &by.expr);
        call.args.iter().chain(order).chain(&call.filter)
    });
    let sees = |expr: &Expr| expr.column_refs().contains(&windows);
    let mixes = |expr: &Expr| sees(expr) && expr.column_refs().len() > 1;
    if of_calls.clone().any(sees) || keys.iter().any(mixes) || !keys.iter().any(sees) {
        return None;
    }
    // What differs from row to row of its own accord differs from window to window, too.
    let unsteady =
        |expr: &Expr| expr.is_volatile() || Supplied::ALL.iter().any(|given| given.is_in(expr));
    if of_calls.chain(&keys).any(unsteady) {
        return None;
    }
    let mut project = project.clone();
    let (size, slide) = to_pane(&mut project[column])?;
    Some(Paned {
        input: below.inputs.first()?,
        filter: filter.as_ref(),
        project,
        schema: &unnest.schema,
        aggregate: Aggregate {
            keys,
            calls,
            ..aggregate.clone()
        },
        place: PaneColumn {
            column,
            size,
            slide,
        },
    })
}

/// An expression over the columns of a projection as one over the projection's input.
fn inlined(expr: &Expr, schema: &DFSchemaRef, project: &[Expr]) -> Option<Expr> {
    let inlined = expr.clone().transform_up(|expr| match &expr {
        Expr::Column(column) => {
            let index = schema.index_of_column(column)?;
            Ok(Transformed::yes(
                project[index].clone().unalias_nested().data,
            ))
        }
        _ => Ok(Transformed::no(expr)),
    });
    inlined.ok().map(|inlined| inlined.data)
}

/// Makes a call for windows one for the pane, and gives the windows' size and slide.
fn to_pane(expr: &mut Expr) -> Option<(i64, i64)> {
    match expr {
        Expr::Alias(alias) => to_pane(&mut alias.expr),
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == SLIDING_WINDOWS => {
            let number = |at: usize| match args.get(at) {
                Some(Expr::Literal(ScalarValue::Int64(number), _)) => *number,
                _ => None,
            };
            let (size, slide) = (number(1)?, number(2)?);
            *func = window::functions()
                .into_iter()
                .find(|function| function.name() == PANE)?;
            Some((size, slide))
        }
        _ => None,
    }
}
