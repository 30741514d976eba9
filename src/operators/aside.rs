//! Rows that operators set aside, by epoch, until a report takes them.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::time::Epoch;

/// Where rows are set aside, once somebody wants them.
pub struct Aside<T>(RefCell<Option<BTreeMap<Epoch, Vec<T>>>>);

impl<T> Default for Aside<T> {
    fn default() -> Self {
        Self(RefCell::new(None))
    }
}

impl<T> Aside<T> {
    /// From now on somebody wants them.
    pub fn keep(&self) {
        self.0.borrow_mut().get_or_insert_default();
    }

    /// Whether somebody wants them.
    pub fn keeps(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Sets one aside, unless its epoch has `most` already; gives it back then.
    pub fn add(&self, epoch: Epoch, one: T, most: usize) -> Result<(), T> {
        let mut all = self.0.borrow_mut();
        let all = all.get_or_insert_default().entry(epoch).or_default();
        if all.len() >= most {
            return Err(one);
        }
        all.push(one);
        Ok(())
    }

    /// Takes those of an epoch.
    pub fn take(&self, epoch: Epoch) -> Vec<T> {
        let mut all = self.0.borrow_mut();
        let taken = all.as_mut().and_then(|all| all.remove(&epoch));
        taken.unwrap_or_default()
    }
}
