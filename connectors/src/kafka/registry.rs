//! Schemas by their numbers, from a registry that speaks as
//! [Confluent's](https://docs.confluent.io/platform/current/schema-registry/develop/api.html) does.
//!
//! What a number stands for never changes, so each is asked for once. A registry that is away is
//! waited for as brokers are: an error comes within ten seconds.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};
use ureq::{Agent, Body, http};

use super::client::{FIRST_ANSWER, TRY};
use crate::format::avro::AvroSchema;
use crate::{ConnectorError, Options, Result};

const URL: &str = "schema.registry.url";
const USER: &str = "schema.registry.username";
const PASSWORD: &str = "schema.registry.password";
const CA: &str = "schema.registry.ssl.ca.location";

/// How long to wait before a registry that did not answer is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// How many schemas may be named by others, which those again name.
const MOST_REFERENCES: usize = 100;

const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// A client of a schema registry.
pub(crate) struct Registry {
    /// As written.
    url: String,
    servers: Vec<String>,
    /// The header that says who asks.
    login: Option<String>,
    agent: Agent,
    schemas: Mutex<HashMap<u32, Known>>,
}

/// What a number stands for, or why for none.
type Known = Result<Arc<AvroSchema>, String>;

impl fmt::Debug for Registry {
    /// Without the login.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// What came back: the status and the document.
struct Answer {
    status: u16,
    body: Value,
}

/// The schemas that one names.
#[derive(Default)]
struct Named {
    /// Where they were asked for.
    paths: Vec<String>,
    texts: Vec<String>,
}

impl Answer {
    fn text(&self, key: &str) -> Option<&str> {
        self.body.get(key)?.as_str()
    }

    fn id(&self) -> Option<u32> {
        u32::try_from(self.body.get("id")?.as_u64()?).ok()
    }

    /// What the registry says is wrong.
    fn reason(&self) -> String {
        let status = format!("it answers {}", self.status);
        match self.text("message") {
            Some(message) => format!("{status}: {message}"),
            None => status,
        }
    }
}

impl Registry {
    /// The options that [`Self::new`] reads.
    pub(crate) const KEYS: &'static [&'static str] = &[URL, USER, PASSWORD, CA];

    /// The registry that the options name, if they do. It is not asked yet.
    pub(crate) fn new(options: &Options) -> Result<Option<Self>> {
        let Some(url) = options.get(URL) else {
            if let Some(key) = Self::KEYS.iter().find(|key| options.get(key).is_some()) {
                return Err(refused(
                    key,
                    "it is for a schema registry: write 'schema.registry.url' too",
                ));
            }
            return Ok(None);
        };
        let mut servers = vec![];
        for server in url.split(',').map(str::trim) {
            if server.contains('@') {
                return Err(refused(
                    URL,
                    "write the login as 'schema.registry.username' and 'schema.registry.password'",
                ));
            }
            if !server.starts_with("http://") && !server.starts_with("https://") {
                return Err(options.bad(
                    URL,
                    "the URL of a schema registry, such as 'https://host:8081'".into(),
                ));
            }
            servers.push(server.trim_end_matches('/').to_owned());
        }
        let login = match (options.get(USER), options.get(PASSWORD)) {
            (None, None) => None,
            (Some(user), Some(password)) => {
                let mut header = "Basic ".to_owned();
                crate::sinks::base64(&mut header, format!("{user}:{password}").as_bytes());
                Some(header)
            }
            _ => {
                return Err(refused(
                    if options.get(USER).is_some() {
                        USER
                    } else {
                        PASSWORD
                    },
                    "a login has both: write 'schema.registry.username' and 'schema.registry.password'",
                ));
            }
        };
        let roots = match options.get(CA) {
            None => RootCerts::PlatformVerifier,
            Some(path) => RootCerts::Specific(Arc::new(certificates(options, path)?)),
        };
        let tls = TlsConfig::builder()
            .provider(TlsProvider::NativeTls)
            .root_certs(roots)
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .timeout_global(Some(TRY))
            .user_agent("tidemark")
            .build();
        Ok(Some(Self {
            url: url.to_owned(),
            servers,
            login,
            agent: config.new_agent(),
            schemas: Mutex::default(),
        }))
    }

    /// The schema of a number; inside, why it has none that can be used.
    pub(crate) fn schema(&self, id: u32) -> Result<Known> {
        let mut schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = schemas.get(&id) {
            return Ok(known.clone());
        }
        let action = format!("cannot get schema {id}");
        let answer = self.ask(&action, &format!("/schemas/ids/{id}"), None)?;
        let found = match answer.status {
            200 => self.read(&action, &answer)?.map(Arc::new),
            404 => Err("the schema registry does not have it".into()),
            _ => return Err(self.failed(&action, answer.reason())),
        };
        let known = found.map_err(|why| format!("schema {id}: {why}"));
        schemas.insert(id, known.clone());
        Ok(known)
    }

    /// The number of a schema among those of a subject, to which it is added if need be.
    pub(crate) fn register(&self, subject: &str, schema: &str) -> Result<u32> {
        let action = format!("cannot register the schema of the rows as '{subject}'");
        let path = format!("/subjects/{}/versions", escaped(subject));
        let answer = self.ask(&action, &path, Some(json!({ "schema": schema })))?;
        match (answer.status, answer.id()) {
            (200, Some(id)) => Ok(id),
            (409, _) => Err(ConnectorError::Registry {
                action,
                url: self.url.clone(),
                reason: answer.reason(),
                remedy: "Change the columns so that readers of the subject's other versions can go on, change its compatibility, or write another 'schema.registry.subject'".into(),
            }),
            _ => Err(self.failed(&action, answer.reason())),
        }
    }

    /// The newest schema of a subject, and its number.
    pub(crate) fn latest(&self, subject: &str) -> Result<(u32, AvroSchema)> {
        let action = format!("cannot get the newest schema of '{subject}'");
        let path = format!("/subjects/{}/versions/latest", escaped(subject));
        let answer = self.ask(&action, &path, None)?;
        match (answer.status, answer.id()) {
            (200, Some(id)) => match self.read(&action, &answer)? {
                Ok(schema) => Ok((id, schema)),
                Err(why) => Err(self.failed(&action, why)),
            },
            (404, _) => Err(ConnectorError::Registry {
                action,
                url: self.url.clone(),
                reason: answer.reason(),
                remedy: "Register a schema, or leave 'auto.register.schemas' out to have that of the rows registered".into(),
            }),
            _ => Err(self.failed(&action, answer.reason())),
        }
    }

    /// The schema of an answer, with those that it names.
    fn read(&self, action: &str, answer: &Answer) -> Result<Result<AvroSchema, String>> {
        if let Some(kind) = answer.text("schemaType").filter(|kind| *kind != "AVRO") {
            return Ok(Err(format!("it is of type {kind}, not Avro")));
        }
        let mut named = Named::default();
        if let Err(why) = self.references(action, answer, &mut named)? {
            return Ok(Err(why));
        }
        let Some(text) = answer.text("schema") else {
            return Err(self.failed(action, "it answers without a schema".into()));
        };
        Ok(AvroSchema::parse_with(text, &named.texts))
    }

    /// Collects the schemas that one names, each behind those that it names itself.
    fn references(
        &self,
        action: &str,
        answer: &Answer,
        named: &mut Named,
    ) -> Result<Result<(), String>> {
        let Some(references) = answer.body.get("references").and_then(Value::as_array) else {
            return Ok(Ok(()));
        };
        for reference in references {
            let (Some(subject), Some(version)) = (
                reference.get("subject").and_then(Value::as_str),
                reference.get("version").and_then(Value::as_u64),
            ) else {
                return Err(self.failed(action, format!("it answers with a reference {reference}")));
            };
            let path = format!("/subjects/{}/versions/{version}", escaped(subject));
            if named.paths.contains(&path) {
                continue;
            }
            named.paths.push(path.clone());
            if named.paths.len() > MOST_REFERENCES {
                return Ok(Err(format!("it names more than {MOST_REFERENCES} others")));
            }
            let other = self.ask(action, &path, None)?;
            if other.status == 404 {
                return Ok(Err(format!(
                    "it names version {version} of '{subject}', which is gone"
                )));
            }
            let Some(text) = other.text("schema").filter(|_| other.status == 200) else {
                return Err(self.failed(action, other.reason()));
            };
            if let Err(why) = self.references(action, &other, named)? {
                return Ok(Err(why));
            }
            named.texts.push(text.to_owned());
        }
        Ok(Ok(()))
    }

    fn failed(&self, action: &str, reason: String) -> ConnectorError {
        ConnectorError::Registry {
            action: action.to_owned(),
            url: self.url.clone(),
            reason,
            remedy: "Check 'schema.registry.url' and that the registry runs".into(),
        }
    }

    /// Asks one server after the other until one has an answer.
    fn ask(&self, action: &str, path: &str, body: Option<Value>) -> Result<Answer> {
        let body = body.map(|body| body.to_string());
        let began = Instant::now();
        loop {
            let mut reason = String::new();
            for server in &self.servers {
                match self.request(&format!("{server}{path}"), body.as_deref()) {
                    Ok(answer) if matches!(answer.status, 401 | 403) => {
                        return Err(ConnectorError::Registry {
                            action: action.to_owned(),
                            url: self.url.clone(),
                            reason: answer.reason(),
                            remedy: "Check 'schema.registry.username' and 'schema.registry.password', and the user's rights".into(),
                        });
                    }
                    Ok(answer) if answer.status < 500 && answer.status != 429 => return Ok(answer),
                    Ok(answer) => reason = answer.reason(),
                    Err(ureq::Error::NativeTls(error)) => {
                        return Err(ConnectorError::Registry {
                            action: action.to_owned(),
                            url: self.url.clone(),
                            reason: error.to_string(),
                            remedy: "Check 'schema.registry.ssl.ca.location' (the CA that signed the registry's certificate) and the names and dates in the certificate".into(),
                        });
                    }
                    Err(error) => reason = error.to_string(),
                }
            }
            if began.elapsed() + TRY > FIRST_ANSWER {
                let waited = began.elapsed().as_secs();
                return Err(self.failed(action, format!("{reason} (tried for {waited} s)")));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn request(&self, url: &str, body: Option<&str>) -> Result<Answer, ureq::Error> {
        let mut request = http::Request::builder()
            .uri(url)
            .header("accept", format!("{MEDIA_TYPE}, application/json"));
        if let Some(login) = &self.login {
            request = request.header("authorization", login);
        }
        let response = match body {
            None => self.agent.run(request.method("GET").body(())?)?,
            Some(body) => {
                let request = request.method("POST").header("content-type", MEDIA_TYPE);
                self.agent.run(request.body(body)?)?
            }
        };
        answer(response)
    }
}

fn answer(mut response: http::Response<Body>) -> Result<Answer, ureq::Error> {
    let text = response.body_mut().read_to_string()?;
    Ok(Answer {
        status: response.status().as_u16(),
        body: serde_json::from_str(&text).unwrap_or_default(),
    })
}

fn refused(key: &str, instead: &str) -> ConnectorError {
    ConnectorError::OptionRefused {
        connector: "kafka".into(),
        key: key.into(),
        instead: instead.into(),
    }
}

/// A name as a part of a path.
fn escaped(name: &str) -> impl fmt::Display {
    utf8_percent_encode(name, NON_ALPHANUMERIC)
}

/// The certificates in a PEM file.
fn certificates(options: &Options, path: &str) -> Result<Vec<ureq::tls::Certificate<'static>>> {
    let pem = std::fs::read(path).map_err(|source| ConnectorError::Io {
        action: "cannot read the certificates of 'schema.registry.ssl.ca.location' from",
        path: path.into(),
        source,
    })?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(options.bad(CA, "a file with certificates in PEM".into()));
    }
    Ok(certificates)
}

#[cfg(test)]
#[path = "../../tests/kafka/registry.rs"]
mod server;

#[cfg(test)]
mod tests;
