//! What travels between operators, and how it is spread over workers.
//!
//! Both distributors push all that they are given at once. A buffering exchange may keep rows back
//! when a flush meets an empty count, and a dataflow would then wait for ever.

use std::cell::OnceCell;
use std::io::Write;
use std::sync::Arc;

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use timely::Accountable;
use timely::communication::Push;
use timely::container::PushInto;
use timely::dataflow::Stream;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::channels::{ContainerBytes, Message};
use timely::progress::Stamp;

use crate::row::{Delta, KeyCodec, hash, route};
use crate::state::Rows;
use crate::time::Time;

/// A stream of Arrow batches.
pub type DeltaStream<'scope> = Stream<'scope, Time, Deltas>;

/// A stream of byte rows.
pub type RowStream<'scope> = Stream<'scope, Time, Rows>;

/// The container of a [`DeltaStream`].
#[derive(Clone, Debug, Default)]
pub struct Deltas {
    deltas: Vec<Delta>,
    /// What goes to another process: timely asks for its length first, and then for the bytes.
    encoded: OnceCell<Vec<u8>>,
}

impl Deltas {
    /// Takes all that is in it.
    pub fn take(&mut self) -> Vec<Delta> {
        std::mem::take(self).deltas
    }
}

impl From<Vec<Delta>> for Deltas {
    fn from(deltas: Vec<Delta>) -> Self {
        Self {
            deltas,
            encoded: OnceCell::new(),
        }
    }
}

impl From<Delta> for Deltas {
    fn from(delta: Delta) -> Self {
        vec![delta].into()
    }
}

impl Accountable for Deltas {
    fn record_count(&self) -> i64 {
        self.deltas.len() as i64
    }
}

impl PushInto<Delta> for Deltas {
    fn push_into(&mut self, delta: Delta) {
        self.encoded.take();
        self.deltas.push(delta);
    }
}

impl Accountable for Rows {
    fn record_count(&self) -> i64 {
        self.len() as i64
    }
}

/// Batches between processes: for each its time, its multiplicities and an Arrow IPC stream, each
/// behind its length.
impl ContainerBytes for Deltas {
    fn from_bytes(bytes: timely::bytes::arc::Bytes) -> Self {
        decode(&bytes).expect("a peer of the same version wrote these bytes")
    }

    fn length_in_bytes(&self) -> usize {
        self.encoded.get_or_init(|| encode(&self.deltas)).len()
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        writer
            .write_all(self.encoded.get_or_init(|| encode(&self.deltas)))
            .expect("timely gives a buffer of the announced length");
    }
}

/// Behind their length, filled up to whole words.
impl ContainerBytes for Rows {
    fn from_bytes(bytes: timely::bytes::arc::Bytes) -> Self {
        let length = bytes
            .first_chunk::<8>()
            .map_or(0, |length| u64::from_le_bytes(*length) as usize);
        let rows = bytes
            .get(8..8 + length)
            .and_then(|bytes| Self::from_bytes(bytes).ok());
        rows.expect("a peer of the same version wrote these bytes")
    }

    fn length_in_bytes(&self) -> usize {
        8 + self.encoded_len().next_multiple_of(8)
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        let mut bytes = (self.encoded_len() as u64).to_le_bytes().to_vec();
        self.to_bytes(&mut bytes);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        writer
            .write_all(&bytes)
            .expect("timely gives a buffer of the announced length");
    }
}

fn encode(deltas: &[Delta]) -> Vec<u8> {
    let mut out = (deltas.len() as u64).to_le_bytes().to_vec();
    for delta in deltas {
        out.extend_from_slice(&delta.time.epoch.to_le_bytes());
        out.extend_from_slice(&delta.time.watermark.to_le_bytes());
        let diffs = delta.diffs.as_deref().unwrap_or_default();
        out.extend_from_slice(&(diffs.len() as u64).to_le_bytes());
        diffs
            .iter()
            .for_each(|diff| out.extend_from_slice(&diff.to_le_bytes()));
        let mut ipc = Vec::new();
        let mut writer = StreamWriter::try_new(&mut ipc, &delta.batch.schema())
            .expect("writing to memory cannot fail");
        writer
            .write(&delta.batch)
            .expect("writing to memory cannot fail");
        writer.finish().expect("writing to memory cannot fail");
        drop(writer);
        out.extend_from_slice(&(ipc.len() as u64).to_le_bytes());
        out.extend_from_slice(&ipc);
        out.resize(out.len().next_multiple_of(8), 0);
    }
    out
}

fn decode(mut bytes: &[u8]) -> Option<Deltas> {
    fn word(bytes: &mut &[u8]) -> Option<u64> {
        let (head, rest) = bytes.split_first_chunk::<8>()?;
        *bytes = rest;
        Some(u64::from_le_bytes(*head))
    }
    let bytes = &mut bytes;
    let mut deltas = Vec::new();
    for _ in 0..word(bytes)? {
        let time = Time::new(word(bytes)?, word(bytes)? as i64);
        let diffs = (0..word(bytes)?)
            .map(|_| word(bytes).map(|w| w as i64))
            .collect::<Option<Vec<_>>>()?;
        let length = word(bytes)? as usize;
        let ipc = bytes.get(..length)?;
        let batch = StreamReader::try_new(ipc, None).ok()?.next()?.ok()?;
        *bytes = bytes.get(length.next_multiple_of(8)..)?;
        let diffs = (!diffs.is_empty()).then(|| diffs.into());
        deltas.push(Delta {
            batch,
            diffs,
            origin: None,
            time,
        });
    }
    Some(deltas.into())
}

/// Spreads byte rows by the hash of their keys.
pub struct ByKey {
    /// Of each row, whose it is.
    routes: Vec<u32>,
    /// For each worker its rows, and the bytes of their keys and values.
    shares: Vec<(usize, usize, usize)>,
}

impl ByKey {
    /// For this many workers.
    pub fn new(peers: usize) -> Self {
        Self {
            routes: vec![],
            shares: vec![(0, 0, 0); peers],
        }
    }
}

impl Distributor<Rows> for ByKey {
    fn partition<T: Clone, P: Push<Message<T, Rows>>>(
        &mut self,
        rows: &mut Rows,
        stamp: &Stamp<T>,
        pushers: &mut [P],
    ) {
        if let [only] = pushers {
            Message::push_at(rows, stamp.clone(), only);
            return;
        }
        self.routes.clear();
        self.shares.fill((0, 0, 0));
        for (key, val) in rows.keys.iter().zip(rows.vals.iter()) {
            let to = route(hash(key), pushers.len());
            self.routes.push(to as u32);
            let (count, keys, vals) = &mut self.shares[to];
            (*count, *keys, *vals) = (*count + 1, *keys + key.len(), *vals + val.len());
        }
        let room = |share: &(usize, usize, usize)| {
            Rows::with_capacity(rows.time, share.0, (share.1, share.2))
        };
        let mut parts: Vec<Rows> = self.shares.iter().map(room).collect();
        for (row, to) in self.routes.iter().enumerate() {
            let (key, val) = (rows.keys.get(row), rows.vals.get(row));
            parts[*to as usize].push(key, val, rows.diffs.get(row), rows.expiry.get(row));
        }
        for (mut part, pusher) in parts.into_iter().zip(pushers) {
            if !part.is_empty() {
                Message::push_at(&mut part, stamp.clone(), pusher);
            }
        }
    }

    fn flush<T: Clone, P: Push<Message<T, Rows>>>(&mut self, _: &Stamp<T>, _: &mut [P]) {}
}

/// Where whole batches go.
pub enum BatchRoute {
    /// All to the first worker.
    First,
    /// All to each worker.
    All,
    /// Each row by the hash of these columns, encoded by this codec.
    By(Vec<usize>, KeyCodec),
}

impl Distributor<Deltas> for BatchRoute {
    fn partition<T: Clone, P: Push<Message<T, Deltas>>>(
        &mut self,
        deltas: &mut Deltas,
        stamp: &Stamp<T>,
        pushers: &mut [P],
    ) {
        let (columns, codec) = match self {
            Self::By(columns, codec) if pushers.len() > 1 => (columns, codec),
            Self::All => {
                for pusher in pushers {
                    Message::push_at(&mut deltas.clone(), stamp.clone(), pusher);
                }
                return;
            }
            _ => return Message::push_at(deltas, stamp.clone(), &mut pushers[0]),
        };
        let mut parts = vec![Vec::new(); pushers.len()];
        for delta in deltas.take() {
            let columns: Vec<_> = columns
                .iter()
                .map(|column| Arc::clone(delta.batch.column(*column)))
                .collect();
            let keys = codec
                .encode(&columns)
                .expect("the codec was made for the columns of this stream");
            let mut rows = vec![Vec::<u32>::new(); pushers.len()];
            for (row, key) in keys.iter().enumerate() {
                rows[route(hash(key), pushers.len())].push(row as u32);
            }
            for (part, rows) in parts
                .iter_mut()
                .zip(rows)
                .filter(|(_, rows)| !rows.is_empty())
            {
                let diffs = delta
                    .diffs
                    .as_ref()
                    .map(|d| rows.iter().map(|r| d[*r as usize]).collect());
                let batch = take_record_batch(&delta.batch, &UInt32Array::from(rows))
                    .expect("indices lie within the batch");
                part.push(Delta {
                    batch,
                    diffs,
                    origin: None,
                    time: delta.time,
                });
            }
        }
        for (part, pusher) in parts.into_iter().zip(pushers) {
            if !part.is_empty() {
                Message::push_at(&mut part.into(), stamp.clone(), pusher);
            }
        }
    }

    fn flush<T: Clone, P: Push<Message<T, Deltas>>>(&mut self, _: &Stamp<T>, _: &mut [P]) {}
}
