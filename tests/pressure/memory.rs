//! What a process takes of the machine's memory, and a pipe that is read when the test says so.

use std::fs;
use std::io::Read;
use std::process::ChildStdout;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::Duration;

/// Memory in bytes, as the kernel counts it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Now.
    pub(crate) now: u64,
    /// At most, since the process began.
    pub(crate) most: u64,
}

/// Of a process of ours that runs.
pub(crate) fn memory(pid: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let of = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        let kilobytes: u64 = kilobytes.and_then(|text| text.parse().ok()).expect(name);
        kilobytes << 10
    };
    Memory {
        now: of("VmRSS:"),
        most: of("VmHWM:"),
    }
}

/// What a process has printed, as far as it was read.
#[derive(Clone, Default)]
pub(crate) struct Tap {
    closed: Arc<AtomicBool>,
    read: Arc<Mutex<String>>,
}

impl Tap {
    pub(crate) fn on(mut pipe: ChildStdout) -> Self {
        let tap = Self::default();
        let reading = tap.clone();
        std::thread::spawn(move || {
            let mut bytes = vec![0; 1 << 16];
            loop {
                while reading.closed.load(Ordering::Relaxed) {
                    sleep(Duration::from_millis(5));
                }
                match pipe.read(&mut bytes) {
                    Ok(0) | Err(_) => return,
                    Ok(read) => {
                        let text = String::from_utf8_lossy(&bytes[..read]);
                        let mut all = reading.read.lock().unwrap_or_else(PoisonError::into_inner);
                        all.push_str(&text);
                    }
                }
            }
        });
        tap
    }

    /// From now on, or no longer, what is printed stays in the pipe.
    pub(crate) fn close(&self, closed: bool) {
        self.closed.store(closed, Ordering::Relaxed);
    }

    /// The numbers that the first column of the tables that were printed begins with.
    pub(crate) fn numbers(&self) -> Vec<i64> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let cells = (read.lines()).filter_map(|line| line.strip_prefix('|')?.split('|').next());
        let first = |cell: &str| cell.split_whitespace().next()?.parse().ok();
        cells.filter_map(first).collect()
    }
}
