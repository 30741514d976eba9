//! `MurmurHash3` x86 32 as Spark has it: bytes behind the last four are mixed in one by one.

use super::Seed;

/// A seed, and the hash with it.
#[derive(Clone, Copy)]
pub(super) struct Murmur3(pub(super) u32);

fn mix(hash: u32, word: u32) -> u32 {
    let word = word.wrapping_mul(0xCC9E_2D51).rotate_left(15);
    let hash = hash ^ word.wrapping_mul(0x1B87_3593);
    hash.rotate_left(13)
        .wrapping_mul(5)
        .wrapping_add(0xE654_6B64)
}

fn finish(hash: u32, length: usize) -> Murmur3 {
    let mut hash = hash ^ length as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85EB_CA6B);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xC2B2_AE35);
    Murmur3(hash ^ (hash >> 16))
}

impl Seed for Murmur3 {
    fn int(self, value: i32) -> Self {
        finish(mix(self.0, value as u32), 4)
    }

    fn long(self, value: i64) -> Self {
        let low = mix(self.0, value as u32);
        finish(mix(low, (value >> 32) as u32), 8)
    }

    fn bytes(self, value: &[u8]) -> Self {
        let mut words = value.chunks_exact(4);
        let hash = words.by_ref().fold(self.0, |hash, word| {
            mix(
                hash,
                u32::from_le_bytes([word[0], word[1], word[2], word[3]]),
            )
        });
        let rest = words.remainder().iter();
        let hash = rest.fold(hash, |hash, byte| mix(hash, i32::from(*byte as i8) as u32));
        finish(hash, value.len())
    }
}
