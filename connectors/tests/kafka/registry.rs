//! A schema registry of a few lines, on the loopback interface: as much of Confluent's as is asked for.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

/// What it holds: the number of a schema is its place, from 1 on.
#[derive(Default)]
struct Held {
    /// Documents as `/schemas/ids/N` gives them.
    schemas: Vec<Value>,
    /// Subjects and the numbers of their versions, in order.
    subjects: Vec<(String, Vec<usize>)>,
    /// The header that requests must have.
    login: Option<String>,
    /// The status that every request is answered with instead.
    trouble: Option<u16>,
    /// Requests so far.
    asked: usize,
}

/// A registry; it is there until the process ends.
pub(crate) struct TestRegistry {
    port: u16,
    held: Arc<Mutex<Held>>,
}

impl TestRegistry {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let held: Arc<Mutex<Held>> = Arc::default();
        let shared = Arc::clone(&held);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let held = Arc::clone(&shared);
                std::thread::spawn(move || {
                    // Whoever asks may go away.
                    let _ = serve(&stream, &held);
                });
            }
        });
        Self { port, held }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Wants this login, as `Basic ...`.
    pub(crate) fn protect(&self, login: &str) {
        self.held().login = Some(login.to_owned());
    }

    /// Answers everything with this status from now on; `None`: as it should.
    pub(crate) fn trouble(&self, status: Option<u16>) {
        self.held().trouble = status;
    }

    /// How many requests there were.
    pub(crate) fn asked(&self) -> usize {
        self.held().asked
    }

    /// Adds a document, `{"schema": ...}`, to a subject and says its number.
    pub(crate) fn add(&self, subject: &str, document: Value) -> usize {
        self.held().add(subject, document)
    }

    /// The schemas of a subject, oldest first.
    pub(crate) fn subject(&self, subject: &str) -> Vec<String> {
        let held = self.held();
        let ids = held.versions(subject).iter();
        ids.map(|id| {
            held.schemas[*id - 1]["schema"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
    }
}

impl Held {
    fn versions(&self, subject: &str) -> &[usize] {
        let found = self.subjects.iter().find(|(name, _)| name == subject);
        found.map_or(&[], |(_, ids)| ids)
    }

    fn add(&mut self, subject: &str, document: Value) -> usize {
        let known = self.schemas.iter().position(|schema| *schema == document);
        let id = if let Some(index) = known {
            index + 1
        } else {
            self.schemas.push(document);
            self.schemas.len()
        };
        match self.subjects.iter_mut().find(|(name, _)| name == subject) {
            Some((_, ids)) if ids.contains(&id) => {}
            Some((_, ids)) => ids.push(id),
            None => self.subjects.push((subject.to_owned(), vec![id])),
        }
        id
    }

    fn answer(&mut self, path: &str, login: Option<&str>, body: &[u8]) -> (u16, Value) {
        self.asked += 1;
        if let Some(status) = self.trouble {
            return (status, json!({"message": "there is trouble"}));
        }
        if self.login.is_some() && login != self.login.as_deref() {
            return (401, json!({"error_code": 401, "message": "Unauthorized"}));
        }
        let missing = (
            404,
            json!({"error_code": 40403, "message": "Schema not found"}),
        );
        let parts: Vec<String> = path.split('/').skip(1).map(unescaped).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts[..] {
            ["schemas", "ids", id] => {
                let index = id.parse::<usize>().ok().and_then(|id| id.checked_sub(1));
                match index.and_then(|index| self.schemas.get(index)) {
                    Some(schema) => (200, schema.clone()),
                    None => missing,
                }
            }
            ["subjects", subject, "versions"] => match serde_json::from_slice(body) {
                Ok(document) => (200, json!({"id": self.add(subject, document)})),
                Err(_) => (422, json!({"message": "no JSON"})),
            },
            ["subjects", subject, "versions", version] => {
                let versions = self.versions(subject);
                let id = match version.parse::<usize>() {
                    Ok(version) => version.checked_sub(1).and_then(|at| versions.get(at)),
                    Err(_) => versions.last(),
                };
                let Some(id) = id else { return missing };
                let mut document = self.schemas[*id - 1].clone();
                document["id"] = json!(id);
                (200, document)
            }
            _ => missing,
        }
    }
}

/// `%2D` as `-`.
fn unescaped(part: &str) -> String {
    let mut pieces = part.split('%');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (code, rest) = piece.split_at(2.min(piece.len()));
        text.push(char::from(u8::from_str_radix(code, 16).unwrap_or(b'?')));
        text.push_str(rest);
    }
    text
}

fn serve(stream: &TcpStream, held: &Mutex<Held>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let (mut length, mut login) = (0, None);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(": ") else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap_or(0),
                "authorization" => login = Some(value.to_owned()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let (status, document) = {
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            held.answer(&path, login.as_deref(), &body)
        };
        let document = document.to_string();
        let length = document.len();
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n");
        let mut writer = stream;
        writer.write_all(format!("{head}{document}").as_bytes())?;
    }
}
