//! The queries of the Nexmark suite, over the tables of the connector `nexmark`.

/// The three tables: people, auctions, bids.
pub const TABLES: &str = include_str!("../nexmark/tables.sql");

/// The queries by their names, in their order. Each declares its sink, `result`, and writes into it.
pub const QUERIES: [(&str, &str); 23] = [
    ("q0", include_str!("../nexmark/q0.sql")),
    ("q1", include_str!("../nexmark/q1.sql")),
    ("q2", include_str!("../nexmark/q2.sql")),
    ("q3", include_str!("../nexmark/q3.sql")),
    ("q4", include_str!("../nexmark/q4.sql")),
    ("q5", include_str!("../nexmark/q5.sql")),
    ("q6", include_str!("../nexmark/q6.sql")),
    ("q7", include_str!("../nexmark/q7.sql")),
    ("q8", include_str!("../nexmark/q8.sql")),
    ("q9", include_str!("../nexmark/q9.sql")),
    ("q10", include_str!("../nexmark/q10.sql")),
    ("q11", include_str!("../nexmark/q11.sql")),
    ("q12", include_str!("../nexmark/q12.sql")),
    ("q13", include_str!("../nexmark/q13.sql")),
    ("q14", include_str!("../nexmark/q14.sql")),
    ("q15", include_str!("../nexmark/q15.sql")),
    ("q16", include_str!("../nexmark/q16.sql")),
    ("q17", include_str!("../nexmark/q17.sql")),
    ("q18", include_str!("../nexmark/q18.sql")),
    ("q19", include_str!("../nexmark/q19.sql")),
    ("q20", include_str!("../nexmark/q20.sql")),
    ("q21", include_str!("../nexmark/q21.sql")),
    ("q22", include_str!("../nexmark/q22.sql")),
];

/// A query by its name.
pub fn query(name: &str) -> Option<&'static str> {
    let mut queries = QUERIES.iter();
    queries.find_map(|(known, sql)| known.eq_ignore_ascii_case(name).then_some(*sql))
}

/// The script with another value wherever this option of a table stands.
#[must_use]
pub fn with_option(script: &str, key: &str, value: &str) -> String {
    let option = format!("'{key}' = '");
    let value = value.replace('\'', "''");
    let mut parts = script.split(&option);
    let mut changed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (_, rest) = part.split_once('\'').unwrap_or((part, ""));
        changed.push_str(&format!("{option}{value}'{rest}"));
    }
    changed
}

#[cfg(test)]
mod tests {
    use tidemark::session::Session;

    use super::*;

    #[test]
    fn an_option_changes_wherever_it_stands() {
        let changed = with_option("a ('x' = '1', 'y' = '2'); b ('x' = '3')", "x", "it's");
        assert_eq!(changed, "a ('x' = 'it''s', 'y' = '2'); b ('x' = 'it''s')");
        assert_eq!(with_option("a ('x' = '1')", "z", "2"), "a ('x' = '1')");
    }

    #[test]
    fn every_query_is_planned_and_says_what_it_keeps() {
        for (number, (name, sql)) in QUERIES.into_iter().enumerate() {
            assert_eq!(name, format!("q{number}"));
            assert!(sql.starts_with(&format!("-- {name}, ")), "{name}");
            assert!(sql.contains("\n-- State: "), "{name}");
            let session = Session::builder().build().unwrap();
            let script = session.parse(&format!("{TABLES}{sql}"), name).unwrap();
            let plan = session.plan(script.queries().next().unwrap()).unwrap();
            let none = sql.contains("\n-- State: none.\n");
            assert_eq!(plan.explain().contains("state       none:"), none, "{name}");
        }
    }
}
