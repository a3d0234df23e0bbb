//! Incremental fetch sessions (KIP-227): what the broker remembers of our last request to it.

use std::collections::BTreeMap;

use ottla_wire::ErrorCode;

use crate::planted::planted;
use crate::{LeaderEpoch, OwnershipEpoch, TopicId, TopicPartition};

/// What a session holds for one partition: only a difference is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) topic_id: Option<TopicId>,
    /// For whom: an answer belongs to that ownership and to no other.
    pub(super) ownership: OwnershipEpoch,
    pub(super) offset: i64,
    pub(super) leader_epoch: Option<LeaderEpoch>,
    pub(super) last_epoch: Option<LeaderEpoch>,
    pub(super) from_leader: bool,
    pub(super) max_bytes: i32,
}

/// The session with one broker. A test writes the table anew and compares.
///
/// | state       | sent as | with        | answer: 7   | answer: 8   | answer: 0 | error 70 | 71, 106, other error | no answer |
/// |-------------|---------|-------------|-------------|-------------|-----------|----------|----------------------|-----------|
/// | none        | (0, 0)  | everything  | open 7 at 1 | open 8 at 1 | none      | none     | none                 | none      |
/// | open 7 at 3 | (7, 3)  | differences | open 7 at 4 | replace 7   | none      | none     | replace 7            | replace 7 |
/// | replace 7   | (7, 0)  | everything  | open 7 at 1 | open 8 at 1 | none      | none     | replace 7            | replace 7 |
#[derive(Debug, Default)]
pub(super) struct Session {
    id: i32,
    epoch: i32,
    /// What the broker holds, as of the last request that it answered or is answering.
    held: BTreeMap<TopicPartition, Wanted>,
    /// Whether requests name topics by id; a session may not mix.
    by_id: bool,
}

/// One request's view of the session.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) session_id: i32,
    pub(super) session_epoch: i32,
    /// What to send, in the order of `wanted`.
    pub(super) send: Vec<(TopicPartition, Wanted)>,
    pub(super) forget: Vec<(TopicPartition, Option<TopicId>)>,
}

impl Session {
    /// What to send so that the broker holds `wanted`.
    pub(super) fn plan(&mut self, wanted: Vec<(TopicPartition, Wanted)>) -> Plan {
        let by_id = wanted.iter().all(|(_, w)| w.topic_id.is_some());
        if by_id != self.by_id {
            self.replace();
            self.by_id = by_id;
        }
        if self.epoch == 0 {
            self.held = wanted.iter().cloned().collect();
            return Plan { session_id: self.id, session_epoch: 0, send: wanted, forget: Vec::new() };
        }
        let mut before = std::mem::take(&mut self.held);
        let mut send = Vec::new();
        let mut forget = Vec::new();
        for (tp, want) in wanted {
            match before.remove(&tp) {
                Some(held) if held == want => {}
                Some(held) if held.topic_id != want.topic_id => {
                    // Made anew under the same name: the broker knows it by the old id.
                    forget.push((tp.clone(), held.topic_id));
                    send.push((tp.clone(), want));
                }
                _ => send.push((tp.clone(), want)),
            }
            self.held.insert(tp, want);
        }
        forget.extend(before.into_iter().map(|(tp, held)| (tp, held.topic_id)));
        Plan { session_id: self.id, session_epoch: self.epoch, send, forget }
    }

    /// What to send so that the broker holds `wanted` instead of what it held of these partitions, and none of
    /// `gone`. `None`: that takes a new session, so everything has to be said.
    pub(super) fn change(
        &mut self,
        wanted: Vec<(TopicPartition, Wanted)>,
        gone: Vec<TopicPartition>,
    ) -> Option<Plan> {
        if self.epoch == 0 || (self.by_id && wanted.iter().any(|(_, w)| w.topic_id.is_none())) {
            self.replace();
            return None;
        }
        let mut send = Vec::new();
        let mut forget: Vec<_> =
            gone.into_iter().filter_map(|tp| self.held.remove(&tp).map(|held| (tp, held.topic_id))).collect();
        for (tp, want) in wanted {
            let held = self.held.insert(tp.clone(), want);
            match held {
                Some(held) if held == want => continue,
                Some(held) if held.topic_id != want.topic_id => forget.push((tp.clone(), held.topic_id)),
                _ => {}
            }
            send.push((tp, want));
        }
        Some(Plan { session_id: self.id, session_epoch: self.epoch, send, forget })
    }

    /// Whether the next request carries differences only.
    pub(super) fn is_open(&self) -> bool {
        self.epoch > 0
    }

    /// How many partitions the broker holds.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// What was asked for, for the time in which an answer is looked at; [`put_back`](Self::put_back) follows.
    pub(super) fn take(&mut self) -> BTreeMap<TopicPartition, Wanted> {
        std::mem::take(&mut self.held)
    }

    /// Unless the answer ended the session.
    pub(super) fn put_back(&mut self, held: BTreeMap<TopicPartition, Wanted>) {
        if self.epoch > 0 {
            self.held = held;
        }
    }

    /// Whether the broker holds this partition.
    pub(super) fn holds(&self, tp: &TopicPartition) -> bool {
        self.held.contains_key(tp)
    }

    /// Whether topics go by id.
    pub(super) fn by_id(&self) -> bool {
        self.by_id
    }

    /// The request was answered.
    pub(super) fn answered(&mut self, error: ErrorCode, session_id: i32) {
        match error {
            _ if error != ErrorCode::None && planted!(SessionErrorIgnored) => {}
            ErrorCode::None if session_id == 0 => self.forget(),
            ErrorCode::None if self.epoch == 0 => {
                self.id = session_id;
                self.epoch = 1;
            }
            ErrorCode::None if session_id == self.id && planted!(SessionIgnoresEpoch) => {}
            ErrorCode::None if session_id == self.id => {
                self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
            }
            ErrorCode::FetchSessionIdNotFound => self.forget(),
            // The broker and we disagree: what it holds is not what we think.
            _ => self.replace(),
        }
    }

    /// Begin anew, and have the broker close what it still holds.
    pub(super) fn replace(&mut self) {
        self.epoch = 0;
        self.held.clear();
    }

    fn forget(&mut self) {
        self.id = 0;
        self.epoch = 0;
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{assert_documented, transitions};

    fn tp(p: i32) -> TopicPartition {
        TopicPartition::new("t", p)
    }

    fn at(p: i32, offset: i64) -> (TopicPartition, Wanted) {
        let topic_id = Some(TopicId::ZERO);
        let (leader_epoch, last_epoch) = (None, None);
        let ownership = OwnershipEpoch(1);
        (
            tp(p),
            Wanted { topic_id, ownership, offset, leader_epoch, last_epoch, from_leader: true, max_bytes: 1 },
        )
    }

    fn open() -> Session {
        let mut session = Session::default();
        session.plan(vec![at(0, 0), at(1, 0), at(2, 0)]);
        session.answered(ErrorCode::None, 7);
        session
    }

    #[test]
    fn kip_227_the_first_request_is_full_and_asks_for_a_session() {
        let plan = Session::default().plan(vec![at(0, 5)]);
        assert_eq!(plan, Plan { session_id: 0, session_epoch: 0, send: vec![at(0, 5)], forget: vec![] });
    }

    #[test]
    fn kip_227_an_incremental_request_carries_only_what_changed_and_what_is_gone() {
        let mut session = open();
        let plan = session.plan(vec![at(0, 0), at(1, 9), at(3, 0)]);
        assert_eq!((plan.session_id, plan.session_epoch), (7, 1));
        assert_eq!(plan.send, vec![at(1, 9), at(3, 0)]);
        assert_eq!(plan.forget, vec![(tp(2), Some(TopicId::ZERO))]);
        session.answered(ErrorCode::None, 7);
        let plan = session.plan(vec![at(0, 0), at(1, 9), at(3, 0)]);
        assert_eq!((plan.session_epoch, plan.send.len(), plan.forget.len()), (2, 0, 0));
    }

    #[test]
    fn kip_227_differences_are_told_without_looking_at_the_rest() {
        let mut session = open();
        let plan = session.change(vec![at(0, 0), at(1, 9), at(3, 0)], vec![tp(2), tp(7)]).unwrap();
        assert_eq!((plan.session_id, plan.session_epoch), (7, 1));
        assert_eq!((plan.send, plan.forget), (vec![at(1, 9), at(3, 0)], vec![(tp(2), Some(TopicId::ZERO))]));
        session.answered(ErrorCode::None, 7);
        // The same as if everything had been said.
        let plan = session.plan(vec![at(0, 0), at(1, 9), at(3, 0)]);
        assert_eq!((plan.session_epoch, plan.send, plan.forget), (2, vec![], vec![]));
    }

    #[test]
    fn kip_227_without_an_open_session_everything_has_to_be_said() {
        assert_eq!(Session::default().change(vec![at(0, 0)], vec![]), None);
        let mut session = open();
        session.replace();
        assert_eq!(session.change(vec![at(0, 0)], vec![]), None);
        let mut session = open();
        let mut want = at(1, 9);
        want.1.topic_id = None;
        assert_eq!(session.change(vec![want], vec![]), None, "names for the whole session");
        assert!(!session.is_open());
    }

    #[test]
    fn kip_516_a_topic_made_anew_is_forgotten_by_a_difference_too() {
        let mut session = open();
        let mut want = at(0, 0);
        want.1.topic_id = Some(TopicId([9; 16]));
        let plan = session.change(vec![want.clone()], vec![]).unwrap();
        assert_eq!((plan.forget, plan.send), (vec![(tp(0), Some(TopicId::ZERO))], vec![want]));
    }

    #[test]
    fn kip_227_an_unknown_session_is_begun_anew_and_a_wrong_epoch_replaces_it() {
        let mut session = open();
        session.answered(ErrorCode::FetchSessionIdNotFound, 0);
        let plan = session.plan(vec![at(0, 0)]);
        assert_eq!((plan.session_id, plan.session_epoch, plan.send.len()), (0, 0, 1));

        let mut session = open();
        session.answered(ErrorCode::InvalidFetchSessionEpoch, 0);
        let plan = session.plan(vec![at(0, 0)]);
        assert_eq!((plan.session_id, plan.session_epoch, plan.send.len()), (7, 0, 1));
    }

    #[test]
    fn kip_227_a_broker_without_room_for_a_session_gets_full_requests() {
        let mut session = Session::default();
        session.plan(vec![at(0, 0)]);
        session.answered(ErrorCode::None, 0);
        let plan = session.plan(vec![at(0, 0)]);
        assert_eq!((plan.session_id, plan.session_epoch, plan.send.len()), (0, 0, 1));
    }

    #[test]
    fn kip_227_an_answer_with_another_session_id_is_not_believed() {
        let mut session = open();
        session.plan(vec![at(0, 0)]);
        session.answered(ErrorCode::None, 8);
        let plan = session.plan(vec![at(0, 0)]);
        assert_eq!((plan.session_id, plan.session_epoch, plan.send.len()), (7, 0, 1));
    }

    #[test]
    fn kip_227_the_epoch_wraps_to_one() {
        let mut session = open();
        session.epoch = i32::MAX;
        session.answered(ErrorCode::None, 7);
        assert_eq!(session.epoch, 1);
    }

    #[test]
    fn kip_516_a_topic_made_anew_is_forgotten_under_its_old_id() {
        let mut session = open();
        let new = TopicId([9; 16]);
        let mut want = at(0, 0);
        want.1.topic_id = Some(new);
        let plan = session.plan(vec![want.clone(), at(1, 0), at(2, 0)]);
        assert_eq!(plan.forget, vec![(tp(0), Some(TopicId::ZERO))]);
        assert_eq!(plan.send, vec![want]);
    }

    #[test]
    fn kip_516_a_partition_without_id_moves_the_whole_session_to_names() {
        let mut session = open();
        let mut want = at(0, 0);
        want.1.topic_id = None;
        let plan = session.plan(vec![want, at(1, 0)]);
        assert_eq!((plan.session_id, plan.session_epoch, plan.send.len()), (7, 0, 2));
        assert!(!session.by_id());
    }

    #[test]
    fn the_transition_table_is_what_the_code_does() {
        let states = ["none", "open 7 at 3", "replace 7"];
        let in_state = |name: &str| match name {
            "none" => Session::default(),
            "replace 7" => {
                let mut session = open();
                session.replace();
                session
            }
            _ => {
                let mut session = open();
                session.epoch = 3;
                session
            }
        };
        let named = |session: &Session| match (session.id, session.epoch) {
            (0, 0) => "none".to_owned(),
            (id, 0) => format!("replace {id}"),
            (id, epoch) => format!("open {id} at {epoch}"),
        };
        let events = [
            "sent as",
            "with",
            "answer: 7",
            "answer: 8",
            "answer: 0",
            "error 70",
            "71, 106, other error",
            "no answer",
        ];
        let table = transitions(&states, &events, |state, event| {
            let mut session = in_state(states[state]);
            let plan = session.plan(vec![at(0, 0), at(1, 0), at(2, 9)]);
            match events[event] {
                "sent as" => return format!("({}, {})", plan.session_id, plan.session_epoch),
                "with" => {
                    return if plan.send.len() == 3 { "everything" } else { "differences" }.to_owned();
                }
                "answer: 7" => session.answered(ErrorCode::None, 7),
                "answer: 8" => session.answered(ErrorCode::None, 8),
                "answer: 0" => session.answered(ErrorCode::None, 0),
                "error 70" => session.answered(ErrorCode::FetchSessionIdNotFound, 0),
                "no answer" => session.replace(),
                _ => {
                    let codes = [
                        ErrorCode::InvalidFetchSessionEpoch,
                        ErrorCode::FetchSessionTopicIdError,
                        ErrorCode::UnknownServerError,
                    ];
                    let mut outcomes = codes.map(|code| {
                        let mut session = in_state(states[state]);
                        session.plan(vec![at(0, 0)]);
                        session.answered(code, 0);
                        named(&session)
                    });
                    assert!(outcomes.iter().all(|o| *o == outcomes[0]), "{outcomes:?}");
                    return std::mem::take(&mut outcomes[0]);
                }
            }
            named(&session)
        });
        assert_documented(include_str!("session.rs"), &table);
    }
}
