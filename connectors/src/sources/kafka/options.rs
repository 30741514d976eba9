//! The options of a `kafka` source, read and checked once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use regex::Regex;
use serde_json::Value;

use super::columns;
use crate::format::RecordOptions;
use crate::format::avro::AvroOptions;
use crate::format::csv::CsvOptions;
use crate::kafka::config::Role;
use crate::kafka::{ClientOptions, Offsets, Registry, TopicPartition};
use crate::{ConnectorError, Options, Result};

/// The connector's name.
pub(super) const NAME: &str = "kafka";

const KEYS: &[&str] = &[
    "subscribe",
    "subscribePattern",
    "assign",
    "startingOffsets",
    "endingOffsets",
    "startingTimestamp",
    "endingTimestamp",
    "startingOffsetsByTimestamp",
    "endingOffsetsByTimestamp",
    "startingOffsetsByTimestampStrategy",
    "maxOffsetsPerTrigger",
    "maxBytesPerTrigger",
    "minOffsetsPerTrigger",
    "maxTriggerDelay",
    "maxRatePerPartition",
    "failOnDataLoss",
    "groupIdPrefix",
    "includeHeaders",
    "kafkaConsumer.pollTimeoutMs",
    "format",
];

/// Keys of CSV that are about whole files.
const OF_FILES: &[&str] = &["header", "multiLine"];

/// Which partitions are read.
#[derive(Clone, Debug)]
pub(super) enum Topics {
    Named(BTreeSet<String>),
    Pattern(Regex),
    Assigned(BTreeSet<TopicPartition>),
}

/// Where reading begins or ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    Earliest,
    Latest,
    /// An offset for each partition: -2 is the earliest, -1 the latest.
    Offsets(Offsets),
    /// The first record of this time or later, in milliseconds, in every partition.
    Time(i64),
    /// The same for each partition.
    Times(Offsets),
}

/// How the value of a record becomes columns.
#[derive(Clone, Debug)]
pub(super) enum Format {
    /// Not at all: the columns are Kafka's.
    None,
    Json(RecordOptions),
    Csv(CsvOptions),
    /// The registry is where the records name their schemas.
    Avro(AvroOptions, Option<Arc<Registry>>),
    Raw,
}

impl Format {
    pub(super) fn record(&self) -> Option<&RecordOptions> {
        match self {
            Self::Json(record) => Some(record),
            Self::Csv(options) => Some(&options.record),
            Self::None | Self::Avro(..) | Self::Raw => None,
        }
    }
}

/// The options of a `kafka` source.
#[derive(Clone, Debug)]
pub(super) struct SourceOptions {
    pub(super) client: ClientOptions,
    pub(super) topics: Topics,
    /// `subscribe`, `subscribePattern` or `assign` as written.
    pub(super) written: String,
    pub(super) start: Edge,
    pub(super) end: Option<Edge>,
    /// Where no record is young enough to begin at: an error, or the end.
    pub(super) late_start_is_error: bool,
    pub(super) max_offsets: Option<u64>,
    pub(super) max_bytes: Option<u64>,
    pub(super) min_offsets: Option<u64>,
    pub(super) max_delay: Duration,
    /// Records of a partition and second.
    pub(super) max_rate: Option<u64>,
    pub(super) fail_on_data_loss: bool,
    pub(super) group_prefix: String,
    pub(super) headers: bool,
    /// How long brokers may be away.
    pub(super) timeout: Duration,
    pub(super) format: Format,
    /// The columns of a row.
    pub(super) schema: SchemaRef,
}

impl SourceOptions {
    pub(super) fn new(options: &Options, declared: Option<SchemaRef>) -> Result<Self> {
        let format = format(options)?;
        let (topics, written) = topics(options)?;
        let start = edge(options, "starting", &Edge::Earliest)?.unwrap_or(Edge::Latest);
        let end = edge(options, "ending", &Edge::Latest)?;
        let headers = options.boolean("includeHeaders", false)?;
        let strategy = options.get("startingOffsetsByTimestampStrategy");
        let late_start_is_error = match strategy.map(str::to_ascii_lowercase).as_deref() {
            None | Some("error") => true,
            Some("latest") => false,
            Some(_) => {
                return Err(options.bad(
                    "startingOffsetsByTimestampStrategy",
                    "error or latest".into(),
                ));
            }
        };
        let schema = columns::resolve(declared, &format, headers)?;
        Ok(Self {
            client: ClientOptions::new(options, Role::Consumer)?,
            topics,
            written,
            start,
            end,
            late_start_is_error,
            max_offsets: options.integer("maxOffsetsPerTrigger", 1)?,
            max_bytes: options.bytes("maxBytesPerTrigger")?,
            min_offsets: options.integer("minOffsetsPerTrigger", 1)?,
            max_delay: options
                .duration("maxTriggerDelay")?
                .unwrap_or(Duration::from_mins(15)),
            max_rate: options.integer("maxRatePerPartition", 1)?,
            fail_on_data_loss: options.boolean("failOnDataLoss", true)?,
            group_prefix: options.get("groupIdPrefix").unwrap_or("tidemark").into(),
            headers,
            timeout: Duration::from_millis(
                options
                    .integer("kafkaConsumer.pollTimeoutMs", 1)?
                    .unwrap_or(120_000),
            ),
            format,
            schema,
        })
    }
}

fn format(options: &Options) -> Result<Format> {
    let mut known: Vec<String> = KEYS.iter().map(|key| (*key).to_owned()).collect();
    let own = options.iter().map(|(key, _)| key);
    // Checked by librdkafka.
    known.extend(
        own.filter(|key| key.to_ascii_lowercase().starts_with("kafka."))
            .map(str::to_owned),
    );
    let name = options.get("format").map(str::to_ascii_lowercase);
    let format = match name.as_deref() {
        None => Format::None,
        Some("raw") => Format::Raw,
        Some("json") => Format::Json(RecordOptions::new(options)?),
        Some("csv") => Format::Csv(CsvOptions::new(options)?),
        Some("avro") => Format::Avro(
            AvroOptions::new(options)?,
            Registry::new(options)?.map(Arc::new),
        ),
        Some(_) => return Err(options.bad("format", "json, csv, avro or raw".into())),
    };
    let mut of_format: Vec<&str> = vec![];
    if format.record().is_some() {
        of_format.extend(RecordOptions::KEYS);
    }
    if matches!(format, Format::Avro(..)) {
        of_format.extend(AvroOptions::KEYS);
        of_format.extend(Registry::KEYS);
    }
    if matches!(format, Format::Csv(_)) {
        of_format.extend(
            CsvOptions::KEYS
                .iter()
                .filter(|key| !OF_FILES.contains(key)),
        );
    }
    known.extend(of_format.into_iter().map(str::to_owned));
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    options.check_known(NAME, &known)?;
    Ok(format)
}

fn topics(options: &Options) -> Result<(Topics, String)> {
    const WAYS: [&str; 3] = ["subscribe", "subscribePattern", "assign"];
    let mut given = WAYS.iter().filter(|way| options.get(way).is_some());
    let (Some(way), None) = (given.next(), given.next()) else {
        return Err(ConnectorError::MissingOption {
            connector: NAME.into(),
            key: "subscribe".into(),
            remedy: "write exactly one of 'subscribe' = 'topic1,topic2', 'subscribePattern' = 'REGEX' and 'assign' = '{\"topic1\":[0,1]}'".into(),
        });
    };
    let written = options.get(way).unwrap_or_default();
    let topics = match *way {
        "subscribe" => {
            let names: BTreeSet<String> = written
                .split(',')
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect();
            if names.is_empty() {
                return Err(options.bad(way, "topics, separated by commas".into()));
            }
            Topics::Named(names)
        }
        "subscribePattern" => {
            // As Java matches: the whole name.
            let regex = Regex::new(&format!("^(?:{written})$"))
                .map_err(|why| options.bad(way, format!("a regular expression ({why})")))?;
            Topics::Pattern(regex)
        }
        _ => Topics::Assigned(
            assigned(written)
                .ok_or_else(|| options.bad(way, "JSON such as {\"topic1\":[0,1]}".into()))?,
        ),
    };
    Ok((topics, written.to_owned()))
}

fn assigned(text: &str) -> Option<BTreeSet<TopicPartition>> {
    let value: Value = serde_json::from_str(text).ok()?;
    let mut found = BTreeSet::new();
    for (topic, partitions) in value.as_object()? {
        for partition in partitions.as_array()? {
            let number = i32::try_from(partition.as_i64()?).ok()?;
            found.insert(TopicPartition::new(topic.as_str(), number));
        }
    }
    (!found.is_empty()).then_some(found)
}

/// `startingTimestamp` before `startingOffsetsByTimestamp` before `startingOffsets`, as in Spark;
/// the same for `ending`. `only` is the word that has a meaning at this edge alone, beside the
/// other where reading begins.
fn edge(options: &Options, which: &str, word: &Edge) -> Result<Option<Edge>> {
    let key = format!("{which}Timestamp");
    if let Some(time) = options.get(&key) {
        let time = time.trim().parse().map_err(|_| {
            options.bad(
                &key,
                "milliseconds since 1970, such as 1767225600000".into(),
            )
        })?;
        return Ok(Some(Edge::Time(time)));
    }
    let json = |key: &str, what: &str| -> Result<Option<Offsets>> {
        let Some(text) = options.get(key) else {
            return Ok(None);
        };
        serde_json::from_str(text)
            .ok()
            .and_then(|value| Offsets::from_json(&value))
            .map(Some)
            .ok_or_else(|| options.bad(key, what.into()))
    };
    let key = format!("{which}OffsetsByTimestamp");
    let what = "JSON with milliseconds since 1970, such as {\"topic1\":{\"0\":1767225600000}}";
    if let Some(times) = json(&key, what)? {
        return Ok(Some(Edge::Times(times)));
    }
    let key = format!("{which}Offsets");
    let begins = *word == Edge::Earliest;
    let text = options
        .get(&key)
        .map(|text| text.trim().to_ascii_lowercase());
    Ok(match text.as_deref() {
        None => None,
        Some("latest") => Some(Edge::Latest),
        Some("earliest") if begins => Some(Edge::Earliest),
        Some(_) => {
            let what = if begins {
                "earliest, latest or JSON such as {\"topic1\":{\"0\":23,\"1\":-2}}"
            } else {
                "latest or JSON such as {\"topic1\":{\"0\":23,\"1\":-1}}"
            };
            json(&key, what)?.map(Edge::Offsets)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<SourceOptions> {
        let all = [("kafka.bootstrap.servers", "h:1")];
        let options: Options = all.iter().chain(pairs).copied().collect();
        SourceOptions::new(&options, None)
    }

    #[test]
    fn edges_go_by_their_rank() {
        let read = read(&[
            ("subscribe", "a, b"),
            ("startingOffsets", "earliest"),
            ("startingOffsetsByTimestamp", r#"{"a":{"0":5}}"#),
            ("endingOffsets", r#"{"a":{"0":-1}}"#),
        ])
        .expect("options");
        assert!(matches!(read.start, Edge::Times(_)));
        assert!(matches!(read.end, Some(Edge::Offsets(_))));
        assert!(matches!(read.topics, Topics::Named(names) if names.len() == 2));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases: [(&[(&str, &str)], &str); 6] = [
            (&[], "'subscribe'"),
            (&[("subscribe", "a"), ("assign", "{}")], "exactly one"),
            (&[("assign", "{\"a\":0}")], "{\"topic1\":[0,1]}"),
            (&[("subscribePattern", "(")], "regular expression"),
            (
                &[("subscribe", "a"), ("endingOffsets", "earliest")],
                "latest or JSON",
            ),
            (
                &[("subscribe", "a"), ("startingOffset", "latest")],
                "did you mean 'startingOffsets'",
            ),
        ];
        for (pairs, part) in cases {
            let error = read(pairs).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_pattern_is_of_the_whole_name() {
        let read = read(&[("subscribePattern", "web-.*|x")]).expect("options");
        let Topics::Pattern(pattern) = read.topics else {
            panic!("a pattern")
        };
        assert!(pattern.is_match("web-events") && !pattern.is_match("ax"));
    }
}
