//! Reading the splits of a file source.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, StructArray,
    TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::FileSplit;
use super::lines::{Lines, open_checked};
use super::options::{FileOptions, Format};
use super::parquet::ParquetSplit;
use super::{partitions, schema};
use crate::format::casts::Casts;
use crate::format::csv::CsvDecoder;
use crate::format::json::JsonDecoder;
use crate::format::scan::find_byte;
use crate::format::{BATCH_ROWS, RecordDecoder, columns_to_decode};
use crate::{
    ConnectorError, METADATA_COLUMN, Place, Read, Result, SourceReader, Split, SplitReader,
};

/// Opens the splits of one source.
#[derive(Debug)]
pub(super) struct FileReader {
    pub(super) schema: SchemaRef,
    pub(super) options: Arc<FileOptions>,
    /// Below it directories may name columns.
    pub(super) root: PathBuf,
}

/// Where an output column comes from.
enum Column {
    /// A column of what was decoded.
    Decoded(usize),
    /// One row that stands for all.
    Constant(ArrayRef),
}

impl SourceReader for FileReader {
    fn open(&self, split: &Split, projection: &[usize]) -> Result<Box<dyn SplitReader>> {
        Ok(Box::new(self.open_split(split, projection)?))
    }

    fn locate(&self, split: &Split, projection: &[usize], rows: &[u64]) -> Result<Vec<Place>> {
        super::locate::locate(self, split, projection, rows)
    }
}

impl FileReader {
    fn open_split(&self, split: &Split, projection: &[usize]) -> Result<FileSplitReader> {
        let file = FileSplit::of(&split.range)?;
        let path = Path::new(&file.path);
        let keys = if self.options.recursive {
            Vec::new()
        } else {
            partitions::keys(&self.root, path)
        };
        let default = Casts::default();
        let casts = self
            .options
            .format
            .record()
            .map_or(&default, |record| &record.casts);
        let key_of = |name: &str| keys.iter().find(|key| key.name.eq_ignore_ascii_case(name));

        let fields = self.schema.fields();
        let in_file: Vec<_> = fields
            .iter()
            .filter(|field| key_of(field.name()).is_none())
            .map(Arc::clone)
            .collect();
        let in_file = Schema::new(in_file);
        let mut decoded: Vec<FieldRef> = Vec::new();
        let mut columns = Vec::with_capacity(projection.len());
        let mut output = Vec::with_capacity(projection.len());
        for index in projection {
            let Some(field) = fields.get(*index) else {
                let metadata = metadata(&file, path)?;
                output.push(Arc::new(arrow::datatypes::Field::new(
                    METADATA_COLUMN,
                    metadata.data_type().clone(),
                    false,
                )));
                columns.push(Column::Constant(metadata));
                continue;
            };
            output.push(Arc::clone(field));
            if let Some(key) = key_of(field.name()) {
                let value = partitions::array(key, field, casts, path)?;
                columns.push(Column::Constant(value));
            } else {
                columns.push(Column::Decoded(decoded.len()));
                decoded.push(Arc::clone(field));
            }
        }
        let decoded = columns_to_decode(decoded, &in_file, self.options.format.record());
        let body = self.body(&file, path, &in_file, Arc::new(Schema::new(decoded)))?;
        Ok(FileSplitReader {
            body,
            columns,
            output: Arc::new(Schema::new(output)),
            pending: None,
        })
    }

    /// The split as lines of text; `None` where it is none, or is read as a whole.
    pub(super) fn text(&self, split: &Split, projection: &[usize]) -> Result<Option<Text>> {
        Ok(match self.open_split(split, projection)?.body {
            Body::Text(text) if text.lines.is_some() => Some(*text),
            _ => None,
        })
    }

    fn body(
        &self,
        file: &FileSplit,
        path: &Path,
        in_file: &Schema,
        wanted: SchemaRef,
    ) -> Result<Body> {
        let range = (file.start, file.length);
        let compression = self.options.compression_of(path)?;
        let decoder = match &self.options.format {
            Format::Parquet => {
                let opened = open_checked(path, file.size)?;
                return ParquetSplit::open(opened, path, range, wanted)
                    .map(Box::new)
                    .map(Body::Parquet);
            }
            Format::Json { record, .. } => {
                RecordDecoder::Json(JsonDecoder::new(wanted, record.clone())?)
            }
            Format::Csv { options, .. } => RecordDecoder::Csv(CsvDecoder::new(
                in_file,
                wanted,
                options.clone(),
                file.start == 0,
            )?),
        };
        let lines = Lines::open(path, file.size, range, compression)?;
        let mut text = Text {
            path: path.into(),
            decoder,
            lines: None,
            whole: Vec::new(),
            at: 0,
            file: file.clone(),
            compression,
        };
        if self.options.format.multi_line() {
            text.whole = lines.whole()?;
        } else {
            text.lines = Some(lines);
        }
        Ok(Body::Text(Box::new(text)))
    }
}

/// The hidden metadata column of a split, as one row.
fn metadata(file: &FileSplit, path: &Path) -> Result<ArrayRef> {
    let text = |value: String| -> ArrayRef { Arc::new(StringArray::from(vec![value])) };
    let number = |value: u64| -> ArrayRef { Arc::new(Int64Array::from(vec![value as i64])) };
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let modified =
        TimestampMicrosecondArray::from(vec![file.mtime.saturating_mul(1000)]).with_timezone("UTC");
    let columns = vec![
        text(uri(&file.path)),
        text(uri_escape(&name)),
        number(file.size),
        number(file.start),
        number(file.length),
        Arc::new(modified),
    ];
    let fields = schema::metadata().fields().clone();
    let array =
        StructArray::try_new(fields, columns, None).map_err(|source| ConnectorError::Arrow {
            context: "building the metadata column".into(),
            source,
        })?;
    Ok(Arc::new(array))
}

/// `file:///a/b%20c.json`, as Spark writes it.
fn uri(path: &str) -> String {
    format!("file://{}", uri_escape(path))
}

fn uri_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            ' ' | '%' | '"' | '<' | '>' | '#' | '?' | '\\' | '^' | '`' | '{' | '|' | '}' | '['
            | ']' => {
                // Writing to a string cannot fail.
                let _ = write!(out, "%{:02X}", letter as u32);
            }
            other => out.push(other),
        }
    }
    out
}

/// A text file being decoded: by lines, or as a whole.
pub(super) struct Text {
    path: PathBuf,
    pub(super) decoder: RecordDecoder,
    lines: Option<Lines>,
    whole: Vec<u8>,
    /// How much of `whole` is decoded.
    at: usize,
    file: FileSplit,
    compression: super::options::Compression,
}

impl Text {
    /// Decodes until a batch is full or nothing is left.
    fn next(&mut self) -> Result<Option<(RecordBatch, u64)>> {
        while !self.decoder.is_full() {
            let Self {
                decoder,
                lines,
                whole,
                at,
                ..
            } = self;
            let (result, position) = if let Some(lines) = lines {
                let block = lines.block()?;
                if block.is_empty() {
                    break;
                }
                let result = decoder.push_lines(block);
                let read = *result.as_ref().unwrap_or(&0);
                let position = lines.position();
                lines.consume(read);
                (result, position)
            } else {
                if *at >= whole.len() {
                    break;
                }
                let position = *at as u64;
                let result = decoder.push_whole(&whole[*at..]);
                *at += *result.as_ref().unwrap_or(&0);
                (result, position)
            };
            if let Err(malformed) = result {
                let place = self.place(position + malformed.offset as u64);
                return Err(malformed.at(place));
            }
        }
        let (batch, dropped) = self.decoder.flush()?;
        Ok((batch.num_rows() > 0 || dropped > 0).then_some((batch, dropped)))
    }

    /// The next whole lines and where in the file they begin; `None` at the end.
    pub(super) fn block(&mut self) -> Result<Option<(u64, Vec<u8>)>> {
        let Some(lines) = &mut self.lines else {
            return Ok(None);
        };
        let block = lines.block()?.to_vec();
        let position = lines.position();
        lines.consume(block.len());
        Ok((!block.is_empty()).then_some((position, block)))
    }

    /// The path and line of a byte of the file; the byte where the file cannot be read again.
    fn place(&self, position: u64) -> String {
        let path = self.path.display();
        match self.line_of(position) {
            Some(line) => format!("{path}:{line}"),
            None => format!("{path} at byte {position}"),
        }
    }

    /// The line of a byte of the file, from 1.
    pub(super) fn line_of(&self, position: u64) -> Option<u64> {
        let count = |bytes: &[u8]| {
            let (mut at, mut found) = (0, 0);
            loop {
                at = find_byte(bytes, at, b'\n') + 1;
                if at > bytes.len() {
                    return found;
                }
                found += 1;
            }
        };
        if self.lines.is_none() {
            return Some(1 + count(&self.whole[..(position as usize).min(self.whole.len())]));
        }
        let mut lines = Lines::open(
            &self.path,
            self.file.size,
            (0, self.file.size),
            self.compression,
        )
        .ok()?;
        let mut line = 1;
        loop {
            let start = lines.position();
            let block = lines.block().ok()?;
            let left = position.saturating_sub(start) as usize;
            if block.is_empty() || left < block.len() {
                return Some(line + count(&block[..left.min(block.len())]));
            }
            line += count(block);
            let length = block.len();
            lines.consume(length);
        }
    }
}

enum Body {
    Text(Box<Text>),
    Parquet(Box<ParquetSplit>),
}

/// Reads one split and puts constant columns beside what was decoded.
struct FileSplitReader {
    body: Body,
    columns: Vec<Column>,
    output: SchemaRef,
    /// What is left of a decoded batch that was too long.
    pending: Option<RecordBatch>,
}

impl SplitReader for FileSplitReader {
    fn read(&mut self) -> Result<Read> {
        let next = match (self.pending.take(), &mut self.body) {
            (Some(batch), _) => Some((batch, 0)),
            (None, Body::Text(text)) => text.next()?,
            (None, Body::Parquet(parquet)) => parquet.next()?.map(|batch| (batch, 0)),
        };
        let Some((batch, dropped)) = next else {
            return Ok(Read::End);
        };
        let batch = if batch.num_rows() > BATCH_ROWS {
            self.pending = Some(batch.slice(BATCH_ROWS, batch.num_rows() - BATCH_ROWS));
            batch.slice(0, BATCH_ROWS)
        } else {
            batch
        };
        let batch = self
            .assemble(&batch)
            .map_err(|source| ConnectorError::Arrow {
                context: "building a batch of a file".into(),
                source,
            })?;
        Ok(Read::Batch { batch, dropped })
    }
}

impl FileSplitReader {
    fn assemble(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let rows = batch.num_rows();
        let mut first = None;
        let columns = self
            .columns
            .iter()
            .map(|column| match column {
                Column::Decoded(index) => Ok(Arc::clone(batch.column(*index))),
                Column::Constant(row) => {
                    let indices = first.get_or_insert_with(|| UInt32Array::from(vec![0; rows]));
                    take(row, indices, None)
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.output), columns, &options)
    }
}
