//! Lambdas, and fields of what is no column, on the syntax tree.
//!
//! `x.a` in a body is the field `a` of the parameter `x`: sqlparser reads a column of a table, and
//! is told otherwise here. A lambda must have as many parameters as its function gives.

use std::ops::ControlFlow;
use std::ops::RangeInclusive;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, Function, Ident, LambdaFunction, OneOrManyWithParens, VisitMut, VisitorMut,
};

use super::ast::{arguments, function_name, name_span, string};
use super::windows::Failure;
use crate::plan::error::PlanErrorKind;

/// Resolves the parameters of an expression that is a lambda; checks those of a call's lambdas.
pub(super) fn resolve(expr: &mut Expr) -> Result<(), Failure> {
    match expr {
        Expr::Lambda(lambda) => {
            let parameters = lambda.params.iter().map(|p| p.name.value.to_lowercase());
            let mut fields = Fields {
                parameters: parameters.collect(),
            };
            let _ = lambda.body.visit(&mut fields);
            Ok(())
        }
        Expr::Function(function) => check(function),
        Expr::CompoundFieldAccess { root, access_chain } => {
            name_fields(root, access_chain);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// `f(x).a` and `m['k'].a` name a field, where the planner would look for a column `a`. Columns
/// and windows are left to those who know them.
fn name_fields(root: &Expr, chain: &mut [AccessExpr]) {
    let own = match root {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
            let path =
                |access: &&AccessExpr| matches!(access, AccessExpr::Dot(Expr::Identifier(_)));
            chain.iter().take_while(path).count()
        }
        Expr::Function(function) if function_name(function) == "window" => chain.len(),
        _ => 0,
    };
    for access in &mut chain[own..] {
        if let AccessExpr::Dot(name) = access
            && let Expr::Identifier(field) = name
        {
            *name = string(&field.value, field.span);
        }
    }
}

/// Turns `x.a` into `(x).a`.
struct Fields {
    parameters: Vec<String>,
}

impl VisitorMut for Fields {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::CompoundIdentifier(parts) = expr else {
            return ControlFlow::Continue(());
        };
        let [parameter, fields @ ..] = &parts[..] else {
            return ControlFlow::Continue(());
        };
        if self.parameters.contains(&parameter.value.to_lowercase()) {
            let field = |ident: &Ident| AccessExpr::Dot(string(&ident.value, ident.span));
            *expr = Expr::CompoundFieldAccess {
                root: Box::new(Expr::Nested(Box::new(Expr::Identifier(parameter.clone())))),
                access_chain: fields.iter().map(field).collect(),
            };
        }
        ControlFlow::Continue(())
    }
}

/// How many parameters the `n`th lambda of a function has.
fn allowed(name: &str, n: usize) -> Option<RangeInclusive<usize>> {
    Some(match (name, n) {
        ("transform" | "filter", 0) => 1..=2,
        ("exists" | "forall", 0) | ("aggregate" | "reduce", 1) => 1..=1,
        (
            "aggregate" | "reduce" | "zip_with" | "array_sort" | "map_filter" | "transform_keys"
            | "transform_values",
            0,
        ) => 2..=2,
        ("map_zip_with", 0) => 3..=3,
        _ => return None,
    })
}

fn check(function: &Function) -> Result<(), Failure> {
    let name = function_name(function);
    let lambdas = arguments(function)
        .into_iter()
        .filter_map(|argument| match argument {
            Expr::Lambda(lambda) => Some(lambda),
            _ => None,
        });
    for (n, lambda) in lambdas.enumerate() {
        let given = count(lambda);
        if let Some(allowed) = allowed(&name, n)
            && !allowed.contains(&given)
        {
            let wanted = match (allowed.start(), allowed.end()) {
                (1, 1) => "one parameter, such as x -> ...".to_owned(),
                (1, most) => format!("one parameter or {most}"),
                (_, most) => format!("{most} parameters"),
            };
            let message = format!(
                "[INVALID_LAMBDA_FUNCTION_CALL.NUM_ARGS_MISMATCH] this lambda of {name} has {given}; it takes {wanted}"
            );
            return Err(Box::new((
                name_span(function),
                PlanErrorKind::Query { message },
            )));
        }
    }
    Ok(())
}

fn count(lambda: &LambdaFunction) -> usize {
    match &lambda.params {
        OneOrManyWithParens::One(_) => 1,
        OneOrManyWithParens::Many(many) => many.len(),
    }
}
