//! The bytes of a section, read piece by piece: nobody holds all of them.

use std::io::Read;

use crate::row::varint;
use crate::state::error::{Result, StateError};

/// A section's bytes on their way in, of which a reader may want more than there are.
pub struct Input<'a> {
    bytes: Box<dyn Read + 'a>,
    length: u64,
    left: u64,
}

impl<'a> Input<'a> {
    /// The first `length` bytes that `bytes` gives.
    pub fn new(bytes: impl Read + 'a, length: u64) -> Self {
        Self {
            bytes: Box::new(bytes),
            length,
            left: length,
        }
    }

    /// How many bytes were taken.
    pub(super) fn offset(&self) -> u64 {
        self.length - self.left
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// An error about what begins at byte `offset`.
    pub(in crate::state) fn corrupt(offset: u64, what: &'static str) -> StateError {
        let offset = offset as usize;
        StateError::Corrupt { offset, what }
    }

    /// Fills `into`. Where that much is not left, `what` is wrong.
    fn fill(&mut self, into: &mut [u8], what: &'static str) -> Result<()> {
        if into.len() as u64 > self.left {
            return Err(Self::corrupt(self.offset(), what));
        }
        self.bytes.read_exact(into).map_err(StateError::Read)?;
        self.left -= into.len() as u64;
        Ok(())
    }

    pub(super) fn take_array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    /// Takes `len` bytes; memory is taken only for what is there.
    pub(super) fn take(&mut self, len: usize, what: &'static str) -> Result<Vec<u8>> {
        if len as u64 > self.left {
            return Err(Self::corrupt(self.offset(), what));
        }
        let mut bytes = vec![0; len];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    /// Takes what [`varint::put`] wrote, if it is not more than `limit`.
    pub(super) fn take_len(&mut self, limit: usize, what: &'static str) -> Result<usize> {
        let offset = self.offset();
        let mut bytes = [0; varint::MAX_LEN];
        let mut n = 0;
        while n < bytes.len() {
            let [byte] = self.take_array(what)?;
            bytes[n] = byte;
            n += 1;
            if byte < 0x80 {
                break;
            }
        }
        varint::take_len(&mut &bytes[..n], limit).ok_or_else(|| Self::corrupt(offset, what))
    }
}

impl<'a> From<&'a [u8]> for Input<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::new(bytes, bytes.len() as u64)
    }
}

impl std::fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input")
            .field("length", &self.length)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
