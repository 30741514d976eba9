//! A small HTTP server: `GET` of a path, one answer a connection.
//!
//! A thread accepts, and one for each connection answers one request. Connections, the size of a
//! request and the time for one are bounded, so that whatever comes leaves the queries alone.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How many connections are answered at a time; more are told to come back.
const MOST_CONNECTIONS: usize = 16;

/// How long a request's head may be.
const MOST_BYTES: usize = 8 << 10;

/// How long a request may take to come, and its answer to go.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the end of a server waits for the answers that are under way.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long nothing is accepted where accepting fails: there are no file descriptors left, say.
const PAUSE: Duration = Duration::from_millis(100);

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is none.
    #[error(
        "cannot serve {what} on '{address}': it is no address; write HOST:PORT, such as {example}, or port 0 for any that is free"
    )]
    NoAddress {
        /// What was to be served.
        what: &'static str,
        /// Where, as it was written.
        address: String,
        /// An address.
        example: &'static str,
    },
    /// Nobody can listen there.
    #[error("cannot serve {what} on {address}: {source}; {remedy}")]
    Bind {
        /// What was to be served.
        what: &'static str,
        /// Where.
        address: String,
        /// Why not.
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The path, as it was written.
    pub path: String,
    /// What stands behind its `?`.
    pub query: String,
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    status: &'static str,
    /// A header more.
    header: &'static str,
    content_type: &'static str,
    body: String,
}

impl Answer {
    /// Text with a line break behind it.
    pub fn text(status: &'static str, body: &str) -> Self {
        Self::of("text/plain; charset=utf-8", format!("{body}\n")).with(status)
    }

    /// `200 OK` with this body.
    pub fn of(content_type: &'static str, body: String) -> Self {
        Self {
            status: "200 OK",
            header: "",
            content_type,
            body,
        }
    }

    fn with(self, status: &'static str) -> Self {
        Self { status, ..self }
    }
}

/// Answers requests.
pub type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

/// A server, until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    /// Held once more for each answer that is under way.
    answering: Arc<()>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `what`, with `example` as an address, on `address`, `HOST:PORT`; with port 0 on any that is
    /// free.
    pub fn start(
        (what, example): (&'static str, &'static str),
        address: &str,
        handler: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Result<Self, ServeError> {
        let is_address = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !is_address {
            return Err(ServeError::NoAddress {
                what,
                address: address.into(),
                example,
            });
        }
        let failed = |source: io::Error| ServeError::Bind {
            what,
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
        let answering = Arc::new(());
        let (asked, held) = (Arc::clone(&stopping), Arc::clone(&answering));
        let handler: Arc<Handler> = Arc::new(handler);
        let thread = std::thread::Builder::new()
            .name("tidemark-http".into())
            .spawn(move || accept(&listener, &handler, &asked, &held))
            .map_err(failed)?;
        Ok(Self {
            address,
            stopping,
            answering,
            thread: Some(thread),
        })
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
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
        let until = Instant::now() + FAREWELL;
        while Arc::strong_count(&self.answering) > 1 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn accept(
    listener: &TcpListener,
    handler: &Arc<Handler>,
    stopping: &AtomicBool,
    answering: &Arc<()>,
) {
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
        let (handler, open) = (Arc::clone(handler), Arc::clone(&open));
        let answering = Arc::downgrade(answering);
        let busy = Arc::strong_count(&open) > MOST_CONNECTIONS + 1;
        let thread = std::thread::Builder::new().name("tidemark-answer".into());
        // A client that goes away, or for which there is no thread, asks again.
        let _ = if busy {
            client.answer(&Answer::text("503 Service Unavailable", "too many at once"))
        } else {
            let answered = thread.spawn(move || {
                let _ = client.serve(&*handler, &answering);
                drop(open);
            });
            answered.map(drop)
        };
    }
}

/// The answer to a request with this first line.
fn answer(line: &str, handler: &Handler) -> Answer {
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = *words else {
        return Answer::text("400 Bad Request", "this is no HTTP request");
    };
    if !version.starts_with("HTTP/1.") {
        return Answer::text("400 Bad Request", "this is no request of HTTP/1.1");
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let answer = handler(&Request {
        path: path.into(),
        query: query.into(),
    });
    if method != "GET" && !answer.status.starts_with("404") {
        return Answer {
            header: "Allow: GET\r\n",
            ..Answer::text("405 Method Not Allowed", "there is only GET")
        };
    }
    answer
}

/// A connection, and how long it may last.
struct Client {
    connection: TcpStream,
    until: Instant,
}

impl Client {
    /// Answers one request.
    fn serve(&mut self, handler: &Handler, answering: &Weak<()>) -> io::Result<()> {
        if let Some(head) = self.head()? {
            let _answering = answering.upgrade();
            let answer = answer(head.lines().next().unwrap_or_default(), handler);
            self.until = Instant::now() + PATIENCE;
            return self.answer(&answer);
        }
        let status = "431 Request Header Fields Too Large";
        self.answer(&Answer::text(status, "the request is too long"))?;
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
