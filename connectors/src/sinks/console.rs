//! The sink for the eye: an aligned table per epoch, in the form of Spark's console sink.
//!
//! Options: `numRows` (20), `truncate` (`true`: 20 characters; `false`; a number), `timeZone`
//! (UTC; a query gives its session's), `sorted` (`false`): rows in the order of their text, where the order of arrival does not
//! matter to the reader.
//!
//! In changelog mode the first column is `_change_type`; in update mode it is there in an epoch
//! that deletes rows. The rows before an update are shown in changelog mode only.

use std::fmt::{self, Debug, Write as _};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::changes::{self, CHANGE_TYPE_COLUMN};
use super::held::Held;
use super::show::{ShowOptions, show};
use crate::{
    ChangeType, ConnectorError, Delivery, Distribution, Options, Output, OutputMode, Result, Sink,
    SinkConfig, SinkWriter, Staged, Visible,
};

/// Prints each epoch.
pub struct ConsoleSink {
    options: ShowOptions,
    config: SinkConfig,
    held: Held,
    out: Box<dyn Write + Send>,
}

impl ConsoleSink {
    /// A console on standard output.
    pub fn open(options: &Options, config: SinkConfig) -> Result<Self> {
        Self::to(Box::new(io::stdout()), options, config)
    }

    /// A console on anything that takes text.
    pub fn to(out: Box<dyn Write + Send>, options: &Options, config: SinkConfig) -> Result<Self> {
        options.check_known("console", ShowOptions::NAMES)?;
        let options = ShowOptions::from_options(options)?;
        Ok(Self {
            options,
            config,
            held: Held::default(),
            out,
        })
    }

    fn table(&self, outputs: &[(u64, Output)]) -> Result<String> {
        let deletes = |(_, output): &(u64, Output)| {
            output
                .changes
                .as_ref()
                .is_some_and(|all| all.contains(&ChangeType::Delete))
        };
        let marked = match self.config.mode {
            OutputMode::Append | OutputMode::Complete => false,
            OutputMode::Update => outputs.iter().any(deletes),
            OutputMode::Changelog => true,
        };
        let preimages = self.config.mode == OutputMode::Changelog;
        let wanted = |change| preimages || change != ChangeType::UpdatePreimage;
        let schema = if marked {
            marked_schema(&self.config.schema)
        } else {
            self.config.schema.clone()
        };
        let mut batches = Vec::with_capacity(outputs.len());
        for (_, output) in outputs {
            let batch = if marked {
                mark(output, &schema)?
            } else {
                output.batch.clone()
            };
            let changes = output.changes.clone();
            batches.push(changes::keep(&Output { batch, changes }, wanted)?);
        }
        show(&schema, &batches, &self.options)
    }
}

fn marked_schema(schema: &SchemaRef) -> SchemaRef {
    let mark = Arc::new(Field::new(CHANGE_TYPE_COLUMN, DataType::Utf8, false));
    Arc::new(Schema::new(
        std::iter::once(mark)
            .chain(schema.fields().iter().cloned())
            .collect::<Vec<_>>(),
    ))
}

fn mark(output: &Output, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = std::iter::once(changes::change_types(output))
        .chain(output.batch.columns().iter().cloned());
    RecordBatch::try_new(Arc::clone(schema), columns.collect()).map_err(|source| {
        ConnectorError::Arrow {
            context: "cannot show the changes of the epoch".into(),
            source,
        }
    })
}

impl Debug for ConsoleSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleSink")
            .field("options", &self.options)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Sink for ConsoleSink {
    fn description(&self) -> String {
        "ConsoleSink".into()
    }

    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }

    fn visible(&self) -> Visible {
        Visible::EachTick
    }

    fn distribution(&self) -> Distribution {
        Distribution::Single
    }

    fn last_committed(&mut self) -> Result<Option<u64>> {
        Ok(None)
    }

    fn discard_uncommitted(&mut self) -> Result<()> {
        self.held.clear();
        Ok(())
    }

    fn commit(&mut self, epoch: u64, staged: &[Staged]) -> Result<()> {
        let outputs = self.held.take(epoch, staged)?;
        let line = "-".repeat(43);
        let mut text = format!("{line}\nBatch: {epoch}\n{line}\n");
        let _ = writeln!(text, "{}", self.table(&outputs)?);
        let written = self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush());
        written.map_err(|source| match source.kind() {
            io::ErrorKind::BrokenPipe => ConnectorError::ReaderGone("the console"),
            _ => ConnectorError::Io {
                action: "cannot print to",
                path: PathBuf::from("the console"),
                source,
            },
        })
    }

    fn writer(&self, _: usize) -> Result<Box<dyn SinkWriter>> {
        Ok(self.held.writer())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use arrow::array::Int32Array;

    use super::*;

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Screen {
        fn text(&self) -> String {
            let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            String::from_utf8(bytes.clone()).unwrap()
        }
    }

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn run(mode: OutputMode, changes: Option<Vec<ChangeType>>) -> String {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int32, true)]));
        let config = SinkConfig {
            query_name: "q".into(),
            query_id: "id".into(),
            schema: Arc::clone(&schema),
            mode,
            key: None,
            storage: Arc::new(crate::storage::Disk),
            continuous: false,
        };
        let screen = Screen::default();
        let mut sink = ConsoleSink::to(Box::new(screen.clone()), &Options::new(), config).unwrap();
        let mut writer = sink.writer(0).unwrap();
        let rows = changes.as_ref().map_or(2, Vec::len) as i32;
        let batch = RecordBatch::try_new(
            schema,
            vec![Arc::new(Int32Array::from_iter_values(0..rows))],
        );
        writer
            .write(
                3,
                &Output {
                    batch: batch.unwrap(),
                    changes,
                },
            )
            .unwrap();
        let staged = writer.stage(3).unwrap();
        sink.commit(3, &[staged]).unwrap();
        screen.text()
    }

    #[test]
    fn an_epoch_has_spark_s_header() {
        let line = "-".repeat(43);
        assert_eq!(
            run(OutputMode::Append, None),
            format!("{line}\nBatch: 3\n{line}\n+---+\n|  n|\n+---+\n|  0|\n|  1|\n+---+\n\n")
        );
    }

    #[test]
    fn changes_are_named_where_they_matter() {
        use ChangeType::{Delete, Insert, UpdatePostimage, UpdatePreimage};
        let update = run(
            OutputMode::Update,
            Some(vec![UpdatePreimage, UpdatePostimage]),
        );
        assert!(
            !update.contains(CHANGE_TYPE_COLUMN) && update.contains("|  1|"),
            "{update}"
        );
        assert!(!update.contains("|  0|"), "{update}");
        let update = run(OutputMode::Update, Some(vec![Insert, Delete]));
        assert!(update.contains("|      delete|  1|"), "{update}");
        let changelog = run(
            OutputMode::Changelog,
            Some(vec![UpdatePreimage, UpdatePostimage]),
        );
        assert!(changelog.contains("| update_preimage|  0|"), "{changelog}");
    }

    #[test]
    fn an_option_it_does_not_have_is_named() {
        let config = SinkConfig {
            query_name: "q".into(),
            query_id: "id".into(),
            schema: Arc::new(Schema::empty()),
            mode: OutputMode::Append,
            key: None,
            storage: Arc::new(crate::storage::Disk),
            continuous: false,
        };
        let options: Options = [("numRow", "1")].into_iter().collect();
        let error = ConsoleSink::open(&options, config).unwrap_err();
        assert!(
            error.to_string().contains("did you mean 'numRows'"),
            "{error}"
        );
    }
}
