//! Rows on their way from the only writer of a sink to its commit, within one process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::{ConnectorError, Output, Result, SinkWriter, Staged};

/// What was staged for each epoch: outputs, each with the epoch that it was written in.
type ByEpoch = BTreeMap<u64, Vec<(u64, Output)>>;

/// The outputs staged and not yet committed. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(Arc<Mutex<ByEpoch>>);

impl Held {
    /// Keeps what was written for `epoch`, replacing an earlier try.
    fn stage(&self, epoch: u64, outputs: Vec<(u64, Output)>) -> Staged {
        let rows = outputs
            .iter()
            .map(|(_, output)| output.batch.num_rows() as u64)
            .sum();
        self.lock().insert(epoch, outputs);
        Staged {
            rows,
            token: Value::Null,
        }
    }

    /// Takes what was staged for `epoch`: each output with the epoch that it was written in.
    pub(crate) fn take(&self, epoch: u64, staged: &[Staged]) -> Result<Vec<(u64, Output)>> {
        let mut held = self.lock();
        let later = held.split_off(&epoch.saturating_add(1));
        let outputs = held.remove(&epoch);
        *held = later;
        match outputs {
            Some(outputs) => Ok(outputs),
            None if staged.iter().all(|part| part.rows == 0) => Ok(Vec::new()),
            None => Err(ConnectorError::Inconsistent(format!(
                "the rows staged for epoch {epoch} are not in this process; \
                 start the query again: the epoch is then written anew"
            ))),
        }
    }

    /// A writer that keeps its rows here.
    pub(crate) fn writer(&self) -> Box<dyn SinkWriter> {
        Box::new(HeldWriter {
            held: self.clone(),
            outputs: Vec::new(),
        })
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, ByEpoch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct HeldWriter {
    held: Held,
    outputs: Vec<(u64, Output)>,
}

impl SinkWriter for HeldWriter {
    fn write(&mut self, epoch: u64, output: &Output) -> Result<()> {
        if output.batch.num_rows() > 0 {
            self.outputs.push((epoch, output.clone()));
        }
        Ok(())
    }

    fn stage(&mut self, epoch: u64) -> Result<Staged> {
        Ok(self.held.stage(epoch, std::mem::take(&mut self.outputs)))
    }
}
