//! Vectors of values and which of them are null: what columns under construction are made of.

use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

/// Values of one width.
#[derive(Debug, Default)]
pub(crate) struct Values<T> {
    pub(crate) values: Vec<T>,
    pub(super) valid: Vec<bool>,
}

impl<T: Default> Values<T> {
    #[inline]
    pub(crate) fn push(&mut self, value: T) {
        self.values.push(value);
        self.valid.push(true);
    }

    /// Pushes the value, or null and `false` where there is none.
    #[inline]
    pub(crate) fn push_option(&mut self, value: Option<T>) -> bool {
        self.valid.push(value.is_some());
        let found = value.is_some();
        self.values.push(value.unwrap_or_default());
        found
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.values.truncate(length);
        self.valid.truncate(length);
    }

    pub(super) fn take(&mut self) -> (ScalarBuffer<T>, Option<NullBuffer>)
    where
        T: arrow::datatypes::ArrowNativeType,
    {
        (
            ScalarBuffer::from(std::mem::take(&mut self.values)),
            take_nulls(&mut self.valid),
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
    pub(super) valid: Vec<bool>,
}

impl Bytes {
    pub(crate) fn new() -> Self {
        Self {
            values: Vec::new(),
            ends: Vec::new(),
            valid: Vec::new(),
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, value: &[u8]) {
        self.values.extend_from_slice(value);
        self.seal(true);
    }

    /// Ends the value whose bytes were appended to `values`.
    #[inline]
    pub(crate) fn seal(&mut self, valid: bool) {
        self.ends.push(self.values.len() as i32);
        self.valid.push(valid);
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
        self.valid.truncate(length);
    }

    pub(super) fn take(&mut self) -> (OffsetBuffer<i32>, Buffer, Option<NullBuffer>) {
        let offsets = take_offsets(&mut self.ends);
        (
            offsets,
            Buffer::from_vec(std::mem::take(&mut self.values)),
            take_nulls(&mut self.valid),
        )
    }
}

pub(super) fn take_offsets(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    offsets.append(ends);
    OffsetBuffer::new(ScalarBuffer::from(offsets))
}
