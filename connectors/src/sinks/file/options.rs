//! The options of the file sink, checked before anything is written.

use std::path::PathBuf;

use arrow::datatypes::{DataType, SchemaRef};

use super::super::changes;
use super::super::csv::CsvOptions;
use super::super::text::Zone;
use crate::options::nearest;
use crate::{ConnectorError, Options, Result, SinkConfig};

const COMMON: &[&str] = &[
    "path",
    "format",
    "partitionBy",
    "targetFileSize",
    "compression",
    "timeZone",
];
const CSV: &[&str] = &["header", "sep", "delimiter", "quote", "escape", "nullValue"];
const JSON: &[&str] = &["ignoreNullFields"];

/// What the sink was asked for.
#[derive(Clone, Debug)]
pub(super) struct FileOptions {
    pub(super) root: PathBuf,
    pub(super) format: Format,
    pub(super) compression: Compression,
    /// About how long a file may become.
    pub(super) target_size: u64,
    pub(super) zone: Zone,
    /// The columns of a row as it is logged: the query's and those of the mode.
    pub(super) schema: SchemaRef,
    /// The columns that name directories, by index into `schema`.
    pub(super) partition_by: Vec<usize>,
    /// The columns that are in the files, by index into `schema`.
    pub(super) stored: Vec<usize>,
}

/// The format of the files.
#[derive(Clone, Debug)]
pub(super) enum Format {
    Parquet,
    Json { ignore_nulls: bool },
    Csv(CsvOptions),
}

/// How files are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
    Snappy,
    Lz4,
}

impl FileOptions {
    pub(super) fn read(options: &Options, config: &SinkConfig) -> Result<Self> {
        let root = options
            .require("file", "path", "the directory to write to")?
            .trim();
        if root.is_empty() {
            return Err(options.bad("path", "a directory".into()));
        }
        let name = options
            .get("format")
            .unwrap_or("parquet")
            .trim()
            .to_ascii_lowercase();
        let own: &[&str] = match name.as_str() {
            "parquet" => &[],
            "json" => JSON,
            "csv" => CSV,
            _ => return Err(options.bad("format", "parquet, json or csv".into())),
        };
        options.check_known("file", &[COMMON, own].concat())?;
        let format = match name.as_str() {
            "json" => Format::Json {
                ignore_nulls: options.boolean("ignoreNullFields", true)?,
            },
            "csv" => Format::Csv(CsvOptions::new(options)?),
            _ => Format::Parquet,
        };
        let schema = changes::log_schema(&config.schema, config.mode)?;
        let partition_by = partition_columns(options, &config.schema)?;
        let stored: Vec<usize> = (0..schema.fields().len())
            .filter(|column| !partition_by.contains(column))
            .collect();
        if stored.is_empty() {
            return Err(ConnectorError::Schema(
                "'partitionBy' names every column: leave at least one for the files".into(),
            ));
        }
        Ok(Self {
            root: root.strip_prefix("file://").unwrap_or(root).into(),
            compression: compression(options, &format)?,
            format,
            target_size: options.bytes("targetFileSize")?.unwrap_or(128 << 20).max(1),
            zone: Zone::from_options(options)?,
            schema,
            partition_by,
            stored,
        })
    }

    /// What a file's name ends in.
    pub(super) fn extension(&self) -> &'static str {
        match (&self.format, self.compression) {
            (Format::Parquet, _) => "parquet",
            (Format::Json { .. }, Compression::Gzip) => "json.gz",
            (Format::Json { .. }, Compression::Zstd) => "json.zst",
            (Format::Json { .. }, _) => "json",
            (Format::Csv(_), Compression::Gzip) => "csv.gz",
            (Format::Csv(_), Compression::Zstd) => "csv.zst",
            (Format::Csv(_), _) => "csv",
        }
    }
}

fn compression(options: &Options, format: &Format) -> Result<Compression> {
    let name = options
        .get("compression")
        .map(|name| name.trim().to_ascii_lowercase());
    let parquet = matches!(format, Format::Parquet);
    Ok(match name.as_deref() {
        None | Some("snappy") if parquet => Compression::Snappy,
        None | Some("none" | "uncompressed") => Compression::None,
        Some("gzip") => Compression::Gzip,
        Some("zstd") => Compression::Zstd,
        Some("lz4" | "lz4_raw") if parquet => Compression::Lz4,
        Some(_) if parquet => {
            return Err(options.bad("compression", "none, snappy, gzip, zstd or lz4".into()));
        }
        Some(_) => return Err(options.bad("compression", "none, gzip or zstd".into())),
    })
}

fn partition_columns(options: &Options, schema: &SchemaRef) -> Result<Vec<usize>> {
    let mut columns: Vec<usize> = Vec::new();
    let names = options.get("partitionBy").unwrap_or_default();
    for name in names
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        let all = || schema.fields().iter().map(|field| field.name().as_str());
        let Some(column) = all().position(|field| field.eq_ignore_ascii_case(name)) else {
            let near = nearest(name, all()).map(|near| format!(", did you mean '{near}'?"));
            return Err(options.bad(
                "partitionBy",
                format!(
                    "columns of the result; it has no '{name}'{}",
                    near.unwrap_or_else(|| format!(": {}", all().collect::<Vec<_>>().join(", ")))
                ),
            ));
        };
        let field = schema.field(column);
        if columns.contains(&column) {
            return Err(options.bad(
                "partitionBy",
                format!("each column once; '{name}' is there twice"),
            ));
        }
        if field.name().starts_with(['_', '.']) {
            return Err(options.bad(
                "partitionBy",
                format!("columns that do not begin with '_' or '.', as '{name}' does: readers take such directories for hidden"),
            ));
        }
        let mut kind = field.data_type();
        while let DataType::Dictionary(_, values) = kind {
            kind = values;
        }
        let binary = matches!(
            kind,
            DataType::Binary
                | DataType::LargeBinary
                | DataType::BinaryView
                | DataType::FixedSizeBinary(_)
        );
        if kind.is_nested() || binary {
            return Err(options.bad(
                "partitionBy",
                format!(
                    "columns of text, numbers, dates or times; '{name}' is {}",
                    field.data_type()
                ),
            ));
        }
        columns.push(column);
    }
    Ok(columns)
}
