//! How deep expressions may be, told from tokens before anything is parsed.
//!
//! Each operator of a chain such as `a + b + c` lies one deeper than the last, and whatever works on
//! expressions goes down by recursion, up to the workers. Chains of `AND` and `OR` become flat and
//! may be longer. Brackets are counted too.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::tokens::SourceText;
use crate::plan::error::{PlanErrorKind, Result};

/// The most operators, casts and unions on each other.
const DEEPEST: usize = 400;
/// The most of `AND` and `OR`.
const LONGEST: usize = 1000;
/// The most sub-queries, and brackets that begin with a bracket, within each other: sqlparser reads each again as a join in brackets where
/// it finds an error inside, and so takes twice the time for each level.
const NESTED: usize = 16;

/// The most brackets of any kind within each other; the parser takes about half of that.
const BRACKETS: usize = 100;

/// What one pair of brackets, or a `CASE` and its `END`, has gathered since its last comma.
#[derive(Clone, Copy, Default)]
struct Level {
    operators: usize,
    logical: usize,
    /// `UNION` and its like: a comma does not end them.
    sets: usize,
    case: bool,
    query: bool,
}

/// Refuses the tokens of a query whose expressions are too deep.
pub(super) fn check(source: &SourceText, tokens: &[TokenWithSpan]) -> Result<()> {
    let mut levels = vec![Level::default()];
    for (at, found) in tokens.iter().enumerate() {
        let top = levels.last_mut().expect("the outermost level stays");
        match &found.token {
            Token::LParen | Token::LBracket | Token::LBrace => levels.push(Level {
                query: tokens
                    .get(at + 1)
                    .is_some_and(|next| begins_query(&next.token)),
                ..Level::default()
            }),
            Token::RParen | Token::RBracket | Token::RBrace => close(&mut levels),
            Token::Comma => (top.operators, top.logical) = (0, 0),
            Token::Word(word) => match word.keyword {
                Keyword::CASE => levels.push(Level {
                    case: true,
                    ..Level::default()
                }),
                Keyword::END if top.case => close(&mut levels),
                Keyword::WHEN
                | Keyword::THEN
                | Keyword::ELSE
                | Keyword::SELECT
                | Keyword::FROM
                | Keyword::WHERE
                | Keyword::GROUP
                | Keyword::HAVING => (top.operators, top.logical) = (0, 0),
                Keyword::AND | Keyword::OR => {
                    // The comparisons on its two sides lie beside each other.
                    (top.operators, top.logical) = (0, top.logical + 1);
                }
                Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::JOIN => {
                    top.sets += 1;
                }
                Keyword::NOT | Keyword::IS | Keyword::LIKE => top.operators += 1,
                _ => {}
            },
            Token::Number(..) | Token::SingleQuotedString(_) => {}
            _ => top.operators += 1,
        }
        let deep: usize = levels.iter().map(|l| l.operators + l.sets).sum();
        let long: usize = levels.iter().map(|l| l.logical).sum();
        let queries = levels.iter().filter(|l| l.query).count();
        let message = if levels.len() > BRACKETS {
            "the query is nested too deeply".into()
        } else if queries > NESTED {
            format!(
                "more than {NESTED} sub-queries or doubled brackets within each other; leave brackets out, or name sub-queries with WITH or as views"
            )
        } else if deep > DEEPEST {
            format!(
                "more than {DEEPEST} operators on each other; cut the expression into parts, with a sub-query or a view for each"
            )
        } else if long > LONGEST {
            format!(
                "more than {LONGEST} conditions in a row; write x IN (...) for a list of values"
            )
        } else {
            continue;
        };
        return Err(source.error(found.span, PlanErrorKind::Syntax { message }));
    }
    Ok(())
}

/// Whether a bracket that this token follows may hold a query.
fn begins_query(token: &Token) -> bool {
    use Keyword::{FROM, SELECT, VALUES, WITH};
    matches!(token, Token::Word(word) if matches!(word.keyword, SELECT | WITH | FROM | VALUES))
        || *token == Token::LParen
}

fn close(levels: &mut Vec<Level>) {
    if levels.len() > 1 {
        levels.pop();
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::sql::{ScriptOptions, parse_script};

    /// The first line of what planning says; empty where it says nothing.
    fn refusal(expression: &str) -> String {
        let script =
            format!("SELECT {expression} AS c FROM (VALUES (1, 'a', true)) AS t(n, s, ok)");
        let planned = parse_script(&script, "q", &ScriptOptions::default());
        planned.err().map_or_else(String::new, |error| {
            error.to_string().lines().next().unwrap_or_default().into()
        })
    }

    #[test]
    fn chains_of_some_length_are_planned_and_longer_ones_refused() {
        let chain = |part: &str, times| format!("n = 1{}", part.repeat(times));
        assert_eq!(refusal(&chain(" + n", 100)), "");
        assert_eq!(refusal(&chain(" OR n = 2", 200)), "");
        assert_eq!(refusal(&format!("n IN (1{})", ", 2".repeat(2000))), "");
        assert_eq!(
            refusal(&format!("CASE{} END", " WHEN n = 1 THEN 2 + 3".repeat(500))),
            ""
        );
        for part in [" + n", "::INT", " || s"] {
            let message = refusal(&chain(part, 500));
            assert!(message.contains("more than 400 operators"), "{message}");
        }
        let message = refusal(&chain(" OR n = 2", 10_000));
        assert!(message.contains("write x IN (...)"), "{message}");
        let nested = format!("{}1{}", "(SELECT ".repeat(17), ")".repeat(17));
        let message = refusal(&nested);
        assert!(message.contains("more than 16 sub-queries"), "{message}");
    }

    #[test]
    fn an_error_deep_inside_is_found_at_once() {
        for (open, close) in [
            ("CASE WHEN ok THEN ", " END"),
            ("CAST(", " AS INT)"),
            ("floor(", ")"),
            ("substring(", ", 1)"),
            ("NOT (", ")"),
            ("overlay(", ", 'x', 1)"),
        ] {
            let deep = format!("{}1 1{}", open.repeat(30), close.repeat(30));
            assert_ne!(refusal(&deep), "");
        }
    }

    #[test]
    fn words_of_constructs_are_names_without_their_brackets() {
        let script = "SELECT floor, cast, floor(floor) AS f, CAST(cast AS STRING) AS c
                      FROM (VALUES (1, 2, 'a')) AS t(floor, cast, s)";
        let planned = parse_script(script, "q", &ScriptOptions::default());
        assert!(planned.is_ok(), "{planned:?}");
    }
}
