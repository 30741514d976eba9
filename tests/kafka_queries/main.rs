//! The built command on a real Apache Kafka; left out where there is none.

mod avro;
#[path = "../../connectors/tests/kafka/broker/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "the tests of the connectors use the rest"
)]
mod broker;
mod continuous;
mod kills;
mod letters;
#[cfg(target_os = "linux")]
#[path = "../pressure/memory.rs"]
mod memory;
mod page;
#[cfg(target_os = "linux")]
mod pressure;
#[path = "../../connectors/tests/kafka/registry.rs"]
#[expect(dead_code, reason = "the tests of the connectors use the rest")]
mod registry;
mod secrets;
mod watermarks;
mod why;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a run may take that ends by itself.
const PATIENCE: Duration = Duration::from_mins(2);

/// Starts the command in a directory; what it says is added to `log` there.
fn start(dir: &Path, arguments: &[&str]) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"))
        .expect("a log");
    let built = env!("CARGO_BIN_EXE_tidemark");
    let command = std::env::var("TIDEMARK_COMMAND").unwrap_or_else(|_| built.into());
    Command::new(command)
        .args(arguments)
        .current_dir(dir)
        .env("ALICE_PASSWORD", "alice-secret")
        .env("KAFKA_PASSWORD", "erin-secret")
        .env("REGISTRY_PASSWORD", "registry-secret")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("the command starts")
}

/// Runs the command to its end: whether it ended well, and what it said.
fn run(dir: &Path, arguments: &[&str]) -> (bool, String) {
    let before = said(dir).len();
    let mut child = start(dir, arguments);
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            break Some(status);
        }
        if began.elapsed() > PATIENCE {
            kill(child);
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let said = said(dir).split_off(before);
    let Some(status) = status else {
        panic!("{arguments:?} does not end; it said: {said}");
    };
    (status.success(), said)
}

/// What the command said so far.
fn said(dir: &Path) -> String {
    let log = fs::read(dir.join("log")).unwrap_or_default();
    String::from_utf8_lossy(&log).into_owned()
}

/// As kill -9 does.
fn kill(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}
