//! The columns that an expression of a plan may name beside those of its input.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::Column;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::Expr;

/// A hidden column: no schema of a plan has it. An operator builds it for the rows that it
/// computes from, where an expression names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supplied {
    /// TIMESTAMP: `current_timestamp()`, the epoch's.
    CurrentTimestamp,
    /// BIGINT: another number for each query and epoch, the same when the epoch is replayed.
    Salt,
    /// BINARY: where the row was read ([`crate::row::origin`]), different for each row of a query.
    /// Only rows that still are one row that was read have it ([`super::Node::positioned`]).
    Position,
}

impl Supplied {
    /// All of them, in the order in which they follow a row's own columns.
    pub const ALL: [Self; 3] = [Self::CurrentTimestamp, Self::Salt, Self::Position];

    /// What the column is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CurrentTimestamp => "__current_timestamp",
            Self::Salt => "__salt",
            Self::Position => "__position",
        }
    }

    /// The type of its values.
    pub fn data_type(self) -> DataType {
        match self {
            Self::CurrentTimestamp => {
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
            }
            Self::Salt => DataType::Int64,
            Self::Position => DataType::Binary,
        }
    }

    /// The one that `column` is.
    pub fn of(column: &Column) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|supplied| supplied.name() == column.name)
    }

    /// The column as an expression.
    pub fn column(self) -> Expr {
        Expr::Column(Column::from_name(self.name()))
    }

    /// Whether the expression names it.
    pub fn is_in(self, expr: &Expr) -> bool {
        let mut found = false;
        // The visitor never fails.
        let _ = expr.apply(|part| {
            found |= matches!(part, Expr::Column(column) if column.name == self.name());
            Ok(if found {
                TreeNodeRecursion::Stop
            } else {
                TreeNodeRecursion::Continue
            })
        });
        found
    }
}
