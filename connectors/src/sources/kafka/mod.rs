//! The `kafka` source: the records of topics, each read once, partition by partition.
//!
//! | module | what it does |
//! |---|---|
//! | `options` | `WITH (...)`, checked |
//! | `planner` | asks the brokers which partitions there are and where they end |
//! | `limits` | how much of that an epoch takes |
//! | `columns` | Kafka's own columns |
//! | `lanes` | connections that stand at their place in a partition, and read ahead |
//! | `range` | the records of a range, its holes and its losses |
//! | `reader` | records to batches |
//!
//! An offset is Spark's: `{"topic":{"0":23}}`, the next offset of every partition. Every range logs
//! the end of all partitions, so the last one is all that a restart needs. A split is a range of
//! one topic-partition, which is a partition of the watermark too.
//!
//! What is read is what is committed (`isolation.level` is `read_committed` unless said otherwise).

mod columns;
mod lanes;
mod limits;
mod options;
mod planner;
mod range;
mod reader;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::limits::Limits;
use self::options::{Edge, Format, SourceOptions, Topics};
use self::planner::{EARLIEST, LATEST, Planner};
use self::range::ENDLESS;
use self::reader::KafkaReader;
use crate::kafka::{Offsets, TopicPartition};
use crate::{
    ConnectorError, Options, PlannedRange, ReadLimit, Result, Source, SourceReader, Split,
};

/// How often the brokers are asked for what is new.
const POLL: Duration = Duration::from_millis(10);

/// What a record is taken to weigh when splits are balanced.
const RECORD_BYTES: u64 = 200;

/// A range of more records than this is read by several workers, each on a connection of its own.
const SPLIT: u64 = 500_000;

/// The source log is trimmed when it holds this many ranges.
const LOGGED: usize = 1000;

/// What a split's range holds: the offsets from `start` to before `end`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KafkaSplit {
    topic: String,
    partition: i32,
    start: i64,
    end: i64,
}

impl KafkaSplit {
    fn of(range: &Value) -> Result<Self> {
        Self::deserialize(range).map_err(|why| {
            ConnectorError::Inconsistent(format!(
                "the offset log holds {range} where a range of a topic was expected ({why}): it belongs to another source. Use another checkpointLocation"
            ))
        })
    }

    fn partition(&self) -> TopicPartition {
        TopicPartition::new(self.topic.as_str(), self.partition)
    }
}

impl From<KafkaSplit> for Split {
    fn from(split: KafkaSplit) -> Self {
        Self {
            partition: Arc::from(split.partition().to_string()),
            bytes: split.end.abs_diff(split.start).saturating_mul(RECORD_BYTES),
            range: json!({
                "topic": split.topic,
                "partition": split.partition,
                "start": split.start,
                "end": split.end,
            }),
        }
    }
}

/// Topics of a Kafka cluster.
#[derive(Debug)]
pub struct KafkaSource {
    options: Arc<SourceOptions>,
    reader: Arc<KafkaReader>,
    planner: Option<Planner>,
    /// The consumer group that is told of commits.
    group: String,
    /// Where the next range begins; `None` before anything was planned.
    planned: Option<Offsets>,
    /// Where reading ends, if it does.
    ends: Option<Offsets>,
    /// Where the partitions ended when the brokers were last asked.
    latest: Option<Offsets>,
    /// Topics that were not there for a while: if they come back, it is as new ones.
    gone: BTreeSet<String>,
    /// When the last range was planned.
    last: Instant,
    /// Up to when 'maxRatePerPartition' has been made use of.
    rated: Instant,
    /// How many ranges the log holds.
    logged: usize,
    /// The partitions that are followed.
    following: BTreeSet<TopicPartition>,
}

impl KafkaSource {
    /// Opens the source; `schema` holds the declared columns, if any. The brokers are not asked
    /// before the first plan.
    pub fn open(options: &Options, schema: Option<SchemaRef>) -> Result<Self> {
        let options = Arc::new(SourceOptions::new(options, schema)?);
        Ok(Self {
            reader: Arc::new(KafkaReader::new(Arc::clone(&options))),
            group: options.group_prefix.clone(),
            options,
            planner: None,
            planned: None,
            ends: None,
            latest: None,
            gone: BTreeSet::new(),
            last: Instant::now(),
            rated: Instant::now(),
            logged: 0,
            following: BTreeSet::new(),
        })
    }

    /// Finds where reading begins, if nothing has been planned yet, and where it ends.
    fn connect(&mut self) -> Result<()> {
        if self.planner.is_none() {
            self.planner = Some(Planner::new(Arc::clone(&self.options), &self.group)?);
        }
        let Some(planner) = &mut self.planner else {
            return Ok(());
        };
        let end = self.options.end.as_ref().filter(|_| self.ends.is_none());
        if self.planned.is_some() && end.is_none() {
            return Ok(());
        }
        let partitions = planner.first_partitions()?;
        if self.planned.is_none() {
            let start = &self.options.start;
            let start = resolve(planner, &self.options, start, &partitions, true)?;
            self.planned = Some(start);
        }
        if let Some(end) = end {
            self.ends = Some(resolve(planner, &self.options, end, &partitions, false)?);
        }
        Ok(())
    }

    /// Asks where the partitions end now, and puts new ones where they begin. Nothing where there
    /// is no answer for the moment.
    fn look(&mut self) -> Result<Option<Offsets>> {
        let (Some(planner), Some(planned)) = (&mut self.planner, &mut self.planned) else {
            return Ok(None);
        };
        let Some(partitions) = planner.partitions()? else {
            return Ok(None);
        };
        let fresh: BTreeSet<_> = partitions
            .iter()
            .filter(|of| planned.get(of).is_none() || self.gone.contains(&*of.topic))
            .cloned()
            .collect();
        let Some(latest) = planner.edge(&partitions, LATEST)? else {
            return Ok(None);
        };
        let Some(begins) = planner.edge(&fresh, EARLIEST)? else {
            return Ok(None);
        };
        for topic in planner.missing() {
            let lost = planned.0.keys().find(|of| *of.topic == **topic);
            if let Some(lost) = lost.filter(|_| self.options.fail_on_data_loss) {
                return Err(ConnectorError::DataLoss {
                    place: lost.topic.to_string(),
                    reason: "the topic was deleted while the query reads it".into(),
                    remedy: "Create it again and use another checkpointLocation, or write 'failOnDataLoss' = 'false' to go on without it".into(),
                });
            }
            self.gone.insert(topic.clone());
        }
        planned.0.extend(begins.0);
        self.gone.retain(|topic| planner.missing().contains(topic));
        for (of, end) in &latest.0 {
            let Some(position) = planned.0.get_mut(of).filter(|position| end < *position) else {
                continue;
            };
            if self.options.fail_on_data_loss {
                return Err(ConnectorError::DataLoss {
                    place: of.to_string(),
                    reason: format!(
                        "offset {position} is planned next, and the partition ends at {end}: the topic was deleted and created again, or has lost records"
                    ),
                    remedy: "Use another checkpointLocation to read it from its beginning, or write 'failOnDataLoss' = 'false' to go on at its end".into(),
                });
            }
            *position = *end;
        }
        Ok(Some(latest))
    }

    /// What may be read now.
    fn available(&mut self) -> Result<Option<Offsets>> {
        if let Some(ends) = &self.ends {
            return Ok(Some(ends.clone()));
        }
        let latest = self.look()?;
        if latest.is_some() {
            self.latest.clone_from(&latest);
        }
        Ok(latest)
    }

    /// Whether to wait until there is more.
    fn too_little(&self, backlog: u64) -> bool {
        self.ends.is_none()
            && self
                .options
                .min_offsets
                .is_some_and(|least| backlog < least)
            && self.last.elapsed() < self.options.max_delay
    }

    fn limits(&self, limit: ReadLimit) -> Limits {
        // What ends is not to be waited for.
        let rate = self.options.max_rate.filter(|_| self.ends.is_none());
        let limit = ReadLimit {
            rows: least(self.options.max_offsets, limit.rows),
            bytes: least(self.options.max_bytes, limit.bytes),
        };
        Limits {
            all: limit.rows_of(self.reader.record_bytes()),
            each: rate.map(|rate| limits::allowed(rate, self.rated.elapsed())),
        }
    }

    fn splits(from: &Offsets, to: &Offsets) -> Vec<Split> {
        let mut splits = Vec::new();
        for (of, end) in &to.0 {
            let Some(start) = from.get(of) else {
                continue;
            };
            for (piece, range) in limits::pieces(start..*end, SPLIT).enumerate() {
                let split = KafkaSplit {
                    topic: of.topic.to_string(),
                    partition: of.partition,
                    start: range.start,
                    end: range.end,
                };
                splits.push((piece, Split::from(split)));
            }
        }
        // Workers that take one after the other begin with different partitions.
        splits.sort_by_key(|(piece, _)| *piece);
        splits.into_iter().map(|(_, split)| split).collect()
    }
}

fn least(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    [one, other].into_iter().flatten().min()
}

/// The offsets that an edge stands for.
fn resolve(
    planner: &mut Planner,
    options: &SourceOptions,
    edge: &Edge,
    partitions: &BTreeSet<TopicPartition>,
    begins: bool,
) -> Result<Offsets> {
    let all =
        |number: i64| -> Offsets { partitions.iter().map(|of| (of.clone(), number)).collect() };
    let named = |given: &Offsets| -> Result<()> {
        let given: BTreeSet<_> = given.0.keys().cloned().collect();
        let Some(odd) = given.symmetric_difference(partitions).next() else {
            return Ok(());
        };
        let (what, option) = (
            if given.contains(odd) {
                "names"
            } else {
                "lacks"
            },
            if begins { "starting" } else { "ending" },
        );
        Err(ConnectorError::Schema(format!(
            "the JSON of the {option} offsets {what} partition {odd}: it must name exactly the partitions that are read ({})",
            all(0).to_json()
        )))
    };
    let times = match edge {
        Edge::Earliest => return planner.insist(|planner| planner.edge(partitions, EARLIEST)),
        Edge::Latest => return planner.insist(|planner| planner.edge(partitions, LATEST)),
        Edge::Offsets(given) => {
            named(given)?;
            let words = given.0.iter().filter(|(_, offset)| **offset < 0);
            let words: Offsets = words.map(|(of, word)| (of.clone(), *word)).collect();
            let mut found = given.clone();
            found
                .0
                .extend(planner.insist(|planner| planner.offsets(&words))?.0);
            return Ok(found);
        }
        Edge::Time(time) => all(*time),
        Edge::Times(given) => {
            named(given)?;
            given.clone()
        }
    };
    let mut found = planner.insist(|planner| planner.offsets(&times))?;
    if let Some((of, _)) = found.0.iter().find(|(_, offset)| **offset < 0) {
        if begins && options.late_start_is_error {
            return Err(ConnectorError::Schema(format!(
                "{of} has no record of the starting time {} or later: write an earlier one, or 'startingOffsetsByTimestampStrategy' = 'latest' to begin at the end",
                times.get(of).unwrap_or_default()
            )));
        }
        let latest = planner.insist(|planner| planner.edge(partitions, LATEST))?;
        for (of, offset) in &mut found.0 {
            if *offset < 0 {
                *offset = latest.get(of).unwrap_or_default();
            }
        }
    }
    Ok(found)
}

impl Source for KafkaSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.options.schema)
    }

    fn metadata_schema(&self) -> SchemaRef {
        Arc::new(match self.options.format {
            Format::None => Schema::empty(),
            _ => Schema::new(columns::own(false, self.options.headers)),
        })
    }

    fn description(&self) -> String {
        let way = match &self.options.topics {
            Topics::Named(_) => "Subscribe",
            Topics::Pattern(_) => "SubscribePattern",
            Topics::Assigned(_) => "Assign",
        };
        format!("KafkaSource[{way}[{}]]", self.options.written)
    }

    fn begin(&mut self, query_name: &str, query_id: &str) {
        let short = query_id.split('-').next().unwrap_or(query_id);
        self.group = format!("{}-{query_name}-{short}", self.options.group_prefix);
    }

    fn restore(&mut self, log: &[PlannedRange]) -> Result<()> {
        self.logged = log.len();
        if let Some(last) = log.last() {
            let offsets = Offsets::from_json(&last.end).ok_or_else(|| {
                ConnectorError::Inconsistent(format!(
                    "the offset log holds {}, which are no offsets of topics. Use another checkpointLocation",
                    last.end
                ))
            })?;
            self.planned = Some(offsets);
        }
        Ok(())
    }

    fn latest_offset(&mut self) -> Result<Option<Value>> {
        Ok(self.latest.as_ref().map(Offsets::to_json))
    }

    fn plan(&mut self, limit: ReadLimit) -> Result<Option<PlannedRange>> {
        let first = self.planned.is_none();
        if first || self.planner.is_none() {
            self.connect()?;
        }
        let Some(available) = self.available()? else {
            return Ok(None);
        };
        let Some(from) = self.planned.clone() else {
            return Ok(None);
        };
        let backlog = limits::backlog(&from, &available);
        if backlog == 0 {
            // A time without records gives no right to more of them later.
            self.rated = Instant::now();
        }
        if self.too_little(backlog) && !first {
            return Ok(None);
        }
        let limits = self.limits(limit);
        let end = limits::cut(&from, &available, limits);
        let splits = Self::splits(&from, &end);
        // Where reading begins is logged at once: a restart begins there too, whatever comes until
        // then.
        if splits.is_empty() && !first {
            return Ok(None);
        }
        self.last = Instant::now();
        if let (Some(each), Some(rate)) = (limits.each, self.options.max_rate) {
            self.rated += limits::time_of(each, rate);
        }
        self.logged += 1;
        self.planned = Some(end.clone());
        Ok(Some(PlannedRange {
            start: from.to_json(),
            end: end.to_json(),
            splits,
        }))
    }

    fn follow(&mut self) -> Result<Option<Vec<Split>>> {
        self.connect()?;
        if self.ends.is_some() {
            return Ok(None);
        }
        if self.available()?.is_none() {
            return Ok(Some(vec![]));
        }
        let fresh = self.planned.iter().flat_map(|planned| &planned.0);
        let fresh = fresh.filter(|(of, _)| !self.following.contains(of));
        let fresh: Vec<(TopicPartition, i64)> = fresh.map(|(of, at)| (of.clone(), *at)).collect();
        self.following
            .extend(fresh.iter().map(|(of, _)| of.clone()));
        let splits = fresh.into_iter().map(|(of, start)| {
            Split::from(KafkaSplit {
                topic: of.topic.to_string(),
                partition: of.partition,
                start,
                end: ENDLESS,
            })
        });
        Ok(Some(splits.collect()))
    }

    fn followed(&mut self, splits: Vec<Split>) -> Result<Option<PlannedRange>> {
        let Some(planned) = &mut self.planned else {
            return Ok(None);
        };
        // Where reading begins is logged at once, as in `plan`.
        if splits.is_empty() && self.logged > 0 {
            return Ok(None);
        }
        let start = planned.to_json();
        for split in &splits {
            let split = KafkaSplit::of(&split.range)?;
            planned.0.insert(split.partition(), split.end);
        }
        self.logged += 1;
        Ok(Some(PlannedRange {
            start,
            end: planned.to_json(),
            splits,
        }))
    }

    fn committed(&mut self, range: &PlannedRange) -> Result<()> {
        // Of a commit of many ticks a partition has many; its last says how far it was read.
        let splits = range.splits.iter();
        let last: BTreeMap<&str, &Split> = splits.map(|split| (&*split.partition, split)).collect();
        let mut read = BTreeMap::new();
        for split in last.into_values() {
            let split = KafkaSplit::of(&split.range)?;
            read.insert(split.partition(), split.end);
        }
        if let Some(planner) = self.planner.as_ref().filter(|_| !read.is_empty()) {
            planner.commit(&Offsets(read));
        }
        Ok(())
    }

    fn freeze(&mut self) -> Result<()> {
        self.connect()?;
        let latest = loop {
            match self.look()? {
                Some(latest) => break latest,
                None => std::thread::sleep(POLL),
            }
        };
        let ends = match self.ends.take() {
            None => latest.clone(),
            Some(mut ends) => {
                for (of, end) in &mut ends.0 {
                    *end = (*end).min(latest.get(of).unwrap_or(i64::MIN));
                }
                ends
            }
        };
        self.ends = Some(ends);
        self.latest = Some(latest);
        Ok(())
    }

    fn exhausted(&self) -> bool {
        match (&self.ends, &self.planned) {
            (Some(ends), Some(planned)) => limits::backlog(planned, ends) == 0,
            _ => false,
        }
    }

    fn poll_interval(&self) -> Duration {
        POLL
    }

    fn forgettable(&self) -> usize {
        if self.logged >= LOGGED {
            self.logged - 1
        } else {
            0
        }
    }

    fn forgotten(&mut self, ranges: usize) {
        self.logged = self.logged.saturating_sub(ranges);
    }

    fn reader(&self) -> Arc<dyn SourceReader> {
        Arc::clone(&self.reader) as Arc<dyn SourceReader>
    }
}
