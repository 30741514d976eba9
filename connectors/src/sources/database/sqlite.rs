//! Tables of `SQLite`.
//!
//! Any value may stand in any column there, so each is taken by what it is: a number, a text or bytes, and must
//! fit the column's type here.

use std::path::PathBuf;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, TimeUnit};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::ahead::{Taker, read_ahead};
use super::options::{self, Relation};
use super::rows::{Rows, shown};
use super::{Database, Described, NO_COLUMNS, quoted};
use crate::format::casts::Casts;
use crate::format::columns::Column;
use crate::{ConnectorError, Options, Result, SplitReader};

/// The connector's name.
pub(super) const NAME: &str = "sqlite";

/// How long to wait for one who writes.
const BUSY: Duration = Duration::from_secs(10);

/// The view that says what type a query's columns have.
const VIEW: &str = "tidemark_described";

/// A table or a query of a database file.
#[derive(Clone, Debug)]
pub(super) struct Sqlite {
    path: PathBuf,
    relation: Relation,
    casts: Casts,
}

impl Sqlite {
    pub(super) fn new(options: &Options) -> Result<Self> {
        let known = [&["path", "url", "timeZone"][..], &options::KEYS].concat();
        options.check_known(NAME, &known)?;
        let path = match (options.get("path"), options.get("url")) {
            (Some(path), None) => path,
            (None, Some(url)) => {
                let url = url.strip_prefix("jdbc:").unwrap_or(url);
                url.strip_prefix("sqlite:").ok_or_else(|| {
                    options.bad(
                        "url",
                        "a database file such as 'jdbc:sqlite:shop.db'; or write 'path' = 'shop.db'".into(),
                    )
                })?
            }
            (Some(_), Some(_)) => {
                return Err(ConnectorError::OptionRefused {
                    connector: NAME.into(),
                    key: "url".into(),
                    instead: "write it or 'path', not both".into(),
                });
            }
            (None, None) => options.require(
                NAME,
                "path",
                "the database file, such as 'path' = 'shop.db'",
            )?,
        };
        Ok(Self {
            path: path.into(),
            relation: Relation::new(NAME, options)?,
            casts: Casts::new(options)?,
        })
    }

    fn failed(&self, error: &rusqlite::Error) -> ConnectorError {
        ConnectorError::Database {
            action: "cannot read",
            place: self.place(),
            reason: error.to_string(),
            remedy: "Check 'path' and 'dbtable' or 'query'",
        }
    }

    /// Opens the file, which is there and is only read.
    fn connect(&self) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if !self.path.exists() {
            return Err(ConnectorError::Io {
                action: "cannot open the database",
                path: self.path.clone(),
                source: std::io::ErrorKind::NotFound.into(),
            });
        }
        Connection::open_with_flags(&self.path, flags)
            .and_then(|connection| connection.busy_timeout(BUSY).map(|()| connection))
            .map_err(|error| self.failed(&error))
    }

    /// Reads all rows and hands them over, until nobody takes them any more.
    fn send(&self, columns: &[(String, Field)], taker: &Taker) -> Result<()> {
        let failed = |error| self.failed(&error);
        let connection = self.connect()?;
        let names: Vec<String> = columns.iter().map(|(name, _)| quoted(name)).collect();
        let list = if names.is_empty() {
            NO_COLUMNS.to_owned()
        } else {
            names.join(", ")
        };
        let sql = format!("SELECT {list} FROM {}", self.relation.from);
        let mut statement = connection.prepare(&sql).map_err(failed)?;
        let mut found = statement.query([]).map_err(failed)?;
        let mut rows = Rows::new(columns, self.casts.clone(), (NAME, self.place()))?;
        while let Some(row) = found.next().map_err(failed)? {
            for index in 0..columns.len() {
                let value = row.get_ref(index).map_err(failed)?;
                rows.push(index, |column, casts| push(column, value, casts))?;
            }
            rows.end_row();
            if rows.is_full()
                && let Some(batch) = rows.take()?
                && !taker.give(batch)
            {
                return Ok(());
            }
        }
        if let Some(batch) = rows.take()? {
            taker.give(batch);
        }
        Ok(())
    }
}

impl Database for Sqlite {
    fn connector(&self) -> &'static str {
        NAME
    }

    fn place(&self) -> String {
        format!("{}, {}", self.path.display(), self.relation.shown)
    }

    fn describe(&self) -> Result<Vec<Described>> {
        let failed = |error| self.failed(&error);
        let connection = self.connect()?;
        // What is temporary lies beside the file.
        let view = format!(
            "CREATE TEMP VIEW {VIEW} AS SELECT * FROM {}",
            self.relation.from
        );
        connection.execute_batch(&view).map_err(failed)?;
        let mut statement = connection
            .prepare(&format!("PRAGMA temp.table_info({VIEW})"))
            .map_err(failed)?;
        let columns = statement.query_map([], |row| {
            Ok(Described {
                name: row.get("name")?,
                data_type: data_type(&row.get::<_, String>("type")?),
            })
        });
        (columns.map_err(failed)?)
            .collect::<Result<_, _>>()
            .map_err(failed)
    }

    fn size(&self) -> Option<u64> {
        let connection = self.connect().ok()?;
        // The pages of a table; of a view or a query it is not known what they read, which is in the file.
        let pages = "SELECT sum(pgsize) FROM dbstat WHERE name = ?1 AND aggregate = 1";
        let of_table: Option<i64> = connection
            .query_row(pages, [&self.relation.from], |row| row.get(0))
            .ok()?;
        match of_table {
            Some(bytes) => u64::try_from(bytes).ok(),
            None => std::fs::metadata(&self.path).ok().map(|file| file.len()),
        }
    }

    fn read(&self, columns: &[(String, Field)]) -> Result<Box<dyn SplitReader>> {
        let (this, columns) = (self.clone(), columns.to_vec());
        read_ahead(self.place(), move |taker| this.send(&columns, taker))
    }
}

/// The type of a column that was declared as `declared` there.
fn data_type(declared: &str) -> Result<DataType, String> {
    let upper = declared.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| upper.contains(word));
    // By SQLite's own rules of affinity, but for what says more.
    Ok(if upper.contains("BOOL") {
        DataType::Boolean
    } else if upper.starts_with("TIMESTAMP") || upper.starts_with("DATETIME") {
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
    } else if upper == "DATE" {
        DataType::Date32
    } else if has(&["INT"]) {
        DataType::Int64
    } else if has(&["CHAR", "CLOB", "TEXT", "STRING", "JSON", "UUID"]) {
        DataType::Utf8
    } else if has(&["BLOB", "BINARY"]) {
        DataType::Binary
    } else if has(&["REAL", "FLOA", "DOUB"]) {
        DataType::Float64
    } else {
        return decimal(&upper).ok_or_else(|| {
            if declared.is_empty() {
                "not declared".to_owned()
            } else {
                format!("{declared}, which has no like here")
            }
        });
    })
}

/// `DECIMAL(10, 2)`, `NUMERIC(8)`.
fn decimal(upper: &str) -> Option<DataType> {
    let rest = (upper.strip_prefix("DECIMAL")).or_else(|| upper.strip_prefix("NUMERIC"))?;
    let inside = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
    let (precision, scale) = inside.split_once(',').unwrap_or((inside, "0"));
    let precision: u8 = precision.trim().parse().ok()?;
    let scale: i8 = scale.trim().parse().ok()?;
    let fits = (1..=38).contains(&precision) && (0..=precision as i8).contains(&scale);
    fits.then_some(DataType::Decimal128(precision, scale))
}

/// Puts a value into a column, or shows the value that does not fit.
fn push(column: &mut Column, value: ValueRef<'_>, casts: &Casts) -> Result<(), String> {
    match value {
        ValueRef::Null => {
            column.push_null();
            Ok(())
        }
        ValueRef::Integer(number) => integer(column, number, casts),
        ValueRef::Real(number) => {
            let fits = match column {
                Column::Float64(values) => values.push_option(Some(number)),
                Column::Float32(values) => values.push_option(Some(number as f32)),
                Column::Utf8(_) | Column::Decimal(..) => {
                    column.push_text(number.to_string().as_bytes(), casts)
                }
                _ => false,
            };
            fits.then_some(()).ok_or_else(|| number.to_string())
        }
        ValueRef::Text(text) => {
            let fits = match column {
                Column::Utf8(values) => {
                    values.push(String::from_utf8_lossy(text).as_bytes());
                    true
                }
                _ => column.push_text(text, casts),
            };
            fits.then_some(()).ok_or_else(|| shown(text))
        }
        ValueRef::Blob(bytes) => match column {
            Column::Binary(values) => {
                values.push(bytes);
                Ok(())
            }
            _ => Err(format!("(a BLOB of {} bytes)", bytes.len())),
        },
    }
}

fn integer(column: &mut Column, number: i64, casts: &Casts) -> Result<(), String> {
    let fits = match column {
        Column::Boolean(values) => match number {
            0 | 1 => values.push_option(Some(number == 1)),
            _ => false,
        },
        Column::Float64(values) => values.push_option(Some(number as f64)),
        Column::Float32(values) => values.push_option(Some(number as f32)),
        // As in JSON: seconds since 1970.
        Column::Timestamp(values, _) => match number.checked_mul(1_000_000) {
            Some(micros) => values.push_option(Some(micros)),
            None => false,
        },
        Column::Date(_) | Column::TimestampNtz(_) | Column::Binary(_) => false,
        _ => column.push_text(number.to_string().as_bytes(), casts),
    };
    fits.then_some(()).ok_or_else(|| number.to_string())
}
