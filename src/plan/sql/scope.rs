//! The tables that one query may read: what is declared, and its own variants of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::logical_expr::TableSource;
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan};
use tidemark_connectors::METADATA_COLUMN;

use super::asof::Versions;
use super::names::Spellings;
use super::query::Planner;
use super::table_functions;
use super::tables::{DeclaredTable, Entry};
use crate::plan::catalog::CatalogTable;
use crate::plan::context::{StreamTable, ViewSource};
use crate::plan::error::{PlanError, PlanErrorKind, Result};

/// The tables of one query, as the SQL planner asks for them.
pub(super) struct QueryTables<'a> {
    pub(super) planner: &'a Planner<'a>,
    /// The query names `_metadata`.
    pub(super) with_metadata: bool,
    /// Tables with a watermark of this query's own.
    pub(super) overlays: RefCell<BTreeMap<String, Arc<CatalogTable>>>,
    pub(super) spellings: RefCell<Spellings>,
    /// Why a table could not be had; the planner only learns that it could not.
    pub(super) failure: RefCell<Option<PlanError>>,
}

impl<'a> QueryTables<'a> {
    /// The tables of the query that is written so.
    pub(super) fn new(planner: &'a Planner<'a>, tokens: &[TokenWithSpan]) -> Self {
        let names_metadata = |token: &TokenWithSpan| matches!(&token.token, Token::Word(w) if w.value.eq_ignore_ascii_case(METADATA_COLUMN));
        Self {
            planner,
            with_metadata: tokens.iter().any(names_metadata),
            overlays: RefCell::default(),
            spellings: RefCell::default(),
            failure: RefCell::default(),
        }
    }

    /// Takes up the names of a struct's fields.
    pub(super) fn spell(&self, data_type: &DataType) {
        if let DataType::Struct(fields) = data_type {
            let mut spellings = self.spellings.borrow_mut();
            for field in fields {
                let name = field.name().to_lowercase();
                spellings
                    .entry(name)
                    .or_insert_with(|| field.name().clone());
            }
        }
    }

    pub(super) fn lookup(&self, name: &str) -> Option<Arc<dyn TableSource>> {
        if let Some(table) = self.overlays.borrow().get(name) {
            return Some(self.stream(name, Arc::clone(table)));
        }
        match self.planner.tables.get(name)? {
            Entry::View { plan, .. } => {
                self.spellings.borrow_mut().extend(plan.spellings.clone());
                Some(Arc::new(ViewSource {
                    plan: plan.plan.clone(),
                }))
            }
            Entry::Table(table) => self.opened(table).map(|table| self.stream(name, table)),
        }
    }

    fn opened(&self, table: &DeclaredTable) -> Option<Arc<CatalogTable>> {
        match self.planner.tables.source(table) {
            Ok(table) => Some(table),
            Err(error) => {
                self.failure.borrow_mut().get_or_insert(error);
                None
            }
        }
    }

    fn stream(&self, name: &str, table: Arc<CatalogTable>) -> Arc<dyn TableSource> {
        let mut spellings = self.spellings.borrow_mut();
        for field in table.schema.iter().flat_map(|s| s.fields()) {
            // An alias of the query's own goes before.
            spellings
                .entry(field.name().to_lowercase())
                .or_insert_with(|| field.name().clone());
        }
        Arc::new(StreamTable::new(name, table, self.with_metadata))
    }

    pub(super) fn shows_metadata(&self, name: &str) -> bool {
        let table = match (self.with_metadata, self.planner.tables.get(name)) {
            (true, Some(Entry::Table(table))) => self.opened(table),
            (true, None) => self.overlays.borrow().get(name).cloned(),
            _ => None,
        };
        table.is_some_and(|t| !t.metadata.fields().is_empty())
    }
}

impl QueryTables<'_> {
    /// What `FOR SYSTEM_TIME AS OF` finds in a table.
    pub(super) fn versions(&self, name: &str) -> Versions {
        let overlay = self.overlays.borrow().get(name).cloned();
        let table = match (overlay, self.planner.tables.get(name)) {
            (Some(table), _) => table,
            (None, Some(Entry::Table(table))) => match self.opened(table) {
                Some(table) => table,
                None => return Versions::Failed,
            },
            (None, Some(Entry::View { .. }) | None) => return Versions::Query,
        };
        let names = |columns: &[usize]| -> Vec<String> {
            let fields = table.schema.iter().flat_map(|schema| schema.fields());
            let fields: Vec<_> = fields.collect();
            let named = columns.iter().filter_map(|column| fields.get(*column));
            named.map(|field| field.name().to_lowercase()).collect()
        };
        let time = table.watermark.as_ref().filter(|_| table.streaming);
        Versions::Table {
            key: names(&table.primary_key),
            time: time.and_then(|watermark| names(&[watermark.column]).pop()),
            streaming: table.streaming,
        }
    }
}

impl table_functions::Watermarks for &QueryTables<'_> {
    fn with_watermark(
        &mut self,
        table: (&str, Span),
        column: (&str, Span),
        delay: i64,
    ) -> Result<String> {
        let planner = self.planner;
        let Some(entry) = planner.tables.get(table.0) else {
            return Err(planner
                .source
                .error(table.1, planner.tables.unknown(table.0)));
        };
        let Entry::Table(declared) = entry else {
            let kind = PlanErrorKind::Unsupported {
                what: format!("a watermark on the view '{}'", table.0),
                instead: Some("put it on the table that the view reads".into()),
            };
            return Err(planner.source.error(table.1, kind));
        };
        if delay < 0 {
            let kind = PlanErrorKind::BadInterval {
                text: format!("{delay} microseconds"),
                why: Some("a watermark cannot run ahead of the data"),
            };
            return Err(planner.source.error(column.1, kind));
        }
        let changed = planner
            .tables
            .with_watermark(declared, column, delay, planner.source)?;
        let name = format!("{} watermark {} {delay}us", table.0, column.0).to_lowercase();
        self.overlays
            .borrow_mut()
            .insert(name.clone(), Arc::new(changed));
        Ok(name)
    }
}
