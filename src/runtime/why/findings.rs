//! What keeps rows from coming out, a paragraph each, what matters most first.

use super::marks::{Holder, Standing};
use super::words::{ago, counted, moment, number, span};
use super::{State, Subject};
use crate::plan::outline::{OperatorOutline, Role};
use crate::time::EventTime;

/// An event time that lies further in the future is not taken for a clock that is a little fast.
const FUTURE: i64 = 86_400_000_000;

impl Subject<'_> {
    pub(super) fn findings(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.state == State::Planned {
            self.planned(&mut found);
            return found;
        }
        self.pressure(&mut found);
        let leaps = self.leaps();
        let leapt = !leaps.is_empty();
        found.extend(leaps);
        self.empty_sources(&mut found);
        self.without_event_time(&mut found);
        self.silent_joins(&mut found);
        self.waiting(&mut found);
        if !leapt {
            self.late(&mut found);
        }
        self.filters(&mut found);
        found
    }

    /// What each operator of a plan will wait for.
    fn planned(&self, found: &mut Vec<String>) {
        for operator in &self.outline.operators {
            match &operator.role {
                Role::Filter => found.push(format!("{} leaves rows out.", called(operator))),
                Role::AtOnce => found.push(format!(
                    "{} gives with each epoch what the epoch changed: nothing waits there.",
                    called(operator)
                )),
                Role::OnClose { unit } => found.push(format!(
                    "{} gives each {unit} once, when the watermark has passed its end. {}",
                    called(operator),
                    self.watermark_in_words(unit)
                )),
                Role::Join { unmatched, .. } => found.push(format!(
                    "{} gives a pair as soon as both rows are there{}",
                    called(operator),
                    if *unmatched {
                        "; a row without a match once the watermark says that none can come any more."
                    } else {
                        "."
                    }
                )),
            }
        }
        if found.is_empty() {
            found.push("Each row is given in the epoch that reads it: nothing waits.".into());
        }
        for source in self
            .outline
            .sources
            .iter()
            .filter(|source| source.from_latest)
        {
            found.push(format!(
                "{} is read from its end on ('startingOffsets' is 'latest' where nothing else is said): what is there already at the first start is never read.",
                source.name
            ));
        }
        if self.outline.ends {
            found.push(ENDS.into());
        }
    }

    /// What the watermark is, for somebody who asks for the first time.
    fn watermark_in_words(&self, unit: &str) -> String {
        let words = self.timed_sources().map(|(source, of)| {
            let name = &self.outline.sources[source].name;
            let column = &of.column;
            let (less, after) = match of.delay {
                0 => (String::new(), String::new()),
                delay => (format!(", less {}", span(delay)), format!("{} after ", span(delay))),
            };
            format!(
                "the newest {column} that every partition of {name} has reached{less}: a {unit} that ends at 12:00 comes out once rows of {name} have come whose {column} is {after}12:00 or later"
            )
        });
        let words: Vec<String> = words.collect();
        let which = match (words.len(), self.outline.fastest_decides) {
            (0 | 1, _) => "",
            (_, true) => " (the fastest table decides)",
            (_, false) => " (the slowest table decides)",
        };
        format!("The watermark is {}{which}.", words.join("; and "))
    }

    fn empty_sources(&self, found: &mut Vec<String>) {
        for (index, source) in self.outline.sources.iter().enumerate() {
            if !source.streaming || self.read(index) > 0 {
                continue;
            }
            let why = if source.from_latest {
                "only what arrives after the first start is read ('startingOffsets' is 'latest' where nothing else is said); with 'startingOffsets' = 'earliest' and a checkpoint of its own the query reads what is there"
            } else {
                "no row has come there, or none where reading began"
            };
            let waits = self.silent_source(index);
            found.push(format!(
                "No row of {} ({}) has been read: {why}.{waits}",
                source.name, source.place
            ));
        }
    }

    /// What it means for the others that a source with an event time is silent.
    fn silent_source(&self, source: usize) -> String {
        let others = self.timed_sources().filter(|(other, _)| *other != source);
        let holds = matches!(self.holder(), Some(Holder::Silent(silent)) if silent == source);
        if !holds || others.count() == 0 {
            return String::new();
        }
        let name = &self.outline.sources[source].name;
        format!(
            " The slowest table decides about the watermark, so there is none until {name} speaks; {}",
            idle_timeout(name)
        )
    }

    fn without_event_time(&self, found: &mut Vec<String>) {
        for (source, of) in self.timed_sources() {
            let marks = self.marks(source);
            let rows: u64 = marks.iter().map(|mark| mark.state.seen.rows).sum();
            let timed: u64 = marks.iter().map(|mark| mark.state.seen.timed).sum();
            if rows > 0 && timed == 0 {
                found.push(format!(
                    "All {} of {} have a null {}: without event time there is no watermark, and no window. Text that is no timestamp becomes null; 'mode' = 'FAILFAST' on the table shows the first such record.",
                    counted(rows, "row"), self.outline.sources[source].name, of.column
                ));
            }
        }
    }

    /// Joins one of whose inputs is silent, or that have not found a match.
    fn silent_joins(&self, found: &mut Vec<String>) {
        let Some(commit) = self.commit else { return };
        for operator in &self.outline.operators {
            let Role::Join { sources, .. } = &operator.role else {
                continue;
            };
            let Some(sides) = self.size(operator.id).and_then(|size| size.sides) else {
                continue;
            };
            let read =
                [0, 1].map(|side| -> u64 { sources[side].iter().map(|s| self.read(*s)).sum() });
            let names = [0, 1].map(|side| {
                let names = sources[side]
                    .iter()
                    .map(|s| self.outline.sources[*s].name.as_str());
                names.collect::<Vec<_>>().join(", ")
            });
            for side in [0, 1] {
                let other = 1 - side;
                if read[side] == 0 && sides[other] > 0 {
                    found.push(format!(
                        "{} pairs rows of {} with rows of {}: none of {} have come, so {} of {} wait there for a match.",
                        called(operator), names[0], names[1], names[side],
                        counted(sides[other], "row"), names[other]
                    ));
                } else if read[side] > 0
                    && sides[side] == 0
                    && sides[other] > 0
                    && commit.history.written == 0
                {
                    found.push(format!(
                        "{} keeps {} of {}, and none of {}: what came of {} was left out before, had null keys, or is too old to find a match.",
                        called(operator), counted(sides[other], "row"), names[other], names[side], names[side]
                    ));
                }
            }
            if sides[0] > 0 && sides[1] > 0 && commit.history.written == 0 {
                found.push(format!(
                    "{} has found no match: {} of {} and {} of {} are kept, and no two of them meet its condition.",
                    called(operator), counted(sides[0], "row"), names[0], number(sides[1]), names[1]
                ));
            }
        }
    }

    /// Operators that give rows once the watermark has passed them, then what holds it.
    fn waiting(&self, found: &mut Vec<String>) {
        let mut first: Option<EventTime> = None;
        for operator in &self.outline.operators {
            let waiting = self
                .size(operator.id)
                .and_then(|size| size.waiting.as_ref());
            let Some(waiting) = waiting.filter(|waiting| waiting.rows > 0) else {
                continue;
            };
            let what = match &operator.role {
                Role::OnClose { unit } => format!(
                    "{} mode gives each {unit} once, when the watermark has passed its end",
                    self.outline.mode
                ),
                _ => "a row without a match is given once none can come any more".into(),
            };
            let mut said = format!("{} in {}: {what}.", wait(waiting.rows), called(operator));
            if let Some((due, rows)) = waiting.next.first() {
                first = Some(first.map_or(*due, |first| first.min(*due)));
                let these = match (*rows, waiting.rows) {
                    (1, 1) => "It comes".to_owned(),
                    (1, _) => "The first comes".to_owned(),
                    (rows, all) if rows == all => "They come".to_owned(),
                    (rows, _) => format!("The first {} come", number(rows)),
                };
                said.push_str(&format!(
                    " {these} out when the watermark reaches {}",
                    moment(*due)
                ));
                if let Some(watermark) = self.watermark() {
                    let away = span(due.saturating_sub(watermark));
                    said.push_str(&format!(
                        "; it stands at {}, {away} before",
                        moment(watermark)
                    ));
                }
                said.push('.');
            }
            found.push(said);
        }
        let Some(due) = first else { return };
        if let Some(holder) = self.holder() {
            found.push(self.held_by(holder, due));
        }
        if self.outline.ends && !matches!(self.state, State::Running { .. }) {
            found.push(ENDS.into());
        }
    }

    /// What holds the watermark, and what it takes to reach `due`.
    fn held_by(&self, holder: Holder<'_>, due: EventTime) -> String {
        match holder {
            Holder::Silent(source) => {
                let name = &self.outline.sources[source].name;
                format!(
                    "There is no watermark yet: no row of {name} with an event time has come{}.",
                    if self.outline.sources.len() > 1 {
                        ", and the slowest table decides"
                    } else {
                        ""
                    }
                )
            }
            Holder::AllIdle(source) => format!(
                "All partitions of {} are idle: its watermark stays where its last rows left it until one of them speaks.",
                self.outline.sources[source].name
            ),
            Holder::Slowest(mark) => self.slowest(mark, due),
        }
    }

    fn slowest(&self, mark: Standing<'_>, due: EventTime) -> String {
        let name = &self.outline.sources[mark.source].name;
        let column = &mark.of.column;
        let newest = mark.state.max_event_time.map_or(String::new(), moment);
        let others: Vec<Standing<'_>> = (self.timed_sources())
            .flat_map(|(source, _)| self.marks(source))
            .filter(|other| {
                other.source != mark.source || other.state.partition != mark.state.partition
            })
            .collect();
        let ahead = (others.iter().filter(|other| !other.idle))
            .filter_map(|other| Some(other.mark? - mark.mark?))
            .max();
        let which = if others.is_empty() {
            name.clone()
        } else {
            format!("partition {} of {name}", mark.state.partition)
        };
        let mut said =
            format!("The watermark is held by {which}: the newest {column} there is {newest}");
        if let Some(ahead) = ahead.filter(|ahead| *ahead > 0) {
            said.push_str(&format!(", and others are up to {} ahead", span(ahead)));
        }
        let silent = self.silent_for(mark.state);
        let unread = self
            .unread_of(mark.source, &mark.state.partition)
            .unwrap_or(0);
        if unread > 0 {
            said.push_str(&format!(
                "; it lags: {} of it were there and not read after the last epoch",
                counted(unread, "record")
            ));
        } else {
            said.push_str(&format!("; the last rows came {}", ago(silent)));
        }
        let needed = due.saturating_add(mark.of.delay);
        said.push_str(&format!(
            ". It takes a row with a {column} of {} or later{}.",
            moment(needed),
            if others
                .iter()
                .any(|other| !other.idle && other.mark.is_some_and(|at| at < due))
            {
                ", there and in each other partition that is behind it"
            } else if others.is_empty() {
                ""
            } else {
                " there"
            }
        ));
        let holds_others = ahead.is_some_and(|ahead| ahead > 0) && unread == 0;
        match mark.of.idle_timeout {
            None if holds_others => said.push_str(&format!(
                " If nothing more is to come there, {}",
                idle_timeout(name)
            )),
            Some(timeout) if holds_others && matches!(self.state, State::Running { .. }) => {
                said.push_str(&format!(
                    " It is left out once nothing has come for {} ('idleTimeout'), which is in {}.",
                    span(timeout),
                    span(timeout.saturating_sub(silent))
                ));
            }
            _ => {}
        }
        said
    }

    /// Rows whose event time is far ahead of all that came after them, or of the clock.
    fn leaps(&self) -> Vec<String> {
        let Some(commit) = self.commit else {
            return vec![];
        };
        let mut found = Vec::new();
        for (source, _) in self.timed_sources() {
            for mark in self.marks(source) {
                let seen = &mark.state.seen;
                let (Some(newest), Some(at)) = (mark.state.max_event_time, mark.mark) else {
                    continue;
                };
                let behind = seen.newest_since.filter(|since| *since < at);
                let future = newest.saturating_sub(self.now);
                let moves = self.watermark().is_some_and(|watermark| watermark >= at);
                if !moves || (behind.is_none() && future < FUTURE) {
                    continue;
                }
                let name = &self.outline.sources[source].name;
                let epoch = seen
                    .greatest
                    .map_or(String::new(), |(epoch, _)| format!(" in epoch {epoch}"));
                let mut said = format!(
                    "A row of {name}, partition {}, that came{epoch} has the {} {}",
                    mark.state.partition,
                    mark.of.column,
                    moment(newest)
                );
                if future >= FUTURE {
                    said.push_str(&format!(", {} in the future", span(future)));
                }
                if let Some(since) = behind {
                    said.push_str(&format!(
                        ". {} came since, and the newest of that has {}, {} before",
                        counted(seen.since, "row"),
                        moment(since),
                        span(newest.saturating_sub(since))
                    ));
                }
                said.push_str(&format!(". It moved the watermark to {}", moment(at)));
                if let Some((moved, _)) = commit.history.moved {
                    said.push_str(&format!(
                        " with epoch {moved}; since then {}",
                        late_rows(commit.history.late_since)
                    ));
                }
                said.push_str(". The watermark never goes back");
                if let Some((epoch, _)) = seen.greatest.filter(|(epoch, _)| *epoch > 0) {
                    said.push_str(&format!(
                        ": if that row is wrong, take it out of the input, and go back to before it with tidemark checkpoint DIR --rollback {}",
                        epoch - 1
                    ));
                }
                said.push('.');
                found.push(said);
            }
        }
        found
    }

    fn late(&self, found: &mut Vec<String>) {
        let Some(commit) = self.commit else { return };
        let late: u64 = commit.history.late.values().sum();
        if late > 0 {
            found.push(format!(
                "So far {}, {} of them since the watermark last moved: it had passed them when they came. A longer delay in WATERMARK FOR keeps such rows, and gives results later.",
                late_rows(late), number(commit.history.late_since)
            ));
        }
    }

    /// Rows that were read and are nowhere.
    fn filters(&self, found: &mut Vec<String>) {
        let Some(commit) = self.commit else { return };
        let history = &commit.history;
        let read: u64 = history.read.iter().sum();
        let kept = commit.operators.iter().any(|operator| operator.rows > 0);
        if read > 0 && history.written == 0 && !kept && history.late.is_empty() {
            let filters: Vec<&str> = (self.outline.operators.iter())
                .filter(|operator| operator.role == Role::Filter)
                .map(|operator| operator.text.as_str())
                .collect();
            if !filters.is_empty() {
                found.push(format!(
                    "None of the {} that were read got past: {}.",
                    counted(read, "row"),
                    filters.join("; ")
                ));
            }
        }
        for (source, dropped) in history
            .dropped
            .iter()
            .enumerate()
            .filter(|(_, dropped)| **dropped > 0)
        {
            found.push(format!(
                "{} of {} left out, which could not be decoded: 'mode' = 'FAILFAST' on the table shows the first.",
                counted(*dropped, "record"), self.outline.sources[source].name
            ));
        }
    }
}

/// What is to be said of a trigger that ends.
const ENDS: &str = "Its trigger ends the query once all is read that was there at its start: what waits then stays in its checkpoint until a later run reads rows that move the watermark on.";

/// How to go on without a table or partition.
fn idle_timeout(table: &str) -> String {
    format!(
        "'idleTimeout' = '1 minute' on table {table} lets the others go on without it after a minute of silence."
    )
}

/// `operator 3 (Aggregate ...)`.
fn called(operator: &OperatorOutline) -> String {
    format!("operator {} ({})", operator.id, operator.text)
}

fn wait(rows: u64) -> String {
    format!(
        "{} wait{}",
        counted(rows, "row"),
        if rows == 1 { "s" } else { "" }
    )
}

fn late_rows(rows: u64) -> String {
    match rows {
        0 => "no row came too late".into(),
        1 => "1 row came too late and was left out".into(),
        rows => format!("{} came too late and were left out", counted(rows, "row")),
    }
}
