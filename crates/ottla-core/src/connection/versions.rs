//! What a broker offers, and which version of each request follows from it (KIP-35, KIP-511).

use std::collections::BTreeMap;

use ottla_wire::messages::ApiVersionsResponse;
use ottla_wire::{ApiKey, ErrorCode, View};

use crate::{Error, ErrorKind};

/// The version ranges of one broker, for one connection: a rolling upgrade mixes them within a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Versions {
    ranges: BTreeMap<i16, (i16, i16)>,
    group_version: i16,
}

/// What the answer to ApiVersions says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Negotiated {
    /// The connection can be used.
    Accepted(Versions),
    /// The version was too new; ask again in this one.
    TooNew { retry_at: i16 },
}

impl Versions {
    /// The highest version within `min..=max` that the broker has too.
    pub(crate) fn pick(&self, api: ApiKey, min: i16, max: i16) -> Result<i16, Error> {
        let Some(&(theirs_min, theirs_max)) = self.ranges.get(&(api as i16)) else {
            let text = format!("the broker does not offer {}", api.name());
            return Err(Error::new(ErrorKind::Unsupported, text));
        };
        let version = theirs_max.min(max);
        if version >= theirs_min && version >= min {
            return Ok(version);
        }
        let text = format!(
            "the broker offers {} versions {theirs_min} to {theirs_max}, ottla speaks {min} to {max}: \
             brokers from 2.1 to 4.4 are supported",
            api.name()
        );
        Err(Error::new(ErrorKind::Unsupported, text))
    }

    /// The level of the cluster's feature `group.version`: 1 where consumer groups (KIP-848) are on.
    pub(crate) fn group_version(&self) -> i16 {
        self.group_version
    }

    /// The highest version of `api` that the broker has, if any.
    pub(crate) fn max(&self, api: ApiKey) -> Option<i16> {
        self.ranges.get(&(api as i16)).map(|&(_, max)| max)
    }
}

/// Reads the answer to an ApiVersions request of `version`.
pub(super) fn read_answer(version: i16, body: &[u8]) -> Result<Negotiated, Error> {
    // Error 35 comes in the layout of version 0 whatever was asked, so look at the code first.
    let code = body.first_chunk::<2>().map_or(0, |b| i16::from_be_bytes(*b));
    let layout = if ErrorCode::from_i16(code) == ErrorCode::UnsupportedVersion { 0 } else { version };
    let answer = match ApiVersionsResponse::decode(layout, body) {
        Ok(answer) => answer,
        // Some brokers send error 35 with a body that is nobody's layout: try the versions everybody has.
        Err(_) if layout == 0 && version > 0 => {
            return Ok(Negotiated::TooNew { retry_at: if version > 2 { 2 } else { 0 } });
        }
        Err(e) => {
            return Err(misbehaved("the answer to ApiVersions cannot be read").with_source(e));
        }
    };
    let error = ErrorCode::from_i16(answer.error_code);
    let mut ranges = BTreeMap::new();
    for api in answer.api_keys.iter() {
        // Keys that this build does not know are of no use; leaving them out bounds the table.
        if ApiKey::from_i16(api.api_key).is_none() {
            continue;
        }
        if api.min_version < 0 || api.min_version > api.max_version {
            return Err(misbehaved(&format!(
                "offers versions {} to {} of request {}",
                api.min_version, api.max_version, api.api_key
            )));
        }
        let range = (api.min_version, api.max_version);
        if ranges.insert(api.api_key, range).is_some_and(|before| before != range) {
            return Err(misbehaved(&format!("offers two ranges of versions of request {}", api.api_key)));
        }
    }
    let features = answer.finalized_features.iter();
    let group_version =
        features.filter(|f| f.name == "group.version").map(|f| f.max_version_level).next().unwrap_or(0);
    match error {
        ErrorCode::None if ranges.is_empty() => Err(misbehaved("offers no request at all")),
        ErrorCode::None => Ok(Negotiated::Accepted(Versions { ranges, group_version })),
        ErrorCode::UnsupportedVersion if version > 0 => {
            let theirs = ranges.get(&(ApiKey::ApiVersions as i16)).map_or(0, |&(_, max)| max);
            // A broker that names the version it just refused would be asked for ever.
            Ok(Negotiated::TooNew { retry_at: if theirs < version { theirs } else { 0 } })
        }
        other => Err(misbehaved("refused ApiVersions").with_code(other)),
    }
}

fn misbehaved(text: &str) -> Error {
    Error::new(ErrorKind::BrokerMisbehaved, text)
}
