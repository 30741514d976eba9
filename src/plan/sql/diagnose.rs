//! What `DataFusion` says is wrong, in our words and at its place in the script.

use datafusion::common::{DataFusionError, Diagnostic, SchemaError};
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};
use tidemark_connectors::options::nearest;

use super::names::Spellings;
use super::tokens::SourceText;
use crate::plan::error::{PlanError, PlanErrorKind};

/// What is known where an error comes up.
pub(super) struct Scene<'a> {
    pub(super) source: &'a SourceText,
    /// The statement.
    pub(super) tokens: &'a [TokenWithSpan],
    /// Tables and views as declared.
    pub(super) tables: Vec<String>,
    /// How names inside the plan are spelt.
    pub(super) spellings: &'a Spellings,
    /// Names of all functions.
    pub(super) functions: Vec<String>,
    /// Finds the place of an error that does not say where it is.
    pub(super) culprit: Box<dyn Fn(&DataFusionError) -> Option<Span> + 'a>,
}

impl Scene<'_> {
    /// The error as a user should read it.
    pub(super) fn explain(&self, error: &DataFusionError) -> PlanError {
        let root = innermost(error);
        let said = diagnostic(error).and_then(|d| d.span).map(convert);
        let (span, kind) = match root {
            DataFusionError::SchemaError(schema, _) => self.schema_error(schema, said),
            DataFusionError::Plan(message) => self.plan_error(message, said),
            DataFusionError::NotImplemented(message) => (
                said,
                PlanErrorKind::Unsupported {
                    what: first_line(message),
                    instead: None,
                },
            ),
            other => self.plan_error(&plain(&other.strip_backtrace()), said),
        };
        let span = span.or_else(|| (self.culprit)(error));
        self.source
            .error(span.unwrap_or_else(|| self.statement()), kind)
    }

    fn statement(&self) -> Span {
        self.tokens.first().map_or_else(Span::empty, |t| t.span)
    }

    fn schema_error(
        &self,
        error: &SchemaError,
        said: Option<Span>,
    ) -> (Option<Span>, PlanErrorKind) {
        match error {
            SchemaError::FieldNotFound {
                field,
                valid_fields,
            } => {
                let span = field
                    .spans
                    .first()
                    .map(convert)
                    .or(said)
                    .or_else(|| self.find(&field.name));
                let visible: Vec<_> = valid_fields
                    .iter()
                    .filter(|c| !c.name.starts_with("__"))
                    .collect();
                let mut relations: Vec<String> = visible
                    .iter()
                    .filter_map(|c| c.relation.as_ref().map(|r| r.table().to_owned()))
                    .collect();
                relations.dedup();
                let one_table = match &relations[..] {
                    [only] => Some(self.spelt(only)),
                    _ => None,
                };
                let name = match &field.relation {
                    Some(relation) => format!(
                        "{}.{}",
                        self.written(relation.table()),
                        self.written(&field.name)
                    ),
                    None => self.written(&field.name),
                };
                let mut columns: Vec<String> = visible
                    .iter()
                    .map(|c| match (&one_table, &c.relation) {
                        (None, Some(r)) => {
                            format!("{}.{}", self.spelt(r.table()), self.spelt(&c.name))
                        }
                        _ => self.spelt(&c.name),
                    })
                    .collect();
                columns.dedup();
                let bare = visible.iter().map(|c| c.name.as_str());
                let near = nearest(&field.name, bare).map(|n| self.spelt(&n));
                (
                    span,
                    PlanErrorKind::UnknownColumn {
                        name,
                        nearest: near,
                        table: one_table,
                        columns,
                    },
                )
            }
            SchemaError::AmbiguousReference { field } => {
                let span = field
                    .spans
                    .first()
                    .map(convert)
                    .or(said)
                    .or_else(|| self.find(&field.name));
                (
                    span,
                    PlanErrorKind::AmbiguousColumn {
                        name: self.spelt(&field.name),
                    },
                )
            }
            SchemaError::DuplicateQualifiedField { name, .. }
            | SchemaError::DuplicateUnqualifiedField { name } => {
                let message = format!(
                    "two columns are called '{}'; give one of them another name with AS",
                    self.spelt(name)
                );
                (
                    said.or_else(|| self.find(name)),
                    PlanErrorKind::Query { message },
                )
            }
        }
    }

    fn plan_error(&self, message: &str, said: Option<Span>) -> (Option<Span>, PlanErrorKind) {
        if let Some(name) = between(message, "table '", "' not found") {
            let name = name.replace('"', "");
            let known = self.tables.iter().map(String::as_str);
            let near = nearest(&name, known);
            let span = self.find(name.rsplit('.').next().unwrap_or(&name)).or(said);
            let kind = PlanErrorKind::UnknownTable {
                name: self.written(&name),
                nearest: near,
                tables: self.tables.clone(),
            };
            return (span, kind);
        }
        if let Some(name) = between(message, "Invalid function '", "'") {
            let near = nearest(name, self.functions.iter().map(String::as_str));
            let span = self.find(name).or(said);
            return (
                span,
                PlanErrorKind::UnknownFunction {
                    name: self.written(name),
                    nearest: near,
                },
            );
        }
        if let Some(name) = between(message, "unknown type '", "'") {
            return (
                self.find(name).or(said),
                PlanErrorKind::UnknownType { name: name.into() },
            );
        }
        if message.starts_with("Projections require unique expression names") {
            let message =
                "two columns of the result have the same name; give one of them another with AS"
                    .into();
            return (said, PlanErrorKind::Query { message });
        }
        let (span, message) = self
            .of_the_query(message)
            .or_else(|| self.type_error(message))
            .unwrap_or_else(|| (None, first_line(message)));
        (span.or(said), PlanErrorKind::Query { message })
    }

    /// The findings about how a query is put together, with Spark's classes.
    fn of_the_query(&self, message: &str) -> Option<(Option<Span>, String)> {
        if let Some(name) = message.strip_prefix("Invalid qualifier ") {
            let text = format!(
                "[CANNOT_RESOLVE_STAR_EXPAND] '{0}' before .* is no table of this query and no STRUCT; write a table's name, or the columns",
                self.written(name)
            );
            return Some((self.find(name), text));
        }
        if let Some(position) = between(message, "Cannot find column with position ", " in SELECT")
        {
            let text = format!(
                "[GROUP_BY_POS_OUT_OF_RANGE] there is no item {position} in the SELECT to group by"
            );
            return Some((self.find_number(position), text));
        }
        if message.starts_with("Aggregate function calls cannot be nested") {
            let text = "[NESTED_AGGREGATE_FUNCTION] an aggregate cannot stand within another; aggregate in a sub-query first";
            return Some((None, text.into()));
        }
        if message.starts_with("Aggregate functions are not allowed in the WHERE clause") {
            let text = "[INVALID_WHERE_CONDITION] an aggregate cannot stand in WHERE; use HAVING";
            return Some((self.find("where"), text.into()));
        }
        if message.starts_with("UNION queries have different number of columns") {
            let text =
                "[NUM_COLUMNS_MISMATCH] the parts of a UNION must give the same number of columns";
            return Some((self.find("union"), text.into()));
        }
        if let Some(rest) = message.strip_prefix("HAVING clause references") {
            let name = rest.trim_start_matches(|c: char| !c.is_alphabetic());
            let name = name.split(' ').next().unwrap_or_default();
            let name = name.rsplit('.').next().unwrap_or_default();
            let text = format!(
                "[MISSING_GROUP_BY] HAVING is about groups: '{}' must stand in GROUP BY or inside an aggregate function; without groups use WHERE",
                self.written(name)
            );
            return Some((self.find("having"), text));
        }
        if let Some(given) =
            message.strip_prefix("Expected LIMIT to be an integer or null, but got ")
        {
            let text = format!(
                "[INVALID_LIMIT_LIKE_EXPRESSION.DATA_TYPE] LIMIT takes a whole number, not {}",
                spark_names(given)
            );
            return Some((self.find("limit"), text));
        }
        if let Some(given) = between(
            message,
            "Cannot access field at argument 1: type ",
            " is not",
        ) {
            let text = format!(
                "[INVALID_EXTRACT_BASE_FIELD_TYPE] {} has no fields: only ARRAY, MAP and STRUCT have any",
                spark_names(given)
            );
            return Some((None, text));
        }
        None
    }

    /// The findings about types that say too much, cut down to what is wrong.
    fn type_error(&self, message: &str) -> Option<(Option<Span>, String)> {
        if let Some(column) = between(message, "column \"", "\" must appear in the GROUP BY") {
            let name = column.rsplit('.').next().unwrap_or(column);
            let class = if self.find("group").is_some() {
                "MISSING_AGGREGATION"
            } else {
                "MISSING_GROUP_BY"
            };
            let text = format!(
                "[{class}] column '{}' must stand in GROUP BY or inside an aggregate function",
                self.written(name)
            );
            return Some((self.find(name), text));
        }
        if let Some((_, got)) = message.split_once("'NOT' requires a boolean expression, got ") {
            let text = format!(
                "[DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE] NOT takes a BOOLEAN, not {}",
                spark_names(&first_line(got))
            );
            return Some((None, text));
        }
        if let Some(field) = between(message, "Field ", " not found in struct") {
            return Some((
                self.find(field),
                format!("[FIELD_NOT_FOUND] there is no field '{field}' in this STRUCT"),
            ));
        }
        if let Some(returned) = message
            .split_once("non-boolean predicate")
            .and_then(|(_, rest)| rest.split_once(" returning "))
        {
            let place = between(returned.0, "'", "'")
                .and_then(|n| self.find(n.rsplit('.').next().unwrap_or(n)));
            return Some((
                place,
                format!(
                    "[DATATYPE_MISMATCH.FILTER_NOT_BOOLEAN] a condition must be BOOLEAN, not {}",
                    spark_names(returned.1)
                ),
            ));
        }
        if let Some((before, _)) = message.split_once(" was called without any arguments") {
            let name = before.rsplit(' ').next().unwrap_or_default();
            let text = format!("[WRONG_NUM_ARGS.WITHOUT_SUGGESTION] {name} needs arguments");
            return Some((self.find(name), text));
        }
        // Our own functions say it themselves.
        if let Some((_, reason)) =
            message.split_once("coercion failed with: Error during planning: ")
        {
            let reason = reason
                .split_once(". No function matches")
                .map_or(reason, |(reason, _)| reason);
            let name = between(message, "Function '", "'").unwrap_or_default();
            let window = || {
                ["window", "tumble", "hop", "cumulate"]
                    .iter()
                    .find_map(|n| self.find(n))
            };
            return Some((self.find(name).or_else(window), first_line(reason)));
        }
        if let Some(call) = between(message, "argument types '", "'") {
            let (name, types) = call.split_once('(').unwrap_or((call, ")"));
            // What a function is called inside need not be what the query calls it.
            let name = if name == "to_char" && self.find(name).is_none() {
                "date_format"
            } else {
                name
            };
            let counted = message.contains(" arguments but received ")
                || message.contains("zero arguments")
                || types == ")";
            let class = if counted {
                "WRONG_NUM_ARGS.WITHOUT_SUGGESTION"
            } else {
                "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE"
            };
            let text = format!(
                "[{class}] there is no {name}({}; check the arguments or add a CAST",
                spark_names(types)
            );
            return Some((self.find(name), text));
        }
        if message.contains("failed to match any signature") {
            let name = between(message, "Function '", "'")?;
            let got = between(message, "(DataType: ", ")")
                .map(spark_names)
                .unwrap_or_default();
            let text = format!(
                "[DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE] {name} does not take {got}; check the argument or add a CAST"
            );
            return Some((self.find(name), text));
        }
        if message.starts_with("Cannot coerce arithmetic expression")
            || message.starts_with("Cannot infer common argument type")
        {
            let text = spark_names(&first_line(message))
                .replace("Cannot coerce arithmetic expression ", "there is no ")
                .replace(" to valid types", "; add a CAST");
            return Some((None, text));
        }
        // Messages of ours begin with the function that they are about.
        let said = match message.split_once("] ") {
            Some((class, said)) if class.starts_with('[') => said,
            _ => message,
        };
        let first = said.split([' ', ':']).next().unwrap_or_default();
        self.find(first)
            .map(|span| (Some(span), first_line(message)))
    }

    /// The first token that is this name.
    fn find(&self, name: &str) -> Option<Span> {
        let is_it = |t: &&TokenWithSpan| matches!(&t.token, Token::Word(w) if w.value.eq_ignore_ascii_case(name));
        self.tokens.iter().find(is_it).map(|t| t.span)
    }

    /// The last token that is this number.
    fn find_number(&self, digits: &str) -> Option<Span> {
        let is_it = |t: &&TokenWithSpan| matches!(&t.token, Token::Number(n, _) if n == digits);
        self.tokens.iter().rev().find(is_it).map(|t| t.span)
    }

    /// A name of the query as the query writes it.
    fn written(&self, name: &str) -> String {
        let span = self.find(name);
        span.map_or_else(
            || self.spelt(name),
            |s| self.source.slice(s.start, s.end).replace('`', ""),
        )
    }

    /// A name of a table or column as it was declared.
    fn spelt(&self, name: &str) -> String {
        let declared = self.tables.iter().find(|t| t.eq_ignore_ascii_case(name));
        self.spellings
            .get(name)
            .or(declared)
            .cloned()
            .unwrap_or_else(|| name.to_owned())
    }
}

/// What an error says, apart from where.
pub(super) fn said(error: &DataFusionError) -> String {
    plain(&innermost(error).strip_backtrace())
}

/// The error without what is wrapped around it.
fn innermost(error: &DataFusionError) -> &DataFusionError {
    match error {
        DataFusionError::Diagnostic(_, inner) | DataFusionError::Context(_, inner) => {
            innermost(inner)
        }
        DataFusionError::Shared(inner) => innermost(inner),
        DataFusionError::Collection(all) => all.first().map_or(error, innermost),
        other => other,
    }
}

fn diagnostic(error: &DataFusionError) -> Option<&Diagnostic> {
    match error {
        DataFusionError::Diagnostic(diagnostic, _) => Some(diagnostic),
        DataFusionError::Context(_, inner) => diagnostic(inner),
        DataFusionError::Shared(inner) => diagnostic(inner),
        DataFusionError::Collection(all) => all.first().and_then(diagnostic),
        _ => None,
    }
}

fn convert(span: datafusion::common::Span) -> Span {
    let location = |l: datafusion::common::Location| Location::new(l.line, l.column);
    Span::new(location(span.start), location(span.end))
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let start = text.find(before)? + before.len();
    let end = text[start..].find(after)? + start;
    Some(&text[start..end])
}

fn first_line(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    // A heading says nothing by itself: what is wrong stands at the end.
    match message.lines().last() {
        Some(last) if first.ends_with(':') && last != first => {
            let last = last.trim().trim_start_matches("error: ");
            format!("{first} {}", last.trim_end_matches('.'))
        }
        _ => first.trim_end_matches('.').to_owned(),
    }
}

/// Arrow's names of types as Spark's, where they stand in a text.
fn spark_names(text: &str) -> String {
    const NAMES: [(&str, &str); 17] = [
        ("Timestamp(µs, \"UTC\")", "TIMESTAMP"),
        ("Timestamp(µs)", "TIMESTAMP_NTZ"),
        ("Interval(MonthDayNano)", "INTERVAL"),
        ("LargeUtf8", "STRING"),
        ("Utf8View", "STRING"),
        ("Utf8", "STRING"),
        ("Boolean", "BOOLEAN"),
        ("Int64", "BIGINT"),
        ("Int32", "INT"),
        ("Int16", "SMALLINT"),
        ("Int8", "TINYINT"),
        ("Float64", "DOUBLE"),
        ("Float32", "FLOAT"),
        ("Date32", "DATE"),
        ("Decimal128", "DECIMAL"),
        ("Binary", "BINARY"),
        ("Null", "NULL"),
    ];
    NAMES.iter().fold(text.to_owned(), |text, (arrow, spark)| {
        text.replace(arrow, spark)
    })
}

/// Without the prefixes that only say which part of the planner spoke.
fn plain(message: &str) -> String {
    let mut text = message;
    for prefix in [
        "Error during planning: ",
        "Execution error: ",
        "Internal error: ",
        "SQL error: ",
        "Arrow error: ",
        "Optimizer rule ",
        "External error: ",
    ] {
        text = text.strip_prefix(prefix).unwrap_or(text);
    }
    first_line(text)
}
