//! One pass over the bytes of a JSON document, with what Spark's parser lets pass: single quotes,
//! and the numbers `NaN`, `Infinity`, `-INF`. Control characters inside strings, leading zeros,
//! trailing commas and names without quotes are errors.

use crate::format::names::Lead;
use crate::format::scan::find_string_end;

/// How deep arrays and objects may be nested, as in Jackson.
pub(super) const MAX_DEPTH: usize = 1000;

/// A document that is broken: nothing of it can be used. The scanner stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Syntax {
    pub(super) what: &'static str,
}

pub(super) type Scan<T> = Result<T, Syntax>;

/// A string between its quotes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    pub(super) raw: &'a [u8],
    /// Whether there are escapes to be undone.
    pub(super) escaped: bool,
}

/// A number as it is written, and what reading over it has told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number<'a> {
    pub(super) raw: &'a [u8],
    pub(super) kind: NumberKind,
    /// The digits before the exponent as one number, which has overflowed if they are many.
    pub(super) mantissa: u64,
    /// How many digits that are; 0 where there is an exponent.
    pub(super) digits: usize,
    /// How many of them stand behind the point.
    pub(super) scale: usize,
}

impl Number<'_> {
    #[inline]
    pub(super) fn negative(&self) -> bool {
        self.raw.first() == Some(&b'-')
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberKind {
    Integer,
    Float,
    /// `NaN`, `Infinity`, ...
    Named,
}

pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    pub(super) at: usize,
    depth: usize,
    /// Whether a newline ends it.
    line: bool,
}

impl<'a> Scanner<'a> {
    /// All of `bytes` is the document.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            depth: 0,
            line: false,
        }
    }

    /// The document is the line that begins at `at`: no newline is read over.
    pub(super) fn line(bytes: &'a [u8], at: usize) -> Self {
        Self {
            bytes,
            at,
            depth: 0,
            line: true,
        }
    }

    #[cold]
    #[expect(
        clippy::unused_self,
        reason = "what is wrong is wrong where the scanner stands"
    )]
    pub(super) fn error<T>(&self, what: &'static str) -> Scan<T> {
        Err(Syntax { what })
    }

    /// The bytes from `from` to here.
    pub(super) fn since(&self, from: usize) -> &'a [u8] {
        &self.bytes[from..self.at]
    }

    /// From the string that was just read on: what stood between its quotes, and what follows.
    #[inline]
    pub(super) fn text_onward(&self, text: Text<'a>) -> &'a [u8] {
        &self.bytes[self.at - 1 - text.raw.len()..]
    }

    /// The next byte that is not white space, which stays unread.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            let blank = match byte {
                b' ' | b'\t' | b'\r' => true,
                b'\n' => !self.line,
                _ => false,
            };
            if byte > b' ' || !blank {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Reads `byte` if it comes next.
    #[inline]
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Enters an array or object, whose bracket is read.
    pub(super) fn enter(&mut self) -> Scan<()> {
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            self.error("nested deeper than 1000 levels")
        } else {
            Ok(())
        }
    }

    /// Counts an object whose brace is read already, if it is not too deep.
    #[inline]
    pub(super) fn entered(&mut self) -> bool {
        let fits = self.depth < MAX_DEPTH;
        self.depth += usize::from(fits);
        fits
    }

    /// How many arrays and objects are open.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Leaves an array or object.
    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// After a value of an array or object: true if another follows.
    #[inline]
    pub(super) fn another(&mut self, close: u8) -> Scan<bool> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                self.leave();
                Ok(false)
            }
            Some(_) => self.error("a comma or the closing bracket was expected"),
            None => self.error("it ends in the middle"),
        }
    }

    /// Reads the closing bracket of an empty array or object, if it comes next.
    #[inline]
    pub(super) fn closes(&mut self, close: u8) -> bool {
        let closes = self.eat(close);
        if closes {
            self.leave();
        }
        closes
    }

    /// Reads what led to a value the last time, if it comes again; says so.
    #[inline]
    pub(super) fn eat_lead(&mut self, lead: &Lead) -> bool {
        let found = lead
            .begins(&self.bytes[self.at..])
            .filter(|_| !(self.line && lead.newline));
        self.at += found.unwrap_or(0);
        found.is_some()
    }

    /// A key.
    pub(super) fn key(&mut self) -> Scan<Text<'a>> {
        match self.peek() {
            Some(b'"' | b'\'') => self.string(),
            Some(_) => self.error("a field name in quotes was expected"),
            None => self.error("it ends in the middle"),
        }
    }

    /// The colon behind a key.
    #[inline]
    pub(super) fn colon(&mut self) -> Scan<()> {
        if self.eat(b':') {
            Ok(())
        } else {
            self.error("a colon was expected")
        }
    }

    /// A string; its opening quote comes next.
    #[expect(
        clippy::inline_always,
        reason = "the hot loop: the place in the text stays in a register"
    )]
    #[inline(always)]
    pub(super) fn string(&mut self) -> Scan<Text<'a>> {
        let start = self.at + 1;
        if self.bytes[self.at] == b'"' {
            let end = find_string_end(self.bytes, start);
            if self.bytes.get(end) == Some(&b'"') {
                self.at = end + 1;
                return Ok(Text {
                    raw: &self.bytes[start..end],
                    escaped: false,
                });
            }
        }
        self.uncommon_string()
    }

    /// A string with escapes or in single quotes.
    #[cold]
    fn uncommon_string(&mut self) -> Scan<Text<'a>> {
        let quote = self.bytes[self.at];
        let start = self.at + 1;
        let mut escaped = false;
        self.at = start;
        loop {
            if quote == b'"' {
                self.at = find_string_end(self.bytes, self.at);
            }
            match self.bytes.get(self.at) {
                Some(byte) if *byte == quote => {
                    self.at += 1;
                    return Ok(Text {
                        raw: &self.bytes[start..self.at - 1],
                        escaped,
                    });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(0x20..) => self.at += 1,
                Some(_) => {
                    return self
                        .error("a control character inside a string (write it as an escape)");
                }
                None => return self.error("it ends inside a string"),
            }
        }
    }

    /// Reads over an escape.
    fn escape(&mut self) -> Scan<()> {
        self.at += match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' | b'\'') => 2,
            Some(b'u') if hex4(self.bytes, self.at + 2).is_some() => 6,
            Some(_) => return self.error("an escape that does not exist"),
            None => return self.error("it ends inside a string"),
        };
        Ok(())
    }

    /// A number; its first byte comes next.
    #[expect(
        clippy::inline_always,
        reason = "the hot loop: the place in the text stays in a register"
    )]
    #[inline(always)]
    pub(super) fn number(&mut self) -> Scan<Number<'a>> {
        let start = self.at;
        let mut mantissa = 0_u64;
        let mut digits = |mut at: usize| {
            while let Some(digit) = self.bytes.get(at).map(|byte| byte.wrapping_sub(b'0'))
                && digit < 10
            {
                mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
                at += 1;
            }
            at
        };
        let first = start + usize::from(self.bytes.get(start) == Some(&b'-'));
        let point = digits(first);
        if point == first {
            return self.named_number(start);
        }
        if self.bytes[first] == b'0' && point > first + 1 {
            return self.error("a number with leading zeros");
        }
        let mut number = Number {
            raw: &[],
            kind: NumberKind::Integer,
            mantissa: 0,
            digits: point - first,
            scale: 0,
        };
        let mut at = point;
        if self.bytes.get(at) == Some(&b'.') {
            at = digits(point + 1);
            number.kind = NumberKind::Float;
            number.scale = at - point - 1;
            number.digits += number.scale;
            if number.scale == 0 {
                return self.error("a number without digits behind its point");
            }
        }
        number.mantissa = mantissa;
        if let Some(b'e' | b'E') = self.bytes.get(at) {
            number.kind = NumberKind::Float;
            number.digits = 0;
            at += 1;
            at += usize::from(matches!(self.bytes.get(at), Some(b'+' | b'-')));
            let exponent = at;
            while self.bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            if at == exponent {
                return self.error("a number without digits in its exponent");
            }
        }
        self.at = at;
        number.raw = &self.bytes[start..at];
        Ok(number)
    }

    fn named_number(&mut self, start: usize) -> Scan<Number<'a>> {
        const NAMES: [&[u8]; 7] = [
            b"NaN",
            b"Infinity",
            b"+Infinity",
            b"-Infinity",
            b"INF",
            b"+INF",
            b"-INF",
        ];
        for name in NAMES {
            if self.bytes[start..].starts_with(name) {
                self.at = start + name.len();
                self.check_word_end()?;
                return Ok(Number {
                    raw: name,
                    kind: NumberKind::Named,
                    mantissa: 0,
                    digits: 0,
                    scale: 0,
                });
            }
        }
        self.error("a value was expected")
    }

    fn check_word_end(&self) -> Scan<()> {
        match self.bytes.get(self.at) {
            Some(byte) if byte.is_ascii_alphanumeric() || *byte == b'_' => {
                self.error("a word that is no value")
            }
            _ => Ok(()),
        }
    }

    /// One of the words `true`, `false` and `null`.
    #[inline]
    pub(super) fn word(&mut self, word: &'static [u8]) -> Scan<()> {
        if !self.bytes[self.at..].starts_with(word) {
            return self.error("a word that is no value");
        }
        self.at += word.len();
        self.check_word_end()
    }

    /// Reads over a value, whatever it is.
    #[expect(
        clippy::inline_always,
        reason = "the hot loop: the place in the text stays in a register"
    )]
    #[inline(always)]
    pub(super) fn skip(&mut self) -> Scan<()> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'{' | b'[') => self.skip_nested(),
            _ => self.skip_scalar(),
        }
    }

    /// Reads over an array or object. However deep it is nested, the stack does not grow.
    fn skip_nested(&mut self) -> Scan<()> {
        let outside = self.depth;
        // A bit for each level: whether it is an object.
        let mut objects = [0_u64; MAX_DEPTH / 64 + 1];
        loop {
            match self.peek() {
                Some(b'{') => {
                    self.enter()?;
                    if !self.closes(b'}') {
                        objects[self.depth / 64] |= 1 << (self.depth % 64);
                        self.key()?;
                        self.colon()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.enter()?;
                    if !self.closes(b']') {
                        objects[self.depth / 64] &= !(1 << (self.depth % 64));
                        continue;
                    }
                }
                _ => self.skip_scalar()?,
            }
            // What is open goes on with another value, or ends too.
            loop {
                if self.depth == outside {
                    return Ok(());
                }
                let object = objects[self.depth / 64] >> (self.depth % 64) & 1 == 1;
                if self.another(if object { b'}' } else { b']' })? {
                    if object {
                        self.key()?;
                        self.colon()?;
                    }
                    break;
                }
            }
        }
    }

    fn skip_scalar(&mut self) -> Scan<()> {
        match self.peek() {
            Some(b'"' | b'\'') => self.string().map(drop),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(_) => self.number().map(drop),
            None => self.error("it ends where a value was expected"),
        }
    }
}

fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 4)?;
    digits.iter().try_fold(0, |value, byte| {
        Some(value << 4 | char::from(*byte).to_digit(16)?)
    })
}

/// Undoes the escapes of a string that was scanned.
pub(super) fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some(slash) = rest.iter().position(|b| *b == b'\\') {
        out.extend_from_slice(&rest[..slash]);
        let plain = match rest[slash + 1] {
            b'u' => {
                let (letter, length) = unicode(&rest[slash..]);
                let mut utf8 = [0; 4];
                out.extend_from_slice(letter.encode_utf8(&mut utf8).as_bytes());
                rest = &rest[slash + length..];
                continue;
            }
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            other => other,
        };
        out.push(plain);
        rest = &rest[slash + 2..];
    }
    out.extend_from_slice(rest);
}

/// The letter of the `\uXXXX` (or pair of them) at the start, and how long it is. Half a pair is a
/// question mark, as in Java.
fn unicode(text: &[u8]) -> (char, usize) {
    let first = hex4(text, 2).unwrap_or(0);
    if (0xD800..0xDC00).contains(&first)
        && text.get(6..8) == Some(b"\\u")
        && let Some(second @ 0xDC00..0xE000) = hex4(text, 8)
    {
        let code = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
        return (char::from_u32(code).unwrap_or('?'), 12);
    }
    (char::from_u32(first).unwrap_or('?'), 6)
}
