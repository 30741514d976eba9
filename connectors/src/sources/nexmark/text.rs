//! The texts of the events: letters, words, names, channels and their addresses.

use crate::sources::random::{mix, push_number, scale};

use super::model::Stream;

pub(super) const CITIES: [&str; 10] = [
    "Phoenix",
    "Los Angeles",
    "San Francisco",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
    "Kent",
    "Cheyenne",
];
pub(super) const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
pub(super) const FIRST_NAMES: [&str; 11] = [
    "Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter",
];
pub(super) const LAST_NAMES: [&str; 9] = [
    "Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris",
];
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
const CHANNELS: u64 = 10_000;

/// One of some texts.
#[inline]
pub(super) fn one_of<'a>(texts: &[&'a str], bits: u64) -> &'a str {
    texts[scale(bits, texts.len() as u64 - 1) as usize]
}

/// Eight letters from 64 bits: each byte is scaled to 26.
#[inline]
fn eight_letters(bits: u64) -> u64 {
    const LANES: u64 = 0x00FF_00FF_00FF_00FF;
    let even = (((bits & LANES) * 26) >> 8) & LANES;
    let odd = (((bits >> 8) & LANES) * 26) & !LANES;
    (even | odd) + 0x6161_6161_6161_6161
}

/// Appends so many letters.
#[inline]
pub(super) fn push_letters(out: &mut Vec<u8>, bits: u64, length: usize) {
    let end = out.len() + length;
    let mut state = bits;
    while out.len() < end {
        state = mix(state.wrapping_add(0x9E37_79B9_7F4A_7C15));
        out.extend_from_slice(&eight_letters(state).to_le_bytes());
    }
    out.truncate(end);
}

/// Appends letters of which one in 13 is `space`, but neither the first nor the last.
pub(super) fn push_words(out: &mut Vec<u8>, bits: u64, length: usize, space: u8) {
    let start = out.len();
    push_letters(out, bits, length);
    let mut state = !bits;
    let inner = out.len().saturating_sub(1);
    for eight in out[(start + 1).min(inner)..inner].chunks_mut(8) {
        state = mix(state.wrapping_add(0x9E37_79B9_7F4A_7C15));
        for (letter, dice) in eight.iter_mut().zip(state.to_le_bytes()) {
            if dice < 20 {
                *letter = space;
            }
        }
    }
}

/// The length of a text of at least 3 letters and less than `limit`.
#[inline]
pub(super) fn short_of(limit: u64, bits: u64) -> usize {
    (3 + scale(bits, limit - 4)) as usize
}

/// The length that brings an event of `size` bytes to about `average`, a fifth more or less.
#[inline]
pub(super) fn padding(size: usize, average: u64, bits: u64) -> usize {
    let missing = average.saturating_sub(size as u64);
    let fifth = (missing + 2) / 5;
    if fifth == 0 {
        return missing as usize;
    }
    (missing - fifth + scale(bits, 2 * fifth - 1)) as usize
}

/// Appends four groups of four digits.
pub(super) fn push_credit_card(out: &mut Vec<u8>, bits: u64) {
    let mut left = bits;
    for group in 0..4 {
        if group > 0 {
            out.push(b' ');
        }
        let mut digits = left % 10_000;
        left /= 10_000;
        for unit in [1000, 100, 10, 1] {
            out.push(b'0' + (digits / unit) as u8);
            digits %= unit;
        }
    }
}

/// A channel by its number: hot ones first. Every other bid comes through a hot one.
#[inline]
pub(super) fn channel(bits: u64) -> usize {
    if bits & 1 == 1 {
        ((bits >> 1) & 3) as usize
    } else {
        HOT_CHANNELS.len() + scale(bits, CHANNELS - 1) as usize
    }
}

/// Appends a channel's name.
#[inline]
pub(super) fn push_channel(out: &mut Vec<u8>, channel: usize) {
    if let Some(name) = HOT_CHANNELS.get(channel) {
        out.extend_from_slice(name.as_bytes());
    } else {
        out.extend_from_slice(b"channel-");
        push_number(out, (channel - HOT_CHANNELS.len()) as i64);
    }
}

/// The address of each channel; nine in ten of the others than the hot ones name a channel's id.
#[derive(Debug)]
pub(super) struct Addresses {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Addresses {
    pub(super) fn new(stream: Stream) -> Self {
        let mut bytes = Vec::new();
        let ends = (0..HOT_CHANNELS.len() as u64 + CHANNELS).map(|channel| {
            let bits = stream.at(channel);
            bytes.extend_from_slice(b"https://www.nexmark.com/");
            for part in 1..=3 {
                let bits = mix(bits ^ part);
                push_words(&mut bytes, bits, short_of(5, bits), b'_');
                bytes.push(b'/');
            }
            bytes.extend_from_slice(b"item.htm?query=1");
            let number = channel.checked_sub(HOT_CHANNELS.len() as u64);
            if let Some(number) = number.filter(|_| scale(mix(!bits), 9) > 0) {
                bytes.extend_from_slice(b"&channel_id=");
                let id = (number as u32).reverse_bits().cast_signed();
                push_number(&mut bytes, i64::from(id).abs());
            }
            bytes.len()
        });
        let ends = ends.collect();
        Self { bytes, ends }
    }

    #[inline]
    pub(super) fn get(&self, channel: usize) -> &[u8] {
        let start = channel.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[channel]]
    }
}
