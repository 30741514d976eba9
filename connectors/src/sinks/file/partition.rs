//! Rows to `key=value` directories, named as Hive and Spark name them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;

use super::super::text::{self, Bytes, Moments, Nulls, Style};
use super::options::FileOptions;
use crate::{ConnectorError, Result};

/// The value of a directory whose rows have none.
const NONE: &str = "__HIVE_DEFAULT_PARTITION__";

/// The rows of each directory, with the columns that are stored; `""` is the root itself.
pub(super) fn split(
    options: &FileOptions,
    batch: &RecordBatch,
) -> Result<Vec<(String, RecordBatch)>> {
    let failed = |source| ConnectorError::Arrow {
        context: "cannot split rows by 'partitionBy'".into(),
        source,
    };
    let stored = batch.project(&options.stored).map_err(failed)?;
    if options.partition_by.is_empty() {
        return Ok(vec![(String::new(), stored)]);
    }
    let style = Style {
        zone: options.zone,
        moments: Moments::Sql,
        bytes: Bytes::Hex,
    };
    let mut columns = Vec::with_capacity(options.partition_by.len());
    for column in &options.partition_by {
        let field = options.schema.field(*column);
        let values = text::plain_values(field.name(), batch.column(*column))?;
        let (_, write) = text::scalar(&values, style)
            .ok_or_else(|| text::no_text_form(field.name(), values.data_type()))?;
        let mut name = String::new();
        escape(&mut name, field.name());
        columns.push((name, Nulls::of(&values), write));
    }
    let mut rows: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    let (mut dir, mut value) = (String::new(), String::new());
    for row in 0..batch.num_rows() {
        dir.clear();
        for (name, nulls, write) in &columns {
            value.clear();
            if !nulls.is_null(row) {
                write(row, &mut value);
            }
            if !dir.is_empty() {
                dir.push('/');
            }
            dir.push_str(name);
            dir.push('=');
            if value.is_empty() {
                dir.push_str(NONE);
            } else {
                escape(&mut dir, &value);
            }
        }
        match rows.get_mut(dir.as_str()) {
            Some(rows) => rows.push(row as u32),
            None => {
                rows.insert(dir.clone(), vec![row as u32]);
            }
        }
    }
    rows.into_iter()
        .map(|(dir, rows)| {
            let part = take_record_batch(&stored, &UInt32Array::from(rows)).map_err(failed)?;
            Ok((dir, part))
        })
        .collect()
}

/// Percent-encodes what Spark does in a path (`ExternalCatalogUtils.escapePathName`).
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_ascii_control() || "\"#%'*/:=?\\{[]^".contains(c) {
            let _ = write!(out, "%{:02X}", u32::from(c));
        } else {
            out.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_cannot_hold_is_percent_encoded() {
        let mut out = String::new();
        escape(&mut out, "a/b=c 12:00 ü%\n");
        assert_eq!(out, "a%2Fb%3Dc 12%3A00 ü%25%0A");
    }
}
