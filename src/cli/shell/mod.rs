//! `tidemark sql`: statements one after the other, from a terminal, a pipe, a file or `-e`.
//!
//! | module | what it does |
//! |---|---|
//! | [`editor`] | the prompt: lines become statements, history |
//! | [`complete`] | what Tab offers |
//! | [`watch`] | a `SELECT` while it runs |
//! | [`display`] | tables that fit a terminal |
//!
//! On a terminal a bare `SELECT` shows its current result in place until it ends or Ctrl-C ends it.
//! Elsewhere it runs to its end and its final result is printed; the first statement that fails
//! ends the script. `INSERT INTO` starts a query in the background in both.

mod complete;
mod display;
mod editor;
mod watch;

use std::io::{BufRead, IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemark_connectors::sinks::show::Zone;

use crate::cli::run::read;
use crate::cli::stop::Interrupt;
use crate::cli::{Failure, SqlArgs, say, session};
use crate::plan::catalog::{Answer, QueryStatement, Statement};
use crate::plan::sql::{Ending, ScriptText};
use crate::runtime::StreamingQuery;
use crate::session::Session;
use display::Grid;

/// Runs the shell.
pub(super) fn sql(args: &SqlArgs) -> Result<(), Failure> {
    let session = session(args.workers, None, (None, None), &args.settings)?;
    let interrupt = Interrupt::listen(&session)?;
    let given = match (&args.execute, &args.file) {
        (Some(text), _) => Some((text.clone(), "-e".to_owned())),
        (None, Some(file)) => Some((read(file)?, file.display().to_string())),
        (None, None) => None,
    };
    let at_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let mut shell = Shell {
        screen: Screen::new(given.is_none() && at_terminal),
        session,
        interrupt,
        background: vec![],
    };
    let outcome = match given {
        Some((text, file)) => shell.run(&text, &file).map(drop),
        None if at_terminal => return editor::run(shell),
        None => shell.run_lines(std::io::stdin().lock()),
    };
    shell.wait_for_background(outcome)
}

/// Whether the shell goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Next,
    Exit,
}

/// Where the shell writes, and how.
struct Screen {
    /// Results are redrawn, and each statement says how long it took.
    interactive: bool,
    colors: bool,
}

/// One session and what runs in it.
struct Shell {
    session: Session,
    screen: Screen,
    interrupt: Arc<Interrupt>,
    background: Vec<Arc<StreamingQuery>>,
}

impl Screen {
    fn new(interactive: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            interactive,
            colors: interactive && wanted,
        }
    }

    /// Columns and rows of the terminal, if there is one.
    fn size() -> Option<(usize, usize)> {
        if !std::io::stdout().is_terminal() {
            return None;
        }
        let (columns, rows) = rustyline::DefaultEditor::new().ok()?.dimensions()?;
        Some((usize::from(columns).max(20), usize::from(rows).max(8)))
    }

    /// Writes to standard output. A reader that has gone ends the shell.
    fn print(text: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        written.map_err(|error| match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::reader_gone(),
            _ => Failure::query(format!("cannot write to standard output: {error}")),
        })
    }

    /// What is beside the matter.
    fn dim(&self, text: &str) -> String {
        self.styled("2", text)
    }

    fn styled(&self, style: &str, text: &str) -> String {
        if self.colors {
            format!("\x1b[{style}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// An error of a statement at the prompt.
    fn complain(&self, message: &str) {
        say(&format!("{} {message}", self.styled("1;31", "error:")));
    }

    /// A line about what was done, on a terminal only.
    fn note(&self, text: &str) -> Result<(), Failure> {
        if self.interactive {
            Self::print(&format!("{}\n", self.dim(text)))
        } else {
            Ok(())
        }
    }
}

/// How long something took.
fn took(began: Instant) -> String {
    let took = began.elapsed();
    if took < Duration::from_mins(1) {
        format!("{:.3} s", took.as_secs_f64())
    } else {
        format!("{} min {} s", took.as_secs() / 60, took.as_secs() % 60)
    }
}

impl Shell {
    /// Runs what comes, as soon as a line ends a statement.
    fn run_lines(&mut self, lines: impl BufRead) -> Result<(), Failure> {
        let mut pending = String::new();
        let mut before = 0;
        for line in lines.lines() {
            let line = line.map_err(|error| {
                Failure::usage(format!(
                    "cannot read standard input: {error}; a script is text in UTF-8"
                ))
            })?;
            pending.push_str(&line);
            pending.push('\n');
            if Ending::of(&pending) == Ending::Complete {
                // Lines that are done count on, for errors that name theirs.
                let text = format!("{}{pending}", "\n".repeat(before));
                before += pending.lines().count();
                pending.clear();
                if self.run(&text, "stdin")? == Flow::Exit {
                    return Ok(());
                }
            }
        }
        let text = format!("{}{pending}", "\n".repeat(before));
        self.run(&text, "stdin").map(drop)
    }

    /// Runs the statements of `text` until one fails, one says EXIT, or the user interrupts.
    fn run(&mut self, text: &str, file: &str) -> Result<Flow, Failure> {
        let script = self.session.read(text, file)?;
        for index in 0..script.len() {
            if self.interrupt.is_asked() {
                break;
            }
            match script.text(index).to_lowercase().as_str() {
                "exit" | "quit" => return Ok(Flow::Exit),
                "help" | "?" => Screen::print(HELP)?,
                _ => self.statement(&script, index)?,
            }
        }
        Ok(Flow::Next)
    }

    fn statement(&mut self, script: &ScriptText, index: usize) -> Result<(), Failure> {
        let began = Instant::now();
        for statement in self.session.statement(script, index)? {
            match &statement {
                Statement::Query(query) if query.target.is_none() => {
                    watch::select(self, query, began)?;
                }
                Statement::Query(query) => self.insert(query)?,
                Statement::Explain(query) => {
                    let plan = self.session.plan(query)?;
                    Screen::print(&format!("{}\n", plan.explain()))?;
                }
                Statement::Answer(answer) => self.answer(answer, began)?,
                Statement::ShowQueries(_) => {
                    self.answer(&Answer::Rows(self.session.running()), began)?;
                }
                Statement::StopQuery { name, .. } => {
                    self.session.stop_query(name)?;
                    self.background.retain(|query| query.is_active());
                    self.screen.note(&format!("stopped, {}", took(began)))?;
                }
                Statement::CreateTable(_)
                | Statement::CreateView { .. }
                | Statement::Set { .. }
                | Statement::Drop { .. } => {
                    self.screen.note(&format!("OK, {}", took(began)))?;
                }
            }
        }
        Ok(())
    }

    /// Starts a query that writes into a table.
    fn insert(&mut self, query: &QueryStatement) -> Result<(), Failure> {
        let plan = self.session.plan(query)?;
        let query = self.session.start(&plan, None)?;
        let name = query.name();
        let mode = plan.mode;
        self.screen.note(&format!(
            "query '{name}' runs in the background, {mode} mode"
        ))?;
        self.background.push(query);
        Ok(())
    }

    fn answer(&self, answer: &Answer, began: Instant) -> Result<(), Failure> {
        match answer {
            Answer::Text(text) => Screen::print(&format!("{text}\n")),
            Answer::Rows(batch) => {
                let rows = display::rows(std::slice::from_ref(batch), Zone::UTC).map_err(shown)?;
                let width = Screen::size().map(|(columns, _)| columns);
                let grid = Grid::new(&batch.schema(), &rows, width);
                Screen::print(&grid.table(&rows))?;
                let count = display::count(rows.len() as u64);
                self.screen.note(&format!("{count}, {}", took(began)))
            }
        }
    }

    /// Says which queries in the background have ended since the last time; whether one failed.
    fn report_ended(&mut self) -> Result<bool, Failure> {
        let (running, ended): (Vec<_>, Vec<_>) = std::mem::take(&mut self.background)
            .into_iter()
            .partition(|query| query.is_active());
        self.background = running;
        let mut failed = false;
        for query in ended {
            match query.await_termination() {
                Ok(()) => self
                    .screen
                    .note(&format!("query '{}' has ended", query.name()))?,
                Err(error) => {
                    failed = true;
                    let message = format!("query '{}': {error}", query.name());
                    self.screen.complain(&message);
                }
            }
        }
        Ok(failed)
    }

    /// Ends the queries in the background once their epochs in flight are committed.
    fn stop_background(&mut self) -> Result<bool, Failure> {
        self.background
            .iter()
            .for_each(|query| query.request_stop());
        for query in &self.background {
            // How it ended is reported below.
            let _ = query.await_termination();
        }
        self.report_ended()
    }

    /// The end of a script: its queries go on until they end or the user interrupts. After an
    /// error they are stopped.
    fn wait_for_background(&mut self, outcome: Result<(), Failure>) -> Result<(), Failure> {
        let mut failed = false;
        while outcome.is_ok() && !self.background.is_empty() && !self.interrupt.is_asked() {
            if let Some(query) = self.background.first() {
                query.await_termination_timeout(Duration::from_millis(50));
            }
            failed |= self.report_ended()?;
        }
        failed |= self.stop_background()?;
        match outcome {
            Ok(()) if failed => Err(Failure::told()),
            other => other,
        }
    }
}

/// A result that cannot be shown.
fn shown(error: tidemark_connectors::ConnectorError) -> Failure {
    Failure::query(error.to_string())
}

const HELP: &str = "\
Statements end with ';' and may take several lines.
Tab completes, Ctrl-R searches the history.

  CREATE TABLE t (c TYPE, ..., WATERMARK FOR c AS c - INTERVAL ...) WITH (...)
  CREATE VIEW v AS SELECT ...     name a query
  SELECT ...                      show a query's current result; Ctrl-C ends it
  INSERT INTO t SELECT ...        start a query in the background
  SHOW QUERIES                    what runs in the background
  STOP QUERY name                 end it
  EXPLAIN SELECT ...              the plan: what is kept, and for how long
  SHOW TABLES | VIEWS | FUNCTIONS [LIKE 'p*']
  SHOW CREATE TABLE t             the declaration
  DESCRIBE t | FUNCTION f | SELECT ...
  SET 'key' = 'value'             set a setting; SET key asks, SET lists all
  DROP TABLE t, DROP VIEW v       forget a declaration
  HELP or ?, EXIT, QUIT or Ctrl-D
";
