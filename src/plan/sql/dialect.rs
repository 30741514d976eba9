//! Spark's SQL for sqlparser: its own dialect with what it leaves out.

use std::any::TypeId;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DataType, Expr, Ident, ObjectName, TimezoneInfo, TypedString,
};
use datafusion::sql::sqlparser::dialect::{Dialect, SparkSqlDialect};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::ast::call;
use super::keywords;

/// sqlparser's dialect of Spark, with backslash escapes in strings, `INTERVAL '5 minutes'` without
/// a unit behind it, and named arguments.
#[derive(Debug)]
pub(super) struct TidemarkDialect;

impl Dialect for TidemarkDialect {
    fn dialect(&self) -> TypeId {
        TypeId::of::<SparkSqlDialect>()
    }
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }
    fn identifier_quote_style(&self, _identifier: &str) -> Option<char> {
        Some('`')
    }
    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }
    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_'
    }
    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        keywords::is_reserved(keyword)
    }
    fn supports_string_literal_backslash_escape(&self) -> bool {
        true
    }
    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }
    fn supports_order_by_all(&self) -> bool {
        true
    }
    fn supports_group_by_expr(&self) -> bool {
        true
    }
    fn supports_group_by_with_modifier(&self) -> bool {
        true
    }
    fn supports_lambda_functions(&self) -> bool {
        true
    }
    fn supports_select_wildcard_except(&self) -> bool {
        true
    }
    fn supports_struct_literal(&self) -> bool {
        true
    }
    fn supports_comma_separated_trim(&self) -> bool {
        true
    }
    fn supports_nested_comments(&self) -> bool {
        true
    }
    fn supports_long_type_as_bigint(&self) -> bool {
        true
    }
    fn supports_values_as_table_factor(&self) -> bool {
        true
    }
    fn require_interval_qualifier(&self) -> bool {
        false
    }
    fn allow_extract_custom(&self) -> bool {
        true
    }
    fn supports_bitwise_shift_operators(&self) -> bool {
        true
    }
    fn supports_bang_not_operator(&self) -> bool {
        true
    }
    fn supports_cte_without_as(&self) -> bool {
        true
    }
    fn supports_map_literal_with_angle_brackets(&self) -> bool {
        true
    }
    fn supports_window_clause_named_window_reference(&self) -> bool {
        true
    }
    fn supports_named_fn_args_with_rarrow_operator(&self) -> bool {
        true
    }
    fn supports_from_first_select(&self) -> bool {
        true
    }
    fn supports_table_versioning(&self) -> bool {
        true
    }
    fn supports_select_item_multi_column_alias(&self) -> bool {
        true
    }
    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        if is_local_timestamp(parser) {
            parser.next_token();
            return Some(parser.parse_value().map(|value| {
                Expr::TypedString(TypedString {
                    data_type: DataType::Timestamp(None, TimezoneInfo::None),
                    value,
                    uses_odbc_syntax: false,
                })
            }));
        }
        exists_call(parser)
            .or_else(|| rounding_call(parser))
            .map(|name| {
                parser.next_token();
                parser.parse_function(ObjectName::from(vec![name]))
            })
    }
    fn parse_infix(
        &self,
        parser: &mut Parser,
        expr: &Expr,
        precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        let left = || Box::new(expr.clone());
        let operation = |parser: &mut Parser, op| {
            let right = Box::new(parser.parse_subexpr(precedence)?);
            let left = left();
            Ok(Expr::BinaryOp { left, op, right })
        };
        if parser.parse_keyword(Keyword::DIV) {
            return Some(operation(parser, BinaryOperator::MyIntegerDivide));
        }
        let tokens = [parser.peek_token_ref(), parser.peek_nth_token_ref(1)];
        let unsigned = tokens[0].token == Token::ShiftRight
            && tokens[1].token == Token::Gt
            && tokens[0].span.end == tokens[1].span.start;
        if !unsigned {
            return None;
        }
        let span = tokens[0].span;
        parser.next_token();
        parser.next_token();
        Some(
            parser
                .parse_subexpr(precedence)
                .map(|places| call("shiftrightunsigned", vec![expr.clone(), places], span)),
        )
    }
}

/// Whether a `TIMESTAMP_LTZ '..'` follows.
fn is_local_timestamp(parser: &Parser) -> bool {
    let text = &parser.peek_nth_token_ref(1).token;
    matches!(
        &parser.peek_token_ref().token,
        Token::Word(word) if word.quote_style.is_none()
            && word.value.eq_ignore_ascii_case("TIMESTAMP_LTZ")
    ) && matches!(text, Token::SingleQuotedString(_))
}

/// The name in `ceil(x, -3)` and `floor(x, -3)`, where sqlparser takes no negative number.
fn rounding_call(parser: &Parser) -> Option<Ident> {
    let name = parser.peek_token_ref();
    let Token::Word(word) = &name.token else {
        return None;
    };
    let called = matches!(word.keyword, Keyword::CEIL | Keyword::FLOOR)
        && parser.peek_nth_token_ref(1).token == Token::LParen;
    called.then(|| Ident::with_span(name.span, word.value.to_lowercase()))
}

/// The name in `exists(array, x -> ..)`, which sqlparser takes for `EXISTS (sub-query)`.
fn exists_call(parser: &Parser) -> Option<Ident> {
    let name = parser.peek_token_ref();
    let Token::Word(word) = &name.token else {
        return None;
    };
    if word.keyword != Keyword::EXISTS || parser.peek_nth_token_ref(1).token != Token::LParen {
        return None;
    }
    let mut inside = (2..).map(|n| &parser.peek_nth_token_ref(n).token);
    let first = inside.find(|token| **token != Token::LParen);
    let query = matches!(
        first,
        Some(Token::Word(word)) if matches!(
            word.keyword,
            Keyword::SELECT | Keyword::WITH | Keyword::VALUES | Keyword::FROM | Keyword::TABLE
        )
    );
    (!query).then(|| Ident::with_span(name.span, "exists"))
}
