//! The columns of files that nobody declared.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use super::lines::{Lines, open_checked};
use super::listing::{self, Found};
use super::options::{FileOptions, Format, NAME};
use super::{parquet, partitions};
use crate::format::csv::CsvInference;
use crate::format::json::JsonInference;
use crate::{ConnectorError, Result};

/// How many files, and how many bytes of them, are looked at.
const SAMPLE_FILES: usize = 100;
const SAMPLE_BYTES: u64 = 64 << 20;

/// The schema of a source: the declared columns as they are (none of them NOT NULL: files promise
/// nothing), or those that the files have, then those of their directories.
pub(super) fn resolve(declared: Option<SchemaRef>, options: &FileOptions) -> Result<SchemaRef> {
    if let Some(declared) = declared {
        let fields: Vec<_> = declared.fields().iter().map(nullable).collect();
        if let Some(twice) = duplicate(&fields) {
            return Err(ConnectorError::Schema(format!(
                "the column '{twice}' is declared twice: rename one"
            )));
        }
        if let Some(record) = options.format.record() {
            record.corrupt_index(&declared)?;
        }
        return Ok(Arc::new(Schema::new(fields)));
    }
    let knows_its_own = matches!(options.format, Format::Parquet);
    if !options.schema_inference && !knows_its_own {
        return Err(ConnectorError::MissingOption {
            connector: NAME.into(),
            key: "schemaInference".into(),
            remedy: format!(
                "the table declares no columns. Declare them, or write 'schemaInference' = 'true' to take them from the {} files in {}",
                options.format.name(),
                options.written
            ),
        });
    }
    let mut files = listing::list(options)?;
    files.sort_by(|one, other| one.path.cmp(&other.path));
    let data = infer(&files, options)?;
    let Some(data) = data else {
        return Err(ConnectorError::Schema(format!(
            "cannot infer the columns of {}: there is no {} file with records in it yet. Declare the columns, or put a file there first",
            options.written,
            options.format.name()
        )));
    };
    let mut fields: Vec<_> = data.fields().iter().map(nullable).collect();
    if !options.recursive {
        let root = listing::fixed_root(&options.path);
        let keys: Vec<_> = files
            .iter()
            .map(|file| partitions::keys(&root, Path::new(&file.path)))
            .collect();
        for key in partitions::infer(keys.iter().map(Vec::as_slice)) {
            fields.retain(|field| field.name() != key.name());
            fields.push(key);
        }
    }
    if let Some(twice) = duplicate(&fields) {
        return Err(ConnectorError::Schema(format!(
            "the files in {} have two columns '{twice}' (names are without case): declare the columns",
            options.written
        )));
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn infer(files: &[Found], options: &FileOptions) -> Result<Option<Schema>> {
    let mut bytes = 0;
    let sample = files.iter().take(SAMPLE_FILES).take_while(|file| {
        let before = bytes;
        bytes += file.size;
        before < SAMPLE_BYTES
    });
    match &options.format {
        Format::Parquet => match files.first() {
            None => Ok(None),
            Some(file) => {
                let path = Path::new(&file.path);
                parquet::schema(open_checked(path, file.size)?, path).map(Some)
            }
        },
        Format::Json {
            record,
            multi_line,
            primitives_as_string,
        } => {
            let mut inference = JsonInference::new(record, *primitives_as_string);
            for file in sample {
                let mut lines = open(file, options)?;
                if *multi_line {
                    inference.push_record(&lines.whole()?);
                    continue;
                }
                read_blocks(&mut lines, |block, _| {
                    for line in block.split(|byte| *byte == b'\n') {
                        inference.push_record(line);
                    }
                })?;
            }
            Ok((!inference.is_empty()).then(|| inference.finish()))
        }
        Format::Csv {
            options: csv,
            infer_types,
        } => {
            let mut inference = CsvInference::new(csv.clone(), *infer_types);
            for file in sample {
                let mut lines = open(file, options)?;
                if csv.multi_line {
                    inference.push_lines(&lines.whole()?, true);
                    continue;
                }
                read_blocks(&mut lines, |block, first| {
                    inference.push_lines(block, first);
                })?;
            }
            Ok((!inference.is_empty()).then(|| inference.finish()))
        }
    }
}

fn open(file: &Found, options: &FileOptions) -> Result<Lines> {
    let path = Path::new(&file.path);
    Lines::open(
        path,
        file.size,
        (0, file.size),
        options.compression_of(path)?,
    )
}

/// The first blocks of a file, as many as a sample needs.
fn read_blocks(lines: &mut Lines, mut each: impl FnMut(&[u8], bool)) -> Result<()> {
    let mut read = 0;
    loop {
        let block = lines.block()?;
        if block.is_empty() || read >= SAMPLE_BYTES {
            return Ok(());
        }
        each(block, read == 0);
        let length = block.len();
        read += length as u64;
        lines.consume(length);
    }
}

fn duplicate(fields: &[Arc<Field>]) -> Option<String> {
    let mut seen = std::collections::HashSet::new();
    fields
        .iter()
        .find(|field| !seen.insert(field.name().as_str()))
        .map(|field| field.name().clone())
}

/// The same column, where it and everything in it may be null.
fn nullable(field: &Arc<Field>) -> Arc<Field> {
    let data_type = match field.data_type() {
        DataType::List(item) => DataType::List(nullable(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(nullable).collect()),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                let pair = Fields::from(vec![Arc::clone(&pair[0]), nullable(&pair[1])]);
                let entries = entries
                    .as_ref()
                    .clone()
                    .with_data_type(DataType::Struct(pair));
                DataType::Map(Arc::new(entries), *sorted)
            }
            _ => field.data_type().clone(),
        },
        other => other.clone(),
    };
    Arc::new(
        field
            .as_ref()
            .clone()
            .with_data_type(data_type)
            .with_nullable(true),
    )
}

/// The fields of the hidden `_metadata` column, as in Spark.
pub(super) fn metadata() -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        field("file_path", DataType::Utf8),
        field("file_name", DataType::Utf8),
        field("file_size", DataType::Int64),
        field("file_block_start", DataType::Int64),
        field("file_block_length", DataType::Int64),
        field(
            "file_modification_time",
            DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
        ),
    ]))
}
