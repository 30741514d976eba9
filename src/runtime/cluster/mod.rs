//! Several processes that run one query together.
//!
//! Every process runs the same script. The first one plans epochs and commits; the others bring
//! workers. Data and decisions travel through timely's own communication; this module makes the
//! connections, checks that all run the same query, and notices when a process is lost.
//!
//! A process listens at its address in the list. For each query a process dials those before it in
//! the list, says what it runs, and is told whether that fits. After that both sides write frames
//! (see `peer`), at least one a second: silence means that the other one is stopped or cut off.

mod peer;

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use timely::communication::AllocatorBuilder;
use timely::communication::allocator::ProcessBuilder;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::initialize::Hooks;

use crate::runtime::QueryError;

pub use peer::Lost;
use peer::Peer;

/// How long a process may be silent.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often a process that is not there yet is dialled.
const RETRY: Duration = Duration::from_millis(100);
/// How long a handshake may take once the connection stands.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// The longest handshake line.
const LONGEST: u64 = 1 << 16;

/// Which processes there are, and which of them this one is.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// This process's number.
    pub process: usize,
    /// Where each process listens: `host:port`.
    pub addresses: Vec<String>,
    /// How long to wait for the others at the start.
    pub connect_timeout: Duration,
}

/// This process's place among the others.
pub struct Cluster {
    config: ClusterConfig,
    arrived: Arc<Arrived>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.config.fmt(f)
    }
}

/// Connections that later processes have opened, by query and process.
#[derive(Default)]
struct Arrived {
    waiting: Mutex<HashMap<(String, usize), (Hello, TcpStream)>>,
    changed: Condvar,
}

impl Arrived {
    fn lock(&self) -> MutexGuard<'_, HashMap<(String, usize), (Hello, TcpStream)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a process says of itself.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Hello {
    version: String,
    process: usize,
    processes: usize,
    workers: usize,
    query: String,
    plan: String,
}

/// What it is told.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    refusal: Option<String>,
}

/// What timely is built from, and what notices a lost process.
pub type Built = (Vec<AllocatorBuilder>, Box<dyn std::any::Any + Send>);

impl Cluster {
    /// Listens at this process's address.
    pub fn open(config: ClusterConfig) -> Result<Self, QueryError> {
        let address = &config.addresses[config.process];
        let failed = |error: &io::Error| {
            QueryError::Start(format!(
                "process {} cannot listen at {address}: {error}; is another process running there, or is the address that of another machine?",
                config.process
            ))
        };
        let listener = TcpListener::bind(address).map_err(|error| failed(&error))?;
        let arrived = Arc::<Arrived>::default();
        let inbox = Arc::clone(&arrived);
        std::thread::Builder::new()
            .name("tidemark-accept".into())
            .spawn(move || {
                for stream in listener.incoming().flatten() {
                    let inbox = Arc::clone(&inbox);
                    // One that says nothing must not keep the others waiting.
                    let greet = move || {
                        if let Ok(hello) = receive::<Hello>(&stream) {
                            let key = (hello.query.clone(), hello.process);
                            inbox.lock().insert(key, (hello, stream));
                            inbox.changed.notify_all();
                        }
                    };
                    let _ = std::thread::Builder::new().spawn(greet);
                }
            })
            .map_err(|error| failed(&error))?;
        Ok(Self { config, arrived })
    }

    /// This process's number.
    pub fn process(&self) -> usize {
        self.config.process
    }

    /// How many processes there are.
    pub fn processes(&self) -> usize {
        self.config.addresses.len()
    }

    /// Connects with all other processes for one query. `plan` says what the query is, in a way
    /// that is the same for all.
    pub fn connect(
        &self,
        query: &str,
        plan: &str,
        workers: usize,
        lost: &Arc<Lost>,
    ) -> Result<Built, QueryError> {
        let hello = Hello {
            version: env!("CARGO_PKG_VERSION").into(),
            process: self.config.process,
            processes: self.processes(),
            workers,
            query: query.into(),
            plan: plan.into(),
        };
        let deadline = Instant::now() + self.config.connect_timeout;
        let peers = (0..self.processes())
            .map(|process| {
                let stream = match process.cmp(&self.config.process) {
                    std::cmp::Ordering::Less => self.dial(process, &hello, deadline)?,
                    std::cmp::Ordering::Equal => return Ok(None),
                    std::cmp::Ordering::Greater => self.accept(process, &hello, deadline)?,
                };
                let name = self.name(process);
                let peer = Peer::new(stream, name, PATIENCE, Arc::clone(lost))
                    .map_err(|error| QueryError::Start(error.to_string()))?;
                Ok(Some(peer))
            })
            .collect::<Result<Vec<_>, QueryError>>()?;
        let hooks = Hooks::default();
        let threads =
            ProcessBuilder::new_typed_vector(workers, hooks.refill.clone(), hooks.spill.clone());
        let (builders, guard) =
            initialize_networking_from_sockets(threads, peers, self.config.process, workers, hooks)
                .map_err(|error| QueryError::Start(error.to_string()))?;
        let builders = builders.into_iter().map(AllocatorBuilder::Tcp).collect();
        Ok((builders, Box::new(guard)))
    }

    /// `process 1 at host:port`.
    fn name(&self, process: usize) -> String {
        format!("process {process} at {}", self.config.addresses[process])
    }

    fn dial(
        &self,
        process: usize,
        hello: &Hello,
        deadline: Instant,
    ) -> Result<TcpStream, QueryError> {
        let name = self.name(process);
        let address = &self.config.addresses[process];
        let stream = loop {
            let failed = match dial_once(address, deadline) {
                Ok(stream) => break stream,
                Err(error) => error,
            };
            if Instant::now() >= deadline {
                return Err(QueryError::Start(format!(
                    "{name} cannot be reached: {failed}; start it with -p {process}, within {} s of this one, and check its line in the host file",
                    self.config.connect_timeout.as_secs()
                )));
            }
            std::thread::sleep(RETRY);
        };
        let answer = send(&stream, hello).and_then(|()| {
            // The other one may still be busy with the queries before this one.
            let left = deadline.saturating_duration_since(Instant::now());
            stream.set_read_timeout(Some(left.max(HANDSHAKE)))?;
            read_line::<Answer>(&stream)
        });
        match answer {
            Ok(Answer { refusal: None }) => Ok(stream),
            Ok(Answer {
                refusal: Some(reason),
            }) => Err(QueryError::Start(format!("{name} refuses: {reason}"))),
            Err(error) => Err(QueryError::Start(format!(
                "{name} did not answer for query '{}': {error}; see what it says itself, and give all processes the same script",
                hello.query
            ))),
        }
    }

    fn accept(
        &self,
        process: usize,
        own: &Hello,
        deadline: Instant,
    ) -> Result<TcpStream, QueryError> {
        let name = self.name(process);
        let key = (own.query.clone(), process);
        let mut waiting = self.arrived.lock();
        let (hello, stream) = loop {
            if let Some(arrived) = waiting.remove(&key) {
                break arrived;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(QueryError::Start(format!(
                    "{name} has not come for query '{}' in {} s; start it with -p {process} and the same script",
                    own.query,
                    self.config.connect_timeout.as_secs()
                )));
            }
            waiting = self
                .arrived
                .changed
                .wait_timeout(waiting, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(waiting, _)| waiting);
        };
        drop(waiting);
        let refusal = difference(own, &hello);
        let answered = send(
            &stream,
            &Answer {
                refusal: refusal.clone(),
            },
        );
        match (refusal, answered) {
            (None, Ok(())) => Ok(stream),
            (Some(reason), _) => Err(QueryError::Start(format!("{name} does not fit: {reason}"))),
            (None, Err(error)) => Err(QueryError::Start(format!("{name} has gone: {error}"))),
        }
    }
}

/// Why two processes cannot run a query together.
fn difference(own: &Hello, other: &Hello) -> Option<String> {
    if own.version != other.version {
        return Some(format!(
            "process {} is Tidemark {}, process {} is {}; run one version",
            own.process, own.version, other.process, other.version
        ));
    }
    for (what, mine, theirs) in [
        ("-n", own.processes, other.processes),
        ("-w", own.workers, other.workers),
    ] {
        if mine != theirs {
            return Some(format!(
                "process {} was started with {what} {mine}, process {} with {what} {theirs}; use one number",
                own.process, other.process
            ));
        }
    }
    (own.plan != other.plan).then(|| {
        format!(
            "query '{}' is not the same in processes {} and {}; give both the same script and settings",
            own.query, own.process, other.process
        )
    })
}

fn dial_once(address: &str, deadline: Instant) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "no such address");
    for address in address.to_socket_addrs()? {
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(RETRY);
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn send(mut stream: &TcpStream, message: &impl Serialize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn receive<T: for<'de> Deserialize<'de>>(stream: &TcpStream) -> io::Result<T> {
    stream.set_read_timeout(Some(HANDSHAKE))?;
    read_line(stream)
}

/// One line, byte by byte: what comes after it belongs to somebody else.
fn read_line<T: for<'de> Deserialize<'de>>(stream: &TcpStream) -> io::Result<T> {
    let mut line = vec![];
    BufReader::with_capacity(1, stream.take(LONGEST)).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line)?)
}
