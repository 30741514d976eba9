//! The sink behind a result that somebody looks at: the shell's `SELECT`.
//!
//! What is kept depends on what the query can do:
//!
//! | the query | kept |
//! |---|---|
//! | never takes a row back | its rows as they come: all, or at most so many between two looks |
//! | complete mode | the rows of the newest epoch |
//! | else | how often each row is there now: the sum of the changelog, in the order of the columns |
//!
//! Nothing is durable and nothing is printed here.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};

use super::held::Held;
use crate::{
    ChangeType, ConnectorError, Delivery, Distribution, Output, OutputMode, Result, Sink,
    SinkConfig, SinkWriter, Staged,
};

/// The rows that a result may hold.
const MAX_ROWS: u64 = 10_000_000;

/// A query's result. Clones are handles of one result; any thread may look at it at any time.
#[derive(Clone)]
pub struct ResultTable(Arc<Mutex<Contents>>);

struct Contents {
    schema: SchemaRef,
    /// Rows that are there: in `batches`, or counted.
    total: i64,
    batches: Vec<RecordBatch>,
    counted: Option<Counted>,
    /// For rows that come and stay: how many to keep between two looks.
    limit: Option<u64>,
    /// Rows that were left out since the last look.
    skipped: u64,
}

/// How often each row is there.
struct Counted {
    converter: RowConverter,
    rows: BTreeMap<Box<[u8]>, i64>,
}

/// Rows that came since the last look.
#[derive(Debug)]
pub struct Fresh {
    /// The rows, in the order in which they came.
    pub batches: Vec<RecordBatch>,
    /// How many more there were than were kept.
    pub skipped: u64,
}

impl ResultTable {
    /// An empty result. `append_only`: no row is ever taken back. `limit`: how many of such rows
    /// to keep until they are taken; the others are only counted.
    pub fn new(
        schema: SchemaRef,
        mode: OutputMode,
        append_only: bool,
        limit: Option<u64>,
    ) -> Result<Self> {
        let counted = if append_only || mode == OutputMode::Complete {
            None
        } else {
            let fields = schema.fields().iter();
            let fields = fields.map(|field| SortField::new(field.data_type().clone()));
            let converter = RowConverter::new(fields.collect()).map_err(comparing)?;
            Some(Counted {
                converter,
                rows: BTreeMap::new(),
            })
        };
        Ok(Self(Arc::new(Mutex::new(Contents {
            schema,
            total: 0,
            batches: Vec::new(),
            counted,
            limit: limit.filter(|_| append_only && mode != OutputMode::Complete),
            skipped: 0,
        }))))
    }

    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.lock().schema)
    }

    /// Takes the rows that came since the last call.
    pub fn take_fresh(&self) -> Fresh {
        let mut contents = self.lock();
        Fresh {
            batches: std::mem::take(&mut contents.batches),
            skipped: std::mem::take(&mut contents.skipped),
        }
    }

    /// How many rows there are, and the last `most` of them.
    pub fn last_rows(&self, most: usize) -> Result<(u64, Vec<RecordBatch>)> {
        let contents = self.lock();
        let Some(counted) = &contents.counted else {
            let mut missing = most;
            let mut last = Vec::new();
            for batch in contents.batches.iter().rev() {
                let wanted = missing.min(batch.num_rows());
                if wanted > 0 {
                    last.push(batch.slice(batch.num_rows() - wanted, wanted));
                }
                missing -= wanted;
            }
            last.reverse();
            return Ok((contents.total.max(0) as u64, last));
        };
        let mut last = Vec::new();
        for (row, times) in counted.rows.iter().rev() {
            let wanted = ((*times).max(0) as usize).min(most - last.len());
            last.extend(std::iter::repeat_n(&**row, wanted));
            if last.len() == most {
                break;
            }
        }
        last.reverse();
        let parser = counted.converter.parser();
        let columns = counted
            .converter
            .convert_rows(last.iter().map(|row| parser.parse(row)))
            .map_err(comparing)?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(last.len()));
        let batch =
            RecordBatch::try_new_with_options(Arc::clone(&contents.schema), columns, &options)
                .map_err(comparing)?;
        Ok((contents.total.max(0) as u64, vec![batch]))
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Debug for ResultTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResultTable")
            .field("rows", &self.lock().total)
            .finish_non_exhaustive()
    }
}

fn comparing(source: ArrowError) -> ConnectorError {
    ConnectorError::Arrow {
        context: "the rows of the result cannot be kept".into(),
        source,
    }
}

impl Contents {
    fn add(&mut self, output: &Output) -> Result<()> {
        let rows = output.batch.num_rows() as u64;
        if let Some(counted) = &mut self.counted {
            let encoded = counted
                .converter
                .convert_columns(output.batch.columns())
                .map_err(comparing)?;
            for row in 0..output.batch.num_rows() {
                let change = output.changes.as_ref().map(|all| all[row]);
                let diff = match change {
                    None | Some(ChangeType::Insert | ChangeType::UpdatePostimage) => 1,
                    Some(ChangeType::Delete | ChangeType::UpdatePreimage) => -1,
                };
                self.total += diff;
                let key = encoded.row(row);
                match counted.rows.get_mut(key.as_ref()) {
                    Some(times) => {
                        *times += diff;
                        if *times == 0 {
                            counted.rows.remove(key.as_ref());
                        }
                    }
                    None => drop(counted.rows.insert(key.as_ref().into(), diff)),
                }
            }
        } else {
            self.total += rows as i64;
            let kept: u64 = self.batches.iter().map(|b| b.num_rows() as u64).sum();
            let room = self.limit.map_or(rows, |limit| limit.saturating_sub(kept));
            let wanted = room.min(rows);
            if wanted > 0 {
                self.batches.push(output.batch.slice(0, wanted as usize));
            }
            self.skipped += rows - wanted;
        }
        Ok(())
    }
}

/// Fills a [`ResultTable`].
#[derive(Debug)]
pub struct ResultSink {
    table: ResultTable,
    mode: OutputMode,
    held: Held,
}

impl ResultSink {
    /// A sink into `table`.
    pub fn new(table: ResultTable, config: &SinkConfig) -> Self {
        Self {
            table,
            mode: config.mode,
            held: Held::default(),
        }
    }
}

impl Sink for ResultSink {
    fn description(&self) -> String {
        "ResultSink".into()
    }

    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
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
        let mut contents = self.table.lock();
        if self.mode == OutputMode::Complete {
            contents.batches.clear();
            contents.total = 0;
        }
        for (_, output) in &outputs {
            contents.add(output)?;
        }
        if contents.limit.is_none() && contents.total > MAX_ROWS as i64 {
            return Err(ConnectorError::Inconsistent(format!(
                "the result has more than {MAX_ROWS} rows; write it INTO a table with 'connector' = 'file'"
            )));
        }
        Ok(())
    }

    fn writer(&self, _: usize) -> Result<Box<dyn SinkWriter>> {
        Ok(self.held.writer())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int32Array;
    use arrow::datatypes::{DataType, Field, Schema};

    use super::super::show::{Zone, cells};
    use super::*;
    use ChangeType::{Delete, Insert, UpdatePostimage, UpdatePreimage};

    fn sink(mode: OutputMode, append_only: bool, limit: Option<u64>) -> (ResultTable, ResultSink) {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int32, true)]));
        let table = ResultTable::new(Arc::clone(&schema), mode, append_only, limit).unwrap();
        let config = SinkConfig {
            query_name: "q".into(),
            query_id: "id".into(),
            schema,
            mode,
            key: None,
            storage: Arc::new(crate::storage::Disk),
            continuous: false,
        };
        (table.clone(), ResultSink::new(table, &config))
    }

    fn put(sink: &mut ResultSink, epoch: u64, rows: &[(Option<i32>, ChangeType)]) {
        let column: Int32Array = rows.iter().map(|row| row.0).collect();
        let batch = RecordBatch::try_new(sink.table.schema(), vec![Arc::new(column)]).unwrap();
        let changes =
            (sink.mode == OutputMode::Changelog).then(|| rows.iter().map(|row| row.1).collect());
        let mut writer = sink.writer(0).unwrap();
        writer.write(epoch, &Output { batch, changes }).unwrap();
        let staged = writer.stage(epoch).unwrap();
        sink.commit(epoch, &[staged]).unwrap();
    }

    fn text(batches: &[RecordBatch]) -> String {
        let rows = batches.iter().flat_map(|b| cells(b, Zone::UTC).unwrap());
        rows.map(|row| row.join(",")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_changelog_sums_up_to_the_rows_that_are_there() {
        let (table, mut sink) = sink(OutputMode::Changelog, false, None);
        put(
            &mut sink,
            0,
            &[
                (Some(10), Insert),
                (Some(2), Insert),
                (Some(2), Insert),
                (None, Insert),
            ],
        );
        put(
            &mut sink,
            1,
            &[
                (Some(10), UpdatePreimage),
                (Some(11), UpdatePostimage),
                (Some(2), Delete),
            ],
        );
        let (total, rows) = table.last_rows(10).unwrap();
        assert_eq!((total, text(&rows).as_str()), (3, "NULL 2 11"));
        let (total, rows) = table.last_rows(2).unwrap();
        assert_eq!((total, text(&rows).as_str()), (3, "2 11"));
        put(
            &mut sink,
            2,
            &[(Some(11), Delete), (Some(2), Delete), (None, Delete)],
        );
        let (total, rows) = table.last_rows(2).unwrap();
        assert_eq!((total, text(&rows).as_str()), (0, ""));
    }

    #[test]
    fn rows_that_stay_are_taken_once_and_no_more_than_asked_for() {
        let (table, mut sink) = sink(OutputMode::Append, true, Some(3));
        put(&mut sink, 0, &[(Some(1), Insert), (Some(2), Insert)]);
        put(&mut sink, 1, &[(Some(3), Insert), (Some(4), Insert)]);
        let fresh = table.take_fresh();
        assert_eq!((text(&fresh.batches).as_str(), fresh.skipped), ("1 2 3", 1));
        let fresh = table.take_fresh();
        assert_eq!((text(&fresh.batches).as_str(), fresh.skipped), ("", 0));
        assert_eq!(table.last_rows(0).unwrap().0, 4);
    }

    #[test]
    fn complete_mode_replaces() {
        let (table, mut sink) = sink(OutputMode::Complete, false, None);
        put(&mut sink, 0, &[(Some(1), Insert), (Some(2), Insert)]);
        put(&mut sink, 1, &[(Some(7), Insert), (Some(3), Insert)]);
        let (total, rows) = table.last_rows(9).unwrap();
        assert_eq!((total, text(&rows).as_str()), (2, "7 3"));
    }
}
