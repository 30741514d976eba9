//! `CREATE TABLE ... WATERMARK FOR ... WITH (...)` and `SET`: a small parser over tokens.

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Span, Token};

use super::dialect::TidemarkDialect;
use super::tokens::Cursor;
use super::types::spark_type;
use crate::plan::error::{PlanErrorKind, Result};
use crate::plan::functions::interval::parse_micros;

/// `CREATE TABLE`, as written.
#[derive(Debug)]
pub(super) struct CreateTable {
    pub(super) name: String,
    pub(super) span: Span,
    pub(super) if_not_exists: bool,
    pub(super) columns: Vec<ColumnDef>,
    /// Column and delay in microseconds.
    pub(super) watermark: Option<(String, Span, i64)>,
    pub(super) primary_key: Vec<(String, Span)>,
    pub(super) options: Vec<(String, String)>,
    /// Where each option's key stands.
    pub(super) option_spans: Vec<Span>,
    /// `AS SELECT ...`: the index of its first token.
    pub(super) query: Option<usize>,
}

/// A declared column.
#[derive(Debug)]
pub(super) struct ColumnDef {
    pub(super) name: String,
    pub(super) data_type: DataType,
}

/// Parses behind `CREATE TABLE`.
pub(super) fn create_table(cursor: &mut Cursor) -> Result<CreateTable> {
    let if_not_exists = cursor.take_words(&["IF", "NOT", "EXISTS"]);
    let (name, span) = cursor.name("the table's name")?;
    let mut table = CreateTable {
        name,
        span,
        if_not_exists,
        columns: Vec::new(),
        watermark: None,
        primary_key: Vec::new(),
        options: Vec::new(),
        option_spans: Vec::new(),
        query: None,
    };
    if cursor.take(&Token::LParen) {
        loop {
            table_item(cursor, &mut table)?;
            if !cursor.take(&Token::Comma) {
                break;
            }
        }
        cursor.expect(&Token::RParen, "',' or ')'")?;
    }
    while !cursor.at_end() {
        if cursor.take_word("WITH")
            || cursor.take_word("OPTIONS")
            || cursor.take_word("TBLPROPERTIES")
        {
            option_list(cursor, &mut table)?;
        } else if cursor.take_word("COMMENT") {
            cursor.string("the comment as a string")?;
        } else if cursor.take_word("USING") {
            let (connector, span) = cursor.name("the connector's name")?;
            table.options.push(("connector".into(), connector));
            table.option_spans.push(span);
        } else if cursor.is_word_at(0, "AS") {
            table.query = Some(cursor.at + 1);
            break;
        } else {
            return Err(cursor.expected("WITH (...) or the end of the statement"));
        }
    }
    Ok(table)
}

fn table_item(cursor: &mut Cursor, table: &mut CreateTable) -> Result<()> {
    if cursor.is_word_at(0, "WATERMARK") && cursor.is_word_at(1, "FOR") {
        let start = cursor.span();
        cursor.at += 2;
        let watermark = watermark(cursor)?;
        if table.watermark.replace(watermark).is_some() {
            let reason = "it is declared twice; a table has one".into();
            let kind = PlanErrorKind::BadWatermark {
                table: table.name.clone(),
                reason,
            };
            return Err(cursor.source.error(start, kind));
        }
        return Ok(());
    }
    if cursor.take_words(&["CONSTRAINT"]) {
        cursor.name("the constraint's name")?;
    }
    if cursor.take_words(&["PRIMARY", "KEY"]) {
        cursor.expect(&Token::LParen, "'('")?;
        loop {
            table.primary_key.push(cursor.name("a column")?);
            if !cursor.take(&Token::Comma) {
                break;
            }
        }
        cursor.expect(&Token::RParen, "',' or ')'")?;
        if cursor.take_word("NOT") {
            cursor.expect_word("ENFORCED")?;
        }
        return Ok(());
    }
    let (name, span) = cursor.name("a column, WATERMARK FOR or PRIMARY KEY")?;
    let data_type = data_type(cursor)?;
    if table
        .columns
        .iter()
        .any(|c| c.name.to_lowercase() == name.to_lowercase())
    {
        return Err(cursor
            .source
            .error(span, PlanErrorKind::DuplicateColumn { name }));
    }
    loop {
        if cursor.take_words(&["NOT", "NULL"]) || cursor.take_word("NULL") {
            // What a stream brings is not ours to promise: such a column may hold nulls all the same.
        } else if cursor.take_words(&["PRIMARY", "KEY"]) {
            table.primary_key.push((name.clone(), span));
        } else if cursor.take_word("COMMENT") {
            cursor.string("the comment as a string")?;
        } else {
            break;
        }
    }
    table.columns.push(ColumnDef { name, data_type });
    Ok(())
}

/// A type, by sqlparser.
pub(super) fn data_type(cursor: &mut Cursor) -> Result<DataType> {
    let rest = &cursor.tokens[cursor.at.min(cursor.tokens.len())..];
    let start = cursor.span();
    if !matches!(cursor.peek(), Some(Token::Word(_))) {
        return Err(cursor.expected("a type"));
    }
    let mut parser = Parser::new(&TidemarkDialect).with_tokens_with_locations(rest.to_vec());
    let parsed = parser.parse_data_type();
    let used = parser.index().max(1);
    let span = start.union(&rest.get(used - 1).map_or(start, |t| t.span));
    let unknown = || {
        let name = cursor.source.slice(span.start, span.end);
        cursor
            .source
            .error(span, PlanErrorKind::UnknownType { name })
    };
    let found = spark_type(&parsed.map_err(|_| unknown())?).ok_or_else(unknown)?;
    cursor.at += used;
    Ok(found)
}

/// `column AS column [- INTERVAL ...]`.
fn watermark(cursor: &mut Cursor) -> Result<(String, Span, i64)> {
    let (column, span) = cursor.name("the event-time column")?;
    cursor.expect_word("AS")?;
    let (again, again_span) = cursor.name("the event-time column")?;
    if again.to_lowercase() != column.to_lowercase() {
        let message = format!(
            "expected '{column}' again: WATERMARK FOR {column} AS {column} - INTERVAL '...'; found '{again}'"
        );
        return Err(cursor
            .source
            .error(again_span, PlanErrorKind::Syntax { message }));
    }
    let delay = if cursor.take(&Token::Minus) {
        interval(cursor)?
    } else {
        (0, span)
    };
    if delay.0 < 0 {
        let kind = PlanErrorKind::BadInterval {
            text: cursor.source.slice(delay.1.start, delay.1.end),
            why: Some("a watermark cannot run ahead of the data"),
        };
        return Err(cursor.source.error(delay.1, kind));
    }
    Ok((column, span, delay.0))
}

/// `INTERVAL '10' MINUTE`, `INTERVAL 10 MINUTES`, `INTERVAL '10 minutes'` or `'10 minutes'`, in
/// microseconds, and where it stands.
pub(super) fn interval(cursor: &mut Cursor) -> Result<(i64, Span)> {
    let start = cursor.span();
    let negative = cursor.take(&Token::Minus);
    let word = cursor.take_word("INTERVAL");
    let mut text = String::new();
    if word && cursor.take(&Token::Minus) {
        text.push('-');
    }
    match cursor.peek() {
        Some(Token::SingleQuotedString(value)) => text.push_str(value),
        Some(Token::Number(digits, _)) if word => text.push_str(digits),
        _ => return Err(cursor.expected("an interval such as INTERVAL '10' MINUTE")),
    }
    let mut end = cursor.span();
    cursor.at += 1;
    // Units follow until something that is none: `INTERVAL 1 HOUR 30 MINUTES`.
    loop {
        match (cursor.peek(), cursor.peek_nth(1)) {
            _ if !word => break,
            (Some(Token::Word(unit)), _) if unit.quote_style.is_none() && is_unit(&unit.value) => {
                text.push(' ');
                text.push_str(&unit.value);
            }
            (Some(Token::Number(digits, _)), Some(Token::Word(unit))) if is_unit(&unit.value) => {
                text.push(' ');
                text.push_str(digits);
            }
            _ => break,
        }
        end = cursor.span();
        cursor.at += 1;
    }
    let span = start.union(&end);
    match parse_micros(&text) {
        Ok(micros) => Ok((if negative { -micros } else { micros }, span)),
        Err(why) => {
            let text = cursor.source.slice(span.start, span.end);
            Err(cursor
                .source
                .error(span, PlanErrorKind::BadInterval { text, why }))
        }
    }
}

fn is_unit(word: &str) -> bool {
    const UNITS: [&str; 9] = [
        "MICROSECOND",
        "MILLISECOND",
        "SECOND",
        "MINUTE",
        "HOUR",
        "DAY",
        "WEEK",
        "MONTH",
        "YEAR",
    ];
    let upper = word.to_ascii_uppercase();
    UNITS.contains(&upper.strip_suffix('S').unwrap_or(&upper))
}

fn option_list(cursor: &mut Cursor, table: &mut CreateTable) -> Result<()> {
    cursor.expect(&Token::LParen, "'('")?;
    loop {
        let span = cursor.span();
        let key = setting_key(cursor, "an option such as 'path'")?;
        if !cursor.take(&Token::Eq) && !matches!(cursor.peek(), Some(Token::SingleQuotedString(_)))
        {
            return Err(cursor.expected("'='"));
        }
        let negative = cursor.take(&Token::Minus);
        let value = match cursor.peek() {
            Some(Token::SingleQuotedString(text)) => text.clone(),
            Some(Token::Number(digits, _)) => {
                format!("{}{digits}", if negative { "-" } else { "" })
            }
            Some(Token::Word(word)) if word.quote_style.is_none() => word.value.clone(),
            _ => return Err(cursor.expected("the option's value as a string")),
        };
        cursor.at += 1;
        if table
            .options
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(&key))
        {
            let message = format!("option '{key}' is given twice");
            return Err(cursor.source.error(span, PlanErrorKind::Syntax { message }));
        }
        table.options.push((key, value));
        table.option_spans.push(span);
        if !cursor.take(&Token::Comma) {
            break;
        }
    }
    cursor.expect(&Token::RParen, "',' or ')'")
}

/// `'a.b'` or `a.b`.
pub(super) fn setting_key(cursor: &mut Cursor, what: &str) -> Result<String> {
    if matches!(cursor.peek(), Some(Token::SingleQuotedString(_))) {
        return Ok(cursor.string(what)?.0);
    }
    let mut key = cursor.name(what)?.0;
    while matches!(cursor.peek(), Some(Token::Period)) {
        cursor.at += 1;
        key.push('.');
        key.push_str(&cursor.name("the rest of the name")?.0);
    }
    Ok(key)
}

/// Parses behind `SET`: key, value, and where the key stands.
pub(super) fn set(cursor: &mut Cursor) -> Result<(String, String, Span)> {
    let span = cursor.span();
    if cursor.take_words(&["TIME", "ZONE"]) {
        let (zone, _) = cursor.string("the time zone as a string")?;
        return Ok(("spark.sql.session.timeZone".into(), zone, span));
    }
    let key = setting_key(cursor, "the setting's name")?;
    let end = cursor
        .tokens
        .get(cursor.at.saturating_sub(1))
        .map_or(span, |t| t.span);
    cursor.expect(&Token::Eq, "'='")?;
    let value = match cursor.peek() {
        Some(Token::SingleQuotedString(text)) if cursor.at + 1 == cursor.tokens.len() => {
            text.clone()
        }
        Some(_) => {
            let last = cursor.tokens.last().map_or(span, |t| t.span);
            cursor.source.slice(cursor.span().start, last.end)
        }
        None => return Err(cursor.expected("a value")),
    };
    cursor.at = cursor.tokens.len();
    Ok((key, value, span.union(&end)))
}

#[cfg(test)]
mod tests {
    use super::super::tokens::tokenize;
    use super::*;

    fn interval_of(text: &str) -> Result<i64, String> {
        let (source, tokens) = tokenize(text, "t.sql").expect("tokens");
        interval(&mut Cursor::new(&source, &tokens))
            .map(|i| i.0)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn intervals_in_all_their_spellings() {
        let minute = 60_000_000;
        for (text, expected) in [
            ("INTERVAL '10' MINUTE", 10 * minute),
            ("INTERVAL 10 MINUTES", 10 * minute),
            ("INTERVAL '10 minutes'", 10 * minute),
            ("'10 minutes'", 10 * minute),
            ("INTERVAL 1 HOUR 30 MINUTES", 90 * minute),
            ("- INTERVAL '5' MINUTE", -5 * minute),
            ("INTERVAL '-5' MINUTE", -5 * minute),
        ] {
            assert_eq!(interval_of(text), Ok(expected), "{text}");
        }
        let error = interval_of("INTERVAL '1' MONTH").unwrap_err();
        assert_eq!(
            error,
            "t.sql:1:1: 'INTERVAL '1' MONTH' is no length of time; write for example '5 minutes' or INTERVAL '5' MINUTE (months and years have no fixed length)\n  1 | INTERVAL '1' MONTH\n    | ^^^^^^^^^^^^^^^^^^"
        );
    }

    #[test]
    fn settings_with_and_without_quotes() {
        for (text, expected) in [
            ("'a.b' = 'c'", ("a.b", "c")),
            (
                "spark.sql.session.timeZone = Europe/Paris",
                ("spark.sql.session.timeZone", "Europe/Paris"),
            ),
            ("TIME ZONE 'UTC'", ("spark.sql.session.timeZone", "UTC")),
            ("minBatchesToRetain = 5", ("minBatchesToRetain", "5")),
        ] {
            let (source, tokens) = tokenize(text, "t.sql").expect("tokens");
            let (key, value, _) = set(&mut Cursor::new(&source, &tokens)).expect("a setting");
            assert_eq!((key.as_str(), value.as_str()), expected);
        }
    }
}
