//! A real Apache Kafka on the loopback interface for tests, or librdkafka's mock cluster where
//! there is none.
//!
//! `get.sh` brings the broker's files, `setup` what a node is started with, `client` is what tests do. A node is a child of the test process, by way of a shell that
//! kills it when the test process is gone, however it went.

mod client;
mod setup;

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, Once, OnceLock, PoisonError};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use rdkafka::{Offset, TopicPartitionList};
use tempfile::TempDir;

pub(crate) use client::{PATIENCE, await_that, config, consume, produce, produce_values};
use client::{block_on, comes, exists};

/// How long all tests of a program may take together: one that hangs ends it, and its nodes.
const LIMIT: Duration = Duration::from_mins(15);

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
        SHARED.get_or_init(|| {
            if libraries().is_some() {
                return Self::Real(Box::new(Cluster::start(1, false, true)));
            }
            say(
                "Apache Kafka is not here (see connectors/tests/kafka/get.sh): these tests run on librdkafka's mock cluster",
            );
            Self::mock()
        })
    }

    fn mock() -> Self {
        bound();
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
pub(crate) fn cluster(nodes: usize) -> Option<Cluster> {
    is_here().then(|| Cluster::start(nodes, false, false))
}

/// One node with listeners for TLS and SASL, for all tests of this program that do not harm it; `None`
/// as with [`cluster`].
pub(crate) fn secure() -> Option<&'static Cluster> {
    static SECURE: OnceLock<Cluster> = OnceLock::new();
    is_here().then(|| SECURE.get_or_init(|| Cluster::start(1, true, true)))
}

fn is_here() -> bool {
    let here = libraries().is_some();
    if !here {
        say(
            "Apache Kafka is not here (see connectors/tests/kafka/get.sh): a test that needs it is left out",
        );
    }
    here
}

/// On standard error, past the capture of the test harness.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// From the first call on the program has [`LIMIT`].
fn bound() {
    static BOUND: Once = Once::new();
    BOUND.call_once(|| {
        std::thread::spawn(|| {
            std::thread::sleep(LIMIT);
            say("the Kafka tests take too long: a test hangs");
            std::process::exit(1);
        });
    });
}

/// The broker's files, where they and a Java to run them are here.
fn libraries() -> Option<PathBuf> {
    let java = Command::new("java").arg("-version").output();
    if !java.is_ok_and(|java| java.status.success()) {
        return None;
    }
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
    expired: u16,
    controller: u16,
}

/// Ports below those that the system gives to clients: one of these would be lent to a client while
/// its node is down.
fn free_port() -> u16 {
    const FIRST: u16 = 12_000;
    const COUNT: u32 = 20_000;
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU32::new(std::process::id().wrapping_mul(61)));
    (0..COUNT)
        .map(|_| FIRST + (next.fetch_add(1, Ordering::Relaxed) % COUNT) as u16)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

fn free_ports() -> Ports {
    Ports {
        plain: free_port(),
        sasl: free_port(),
        tls: free_port(),
        expired: free_port(),
        controller: free_port(),
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
    /// Starts so many nodes.
    fn start(nodes: usize, secure: bool, shared: bool) -> Self {
        bound();
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
                    "--add-scram",
                    "SCRAM-SHA-512=[name=erin,password=erin-secret]",
                ]);
            }
            let done = format.output().expect("Java runs");
            assert!(done.status.success(), "{done:?}");
        }
        for node in 0..nodes {
            cluster.resume(node);
        }
        cluster.await_ready();
        if secure {
            cluster.await_logins();
        }
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

    /// `bootstrap.servers` with TLS, where the brokers' certificate has expired.
    pub(crate) fn expired_servers(&self) -> String {
        self.listeners(|ports| ports.expired)
    }

    fn listeners(&self, port: impl Fn(&Ports) -> u16) -> String {
        let all: Vec<String> = self
            .ports
            .iter()
            .map(|ports| format!("127.0.0.1:{}", port(ports)))
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
            .arg("trap '' HUP INT TERM; \"$@\" </dev/null & node=$!; cat >/dev/null; kill -9 $node; wait $node; rm -rf \"$REMOVE\"")
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
        for (node, ports) in self.ports.iter().enumerate() {
            let up = comes(|| TcpStream::connect(("127.0.0.1", ports.plain)).is_ok());
            let log = || fs::read_to_string(self.path(&format!("node{node}.log")));
            assert!(up, "node {node} does not start: {:?}", log());
        }
        let client: BaseConsumer = config(&self.servers()).create().expect("a client");
        await_that("the cluster", || {
            let metadata = client.fetch_metadata(None, Duration::from_secs(1));
            metadata.is_ok_and(|metadata| metadata.brokers().len() == self.ports.len())
        });
    }

    /// Gives a user a right, as the options of Kafka's tool say it.
    pub(crate) fn allow(&self, user: &str, right: &[&str]) {
        let mut java = self.java();
        java.args([
            "org.apache.kafka.tools.AclCommand",
            "--add",
            "--bootstrap-server",
        ])
        .arg(self.servers())
        .args(["--allow-principal", &format!("User:{user}")])
        .args(right);
        let done = java.output().expect("Java runs");
        assert!(done.status.success(), "{done:?}");
    }

    /// Waits until the passwords that are not in the properties are known.
    fn await_logins(&self) {
        for (mechanism, user) in [("SCRAM-SHA-256", "bob"), ("SCRAM-SHA-512", "carol")] {
            await_that("a login", || {
                let client: BaseConsumer = config(&self.sasl_servers())
                    .set("security.protocol", "SASL_SSL")
                    .set("ssl.ca.location", self.path("ca.pem").display().to_string())
                    .set("sasl.mechanism", mechanism)
                    .set("sasl.username", user)
                    .set("sasl.password", format!("{user}-secret"))
                    .create()
                    .expect("a client");
                client.fetch_metadata(None, Duration::from_secs(1)).is_ok()
            });
        }
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
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in 0..self.ports.len() {
            self.kill(node);
        }
    }
}
