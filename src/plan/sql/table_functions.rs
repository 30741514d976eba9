//! What stands in `FROM` and sqlparser does not know, rewritten token by token.
//!
//! - `TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), size [, offset]))`, `HOP(.., slide, size)` and
//!   `CUMULATE(.., step, size)` become sub-selects with `window_start`, `window_end` and
//!   `window_time` (Flink's: the last millisecond); so does `SESSION(TABLE t [PARTITION BY k],
//!   DESCRIPTOR(ts), gap)`;
//! - `DEDUPLICATE_WITHIN_WATERMARK(TABLE t, DESCRIPTOR(k))` becomes a sub-select with `DISTINCT ON`;
//! - `FROM STREAM t` is `FROM t`;
//! - `FROM t WATERMARK ts DELAY OF INTERVAL 10 MINUTES` reads the table under another name, with
//!   that watermark.

mod deduplicate;

use datafusion::sql::sqlparser::keywords::{Keyword, RESERVED_FOR_TABLE_ALIAS};
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use super::ddl;
use super::tokens::{Cursor, SourceText, quoted, word};
use crate::plan::error::{PlanErrorKind, Result};
use crate::plan::functions::session::SESSIONS;
use crate::plan::text::duration;

/// Takes `table`, its event-time column and a delay in microseconds; gives the name under which
/// the table has that watermark.
pub(super) trait Watermarks {
    fn with_watermark(
        &mut self,
        table: (&str, Span),
        column: (&str, Span),
        delay: i64,
    ) -> Result<String>;
}

/// Rewrites the tokens of a query.
pub(super) fn rewrite(
    source: &SourceText,
    tokens: &[TokenWithSpan],
    watermarks: &mut dyn Watermarks,
) -> Result<Vec<TokenWithSpan>> {
    let mut cursor = Cursor::new(source, tokens);
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    while !cursor.at_end() {
        let in_from = out
            .last()
            .is_some_and(|t| is_any(&t.token, &["FROM", "JOIN"]));
        let after_comma = out.last().is_some_and(|t| t.token == Token::Comma);
        if in_from && cursor.is_word_at(0, "STREAM") && is_name(cursor.peek_nth(1)) {
            cursor.at += 1;
            continue;
        }
        if in_from
            && cursor.is_word_at(0, "STREAM")
            && cursor.peek_nth(1) == Some(&Token::LParen)
            && is_name(cursor.peek_nth(2))
            && cursor.peek_nth(3) == Some(&Token::RParen)
        {
            out.push(cursor.tokens[cursor.at + 2].clone());
            cursor.at += 4;
            continue;
        }
        let wrapped = cursor.is_word_at(0, "TABLE") && cursor.peek_nth(1) == Some(&Token::LParen);
        let name_at = if wrapped { 2 } else { 0 };
        if (in_from || after_comma)
            && let Some(function) = WindowFunction::at(&cursor, name_at)
        {
            cursor.at += name_at;
            table_function(&mut cursor, function, &mut out, watermarks)?;
            if wrapped {
                cursor.expect(&Token::RParen, "')' after the table function")?;
            }
            continue;
        }
        if (in_from || after_comma) && deduplicate::is_at(&cursor, name_at) {
            cursor.at += name_at;
            deduplicate::table_function(&mut cursor, &mut out, watermarks)?;
            if wrapped {
                cursor.expect(&Token::RParen, "')' after the table function")?;
            }
            continue;
        }
        if cursor.is_word_at(0, "WATERMARK")
            && cursor.is_word_at(2, "DELAY")
            && cursor.is_word_at(3, "OF")
        {
            watermark_clause(&mut cursor, &mut out, watermarks)?;
            continue;
        }
        out.push(cursor.tokens[cursor.at].clone());
        cursor.at += 1;
    }
    Ok(out)
}

fn is_any(token: &Token, words: &[&str]) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && words.iter().any(|x| w.value.eq_ignore_ascii_case(x)))
}

/// A word that may name a table or stand as an alias.
fn is_name(token: Option<&Token>) -> bool {
    match token {
        Some(Token::Word(w)) => {
            w.keyword == Keyword::NoKeyword
                || !RESERVED_FOR_TABLE_ALIAS.contains(&w.keyword) && w.keyword != Keyword::AS
        }
        _ => false,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WindowFunction {
    Tumble,
    Hop,
    Cumulate,
    Session,
}

impl WindowFunction {
    fn at(cursor: &Cursor, n: usize) -> Option<Self> {
        let all = [
            ("TUMBLE", Self::Tumble),
            ("HOP", Self::Hop),
            ("CUMULATE", Self::Cumulate),
            ("SESSION", Self::Session),
        ];
        let (_, found) = all
            .into_iter()
            .find(|(name, _)| cursor.is_word_at(n, name))?;
        let call = cursor.peek_nth(n + 1) == Some(&Token::LParen);
        let table = cursor.is_word_at(n + 2, "TABLE") || cursor.is_word_at(n + 2, "DATA");
        (call && table).then_some(found)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tumble => "TUMBLE",
            Self::Hop => "HOP",
            Self::Cumulate => "CUMULATE",
            Self::Session => "SESSION",
        }
    }

    /// The intervals in order; the offset follows.
    fn intervals(self) -> &'static [&'static str] {
        match self {
            Self::Tumble => &["SIZE"],
            Self::Hop => &["SLIDE", "SIZE"],
            Self::Cumulate => &["STEP", "SIZE"],
            Self::Session => &["GAP"],
        }
    }

    /// What its arguments are.
    fn usage(self) -> String {
        let intervals = self.intervals().join(", ");
        match self {
            Self::Session => format!(
                "it takes TABLE t, with PARTITION BY columns if you like, DESCRIPTOR(column) and {intervals}"
            ),
            _ => format!("it takes TABLE t, DESCRIPTOR(column), {intervals} and an offset"),
        }
    }
}

fn table_function(
    cursor: &mut Cursor,
    function: WindowFunction,
    out: &mut Vec<TokenWithSpan>,
    watermarks: &mut dyn Watermarks,
) -> Result<()> {
    let name_span = cursor.span();
    let bad = |reason: String| {
        let kind = PlanErrorKind::BadWindow {
            call: function.name().into(),
            reason,
        };
        cursor.source.error(name_span, kind)
    };
    let source = cursor.source;
    let end = cursor
        .closing(cursor.at + 1)
        .ok_or_else(|| bad("its parenthesis is never closed".into()))?;
    let mut inner = Cursor {
        source,
        tokens: &cursor.tokens[..end - 1],
        at: cursor.at + 2,
    };
    let mut table: Option<(usize, usize)> = None;
    let mut column: Option<(usize, usize)> = None;
    let mut partition: &[TokenWithSpan] = &[];
    let names = function.intervals();
    let mut values: [Option<i64>; 3] = [None; 3];
    let mut next = 0;
    while !inner.at_end() {
        let named = match (inner.peek(), inner.peek_nth(1)) {
            (Some(Token::Word(w)), Some(Token::RArrow)) => Some(w.value.to_ascii_uppercase()),
            _ => None,
        };
        if named.is_some() {
            inner.at += 2;
        }
        if inner.is_word_at(0, "TABLE") && table.is_none() {
            inner.at += 1;
            let start = inner.at;
            skip_argument(&mut inner);
            table = Some((start, inner.at));
            if function == WindowFunction::Session
                && let Some(by) = (start..inner.at).find(|at| is_partition_by(&inner, *at))
            {
                table = Some((start, by));
                partition = partition_columns(&mut inner, by + 2);
            }
        } else if inner.take_word("DESCRIPTOR") {
            let start = inner.at + 1;
            let close = inner
                .closing(inner.at)
                .ok_or_else(|| bad("DESCRIPTOR(column) is expected".into()))?;
            column = Some((start, close - 1));
            inner.at = close;
        } else {
            let slot = match &named {
                None => next,
                Some(name) if name == "OFFSET" => names.len(),
                Some(name) => (names.iter().position(|n| n == name)).ok_or_else(|| {
                    bad(format!(
                        "it has no argument {name}; they are DATA, TIMECOL, {} and OFFSET",
                        names.join(", ")
                    ))
                })?,
            };
            let (micros, _) = ddl::interval(&mut inner)?;
            let slots = match function {
                WindowFunction::Session => names.len(),
                _ => names.len() + 1,
            };
            if slot >= slots || values[slot].replace(micros).is_some() {
                return Err(bad(function.usage()));
            }
            next = slot + 1;
        }
        if !inner.at_end() {
            inner.expect(&Token::Comma, "',' or ')'")?;
        }
    }
    let (Some(table), Some(column)) = (table, column) else {
        return Err(bad(function.usage()));
    };
    let offset = values[names.len()].unwrap_or(0);
    let given: Option<Vec<i64>> = values[..names.len()].iter().copied().collect();
    let given = given.ok_or_else(|| bad(format!("it needs {}", names.join(" and "))))?;
    if given.iter().any(|v| *v <= 0) {
        return Err(bad("its lengths must be greater than zero".into()));
    }
    let column = &cursor.tokens[column.0..column.1];
    let table = rewrite(source, &cursor.tokens[table.0..table.1], watermarks)?;
    if function == WindowFunction::Session {
        emit_sessions(out, name_span, given[0], column, partition, table);
        cursor.at = end;
        return Ok(());
    }
    let (call, numbers) = match (function, &given[..]) {
        (WindowFunction::Hop, &[slide, size]) if slide > size => {
            return Err(bad(
                "the slide must not be greater than the size: rows between windows would be lost"
                    .into(),
            ));
        }
        (WindowFunction::Cumulate, &[step, size]) if size % step != 0 => {
            return Err(bad("the size must be a multiple of the step".into()));
        }
        (WindowFunction::Hop, &[slide, size]) => ("__sliding_windows", vec![size, slide, offset]),
        (WindowFunction::Cumulate, &[step, size]) => {
            ("__cumulate_windows", vec![step, size, offset])
        }
        (_, lengths) => ("__tumbling_window", vec![lengths[0], offset]),
    };
    emit(out, name_span, (call, &numbers), column, table);
    cursor.at = end;
    Ok(())
}

/// Goes to the comma that ends an argument, or to the end.
fn skip_argument(cursor: &mut Cursor) {
    while let Some(token) = cursor.peek() {
        match token {
            Token::Comma => return,
            Token::LParen => cursor.at = cursor.closing(cursor.at).unwrap_or(cursor.tokens.len()),
            _ => cursor.at += 1,
        }
    }
}

fn is_partition_by(cursor: &Cursor, at: usize) -> bool {
    let word = |at: usize, name| {
        (cursor.tokens.get(at)).is_some_and(|t: &TokenWithSpan| is_any(&t.token, &[name]))
    };
    word(at, "PARTITION") && word(at + 1, "BY")
}

/// The columns behind `PARTITION BY`, from `at` on: up to the next argument, with or without
/// parentheses.
fn partition_columns<'a>(cursor: &mut Cursor<'a>, at: usize) -> &'a [TokenWithSpan] {
    if cursor
        .tokens
        .get(at)
        .is_some_and(|t| t.token == Token::LParen)
        && cursor.closing(at) == Some(cursor.at)
    {
        return &cursor.tokens[at + 1..cursor.at - 1];
    }
    // A comma may end the argument, or only a column.
    while cursor.peek() == Some(&Token::Comma)
        && is_name(cursor.peek_nth(1))
        && !cursor.is_word_at(1, "DESCRIPTOR")
        && !cursor.is_word_at(1, "INTERVAL")
        && cursor.peek_nth(2) != Some(&Token::RArrow)
    {
        cursor.at += 1;
        skip_argument(cursor);
    }
    &cursor.tokens[at..cursor.at]
}

/// Writes tokens that all stand at one place of the source.
struct Writer<'a> {
    out: &'a mut Vec<TokenWithSpan>,
    span: Span,
}

impl Writer<'_> {
    fn token(&mut self, token: Token) {
        self.out.push(TokenWithSpan::new(token, self.span));
    }

    /// Words with a space between; `w` is the window's column, quoted words are strings.
    fn words(&mut self, words: &str) {
        for item in words.split(' ') {
            self.token(match item {
                "(" => Token::LParen,
                ")" => Token::RParen,
                "," => Token::Comma,
                "*" => Token::Mul,
                "w" => quoted("__window"),
                "'start'" => Token::SingleQuotedString("start".into()),
                "'end'" => Token::SingleQuotedString("end".into()),
                other => word(other),
            });
        }
    }

    /// `(SELECT * EXCEPT (w), ... FROM (SELECT *, call AS w FROM table WHERE column IS NOT NULL))`.
    fn windowed(
        &mut self,
        call: impl FnOnce(&mut Self),
        column: &[TokenWithSpan],
        table: Vec<TokenWithSpan>,
    ) {
        self.words(
            "( SELECT * EXCEPT ( w ) , get_field ( w , 'start' ) AS window_start , get_field ( w , 'end' ) AS window_end , __window_time_ms ( w ) AS window_time FROM ( SELECT * ,",
        );
        call(self);
        self.words("AS w FROM");
        self.out.extend(table);
        self.words("WHERE");
        self.out.extend_from_slice(column);
        self.words("IS NOT NULL ) )");
    }
}

/// Windows by `call(column, numbers)`.
fn emit(
    out: &mut Vec<TokenWithSpan>,
    span: Span,
    (call, numbers): (&str, &[i64]),
    column: &[TokenWithSpan],
    table: Vec<TokenWithSpan>,
) {
    let many = call != "__tumbling_window";
    let window = |writer: &mut Writer<'_>| {
        writer.words(if many { "unnest (" } else { "(" });
        writer.words(call);
        writer.words("(");
        writer.out.extend_from_slice(column);
        for number in numbers {
            writer.token(Token::Comma);
            if *number < 0 {
                writer.token(Token::Minus);
            }
            writer.token(Token::Number(number.unsigned_abs().to_string(), false));
        }
        writer.words(") )");
    };
    Writer { out, span }.windowed(window, column, table);
}

/// Sessions by `__sessions(column, gap, partition)`.
fn emit_sessions(
    out: &mut Vec<TokenWithSpan>,
    span: Span,
    gap: i64,
    column: &[TokenWithSpan],
    partition: &[TokenWithSpan],
    table: Vec<TokenWithSpan>,
) {
    let sessions = |writer: &mut Writer<'_>| {
        writer.words(SESSIONS);
        writer.words("(");
        writer.out.extend_from_slice(column);
        writer.token(Token::Comma);
        writer.token(Token::SingleQuotedString(duration(gap)));
        if !partition.is_empty() {
            writer.token(Token::Comma);
            writer.out.extend_from_slice(partition);
        }
        writer.words(")");
    };
    Writer { out, span }.windowed(sessions, column, table);
}

/// `t WATERMARK ts DELAY OF INTERVAL ...`: `t` has been written already.
fn watermark_clause(
    cursor: &mut Cursor,
    out: &mut Vec<TokenWithSpan>,
    watermarks: &mut dyn Watermarks,
) -> Result<()> {
    let start = cursor.span();
    let direct = out.len() >= 2 && is_any(&out[out.len() - 2].token, &["FROM", "JOIN"]);
    let table = match out.last() {
        Some(TokenWithSpan {
            token: Token::Word(w),
            span,
        }) if direct => (cursor.source.spelling(&w.value, *span), *span),
        _ => {
            let kind = PlanErrorKind::Unsupported {
                what: "WATERMARK ... DELAY OF behind anything but a table's name".into(),
                instead: Some("put it right behind the table, before its alias, or declare WATERMARK FOR in CREATE TABLE".into()),
            };
            return Err(cursor.source.error(start, kind));
        }
    };
    cursor.at += 1;
    let (column, column_span) = cursor.name("the event-time column")?;
    cursor.expect_word("DELAY")?;
    cursor.expect_word("OF")?;
    let (delay, _) = ddl::interval(cursor)?;
    let name = watermarks.with_watermark((&table.0, table.1), (&column, column_span), delay)?;
    out.pop();
    out.push(TokenWithSpan::new(quoted(&name), table.1));
    if !cursor.is_word_at(0, "AS") && !is_name(cursor.peek()) {
        out.push(TokenWithSpan::new(word("AS"), table.1));
        out.push(TokenWithSpan::new(quoted(&table.0.to_lowercase()), table.1));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tokens::tokenize;
    use super::*;

    struct Named;

    impl Watermarks for Named {
        fn with_watermark(
            &mut self,
            table: (&str, Span),
            column: (&str, Span),
            delay: i64,
        ) -> Result<String> {
            Ok(format!("{} {} {delay}", table.0, column.0))
        }
    }

    fn rewritten(text: &str) -> Result<String, String> {
        let (source, tokens) = tokenize(text, "t.sql").expect("tokens");
        let tokens = rewrite(&source, &tokens, &mut Named).map_err(|e| e.to_string())?;
        Ok(tokens
            .iter()
            .map(|t| t.token.to_string())
            .collect::<Vec<_>>()
            .join(" "))
    }

    #[test]
    fn sparks_stream_and_watermark_clauses() {
        assert_eq!(
            rewritten("SELECT * FROM STREAM t WHERE a"),
            Ok("SELECT * FROM t WHERE a".into())
        );
        assert_eq!(
            rewritten("SELECT * FROM STREAM(t)"),
            Ok("SELECT * FROM t".into())
        );
        assert_eq!(
            rewritten("SELECT stream FROM stream AS s"),
            Ok("SELECT stream FROM stream AS s".into())
        );
        assert_eq!(
            rewritten("SELECT * FROM t WATERMARK ts DELAY OF INTERVAL 10 MINUTES WHERE a"),
            Ok("SELECT * FROM `t ts 600000000` AS `t` WHERE a".into())
        );
        assert_eq!(
            rewritten("SELECT * FROM t WATERMARK ts DELAY OF INTERVAL 1 SECOND x"),
            Ok("SELECT * FROM `t ts 1000000` x".into())
        );
    }

    #[test]
    fn the_same_window_however_it_is_written() {
        let positional = rewritten(
            "SELECT 1 FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '5' MINUTE))",
        );
        let named = rewritten(
            "SELECT 1 FROM HOP(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '5' MINUTE, SLIDE => INTERVAL '1' MINUTE)",
        );
        assert_eq!(positional, named);
        assert!(
            positional
                .expect("rewritten")
                .contains("__sliding_windows ( ts , 300000000 , 60000000 , 0 )")
        );
    }

    #[test]
    fn wrong_lengths_are_refused_with_the_reason() {
        let error = rewritten(
            "SELECT 1 FROM HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '5' MINUTE, INTERVAL '1' MINUTE)",
        )
        .unwrap_err();
        assert!(
            error.starts_with("t.sql:1:15: HOP: the slide must not be greater than the size"),
            "{error}"
        );
        let error = rewritten("SELECT 1 FROM SESSION(TABLE t, DESCRIPTOR(ts))").unwrap_err();
        assert!(error.contains("SESSION: it needs GAP"), "{error}");
    }

    #[test]
    fn sessions_know_what_they_are_partitioned_by() {
        let one = |partition: &str| {
            rewritten(&format!(
                "SELECT 1 FROM TABLE(SESSION(TABLE t {partition}, DESCRIPTOR(ts), INTERVAL '5' MINUTE))"
            ))
        };
        let both = one("PARTITION BY (a, b)").expect("rewritten");
        assert!(
            both.contains("__sessions ( ts , '5 minutes' , a , b )"),
            "{both}"
        );
        assert!(both.contains("FROM t WHERE ts IS NOT NULL"), "{both}");
        assert_eq!(one("PARTITION BY a, b"), Ok(both));
        let none = one("").expect("rewritten");
        assert!(none.contains("'5 minutes' )"), "{none}");
    }
}
