//! Fresh rows of an epoch to sorted chunks.

use crate::row::Bytes;
use crate::state::chunk::{ChunkWriter, RowChunk, prefix};
use crate::state::diff::Diff;
use crate::state::rows::Rows;
use crate::time::Time;

/// Sorts rows, given in the order in which they happened, and folds those that are equal. Where the
/// newest wins, that is the last of each key.
pub(crate) fn sort_rows<R: Diff>(parts: &[Rows], time: Time) -> Vec<RowChunk<R>> {
    let total: usize = parts.iter().map(Rows::len).sum();
    let mut order: Vec<(u64, u32, u32)> = Vec::with_capacity(total);
    for (p, part) in parts.iter().enumerate() {
        let rows = part.keys.iter().enumerate();
        order.extend(rows.map(|(r, key)| (prefix(key), p as u32, r as u32)));
    }
    let part = |at: (u64, u32, u32)| (&parts[at.1 as usize], at.2 as usize);
    let same_key = |a, b| column_get(part(a), |p| &p.keys) == column_get(part(b), |p| &p.keys);
    let identity = |a, b| {
        let ((pa, ra), (pb, rb)) = (part(a), part(b));
        pa.vals
            .get(ra)
            .cmp(pb.vals.get(rb))
            .then_with(|| pa.expiry.get(ra).cmp(&pb.expiry.get(rb)))
    };
    order.sort_unstable_by(|a, b| {
        a.0.cmp(&b.0)
            .then_with(|| column_get(part(*a), |p| &p.keys).cmp(column_get(part(*b), |p| &p.keys)))
            .then_with(|| {
                if R::NEWEST_WINS {
                    std::cmp::Ordering::Equal
                } else {
                    identity(*a, *b)
                }
            })
            .then_with(|| (a.1, a.2).cmp(&(b.1, b.2)))
    });
    let mut out = Vec::with_capacity(total / crate::state::chunk::TARGET + 1);
    let mut writer = ChunkWriter::new();
    let mut rest = &order[..];
    while let Some((first, _)) = rest.split_first() {
        let equal = rest
            .iter()
            .take_while(|at| {
                at.0 == first.0
                    && same_key(*first, **at)
                    && (R::NEWEST_WINS || identity(*first, **at).is_eq())
            })
            .count();
        let (group, tail) = rest.split_at(equal);
        rest = tail;
        let Some(last) = group.last() else { continue };
        let count: i64 = group
            .iter()
            .map(|at| part(*at))
            .map(|(p, r)| p.diffs.get(r))
            .sum();
        let diff = R::of(count);
        if !diff.is_zero() {
            let (p, r) = part(*last);
            writer.push(
                (p.keys.get(r), p.vals.get(r)),
                time,
                diff,
                p.expiry.get(r),
                &mut out,
            );
        }
    }
    writer.finish(&mut out);
    out
}

#[inline]
fn column_get<'a>(
    (part, row): (&'a Rows, usize),
    column: impl Fn(&'a Rows) -> &'a Bytes,
) -> &'a [u8] {
    column(part).get(row)
}
