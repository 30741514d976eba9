//! `bit_and`, `bit_or` and `bit_xor` of whole numbers that can be taken away again.

use crate::row::varint;

/// How the bits of all values become one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BitOperation {
    /// Set where all have it set.
    And,
    /// Set where any has it set.
    Or,
    /// Set where an odd number has it set.
    Xor,
}

/// How many values there are, and how many of them have each bit set.
#[derive(Clone, Debug)]
pub struct Bits {
    count: i64,
    set: [i64; 64],
}

impl Default for Bits {
    fn default() -> Self {
        Self {
            count: 0,
            set: [0; 64],
        }
    }
}

impl Bits {
    /// Adds `value`, `multiplicity` times; below zero takes it away.
    pub fn add(&mut self, value: i64, multiplicity: i64) {
        self.count += multiplicity;
        for (bit, set) in self.set.iter_mut().enumerate() {
            *set += (value >> bit & 1) * multiplicity;
        }
    }

    /// Adds all that `other` has added.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        for (ours, theirs) in self.set.iter_mut().zip(&other.set) {
            *ours += theirs;
        }
    }

    /// The result; `None` of no values.
    pub fn finish(&self, operation: BitOperation) -> Option<i64> {
        let holds = |set: i64| match operation {
            BitOperation::And => set == self.count,
            BitOperation::Or => set > 0,
            BitOperation::Xor => set % 2 != 0,
        };
        let bits = self.set.iter().enumerate();
        (self.count > 0)
            .then(|| bits.fold(0, |value, (bit, set)| value | i64::from(holds(*set)) << bit))
    }

    /// Appends the counts.
    pub fn encode(&self, out: &mut Vec<u8>) {
        varint::put_signed(out, self.count);
        for set in &self.set {
            varint::put_signed(out, *set);
        }
    }

    /// Takes what [`Bits::encode`] wrote off the front of `bytes`; `None` if it was not that.
    pub fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let mut bits = Self {
            count: varint::take_signed(bytes)?,
            ..Self::default()
        };
        for set in &mut bits.set {
            *set = varint::take_signed(bytes)?;
        }
        Some(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_and_go() {
        let mut bits = Bits::default();
        for value in [3, 5, -8] {
            bits.add(value, 1);
        }
        bits.add(-8, -1);
        let mut bytes = vec![];
        bits.encode(&mut bytes);
        let read = Bits::decode(&mut &bytes[..]).unwrap();
        let all = [BitOperation::And, BitOperation::Or, BitOperation::Xor];
        assert_eq!(all.map(|op| read.finish(op)), [Some(1), Some(7), Some(6)]);
        assert_eq!(Bits::default().finish(BitOperation::Or), None);
        bits.add(-1, 1);
        assert_eq!(bits.finish(BitOperation::Or), Some(-1));
    }
}
