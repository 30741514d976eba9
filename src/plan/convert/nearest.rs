//! Joins with the nearest row: what is compared, and how long a row waits for a nearer one.
//!
//! Where both times are event times with a watermark, a row that is not late lies above the watermark less the
//! lag of its side. With the greater of the two lags for both, every row below that line is there: what is
//! nearest to a row below it is known, and of the earlier rows only the last below it can still be nearest.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Operator as Op, UserDefinedLogicalNodeCore,
};

use super::super::event_time;
use super::super::functions::collections::holds_map;
use super::super::join::{LEFT, Nearest, RIGHT, is_static};
use super::super::nearest::NearestJoin;
use super::super::sql::type_name;
use super::super::{Emit, EventTimeColumn, EventTimeKind, Node, Operator, Supplied, text};
use super::error::{ConvertError, Result, unsupported};
use super::expr::{resolve, uses_clock};
use super::join::only_side;
use super::nodes::Scope;

/// The join of two inputs.
pub(super) fn nearest(
    asked: &NearestJoin,
    left: Node,
    right: Node,
    scope: Scope<'_>,
) -> Result<Node> {
    let inputs = [left, right];
    let mut on = Vec::new();
    for equality in &asked.on {
        let ([left, right], _) = compared(equality, &inputs, &[Op::Eq], scope)?;
        on.push((left, right));
    }
    let comparisons = [Op::GtEq, Op::Gt, Op::LtEq, Op::Lt];
    let (times, op) = compared(&asked.condition, &inputs, &comparisons, scope)?;
    for (time, input) in times.iter().zip(&inputs) {
        let data_type = time.get_type(&input.schema).map_err(failed)?;
        if !is_ordinal(&data_type) {
            return Err(unsupported(
                format!(
                    "an ASOF JOIN by {}, a {},",
                    text::expression(time),
                    type_name(&data_type)
                ),
                "what is nearest is told by times, dates and whole numbers",
                "cast it to TIMESTAMP or BIGINT",
            ));
        }
    }
    if let Some(field) =
        (inputs[RIGHT].schema.fields().iter()).find(|field| holds_map(field.data_type()))
    {
        return Err(unsupported(
            format!("an ASOF JOIN with the map '{}'", field.name()),
            "rows of one time are told apart by the order of their columns, and maps have none",
            "take map_entries(..) of it in a sub-query",
        ));
    }
    let streaming =
        |source: usize| (scope.sources.get(source)).is_some_and(|source| source.table.streaming);
    let waits = !is_static(&inputs[RIGHT], &streaming);
    let moment = |side: usize| {
        let input = &inputs[side];
        event_time::of_expression(&times[side], &input.schema, &input.columns, scope.clock).filter(
            |found| {
                matches!(
                    found.kind,
                    EventTimeKind::Instant | EventTimeKind::WindowEnd
                )
            },
        )
    };
    let moments = if waits {
        [moment(LEFT), moment(RIGHT)]
    } else {
        [None; 2]
    };
    let lag = match moments {
        [Some(left), Some(right)] => Some(left.lag.max(right.lag)),
        _ => None,
    };
    let latest = if asked.latest && inputs[RIGHT].positioned() {
        vec![Supplied::Position.column()]
    } else {
        vec![]
    };
    let nearest = Nearest {
        on,
        times,
        later: matches!(op, Op::LtEq | Op::Lt),
        strict: matches!(op, Op::Gt | Op::Lt),
        outer: asked.outer,
        latest,
        moments,
        lag,
        waits,
        emit: Emit::Changes,
    };
    Ok(Node {
        id: 0,
        columns: columns(&nearest, &inputs),
        operator: Operator::Nearest(Box::new(nearest)),
        schema: Arc::clone(UserDefinedLogicalNodeCore::schema(asked)),
        append_only: false,
        inputs: inputs.into(),
    })
}

fn failed(source: datafusion::error::DataFusionError) -> ConvertError {
    ConvertError::Expression {
        what: "ASOF JOIN".into(),
        source,
    }
}

/// The two sides of a comparison, that of the left input first, and how they compare in this order.
fn compared(
    condition: &Expr,
    inputs: &[Node; 2],
    allowed: &[Op],
    scope: Scope<'_>,
) -> Result<([Expr; 2], Op)> {
    let refused = |reason: &str| {
        unsupported(
            format!("an ASOF JOIN on {}", text::expression(condition)),
            reason,
            "compare an expression over one table with one over the other",
        )
    };
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else {
        return Err(refused("it is no comparison"));
    };
    let ([of_left, of_right], op) = match (only_side(left, inputs), only_side(right, inputs)) {
        (Some(LEFT), Some(RIGHT)) => ([left, right], Some(*op)),
        (Some(RIGHT), Some(LEFT)) => ([right, left], op.swap()),
        _ => {
            return Err(refused(
                "each side of it must be about one of the two tables",
            ));
        }
    };
    let Some(op) = op.filter(|op| allowed.contains(op)) else {
        return Err(refused("it is no comparison of this kind"));
    };
    let of_left = resolve((**of_left).clone(), &inputs[LEFT], scope)?;
    let of_right = resolve((**of_right).clone(), &inputs[RIGHT], scope)?;
    if uses_clock(&of_left) || uses_clock(&of_right) {
        return Err(refused("it would hold at one time and not at another"));
    }
    let types = [
        of_left.get_type(&inputs[LEFT].schema).map_err(failed)?,
        of_right.get_type(&inputs[RIGHT].schema).map_err(failed)?,
    ];
    if types[LEFT] != types[RIGHT] {
        return Err(refused("its sides have different types"));
    }
    Ok(([of_left, of_right], op))
}

/// Whether values can be counted through, from one to the next.
fn is_ordinal(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Date32) || data_type.is_signed_integer()
}

/// What is known of the columns' event time. A row of the left input comes out while its time lies above the
/// watermark less the lag; a row that waits for a later one comes out with that one.
fn columns(nearest: &Nearest, inputs: &[Node; 2]) -> Vec<Option<EventTimeColumn>> {
    let of_side = |side: usize| {
        let input = &inputs[side];
        let names = input.schema.columns();
        let comes_in_time = if nearest.later { RIGHT } else { LEFT };
        (input.columns.iter().zip(names)).map(move |(column, name)| {
            let column = (*column)?;
            if !nearest.waits {
                return (side == LEFT).then_some(column);
            }
            let is_time = nearest.times[side].try_as_col() == Some(&name);
            let lag = nearest.lag.filter(|_| is_time && side == comes_in_time)?;
            Some(EventTimeColumn { lag, ..column })
        })
    };
    of_side(LEFT).chain(of_side(RIGHT)).collect()
}
