//! The connection to one other process, as timely sees it: a stream of bytes.
//!
//! On the wire the bytes go in frames: a length of four bytes, big-endian, then as many bytes. A
//! frame of length 0 is a sign of life, sent each second; the length `0xFFFF_FFFF` is the end of an
//! orderly connection. Silence, an error or an end without that frame mean that the process is
//! lost: the [`Link`] is told, and the thread that noticed does nothing more, as timely's own answer
//! to an error is to panic. Once the link is broken no connection ends in an orderly way: else the
//! other side would wait for commands that never come.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use timely::communication::allocator::zero_copy::stream::Stream;

use crate::runtime::cluster::Link;

/// How often a sign of life is sent.
const PULSE: Duration = Duration::from_secs(1);
/// The length that ends a connection.
const END: u32 = u32::MAX;
/// The longest frame that is written.
const LONGEST: usize = 1 << 24;

/// See the module.
pub(super) struct Peer {
    shared: Arc<Shared>,
    /// What is left of the frame that is being read.
    left: usize,
    ended: bool,
}

struct Shared {
    socket: TcpStream,
    /// `process 1 at host:port`.
    name: String,
    patience: Duration,
    /// Held while a frame is written; true once the last one is.
    writing: Mutex<bool>,
    link: Arc<Link>,
}

impl Peer {
    pub(super) fn new(
        socket: TcpStream,
        name: String,
        patience: Duration,
        link: Arc<Link>,
    ) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(patience))?;
        socket.set_write_timeout(Some(patience))?;
        let shared = Arc::new(Shared {
            socket,
            name,
            patience,
            writing: Mutex::new(false),
            link,
        });
        let pulse = Arc::downgrade(&shared);
        std::thread::Builder::new()
            .name("tidemark-pulse".into())
            .spawn(move || {
                while let Some(shared) = pulse.upgrade() {
                    // An error shows to whoever reads or writes next.
                    if shared.link.is_broken() {
                        let _ = shared.socket.shutdown(Shutdown::Both);
                        return;
                    }
                    if !matches!(shared.frame(&[]), Ok(true)) {
                        return;
                    }
                    drop(shared);
                    std::thread::sleep(PULSE);
                }
            })?;
        Ok(Self {
            shared,
            left: 0,
            ended: false,
        })
    }
}

impl Shared {
    /// Writes one frame; false where the last one has been written.
    fn frame(&self, bytes: &[u8]) -> io::Result<bool> {
        let ended = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if *ended {
            return Ok(false);
        }
        let mut socket = &self.socket;
        socket.write_all(&(bytes.len() as u32).to_be_bytes())?;
        socket.write_all(bytes)?;
        Ok(true)
    }

    fn end(&self) -> io::Result<()> {
        let mut ended = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut *ended, true) {
            let mut socket = &self.socket;
            socket.write_all(&END.to_be_bytes())?;
        }
        Ok(())
    }

    /// Never comes back: the query is at its end, and so is this thread.
    fn lose(&self, error: &io::Error) -> ! {
        let reason = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!(
                "{} has given no sign of life for {} s: it is stopped or cut off",
                self.name,
                self.patience.as_secs()
            ),
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => format!("{} has ended", self.name),
            _ => format!("the connection to {} broke: {error}", self.name),
        };
        self.link.lose(&format!(
            "{reason}; start all processes again, they go on from the checkpoint"
        ));
        loop {
            std::thread::park();
        }
    }
}

impl Read for Peer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut socket = &self.shared.socket;
        while self.left == 0 {
            if self.ended {
                return Ok(0);
            }
            let mut length = [0; 4];
            if let Err(error) = socket.read_exact(&mut length) {
                self.shared.lose(&error);
            }
            match u32::from_be_bytes(length) {
                END => self.ended = true,
                length => self.left = length as usize,
            }
        }
        let wanted = self.left.min(buffer.len());
        loop {
            match socket.read(&mut buffer[..wanted]) {
                Ok(0) if wanted > 0 => self.shared.lose(&io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    self.left -= read;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.shared.lose(&error),
            }
        }
    }
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(LONGEST)];
        match self.shared.frame(bytes) {
            Ok(_) => Ok(bytes.len()),
            Err(error) => self.shared.lose(&error),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Peer {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            shared: Arc::clone(&self.shared),
            left: self.left,
            ended: self.ended,
        })
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.shared.socket.set_nonblocking(nonblocking)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if self.shared.link.is_broken() {
            return self.shared.socket.shutdown(Shutdown::Both);
        }
        if let Err(error) = self.shared.end() {
            self.shared.lose(&error);
        }
        self.shared.socket.shutdown(how)
    }
}
