//! Mutated input for everything that reads text or bytes from outside: SQL, JSON, CSV, Avro,
//! options, patterns, checkpoints. Whatever comes, it is taken or refused: no panic, no hang, no lie.
//!
//! Each target mutates its corpus (`tests/fuzz/corpus`, to which what was once found is added) for
//! `TIDEMARK_FUZZ_SECONDS` (10), beginning at `TIDEMARK_FUZZ_SEED`. A failure prints seed and
//! input. Should an input end the process, it is the one in `fuzz-TARGET` of Cargo's directory for
//! test files, `target/tmp`; the one that took longest is in `fuzz-TARGET.slowest`.

#[path = "../common/mod.rs"]
mod common;

mod avro;
mod checkpoint;
mod csv;
mod json;
mod mutate;
mod sql;
mod text;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use mutate::Mutator;

/// What one input may take. Much more than any needs, for machines that are busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// Gives `run` mutations of the corpus until the time is over. `run` panics, or says what is wrong.
pub(crate) fn fuzz(target: &str, corpus: &[Vec<u8>], run: impl Fn(&[u8]) -> Result<(), String>) {
    let number = |name: &str, default: u64| {
        std::env::var(name)
            .ok()
            .map_or(default, |text| text.parse().expect(name))
    };
    let seed = number("TIDEMARK_FUZZ_SEED", 1);
    let deadline = Instant::now() + Duration::from_secs(number("TIDEMARK_FUZZ_SECONDS", 10));
    let mut mutator = Mutator::new(seed, corpus);
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{target}"));
    let under_test: Mutex<Option<Instant>> = Mutex::new(None);
    let check = |input: &[u8]| -> Result<(), String> {
        fs::write(&place, input).expect("the input can be kept");
        *under_test.lock().unwrap() = Some(Instant::now());
        let outcome = catch_unwind(AssertUnwindSafe(|| run(input)))
            .unwrap_or_else(|_| Err("it panicked".into()));
        *under_test.lock().unwrap() = None;
        outcome
    };
    let mut inputs = 0_u64;
    let mut slowest = Duration::ZERO;
    let over = Mutex::new(false);
    std::thread::scope(|scope| {
        // An input that never ends cannot be taken back: the process goes.
        scope.spawn(|| {
            while !*over.lock().unwrap() {
                std::thread::sleep(Duration::from_millis(50));
                let began = *under_test.lock().unwrap();
                if began.is_some_and(|began| began.elapsed() > PATIENCE) {
                    eprintln!(
                        "{target}: no end after {PATIENCE:?}; the input is {}",
                        place.display()
                    );
                    std::process::abort();
                }
            }
        });
        let mut failure = None;
        for input in corpus.iter().cloned() {
            failure = failure.or_else(|| check(&input).err().map(|why| (why, input)));
        }
        while failure.is_none() && Instant::now() < deadline {
            let input = mutator.next();
            let began = Instant::now();
            failure = check(&input).err().map(|why| (why, input));
            if began.elapsed() > slowest {
                slowest = began.elapsed();
                fs::copy(&place, place.with_extension("slowest")).expect("the input can be kept");
            }
            inputs += 1;
        }
        *over.lock().unwrap() = true;
        if let Some((why, input)) = failure {
            let small = smaller(&input, &check);
            panic!(
                "{target}: {why}\nTIDEMARK_FUZZ_SEED={seed}, input {inputs}: {}\n{:?}",
                String::from_utf8_lossy(&small),
                small
            );
        }
    });
    println!("{target}: {inputs} inputs from seed {seed} on, the slowest took {slowest:?}");
}

/// The input with all left out that the failure does not need, as far as ten seconds go.
fn smaller(input: &[u8], check: &dyn Fn(&[u8]) -> Result<(), String>) -> Vec<u8> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut best = input.to_vec();
    let mut size = best.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < best.len() && Instant::now() < deadline {
            let mut shorter = best.clone();
            shorter.drain(at..(at + size).min(best.len()));
            if check(&shorter).is_err() {
                best = shorter;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    best
}

/// The entries of a corpus file: set apart by lines of `----`.
pub(crate) fn entries(text: &str) -> Vec<Vec<u8>> {
    text.split("----\n")
        .map(|entry| entry.strip_suffix('\n').unwrap_or(entry).into())
        .collect()
}
