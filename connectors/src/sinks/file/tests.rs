//! The file sink on the real file system.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::FileSink;
use super::manifest::{MANIFEST_DIR, committed_files};
use crate::ChangeType::{self, Delete, Insert, UpdatePostimage, UpdatePreimage};
use crate::storage::Disk;
use crate::{Options, Output, OutputMode, Result, Sink, SinkConfig};

fn config(mode: OutputMode) -> SinkConfig {
    SinkConfig {
        query_name: "counts".into(),
        query_id: "1a2b3c4d-0000".into(),
        schema: Arc::new(Schema::new(vec![
            Field::new("k", DataType::Utf8, true),
            Field::new("n", DataType::Int32, true),
        ])),
        mode,
        key: None,
        storage: Arc::new(Disk),
        continuous: false,
    }
}

fn options(path: &Path, more: &[(&str, &str)]) -> Options {
    let mut options: Options = more.iter().copied().collect();
    options.set("path", path.to_str().unwrap());
    options
}

fn rows(rows: &[(Option<&str>, i32)]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.0).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Int32Array>()),
    ];
    RecordBatch::try_new(config(OutputMode::Append).schema, columns).unwrap()
}

fn put(
    sink: &mut FileSink,
    epoch: u64,
    batch: RecordBatch,
    changes: Option<Vec<ChangeType>>,
) -> Result<()> {
    let mut writer = sink.writer(0)?;
    writer.write(epoch, &Output { batch, changes })?;
    let staged = writer.stage(epoch)?;
    sink.commit(epoch, &[staged])
}

fn open(path: &Path, mode: OutputMode, more: &[(&str, &str)]) -> FileSink {
    let mut sink = FileSink::open(&options(path, more), config(mode)).unwrap();
    sink.discard_uncommitted().unwrap();
    sink
}

/// The committed files, relative, each with its text.
fn texts(path: &Path) -> Vec<(String, String)> {
    let files = committed_files(path).unwrap().unwrap();
    files
        .iter()
        .map(|file| {
            let name = file
                .strip_prefix(path)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            (name, fs::read_to_string(file).unwrap())
        })
        .collect()
}

#[test]
fn json_in_partition_directories() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("deep/out");
    let mut sink = open(
        &path,
        OutputMode::Append,
        &[("format", "json"), ("partitionBy", "K")],
    );
    assert_eq!(sink.last_committed().unwrap(), None);
    assert_eq!(committed_files(&path).unwrap(), Some(vec![]));
    let batch = rows(&[(Some("a/b"), 1), (None, 2), (Some("a/b"), 3), (Some(""), 4)]);
    put(&mut sink, 0, batch, None).unwrap();
    assert_eq!(
        texts(&path),
        [
            (
                "k=__HIVE_DEFAULT_PARTITION__/part-0000000000-0-0-1a2b3c4d.json",
                "{\"n\":2}\n{\"n\":4}\n"
            ),
            (
                "k=a%2Fb/part-0000000000-0-1-1a2b3c4d.json",
                "{\"n\":1}\n{\"n\":3}\n"
            ),
        ]
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
    );
    assert_eq!(sink.description(), format!("FileSink[{}]", path.display()));
}

#[test]
fn an_epoch_counts_once_and_a_restart_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let json = [("format", "json")];
    let mut sink = open(root.path(), OutputMode::Append, &json);
    put(&mut sink, 0, rows(&[(None, 0)]), None).unwrap();
    put(&mut sink, 1, rows(&[]), None).unwrap();
    let mut sink = open(root.path(), OutputMode::Append, &json);
    assert_eq!(sink.last_committed().unwrap(), Some(1));
    put(&mut sink, 1, rows(&[(None, 7)]), None).unwrap();
    put(&mut sink, 5, rows(&[(None, 5)]), None).unwrap();
    let texts: Vec<_> = texts(root.path())
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    assert_eq!(texts, ["{\"n\":0}\n", "{\"n\":5}\n"]);
    let mut sink = open(root.path(), OutputMode::Append, &json);
    assert_eq!(sink.last_committed().unwrap(), Some(5));
    assert_eq!(
        fs::read_dir(root.path().join(MANIFEST_DIR).join("tmp"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn many_epochs_leave_few_runs() {
    let root = tempfile::tempdir().unwrap();
    let mut sink = open(root.path(), OutputMode::Append, &[("format", "json")]);
    sink.committer.set_fanout(4);
    for epoch in 0..40 {
        put(&mut sink, epoch, rows(&[(None, epoch as i32)]), None).unwrap();
    }
    let files = texts(root.path());
    assert_eq!(files.len(), 40);
    assert_eq!(files[39].1, "{\"n\":39}\n");
    let runs = fs::read_dir(root.path().join(MANIFEST_DIR))
        .unwrap()
        .count();
    assert!(runs <= 2 + 3 * 3, "{runs} entries");
}

#[test]
fn update_is_a_log_of_upserts_and_changelog_tells_all() {
    let root = tempfile::tempdir().unwrap();
    let changes = vec![UpdatePreimage, UpdatePostimage, Delete, Insert];
    let batch = rows(&[
        (Some("a"), 1),
        (Some("a"), 2),
        (Some("b"), 3),
        (Some("c"), 4),
    ]);
    let csv = [("format", "csv"), ("header", "true")];
    let (update, changelog) = (root.path().join("u"), root.path().join("c"));
    let mut sink = open(&update, OutputMode::Update, &csv);
    put(&mut sink, 3, batch.clone(), Some(changes.clone())).unwrap();
    assert_eq!(texts(&update)[0].1, "k,n,_epoch\na,2,3\nc,4,3\n");
    let mut sink = open(&changelog, OutputMode::Changelog, &csv);
    put(&mut sink, 3, batch, Some(changes)).unwrap();
    assert_eq!(
        texts(&changelog)[0].1,
        "k,n,_epoch,_change_type\na,1,3,update_preimage\na,2,3,update_postimage\nb,3,3,delete\nc,4,3,insert\n"
    );
}

#[test]
fn complete_keeps_the_newest_epoch_only() {
    let root = tempfile::tempdir().unwrap();
    let form = [("format", "json"), ("partitionBy", "k")];
    let mut sink = open(root.path(), OutputMode::Complete, &form);
    put(&mut sink, 0, rows(&[(Some("a"), 1), (Some("b"), 1)]), None).unwrap();
    put(&mut sink, 1, rows(&[(Some("a"), 2)]), None).unwrap();
    let mut sink = open(root.path(), OutputMode::Complete, &form);
    put(&mut sink, 2, rows(&[(Some("a"), 3)]), None).unwrap();
    let name = "k=a/part-0000000002-0-0-1a2b3c4d.json".to_owned();
    assert_eq!(texts(root.path()), [(name, "{\"n\":3}\n".to_owned())]);
    assert_eq!(fs::read_dir(root.path().join("k=a")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(root.path().join("k=b")).unwrap().count(), 0);
    // An empty result is a result.
    put(&mut sink, 3, rows(&[]), None).unwrap();
    assert_eq!(committed_files(root.path()).unwrap(), Some(vec![]));
    assert_eq!(sink.last_committed().unwrap(), Some(3));
}

#[test]
fn parquet_holds_every_column_but_the_partition_s() {
    let root = tempfile::tempdir().unwrap();
    for compression in ["none", "snappy", "gzip", "zstd", "lz4"] {
        let path = root.path().join(compression);
        let form = [("partitionBy", "k"), ("compression", compression)];
        let mut sink = open(&path, OutputMode::Changelog, &form);
        put(&mut sink, 0, rows(&[(Some("a"), 1)]), Some(vec![Insert])).unwrap();
        let files = committed_files(&path).unwrap().unwrap();
        assert!(files[0].ends_with("k=a/part-0000000000-0-0-1a2b3c4d.parquet"));
        let file = fs::File::open(&files[0]).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file)
            .unwrap()
            .build()
            .unwrap();
        let batches: Vec<_> = reader.map(|batch| batch.unwrap()).collect();
        let names: Vec<_> = batches[0]
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        assert_eq!(names, ["n", "_epoch", "_change_type"]);
        assert_eq!(batches[0].num_rows(), 1);
    }
}

#[test]
fn compressed_text_reads_back() {
    use std::io::Read as _;
    let root = tempfile::tempdir().unwrap();
    for compression in ["gzip", "zstd"] {
        let path = root.path().join(compression);
        let mut sink = open(
            &path,
            OutputMode::Append,
            &[("format", "json"), ("compression", compression)],
        );
        put(&mut sink, 0, rows(&[(Some("a"), 1)]), None).unwrap();
        let file = committed_files(&path).unwrap().unwrap().remove(0);
        let bytes = fs::read(&file).unwrap();
        let mut text = String::new();
        if compression == "gzip" {
            assert!(file.to_str().unwrap().ends_with(".json.gz"));
            flate2::read::GzDecoder::new(&bytes[..])
                .read_to_string(&mut text)
                .unwrap();
        } else {
            assert!(file.to_str().unwrap().ends_with(".json.zst"));
            text = String::from_utf8(zstd::decode_all(&bytes[..]).unwrap()).unwrap();
        }
        assert_eq!(text, "{\"k\":\"a\",\"n\":1}\n");
    }
}

#[test]
fn files_roll_at_the_target_size() {
    let root = tempfile::tempdir().unwrap();
    let form = [("format", "json"), ("targetFileSize", "64kb")];
    let mut sink = open(root.path(), OutputMode::Append, &form);
    let many: Vec<_> = (0..20_000).map(|n| (Some("key"), n)).collect();
    put(&mut sink, 0, rows(&many), None).unwrap();
    let files = texts(root.path());
    assert_eq!(files.len(), 3);
    assert_eq!(
        files
            .iter()
            .map(|(_, text)| text.lines().count())
            .sum::<usize>(),
        20_000
    );
}

#[test]
fn another_query_is_refused_and_foreign_files_are_left_alone() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("mine.json"), "{}").unwrap();
    let mut sink = open(root.path(), OutputMode::Append, &[("format", "json")]);
    put(&mut sink, 0, rows(&[(None, 1)]), None).unwrap();
    assert!(root.path().join("mine.json").exists());
    assert_eq!(committed_files(root.path()).unwrap().unwrap().len(), 1);
    let other = SinkConfig {
        query_name: "other".into(),
        query_id: "ffff".into(),
        ..config(OutputMode::Append)
    };
    let mut sink = FileSink::open(&options(root.path(), &[("format", "json")]), other).unwrap();
    for error in [
        sink.last_committed().unwrap_err(),
        sink.discard_uncommitted().unwrap_err(),
    ] {
        let error = error.to_string();
        assert!(
            error.contains("'other' (ffff)") && error.contains("'counts' (1a2b3c4d-0000)"),
            "{error}"
        );
    }
}

#[test]
fn wrong_options_say_what_is_right() {
    let refused = |more: &[(&str, &str)]| {
        let options = options(Path::new("out"), more);
        FileSink::open(&options, config(OutputMode::Append))
            .unwrap_err()
            .to_string()
    };
    let error = FileSink::open(&Options::new(), config(OutputMode::Append))
        .unwrap_err()
        .to_string();
    assert!(error.contains("needs the option 'path'"), "{error}");
    let cases: [(&[(&str, &str)], &str); 8] = [
        (&[("format", "orc")], "expected parquet, json or csv"),
        (&[("partitionby", "kk")], "no 'kk'"),
        (&[("partitionBy", "k,k")], "'k' is there twice"),
        (&[("partitionBy", "k,n")], "names every column"),
        (
            &[("format", "json"), ("compression", "snappy")],
            "none, gzip or zstd",
        ),
        (&[("header", "true")], "unknown option 'header'"),
        (&[("format", "csv"), ("quote", "ab")], "one character"),
        (&[("targetFileSize", "big")], "number of bytes"),
    ];
    for (more, expected) in cases {
        let error = refused(more);
        assert!(error.contains(expected), "{error}");
    }
    let mut twice = config(OutputMode::Update);
    twice.schema = Arc::new(Schema::new(vec![Field::new(
        "_epoch",
        DataType::Int64,
        true,
    )]));
    let error = FileSink::open(&options(Path::new("out"), &[]), twice)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("two columns of the result are called '_epoch'"),
        "{error}"
    );
}
