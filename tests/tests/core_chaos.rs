//! Groups under random faults, on virtual time: whatever happens, nothing is lost and nobody reads what is not his.
//!
//! A failing seed is printed; `OTTLA_CHAOS_SEEDS=17..18 cargo test -p ottla-tests --test core_chaos` replays it.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_core::assignor::Assignor;
use ottla_core::client::Command;
use ottla_core::config::GroupConfig;
use ottla_core::{Rng, TopicPartition};
use ottla_tests::sim::{MemberId, Seen, World};

const PARTITIONS: i32 = 6;

struct Chaos {
    world: World,
    rng: Rng,
    members: Vec<MemberId>,
    live: Vec<MemberId>,
    produced: [usize; PARTITIONS as usize],
    down: Option<i32>,
    eager: bool,
    log: Vec<String>,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed, 3);
        world.cluster.create_topic("t", PARTITIONS).expect("a topic");
        let mut rng = Rng::new(seed ^ 0x5eed);
        let eager = rng.below(3) == 0;
        Self {
            world,
            rng,
            members: Vec::new(),
            live: Vec::new(),
            produced: [0; PARTITIONS as usize],
            down: None,
            eager,
            log: Vec::new(),
        }
    }

    fn join(&mut self) {
        let mut config = self.world.config();
        let mut group = GroupConfig::new("g");
        group.session_timeout = Duration::from_secs(10);
        group.heartbeat_interval = Duration::from_secs(1);
        group.rebalance_timeout = Duration::from_secs(20);
        group.revoke_timeout = Duration::from_secs(5);
        group.assignors = vec![if self.eager { Assignor::Range } else { Assignor::CooperativeSticky }];
        config.group = Some(group);
        config.request_timeout = Duration::from_secs(5);
        config.max_buffered_bytes = 256 << 10;
        let id = self.world.join(config);
        self.world.member(id).events = self.rng.below(2) == 0;
        self.world.member(id).single = self.rng.below(3) == 0;
        self.world.command(id, Command::Subscribe(vec!["t".to_owned()]));
        self.members.push(id);
        self.live.push(id);
        self.log.push(format!("join {id:?}"));
    }

    fn produce(&mut self) {
        let now = self.world.broker_now();
        for p in 0..PARTITIONS {
            let from = self.produced[p as usize];
            let to = from + self.rng.below(40) as usize;
            let values: Vec<String> = (from..to).map(|i| format!("{p}/{i}")).collect();
            if !values.is_empty()
                && self.world.cluster.produce(now, "t", p, values.iter().map(String::as_str)).is_ok()
            {
                self.produced[p as usize] = to;
            }
        }
    }

    fn event(&mut self) {
        let now = self.world.broker_now();
        let node = 1 + self.rng.below(3) as i32;
        let what = self.rng.below(12);
        match what {
            0 if self.live.len() < 5 => self.join(),
            1 if self.live.len() > 1 => {
                let at = self.rng.below(self.live.len() as u64) as usize;
                let id = self.live.remove(at);
                self.log.push(format!("kill {id:?}"));
                self.world.kill(id);
            }
            2 if self.live.len() > 1 => {
                let at = self.rng.below(self.live.len() as u64) as usize;
                let id = self.live.remove(at);
                self.log.push(format!("close {id:?}"));
                self.world.command(id, Command::Close { timeout: Duration::from_secs(5) });
            }
            3 if self.down.is_none() => {
                self.log.push(format!("stop node {node}"));
                self.world.cluster.stop_node(now, node).expect("stopped");
                self.down = Some(node);
            }
            4 | 5 => {
                if let Some(node) = self.down.take() {
                    self.log.push(format!("start node {node}"));
                    self.world.cluster.start_node(now, node).expect("started");
                }
            }
            6 => {
                let p = self.rng.below(PARTITIONS as u64) as i32;
                if self.world.cluster.is_up(node) && self.world.cluster.move_leader(now, "t", p, node).is_ok()
                {
                    self.log.push(format!("leader of {p} is {node}"));
                }
            }
            7 => {
                if self.world.cluster.is_up(node)
                    && self.world.cluster.move_coordinator(now, "g", node).is_ok()
                {
                    self.log.push(format!("coordinator is {node}"));
                }
            }
            8 => {
                self.log.push("connections die".to_owned());
                self.world.cluster.close_connections(Some(node));
            }
            9 => self.world.cluster.evict_fetch_sessions(),
            _ => self.produce(),
        }
    }

    fn run(&mut self, events: usize) {
        self.join();
        self.join();
        for _ in 0..events {
            self.event();
            let pause = Duration::from_millis(self.rng.below(4000));
            self.world.run_for(pause);
        }
        if let Some(node) = self.down.take() {
            let now = self.world.broker_now();
            self.world.cluster.start_node(now, node).expect("started");
        }
        self.produce();
        let produced = self.produced;
        let live = self.live.clone();
        // Healed: within session, rebalance and backoff everything is read by somebody who owns it.
        self.world.run_until(Duration::from_secs(120), |w| {
            (0..PARTITIONS).all(|p| {
                let tp = TopicPartition::new("t", p);
                let end = produced[p as usize] as i64;
                live.iter().any(|m| w.member(*m).delivery.lock().position(&tp).is_some_and(|at| at >= end))
            })
        });
    }

    fn check(&mut self) {
        let mut seen: BTreeMap<i32, Vec<bool>> =
            (0..PARTITIONS).map(|p| (p, vec![false; self.produced[p as usize]])).collect();
        for id in self.members.clone() {
            let member = self.world.member(id);
            for (tp, values) in &member.values {
                for (offset, value) in values {
                    assert_eq!(value, format!("{}/{offset}", tp.partition()).as_bytes(), "S1 at {tp}");
                    seen.get_mut(&tp.partition()).expect("a partition")[*offset as usize] = true;
                }
            }
            // S2: within one ownership offsets only rise. An ownership begins with Assigned, or a reset.
            let mut last: BTreeMap<TopicPartition, i64> = BTreeMap::new();
            for (_, what) in &member.seen {
                match what {
                    Seen::Assigned(tps) | Seen::Lost(tps) => tps.iter().for_each(|tp| {
                        last.remove(tp);
                    }),
                    Seen::Records(tp, first, end, _) if member.events && !member.single => {
                        let before = last.insert(tp.clone(), *end);
                        assert!(before.is_none_or(|b| b < *first), "S2: {tp} {first} after {before:?}");
                    }
                    Seen::Error(e) => assert!(!e.is_fatal(), "{e}"),
                    _ => {}
                }
            }
        }
        for (p, seen) in seen {
            let missing: Vec<usize> = (0..seen.len()).filter(|i| !seen[*i]).collect();
            assert!(missing.is_empty(), "S15: partition {p} lacks {missing:?}");
        }
    }
}

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("OTTLA_CHAOS_SEEDS") else { return 0..40 };
    let (from, to) = text.split_once("..").expect("OTTLA_CHAOS_SEEDS is FROM..TO");
    from.parse().expect("a number")..to.parse().expect("a number")
}

#[test]
fn whatever_happens_nothing_is_lost() {
    for seed in seeds() {
        let mut chaos = Chaos::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            chaos.run(40);
            chaos.check();
        }));
        if let Err(panic) = outcome {
            eprintln!("seed {seed} failed; what happened: {:#?}", chaos.log);
            std::panic::resume_unwind(panic);
        }
    }
}
