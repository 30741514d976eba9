//! What two processes say to each other before a query runs: who each is, and whether that fits.
//!
//! A message is a line of JSON. It holds no text of the script: of the plan's parts only their
//! names and hashes travel, so that nothing of it can leak, however long it is.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::row::hash;

/// The longest line.
const LONGEST: u64 = 1 << 16;

/// What a process says of itself. What another version leaves out or adds does not matter: it is
/// told by its version.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub(super) struct Hello {
    pub(super) version: String,
    pub(super) process: usize,
    pub(super) processes: usize,
    pub(super) workers: usize,
    pub(super) query: String,
    /// The parts of the plan, each with its hash.
    pub(super) plan: Vec<(String, u64)>,
}

/// What it is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    /// Why the two cannot run the query together; `None`: they can.
    pub(super) refusal: Option<String>,
}

/// The plan without what each process finds out by itself, and the first one decides.
fn comparable(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    for source in &mut plan.sources {
        source.bytes = None;
    }
    plan
}

impl Hello {
    /// What `process` of `processes` says of a query.
    pub(super) fn new(plan: &Plan, process: usize, processes: usize, workers: usize) -> Self {
        let mut parts = plan.fingerprint();
        parts.push(("plan".into(), comparable(plan).explain()));
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            process,
            processes,
            workers,
            query: plan.name.clone(),
            plan: parts
                .into_iter()
                .map(|(part, text)| (part, hash(text.as_bytes())))
                .collect(),
        }
    }

    /// Why two processes cannot run a query together.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        let (own, theirs) = (self.process, other.process);
        if self.version != other.version {
            return Some(format!(
                "process {own} is Tidemark {}, process {theirs} is {}; run one version",
                self.version, other.version
            ));
        }
        for (what, mine, others) in [
            ("-n", self.processes, other.processes),
            ("-w", self.workers, other.workers),
        ] {
            if mine != others {
                return Some(format!(
                    "process {own} was started with {what} {mine}, process {theirs} with {what} {others}; use one number"
                ));
            }
        }
        let differs = |part: &&(String, u64)| !other.plan.contains(part);
        let part = match self.plan.iter().find(differs) {
            Some((part, _)) => part,
            None if self.plan.len() == other.plan.len() => return None,
            None => "plan",
        };
        Some(format!(
            "query '{}' is not the same in processes {own} and {theirs}: its {part} differs; give both the same script and settings",
            self.query
        ))
    }
}

pub(super) fn send(mut stream: &TcpStream, message: &impl Serialize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// One line, byte by byte: what comes after it belongs to somebody else.
pub(super) fn receive<T: for<'de> Deserialize<'de>>(stream: &TcpStream) -> io::Result<T> {
    let mut line = vec![];
    BufReader::with_capacity(1, stream.take(LONGEST)).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(&line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
