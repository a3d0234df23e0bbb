//! The protocol's APIs by name, and which versions a broker release offers.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use kafka_protocol::messages::ApiKey;

use crate::error::{BrokerError, nearest};

macro_rules! apis {
    ($($key:literal $name:ident)*) => {
        /// An API of the Kafka protocol that this broker knows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Api {
            $(
                #[doc = concat!("API key ", stringify!($key), ".")]
                $name = $key,
            )*
        }

        impl Api {
            /// Every API that this broker answers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Kafka's name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// The API with this key, if the broker knows it.
            pub fn from_key(key: i16) -> Option<Self> {
                match key {
                    $($key => Some(Self::$name),)*
                    _ => None,
                }
            }

            pub(crate) fn kafka(self) -> ApiKey {
                match self {
                    $(Self::$name => ApiKey::$name,)*
                }
            }
        }
    };
}

apis! {
    0 Produce 1 Fetch 2 ListOffsets 3 Metadata 8 OffsetCommit 9 OffsetFetch 10 FindCoordinator 11 JoinGroup
    12 Heartbeat 13 LeaveGroup 14 SyncGroup 15 DescribeGroups 16 ListGroups 18 ApiVersions 19 CreateTopics
    20 DeleteTopics 21 DeleteRecords 22 InitProducerId 23 OffsetForLeaderEpoch 37 CreatePartitions 42 DeleteGroups
    47 OffsetDelete 60 DescribeCluster 68 ConsumerGroupHeartbeat 69 ConsumerGroupDescribe
}

impl Api {
    /// The API's key on the wire.
    pub fn key(self) -> i16 {
        self as i16
    }

    /// The versions this broker can speak, before any cap.
    ///
    /// kafka-protocol lacks OffsetCommit 10, OffsetFetch 10 and ListOffsets 11; `wire::extra` has them.
    pub(crate) fn implemented(self) -> RangeInclusive<i16> {
        let range = self.kafka().valid_versions();
        let max = match self {
            Self::ListOffsets => 11,
            // 6 is two-phase commit, which no release has enabled.
            Self::InitProducerId => 5,
            _ => range.max,
        };
        range.min..=max
    }

    pub(crate) fn is_flexible(self, version: i16) -> bool {
        self.kafka().request_header_version(version) >= 2
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Api {
    type Err = BrokerError;

    fn from_str(text: &str) -> Result<Self, BrokerError> {
        Self::ALL.iter().copied().find(|api| api.name().eq_ignore_ascii_case(text)).ok_or_else(|| {
            BrokerError::Unknown(format!(
                "unknown api '{text}'; nearest: {}",
                nearest(text, Self::ALL.iter().map(|api| api.name()))
            ))
        })
    }
}

impl TryFrom<&str> for Api {
    type Error = BrokerError;

    fn try_from(text: &str) -> Result<Self, BrokerError> {
        text.parse()
    }
}

/// The releases that `as_version` knows, in order.
const RELEASES: [&str; 18] = [
    "2.1", "2.2", "2.3", "2.4", "2.5", "2.7", "2.8", "3.0", "3.1", "3.2", "3.5", "3.7", "3.8", "3.9", "4.0",
    "4.1", "4.2", "4.4",
];

/// Releases that offer the same versions as an older one.
const SAME: [(&str, &str); 5] =
    [("2.6", "2.5"), ("3.3", "3.2"), ("3.4", "3.2"), ("3.6", "3.5"), ("4.3", "4.2")];

/// Highest version per release, in the order of `RELEASES`; −1: the release lacks the API.
#[rustfmt::skip]
const MAX_VERSIONS: [(Api, [i16; 18]); 25] = [
    (Api::Produce,              [7, 7, 7, 8, 8, 8, 9, 9, 9, 9, 9, 10, 11, 11, 12, 13, 13, 13]),
    (Api::Fetch,                [10, 10, 11, 11, 11, 12, 12, 12, 13, 13, 15, 16, 16, 17, 17, 18, 18, 18]),
    (Api::ListOffsets,          [4, 5, 5, 5, 5, 5, 6, 7, 7, 7, 8, 8, 8, 9, 10, 10, 11, 11]),
    (Api::Metadata,             [7, 7, 8, 9, 9, 9, 11, 11, 12, 12, 12, 12, 12, 12, 13, 13, 13, 13]),
    (Api::OffsetCommit,         [6, 6, 7, 8, 8, 8, 8, 8, 8, 8, 8, 9, 9, 9, 9, 9, 10, 10]),
    (Api::OffsetFetch,          [5, 5, 5, 6, 7, 7, 7, 8, 8, 8, 8, 9, 9, 9, 9, 9, 10, 10]),
    (Api::FindCoordinator,      [2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4, 5, 6, 6, 6, 6, 6]),
    (Api::JoinGroup,            [3, 4, 5, 6, 7, 7, 7, 7, 7, 9, 9, 9, 9, 9, 9, 9, 9, 9]),
    (Api::Heartbeat,            [2, 2, 3, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4]),
    (Api::LeaveGroup,           [2, 2, 2, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 5, 5]),
    (Api::SyncGroup,            [2, 2, 3, 4, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5]),
    (Api::DescribeGroups,       [2, 2, 3, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 6, 6, 6, 6]),
    (Api::ListGroups,           [2, 2, 2, 3, 3, 4, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5]),
    (Api::ApiVersions,          [2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4]),
    (Api::CreateTopics,         [3, 3, 3, 5, 5, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]),
    (Api::DeleteTopics,         [3, 3, 3, 4, 4, 5, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6]),
    (Api::DeleteRecords,        [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]),
    (Api::InitProducerId,       [1, 1, 1, 2, 3, 4, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5]),
    (Api::OffsetForLeaderEpoch, [2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4]),
    (Api::CreatePartitions,     [1, 1, 1, 1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]),
    (Api::DeleteGroups,         [1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]),
    (Api::OffsetDelete,         [-1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    (Api::DescribeCluster,      [-1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2]),
    (Api::ConsumerGroupHeartbeat, [-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 1, 1, 1, 1]),
    (Api::ConsumerGroupDescribe, [-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 1, 1, 1, 1]),
];

/// Which versions of each API the brokers offer.
#[derive(Debug, Clone)]
pub(crate) struct VersionTable(Vec<(Api, i16, i16)>);

impl VersionTable {
    /// Everything that is implemented.
    pub(crate) fn latest() -> Self {
        Self(
            Api::ALL
                .iter()
                .map(|&api| {
                    let range = api.implemented();
                    (api, *range.start(), *range.end())
                })
                .collect(),
        )
    }

    /// What the given release offers ("2.8", "3.9.2": the patch number does not matter).
    pub(crate) fn release(release: &str) -> Result<Self, BrokerError> {
        let mut parts = release.split('.');
        let short = format!("{}.{}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let column = SAME.iter().find(|(name, _)| *name == short).map_or(short.as_str(), |(_, same)| same);
        let Some(column) = RELEASES.iter().position(|name| *name == column) else {
            return Err(BrokerError::Unknown(format!(
                "unknown broker release '{release}'; known: {} and the ones between",
                RELEASES.join(", ")
            )));
        };
        let mut table = Self::latest();
        for (api, maxima) in &MAX_VERSIONS {
            table.set_max(*api, maxima[column]);
        }
        Ok(table)
    }

    /// Caps one API; a maximum below its minimum removes it.
    pub(crate) fn set_max(&mut self, api: Api, max: i16) {
        for entry in &mut self.0 {
            if entry.0 == api {
                entry.2 = entry.2.min(max);
            }
        }
        self.0.retain(|(_, min, max)| min <= max);
    }

    pub(crate) fn supports(&self, api: Api, version: i16) -> bool {
        self.0.iter().any(|&(a, min, max)| a == api && (min..=max).contains(&version))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Api, i16, i16)> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_cap_what_is_offered() {
        let old = VersionTable::release("2.8.1").unwrap();
        assert!(old.supports(Api::Fetch, 12) && !old.supports(Api::Fetch, 13));
        assert!(!VersionTable::release("2.4").unwrap().supports(Api::DescribeCluster, 0));
        assert!(VersionTable::release("2.6").unwrap().supports(Api::OffsetFetch, 7));
        assert!(VersionTable::release("4.3.1").unwrap().supports(Api::OffsetCommit, 10));
        assert!(VersionTable::release("1.0").unwrap_err().to_string().contains("2.1"));
    }

    #[test]
    fn every_release_stays_inside_what_is_implemented() {
        for (api, maxima) in &MAX_VERSIONS {
            let range = api.implemented();
            assert!(maxima.iter().all(|max| *max == -1 || range.contains(max)), "{api}");
        }
        assert_eq!(MAX_VERSIONS.len(), Api::ALL.len());
    }

    #[test]
    fn a_wrong_api_name_lists_the_nearest() {
        assert_eq!("offsetcommit".parse::<Api>().unwrap(), Api::OffsetCommit);
        assert!("OfsetCommit".parse::<Api>().unwrap_err().to_string().contains("OffsetCommit"));
    }
}
