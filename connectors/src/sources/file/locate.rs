//! Where rows of a split lie in their file: for the message about a row that cannot be processed.

use std::path::Path;

use super::FileSplit;
use super::reader::{FileReader, Text};
use crate::format::scan::find_byte;
use crate::{Place, Result, Split};

/// The places of `rows`, ascending, of a split that was read with `projection`.
pub(super) fn locate(
    reader: &FileReader,
    split: &Split,
    projection: &[usize],
    rows: &[u64],
) -> Result<Vec<Place>> {
    let file = FileSplit::of(&split.range)?;
    let path = Path::new(&file.path);
    if let Some(text) = reader.text(split, projection)? {
        return in_lines(text, path, rows);
    }
    let place = |row: &u64| Place {
        text: match file.start {
            0 => format!("{}, row {row}", path.display()),
            start => format!("{}, row {row} from byte {start} on", path.display()),
        },
        ..Place::default()
    };
    Ok(rows.iter().map(place).collect())
}

/// Decodes line by line, and looks after each how many rows there are.
fn in_lines(mut text: Text, path: &Path, rows: &[u64]) -> Result<Vec<Place>> {
    let mut places = Vec::with_capacity(rows.len());
    let mut wanted = rows.iter().copied().peekable();
    let mut flushed = 0;
    let mut line = None;
    while wanted.peek().is_some() {
        let Some((position, block)) = text.block()? else {
            break;
        };
        let mut number = match line {
            Some(number) => number,
            None => text.line_of(position).unwrap_or(1),
        };
        let mut at = 0;
        while at < block.len() && wanted.peek().is_some() {
            let end = find_byte(&block, at, b'\n');
            let next = (end + 1).min(block.len());
            // What cannot be decoded has ended the query before, in its own words.
            if text.decoder.push_lines(&block[at..next]).is_err() {
                return Ok(places);
            }
            while wanted
                .next_if(|row| *row < flushed + text.decoder.rows() as u64)
                .is_some()
            {
                places.push(Place {
                    text: format!("{}:{number}", path.display()),
                    record: Some(block[at..end].trim_ascii_end().to_vec()),
                    ..Place::default()
                });
            }
            if text.decoder.is_full() {
                flushed += text.decoder.flush()?.0.num_rows() as u64;
            }
            number += 1;
            at = next;
        }
        line = Some(number);
    }
    Ok(places)
}
