//! What a member's machine has told its client of partitions: the same for both protocols.

use std::collections::BTreeSet;

use ottla_core::{Timestamp, TopicPartition};

use super::input::Input;
use crate::heap::measure;

/// What one call of a machine may hold beyond what it was given: its maps, and the answer in pieces.
const HELD: usize = 64 << 10;

/// Calls a machine that was given so many bytes: what it holds meanwhile is bounded by them.
pub(super) fn bounded<T>(length: usize, call: impl FnOnce() -> T) -> T {
    let (result, heap) = measure(call);
    assert!(heap.peak <= HELD + 64 * length, "R1: holds {} bytes for {length}", heap.peak);
    result
}

/// What the client knows of partitions.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// What is owned, what is being given back included.
    pub(super) owned: BTreeSet<TopicPartition>,
    /// What the reader was asked to give back, and until when.
    pub(super) revoking: Option<(Vec<TopicPartition>, Timestamp)>,
}

impl Told {
    /// These are owned from now on.
    pub(super) fn assign(&mut self, partitions: Vec<TopicPartition>) {
        assert!(!partitions.is_empty(), "nothing is assigned");
        for tp in partitions {
            assert!(tp.partition() >= 0, "{tp} is assigned");
            assert!(self.owned.insert(tp.clone()), "S6: {tp} is assigned twice");
        }
    }

    /// These are to be given back until then.
    pub(super) fn revoke(&mut self, now: Timestamp, partitions: Vec<TopicPartition>, deadline: Timestamp) {
        assert!(!partitions.is_empty() && deadline >= now, "S7: a revocation until the past");
        assert!(self.revoking.is_none(), "one revocation at a time");
        assert!(partitions.iter().all(|tp| self.owned.contains(tp)), "S10: what is not owned is revoked");
        self.revoking = Some((partitions, deadline));
    }

    /// These are gone.
    pub(super) fn lose(&mut self, partitions: &[TopicPartition]) {
        assert!(!partitions.is_empty(), "nothing is lost");
        for tp in partitions {
            assert!(self.owned.remove(tp), "{tp} is lost and was not owned");
        }
        if let Some((revoking, _)) = &mut self.revoking {
            revoking.retain(|tp| !partitions.contains(tp));
            self.revoking = self.revoking.take().filter(|(revoking, _)| !revoking.is_empty());
        }
    }

    /// The reader gives back all that it was asked for, or one after the other; what the machine is to be told.
    pub(super) fn give_back(&mut self, now: Timestamp, input: &mut Input<'_>) -> Vec<TopicPartition> {
        let Some((partitions, _)) = self.revoking.take() else { return Vec::new() };
        let some = if input.byte() < 200 { partitions.len() } else { 1 };
        let (given, kept) = partitions.split_at(some);
        self.revoking = (!kept.is_empty()).then(|| (kept.to_vec(), now));
        given.iter().for_each(|tp| assert!(self.owned.remove(tp), "{tp} was revoked and is not owned"));
        given.to_vec()
    }

    /// Nothing is told of what a leaving member had.
    pub(super) fn forget(&mut self) {
        self.owned.clear();
        self.revoking = None;
    }
}
