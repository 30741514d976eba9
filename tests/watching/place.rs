//! A directory with a script, and the command that runs it.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Nothing here takes longer, unless it hangs.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// A directory with the script.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new(script: &str) -> Self {
        let place = Self(tempfile::tempdir().expect("there is a temporary directory"));
        fs::create_dir(place.path().join("in")).expect("a directory");
        place.write("s.sql", script);
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        // Under its name it is whole.
        let hidden = self.path().join(".new");
        fs::write(&hidden, text).expect("a file");
        fs::rename(hidden, self.path().join(name)).expect("a name");
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark"));
        command.args(args).current_dir(self.path());
        command.env_remove("RUST_BACKTRACE").stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the script, with HTTP on a port that is free.
    pub(crate) fn run(&self, args: &[&str]) -> Running {
        let args = [&["run", "s.sql", "--http", "127.0.0.1:0"], args].concat();
        let mut child = self.command(&args).spawn().expect("the command starts");
        let mut errors = BufReader::new(child.stderr.take().expect("piped"));
        let mut said = String::new();
        let base = loop {
            let mut line = String::new();
            errors.read_line(&mut line).expect("it says where");
            match line.strip_prefix("http: ") {
                Some(url) => break url.trim_end().trim_end_matches('/').to_owned(),
                None if line.is_empty() => panic!("it ended: {said}"),
                None => said.push_str(&line),
            }
        };
        Running {
            child,
            _errors: errors,
            said,
            base,
        }
    }

    /// Runs a command to its end.
    pub(crate) fn ends(&self, args: &[&str]) -> Output {
        let mut child = self.command(args).spawn().expect("the command starts");
        wait(&mut child);
        child.wait_with_output().expect("its output")
    }

    /// Runs a command that fails at once, and gives what it says.
    pub(crate) fn fails(&self, args: &[&str]) -> String {
        let output = self.ends(args);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    }
}

/// Waits for a command; one that hangs is killed and fails the test.
fn wait(child: &mut Child) {
    let began = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if began.elapsed() > LIMIT {
            let _ = child.kill();
            panic!("it hangs");
        }
        sleep(Duration::from_millis(5));
    }
}

/// The status and the body of an answer.
pub(crate) fn get(url: &str) -> (u16, String) {
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(LIMIT))
        .build()
        .new_agent();
    let mut answer = agent.get(url.trim_end()).call().expect("it answers");
    let body = answer.body_mut().read_to_string().expect("text");
    (answer.status().as_u16(), body)
}

/// A command that serves.
pub(crate) struct Running {
    child: Child,
    /// Open as long as the command may say something.
    _errors: BufReader<ChildStderr>,
    said: String,
    base: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// What it said before it said where it serves.
    pub(crate) fn said(&self) -> &str {
        &self.said
    }

    /// What it prints, for whoever asks first.
    pub(crate) fn stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("it is asked for once")
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        get(&self.url(path))
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let address = self.base.strip_prefix("http://").expect("a URL");
        TcpStream::connect(address).expect("it listens")
    }

    /// Asks until the answer is as wanted.
    pub(crate) fn until(
        &self,
        what: &str,
        path: &str,
        wanted: impl Fn(u16, &str) -> bool,
    ) -> (u16, String) {
        let began = Instant::now();
        loop {
            let (status, body) = self.get(path);
            if wanted(status, &body) {
                return (status, body);
            }
            assert!(
                began.elapsed() < LIMIT,
                "{what} never came: {status} {body}"
            );
            sleep(Duration::from_millis(20));
        }
    }

    /// Ends it as a user does.
    pub(crate) fn stop(mut self) {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(killed.is_ok_and(|status| status.success()), "kill {pid}");
        wait(&mut self.child);
    }
}
