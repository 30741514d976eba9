//! Rows as Avro records, and where their schema is.
//!
//! With a registry a record begins with a zero byte and the number of its schema there. In changelog
//! mode it is Debezium's envelope: `before` and `after`, which may be null, and `op`.

use std::sync::{Arc, OnceLock};

use arrow::datatypes::SchemaRef;
use serde_json::{Value, json};

use super::options::{KeyForm, SinkOptions};
use super::records::{Record, change};
use crate::format::avro::{AvroEncoder, AvroSchema, given_schema};
use crate::kafka::Registry;
use crate::sinks::text::CellWriter;
use crate::{ChangeType, ConnectorError, Options, Output, OutputMode, Result, SinkConfig};

/// What Spark calls the record of a row.
const RECORD_NAME: &str = "topLevelRecord";

/// A union's branches in an envelope.
const NULL: u8 = 0;
const ROW: u8 = 2;

/// How rows become Avro records.
#[derive(Clone, Debug)]
pub(super) struct AvroForm {
    pub(super) key: KeyForm,
    schema: Written,
    subject: String,
    envelope: bool,
    columns: SchemaRef,
    /// Found when it is first needed.
    encoding: OnceLock<Encoding>,
}

/// Which schema records are written with.
#[derive(Clone, Debug)]
enum Written {
    /// This one, and they do not name it.
    Known(AvroEncoder),
    /// This one, which the registry gives a number.
    Registered(AvroEncoder, Arc<Registry>),
    /// The newest one that the registry has.
    Newest(Arc<Registry>),
}

/// The encoder of rows, and what stands before each record.
#[derive(Clone, Debug)]
pub(super) struct Encoding {
    encoder: AvroEncoder,
    frame: Vec<u8>,
}

impl AvroForm {
    /// The options that [`Self::new`] reads, beside those of the registry.
    pub(super) const KEYS: &'static [&'static str] = &[
        "avroSchema",
        "recordName",
        "recordNamespace",
        "schema.registry.subject",
        "auto.register.schemas",
    ];

    /// Takes the options out of a table's, and checks that the columns fit a given schema.
    pub(super) fn new(
        options: &Options,
        config: &SinkConfig,
        key: KeyForm,
        topic: Option<&str>,
    ) -> Result<Self> {
        let registry = Registry::new(options)?.map(Arc::new);
        let of_registry = ["schema.registry.subject", "auto.register.schemas"];
        if registry.is_none()
            && let Some(key) = of_registry.iter().find(|key| options.get(key).is_some())
        {
            return Err(options.bad(
                key,
                "nothing without a schema registry: write 'schema.registry.url' too".into(),
            ));
        }
        let given = given_schema(options)?;
        let newest = !options.boolean("auto.register.schemas", true)?;
        let envelope = config.mode == OutputMode::Changelog;
        if newest && (given.is_some() || envelope) {
            return Err(options.bad(
                "auto.register.schemas",
                "true where the schema is not the newest one of the registry: that of 'avroSchema', or an envelope of changelog mode".into(),
            ));
        }
        let own = || match given {
            Some(schema) => AvroEncoder::new(schema, &config.schema, "avroSchema"),
            None => AvroEncoder::of_columns(
                &config.schema,
                options.get("recordName").unwrap_or(RECORD_NAME),
                options.get("recordNamespace"),
            ),
        };
        let schema = match registry {
            None => Written::Known(own()?),
            Some(registry) if newest => Written::Newest(registry),
            Some(registry) => Written::Registered(own()?, registry),
        };
        let subject = options.get("schema.registry.subject").map(str::to_owned);
        Ok(Self {
            key,
            schema,
            subject: subject.unwrap_or_else(|| format!("{}-value", topic.unwrap_or_default())),
            envelope,
            columns: Arc::clone(&config.schema),
            encoding: OnceLock::new(),
        })
    }

    /// The encoding; the first time, the registry is asked for it, if there is one.
    pub(super) fn encoding(&self) -> Result<&Encoding> {
        if let Some(found) = self.encoding.get() {
            return Ok(found);
        }
        let found = self.find()?;
        Ok(self.encoding.get_or_init(|| found))
    }

    fn find(&self) -> Result<Encoding> {
        let (encoder, id) = match &self.schema {
            Written::Known(encoder) => (encoder.clone(), None),
            Written::Registered(encoder, registry) => {
                let schema = encoder.schema();
                let text = if self.envelope {
                    envelope(schema)?
                } else {
                    schema.text().to_string()
                };
                let id = registry.register(&self.subject, &text)?;
                (encoder.clone(), Some(id))
            }
            Written::Newest(registry) => {
                let (id, schema) = registry.latest(&self.subject)?;
                let encoder = AvroEncoder::new(schema, &self.columns, &self.subject)?;
                (encoder, Some(id))
            }
        };
        let mut frame = vec![];
        if let Some(id) = id {
            frame.push(0);
            frame.extend(id.to_be_bytes());
        }
        Ok(Encoding { encoder, frame })
    }
}

/// The schema of an envelope around rows of a schema.
fn envelope(row: &AvroSchema) -> Result<String> {
    let parsed: Value = serde_json::from_str(row.text())
        .map_err(|why| ConnectorError::Schema(format!("the schema of the rows: {why}")))?;
    let name = row.name();
    let envelope = json!({"type": "record", "name": format!("{name}Envelope"), "fields": [
        {"name": "before", "type": ["null", parsed], "default": null},
        {"name": "after", "type": ["null", name], "default": null},
        {"name": "op", "type": "string"},
    ]});
    Ok(envelope.to_string())
}

/// Makes Avro records of the rows of one writer.
#[derive(Debug, Default)]
pub(super) struct AvroRecords {
    key: String,
    value: Vec<u8>,
    /// The row before an update until the row after it comes.
    before: Option<Vec<u8>>,
}

impl AvroRecords {
    /// Hands a record for each row that has one to `send`.
    pub(super) fn of(
        &mut self,
        output: &Output,
        (key_of, encoding): (Option<CellWriter>, &Encoding),
        options: &SinkOptions,
        mut send: impl FnMut(Record<'_>) -> Result<()>,
    ) -> Result<()> {
        let batch = &output.batch;
        let write = encoding.encoder.rows(batch)?;
        let row_of = |row: usize, out: &mut Vec<u8>| {
            write(row, out).map_err(|why| {
                ConnectorError::Schema(format!(
                    "a row cannot be written with its Avro schema: {why}. Change the row in the query, or the schema"
                ))
            })
        };
        let topic = options.topic.as_deref().unwrap_or_default();
        for row in 0..batch.num_rows() {
            let change = change(output, row);
            self.value.clear();
            self.value.extend_from_slice(&encoding.frame);
            let mut deleted = false;
            if options.mode == OutputMode::Changelog {
                if !self.envelope(change, |out| row_of(row, out))? {
                    continue;
                }
            } else {
                match change {
                    // The row after it says all.
                    ChangeType::UpdatePreimage => continue,
                    ChangeType::Delete => deleted = true,
                    ChangeType::Insert | ChangeType::UpdatePostimage => {
                        row_of(row, &mut self.value)?;
                    }
                }
            }
            self.key.clear();
            if let Some(key_of) = &key_of {
                key_of(row, &mut self.key);
            }
            send(Record {
                topic,
                partition: None,
                key: key_of.is_some().then_some(self.key.as_bytes()),
                value: (!deleted).then_some(self.value.as_slice()),
                headers: None,
            })?;
        }
        Ok(())
    }

    /// Debezium's envelope around a row; `false` where a later row completes it.
    fn envelope(
        &mut self,
        change: ChangeType,
        row: impl Fn(&mut Vec<u8>) -> Result<()>,
    ) -> Result<bool> {
        let out = &mut self.value;
        let (op, before, after) = match change {
            ChangeType::UpdatePreimage => {
                let mut bytes = vec![];
                row(&mut bytes)?;
                self.before = Some(bytes);
                return Ok(false);
            }
            ChangeType::Insert => (b'c', None, true),
            ChangeType::UpdatePostimage => (b'u', self.before.take(), true),
            ChangeType::Delete => (b'd', None, false),
        };
        match (before, after) {
            (Some(before), _) => {
                out.push(ROW);
                out.extend(before);
            }
            (None, true) => out.push(NULL),
            (None, false) => {
                out.push(ROW);
                row(out)?;
            }
        }
        if after {
            out.push(ROW);
            row(out)?;
        } else {
            out.push(NULL);
        }
        // A text of one byte.
        out.extend([2, op]);
        Ok(true)
    }
}
