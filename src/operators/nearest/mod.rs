//! Each row of one input with the row of another that is nearest to it in time.
//!
//! Two stages. Rows are encoded where they are (`encode`) and sent to the worker that owns their key; there,
//! once an epoch is complete, they meet what is kept (`merge`).
//!
//! Of each key the rows of the right input lie in the order in which a row of the left one wants them (`Place`):
//! with `a.ts >= b.ts` the latest first. So what is nearest to a row is the first behind a point, which is
//! sought and not scanned for. The rows of the left input lie the other way round: those that a new row of the
//! right one may be nearest to begin at a point, and end where a nearer one begins.
//!
//! Where event time bounds both inputs, all rows at or below a line (the watermark less the lag) are there. Then
//!
//! - a left row at or below it has its final answer. In append mode that is when it is given;
//! - looking for earlier rows, of the right rows at or below the line the last one stays, for left rows to come,
//!   and the others go; looking for later ones, all left rows that have one at or below the line go.
//!
//! What goes is found by the moments of the right rows, and goes in the epoch after the one that answered.
//!
//! State: trace 0 holds the left rows by key; 1 the right rows by key; 2 the keys of right rows by their
//! moment; 3 the left rows by moment and key, in place of trace 0, where each is given once and looks for an
//! earlier row. The moment in front of a key takes no part in where it lives ([`routed`]).

mod encode;
mod merge;
mod out;
mod versions;

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::DFSchemaRef;
use datafusion::common::config::ConfigOptions;
use timely::dataflow::operators::Concatenate;

use crate::operators::expression::{Expressions, batch_schema};
use crate::operators::keyed::keyed;
use crate::operators::{Context, DeltaStream, OperatorError, Restored, expires};
use crate::plan::join::{LEFT, RIGHT};
use crate::plan::{self, Emit};
use crate::row::{KeyCodec, RowError, ValueCodec, bound_prefix, read_bound};
use crate::state::{Recorder, StateError};
use crate::time::{EventTime, NEVER};

use merge::Merge;

/// What progress calls this operator.
const NAME: &str = "nearestJoin";

/// Rows are given in batches of this size.
const BATCH: usize = 8192;

/// The first trace whose keys begin with a moment.
const TIMED: u32 = 2;

/// The part of a key in state that says which worker it lives on.
pub fn routed(trace: u32, key: &[u8]) -> &[u8] {
    if trace >= TIMED && key.len() >= 8 {
        &key[8..]
    } else {
        key
    }
}

/// A join with the nearest row, ready to be attached to two streams.
pub struct Nearest {
    prepared: Arc<Prepared>,
}

/// What both stages share.
struct Prepared {
    operator: usize,
    order: Order,
    outer: bool,
    /// See [`plan::Nearest::lag`].
    lag: Option<i64>,
    /// Left rows are kept.
    waits: bool,
    emit: Emit,
    sides: [Side; 2],
    left: ValueCodec,
    /// What of rows of one time the greatest is taken of, then the columns.
    right: KeyCodec,
    /// How many the first are.
    latest: usize,
    schema: SchemaRef,
}

/// What is computed of the rows of one input.
struct Side {
    /// The keys, the time, and of the right input what tells rows of one time apart.
    expressions: Expressions,
    keys: Option<KeyCodec>,
    /// How far behind the watermark its rows may come; `None`: none is late.
    lag: Option<i64>,
}

/// Where rows stand, so that what is nearest comes first.
#[derive(Clone, Copy)]
struct Order {
    later: bool,
    strict: bool,
}

/// A point in the order of the right rows of a key; of two that a left row can take the lesser is nearer.
type Place = i64;

impl Order {
    /// The place of a row at this time.
    fn place(self, time: EventTime) -> Place {
        if self.later { time } else { !time }
    }

    /// The time of a row at this place.
    fn time(self, place: Place) -> EventTime {
        self.place(place)
    }

    /// The first place at which a left row of this place can take a right row.
    fn reach(self, place: Place) -> Place {
        place.saturating_add(i64::from(self.strict))
    }

    /// What a row of a side begins with, which puts it in order.
    fn prefix(side: usize, place: Place) -> [u8; 8] {
        bound_prefix(if side == LEFT { !place } else { place })
    }

    /// The place of a row of a side that is kept so.
    fn place_of(side: usize, value: &[u8]) -> Place {
        let read = read_bound(value);
        if side == LEFT { !read } else { read }
    }

    /// What the first left row begins with that can take a right row of this place.
    fn first_taker(self, place: Place) -> [u8; 8] {
        bound_prefix((!place).saturating_add(i64::from(self.strict)))
    }
}

/// A row without what puts it in order.
fn row_of(value: &[u8]) -> &[u8] {
    value.get(8..).unwrap_or_default()
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

    /// Left rows are given by their moment.
    fn by_moment(&self) -> bool {
        self.emit == Emit::OnClose && !self.order.later
    }

    /// When a row of a side of this time goes by itself.
    fn expiry(&self, side: usize, time: EventTime) -> EventTime {
        let goes = if self.order.later { RIGHT } else { LEFT };
        match self.lag {
            Some(lag) if side == goes => expires(time, lag),
            _ => NEVER,
        }
    }
}

impl Nearest {
    /// Prepares the join of node `operator`, over rows of `inputs`, giving rows of `output`; `options` are
    /// what expressions are computed with.
    pub fn new(
        operator: usize,
        plan: &plan::Nearest,
        inputs: [&DFSchemaRef; 2],
        output: &DFSchemaRef,
        options: &Arc<ConfigOptions>,
    ) -> Result<Self, OperatorError> {
        let failed = |source| OperatorError::Row { operator, source };
        let side = |side: usize| {
            let of_side = |(left, right)| if side == LEFT { left } else { right };
            let keys = plan.on.iter().map(|(left, right)| of_side((left, right)));
            let latest = plan.latest.iter().filter(|_| side == RIGHT);
            let all = keys.chain([&plan.times[side]]).chain(latest);
            let expressions = Expressions::new(all, inputs[side], options)?;
            let types = expressions.types(inputs[side])?;
            let (keys, others) = types.split_at(plan.on.len());
            let codec = (!keys.is_empty()).then(|| KeyCodec::new(keys));
            let side = Side {
                expressions,
                keys: codec.transpose().map_err(failed)?,
                lag: plan.moments[side].map(|column| column.lag),
            };
            Ok::<_, OperatorError>((side, others[1..].to_vec()))
        };
        let ((left, _), (right, latest)) = (side(LEFT)?, side(RIGHT)?);
        let types = |side: usize| inputs[side].fields().iter().map(|field| field.data_type());
        let descending = latest.iter().map(|of| (of, SortOptions::new(true, false)));
        let ordered = descending.chain(types(RIGHT).map(|of| (of, SortOptions::new(false, true))));
        let ordered: Vec<(DataType, SortOptions)> =
            ordered.map(|(of, options)| (of.clone(), options)).collect();
        let kept: Vec<DataType> = types(LEFT).cloned().collect();
        Ok(Self {
            prepared: Arc::new(Prepared {
                operator,
                order: Order {
                    later: plan.later,
                    strict: plan.strict,
                },
                outer: plan.outer,
                lag: plan.lag,
                waits: plan.waits,
                emit: plan.emit,
                sides: [left, right],
                left: ValueCodec::new(&kept).map_err(failed)?,
                right: KeyCodec::new_with_options(&ordered).map_err(failed)?,
                latest: latest.len(),
                schema: batch_schema(output),
            }),
        })
    }

    /// Attaches it to two streams.
    pub fn render<'scope>(
        self,
        [left, right]: [DeltaStream<'scope>; 2],
        context: &Context,
        recorder: &Recorder,
        restored: &mut Restored,
    ) -> DeltaStream<'scope> {
        let prepared = self.prepared;
        let recorder = recorder.clone();
        let mut restored = restored.part(prepared.operator as u32);
        let rows = left.scope().concatenate([
            encode::render(left, &prepared, LEFT, context),
            encode::render(right, &prepared, RIGHT, context),
        ]);
        keyed(rows, "nearest join", context, move |info| {
            Merge::new(&prepared, info, &recorder, &mut restored)
        })
    }
}
