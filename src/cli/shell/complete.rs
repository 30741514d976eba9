//! What Tab offers: names that fit the place where the cursor stands.

use crate::plan::sql::{Ending, Words};

/// Words that begin a statement.
const STATEMENTS: &[&str] = &[
    "CREATE TABLE",
    "CREATE VIEW",
    "DESCRIBE",
    "DROP TABLE",
    "DROP VIEW",
    "EXIT",
    "EXPLAIN",
    "HELP",
    "INSERT INTO",
    "QUIT",
    "SELECT",
    "SET",
    "SHOW",
    "STOP QUERY",
    "WITH",
];

/// What follows `SHOW`.
const SHOWN: &[&str] = &[
    "COLUMNS FROM",
    "CREATE TABLE",
    "FUNCTIONS",
    "QUERIES",
    "TABLES",
    "VIEWS",
];

/// Words inside a statement.
const KEYWORDS: &[&str] = &[
    "ALL",
    "AND",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "CROSS",
    "DESC",
    "DESCRIPTOR",
    "DISTINCT",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "FALSE",
    "FILTER",
    "FOR",
    "FROM",
    "FULL",
    "GROUP BY",
    "HAVING",
    "ILIKE",
    "IN",
    "INNER",
    "INTERSECT",
    "INTERVAL",
    "IS",
    "JOIN",
    "LATERAL",
    "LEFT",
    "LIKE",
    "LIMIT",
    "NOT",
    "NULL",
    "ON",
    "OR",
    "ORDER BY",
    "OUTER",
    "OVER",
    "PARTITION BY",
    "RIGHT",
    "RLIKE",
    "SELECT",
    "TABLE",
    "THEN",
    "TRUE",
    "UNION ALL",
    "USING",
    "VALUES",
    "WATERMARK FOR",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
    "BIGINT",
    "BINARY",
    "BOOLEAN",
    "DATE",
    "DECIMAL",
    "DOUBLE",
    "FLOAT",
    "INT",
    "MAP",
    "ARRAY",
    "SMALLINT",
    "STRING",
    "STRUCT",
    "TIMESTAMP",
    "TINYINT",
];

/// Words that a table's name follows.
const BEFORE_TABLE: &[&str] = &["FROM", "JOIN", "INTO", "TABLE", "VIEW", "DESCRIBE", "DESC"];

/// What fits behind `before`, the statement up to the cursor, and where in it the word begins that
/// it replaces. `queries`: the names of those that run.
pub(super) fn complete(before: &str, words: &Words, queries: &[String]) -> (usize, Vec<String>) {
    let statement = last_statement(before);
    let name = |c: char| c.is_alphanumeric() || c == '_';
    let partial_at = statement.rfind(|c: char| !name(c)).map_or(0, |at| {
        at + statement[at..].chars().next().map_or(1, char::len_utf8)
    });
    let partial = &statement[partial_at..];
    let head = &statement[..partial_at];
    let start = before.len() - partial.len();
    let said: Vec<String> = head
        .split(|c: char| !name(c))
        .filter(|word| !word.is_empty())
        .map(str::to_uppercase)
        .collect();
    let said: Vec<&str> = said.iter().map(String::as_str).collect();
    let in_string = matches!(Ending::of(before), Ending::Quote(_));
    let tables = || words.tables.keys().cloned();
    let mut found: Vec<String> = match (said.as_slice(), head.ends_with('.')) {
        (["SET"], _) => words.settings.iter().map(|&name| name.to_owned()).collect(),
        (["STOP", "QUERY"], _) => queries.to_vec(),
        _ if in_string => vec![],
        ([.., table], true) => columns_of(words, table).cloned().collect(),
        ([], _) => keywords(STATEMENTS, partial),
        (["SHOW"], _) => keywords(SHOWN, partial),
        ([.., last], _) if BEFORE_TABLE.contains(last) && follows(head) => tables().collect(),
        (["EXPLAIN"], _) => keywords(&["INSERT INTO", "SELECT"], partial),
        _ => {
            let mentioned =
                (words.tables.keys()).filter(|table| said.contains(&table.to_uppercase().as_str()));
            let mut columns: Vec<String> = mentioned
                .flat_map(|table| columns_of(words, table))
                .cloned()
                .collect();
            if columns.is_empty() {
                columns = words.tables.values().flatten().cloned().collect();
            }
            if !partial.is_empty() {
                columns.extend(keywords(KEYWORDS, partial));
                columns.extend(tables());
                columns.extend(words.functions.iter().map(|name| format!("{name}(")));
            }
            columns
        }
    };
    let lower = partial.to_lowercase();
    found.retain(|word| word.to_lowercase().starts_with(&lower));
    found.sort_by_key(|word| word.to_lowercase());
    found.dedup();
    (start, found)
}

/// What stands behind the last semicolon outside of quotes and comments.
fn last_statement(before: &str) -> &str {
    let ends = before.match_indices(';').map(|(at, _)| at + 1);
    let last = ends
        .filter(|end| Ending::of(&before[..*end]) == Ending::Complete)
        .next_back();
    &before[last.unwrap_or(0)..]
}

/// A name follows a word after a space, and a parenthesis or a comma only ends the list.
fn follows(head: &str) -> bool {
    head.ends_with(char::is_whitespace)
}

fn columns_of<'a>(words: &'a Words, table: &str) -> impl Iterator<Item = &'a String> {
    let lower = table.to_lowercase();
    (words.tables.iter())
        .filter(move |(name, _)| name.to_lowercase() == lower)
        .flat_map(|(_, columns)| columns)
}

/// Keywords in the case in which the user has begun.
fn keywords(all: &[&str], partial: &str) -> Vec<String> {
    let lower = partial.starts_with(char::is_lowercase);
    let cased = |word: &&str| {
        if lower {
            word.to_lowercase()
        } else {
            (*word).to_owned()
        }
    };
    all.iter().map(cased).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(before: &str) -> String {
        let columns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let words = Words {
            tables: [
                ("events".into(), columns(&["user", "price", "ts"])),
                ("Prices".into(), columns(&["sku", "price"])),
            ]
            .into(),
            functions: ["sum".into(), "substring".into(), "upper".into()].into(),
            settings: vec!["trigger", "outputMode"],
        };
        let (start, found) = complete(before, &words, &["counts".into()]);
        format!("{}[{}", &before[..start], found.join("|"))
    }

    #[test]
    fn what_is_offered_fits_the_place() {
        for (before, expected) in [
            ("sel", "[select"),
            ("EXP", "[EXPLAIN"),
            ("SELECT 1; dr", "SELECT 1; [drop table|drop view"),
            ("SHOW T", "SHOW [TABLES"),
            ("SELECT x FROM e", "SELECT x FROM [events"),
            ("SELECT x FROM ", "SELECT x FROM [events|Prices"),
            ("INSERT INTO p", "INSERT INTO [Prices"),
            (
                "SELECT * FROM events WHERE u",
                "SELECT * FROM events WHERE [union all|upper(|user|using",
            ),
            (
                "SELECT s",
                "SELECT [select|sku|smallint|string|struct|substring(|sum(",
            ),
            ("SELECT p.x, prices.", "SELECT p.x, prices.[price|sku"),
            ("SELECT prices.s", "SELECT prices.[sku"),
            ("SELECT upper(us", "SELECT upper([user|using"),
            ("SELECT ';' AS a, SU", "SELECT ';' AS a, [substring(|sum("),
            ("STOP QUERY c", "STOP QUERY [counts"),
            ("SET 'tr", "SET '[trigger"),
            ("SELECT 'se", "SELECT '["),
            ("SELECT é", "SELECT ["),
            (
                "",
                "[CREATE TABLE|CREATE VIEW|DESCRIBE|DROP TABLE|DROP VIEW|EXIT|EXPLAIN|HELP|INSERT INTO|QUIT|SELECT|SET|SHOW|STOP QUERY|WITH",
            ),
        ] {
            assert_eq!(offered(before), expected, "{before}");
        }
    }
}
