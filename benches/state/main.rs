//! What checkpoints, restarts, folding and memory cost, as tables for `docs/benchmarks.md`.
//!
//! `cargo bench --bench state -- WHAT [KEYS..]`, where WHAT is `epochs`, `changes`, `small`, `single`, `stalls`, `restarts`, `folds` or `windows`.
//! Each figure is of a process of its own. Reads `/proc`, so it runs on Linux only.

mod run;
mod source;
mod stalls;

use std::path::{Path, PathBuf};

use run::{Epoch, Seen, Task, measure, perform};

#[global_allocator]
static ALLOCATOR: tidemark_allocator::MiMalloc = tidemark_allocator::MiMalloc;

/// Rows of an epoch while state is built up.
const FILL: i64 = 500_000;

fn main() {
    tidemark_allocator::set_purge_delay(1000);
    let mut arguments = std::env::args().skip(1).filter(|word| word != "--bench");
    let what = arguments.next().unwrap_or_default();
    if what == "--task" {
        let task = arguments.next().and_then(|t| serde_json::from_str(&t).ok());
        let seen = perform(&task.expect("a task"));
        println!("{}", serde_json::to_string(&seen).expect("plain data"));
        return;
    }
    let sizes: Vec<i64> = arguments.filter_map(|size| size.parse().ok()).collect();
    let or = |standard: &[i64]| {
        if sizes.is_empty() {
            standard.to_vec()
        } else {
            sizes.clone()
        }
    };
    match what.as_str() {
        "epochs" => epochs(&or(&[10_000, 100_000, 1_000_000, 5_000_000])),
        "changes" => changes(&or(&[100_000, 5_000_000])),
        "small" => small(&or(&[10_000, 1_000_000])),
        "single" => or(&[5_000_000]).into_iter().for_each(single),
        "stalls" => stalls::stalls(&or(&[100_000, 5_000_000])),
        "restarts" => or(&[5_000_000]).into_iter().for_each(restarts),
        "folds" => or(&[2_000_000]).into_iter().for_each(folds),
        "windows" => or(&[10]).into_iter().for_each(windows),
        _ => eprintln!(
            "usage: cargo bench --bench state -- epochs [KEYS..] | changes [KEYS..] | small [KEYS..] | single [ROWS] | stalls [KEYS..] | restarts [KEYS] | folds [KEYS] | windows [MINUTES]"
        ),
    }
}

/// A directory for a checkpoint, empty.
fn directory(name: &str) -> PathBuf {
    let target = std::env::current_exe().expect("this program has a path");
    let target = target
        .ancestors()
        .nth(3)
        .unwrap_or(Path::new("."))
        .to_path_buf();
    let dir = target.join("bench_state").join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("a directory for the checkpoint");
    dir
}

fn task(dir: &Path, workers: usize, keys: i64, phases: &[(usize, i64)]) -> Task {
    Task {
        dir: Some(dir.display().to_string()),
        query: None,
        workers,
        keys,
        step: 0,
        interval: 0,
        retained: 100,
        phases: phases.to_vec(),
    }
}

/// The phase that gives each key a value.
fn fill(keys: i64) -> (usize, i64) {
    let epochs = (keys / FILL).max(1);
    (epochs as usize, keys / epochs)
}

fn quantile(values: impl IntoIterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * share) as usize;
    values
        .get(at.min(values.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(values, 0.5)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}

/// What an epoch writes and takes, by how much state there is and how much of it changes.
fn epochs(sizes: &[i64]) {
    const EPOCHS: usize = 100;
    println!(
        "| keys | changed an epoch | bytes written, median | mean | syncs | epoch, median | 99 % |"
    );
    println!("|---|---|---|---|---|---|---|");
    for keys in sizes {
        let changes = [0, 100, 1_000, 10_000];
        // What the build-up left to be folded and merged is done with before anything counts.
        let mut phases = vec![fill(*keys), (1000, 0)];
        // Some epochs between the phases, which count for none.
        phases.extend(
            changes
                .iter()
                .flat_map(|rows| [(5, *rows), (EPOCHS, *rows)]),
        );
        let (seen, _) = measure(&task(&directory("epochs"), 2, *keys, &phases), false);
        phases
            .iter_mut()
            .skip(1)
            .for_each(|phase| phase.0 = phase.0.min(20));
        let (traced, syncs) = measure(&task(&directory("epochs"), 2, *keys, &phases), true);
        for (i, rows) in changes.iter().enumerate() {
            let phase = &seen[2 * i + 3];
            let syncs = syncs.as_ref().map_or("?".into(), |syncs| {
                let of = &traced[2 * i + 3];
                let during = |at: &&f64| **at > of[0].ended && **at <= of[of.len() - 1].ended;
                let count = syncs.iter().filter(during).count();
                format!("{:.1}", count as f64 / (of.len() - 1) as f64)
            });
            let written = || phase.iter().map(|epoch| epoch.written as f64);
            let took = || phase.iter().map(|epoch| epoch.ms);
            println!(
                "| {keys} | {rows} | {:.0} | {:.0} | {syncs} | {:.1} ms | {:.1} ms |",
                median(written()),
                written().sum::<f64>() / EPOCHS as f64,
                median(took()),
                quantile(took(), 0.99),
            );
        }
    }
}

/// Epochs that change a thousand keys, by how many there are, in turn: one after the other, and every 25 ms. What
/// progress says of an epoch's time is in whole milliseconds; the mean says more of it than the median.
fn changes(sizes: &[i64]) {
    const ROUNDS: usize = 3;
    const EPOCHS: usize = 400;
    println!("| epochs | keys | mean | median | 99 % |");
    println!("|---|---|---|---|---|");
    for (interval, name) in [(0, "one after the other"), (25, "every 25 ms")] {
        for _ in 0..ROUNDS {
            for keys in sizes {
                let phases = [fill(*keys), (200, 0), (EPOCHS, 1000)];
                let task = Task {
                    interval,
                    ..task(&directory("changes"), 2, *keys, &phases)
                };
                let (seen, _) = measure(&task, false);
                let took = || {
                    let epochs = seen[2].iter();
                    epochs.map(|epoch| match interval {
                        0 => epoch.ms,
                        _ => epoch.phases["triggerExecution"] as f64,
                    })
                };
                println!(
                    "| {name} | {keys} | {:.1} ms | {:.1} ms | {:.1} ms |",
                    took().sum::<f64>() / EPOCHS as f64,
                    median(took()),
                    quantile(took(), 0.99)
                );
            }
        }
    }
}

/// Epochs of one row or none, one after the other, without a checkpoint.
fn small(sizes: &[i64]) {
    println!("| keys | rows an epoch | epoch, median | 99 % | 99.9 % |");
    println!("|---|---|---|---|---|");
    for keys in sizes {
        let phases = [fill(*keys), (1000, 1), (10_000, 1), (10_000, 0)];
        let task = Task {
            dir: None,
            ..task(Path::new(""), 2, *keys, &phases)
        };
        let (seen, _) = measure(&task, false);
        for (phase, rows) in [(2, 1), (3, 0)] {
            let took = |share| 1000.0 * quantile(seen[phase].iter().map(|epoch| epoch.ms), share);
            println!(
                "| {keys} | {rows} | {:.0} µs | {:.0} µs | {:.0} µs |",
                took(0.5),
                took(0.99),
                took(0.999)
            );
        }
    }
}

/// Epochs of one row into a join of three inputs and into an aggregate of an aggregate, beside so many rows of state
/// of their inputs.
fn single(rows: i64) {
    println!("| query | rows of state | epoch, median | 99 % | 99.9 % |");
    println!("|---|---|---|---|---|");
    let three = "SELECT a.k, a.v, b.v AS second, c.v AS third FROM rows a JOIN rows b ON a.k = b.k
      JOIN rows c ON b.k = c.k";
    let nested = "SELECT n, count(*) AS ks FROM (SELECT k, count(*) AS n FROM rows WHERE k IS NOT NULL GROUP BY k)
      GROUP BY n";
    for (name, query, keys) in [
        ("join of three", three, rows / 3),
        ("aggregate of an aggregate", nested, rows),
    ] {
        let task = Task {
            dir: None,
            query: Some(query.into()),
            ..task(
                Path::new(""),
                2,
                keys,
                &[fill(keys), (2000, 1), (10_000, 1)],
            )
        };
        let (seen, _) = measure(&task, false);
        let took = |share| quantile(seen[2].iter().map(|epoch| epoch.ms), share);
        println!(
            "| {name} | {rows} | {:.2} ms | {:.2} ms | {:.2} ms |",
            took(0.5),
            took(0.99),
            took(0.999)
        );
    }
}

fn last(seen: &Seen, phase: usize) -> &Epoch {
    seen[phase].last().expect("an epoch was seen")
}

/// How long a start takes and how much memory, with the same number of workers and with others.
fn restarts(keys: i64) {
    println!(
        "| {keys} keys | until the first epoch is done | CPU | peak memory | of the steady state's |"
    );
    println!("|---|---|---|---|---|");
    for (before, after) in [(2, vec![2, 1]), (1, vec![1, 3])] {
        let name = format!("restarts{before}");
        let dir = directory(&name);
        let filled = [fill(keys), (100, keys / 500)];
        let (seen, _) = measure(&task(&dir, before, keys, &filled), false);
        let steady = last(&seen, 1).peak;
        println!("| steady, {before} workers | | | {} | |", megabytes(steady));
        for workers in after {
            let copy = directory(&format!("{name}to{workers}"));
            copy_all(&dir, &copy);
            let (seen, _) = measure(&task(&copy, workers, keys, &[(1, 0)]), false);
            let first = last(&seen, 0);
            println!(
                "| {before} to {workers} workers | {:.1} s | {:.1} s | {} | {:.2} |",
                first.ms / 1000.0,
                first.cpu,
                megabytes(first.peak),
                first.peak as f64 / steady as f64
            );
            let _ = std::fs::remove_dir_all(copy);
        }
    }
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("state")).expect("a directory");
    for dir in [PathBuf::new(), "state".into()] {
        for entry in std::fs::read_dir(from.join(&dir)).expect("a checkpoint") {
            let path = entry.expect("an entry").path();
            if let (true, Some(name)) = (path.is_file(), path.file_name()) {
                std::fs::copy(&path, to.join(&dir).join(name)).expect("a copy");
            }
        }
    }
}

/// How long epochs take beside a fold, and how long those that have none beside them: the more epochs are
/// retained, the fewer folds there are.
fn folds(keys: i64) {
    println!(
        "| {keys} keys, 1 % changed an epoch | epochs | median | 99 % | longest three (of it, other machines had) | peak memory |"
    );
    println!("|---|---|---|---|---|---|");
    let phases = [fill(keys), (50, keys / 100), (400, keys / 100)];
    let mut epochs = vec![];
    let mut peak = 0;
    for retained in [1000, 1, 1000, 1] {
        let task = Task {
            retained,
            ..task(&directory("folds"), 2, keys, &phases)
        };
        let (mut seen, _) = measure(&task, false);
        peak = peak.max(last(&seen, 2).peak);
        epochs.append(&mut seen[2]);
    }
    epochs.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    for (folding, name) in [(false, "nothing is folded"), (true, "files are folded")] {
        let epochs = || {
            let epochs = epochs.iter();
            epochs.filter(|epoch| (epoch.folding > 0) == folding)
        };
        let took = || epochs().map(|epoch| epoch.ms);
        let longest = epochs().take(3);
        let longest = longest.map(|epoch| format!("{:.0} ms ({})", epoch.ms, epoch.stolen));
        println!(
            "| {name} | {} | {:.1} ms | {:.1} ms | {} | {} |",
            epochs().count(),
            median(took()),
            quantile(took(), 0.99),
            longest.collect::<Vec<_>>().join(", "),
            megabytes(peak),
        );
    }
}

/// The memory of a query over windows that come and go: a thousand a minute.
fn windows(minutes: i64) {
    println!("| part | windows so far | resident, median | peak |");
    println!("|---|---|---|---|");
    let each_minute = 600;
    let task = Task {
        // A window has ten rows of each of a thousand keys, and an epoch has a window and two thirds.
        step: 6000,
        interval: 100,
        ..task(
            &directory("windows"),
            2,
            1000,
            &vec![(each_minute, 16_667); minutes as usize],
        )
    };
    let (seen, _) = measure(&task, false);
    for (minute, phase) in seen.iter().enumerate() {
        println!(
            "| {} | {} | {} | {} |",
            minute + 1,
            (minute + 1) * 1000,
            megabytes(median(phase.iter().map(|e| e.resident as f64)) as u64),
            megabytes(last(&seen, minute).peak),
        );
    }
}
