//! Wall clocks of other time zones.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::common::Result;
use datafusion::logical_expr::ScalarUDF;
use tidemark_connectors::format::zone::Zone;

use super::{WALL, named_zone, overflow, zone};
use crate::plan::functions::define::{Call, Param, function, unexpected};
use crate::plan::sql::types::timestamp_type;

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let params = &[Param::Timestamp, Param::Text];
    vec![
        function("from_utc_timestamp", params, timestamp_type(), |call| {
            by_zone(call, Zone::to_local)
        })
        .udf(),
        function("to_utc_timestamp", params, timestamp_type(), |call| {
            by_zone(call, Zone::to_utc)
        })
        .udf(),
        function(
            "convert_timezone",
            &[Param::Text, Param::Text, Param::Any],
            WALL,
            convert_timezone,
        )
        .optional(1)
        .coerced(|_, types| {
            let last = types.len() - 1;
            let mut wanted = vec![DataType::Utf8; last];
            match &types[last] {
                DataType::Timestamp(..)
                | DataType::Date32
                | DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Utf8View
                | DataType::Null => wanted.push(WALL),
                other => return unexpected("convert_timezone", last, "TIMESTAMP_NTZ", other),
            }
            Ok(wanted)
        })
        .udf(),
        function("current_timezone", &[], DataType::Utf8, |call| {
            call.texts(|_, out| {
                out.push_str(call.time_zone());
                Ok(Some(()))
            })
        })
        .udf(),
    ]
}

/// Zones by their names, of which rows mostly have the same.
#[derive(Default)]
struct Named(Option<(String, Zone)>);

impl Named {
    fn get(&mut self, name: &str) -> Result<Zone> {
        if let Some((known, zone)) = &self.0
            && known == name
        {
            return Ok(*zone);
        }
        let zone = named_zone(name)?;
        self.0 = Some((name.to_owned(), zone));
        Ok(zone)
    }
}

fn by_zone(call: &Call, change: fn(Zone, i64) -> Option<i64>) -> Result<ArrayRef> {
    let (times, names) = (call.primitive::<TimestampMicrosecondType>(0), call.text(1));
    let mut zones = Named::default();
    call.values::<TimestampMicrosecondType>(|row| {
        let (Some(time), Some(name)) = (times.get(row), names.get(row)) else {
            return Ok(None);
        };
        change(zones.get(name)?, time)
            .ok_or_else(overflow)
            .map(Some)
    })
}

fn convert_timezone(call: &Call) -> Result<ArrayRef> {
    let last = call.len() - 1;
    let session = zone(call)?;
    let sources = (last == 2).then(|| call.text(0));
    let (targets, times) = (
        call.text(last - 1),
        call.primitive::<TimestampMicrosecondType>(last),
    );
    let (mut from, mut to) = (Named::default(), Named::default());
    call.values::<TimestampMicrosecondType>(|row| {
        let source = match &sources {
            None => Some(session),
            Some(names) => names.get(row).map(|name| from.get(name)).transpose()?,
        };
        let (Some(source), Some(target), Some(wall)) = (source, targets.get(row), times.get(row))
        else {
            return Ok(None);
        };
        let target = to.get(target)?;
        let moved = source
            .to_utc(wall)
            .and_then(|instant| target.to_local(instant));
        moved.ok_or_else(overflow).map(Some)
    })
}
