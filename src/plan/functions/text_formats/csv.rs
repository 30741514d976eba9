//! `from_csv`, `to_csv`, `schema_of_csv`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::ScalarUDF;
use tidemark_connectors::Options;
use tidemark_connectors::format::csv::{CsvDecoder, CsvInference, CsvOptions};
use tidemark_connectors::sinks::csv::texts;

use super::formatted::Formats;
use super::{connector, declaration, declared, malformed, options, record_options};
use crate::plan::functions::define::{Call, Gives, Param, ResultType, function};
use crate::plan::sql::type_name;

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        function(
            "from_csv",
            &[Param::Text, Param::Text, Param::Text],
            Gives::Of(from_type as ResultType),
            from_csv,
        )
        .optional(1)
        .udf(),
        function("to_csv", &[Param::Any, Param::Text], DataType::Utf8, to_csv)
            .optional(1)
            .coerced(|_, types| {
                if !matches!(types[0], DataType::Struct(_)) {
                    return plan_err!(
                        "[DATATYPE_MISMATCH.UNSUPPORTED_INPUT_TYPE] to_csv takes a STRUCT, not {}; use struct(...)",
                        type_name(&types[0])
                    );
                }
                let mut wanted = vec![types[0].clone()];
                wanted.resize(types.len(), DataType::Utf8);
                Ok(wanted)
            })
            .udf(),
        function(
            "schema_of_csv",
            &[Param::Text, Param::Text],
            DataType::Utf8,
            |call| {
                let options = options(call, 1)?;
                let records = call.text(0);
                call.texts(|row, out| {
                    let Some(record) = records.get(row) else {
                        return Ok(None);
                    };
                    out.push_str(&schema_of_csv(record, &options)?);
                    Ok(Some(()))
                })
            },
        )
        .optional(1)
        .udf(),
    ]
}

fn from_type(_: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    let found = declared("from_csv", constants)?;
    if matches!(found, DataType::Struct(_)) {
        return Ok(found);
    }
    plan_err!(
        "[INVALID_SCHEMA.NON_STRUCT_TYPE] from_csv gives a STRUCT, not {}; use a schema such as 'a INT'",
        type_name(&found)
    )
}

fn from_csv(call: &Call) -> Result<ArrayRef> {
    let options = options(call, 2)?;
    record_options(&options, "from_csv")?;
    let csv = CsvOptions::new(&options).map_err(connector)?;
    let DataType::Struct(fields) = call.returns() else {
        return plan_err!("from_csv gives a STRUCT");
    };
    let schema = Arc::new(Schema::new(fields.clone()));
    let mut decoder =
        CsvDecoder::new(&schema, Arc::clone(&schema), csv, false).map_err(connector)?;
    let records = call.text(0);
    let mut valid = Vec::with_capacity(call.rows());
    for row in 0..call.rows() {
        let record = records.get(row);
        valid.push(record.is_some());
        let pushed = if let Some(record) = record { decoder.push_record(record.as_bytes()) } else {
            decoder.push_nulls();
            Ok(())
        };
        pushed.map_err(malformed)?;
    }
    let (batch, _) = decoder.flush().map_err(connector)?;
    Ok(Arc::new(StructArray::try_new_with_length(
        fields.clone(),
        batch.columns().to_vec(),
        Some(NullBuffer::from(valid)),
        call.rows(),
    )?))
}

fn to_csv(call: &Call) -> Result<ArrayRef> {
    let options = options(call, 1)?;
    let formats = Formats::new(&options)?;
    let rows = formats.apply(&call.array(0)?)?;
    let written = texts(rows.as_struct(), &options, formats.zone);
    Ok(Arc::new(written.map_err(connector)?))
}

/// The declaration of the type that a CSV record has.
pub fn schema_of_csv(record: &str, options: &Options) -> Result<String> {
    let csv = CsvOptions::new(options).map_err(connector)?;
    let mut inference = CsvInference::new(csv, true);
    inference.push_lines(record.as_bytes(), false);
    let fields: Vec<Field> = (inference.finish().fields().iter())
        .map(|field| field.as_ref().clone())
        .collect();
    Ok(declaration(&DataType::Struct(fields.into())))
}
