//! `tidemark bench`: bundled queries over a bundled generator, measured.
//!
//! Several queries, or rounds, run one after the other in a process each: what one leaves in memory is no other's
//! peak.

mod measure;
mod process;

use std::process::{Command, Stdio};

use indicatif::{HumanBytes, HumanCount};
use tidemark_dataflows::nexmark;

use self::measure::{Measured, measure, tables};
use crate::cli::{Failure, NexmarkArgs, print, say};

/// The queries asked for, with their SQL.
fn asked(args: &NexmarkArgs) -> Result<Vec<(&'static str, &'static str)>, Failure> {
    if args
        .query
        .iter()
        .any(|name| name.eq_ignore_ascii_case("all"))
    {
        return Ok(nexmark::QUERIES.to_vec());
    }
    let find = |name: &String| {
        let mut known = nexmark::QUERIES.into_iter();
        known
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .ok_or_else(|| {
                Failure::usage(format!(
                    "there is no query '{name}'; --query takes q0 to q22, several with commas, or all"
                ))
            })
    };
    args.query.iter().map(find).collect()
}

/// Runs the queries and prints what they took.
pub(super) fn nexmark(args: &NexmarkArgs) -> Result<(), Failure> {
    let queries = asked(args)?;
    if args.sql {
        let tables = tables(args);
        return queries
            .iter()
            .try_for_each(|(_, sql)| print(&format!("{tables}\n{sql}")));
    }
    let mut all = vec![];
    for (name, sql) in &queries {
        let measured = if queries.len() == 1 && args.rounds == 1 {
            measure(args, name, sql)?
        } else {
            median(args, name)?
        };
        if args.json {
            let line = serde_json::to_string(&measured)
                .map_err(|error| Failure::query(error.to_string()))?;
            print(&format!("{line}\n"))?;
        } else {
            all.push(measured);
        }
    }
    if args.json {
        return Ok(());
    }
    print(&table(&all))
}

/// The round whose wall time is in the middle.
fn median(args: &NexmarkArgs, name: &str) -> Result<Measured, Failure> {
    let mut rounds = (0..args.rounds)
        .map(|_| apart(args, name))
        .collect::<Result<Vec<_>, _>>()?;
    rounds.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let median = rounds.swap_remove(rounds.len() / 2);
    if !args.json {
        say(&format!("{name}: {:.2} s", median.seconds));
    }
    Ok(median)
}

/// Runs a query once in a process of its own.
fn apart(args: &NexmarkArgs, name: &str) -> Result<Measured, Failure> {
    let failed = |what: String| Failure::query(format!("{name}: {what}"));
    let program = std::env::current_exe()
        .map_err(|error| failed(format!("cannot find this program: {error}")))?;
    let mut command = Command::new(program);
    command.args(["bench", "nexmark", "--json", "--query", name]);
    for (option, value) in [
        ("--events", args.events),
        ("--workers", args.workers.into()),
        ("--rate", args.rate),
        ("--seed", args.seed),
    ] {
        command.args([option, &value.to_string()]);
    }
    if args.checkpoint {
        command.arg("--checkpoint");
    }
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failed(format!("cannot start: {error}")))?;
    if !output.status.success() {
        return Err(failed(format!("ended with {}", output.status)));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))
}

/// A table for people: a line for each query.
fn table(all: &[Measured]) -> String {
    let head = [
        "query",
        "events/s",
        "wall",
        "CPU",
        "CPU/million",
        "peak",
        "state rows",
        "state",
        "output rows",
        "last/first",
        "generator/s",
    ];
    let millions = |rate: f64| format!("{:.2} M", rate / 1e6);
    let lines: Vec<[String; 11]> = all
        .iter()
        .map(|of| {
            [
                of.query.clone(),
                millions(of.events_per_second),
                format!("{:.2} s", of.seconds),
                format!("{:.2} s", of.cpu_seconds),
                format!("{:.3} s", of.cpu_seconds_per_million),
                HumanBytes(of.peak_bytes).to_string(),
                HumanCount(of.state_rows).to_string(),
                HumanBytes(of.state_bytes).to_string(),
                HumanCount(of.output_rows).to_string(),
                of.last_to_first
                    .map_or("-".into(), |ratio| format!("{ratio:.2}")),
                millions(of.generator_events_per_second),
            ]
        })
        .collect();
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].len());
        cells.max().unwrap_or(0).max(head[column].len())
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let row = |cells: &[&str]| {
        let cells = cells.iter().zip(&widths).enumerate();
        let cells = cells.map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        format!("{}\n", cells.collect::<Vec<_>>().join("  "))
    };
    let mut text = all.first().map_or(String::new(), |of| {
        format!(
            "Nexmark: {} events, {} workers\n\n",
            HumanCount(of.events),
            of.workers
        )
    });
    text.push_str(&row(&head));
    for line in &lines {
        text.push_str(&row(&line.each_ref().map(String::as_str)));
    }
    text
}
