//! The number of distinct values, approximately, in little memory.
//!
//! Registers as in `HyperLogLog` (Flajolet et al. 2007) over 64-bit hashes; small sets as a sorted list
//! of fine registers, as in `HyperLogLog++` (Heule et al. 2013); the estimate by Ertl's improved raw
//! estimator (arXiv 1702.01284, algorithm 6), which needs no correction tables at any size. The state is
//! a function of the *set* of hashes: neither order nor repetition nor the cut into parts shows in it.

use crate::row::error::{Result, RowError};
use crate::row::varint;

/// The precision of the list: 2^25 fine registers, of which only those in use are kept.
const FINE: u32 = 25;
/// The bits of a rank: 64 - 4 + 1 at most.
const RANK_BITS: u32 = 6;

/// A sketch of a set of hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HyperLogLog {
    precision: u8,
    registers: Registers,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Registers {
    /// Fine registers that are not zero, `index << 6 | rank`, ascending, one an index.
    Sparse(Vec<u32>),
    /// All 2^precision registers.
    Dense(Vec<u8>),
}

impl HyperLogLog {
    /// The least precision: 16 registers, 26 % relative error.
    pub const MIN_PRECISION: u8 = 4;
    /// The greatest precision: 262,144 registers, 0.2 % relative error.
    pub const MAX_PRECISION: u8 = 18;

    /// An empty sketch of 2^`precision` registers; its relative standard error is 1.04 / sqrt of
    /// that. A precision beyond the bounds is moved to the nearest.
    pub fn new(precision: u8) -> Self {
        Self {
            precision: precision.clamp(Self::MIN_PRECISION, Self::MAX_PRECISION),
            registers: Registers::Sparse(Vec::new()),
        }
    }

    /// The precision for a relative standard error, as Spark's `approx_count_distinct` finds it:
    /// 0.05 gives 9.
    pub fn precision_for(relative_error: f64) -> u8 {
        let precision = (2.0 * (1.106 / relative_error).log2()).ceil();
        if precision.is_nan() {
            return Self::MAX_PRECISION;
        }
        precision.clamp(
            f64::from(Self::MIN_PRECISION),
            f64::from(Self::MAX_PRECISION),
        ) as u8
    }

    /// The precision that it was made with.
    pub fn precision(&self) -> u8 {
        self.precision
    }

    /// The longest list: a quarter of the memory of all registers. More would cost time to keep sorted.
    fn max_sparse(&self) -> usize {
        (1usize << self.precision) / 16
    }

    /// Adds a value by its hash.
    #[inline]
    pub fn add_hash(&mut self, hash: u64) {
        match &mut self.registers {
            Registers::Dense(registers) => {
                let p = u32::from(self.precision);
                let rank = ((hash << p | 1 << (p - 1)).leading_zeros() + 1) as u8;
                let register = &mut registers[(hash >> (64 - p)) as usize];
                *register = (*register).max(rank);
            }
            Registers::Sparse(_) => {
                let rank = (hash << FINE | 1 << (FINE - 1)).leading_zeros() + 1;
                self.add_fine(((hash >> (64 - FINE)) as u32) << RANK_BITS | rank);
            }
        }
    }

    /// Adds a fine register.
    fn add_fine(&mut self, entry: u32) {
        match &mut self.registers {
            Registers::Dense(registers) => set(registers, self.precision, entry),
            Registers::Sparse(list) => {
                let at = list.partition_point(|e| e >> RANK_BITS < entry >> RANK_BITS);
                match list.get_mut(at) {
                    Some(old) if *old >> RANK_BITS == entry >> RANK_BITS => {
                        *old = (*old).max(entry);
                    }
                    _ => {
                        list.insert(at, entry);
                        self.shrink();
                    }
                }
            }
        }
    }

    /// Goes over to all registers when the list has become too long.
    fn shrink(&mut self) {
        let limit = self.max_sparse();
        if let Registers::Sparse(list) = &self.registers
            && list.len() > limit
        {
            let mut registers = vec![0; 1 << self.precision];
            for entry in list {
                set(&mut registers, self.precision, *entry);
            }
            self.registers = Registers::Dense(registers);
        }
    }

    /// Adds all that `other` has seen. Both must have the same precision.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.precision != other.precision {
            return Err(RowError::Precision {
                ours: self.precision,
                theirs: other.precision,
            });
        }
        match (&mut self.registers, &other.registers) {
            (Registers::Dense(ours), Registers::Dense(theirs)) => {
                for (ours, theirs) in ours.iter_mut().zip(theirs) {
                    *ours = (*ours).max(*theirs);
                }
            }
            (Registers::Sparse(ours), Registers::Dense(theirs)) => {
                let mut registers = theirs.clone();
                for entry in ours.iter() {
                    set(&mut registers, self.precision, *entry);
                }
                self.registers = Registers::Dense(registers);
            }
            (Registers::Dense(ours), Registers::Sparse(theirs)) => {
                for entry in theirs {
                    set(ours, self.precision, *entry);
                }
            }
            (Registers::Sparse(ours), Registers::Sparse(theirs)) => {
                ours.extend_from_slice(theirs);
                ours.sort_unstable();
                // Of one index the greatest rank comes last: keep that one.
                ours.dedup_by(|next, kept| {
                    let same = *next >> RANK_BITS == *kept >> RANK_BITS;
                    if same {
                        *kept = *next;
                    }
                    same
                });
                self.shrink();
            }
        }
        Ok(())
    }

    /// About how many distinct hashes were added.
    pub fn estimate(&self) -> u64 {
        match &self.registers {
            Registers::Sparse(list) => {
                // Linear counting over the fine registers: at most 2^14 of 2^25 are in use.
                let m = f64::from(1u32 << FINE);
                (m * (m / (m - list.len() as f64)).ln()).round() as u64
            }
            Registers::Dense(registers) => self.dense_estimate(registers),
        }
    }

    fn dense_estimate(&self, registers: &[u8]) -> u64 {
        let q = 64 - usize::from(self.precision);
        let mut counts = [0u32; 64];
        for rank in registers {
            counts[usize::from(*rank)] += 1;
        }
        let m = registers.len() as f64;
        let mut z = m * tau(1.0 - f64::from(counts[q + 1]) / m);
        for k in (1..=q).rev() {
            z = 0.5 * (z + f64::from(counts[k]));
        }
        z += m * sigma(f64::from(counts[0]) / m);
        (m * m / (2.0 * std::f64::consts::LN_2 * z)).round() as u64
    }

    /// Appends the sketch: the same bytes for the same set.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.registers {
            Registers::Sparse(list) => {
                out.push(self.precision);
                varint::put(out, list.len() as u64);
                let mut last = 0;
                for entry in list {
                    varint::put(out, u64::from(entry - last));
                    last = *entry;
                }
            }
            Registers::Dense(registers) => {
                out.push(self.precision | 0x80);
                // Four registers of six bits in three bytes.
                for four in registers.as_chunks::<4>().0 {
                    let [a, b, c, d] = four.map(u32::from);
                    let packed = a | b << 6 | c << 12 | d << 18;
                    out.extend_from_slice(&packed.to_le_bytes()[..3]);
                }
            }
        }
    }

    /// Reads what [`HyperLogLog::encode`] wrote at the front of `bytes`: the sketch, and how many bytes
    /// it took. `None` if no sketch was written there.
    pub fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut rest = bytes;
        let [head] = varint::take_array::<1>(&mut rest)?;
        let precision = head & 0x7f;
        if !(Self::MIN_PRECISION..=Self::MAX_PRECISION).contains(&precision) {
            return None;
        }
        let mut sketch = Self::new(precision);
        if head & 0x80 == 0 {
            let len = varint::take_len(&mut rest, sketch.max_sparse())?;
            let mut list: Vec<u32> = Vec::with_capacity(len);
            let mut last = 0u32;
            for i in 0..len {
                let step = u32::try_from(varint::take(&mut rest)?).ok()?;
                let entry = last.checked_add(step)?;
                let fresh = i == 0 || entry >> RANK_BITS > last >> RANK_BITS;
                let rank = entry & ((1 << RANK_BITS) - 1);
                if !fresh || entry >> (FINE + RANK_BITS) != 0 || !(1..=65 - FINE).contains(&rank) {
                    return None;
                }
                list.push(entry);
                last = entry;
            }
            sketch.registers = Registers::Sparse(list);
        } else {
            let packed = varint::take_slice(&mut rest, (1usize << precision) / 4 * 3)?;
            let mut registers = Vec::with_capacity(1 << precision);
            for three in packed.as_chunks::<3>().0 {
                let [a, b, c] = three.map(u32::from);
                let packed = a | b << 8 | c << 16;
                registers.extend((0..4).map(|i| (packed >> (6 * i)) as u8 & 63));
            }
            if registers.iter().any(|rank| *rank > 65 - precision) {
                return None;
            }
            sketch.registers = Registers::Dense(registers);
        }
        Some((sketch, bytes.len() - rest.len()))
    }
}

/// Lifts the register of a coarser sketch that a fine one falls into.
fn set(registers: &mut [u8], precision: u8, entry: u32) {
    let (index, rank) = (entry >> RANK_BITS, entry & ((1 << RANK_BITS) - 1));
    let below = FINE - u32::from(precision);
    // The low bits of the fine index are the first of the coarse register's remaining hash.
    let low = index & ((1 << below) - 1);
    let rank = if low == 0 {
        rank + below
    } else {
        low.leading_zeros() - (32 - below) + 1
    };
    let register = &mut registers[(index >> below) as usize];
    *register = (*register).max(rank as u8);
}

/// The contribution of registers that are still zero: x + sum of x^(2^k) 2^(k-1).
fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z <= before {
            return z;
        }
    }
}

/// The contribution of registers that are at their greatest.
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z >= before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::hash::hash_u64;
    use rand::prelude::*;

    fn sketch(precision: u8, values: impl Iterator<Item = u64>) -> HyperLogLog {
        let mut sketch = HyperLogLog::new(precision);
        values.for_each(|v| sketch.add_hash(hash_u64(v)));
        sketch
    }

    #[test]
    fn estimates_are_within_four_standard_errors_at_every_size() {
        for precision in [9, 12, 14] {
            let error = 1.04 / f64::from(1u32 << precision).sqrt();
            let largest = if precision == 12 { 1_000_000 } else { 10_000 };
            for n in [0u64, 1, 10, 1_000, 100_000, largest] {
                let estimate = sketch(precision, (0..n).map(|i| i + 77 * n)).estimate();
                let off = estimate.abs_diff(n) as f64;
                assert!(
                    off <= 4.0 * error * n as f64,
                    "precision {precision}: {n} gave {estimate}"
                );
            }
        }
        for n in [1u64, 10, 100] {
            assert_eq!(
                sketch(14, 0..n).estimate(),
                n,
                "small sets are exact but for collisions"
            );
        }
    }

    #[test]
    fn order_repetition_and_parts_do_not_show() {
        let mut rng = StdRng::seed_from_u64(1);
        for n in [3usize, 30, 300, 3_000, 30_000] {
            let mut values: Vec<u64> = (0..n).map(|_| rng.random()).collect();
            let whole = sketch(12, values.iter().copied());
            values.shuffle(&mut rng);
            values.extend_from_within(..n / 2);
            let cut = rng.random_range(0..values.len());
            let mut left = sketch(12, values[..cut].iter().copied());
            let mut right = sketch(12, values[cut..].iter().copied());
            if n % 7 == 0 {
                std::mem::swap(&mut left, &mut right);
            }
            left.merge(&right).unwrap();
            assert_eq!(left, whole, "{n}");
            let (mut a, mut b) = (vec![], vec![]);
            whole.encode(&mut a);
            left.encode(&mut b);
            assert_eq!(a, b);
            b.push(1);
            assert_eq!(HyperLogLog::decode(&b), Some((whole, a.len())));
            assert!(HyperLogLog::decode(&a[..a.len() - 1]).is_none());
        }
    }

    #[test]
    fn fine_registers_fold_into_what_the_hash_itself_would_set() {
        let mut rng = StdRng::seed_from_u64(5);
        for precision in [4u8, 9, 18] {
            for _ in 0..2_000 {
                let hash =
                    rng.random::<u64>() >> rng.random_range(0..64) << rng.random_range(0..64);
                let mut direct = HyperLogLog::new(precision);
                direct.registers = Registers::Dense(vec![0; 1 << precision]);
                let mut folded = direct.clone();
                direct.add_hash(hash);
                let mut list = HyperLogLog::new(18);
                list.add_hash(hash);
                let Registers::Sparse(list) = list.registers else {
                    panic!("one entry is a list")
                };
                folded.add_fine(list[0]);
                assert_eq!(direct, folded, "{hash:016x}");
            }
        }
    }

    #[test]
    fn damage_is_noticed_and_precisions_do_not_mix() {
        let mut rng = StdRng::seed_from_u64(3);
        for _ in 0..2000 {
            let mut garbage: Vec<u8> = (0..rng.random_range(0..60)).map(|_| rng.random()).collect();
            if let Some(first) = garbage.first_mut() {
                *first = *first % 2 * 0x80 + 4;
            }
            if let Some((sketch, used)) = HyperLogLog::decode(&garbage) {
                assert!(used <= garbage.len());
                let _ = sketch.estimate();
            }
        }
        let error = HyperLogLog::new(9).merge(&HyperLogLog::new(10));
        assert!(matches!(
            error,
            Err(RowError::Precision {
                ours: 9,
                theirs: 10
            })
        ));
        assert_eq!(HyperLogLog::precision_for(0.05), 9);
    }
}
