use registry_proto::v1::InstanceEvent;

use super::*;

const EPOCH: u64 = 77;

fn header(staleness_ms: u64) -> Option<ResponseHeader> {
    let staleness = Duration::from_millis(staleness_ms).try_into().ok();
    Some(ResponseHeader { epoch: EPOCH, staleness, ..Default::default() })
}

fn message(kind: WatchKind, revision: u64) -> WatchResponse {
    WatchResponse { kind: kind.into(), revision, header: header(0), ..Default::default() }
}

fn changes(revisions: &[(u64, usize, bool)], up_to: u64) -> WatchResponse {
    let changes = revisions
        .iter()
        .map(|&(revision, events, more)| RevisionChanges {
            revision,
            events: vec![InstanceEvent::default(); events],
            more,
        })
        .collect();
    WatchResponse { kind: WatchKind::Changes.into(), revision: up_to, changes, ..Default::default() }
}

fn told(progress: &mut Progress) -> Vec<String> {
    std::iter::from_fn(|| progress.pop())
        .map(|event| match event {
            WatchEvent::Snapshot { instances, position, .. } => {
                format!("snapshot of {} at {}", instances.len(), position.revision)
            }
            WatchEvent::Resumed { position, .. } => format!("resumed at {}", position.revision),
            WatchEvent::Changes { changes, .. } => format!("{}: {}", changes.revision, changes.events.len()),
            WatchEvent::Bookmark { position, .. } => format!("bookmark {}", position.revision),
            WatchEvent::Compacted { oldest_revision } => format!("compacted {oldest_revision}"),
            WatchEvent::EpochChanged => "epoch".into(),
            other => format!("{other:?}"),
        })
        .collect()
}

fn synced_at(revision: u64) -> Progress {
    let mut progress = Progress::new(WatchRequest::default(), Duration::from_secs(10));
    assert_eq!(progress.begin().resume, None);
    let instances = vec![Instance::default(); 2];
    progress.receive(WatchResponse { instances, ..message(WatchKind::Snapshot, 0) });
    progress.receive(message(WatchKind::Synced, revision));
    assert_eq!(told(&mut progress), [format!("snapshot of 2 at {revision}")]);
    progress
}

#[test]
fn a_snapshot_is_told_when_it_is_complete_and_begun_anew_when_it_breaks() {
    let mut progress = Progress::new(WatchRequest::default(), Duration::from_secs(10));
    progress.begin();
    let part = WatchResponse { instances: vec![Instance::default()], ..message(WatchKind::Snapshot, 0) };
    progress.receive(part.clone());
    assert!(told(&mut progress).is_empty());
    assert_eq!(progress.begin().resume, None);
    progress.receive(part);
    progress.receive(message(WatchKind::Synced, 5));
    assert_eq!(told(&mut progress), ["snapshot of 1 at 5"]);
}

#[test]
fn an_empty_view_is_a_snapshot_too() {
    let mut progress = Progress::new(WatchRequest::default(), Duration::from_secs(10));
    progress.begin();
    progress.receive(message(WatchKind::Synced, 9));
    assert_eq!(told(&mut progress), ["snapshot of 0 at 9"]);
    assert_eq!(progress.begin().resume, Some(Position { epoch: EPOCH, revision: 9 }));
}

#[test]
fn a_revision_in_parts_is_told_whole_and_resumed_before_its_last_part() {
    let mut progress = synced_at(5);
    progress.receive(changes(&[(6, 1, false), (7, 2, true)], 6));
    assert_eq!(told(&mut progress), ["6: 1"]);
    assert_eq!(progress.begin().resume, Some(Position { epoch: EPOCH, revision: 6 }));
    progress.receive(changes(&[(7, 2, true)], 6));
    progress.receive(changes(&[(7, 3, false), (8, 1, false)], 8));
    progress.receive(message(WatchKind::Synced, 8));
    assert_eq!(told(&mut progress), ["7: 5", "8: 1", "resumed at 8"]);
}

#[test]
fn a_revision_told_before_is_not_told_again() {
    let mut progress = synced_at(5);
    progress.receive(changes(&[(6, 1, false)], 6));
    progress.begin();
    progress.receive(changes(&[(5, 1, false), (6, 1, false), (9, 1, false)], 9));
    assert_eq!(told(&mut progress), ["6: 1", "9: 1"]);
}

#[test]
fn a_compacted_position_heals_by_a_snapshot() {
    let mut progress = synced_at(5);
    progress.begin();
    progress.receive(WatchResponse { oldest_revision: 40, ..message(WatchKind::Compacted, 0) });
    progress.receive(message(WatchKind::Synced, 50));
    assert_eq!(told(&mut progress), ["compacted 40", "snapshot of 0 at 50"]);
}

#[test]
fn another_epoch_makes_lower_revisions_new() {
    let mut progress = synced_at(500);
    progress.begin();
    let other = |kind, revision| {
        let header = Some(ResponseHeader { epoch: 99, ..Default::default() });
        WatchResponse { header, ..message(kind, revision) }
    };
    progress.receive(other(WatchKind::EpochChanged, 0));
    progress.receive(other(WatchKind::Synced, 3));
    progress.receive(changes(&[(4, 1, false)], 4));
    assert_eq!(told(&mut progress), ["epoch", "snapshot of 0 at 3", "4: 1"]);
    assert_eq!(progress.position(), Some(Position { epoch: 99, revision: 4 }));
}

#[test]
fn data_that_is_old_or_of_unknown_age_sends_the_watch_elsewhere() {
    let mut progress = synced_at(5);
    let bookmark = |header| WatchResponse { header, ..message(WatchKind::Bookmark, 6) };
    assert!(matches!(progress.receive(bookmark(header(9_000))), Flow::Continue));
    let flow = progress.receive(bookmark(header(11_000)));
    assert!(matches!(flow, Flow::Reopen { elsewhere: true, .. }));
    let unknown = header(100).map(|header| ResponseHeader { staleness_unknown: true, ..header });
    let flow = progress.receive(bookmark(unknown));
    assert!(matches!(flow, Flow::Reopen { elsewhere: true, .. }));
}

#[test]
fn the_last_message_says_where_to_go_on() {
    let mut progress = synced_at(5);
    let wait = Duration::from_secs(1);
    let resync = WatchResponse { retry_after: wait.try_into().ok(), ..message(WatchKind::Resync, 5) };
    let Flow::Reopen { wait: asked, elsewhere: false, .. } = progress.receive(resync) else {
        panic!("RESYNC ends the stream")
    };
    assert_eq!(asked, wait);
    let flow = progress.receive(message(WatchKind::Closing, 5));
    assert!(matches!(flow, Flow::Reopen { elsewhere: true, .. }));
    assert_eq!(progress.begin().resume.unwrap().revision, 5);
}

#[test]
fn changes_only_begins_without_a_snapshot() {
    let request = WatchRequest { changes_only: true, ..Default::default() };
    let mut progress = Progress::new(request, Duration::from_secs(10));
    assert_eq!(progress.begin().resume, None);
    progress.receive(message(WatchKind::Synced, 30));
    progress.receive(changes(&[(31, 1, false)], 31));
    assert_eq!(told(&mut progress), ["resumed at 30", "31: 1"]);
    assert_eq!(progress.begin().resume.unwrap().revision, 31);
}
