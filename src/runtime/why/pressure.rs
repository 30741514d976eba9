//! What a query does not keep up with, and where its time goes.

use super::words::{counted, span};
use super::{State, Subject};
use crate::runtime::Progress;

/// The part of a query that an epoch took longest in.
#[derive(Debug)]
pub(super) struct Held {
    /// As progress names it.
    part: String,
    /// How long it was at work, milliseconds.
    spent: u64,
    /// How long the epoch took, milliseconds.
    all: u64,
}

impl Held {
    /// Of an epoch; none where no part took half of it.
    pub(super) fn of(progress: &Progress) -> Option<Self> {
        let part = progress.held_by.clone()?;
        let spent = *progress.busy_ms.get(&part)?;
        let all = *progress.duration_ms.get("triggerExecution")?;
        (spent.saturating_mul(2) >= all).then_some(Self { part, spent, all })
    }
}

impl Subject<'_> {
    pub(super) fn pressure(&self, found: &mut Vec<String>) {
        if !matches!(self.state, State::Running { .. }) {
            return;
        }
        let lasted = |milliseconds: u64| {
            span(
                i64::try_from(milliseconds)
                    .unwrap_or(i64::MAX)
                    .saturating_mul(1_000),
            )
        };
        if let Some((who, silent)) = &self.silent {
            found.push(format!(
                "The query waits for {who}, which has not answered for {}. Nothing is read beyond what fits into memory until it does.",
                lasted(silent.as_secs() * 1_000)
            ));
        }
        let unread = self.unread.iter().flatten().flat_map(|of| of.values());
        let unread: u64 = unread.sum();
        if let Some(held) = self.held.as_ref().filter(|_| unread > 0) {
            found.push(format!(
                "{} were there and not read after the last epoch, which took {}, {} of them in {}: that is what holds the query, if it does not catch up.",
                counted(unread, "record"),
                lasted(held.all),
                lasted(held.spent),
                held.part,
            ));
        }
    }
}
