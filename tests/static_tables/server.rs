//! A real `PostgreSQL` for tests: on a Unix socket and on the loopback interface, in a directory of its own.
//!
//! `get.sh` brings its files. The server is a child of a shell that ends it when the test process is gone, however
//! it went.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Whoever asks over TCP has to say it.
pub(crate) const PASSWORD: &str = "p/w@postgres-secret";

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server that runs.
pub(crate) struct Server {
    dir: TempDir,
    port: u16,
    shell: Child,
}

/// One server for all tests of this program; `None` where there is none.
pub(crate) fn server() -> Option<&'static Server> {
    static SHARED: OnceLock<Option<Server>> = OnceLock::new();
    SHARED.get_or_init(Server::start).as_ref()
}

fn home() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target"),
        PathBuf::from,
    );
    let home = target.join("postgres");
    home.join("complete").exists().then_some(home)
}

/// A command that does not run as root, which `PostgreSQL` refuses.
fn command(program: &Path) -> Command {
    let id = Command::new("id").arg("-u").output().expect("id");
    if id.stdout != b"0\n" {
        return Command::new(program);
    }
    let mut command = Command::new("unshare");
    command.args(["--map-user=65534", "--"]).arg(program);
    command
}

fn checked(command: &mut Command) -> Output {
    let output = command.output().expect("a program that can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output
}

impl Server {
    fn start() -> Option<Self> {
        let Some(home) = home() else {
            eprintln!(
                "PostgreSQL is not here (see tests/static_tables/get.sh): these tests are left out"
            );
            return None;
        };
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().join("data");
        let words = dir.path().join("password");
        fs::write(&words, PASSWORD).expect("written");
        let trial = command(&home.join("bin/postgres"))
            .arg("--version")
            .output();
        if !trial.is_ok_and(|output| output.status.success()) {
            eprintln!("PostgreSQL does not run as this user: these tests are left out");
            return None;
        }
        checked(
            command(&home.join("bin/initdb"))
                .args([
                    "--username=ada",
                    "--no-sync",
                    "--encoding=UTF8",
                    "--locale=C",
                ])
                .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
                .arg(format!("--pwfile={}", words.display()))
                .arg("--pgdata")
                .arg(&data),
        );
        let port = free_port();
        let tls = certificate(dir.path());
        let mut server = command(&home.join("bin/postgres"));
        server.arg("-D").arg(&data).arg("-k").arg(dir.path());
        server.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-F"]);
        if tls {
            for (name, file) in [("ssl_cert_file", "cert.pem"), ("ssl_key_file", "key.pem")] {
                let file = dir.path().join(file);
                server.args(["-c", &format!("{name}={}", file.display())]);
            }
            server.args(["-c", "ssl=on"]);
        }
        let log = fs::File::create(dir.path().join("log")).expect("a log");
        let shell = Command::new("sh")
            .args([
                "-c",
                "\"$@\" </dev/null & pid=$!; cat >/dev/null; kill -INT $pid; wait $pid",
                "sh",
            ])
            .arg(server.get_program())
            .args(server.get_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("a shell");
        let started = Self { dir, port, shell };
        let began = Instant::now();
        loop {
            let log = fs::read_to_string(started.dir.path().join("log")).unwrap_or_default();
            if log.contains("ready to accept connections") {
                break;
            }
            let ended = log.contains("FATAL");
            assert!(
                !ended && began.elapsed() < PATIENCE,
                "no server came: {log}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(started)
    }

    /// Options of a table over the Unix socket, which asks for no password.
    pub(crate) fn local(&self) -> String {
        let dir = self.dir.path().display();
        format!(
            "'connector' = 'postgres', 'url' = 'postgres:///postgres?host={dir}&port={}', 'user' = 'ada'",
            self.port
        )
    }

    /// The `url` over TCP, with no password in it.
    pub(crate) fn url(&self) -> String {
        format!("jdbc:postgresql://127.0.0.1:{}/postgres", self.port)
    }

    /// The authority that the server's certificate is of, where it has one.
    pub(crate) fn authority(&self) -> Option<PathBuf> {
        Some(self.dir.path().join("cert.pem")).filter(|path| path.exists())
    }

    /// Runs statements.
    pub(crate) fn run(&self, sql: &str) {
        let socket = self.dir.path().join(format!(".s.PGSQL.{}", self.port));
        let mut stream = UnixStream::connect(socket).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let send = |stream: &mut UnixStream, kind: &[u8], body: &[u8]| {
            let length = u32::try_from(body.len() + 4).expect("a short message");
            let message = [kind, &length.to_be_bytes(), body].concat();
            stream.write_all(&message).expect("sent");
        };
        // Version 3.0 of the protocol.
        let start = [&[0, 3, 0, 0], &b"user\0ada\0database\0postgres\0\0"[..]].concat();
        send(&mut stream, b"", &start);
        await_ready(&mut stream);
        send(&mut stream, b"Q", &[sql.as_bytes(), b"\0"].concat());
        await_ready(&mut stream);
    }
}

/// Reads messages up to the one that says that the server is ready.
fn await_ready(stream: &mut UnixStream) {
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head).expect("a message");
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut body = vec![0; length as usize - 4];
        stream.read_exact(&mut body).expect("a message");
        match head[0] {
            b'Z' => return,
            b'E' => panic!("{}", String::from_utf8_lossy(&body)),
            _ => {}
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// A port that nobody listens on by now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A certificate that signs itself, where openssl is there to make it.
fn certificate(dir: &Path) -> bool {
    let key = dir.join("key.pem");
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args([
            "-subj",
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(dir.join("cert.pem"))
        .output();
    made.is_ok_and(|output| output.status.success())
        && fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).is_ok()
}
