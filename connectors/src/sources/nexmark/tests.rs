use std::collections::{BTreeMap, BTreeSet};

use arrow::array::AsArray;
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Int64Type, TimeUnit, TimestampMicrosecondType};

use super::model::{BASE_TIME, Prices};
use super::*;

fn open(pairs: &[(&str, &str)]) -> Result<NexmarkSource> {
    NexmarkSource::open(&pairs.iter().copied().collect(), None)
}

fn read(source: &NexmarkSource, range: &PlannedRange, projection: &[usize]) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    for split in &range.splits {
        let mut reader = source.reader().open(split, projection).expect("a split");
        while let Read::Batch { batch, .. } = reader.read().expect("a batch") {
            batches.push(batch);
        }
    }
    batches
}

/// All rows, with all columns.
fn all(pairs: &[(&str, &str)]) -> RecordBatch {
    let mut source = open(pairs).expect("a source");
    let projection: Vec<usize> = (0..source.schema().fields().len()).collect();
    let mut batches = vec![];
    while let Some(range) = source.plan(ReadLimit::default()).expect("a plan") {
        batches.extend(read(&source, &range, &projection));
    }
    assert!(source.exhausted());
    concat_batches(&source.schema(), &batches).expect("one batch")
}

fn numbers(batch: &RecordBatch, column: &str) -> Vec<i64> {
    let column = batch.column_by_name(column).expect("a column");
    column.as_primitive::<Int64Type>().values().to_vec()
}

fn times(batch: &RecordBatch, column: &str) -> Vec<i64> {
    let column = batch.column_by_name(column).expect("a column");
    let values = column.as_primitive::<TimestampMicrosecondType>().values();
    values.iter().map(|time| time / 1000 - BASE_TIME).collect()
}

fn texts<'a>(batch: &'a RecordBatch, column: &str) -> Vec<&'a str> {
    let column = batch.column_by_name(column).expect("a column");
    column.as_string::<i32>().iter().flatten().collect()
}

#[test]
fn events_do_not_depend_on_epochs_or_partitions() {
    for table in ["person", "auction", "bid"] {
        let rows = |more: &[(&str, &str)]| {
            let mut pairs = vec![("table", table), ("events", "20000"), ("seed", "7")];
            pairs.extend(more);
            let batch = all(&pairs);
            let rows = (0..batch.num_rows()).map(|row| format!("{:?}", batch.slice(row, 1)));
            rows.collect::<BTreeSet<_>>()
        };
        let one = rows(&[]);
        assert!(one == rows(&[("numPartitions", "3"), ("maxOffsetsPerTrigger", "777")]));
        assert!(one == rows(&[("outOfOrder", "1000")]));
        assert!(one != rows(&[("seed", "8")]));
    }
}

#[test]
fn a_column_is_the_same_with_and_without_others() {
    let mut source = open(&[("table", "bid"), ("events", "1000")]).expect("a source");
    let range = source
        .plan(ReadLimit::default())
        .expect("a plan")
        .expect("rows");
    let whole = &read(&source, &range, &[0, 1, 2, 3, 4, 5, 6])[0];
    assert_eq!(whole.num_rows(), 920);
    for column in 0..7 {
        assert_eq!(
            read(&source, &range, &[column])[0].column(0),
            whole.column(column)
        );
    }
    assert_eq!(read(&source, &range, &[])[0].num_rows(), 920);
}

#[test]
fn the_standards_proportions_and_ratios_hold() {
    let pairs = |table| [("table", table), ("events", "500000"), ("rate", "100000")];
    let (people, auctions, bids) = (
        all(&pairs("person")),
        all(&pairs("auction")),
        all(&pairs("bid")),
    );
    assert_eq!(
        (people.num_rows(), auctions.num_rows(), bids.num_rows()),
        (10_000, 30_000, 460_000)
    );
    assert!(numbers(&people, "id").into_iter().eq(1000..11_000));
    assert!(numbers(&auctions, "id").into_iter().eq(1000..31_000));
    // Each hundredth auction gets half of the bids while it is hot.
    let mut of_auction = BTreeMap::<i64, usize>::new();
    for auction in numbers(&bids, "auction") {
        *of_auction.entry(auction).or_default() += 1;
    }
    let hot: usize = (1000..31_000)
        .step_by(100)
        .filter_map(|auction| of_auction.get(&auction))
        .sum();
    assert!((228_000..240_000).contains(&hot), "{hot}");
    let share = |values: Vec<i64>, hot: i64| {
        let some = values.iter().filter(|value| **value % 100 == hot).count();
        some * 100 / values.len()
    };
    assert_eq!(share(numbers(&bids, "bidder"), 1), 75);
    assert_eq!(share(numbers(&auctions, "seller"), 0), 75);
    let categories: BTreeSet<i64> = numbers(&auctions, "category").into_iter().collect();
    assert!(categories.into_iter().eq(10..15));
    // The average bytes of the standard: id and numbers, texts, padding.
    let long = |batch: &RecordBatch, columns: &[&str]| {
        let all = columns.iter().flat_map(|column| texts(batch, column));
        all.map(str::len).sum::<usize>() / batch.num_rows()
    };
    let person = [
        "name",
        "emailAddress",
        "creditCard",
        "city",
        "state",
        "extra",
    ];
    assert!((190..=194).contains(&long(&people, &person)));
    assert!((450..=454).contains(&long(&auctions, &["itemName", "description", "extra"])));
    assert!((66..=69).contains(&long(&bids, &["extra"])));
    // Auctions end behind their beginning, on average when a hundred more have begun.
    let open = times(&auctions, "expires")
        .into_iter()
        .zip(times(&auctions, "dateTime"));
    let open: Vec<i64> = open.map(|(end, begin)| end - begin).collect();
    assert!(open.iter().all(|open| (1..=34).contains(open)));
    assert!((15..=18).contains(&(open.iter().sum::<i64>() / 30_000)));
    // Half of the bids come through the four hot channels.
    let hot = texts(&bids, "channel")
        .into_iter()
        .filter(|channel| !channel.starts_with("channel-"));
    assert!((225_000..235_000).contains(&hot.count()));
    let with_id = texts(&bids, "url")
        .into_iter()
        .filter(|url| url.contains("&channel_id="));
    assert!((200_000..213_000).contains(&with_id.count()));
}

#[test]
fn a_channel_has_one_address() {
    let bids = all(&[("table", "bid"), ("events", "50000")]);
    let mut known = BTreeMap::new();
    for (channel, url) in texts(&bids, "channel").into_iter().zip(texts(&bids, "url")) {
        assert_eq!(*known.entry(channel).or_insert(url), url);
        assert!(url.starts_with("https://www.nexmark.com/") && url.matches('/').count() == 6);
    }
    assert!(known.len() > 8_000);
}

#[test]
fn prices_spread_over_six_powers_of_ten() {
    let prices = Prices::new();
    assert_eq!(prices.at(0), 100);
    assert_eq!(prices.at(u64::MAX), 100_000_000);
    assert!((99_990..=100_010).contains(&prices.at(1 << 63)));
}

#[test]
fn event_time_follows_the_rate_and_disorder_stays_in_its_group() {
    let pairs = [("table", "bid"), ("events", "10000"), ("rate", "1000")];
    let ordered = times(&all(&pairs), "dateTime");
    assert!(ordered.is_sorted());
    assert_eq!((ordered[0], ordered[9199]), (4, 9999));
    let mut pairs = pairs.to_vec();
    pairs.push(("outOfOrder", "500"));
    let shuffled = times(&all(&pairs), "dateTime");
    assert!(!shuffled.is_sorted());
    let mut greatest = 0;
    for time in shuffled {
        assert!(greatest - time < 500);
        greatest = greatest.max(time);
    }
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let pairs = [("table", "auction"), ("events", "1000")];
    let mut source = open(&pairs).expect("a source");
    let limit = ReadLimit {
        rows: Some(600),
        bytes: None,
    };
    let first = source.plan(limit).expect("a plan").expect("rows");
    let mut again = open(&pairs).expect("a source");
    again.restore(&[first]).expect("restored");
    let rest = again
        .plan(ReadLimit::default())
        .expect("a plan")
        .expect("rows");
    assert_eq!(numbers(&read(&again, &rest, &[0])[0], "id")[0], 1036);
    assert!(again.plan(ReadLimit::default()).expect("a plan").is_none());
    assert!(again.exhausted());
}

#[test]
fn without_an_end_the_rate_is_the_pace() {
    let mut source = open(&[("table", "bid"), ("rate", "1000")]).expect("a source");
    assert!(source.plan(ReadLimit::default()).expect("a plan").is_none());
    let ago = std::time::Instant::now().checked_sub(Duration::from_secs(2));
    source.counter.since = ago.map(|since| (since, 0));
    let range = source
        .plan(ReadLimit::default())
        .expect("a plan")
        .expect("rows");
    let end = range.end.as_u64().expect("a number");
    assert!((2000..3000).contains(&end), "{end}");
}

#[test]
fn mistakes_are_named() {
    for (pairs, expected) in [
        (vec![("events", "5")], "needs the option 'table'"),
        (vec![("table", "bids")], "person, auction or bid"),
        (
            vec![("table", "bid"), ("event", "5")],
            "did you mean 'events'",
        ),
        (vec![("table", "bid"), ("rate", "0")], "at least 1"),
        (
            vec![("table", "bid"), ("outOfOrder", "1906")],
            "no multiple of 953",
        ),
    ] {
        let error = open(&pairs).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let declare = |fields: Vec<Field>| {
        let options = [("table", "person")].into_iter().collect();
        NexmarkSource::open(&options, Some(&Arc::new(Schema::new(fields))))
    };
    let some = declare(vec![
        Field::new("state", DataType::Utf8, true),
        Field::new("ID", DataType::Int64, true),
    ]);
    assert_eq!(
        some.expect("a source").reader.contents,
        [Content::State, Content::Id]
    );
    for (name, data_type) in [
        ("price", DataType::Int64),
        ("id", DataType::Utf8),
        ("dateTime", DataType::Timestamp(TimeUnit::Microsecond, None)),
    ] {
        let error = declare(vec![Field::new(name, data_type, true)]).unwrap_err();
        assert!(error.to_string().contains("emailAddress STRING"), "{error}");
    }
}
