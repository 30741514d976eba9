//! The prompt: lines become statements, with history and completion.

use std::cell::RefCell;
use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use super::{Flow, Screen, Shell, complete};
use crate::cli::Failure;
use crate::plan::sql::Ending;
use crate::session::Session;

/// Entries that the history keeps.
const HISTORY: usize = 2_000;

/// Words that need no semicolon.
const COMMANDS: [&str; 4] = ["exit", "quit", "help", "?"];

/// Lines that do not make a statement yet.
#[derive(Debug, Default)]
pub(super) struct Pending(String);

impl Pending {
    /// Takes a line; the text, once it can be run.
    pub(super) fn push(&mut self, line: &str) -> Option<String> {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(line);
        let word = self.0.trim().to_lowercase();
        if COMMANDS.contains(&word.as_str()) || Ending::of(&self.0) == Ending::Complete {
            return Some(std::mem::take(&mut self.0));
        }
        None
    }

    /// The prompt of the next line: its end says what is open.
    pub(super) fn prompt(&self) -> String {
        match Ending::of(&self.0) {
            Ending::Complete => "tidemark> ".into(),
            Ending::Statement => "       -> ".into(),
            Ending::Quote(quote) => format!("       {quote}> "),
            Ending::Comment => "      /*> ".into(),
        }
    }
}

/// What the line editor asks: completions.
struct Assistant {
    session: Session,
    /// The lines before the one that is edited.
    before: RefCell<String>,
}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let lines_before = self.before.borrow();
        let mut text = lines_before.clone();
        if !text.is_empty() {
            text.push('\n');
        }
        let offset = text.len();
        text.push_str(&line[..at]);
        let queries: Vec<String> = (self.session.streams().active().iter())
            .map(|query| query.name().to_owned())
            .collect();
        let (start, found) = complete::complete(&text, &self.session.words(), &queries);
        Ok((start.saturating_sub(offset), found))
    }
}

impl Hinter for Assistant {
    type Hint = String;
}

impl Highlighter for Assistant {}

impl Validator for Assistant {}

impl Helper for Assistant {}

/// Reads and runs statements until the user leaves.
pub(super) fn run(mut shell: Shell) -> Result<(), Failure> {
    let broken = |error: ReadlineError| Failure::query(format!("cannot use the terminal: {error}"));
    let config = Config::builder()
        .max_history_size(HISTORY)
        .and_then(|config| config.history_ignore_dups(true))
        .map_err(broken)?
        .history_ignore_space(true)
        .completion_type(CompletionType::List)
        .build();
    let mut editor: Editor<Assistant, FileHistory> = Editor::with_config(config).map_err(broken)?;
    editor.set_helper(Some(Assistant {
        session: shell.session.clone(),
        before: RefCell::default(),
    }));
    let history = history_file();
    if let Some(path) = &history {
        // The first time there is none.
        let _ = editor.load_history(path);
    }
    Screen::print(&format!(
        "tidemark {}   HELP lists the statements, Ctrl-D leaves\n",
        env!("CARGO_PKG_VERSION")
    ))?;
    let outcome = read_and_run(&mut shell, &mut editor);
    if let Some(path) = &history {
        let _ = path.parent().map(std::fs::create_dir_all);
        if let Err(error) = editor.append_history(path) {
            let place = path.display();
            shell
                .screen
                .complain(&format!("cannot keep the history in {place}: {error}"));
        }
    }
    let count = shell
        .background
        .iter()
        .filter(|query| query.is_active())
        .count();
    if count > 0 {
        let word = if count == 1 { "query" } else { "queries" };
        shell.screen.note(&format!("stopping {count} {word}"))?;
    }
    // Said already, where one failed: leaving is no failure.
    shell.stop_background()?;
    outcome
}

fn read_and_run(
    shell: &mut Shell,
    editor: &mut Editor<Assistant, FileHistory>,
) -> Result<(), Failure> {
    let mut pending = Pending::default();
    loop {
        shell.report_ended()?;
        if let Some(assistant) = editor.helper() {
            assistant.before.borrow_mut().clone_from(&pending.0);
        }
        shell.interrupt.set_at_prompt(true);
        let line = editor.readline(&prompt(&shell.screen, &pending));
        shell.interrupt.set_at_prompt(false);
        let line = match line {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                pending = Pending::default();
                continue;
            }
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(Failure::query(format!("cannot read the terminal: {error}"))),
        };
        let Some(text) = pending.push(&line) else {
            continue;
        };
        if text.trim().is_empty() {
            continue;
        }
        // Without a history the statement still runs.
        let _ = editor.add_history_entry(&text);
        shell.interrupt.forget();
        match shell.run(&text, "sql") {
            Ok(Flow::Next) => {}
            Ok(Flow::Exit) => return Ok(()),
            Err(Failure { code: 0, message }) if message.is_empty() => return Ok(()),
            Err(Failure { message, .. }) => shell.screen.complain(&message),
        }
    }
}

fn prompt(screen: &Screen, pending: &Pending) -> (String, String) {
    let plain = pending.prompt();
    let styled = screen.styled("1", &plain);
    (plain, styled)
}

/// `$XDG_STATE_HOME/tidemark/history`, or `~/.tidemark_history`.
fn history_file() -> Option<PathBuf> {
    let directory = |name| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    match directory("XDG_STATE_HOME") {
        Some(state) => Some(state.join("tidemark/history")),
        None => Some(directory("HOME")?.join(".tidemark_history")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_a_statement_and_the_prompt_says_what_is_open() {
        let mut pending = Pending::default();
        for (line, prompt) in [
            ("SELECT 'a", "       '> "),
            ("b;' AS x, /* why", "      /*> "),
            ("; */ `é", "       `> "),
            ("`", "       -> "),
        ] {
            assert_eq!(pending.push(line), None, "{line}");
            assert_eq!(pending.prompt(), prompt, "{line}");
        }
        assert_eq!(
            pending.push("FROM t;").as_deref(),
            Some("SELECT 'a\nb;' AS x, /* why\n; */ `é\n`\nFROM t;")
        );
        assert_eq!(pending.prompt(), "tidemark> ");
    }

    #[test]
    fn commands_need_no_semicolon() {
        for line in ["exit", " QUIT ", "help", "?", "exit;", "", "-- nothing"] {
            assert_eq!(Pending::default().push(line).as_deref(), Some(line));
        }
        assert_eq!(Pending::default().push("SELECT exit"), None);
    }
}
