//! How far a source is read, partition by partition: from the offsets that progress shows.
//!
//! An offset is a number, or an object of offsets by name: `{"clicks":{"0":23,"1":42}}` are those of
//! a topic's partitions. So the lag of any source that says its latest offset is known without knowing
//! the source.

use std::collections::BTreeMap;

use serde_json::Value;

/// Of how many partitions of a source each has series of its own. The others are one, `other`.
pub(super) const MOST_PARTITIONS: usize = 1000;

/// The name of what does not have series of its own.
pub(super) const OTHER: &str = "other";

/// How far one partition is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::runtime) struct Lag {
    /// The names on the way to its number; none where the source has one number.
    pub(super) way: Vec<String>,
    /// How much there was to read behind what the epoch took.
    pub(in crate::runtime) offsets: u64,
}

/// The lag of each partition that both offsets name, by the partition's name.
pub(in crate::runtime) fn lags(end: &Value, latest: &Value) -> BTreeMap<String, Lag> {
    let mut found = vec![];
    collect(&mut vec![], end, latest, &mut found);
    let named = found.into_iter().map(|lag| (lag.way.join("-"), lag));
    bounded(named, |rest, lag| {
        rest.way.fill(OTHER.into());
        rest.offsets += lag.offsets;
    })
}

fn collect(way: &mut Vec<String>, end: &Value, latest: &Value, found: &mut Vec<Lag>) {
    match (end, latest) {
        (Value::Number(end), Value::Number(latest)) => {
            if let (Some(end), Some(latest)) = (end.as_i64(), latest.as_i64()) {
                found.push(Lag {
                    way: way.clone(),
                    offsets: latest.saturating_sub(end).max(0).unsigned_abs(),
                });
            }
        }
        (Value::Object(ends), Value::Object(latest)) => {
            for (name, latest) in latest {
                if let Some(end) = ends.get(name) {
                    way.push(name.clone());
                    collect(way, end, latest, found);
                    way.pop();
                }
            }
        }
        _ => {}
    }
}

/// The first [`MOST_PARTITIONS`] as they are, the others put together.
pub(super) fn bounded<T>(
    all: impl IntoIterator<Item = (String, T)>,
    mut put_together: impl FnMut(&mut T, T),
) -> BTreeMap<String, T> {
    let mut kept = BTreeMap::new();
    let mut rest = None;
    for (name, one) in all {
        if kept.len() < MOST_PARTITIONS {
            kept.insert(name, one);
        } else {
            match &mut rest {
                None => rest = Some(one),
                Some(rest) => put_together(rest, one),
            }
        }
    }
    kept.extend(rest.map(|rest| (OTHER.to_owned(), rest)));
    kept
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(end: &Value, latest: &Value) -> Vec<(String, u64)> {
        let lags = lags(end, latest).into_iter();
        lags.map(|(name, lag)| (name, lag.offsets)).collect()
    }

    #[test]
    fn offsets_of_any_shape_give_a_lag() {
        assert_eq!(of(&json!(3), &json!(10)), [(String::new(), 7)]);
        assert_eq!(of(&json!(3), &json!(1)), [(String::new(), 0)]);
        let end = json!({"b": {"0": 5, "1": 5}, "a": {"0": 1}});
        let latest = json!({"b": {"0": 9, "1": 5, "2": 7}, "a": {"0": 4}, "c": {"0": 1}});
        let expected = [("a-0", 3), ("b-0", 4), ("b-1", 0)];
        assert_eq!(of(&end, &latest), expected.map(|(n, lag)| (n.into(), lag)));
        assert_eq!(lags(&end, &latest)["b-0"].way, ["b", "0"]);
        assert_eq!(of(&Value::Null, &latest), []);
        assert_eq!(of(&end, &json!("late")), []);
    }

    #[test]
    fn many_partitions_are_bounded_and_their_sum_is_right() {
        let offsets = |by: i64| -> Value {
            let partitions = (0..5000).map(|n| (n.to_string(), json!(n + by)));
            json!({"t": partitions.collect::<serde_json::Map<_, _>>()})
        };
        let lags = lags(&offsets(0), &offsets(3));
        assert_eq!(lags.len(), MOST_PARTITIONS + 1);
        assert_eq!(lags.values().map(|lag| lag.offsets).sum::<u64>(), 15_000);
        assert_eq!(lags[OTHER].way, [OTHER, OTHER]);
    }
}
