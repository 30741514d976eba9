//! A bare `SELECT` while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount};
use tidemark_connectors::sinks::show::Zone;

use super::display::{self, Grid, count, cut};
use super::{Screen, Shell, shown, took};
use crate::cli::{Failure, bar};
use crate::plan::catalog::QueryStatement;
use crate::runtime::query::Listener;
use crate::session::Selected;

/// How often the screen is drawn.
const FRAME: Duration = Duration::from_millis(200);

/// Rows of a result that has ended which are shown on a terminal.
const MOST: usize = 1_000;

/// Over how long the rate is taken.
const RATE: Duration = Duration::from_secs(2);

/// Runs a query and shows its result until it ends, or the user ends it.
pub(super) fn select(
    shell: &Shell,
    statement: &QueryStatement,
    began: Instant,
) -> Result<(), Failure> {
    let read = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&read);
    let listener: Listener = Box::new(move |progress| {
        counter.fetch_add(progress.num_input_rows, Ordering::Relaxed);
    });
    let limit = shell.screen.interactive.then_some(MOST as u64);
    let selected = shell.session.select(statement, limit, Some(listener))?;
    let outcome = if shell.screen.interactive {
        let mut watch = Watch {
            shell,
            selected: &selected,
            began,
            read: &read,
            samples: vec![(began, 0)],
            drawn: 0,
            grid: None,
        };
        watch.run()
    } else {
        print_final(shell, &selected)
    };
    // Whatever went wrong with the screen, the query does not go on without it.
    selected.query.request_stop();
    let ended = selected.query.await_termination();
    outcome?;
    ended.map_err(|error| Failure::query(format!("query '{}': {error}", selected.query.name())))
}

/// Waits for the end, then prints all of the result.
fn print_final(shell: &Shell, selected: &Selected) -> Result<(), Failure> {
    while !selected.query.await_termination_timeout(FRAME) {
        if shell.interrupt.is_asked() {
            selected.query.request_stop();
        }
    }
    if selected.query.exception().is_some() {
        return Ok(());
    }
    let (_, batches) = selected.table.last_rows(usize::MAX).map_err(shown)?;
    let rows = display::rows(&batches, zone(selected)).map_err(shown)?;
    let width = Screen::size().map(|(columns, _)| columns);
    let grid = Grid::new(&selected.table.schema(), &rows, width);
    Screen::print(&grid.table(&rows))
}

/// The session's time zone, as the query was planned with it.
fn zone(selected: &Selected) -> Zone {
    let name = selected.query.plan().settings.time_zone.as_str();
    let options = [("timeZone", name)].into_iter().collect();
    // It was checked when it was set.
    Zone::from_options(&options).unwrap_or(Zone::UTC)
}

struct Watch<'a> {
    shell: &'a Shell,
    selected: &'a Selected,
    began: Instant,
    /// Rows read so far.
    read: &'a AtomicU64,
    /// When how many had been read.
    samples: Vec<(Instant, u64)>,
    /// Lines that the next frame takes the place of.
    drawn: usize,
    /// The columns, once rows were printed that stay.
    grid: Option<Grid>,
}

impl Watch<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        loop {
            let ended = self.selected.query.await_termination_timeout(FRAME);
            if ended {
                return self.finish();
            }
            if self.shell.interrupt.is_asked() {
                self.selected.query.request_stop();
            }
            let (width, height) = Screen::size().unwrap_or((80, 24));
            if self.selected.append_only {
                self.scroll(width, height)?;
            } else {
                self.redraw(width, height)?;
            }
        }
    }

    /// The current result in the place of the one before.
    fn redraw(&mut self, width: usize, height: usize) -> Result<(), Failure> {
        // Names, three rules, what is hidden, the status, and the line below it.
        let room = height.saturating_sub(7).max(1);
        let (total, batches) = self.selected.table.last_rows(room).map_err(shown)?;
        let rows = display::rows(&batches, zone(self.selected)).map_err(shown)?;
        let mut frame = Grid::new(&self.selected.table.schema(), &rows, Some(width)).table(&rows);
        frame.push_str(&self.status(total, rows.len() as u64, width));
        self.draw(&frame)
    }

    /// New rows below those before, and the status below them.
    fn scroll(&mut self, width: usize, height: usize) -> Result<(), Failure> {
        let fresh = self.selected.table.take_fresh();
        let mut rows = display::rows(&fresh.batches, zone(self.selected)).map_err(shown)?;
        let room = height.saturating_sub(6).max(1);
        let left_out = fresh.skipped + rows.len().saturating_sub(room) as u64;
        rows.truncate(room);
        let mut frame = self.stay(&rows, width);
        if left_out > 0 {
            let note = format!("... {} more", count(left_out));
            frame.push_str(&format!("{}\n", self.shell.screen.dim(&note)));
        }
        let kept = frame.lines().count();
        let (total, _) = self.selected.table.last_rows(0).map_err(shown)?;
        frame.push_str(&self.status(total, total, width));
        self.draw(&frame)?;
        self.drawn -= kept;
        Ok(())
    }

    /// Rows that stay on the screen, with the header before the first.
    fn stay(&mut self, rows: &[Vec<String>], width: usize) -> String {
        let mut text = String::new();
        if rows.is_empty() {
            return text;
        }
        let grid = match self.grid.take() {
            Some(grid) if grid.fits(rows) => grid,
            _ => {
                let grid = Grid::new(&self.selected.table.schema(), rows, Some(width));
                text = format!("{}\n", grid.header());
                grid
            }
        };
        for row in rows {
            text.push_str(&grid.line(row));
            text.push('\n');
        }
        self.grid = Some(grid);
        text
    }

    /// The end: what is there stays on the screen.
    fn finish(&mut self) -> Result<(), Failure> {
        let screen = &self.shell.screen;
        let width = Screen::size().map(|(columns, _)| columns);
        if self.selected.query.exception().is_some() {
            return self.draw("");
        }
        let mut text;
        let total;
        if self.grid.is_some() {
            let fresh = self.selected.table.take_fresh();
            let rows = display::rows(&fresh.batches, zone(self.selected)).map_err(shown)?;
            text = self.stay(&rows, width.unwrap_or(80));
            if let Some(grid) = &self.grid {
                text.push_str(&format!("{}\n", grid.rule()));
                text.extend(grid.note().map(|note| format!("{note}\n")));
            }
            total = self.selected.table.last_rows(0).map_err(shown)?.0;
        } else {
            let stopped = self.shell.interrupt.is_asked();
            let room = match Screen::size() {
                // What was on the screen stays as it was.
                Some((_, height)) if stopped => height.saturating_sub(7).max(1),
                _ => MOST,
            };
            let (all, batches) = self.selected.table.last_rows(room).map_err(shown)?;
            let rows = display::rows(&batches, zone(self.selected)).map_err(shown)?;
            text = Grid::new(&self.selected.table.schema(), &rows, width).table(&rows);
            if (rows.len() as u64) < all {
                let end = if self.selected.append_only {
                    "first"
                } else {
                    "last"
                };
                let note = format!("the {end} {} of ", HumanCount(rows.len() as u64));
                text.push_str(&screen.dim(&note));
            }
            total = all;
        }
        let note = format!("{}, {}", count(total), took(self.began));
        text.push_str(&format!("{}\n", screen.dim(&note)));
        self.draw(&text)
    }

    /// Rows, rate, watermark, state: one line.
    fn status(&mut self, total: u64, visible: u64, width: usize) -> String {
        let now = Instant::now();
        let read = self.read.load(Ordering::Relaxed);
        let since = self.samples.iter().rposition(|(at, _)| now - *at >= RATE);
        self.samples.drain(..since.unwrap_or(0));
        let (at, before) = self.samples[0];
        self.samples.push((now, read));
        let rate = (read - before) as f64 / (now - at).as_secs_f64().max(0.001);
        let mut parts = vec![];
        if visible < total {
            parts.push(format!(
                "the last {} of {}",
                HumanCount(visible),
                count(total)
            ));
        } else {
            parts.push(count(total));
        }
        parts.push(format!("{} rows/s in", HumanCount(rate as u64)));
        parts.push(format!("{:.0} s", self.began.elapsed().as_secs_f64()));
        parts.push(if self.shell.interrupt.is_asked() {
            "ending".into()
        } else {
            "Ctrl-C ends".into()
        });
        if let Some(progress) = self.selected.query.last_progress() {
            if let Some(watermark) = progress.watermark() {
                let short = watermark.get(..19).unwrap_or(watermark).replace('T', " ");
                parts.push(format!("watermark {short}{}", bar::behind(watermark)));
            }
            let bytes = progress.state_operators.iter().map(|o| o.memory_used_bytes);
            if !progress.state_operators.is_empty() {
                parts.push(format!("state {}", HumanBytes(bytes.sum())));
            }
        }
        // The last column stays free: some terminals wrap there.
        let line = cut(&parts.join("   "), width.saturating_sub(1));
        format!("{}\n", self.shell.screen.dim(&line))
    }

    /// Draws over the frame before.
    fn draw(&mut self, frame: &str) -> Result<(), Failure> {
        let mut text = match self.drawn {
            0 => String::from("\r"),
            lines => format!("\r\x1b[{lines}A"),
        };
        for line in frame.lines() {
            text.push_str(line);
            text.push_str("\x1b[K\n");
        }
        text.push_str("\x1b[J");
        self.drawn = frame.lines().count();
        Screen::print(&text)
    }
}
