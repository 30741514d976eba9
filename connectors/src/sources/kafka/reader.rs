//! Reading the splits of a `kafka` source: records to batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, FieldRef, Fields, Schema, SchemaRef};
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers as _};

use super::columns::{self, Filled};
use super::lanes::Lanes;
use super::options::{Format, SourceOptions};
use super::range::{ENDLESS, Range, Standing};
use super::{KafkaSplit, RECORD_BYTES, TopicPartition};
use crate::format::avro::AvroDecoder;
use crate::format::csv::CsvDecoder;
use crate::format::json::JsonDecoder;
use crate::format::{
    BATCH_BYTES, BATCH_ROWS, RawDecoder, RecordDecoder, columns_to_decode, with_all,
};
use crate::kafka::Registry;
use crate::{
    ConnectorError, Follower, METADATA_COLUMN, Place, Read, Rejected, Result, SourceReader, Split,
    SplitReader, Wake,
};

/// Opens the splits of one source.
#[derive(Debug)]
pub(super) struct KafkaReader {
    options: Arc<SourceOptions>,
    lanes: Arc<Lanes>,
    sizes: Arc<Sizes>,
}

/// How large records are that have been read here.
#[derive(Debug, Default)]
struct Sizes {
    records: AtomicU64,
    bytes: AtomicU64,
}

impl KafkaReader {
    pub(super) fn new(options: Arc<SourceOptions>) -> Self {
        Self {
            options,
            lanes: Arc::default(),
            sizes: Arc::default(),
        }
    }

    /// How many bytes a record has, about.
    pub(super) fn record_bytes(&self) -> u64 {
        let records = self.sizes.records.load(Ordering::Relaxed);
        let bytes = self.sizes.bytes.load(Ordering::Relaxed);
        bytes
            .checked_div(records)
            .map_or(RECORD_BYTES, |average| average.max(1))
    }
}

impl SourceReader for KafkaReader {
    fn open(&self, split: &Split, projection: &[usize]) -> Result<Box<dyn SplitReader>> {
        let split = KafkaSplit::of(&split.range)?;
        Ok(Box::new(KafkaSplitReader {
            rows: Rows::new(&self.options, projection, &split.partition())?,
            range: Range::open(&self.options, &self.lanes, &split)?,
            sizes: Arc::clone(&self.sizes),
            ended: false,
        }))
    }

    fn follow(&self, split: &Split, projection: &[usize], wake: Wake) -> Result<Box<dyn Follower>> {
        let split = KafkaSplit::of(&split.range)?;
        let mut range = Range::open(&self.options, &self.lanes, &split)?;
        range.wake(wake);
        Ok(Box::new(KafkaFollower {
            rows: Rows::new(&self.options, projection, &split.partition())?,
            range,
            arrived: 0,
            waits: false,
        }))
    }

    fn locate(&self, split: &Split, projection: &[usize], rows: &[u64]) -> Result<Vec<Place>> {
        let split = KafkaSplit::of(&split.range)?;
        let of = split.partition();
        let mut decoded = Rows::new(&self.options, projection, &of)?;
        // What cannot be decoded has been set aside, or has ended the query before.
        decoded.keep_rejected();
        let mut range = Range::again(&self.options, &split)?;
        let mut places = Vec::with_capacity(rows.len());
        let mut wanted = rows.iter().copied().peekable();
        let mut before = 0;
        while wanted.peek().is_some() {
            let standing = range.records(|record| {
                decoded.push(record)?;
                let there = before + decoded.len() as u64;
                while wanted.next_if(|row| *row < there).is_some() {
                    places.push(place(&of, record));
                }
                if decoded.is_full() {
                    before += decoded.take()?.0.num_rows() as u64;
                }
                Ok(wanted.peek().is_some())
            })?;
            match standing {
                Standing::End => break,
                Standing::Waiting => std::thread::sleep(Duration::from_millis(1)),
                Standing::Enough => {}
            }
        }
        Ok(places)
    }
}

/// Where a record is, and all that it is made of.
fn place(of: &TopicPartition, record: &BorrowedMessage<'_>) -> Place {
    let headers = record.headers().map(|headers| {
        let owned = |value: &[u8]| value.to_vec();
        let each = headers.iter();
        each.map(|header| (header.key.to_owned(), header.value.map(owned)))
            .collect()
    });
    Place {
        text: format!("{of}@{}", record.offset()),
        record: record.payload().map(<[u8]>::to_vec),
        key: record.key().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}

struct KafkaSplitReader {
    range: Range,
    rows: Rows,
    sizes: Arc<Sizes>,
    ended: bool,
}

impl SplitReader for KafkaSplitReader {
    fn read(&mut self) -> Result<Read> {
        if !self.ended {
            let rows = &mut self.rows;
            let (mut records, mut bytes) = (0, 0);
            let standing = self.range.records(|record| {
                records += 1;
                bytes += record.payload_len() + record.key_len();
                rows.push(record)?;
                Ok(!rows.is_full())
            })?;
            self.sizes.records.fetch_add(records, Ordering::Relaxed);
            self.sizes.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            match standing {
                Standing::Waiting => return Ok(Read::Pending),
                Standing::Enough => {}
                Standing::End => self.ended = true,
            }
        }
        let (batch, dropped) = self.rows.take()?;
        if self.ended && batch.num_rows() == 0 && dropped == 0 {
            return Ok(Read::End);
        }
        Ok(Read::Batch { batch, dropped })
    }

    fn keep_rejected(&mut self) {
        self.rows.keep_rejected();
    }

    fn rejected(&mut self) -> Vec<Rejected> {
        self.rows.rejected()
    }
}

/// A partition as its records arrive.
struct KafkaFollower {
    range: Range,
    rows: Rows,
    /// The timestamp of the first record of the last batch, milliseconds; one without was there when 1970 began.
    arrived: i64,
    /// Nothing was left when it was last read.
    waits: bool,
}

impl KafkaFollower {
    fn split(&self, end: i64) -> KafkaSplit {
        KafkaSplit {
            topic: self.range.of.topic.to_string(),
            partition: self.range.of.partition,
            start: self.range.start,
            end,
        }
    }
}

impl SplitReader for KafkaFollower {
    fn read(&mut self) -> Result<Read> {
        let rows = &mut self.rows;
        let (mut records, mut arrived) = (0, None);
        let standing = self.range.records(|record| {
            records += 1;
            arrived = arrived.or_else(|| record.timestamp().to_millis());
            rows.push(record)?;
            Ok(!rows.is_full())
        })?;
        self.waits = standing == Standing::Waiting;
        if records == 0 {
            return Ok(Read::Pending);
        }
        self.arrived = arrived.unwrap_or_default();
        let (batch, dropped) = self.rows.take()?;
        Ok(Read::Batch { batch, dropped })
    }

    fn keep_rejected(&mut self) {
        self.rows.keep_rejected();
    }

    fn rejected(&mut self) -> Vec<Rejected> {
        self.rows.rejected()
    }
}

impl Follower for KafkaFollower {
    fn since(&self) -> Split {
        self.split(ENDLESS).into()
    }

    fn cut(&mut self) -> Option<Split> {
        let end = self.range.next;
        if end == self.range.start {
            return None;
        }
        let split = self.split(end);
        self.range.start = end;
        self.rows.taken = 0;
        Some(split.into())
    }

    fn arrived(&self) -> i64 {
        self.arrived.saturating_mul(1000)
    }

    fn waits(&self) -> bool {
        self.waits
    }
}

/// Where an output column comes from.
#[derive(Clone, Copy)]
enum Column {
    /// A column of the decoded value.
    Decoded(usize),
    /// One of Kafka's own.
    Own(usize),
    /// All of Kafka's own, as a struct.
    Metadata,
}

/// Records becoming rows.
struct Rows {
    /// The decoder of values; none where they stay as they are.
    decoder: Option<RecordDecoder>,
    /// Where the decoder's schemas are.
    registry: Option<Arc<Registry>>,
    own: Filled,
    own_fields: Fields,
    columns: Vec<Column>,
    output: SchemaRef,
    of: TopicPartition,
    /// How many rows were taken.
    taken: u64,
    /// Records that cannot be decoded, where they are set aside.
    rejected: Option<Vec<Rejected>>,
}

impl Rows {
    fn new(options: &SourceOptions, projection: &[usize], of: &TopicPartition) -> Result<Self> {
        let fields = options.schema.fields();
        let mut decoded: Vec<FieldRef> = vec![];
        let mut own: Vec<FieldRef> = vec![];
        let mut columns = Vec::with_capacity(projection.len());
        let mut output = Vec::with_capacity(projection.len());
        let has_format = !matches!(options.format, Format::None);
        for index in projection {
            match fields.get(*index) {
                Some(field) if has_format => {
                    columns.push(Column::Decoded(decoded.len()));
                    decoded.push(Arc::clone(field));
                    output.push(Arc::clone(field));
                }
                Some(field) => {
                    columns.push(Column::Own(own.len()));
                    own.push(Arc::clone(field));
                    output.push(Arc::clone(field));
                }
                None => {
                    columns.push(Column::Metadata);
                    let all = columns::own(false, options.headers);
                    own.extend(all.iter().cloned());
                    output.push(Arc::new(Field::new(
                        METADATA_COLUMN,
                        arrow::datatypes::DataType::Struct(all),
                        false,
                    )));
                }
            }
        }
        let all = &options.schema;
        let decoded = match &options.format {
            // A record that is broken anywhere gives nothing, whatever a query uses of it.
            Format::Avro(..) => with_all(decoded, all),
            format => columns_to_decode(decoded, all, format.record()),
        };
        let wanted = Arc::new(Schema::new(decoded));
        let decoder = match &options.format {
            Format::None => None,
            Format::Raw => Some(RecordDecoder::Raw(RawDecoder::new(wanted)?)),
            Format::Json(record) => Some(RecordDecoder::Json(JsonDecoder::new(
                wanted,
                record.clone(),
            )?)),
            Format::Csv(csv) => Some(RecordDecoder::Csv(CsvDecoder::new(
                all,
                wanted,
                csv.clone(),
                false,
            )?)),
            Format::Avro(avro, registry) => {
                let open = match registry {
                    Some(_) => AvroDecoder::framed,
                    None => AvroDecoder::new,
                };
                Some(RecordDecoder::Avro(open(wanted, avro.clone())?))
            }
        };
        let registry = match &options.format {
            Format::Avro(_, registry) => registry.clone(),
            _ => None,
        };
        let own_fields = Fields::from(own);
        Ok(Self {
            decoder,
            registry,
            own: Filled::new(&own_fields, Arc::clone(&of.topic), of.partition)?,
            own_fields,
            columns,
            output: Arc::new(Schema::new(output)),
            of: of.clone(),
            taken: 0,
            rejected: None,
        })
    }

    fn push(&mut self, record: &BorrowedMessage<'_>) -> Result<()> {
        let Some(decoder) = &mut self.decoder else {
            self.own.push(record, 1);
            return Ok(());
        };
        let before = decoder.rows();
        match record.payload() {
            None => decoder.push_nothing(),
            Some(value) => {
                if let (RecordDecoder::Avro(avro), Some(registry)) = (&mut *decoder, &self.registry)
                    && let Some(id) = avro.unknown(value)
                {
                    avro.define(id, registry.schema(id)?);
                }
                if let Err(malformed) = decoder.push_record(value) {
                    let place = place(&self.of, record);
                    let error = malformed.at(place.text.clone());
                    let Some(rejected) = &mut self.rejected else {
                        return Err(error);
                    };
                    rejected.push(Rejected {
                        row: self.taken + before as u64,
                        place,
                        reason: error.to_string(),
                    });
                }
            }
        }
        self.own.push(record, decoder.rows() - before);
        Ok(())
    }

    fn keep_rejected(&mut self) {
        self.rejected = Some(vec![]);
    }

    fn rejected(&mut self) -> Vec<Rejected> {
        let rejected = self.rejected.as_mut();
        rejected.map(std::mem::take).unwrap_or_default()
    }

    fn len(&self) -> usize {
        self.decoder
            .as_ref()
            .map_or_else(|| self.own.size().0, RecordDecoder::rows)
    }

    fn is_full(&self) -> bool {
        let (rows, bytes) = self.own.size();
        rows >= BATCH_ROWS
            || bytes >= BATCH_BYTES
            || self.decoder.as_ref().is_some_and(RecordDecoder::is_full)
    }

    /// Hands out the rows so far, and how many records were dropped beside them.
    fn take(&mut self) -> Result<(RecordBatch, u64)> {
        let rows = self.len();
        self.taken += rows as u64;
        let own = self.own.take();
        let (decoded, dropped) = match &mut self.decoder {
            Some(decoder) => {
                let (batch, dropped) = decoder.flush()?;
                (Some(batch), dropped)
            }
            None => (None, 0),
        };
        let batch = self
            .columns
            .iter()
            .map(|column| -> Result<ArrayRef, arrow::error::ArrowError> {
                Ok(match (column, &decoded) {
                    (Column::Decoded(index), Some(batch)) => Arc::clone(batch.column(*index)),
                    (Column::Metadata, _) => {
                        columns::metadata(&self.own_fields, own.clone(), rows)?
                    }
                    (Column::Own(index) | Column::Decoded(index), _) => Arc::clone(&own[*index]),
                })
            })
            .collect::<Result<Vec<_>, _>>()
            .and_then(|arrays| {
                let options = RecordBatchOptions::new().with_row_count(Some(rows));
                RecordBatch::try_new_with_options(Arc::clone(&self.output), arrays, &options)
            })
            .map_err(|source| ConnectorError::Arrow {
                context: format!("building a batch of {}", self.of),
                source,
            })?;
        Ok((batch, dropped))
    }
}
