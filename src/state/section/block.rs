//! Blocks of a section: some ten thousand rows, column by column.

use std::collections::VecDeque;

use crate::row::varint;
use crate::state::chunk::{Body, ChunkWriter, RowChunk};
use crate::state::diff::Diff;
use crate::state::error::Result;
use crate::state::section::{Input, SectionInfo};

/// Rows of a block, about: enough for LZ4 to find its repetitions.
const ROWS: usize = 16 * 1024;
/// Bytes of a block, about.
const BYTES: usize = 4 << 20;
/// LZ4 cannot expand further.
const MAX_RATIO: usize = 255;
/// Rows of no bytes at all are still rows: so many a block at most.
const MAX_ROWS: usize = 1 << 26;

/// The columns of a block being written.
#[derive(Default)]
pub(super) struct Encoder {
    rows: usize,
    nkeys: usize,
    last_key: Vec<u8>,
    keys: Vec<u8>,
    runs: Vec<u8>,
    lens: Vec<u8>,
    vals: Vec<u8>,
    diffs: Vec<i64>,
    expiry: Vec<i64>,
}

impl Encoder {
    /// Appends the rows of a chunk.
    pub(super) fn add<R: Diff>(&mut self, body: &Body<R>) {
        for k in 0..body.nkeys() {
            let key = body.keys.get(k);
            let shared = self
                .last_key
                .iter()
                .zip(key)
                .take_while(|(a, b)| a == b)
                .count();
            varint::put(&mut self.keys, shared as u64);
            varint::put(&mut self.keys, (key.len() - shared) as u64);
            self.keys.extend_from_slice(&key[shared..]);
            self.last_key.truncate(shared);
            self.last_key.extend_from_slice(&key[shared..]);
            varint::put(&mut self.runs, (body.key_end(k) - body.key_start(k)) as u64);
        }
        body.vals
            .iter()
            .for_each(|val| varint::put(&mut self.lens, val.len() as u64));
        self.vals.extend_from_slice(body.vals.concat());
        self.diffs.extend(body.diffs.iter().map(Diff::count));
        self.expiry.extend(body.expiry.iter());
        self.rows += body.rows();
        self.nkeys += body.nkeys();
    }

    /// Whether it is time to finish.
    pub(super) fn is_full(&self) -> bool {
        self.rows >= ROWS || self.keys.len() + self.vals.len() >= BYTES
    }

    /// Appends the block, unless it is empty, and starts the next.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        if self.rows == 0 {
            return;
        }
        varint::put(out, self.rows as u64);
        varint::put(out, self.nkeys as u64);
        column(&self.keys, out);
        column(&self.runs, out);
        self.lens.extend_from_slice(&self.vals);
        column(&self.lens, out);
        column(&integers(&self.diffs, false), out);
        column(&integers(&self.expiry, true), out);
        *self = Self::default();
    }
}

fn integers(values: &[i64], differences: bool) -> Vec<u8> {
    let mut bytes = vec![];
    let first = values.first().copied().unwrap_or_default();
    if values.iter().all(|v| *v == first) {
        bytes.push(0);
        varint::put_signed(&mut bytes, first);
        return bytes;
    }
    bytes.push(1);
    let mut last = 0;
    for value in values {
        varint::put_signed(&mut bytes, value.wrapping_sub(last));
        if differences {
            last = *value;
        }
    }
    bytes
}

/// Appends a column: by LZ4 if that saves an eighth at least.
fn column(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.len() >= 64 {
        let packed = lz4_flex::block::compress(bytes);
        if packed.len() < bytes.len() - bytes.len() / 8 {
            out.push(1);
            varint::put(out, bytes.len() as u64);
            varint::put(out, packed.len() as u64);
            out.extend_from_slice(&packed);
            return;
        }
    }
    out.push(0);
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// What is wrong.
type Damage = &'static str;

/// The rows of a section as chunks, read block by block: those whose keys `keep` wants.
pub(crate) struct Blocks<'a, R: Diff> {
    info: SectionInfo,
    input: Input<'a>,
    keep: &'a dyn Fn(&[u8]) -> bool,
    seen: u64,
    last: Option<Row>,
    writer: ChunkWriter<R>,
    ready: VecDeque<RowChunk<R>>,
}

impl<'a, R: Diff> Blocks<'a, R> {
    /// What follows the header in `input`.
    pub(crate) fn new(
        info: SectionInfo,
        input: Input<'a>,
        keep: &'a dyn Fn(&[u8]) -> bool,
    ) -> Self {
        Self {
            info,
            input,
            keep,
            seen: 0,
            last: None,
            writer: ChunkWriter::new(),
            ready: VecDeque::new(),
        }
    }

    /// Reads a block, or ends.
    fn read(&mut self) -> Result<()> {
        let at = self.input.offset();
        let block = Block::read(&mut self.input)?;
        self.seen += block.rows as u64;
        if self.seen > self.info.rows {
            return Err(Input::corrupt(
                at,
                "there are more rows than the header counts",
            ));
        }
        block
            .rows(
                &self.info,
                &mut self.last,
                self.keep,
                &mut self.writer,
                &mut self.ready,
            )
            .map_err(|what| Input::corrupt(at, what))?;
        if self.input.is_empty() {
            self.writer.flush(&mut self.ready);
        }
        Ok(())
    }
}

impl<R: Diff> Iterator for Blocks<'_, R> {
    type Item = Result<RowChunk<R>>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.input.is_empty() {
            if let Err(error) = self.read() {
                return Some(Err(error));
            }
        }
        if let Some(chunk) = self.ready.pop_front() {
            return Some(Ok(chunk));
        }
        let missing = self.seen < self.info.rows;
        missing.then(|| {
            // Once.
            self.seen = self.info.rows;
            let at = self.input.offset();
            let what = "there are fewer rows than the header counts";
            Err(Input::corrupt(at, what))
        })
    }
}

/// The row before, for the order to be checked.
#[derive(Default)]
struct Row {
    key: Vec<u8>,
    val: Vec<u8>,
    expiry: i64,
}

/// The columns of a block being read.
struct Block {
    rows: usize,
    nkeys: usize,
    keys: Vec<u8>,
    runs: Vec<u8>,
    vals: Vec<u8>,
    diffs: Vec<u8>,
    expiry: Vec<u8>,
}

impl Block {
    fn read(input: &mut Input<'_>) -> Result<Self> {
        let rows = input.take_len(MAX_ROWS, "a block's count of rows is out of bounds")?;
        let nkeys = input.take_len(rows, "a block has more keys than rows")?;
        let mut column = || unpack(input);
        Ok(Self {
            rows,
            nkeys,
            keys: column()?,
            runs: column()?,
            vals: column()?,
            diffs: column()?,
            expiry: column()?,
        })
    }

    fn rows<R: Diff>(
        &self,
        info: &SectionInfo,
        last: &mut Option<Row>,
        keep: &dyn Fn(&[u8]) -> bool,
        writer: &mut ChunkWriter<R>,
        out: &mut VecDeque<RowChunk<R>>,
    ) -> Result<(), Damage> {
        const ENDS: Damage = "a column ends too early";
        const ORDER: Damage = "the rows are not in order";
        // Every row has a length of one byte at least, so the count is bounded by what was read.
        let mut lens = &self.vals[..];
        for _ in 0..self.rows {
            varint::take(&mut lens).ok_or(ENDS)?;
        }
        let (mut vals, mut lens) = (lens, &self.vals[..]);
        let (mut keys, mut runs) = (&self.keys[..], &self.runs[..]);
        let mut diffs = Integers::new(&self.diffs, false).ok_or(ENDS)?;
        let mut expiries = Integers::new(&self.expiry, true).ok_or(ENDS)?;
        let mut key: Vec<u8> = vec![];
        let mut left = self.rows;
        for _ in 0..self.nkeys {
            let shared = varint::take_len(&mut keys, key.len()).ok_or(ENDS)?;
            let left_over = keys.len();
            let len = varint::take_len(&mut keys, left_over).ok_or(ENDS)?;
            key.truncate(shared);
            key.extend_from_slice(varint::take_slice(&mut keys, len).ok_or(ENDS)?);
            let run =
                varint::take_len(&mut runs, left).ok_or("a key has more rows than there are")?;
            if run == 0 {
                return Err("a key has no rows");
            }
            left -= run;
            let kept = keep(&key);
            for _ in 0..run {
                let len = varint::take_len(&mut lens, vals.len()).ok_or(ENDS)?;
                let val = varint::take_slice(&mut vals, len).ok_or(ENDS)?;
                let diff = diffs.next().ok_or(ENDS)?;
                let expiry = expiries.next().ok_or(ENDS)?;
                if diff == 0 || (R::NEWEST_WINS && diff != 1) {
                    return Err("a row has an impossible count");
                }
                match last {
                    Some(last)
                        if (&last.key[..], &last.val[..], last.expiry)
                            >= (&key[..], val, expiry) =>
                    {
                        return Err(ORDER);
                    }
                    Some(last) => {
                        if R::NEWEST_WINS && last.key == key {
                            return Err(ORDER);
                        }
                        last.key.clone_from(&key);
                        last.val.clear();
                        last.val.extend_from_slice(val);
                        last.expiry = expiry;
                    }
                    None => {
                        *last = Some(Row {
                            key: key.clone(),
                            val: val.to_vec(),
                            expiry,
                        });
                    }
                }
                if kept {
                    writer.push((&key, val), info.time, R::of(diff), expiry, out);
                }
            }
        }
        if left > 0 || !(keys.is_empty() && runs.is_empty() && vals.is_empty()) {
            return Err("a column is too long");
        }
        Ok(())
    }
}

/// Reads a column back.
fn unpack(input: &mut Input<'_>) -> Result<Vec<u8>> {
    const WHAT: Damage = "a column is cut off or cannot be unpacked";
    let offset = input.offset();
    let damaged = || Input::corrupt(offset, WHAT);
    match input.take_array(WHAT)? {
        [0] => {
            let len = input.take_len(usize::MAX, WHAT)?;
            input.take(len, WHAT)
        }
        [1] => {
            let len = input.take_len(usize::MAX, WHAT)?;
            let stored = input.take_len(usize::MAX, WHAT)?;
            let packed = input.take(stored, WHAT)?;
            if len > stored.saturating_mul(MAX_RATIO) {
                return Err(damaged());
            }
            let bytes = lz4_flex::block::decompress(&packed, len).map_err(|_| damaged())?;
            if bytes.len() == len {
                Ok(bytes)
            } else {
                Err(damaged())
            }
        }
        _ => Err(damaged()),
    }
}

/// Reads what [`integers`] wrote.
enum Integers<'a> {
    One(i64),
    Many {
        rest: &'a [u8],
        last: i64,
        differences: bool,
    },
}

impl<'a> Integers<'a> {
    fn new(mut bytes: &'a [u8], differences: bool) -> Option<Self> {
        match varint::take_array::<1>(&mut bytes)? {
            [0] => Some(Self::One(varint::take_signed(&mut bytes)?)),
            [1] => Some(Self::Many {
                rest: bytes,
                last: 0,
                differences,
            }),
            _ => None,
        }
    }

    #[inline]
    fn next(&mut self) -> Option<i64> {
        match self {
            Self::One(value) => Some(*value),
            Self::Many {
                rest,
                last,
                differences,
            } => {
                let value = last.wrapping_add(varint::take_signed(rest)?);
                if *differences {
                    *last = value;
                }
                Some(value)
            }
        }
    }
}
