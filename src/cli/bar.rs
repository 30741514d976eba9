//! Progress on a terminal: a line for each query, redrawn in place.

use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, MultiProgress, ProgressBar, ProgressStyle};

use crate::cli::say;
use crate::runtime::{Progress, clock};

/// The lines of all queries.
#[derive(Clone, Default)]
pub(super) struct Bars(MultiProgress);

impl Bars {
    /// Says something above the lines.
    pub(super) fn say(&self, text: &str) {
        self.0.suspend(|| say(text));
    }

    /// A line for one query.
    pub(super) fn add(&self, name: &str) -> ProgressBar {
        let bar = self.0.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {prefix:.bold} {wide_msg}")
        {
            bar.set_style(style);
        }
        bar.set_prefix(name.to_owned());
        bar.set_message("starting");
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

/// Shows an epoch.
pub(super) fn show(bar: &ProgressBar, progress: &Progress) {
    bar.set_message(line(progress));
}

fn line(progress: &Progress) -> String {
    let bytes: u64 = progress
        .state_operators
        .iter()
        .map(|operator| operator.memory_used_bytes)
        .sum();
    let spent = progress
        .duration_ms
        .get("triggerExecution")
        .copied()
        .unwrap_or(0)
        .max(1);
    let written = progress.sink.num_output_rows * 1000 / spent;
    let mut line = format!(
        "epoch {}  in {}/s  out {}/s",
        progress.batch_id,
        HumanCount(progress.processed_rows_per_second as u64),
        HumanCount(written),
    );
    if let Some(watermark) = progress.watermark() {
        line.push_str(&format!("  watermark {watermark}{}", behind(watermark)));
    }
    if !progress.state_operators.is_empty() {
        line.push_str(&format!(
            "  state {} rows, {}",
            HumanCount(progress.state_rows()),
            HumanBytes(bytes)
        ));
    }
    line
}

/// How far a moment lies behind now.
pub(super) fn behind(moment: &str) -> String {
    let Ok(moment) = chrono::DateTime::parse_from_rfc3339(moment) else {
        return String::new();
    };
    let behind = clock::now() / 1_000_000 - moment.timestamp();
    match behind {
        ..0 => format!(" ({}s ahead)", -behind),
        0..120 => format!(" ({behind}s ago)"),
        120..7200 => format!(" ({}min ago)", behind / 60),
        7200..172_800 => format!(" ({}h ago)", behind / 3600),
        _ => format!(" ({}d ago)", behind / 86_400),
    }
}
