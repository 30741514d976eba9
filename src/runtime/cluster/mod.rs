//! Several processes that run one query together.
//!
//! Every process runs the same script. The first one plans epochs and commits; the others bring
//! workers. Data and decisions travel through timely's own communication; this module makes the
//! connections, checks that all run the same query, and notices when a process is lost.
//!
//! A process listens at its address in the list. For each query a process dials those before it in
//! the list, says what it runs, and is told whether that fits. After that both sides write frames
//! (see `peer`), at least one a second: silence means that the other one is stopped or cut off.

mod hello;
mod link;
mod peer;

use std::collections::HashMap;
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use timely::communication::AllocatorBuilder;
use timely::communication::allocator::ProcessBuilder;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::initialize::Hooks;

use crate::plan::Plan;
use crate::runtime::QueryError;

use hello::{Answer, Hello, receive, send};
pub use link::Link;
use peer::Peer;

/// How long a process may be silent.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often a process that is not there yet is dialled, and how long one that waits does not look
/// around.
const RETRY: Duration = Duration::from_millis(100);
/// How long one attempt to dial may take.
const ATTEMPT: Duration = Duration::from_secs(1);
/// How long a line may take once it has begun.
const LINE: Duration = Duration::from_secs(2);

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
    door: Arc<Door>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.config.fmt(f)
    }
}

/// The door of this process.
#[derive(Default)]
struct Door {
    guests: Mutex<Guests>,
    changed: Condvar,
}

#[derive(Default)]
struct Guests {
    /// Connections that later processes have opened, by query and process.
    waiting: HashMap<(String, usize), (Hello, TcpStream)>,
    /// The queries that cannot run here, and why.
    refused: HashMap<String, String>,
    /// Nobody is waited for any more.
    closed: bool,
}

impl Door {
    fn lock(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets one in that says which query it comes for.
    fn greet(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(LINE))?;
        let hello: Hello = receive(&stream)?;
        let mut guests = self.lock();
        if let Some(reason) = guests.refused.get(&hello.query) {
            return refuse(&stream, reason);
        }
        let key = (hello.query.clone(), hello.process);
        guests.waiting.insert(key, (hello, stream));
        self.changed.notify_all();
        Ok(())
    }
}

fn refuse(stream: &TcpStream, reason: &str) -> io::Result<()> {
    let refusal = Some(reason.to_owned());
    send(stream, &Answer { refusal })
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
        let door = Arc::<Door>::default();
        let at = Arc::clone(&door);
        std::thread::Builder::new()
            .name("tidemark-accept".into())
            .spawn(move || {
                for stream in listener.incoming().flatten() {
                    let door = Arc::clone(&at);
                    // One that says nothing must not keep the others waiting, and one that is no
                    // process of ours is not answered.
                    let greet = move || drop(door.greet(stream));
                    let _ = std::thread::Builder::new().spawn(greet);
                }
            })
            .map_err(|error| failed(&error))?;
        Ok(Self { config, door })
    }

    /// This process's number.
    pub fn process(&self) -> usize {
        self.config.process
    }

    /// How many processes there are.
    pub fn processes(&self) -> usize {
        self.config.addresses.len()
    }

    /// Nobody is waited for any more: who waits is told [`QueryError::Stopped`].
    pub fn stop_waiting(&self) {
        self.door.lock().closed = true;
        self.door.changed.notify_all();
    }

    /// Tells all that come for a query that it cannot run here. Stays until those who wait already
    /// have dialled again: this process may be about to end.
    pub fn refuse(&self, query: &str, reason: &str) {
        let mut guests = self.door.lock();
        guests.refused.insert(query.into(), reason.into());
        guests.waiting.retain(|(wanted, _), (_, stream)| {
            if wanted == query {
                // One that has gone need not be told.
                let _ = refuse(stream, reason);
            }
            wanted != query
        });
        drop(guests);
        std::thread::sleep(3 * RETRY);
    }

    /// Connects with all other processes for one query; `link` is told of one that is lost. `again`: it starts
    /// again, and those before this one answer when they are ready, however long that takes.
    pub fn connect(
        &self,
        plan: &Plan,
        workers: usize,
        (link, again): (&Arc<Link>, bool),
    ) -> Result<Built, QueryError> {
        let hello = Hello::new(plan, self.process(), self.processes(), workers);
        self.door.lock().refused.remove(&plan.name);
        let deadline = Instant::now() + self.config.connect_timeout;
        let peers = (0..self.processes())
            .map(|process| {
                let stream = match process.cmp(&self.config.process) {
                    std::cmp::Ordering::Less => self.dial(process, &hello, (deadline, again))?,
                    std::cmp::Ordering::Equal => return Ok(None),
                    std::cmp::Ordering::Greater => self.accept(process, &hello, deadline)?,
                };
                let name = self.name(process);
                let peer = Peer::new(stream, name, PATIENCE, Arc::clone(link))
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

    /// An error once the time is up, or nobody waits any more.
    fn still_waits(
        &self,
        deadline: Option<Instant>,
        late: impl FnOnce() -> String,
    ) -> Result<(), QueryError> {
        if self.door.lock().closed {
            return Err(QueryError::Stopped);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(QueryError::Start(late()));
        }
        Ok(())
    }

    fn dial(
        &self,
        process: usize,
        hello: &Hello,
        (deadline, again): (Instant, bool),
    ) -> Result<TcpStream, QueryError> {
        let name = self.name(process);
        let address = &self.config.addresses[process];
        let seconds = self.config.connect_timeout.as_secs();
        let stream = loop {
            let failed = match dial_once(address) {
                Ok(stream) => break stream,
                Err(error) => error,
            };
            self.still_waits(Some(deadline), || {
                format!(
                    "{name} cannot be reached: {failed}; start it with -p {process}, within {seconds} s of this one, and check its line in the host file"
                )
            })?;
            std::thread::sleep(RETRY);
        };
        let silent = |error: &io::Error| {
            let why = match error.kind() {
                io::ErrorKind::InvalidData => "what it says is not Tidemark's".into(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                    "it has closed the connection".into()
                }
                _ => error.to_string(),
            };
            QueryError::Start(format!(
                "{name} did not answer for query '{}': {why}; see what it says itself, give all processes the same script, and check its line in the host file",
                hello.query
            ))
        };
        send(&stream, hello).map_err(|error| silent(&error))?;
        // The other one may still be busy with the queries before this one, or waiting for what failed.
        let deadline = (!again).then_some(deadline);
        while !has_more(&stream).map_err(|error| silent(&error))? {
            self.still_waits(deadline, || {
                format!(
                    "{name} took the connection and said nothing for query '{}' in {seconds} s; see what it says itself, give all processes the same script, and check its line in the host file",
                    hello.query
                )
            })?;
        }
        let answer = stream
            .set_read_timeout(Some(LINE))
            .and_then(|()| receive::<Answer>(&stream));
        match answer.map_err(|error| silent(&error))?.refusal {
            None => Ok(stream),
            Some(reason) => Err(QueryError::Start(format!("{name} refuses: {reason}"))),
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
        let (hello, stream) = loop {
            let mut guests = self.door.lock();
            if let Some(arrived) = guests.waiting.remove(&key) {
                break arrived;
            }
            // Its outcome is in what the loop looks at.
            drop(self.door.changed.wait_timeout(guests, RETRY));
            self.still_waits(Some(deadline), || {
                format!(
                    "{name} has not come for query '{}' in {} s; start it with -p {process} and the same script",
                    own.query,
                    self.config.connect_timeout.as_secs()
                )
            })?;
        };
        if let Some(reason) = own.difference(&hello) {
            // One that has gone need not be told.
            let _ = refuse(&stream, &reason);
            return Err(QueryError::Start(format!("{name} does not fit: {reason}")));
        }
        send(&stream, &Answer { refusal: None })
            .map_err(|error| QueryError::Start(format!("{name} has gone: {error}")))?;
        Ok(stream)
    }
}

/// Whether something can be read, or the end; waits a little.
fn has_more(stream: &TcpStream) -> io::Result<bool> {
    stream.set_read_timeout(Some(RETRY))?;
    match stream.peek(&mut [0]) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
            ) =>
        {
            Ok(false)
        }
        seen => seen.map(|_| true),
    }
}

fn dial_once(address: &str) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "no such address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, ATTEMPT) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}
