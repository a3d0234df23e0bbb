//! A user who does anything at any time, and drops futures before they are ready, while brokers fail and the network
//! is late, in pieces, cut, silent or gone.
//!
//! By hand: what is read is exactly what lies behind the last seek, in order, nothing of a paused partition. In a
//! group: everything is handed out by somebody; in one ownership nothing is repeated or left out, and it begins where
//! no record is skipped; no partition has two owners at any step; what is committed was handed out and never goes
//! back. (Records that come again in the next ownership are what was not committed.) And everything ends in time.
//!
//! Each seed is one run on virtual time, each tenth runs twice and must give the same bytes at the same times.
//! `OTTLA_SEED=n cargo test -p ottla --test chaos` replays one; `OTTLA_SEEDS=1000..2000` runs others than usual.

mod common;
#[path = "common/net.rs"]
mod net;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use common::{GROUP, TOPIC, number, tp};
use net::{Net, Weather};
use ottla::{Batch, Builder, Commit, Consumer, ErrorKind, Event, Offset, OwnershipEpoch, TopicPartition};
use ottla_broker::{Api, Broker, ErrorCode, Fault};

const PARTITIONS: i32 = 4;
const NODES: i32 = 3;

/// The seeds of a run: all, or the one that is asked for.
fn seeds(all: Range<u64>) -> Vec<u64> {
    if let Ok(seed) = std::env::var("OTTLA_SEED") {
        return vec![seed.parse().expect("OTTLA_SEED is a number")];
    }
    let Ok(seeds) = std::env::var("OTTLA_SEEDS") else { return all.collect() };
    let (from, to) = seeds.split_once("..").expect("OTTLA_SEEDS is a range, such as 0..1000");
    (from.parse().expect("a number")..to.parse().expect("a number")).collect()
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }

    fn partition(&mut self) -> TopicPartition {
        tp(i32::try_from(self.below(PARTITIONS as u64)).unwrap())
    }
}

/// What happened, printed when a run fails.
#[derive(Clone, Default)]
struct Story(Arc<Mutex<String>>);

impl Story {
    fn tell(&self, line: std::fmt::Arguments<'_>) {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(text, "{line}");
    }
}

macro_rules! tell {
    ($story:expr, $($line:tt)*) => { $story.tell(format_args!($($line)*)) };
}

/// Runs `body` for each seed, and says which one failed and what it had done.
///
/// Each tenth seed runs twice: what `body` returns, the trace of its network, must be the same.
fn for_seeds<F: Future<Output = u64>>(all: Range<u64>, body: impl Fn(Dice, Story) -> F) {
    let seeds = seeds(all);
    let mut before = None;
    for seed in seeds.into_iter().flat_map(|seed| std::iter::repeat_n(seed, 1 + usize::from(seed % 10 == 0)))
    {
        let story = Story::default();
        let run = std::panic::AssertUnwindSafe(|| {
            let builder =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            builder.unwrap().block_on(async {
                // Two hours of virtual time are for ever.
                let run = body(Dice(seed), story.clone());
                let trace = tokio::time::timeout(Duration::from_secs(7_200), run).await.expect("it ends");
                let now = (seed, trace);
                let before = before.replace(now).filter(|(known, _)| *known == seed).unwrap_or(now);
                assert_eq!(now, before, "the same seed, the same trace");
            });
        });
        if let Err(panic) = std::panic::catch_unwind(run) {
            let text = story.0.lock().unwrap_or_else(PoisonError::into_inner);
            let lines: Vec<&str> = text.lines().collect();
            let last = lines.len().saturating_sub(60);
            eprintln!("seed {seed}; OTTLA_SEED={seed} replays it\n{}", lines[last..].join("\n"));
            std::panic::resume_unwind(panic);
        }
    }
}

/// Polls up to `polls` times, with a moment in between, and drops the future.
async fn polled<F: Future>(future: F, polls: u64, moment: Duration) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let ready = poll_fn(|cx| {
            Poll::Ready(match future.as_mut().poll(cx) {
                Poll::Ready(output) => Some(output),
                Poll::Pending => None,
            })
        })
        .await;
        if ready.is_some() {
            return ready;
        }
        tokio::time::sleep(moment).await;
    }
    None
}

async fn cluster(seed: u64) -> (Arc<Broker>, Net) {
    let nodes = usize::try_from(NODES).unwrap();
    let builder = Broker::builder().in_memory().brokers(nodes).topic(TOPIC, PARTITIONS);
    // Not the present time: it would be in the bytes.
    let builder = builder.configure(|config| config.start_time_ms = 1_700_000_000_000);
    let broker = Arc::new(builder.start().await.unwrap());
    let net = Net::new(broker.clone(), seed);
    (broker, net)
}

fn on(net: &Net, builder: Builder) -> Builder {
    let net = net.clone();
    builder.__connect_with(move |host, port| net.clone().connect(host, port))
}

/// Something goes wrong, for a while.
fn trouble(broker: &Broker, net: &Net, dice: &mut Dice, story: &Story) {
    let node = i32::try_from(dice.below(NODES as u64)).unwrap() + 1;
    let what = dice.below(18);
    tell!(story, "trouble {what} at node {node}");
    let retriable = [
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::LEADER_NOT_AVAILABLE,
        ErrorCode::REQUEST_TIMED_OUT,
        ErrorCode::FENCED_LEADER_EPOCH,
        ErrorCode::UNKNOWN_LEADER_EPOCH,
    ];
    let apis = [Api::Fetch, Api::Metadata, Api::ListOffsets, Api::ApiVersions, Api::FindCoordinator];
    let group_apis = [Api::OffsetCommit, Api::OffsetFetch, Api::Heartbeat, Api::JoinGroup, Api::SyncGroup];
    match what {
        0 => broker.kill_connections(),
        1 => broker.kill_connections_of(node),
        2 => {
            let partition = dice.partition().partition();
            let _ = broker.move_leader(TOPIC, partition, node);
        }
        3 => broker.evict_fetch_sessions(),
        4 => drop(broker.fault(Fault::on(Api::Fetch).times(3).error(dice.one_of(&retriable)))),
        5 => drop(broker.fault(Fault::on(dice.one_of(&apis)).delay(Duration::from_secs(2)))),
        6 => drop(broker.fault(Fault::on(dice.one_of(&apis)).close_connection())),
        7 => drop(
            broker.fault(Fault::on(Api::Fetch).close_mid_frame(usize::try_from(dice.below(200)).unwrap())),
        ),
        8 => drop(broker.fault(Fault::on(dice.one_of(&group_apis)).close_connection())),
        9 => drop(broker.fault(Fault::on(dice.one_of(&group_apis)).delay(Duration::from_secs(1)))),
        10 => drop(broker.move_coordinator(GROUP, node)),
        // Better weather as often as worse, or nothing would ever happen.
        11..=13 => net.set(dice.one_of(&[Weather::Fair, Weather::Choppy])),
        _ => {
            let cut = Weather::Cut(usize::try_from(dice.below(600)).unwrap());
            let bad = [Weather::Drizzle, Weather::Silent, Weather::Clogged, Weather::Gone, cut, cut];
            net.set(dice.one_of(&bad));
        }
    }
}

/// Appends to one partition; the values are the offsets.
fn append(broker: &Broker, partition: i32, count: u64) {
    let end = broker.log_end_offset(TOPIC, partition).unwrap();
    let values: Vec<String> = (end..).take(usize::try_from(count).unwrap()).map(|o| o.to_string()).collect();
    if !values.is_empty() {
        broker.produce(TOPIC, partition, values).unwrap();
    }
}

/// What one reader must see next of each partition.
#[derive(Default)]
struct Expected {
    /// `None`: a place that only the broker knows; the first record decides.
    next: BTreeMap<i32, Option<i64>>,
    paused: BTreeMap<i32, bool>,
}

impl Expected {
    fn check(&mut self, partition: i32, offset: i64, value: Option<&[u8]>) {
        assert_eq!(number(value), offset, "value and offset of partition {partition}");
        assert!(!self.paused.get(&partition).copied().unwrap_or(false), "partition {partition} is paused");
        let next = self.next.get_mut(&partition).expect("assigned");
        assert_eq!(next.unwrap_or(offset), offset, "of partition {partition}");
        *next = Some(offset + 1);
    }

    fn batch(&mut self, batch: &Batch) {
        for record in batch {
            self.check(record.partition(), record.offset(), record.value());
        }
    }
}

async fn read(consumer: &mut Consumer, expected: &mut Expected, dice: &mut Dice, story: &Story) {
    let polls = dice.below(4);
    let moment = Duration::from_millis(dice.one_of(&[0, 1, 100]));
    let kind = dice.below(3);
    let error = match kind {
        0 => match polled(consumer.next_batch(), polls, moment).await {
            Some(Ok(Some(batch))) => {
                tell!(story, "{batch:?}");
                return expected.batch(&batch);
            }
            Some(Err(error)) => error,
            _ => return,
        },
        1 => match polled(consumer.next_record(), polls, moment).await {
            Some(Ok(Some(record))) => {
                tell!(story, "{record:?}");
                return expected.check(record.partition(), record.offset(), record.value());
            }
            Some(Err(error)) => error,
            _ => return,
        },
        _ => match polled(consumer.next_event(), polls, moment).await {
            Some(Ok(Some(Event::Batch(batch)))) => {
                tell!(story, "{batch:?}");
                return expected.batch(&batch);
            }
            Some(Err(error)) => error,
            _ => return,
        },
    };
    panic!("{error}");
}

#[test]
fn anything_at_any_time_with_partitions_assigned_by_hand() {
    for_seeds(0..60, |mut dice, story| async move {
        let (broker, net) = cluster(dice.next()).await;
        let mut consumer = on(&net, common::consumer(&broker))
            .__seed(dice.next())
            .max_batch_records(usize::try_from(1 + dice.below(50)).unwrap())
            .connect()
            .await
            .unwrap();
        let handle = consumer.handle();
        let mut expected = Expected::default();
        consumer.assign((0..PARTITIONS).map(|p| (tp(p), Offset::Earliest))).await.unwrap();
        expected.next.extend((0..PARTITIONS).map(|p| (p, Some(0))));
        for _ in 0..400 {
            let partition = dice.partition();
            let p = partition.partition();
            let end = broker.log_end_offset(TOPIC, p).unwrap();
            match dice.below(20) {
                0..=9 => read(&mut consumer, &mut expected, &mut dice, &story).await,
                10..=12 => append(&broker, p, dice.below(40)),
                13 => {
                    let target = i64::try_from(dice.below(u64::try_from(end).unwrap() + 1)).unwrap();
                    let (offset, next) = match dice.below(4) {
                        0 => (Offset::Earliest, Some(0)),
                        1 => (Offset::FromEnd(3), None),
                        _ => (Offset::At(target), Some(target)),
                    };
                    tell!(story, "seek {p} to {offset}");
                    handle.seek(&partition, offset).await.unwrap();
                    expected.next.insert(p, next);
                }
                14 => {
                    tell!(story, "pause {p}");
                    handle.pause([&partition]).await.unwrap();
                    expected.paused.insert(p, true);
                }
                15 => {
                    tell!(story, "resume {p}");
                    handle.resume([&partition]).await.unwrap();
                    expected.paused.insert(p, false);
                }
                16 => drop(polled(handle.end_offsets([&partition]), dice.below(3), Duration::ZERO).await),
                17 => trouble(&broker, &net, &mut dice, &story),
                18 => tokio::time::sleep(Duration::from_millis(dice.below(3_000))).await,
                _ if dice.below(4) == 0 => {
                    tell!(story, "assign");
                    let places: Vec<_> = (0..PARTITIONS)
                        .filter(|_| dice.0.count_ones() % 3 != 0)
                        .chain([p])
                        .collect::<std::collections::BTreeSet<_>>()
                        .into_iter()
                        .collect();
                    consumer.assign(places.iter().map(|p| (tp(*p), Offset::Earliest))).await.unwrap();
                    expected.next = places.iter().map(|p| (*p, Some(0))).collect();
                    expected.paused.clear();
                }
                _ => {}
            }
            // What is not assigned cannot be sought or paused in this model.
            if expected.next.len() < usize::try_from(PARTITIONS).unwrap() {
                consumer.assign((0..PARTITIONS).map(|p| (tp(p), Offset::Earliest))).await.unwrap();
                expected.next = (0..PARTITIONS).map(|p| (p, Some(0))).collect();
                expected.paused.clear();
            }
        }
        tell!(story, "the end: everything is read");
        broker.clear_faults();
        net.set(Weather::Fair);
        handle.resume((0..PARTITIONS).map(tp)).await.unwrap();
        expected.paused.clear();
        for p in 0..PARTITIONS {
            append(&broker, p, 1);
        }
        let at_end = |expected: &Expected| {
            (0..PARTITIONS).all(|p| expected.next[&p] == Some(broker.log_end_offset(TOPIC, p).unwrap()))
        };
        while !at_end(&expected) {
            let batch = consumer.next_batch().await.unwrap().unwrap();
            expected.batch(&batch);
        }
        consumer.close().await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((broker.connection_count(), net.sockets()), (0, 0));
        net.trace()
    });
}

/// What the members of a group have been handed out.
#[derive(Default)]
struct Handed {
    /// By all of them together: which offsets of each partition.
    seen: BTreeMap<i32, Vec<bool>>,
    /// In each ownership of each member: the offset that must come next.
    next: BTreeMap<(u64, i32, OwnershipEpoch), i64>,
    /// What was committed when it was looked at last.
    committed: BTreeMap<i32, i64>,
}

impl Handed {
    /// A batch that `member` was given. In one ownership nothing is repeated and nothing left out, and it goes on
    /// where the group had committed: never behind what nobody was handed out.
    fn batch(&mut self, member: u64, batch: &Batch) {
        let partition = batch.partition();
        let before = self.prefix(partition);
        let next = self.next.entry((member, partition, batch.token().ownership_epoch()));
        let next = next.or_insert_with(|| {
            let first = batch.first_offset();
            assert!(first <= before, "partition {partition} begins at {first}, nobody had {before}");
            first
        });
        let seen = self.seen.entry(partition).or_default();
        for record in batch {
            assert_eq!(number(record.value()), record.offset());
            assert_eq!(record.offset(), *next, "of partition {partition} in one ownership");
            *next += 1;
            let at = usize::try_from(record.offset()).unwrap();
            if seen.len() <= at {
                seen.resize(at + 1, false);
            }
            seen[at] = true;
        }
    }

    fn prefix(&self, partition: i32) -> i64 {
        let seen = self.seen.get(&partition).map_or(&[][..], Vec::as_slice);
        i64::try_from(seen.iter().take_while(|seen| **seen).count()).unwrap()
    }

    /// Nothing is committed that was not handed out, no committed offset goes back, and no partition has two
    /// owners.
    fn check(&mut self, broker: &Broker, members: &[Member]) {
        for partition in 0..PARTITIONS {
            let committed = broker.committed(GROUP, TOPIC, partition).unwrap_or(0);
            let prefix = self.prefix(partition);
            assert!(
                committed <= prefix,
                "{committed} is committed of partition {partition}, {prefix} handed out"
            );
            let before = self.committed.insert(partition, committed).unwrap_or(0);
            assert!(committed >= before, "partition {partition} was committed at {before}, now {committed}");
        }
        let mut owners = BTreeMap::new();
        for member in members {
            for owned in member.consumer.assignment().unwrap() {
                let other = owners.insert(owned.clone(), member.seed);
                assert!(
                    other.is_none(),
                    "{owned} is owned by {:x} and {:x}",
                    other.unwrap_or(0),
                    member.seed
                );
            }
        }
    }
}

struct Member {
    consumer: Consumer,
    held: Vec<Batch>,
    manual: bool,
    seed: u64,
}

async fn join(broker: &Arc<Broker>, net: &Net, dice: &mut Dice, story: &Story) -> Member {
    let seed = dice.next();
    let manual = dice.below(2) == 0;
    tell!(story, "member {seed:x} joins (manual: {manual})");
    let commit = if manual { Commit::Manual } else { Commit::Auto { interval: Duration::from_millis(700) } };
    let builder = on(net, common::member(broker, seed)).commit(commit).revoke_timeout(Duration::from_secs(5));
    let records = usize::try_from(1 + dice.below(30)).unwrap();
    Member {
        consumer: builder.max_batch_records(records).connect_lazy().unwrap(),
        held: Vec::new(),
        manual,
        seed,
    }
}

impl Member {
    async fn step(&mut self, handed: &mut Handed, dice: &mut Dice, story: &Story) {
        let polls = 1 + dice.below(3);
        let moment = Duration::from_millis(dice.one_of(&[0, 10, 300]));
        let by_event = self.seed.is_multiple_of(2);
        let read = if by_event {
            match polled(self.consumer.next_event(), polls, moment).await {
                Some(Ok(Some(Event::Batch(batch)))) => Some(Ok(batch)),
                Some(Ok(Some(Event::Revoking(revocation)))) => {
                    tell!(story, "member {:x}: {revocation:?}", self.seed);
                    let tokens: Vec<_> = self.held.drain(..).map(|batch| batch.token()).collect();
                    if dice.below(2) == 0 {
                        revocation.finish(tokens);
                    }
                    None
                }
                Some(Ok(Some(event))) => {
                    tell!(story, "member {:x}: {event:?}", self.seed);
                    None
                }
                Some(Err(error)) => Some(Err(error)),
                _ => None,
            }
        } else {
            match polled(self.consumer.next_batch(), polls, moment).await {
                Some(Ok(Some(batch))) => Some(Ok(batch)),
                Some(Err(error)) => Some(Err(error)),
                _ => None,
            }
        };
        match read {
            Some(Ok(batch)) => {
                tell!(story, "member {:x}: {batch:?}", self.seed);
                assert!(batch.is_owned(), "handed out and not owned");
                handed.batch(self.seed, &batch);
                if dice.below(3) == 0 {
                    self.held.push(batch);
                } else if self.manual {
                    match dice.below(3) {
                        0 => drop(
                            polled(self.consumer.commit(&batch), 1 + dice.below(2), Duration::ZERO).await,
                        ),
                        1 => batch.token().mark(),
                        _ => self.consumer.commit_in_background(&batch).unwrap(),
                    }
                }
            }
            Some(Err(error)) => {
                tell!(story, "member {:x}: {error}", self.seed);
                let expected = matches!(error.kind(), ErrorKind::Transport | ErrorKind::Limit);
                assert!(expected && !error.is_fatal(), "{error}");
            }
            None => {}
        }
        if dice.below(4) == 0 {
            self.held.clear();
        }
    }
}

#[test]
fn anything_at_any_time_in_a_group() {
    for_seeds(0..40, |mut dice, story| async move {
        let (broker, net) = cluster(dice.next()).await;
        let mut handed = Handed::default();
        let mut members: Vec<Member> = Vec::new();
        for _ in 0..400 {
            handed.check(&broker, &members);
            let partition = dice.partition().partition();
            match dice.below(24) {
                0..=2 => append(&broker, partition, dice.below(30)),
                3 if members.len() < 4 => members.push(join(&broker, &net, &mut dice, &story).await),
                4 if !members.is_empty() => {
                    let at = usize::try_from(dice.below(members.len() as u64)).unwrap();
                    let member = members.swap_remove(at);
                    if dice.below(2) == 0 {
                        tell!(story, "member {:x} closes", member.seed);
                        let begun = tokio::time::Instant::now();
                        let _ = member.consumer.close_timeout(Duration::from_secs(10)).await;
                        assert!(begun.elapsed() <= Duration::from_millis(10_010), "{:?}", begun.elapsed());
                    } else {
                        tell!(story, "member {:x} is dropped", member.seed);
                        drop(member);
                    }
                }
                5 => trouble(&broker, &net, &mut dice, &story),
                6 => tokio::time::sleep(Duration::from_millis(dice.below(4_000))).await,
                _ if !members.is_empty() => {
                    let at = usize::try_from(dice.below(members.len() as u64)).unwrap();
                    members[at].step(&mut handed, &mut dice, &story).await;
                }
                _ => {}
            }
        }
        tell!(story, "the end: everything is read");
        broker.clear_faults();
        net.set(Weather::Fair);
        members.push(join(&broker, &net, &mut dice, &story).await);
        let at_end = |handed: &Handed| {
            (0..PARTITIONS).all(|p| handed.prefix(p) == broker.log_end_offset(TOPIC, p).unwrap())
        };
        while !at_end(&handed) {
            for member in &mut members {
                member.held.clear();
                member.step(&mut handed, &mut dice, &story).await;
                member.held.clear();
            }
            handed.check(&broker, &members);
        }
        for member in members {
            let _ = member.consumer.close_timeout(Duration::from_secs(10)).await;
        }
        handed.check(&broker, &[]);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!((broker.connection_count(), net.sockets()), (0, 0));
        // A member that had lost sight of its coordinator could not leave: its session or its rebalance ends.
        tokio::time::sleep(Duration::from_secs(400)).await;
        assert!(broker.group_members(GROUP).is_empty());
        net.trace()
    });
}
