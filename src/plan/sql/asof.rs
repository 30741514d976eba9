//! Joins with the nearest row: `ASOF JOIN` and `FOR SYSTEM_TIME AS OF`.
//!
//! Both become ordinary joins with a mark among their conditions ([`crate::plan::nearest`]):
//!
//! | written | becomes |
//! |---|---|
//! | `a ASOF JOIN b MATCH_CONDITION (a.ts >= b.ts) ON a.k = b.k` | `a JOIN b ON (a.k = b.k) AND __nearest(a.ts >= b.ts)` |
//! | `a LEFT ASOF JOIN b ...`, `a ASOF LEFT JOIN b ...` | the same with `LEFT JOIN` |
//! | `a JOIN v FOR SYSTEM_TIME AS OF a.ts ON a.k = v.k` | `a JOIN v ON (a.k = v.k) AND __version(a.ts >= v.ts, v.k)` |
//!
//! A static table has no versions: each row is looked up as the table is.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Ident, Join, JoinConstraint, JoinOperator, Select, Spanned, TableFactor,
    TableVersion, TableWithJoins,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use super::ast::{arguments, call, function_name};
use super::tokens::word;
use super::windows::Failure;
use crate::plan::error::PlanErrorKind;
use crate::plan::nearest::{NEAREST, VERSION};

/// Marks the match condition of an outer join, for which sqlparser has no syntax.
const OUTER: &str = "__outer";

/// What `FOR SYSTEM_TIME AS OF` finds behind a name.
#[derive(Debug)]
pub(super) enum Versions {
    /// A table.
    Table {
        /// Its primary key.
        key: Vec<String>,
        /// Its event time.
        time: Option<String>,
        /// Whether it goes on.
        streaming: bool,
    },
    /// A view, or a query of WITH.
    Query,
    /// A table whose source fails, which will be said.
    Failed,
}

/// The tokens with each `LEFT ASOF JOIN` and `ASOF LEFT JOIN` as an `ASOF JOIN` whose condition says so.
pub(super) fn outer(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let is = |at: usize, keyword: Keyword| {
        tokens.get(at).is_some_and(
            |token| matches!(&token.token, Token::Word(word) if word.keyword == keyword),
        )
    };
    let left = |at: usize| match (is(at, Keyword::LEFT), is(at + 1, Keyword::OUTER)) {
        (true, true) => 2,
        (true, false) => 1,
        (false, _) => 0,
    };
    let mut out = Vec::with_capacity(tokens.len());
    // How deep in parentheses an outer join was named, and where its condition ends.
    let (mut depth, mut named, mut ends) = (0, Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let before = left(at);
        if before > 0 && is(at + before, Keyword::ASOF) {
            named.push(depth);
            at += before;
            continue;
        }
        let behind = left(at + 1);
        let token = &tokens[at];
        if is(at, Keyword::ASOF) && behind > 0 && is(at + 1 + behind, Keyword::JOIN) {
            named.push(depth);
            out.push(token.clone());
            at += 1 + behind;
            continue;
        }
        out.push(token.clone());
        at += 1;
        match &token.token {
            Token::LParen => depth += 1,
            Token::RParen => {
                depth -= 1;
                if ends.last() == Some(&depth) {
                    ends.pop();
                    out.push(token.clone());
                }
            }
            Token::Word(found)
                if found.keyword == Keyword::MATCH_CONDITION
                    && named.last() == Some(&depth)
                    && tokens
                        .get(at)
                        .is_some_and(|next| next.token == Token::LParen) =>
            {
                named.pop();
                ends.push(depth);
                let open = tokens[at].clone();
                let mark = TokenWithSpan::new(word(OUTER), open.span);
                out.extend([open, mark]);
            }
            _ => {}
        }
    }
    out
}

/// Rewrites the joins of one block.
pub(super) fn rewrite(
    select: &mut Select,
    versions: &dyn Fn(&str) -> Versions,
) -> Result<(), Failure> {
    select
        .from
        .iter_mut()
        .try_for_each(|from| relation(from, versions))
}

fn relation(from: &mut TableWithJoins, versions: &dyn Fn(&str) -> Versions) -> Result<(), Failure> {
    let factors = std::iter::once(&mut from.relation);
    for factor in factors.chain(from.joins.iter_mut().map(|join| &mut join.relation)) {
        if let TableFactor::NestedJoin {
            table_with_joins, ..
        } = factor
        {
            relation(table_with_joins, versions)?;
        }
    }
    if let Some((_, span)) = version(&mut from.relation)? {
        return refused(
            span,
            "FOR SYSTEM_TIME AS OF on the first table of FROM",
            "look a row's version up from another table: FROM a JOIN t FOR SYSTEM_TIME AS OF a.ts ON a.k = t.k",
        );
    }
    from.joins
        .iter_mut()
        .try_for_each(|join| asof(join).and_then(|()| as_of(join, versions)))
}

fn refused<T>(span: Span, what: &str, instead: &str) -> Result<T, Failure> {
    let kind = PlanErrorKind::Unsupported {
        what: what.into(),
        instead: Some(instead.into()),
    };
    Err(Box::new((span, kind)))
}

/// The condition with the mark beside it.
fn marked(constraint: JoinConstraint, mark: Expr) -> Result<JoinConstraint, Failure> {
    Ok(JoinConstraint::On(match constraint {
        JoinConstraint::None => mark,
        JoinConstraint::On(on) => Expr::BinaryOp {
            left: Box::new(Expr::Nested(Box::new(on))),
            op: BinaryOperator::And,
            right: Box::new(mark),
        },
        JoinConstraint::Using(_) | JoinConstraint::Natural => {
            return refused(
                mark.span(),
                "a join with the nearest row USING or NATURAL",
                "write ON a.k = b.k",
            );
        }
    }))
}

/// `ASOF JOIN ... MATCH_CONDITION (...)`.
fn asof(join: &mut Join) -> Result<(), Failure> {
    let JoinOperator::AsOf {
        match_condition,
        constraint,
    } = &join.join_operator
    else {
        return Ok(());
    };
    let span = match_condition.span();
    let (condition, is_outer) = match match_condition {
        Expr::Function(function) if function_name(function) == OUTER => {
            match arguments(function)[..] {
                [condition] => (condition, true),
                _ => (match_condition, true),
            }
        }
        other => (other, false),
    };
    let compares = matches!(
        condition,
        Expr::BinaryOp {
            op: BinaryOperator::GtEq
                | BinaryOperator::Gt
                | BinaryOperator::LtEq
                | BinaryOperator::Lt,
            ..
        }
    );
    if !compares {
        return refused(
            span,
            "a MATCH_CONDITION that is no comparison",
            "compare a time of one table with one of the other by >=, >, <= or <",
        );
    }
    let mark = call(NEAREST, vec![condition.clone()], span);
    let constraint = marked(constraint.clone(), mark)?;
    join.join_operator = if is_outer {
        JoinOperator::LeftOuter(constraint)
    } else {
        JoinOperator::Inner(constraint)
    };
    Ok(())
}

/// Takes the version that is asked of a table, and its place.
fn version(factor: &mut TableFactor) -> Result<Option<(Expr, Span)>, Failure> {
    let span = factor.span();
    let TableFactor::Table { version, .. } = factor else {
        return Ok(None);
    };
    match version.take() {
        None => Ok(None),
        Some(TableVersion::ForSystemTimeAsOf(time)) => Ok(Some((time, span))),
        Some(_) => refused(
            span,
            "a version of a table by its number, or of a whole table by a time",
            "look a row's version up with FOR SYSTEM_TIME AS OF a.ts",
        ),
    }
}

/// `JOIN t FOR SYSTEM_TIME AS OF a.ts ON ...`.
fn as_of(join: &mut Join, versions: &dyn Fn(&str) -> Versions) -> Result<(), Failure> {
    let Some((time, span)) = version(&mut join.relation)? else {
        return Ok(());
    };
    let TableFactor::Table { name, alias, .. } = &join.relation else {
        return Ok(());
    };
    let table = name.to_string().replace('`', "").to_lowercase();
    let shown = alias.as_ref().map_or_else(
        || Ident::with_span(span, table.as_str()),
        |alias| alias.name.clone(),
    );
    let (key, event_time) = match versions(&table) {
        Versions::Failed => return Ok(()),
        Versions::Query => {
            return refused(
                span,
                &format!("FOR SYSTEM_TIME AS OF on '{table}', which is no table,"),
                "name the table with the PRIMARY KEY, or write ASOF JOIN ... MATCH_CONDITION (a.ts >= v.ts)",
            );
        }
        Versions::Table { key, .. } if key.is_empty() => {
            return refused(
                span,
                &format!("FOR SYSTEM_TIME AS OF on '{table}', which has no primary key,"),
                "declare PRIMARY KEY (k), which says what a row is a version of",
            );
        }
        Versions::Table {
            streaming: false, ..
        } => return Ok(()),
        Versions::Table { time: None, .. } => {
            return refused(
                span,
                &format!("FOR SYSTEM_TIME AS OF on '{table}', which has no event time,"),
                "declare WATERMARK FOR ts AS ts - INTERVAL '10' MINUTE, which says since when a version is valid",
            );
        }
        Versions::Table {
            key,
            time: Some(time),
            ..
        } => (key, time),
    };
    let column = |name: &str| {
        let name = Ident::with_quote_and_span('`', span, name);
        Expr::CompoundIdentifier(vec![shown.clone(), name])
    };
    let valid = Expr::BinaryOp {
        left: Box::new(time),
        op: BinaryOperator::GtEq,
        right: Box::new(column(&event_time)),
    };
    let key = key.iter().map(|name| column(name));
    let mark = call(VERSION, std::iter::once(valid).chain(key).collect(), span);
    let unchanged = join.join_operator.clone();
    join.join_operator = match unchanged {
        JoinOperator::Join(constraint) => JoinOperator::Join(marked(constraint, mark)?),
        JoinOperator::Inner(constraint) => JoinOperator::Inner(marked(constraint, mark)?),
        JoinOperator::Left(constraint) => JoinOperator::Left(marked(constraint, mark)?),
        JoinOperator::LeftOuter(constraint) => JoinOperator::LeftOuter(marked(constraint, mark)?),
        _ => {
            return refused(
                span,
                "FOR SYSTEM_TIME AS OF in another join than JOIN and LEFT JOIN",
                "put the versioned table on the right of JOIN or LEFT JOIN",
            );
        }
    };
    Ok(())
}
