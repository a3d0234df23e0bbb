//! L3: nobody sends the same request again and again.

use std::collections::{BTreeMap, VecDeque};

use ottla_broker::sim::Cluster;
use ottla_broker::{Api, ErrorCode, Observed};
use ottla_core::{Timestamp, TopicPartition};

use super::{GROUP, MemberId, Oracle, World};

/// Requests of one member to one node for one API that a second may have without a reason. A client polls in vain
/// 50 times a second at the most: every 20 ms while a partition is left out of its fetches.
const MOST: u64 = 60;

/// Attempts of one member to connect to one address within a second. Each of its three connections there, and the way
/// in, has a backoff of 50 ms at the first.
const MOST_CONNECTS: u64 = 40;

/// The timestamp that stands for the end of a partition.
const LATEST: i64 = -1;

/// So many seconds a commit may wait for those before it, which may have to time out.
const MAY_WAIT: u64 = 30;

/// What was sent, in this second or ever.
#[derive(Debug, Default)]
pub(super) struct Rates {
    seen: u64,
    second: u64,
    /// Requests that got nobody any further, within the second: by member, node, API.
    counts: BTreeMap<(usize, i32, i16), u64>,
    /// Commands of a user: within the second, and when there were some, with how many.
    commands: BTreeMap<usize, (u64, VecDeque<(u64, u64)>)>,
    /// Where a partition was fetched last: by member and partition number, then topic.
    fetched: BTreeMap<(usize, i32), Vec<(String, i64)>>,
    hot: bool,
    /// Attempts to connect that were looked at, and those of a member to a port within the second.
    connects: usize,
    attempts: BTreeMap<(usize, u16), u64>,
    attempts_in: u64,
}

impl Rates {
    /// Whether it asks for what lies behind the last it was given: the answer before brought something. That is how
    /// a log is read in small pieces, however fast, whether its user reads along or is behind; to be given the
    /// same again and again is not.
    fn goes_on(&mut self, id: usize, request: &Observed) -> bool {
        let mut goes_on = false;
        for asked in &request.partitions {
            let (Some(partition), Some(offset)) = (asked.partition, asked.offset) else { continue };
            let topics = self.fetched.entry((id, partition)).or_default();
            match topics.iter_mut().find(|(topic, _)| *topic == asked.topic) {
                Some((_, last)) => {
                    goes_on |= *last < offset;
                    *last = offset;
                }
                None => topics.push((asked.topic.clone(), offset)),
            }
        }
        goes_on
    }
}

impl Oracle {
    pub(super) fn observe_requests(&mut self, now: Timestamp, cluster: &Cluster) {
        let next = cluster.next_request_index();
        let rates = &mut self.rates;
        if next == rates.seen {
            return;
        }
        let second = now.as_nanos() / 1_000_000_000;
        if second != rates.second {
            rates.second = second;
            rates.counts.clear();
            rates.commands.values_mut().for_each(|(lately, _)| *lately = 0);
        }
        let seen = std::mem::replace(&mut rates.seen, next);
        let mut hot = None;
        let mut confused = None;
        for request in cluster.requests().rev().take_while(|r| r.index >= seen) {
            let number = |client: &str| client.strip_prefix('m')?.parse::<usize>().ok();
            let Some(id) = request.client_id.as_deref().and_then(number) else {
                continue;
            };
            if request.faulted
                && let Some(member) = self.members.get_mut(id)
            {
                member.hurt = Some(now);
            }
            // Who joins may be given the same again, without a new generation.
            let joins = request.api == Api::JoinGroup
                || request.api == Api::ConsumerGroupHeartbeat && request.generation == Some(0);
            if joins && request.group() == Some(GROUP) {
                self.moved.push((id, None));
                if request.api == Api::ConsumerGroupHeartbeat
                    && let Some(member) = self.members.get_mut(id)
                {
                    member.behind = member.spans.values().map(|s| s.epoch).max().max(member.behind);
                }
            }
            if request.api == Api::ListOffsets {
                for asked in request.partitions.iter().filter(|asked| asked.offset == Some(LATEST)) {
                    let Some(partition) = asked.partition else { continue };
                    let tp = TopicPartition::new(asked.topic.as_str(), partition);
                    self.ends_asked.entry((id, tp)).or_default().push(Timestamp::ZERO + request.at);
                }
            }
            if request.error == Some(ErrorCode::INVALID_FETCH_SESSION_EPOCH) {
                confused = Some((id, request.node));
            }
            if request.api == Api::Fetch && rates.goes_on(id, request) {
                continue;
            }
            let count = rates.counts.entry((id, request.node, request.api.key())).or_default();
            *count += 1;
            if *count <= MOST {
                continue;
            }
            let commands = rates.commands.get(&id).map_or(0, |(lately, seconds)| match request.api {
                // Commits may have waited before they are sent one after the other.
                Api::OffsetCommit => {
                    seconds.iter().filter(|(at, _)| at + MAY_WAIT >= second).map(|(_, n)| n).sum()
                }
                _ => *lately,
            });
            if *count > MOST + 4 * commands {
                hot = Some((id, request.api, request.node, *count));
            }
        }
        if let Some((id, node)) = confused.filter(|_| self.was_quiet(now)) {
            // While all is well there is no reason for it.
            self.fail("L3", format!("m{id} loses count of its fetch session with n{node}"));
        }
        if let Some((id, api, node, count)) = hot
            && !self.rates.hot
        {
            self.rates.hot = true;
            self.fail(
                "L3",
                format!("m{id} sent {count} {api} requests for nothing to n{node} within a second"),
            );
        }
    }

    /// Attempts to connect count even where nobody answers.
    pub(super) fn observe_connects(&mut self, world: &World) {
        let rates = &mut self.rates;
        let seen = std::mem::replace(&mut rates.connects, world.connects.len());
        let mut hot = None;
        for ((at, port), id) in world.connects[seen..].iter().zip(&world.connectors[seen..]) {
            let second = at.as_nanos() / 1_000_000_000;
            if std::mem::replace(&mut rates.attempts_in, second) != second {
                rates.attempts.clear();
            }
            let count = rates.attempts.entry((id.0, *port)).or_default();
            *count += 1;
            if *count > MOST_CONNECTS {
                hot = Some((*id, *port, *count));
            }
        }
        if let Some((id, port, count)) = hot {
            self.fail(
                "L3",
                format!("{id} has tried to connect to port {port} {count} times within a second"),
            );
        }
    }

    /// The user made a request by itself.
    pub fn asked(&mut self, id: MemberId) {
        let second = self.now.as_nanos() / 1_000_000_000;
        let (lately, seconds) = self.rates.commands.entry(id.0).or_default();
        *lately += 1;
        match seconds.back_mut() {
            Some((at, count)) if *at == second => *count += 1,
            _ => seconds.push_back((second, 1)),
        }
        if seconds.front().is_some_and(|(at, _)| at + MAY_WAIT < second) {
            seconds.pop_front();
        }
    }
}
