//! A source whose offsets are those of a topic's partitions has the lag that dashboards for Kafka ask for.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde_json::{Value, json};
use tidemark::plan::catalog::Statement;
use tidemark::runtime::metrics::Metrics;
use tidemark::runtime::{QueryConfig, start};
use tidemark::session::Session;
use tidemark_connectors::sources::memory::MemorySource;
use tidemark_connectors::storage::Disk;
use tidemark_connectors::{PlannedRange, ReadLimit, Result, Source, SourceReader, open_sink};

use crate::LIMIT;
use crate::exposition::Page;

/// Batches in memory as the first of two partitions, with five records in each that cannot be read yet.
#[derive(Debug)]
struct Topic(MemorySource);

fn offsets(first: &Value, second: i64) -> Value {
    json!({"clicks": {"0": first, "1": second}})
}

impl Source for Topic {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn metadata_schema(&self) -> SchemaRef {
        self.0.metadata_schema()
    }

    fn description(&self) -> String {
        "Topic[clicks]".into()
    }

    fn restore(&mut self, _: &[PlannedRange]) -> Result<()> {
        Ok(())
    }

    fn latest_offset(&mut self) -> Result<Option<Value>> {
        let first = self.0.latest_offset()?.and_then(|first| first.as_i64());
        Ok(first.map(|first| offsets(&json!(first + 5), 5)))
    }

    fn plan(&mut self, limit: ReadLimit) -> Result<Option<PlannedRange>> {
        Ok(self.0.plan(limit)?.map(|range| PlannedRange {
            start: offsets(&range.start, 0),
            end: offsets(&range.end, 0),
            ..range
        }))
    }

    fn committed(&mut self, range: &PlannedRange) -> Result<()> {
        self.0.committed(range)
    }

    fn freeze(&mut self) -> Result<()> {
        self.0.freeze()
    }

    fn exhausted(&self) -> bool {
        self.0.exhausted()
    }

    fn poll_interval(&self) -> Duration {
        self.0.poll_interval()
    }

    fn reader(&self) -> Arc<dyn SourceReader> {
        self.0.reader()
    }
}

#[test]
fn topics_have_a_consumer_lag() {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    let source = MemorySource::new(Arc::clone(&schema)).one_batch_per_epoch();
    for n in 0..3 {
        let batch = RecordBatch::try_new(
            Arc::clone(&schema),
            vec![Arc::new(Int64Array::from(vec![n, n]))],
        );
        source.add(batch.expect("a batch")).expect("its schema");
    }
    let session = Session::builder().build().expect("a session");
    session.add_source("clicks", source.clone());
    let script = session.parse(
        "CREATE TABLE clicks (n BIGINT) WITH ('connector' = 'memory', 'name' = 'clicks');
         CREATE TABLE o WITH ('connector' = 'noop');
         INSERT INTO o SELECT n FROM clicks;",
        "topics",
    );
    let script = script.expect("a script");
    let Some(Statement::Query(query)) = script.statements.last() else {
        panic!("the script ends with a query")
    };
    let metrics = Arc::new(Metrics::new("shop"));
    let query = start(
        &session.plan(query).expect("a plan"),
        vec![Box::new(Topic(source))],
        |table, config| open_sink(&table.connector, &table.options, config),
        &QueryConfig {
            workers: 1,
            cluster: None,
            storage: Arc::new(Disk),
            metrics: Some(Arc::clone(&metrics)),
        },
        None,
    );
    let query = query.expect("it starts");
    let began = Instant::now();
    let page = loop {
        let text = metrics.page();
        let page = Page::parse(&text).unwrap_or_else(|why| panic!("{why}\n{text}"));
        if page.sum("spark_streaming_total_events", &[("app_id", "shop")]) == 6.0 {
            break page;
        }
        assert!(began.elapsed() < LIMIT, "the rows never came:\n{text}");
        sleep(Duration::from_millis(5));
    };
    let of = |name: &str, labels: &[(&str, &str)]| {
        let values = page.values(name, labels, "partition");
        values.into_iter().collect::<Vec<_>>()
    };
    let labels = [("app_id", "shop"), ("query", "o"), ("topic", "clicks")];
    let expected = [("0".into(), 5.0), ("1".into(), 5.0)];
    assert_eq!(of("kafka_consumer_lag", &labels), expected);
    let expected = [("clicks-0".into(), 5.0), ("clicks-1".into(), 5.0)];
    let labels = [("query", "o"), ("source", "clicks")];
    assert_eq!(of("tidemark_source_lag_offsets", &labels), expected);
    query.stop().expect("it ends well");
    let text = metrics.page();
    let page = Page::parse(&text).unwrap_or_else(|why| panic!("{why}\n{text}"));
    assert_eq!(page.sum("tidemark_query_running", &[]), 0.0);
    assert_eq!(page.sum("spark_streaming_total_events", &[]), 6.0);
    assert!(page.labels("kafka_consumer_lag").is_empty(), "{text}");
}
