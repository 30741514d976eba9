#![expect(clippy::format_collect, reason = "short texts of a test")]

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::SystemTime;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use tempfile::TempDir;

use super::*;
use crate::{METADATA_COLUMN, Read};

struct Dir(TempDir);

impl Dir {
    fn new() -> Self {
        Self(TempDir::new().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file whose time is so many seconds after some moment.
    fn write(&self, name: &str, time: u64, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(&path, content).expect("a file");
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600 + time);
        fs::File::options()
            .write(true)
            .open(&path)
            .expect("a file")
            .set_modified(time)
            .expect("a time");
    }

    fn options(&self, pairs: &[(&str, &str)]) -> Options {
        let mut options: Options = [
            ("path", self.0.path().to_str().expect("UTF-8")),
            ("format", "json"),
        ]
        .into_iter()
        .collect();
        for (key, value) in pairs {
            options.set(*key, *value);
        }
        options
    }

    fn open(&self, pairs: &[(&str, &str)]) -> FileSource {
        FileSource::open(
            &self.options(pairs),
            Some(schema(&[("a", DataType::Int64)])),
        )
        .expect("a source")
    }
}

fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(
        columns
            .iter()
            .map(|(name, t)| Field::new(*name, t.clone(), true))
            .collect::<Vec<_>>(),
    ))
}

fn plan(source: &mut FileSource) -> Option<PlannedRange> {
    source.plan(ReadLimit::default()).expect("a plan")
}

fn try_read(
    source: &FileSource,
    range: &PlannedRange,
    projection: &[usize],
) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    for split in &range.splits {
        let mut reader = source.reader().open(split, projection)?;
        while let Read::Batch { batch, .. } = reader.read()? {
            batches.push(batch);
        }
    }
    Ok(batches)
}

/// All columns of all rows of the next range, `-` for null.
fn rows(source: &mut FileSource) -> Vec<String> {
    let range = plan(source).expect("something new");
    let all: Vec<usize> = (0..source.schema().fields().len()).collect();
    shown(&try_read(source, &range, &all).expect("rows"))
}

fn shown(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("-");
    let mut found = Vec::new();
    for batch in batches {
        let formats: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options).expect("a format"))
            .collect();
        found.extend((0..batch.num_rows()).map(|row| {
            formats
                .iter()
                .map(|f| f.value(row).to_string())
                .collect::<Vec<_>>()
                .join("|")
        }));
    }
    found
}

fn names(range: &PlannedRange) -> Vec<String> {
    let name = |split: &Split| {
        FileSplit::of(&split.range)
            .expect("a file")
            .path
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    range.splits.iter().map(name).collect()
}

#[test]
fn files_are_read_once_in_the_order_of_their_times_also_after_a_restart() {
    let dir = Dir::new();
    dir.write("b.json", 1, "{\"a\":1}\n");
    dir.write("a.json", 2, "{\"a\":2}\n");
    dir.write("_hidden.json", 0, "{\"a\":9}\n");
    dir.write(".hidden", 0, "{\"a\":9}\n");
    dir.write("empty.json", 0, "");
    let mut source = dir.open(&[]);
    let first = plan(&mut source).expect("files");
    assert_eq!(names(&first), ["b.json", "a.json"]);
    assert_eq!(
        (&first.start, &first.end),
        (&Value::Null, &json!({"logOffset": 0}))
    );
    assert!(plan(&mut source).is_none());

    dir.write("c.json", 0, "{\"a\":3}");
    let logged: PlannedRange =
        serde_json::from_str(&serde_json::to_string(&first).expect("JSON")).expect("a range");
    let mut again = dir.open(&[]);
    again.restore(&[logged]).expect("restored");
    assert_eq!(
        again.latest_offset().expect("an offset"),
        Some(json!({"logOffset": 1}))
    );
    let second = plan(&mut again).expect("a file");
    assert_eq!(names(&second), ["c.json"]);
    assert_eq!(
        (&second.start, &second.end),
        (&json!({"logOffset": 0}), &json!({"logOffset": 1}))
    );
}

#[test]
fn a_range_is_limited_by_files_and_bytes() {
    let dir = Dir::new();
    for n in 0..5 {
        dir.write(&format!("{n}.json"), n, "{\"a\":1}\n");
    }
    let mut source = dir.open(&[("maxFilesPerTrigger", "2")]);
    assert_eq!(
        names(&plan(&mut source).expect("files")),
        ["0.json", "1.json"]
    );
    let mut source = dir.open(&[("maxFilesPerTrigger", "2"), ("latestFirst", "true")]);
    assert_eq!(
        names(&plan(&mut source).expect("files")),
        ["4.json", "3.json"]
    );
    let mut source = dir.open(&[("maxBytesPerTrigger", "24")]);
    assert_eq!(names(&plan(&mut source).expect("files")).len(), 3);
    let mut source = dir.open(&[("maxBytesPerTrigger", "1")]);
    assert_eq!(names(&plan(&mut source).expect("files")).len(), 1);
}

#[test]
fn a_frozen_source_ends_with_what_was_there() {
    let dir = Dir::new();
    dir.write("0.json", 0, "{\"a\":1}\n");
    dir.write("1.json", 1, "{\"a\":1}\n");
    let mut source = dir.open(&[("maxFilesPerTrigger", "1")]);
    source.freeze().expect("frozen");
    dir.write("2.json", 2, "{\"a\":1}\n");
    assert!(plan(&mut source).is_some() && !source.exhausted());
    assert!(plan(&mut source).is_some() && source.exhausted());
    assert!(plan(&mut source).is_none());
}

#[test]
fn old_files_are_forgotten_with_the_log() {
    let dir = Dir::new();
    dir.write("0.json", 0, "{\"a\":1}\n");
    let mut source = dir.open(&[("maxFileAge", "10 seconds")]);
    plan(&mut source).expect("a file");
    assert_eq!(source.forgettable(), 0);
    dir.write("1.json", 100, "{\"a\":1}\n");
    plan(&mut source).expect("a file");
    assert_eq!(source.forgettable(), 1);
    source.forgotten(1);
    assert_eq!(source.forgettable(), 0, "they are forgotten once");
    assert_eq!(source.seen.len(), 1);
    dir.write("late.json", 50, "{\"a\":1}\n");
    assert!(plan(&mut source).is_none());
}

#[test]
fn a_listed_file_is_looked_at_again_before_it_is_planned() {
    let dir = Dir::new();
    for name in ["a.json", "b.json", "c.json"] {
        dir.write(name, 0, "{\"a\":1}\n");
    }
    let mut source = dir.open(&[("maxFilesPerTrigger", "1")]);
    assert_eq!(rows(&mut source), ["1"]);
    fs::remove_file(dir.path("b.json")).expect("removed");
    dir.write("c.json", 5, "{\"a\":2}\n{\"a\":3}\n");
    assert_eq!(rows(&mut source), ["2", "3"]);
    assert!(plan(&mut source).is_none());
}

#[test]
fn names_alone_tell_files_apart_on_request() {
    let dir = Dir::new();
    dir.write("d=1/x.json", 0, "{\"a\":1}\n");
    dir.write("d=2/x.json", 1, "{\"a\":1}\n");
    let mut source = dir.open(&[("fileNameOnly", "true")]);
    assert_eq!(plan(&mut source).expect("a file").splits.len(), 1);
}

#[test]
fn globs_filters_and_nested_directories() {
    let dir = Dir::new();
    dir.write("x1/a.json", 0, "{\"a\":1}\n");
    dir.write("x2/b.json", 1, "{\"a\":2}\n");
    dir.write("y/c.json", 2, "{\"a\":3}\n");
    let glob = format!("{}/x*/*.json", dir.0.path().display());
    assert_eq!(rows(&mut dir.open(&[("path", &glob)])), ["1", "2"]);
    assert_eq!(
        rows(&mut dir.open(&[
            ("recursiveFileLookup", "true"),
            ("pathGlobFilter", "[ac].json")
        ])),
        ["1", "3"]
    );
    assert!(plan(&mut dir.open(&[])).is_none());
    let one = format!("file://{}/y/c.json", dir.0.path().display());
    assert_eq!(rows(&mut dir.open(&[("path", &one)])), ["3"]);
}

#[test]
fn clean_source_archives_or_deletes_what_is_committed_and_unchanged() {
    let (dir, archive) = (Dir::new(), Dir::new());
    dir.write("a.json", 0, "{\"a\":1}\n");
    dir.write("b.json", 1, "{\"a\":2}\n");
    let to = archive.0.path().to_str().expect("UTF-8");
    let mut source = dir.open(&[("cleanSource", "archive"), ("sourceArchiveDir", to)]);
    let range = plan(&mut source).expect("files");
    dir.write("b.json", 7, "{\"a\":2}\n{\"a\":3}\n");
    source.committed(&range).expect("committed");
    assert!(!dir.path("a.json").exists() && dir.path("b.json").exists());
    assert_eq!(source.left_behind(), 1);
    let moved = archive
        .0
        .path()
        .join(dir.path("a.json").strip_prefix("/").expect("absolute"));
    assert_eq!(
        fs::read_to_string(moved).expect("the archived file"),
        "{\"a\":1}\n"
    );
    source.committed(&range).expect("committed twice");

    let inside = dir.path("done");
    let options = dir.options(&[
        ("cleanSource", "archive"),
        ("sourceArchiveDir", inside.to_str().expect("UTF-8")),
    ]);
    assert!(FileSource::open(&options, Some(schema(&[("a", DataType::Int64)]))).is_err());

    let dir = Dir::new();
    dir.write("a.json", 0, "{\"a\":1}\n");
    let mut source = dir.open(&[("cleanSource", "delete")]);
    let range = plan(&mut source).expect("a file");
    assert!(dir.path("a.json").exists());
    source.committed(&range).expect("committed");
    assert!(!dir.path("a.json").exists());
}

#[test]
fn partition_directories_become_columns() {
    let dir = Dir::new();
    dir.write(
        "c=a%2Fb/d=2026-01-01/x.json",
        0,
        "{\"a\":1,\"c\":\"file\"}\n",
    );
    dir.write(
        "c=__HIVE_DEFAULT_PARTITION__/d=2026-01-02/x.json",
        1,
        "{\"a\":2}\n",
    );
    let declared = schema(&[
        ("c", DataType::Utf8),
        ("a", DataType::Int64),
        ("d", DataType::Date32),
    ]);
    let mut source = FileSource::open(&dir.options(&[]), Some(declared)).expect("a source");
    assert_eq!(rows(&mut source), ["a/b|1|2026-01-01", "-|2|2026-01-02"]);

    let mut inferred =
        FileSource::open(&dir.options(&[("schemaInference", "true")]), None).expect("a source");
    let names: Vec<_> = inferred
        .schema()
        .fields()
        .iter()
        .map(|f| format!("{} {}", f.name(), f.data_type()))
        .collect();
    assert_eq!(names, ["a Int64", "c Utf8", "d Date32"]);
    assert_eq!(rows(&mut inferred), ["1|a/b|2026-01-01", "2|-|2026-01-02"]);

    let wrong = schema(&[("a", DataType::Int64), ("d", DataType::Int32)]);
    let mut source = FileSource::open(&dir.options(&[]), Some(wrong)).expect("a source");
    let range = plan(&mut source).expect("files");
    let error = try_read(&source, &range, &[1]).unwrap_err().to_string();
    assert!(
        error.contains("d=2026-01-01") && error.contains("STRING"),
        "{error}"
    );
}

#[test]
fn the_metadata_column_says_where_a_row_came_from() {
    let dir = Dir::new();
    dir.write("my file.json", 0, "{\"a\":1}\n{\"a\":2}\n");
    let mut source = dir.open(&[]);
    let range = plan(&mut source).expect("a file");
    let batches = try_read(&source, &range, &[0, 1]).expect("rows");
    assert_eq!(batches[0].schema().field(1).name(), METADATA_COLUMN);
    let DataType::Struct(fields) = batches[0].schema().field(1).data_type().clone() else {
        panic!("a struct")
    };
    assert_eq!(&fields, source.metadata_schema().fields());
    let found = shown(&batches);
    let uri = format!("file://{}/my%20file.json", dir.0.path().display());
    assert_eq!(
        found[1],
        format!(
            "2|{{file_path: {uri}, file_name: my%20file.json, file_size: 16, file_block_start: 0, file_block_length: 16, file_modification_time: 2026-01-01T00:00:00Z}}"
        )
    );
}

#[test]
fn ranges_of_a_file_give_every_line_once() {
    let dir = Dir::new();
    let text: String = (0..300).map(|n| format!("{{\"a\":{n}}}\n")).collect();
    dir.write("x.json", 0, text.trim_end());
    let mut source = dir.open(&[]);
    let whole = plan(&mut source).expect("a file");
    let file = FileSplit::of(&whole.splits[0].range).expect("a file");
    for length in [1, 7, 8, 9, 64, 1000] {
        let mut splits = Vec::new();
        let mut start = 0;
        while start < file.size {
            let split = FileSplit {
                start,
                length,
                ..file.clone()
            };
            splits.push(Split {
                range: serde_json::to_value(split).expect("JSON"),
                ..whole.splits[0].clone()
            });
            start += length;
        }
        let batches = try_read(
            &source,
            &PlannedRange {
                splits,
                ..whole.clone()
            },
            &[0],
        )
        .expect("rows");
        let found: Vec<i64> = batches
            .iter()
            .flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec())
            .collect();
        assert_eq!(
            found,
            (0..300).collect::<Vec<_>>(),
            "ranges of {length} bytes"
        );
    }
}

#[test]
fn large_files_are_cut_and_compressed_ones_are_not() {
    let dir = Dir::new();
    let source = dir.open(&[]);
    let found = |path: &str| Found {
        path: path.into(),
        size: 21 << 20,
        mtime: 0,
    };
    let lengths = |splits: Vec<Split>| {
        splits
            .iter()
            .map(|split| split.bytes >> 20)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        lengths(source.cut(&found("/x.json")).expect("splits")),
        [4, 4, 4, 4, 5],
        "without a crumb at the end"
    );
    let huge = Found {
        size: 1 << 40,
        ..found("/x.json")
    };
    assert!(
        lengths(source.cut(&huge).expect("splits"))
            .iter()
            .all(|length| *length == 64)
    );
    assert_eq!(
        lengths(source.cut(&found("/x.json.gz")).expect("splits")),
        [21]
    );
    assert_eq!(
        lengths(
            dir.open(&[("multiLine", "true")])
                .cut(&found("/x.json"))
                .expect("splits")
        ),
        [21]
    );
    assert!(source.cut(&found("/x.json.bz2")).is_err());
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).expect("in memory");
    encoder.finish().expect("in memory")
}

#[test]
fn compressed_files_are_read_and_truncated_ones_named() {
    let dir = Dir::new();
    let text: String = (0..3000).map(|n| format!("{{\"a\":{n}}}\n")).collect();
    dir.write("a.json.gz", 0, gzip(text.as_bytes()));
    dir.write(
        "b.json.zst",
        1,
        zstd::encode_all(text.as_bytes(), 1).expect("in memory"),
    );
    assert_eq!(rows(&mut dir.open(&[])).len(), 6000);
    for (name, content) in [
        ("c.json.gz", gzip(text.as_bytes())),
        (
            "d.json.zst",
            zstd::encode_all(text.as_bytes(), 1).expect("in memory"),
        ),
    ] {
        let dir = Dir::new();
        dir.write(name, 0, &content[..content.len() / 2]);
        let mut source = dir.open(&[]);
        let range = plan(&mut source).expect("a file");
        let error = try_read(&source, &range, &[0]).unwrap_err().to_string();
        assert!(
            error.contains(name) && error.contains("truncated"),
            "{error}"
        );
    }
}

#[test]
fn files_that_vanish_or_change_are_named() {
    let dir = Dir::new();
    dir.write("a.json", 0, "{\"a\":1}\n");
    let mut source = dir.open(&[]);
    let range = plan(&mut source).expect("a file");
    dir.write("a.json", 0, "{\"a\":1}\n{\"a\":2}\n");
    let error = try_read(&source, &range, &[0]).unwrap_err().to_string();
    assert!(
        error.contains("a.json") && error.contains("changed its size from 8 to 16"),
        "{error}"
    );
    fs::remove_file(dir.path("a.json")).expect("removed");
    let error = try_read(&source, &range, &[0]).unwrap_err().to_string();
    assert!(
        error.contains("a.json") && error.contains("was removed"),
        "{error}"
    );
}

#[test]
fn records_that_are_broken_are_named_by_line_or_kept() {
    let dir = Dir::new();
    dir.write(
        "a.json",
        0,
        "\u{FEFF}{\"a\":1}\n{\"a\":2}\n{\"a\":\"x\"}\n{\"a\":4,",
    );
    let mut source = dir.open(&[("mode", "FAILFAST")]);
    let range = plan(&mut source).expect("a file");
    let error = try_read(&source, &range, &[]).unwrap_err().to_string();
    assert!(
        error.contains("a.json:3: the value of 'a' is no BIGINT"),
        "{error}"
    );
    let columns = schema(&[("a", DataType::Int64), ("_corrupt_record", DataType::Utf8)]);
    let mut source = FileSource::open(&dir.options(&[]), Some(columns)).expect("a source");
    assert_eq!(
        rows(&mut source),
        ["1|-", "2|-", "-|{\"a\":\"x\"}", "-|{\"a\":4,"]
    );
    // The corrupt column alone tells the same.
    let mut again = dir.open(&[]);
    let range = plan(&mut again).expect("a file");
    assert_eq!(
        shown(&try_read(&source, &range, &[1]).expect("rows"))[2],
        "{\"a\":\"x\"}"
    );
}

#[test]
fn csv_positions_leave_partition_columns_out() {
    let dir = Dir::new();
    dir.write("d=7/a.csv", 0, "x,y\n1,2\n");
    let declared = schema(&[
        ("x", DataType::Int32),
        ("d", DataType::Int32),
        ("y", DataType::Int32),
    ]);
    let options = dir.options(&[("format", "csv"), ("header", "true")]);
    assert_eq!(
        rows(&mut FileSource::open(&options, Some(declared)).expect("a source")),
        ["1|7|2"]
    );
    let options = dir.options(&[
        ("format", "csv"),
        ("header", "true"),
        ("inferSchema", "true"),
    ]);
    assert_eq!(
        rows(&mut FileSource::open(&options, None).expect("a source")),
        ["1|2|7"]
    );
}

#[test]
fn multi_line_json_is_one_document_a_file() {
    let dir = Dir::new();
    let elements: Vec<_> = (0..10_000).map(|n| format!("{{\n\"a\": {n}}}")).collect();
    dir.write("a.json", 0, format!("[{}]", elements.join(",")));
    assert_eq!(rows(&mut dir.open(&[("multiLine", "true")])).len(), 10_000);
}

fn parquet(columns: Vec<(&str, arrow::array::ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    let mut out = Vec::new();
    let mut writer =
        ::parquet::arrow::ArrowWriter::try_new(&mut out, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("in memory");
    writer.close().expect("in memory");
    out
}

#[test]
fn parquet_brings_its_own_schema_and_takes_declared_ones() {
    let dir = Dir::new();
    let numbers: arrow::array::ArrayRef = Arc::new(arrow::array::Int32Array::from(vec![1, 2]));
    let texts: arrow::array::ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["x", "y"]));
    let content = parquet(vec![("N", numbers), ("s", texts)]);
    dir.write("a.parquet", 0, &content);
    let options = dir.options(&[("format", "parquet")]);
    assert_eq!(
        rows(&mut FileSource::open(&options, None).expect("a source")),
        ["1|x", "2|y"]
    );
    let declared = schema(&[("missing", DataType::Utf8), ("n", DataType::Int64)]);
    assert_eq!(
        rows(&mut FileSource::open(&options, Some(declared)).expect("a source")),
        ["-|1", "-|2"]
    );

    let mut source =
        FileSource::open(&options, Some(schema(&[("s", DataType::Int64)]))).expect("a source");
    let range = plan(&mut source).expect("a file");
    assert!(
        try_read(&source, &range, &[0])
            .unwrap_err()
            .to_string()
            .contains("declare it as it is")
    );
    assert_eq!(
        try_read(&source, &range, &[]).expect("rows")[0].num_rows(),
        2
    );

    dir.write("b.parquet", 1, &content[..content.len() - 10]);
    let mut source =
        FileSource::open(&options, Some(schema(&[("n", DataType::Int32)]))).expect("a source");
    let range = plan(&mut source).expect("files");
    assert!(
        try_read(&source, &range, &[0])
            .unwrap_err()
            .to_string()
            .contains("b.parquet as parquet")
    );
}

#[test]
fn a_manifest_decides_which_files_there_are() {
    let dir = Dir::new();
    for name in ["a.json", "b.json", "uncommitted.json"] {
        dir.write(name, 0, "{\"a\":1}\n");
    }
    let run = |previous: Value, file: &str| {
        json!({"version": 1, "query": "q", "queryName": "q", "mode": "append", "first": 0, "last": 0,
            "previous": previous, "files": [{"path": file, "epoch": 0, "rows": 1, "bytes": 8}]}).to_string()
    };
    dir.write("_tidemark/owner.json", 0, "{}");
    let mut source = dir.open(&[]);
    assert!(plan(&mut source).is_none());
    dir.write(
        "_tidemark/00000000000000000000-00000000000000000031.1.json",
        0,
        run(Value::Null, "a.json"),
    );
    dir.write(
        "_tidemark/00000000000000000031-00000000000000000031.0.json",
        0,
        run(json!(30), "gone.json"),
    );
    dir.write(
        "_tidemark/00000000000000000032-00000000000000000032.0.json",
        0,
        run(json!(31), "b.json"),
    );
    assert_eq!(
        names(&plan(&mut source).expect("files")),
        ["a.json", "b.json"]
    );
}

#[test]
fn mistakes_are_named_with_their_remedy() {
    let dir = Dir::new();
    let message = |pairs: &[(&str, &str)], declared: Option<SchemaRef>| {
        FileSource::open(&dir.options(pairs), declared)
            .unwrap_err()
            .to_string()
    };
    let columns = || Some(schema(&[("a", DataType::Int64)]));
    let cases = [
        (message(&[], None), "'schemaInference' = 'true'"),
        (
            message(&[("schemaInference", "true")], None),
            "put a file there first",
        ),
        (
            message(&[("path", "/does/not/exist")], columns()),
            "does not exist",
        ),
        (
            message(&[("path", "s3://bucket/x")], columns()),
            "a path of this machine",
        ),
        (
            message(&[("format", "orc")], columns()),
            "json, csv or parquet",
        ),
        (
            message(&[("maxFilePerTrigger", "1")], columns()),
            "did you mean 'maxFilesPerTrigger'",
        ),
        (
            message(&[("cleanSource", "archive")], columns()),
            "sourceArchiveDir",
        ),
        (
            message(&[("mode", "LAX")], columns()),
            "PERMISSIVE, DROPMALFORMED or FAILFAST",
        ),
        (
            message(&[], Some(schema(&[("_corrupt_record", DataType::Int64)]))),
            "declare it as STRING",
        ),
    ];
    for (found, expected) in cases {
        assert!(found.contains(expected), "{found}");
    }
}
