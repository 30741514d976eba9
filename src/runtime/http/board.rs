//! The queries of a process, for whoever asks over HTTP.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::runtime::StreamingQuery;

/// So many queries that have ended are remembered.
const MOST_ENDED: usize = 100;

/// The queries by name, in the order in which they were last heard of.
#[derive(Debug, Default)]
pub struct Board(Mutex<Vec<(String, Entry)>>);

#[derive(Clone, Debug)]
enum Entry {
    /// It is about to be started.
    Awaited,
    /// It was started.
    Started(Arc<StreamingQuery>),
    /// It could not be started, for this reason.
    Refused(String),
}

impl Entry {
    fn has_ended(&self) -> bool {
        match self {
            Self::Awaited => false,
            Self::Started(query) => !query.is_active(),
            Self::Refused(_) => true,
        }
    }

    /// What keeps it from being ready; `None`: nothing, it runs or has done its work.
    fn missing(&self) -> Option<String> {
        match self {
            Self::Awaited => Some("is about to start".into()),
            Self::Refused(error) => Some(format!("could not start: {error}")),
            Self::Started(query) => match query.exception() {
                Some(error) => Some(format!("has failed: {error}")),
                None if query.is_ready() || !query.is_active() => None,
                None => Some(format!("is starting: {}", query.status().message)),
            },
        }
    }

    fn shown(&self, name: &str) -> Value {
        match self {
            Self::Awaited => json!({"name": name, "isActive": false}),
            Self::Refused(error) => json!({"name": name, "isActive": false, "exception": error}),
            Self::Started(query) => {
                let mut shown = json!({
                    "name": name,
                    "id": query.id(),
                    "runId": query.run_id(),
                    "isActive": query.is_active(),
                    "status": query.status(),
                });
                if let Some(error) = query.exception() {
                    shown["exception"] = error.into();
                }
                shown
            }
        }
    }
}

impl Board {
    /// A query of this name is about to be started.
    pub fn awaits(&self, name: &str) {
        self.set(name, Entry::Awaited);
    }

    /// A query was started.
    pub fn started(&self, query: &Arc<StreamingQuery>) {
        self.set(query.name(), Entry::Started(Arc::clone(query)));
    }

    /// A query could not be started.
    pub fn refused(&self, name: &str, error: &str) {
        self.set(name, Entry::Refused(error.to_owned()));
    }

    /// The query of this name, where it was started; else why there is none.
    pub(super) fn query(&self, name: &str) -> Result<Arc<StreamingQuery>, String> {
        let entries = self.lock();
        let exact = entries.iter().find(|(known, _)| known == name);
        let found = exact.or_else(|| {
            let lower = name.to_lowercase();
            entries
                .iter()
                .find(|(known, _)| known.to_lowercase() == lower)
        });
        match found {
            Some((_, Entry::Started(query))) => Ok(Arc::clone(query)),
            Some((name, other)) => Err(format!(
                "query '{name}' {}",
                other.missing().unwrap_or_default()
            )),
            None if entries.is_empty() => {
                Err(format!("no query '{name}'; none is running here yet"))
            }
            None => {
                let names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
                Err(format!(
                    "no query '{name}'; there are: {}",
                    names.join(", ")
                ))
            }
        }
    }

    /// All queries, as JSON.
    pub(super) fn shown(&self) -> Value {
        self.lock()
            .iter()
            .map(|(name, entry)| entry.shown(name))
            .collect()
    }

    /// What is missing until all queries run, a line for each; none: they do.
    pub(super) fn missing(&self) -> Vec<String> {
        let entries = self.lock();
        if entries.is_empty() {
            return vec!["no query has been started yet".into()];
        }
        let missing = |(name, entry): &(String, Entry)| {
            let missing = entry.missing()?;
            Some(format!("query '{name}' {missing}"))
        };
        entries.iter().filter_map(missing).collect()
    }

    fn set(&self, name: &str, entry: Entry) {
        let mut entries = self.lock();
        entries.retain(|(known, _)| known != name);
        let ended = entries.iter().filter(|(_, entry)| entry.has_ended());
        if ended.count() >= MOST_ENDED
            && let Some(oldest) = entries.iter().position(|(_, entry)| entry.has_ended())
        {
            entries.remove(oldest);
        }
        entries.push((name.to_owned(), entry));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(String, Entry)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
