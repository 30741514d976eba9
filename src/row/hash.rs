//! The hash by which rows find their worker.
//!
//! It is part of the on-disk format: a checkpoint's rows lie where this hash sent them. So it never
//! changes, on any machine; a test pins its values. The construction is the folded multiply of
//! wyhash (Wang Yi): 64 x 64 -> 128 bits, both halves xored.

const K0: u64 = 0xa076_1d64_78bd_642f;
const K1: u64 = 0xe703_7ed1_a0b4_28db;
const K2: u64 = 0x8ebc_6af0_9c88_c6e3;

#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128) * (b as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// The hash of a byte string: the same on every machine and in every version.
#[inline]
pub fn hash(bytes: &[u8]) -> u64 {
    let mut state = K0 ^ fold(bytes.len() as u64 ^ K1, K2);
    let (pairs, rest) = bytes.as_chunks::<16>();
    for pair in pairs {
        let (a, b) = pair.split_at(8);
        state = fold(word(a) ^ K1, word(b) ^ state);
    }
    if !rest.is_empty() {
        let (a, b) = rest.split_at(rest.len().min(8));
        state = fold(word(a) ^ K2, word(b) ^ state ^ K1);
    }
    fold(state ^ K0, K1)
}

/// The hash of an integer, as that of its eight little-endian bytes would be used.
#[inline]
pub fn hash_u64(value: u64) -> u64 {
    hash(&value.to_le_bytes())
}

/// Which of `peers` workers gets the rows of this hash: its high bits, scaled.
#[inline]
pub const fn route(hash: u64, peers: usize) -> usize {
    ((hash as u128 * peers as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// These values are on disk, in what went to which worker. They must never change.
    #[test]
    fn the_hash_is_what_it_always_was() {
        let text = b"The quick brown fox jumps over the lazy dog";
        let seen: Vec<u64> = [0, 1, 7, 8, 9, 15, 16, 17, 33, 43]
            .iter()
            .map(|n| hash(&text[..*n]))
            .collect();
        assert_eq!(seen, PINNED);
    }

    const PINNED: [u64; 10] = [
        0x97ea_a3ba_ca70_ba63,
        0x1e81_7730_b797_504f,
        0xfbbb_5b00_ed5b_01fa,
        0x3a00_0b1a_3341_e37b,
        0x4a75_adb9_29be_1c0a,
        0x8459_89c8_2b8a_dbf2,
        0x2a11_2077_11e0_4b25,
        0x0198_2174_6564_8583,
        0x2440_79b7_b4dd_d40a,
        0x1bf3_6c1c_42df_c65f,
    ];

    #[test]
    fn near_keys_spread_evenly() {
        for peers in [2usize, 3, 7, 64] {
            let mut counts = vec![0usize; peers];
            for i in 0..64_000u64 {
                counts[route(hash_u64(i), peers)] += 1;
            }
            let mean = 64_000 / peers;
            for count in counts {
                assert!(count.abs_diff(mean) * 100 <= mean * 20, "{count} of {mean}");
            }
        }
    }

    #[test]
    fn one_bit_changes_half_of_the_bits() {
        let base = *b"some key of twenty-nine bytes";
        for bit in 0..base.len() * 8 {
            let mut other = base;
            other[bit / 8] ^= 1 << (bit % 8);
            let flipped = (hash(&base) ^ hash(&other)).count_ones();
            assert!((12..=52).contains(&flipped), "bit {bit} flips {flipped}");
        }
    }

    #[test]
    fn zeros_of_different_lengths_differ() {
        let zeros = [0u8; 64];
        let hashes: HashSet<u64> = (0..64).map(|n| hash(&zeros[..n])).collect();
        assert_eq!(hashes.len(), 64);
    }
}
