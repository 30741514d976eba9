//! CSV records to Arrow columns, by Spark's rules.
//!
//! Columns go by position. A record with too few or too many fields is corrupt, as is one with a
//! value of a wrong type; what could be decoded of it is kept. An empty field is null, and so is
//! `""` unless `nullValue` says otherwise.

mod infer;
mod tokens;

use std::borrow::Cow;
use std::collections::HashMap;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};

pub use infer::CsvInference;

use self::tokens::Tokens;
use super::building::Building;
use super::columns::Column;
use super::scan::find_byte;
use super::{Malformed, ParseMode, RecordOptions};
use crate::{ConnectorError, Options, Result};

/// How CSV is written.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub struct CsvOptions {
    /// What all text formats have.
    pub record: RecordOptions,
    /// Whether the first record of a file names the columns.
    pub header: bool,
    /// What stands between fields; never empty.
    pub separator: Vec<u8>,
    /// What stands around fields that contain separators.
    pub quote: Option<u8>,
    /// What stands before a quote inside quotes.
    pub escape: Option<u8>,
    /// What begins a line that is no record.
    pub comment: Option<u8>,
    /// The text that means null.
    pub null_value: Vec<u8>,
    /// What `""` means.
    pub empty_value: Vec<u8>,
    /// `ignoreLeadingWhiteSpace`.
    pub trim_start: bool,
    /// `ignoreTrailingWhiteSpace`.
    pub trim_end: bool,
    /// Whether a newline inside quotes belongs to the field.
    pub multi_line: bool,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            record: RecordOptions::default(),
            header: false,
            separator: vec![b','],
            quote: Some(b'"'),
            escape: Some(b'\\'),
            comment: None,
            null_value: Vec::new(),
            empty_value: Vec::new(),
            trim_start: false,
            trim_end: false,
            multi_line: false,
        }
    }
}

impl CsvOptions {
    /// The names that [`Self::new`] reads, beside [`RecordOptions::KEYS`].
    pub const KEYS: &'static [&'static str] = &[
        "header",
        "sep",
        "delimiter",
        "quote",
        "escape",
        "comment",
        "nullValue",
        "emptyValue",
        "ignoreLeadingWhiteSpace",
        "ignoreTrailingWhiteSpace",
        "multiLine",
    ];

    /// Takes the options out of a table's.
    pub fn new(options: &Options) -> Result<Self> {
        let default = Self::default();
        let byte = |key: &str, default: Option<u8>| match options.get(key) {
            None => Ok(default),
            Some("") => Ok(None),
            Some(text) => match unescape_option(text).as_slice() {
                [byte] if byte.is_ascii() => Ok(Some(*byte).filter(|byte| *byte != 0)),
                _ => Err(options.bad(key, "one ASCII character".into())),
            },
        };
        let separator_key = if options.get("sep").is_some() {
            "sep"
        } else {
            "delimiter"
        };
        let separator = options
            .get(separator_key)
            .map_or(default.separator, unescape_option);
        if separator.is_empty() || separator.contains(&b'\n') {
            return Err(options.bad(
                separator_key,
                "at least one character, and no newline".into(),
            ));
        }
        Ok(Self {
            record: RecordOptions::new(options)?,
            header: options.boolean("header", false)?,
            separator,
            quote: byte("quote", default.quote)?,
            escape: byte("escape", default.escape)?,
            comment: byte("comment", None)?,
            null_value: options.get("nullValue").unwrap_or_default().into(),
            empty_value: options.get("emptyValue").unwrap_or_default().into(),
            trim_start: options.boolean("ignoreLeadingWhiteSpace", false)?,
            trim_end: options.boolean("ignoreTrailingWhiteSpace", false)?,
            multi_line: options.boolean("multiLine", false)?,
        })
    }

    /// Whether a line holds no record.
    fn is_nothing(&self, line: &[u8]) -> bool {
        line.trim_ascii().is_empty()
            || (self.comment.is_some() && line.first().copied() == self.comment)
    }

    /// The end of the record that begins at `at`, once its fields are read into `tokens`; `None`
    /// where a line holds none. The end is that of its last line, without the newline.
    fn next_record(&self, bytes: &[u8], at: usize, tokens: &mut Tokens) -> (usize, bool) {
        let line_end = find_byte(bytes, at, b'\n');
        if self.is_nothing(&bytes[at..line_end]) {
            return (line_end, false);
        }
        if self.multi_line {
            return (tokens.read(bytes, at, self), true);
        }
        let line = &bytes[..line_end];
        let line = line
            .strip_suffix(b"\r")
            .filter(|l| l.len() >= at)
            .unwrap_or(line);
        tokens.read(line, at, self);
        (line_end, true)
    }
}

/// `\t` and the like, as Spark lets them be written.
fn unescape_option(text: &str) -> Vec<u8> {
    match text {
        "\\t" => vec![b'\t'],
        "\\0" | "\\u0000" => vec![0],
        "\\\\" => vec![b'\\'],
        "\\u0001" => vec![1],
        other => other.into(),
    }
}

/// Decodes CSV records into batches of the wanted columns.
#[derive(Debug)]
pub struct CsvDecoder {
    options: CsvOptions,
    building: Building,
    /// For every field of a record the column that it goes to.
    targets: Vec<Option<usize>>,
    header_pending: bool,
    tokens: Tokens,
}

impl CsvDecoder {
    /// A decoder of the columns `wanted` of files whose fields are `fields`, in order; a corrupt
    /// record column among them has no place in the files. `first` says that what follows is the
    /// beginning of a file, where a header stands if there is one.
    pub fn new(
        fields: &Schema,
        wanted: SchemaRef,
        options: CsvOptions,
        first: bool,
    ) -> Result<Self> {
        let corrupt = options.record.corrupt_index(&wanted)?;
        let columns = wanted
            .fields()
            .iter()
            .map(|field| match field.data_type() {
                nested if nested.is_nested() => Err(ConnectorError::Schema(format!(
                    "column '{}' is a {nested}, which CSV cannot hold; declare it as STRING",
                    field.name()
                ))),
                plain => Column::new(field.name(), plain),
            })
            .collect::<Result<_>>()?;
        let places: HashMap<&str, usize> = wanted
            .fields()
            .iter()
            .enumerate()
            .map(|(index, field)| (field.name().as_str(), index))
            .collect();
        let targets = fields
            .fields()
            .iter()
            .filter(|field| *field.name() != options.record.corrupt_column)
            .map(|field| places.get(field.name().as_str()).copied())
            .collect();
        Ok(Self {
            header_pending: first && options.header,
            building: Building::new(wanted, columns, corrupt),
            targets,
            options,
            tokens: Tokens::default(),
        })
    }

    /// Decodes whole records until a batch is full, and says how many bytes it took. Only the last
    /// record may lack its newline.
    pub fn push_lines(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut at = 0;
        while at < bytes.len() && !self.is_full() {
            let (end, found) = self.options.next_record(bytes, at, &mut self.tokens);
            if found {
                if self.header_pending {
                    self.header_pending = false;
                } else {
                    self.take_record(bytes, at, end)?;
                }
            }
            at = (end + 1).min(bytes.len());
        }
        Ok(at)
    }

    /// Decodes one record, which is one row. A blank one is a record too.
    pub fn push_record(&mut self, record: &[u8]) -> Result<(), Malformed> {
        self.tokens.read(record, 0, &self.options);
        self.take_record(record, 0, record.len())
    }

    /// A row of nulls.
    pub fn push_nulls(&mut self) {
        self.building.push_nulls();
    }

    /// Puts the fields in `tokens` into the columns.
    fn take_record(&mut self, input: &[u8], start: usize, end: usize) -> Result<(), Malformed> {
        let record = &input[start..end];
        let valid = std::str::from_utf8(record).is_ok();
        let mut wrong = None;
        let building = &mut self.building;
        let row = building.rows;
        for (position, target) in self.targets.iter().enumerate() {
            let Some(target) = *target else { continue };
            let column = &mut building.columns[target];
            match self.tokens.get(input, position, &self.options) {
                None => column.push_null(),
                Some(text) => {
                    let text = if valid {
                        Cow::Borrowed(text)
                    } else {
                        Cow::Owned(String::from_utf8_lossy(text).into_owned().into_bytes())
                    };
                    if !column.push_text(&text, &self.options.record.casts) {
                        wrong.get_or_insert(target);
                    }
                }
            }
        }
        let unset = building.columns.iter_mut().filter(|c| c.len() == row);
        unset.for_each(Column::push_null);
        building.rows += 1;
        let (found, expected) = (self.tokens.len(), self.targets.len());
        if wrong.is_none() && found == expected {
            return Ok(());
        }
        match self.options.record.mode {
            ParseMode::Permissive => {
                building.mark_corrupt(row, String::from_utf8_lossy(record).as_bytes());
                Ok(())
            }
            ParseMode::DropMalformed => {
                building.drop_record(row);
                Ok(())
            }
            ParseMode::FailFast => {
                building.take_back(row);
                let reason = wrong.map_or_else(
                    || format!("it has {found} fields where {expected} were expected"),
                    |column| building.wrong_type(column),
                );
                Err(Malformed::new(start, reason, record))
            }
        }
    }

    /// How many rows wait for [`Self::flush`].
    pub fn rows(&self) -> usize {
        self.building.rows
    }

    /// Whether it is time to flush.
    pub fn is_full(&self) -> bool {
        self.building.is_full()
    }

    /// Hands out the rows so far, and how many records were dropped beside them.
    pub fn flush(&mut self) -> Result<(RecordBatch, u64)> {
        self.building.flush("CSV")
    }
}

#[cfg(test)]
mod tests;
