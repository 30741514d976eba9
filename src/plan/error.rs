//! What can be wrong with a script, said so that it can be put right: the place, the offending
//! text with a line of carets below it, and the remedy.

use std::fmt;

use tidemark_connectors::ConnectorError;

use super::redact::redact_line;

/// The result of planning.
pub type Result<T, E = PlanError> = std::result::Result<T, E>;

/// An error at a place of a script.
#[derive(Debug, thiserror::Error)]
#[error("{place}{kind}{excerpt}")]
pub struct PlanError {
    /// Where.
    pub place: Place,
    /// The line it is on, with carets; empty where there is none to show.
    pub excerpt: Excerpt,
    /// What.
    pub kind: Box<PlanErrorKind>,
}

/// `file:line:column`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file as the user named it.
    pub file: String,
    /// From 1; 0 where unknown.
    pub line: u64,
    /// From 1.
    pub column: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file.is_empty(), self.line) {
            (true, 0) => Ok(()),
            (false, 0) => write!(f, "{}: ", self.file),
            (_, _) => write!(f, "{}:{}:{}: ", self.file, self.line, self.column),
        }
    }
}

/// The line of the script that an error is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excerpt {
    /// The whole line.
    pub text: String,
    /// Its number; 0: nothing to show.
    pub line: u64,
    /// Where the carets begin, from 1.
    pub column: u64,
    /// How many carets.
    pub length: u64,
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return Ok(());
        }
        let number = self.line.to_string();
        // A tab before the carets stays a tab, so that they stand below the text in any terminal.
        let indent: String = (self.text.chars())
            .take(self.column.saturating_sub(1) as usize)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let carets = "^".repeat(self.length.max(1) as usize);
        write!(
            f,
            "\n  {number} | {}\n  {} | {indent}{carets}",
            redact_line(&self.text),
            " ".repeat(number.len())
        )
    }
}

impl Excerpt {
    /// The word at a place of `text`; nothing where there is no such line.
    pub fn word(text: &str, position: super::catalog::Position) -> Self {
        let Some(line) = position
            .line
            .checked_sub(1)
            .and_then(|line| text.lines().nth(line as usize))
        else {
            return Self::default();
        };
        let rest = line
            .chars()
            .skip(position.column.saturating_sub(1) as usize);
        let length = rest
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .count() as u64;
        Self {
            text: line.to_owned(),
            line: position.line,
            column: position.column,
            length,
        }
    }
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanErrorKind {
    /// The text is no SQL.
    #[error("{}{message}", if .message.starts_with('[') { "" } else { "[PARSE_SYNTAX_ERROR] " })]
    Syntax {
        /// What was expected, and what is there.
        message: String,
    },
    /// A column that no table has.
    #[error("[UNRESOLVED_COLUMN.{}] unknown column '{name}'{}", if .nearest.is_some() || !.columns.is_empty() { "WITH_SUGGESTION" } else { "WITHOUT_SUGGESTION" }, near_columns(.nearest.as_deref(), .table.as_deref(), .columns))]
    UnknownColumn {
        /// As written.
        name: String,
        /// The nearest that exists.
        nearest: Option<String>,
        /// The table that was searched, where it is one.
        table: Option<String>,
        /// The columns there are.
        columns: Vec<String>,
    },
    /// A name that two tables have.
    #[error(
        "[AMBIGUOUS_REFERENCE] column '{name}' is ambiguous: more than one table has it; write table.{name}"
    )]
    AmbiguousColumn {
        /// As written.
        name: String,
    },
    /// A table that is not declared.
    #[error("[TABLE_OR_VIEW_NOT_FOUND] unknown table '{name}'{}{}{}", did_you_mean(.nearest.as_deref()), if .nearest.is_some() { " " } else { "; " }, declared(.tables))]
    UnknownTable {
        /// As written.
        name: String,
        /// The nearest that exists.
        nearest: Option<String>,
        /// All that exist.
        tables: Vec<String>,
    },
    /// A function that does not exist.
    #[error("[UNRESOLVED_ROUTINE] unknown function '{name}'{}", did_you_mean(.nearest.as_deref()))]
    UnknownFunction {
        /// As written.
        name: String,
        /// The nearest that exists.
        nearest: Option<String>,
    },
    /// A type name that is not known.
    #[error(
        "[UNSUPPORTED_DATATYPE] unknown type '{name}'; use BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p,s), STRING, BINARY, DATE, TIMESTAMP, TIMESTAMP_NTZ, INTERVAL, ARRAY<..>, MAP<..> or STRUCT<..>"
    )]
    UnknownType {
        /// As written.
        name: String,
    },
    /// A table or view that is there already.
    #[error("{what} '{name}' is already declared at {first}; use another name or DROP it first")]
    Redeclared {
        /// `table` or `view`.
        what: &'static str,
        /// Its name.
        name: String,
        /// `line:column` of the first declaration.
        first: String,
    },
    /// Two columns of one name.
    #[error("column '{name}' is declared twice; names do not depend on case")]
    DuplicateColumn {
        /// Its name.
        name: String,
    },
    /// A table without a connector.
    #[error("table '{table}' has no connector; write WITH ('connector' = '...', ...)")]
    MissingConnector {
        /// The table.
        table: String,
    },
    /// A setting that does not exist.
    #[error("unknown setting '{key}'{}", did_you_mean(.nearest.as_deref()))]
    UnknownSetting {
        /// As written.
        key: String,
        /// The nearest that exists.
        nearest: Option<String>,
    },
    /// A value that makes no sense.
    #[error("'{key}' = '{value}': expected {expected}")]
    BadValue {
        /// The option or setting.
        key: String,
        /// As written.
        value: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// `${ENV:NAME}` names a variable that is not set.
    #[error(
        "option '{key}' wants the environment variable {variable}, which is not set; export it or write the value"
    )]
    MissingVariable {
        /// The option.
        key: String,
        /// The variable.
        variable: String,
    },
    /// `${FILE:path}` names a file that cannot be read.
    #[error("option '{key}' wants what is in the file {path}, which cannot be read: {reason}")]
    UnreadableFile {
        /// The option.
        key: String,
        /// The file.
        path: String,
        /// Why not.
        reason: String,
    },
    /// A text that is no interval.
    #[error("'{text}' is no length of time; write for example '5 minutes' or INTERVAL '5' MINUTE{}", .why.map(|why| format!(" ({why})")).unwrap_or_default())]
    BadInterval {
        /// As written.
        text: String,
        /// What is wrong with it, where that is known.
        why: Option<&'static str>,
    },
    /// `WATERMARK FOR` that cannot be.
    #[error("watermark of table '{table}': {reason}")]
    BadWatermark {
        /// The table.
        table: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// A window that cannot be.
    #[error("{call}: {reason}")]
    BadWindow {
        /// The call's name.
        call: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// The result does not fit the table that it is written to.
    #[error("INSERT INTO {table}: the query gives {} ({given}), the table has {} ({declared})", columns(*.got), columns(*.wanted))]
    ColumnCount {
        /// The table.
        table: String,
        /// How many the query gives.
        got: usize,
        /// Their names.
        given: String,
        /// How many the table has.
        wanted: usize,
        /// Their names.
        declared: String,
    },
    /// A column of the result does not fit the column that it is written to.
    #[error(
        "INSERT INTO {table}: column '{column}' is {wanted}, and the query's {got} cannot be cast to it; write a CAST or change the table"
    )]
    ColumnType {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The table's type.
        wanted: String,
        /// The query's type.
        got: String,
    },
    /// Something that exists elsewhere, and not here.
    #[error("{what} is not supported{}", .instead.as_ref().map(|i| format!("; {i}")).unwrap_or_default())]
    Unsupported {
        /// What.
        what: String,
        /// What there is instead.
        instead: Option<String>,
    },
    /// A connector refused.
    #[error("table '{table}': {source}")]
    Connector {
        /// The table.
        table: String,
        /// Why.
        source: ConnectorError,
    },
    /// A type that does not fit, or another finding of the query planner.
    #[error("{message}")]
    Query {
        /// The planner's words.
        message: String,
    },
    /// Answering the query as a batch failed.
    #[error("batch query failed: {message}")]
    Batch {
        /// Why.
        message: String,
    },
    /// The query cannot run as a stream.
    #[error(transparent)]
    Stream(#[from] super::convert::ConvertError),
}

impl PlanErrorKind {
    /// The error at a place of a file, without the text there.
    pub fn at(self, file: &str, position: super::catalog::Position) -> PlanError {
        PlanError {
            place: Place {
                file: file.to_owned(),
                line: position.line,
                column: position.column,
            },
            ..self.anywhere()
        }
    }

    /// The error without a place.
    pub fn anywhere(self) -> PlanError {
        PlanError {
            place: Place::default(),
            excerpt: Excerpt::default(),
            kind: Box::new(self),
        }
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest
        .map(|n| format!("; did you mean '{n}'?"))
        .unwrap_or_default()
}

fn near_columns(nearest: Option<&str>, table: Option<&str>, columns: &[String]) -> String {
    let mut text = did_you_mean(nearest);
    if !columns.is_empty() {
        let owner = table.map_or_else(|| "columns".to_owned(), |t| format!("columns of {t}"));
        text.push_str(if nearest.is_some() { " " } else { "; " });
        text.push_str(&owner);
        text.push_str(": ");
        text.push_str(&columns.join(", "));
    }
    text
}

fn columns(count: usize) -> String {
    format!("{count} column{}", if count == 1 { "" } else { "s" })
}

fn declared(names: &[String]) -> String {
    if names.is_empty() {
        "no table is declared yet: write CREATE TABLE first".into()
    } else {
        format!("declared are: {}", names.join(", "))
    }
}
