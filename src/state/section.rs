//! The on-disk form of a batch: a self-contained, columnar section of a state file.
//!
//! ```text
//! header   version u8, kind u8, operator u32, trace u32, lower u64, upper u64 (epochs),
//!          time (epoch u64, watermark i64), rows u64                        all little-endian
//! block*   rows varint, keys varint, then five columns:
//!            keys     of each: bytes shared with the one before varint, further bytes varint, those
//!            runs     rows of each key, varint
//!            vals     length of each varint, then all bytes
//!            diffs    0 and one zigzag varint for all, or 1 and one for each
//!            expiry   as diffs, each less the one before
//! column   0, length varint, bytes    or    1, length varint, stored length varint, LZ4 block
//! ```
//!
//! Rows ascend by (key, value, expiry) through all blocks, and all have the header's time. Reading
//! trusts nothing: what no encoder wrote is an error, and memory is taken only in proportion to the
//! bytes given (LZ4 expands by 255 at most).

use std::io::Write;

use crate::state::chunk::{Body, RowChunk};
use crate::state::diff::{Diff, Last};
use crate::state::error::{Result, StateError};
use crate::time::{Epoch, EventTime, Time};

mod block;
mod input;

pub(crate) use self::block::Blocks;
pub use self::input::Input;

/// The format that is written.
const VERSION: u8 = 1;

/// What a trace keeps, and by which rule it merges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceKind {
    /// A table whose keys keep their newest value.
    AppendOnly,
    /// A table whose values are retracted and replaced.
    General,
    /// A multiset of (key, value).
    Multiset,
}

impl TraceKind {
    /// What it keeps, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AppendOnly => "an append-only table",
            Self::General => "a table",
            Self::Multiset => "a multiset",
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::AppendOnly => 0,
            Self::General => 1,
            Self::Multiset => 2,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::AppendOnly),
            1 => Some(Self::General),
            2 => Some(Self::Multiset),
            _ => None,
        }
    }
}

/// What a section is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionInfo {
    /// What the trace keeps.
    pub kind: TraceKind,
    /// The operator that owns the trace.
    pub operator: u32,
    /// Which of its traces.
    pub trace: u32,
    /// The first epoch it covers.
    pub lower: Epoch,
    /// The epoch behind the last that it covers.
    pub upper: Epoch,
    /// The time of all of its rows: that of the last epoch that added any.
    pub time: Time,
    /// How many rows it has.
    pub rows: u64,
}

/// The bytes in front of a section's blocks.
pub const HEADER_LEN: usize = 50;

impl SectionInfo {
    /// Reads what a section is about, and leaves its rows in `input`.
    pub fn read(input: &mut Input<'_>) -> Result<Self> {
        const CUT: &str = "the header is cut off";
        let [version] = input.take_array(CUT)?;
        if version != VERSION {
            return Err(StateError::Version {
                found: version,
                known: VERSION,
            });
        }
        let [kind] = input.take_array(CUT)?;
        let mut short = || input.take_array(CUT).map(u32::from_le_bytes);
        let (operator, trace) = (short()?, short()?);
        let mut long = || input.take_array(CUT).map(u64::from_le_bytes);
        let info = Self {
            kind: TraceKind::of(kind).ok_or_else(|| Input::corrupt(1, "no such kind of trace"))?,
            operator,
            trace,
            lower: long()?,
            upper: long()?,
            time: Time::new(long()?, long()? as i64),
            rows: long()?,
        };
        if info.lower >= info.upper || info.time.epoch < info.lower || info.time.epoch >= info.upper
        {
            return Err(Input::corrupt(10, "the epochs do not ascend"));
        }
        Ok(info)
    }

    /// The header that says so.
    pub(crate) fn header(&self) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        header[..2].copy_from_slice(&[VERSION, self.kind.code()]);
        header[2..6].copy_from_slice(&self.operator.to_le_bytes());
        header[6..10].copy_from_slice(&self.trace.to_le_bytes());
        let words = [
            self.lower,
            self.upper,
            self.time.epoch,
            self.time.watermark as u64,
            self.rows,
        ];
        for (place, word) in header[10..].chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        header
    }
}

/// Appends a section. The rows of `chunks` are sorted, and counted by `info`.
pub(crate) fn encode<R: Diff>(info: &SectionInfo, chunks: &[RowChunk<R>], out: &mut Vec<u8>) {
    out.extend_from_slice(&info.header());
    let mut block = block::Encoder::default();
    for chunk in chunks {
        block.add(&chunk.0);
        if block.is_full() {
            block.finish(out);
        }
    }
    block.finish(out);
}

/// Writes the blocks of a section whose rows come bit by bit.
#[derive(Default)]
pub(crate) struct Encoder {
    block: block::Encoder,
    bytes: Vec<u8>,
    rows: u64,
}

impl Encoder {
    /// The next rows.
    pub(crate) fn add<R: Diff>(&mut self, body: &Body<R>, out: &mut dyn Write) -> Result<()> {
        self.rows += body.rows() as u64;
        self.block.add(body);
        if self.block.is_full() {
            self.flush(out)?;
        }
        Ok(())
    }

    /// That was all. How many rows it was.
    pub(crate) fn finish(mut self, out: &mut dyn Write) -> Result<u64> {
        self.flush(out)?;
        Ok(self.rows)
    }

    fn flush(&mut self, out: &mut dyn Write) -> Result<()> {
        self.block.finish(&mut self.bytes);
        out.write_all(&self.bytes).map_err(StateError::Write)?;
        self.bytes.clear();
        Ok(())
    }
}

/// The rows of a trace, by merge rule.
#[derive(Clone, Debug)]
pub(crate) enum SectionRows {
    /// Of an append-only table.
    Last(Vec<RowChunk<Last>>),
    /// Of anything else.
    Count(Vec<RowChunk<i64>>),
}

/// A row of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionRow<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Its value.
    pub val: &'a [u8],
    /// How often it was added; always 1 in an append-only table.
    pub diff: i64,
    /// When it may be forgotten.
    pub expiry: EventTime,
}

impl SectionRows {
    /// The rows in order of key, value and expiry.
    pub(crate) fn iter(&self) -> Box<dyn Iterator<Item = SectionRow<'_>> + '_> {
        match self {
            Self::Last(chunks) => Box::new(chunks.iter().flat_map(|c| rows(&c.0))),
            Self::Count(chunks) => Box::new(chunks.iter().flat_map(|c| rows(&c.0))),
        }
    }
}

fn rows<R: Diff>(body: &Body<R>) -> impl Iterator<Item = SectionRow<'_>> {
    (0..body.nkeys()).flat_map(move |k| {
        (body.key_start(k)..body.key_end(k)).map(move |r| SectionRow {
            key: body.keys.get(k),
            val: body.vals.get(r),
            diff: body.diffs.get(r).count(),
            expiry: body.expiry.get(r),
        })
    })
}
