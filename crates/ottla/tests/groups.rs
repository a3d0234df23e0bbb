//! Groups as the public API shows them: what is committed and when, revocations, liveness, the end.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{GROUP, TOPIC, answered, broker, member, produce, settle, tp};
use ottla::{Commit, CommitError, CommitOffset, Consumer, ErrorKind, Event, Offset};
use ottla_broker::{Api, Broker, ErrorCode, Fault};

const INTERVAL: Duration = Duration::from_secs(5);

fn committed(broker: &Broker, partition: i32) -> Option<i64> {
    broker.committed(GROUP, TOPIC, partition)
}

async fn manual(broker: &Arc<Broker>) -> Consumer {
    member(broker, 1).commit(Commit::Manual).connect().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn auto_commits_only_what_the_reader_has_come_back_from() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = member(&broker, 1).max_batch_records(4).connect().await.unwrap();
    let first = consumer.next_batch().await.unwrap().unwrap();
    assert_eq!(first.next_offset(), 4);
    drop(first);
    tokio::time::sleep(INTERVAL * 3).await;
    // Dropped, but the reader is not back: it may be about to fail.
    assert!(committed(&broker, 0).is_none_or(|offset| offset == 0));
    let second = consumer.next_batch().await.unwrap().unwrap();
    tokio::time::sleep(INTERVAL * 3).await;
    assert_eq!(committed(&broker, 0), Some(4));
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn auto_does_not_commit_what_is_still_held() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = member(&broker, 1).connect().await.unwrap();
    let mut records = Vec::new();
    for _ in 0..10 {
        records.push(consumer.next_record().await.unwrap().unwrap());
    }
    let _ = tokio::time::timeout(INTERVAL * 3, consumer.next_record()).await;
    assert!(committed(&broker, 0).is_none_or(|offset| offset == 0));
    let held = consumer.held_back().unwrap();
    assert_eq!((&held[0].topic_partition, held[0].offset), (&tp(0), 0));
    assert!(held[0].age >= INTERVAL);
    // The third is finished last: only what lies before it is committed.
    let third = records.remove(2);
    records.clear();
    let _ = tokio::time::timeout(INTERVAL * 3, consumer.next_record()).await;
    assert_eq!(committed(&broker, 0), Some(2));
    drop(third);
    let _ = tokio::time::timeout(INTERVAL * 3, consumer.next_record()).await;
    assert_eq!(committed(&broker, 0), Some(10));
}

#[tokio::test(start_paused = true)]
async fn close_commits_what_is_done_and_not_what_is_in_hand() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = member(&broker, 1).max_batch_records(4).connect().await.unwrap();
    for _ in 0..2 {
        consumer.next_batch().await.unwrap().unwrap();
    }
    // As after a `break` on an error.
    consumer.close().await.unwrap();
    assert_eq!(committed(&broker, 0), Some(4));
    assert!(broker.group_members(GROUP).is_empty());
}

#[tokio::test(start_paused = true)]
async fn shutdown_marks_the_batch_before_as_done() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = member(&broker, 1).max_batch_records(4).connect().await.unwrap();
    let handle = consumer.handle();
    let mut batches = 0;
    while let Some(_batch) = consumer.next_batch().await.unwrap() {
        batches += 1;
        if batches == 2 {
            handle.shutdown();
        }
    }
    assert_eq!(batches, 2);
    consumer.close().await.unwrap();
    assert_eq!(committed(&broker, 0), Some(8));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_consumer_leaves_its_group() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = member(&broker, 1).connect().await.unwrap();
    consumer.next_batch().await.unwrap();
    let mark = broker.mark();
    drop(consumer);
    answered(&broker, mark, Api::LeaveGroup).await;
    assert!(broker.group_members(GROUP).is_empty());
    // What was in hand was not done.
    assert!(committed(&broker, 0).is_none_or(|offset| offset == 0));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(broker.connection_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn manual_commits_are_cumulative() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = manual(&broker).await;
    let batch = consumer.next_batch().await.unwrap().unwrap();
    let fourth = batch.iter().nth(3).unwrap();
    consumer.commit(fourth).await.unwrap();
    assert_eq!(committed(&broker, 0), Some(4));
    // At or below what is committed: succeeds, and nothing is sent.
    let mark = broker.mark();
    consumer.commit(batch.iter().next().unwrap()).await.unwrap();
    consumer.commit(fourth).await.unwrap();
    assert_eq!(broker.count_since(mark, |request| request.api == Api::OffsetCommit), 0);
    consumer.commit(&batch).await.unwrap();
    assert_eq!(committed(&broker, 0), Some(10));
}

#[tokio::test(start_paused = true)]
async fn manual_commits_nothing_by_itself() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = manual(&broker).await;
    for _ in 0..10 {
        consumer.next_record().await.unwrap();
    }
    let _ = tokio::time::timeout(INTERVAL * 5, consumer.next_record()).await;
    consumer.close().await.unwrap();
    assert!(committed(&broker, 0).is_none_or(|offset| offset == 0));
}

#[tokio::test(start_paused = true)]
async fn commit_delivered_takes_the_batch_in_hand_too() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..10);
    let mut consumer = manual(&broker).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(consumer.next_batch().await.unwrap().unwrap());
    }
    consumer.commit_delivered().await.unwrap();
    assert_eq!((committed(&broker, 0), committed(&broker, 1)), (Some(5), Some(5)));
}

#[tokio::test(start_paused = true)]
async fn marks_commit_the_prefix_without_a_gap() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = manual(&broker).await;
    let batch = consumer.next_batch().await.unwrap().unwrap();
    let tokens: Vec<_> = batch.iter().map(|record| record.token()).collect();
    for at in [0, 1, 3, 4] {
        tokens[at].mark();
    }
    tokio::time::sleep(INTERVAL * 3).await;
    assert_eq!(committed(&broker, 0), Some(2));
    tokens[2].mark();
    tokio::time::sleep(INTERVAL * 3).await;
    assert_eq!(committed(&broker, 0), Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_token_of_before_a_seek_is_not_owned_and_never_sent() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = manual(&broker).await;
    let batch = consumer.next_batch().await.unwrap().unwrap();
    assert!(batch.is_owned());
    consumer.seek(&tp(0), Offset::At(0)).await.unwrap();
    assert!(!batch.is_owned());
    let mark = broker.mark();
    let error = consumer.commit(&batch).await.unwrap_err();
    assert!(matches!(error, CommitError::NotOwned), "{error}");
    assert_eq!(broker.count_since(mark, |request| request.api == Api::OffsetCommit), 0);
    assert!(committed(&broker, 0).is_none_or(|offset| offset == 0));
}

#[tokio::test(start_paused = true)]
async fn a_commit_over_several_partitions_sends_the_owned_ones_and_answers_for_each() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..10);
    let mut consumer = manual(&broker).await;
    let mut batches = Vec::new();
    for _ in 0..2 {
        batches.push(consumer.next_batch().await.unwrap().unwrap());
    }
    consumer.seek(&tp(0), Offset::At(0)).await.unwrap();
    let error = consumer.commit(&batches).await.unwrap_err();
    let CommitError::Partial(failed) = error else { panic!("{error}") };
    assert!(matches!(&failed[..], [(p, CommitError::NotOwned)] if *p == tp(0)), "{failed:?}");
    assert_eq!(committed(&broker, 1), Some(5));
}

#[tokio::test(start_paused = true)]
async fn plain_offsets_go_back_only_with_rewind() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = manual(&broker).await;
    consumer.next_batch().await.unwrap();
    consumer.commit((tp(0), 8)).await.unwrap();
    let error = consumer.commit((tp(0), 3)).await.unwrap_err();
    assert!(matches!(error, CommitError::WouldRewind { committed: 8 }), "{error}");
    assert_eq!(committed(&broker, 0), Some(8));
    consumer.commit(CommitOffset::new(tp(0), 3).metadata("again").rewind()).await.unwrap();
    let found = consumer.committed([tp(0)]).await.unwrap();
    let found = found[&tp(0)].as_ref().unwrap();
    assert_eq!((found.offset, found.metadata.as_deref()), (3, Some("again")));
    let error = consumer.commit((tp(1), 1)).await.unwrap_err();
    assert!(matches!(error, CommitError::NotOwned), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_commit_is_still_sent() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = manual(&broker).await;
    let batch = consumer.next_batch().await.unwrap().unwrap();
    let mark = broker.mark();
    assert!(tokio::time::timeout(Duration::ZERO, consumer.commit(&batch)).await.is_err());
    answered(&broker, mark, Api::OffsetCommit).await;
    assert_eq!(committed(&broker, 0), Some(10));
}

#[tokio::test(start_paused = true)]
async fn commits_in_the_background_keep_one_in_flight_and_the_latest_of_each_partition() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..100);
    let mut consumer = manual(&broker).await;
    let batch = loop {
        if let Event::Batch(batch) = consumer.next_event().await.unwrap().unwrap() {
            break batch;
        }
    };
    settle().await; // the position that the reset policy chose is committed first
    let mark = broker.mark();
    let slow = broker.fault(Fault::on(Api::OffsetCommit).delay(Duration::from_secs(2)));
    for record in &batch {
        consumer.commit_in_background(record).unwrap();
        if record.offset() == 0 {
            slow.wait_fired(1).await;
        }
    }
    for _ in 0..2 {
        let event = consumer.next_event().await.unwrap().unwrap();
        assert!(matches!(&event, Event::CommitCompleted(partitions) if *partitions == [tp(0)]), "{event:?}");
    }
    let sent: Vec<_> = broker
        .requests_since(mark)
        .iter()
        .filter(|request| request.api == Api::OffsetCommit)
        .map(|request| (request.offset(TOPIC, 0), request.answered_at.map(|at| at - request.at)))
        .collect();
    assert_eq!(sent, [(Some(1), Some(Duration::from_secs(2))), (Some(100), Some(Duration::ZERO))]);
    assert_eq!(committed(&broker, 0), Some(100));
}

#[tokio::test(start_paused = true)]
async fn explicit_commits_are_allowed_under_auto_and_count_as_done() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = member(&broker, 1).connect().await.unwrap();
    let batch = consumer.next_batch().await.unwrap().unwrap();
    consumer.commit(batch.iter().nth(6).unwrap()).await.unwrap();
    assert_eq!(committed(&broker, 0), Some(7));
    // Never below it again, although the batch is held.
    let _ = tokio::time::timeout(INTERVAL * 3, consumer.next_batch()).await;
    consumer.close().await.unwrap();
    assert_eq!(committed(&broker, 0), Some(7));
}

#[tokio::test(start_paused = true)]
async fn commits_need_a_group() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = common::consumer(&broker).connect().await.unwrap();
    consumer.assign([(tp(0), Offset::Earliest)]).await.unwrap();
    let batch = consumer.next_batch().await.unwrap().unwrap();
    for error in [consumer.commit(&batch).await.unwrap_err(), consumer.commit_delivered().await.unwrap_err()]
    {
        let CommitError::Fatal(error) = error else { panic!("{error}") };
        assert_eq!(error.kind(), ErrorKind::ApiMisuse);
        assert!(error.to_string().contains("group"), "{error}");
    }
    let error = consumer.subscribe([TOPIC]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ApiMisuse);
    assert_eq!(consumer.group_metadata().await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_new_member_gets_its_share_and_no_record_is_lost() {
    const PARTITIONS: i32 = 4;
    let broker = broker(PARTITIONS).await;
    produce(&broker, PARTITIONS, 0..400);
    let mut first = member(&broker, 1).max_batch_records(7).connect().await.unwrap();
    let mut seen = vec![0u32; 1_000];
    let mut count = 0;
    while count < 200 {
        count += see(&mut seen, first.next_batch().await.unwrap());
    }
    let mut second = member(&broker, 2).max_batch_records(7).connect().await.unwrap();
    while second.assignment().unwrap().len() < 2 {
        // The first one meets the revocation on a read.
        if let Ok(batch) = tokio::time::timeout(Duration::from_secs(1), first.next_batch()).await {
            see(&mut seen, batch.unwrap());
        }
    }
    produce(&broker, PARTITIONS, 400..1_000);
    let mut of_second = 0;
    while seen.contains(&0) {
        tokio::select! {
            batch = first.next_batch() => { see(&mut seen, batch.unwrap()); }
            batch = second.next_batch() => { of_second += see(&mut seen, batch.unwrap()); }
        }
    }
    assert!(of_second > 0);
    assert_eq!(first.assignment().unwrap().len(), 2);
    assert_eq!(second.assignment().unwrap().len(), 2);
    first.close().await.unwrap();
    second.close().await.unwrap();
}

fn see(seen: &mut [u32], batch: Option<ottla::Batch>) -> usize {
    let batch = batch.expect("nobody shuts it down");
    for record in &batch {
        let number = common::number(record.value());
        seen[usize::try_from(number).unwrap()] += 1;
    }
    batch.len()
}

#[tokio::test(start_paused = true)]
async fn a_revocation_is_met_on_the_next_read_and_ends_with_finish() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..10);
    let mut first = manual(&broker).await;
    let mut batches = Vec::new();
    while batches.len() < 2 {
        if let Event::Batch(batch) = first.next_event().await.unwrap().unwrap() {
            batches.push(batch);
        }
    }
    let second = member(&broker, 2).connect().await.unwrap();
    let revocation = loop {
        match first.next_event().await.unwrap().unwrap() {
            Event::Revoking(revocation) => break revocation,
            Event::Batch(batch) => panic!("{batch:?}"),
            _ => {}
        }
    };
    assert_eq!(revocation.partitions().len(), 1);
    assert!(first.time_left(&revocation).unwrap() > Duration::from_secs(10));
    let partition = revocation.partitions()[0].clone();
    // Heartbeats go on meanwhile, and the work can be committed.
    let mark = broker.mark();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(broker.count_since(mark, |request| request.api == Api::Heartbeat) >= 2);
    let batch = batches.iter().find(|batch| *batch.topic_partition() == partition).unwrap();
    assert!(batch.is_owned());
    revocation.finish([batch.token()]);
    settle().await;
    while second.assignment().unwrap().is_empty() {
        let _ = tokio::time::timeout(Duration::from_secs(1), first.next_event()).await;
    }
    assert_eq!(second.assignment().unwrap(), std::slice::from_ref(&partition));
    assert_eq!(committed(&broker, partition.partition()), Some(5));
    assert!(!batch.is_owned());
    let error = first.commit(batch).await.unwrap_err();
    assert!(matches!(error, CommitError::NotOwned), "{error}");
}

#[tokio::test(start_paused = true)]
async fn group_metadata_tells_who_commits() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..1);
    let mut consumer = member(&broker, 1).connect().await.unwrap();
    consumer.next_batch().await.unwrap();
    let metadata = consumer.group_metadata().await.unwrap().unwrap();
    let group = broker.group(GROUP).unwrap();
    assert_eq!(metadata.group_id, GROUP);
    assert_eq!(metadata.generation_id, group.generation);
    assert_eq!(metadata.member_id, group.members[0].member_id);
}

#[tokio::test(start_paused = true)]
async fn close_is_bounded_when_the_coordinator_does_not_answer() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = member(&broker, 1).connect().await.unwrap();
    consumer.next_batch().await.unwrap();
    let _ = tokio::time::timeout(Duration::from_millis(10), consumer.next_batch()).await;
    broker.fault(Fault::on(Api::OffsetCommit).always().drop_response());
    broker.fault(Fault::on(Api::LeaveGroup).always().drop_response());
    let begun = tokio::time::Instant::now();
    let error = consumer.close_timeout(Duration::from_secs(3)).await.unwrap_err();
    assert!(begun.elapsed() <= Duration::from_millis(3_010), "{:?}", begun.elapsed());
    assert_eq!(error.kind(), ErrorKind::Transport, "{error}");
}

#[tokio::test(start_paused = true)]
async fn close_is_bounded_when_all_brokers_are_gone() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut consumer = member(&broker, 1).connect().await.unwrap();
    consumer.next_batch().await.unwrap();
    let _ = tokio::time::timeout(Duration::from_millis(10), consumer.next_batch()).await;
    broker.stop_node(1).unwrap();
    let begun = tokio::time::Instant::now();
    consumer.close_timeout(Duration::from_secs(3)).await.unwrap_err();
    assert!(begun.elapsed() <= Duration::from_millis(3_010), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stays_away_for_too_long_loses_its_partitions_and_may_come_back() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let interval = Duration::from_secs(30);
    let mut consumer =
        member(&broker, 1).max_poll_interval(interval).max_batch_records(4).connect().await.unwrap();
    let batch = loop {
        if let Event::Batch(batch) = consumer.next_event().await.unwrap().unwrap() {
            break batch;
        }
    };
    let mark = broker.mark();
    let begun = tokio::time::Instant::now();
    answered(&broker, mark, Api::LeaveGroup).await;
    assert!(begun.elapsed() >= interval && begun.elapsed() < interval * 2, "{:?}", begun.elapsed());
    assert!(!batch.is_owned());
    assert!(matches!(consumer.commit(&batch).await, Err(CommitError::NotOwned)));
    // What was lost is said, and the records come again: nothing of them was done.
    let (mut lost, mut errors) = (false, Vec::new());
    loop {
        match consumer.next_event().await {
            Ok(Some(Event::Lost(partitions))) => lost = partitions == [tp(0)],
            Ok(Some(Event::Batch(batch))) => break assert_eq!(batch.first_offset(), 0),
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
    }
    assert!(lost);
    assert!(
        matches!(&errors[..], [e] if !e.is_fatal() && e.to_string().contains("max_poll_interval")),
        "{errors:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_poll_clock_stands_while_nothing_is_there() {
    let broker = broker(1).await;
    let interval = Duration::from_secs(30);
    let mut consumer = member(&broker, 1).max_poll_interval(interval).connect().await.unwrap();
    let _ = tokio::time::timeout(Duration::from_secs(5), consumer.next_batch()).await;
    let mark = broker.mark();
    // The reader is away, and nothing is there for it.
    tokio::time::sleep(interval * 10).await;
    assert_eq!(broker.count_since(mark, |request| request.api == Api::LeaveGroup), 0);
    assert_eq!(consumer.assignment().unwrap(), [tp(0)]);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_that_is_not_finished_in_time_loses_the_partitions() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..10);
    let mut first = member(&broker, 1)
        .commit(Commit::Manual)
        .revoke_timeout(Duration::from_secs(20))
        .connect()
        .await
        .unwrap();
    let mut batches = Vec::new();
    while batches.len() < 2 {
        batches.push(first.next_batch().await.unwrap().unwrap());
    }
    let second = member(&broker, 2).connect().await.unwrap();
    let begun = tokio::time::Instant::now();
    // Both are held and neither is committed: the deadline decides.
    while second.assignment().unwrap().is_empty() {
        let _ = tokio::time::timeout(Duration::from_millis(100), first.next_batch()).await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(20), "{:?}", begun.elapsed());
    let lost: Vec<_> = batches.iter().filter(|batch| !batch.is_owned()).collect();
    assert_eq!(lost.len(), 1);
    assert!(matches!(first.commit(lost[0]).await, Err(CommitError::NotOwned)));
    assert_eq!(committed(&broker, lost[0].partition()).unwrap_or(0), 0);
}

#[tokio::test(start_paused = true)]
async fn a_fatal_error_repeats_and_close_returns() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let mut first = member(&broker, 1).group_instance_id("static").connect().await.unwrap();
    first.next_batch().await.unwrap();
    // Another process takes the name over: this one is fenced (KIP-345).
    let mut second = member(&broker, 2).group_instance_id("static").connect().await.unwrap();
    second.next_batch().await.unwrap();
    for _ in 0..3 {
        let error = first.next_batch().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        assert!(error.is_fatal());
    }
    let _ = first.close_timeout(Duration::from_secs(5)).await;
    second.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn detached_data_frees_its_buffer_and_is_not_seen() {
    let broker = broker(1).await;
    broker.produce(TOPIC, 0, [vec![1u8; 100_000]]).unwrap();
    let mut consumer = member(&broker, 1).connect().await.unwrap();
    let batch = consumer.next_batch().await.unwrap().unwrap();
    assert!(consumer.handle().pinned_bytes().unwrap() >= 100_000);
    let batch = batch.detach();
    assert_eq!(consumer.handle().pinned_bytes().unwrap(), 0);
    let _ = tokio::time::timeout(INTERVAL * 3, consumer.next_batch()).await;
    assert_eq!(committed(&broker, 0), Some(1));
    assert_eq!(batch.iter().next().unwrap().value().map(<[u8]>::len), Some(100_000));
}

#[tokio::test(start_paused = true)]
async fn an_idle_latest_group_commits_the_position_it_chose() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let builder = || member(&broker, 1).auto_offset_reset(ottla::OffsetReset::Latest);
    let mut consumer = builder().connect().await.unwrap();
    let Event::Assigned(_) = consumer.next_event().await.unwrap().unwrap() else { panic!("not assigned") };
    let event = consumer.next_event().await.unwrap().unwrap();
    assert!(matches!(event, Event::OffsetReset { offset: 10, .. }), "{event:?}");
    settle().await;
    assert_eq!(committed(&broker, 0), Some(10));
    consumer.close().await.unwrap();
    // What came meanwhile is read after the restart.
    produce(&broker, 1, 10..20);
    let mut consumer = builder().connect().await.unwrap();
    assert_eq!(consumer.next_batch().await.unwrap().unwrap().first_offset(), 10);
}

#[tokio::test(start_paused = true)]
async fn unsubscribing_does_not_wait_for_what_is_held_of_a_revocation() {
    for events in [false, true] {
        let broker = broker(2).await;
        produce(&broker, 2, 0..20);
        let mut one = member(&broker, 1).connect().await.unwrap();
        let mut held = Vec::new();
        while held.len() < 2 {
            held.push(one.next_batch().await.unwrap().unwrap());
        }
        let mark = broker.mark();
        let two = member(&broker, 2).connect().await.unwrap();
        if events {
            while !matches!(one.next_event().await.unwrap().unwrap(), Event::Revoking(_)) {}
        } else {
            // The batches keep it open.
            let rebalance = Some(ErrorCode::REBALANCE_IN_PROGRESS);
            broker.wait_for_since(mark, |r| r.api == Api::Heartbeat && r.error == rebalance).await;
            settle().await;
        }
        let begun = tokio::time::Instant::now();
        one.unsubscribe().await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10), "{events}: {:?}", begun.elapsed());
        assert_eq!(one.assignment().unwrap(), []);
        drop((held, two));
    }
}
