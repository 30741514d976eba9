//! The names of a result's columns, spelt as the user wrote them.
//!
//! Inside a plan names are in lower case. A column takes its alias, the name by which the query
//! asks for it, the table's spelling where it comes from `*`, or the expression's own text.

use std::collections::HashMap;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query, SelectItem,
    SetExpr,
};

use super::ast::function_name;
use super::generators;
use super::tokens::SourceText;

/// How the names inside a plan are spelt outside: by name in lower case.
pub(super) type Spellings = HashMap<String, String>;

/// The spelling of every result column.
pub(super) fn result_names(
    query: &Query,
    source: &SourceText,
    internal: &[String],
    spellings: &Spellings,
) -> Vec<String> {
    let items = leftmost(&query.body);
    // What may be more than one column.
    let wildcard = |item: &&SelectItem| match item {
        SelectItem::UnnamedExpr(Expr::Function(f)) => {
            generators::NAMES.contains(&function_name(f).as_str())
        }
        SelectItem::Wildcard(_)
        | SelectItem::QualifiedWildcard(..)
        | SelectItem::ExprWithAliases { .. } => true,
        _ => false,
    };
    let front = items.iter().take_while(|i| !wildcard(i)).count();
    let all_named = front == items.len();
    let back = if all_named {
        0
    } else {
        items.iter().rev().take_while(|i| !wildcard(i)).count()
    };
    let count = internal.len();
    internal
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let item = if index < front {
                items.get(index)
            } else if index + back >= count {
                items.get(items.len() + index - count)
            } else {
                None
            };
            item.and_then(|item| item_name(item, source))
                .or_else(|| spellings.get(name).cloned())
                .unwrap_or_else(|| name.clone())
        })
        .collect()
}

/// The items of the `SELECT` that names the columns.
fn leftmost(body: &SetExpr) -> &[SelectItem] {
    match body {
        SetExpr::Select(select) => &select.projection,
        SetExpr::SetOperation { left, .. } => leftmost(left),
        SetExpr::Query(query) => leftmost(&query.body),
        _ => &[],
    }
}

fn item_name(item: &SelectItem, source: &SourceText) -> Option<String> {
    let spelt = |ident: &Ident| source.spelling(&ident.value, ident.span);
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(spelt(alias)),
        SelectItem::UnnamedExpr(Expr::Identifier(ident)) => Some(spelt(ident)),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().map(spelt),
        SelectItem::UnnamedExpr(Expr::Function(f))
            if f.name.to_string().eq_ignore_ascii_case("window") =>
        {
            Some("window".into())
        }
        SelectItem::UnnamedExpr(Expr::Function(f)) if counts_rows(f) => Some("count(1)".into()),
        // More than one column may come of it.
        SelectItem::UnnamedExpr(Expr::Function(f))
            if f.name.to_string().eq_ignore_ascii_case("unnest") =>
        {
            None
        }
        SelectItem::UnnamedExpr(expr) => Some(expr.to_string()),
        _ => None,
    }
}

/// Whether it is a plain `count(*)`.
fn counts_rows(function: &Function) -> bool {
    let FunctionArguments::List(list) = &function.args else {
        return false;
    };
    let star = FunctionArg::Unnamed(FunctionArgExpr::Wildcard);
    function_name(function) == "count"
        && list.args == [star]
        && function.filter.is_none()
        && function.over.is_none()
}

/// Takes up the aliases of a query and all its sub-queries.
pub(super) fn collect_aliases(query: &Query, source: &SourceText, spellings: &mut Spellings) {
    use datafusion::sql::sqlparser::ast::{Select, Visit, Visitor};
    use std::ops::ControlFlow;

    struct Aliases<'a>(&'a SourceText, &'a mut Spellings);
    impl Visitor for Aliases<'_> {
        type Break = ();
        fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
            let items = select.projection.iter().flat_map(|item| match item {
                SelectItem::ExprWithAlias { alias, .. } => std::slice::from_ref(alias),
                SelectItem::ExprWithAliases { aliases, .. } => aliases,
                _ => &[],
            });
            let views = select
                .lateral_views
                .iter()
                .flat_map(|view| &view.lateral_col_alias);
            for alias in items.chain(views) {
                let name = self.0.spelling(&alias.value, alias.span);
                self.1.insert(name.to_lowercase(), name);
            }
            ControlFlow::Continue(())
        }
    }
    let _ = query.visit(&mut Aliases(source, spellings));
}
