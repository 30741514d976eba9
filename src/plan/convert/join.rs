//! Joins: what must be equal, what else must hold, and how long a row can find a match.
//!
//! A condition bounds the state where it says how far apart in event time two rows can be: `a.ts <= b.ts +
//! INTERVAL '5' MINUTE`, `BETWEEN`, two windows that are equal. A row of `b` is then kept until no row of `a`
//! that is not late can match it: as long as the watermark, less what `a` lags, is at or below its own time and five minutes more.
//! With `<` it goes when the watermark reaches that moment, as in Spark.

use std::sync::Arc;

use datafusion::common::{DFSchema, JoinType, NullEquality};
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Join as LogicalJoin, Operator as Op, and, binary_expr,
};

use super::super::event_time::{self, bound_of, interval_micros, is_instant};
use super::super::join::{Join, JoinKind, JoinSide, Kept, LEFT, Moment, RIGHT, Within, is_static};
use super::super::text::is_utc;
use super::super::{Emit, EventTimeColumn, EventTimeKind, Node, Operator, text};
use super::error::{ConvertError, Result, unsupported};
use super::expr::{resolve, resolve_over, uses_clock};
use super::nodes::Scope;

/// What a bound that includes its end adds: watermarks are whole milliseconds, so any fraction would do.
const TICK: i64 = 1;

/// The join of two inputs.
pub(super) fn join(join: &LogicalJoin, left: Node, right: Node, scope: Scope<'_>) -> Result<Node> {
    let inputs = [left, right];
    let kind = kind(join.join_type);
    let failed = |source| ConvertError::Expression {
        what: kind.name().into(),
        source,
    };
    let both = inputs[LEFT]
        .schema
        .join(&inputs[RIGHT].schema)
        .map_err(failed)?;
    if join.null_aware {
        return Err(unsupported(
            "NOT IN with a correlated sub-query that has a LIMIT or one row of aggregates",
            "it has a row also where nothing correlates",
            "write NOT EXISTS (SELECT ... WHERE ...) with all conditions in it",
        ));
    }
    let mut on = Vec::new();
    let mut conditions = Vec::new();
    for (one, other) in &join.on {
        let of_type = |expr: &Expr| expr.get_type(&both).map_err(failed);
        if of_type(one)? == of_type(other)? {
            on.push((
                resolve(one.clone(), &inputs[LEFT], scope)?,
                resolve(other.clone(), &inputs[RIGHT], scope)?,
            ));
        } else {
            let equal = match join.null_equality {
                NullEquality::NullEqualsNothing => Op::Eq,
                NullEquality::NullEqualsNull => Op::IsNotDistinctFrom,
            };
            conditions.push(binary_expr(one.clone(), equal, other.clone()));
        }
    }
    conditions.extend(
        join.filter
            .clone()
            .into_iter()
            .flat_map(split_conjunction_owned),
    );
    let mut own: [Vec<Expr>; 2] = Default::default();
    let mut of_pairs = Vec::new();
    for condition in conditions {
        let condition = resolve_over(condition, &both, scope)?;
        if uses_clock(&condition) {
            return Err(unsupported(
                format!("{} ON {}", kind.name(), text::expression(&condition)),
                "a pair would match at one time and not at another",
                "compare the rows' own times, or compute current_timestamp() below the join",
            ));
        }
        match only_side(&condition, &inputs) {
            Some(side) => own[side].push(condition),
            None => of_pairs.push(condition),
        }
    }
    let streaming =
        |source: usize| (scope.sources.get(source)).is_some_and(|source| source.table.streaming);
    let unchanging = inputs.each_ref().map(|input| is_static(input, &streaming));
    let kept = [LEFT, RIGHT].map(|side| {
        if unchanging == [side == RIGHT, side == LEFT] && !kind.tracks(1 - side) {
            return Kept::Not;
        }
        let bounds = of_keys(&on, &inputs, side, scope).into_iter().chain(
            of_pairs
                .iter()
                .flat_map(|expr| of_condition(expr, &inputs, side)),
        );
        let first = bounds.min_by_key(|(moment, more)| (text::expression(&moment.time), *more));
        first.map_or(Kept::Forever, |(moment, more)| Kept::Until(moment, more))
    });
    let within = within(&of_pairs, &inputs).filter(|_| !kept.contains(&Kept::Not));
    let columns = columns(kind, &inputs, &kept);
    let late = |side: usize| {
        let input = &inputs[side];
        let bound = bound_of(&input.columns).filter(|_| kept[side] != Kept::Not)?;
        Some(Moment {
            time: Expr::Column(input.schema.columns().swap_remove(bound.key)),
            column: bound.column,
        })
    };
    let late = [late(LEFT), late(RIGHT)];
    let mut sides = own
        .into_iter()
        .zip(kept)
        .zip(late)
        .map(|((own, kept), late)| JoinSide {
            condition: own.into_iter().reduce(and),
            late,
            kept,
        });
    let (Some(left), Some(right)) = (sides.next(), sides.next()) else {
        unreachable!("a join has two sides")
    };
    let operator = Join {
        kind,
        on,
        nulls_match: join.null_equality == NullEquality::NullEqualsNull,
        filter: of_pairs.into_iter().reduce(and),
        sides: [left, right],
        within,
        emit: Emit::Changes,
    };
    Ok(Node {
        id: 0,
        operator: Operator::Join(Box::new(operator)),
        schema: Arc::clone(&join.schema),
        columns,
        append_only: false,
        inputs: inputs.into(),
    })
}

fn kind(join_type: JoinType) -> JoinKind {
    match join_type {
        JoinType::Inner => JoinKind::Inner,
        JoinType::Left => JoinKind::Outer([true, false]),
        JoinType::Right => JoinKind::Outer([false, true]),
        JoinType::Full => JoinKind::Outer([true, true]),
        JoinType::LeftSemi => JoinKind::Semi(LEFT),
        JoinType::RightSemi => JoinKind::Semi(RIGHT),
        JoinType::LeftAnti => JoinKind::Anti(LEFT),
        JoinType::RightAnti => JoinKind::Anti(RIGHT),
        JoinType::LeftMark => JoinKind::Mark(LEFT),
        JoinType::RightMark => JoinKind::Mark(RIGHT),
    }
}

/// The input whose columns alone an expression names; `None`: those of both, or none.
pub(super) fn only_side(expr: &Expr, inputs: &[Node; 2]) -> Option<usize> {
    let columns = expr.column_refs();
    [LEFT, RIGHT].into_iter().find(|side| {
        let schema = &inputs[*side].schema;
        !columns.is_empty()
            && (columns.iter()).all(|column| schema.maybe_index_of_column(column).is_some())
    })
}

/// Event time less a shift.
struct Shifted {
    side: usize,
    moment: Moment,
    shift: i64,
}

/// `ts`, `window.end`, `window.start`, and such a time and a constant interval.
fn shifted(expr: &Expr, inputs: &[Node; 2]) -> Option<Shifted> {
    match expr {
        Expr::Alias(alias) => shifted(&alias.expr, inputs),
        Expr::Column(column) => {
            let (side, index) = [LEFT, RIGHT].into_iter().find_map(|side| {
                let index = inputs[side].schema.maybe_index_of_column(column)?;
                Some((side, index))
            })?;
            let column = inputs[side].columns[index]?;
            let shift = match column.kind {
                EventTimeKind::Instant | EventTimeKind::WindowEnd => 0,
                EventTimeKind::WindowStart(size) => size,
                EventTimeKind::Window(_) | EventTimeKind::Windows(_) | EventTimeKind::Session => {
                    return None;
                }
            };
            let time = expr.clone();
            Some(Shifted {
                side,
                moment: Moment { time, column },
                shift,
            })
        }
        Expr::Cast(cast) if is_instant(cast.field.data_type()) => shifted(&cast.expr, inputs)
            .filter(|inner| is_zoned(&cast.expr, &inputs[inner.side].schema)),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (time, plus) = match op {
                Op::Minus => (left, interval_micros(right)?.checked_neg()?),
                Op::Plus => match interval_micros(right) {
                    Some(plus) => (left, plus),
                    None => (right, interval_micros(left)?),
                },
                _ => return None,
            };
            let inner = shifted(time, inputs)?;
            is_zoned(time, &inputs[inner.side].schema).then_some(Shifted {
                shift: inner.shift.checked_sub(plus)?,
                ..inner
            })
        }
        _ => None,
    }
}

/// Whether it is an instant, of which days have a fixed length.
fn is_zoned(expr: &Expr, schema: &DFSchema) -> bool {
    use datafusion::arrow::datatypes::DataType::Timestamp;
    matches!(expr.get_type(schema), Ok(Timestamp(_, Some(zone))) if is_utc(&zone))
}

/// How long a condition lets rows of `side` find a match, by which of their times.
fn of_condition(expr: &Expr, inputs: &[Node; 2], side: usize) -> Vec<(Moment, i64)> {
    let found = match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Op::Lt => vec![before(left, right, 0, inputs, side)],
            Op::LtEq => vec![before(left, right, TICK, inputs, side)],
            Op::Gt => vec![before(right, left, 0, inputs, side)],
            Op::GtEq => vec![before(right, left, TICK, inputs, side)],
            Op::Eq => vec![
                before(left, right, 0, inputs, side),
                before(right, left, 0, inputs, side),
            ],
            _ => vec![],
        },
        Expr::Between(between) if !between.negated => vec![
            before(&between.low, &between.expr, TICK, inputs, side),
            before(&between.expr, &between.high, TICK, inputs, side),
        ],
        _ => vec![],
    };
    found.into_iter().flatten().collect()
}

/// `one` lies before `other`, a time of `side`: so a row of `side` is out of reach some time after.
fn before(
    one: &Expr,
    other: &Expr,
    tick: i64,
    inputs: &[Node; 2],
    side: usize,
) -> Option<(Moment, i64)> {
    let (one, other) = (shifted(one, inputs)?, shifted(other, inputs)?);
    if other.side != side || one.side == side {
        return None;
    }
    let more = (one.shift.checked_sub(other.shift)?)
        .checked_add(tick)?
        .checked_add(one.moment.column.lag)?;
    Some((other.moment, more))
}

/// What conditions say about how far apart the rows of a pair are: those about the same times as the first.
fn within(conditions: &[Expr], inputs: &[Node; 2]) -> Option<Within> {
    let ordered = |condition: &Expr| -> Vec<(Shifted, Shifted)> {
        let pair = |one: &Expr, other: &Expr| {
            let (one, other) = (shifted(one, inputs)?, shifted(other, inputs)?);
            (one.side != other.side).then_some((one, other))
        };
        let found = match condition {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
                Op::Lt | Op::LtEq => vec![pair(left, right)],
                Op::Gt | Op::GtEq => vec![pair(right, left)],
                Op::Eq => vec![pair(left, right), pair(right, left)],
                _ => vec![],
            },
            Expr::Between(between) if !between.negated => vec![
                pair(&between.low, &between.expr),
                pair(&between.expr, &between.high),
            ],
            _ => vec![],
        };
        found.into_iter().flatten().collect()
    };
    let mut found: Option<Within> = None;
    // The first of two is at or before the other.
    for (first, second) in conditions.iter().flat_map(ordered) {
        let difference = second.shift.checked_sub(first.shift)?;
        let left_first = first.side == LEFT;
        let (left, right) = if left_first {
            (first, second)
        } else {
            (second, first)
        };
        let moments = [left.moment, right.moment];
        let within = found.get_or_insert_with(|| Within {
            moments: moments.clone(),
            least: None,
            most: None,
        });
        if within.moments != moments {
            continue;
        }
        if left_first {
            within.least = within.least.max(Some(difference));
        } else {
            let at_most = difference.checked_neg()?;
            within.most = Some(within.most.map_or(at_most, |most| most.min(at_most)));
        }
    }
    found
}

/// The same of keys that are windows or times.
fn of_keys(
    on: &[(Expr, Expr)],
    inputs: &[Node; 2],
    side: usize,
    scope: Scope<'_>,
) -> Vec<(Moment, i64)> {
    let moment = |expr: &Expr, side: usize| {
        let input = &inputs[side];
        event_time::of_expression(expr, &input.schema, &input.columns, scope.clock)
    };
    let of_pair = |(left, right): &(Expr, Expr)| {
        let columns = [moment(left, LEFT)?, moment(right, RIGHT)?];
        let length = |column: EventTimeColumn| match column.kind {
            EventTimeKind::WindowStart(size) => Some(size),
            EventTimeKind::Windows(_) => None,
            EventTimeKind::Instant
            | EventTimeKind::WindowEnd
            | EventTimeKind::Window(_)
            | EventTimeKind::Session => Some(0),
        };
        let whole = |column: EventTimeColumn| {
            matches!(
                column.kind,
                EventTimeKind::Window(_) | EventTimeKind::Session
            )
        };
        if whole(columns[LEFT]) != whole(columns[RIGHT]) {
            return None;
        }
        let (own, other) = (columns[side], columns[1 - side]);
        let more = length(other)?
            .checked_sub(length(own)?)?
            .checked_add(other.lag)?;
        let time = if side == LEFT { left } else { right };
        Some((
            Moment {
                time: time.clone(),
                column: own,
            },
            more,
        ))
    };
    on.iter().filter_map(of_pair).collect()
}

/// What is known of the columns' event time: a row comes out as long as it is kept.
fn columns(kind: JoinKind, inputs: &[Node; 2], kept: &[Kept; 2]) -> Vec<Option<EventTimeColumn>> {
    let of_side = |side: usize| {
        let input = &inputs[side];
        let names = input.schema.columns();
        (input.columns.iter().zip(names)).map(move |(column, name)| {
            let column = (*column)?;
            match &kept[side] {
                Kept::Not => Some(column),
                Kept::Forever => None,
                Kept::Until(moment, more) => {
                    // The moment may be computed from the column: a window of it ends after it.
                    let ahead = match (&moment.time, moment.column.kind) {
                        (Expr::Column(of), _) => (*of == name).then_some(0)?,
                        (of, EventTimeKind::Window(size)) => {
                            of.column_refs().contains(&name).then_some(size)?
                        }
                        _ => return None,
                    };
                    let lag = more.checked_add(ahead)?.max(column.lag);
                    Some(EventTimeColumn { lag, ..column })
                }
            }
        })
    };
    match kind {
        JoinKind::Inner | JoinKind::Outer(_) => of_side(LEFT).chain(of_side(RIGHT)).collect(),
        JoinKind::Semi(side) | JoinKind::Anti(side) => of_side(side).collect(),
        JoinKind::Mark(side) => of_side(side).chain([None]).collect(),
    }
}
