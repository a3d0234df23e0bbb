//! Members of a group among each other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ottla::{Assignor, Commit, Consumer, ErrorKind, Event};
use ottla_broker::{Api, Broker, ErrorCode, Fault};

use crate::common::{GROUP, TOPIC, broker, member, number, produce, tp};

/// Reads with both for a moment.
async fn both(first: &mut Consumer, second: &mut Consumer, seen: &mut BTreeSet<i64>) {
    for consumer in [first, second] {
        if let Ok(batch) = tokio::time::timeout(Duration::from_millis(100), consumer.next_batch()).await {
            seen.extend(batch.unwrap().unwrap().iter().map(|record| number(record.value())));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_assignor_shares_the_partitions_out() {
    for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::Sticky, Assignor::CooperativeSticky] {
        let broker = broker(5).await;
        produce(&broker, 5, 0..100);
        let join = |seed| member(&broker, seed).assignors([assignor]).connect();
        let mut first = join(1).await.unwrap();
        let mut seen = BTreeSet::new();
        seen.extend(first.next_batch().await.unwrap().unwrap().iter().map(|r| number(r.value())));
        let mut second = join(2).await.unwrap();
        let shares = |first: &Consumer, second: &Consumer| {
            let mut shares = [first.assignment().unwrap().len(), second.assignment().unwrap().len()];
            shares.sort();
            shares
        };
        while shares(&first, &second) != [2, 3] {
            both(&mut first, &mut second, &mut seen).await;
        }
        let owned: BTreeSet<_> =
            [&first, &second].into_iter().flat_map(|c| c.assignment().unwrap()).collect();
        assert_eq!(owned.len(), 5, "{assignor:?}");
        assert_eq!(broker.group(GROUP).unwrap().protocol.as_deref(), Some(assignor.name()));
        produce(&broker, 5, 100..200);
        while seen.len() < 200 {
            both(&mut first, &mut second, &mut seen).await;
        }
        // The one that stays takes all.
        second.close().await.unwrap();
        while first.assignment().unwrap().len() < 5 {
            let _ = tokio::time::timeout(Duration::from_millis(100), first.next_batch()).await;
        }
        first.close().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_survives_rebalances_of_kept_partitions() {
    for assignor in [Assignor::CooperativeSticky, Assignor::Sticky] {
        let broker = broker(4).await;
        produce(&broker, 4, 0..40);
        let mut first = member(&broker, 1).assignors([assignor]).connect().await.unwrap();
        for _ in 0..4 {
            first.next_batch().await.unwrap().unwrap();
        }
        first.pause((0..4).map(tp)).await.unwrap();
        let second = member(&broker, 2).assignors([assignor]).connect().await.unwrap();
        while second.assignment().unwrap().len() < 2 || first.assignment().unwrap().len() != 2 {
            let _ = tokio::time::timeout(Duration::from_millis(100), first.next_batch()).await;
        }
        produce(&broker, 4, 40..80);
        let read = tokio::time::timeout(Duration::from_secs(20), first.next_batch()).await;
        assert!(read.is_err(), "{assignor:?}: {read:?}");
        let kept = first.assignment().unwrap();
        first.resume(&kept).await.unwrap();
        assert!(kept.contains(first.next_batch().await.unwrap().unwrap().topic_partition()));
    }
}

#[tokio::test(start_paused = true)]
async fn while_a_revocation_is_open_no_join_group_is_sent_and_commits_go_on() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..20);
    let mut first = member(&broker, 1).client_id("first").commit(Commit::Manual).connect().await.unwrap();
    let mut batches = Vec::new();
    while batches.len() < 2 {
        if let Event::Batch(batch) = first.next_event().await.unwrap().unwrap() {
            batches.push(batch);
        }
    }
    let second = member(&broker, 2).client_id("second").connect().await.unwrap();
    let revocation = loop {
        if let Event::Revoking(revocation) = first.next_event().await.unwrap().unwrap() {
            break revocation;
        }
    };
    let mark = broker.mark();
    let joins = |broker: &Broker| {
        broker.count_since(mark, |r| r.api == Api::JoinGroup && r.client_id.as_deref() == Some("first"))
    };
    let generation = broker.group(GROUP).unwrap().generation;
    // Nothing is read, but there is time: the deadline is far.
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(joins(&broker), 0);
    first.commit(&batches).await.unwrap();
    let commit = broker.requests_since(mark).into_iter().rfind(|r| r.api == Api::OffsetCommit).unwrap();
    assert_eq!((commit.generation, commit.error), (Some(generation), None));
    assert!(second.assignment().unwrap().is_empty());
    revocation.finish([]);
    while second.assignment().unwrap().is_empty() {
        let _ = tokio::time::timeout(Duration::from_secs(1), first.next_event()).await;
    }
    assert_eq!(joins(&broker), 1);
}

#[tokio::test(start_paused = true)]
async fn by_default_a_revocation_waits_for_what_is_held_and_ends_when_it_is_dropped() {
    let broker = broker(2).await;
    produce(&broker, 2, 0..20);
    let mut first = member(&broker, 1).connect().await.unwrap();
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(first.next_batch().await.unwrap().unwrap());
    }
    let second = member(&broker, 2).connect().await.unwrap();
    let read_on = async |first: &mut Consumer, seconds| {
        let _ = tokio::time::timeout(Duration::from_secs(seconds), first.next_batch()).await;
    };
    read_on(&mut first, 20).await;
    assert!(second.assignment().unwrap().is_empty(), "the work in hand is not done");
    held.clear();
    read_on(&mut first, 5).await;
    let given = second.assignment().unwrap();
    assert_eq!(given.len(), 1);
    assert_eq!(broker.committed(GROUP, TOPIC, given[0].partition()), Some(10), "it was done, and committed");
}

async fn mismatch(broker: &Arc<Broker>) -> (ottla::Error, Consumer) {
    let mut first = member(broker, 1).assignors([Assignor::Sticky]).connect().await.unwrap();
    first.next_batch().await.unwrap();
    let builder = member(broker, 2).assignors([Assignor::Range, Assignor::RoundRobin]);
    let mut second = builder.connect().await.unwrap();
    let error = second.next_batch().await.unwrap_err();
    (error, second)
}

#[tokio::test(start_paused = true)]
async fn without_an_assignor_in_common_the_error_prints_both_lists() {
    let broker = broker(1).await;
    produce(&broker, 1, 0..10);
    let (error, mut second) = mismatch(&broker).await;
    assert!(error.is_fatal());
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(error.code().map(|c| c.code()), Some(ErrorCode::INCONSISTENT_GROUP_PROTOCOL.0));
    let text = error.to_string();
    assert!(text.contains("[range, roundrobin]") && text.contains("[sticky]"), "{text}");
    // It repeats.
    assert_eq!(second.next_batch().await.unwrap_err().to_string(), text);
}

#[tokio::test(start_paused = true)]
async fn where_the_group_cannot_be_described_the_error_says_how_to_find_out() {
    for fault in [
        Fault::on(Api::DescribeGroups).error(ErrorCode::GROUP_AUTHORIZATION_FAILED),
        Fault::on(Api::DescribeGroups).always().drop_response(),
        Fault::on(Api::DescribeGroups).close_connection(),
        Fault::on(Api::DescribeGroups).respond_body(vec![0xff; 20]),
    ] {
        let broker = broker(1).await;
        produce(&broker, 1, 0..10);
        let fault = broker.fault(fault);
        let begun = tokio::time::Instant::now();
        let (error, _second) = mismatch(&broker).await;
        assert_eq!(fault.fired(), 1);
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        let text = error.to_string();
        assert!(error.is_fatal() && text.contains("[range, roundrobin]"), "{text}");
        assert!(text.contains("kafka-consumer-groups"), "{text}");
    }
}
