//! What the oracle knows of one member: from what its user did and was given, never from the client.

use std::collections::{BTreeMap, VecDeque};

use ottla_core::{OwnershipEpoch, Timestamp, TopicPartition};

/// How a user reads and commits, as far as the oracle has to know.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// The user reads events.
    pub events: bool,
    /// The user assigns by hand: it reads what it likes, next to the group. What it has seen nobody else is spared.
    pub by_hand: bool,
    /// Work is done when the user comes back.
    pub auto: bool,
    /// The reset policy is `latest`.
    pub latest: bool,
    /// Only what is committed is read.
    pub read_committed: bool,
    /// The session timeout.
    pub session: std::time::Duration,
    /// Most bytes in the ledger: budget, one batch per broker, one decoded batch.
    pub max_ledger: usize,
    /// Each of them may have a batch decoded.
    pub readers: usize,
    /// Most sockets.
    pub max_sockets: usize,
}

/// What was committed, from when on.
pub(super) type Committed = BTreeMap<TopicPartition, Vec<(Timestamp, i64)>>;

/// A batch that a user was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handed {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) number: u64,
    pub(super) returned: bool,
    pub(super) dropped: bool,
    pub(super) marked: bool,
}

/// A row of records without a seek, reset or change of ownership in between.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) epoch: OwnershipEpoch,
    /// Where it may have begun: from the first record's point of view.
    pub(super) start: i64,
    /// Behind the last record that was given.
    pub(super) position: i64,
    pub(super) batches: VecDeque<Handed>,
    /// Below this everything is done.
    pub(super) contig: i64,
    /// When records of it were given last.
    pub(super) last: Timestamp,
    /// The user or the policy chose where it began.
    pub(super) moved: bool,
    /// The log was cut here, below what was given: the user has to be told.
    pub(super) cut: Option<i64>,
    /// How many topics of this name there had been before the one it is of.
    pub(super) of: u32,
}

impl Span {
    /// The user is finished with what was handed out in front: `contig` grows.
    pub(super) fn grow(&mut self, auto: bool) {
        while let Some(front) = self.batches.front() {
            let done = front.marked || (auto && front.returned && front.dropped) || front.to <= self.contig;
            if !done {
                break;
            }
            self.contig = self.contig.max(front.to);
            self.batches.pop_front();
        }
    }
}

/// What a position must come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// The group's committed offset, or the policy; looked up at this time or later.
    Committed(Timestamp),
    /// A seek of the user's.
    At(i64, Timestamp),
    /// The user sought the beginning, then.
    Beginning(Timestamp),
    /// The user sought the end, then.
    End(Timestamp),
    /// The reset policy chose this.
    Reset(i64, Timestamp),
}

impl Expect {
    /// Whether somebody chose it, in contrast to going on where the group was.
    pub(super) fn is_chosen(self) -> bool {
        !matches!(self, Self::Committed(_))
    }

    pub(super) fn since(self) -> Timestamp {
        match self {
            Self::Committed(at)
            | Self::At(_, at)
            | Self::Beginning(at)
            | Self::End(at)
            | Self::Reset(_, at) => at,
        }
    }
}

/// An ownership as the user was told of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Owned {
    pub(super) revoking: bool,
    /// The user came back after it was told, or said so itself: it has finished giving it back.
    pub(super) given_back: bool,
}

/// A span that is over, for commits that come late.
#[derive(Clone, Copy, Debug)]
pub(super) struct Past {
    pub(super) start: i64,
    pub(super) contig: i64,
    pub(super) moved: bool,
    pub(super) ended: Timestamp,
    pub(super) of: u32,
}

/// A commit of an offset that lies below what is committed, which the user means.
#[derive(Clone, Debug)]
pub(super) struct Rewind {
    pub(super) tp: TopicPartition,
    pub(super) offset: i64,
    /// When the client told what became of it.
    pub(super) told: Option<Timestamp>,
}

/// One member.
#[derive(Debug)]
pub(super) struct GhostMember {
    pub(super) traits: Traits,
    pub(super) alive: bool,
    pub(super) born: Timestamp,
    /// When the user last read and there was nothing: what it reads now has happened since.
    pub(super) drained: Timestamp,
    pub(super) owned: BTreeMap<TopicPartition, Owned>,
    pub(super) expect: BTreeMap<TopicPartition, Expect>,
    pub(super) spans: BTreeMap<TopicPartition, Span>,
    pub(super) past: BTreeMap<TopicPartition, Vec<Past>>,
    pub(super) paused: std::collections::BTreeSet<TopicPartition>,
    /// It may read these or not.
    pub(super) perhaps_paused: std::collections::BTreeSet<TopicPartition>,
    /// What was committed for the group that it has for itself, by hand.
    pub(super) committed: Committed,
    /// Offsets that the user committed as a rewind.
    pub(super) rewound: Vec<Rewind>,
    /// What its user subscribes to, and since when; none is everything.
    pub(super) subscribed: Option<(Timestamp, Vec<String>)>,
    /// Something troubles it alone, until then.
    pub(super) troubled_until: Timestamp,
    /// Since when the coordinator does not know it; none while it does.
    pub(super) out_since: Option<Timestamp>,
    pub(super) given: u64,
    /// When a broker last did something wrong with a request of its.
    pub(super) hurt: Option<Timestamp>,
    /// It has joined a consumer group anew (KIP-848): everything up to this ownership is over, by its own word.
    pub(super) behind: Option<OwnershipEpoch>,
}

impl GhostMember {
    pub(super) fn new(traits: Traits, now: Timestamp) -> Self {
        Self {
            traits,
            alive: true,
            born: now,
            drained: now,
            owned: BTreeMap::new(),
            expect: BTreeMap::new(),
            spans: BTreeMap::new(),
            past: BTreeMap::new(),
            paused: std::collections::BTreeSet::new(),
            perhaps_paused: std::collections::BTreeSet::new(),
            committed: Committed::new(),
            rewound: Vec::new(),
            subscribed: None,
            troubled_until: Timestamp::ZERO,
            out_since: Some(now),
            given: 0,
            hurt: None,
            behind: None,
        }
    }

    /// The span of a partition is over.
    pub(super) fn end_span(&mut self, ended: Timestamp, tp: &TopicPartition) {
        if let Some(span) = self.spans.remove(tp) {
            self.past.entry(tp.clone()).or_default().push(Past {
                start: span.start,
                contig: span.contig,
                moved: span.moved,
                ended,
                of: span.of,
            });
        }
    }
}
