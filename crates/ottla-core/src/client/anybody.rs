//! Whom to ask what any broker knows: metadata, and who coordinates the group.
//!
//! One broker is asked as long as it helps. One that does not (an error, no answer in time, nothing known of what is
//! wanted) is asked again only after all others were: it may be cut off from the rest of the cluster. One that does
//! not take a connection soon is waited for while the next one is tried: an address where nobody answers must not use
//! up the time of all.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Client;
use crate::Timestamp;
use crate::connection::{Role, Target};

/// The longest that a connection is waited for before the next address is tried as well.
const PATIENCE: Duration = Duration::from_secs(1);

/// What any broker can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Metadata,
    Coordinator,
}

/// Who was asked since somebody helped last, and did not help.
#[derive(Debug, Default)]
pub(super) struct Helpless {
    metadata: BTreeSet<Target>,
    coordinator: BTreeSet<Target>,
}

impl Helpless {
    fn of(&mut self, question: Question) -> &mut BTreeSet<Target> {
        match question {
            Question::Metadata => &mut self.metadata,
            Question::Coordinator => &mut self.coordinator,
        }
    }

    /// `target` was asked: did it help?
    pub(super) fn note(&mut self, question: Question, target: Target, helped: bool) {
        let helpless = self.of(question);
        if helped {
            helpless.clear();
        } else {
            helpless.insert(target);
        }
    }
}

impl Client {
    /// A broker, any broker, that can be asked now. Opens connections until there is one: the known brokers
    /// first, and when all of them fail the configured addresses as well (KIP-899).
    pub(super) fn anybody(&mut self, now: Timestamp, question: Question) -> Option<Target> {
        let mut all: Vec<Target> = self.network.brokers().map(Target::Broker).collect();
        let known = all.len();
        all.extend((0..self.config.bootstrap.len()).map(Target::Bootstrap));
        let first = if known > 0 { all.get(..known) } else { None }.unwrap_or(&all);
        let patience = self.patience();
        let helpless = self.helpless.of(question);
        if first.iter().all(|target| helpless.contains(target)) {
            helpless.clear();
        }
        let network = &mut self.network;
        let ready = |target: &Target| network.is_ready(*target, Role::Control);
        let free = |target: &Target| ready(target) && !network.is_muted(now, *target, Role::Control);
        let fresh = |target: &Target| !helpless.contains(target);
        if let Some(target) = all.iter().find(|target| free(target) && fresh(target)) {
            return Some(*target);
        }
        // Another one, for now or for the next time.
        let slow = |target: &Target| network.is_slow(now, *target, Role::Control, patience);
        let healthy =
            |target: &Target| !ready(target) && !network.is_failing(*target, Role::Control) && !slow(target);
        let another = all.iter().find(|target| healthy(target) && fresh(target)).copied();
        let another = another.or_else(|| all.iter().find(|target| healthy(target)).copied());
        let helpless_one = all.iter().find(|target| free(target)).copied();
        let muted_one = all.iter().find(|target| ready(target)).copied();
        match (another, helpless_one, muted_one) {
            (Some(another), asked, _) => {
                network.open(now, another, Role::Control);
                asked
            }
            (None, Some(asked), _) | (None, None, Some(asked)) => Some(asked),
            (None, None, None) => {
                for target in all {
                    network.open(now, target, Role::Control);
                }
                None
            }
        }
    }

    /// How long a connection is waited for before the next address is tried as well: all of them have their turn
    /// within half of the time that setting one up may take.
    fn patience(&self) -> Duration {
        let addresses = self.network.brokers().count().saturating_add(self.config.bootstrap.len()).max(1);
        let addresses = u32::try_from(addresses).unwrap_or(u32::MAX);
        PATIENCE.min(self.config.connection_setup_timeout / addresses.saturating_mul(2))
    }

    /// When the next address is to be tried because a connection takes long.
    pub(super) fn patience_timeout(&self) -> Option<Timestamp> {
        self.network.slow_at(self.now, Role::Control, self.patience())
    }
}
