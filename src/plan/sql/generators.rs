//! Generators on the syntax tree: `explode` and its like as relations of `FROM`.
//!
//! `FROM t LATERAL VIEW explode(a) v AS x`, `FROM t, LATERAL explode(a) AS v(x)` and
//! `SELECT explode(a) AS x FROM t` are one thing: `FROM (t CROSS JOIN LATERAL explode(a) AS v(x))`,
//! a join in parentheses whose right sides are generators. [`super::generate`] plans it. A generator
//! of the `SELECT` list gets columns of a name that no user writes, so that nothing else in the
//! block means them; without an alias its columns keep their own names.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, Join,
    JoinConstraint, JoinOperator, LateralView, ObjectName, ObjectNamePart, Select, SelectItem,
    SelectItemQualifiedWildcardKind, TableAlias, TableAliasColumnDef, TableFactor, TableWithJoins,
    Value, ValueWithSpan, VisitMut, VisitorMut, WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::ast::{call, function_name, name_span};
use super::windows::Failure;
use crate::plan::error::PlanErrorKind;

/// The generators of the `SELECT` list and of `LATERAL VIEW`.
pub(super) const NAMES: &[&str] = &[
    "explode",
    "explode_outer",
    "inline",
    "inline_outer",
    "json_tuple",
    "posexplode",
    "posexplode_outer",
    "stack",
];

/// What stands in `FROM` only.
const RELATIONS: &[&str] = &["range", "unnest"];

/// A generator in `FROM`: its name in lower case, its arguments and what it is called.
pub(super) struct Relation<'a> {
    pub(super) name: String,
    pub(super) args: Vec<&'a Expr>,
    pub(super) alias: Option<&'a TableAlias>,
}

/// The generator that a relation of `FROM` is, if it is one.
pub(super) fn relation(factor: &TableFactor) -> Option<Relation<'_>> {
    let (name, args, alias) = match factor {
        TableFactor::Function {
            name, args, alias, ..
        } => (name, args, alias),
        TableFactor::Table {
            name,
            args: Some(args),
            alias,
            ..
        } => (name, &args.args, alias),
        _ => return None,
    };
    let [ObjectNamePart::Identifier(ident)] = &name.0[..] else {
        return None;
    };
    let name = ident.value.to_lowercase();
    let known = NAMES.contains(&name.as_str()) || RELATIONS.contains(&name.as_str());
    known.then(|| Relation {
        name,
        args: args
            .iter()
            .filter_map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
                _ => None,
            })
            .collect(),
        alias: alias.as_ref(),
    })
}

/// Rewrites the generators of one block.
pub(super) fn rewrite(select: &mut Select) -> Result<(), Failure> {
    let views = std::mem::take(&mut select.lateral_views);
    join_from(select);
    for view in views {
        let generator = lateral_view(view)?;
        append(&mut select.from, generator, false);
    }
    select_list(select)?;
    refuse_elsewhere(select)
}

/// Relations of `FROM` that are generators join what stands before them.
fn join_from(select: &mut Select) {
    for mut item in std::mem::take(&mut select.from) {
        let joins = std::mem::take(&mut item.joins);
        if relation(&item.relation).is_some() && !select.from.is_empty() {
            append(&mut select.from, item.relation, false);
        } else {
            select.from.push(item);
        }
        for join in joins {
            match generated(&join) {
                Some(outer) => append_last(&mut select.from, join.relation, outer),
                None => {
                    if let Some(last) = select.from.last_mut() {
                        last.joins.push(join);
                    }
                }
            }
        }
    }
}

/// Whether a join multiplies rows by a generator, and if so whether rows without any stay.
fn generated(join: &Join) -> Option<bool> {
    relation(&join.relation)?;
    let always = |constraint: &JoinConstraint| match constraint {
        JoinConstraint::None => true,
        JoinConstraint::On(Expr::Value(ValueWithSpan { value, .. })) => {
            matches!(value, Value::Boolean(true))
        }
        _ => false,
    };
    match &join.join_operator {
        JoinOperator::CrossJoin(constraint)
        | JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
            if always(constraint) =>
        {
            Some(false)
        }
        JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint)
            if always(constraint) =>
        {
            Some(true)
        }
        _ => None,
    }
}

/// All relations joined into one, and the generator behind it: it may name any of them.
fn append(from: &mut Vec<TableWithJoins>, generator: TableFactor, outer: bool) {
    if from.is_empty() {
        from.push(TableWithJoins {
            relation: generator,
            joins: vec![],
        });
        return;
    }
    let mut all = std::mem::take(from).into_iter();
    if let Some(mut first) = all.next() {
        first.joins.extend(all.flat_map(|item| {
            let joined = Join {
                relation: item.relation,
                global: false,
                join_operator: JoinOperator::CrossJoin(JoinConstraint::None),
            };
            std::iter::once(joined).chain(item.joins)
        }));
        from.push(first);
    }
    append_last(from, generator, outer);
}

/// The last relation with the generator behind it.
fn append_last(from: &mut [TableWithJoins], generator: TableFactor, outer: bool) {
    let Some(last) = from.last_mut() else {
        return;
    };
    let constraint = JoinConstraint::None;
    let join = Join {
        relation: generator,
        global: false,
        join_operator: if outer {
            JoinOperator::LeftOuter(constraint)
        } else {
            JoinOperator::CrossJoin(constraint)
        },
    };
    let joins = std::mem::take(&mut last.joins);
    let relation = std::mem::replace(
        &mut last.relation,
        TableFactor::NestedJoin {
            table_with_joins: Box::new(TableWithJoins {
                relation: factor(ObjectName(vec![]), vec![], None),
                joins: vec![],
            }),
            alias: None,
        },
    );
    let inner = if joins.is_empty() {
        relation
    } else {
        TableFactor::NestedJoin {
            table_with_joins: Box::new(TableWithJoins { relation, joins }),
            alias: None,
        }
    };
    last.relation = TableFactor::NestedJoin {
        table_with_joins: Box::new(TableWithJoins {
            relation: inner,
            joins: vec![join],
        }),
        alias: None,
    };
}

/// A call as a relation.
fn factor(name: ObjectName, args: Vec<FunctionArg>, alias: Option<TableAlias>) -> TableFactor {
    TableFactor::Function {
        lateral: true,
        name,
        args,
        with_ordinality: false,
        alias,
    }
}

fn table_alias(name: Ident, columns: Vec<Ident>) -> TableAlias {
    TableAlias {
        explicit: true,
        name,
        columns: columns
            .into_iter()
            .map(|name| TableAliasColumnDef {
                name,
                data_type: None,
            })
            .collect(),
        at: None,
    }
}

fn lateral_view(view: LateralView) -> Result<TableFactor, Failure> {
    let Expr::Function(function) = view.lateral_view else {
        let message = "[PARSE_SYNTAX_ERROR] LATERAL VIEW takes a call such as explode(a)";
        return Err(failure(Span::empty(), message.into()));
    };
    let name = function_name(&function);
    if !NAMES.contains(&name.as_str()) {
        let message = format!(
            "[UNSUPPORTED_GENERATOR.NOT_GENERATOR] {name} makes no rows; LATERAL VIEW takes {}",
            NAMES.join(", ")
        );
        return Err(failure(name_span(&function), message));
    }
    // In `LATERAL VIEW explode(a) AS x` the view has no name.
    let named = view
        .lateral_view_name
        .0
        .last()
        .and_then(|part| part.as_ident());
    let alias = match named {
        Some(ident) if !(ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("as")) => {
            ident.clone()
        }
        _ => Ident::new("__view"),
    };
    let span = name_span(&function);
    let name = match name.strip_suffix("_outer") {
        None if view.outer => format!("{name}_outer"),
        _ => name,
    };
    Ok(factor(
        ObjectName::from(vec![Ident::with_span(span, name)]),
        call_args(function),
        Some(table_alias(alias, view.lateral_col_alias)),
    ))
}

fn call_args(function: Function) -> Vec<FunctionArg> {
    match function.args {
        FunctionArguments::List(list) => list.args,
        _ => vec![],
    }
}

fn failure(span: Span, message: String) -> Failure {
    Box::new((span, PlanErrorKind::Query { message }))
}

/// Generators of the `SELECT` list become relations behind all others.
fn select_list(select: &mut Select) -> Result<(), Failure> {
    let generator = |expr: &Expr| match expr {
        Expr::Function(function) => NAMES.contains(&function_name(function).as_str()),
        _ => false,
    };
    let found = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr)
        | SelectItem::ExprWithAlias { expr, .. }
        | SelectItem::ExprWithAliases { expr, .. } => generator(expr),
        _ => false,
    };
    if !select.projection.iter().any(found) {
        return Ok(());
    }
    let grouped = match &select.group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(exprs, _) => !exprs.is_empty(),
    };
    if !grouped {
        spell_wildcards(select)?;
    }
    let mut items = Vec::with_capacity(select.projection.len());
    for item in std::mem::take(&mut select.projection) {
        let (expr, aliases) = match item {
            SelectItem::UnnamedExpr(expr) if generator(&expr) => (expr, vec![]),
            SelectItem::ExprWithAlias { expr, alias } if generator(&expr) => (expr, vec![alias]),
            SelectItem::ExprWithAliases { expr, aliases } if generator(&expr) => (expr, aliases),
            other => {
                items.push(other);
                continue;
            }
        };
        let Expr::Function(function) = expr else {
            continue;
        };
        if grouped {
            items.push(over_groups(function, aliases)?);
            continue;
        }
        let view = format!("__generated_{}", items.len());
        let internal = |column: usize| Ident::new(format!("{view}_{column}"));
        let columns = (0..aliases.len()).map(internal).collect();
        if aliases.is_empty() {
            let whole = ObjectName::from(vec![Ident::new(&view)]);
            items.push(SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(whole),
                WildcardAdditionalOptions::default(),
            ));
        }
        for (column, alias) in aliases.into_iter().enumerate() {
            items.push(SelectItem::ExprWithAlias {
                expr: Expr::CompoundIdentifier(vec![Ident::new(&view), internal(column)]),
                alias,
            });
        }
        let alias = Some(table_alias(Ident::new(view), columns));
        let generator = factor(function.name.clone(), call_args(function), alias);
        append(&mut select.from, generator, false);
    }
    select.projection = items;
    Ok(())
}

/// `explode` of what a group gives: above the grouping there is only `unnest`.
fn over_groups(function: Function, aliases: Vec<Ident>) -> Result<SelectItem, Failure> {
    let (name, span) = (function_name(&function), name_span(&function));
    let unnest = match name.as_str() {
        "explode" => "unnest",
        "explode_outer" => "unnest_outer",
        _ => "",
    };
    let mut args = super::ast::arguments(&function).into_iter().cloned();
    match (args.next(), args.next(), &aliases[..]) {
        (Some(list), None, [] | [_]) if !unnest.is_empty() => Ok(SelectItem::ExprWithAlias {
            expr: call(unnest, vec![list], span),
            alias: aliases
                .into_iter()
                .next()
                .unwrap_or_else(|| Ident::new("col")),
        }),
        _ => {
            let message = format!(
                "{name} beside GROUP BY: group in a sub-query in FROM and call {name} above it"
            );
            Err(failure(span, message))
        }
    }
}

/// `*` as what it means before generators add their columns.
fn spell_wildcards(select: &mut Select) -> Result<(), Failure> {
    if !select
        .projection
        .iter()
        .any(|item| matches!(item, SelectItem::Wildcard(_)))
    {
        return Ok(());
    }
    let mut names = Vec::new();
    for item in &mut select.from {
        relation_names(&mut item.relation, &mut names);
        item.joins
            .iter_mut()
            .for_each(|join| relation_names(&mut join.relation, &mut names));
    }
    let mut items = Vec::new();
    for item in std::mem::take(&mut select.projection) {
        let SelectItem::Wildcard(options) = item else {
            items.push(item);
            continue;
        };
        if names.len() > 1 && options != WildcardAdditionalOptions::default() {
            let message = "* EXCEPT over several tables beside a generator: write LATERAL VIEW, or name the columns";
            return Err(failure(Span::empty(), message.into()));
        }
        items.extend(names.iter().map(|name| {
            SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(ObjectName::from(vec![name.clone()])),
                options.clone(),
            )
        }));
    }
    select.projection = items;
    Ok(())
}

/// What the relations are called, in order; one without a name gets one.
fn relation_names(factor: &mut TableFactor, names: &mut Vec<Ident>) {
    let unnamed = || Ident::new(format!("__relation_{}", names.len()));
    match factor {
        TableFactor::NestedJoin {
            table_with_joins,
            alias: None,
        } => {
            relation_names(&mut table_with_joins.relation, names);
            for join in &mut table_with_joins.joins {
                relation_names(&mut join.relation, names);
            }
        }
        TableFactor::Table {
            name,
            alias: None,
            args: None,
            ..
        } => {
            names.extend(name.0.last().and_then(|part| part.as_ident()).cloned());
        }
        TableFactor::Table { alias, .. }
        | TableFactor::Derived { alias, .. }
        | TableFactor::Function { alias, .. }
        | TableFactor::NestedJoin { alias, .. } => {
            let fresh = unnamed();
            names.push(
                alias
                    .get_or_insert_with(|| table_alias(fresh, vec![]))
                    .name
                    .clone(),
            );
        }
        _ => {}
    }
}

/// A generator anywhere else has no rows to make.
fn refuse_elsewhere(select: &mut Select) -> Result<(), Failure> {
    let nested = "[UNSUPPORTED_GENERATOR.NESTED_IN_EXPRESSIONS]";
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            refuse(expr, nested)?;
        }
    }
    let outside = "[UNSUPPORTED_GENERATOR.OUTSIDE_SELECT]";
    let mut groups = match &mut select.group_by {
        GroupByExpr::Expressions(exprs, _) => exprs.iter_mut().collect(),
        GroupByExpr::All(_) => vec![],
    };
    groups.extend(select.selection.as_mut());
    groups.extend(select.having.as_mut());
    groups
        .into_iter()
        .try_for_each(|expr| refuse(expr, outside))
}

fn refuse(expr: &mut Expr, class: &'static str) -> Result<(), Failure> {
    struct Search(&'static str);
    impl VisitorMut for Search {
        type Break = Failure;
        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Failure> {
            match expr {
                Expr::Function(function) if NAMES.contains(&function_name(function).as_str()) => {
                    let name = function_name(function);
                    let message = format!(
                        "{} {name} makes rows, not a value: write SELECT {name}(...) AS x in a sub-query in FROM, or LATERAL VIEW, and use x",
                        self.0
                    );
                    ControlFlow::Break(failure(name_span(function), message))
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    match expr.visit(&mut Search(class)) {
        ControlFlow::Break(failure) => Err(failure),
        ControlFlow::Continue(()) => Ok(()),
    }
}
