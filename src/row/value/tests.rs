use std::sync::Arc;

use super::*;
use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::*;
use rand::prelude::*;

fn arc(array: impl Array + 'static) -> ArrayRef {
    Arc::new(array)
}

/// One column of each kind, four rows, nulls in each that may have some.
fn columns() -> Vec<ArrayRef> {
    let structs = StructArray::from(vec![
        (
            Arc::new(Field::new("a", DataType::Int32, true)),
            arc(Int32Array::from(vec![Some(1), None, Some(-3), Some(4)])),
        ),
        (
            Arc::new(Field::new("b", DataType::Utf8, true)),
            arc(StringArray::from(vec![
                Some("x"),
                Some("é"),
                None,
                Some(""),
            ])),
        ),
    ]);
    let (fields, children, _) = structs.clone().into_parts();
    let nullable = StructArray::new(
        fields,
        children,
        Some(NullBuffer::from(vec![true, false, true, true])),
    );
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([
        Some(vec![Some(1), None, Some(i64::MIN)]),
        None,
        Some(vec![]),
        Some(vec![Some(5); 20]),
    ]);
    let list_of_structs = ListArray::new(
        Arc::new(Field::new_list_field(structs.data_type().clone(), true)),
        OffsetBuffer::new(vec![0, 2, 2, 3, 4].into()),
        arc(structs),
        None,
    );
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Float64Builder::new());
    for i in 0..4 {
        for j in 0..i {
            maps.keys().append_value(format!("k{j}"));
            maps.values()
                .append_option((j != 1).then_some(f64::from(j)));
        }
        maps.append(i != 2).unwrap();
    }
    let fixed_lists = FixedSizeListArray::from_iter_primitive::<Int16Type, _, _>(
        [
            Some([Some(1), None]),
            None,
            Some([Some(3), Some(-4)]),
            Some([None, None]),
        ],
        2,
    );
    let sliced = Int64Array::from(vec![9, 9, 300, -300, 0, i64::MAX]).slice(2, 4);
    vec![
        arc(NullArray::new(4)),
        arc(BooleanArray::from(vec![
            Some(true),
            None,
            Some(false),
            Some(true),
        ])),
        arc(Int8Array::from(vec![Some(-1), None, Some(127), Some(0)])),
        arc(Int16Array::from(vec![
            Some(-1),
            None,
            Some(i16::MAX),
            Some(i16::MIN),
        ])),
        arc(Int32Array::from(vec![
            Some(-1),
            None,
            Some(i32::MAX),
            Some(i32::MIN),
        ])),
        arc(sliced),
        arc(UInt8Array::from(vec![1, 2, 3, 255])),
        arc(UInt16Array::from(vec![1, 2, 3, u16::MAX])),
        arc(UInt32Array::from(vec![1, 2, 3, u32::MAX])),
        arc(UInt64Array::from(vec![1, 2, 3, u64::MAX])),
        arc(Float32Array::from(vec![
            Some(1.5),
            None,
            Some(f32::INFINITY),
            Some(-0.0),
        ])),
        arc(Float64Array::from(vec![
            Some(1.5),
            None,
            Some(1e300),
            Some(-0.0),
        ])),
        arc(
            Decimal128Array::from(vec![Some(12_345), None, Some(-1), Some(10i128.pow(37))])
                .with_precision_and_scale(38, 2)
                .unwrap(),
        ),
        arc(Decimal256Array::from(vec![
            Some(i256::from(7)),
            None,
            Some(i256::MINUS_ONE),
            None,
        ])),
        arc(StringArray::from(vec![
            Some("a"),
            None,
            Some(""),
            Some("größer"),
        ])),
        arc(LargeStringArray::from(vec![
            Some("a"),
            None,
            Some(""),
            Some("größer"),
        ])),
        arc(StringViewArray::from(vec![
            Some("a"),
            None,
            Some(""),
            Some("longer than twelve bytes"),
        ])),
        arc(BinaryArray::from(vec![
            Some(&[0u8, 255][..]),
            None,
            Some(b""),
            Some(b"x"),
        ])),
        arc(BinaryViewArray::from(vec![
            Some(&[0u8, 255][..]),
            None,
            Some(b""),
            Some(b"x"),
        ])),
        arc(FixedSizeBinaryArray::try_from_iter([[1u8, 2, 3]; 4].iter()).unwrap()),
        arc(Date32Array::from(vec![
            Some(-1),
            None,
            Some(20_000),
            Some(0),
        ])),
        arc(
            TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1 << 50), Some(0)])
                .with_timezone("UTC"),
        ),
        arc(TimestampMillisecondArray::from(vec![
            Some(-1),
            None,
            Some(1 << 40),
            Some(0),
        ])),
        arc(DurationMicrosecondArray::from(vec![
            Some(-1),
            None,
            Some(1 << 50),
            Some(0),
        ])),
        arc(IntervalYearMonthArray::from(vec![
            Some(-1),
            None,
            Some(12),
            Some(0),
        ])),
        arc(IntervalDayTimeArray::from(vec![
            Some(IntervalDayTime::new(1, -2)),
            None,
            None,
            None,
        ])),
        arc(IntervalMonthDayNanoArray::from(vec![
            Some(IntervalMonthDayNano::new(1, -2, 3)),
            None,
            None,
            None,
        ])),
        arc(lists),
        arc(list_of_structs),
        arc(maps.finish()),
        arc(fixed_lists),
        arc(nullable),
    ]
}

fn types(columns: &[ArrayRef]) -> Vec<DataType> {
    columns.iter().map(|c| c.data_type().clone()).collect()
}

#[test]
fn every_type_comes_back() {
    for column in columns() {
        let codec = ValueCodec::new(&types(std::slice::from_ref(&column))).unwrap();
        let rows = codec.encode(std::slice::from_ref(&column)).unwrap();
        let back = codec.decode(rows.iter()).unwrap();
        assert_eq!(back[0].data_type(), column.data_type());
        assert_eq!(&back[0], &column, "{}", column.data_type());
        let sliced = column.slice(1, 2);
        let back = codec
            .decode(codec.encode(std::slice::from_ref(&sliced)).unwrap().iter())
            .unwrap();
        assert_eq!(&back[0], &sliced, "{} sliced", column.data_type());
    }
    let columns = columns();
    let codec = ValueCodec::new(&types(&columns)).unwrap();
    let rows = codec.encode(&columns).unwrap();
    assert_eq!(codec.decode(rows.iter()).unwrap(), columns);
}

#[test]
fn rows_are_short() {
    let counts = arc(Int64Array::from(vec![7]));
    let text = arc(StringArray::from(vec!["page"]));
    let codec = ValueCodec::new(&[DataType::Int64, DataType::Utf8]).unwrap();
    assert_eq!(
        codec.encode(&[counts, text]).unwrap().get(0),
        b"\0\x0e\x04page"
    );
}

#[test]
fn damaged_rows_are_errors() {
    let columns = columns();
    let codec = ValueCodec::new(&types(&columns)).unwrap();
    let rows = codec.encode(&columns).unwrap();
    let mut rng = StdRng::seed_from_u64(11);
    let mut refused = 0;
    for _ in 0..4000 {
        let mut row = rows.get(rng.random_range(0..4)).to_vec();
        match rng.random_range(0..3) {
            0 => row.truncate(rng.random_range(0..row.len())),
            1 => row.push(rng.random()),
            _ => {
                for _ in 0..rng.random_range(1..4) {
                    let at = rng.random_range(0..row.len());
                    row[at] = rng.random();
                }
            }
        }
        refused += usize::from(codec.decode(std::iter::once(&row[..])).is_err());
    }
    assert!(refused > 2000, "{refused}");
    // A list that claims more elements than there are bytes takes no memory.
    let list = DataType::List(Arc::new(Field::new_list_field(DataType::Null, true)));
    let codec = ValueCodec::new(&[list]).unwrap();
    let claim = [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert!(matches!(
        codec.decode(std::iter::once(&claim[..])),
        Err(RowError::Corrupt { row: 0, .. })
    ));
}

#[test]
fn random_bytes_never_panic() {
    let columns = columns();
    let mut rng = StdRng::seed_from_u64(5);
    for column in &columns {
        let codec = ValueCodec::new(&types(std::slice::from_ref(column))).unwrap();
        for _ in 0..300 {
            let row: Vec<u8> = (0..rng.random_range(0..24))
                .map(|_| rng.random::<u8>() >> rng.random_range(0..8))
                .collect();
            let _ = codec.decode(std::iter::once(&row[..]));
        }
    }
}

#[test]
fn types_without_a_layout_are_refused() {
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let nested = DataType::List(Arc::new(Field::new_list_field(dictionary, true)));
    assert!(matches!(
        ValueCodec::new(&[nested]),
        Err(RowError::ValueType { .. })
    ));
}
