//! `DEDUPLICATE_WITHIN_WATERMARK(TABLE t, DESCRIPTOR(k))`.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::super::tokens::Cursor;
use super::{Watermarks, Writer, rewrite, skip_argument};
use crate::plan::deduplicate::WITHIN_WATERMARK;
use crate::plan::error::{PlanErrorKind, Result};

const NAME: &str = "DEDUPLICATE_WITHIN_WATERMARK";

/// Whether a call of the function begins `n` tokens further on.
pub(super) fn is_at(cursor: &Cursor, n: usize) -> bool {
    cursor.is_word_at(n, NAME) && cursor.peek_nth(n + 1) == Some(&Token::LParen)
}

/// Writes `(SELECT DISTINCT ON (__within_watermark(k)) * FROM t)` for the call.
pub(super) fn table_function(
    cursor: &mut Cursor,
    out: &mut Vec<TokenWithSpan>,
    watermarks: &mut dyn Watermarks,
) -> Result<()> {
    let (source, span) = (cursor.source, cursor.span());
    let bad = |reason: &str| {
        let kind = PlanErrorKind::BadWindow {
            call: NAME.into(),
            reason: reason.into(),
        };
        source.error(span, kind)
    };
    let end = cursor
        .closing(cursor.at + 1)
        .ok_or_else(|| bad("its parenthesis is never closed"))?;
    let mut inner = Cursor {
        source,
        tokens: &cursor.tokens[..end - 1],
        at: cursor.at + 2,
    };
    let (mut table, mut keys) = (None, None);
    while !inner.at_end() {
        if inner.peek_nth(1) == Some(&Token::RArrow)
            && (inner.is_word_at(0, "DATA") || inner.is_word_at(0, "KEYS"))
        {
            inner.at += 2;
        }
        if table.is_none() && inner.take_word("TABLE") {
            let start = inner.at;
            skip_argument(&mut inner);
            table = Some(start..inner.at);
        } else if keys.is_none() && inner.take_word("DESCRIPTOR") {
            let start = inner.at + 1;
            let close = inner
                .closing(inner.at)
                .ok_or_else(|| bad("DESCRIPTOR(columns) is expected"))?;
            keys = Some(start..close - 1);
            inner.at = close;
        } else {
            return Err(bad(
                "it takes TABLE t and DESCRIPTOR(columns), nothing else",
            ));
        }
        if !inner.at_end() {
            inner.expect(&Token::Comma, "',' or ')'")?;
        }
    }
    let (Some(table), Some(keys)) = (table, keys.filter(|keys| !keys.is_empty())) else {
        return Err(bad("it takes TABLE t and DESCRIPTOR(columns)"));
    };
    let table = rewrite(source, &cursor.tokens[table], watermarks)?;
    let mut writer = Writer { out, span };
    writer.words("( SELECT DISTINCT ON (");
    writer.words(WITHIN_WATERMARK);
    writer.words("(");
    writer.out.extend_from_slice(&cursor.tokens[keys]);
    writer.words(") ) * FROM");
    writer.out.extend(table);
    writer.words(")");
    cursor.at = end;
    Ok(())
}
