//! Generators of `FROM` as plans: an array with an element for each row, `Unnest`, and the columns
//! that the elements hold. The columns before it pass through as they are.

use arrow::datatypes::{DataType, Fields};
use datafusion::common::{Column, NullHandling, Result, UnnestOptions, plan_err};
use datafusion::functions::expr_fn::get_field;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::sql::sqlparser::ast::{JoinOperator, TableFactor};

use super::generators::{Relation, relation};
use super::types::type_name;
use crate::plan::functions::collections::generate::{JSON_TUPLE, POSITIONS, RANGE, STACK};

/// Plans what [`super::generators`] left in `FROM`.
#[derive(Debug)]
pub(crate) struct GeneratorPlanner;

impl RelationPlanner for GeneratorPlanner {
    fn plan_relation(
        &self,
        factor: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let plan = match &factor {
            TableFactor::NestedJoin {
                table_with_joins,
                alias: None,
            } => {
                let [join] = &table_with_joins.joins[..] else {
                    return Ok(RelationPlanning::Original(Box::new(factor)));
                };
                let Some(generator) = relation(&join.relation) else {
                    return Ok(RelationPlanning::Original(Box::new(factor)));
                };
                let outer = matches!(join.join_operator, JoinOperator::LeftOuter(_));
                let input = context.plan(table_with_joins.relation.clone())?;
                generate(input, &generator, outer, context)?
            }
            _ => match relation(&factor) {
                Some(generator) => {
                    let one_row = LogicalPlanBuilder::empty(true).build()?;
                    generate(one_row, &generator, false, context)?
                }
                None => return Ok(RelationPlanning::Original(Box::new(factor))),
            },
        };
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(
            plan, None,
        ))))
    }
}

/// What a generator makes of a row.
struct Rows {
    /// An array with an element for each row.
    array: Expr,
    columns: Columns,
}

/// The columns of a row.
enum Columns {
    /// The element itself.
    Whole(&'static str),
    /// The fields of the element.
    Fields(Fields),
}

fn generate(
    input: LogicalPlan,
    generator: &Relation,
    outer: bool,
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let args = (generator.args.iter())
        .map(|arg| context.sql_to_expr((*arg).clone(), input.schema()))
        .collect::<Result<Vec<_>>>()?;
    let (name, keeps_empty) = match generator.name.strip_suffix("_outer") {
        Some(name) => (name, true),
        None => (generator.name.as_str(), outer),
    };
    let Rows { array, columns } = rows(name, args, &input, context)?;
    let own = match &columns {
        Columns::Whole(name) => vec![(*name).to_owned()],
        Columns::Fields(fields) => fields.iter().map(|f| f.name().to_lowercase()).collect(),
    };
    let names = match generator.alias {
        Some(alias) if !alias.columns.is_empty() => {
            let given: Vec<String> = alias
                .columns
                .iter()
                .map(|column| context.normalize_ident(column.name.clone()))
                .collect();
            if given.len() != own.len() {
                return plan_err!(
                    "[UDTF_ALIAS_NUMBER_MISMATCH] {name} gives {} columns ({}), and AS names {}",
                    own.len(),
                    own.join(", "),
                    given.len()
                );
            }
            given
        }
        _ => own,
    };
    let before: Vec<Expr> = input
        .schema()
        .columns()
        .into_iter()
        .map(Expr::Column)
        .collect();
    // No user writes this name, and with each generator there are more columns.
    let list = format!("__elements_{}", before.len());
    let element = || Expr::Column(Column::from_name(&list));
    let relation = generator.alias.map_or_else(
        || generator.name.clone(),
        |alias| context.normalize_ident(alias.name.clone()),
    );
    let made: Vec<Expr> = match columns {
        Columns::Whole(_) => vec![element()],
        Columns::Fields(fields) => fields
            .iter()
            .map(|field| get_field(element(), field.name().as_str()))
            .collect(),
    };
    let made = (made.into_iter().zip(names))
        .map(|(value, name)| value.alias_qualified(Some(relation.as_str()), name));
    let null_handling = if keeps_empty {
        NullHandling::PreserveAndExpandEmpty
    } else {
        NullHandling::Drop
    };
    let options = UnnestOptions::new().with_null_handling(null_handling);
    LogicalPlanBuilder::from(input)
        .project(before.iter().cloned().chain([array.alias(&list)]))?
        .unnest_column_with_options(Column::from_name(&list), options)?
        .project(before.into_iter().chain(made))?
        .build()
}

fn rows(
    name: &str,
    mut args: Vec<Expr>,
    input: &LogicalPlan,
    context: &dyn RelationPlannerContext,
) -> Result<Rows> {
    let schema = input.schema();
    let udf = |function: &str, args: Vec<Expr>| if let Some(udf) = context
        .context_provider()
        .get_function_meta(function) { Ok(udf.call(args)) } else { plan_err!("there is no function {function}") };
    let structs = |array: Expr| {
        let data_type = array.get_type(schema)?;
        match element(&data_type) {
            Some(DataType::Struct(fields)) => Ok(Rows {
                columns: Columns::Fields(fields.clone()),
                array,
            }),
            _ => refused(name, "an ARRAY of STRUCTs", &data_type),
        }
    };
    let number = |wanted: &str| {
        plan_err!(
            "[WRONG_NUM_ARGS.WITHOUT_SUGGESTION] {name} takes {wanted}, not {}",
            args.len()
        )
    };
    match (name, args.len()) {
        ("stack", 0 | 1) => number("the number of rows and then their values"),
        ("stack", _) => structs(udf(STACK, args)?),
        ("json_tuple", 0 | 1) => number("a JSON document and then names of its members"),
        ("json_tuple", _) => structs(udf(JSON_TUPLE, args)?),
        ("range", given) => {
            let (start, end, step) = match given {
                1 => (lit(0_i64), args.swap_remove(0), lit(1_i64)),
                // A fourth argument would be the number of partitions.
                2..=4 => {
                    let mut args = args.into_iter();
                    let mut next = || args.next().unwrap_or_else(|| lit(1_i64));
                    (next(), next(), next())
                }
                _ => return number("1 to 4 arguments"),
            };
            Ok(Rows {
                array: udf(RANGE, vec![start, end, step])?,
                columns: Columns::Whole("id"),
            })
        }
        (_, 1) => {
            let collection = args.swap_remove(0);
            let data_type = collection.get_type(schema)?;
            match (name, &data_type) {
                ("explode" | "unnest", DataType::Map(..)) => {
                    structs(udf("map_entries", vec![collection])?)
                }
                ("explode" | "unnest", other) if element(other).is_some() => Ok(Rows {
                    array: collection,
                    columns: Columns::Whole("col"),
                }),
                ("posexplode", other)
                    if matches!(other, DataType::Map(..)) || element(other).is_some() =>
                {
                    structs(udf(POSITIONS, vec![collection])?)
                }
                ("inline", _) => structs(collection),
                _ => refused(name, "an ARRAY or a MAP", &data_type),
            }
        }
        _ => number("1 argument"),
    }
}

fn refused<T>(name: &str, wanted: &str, given: &DataType) -> Result<T> {
    plan_err!(
        "[DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE] {name} takes {wanted}, not {}",
        type_name(given)
    )
}

fn element(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            Some(field.data_type())
        }
        _ => None,
    }
}
