//! Sections as streams: nobody needs to hold a whole one.
//!
//! A reader holds a piece of its section and no open file, so there may be as many readers as a state
//! has files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::error::{CheckpointError, Result};
use super::fold::Pace;
use super::{StateDir, StateFile, StateFileReader, StateFileWriter};
use crate::state::Input;

/// How much is read at a time.
const PIECE: u64 = 128 << 10;

/// How much a gentle writer leaves unsynced.
const WRITE_BACK: u64 = 1 << 20;

/// Reads the bytes of a section.
#[derive(Debug)]
pub struct SectionReader {
    dir: StateDir,
    path: PathBuf,
    at: u64,
    end: u64,
    piece: Vec<u8>,
    /// What was given of the piece.
    given: usize,
    pace: Option<Arc<Pace>>,
}

impl SectionReader {
    pub(super) fn new(dir: &StateDir, path: PathBuf, offset: u64, length: u64) -> Self {
        Self {
            dir: dir.clone(),
            path,
            at: offset,
            end: offset + length,
            piece: Vec::new(),
            given: 0,
            pace: None,
        }
    }

    /// Keeps to `pace`, if there is one.
    pub(super) fn gently(mut self, pace: Option<&Arc<Pace>>) -> Self {
        self.pace = pace.cloned();
        self
    }

    /// How many bytes are left.
    pub fn left(&self) -> u64 {
        self.end - self.at + (self.piece.len() - self.given) as u64
    }

    /// Reads the next piece; empty at the end.
    fn refill(&mut self) -> Result<()> {
        let failed = || CheckpointError::reading("read the state file", &self.path);
        self.piece
            .resize((self.end - self.at).min(PIECE) as usize, 0);
        self.given = 0;
        if !self.piece.is_empty() {
            if let Some(pace) = &self.pace {
                pace.pause().map_err(failed())?;
            }
            let mut file = self.dir.storage().open(&self.path).map_err(failed())?;
            file.read_at(self.at, &mut self.piece).map_err(failed())?;
            self.at += self.piece.len() as u64;
        }
        Ok(())
    }

    /// The checksum of what is left.
    pub(super) fn checksum(mut self) -> Result<u32> {
        let mut crc = 0;
        while self.left() > 0 {
            self.refill()?;
            crc = crc32c::crc32c_append(crc, &self.piece);
        }
        Ok(crc)
    }
}

impl Read for SectionReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.given == self.piece.len() {
            self.refill().map_err(io::Error::other)?;
        }
        let rest = &self.piece[self.given..];
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.given += count;
        Ok(count)
    }
}

impl From<SectionReader> for Input<'static> {
    fn from(section: SectionReader) -> Self {
        let length = section.left();
        Self::new(section, length)
    }
}

/// Writes a section of a state file; it counts once it is [ended](Self::end).
#[derive(Debug)]
pub struct SectionWriter<'a> {
    file: &'a mut StateFileWriter,
    place: (u32, u32),
    start: u64,
    /// The bytes in front for which room was left.
    head: u64,
    crc: u32,
    pace: Option<Arc<Pace>>,
}

impl<'a> SectionWriter<'a> {
    pub(super) fn new(file: &'a mut StateFileWriter, place: (u32, u32)) -> Self {
        Self {
            place,
            start: file.offset(),
            file,
            head: 0,
            crc: 0,
            pace: None,
        }
    }

    /// Gives way to others: keeps to `pace`, and leaves no large write-back for somebody's sync to wait for.
    pub(super) fn gently(mut self, pace: &Arc<Pace>) -> Self {
        self.pace = Some(Arc::clone(pace));
        self
    }

    /// Before anything is written: leaves room for as many bytes, which are known at the end.
    pub fn leave(&mut self, head: usize) -> Result<()> {
        self.head += head as u64;
        self.file.write(&vec![0; head])
    }

    /// Puts `head` into the room that was left, and ends the section.
    pub fn end(self, head: &[u8]) -> Result<()> {
        debug_assert_eq!(head.len() as u64, self.head, "what there is room for");
        let length = self.file.offset() - self.start;
        let crc = crc32c::crc32c_combine(
            crc32c::crc32c(head),
            self.crc,
            (length - self.head) as usize,
        );
        self.file.overwrite(self.start, head)?;
        self.file.enter(self.place, self.start, crc);
        Ok(())
    }
}

impl Write for SectionWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).map_err(io::Error::other)?;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        if let Some(pace) = &self.pace {
            self.file
                .sync_if_behind(WRITE_BACK)
                .map_err(io::Error::other)?;
            pace.pause()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Several state files, open to be read trace by trace.
#[derive(Debug)]
pub struct StateFiles {
    /// With the worker that wrote each, in the order in which they apply.
    files: Vec<(usize, StateFileReader)>,
    pace: Option<Arc<Pace>>,
}

impl StateFiles {
    /// Opens files, each worker's in the order in which they apply.
    pub fn open<'a>(
        dir: &StateDir,
        files: impl IntoIterator<Item = &'a StateFile>,
    ) -> Result<Self> {
        let files = files
            .into_iter()
            .map(|file| Ok((file.worker, StateFileReader::open(dir, file)?)));
        Ok(Self {
            files: files.collect::<Result<_>>()?,
            pace: None,
        })
    }

    /// Gives way to others: keeps to `pace`.
    pub(super) fn gently(mut self, pace: &Arc<Pace>) -> Self {
        self.pace = Some(Arc::clone(pace));
        self
    }

    /// The operators and traces that they are about.
    pub fn traces(&self) -> BTreeSet<(u32, u32)> {
        let sections = self.files.iter().flat_map(|(_, file)| file.sections());
        sections.map(|s| (s.operator, s.trace)).collect()
    }

    /// The sections of a trace: by the worker that wrote them, in the order in which they apply.
    pub fn sections(&self, operator: u32, trace: u32) -> Result<Vec<Vec<Input<'static>>>> {
        let shards = self.readers(operator, trace)?.into_iter();
        Ok(shards
            .map(|shard| shard.into_iter().map(Input::from).collect())
            .collect())
    }

    pub(super) fn readers(&self, operator: u32, trace: u32) -> Result<Vec<Vec<SectionReader>>> {
        let mut shards: BTreeMap<usize, Vec<SectionReader>> = BTreeMap::new();
        for (worker, file) in &self.files {
            for section in file.sections() {
                if (section.operator, section.trace) == (operator, trace) {
                    let reader = file.read_gently(section, self.pace.as_ref())?;
                    shards.entry(*worker).or_default().push(reader);
                }
            }
        }
        Ok(shards.into_values().collect())
    }
}
