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

use crate::row::varint;
use crate::state::chunk::{Body, RowChunk};
use crate::state::diff::{Diff, Last};
use crate::state::error::{Result, StateError};
use crate::time::{Epoch, Time};

mod block;

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

/// What a section is about, without reading its rows.
pub fn describe(section: &[u8]) -> Result<SectionInfo> {
    header(&mut &section[..])
}

fn corrupt(offset: usize, what: &'static str) -> StateError {
    StateError::Corrupt { offset, what }
}

fn header(rest: &mut &[u8]) -> Result<SectionInfo> {
    let cut = || corrupt(0, "the header is cut off");
    let [version] = varint::take_array(rest).ok_or_else(cut)?;
    if version != VERSION {
        return Err(StateError::Version {
            found: version,
            known: VERSION,
        });
    }
    let [kind] = varint::take_array(rest).ok_or_else(cut)?;
    let mut short = || {
        varint::take_array(rest)
            .map(u32::from_le_bytes)
            .ok_or_else(cut)
    };
    let (operator, trace) = (short()?, short()?);
    let mut long = || {
        varint::take_array(rest)
            .map(u64::from_le_bytes)
            .ok_or_else(cut)
    };
    let info = SectionInfo {
        kind: TraceKind::of(kind).ok_or_else(|| corrupt(1, "no such kind of trace"))?,
        operator,
        trace,
        lower: long()?,
        upper: long()?,
        time: Time::new(long()?, long()? as i64),
        rows: long()?,
    };
    if info.lower >= info.upper || info.time.epoch < info.lower || info.time.epoch >= info.upper {
        return Err(corrupt(10, "the epochs do not ascend"));
    }
    Ok(info)
}

/// Appends a section. The rows of `chunks` are sorted, and counted by `info`.
pub(crate) fn encode<R: Diff>(info: &SectionInfo, chunks: &[RowChunk<R>], out: &mut Vec<u8>) {
    out.push(VERSION);
    out.push(info.kind.code());
    out.extend_from_slice(&info.operator.to_le_bytes());
    out.extend_from_slice(&info.trace.to_le_bytes());
    for word in [
        info.lower,
        info.upper,
        info.time.epoch,
        info.time.watermark as u64,
        info.rows,
    ] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    let mut block = block::Encoder::default();
    for chunk in chunks {
        block.add(&chunk.0);
        if block.is_full() {
            block.finish(out);
        }
    }
    block.finish(out);
}

/// The rows of a section, by merge rule.
#[derive(Clone, Debug)]
pub(crate) enum SectionRows {
    /// Of an append-only table.
    Last(Vec<RowChunk<Last>>),
    /// Of anything else.
    Count(Vec<RowChunk<i64>>),
}

/// A section that was read.
#[derive(Clone, Debug)]
pub struct Section {
    info: SectionInfo,
    pub(crate) rows: SectionRows,
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
    pub expiry: crate::time::EventTime,
}

impl Section {
    /// Reads a section, without the rows whose keys are not to be kept. Any bytes may be given.
    pub fn decode(section: &[u8], keep: &dyn Fn(&[u8]) -> bool) -> Result<Self> {
        let mut rest = section;
        let info = header(&mut rest)?;
        let fail = |(left, what)| corrupt(section.len() - left, what);
        let rows = match info.kind {
            TraceKind::AppendOnly => {
                SectionRows::Last(block::read(&info, &mut rest, keep).map_err(fail)?)
            }
            _ => SectionRows::Count(block::read(&info, &mut rest, keep).map_err(fail)?),
        };
        Ok(Self { info, rows })
    }

    /// What it is about. Its count of rows is the file's, whatever was kept.
    pub fn info(&self) -> &SectionInfo {
        &self.info
    }

    /// Its rows in order of key, value and expiry.
    pub fn rows(&self) -> Box<dyn Iterator<Item = SectionRow<'_>> + '_> {
        match &self.rows {
            SectionRows::Last(chunks) => Box::new(chunks.iter().flat_map(|c| rows(&c.0))),
            SectionRows::Count(chunks) => Box::new(chunks.iter().flat_map(|c| rows(&c.0))),
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

/// The length of a section without rows.
pub const EMPTY_SECTION: usize = 50;
