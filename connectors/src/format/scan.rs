//! Finding bytes many at a time.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The high bit of every zero byte; above the lowest of them there may be false ones.
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// Where `needle` first stands at or after `from`, or the length.
#[inline]
pub(crate) fn find_byte(bytes: &[u8], from: usize, needle: u8) -> usize {
    let pattern = ONES * u64::from(needle);
    let mut at = from;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let hits = zero_bytes(u64::from_le_bytes(*chunk) ^ pattern);
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < bytes.len() && bytes[at] != needle {
        at += 1;
    }
    at
}

/// Where a double quote, a backslash or a control character first stands at or after `from`, or the
/// length.
#[inline]
pub(crate) fn find_string_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
        // Both words without a branch between them: most strings end in one of the two, and which
        // one cannot be foreseen.
        let word = u128::from_le_bytes(*chunk);
        let low = u128::from(string_ends(word as u64));
        let high = u128::from(string_ends((word >> 64) as u64));
        let hits = high << 64 | low;
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 16;
    }
    while let Some(0x20 | 0x21 | 0x23..=0x5B | 0x5D..) = bytes.get(at) {
        at += 1;
    }
    at
}

/// Where either of two bytes first stands at or after `from`, or the length.
#[inline]
pub(crate) fn find_either(bytes: &[u8], from: usize, one: u8, other: u8) -> usize {
    let (ones, others) = (ONES * u64::from(one), ONES * u64::from(other));
    let hits = |word: u64| u128::from(zero_bytes(word ^ ones) | zero_bytes(word ^ others));
    let mut at = from;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
        let word = u128::from_le_bytes(*chunk);
        let hits = hits((word >> 64) as u64) << 64 | hits(word as u64);
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 16;
    }
    while at < bytes.len() && bytes[at] != one && bytes[at] != other {
        at += 1;
    }
    at
}

/// The high bit of every byte that is a double quote, a backslash or a control character; above the
/// lowest of them there may be false ones.
#[inline]
const fn string_ends(word: u64) -> u64 {
    // With this bit turned the double quote comes right behind the control characters.
    let turned = word ^ (ONES * 2);
    let quote_or_control = turned.wrapping_sub(ONES * 0x21) & !turned;
    let backslash = word ^ (ONES * b'\\' as u64);
    (quote_or_control | (backslash.wrapping_sub(ONES) & !backslash)) & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_is_found() {
        for length in 0..40 {
            let mut text = vec![b'\x80'; length];
            assert_eq!(find_byte(&text, 0, b'\n'), length);
            assert_eq!(find_string_end(&text, 0), length);
            for at in 0..length {
                for special in [b'"', b'\\', b'\n', 0, 0x1f] {
                    text[at] = special;
                    assert_eq!(find_string_end(&text, 0), at);
                    assert_eq!(find_byte(&text, 0, special), at);
                    assert_eq!(find_either(&text, 0, special, b','), at);
                    assert_eq!(find_either(&text, 0, b',', special), at);
                    for from in 0..=at {
                        assert_eq!(find_string_end(&text, from), at);
                    }
                }
                text[at] = b' ';
            }
        }
    }
}
