//! From the text of a script to queries: tables, settings, and a `LogicalPlan` for every query.
//!
//! | module | what it does |
//! |---|---|
//! | `tokens`, `dialect` | the script as tokens that know their place; Spark's literals |
//! | `ddl`, [`types`] | `CREATE TABLE`, `SET`; Spark's type names |
//! | `options` | what options and settings say to the engine |
//! | `table_functions` | TUMBLE, HOP, CUMULATE and Spark's streaming clauses, on tokens |
//! | `grouping` | `WITH ROLLUP`, `grouping_id()` |
//! | `windows`, `ast` | `window(..)`, on the syntax tree |
//! | `asof` | `ASOF JOIN` and `FOR SYSTEM_TIME AS OF`, on tokens and on the syntax tree |
//! | `generators`, `generate` | `explode` and its like, on the syntax tree and as plans |
//! | `lambdas` | fields of a lambda's parameters, how many it has |
//! | `spark_functions` | Spark's functions that are something else here |
//! | `tables` | what is declared, and the sources behind it |
//! | `query`, `scope` | one query: syntax tree to an optimised `LogicalPlan`; the tables it may read |
//! | `interval_tokens`, `operators` | intervals, operators that are functions here |
//! | `literals` | constants with Spark's types |
//! | `depth`, `keywords` | how deep expressions may be; which words begin a construct |
//! | `insert` | the result made to fit its target |
//! | `script` | a script cut into statements |
//! | `show` | `SHOW`, `DESCRIBE`, and `SET` as a question |
//! | `names`, `diagnose` | the result's names and errors, as the user writes |
//!
//! [`parse_script`] plans a whole script; [`SqlSession`] does the same statement by statement and
//! remembers what was declared.

mod asof;
mod ast;
mod ddl;
mod depth;
mod diagnose;
mod dialect;
mod format_functions;
pub(super) mod generate;
mod generators;
mod grouping;
mod insert;
mod interval_tokens;
mod keywords;
mod lambdas;
pub(super) mod literals;
mod locate;
mod names;
mod operators;
mod options;
mod query;
mod running;
mod schema;
mod scope;
mod script;
mod show;
mod spark_functions;
mod spark_syntax;
mod star;
mod table_functions;
mod tables;
mod tokens;
pub mod types;
mod window_calls;
mod windows;

#[cfg(test)]
mod tests;

pub use options::DEFAULT_TIME_ZONE;
pub(in crate::plan) use schema::parse_schema;
pub use script::{Ending, ScriptText};
pub use show::Words;
pub use tables::{OpenSource, SourceSchema};
pub use types::type_name;

use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use super::catalog::{Script, Statement};
use super::error::{PlanError, PlanErrorKind, Result};
use super::room::with_room;
use options::Settings;
use query::{Target, ViewPlan};
use tables::Tables;
use tokens::{Cursor, SourceText};

/// What a script is planned with, beside its text.
#[derive(Clone, Debug, Default)]
pub struct ScriptOptions {
    /// Settings from outside (`--set K=V`); they hold against the script's own `SET`.
    pub settings: Vec<(String, String)>,
}

/// Plans all statements of a script. `file` is what errors call it.
pub fn parse_script(text: &str, file: &str, options: &ScriptOptions) -> Result<Script> {
    let mut session = SqlSession::new(options)?;
    session.run(text, file)
}

/// Statements one after the other, with what they declare.
#[derive(Debug, Default)]
pub struct SqlSession {
    settings: Settings,
    tables: Tables,
    unnamed: usize,
}

impl SqlSession {
    /// An empty session.
    pub fn new(options: &ScriptOptions) -> Result<Self> {
        let mut session = Self::default();
        for (key, value) in &options.settings {
            session
                .settings
                .pin(key, value)
                .map_err(PlanErrorKind::anywhere)?;
        }
        Ok(session)
    }

    /// The session's time zone.
    pub fn time_zone(&self) -> &str {
        self.settings.time_zone()
    }

    /// Looks sources up with `open` instead of [`tidemark_connectors::open_source`].
    #[must_use]
    pub fn with_opener(mut self, open: OpenSource) -> Self {
        self.tables.open = open;
        self
    }

    /// Plans the statements of `text`. What they declare stays for the next call.
    pub fn run(&mut self, text: &str, file: &str) -> Result<Script> {
        with_room(|| self.run_here(text, file))
    }

    fn run_here(&mut self, text: &str, file: &str) -> Result<Script> {
        let read = ScriptText::read(text, file)?;
        let mut script = Script::default();
        for index in 0..read.len() {
            script.statements.extend(self.plan_here(&read, index)?);
        }
        Ok(script)
    }

    /// Plans the statement at `index` of a script: `CREATE TABLE ... AS` is two, `CREATE ... IF
    /// NOT EXISTS` may be none.
    pub fn plan(&mut self, script: &ScriptText, index: usize) -> Result<Vec<Statement>> {
        with_room(|| self.plan_here(script, index))
    }

    fn plan_here(&mut self, script: &ScriptText, index: usize) -> Result<Vec<Statement>> {
        let mut out = Vec::new();
        self.statement(&script.source, script.statement(index), &mut out)?;
        Ok(out)
    }

    /// What a user may write: names of tables, columns, functions and settings.
    pub fn words(&self) -> Words {
        show::words(&self.tables, self.settings.time_zone())
    }

    fn statement(
        &mut self,
        source: &SourceText,
        tokens: &[TokenWithSpan],
        out: &mut Vec<Statement>,
    ) -> Result<()> {
        let mut cursor = Cursor::new(source, tokens);
        let start = cursor.span();
        if let Some(answer) = self.show(&mut cursor)? {
            Self::end(&cursor)?;
            out.push(answer);
        } else if cursor.take_word("SET") {
            let (key, value, span) = ddl::set(&mut cursor)?;
            self.settings
                .set(&key, &value)
                .map_err(|kind| source.error(span, kind))?;
            out.push(Statement::Set { key, value });
        } else if cursor.take_word("CREATE") {
            self.create(&mut cursor, out)?;
        } else if cursor.take_word("DROP") {
            let what = if cursor.take_word("VIEW") {
                "VIEW"
            } else {
                cursor.expect_word("TABLE").map(|()| "TABLE")?
            };
            let if_exists = cursor.take_words(&["IF", "EXISTS"]);
            let (name, span) = cursor.name(&format!("the {}'s name", what.to_lowercase()))?;
            Self::end(&cursor)?;
            if !self.tables.remove(&name) && !if_exists {
                return Err(source.error(span, self.tables.unknown(&name)));
            }
            out.push(Statement::Drop { name });
        } else if cursor.take_word("EXPLAIN") {
            while [
                "EXTENDED",
                "FORMATTED",
                "CODEGEN",
                "COST",
                "ANALYZE",
                "VERBOSE",
            ]
            .iter()
            .any(|w| cursor.take_word(w))
            {}
            let query = self.query(&mut cursor, start)?;
            out.push(Statement::Explain(Box::new(query)));
        } else {
            let query = self.query(&mut cursor, start)?;
            out.push(Statement::Query(Box::new(query)));
        }
        Ok(())
    }

    /// `INSERT INTO t SELECT ...` or a bare query.
    fn query(
        &mut self,
        cursor: &mut Cursor,
        start: Span,
    ) -> Result<super::catalog::QueryStatement> {
        let mut target = Target::Console;
        if cursor.take_word("INSERT") {
            if cursor.is_word_at(0, "OVERWRITE") {
                let kind = PlanErrorKind::Unsupported {
                    what: "INSERT OVERWRITE".into(),
                    instead: Some(
                        "write INSERT INTO a table with 'outputMode' = 'complete'".into(),
                    ),
                };
                return Err(cursor.source.error(cursor.span(), kind));
            }
            cursor.expect_word("INTO")?;
            cursor.take_word("TABLE");
            let (name, span) = cursor.name("the table's name")?;
            let columns = if cursor.peek() == Some(&Token::LParen) && !starts_query(cursor, 1) {
                Some(column_list(cursor)?)
            } else {
                None
            };
            target = Target::Table {
                name,
                span,
                columns,
            };
        } else if !starts_query(cursor, 0) {
            return Err(cursor.expected(
                "a statement: CREATE TABLE, CREATE VIEW, INSERT INTO, SELECT, SET, EXPLAIN, DROP, SHOW, DESCRIBE or STOP QUERY",
            ));
        }
        if matches!(target, Target::Console) {
            self.unnamed += 1;
        }
        let planner = query::Planner {
            settings: &self.settings,
            tables: &self.tables,
            source: cursor.source,
        };
        planner.statement(&cursor.tokens[cursor.at..], &target, self.unnamed, start)
    }

    fn create(&mut self, cursor: &mut Cursor, out: &mut Vec<Statement>) -> Result<()> {
        let source = cursor.source;
        let replace = cursor.take_words(&["OR", "REPLACE"]);
        let _ = cursor.take_word("GLOBAL");
        let _ = cursor.take_word("TEMPORARY") || cursor.take_word("TEMP");
        if cursor.take_word("VIEW") {
            return self.create_view(cursor, replace, out);
        }
        let _ = cursor.take_word("STREAMING");
        if !cursor.take_word("TABLE") {
            return Err(cursor.expected("TABLE or VIEW"));
        }
        let table = ddl::create_table(cursor)?;
        let (name, span, query) = (table.name.clone(), table.span, table.query);
        if table.if_not_exists && self.tables.contains(&name) {
            return Ok(());
        }
        if replace {
            self.tables.remove(&name);
        }
        let declared = self.tables.declare(table, &self.settings, source)?;
        out.push(Statement::CreateTable(declared));
        if let Some(at) = query {
            let planner = query::Planner {
                settings: &self.settings,
                tables: &self.tables,
                source,
            };
            let target = Target::Table {
                name,
                span,
                columns: None,
            };
            let planned = planner.statement(&cursor.tokens[at..], &target, self.unnamed, span)?;
            out.push(Statement::Query(Box::new(planned)));
        }
        Ok(())
    }

    fn create_view(
        &mut self,
        cursor: &mut Cursor,
        replace: bool,
        out: &mut Vec<Statement>,
    ) -> Result<()> {
        let if_not_exists = cursor.take_words(&["IF", "NOT", "EXISTS"]);
        let (name, span) = cursor.name("the view's name")?;
        if if_not_exists && self.tables.contains(&name) {
            return Ok(());
        }
        let columns = if cursor.peek() == Some(&Token::LParen) {
            Some(column_list(cursor)?)
        } else {
            None
        };
        cursor.expect_word("AS")?;
        let planner = query::Planner {
            settings: &self.settings,
            tables: &self.tables,
            source: cursor.source,
        };
        let view: ViewPlan = planner.view(&cursor.tokens[cursor.at..], columns.as_deref())?;
        if replace {
            self.tables.remove(&name);
        }
        let end = cursor
            .tokens
            .last()
            .map_or(cursor.span().end, |t| t.span.end);
        let written = cursor.source.slice(cursor.span().start, end);
        self.tables
            .add_view(&name, span, (view, written), cursor.source)?;
        out.push(Statement::CreateView { name });
        Ok(())
    }

    fn end(cursor: &Cursor) -> Result<(), PlanError> {
        if cursor.at_end() {
            Ok(())
        } else {
            Err(cursor.expected("';' or the end of the script"))
        }
    }
}

/// `(a, b)`.
fn column_list(cursor: &mut Cursor) -> Result<Vec<(String, Span)>> {
    cursor.expect(&Token::LParen, "'('")?;
    let mut columns = Vec::new();
    loop {
        columns.push(cursor.name("a column")?);
        if cursor.is_word_at(0, "COMMENT") {
            cursor.at += 1;
            cursor.string("the comment as a string")?;
        }
        if !cursor.take(&Token::Comma) {
            break;
        }
    }
    cursor.expect(&Token::RParen, "',' or ')'")?;
    Ok(columns)
}

/// Whether a query begins at the `n`th token.
fn starts_query(cursor: &Cursor, n: usize) -> bool {
    ["SELECT", "WITH", "FROM", "VALUES", "TABLE"]
        .iter()
        .any(|w| cursor.is_word_at(n, w))
        || cursor.peek_nth(n) == Some(&Token::LParen)
}
