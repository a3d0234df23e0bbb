//! Where partitions come from, and where they begin: offsets in a store of the user's own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ottla::{Batch, Builder, Commit, Consumer, GroupProtocol, Offset, OffsetReset, TopicPartition};

use super::{Backend, Result, guarded, over};
use crate::kafka::{RecordSpec, unique};

/// A database: results and offsets, changed together.
#[derive(Clone, Default)]
struct Database(Arc<Mutex<BTreeMap<TopicPartition, i64>>>);

impl Database {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn total(&self) -> i64 {
        self.lock().values().sum()
    }

    /// A transaction: what was taken over already is refused.
    fn insert(&self, batch: &Batch) -> Result<()> {
        let mut offsets = self.lock();
        let next = offsets.entry(batch.topic_partition().clone()).or_default();
        if *next != batch.first_offset() {
            return Err(format!("{batch:?} does not begin at {next}").into());
        }
        *next = batch.next_offset();
        Ok(())
    }

    fn keeps_the_offsets_of(&self, builder: Builder) -> Builder {
        let database = self.clone();
        builder.start_offsets(move |partitions| {
            let offsets = database.lock().clone();
            async move {
                let known =
                    partitions.into_iter().filter_map(|p| Some((p.clone(), Offset::At(*offsets.get(&p)?))));
                Ok::<_, std::io::Error>(known.collect::<Vec<_>>())
            }
        })
    }
}

/// With the offsets in a database each batch is in it once, whoever has the partition: members that end without a word
/// of what they did, and members that come, go on where the database says. Kafka is told no offset.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn offsets_in_a_database_decide_where_reading_begins(backend: &Backend) -> Result<()> {
    offsets_in_a_database(backend, GroupProtocol::Classic).await
}

pub(super) async fn offsets_in_a_database(backend: &Backend, protocol: GroupProtocol) -> Result<()> {
    let (topic, group) = (unique("external"), unique("external"));
    backend.create_topic(&topic, 4)?;
    backend.produce(&topic, "none", &RecordSpec::new(400).partitions(4))?;
    let database = Database::default();
    let connect = || async {
        let builder = over(&backend.bootstrap(), &group, protocol).subscribe([topic.as_str()]);
        database.keeps_the_offsets_of(builder).max_batch_records(7).connect().await
    };
    for round in 1..=3 {
        let mut consumer = connect().await?;
        guarded("some batches", async {
            while database.total() < round * 60 {
                database.insert(&consumer.next_batch().await?.ok_or("the end")?)?;
            }
            // One that is handed out and not done: it comes again.
            consumer.next_batch().await?.ok_or("the end")?;
            Ok(())
        })
        .await?;
        consumer.close().await?;
    }
    let (mut first, mut second) = (connect().await?, connect().await?);
    guarded("the rest by two members", async {
        while database.total() < 400 {
            let batch = tokio::select! {
                batch = first.next_batch() => batch,
                batch = second.next_batch() => batch,
            };
            database.insert(&batch?.ok_or("the end")?)?;
        }
        Ok(())
    })
    .await?;
    first.close().await?;
    second.close().await?;
    assert!(database.lock().values().all(|offset| *offset == 100), "{:?}", database.lock());
    assert_eq!(backend.committed(&group, &topic)?, BTreeMap::new());
    Ok(())
}

/// Partitions assigned by hand with a group's id are added and taken away one by one: the others are read on without a
/// gap, and what comes back begins where it was committed.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn partitions_are_added_and_taken_away_by_hand(backend: &Backend) -> Result<()> {
    let (topic, group) = (unique("by-hand"), unique("by-hand"));
    backend.create_topic(&topic, 3)?;
    backend.produce(&topic, "none", &RecordSpec::new(300).partitions(3))?;
    let tp = |partition| TopicPartition::new(topic.as_str(), partition);
    let builder = Consumer::builder(backend.bootstrap()).group(group.as_str()).max_batch_records(10);
    let mut consumer = builder.connect().await?;
    consumer.assign([(tp(0), Offset::Earliest)]).await?;
    let mut next: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    guarded("all of them", async {
        for round in 0.. {
            match round {
                3 => {
                    consumer.incremental_assign([(tp(1), Offset::Committed), (tp(2), Offset::At(40))]).await?
                }
                9 => consumer.incremental_unassign([tp(1)]).await?,
                12 => consumer.incremental_assign([(tp(1), Offset::Committed)]).await?,
                _ => {}
            }
            if next.len() == 3 && next.values().all(|next| *next == 100) {
                break;
            }
            let batch = consumer.next_batch().await?.ok_or("the end")?;
            let from = if batch.partition() == 2 { 40 } else { 0 };
            let expected = next.entry(batch.topic_partition().clone()).or_insert(from);
            assert!(batch.first_offset() == *expected, "{batch:?} at {expected}");
            *expected = batch.next_offset();
        }
        // Coming back for more.
        tokio::select! {
            biased;
            more = consumer.next_batch() => Err(format!("{more:?} of nothing").into()),
            () = std::future::ready(()) => Ok(()),
        }
    })
    .await?;
    consumer.close().await?;
    assert_eq!(backend.committed(&group, &topic)?, [(0, 100), (1, 100), (2, 100)].into());
    Ok(())
}

/// Each topic begins by its own policy, and what is done is committed by number, long before the interval is over.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn topics_have_policies_and_commits_come_by_number(backend: &Backend) -> Result<()> {
    let (old, new, group) = (unique("old"), unique("new"), unique("policies"));
    for topic in [&old, &new] {
        backend.create_topic(topic, 1)?;
        backend.produce(topic, "none", &RecordSpec::new(100).partitions(1))?;
    }
    let mut consumer = over(&backend.bootstrap(), &group, GroupProtocol::Classic)
        .subscribe([old.as_str(), new.as_str()])
        .auto_offset_reset_of(new.as_str(), OffsetReset::Latest)
        .commit(Commit::Auto { interval: Duration::from_secs(3600) })
        .commit_records(20)
        .max_batch_records(10)
        .connect()
        .await?;
    guarded("both", async {
        let mut count = 0;
        while count < 100 {
            let batch = consumer.next_batch().await?.ok_or("the end")?;
            assert_eq!((batch.topic(), batch.first_offset()), (old.as_str(), count));
            count = batch.next_offset();
        }
        while backend.committed(&group, &new)?.get(&0) != Some(&100) {
            tokio::task::yield_now().await;
        }
        backend.produce(&new, "none", &RecordSpec::new(50).partitions(1).seed(1))?;
        let batch = consumer.next_batch().await?.ok_or("the end")?;
        assert_eq!((batch.topic(), batch.first_offset()), (new.as_str(), 100));
        while backend.committed(&group, &old)?.get(&0) != Some(&100) {
            tokio::task::yield_now().await;
        }
        Ok(())
    })
    .await?;
    consumer.close().await?;
    Ok(())
}
