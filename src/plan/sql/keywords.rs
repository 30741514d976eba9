//! Which words begin a construct, and which are names.
//!
//! Where sqlparser fails inside of `CAST(...)` and the like it begins again and takes the word for
//! a name: within each other, such constructs take twice the time for each level, and an error is
//! found once the universe has ended. So these words are reserved for the parser, and where they
//! are names they are told apart here, by what follows.

use datafusion::sql::sqlparser::keywords::{Keyword, RESERVED_FOR_IDENTIFIER};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Constructs with a bracket; without one the word is a name.
const WITH_BRACKET: [Keyword; 7] = [
    Keyword::CAST,
    Keyword::TRY_CAST,
    Keyword::SAFE_CAST,
    Keyword::CONVERT,
    Keyword::EXTRACT,
    Keyword::SUBSTR,
    Keyword::SUBSTRING,
];

/// Whether the parser must not take `keyword` for a name.
pub(super) fn is_reserved(keyword: Keyword) -> bool {
    matches!(keyword, Keyword::CASE | Keyword::NOT | Keyword::OVERLAY)
        || WITH_BRACKET.contains(&keyword)
        || RESERVED_FOR_IDENTIFIER.contains(&keyword)
}

/// The tokens as the parser gets them.
pub(super) fn for_parser(tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
    let mut tokens = tokens.to_vec();
    for at in 0..tokens.len() {
        let Token::Word(word) = &tokens[at].token else {
            continue;
        };
        let construct = match word.keyword {
            Keyword::OVERLAY => has_placing(&tokens[at + 1..]),
            keyword if WITH_BRACKET.contains(&keyword) => tokens
                .get(at + 1)
                .is_some_and(|next| next.token == Token::LParen),
            // Snowflake's ways to name a version of a table; a table may be called so.
            Keyword::BEFORE | Keyword::CHANGES => false,
            Keyword::AT => is_keyword(tokens.get(at + 1), Keyword::TIME),
            _ => continue,
        };
        if !construct && let Token::Word(word) = &mut tokens[at].token {
            word.keyword = Keyword::NoKeyword;
        }
    }
    tokens
}

fn is_keyword(token: Option<&TokenWithSpan>, keyword: Keyword) -> bool {
    token.is_some_and(|t| matches!(&t.token, Token::Word(word) if word.keyword == keyword))
}

/// `(x PLACING y ...)`, rather than the arguments of the function.
fn has_placing(tokens: &[TokenWithSpan]) -> bool {
    let mut depth = 0;
    for found in tokens {
        match &found.token {
            Token::LParen => depth += 1,
            Token::RParen if depth == 1 => return false,
            Token::RParen => depth -= 1,
            Token::Word(word) if word.keyword == Keyword::PLACING && depth == 1 => return true,
            _ if depth == 0 => return false,
            _ => {}
        }
    }
    false
}
