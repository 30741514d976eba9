//! `kafka.*` options as librdkafka's configuration.
//!
//! Names that both clients know go through as they are. Names of the Java client alone are
//! translated where librdkafka has the same under another name, and refused where it has not, with
//! what to write instead: an option that is silently ignored is worse than one that is refused.

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

use crate::{ConnectorError, Options, Result};

/// What a client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Consumer,
    Producer,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Producer => "producer",
        }
    }
}

/// The configuration of every client of one source or sink.
#[derive(Clone)]
pub(crate) struct ClientOptions {
    config: ClientConfig,
    servers: String,
}

impl std::fmt::Debug for ClientOptions {
    /// Without the configuration, which holds passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientOptions")
            .field("servers", &self.servers)
            .finish_non_exhaustive()
    }
}

/// How the properties begin that say where the brokers are and who asks: those of every client.
const SHARED: &[&str] = &[
    "bootstrap.servers",
    "metadata.broker.list",
    "client.",
    "broker.",
    "security.",
    "sasl",
    "ssl",
    "enable.ssl",
    "enable.sasl",
    "socket.",
    "reconnect.",
    "debug",
];

/// Says where the token of OAUTHBEARER is.
pub(super) const TOKEN_FILE: &str = "sasl.oauthbearer.token.endpoint.url";

/// What becomes of a name of the Java client.
enum Java {
    /// librdkafka's name for the same.
    Named(&'static str),
    /// It says what is so anyway.
    Implied,
    /// What to write instead.
    Refused(&'static str),
}

/// Names that only the Java client has.
fn java_name(name: &str, role: Role) -> Option<Java> {
    Some(match name {
        "fetch.max.wait.ms" => Java::Named("fetch.wait.max.ms"),
        "receive.buffer.bytes" => Java::Named("socket.receive.buffer.bytes"),
        "send.buffer.bytes" => Java::Named("socket.send.buffer.bytes"),
        "max.request.size" => Java::Named("message.max.bytes"),
        "request.timeout.ms" if role == Role::Consumer => Java::Named("socket.timeout.ms"),
        "ssl.truststore.certificates" => Java::Named("ssl.ca.pem"),
        "ssl.keystore.key" => Java::Named("ssl.key.pem"),
        "ssl.keystore.certificate.chain" => Java::Named("ssl.certificate.pem"),
        "key.deserializer" | "value.deserializer" | "key.serializer" | "value.serializer" => {
            Java::Refused("keys and values are bytes here; write 'format' to have them decoded")
        }
        "auto.offset.reset" => Java::Refused("write 'startingOffsets' = 'earliest' or 'latest'"),
        "enable.auto.commit" | "enable.auto.offset.store" | "auto.commit.interval.ms" => {
            Java::Refused(
                "offsets belong to the checkpoint, and the group gets them after each commit",
            )
        }
        "max.poll.records" => Java::Refused("write 'maxOffsetsPerTrigger'"),
        "interceptor.classes" => Java::Refused("there is no Java here: leave it out"),
        "partitioner.class" => Java::Refused(
            "write 'kafka.partitioner' = 'murmur2_random' (Java's default, and the one here) or another of librdkafka's",
        ),
        "buffer.memory" => Java::Refused("write 'kafka.queue.buffering.max.kbytes', in KiB"),
        "max.block.ms" | "default.api.timeout.ms" => {
            Java::Refused("write 'kafka.socket.timeout.ms'")
        }
        "ssl.protocol" | "ssl.enabled.protocols" => {
            Java::Refused("TLS 1.2 and 1.3 are used: leave it out")
        }
        "transactional.id" => Java::Refused(
            "it is made of 'transactionalIdPrefix' and the query's id, so that no two queries share one",
        ),
        "group.id" if role == Role::Producer => {
            Java::Refused("a sink has no group: it belongs to a source")
        }
        _ if name.starts_with("sasl.login.") || name.ends_with("callback.handler.class") => {
            Java::Refused(
                "there is no Java here: write 'kafka.sasl.username' and 'kafka.sasl.password', or for OAUTHBEARER 'kafka.sasl.oauthbearer.token.endpoint.url' = 'file:///PATH/OF/TOKEN'",
            )
        }
        _ if name != TOKEN_FILE && name.contains("oauthbearer") => Java::Refused(
            "tokens are not fetched here: let a helper keep a valid one in a file and write 'kafka.sasl.oauthbearer.token.endpoint.url' = 'file:///PATH/OF/TOKEN'",
        ),
        "security.providers"
        | "ssl.provider"
        | "ssl.trustmanager.algorithm"
        | "ssl.keymanager.algorithm"
        | "metric.reporters" => Java::Implied,
        _ => return None,
    })
}

/// Whether the value of a property is to be kept out of every message.
fn is_secret(name: &str) -> bool {
    [
        "password",
        "secret",
        "jaas",
        "token",
        "key.pem",
        "keystore.key",
        "oauthbearer",
    ]
    .iter()
    .any(|part| name.contains(part))
}

impl ClientOptions {
    /// Takes the `kafka.*` options out of a table's; all others are the caller's.
    pub(crate) fn new(options: &Options, role: Role) -> Result<Self> {
        let servers = options
            .require(
                "kafka",
                "kafka.bootstrap.servers",
                "write the brokers to begin with, such as 'host1:9092,host2:9092'",
            )?
            .to_owned();
        let mut this = Self {
            config: defaults(role),
            servers,
        };
        for (key, value) in options.iter() {
            let lower = key.to_ascii_lowercase();
            let Some(name) = lower.strip_prefix("kafka.") else {
                continue;
            };
            let name = match name.split_once('.') {
                Some(("consumer" | "producer", rest)) => {
                    if !name.starts_with(role.name()) {
                        return Err(refused(key, role, "it belongs to the other end of a query"));
                    }
                    rest
                }
                _ => name,
            };
            this.set(options, key, name, value, role)?;
        }
        this.config
            .create_native_config()
            .map_err(|error| native_error(options, &error))?;
        Ok(this)
    }

    fn set(
        &mut self,
        options: &Options,
        key: &str,
        name: &str,
        value: &str,
        role: Role,
    ) -> Result<()> {
        let config = &mut self.config;
        match java_name(name, role) {
            Some(Java::Named(own)) => _ = config.set(own, value),
            Some(Java::Implied) => {}
            Some(Java::Refused(instead)) => return Err(refused(key, role, instead)),
            None => match name {
                // As librdkafka hands it to whoever gets the token.
                TOKEN_FILE => match value.strip_prefix("file://") {
                    Some(path) if path.starts_with('/') => {
                        config.set("sasl.oauthbearer.config", path);
                    }
                    _ => {
                        return Err(refused(
                            key,
                            role,
                            "tokens are not fetched here: let a helper keep a valid one in a file and write 'file:///PATH/OF/TOKEN'",
                        ));
                    }
                },
                // Where the token is, another option says.
                "sasl.jaas.config" if value.contains("OAuthBearerLoginModule") => {}
                "sasl.jaas.config" => {
                    let (user, password) = jaas_login(value).ok_or_else(|| {
                        refused(key, role, "only the login modules of PLAIN and SCRAM with username=\"...\" and password=\"...\" have a meaning here: write 'kafka.sasl.username' and 'kafka.sasl.password'")
                    })?;
                    config.set("sasl.username", user);
                    config.set("sasl.password", password);
                }
                "ssl.truststore.location" => {
                    if !is_pem(options, "kafka.ssl.truststore.type", value) {
                        return Err(refused(
                            key,
                            role,
                            "a Java key store cannot be read: export its certificates as PEM and write 'kafka.ssl.ca.location'",
                        ));
                    }
                    config.set("ssl.ca.location", value);
                }
                "ssl.keystore.location" if is_pem(options, "kafka.ssl.keystore.type", value) => {
                    config.set("ssl.certificate.location", value);
                    config.set("ssl.key.location", value);
                }
                "ssl.keystore.type" | "ssl.truststore.type" => {
                    if value.eq_ignore_ascii_case("jks") {
                        return Err(refused(
                            key,
                            role,
                            "a Java key store cannot be read: convert it with `keytool -importkeystore -deststoretype PKCS12`, or to PEM",
                        ));
                    }
                }
                "ssl.truststore.password" => {
                    return Err(refused(
                        key,
                        role,
                        "certificates to trust need no password: write 'kafka.ssl.ca.location' = 'FILE.pem'",
                    ));
                }
                // Java's way to say "none".
                "ssl.endpoint.identification.algorithm" if value.trim().is_empty() => {
                    config.set(name, "none");
                }
                _ => _ = config.set(name, value),
            },
        }
        Ok(())
    }

    /// The configuration of a client.
    pub(crate) fn config(&self) -> ClientConfig {
        self.config.clone()
    }

    /// Of a producer's: the configuration of a consumer of the same brokers.
    pub(crate) fn as_consumer(&self) -> ClientConfig {
        let mut config = defaults(Role::Consumer);
        let shared = |name: &str| SHARED.iter().any(|prefix| name.starts_with(prefix));
        for name in self
            .config
            .config_map()
            .into_keys()
            .filter(|name| shared(name))
        {
            // The map shows no passwords.
            if let Some(value) = self.config.get(name) {
                config.set(name, value);
            }
        }
        config
    }

    /// The value of a property, where the user or a default has set it.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.config.get(name)
    }

    /// The brokers, for messages.
    pub(crate) fn servers(&self) -> &str {
        &self.servers
    }
}

/// Where librdkafka's own defaults do not fit; the user's values replace these.
fn defaults(role: Role) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("client.id", "tidemark")
        // A broker that comes back is noticed within a second.
        .set("reconnect.backoff.max.ms", "1000");
    match role {
        Role::Consumer => config
            // The end of a range that holds only markers of transactions shows as late as this.
            .set("fetch.wait.max.ms", "100")
            .set("fetch.queue.backoff.ms", "10")
            .set("fetch.error.backoff.ms", "100")
            // Of each partition.
            .set("queued.max.messages.kbytes", "8192"),
        Role::Producer => config
            .set("enable.idempotence", "true")
            .set("queue.buffering.max.messages", "1000000")
            .set("queue.buffering.max.kbytes", "131072")
            // Where Java's clients put a key.
            .set("partitioner", "murmur2_random"),
    };
    config
}

fn refused(key: &str, role: Role, instead: &str) -> ConnectorError {
    ConnectorError::OptionRefused {
        connector: format!("kafka {}", role.name()),
        key: key.into(),
        instead: instead.into(),
    }
}

/// `username` and `password` of a JAAS configuration.
fn jaas_login(text: &str) -> Option<(String, String)> {
    if !text.contains("PlainLoginModule") && !text.contains("ScramLoginModule") {
        return None;
    }
    let value = |name: &str| {
        let (_, rest) = text.split_once(&format!("{name}="))?;
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let mut value = String::new();
        let mut letters = rest[1..].chars();
        loop {
            match letters.next()? {
                '\\' => value.push(letters.next()?),
                letter if letter == quote => return Some(value),
                letter => value.push(letter),
            }
        }
    };
    Some((value("username")?, value("password")?))
}

fn is_pem(options: &Options, type_key: &str, path: &str) -> bool {
    match options.get(type_key) {
        Some(kind) => kind.eq_ignore_ascii_case("pem"),
        None => [".pem", ".crt", ".cer"]
            .iter()
            .any(|extension| path.to_ascii_lowercase().ends_with(extension)),
    }
}

/// What librdkafka refuses, by the name of the option.
fn native_error(options: &Options, error: &KafkaError) -> ConnectorError {
    let KafkaError::ClientConfig(kind, reason, name, value) = error else {
        return ConnectorError::Inconsistent(format!("the Kafka client: {error}"));
    };
    let key = options
        .iter()
        .map(|(key, _)| key)
        .find(|key| key.to_ascii_lowercase().ends_with(name.as_str()))
        .map_or_else(|| format!("kafka.{name}"), str::to_owned);
    if *kind == rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN {
        return ConnectorError::OptionRefused {
            connector: "kafka".into(),
            key,
            instead: "librdkafka has no property of this name: leave it out, or correct it by librdkafka's CONFIGURATION.md".into(),
        };
    }
    let (value, expected) = if is_secret(name) {
        ("***".to_owned(), "a value that librdkafka takes".to_owned())
    } else {
        (value.clone(), format!("what librdkafka takes ({reason})"))
    };
    ConnectorError::OptionValue {
        key,
        value,
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<ClientOptions> {
        let all = [("kafka.bootstrap.servers", "h:1")];
        let options: Options = all.iter().chain(pairs).copied().collect();
        ClientOptions::new(&options, Role::Consumer)
    }

    #[test]
    fn names_of_the_java_client_are_translated() {
        let jaas = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"al\" password=\"p\\\"w=;\";";
        let read = read(&[
            ("kafka.sasl.jaas.config", jaas),
            ("kafka.ssl.truststore.location", "ca.pem"),
            ("kafka.consumer.fetch.max.wait.ms", "7"),
            ("kafka.ssl.endpoint.identification.algorithm", ""),
        ])
        .expect("options");
        let expected = [
            ("sasl.username", "al"),
            ("sasl.password", "p\"w=;"),
            ("ssl.ca.location", "ca.pem"),
            ("fetch.wait.max.ms", "7"),
            ("ssl.endpoint.identification.algorithm", "none"),
        ];
        for (name, value) in expected {
            assert_eq!(read.get(name), Some(value), "{name}");
        }
        assert!(!format!("{read:?}").contains("p\"w"));
    }

    #[test]
    fn a_consumer_beside_a_producer_logs_in_as_it_does() {
        let options = [
            ("kafka.bootstrap.servers", "h:1"),
            ("kafka.sasl.password", "hunter2"),
            ("kafka.linger.ms", "7"),
        ];
        let options: Options = options.iter().copied().collect();
        let producer = ClientOptions::new(&options, Role::Producer).expect("options");
        let consumer = producer.as_consumer();
        assert_eq!(consumer.get("sasl.password"), Some("hunter2"));
        assert_eq!(consumer.get("bootstrap.servers"), Some("h:1"));
        assert_eq!(consumer.get("linger.ms"), None);
    }

    #[test]
    fn what_has_no_meaning_is_refused_by_name() {
        let cases = [
            ("kafka.auto.offset.reset", "earliest", "startingOffsets"),
            (
                "kafka.ssl.truststore.location",
                "t.jks",
                "kafka.ssl.ca.location",
            ),
            ("kafka.producer.acks", "1", "other end"),
            ("kafka.no.such.thing", "1", "CONFIGURATION.md"),
            ("kafka.fetch.min.bytes", "many", "fetch.min.bytes"),
            (
                "kafka.sasl.jaas.config",
                "x.Krb5LoginModule required;",
                "kafka.sasl.username",
            ),
        ];
        for (key, value, part) in cases {
            let error = read(&[(key, value)]).expect_err(key).to_string();
            assert!(error.contains(key) && error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_secret_is_in_no_message() {
        let error = read(&[("kafka.sasl.jaas.config", "password=\"hunter2\"")])
            .expect_err("no login module")
            .to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
