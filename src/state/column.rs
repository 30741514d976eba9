//! A column that is usually one value, repeated.

use crate::row::shrink;

/// Values of which most columns hold only one: then it is kept once.
#[derive(Clone, Debug)]
pub enum Column<T> {
    /// The same value, so many times.
    One(T, usize),
    /// A value for each row.
    Many(Vec<T>),
}

impl<T: Copy + PartialEq + Default> Default for Column<T> {
    fn default() -> Self {
        Self::One(T::default(), 0)
    }
}

impl<T: Copy + PartialEq + Default> Column<T> {
    /// `len` times the same value.
    pub const fn repeated(value: T, len: usize) -> Self {
        Self::One(value, len)
    }

    /// The number of rows.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::One(_, n) => *n,
            Self::Many(values) => values.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of row `i`.
    #[inline]
    pub fn get(&self, i: usize) -> T {
        *self.at(i)
    }

    /// The value of row `i`, by reference.
    #[inline]
    pub fn at(&self, i: usize) -> &T {
        match self {
            Self::One(value, _) => value,
            Self::Many(values) => &values[i],
        }
    }

    /// The values, spelt out.
    fn many(&mut self) -> &mut Vec<T> {
        if let Self::One(value, n) = self {
            let mut values = Vec::with_capacity((*n * 2).max(16));
            values.resize(*n, *value);
            *self = Self::Many(values);
        }
        match self {
            Self::Many(values) => values,
            Self::One(..) => unreachable!("the column was spelt out just above"),
        }
    }

    /// Appends a value.
    #[inline]
    pub fn push(&mut self, value: T) {
        match self {
            Self::One(_, 0) => *self = Self::One(value, 1),
            Self::One(one, n) if *one == value => *n += 1,
            _ => self.many().push(value),
        }
    }

    /// Appends rows `from..to` of `other`.
    pub fn extend_range(&mut self, other: &Self, from: usize, to: usize) {
        if from >= to {
            return;
        }
        match (&mut *self, other) {
            (Self::One(one, n), Self::One(value, _)) if *n == 0 || one == value => {
                *one = *value;
                *n += to - from;
            }
            (_, Self::One(value, _)) => {
                let values = self.many();
                values.resize(values.len() + (to - from), *value);
            }
            (_, Self::Many(values)) => self.many().extend_from_slice(&values[from..to]),
        }
    }

    /// Forgets all rows.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Gives memory back, unless it is little.
    pub fn shrink(&mut self) {
        if let Self::Many(values) = self {
            shrink(values);
        }
    }

    /// The values in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = T> + '_ {
        (0..self.len()).map(|i| self.get(i))
    }

    /// The memory in use.
    pub fn bytes(&self) -> usize {
        match self {
            Self::One(..) => size_of::<Self>(),
            Self::Many(values) => size_of_val(&values[..]),
        }
    }
}

impl<T: Copy + PartialEq + Default> PartialEq for Column<T> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}
