//! Members that come and go.

use ottla_core::config::GroupProtocol;
use ottla_core::{Rng, Timestamp};

use super::Simulation;
use crate::MemberId;
use crate::jepsen::What;
use crate::workload::{Hand, User};

impl Simulation {
    /// A new member.
    pub(super) fn arrive(&mut self) {
        let hand = if self.settings.jepsen { Hand::draw(&mut self.rng) } else { None };
        self.arrive_as(None, hand);
    }

    /// A new member of the group.
    pub(super) fn arrive_in_group(&mut self) {
        self.arrive_as(None, None);
    }

    /// Whoever reads everything from the start, so that nothing is unseen in the end.
    pub(super) fn arrive_for_final_polls(&mut self) {
        self.arrive_as(None, Some(Hand::WithoutGroup));
        let index = self.users.len() - 1;
        let user = &mut self.users[index];
        user.reads_all = true;
        user.hurry();
        if let Some(history) = &mut self.world.history {
            history.add(user.id.0, What::FinalPolls);
        }
        self.final_reader = Some(index);
    }

    fn arrive_as(&mut self, instance: Option<String>, hand: Option<Hand>) {
        let now = self.world.now();
        let base = self.world.config();
        let number = self.world.member_count();
        let (mut config, style, mut traits) = match hand {
            None => self.settings.member(base, &mut self.rng),
            Some(hand) => self.settings.by_hand(base, &mut self.rng, hand, number),
        };
        if self.producer.compresses() {
            traits.max_ledger += traits.readers * super::settings::MAX_DECODED;
            // Two of three are decoded ahead for.
            config.decode_threads = number % 3;
        }
        config.client_id = format!("m{number}");
        let classic = config.group.as_ref().is_some_and(|g| g.protocol == GroupProtocol::Classic);
        let dies = self.settings.is_mixed() && classic && hand.is_none();
        if let Some(group) = &mut config.group
            && hand.is_none()
        {
            group.group_instance_id.clone_from(&instance);
        }
        let patience =
            config.default_api_timeout + config.request_timeout + std::time::Duration::from_secs(1);
        let id = self.world.join(config);
        self.world.member(id).finished = Some(Vec::new());
        self.oracle.joined(now, traits);
        let topics = self.topics.clone();
        let mut user = User::new(id, (style, patience), self.rng.split(), topics, now);
        user.is_static = instance.is_some();
        user.dies = dies;
        if now >= super::HEALED_AT {
            user.hurry();
        }
        self.users.push(user);
    }

    /// A member whose client is over starts anew.
    pub(super) fn restart(&mut self, index: usize) {
        let user = &mut self.users[index];
        user.failed = false;
        self.restarts += 1;
        user.kill(&mut self.world, &mut self.oracle);
        self.arrive();
    }

    /// A member is gone without a word, and another one comes.
    pub(crate) fn kill_member(&mut self, rng: &mut Rng, again: bool) -> bool {
        let Some(index) = self.some_user(rng) else { return false };
        self.users[index].kill(&mut self.world, &mut self.oracle);
        if again {
            let at = self.world.now() + std::time::Duration::from_millis(rng.below(5_000));
            self.arrives_at(at);
        }
        true
    }

    /// Some leave, some come.
    pub(crate) fn churn(&mut self, rng: &mut Rng) -> bool {
        let alive = self.users.iter().filter(|u| !u.over).count() as u64;
        let changes = 1 + rng.below(alive.max(2));
        for _ in 0..changes {
            if rng.below(2) == 0 {
                if let Some(index) = self.some_user(rng) {
                    self.users[index].close(&mut self.world, &mut self.oracle);
                }
            } else if self.users.iter().filter(|u| !u.over).count() < 50 {
                self.arrive();
            }
        }
        true
    }

    /// Users want something else: some of the topics, or all of them again.
    pub(crate) fn resubscribe(&mut self, rng: &mut Rng) -> bool {
        let mut any = false;
        for user in self.users.iter_mut().filter(|u| u.may_change_its_mind()) {
            if rng.below(3) > 0 {
                user.changes_its_mind(&mut self.world, &mut self.oracle);
                any = true;
            }
        }
        any && self.topics.len() > 1
    }

    /// Some members are replaced by others, whichever protocol those speak.
    pub(crate) fn migrate(&mut self, rng: &mut Rng) -> bool {
        for _ in 0..1 + rng.below(3) {
            if self.users.iter().filter(|u| !u.over).count() > 1
                && let Some(index) = self.some_user(rng)
            {
                self.users[index].close(&mut self.world, &mut self.oracle);
            }
            self.arrive_in_group();
        }
        self.settings.is_mixed()
    }

    /// Somebody closes, and has no time for it. Another one comes.
    pub(crate) fn close_some(&mut self, rng: &mut Rng) -> bool {
        let Some(index) = self.some_user(rng).filter(|index| !self.users[*index].is_leaving()) else {
            return false;
        };
        let timeout = std::time::Duration::from_millis(rng.below(300));
        self.users[index].comes_again = true;
        self.users[index].close_within(&mut self.world, &mut self.oracle, timeout);
        true
    }

    /// A static member comes, or is killed and comes back under its name.
    pub(crate) fn static_bounce(&mut self) -> bool {
        let name = "s".to_owned();
        let before = self.static_user.replace(self.users.len());
        if let Some(index) = before {
            self.users[index].kill(&mut self.world, &mut self.oracle);
        }
        self.arrive_as(Some(name), None);
        if let (Some(before), Some(after)) = (before, self.users.last()) {
            self.oracle.replaced(self.users[before].id, after.id);
        }
        true
    }

    pub(super) fn arrives_at(&mut self, at: Timestamp) {
        self.arrivals.push(at);
        self.arrivals.sort_unstable_by_key(|at| std::cmp::Reverse(*at));
    }

    fn some_user(&self, rng: &mut Rng) -> Option<usize> {
        let alive: Vec<usize> = (0..self.users.len()).filter(|i| !self.users[*i].over).collect();
        alive.get(rng.below(alive.len() as u64) as usize).copied()
    }

    /// A user does nothing until then.
    pub(crate) fn freeze_user(&mut self, id: MemberId, until: Timestamp) {
        // A moment later than its client, which has to look at its clocks first.
        let until = until + std::time::Duration::from_millis(5);
        if let Some(user) = self.users.iter_mut().find(|u| u.id == id) {
            user.freeze(until);
        }
    }
}
