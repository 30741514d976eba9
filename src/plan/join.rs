//! What a join is, as plain data.

use datafusion::logical_expr::Expr;

use super::{Emit, EventTimeColumn, Node, Operator};

/// The left input of a join.
pub const LEFT: usize = 0;

/// The right input of a join.
pub const RIGHT: usize = 1;

/// Rows of two inputs that belong together. See [`Operator::Join`].
///
/// A pair matches where all of `on` are equal, each row meets its side's `condition`, and `filter` is true.
#[derive(Clone, Debug)]
pub struct Join {
    /// What is given.
    pub kind: JoinKind,
    /// What must be equal: over the left input, and over the right one.
    pub on: Vec<(Expr, Expr)>,
    /// Whether a null equals another.
    pub nulls_match: bool,
    /// What else must be true of a pair, over the columns of both.
    pub filter: Option<Expr>,
    /// Of each input.
    pub sides: [JoinSide; 2],
    /// How far apart in event time the rows of a pair are, as the filter says, where both are kept.
    pub within: Option<Within>,
    /// When rows without a match are given.
    pub emit: Emit,
}

/// What a join gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    /// The pairs.
    Inner,
    /// The pairs, and the rows without a match of those inputs for which it is true, with nulls beside them.
    Outer([bool; 2]),
    /// The rows of this input with a match.
    Semi(usize),
    /// The rows of this input without a match.
    Anti(usize),
    /// All rows of this input, and whether each has a match.
    Mark(usize),
}

/// One input of a join.
#[derive(Clone, Debug)]
pub struct JoinSide {
    /// Rows for which this is not true match nothing. Over this input.
    pub condition: Option<Expr>,
    /// Rows for which it has passed are late.
    pub late: Option<Moment>,
    /// How long a row can find a match.
    pub kept: Kept,
}

/// How far the right row's moment lies behind the left row's, in microseconds. It is asked of pairs all the
/// same: this says which of a key's rows need not be looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Within {
    /// Of each input.
    pub moments: [Moment; 2],
    /// At least so far.
    pub least: Option<i64>,
    /// At most so far.
    pub most: Option<i64>,
}

/// A moment in event time, for each row.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    /// What says it. Over the input.
    pub time: Expr,
    /// What that is.
    pub column: EventTimeColumn,
}

/// How long a join keeps a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept {
    /// It does not: the other input is all there from the start.
    Not,
    /// Until the watermark has reached its moment and so many microseconds more, lags included.
    Until(Moment, i64),
    /// For ever.
    Forever,
}

impl JoinKind {
    /// Whether pairs are given.
    pub const fn gives_pairs(self) -> bool {
        matches!(self, Self::Inner | Self::Outer(_))
    }

    /// Whether what is given of a row of this input depends on whether it has a match.
    pub const fn tracks(self, side: usize) -> bool {
        match self {
            Self::Inner => false,
            Self::Outer(preserved) => preserved[side],
            Self::Semi(of) | Self::Anti(of) | Self::Mark(of) => of == side,
        }
    }

    /// Whether a row of this input that has no match is given.
    pub const fn gives_unmatched(self, side: usize) -> bool {
        !matches!(self, Self::Semi(_)) && self.tracks(side)
    }

    /// As SQL calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inner => "JOIN",
            Self::Outer([true, false]) => "LEFT JOIN",
            Self::Outer([false, true]) => "RIGHT JOIN",
            Self::Outer(_) => "FULL JOIN",
            Self::Semi(LEFT) => "LEFT SEMI JOIN",
            Self::Semi(_) => "RIGHT SEMI JOIN",
            Self::Anti(LEFT) => "LEFT ANTI JOIN",
            Self::Anti(_) => "RIGHT ANTI JOIN",
            Self::Mark(_) => "EXISTS JOIN",
        }
    }
}

impl Join {
    /// The first input whose rows without a match never are final, though they are to be given.
    pub fn endless(&self) -> Option<usize> {
        [LEFT, RIGHT].into_iter().find(|side| {
            self.kind.gives_unmatched(*side) && self.sides[*side].kept == Kept::Forever
        })
    }

    /// Whether no row that was given is ever taken back, over inputs that take none back.
    pub fn is_final(&self) -> bool {
        let waits =
            |side: &usize| self.kind.gives_unmatched(*side) && self.sides[*side].kept != Kept::Not;
        self.emit == Emit::OnClose || ![LEFT, RIGHT].iter().any(waits)
    }

    /// The input whose rows are looked up in the other one as they come, and are not kept.
    pub fn looked_up(&self) -> Option<usize> {
        [LEFT, RIGHT]
            .into_iter()
            .find(|side| self.sides[*side].kept == Kept::Not)
    }

    /// Over an input that takes rows back: a row is kept as long as that may happen to it.
    pub fn keep_retractable(&mut self, side: usize) {
        if let Kept::Until(moment, more) = &mut self.sides[side].kept {
            *more = (*more).max(moment.column.lag);
        }
    }

    /// No row is late, and none is forgotten.
    pub fn keep_all(&mut self) {
        for side in &mut self.sides {
            side.late = None;
            if matches!(side.kept, Kept::Until(..)) {
                side.kept = Kept::Forever;
            }
        }
    }
}

/// Each row of the left input with the one row of the right input that is nearest to it. See
/// [`Operator::Nearest`].
///
/// Of the right rows with equal keys, the one with the greatest time at or before that of the left row; with
/// `later` the one with the least time at or behind it.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a word of the statement, or follows from its tables"
)]
pub struct Nearest {
    /// What must be equal: over the left input, and over the right one. A null equals nothing.
    pub on: Vec<(Expr, Expr)>,
    /// What is compared: over the left input, and over the right one. Times, dates or whole numbers, of one type.
    pub times: [Expr; 2],
    /// The nearest later row, rather than the nearest earlier one.
    pub later: bool,
    /// A row of the same time is none.
    pub strict: bool,
    /// Rows of the left input that find none are given with nulls beside them.
    pub outer: bool,
    /// Over the right input: of rows of one time the one that is greatest in these is taken, and of those
    /// that are alike in them the first in the order of the columns.
    pub latest: Vec<Expr>,
    /// What the times say about event time, of each input: a row is late for it. Nothing where no row waits.
    pub moments: [Option<EventTimeColumn>; 2],
    /// How far behind the watermark a row of either input may come, where both times say that; `None`: rows are kept for ever.
    pub lag: Option<i64>,
    /// Whether rows of the left input wait for rows of the right one. They do not where all of those are there from the start.
    pub waits: bool,
    /// Rows are given once, when no nearer row can come; or at once, and taken back for a nearer one.
    pub emit: Emit,
}

impl Nearest {
    /// Whether no row that was given is ever taken back, over inputs that take none back.
    pub fn is_final(&self) -> bool {
        self.emit == Emit::OnClose || !self.waits
    }

    /// Why rows of the left input would not all be given where each is given once.
    pub fn endless(&self) -> Option<&'static str> {
        if !self.waits {
            None
        } else if self.lag.is_none() {
            Some("a nearer row could come at any time, as no watermark says how late one may be")
        } else if self.outer && self.later {
            Some("a later row can always come, so a row without one never is final")
        } else {
            None
        }
    }

    /// No row is late, and none is forgotten.
    pub fn keep_all(&mut self) {
        self.lag = None;
        self.moments = [None; 2];
    }

    /// As SQL calls it.
    pub const fn name(&self) -> &'static str {
        if self.outer {
            "LEFT ASOF JOIN"
        } else {
            "ASOF JOIN"
        }
    }

    /// The comparison, the left input's time first.
    pub const fn comparison(&self) -> &'static str {
        match (self.later, self.strict) {
            (false, false) => ">=",
            (false, true) => ">",
            (true, false) => "<=",
            (true, true) => "<",
        }
    }
}

/// Whether all that a node gives is there from the start.
pub fn is_static(node: &Node, streaming: &dyn Fn(usize) -> bool) -> bool {
    match &node.operator {
        Operator::Source { source, .. } => !streaming(*source),
        _ => node.inputs.iter().all(|input| is_static(input, streaming)),
    }
}
