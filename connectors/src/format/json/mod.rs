//! JSON records to Arrow columns, by Spark's rules, in one pass over the bytes.
//!
//! [`JsonDecoder`] is given the wanted columns only. Everything else in a record is read over
//! without being built, but it is read: a record that is broken anywhere is corrupt. Scalars go
//! from the bytes straight into the columns; a record that breaks off is taken back out of them.
//!
//! What Spark lets pass passes here: single quotes, a top-level array (a row per element), text
//! after the first document of a line, `NaN` and `Infinity`. A value of a wrong type makes its
//! field null and its record corrupt.

mod decode;
mod document;
mod infer;
mod path;
mod scanner;
mod write;

use std::borrow::Cow;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

pub use document::{array_length, field_texts, object_keys};
pub use infer::JsonInference;
pub use path::JsonPath;

use self::decode::{Context, object};
use self::scanner::{Scan, Scanner, Syntax};
use super::building::Building;
use super::columns::Column;
use super::names::Names;
use super::scan::find_byte;
use super::{Malformed, ParseMode, RecordOptions};
use crate::Result;

/// About how many bytes are checked to be text at a time: few enough to stay in the processor's
/// cache until they are decoded.
const WINDOW: usize = 16 << 10;

/// Decodes JSON records into batches of the wanted columns.
#[derive(Debug)]
pub struct JsonDecoder {
    options: RecordOptions,
    building: Building,
    names: Names,
    scratch: Vec<u8>,
}

impl JsonDecoder {
    /// A decoder of the columns in `schema`: those that are wanted, in any order. A STRING column
    /// named as the corrupt record column receives records that could not be decoded.
    pub fn new(schema: SchemaRef, options: RecordOptions) -> Result<Self> {
        let corrupt = options.corrupt_index(&schema)?;
        let columns = schema
            .fields()
            .iter()
            .map(|field| Column::new(field.name(), field.data_type()))
            .collect::<Result<_>>()?;
        let names = schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .enumerate();
        let names = Names::new(names.filter(|(index, _)| Some(*index) != corrupt));
        Ok(Self {
            names,
            building: Building::new(schema, columns, corrupt),
            options,
            scratch: Vec::new(),
        })
    }

    /// Decodes whole lines until a batch is full, and says how many bytes it took. Only the last
    /// line may lack its newline.
    pub fn push_lines(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        // How far it is known whether the bytes are text, and whether they are.
        let (mut known, mut text) = (0, false);
        let mut at = 0;
        while at < bytes.len() && !self.is_full() {
            if at >= known {
                known = find_byte(bytes, bytes.len().min(at + WINDOW), b'\n');
                let window = &bytes[at..known];
                text = window.is_ascii() || std::str::from_utf8(window).is_ok();
            }
            let end = if text {
                self.push_line(bytes, at)
            } else {
                let end = find_byte(bytes, at, b'\n');
                self.push_record(&bytes[at..end]).map(|()| end)
            };
            at = end.map_err(|mut malformed| {
                malformed.offset += at;
                malformed
            })?;
            at = (at + 1).min(bytes.len());
        }
        Ok(at)
    }

    /// Decodes the line that begins at `at`, which is text, and says where it ends. The end is not
    /// searched but come upon, unless the record is broken.
    fn push_line(&mut self, bytes: &[u8], at: usize) -> Result<usize, Malformed> {
        let before = self.building.rows;
        let mut scanner = Scanner::line(bytes, at);
        let Ok(wrong) = self.decode(&mut scanner, true) else {
            self.building.take_back(before);
            let end = find_byte(bytes, at, b'\n');
            return self.push_record(&bytes[at..end]).map(|()| end);
        };
        let end = find_byte(bytes, scanner.at, b'\n');
        if let Some(column) = wrong {
            self.misfit(before, column, &bytes[at..end])?;
        }
        Ok(end)
    }

    /// Decodes one record: an object, or an array of them. White space alone is no record.
    pub fn push_record(&mut self, record: &[u8]) -> Result<(), Malformed> {
        self.push(record, true)
    }

    /// Decodes one record that is one object: an array of them is malformed.
    pub fn push_object(&mut self, record: &[u8]) -> Result<(), Malformed> {
        self.push(record, false)
    }

    fn push(&mut self, record: &[u8], arrays: bool) -> Result<(), Malformed> {
        // As Java does, bytes that are no UTF-8 become U+FFFD.
        let record: Cow<'_, [u8]> = match std::str::from_utf8(record) {
            Ok(_) => Cow::Borrowed(record),
            Err(_) => Cow::Owned(String::from_utf8_lossy(record).into_owned().into_bytes()),
        };
        let before = self.building.rows;
        let mut scanner = Scanner::new(&record);
        match self.decode(&mut scanner, arrays) {
            Ok(None) => Ok(()),
            Ok(Some(column)) => self.misfit(before, column, &record),
            Err(syntax) => self.broken(before, syntax, scanner.at, &record),
        }
    }

    /// What becomes of a record, whose rows begin at `before`, that has a value of a wrong type in a
    /// column.
    fn misfit(&mut self, before: usize, column: usize, record: &[u8]) -> Result<(), Malformed> {
        let building = &mut self.building;
        match self.options.mode {
            ParseMode::Permissive => building.mark_corrupt(before, record),
            ParseMode::DropMalformed => building.drop_record(before),
            ParseMode::FailFast => {
                building.take_back(before);
                return Err(Malformed::new(0, building.wrong_type(column), record));
            }
        }
        Ok(())
    }

    /// What becomes of a record, whose rows begin at `before`, that breaks off at `at`.
    fn broken(
        &mut self,
        before: usize,
        Syntax { what }: Syntax,
        at: usize,
        record: &[u8],
    ) -> Result<(), Malformed> {
        let building = &mut self.building;
        building.take_back(before);
        match self.options.mode {
            ParseMode::Permissive => {
                building.push_nulls();
                building.mark_corrupt(before, record);
            }
            ParseMode::DropMalformed => building.drop_record(before),
            ParseMode::FailFast => {
                let reason = format!("{what} (at its byte {})", at + 1);
                return Err(Malformed::new(0, reason, record));
            }
        }
        Ok(())
    }

    /// Puts a record into the columns. Gives the first column that had a value of a wrong type.
    fn decode(&mut self, scanner: &mut Scanner<'_>, arrays: bool) -> Scan<Option<usize>> {
        let Self {
            building: Building { columns, rows, .. },
            names,
            options,
            scratch,
        } = self;
        let mut context = Context {
            casts: &options.casts,
            scratch,
        };
        let mut wrong = None;
        match scanner.peek() {
            None => {}
            Some(b'{') => {
                wrong = object(scanner, names, columns, *rows, &mut context)?;
                *rows += 1;
            }
            Some(b'[') if arrays => {
                scanner.enter()?;
                if !scanner.closes(b']') {
                    loop {
                        if scanner.peek() != Some(b'{') {
                            return scanner.error("an array of objects was expected");
                        }
                        let first = object(scanner, names, columns, *rows, &mut context)?;
                        wrong = wrong.or(first);
                        *rows += 1;
                        if !scanner.another(b']')? {
                            break;
                        }
                    }
                }
            }
            Some(_) => return scanner.error("an object was expected"),
        }
        Ok(wrong)
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
        self.building.flush("JSON")
    }
}

#[cfg(test)]
mod tests;
