//! What users read when something is wrong: the whole message of each.

use super::*;

#[test]
fn every_error_names_the_place_and_the_remedy() {
    let cases = [
        (
            "SELECT userIdd FROM events",
            "3:8: [UNRESOLVED_COLUMN.WITH_SUGGESTION] unknown column 'userIdd'; did you mean 'userId'? columns of events: eventId, userId, amount, n, ts",
        ),
        (
            "SELECT e.usr FROM events e",
            "3:8: [UNRESOLVED_COLUMN.WITH_SUGGESTION] unknown column 'e.usr'; did you mean 'userId'? columns of e: eventId, userId, amount, n, ts",
        ),
        (
            "SELECT x FROM event",
            "3:15: [TABLE_OR_VIEW_NOT_FOUND] unknown table 'event'; did you mean 'events'? declared are: events",
        ),
        (
            "SELECT cuont(*) FROM events",
            "3:8: [UNRESOLVED_ROUTINE] unknown function 'cuont'; did you mean 'count'?",
        ),
        (
            "SELECT n FROM events WHERE",
            "3:27: [PARSE_SYNTAX_ERROR] expected an expression, found the end of the statement",
        ),
        (
            "SELEC n FROM events",
            "3:1: [PARSE_SYNTAX_ERROR] expected a statement: CREATE TABLE, CREATE VIEW, INSERT INTO, SELECT, SET, EXPLAIN, DROP, SHOW, DESCRIBE or STOP QUERY, found 'SELEC'",
        ),
        (
            "SELECT n, FROM events",
            "3:11: [PARSE_SYNTAX_ERROR] expected an expression, found 'FROM'",
        ),
        (
            "SELECT n + FROM events",
            "3:12: [PARSE_SYNTAX_ERROR] expected an expression, found 'FROM'",
        ),
        (
            "SELECT n FROM events WHERE (n = 1",
            "3:34: [PARSE_SYNTAX_ERROR] expected ), found the end of the statement",
        ),
        (
            "SELECT n FROM events JOIN",
            "3:26: [PARSE_SYNTAX_ERROR] expected identifier, found the end of the statement",
        ),
        (
            "SELECT n events) x",
            "3:16: [PARSE_SYNTAX_ERROR] expected ';' or the end of the script, found ')'",
        ),
        (
            "SELECT CAST(n AS INTT) FROM events",
            "3:18: [UNSUPPORTED_DATATYPE] unknown type 'INTT'; use BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p,s), STRING, BINARY, DATE, TIMESTAMP, TIMESTAMP_NTZ, INTERVAL, ARRAY<..>, MAP<..> or STRUCT<..>",
        ),
        (
            "CREATE TABLE t (a INTT) WITH ('connector' = 'memory')",
            "3:19: [UNSUPPORTED_DATATYPE] unknown type 'INTT'; use BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p,s), STRING, BINARY, DATE, TIMESTAMP, TIMESTAMP_NTZ, INTERVAL, ARRAY<..>, MAP<..> or STRUCT<..>",
        ),
        (
            "CREATE TABLE t (a INT, A STRING) WITH ('connector' = 'memory')",
            "3:24: column 'A' is declared twice; names do not depend on case",
        ),
        (
            "CREATE TABLE events (a INT) WITH ('connector' = 'memory')",
            "3:14: table 'events' is already declared at 1:14; use another name or DROP it first",
        ),
        (
            "CREATE VIEW EVENTS AS SELECT 1",
            "3:13: table 'EVENTS' is already declared at 1:14; use another name or DROP it first",
        ),
        (
            "CREATE TABLE t (a INT)",
            "3:14: table 't' has no connector; write WITH ('connector' = '...', ...)",
        ),
        (
            "CREATE TABLE t (a INT, PRIMARY KEY (b)) WITH ('connector' = 'memory')",
            "3:37: [UNRESOLVED_COLUMN.WITH_SUGGESTION] unknown column 'b'; columns of t: a",
        ),
        (
            "CREATE TABLE t (a INT, WATERMARK FOR b AS b) WITH ('connector' = 'memory')",
            "3:38: [UNRESOLVED_COLUMN.WITH_SUGGESTION] unknown column 'b'; columns of t: a",
        ),
        (
            "CREATE TABLE t (a INT, WATERMARK FOR a AS a - INTERVAL '5' MINUTE) WITH ('connector' = 'memory')",
            "3:38: watermark of table 't': column 'a' is INT; event time must be a TIMESTAMP",
        ),
        (
            "CREATE TABLE t (a TIMESTAMP, WATERMARK FOR a AS a - INTERVAL 'five' MINUTE) WITH ('connector' = 'memory')",
            "3:53: 'INTERVAL 'five' MINUTE' is no length of time; write for example '5 minutes' or INTERVAL '5' MINUTE",
        ),
        (
            "CREATE TABLE t (a TIMESTAMP_NTZ, WATERMARK FOR a AS a) WITH ('connector' = 'memory')",
            "3:48: watermark of table 't': column 'a' is TIMESTAMP_NTZ, which names no instant; declare it TIMESTAMP",
        ),
        (
            "CREATE TABLE t (a INT) WITH ('connector' = 'memory', 'outputMode' = 'appnd')",
            "3:54: 'outputMode' = 'appnd': expected append, update, complete or changelog",
        ),
        (
            "CREATE TABLE t (a INT) WITH ('connector' = 'memory', 'trigger' = 'soon')",
            "3:54: 'trigger' = 'soon': expected '30 seconds', 'processing-time 30 seconds', 'available-now', 'once' or 'continuous 1 second'",
        ),
        (
            "CREATE TABLE t (a INT) WITH ('connector' = 'memory', 'Connector' = 'x')",
            "3:54: [PARSE_SYNTAX_ERROR] option 'Connector' is given twice",
        ),
        (
            "CREATE TABLE t (a INT) WITH ('connector' = 'memory', 'idleTimeout' = '${ENV:TIDEMARK_NO_SUCH}')",
            "3:54: option 'idleTimeout' wants the environment variable TIDEMARK_NO_SUCH, which is not set; export it or write the value",
        ),
        (
            "CREATE TABLE t (a INT) WITH ('connector' = 'kafkaa'); SELECT * FROM t",
            "3:14: table 't': unknown connector 'kafkaa', did you mean 'memory'?; there are: memory",
        ),
        (
            "CREATE TABLE t (a INT) WITH ('connector' 'memory'",
            "3:50: [PARSE_SYNTAX_ERROR] expected '=', found the end of the statement",
        ),
        (
            "CREATE TABLE t (a INT) PARTITIONED BY (a)",
            "3:24: [PARSE_SYNTAX_ERROR] expected WITH (...) or the end of the statement, found 'PARTITIONED'",
        ),
        (
            "SET checkpointLocaton = 'x'",
            "3:5: unknown setting 'checkpointLocaton'; did you mean 'checkpointLocation'?",
        ),
        (
            "SET 'trigger' = 'now and then'",
            "3:5: 'trigger' = 'now and then': expected '30 seconds', 'processing-time 30 seconds', 'available-now', 'once' or 'continuous 1 second'",
        ),
        (
            "INSERT INTO nowhere SELECT n FROM events",
            "3:13: [TABLE_OR_VIEW_NOT_FOUND] unknown table 'nowhere'; declared are: events",
        ),
        (
            "CREATE TABLE t (a INT, b INT) WITH ('connector' = 'console'); INSERT INTO t SELECT n FROM events",
            "3:75: INSERT INTO t: the query gives 1 column (n), the table has 2 columns (a, b)",
        ),
        (
            "CREATE TABLE t (a INT, b INT) WITH ('connector' = 'console'); INSERT INTO t (a, c) SELECT n, n + 1 FROM events",
            "3:81: [UNRESOLVED_COLUMN.WITH_SUGGESTION] unknown column 'c'; columns of t: a, b",
        ),
        (
            "CREATE TABLE t (a ARRAY<INT>) WITH ('connector' = 'console'); INSERT INTO t SELECT n FROM events",
            "3:75: INSERT INTO t: column 'a' is ARRAY<INT>, and the query's INT cannot be cast to it; write a CAST or change the table",
        ),
        (
            "SELECT window(ts) FROM events",
            "3:8: window: it takes a timestamp, a size and, if you like, a slide and a start: window(ts, '10 minutes', '5 minutes', '1 minute')",
        ),
        (
            "SELECT window(ts, '1 minute', '5 minutes') FROM events",
            "3:8: window: the slide must not be greater than the size: rows between windows would be lost",
        ),
        (
            "SELECT window(ts, 'five') FROM events",
            "3:8: 'five' is no length of time; write for example '5 minutes' or INTERVAL '5' MINUTE",
        ),
        (
            "SELECT window(ts, n) FROM events",
            "3:8: window: its lengths must be constants, such as '5 minutes' or INTERVAL '5' MINUTE",
        ),
        (
            "SELECT window(ts, '1 month') FROM events",
            "3:8: '1 month' is no length of time; write for example '5 minutes' or INTERVAL '5' MINUTE (months and years have no fixed length)",
        ),
        (
            "SELECT window(n, '5 minutes') FROM events",
            "3:8: a window needs a TIMESTAMP, not INT",
        ),
        (
            "SELECT count(*) FROM events GROUP BY window(ts, '5 minutes', '1 minute'), window(ts, '6 minutes', '1 minute')",
            "3:75: window: a SELECT can have one sliding window; put the other into a sub-query",
        ),
        (
            "SELECT session_window(ts, '0 minutes') FROM events",
            "3:8: session_window: the gap must be greater than zero",
        ),
        (
            "SELECT window.begin FROM events GROUP BY window(ts, '5 minutes')",
            "3:15: [FIELD_NOT_FOUND] there is no field 'begin' in this STRUCT",
        ),
        (
            "SELECT window_time(ts) FROM events",
            "3:8: window_time takes a window: the column that window(...) gives",
        ),
        (
            "SELECT n, count(*) FROM events",
            "3:8: [MISSING_GROUP_BY] column 'n' must stand in GROUP BY or inside an aggregate function",
        ),
        (
            "SELECT sum(ts) FROM events",
            "3:8: [DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE] sum takes numbers or intervals, not TIMESTAMP; use CAST to make it one",
        ),
        (
            "SELECT userId + ts FROM events",
            "3:8: [DATATYPE_MISMATCH.BINARY_OP_DIFF_TYPES] there is no STRING + TIMESTAMP; add a CAST",
        ),
        (
            "SELECT upper(n, ts) FROM events",
            "3:8: [WRONG_NUM_ARGS.WITHOUT_SUGGESTION] upper takes 1 argument, not 2",
        ),
        (
            "SELECT from_json(userId, 'a NOTYPE') FROM events",
            "3:8: [PARSE_SYNTAX_ERROR] the schema 'a NOTYPE' cannot be read: no type 'NOTYPE'; use BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p,s), STRING, BINARY, DATE, TIMESTAMP, TIMESTAMP_NTZ, INTERVAL, ARRAY<..>, MAP<..> or STRUCT<..>",
        ),
        (
            "SELECT n FROM events WHERE n > CAST(array(1) AS INT)",
            "3:32: [DATATYPE_MISMATCH.CAST_WITHOUT_SUGGESTION] cannot cast ARRAY<INT> to INT",
        ),
        (
            "SELECT x FROM (SELECT n, transform(n, v -> v) AS x FROM events)",
            "3:26: [DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE] argument 1 of transform must be an ARRAY, not INT; add a CAST",
        ),
        (
            "SELECT n, count(*) FROM events GROUP BY 1, CASE WHEN n THEN 1 END",
            "3:44: [DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE] a condition must be BOOLEAN, not INT",
        ),
        (
            "SELECT md5(n) FROM events",
            "3:8: [DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE] there is no md5(INT); check the arguments or add a CAST",
        ),
        (
            "SELECT n.* FROM events",
            "3:8: [CANNOT_RESOLVE_STAR_EXPAND] 'n' before .* is no table of this query and no STRUCT; write a table's name, or the columns",
        ),
        (
            "SELECT n AS a, amount AS A FROM events",
            "3:1: two columns of the result have the same name; give one of them another with AS",
        ),
        (
            "SELECT n FROM events a, events b",
            "3:8: [AMBIGUOUS_REFERENCE] column 'n' is ambiguous: more than one table has it; write table.n",
        ),
        (
            "SELECT _metadata.nme FROM events",
            "3:18: [FIELD_NOT_FOUND] there is no field 'nme' in this STRUCT",
        ),
        (
            "SELECT approx_count_distinct(n, 0.9) FROM events",
            "3:8: approx_count_distinct: relativeSD must be a constant between 0.0044 and 0.27",
        ),
        (
            "SELECT * FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(tss), INTERVAL '5' MINUTE))",
            "3:53: [UNRESOLVED_COLUMN.WITH_SUGGESTION] unknown column 'tss'; did you mean 'ts'? columns of events: eventId, userId, amount, n, ts",
        ),
        (
            "SELECT n FROM events WHERE n = 'abc' AND",
            "3:41: [PARSE_SYNTAX_ERROR] expected an expression, found the end of the statement",
        ),
        (
            "SELECT n FROM events WHERE userId",
            "3:28: [DATATYPE_MISMATCH.FILTER_NOT_BOOLEAN] a condition must be BOOLEAN, not STRING",
        ),
        (
            "SELECT n FROM events WATERMARK n DELAY OF INTERVAL 5 MINUTES",
            "3:32: watermark of table 'events': column 'n' is INT; event time must be a TIMESTAMP",
        ),
        (
            "DROP TABLE evnts",
            "3:12: [TABLE_OR_VIEW_NOT_FOUND] unknown table 'evnts'; did you mean 'events'? declared are: events",
        ),
        (
            "INSERT OVERWRITE t SELECT 1",
            "3:8: INSERT OVERWRITE is not supported; write INSERT INTO a table with 'outputMode' = 'complete'",
        ),
        (
            "UPDATE events SET n = 1",
            "3:1: [PARSE_SYNTAX_ERROR] expected a statement: CREATE TABLE, CREATE VIEW, INSERT INTO, SELECT, SET, EXPLAIN, DROP, SHOW, DESCRIBE or STOP QUERY, found 'UPDATE'",
        ),
        (
            "CREATE TABLE t (a INT) WITH ('connector' = 'memory', 'onError' = 'deadLetter'); INSERT INTO t SELECT n FROM events",
            "3:81: 'onError' = 'deadLetter': expected also 'deadLetter' = 'a table' to say where the rows go",
        ),
    ];
    let mut wrong = String::new();
    for (sql, expected) in cases {
        let error = refused(&format!("{EVENTS}{sql}"));
        let first = error.lines().next().unwrap_or_default();
        if first != format!("t.sql:{expected}") {
            wrong += &format!("{sql}\n  wanted t.sql:{expected}\n  found  {first}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_line_is_shown_with_carets_below() {
    let error = refused(&format!("{EVENTS}SELECT n,\n\tuser_id\nFROM events"));
    let expected = "t.sql:4:2: [UNRESOLVED_COLUMN.WITH_SUGGESTION] unknown column 'user_id'; did you mean 'userId'? columns of events: eventId, userId, amount, n, ts\n  4 | \tuser_id\n    | \t^^^^^^^";
    assert_eq!(error, expected);
}
