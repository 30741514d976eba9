use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::*;

fn options(pairs: &[(&str, &str)]) -> CsvOptions {
    CsvOptions::new(&pairs.iter().copied().collect()).expect("options")
}

fn decode(
    columns: &[(&str, DataType)],
    pairs: &[(&str, &str)],
    text: &str,
) -> Result<Vec<String>, Malformed> {
    let fields: Vec<_> = columns
        .iter()
        .map(|(name, t)| Field::new(*name, t.clone(), true))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let mut decoder =
        CsvDecoder::new(&schema, Arc::clone(&schema), options(pairs), true).expect("a decoder");
    decoder.push_lines(text.as_bytes())?;
    let (batch, _) = decoder.flush().expect("a batch");
    let shown = FormatOptions::default().with_null("-");
    let formats: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &shown).expect("a format"))
        .collect();
    Ok((0..batch.num_rows())
        .map(|row| {
            formats
                .iter()
                .map(|f| f.value(row).to_string())
                .collect::<Vec<_>>()
                .join("|")
        })
        .collect())
}

/// Two columns of text.
fn texts(pairs: &[(&str, &str)], text: &str) -> Vec<String> {
    decode(&[("a", DataType::Utf8), ("b", DataType::Utf8)], pairs, text).expect("permissive")
}

#[test]
fn fields_are_cut_as_in_spark() {
    assert_eq!(texts(&[], "1,2\r\n\"x,y\",z\n"), ["1|2", "x,y|z"]);
    assert_eq!(texts(&[], "\"\",\n"), ["-|-"]);
    assert_eq!(texts(&[], r#""a\"b","a\\b""#), [r#"a"b|a\b"#]);
    // No escape by default: the field is taken as it is written.
    assert_eq!(texts(&[], r#""a""b",2"#), [r#""a""b"|2"#]);
    assert_eq!(texts(&[("escape", "\"")], r#""a""b",2"#), [r#"a"b|2"#]);
    assert_eq!(texts(&[], "\"open,2\n3,4\n"), ["open,2|-", "3|4"]);
    assert_eq!(texts(&[("sep", "\\t")], "1\t2"), ["1|2"]);
    assert_eq!(texts(&[("sep", "||")], "1||2"), ["1|2"]);
    assert_eq!(texts(&[], " 1 , 2 \n"), [" 1 | 2 "]);
    let trimmed = [
        ("ignoreLeadingWhiteSpace", "true"),
        ("ignoreTrailingWhiteSpace", "true"),
    ];
    assert_eq!(texts(&trimmed, " 1 , 2 \n"), ["1|2"]);
}

#[test]
fn lines_that_hold_no_record_are_left_out() {
    assert_eq!(
        texts(
            &[("header", "true"), ("comment", "#")],
            "# x\na,b\n\n1,2\n#3,4\n   \n"
        ),
        ["1|2"]
    );
}

#[test]
fn nulls_and_empty_texts() {
    assert_eq!(
        texts(&[("nullValue", "NA")], "NA,\n\"\",x\n"),
        ["-|-", "|x"]
    );
    assert_eq!(texts(&[("emptyValue", "E")], "\"\",x\n"), ["E|x"]);
}

#[test]
fn short_long_and_wrong_rows_are_corrupt() {
    let columns = [
        ("a", DataType::Int32),
        ("b", DataType::Utf8),
        ("_corrupt_record", DataType::Utf8),
    ];
    let text = "1,x\n2\n3,y,z\nq,w\n";
    let found = decode(&columns, &[], text).expect("permissive");
    assert_eq!(found, ["1|x|-", "2|-|2", "3|y|3,y,z", "-|w|q,w"]);
    let dropped = decode(&columns[..2], &[("mode", "DROPMALFORMED")], text).expect("dropping");
    assert_eq!(dropped, ["1|x"]);
    let error = decode(&columns[..2], &[("mode", "FAILFAST")], text).unwrap_err();
    assert_eq!(
        (error.offset, error.reason.as_str()),
        (4, "it has 1 fields where 2 were expected")
    );
}

#[test]
fn values_are_typed() {
    let utc = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()));
    let columns = [
        ("d", DataType::Date32),
        ("t", utc),
        ("f", DataType::Float64),
        ("b", DataType::Boolean),
    ];
    let pairs = [
        ("dateFormat", "dd.MM.yyyy"),
        ("timestampFormat", "yyyy-MM-dd HH:mm"),
        ("timeZone", "+01:00"),
    ];
    let found =
        decode(&columns, &pairs, "31.12.2025,2026-01-01 01:00,Inf,TRUE\n").expect("permissive");
    assert_eq!(found, ["2025-12-31|2026-01-01T00:00:00Z|inf|true"]);
}

#[test]
fn records_may_go_over_lines() {
    let found = texts(
        &[("multiLine", "true"), ("header", "true")],
        "a,b\n\"1\n2\",x\r\n3,4",
    );
    assert_eq!(found, ["1\n2|x", "3|4"]);
}

#[test]
fn only_wanted_columns_are_decoded() {
    let fields = Schema::new(vec![
        Field::new("a", DataType::Utf8, true),
        Field::new("b", DataType::Int32, true),
    ]);
    let wanted = Arc::new(Schema::new(vec![Field::new("b", DataType::Int32, true)]));
    let mut decoder =
        CsvDecoder::new(&fields, wanted, CsvOptions::default(), true).expect("a decoder");
    decoder.push_lines(b"x,1\ny,2\n").expect("lines");
    let (batch, _) = decoder.flush().expect("a batch");
    assert_eq!((batch.num_columns(), batch.num_rows()), (1, 2));
}

#[test]
fn schemas_are_inferred_as_in_spark() {
    let mut inference = CsvInference::new(options(&[("header", "true")]), true);
    let text = "i,l,d,day,t,b,s,,i\n1,3000000000,1.5,2026-01-01,2026-01-01 10:00:00,true,x,,1\n2,1,2,2026-01-02,2026-01-01 10:00,false,1,,2\n";
    inference.push_lines(text.as_bytes(), true);
    let schema = inference.finish();
    let found: Vec<_> = schema
        .fields()
        .iter()
        .map(|f| format!("{} {}", f.name(), f.data_type()))
        .collect();
    assert_eq!(
        found,
        [
            "i0 Int32",
            "l Int64",
            "d Float64",
            "day Date32",
            "t Timestamp(µs, \"UTC\")",
            "b Boolean",
            "s Utf8",
            "_c7 Utf8",
            "i8 Int32",
        ]
    );
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for (key, value) in [
        ("sep", ""),
        ("quote", "ab"),
        ("header", "yes"),
        ("timestampFormat", "yyyy-ww"),
    ] {
        let error = CsvOptions::new(&[(key, value)].into_iter().collect()).unwrap_err();
        assert!(error.to_string().contains(key), "{error}");
    }
}
