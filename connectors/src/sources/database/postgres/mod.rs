//! Tables of `PostgreSQL`.
//!
//! | module | what it does |
//! |---|---|
//! | `options` | where the server is and how to log in |
//! | `client` | the connection, and one statement at a time |
//!
//! Values travel as text, cast by the server, and the session says how it writes them. A query runs as one
//! statement in a transaction that only reads.

mod client;
mod options;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};

use tokio_postgres::Row;

use self::client::{Client, Told};
use self::options::Server;
use super::ahead::{Taker, read_ahead};
use super::options::Relation;
use super::rows::{Rows, shown};
use super::{Database, Described, NO_COLUMNS, quoted};
use crate::format::casts::Casts;
use crate::format::columns::Column;
use crate::{Options, Result, SplitReader};

/// The connector's name.
pub(super) const NAME: &str = "postgres";

/// A table or a query of a server.
#[derive(Clone, Debug)]
pub(super) struct Postgres {
    server: Arc<Server>,
    relation: Relation,
    casts: Casts,
}

impl Postgres {
    pub(super) fn new(options: &Options) -> Result<Self> {
        let known = [options::KEYS, &["timeZone"], &super::options::KEYS].concat();
        options.check_known(NAME, &known)?;
        Ok(Self {
            server: Arc::new(Server::new(options)?),
            relation: Relation::new(NAME, options)?,
            casts: Casts::new(options)?,
        })
    }
}

impl Database for Postgres {
    fn connector(&self) -> &'static str {
        NAME
    }

    fn place(&self) -> String {
        format!("{}, {}", self.server.place(), self.relation.shown)
    }

    fn describe(&self) -> Result<Vec<Described>> {
        let sql = format!("SELECT * FROM {}", self.relation.from);
        let columns = self.ask(|client| client.describe(&sql))?;
        let described = |told: Told| Described {
            data_type: data_type(told.oid, told.modifier),
            name: told.name,
        };
        Ok(columns.into_iter().map(described).collect())
    }

    fn size(&self) -> Option<u64> {
        let sql = format!("EXPLAIN (FORMAT JSON) SELECT * FROM {}", self.relation.from);
        let said = self.ask(|client| client.first(&sql)).ok()??;
        let plan: serde_json::Value = serde_json::from_str(&said).ok()?;
        let number = |name: &str| plan.pointer(&format!("/0/Plan/{name}"))?.as_u64();
        number("Plan Rows")?.checked_mul(number("Plan Width")?)
    }

    fn read(&self, columns: &[(String, Field)]) -> Result<Box<dyn SplitReader>> {
        let (this, columns) = (self.clone(), columns.to_vec());
        read_ahead(self.place(), move |taker| this.send(&columns, taker))
    }
}

impl Postgres {
    /// Asks something on a connection of its own.
    fn ask<T: Send>(&self, ask: impl Fn(&Client) -> Result<T> + Send) -> Result<T> {
        // Whoever asks may be inside a runtime, which allows no other on its thread.
        let answer = std::thread::scope(|scope| {
            let asking = scope.spawn(move || ask(&Client::connect(&self.server)?));
            asking.join()
        });
        answer.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Reads all rows and hands them over, until nobody takes them any more.
    fn send(&self, columns: &[(String, Field)], taker: &Taker) -> Result<()> {
        let list: Vec<String> = (columns.iter())
            .map(|(name, _)| format!("{}::text", quoted(name)))
            .collect();
        let list = if list.is_empty() {
            NO_COLUMNS.to_owned()
        } else {
            list.join(", ")
        };
        let client = Client::connect(&self.server)?;
        let mut rows = Rows::new(columns, self.casts.clone(), (NAME, self.place()))?;
        let sql = format!("SELECT {list} FROM {}", self.relation.from);
        client.select(&sql, &mut |row| {
            for index in 0..columns.len() {
                let value = text(row, index).map_err(|error| client.odd(&error))?;
                rows.push(index, |column, casts| push(column, value, casts))?;
            }
            rows.end_row();
            if rows.is_full()
                && let Some(batch) = rows.take()?
            {
                return Ok(taker.give(batch));
            }
            Ok(true)
        })?;
        if let Some(batch) = rows.take()? {
            taker.give(batch);
        }
        Ok(())
    }
}

/// A value of a row, which the server has made text of.
fn text(row: &Row, index: usize) -> Result<Option<&[u8]>, tokio_postgres::Error> {
    let value: Option<&str> = row.try_get(index)?;
    Ok(value.map(str::as_bytes))
}

/// Puts a value into a column, or shows the value that does not fit.
fn push(column: &mut Column, value: Option<&[u8]>, casts: &Casts) -> Result<(), String> {
    let Some(text) = value else {
        column.push_null();
        return Ok(());
    };
    let fits = match column {
        Column::Binary(values) => match unhex(text) {
            Some(bytes) => {
                values.push(&bytes);
                true
            }
            None => false,
        },
        // Years before the first have no like here.
        Column::Date(_) | Column::Timestamp(..) | Column::TimestampNtz(_)
            if text.ends_with(b" BC") =>
        {
            false
        }
        _ => column.push_text(text, casts),
    };
    fits.then_some(()).ok_or_else(|| shown(text))
}

/// The bytes of `\x0a1b`.
fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, []) = text.strip_prefix(b"\\x")?.as_chunks::<2>() else {
        return None;
    };
    (pairs.iter())
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect()
}

/// The type of a column, by the number of its type in every `PostgreSQL` and what stands behind its name in
/// brackets. What has no like here is text as the server writes it.
fn data_type(oid: u32, modifier: i32) -> Result<DataType, String> {
    Ok(match oid {
        16 => DataType::Boolean,
        17 => DataType::Binary,
        20 => DataType::Int64,
        21 => DataType::Int16,
        23 => DataType::Int32,
        26 => DataType::Int64,
        700 => DataType::Float32,
        701 => DataType::Float64,
        1082 => DataType::Date32,
        1114 | 1184 => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        1700 if modifier < 4 => DataType::Decimal128(38, 18),
        1700 => {
            let precision = ((modifier - 4) >> 16) & 0xffff;
            // Eleven bits with a sign.
            let scale = (((modifier - 4) & 0x7ff) ^ 0x400) - 0x400;
            if precision > 38 || !(0..=precision).contains(&scale) {
                return Err(format!(
                    "numeric({precision}, {scale}), which no DECIMAL holds"
                ));
            }
            DataType::Decimal128(precision as u8, scale as i8)
        }
        _ => DataType::Utf8,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_and_without_digits() {
        let modifier = |precision: i32, scale: i32| ((precision << 16) | (scale & 0x7ff)) + 4;
        assert_eq!(data_type(1700, -1), Ok(DataType::Decimal128(38, 18)));
        assert_eq!(
            data_type(1700, modifier(10, 2)),
            Ok(DataType::Decimal128(10, 2))
        );
        assert!(data_type(1700, modifier(100, 2)).is_err());
        assert!(data_type(1700, modifier(3, -2)).is_err());
    }

    #[test]
    fn bytes_in_hex() {
        assert_eq!(unhex(b"\\x0aFf"), Some(vec![10, 255]));
        assert_eq!(unhex(b"\\x"), Some(vec![]));
        assert_eq!(unhex(b"\\x0"), None);
        assert_eq!(unhex(b"0a"), None);
    }
}
