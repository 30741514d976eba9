//! The options of a `file` source, read and checked once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use globset::{Glob, GlobMatcher};

use crate::format::RecordOptions;
use crate::format::csv::CsvOptions;
use crate::{ConnectorError, Options, Result};

/// The connector's name.
pub(super) const NAME: &str = "file";

const KEYS: &[&str] = &[
    "path",
    "format",
    "maxFilesPerTrigger",
    "maxBytesPerTrigger",
    "latestFirst",
    "fileNameOnly",
    "maxFileAge",
    "cleanSource",
    "sourceArchiveDir",
    "recursiveFileLookup",
    "pathGlobFilter",
    "schemaInference",
    "inferSchema",
    "primitivesAsString",
    "compression",
];

/// The format of the files.
#[derive(Clone, Debug)]
pub(super) enum Format {
    Json {
        record: RecordOptions,
        multi_line: bool,
        primitives_as_string: bool,
    },
    Csv {
        options: CsvOptions,
        infer_types: bool,
    },
    Parquet,
}

impl Format {
    /// As `'format'` names it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Json { .. } => "json",
            Self::Csv { .. } => "csv",
            Self::Parquet => "parquet",
        }
    }

    pub(super) fn record(&self) -> Option<&RecordOptions> {
        match self {
            Self::Json { record, .. } => Some(record),
            Self::Csv { options, .. } => Some(&options.record),
            Self::Parquet => None,
        }
    }

    /// Whether a record may go over several lines, so that a file must be read as a whole.
    pub(super) fn multi_line(&self) -> bool {
        match self {
            Self::Json { multi_line, .. } => *multi_line,
            Self::Csv { options, .. } => options.multi_line,
            Self::Parquet => false,
        }
    }
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// What becomes of a file whose rows are all committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Clean {
    Off,
    Delete,
    Archive(PathBuf),
}

/// The options of a `file` source.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub(super) struct FileOptions {
    /// The path as written.
    pub(super) written: String,
    /// Absolute; may hold wildcards.
    pub(super) path: PathBuf,
    pub(super) format: Format,
    pub(super) max_files: Option<u64>,
    pub(super) max_bytes: Option<u64>,
    pub(super) latest_first: bool,
    pub(super) file_name_only: bool,
    pub(super) max_age: Duration,
    pub(super) clean: Clean,
    pub(super) recursive: bool,
    pub(super) name_filter: Option<GlobMatcher>,
    pub(super) schema_inference: bool,
    /// `None`: by the file's extension.
    pub(super) compression: Option<Compression>,
}

impl FileOptions {
    pub(super) fn new(options: &Options) -> Result<Self> {
        let written =
            options.require(NAME, "path", "write 'path' = 'DIRECTORY', a file or a glob")?;
        let format = Self::format(options)?;
        let path = local_path(options, written)?;
        let clean = match options
            .get("cleanSource")
            .map(str::to_ascii_lowercase)
            .as_deref()
        {
            None | Some("off") => Clean::Off,
            Some("delete") => Clean::Delete,
            Some("archive") => {
                let directory = options.require(
                    NAME,
                    "sourceArchiveDir",
                    "'cleanSource' = 'archive' moves the files there",
                )?;
                let directory = absolute(options, "sourceArchiveDir", directory)?;
                if directory.starts_with(super::listing::fixed_root(&path)) {
                    return Err(options.bad(
                        "sourceArchiveDir",
                        "a directory outside of 'path', else archived files would be read again"
                            .into(),
                    ));
                }
                Clean::Archive(directory)
            }
            Some(_) => return Err(options.bad("cleanSource", "off, archive or delete".into())),
        };
        let latest_first = options.boolean("latestFirst", false)?;
        let max_files = options.integer("maxFilesPerTrigger", 1)?;
        let max_bytes = options.bytes("maxBytesPerTrigger")?;
        let week = Duration::from_hours(7 * 24);
        let mut max_age = options.duration("maxFileAge")?.unwrap_or(week);
        if latest_first && (max_files.is_some() || max_bytes.is_some()) {
            // Old files may only be reached after all newer ones: they must not be too old then.
            max_age = Duration::MAX;
        }
        let name_filter = match options.get("pathGlobFilter") {
            None => None,
            Some(pattern) => Some(
                Glob::new(pattern)
                    .map_err(|why| {
                        options.bad("pathGlobFilter", format!("a glob such as '*.json' ({why})"))
                    })?
                    .compile_matcher(),
            ),
        };
        let compression = match options
            .get("compression")
            .map(str::to_ascii_lowercase)
            .as_deref()
        {
            None | Some("auto") => None,
            Some("none" | "uncompressed") => Some(Compression::None),
            Some("gzip" | "gz") => Some(Compression::Gzip),
            Some("zstd" | "zst") => Some(Compression::Zstd),
            Some(_) => return Err(options.bad("compression", "none, gzip or zstd".into())),
        };
        Ok(Self {
            written: written.into(),
            path,
            format,
            max_files,
            max_bytes,
            latest_first,
            file_name_only: options.boolean("fileNameOnly", false)?,
            max_age,
            clean,
            recursive: options.boolean("recursiveFileLookup", false)?,
            name_filter,
            schema_inference: options.boolean("schemaInference", false)?
                || options.boolean("inferSchema", false)?,
            compression,
        })
    }

    fn format(options: &Options) -> Result<Format> {
        let name = options.require(
            NAME,
            "format",
            "write 'format' = 'json', 'csv' or 'parquet'",
        )?;
        let format = match name.to_ascii_lowercase().as_str() {
            "json" => Format::Json {
                record: RecordOptions::new(options)?,
                multi_line: options.boolean("multiLine", false)?,
                primitives_as_string: options.boolean("primitivesAsString", false)?,
            },
            "csv" => Format::Csv {
                options: CsvOptions::new(options)?,
                infer_types: options.boolean("inferSchema", false)?,
            },
            "parquet" => Format::Parquet,
            _ => return Err(options.bad("format", "json, csv or parquet".into())),
        };
        let mut known = KEYS.to_vec();
        match &format {
            Format::Json { .. } => {
                known.extend(RecordOptions::KEYS);
                known.push("multiLine");
            }
            Format::Csv { .. } => {
                known.extend(RecordOptions::KEYS);
                known.extend(CsvOptions::KEYS);
            }
            Format::Parquet => {}
        }
        options.check_known(NAME, &known)?;
        Ok(format)
    }

    /// How the file at `path` is compressed.
    pub(super) fn compression_of(&self, path: &Path) -> Result<Compression> {
        if let Some(fixed) = self.compression {
            return Ok(fixed);
        }
        let extension = path
            .extension()
            .unwrap_or_default()
            .to_string_lossy()
            .to_ascii_lowercase();
        match extension.as_str() {
            "gz" | "gzip" => Ok(Compression::Gzip),
            "zst" | "zstd" => Ok(Compression::Zstd),
            "bz2" | "xz" | "lz4" | "snappy" | "deflate" | "br" => Err(ConnectorError::BadFile {
                path: path.into(),
                format: self.format.name(),
                reason: format!(
                    "files compressed as '.{extension}' are not supported; compress it with gzip or zstd, or leave it out with 'pathGlobFilter'"
                ),
            }),
            _ => Ok(Compression::None),
        }
    }
}

fn local_path(options: &Options, written: &str) -> Result<PathBuf> {
    let local = written
        .strip_prefix("file://")
        .or_else(|| written.strip_prefix("file:"));
    if local.is_none() && written.contains("://") {
        return Err(options.bad("path", "a path of this machine".into()));
    }
    absolute(options, "path", local.unwrap_or(written))
}

fn absolute(options: &Options, key: &str, path: &str) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|why| options.bad(key, format!("a path ({why})")))
}
