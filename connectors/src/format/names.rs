//! The names of an object's fields, and a guess at which comes next.

use std::collections::HashMap;

/// How many fields of an object are guessed at.
const REMEMBERED: usize = 64;

/// The names of an object's fields, and what stood before its values the last time.
///
/// Records mostly look like the one before. What led to the n-th value - a comma, the name, a colon,
/// the white space between them - is kept as it was written: where the same bytes come again, they
/// need not be taken apart again.
#[derive(Debug)]
pub(crate) struct Names {
    by_name: HashMap<Box<[u8]>, usize>,
    leads: Vec<Lead>,
}

impl Names {
    pub(crate) fn new<'a>(names: impl Iterator<Item = (usize, &'a str)>) -> Self {
        Self {
            by_name: names
                .map(|(at, name)| (name.as_bytes().into(), at))
                .collect(),
            leads: Vec::new(),
        }
    }

    /// The column of a name.
    pub(crate) fn find(&self, name: &[u8]) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// What led to the value at `position` the last time.
    #[inline]
    pub(crate) fn lead(&self, position: usize) -> Option<&Lead> {
        self.leads.get(position)
    }

    /// Remembers what led to the value at `position`, and its column.
    pub(crate) fn remember(&mut self, position: usize, bytes: &[u8], column: Option<usize>) {
        if position < self.leads.len() {
            self.leads[position].set(bytes, column);
        } else if position == self.leads.len() && position < REMEMBERED {
            let mut lead = Lead::default();
            lead.set(bytes, column);
            self.leads.push(lead);
        }
    }
}

/// The bytes from behind one value (or from the opening brace on) to the next value.
#[derive(Debug, Default)]
pub(crate) struct Lead {
    bytes: Vec<u8>,
    /// The first of them as a word, and which bits of it count.
    head: u128,
    mask: u128,
    /// The column of the value.
    pub(crate) column: Option<usize>,
    /// Whether a newline is among them.
    pub(crate) newline: bool,
}

impl Lead {
    fn set(&mut self, bytes: &[u8], column: Option<usize>) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        let (mut head, mut mask) = ([0; 16], [0; 16]);
        for (at, byte) in bytes.iter().take(16).enumerate() {
            head[at] = *byte;
            mask[at] = 0xFF;
        }
        self.head = u128::from_le_bytes(head);
        self.mask = u128::from_le_bytes(mask);
        self.column = column;
        self.newline = bytes.contains(&b'\n');
    }

    /// How many bytes it is long, if `text` begins with it.
    #[inline]
    pub(crate) fn begins(&self, text: &[u8]) -> Option<usize> {
        let length = self.bytes.len();
        let same = match text.first_chunk::<16>() {
            Some(chunk) => {
                (u128::from_le_bytes(*chunk) ^ self.head) & self.mask == 0
                    && (length <= 16 || text[16..].starts_with(&self.bytes[16..]))
            }
            None => text.starts_with(&self.bytes),
        };
        same.then_some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lead_is_found_whatever_its_length_and_what_follows() {
        for length in 1..40 {
            let lead: Vec<u8> = (1..=length).collect();
            let mut names = Names::new(std::iter::empty());
            names.remember(0, &lead, None);
            let kept = names.lead(0).expect("it was remembered");
            for behind in 0..20 {
                let mut text = lead.clone();
                text.resize(lead.len() + behind, b'x');
                assert_eq!(kept.begins(&text), Some(lead.len()));
                for wrong in 0..lead.len() {
                    let mut text = text.clone();
                    text[wrong] ^= 0x80;
                    assert_eq!(kept.begins(&text), None);
                }
            }
            assert_eq!(kept.begins(&lead[..lead.len() - 1]), None);
        }
    }
}
