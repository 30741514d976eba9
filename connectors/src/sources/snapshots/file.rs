//! The files that hold the rows of a table: a header, then frames of some thousand rows.
//!
//! `docs/format.md` has the layout, byte by byte. A frame says whether its rows came or went, and can be read by
//! itself: it is what a split names.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};

use crate::storage::{Storage, StorageReader, StorageWriter};
use crate::{ConnectorError, Result};

const MAGIC: [u8; 8] = *b"TDMKTABL";

/// The version of the layout.
const LAYOUT: u32 = 1;

const HEADER: u64 = 24;
const FRAME_HEADER: u64 = 16;

/// A frame is written when it has so many rows,
const ROWS: usize = 1 << 16;

/// or so many bytes in memory.
const BYTES: usize = 4 << 20;

/// What a frame is, beside its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Where it begins in its file.
    pub(super) at: u64,
    /// Of its rows, compressed.
    pub(super) bytes: u32,
    pub(super) rows: u32,
    /// Its rows have gone, rather than come.
    pub(super) gone: bool,
    crc: u32,
}

impl Frame {
    /// Whether both hold the same, wherever they are.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        Self { at: 0, ..*self } == Self { at: 0, ..*other }
    }
}

/// Writes such a file.
pub(super) struct FrameWriter {
    file: Box<dyn StorageWriter>,
    path: PathBuf,
    schema: SchemaRef,
    /// Rows that came and rows that went, which wait for more.
    waiting: [Waiting; 2],
    frames: Vec<Frame>,
    end: u64,
}

#[derive(Default)]
struct Waiting {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl FrameWriter {
    /// Begins a file of rows that were read at `read_at`, microseconds since 1970 UTC.
    pub(super) fn create(
        storage: &dyn Storage,
        path: &Path,
        schema: &SchemaRef,
        read_at: i64,
    ) -> Result<Self> {
        let failed = |source| failed("cannot write", path, source);
        let mut file = storage.create(path).map_err(failed)?;
        let mut header = MAGIC.to_vec();
        header.extend(LAYOUT.to_le_bytes());
        header.extend([0; 4]);
        header.extend(read_at.to_le_bytes());
        file.write_all(&header).map_err(failed)?;
        Ok(Self {
            file,
            path: path.to_path_buf(),
            schema: Arc::clone(schema),
            waiting: Default::default(),
            frames: Vec::new(),
            end: HEADER,
        })
    }

    /// Adds rows that came, or with `gone` went.
    pub(super) fn add(&mut self, mut batch: RecordBatch, gone: bool) -> Result<()> {
        while batch.num_rows() > ROWS {
            self.add_piece(batch.slice(0, ROWS), gone)?;
            batch = batch.slice(ROWS, batch.num_rows() - ROWS);
        }
        self.add_piece(batch, gone)
    }

    fn add_piece(&mut self, batch: RecordBatch, gone: bool) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let waiting = &mut self.waiting[usize::from(gone)];
        waiting.rows += batch.num_rows();
        waiting.bytes += batch.get_array_memory_size();
        waiting.batches.push(batch);
        if waiting.rows >= ROWS || waiting.bytes >= BYTES {
            self.flush(gone)?;
        }
        Ok(())
    }

    fn flush(&mut self, gone: bool) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting[usize::from(gone)]);
        if waiting.rows == 0 {
            return Ok(());
        }
        let encode = || -> Result<Vec<u8>, ArrowError> {
            let rows = concat_batches(&self.schema, &waiting.batches)?;
            let options = IpcWriteOptions::default()
                .try_with_compression(Some(CompressionType::LZ4_FRAME))?;
            let mut writer = StreamWriter::try_new_with_options(Vec::new(), &self.schema, options)?;
            writer.write(&rows)?;
            writer.finish()?;
            writer.into_inner()
        };
        let body = encode().map_err(|source| ConnectorError::Arrow {
            context: format!("writing {}", self.path.display()),
            source,
        })?;
        let mut bytes = Vec::with_capacity(FRAME_HEADER as usize + body.len());
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend((waiting.rows as u32).to_le_bytes());
        bytes.extend(u32::from(gone).to_le_bytes());
        bytes.extend(&body);
        let crc = crc32c::crc32c(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        let written = self.file.write_all(&bytes);
        written.map_err(|source| failed("cannot write", &self.path, source))?;
        self.frames.push(Frame {
            at: self.end,
            bytes: body.len() as u32,
            rows: waiting.rows as u32,
            gone,
            crc,
        });
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Writes what waits: the frames, and the file, which is not durable yet.
    pub(super) fn finish(mut self) -> Result<(Vec<Frame>, Unsynced)> {
        // Whoever reads in order forgets before it takes in.
        self.flush(true)?;
        self.flush(false)?;
        let file = Unsynced {
            file: self.file,
            path: self.path,
        };
        Ok((self.frames, file))
    }
}

/// A file that is written and not durable: one that nobody needs never is.
#[derive(Debug)]
#[must_use]
pub(super) struct Unsynced {
    file: Box<dyn StorageWriter>,
    path: PathBuf,
}

impl Unsynced {
    /// Makes it durable, but for its name.
    pub(super) fn sync(mut self) -> Result<()> {
        let synced = self.file.sync();
        synced.map_err(|source| failed("cannot write", &self.path, source))
    }
}

/// Reads such a file.
pub(super) struct FrameReader {
    file: Box<dyn StorageReader>,
    path: PathBuf,
    length: u64,
    /// When its rows were read, microseconds since 1970 UTC.
    pub(super) read_at: i64,
}

impl FrameReader {
    pub(super) fn open(storage: &dyn Storage, path: &Path) -> Result<Self> {
        let failed = |source| failed("cannot read", path, source);
        let mut file = storage.open(path).map_err(failed)?;
        let length = file.length().map_err(failed)?;
        let mut header = [0; HEADER as usize];
        if length < HEADER {
            return Err(damaged(path, "it is cut off"));
        }
        file.read_at(0, &mut header).map_err(failed)?;
        let (magic, rest) = header.split_at(8);
        if magic != MAGIC {
            return Err(damaged(path, "it is something else"));
        }
        if word(rest, 0) != LAYOUT {
            return Err(damaged(path, "another version of tidemark wrote it"));
        }
        let read_at = i64::from(word(rest, 8)) | i64::from(word(rest, 12)) << 32;
        Ok(Self {
            file,
            path: path.to_path_buf(),
            length,
            read_at,
        })
    }

    /// All its frames, in order.
    pub(super) fn frames(&mut self) -> Result<Vec<Frame>> {
        let mut frames = Vec::new();
        let mut at = HEADER;
        while at < self.length {
            let frame = self.frame(at)?;
            at += FRAME_HEADER + u64::from(frame.bytes);
            frames.push(frame);
        }
        Ok(frames)
    }

    /// The frame that begins at `at`.
    pub(super) fn frame(&mut self, at: u64) -> Result<Frame> {
        let mut header = [0; FRAME_HEADER as usize];
        if at.saturating_add(FRAME_HEADER) > self.length {
            return Err(damaged(&self.path, "it is cut off"));
        }
        let read = self.file.read_at(at, &mut header);
        read.map_err(|source| failed("cannot read", &self.path, source))?;
        let frame = Frame {
            at,
            bytes: word(&header, 0),
            crc: word(&header, 4),
            rows: word(&header, 8),
            gone: word(&header, 12) != 0,
        };
        if at + FRAME_HEADER + u64::from(frame.bytes) > self.length {
            return Err(damaged(&self.path, "it is cut off"));
        }
        Ok(frame)
    }

    /// The rows of a frame.
    pub(super) fn rows(&mut self, frame: &Frame) -> Result<RecordBatch> {
        // The checksum covers the second half of the header, too.
        let mut bytes = vec![0; frame.bytes as usize + 8];
        let read = self.file.read_at(frame.at + 8, &mut bytes);
        read.map_err(|source| failed("cannot read", &self.path, source))?;
        if crc32c::crc32c(&bytes) != frame.crc {
            return Err(damaged(&self.path, "its checksum is wrong"));
        }
        let decode = || StreamReader::try_new(&bytes[8..], None)?.next().transpose();
        let rows = decode().map_err(|source| ConnectorError::Arrow {
            context: format!("reading {}", self.path.display()),
            source,
        })?;
        rows.ok_or_else(|| damaged(&self.path, "a frame has no rows"))
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    u32::from_le_bytes(*word.expect("headers have a fixed length"))
}

pub(super) fn failed(action: &'static str, path: &Path, source: io::Error) -> ConnectorError {
    ConnectorError::Io {
        action,
        path: path.to_path_buf(),
        source,
    }
}

pub(super) fn damaged(path: &Path, reason: &str) -> ConnectorError {
    ConnectorError::BadFile {
        path: path.to_path_buf(),
        format: "the snapshot of a table",
        reason: format!("{reason}; take it from a backup, or begin with a new checkpoint"),
    }
}
