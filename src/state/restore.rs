//! Sections back to batches: for a trace that starts again, and for snapshots that replace deltas.

use crate::state::chunk::RowChunk;
use crate::state::diff::Diff;
use crate::state::error::{Result, StateError};
use crate::state::merge::fold;
use crate::state::section::{self, Section, SectionInfo, SectionRows};
use crate::time::{Epoch, EventTime, NO_WATERMARK, Time};

/// What a trace starts with: the sections of one trace of one operator, in the order of their epochs
/// and, after a change of the number of workers, of several workers of the past.
#[derive(Clone, Debug)]
pub struct RestoredSections {
    /// By past worker; each a chain without gaps, the oldest first.
    shards: Vec<Vec<Section>>,
}

/// A batch to put into a spine.
pub(crate) struct RestoredBatch<R: Diff> {
    pub(crate) upper: Epoch,
    pub(crate) chunks: Vec<RowChunk<R>>,
}

impl RestoredSections {
    /// The sections of one past worker: its snapshot, if there is one, then its deltas.
    pub fn new(sections: Vec<Section>) -> Result<Self> {
        Self::from_shards(vec![sections])
    }

    /// The sections of several past workers, read with a `keep` that leaves to each present worker
    /// its own rows.
    pub fn from_shards(shards: Vec<Vec<Section>>) -> Result<Self> {
        let shards: Vec<_> = shards.into_iter().filter(|s| !s.is_empty()).collect();
        let mut all = shards.iter().flatten();
        if let Some(first) = all.next() {
            all.try_for_each(|s| same_trace(first.info(), s.info()))?;
        }
        let upper = shards
            .first()
            .and_then(|s| s.last())
            .map(|s| s.info().upper);
        for shard in &shards {
            chain(shard.iter().map(Section::info))?;
            let (first, last) = (shard[0].info(), shard[shard.len() - 1].info());
            if shards.len() > 1 && Some(last.upper) != upper {
                return Err(broken(
                    first,
                    format!(
                        "past workers end at epochs {} and {}",
                        upper.unwrap_or_default(),
                        last.upper
                    ),
                ));
            }
        }
        Ok(Self { shards })
    }

    /// Decodes the sections of each past worker and keeps the rows that `keep` wants.
    pub fn decode(shards: &[Vec<&[u8]>], keep: &dyn Fn(&[u8]) -> bool) -> Result<Self> {
        let shards = shards.iter().map(|sections| {
            let sections = sections.iter().map(|bytes| Section::decode(bytes, keep));
            sections.collect::<Result<Vec<_>>>()
        });
        Self::from_shards(shards.collect::<Result<_>>()?)
    }

    /// The epoch behind the last that is restored; `None` if nothing is.
    pub fn upper(&self) -> Option<Epoch> {
        self.shards
            .first()
            .and_then(|s| s.last())
            .map(|s| s.info().upper)
    }

    /// What the sections are about: that of the first.
    pub fn info(&self) -> Option<&SectionInfo> {
        self.shards
            .first()
            .and_then(|s| s.first())
            .map(Section::info)
    }

    /// All that is restored as one section, without what has expired at `watermark`: the snapshot with
    /// which a worker begins its own chain after the number of workers has changed. `None` if nothing
    /// is restored.
    pub fn snapshot(&self, watermark: EventTime) -> Option<Vec<u8>> {
        let mut info = *self.info()?;
        info.upper = self.upper()?;
        let sections: Vec<_> = self.shards.iter().flatten().cloned().collect();
        info.lower = sections.iter().map(|s| s.info().lower).min()?;
        Some(fold_sections(info, sections, watermark))
    }

    /// The batches, the oldest first: those of one worker as they are, those of several as one.
    pub(crate) fn into_batches<R: Diff>(self) -> Vec<RestoredBatch<R>>
    where
        SectionRows: TryInto<Vec<RowChunk<R>>>,
    {
        let upper = self.upper().unwrap_or_default();
        let several = self.shards.len() > 1;
        let chains = self.shards.into_iter().map(|shard| {
            let batches = shard.into_iter().filter_map(|section| {
                let upper = section.info().upper;
                let chunks = section.rows.try_into().ok()?;
                Some(RestoredBatch { upper, chunks })
            });
            batches.collect::<Vec<_>>()
        });
        if !several {
            return chains.flatten().collect();
        }
        // Nothing is expired here: the readers know the watermark, and skip.
        let frontier = Time::new(upper.saturating_sub(1), NO_WATERMARK);
        let chains: Vec<_> = chains
            .map(|batches| fold(batches.into_iter().map(|b| b.chunks).collect(), frontier))
            .collect();
        vec![RestoredBatch {
            upper,
            chunks: fold(chains, frontier),
        }]
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

impl TryFrom<SectionRows> for Vec<RowChunk<crate::state::diff::Last>> {
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
fn chain<'a>(infos: impl Iterator<Item = &'a SectionInfo>) -> Result<()> {
    let mut last: Option<&SectionInfo> = None;
    for info in infos {
        if let Some(last) = last
            && last.upper != info.lower
        {
            return Err(broken(
                info,
                format!("epoch {} is followed by epoch {}", last.upper, info.lower),
            ));
        }
        last = Some(info);
    }
    Ok(())
}

/// Folds a snapshot and the deltas that follow it, all of one trace of one worker and in order, into
/// one section: equal rows add up (or the newest of a key stays), and what has expired at `watermark`
/// is left out. That watermark must be one that the trace had been told to forget by the last of the
/// sections' epochs. Takes and gives plain bytes, so it may run on any thread.
pub fn merge_sections(sections: &[&[u8]], watermark: EventTime) -> Result<Vec<u8>> {
    let mut decoded = Vec::with_capacity(sections.len());
    for section in sections {
        decoded.push(Section::decode(section, &|_| true)?);
    }
    let (Some(first), Some(last)) = (decoded.first(), decoded.last()) else {
        return Err(StateError::Corrupt {
            offset: 0,
            what: "there are no sections to merge",
        });
    };
    let (mut info, upper) = (*first.info(), last.info().upper);
    decoded
        .iter()
        .try_for_each(|s| same_trace(&info, s.info()))?;
    chain(decoded.iter().map(Section::info))?;
    info.upper = upper;
    Ok(fold_sections(info, decoded, watermark))
}

/// Folds sections, of which those with common keys are in order, into one.
fn fold_sections(mut info: SectionInfo, sections: Vec<Section>, watermark: EventTime) -> Vec<u8> {
    let watermarks = sections.iter().map(|s| s.info().time.watermark);
    info.time = Time::new(info.upper - 1, watermarks.max().unwrap_or(NO_WATERMARK));
    let frontier = Time::new(info.upper - 1, watermark);
    let (mut last, mut count) = (vec![], vec![]);
    for section in sections {
        match section.rows {
            SectionRows::Last(chunks) => last.push(chunks),
            SectionRows::Count(chunks) => count.push(chunks),
        }
    }
    let mut out = vec![];
    if last.is_empty() {
        write(info, &fold(count, frontier), &mut out);
    } else {
        write(info, &fold(last, frontier), &mut out);
    }
    out
}

fn write<R: Diff>(mut info: SectionInfo, chunks: &[RowChunk<R>], out: &mut Vec<u8>) {
    info.rows = chunks.iter().map(|c| c.0.rows() as u64).sum();
    section::encode(&info, chunks, out);
}
