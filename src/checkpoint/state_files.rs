//! The container of state: one file per worker and commit, with a section per operator and trace.
//!
//! All numbers are little-endian. What a section holds is the business of `state`.
//!
//! | part | offset | bytes | what |
//! |---|---|---|---|
//! | header | 0 | 8 | magic `TDMKSTAT` |
//! | | 8 | 4 | format version, 1 |
//! | | 12 | 4 | zero |
//! | | 16 | 16 | the query's id |
//! | sections | 32 | | the sections, back to back |
//! | index | `i` | 32 each | per section: operator u32, trace u32, offset u64, length u64, CRC32C u32, zero u32 |
//! | trailer | `i` + 32 `n` | 8 | `i`: the offset of the index |
//! | | +8 | 4 | `n`: the number of sections |
//! | | +12 | 4 | kind: 0 delta, 1 snapshot |
//! | | +16 | 4 | worker |
//! | | +20 | 4 | workers |
//! | | +24 | 8 | first epoch |
//! | | +32 | 8 | last epoch |
//! | | +40 | 8 | the length of the file |
//! | | +48 | 4 | CRC32C of the header, the index and the trailer up to here |
//! | | +52 | 4 | zero |
//! | | +56 | 8 | magic `TDMKEND.` |
//!
//! Every byte is covered by a checksum, and the trailer's checksum (which covers the others) is
//! kept in the manifest: a file that was damaged, cut or exchanged is never read as state.
//!
//! A trace may have several sections in one file; they apply in the order in which they stand.
//! So a snapshot can be written as it is read: first what was restored, then what the epoch
//! changed.
//!
//! A file is written under a temporary name, synced and renamed. The name is durable when the
//! directory is synced, which the commit does once for all workers.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use tidemark_connectors::storage::StorageWriter;
use uuid::Uuid;

use super::error::{CheckpointError, Result};
use super::fold::Pace;
use super::{FileKind, SectionReader, SectionWriter, StateDir, StateFile};
use crate::time::Epoch;

/// The newest version of the container that is understood.
pub const STATE_FORMAT_VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"TDMKSTAT";
const END_MAGIC: &[u8; 8] = b"TDMKEND.";
const HEADER: usize = 32;
const ENTRY: usize = 32;
const TRAILER: usize = 64;
const TRAILER_CRC: usize = 48;
const BUFFER: usize = 256 << 10;
const TEMPORARY: &str = "tmp-";

/// Writes one state file, section by section. Dropped before [`finish`](Self::finish), it leaves
/// nothing behind.
#[derive(Debug)]
pub struct StateFileWriter {
    dir: StateDir,
    worker: usize,
    workers: usize,
    temporary: PathBuf,
    file: Option<Box<dyn StorageWriter>>,
    buffer: Vec<u8>,
    header: [u8; HEADER],
    index: Vec<u8>,
    sections: u32,
    offset: u64,
    /// What is durable, up to here.
    synced: u64,
}

impl StateFileWriter {
    /// Begins a file of the state of `worker` of `workers`.
    pub fn create(dir: &StateDir, worker: usize, workers: usize) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let temporary = dir.path().join(format!(
            "{TEMPORARY}w{worker}of{workers}-{}-{number}",
            std::process::id()
        ));
        let file = dir
            .storage()
            .create(&temporary)
            .map_err(CheckpointError::writing(
                "create the state file",
                &temporary,
            ))?;
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&STATE_FORMAT_VERSION.to_le_bytes());
        header[16..].copy_from_slice(dir.query_id().as_bytes());
        let dir = dir.clone();
        Ok(Self {
            dir,
            worker,
            workers,
            temporary,
            file: Some(file),
            buffer: header.to_vec(),
            header,
            index: Vec::new(),
            sections: 0,
            offset: HEADER as u64,
            synced: 0,
        })
    }

    /// Adds a section: what `trace` of `operator` has to say.
    pub fn section(&mut self, operator: u32, trace: u32, bytes: &[u8]) -> Result<()> {
        let start = self.offset;
        self.write(bytes)?;
        self.enter((operator, trace), start, crc32c::crc32c(bytes));
        Ok(())
    }

    /// Begins a section that comes bit by bit.
    pub fn stream(&mut self, operator: u32, trace: u32) -> SectionWriter<'_> {
        SectionWriter::new(self, (operator, trace))
    }

    /// Enters what was written from `start` on into the index.
    pub(super) fn enter(&mut self, (operator, trace): (u32, u32), start: u64, crc: u32) {
        self.index.extend_from_slice(&operator.to_le_bytes());
        self.index.extend_from_slice(&trace.to_le_bytes());
        self.index.extend_from_slice(&start.to_le_bytes());
        self.index
            .extend_from_slice(&(self.offset - start).to_le_bytes());
        self.index.extend_from_slice(&crc.to_le_bytes());
        self.index.extend_from_slice(&[0; 4]);
        self.sections += 1;
    }

    /// Where the next byte goes.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// How many sections were added.
    pub fn sections(&self) -> usize {
        self.sections as usize
    }

    /// Ends the file and makes it durable under its own name. `first` is taken as 0 for a
    /// snapshot. The file counts once a commit names it.
    pub fn finish(mut self, kind: FileKind, first: Epoch, last: Epoch) -> Result<StateFile> {
        let first = if kind == FileKind::Snapshot { 0 } else { first };
        let name = file_name(kind, self.worker, self.workers, first, last);
        let index = std::mem::take(&mut self.index);
        let index_offset = self.offset;
        let length = index_offset + (index.len() + TRAILER) as u64;
        let mut trailer = Vec::with_capacity(TRAILER);
        trailer.extend_from_slice(&index_offset.to_le_bytes());
        trailer.extend_from_slice(&self.sections.to_le_bytes());
        trailer.extend_from_slice(&u32::from(kind == FileKind::Snapshot).to_le_bytes());
        trailer.extend_from_slice(&(self.worker as u32).to_le_bytes());
        trailer.extend_from_slice(&(self.workers as u32).to_le_bytes());
        trailer.extend_from_slice(&first.to_le_bytes());
        trailer.extend_from_slice(&last.to_le_bytes());
        trailer.extend_from_slice(&length.to_le_bytes());
        let crc = checksum(&self.header, &index, &trailer);
        trailer.extend_from_slice(&crc.to_le_bytes());
        trailer.extend_from_slice(&[0; 4]);
        trailer.extend_from_slice(END_MAGIC);
        self.write(&index)?;
        self.write(&trailer)?;
        self.flush()?;
        let path = self.dir.path().join(&name);
        let mut file = self
            .file
            .take()
            .expect("the file is taken by `finish` alone");
        let done =
            file.sync()
                .map_err(CheckpointError::writing("make durable", &self.temporary))
                .and_then(|()| {
                    self.dir.storage().rename(&self.temporary, &path).map_err(
                        CheckpointError::writing("give the state file its name", &path),
                    )
                });
        if done.is_err() {
            // For `drop`, which removes the temporary file.
            self.file = Some(file);
        }
        done?;
        let (worker, workers) = (self.worker, self.workers);
        Ok(StateFile {
            name,
            kind,
            worker,
            workers,
            first,
            last,
            bytes: length,
            crc,
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() > BUFFER {
            self.send(bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Makes what was written durable, if it is more than `limit`.
    pub(super) fn sync_if_behind(&mut self, limit: u64) -> Result<()> {
        if self.offset - self.synced <= limit {
            return Ok(());
        }
        self.flush()?;
        self.synced = self.offset;
        let file = self
            .file
            .as_mut()
            .expect("the file is taken by `finish` alone");
        file.sync()
            .map_err(CheckpointError::writing("make durable", &self.temporary))
    }

    /// Writes over what was written at `offset`.
    pub(super) fn overwrite(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let flushed = self.offset - self.buffer.len() as u64;
        if let Some(at) = offset.checked_sub(flushed) {
            let at = at as usize;
            self.buffer[at..at + bytes.len()].copy_from_slice(bytes);
            return Ok(());
        }
        self.flush()?;
        let file = self
            .file
            .as_mut()
            .expect("the file is taken by `finish` alone");
        file.write_at(offset, bytes)
            .map_err(CheckpointError::writing("write", &self.temporary))
    }

    fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        self.send(&buffer)?;
        buffer.clear();
        self.buffer = buffer;
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let file = self
            .file
            .as_mut()
            .expect("the file is taken by `finish` alone");
        file.write_all(bytes)
            .map_err(CheckpointError::writing("write", &self.temporary))
    }
}

impl Drop for StateFileWriter {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // What is left in spite of this is removed when the checkpoint is opened again.
            let _ = self.dir.storage().remove(&self.temporary);
        }
    }
}

/// A section of a state file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// The operator's node id.
    pub operator: u32,
    /// Which of its traces.
    pub trace: u32,
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
    crc: u32,
}

/// Reads a state file that the manifest names. Opening checks everything but the sections;
/// reading a section checks it. Holds no open file.
#[derive(Debug)]
pub struct StateFileReader {
    dir: StateDir,
    path: PathBuf,
    sections: Vec<Section>,
}

impl StateFileReader {
    /// Opens `expected` and checks that it is what was written.
    pub fn open(dir: &StateDir, expected: &StateFile) -> Result<Self> {
        let path = dir.path().join(&expected.name);
        let read = || CheckpointError::reading("read the state file", &path);
        let damaged = |reason: String| CheckpointError::DamagedFile {
            path: path.clone(),
            reason,
        };
        let mut file = dir.storage().open(&path).map_err(read())?;
        let length = file.length().map_err(read())?;
        if length != expected.bytes || length < (HEADER + TRAILER) as u64 {
            return Err(damaged(format!(
                "it has {length} bytes, and {} were written",
                expected.bytes
            )));
        }
        let mut header = [0; HEADER];
        file.read_at(0, &mut header).map_err(read())?;
        let mut trailer = [0; TRAILER];
        file.read_at(length - TRAILER as u64, &mut trailer)
            .map_err(read())?;
        if header[..8] != *MAGIC || trailer[TRAILER - 8..] != *END_MAGIC {
            return Err(damaged(
                "it does not begin and end as a state file does".into(),
            ));
        }
        let index_offset = u64_at(&trailer, 0);
        let count = u32_at(&trailer, 8);
        let index_bytes = u64::from(count) * ENTRY as u64;
        if index_offset < HEADER as u64
            || index_offset.checked_add(index_bytes + TRAILER as u64) != Some(length)
        {
            return Err(damaged("its index does not lie inside it".into()));
        }
        let mut index = vec![0; index_bytes as usize];
        file.read_at(index_offset, &mut index).map_err(read())?;
        let crc = checksum(&header, &index, &trailer[..TRAILER_CRC]);
        if crc != u32_at(&trailer, TRAILER_CRC) || crc != expected.crc {
            return Err(damaged(
                "its header, index or trailer does not have its checksum".into(),
            ));
        }
        // From here on the bytes are those of a writer; what is left is whose they are.
        let version = u32_at(&header, 8);
        if version > STATE_FORMAT_VERSION {
            let supported = STATE_FORMAT_VERSION;
            return Err(CheckpointError::NewerFormat {
                path,
                found: version,
                supported,
            });
        }
        if header[12..16] != [0; 4] || trailer[TRAILER_CRC + 4..TRAILER - 8] != [0; 4] {
            return Err(damaged(
                "a field that is zero in this version is not".into(),
            ));
        }
        if header[16..] != *dir.query_id().as_bytes() {
            return Err(damaged(format!(
                "it is of another query ({})",
                uuid_at(&header)
            )));
        }
        let found = (
            u32_at(&trailer, 12) == u32::from(expected.kind == FileKind::Snapshot),
            u32_at(&trailer, 16) as usize == expected.worker,
            u32_at(&trailer, 20) as usize == expected.workers,
            u64_at(&trailer, 24) == expected.first,
            u64_at(&trailer, 32) == expected.last,
            u64_at(&trailer, 40) == length,
        );
        if found != (true, true, true, true, true, true) {
            return Err(damaged("it is not the file that the manifest means".into()));
        }
        let sections = sections(&index, index_offset).ok_or_else(|| {
            damaged("its sections do not follow one another without a gap".into())
        })?;
        Ok(Self {
            dir: dir.clone(),
            path,
            sections,
        })
    }

    /// The sections, in the order in which they apply.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The bytes of a section of this file, after a look at all of them: they are those that were written.
    pub fn read(&self, section: &Section) -> Result<SectionReader> {
        self.read_gently(section, None)
    }

    /// [Reads](Self::read), and keeps to `pace`.
    pub(super) fn read_gently(
        &self,
        section: &Section,
        pace: Option<&Arc<Pace>>,
    ) -> Result<SectionReader> {
        let Section {
            operator,
            trace,
            offset,
            length,
            crc,
        } = *section;
        let reader =
            || SectionReader::new(&self.dir, self.path.clone(), offset, length).gently(pace);
        if reader().checksum()? == crc {
            return Ok(reader());
        }
        Err(CheckpointError::DamagedFile {
            path: self.path.clone(),
            reason: format!(
                "the section of operator {operator}, trace {trace} does not have its checksum"
            ),
        })
    }

    /// Reads all sections and forgets them: is the file whole?
    pub fn verify(&self) -> Result<()> {
        self.sections
            .iter()
            .try_for_each(|section| self.read(section).map(drop))
    }
}

fn sections(index: &[u8], end: u64) -> Option<Vec<Section>> {
    let mut sections = Vec::with_capacity(index.len() / ENTRY);
    let mut next = HEADER as u64;
    for entry in index.chunks_exact(ENTRY) {
        let section = Section {
            operator: u32_at(entry, 0),
            trace: u32_at(entry, 4),
            offset: u64_at(entry, 8),
            length: u64_at(entry, 16),
            crc: u32_at(entry, 24),
        };
        if section.offset != next {
            return None;
        }
        next = next.checked_add(section.length)?;
        sections.push(section);
    }
    (next == end).then_some(sections)
}

fn checksum(header: &[u8], index: &[u8], trailer: &[u8]) -> u32 {
    crc32c::crc32c_append(
        crc32c::crc32c_append(crc32c::crc32c(header), index),
        trailer,
    )
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(
        bytes[at..at + 4]
            .try_into()
            .expect("four bytes are four bytes"),
    )
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(
        bytes[at..at + 8]
            .try_into()
            .expect("eight bytes are eight bytes"),
    )
}

fn uuid_at(header: &[u8; HEADER]) -> Uuid {
    Uuid::from_slice(&header[16..]).expect("the header ends with sixteen bytes")
}

/// `delta-12-12-w0of2-5ca1ab1e`, `snapshot-12-w0of2-5ca1ab1e`; zeros in front keep a listing in
/// order. What stands last is this process's own: one that was stopped, was given up by the others
/// and wakes up later cannot put its file in the place of one that they wrote after it.
fn file_name(kind: FileKind, worker: usize, workers: usize, first: Epoch, last: Epoch) -> String {
    static PROCESS: LazyLock<u32> = LazyLock::new(|| Uuid::new_v4().as_fields().0);
    let process = *PROCESS;
    match kind {
        FileKind::Delta => {
            format!("delta-{first:010}-{last:010}-w{worker}of{workers}-{process:08x}")
        }
        FileKind::Snapshot => format!("snapshot-{last:010}-w{worker}of{workers}-{process:08x}"),
    }
}

#[cfg(test)]
#[path = "state_files_tests.rs"]
mod tests;
