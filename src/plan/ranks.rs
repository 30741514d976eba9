//! Rows that stay for their place among the rows like them: the first to arrive, the first of an order.

use std::fmt::{self, Write};

use datafusion::logical_expr::expr::{NullTreatment, WindowFunction};
use datafusion::logical_expr::{Expr, SortExpr};

use super::{Bound, Emit, EventTimeColumn};

/// See [`Operator::Deduplicate`](super::Operator::Deduplicate).
#[derive(Clone, Debug)]
pub struct Deduplicate {
    /// What duplicates have in common, over the input.
    pub keys: Vec<Expr>,
    /// Which of the rows of one epoch came first, over the input: the least by these.
    pub order: Vec<Expr>,
    /// Over the input: the event time by which a row is late; `None`: no row is.
    pub time: Option<(Expr, EventTimeColumn)>,
    /// How long a key is known.
    pub known: Known,
}

/// How long a key is known that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// For ever.
    Always,
    /// Until the watermark passes the event time, which is a part of the key.
    UntilPassed,
    /// Until the watermark passes the event time of the first row by so many microseconds.
    Within(i64),
}

/// See [`Operator::Rank`](super::Operator::Rank).
#[derive(Clone, Debug)]
pub struct Rank {
    /// Rows are ranked among those that have these in common, over the input.
    pub partition: Vec<Expr>,
    /// What they are ranked by, over the input. Rows that are alike in all of it are in the order of
    /// their columns.
    pub order: Vec<SortExpr>,
    /// How they are counted.
    pub function: RankFunction,
    /// The first and the last rank to be given, counted from 1.
    pub ranks: (u64, u64),
    /// Each row has its rank behind its columns.
    pub numbered: bool,
    /// The part of the partition that says when a partition is complete; `None`: never.
    pub bound: Option<Bound>,
    /// When rows are given.
    pub emit: Emit,
}

/// How rows are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RankFunction {
    /// Each row by itself.
    RowNumber,
    /// Rows that are alike in the order share a rank, and the next one counts all before it.
    Rank,
    /// Rows that are alike in the order share a rank, and the next one follows.
    DenseRank,
}

/// See [`Operator::Over`](super::Operator::Over).
#[derive(Clone, Debug)]
pub struct Over {
    /// A row sees those that have these in common, over the input.
    pub partition: Vec<Expr>,
    /// In this order, over the input. Rows that are alike in all of it are in the order of their columns.
    pub order: Vec<SortExpr>,
    /// Window functions of this partition and order, over the input.
    pub calls: Vec<Expr>,
    /// The part of the partition that says when a partition is complete; `None`: never.
    pub bound: Option<Bound>,
    /// How far back the results of a row look, where none looks ahead and the order begins with the event
    /// time: a row is late by it. Only where no partition is ever complete.
    pub trailing: Option<Trailing>,
    /// When rows are given.
    pub emit: Emit,
}

/// How far back the results of a row look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailing {
    /// What the order begins with, ascending.
    pub column: EventTimeColumn,
    /// At so many rows before it; `None`: at all of them.
    pub rows: Option<u64>,
    /// And at those of so many microseconds before it.
    pub range: i64,
}

impl Over {
    /// The calls as SQL.
    pub(super) fn texts(&self, text: &dyn Fn(&Expr) -> String) -> Vec<String> {
        let call = |call: &Expr| match call {
            Expr::WindowFunction(call) => window_call(call, text),
            other => text(other),
        };
        self.calls.iter().map(call).collect()
    }
}

/// `sum(x) FILTER (WHERE y) OVER (PARTITION BY k ORDER BY n ROWS BETWEEN ...)`.
fn window_call(call: &WindowFunction, text: &dyn Fn(&Expr) -> String) -> String {
    let all = |exprs: &[Expr]| exprs.iter().map(text).collect::<Vec<_>>().join(", ");
    let params = &call.params;
    let distinct = if params.distinct { "DISTINCT " } else { "" };
    let mut out = format!("{}({distinct}{})", call.fun.name(), all(&params.args));
    if params.null_treatment == Some(NullTreatment::IgnoreNulls) {
        out.push_str(" IGNORE NULLS");
    }
    if let Some(filter) = &params.filter {
        let _ = write!(out, " FILTER (WHERE {})", text(filter));
    }
    out.push_str(" OVER (");
    if !params.partition_by.is_empty() {
        let _ = write!(out, "PARTITION BY {} ", all(&params.partition_by));
    }
    if !params.order_by.is_empty() {
        let _ = write!(out, "ORDER BY {} ", by(&params.order_by, text));
    }
    let _ = write!(out, "{})", params.window_frame);
    out
}

impl RankFunction {
    /// The function of SQL.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "row_number" => Some(Self::RowNumber),
            "rank" => Some(Self::Rank),
            "dense_rank" => Some(Self::DenseRank),
            _ => None,
        }
    }
}

impl fmt::Display for RankFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RowNumber => "row_number()",
            Self::Rank => "rank()",
            Self::DenseRank => "dense_rank()",
        })
    }
}

impl Rank {
    /// One row of each partition is given.
    pub fn is_first(&self) -> bool {
        self.function == RankFunction::RowNumber && self.ranks == (1, 1)
    }

    /// `n DESC, kind NULLS LAST`.
    pub(super) fn by(&self, text: &dyn Fn(&Expr) -> String) -> String {
        by(&self.order, text)
    }

    /// `rank() OVER (PARTITION BY kind ORDER BY n DESC)`.
    pub(super) fn over(&self, text: &dyn Fn(&Expr) -> String) -> String {
        let mut parts = Vec::new();
        if !self.partition.is_empty() {
            let by: Vec<String> = self.partition.iter().map(text).collect();
            parts.push(format!("PARTITION BY {}", by.join(", ")));
        }
        if !self.order.is_empty() {
            parts.push(format!("ORDER BY {}", self.by(text)));
        }
        format!("{} OVER ({})", self.function, parts.join(" "))
    }

    /// `= 1`, `<= 3`, `BETWEEN 2 AND 4`.
    pub(super) fn range(&self) -> String {
        match self.ranks {
            (first, last) if first == last => format!("= {first}"),
            (1, last) => format!("<= {last}"),
            (first, last) => format!("BETWEEN {first} AND {last}"),
        }
    }
}

fn by(order: &[SortExpr], text: &dyn Fn(&Expr) -> String) -> String {
    let by = order.iter().map(|by| {
        let way = if by.asc { "" } else { " DESC" };
        let nulls = match (by.asc, by.nulls_first) {
            (true, false) => " NULLS LAST",
            (false, true) => " NULLS FIRST",
            _ => "",
        };
        format!("{}{way}{nulls}", text(&by.expr))
    });
    by.collect::<Vec<_>>().join(", ")
}
