//! The order of a whole result: `ORDER BY` and `LIMIT` in complete mode.

use std::fmt;

use arrow::compute::SortOptions;

use super::Node;
use super::lineage::{Naming, column_texts};

/// How the rows of a whole result are put in order and cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultOrder {
    /// What they are ordered by, the first first. Rows that are alike in all of it are in the order
    /// of their columns.
    pub by: Vec<OrderBy>,
    /// How many columns of the root are the result's; those behind them are there for the order.
    pub columns: usize,
    /// How many rows are left out.
    pub skip: usize,
    /// How many follow them.
    pub fetch: Option<usize>,
}

/// A column of the root by which rows are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderBy {
    /// The column.
    pub column: usize,
    /// Which way, and where nulls are.
    pub options: SortOptions,
}

impl ResultOrder {
    /// `n DESC, kind`, of the columns of `root`.
    pub(super) fn by(&self, root: &Node) -> String {
        let names = column_texts(root, Naming::Shown);
        let by = self.by.iter().map(|by| {
            let way = if by.options.descending { " DESC" } else { "" };
            let name = names.get(by.column).map_or("", String::as_str);
            format!("{name}{way}")
        });
        by.collect::<Vec<_>>().join(", ")
    }
}

/// How many rows there are: `; without the first 2 rows; at most 10 rows`.
impl fmt::Display for ResultOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.skip > 0 {
            write!(f, "; without the first {}", rows(self.skip))?;
        }
        match self.fetch {
            Some(fetch) => write!(f, "; at most {}", rows(fetch)),
            None => Ok(()),
        }
    }
}

fn rows(count: usize) -> String {
    format!("{count} row{}", if count == 1 { "" } else { "s" })
}
