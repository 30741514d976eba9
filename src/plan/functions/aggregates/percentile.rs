//! Percentiles and histograms of values in their order.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err};

use super::fold::{Values, doubles};
use super::total::typed;

/// The shares that a call asks for, each in 0..=1: one, or an array of them.
enum Shares {
    One(f64),
    Many(Vec<f64>),
}

impl Shares {
    fn new(constant: &ScalarValue) -> Result<Self> {
        if let ScalarValue::List(list) = constant {
            let values = doubles(&list.value(0))?;
            let values = values.as_primitive::<Float64Type>();
            return Ok(Self::Many(values.values().to_vec()));
        }
        if let ScalarValue::Float64(Some(share)) = constant.cast_to(&DataType::Float64)? {
            Ok(Self::One(share))
        } else {
            exec_err!("a percentile needs a constant percentage")
        }
    }

    /// The result: `of` each share; null of no values.
    fn each(
        &self,
        empty: bool,
        output: &DataType,
        of: impl Fn(f64, &DataType) -> Result<ScalarValue>,
    ) -> Result<ScalarValue> {
        match (self, output) {
            _ if empty => ScalarValue::try_from(output),
            (Self::One(share), _) => of(*share, output),
            (Self::Many(shares), DataType::List(field)) => {
                let inner = field.data_type();
                let values = shares.iter().map(|share| of(*share, inner));
                let values = values.collect::<Result<Vec<_>>>()?;
                Ok(ScalarValue::List(ScalarValue::new_list(
                    &values,
                    inner,
                    field.is_nullable(),
                )))
            }
            (Self::Many(_), _) => exec_err!("several percentages give an array, not {output}"),
        }
    }
}

/// For each row how many there are up to it, and all of them.
fn running(counts: &[i64]) -> (Vec<i64>, i64) {
    let mut total = 0_i64;
    let running = counts.iter().map(|count| {
        total = total.saturating_add(*count);
        total
    });
    let running = running.collect();
    (running, total)
}

/// `percentile`: between the two values next to the place.
pub(super) fn between(
    group: &Values,
    share: &ScalarValue,
    output: &DataType,
) -> Result<ScalarValue> {
    let places = group.places()?;
    let values = places.as_primitive::<Float64Type>();
    let (running, total) = running(&group.counts);
    let at = |place: f64| values.value(running.partition_point(|upto| *upto <= place as i64));
    Shares::new(share)?.each(total == 0, output, |share, output| {
        let place = (total - 1) as f64 * share;
        let (lower, upper) = (at(place.floor()), at(place.ceil()));
        let value = if lower.total_cmp(&upper).is_eq() {
            lower
        } else {
            (place.ceil() - place) * lower + (place - place.floor()) * upper
        };
        if output == &DataType::Float64 {
            return Ok(ScalarValue::from(value));
        }
        // Of an interval what is less than its unit is cut.
        ScalarValue::try_from_array(&typed([Some(value as i128)], output)?, 0)
    })
}

/// `percentile_disc` and `approx_percentile`: the first value that so many rows reach.
pub(super) fn at(group: &Values, share: &ScalarValue, output: &DataType) -> Result<ScalarValue> {
    let (running, total) = running(&group.counts);
    Shares::new(share)?.each(total == 0, output, |share, output| {
        let rank = ((total as f64 * share).ceil() as i64).clamp(1, total);
        group.value(running.partition_point(|upto| *upto < rank), output)
    })
}

/// `histogram_numeric`: bins of (value, rows), of which the two nearest become one while there are
/// too many (Ben-Haim and Tom-Tov's streaming histogram, over the values in their order).
pub(super) fn histogram(
    group: &Values,
    bins: &ScalarValue,
    output: &DataType,
) -> Result<ScalarValue> {
    let ScalarValue::Int64(Some(most)) = bins.cast_to(&DataType::Int64)? else {
        return exec_err!("histogram_numeric needs a constant number of bins");
    };
    let DataType::List(field) = output else {
        return exec_err!("a histogram is an array, not {output}");
    };
    let DataType::Struct(of_bin) = field.data_type() else {
        return exec_err!("a bin is a struct, not {}", field.data_type());
    };
    let (value_type, input_type) = (of_bin[0].data_type(), group.first.data_type());
    let numeric = input_type.is_numeric();
    let places = group.places()?;
    let mut kept: Vec<(f64, f64)> = vec![];
    for (place, count) in places
        .as_primitive::<Float64Type>()
        .values()
        .iter()
        .zip(&group.counts)
    {
        kept.push((*place, *count as f64));
        if kept.len() as i64 > most && kept.len() > 1 {
            let gap = |at: &usize| kept[at + 1].0 - kept[*at].0;
            let nearest = (0..kept.len() - 1).min_by(|a, b| gap(a).total_cmp(&gap(b)));
            let nearest = nearest.unwrap_or(0);
            let (x, y) = kept.remove(nearest + 1);
            let (before, rows) = kept[nearest];
            kept[nearest] = ((before * rows + x * y) / (rows + y), rows + y);
        }
    }
    if kept.is_empty() {
        return ScalarValue::try_from(output);
    }
    let values = kept.iter().map(|(x, y)| {
        let place = ScalarValue::from(*x);
        let place = if numeric {
            place.cast_to(value_type)?
        } else {
            place.cast_to(&DataType::Int64)?.cast_to(value_type)?
        };
        let columns = vec![place.to_array()?, ScalarValue::from(*y).to_array()?];
        let bin = arrow::array::StructArray::try_new(of_bin.clone(), columns, None)?;
        Ok(ScalarValue::Struct(std::sync::Arc::new(bin)))
    });
    let values = values.collect::<Result<Vec<_>>>()?;
    Ok(ScalarValue::List(ScalarValue::new_list(
        &values,
        field.data_type(),
        field.is_nullable(),
    )))
}
