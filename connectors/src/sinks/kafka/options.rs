//! The options of a `kafka` sink, read and checked once.

use arrow::datatypes::{DataType, Schema, SchemaRef};

use super::super::text::Zone;
use super::avro::AvroForm;
use crate::kafka::config::Role;
use crate::kafka::{ClientOptions, Registry};
use crate::options::nearest;
use crate::{ConnectorError, Delivery, Options, OutputMode, Result, SinkConfig};

/// The connector's name.
pub(super) const NAME: &str = "kafka";

const KEYS: &[&str] = &[
    "topic",
    "format",
    "keyColumns",
    "keyFormat",
    "deliveryGuarantee",
    "transactionalIdPrefix",
    "timeZone",
];

/// How long a transaction may stay open: what brokers allow at most, unless set up otherwise.
const TRANSACTION_TIMEOUT_MS: &str = "900000";

/// How long a record may wait for brokers that are away.
const DELIVERY_TIMEOUT_MS: &str = "120000";

/// What a record is made of.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// The columns of the row are those of a record.
    Columns(RecordColumns),
    /// The row is the value.
    Json(JsonForm),
    /// The same as an Avro record.
    Avro(AvroForm),
}

/// Which columns of a row are what of a record.
#[derive(Clone, Debug, Default)]
pub(super) struct RecordColumns {
    pub(super) key: Option<usize>,
    pub(super) value: usize,
    pub(super) headers: Option<usize>,
    pub(super) topic: Option<usize>,
    pub(super) partition: Option<usize>,
}

/// A row as JSON.
#[derive(Clone, Debug)]
pub(super) struct JsonForm {
    pub(super) ignore_nulls: bool,
    pub(super) key: KeyForm,
}

/// Some columns of a row as the key.
#[derive(Clone, Debug)]
pub(super) struct KeyForm {
    pub(super) zone: Zone,
    /// By index; none: records have no key.
    pub(super) columns: Vec<usize>,
    /// The key is the text of its one column, rather than JSON.
    pub(super) raw: bool,
}

/// The options of a `kafka` sink.
#[derive(Clone, Debug)]
pub(super) struct SinkOptions {
    pub(super) client: ClientOptions,
    /// The topic of all records; `None`: each says its own.
    pub(super) topic: Option<String>,
    pub(super) form: Form,
    pub(super) mode: OutputMode,
    pub(super) delivery: Delivery,
    /// Of the transactions, and of the consumer group that says how far they are.
    pub(super) transactional_id: String,
    /// The query is continuous: records wait for no others.
    pub(super) continuous: bool,
}

impl SinkOptions {
    pub(super) fn new(options: &Options, config: &SinkConfig) -> Result<Self> {
        let mut known = KEYS.to_vec();
        let format = options.get("format").map(str::to_ascii_lowercase);
        match format.as_deref() {
            Some("avro") => known.extend(AvroForm::KEYS.iter().chain(Registry::KEYS)),
            _ => known.push("ignoreNullFields"),
        }
        known.extend(
            options
                .iter()
                .map(|(key, _)| key)
                .filter(|key| key.to_ascii_lowercase().starts_with("kafka.")),
        );
        options.check_known(NAME, &known)?;
        if config.mode == OutputMode::Complete {
            return Err(ConnectorError::Schema(
                "a topic cannot be replaced as a whole, as complete mode wants: write 'outputMode' = 'update', which writes the rows that changed under their keys".into(),
            ));
        }
        let topic = options.get("topic").map(str::trim).map(str::to_owned);
        if topic.as_deref() == Some("") {
            return Err(options.bad("topic", "the name of a topic".into()));
        }
        let form = match format.as_deref() {
            None => Form::Columns(record_columns(&config.schema, config.mode)?),
            Some("json") => Form::Json(JsonForm {
                key: key_form(options, config)?,
                ignore_nulls: options.boolean("ignoreNullFields", true)?,
            }),
            Some("avro") => {
                let key = key_form(options, config)?;
                Form::Avro(AvroForm::new(options, config, key, topic.as_deref())?)
            }
            Some(_) => {
                return Err(options.bad(
                    "format",
                    "json, avro, or nothing where the columns are key, value, headers, topic, partition"
                        .into(),
                ));
            }
        };
        let says_own = matches!(&form, Form::Columns(columns) if columns.topic.is_some());
        if topic.is_none() && !says_own {
            options.require(NAME, "topic", "write the topic to write to, or leave 'format' out and give each row a column 'topic'")?;
        }
        let delivery = match options
            .get("deliveryGuarantee")
            .map(str::to_ascii_lowercase)
            .as_deref()
        {
            None | Some("exactly-once") => Delivery::ExactlyOnce,
            Some("at-least-once") => Delivery::AtLeastOnce,
            Some(_) => {
                return Err(
                    options.bad("deliveryGuarantee", "exactly-once or at-least-once".into())
                );
            }
        };
        if delivery == Delivery::ExactlyOnce && topic.is_none() {
            return Err(ConnectorError::MissingOption {
                connector: NAME.into(),
                key: "topic".into(),
                remedy: "a transaction notes its epoch beside one topic that is known. Write 'topic' for all rows, or 'deliveryGuarantee' = 'at-least-once' where each row says its own".into(),
            });
        }
        let prefix = options.get("transactionalIdPrefix").unwrap_or("tidemark");
        let transactional_id = format!(
            "{prefix}-{}-{}",
            config.query_id,
            topic.as_deref().unwrap_or_default()
        );
        Ok(Self {
            client: ClientOptions::new(options, Role::Producer)?,
            topic,
            form,
            mode: config.mode,
            delivery,
            transactional_id,
            continuous: config.continuous,
        })
    }

    /// Records go on being sent while those of a commit arrive: they are counted.
    pub(super) fn counts(&self) -> bool {
        self.continuous && self.delivery == Delivery::AtLeastOnce
    }

    /// The configuration of the producer.
    pub(super) fn producer(&self) -> rdkafka::ClientConfig {
        let mut config = self.client.config();
        let is_set = |names: &[&str]| names.iter().any(|name| self.client.get(name).is_some());
        if !is_set(&["delivery.timeout.ms", "message.timeout.ms"]) {
            config.set("delivery.timeout.ms", DELIVERY_TIMEOUT_MS);
        }
        if !is_set(&["linger.ms", "queue.buffering.max.ms"]) {
            // The library looks after whole milliseconds, unless a record comes: the rows of a tick are there by the
            // time at which it has been woken by the first. One request for each would be more than a broker can take.
            config.set("linger.ms", if self.continuous { "0.2" } else { "5" });
        }
        // A record that has arrived needs no event of its own, unless it is counted.
        let errors = if self.counts() { "false" } else { "true" };
        config.set("delivery.report.only.error", errors);
        if self.delivery == Delivery::ExactlyOnce {
            config.set("transactional.id", &self.transactional_id);
            if !is_set(&["transaction.timeout.ms"]) {
                config.set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS);
            }
        }
        config
    }
}

/// Finds key, value and so on among the columns of a row.
fn record_columns(schema: &Schema, mode: OutputMode) -> Result<RecordColumns> {
    const NAMES: [&str; 5] = ["key", "value", "headers", "topic", "partition"];
    let mut columns = RecordColumns::default();
    let mut value = None;
    for (index, field) in schema.fields().iter().enumerate() {
        let bytes = matches!(field.data_type(), DataType::Utf8 | DataType::Binary);
        let (slot, fits, wanted) = match field.name().to_ascii_lowercase().as_str() {
            "key" => (&mut columns.key, bytes, "STRING or BINARY"),
            "value" => (&mut value, bytes, "STRING or BINARY"),
            "topic" => (
                &mut columns.topic,
                *field.data_type() == DataType::Utf8,
                "STRING",
            ),
            "partition" => (
                &mut columns.partition,
                *field.data_type() == DataType::Int32,
                "INT",
            ),
            "headers" => (
                &mut columns.headers,
                is_headers(field.data_type()),
                "ARRAY<STRUCT<key STRING, value BINARY>>",
            ),
            other => {
                let nearest = nearest(other, NAMES.into_iter())
                    .map(|name| format!(" (did you mean '{name}'?)"))
                    .unwrap_or_default();
                return Err(ConnectorError::Schema(format!(
                    "a Kafka record has no column '{}'{nearest}: write 'format' = 'json' or 'avro' to have the row as the value, or select key, value, headers, topic, partition",
                    field.name()
                )));
            }
        };
        if !fits {
            return Err(ConnectorError::Schema(format!(
                "column '{}' of a Kafka record must be {wanted}, not {}: CAST it",
                field.name(),
                field.data_type()
            )));
        }
        *slot = Some(index);
    }
    columns.value = value.ok_or_else(|| {
        ConnectorError::Schema(
            "a Kafka record needs a column 'value': select one, or write 'format' = 'json' to have the row as the value".into(),
        )
    })?;
    match mode {
        OutputMode::Changelog => Err(ConnectorError::Schema(
            "changelog mode writes each change as an object: write 'format' = 'json'".into(),
        )),
        OutputMode::Update if columns.key.is_none() => Err(ConnectorError::Schema(
            "update mode writes rows under their keys: select a column 'key', or write 'format' = 'json' and 'keyColumns'".into(),
        )),
        _ => Ok(columns),
    }
}

fn is_headers(data_type: &DataType) -> bool {
    let DataType::List(item) = data_type else {
        return false;
    };
    let DataType::Struct(fields) = item.data_type() else {
        return false;
    };
    let [key, value] = fields.as_ref() else {
        return false;
    };
    key.name() == "key"
        && *key.data_type() == DataType::Utf8
        && value.name() == "value"
        && *value.data_type() == DataType::Binary
}

fn key_form(options: &Options, config: &SinkConfig) -> Result<KeyForm> {
    let columns = match options.get("keyColumns") {
        None => config.key.clone().unwrap_or_default(),
        Some(names) => key_columns(options, names, &config.schema)?,
    };
    if config.mode == OutputMode::Update {
        if columns.is_empty() {
            return Err(ConnectorError::MissingOption {
                connector: NAME.into(),
                key: "keyColumns".into(),
                remedy: "update mode writes rows under their keys, and the query has none of its own: name the columns that identify a row".into(),
            });
        }
        let own = config.key.as_deref().unwrap_or(&columns);
        if let Some(lacking) = own.iter().find(|column| !columns.contains(column)) {
            return Err(options.bad(
                "keyColumns",
                format!(
                    "all columns that identify a row ('{}' is missing): rows with the same key would replace each other",
                    config.schema.field(*lacking).name()
                ),
            ));
        }
    }
    let raw = match options
        .get("keyFormat")
        .map(str::to_ascii_lowercase)
        .as_deref()
    {
        None | Some("json") => false,
        Some("raw") if columns.len() == 1 => true,
        Some("raw") => {
            return Err(options.bad("keyFormat", "json, as the key is not one column".into()));
        }
        Some(_) => return Err(options.bad("keyFormat", "json or raw".into())),
    };
    Ok(KeyForm {
        zone: Zone::from_options(options)?,
        columns,
        raw,
    })
}

fn key_columns(options: &Options, names: &str, schema: &SchemaRef) -> Result<Vec<usize>> {
    names
        .split(',')
        .map(str::trim)
        .map(|name| {
            let found = schema
                .fields()
                .iter()
                .position(|field| field.name().eq_ignore_ascii_case(name));
            found.ok_or_else(|| {
                let columns: Vec<&str> =
                    schema.fields().iter().map(|f| f.name().as_str()).collect();
                options.bad(
                    "keyColumns",
                    format!("columns of the query, which has {}", columns.join(", ")),
                )
            })
        })
        .collect()
}
