//! Items 2 and 6: members that come, go, work for long, or stay away.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ottla::{Assignor, Commit, CommitError, Consumer, ConsumerHandle, Error, Event, GroupProtocol};
use ottla_broker::{Api, Observed};

use super::group::{Change, Partitions};
use super::{Backend, Group, Result, guarded, over};
use crate::kafka::{RecordSpec, unique};

/// 1 → 3 → 2 → 1 members: everything is handed out, nothing twice, and no partition has two owners. Cooperative:
/// what a member keeps it is neither told of nor interrupted in. Eager: everything is given back each time.
///
/// # Errors
/// When something is lost, or it hangs.
pub async fn members_come_and_go(backend: &Backend) -> Result<()> {
    for assignor in [Assignor::CooperativeSticky, Assignor::Range] {
        let topic = unique("group");
        backend.create_topic(&topic, 6)?;
        let spec = |phase| RecordSpec::new(600).partitions(6).seed(phase);
        let produce = |phase| backend.produce(&topic, "none", &spec(phase));
        let mut group = Group::new(backend, &topic, assignor);
        produce(0)?;
        let first = group.join(0).await?;
        group.until("one member", |g| g.count() == 600).await?;
        // What is not given back stays where it is, however long that takes.
        group.hold([0]);
        let second = group.join(1).await?;
        group.until("a revocation", |g| g.held.contains_key(&0)).await?;
        // Cooperative members give back after they have joined again, eager ones before.
        let held_in = if assignor == Assignor::Range { "PreparingRebalance" } else { "Stable" };
        backend.group_is(&group.group, held_in, 2).await?;
        group.look()?;
        assert_eq!(group.owned[&0].len(), 6, "it did not read on");
        assert!(group.owned.get(&1).is_none_or(BTreeSet::is_empty), "{:?}", group.owned);
        group.hold([]);
        let third = group.join(2).await?;
        group.until("three members", |g| g.sizes() == [2, 2, 2]).await?;
        produce(1)?;
        group.until("records for three", |g| g.count() == 1200).await?;
        let grown = group.changes.len();
        first.shutdown();
        group.until("two members", |g| g.sizes() == [3, 3]).await?;
        produce(2)?;
        group.until("records for two", |g| g.count() == 1800).await?;
        second.shutdown();
        group.until("one member again", |g| g.sizes() == [6]).await?;
        produce(3)?;
        group.until("records for the last", |g| g.count() == 2400).await?;
        third.shutdown();
        group.until("nobody", |g| g.owned.is_empty()).await?;
        (0..4).for_each(|phase| group.wrote(spec(phase)));
        group.assert_each_record_once(6, 400);
        let committed = backend.committed(&group.group, &topic)?;
        assert_eq!(committed, (0..6).map(|p| (p, 400)).collect());
        match assignor {
            Assignor::Range => assert_all_given_back_each_time(&group.changes),
            _ => assert_kept_partitions_untouched(&group.changes, grown),
        }
    }
    Ok(())
}

/// Eager: a member that has something gives back all of it before it is assigned anew.
fn assert_all_given_back_each_time(changes: &[(usize, Change)]) {
    let mut owned: BTreeMap<usize, Partitions> = BTreeMap::new();
    let mut given_back = 0;
    for (id, change) in changes {
        let mine = owned.entry(*id).or_default();
        match change {
            Change::Assigned(new) => {
                assert!(mine.is_empty(), "member {id} was assigned {new:?} while it had {mine:?}");
                mine.clone_from(new);
            }
            Change::Revoking(old) => {
                assert_eq!(old, mine, "member {id} gives back all");
                mine.clear();
                given_back += 1;
            }
        }
    }
    assert!(given_back >= 4, "{changes:?}");
}

/// Cooperative: while the group grows nothing goes back to whom it was taken from, and while it shrinks nothing is
/// taken from anybody.
pub(super) fn assert_kept_partitions_untouched(changes: &[(usize, Change)], grown: usize) {
    let (growing, shrinking) = changes.split_at(grown);
    let taken = shrinking.iter().find(|(_, c)| matches!(c, Change::Revoking(_)));
    assert_eq!(taken, None, "the partitions of those who left were all that had to move");
    let of_first: Vec<_> = growing.iter().filter(|(id, _)| *id == 0).map(|(_, c)| c).collect();
    assert!(matches!(of_first[0], Change::Assigned(all) if all.len() == 6), "{of_first:?}");
    let mut gone = Partitions::new();
    for change in &of_first[1..] {
        let Change::Revoking(old) = change else { panic!("{change:?}: it had all") };
        gone.extend(old.iter().cloned());
    }
    assert_eq!(gone.len(), 4, "six for one, two for each of three: {of_first:?}");
}

/// A rebalance that somebody holds up between JoinGroup and SyncGroup: the partitions that a cooperative member keeps
/// go on handing out records, and their committed offsets are not asked for again. (What Kafka was asked for only the
/// embedded broker tells. How soon the records come is asserted on virtual time, in `tests/groups_on_broker.rs`.)
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn kept_partitions_are_read_during_a_rebalance(backend: &Backend) -> Result<()> {
    let topic = unique("kept");
    backend.create_topic(&topic, 6)?;
    let spec = |phase| RecordSpec::new(600).partitions(6).seed(phase);
    let produce = |phase| backend.produce(&topic, "none", &spec(phase));
    produce(0)?;
    let mut group = Group::new(backend, &topic, Assignor::CooperativeSticky);
    let mut members = vec![group.join(0).await?];
    group.until("one member", |g| g.count() == 600).await?;
    members.push(group.join(1).await?);
    group.until("two members", |g| g.sizes() == [3, 3]).await?;
    // The third one's partitions come from both others. The first gives its one back and joins again; the second
    // does not, so that the answer to the first one's JoinGroup has to wait.
    let before = group.changes.len();
    group.hold([0, 1]);
    members.push(group.join(2).await?);
    group.until("both give back", |g| g.held.len() == 2).await?;
    backend.group_is(&group.group, "Stable", 3).await?;
    group.hold([1]);
    group.until("the first has given back", |g| !g.held.contains_key(&0)).await?;
    backend.group_is(&group.group, "PreparingRebalance", 3).await?;
    let kept = group.owned[&0].clone();
    assert_eq!(kept.len(), 2);
    produce(1)?;
    group.until("records in the rebalance", |g| kept.iter().all(|tp| g.count_of(tp) == 200)).await?;
    // All of that was while the rebalance stood still.
    backend.group_is(&group.group, "PreparingRebalance", 3).await?;
    group.look()?;
    assert!(group.held.contains_key(&1), "the second one still has not given back");
    assert!(group.owned.get(&2).is_none_or(BTreeSet::is_empty), "{:?}", group.owned);
    group.hold([]);
    group.until("three members", |g| g.sizes() == [2, 2, 2]).await?;
    group.until("the rest", |g| g.count() == 1200).await?;
    assert_eq!(group.changes_of(0, before).len(), 1, "{:?}", group.changes);
    assert_eq!(group.owned[&0], kept);
    if let Backend::Embedded(broker, _) = backend {
        for tp in &kept {
            let asked = |r: &Observed| r.api == Api::OffsetFetch && r.names(tp.topic(), tp.partition());
            assert_eq!(broker.count_since(0, asked), 1, "{tp} was kept: its offset is asked for once");
        }
        let of_first = |r: &Observed| r.client_id.as_deref() == Some("member-0");
        let log = broker.requests();
        let join = log.iter().rfind(|r| r.api == Api::JoinGroup && of_first(r)).ok_or("a JoinGroup")?;
        let sync = log.iter().rfind(|r| r.api == Api::SyncGroup && of_first(r)).ok_or("a SyncGroup")?;
        let between = |r: &Observed| r.index > join.index && r.index < sync.index;
        let fetches = log.iter().filter(|r| r.api == Api::Fetch && of_first(r) && between(r)).count();
        assert!(fetches > 0, "it fetched between JoinGroup and SyncGroup");
    }
    members.iter().for_each(ConsumerHandle::shutdown);
    group.until("nobody", |g| g.owned.is_empty()).await?;
    (0..2).for_each(|phase| group.wrote(spec(phase)));
    group.assert_each_record_once(6, 200);
    Ok(())
}

/// A revocation while a batch is being worked on, finished in time: nobody else gets the partition before that, the
/// work is committed, and the next owner does not repeat it. With automatic commits and with the user's own, told by
/// events and handled by the reads themselves.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn work_that_is_finished_in_time_is_committed(backend: &Backend) -> Result<()> {
    for (commit, events) in [
        (Commit::Auto { interval: Duration::from_secs(3600) }, true),
        (Commit::Auto { interval: Duration::from_secs(3600) }, false),
        (Commit::Manual, true),
        (Commit::Manual, false),
    ] {
        let case = format!("{commit:?}, events {events}");
        let (topic, group) = (unique("intime"), unique("intime"));
        backend.create_topic(&topic, 1)?;
        backend.produce(&topic, "none", &RecordSpec::new(100).partitions(1))?;
        let builder = |name| worker(backend, &topic, &group, name).commit(commit).max_batch_records(40);
        // Range gives the only partition to the member whose id comes first.
        let mut old = builder("b").connect().await?;
        let batch = guarded("a batch", async { Ok(old.next_batch().await?.ok_or("the end")?) }).await?;
        assert_eq!(batch.first_offset(), 0, "{case}");
        let tp = batch.topic_partition().clone();
        // Nothing more until somebody joins, so that this batch is what is being worked on.
        old.pause([&tp]).await?;
        let done = batch.next_offset();
        assert!(done < 100, "{case}: {batch:?}");
        let mut new = builder("a").connect().await?;
        backend.group_is(&group, "PreparingRebalance", 2).await?;
        let handle = old.handle();
        let working = async move {
            if events {
                let revocation = loop {
                    if let Event::Revoking(revocation) = old.next_event().await?.ok_or("the end")? {
                        break revocation;
                    }
                };
                assert_eq!(revocation.partitions().len(), 1);
                assert!(batch.is_owned(), "as long as it is not finished");
                if matches!(commit, Commit::Manual) {
                    // The work is done while the revocation waits for it.
                    revocation.finish([batch.token()]);
                }
                drop(batch);
            } else if matches!(commit, Commit::Manual) {
                old.commit(&batch).await?;
                drop(batch);
            } else {
                drop(batch);
            }
            while old.next_batch().await?.is_some() {}
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(old.close().await?)
        };
        // Still in hand: the group waits.
        backend.group_is(&group, "PreparingRebalance", 2).await?;
        assert!(new.assignment()?.is_empty(), "{case}");
        let working = tokio::spawn(working);
        let first = async { Ok(new.next_batch().await?.ok_or("the end")?) };
        let first = guarded(&format!("{case}: the next owner"), first).await?;
        assert_eq!(first.first_offset(), done, "{case}: what was done is not repeated");
        assert_eq!(backend.committed(&group, &topic)?, [(0, done)].into(), "{case}");
        handle.shutdown();
        guarded("the old owner", async { working.await? }).await.map_err(|e| format!("{case}: {e}"))?;
        new.close().await?;
    }
    Ok(())
}

/// A revocation while a batch is being worked on, not finished in time: the partition is lost, the batch stays
/// readable, the next owner begins at the committed offset and so repeats it, and what the late worker commits is
/// `NotOwned` and moves nothing.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn work_that_is_not_finished_in_time_is_lost(backend: &Backend) -> Result<()> {
    let (topic, group) = (unique("late"), unique("late"));
    backend.create_topic(&topic, 1)?;
    backend.produce(&topic, "none", &RecordSpec::new(100).partitions(1))?;
    let builder = |name| worker(backend, &topic, &group, name).commit(Commit::Manual).max_batch_records(10);
    let mut slow = builder("b").revoke_timeout(Duration::from_millis(500)).connect().await?;
    let first = guarded("the first batch", async { Ok(slow.next_batch().await?.ok_or("the end")?) }).await?;
    slow.commit(&first).await?;
    let committed = first.next_offset();
    let late = guarded("the second batch", async { Ok(slow.next_batch().await?.ok_or("the end")?) }).await?;
    assert_eq!(late.first_offset(), committed);
    // Range gives the only partition to the member whose id comes first.
    let mut next = builder("a").connect().await?;
    let again = guarded("the next owner", async { Ok(next.next_batch().await?.ok_or("the end")?) }).await?;
    assert_eq!(again.first_offset(), committed, "from the committed offset on");
    assert!(!late.is_owned() && again.is_owned());
    assert_eq!(late.iter().count(), late.len(), "a batch in hand stays readable");
    let refused = slow.commit(&late).await;
    assert!(matches!(refused, Err(CommitError::NotOwned)), "{refused:?}");
    assert_eq!(backend.committed(&group, &topic)?, [(0, committed)].into());
    let record = again.records().next().ok_or("a record")?;
    next.commit(&record).await?;
    // Also when it lies higher than what the owner has committed.
    let refused = slow.commit(late.token()).await;
    assert!(matches!(refused, Err(CommitError::NotOwned)), "{refused:?}");
    assert_eq!(backend.committed(&group, &topic)?, [(0, committed + 1)].into());
    drop((first, late));
    guarded("being told", async {
        loop {
            match slow.next_event().await?.ok_or("the end")? {
                Event::Lost(lost) => {
                    assert_eq!(lost.len(), 1);
                    return Ok(());
                }
                Event::Batch(batch) => return Err(format!("{batch:?} of a lost partition").into()),
                _ => {}
            }
        }
    })
    .await?;
    slow.close().await?;
    next.close().await?;
    Ok(())
}

/// Eager: everything is taken back when somebody joins, so the batch in hand is concerned.
fn worker(backend: &Backend, topic: &str, group: &str, name: &str) -> ottla::Builder {
    Consumer::builder(backend.bootstrap())
        .client_id(name)
        .group(group)
        .subscribe([topic])
        .session_timeout(Duration::from_secs(10))
        .heartbeat_interval(Duration::from_millis(300))
        .revoke_timeout(Duration::from_secs(120))
        .assignors([Assignor::Range])
}

/// `max_poll_interval` exceeded: the member leaves, its partitions are lost and go to others, and when the reader
/// comes back it joins again.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn a_reader_that_stays_away_is_put_out(backend: &Backend) -> Result<()> {
    a_reader_stays_away(backend, GroupProtocol::Classic).await
}

pub(super) async fn a_reader_stays_away(backend: &Backend, protocol: GroupProtocol) -> Result<()> {
    let (topic, group) = (unique("away"), unique("away"));
    backend.create_topic(&topic, 1)?;
    backend.produce(&topic, "none", &RecordSpec::new(100).partitions(1))?;
    let builder = || {
        over(&backend.bootstrap(), &group, protocol)
            .subscribe([topic.as_str()])
            .commit(Commit::Manual)
            .max_batch_records(10)
    };
    let mut slow = builder()
        .max_poll_interval(Duration::from_secs(1))
        .rebalance_timeout(Duration::from_secs(10))
        .connect()
        .await?;
    let batch = guarded("the first batch", async { Ok(slow.next_batch().await?.ok_or("the end")?) }).await?;
    let mut other = builder().connect().await?;
    let taken = guarded("the other", async { Ok(other.next_batch().await?.ok_or("the end")?) }).await?;
    assert_eq!(taken.first_offset(), 0, "nothing was committed");
    assert!(!batch.is_owned() && taken.is_owned());
    let record = taken.records().next().ok_or("a record")?;
    other.commit(&record).await?;
    for _ in 0..2 {
        let refused = slow.commit(&batch).await;
        assert!(matches!(refused, Err(CommitError::NotOwned)), "{refused:?}");
    }
    assert_eq!(backend.committed(&group, &topic)?, [(0, 1)].into(), "what came late moved nothing");
    drop((batch, taken, record));
    let mut told: Vec<Error> = Vec::new();
    let mut lost = false;
    guarded("coming back", async {
        while !lost || told.is_empty() {
            match slow.next_event().await {
                Ok(Some(Event::Lost(_))) => lost = true,
                Ok(Some(Event::Batch(batch))) => return Err(format!("{batch:?} of a lost partition").into()),
                Ok(Some(_)) => {}
                Ok(None) => return Err("the end".into()),
                Err(error) => told.push(error),
            }
        }
        Ok(())
    })
    .await?;
    let put_out = |e: &Error| e.to_string().contains("max_poll_interval") && !e.is_fatal();
    assert!(told.iter().all(put_out), "{told:?}");
    other.close().await?;
    guarded("joining again", async {
        loop {
            match slow.next_event().await {
                Ok(Some(Event::Batch(batch))) => {
                    assert_eq!(batch.first_offset(), 1, "from the committed offset on");
                    return Ok(());
                }
                Ok(Some(_)) => {}
                Ok(None) => return Err("the end".into()),
                // A second is not long: on a busy machine the test itself may stay away.
                Err(error) if put_out(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    })
    .await?;
    slow.close().await?;
    Ok(())
}
