//! The sink that only counts: for measuring queries.

use serde_json::Value;

use crate::{Delivery, Distribution, Options, Output, Result, Sink, SinkWriter, Staged, Visible};

/// Takes rows and forgets them.
#[derive(Debug)]
pub struct NoopSink;

impl NoopSink {
    /// Opens it; it has no options.
    pub fn open(options: &Options) -> Result<Self> {
        options.check_known("noop", &[])?;
        Ok(Self)
    }
}

impl Sink for NoopSink {
    fn description(&self) -> String {
        "NoopSink".into()
    }

    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn visible(&self) -> Visible {
        Visible::EachTick
    }

    fn distribution(&self) -> Distribution {
        Distribution::PerWorker
    }

    fn last_committed(&mut self) -> Result<Option<u64>> {
        Ok(None)
    }

    fn discard_uncommitted(&mut self) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self, _: u64, _: &[Staged]) -> Result<()> {
        Ok(())
    }

    fn writer(&self, _: usize) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Counter(0)))
    }
}

struct Counter(u64);

impl SinkWriter for Counter {
    fn write(&mut self, _: u64, output: &Output) -> Result<()> {
        self.0 += output.batch.num_rows() as u64;
        Ok(())
    }

    fn stage(&mut self, _: u64) -> Result<Staged> {
        Ok(Staged {
            rows: std::mem::take(&mut self.0),
            token: Value::Null,
        })
    }
}
