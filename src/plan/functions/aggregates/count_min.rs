//! `count_min_sketch`: Spark's Count-Min sketch (Cormode and Muthukrishnan), in its serialized form,
//! so that Spark's `CountMinSketch.readFrom` reads it.
//!
//! | bytes | |
//! |---|---|
//! | 4 | the version, 1 |
//! | 8 | how many values were counted |
//! | 4, 4 | depth and width of the table |
//! | 8 x depth | what whole numbers are hashed with |
//! | 8 x depth x width | the table |
//!
//! All numbers are big-endian.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err};

use super::fold::Values;
use crate::plan::functions::hash::murmur3;

/// No table has more cells: 64 MiB.
const MOST_CELLS: f64 = (1 << 23) as f64;

/// The sketch of a group's values from the constants of the call.
pub(super) fn sketch(group: &Values, constants: &[&ScalarValue]) -> Result<ScalarValue> {
    let [
        ScalarValue::Float64(Some(error)),
        ScalarValue::Float64(Some(confidence)),
        seed,
    ] = constants
    else {
        return exec_err!("count_min_sketch needs a constant error and confidence");
    };
    let ScalarValue::Int64(Some(seed)) = seed.cast_to(&DataType::Int64)? else {
        return exec_err!("count_min_sketch needs a constant seed");
    };
    let (width, depth) = ((2.0 / error).ceil(), (-(1.0 - confidence).log2()).ceil());
    if width * depth > MOST_CELLS {
        return exec_err!(
            "a sketch of {depth} times {width} cells is too large; use a greater error than {error}"
        );
    }
    let (width, depth) = (width as i32, depth as usize);
    let mut random = JavaRandom::new(seed);
    let factors: Vec<i64> = (0..depth)
        .map(|_| i64::from(random.below(i32::MAX)))
        .collect();
    let mut table = vec![0_i64; depth * width as usize];
    let mut total = 0_i64;
    for (row, count) in group.counts.iter().enumerate() {
        total += count;
        let value = Value::of(group, row);
        for (line, factor) in factors.iter().enumerate() {
            let column = value.hash(line as i32, *factor) % width;
            table[line * width as usize + column.unsigned_abs() as usize] += count;
        }
    }
    let mut bytes = Vec::with_capacity(20 + 8 * (factors.len() + table.len()));
    bytes.extend(1_i32.to_be_bytes());
    bytes.extend(total.to_be_bytes());
    bytes.extend((depth as i32).to_be_bytes());
    bytes.extend(width.to_be_bytes());
    bytes.extend(factors.iter().chain(&table).flat_map(|n| n.to_be_bytes()));
    Ok(ScalarValue::Binary(Some(bytes)))
}

/// A value as it is hashed.
enum Value {
    Number(i64),
    /// The two hashes of bytes, of which the one of each line of the table is made.
    Bytes(i32, i32),
}

impl Value {
    fn of(group: &Values, row: usize) -> Self {
        let bytes = match group.first.data_type() {
            DataType::Int64 => {
                return Self::Number(group.first.as_primitive::<Int64Type>().value(row));
            }
            DataType::Utf8 => group.first.as_string::<i32>().value(row).as_bytes(),
            _ => group.first.as_binary::<i32>().value(row),
        };
        let first = murmur3(bytes, 0);
        Self::Bytes(first, murmur3(bytes, first))
    }

    fn hash(&self, line: i32, factor: i64) -> i32 {
        match self {
            Self::Number(number) => {
                let hash = factor.wrapping_mul(*number);
                let hash = hash.wrapping_add(hash >> 32);
                (hash & i64::from(i32::MAX)) as i32
            }
            Self::Bytes(first, second) => first.wrapping_add(line.wrapping_mul(*second)),
        }
    }
}

/// `java.util.Random`.
struct JavaRandom(i64);

impl JavaRandom {
    const FACTOR: i64 = 0x5_DEEC_E66D;
    const MASK: i64 = (1 << 48) - 1;

    fn new(seed: i64) -> Self {
        Self((seed ^ Self::FACTOR) & Self::MASK)
    }

    fn next(&mut self) -> i32 {
        self.0 = self.0.wrapping_mul(Self::FACTOR).wrapping_add(0xB) & Self::MASK;
        (self.0 >> 17) as i32
    }

    /// From 0 to below `bound`, which is no power of two.
    fn below(&mut self, bound: i32) -> i32 {
        loop {
            let bits = self.next();
            let value = bits % bound;
            if bits.wrapping_sub(value).wrapping_add(bound - 1) >= 0 {
                return value;
            }
        }
    }
}
