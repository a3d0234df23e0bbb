//! The coordinator of a consumer group (KIP-848) with one member.

use ottla_wire::View;

use super::{Broker, ID, Input, PARTITIONS};
use crate::generated::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use crate::generated::consumer_group_heartbeat_response as r;

/// What a coordinator refuses with for a while: it loads, it moved, it has forgotten the member.
pub(super) const PASSING: [i16; 6] = [14, 15, 16, 25, 110, 113];

impl Broker {
    /// It keeps no state: whoever joins gets everything, and where the input does not say otherwise a member is told
    /// all that it is to own.
    pub(super) fn consumer_heartbeat(
        &self,
        version: i16,
        body: &[u8],
        error_code: i16,
        input: &mut Input<'_>,
    ) -> r::ConsumerGroupHeartbeatResponse {
        let request = ConsumerGroupHeartbeatRequest::decode(version, body).expect("our request");
        let choice = input.byte();
        let lie = !self.honest && choice > 200;
        let joins = request.member_epoch == 0;
        let partitions = match choice {
            _ if joins => Some(PARTITIONS),
            // Another member comes, and goes.
            150.. => Some(i32::from(choice) % (PARTITIONS + 1)),
            100.. if request.topic_partitions.is_none() => None,
            _ => Some(PARTITIONS),
        };
        let member_epoch = match choice {
            _ if lie => input.number(),
            _ if joins => 4,
            150.. => request.member_epoch.saturating_add(1),
            _ => request.member_epoch,
        };
        let topic = |count| r::TopicPartitions {
            topic_id: if lie { ottla_wire::Uuid([input.byte(); 16]) } else { ID },
            partitions: (0..count).collect(),
        };
        let assignment = partitions.map(topic).map(|topic| r::Assignment { topic_partitions: vec![topic] });
        r::ConsumerGroupHeartbeatResponse {
            error_code,
            member_id: Some(request.member_id.to_owned()),
            member_epoch,
            heartbeat_interval_ms: if lie { input.number() } else { 3_000 },
            assignment,
            ..Default::default()
        }
    }
}
