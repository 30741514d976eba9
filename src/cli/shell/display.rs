//! Tables for a terminal: columns fitted to its width, numbers to the right, text to the left.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tidemark_connectors::sinks::show::{Zone, cells, display_width};

/// A column is not made narrower than this to make room for others.
const NARROWEST: usize = 8;

/// The columns of a table and how wide each is.
pub(super) struct Grid {
    columns: Vec<Column>,
    /// Columns that found no room.
    hidden: usize,
}

struct Column {
    name: String,
    right: bool,
    /// Part of a value still says something, as of a text; part of a number does not.
    can_be_cut: bool,
    width: usize,
}

/// A table's rows as text.
pub(super) type Rows = Vec<Vec<String>>;

/// The values of `batches` as text, moments in `zone`.
pub(super) fn rows(batches: &[RecordBatch], zone: Zone) -> tidemark_connectors::Result<Rows> {
    let mut rows = vec![];
    for batch in batches {
        let plain = cells(batch, zone)?.into_iter();
        rows.extend(plain.map(|row| row.iter().map(|cell| on_one_line(cell)).collect()));
    }
    Ok(rows)
}

impl Grid {
    /// Columns wide enough for `rows`, and together no wider than `width`, if there is one.
    pub(super) fn new(schema: &SchemaRef, rows: &[Vec<String>], width: Option<usize>) -> Self {
        let fields = schema.fields().iter().enumerate();
        let mut columns: Vec<Column> = fields
            .map(|(index, field)| {
                let name = on_one_line(field.name());
                let cells = rows.iter().map(|row| display_width(&row[index]));
                Column {
                    width: cells.max().unwrap_or(0).max(display_width(&name)).max(1),
                    right: field.data_type().is_numeric(),
                    can_be_cut: !(field.data_type().is_primitive()),
                    name,
                }
            })
            .collect();
        let mut hidden = 0;
        if let Some(width) = width {
            while !fit(&mut columns, width) && columns.len() > 1 {
                columns.pop();
                hidden += 1;
            }
        }
        Self { columns, hidden }
    }

    /// Whether no value is cut that says nothing when it is.
    pub(super) fn fits(&self, rows: &[Vec<String>]) -> bool {
        let fits =
            |column: &Column, cell: &str| column.can_be_cut || display_width(cell) <= column.width;
        rows.iter().all(|row| {
            self.columns
                .iter()
                .zip(row)
                .all(|(column, cell)| fits(column, cell))
        })
    }

    /// `+----+----+`.
    pub(super) fn rule(&self) -> String {
        let mut out = String::from("+");
        for column in &self.columns {
            out.push_str(&"-".repeat(column.width + 2));
            out.push('+');
        }
        out
    }

    /// The names of the columns between rules.
    pub(super) fn header(&self) -> String {
        let names: Vec<String> = self.columns.iter().map(|c| c.name.clone()).collect();
        format!("{0}\n{1}\n{0}", self.rule(), self.line(&names))
    }

    /// One row.
    pub(super) fn line(&self, row: &[String]) -> String {
        let mut out = String::from("|");
        for (column, cell) in self.columns.iter().zip(row) {
            let cell = cut(cell, column.width);
            let padding = " ".repeat(column.width - display_width(&cell));
            let (before, after) = if column.right {
                (padding.as_str(), "")
            } else {
                ("", padding.as_str())
            };
            out.push_str(&format!(" {before}{cell}{after} |"));
        }
        out
    }

    /// The whole table.
    pub(super) fn table(&self, rows: &[Vec<String>]) -> String {
        let mut out = self.header();
        out.push('\n');
        for row in rows {
            out.push_str(&self.line(row));
            out.push('\n');
        }
        if !rows.is_empty() {
            out.push_str(&self.rule());
            out.push('\n');
        }
        if let Some(note) = self.note() {
            out.push_str(&note);
            out.push('\n');
        }
        out
    }

    /// What is not shown for want of width.
    pub(super) fn note(&self) -> Option<String> {
        match self.hidden {
            0 => None,
            1 => Some("(1 more column; a wider terminal shows it)".into()),
            more => Some(format!(
                "({more} more columns; a wider terminal shows them)"
            )),
        }
    }
}

/// Narrows columns until all fit, first those whose values may be cut; whether they do.
fn fit(columns: &mut [Column], width: usize) -> bool {
    let frame = 1 + 3 * columns.len();
    let room = width.saturating_sub(frame);
    let narrowest: usize = columns.iter().map(|c| c.width.min(NARROWEST)).sum();
    if narrowest > room {
        if let [only] = columns {
            only.width = room.max(1);
        }
        return false;
    }
    narrow(columns, room, |column| column.can_be_cut);
    narrow(columns, room, |_| true);
    true
}

/// Takes from the widest of the columns that may give, one step after the other, until all
/// together take no more than `room`.
fn narrow(columns: &mut [Column], room: usize, may: impl Fn(&Column) -> bool) {
    loop {
        let over = (columns.iter().map(|c| c.width).sum::<usize>()).saturating_sub(room);
        let widest = columns
            .iter_mut()
            .filter(|c| may(c))
            .max_by_key(|c| c.width);
        match widest {
            Some(column) if over > 0 && column.width > NARROWEST => column.width -= 1,
            _ => return,
        }
    }
}

/// The beginning of `text` that fits into `width` columns, with `…` where something is missing.
pub(super) fn cut(text: &str, width: usize) -> String {
    if display_width(text) <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let wide = display_width(c.encode_utf8(&mut [0; 4]));
        if used + wide + 1 > width {
            break;
        }
        used += wide;
        out.push(c);
    }
    if width > 0 {
        out.push('…');
    }
    out
}

/// Control characters made visible, so that no value breaks the table or drives the terminal.
fn on_one_line(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// `1 row`, `1,234 rows`.
pub(super) fn count(rows: u64) -> String {
    let word = if rows == 1 { "row" } else { "rows" };
    format!("{} {word}", indicatif::HumanCount(rows))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int32Array, StringArray};

    use super::*;

    fn shown(width: Option<usize>, columns: Vec<(&str, ArrayRef)>) -> String {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let rows = rows(std::slice::from_ref(&batch), Zone::UTC).unwrap();
        Grid::new(&batch.schema(), &rows, width).table(&rows)
    }

    fn text(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    #[test]
    fn numbers_stand_to_the_right_and_wide_characters_take_two() {
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(7), None]));
        assert_eq!(
            shown(
                None,
                vec![("n", numbers), ("city", text(&["日本", "Zürich\u{1b}[2J"]))]
            ),
            "+------+---------------+\n\
             |    n | city          |\n\
             +------+---------------+\n\
             |    7 | 日本          |\n\
             | NULL | Zürich\\x1b[2J |\n\
             +------+---------------+\n"
        );
    }

    #[test]
    fn the_widest_columns_give_way() {
        let long = "a long text that has no room";
        let table = shown(
            Some(30),
            vec![
                ("k", text(&["key"])),
                ("v", text(&[long])),
                ("w", text(&[long])),
            ],
        );
        assert!(
            table.lines().all(|line| display_width(line) == 30),
            "{table}"
        );
        assert!(table.contains("| key | a long t… |"), "{table}");
    }

    #[test]
    fn texts_are_cut_before_numbers() {
        let number: ArrayRef = Arc::new(Int32Array::from(vec![1_234_567_890]));
        let columns = vec![("n", number), ("t", text(&["a long text without room"]))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let rows = rows(std::slice::from_ref(&batch), Zone::UTC).unwrap();
        let grid = Grid::new(&batch.schema(), &rows, Some(30));
        assert_eq!(grid.line(&rows[0]), "| 1234567890 | a long text … |");
        assert!(grid.fits(&rows));
        assert!(!grid.fits(&[vec!["12345678901".into(), String::new()]]));
    }

    #[test]
    fn columns_without_room_are_counted() {
        let columns = ["first column", "second column", "third column"];
        let table = shown(
            Some(30),
            columns.map(|name| (name, text(&["a value"]))).to_vec(),
        );
        assert!(
            table.ends_with("\n(1 more column; a wider terminal shows it)\n"),
            "{table}"
        );
        assert!(
            table.lines().all(|line| display_width(line) <= 43),
            "{table}"
        );
    }

    #[test]
    fn a_cut_never_splits_a_wide_character() {
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("ab", 1), "…");
    }
}
