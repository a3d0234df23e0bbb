//! One topic: its id, its partitions and who leads them.
//!
//! What an answer makes of it, by the id it is known under (KIP-516); a test writes the table anew and compares:
//!
//! | state          | partitions of 7 | of 8         | of no id | no partition         | error 3           | error 5              | error 29          |
//! |----------------|-----------------|--------------|----------|----------------------|-------------------|----------------------|-------------------|
//! | unknown        | 7               | 8            | exists   | unknown, asked again | gone, asked again | unknown, asked again | gone, asked again |
//! | 7              | 7               | 8, recreated | 7        | 7                    | 7, asked again    | 7, asked again       | 7, asked again    |
//! | 7, gone for 9  | 7               | 8, recreated | 7        | 7                    | gone, asked again | 7, asked again       | 7, asked again    |
//! | 8, 7 before    | 8               | 8            | 8        | 8                    | 8, asked again    | 8, asked again       | 8, asked again    |
//! | gone, 7 before | 7               | 8, recreated | 7        | unknown, asked again | gone, asked again | unknown, asked again | gone, asked again |

use ottla_wire::ErrorCode;
use ottla_wire::messages::metadata_response::MetadataResponseTopic;

use crate::planted::planted;
use crate::{BrokerId, LeaderEpoch, TopicId};

/// More partitions than a topic can sensibly have: an answer with more is no answer.
pub(super) const MAX_PARTITIONS: usize = 1_000_000;

/// Answers in a row that must tell the same lower epoch, or the id of before, before it is believed: a broker that is
/// behind catches up before, and an epoch that is refused for ever would loop for ever.
const REFUSALS: u8 = 5;

/// Answers in a row that must tell that there is no such topic, where there was one, before it is believed: seven
/// seconds with the default backoff. A broker of Kafka 2 that has just started, alone, knows of no topic for a second
/// or two; a group that believed it would rebalance at each restart.
const DENIALS: u8 = 10;

/// Who leads a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) broker: BrokerId,
    pub(crate) epoch: Option<LeaderEpoch>,
}

/// One partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Partition {
    /// The last leader that was told; a moment without one does not make it forgotten.
    pub(crate) leader: Option<Leader>,
    pub(crate) replicas: Vec<BrokerId>,
    /// The last answer named no leader.
    leaderless: bool,
    refused: Option<(LeaderEpoch, u8)>,
}

/// One topic, as far as it was asked for.
#[derive(Debug, Default)]
pub(crate) struct Topic {
    pub(crate) id: Option<TopicId>,
    /// The id of the topic that had the name before.
    former: Option<TopicId>,
    /// Answers in a row that told that one.
    former_told: u8,
    pub(crate) error: Option<ErrorCode>,
    /// Answers since the last partition that told that there is no such topic.
    gone_told: u8,
    partitions: Vec<Partition>,
    answered: bool,
    /// Answers that told its id.
    pub(crate) id_told: u64,
}

/// What one answer changed.
#[derive(Debug, Default)]
pub(crate) struct TopicUpdate {
    pub(crate) topology: bool,
    pub(crate) leaders: bool,
    /// The topic was deleted and made anew: its id is another one.
    pub(crate) recreated: bool,
}

impl Topic {
    /// Whether the topic exists as far as is known.
    pub(crate) fn exists(&self) -> bool {
        !self.partitions.is_empty()
    }

    pub(crate) fn partition_count(&self) -> usize {
        self.partitions.len()
    }

    pub(crate) fn partition(&self, partition: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(partition).ok()?)
    }

    pub(crate) fn partitions(&self) -> impl Iterator<Item = &Partition> {
        self.partitions.iter()
    }

    pub(crate) fn is_incomplete(&self) -> bool {
        // A topic has a partition at least: an answer without one says nothing, with an error or without.
        !self.answered
            || self.error.is_some()
            || !self.exists()
            || self.partitions.iter().any(|p| p.leaderless)
    }

    /// Whether the answer can be worked with: it is there, or it certainly is not.
    pub(crate) fn is_settled(&self) -> bool {
        self.answered && (self.exists() || self.error.is_some_and(|e| e != ErrorCode::LeaderNotAvailable))
    }

    pub(crate) fn hint(&mut self, partition: i32, leader: Leader) -> bool {
        let partition = usize::try_from(partition).ok().and_then(|i| self.partitions.get_mut(i));
        partition.is_some_and(|p| {
            let newer = p.leader.and_then(|l| l.epoch) < leader.epoch;
            if newer {
                p.leader = Some(leader);
                p.leaderless = false;
            }
            newer
        })
    }

    /// As an answer that says that it is unknown.
    pub(crate) fn absent(&mut self) -> bool {
        self.answered = true;
        self.error = Some(ErrorCode::UnknownTopicOrPartition);
        self.denied()
    }

    /// Told that there is no such topic. True if that is believed now.
    fn denied(&mut self) -> bool {
        self.gone_told = self.gone_told.saturating_add(1);
        if self.gone_told < DENIALS {
            return false;
        }
        let existed = self.exists();
        self.partitions.clear();
        existed
    }

    pub(crate) fn update(&mut self, told: &MetadataResponseTopic<'_>, trust_epochs: bool) -> TopicUpdate {
        let mut update = TopicUpdate::default();
        self.answered = true;
        let error = ErrorCode::from_i16(told.error_code);
        self.error = (error != ErrorCode::None).then_some(error);
        if told.partitions.is_empty() {
            // Deleted, or not there yet. Fetching finds out by itself; a group's leader must know.
            if error == ErrorCode::UnknownTopicOrPartition || error == ErrorCode::InvalidTopicException {
                update.topology = self.denied();
            }
            return update;
        }
        self.gone_told = 0;
        let id = (told.topic_id != TopicId::ZERO).then_some(told.topic_id);
        if id.is_some() && id == self.former {
            // A broker that lags behind tells of the topic that was deleted. If all go on to do so, it was the
            // other one that never was.
            self.former_told = self.former_told.saturating_add(1);
            if self.former_told < REFUSALS {
                return update;
            }
        }
        self.former_told = 0;
        if let (Some(new), Some(old)) = (id, self.id)
            && new != old
        {
            // Another topic of the same name: its epochs begin anew.
            update.recreated = true;
            self.former = Some(old);
            self.partitions.clear();
        }
        // An answer without an id does not take away what another one told.
        self.id = id.or(self.id);
        self.id_told += u64::from(id.is_some());
        for p in told.partitions.iter() {
            let Ok(index) = usize::try_from(p.partition_index) else {
                continue;
            };
            // Partitions come in any order; a gap is filled when its turn comes. A number beyond what the answer
            // could describe is nobody's partition.
            if index >= self.partitions.len() {
                if index >= told.partitions.len() {
                    continue;
                }
                self.partitions.resize_with(index + 1, Partition::default);
                update.topology = true;
            }
            if let Some(partition) = self.partitions.get_mut(index) {
                let replicas: Vec<_> = p.replica_nodes.iter().map(BrokerId).collect();
                if replicas != partition.replicas {
                    partition.replicas = replicas;
                    update.topology = true;
                }
                let epoch = LeaderEpoch::from_wire(p.leader_epoch).filter(|_| trust_epochs);
                update.leaders |= partition.update(p.leader_id, epoch);
            }
        }
        update
    }
}

impl Partition {
    fn update(&mut self, broker: i32, epoch: Option<LeaderEpoch>) -> bool {
        self.leaderless = broker < 0;
        if broker < 0 {
            return false;
        }
        let known = self.leader.and_then(|l| l.epoch);
        if self.leader.is_some_and(|l| l.broker.0 != broker)
            && epoch.is_none_or(|told| Some(told) == known)
            && planted!(SameEpochIgnored)
        {
            return false;
        }
        if let (Some(told), Some(known)) = (epoch, known)
            && told < known
        {
            let count = match self.refused {
                Some((before, count)) if before == told => count.saturating_add(1),
                _ => 1,
            };
            self.refused = Some((told, count));
            if count < REFUSALS {
                return false;
            }
        }
        self.refused = None;
        // An answer without an epoch may move the leader, but does not take the epoch away: that would switch
        // truncation detection off.
        let leader = Leader { broker: BrokerId(broker), epoch: epoch.or(known) };
        let changed = self.leader != Some(leader);
        self.leader = Some(leader);
        changed
    }
}
