//! A group of consumers that tell what they are given, and whose partitions nobody else may own meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla::{Assignor, Consumer, ConsumerHandle, Event, TopicPartition};
use tokio::sync::mpsc;

use super::{Backend, Result, guarded};
use crate::kafka::unique;

/// What members of a group report.
#[derive(Debug)]
enum Told {
    Owns(usize, BTreeSet<TopicPartition>),
    Records(TopicPartition, Vec<i64>),
    Ended(usize),
}

/// Who owns what, as the readers see it: never two.
type Owners = Arc<Mutex<BTreeMap<TopicPartition, usize>>>;

/// A group under observation.
#[derive(Debug)]
pub struct Group {
    bootstrap: String,
    /// Its id.
    pub group: String,
    topic: String,
    assignor: Assignor,
    /// Of the members that join from now on.
    pub session_timeout: Duration,
    owners: Owners,
    tell: mpsc::UnboundedSender<Told>,
    told: mpsc::UnboundedReceiver<Told>,
    /// What each member owns.
    pub owned: BTreeMap<usize, BTreeSet<TopicPartition>>,
    seen: BTreeMap<TopicPartition, BTreeSet<i64>>,
    /// Records that were handed out more than once.
    pub repeated: usize,
}

impl Group {
    /// A group without members, on `topic`.
    pub fn new(backend: &Backend, topic: &str, assignor: Assignor) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        Self {
            bootstrap: backend.bootstrap(),
            group: unique("group"),
            topic: topic.to_owned(),
            assignor,
            session_timeout: Duration::from_secs(10),
            owners: Owners::default(),
            tell,
            told,
            owned: BTreeMap::new(),
            seen: BTreeMap::new(),
            repeated: 0,
        }
    }

    /// A new member. Shutting it down makes it close.
    ///
    /// # Errors
    /// When it cannot connect.
    pub async fn join(&mut self, id: usize) -> Result<ConsumerHandle> {
        let mut consumer = Consumer::builder(self.bootstrap.as_str())
            .group(self.group.as_str())
            .subscribe([self.topic.as_str()])
            .assignors([self.assignor])
            .session_timeout(self.session_timeout)
            .heartbeat_interval(Duration::from_millis(300))
            .connect()
            .await?;
        let handle = consumer.handle();
        let (owners, tell) = (self.owners.clone(), self.tell.clone());
        tokio::spawn(async move {
            let mut mine = BTreeSet::new();
            loop {
                let event = match consumer.next_event().await {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(error) => panic!("member {id}: {error}"),
                };
                match event {
                    Event::Batch(batch) => {
                        let tp = batch.topic_partition().clone();
                        assert!(mine.contains(&tp), "member {id} was handed {tp}, which is not its own");
                        let offsets = batch.iter().map(|r| r.offset()).collect();
                        let _ = tell.send(Told::Records(tp, offsets));
                    }
                    Event::Assigned(partitions) => {
                        let mut owners = owners.lock().unwrap();
                        for tp in partitions {
                            let before = owners.insert(tp.clone(), id);
                            assert_eq!(before, None, "{tp} is owned by {before:?} and {id}");
                            mine.insert(tp);
                        }
                        let _ = tell.send(Told::Owns(id, mine.clone()));
                    }
                    Event::Revoking(revocation) => {
                        let mut owners = owners.lock().unwrap();
                        for tp in revocation.partitions() {
                            owners.remove(tp);
                            mine.remove(tp);
                        }
                        let _ = tell.send(Told::Owns(id, mine.clone()));
                    }
                    Event::Lost(partitions) => panic!("member {id} lost {partitions:?}"),
                    _ => {}
                }
            }
            {
                let mut owners = owners.lock().unwrap();
                owners.retain(|_, owner| *owner != id);
            }
            consumer.close().await.expect("a clean close");
            let _ = tell.send(Told::Ended(id));
        });
        Ok(handle)
    }

    /// Takes in what members say until `done`.
    ///
    /// # Errors
    /// When that hangs.
    pub async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Result<()> {
        guarded(what, async {
            while !done(self) {
                match self.told.recv().await.ok_or("all members are gone")? {
                    Told::Owns(id, owned) => {
                        self.owned.insert(id, owned);
                    }
                    Told::Records(tp, offsets) => {
                        let seen = self.seen.entry(tp).or_default();
                        for offset in offsets {
                            self.repeated += usize::from(!seen.insert(offset));
                        }
                    }
                    Told::Ended(id) => {
                        self.owned.remove(&id);
                    }
                }
            }
            Ok(())
        })
        .await
    }

    /// How many partitions each member owns.
    pub fn sizes(&self) -> Vec<usize> {
        self.owned.values().map(BTreeSet::len).collect()
    }

    /// How many different records were handed out.
    pub fn count(&self) -> usize {
        self.seen.values().map(BTreeSet::len).sum()
    }
}
