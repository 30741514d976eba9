//! The way of the rows, from the partitions to the sink.

use std::fmt::Write;

use super::marks::{Holder, Standing};
use super::words::{ago, counted, moment, number, span, wrapped};
use super::{State, Subject};
use crate::checkpoint::OperatorSize;
use crate::plan::outline::{OperatorOutline, Role};

/// So many partitions of a source are shown, those that are furthest behind.
const MOST_PARTITIONS: usize = 20;

impl Subject<'_> {
    pub(super) fn table(&self, out: &mut String) {
        if self.state == State::Planned {
            return;
        }
        out.push_str("\nThe way of the rows\n");
        for source in 0..self.outline.sources.len() {
            self.source(source, out);
        }
        if self.timed_sources().next().is_some() {
            self.query_watermark(out);
        }
        for operator in &self.outline.operators {
            if let Some(size) = self.size(operator.id) {
                self.operator(operator, size, out);
            }
        }
        let written = self.commit.map_or(0, |commit| commit.history.written);
        let last = self.commit.and_then(|commit| commit.history.last_written);
        let last = last.map_or(String::new(), |(epoch, at)| {
            format!(", the last in epoch {epoch}, {}", ago(self.now - at))
        });
        let line = format!(
            "{}: {} given{last}",
            self.outline.sink,
            counted(written, "row")
        );
        out.push_str(&wrapped("  ", &line));
    }

    /// What the newest commit says of an operator.
    pub(super) fn size(&self, operator: u32) -> Option<&OperatorSize> {
        let operators = &self.commit?.operators;
        operators.iter().find(|size| size.operator == operator)
    }

    fn source(&self, index: usize, out: &mut String) {
        let source = &self.outline.sources[index];
        let mut line = format!(
            "{} ({}): {} read",
            source.name,
            source.place,
            counted(self.read(index), "row")
        );
        if let Some(of) = &source.watermark {
            let _ = write!(
                line,
                "; its watermark is the newest {} of its slowest partition{}",
                of.column,
                match of.delay {
                    0 => String::new(),
                    delay => format!(" - {}", span(delay)),
                }
            );
        } else if !source.streaming {
            line.push_str("; a static table");
        }
        out.push_str(&wrapped("  ", &line));
        let mut marks = self.marks(index);
        if marks.is_empty() {
            return;
        }
        marks.sort_by_key(|mark| (mark.idle, mark.mark));
        let newest = format!(
            "newest {}",
            source.watermark.as_ref().map_or("", |of| &of.column)
        );
        let head = [
            "partition",
            &newest,
            "watermark",
            "rows",
            "last rows",
            "unread",
            "",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        let more = marks.len().saturating_sub(MOST_PARTITIONS);
        marks.truncate(MOST_PARTITIONS);
        rows.extend(marks.iter().map(|mark| self.partition(mark)));
        aligned("    ", &rows, out);
        if more > 0 {
            let _ = writeln!(
                out,
                "    and {} that are further",
                counted(more as u64, "partition")
            );
        }
    }

    fn partition(&self, mark: &Standing<'_>) -> [String; 7] {
        let at = |moment_at: Option<i64>| moment_at.map_or("-".into(), moment);
        let unread = self.unread_of(mark.source, &mark.state.partition);
        let holds = matches!(
            self.holder(),
            Some(Holder::Slowest(slowest))
                if slowest.source == mark.source && slowest.state.partition == mark.state.partition
        );
        [
            mark.state.partition.clone(),
            at(mark.state.max_event_time),
            at(mark.mark),
            number(mark.state.seen.rows),
            (mark.state.last_data_us).map_or("-".into(), |last| ago(self.now - last)),
            unread.map_or("-".into(), number),
            match (mark.idle, holds) {
                (true, _) => "idle: left out".into(),
                (_, true) => "<- holds the watermark".into(),
                _ => String::new(),
            },
        ]
    }

    fn query_watermark(&self, out: &mut String) {
        let line = match (self.watermark(), self.commit) {
            (Some(watermark), Some(commit)) => {
                let since = commit.history.moved.map_or(String::new(), |(epoch, at)| {
                    format!(", since epoch {epoch}, {}", ago(self.now - at))
                });
                format!("watermark of the query: {}{since}", moment(watermark))
            }
            _ => "watermark of the query: none yet".into(),
        };
        out.push_str(&wrapped("  ", &line));
    }

    fn operator(&self, operator: &OperatorOutline, size: &OperatorSize, out: &mut String) {
        let mut line = format!("operator {}, {}: ", operator.id, operator.text);
        let _ = match (size.sides, &operator.role) {
            (Some([left, right]), _) => write!(
                line,
                "{} of its left input and {} of its right one are kept",
                counted(left, "row"),
                number(right)
            ),
            (None, Role::OnClose { .. }) => {
                write!(line, "{} waiting", counted(size.rows, "row"))
            }
            _ => write!(line, "{} kept", counted(size.rows, "row")),
        };
        let late = self
            .commit
            .and_then(|commit| commit.history.late.get(&operator.id));
        if let Some(late) = late {
            let _ = write!(line, "; {} came too late", number(*late));
        }
        out.push_str(&wrapped("  ", &line));
        let Some(waiting) = size
            .waiting
            .as_ref()
            .filter(|waiting| !waiting.next.is_empty())
        else {
            return;
        };
        let watermark = self.watermark();
        let away = |due: i64| watermark.map_or(String::new(), |at| span(due.saturating_sub(at)));
        let head = ["come when the watermark reaches", "rows", "still to go"];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(
            (waiting.next.iter()).map(|(due, rows)| [moment(*due), number(*rows), away(*due)]),
        );
        if let Some(last) = waiting.last
            && waiting.next.last().is_some_and(|(due, _)| *due < last)
        {
            let told: u64 = waiting.next.iter().map(|(_, rows)| rows).sum();
            let others = number(waiting.rows.saturating_sub(told));
            rows.push([
                format!("... the last: {}", moment(last)),
                others,
                away(last),
            ]);
        }
        aligned("    ", &rows, out);
    }
}

/// Columns under each other, the first row above them.
fn aligned<const COLUMNS: usize>(indent: &str, rows: &[[String; COLUMNS]], out: &mut String) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..COLUMNS)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(out, "{indent}{}", line.trim_end());
    }
}
