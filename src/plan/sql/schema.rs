//! Schemas as text, for `from_json` and its like: `a INT, b STRUCT<c: STRING>`, or one type.

use arrow::datatypes::{DataType, Field};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::ddl;
use super::tokens::{Cursor, tokenize};
use crate::plan::error::Result;

/// The type that a text declares: columns are a STRUCT of them.
pub(in crate::plan) fn parse_schema(text: &str) -> Result<DataType> {
    let (source, tokens) = tokenize(text, "")?;
    let mut whole = Cursor::new(&source, &tokens);
    if let Ok(found) = ddl::data_type(&mut whole)
        && whole.at_end()
    {
        return Ok(found);
    }
    let mut cursor = Cursor::new(&source, &tokens);
    let mut fields = Vec::new();
    loop {
        let (name, _) = cursor.name("a column")?;
        cursor.take(&Token::Colon);
        fields.push(Field::new(name, ddl::data_type(&mut cursor)?, true));
        // What the text brings may be null all the same.
        cursor.take_words(&["NOT", "NULL"]);
        if cursor.take_word("COMMENT") {
            cursor.string("the comment as a string")?;
        }
        if cursor.at_end() {
            return Ok(DataType::Struct(fields.into()));
        }
        cursor.expect(&Token::Comma, "',' or the end of the schema")?;
    }
}
