//! Integers of variable length: seven bits a byte, least significant first (LEB128), signed ones
//! zigzag. Readers take any bytes: what is cut off or does not fit is `None`.

/// The longest that [`put`] writes.
pub const MAX_LEN: usize = 10;

/// Appends `value` in one to ten bytes.
#[inline]
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `value`, small magnitudes short.
#[inline]
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, zigzag(value));
}

/// Appends `value` in one to nineteen bytes.
#[inline]
pub fn put_wide(out: &mut Vec<u8>, value: i128) {
    let mut value = ((value << 1) ^ (value >> 127)) as u128;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads what [`put`] wrote and moves `bytes` past it.
#[inline]
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    if let [first, rest @ ..] = *bytes
        && *first < 0x80
    {
        *bytes = rest;
        return Some(u64::from(*first));
    }
    let mut value = 0u64;
    for (i, byte) in bytes.iter().enumerate().take(MAX_LEN) {
        let part = u64::from(byte & 0x7f);
        if i == 9 && part > 1 {
            return None;
        }
        value |= part << (7 * i);
        if byte & 0x80 == 0 {
            *bytes = &bytes[i + 1..];
            return Some(value);
        }
    }
    None
}

/// Reads what [`put_signed`] wrote and moves `bytes` past it.
#[inline]
pub fn take_signed(bytes: &mut &[u8]) -> Option<i64> {
    take(bytes).map(unzigzag)
}

/// Reads what [`put_wide`] wrote and moves `bytes` past it.
#[inline]
pub fn take_wide(bytes: &mut &[u8]) -> Option<i128> {
    let mut value = 0u128;
    for (i, byte) in bytes.iter().enumerate().take(19) {
        let part = u128::from(byte & 0x7f);
        if i == 18 && part > 3 {
            return None;
        }
        value |= part << (7 * i);
        if byte & 0x80 == 0 {
            *bytes = &bytes[i + 1..];
            return Some(((value >> 1) as i128) ^ -((value & 1) as i128));
        }
    }
    None
}

/// Reads a length: as [`take`], but never more than `limit`.
#[inline]
pub fn take_len(bytes: &mut &[u8], limit: usize) -> Option<usize> {
    let len = usize::try_from(take(bytes)?).ok()?;
    (len <= limit).then_some(len)
}

/// Takes the first `len` bytes off.
#[inline]
pub fn take_slice<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = bytes.split_at_checked(len)?;
    *bytes = tail;
    Some(head)
}

/// Takes the first `N` bytes off.
#[inline]
pub fn take_array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = bytes.split_first_chunk::<N>()?;
    *bytes = tail;
    Some(*head)
}

#[inline]
const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline]
const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_length_come_back() {
        let mut values = vec![0u64, 1, 127, 128, u64::MAX];
        values.extend((0..64).flat_map(|b| [1u64 << b, (1u64 << b) - 1]));
        for value in values {
            let mut out = vec![];
            put(&mut out, value);
            put_signed(&mut out, value as i64);
            put_signed(&mut out, (value as i64).wrapping_neg());
            let wide = i128::from(value as i64) << 60 ^ i128::from(value);
            put_wide(&mut out, wide);
            put_wide(&mut out, -wide);
            let mut bytes = &out[..];
            assert_eq!(take(&mut bytes), Some(value));
            assert_eq!(take_signed(&mut bytes), Some(value as i64));
            assert_eq!(take_signed(&mut bytes), Some((value as i64).wrapping_neg()));
            assert_eq!(take_wide(&mut bytes), Some(wide));
            assert_eq!(take_wide(&mut bytes), Some(-wide));
            assert!(bytes.is_empty());
        }
        for wide in [i128::MAX, i128::MIN] {
            let mut out = vec![];
            put_wide(&mut out, wide);
            assert_eq!(take_wide(&mut &out[..]), Some(wide));
        }
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_nothing() {
        assert_eq!(take(&mut &[][..]), None);
        assert_eq!(take(&mut &[0x80][..]), None);
        assert_eq!(take(&mut &[0xff; 12][..]), None);
        assert_eq!(take_wide(&mut &[0xff; 30][..]), None);
        assert_eq!(take_len(&mut &[9][..], 8), None);
        assert_eq!(take_slice(&mut &[9][..], 2), None);
        assert_eq!(take_array::<2>(&mut &[9][..]), None);
    }
}
