//! The bytes between us and a server: over TCP or a Unix socket, with or without TLS.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::time::Duration;

use native_tls::{Certificate, TlsConnector, TlsStream};

use super::options::{Address, Server, TlsMode};

/// Eight bytes, and a number that is no version of the protocol.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A connection.
pub(super) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Connects, with TLS as `sslmode` asks for it.
    pub(super) fn connect(server: &Server) -> io::Result<Self> {
        let timeout = Some(server.connect_timeout);
        match &server.address {
            #[cfg(unix)]
            Address::Unix(dir, port) => {
                let stream = UnixStream::connect(dir.join(format!(".s.PGSQL.{port}")))?;
                stream.set_read_timeout(timeout)?;
                Ok(Self::Unix(stream))
            }
            #[cfg(not(unix))]
            Address::Unix(..) => Err(io::Error::other("Unix sockets are those of Unix")),
            Address::Tcp(host, port) => {
                let mut failed = io::Error::other("the host has no address");
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, server.connect_timeout) {
                        Ok(stream) => {
                            stream.set_nodelay(true)?;
                            stream.set_read_timeout(timeout)?;
                            return secured(stream, host, server);
                        }
                        Err(error) => failed = error,
                    }
                }
                Err(failed)
            }
        }
    }

    /// How long to wait for an answer from now on.
    pub(super) fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(timeout),
            #[cfg(unix)]
            Self::Unix(stream) => stream.set_read_timeout(timeout),
            Self::Tls(stream) => stream.get_ref().set_read_timeout(timeout),
        }
    }
}

/// Asks for TLS before anything else is said.
fn secured(mut stream: TcpStream, host: &str, server: &Server) -> io::Result<Stream> {
    if server.tls == TlsMode::Disable {
        return Ok(Stream::Tcp(stream));
    }
    stream.write_all(&TLS_REQUEST)?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    match answer[0] {
        b'S' => {}
        b'N' if server.tls == TlsMode::Prefer => return Ok(Stream::Tcp(stream)),
        b'N' => {
            return Err(io::Error::other(
                "the server has no TLS, and 'sslmode' asks for it",
            ));
        }
        _ => return Err(io::Error::other("what answers is no PostgreSQL server")),
    }
    let verifies = matches!(server.tls, TlsMode::VerifyCa | TlsMode::VerifyFull);
    let mut builder = TlsConnector::builder();
    builder
        .danger_accept_invalid_certs(!verifies)
        .danger_accept_invalid_hostnames(server.tls != TlsMode::VerifyFull);
    if let Some(path) = &server.root_certificates {
        let named = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("'sslrootcert' {}: {error}", path.display()),
            )
        };
        let pem = std::fs::read(path).map_err(named)?;
        let all =
            Certificate::stack_from_pem(&pem).map_err(|error| named(io::Error::other(error)))?;
        for certificate in all {
            builder.add_root_certificate(certificate);
        }
    }
    let connector = builder.build().map_err(io::Error::other)?;
    let stream = connector
        .connect(host, stream)
        .map_err(|error| match error {
            native_tls::HandshakeError::Failure(error) => io::Error::other(format!("TLS: {error}")),
            native_tls::HandshakeError::WouldBlock(_) => io::ErrorKind::TimedOut.into(),
        })?;
    Ok(Stream::Tls(Box::new(stream)))
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            #[cfg(unix)]
            Self::Unix(stream) => stream.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            #[cfg(unix)]
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            #[cfg(unix)]
            Self::Unix(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
