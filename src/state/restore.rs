//! Sections back to rows: for a trace that starts again, and for snapshots that replace deltas.
//!
//! All sections of a trace are read at once and merged as they are read, block by block. So a restored
//! trace begins as one batch of what is alive, however many files it was in, and folding needs memory
//! for a few blocks of each section only.

use std::io::Write;

use crate::state::chunk::RowChunk;
use crate::state::diff::{Diff, Last};
use crate::state::error::{Result, StateError};
use crate::state::section::{
    Blocks, Encoder, HEADER_LEN, Input, SectionInfo, SectionRow, SectionRows, TraceKind,
};
use crate::state::stream::{Stream, folded, merged};
use crate::time::{Epoch, EventTime, Time};

/// The sections of one trace of one operator: its rows, as several files have them.
#[derive(Debug)]
pub struct Sections<'a> {
    /// What they are about together.
    info: SectionInfo,
    sections: Vec<(SectionInfo, Input<'a>)>,
}

impl<'a> Sections<'a> {
    /// The sections by past worker, each worker's a chain without gaps: its snapshot, if there is one,
    /// then its deltas, the oldest first. Reads the headers.
    pub fn open(shards: Vec<Vec<Input<'a>>>) -> Result<Self> {
        let mut sections: Vec<(SectionInfo, Input<'a>)> = vec![];
        for shard in shards {
            let first = sections.len();
            for mut input in shard {
                let info = SectionInfo::read(&mut input)?;
                if let Some((other, _)) = sections.first() {
                    same_trace(other, &info)?;
                }
                if let Some((before, _)) = sections[first..].last() {
                    follows(before, &info)?;
                }
                sections.push((info, input));
            }
        }
        let infos = || sections.iter().map(|(info, _)| info);
        let Some(mut info) = infos().next().copied() else {
            return Err(Input::corrupt(0, "there are no sections"));
        };
        for other in infos() {
            info.lower = info.lower.min(other.lower);
            info.upper = info.upper.max(other.upper);
            info.time.watermark = info.time.watermark.max(other.time.watermark);
        }
        info.time.epoch = info.upper - 1;
        Ok(Self { info, sections })
    }

    /// Writes one section that says the same: equal rows add up (or the newest of a key stays), and what
    /// has expired at `watermark` is left out. That watermark must be one that the trace had been told to
    /// forget by the last of the sections' epochs. `out` gets what follows the header, which is returned.
    pub fn fold(self, watermark: EventTime, out: &mut dyn Write) -> Result<[u8; HEADER_LEN]> {
        if self.info.kind == TraceKind::AppendOnly {
            self.merge::<Last>(watermark, &|_| true, Some(out), &mut |_| {})
        } else {
            self.merge::<i64>(watermark, &|_| true, Some(out), &mut |_| {})
        }
    }

    /// Reads the rows whose keys `keep` wants, without what has expired at `watermark`, as in
    /// [`fold`](Self::fold). `copy` gets them as a section, too, of which the header is returned.
    pub fn restore(
        self,
        watermark: EventTime,
        keep: &'a dyn Fn(&[u8]) -> bool,
        copy: Option<&mut dyn Write>,
    ) -> Result<(RestoredSections, [u8; HEADER_LEN])> {
        let info = self.info;
        let (rows, header) = if info.kind == TraceKind::AppendOnly {
            let mut chunks = vec![];
            let keeping = &mut |chunk| chunks.push(chunk);
            let header = self.merge(watermark, keep, copy, keeping)?;
            (SectionRows::Last(chunks), header)
        } else {
            let mut chunks = vec![];
            let keeping = &mut |chunk| chunks.push(chunk);
            let header = self.merge(watermark, keep, copy, keeping)?;
            (SectionRows::Count(chunks), header)
        };
        Ok((RestoredSections { info, rows }, header))
    }

    fn merge<R: Diff>(
        self,
        watermark: EventTime,
        keep: &'a dyn Fn(&[u8]) -> bool,
        mut out: Option<&mut dyn Write>,
        each: &mut dyn FnMut(RowChunk<R>),
    ) -> Result<[u8; HEADER_LEN]> {
        let mut info = self.info;
        let streams = self.sections.into_iter().map(|(info, input)| {
            let blocks: Stream<'a, R> = Box::new(Blocks::new(info, input, keep));
            (info.rows, blocks)
        });
        let frontier = Time::new(info.upper - 1, watermark);
        let mut encoder = Encoder::default();
        for chunk in folded(merged(streams.collect()), frontier) {
            let chunk = chunk?;
            if let Some(out) = &mut out {
                encoder.add(&chunk.0, *out)?;
            }
            each(chunk);
        }
        if let Some(out) = out {
            info.rows = encoder.finish(out)?;
        }
        Ok(info.header())
    }
}

/// What a trace starts with.
#[derive(Clone, Debug)]
pub struct RestoredSections {
    info: SectionInfo,
    pub(crate) rows: SectionRows,
}

impl RestoredSections {
    /// The epoch behind the last that is restored.
    pub fn upper(&self) -> Epoch {
        self.info.upper
    }

    /// What the trace keeps.
    pub fn kind(&self) -> TraceKind {
        self.info.kind
    }

    /// Its rows in order of key, value and expiry.
    pub fn rows(&self) -> impl Iterator<Item = SectionRow<'_>> {
        self.rows.iter()
    }
}

impl TryFrom<SectionRows> for Vec<RowChunk<i64>> {
    type Error = ();

    fn try_from(rows: SectionRows) -> Result<Self, ()> {
        match rows {
            SectionRows::Count(chunks) => Ok(chunks),
            SectionRows::Last(_) => Err(()),
        }
    }
}

impl TryFrom<SectionRows> for Vec<RowChunk<Last>> {
    type Error = ();

    fn try_from(rows: SectionRows) -> Result<Self, ()> {
        match rows {
            SectionRows::Last(chunks) => Ok(chunks),
            SectionRows::Count(_) => Err(()),
        }
    }
}

fn broken(info: &SectionInfo, what: String) -> StateError {
    StateError::Chain {
        operator: info.operator,
        trace: info.trace,
        what,
    }
}

fn same_trace(a: &SectionInfo, b: &SectionInfo) -> Result<()> {
    if (a.operator, a.trace, a.kind) == (b.operator, b.trace, b.kind) {
        return Ok(());
    }
    let other = format!(
        "one is of operator {}, trace {}, {}",
        b.operator,
        b.trace,
        b.kind.name()
    );
    Err(broken(a, other))
}

/// Sections follow each other without gaps.
fn follows(before: &SectionInfo, after: &SectionInfo) -> Result<()> {
    if before.upper == after.lower {
        return Ok(());
    }
    let gap = format!(
        "epoch {} is followed by epoch {}",
        before.upper, after.lower
    );
    Err(broken(after, gap))
}
