//! What a script has declared, and the sources behind it.
//!
//! A table is a source or a sink by how it is used, so its source is opened when a query first
//! reads it: then its columns, its hidden `_metadata` and the column of its watermark are known.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::sql::sqlparser::tokenizer::Span;
use tidemark_connectors::options::nearest;
use tidemark_connectors::sources::is_always_static;
use tidemark_connectors::{ConnectorError, Options};

use super::ddl::CreateTable;
use super::options::{self, Settings};
use super::query::ViewPlan;
use super::tokens::{SourceText, position};
use super::types::type_name;
use crate::plan::Watermark;
use crate::plan::catalog::{CatalogTable, Position};
use crate::plan::error::{PlanErrorKind, Result};

/// What a source says of its rows.
#[derive(Clone, Debug)]
pub struct SourceSchema {
    /// The columns: declared or learnt, partition columns among them.
    pub columns: SchemaRef,
    /// The fields of `_metadata`.
    pub metadata: SchemaRef,
}

/// Opens a source (connector, options, declared columns) to learn its schema.
pub type OpenSource = Arc<
    dyn Fn(&str, &Options, Option<SchemaRef>) -> Result<SourceSchema, ConnectorError> + Send + Sync,
>;

fn open_connector(
    connector: &str,
    options: &Options,
    schema: Option<SchemaRef>,
) -> Result<SourceSchema, ConnectorError> {
    let source = tidemark_connectors::open_source(connector, options, schema)?;
    Ok(SourceSchema {
        columns: source.schema(),
        metadata: source.metadata_schema(),
    })
}

/// Tables and views by name in lower case.
pub(super) struct Tables {
    entries: BTreeMap<String, Entry>,
    pub(super) open: OpenSource,
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            open: Arc::new(open_connector),
        }
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish()
    }
}

pub(super) enum Entry {
    Table(Box<DeclaredTable>),
    View {
        name: String,
        position: Position,
        plan: Box<ViewPlan>,
        /// Its query as written.
        text: String,
    },
}

impl Entry {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Table(table) => &table.declared.name,
            Self::View { name, .. } => name,
        }
    }
}

/// A table as declared, and as its source has it.
pub(super) struct DeclaredTable {
    pub(super) declared: Arc<CatalogTable>,
    span: Span,
    watermark: Option<(String, Span, i64)>,
    idle_timeout: Option<Duration>,
    /// All options as they were written: what comes from the environment is still its name.
    pub(super) written: Vec<(String, String)>,
    opened: OnceLock<Arc<CatalogTable>>,
    text: SourceText,
}

impl Tables {
    pub(super) fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(&name.to_lowercase())
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn remove(&mut self, name: &str) -> bool {
        self.entries.remove(&name.to_lowercase()).is_some()
    }

    /// All that is declared, by name.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// All names, as declared.
    pub(super) fn names(&self) -> Vec<String> {
        self.entries
            .values()
            .map(|entry| entry.name().to_owned())
            .collect()
    }

    pub(super) fn unknown(&self, name: &str) -> PlanErrorKind {
        let tables = self.names();
        let nearest = nearest(name, tables.iter().map(String::as_str));
        PlanErrorKind::UnknownTable {
            name: name.into(),
            nearest,
            tables,
        }
    }

    fn check_free(&self, name: &str, span: Span, text: &SourceText) -> Result<()> {
        let (what, at) = match self.get(name) {
            None => return Ok(()),
            Some(Entry::Table(table)) => ("table", table.declared.position),
            Some(Entry::View { position, .. }) => ("view", *position),
        };
        let first = format!("{}:{}", at.line, at.column);
        Err(text.error(
            span,
            PlanErrorKind::Redeclared {
                what,
                name: name.into(),
                first,
            },
        ))
    }

    pub(super) fn add_view(
        &mut self,
        name: &str,
        span: Span,
        (plan, written): (ViewPlan, String),
        text: &SourceText,
    ) -> Result<()> {
        self.check_free(name, span, text)?;
        let entry = Entry::View {
            name: name.into(),
            position: position(span),
            plan: Box::new(plan),
            text: written,
        };
        self.entries.insert(name.to_lowercase(), entry);
        Ok(())
    }

    /// Takes up a `CREATE TABLE`.
    pub(super) fn declare(
        &mut self,
        table: CreateTable,
        settings: &Settings,
        text: &SourceText,
    ) -> Result<Arc<CatalogTable>> {
        self.check_free(&table.name, table.span, text)?;
        let sorted = options::sort(&table.options)
            .map_err(|(index, kind)| text.error(table.option_spans[index], kind))?;
        let connector = sorted.connector.ok_or_else(|| {
            text.error(
                table.span,
                PlanErrorKind::MissingConnector {
                    table: table.name.clone(),
                },
            )
        })?;
        let idle_timeout = match sorted.idle_timeout {
            Some(own) => Some(own),
            None => settings
                .idle_timeout()
                .map_err(|kind| text.error(table.span, kind))?,
        };
        let fields: Vec<Field> = table
            .columns
            .iter()
            .map(|c| Field::new(&c.name, c.data_type.clone(), true))
            .collect();
        let declared = !fields.is_empty();
        let schema = declared.then(|| Arc::new(Schema::new(fields)));
        let mut catalog = CatalogTable {
            name: table.name.clone(),
            connector,
            options: sorted.options,
            schema: schema.clone(),
            declared,
            metadata: Arc::new(Schema::empty()),
            watermark: None,
            primary_key: vec![],
            streaming: sorted.streaming,
            refresh: sorted.refresh,
            engine: sorted.engine,
            position: position(table.span),
        };
        if let Some(schema) = &schema {
            for (name, span) in &table.primary_key {
                let index = column_index(schema, name)
                    .ok_or_else(|| text.error(*span, unknown_column(name, &table.name, schema)))?;
                catalog.primary_key.push(index);
            }
            catalog.watermark = watermark(
                &catalog,
                schema,
                table.watermark.as_ref(),
                idle_timeout,
                text,
            )?;
        }
        let declared = Arc::new(catalog);
        let entry = DeclaredTable {
            declared: Arc::clone(&declared),
            span: table.span,
            watermark: table.watermark,
            idle_timeout,
            written: table.options,
            opened: OnceLock::new(),
            text: text.clone(),
        };
        self.entries
            .insert(table.name.to_lowercase(), Entry::Table(Box::new(entry)));
        Ok(declared)
    }

    /// The table as a source: its columns are known.
    pub(super) fn source(&self, table: &DeclaredTable) -> Result<Arc<CatalogTable>> {
        if let Some(opened) = table.opened.get() {
            return Ok(Arc::clone(opened));
        }
        let declared = &table.declared;
        if declared.streaming && is_always_static(&declared.connector) {
            let kind = PlanErrorKind::Unsupported {
                what: format!(
                    "a stream of '{}': '{}' says what is there, not what is new",
                    declared.name, declared.connector
                ),
                instead: Some("write 'streaming' = 'false' for a static table".into()),
            };
            return Err(table.text.error(table.span, kind));
        }
        let learnt = (self.open)(
            &declared.connector,
            &declared.options,
            declared.schema.clone(),
        )
        .map_err(|source| {
            let kind = PlanErrorKind::Connector {
                table: declared.name.clone(),
                source: table.redacted(source),
            };
            table.text.error(table.span, kind)
        })?;
        let mut opened = CatalogTable::clone(declared);
        check_names(&learnt.columns).map_err(|name| {
            table
                .text
                .error(table.span, PlanErrorKind::DuplicateColumn { name })
        })?;
        opened.watermark = watermark(
            declared,
            &learnt.columns,
            table.watermark.as_ref(),
            table.idle_timeout,
            &table.text,
        )?;
        opened.schema = Some(learnt.columns);
        opened.metadata = learnt.metadata;
        Ok(Arc::clone(table.opened.get_or_init(|| Arc::new(opened))))
    }

    /// The table with another watermark, for one query.
    pub(super) fn with_watermark(
        &self,
        table: &DeclaredTable,
        column: (&str, Span),
        delay: i64,
        text: &SourceText,
    ) -> Result<CatalogTable> {
        let mut source = CatalogTable::clone(&*self.source(table)?);
        let schema = source
            .schema
            .clone()
            .unwrap_or_else(|| Arc::new(Schema::empty()));
        let declared = (column.0.to_owned(), column.1, delay);
        source.watermark = watermark(&source, &schema, Some(&declared), table.idle_timeout, text)?;
        Ok(source)
    }
}

impl DeclaredTable {
    /// The table as its source has it, once a query has read it.
    pub(super) fn opened(&self) -> Option<&Arc<CatalogTable>> {
        self.opened.get()
    }

    /// The column of its watermark and the delay in microseconds, as declared.
    pub(super) fn watermark(&self) -> Option<(&str, i64)> {
        let (column, _, delay) = self.watermark.as_ref()?;
        Some((column, *delay))
    }

    /// The error without what the environment holds.
    fn redacted(&self, error: ConnectorError) -> ConnectorError {
        match error {
            ConnectorError::OptionValue {
                key,
                value,
                expected,
            } => {
                let written = self
                    .written
                    .iter()
                    .find(|(k, _)| k.eq_ignore_ascii_case(&key));
                let value = written.map_or(value, |(_, raw)| raw.clone());
                ConnectorError::OptionValue {
                    key,
                    value,
                    expected,
                }
            }
            other => other,
        }
    }
}

/// The column of this name, whatever its case.
pub(super) fn column_index(schema: &Schema, name: &str) -> Option<usize> {
    let lower = name.to_lowercase();
    schema
        .fields()
        .iter()
        .position(|f| f.name().to_lowercase() == lower)
}

fn unknown_column(name: &str, table: &str, schema: &Schema) -> PlanErrorKind {
    let columns: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
    let nearest = nearest(name, columns.iter().map(String::as_str));
    PlanErrorKind::UnknownColumn {
        name: name.into(),
        nearest,
        table: Some(table.into()),
        columns,
    }
}

fn check_names(schema: &Schema) -> Result<(), String> {
    let mut seen = std::collections::HashSet::new();
    schema
        .fields()
        .iter()
        .find(|f| !seen.insert(f.name().to_lowercase()))
        .map_or(Ok(()), |f| Err(f.name().clone()))
}

fn watermark(
    table: &CatalogTable,
    schema: &Schema,
    declared: Option<&(String, Span, i64)>,
    idle_timeout: Option<Duration>,
    text: &SourceText,
) -> Result<Option<Watermark>> {
    let Some((name, span, delay)) = declared else {
        return Ok(None);
    };
    let column = column_index(schema, name)
        .ok_or_else(|| text.error(*span, unknown_column(name, &table.name, schema)))?;
    let bad = |reason: String| {
        text.error(
            *span,
            PlanErrorKind::BadWatermark {
                table: table.name.clone(),
                reason,
            },
        )
    };
    match schema.field(column).data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {}
        DataType::Timestamp(_, None) => {
            return Err(bad(format!(
                "column '{name}' is TIMESTAMP_NTZ, which names no instant; declare it TIMESTAMP"
            )));
        }
        other => {
            return Err(bad(format!(
                "column '{name}' is {}; event time must be a TIMESTAMP",
                type_name(other)
            )));
        }
    }
    Ok(Some(Watermark {
        column,
        delay: Duration::from_micros(delay.unsigned_abs()),
        idle_timeout,
    }))
}
