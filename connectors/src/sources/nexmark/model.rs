//! Which event a number is: the standard's proportions, ids and times, without a column's bytes.
//!
//! The constants are those of the public generators (Apache Beam's `GeneratorConfig`, and Flink's
//! `nexmark-flink` after it). Of every 50 events the first is a person, the next three are auctions, 46 are bids.

use std::ops::Range;

use crate::sources::random::{draw, mix, scale};

/// After so many events the kinds of events begin again.
pub(super) const CYCLE: u64 = 50;

const AUCTIONS: u64 = 3;
const FIRST_AUCTION: u64 = 1000;
const FIRST_PERSON: u64 = 1000;
const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;

/// Bids go to the last so many auctions, where they do not go to the hot one.
const IN_FLIGHT: u64 = 100;
/// The last so many people sell and bid, where the hot one does not.
const ACTIVE_PEOPLE: u64 = 1000;
/// So many ids that are yet to come are sold by and bid for.
const LEAD: u64 = 10;
/// One in so many auctions and people is hot for as long as it takes the next to come.
const HOT_EVERY: u64 = 100;

/// An auction is open for about as long as it takes for `IN_FLIGHT` more to begin.
const OPEN_EVENTS: u64 = IN_FLIGHT * CYCLE / AUCTIONS;

/// What shuffles the events of a group.
pub(super) const SHUFFLE: u64 = 953;

/// The time of the first event, 2026-01-01 UTC, in milliseconds since 1970.
pub(super) const BASE_TIME: i64 = 1_767_225_600_000;

/// One of the three kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Person,
    Auction,
    Bid,
}

impl Table {
    /// Which of a cycle's events are of this kind.
    pub(super) fn places(self) -> Range<u64> {
        match self {
            Self::Person => 0..1,
            Self::Auction => 1..1 + AUCTIONS,
            Self::Bid => 1 + AUCTIONS..CYCLE,
        }
    }

    /// The standard's average bytes of an event.
    pub(super) fn event_bytes(self) -> u64 {
        match self {
            Self::Person => 200,
            Self::Auction => 500,
            Self::Bid => 100,
        }
    }
}

/// Random numbers of one column: a pure function of the seed, the column and the event's number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream(u64);

impl Stream {
    pub(super) fn new(seed: u64, column: u64) -> Self {
        Self(mix(seed.wrapping_add(mix(column.wrapping_add(1)))))
    }

    #[inline]
    pub(super) fn at(self, event: u64) -> u64 {
        draw(self.0, event)
    }
}

/// Turns places in the stream into events and times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Model {
    /// Events a second of event time.
    pub(super) rate: u64,
    /// So many events come shuffled; 1: all in order.
    pub(super) group: u64,
}

impl Model {
    /// The number of the event that comes at this place.
    #[inline]
    pub(super) fn event(self, place: u64) -> u64 {
        if self.group <= 1 {
            return place;
        }
        let first = place - place % self.group;
        first + (place % self.group) * (SHUFFLE % self.group) % self.group
    }

    /// When it happens, in milliseconds since 1970.
    #[inline]
    pub(super) fn time(self, event: u64) -> i64 {
        BASE_TIME.saturating_add((event.saturating_mul(1000) / self.rate) as i64)
    }

    /// When an auction ends that begins with this event.
    pub(super) fn expires(self, event: u64, bits: u64) -> i64 {
        let begins = self.time(event);
        let horizon = self.time(event + OPEN_EVENTS) - begins;
        let span = u64::try_from(horizon * 2).unwrap_or(0).max(1);
        begins + 1 + scale(bits, span - 1) as i64
    }
}

/// The number of the last person, from 0.
#[inline]
fn last_person(event: u64) -> u64 {
    event / CYCLE
}

/// The number of the last auction, from 0; of an auction its own.
#[inline]
fn last_auction(event: u64) -> u64 {
    let place = (event % CYCLE).clamp(1, AUCTIONS);
    event / CYCLE * AUCTIONS + place - 1
}

/// A person's own id.
#[inline]
pub(super) fn person_id(event: u64) -> i64 {
    (last_person(event) + FIRST_PERSON) as i64
}

/// An auction's own id.
#[inline]
pub(super) fn auction_id(event: u64) -> i64 {
    (last_auction(event) + FIRST_AUCTION) as i64
}

/// One of the people who are active, or about to be.
#[inline]
fn some_person(event: u64, bits: u64) -> u64 {
    let people = last_person(event) + 1;
    let active = people.min(ACTIVE_PEOPLE);
    people - active + scale(bits, active + LEAD - 1)
}

/// What a bid is for: every other time the hot auction.
#[inline]
pub(super) fn bid_auction(event: u64, bits: u64) -> i64 {
    let last = last_auction(event);
    let auction = if bits & 1 == 1 {
        last / HOT_EVERY * HOT_EVERY
    } else {
        let first = last.saturating_sub(IN_FLIGHT);
        first + scale(bits, last - first + LEAD)
    };
    (auction + FIRST_AUCTION) as i64
}

/// Who bids: three times in four the hot bidder, who is the one behind the hot seller.
#[inline]
pub(super) fn bidder(event: u64, bits: u64) -> i64 {
    let person = if bits.is_multiple_of(4) {
        some_person(event, bits)
    } else {
        last_person(event) / HOT_EVERY * HOT_EVERY + 1
    };
    (person + FIRST_PERSON) as i64
}

/// Who sells: three times in four the hot seller.
#[inline]
pub(super) fn seller(event: u64, bits: u64) -> i64 {
    let person = if bits.is_multiple_of(4) {
        some_person(event, bits)
    } else {
        last_person(event) / HOT_EVERY * HOT_EVERY
    };
    (person + FIRST_PERSON) as i64
}

/// An auction's category.
#[inline]
pub(super) fn category(bits: u64) -> i64 {
    (FIRST_CATEGORY + scale(bits, CATEGORIES - 1)) as i64
}

/// Prices from 1.00 to 1,000,000.00 in hundredths, as many below as above 1,000.00.
#[derive(Clone, Debug)]
pub(super) struct Prices {
    /// 100 * 10^(6 i / STEPS). Multiplied up, so that it is the same on every machine.
    powers: Vec<f64>,
}

impl Prices {
    const STEPS: usize = 1024;
    /// 10^(6 / STEPS).
    const FACTOR: f64 = 1.013_583_133_334_065_7;

    pub(super) fn new() -> Self {
        let powers = std::iter::successors(Some(100.0), |power| Some(power * Self::FACTOR));
        Self {
            powers: powers.take(Self::STEPS + 1).collect(),
        }
    }

    #[inline]
    pub(super) fn at(&self, bits: u64) -> i64 {
        let step = (bits >> 54) as usize;
        let part = ((bits >> 1) & ((1 << 53) - 1)) as f64 / (1_u64 << 53) as f64;
        let (low, high) = (self.powers[step], self.powers[step + 1]);
        (low + (high - low) * part).round() as i64
    }
}
