//! Where a server is and how to log in, from `url` and the options beside it.
//!
//! What is wrong with a `url` is said without showing it: a password may stand in it.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::NAME;
use crate::{ConnectorError, Options, Result};

/// The options of a server.
pub(super) const KEYS: &[&str] = &[
    "url",
    "user",
    "password",
    "sslmode",
    "sslrootcert",
    "queryTimeout",
];

const EXAMPLE: &str = "a server and its database, such as 'postgres://localhost:5432/shop' or 'jdbc:postgresql://localhost/shop'";

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a query may take unless `queryTimeout` says.
const QUERY: Duration = Duration::from_mins(5);

/// `sslmode`, as in libpq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsMode {
    /// Never.
    Disable,
    /// Where the server can.
    Prefer,
    /// Always; whoever the server is.
    Require,
    /// Always, with a certificate of an authority that is trusted.
    VerifyCa,
    /// Always, with one for this host.
    VerifyFull,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp(String, u16),
    /// The directory of its socket, and the port in the socket's name.
    Unix(PathBuf, u16),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(dir, port) => write!(f, "{}/.s.PGSQL.{port}", dir.display()),
        }
    }
}

/// A server, a database of it, and who logs in.
pub(super) struct Server {
    pub(super) address: Address,
    pub(super) database: String,
    pub(super) user: String,
    pub(super) password: Option<String>,
    pub(super) tls: TlsMode,
    pub(super) root_certificates: Option<PathBuf>,
    pub(super) connect_timeout: Duration,
    /// Zero: none.
    pub(super) query_timeout: Duration,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place())
    }
}

/// The parts of a `url`.
#[derive(Default)]
struct Url {
    user: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    database: Option<String>,
    parameters: Vec<(String, String)>,
    password: Option<String>,
}

impl Url {
    /// `None` where it is none.
    fn parse(url: &str) -> Option<Self> {
        let decode = |text: &str| -> Option<String> {
            let decoded = percent_decode_str(text).decode_utf8().ok()?;
            Some(Cow::into_owned(decoded))
        };
        let rest = url.strip_prefix("jdbc:").unwrap_or(url);
        let rest =
            (rest.strip_prefix("postgresql://")).or_else(|| rest.strip_prefix("postgres://"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let mut parsed = Self::default();
        let host = match authority.rsplit_once('@') {
            None => authority,
            Some((login, host)) => {
                let (user, password) = match login.split_once(':') {
                    Some((user, password)) => (user, Some(password)),
                    None => (login, None),
                };
                parsed.user = Some(decode(user)?);
                parsed.password = password.map(decode).map_or(Some(None), |p| p.map(Some))?;
                host
            }
        };
        let (name, port) = match host.strip_prefix('[') {
            Some(six) => {
                let (name, after) = six.split_once(']')?;
                (name, after.strip_prefix(':'))
            }
            None => match host.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (host, None),
            },
        };
        parsed.host = Some(decode(name)?).filter(|name| !name.is_empty());
        parsed.port = port.map(str::parse).transpose().ok()?;
        parsed.database = Some(decode(database)?).filter(|name| !name.is_empty());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=')?;
            parsed.parameters.push((decode(name)?, decode(value)?));
        }
        Some(parsed)
    }
}

impl Server {
    pub(super) fn new(options: &Options) -> Result<Self> {
        let written = options.require(NAME, "url", EXAMPLE)?;
        let bad = |what: &str, expected: &str| {
            ConnectorError::Schema(format!("option 'url' {what}: expected {expected}"))
        };
        let url = Url::parse(written).ok_or_else(|| bad("cannot be read as a URL", EXAMPLE))?;
        let mut server = Self {
            address: Address::Tcp(String::new(), 0),
            database: String::new(),
            user: url.user.unwrap_or_default(),
            password: url.password,
            tls: TlsMode::Prefer,
            root_certificates: None,
            connect_timeout: CONNECT,
            query_timeout: QUERY,
        };
        let (mut host, mut port, mut database) = (url.host, url.port, url.database);
        for (name, value) in url.parameters {
            match name.as_str() {
                "host" => host = Some(value),
                "port" => {
                    let parsed = value.parse();
                    port = Some(parsed.map_err(|_| bad("has a bad 'port'", "a number"))?);
                }
                "dbname" => database = Some(value),
                "user" => server.user = value,
                "password" => server.password = Some(value),
                "sslmode" => {
                    server.tls = tls_mode(&value).ok_or_else(|| bad("has a bad 'sslmode'", TLS))?;
                }
                "sslrootcert" => server.root_certificates = Some(value.into()),
                "connect_timeout" | "connectTimeout" => {
                    let seconds = value.parse();
                    let seconds = seconds.map_err(|_| bad("has a bad time", "whole seconds"))?;
                    server.connect_timeout = Duration::from_secs(std::cmp::max(seconds, 1));
                }
                other => {
                    let known =
                        "host, port, dbname, user, password, sslmode, sslrootcert, connect_timeout";
                    return Err(bad(&format!("has the unknown parameter '{other}'"), known));
                }
            }
        }
        if let Some(user) = options.get("user") {
            user.clone_into(&mut server.user);
        }
        if let Some(password) = options.get("password") {
            server.password = Some(password.to_owned());
        }
        if let Some(mode) = options.get("sslmode") {
            server.tls = tls_mode(mode).ok_or_else(|| options.bad("sslmode", TLS.into()))?;
        }
        if let Some(path) = options.get("sslrootcert") {
            server.root_certificates = Some(path.into());
        }
        if let Some(seconds) = options.integer("queryTimeout", 0)? {
            server.query_timeout = Duration::from_secs(seconds);
        }
        if server.user.is_empty() {
            return Err(ConnectorError::MissingOption {
                connector: NAME.into(),
                key: "user".into(),
                remedy: "who logs in".into(),
            });
        }
        let (host, port) = (
            host.unwrap_or_else(|| "localhost".into()),
            port.unwrap_or(5432),
        );
        server.address = if host.starts_with('/') {
            Address::Unix(host.into(), port)
        } else if host.contains(',') {
            return Err(bad("names several servers", EXAMPLE));
        } else {
            Address::Tcp(host, port)
        };
        server.database = database.unwrap_or_else(|| server.user.clone());
        Ok(server)
    }

    /// For people.
    pub(super) fn place(&self) -> String {
        format!("{}/{}", self.address, self.database)
    }
}

const TLS: &str = "disable, prefer, require, verify-ca or verify-full";

fn tls_mode(text: &str) -> Option<TlsMode> {
    Some(match text {
        "disable" => TlsMode::Disable,
        "prefer" => TlsMode::Prefer,
        "require" => TlsMode::Require,
        "verify-ca" => TlsMode::VerifyCa,
        "verify-full" => TlsMode::VerifyFull,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(pairs: &[(&str, &str)]) -> Result<Server> {
        Server::new(&pairs.iter().copied().collect())
    }

    #[test]
    fn urls_in_all_their_spellings() {
        let plain = server(&[(
            "url",
            "postgres://ada:p%40w@db.example:6000/shop?sslmode=require",
        )]);
        let plain = plain.expect("a server");
        assert_eq!(plain.address, Address::Tcp("db.example".into(), 6000));
        assert_eq!(
            (plain.database.as_str(), plain.user.as_str(), plain.tls),
            ("shop", "ada", TlsMode::Require)
        );
        assert_eq!(plain.password.as_deref(), Some("p@w"));
        let java = server(&[
            (
                "url",
                "jdbc:postgresql://[::1]/shop?user=ada&password=a%26b",
            ),
            ("password", "other"),
        ]);
        let java = java.expect("a server");
        assert_eq!(java.address, Address::Tcp("::1".into(), 5432));
        assert_eq!(java.password.as_deref(), Some("other"));
        let socket = server(&[("url", "postgres:///?host=/run/pg&user=ada")]).expect("a server");
        assert_eq!(socket.place(), "/run/pg/.s.PGSQL.5432/ada");
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_its_password() {
        for url in [
            "mysql://ada:hunter2@h/d",
            "postgres://ada:hunter2@h:port/d",
            "postgres://ada:hunter2@h/d?sslmode=maybe",
            "postgres://ada:hunter2@h/d?pasword=hunter2",
            "postgres://ada:hunter2@h,i/d",
            "postgres://:hunter2@h/d",
        ] {
            let error = server(&[("url", url)]).expect_err("refused").to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_server_shows_no_password() {
        let server = server(&[("url", "postgres://ada:hunter2@h/d")]).expect("a server");
        assert!(!format!("{server:?} {}", server.place()).contains("hunter2"));
    }
}
