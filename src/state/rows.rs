//! Rows on their way into a trace, in memory and as a message between processes.

use crate::row::{Bytes, RowError, varint};
use crate::state::column::Column;
use crate::state::error::{Result, StateError};
use crate::time::{EventTime, Time};

/// Encoded rows of one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// When they happened.
    pub time: Time,
    /// The key of each row.
    pub keys: Bytes,
    /// The value of each row.
    pub vals: Bytes,
    /// How often each row was added, or taken away.
    pub diffs: Column<i64>,
    /// When each may be forgotten: once a watermark has reached it.
    pub expiry: Column<EventTime>,
}

impl Rows {
    /// No rows, of `time`.
    pub fn new(time: Time) -> Self {
        Self {
            time,
            ..Self::default()
        }
    }

    /// Appends a row. The caller sees to it that no column [is full](Rows::is_full).
    #[inline]
    pub fn push(&mut self, key: &[u8], val: &[u8], diff: i64, expiry: EventTime) {
        self.keys.push(key);
        self.vals.push(val);
        self.diffs.push(diff);
        self.expiry.push(expiry);
    }

    /// No rows, with room for so many of so many bytes.
    pub fn with_capacity(time: Time, rows: usize, (keys, vals): (usize, usize)) -> Self {
        Self {
            keys: Bytes::with_capacity(rows, keys),
            vals: Bytes::with_capacity(rows, vals),
            ..Self::new(time)
        }
    }

    /// Appends a row whose value is what `write` appends; on an error nothing is appended.
    #[inline]
    pub fn push_with(
        &mut self,
        key: &[u8],
        diff: i64,
        expiry: EventTime,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> std::result::Result<(), RowError> {
        self.vals.try_push_with(write)?;
        self.keys.push(key);
        self.diffs.push(diff);
        self.expiry.push(expiry);
        Ok(())
    }

    /// Appends a row to the last of `parts`, or to a new one where that is full; nothing where `diff` is zero.
    pub fn push_to(
        parts: &mut Vec<Self>,
        (key, val): (&[u8], &[u8]),
        diff: i64,
        expiry: EventTime,
    ) {
        if diff == 0 {
            return;
        }
        if parts.last().is_none_or(Self::is_full) {
            parts.push(Self::default());
        }
        if let Some(part) = parts.last_mut() {
            part.push(key, val, diff, expiry);
        }
    }

    /// The number of rows.
    #[inline]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a column has taken as much as it can.
    pub fn is_full(&self) -> bool {
        self.keys.is_full() || self.vals.is_full()
    }

    /// Forgets the rows, keeps the memory.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.vals.clear();
        self.diffs.clear();
        self.expiry.clear();
    }

    /// The memory in use.
    pub fn bytes(&self) -> usize {
        self.keys.bytes() + self.vals.bytes() + self.diffs.bytes() + self.expiry.bytes()
    }

    /// How many bytes [`Rows::to_bytes`] appends.
    pub fn encoded_len(&self) -> usize {
        let flat = |column: &Bytes| column.concat().len() + 4 * column.len();
        24 + flat(&self.keys)
            + flat(&self.vals)
            + 8
            + integers_len(&self.diffs)
            + integers_len(&self.expiry)
    }

    /// Appends the rows for another process: exactly [`Rows::encoded_len`] bytes, all lengths
    /// included.
    pub fn to_bytes(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.time.epoch.to_le_bytes());
        out.extend_from_slice(&self.time.watermark.to_le_bytes());
        out.extend_from_slice(&(self.len() as u64).to_le_bytes());
        for column in [&self.keys, &self.vals] {
            out.extend_from_slice(&(column.concat().len() as u32).to_le_bytes());
            for end in column.ends().iter() {
                out.extend_from_slice(&end.to_le_bytes());
            }
            out.extend_from_slice(column.concat());
        }
        for column in [&self.diffs, &self.expiry] {
            match column {
                Column::One(value, _) => {
                    out.push(0);
                    out.extend_from_slice(&value.to_le_bytes());
                }
                Column::Many(values) => {
                    out.push(1);
                    for value in values {
                        out.extend_from_slice(&value.to_le_bytes());
                    }
                }
            }
        }
    }

    /// Reads what [`Rows::to_bytes`] wrote; what follows it is left alone.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut rest = bytes;
        Self::read(&mut rest).ok_or_else(|| StateError::Corrupt {
            offset: bytes.len() - rest.len(),
            what: "a message of rows is cut off",
        })
    }

    fn read(rest: &mut &[u8]) -> Option<Self> {
        let mut word = || varint::take_array::<8>(rest).map(u64::from_le_bytes);
        let time = Time::new(word()?, word()? as i64);
        let len = usize::try_from(word()?).ok()?;
        Some(Self {
            time,
            keys: flat(rest, len)?,
            vals: flat(rest, len)?,
            diffs: integers(rest, len)?,
            expiry: integers(rest, len)?,
        })
    }
}

fn integers_len(column: &Column<i64>) -> usize {
    match column {
        Column::One(..) => 9,
        Column::Many(values) => 1 + 8 * values.len(),
    }
}

fn flat(rest: &mut &[u8], len: usize) -> Option<Bytes> {
    let size = u32::from_le_bytes(varint::take_array(rest)?) as usize;
    let ends = varint::take_slice(rest, len.checked_mul(4)?)?;
    let ends = ends
        .as_chunks::<4>()
        .0
        .iter()
        .map(|e| u32::from_le_bytes(*e))
        .collect();
    let buf = varint::take_slice(rest, size)?.to_vec();
    Bytes::from_parts(buf, ends)
}

fn integers(rest: &mut &[u8], len: usize) -> Option<Column<i64>> {
    match varint::take_array::<1>(rest)? {
        [0] => Some(Column::One(
            i64::from_le_bytes(varint::take_array(rest)?),
            len,
        )),
        [1] => {
            let words = varint::take_slice(rest, len.checked_mul(8)?)?
                .as_chunks::<8>()
                .0;
            Some(Column::Many(
                words.iter().map(|w| i64::from_le_bytes(*w)).collect(),
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_to_the_byte() {
        let mut rows = Rows::new(Time::new(3, -4));
        for round in 0..3 {
            let mut bytes = vec![];
            rows.to_bytes(&mut bytes);
            assert_eq!(bytes.len(), rows.encoded_len());
            for cut in 0..bytes.len() {
                assert!(Rows::from_bytes(&bytes[..cut]).is_err());
            }
            bytes.push(7);
            assert_eq!(Rows::from_bytes(&bytes).unwrap(), rows);
            rows.push(b"key", b"", 1, i64::MAX);
            rows.push(b"", b"value", 1 - round, 5);
        }
    }
}
