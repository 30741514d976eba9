//! `SHOW`, `DESCRIBE`, `STOP QUERY` and `SET` without a value: questions about what is declared.
//!
//! They are answered while the script is planned, as things stand at the statement. Only those
//! about running queries are left to whoever runs them. Secrets are hidden ([`crate::plan::redact`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::sql::sqlparser::tokenizer::{Span, Token};
use tidemark_connectors::options::nearest;
use tidemark_connectors::sources::SOURCES;

use super::options::Settings;
use super::query::Planner;
use super::tables::{DeclaredTable, Entry, Tables};
use super::tokens::{Cursor, position};
use super::types::type_name;
use super::{SqlSession, ddl, starts_query};
use crate::plan::Watermark;
use crate::plan::catalog::{Answer, QueriesAt, Statement};
use crate::plan::context::session_state;
use crate::plan::error::{PlanErrorKind, Result};
use crate::plan::functions::spark::{self, Status};
use crate::plan::redact::redact;
use crate::plan::text::duration;

/// Functions of SQL that are rewritten before anything is looked up by its name.
const REWRITTEN: &[&str] = &["window", "tumble", "hop", "cumulate"];

/// What Spark shows for a setting that has no value.
const UNDEFINED: &str = "<undefined>";

/// The names that a user may write, each as it is spelt.
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// Tables and views with their columns, as far as these are known without opening a source.
    pub tables: BTreeMap<String, Vec<String>>,
    /// Functions.
    pub functions: BTreeSet<String>,
    /// Settings.
    pub settings: Vec<&'static str>,
}

/// All names of a session.
pub(super) fn words(tables: &Tables, time_zone: &str) -> Words {
    let columns = |entry: &Entry| -> Vec<String> {
        match entry {
            Entry::Table(table) => {
                let known = table.opened().or(Some(&table.declared));
                let schema = known.and_then(|table| table.schema.as_ref());
                schema.map_or_else(Vec::new, |schema| {
                    schema.fields().iter().map(|f| f.name().clone()).collect()
                })
            }
            Entry::View { .. } => view_fields(entry)
                .into_iter()
                .map(|(name, _)| name)
                .collect(),
        }
    };
    Words {
        tables: tables
            .entries()
            .map(|entry| (entry.name().to_owned(), columns(entry)))
            .collect(),
        functions: functions(time_zone),
        settings: Settings::default().all().map(|(name, _)| name).collect(),
    }
}

/// The names of all functions that a query may call.
fn functions(time_zone: &str) -> BTreeSet<String> {
    let state = session_state(time_zone);
    let names = state
        .scalar_functions()
        .keys()
        .chain(state.aggregate_functions().keys())
        .chain(state.higher_order_functions().keys());
    // What begins with two underscores is ours.
    let mut all: BTreeSet<String> = names
        .filter(|name| !name.starts_with("__"))
        .cloned()
        .chain(REWRITTEN.iter().map(|name| (*name).to_owned()))
        .collect();
    // Some of Spark's are rewritten before the planner looks a name up, and some it may not know.
    for entry in spark::entries() {
        match entry.status {
            Status::Works | Status::Settled | Status::Differs | Status::Unchecked => {
                if entry.family != "operators" {
                    all.insert(entry.name.to_owned());
                }
            }
            Status::Missing | Status::Refused => drop(all.remove(entry.name)),
        }
    }
    all
}

impl SqlSession {
    /// The answer, if the statement is a question. Behind a `SET` that sets nothing is taken.
    pub(super) fn show(&mut self, cursor: &mut Cursor) -> Result<Option<Statement>> {
        let start = cursor.span();
        let at = QueriesAt {
            file: cursor.source.file().to_owned(),
            position: position(start),
        };
        let answer = if cursor.take_word("SHOW") {
            if cursor.take_word("QUERIES") {
                return Ok(Some(Statement::ShowQueries(at)));
            }
            self.show_names(cursor)?
        } else if cursor.take_words(&["STOP", "QUERY"]) {
            let name = match cursor.peek() {
                Some(Token::SingleQuotedString(_)) => cursor.string("the query's name")?.0,
                _ => cursor.name("the query's name")?.0,
            };
            return Ok(Some(Statement::StopQuery { name, at }));
        } else if cursor.take_word("DESCRIBE") || cursor.take_word("DESC") {
            self.describe(cursor)?
        } else if cursor.is_word_at(0, "SET") && !assigns(cursor) {
            cursor.at += 1;
            self.show_settings(cursor)?
        } else {
            return Ok(None);
        };
        Ok(Some(Statement::Answer(answer)))
    }

    fn show_names(&self, cursor: &mut Cursor) -> Result<Answer> {
        if cursor.take_word("TABLES") {
            let pattern = pattern(cursor)?;
            let rows = self.tables.entries().filter_map(|entry| match entry {
                Entry::Table(table) => {
                    Some([entry.name().to_owned(), table.declared.connector.clone()])
                }
                Entry::View { .. } => None,
            });
            return Ok(rows_of(
                ["tableName", "connector"],
                rows.filter(|row| pattern.takes(&row[0])),
            ));
        }
        if cursor.take_word("VIEWS") {
            let pattern = pattern(cursor)?;
            let views = self.tables.entries().filter_map(|entry| match entry {
                Entry::View { name, .. } => Some([name.clone()]),
                Entry::Table(_) => None,
            });
            return Ok(rows_of(
                ["viewName"],
                views.filter(|row| pattern.takes(&row[0])),
            ));
        }
        let scoped =
            cursor.take_word("ALL") || cursor.take_word("SYSTEM") || cursor.take_word("USER");
        if cursor.take_word("FUNCTIONS") {
            let pattern = pattern(cursor)?;
            let names = functions(self.settings.time_zone()).into_iter();
            return Ok(rows_of(
                ["function"],
                names.filter(|name| pattern.takes(name)).map(|name| [name]),
            ));
        }
        if !scoped && cursor.take_word("COLUMNS") {
            if !cursor.take_word("IN") {
                cursor.expect_word("FROM")?;
            }
            let (name, span) = cursor.name("the table's name")?;
            let columns = self.columns(cursor, &name, span)?;
            return Ok(rows_of(
                ["col_name"],
                columns.into_iter().map(|[name, ..]| [name]),
            ));
        }
        if !scoped && cursor.take_word("CREATE") {
            if !cursor.take_word("VIEW") {
                cursor.expect_word("TABLE")?;
            }
            let (name, span) = cursor.name("the table's name")?;
            return match self.tables.get(&name) {
                Some(Entry::Table(table)) => Ok(Answer::Text(create_table(table))),
                Some(Entry::View { name, text, .. }) => Ok(Answer::Text(format!(
                    "CREATE VIEW {} AS\n{text};",
                    quoted(name)
                ))),
                None => Err(cursor.source.error(span, self.tables.unknown(&name))),
            };
        }
        Err(cursor.expected("TABLES, VIEWS, FUNCTIONS, COLUMNS, CREATE TABLE or QUERIES"))
    }

    fn describe(&self, cursor: &mut Cursor) -> Result<Answer> {
        if cursor.take_word("FUNCTION") {
            let _ = cursor.take_word("EXTENDED");
            let span = cursor.span();
            let name = match cursor.peek() {
                Some(Token::SingleQuotedString(_)) => cursor.string("the function's name")?.0,
                _ => cursor.name("the function's name")?.0,
            };
            let described = describe_function(&name, self.settings.time_zone());
            return described.map(Answer::Text).ok_or_else(|| {
                let known = functions(self.settings.time_zone());
                let kind = PlanErrorKind::UnknownFunction {
                    nearest: nearest(&name, known.iter().map(String::as_str)),
                    name,
                };
                cursor.source.error(span, kind)
            });
        }
        let _ = cursor.take_word("QUERY");
        if starts_query(cursor, 0) && !cursor.is_word_at(0, "TABLE") {
            let planner = Planner {
                settings: &self.settings,
                tables: &self.tables,
                source: cursor.source,
            };
            let view = planner.view(&cursor.tokens[cursor.at..], None)?;
            cursor.at = cursor.tokens.len();
            let fields = view.plan.schema().fields().iter().map(|field| {
                let name = view.spellings.get(field.name());
                let name = name.unwrap_or(field.name()).clone();
                [name, type_name(field.data_type()), String::new()]
            });
            return Ok(rows_of(["col_name", "data_type", "comment"], fields));
        }
        let _ = cursor.take_word("TABLE");
        let _ = cursor.take_word("EXTENDED") || cursor.take_word("FORMATTED");
        let (name, span) = cursor.name("the name of a table or view")?;
        let columns = self.columns(cursor, &name, span)?;
        Ok(rows_of(["col_name", "data_type", "comment"], columns))
    }

    /// Name, type and remarks of each column of a table or view.
    fn columns(&self, cursor: &Cursor, name: &str, span: Span) -> Result<Vec<[String; 3]>> {
        let table = match self.tables.get(name) {
            None => return Err(cursor.source.error(span, self.tables.unknown(name))),
            Some(view @ Entry::View { .. }) => {
                let fields = view_fields(view).into_iter();
                return Ok(fields
                    .map(|(name, kind)| [name, kind, String::new()])
                    .collect());
            }
            Some(Entry::Table(table)) => table,
        };
        let connector = &table.declared.connector;
        let reads = SOURCES
            .iter()
            .any(|known| known.eq_ignore_ascii_case(connector));
        let table = if table.declared.declared || !reads || writes_only(table) {
            Arc::clone(table.opened().unwrap_or(&table.declared))
        } else {
            self.tables.source(table)?
        };
        let Some(schema) = &table.schema else {
            return Ok(vec![]);
        };
        let remarks = |index: usize| {
            let mut remarks = vec![];
            if let Some(Watermark {
                column,
                delay,
                idle_timeout,
            }) = &table.watermark
                && *column == index
            {
                let words = |length: &std::time::Duration| {
                    duration(i64::try_from(length.as_micros()).unwrap_or(i64::MAX))
                };
                let mut text = format!("event time; watermark {} behind", words(delay));
                if let Some(timeout) = idle_timeout {
                    text.push_str(&format!(", idle after {}", words(timeout)));
                }
                remarks.push(text);
            }
            if table.primary_key.contains(&index) {
                remarks.push("primary key".into());
            }
            remarks.join("; ")
        };
        Ok((schema.fields().iter().enumerate())
            .map(|(index, field)| {
                [
                    field.name().clone(),
                    type_name(field.data_type()),
                    remarks(index),
                ]
            })
            .collect())
    }

    fn show_settings(&self, cursor: &mut Cursor) -> Result<Answer> {
        let shown = |name: &str, value: Option<&str>| {
            let value = value.map_or(UNDEFINED.into(), |value| redact(name, value));
            [name.to_owned(), value.into_owned()]
        };
        let columns = ["key", "value"];
        let _ = cursor.take(&Token::Minus) && cursor.take_word("v");
        if cursor.at_end() {
            let all = self.settings.all();
            return Ok(rows_of(
                columns,
                all.map(|(name, value)| shown(name, value)),
            ));
        }
        let span = cursor.span();
        let key = ddl::setting_key(cursor, "the setting's name")?;
        let found = self
            .settings
            .look_up(&key)
            .map_err(|kind| cursor.source.error(span, kind))?;
        let (name, value) = found.unwrap_or((&key, None));
        Ok(rows_of(columns, [shown(name, value)]))
    }
}

/// Whether a `SET` sets something.
fn assigns(cursor: &Cursor) -> bool {
    let rest = &cursor.tokens[(cursor.at + 1).min(cursor.tokens.len())..];
    rest.iter().any(|token| token.token == Token::Eq)
        || (cursor.is_word_at(1, "TIME") && cursor.is_word_at(2, "ZONE"))
}

/// A table with a query's options is written; its directory need not be there yet.
fn writes_only(table: &DeclaredTable) -> bool {
    let engine = &table.declared.engine;
    engine.mode.is_some() || engine.trigger.is_some() || engine.checkpoint_location.is_some()
}

fn view_fields(entry: &Entry) -> Vec<(String, String)> {
    let Entry::View { plan, .. } = entry else {
        return vec![];
    };
    let fields = plan.plan.schema().fields().iter();
    fields
        .map(|field| {
            let name = plan.spellings.get(field.name()).unwrap_or(field.name());
            (name.clone(), type_name(field.data_type()))
        })
        .collect()
}

/// The table as a statement that declares it again, secrets hidden.
fn create_table(table: &DeclaredTable) -> String {
    let declared = &table.declared;
    let mut items: Vec<String> = vec![];
    if let Some(schema) = declared.schema.as_ref().filter(|_| declared.declared) {
        let column = |field: &Arc<Field>| {
            format!("{} {}", quoted(field.name()), type_name(field.data_type()))
        };
        items.extend(schema.fields().iter().map(column));
        let keys: Vec<String> = (declared.primary_key.iter())
            .map(|index| quoted(schema.field(*index).name()))
            .collect();
        if !keys.is_empty() {
            items.push(format!("PRIMARY KEY ({}) NOT ENFORCED", keys.join(", ")));
        }
    }
    if let Some((column, delay)) = table.watermark() {
        let column = quoted(column);
        items.push(format!(
            "WATERMARK FOR {column} AS {column} - INTERVAL '{}'",
            duration(delay)
        ));
    }
    let options: Vec<String> = (table.written.iter())
        .map(|(key, value)| format!("{} = {}", text(key), text(&redact(key, value))))
        .collect();
    let block = |items: &[String]| format!("(\n  {}\n)", items.join(",\n  "));
    let columns = if items.is_empty() {
        String::new()
    } else {
        format!("{} ", block(&items))
    };
    format!(
        "CREATE TABLE {} {columns}WITH {};",
        quoted(&declared.name),
        block(&options)
    )
}

/// A string literal.
fn text(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A name, in backquotes where it needs them.
fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if plain {
        name.to_owned()
    } else {
        format!("`{}`", name.replace('`', "``"))
    }
}

/// What the registry says of a function.
fn describe_function(name: &str, time_zone: &str) -> Option<String> {
    let name = name.to_lowercase();
    let state = session_state(time_zone);
    let documentation = if let Some(function) = state.scalar_functions().get(&name) {
        ("function", function.documentation())
    } else if let Some(function) = state.aggregate_functions().get(&name) {
        ("aggregate function", function.documentation())
    } else if functions(time_zone).contains(&name) {
        ("function", None)
    } else {
        return None;
    };
    let (kind, documentation) = documentation;
    let mut out = format!("{name}: {kind}\n");
    if let Some(documentation) = documentation {
        out.push_str(&format!(
            "{}\n\n{}\n",
            documentation.syntax_example.trim(),
            documentation.description.trim()
        ));
        for (argument, meaning) in documentation.arguments.iter().flatten() {
            out.push_str(&format!("  {argument}: {}\n", meaning.trim()));
        }
    }
    let noted = spark::entries().iter().find(|entry| entry.name == name);
    if let Some(entry) = noted.filter(|entry| !entry.note.is_empty()) {
        let word = match entry.status {
            Status::Differs => "Differs from Spark: ",
            _ => "",
        };
        out.push_str(&format!("\n{word}{}\n", entry.note));
    }
    out.truncate(out.trim_end().len());
    Some(out)
}

/// `[LIKE] 'pattern'`: `*` stands for anything, `|` for a choice, without regard to case.
struct Pattern(Option<String>);

fn pattern(cursor: &mut Cursor) -> Result<Pattern> {
    if cursor.take_word("LIKE") || matches!(cursor.peek(), Some(Token::SingleQuotedString(_))) {
        let (pattern, _) = cursor.string("a pattern such as 'count*'")?;
        return Ok(Pattern(Some(pattern.to_lowercase())));
    }
    Ok(Pattern(None))
}

impl Pattern {
    fn takes(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.0
            .as_ref()
            .is_none_or(|all| all.split('|').any(|one| matches(one.trim(), &name)))
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|tail| {
            let starts = tail.char_indices().map(|(at, _)| at).chain([tail.len()]);
            starts.into_iter().any(|at| matches(rest, &tail[at..]))
        }),
    }
}

/// Rows of text columns.
fn rows_of<const N: usize>(
    columns: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Answer {
    let rows: Vec<[String; N]> = rows.into_iter().collect();
    let schema: SchemaRef = Arc::new(Schema::new(
        columns
            .map(|name| Field::new(name, DataType::Utf8, false))
            .to_vec(),
    ));
    let column = |index: usize| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(
            rows.iter().map(|row| row[index].as_str()),
        ))
    };
    let arrays = (0..N).map(column).collect();
    Answer::Rows(RecordBatch::try_new(schema, arrays).expect("columns of one length each"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_sparks() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("date*", "date_add", true),
            ("date*", "to_date", false),
            ("*date*", "to_date", true),
            ("a*b*c", "aXbbYc", true),
            ("a*b*c", "ab", false),
            ("MIN|max", "max", true),
            ("é*", "été", true),
        ] {
            let pattern = Pattern(Some(pattern.to_lowercase()));
            assert_eq!(pattern.takes(name), expected, "{name}");
        }
    }
}
