//! Where the strings of a column end.

/// The ends of strings that lie one behind the other, in bytes; or of any runs in a row.
///
/// Many columns hold strings of one length, and once [compacted](Ends::compact) such ends take no memory.
#[derive(Clone, Debug)]
pub enum Ends {
    /// That of each.
    Each(Vec<u32>),
    /// Strings of this length, so many of them.
    Every(u32, usize),
}

impl Default for Ends {
    fn default() -> Self {
        Self::new()
    }
}

impl Ends {
    /// Of no strings.
    pub const fn new() -> Self {
        Self::Each(vec![])
    }

    /// Of no strings, with room for so many.
    pub fn with_capacity(strings: usize) -> Self {
        Self::Each(Vec::with_capacity(strings))
    }

    /// The number of strings.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::Each(ends) => ends.len(),
            Self::Every(_, count) => *count,
        }
    }

    /// Whether there are no strings.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where string `i` ends.
    #[inline]
    pub fn get(&self, i: usize) -> usize {
        match self {
            Self::Each(ends) => ends[i] as usize,
            Self::Every(length, count) => {
                assert!(i < *count, "string {i} of {count}");
                *length as usize * (i + 1)
            }
        }
    }

    /// Where string `i` starts; `i` may be the length.
    #[inline]
    pub fn start(&self, i: usize) -> usize {
        match self {
            Self::Each(_) if i == 0 => 0,
            Self::Each(ends) => ends[i - 1] as usize,
            Self::Every(length, _) => *length as usize * i,
        }
    }

    /// Where each string ends.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u32> {
        (0..self.len()).map(|i| self.get(i) as u32)
    }

    /// The ends, each for itself.
    fn each(&mut self) -> &mut Vec<u32> {
        if let Self::Every(..) = self {
            *self = Self::Each(self.iter().collect());
        }
        match self {
            Self::Each(ends) => ends,
            Self::Every(..) => unreachable!("each was spelt out just above"),
        }
    }

    /// Appends an end that is not before the others.
    #[inline]
    pub fn push(&mut self, end: u32) {
        self.each().push(end);
    }

    /// Moves the last end, if there is one, so far back.
    #[inline]
    pub fn extend_last(&mut self, by: u32) {
        if let Some(last) = self.each().last_mut() {
            *last += by;
        }
    }

    /// Appends ends `from..to` of `other`, none of them behind `limit`, of strings that lay behind `cut` there and lie
    /// behind `base` here.
    pub fn extend_range(
        &mut self,
        (other, from, to): (&Self, usize, usize),
        limit: u32,
        (cut, base): (u32, u32),
    ) {
        // The shift may go either way; modulo 2^32 both are an addition.
        let shift = base.wrapping_sub(cut);
        let shifted = |end: u32| end.min(limit).wrapping_add(shift);
        match other {
            Self::Each(ends) => self
                .each()
                .extend(ends[from..to].iter().map(|e| shifted(*e))),
            Self::Every(..) => {
                let ends = (from..to).map(|i| shifted(other.get(i) as u32));
                self.each().extend(ends);
            }
        }
    }

    /// The first string from `start` on that ends at `place` or behind it.
    #[inline]
    pub fn first_reaching(&self, start: usize, place: usize) -> usize {
        match self {
            Self::Each(ends) => {
                start + ends[start..].partition_point(|end| (*end as usize) < place)
            }
            Self::Every(0, count) if place > 0 => *count,
            Self::Every(length, count) => {
                let before = place.div_ceil((*length as usize).max(1)).saturating_sub(1);
                before.clamp(start, *count)
            }
        }
    }

    /// Forgets all strings, keeps the memory.
    pub fn clear(&mut self) {
        match self {
            Self::Each(ends) => ends.clear(),
            Self::Every(..) => *self = Self::new(),
        }
    }

    /// Takes no more memory than it has to.
    pub fn compact(&mut self) {
        let Self::Each(ends) = self else { return };
        let Some(length) = ends.first().copied() else {
            *self = Self::new();
            return;
        };
        let mut expected = 0u64;
        let regular = ends.iter().all(|end| {
            expected += u64::from(length);
            u64::from(*end) == expected
        });
        if regular {
            *self = Self::Every(length, ends.len());
        } else {
            shrink(ends);
        }
    }

    /// The memory in use.
    #[inline]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Each(ends) => 4 * ends.len(),
            Self::Every(..) => 0,
        }
    }
}

impl PartialEq for Ends {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Ends {}

/// Gives memory back, unless it is less than an eighth of what is used. By a copy: an allocator may leave a block that
/// is half empty as it is.
pub fn shrink<T: Copy>(values: &mut Vec<T>) {
    if values.capacity() - values.len() > values.len() / 32 {
        *values = values.as_slice().to_vec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compacted_ends_are_the_same() {
        for lengths in [
            &[][..],
            &[0],
            &[0, 0, 0],
            &[3, 3, 3],
            &[3, 3, 4],
            &[0, 3],
            &[1, 1, 1, 1],
        ] {
            let mut plain = Ends::new();
            for length in lengths {
                plain.push(plain.iter().last().unwrap_or(0) + length);
            }
            let mut compact = plain.clone();
            compact.compact();
            let regular = lengths
                .first()
                .is_some_and(|first| lengths.iter().all(|l| l == first));
            assert_eq!(matches!(compact, Ends::Every(..)), regular, "{lengths:?}");
            assert_eq!(compact, plain);
            let all = lengths.iter().sum::<u32>() as usize;
            for i in 0..=lengths.len() {
                assert_eq!(compact.start(i), plain.start(i));
                for place in 0..=all + 1 {
                    let (a, b) = (
                        compact.first_reaching(i, place),
                        plain.first_reaching(i, place),
                    );
                    assert_eq!(a, b, "{lengths:?} from {i} to {place}");
                }
                let mut extended = [plain.clone(), compact.clone()];
                for (ends, of) in extended.iter_mut().zip([&compact, &plain]) {
                    let cut = of.start(i) as u32;
                    ends.extend_range((of, i, lengths.len()), u32::MAX, (cut, all as u32));
                    ends.push(1000);
                    ends.extend_last(1);
                }
                assert_eq!(extended[0], extended[1]);
            }
            compact.clear();
            assert!(compact.is_empty());
        }
    }
}
