//! Paths into JSON documents (`$.a[0].b[*]`), by the rules of Spark's `get_json_object`, which are
//! Hive's: what is found is written again without white space, a string alone without its quotes,
//! and several finds of one wildcard as an array.

use super::scanner::{Scan, Scanner, unescape};
use super::write::{copy, push_text};

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// A field of an object.
    Field(Vec<u8>),
    /// An element of an array, from 0.
    Element(u64),
    /// All elements of an array.
    Elements,
    /// `.*`, which finds nothing.
    Fields,
}

/// A path, ready to be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

/// How finds are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// A string without its quotes.
    Raw,
    Quoted,
    /// The elements of arrays, one after the other.
    Flat,
}

impl JsonPath {
    /// Reads a path; `None` where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text.strip_prefix('$')?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let step;
            (step, rest) = self::step(rest)?;
            steps.push(step);
        }
        Some(Self { steps })
    }

    /// Appends what the path finds in a document, and says whether it finds something: nothing in a
    /// document that is broken up to there.
    pub fn find(&self, document: &str, out: &mut String) -> bool {
        let start = out.len();
        let mut finds = Finds::default();
        let mut scanner = Scanner::new(document.as_bytes());
        let found = follow(&mut scanner, &self.steps, Style::Raw, &mut finds);
        match found {
            Ok(true) => out.push_str(&finds.text),
            _ => out.truncate(start),
        }
        matches!(found, Ok(true))
    }
}

fn step(text: &str) -> Option<(Step, &str)> {
    if let Some(rest) = text.strip_prefix(".*") {
        return Some((Step::Fields, rest));
    }
    if let Some(rest) = text.strip_prefix('.') {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        return (!name.is_empty()).then(|| (Step::Field(name.into()), rest));
    }
    let rest = text.strip_prefix('[')?;
    if let Some(rest) = rest.strip_prefix('\'') {
        let end = rest.find(['\'', '?'])?;
        let (name, rest) = rest.split_at(end);
        let rest = rest.strip_prefix("']")?;
        let step = match name {
            "" => return None,
            "*" => Step::Fields,
            name => Step::Field(name.into()),
        };
        return Some((step, rest));
    }
    if let Some(rest) = rest.strip_prefix("*]") {
        return Some((Step::Elements, rest));
    }
    let (digits, rest) = rest.split_once(']')?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    Some((Step::Element(digits.parse().ok().filter(|_| plain)?), rest))
}

/// What was found, as the inside of an array or alone.
#[derive(Default)]
struct Finds {
    text: String,
    /// Whether a comma has to stand before what comes next.
    more: bool,
}

impl Finds {
    fn separate(&mut self) {
        if self.more {
            self.text.push(',');
        }
        self.more = true;
    }
}

/// Follows `steps` from the value that comes next, which is read to its end.
fn follow(
    scanner: &mut Scanner<'_>,
    steps: &[Step],
    style: Style,
    finds: &mut Finds,
) -> Scan<bool> {
    let next = scanner.peek();
    match (next, steps) {
        (Some(b'"' | b'\''), []) if style == Style::Raw => {
            let text = scanner.string()?;
            let mut plain = Vec::with_capacity(text.raw.len());
            unescape(text.raw, &mut plain);
            push_text(&plain, &mut finds.text);
            finds.more = true;
            Ok(true)
        }
        (Some(b'['), []) if style == Style::Flat => {
            each(scanner, |scanner| follow(scanner, steps, style, finds)).map(|found| found > 0)
        }
        (_, []) => {
            finds.separate();
            copy(scanner, &mut finds.text)?;
            Ok(true)
        }
        (Some(b'{'), [Step::Field(name), rest @ ..]) => field(scanner, name, rest, style, finds),
        (Some(b'['), [Step::Elements, Step::Elements, rest @ ..]) => {
            let mut inner = Finds::default();
            let found = each(scanner, |scanner| {
                follow(scanner, rest, Style::Flat, &mut inner)
            })?;
            finds.separate();
            finds.text.extend(["[", &inner.text, "]"]);
            Ok(found > 0)
        }
        (Some(b'['), [Step::Elements, rest @ ..]) => {
            let inner_style = match style {
                Style::Flat => Style::Flat,
                Style::Raw | Style::Quoted => Style::Quoted,
            };
            let mut inner = Finds::default();
            let found = each(scanner, |scanner| {
                follow(scanner, rest, inner_style, &mut inner)
            })?;
            // One find stands alone, unless it is part of an array already.
            if style == Style::Quoted || found > 1 {
                finds.separate();
                finds.text.extend(["[", &inner.text, "]"]);
            } else if found == 1 {
                finds.separate();
                finds.text.push_str(&inner.text);
            }
            Ok(found > 0)
        }
        (Some(b'['), [Step::Element(wanted), rest @ ..]) => {
            let style = match rest {
                [Step::Elements, ..] => Style::Quoted,
                _ => style,
            };
            let mut at = 0;
            let found = each(scanner, |scanner| {
                let here = at == *wanted;
                at += 1;
                if here {
                    follow(scanner, rest, style, finds)
                } else {
                    scanner.skip().map(|()| false)
                }
            })?;
            Ok(found > 0)
        }
        _ => scanner.skip().map(|()| false),
    }
}

/// Reads an array, whose bracket comes next; says for how many elements `of` was true.
fn each(
    scanner: &mut Scanner<'_>,
    mut of: impl FnMut(&mut Scanner<'_>) -> Scan<bool>,
) -> Scan<usize> {
    let mut found = 0;
    scanner.enter()?;
    if !scanner.closes(b']') {
        loop {
            found += usize::from(of(scanner)?);
            if !scanner.another(b']')? {
                break;
            }
        }
    }
    Ok(found)
}

/// Follows the first field of this name in which something is found; null is nothing.
fn field(
    scanner: &mut Scanner<'_>,
    name: &[u8],
    steps: &[Step],
    style: Style,
    finds: &mut Finds,
) -> Scan<bool> {
    let mut found = false;
    let mut key = Vec::new();
    scanner.enter()?;
    if !scanner.closes(b'}') {
        loop {
            key.clear();
            unescape(scanner.key()?.raw, &mut key);
            scanner.colon()?;
            if found || key != name || scanner.peek() == Some(b'n') {
                scanner.skip()?;
            } else {
                found = follow(scanner, steps, style, finds)?;
            }
            if !scanner.another(b'}')? {
                break;
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_are_none() {
        for text in ["", "a", "$.", "$..a", "$a", "$[", "$[x]", "$['a", "$[-1]"] {
            assert_eq!(JsonPath::parse(text), None, "{text}");
        }
    }
}
