//! What the columns of a node are called when they are shown, and what they are computed from.

use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;

use super::{Node, Operator, text};

/// How columns are spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// By their names; by what they compute where a name is one of the planner's.
    Shown,
    /// By what they compute from the columns of sources and stateful operators, whatever the
    /// views and aliases in between call it.
    Expanded,
}

/// A text for each column that `node` gives.
pub(super) fn column_texts(node: &Node, naming: Naming) -> Vec<String> {
    let below = || node.inputs.first().map(|input| column_texts(input, naming)).unwrap_or_default();
    let computed: Vec<String> = match &node.operator {
        Operator::Source { source, .. } if naming == Naming::Expanded => {
            names(&node.schema).map(|name| format!("source{source}.{name}")).collect()
        }
        Operator::FilterProject { project: Some(exprs), .. } => {
            exprs.iter().map(|expr| over_input(expr, node, naming)).collect()
        }
        Operator::FilterProject { project: None, .. } => below(),
        Operator::Unnest { column, .. } => {
            let mut texts = below();
            if naming == Naming::Expanded
                && let Some(list) = texts.get_mut(*column)
            {
                *list = format!("each({list})");
            }
            texts
        }
        Operator::Aggregate(_) if naming == Naming::Expanded => {
            (0..node.columns.len()).map(|index| format!("operator{}.{index}", node.id)).collect()
        }
        Operator::Aggregate(aggregate) => {
            let keys = aggregate.keys.iter().map(|key| over_input(key, node, naming));
            let calls = (aggregate.calls.iter())
                .map(|call| text::aggregate_call(call, &|expr| over_input(expr, node, naming)));
            keys.chain(calls).collect()
        }
        Operator::Union if naming == Naming::Expanded => {
            let inputs: Vec<_> =
                node.inputs.iter().map(|input| column_texts(input, naming)).collect();
            (0..node.columns.len())
                .map(|index| {
                    let texts: Vec<&str> =
                        inputs.iter().filter_map(|input| input.get(index)).map(String::as_str).collect();
                    format!("union({})", texts.join(", "))
                })
                .collect()
        }
        Operator::Union => below(),
        Operator::Source { .. } | Operator::Values { .. } => {
            names(&node.schema).map(str::to_owned).collect()
        }
    };
    match naming {
        Naming::Expanded => computed,
        Naming::Shown => names(&node.schema)
            .zip(computed)
            .map(|(name, computed)| if is_made_up(name) { computed } else { name.to_owned() })
            .collect(),
    }
}

/// An expression of `node`, over what feeds it.
pub(super) fn over_input(expr: &Expr, node: &Node, naming: Naming) -> String {
    let Some(input) = node.inputs.first() else { return text::expression(expr) };
    let texts = column_texts(input, naming);
    let whole = matches!(expr, Expr::Column(_));
    text::render(expr, &|column| {
        let known = input.schema.maybe_index_of_column(column).and_then(|index| texts.get(index));
        match known {
            Some(text) if !whole && text.contains(' ') && !text.ends_with(')') => format!("({text})"),
            Some(text) => text.clone(),
            None => column.name.clone(),
        }
    })
}

fn names(schema: &DFSchema) -> impl Iterator<Item = &str> {
    schema.fields().iter().map(|field| field.name().as_str())
}

/// A name that the planner made from an expression, rather than the user.
fn is_made_up(name: &str) -> bool {
    name.starts_with("__") || name.contains(['(', '[', ' '])
}
