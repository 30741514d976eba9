//! Which values of a row an aggregate keeps, and in which order a group's rows are looked at.

use arrow::array::ArrayRef;
use arrow::compute::SortOptions;
use arrow::datatypes::DataType;

use crate::plan::AggregateFunction as Function;
use crate::row::{Bytes, KeyCodec, Result};

/// Of a row's values, which are the call's arguments followed by what it is ordered by, those that
/// are kept; encoded so that the order of the bytes is the order of the rows.
#[derive(Debug)]
pub struct Shape {
    /// Which of the row's values are kept, in the order in which they count.
    kept: Vec<usize>,
    /// Those that must not be null, or the row does not count.
    required: Vec<usize>,
    codec: KeyCodec,
}

impl Shape {
    /// The shape of a call with `arguments` arguments whose rows have values of these `types`, and
    /// are ordered by as many of them as `order` has entries.
    pub fn new(
        function: Function,
        types: &[DataType],
        order: &[SortOptions],
        (distinct, ignore_nulls): (bool, bool),
    ) -> Result<Self> {
        let ascending = SortOptions::new(false, true);
        let arguments = types.len() - order.len();
        let by_order = order.iter().enumerate();
        let by_order = by_order.map(|(index, options)| (arguments + index, *options));
        let own = || order.first().copied().unwrap_or(ascending);
        let (kept, required): (Vec<(usize, SortOptions)>, Vec<usize>) = match function {
            Function::First | Function::Last => (
                by_order.chain([(0, ascending)]).collect(),
                if ignore_nulls { vec![0] } else { vec![] },
            ),
            Function::MinBy | Function::MaxBy => (vec![(1, ascending), (0, ascending)], vec![1]),
            Function::CollectList | Function::ListAgg if !distinct => {
                (by_order.chain([(0, ascending)]).collect(), vec![0])
            }
            Function::CollectList
            | Function::ListAgg
            | Function::PercentileDisc
            | Function::ApproxPercentile
            | Function::Median
            | Function::Mode
            | Function::HistogramNumeric
            | Function::CountMinSketch => (vec![(0, own())], vec![0]),
            // A null is a value like others.
            Function::TopK => (vec![(0, ascending)], vec![]),
            // The third argument says how often the value is there.
            Function::Percentile if arguments == 3 => {
                (vec![(0, own()), (2, ascending)], vec![0, 2])
            }
            Function::Percentile => (vec![(0, own())], vec![0]),
            _ => {
                let all = (0..arguments).map(|index| (index, ascending));
                (all.collect(), (0..arguments).collect())
            }
        };
        // The last row by an order is the first by its reverse.
        let backwards = matches!(function, Function::Last | Function::MaxBy | Function::Max);
        let columns: Vec<_> = kept
            .iter()
            .map(|(index, options)| {
                let options = if backwards { !*options } else { *options };
                (types[*index].clone(), options)
            })
            .collect();
        Ok(Self {
            kept: kept.into_iter().map(|(index, _)| index).collect(),
            required,
            codec: KeyCodec::new_with_options(&columns)?,
        })
    }

    /// The values that must not be null, or the row does not count.
    pub fn required(&self, values: &[ArrayRef]) -> Vec<ArrayRef> {
        let required = self.required.iter();
        required
            .map(|index| ArrayRef::clone(&values[*index]))
            .collect()
    }

    /// The rows as bytes.
    pub fn encode(&self, values: &[ArrayRef]) -> Result<Bytes> {
        let kept = self.kept.iter();
        let kept: Vec<_> = kept.map(|index| ArrayRef::clone(&values[*index])).collect();
        self.codec.encode(&kept)
    }

    /// The kept values of encoded rows: the first argument last, except where rows have a frequency.
    pub fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        self.codec.decode(rows)
    }

    /// Which of the decoded columns is argument `index`.
    pub fn position(&self, index: usize) -> Option<usize> {
        self.kept.iter().position(|kept| *kept == index)
    }
}
