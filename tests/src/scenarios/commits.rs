//! Item 5: what is committed, and what is not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ottla::{Commit, CommitError, CommitToken, Event, GroupProtocol, Offset, TopicPartition};

use super::{Backend, GUARD, Result, guarded, over};
use crate::kafka::{RecordSpec, unique};

/// Automatic commits hold only what the reader came back from: not the batch in hand, not at close.
///
/// # Errors
/// When more is committed, or it hangs.
pub async fn auto_commits_only_what_the_reader_came_back_from(backend: &Backend) -> Result<()> {
    auto_commits(backend, GroupProtocol::Classic).await
}

pub(super) async fn auto_commits(backend: &Backend, protocol: GroupProtocol) -> Result<()> {
    let (topic, group) = (unique("auto"), unique("auto"));
    backend.create_topic(&topic, 1)?;
    backend.produce(&topic, "none", &RecordSpec::new(100).partitions(1))?;
    let builder =
        || over(&backend.bootstrap(), &group, protocol).subscribe([topic.as_str()]).max_batch_records(10);
    let mut consumer = builder().connect().await?;
    let in_hand = guarded("three batches", async {
        for _ in 0..2 {
            consumer.next_batch().await?.ok_or("the end")?;
        }
        Ok(consumer.next_batch().await?.ok_or("the end")?)
    })
    .await?;
    let done = in_hand.first_offset();
    // Closing is not coming back: the batch in hand is not done.
    consumer.close().await?;
    assert_eq!(backend.committed(&group, &topic)?.get(&0), Some(&done));
    drop(in_hand);

    let mut consumer = builder().connect().await?;
    guarded("the rest", async {
        // Held back by a handle: a record that is alive is not done, however often the reader comes back.
        let held = consumer.next_record().await?.ok_or("the end")?;
        assert_eq!(held.offset(), done);
        for _ in 0..20 {
            consumer.next_record().await?.ok_or("the end")?;
        }
        consumer.close().await?;
        assert_eq!(backend.committed(&group, &topic)?.get(&0), Some(&done));
        drop(held);
        Ok(())
    })
    .await
}

/// Automatic commits while reading goes on: up to what is in hand and never beyond, interval after interval; and when
/// that is done, they go on.
///
/// # Errors
/// When more is committed, or it hangs.
pub async fn auto_commits_in_between_stop_before_what_is_in_hand(backend: &Backend) -> Result<()> {
    auto_commits_in_between(backend, GroupProtocol::Classic).await
}

pub(super) async fn auto_commits_in_between(backend: &Backend, protocol: GroupProtocol) -> Result<()> {
    const EACH: i64 = 200;
    let (topic, group) = (unique("interval"), unique("interval"));
    backend.create_topic(&topic, 2)?;
    let produce = |partition, seed| {
        let spec = RecordSpec::new(EACH as u64).partition(partition).seed(seed);
        backend.produce(&topic, "none", &spec)
    };
    produce(0, 0)?;
    let mut consumer = over(&backend.bootstrap(), &group, protocol)
        .subscribe([topic.as_str()])
        .commit(Commit::Auto { interval: Duration::from_millis(50) })
        .max_batch_records(10)
        .connect()
        .await?;
    let committed = || backend.committed(&group, &topic);
    let held = guarded("the third batch", async {
        for _ in 0..2 {
            consumer.next_batch().await?.ok_or("the end")?;
        }
        let batch = consumer.next_batch().await?.ok_or("the end")?;
        Ok(batch.records().next().ok_or("a record")?)
    })
    .await?;
    let done = held.offset();
    assert!(done > 0);
    // Nobody reads meanwhile.
    guarded("a commit", async {
        while committed()?.get(&0) != Some(&done) {
            assert!(committed()?.get(&0).is_none_or(|offset| *offset <= done));
            tokio::task::yield_now().await;
        }
        Ok(())
    })
    .await?;
    // The other partition tells that intervals pass: what is done there is committed, round after round.
    for round in 1..=5 {
        produce(1, round as u64)?;
        guarded("the other partition", async {
            while consumer.position(&TopicPartition::new(topic.as_str(), 1))? != Some(EACH * round) {
                consumer.next_batch().await?.ok_or("the end")?;
            }
            loop {
                let now = committed()?;
                assert_eq!(now.get(&0), Some(&done), "it is in hand");
                if now.get(&1).is_some_and(|offset| *offset > EACH * (round - 1)) {
                    return Ok(());
                }
                tokio::task::yield_now().await;
            }
        })
        .await?;
    }
    drop(held);
    produce(1, 6)?;
    guarded("the end", async {
        consumer.next_batch().await?.ok_or("the end")?;
        while committed()?.get(&0) != Some(&EACH) {
            tokio::task::yield_now().await;
        }
        Ok(())
    })
    .await?;
    consumer.close().await?;
    Ok(())
}

/// Per record, per batch, explicit offsets, marks: each is where the next member begins, and a cumulative commit
/// never goes back by itself.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn manual_commits_are_where_the_next_member_begins(backend: &Backend) -> Result<()> {
    manual_commits(backend, GroupProtocol::Classic).await
}

pub(super) async fn manual_commits(backend: &Backend, protocol: GroupProtocol) -> Result<()> {
    let (topic, group) = (unique("manual"), unique("manual"));
    backend.create_topic(&topic, 1)?;
    backend.produce(&topic, "none", &RecordSpec::new(100).partitions(1))?;
    let tp = TopicPartition::new(topic.as_str(), 0);
    let connect = || async {
        let builder = over(&backend.bootstrap(), &group, protocol)
            .subscribe([topic.as_str()])
            .commit(Commit::Manual)
            .max_batch_records(10);
        builder.connect().await
    };
    let mut expected = 0;
    for how in 0..4 {
        let mut consumer = connect().await?;
        let batch = guarded("a batch", async { Ok(consumer.next_batch().await?.ok_or("the end")?) }).await?;
        assert_eq!(batch.first_offset(), expected, "round {how}");
        match how {
            0 => {
                // The producer decides how many records a batch has.
                let record = batch.records().take(4).last().ok_or("a record")?;
                consumer.commit(&record).await?;
                expected = record.offset() + 1;
            }
            1 => {
                consumer.commit(&batch).await?;
                expected = batch.next_offset();
                // At or below what this ownership committed: done already, and nothing goes back.
                let earlier = batch.records().next().ok_or("a record")?;
                consumer.commit(&earlier).await?;
            }
            2 => {
                consumer.commit((tp.clone(), expected + 2)).await?;
                expected += 2;
                let back = consumer.commit((tp.clone(), expected - 1)).await;
                assert!(matches!(back, Err(CommitError::WouldRewind { .. })), "{back:?}");
            }
            _ => {
                // Marks: only the gap-free prefix.
                let gap = batch.records().take(6).last().ok_or("a record")?.offset();
                for record in batch.records().filter(|r| r.offset() != gap) {
                    record.token().mark();
                }
                expected = gap;
            }
        }
        drop(batch);
        consumer.close().await?;
        assert_eq!(backend.committed(&group, &topic)?.get(&0), Some(&expected), "round {how}");
    }
    Ok(())
}

/// A commit with a token of a lost ownership gives `NotOwned`, and the broker's offset does not move: whether the
/// ownership was lost to another member, by a seek, or by giving up the subscription. That of a partition which was
/// kept through the rebalance is as good as before.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn a_token_of_a_lost_ownership_moves_nothing(backend: &Backend) -> Result<()> {
    lost_tokens(backend, GroupProtocol::Classic).await
}

pub(super) async fn lost_tokens(backend: &Backend, protocol: GroupProtocol) -> Result<()> {
    let (topic, group) = (unique("token"), unique("token"));
    backend.create_topic(&topic, 2)?;
    backend.produce(&topic, "none", &RecordSpec::new(200).partitions(2))?;
    let connect = || async {
        let builder = over(&backend.bootstrap(), &group, protocol)
            .subscribe([topic.as_str()])
            .commit(Commit::Manual)
            .max_batch_records(10);
        builder.connect().await
    };
    let committed = || backend.committed(&group, &topic);
    let not_owned = |refused: std::result::Result<(), CommitError>| {
        assert!(matches!(refused, Err(CommitError::NotOwned)), "{refused:?}");
    };
    let mut first = connect().await?;
    let mut tokens: BTreeMap<TopicPartition, CommitToken> = BTreeMap::new();
    guarded("a batch of each", async {
        while tokens.len() < 2 {
            let batch = first.next_batch().await?.ok_or("the end")?;
            tokens.entry(batch.topic_partition().clone()).or_insert_with(|| batch.token());
        }
        Ok(())
    })
    .await?;
    // That of a partition may still be under way when its first records come.
    let begun = Instant::now();
    while committed()?.len() < 2 {
        assert!(begun.elapsed() < GUARD, "where the reset policy began is not committed: {:?}", committed()?);
        tokio::task::yield_now().await;
    }
    assert_eq!(committed()?, [(0, 0), (1, 0)].into(), "only where the reset policy began");

    // Lost to another member, while the other partition is kept.
    let mut second = connect().await?;
    let given_back = async {
        loop {
            if let Event::Revoking(revocation) = first.next_event().await?.ok_or("the end")? {
                let [tp] = revocation.partitions() else { return Err(format!("{revocation:?}").into()) };
                let tp = tp.clone();
                revocation.finish([]);
                return Ok(tp);
            }
        }
    };
    let lost = guarded("giving one back", given_back).await?;
    let of_lost = tokens.remove(&lost).ok_or("a token")?;
    let (kept, of_kept) = tokens.pop_first().ok_or("the other")?;
    guarded("the next owner", async {
        loop {
            if let Event::Batch(batch) = second.next_event().await?.ok_or("the end")? {
                assert_eq!(*batch.topic_partition(), lost);
                second.commit((lost.clone(), 50)).await?;
                return Ok(());
            }
        }
    })
    .await?;
    let (l, k) = (lost.partition() as u32, kept.partition() as u32);
    not_owned(first.commit(of_lost.clone()).await);
    not_owned(first.commit((lost.clone(), 70)).await);
    assert_eq!(committed()?, [(l, 50), (k, 0)].into());
    // The same among others: each is answered for itself.
    let both = first.commit([of_lost.clone(), of_kept.clone()]).await;
    let Err(CommitError::Partial(failed)) = both else { return Err(format!("{both:?}").into()) };
    assert!(matches!(&failed[..], [(tp, CommitError::NotOwned)] if *tp == lost), "{failed:?}");
    let of_kept = of_kept.next_offset();
    assert_eq!(committed()?, [(l, 50), (k, of_kept)].into());

    // Lost by a seek.
    backend.produce(&topic, "none", &RecordSpec::new(100).partition(k).seed(1))?;
    let later = guarded("one more", async {
        loop {
            match first.next_event().await?.ok_or("the end")? {
                Event::Batch(batch) if batch.first_offset() >= of_kept => return Ok(batch.token()),
                _ => {}
            }
        }
    })
    .await?;
    first.seek(&kept, Offset::At(of_kept)).await?;
    not_owned(first.commit(later).await);
    assert_eq!(committed()?, [(l, 50), (k, of_kept)].into());

    // Lost with the subscription.
    let again =
        guarded("the same again", async { Ok(first.next_batch().await?.ok_or("the end")?.token()) }).await?;
    first.unsubscribe().await?;
    guarded("the one that is left", async {
        while second.assignment()?.len() < 2 {
            second.next_event().await?.ok_or("the end")?;
        }
        Ok(())
    })
    .await?;
    not_owned(first.commit(again).await);
    assert_eq!(committed()?, [(l, 50), (k, of_kept)].into());
    second.close().await?;
    first.close().await?;
    Ok(())
}
