//! Tables of databases, read as a whole: static tables.
//!
//! | module | what it does |
//! |---|---|
//! | `ahead` | a thread that reads ahead |
//! | `options` | which table or query, checked |
//! | `rows` | values of a database to batches |
//! | `sqlite` | `SQLite` |
//! | `postgres` | `PostgreSQL` |
//!
//! A database is asked for all rows at once, in one statement, so what is read is the table at one moment. It
//! gives them in no order, and others when it is asked again: whoever must read the same rows twice keeps a
//! copy.

mod ahead;
mod options;
mod postgres;
mod rows;
mod sqlite;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde_json::{Value, json};

use crate::options::nearest;
use crate::{
    ConnectorError, Options, PlannedRange, ReadLimit, Result, Source, SourceReader, Split,
    SplitReader,
};

/// The names that `'connector' = ...` takes for the tables of a database.
pub const DATABASES: &[&str] = &["sqlite", "postgres"];

/// A column of a table, in the words of its database.
#[derive(Debug)]
struct Described {
    name: String,
    /// The type that its values have here, or what its database calls a type that has none.
    data_type: Result<DataType, String>,
}

/// A table or a query of a database.
trait Database: Send + Sync + Debug {
    /// `connector` as SQL names it.
    fn connector(&self) -> &'static str;

    /// Where it is, without secrets: `shop.db, customers`.
    fn place(&self) -> String;

    /// Its columns.
    fn describe(&self) -> Result<Vec<Described>>;

    /// About how many bytes its rows have, where it says so.
    fn size(&self) -> Option<u64>;

    /// Reads all rows: of each of `columns`, by its name in the database, values of the field beside it.
    fn read(&self, columns: &[(String, Field)]) -> Result<Box<dyn SplitReader>>;
}

/// A table of a database as a source: one range with one split, and then no more.
#[derive(Debug)]
pub struct DatabaseSource {
    reader: Arc<DatabaseReader>,
    planned: bool,
}

impl DatabaseSource {
    /// Opens the source that `connector` names; `None` where it names no database. `schema` holds the declared
    /// columns, if any; without them the database is asked.
    pub fn open(
        connector: &str,
        options: &Options,
        schema: Option<&SchemaRef>,
    ) -> Result<Option<Self>> {
        let database: Box<dyn Database> = match connector {
            sqlite::NAME => Box::new(sqlite::Sqlite::new(options)?),
            postgres::NAME => Box::new(postgres::Postgres::new(options)?),
            _ => return Ok(None),
        };
        let schema = match schema {
            Some(declared) => rows::check(declared, database.connector())?,
            None => infer(&*database)?,
        };
        Ok(Some(Self {
            reader: Arc::new(DatabaseReader { database, schema }),
            planned: false,
        }))
    }

    fn offset(&self) -> Value {
        if self.planned { json!(1) } else { Value::Null }
    }
}

fn infer(database: &dyn Database) -> Result<SchemaRef> {
    let fields = (database.describe()?.into_iter())
        .map(|column| match column.data_type {
            Ok(data_type) => Ok(Field::new(column.name, data_type, true)),
            Err(own) => Err(ConnectorError::Schema(format!(
                "the type of column '{}' of {} is {own}: declare the columns of the table, or cast it in 'query'",
                column.name,
                database.place()
            ))),
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(Schema::new(fields)))
}

impl Source for DatabaseSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.reader.schema)
    }

    fn metadata_schema(&self) -> SchemaRef {
        Arc::new(Schema::empty())
    }

    fn description(&self) -> String {
        let database = &self.reader.database;
        format!("{}[{}]", database.connector(), database.place())
    }

    fn restore(&mut self, log: &[PlannedRange]) -> Result<()> {
        self.planned |= !log.is_empty();
        Ok(())
    }

    fn latest_offset(&mut self) -> Result<Option<Value>> {
        Ok(Some(json!(1)))
    }

    fn plan(&mut self, _: ReadLimit) -> Result<Option<PlannedRange>> {
        if self.planned {
            return Ok(None);
        }
        let start = self.offset();
        self.planned = true;
        Ok(Some(PlannedRange {
            start,
            end: self.offset(),
            splits: vec![Split {
                partition: Arc::from(self.reader.database.connector()),
                range: json!({ "table": self.reader.database.place() }),
                bytes: 0,
            }],
        }))
    }

    fn committed(&mut self, _: &PlannedRange) -> Result<()> {
        Ok(())
    }

    fn freeze(&mut self) -> Result<()> {
        Ok(())
    }

    fn exhausted(&self) -> bool {
        self.planned
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn size(&self) -> Option<u64> {
        self.reader.database.size()
    }

    fn reader(&self) -> Arc<dyn SourceReader> {
        Arc::clone(&self.reader) as Arc<dyn SourceReader>
    }
}

#[derive(Debug)]
struct DatabaseReader {
    database: Box<dyn Database>,
    schema: SchemaRef,
}

impl SourceReader for DatabaseReader {
    fn open(&self, _: &Split, projection: &[usize]) -> Result<Box<dyn SplitReader>> {
        let there: Vec<String> = (self.database.describe()?.into_iter())
            .map(|column| column.name)
            .collect();
        let columns = (projection.iter())
            .map(|index| {
                let field = self.schema.field(*index);
                let name = named(&there, field.name(), &*self.database)?;
                Ok((name.to_owned(), field.clone()))
            })
            .collect::<Result<Vec<_>>>()?;
        self.database.read(&columns)
    }
}

/// The name in the database of a column: as it is written, else whatever its case.
fn named<'a>(there: &'a [String], wanted: &str, database: &dyn Database) -> Result<&'a str> {
    let lower = wanted.to_lowercase();
    (there.iter().find(|name| *name == wanted))
        .or_else(|| there.iter().find(|name| name.to_lowercase() == lower))
        .map(String::as_str)
        .ok_or_else(|| {
            let meant = nearest(wanted, there.iter().map(String::as_str));
            ConnectorError::Schema(format!(
                "{} has no column '{wanted}'{}; its columns are {}",
                database.place(),
                meant.map_or(String::new(), |name| format!("; did you mean '{name}'?")),
                there.join(", ")
            ))
        })
}

/// A name as SQL quotes it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The list of a `SELECT` that has no column.
const NO_COLUMNS: &str = "1";

#[cfg(test)]
mod tests;
