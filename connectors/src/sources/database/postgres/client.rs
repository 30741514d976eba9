//! Logs in, then runs one statement at a time and hands out its rows as they come.
//!
//! What messages mean in which order is <https://www.postgresql.org/docs/current/protocol-flow.html>.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::options::Server;
use super::scram::{SCRAM_SHA_256, Scram, md5_answer};
use super::stream::Stream;
use super::wire::{Heard, Received, Said, Told, text};
use crate::{ConnectorError, Result};

/// How much longer than the server's own limit to wait for it to say so.
const GRACE: Duration = Duration::from_secs(10);

const LOGIN: &str = "Check 'user', 'password' and the database in 'url'";
const QUERY: &str = "Check 'dbtable' or 'query'";
const RUNS: &str = "Check that the server runs, then start again";

/// A connection that has logged in.
pub(super) struct Client {
    stream: Stream,
    place: Arc<str>,
    received: Received,
}

impl Client {
    /// Connects and logs in.
    pub(super) fn connect(server: &Server) -> Result<Self> {
        let place: Arc<str> = server.place().into();
        let stream = Stream::connect(server).map_err(|error| ConnectorError::Database {
            action: "cannot connect to",
            place: place.to_string(),
            reason: reason(&error),
            remedy: "Check 'url' and that the server runs",
        })?;
        let mut client = Self {
            stream,
            place,
            received: Received::default(),
        };
        client.log_in(server)?;
        let limit = server.query_timeout;
        let timeout = (!limit.is_zero()).then(|| limit + GRACE);
        let set = client.stream.set_timeout(timeout);
        set.map_err(|error| client.broken(&error))?;
        Ok(client)
    }

    fn log_in(&mut self, server: &Server) -> Result<()> {
        let limit = server.query_timeout.as_millis().to_string();
        let parameters = [
            ("user", server.user.as_str()),
            ("database", server.database.as_str()),
            ("application_name", "tidemark"),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO"),
            ("TimeZone", "UTC"),
            ("IntervalStyle", "iso_8601"),
            ("bytea_output", "hex"),
            ("extra_float_digits", "1"),
            ("default_transaction_read_only", "on"),
            ("statement_timeout", limit.as_str()),
        ];
        self.say(&Said::default().start(&parameters))?;
        loop {
            let mut heard = self.hear()?;
            match heard.kind {
                b'R' => {
                    let asked = heard.body.long();
                    let rest = heard.body.0.to_vec();
                    let asked = read(&self.place, asked)?;
                    self.authenticate(server, asked, &rest)?;
                }
                b'E' => {
                    let said = heard.body.error();
                    return Err(self.failed(said, LOGIN));
                }
                b'Z' => return Ok(()),
                // Parameters, the key to cancel with, notices.
                _ => {}
            }
        }
    }

    /// Answers what the server asks for.
    fn authenticate(&mut self, server: &Server, asked: i32, rest: &[u8]) -> Result<()> {
        let password = || {
            let missing = "the server asks for a password".to_owned();
            let given = server.password.as_deref();
            given.ok_or_else(|| self.failed(missing, "Write 'password' = '${ENV:NAME}'"))
        };
        let answer = match asked {
            0 => return Ok(()),
            3 => password()?.to_owned(),
            5 => {
                let salt = rest.first_chunk().ok_or_else(|| self.unknown_login())?;
                md5_answer(&server.user, password()?, *salt)
            }
            10 => {
                let mut offered = rest.split(|byte| *byte == 0);
                if !offered.any(|name| name == SCRAM_SHA_256.as_bytes()) {
                    return Err(self.unknown_login());
                }
                let password = password()?.as_bytes();
                return self.scram(password);
            }
            _ => return Err(self.unknown_login()),
        };
        self.say(&Said::default().message(b'p', |out| text(out, &answer)))
    }

    fn unknown_login(&self) -> ConnectorError {
        let reason = "the server asks for a way to log in that is not known here";
        self.failed(
            reason.into(),
            "Have it take a password (scram-sha-256 or md5) in pg_hba.conf",
        )
    }

    fn scram(&mut self, password: &[u8]) -> Result<()> {
        let scram = Scram::new(&Uuid::new_v4().simple().to_string());
        let first = scram.first();
        self.say(&Said::default().message(b'p', |out| {
            text(out, SCRAM_SHA_256);
            out.extend_from_slice(&(first.len() as u32).to_be_bytes());
            out.extend_from_slice(first.as_bytes());
        }))?;
        let server = self.challenge(11)?;
        let (proof, expected) =
            (scram.prove(password, &server)).ok_or_else(|| self.unknown_login())?;
        self.say(&Said::default().message(b'p', |out| out.extend_from_slice(proof.as_bytes())))?;
        if expected.is(&self.challenge(12)?) {
            Ok(())
        } else {
            let reason = "the server does not know the password either, so it is another one";
            Err(self.failed(reason.into(), "Check 'url'"))
        }
    }

    /// What the server says in a step of the exchange.
    fn challenge(&mut self, step: i32) -> Result<String> {
        let mut heard = self.hear()?;
        if heard.kind == b'E' {
            let said = heard.body.error();
            return Err(self.failed(said, LOGIN));
        }
        if heard.kind == b'R' && heard.body.long().is_ok_and(|asked| asked == step) {
            return Ok(String::from_utf8_lossy(heard.body.0).into_owned());
        }
        Err(self.unknown_login())
    }

    /// The columns of a query, which does not run.
    pub(super) fn describe(&mut self, sql: &str) -> Result<Vec<Told>> {
        let asked = parse(sql).message(b'D', |out| {
            out.push(b'S');
            text(out, "");
        });
        self.say(&asked.message(b'S', |_| {}))?;
        let mut columns = Vec::new();
        loop {
            let mut heard = self.hear()?;
            match heard.kind {
                b'T' => {
                    let told = heard.body.columns();
                    columns = read(&self.place, told)?;
                }
                b'E' => {
                    let said = heard.body.error();
                    return Err(self.failed(said, QUERY));
                }
                b'Z' => return Ok(columns),
                _ => {}
            }
        }
    }

    /// Begins a query; [`Client::row`] gives what it finds.
    pub(super) fn select(&mut self, sql: &str) -> Result<()> {
        let asked = parse(sql)
            // No names, no parameters; all values as text.
            .message(b'B', |out| out.extend_from_slice(&[0; 8]))
            // Without a name, and without a limit.
            .message(b'E', |out| out.extend_from_slice(&[0; 5]));
        self.say(&asked.message(b'S', |_| {}))
    }

    /// Hands over the values of the next row, by their number; `false` when there is none.
    pub(super) fn row(
        &mut self,
        take: &mut dyn FnMut(usize, Option<&[u8]>) -> Result<()>,
    ) -> Result<bool> {
        let place = Arc::clone(&self.place);
        loop {
            let mut heard = self.hear()?;
            match heard.kind {
                b'D' => {
                    let count = read(&place, heard.body.short())?;
                    for index in 0..usize::from(count) {
                        let length = read(&place, heard.body.long())?;
                        let value = usize::try_from(length).ok();
                        let value = value.map(|length| heard.body.take(length)).transpose();
                        take(index, read(&place, value)?)?;
                    }
                    return Ok(true);
                }
                b'E' => {
                    let said = heard.body.error();
                    return Err(self.failed(said, QUERY));
                }
                b'Z' => return Ok(false),
                _ => {}
            }
        }
    }

    fn say(&mut self, said: &Said) -> Result<()> {
        let written = self.stream.write_all(said.bytes());
        let flushed = written.and_then(|()| self.stream.flush());
        flushed.map_err(|error| self.broken(&error))
    }

    fn hear(&mut self) -> Result<Heard<'_>> {
        let Self {
            stream,
            received,
            place,
        } = self;
        read(place, received.next(stream))
    }

    /// The connection, or what is said over it.
    fn broken(&self, error: &io::Error) -> ConnectorError {
        self.failed(reason(error), RUNS)
    }

    fn failed(&self, reason: String, remedy: &'static str) -> ConnectorError {
        failed(&self.place, reason, remedy)
    }
}

/// A statement to be parsed, without a name.
fn parse(sql: &str) -> Said {
    Said::default().message(b'P', |out| {
        text(out, "");
        text(out, sql);
        out.extend_from_slice(&[0; 2]);
    })
}

fn read<T>(place: &str, result: io::Result<T>) -> Result<T> {
    result.map_err(|error| failed(place, reason(&error), RUNS))
}

fn failed(place: &str, reason: String, remedy: &'static str) -> ConnectorError {
    ConnectorError::Database {
        action: "cannot read",
        place: place.into(),
        reason,
        remedy,
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer in time".into(),
        io::ErrorKind::UnexpectedEof => "the server closed the connection".into(),
        _ => error.to_string(),
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Politely; the server notices the end of the connection, too.
        let bye = Said::default().message(b'X', |_| {});
        let _ = self.stream.write_all(bye.bytes());
    }
}
