//! One file being written: rows to bytes, compressed, counted.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as Codec, GzipLevel, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::super::json::JsonStyle;
use super::super::{csv, json};
use super::manifest::io_error;
use super::options::{Compression, FileOptions, Format};
use crate::storage::StorageWriter;
use crate::{ConnectorError, Result};

/// Text is handed on in pieces of about this size.
const PIECE: usize = 64 << 10;

/// A file under construction.
pub(super) struct Encoder {
    path: PathBuf,
    body: Body,
}

enum Body {
    Text {
        out: Box<TextOut>,
        style: TextStyle,
        piece: String,
    },
    Parquet(Box<ArrowWriter<Counted>>),
}

enum TextStyle {
    Json(JsonStyle),
    Csv(Arc<FileOptions>),
}

impl Encoder {
    /// Begins a file for rows of `schema`, which holds the stored columns.
    pub(super) fn new(
        options: &Arc<FileOptions>,
        schema: &SchemaRef,
        path: &Path,
        file: Box<dyn StorageWriter>,
    ) -> Result<Self> {
        let path = path.to_owned();
        let out = Counted {
            file: BufWriter::with_capacity(PIECE, file),
            bytes: 0,
        };
        let mut piece = String::new();
        let style = match &options.format {
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(codec(options.compression))
                    .set_created_by(concat!("tidemark ", env!("CARGO_PKG_VERSION")).into())
                    .build();
                let writer = ArrowWriter::try_new(out, Arc::clone(schema), Some(properties))
                    .map_err(|error| parquet_error(&path, error))?;
                return Ok(Self {
                    path,
                    body: Body::Parquet(Box::new(writer)),
                });
            }
            Format::Json { ignore_nulls } => TextStyle::Json(JsonStyle {
                zone: options.zone,
                ignore_nulls: *ignore_nulls,
            }),
            Format::Csv(form) => {
                if form.header {
                    piece = csv::header(schema, form);
                }
                TextStyle::Csv(Arc::clone(options))
            }
        };
        let out = TextOut::new(options.compression, out)
            .map_err(|source| io_error("cannot write", &path, source))?;
        let out = Box::new(out);
        Ok(Self {
            path,
            body: Body::Text { out, style, piece },
        })
    }

    /// Adds rows.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let path = &self.path;
        match &mut self.body {
            Body::Parquet(writer) => writer
                .write(batch)
                .map_err(|error| parquet_error(path, error)),
            Body::Text { out, style, piece } => {
                let row_text = match style {
                    TextStyle::Json(style) => json::rows(batch, *style)?,
                    TextStyle::Csv(options) => match &options.format {
                        Format::Csv(form) => csv::rows(batch, form, options.zone)?,
                        _ => return Ok(()),
                    },
                };
                for row in 0..batch.num_rows() {
                    row_text(row, piece);
                    piece.push('\n');
                    if piece.len() >= PIECE {
                        flush_piece(out, piece, path)?;
                    }
                }
                flush_piece(out, piece, path)
            }
        }
    }

    /// About how long the file would be if it ended here.
    pub(super) fn size(&self) -> u64 {
        match &self.body {
            Body::Parquet(writer) => (writer.bytes_written() + writer.in_progress_size()) as u64,
            Body::Text { out, piece, .. } => out.bytes() + piece.len() as u64,
        }
    }

    /// How much memory waits to be written.
    pub(super) fn memory(&self) -> usize {
        match &self.body {
            Body::Parquet(writer) => writer.memory_size(),
            Body::Text { .. } => PIECE,
        }
    }

    /// Ends the file, makes it durable and says how long it is.
    pub(super) fn finish(self) -> Result<u64> {
        let path = self.path;
        let failed = |source| io_error("cannot write", &path, source);
        let mut out = match self.body {
            Body::Parquet(writer) => writer
                .into_inner()
                .map_err(|error| parquet_error(&path, error))?,
            Body::Text {
                mut out, mut piece, ..
            } => {
                flush_piece(&mut out, &mut piece, &path)?;
                out.finish().map_err(failed)?
            }
        };
        out.flush().map_err(failed)?;
        out.file.get_mut().sync().map_err(failed)?;
        Ok(out.bytes)
    }
}

fn flush_piece(out: &mut TextOut, piece: &mut String, path: &Path) -> Result<()> {
    out.write_all(piece.as_bytes())
        .map_err(|source| io_error("cannot write", path, source))?;
    piece.clear();
    Ok(())
}

fn codec(compression: Compression) -> Codec {
    match compression {
        Compression::None => Codec::UNCOMPRESSED,
        Compression::Gzip => Codec::GZIP(GzipLevel::default()),
        Compression::Zstd => Codec::ZSTD(ZstdLevel::default()),
        Compression::Snappy => Codec::SNAPPY,
        Compression::Lz4 => Codec::LZ4_RAW,
    }
}

/// What the file system said, if it was the file system; parquet's own reason otherwise.
fn parquet_error(path: &Path, error: ParquetError) -> ConnectorError {
    let reason = match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(source) => return io_error("cannot write", path, *source),
            Err(source) => source.to_string(),
        },
        other => other.to_string(),
    };
    ConnectorError::Schema(format!(
        "cannot write {} as parquet: {reason}; cast the column in the query, or write json",
        path.display()
    ))
}

/// Compressed or not.
enum TextOut {
    Plain(Counted),
    Gzip(GzEncoder<Counted>),
    Zstd(zstd::Encoder<'static, Counted>),
}

impl TextOut {
    fn new(compression: Compression, out: Counted) -> io::Result<Self> {
        Ok(match compression {
            Compression::Gzip => Self::Gzip(GzEncoder::new(out, flate2::Compression::default())),
            Compression::Zstd => {
                Self::Zstd(zstd::Encoder::new(out, zstd::DEFAULT_COMPRESSION_LEVEL)?)
            }
            Compression::None | Compression::Snappy | Compression::Lz4 => Self::Plain(out),
        })
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.write_all(bytes),
            Self::Gzip(out) => out.write_all(bytes),
            Self::Zstd(out) => out.write_all(bytes),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Plain(out) => out.bytes,
            Self::Gzip(out) => out.get_ref().bytes,
            Self::Zstd(out) => out.get_ref().bytes,
        }
    }

    fn finish(self) -> io::Result<Counted> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Gzip(out) => out.finish(),
            Self::Zstd(out) => out.finish(),
        }
    }
}

/// A file that knows how long it is.
struct Counted {
    file: BufWriter<Box<dyn StorageWriter>>,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
