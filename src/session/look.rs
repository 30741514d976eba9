//! What a session tells somebody who sits in front of it: statements one at a time, results to
//! look at, what is declared and what runs.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use tidemark_connectors::options::nearest;
use tidemark_connectors::sinks::result::{ResultSink, ResultTable};
use tidemark_connectors::{OutputMode, Sink, SinkConfig};

use super::{Session, SessionError, lock};
use crate::plan::catalog::{QueryStatement, Statement};
use crate::plan::sql::{ScriptText, Words};
use crate::plan::{Plan, SinkTable};
use crate::runtime::query::Listener;
use crate::runtime::{Progress, StreamingQuery};

/// A bare `SELECT` that runs, and its result so far.
#[derive(Debug)]
pub struct Selected {
    /// The query.
    pub query: Arc<StreamingQuery>,
    /// Its result as of the newest epoch.
    pub table: ResultTable,
    /// Rows come and stay; else the result changes as a whole.
    pub append_only: bool,
}

impl Session {
    /// Reads a script whose statements are planned one at a time, with [`Session::statement`].
    pub fn read(&self, text: &str, file: &str) -> Result<ScriptText, SessionError> {
        let script = ScriptText::read(text, file)?;
        *lock(&self.known.script) = (file.to_owned(), text.to_owned());
        Ok(script)
    }

    /// Plans the statement at `index`. What it declares stays declared in the session.
    pub fn statement(
        &self,
        script: &ScriptText,
        index: usize,
    ) -> Result<Vec<Statement>, SessionError> {
        Ok(lock(&self.sql).plan(script, index)?)
    }

    /// The names that a user may write.
    pub fn words(&self) -> Words {
        lock(&self.sql).words()
    }

    /// Starts a bare `SELECT` whose current result is kept to be looked at.
    ///
    /// Without an output mode of its own the result is what the rows given and taken back so far
    /// come to: what update mode gives, put together. It is the answer of a batch once all input
    /// is read, late rows aside. No checkpoint is kept. `limit`: of rows that come and stay, how
    /// many to keep between two looks; the others are only counted.
    pub fn select(
        &self,
        statement: &QueryStatement,
        limit: Option<u64>,
        listener: Option<Listener>,
    ) -> Result<Selected, SessionError> {
        let plan = self.plan_to_look_at(statement)?;
        let append_only = plan.root.append_only && plan.mode != OutputMode::Complete;
        let schema = Arc::clone(&plan.schema);
        let table = ResultTable::new(schema, plan.mode, append_only, limit)?;
        let (shown, of_plan) = (table.clone(), Arc::clone(&plan));
        let known = Arc::clone(&self.known);
        let open = move |sink: &SinkTable, config: SinkConfig| -> Result<Box<dyn Sink>, _> {
            if std::ptr::eq(sink, &raw const of_plan.sink) {
                Ok(Box::new(ResultSink::new(shown.clone(), &config)))
            } else {
                known.open_sink(sink, config)
            }
        };
        let query = self.start_into(&plan, open, listener)?;
        Ok(Selected {
            query,
            table,
            append_only,
        })
    }

    fn plan_to_look_at(&self, statement: &QueryStatement) -> Result<Arc<Plan>, SessionError> {
        let planned = |mode| {
            let mut statement = statement.clone();
            statement.mode = Some(mode);
            statement.settings.checkpoint_location = None;
            self.plan(&statement)
        };
        match statement.mode {
            Some(mode @ (OutputMode::Append | OutputMode::Complete)) => planned(mode),
            Some(OutputMode::Update | OutputMode::Changelog) => planned(OutputMode::Changelog),
            // What cannot take a row back may still be able to give it once.
            None => planned(OutputMode::Changelog).or_else(|error| {
                // In an order a result is given whole.
                let other = planned(OutputMode::Append);
                let other = other.or_else(|_| planned(OutputMode::Complete));
                other.map_err(|_| error)
            }),
        }
    }

    /// The running queries as rows: name, mode, newest epoch, rows read a second, rows of state,
    /// watermark.
    pub fn running(&self) -> RecordBatch {
        let queries = self.streams().active();
        let progress: Vec<Option<Progress>> = queries.iter().map(|q| q.last_progress()).collect();
        let text = |of: &dyn Fn(&StreamingQuery) -> String| -> ArrayRef {
            let values = queries.iter().map(|query| of(query));
            Arc::new(StringArray::from_iter_values(values))
        };
        let number = |of: &dyn Fn(&Progress) -> u64| -> ArrayRef {
            let values = progress
                .iter()
                .map(|progress| progress.as_ref().map(|progress| of(progress) as i64));
            Arc::new(values.collect::<Int64Array>())
        };
        let watermark = progress.iter().map(|progress| {
            let watermark = progress.as_ref()?.watermark()?;
            Some(watermark.to_owned())
        });
        let watermark: ArrayRef = Arc::new(watermark.collect::<StringArray>());
        let columns = [
            ("name", text(&|query| query.name().to_owned())),
            ("mode", text(&|query| query.plan().mode.to_string())),
            ("epoch", number(&|progress| progress.batch_id)),
            (
                "rows_per_second",
                number(&|progress| progress.input_rows_per_second as u64),
            ),
            ("state_rows", number(&Progress::state_rows)),
            ("watermark", watermark),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
            .expect("a value of each column for each query")
    }

    /// Ends the query of this name once its epoch in flight is committed; it has failed if it
    /// gives an error of its own.
    pub fn stop_query(&self, name: &str) -> Result<(), SessionError> {
        let active = self.streams().active();
        let exact = active.iter().find(|query| query.name() == name);
        let found = exact.or_else(|| {
            let lower = name.to_lowercase();
            active
                .iter()
                .find(|query| query.name().to_lowercase() == lower)
        });
        let Some(query) = found else {
            let hint = match nearest(name, active.iter().map(|query| query.name())) {
                Some(nearest) => format!("did you mean '{nearest}'?"),
                None => "SHOW QUERIES lists those that run".into(),
            };
            return Err(SessionError::Setting(format!(
                "no query named '{name}' is running; {hint}"
            )));
        };
        query.stop().map_err(|source| SessionError::Query {
            name: query.name().to_owned(),
            source,
        })
    }
}
