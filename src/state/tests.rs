//! Traces against plain maps: random changes, expiry, restarts and changes of the number of workers.

use std::collections::BTreeMap;
use std::rc::Rc;

use differential_dataflow::trace::Cursor;
use differential_dataflow::trace::chunk::ChunkBatch;
use differential_dataflow::trace::cursor::cursor_list;
use rand::prelude::*;
use timely::dataflow::operators::generic::OperatorInfo;

use super::trace::Trace;
use super::*;
use crate::row::{Bytes, bound_prefix, hash, read_bound, route};
use crate::time::{EventTime, NEVER, NO_WATERMARK, Time};

/// What a trace outside of a dataflow is told of its operator.
pub(crate) fn info() -> OperatorInfo {
    OperatorInfo::new(0, 0, Rc::from([0usize]))
}

fn inputs(sections: &[Vec<u8>]) -> Vec<Input<'_>> {
    sections.iter().map(|s| Input::from(&s[..])).collect()
}

/// A snapshot and what follows it as one section.
fn fold(sections: &[Vec<u8>], watermark: EventTime) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    let header = Sections::open(vec![inputs(sections)])?.fold(watermark, &mut bytes)?;
    bytes.splice(..0, header);
    Ok(bytes)
}

fn restore(sections: &[Vec<u8>]) -> Result<RestoredSections> {
    let sections = Sections::open(vec![inputs(sections)])?;
    sections.restore(NO_WATERMARK, &|_| true, None).map(|r| r.0)
}

/// Keys of all lengths, many of which share their first eight bytes.
fn key(rng: &mut StdRng, keys: u32) -> Vec<u8> {
    let n = rng.random_range(0..keys);
    match n % 5 {
        0 => n.to_be_bytes().to_vec(),
        1 => u64::from(n).to_be_bytes().to_vec(),
        2 => [&b"common prefix "[..], &n.to_be_bytes()].concat(),
        3 => vec![0; n as usize % 12],
        _ => [&bound_prefix(i64::from(n % 7))[..], &n.to_le_bytes()].concat(),
    }
}

/// The expiry of a key in a table: always the same.
fn expiry(key: &[u8]) -> EventTime {
    match hash(key) % 3 {
        0 => NEVER,
        h => (h * 200 + hash(key) % 97) as i64,
    }
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Tables of several workers, and what they should hold.
struct Cluster {
    kind: TableKind,
    workers: Vec<(Table, Recorder)>,
    /// By worker: its sections so far.
    stored: Vec<Vec<Vec<u8>>>,
    model: Map,
    epoch: u64,
    watermark: EventTime,
}

impl Cluster {
    fn new(kind: TableKind, peers: usize) -> Self {
        let workers = (0..peers).map(|_| {
            let recorder = Recorder::new().for_trace(3, 1);
            (
                Table::new(kind, info(), recorder.clone(), None).unwrap(),
                recorder,
            )
        });
        Self {
            kind,
            workers: workers.collect(),
            stored: vec![vec![]; peers],
            model: Map::new(),
            epoch: 0,
            watermark: NO_WATERMARK,
        }
    }

    fn alive(&self, key: &[u8]) -> Option<&Vec<u8>> {
        self.model.get(key).filter(|_| expiry(key) > self.watermark)
    }

    /// One epoch of random changes, some epochs skipped or empty.
    fn step(&mut self, rng: &mut StdRng, keys: u32, changes: usize) {
        self.epoch += u64::from(rng.random_ratio(1, 9));
        let time = Time::new(self.epoch, self.watermark.max(-1) + rng.random_range(0..12));
        let mut touched: Map = BTreeMap::new();
        if !rng.random_ratio(1, 8) {
            for _ in 0..rng.random_range(0..=changes) {
                touched.insert(
                    key(rng, keys),
                    rng.random_range(0..9u8).to_string().into_bytes(),
                );
            }
        }
        let mut sets: Vec<_> = self.workers.iter().map(|(t, _)| t.changes()).collect();
        for (key, val) in &touched {
            let expiry = expiry(key);
            if expiry <= self.watermark {
                continue;
            }
            let old = self.alive(key).cloned();
            let delete = self.kind == TableKind::General && rng.random_ratio(1, 4);
            let new = (!delete).then_some(&val[..]);
            let set = &mut sets[route(hash(key), self.workers.len())];
            set.push(key, old.as_deref(), new, expiry);
            match new {
                Some(new) => self.model.insert(key.clone(), new.to_vec()),
                None => self.model.remove(key),
            };
        }
        for ((table, recorder), (set, stored)) in self
            .workers
            .iter_mut()
            .zip(sets.iter().zip(&mut self.stored))
        {
            table.apply(time, set).unwrap();
            table.forget(time);
            for batch in recorder.take(self.epoch) {
                let mut bytes = vec![];
                batch.encode(&mut bytes);
                stored.push(bytes);
            }
            if rng.random_ratio(1, 5) && !stored.is_empty() {
                // Told to forget at an epoch's watermark, so a snapshot may as well.
                *stored = vec![fold(stored, time.watermark).unwrap()];
            }
            if rng.random_ratio(1, 6) {
                table.work(rng.random_range(1..2000));
            }
        }
        self.epoch += 1;
        self.watermark = time.watermark;
        let watermark = self.watermark;
        self.model.retain(|key, _| expiry(key) > watermark);
    }

    fn check(&self, rng: &mut StdRng, keys: u32) {
        let mut all = Map::new();
        let mut rows = 0;
        for (table, _) in &self.workers {
            let mut last: Option<Vec<u8>> = None;
            table.scan(&mut |key, val| {
                assert!(last.as_deref() < Some(key), "scans are in order");
                last = Some(key.to_vec());
                assert_eq!(all.insert(key.to_vec(), val.to_vec()), None);
            });
            rows += table.size().rows;
        }
        assert_eq!(all, self.model);
        assert_eq!(rows, self.model.len() as u64);

        let mut wanted: Vec<_> = (0..50).map(|_| key(rng, keys)).collect();
        wanted.sort();
        wanted.dedup();
        let column: Bytes = wanted.iter().map(|k| &k[..]).collect();
        let mut got = vec![None; wanted.len()];
        for (table, _) in &self.workers {
            table.get(&column, &mut |i, val| got[i] = Some(val.to_vec()));
        }
        for (key, got) in wanted.iter().zip(&got) {
            assert_eq!(got.as_ref(), self.model.get(key), "{key:?}");
        }

        let (after, upto) = (rng.random_range(-1..8), rng.random_range(-1..8));
        let mut due = Map::new();
        for (table, _) in &self.workers {
            table.due(after, upto, &mut |key, val| {
                due.insert(key.to_vec(), val.to_vec());
            });
        }
        let mut expected = self.model.clone();
        expected.retain(|key, _| {
            // A key shorter than a bound is behind those that it begins like.
            let bound = read_bound(key);
            after < bound && bound <= upto && key.len() >= 8
        });
        assert_eq!(due, expected);
    }

    /// Starts again from what was stored, on `peers` workers.
    fn restart(&mut self, peers: usize) {
        let same = peers == self.stored.len();
        let mut workers = vec![];
        let mut stored = vec![];
        for worker in 0..peers {
            let keep = |key: &[u8]| route(hash(key), peers) == worker;
            let shards = if same {
                &self.stored[worker..=worker]
            } else {
                &self.stored[..]
            };
            let shards: Vec<_> = shards.iter().filter(|shard| !shard.is_empty()).collect();
            let mut restored = None;
            let mut copy = vec![];
            if !shards.is_empty() {
                let shards = shards.iter().map(|shard| inputs(shard)).collect();
                let sections = Sections::open(shards).unwrap();
                let (rows, header) = sections
                    .restore(self.watermark, &keep, Some(&mut copy))
                    .unwrap();
                copy.splice(..0, header);
                restored = Some(rows);
            }
            if !same {
                stored.push((!copy.is_empty()).then_some(copy).into_iter().collect());
            }
            let recorder = Recorder::new().for_trace(3, 1);
            let mut table = Table::new(self.kind, info(), recorder.clone(), restored).unwrap();
            table.forget(Time::new(self.epoch.saturating_sub(1), self.watermark));
            workers.push((table, recorder));
        }
        self.workers = workers;
        if !same {
            self.stored = stored;
        }
    }
}

fn tables_agree(kind: TableKind) {
    for seed in 0..6 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (keys, changes) = if seed % 3 == 0 {
            (4000, 1200)
        } else {
            (120, 60)
        };
        let mut cluster = Cluster::new(kind, 1);
        for (round, peers) in [1, 1, 3, 2, 2, 1].into_iter().enumerate() {
            for _ in 0..rng.random_range(1..10) {
                cluster.step(&mut rng, keys, changes);
                cluster.check(&mut rng, keys);
            }
            if round > 0 {
                cluster.restart(peers);
                cluster.check(&mut rng, keys);
            }
        }
    }
}

#[test]
fn append_only_tables_agree_with_a_map() {
    tables_agree(TableKind::AppendOnly);
}

#[test]
fn general_tables_agree_with_a_map() {
    tables_agree(TableKind::General);
}

#[test]
fn deleted_keys_leave_nothing_behind() {
    let mut table = Table::new(TableKind::General, info(), Recorder::disabled(), None).unwrap();
    for (epoch, (old, new)) in [
        (None, Some(&b"a"[..])),
        (Some(&b"a"[..]), Some(&b"b"[..])),
        (Some(&b"b"[..]), None),
    ]
    .into_iter()
    .enumerate()
    {
        let mut changes = table.changes();
        for i in 0..3000u32 {
            changes.push(&i.to_be_bytes(), old, new, NEVER);
        }
        table.apply(Time::new(epoch as u64, 0), &changes).unwrap();
    }
    while table.work(10_000) {}
    assert_eq!(table.size(), StateSize::default());
    assert_eq!(table.resident_bytes(), 0);
}

#[test]
fn an_idle_table_gives_the_memory_of_expired_rows_back() {
    for kind in [TableKind::AppendOnly, TableKind::General] {
        let mut table = Table::new(kind, info(), Recorder::disabled(), None).unwrap();
        let mut changes = table.changes();
        for i in 0..20_000i64 {
            changes.push(
                &(i * 7919 % 20_000).to_be_bytes(),
                None,
                Some(b"some value"),
                i,
            );
        }
        table.apply(Time::new(0, 0), &changes).unwrap();
        let before = table.resident_bytes();
        table.forget(Time::new(0, 9_999));
        while table.work(1000) {}
        assert!(table.resident_bytes() < before * 6 / 10);
        let mut rows = 0;
        table.scan(&mut |_, _| rows += 1);
        assert_eq!(rows, 10_000);
        assert!(table.size().rows.abs_diff(10_000) < 300);
        table.forget(Time::new(0, 30_000));
        while table.work(1000) {}
        assert_eq!((table.resident_bytes(), table.size().rows), (0, 0));
        let mut changes = table.changes();
        changes.push(b"later", None, Some(b"on"), NEVER);
        table.apply(Time::new(5, 30_000), &changes).unwrap();
        assert_eq!(table.size().rows, 1);
    }
}

#[test]
fn an_expiry_may_move_where_values_are_replaced() {
    let mut table = Table::new(TableKind::General, info(), Recorder::disabled(), None).unwrap();
    for (epoch, (old, new)) in [(None, 50), (Some(50), 20), (Some(20), 90)]
        .into_iter()
        .enumerate()
    {
        let mut changes = table.changes();
        changes.replace(b"k", old.map(|e| (&b"same"[..], e)), Some((b"same", new)));
        table.apply(Time::new(epoch as u64, 0), &changes).unwrap();
        for (watermark, expected) in [(10, true), (new, false)] {
            let mut copy = 0;
            table.forget(Time::new(
                epoch as u64,
                if epoch == 2 { watermark } else { 10 },
            ));
            table.scan(&mut |_, _| copy += 1);
            assert_eq!(copy == 1, expected || epoch < 2);
        }
    }
}

#[test]
fn an_epoch_is_sealed_once() {
    let mut table = Table::new(TableKind::General, info(), Recorder::disabled(), None).unwrap();
    let none = table.changes();
    table.apply(Time::new(4, 0), &none).unwrap();
    assert!(matches!(
        table.apply(Time::new(4, 0), &none),
        Err(StateError::Sealed { next: 5, .. })
    ));
    table.apply(Time::new(5, 0), &none).unwrap();
}

#[test]
fn multisets_agree_with_a_map() {
    for seed in 0..6 {
        let mut rng = StdRng::seed_from_u64(100 + seed);
        // Few keys: their values straddle chunks.
        let (keys, changes) = if seed % 2 == 0 { (9, 3000) } else { (300, 80) };
        let recorder = Recorder::new().for_trace(1, 0);
        let mut set = Multiset::new(info(), recorder.clone(), None).unwrap();
        let mut model: BTreeMap<(Vec<u8>, Vec<u8>, EventTime), i64> = BTreeMap::new();
        let mut stored: Vec<Vec<u8>> = vec![];
        let mut watermark = NO_WATERMARK;
        for epoch in 0..20u64 {
            let time = Time::new(epoch, watermark.max(0) + rng.random_range(0..15));
            let mut rows = Rows::new(time);
            for _ in 0..rng.random_range(0..changes) {
                let key = key(&mut rng, keys);
                let val = rng.random_range(0..2000u32).to_be_bytes()[2..].to_vec();
                let expiry = if rng.random_ratio(1, 2) {
                    NEVER
                } else {
                    time.watermark + rng.random_range(1..80)
                };
                let diff = if rng.random_ratio(1, 3) {
                    -1
                } else {
                    rng.random_range(1..3)
                };
                rows.push(&key, &val, diff, expiry);
                *model.entry((key, val, expiry)).or_default() += diff;
            }
            // And some of what is there is taken away for good.
            let gone: Vec<_> = model
                .keys()
                .filter(|_| rng.random_ratio(1, 10))
                .cloned()
                .collect();
            for (key, val, expiry) in gone {
                let count = model.remove(&(key.clone(), val.clone(), expiry)).unwrap();
                rows.push(&key, &val, -count, expiry);
            }
            set.apply(time, &rows).unwrap();
            set.forget(time);
            watermark = time.watermark;
            model.retain(|(_, _, expiry), count| *expiry > watermark && *count != 0);
            for batch in recorder.take(epoch) {
                let mut bytes = vec![];
                batch.encode(&mut bytes);
                stored.push(bytes);
            }
            if rng.random_ratio(1, 6) && !stored.is_empty() {
                stored = vec![fold(&stored, watermark).unwrap()];
                let restored = restore(&stored).unwrap();
                set = Multiset::new(info(), recorder.clone(), Some(restored)).unwrap();
                set.forget(time);
            }
            if rng.random_ratio(1, 4) {
                set.work(rng.random_range(1..5000));
            }
            check_multiset(&set, &model, &mut rng, keys);
        }
    }
}

fn check_multiset(
    set: &Multiset,
    model: &BTreeMap<(Vec<u8>, Vec<u8>, EventTime), i64>,
    rng: &mut StdRng,
    keys: u32,
) {
    let mut counts: BTreeMap<(Vec<u8>, Vec<u8>), i64> = BTreeMap::new();
    for ((key, val, _), count) in model {
        *counts.entry((key.clone(), val.clone())).or_default() += count;
    }
    counts.retain(|_, count| *count != 0);
    let mut all = BTreeMap::new();
    set.scan(&mut |key, val, count| {
        assert_eq!(all.insert((key.to_vec(), val.to_vec()), count), None);
    });
    assert_eq!(all, counts);
    assert_eq!(set.size().rows, model.values().sum::<i64>().max(0) as u64);

    let mut wanted: Vec<(Vec<u8>, Vec<u8>)> = counts
        .keys()
        .filter(|_| rng.random_ratio(1, 3))
        .cloned()
        .collect();
    wanted.extend((0..20).map(|_| (key(rng, keys), vec![1, 2])));
    wanted.sort();
    wanted.dedup();
    let (ks, vs): (Bytes, Bytes) = (
        wanted.iter().map(|w| &w.0[..]).collect(),
        wanted.iter().map(|w| &w.1[..]).collect(),
    );
    let mut got = vec![0; wanted.len()];
    set.counts((&ks, &vs), &mut |i, count| got[i] = count);
    for (pair, got) in wanted.iter().zip(got) {
        assert_eq!(got, counts.get(pair).copied().unwrap_or(0));
    }

    let mut distinct: Vec<_> = wanted.iter().map(|w| w.0.clone()).collect();
    distinct.dedup();
    let column: Bytes = distinct.iter().map(|k| &k[..]).collect();
    let mut first = vec![None; distinct.len()];
    set.first(&column, &mut |i, val| first[i] = Some(val.to_vec()));
    for (key, first) in distinct.iter().zip(first) {
        let least = counts
            .range((key.clone(), vec![])..)
            .take_while(|((k, _), _)| k == key)
            .find(|(_, c)| **c > 0);
        assert_eq!(first.as_ref(), least.map(|((_, val), _)| val));
    }
}

#[test]
fn cursors_and_scans_see_the_same() {
    let mut rng = StdRng::seed_from_u64(9);
    let mut trace: Trace<i64> =
        Trace::new(TraceKind::Multiset, info(), Recorder::disabled(), None).unwrap();
    for epoch in 0..30 {
        let mut rows = Rows::default();
        for _ in 0..700 {
            let key = key(&mut rng, 40);
            rows.push(
                &key,
                &rng.random_range(0..50u8).to_be_bytes(),
                rng.random_range(-1..3),
                NEVER,
            );
        }
        let time = Time::new(epoch, 0);
        trace.seal(time, sort::sort_rows(&[rows], time)).unwrap();
        let runs = trace.runs();
        for run in &runs {
            for pair in run.chunks().windows(2) {
                let (a, b) = (&pair[0].0, &pair[1].0);
                assert!(
                    a.cmp_key(a.nkeys() - 1, b, 0)
                        .then_with(|| a.cmp_row(a.rows() - 1, b, 0))
                        .is_le()
                );
            }
        }
        let mut by_cursor = vec![];
        let plain = |run: &batch::Shared<i64>| Rc::new(ChunkBatch::new(run.chunks().to_vec()));
        let (mut cursor, storage) = cursor_list(runs.iter().map(plain).collect());
        while let Some(key) = cursor.get_key(&storage) {
            while let Some(val) = cursor.get_val(&storage) {
                let mut count = 0;
                cursor.map_times(&storage, |_, diff| count += diff);
                if count != 0 {
                    by_cursor.push((key.to_vec(), val.to_vec(), count));
                }
                cursor.step_val(&storage);
            }
            cursor.step_key(&storage);
        }
        let mut by_scan = vec![];
        let mut merged = walk::Merged::new(&runs, &[]);
        while let Some(key) = merged.next_key() {
            let mut vals = merged.vals();
            while let Some((val, count)) = walk::next_count(&mut vals, NO_WATERMARK) {
                by_scan.push((key.to_vec(), val.to_vec(), count));
            }
        }
        assert_eq!(by_cursor, by_scan);
    }
}

#[test]
fn sections_come_back_and_damage_is_an_error() {
    let mut rng = StdRng::seed_from_u64(2);
    let recorder = Recorder::new();
    let mut set = Multiset::new(info(), recorder.for_trace(8, 2), None).unwrap();
    let mut rows = Rows::default();
    for _ in 0..5000 {
        let key = key(&mut rng, 3000);
        rows.push(
            &key,
            &rng.random_range(0..500u16).to_be_bytes(),
            1,
            rng.random_range(0..100),
        );
    }
    set.apply(Time::new(2, -1), &rows).unwrap();
    let batches = recorder.take(2);
    let mut bytes = vec![];
    batches[0].encode(&mut bytes);
    let about = SectionInfo::read(&mut Input::from(&bytes[..])).unwrap();
    assert_eq!(
        (about.operator, about.trace, about.lower, about.upper),
        (8, 2, 0, 3)
    );
    let section = restore(&[bytes.clone()]).unwrap();
    let mut expected = vec![];
    set.scan(&mut |key, val, count| expected.push((key.to_vec(), val.to_vec(), count)));
    let mut counts: BTreeMap<_, i64> = BTreeMap::new();
    for row in section.rows() {
        *counts
            .entry((row.key.to_vec(), row.val.to_vec()))
            .or_default() += row.diff;
    }
    assert_eq!(
        counts
            .into_iter()
            .map(|((k, v), c)| (k, v, c))
            .collect::<Vec<_>>(),
        expected
    );
    assert!(
        bytes.len() < rows.bytes() / 2,
        "{} of {}",
        bytes.len(),
        rows.bytes()
    );

    for cut in (0..bytes.len()).step_by(97) {
        assert!(restore(&[bytes[..cut].to_vec()]).is_err());
    }
    for _ in 0..300 {
        let mut damaged = bytes.clone();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..damaged.len());
            damaged[at] ^= 1 << rng.random_range(0..8);
        }
        let _ = fold(&[damaged], 50);
    }
    for _ in 0..500 {
        let mut garbage = bytes[..HEADER_LEN].to_vec();
        garbage.extend(
            (0..rng.random_range(0..80)).map(|_| rng.random::<u8>() >> rng.random_range(0..8)),
        );
        let _ = restore(&[garbage]);
    }
    bytes[0] = 9;
    assert!(matches!(
        restore(&[bytes]),
        Err(StateError::Version { found: 9, known: 1 })
    ));
}

#[test]
fn sections_that_do_not_follow_each_other_are_refused() {
    let recorder = Recorder::new();
    let mut table = Table::new(TableKind::General, info(), recorder.clone(), None).unwrap();
    let sections: Vec<Vec<u8>> = (0..3)
        .map(|epoch| {
            let mut changes = table.changes();
            changes.push(&[epoch as u8], None, Some(b"v"), NEVER);
            table.apply(Time::new(epoch, 0), &changes).unwrap();
            let mut bytes = vec![];
            recorder.take(epoch)[0].encode(&mut bytes);
            bytes
        })
        .collect();
    let gap = [sections[0].clone(), sections[2].clone()];
    assert!(matches!(fold(&gap, 0), Err(StateError::Chain { .. })));
    assert!(restore(&gap).is_err());
    let whole = restore(&sections).unwrap();
    let other = Table::new(TableKind::AppendOnly, info(), recorder, Some(whole));
    assert!(matches!(other, Err(StateError::Kind { .. })));
}

#[test]
fn few_large_values_do_not_make_large_chunks() {
    let mut table = Table::new(TableKind::General, info(), Recorder::disabled(), None).unwrap();
    let large = vec![7u8; 3 << 20];
    for epoch in 0..4u64 {
        let mut changes = table.changes();
        for i in 0..4u64 {
            changes.push(&(i * 5 + epoch).to_be_bytes(), None, Some(&large), NEVER);
        }
        table.apply(Time::new(epoch, 0), &changes).unwrap();
    }
    while table.work(100) {}
    let mut seen = 0;
    table.scan(&mut |_, val| seen += usize::from(val == large));
    assert_eq!(seen, 16);
}
