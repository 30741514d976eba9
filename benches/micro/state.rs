//! What a table does with rows: sorting an epoch's, merging chunks, looking keys up.

use std::rc::Rc;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use tidemark::row::Bytes;
use tidemark::state::{Recorder, Table, TableChanges, TableKind};
use tidemark::time::{NO_WATERMARK, Time};
use timely::dataflow::operators::generic::OperatorInfo;

use crate::windowed::{changes, codecs, columns, rows};

const USERS: u64 = 5000;

/// The keys of a window's users, and their changes; `from` tells windows' values apart.
fn epoch(from: u64) -> (Bytes, TableChanges) {
    let rows = rows(10, USERS, from);
    let [keys, values] = columns(&rows);
    let (key, value) = codecs();
    let keys = key.encode(&keys).expect("keys");
    let values = value.encode(&values).expect("values");
    let changes = changes(&keys, &values, &rows);
    (keys, changes)
}

fn table() -> Table {
    let info = OperatorInfo::new(0, 0, Rc::from([0_usize]));
    Table::new(TableKind::AppendOnly, info, Recorder::disabled(), None).expect("an empty table")
}

fn apply(table: &mut Table, epoch: u64, changes: &TableChanges) {
    let time = Time::new(epoch, NO_WATERMARK);
    table.apply(time, changes).expect("rows of a usual size");
}

/// An epoch's rows to a sorted batch.
#[divan::bench]
fn seal(bencher: Bencher) {
    let (_, changes) = epoch(0);
    bencher
        .counter(ItemsCount::new(changes.len()))
        .with_inputs(table)
        .bench_local_values(|mut table| {
            apply(&mut table, 0, black_box(&changes));
            table
        });
}

/// Two batches with the same keys to one, the newer values staying.
#[divan::bench]
fn seal_and_merge(bencher: Bencher) {
    let ((_, older), (_, newer)) = (epoch(0), epoch(1));
    bencher
        .counter(ItemsCount::new(newer.len()))
        .with_inputs(|| {
            let mut table = table();
            apply(&mut table, 0, &older);
            table
        })
        .bench_local_values(|mut table| {
            apply(&mut table, 1, black_box(&newer));
            while table.work(1_000_000) {}
            table
        });
}

/// All keys of a table.
#[divan::bench]
fn look_up(bencher: Bencher) {
    let (keys, changes) = epoch(0);
    let mut table = table();
    apply(&mut table, 0, &changes);
    bencher
        .counter(ItemsCount::new(keys.len()))
        .bench_local(|| {
            let mut found = 0;
            table.get(black_box(&keys), &mut |_, value| found += value.len());
            found
        });
}
