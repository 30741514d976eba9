//! Arrays as ranges of one column of elements, and results put together from such elements.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, NullBufferBuilder, UInt32Array, new_empty_array,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::{cast, concat, take};
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, exec_err};

use super::types::{entry, map_of};
use crate::row::{Bytes, KeyCodec};

/// A column of lists: the range of `values` that each row has.
pub(super) struct Lists {
    pub(super) values: ArrayRef,
    list: ListArray,
}

impl Lists {
    /// The lists of an ARRAY column.
    pub(super) fn new(array: &ArrayRef) -> Self {
        let list = array.as_list::<i32>().clone();
        Self {
            values: Arc::clone(list.values()),
            list,
        }
    }

    /// The elements of a row; `None` where the array itself is null.
    pub(super) fn get(&self, row: usize) -> Option<Range<usize>> {
        let offsets = self.list.value_offsets();
        self.list
            .is_valid(row)
            .then(|| offsets[row] as usize..offsets[row + 1] as usize)
    }
}

/// A column of maps: the range of `keys` and `values` that each row has.
pub(super) struct Maps {
    pub(super) keys: ArrayRef,
    pub(super) values: ArrayRef,
    map: MapArray,
}

impl Maps {
    /// The maps of a MAP column.
    pub(super) fn new(array: &ArrayRef) -> Self {
        let map = array.as_map().clone();
        Self {
            keys: Arc::clone(map.keys()),
            values: Arc::clone(map.values()),
            map,
        }
    }

    /// The entries of a row; `None` where the map itself is null.
    pub(super) fn get(&self, row: usize) -> Option<Range<usize>> {
        let offsets = self.map.value_offsets();
        self.map
            .is_valid(row)
            .then(|| offsets[row] as usize..offsets[row + 1] as usize)
    }
}

/// Rows of a list or map column: how long each is, and which are null.
pub(super) struct Shape {
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl Shape {
    pub(super) fn new(rows: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self {
            offsets,
            nulls: NullBufferBuilder::new(rows),
        }
    }

    /// Ends a row; `elements` is how many there are so far, in all rows.
    pub(super) fn end(&mut self, elements: usize, valid: bool) -> Result<()> {
        let Ok(end) = i32::try_from(elements) else {
            return exec_err!(
                "[COLLECTION_SIZE_LIMIT_EXCEEDED] the arrays of one batch have more than 2147483647 elements"
            );
        };
        self.offsets.push(end);
        self.nulls.append(valid);
        Ok(())
    }

    /// The ARRAY column of these elements.
    pub(super) fn list(mut self, elements: &ArrayRef, returns: &DataType) -> Result<ArrayRef> {
        let DataType::List(field) = returns else {
            return exec_err!("an ARRAY was computed where {returns} is wanted");
        };
        let elements = fitted(elements, field.data_type())?;
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        let list = ListArray::try_new(Arc::clone(field), offsets, elements, self.nulls.finish())?;
        Ok(Arc::new(list))
    }

    /// The MAP column of these entries, whose keys are found to be present and different.
    pub(super) fn map(
        mut self,
        keys: &ArrayRef,
        values: &ArrayRef,
        returns: &DataType,
    ) -> Result<ArrayRef> {
        let (DataType::Map(field, sorted), Some((key, value))) = (returns, entry(returns)) else {
            return exec_err!("a MAP was computed where {returns} is wanted");
        };
        check_keys(keys, &self.offsets)?;
        let DataType::Struct(fields) = field.data_type() else {
            return exec_err!("the entries of a MAP are no STRUCT");
        };
        let columns = vec![fitted(keys, key)?, fitted(values, value)?];
        let entries = arrow::array::StructArray::try_new(fields.clone(), columns, None)?;
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        let nulls = self.nulls.finish();
        let map = MapArray::try_new(Arc::clone(field), offsets, entries, nulls, *sorted)?;
        Ok(Arc::new(map))
    }
}

/// No key of a map may be null, and none may come twice.
fn check_keys(keys: &ArrayRef, offsets: &[i32]) -> Result<()> {
    let used = offsets[0] as usize..offsets.last().map_or(0, |end| *end as usize);
    let used = keys.slice(used.start, used.len());
    if used.logical_null_count() > 0 {
        return exec_err!(
            "[NULL_MAP_KEY] a key of the map is NULL; leave such entries out, or use coalesce"
        );
    }
    let encoded = encoded(keys)?;
    let mut row: Vec<&[u8]> = Vec::new();
    for ends in offsets.windows(2) {
        let range = ends[0] as usize..ends[1] as usize;
        if range.len() < 2 {
            continue;
        }
        row.clear();
        row.extend(range.clone().map(|key| encoded.get(key)));
        row.sort_unstable();
        if let Some(pair) = row.windows(2).find(|pair| pair[0] == pair[1]) {
            let key = range.into_iter().find(|key| encoded.get(*key) == pair[0]);
            let shown = key.map_or_else(
                || Ok(String::new()),
                |key| arrow::util::display::array_value_to_string(keys, key),
            )?;
            return exec_err!(
                "[DUPLICATED_MAP_KEY] the key {shown} comes twice in one map; leave one of them out"
            );
        }
    }
    Ok(())
}

/// Lists put together from elements that lie in other columns.
pub(super) struct Gather {
    indices: Vec<Option<u32>>,
    shape: Shape,
}

impl Gather {
    /// For a column of `rows` lists.
    pub(super) fn new(rows: usize) -> Self {
        Self {
            indices: Vec::new(),
            shape: Shape::new(rows),
        }
    }

    /// The next element of the row: the place where it lies, `None` for a null.
    pub(super) fn push(&mut self, element: Option<usize>) {
        self.indices.push(element.map(|element| element as u32));
    }

    /// The next elements of the row.
    pub(super) fn extend(&mut self, elements: Range<usize>) {
        self.indices
            .extend(elements.map(|element| Some(element as u32)));
    }

    /// The elements of the row are complete.
    pub(super) fn end(&mut self) -> Result<()> {
        self.shape.end(self.indices.len(), true)
    }

    /// The row is no list but null.
    pub(super) fn end_null(&mut self) -> Result<()> {
        self.shape.end(self.indices.len(), false)
    }

    /// The ARRAY column; the elements lie in `values`.
    pub(super) fn list(self, values: &ArrayRef, returns: &DataType) -> Result<ArrayRef> {
        let elements = take(values, &UInt32Array::from(self.indices), None)?;
        self.shape.list(&elements, returns)
    }

    /// The MAP column; the entries lie in `keys` and `values`.
    pub(super) fn map(
        self,
        keys: &ArrayRef,
        values: &ArrayRef,
        returns: &DataType,
    ) -> Result<ArrayRef> {
        let indices = UInt32Array::from(self.indices);
        let (keys, values) = (take(keys, &indices, None)?, take(values, &indices, None)?);
        self.shape.map(&keys, &values, returns)
    }
}

/// One column of the elements of several, one behind the other, and where each begins.
pub(super) fn joined(columns: &[&ArrayRef]) -> Result<(ArrayRef, Vec<usize>)> {
    let mut starts = Vec::with_capacity(columns.len());
    let mut next = 0;
    for column in columns {
        starts.push(next);
        next += column.len();
    }
    let columns: Vec<&dyn Array> = columns.iter().map(|column| &***column).collect();
    Ok((concat(&columns)?, starts))
}

/// The values as bytes: equal for values that SQL calls equal, in the order of the values, nulls first.
pub(super) fn encoded(values: &ArrayRef) -> Result<Bytes> {
    let failed = |error| DataFusionError::External(Box::new(error));
    KeyCodec::new(&[values.data_type().clone()])
        .and_then(|codec| codec.encode(std::slice::from_ref(values)))
        .map_err(failed)
}

/// Whether each element is null.
pub(super) fn is_null(values: &ArrayRef) -> impl Fn(usize) -> bool + use<> {
    let nulls = values.logical_nulls();
    move |element| nulls.as_ref().is_some_and(|nulls| nulls.is_null(element))
}

/// The array under exactly this type: names and nullability of what is nested may differ.
pub(super) fn fitted(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if array.data_type() == data_type {
        Ok(Arc::clone(array))
    } else if array.is_empty() {
        Ok(new_empty_array(data_type))
    } else {
        Ok(cast(array, data_type)?)
    }
}

/// A map column as an ARRAY of its entries.
pub(super) fn entries_type(map: &DataType) -> DataType {
    match entry(map) {
        Some((key, value)) => match map_of(key.clone(), value.clone()) {
            DataType::Map(entries, _) => super::types::list_of(entries.data_type().clone()),
            other => other,
        },
        None => DataType::Null,
    }
}
