//! Offsets by topic and partition.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Map, Value, json};

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TopicPartition {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
}

impl TopicPartition {
    pub(crate) fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// An offset (or a number in its place: a time, a count) for each of some partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offsets(pub(crate) BTreeMap<TopicPartition, i64>);

impl Offsets {
    pub(crate) fn get(&self, of: &TopicPartition) -> Option<i64> {
        self.0.get(of).copied()
    }

    /// `{"topic":{"0":23,"1":-2}}`, Spark's form.
    pub(crate) fn to_json(&self) -> Value {
        let mut topics: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
        for (of, offset) in &self.0 {
            topics
                .entry(&of.topic)
                .or_default()
                .insert(of.partition.to_string(), json!(offset));
        }
        topics
            .into_iter()
            .map(|(topic, partitions)| (topic.to_owned(), Value::Object(partitions)))
            .collect::<Map<_, _>>()
            .into()
    }

    /// Of [`Self::to_json`]; `None` where it is none.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let mut offsets = BTreeMap::new();
        for (topic, partitions) in value.as_object()? {
            let topic: Arc<str> = Arc::from(topic.as_str());
            for (partition, offset) in partitions.as_object()? {
                let of = TopicPartition::new(Arc::clone(&topic), partition.parse().ok()?);
                offsets.insert(of, offset.as_i64()?);
            }
        }
        Some(Self(offsets))
    }

    /// As librdkafka takes it.
    pub(crate) fn to_list(&self) -> rdkafka::error::KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::with_capacity(self.0.len());
        for (of, offset) in &self.0 {
            list.add_partition_offset(&of.topic, of.partition, Offset::from_raw(*offset))?;
        }
        Ok(list)
    }
}

impl FromIterator<(TopicPartition, i64)> for Offsets {
    fn from_iter<I: IntoIterator<Item = (TopicPartition, i64)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_goes_both_ways_and_other_json_is_refused() {
        let text = json!({"a": {"0": 23, "10": -2}, "b": {"1": 5}});
        let offsets = Offsets::from_json(&text).expect("offsets");
        assert_eq!(offsets.get(&TopicPartition::new("a", 10)), Some(-2));
        assert_eq!(offsets.to_json(), text);
        for other in [
            json!(3),
            json!({"a": 1}),
            json!({"a": {"x": 1}}),
            json!({"a": {"0": "1"}}),
        ] {
            assert_eq!(Offsets::from_json(&other), None, "{other}");
        }
    }
}
