//! Keys: rows whose byte order is their order as rows.
//!
//! The encoding is arrow-row's. Before it, floats are made equal that SQL calls equal: -0.0 becomes
//! 0.0 and every NaN the same one, which sorts after all numbers. Encodings concatenate: the bytes of
//! columns `a` followed by those of columns `b` are the bytes of both together.
//!
//! State that falls due at an event time has that bound in front of its key, in eight bytes
//! ([`bound_prefix`]), so that everything due lies together at the front of the order.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, FixedSizeListArray, GenericListArray, MapArray,
    OffsetSizeTrait, PrimitiveArray, StructArray,
};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type};
use arrow::row::{RowConverter, SortField};

use crate::row::bytes::Bytes;
use crate::row::error::{Result, RowError};
use crate::time::EventTime;

type F16 = <Float16Type as ArrowPrimitiveType>::Native;

/// The eight bytes that put an event time in front of a key: their order is that of the times.
#[inline]
pub const fn bound_prefix(bound: EventTime) -> [u8; 8] {
    (bound as u64 ^ (1 << 63)).to_be_bytes()
}

/// The event time in front of a key made with [`bound_prefix`]; what a shorter key lacks reads as zeros.
#[inline]
pub fn read_bound(key: &[u8]) -> EventTime {
    let bytes = key.first_chunk::<8>().copied().unwrap_or_else(|| {
        let mut bytes = [0; 8];
        bytes[..key.len()].copy_from_slice(key);
        bytes
    });
    (u64::from_be_bytes(bytes) ^ (1 << 63)) as i64
}

/// Columns to memory-comparable rows and back.
#[derive(Debug)]
pub struct KeyCodec {
    converter: RowConverter,
    types: Vec<DataType>,
    /// Whether a column may hold floats, at whatever depth.
    floats: Vec<bool>,
}

impl KeyCodec {
    /// A codec of ascending columns, nulls first.
    pub fn new(types: &[DataType]) -> Result<Self> {
        let ascending: Vec<_> = types.iter().map(|t| (t.clone(), false)).collect();
        Self::new_with_order(&ascending)
    }

    /// A codec of columns that ascend with nulls first or, where `true`, descend with nulls last:
    /// the orders of SQL's `ASC` and `DESC` in Spark.
    pub fn new_with_order(columns: &[(DataType, bool)]) -> Result<Self> {
        let options: Vec<_> = columns
            .iter()
            .map(|(t, descending)| (t.clone(), SortOptions::new(*descending, !*descending)))
            .collect();
        Self::new_with_options(&options)
    }

    /// A codec of columns each with its own order and place for nulls.
    pub fn new_with_options(columns: &[(DataType, SortOptions)]) -> Result<Self> {
        let mut fields = Vec::with_capacity(columns.len());
        for (data_type, options) in columns {
            let field = SortField::new_with_options(data_type.clone(), *options);
            if !supported(data_type) || !RowConverter::supports_fields(std::slice::from_ref(&field))
            {
                return Err(RowError::KeyType {
                    data_type: data_type.clone(),
                });
            }
            fields.push(field);
        }
        let types: Vec<_> = columns.iter().map(|(t, _)| t.clone()).collect();
        Ok(Self {
            converter: RowConverter::new(fields)?,
            floats: types.iter().map(has_floats).collect(),
            types,
        })
    }

    /// The types of the columns.
    pub fn types(&self) -> &[DataType] {
        &self.types
    }

    /// The keys of the rows of `columns`. Without columns there are no rows to see: a key of no
    /// columns is the empty string.
    pub fn encode(&self, columns: &[ArrayRef]) -> Result<Bytes> {
        let mut out = Bytes::new();
        self.encode_into(columns, &mut out)?;
        Ok(out)
    }

    /// Appends the keys of the rows of `columns` to `out`.
    pub fn encode_into(&self, columns: &[ArrayRef], out: &mut Bytes) -> Result<()> {
        self.each(columns, |_, row| out.try_push(row))
    }

    /// The keys of the rows of `columns`, each behind its event-time bound. Without columns the
    /// bounds are the keys.
    pub fn encode_bounded(&self, bounds: &[EventTime], columns: &[ArrayRef]) -> Result<Bytes> {
        let mut out = Bytes::with_capacity(bounds.len(), 8 * bounds.len());
        if columns.is_empty() && self.types.is_empty() {
            for bound in bounds {
                out.try_push(&bound_prefix(*bound))?;
            }
        } else if columns.first().is_some_and(|c| c.len() != bounds.len()) {
            return Err(RowError::Schema {
                expected: format!("{} rows", bounds.len()),
                given: format!("{} rows", columns[0].len()),
            });
        } else {
            self.each(columns, |i, row| {
                out.try_push_pair(&bound_prefix(bounds[i]), row)
            })?;
        }
        Ok(out)
    }

    fn each(
        &self,
        columns: &[ArrayRef],
        mut row: impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let fits = columns.len() == self.types.len()
            && columns
                .iter()
                .zip(&self.types)
                .all(|(c, t)| c.data_type().equals_datatype(t));
        if !fits {
            return Err(RowError::Schema {
                expected: list(self.types.iter()),
                given: list(columns.iter().map(Array::data_type)),
            });
        }
        let rows = if self.floats.contains(&true) {
            let columns = columns
                .iter()
                .zip(&self.floats)
                .map(|(column, floats)| {
                    if *floats {
                        normalise(column)
                    } else {
                        Ok(Arc::clone(column))
                    }
                })
                .collect::<Result<Vec<_>>>()?;
            self.converter.convert_columns(&columns)?
        } else {
            self.converter.convert_columns(columns)?
        };
        for i in 0..rows.num_rows() {
            row(i, rows.row(i).data())?;
        }
        Ok(())
    }

    /// The columns of keys that this codec, or one of the same types and orders, has made. Without
    /// columns that is nothing. Keys must be whole: strip a bound off them before. Keys of another
    /// codec give wrong values, or panic; files are checked by their checksums before this is called.
    pub fn decode<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        if self.types.is_empty() {
            return Ok(vec![]);
        }
        let parser = self.converter.parser();
        // `parse` binds its result to the parser's lifetime as well as to the key's.
        Ok(self
            .converter
            .convert_rows(keys.map(|key| parser.parse(key)))?)
    }
}

/// arrow-row reads and writes these, but not all of what it takes comes back as the same type.
fn supported(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(..) | DataType::RunEndEncoded(..) | DataType::Union(..) => false,
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::FixedSizeList(f, _)
        | DataType::Map(f, _) => supported(f.data_type()),
        DataType::Struct(fields) => fields.iter().all(|f| supported(f.data_type())),
        _ => true,
    }
}

/// Whether values of this type are floats, or hold some.
pub fn has_floats(data_type: &DataType) -> bool {
    match data_type {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => true,
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::FixedSizeList(f, _)
        | DataType::Map(f, _) => has_floats(f.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| has_floats(f.data_type())),
        _ => false,
    }
}

pub(crate) fn list<'a>(types: impl Iterator<Item = &'a DataType>) -> String {
    types
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The same column with one zero and one NaN.
fn normalise(column: &ArrayRef) -> Result<ArrayRef> {
    Ok(match column.data_type() {
        DataType::Float16 => {
            floats::<Float16Type>(
                column,
                |x| if x.is_nan() { F16::NAN } else { x + F16::ZERO },
            )
        }
        DataType::Float32 => {
            floats::<Float32Type>(column, |x| if x.is_nan() { f32::NAN } else { x + 0.0 })
        }
        DataType::Float64 => {
            floats::<Float64Type>(column, |x| if x.is_nan() { f64::NAN } else { x + 0.0 })
        }
        DataType::Struct(_) => {
            let array = column.as_struct();
            let columns = array
                .columns()
                .iter()
                .map(normalised)
                .collect::<Result<Vec<_>>>()?;
            Arc::new(StructArray::try_new(
                array.fields().clone(),
                columns,
                array.nulls().cloned(),
            )?)
        }
        DataType::List(_) => normalise_list::<i32>(column)?,
        DataType::LargeList(_) => normalise_list::<i64>(column)?,
        DataType::FixedSizeList(field, width) => {
            let array = column.as_fixed_size_list();
            let values = normalised(array.values())?;
            Arc::new(FixedSizeListArray::try_new_with_length(
                Arc::clone(field),
                *width,
                values,
                array.nulls().cloned(),
                array.len(),
            )?)
        }
        DataType::Map(field, ordered) => {
            let array = column.as_map();
            let entries: ArrayRef = Arc::new(array.entries().clone());
            let entries = normalised(&entries)?.as_struct().clone();
            let (offsets, nulls) = (array.offsets().clone(), array.nulls().cloned());
            Arc::new(MapArray::try_new(
                Arc::clone(field),
                offsets,
                entries,
                nulls,
                *ordered,
            )?)
        }
        _ => Arc::clone(column),
    })
}

/// The same column, of any type, with one zero and one NaN.
pub fn normalised(column: &ArrayRef) -> Result<ArrayRef> {
    if has_floats(column.data_type()) {
        normalise(column)
    } else {
        Ok(Arc::clone(column))
    }
}

fn normalise_list<O: OffsetSizeTrait>(column: &ArrayRef) -> Result<ArrayRef> {
    let (field, offsets, values, nulls) = column.as_list::<O>().clone().into_parts();
    let values = normalised(&values)?;
    Ok(Arc::new(GenericListArray::<O>::try_new(
        field, offsets, values, nulls,
    )?))
}

fn floats<T: ArrowPrimitiveType>(
    column: &ArrayRef,
    one: impl Fn(T::Native) -> T::Native,
) -> ArrayRef {
    let array: &PrimitiveArray<T> = column.as_primitive();
    Arc::new(array.unary::<_, T>(one))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int64Array, ListArray, StringArray};

    fn column(array: impl Array + 'static) -> ArrayRef {
        Arc::new(array)
    }

    #[test]
    fn bounds_sort_as_times() {
        let times = [i64::MIN, -5, -1, 0, 1, 7, i64::MAX];
        let prefixes: Vec<_> = times.iter().map(|t| bound_prefix(*t)).collect();
        assert!(prefixes.is_sorted());
        for (time, prefix) in times.iter().zip(&prefixes) {
            assert_eq!(read_bound(prefix), *time);
        }
        assert_eq!(read_bound(&[]), i64::MIN);
    }

    #[test]
    fn keys_sort_as_rows_and_come_back() {
        let ints = column(Int64Array::from(vec![Some(3), None, Some(-1), Some(3)]));
        let texts = column(StringArray::from(vec![
            Some("b"),
            Some(""),
            None,
            Some("a"),
        ]));
        let codec = KeyCodec::new(&[DataType::Int64, DataType::Utf8]).unwrap();
        let keys = codec
            .encode(&[Arc::clone(&ints), Arc::clone(&texts)])
            .unwrap();
        let mut order: Vec<usize> = (0..4).collect();
        order.sort_by_key(|i| keys.get(*i));
        assert_eq!(
            order,
            [1, 2, 3, 0],
            "nulls first, then by number, then by text"
        );
        assert_eq!(codec.decode(keys.iter()).unwrap(), [ints, texts]);
    }

    #[test]
    fn equal_floats_have_equal_keys_at_any_depth() {
        let negative_nan = f64::from_bits(f64::NAN.to_bits() | 1 << 63 | 5);
        let plain = column(Float64Array::from(vec![
            0.0,
            -0.0,
            f64::NAN,
            negative_nan,
            f64::INFINITY,
        ]));
        let codec = KeyCodec::new(&[DataType::Float64]).unwrap();
        let keys = codec.encode(&[plain]).unwrap();
        assert_eq!(keys.get(0), keys.get(1));
        assert_eq!(keys.get(2), keys.get(3));
        assert!(keys.get(2) > keys.get(4), "NaN is the greatest");

        let lists = column(ListArray::from_iter_primitive::<Float64Type, _, _>([
            Some([Some(0.0), Some(f64::NAN)]),
            Some([Some(-0.0), Some(negative_nan)]),
        ]));
        let codec = KeyCodec::new(&[lists.data_type().clone()]).unwrap();
        let keys = codec.encode(&[lists]).unwrap();
        assert_eq!(keys.get(0), keys.get(1));
    }

    #[test]
    fn descending_keys_turn_the_order_round_with_nulls_last() {
        let ints = column(Int64Array::from(vec![Some(1), Some(5), None]));
        let codec = KeyCodec::new_with_order(&[(DataType::Int64, true)]).unwrap();
        let keys = codec.encode(&[Arc::clone(&ints)]).unwrap();
        assert!(keys.get(1) < keys.get(0) && keys.get(0) < keys.get(2));
        assert_eq!(codec.decode(keys.iter()).unwrap(), [ints]);
    }

    #[test]
    fn a_bound_in_front_orders_first_and_strips_off() {
        let ints = column(Int64Array::from(vec![9, 1]));
        let codec = KeyCodec::new(&[DataType::Int64]).unwrap();
        let keys = codec
            .encode_bounded(&[-3, 4], &[Arc::clone(&ints)])
            .unwrap();
        assert!(keys.get(0) < keys.get(1));
        assert_eq!(read_bound(keys.get(1)), 4);
        assert_eq!(codec.decode(keys.iter().map(|k| &k[8..])).unwrap(), [ints]);
        let none = KeyCodec::new(&[]).unwrap();
        assert_eq!(
            none.encode_bounded(&[7], &[]).unwrap().get(0),
            bound_prefix(7)
        );
    }

    #[test]
    fn columns_of_another_type_are_refused_by_name() {
        let codec = KeyCodec::new(&[DataType::Int64]).unwrap();
        let error = codec
            .encode(&[column(StringArray::from(vec!["x"]))])
            .unwrap_err();
        assert!(error.to_string().contains("Int64") && error.to_string().contains("Utf8"));
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        assert!(matches!(
            KeyCodec::new(&[dictionary]),
            Err(RowError::KeyType { .. })
        ));
    }
}
