//! One CSV record to its fields, as univocity (the parser in Spark) cuts it.
//!
//! A quote inside a quoted field has to be escaped; where it is not, the field is taken as it is
//! written, quotes and all, up to the next separator.

use super::CsvOptions;
use crate::format::scan::find_either;

/// Where the text of a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: usize,
    end: usize,
    /// In `unescaped` rather than in the input.
    rewritten: bool,
    quoted: bool,
}

/// The fields of the last record.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    spans: Vec<Span>,
    unescaped: Vec<u8>,
}

impl Tokens {
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// The text of field `index` of the record in `input`; `None` where it is null.
    pub(super) fn get<'a>(
        &'a self,
        input: &'a [u8],
        index: usize,
        options: &'a CsvOptions,
    ) -> Option<&'a [u8]> {
        let span = self.spans.get(index)?;
        let source = if span.rewritten {
            &self.unescaped
        } else {
            input
        };
        let text = &source[span.start..span.end];
        let text = match (text.is_empty(), span.quoted) {
            (true, false) => return None,
            (true, true) => options.empty_value.as_slice(),
            (false, _) => text,
        };
        (text != options.null_value).then_some(text)
    }

    /// Reads the record that begins at `from`, and says where it ends: at its newline or at the
    /// end of `input`. A newline inside quotes belongs to the field.
    pub(super) fn read(&mut self, input: &[u8], from: usize, options: &CsvOptions) -> usize {
        self.spans.clear();
        self.unescaped.clear();
        let mut at = from;
        loop {
            at = self.field(input, at, options);
            if input[at..].starts_with(&options.separator) {
                at += options.separator.len();
            } else {
                return at;
            }
        }
    }

    fn field(&mut self, input: &[u8], from: usize, options: &CsvOptions) -> usize {
        let mut start = from;
        if options.trim_start {
            start = skip_blanks(input, start, options);
        }
        if options.quote.is_some()
            && input.get(start).copied() == options.quote
            && let Some(end) = self.quoted(input, start, options)
        {
            return end;
        }
        let end = field_end(input, start, options);
        let mut last = end;
        if input.get(end) == Some(&b'\n') && last > start && input[last - 1] == b'\r' {
            last -= 1;
        }
        if options.trim_end {
            while last > start && matches!(input[last - 1], b' ' | b'\t' | b'\r') {
                last -= 1;
            }
        }
        self.spans.push(Span {
            start,
            end: last,
            rewritten: false,
            quoted: false,
        });
        end
    }

    /// A field in quotes, from its opening quote; `None` where a quote inside is not escaped.
    fn quoted(&mut self, input: &[u8], open: usize, options: &CsvOptions) -> Option<usize> {
        let quote = input[open];
        let content = open + 1;
        let before = self.unescaped.len();
        let mut rewritten = false;
        // What stands between `copied` and `at` has not been rewritten yet.
        let (mut copied, mut at) = (content, content);
        let (last, end) = loop {
            let Some(&byte) = input.get(at) else {
                break (at, at);
            };
            let next = input.get(at + 1).copied();
            let escapes = Some(byte) == options.escape
                && (next == Some(quote) || (byte != quote && next == options.escape));
            if escapes {
                self.unescaped.extend_from_slice(&input[copied..at]);
                rewritten = true;
                copied = at + 1;
                at += 2;
            } else if byte == quote {
                let behind = skip_blanks(input, at + 1, options);
                let closed = behind == input.len()
                    || matches!(input[behind], b'\n' | b'\r')
                    || input[behind..].starts_with(&options.separator);
                if !closed {
                    self.unescaped.truncate(before);
                    return None;
                }
                let end = if input.get(behind) == Some(&b'\r') {
                    behind + 1
                } else {
                    behind
                };
                break (at, end);
            } else {
                at += 1;
            }
        };
        let span = if rewritten {
            self.unescaped.extend_from_slice(&input[copied..last]);
            Span {
                start: before,
                end: self.unescaped.len(),
                rewritten,
                quoted: true,
            }
        } else {
            Span {
                start: content,
                end: last,
                rewritten,
                quoted: true,
            }
        };
        self.spans.push(span);
        Some(end)
    }
}

/// The next separator or newline.
fn field_end(input: &[u8], from: usize, options: &CsvOptions) -> usize {
    let first = options.separator[0];
    let mut at = find_either(input, from, first, b'\n');
    // Only the first byte of a longer separator was found.
    while input.get(at) == Some(&first) && !input[at..].starts_with(&options.separator) {
        at = find_either(input, at + 1, first, b'\n');
    }
    at
}

fn skip_blanks(input: &[u8], from: usize, options: &CsvOptions) -> usize {
    let mut at = from;
    while let Some(b' ' | b'\t') = input.get(at)
        && !input[at..].starts_with(&options.separator)
    {
        at += 1;
    }
    at
}
