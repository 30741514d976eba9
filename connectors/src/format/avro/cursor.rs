//! Reading the bytes of a record: every length is checked against what is there before it is believed.

use super::schema::{AvroSchema, Type, TypeId};

/// Why a record cannot be decoded.
pub(super) type Fault = String;

/// How deep values that nobody wants may lie in each other.
const DEEPEST: usize = 200;

/// How many elements of a record may take no bytes at all.
const MOST_EMPTY: usize = 1 << 16;

/// A record being read.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    /// How many more elements may take no bytes.
    empty: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(record: &'a [u8]) -> Self {
        Self {
            rest: record,
            empty: MOST_EMPTY,
        }
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            return Err(format!(
                "{length} bytes were to come, and there are {}",
                self.rest.len()
            ));
        };
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or_else(|| format!("{N} bytes were to come, and there are {}", self.rest.len()))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn boolean(&mut self) -> Result<bool, Fault> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(format!("{other} is no boolean")),
        }
    }

    #[inline]
    pub(super) fn long(&mut self) -> Result<i64, Fault> {
        let mut bits = 0_u64;
        for (index, byte) in self.rest.iter().enumerate().take(10) {
            bits |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                if index == 9 && *byte > 1 {
                    break;
                }
                self.rest = &self.rest[index + 1..];
                return Ok((bits >> 1) as i64 ^ -((bits & 1) as i64));
            }
        }
        Err("a whole number does not end".into())
    }

    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.long()?;
        let length = usize::try_from(length).map_err(|_| format!("{length} is no length"))?;
        self.take(length)
    }

    /// Which of `count` things it is.
    pub(super) fn choice(&mut self, what: &str, count: usize) -> Result<usize, Fault> {
        let index = self.long()?;
        usize::try_from(index)
            .ok()
            .filter(|index| *index < count)
            .ok_or_else(|| format!("{index} is no number of {what}, of which there are {count}"))
    }

    /// The elements of an array or a map, block by block.
    pub(super) fn elements(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // The size of the block in bytes.
                self.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                let before = self.left();
                each(self)?;
                if self.left() == before {
                    self.empty = self.empty.checked_sub(1).ok_or_else(|| {
                        format!("it has more than {MOST_EMPTY} elements without a byte")
                    })?;
                }
            }
        }
    }

    /// Reads over a value.
    pub(super) fn skip(&mut self, schema: &AvroSchema, of: TypeId) -> Result<(), Fault> {
        self.skip_at(schema, of, 0)
    }

    fn skip_at(&mut self, schema: &AvroSchema, of: TypeId, depth: usize) -> Result<(), Fault> {
        if depth > DEEPEST {
            return Err(format!("it is more than {DEEPEST} values deep"));
        }
        match schema.get(of) {
            Type::Null => {}
            Type::Boolean => _ = self.boolean()?,
            Type::Int(_) | Type::Long(_) => _ = self.long()?,
            Type::Float => _ = self.take(4)?,
            Type::Double => _ = self.take(8)?,
            Type::String | Type::Bytes(_) => _ = self.bytes()?,
            Type::Fixed { size, .. } => _ = self.take(*size)?,
            Type::Enum { symbols, .. } => _ = self.choice("symbols", symbols.len())?,
            Type::Array(items) => {
                self.elements(|cursor| cursor.skip_at(schema, *items, depth + 1))?;
            }
            Type::Map(values) => self.elements(|cursor| {
                cursor.bytes()?;
                cursor.skip_at(schema, *values, depth + 1)
            })?,
            Type::Union(branches) => {
                let branch = self.choice("branches", branches.len())?;
                self.skip_at(schema, branches[branch], depth + 1)?;
            }
            Type::Record { fields, .. } => {
                for field in fields {
                    self.skip_at(schema, field.of, depth + 1)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_of_every_length() {
        let cases: [(&[u8], i64); 6] = [
            (&[0], 0),
            (&[1], -1),
            (&[2], 1),
            (&[0x80, 0x01], 64),
            (
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
                i64::MIN,
            ),
            (
                &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
                i64::MAX,
            ),
        ];
        for (bytes, value) in cases {
            assert_eq!(Cursor::new(bytes).long(), Ok(value));
        }
        for broken in [&[][..], &[0x80], &[0x80; 11], &[0xff; 9]] {
            assert!(Cursor::new(broken).long().is_err(), "{broken:?}");
        }
        let mut more = [0xff; 10];
        more[9] = 2;
        assert!(Cursor::new(&more).long().is_err());
    }

    #[test]
    fn lengths_are_not_believed() {
        let schema = AvroSchema::parse(
            r#"{"type":"record","name":"R","fields":[
                {"name":"s","type":"string"},{"name":"n","type":{"type":"array","items":"null"}},
                {"name":"next","type":["null","R"]}]}"#,
        )
        .expect("a schema");
        let skip = |bytes: &[u8]| Cursor::new(bytes).skip(&schema, schema.root());
        assert_eq!(skip(&[2, b'a', 4, 0, 0]), Ok(()));
        // As long as there can be, below nothing, and of no bytes.
        let far = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert!(skip(&far).is_err());
        assert!(skip(&[1]).is_err());
        assert!(skip(&[&[0][..], &far].concat()).is_err());
        // Deep.
        assert!(skip(&[0, 0, 2].repeat(100_000)).is_err());
    }
}
