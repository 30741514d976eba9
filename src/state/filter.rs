//! A filter of keys: it says of nearly all keys that are not there that they are not.
//!
//! A trace has up to two batches on each level, and the key that is looked up is in one or two of them. A
//! search in a chunk reads half a dozen places of memory that no cache holds; to ask the filter reads one.

use std::rc::Rc;

use crate::row::hash;

/// A Bloom filter in blocks of a word: each key sets four bits of one, so about one key in fifty is taken for
/// another.
///
/// Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter(Rc<[u64]>);

impl Filter {
    /// The filter of `count` keys.
    pub(crate) fn of<'a>(count: usize, keys: impl Iterator<Item = &'a [u8]>) -> Self {
        const KEYS_IN_A_WORD: usize = 6;
        let mut words = vec![0; count.div_ceil(KEYS_IN_A_WORD)];
        let length = words.len();
        for key in keys {
            let (word, bits) = place(hash(key), length);
            words[word] |= bits;
        }
        Self(words.into())
    }

    /// Whether a key of this hash may be there.
    #[inline]
    pub(crate) fn may_hold(&self, hash: u64) -> bool {
        let (word, bits) = place(hash, self.0.len());
        self.0.get(word).is_some_and(|word| word & bits == bits)
    }

    /// The memory in use, beside the value itself.
    pub(crate) fn bytes(&self) -> usize {
        8 * self.0.len()
    }
}

/// The word of a hash in so many, and its bits there. The highest bits have sent the key to its worker: they are the
/// same for many.
#[inline]
fn place(hash: u64, words: usize) -> (usize, u64) {
    let word = ((hash & u64::from(u32::MAX)) * words as u64) >> 32;
    let bit = |at: u32| 1 << ((hash >> at) & 63);
    (word as usize, bit(32) | bit(38) | bit(44) | bit(50))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::route;

    #[test]
    fn keys_are_held_and_nearly_no_others() {
        let ours = |key: &[u8; 8]| route(hash(key), 4) == 1;
        let keys = |from: u64| (from..).map(u64::to_be_bytes).filter(ours);
        for count in [1, 7, 1000] {
            let held: Vec<_> = keys(0).take(count).collect();
            let filter = Filter::of(count, held.iter().map(|key| &key[..]));
            assert!(held.iter().all(|key| filter.may_hold(hash(key))));
            let others = keys(1 << 40).take(10_000);
            let wrong = others.filter(|key| filter.may_hold(hash(key))).count();
            assert!(
                wrong < 500,
                "{wrong} of 10,000 are taken for {count} others"
            );
        }
        assert!(!Filter::default().may_hold(7));
    }
}
