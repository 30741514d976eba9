//! The columns of the three tables, each made by itself from the numbers of the events.

use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::error::ArrowError;

use super::model::{
    Model, Prices, Stream, Table, auction_id, bid_auction, bidder, category, person_id, seller,
};
use super::text::{
    Addresses, CITIES, FIRST_NAMES, LAST_NAMES, STATES, channel, one_of, padding, push_channel,
    push_credit_card, push_letters, push_words, short_of,
};
use crate::format::columns::Column;
use crate::format::values::Bytes;
use crate::sources::random::mix;

/// What a column holds. The order is part of what a seed means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Id,
    Name,
    EmailAddress,
    CreditCard,
    City,
    State,
    DateTime,
    Extra,
    ItemName,
    Description,
    InitialBid,
    Reserve,
    Expires,
    Seller,
    Category,
    Auction,
    Bidder,
    Price,
    Channel,
    Url,
}

/// A table's columns.
pub(super) fn contents(table: Table) -> &'static [(&'static str, Content)] {
    match table {
        Table::Person => &[
            ("id", Content::Id),
            ("name", Content::Name),
            ("emailAddress", Content::EmailAddress),
            ("creditCard", Content::CreditCard),
            ("city", Content::City),
            ("state", Content::State),
            ("dateTime", Content::DateTime),
            ("extra", Content::Extra),
        ],
        Table::Auction => &[
            ("id", Content::Id),
            ("itemName", Content::ItemName),
            ("description", Content::Description),
            ("initialBid", Content::InitialBid),
            ("reserve", Content::Reserve),
            ("dateTime", Content::DateTime),
            ("expires", Content::Expires),
            ("seller", Content::Seller),
            ("category", Content::Category),
            ("extra", Content::Extra),
        ],
        Table::Bid => &[
            ("auction", Content::Auction),
            ("bidder", Content::Bidder),
            ("price", Content::Price),
            ("channel", Content::Channel),
            ("url", Content::Url),
            ("dateTime", Content::DateTime),
            ("extra", Content::Extra),
        ],
    }
}

/// A table's own schema.
pub(super) fn schema(table: Table) -> Schema {
    let fields = contents(table).iter().map(|(name, content)| {
        let data_type = match content {
            Content::DateTime | Content::Expires => {
                DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")))
            }
            Content::Name
            | Content::EmailAddress
            | Content::CreditCard
            | Content::City
            | Content::State
            | Content::Extra
            | Content::ItemName
            | Content::Description
            | Content::Channel
            | Content::Url => DataType::Utf8,
            _ => DataType::Int64,
        };
        Field::new(*name, data_type, true)
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// Makes the columns of one table.
#[derive(Debug)]
pub(super) struct Maker {
    pub(super) table: Table,
    pub(super) model: Model,
    seed: u64,
    prices: Prices,
    addresses: OnceLock<Addresses>,
}

impl Maker {
    pub(super) fn new(table: Table, model: Model, seed: u64) -> Self {
        Self {
            table,
            model,
            seed,
            prices: Prices::new(),
            addresses: OnceLock::new(),
        }
    }

    fn stream(&self, content: Content) -> Stream {
        Stream::new(self.seed, content as u64)
    }

    /// A column of these events, which are all of the maker's table.
    pub(super) fn make(&self, content: Content, events: &[u64]) -> Result<ArrayRef, ArrowError> {
        let stream = self.stream(content);
        Ok(match content {
            Content::Id if self.table == Table::Person => numbers(events, person_id),
            Content::Id => numbers(events, auction_id),
            Content::Auction => numbers(events, |event| bid_auction(event, stream.at(event))),
            Content::Bidder => numbers(events, |event| bidder(event, stream.at(event))),
            Content::Seller => numbers(events, |event| seller(event, stream.at(event))),
            Content::Category => numbers(events, |event| category(stream.at(event))),
            Content::Price | Content::InitialBid => {
                numbers(events, |event| self.prices.at(stream.at(event)))
            }
            Content::Reserve => {
                let initial = self.stream(Content::InitialBid);
                numbers(events, |event| {
                    self.prices.at(initial.at(event)) + self.prices.at(stream.at(event))
                })
            }
            Content::DateTime => times(events, |event| self.model.time(event)),
            Content::Expires => times(events, |event| self.model.expires(event, stream.at(event))),
            Content::Name => texts(events, 16, |out, event| name(out, stream.at(event)))?,
            Content::EmailAddress => texts(events, 16, |out, event| {
                email_address(out, stream.at(event));
            })?,
            Content::CreditCard => texts(events, 19, |out, event| {
                push_credit_card(out, stream.at(event));
            })?,
            Content::City => listed(events, &CITIES, stream)?,
            Content::State => listed(events, &STATES, stream)?,
            Content::ItemName => texts(events, 16, |out, event| {
                let bits = stream.at(event);
                push_words(out, bits, item_name_length(bits), b' ');
            })?,
            Content::Description => texts(events, 64, |out, event| {
                let bits = stream.at(event);
                push_words(out, bits, description_length(bits), b' ');
            })?,
            Content::Channel => texts(events, 12, |out, event| {
                push_channel(out, channel(stream.at(event)));
            })?,
            Content::Url => {
                let channels = self.stream(Content::Channel);
                let addresses = self.addresses.get_or_init(|| Addresses::new(stream));
                texts(events, 64, |out, event| {
                    out.extend_from_slice(addresses.get(channel(channels.at(event))));
                })?
            }
            Content::Extra => {
                let average = self.table.event_bytes();
                let size = self.sizes();
                texts(events, average as usize, |out, event| {
                    let bits = stream.at(event);
                    let length = padding(size(event), average, mix(bits));
                    push_letters(out, bits, length);
                })?
            }
        })
    }

    /// The bytes of an event without what pads it, as the standard counts them.
    fn sizes(&self) -> Box<dyn Fn(u64) -> usize + '_> {
        match self.table {
            Table::Bid => Box::new(|_| 32),
            Table::Auction => {
                let item_name = self.stream(Content::ItemName);
                let description = self.stream(Content::Description);
                Box::new(move |event| {
                    48 + item_name_length(item_name.at(event))
                        + description_length(description.at(event))
                })
            }
            Table::Person => {
                let [names, emails, cities] = [Content::Name, Content::EmailAddress, Content::City]
                    .map(|content| self.stream(content));
                Box::new(move |event| {
                    let mut text = Vec::with_capacity(64);
                    name(&mut text, names.at(event));
                    email_address(&mut text, emails.at(event));
                    let city = one_of(&CITIES, cities.at(event));
                    // Beside them the id, the credit card and the state.
                    text.len() + city.len() + 8 + 19 + 2
                })
            }
        }
    }
}

fn name(out: &mut Vec<u8>, bits: u64) {
    out.extend_from_slice(one_of(&FIRST_NAMES, bits).as_bytes());
    out.push(b' ');
    out.extend_from_slice(one_of(&LAST_NAMES, mix(bits)).as_bytes());
}

fn email_address(out: &mut Vec<u8>, bits: u64) {
    let host = mix(bits);
    push_letters(out, bits, short_of(7, bits));
    out.push(b'@');
    push_letters(out, host, short_of(5, host));
    out.extend_from_slice(b".com");
}

fn item_name_length(bits: u64) -> usize {
    short_of(20, bits)
}

fn description_length(bits: u64) -> usize {
    short_of(100, bits)
}

fn numbers(events: &[u64], number: impl Fn(u64) -> i64) -> ArrayRef {
    let values: Vec<i64> = events.iter().map(|event| number(*event)).collect();
    Arc::new(Int64Array::from(values))
}

/// Times given in milliseconds.
fn times(events: &[u64], time: impl Fn(u64) -> i64) -> ArrayRef {
    let values: Vec<i64> = events.iter().map(|event| time(*event) * 1000).collect();
    Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
}

/// Texts of about so many bytes, each appended by `push`.
fn texts(
    events: &[u64],
    about: usize,
    push: impl Fn(&mut Vec<u8>, u64),
) -> Result<ArrayRef, ArrowError> {
    let mut bytes = Bytes::new();
    bytes.values.reserve(events.len() * about);
    for event in events {
        push(&mut bytes.values, *event);
        bytes.seal(true);
    }
    Column::Utf8(bytes).take()
}

/// Each one of some texts.
fn listed(events: &[u64], list: &[&str], stream: Stream) -> Result<ArrayRef, ArrowError> {
    texts(events, 8, |out, event| {
        out.extend_from_slice(one_of(list, stream.at(event)).as_bytes());
    })
}
