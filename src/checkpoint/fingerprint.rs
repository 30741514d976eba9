//! Which query a checkpoint belongs to.
//!
//! A fingerprint is a list of named parts: whatever may not change between two runs on the same
//! checkpoint, because offsets and state on disk would mean something else. Sources (connector,
//! path or topic), stateful operators (kind, keys, aggregates), the output mode and the sink
//! belong in it; the trigger, rate limits, retries and the number of workers do not. Parts are
//! stored as they are given: secrets must not be among them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What a checkpoint is opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The query's name, for messages. It may change.
    pub name: String,
    /// What may not change.
    pub fingerprint: Fingerprint,
}

/// Named parts, in the order in which differences are reported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(Vec<(String, String)>);

impl Fingerprint {
    /// No parts yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part, as in `("source events", "file in/")`. A name that is there already is
    /// numbered, so that no part hides another.
    #[must_use]
    pub fn with(mut self, part: impl Into<String>, value: impl Into<String>) -> Self {
        let part = part.into();
        let mut name = part.clone();
        let mut number = 1;
        while self.0.iter().any(|(known, _)| *known == name) {
            number += 1;
            name = format!("{part} #{number}");
        }
        self.0.push((name, value.into()));
        self
    }

    /// The parts, name and value.
    pub fn parts(&self) -> &[(String, String)] {
        &self.0
    }

    /// What differs when `self` is stored and `now` is asked for. Empty: the same query.
    pub fn differences(&self, now: &Self) -> Vec<Difference> {
        let before: BTreeMap<&str, &str> = self.pairs().collect();
        let after: BTreeMap<&str, &str> = now.pairs().collect();
        let changed_or_removed = self
            .pairs()
            .filter_map(|(part, old)| match after.get(part) {
                Some(new) if *new == old => None,
                new => Some(Difference {
                    part: part.into(),
                    before: Some(old.into()),
                    after: new.map(|n| (*n).into()),
                }),
            });
        let added = now
            .pairs()
            .filter(|(part, _)| !before.contains_key(part))
            .map(|(part, new)| Difference {
                part: part.into(),
                before: None,
                after: Some(new.into()),
            });
        changed_or_removed.chain(added).collect()
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(part, value)| (part.as_str(), value.as_str()))
    }
}

/// A part of a fingerprint that is not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which part.
    pub part: String,
    /// What the checkpoint holds; `None`: the part is new.
    pub before: Option<String>,
    /// What the query has now; `None`: the part is gone.
    pub after: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            part,
            before,
            after,
        } = self;
        match (before, after) {
            (Some(before), Some(after)) => write!(f, "{part} was '{before}' and is now '{after}'"),
            (Some(before), None) => write!(f, "{part} ('{before}') is gone"),
            (None, Some(after)) => write!(f, "{part} ('{after}') is new"),
            (None, None) => write!(f, "{part} is unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_is_named_part_by_part() {
        let stored = Fingerprint::new()
            .with("source 0", "file in/")
            .with("operator 2", "aggregate by user: count(*)")
            .with("output mode", "update");
        let now = Fingerprint::new()
            .with("source 0", "file in/")
            .with("output mode", "append")
            .with("operator 3", "deduplicate by id");
        let said: Vec<String> = stored
            .differences(&now)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            said,
            [
                "operator 2 ('aggregate by user: count(*)') is gone",
                "output mode was 'update' and is now 'append'",
                "operator 3 ('deduplicate by id') is new",
            ]
        );
        assert!(stored.differences(&stored.clone()).is_empty());
    }

    #[test]
    fn two_parts_of_one_name_are_both_kept() {
        let one = Fingerprint::new()
            .with("source events", "a")
            .with("source events", "b");
        let other = Fingerprint::new()
            .with("source events", "a")
            .with("source events", "c");
        assert_eq!(one.differences(&other)[0].part, "source events #2");
    }
}
