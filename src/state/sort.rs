//! Fresh rows of an epoch to sorted chunks.

use std::cmp::Ordering;

use crate::state::chunk::{ChunkWriter, RowChunk};
use crate::state::diff::Diff;
use crate::state::heads::{Place, sort_by_keys};
use crate::state::rows::Rows;
use crate::time::Time;

/// The places of all rows, by their keys: those of equal keys stand together, in no order.
pub fn places_by_key(parts: &[Rows]) -> Vec<Place> {
    let mut places = Vec::with_capacity(parts.iter().map(Rows::len).sum());
    for (p, part) in parts.iter().enumerate() {
        places.extend((0..part.len()).map(|r| (0, p as u32, r as u32)));
    }
    sort_by_keys(&mut places, &|place| key_at(parts, place));
    places
}

/// The key of a place.
#[inline]
fn key_at<'a>(parts: &'a [Rows], place: &Place) -> &'a [u8] {
    parts[place.1 as usize].keys.get(place.2 as usize)
}

/// The places of all rows, by their keys and, of equal keys, by their values.
pub fn places_by_row(parts: &[Rows]) -> Vec<Place> {
    let mut places = places_by_key(parts);
    let value = |place: &Place| parts[place.1 as usize].vals.get(place.2 as usize);
    for of_key in places.chunk_by_mut(|a, b| a.0 == b.0 && key_at(parts, a) == key_at(parts, b)) {
        of_key.sort_unstable_by(|a, b| value(a).cmp(value(b)));
    }
    places
}

/// Sorts rows, given in the order in which they happened, and folds those that are equal. Where the
/// newest wins, that is the last of each key.
pub(crate) fn sort_rows<R: Diff>(parts: &[Rows], time: Time) -> Vec<RowChunk<R>> {
    let mut order = places_by_key(parts);
    let part = |at: &Place| (&parts[at.1 as usize], at.2 as usize);
    let identity = |a: &Place, b: &Place| {
        let ((pa, ra), (pb, rb)) = (part(a), part(b));
        pa.vals
            .get(ra)
            .cmp(pb.vals.get(rb))
            .then_with(|| pa.expiry.get(ra).cmp(&pb.expiry.get(rb)))
    };
    let mut out = Vec::with_capacity(order.len() / crate::state::chunk::TARGET + 1);
    let mut writer = ChunkWriter::new();
    for rows in order.chunk_by_mut(|a, b| a.0 == b.0 && key_at(parts, a) == key_at(parts, b)) {
        rows.sort_unstable_by(|a, b| {
            let order = if R::NEWEST_WINS {
                Ordering::Equal
            } else {
                identity(a, b)
            };
            order.then_with(|| (a.1, a.2).cmp(&(b.1, b.2)))
        });
        for group in rows.chunk_by(|a, b| R::NEWEST_WINS || identity(a, b).is_eq()) {
            let Some(last) = group.last() else { continue };
            let counts = group.iter().map(part).map(|(p, r)| p.diffs.get(r));
            let diff = R::of(counts.sum());
            if !diff.is_zero() {
                let (p, r) = part(last);
                let row = (p.keys.get(r), p.vals.get(r));
                writer.push(row, time, diff, p.expiry.get(r), &mut out);
            }
        }
    }
    writer.finish(&mut out);
    out
}
