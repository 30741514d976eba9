//! Reads a table, and finds what changed since it was last read.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use super::Open;
use super::compare::compare;
use super::file::{Frame, FrameReader};
use super::keep::Keep;
use super::take::{Taken, take};
use crate::Result;

/// What a thread found.
pub(super) struct Found {
    pub(super) taken: Taken,
    pub(super) file: PathBuf,
    /// What changed, where something did.
    pub(super) changes: Option<(Vec<Frame>, PathBuf)>,
}

/// Reads the table, and compares it with the snapshot that came before.
pub(super) fn find(
    open: &Open,
    keep: &Keep,
    before: Option<(u64, Option<Vec<Frame>>)>,
    unwanted: &AtomicBool,
) -> Result<Option<Found>> {
    let file = keep.temporary();
    let changed = keep.temporary();
    let find = || -> Result<Option<Found>> {
        let Some((taken, unsynced)) = take(open, keep, &file, unwanted)? else {
            return Ok(None);
        };
        let is_first = before.is_none();
        let mut changes = None;
        if let Some((number, frames)) = before {
            let old = keep.dir.join(keep.snapshot(number));
            let frames = match frames {
                Some(frames) => frames,
                None => FrameReader::open(&*keep.storage, &old)?.frames()?,
            };
            changes = compare(keep, (&old, &frames), (&file, &taken), &changed)?;
        }
        if is_first || changes.is_some() {
            unsynced.sync()?;
        }
        Ok(Some(Found {
            taken,
            file: file.clone(),
            changes: changes.map(|frames| (frames, changed.clone())),
        }))
    };
    let found = find();
    let (read, differs) = match &found {
        Ok(Some(found)) => (true, found.changes.is_some()),
        _ => (false, false),
    };
    if !read {
        keep.remove(&file);
    }
    if !differs {
        keep.remove(&changed);
    }
    found
}
