//! A sum of doubles that does not depend on the order in which they came.
//!
//! Floating-point addition rounds at every step, so the sum of the same rows would differ with the
//! number of workers or the cut into epochs, and a retraction would not undo what it retracts. An
//! [`ExactSum`] adds into a fixed-point number wide enough for every double (a superaccumulator, as in
//! Kulisch's exact dot product; the lazily propagated 32-bit limbs are Neal's, arXiv 1505.05571), and
//! rounds once, when it is read. Only the limbs in use are kept.

use std::fmt;

use smallvec::SmallVec;

use crate::row::varint;

/// Bit 0 of the fixed-point number weighs 2^-1074, the smallest subnormal.
const LIMB_BITS: usize = 32;
const LIMB_MASK: i64 = (1 << LIMB_BITS) - 1;
/// Doubles reach up to bit 2098; multiplicities and counts add less than 128 bits more.
const MAX_BYTES: usize = 288;
/// Each addition adds less than 2^33 to a limb: so many leave it below 2^62.
const MAX_PENDING: u32 = 1 << 28;

/// The exact sum of a multiset of doubles.
///
/// Infinities and NaN are counted apart, so that they too can be taken away again.
#[derive(Clone, Default)]
pub struct ExactSum {
    /// The index of the first limb in use.
    base: u8,
    /// Additions since the carries were last propagated.
    pending: u32,
    /// Limb `i` weighs 2^(32 (base + i)), in units of 2^-1074. Each may be negative or exceed 32 bits.
    limbs: SmallVec<[i64; 4]>,
    special: Option<Box<Special>>,
}

/// How often each value that is no number was added.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Special {
    nan: i64,
    positive: i64,
    negative: i64,
}

impl ExactSum {
    /// The sum of nothing: 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `value`, `multiplicity` times; below zero takes it away.
    #[inline]
    pub fn add(&mut self, value: f64, multiplicity: i64) {
        let bits = value.to_bits();
        let exponent = (bits >> 52) as usize & 0x7ff;
        if exponent == 0x7ff {
            self.add_special(value, multiplicity);
            return;
        }
        let fraction = bits & ((1 << 52) - 1);
        // Subnormals have the exponent of the smallest normal numbers, and no hidden bit.
        let (mantissa, shift) = match exponent {
            0 => (fraction, 0),
            _ => (fraction | 1 << 52, exponent - 1),
        };
        if mantissa == 0 || multiplicity == 0 {
            return;
        }
        let negative = (bits >> 63 != 0) != (multiplicity < 0);
        let (limb, offset) = (shift / LIMB_BITS, shift % LIMB_BITS);
        let product = u128::from(mantissa) * u128::from(multiplicity.unsigned_abs());
        if product >> 64 == 0 {
            self.add_shifted(limb, product << offset, negative);
        } else {
            self.add_shifted(limb, (product & u128::from(u64::MAX)) << offset, negative);
            self.add_shifted(limb + 2, (product >> 64) << offset, negative);
        }
    }

    /// Adds `magnitude` (below 2^96) at `limb`.
    #[inline]
    fn add_shifted(&mut self, limb: usize, magnitude: u128, negative: bool) {
        let at = self.window(limb, 3);
        let sign = if negative { -1 } else { 1 };
        let limbs = &mut self.limbs[at..at + 3];
        limbs[0] += sign * (magnitude as i64 & LIMB_MASK);
        limbs[1] += sign * ((magnitude >> 32) as i64 & LIMB_MASK);
        limbs[2] += sign * ((magnitude >> 64) as i64 & LIMB_MASK);
        self.pending += 1;
        if self.pending >= MAX_PENDING {
            self.normalise();
        }
    }

    /// Makes limbs `limb..limb + count` exist, and says where they are.
    #[inline]
    fn window(&mut self, limb: usize, count: usize) -> usize {
        let base = usize::from(self.base);
        if limb >= base && limb + count <= base + self.limbs.len() {
            return limb - base;
        }
        self.widen(limb, count)
    }

    #[cold]
    fn widen(&mut self, limb: usize, count: usize) -> usize {
        if self.limbs.is_empty() {
            self.base = limb as u8;
        }
        let base = usize::from(self.base);
        if limb < base {
            self.limbs
                .insert_many(0, std::iter::repeat_n(0, base - limb));
            self.base = limb as u8;
        }
        let base = usize::from(self.base);
        if self.limbs.len() < limb + count - base {
            self.limbs.resize(limb + count - base, 0);
        }
        limb - base
    }

    #[cold]
    fn add_special(&mut self, value: f64, multiplicity: i64) {
        let special = self.special.get_or_insert_default();
        if value.is_nan() {
            special.nan = special.nan.wrapping_add(multiplicity);
        } else if value > 0.0 {
            special.positive = special.positive.wrapping_add(multiplicity);
        } else {
            special.negative = special.negative.wrapping_add(multiplicity);
        }
        if **special == Special::default() {
            self.special = None;
        }
    }

    /// Adds all that `other` has added.
    pub fn merge(&mut self, other: &Self) {
        if let Some(theirs) = &other.special {
            let ours = self.special.get_or_insert_default();
            ours.nan = ours.nan.wrapping_add(theirs.nan);
            ours.positive = ours.positive.wrapping_add(theirs.positive);
            ours.negative = ours.negative.wrapping_add(theirs.negative);
            if **ours == Special::default() {
                self.special = None;
            }
        }
        if other.limbs.is_empty() {
            return;
        }
        if self.pending + other.pending >= MAX_PENDING {
            self.normalise();
        }
        let at = self.window(usize::from(other.base), other.limbs.len());
        for (ours, theirs) in self.limbs[at..].iter_mut().zip(&other.limbs) {
            *ours += theirs;
        }
        self.pending += other.pending + 1;
        if self.pending >= MAX_PENDING {
            self.normalise();
        }
    }

    /// Propagates the carries: every limb but the last is then in 0..2^32, and the last is less than
    /// 2^32 from zero and has the sum's sign.
    fn normalise(&mut self) {
        self.pending = 0;
        let Some(last) = self.limbs.len().checked_sub(1) else {
            return;
        };
        let mut carry = 0;
        for limb in &mut self.limbs[..last] {
            let sum = *limb + carry;
            *limb = sum & LIMB_MASK;
            carry = sum >> LIMB_BITS;
        }
        let mut top = self.limbs[last] + carry;
        self.limbs.truncate(last);
        while top.unsigned_abs() > LIMB_MASK as u64 {
            self.limbs.push(top & LIMB_MASK);
            top >>= LIMB_BITS;
        }
        self.limbs.push(top);
    }

    /// The sum as a sign and a magnitude in units of 2^-1074: the index of its first byte, and its
    /// bytes, of which neither the first nor the last is zero. That is unique.
    fn magnitude(&self) -> (bool, usize, SmallVec<[u8; 48]>) {
        let mut sum = self.clone();
        sum.normalise();
        // The last limb alone need not have the sum's sign when it is zero: look further down.
        while sum.limbs.last() == Some(&0) {
            sum.limbs.pop();
        }
        let negative = sum.limbs.last().is_some_and(|top| *top < 0);
        if negative {
            for limb in &mut sum.limbs {
                *limb = -*limb;
            }
            sum.normalise();
        }
        let mut bytes: SmallVec<[u8; 48]> = SmallVec::new();
        for limb in &sum.limbs {
            bytes.extend_from_slice(&(*limb as u32).to_le_bytes());
        }
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        let zeros = bytes.iter().take_while(|b| **b == 0).count();
        bytes.drain(..zeros);
        (negative, usize::from(sum.base) * 4 + zeros, bytes)
    }

    /// The double nearest to the sum, ties to even. Infinities of both signs together are NaN.
    pub fn value(&self) -> f64 {
        if let Some(special) = &self.special {
            match (special.nan, special.positive, special.negative) {
                (0, 0, _) => return f64::NEG_INFINITY,
                (0, _, 0) => return f64::INFINITY,
                _ => return f64::NAN,
            }
        }
        let (negative, base, bytes) = self.magnitude();
        let Some(last) = bytes.last() else { return 0.0 };
        let top = (base + bytes.len()) * 8 - 1 - last.leading_zeros() as usize;
        // The upper bytes as an integer, and the bit at which it begins: enough for the mantissa and the
        // half below it.
        let upper = &bytes[bytes.len().saturating_sub(16)..];
        let mut window = [0; 16];
        window[..upper.len()].copy_from_slice(upper);
        let window = u128::from_le_bytes(window);
        let start = (base + bytes.len() - upper.len()) * 8;
        let magnitude = if top <= 52 {
            // At most 53 bits from bit 0 on: the pattern of the double itself, subnormal or not.
            (window as u64) << start
        } else {
            let shift = top - 52;
            let mantissa = match shift.checked_sub(start) {
                Some(down) => (window >> down) as u64,
                None => (window as u64) << (start - shift),
            };
            let half = shift > start && window >> (shift - 1 - start) & 1 == 1;
            // No byte of the magnitude's lower end is zero: some bit is set below `half` unless the
            // lowest set bit lies at or above it.
            let lowest = base * 8 + bytes[0].trailing_zeros() as usize;
            let round = half && (lowest < shift - 1 || mantissa & 1 == 1);
            // The hidden bit counts one into the exponent, as does a mantissa that rounds up to 2^53.
            ((shift as u64) << 52) + mantissa + u64::from(round)
        };
        let magnitude = magnitude.min(f64::INFINITY.to_bits());
        f64::from_bits(magnitude | u64::from(negative) << 63)
    }

    /// Doubles that add up to the sum, the greatest first: up to 318 bits of it. None where it is not
    /// finite.
    pub fn terms(&self) -> SmallVec<[f64; 6]> {
        let mut rest = self.clone();
        let mut terms = SmallVec::new();
        while terms.len() < 6 {
            let term = rest.value();
            if term == 0.0 || !term.is_finite() {
                break;
            }
            terms.push(term);
            rest.add(term, -1);
        }
        terms
    }

    /// Whether the sum is exactly 0, and nothing that is no number is left in it.
    pub fn is_zero(&self) -> bool {
        self.special.is_none() && self.magnitude().2.is_empty()
    }

    /// Appends the sum: the same bytes for the same multiset, whatever the order.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (negative, base, bytes) = self.magnitude();
        let special = self.special.as_deref();
        out.push(
            u8::from(negative) | u8::from(special.is_some()) << 1 | u8::from(bytes.is_empty()) << 2,
        );
        if !bytes.is_empty() {
            varint::put(out, base as u64);
            varint::put(out, bytes.len() as u64);
            out.extend_from_slice(&bytes);
        }
        if let Some(special) = special {
            for count in [special.nan, special.positive, special.negative] {
                varint::put_signed(out, count);
            }
        }
    }

    /// Reads what [`ExactSum::encode`] wrote at the front of `bytes`: the sum, and how many bytes it
    /// took. `None` if no sum was written there.
    pub fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut rest = bytes;
        let [flags] = varint::take_array::<1>(&mut rest)?;
        if flags > 7 {
            return None;
        }
        let mut sum = Self::default();
        if flags & 4 == 0 {
            let base = varint::take_len(&mut rest, MAX_BYTES)?;
            let len = varint::take_len(&mut rest, MAX_BYTES - base)?;
            let magnitude = varint::take_slice(&mut rest, len)?;
            sum.base = (base / 4) as u8;
            sum.limbs = SmallVec::from_elem(0, (base % 4 + len).div_ceil(4));
            for (i, byte) in magnitude.iter().enumerate() {
                let at = base % 4 + i;
                sum.limbs[at / 4] |= i64::from(*byte) << (8 * (at % 4));
            }
            if flags & 1 != 0 {
                for limb in &mut sum.limbs {
                    *limb = -*limb;
                }
                sum.normalise();
            }
        }
        if flags & 2 != 0 {
            sum.special = Some(Box::new(Special {
                nan: varint::take_signed(&mut rest)?,
                positive: varint::take_signed(&mut rest)?,
                negative: varint::take_signed(&mut rest)?,
            }));
        }
        Some((sum, bytes.len() - rest.len()))
    }
}

impl fmt::Debug for ExactSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExactSum({:?})", self.value())
    }
}

impl PartialEq for ExactSum {
    fn eq(&self, other: &Self) -> bool {
        self.special == other.special && self.magnitude() == other.magnitude()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::prelude::*;

    /// The reference: a plain fixed-point number of 2,304 bits in two's complement.
    #[derive(Clone, PartialEq, Debug)]
    struct Big([u32; 72]);

    impl Big {
        fn add(&mut self, value: f64, times: i64) {
            let bits = value.to_bits();
            let exponent = (bits >> 52 & 0x7ff) as usize;
            let fraction = u128::from(bits & ((1 << 52) - 1));
            let mantissa = if exponent == 0 {
                fraction
            } else {
                fraction | 1 << 52
            };
            let mut product = mantissa * u128::from(times.unsigned_abs());
            let mut words = [0u32; 72];
            let shift = exponent.max(1) - 1;
            let mut at = shift;
            while product != 0 {
                if product & 1 != 0 {
                    words[at / 32] |= 1 << (at % 32);
                }
                product >>= 1;
                at += 1;
            }
            let negative = value.is_sign_negative() != (times < 0);
            let mut carry = u64::from(negative);
            for (ours, theirs) in self.0.iter_mut().zip(words) {
                let theirs = if negative { !theirs } else { theirs };
                let sum = u64::from(*ours) + u64::from(theirs) + carry;
                *ours = sum as u32;
                carry = sum >> 32;
            }
        }

        fn value(&self) -> f64 {
            let negative = self.0[71] >> 31 != 0;
            let mut words = self.0;
            if negative {
                let mut carry = 1;
                for word in &mut words {
                    let sum = u64::from(!*word) + carry;
                    *word = sum as u32;
                    carry = sum >> 32;
                }
            }
            let bit = |at: usize| words[at / 32] >> (at % 32) & 1 != 0;
            let Some(top) = (0..72 * 32).rev().find(|at| bit(*at)) else {
                return 0.0;
            };
            // By repeated halving in the exact domain: the mantissa as an integer, then scaled.
            let shift = top.saturating_sub(52);
            let mut mantissa = (0..53)
                .filter(|i| bit(shift + i))
                .fold(0u64, |m, i| m | 1 << i);
            if shift > 0 {
                let half = bit(shift - 1);
                let sticky = (0..shift - 1).any(bit);
                if half && (sticky || mantissa & 1 == 1) {
                    mantissa += 1;
                }
            }
            let mut value = mantissa as f64 * f64::from_bits(1);
            for _ in 0..shift {
                value *= 2.0;
            }
            if negative { -value } else { value }
        }
    }

    fn random(rng: &mut StdRng) -> f64 {
        match rng.random_range(0..6) {
            0 => f64::from_bits(rng.random::<u64>() & !(0x7ff << 52)),
            1 => rng.random_range(-1e6..1e6),
            2 => f64::from(rng.random_range(-1000i32..1000)),
            3 => rng.random_range(-1.0..1.0) * 1e300,
            4 => rng.random_range(-1.0..1.0) * 1e-300,
            _ => loop {
                let x = f64::from_bits(rng.random());
                if x.is_finite() {
                    break x;
                }
            },
        }
    }

    #[test]
    fn sums_equal_those_of_wide_integers_in_any_order() {
        let mut rng = StdRng::seed_from_u64(7);
        for round in 0..300 {
            let n = rng.random_range(1..60);
            let mut values: Vec<(f64, i64)> = (0..n)
                .map(|_| {
                    let times = match rng.random_range(0..4) {
                        0 => rng.random_range(-5..6),
                        1 => rng.random::<i64>() >> rng.random_range(0..63),
                        _ => 1,
                    };
                    (random(&mut rng), times)
                })
                .collect();
            let mut big = Big([0; 72]);
            let mut sum = ExactSum::new();
            for (value, times) in &values {
                big.add(*value, *times);
                sum.add(*value, *times);
            }
            assert_eq!(
                sum.value().to_bits(),
                (big.value() + 0.0).to_bits(),
                "round {round}"
            );
            let mut bytes = vec![];
            sum.encode(&mut bytes);

            values.shuffle(&mut rng);
            let cut = rng.random_range(0..=values.len());
            let (mut left, mut right) = (ExactSum::new(), ExactSum::new());
            values[..cut].iter().for_each(|(v, t)| left.add(*v, *t));
            values[cut..].iter().for_each(|(v, t)| right.add(*v, *t));
            let mut stored = vec![9];
            right.encode(&mut stored);
            let (decoded, used) = ExactSum::decode(&stored[1..]).unwrap();
            assert_eq!(used, stored.len() - 1);
            assert_eq!(decoded, right);
            left.merge(&decoded);
            let mut again = vec![];
            left.encode(&mut again);
            assert_eq!(bytes, again, "round {round}");

            for (value, times) in &values {
                left.add(*value, times.wrapping_neg());
                if *times == i64::MIN {
                    left.add(*value, 0);
                }
            }
            if values.iter().all(|(_, t)| *t != i64::MIN) {
                assert!(left.is_zero());
                assert_eq!(left.value().to_bits(), 0);
            }
        }
    }

    #[test]
    fn small_numbers_survive_great_ones() {
        let mut sum = ExactSum::new();
        for value in [1e300, 1.0, f64::MIN_POSITIVE, -1e300, f64::from_bits(1)] {
            sum.add(value, 1);
        }
        sum.add(-1.0, 1);
        assert_eq!(sum.value(), f64::MIN_POSITIVE + f64::from_bits(1));
    }

    #[test]
    fn ties_go_to_even_and_what_is_too_great_is_infinite() {
        let mut sum = ExactSum::new();
        sum.add(9_007_199_254_740_992.0, 1);
        sum.add(1.0, 1);
        assert_eq!(sum.value(), 9_007_199_254_740_992.0);
        sum.add(f64::from_bits(1), 1);
        assert_eq!(sum.value(), 9_007_199_254_740_994.0);
        let mut sum = ExactSum::new();
        sum.add(f64::MAX, 2);
        assert_eq!(sum.value(), f64::INFINITY);
        sum.add(f64::MAX, -1);
        assert_eq!(sum.value(), f64::MAX);
    }

    #[test]
    fn infinities_and_nan_can_be_taken_away() {
        let mut sum = ExactSum::new();
        sum.add(2.5, 1);
        sum.add(f64::INFINITY, 1);
        assert_eq!(sum.value(), f64::INFINITY);
        sum.add(f64::NEG_INFINITY, 1);
        assert!(sum.value().is_nan());
        sum.add(f64::INFINITY, -1);
        assert_eq!(sum.value(), f64::NEG_INFINITY);
        sum.add(f64::NAN, 1);
        let mut bytes = vec![];
        sum.encode(&mut bytes);
        let mut sum = ExactSum::decode(&bytes).unwrap().0;
        assert!(sum.value().is_nan());
        sum.add(f64::NAN, -1);
        sum.add(f64::NEG_INFINITY, -1);
        assert_eq!(sum.value(), 2.5);
    }

    #[test]
    fn many_additions_normalise_in_time() {
        let mut sum = ExactSum::new();
        sum.add(1.5, 1);
        sum.pending = MAX_PENDING - 3;
        for _ in 0..1000 {
            sum.add(-0.1, 1);
        }
        let mut other = ExactSum::new();
        other.add(0.1, 1000);
        sum.merge(&other);
        assert_eq!(sum.value(), 1.5);
    }

    #[test]
    fn simple_sums_are_short_on_disk_and_damage_is_noticed() {
        let mut sum = ExactSum::new();
        sum.add(100.0, 3);
        let mut bytes = vec![];
        sum.encode(&mut bytes);
        assert!(bytes.len() <= 6, "{bytes:?}");
        assert!(ExactSum::decode(&bytes[..bytes.len() - 1]).is_none());
        let mut rng = StdRng::seed_from_u64(3);
        for _ in 0..2000 {
            let garbage: Vec<u8> = (0..rng.random_range(0..40))
                .map(|_| rng.random_range(0..60))
                .collect();
            if let Some((sum, used)) = ExactSum::decode(&garbage) {
                assert!(used <= garbage.len());
                let _ = sum.value();
            }
        }
    }
}
