//! Vectors of values and which of them are null: what columns under construction are made of.

use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

/// Which of some values are null.
#[derive(Debug, Default)]
struct Validity {
    /// Empty as long as none is.
    valid: Vec<bool>,
}

impl Validity {
    /// Says of the value behind `before` others whether it is valid.
    #[inline]
    fn push(&mut self, before: usize, valid: bool) {
        if !valid || !self.valid.is_empty() {
            self.valid.resize(before, true);
            self.valid.push(valid);
        }
    }

    fn take(&mut self) -> Option<NullBuffer> {
        if self.valid.is_empty() {
            None
        } else {
            take_nulls(&mut self.valid)
        }
    }
}

/// Values of one width.
#[derive(Debug, Default)]
pub(crate) struct Values<T> {
    pub(crate) values: Vec<T>,
    validity: Validity,
}

impl<T: Default> Values<T> {
    #[inline]
    pub(crate) fn push(&mut self, value: T) {
        self.push_option(Some(value));
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// Pushes the value, or null and `false` where there is none.
    #[inline]
    pub(crate) fn push_option(&mut self, value: Option<T>) -> bool {
        self.validity.push(self.values.len(), value.is_some());
        let found = value.is_some();
        self.values.push(value.unwrap_or_default());
        found
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.values.truncate(length);
        self.validity.valid.truncate(length);
    }

    pub(super) fn take_nulls(&mut self) -> Option<NullBuffer> {
        self.validity.take()
    }

    pub(super) fn take(&mut self) -> (ScalarBuffer<T>, Option<NullBuffer>)
    where
        T: arrow::datatypes::ArrowNativeType,
    {
        let room = Vec::with_capacity(self.values.len());
        (
            ScalarBuffer::from(std::mem::replace(&mut self.values, room)),
            self.validity.take(),
        )
    }
}

pub(super) fn take_nulls(valid: &mut Vec<bool>) -> Option<NullBuffer> {
    let nulls = NullBuffer::from(std::mem::take(valid));
    (nulls.null_count() > 0).then_some(nulls)
}

/// Values of any length: text or bytes.
#[derive(Debug)]
pub(crate) struct Bytes {
    pub(crate) values: Vec<u8>,
    /// Where each value ends.
    ends: Vec<i32>,
    validity: Validity,
}

impl Bytes {
    pub(crate) fn new() -> Self {
        Self {
            values: Vec::new(),
            ends: Vec::new(),
            validity: Validity::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    #[inline]
    pub(crate) fn push(&mut self, value: &[u8]) {
        self.values.extend_from_slice(value);
        self.seal(true);
    }

    /// Pushes the first `length` of `bytes`. Short ones are copied with what follows them, which is
    /// cut off again: a copy of a fixed length is quicker than one of any length.
    #[inline]
    pub(crate) fn push_start(&mut self, bytes: &[u8], length: usize) {
        match bytes.first_chunk::<16>() {
            Some(chunk) if length <= chunk.len() => {
                let end = self.values.len() + length;
                self.values.extend_from_slice(chunk);
                self.values.truncate(end);
            }
            _ => self.values.extend_from_slice(&bytes[..length]),
        }
        self.seal(true);
    }

    /// Ends the value whose bytes were appended to `values`.
    #[inline]
    pub(crate) fn seal(&mut self, valid: bool) {
        self.validity.push(self.ends.len(), valid);
        self.ends.push(self.values.len() as i32);
    }

    /// Drops what was appended to `values` since the last `seal`.
    pub(crate) fn unwind(&mut self) {
        self.values.truncate(self.start_of(self.ends.len()));
    }

    fn start_of(&self, row: usize) -> usize {
        self.ends[..row.min(self.ends.len())]
            .last()
            .map_or(0, |end| *end as usize)
    }

    pub(crate) fn truncate(&mut self, length: usize) {
        self.values.truncate(self.start_of(length));
        self.ends.truncate(length);
        self.validity.valid.truncate(length);
    }

    pub(super) fn take(&mut self) -> (OffsetBuffer<i32>, Buffer, Option<NullBuffer>) {
        let offsets = take_offsets(&mut self.ends);
        (
            offsets,
            Buffer::from_vec(std::mem::take(&mut self.values)),
            self.validity.take(),
        )
    }
}

pub(super) fn take_offsets(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    offsets.append(ends);
    OffsetBuffer::new(ScalarBuffer::from(offsets))
}
