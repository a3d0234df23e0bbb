//! A group of consumers that tell what they are given, and whose partitions nobody else may own meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ottla::{Assignor, Commit, ConsumerHandle, Event, GroupProtocol, ResetCause, TopicPartition};
use ottla::{Builder, Consumer};
use ottla_broker::Broker;
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior};

use super::bytes::as_expected;
use super::mortal::Network;
use super::{Backend, Result, guarded, over};
use crate::kafka::{Expected, RecordSpec, unique};

/// Partitions.
pub type Partitions = BTreeSet<TopicPartition>;

/// What a member was told about its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It owns these in addition.
    Assigned(Partitions),
    /// It has these to give back.
    Revoking(Partitions),
}

/// What a member is besides what all are, by its number.
pub type Join = fn(usize, Builder) -> Builder;

/// What members of a group report.
#[derive(Debug)]
enum Told {
    Changed(usize, Change),
    /// It read on after a revocation.
    GaveBack(usize, Partitions),
    Records(TopicPartition, Vec<(i64, Expected)>),
    Reset(TopicPartition, i64, ResetCause),
    Ended(usize),
    Failed(String),
}

/// Who owns what, as the readers see it: never two.
#[derive(Clone, Debug, Default)]
struct Owners(Arc<Mutex<BTreeMap<TopicPartition, usize>>>);

impl Owners {
    fn on<T>(&self, act: impl FnOnce(&mut BTreeMap<TopicPartition, usize>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self, id: usize, partitions: &Partitions) {
        self.on(|owners| {
            for tp in partitions {
                let before = owners.insert(tp.clone(), id);
                assert_eq!(before, None, "{tp} is owned by {before:?} and {id}");
            }
        });
    }

    fn give(&self, id: usize, partitions: &Partitions) {
        self.on(|owners| {
            for tp in partitions {
                let before = owners.remove(tp);
                assert_eq!(before, Some(id), "{tp} was taken from {id} before it gave it");
            }
        });
    }
}

/// A group under observation.
pub struct Group {
    bootstrap: String,
    joined: u64,
    /// The embedded broker, if it has no sockets.
    without_sockets: Option<Arc<Broker>>,
    /// Its id.
    pub group: String,
    topic: String,
    assignor: Assignor,
    protocol: GroupProtocol,
    /// Of the members that join from now on, in a classic group.
    pub session_timeout: Duration,
    /// Of the members that join from now on: by hand they commit each batch before they read on.
    pub commit: Commit,
    /// Whether the members that join from now on have instance ids.
    pub fixed: bool,
    /// What else the members that join from now on are.
    pub with: Join,
    owners: Owners,
    /// Members that do not read on after a revocation.
    holding: watch::Sender<BTreeSet<usize>>,
    tell: mpsc::UnboundedSender<Told>,
    told: mpsc::UnboundedReceiver<Told>,
    /// What each member owns.
    pub owned: BTreeMap<usize, Partitions>,
    /// What each member has to give back and has not: still its own.
    pub held: BTreeMap<usize, Partitions>,
    /// What each member was told, in order.
    pub changes: Vec<(usize, Change)>,
    /// What the reset policy decided.
    pub resets: Vec<(TopicPartition, i64, ResetCause)>,
    seen: BTreeMap<TopicPartition, BTreeMap<i64, Expected>>,
    /// What was written, in order.
    written: Vec<RecordSpec>,
    /// Records that were handed out more than once.
    pub repeated: usize,
    /// Who writes meanwhile.
    feed: Option<Feed>,
}

type Write = Box<dyn FnMut(&RecordSpec) -> Result<()> + Send>;

/// Somebody who writes all the time.
struct Feed {
    partitions: u32,
    write: Write,
    ticks: Interval,
}

impl Feed {
    async fn tick(feed: &mut Option<Self>) {
        match feed {
            Some(feed) => drop(feed.ticks.tick().await),
            None => std::future::pending().await,
        }
    }
}

impl Group {
    /// A group without members, on `topic`.
    pub fn new(backend: &Backend, topic: &str, assignor: Assignor) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        Self {
            bootstrap: backend.bootstrap(),
            joined: 0,
            without_sockets: backend.without_sockets().cloned(),
            group: unique("group"),
            topic: topic.to_owned(),
            assignor,
            protocol: GroupProtocol::Classic,
            session_timeout: Duration::from_secs(10),
            commit: Commit::Auto { interval: Duration::from_secs(5) },
            fixed: false,
            with: |_, member| member,
            owners: Owners::default(),
            holding: watch::Sender::default(),
            tell,
            told,
            owned: BTreeMap::new(),
            held: BTreeMap::new(),
            changes: Vec::new(),
            resets: Vec::new(),
            seen: BTreeMap::new(),
            written: Vec::new(),
            repeated: 0,
            feed: None,
        }
    }

    /// A group without members whose members speak `protocol`; classic ones are cooperative.
    pub fn over(backend: &Backend, topic: &str, protocol: GroupProtocol) -> Self {
        Self { protocol, ..Self::new(backend, topic, Assignor::CooperativeSticky) }
    }

    /// A new member. Shutting it down makes it close.
    ///
    /// # Errors
    /// When it cannot connect.
    pub async fn join(&mut self, id: usize) -> Result<ConsumerHandle> {
        self.join_as(id, self.protocol).await
    }

    /// A new member that speaks another protocol, perhaps.
    ///
    /// # Errors
    /// When it cannot connect.
    pub async fn join_as(&mut self, id: usize, protocol: GroupProtocol) -> Result<ConsumerHandle> {
        let mut builder = over(&self.bootstrap, &self.group, protocol)
            .client_id(format!("member-{id}"))
            .subscribe([self.topic.as_str()])
            .commit(self.commit);
        if self.fixed {
            builder = builder.group_instance_id(format!("instance-{id}"));
        }
        if protocol == GroupProtocol::Classic {
            builder = builder.assignors([self.assignor]).session_timeout(self.session_timeout);
        }
        if self.without_sockets.is_some() {
            self.joined += 1;
            builder = Network::good().plug(self.without_sockets.as_ref(), builder).__seed(self.joined);
        }
        let consumer = (self.with)(id, builder).connect().await?;
        let handle = consumer.handle();
        let (owners, holding, tell) = (self.owners.clone(), self.holding.subscribe(), self.tell.clone());
        let member = tokio::spawn(member(id, consumer, self.commit, owners, holding, tell.clone()));
        tokio::spawn(async move {
            let end = match member.await {
                Ok(Ok(())) => Told::Ended(id),
                Ok(Err(error)) => Told::Failed(format!("member {id}: {error}")),
                Err(panicked) => Told::Failed(format!("member {id}: {panicked}")),
            };
            let _ = tell.send(end);
        });
        Ok(handle)
    }

    /// From now on these members do not read on after a revocation, and go on when they are not among these any
    /// more.
    pub fn hold(&self, members: impl IntoIterator<Item = usize>) {
        self.holding.send_replace(members.into_iter().collect());
    }

    /// Takes in what members say until `done`.
    ///
    /// # Errors
    /// When a member failed, or that hangs.
    pub async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Result<()> {
        let result = guarded(what, async {
            while !done(self) {
                tokio::select! {
                    biased;
                    told = self.told.recv() => self.take_in(told.ok_or("all members are gone")?)?,
                    () = Feed::tick(&mut self.feed) => self.write()?,
                }
            }
            Ok(())
        });
        result.await.map_err(|error| {
            let (sizes, count) = (self.sizes(), self.count());
            format!("{error}: {count} records, {sizes:?} owned, {:?} held", self.held).into()
        })
    }

    /// Takes in what members have said already.
    ///
    /// # Errors
    /// When a member failed.
    pub fn look(&mut self) -> Result<()> {
        while let Ok(told) = self.told.try_recv() {
            self.take_in(told)?;
        }
        Ok(())
    }

    fn take_in(&mut self, told: Told) -> Result<()> {
        match told {
            Told::Changed(id, change) => {
                match &change {
                    Change::Assigned(new) => self.owned.entry(id).or_default().extend(new.iter().cloned()),
                    Change::Revoking(old) => {
                        self.held.insert(id, old.clone());
                    }
                }
                self.changes.push((id, change));
            }
            Told::GaveBack(id, old) => {
                self.held.remove(&id);
                self.owned.entry(id).or_default().retain(|tp| !old.contains(tp));
            }
            Told::Records(tp, records) => {
                let seen = self.seen.entry(tp).or_default();
                for (offset, record) in records {
                    self.repeated += usize::from(seen.insert(offset, record).is_some());
                }
            }
            Told::Reset(tp, offset, cause) => self.resets.push((tp, offset, cause)),
            Told::Ended(id) => {
                self.owned.remove(&id);
            }
            Told::Failed(why) => return Err(why.into()),
        }
        Ok(())
    }

    /// From now on somebody writes ten records to each of these partitions, ten times a second, while the members are
    /// [listened to](Self::until).
    pub fn write_on(&mut self, backend: &Arc<Backend>, partitions: u32) {
        let (backend, topic) = (Arc::clone(backend), self.topic.clone());
        let write: Write = Box::new(move |spec| backend.produce(&topic, "none", spec));
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.feed = Some(Feed { partitions, write, ticks });
    }

    /// From now on nobody writes. Gives how many records were written.
    pub fn write_no_more(&mut self) -> usize {
        self.feed = None;
        self.written.iter().map(|spec| spec.indexes().count()).sum()
    }

    fn write(&mut self) -> Result<()> {
        let seed = self.next_seed();
        let Some(feed) = &mut self.feed else { return Ok(()) };
        let spec = RecordSpec::new(10 * u64::from(feed.partitions)).partitions(feed.partitions).seed(seed);
        (feed.write)(&spec)?;
        self.wrote(spec);
        Ok(())
    }

    /// How many partitions each member owns.
    pub fn sizes(&self) -> Vec<usize> {
        self.owned.values().map(BTreeSet::len).collect()
    }

    /// How many different records were handed out.
    pub fn count(&self) -> usize {
        self.seen.values().map(BTreeMap::len).sum()
    }

    /// How many different records of a partition were handed out.
    pub fn count_of(&self, tp: &TopicPartition) -> usize {
        self.seen.get(tp).map_or(0, BTreeMap::len)
    }

    /// The offsets of a partition that were handed out.
    pub fn offsets_of(&self, tp: &TopicPartition) -> Vec<i64> {
        self.seen.get(tp).into_iter().flat_map(BTreeMap::keys).copied().collect()
    }

    /// The offsets that were handed out, by partition.
    pub fn seen(&self) -> BTreeMap<TopicPartition, BTreeSet<i64>> {
        self.seen.iter().map(|(tp, records)| (tp.clone(), records.keys().copied().collect())).collect()
    }

    /// Takes note of what somebody writes, before or after: records are compared with it.
    pub fn wrote(&mut self, spec: RecordSpec) {
        self.written.push(spec);
    }

    /// What was written for `other`, another group that reads the same topic from its beginning on.
    pub fn wrote_the_same(&mut self, other: &Self) {
        self.written.clone_from(&other.written);
    }

    /// The seed of the next records, which no record before has.
    pub fn next_seed(&self) -> u64 {
        self.written.len() as u64
    }

    /// What was written to a partition, in order.
    fn written_to(&self, partition: u32) -> Vec<Expected> {
        self.written.iter().flat_map(|spec| spec.of_partition(partition)).collect()
    }

    /// Every record that was handed out is, byte for byte, the one that was written there.
    ///
    /// # Panics
    /// When one is not.
    pub fn assert_as_written(&self) {
        for (tp, records) in &self.seen {
            let written = self.written_to(tp.partition() as u32);
            for (offset, record) in records {
                assert_eq!(Some(record), written.get(*offset as usize), "{tp} at {offset}");
            }
        }
    }

    /// Every record was handed out and none twice, byte for byte as it was written, however the log came to be: what
    /// is in it twice, because a producer sent a batch again across a restart, is handed out as often.
    ///
    /// # Errors
    /// When the log cannot be read.
    ///
    /// # Panics
    /// When something is missing, is not as it was written, or was handed out more often than the log has it.
    pub fn assert_log_once(&self, backend: &Backend, partitions: u32) -> Result<()> {
        for p in 0..partitions {
            let tp = TopicPartition::new(self.topic.as_str(), p as i32);
            let written = self.written_to(p);
            let seen = self.seen.get(&tp).into_iter().flatten();
            if seen.clone().map(|(offset, record)| (*offset, record)).eq((0..).zip(&written)) {
                continue;
            }
            // More or something else than was written: only the log itself can justify that.
            let log = backend.log(&self.topic, p)?;
            assert!(
                seen.map(|(offset, record)| (*offset, record)).eq((0..).zip(&log)),
                "{tp} is not the log"
            );
            let mut once = Vec::new();
            let mut known = BTreeSet::new();
            for record in &log {
                // Keys and values differ from record to record: they follow from seed and index.
                if known.insert((&record.timestamp, &record.key, &record.value)) {
                    once.push(record);
                }
            }
            assert!(once.into_iter().eq(&written), "{tp}: the log is not what was written");
        }
        assert_eq!(self.repeated, 0, "handed out twice");
        self.assert_reset_once_at_the_beginning(partitions);
        Ok(())
    }

    /// What this member was told since `changes` had this length.
    pub fn changes_of(&self, id: usize, since: usize) -> Vec<&Change> {
        self.changes
            .iter()
            .skip(since)
            .filter(|(member, _)| *member == id)
            .map(|(_, change)| change)
            .collect()
    }

    /// Every record was handed out and none twice, as it was written, and each partition was reset once, at its
    /// beginning, because nothing was committed: there is no other reason.
    ///
    /// # Panics
    /// When it is otherwise.
    pub fn assert_each_record_once(&self, partitions: u32, each: i64) {
        for p in 0..partitions {
            let offsets = self.offsets_of(&TopicPartition::new(self.topic.as_str(), p as i32));
            assert!(offsets.iter().copied().eq(0..each), "partition {p} of {each}: {offsets:?}");
        }
        self.assert_as_written();
        assert_eq!(self.repeated, 0, "handed out twice");
        self.assert_reset_once_at_the_beginning(partitions);
    }

    /// Each partition was reset once, at its beginning, because nothing was committed.
    ///
    /// # Panics
    /// When it is otherwise.
    pub fn assert_reset_once_at_the_beginning(&self, partitions: u32) {
        let mut resets = self.resets.clone();
        resets.sort_by(|a, b| a.0.cmp(&b.0));
        let at_the_beginning =
            |p| (TopicPartition::new(self.topic.as_str(), p), 0, ResetCause::NoCommittedOffset);
        let expected: Vec<_> = (0..partitions as i32).map(at_the_beginning).collect();
        assert_eq!(resets, expected);
    }
}

/// Reads until the end, and says what it meets.
async fn member(
    id: usize,
    mut consumer: Consumer,
    commit: Commit,
    owners: Owners,
    mut holding: watch::Receiver<BTreeSet<usize>>,
    tell: mpsc::UnboundedSender<Told>,
) -> Result<()> {
    let mut mine = Partitions::new();
    while let Some(event) = consumer.next_event().await? {
        match event {
            Event::Batch(batch) => {
                let tp = batch.topic_partition().clone();
                assert!(mine.contains(&tp), "member {id} was handed {tp}, which is not its own");
                if matches!(commit, Commit::Manual) {
                    consumer.commit(&batch).await?;
                }
                let records = batch.records().map(|r| (r.offset(), as_expected(&r))).collect();
                let _ = tell.send(Told::Records(tp, records));
            }
            Event::Assigned(partitions) => {
                let new: Partitions = partitions.into_iter().collect();
                owners.take(id, &new);
                mine.extend(new.iter().cloned());
                let _ = tell.send(Told::Changed(id, Change::Assigned(new)));
            }
            Event::Revoking(revocation) => {
                let old: Partitions = revocation.partitions().iter().cloned().collect();
                let _ = tell.send(Told::Changed(id, Change::Revoking(old.clone())));
                let _ = holding.wait_for(|held| !held.contains(&id)).await;
                // Nothing but reading on ends the ownership.
                owners.give(id, &old);
                mine.retain(|tp| !old.contains(tp));
                let _ = tell.send(Told::GaveBack(id, old));
            }
            Event::OffsetReset { topic_partition, offset, cause } => {
                let _ = tell.send(Told::Reset(topic_partition, offset, cause));
            }
            Event::Lost(partitions) => return Err(format!("it lost {partitions:?}").into()),
            other => return Err(format!("it was told {other:?}").into()),
        }
    }
    // Closing commits and leaves: from here on others may have them.
    owners.give(id, &mine);
    consumer.close().await?;
    Ok(())
}
