use std::path::Path;

use arrow::util::pretty::pretty_format_batches;
use rusqlite::Connection;

use super::*;
use crate::{Read, open_source};

const SHOP: &str = "
    CREATE TABLE customers (id INTEGER PRIMARY KEY, name VARCHAR(20), vip BOOLEAN, score REAL, credit DECIMAL(10, 2),
      born DATE, seen TIMESTAMP, photo BLOB);
    INSERT INTO customers VALUES
      (1, 'ada', 1, 0.5, '12.345', '1815-12-10', '2026-01-01 12:00:00', x'00ff'),
      (2, NULL, 0, 2, 7, NULL, 1767268800, NULL),
      (3, 'bob', NULL, NULL, 1.5, '2000-02-29', '2026-01-01T12:00:00+02:00', NULL);";

fn database(sql: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let connection = Connection::open(dir.path().join("shop.db")).expect("a database");
    connection.execute_batch(sql).expect("a table");
    dir
}

fn open(dir: &Path, more: &[(&str, &str)], schema: Option<SchemaRef>) -> Result<Box<dyn Source>> {
    let mut options: Options = more.iter().copied().collect();
    options.set("path", dir.join("shop.db").display().to_string());
    open_source("SQLite", &options, schema)
}

fn rows(source: &mut dyn Source) -> Result<Vec<arrow::array::RecordBatch>> {
    let all: Vec<usize> = (0..source.schema().fields().len()).collect();
    let range = source.plan(ReadLimit::default())?.expect("a range");
    assert!(source.exhausted() && source.plan(ReadLimit::default())?.is_none());
    let mut reader = source.reader().open(&range.splits[0], &all)?;
    let mut found = Vec::new();
    while let Read::Batch { batch, .. } = reader.read()? {
        found.push(batch);
    }
    Ok(found)
}

fn shown(source: &mut dyn Source) -> String {
    let found = rows(source).expect("rows");
    pretty_format_batches(&found).expect("text").to_string()
}

#[test]
fn types_of_sqlite_are_inferred() {
    let dir = database(SHOP);
    let mut source = open(dir.path(), &[("dbtable", "customers")], None).expect("a source");
    let types: Vec<String> = (source.schema().fields().iter())
        .map(|field| field.data_type().to_string())
        .collect();
    assert_eq!(
        types.join("; "),
        "Int64; Utf8; Boolean; Float64; Decimal128(10, 2); Date32; Timestamp(µs, \"UTC\"); Binary"
    );
    assert_eq!(
        shown(&mut *source),
        "\
+----+------+-------+-------+--------+------------+----------------------+-------+
| id | name | vip   | score | credit | born       | seen                 | photo |
+----+------+-------+-------+--------+------------+----------------------+-------+
| 1  | ada  | true  | 0.5   | 12.35  | 1815-12-10 | 2026-01-01T12:00:00Z | 00ff  |
| 2  |      | false | 2.0   | 7.00   |            | 2026-01-01T12:00:00Z |       |
| 3  | bob  |       |       | 1.50   | 2000-02-29 | 2026-01-01T10:00:00Z |       |
+----+------+-------+-------+--------+------------+----------------------+-------+"
    );
}

#[test]
fn declared_columns_are_found_whatever_their_case() {
    let dir = database(SHOP);
    let schema = Schema::new(vec![
        Field::new("NAME", DataType::Utf8, true),
        Field::new("Id", DataType::Int32, true),
        Field::new("seen", DataType::Utf8, true),
    ]);
    let query = [("query", "SELECT * FROM customers WHERE id < 3;")];
    let mut source = open(dir.path(), &query, Some(Arc::new(schema))).expect("a source");
    assert_eq!(
        shown(&mut *source),
        "\
+------+----+---------------------+
| NAME | Id | seen                |
+------+----+---------------------+
| ada  | 1  | 2026-01-01 12:00:00 |
|      | 2  | 1767268800          |
+------+----+---------------------+"
    );
}

fn refused(dir: &Path, more: &[(&str, &str)], fields: &[(&str, DataType)]) -> String {
    let fields: Vec<Field> = (fields.iter())
        .map(|(name, data_type)| Field::new(*name, data_type.clone(), true))
        .collect();
    let schema = (!fields.is_empty()).then(|| Arc::new(Schema::new(fields)));
    match open(dir, more, schema) {
        Err(error) => error.to_string(),
        Ok(mut source) => rows(&mut *source).expect_err("refused").to_string(),
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let dir = database(SHOP);
    let table = [("dbtable", "customers")];
    let place = format!("{}, customers", dir.path().join("shop.db").display());
    assert_eq!(
        refused(dir.path(), &table, &[("name", DataType::Int32)]),
        format!(
            "{place}, row 1: the value 'ada' of 'name' is no INT. Declare the column with another type, such as STRING, or cast it in 'query'"
        )
    );
    assert_eq!(
        refused(dir.path(), &table, &[("nmae", DataType::Utf8)]),
        format!(
            "{place} has no column 'nmae'; did you mean 'name'?; its columns are id, name, vip, score, credit, born, seen, photo"
        )
    );
    let list = DataType::new_list(DataType::Int32, true);
    assert!(refused(dir.path(), &table, &[("name", list)]).contains("from_json"));
    let counted = [("query", "SELECT count(*) AS n FROM customers")];
    let error = refused(dir.path(), &counted, &[]);
    assert!(
        error.contains("'n'") && error.contains("not declared"),
        "{error}"
    );
    let error = refused(dir.path(), &[("dbtable", "nowhere")], &[]);
    assert!(error.contains("no such table"), "{error}");
    assert!(refused(dir.path(), &[], &[]).contains("'dbtable'"));
    let both = [("dbtable", "customers"), ("query", "SELECT 1")];
    assert!(refused(dir.path(), &both, &[]).contains("not both"));
    let error = refused(&dir.path().join("none"), &table, &[]);
    assert!(error.contains("cannot open the database"), "{error}");
}

#[test]
fn many_rows_come_in_batches_and_a_restart_reads_none() {
    let dir = database(
        "CREATE TABLE n (i INTEGER);
         INSERT INTO n WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 20000) SELECT i FROM c;",
    );
    let mut source = open(dir.path(), &[("dbtable", "n")], None).expect("a source");
    let range = source
        .plan(ReadLimit::default())
        .expect("a plan")
        .expect("a range");
    // Rows are counted without a column, too.
    let mut reader = source
        .reader()
        .open(&range.splits[0], &[])
        .expect("a reader");
    let mut sizes = Vec::new();
    while let Read::Batch { batch, .. } = reader.read().expect("a batch") {
        sizes.push(batch.num_rows());
    }
    assert_eq!(sizes, [8192, 8192, 3616]);
    let mut again = open(dir.path(), &[("dbtable", "n")], None).expect("a source");
    again.restore(&[range]).expect("restored");
    assert!(again.plan(ReadLimit::default()).expect("a plan").is_none());
}
