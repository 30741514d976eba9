//! A sink whose target keeps what it was given, and which fails as it is told to.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use serde_json::{Value, json};
use tidemark_connectors::{
    ConnectorError, Delivery, Distribution, Output, Result, Sink, SinkWriter, Staged,
};

/// Where it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Taking rows.
    Write,
    /// Making them durable.
    Stage,
    /// Before they are visible.
    Commit,
    /// After that.
    Committed,
    /// For what the rows are, which does not pass.
    Data,
}

/// The target; clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flaky(Arc<Mutex<Target>>);

#[derive(Debug, Default)]
struct Target {
    epochs: BTreeMap<u64, Vec<i64>>,
    trouble: Option<(Trouble, u64)>,
    pace: Duration,
}

impl Flaky {
    /// Fails so many times from now on.
    pub(crate) fn fail(&self, at: Trouble, times: u64) {
        self.lock().trouble = Some((at, times));
    }

    /// Ten rows take so long.
    pub(crate) fn pace(&self, pace: Duration) {
        self.lock().pace = pace;
    }

    /// All rows of the epochs that are visible, in order.
    pub(crate) fn rows(&self) -> Vec<i64> {
        let mut rows: Vec<i64> = self.lock().epochs.values().flatten().copied().collect();
        rows.sort_unstable();
        rows
    }

    pub(crate) fn open(&self) -> Box<dyn Sink> {
        Box::new(FlakySink(self.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Target> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, at: Trouble, action: &'static str) -> Result<()> {
        match &mut self.lock().trouble {
            Some((of, left)) if *of == at && *left > 0 => {
                *left -= 1;
                if at == Trouble::Data {
                    return Err(ConnectorError::Schema("a column too many".into()));
                }
                Err(ConnectorError::Io {
                    action,
                    path: PathBuf::from("flaky"),
                    source: io::Error::other("it is not there for the moment"),
                })
            }
            _ => Ok(()),
        }
    }
}

#[derive(Debug)]
struct FlakySink(Flaky);

impl Sink for FlakySink {
    fn description(&self) -> String {
        "FlakySink".into()
    }

    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn distribution(&self) -> Distribution {
        Distribution::PerWorker
    }

    fn last_committed(&mut self) -> Result<Option<u64>> {
        Ok(self.0.lock().epochs.keys().next_back().copied())
    }

    fn discard_uncommitted(&mut self) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self, epoch: u64, staged: &[Staged]) -> Result<()> {
        self.0.check(Trouble::Commit, "cannot commit")?;
        let numbers = staged.iter().filter_map(|staged| staged.token.as_array());
        let numbers: Vec<i64> = numbers.flatten().filter_map(Value::as_i64).collect();
        let before = self.0.lock().epochs.insert(epoch, numbers);
        assert!(before.is_none(), "epoch {epoch} is committed twice");
        self.0
            .check(Trouble::Committed, "cannot tell of the commit of")
    }

    fn writer(&self, _: usize) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(FlakyWriter {
            target: self.0.clone(),
            rows: vec![],
        }))
    }
}

struct FlakyWriter {
    target: Flaky,
    rows: Vec<i64>,
}

impl SinkWriter for FlakyWriter {
    fn write(&mut self, _: u64, output: &Output) -> Result<()> {
        self.target.check(Trouble::Write, "cannot write")?;
        self.target.check(Trouble::Data, "cannot write")?;
        let numbers = output.batch.column(0).as_primitive::<Int64Type>();
        let pace = self.target.lock().pace;
        std::thread::sleep(pace * (numbers.len() as u32).div_ceil(10));
        self.rows.extend(numbers.values());
        Ok(())
    }

    fn stage(&mut self, _: u64) -> Result<Staged> {
        self.target.check(Trouble::Stage, "cannot write")?;
        let rows = std::mem::take(&mut self.rows);
        Ok(Staged {
            rows: rows.len() as u64,
            token: json!(rows),
        })
    }
}
