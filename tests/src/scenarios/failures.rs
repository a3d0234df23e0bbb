//! Items 4 and 8: what dies, restarts and moves.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ottla::{
    Commit, CommitOffset, Consumer, ConsumerHandle, Event, GroupMetadata, GroupProtocol, Offset, ResetCause,
    TopicPartition,
};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::backend::Producer;
use super::{Backend, GUARD, Group, Result, guarded, over};
use crate::kafka::{RecordSpec, unique};

/// A process that reads in a group and is killed, as a crash would.
struct Victim {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

/// What a victim said: its partition, what it committed there, and up to where it read.
struct Words {
    partition: u32,
    committed: i64,
    read: i64,
}

impl Victim {
    /// `program` is that of `src/bin/victim.rs`.
    fn start(
        program: &str,
        backend: &Backend,
        group: &str,
        topic: &str,
        protocol: GroupProtocol,
    ) -> Result<Self> {
        let protocol = if protocol == GroupProtocol::Consumer { "consumer" } else { "classic" };
        let mut child = Command::new(program)
            .args([backend.bootstrap().as_str(), group, topic, protocol])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        Ok(Self { child, lines })
    }

    async fn words(&mut self) -> Result<Words> {
        let line = guarded("the victim", async { Ok(self.lines.next_line().await?) }).await?;
        let line = line.ok_or("the victim ended by itself")?;
        let numbers: Vec<i64> = line.split(' ').map(str::parse).collect::<std::result::Result<_, _>>()?;
        let [partition, committed, read] = numbers[..] else { return Err(line.into()) };
        Ok(Words { partition: partition as u32, committed, read })
    }

    async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// A member is killed: after its session the one that is left takes over at the committed offset, and what comes
/// twice lies behind that. The same for one that starts when everybody is dead. (How long it takes is asserted on
/// virtual time, in `tests/groups_on_broker.rs`.)
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn a_member_that_dies_is_replaced(backend: &Backend, victim: &str) -> Result<()> {
    a_member_dies(backend, victim, GroupProtocol::Classic).await
}

pub(super) async fn a_member_dies(backend: &Backend, victim: &str, protocol: GroupProtocol) -> Result<()> {
    let topic = unique("killed");
    backend.create_topic(&topic, 2)?;
    let spec = |phase| RecordSpec::new(200).partitions(2).seed(phase);
    let produce = |phase| backend.produce(&topic, "none", &spec(phase));
    let tp = |partition: u32| TopicPartition::new(topic.as_str(), partition as i32);
    let seen = |group: &Group, p: u32| group.offsets_of(&tp(p));
    let mut group = Group::over(backend, &topic, protocol);
    let survivor = group.join(0).await?;
    group.until("the survivor alone", |g| g.sizes() == [2]).await?;
    let mut first = Victim::start(victim, backend, &group.group, &topic, protocol)?;
    group.until("the victim's partition", |g| g.sizes() == [1]).await?;
    backend.group_is(&group.group, "Stable", 2).await?;
    produce(0)?;
    let words = first.words().await?;
    assert!(0 < words.committed && words.committed < words.read && words.read <= 100);
    let other = 1 - words.partition;
    group.until("the survivor's records", |g| g.count_of(&tp(other)) == 100).await?;
    let before = group.changes.len();
    first.kill().await?;
    group.until("taking over", |g| g.sizes() == [2]).await?;
    let rest = 100 - words.committed as usize;
    group.until("the rest", |g| g.count_of(&tp(words.partition)) == rest).await?;
    assert_eq!(seen(&group, words.partition), (words.committed..100).collect::<Vec<_>>());
    assert_eq!(seen(&group, other), (0..100).collect::<Vec<_>>());
    assert_eq!(group.repeated, 0, "the survivor read nothing twice");
    group.wrote(spec(0));
    group.assert_as_written();
    group.assert_reset_once_at_the_beginning(2);
    assert_eq!(group.changes_of(0, before).len(), 1, "it kept its own: {:?}", group.changes);
    survivor.shutdown();
    group.until("nobody", |g| g.owned.is_empty()).await?;
    assert_eq!(backend.committed(&group.group, &topic)?, [(0, 100), (1, 100)].into());

    // Nobody is left to take over: who comes waits for the session of the dead.
    produce(1)?;
    let mut second = Victim::start(victim, backend, &group.group, &topic, protocol)?;
    let words = second.words().await?;
    assert!(100 < words.committed && words.committed < words.read);
    second.kill().await?;
    let committed = backend.committed(&group.group, &topic)?;
    let other = 1 - words.partition;
    assert_eq!(committed, [(words.partition, words.committed), (other, 100)].into());
    let mut heirs = Group::over(backend, &topic, protocol);
    heirs.group.clone_from(&group.group);
    let heir = heirs.join(0).await?;
    let count = (200 - words.committed) as usize + 100;
    heirs.until("the heir", |g| g.count() == count).await?;
    assert_eq!(seen(&heirs, words.partition), (words.committed..200).collect::<Vec<_>>());
    assert_eq!(seen(&heirs, other), (100..200).collect::<Vec<_>>());
    heirs.wrote(spec(0));
    heirs.wrote(spec(1));
    heirs.assert_as_written();
    assert_eq!((heirs.repeated, heirs.resets.as_slice()), (0, &[][..]));
    heir.shutdown();
    heirs.until("nobody", |g| g.owned.is_empty()).await
}

/// A session that no restart outlasts: the guard against hanging is shorter.
const LONG: Duration = Duration::from_secs(300);

/// Lets somebody write without a pause while `act` goes on: at least once before, and once after, which the group
/// takes note of. How many records there are then is to be asked of the log: a batch that is sent again across a
/// restart may be in it twice.
fn while_writing(
    producer: &mut Producer<'_>,
    topic: &str,
    group: &mut Group,
    act: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let over = AtomicBool::new(false);
    let (begin, begun) = mpsc::channel();
    thread::scope(|scope| {
        let over = &over;
        let writer = scope.spawn(move || {
            loop {
                let last = over.load(Ordering::Acquire);
                let spec = RecordSpec::new(60).partitions(3).seed(group.next_seed());
                producer.produce(topic, &spec)?;
                group.wrote(spec);
                let _ = begin.send(());
                if last {
                    return Ok(());
                }
            }
        });
        // An error here is the writer's end, which says why.
        let acted = begun.recv().map_err(Into::into).and_then(|()| act());
        over.store(true, Ordering::Release);
        let written = writer.join().map_err(|_| "the writer panicked")?;
        acted.and(written)
    })
}

/// What a rebalance would change: the member's generation and id, and what it was told.
async fn membership(handle: &ConsumerHandle, group: &Group) -> Result<(Option<GroupMetadata>, usize)> {
    Ok((handle.group_metadata().await?, group.changes.len()))
}

/// A broker restarts under a consumer while somebody goes on writing: nothing is lost, nothing reset, nothing
/// repeated, and there is no rebalance, because it is back within the session.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn a_restarted_broker_loses_nothing(backend: &Backend) -> Result<()> {
    a_broker_restarts(backend, GroupProtocol::Classic).await
}

pub(super) async fn a_broker_restarts(backend: &Backend, protocol: GroupProtocol) -> Result<()> {
    let topic = unique("restart");
    backend.create_topic(&topic, 3)?;
    let mut producer = backend.producer()?;
    let spec = RecordSpec::new(300).partitions(3);
    producer.produce(&topic, &spec)?;
    let mut group = Group::over(backend, &topic, protocol);
    group.wrote(spec);
    // Longer than the restart takes on any machine: the generation stands.
    group.session_timeout = LONG;
    let handle = group.join(0).await?;
    group.until("before", |g| g.count() == 300).await?;
    let before = membership(&handle, &group).await?;
    assert!(before.0.as_ref().is_some_and(|g| g.generation_id > 0), "{before:?}");
    for _ in 0..2 {
        while_writing(&mut producer, &topic, &mut group, || backend.restart(1))?;
        let ends = backend.ends(&topic, 3)?;
        group.until("after the restart", |g| g.count() as i64 >= ends.iter().sum()).await?;
        assert_eq!(membership(&handle, &group).await?, before, "no rebalance");
    }
    ends_all_read(backend, &topic, group, &handle).await
}

/// The member leaves: everything that was written was handed out as often as it is in the log, and is committed.
async fn ends_all_read(
    backend: &Backend,
    topic: &str,
    mut group: Group,
    member: &ConsumerHandle,
) -> Result<()> {
    member.shutdown();
    group.until("nobody", |g| g.owned.is_empty()).await?;
    let ends = backend.ends(topic, 3)?;
    assert!(ends.iter().all(|end| *end > 100), "{ends:?}");
    group.assert_log_once(backend, 3)?;
    assert_eq!(group.count() as i64, ends.iter().sum::<i64>());
    assert_eq!(backend.committed(&group.group, topic)?, (0..).zip(ends).collect());
    Ok(())
}

/// On three brokers, while somebody goes on writing: leaders move, the coordinator moves, and the coordinator's broker
/// restarts, so that the group finds another one. Nothing is lost, nothing reset, nothing repeated, and there is no
/// rebalance.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn leaders_and_coordinators_move(backend: &Backend) -> Result<()> {
    everything_moves(backend, GroupProtocol::Classic).await
}

pub(super) async fn everything_moves(backend: &Backend, protocol: GroupProtocol) -> Result<()> {
    let topic = unique("moves");
    backend.create_topic(&topic, 3)?;
    let mut producer = backend.producer()?;
    let spec = RecordSpec::new(300).partitions(3);
    producer.produce(&topic, &spec)?;
    let mut group = Group::over(backend, &topic, protocol);
    group.wrote(spec);
    group.session_timeout = LONG;
    let handle = group.join(0).await?;
    group.until("before", |g| g.count() == 300).await?;
    let before = membership(&handle, &group).await?;
    for to in 1..=3 {
        let moving = || (0..3).try_for_each(|partition| backend.move_leader(&topic, partition, to));
        while_writing(&mut producer, &topic, &mut group, moving)?;
        let ends = backend.ends(&topic, 3)?;
        group.until("after the leaders moved", |g| g.count() as i64 >= ends.iter().sum()).await?;
    }
    let first = backend.coordinator(&group.group)?;
    for to in [first % 3 + 1, first] {
        backend.move_coordinator(&group.group, to).await?;
        let spec = RecordSpec::new(60).partitions(3).seed(group.next_seed());
        producer.produce(&topic, &spec)?;
        group.wrote(spec);
        let ends = backend.ends(&topic, 3)?;
        group.until("after the coordinator moved", |g| g.count() as i64 >= ends.iter().sum()).await?;
        // It answers to the member: the offsets that are committed from here on are kept there.
        handle.commit((TopicPartition::new(topic.as_str(), 0), ends[0])).await?;
        assert_eq!(backend.committed(&group.group, &topic)?.get(&0), Some(&ends[0]));
    }
    let coordinator = backend.coordinator(&group.group)?;
    let id = group.group.clone();
    let fail_over = || {
        backend.stop(coordinator)?;
        let begun = Instant::now();
        // Kafka tells nobody when that happens, and may not answer while it does.
        while backend.coordinator(&id).map_or(true, |now| now == coordinator) {
            if begun.elapsed() > GUARD {
                return Err("no other coordinator".into());
            }
            thread::yield_now();
        }
        backend.start(coordinator)
    };
    while_writing(&mut producer, &topic, &mut group, fail_over)?;
    let ends = backend.ends(&topic, 3)?;
    group.until("after the coordinator was gone", |g| g.count() as i64 >= ends.iter().sum()).await?;
    assert_eq!(membership(&handle, &group).await?, before, "no rebalance");
    ends_all_read(backend, &topic, group, &handle).await
}

/// All brokers of three restart one after the other, five times, while somebody goes on writing and two members of a group
/// for each of `protocols` read: there is no rebalance, and everything is handed out as often as it is in the log, and
/// committed.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn rolling_restarts(backend: &Backend, protocols: &[GroupProtocol]) -> Result<()> {
    let topic = unique("rolling");
    backend.create_topic(&topic, 3)?;
    let mut producer = backend.producer()?;
    let spec = RecordSpec::new(300).partitions(3);
    producer.produce(&topic, &spec)?;
    let mut pairs = Vec::new();
    for protocol in protocols {
        let mut group = Group::over(backend, &topic, *protocol);
        group.wrote(spec.clone());
        group.session_timeout = LONG;
        let handles = [group.join(0).await?, group.join(1).await?];
        group
            .until("both own something", |g| g.sizes().len() == 2 && g.sizes().iter().sum::<usize>() == 3)
            .await?;
        group.until("before", |g| g.count() == 300 && g.held.is_empty()).await?;
        let before = [membership(&handles[0], &group).await?, membership(&handles[1], &group).await?];
        pairs.push((group, handles, before));
    }
    for round in 1..=5 {
        for node in 1..=3 {
            let Some(((first, ..), others)) = pairs.split_first_mut() else { return Err("no group".into()) };
            while_writing(&mut producer, &topic, first, || backend.restart(node))?;
            others.iter_mut().for_each(|(group, ..)| group.wrote_the_same(first));
            let ends = backend.ends(&topic, 3)?;
            for ((group, handles, before), protocol) in pairs.iter_mut().zip(protocols) {
                group.until("after a restart", |g| g.count() as i64 >= ends.iter().sum()).await?;
                let after = [membership(&handles[0], group).await?, membership(&handles[1], group).await?];
                assert_eq!(after, *before, "no rebalance: {protocol:?}, round {round}, broker {node}");
            }
        }
    }
    let ends = backend.ends(&topic, 3)?;
    for (mut group, handles, _) in pairs {
        handles.iter().for_each(ConsumerHandle::shutdown);
        group.until("nobody", |g| g.owned.is_empty()).await?;
        group.assert_log_once(backend, 3)?;
        assert_eq!(group.repeated, 0, "position == consumed");
        assert_eq!(group.count() as i64, ends.iter().sum::<i64>());
        let committed = (0..).zip(ends.iter().copied()).collect();
        assert_eq!(backend.committed(&group.group, &topic)?, committed);
    }
    Ok(())
}

/// The coordinator's broker of three stops or is killed and stays away: another thousand records come, there is no
/// rebalance, nothing is handed out twice, and what is committed at last are the positions. With automatic commits and
/// with commits by hand.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn a_broker_that_is_gone_for_good_costs_no_rebalance(
    backend: &Backend,
    protocol: GroupProtocol,
) -> Result<()> {
    for commit in [Commit::Auto { interval: Duration::from_secs(1) }, Commit::Manual] {
        for killed in [false, true] {
            gone_for_good(backend, protocol, commit, killed)
                .await
                .map_err(|error| format!("{protocol:?}, {commit:?}, killed {killed}: {error}"))?;
        }
    }
    Ok(())
}

async fn gone_for_good(
    backend: &Backend,
    protocol: GroupProtocol,
    commit: Commit,
    killed: bool,
) -> Result<()> {
    let topic = unique("gone");
    backend.create_topic(&topic, 3)?;
    let mut producer = backend.producer()?;
    let spec = RecordSpec::new(300).partitions(3);
    producer.produce(&topic, &spec)?;
    let mut group = Group::over(backend, &topic, protocol);
    group.wrote(spec);
    (group.session_timeout, group.commit) = (LONG, commit);
    let handles = [group.join(0).await?, group.join(1).await?];
    let shared = |g: &Group| g.sizes().len() == 2 && g.sizes().iter().sum::<usize>() == 3;
    group.until("both own something", shared).await?;
    group.until("before", |g| g.count() == 300 && g.held.is_empty() && shared(g)).await?;
    let before = [membership(&handles[0], &group).await?, membership(&handles[1], &group).await?];
    let coordinator = backend.coordinator(&group.group)?;
    let go = || if killed { backend.kill(coordinator) } else { backend.stop(coordinator) };
    while_writing(&mut producer, &topic, &mut group, go)?;
    let spec = RecordSpec::new(1000).partitions(3).seed(group.next_seed());
    producer.produce(&topic, &spec)?;
    group.wrote(spec);
    let ends = backend.ends(&topic, 3)?;
    group.until("without the broker", |g| g.count() as i64 >= ends.iter().sum()).await?;
    let after = [membership(&handles[0], &group).await?, membership(&handles[1], &group).await?];
    assert_eq!(after, before, "no rebalance");
    for handle in &handles {
        for tp in handle.assignment()? {
            assert_eq!(handle.position(&tp)?, Some(ends[tp.partition() as usize]), "{tp}");
        }
    }
    handles.iter().for_each(ConsumerHandle::shutdown);
    group.until("nobody", |g| g.owned.is_empty()).await?;
    assert_eq!(backend.committed(&group.group, &topic)?, (0..).zip(ends).collect());
    backend.start(coordinator)?;
    group.assert_log_once(backend, 3)
}

/// Kills brokers of three at random and starts them again, ten times; each time the consumer has to make some steps.
struct Killer {
    thread: thread::JoinHandle<Result<()>>,
    steps: mpsc::Sender<()>,
    over: Arc<AtomicBool>,
}

impl Killer {
    fn start(backend: &Arc<Backend>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (backend, told) = (Arc::clone(backend), Arc::clone(&over));
        let (steps, made) = mpsc::channel();
        // A consumer that has failed makes no steps.
        let wait = move || (0..5).try_for_each(|_| made.recv()).map_err(|_| "the consumer is gone".into());
        let thread = thread::spawn(move || {
            let mut dice = Dice(1);
            let killed = (0..10).try_for_each(|_| {
                let node = dice.below(3) as u32 + 1;
                backend.kill(node)?;
                wait()?;
                backend.start(node)?;
                wait()
            });
            told.store(true, Ordering::Release);
            killed
        });
        Self { thread, steps, over }
    }

    /// Whether all have been killed that were to be.
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn step(&self) {
        // It fails when nobody counts any more.
        let _ = self.steps.send(());
    }

    fn end(self) -> Result<()> {
        drop(self.steps);
        self.thread.join().map_err(|_| "the killer panicked")?
    }
}

/// The same numbers in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

/// Brokers are killed at random and come back, ten times. A member reads all the time: each offset comes once and in
/// order, after each batch that it commits the committed offset is its position, and when it has read everything it
/// begins anew. There is no rebalance.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn brokers_that_are_killed_at_random_lose_nothing(
    backend: &Arc<Backend>,
    protocol: GroupProtocol,
) -> Result<()> {
    const EACH: i64 = 400;
    let topic = unique("random");
    backend.create_topic(&topic, 3)?;
    backend.produce(&topic, "none", &RecordSpec::new(3 * EACH as u64).partitions(3))?;
    let mut builder = over(&backend.bootstrap(), &unique("random"), protocol)
        .subscribe([topic.as_str()])
        .commit(Commit::Manual)
        .max_batch_records(100);
    if protocol != GroupProtocol::Consumer {
        builder = builder.session_timeout(LONG);
    }
    let mut consumer = builder.connect().await?;
    let partitions: Vec<_> = (0..3).map(|p| TopicPartition::new(topic.as_str(), p)).collect();
    let (mut next, mut rounds, mut assigned) = ([0; 3], 0, 0);
    let killer = Killer::start(backend);
    while !killer.is_over() || rounds == 0 || next != [EACH; 3] {
        if next == [EACH; 3] {
            (next, rounds) = ([0; 3], rounds + 1);
            for tp in &partitions {
                consumer.seek(tp, Offset::Earliest).await?;
            }
        }
        let event = guarded("an event", async { Ok(consumer.next_event().await?.ok_or("the end")?) }).await?;
        match event {
            Event::Batch(batch) => {
                let tp = batch.topic_partition();
                let next = &mut next[tp.partition() as usize];
                for record in &batch {
                    assert_eq!(record.offset(), *next, "{tp}");
                    *next += 1;
                }
                consumer.commit(&batch).await?;
                assert_eq!(consumer.position(tp)?, Some(*next), "{tp}");
                let committed = consumer.committed([tp]).await?;
                assert_eq!(committed[tp].as_ref().map(|c| c.offset), Some(*next), "{tp}");
                killer.step();
            }
            Event::Assigned(new) => assigned += new.len(),
            Event::OffsetReset { offset: 0, cause: ResetCause::NoCommittedOffset, .. } => {}
            other => return Err(format!("it was told {other:?}").into()),
        }
    }
    killer.end()?;
    assert_eq!(assigned, 3, "no rebalance");
    consumer.close().await?;
    Ok(())
}

/// Brokers are killed at random and come back, ten times. A consumer with partitions by hand and the id of a group
/// seeks to the end, and anywhere, and commits anything: its position and the committed offset are what it asked for.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn seeks_and_commits_while_brokers_are_killed(backend: &Arc<Backend>) -> Result<()> {
    const EACH: i64 = 400;
    let topic = unique("anywhere");
    backend.create_topic(&topic, 1)?;
    backend.produce(&topic, "none", &RecordSpec::new(EACH as u64).partitions(1))?;
    let tp = TopicPartition::new(topic.as_str(), 0);
    let mut consumer = Consumer::builder(backend.bootstrap())
        .group(unique("anywhere"))
        .commit(Commit::Manual)
        .max_batch_records(10)
        .connect()
        .await?;
    consumer.assign([(tp.clone(), Offset::Earliest)]).await?;
    let mut dice = Dice(2);
    let killer = Killer::start(backend);
    let mut asked = [0; 3];
    while !killer.is_over() || asked.contains(&0) {
        let how = dice.below(3) as usize;
        asked[how] += 1;
        let to = dice.below(EACH as u64) as i64;
        match how {
            0 => {
                consumer.seek(&tp, Offset::Latest).await?;
                guarded("the end", async {
                    while consumer.position(&tp)? != Some(EACH) {
                        // Brokers that start need the processor more than we do.
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    Ok(())
                })
                .await?;
            }
            1 => {
                consumer.seek(&tp, Offset::At(to)).await?;
                assert_eq!(consumer.position(&tp)?, Some(to));
                let batch = async { Ok(consumer.next_batch().await?.ok_or("the end")?) };
                let batch = guarded("a batch from there", batch).await?;
                assert_eq!(batch.first_offset(), to);
                assert_eq!(consumer.position(&tp)?, Some(batch.next_offset()));
            }
            _ => {
                consumer.commit(CommitOffset::new(tp.clone(), to).rewind()).await?;
                let committed = consumer.committed([&tp]).await?;
                assert_eq!(committed[&tp].as_ref().map(|c| c.offset), Some(to));
            }
        }
        killer.step();
    }
    killer.end()?;
    consumer.close().await?;
    Ok(())
}
