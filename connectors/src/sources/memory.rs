//! A source that is fed by the program around it: for tests, and for embedding.
//!
//! [`MemorySource`] is a handle that can be cloned: `add` batches from any thread, `finish` when
//! there will be no more. Offsets count batches. What was added stays, so that a query that starts
//! again with the same handle can read its last epoch once more.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use serde_json::{Value, json};

use crate::{
    ConnectorError, PlannedRange, Read, ReadLimit, Result, Source, SourceReader, Split,
    SplitReader, Wake,
};

/// The partition that [`MemorySource::add`] feeds.
const PARTITION: &str = "memory-0";

#[derive(Default)]
struct Store {
    /// Every batch, in the order in which they came, with its partition.
    batches: Vec<(Arc<str>, RecordBatch)>,
    finished: bool,
    /// Who waits for more.
    wake: Option<Wake>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("batches", &self.batches.len())
            .field("finished", &self.finished)
            .finish_non_exhaustive()
    }
}

impl Store {
    fn wake(&self) {
        if let Some(wake) = &self.wake {
            wake();
        }
    }
}

/// Batches in memory as a stream.
#[derive(Clone, Debug)]
pub struct MemorySource {
    schema: SchemaRef,
    store: Arc<Mutex<Store>>,
    one_batch_per_epoch: bool,
    planned: usize,
    frozen: Option<usize>,
}

impl MemorySource {
    /// A source without rows yet.
    pub fn new(schema: SchemaRef) -> Self {
        Self {
            schema,
            store: Arc::default(),
            one_batch_per_epoch: false,
            planned: 0,
            frozen: None,
        }
    }

    /// Every batch becomes an epoch of its own.
    #[must_use]
    pub fn one_batch_per_epoch(mut self) -> Self {
        self.one_batch_per_epoch = true;
        self
    }

    /// Adds rows to the one partition.
    pub fn add(&self, batch: RecordBatch) -> Result<()> {
        self.add_to(PARTITION, batch)
    }

    /// Adds rows to a partition of its own name; watermarks are kept per partition.
    pub fn add_to(&self, partition: &str, batch: RecordBatch) -> Result<()> {
        let fits = batch.num_columns() == self.schema.fields().len()
            && batch
                .schema()
                .fields()
                .iter()
                .zip(self.schema.fields())
                .all(|(found, wanted)| {
                    found.name() == wanted.name() && found.data_type() == wanted.data_type()
                });
        if !fits {
            return Err(ConnectorError::Schema(format!(
                "the batch has the columns {:?}, the memory source {:?}: add batches of the source's schema",
                describe(&batch.schema()),
                describe(&self.schema)
            )));
        }
        let mut store = self.lock();
        store.batches.push((partition.into(), batch));
        store.wake();
        Ok(())
    }

    /// There will be no more rows.
    pub fn finish(&self) {
        let mut store = self.lock();
        store.finished = true;
        store.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many batches may be planned.
    fn available(&self) -> usize {
        let there = self.lock().batches.len();
        self.frozen.map_or(there, |frozen| frozen.min(there))
    }
}

fn describe(schema: &Schema) -> Vec<String> {
    schema
        .fields()
        .iter()
        .map(|field| format!("{} {}", field.name(), field.data_type()))
        .collect()
}

impl Source for MemorySource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn metadata_schema(&self) -> SchemaRef {
        Arc::new(Schema::empty())
    }

    fn description(&self) -> String {
        "MemorySource".into()
    }

    fn restore(&mut self, log: &[PlannedRange]) -> Result<()> {
        let Some(end) = log.last().map(|range| &range.end) else {
            return Ok(());
        };
        let offset = end.as_u64().and_then(|offset| usize::try_from(offset).ok());
        self.planned = offset.ok_or_else(|| {
            ConnectorError::Inconsistent(format!(
                "the offset log holds {end}, which is no offset of a memory source. Use another checkpointLocation"
            ))
        })?;
        Ok(())
    }

    fn latest_offset(&mut self) -> Result<Option<Value>> {
        Ok(Some(json!(self.available())))
    }

    fn plan(&mut self, limit: ReadLimit) -> Result<Option<PlannedRange>> {
        let available = self.available();
        if self.planned >= available {
            return Ok(None);
        }
        let store = self.lock();
        let (mut end, mut rows, mut bytes) = (self.planned, 0_u64, 0_u64);
        for (_, batch) in &store.batches[self.planned..available] {
            rows += batch.num_rows() as u64;
            bytes += batch.get_array_memory_size() as u64;
            let too_much = limit.rows.is_some_and(|most| rows > most)
                || limit.bytes.is_some_and(|most| bytes > most);
            if end > self.planned && (too_much || self.one_batch_per_epoch) {
                break;
            }
            end += 1;
        }
        let mut of_partition: BTreeMap<&Arc<str>, (Vec<usize>, u64)> = BTreeMap::new();
        for index in self.planned..end {
            let (partition, batch) = &store.batches[index];
            let entry = of_partition.entry(partition).or_default();
            entry.0.push(index);
            entry.1 += batch.get_array_memory_size() as u64;
        }
        let splits = of_partition
            .into_iter()
            .map(|(partition, (batches, bytes))| Split {
                partition: Arc::clone(partition),
                range: json!(batches),
                bytes,
            })
            .collect();
        let range = PlannedRange {
            start: json!(self.planned),
            end: json!(end),
            splits,
        };
        drop(store);
        self.planned = end;
        Ok(Some(range))
    }

    fn wake(&mut self, wake: Wake) {
        self.lock().wake = Some(wake);
    }

    fn committed(&mut self, _: &PlannedRange) -> Result<()> {
        Ok(())
    }

    fn freeze(&mut self) -> Result<()> {
        let there = self.lock().batches.len();
        self.frozen = Some(there);
        Ok(())
    }

    fn exhausted(&self) -> bool {
        let over = self.frozen.is_some() || self.lock().finished;
        over && self.planned >= self.available()
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_millis(5)
    }

    fn forgettable(&self) -> usize {
        0
    }

    fn reader(&self) -> Arc<dyn SourceReader> {
        Arc::new(MemoryReader {
            store: Arc::clone(&self.store),
        })
    }
}

#[derive(Debug)]
struct MemoryReader {
    store: Arc<Mutex<Store>>,
}

impl SourceReader for MemoryReader {
    fn open(&self, split: &Split, projection: &[usize]) -> Result<Box<dyn SplitReader>> {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = || {
            ConnectorError::Inconsistent(format!(
                "the memory source does not hold the batches {} that the offset log names: add the same batches again before the query starts, or use another checkpointLocation",
                split.range
            ))
        };
        let batches = split
            .range
            .as_array()
            .ok_or_else(missing)?
            .iter()
            .map(|index| {
                let index = index.as_u64().and_then(|index| usize::try_from(index).ok());
                let (_, batch) = index
                    .and_then(|index| store.batches.get(index))
                    .ok_or_else(missing)?;
                batch
                    .project(projection)
                    .map_err(|source| ConnectorError::Arrow {
                        context: "reading the memory source".into(),
                        source,
                    })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Box::new(MemorySplit {
            batches: batches.into_iter(),
        }))
    }
}

struct MemorySplit {
    batches: std::vec::IntoIter<RecordBatch>,
}

impl SplitReader for MemorySplit {
    fn read(&mut self) -> Result<Read> {
        Ok(self
            .batches
            .next()
            .map_or(Read::End, |batch| Read::Batch { batch, dropped: 0 }))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field};

    use super::*;

    fn source() -> MemorySource {
        MemorySource::new(Arc::new(Schema::new(vec![Field::new(
            "n",
            DataType::Int64,
            true,
        )])))
    }

    fn batch(source: &MemorySource, numbers: &[i64]) -> RecordBatch {
        RecordBatch::try_new(
            source.schema(),
            vec![Arc::new(Int64Array::from(numbers.to_vec()))],
        )
        .expect("a batch")
    }

    fn plan(source: &mut MemorySource) -> Option<PlannedRange> {
        source.plan(ReadLimit::default()).expect("a plan")
    }

    #[test]
    fn what_is_added_is_read_by_partition() {
        let mut source = source();
        let handle = source.clone();
        assert!(plan(&mut source).is_none());
        handle.add(batch(&handle, &[1])).expect("added");
        handle.add_to("p", batch(&handle, &[2])).expect("added");
        handle.add(batch(&handle, &[3])).expect("added");
        let range = plan(&mut source).expect("rows");
        assert_eq!((&range.start, &range.end), (&json!(0), &json!(3)));
        let partitions: Vec<_> = range.splits.iter().map(|split| &*split.partition).collect();
        assert_eq!(partitions, ["memory-0", "p"]);
        let mut reader = source
            .reader()
            .open(&range.splits[0], &[0])
            .expect("a split");
        let mut rows = 0;
        while let Read::Batch { batch, .. } = reader.read().expect("a batch") {
            rows += batch.num_rows();
        }
        assert_eq!(rows, 2);
        handle.finish();
        assert!(source.exhausted());
    }

    #[test]
    fn every_batch_can_be_an_epoch_and_a_restart_goes_on() {
        let mut source = source().one_batch_per_epoch();
        for n in 0..3 {
            source.add(batch(&source, &[n])).expect("added");
        }
        let first = plan(&mut source).expect("rows");
        assert_eq!(first.end, json!(1));
        let mut again = source.clone();
        again.restore(&[first]).expect("restored");
        again.freeze().expect("frozen");
        assert_eq!(plan(&mut again).expect("rows").start, json!(1));
        assert_eq!(plan(&mut again).expect("rows").end, json!(3));
        assert!(again.exhausted());
    }

    #[test]
    fn batches_of_another_schema_and_offsets_of_another_run_are_refused() {
        let mut source = source();
        let other = MemorySource::new(Arc::new(Schema::new(vec![Field::new(
            "m",
            DataType::Int64,
            true,
        )])));
        assert!(source.add(batch(&other, &[1])).is_err());
        source.add(batch(&source, &[1])).expect("added");
        let range = plan(&mut source).expect("rows");
        let Err(error) = other.reader().open(&range.splits[0], &[0]) else {
            panic!("it holds nothing")
        };
        assert!(
            error.to_string().contains("add the same batches again"),
            "{error}"
        );
    }
}
