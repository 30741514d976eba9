//! `array_sort(array[, (l, r) -> ..])`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::compute::{SortOptions, cast, take};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{DataFusionError, Result, exec_err, plan_err};
use datafusion::logical_expr::HigherOrderUDF;

use super::super::lists::{Gather, Lists};
use super::super::types::{as_list, comparable};
use super::arrays::element_of;
use super::define::{Call, Function};
use crate::plan::sql::type_name;
use crate::row::KeyCodec;

/// The function. Without a lambda elements ascend, nulls last.
pub fn array_sort() -> Arc<HigherOrderUDF> {
    Function {
        name: "array_sort",
        aliases: &[],
        values: 1,
        optional: 1,
        coercion: |types| Ok(vec![as_list("array_sort", 0, &types[0])?]),
        parameters: |values| vec![vec![element_of(values[0]); 2]],
        returns: |values, results| match results.first() {
            None => comparable("array_sort", values[0]).map(|()| values[0].clone()),
            Some(compared) if compared.is_integer() => Ok(values[0].clone()),
            Some(other) => plan_err!(
                "[DATATYPE_MISMATCH.UNEXPECTED_RETURN_TYPE] the lambda of array_sort must give an INT (less than 0, 0 or more), not {}",
                type_name(other)
            ),
        },
        compute: |call| match call.lambdas() {
            0 => ascending(call),
            _ => compared(call),
        },
    }
    .udf()
}

fn ascending(call: &Call) -> Result<ArrayRef> {
    let lists = Lists::new(call.value(0));
    let nulls_last = SortOptions::new(false, false);
    let keys = KeyCodec::new_with_options(&[(lists.values.data_type().clone(), nulls_last)])
        .and_then(|codec| codec.encode(std::slice::from_ref(&lists.values)))
        .map_err(|error| DataFusionError::External(Box::new(error)))?;
    let mut out = Gather::new(call.rows());
    for row in 0..call.rows() {
        let Some(range) = lists.get(row) else {
            out.end_null()?;
            continue;
        };
        let mut order: Vec<usize> = range.collect();
        order.sort_by_key(|element| keys.get(*element));
        order
            .into_iter()
            .for_each(|element| out.push(Some(element)));
        out.end()?;
    }
    out.list(&lists.values, call.returns())
}

/// Sorts all rows in step: each round asks the lambda for the next comparison of each row.
fn compared(call: &Call) -> Result<ArrayRef> {
    let lists = Lists::new(call.value(0));
    let mut sorters: Vec<Option<Sorter>> = (0..call.rows())
        .map(|row| lists.get(row).map(Sorter::new))
        .collect();
    loop {
        let open = sorters.iter().enumerate().filter_map(|(row, sorter)| {
            let (earlier, later) = sorter.as_ref()?.next()?;
            Some((row as u32, earlier, later))
        });
        let open: Vec<(u32, u32, u32)> = open.collect();
        if open.is_empty() {
            break;
        }
        let rows: UInt32Array = open.iter().map(|(row, ..)| *row).collect();
        let earlier: UInt32Array = open.iter().map(|(_, earlier, _)| *earlier).collect();
        let later: UInt32Array = open.iter().map(|(.., later)| *later).collect();
        let arguments = [
            take(&lists.values, &later, None)?,
            take(&lists.values, &earlier, None)?,
        ];
        let result = call.mapped(0, &rows, &arguments, &DataType::Int64)?;
        let result = cast(&result, &DataType::Int64)?;
        let result: &Int64Array = result.as_primitive::<Int64Type>();
        if result.null_count() > 0 {
            return exec_err!(
                "[COMPARATOR_RETURNS_NULL] the lambda of array_sort gave NULL for two elements; it must give a number for all of them"
            );
        }
        for ((row, ..), order) in open.iter().zip(result.values()) {
            if let Some(sorter) = &mut sorters[*row as usize] {
                sorter.decide(*order < 0);
            }
        }
    }
    let mut out = Gather::new(call.rows());
    for sorter in sorters {
        match sorter {
            Some(sorter) => {
                let sorted = sorter.from.into_iter();
                sorted.for_each(|element| out.push(Some(element as usize)));
                out.end()?;
            }
            None => out.end_null()?,
        }
    }
    out.list(&lists.values, call.returns())
}

/// A stable merge sort that stops at each comparison.
struct Sorter {
    /// Runs of `width` elements, each in order, and the merged runs of twice the width.
    from: Vec<u32>,
    to: Vec<u32>,
    width: usize,
    /// Where the two runs begin that are being merged.
    start: usize,
    /// The next of the left run and the next of the right one.
    left: usize,
    right: usize,
}

impl Sorter {
    fn new(range: std::ops::Range<usize>) -> Self {
        let from: Vec<u32> = range.map(|element| element as u32).collect();
        let mut sorter = Self {
            to: Vec::with_capacity(from.len()),
            from,
            width: 1,
            start: 0,
            left: 0,
            right: 1,
        };
        sorter.settle();
        sorter
    }

    /// The two elements to compare next; `None` when all is in order.
    fn next(&self) -> Option<(u32, u32)> {
        (self.width < self.from.len()).then(|| (self.from[self.left], self.from[self.right]))
    }

    /// Whether the second of the two comes first.
    fn decide(&mut self, second: bool) {
        let taken = if second {
            &mut self.right
        } else {
            &mut self.left
        };
        self.to.push(self.from[*taken]);
        *taken += 1;
        self.settle();
    }

    /// Goes on to where both runs have an element.
    fn settle(&mut self) {
        while self.width < self.from.len() {
            let length = self.from.len();
            let middle = length.min(self.start + self.width);
            let end = length.min(self.start + 2 * self.width);
            if self.left < middle && self.right < end {
                return;
            }
            self.to.extend_from_slice(&self.from[self.left..middle]);
            self.to.extend_from_slice(&self.from[self.right..end]);
            self.start = end;
            if end == length {
                std::mem::swap(&mut self.from, &mut self.to);
                self.to.clear();
                self.width *= 2;
                self.start = 0;
            }
            self.left = self.start;
            self.right = length.min(self.start + self.width);
        }
    }
}
