//! Where partitions come from, and where they begin: offsets in a store of the user's own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla::{Batch, Builder, GroupProtocol, Offset, TopicPartition};

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
