use tidemark_connectors::OutputMode;

use super::*;
use crate::checkpoint::{OperatorSize, PartitionState};
use crate::plan::outline::{OperatorOutline, Role, SourceOutline, WatermarkOutline};
use crate::state::Waiting;

const SECOND: i64 = 1_000_000;
/// 2026-01-01 12:00:00.
const NOON: i64 = 1_767_268_800 * SECOND;

fn outline() -> Outline {
    Outline {
        mode: OutputMode::Append,
        sink: "counts (file)".into(),
        ends: false,
        fastest_decides: false,
        sources: vec![SourceOutline {
            name: "clicks".into(),
            place: "kafka, subscribe = clicks".into(),
            streaming: true,
            from_latest: true,
            watermark: Some(WatermarkOutline {
                column: "ts".into(),
                delay: 0,
                idle_timeout: None,
            }),
        }],
        operators: vec![OperatorOutline {
            id: 2,
            text: "Aggregate".into(),
            role: Role::OnClose {
                unit: "window".into(),
            },
        }],
    }
}

/// What is said of a query with this commit, whose partitions have so many records unread.
fn said(commit: Option<&CommitEntry>, unread: &[(&str, u64)]) -> String {
    let unread = unread
        .iter()
        .map(|(name, count)| ((*name).to_owned(), *count));
    let subject = Subject {
        name: "counts",
        outline: &outline(),
        state: State::Running {
            doing: "Processing new data".into(),
            busy: Some(Duration::from_secs(7)),
        },
        commit,
        unread: vec![Some(unread.collect())],
        silent: None,
        held: None,
        now: NOON,
    };
    let told = subject.told();
    told.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_partition_that_lags_is_told_from_one_that_is_silent() {
    let partition = |name: &str, minutes: i64| PartitionState {
        source: 0,
        partition: name.into(),
        max_event_time: Some(NOON + minutes * 60 * SECOND),
        idle: false,
        last_data_us: Some(NOON - 5 * SECOND),
        seen: crate::checkpoint::Seen::default(),
    };
    let mut commit = CommitEntry {
        watermark: NOON,
        partitions: vec![partition("clicks-0", 30), partition("clicks-1", 0)],
        operators: vec![OperatorSize {
            operator: 2,
            rows: 3,
            waiting: Some(Waiting {
                rows: 3,
                next: vec![(NOON + 300 * SECOND, 2)],
                last: Some(NOON + 300 * SECOND),
            }),
            ..OperatorSize::default()
        }],
        ..CommitEntry::default()
    };
    commit.history.read = vec![10];
    let lags = said(Some(&commit), &[("clicks-0", 0), ("clicks-1", 1234)]);
    for wanted in [
        "it runs; an epoch has been under way for 7 seconds",
        "3 rows wait in operator 2 (Aggregate)",
        "The first 2 come out when the watermark reaches 2026-01-01T12:05:00Z; it stands at 2026-01-01T12:00:00Z, 5 minutes before.",
        "The watermark is held by partition clicks-1 of clicks: the newest ts there is 2026-01-01T12:00:00Z, and others are up to 30 minutes ahead; it lags: 1,234 records of it were there and not read after the last epoch. It takes a row with a ts of 2026-01-01T12:05:00Z or later there.",
        "5 seconds ago 1,234 <- holds the watermark",
    ] {
        assert!(lags.contains(wanted), "'{wanted}' is not in: {lags}");
    }
    assert!(!lags.contains("idleTimeout"), "{lags}");
    let silent = said(Some(&commit), &[("clicks-0", 0), ("clicks-1", 0)]);
    assert!(
        silent.contains("the last rows came 5 seconds ago"),
        "{silent}"
    );
    assert!(
        silent.contains("'idleTimeout' = '1 minute' on table clicks"),
        "{silent}"
    );
}

#[test]
fn a_topic_of_which_nothing_was_read_is_told_of_with_where_reading_begins() {
    let empty = said(None, &[]);
    let wanted = "No row of clicks (kafka, subscribe = clicks) has been read: only what arrives after the first start is read ('startingOffsets' is 'latest' where nothing else is said)";
    assert!(empty.contains(wanted), "{empty}");
    assert!(empty.contains("Nothing has come out yet:"), "{empty}");
}
