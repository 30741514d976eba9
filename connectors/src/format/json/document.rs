//! Questions about whole JSON documents, for `json_array_length` and its like.

use super::scanner::{Scan, Scanner, unescape};
use super::write::plain;

/// How many elements the array has; `None` for what is no array, or broken.
pub fn array_length(document: &str) -> Option<usize> {
    let count = |scanner: &mut Scanner<'_>| -> Scan<usize> {
        let mut found = 0;
        scanner.enter()?;
        if !scanner.closes(b']') {
            loop {
                scanner.skip()?;
                found += 1;
                if !scanner.another(b']')? {
                    break;
                }
            }
        }
        Ok(found)
    };
    let mut scanner = Scanner::new(document.as_bytes());
    (scanner.peek() == Some(b'['))
        .then(|| count(&mut scanner).ok())
        .flatten()
}

/// The names of the object's fields, in order; `None` for what is no object, or broken.
pub fn object_keys(document: &str) -> Option<Vec<String>> {
    let mut keys = Vec::new();
    fields(document, |name, scanner| {
        keys.push(String::from_utf8_lossy(name).into_owned());
        scanner.skip()
    })?;
    Some(keys)
}

/// The values of the object's fields with these names as text: strings without quotes, nothing for
/// null; all nothing for what is no object, or broken. The last of several wins.
pub fn field_texts(document: &str, names: &[Option<&str>]) -> Vec<Option<String>> {
    let mut found = vec![None; names.len()];
    let whole = fields(document, |name, scanner| {
        let wanted = |given: Option<&str>| given.is_some_and(|given| given.as_bytes() == name);
        if !names.iter().copied().any(wanted) {
            return scanner.skip();
        }
        let mut text = String::new();
        let value = plain(scanner, &mut text)?.then_some(text);
        for (slot, _) in found
            .iter_mut()
            .zip(names)
            .filter(|(_, name)| wanted(**name))
        {
            slot.clone_from(&value);
        }
        Ok(())
    });
    if whole.is_none() {
        found.fill(None);
    }
    found
}

/// Reads an object; `each` is given a name, and reads the value.
fn fields(document: &str, mut each: impl FnMut(&[u8], &mut Scanner<'_>) -> Scan<()>) -> Option<()> {
    let mut scanner = Scanner::new(document.as_bytes());
    if scanner.peek() != Some(b'{') {
        return None;
    }
    let mut name = Vec::new();
    let mut read = || -> Scan<()> {
        scanner.enter()?;
        if !scanner.closes(b'}') {
            loop {
                name.clear();
                unescape(scanner.key()?.raw, &mut name);
                scanner.colon()?;
                each(&name, &mut scanner)?;
                if !scanner.another(b'}')? {
                    break;
                }
            }
        }
        Ok(())
    };
    read().ok()
}
