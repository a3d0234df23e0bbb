//! OffsetFetch: what the group has committed (stable offsets only, KIP-447).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ottla_wire::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use ottla_wire::messages::{OffsetFetchRequest, OffsetFetchResponse};
use ottla_wire::{ErrorCode, View};

use super::topic_ids::TopicIds;
use super::{Asker, CommittedOffset, Refused, refused};
use crate::group::GroupIdentity;
use crate::planted::planted;
use crate::{Backoff, Error, ErrorKind, LeaderEpoch, Rng, Timestamp, TopicId, TopicPartition};

/// First version that tells who asks (KIP-848).
const MEMBER_EPOCH: i16 = 9;

type Key = (Asker, TopicPartition);

/// The end of one lookup.
#[derive(Debug)]
pub(crate) struct CommittedAnswer {
    pub(crate) asker: Asker,
    pub(crate) tp: TopicPartition,
    pub(crate) committed: Result<Option<CommittedOffset>, Error>,
}

/// What an answer means for the client around it.
#[derive(Debug, Default)]
pub(crate) struct CommittedFindings {
    pub(crate) answers: Vec<CommittedAnswer>,
    /// The coordinator is another one.
    pub(crate) coordinator_lost: bool,
    /// The coordinator does not know a topic: metadata may tell what became of it.
    pub(crate) unknown: bool,
    /// What the reader is to know, while it is asked on.
    pub(crate) told: Vec<Error>,
    /// The group refused the member epoch that was sent.
    pub(crate) refused: Option<(ErrorCode, i32)>,
    /// The group as a whole cannot be asked.
    pub(crate) fatal: Option<Error>,
}

#[derive(Debug)]
struct Lookup {
    backoff: Backoff,
    not_before: Timestamp,
    in_flight: bool,
}

/// What one request asked for.
#[derive(Clone, Debug)]
pub(crate) struct CommittedTag {
    keys: Vec<Key>,
    /// The member epoch that it carried.
    epoch: Option<i32>,
    topic_ids: TopicIds,
}

/// All lookups of committed offsets that are under way.
#[derive(Debug)]
pub(crate) struct CommittedLookups {
    group_id: String,
    pending: BTreeMap<Key, Lookup>,
    retry_backoff: (Duration, Duration),
    rng: Rng,
    /// The same for all that one answer leaves open: it is asked for together again.
    jitter: Rng,
}

impl CommittedLookups {
    pub(crate) fn new(group_id: String, retry_backoff: (Duration, Duration), rng: Rng) -> Self {
        Self { group_id, pending: BTreeMap::new(), retry_backoff, jitter: rng.clone(), rng }
    }

    pub(crate) fn begin(&mut self, now: Timestamp, asker: Asker, tp: TopicPartition) {
        let (initial, max) = self.retry_backoff;
        let lookup = Lookup { backoff: Backoff::new(initial, max), not_before: now, in_flight: false };
        self.pending.insert((asker, tp), lookup);
    }

    /// What is asked for this partition is asked again, whatever the answer under way will be. False if nothing is.
    pub(crate) fn ask_anew(&mut self, now: Timestamp, asker: Asker, tp: &TopicPartition) -> bool {
        let asked = self.pending.contains_key(&(asker, tp.clone()));
        if asked {
            self.begin(now, asker, tp.clone());
        }
        asked
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(Asker, &TopicPartition) -> bool) {
        self.pending.retain(|(asker, tp), _| keep(*asker, tp));
    }

    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.pending.values().any(|l| !l.in_flight && now >= l.not_before)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// The request for everything that can be asked now, for `version`, and the latest version that can carry it. It
    /// counts as sent. `member` is who asks, in a consumer group (KIP-848): another member's offsets might still be on
    /// their way. `id_of` tells a topic's present id.
    pub(crate) fn prepare(
        &mut self,
        now: Timestamp,
        version: i16,
        member: Option<GroupIdentity>,
        id_of: impl Fn(&str) -> Option<TopicId>,
    ) -> (OffsetFetchRequest, i16, CommittedTag) {
        let member = member.filter(|_| version >= MEMBER_EPOCH);
        let epoch = member.as_ref().map(|m| m.generation_id);
        let mut topics: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
        let mut tag = Vec::new();
        for (key, lookup) in &mut self.pending {
            if lookup.in_flight || now < lookup.not_before {
                continue;
            }
            lookup.in_flight = true;
            topics.entry(key.1.topic().to_owned()).or_default().insert(key.1.partition());
            tag.push(key.clone());
        }
        let topic_ids = TopicIds::new(tag.iter().map(|(_, tp): &Key| tp.topic_arc()), version, id_of);
        let mut request =
            OffsetFetchRequest { require_stable: version >= 7, ..OffsetFetchRequest::default() };
        if version >= 8 {
            let topics = topics.into_iter().map(|(name, partitions)| OffsetFetchRequestTopics {
                topic_id: topic_ids.id_of(&name),
                name,
                partition_indexes: partitions.into_iter().collect(),
                ..OffsetFetchRequestTopics::default()
            });
            request.groups = vec![OffsetFetchRequestGroup {
                group_id: self.group_id.clone(),
                member_id: member.map(|m| m.member_id),
                member_epoch: epoch.unwrap_or(-1),
                topics: Some(topics.collect()),
                ..OffsetFetchRequestGroup::default()
            }];
        } else {
            let topics = topics.into_iter().map(|(name, partitions)| OffsetFetchRequestTopic {
                name,
                partition_indexes: partitions.into_iter().collect(),
                ..OffsetFetchRequestTopic::default()
            });
            request.group_id.clone_from(&self.group_id);
            request.topics = Some(topics.collect());
        }
        (request, topic_ids.max_version(), CommittedTag { keys: tag, epoch, topic_ids })
    }

    pub(crate) fn failed(&mut self, now: Timestamp, tag: CommittedTag) {
        self.jitter = self.rng.split();
        for key in tag.keys {
            self.again(now, &key);
        }
    }

    /// Asked again after a pause. Gives how often that was.
    fn again(&mut self, now: Timestamp, key: &Key) -> u32 {
        let Some(lookup) = self.pending.get_mut(key) else {
            return 0;
        };
        lookup.in_flight = false;
        lookup.not_before = now + lookup.backoff.next(&mut self.jitter.clone());
        lookup.backoff.failures()
    }

    /// Takes in an answer.
    pub(crate) fn answered(
        &mut self,
        now: Timestamp,
        version: i16,
        body: &[u8],
        tag: CommittedTag,
    ) -> Result<CommittedFindings, Error> {
        self.jitter = self.rng.split();
        let answer = match OffsetFetchResponse::decode(version, body) {
            Ok(answer) => answer,
            Err(e) => {
                self.failed(now, tag);
                let text = "sent an answer to OffsetFetch that cannot be read";
                return Err(Error::new(ErrorKind::BrokerMisbehaved, text).with_source(e));
            }
        };
        let mut told: BTreeMap<(&str, i32), Told<'_>> = BTreeMap::new();
        let mut error = ErrorCode::from_i16(answer.error_code);
        if version >= 8 {
            for group in answer.groups.iter().filter(|g| g.group_id == self.group_id) {
                error = ErrorCode::from_i16(group.error_code);
                for topic in group.topics.iter() {
                    let name = tag.topic_ids.name_of(version, topic.name, topic.topic_id);
                    let Some(name) = name else { continue };
                    for p in topic.partitions.iter() {
                        let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
                        let told_now = Told { offset, epoch, metadata: p.metadata, code: p.error_code };
                        told.entry((name, p.partition_index)).or_insert(told_now);
                    }
                }
            }
        } else {
            for topic in answer.topics.iter() {
                for p in topic.partitions.iter() {
                    let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
                    let told_now = Told { offset, epoch, metadata: p.metadata, code: p.error_code };
                    told.entry((topic.name, p.partition_index)).or_insert(told_now);
                }
            }
        }
        let mut findings = CommittedFindings::default();
        for key in tag.keys {
            // Asked anew or dropped meanwhile: a late answer never moves a live position.
            if !self.pending.get(&key).is_some_and(|l| l.in_flight) {
                continue;
            }
            let tp = &key.1;
            // A partition that the answer leaves out is asked for again: silence is not "nothing committed".
            let told = told.get(&(tp.topic(), tp.partition()));
            let code = if error == ErrorCode::None {
                told.map_or(ErrorCode::UnknownServerError, |t| ErrorCode::from_i16(t.code))
            } else {
                error
            };
            findings.unknown |= code == ErrorCode::UnknownTopicId;
            let committed = match (code, told) {
                (_, None) if error == ErrorCode::None && planted!(OffsetFetchOmits) => Ok(None),
                (ErrorCode::None, Some(t)) if t.offset >= 0 => Ok(Some(CommittedOffset {
                    offset: t.offset,
                    leader_epoch: LeaderEpoch::from_wire(t.epoch),
                    metadata: t.metadata.filter(|m| !m.is_empty()).map(str::to_owned),
                })),
                (ErrorCode::None, Some(t)) if t.offset == -1 => Ok(None),
                (ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable, _) => {
                    findings.coordinator_lost = true;
                    self.again(now, &key);
                    continue;
                }
                (
                    code @ (ErrorCode::StaleMemberEpoch
                    | ErrorCode::UnknownMemberId
                    | ErrorCode::GroupIdNotFound),
                    _,
                ) if tag.epoch.is_some() => {
                    findings.refused = tag.epoch.map(|epoch| (code, epoch));
                    self.again(now, &key);
                    continue;
                }
                (code @ ErrorCode::GroupAuthorizationFailed, _) => {
                    let text = format!(
                        "reading the offsets of group {:?} is not allowed: grant READ on the group",
                        self.group_id
                    );
                    let error = Error::new(ErrorKind::Authorization, text).with_code(code);
                    findings.fatal = Some(error.clone().with_fatal(true));
                    Err(error)
                }
                (code @ ErrorCode::TopicAuthorizationFailed, _) => {
                    let text = "reading the committed offset is not allowed: grant DESCRIBE on the topic";
                    Err(Error::new(ErrorKind::Authorization, text).with_code(code).with_partition(tp.clone()))
                }
                (code, _) => {
                    let times = self.again(now, &key);
                    tracing::debug!(partition = %tp, %code, times, "committed offset not told, asking again");
                    match refused(key.0, tp, "committed offset", code, times) {
                        Refused::Again => continue,
                        Refused::Told(error) => {
                            findings.told.push(error);
                            continue;
                        }
                        Refused::Query(error) => Err(error),
                    }
                }
            };
            self.pending.remove(&key);
            findings.answers.push(CommittedAnswer { asker: key.0, tp: key.1, committed });
        }
        Ok(findings)
    }

    /// When the next lookup that waits may be asked.
    pub(crate) fn next_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        self.pending.values().filter(|l| !l.in_flight && l.not_before > now).map(|l| l.not_before).min()
    }
}

struct Told<'a> {
    offset: i64,
    epoch: i32,
    metadata: Option<&'a str>,
    code: i16,
}
