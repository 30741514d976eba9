//! Rows of two inputs that belong together.
//!
//! Two stages. Here the rows of both inputs are encoded (`encode`) and sent to the worker that owns their key;
//! there an epoch's rows are taken into state, once the epoch is complete (`merge`). What is new in one input
//! meets what is kept of the other and what is new there (`pairs`); a condition beside the keys is evaluated
//! over pairs, thousands at a time.
//!
//! Beside a table that is all there from the start a stream is not kept: its rows are looked up as they come
//! (`lookup`) in rows of the table that workers have in memory (`table`): all of a small one, of a large one those
//! of their keys (`held` keeps and spreads them).
//!
//! What is given of a row by itself (an outer row without a match, a row that has one) depends on whether it
//! has a match. How that is known:
//!
//! | `Known` | where | state |
//! |---|---|---|
//! | `ByKey` | only keys must be equal, and the other input's rows are kept for ever | none: whether the key has rows there |
//! | `Counts` | changes are given | how many matches each row has |
//! | `Unmatched` | rows are final when given | those without a match, by the moment at which that is final |
//!
//! Where the condition says how far apart in event time the rows of a pair are, only rows that are not further
//! apart meet (`near`).
//!
//! State: traces 0 and 1 hold the rows of the left and the right input by key, traces 2 and 3 what is known of them.
//! Where rows meet by time a row begins with its moment; one whose matches are known goes on with its expiry. The moment in front of a key of `Unmatched` takes no
//! part in where it lives ([`routed`]).

mod encode;
mod fresh;
mod held;
mod known;
mod lookup;
mod merge;
mod near;
mod pairs;
mod singles;
mod table;

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use datafusion::common::DFSchemaRef;
use datafusion::common::config::ConfigOptions;
use timely::dataflow::operators::Concatenate;

use crate::operators::expression::{Expressions, batch_schema};
use crate::operators::keyed::keyed;
use crate::operators::moment::moments;
use crate::operators::{Context, DeltaStream, EpochInfo, OperatorError, Restored, expires};
use crate::plan::join::{JoinSide, Kept, LEFT, Moment, RIGHT};
use crate::plan::{self, Emit, EventTimeKind, JoinKind};
use crate::row::{Delta, KeyCodec, RowError, ValueCodec};
use crate::state::{Recorder, StateError};
use crate::time::EventTime;

use held::Held;
use lookup::lookup;
use merge::Merge;
use near::Reach;

/// What progress calls this operator, as Spark does.
const NAME: &str = "symmetricHashJoin";

/// Rows are given in batches of this size, or this many bytes where rows are wide: what is read and written for one
/// should not be pushed out of the processor's caches meanwhile.
const BATCH: usize = 8192;
const BATCH_BYTES: usize = 1 << 20;

/// Whether so many rows, of so many bytes, are a batch.
fn is_batch(rows: usize, bytes: usize) -> bool {
    rows >= BATCH || bytes >= BATCH_BYTES
}

/// The part of a key in state that says which worker it lives on.
pub fn routed(trace: u32, key: &[u8]) -> &[u8] {
    if trace > RIGHT as u32 && key.len() >= 8 {
        &key[8..]
    } else {
        key
    }
}

/// Whether the moment stands in front of the keys of what a join knows of its rows.
pub fn is_timed(join: &plan::Join) -> bool {
    join.emit == Emit::OnClose
}

/// How it is known whether a row has a match. See the head of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    ByKey,
    Counts,
    Unmatched,
}

impl Known {
    /// How a join knows it of the rows of `side`; `None` where it does not matter.
    fn of(join: &plan::Join, side: usize) -> Option<Self> {
        if !join.kind.tracks(side) {
            None
        } else if join.filter.is_none() && join.sides[1 - side].kept == Kept::Forever {
            Some(Self::ByKey)
        } else if join.emit == Emit::Changes {
            Some(Self::Counts)
        } else {
            Some(Self::Unmatched)
        }
    }

    /// Whether something is kept for it.
    fn is_kept(self) -> bool {
        matches!(self, Self::Counts | Self::Unmatched)
    }
}

/// A join ready to be attached to two streams.
pub struct Join {
    prepared: Arc<Prepared>,
}

/// What both stages share.
struct Prepared {
    operator: usize,
    kind: JoinKind,
    nulls_match: bool,
    sides: [Side; 2],
    /// What must be true of a pair, over the columns of both.
    filter: Option<Expressions>,
    /// How far apart the rows of a pair are.
    reach: Option<Reach>,
    /// The columns of both.
    pair_schema: SchemaRef,
    schema: SchemaRef,
}

/// What is needed of one input.
struct Side {
    /// What must be equal; none: all rows meet.
    keys: Option<(Expressions, KeyCodec)>,
    /// What must be true of a row for it to match at all.
    condition: Option<Expressions>,
    /// A row is late when the watermark has passed this.
    late: Option<Limit>,
    /// A row can find no match any more when the watermark has passed this; `None`: never so.
    until: Option<Limit>,
    /// The moment by which rows meet.
    moment: Option<Limit>,
    /// Whether its rows are kept.
    is_kept: bool,
    known: Option<Known>,
    /// Of its columns.
    rows: ValueCodec,
    schema: SchemaRef,
}

/// Some time after a moment of each row.
struct Limit {
    time: Expressions,
    kind: EventTimeKind,
    more: i64,
}

impl Limit {
    fn new(
        moment: &Moment,
        more: i64,
        input: &DFSchemaRef,
        options: &Arc<ConfigOptions>,
    ) -> Result<Self, OperatorError> {
        Ok(Self {
            time: Expressions::new([&moment.time], input, options)?,
            kind: moment.column.kind,
            more,
        })
    }

    /// The limit of each row; [`NEVER`](crate::time::NEVER) where there is none.
    fn evaluate(&self, delta: &Delta, epoch: &EpochInfo) -> Result<Vec<EventTime>, OperatorError> {
        let column = self.time.evaluate(delta, epoch)?.swap_remove(0);
        let mut limits = moments(self.kind, &column, delta.rows());
        for limit in &mut limits {
            *limit = expires(*limit, self.more);
        }
        Ok(limits)
    }
}

impl Side {
    fn new(
        operator: usize,
        (plan, side): (&plan::Join, usize),
        input: &DFSchemaRef,
        options: &Arc<ConfigOptions>,
    ) -> Result<Self, OperatorError> {
        let failed = |source| OperatorError::Row { operator, source };
        let JoinSide {
            condition,
            late,
            kept,
        } = &plan.sides[side];
        let keys = (plan.on.iter()).map(|(left, right)| if side == LEFT { left } else { right });
        let keys = Expressions::new(keys, input, options)?;
        let codec = match keys.types(input)?.as_slice() {
            [] => None,
            types => Some(KeyCodec::new(types).map_err(failed)?),
        };
        Ok(Self {
            keys: codec.map(|codec| (keys, codec)),
            condition: (condition.as_ref())
                .map(|condition| Expressions::new([condition], input, options))
                .transpose()?,
            late: (late.as_ref())
                .map(|late| Limit::new(late, late.column.lag, input, options))
                .transpose()?,
            until: match kept {
                Kept::Until(until, more) => Some(Limit::new(until, *more, input, options)?),
                Kept::Not | Kept::Forever => None,
            },
            moment: (plan.within.as_ref())
                .map(|within| Limit::new(&within.moments[side], 0, input, options))
                .transpose()?,
            is_kept: *kept != Kept::Not,
            known: Known::of(plan, side),
            rows: ValueCodec::new(&types(input)).map_err(failed)?,
            schema: batch_schema(input),
        })
    }

    /// Whether its rows have their expiry in front.
    fn is_stamped(&self) -> bool {
        self.known.is_some_and(Known::is_kept)
    }

    /// The columns of a row that is kept, or that is new.
    fn row<'a>(&self, value: &'a [u8]) -> &'a [u8] {
        let times = usize::from(self.moment.is_some()) + usize::from(self.is_stamped());
        &value[8 * times..]
    }

    /// The expiry of a row that has it in front.
    fn expiry_of(&self, value: &[u8]) -> EventTime {
        let stamp = if self.moment.is_some() {
            value.get(8..)
        } else {
            Some(value)
        };
        let stamp = stamp.and_then(|stamp| stamp.first_chunk());
        stamp.copied().map_or(0, i64::from_be_bytes)
    }
}

fn types(schema: &DFSchemaRef) -> Vec<DataType> {
    (schema.fields().iter())
        .map(|field| field.data_type().clone())
        .collect()
}

impl Prepared {
    fn row_error(&self, source: RowError) -> OperatorError {
        OperatorError::Row {
            operator: self.operator,
            source,
        }
    }

    fn state_error(&self, source: StateError) -> OperatorError {
        OperatorError::State {
            operator: self.operator,
            source,
        }
    }

    fn arrow_error(&self, error: &ArrowError) -> OperatorError {
        OperatorError::Unsupported {
            expression: self.kind.name().into(),
            reason: error.to_string(),
        }
    }

    fn internal(&self, reason: &str) -> OperatorError {
        OperatorError::Internal {
            operator: self.operator,
            reason: reason.into(),
        }
    }

    /// Whether a pair matters: it is given, or counted.
    fn looks_at_pairs(&self) -> bool {
        self.kind.gives_pairs()
            || [LEFT, RIGHT]
                .iter()
                .any(|side| self.tracked(*side).is_some())
    }
}

impl Join {
    /// Prepares the join of node `operator`, over rows of `inputs`, giving rows of `output`; `options` are
    /// what expressions are computed with.
    pub fn new(
        operator: usize,
        plan: &plan::Join,
        inputs: [&DFSchemaRef; 2],
        output: &DFSchemaRef,
        options: &Arc<ConfigOptions>,
    ) -> Result<Self, OperatorError> {
        let both = inputs[LEFT].join(inputs[RIGHT]);
        let both = Arc::new(both.map_err(|error| OperatorError::Unsupported {
            expression: plan.kind.name().into(),
            reason: error.strip_backtrace(),
        })?);
        let side = |side: usize| Side::new(operator, (plan, side), inputs[side], options);
        Ok(Self {
            prepared: Arc::new(Prepared {
                operator,
                kind: plan.kind,
                nulls_match: plan.nulls_match,
                sides: [side(LEFT)?, side(RIGHT)?],
                filter: (plan.filter.as_ref())
                    .map(|filter| Expressions::new([filter], &both, options))
                    .transpose()?,
                reach: plan.within.as_ref().map(Reach::new),
                pair_schema: batch_schema(&both),
                schema: batch_schema(output),
            }),
        })
    }

    /// Attaches it to two streams. Of a table that the other stream is looked up in each worker has all rows, or
    /// with `spread`, where it has keys, those of its share of them.
    pub fn render<'scope>(
        self,
        [left, right]: [DeltaStream<'scope>; 2],
        spread: bool,
        context: &Context,
        recorder: &Recorder,
        restored: &mut Restored,
    ) -> DeltaStream<'scope> {
        let prepared = self.prepared;
        let recorder = recorder.clone();
        let mut restored = restored.part(prepared.operator as u32);
        let unkept = [LEFT, RIGHT]
            .into_iter()
            .find(|side| !prepared.sides[*side].is_kept);
        if let Some(side) = unkept {
            let (stream, table) = if side == LEFT {
                (left, right)
            } else {
                (right, left)
            };
            let rows = encode::render(table, &prepared, 1 - side, context);
            let holding = Arc::clone(&prepared);
            let table = keyed(rows, "join, table", context, move |info| {
                Held::new(&holding, 1 - side, info, &recorder, &mut restored)
            });
            let spread = spread && prepared.sides[side].keys.is_some();
            return lookup(stream, table, &prepared, (side, spread), context);
        }
        let scope = left.scope();
        let rows = scope.concatenate([
            encode::render(left, &prepared, LEFT, context),
            encode::render(right, &prepared, RIGHT, context),
        ]);
        keyed(rows, "join", context, move |info| {
            Merge::new(&prepared, info, &recorder, &mut restored)
        })
    }
}
