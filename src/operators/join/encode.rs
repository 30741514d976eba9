//! The first stage: the rows of one input become bytes, and go to the owners of their keys.
//!
//! A row travels behind a byte that says whose it is, and whether it can match at all.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::buffer::NullBuffer;

use crate::operators::dead_letter::sift;
use crate::operators::join::{Limit, NAME, Prepared, Side};
use crate::operators::keyed::encoded;
use crate::operators::late::Late;
use crate::operators::{Context, DeltaStream, EpochInfo, OperatorError, RowStream};
use crate::row::{Bytes, Delta, bound_prefix};
use crate::state::Rows;
use crate::time::{EventTime, NEVER};

/// Added to the side of a row that matches nothing.
pub(super) const LONE: u8 = 2;

/// The expressions of one input over a batch.
pub(super) struct Evaluated {
    keys: Vec<ArrayRef>,
    condition: Option<BooleanArray>,
    late: Option<Vec<EventTime>>,
    until: Option<Vec<EventTime>>,
    moment: Option<Vec<EventTime>>,
}

impl Evaluated {
    /// The nulls of the keys, where a null matches nothing.
    pub(super) fn nulls(&self, prepared: &Prepared) -> Vec<NullBuffer> {
        (self.keys.iter())
            .filter(|_| !prepared.nulls_match)
            .filter_map(Array::logical_nulls)
            .collect()
    }

    /// Whether a row matches nothing.
    pub(super) fn is_lone(&self, row: usize, nulls: &[NullBuffer]) -> bool {
        nulls.iter().any(|nulls| nulls.is_null(row))
            || (self.condition.as_ref())
                .is_some_and(|condition| condition.is_null(row) || !condition.value(row))
    }
}

impl Side {
    /// The keys of the rows of a batch; `None` where all rows meet.
    pub(super) fn encoded_keys(
        &self,
        evaluated: &Evaluated,
        prepared: &Prepared,
    ) -> Result<Option<Bytes>, OperatorError> {
        let keys = self.keys.as_ref();
        let keys = keys.map(|(_, codec)| codec.encode(&evaluated.keys));
        keys.transpose()
            .map_err(|source| prepared.row_error(source))
    }

    pub(super) fn evaluate(
        &self,
        delta: &Delta,
        epoch: &EpochInfo,
    ) -> Result<Evaluated, OperatorError> {
        let keys = match &self.keys {
            Some((keys, _)) => keys.evaluate(delta, epoch)?,
            None => vec![],
        };
        let limits = |limit: &Option<Limit>| {
            let limits = limit.as_ref().map(|limit| limit.evaluate(delta, epoch));
            limits.transpose()
        };
        Ok(Evaluated {
            keys,
            condition: (self.condition.as_ref())
                .map(|condition| condition.condition(delta, epoch))
                .transpose()?,
            late: limits(&self.late)?,
            until: limits(&self.until)?,
            moment: limits(&self.moment)?,
        })
    }
}

/// Attaches the first stage of one input.
pub(super) fn render<'scope>(
    input: DeltaStream<'scope>,
    prepared: &Arc<Prepared>,
    side: usize,
    context: &Context,
) -> RowStream<'scope> {
    let operator = prepared.operator;
    let prepared = Arc::clone(prepared);
    let encode = move |delta, epoch: &EpochInfo, context: &Context| {
        prepared.encode(side, delta, epoch, context)
    };
    encoded(input, "join, rows", context, operator, encode)
}

impl Prepared {
    /// What of a batch of one input goes to the owners of its keys.
    fn encode(
        &self,
        side: usize,
        delta: Delta,
        epoch: &EpochInfo,
        context: &Context,
    ) -> Result<Rows, OperatorError> {
        let of = &self.sides[side];
        let (delta, evaluated) = sift(delta, context, |delta| of.evaluate(delta, epoch))?;
        let keys = of.encoded_keys(&evaluated, self)?;
        let values = of.rows.encoder(delta.batch.columns());
        let values = values.map_err(|source| self.row_error(source))?;
        let nulls = evaluated.nulls(self);
        let mut rows = Rows::new(delta.time);
        let mut value = Vec::new();
        let mut late = Late::default();
        // A limit is the row's time and what its input lags.
        let lag = of.late.as_ref().map_or(0, |limit| limit.more);
        for row in 0..delta.rows() {
            let limit = evaluated.late.as_ref().map(|limits| limits[row]);
            if let Some(limit) = limit.filter(|limit| *limit <= epoch.previous_watermark) {
                late.add(row, limit - lag);
                continue;
            }
            let lone = evaluated.is_lone(row, &nulls);
            if lone && !self.kind.gives_unmatched(side) {
                continue;
            }
            let expiry = evaluated.until.as_ref().map_or(NEVER, |limits| limits[row]);
            let write = |out: &mut Vec<u8>| {
                out.push(side as u8 + if lone { LONE } else { 0 });
                if let Some(moments) = &evaluated.moment {
                    out.extend_from_slice(&bound_prefix(moments[row]));
                }
                if of.is_stamped() {
                    out.extend_from_slice(&expiry.to_be_bytes());
                }
                values.append(row, out);
            };
            value.clear();
            let key = match &keys {
                Some(keys) => keys.get(row),
                // What matches nothing may go anywhere.
                None if lone => {
                    write(&mut value);
                    &value
                }
                None => &[],
            };
            (rows.push_with(key, delta.diff(row), expiry, write))
                .map_err(|source| self.row_error(source))?;
        }
        late.report((self.operator, NAME), &delta, epoch, context)?;
        Ok(rows)
    }
}
