//! What accumulators do with a batch of rows: adding them, encoding and merging groups, results.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StringArray};
use arrow::datatypes::DataType;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use tidemark::operators::aggregate::accumulate::{Groups, valid_rows};
use tidemark::operators::aggregate::call::Call;
use tidemark::plan::{AggregateCall, AggregateFunction};

const ROWS: usize = 8192;

const FUNCTIONS: [&str; 4] = ["count", "sum", "max", "approx_count_distinct"];

/// A function's call over doubles; over strings the one that hashes.
fn call(name: &str) -> Arc<[Call]> {
    let (function, argument, output) = match name {
        "count" => (AggregateFunction::Count, DataType::Float64, DataType::Int64),
        "sum" => (AggregateFunction::Sum, DataType::Float64, DataType::Float64),
        "max" => (AggregateFunction::Max, DataType::Float64, DataType::Float64),
        _ => (
            AggregateFunction::ApproxCountDistinct { precision: 9 },
            DataType::Utf8,
            DataType::Int64,
        ),
    };
    let call = AggregateCall {
        function,
        args: vec![],
        order: vec![],
        distinct: false,
        ignore_nulls: false,
        filter: None,
    };
    let call = Call::new(&call, vec![argument], output, name.into(), false);
    [call.expect("a function of such an argument")].into()
}

fn argument(name: &str) -> ArrayRef {
    if name == "approx_count_distinct" {
        let users = (0..ROWS).map(|row| Some(format!("u{}", row * row % 5000)));
        Arc::new(users.collect::<StringArray>())
    } else {
        let amounts = (0..ROWS).map(|row| (row * row % 50_000) as f64 / 100.0);
        Arc::new(amounts.collect::<Float64Array>())
    }
}

/// A batch in `count` groups.
fn groups(name: &str, count: usize) -> Groups {
    let mut groups = Groups::new(call(name), false);
    groups.resize(count);
    add(&mut groups, &argument(name), &group_of_rows(count));
    groups
}

fn group_of_rows(count: usize) -> Vec<u32> {
    (0..ROWS).map(|row| (row * 7 % count) as u32).collect()
}

fn add(groups: &mut Groups, argument: &ArrayRef, of: &[u32]) {
    let argument = std::slice::from_ref(argument);
    let valid = valid_rows(ROWS, argument, None);
    groups
        .add(0, argument, &valid, of, None)
        .expect("no overflow");
}

/// Rows of a few groups, as those of `GROUP BY` a key of few values.
#[divan::bench(args = FUNCTIONS)]
fn add_to_few_groups(bencher: Bencher, name: &str) {
    let (mut groups, argument) = (groups(name, 5), argument(name));
    let of = group_of_rows(5);
    bencher
        .counter(ItemsCount::new(ROWS))
        .bench_local(|| add(&mut groups, black_box(&argument), &of));
}

/// Rows of almost as many groups.
#[divan::bench(args = FUNCTIONS)]
fn add_to_many_groups(bencher: Bencher, name: &str) {
    let (mut groups, argument) = (groups(name, 5000), argument(name));
    let of = group_of_rows(5000);
    bencher
        .counter(ItemsCount::new(ROWS))
        .bench_local(|| add(&mut groups, black_box(&argument), &of));
}

/// Groups to bytes, and added to others: what happens between pre-aggregation and state.
#[divan::bench(args = FUNCTIONS)]
fn encode_and_merge(bencher: Bencher, name: &str) {
    let from = groups(name, 5000);
    bencher
        .counter(ItemsCount::new(5000_usize))
        .with_inputs(|| from.like(5000))
        .bench_local_values(|mut into| {
            let mut bytes = vec![];
            for group in 0..5000 {
                bytes.clear();
                from.encode(group, &mut bytes);
                into.merge(group, &bytes).expect("what was encoded");
            }
            into
        });
}

#[divan::bench(args = FUNCTIONS)]
fn finish(bencher: Bencher, name: &str) {
    let groups = groups(name, 5000);
    let all: Vec<_> = (0..5000).collect();
    bencher
        .counter(ItemsCount::new(all.len()))
        .bench_local(|| groups.finish(black_box(&all)).expect("results"));
}
