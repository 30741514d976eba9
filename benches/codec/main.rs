//! The same rows of state in several formats, as a table: how large they are, and how fast they are
//! written and read. `cargo bench --bench codec`; `docs/decisions/0009-no-abomonation.md` says what
//! follows from it.

#[path = "../micro/windowed.rs"]
mod windowed;

use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use tidemark::row::Bytes;
use tidemark::state::{
    Input, RecordedBatch, Recorder, RestoredSections, Sections, Table, TableKind,
};
use tidemark::time::{NO_WATERMARK, Time};
use timely::dataflow::operators::generic::OperatorInfo;

use windowed::Row;

#[global_allocator]
static ALLOCATOR: tidemark_allocator::MiMalloc = tidemark_allocator::MiMalloc;

/// How long one direction of one format is measured.
const SPAN: Duration = Duration::from_secs(2);

/// How many rows a batch has, as operators send them.
const BATCH: usize = 8192;

fn main() {
    let rows = windowed::rows(10, 1000, 0);
    println!(
        "{} rows: window (8 bytes), user (2 to 4 letters), count, sum, expiry",
        rows.len()
    );
    println!("| format | bytes a row | written, million rows/s | read, million rows/s |");
    println!("|---|---|---|---|");
    let batches = batches(&rows);
    for (name, compression) in [
        ("Arrow IPC", None),
        ("Arrow IPC, LZ4", Some(CompressionType::LZ4_FRAME)),
    ] {
        line(
            name,
            rows.len(),
            || write_arrow(&batches, compression),
            read_arrow,
        );
    }
    line(
        "serde, postcard",
        rows.len(),
        || postcard::to_extend(&rows, Vec::new()).expect("plain rows"),
        |bytes| postcard::from_bytes::<Vec<Row>>(bytes).expect("what was written"),
    );
    let columns = windowed::columns(&rows);
    let (keys, values) = encode(&columns);
    let sealed = seal(&keys, &values, &rows);
    line(
        "state file, from state",
        rows.len(),
        || section(&sealed),
        restore,
    );
    line(
        "state file, from columns",
        rows.len(),
        || {
            let (keys, values) = encode(&columns);
            section(&seal(&keys, &values, &rows))
        },
        |bytes| decode(&restore(bytes)),
    );
}

/// Measures a format and prints its line.
fn line<T>(
    name: &str,
    rows: usize,
    mut write: impl FnMut() -> Vec<u8>,
    mut read: impl FnMut(&[u8]) -> T,
) {
    let bytes = write();
    let size = bytes.len() as f64 / rows as f64;
    let written = fastest(|| drop(black_box(write())));
    let read = fastest(|| drop(black_box(read(black_box(&bytes)))));
    let speed = |time: Duration| rows as f64 / time.as_secs_f64() / 1e6;
    println!(
        "| {name} | {size:.1} | {:.1} | {:.1} |",
        speed(written),
        speed(read)
    );
}

/// The shortest of many runs: what others do on the machine only makes them longer.
fn fastest(mut run: impl FnMut()) -> Duration {
    let began = Instant::now();
    let mut best = Duration::MAX;
    while began.elapsed() < SPAN {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed());
    }
    best
}

/// The rows as batches: all columns, the expiry last.
fn batches(rows: &[Row]) -> Vec<RecordBatch> {
    let batch = |rows: &[Row]| {
        let [keys, values] = windowed::columns(rows);
        let expiry: Int64Array = rows.iter().map(|row| row.expiry).collect();
        let expiry: ArrayRef = Arc::new(expiry);
        let columns = keys.into_iter().chain(values).chain([expiry]);
        let names = ["window", "user", "n", "amount", "expiry"];
        RecordBatch::try_from_iter(names.into_iter().zip(columns)).expect("columns of one length")
    };
    rows.chunks(BATCH).map(batch).collect()
}

fn write_arrow(batches: &[RecordBatch], compression: Option<CompressionType>) -> Vec<u8> {
    let options = IpcWriteOptions::default()
        .try_with_compression(compression)
        .expect("a compression that is built in");
    let schema = batches[0].schema();
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &schema, options)
        .expect("a schema of plain types");
    for batch in batches {
        writer.write(batch).expect("a Vec takes all");
    }
    writer.into_inner().expect("a Vec takes all")
}

fn read_arrow(bytes: &[u8]) -> Vec<RecordBatch> {
    StreamReader::try_new(bytes, None)
        .expect("what was written")
        .collect::<Result<_, _>>()
        .expect("what was written")
}

/// Keys and values as state holds them.
fn encode([keys, values]: &[Vec<ArrayRef>; 2]) -> (Bytes, Bytes) {
    let (key, value) = windowed::codecs();
    (
        key.encode(keys).expect("keys"),
        value.encode(values).expect("values"),
    )
}

/// The batch of an epoch in which all rows are new.
fn seal(keys: &Bytes, values: &Bytes, rows: &[Row]) -> RecordedBatch {
    let recorder = Recorder::new();
    let info = OperatorInfo::new(0, 0, Rc::from([0_usize]));
    let mut table =
        Table::new(TableKind::AppendOnly, info, recorder.clone(), None).expect("an empty table");
    let changes = windowed::changes(keys, values, rows);
    table
        .apply(Time::new(0, NO_WATERMARK), &changes)
        .expect("rows of a usual size");
    recorder.take(0).remove(0)
}

fn section(batch: &RecordedBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    batch.encode(&mut bytes);
    bytes
}

fn restore(bytes: &[u8]) -> RestoredSections {
    let input = Input::new(bytes, bytes.len() as u64);
    let sections = Sections::open(vec![vec![input]]).expect("what was written");
    let restored = sections.restore(NO_WATERMARK, &|_| true, None);
    restored.expect("what was written").0
}

/// The columns of restored rows.
fn decode(rows: &RestoredSections) -> [Vec<ArrayRef>; 2] {
    let (key, value) = windowed::codecs();
    [
        key.decode(rows.rows().map(|row| row.key)).expect("keys"),
        value
            .decode(rows.rows().map(|row| row.val))
            .expect("values"),
    ]
}
