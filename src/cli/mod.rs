//! The command line: arguments -> session. The only room that prints or exits.
//!
//! Exit codes: 0 finished or stopped on request, 1 a query failed, 2 bad usage or bad SQL.

mod bar;
mod bench;
mod checkpoint;
mod cluster;
mod demo;
mod run;
mod shell;
mod stop;
mod why;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::runtime::cluster::ClusterConfig;
use crate::session::{Session, SessionError};

/// An incremental stream processor: streaming SQL with Spark's model, in one binary.
#[derive(Debug, Parser)]
#[command(name = "tidemark", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the queries of a SQL file
    Run(RunArgs),
    /// Show the plan of each query of a SQL file: state, watermarks, output mode
    Explain(ExplainArgs),
    /// An interactive shell, or statements from -e, a file or a pipe, one after the other
    Sql(SqlArgs),
    /// A bundled generator, a windowed query and a live table: nothing to install
    Demo(DemoArgs),
    /// Run bundled queries over a bundled generator, and measure them
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Say why a query gives no rows: what it waits for, and which partition holds it up
    Why(WhyArgs),
    /// Show what a checkpoint directory holds, and verify its files
    Checkpoint(CheckpointArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The script
    file: PathBuf,
    /// Worker threads of each query
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// A setting that holds against the script's own SET, such as `outputMode=update`
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Answer the queries as a batch over all that is there now, and end
    #[arg(long)]
    batch: bool,
    /// What to show of the queries' progress [default: bar on a terminal without console tables, else none]
    #[arg(long, value_enum)]
    progress: Option<ProgressKind>,
    /// Serve metrics for Prometheus over HTTP on this address, such as 127.0.0.1:9464, as /metrics
    #[arg(long, value_name = "ADDR", conflicts_with = "batch")]
    metrics: Option<String>,
    /// Serve the queries over HTTP on this address, such as 8080 (on the loopback interface) or
    /// 0.0.0.0:8080: progress, plans, probes, metrics
    #[arg(long, value_name = "ADDR", conflicts_with = "batch")]
    http: Option<String>,
}

/// Several processes that run the script together.
#[derive(Debug, Args)]
struct ClusterArgs {
    /// How many processes run the script together
    #[arg(short = 'n', long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    processes: u16,
    /// Which of them this one is, from 0; the first plans and commits
    #[arg(short, long, default_value_t = 0)]
    process: u16,
    /// A file with the address of each process, `host:port`, one a line [default: localhost:2101 and up]
    #[arg(short = 'H', long)]
    hostfile: Option<PathBuf>,
    /// How many seconds to wait for the other processes at the start
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    connect_timeout: u64,
}

#[derive(Debug, Args)]
struct ExplainArgs {
    /// The script
    file: PathBuf,
    /// A setting that holds against the script's own SET
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
}

#[derive(Debug, Args)]
struct SqlArgs {
    /// Statements to run; without them and without a terminal they are read from standard input
    #[arg(conflicts_with = "execute")]
    file: Option<PathBuf>,
    /// Run these statements, and end
    #[arg(short, long, value_name = "SQL")]
    execute: Option<String>,
    /// Worker threads of each query
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// A setting that holds against SET, such as `trigger=available-now`
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// Worker threads
    #[arg(short, long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Events per second
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rate: u64,
    /// End after this many seconds [default: never on a terminal, else 5]
    #[arg(long)]
    seconds: Option<u64>,
    /// Print the SQL that runs, and end
    #[arg(long)]
    sql: bool,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// The Nexmark suite: people, auctions and bids
    Nexmark(NexmarkArgs),
}

#[derive(Debug, Args)]
struct NexmarkArgs {
    /// Which of q0 to q22, several with commas, or all
    #[arg(short, long, default_value = "all", value_delimiter = ',')]
    query: Vec<String>,
    /// How many events the generator makes
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
    /// Worker threads
    #[arg(short, long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Events a second of event time; they come as fast as they are read
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// Other seeds make other events
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Run each query so many times, and show the run in the middle
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Keep a checkpoint, in the directory for temporary files
    #[arg(long)]
    checkpoint: bool,
    /// Print a JSON object a line for each query
    #[arg(long)]
    json: bool,
    /// Print the SQL that runs, and end
    #[arg(long)]
    sql: bool,
}

#[derive(Debug, Args)]
struct WhyArgs {
    /// A script, a checkpoint directory, or the URL of `run --http`
    target: String,
    /// A setting that holds against the script's own SET
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
}

#[derive(Debug, Args)]
struct CheckpointArgs {
    /// The checkpoint directory
    dir: PathBuf,
    /// Print the rows that this operator keeps, as `tidemark explain` numbers it
    #[arg(long, value_name = "OPERATOR")]
    state: Option<u32>,
    /// How many rows to print
    #[arg(long, value_name = "N", default_value_t = 20, requires = "state")]
    limit: usize,
    /// Go back to this epoch, where the state of a later one is damaged: the next start runs what came
    /// after it again
    #[arg(long, value_name = "EPOCH", conflicts_with = "state")]
    rollback: Option<u64>,
}

/// What `--progress` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ProgressKind {
    /// A line for each query, redrawn in place
    Bar,
    /// One JSON object a line for each epoch, on standard error
    Json,
    /// Nothing
    None,
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().into(), value.trim().into()))
        }
        _ => Err("expected KEY=VALUE, such as outputMode=update".into()),
    }
}

/// Runs the command and gives its exit code.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Explain(args) => run::explain(&args),
        Command::Sql(args) => shell::sql(&args),
        Command::Demo(args) => demo::demo(&args),
        Command::Bench(BenchCommand::Nexmark(args)) => bench::nexmark(&args),
        Command::Why(args) => why::why(&args),
        Command::Checkpoint(args) => checkpoint::show(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { message, code }) => {
            if !message.is_empty() {
                say(&format!("error: {message}"));
            }
            ExitCode::from(code)
        }
    }
}

/// Writes to standard output. A reader that has gone, such as `head`, has what it wanted.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::query(
            format!("cannot write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}

/// Writes a line to standard error. Nobody can be told that nobody reads it.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Why the command ends before it is done.
struct Failure {
    /// Empty: the user has been told already.
    message: String,
    code: u8,
}

impl Failure {
    /// A query failed.
    fn query(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 1,
        }
    }

    /// A query failed, and the user has been told.
    fn told() -> Self {
        Self::query("")
    }

    /// Whoever read the output has closed it: there is nothing left to do.
    fn reader_gone() -> Self {
        Self {
            message: String::new(),
            code: 0,
        }
    }

    /// The user can mend the call or the script.
    fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 2,
        }
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        match &error {
            SessionError::Plan(_)
            | SessionError::Setting(_)
            | SessionError::Serve(_)
            | SessionError::Connector(_) => Self::usage(error.to_string()),
            SessionError::Query { .. } | SessionError::Ended(_) => Self::query(error.to_string()),
        }
    }
}

fn session(
    workers: u16,
    cluster: Option<ClusterConfig>,
    (metrics, http): (Option<&str>, Option<&str>),
    settings: &[(String, String)],
) -> Result<Session, Failure> {
    let mut builder = Session::builder().workers(usize::from(workers));
    if let Some(cluster) = cluster {
        builder = builder.cluster(cluster);
    }
    if let Some(address) = metrics {
        builder = builder.metrics(address);
    }
    if let Some(address) = http {
        builder = builder.http(address);
    }
    let builder = settings
        .iter()
        .fold(builder, |builder, (key, value)| builder.config(key, value));
    Ok(builder.build()?)
}
