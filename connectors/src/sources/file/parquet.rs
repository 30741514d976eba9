//! Parquet files: the row groups of a byte range, as the columns that the table declares.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use crate::format::BATCH_ROWS;
use crate::{ConnectorError, Result};

fn bad_file(path: &Path, reason: impl std::fmt::Display) -> ConnectorError {
    ConnectorError::BadFile {
        path: path.into(),
        format: "parquet",
        reason: format!(
            "{reason}. The file is truncated, damaged or of another format: write it again, or move it away"
        ),
    }
}

fn builder(file: File, path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|why| bad_file(path, why))
}

/// The file's own columns, in the types that the engine has.
pub(super) fn schema(file: File, path: &Path) -> Result<Schema> {
    let builder = builder(file, path)?;
    let fields: Vec<_> = builder.schema().fields().iter().map(engine_field).collect();
    Ok(Schema::new(fields))
}

fn engine_field(field: &Arc<Field>) -> Arc<Field> {
    let data_type = engine_type(field.data_type());
    Arc::new(Field::new(field.name(), data_type, true))
}

fn engine_type(found: &DataType) -> DataType {
    match found {
        DataType::Timestamp(_, zone) => DataType::Timestamp(
            TimeUnit::Microsecond,
            zone.as_ref().map(|_| Arc::from("UTC")),
        ),
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::Date64 => DataType::Date32,
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Dictionary(_, values) => engine_type(values),
        DataType::List(item) | DataType::LargeList(item) => DataType::List(engine_field(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(engine_field).collect()),
        other => other.clone(),
    }
}

/// Reads the row groups whose middle lies in a range of bytes.
pub(super) struct ParquetSplit {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    /// For every wanted column its place in what the reader gives.
    places: Vec<Option<usize>>,
    wanted: SchemaRef,
}

impl ParquetSplit {
    /// The columns `wanted`; one that the file does not have is null.
    pub(super) fn open(
        file: File,
        path: &Path,
        range: (u64, u64),
        wanted: SchemaRef,
    ) -> Result<Self> {
        let builder = builder(file, path)?;
        let own = Arc::clone(builder.schema());
        let roots: Vec<Option<usize>> = wanted
            .fields()
            .iter()
            .map(|field| {
                own.index_of(field.name()).ok().or_else(|| {
                    own.fields()
                        .iter()
                        .position(|found| found.name().eq_ignore_ascii_case(field.name()))
                })
            })
            .collect();
        let mut read: Vec<usize> = roots.iter().flatten().copied().collect();
        read.sort_unstable();
        read.dedup();
        let places = roots
            .iter()
            .map(|root| root.and_then(|root| read.iter().position(|found| *found == root)))
            .collect();
        let (start, end) = (range.0, range.0.saturating_add(range.1));
        let groups = builder
            .metadata()
            .row_groups()
            .iter()
            .enumerate()
            .filter(|(_, group)| {
                let first = group
                    .columns()
                    .first()
                    .map_or(0, |column| column.byte_range().0);
                let size = u64::try_from(group.compressed_size()).unwrap_or(0);
                (start..end).contains(&(first + size / 2))
            })
            .map(|(index, _)| index)
            .collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), read);
        let reader = builder
            .with_row_groups(groups)
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(|why| bad_file(path, why))?;
        Ok(Self {
            path: path.into(),
            reader,
            places,
            wanted,
        })
    }

    /// The next batch of the wanted columns.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(batch) = self.reader.next() else {
            return Ok(None);
        };
        let batch = batch.map_err(|why| bad_file(&self.path, why))?;
        let columns = self
            .wanted
            .fields()
            .iter()
            .zip(&self.places)
            .map(|(field, place)| match place {
                None => Ok(new_null_array(field.data_type(), batch.num_rows())),
                Some(place) => self.convert(batch.column(*place), field),
            })
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.wanted), columns, &options)
            .map(Some)
            .map_err(|source| ConnectorError::Arrow {
                context: format!("building a batch from {}", self.path.display()),
                source,
            })
    }

    fn convert(&self, array: &ArrayRef, field: &Field) -> Result<ArrayRef> {
        if array.data_type() == field.data_type() {
            return Ok(Arc::clone(array));
        }
        let mismatch = |why: String| {
            ConnectorError::Schema(format!(
                "{}: the column '{}' is a {} in the file and cannot be read as {}{why}; declare it as it is",
                self.path.display(),
                field.name(),
                array.data_type(),
                field.data_type()
            ))
        };
        // Text is never taken for a number behind the user's back.
        let text = |found: &DataType| {
            matches!(
                found,
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
            )
        };
        let binary = |found: &DataType| {
            matches!(
                found,
                DataType::Binary | DataType::LargeBinary | DataType::BinaryView
            )
        };
        if text(array.data_type()) != text(field.data_type())
            && !binary(array.data_type())
            && !field.data_type().is_nested()
            && !matches!(array.data_type(), DataType::Dictionary(..))
        {
            return Err(mismatch(String::new()));
        }
        let options = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        cast_with_options(array, field.data_type(), &options)
            .map_err(|why| mismatch(format!(" ({why})")))
    }
}
