//! What the answers say, item by item.

use std::collections::BTreeMap;

use ottla_wire::consumer_protocol::Assignment;
use ottla_wire::messages::consumer_group_describe_response as consumer_group;
use ottla_wire::messages::describe_groups_response::DescribedGroup;
use ottla_wire::messages::{
    ConsumerGroupDescribeResponse, CreateTopicsResponse, DeleteGroupsResponse, DeleteTopicsResponse,
    DescribeGroupsResponse, ListGroupsResponse, MetadataResponse, OffsetCommitResponse, OffsetDeleteResponse,
    OffsetFetchResponse,
};
use ottla_wire::{ApiKey, ErrorCode, View};

use super::step::{Ask, Reading, Step};
use super::{
    AdminAnswer, AdminTag, Calls, CreatedTopic, GroupDescription, GroupListing, GroupState, GroupType,
    MAX_LISTED, MemberDescription, TopicListing, codes,
};
use crate::offsets::CommittedOffset;
use crate::{BrokerId, Error, ErrorKind, LeaderEpoch, Timestamp, TopicId, TopicPartition};

/// What an answer makes of its step.
enum Outcome {
    /// Item by item.
    Items(Reading),
    /// All its items have this result.
    Refused(Error),
    /// It is asked anew, at once.
    AskClassic,
}

impl Calls {
    /// Takes in the answer to what a step has asked. An error is one of the connection: nothing came of it.
    pub(crate) fn answered(
        &mut self,
        now: Timestamp,
        tag: AdminTag,
        version: i16,
        body: &[u8],
    ) -> Result<(), Error> {
        let (id, key) = tag.key;
        let Some(call) = self.calls.get_mut(&id) else { return Ok(()) };
        let Some(step) = call.steps.get_mut(&key) else { return Ok(()) };
        match read(step, &mut call.answer, tag.api, version, body) {
            Ok(Outcome::Items(reading)) => {
                if reading.conclude(now, step, &mut self.rng) {
                    call.steps.remove(&key);
                }
            }
            Ok(Outcome::Refused(error)) => self.refuse(tag.key, error),
            Ok(Outcome::AskClassic) => step.ask_classic(),
            Err(error) => {
                self.failed(now, tag.key, error.clone());
                return Err(error);
            }
        }
        Ok(())
    }
}

fn decode<'a, R: View<'a>>(version: i16, body: &'a [u8]) -> Result<R, Error> {
    R::decode(version, body).map_err(|e| {
        let text = format!("sent an answer to {} that cannot be read", R::NAME.trim_end_matches("Response"));
        Error::new(ErrorKind::BrokerMisbehaved, text).with_source(e)
    })
}

fn limit(count: usize, what: &str) -> Result<(), Error> {
    if count <= MAX_LISTED {
        return Ok(());
    }
    let text = format!("lists {count} {what}, more than {MAX_LISTED}");
    Err(Error::new(ErrorKind::BrokerMisbehaved, text))
}

fn read(
    step: &mut Step,
    answer: &mut AdminAnswer,
    api: ApiKey,
    version: i16,
    body: &[u8],
) -> Result<Outcome, Error> {
    let broker = step.broker().unwrap_or(BrokerId(-1));
    let asked = step.ask.asked();
    let mut reading = Reading::default();
    match (&mut step.ask, answer) {
        (Ask::ListTopics, AdminAnswer::Topics(topics)) => {
            let told: MetadataResponse<'_> = decode(version, body)?;
            limit(told.topics.len(), "topics")?;
            return Ok(list_topics(reading, &told, topics));
        }
        (Ask::CreateTopics { topics, .. }, AdminAnswer::CreatedTopics(results)) => {
            let told: CreateTopicsResponse<'_> = decode(version, body)?;
            let told: BTreeMap<&str, _> = told.topics.iter().map(|t| (t.name, t)).collect();
            topics.retain(|topic| {
                let what = format!("topic {:?}", topic.name);
                let Some(t) = told.get(topic.name.as_str()) else {
                    reading.missing(&what);
                    return true;
                };
                let created = CreatedTopic {
                    topic_id: Some(t.topic_id).filter(|id| *id != TopicId::ZERO),
                    num_partitions: Some(t.num_partitions).filter(|n| *n > 0),
                    replication_factor: Some(t.replication_factor).filter(|n| *n > 0),
                };
                let result = reading.judge(asked, &what, t.error_code, t.error_message);
                let done = result.map(|r| results.push((topic.name.clone(), r.map(|()| created))));
                done.is_none()
            });
        }
        (Ask::DeleteTopics(names), AdminAnswer::DeletedTopics(results)) => {
            let told: DeleteTopicsResponse<'_> = decode(version, body)?;
            let told: BTreeMap<&str, _> = told
                .responses
                .iter()
                .filter_map(|t| Some((t.name?, (t.error_code, t.error_message))))
                .collect();
            names.retain(|name| {
                let what = format!("topic {name:?}");
                let Some((code, message)) = told.get(name.as_str()) else {
                    reading.missing(&what);
                    return true;
                };
                let result = reading.judge(asked, &what, *code, *message);
                result.map(|r| results.push((name.clone(), r))).is_none()
            });
        }
        (Ask::ListGroups(_), AdminAnswer::Groups(groups)) => {
            let told: ListGroupsResponse<'_> = decode(version, body)?;
            limit(told.groups.len().saturating_add(groups.len()), "groups")?;
            let what = format!("the groups of broker {broker}");
            match reading.judge(asked, &what, told.error_code, None) {
                Some(Ok(())) => groups.extend(told.groups.iter().map(|g| GroupListing {
                    group_id: g.group_id.to_owned(),
                    protocol_type: g.protocol_type.to_owned(),
                    state: (version >= 4).then(|| GroupState::from_name(g.group_state)),
                    group_type: (version >= 5).then(|| GroupType::from_name(g.group_type)),
                })),
                Some(Err(error)) => return Ok(Outcome::Refused(error)),
                None => {}
            }
        }
        (Ask::DescribeGroup { group, .. }, AdminAnswer::DescribedGroups(results)) => {
            let what = format!("group {group:?}");
            let described = if api == ApiKey::ConsumerGroupDescribe {
                let told: ConsumerGroupDescribeResponse<'_> = decode(version, body)?;
                told.groups.iter().find(|g| g.group_id == group).map(|g| {
                    limit(g.members.len(), "members")?;
                    Ok((g.error_code, g.error_message, consumer_description(&g, broker)))
                })
            } else {
                let told: DescribeGroupsResponse<'_> = decode(version, body)?;
                told.groups.iter().find(|g| g.group_id == group).map(|g| {
                    limit(g.members.len(), "members")?;
                    Ok((g.error_code, g.error_message, classic_description(&g, broker)))
                })
            };
            let Some((mut code, message, description)) = described.transpose()? else {
                reading.missing(&what);
                return Ok(Outcome::Items(reading));
            };
            let not_there = ErrorCode::GroupIdNotFound.code();
            if api == ApiKey::ConsumerGroupDescribe
                && (code == not_there || code == ErrorCode::UnsupportedVersion.code())
            {
                return Ok(Outcome::AskClassic);
            }
            // How brokers before 4.0 say that there is no such group (KIP-1043).
            if code == 0 && api == ApiKey::DescribeGroups && description.state == GroupState::Dead {
                code = not_there;
            }
            if let Some(result) = reading.judge(asked, &what, code, message) {
                results.push((group.clone(), result.map(|()| description)));
            }
        }
        (Ask::DeleteGroup(group), AdminAnswer::DeletedGroups(results)) => {
            let told: DeleteGroupsResponse<'_> = decode(version, body)?;
            let what = format!("group {group:?}");
            match told.results.iter().find(|g| g.group_id == group) {
                Some(g) => {
                    if let Some(result) = reading.judge(asked, &what, g.error_code, g.error_message) {
                        results.push((group.clone(), result));
                    }
                }
                None => reading.missing(&what),
            }
        }
        (Ask::ListGroupOffsets(group), AdminAnswer::GroupOffsets(results)) => {
            let told: OffsetFetchResponse<'_> = decode(version, body)?;
            match offsets_of(&mut reading, group, version, &told)? {
                Some(Ok(told)) => *results = told,
                Some(Err(error)) => return Ok(Outcome::Refused(error)),
                None => results.clear(),
            }
        }
        (Ask::AlterGroupOffsets { group, offsets }, AdminAnswer::AlteredOffsets(results)) => {
            let told: OffsetCommitResponse<'_> = decode(version, body)?;
            let mut codes = BTreeMap::new();
            for topic in told.topics.iter() {
                codes
                    .extend(topic.partitions.iter().map(|p| ((topic.name, p.partition_index), p.error_code)));
            }
            offsets.retain(|(tp, offset)| {
                let what = format!("the offset of group {group:?}");
                let code = codes.get(&(tp.topic(), tp.partition()));
                let result = item(&mut reading, asked, &what, tp, code);
                result.map(|r| results.push((tp.clone(), r.map(|()| *offset)))).is_none()
            });
        }
        (Ask::DeleteGroupOffsets { group, partitions }, AdminAnswer::DeletedOffsets(results)) => {
            let told: OffsetDeleteResponse<'_> = decode(version, body)?;
            let what = format!("the offset of group {group:?}");
            match reading.judge(asked, &what, told.error_code, None) {
                Some(Ok(())) => {}
                Some(Err(error)) => return Ok(Outcome::Refused(error)),
                None => return Ok(Outcome::Items(reading)),
            }
            let mut codes = BTreeMap::new();
            for topic in told.topics.iter() {
                codes
                    .extend(topic.partitions.iter().map(|p| ((topic.name, p.partition_index), p.error_code)));
            }
            partitions.retain(|tp| {
                let code = codes.get(&(tp.topic(), tp.partition()));
                let result = item(&mut reading, asked, &what, tp, code);
                result.map(|r| results.push((tp.clone(), r))).is_none()
            });
        }
        (ask, _) => {
            // Who is in the cluster is the client's own question: it has no answer here.
            let text = format!("a bug in ottla: no answer to {ask:?} is known");
            return Ok(Outcome::Refused(Error::new(ErrorKind::ApiMisuse, text)));
        }
    }
    Ok(Outcome::Items(reading))
}

/// One partition of an answer that may have left it out.
fn item(
    reading: &mut Reading,
    asked: codes::Asked,
    what: &str,
    tp: &TopicPartition,
    code: Option<&i16>,
) -> Option<Result<(), Error>> {
    let Some(code) = code else {
        reading.missing(what);
        return None;
    };
    let result = reading.judge(asked, what, *code, None)?;
    Some(result.map_err(|error| error.with_partition(tp.clone())))
}

fn list_topics(mut reading: Reading, told: &MetadataResponse<'_>, topics: &mut Vec<TopicListing>) -> Outcome {
    match reading.judge(codes::Asked::Anybody, "the topics", told.error_code, None) {
        Some(Ok(())) => {}
        Some(Err(error)) => return Outcome::Refused(error),
        None => return Outcome::Items(reading),
    }
    *topics = told
        .topics
        .iter()
        .filter_map(|t| {
            let listing = TopicListing {
                name: t.name?.to_owned(),
                topic_id: Some(t.topic_id).filter(|id| *id != TopicId::ZERO),
                is_internal: t.is_internal,
                partitions: t.partitions.len(),
            };
            // A topic in the list that is not there, or may not be seen, is none.
            let gone = ErrorCode::from_i16(t.error_code) == ErrorCode::UnknownTopicOrPartition;
            (!gone).then_some(listing)
        })
        .collect();
    Outcome::Items(reading)
}

/// Topic, partition, offset, epoch, metadata, code.
type Row<'a> = (&'a str, i32, i64, i32, Option<&'a str>, i16);
type Offsets = Vec<(TopicPartition, Result<CommittedOffset, Error>)>;

/// All that a group has committed; `None` if it has to be asked for again.
fn offsets_of(
    reading: &mut Reading,
    group: &str,
    version: i16,
    told: &OffsetFetchResponse<'_>,
) -> Result<Option<Result<Offsets, Error>>, Error> {
    let what = format!("the offsets of group {group:?}");
    let of_group = told.groups.iter().find(|g| g.group_id == group);
    let code = match (version >= 8, &of_group) {
        (true, Some(g)) => g.error_code,
        (true, None) => {
            reading.missing(&what);
            return Ok(None);
        }
        (false, _) => told.error_code,
    };
    match reading.judge(codes::Asked::Coordinator, &what, code, None) {
        Some(Ok(())) => {}
        Some(Err(error)) => return Ok(Some(Err(error))),
        None => return Ok(None),
    }
    let mut rows: Vec<Row<'_>> = Vec::new();
    if let Some(g) = of_group {
        for t in g.topics.iter() {
            limit(t.partitions.len().saturating_add(rows.len()), "offsets")?;
            rows.extend(t.partitions.iter().map(|p| {
                let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
                (t.name, p.partition_index, offset, epoch, p.metadata, p.error_code)
            }));
        }
    }
    for t in told.topics.iter() {
        limit(t.partitions.len().saturating_add(rows.len()), "offsets")?;
        rows.extend(t.partitions.iter().map(|p| {
            let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
            (t.name, p.partition_index, offset, epoch, p.metadata, p.error_code)
        }));
    }
    let mut offsets = Vec::new();
    let mut complete = true;
    for (topic, partition, offset, epoch, metadata, code) in rows {
        let tp = TopicPartition::new(topic, partition);
        match item(reading, codes::Asked::Coordinator, &what, &tp, Some(&code)) {
            // Nothing is committed: it is not in the list of what is.
            Some(Ok(())) if offset < 0 => {}
            Some(Ok(())) => {
                let committed = CommittedOffset {
                    offset,
                    leader_epoch: LeaderEpoch::from_wire(epoch),
                    metadata: metadata.filter(|m| !m.is_empty()).map(str::to_owned),
                };
                offsets.push((tp, Ok(committed)));
            }
            Some(Err(error)) => offsets.push((tp, Err(error))),
            None => complete = false,
        }
    }
    Ok(complete.then_some(Ok(offsets)))
}

fn classic_description(g: &DescribedGroup<'_>, coordinator: BrokerId) -> GroupDescription {
    let of_consumers = g.protocol_type == "consumer";
    let member = |m: ottla_wire::messages::describe_groups_response::DescribedGroupMember<'_>| {
        // Whatever another member wrote there: what cannot be read is nothing.
        let assignment = Some(m.member_assignment).filter(|bytes| of_consumers && !bytes.is_empty());
        let assignment = assignment.and_then(|bytes| Assignment::decode(bytes).ok()).unwrap_or_default();
        let topics = assignment.partitions.into_iter();
        MemberDescription {
            member_id: m.member_id.to_owned(),
            group_instance_id: m.group_instance_id.map(str::to_owned),
            client_id: m.client_id.to_owned(),
            client_host: m.client_host.to_owned(),
            assignment: partitions(topics.map(|(topic, of_topic)| (topic, of_topic.into_iter()))),
        }
    };
    GroupDescription {
        group_id: g.group_id.to_owned(),
        group_type: GroupType::Classic,
        state: GroupState::from_name(g.group_state),
        protocol_type: g.protocol_type.to_owned(),
        partition_assignor: g.protocol_data.to_owned(),
        coordinator,
        members: g.members.iter().map(member).collect(),
    }
}

fn consumer_description(g: &consumer_group::DescribedGroup<'_>, coordinator: BrokerId) -> GroupDescription {
    let member = |m: consumer_group::Member<'_>| {
        let topics = m.assignment.topic_partitions;
        MemberDescription {
            member_id: m.member_id.to_owned(),
            group_instance_id: m.instance_id.map(str::to_owned),
            client_id: m.client_id.to_owned(),
            client_host: m.client_host.to_owned(),
            assignment: partitions(topics.iter().map(|t| (t.topic_name.to_owned(), t.partitions.iter()))),
        }
    };
    GroupDescription {
        group_id: g.group_id.to_owned(),
        group_type: GroupType::Consumer,
        state: GroupState::from_name(g.group_state),
        protocol_type: "consumer".to_owned(),
        partition_assignor: g.assignor_name.to_owned(),
        coordinator,
        members: g.members.iter().map(member).collect(),
    }
}

fn partitions(topics: impl Iterator<Item = (String, impl Iterator<Item = i32>)>) -> Vec<TopicPartition> {
    let mut all: Vec<TopicPartition> = topics
        .flat_map(|(topic, partitions)| {
            let topic: std::sync::Arc<str> = topic.into();
            partitions.map(move |partition| TopicPartition::new(std::sync::Arc::clone(&topic), partition))
        })
        .collect();
    all.sort();
    all
}
