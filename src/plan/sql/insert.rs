//! A result made to fit the columns that its target declares.

use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};
use datafusion::sql::sqlparser::tokenizer::Span;
use tidemark_connectors::options::nearest;

use super::query::Planner;
use super::tables::column_index;
use super::types::type_name;
use crate::plan::catalog::CatalogTable;
use crate::plan::error::{PlanError, PlanErrorKind, Result};

impl Planner<'_> {
    /// The result as the declared columns of the target want it, by position.
    pub(super) fn coerced(
        &self,
        plan: LogicalPlan,
        names: &[String],
        table: &CatalogTable,
        (span, list): (Span, Option<&[(String, Span)]>),
    ) -> Result<LogicalPlan, Failed> {
        let at = |kind| Failed::Ours(self.source.error(span, kind));
        let fields = table
            .schema
            .as_ref()
            .map(|s| s.fields().clone())
            .unwrap_or_default();
        // For each column of the table the query's column that fills it.
        let mut filled: Vec<Option<usize>> = (0..fields.len()).map(Some).collect();
        let mut wanted: Vec<String> = fields.iter().map(|f| f.name().clone()).collect();
        if let (Some(list), Some(schema)) = (list, &table.schema) {
            filled = vec![None; fields.len()];
            for (position, (name, span)) in list.iter().enumerate() {
                let index = column_index(schema, name).ok_or_else(|| {
                    let nearest = nearest(name, wanted.iter().map(String::as_str));
                    let kind = PlanErrorKind::UnknownColumn {
                        name: name.clone(),
                        nearest,
                        table: Some(table.name.clone()),
                        columns: wanted.clone(),
                    };
                    Failed::Ours(self.source.error(*span, kind))
                })?;
                filled[index] = Some(position);
            }
            wanted = list.iter().map(|(name, _)| name.clone()).collect();
        }
        let given = plan.schema().columns();
        if given.len() != wanted.len() {
            return Err(at(PlanErrorKind::ColumnCount {
                table: table.name.clone(),
                got: given.len(),
                given: names.join(", "),
                wanted: wanted.len(),
                declared: wanted.join(", "),
            }));
        }
        let mut exprs = Vec::with_capacity(fields.len());
        for (field, position) in fields.iter().zip(filled) {
            let expr = match position {
                None => cast(
                    Expr::Literal(ScalarValue::Null, None),
                    field.data_type().clone(),
                ),
                Some(position) => {
                    let got = plan.schema().field(position).data_type();
                    let column = Expr::Column(given[position].clone());
                    if got == field.data_type() {
                        column
                    } else if castable(got, field.data_type()) {
                        cast(column, field.data_type().clone())
                    } else {
                        return Err(at(PlanErrorKind::ColumnType {
                            table: table.name.clone(),
                            column: field.name().clone(),
                            wanted: type_name(field.data_type()),
                            got: type_name(got),
                        }));
                    }
                }
            };
            exprs.push(expr.alias(field.name()));
        }
        let plan = LogicalPlanBuilder::from(plan)
            .project(exprs)
            .and_then(LogicalPlanBuilder::build);
        plan.map_err(|e| Failed::Theirs(Box::new(e)))
    }
}

/// Whether a value may be stored in a column of this type, as Spark's ANSI store assignment has
/// it: numbers as numbers, dates as timestamps and back, anything plain as text.
fn castable(from: &DataType, to: &DataType) -> bool {
    use DataType as D;
    let number = |t: &D| t.is_integer() || t.is_floating() || matches!(t, D::Decimal128(..));
    let text = |t: &D| matches!(t, D::Utf8 | D::LargeUtf8 | D::Utf8View);
    let moment = |t: &D| matches!(t, D::Date32 | D::Timestamp(..));
    match (from, to) {
        _ if from == to || from.is_null() => true,
        (from, to) if number(from) && number(to) => true,
        (from, to) if moment(from) && moment(to) => true,
        (from, to) if text(to) => !from.is_nested(),
        (D::List(from), D::List(to)) | (D::Map(from, _), D::Map(to, _)) => {
            castable(from.data_type(), to.data_type())
        }
        (D::Struct(from), D::Struct(to)) => {
            from.len() == to.len()
                && (from.iter().zip(to))
                    .all(|(from, to)| castable(from.data_type(), to.data_type()))
        }
        // Types that differ in nothing that SQL names.
        (from, to) => type_name(from) == type_name(to),
    }
}

/// An error that is ready, or one that has still to be explained.
pub(super) enum Failed {
    Ours(PlanError),
    Theirs(Box<DataFusionError>),
}

impl Failed {
    pub(super) fn or(self, explain: impl Fn(DataFusionError) -> PlanError) -> PlanError {
        match self {
            Self::Ours(error) => error,
            Self::Theirs(error) => explain(*error),
        }
    }
}
