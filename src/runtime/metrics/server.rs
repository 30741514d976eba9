//! Serves the page over HTTP: `GET /metrics`, and nothing else.
//!
//! A thread accepts, and one for each connection answers one request. Connections, the size of a
//! request and the time for one are bounded, so that whatever comes leaves the queries alone.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Metrics;
use super::page::CONTENT_TYPE;

/// The path that is served.
pub const PATH: &str = "/metrics";

/// How many connections are answered at a time; more are told to come back.
const MOST_CONNECTIONS: usize = 16;

/// How long a request's head may be.
const MOST_BYTES: usize = 8 << 10;

/// How long a request may take to come, and its answer to go.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long nothing is accepted where accepting fails: there are no file descriptors left, say.
const PAUSE: Duration = Duration::from_millis(100);

/// Why metrics cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The address is none.
    #[error(
        "cannot serve metrics on '{0}': it is no address; write HOST:PORT, such as 127.0.0.1:9464, or port 0 for any that is free"
    )]
    NoAddress(String),
    /// Nobody can listen there.
    #[error("cannot serve metrics on {address}: {source}; {remedy}")]
    Bind {
        /// Where.
        address: String,
        /// Why not.
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
}

/// A server, until it is dropped.
#[derive(Debug)]
pub struct MetricsServer {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl MetricsServer {
    /// Serves on `address`, `HOST:PORT`; with port 0 on any that is free.
    pub fn start(address: &str, metrics: Arc<Metrics>) -> Result<Self, MetricsError> {
        let is_address = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !is_address {
            return Err(MetricsError::NoAddress(address.into()));
        }
        let failed = |source: io::Error| MetricsError::Bind {
            address: address.into(),
            remedy: match source.kind() {
                ErrorKind::AddrInUse => {
                    "another program listens there: write another port, or 0 for any that is free"
                }
                ErrorKind::PermissionDenied => "write a port of 1024 or more",
                _ => {
                    "write an address of this machine, such as 127.0.0.1:9464, or 0.0.0.0:9464 for all of them"
                }
            },
            source,
        };
        let listener = TcpListener::bind(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let stopping = Arc::<AtomicBool>::default();
        let (asked, served) = (Arc::clone(&stopping), Arc::clone(&metrics));
        let thread = std::thread::Builder::new()
            .name("tidemark-metrics".into())
            .spawn(move || accept(&listener, &served, &asked))
            .map_err(failed)?;
        Ok(Self {
            address,
            metrics,
            stopping,
            thread: Some(thread),
        })
    }

    /// What it serves.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let mut own = self.address;
        if own.ip().is_unspecified() {
            own.set_ip(match own.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        // Wakes the thread that accepts. One that cannot be woken is left.
        if TcpStream::connect_timeout(&own, PATIENCE).is_ok()
            && let Some(thread) = self.thread.take()
        {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, metrics: &Arc<Metrics>, stopping: &AtomicBool) {
    // Held by each connection, so that its clones are counted.
    let open = Arc::new(());
    for connection in listener.incoming() {
        if stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(connection) = connection else {
            std::thread::sleep(PAUSE);
            continue;
        };
        let mut client = Client {
            connection,
            until: Instant::now() + PATIENCE,
        };
        let (metrics, open) = (Arc::clone(metrics), Arc::clone(&open));
        let busy = Arc::strong_count(&open) > MOST_CONNECTIONS + 1;
        let answering = std::thread::Builder::new().name("tidemark-scrape".into());
        // A client that goes away, or for which there is no thread, asks again.
        let _ = if busy {
            client.answer(&Answer::plain(
                "503 Service Unavailable",
                "too many at once",
            ))
        } else {
            let answered = answering.spawn(move || {
                let _ = client.serve(&metrics);
                drop(open);
            });
            answered.map(drop)
        };
    }
}

/// What a client is told.
struct Answer {
    status: &'static str,
    /// A header more.
    header: &'static str,
    content_type: &'static str,
    body: String,
}

impl Answer {
    fn plain(status: &'static str, body: &str) -> Self {
        Self {
            status,
            header: "",
            content_type: "text/plain; charset=utf-8",
            body: format!("{body}\n"),
        }
    }

    /// To a request with this first line.
    fn to(line: &str, metrics: &Metrics) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        let [method, target, version] = *words else {
            return Self::plain("400 Bad Request", "this is no HTTP request");
        };
        if !version.starts_with("HTTP/1.") {
            return Self::plain("400 Bad Request", "this is no request of HTTP/1.1");
        }
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        if path != PATH {
            return Self::plain("404 Not Found", "there is only /metrics");
        }
        if method != "GET" {
            return Self {
                header: "Allow: GET\r\n",
                ..Self::plain("405 Method Not Allowed", "there is only GET")
            };
        }
        Self {
            status: "200 OK",
            header: "",
            content_type: CONTENT_TYPE,
            body: metrics.page(),
        }
    }
}

/// A connection, and how long it may last.
struct Client {
    connection: TcpStream,
    until: Instant,
}

impl Client {
    /// Answers one request.
    fn serve(&mut self, metrics: &Metrics) -> io::Result<()> {
        if let Some(head) = self.head()? {
            let answer = Answer::to(head.lines().next().unwrap_or_default(), metrics);
            self.until = Instant::now() + PATIENCE;
            return self.answer(&answer);
        }
        let status = "431 Request Header Fields Too Large";
        self.answer(&Answer::plain(status, "the request is too long"))?;
        // With bytes unread the answer would be lost.
        while self.read(&mut [0; 1024])? > 0 {}
        Ok(())
    }

    /// The request up to its empty line; `None` where it is too long.
    fn head(&mut self) -> io::Result<Option<String>> {
        let mut bytes = vec![];
        let mut part = [0; 1024];
        while !bytes.windows(4).any(|four| four == b"\r\n\r\n") {
            if bytes.len() > MOST_BYTES {
                return Ok(None);
            }
            match self.read(&mut part)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => bytes.extend_from_slice(&part[..read]),
            }
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.connection.set_read_timeout(Some(self.left()?))?;
        self.connection.read(into)
    }

    fn answer(&mut self, answer: &Answer) -> io::Result<()> {
        let text = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}Connection: close\r\n\r\n{}",
            answer.status,
            answer.content_type,
            answer.body.len(),
            answer.header,
            answer.body
        );
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            self.connection.set_write_timeout(Some(self.left()?))?;
            match self.connection.write(rest)? {
                0 => return Err(ErrorKind::WriteZero.into()),
                written => rest = &rest[written..],
            }
        }
        self.connection.shutdown(Shutdown::Write)
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(left)
    }
}
