//! A real Apache Kafka on the loopback interface for tests, or librdkafka's mock cluster where
//! there is none.
//!
//! `get.sh` brings the broker's files. A node is a child of the test process, by way of a shell that
//! kills it when the test process is gone, however it went.

use std::fmt::Write as _;
use std::fs;
use std::future::Future;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};
use tempfile::TempDir;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Any id will do: every cluster has a directory of its own.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";

/// Brokers to test against.
pub(crate) enum Kafka {
    /// Apache Kafka.
    Real(Box<Cluster>),
    /// librdkafka's own, in this process.
    Mock {
        /// Where it listens.
        servers: String,
        /// Has its thread create topics.
        topics: Mutex<Sender<(String, i32)>>,
    },
}

impl Kafka {
    /// One node for all tests of this program that do not harm it.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(|| match libraries() {
            Some(_) => Self::Real(Box::new(Cluster::start_as(1, false, true))),
            None => {
                say("Apache Kafka is not here (see connectors/tests/kafka/get.sh): these tests run on librdkafka's mock cluster");
                Self::mock()
            }
        })
    }

    fn mock() -> Self {
        let (topics, orders) = channel::<(String, i32)>();
        let (started, ready) = channel();
        std::thread::spawn(move || {
            let cluster = MockCluster::new(3).expect("a mock cluster");
            started.send(cluster.bootstrap_servers()).expect("a test");
            for (name, partitions) in orders {
                let _ = cluster.create_topic(&name, partitions, 1);
            }
        });
        Self::Mock {
            servers: ready.recv().expect("a mock cluster"),
            topics: Mutex::new(topics),
        }
    }

    /// `bootstrap.servers`.
    pub(crate) fn servers(&self) -> String {
        match self {
            Self::Real(cluster) => cluster.servers(),
            Self::Mock { servers, .. } => servers.clone(),
        }
    }

    /// Creates a topic.
    pub(crate) fn create_topic(&self, name: &str, partitions: i32) {
        match self {
            Self::Real(cluster) => cluster.create_topic(name, partitions, &[]),
            Self::Mock { topics, .. } => {
                let topics = topics.lock().unwrap_or_else(PoisonError::into_inner);
                topics.send((name.into(), partitions)).expect("the cluster");
                await_that("the topic", || exists(&self.servers(), name));
            }
        }
    }
}

/// A cluster of this test alone; `None`, and a word about it, where there is no Apache Kafka.
pub(crate) fn cluster(nodes: usize, secure: bool) -> Option<Cluster> {
    if libraries().is_none() {
        say(
            "Apache Kafka is not here (see connectors/tests/kafka/get.sh): a test that needs it is left out",
        );
        return None;
    }
    Some(Cluster::start(nodes, secure))
}

/// On standard error, past the capture of the test harness.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn libraries() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || {
            let here = Path::new(env!("CARGO_MANIFEST_DIR"));
            let root = here
                .ancestors()
                .find(|dir| dir.join("Cargo.lock").exists())
                .unwrap_or(here);
            root.join("target")
        },
        PathBuf::from,
    );
    let kafka = target.join("kafka");
    kafka.join("complete").exists().then(|| kafka.join("libs"))
}

/// Ports of the listeners of a node.
#[derive(Clone, Copy)]
struct Ports {
    plain: u16,
    sasl: u16,
    tls: u16,
    controller: u16,
}

fn free_ports() -> Ports {
    let listeners: Vec<TcpListener> = (0..4)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
        .collect();
    let port = |index: usize| listeners[index].local_addr().expect("an address").port();
    Ports {
        plain: port(0),
        sasl: port(1),
        tls: port(2),
        controller: port(3),
    }
}

/// Nodes of Apache Kafka.
pub(crate) struct Cluster {
    dir: TempDir,
    /// It is never dropped: its shell removes what it leaves.
    shared: bool,
    ports: Vec<Ports>,
    nodes: Mutex<Vec<Option<Child>>>,
}

impl Cluster {
    /// Starts so many nodes, with listeners for TLS and SASL if `secure`.
    pub(crate) fn start(nodes: usize, secure: bool) -> Self {
        Self::start_as(nodes, secure, false)
    }

    fn start_as(nodes: usize, secure: bool, shared: bool) -> Self {
        let cluster = Self {
            dir: tempfile::tempdir().expect("a directory"),
            shared,
            ports: (0..nodes).map(|_| free_ports()).collect(),
            nodes: Mutex::new((0..nodes).map(|_| None).collect()),
        };
        let logging = "rootLogger.level=warn\nrootLogger.appenderRef.c.ref=c\nappender.c.type=Console\nappender.c.name=c\nappender.c.layout.type=PatternLayout\nappender.c.layout.pattern=%d %p %c{1} %m%n\n";
        fs::write(cluster.path("log4j2.properties"), logging).expect("written");
        if secure {
            cluster.certificates();
        }
        for node in 0..nodes {
            let properties = cluster.path(&format!("node{node}.properties"));
            fs::write(&properties, cluster.properties(node, secure)).expect("written");
            let mut format = cluster.java();
            format
                .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
                .arg(&properties);
            if secure {
                format.args([
                    "--add-scram",
                    "SCRAM-SHA-256=[name=bob,password=bob-secret]",
                    "--add-scram",
                    "SCRAM-SHA-512=[name=carol,password=carol-secret]",
                ]);
            }
            let done = format.output().expect("Java runs");
            assert!(done.status.success(), "{done:?}");
        }
        for node in 0..nodes {
            cluster.resume(node);
        }
        cluster.await_ready();
        cluster
    }

    /// A file of the cluster's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `bootstrap.servers` without security.
    pub(crate) fn servers(&self) -> String {
        self.listeners(|ports| ports.plain)
    }

    /// `bootstrap.servers` with `SASL_SSL`.
    pub(crate) fn sasl_servers(&self) -> String {
        self.listeners(|ports| ports.sasl)
    }

    /// `bootstrap.servers` with TLS where the client shows a certificate too.
    pub(crate) fn tls_servers(&self) -> String {
        self.listeners(|ports| ports.tls)
    }

    fn listeners(&self, port: impl Fn(&Ports) -> u16) -> String {
        let all: Vec<String> = self
            .ports
            .iter()
            .map(|ports| format!("localhost:{}", port(ports)))
            .collect();
        all.join(",")
    }

    fn java(&self) -> Command {
        let libraries = libraries().expect("checked before");
        let mut java = Command::new("java");
        java.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg(format!(
                "-Dlog4j2.configurationFile={}",
                self.path("log4j2.properties").display()
            ))
            .arg("-cp")
            .arg(libraries.join("*"));
        java
    }

    /// Starts a node, or starts it again.
    pub(crate) fn resume(&self, node: usize) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path(&format!("node{node}.log")))
            .expect("a log");
        let java = self.java();
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg("\"$@\" </dev/null & node=$!; cat >/dev/null; kill -9 $node; wait $node; rm -rf \"$REMOVE\"")
            .env("REMOVE", if self.shared { self.dir.path() } else { Path::new("") })
            .arg("sh")
            .arg(java.get_program())
            .args(java.get_args())
            .arg("kafka.Kafka")
            .arg(self.path(&format!("node{node}.properties")))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log);
        let child = shell.spawn().expect("a shell");
        self.nodes()[node] = Some(child);
    }

    /// Kills a node, as kill -9 does.
    pub(crate) fn kill(&self, node: usize) {
        let child = self.nodes()[node].take();
        if let Some(mut child) = child {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }

    fn nodes(&self) -> std::sync::MutexGuard<'_, Vec<Option<Child>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all nodes take connections and have a controller.
    pub(crate) fn await_ready(&self) {
        for ports in &self.ports {
            await_that("a node", || {
                TcpStream::connect(("127.0.0.1", ports.plain)).is_ok()
            });
        }
        let client: BaseConsumer = config(&self.servers()).create().expect("a client");
        await_that("the cluster", || {
            let metadata = client.fetch_metadata(None, Duration::from_secs(1));
            metadata.is_ok_and(|metadata| metadata.brokers().len() == self.ports.len())
        });
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        config(&self.servers()).create().expect("a client")
    }

    /// Creates a topic with settings of its own, replicated to all nodes.
    pub(crate) fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let replicas = TopicReplication::Fixed(self.ports.len() as i32);
        let mut topic = NewTopic::new(name, partitions, replicas);
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let created = block_on(self.admin().create_topics(&[topic], &AdminOptions::new()));
        created.expect("an answer")[0].clone().expect("created");
        await_that("the topic", || exists(&self.servers(), name));
    }

    /// Deletes a topic and waits until it is gone.
    pub(crate) fn delete_topic(&self, name: &str) {
        let deleted = block_on(self.admin().delete_topics(&[name], &AdminOptions::new()));
        deleted.expect("an answer")[0].clone().expect("deleted");
        await_that("the topic to go", || !exists(&self.servers(), name));
    }

    /// Gives a topic more partitions.
    pub(crate) fn add_partitions(&self, name: &str, partitions: usize) {
        let more = NewPartitions::new(name, partitions);
        let done = block_on(
            self.admin()
                .create_partitions([&more], &AdminOptions::new()),
        );
        done.expect("an answer")[0].clone().expect("created");
    }

    /// Deletes the records of a partition before an offset, as retention does.
    pub(crate) fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before))
            .expect("an offset");
        block_on(self.admin().delete_records(&list, &AdminOptions::new())).expect("deleted");
    }

    fn properties(&self, node: usize, secure: bool) -> String {
        let Ports {
            plain,
            sasl,
            tls,
            controller,
        } = self.ports[node];
        let voters: Vec<String> = (1..)
            .zip(&self.ports)
            .map(|(id, ports)| format!("{id}@127.0.0.1:{}", ports.controller))
            .collect();
        let id = node + 1;
        let replicas = self.ports.len();
        let in_sync = replicas.min(2);
        let secured = if secure {
            format!(",SASL_SSL://127.0.0.1:{sasl},SSL://127.0.0.1:{tls}")
        } else {
            String::new()
        };
        let mut text = format!(
            "process.roles=broker,controller\n\
             node.id={id}\n\
             controller.quorum.voters={}\n\
             controller.listener.names=CONTROLLER\n\
             listeners=PLAINTEXT://127.0.0.1:{plain}{secured},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{plain}{secured}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL,CONTROLLER:PLAINTEXT\n\
             inter.broker.listener.name=PLAINTEXT\n\
             log.dirs={}\n\
             auto.create.topics.enable=false\n\
             default.replication.factor={replicas}\n\
             min.insync.replicas={in_sync}\n\
             offsets.topic.replication.factor={replicas}\n\
             offsets.topic.num.partitions=4\n\
             transaction.state.log.replication.factor={replicas}\n\
             transaction.state.log.min.isr={in_sync}\n\
             transaction.state.log.num.partitions=4\n\
             group.initial.rebalance.delay.ms=0\n\
             log.cleaner.enable=true\n\
             log.cleaner.backoff.ms=100\n",
            voters.join(","),
            self.path(&format!("node{node}")).display(),
        );
        if secure {
            let dir = self.dir.path().display();
            let _ = write!(
                text,
                "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
                 ssl.keystore.type=PKCS12\n\
                 ssl.keystore.location={dir}/broker.p12\n\
                 ssl.keystore.password=secret\n\
                 ssl.truststore.type=PEM\n\
                 ssl.truststore.location={dir}/ca.pem\n\
                 listener.name.ssl.ssl.client.auth=required\n\
                 authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
                 super.users=User:ANONYMOUS;User:alice;User:bob;User:CN=client\n\
                 listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_alice=\"alice-secret\" user_dave=\"dave-secret\";\n\
                 listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
                 listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;\n"
            );
        }
        text
    }

    /// A CA, a certificate of the brokers and one of a client; and a CA that signed none of them.
    fn certificates(&self) {
        let script = "set -e
            ca() { openssl req -x509 -newkey rsa:2048 -nodes -keyout $1.key -out $1.pem -days 30 -subj /CN=$1; }
            signed() {
                openssl req -newkey rsa:2048 -nodes -keyout $1.key -out $1.csr -subj /CN=$1
                echo subjectAltName=DNS:localhost,IP:127.0.0.1 >$1.ext
                openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -out $1.pem -extfile $1.ext
            }
            ca ca; ca foreign; signed broker; signed client
            openssl pkcs12 -export -in broker.pem -inkey broker.key -certfile ca.pem -name broker -out broker.p12 -passout pass:secret";
        let done = Command::new("sh")
            .args(["-c", script])
            .current_dir(self.dir.path())
            .output()
            .expect("openssl runs");
        assert!(done.status.success(), "{done:?}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in 0..self.ports.len() {
            self.kill(node);
        }
    }
}

/// A configuration of a client without security.
pub(crate) fn config(servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", servers)
        .set("group.id", "test");
    config
}

fn exists(servers: &str, topic: &str) -> bool {
    let client: BaseConsumer = config(servers).create().expect("a client");
    let metadata = client.fetch_metadata(Some(topic), Duration::from_secs(5));
    metadata.is_ok_and(|metadata| {
        metadata.topics().iter().any(|topic| {
            topic.error().is_none()
                && !topic.partitions().is_empty()
                && topic.partitions().iter().all(|p| p.leader() >= 0)
        })
    })
}

/// Looks again and again until it is so.
pub(crate) fn await_that(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Records for a partition: key and value.
pub(crate) fn produce(
    servers: &str,
    topic: &str,
    partition: i32,
    records: &[(Option<&str>, Option<&str>)],
) {
    let producer: BaseProducer = config(servers).create().expect("a producer");
    for (key, value) in records {
        let mut record = BaseRecord::<str, str>::to(topic).partition(partition);
        if let Some(key) = key {
            record = record.key(*key);
        }
        if let Some(value) = value {
            record = record.payload(*value);
        }
        producer
            .send(record)
            .map_err(|(error, _)| error)
            .expect("queued");
    }
    producer.flush(PATIENCE).expect("delivered");
}

/// Values for a partition.
pub(crate) fn produce_values(servers: &str, topic: &str, partition: i32, values: &[&str]) {
    let records: Vec<_> = values.iter().map(|value| (None, Some(*value))).collect();
    produce(servers, topic, partition, &records);
}

/// Everything that a `read_committed` consumer finds in a topic, by partition: key and value.
pub(crate) fn consume(servers: &str, topic: &str) -> Vec<(Option<String>, Option<String>)> {
    let consumer: BaseConsumer = config(servers)
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()
        .expect("a consumer");
    let metadata = consumer
        .fetch_metadata(Some(topic), PATIENCE)
        .expect("metadata");
    let partitions = metadata.topics()[0].partitions().len();
    let mut found = vec![];
    for partition in 0..partitions as i32 {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Beginning)
            .expect("an offset");
        consumer.assign(&list).expect("assigned");
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < PATIENCE, "cannot read {topic}");
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    found.push((message.key().map(text), message.payload().map(text)));
                }
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(ended)))
                    if ended == partition =>
                {
                    break;
                }
                _ => {}
            }
        }
    }
    found
}

/// Runs a future to its end.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
