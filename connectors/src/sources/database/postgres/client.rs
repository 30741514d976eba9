//! A connection, and one statement at a time on it.
//!
//! `tokio-postgres` speaks the protocol. It runs on a little runtime of its own, on the thread that calls.

use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

use futures_util::TryStreamExt;
use native_tls::{Certificate, TlsConnector};
use postgres_native_tls::MakeTlsConnector;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, Error, Row, SimpleQueryMessage};

use super::options::{Address, Server, TlsMode};
use crate::{ConnectorError, Result};

/// How much longer than the server's own limit to wait for it to say so.
const GRACE: Duration = Duration::from_secs(10);

/// How long to wait for a connection to end as it should.
const GOODBYE: Duration = Duration::from_millis(100);

const CONNECT: &str = "Check 'url' and that the server runs";
const LOGIN: &str = "Check 'user', 'password' and the database in 'url'";
const PASSWORD: &str = "Write 'password' = '${ENV:NAME}'";
const TLS: &str = "Check 'sslmode' and 'sslrootcert'";
const QUERY: &str = "Check 'dbtable' or 'query'";
const RUNS: &str = "Check that the server runs, then start again";

/// A connection that has logged in.
pub(super) struct Client {
    runtime: Runtime,
    /// `None` once it says goodbye.
    session: Option<tokio_postgres::Client>,
    connection: JoinHandle<()>,
    place: String,
    /// How long to wait for each answer.
    patience: Option<Duration>,
}

impl Client {
    /// Connects and logs in.
    pub(super) fn connect(server: &Server) -> Result<Self> {
        let place = server.place();
        let failed = |reason: String, remedy| ConnectorError::Database {
            action: "cannot connect to",
            place: place.clone(),
            reason,
            remedy,
        };
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| failed(error.to_string(), RUNS))?;
        let tls = connector(server).map_err(|reason| failed(reason, TLS))?;
        let config = config(server);
        // One try may hang, and the next one still has its time.
        let patience = server.connect_timeout * 2;
        let connected = runtime.block_on(async {
            tokio::time::timeout(patience, config.connect(MakeTlsConnector::new(tls))).await
        });
        let (client, connection) = match connected {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => {
                let (reason, remedy) = not_connected(&error, server);
                return Err(failed(reason, remedy));
            }
            Err(_) => return Err(failed("no answer in time".into(), CONNECT)),
        };
        let connection = runtime.spawn(async move {
            // What went wrong is told to whoever waits for an answer.
            let _ = connection.await;
        });
        let limit = server.query_timeout;
        let client = Self {
            runtime,
            session: Some(client),
            connection,
            place,
            patience: (!limit.is_zero()).then(|| limit + GRACE),
        };
        let settings = format!(
            "SET DateStyle = 'ISO'; SET TimeZone = 'UTC'; SET IntervalStyle = 'iso_8601'; SET bytea_output = 'hex'; \
             SET extra_float_digits = 1; SET default_transaction_read_only = on; SET statement_timeout = {}",
            limit.as_millis()
        );
        client.wait(client.client().batch_execute(&settings))?;
        Ok(client)
    }

    fn client(&self) -> &tokio_postgres::Client {
        let client = self.session.as_ref();
        client.expect("it says goodbye as it is dropped")
    }

    /// Waits for an answer.
    fn wait<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T> {
        let answered = self.runtime.block_on(async {
            match self.patience {
                Some(patience) => tokio::time::timeout(patience, answer).await.ok(),
                None => Some(answer.await),
            }
        });
        match answered {
            Some(answer) => answer.map_err(|error| {
                let remedy = if error.as_db_error().is_some() {
                    QUERY
                } else {
                    RUNS
                };
                self.failed(reason(&error), remedy)
            }),
            None => Err(self.failed("no answer in time".into(), RUNS)),
        }
    }

    /// The columns of a query, which does not run.
    pub(super) fn describe(&self, sql: &str) -> Result<Vec<Told>> {
        let statement = self.wait(self.client().prepare(sql))?;
        let told = statement.columns().iter().map(|column| Told {
            name: column.name().to_owned(),
            oid: column.type_().oid(),
            modifier: column.type_modifier(),
        });
        Ok(told.collect())
    }

    /// Runs a query and hands over its rows as they come, for as long as `take` says so.
    pub(super) fn select(
        &self,
        sql: &str,
        take: &mut dyn FnMut(&Row) -> Result<bool>,
    ) -> Result<()> {
        let nothing: [&str; 0] = [];
        let rows = self.wait(self.client().query_raw(sql, nothing))?;
        let mut rows = Box::pin(rows);
        while let Some(row) = self.wait(rows.try_next())? {
            if !take(&row)? {
                break;
            }
        }
        Ok(())
    }

    /// The first value that a statement gives, as text.
    pub(super) fn first(&self, sql: &str) -> Result<Option<String>> {
        let said = self.wait(self.client().simple_query(sql))?;
        Ok(said.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        }))
    }

    /// Something that the server said is not what was asked for.
    pub(super) fn odd(&self, error: &Error) -> ConnectorError {
        self.failed(reason(error), QUERY)
    }

    fn failed(&self, reason: String, remedy: &'static str) -> ConnectorError {
        ConnectorError::Database {
            action: "cannot read",
            place: self.place.clone(),
            reason,
            remedy,
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.session.take());
        let connection = &mut self.connection;
        // The server notices the end of the connection, too.
        let _ = (self.runtime).block_on(async { tokio::time::timeout(GOODBYE, connection).await });
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

fn config(server: &Server) -> Config {
    let mut config = Config::new();
    config
        .user(&server.user)
        .dbname(&server.database)
        .application_name("tidemark")
        .connect_timeout(server.connect_timeout)
        .ssl_mode(match server.tls {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
        });
    if let Some(password) = &server.password {
        config.password(password);
    }
    match &server.address {
        Address::Tcp(host, port) => config.host(host).port(*port),
        // What stays on the machine has no TLS.
        #[cfg(unix)]
        Address::Unix(dir, port) => config.host_path(dir).port(*port).ssl_mode(SslMode::Disable),
        #[cfg(not(unix))]
        Address::Unix(dir, port) => config.host(dir.display().to_string()).port(*port),
    };
    config
}

fn connector(server: &Server) -> Result<TlsConnector, String> {
    let verifies = matches!(server.tls, TlsMode::VerifyCa | TlsMode::VerifyFull);
    let mut builder = TlsConnector::builder();
    builder
        .danger_accept_invalid_certs(!verifies)
        .danger_accept_invalid_hostnames(server.tls != TlsMode::VerifyFull);
    if let Some(path) = &server.root_certificates {
        let named = |error: String| format!("'sslrootcert' {}: {error}", path.display());
        let pem = std::fs::read(path).map_err(|error| named(error.to_string()))?;
        let all = Certificate::stack_from_pem(&pem).map_err(|error| named(error.to_string()))?;
        for certificate in all {
            builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(|error| error.to_string())
}

/// Why there is no connection, and what to do.
fn not_connected(error: &Error, server: &Server) -> (String, &'static str) {
    let why = reason(error);
    let source = error.source();
    let is_tls = source.is_some_and(<dyn std::error::Error>::is::<native_tls::Error>);
    let is_io = source.is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
    if error.as_db_error().is_some() {
        (why, LOGIN)
    } else if is_tls {
        (why, TLS)
    } else if is_io || source.is_none() {
        (why, CONNECT)
    } else if server.password.is_none() {
        (format!("the server asks for a password ({why})"), PASSWORD)
    } else {
        (why, LOGIN)
    }
}

/// An error in the words of the server, where it said something.
fn reason(error: &Error) -> String {
    if let Some(said) = error.as_db_error() {
        let hint = said
            .hint()
            .map_or(String::new(), |hint| format!("; {hint}"));
        return format!("{} ({}){hint}", said.message(), said.code().code());
    }
    if error.is_closed() {
        return "the server closed the connection".into();
    }
    match error.source() {
        Some(source) if source.is::<native_tls::Error>() => format!("TLS: {source}"),
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
