//! A script cut into its statements, before any of them is planned.

use std::ops::Range;

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::tokens::{SourceText, tokenize};
use crate::plan::error::Result;

/// A script as tokens, cut at its semicolons. Statements are counted from 0.
#[derive(Debug)]
pub struct ScriptText {
    pub(super) source: SourceText,
    tokens: Vec<TokenWithSpan>,
    statements: Vec<Range<usize>>,
}

/// How a text ends that somebody is still typing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a semicolon, or nothing was said: it can be run.
    Complete,
    /// In the middle of a statement.
    Statement,
    /// Inside a string or a quoted name.
    Quote(char),
    /// Inside a comment.
    Comment,
}

impl ScriptText {
    /// Reads a script. `file` is what errors call it.
    pub fn read(text: &str, file: &str) -> Result<Self> {
        let (source, tokens) = tokenize(text, file)?;
        let mut statements = Vec::new();
        let mut start = 0;
        for part in tokens.split(|t| t.token == Token::SemiColon) {
            if !part.is_empty() {
                statements.push(start..start + part.len());
            }
            start += part.len() + 1;
        }
        Ok(Self {
            source,
            tokens,
            statements,
        })
    }

    /// How many statements there are.
    pub fn len(&self) -> usize {
        self.statements.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// The statement at `index` as it is written, without its semicolon.
    pub fn text(&self, index: usize) -> String {
        let tokens = self.statement(index);
        match (tokens.first(), tokens.last()) {
            (Some(first), Some(last)) => self.source.slice(first.span.start, last.span.end),
            _ => String::new(),
        }
    }

    pub(super) fn statement(&self, index: usize) -> &[TokenWithSpan] {
        &self.tokens[self.statements[index].clone()]
    }
}

impl Ending {
    /// How `text` ends. What cannot be read at all is complete: its error says why.
    pub fn of(text: &str) -> Self {
        if let Ok(script) = ScriptText::read(text, "") {
            return match script.tokens.last() {
                None => Self::Complete,
                Some(last) if last.token == Token::SemiColon => Self::Complete,
                Some(_) => Self::Statement,
            };
        }
        // What is open is what makes it readable when it is closed.
        let closed_by = |closer: &str| ScriptText::read(&format!("{text}{closer}"), "").is_ok();
        if let Some(quote) = ['\'', '"', '`']
            .into_iter()
            .find(|c| closed_by(&c.to_string()))
        {
            Self::Quote(quote)
        } else if closed_by("*/") {
            Self::Comment
        } else {
            Self::Complete
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_cut_at_semicolons_outside_of_quotes_and_comments() {
        let text = "SELECT ';' -- no; end\n, 1; ; /* ; */ SELECT `a;b`;\nSET x = 'é'";
        let script = ScriptText::read(text, "s.sql").expect("a script");
        let texts: Vec<String> = (0..script.len()).map(|n| script.text(n)).collect();
        assert_eq!(
            texts,
            ["SELECT ';' -- no; end\n, 1", "SELECT `a;b`", "SET x = 'é'"]
        );
        assert!(!script.is_empty());
    }

    #[test]
    fn what_is_still_open_is_known() {
        for (text, ending) in [
            ("", Ending::Complete),
            ("  -- a comment; only", Ending::Complete),
            ("SELECT 1;", Ending::Complete),
            ("SELECT 1; -- done", Ending::Complete),
            ("SELECT 1", Ending::Statement),
            ("SELECT 1; SELECT", Ending::Statement),
            ("SELECT 'it;", Ending::Quote('\'')),
            ("SELECT 'it\\';", Ending::Quote('\'')),
            ("SELECT \"it's;", Ending::Quote('"')),
            ("SELECT `a;", Ending::Quote('`')),
            ("SELECT 1 /* it's;", Ending::Comment),
        ] {
            assert_eq!(Ending::of(text), ending, "{text}");
        }
    }
}
