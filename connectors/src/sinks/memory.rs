//! The sink that keeps its result in memory, as a table to ask while the query runs.
//!
//! | mode | an epoch |
//! |---|---|
//! | append | adds its rows |
//! | complete | replaces the table |
//! | update | puts each row in the place of the one with its key; a delete takes it away. Where the plan knows no key, changed rows are added and deletes left out |
//! | changelog | adds its changes, with `_epoch` and `_change_type` |
//!
//! Options: `queryName` (the table's name; that of the query where not given) and `maxRows` (10
//! million): a table that would grow beyond it fails the query. The table lives as long as its
//! process; a query that goes on from a checkpoint in another process starts with an empty one.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};

use super::changes;
use super::held::Held;
use crate::{
    ChangeType, ConnectorError, Delivery, Distribution, Options, Output, OutputMode, Result, Sink,
    SinkConfig, SinkWriter, Staged, Visible,
};

/// The rows that a table may hold unless `maxRows` says otherwise.
const MAX_ROWS: u64 = 10_000_000;

/// A result in memory. Clones are handles of one table; any thread may look at it at any time.
#[derive(Clone, Default)]
pub struct MemoryTable(Arc<RwLock<Contents>>);

#[derive(Default)]
struct Contents {
    schema: Option<SchemaRef>,
    /// Who fills it.
    query_id: String,
    epoch: Option<u64>,
    batches: Vec<RecordBatch>,
    /// Where the newest row of each key lies: batch and row. Empty unless rows are kept by key.
    rows: BTreeMap<Box<[u8]>, (usize, usize)>,
    keyed: bool,
}

impl MemoryTable {
    /// An empty table, without columns until a query fills it.
    pub fn new() -> Self {
        Self::default()
    }

    /// The columns and rows as of the newest epoch: all of it, nothing of the next.
    ///
    /// Rows kept by key come in the order of their keys.
    pub fn snapshot(&self) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        {
            let contents = self.read();
            let schema = contents
                .schema
                .clone()
                .unwrap_or_else(|| Arc::new(arrow::datatypes::Schema::empty()));
            if !contents.keyed || contents.in_order() {
                return Ok((schema, contents.batches.clone()));
            }
        }
        // Someone may have come between the locks: tidying twice does no harm.
        let mut contents = self.write();
        contents.tidy()?;
        let schema = contents
            .schema
            .clone()
            .unwrap_or_else(|| Arc::new(arrow::datatypes::Schema::empty()));
        Ok((schema, contents.batches.clone()))
    }

    /// The newest epoch that it holds.
    pub fn epoch(&self) -> Option<u64> {
        self.read().epoch
    }

    /// How many rows it holds.
    pub fn num_rows(&self) -> usize {
        self.read().num_rows()
    }

    fn read(&self) -> RwLockReadGuard<'_, Contents> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Contents> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Debug for MemoryTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let contents = self.read();
        f.debug_struct("MemoryTable")
            .field("epoch", &contents.epoch)
            .field("rows", &contents.num_rows())
            .finish_non_exhaustive()
    }
}

impl Contents {
    fn num_rows(&self) -> usize {
        if self.keyed {
            self.rows.len()
        } else {
            self.batch_rows()
        }
    }

    fn batch_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// The batches hold the rows of `rows`, in the order of their keys, and nothing else.
    fn in_order(&self) -> bool {
        self.batches.len() <= 1
            && self.batch_rows() == self.rows.len()
            && self
                .rows
                .values()
                .enumerate()
                .all(|(index, (_, row))| index == *row)
    }

    /// Makes one batch of the rows that are alive.
    fn tidy(&mut self) -> Result<()> {
        if self.in_order() {
            return Ok(());
        }
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let alive: Vec<(usize, usize)> = self.rows.values().copied().collect();
        let whole = if alive.is_empty() {
            Vec::new()
        } else {
            vec![interleave_record_batch(&batches, &alive).map_err(gathering)?]
        };
        for (index, place) in self.rows.values_mut().enumerate() {
            *place = (0, index);
        }
        self.batches = whole;
        Ok(())
    }
}

fn gathering(source: ArrowError) -> ConnectorError {
    ConnectorError::Arrow {
        context: "cannot gather the rows of the memory table".into(),
        source,
    }
}

/// Fills a [`MemoryTable`].
pub struct MemorySink {
    table: MemoryTable,
    name: String,
    config: SinkConfig,
    schema: SchemaRef,
    /// Encodes the key columns, where rows are kept by key.
    keys: Option<RowConverter>,
    max_rows: u64,
    held: Held,
}

impl MemorySink {
    /// A sink into `table`, with the default limit.
    pub fn new(table: MemoryTable, config: SinkConfig) -> Result<Self> {
        Self::open(table, &Options::new(), config)
    }

    /// A sink into `table`.
    pub fn open(table: MemoryTable, options: &Options, config: SinkConfig) -> Result<Self> {
        options.check_known("memory", &["queryName", "maxRows"])?;
        let schema = match config.mode {
            OutputMode::Changelog => changes::log_schema(&config.schema, config.mode)?,
            _ => Arc::clone(&config.schema),
        };
        let keys = match (&config.key, config.mode) {
            (Some(key), OutputMode::Update) => {
                let fields = key
                    .iter()
                    .map(|column| SortField::new(config.schema.field(*column).data_type().clone()));
                Some(RowConverter::new(fields.collect()).map_err(|source| {
                    ConnectorError::Arrow {
                        context: "the memory table cannot keep rows by their key".into(),
                        source,
                    }
                })?)
            }
            _ => None,
        };
        let name = options
            .get("queryName")
            .unwrap_or(&config.query_name)
            .to_owned();
        let max_rows = options.integer("maxRows", 1)?.unwrap_or(MAX_ROWS);
        {
            let mut contents = table.write();
            if contents.query_id != config.query_id || contents.schema.as_ref() != Some(&schema) {
                *contents = Contents {
                    schema: Some(Arc::clone(&schema)),
                    query_id: config.query_id.clone(),
                    keyed: keys.is_some(),
                    ..Contents::default()
                };
            }
        }
        Ok(Self {
            table,
            name,
            config,
            schema,
            keys,
            max_rows,
            held: Held::default(),
        })
    }

    /// The table that it fills.
    pub fn table(&self) -> &MemoryTable {
        &self.table
    }

    fn too_many(&self, rows: u64) -> ConnectorError {
        ConnectorError::Inconsistent(format!(
            "memory table '{}' would hold {rows} rows, more than 'maxRows' = '{}'; raise it, or \
             write to a file sink",
            self.name, self.max_rows
        ))
    }

    fn check(&self, rows: usize) -> Result<()> {
        if rows as u64 > self.max_rows {
            Err(self.too_many(rows as u64))
        } else {
            Ok(())
        }
    }

    fn put_by_key(&self, outputs: &[(u64, Output)], contents: &mut Contents) -> Result<()> {
        let (Some(keys), Some(columns)) = (&self.keys, &self.config.key) else {
            return Ok(());
        };
        // Worked out before anything is touched: an epoch is taken whole or not at all.
        let mut fresh = BTreeMap::new();
        for (index, (_, output)) in outputs.iter().enumerate() {
            let of_key: Vec<_> = columns
                .iter()
                .map(|column| Arc::clone(output.batch.column(*column)))
                .collect();
            let encoded = keys.convert_columns(&of_key).map_err(gathering)?;
            for row in 0..output.batch.num_rows() {
                // Without key columns there is one row at most, the result of a global aggregate.
                let key: Box<[u8]> = if columns.is_empty() {
                    Box::default()
                } else {
                    encoded.row(row).as_ref().into()
                };
                let change = output
                    .changes
                    .as_ref()
                    .map_or(ChangeType::Insert, |all| all[row]);
                let place = Some((contents.batches.len() + index, row));
                match change {
                    ChangeType::Insert | ChangeType::UpdatePostimage => fresh.insert(key, place),
                    // An insert of the same key in the same epoch wins, whatever their order.
                    ChangeType::Delete => Some(*fresh.entry(key).or_insert(None)),
                    ChangeType::UpdatePreimage => None,
                };
            }
        }
        let known = |key: &[u8]| contents.rows.contains_key(key);
        let added = fresh
            .iter()
            .filter(|(key, place)| place.is_some() && !known(key))
            .count();
        let gone = fresh
            .iter()
            .filter(|(key, place)| place.is_none() && known(key))
            .count();
        self.check(contents.rows.len() + added - gone)?;
        for (key, place) in fresh {
            match place {
                Some(place) => contents.rows.insert(key, place),
                None => contents.rows.remove(&key),
            };
        }
        contents
            .batches
            .extend(outputs.iter().map(|(_, output)| output.batch.clone()));
        // Replaced rows are swept once they outweigh the living, so that each sweep is paid for.
        if contents.batch_rows() > 2 * contents.rows.len() + 8_192 || contents.batches.len() > 4_096
        {
            contents.tidy()?;
        }
        Ok(())
    }
}

impl Debug for MemorySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySink")
            .field("table", &self.table)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Sink for MemorySink {
    fn description(&self) -> String {
        format!("MemorySink[{}]", self.name)
    }

    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn visible(&self) -> Visible {
        Visible::EachTick
    }

    fn distribution(&self) -> Distribution {
        Distribution::Single
    }

    fn last_committed(&mut self) -> Result<Option<u64>> {
        Ok(self.table.epoch())
    }

    fn discard_uncommitted(&mut self) -> Result<()> {
        self.held.clear();
        Ok(())
    }

    fn commit(&mut self, epoch: u64, staged: &[Staged]) -> Result<()> {
        if self.table.epoch().is_some_and(|newest| epoch <= newest) {
            return Ok(());
        }
        let outputs = self.held.take(epoch, staged)?;
        let mode = self.config.mode;
        let mut contents = self.table.write();
        if self.keys.is_some() {
            self.put_by_key(&outputs, &mut contents)?;
        } else {
            let batches = outputs
                .iter()
                .map(|(written, output)| match mode {
                    OutputMode::Update => changes::upserts(output),
                    _ => changes::log_rows(output, mode, *written, &self.schema),
                })
                .collect::<Result<Vec<_>>>()?;
            let fresh: usize = batches.iter().map(RecordBatch::num_rows).sum();
            let before = if mode == OutputMode::Complete {
                0
            } else {
                contents.batch_rows()
            };
            self.check(before + fresh)?;
            if mode == OutputMode::Complete {
                contents.batches.clear();
            }
            contents
                .batches
                .extend(batches.into_iter().filter(|batch| batch.num_rows() > 0));
        }
        contents.epoch = Some(epoch);
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

    fn config(mode: OutputMode, key: Option<Vec<usize>>) -> SinkConfig {
        let column = |name| Field::new(name, DataType::Int32, true);
        SinkConfig {
            query_name: "counts".into(),
            query_id: "id".into(),
            schema: Arc::new(Schema::new(vec![column("k"), column("n")])),
            mode,
            key,
            storage: Arc::new(crate::storage::Disk),
            continuous: false,
        }
    }

    fn put(sink: &mut MemorySink, epoch: u64, rows: &[(i32, i32, ChangeType)]) -> Result<()> {
        let column = |values: Vec<i32>| Arc::new(Int32Array::from(values)) as _;
        let columns = vec![
            column(rows.iter().map(|row| row.0).collect()),
            column(rows.iter().map(|row| row.1).collect()),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&sink.config.schema), columns).unwrap();
        let changes = matches!(sink.config.mode, OutputMode::Update | OutputMode::Changelog)
            .then(|| rows.iter().map(|row| row.2).collect());
        let mut writer = sink.writer(0)?;
        writer.write(epoch, &Output { batch, changes })?;
        let staged = writer.stage(epoch)?;
        sink.commit(epoch, &[staged])
    }

    fn rows(table: &MemoryTable) -> Vec<String> {
        let (_, batches) = table.snapshot().unwrap();
        let of_batch = |batch| cells(batch, Zone::UTC).unwrap();
        batches
            .iter()
            .flat_map(of_batch)
            .map(|row| row.join(","))
            .collect()
    }

    #[test]
    fn append_adds_and_an_epoch_counts_once() {
        let table = MemoryTable::new();
        let mut sink = MemorySink::new(table.clone(), config(OutputMode::Append, None)).unwrap();
        put(&mut sink, 0, &[(1, 1, Insert)]).unwrap();
        put(&mut sink, 1, &[(2, 2, Insert)]).unwrap();
        // The query starts again in the same process and repeats its last epoch.
        let mut again = MemorySink::new(table.clone(), config(OutputMode::Append, None)).unwrap();
        assert_eq!(again.last_committed().unwrap(), Some(1));
        put(&mut again, 1, &[(2, 2, Insert)]).unwrap();
        assert_eq!(rows(&table), ["1,1", "2,2"]);
    }

    #[test]
    fn complete_replaces() {
        let table = MemoryTable::new();
        let mut sink = MemorySink::new(table.clone(), config(OutputMode::Complete, None)).unwrap();
        put(&mut sink, 0, &[(1, 1, Insert), (2, 1, Insert)]).unwrap();
        put(&mut sink, 1, &[(3, 1, Insert)]).unwrap();
        assert_eq!(rows(&table), ["3,1"]);
    }

    #[test]
    fn update_keeps_the_newest_row_of_each_key() {
        let table = MemoryTable::new();
        let mut sink =
            MemorySink::new(table.clone(), config(OutputMode::Update, Some(vec![0]))).unwrap();
        put(&mut sink, 0, &[(2, 1, Insert), (1, 1, Insert)]).unwrap();
        put(
            &mut sink,
            1,
            &[
                (2, 1, UpdatePreimage),
                (2, 5, UpdatePostimage),
                (3, 1, Insert),
            ],
        )
        .unwrap();
        assert_eq!(rows(&table), ["1,1", "2,5", "3,1"]);
        put(
            &mut sink,
            2,
            &[(1, 1, Delete), (2, 9, Insert), (2, 5, Delete)],
        )
        .unwrap();
        assert_eq!(rows(&table), ["2,9", "3,1"]);
        assert_eq!(table.num_rows(), 2);
        for epoch in 3..40 {
            let many: Vec<_> = (0..1000)
                .map(|n| (n, epoch as i32, UpdatePostimage))
                .collect();
            put(&mut sink, epoch, &many).unwrap();
        }
        assert!(
            table.read().batch_rows() < 12_000,
            "replaced rows are swept"
        );
        assert_eq!(rows(&table)[2], "2,39");
    }

    #[test]
    fn update_without_a_key_and_changelog_are_logs() {
        let table = MemoryTable::new();
        let mut sink = MemorySink::new(table.clone(), config(OutputMode::Update, None)).unwrap();
        put(&mut sink, 0, &[(1, 1, Insert), (1, 0, Delete)]).unwrap();
        assert_eq!(rows(&table), ["1,1"]);
        let table = MemoryTable::new();
        let mut sink = MemorySink::new(table.clone(), config(OutputMode::Changelog, None)).unwrap();
        put(
            &mut sink,
            4,
            &[(1, 1, UpdatePreimage), (1, 2, UpdatePostimage)],
        )
        .unwrap();
        assert_eq!(
            rows(&table),
            ["1,1,4,update_preimage", "1,2,4,update_postimage"]
        );
    }

    #[test]
    fn a_table_that_is_too_long_says_what_to_do() {
        let options: Options = [("maxRows", "1"), ("queryName", "big")]
            .into_iter()
            .collect();
        for key in [None, Some(vec![0])] {
            let table = MemoryTable::new();
            let config = config(OutputMode::Update, key);
            let mut sink = MemorySink::open(table.clone(), &options, config).unwrap();
            put(&mut sink, 0, &[(1, 1, Insert)]).unwrap();
            let error = put(&mut sink, 1, &[(2, 1, Insert)])
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("'big' would hold 2 rows") && error.contains("maxRows"),
                "{error}"
            );
            assert_eq!(rows(&table), ["1,1"]);
        }
    }
}
