//! What merges cost an epoch where there is no time between epochs.

use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::prelude::*;
use tidemark::row::Bytes;
use tidemark::state::{Recorder, Table, TableChanges, TableKind};
use tidemark::time::{NO_WATERMARK, Time};
use timely::dataflow::operators::generic::OperatorInfo;

use crate::quantile;

const EPOCHS: usize = 10_000;

const ROUNDS: usize = 5;

/// How many keys an epoch changes.
const CHANGED: u64 = 500;

/// One worker's part of epochs that change a thousand keys on two: it looks the keys up and gives them new values,
/// and the table merges with that as much as it must.
///
/// Each round does exactly the same, so what an epoch takes in the middle one of five is what its own work takes; what
/// the machine does at one time and not at another is in the greatest alone.
pub(crate) fn stalls(sizes: &[i64]) {
    keep_memory();
    println!("| keys of a worker | step | median | 99 % | longest | longest in any round |");
    println!("|---|---|---|---|---|---|");
    for keys in sizes {
        let keys = *keys as u64 / 2;
        let rounds: Vec<_> = (0..ROUNDS).map(|_| epochs(keys)).collect();
        for (step, name) in ["look up", "change and merge"].iter().enumerate() {
            let middle = (0..EPOCHS).map(|epoch| {
                let mut taken: Vec<_> = rounds.iter().map(|round| round[step][epoch]).collect();
                taken.sort_unstable();
                taken[ROUNDS / 2].as_secs_f64() * 1000.0
            });
            let middle: Vec<f64> = middle.collect();
            let all = rounds.iter().flat_map(|round| round[step].iter());
            let longest = all.max().expect("there are epochs");
            println!(
                "| {keys} | {name} | {:.2} ms | {:.2} ms | {:.2} ms | {:.2?} |",
                quantile(middle.iter().copied(), 0.5),
                quantile(middle.iter().copied(), 0.99),
                quantile(middle.iter().copied(), 1.0),
                longest,
            );
        }
    }
}

/// Lets the allocator have more memory than will be needed, and keep it: a page that is touched for the first time
/// is the machine's cost, and was seen to take 20 ms where another machine has to make room for it.
fn keep_memory() {
    const CHUNK: usize = 64 << 10;
    const CHUNKS: usize = (1 << 30) / CHUNK;
    tidemark_allocator::set_purge_delay(u32::MAX);
    let chunks: Vec<Vec<u8>> = (0..CHUNKS).map(|_| vec![1; CHUNK]).collect();
    std::hint::black_box(&chunks);
}

/// By the clock.
type Taken = Vec<Duration>;

/// What looking up took in each epoch, and what changing and merging.
fn epochs(keys: u64) -> [Taken; 2] {
    let mut rng = StdRng::seed_from_u64(1);
    let info = OperatorInfo::new(0, 0, Rc::from([0_usize]));
    let table = Table::new(TableKind::AppendOnly, info, Recorder::disabled(), None);
    let mut table = table.expect("an empty table");
    let all: Vec<u64> = (0..keys).collect();
    let fills = all.chunks(100_000).map(|keys| changed(keys, 0));
    let mut epoch = 0;
    let mut apply = |table: &mut Table, changes: &TableChanges| {
        let time = Time::new(epoch, NO_WATERMARK);
        table.apply(time, changes).expect("rows of a usual size");
        epoch += 1;
    };
    fills.for_each(|changes| apply(&mut table, &changes));
    while table.work(1_000_000) {}
    let (mut found, mut applied) = (vec![], vec![]);
    for n in 0..EPOCHS {
        let mut some: Vec<u64> = (0..CHANGED).map(|_| rng.random_range(0..keys)).collect();
        some.sort_unstable();
        some.dedup();
        let mut looked_up = Bytes::default();
        some.iter()
            .for_each(|key| looked_up.push(&key.to_be_bytes()));
        let changes = changed(&some, n as u64);
        found.push(timed(|| {
            let mut there = 0;
            table.get(&looked_up, &mut |_, _| there += 1);
            assert_eq!(there, some.len(), "each key has a value");
        }));
        applied.push(timed(|| apply(&mut table, &changes)));
    }
    [found, applied]
}

fn changed(keys: &[u64], value: u64) -> TableChanges {
    let mut changes = TableChanges::new(TableKind::AppendOnly);
    for key in keys {
        let value = value.to_be_bytes();
        changes.push(&key.to_be_bytes(), None, Some(&value), i64::MAX);
    }
    changes
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}
