//! Bitmaps of 32,768 bits, as `bitmap_bit_position` counts them: from the lowest of the first byte.

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use datafusion::common::{Result, ScalarValue, exec_err};

use super::fold::Values;

const BYTES: usize = 4096;

/// `bitmap_construct_agg`: the bits at the positions that come.
pub(super) fn of_positions(group: &Values) -> Result<ScalarValue> {
    let mut bitmap = vec![0; BYTES];
    let positions = group.first.as_primitive::<Int64Type>();
    for position in positions.values() {
        let byte = usize::try_from(position / 8).ok();
        match byte.and_then(|byte| bitmap.get_mut(byte)) {
            Some(byte) if *position >= 0 => *byte |= 1_u8 << (position % 8),
            _ => {
                return exec_err!(
                    "[INVALID_BITMAP_POSITION] {position} is no position in a bitmap of {BYTES} bytes: use bitmap_bit_position(x), in a group for each bitmap_bucket_number(x)"
                );
            }
        }
    }
    Ok(ScalarValue::Binary(Some(bitmap)))
}

/// `bitmap_or_agg`.
pub(super) fn any(group: &Values) -> ScalarValue {
    merged(group, 0, |a, b| a | b)
}

/// `bitmap_and_agg`.
pub(super) fn all(group: &Values) -> ScalarValue {
    merged(group, u8::MAX, |a, b| a & b)
}

/// The bitmaps merged byte by byte. What a value is too short for is 0, what is too long is cut.
fn merged(group: &Values, nothing: u8, merge: fn(u8, u8) -> u8) -> ScalarValue {
    let values = group.first.as_binary::<i32>();
    let bitmap = (0..values.len()).fold(vec![nothing; BYTES], |mut bitmap, row| {
        let bytes = values.value(row).iter().copied();
        let padded = bytes.chain(std::iter::repeat(0));
        for (byte, value) in bitmap.iter_mut().zip(padded) {
            *byte = merge(*byte, value);
        }
        bitmap
    });
    ScalarValue::Binary(Some(bitmap))
}
