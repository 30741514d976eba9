//! Rows to bytes and back: keys, and values.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};

use crate::windowed::{codecs, columns, rows};

#[divan::bench]
fn encode_keys(bencher: Bencher) {
    let [keys, _] = columns(&rows(8, 1000, 0));
    let codec = codecs().0;
    let bytes = codec.encode(&keys).expect("keys").concat().len();
    bencher
        .counter(ItemsCount::new(keys[0].len()))
        .counter(BytesCount::new(bytes))
        .bench_local(|| codec.encode(black_box(&keys)).expect("keys"));
}

#[divan::bench]
fn decode_keys(bencher: Bencher) {
    let [keys, _] = columns(&rows(8, 1000, 0));
    let codec = codecs().0;
    let encoded = codec.encode(&keys).expect("keys");
    bencher
        .counter(ItemsCount::new(encoded.len()))
        .counter(BytesCount::new(encoded.concat().len()))
        .bench_local(|| codec.decode(black_box(&encoded).iter()).expect("keys"));
}

#[divan::bench]
fn encode_values(bencher: Bencher) {
    let [_, values] = columns(&rows(8, 1000, 0));
    let codec = codecs().1;
    let bytes = codec.encode(&values).expect("values").concat().len();
    bencher
        .counter(ItemsCount::new(values[0].len()))
        .counter(BytesCount::new(bytes))
        .bench_local(|| codec.encode(black_box(&values)).expect("values"));
}

#[divan::bench]
fn decode_values(bencher: Bencher) {
    let [_, values] = columns(&rows(8, 1000, 0));
    let codec = codecs().1;
    let encoded = codec.encode(&values).expect("values");
    bencher
        .counter(ItemsCount::new(encoded.len()))
        .counter(BytesCount::new(encoded.concat().len()))
        .bench_local(|| codec.decode(black_box(&encoded).iter()).expect("values"));
}
