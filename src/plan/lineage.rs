//! What the columns of a node are called when they are shown, and what they are computed from.

use std::borrow::Cow;

use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;

use super::join::{JoinKind, LEFT};
use super::{AggregateCall, Node, Operator, Plan, SourceTable, text};

/// How columns are spelt.
#[derive(Clone, Copy, Debug)]
pub(super) enum Naming<'a> {
    /// By their names; by what they compute where a name is one of the planner's.
    Shown,
    /// By what they compute from the columns of sources and stateful operators, whatever the
    /// views and aliases in between call it.
    Expanded(&'a [SourceTable]),
}

/// The columns that feed an operator, with a text for each.
pub(super) struct Below<'a> {
    schema: Option<Cow<'a, DFSchema>>,
    /// The texts, by column.
    pub(super) texts: Vec<String>,
}

impl<'a> Below<'a> {
    /// What feeds `node`: of a join the columns of both inputs. All inputs of a union have the same columns;
    /// the first one speaks.
    pub(super) fn new(node: &'a Node, naming: Naming<'_>) -> Self {
        match (&node.operator, &node.inputs[..]) {
            (Operator::Join(_) | Operator::Nearest(_), [left, right]) => {
                let mut texts = [left, right].map(|input| column_texts(input, naming));
                if matches!(naming, Naming::Shown) {
                    tell_apart(&mut texts, [&left.schema, &right.schema]);
                }
                Self {
                    schema: left.schema.join(&right.schema).ok().map(Cow::Owned),
                    texts: texts.concat(),
                }
            }
            (_, [input, ..]) => Self {
                schema: Some(Cow::Borrowed(&input.schema)),
                texts: column_texts(input, naming),
            },
            (_, []) => Self {
                schema: None,
                texts: Vec::new(),
            },
        }
    }

    /// An expression of the node as SQL over these columns.
    pub(super) fn expression(&self, expr: &Expr) -> String {
        let whole = matches!(expr, Expr::Column(_));
        text::render(expr, &|column| {
            let index = self
                .schema
                .as_ref()
                .and_then(|schema| schema.maybe_index_of_column(column));
            match index.and_then(|index| self.texts.get(index)) {
                Some(text) if !whole && text.contains(' ') && !text.ends_with(')') => {
                    format!("({text})")
                }
                Some(text) => text.clone(),
                None => column.name.clone(),
            }
        })
    }

    /// An aggregate of the node as SQL over these columns.
    pub(super) fn aggregate(&self, call: &AggregateCall) -> String {
        text::aggregate_call(call, &|expr| self.expression(expr))
    }
}

/// Puts the table's name before columns that are called the same in both inputs of a join.
fn tell_apart(texts: &mut [Vec<String>; 2], schemas: [&DFSchema; 2]) {
    let names = texts.clone();
    for side in 0..2 {
        for (index, text) in texts[side].iter_mut().enumerate() {
            let (qualifier, _) = schemas[side].qualified_field(index);
            if let Some(qualifier) = qualifier
                && names[1 - side].contains(text)
            {
                // The planner has names of its own for sub-queries.
                let table = match qualifier.table() {
                    table if table.starts_with("__") => "subquery",
                    table => table,
                };
                *text = format!("{table}.{text}");
            }
        }
    }
}

/// A text for each column that `node` gives.
pub(super) fn column_texts(node: &Node, naming: Naming<'_>) -> Vec<String> {
    let below = Below::new(node, naming);
    let expanded = matches!(naming, Naming::Expanded(_));
    let computed: Vec<String> = match &node.operator {
        Operator::Source { source, projection } => match naming {
            Naming::Shown => names(&node.schema).map(str::to_owned).collect(),
            Naming::Expanded(sources) => projection
                .iter()
                .map(|column| {
                    let table = sources.get(*source);
                    let field = table.and_then(|table| table.schema.fields().get(*column));
                    let name = field.map_or("_metadata", |field| field.name());
                    format!("source{source}.{name}")
                })
                .collect(),
        },
        Operator::Values { .. } => names(&node.schema).map(str::to_owned).collect(),
        Operator::FilterProject {
            project: Some(exprs),
            ..
        } => exprs.iter().map(|expr| below.expression(expr)).collect(),
        Operator::Unnest { column, .. } => {
            let mut texts = below.texts;
            if expanded && let Some(list) = texts.get_mut(*column) {
                *list = format!("each({list})");
            }
            texts
        }
        Operator::Aggregate(_) if expanded => (0..node.columns.len())
            .map(|index| format!("operator{}.{index}", node.id))
            .collect(),
        Operator::Aggregate(aggregate) => {
            let keys = aggregate.keys.iter().map(|key| below.expression(key));
            keys.chain(aggregate.calls.iter().map(|call| below.aggregate(call)))
                .collect()
        }
        Operator::Union if expanded => {
            let inputs: Vec<_> = node
                .inputs
                .iter()
                .map(|input| column_texts(input, naming))
                .collect();
            (0..node.columns.len())
                .map(|index| {
                    let texts = inputs.iter().filter_map(|input| input.get(index));
                    let texts: Vec<&str> = texts.map(String::as_str).collect();
                    format!("union({})", texts.join(", "))
                })
                .collect()
        }
        Operator::SessionWindow(_) | Operator::Join(_) | Operator::Nearest(_) if expanded => {
            let columns = 0..node.columns.len();
            columns
                .map(|index| format!("operator{}.{index}", node.id))
                .collect()
        }
        Operator::SessionWindow(session) if session.calls.is_some() => {
            let calls = session.calls.iter().flatten();
            (session.partition.iter().chain([&session.window]))
                .map(|expr| below.expression(expr))
                .chain(calls.map(|call| below.aggregate(call)))
                .collect()
        }
        Operator::SessionWindow(session) => {
            let mut texts = below.texts.clone();
            texts.push(below.expression(&session.window));
            texts
        }
        Operator::Join(join) => {
            let mut texts = below.texts;
            let left = node.inputs.first().map_or(0, |left| left.columns.len());
            match join.kind {
                JoinKind::Inner | JoinKind::Outer(_) => {}
                JoinKind::Semi(LEFT) | JoinKind::Anti(LEFT) | JoinKind::Mark(LEFT) => {
                    texts.truncate(left);
                }
                JoinKind::Semi(_) | JoinKind::Anti(_) | JoinKind::Mark(_) => {
                    texts.drain(..left);
                }
            }
            if matches!(join.kind, JoinKind::Mark(_)) {
                texts.push("has a match".into());
            }
            texts
        }
        Operator::Rank(rank) if rank.numbered => {
            let text = if expanded {
                format!("operator{}.rank", node.id)
            } else {
                rank.over(&|expr| below.expression(expr))
            };
            let mut texts = below.texts;
            texts.push(text);
            texts
        }
        Operator::Over(over) => {
            let calls = over.texts(&|expr| below.expression(expr));
            let mut texts = below.texts;
            if expanded {
                let numbered = |call| format!("operator{}.call{call}", node.id);
                texts.extend((0..calls.len()).map(numbered));
            } else {
                texts.extend(calls);
            }
            texts
        }
        Operator::Union
        | Operator::FilterProject { project: None, .. }
        | Operator::Nearest(_)
        | Operator::Deduplicate(_)
        | Operator::Rank(_) => below.texts,
    };
    match naming {
        Naming::Expanded(_) => computed,
        Naming::Shown => names(&node.schema)
            .zip(computed)
            .map(|(name, computed)| {
                if is_made_up(name) {
                    computed
                } else {
                    name.to_owned()
                }
            })
            .collect(),
    }
}

impl Plan {
    /// The columns of a source that workers ask for, ascending: those in use, and its event time.
    pub fn columns_read(&self, source: usize) -> Vec<usize> {
        let mut read = columns_read(&self.root, source);
        let watermark = self.sources[source].watermark.as_ref();
        read.extend(watermark.map(|watermark| watermark.column));
        read.sort_unstable();
        read.dedup();
        read
    }
}

/// The columns of source `index` that the operators up to `node` use, ascending.
pub(super) fn columns_read(node: &Node, index: usize) -> Vec<usize> {
    let mut read: Vec<usize> = (node.inputs.iter())
        .flat_map(|input| columns_read(input, index))
        .collect();
    if let Operator::Source { source, projection } = &node.operator
        && *source == index
    {
        read.extend(projection);
    }
    read.sort_unstable();
    read.dedup();
    read
}

fn names(schema: &DFSchema) -> impl Iterator<Item = &str> {
    schema.fields().iter().map(|field| field.name().as_str())
}

/// A name that the planner made from an expression, rather than the user.
fn is_made_up(name: &str) -> bool {
    name.starts_with("__") || name.contains(['(', '[', ' '])
}
