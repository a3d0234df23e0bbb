//! Fetching from the replica that the leader names (KIP-392): the one in the client's rack, mostly.
//!
//! A replica is fetched from until its lease is over, the leader is another one, or it fails. Whatever it says that is
//! no data is the leader's to judge: a replica that lags behind finds offsets out of range that are there. After that
//! the leader is asked without saying in which rack the client is, or it would send us back. A leader whose selector does
//! not look at racks does so all the same, and gives nothing itself: its partition waits between the tries.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::Leader;
use crate::config::Config;
use crate::{Backoff, BrokerId, Rng, Timestamp, TopicPartition};

/// How long a replica that failed is not fetched from: at first, and at the most.
const DECLINED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

#[derive(Clone, Copy, Debug)]
struct Preferred {
    broker: BrokerId,
    /// Who named it.
    leader: Leader,
    until: Timestamp,
}

#[derive(Debug)]
struct Replica {
    preferred: Option<Preferred>,
    /// Before that the leader is fetched from.
    declined_until: Timestamp,
    backoff: Backoff,
}

/// The replicas that leaders have named.
#[derive(Debug)]
pub(crate) struct Replicas {
    known: BTreeMap<TopicPartition, Replica>,
    rack: String,
    lease: Duration,
    rng: Rng,
}

impl Replicas {
    pub(crate) fn new(config: &Config, rng: Rng) -> Self {
        let rack = config.client_rack.clone().unwrap_or_default();
        Self { known: BTreeMap::new(), rack, lease: config.metadata_max_age, rng }
    }

    /// From whom the partition is fetched, if not from its leader.
    pub(crate) fn preferred(&self, now: Timestamp, tp: &TopicPartition, leader: Leader) -> Option<BrokerId> {
        if self.known.is_empty() {
            return None;
        }
        let preferred = self.known.get(tp)?.preferred?;
        (preferred.leader == leader && now < preferred.until).then_some(preferred.broker)
    }

    /// The leader names a replica. Gives whether it is fetched from.
    pub(crate) fn prefer(
        &mut self,
        now: Timestamp,
        tp: &TopicPartition,
        broker: BrokerId,
        leader: Leader,
    ) -> bool {
        let lease = self.lease;
        let replica = self.replica(now, tp);
        if now < replica.declined_until {
            return false;
        }
        replica.preferred = Some(Preferred { broker, leader, until: now + lease });
        true
    }

    /// The leader names what cannot be fetched from: for a while it is asked without the rack. Gives whether that begins
    /// now.
    pub(crate) fn unusable(&mut self, now: Timestamp, tp: &TopicPartition) -> bool {
        let mut rng = self.rng.split();
        let replica = self.replica(now, tp);
        let begins = now >= replica.declined_until;
        if begins {
            replica.declined_until = now + replica.backoff.next(&mut rng);
        }
        begins
    }

    fn replica(&mut self, now: Timestamp, tp: &TopicPartition) -> &mut Replica {
        self.known.entry(tp.clone()).or_insert_with(|| Replica {
            preferred: None,
            declined_until: now,
            backoff: Backoff::new(DECLINED.0, DECLINED.1),
        })
    }

    /// What was fetched from the replica was good.
    pub(crate) fn worked(&mut self, tp: &TopicPartition) {
        if let Some(replica) = self.known.get_mut(tp) {
            replica.backoff.reset();
        }
    }

    /// The replica gave no data: the leader is fetched from for a while. Gives whether it was fetched from.
    pub(crate) fn decline(&mut self, now: Timestamp, tp: &TopicPartition, broker: BrokerId) -> bool {
        let Some(replica) = self.known.get_mut(tp) else { return false };
        if replica.preferred.take_if(|preferred| preferred.broker == broker).is_none() {
            return false;
        }
        replica.declined_until = now + replica.backoff.next(&mut self.rng);
        true
    }

    /// The broker is gone. Gives whether something was fetched from it as a replica.
    pub(crate) fn decline_all(&mut self, now: Timestamp, broker: BrokerId) -> bool {
        let of_broker = |replica: &Replica| replica.preferred.is_some_and(|p| p.broker == broker);
        let gone: Vec<_> =
            self.known.iter().filter(|(_, r)| of_broker(r)).map(|(tp, _)| tp.clone()).collect();
        gone.iter().filter(|tp| self.decline(now, tp, broker)).count() > 0
    }

    /// Forgets partitions that are not owned any more, and leases that are over. Gives whether some of those were.
    pub(crate) fn expire(&mut self, now: Timestamp, owned: impl Fn(&TopicPartition) -> bool) -> bool {
        let mut over = false;
        self.known.retain(|tp, replica| {
            over |= replica.preferred.take_if(|preferred| preferred.until <= now).is_some();
            owned(tp)
        });
        over
    }

    /// Forgets the others.
    pub(crate) fn retain(&mut self, keep: impl Fn(&TopicPartition) -> bool) {
        self.known.retain(|tp, _| keep(tp));
    }

    /// When the first lease is over.
    pub(crate) fn next_timeout(&self) -> Option<Timestamp> {
        self.known.values().filter_map(|replica| Some(replica.preferred?.until)).min()
    }

    /// What is said of the client's rack to this leader: nothing while it is to send data itself.
    pub(crate) fn rack(
        &self,
        now: Timestamp,
        broker: BrokerId,
        leader: impl Fn(&TopicPartition) -> Option<Leader>,
    ) -> &str {
        let declined = |(tp, replica): (&TopicPartition, &Replica)| {
            now < replica.declined_until && leader(tp).is_some_and(|leader| leader.broker == broker)
        };
        if self.known.iter().any(declined) { "" } else { &self.rack }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_is_forgotten_with_or_without_a_lease() {
        let now = Timestamp::from_millis(1_000);
        let mut replicas = Replicas::new(&Config::default(), Rng::new(1));
        let tp = |partition| TopicPartition::new("t", partition);
        for partition in 0..3 {
            assert!(replicas.unusable(now, &tp(partition)));
        }
        assert_eq!(replicas.next_timeout(), None, "no lease will make it look");
        replicas.retain(|kept| kept.partition() == 1);
        assert_eq!(replicas.known.keys().collect::<Vec<_>>(), [&tp(1)]);
    }
}
