//! The lines of a file, or of a range of its bytes, in blocks.
//!
//! A range owns the lines that *start* in it, so that ranges side by side give every line once.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::listing::cannot_read;
use super::options::Compression;
use crate::format::MAX_RECORD;
use crate::format::scan::find_byte;
use crate::{ConnectorError, Result};

/// How much is read at a time: what a processor's second cache holds until it is decoded.
const BLOCK: usize = 256 << 10;

/// Opens the file at `path`, which was `size` bytes long when it was planned.
pub(super) fn open_checked(path: &Path, size: u64) -> Result<File> {
    let changed = |what: &str| {
        ConnectorError::Inconsistent(format!(
            "{}: the file {what} after it was planned to be read. Files must be complete when they appear (write them elsewhere and rename them) and stay until they are committed; put it back as it was, or start over with a new 'checkpointLocation'",
            path.display()
        ))
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(changed("was removed"));
        }
        Err(error) => return Err(cannot_read(path, error)),
    };
    let now = file
        .metadata()
        .map_err(|error| cannot_read(path, error))?
        .len();
    if now == size {
        Ok(file)
    } else {
        Err(changed(&format!(
            "changed its size from {size} to {now} bytes"
        )))
    }
}

/// Blocks of whole lines.
pub(super) struct Lines {
    path: PathBuf,
    format: &'static str,
    source: Box<dyn Read + Send>,
    /// Longer than what is in it, so that it is made and cleared once only.
    buffer: Vec<u8>,
    /// Where in the buffer the unread part begins, and where it ends.
    at: usize,
    filled: usize,
    /// Where in the file (uncompressed) the buffer begins.
    base: u64,
    /// Where the range ends.
    end: u64,
    /// The bytes that must come if the file is what it was.
    expected: Option<u64>,
    /// Whether it begins within the file, so that the first line may belong to the range before.
    within: bool,
    ended: bool,
    started: bool,
}

impl Lines {
    /// The lines that start in `length` bytes from `start`; of a compressed file always all.
    pub(super) fn open(
        path: &Path,
        size: u64,
        (start, length): (u64, u64),
        compression: Compression,
    ) -> Result<Self> {
        let mut file = open_checked(path, size)?;
        let (mut format, mut base, mut end, mut expected) = ("text", 0, u64::MAX, None);
        let source: Box<dyn Read + Send> = match compression {
            Compression::None => {
                // One byte earlier, to see whether a line starts exactly here.
                base = start.saturating_sub(1);
                end = start.saturating_add(length);
                file.seek(SeekFrom::Start(base))
                    .map_err(|error| cannot_read(path, error))?;
                expected = Some(size - base.min(size));
                Box::new(file.take(size - base.min(size)))
            }
            Compression::Gzip => {
                format = "gzip";
                Box::new(MultiGzDecoder::new(file))
            }
            Compression::Zstd => {
                format = "zstd";
                Box::new(
                    zstd::stream::read::Decoder::new(file)
                        .map_err(|error| cannot_read(path, error))?,
                )
            }
        };
        Ok(Self {
            path: path.into(),
            format,
            source,
            buffer: Vec::new(),
            at: 0,
            filled: 0,
            base,
            end,
            expected,
            within: base > 0 || (start > 0 && end != u64::MAX),
            ended: false,
            started: false,
        })
    }

    /// Where in the file the unread part begins.
    pub(super) fn position(&self) -> u64 {
        self.base + self.at as u64
    }

    /// The unread whole lines at hand, reading on where there are none; empty at the end.
    pub(super) fn block(&mut self) -> Result<&[u8]> {
        if !self.started {
            self.start()?;
        }
        loop {
            if self.position() >= self.end {
                return Ok(&[]);
            }
            if let Some(end) = self.whole_lines() {
                return Ok(&self.buffer[self.at..end]);
            }
            if self.ended {
                return Ok(&self.buffer[self.at..self.filled]);
            }
            self.fill()?;
        }
    }

    /// Marks `bytes` of the last block as read.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Everything, for formats whose records go over lines.
    pub(super) fn whole(mut self) -> Result<Vec<u8>> {
        self.start()?;
        while !self.ended {
            self.check_record(self.filled)?;
            self.fill()?;
        }
        self.buffer.truncate(self.filled);
        self.buffer.drain(..self.at);
        Ok(self.buffer)
    }

    /// Goes to the first line that the range owns.
    fn start(&mut self) -> Result<()> {
        self.started = true;
        if !self.within {
            while !self.ended && self.filled < 3 {
                self.fill()?;
            }
            if self.buffer[..self.filled].starts_with(b"\xEF\xBB\xBF") {
                self.at = 3;
            }
            return Ok(());
        }
        loop {
            let newline = find_byte(&self.buffer[..self.filled], self.at, b'\n');
            if newline < self.filled {
                self.at = newline + 1;
                return Ok(());
            }
            self.at = self.filled;
            if self.ended {
                return Ok(());
            }
            self.fill()?;
        }
    }

    /// The end of the whole lines in the buffer that the range owns.
    fn whole_lines(&self) -> Option<usize> {
        let buffered = &self.buffer[self.at..self.filled];
        let left = self.end - self.position();
        if left <= buffered.len() as u64 {
            // The line that holds the range's last byte is the last one.
            let last = find_byte(buffered, left as usize - 1, b'\n');
            if last < buffered.len() {
                return Some(self.at + last + 1);
            }
        }
        if self.ended {
            return Some(self.filled).filter(|end| *end > self.at);
        }
        let newline = buffered.iter().rposition(|byte| *byte == b'\n')?;
        Some(self.at + newline + 1)
    }

    fn fill(&mut self) -> Result<()> {
        self.buffer.copy_within(self.at..self.filled, 0);
        self.filled -= self.at;
        self.base += self.at as u64;
        self.at = 0;
        self.check_record(self.filled)?;
        let before = self.filled;
        let room = before + BLOCK.max(before);
        if self.buffer.len() < room {
            self.buffer.resize(room, 0);
        }
        while self.filled < room {
            match self.source.read(&mut self.buffer[self.filled..room]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(&error)),
            }
        }
        if let Some(expected) = &mut self.expected {
            *expected -= (self.filled - before) as u64;
            if self.ended && *expected > 0 {
                return Err(ConnectorError::Inconsistent(format!(
                    "{}: the file became shorter while it was read. Files must stay as they are until they are committed",
                    self.path.display()
                )));
            }
        }
        Ok(())
    }

    fn broken(&self, error: &std::io::Error) -> ConnectorError {
        if self.format == "text" {
            return cannot_read(
                &self.path,
                std::io::Error::new(error.kind(), error.to_string()),
            );
        }
        ConnectorError::BadFile {
            path: self.path.clone(),
            format: self.format,
            reason: format!(
                "{error}. The file is truncated or damaged: write it again, or move it away"
            ),
        }
    }

    fn check_record(&self, length: usize) -> Result<()> {
        if length <= MAX_RECORD {
            return Ok(());
        }
        Err(ConnectorError::BadFile {
            path: self.path.clone(),
            format: self.format,
            reason: format!(
                "a record is longer than {} MiB; write one record a line",
                MAX_RECORD >> 20
            ),
        })
    }
}
