use super::*;
use crate::checkpoint::manifest::tests::file;
use crate::checkpoint::{FileKind, Manifest, OffsetEntry, SourceRange};

fn entry(epoch: Epoch) -> OffsetEntry {
    OffsetEntry {
        epoch,
        watermark: epoch as i64 * 10,
        previous_watermark: (epoch as i64 - 1) * 10,
        timestamp_us: 1_000 + epoch as i64,
        partitions: Vec::new(),
        sources: vec![SourceRange::default()],
        no_data: false,
    }
}

fn group(first: Epoch, last: Epoch) -> Group {
    Group {
        entries: (first..=last).map(entry).collect(),
    }
}

fn commit(first: Epoch, last: Epoch) -> CommitEntry {
    CommitEntry {
        first,
        last,
        watermark: last as i64 * 10,
        output_rows: 5,
        ..Default::default()
    }
}

/// Groups and commits by their first and last epochs; each commit has a delta of one worker.
fn logs(groups: &[(Epoch, Epoch)], commits: &[(Epoch, Epoch)]) -> Logs {
    let files: Vec<_> = commits
        .iter()
        .map(|(f, l)| file(FileKind::Delta, 0, 1, *f, *l))
        .collect();
    Logs {
        groups: groups
            .iter()
            .map(|(first, last)| group(*first, *last))
            .collect(),
        commits: commits
            .iter()
            .map(|(first, last)| commit(*first, *last))
            .collect(),
        present: files
            .iter()
            .map(|file| (file.name.clone(), file.bytes))
            .collect(),
        manifest: Manifest::new(files),
    }
}

fn singles(epochs: std::ops::RangeInclusive<Epoch>) -> Vec<(Epoch, Epoch)> {
    epochs.map(|epoch| (epoch, epoch)).collect()
}

fn replayed(decision: Decision) -> Vec<(Epoch, Epoch, bool)> {
    match decision {
        Decision::ReplayThenCommit { groups, .. } => groups
            .iter()
            .map(|r| (r.group.first(), r.group.last(), r.sink_holds))
            .collect(),
        other => panic!("expected a replay, got {other:?}"),
    }
}

fn refused(decision: Decision) -> Refusal {
    match decision {
        Decision::Refuse(refusal) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn an_empty_checkpoint_is_ready_for_epoch_0() {
    assert_eq!(
        decide(&Logs::default(), None),
        Decision::Ready {
            next: 0,
            resume: None
        }
    );
}

#[test]
fn an_empty_checkpoint_with_a_sink_that_holds_rows_of_it_is_refused() {
    let refusal = refused(decide(&Logs::default(), Some(0)));
    assert_eq!(
        refusal,
        Refusal::SinkAhead {
            sink: 0,
            logged: None
        }
    );
    assert!(
        refusal.to_string().contains("its checkpoint is new"),
        "{refusal}"
    );
}

#[test]
fn all_committed_is_ready_for_the_next_epoch_whatever_the_sink_can_say() {
    let logs = logs(&singles(0..=4), &singles(0..=4));
    for sink in [None, Some(4)] {
        assert_eq!(
            decide(&logs, sink),
            Decision::Ready {
                next: 5,
                resume: Some(commit(4, 4))
            },
            "{sink:?}"
        );
    }
}

#[test]
fn the_first_epoch_logged_and_not_committed_is_replayed_from_nothing() {
    assert_eq!(
        decide(&logs(&[(0, 0)], &[]), None),
        Decision::ReplayThenCommit {
            groups: vec![Replay {
                group: group(0, 0),
                sink_holds: false
            }],
            resume: None,
            next: 1,
        }
    );
}

#[test]
fn an_epoch_logged_and_not_committed_is_replayed_with_its_ranges_and_watermark() {
    assert_eq!(
        decide(&logs(&singles(0..=4), &singles(0..=3)), Some(3)),
        Decision::ReplayThenCommit {
            groups: vec![Replay {
                group: group(4, 4),
                sink_holds: false
            }],
            resume: Some(commit(3, 3)),
            next: 5,
        }
    );
}

#[test]
fn a_replayed_epoch_that_the_sink_already_holds_is_skipped_by_it() {
    let logs = logs(&singles(0..=4), &singles(0..=3));
    assert_eq!(replayed(decide(&logs, Some(4))), [(4, 4, true)]);
    assert_eq!(replayed(decide(&logs, None)), [(4, 4, false)]);
}

#[test]
fn several_epochs_in_flight_are_replayed_in_order_and_the_sink_skips_those_it_holds() {
    let logs = logs(&singles(0..=5), &singles(0..=2));
    assert_eq!(
        replayed(decide(&logs, Some(3))),
        [(3, 3, true), (4, 4, false), (5, 5, false)]
    );
}

#[test]
fn a_group_is_replayed_as_a_whole() {
    let logs = logs(&[(0, 9), (10, 14)], &[(0, 9)]);
    assert_eq!(replayed(decide(&logs, Some(9))), [(10, 14, false)]);
    assert_eq!(replayed(decide(&logs, Some(14))), [(10, 14, true)]);
}

#[test]
fn a_sink_inside_a_group_is_refused() {
    let logs = logs(&[(0, 9), (10, 14)], &[(0, 9)]);
    for sink in 10..14 {
        assert_eq!(
            refused(decide(&logs, Some(sink))),
            Refusal::SinkInsideGroup {
                sink,
                first: 10,
                last: 14
            }
        );
    }
}

#[test]
fn a_commit_may_cover_several_groups() {
    let logs = logs(&singles(0..=5), &[(0, 2)]);
    assert_eq!(
        replayed(decide(&logs, Some(2))),
        [(3, 3, false), (4, 4, false), (5, 5, false)]
    );
}

#[test]
fn a_sink_ahead_of_the_offset_log_is_refused_with_the_remedy() {
    let refusal = refused(decide(&logs(&singles(0..=4), &singles(0..=4)), Some(7)));
    assert_eq!(
        refusal,
        Refusal::SinkAhead {
            sink: 7,
            logged: Some(4)
        }
    );
    let said = refusal.to_string();
    assert!(
        said.contains("epoch 7") && said.contains("none after epoch 4"),
        "{said}"
    );
    assert!(said.contains("'checkpointLocation'"), "{said}");
}

#[test]
fn a_sink_that_lost_committed_rows_is_refused() {
    assert_eq!(
        refused(decide(&logs(&singles(0..=4), &singles(0..=4)), Some(2))),
        Refusal::SinkBehind {
            sink: 2,
            committed: 4,
            rows: 10
        }
    );
}

#[test]
fn a_sink_behind_by_epochs_without_rows_is_no_loss() {
    let mut logs = logs(&singles(0..=5), &singles(0..=4));
    for commit in &mut logs.commits[3..] {
        commit.output_rows = 0;
    }
    assert_eq!(replayed(decide(&logs, Some(2))), [(5, 5, false)]);
}

#[test]
fn a_missing_state_file_is_refused_by_name() {
    let mut logs = logs(&singles(0..=1), &singles(0..=1));
    logs.present.remove("delta-1-1-0of1");
    let refusal = refused(decide(&logs, None));
    assert!(
        refusal.to_string().contains("delta-1-1-0of1 is missing"),
        "{refusal}"
    );
}

#[test]
fn a_state_file_of_another_length_is_refused_by_name() {
    let mut logs = logs(&singles(0..=1), &singles(0..=1));
    logs.present.insert("delta-0-0-0of1".into(), 3);
    let refusal = refused(decide(&logs, None));
    assert!(
        refusal
            .to_string()
            .contains("delta-0-0-0of1 has 3 bytes instead of 10"),
        "{refusal}"
    );
}

#[test]
fn a_missing_file_that_the_newest_epoch_does_not_need_is_no_reason_to_refuse() {
    let mut logs = logs(&singles(0..=1), &singles(0..=1));
    logs.manifest.add([StateFileAt::snapshot(1)]);
    logs.present.insert(StateFileAt::snapshot(1).name, 10);
    logs.present.remove("delta-0-0-0of1");
    assert!(matches!(
        decide(&logs, None),
        Decision::Ready { next: 2, .. }
    ));
}

struct StateFileAt;

impl StateFileAt {
    fn snapshot(last: Epoch) -> crate::checkpoint::StateFile {
        file(FileKind::Snapshot, 0, 1, 0, last)
    }
}

#[test]
fn a_state_that_needs_no_files_needs_none() {
    let mut logs = logs(&singles(0..=1), &singles(0..=1));
    logs.manifest = Manifest::default();
    logs.present.clear();
    assert!(matches!(
        decide(&logs, None),
        Decision::Ready { next: 2, .. }
    ));
}

#[test]
fn purged_logs_are_as_good_as_whole_ones() {
    let mut logs = logs(&singles(0..=6), &singles(0..=5));
    logs.groups.drain(..5);
    logs.commits.drain(..5);
    assert_eq!(replayed(decide(&logs, Some(5))), [(6, 6, false)]);
    logs.groups.remove(0);
    assert_eq!(replayed(decide(&logs, Some(5))), [(6, 6, false)]);
}

#[test]
fn a_gap_in_the_offset_log_is_refused() {
    for groups in [
        &[(0, 0), (2, 2)][..],
        &[(3, 3)][..],
        &[(0, 0), (1, 1), (3, 3)][..],
    ] {
        let refusal = refused(decide(&logs(groups, &[(0, 0)]), None));
        assert!(
            matches!(refusal, Refusal::BrokenLog { .. }),
            "{groups:?}: {refusal}"
        );
    }
}

#[test]
fn an_offset_log_that_begins_late_without_a_commit_is_refused() {
    let refusal = refused(decide(&logs(&[(3, 3)], &[]), None));
    assert!(
        refusal
            .to_string()
            .contains("epoch 3 where epoch 0 is next"),
        "{refusal}"
    );
}

#[test]
fn a_gap_in_the_commit_log_is_refused() {
    let refusal = refused(decide(&logs(&singles(0..=4), &[(0, 0), (2, 2)]), None));
    assert!(matches!(refusal, Refusal::BrokenLog { .. }), "{refusal}");
}

#[test]
fn a_commit_that_ends_inside_a_group_is_refused() {
    let refusal = refused(decide(&logs(&[(0, 4)], &[(0, 2)]), None));
    assert!(
        refusal.to_string().contains("epoch 2 is committed"),
        "{refusal}"
    );
}

#[test]
fn a_watermark_that_goes_back_is_refused() {
    let mut logs = logs(&singles(0..=4), &singles(0..=3));
    logs.groups[4].entries[0].watermark = 29;
    assert!(matches!(
        refused(decide(&logs, None)),
        Refusal::BrokenLog { .. }
    ));
}
