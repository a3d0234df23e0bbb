//! Topics by their ids in OffsetCommit and OffsetFetch (KIP-848): an offset of a topic that was deleted is never taken for
//! one of a topic that was made under its name since.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::TopicId;

/// The last version of both that names topics.
pub(crate) const BY_NAME: i16 = 9;

/// How one request tells its topics: by id where it can and all ids are known, else by name.
#[derive(Clone, Debug, Default)]
pub(super) struct TopicIds {
    names: BTreeMap<TopicId, Arc<str>>,
    ids: BTreeMap<Arc<str>, TopicId>,
}

impl TopicIds {
    /// For a request about `topics` in `version`; `id_of` tells a topic's present id.
    pub(super) fn new<'a>(
        topics: impl Iterator<Item = &'a Arc<str>>,
        version: i16,
        id_of: impl Fn(&str) -> Option<TopicId>,
    ) -> Self {
        let mut known = Self::default();
        for name in topics {
            let Some(id) = id_of(name).filter(|_| version > BY_NAME) else { return Self::default() };
            if known.names.insert(id, Arc::clone(name)).is_some_and(|other| other != *name) {
                // Metadata that gives two topics one id is not to be believed.
                return Self::default();
            }
            known.ids.insert(Arc::clone(name), id);
        }
        known
    }

    /// The latest version that can carry the request.
    pub(super) fn max_version(&self) -> i16 {
        if self.names.is_empty() { BY_NAME } else { i16::MAX }
    }

    /// What a request has in the place of the id: by name it is not sent.
    pub(super) fn id_of(&self, topic: &str) -> TopicId {
        self.ids.get(topic).copied().unwrap_or(TopicId::ZERO)
    }

    /// The topic that an answer in `version` speaks of; none if it was not asked about.
    pub(super) fn name_of<'a>(&'a self, version: i16, name: &'a str, id: TopicId) -> Option<&'a str> {
        if version > BY_NAME { self.names.get(&id).map(|name| &**name) } else { Some(name) }
    }
}
