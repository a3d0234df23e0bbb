//! The same over the consumer protocol (KIP-848), and what is different there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ottla::{
    Batch, Builder, Commit, CommitError, Consumer, ConsumerHandle, Event, GroupProtocol, TopicPartition,
};

use super::groups::assert_kept_partitions_untouched;
use super::{Backend, Group, Result, close, commits, failures, groups, guarded, over, subscriptions, topics};
use crate::kafka::{RecordSpec, unique};

const PROTOCOL: GroupProtocol = GroupProtocol::Consumer;

macro_rules! the_same {
    ($($name:ident => $scenario:path),* $(,)?) => {
        $(
            /// The scenario of this name, over the consumer protocol.
            ///
            /// # Errors
            /// When it is otherwise, or hangs.
            pub async fn $name(backend: &Backend) -> Result<()> {
                $scenario(backend, PROTOCOL).await
            }
        )*
    };
}

the_same! {
    a_reader_that_stays_away_is_put_out => groups::a_reader_stays_away,
    auto_commits_only_what_the_reader_came_back_from => commits::auto_commits,
    auto_commits_in_between_stop_before_what_is_in_hand => commits::auto_commits_in_between,
    manual_commits_are_where_the_next_member_begins => commits::manual_commits,
    a_token_of_a_lost_ownership_moves_nothing => commits::lost_tokens,
    a_restarted_broker_loses_nothing => failures::a_broker_restarts,
    leaders_and_coordinators_move => failures::everything_moves,
    offsets_in_a_database_decide_where_reading_begins => subscriptions::offsets_in_a_database,
    topics_that_match_a_pattern_come_and_go => topics::topics_that_match,
    close_returns_whatever_is_gone => close::close_returns,
}

/// The scenario of this name, over the consumer protocol.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn a_member_that_dies_is_replaced(backend: &Backend, victim: &str) -> Result<()> {
    failures::a_member_dies(backend, victim, PROTOCOL).await
}

/// 1 → 3 → 2 → 1 members: everything is handed out, nothing twice, no partition has two owners, and what a member
/// keeps it is neither told of nor interrupted in. A member that does not give back holds up only what it holds.
///
/// # Errors
/// When something is lost, or it hangs.
pub async fn members_come_and_go(backend: &Backend) -> Result<()> {
    let topic = unique("group");
    backend.create_topic(&topic, 6)?;
    let spec = |phase| RecordSpec::new(600).partitions(6).seed(phase);
    let produce = |phase| backend.produce(&topic, "none", &spec(phase));
    let mut group = Group::over(backend, &topic, PROTOCOL);
    produce(0)?;
    let first = group.join(0).await?;
    group.until("one member", |g| g.count() == 600).await?;
    group.hold([0]);
    let second = group.join(1).await?;
    group.until("a revocation", |g| g.held.contains_key(&0)).await?;
    backend.group_is(&group.group, "Reconciling", 2).await?;
    group.look()?;
    assert_eq!(group.owned[&0].len(), 6, "it did not read on");
    assert!(group.owned.get(&1).is_none_or(BTreeSet::is_empty), "{:?}", group.owned);
    // What is not given back goes on being read by nobody else; what is kept is read on.
    let kept: Vec<_> = group.owned[&0].difference(&group.held[&0]).cloned().collect();
    assert_eq!(kept.len(), 3, "{:?}", group.held);
    group.hold([]);
    group.until("two members", |g| g.sizes() == [3, 3]).await?;
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
    assert_eq!(backend.committed(&group.group, &topic)?, (0..6).map(|p| (p, 400)).collect());
    assert_kept_partitions_untouched(&group.changes, grown);
    backend.group_is(&group.group, "Empty", 0).await
}

/// A member with a batch of each of two partitions in hand.
async fn two_in_hand(builder: Builder) -> Result<(Consumer, BTreeMap<TopicPartition, Batch>)> {
    let mut consumer = builder.connect().await?;
    let mut hands = BTreeMap::new();
    guarded("a batch of each", async {
        while hands.len() < 2 {
            let batch = consumer.next_batch().await?.ok_or("the end")?;
            let tp = batch.topic_partition().clone();
            // Nothing more, so that this batch is what is being worked on.
            consumer.pause([&tp]).await?;
            hands.insert(tp, batch);
        }
        Ok(())
    })
    .await?;
    Ok((consumer, hands))
}

/// A revocation while a batch is being worked on, finished in time: nobody else gets the partition before that, the
/// work is committed under reconciliation, and the next owner does not repeat it; the batch of the partition that is
/// kept is not concerned. With automatic commits and with the user's own.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn work_that_is_finished_in_time_is_committed(backend: &Backend) -> Result<()> {
    for commit in [Commit::Auto { interval: Duration::from_secs(3600) }, Commit::Manual] {
        let (topic, group) = (unique("intime"), unique("intime"));
        backend.create_topic(&topic, 2)?;
        backend.produce(&topic, "none", &RecordSpec::new(200).partitions(2))?;
        let builder = || {
            over(&backend.bootstrap(), &group, PROTOCOL)
                .subscribe([topic.as_str()])
                .commit(commit)
                .max_batch_records(40)
        };
        let (mut old, mut hands) = two_in_hand(builder()).await?;
        let mut new = builder().connect().await?;
        let revocation = guarded("a revocation", async {
            loop {
                match old.next_event().await?.ok_or("the end")? {
                    Event::Revoking(revocation) => return Ok(revocation),
                    // Joined from what was fetched before the pause.
                    Event::Batch(batch) => return Err(format!("{batch:?} of a paused partition").into()),
                    _ => {}
                }
            }
        })
        .await?;
        let [tp] = revocation.partitions() else { return Err(format!("{revocation:?}").into()) };
        let tp = tp.clone();
        let batch = hands.remove(&tp).ok_or("the batch in hand")?;
        let (kept, of_kept) = hands.pop_first().ok_or("the other one")?;
        let done = batch.next_offset();
        // Still in hand: the group waits.
        backend.group_is(&group, "Reconciling", 2).await?;
        assert!(new.assignment()?.is_empty() && batch.is_owned());
        if matches!(commit, Commit::Manual) {
            revocation.finish([batch.token()]);
        }
        drop(batch);
        let handle = old.handle();
        let reading = tokio::spawn(async move {
            while old.next_batch().await?.is_some() {}
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(old.close().await?)
        });
        let first = async { Ok(new.next_batch().await?.ok_or("the end")?) };
        let first = guarded("the next owner", first).await?;
        assert_eq!(
            (first.topic_partition(), first.first_offset()),
            (&tp, done),
            "what was done is not repeated"
        );
        let committed = backend.committed(&group, &topic)?;
        assert_eq!(committed.get(&(tp.partition() as u32)), Some(&done), "{commit:?}");
        assert_eq!(committed.get(&(kept.partition() as u32)), Some(&0), "{commit:?}: it is in hand");
        assert!(of_kept.is_owned(), "kept");
        handle.commit(&of_kept).await?;
        handle.shutdown();
        guarded("the old owner", async { reading.await? }).await?;
        new.close().await?;
        let committed = backend.committed(&group, &topic)?;
        assert_eq!(committed.get(&(kept.partition() as u32)), Some(&of_kept.next_offset()));
    }
    Ok(())
}

/// A revocation that is not finished in time: the partition is lost, the batch stays readable, the next owner begins
/// at the committed offset, and what the late worker commits is `NotOwned` and moves nothing. It stays a member.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn work_that_is_not_finished_in_time_is_lost(backend: &Backend) -> Result<()> {
    let (topic, group) = (unique("late"), unique("late"));
    backend.create_topic(&topic, 2)?;
    backend.produce(&topic, "none", &RecordSpec::new(200).partitions(2))?;
    let builder = || {
        over(&backend.bootstrap(), &group, PROTOCOL)
            .subscribe([topic.as_str()])
            .commit(Commit::Manual)
            .max_batch_records(10)
    };
    let (mut slow, mut hands) = two_in_hand(builder().revoke_timeout(Duration::from_millis(500))).await?;
    let mut next = builder().connect().await?;
    let again = guarded("the next owner", async { Ok(next.next_batch().await?.ok_or("the end")?) }).await?;
    let tp = again.topic_partition().clone();
    let late = hands.remove(&tp).ok_or("the batch in hand")?;
    assert_eq!(again.first_offset(), 0, "from the committed offset on");
    assert!(!late.is_owned() && again.is_owned());
    assert_eq!(late.iter().count(), late.len(), "a batch in hand stays readable");
    let record = again.records().next().ok_or("a record")?;
    next.commit(&record).await?;
    let refused = slow.commit(&late).await;
    assert!(matches!(refused, Err(CommitError::NotOwned)), "{refused:?}");
    assert_eq!(backend.committed(&group, &topic)?.get(&(tp.partition() as u32)), Some(&1));
    drop(late);
    guarded("being told", async {
        loop {
            match slow.next_event().await?.ok_or("the end")? {
                Event::Lost(lost) => {
                    assert_eq!(lost, std::slice::from_ref(&tp));
                    return Ok(());
                }
                Event::Batch(batch) => assert_ne!(*batch.topic_partition(), tp, "of a lost partition"),
                _ => {}
            }
        }
    })
    .await?;
    // The other partition is still its own.
    let (_, kept) = hands.pop_first().ok_or("the other one")?;
    slow.commit(&kept).await?;
    slow.close().await?;
    next.close().await?;
    Ok(())
}

/// KIP-345: a static member that is closed and comes back within the session takes up where it was; the others are
/// told nothing, and of two with one instance id the newer is refused.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn a_static_member_that_comes_back_moves_nothing(backend: &Backend) -> Result<()> {
    let (topic, group) = (unique("static"), unique("static"));
    backend.create_topic(&topic, 4)?;
    backend.produce(&topic, "none", &RecordSpec::new(400).partitions(4))?;
    let fixed = |id: &str| {
        over(&backend.bootstrap(), &group, PROTOCOL).subscribe([topic.as_str()]).group_instance_id(id)
    };
    let mut stays = fixed("stays").connect().await?;
    let mut goes = fixed("goes").connect().await?;
    guarded("two each", async {
        while (stays.assignment()?.len(), goes.assignment()?.len()) != (2, 2) {
            tokio::select! {
                event = stays.next_event() => drop(event?),
                event = goes.next_event() => drop(event?),
            }
        }
        Ok(())
    })
    .await?;
    backend.group_is(&group, "Stable", 2).await?;
    let (was, of_other) = (goes.assignment()?, stays.assignment()?);
    let epoch = stays.group_metadata().await?.ok_or("no member")?.generation_id;
    let twin = fixed("stays").connect_lazy()?;
    let refused = guarded("a second one", async {
        let mut twin = twin;
        loop {
            match twin.next_event().await {
                Err(error) if error.is_fatal() => return Ok(error),
                Err(_) | Ok(Some(_)) => {}
                Ok(None) => return Err("the end".into()),
            }
        }
    })
    .await?;
    assert!(refused.to_string().contains("UNRELEASED_INSTANCE_ID"), "{refused}");
    for _ in 0..2 {
        goes.close().await?;
        goes = fixed("goes").connect().await?;
        guarded("coming back", async {
            while goes.assignment()?.len() < 2 {
                goes.next_event().await?.ok_or("the end")?;
            }
            Ok(())
        })
        .await?;
        assert_eq!(goes.assignment()?, was);
    }
    backend.group_is(&group, "Stable", 2).await?;
    assert_eq!(stays.assignment()?, of_other);
    assert_eq!(stays.group_metadata().await?.ok_or("no member")?.generation_id, epoch, "no rebalance");
    goes.close().await?;
    stays.close().await?;
    Ok(())
}

/// Handles of a group that end together.
fn shut_down(handles: &[ConsumerHandle]) {
    handles.iter().for_each(ConsumerHandle::shutdown);
}

/// A group changes from the classic protocol to the consumer protocol and back, as a whole: committed offsets stay,
/// and nothing is lost or read twice. `auto` goes along with what it finds.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn a_group_that_changes_its_protocol_keeps_its_offsets(backend: &Backend) -> Result<()> {
    let topic = unique("changes");
    backend.create_topic(&topic, 4)?;
    let mut group: Option<Group> = None;
    let mut written = Vec::new();
    for (phase, protocol) in [GroupProtocol::Classic, PROTOCOL, GroupProtocol::Auto, GroupProtocol::Classic]
        .into_iter()
        .enumerate()
    {
        let spec = RecordSpec::new(400).partitions(4).seed(phase as u64);
        backend.produce(&topic, "none", &spec)?;
        written.push(spec);
        let mut next = Group::over(backend, &topic, protocol);
        if let Some(before) = &group {
            next.group.clone_from(&before.group);
        }
        let handles = [next.join(0).await?, next.join(1).await?];
        next.until("both", |g| g.count() == 400 && g.sizes() == [2, 2]).await?;
        shut_down(&handles);
        next.until("nobody", |g| g.owned.is_empty()).await?;
        assert_eq!(next.repeated, 0, "{protocol:?}");
        written.iter().cloned().for_each(|spec| next.wrote(spec));
        next.assert_as_written();
        let end = 100 * (phase as i64 + 1);
        assert_eq!(backend.committed(&next.group, &topic)?, (0..4).map(|p| (p, end)).collect());
        assert_eq!(next.resets.len(), if phase == 0 { 4 } else { 0 }, "{:?}", next.resets);
        backend.group_is(&next.group, "Empty", 0).await?;
        group = Some(next);
    }
    Ok(())
}
