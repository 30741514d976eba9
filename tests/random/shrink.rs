//! A case that fails is made smaller: restarts, epochs and rows are left out while it still fails.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::json::LineDelimitedWriter;

use crate::{Case, Verdict, check};

/// A smaller case that is wrong too, as far as one was found in `time`.
pub(crate) fn smaller(case: &Case, time: Duration) -> Case {
    let deadline = Instant::now() + time;
    let mut best = case.clone();
    let better = |try_it: Case, best: &mut Case| {
        let smaller = Instant::now() < deadline && matches!(check(&try_it), Verdict::Wrong(_));
        if smaller {
            *best = try_it;
        }
        smaller
    };
    let all = best.runs.iter().map(|run| run.0).sum();
    let mut plain = best.clone();
    plain.runs = vec![(all, 1)];
    better(plain, &mut best);
    for table in 0..best.tables.len() {
        let mut epoch = 0;
        while epoch < best.tables[table].epochs.len() {
            let mut without = best.clone();
            without.tables[table].epochs.remove(epoch);
            if !better(without, &mut best) {
                epoch += 1;
            }
        }
        for epoch in 0..best.tables[table].epochs.len() {
            let mut size = best.tables[table].epochs[epoch].num_rows() / 2;
            while size > 0 {
                let mut at = 0;
                while at < best.tables[table].epochs[epoch].num_rows() {
                    let mut without = best.clone();
                    let batch = &mut without.tables[table].epochs[epoch];
                    *batch = leave_out(batch, at, size);
                    if batch.num_rows() == 0 || !better(without, &mut best) {
                        at += size;
                    }
                }
                size /= 2;
            }
        }
    }
    best
}

fn leave_out(batch: &RecordBatch, at: usize, size: usize) -> RecordBatch {
    let kept: UInt64Array = (0..batch.num_rows())
        .filter(|row| *row < at || *row >= at + size)
        .map(|row| row as u64)
        .collect();
    take_record_batch(batch, &kept).expect("the rows exist")
}

/// A case as `tests/sql/queries` writes it.
pub(crate) fn show(case: &Case) -> String {
    let mut text = format!("== a random query\n{}", case.script());
    let mut at = 0;
    for (index, (epochs, workers)) in case.runs.iter().enumerate() {
        if index > 0 {
            text.push_str("restart\n");
        }
        let _ = writeln!(text, "# {workers} workers");
        for epoch in at..at + epochs {
            text.push_str("epoch\n");
            for table in &case.tables {
                let Some(batch) = table.epochs.get(epoch) else {
                    continue;
                };
                let mut writer = LineDelimitedWriter::new(vec![]);
                writer.write(batch).expect("rows are JSON");
                writer.finish().expect("rows are JSON");
                for line in String::from_utf8_lossy(&writer.into_inner()).lines() {
                    let _ = writeln!(text, "{} {line}", table.name);
                }
            }
        }
        at += epochs;
    }
    let _ = writeln!(text, "---- {}", case.mode);
    text
}
