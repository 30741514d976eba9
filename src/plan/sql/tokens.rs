//! A script as tokens that know where they stand.
//!
//! sqlparser's tokenizer runs once over the whole script; then what it misreads of Spark is put
//! right: strings in either kind of quotes, `r'..'`, neighbouring strings that are one, numbers
//! with a type behind them (`1.5D`, `10L`), names in backquotes without regard to case. White
//! space and comments are left out. Tokens that are made up later take the place of those that
//! they stand for, so that every error can point into the text.

use std::collections::HashMap;

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{
    Location, Span, Token, TokenWithSpan, Tokenizer, Word,
};

use super::dialect::TidemarkDialect;
use super::interval_tokens;
use crate::plan::catalog::Position;
use crate::plan::error::{Excerpt, Place, PlanError, PlanErrorKind, Result};

/// The text of a script, for errors that point into it.
#[derive(Clone, Debug, Default)]
pub(super) struct SourceText {
    file: String,
    lines: Vec<String>,
    /// Names in backquotes as written, by where they stand; inside they are in lower case.
    spellings: HashMap<(u64, u64), String>,
}

impl SourceText {
    /// What errors call the script.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    pub(super) fn new(text: &str, file: &str) -> Self {
        let lines = text.lines().map(str::to_owned).collect();
        Self {
            file: file.into(),
            lines,
            spellings: HashMap::new(),
        }
    }

    /// The error at `span`.
    pub(super) fn error(&self, span: Span, kind: PlanErrorKind) -> PlanError {
        let (line, column) = (span.start.line, span.start.column);
        if line == 0 {
            let place = Place {
                file: self.file.clone(),
                line: 0,
                column: 0,
            };
            return PlanError {
                place,
                excerpt: Excerpt::default(),
                kind: Box::new(kind),
            };
        }
        let text = self
            .lines
            .get(line as usize - 1)
            .cloned()
            .unwrap_or_default();
        let to_end = (text.chars().count() as u64 + 1).saturating_sub(column);
        let length = if span.end.line > line {
            to_end
        } else {
            span.end.column.saturating_sub(column).min(to_end)
        };
        PlanError {
            place: Place {
                file: self.file.clone(),
                line,
                column,
            },
            excerpt: Excerpt {
                text,
                line,
                column,
                length: length.max(1),
            },
            kind: Box::new(kind),
        }
    }

    /// A name as the user wrote it.
    pub(super) fn spelling(&self, value: &str, span: Span) -> String {
        let key = (span.start.line, span.start.column);
        self.spellings
            .get(&key)
            .cloned()
            .unwrap_or_else(|| value.to_owned())
    }

    /// The text from `from` to `to`, on one line or several.
    pub(super) fn slice(&self, from: Location, to: Location) -> String {
        let mut text = String::new();
        for number in from.line..=to.line {
            let Some(line) = self.lines.get((number as usize).saturating_sub(1)) else {
                break;
            };
            let start = if number == from.line {
                from.column.saturating_sub(1)
            } else {
                0
            } as usize;
            let end = if number == to.line {
                to.column.saturating_sub(1) as usize
            } else {
                usize::MAX
            };
            if number > from.line {
                text.push('\n');
            }
            text.extend(line.chars().take(end).skip(start));
        }
        text
    }
}

/// Where a span begins.
pub(super) fn position(span: Span) -> Position {
    Position {
        line: span.start.line,
        column: span.start.column,
    }
}

/// Reads a script.
pub(super) fn tokenize(text: &str, file: &str) -> Result<(SourceText, Vec<TokenWithSpan>)> {
    let mut source = SourceText::new(text, file);
    let raw = Tokenizer::new(&TidemarkDialect, text)
        .with_unescape(false)
        .tokenize_with_location()
        .map_err(|error| {
            let span = Span::new(error.location, error.location);
            let kind = PlanErrorKind::Syntax {
                message: error.message.clone(),
            };
            source.error(span, kind)
        })?;
    let mut tokens: Vec<TokenWithSpan> = Vec::with_capacity(raw.len());
    for TokenWithSpan { token, span } in raw {
        match token {
            Token::Whitespace(_) => {}
            Token::SingleQuotedString(body) => push_string(&mut tokens, &body, '\'', span),
            Token::DoubleQuotedString(body) => push_string(&mut tokens, &body, '"', span),
            Token::Number(digits, long) if digits.contains(['e', 'E']) && !long => {
                tokens.push(TokenWithSpan::new(Token::Number(digits, false), span));
            }
            Token::Number(digits, true) => {
                push_literal(&source, &mut tokens, digits, "BIGINT", span)?;
            }
            Token::Word(word) if word.quote_style == Some('`') => {
                let value = word.value.replace("``", "`");
                source
                    .spellings
                    .insert((span.start.line, span.start.column), value.clone());
                let word = Word {
                    value: value.to_lowercase(),
                    ..word
                };
                tokens.push(TokenWithSpan::new(Token::Word(word), span));
            }
            Token::Word(word) => match number_type(&tokens, &word, span) {
                Some(name) => {
                    let number = tokens
                        .pop()
                        .expect("number_type has seen a number before the word");
                    let span = number.span.union(&span);
                    let Token::Number(digits, _) = number.token else {
                        unreachable!("number_type has seen a number before the word")
                    };
                    push_literal(&source, &mut tokens, digits, name, span)?;
                }
                None => tokens.push(TokenWithSpan::new(Token::Word(word), span)),
            },
            token => tokens.push(TokenWithSpan::new(token, span)),
        }
    }
    // A literal with an exponent is a DOUBLE; only now is it sure that no type follows it.
    let mut done = Vec::with_capacity(tokens.len());
    for token in tokens {
        match token.token {
            Token::Number(digits, false) if digits.contains(['e', 'E']) => {
                push_literal(&source, &mut done, digits, "DOUBLE", token.span)?;
            }
            _ => done.push(token),
        }
    }
    let done = interval_tokens::rewrite(&source, done)?;
    Ok((source, done))
}

/// Whether `word` is the type of the number that it follows without a space between.
fn number_type(before: &[TokenWithSpan], word: &Word, span: Span) -> Option<&'static str> {
    let last = before.last()?;
    if !matches!(last.token, Token::Number(_, false)) || last.span.end != span.start {
        return None;
    }
    Some(match word.value.to_ascii_uppercase().as_str() {
        "D" => "DOUBLE",
        "F" => "FLOAT",
        "L" => "BIGINT",
        "S" => "SMALLINT",
        "Y" => "TINYINT",
        "BD" => "DECIMAL",
        _ => return None,
    })
}

/// A number of the type `name` as a cast; a sign before it is part of it.
fn push_literal(
    source: &SourceText,
    tokens: &mut Vec<TokenWithSpan>,
    digits: String,
    name: &'static str,
    span: Span,
) -> Result<()> {
    let outside = |range: &str| {
        let message = format!(
            "[INVALID_NUMERIC_LITERAL_RANGE] {digits} is outside the range of {name}, {range}"
        );
        source.error(span, PlanErrorKind::Syntax { message })
    };
    let least = match name {
        "TINYINT" => i128::from(i8::MIN),
        "SMALLINT" => i128::from(i16::MIN),
        "BIGINT" => i128::from(i64::MIN),
        "DECIMAL" => {
            // A decimal is one as it stands, a whole number with its digits.
            if digits.contains(['.', 'e', 'E']) {
                tokens.push(TokenWithSpan::new(Token::Number(digits, false), span));
            } else {
                let name = format!("DECIMAL({}, 0)", digits.len());
                push_cast(tokens, Token::SingleQuotedString(digits), &name, span);
            }
            return Ok(());
        }
        "FLOAT" => {
            if digits.parse::<f32>().is_ok_and(f32::is_infinite) {
                return Err(outside("up to 3.4028234663852886E38"));
            }
            push_cast(tokens, Token::SingleQuotedString(digits), name, span);
            return Ok(());
        }
        _ => {
            if digits.parse::<f64>().is_ok_and(f64::is_infinite) {
                return Err(outside("up to 1.7976931348623157E308"));
            }
            push_cast(tokens, Token::SingleQuotedString(digits), name, span);
            return Ok(());
        }
    };
    let signed = follows_operator(tokens) && tokens.last().is_some_and(|t| t.token == Token::Minus);
    let value = digits.parse::<i128>().unwrap_or(i128::MAX);
    let value = if signed { -value } else { value };
    if value < least || value > -least - 1 {
        return Err(outside(&format!("from {least} to {}", -least - 1)));
    }
    if signed {
        tokens.pop();
        push_cast(tokens, Token::Number(format!("-{digits}"), false), name, span);
    } else {
        push_cast(tokens, Token::Number(digits, false), name, span);
    }
    Ok(())
}

/// Whether the last token, a sign, has nothing before it that it could take away from.
fn follows_operator(tokens: &[TokenWithSpan]) -> bool {
    let Some(before) = tokens.len().checked_sub(2).map(|at| &tokens[at].token) else {
        return true;
    };
    match before {
        Token::Word(word) => word.keyword != Keyword::NoKeyword && word.quote_style.is_none(),
        Token::Number(..) | Token::SingleQuotedString(_) | Token::RParen | Token::RBracket => false,
        _ => true,
    }
}

/// `CAST(number AS name)`.
fn push_cast(tokens: &mut Vec<TokenWithSpan>, number: Token, name: &str, span: Span) {
    let mut all = vec![word("CAST"), Token::LParen];
    match number {
        Token::Number(digits, _) if digits.starts_with('-') => {
            all.extend([Token::Minus, Token::Number(digits[1..].to_owned(), false)]);
        }
        number => all.push(number),
    }
    all.push(word("AS"));
    match name.strip_prefix("DECIMAL(").and_then(|rest| rest.strip_suffix(", 0)")) {
        Some(precision) => all.extend([
            word("DECIMAL"),
            Token::LParen,
            Token::Number(precision.to_owned(), false),
            Token::RParen,
        ]),
        None => all.push(word(name)),
    }
    all.push(Token::RParen);
    tokens.extend(all.into_iter().map(|token| TokenWithSpan::new(token, span)));
}

fn push_string(tokens: &mut Vec<TokenWithSpan>, body: &str, quote: char, span: Span) {
    let raw = tokens.last().is_some_and(|last| {
        last.span.end == span.start
            && matches!(&last.token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case("r"))
    });
    let (text, span) = if raw {
        let prefix = tokens.pop().expect("the token looked at a line ago");
        (body.to_owned(), prefix.span.union(&span))
    } else {
        (unescape(body, quote), span)
    };
    if let Some(TokenWithSpan {
        token: Token::SingleQuotedString(before),
        span: at,
    }) = tokens.last_mut()
    {
        before.push_str(&text);
        *at = at.union(&span);
        return;
    }
    tokens.push(TokenWithSpan::new(Token::SingleQuotedString(text), span));
}

/// Spark's escapes, and the quote written twice.
fn unescape(body: &str, quote: char) -> String {
    let mut text = String::with_capacity(body.len());
    let mut chars = body.chars().peekable();
    while let Some(c) = chars.next() {
        if c == quote && chars.peek() == Some(&quote) {
            chars.next();
            text.push(quote);
            continue;
        }
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some('b') => text.push('\u{8}'),
            Some('0') => text.push('\0'),
            Some('Z') => text.push('\u{1a}'),
            // LIKE patterns keep their escapes.
            Some(pattern @ ('%' | '_')) => text.extend(['\\', pattern]),
            Some('u') => {
                let digits: String = chars.clone().take(4).collect();
                match u32::from_str_radix(&digits, 16)
                    .ok()
                    .and_then(char::from_u32)
                {
                    Some(decoded) if digits.len() == 4 => {
                        text.push(decoded);
                        chars.by_ref().take(4).for_each(drop);
                    }
                    _ => text.push('u'),
                }
            }
            Some(other) => text.push(other),
            None => text.push('\\'),
        }
    }
    text
}

/// A word that is a keyword or a plain name.
pub(super) fn word(name: &str) -> Token {
    Token::make_word(name, None)
}

/// A name that is no keyword whatever it says.
pub(super) fn quoted(name: &str) -> Token {
    Token::Word(Word {
        value: name.into(),
        quote_style: Some('`'),
        keyword: Keyword::NoKeyword,
    })
}

/// Goes through the tokens of one statement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    pub(super) source: &'a SourceText,
    pub(super) tokens: &'a [TokenWithSpan],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(source: &'a SourceText, tokens: &'a [TokenWithSpan]) -> Self {
        Self {
            source,
            tokens,
            at: 0,
        }
    }

    pub(super) fn peek(&self) -> Option<&'a Token> {
        self.peek_nth(0)
    }

    pub(super) fn peek_nth(&self, n: usize) -> Option<&'a Token> {
        self.tokens.get(self.at + n).map(|t| &t.token)
    }

    /// Where the next token stands, or the end of the last one.
    pub(super) fn span(&self) -> Span {
        match self.tokens.get(self.at) {
            Some(token) => token.span,
            None => self
                .tokens
                .last()
                .map_or_else(Span::empty, |t| Span::new(t.span.end, t.span.end)),
        }
    }

    /// Whether the `n`th token from here is this word, in any case and not quoted.
    pub(super) fn is_word_at(&self, n: usize, name: &str) -> bool {
        matches!(self.peek_nth(n), Some(Token::Word(w)) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(name))
    }

    pub(super) fn take_word(&mut self, name: &str) -> bool {
        let there = self.is_word_at(0, name);
        self.at += usize::from(there);
        there
    }

    /// Takes all of `names` or nothing.
    pub(super) fn take_words(&mut self, names: &[&str]) -> bool {
        let there = names
            .iter()
            .enumerate()
            .all(|(n, name)| self.is_word_at(n, name));
        if there {
            self.at += names.len();
        }
        there
    }

    pub(super) fn take(&mut self, token: &Token) -> bool {
        let there = self.peek() == Some(token);
        self.at += usize::from(there);
        there
    }

    pub(super) fn at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// `expected ..., found ...`.
    pub(super) fn expected(&self, what: &str) -> PlanError {
        let found = match self.tokens.get(self.at) {
            Some(token) => format!("'{}'", self.source.slice(token.span.start, token.span.end)),
            None => "the end of the statement".into(),
        };
        self.source.error(
            self.span(),
            PlanErrorKind::Syntax {
                message: format!("expected {what}, found {found}"),
            },
        )
    }

    pub(super) fn expect(&mut self, token: &Token, what: &str) -> Result<()> {
        if self.take(token) {
            Ok(())
        } else {
            Err(self.expected(what))
        }
    }

    pub(super) fn expect_word(&mut self, name: &str) -> Result<()> {
        if self.take_word(name) {
            Ok(())
        } else {
            Err(self.expected(name))
        }
    }

    /// A name, as written, and where.
    pub(super) fn name(&mut self, what: &str) -> Result<(String, Span)> {
        let span = self.span();
        match self.peek() {
            Some(Token::Word(w)) => {
                self.at += 1;
                Ok((self.source.spelling(&w.value, span), span))
            }
            _ => Err(self.expected(what)),
        }
    }

    pub(super) fn string(&mut self, what: &str) -> Result<(String, Span)> {
        let span = self.span();
        match self.peek() {
            Some(Token::SingleQuotedString(text)) => {
                self.at += 1;
                Ok((text.clone(), span))
            }
            _ => Err(self.expected(what)),
        }
    }

    /// The index just behind the parenthesis that closes the one at `open`.
    pub(super) fn closing(&self, open: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for (n, token) in self.tokens.iter().enumerate().skip(open) {
            match token.token {
                Token::LParen => depth += 1,
                Token::RParen => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return Some(n + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let (_, tokens) = tokenize(text, "t.sql").expect("the text has tokens");
        tokens
            .iter()
            .map(|t| t.token.to_string())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn sparks_literals_are_read_as_spark_does() {
        let cases = [
            ("1.5D", "CAST ( '1.5' AS DOUBLE )"),
            ("-128Y", "CAST ( - 128 AS TINYINT )"),
            ("1 -3L", "1 - CAST ( 3 AS BIGINT )"),
            ("7BD", "CAST ( '7' AS DECIMAL ( 1 ) )"),
            ("10L + 3S", "CAST ( 10 AS BIGINT ) + CAST ( 3 AS SMALLINT )"),
            ("10Y", "CAST ( 10 AS TINYINT )"),
            ("1e3", "CAST ( '1e3' AS DOUBLE )"),
            ("2.5BD", "2.5"),
            ("'a' 'b'", "'ab'"),
            ("\"it's\"", "'it's'"),
            (r"r'\d+'", r"'\d+'"),
            (r"'a\tb\'c'", "'a\tb'c'"),
            ("'it''s'", "'it's'"),
            ("SELECT 1 -- rest\n/* c */, 2", "SELECT 1 , 2"),
            ("`My Col`", "`my col`"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn an_open_string_is_reported_where_it_begins() {
        let error = tokenize("SELECT\n 'abc", "job.sql")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("job.sql:2:2: "), "{error}");
    }
}
