//! A row for each element of a list column. No state.

use arrow::array::{Array, AsArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use datafusion::common::DFSchemaRef;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::operators::expression::{batch_schema, record_batch};
use crate::operators::{Context, DeltaStream, Deltas, OperatorError};
use crate::row::Delta;

/// Replaces the list in column `column` by its elements; `keep_empty` keeps a row without any.
pub fn unnest<'scope>(
    input: DeltaStream<'scope>,
    context: &Context,
    column: usize,
    keep_empty: bool,
    schema: &DFSchemaRef,
) -> DeltaStream<'scope> {
    let context = context.clone();
    let schema = batch_schema(schema);
    input.unary::<CapacityContainerBuilder<Deltas>, _, _, _>(Pipeline, "unnest", move |_, _| {
        move |input, output| {
            input.for_each_stamp(|capability, batches| {
                for delta in batches.flat_map(Deltas::take) {
                    match apply(&delta, column, keep_empty, &schema) {
                        Ok(delta) if delta.rows() > 0 => {
                            output
                                .session(&capability)
                                .give_container(&mut delta.into());
                        }
                        Ok(_) => {}
                        Err(error) => return context.fail(error),
                    }
                }
            });
        }
    })
}

fn apply(
    delta: &Delta,
    column: usize,
    keep_empty: bool,
    schema: &SchemaRef,
) -> Result<Delta, OperatorError> {
    let refuse = |reason: String| OperatorError::Unsupported {
        expression: "UNNEST".into(),
        reason,
    };
    let list = delta.batch.column(column);
    let Some(list) = list.as_list_opt::<i32>() else {
        return Err(refuse(format!(
            "it takes an ARRAY, not {}",
            list.data_type()
        )));
    };
    // For each row of the result: the row that it comes from and the element that it shows.
    let mut rows = Vec::with_capacity(list.values().len());
    let mut elements = Vec::with_capacity(list.values().len());
    for row in 0..list.len() {
        let range = list.value_offsets()[row]..list.value_offsets()[row + 1];
        if list.is_null(row) || range.is_empty() {
            if keep_empty {
                rows.push(row as u32);
                elements.push(None);
            }
            continue;
        }
        for element in range {
            rows.push(row as u32);
            elements.push(Some(element as u32));
        }
    }
    let count = rows.len();
    let diffs = delta
        .diffs
        .as_ref()
        .map(|diffs| rows.iter().map(|row| diffs[*row as usize]).collect());
    let rows = UInt32Array::from(rows);
    let columns = delta
        .batch
        .columns()
        .iter()
        .enumerate()
        .map(|(index, values)| {
            if index == column {
                take(list.values(), &UInt32Array::from(elements.clone()), None)
            } else {
                take(values, &rows, None)
            }
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| refuse(error.to_string()))?;
    Ok(Delta {
        batch: record_batch(schema, columns, count)?,
        diffs,
        origin: delta.origin.as_ref().map(|origin| origin.expand(&rows)),
        time: delta.time,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;
    use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use std::sync::Arc;

    #[test]
    fn each_element_gets_a_row_and_its_rows_multiplicity() {
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([
            Some(vec![Some(1), Some(2)]),
            None,
            Some(vec![]),
            Some(vec![Some(3)]),
        ]);
        let names: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c", "d"]));
        let batch =
            RecordBatch::try_from_iter([("n", names), ("l", Arc::new(list) as ArrayRef)]).unwrap();
        let schema: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("n", DataType::Utf8, true),
            Field::new("l", DataType::Int64, true),
        ]));
        let delta = Delta {
            batch,
            diffs: Some(Arc::from([1_i64, 1, 1, -1])),
            origin: None,
            time: Time::new(0, 0),
        };
        let out = apply(&delta, 1, false, &schema).unwrap();
        assert_eq!(
            out.batch.column(0).as_string::<i32>(),
            &StringArray::from(vec!["a", "a", "d"])
        );
        assert_eq!(
            out.batch.column(1).as_primitive::<Int64Type>(),
            &Int64Array::from(vec![1, 2, 3])
        );
        assert_eq!(out.diffs.as_deref(), Some(&[1_i64, 1, -1][..]));
        assert_eq!(apply(&delta, 1, true, &schema).unwrap().rows(), 5);
    }
}
