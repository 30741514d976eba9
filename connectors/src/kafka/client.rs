//! Clients that remember what went wrong, and errors that say what to do.
//!
//! librdkafka retries by itself and tells of trouble on the side: a wrong password shows as a
//! request that is never answered. [`Watch`] keeps what it tells, so that whoever waits can say
//! why, and can stop at once where waiting is no use.

use std::error::Error;
use std::ops::Deref;
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, ProducerContext};

use super::ClientOptions;
use super::acks::Acks;
use super::config::TOKEN_FILE;
use crate::{ConnectorError, Result};

/// How long the first answer may take: whoever waits is told within ten seconds.
pub(crate) const FIRST_ANSWER: Duration = Duration::from_secs(9);

/// How long one try of a request takes at most.
pub(crate) const TRY: Duration = Duration::from_secs(3);

/// The same of the first request of a client: what is wrong with its options shows soon.
const FIRST_TRY: Duration = Duration::from_millis(500);

/// For how long the token of OAUTHBEARER is used before its file is read again.
const TOKEN: Duration = Duration::from_mins(1);

/// A consumer whose troubles are remembered.
pub(crate) type Consumer = BaseConsumer<Watch>;

/// How long the end of a client is waited for.
const END: Duration = Duration::from_secs(3);

/// A client whose end is not waited for where that takes long: one that has told its group something
/// waits for the answer as long as brokers are away. It then ends by itself when they are back.
pub(crate) struct Ending<C: Send + 'static>(Option<C>);

impl<C: Send + 'static> Ending<C> {
    pub(crate) fn new(client: C) -> Self {
        Self(Some(client))
    }
}

impl<C: Send + 'static> Deref for Ending<C> {
    type Target = C;

    fn deref(&self) -> &C {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl<C: Send + 'static> Drop for Ending<C> {
    fn drop(&mut self) {
        let client = self.0.take();
        let (ended, end) = channel();
        let ending = std::thread::Builder::new().spawn(move || {
            drop(client);
            // Whoever waited may have gone on.
            let _ = ended.send(());
        });
        if ending.is_ok() {
            let _ = end.recv_timeout(END);
        }
    }
}

/// What a client told of its troubles.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    troubles: Mutex<Troubles>,
    /// Which records of a producer have arrived, where they are counted.
    pub(crate) acks: Acks,
}

#[derive(Clone, Debug, Default)]
struct Troubles {
    /// What no waiting will cure.
    lasting: Option<(RDKafkaErrorCode, String)>,
    last: Option<(RDKafkaErrorCode, String)>,
    /// The first record that the brokers did not take.
    undelivered: Option<(RDKafkaErrorCode, String)>,
}

impl Watch {
    fn troubles(&self) -> std::sync::MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What no waiting will cure.
    pub(crate) fn lasting(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.troubles().lasting.clone()
    }

    /// What was told so far is over.
    pub(crate) fn forget(&self) {
        *self.troubles() = Troubles::default();
    }

    /// The last trouble of any kind.
    pub(crate) fn last(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.troubles().last.clone()
    }

    /// The first record that the brokers did not take.
    pub(crate) fn undelivered(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.troubles().undelivered.clone()
    }
}

impl ClientContext for Watch {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    /// What is in the token's file now: whoever put it there renews it in time.
    fn generate_oauth_token(&self, file: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let Some(file) = file else {
            return Err(format!("write 'kafka.{TOKEN_FILE}' = 'file:///PATH/OF/TOKEN'").into());
        };
        let token = std::fs::read_to_string(file)
            .map_err(|error| format!("cannot read the token in {file}: {error}"))?;
        let until = SystemTime::now().duration_since(UNIX_EPOCH)? + TOKEN;
        Ok(OAuthToken {
            token: token.trim().to_owned(),
            // The brokers take the user from the token.
            principal_name: "tidemark".into(),
            lifetime_ms: i64::try_from(until.as_millis())?,
        })
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else {
            return;
        };
        if code == RDKafkaErrorCode::PartitionEOF {
            return;
        }
        // With TLS 1.3 brokers refuse a certificate after the handshake: to librdkafka an answer that
        // does not come.
        let refused = reason.contains("SSL alert number");
        let code = if refused { RDKafkaErrorCode::SSL } else { code };
        let mut troubles = self.troubles();
        if is_lasting(code) {
            troubles.lasting.get_or_insert((code, reason.to_owned()));
        }
        // That no broker is up is what follows from the reason before it.
        if code != RDKafkaErrorCode::AllBrokersDown || troubles.last.is_none() {
            troubles.last = Some((code, reason.to_owned()));
        }
    }

    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {
        // What matters comes as an error, and a library does not write to the terminal.
    }
}

impl ConsumerContext for Watch {}

impl ProducerContext for Watch {
    /// See [`Acks`].
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, epoch: usize) {
        self.acks.arrived(epoch);
        if let Err((error, message)) = result {
            use rdkafka::Message as _;
            let code = error
                .rdkafka_error_code()
                .unwrap_or(RDKafkaErrorCode::Unknown);
            let place = message.topic().to_owned();
            self.troubles().undelivered.get_or_insert((code, place));
        }
    }
}

/// Whether trying again is no use.
pub(crate) fn is_lasting(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::UnsupportedSASLMechanism
            | RDKafkaErrorCode::IllegalSASLState
            | RDKafkaErrorCode::SSL
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
    )
}

/// Whether a topic or partition is not known to the brokers.
pub(crate) fn is_unknown(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownPartition
    )
}

/// What to do about an error.
fn remedy(code: Option<RDKafkaErrorCode>) -> &'static str {
    match code {
        Some(
            RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::UnsupportedSASLMechanism
            | RDKafkaErrorCode::IllegalSASLState,
        ) => {
            "Check 'kafka.security.protocol', 'kafka.sasl.mechanism', 'kafka.sasl.username' and 'kafka.sasl.password' (or the token of OAUTHBEARER)"
        }
        Some(RDKafkaErrorCode::SSL) => {
            "Check 'kafka.ssl.ca.location' (the CA that signed the brokers' certificates), 'kafka.ssl.certificate.location' and the names and dates in the certificates"
        }
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
            "Give the user the right to read (a source) or write (a sink) and describe the topic"
        }
        Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {
            "Give the user the right to read the consumer group, or name another one with 'groupIdPrefix' (a source) or 'transactionalIdPrefix' (a sink)"
        }
        Some(
            RDKafkaErrorCode::TransactionalIdAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed,
        ) => {
            "Give the user the right to write the transactional id, name another one with 'transactionalIdPrefix', or write 'deliveryGuarantee' = 'at-least-once'"
        }
        Some(code) if is_unknown(code) => "Create the topic, or correct its name",
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
            "Raise 'kafka.message.max.bytes' and the topic's max.message.bytes, or write smaller rows"
        }
        Some(RDKafkaErrorCode::InvalidTransactionTimeout) => {
            "Set 'kafka.transaction.timeout.ms' to at most the brokers' transaction.max.timeout.ms"
        }
        Some(
            RDKafkaErrorCode::Fenced
            | RDKafkaErrorCode::ProducerFenced
            | RDKafkaErrorCode::InvalidProducerEpoch,
        ) => {
            "Let only one instance of the query run; where no other runs, an epoch took longer than 'kafka.transaction.timeout.ms': raise it"
        }
        _ => "Check that the brokers run and can be reached under the names that they advertise",
    }
}

/// An error of `action` ("cannot read web-events-0@17").
pub(crate) fn broker_error(
    options: &ClientOptions,
    action: impl Into<String>,
    code: Option<RDKafkaErrorCode>,
    reason: impl Into<String>,
) -> ConnectorError {
    ConnectorError::Broker {
        action: action.into(),
        servers: options.servers().to_owned(),
        reason: reason.into(),
        remedy: remedy(code).into(),
    }
}

/// A client of either kind with a watch.
pub(crate) trait Client: FromClientConfigAndContext<Watch> {
    /// Serves what waits for the client: its errors end up in its [`Watch`].
    fn serve(&self);
}

impl Client for Consumer {
    fn serve(&self) {
        const MOST: usize = 100;
        for _ in 0..MOST {
            if self.poll(Duration::ZERO).is_none() {
                return;
            }
        }
    }
}

impl Client for BaseProducer<Watch> {
    fn serve(&self) {
        // Each serves one thing, and does not say whether there was one.
        const SOME: usize = 10;
        for _ in 0..SOME {
            self.poll(Duration::ZERO);
        }
    }
}

/// Makes a client.
pub(crate) fn create<C: Client>(
    options: &ClientOptions,
    config: &rdkafka::ClientConfig,
) -> Result<C> {
    // What is logged comes as an error too, and would have to be served before it.
    let mut config = config.clone();
    config.set_log_level(RDKafkaLogLevel::Emerg);
    let client: C = config
        .create_with_context(Watch::default())
        .map_err(|error| {
            let reason = match &error {
                KafkaError::ClientCreation(reason) => reason.clone(),
                // Its other form shows the value.
                KafkaError::ClientConfig(_, _, name, _) => format!("the value of 'kafka.{name}'"),
                other => other.to_string(),
            };
            ConnectorError::Broker {
                action: "cannot make a client".into(),
                servers: options.servers().to_owned(),
                reason,
                remedy: "Correct the 'kafka.*' options".into(),
            }
        })?;
    // The first token is asked for at once.
    client.serve();
    Ok(client)
}

/// How long to put up with brokers that do not answer.
#[derive(Debug)]
pub(crate) struct Patience {
    limit: Duration,
    /// How long to hope that what no waiting cures is over nevertheless: a broker that has just
    /// started may refuse who it does not know yet.
    hope: Duration,
    /// Since when nothing works; at first, since it is tried.
    since: Option<Instant>,
    /// Nothing has been tried yet.
    first: bool,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            hope: Duration::ZERO,
            since: Some(Instant::now()),
            first: true,
        }
    }

    /// How long the next try may take.
    pub(crate) fn next_try(&self) -> Duration {
        if self.first { FIRST_TRY } else { TRY }
    }

    /// Something worked.
    pub(crate) fn renew(&mut self, limit: Duration, watch: &Watch) {
        self.since = None;
        watch.forget();
        self.limit = limit;
        self.hope = FIRST_ANSWER;
        self.first = false;
    }

    /// Something did not work: an error where it is no use to try again, or has been tried for
    /// long enough.
    pub(crate) fn test(
        &mut self,
        options: &ClientOptions,
        watch: &Watch,
        action: &str,
        error: &KafkaError,
    ) -> Result<()> {
        let tried = self.since.get_or_insert_with(Instant::now).elapsed();
        self.first = false;
        let code = error.rdkafka_error_code();
        if tried >= self.hope {
            if let Some((code, reason)) = watch.lasting() {
                return Err(broker_error(options, action, Some(code), reason));
            }
            if code.is_some_and(is_lasting) {
                return Err(broker_error(options, action, code, error.to_string()));
            }
        }
        if tried + TRY < self.limit {
            return Ok(());
        }
        let waited = tried.as_secs();
        let reason = match watch.last() {
            Some((_, last)) => format!("{error}; {last} (tried for {waited} s)"),
            None => format!("{error} (tried for {waited} s)"),
        };
        Err(broker_error(options, action, code, reason))
    }
}
