//! A flat column of byte strings: one buffer, and where each string ends.

use crate::row::ends::{Ends, shrink};
use crate::row::error::{Result, RowError};

/// A column of byte strings in one buffer.
///
/// Offsets are 32 bits wide. A string is at most [`Bytes::MAX_VALUE`] bytes long and a column
/// [is full](Bytes::is_full) from [`Bytes::FULL`] bytes on; one that is not full takes any string, so
/// the offsets cannot overflow. Codecs report what does not fit as an error ([`Bytes::try_push`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    buf: Vec<u8>,
    ends: Ends,
}

impl Bytes {
    /// The longest string: 1 GiB.
    pub const MAX_VALUE: usize = 1 << 30;
    /// From 2 GiB on a column takes no more.
    pub const FULL: usize = 1 << 31;

    /// An empty column.
    pub const fn new() -> Self {
        Self {
            buf: Vec::new(),
            ends: Ends::new(),
        }
    }

    /// An empty column with room for `rows` strings of `bytes` bytes together.
    pub fn with_capacity(rows: usize, bytes: usize) -> Self {
        Self {
            buf: Vec::with_capacity(bytes),
            ends: Ends::with_capacity(rows),
        }
    }

    /// The number of strings.
    #[inline]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no string.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Whether nothing more may be pushed.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.buf.len() >= Self::FULL
    }

    /// Where string `i` starts in the buffer; `i` may be the length.
    #[inline]
    fn start(&self, i: usize) -> usize {
        self.ends.start(i)
    }

    /// String `i`.
    #[inline]
    pub fn get(&self, i: usize) -> &[u8] {
        &self.buf[self.start(i)..self.ends.get(i)]
    }

    /// The last string.
    #[inline]
    pub fn last(&self) -> Option<&[u8]> {
        self.ends.len().checked_sub(1).map(|i| self.get(i))
    }

    /// Appends a string. The caller sees to it that the column is not full and the string not too
    /// long; [`Bytes::try_push`] checks.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
        self.end_row();
    }

    /// Appends a string, unless it is too long or the column full.
    #[inline]
    pub fn try_push(&mut self, bytes: &[u8]) -> Result<()> {
        self.check(bytes.len())?;
        self.push(bytes);
        Ok(())
    }

    /// Appends `a` followed by `b` as one string.
    #[inline]
    pub fn try_push_pair(&mut self, a: &[u8], b: &[u8]) -> Result<()> {
        self.check(a.len() + b.len())?;
        self.buf.extend_from_slice(a);
        self.push(b);
        Ok(())
    }

    /// Appends the string that `write` appends to the buffer; on an error nothing is appended.
    #[inline]
    pub fn try_push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        self.check(0)?;
        let start = self.buf.len();
        write(&mut self.buf);
        let bytes = self.buf.len() - start;
        if bytes > Self::MAX_VALUE {
            self.buf.truncate(start);
            return Err(RowError::TooLarge {
                bytes,
                limit: Self::MAX_VALUE,
            });
        }
        self.end_row();
        Ok(())
    }

    fn check(&self, bytes: usize) -> Result<()> {
        if bytes > Self::MAX_VALUE {
            return Err(RowError::TooLarge {
                bytes,
                limit: Self::MAX_VALUE,
            });
        }
        if self.is_full() {
            return Err(RowError::Full {
                bytes: self.buf.len(),
            });
        }
        Ok(())
    }

    #[inline]
    fn end_row(&mut self) {
        let end = u32::try_from(self.buf.len());
        self.ends.push(
            end.expect("a column that is not full holds less than 4 GiB with one more string"),
        );
    }

    /// Appends strings `from..to` of `other`.
    #[inline]
    pub fn extend_range(&mut self, other: &Self, from: usize, to: usize) {
        if from >= to {
            return;
        }
        let (start, end) = (other.start(from), other.ends.get(to - 1));
        let base = self.buf.len();
        self.buf.extend_from_slice(&other.buf[start..end]);
        assert!(
            u32::try_from(self.buf.len()).is_ok(),
            "a byte column takes less than 4 GiB"
        );
        let ends = (&other.ends, from, to);
        self.ends
            .extend_range(ends, u32::MAX, (start as u32, base as u32));
    }

    /// Forgets all strings, keeps the memory.
    pub fn clear(&mut self) {
        self.buf.clear();
        self.ends.clear();
    }

    /// Takes no more memory than it has to, or little more.
    pub fn compact(&mut self) {
        shrink(&mut self.buf);
        self.ends.compact();
    }

    /// The strings in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        (0..self.len()).map(|i| self.get(i))
    }

    /// The memory in use: strings and offsets.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.buf.len() + self.ends.bytes()
    }

    /// All strings, one after the other.
    #[inline]
    pub fn concat(&self) -> &[u8] {
        &self.buf
    }

    /// Where each string ends in [`Bytes::concat`].
    #[inline]
    pub fn ends(&self) -> &Ends {
        &self.ends
    }

    /// A column of its parts. `None` unless the ends ascend and the last is the buffer's length.
    pub fn from_parts(buf: Vec<u8>, ends: Vec<u32>) -> Option<Self> {
        let sorted = ends.is_sorted();
        let length = ends.last().map_or(0, |end| *end as usize);
        (sorted && length == buf.len()).then_some(Self {
            buf,
            ends: Ends::Each(ends),
        })
    }
}

impl<'a> FromIterator<&'a [u8]> for Bytes {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(strings: I) -> Self {
        let mut column = Self::new();
        for string in strings {
            column.push(string);
        }
        column
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_back_in_order() {
        let mut column = Bytes::new();
        for s in ["", "a", "bcd", ""] {
            column.try_push(s.as_bytes()).unwrap();
        }
        column.try_push_pair(b"x", b"yz").unwrap();
        let all: Vec<_> = column.iter().collect();
        assert_eq!(all, [&b""[..], b"a", b"bcd", b"", b"xyz"]);
        assert_eq!(column.last(), Some(&b"xyz"[..]));
    }

    #[test]
    fn ranges_are_copied_with_their_offsets_shifted() {
        let source: Bytes = [&b"one"[..], b"", b"three", b"four"].into_iter().collect();
        let mut target: Bytes = [&b"zero"[..]].into_iter().collect();
        target.extend_range(&source, 1, 3);
        target.extend_range(&source, 0, 0);
        target.extend_range(&source, 3, 4);
        assert_eq!(
            target.iter().collect::<Vec<_>>(),
            [&b"zero"[..], b"", b"three", b"four"]
        );
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        assert!(Bytes::from_parts(vec![1, 2, 3], vec![1, 3]).is_some());
        assert!(Bytes::from_parts(vec![1, 2, 3], vec![3, 1]).is_none());
        assert!(Bytes::from_parts(vec![1, 2, 3], vec![1, 2]).is_none());
        assert!(Bytes::from_parts(vec![], vec![]).is_some());
    }

    #[test]
    fn what_would_not_fit_is_refused_before_it_is_copied() {
        let mut column = Bytes::new();
        column.push(b"a");
        let error = column.check(Bytes::MAX_VALUE + 1);
        assert!(matches!(error, Err(RowError::TooLarge { .. })));
        assert!(column.check(Bytes::MAX_VALUE).is_ok() && !column.is_full());
    }
}
