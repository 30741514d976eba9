//! An index of sorted keys: what all begin with once, and the eight bytes that follow of each as an integer.
//!
//! A thousand neighbours among the keys of a state have most of their first bytes in common: the bound
//! and the start of their window, the leading zeros of a number. What follows tells nearly all of them
//! apart, so a search compares integers and looks at few keys.

use std::cmp::Ordering;

use smallvec::SmallVec;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heads {
    shared: SmallVec<[u8; 32]>,
    of_keys: Vec<u64>,
    /// The least of them.
    least: u64,
    /// How many keys there are to a step of one of them, if they are spread evenly.
    density: f64,
}

/// The eight bytes of `key` from `at` on as an integer of the same order; what a shorter key lacks counts
/// as zeros, so equal integers decide nothing.
#[inline]
pub(crate) fn head(key: &[u8], at: usize) -> u64 {
    let rest = key.get(at..).unwrap_or_default();
    if let Some(first) = rest.first_chunk::<8>() {
        return u64::from_be_bytes(*first);
    }
    let mut bytes = [0; 8];
    bytes[..rest.len()].copy_from_slice(rest);
    u64::from_be_bytes(bytes)
}

/// How many bytes two keys have in common.
#[inline]
pub(crate) fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Heads {
    /// The index of `count` keys, which ascend.
    pub(crate) fn of<'a>(count: usize, key: impl Fn(usize) -> &'a [u8]) -> Self {
        if count == 0 {
            return Self::default();
        }
        let first = key(0);
        let shared = &first[..common(first, key(count - 1))];
        let heads: Vec<u64> = (0..count).map(|i| head(key(i), shared.len())).collect();
        let (least, greatest) = (heads[0], heads[count - 1]);
        Self {
            shared: shared.into(),
            least,
            density: (count - 1) as f64 / (greatest - least).max(1) as f64,
            of_keys: heads,
        }
    }

    /// The memory in use, beside the value itself.
    pub(crate) fn bytes(&self) -> usize {
        8 * self.of_keys.len()
    }

    /// The first key from `start` on that is not before `wanted`, and whether it is that one. `key` gives
    /// the keys that the index was made of.
    #[inline]
    pub(crate) fn seek<'a>(
        &self,
        start: usize,
        wanted: &[u8],
        key: impl Fn(usize) -> &'a [u8],
    ) -> (usize, bool) {
        let (at, count) = (self.shared.len(), self.of_keys.len());
        let begins = wanted.len().min(at);
        match wanted[..begins].cmp(&self.shared) {
            Ordering::Less => return (start, false),
            Ordering::Equal => {}
            Ordering::Greater => return (count, false),
        }
        let head = head(wanted, at);
        let order = |i: usize| {
            self.of_keys[i].cmp(&head).then_with(|| {
                let key = key(i);
                if key.len() == wanted.len() && key.len() <= at + 8 {
                    Ordering::Equal
                } else {
                    key.cmp(wanted)
                }
            })
        };
        let found = self.first_from(start, head, |i| order(i).is_lt());
        (found, found < count && order(found).is_eq())
    }

    /// Where the key of a head is if keys are spread evenly.
    #[inline]
    fn guess(&self, head: u64) -> usize {
        let guess = (head.saturating_sub(self.least) as f64 * self.density) as usize;
        guess.min(self.of_keys.len().saturating_sub(1))
    }

    /// Where a search for `wanted` will begin, and what it will read there first.
    #[inline]
    pub(crate) fn first_look(&self, wanted: &[u8]) -> (usize, u64) {
        let guess = self.guess(head(wanted, self.shared.len()));
        (guess, self.of_keys.get(guess).copied().unwrap_or(0))
    }

    /// The first key from `start` on that is not before the one of this head: near to `start`, or else near to
    /// where it is if keys are spread evenly, which reads fewer places of memory than halving does.
    #[inline]
    fn first_from(&self, start: usize, head: u64, before: impl Fn(usize) -> bool) -> usize {
        /// Keys that are looked at one after the other.
        const NEAR: usize = 8;
        let count = self.of_keys.len();
        if start > 0 && (start + NEAR >= count || !before(start + NEAR)) {
            return gallop(start, count, before);
        }
        let guess = self.guess(head).max(start);
        if guess >= count || before(guess) {
            return gallop(guess, count, before);
        }
        // It is at the guess or before it.
        let (mut found, mut step) = (guess, 1);
        while found > start {
            let at = found.saturating_sub(step).max(start);
            if before(at) {
                return gallop(at, found, before);
            }
            found = at;
            step <<= 1;
        }
        found
    }
}

/// Where a row is: its part and its number there. In front, a number that equal keys share.
pub type Place = (u64, u32, u32);

/// Sorts rows by their keys; those of equal keys stand together, with equal numbers, in no order.
pub(crate) fn sort_by_keys<'a>(places: &mut [Place], key: &impl Fn(&Place) -> &'a [u8]) {
    sort_from(places, 0, key);
}

/// Sorts rows whose keys all begin with the same `at` bytes.
fn sort_from<'a>(places: &mut [Place], at: usize, key: &impl Fn(&Place) -> &'a [u8]) {
    let Some((first, others)) = places.split_first() else {
        return;
    };
    let first = &key(first)[at..];
    let mut shared = first.len();
    for other in others {
        shared = common(&first[..shared], &key(other)[at..]);
    }
    let at = at + shared;
    for place in &mut *places {
        place.0 = head(key(place), at);
    }
    places.sort_unstable_by_key(|place| place.0);
    for equal in places.chunk_by_mut(|a, b| a.0 == b.0) {
        if equal.len() < 2 {
            continue;
        }
        let ends = |place: &Place| key(place).len() <= at + 8;
        if !equal.iter().any(ends) {
            sort_from(equal, at + 8, key);
        } else if !equal.iter().all(ends) || !equal.iter().map(|p| key(p).len()).is_sorted() {
            equal.sort_unstable_by(|a, b| key(a).cmp(key(b)));
        }
    }
}

/// The first index in `start..end` of which `before` is false, if it is true for all before it: in
/// about twice the logarithm of the distance.
#[inline]
pub(crate) fn gallop(start: usize, end: usize, before: impl Fn(usize) -> bool) -> usize {
    let mut at = start;
    if at < end && before(at) {
        let mut step = 1;
        while at + step < end && before(at + step) {
            at += step;
            step <<= 1;
        }
        step >>= 1;
        while step > 0 {
            if at + step < end && before(at + step) {
                at += step;
            }
            step >>= 1;
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::prelude::*;

    #[test]
    fn rows_are_sorted_by_all_bytes_of_their_keys() {
        let mut rng = StdRng::seed_from_u64(12);
        for round in 0..300u32 {
            let shared = vec![7; rng.random_range(0..20)];
            let keys: Vec<Vec<u8>> = (0..round)
                .map(|_| {
                    let rest = (0..rng.random_range(0..24)).map(|_| rng.random_range(0..2u8));
                    shared.iter().copied().chain(rest).collect()
                })
                .collect();
            let mut places: Vec<Place> = (0..round).map(|i| (0, 0, i)).collect();
            sort_by_keys(&mut places, &|place| &keys[place.2 as usize]);
            let mut right = keys.clone();
            right.sort();
            let sorted: Vec<_> = places.iter().map(|p| keys[p.2 as usize].clone()).collect();
            assert_eq!(sorted, right);
            for pair in places.windows(2) {
                let same = keys[pair[0].2 as usize] == keys[pair[1].2 as usize];
                assert!(!same || pair[0].0 == pair[1].0, "equal keys, equal numbers");
            }
        }
    }

    #[test]
    fn a_search_finds_what_a_comparison_of_all_bytes_finds() {
        let mut rng = StdRng::seed_from_u64(11);
        let mut word = |longest: usize| -> Vec<u8> {
            let length = rng.random_range(0..=longest);
            (0..length)
                .map(|_| *[0, 1, 255].choose(&mut rng).unwrap())
                .collect()
        };
        for round in 0..400 {
            let shared = word(round % 40);
            let mut keys: Vec<Vec<u8>> = (0..round % 60)
                .map(|_| [&shared[..], &word(12)].concat())
                .collect();
            keys.sort();
            keys.dedup();
            let heads = Heads::of(keys.len(), |i| &keys[i]);
            for _ in 0..40 {
                let wanted = match round % 3 {
                    0 => word(40),
                    _ => [&shared[..], &word(12)].concat(),
                };
                let start = round % (keys.len() + 1);
                let right = start + keys[start..].partition_point(|key| *key < wanted);
                let there = keys.get(right) == Some(&wanted);
                assert_eq!(heads.seek(start, &wanted, |i| &keys[i]), (right, there));
            }
        }
    }
}
