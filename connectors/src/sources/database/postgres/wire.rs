//! The messages of `PostgreSQL`'s protocol, version 3.0, as far as they are needed here.
//!
//! Each is a letter, a length and a body: <https://www.postgresql.org/docs/current/protocol-message-formats.html>.

use std::io::{self, Read};

/// A longer message is none.
const LONGEST: usize = 1 << 30;

/// How much is asked of the connection at once.
const BLOCK: usize = 64 << 10;

/// A message of ours under construction.
#[derive(Default)]
pub(super) struct Said(Vec<u8>);

impl Said {
    /// Adds a message.
    pub(super) fn message(mut self, letter: u8, body: impl FnOnce(&mut Vec<u8>)) -> Self {
        self.0.push(letter);
        self.body(body)
    }

    /// Adds the first message, which has no letter.
    pub(super) fn start(self, parameters: &[(&str, &str)]) -> Self {
        self.body(|out| {
            out.extend_from_slice(&[0, 3, 0, 0]);
            for (name, value) in parameters {
                text(out, name);
                text(out, value);
            }
            out.push(0);
        })
    }

    fn body(mut self, body: impl FnOnce(&mut Vec<u8>)) -> Self {
        let at = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        body(&mut self.0);
        let length = (self.0.len() - at) as u32;
        self.0[at..at + 4].copy_from_slice(&length.to_be_bytes());
        self
    }

    /// Their bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Appends text and the byte that ends it.
pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

/// What the server said.
pub(super) struct Heard<'a> {
    /// The letter.
    pub(super) kind: u8,
    /// What is left of the body.
    pub(super) body: Body<'a>,
}

/// A body, read from its front.
pub(super) struct Body<'a>(pub(super) &'a [u8]);

impl<'a> Body<'a> {
    pub(super) fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count).ok_or_else(broken)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk().ok_or_else(broken)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn long(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(super) fn short(&mut self) -> io::Result<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// Text up to the byte that ends it.
    pub(super) fn text(&mut self) -> io::Result<String> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let head = self.take(end.ok_or_else(broken)?)?;
        self.take(1)?;
        Ok(String::from_utf8_lossy(head).into_owned())
    }

    /// The columns of a description of rows.
    pub(super) fn columns(&mut self) -> io::Result<Vec<Told>> {
        (0..self.short()?)
            .map(|_| {
                let name = self.text()?;
                // The number of a table, and that of a column of it.
                self.take(6)?;
                let oid = self.long()?.cast_unsigned();
                self.take(2)?;
                let modifier = self.long()?;
                self.take(2)?;
                Ok(Told {
                    name,
                    oid,
                    modifier,
                })
            })
            .collect()
    }

    /// What an error says: its message, its code and a hint.
    pub(super) fn error(&mut self) -> String {
        let (mut message, mut code, mut hint) = (String::new(), String::new(), String::new());
        while let Ok([kind]) = self.array()
            && let Ok(value) = self.text()
        {
            match kind {
                b'M' => message = value,
                b'C' => code = format!(" ({value})"),
                b'H' => hint = format!("; {value}"),
                _ => {}
            }
        }
        format!("{message}{code}{hint}")
    }
}

/// A column as the server describes it.
pub(super) struct Told {
    pub(super) name: String,
    /// The number of its type.
    pub(super) oid: u32,
    /// What stands behind the type's name in brackets; -1: nothing.
    pub(super) modifier: i32,
}

/// Bytes that were received, cut into messages.
#[derive(Default)]
pub(super) struct Received {
    bytes: Vec<u8>,
    /// Where the first message that was not handed out begins.
    at: usize,
}

impl Received {
    /// The next message, reading from `stream` until it is there.
    pub(super) fn next(&mut self, stream: &mut impl Read) -> io::Result<Heard<'_>> {
        let length = loop {
            let there = &self.bytes[self.at..];
            let missing = match there.get(1..5) {
                None => 5 - there.len(),
                Some(length) => {
                    let length = [length[0], length[1], length[2], length[3]];
                    let length = u32::from_be_bytes(length) as usize;
                    if !(4..LONGEST).contains(&length) {
                        return Err(io::Error::other("what answers is no PostgreSQL server"));
                    }
                    if there.len() > length {
                        break length;
                    }
                    length + 1 - there.len()
                }
            };
            self.fill(stream, missing)?;
        };
        let start = self.at;
        self.at += length + 1;
        Ok(Heard {
            kind: self.bytes[start],
            body: Body(&self.bytes[start + 5..self.at]),
        })
    }

    fn fill(&mut self, stream: &mut impl Read, missing: usize) -> io::Result<()> {
        self.bytes.drain(..self.at);
        self.at = 0;
        let before = self.bytes.len();
        self.bytes.resize(before + missing.max(BLOCK), 0);
        let read = loop {
            match stream.read(&mut self.bytes[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.bytes.truncate(before + *read.as_ref().unwrap_or(&0));
        match read? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn broken() -> io::Error {
    io::Error::other("a message of the server is cut off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_in_any_pieces() {
        struct Pieces<'a>(&'a [u8]);
        impl Read for Pieces<'_> {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                let count = self.0.len().min(3).min(into.len());
                into[..count].copy_from_slice(&self.0[..count]);
                self.0 = &self.0[count..];
                Ok(count)
            }
        }
        let said = Said::default()
            .message(b'E', |out| {
                for part in ["Mno such table", "C42P01", "Xelse"] {
                    text(out, part);
                }
                out.push(0);
            })
            .message(b'Z', |out| out.push(b'I'));
        let mut stream = Pieces(said.bytes());
        let mut received = Received::default();
        let mut first = received.next(&mut stream).expect("a message");
        assert_eq!(
            (first.kind, first.body.error().as_str()),
            (b'E', "no such table (42P01)")
        );
        let second = received.next(&mut stream).expect("a message");
        assert_eq!((second.kind, second.body.0), (b'Z', &b"I"[..]));
        assert!(received.next(&mut stream).is_err());
        let mut other = Pieces(b"HTTP/1.1 400 Bad Request");
        assert!(Received::default().next(&mut other).is_err());
    }
}
