//! A broker that answers every request of a consumer from memory: honestly, or, where the input says so, not quite.

mod admin;
mod consumer_group;

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use ottla_wire::records::{BatchWriter, Compression};
use ottla_wire::{ApiKey, Encode, Uuid, View};

use super::input::Input;
use crate::generated as m;

/// The one topic.
pub(super) const TOPIC: &str = "t";
/// Its id.
const ID: Uuid = Uuid([7; 16]);
/// Its partitions.
pub(super) const PARTITIONS: i32 = 3;
/// The end of each partition's log.
pub(super) const END: i64 = 60;
/// Brokers, numbered from 1.
const BROKERS: i32 = 2;

/// The highest version of an API in Kafka 2.1, the oldest that ottla promises to read from.
const OLDEST: [(ApiKey, i16); 10] = [
    (ApiKey::Fetch, 10),
    (ApiKey::ListOffsets, 4),
    (ApiKey::Metadata, 7),
    (ApiKey::OffsetCommit, 6),
    (ApiKey::OffsetFetch, 5),
    (ApiKey::FindCoordinator, 2),
    (ApiKey::JoinGroup, 3),
    (ApiKey::Heartbeat, 2),
    (ApiKey::LeaveGroup, 2),
    (ApiKey::SyncGroup, 2),
];

/// What an API may refuse with; the last one nobody knows.
const CODES: [i16; 34] = [
    0, 1, 3, 5, 6, 7, 9, 14, 15, 16, 22, 25, 27, 29, 30, 35, 41, 42, 69, 70, 71, 74, 75, 76, 79, 81, 82, 100,
    110, 111, 112, 113, 128, 999,
];

/// A partition's log: first and last offset of each batch, and its bytes. There are gaps between batches.
pub(super) struct Log(Vec<(i64, i64, Bytes)>);

/// The logs of all partitions.
pub(super) static LOGS: LazyLock<Vec<Log>> = LazyLock::new(|| (0..PARTITIONS).map(Log::new).collect());

impl Log {
    fn new(partition: i32) -> Self {
        let mut batches = Vec::new();
        let mut base = i64::from(partition);
        while base < END {
            let count = (1 + (base + i64::from(partition)) % 5).min(END - base);
            let codec = Compression::ALL[(base % 5) as usize];
            let mut writer = BatchWriter::new().compression(codec).base_offset(base);
            for offset in base..base + count {
                let value = format!("{partition}/{offset}");
                writer.append(offset, None, Some(value.as_bytes()), &[]).expect("a record");
            }
            batches.push((base, base + count - 1, writer.finish()));
            // Behind the last batch there is no gap.
            base += count + if base % 3 == 0 && base + count + 2 < END { 2 } else { 0 };
        }
        Self(batches)
    }

    /// The first offset that holds a record, at or behind this one.
    pub(super) fn next(&self, offset: i64) -> i64 {
        let batch = self.0.iter().find(|(_, last, _)| *last >= offset);
        batch.map_or(END, |(first, _, _)| offset.max(*first))
    }

    /// So many batches from the one that holds the offset on.
    fn fetch(&self, offset: i64, count: usize) -> Vec<u8> {
        let from = self.0.iter().filter(|(_, last, _)| *last >= offset);
        from.take(count).flat_map(|(_, _, bytes)| bytes.iter().copied()).collect()
    }
}

/// Answers requests.
#[derive(Debug)]
pub(super) struct Broker {
    /// Nothing that it says is untrue; errors that pass are no lies.
    pub(super) honest: bool,
    /// How far behind the newest versions it is.
    behind: i16,
    /// The feature `group.version`: whether there are consumer groups.
    group_version: i16,
    /// Who asks is an administrator.
    pub(super) administered: bool,
}

impl Broker {
    pub(super) fn new(input: &mut Input<'_>, consumer_groups: bool) -> Self {
        // One that has consumer groups tells the ids of topics.
        let oldest = if consumer_groups { 3 } else { 12 };
        Self {
            honest: input.byte().is_multiple_of(2),
            behind: i16::from(input.byte() % oldest),
            group_version: i16::from(consumer_groups),
            administered: false,
        }
    }

    /// The port of a broker.
    pub(super) fn port(node: i32) -> i32 {
        9091 + node
    }

    /// The body of the answer; `None` when there is none (the request cannot be read: a bug of ours).
    pub(super) fn answer(&self, api: ApiKey, version: i16, body: &[u8], input: &mut Input<'_>) -> BytesMut {
        let mut out = BytesMut::new();
        let code = self.code(api, input);
        let encoded = match api {
            ApiKey::ApiVersions => self.api_versions().encode(version, &mut out),
            ApiKey::Metadata => self.metadata(code, input).encode(version, &mut out),
            ApiKey::FindCoordinator => Self::coordinator(version, body, code).encode(version, &mut out),
            ApiKey::ConsumerGroupHeartbeat => {
                self.consumer_heartbeat(version, body, code, input).encode(version, &mut out)
            }
            ApiKey::JoinGroup => Self::join(version, body, code).encode(version, &mut out),
            ApiKey::SyncGroup => Self::sync(version, body, code).encode(version, &mut out),
            ApiKey::Heartbeat => {
                let answer =
                    m::heartbeat_response::HeartbeatResponse { error_code: code, ..Default::default() };
                answer.encode(version, &mut out)
            }
            ApiKey::OffsetFetch => self.committed(version, body, code, input).encode(version, &mut out),
            ApiKey::OffsetCommit => Self::commit(version, body, code).encode(version, &mut out),
            ApiKey::ListOffsets => self.offsets(version, body, code, input).encode(version, &mut out),
            ApiKey::Fetch => self.fetch(version, body, code, input).encode(version, &mut out),
            _ => match self.answer_admin(api, version, body, code, input) {
                Some(answer) => answer.map(|bytes| out = bytes),
                None => Ok(()),
            },
        };
        encoded.unwrap_or_else(|e| panic!("{e}"));
        if !self.honest && input.byte() > 240 && !out.is_empty() {
            let at = input.below(out.len());
            match input.below(3) {
                0 => out[at] ^= 1 << input.below(8),
                1 => out.truncate(at),
                _ => out.extend_from_slice(input.some()),
            }
        }
        out
    }

    /// An error now and then: any, or, if it is honest, one that passes.
    fn code(&self, api: ApiKey, input: &mut Input<'_>) -> i16 {
        let codes: &[i16] = match api {
            _ if !self.honest => &CODES,
            ApiKey::Metadata => &[5],
            ApiKey::ListOffsets | ApiKey::Fetch => &[5, 6, 9],
            ApiKey::FindCoordinator => &[15],
            ApiKey::JoinGroup | ApiKey::OffsetFetch => &[14, 15, 16],
            ApiKey::ConsumerGroupHeartbeat => &consumer_group::PASSING,
            ApiKey::CreateTopics | ApiKey::DeleteTopics => &[7, 41],
            _ if self.administered => &[14, 15, 16],
            _ => &[14, 16, 22, 25, 27],
        };
        if input.byte() > 210 { codes[input.below(codes.len())] } else { 0 }
    }

    fn api_versions(&self) -> m::api_versions_response::ApiVersionsResponse {
        let asked = m::MESSAGES.iter().filter(|message| message.kind == crate::register::Kind::Request);
        let range = |message: &crate::register::Message| {
            let (min, max) = message.versions;
            let api_key = message.api_key.unwrap_or_default();
            let oldest =
                OLDEST.iter().find(|(api, _)| api.code() == api_key).map_or(max, |(_, version)| *version);
            let max_version = (max - self.behind).max(oldest);
            m::api_versions_response::ApiVersion { api_key, min_version: min, max_version }
        };
        let group_version = m::api_versions_response::FinalizedFeatureKey {
            name: "group.version".to_owned(),
            max_version_level: self.group_version,
            min_version_level: self.group_version,
        };
        m::api_versions_response::ApiVersionsResponse {
            api_keys: asked.map(range).collect(),
            finalized_features_epoch: 1,
            finalized_features: vec![group_version],
            ..Default::default()
        }
    }

    fn metadata(&self, code: i16, input: &mut Input<'_>) -> m::metadata_response::MetadataResponse {
        use m::metadata_response::{
            MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
        };
        let lie = !self.honest && input.byte() > 200;
        let broker = |node_id| MetadataResponseBroker {
            node_id,
            host: "b".to_owned(),
            port: Self::port(node_id),
            rack: None,
        };
        let leaders = input.byte();
        let partition = |partition_index: i32| MetadataResponsePartition {
            // Nobody leads it for a while.
            error_code: if leaders > 250 { 5 } else { 0 },
            partition_index,
            leader_id: if leaders > 250 { -1 } else { 1 + (i32::from(leaders) >> partition_index & 1) },
            leader_epoch: 3,
            replica_nodes: vec![1, 2],
            isr_nodes: vec![1, 2],
            ..Default::default()
        };
        let topic = MetadataResponseTopic {
            error_code: code,
            name: Some(if lie && input.byte() > 128 { "u".to_owned() } else { TOPIC.to_owned() }),
            topic_id: if lie { Uuid([input.byte(); 16]) } else { ID },
            partitions: (0..if lie { i32::from(input.byte() % 6) } else { PARTITIONS })
                .map(partition)
                .collect(),
            ..Default::default()
        };
        let mut response = MetadataResponse {
            brokers: (1..=BROKERS).map(broker).collect(),
            cluster_id: Some("c".to_owned()),
            controller_id: 1,
            topics: vec![topic],
            ..Default::default()
        };
        if lie {
            response.brokers.extend((0..input.below(4)).map(|_| broker(input.number() % 60_000)));
        }
        response
    }

    fn coordinator(
        version: i16,
        body: &[u8],
        error_code: i16,
    ) -> m::find_coordinator_response::FindCoordinatorResponse {
        use m::find_coordinator_request::FindCoordinatorRequest;
        use m::find_coordinator_response::{Coordinator, FindCoordinatorResponse};
        let request = FindCoordinatorRequest::decode(version, body).expect("our request");
        let (host, port) = ("b".to_owned(), Self::port(1));
        if version < 4 {
            return FindCoordinatorResponse { error_code, node_id: 1, host, port, ..Default::default() };
        }
        let coordinator = |key: &str| Coordinator {
            key: key.to_owned(),
            node_id: 1,
            host: host.clone(),
            port,
            error_code,
            error_message: None,
        };
        let coordinators = request.coordinator_keys.into_iter().map(coordinator).collect();
        FindCoordinatorResponse { coordinators, ..Default::default() }
    }

    /// The member is alone and leads.
    fn join(version: i16, body: &[u8], error_code: i16) -> m::join_group_response::JoinGroupResponse {
        use m::join_group_response::{JoinGroupResponse, JoinGroupResponseMember};
        let request = m::join_group_request::JoinGroupRequest::decode(version, body).expect("our request");
        let first = request.protocols.first();
        let member = JoinGroupResponseMember {
            member_id: "m".to_owned(),
            group_instance_id: None,
            metadata: first.map(|p| Bytes::copy_from_slice(p.metadata)).unwrap_or_default(),
        };
        JoinGroupResponse {
            error_code: if version >= 4 && request.member_id.is_empty() { 79 } else { error_code },
            generation_id: 4,
            protocol_type: Some("consumer".to_owned()),
            protocol_name: Some(first.map_or("", |p| p.name).to_owned()),
            leader: "m".to_owned(),
            member_id: "m".to_owned(),
            members: vec![member],
            ..Default::default()
        }
    }

    fn sync(version: i16, body: &[u8], error_code: i16) -> m::sync_group_response::SyncGroupResponse {
        let request = m::sync_group_request::SyncGroupRequest::decode(version, body).expect("our request");
        let own = request.assignments.first().map_or(&[][..], |a| a.assignment);
        let assignment = Bytes::copy_from_slice(own);
        m::sync_group_response::SyncGroupResponse { error_code, assignment, ..Default::default() }
    }

    /// What is committed of a partition.
    fn offset(&self, input: &mut Input<'_>) -> i64 {
        if self.honest { i64::from(input.byte() % 61) - 1 } else { i64::from(input.number()) }
    }

    fn committed(
        &self,
        version: i16,
        body: &[u8],
        error_code: i16,
        input: &mut Input<'_>,
    ) -> m::offset_fetch_response::OffsetFetchResponse {
        use m::offset_fetch_response as r;
        let request =
            m::offset_fetch_request::OffsetFetchRequest::decode(version, body).expect("our request");
        if version < 8 {
            let mut topics = Vec::new();
            if request.topics.is_none() {
                let row = |(partition_index, committed_offset)| r::OffsetFetchResponsePartition {
                    partition_index,
                    committed_offset,
                    ..Default::default()
                };
                let partitions = Self::all_committed(input).into_iter().map(row).collect();
                topics.push(r::OffsetFetchResponseTopic { name: TOPIC.to_owned(), partitions });
            }
            let mut offset = || self.offset(input);
            for topic in request.topics.into_iter().flatten() {
                let mut partitions = Vec::new();
                for partition_index in topic.partition_indexes {
                    let committed_offset = offset();
                    partitions.push(r::OffsetFetchResponsePartition {
                        partition_index,
                        committed_offset,
                        ..Default::default()
                    });
                }
                topics.push(r::OffsetFetchResponseTopic { name: topic.name.to_owned(), partitions });
            }
            return r::OffsetFetchResponse { topics, error_code, ..Default::default() };
        }
        let mut groups = Vec::new();
        for group in request.groups {
            let mut topics = Vec::new();
            if group.topics.is_none() {
                let row = |(partition_index, committed_offset)| r::OffsetFetchResponsePartitions {
                    partition_index,
                    committed_offset,
                    ..Default::default()
                };
                let partitions = Self::all_committed(input).into_iter().map(row).collect();
                topics.push(r::OffsetFetchResponseTopics {
                    name: TOPIC.to_owned(),
                    topic_id: ID,
                    partitions,
                });
            }
            let mut offset = || self.offset(input);
            for topic in group.topics.into_iter().flatten() {
                let mut partitions = Vec::new();
                for partition_index in topic.partition_indexes {
                    let committed_offset = offset();
                    partitions.push(r::OffsetFetchResponsePartitions {
                        partition_index,
                        committed_offset,
                        ..Default::default()
                    });
                }
                let name = topic.name.to_owned();
                topics.push(r::OffsetFetchResponseTopics { name, topic_id: topic.topic_id, partitions });
            }
            groups.push(r::OffsetFetchResponseGroup {
                group_id: group.group_id.to_owned(),
                topics,
                error_code,
            });
        }
        r::OffsetFetchResponse { groups, ..Default::default() }
    }

    fn commit(version: i16, body: &[u8], error_code: i16) -> m::offset_commit_response::OffsetCommitResponse {
        use m::offset_commit_response as r;
        let request =
            m::offset_commit_request::OffsetCommitRequest::decode(version, body).expect("our request");
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic
                .partitions
                .iter()
                .map(|p| r::OffsetCommitResponsePartition { partition_index: p.partition_index, error_code });
            r::OffsetCommitResponseTopic {
                name: topic.name.to_owned(),
                topic_id: topic.topic_id,
                partitions: partitions.collect(),
            }
        });
        r::OffsetCommitResponse { topics: topics.collect(), ..Default::default() }
    }

    fn offsets(
        &self,
        version: i16,
        body: &[u8],
        error_code: i16,
        input: &mut Input<'_>,
    ) -> m::list_offsets_response::ListOffsetsResponse {
        use m::list_offsets_response as r;
        let request =
            m::list_offsets_request::ListOffsetsRequest::decode(version, body).expect("our request");
        let lie = !self.honest && input.byte() > 200;
        let mut topics = Vec::new();
        for topic in request.topics {
            let mut partitions = Vec::new();
            for p in topic.partitions {
                partitions.push(r::ListOffsetsPartitionResponse {
                    partition_index: p.partition_index,
                    error_code,
                    offset: if lie {
                        i64::from(input.number())
                    } else {
                        // -2 is the beginning; -1, and a time after which nothing was written, the end.
                        if p.timestamp == -2 { 0 } else { END }
                    },
                    ..Default::default()
                });
            }
            topics.push(r::ListOffsetsTopicResponse { name: topic.name.to_owned(), partitions });
        }
        r::ListOffsetsResponse { topics, ..Default::default() }
    }

    fn fetch(
        &self,
        version: i16,
        body: &[u8],
        code: i16,
        input: &mut Input<'_>,
    ) -> m::fetch_response::FetchResponse {
        use m::fetch_response as r;
        let request = m::fetch_request::FetchRequest::decode(version, body).expect("our request");
        // It keeps no sessions: who has one was lied to.
        if request.session_id != 0 {
            return r::FetchResponse { error_code: 70, ..Default::default() };
        }
        let mut responses = Vec::new();
        for topic in request.topics {
            let mut partitions = Vec::new();
            for asked in topic.partitions {
                let lie = !self.honest && input.byte() > 180;
                let log = &LOGS[usize::try_from(asked.partition).unwrap_or(0).min(2)];
                let mut data = r::PartitionData {
                    partition_index: asked.partition,
                    error_code: if asked.fetch_offset > END { 1 } else { code },
                    high_watermark: END,
                    last_stable_offset: END,
                    log_start_offset: 0,
                    ..Default::default()
                };
                if data.error_code == 0 {
                    let mut records = log.fetch(asked.fetch_offset, 1 + input.below(4));
                    if lie {
                        self.spoil(&mut data, &mut records, input);
                    } else if input.byte() > 200 {
                        // Cut inside the last batch, but for the first, which always comes whole.
                        let whole = log.fetch(asked.fetch_offset, 1).len();
                        records.truncate(whole.max(records.len().saturating_sub(input.below(40))));
                    }
                    data.records = Some(records.into());
                }
                partitions.push(data);
            }
            responses.push(r::FetchableTopicResponse {
                topic: topic.topic.to_owned(),
                topic_id: topic.topic_id,
                partitions,
            });
        }
        let mut response = r::FetchResponse { responses, ..Default::default() };
        if !self.honest {
            match input.byte() {
                255 => response.error_code = code,
                254 => response.responses.clear(),
                253 => response.session_id = input.number(),
                252 => response.responses.extend(response.responses.clone()),
                _ => {}
            }
        }
        if version < 7 {
            response.session_id = 0;
        }
        response
    }

    fn spoil(
        &self,
        data: &mut m::fetch_response::PartitionData,
        records: &mut Vec<u8>,
        input: &mut Input<'_>,
    ) {
        match input.below(8) {
            0 => data.high_watermark = i64::from(input.number()),
            1 => data.log_start_offset = i64::from(input.number()),
            2 => data.partition_index = input.number(),
            3 if !records.is_empty() => {
                let at = input.below(records.len());
                records[at] ^= 1 << input.below(8);
            }
            4 => *records = LOGS[0].fetch(i64::from(input.byte()), 1 + input.below(4)),
            5 => *records = input.some().to_vec(),
            6 => records.extend(records.clone()),
            _ => records.truncate(input.below(records.len().max(1))),
        }
    }
}
