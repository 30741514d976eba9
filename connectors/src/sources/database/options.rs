//! Which table or query of a database is read.

use crate::{ConnectorError, Options, Result};

/// The options that say so, with Spark's names.
pub(super) const KEYS: [&str; 2] = ["dbtable", "query"];

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    /// As it stands behind `FROM`.
    pub(super) from: String,
    /// As errors and plans call it.
    pub(super) shown: String,
}

impl Relation {
    /// Takes it out of a table's options.
    pub(super) fn new(connector: &'static str, options: &Options) -> Result<Self> {
        let given = |key: &str| options.get(key).map(str::trim).filter(|v| !v.is_empty());
        match (given("dbtable"), given("query")) {
            (Some(table), None) => Ok(Self {
                from: table.to_owned(),
                shown: table.to_owned(),
            }),
            (None, Some(query)) => {
                let query = query.trim_end_matches(';');
                Ok(Self {
                    from: format!("({query}) AS tidemark_query"),
                    shown: "its 'query'".to_owned(),
                })
            }
            (Some(_), Some(_)) => Err(ConnectorError::OptionRefused {
                connector: connector.into(),
                key: "query".into(),
                instead: "write it or 'dbtable', not both".into(),
            }),
            (None, None) => {
                let remedy =
                    "the table to read, such as 'dbtable' = 'customers', or 'query' = 'SELECT ...'";
                Err(options
                    .require(connector, "dbtable", remedy)
                    .err()
                    .unwrap_or_else(|| ConnectorError::MissingOption {
                        connector: connector.into(),
                        key: "dbtable".into(),
                        remedy: remedy.into(),
                    }))
            }
        }
    }
}
