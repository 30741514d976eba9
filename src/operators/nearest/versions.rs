//! The right rows of one key, as far as an epoch needs them.

use crate::operators::keyed::Change;
use crate::operators::nearest::{Order, Place};
use crate::plan::join::RIGHT;

/// A right row, before the epoch and after it.
struct Version {
    place: Place,
    value: Box<[u8]>,
    before: i64,
    after: i64,
}

/// Right rows in order.
#[derive(Default)]
pub(super) struct Versions {
    rows: Vec<Version>,
}

impl Versions {
    /// Adds a row that is kept, behind the others.
    pub(super) fn push(&mut self, value: &[u8], count: i64) {
        self.rows.push(Version {
            place: Order::place_of(RIGHT, value),
            value: value.into(),
            before: count,
            after: count,
        });
    }

    /// Takes in what the epoch changes, in order; false if more is taken away than is there.
    pub(super) fn change(&mut self, changes: &[Change<'_>]) -> bool {
        for change in changes {
            let value = &change.value[1..];
            let at = match self.rows.binary_search_by(|row| (*row.value).cmp(value)) {
                Ok(at) => at,
                Err(at) => {
                    let row = Version {
                        place: Order::place_of(RIGHT, value),
                        value: value.into(),
                        before: 0,
                        after: 0,
                    };
                    self.rows.insert(at, row);
                    at
                }
            };
            self.rows[at].after += change.diff;
            if self.rows[at].after < 0 {
                return false;
            }
        }
        true
    }

    fn from(&self, reach: Place) -> &[Version] {
        &self.rows[self.rows.partition_point(|row| row.place < reach)..]
    }

    /// The row that was nearest to a left row of this reach.
    pub(super) fn before(&self, reach: Place) -> Option<&[u8]> {
        let mut rows = self.from(reach).iter();
        rows.find(|row| row.before > 0).map(|row| &*row.value)
    }

    /// The row that is.
    pub(super) fn after(&self, reach: Place) -> Option<&[u8]> {
        let mut rows = self.from(reach).iter();
        rows.find(|row| row.after > 0).map(|row| &*row.value)
    }

    /// The place of the next nearer row that was there and still is.
    pub(super) fn steady_before(&self, place: Place) -> Option<Place> {
        let nearer = &self.rows[..self.rows.partition_point(|row| row.place < place)];
        let steady = nearer.iter().rfind(|row| row.before > 0 && row.after > 0);
        steady.map(|row| row.place)
    }
}
