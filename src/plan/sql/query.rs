//! One query: tokens to an analysed and optimised `LogicalPlan`, and what the statement's target
//! says about how it runs.

use std::any::Any;
use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::planner::{NullOrdering, ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::ast::{Query, Statement as SqlStatement};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan};
use tidemark_connectors::Options;

use super::diagnose::Scene;
use super::dialect::TidemarkDialect;
use super::names::{self, Spellings};
use super::options::{DEFAULT_TIME_ZONE, Settings};
use super::scope::QueryTables;
use super::tables::{Entry, Tables};
use super::tokens::{SourceText, position};
use super::{
    asof, depth, diagnose, generators, keywords, literals, locate, star, table_functions, windows,
};
use crate::plan::catalog::{
    CatalogTable, EngineOptions, LateRows, OnError, QuerySource, QueryStatement,
};
use crate::plan::context::{Provider, StreamTable, session_state};
use crate::plan::error::{PlanErrorKind, Result};
use crate::plan::{QuerySettings, SinkTable, deduplicate, membership, nearest, sessions};

/// Where a query's rows go.
#[derive(Debug)]
pub(super) enum Target {
    Console,
    Table {
        name: String,
        span: Span,
        columns: Option<Vec<(String, Span)>>,
    },
}

/// A view: its plan before analysis, and how its names are spelt.
#[derive(Clone, Debug)]
pub(super) struct ViewPlan {
    pub(super) plan: LogicalPlan,
    pub(super) spellings: Spellings,
}

/// Plans queries against what is declared.
pub(super) struct Planner<'a> {
    pub(super) settings: &'a Settings,
    pub(super) tables: &'a Tables,
    pub(super) source: &'a SourceText,
}

/// A query as the SQL planner leaves it.
struct Planned {
    plan: LogicalPlan,
    names: Vec<String>,
    spellings: Spellings,
}

impl Planner<'_> {
    /// Plans a view.
    pub(super) fn view(
        &self,
        tokens: &[TokenWithSpan],
        columns: Option<&[(String, Span)]>,
    ) -> Result<ViewPlan> {
        let state = session_state(self.settings.time_zone());
        let Planned {
            plan,
            mut names,
            mut spellings,
        } = self.logical(&state, tokens)?;
        if let Some(columns) = columns {
            if columns.len() != names.len() {
                let message = format!(
                    "the view names {} columns, its query gives {}",
                    columns.len(),
                    names.len()
                );
                return Err(self
                    .source
                    .error(columns[0].1, PlanErrorKind::Query { message }));
            }
            names = columns.iter().map(|(name, _)| name.clone()).collect();
        }
        let internal: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
        let plan = renamed(plan, &internal)
            .map_err(|e| self.scene(tokens, &spellings, &state).explain(&e))?;
        spellings.extend(internal.into_iter().zip(names));
        Ok(ViewPlan { plan, spellings })
    }

    /// Plans a query that runs.
    pub(super) fn statement(
        &self,
        tokens: &[TokenWithSpan],
        target: &Target,
        number: usize,
        start: Span,
    ) -> Result<QueryStatement> {
        let state = session_state(self.settings.time_zone());
        let Planned {
            plan,
            names,
            spellings,
        } = self.logical(&state, tokens)?;
        let scene = self.scene(tokens, &spellings, &state);
        let explain = |error: DataFusionError| scene.explain(&error);
        let declared = match target {
            Target::Console => None,
            Target::Table { name, span, .. } => Some(self.sink(name, *span)?),
        };
        let plan = match (&declared, target) {
            (Some(table), Target::Table { span, columns, .. }) if table.declared => self
                .coerced(plan, &names, table, (*span, columns.as_deref()))
                .map_err(|e| e.or(explain))?,
            (
                _,
                Target::Table {
                    columns: Some(columns),
                    ..
                },
            ) => {
                let kind = PlanErrorKind::Unsupported {
                    what: "a list of columns for a table that declares none".into(),
                    instead: Some("name the query's columns with AS".into()),
                };
                return Err(self.source.error(columns[0].1, kind));
            }
            _ => renamed(plan, &names).map_err(explain)?,
        };
        let optimised = state.optimize(&plan).map_err(explain)?;
        let (logical, sources) = finished(optimised).map_err(explain)?;
        let here = |kind| self.source.error(start, kind);
        let engine = declared
            .as_ref()
            .map_or_else(EngineOptions::default, |t| t.engine.clone());
        let default_name = declared
            .as_ref()
            .map_or_else(|| format!("query{number}"), |t| t.name.clone());
        let name = engine.query_name.clone().unwrap_or(default_name);
        let mut sink = match &declared {
            None => SinkTable {
                name: name.clone(),
                connector: "console".into(),
                options: Options::new(),
            },
            Some(table) => SinkTable {
                name: table.name.clone(),
                connector: table.connector.clone(),
                options: table.options.clone(),
            },
        };
        let zone = self.settings.time_zone();
        let shown = sink.connector.eq_ignore_ascii_case("console");
        if shown && zone != DEFAULT_TIME_ZONE && sink.options.get("timeZone").is_none() {
            sink.options.set("timeZone", zone);
        }
        let dead_letter = engine
            .dead_letter
            .as_deref()
            .or(self.settings.dead_letter());
        let dead_letter = dead_letter
            .map(|table| self.sink(table, start))
            .transpose()?;
        if let Some(table) = dead_letter.as_ref().filter(|table| table.declared) {
            let kind = PlanErrorKind::Unsupported {
                what: format!("columns for the dead-letter table '{}'", table.name),
                instead: Some("leave them out: they are always the same".into()),
            };
            return Err(here(kind));
        }
        let on_error = match engine.on_error {
            OnError::DeadLetter => OnError::DeadLetter,
            OnError::Fail if dead_letter.is_some() => OnError::DeadLetter,
            OnError::Fail => self.settings.on_error().map_err(here)?,
        };
        if on_error == OnError::DeadLetter && dead_letter.is_none() {
            let kind = PlanErrorKind::BadValue {
                key: "onError".into(),
                value: "deadLetter".into(),
                expected: "also 'deadLetter' = 'a table' to say where the rows go",
            };
            return Err(here(kind));
        }
        let settings = self.settings.query(&engine, &name).map_err(here)?;
        let late_rows = self.late_rows(&engine, &settings, start)?;
        if let Some(table) = &late_rows {
            let twice = [dead_letter.as_ref(), declared.as_ref()];
            if twice.iter().flatten().any(|other| other.name == table.name) {
                let kind = PlanErrorKind::Unsupported {
                    what: format!("'{}' for late rows and for other ones", table.name),
                    instead: Some("declare a table of their own".into()),
                };
                return Err(here(kind));
            }
        }
        Ok(QueryStatement {
            trigger: engine
                .trigger
                .map_or_else(|| self.settings.trigger(), Ok)
                .map_err(here)?,
            mode: match engine.mode {
                Some(mode) => Some(mode),
                None => self.settings.mode().map_err(here)?,
            },
            settings,
            target: declared.as_ref().map(|t| t.name.clone()),
            primary_key: declared
                .as_ref()
                .map(|t| t.primary_key.clone())
                .unwrap_or_default(),
            name,
            sink,
            on_error,
            dead_letter,
            late_rows,
            logical,
            sources,
            file: self.source.file().to_owned(),
            position: position(start),
        })
    }

    /// The table that rows go to which come too late.
    fn late_rows(
        &self,
        engine: &EngineOptions,
        settings: &QuerySettings,
        start: Span,
    ) -> Result<Option<Arc<CatalogTable>>> {
        let here = |kind| self.source.error(start, kind);
        let policy = match &engine.late_rows {
            Some(own) => own.clone(),
            None => self.settings.late_rows().map_err(here)?,
        };
        match policy {
            LateRows::Drop => Ok(None),
            LateRows::Correct if settings.allowed_lateness.is_zero() => {
                Err(here(PlanErrorKind::BadValue {
                    key: "lateRows".into(),
                    value: "correct".into(),
                    expected: "also 'allowedLateness' = '1 hour' to say how late a row may be",
                }))
            }
            LateRows::Correct => Ok(None),
            LateRows::Table(name) => {
                let table = self.sink(&name, start)?;
                if table.declared {
                    return Err(here(PlanErrorKind::Unsupported {
                        what: format!("columns for the table of late rows '{}'", table.name),
                        instead: Some("leave them out: they are always the same".into()),
                    }));
                }
                Ok(Some(table))
            }
        }
    }

    /// The table that rows are written to.
    fn sink(&self, name: &str, span: Span) -> Result<Arc<CatalogTable>> {
        match self.tables.get(name) {
            Some(Entry::Table(table)) => Ok(Arc::clone(&table.declared)),
            Some(Entry::View { .. }) => {
                let kind = PlanErrorKind::Unsupported {
                    what: format!("writing into the view '{name}'"),
                    instead: Some("CREATE TABLE names a place to write to".into()),
                };
                Err(self.source.error(span, kind))
            }
            None => Err(self.source.error(span, self.tables.unknown(name))),
        }
    }

    fn scene<'s>(
        &'s self,
        tokens: &'s [TokenWithSpan],
        spellings: &'s Spellings,
        state: &'s SessionState,
    ) -> Scene<'s> {
        let functions = state
            .scalar_functions()
            .keys()
            .chain(state.aggregate_functions().keys())
            .chain(state.higher_order_functions().keys());
        // What begins with two underscores is ours; windows are rewritten before they are looked up.
        let functions = functions
            .filter(|n| !n.starts_with("__"))
            .cloned()
            .chain(["window".to_owned(), "session_window".to_owned()])
            .chain(generators::NAMES.iter().map(|&name| name.to_owned()));
        let mut functions: Vec<String> = functions.collect();
        functions.sort_unstable();
        Scene {
            source: self.source,
            tokens,
            tables: self.tables.names(),
            spellings,
            functions,
            culprit: Box::new(move |error| self.culprit(tokens, state, error)),
        }
    }

    /// Parses, rewrites and plans a query.
    fn logical(&self, state: &SessionState, original: &[TokenWithSpan]) -> Result<Planned> {
        let tables = QueryTables::new(self, original);
        let (asked, query) = self.syntax(state, &tables, original)?;
        let planned = planned(state, &tables, query);
        if let Some(failure) = tables.failure.take() {
            return Err(failure);
        }
        let spellings = tables.spellings.take();
        let plan =
            planned.map_err(|error| self.scene(original, &spellings, state).explain(&error))?;
        let internal: Vec<String> = plan
            .schema()
            .fields()
            .iter()
            .map(|f| f.name().clone())
            .collect();
        let names = names::result_names(&asked, self.source, &internal, &spellings);
        Ok(Planned {
            plan,
            names,
            spellings,
        })
    }

    /// The query as it is written, and as it is planned.
    fn syntax(
        &self,
        state: &SessionState,
        tables: &QueryTables,
        original: &[TokenWithSpan],
    ) -> Result<(Box<Query>, Box<Query>)> {
        let tokens = table_functions::rewrite(self.source, original, &mut &*tables)?;
        let tokens = asof::outer(tokens);
        let asked = self.parse(&tokens)?;
        let mut query = asked.clone();
        names::collect_aliases(&query, self.source, &mut tables.spellings.borrow_mut());
        windows::rewrite(
            &mut query,
            &mut windows::Rewriter {
                time_zone: self.settings.time_zone(),
                with_metadata: &|name| tables.shows_metadata(name),
                versions: &|name| tables.versions(name),
            },
        )
        .map_err(|failure| {
            let (span, kind) = *failure;
            self.source.error(span, kind)
        })?;
        let starred =
            |pair: &[TokenWithSpan]| pair[0].token == Token::Period && pair[1].token == Token::Mul;
        if original.windows(2).any(starred) {
            star::expand(&mut query, &|query| {
                let plan = planned(state, tables, Box::new(query)).ok()?;
                let found = plan.schema().fields().first()?.data_type().clone();
                tables.spell(&found);
                Some(found)
            });
        }
        Ok((asked, query))
    }

    /// Where an error is that does not say so.
    fn culprit(
        &self,
        tokens: &[TokenWithSpan],
        state: &SessionState,
        error: &DataFusionError,
    ) -> Option<Span> {
        let tables = QueryTables::new(self, tokens);
        let (_, query) = self.syntax(state, &tables, tokens).ok()?;
        let wanted = diagnose::said(error);
        locate::culprit(&query, tokens, &|query| {
            let plan = planned(state, &tables, Box::new(query));
            let found = plan.and_then(|plan| state.optimize(&plan));
            found.is_err_and(|found| diagnose::said(&found) == wanted)
        })
    }

    fn parse(&self, tokens: &[TokenWithSpan]) -> Result<Box<Query>> {
        // sqlparser takes FROM for a column here, and reports nonsense further on.
        let stray = tokens.windows(2).enumerate().find(|(at, pair)| {
            let next = tokens.get(at + 2).map(|t| &t.token);
            leaves_open(&pair[0].token) && is_clause(&pair[1].token, next)
        });
        if let Some((at, _)) = stray {
            let found = &tokens[at + 1];
            let text = self.source.slice(found.span.start, found.span.end);
            let message = format!("expected an expression, found '{text}'");
            return Err(self
                .source
                .error(found.span, PlanErrorKind::Syntax { message }));
        }
        depth::check(self.source, tokens)?;
        let mut parser =
            Parser::new(&TidemarkDialect).with_tokens_with_locations(keywords::for_parser(tokens));
        let here = |parser: &Parser| {
            let end = tokens
                .last()
                .map_or_else(Span::empty, |t| Span::new(t.span.end, t.span.end));
            let next = parser.peek_token();
            if next.token == Token::EOF {
                end
            } else {
                next.span
            }
        };
        let query = parser.parse_query().map_err(|error| {
            let message = match error {
                ParserError::ParserError(text) | ParserError::TokenizerError(text) => text,
                ParserError::RecursionLimitExceeded => "the query is nested too deeply".into(),
            };
            // sqlparser ends its message with the place; ours is in front.
            let (message, place) = match message.rsplit_once(" at Line: ") {
                Some((text, place)) => (text.to_owned(), parse_place(place)),
                None => (message, None),
            };
            let span = place
                .and_then(|(line, column)| {
                    tokens
                        .iter()
                        .map(|t| t.span)
                        .find(|s| (s.start.line, s.start.column) == (line, column))
                })
                .unwrap_or_else(|| here(&parser));
            // Without a place sqlparser still says which token it stumbled over.
            let stumbled = message
                .rsplit_once("found: ")
                .filter(|_| place.is_none())
                .and_then(|(_, found)| {
                    let read = &tokens[..parser.index().min(tokens.len())];
                    read.iter()
                        .rev()
                        .find(|t| t.token.to_string() == found)
                        .map(|t| t.span)
                });
            let span = stumbled.unwrap_or(span);
            let message = match message.rsplit_once("found: ") {
                Some((wanted, "EOF")) => format!("{wanted}found the end of the statement"),
                Some((wanted, found)) => format!("{wanted}found '{found}'"),
                None => message,
            };
            let message = message
                .replace("Expected: ", "expected ")
                .replace("Expected ", "expected ");
            self.source.error(span, PlanErrorKind::Syntax { message })
        })?;
        let rest = parser.peek_token();
        if rest.token != Token::EOF {
            let found = self.source.slice(rest.span.start, rest.span.end);
            let message = format!("expected ';' or the end of the script, found '{found}'");
            return Err(self
                .source
                .error(rest.span, PlanErrorKind::Syntax { message }));
        }
        Ok(query)
    }
}

/// What the SQL planner makes of a query, with Spark's constants and sessions.
fn planned(
    state: &SessionState,
    tables: &QueryTables,
    query: Box<Query>,
) -> Result<LogicalPlan, DataFusionError> {
    let provider = Provider::new(state, |name: &str| tables.lookup(name));
    SqlToRel::new_with_options(&provider, parser_options())
        .sql_statement_to_plan(SqlStatement::Query(query))
        .and_then(literals::typed)
        .and_then(sessions::introduced)
        .and_then(deduplicate::introduced)
        .and_then(nearest::introduced)
        .and_then(membership::with_exists)
}

/// Whether an expression must follow.
fn leaves_open(token: &Token) -> bool {
    use Token::{Comma, Div, Eq, Gt, GtEq, Lt, LtEq, Minus, Neq, Plus};
    matches!(
        token,
        Comma | Div | Eq | Gt | GtEq | Lt | LtEq | Minus | Neq | Plus
    ) || ["AND", "OR", "NOT", "SELECT", "WHERE", "HAVING", "BY"]
        .iter()
        .any(|word| is_keyword(token, word))
}

/// Whether the word begins a clause and can be nothing else.
fn is_clause(token: &Token, next: Option<&Token>) -> bool {
    let any = |words: &[&str]| words.iter().any(|word| is_keyword(token, word));
    any(&["FROM", "WHERE", "HAVING", "UNION"])
        || (any(&["GROUP", "ORDER"]) && next.is_some_and(|next| is_keyword(next, "BY")))
}

fn is_keyword(token: &Token, name: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(name))
}

/// `3, Column: 5`.
fn parse_place(text: &str) -> Option<(u64, u64)> {
    let (line, column) = text.split_once(", Column: ")?;
    Some((line.trim().parse().ok()?, column.trim().parse().ok()?))
}

fn parser_options() -> ParserOptions {
    ParserOptions::new()
        .with_parse_float_as_decimal(true)
        .with_map_string_types_to_utf8view(false)
        .with_collect_spans(true)
        .with_default_null_ordering(NullOrdering::NullsMin)
}

/// The plan with its columns called `names`.
fn renamed(plan: LogicalPlan, names: &[String]) -> Result<LogicalPlan, DataFusionError> {
    let columns = plan.schema().columns();
    if columns
        .iter()
        .zip(names)
        .all(|(column, name)| column.name == *name)
    {
        return Ok(plan);
    }
    let exprs: Vec<Expr> = columns
        .into_iter()
        .zip(names)
        .map(|(c, name)| Expr::Column(c).alias(name))
        .collect();
    LogicalPlanBuilder::from(plan).project(exprs)?.build()
}

/// Fills in the scans' projections and gathers the sources in the order of first use.
fn finished(plan: LogicalPlan) -> Result<(LogicalPlan, Vec<QuerySource>), DataFusionError> {
    let plan = plan.transform_down_with_subqueries(|node| match node {
        LogicalPlan::TableScan(mut scan) if scan.projection.is_none() => {
            scan.projection = Some((0..scan.source.schema().fields().len()).collect());
            Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    let mut sources: Vec<QuerySource> = Vec::new();
    plan.data.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(stream) = (&*scan.source as &dyn Any).downcast_ref::<StreamTable>()
            && sources.iter().all(|s| s.name != stream.name)
        {
            sources.push(QuerySource {
                name: stream.name.clone(),
                table: Arc::clone(&stream.table),
            });
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok((plan.data, sources))
}
