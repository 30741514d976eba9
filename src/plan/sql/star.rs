//! `s.*`: the fields of a struct as columns.
//!
//! The SQL planner takes the name before `.*` for a table. Where it is none, the type of the column
//! of this name says what it stands for.

use std::ops::ControlFlow;

use arrow::datatypes::{DataType, Fields};
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, Spanned, TableFactor,
    TableWithJoins, VisitMut, VisitorMut, WildcardAdditionalOptions,
};

use super::ast::{alone, call, string};

/// Puts the fields of structs in place of `s.*`; `type_of` gives the type of the one column that a
/// query selects.
pub(super) fn expand(query: &mut Query, type_of: &dyn Fn(Query) -> Option<DataType>) {
    let whole = query.clone();
    let _ = query.visit(&mut Expander { whole, type_of });
}

struct Expander<'a> {
    whole: Query,
    type_of: &'a dyn Fn(Query) -> Option<DataType>,
}

impl VisitorMut for Expander<'_> {
    type Break = ();

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let mut items = vec![];
        for item in &select.projection {
            match self.fields(select, item) {
                Some((column, fields)) => items.extend(columns(&column, &fields)),
                None => items.push(item.clone()),
            }
        }
        select.projection = items;
        ControlFlow::Continue(())
    }
}

impl Expander<'_> {
    /// The struct before `.*` and its fields; `None` where a table stands there, or anything else.
    fn fields(&self, select: &Select, item: &SelectItem) -> Option<(Expr, Fields)> {
        let SelectItem::QualifiedWildcard(
            SelectItemQualifiedWildcardKind::ObjectName(name),
            options,
        ) = item
        else {
            return None;
        };
        let parts: Option<Vec<Ident>> = name.0.iter().map(|p| p.as_ident().cloned()).collect();
        let parts = parts?;
        let last = parts.last()?;
        let plain = WildcardAdditionalOptions {
            wildcard_token: options.wildcard_token.clone(),
            ..WildcardAdditionalOptions::default()
        };
        if *options != plain || select.from.iter().any(|from| is_called(from, last)) {
            return None;
        }
        let column = match &parts[..] {
            [one] => Expr::Identifier(one.clone()),
            _ => Expr::CompoundIdentifier(parts),
        };
        match (self.type_of)(alone(&self.whole, select, column.clone()))? {
            DataType::Struct(fields) => Some((column, fields)),
            _ => None,
        }
    }
}

/// Whether `name.*` means one of these tables.
fn is_called(from: &TableWithJoins, name: &Ident) -> bool {
    let factors = from.joins.iter().map(|join| &join.relation);
    let same = |other: &Ident| other.value.eq_ignore_ascii_case(&name.value);
    std::iter::once(&from.relation)
        .chain(factors)
        .any(|factor| match factor {
            TableFactor::Table {
                alias: Some(alias), ..
            }
            | TableFactor::Derived {
                alias: Some(alias), ..
            }
            | TableFactor::TableFunction {
                alias: Some(alias), ..
            }
            | TableFactor::UNNEST {
                alias: Some(alias), ..
            }
            | TableFactor::NestedJoin {
                alias: Some(alias), ..
            } => same(&alias.name),
            TableFactor::Table { name, .. } => {
                let last = name.0.last().and_then(|part| part.as_ident());
                last.is_some_and(same)
            }
            _ => false,
        })
}

/// Each field as a column of its name.
fn columns(column: &Expr, fields: &Fields) -> Vec<SelectItem> {
    let span = column.span();
    let fields = fields.iter().map(|field| {
        let name = string(field.name(), span);
        SelectItem::ExprWithAlias {
            expr: call("get_field", vec![column.clone(), name], span),
            alias: Ident::with_quote('`', field.name().to_lowercase()),
        }
    });
    fields.collect()
}
