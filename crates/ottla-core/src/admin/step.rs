//! A step: one request to one broker, repeated until it is answered or the call's time is over.
//!
//! Where the broker is not known (*looking*) it is asked for first: Metadata names the controller, FindCoordinator
//! a group's coordinator. A test writes the table anew and compares; *later* is after a pause that grows:
//!
//! | state   | sent    | found | again          | moved          | failed         |
//! |---------|---------|-------|----------------|----------------|----------------|
//! | looking | finding | –     | –              | –              | –              |
//! | finding | –       | found | looking, later | looking, later | looking, later |
//! | found   | asked   | –     | –              | –              | looking, later |
//! | asked   | –       | –     | found, later   | looking, later | looking, later |
//!
//! *Failed* is a connection that ended, or could not be made. What any broker can be asked has nothing to look for:
//! it is *found* wherever the table says *looking*.

use ottla_wire::ErrorCode;

use super::codes::{self, Asked, Verdict};
use super::interface::{AdminAnswer, NewTopic};
use crate::{Backoff, BrokerId, Error, ErrorKind, Rng, Timestamp, TopicPartition};

/// What is asked, with the items that have no result yet.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    ListTopics,
    CreateTopics {
        topics: Vec<NewTopic>,
        validate_only: bool,
    },
    DeleteTopics(Vec<String>),
    /// Who is in the cluster: the groups of each are asked for next.
    ListBrokers,
    ListGroups(BrokerId),
    DescribeGroup {
        group: String,
        classic: bool,
    },
    DeleteGroup(String),
    ListGroupOffsets(String),
    AlterGroupOffsets {
        group: String,
        offsets: Vec<(TopicPartition, i64)>,
    },
    DeleteGroupOffsets {
        group: String,
        partitions: Vec<TopicPartition>,
    },
}

/// Who can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Anybody,
    Broker(BrokerId),
}

/// Who has to be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom<'a> {
    Controller,
    Coordinator(&'a str),
}

/// What is to be sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want<'a> {
    Find(Whom<'a>),
    Ask(Place),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Looking,
    Finding,
    Found(Place),
    Asked(Place),
}

#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) ask: Ask,
    state: State,
    backoff: Backoff,
    not_before: Timestamp,
    /// What stood in the way last.
    error: Option<Error>,
}

impl Ask {
    /// Who is asked, for the table of codes.
    pub(super) fn asked(&self) -> Asked {
        match self {
            Self::ListTopics | Self::ListBrokers => Asked::Anybody,
            Self::CreateTopics { .. } | Self::DeleteTopics(_) => Asked::Controller,
            Self::ListGroups(_)
            | Self::DescribeGroup { .. }
            | Self::DeleteGroup(_)
            | Self::ListGroupOffsets(_)
            | Self::DeleteGroupOffsets { .. } => Asked::Coordinator,
            Self::AlterGroupOffsets { .. } => Asked::Commit,
        }
    }

    fn whom(&self) -> Option<Whom<'_>> {
        match self {
            Self::ListTopics | Self::ListBrokers | Self::ListGroups(_) => None,
            Self::CreateTopics { .. } | Self::DeleteTopics(_) => Some(Whom::Controller),
            Self::DescribeGroup { group, .. }
            | Self::DeleteGroup(group)
            | Self::ListGroupOffsets(group)
            | Self::AlterGroupOffsets { group, .. }
            | Self::DeleteGroupOffsets { group, .. } => Some(Whom::Coordinator(group)),
        }
    }

    fn home(&self) -> State {
        match self {
            Self::ListTopics | Self::ListBrokers => State::Found(Place::Anybody),
            Self::ListGroups(broker) => State::Found(Place::Broker(*broker)),
            _ => State::Looking,
        }
    }

    /// Whether nothing is asked for.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::CreateTopics { topics, .. } => topics.is_empty(),
            Self::DeleteTopics(names) => names.is_empty(),
            Self::AlterGroupOffsets { offsets, .. } => offsets.is_empty(),
            Self::DeleteGroupOffsets { partitions, .. } => partitions.is_empty(),
            _ => false,
        }
    }

    /// What it is about, for errors.
    pub(super) fn what(&self) -> String {
        match self {
            Self::ListTopics => "the topics".to_owned(),
            Self::ListBrokers => "the brokers".to_owned(),
            Self::CreateTopics { .. } => "creating topics".to_owned(),
            Self::DeleteTopics(_) => "deleting topics".to_owned(),
            Self::ListGroups(broker) => format!("the groups of broker {broker}"),
            Self::DescribeGroup { group, .. } | Self::DeleteGroup(group) => format!("group {group:?}"),
            Self::ListGroupOffsets(group)
            | Self::AlterGroupOffsets { group, .. }
            | Self::DeleteGroupOffsets { group, .. } => format!("the offsets of group {group:?}"),
        }
    }

    /// Gives all items that have no result yet this one. The error comes back if the call as a whole has failed.
    pub(super) fn fail(self, error: Error, answer: &mut AdminAnswer) -> Option<Error> {
        match (self, answer) {
            (Self::CreateTopics { topics, .. }, AdminAnswer::CreatedTopics(results)) => {
                results.extend(topics.into_iter().map(|t| (t.name, Err(error.clone()))));
            }
            (Self::DeleteTopics(names), AdminAnswer::DeletedTopics(results)) => {
                results.extend(names.into_iter().map(|name| (name, Err(error.clone()))));
            }
            (Self::DescribeGroup { group, .. }, AdminAnswer::DescribedGroups(results)) => {
                results.push((group, Err(error)));
            }
            (Self::DeleteGroup(group), AdminAnswer::DeletedGroups(results)) => {
                results.push((group, Err(error)));
            }
            (Self::AlterGroupOffsets { offsets, .. }, AdminAnswer::AlteredOffsets(results)) => {
                let fail = |(tp, _): (TopicPartition, i64)| {
                    let error = error.clone().with_partition(tp.clone());
                    (tp, Err(error))
                };
                results.extend(offsets.into_iter().map(fail));
            }
            (Self::DeleteGroupOffsets { partitions, .. }, AdminAnswer::DeletedOffsets(results)) => {
                let fail = |tp: TopicPartition| {
                    let error = error.clone().with_partition(tp.clone());
                    (tp, Err(error))
                };
                results.extend(partitions.into_iter().map(fail));
            }
            _ => return Some(error),
        }
        None
    }
}

impl Step {
    pub(super) fn new(now: Timestamp, ask: Ask, backoff: Backoff) -> Self {
        Self { state: ask.home(), ask, backoff, not_before: now, error: None }
    }

    /// What is to be sent now, if anything is.
    pub(super) fn want(&self, now: Timestamp) -> Option<Want<'_>> {
        match self.state {
            _ if now < self.not_before => None,
            State::Looking => self.ask.whom().map(Want::Find),
            State::Found(place) => Some(Want::Ask(place)),
            State::Finding | State::Asked(_) => None,
        }
    }

    /// When it has something to send although it has not now.
    pub(super) fn next_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        let waits = matches!(self.state, State::Looking | State::Found(_));
        Some(self.not_before).filter(|at| waits && *at > now)
    }

    pub(super) fn sent(&mut self) {
        self.state = match self.state {
            State::Looking => State::Finding,
            State::Found(place) => State::Asked(place),
            state => state,
        };
    }

    pub(super) fn is_finding(&self) -> bool {
        self.state == State::Finding
    }

    /// The broker that is being asked.
    pub(super) fn broker(&self) -> Option<BrokerId> {
        match self.state {
            State::Found(Place::Broker(broker)) | State::Asked(Place::Broker(broker)) => Some(broker),
            _ => None,
        }
    }

    pub(super) fn found(&mut self, broker: BrokerId) {
        if self.state == State::Finding {
            self.state = State::Found(Place::Broker(broker));
        }
    }

    /// The answer was none, and the same broker may have one later.
    pub(super) fn again(&mut self, now: Timestamp, error: Error, rng: &mut Rng) {
        match self.state {
            State::Asked(place) => {
                self.state = State::Found(place);
                self.pause(now, error, rng);
            }
            State::Finding => self.moved(now, error, rng),
            State::Looking | State::Found(_) => {}
        }
    }

    /// Another broker has to be asked.
    pub(super) fn moved(&mut self, now: Timestamp, error: Error, rng: &mut Rng) {
        if matches!(self.state, State::Finding | State::Asked(_)) {
            self.state = self.ask.home();
            self.pause(now, error, rng);
        }
    }

    /// The connection has ended, or could not be made.
    pub(super) fn failed(&mut self, now: Timestamp, error: Error, rng: &mut Rng) {
        if self.state != State::Looking {
            self.state = self.ask.home();
            self.pause(now, error, rng);
        }
    }

    /// A broker cannot be connected to: if it was about to be asked, it is looked for anew.
    pub(super) fn unreachable(&mut self, now: Timestamp, broker: BrokerId, error: &Error, rng: &mut Rng) {
        if self.state == State::Found(Place::Broker(broker)) {
            self.failed(now, error.clone(), rng);
        }
    }

    /// The group is not one of the consumer protocol: the same broker is asked for a classic one.
    pub(super) fn ask_classic(&mut self) {
        if let (Ask::DescribeGroup { classic, .. }, State::Asked(place)) = (&mut self.ask, self.state) {
            *classic = true;
            self.state = State::Found(place);
        }
    }

    /// Begins anew with the question who is in the cluster; the pause stays.
    pub(super) fn ask_brokers(&mut self) {
        self.ask = Ask::ListBrokers;
        self.state = self.ask.home();
    }

    pub(super) fn into_backoff(self) -> Backoff {
        self.backoff
    }

    fn pause(&mut self, now: Timestamp, error: Error, rng: &mut Rng) {
        tracing::debug!(what = self.ask.what(), %error, "asking again");
        self.not_before = now + self.backoff.next(rng);
        self.error = Some(error);
    }

    /// What is said when the call's time is over. `before`: why no broker at all was reached, if so.
    pub(super) fn late(&self, before: Option<&Error>) -> Error {
        let what = self.ask.what();
        let in_the_way = self.error.as_ref().or(before);
        let text = match (self.state, in_the_way) {
            (_, Some(error)) => format!("{what}: not done in time: {error}"),
            (State::Asked(Place::Broker(broker)) | State::Found(Place::Broker(broker)), None) => {
                format!("{what}: broker {broker} has not answered in time")
            }
            (_, None) => format!("{what}: no broker has answered in time"),
        };
        let error =
            Error::new(ErrorKind::Transport, format!("{text}; default_api_timeout says how long to wait"));
        match in_the_way {
            Some(cause) => {
                let error = error.with_source(cause.clone());
                match cause.code() {
                    Some(code) => error.with_code(code).with_retriable(true),
                    None => error,
                }
            }
            None => error,
        }
    }
}

/// What an answer says of a step as a whole, item by item.
#[derive(Debug, Default)]
pub(super) struct Reading {
    again: Option<Error>,
    moved: Option<Error>,
}

impl Reading {
    /// Judges the code of one item: `None`, it has to be asked for again.
    pub(super) fn judge(
        &mut self,
        asked: Asked,
        what: &str,
        code: i16,
        message: Option<&str>,
    ) -> Option<Result<(), Error>> {
        let code = ErrorCode::from_i16(code);
        match codes::judge(asked, code) {
            Verdict::Done => return Some(Ok(())),
            Verdict::Told(code) => return Some(Err(codes::refused(what, code, message))),
            Verdict::Again => self.again = Some(codes::refused(what, code, message)),
            Verdict::Moved => self.moved = Some(codes::refused(what, code, message)),
        }
        None
    }

    /// An item that was asked for is not in the answer.
    pub(super) fn missing(&mut self, what: &str) {
        let text = format!("{what}: the broker's answer leaves it out");
        self.again.get_or_insert_with(|| Error::new(ErrorKind::BrokerMisbehaved, text));
    }

    /// Tells the step what follows; true if it is done.
    pub(super) fn conclude(self, now: Timestamp, step: &mut Step, rng: &mut Rng) -> bool {
        match (self.moved, self.again) {
            (Some(error), _) => step.moved(now, error, rng),
            (None, Some(error)) => step.again(now, error, rng),
            (None, None) => return true,
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::table::{assert_documented, transitions};

    const NOW: Timestamp = Timestamp::from_millis(1);

    fn step(ask: Ask) -> Step {
        Step::new(NOW, ask, Backoff::new(Duration::from_secs(1), Duration::from_secs(9)))
    }

    fn name(step: &Step) -> &'static str {
        match step.state {
            State::Looking => "looking",
            State::Finding => "finding",
            State::Found(_) => "found",
            State::Asked(_) => "asked",
        }
    }

    #[test]
    fn the_transition_table_is_what_the_code_does() {
        let states = ["looking", "finding", "found", "asked"];
        let events = ["sent", "found", "again", "moved", "failed"];
        let table = transitions(&states, &events, |state, event| {
            let mut step = step(Ask::DeleteGroup("g".to_owned()));
            let way = [|s: &mut Step| s.sent(), |s: &mut Step| s.found(BrokerId(7)), |s: &mut Step| s.sent()];
            way.iter().take(state).for_each(|go| go(&mut step));
            assert_eq!(name(&step), states[state]);
            let mut rng = Rng::new(1);
            let error = || Error::new(ErrorKind::Transport, "x");
            match events[event] {
                "sent" => step.sent(),
                "found" => step.found(BrokerId(8)),
                "again" => step.again(NOW, error(), &mut rng),
                "moved" => step.moved(NOW, error(), &mut rng),
                _ => step.failed(NOW, error(), &mut rng),
            }
            match (name(&step), step.not_before > NOW) {
                (same, false) if same == states[state] => "–".to_owned(),
                (other, false) => other.to_owned(),
                (other, true) => format!("{other}, later"),
            }
        });
        assert_documented(include_str!("step.rs"), &table);
    }

    #[test]
    fn what_anybody_can_be_asked_has_nothing_to_look_for() {
        let mut step = step(Ask::ListTopics);
        assert_eq!(step.want(NOW), Some(Want::Ask(Place::Anybody)));
        step.sent();
        assert_eq!(step.want(NOW), None);
        step.failed(NOW, Error::new(ErrorKind::Transport, "gone"), &mut Rng::new(1));
        assert_eq!(step.want(NOW), None, "after a pause");
        assert_eq!(step.want(NOW + Duration::from_secs(2)), Some(Want::Ask(Place::Anybody)));
    }

    #[test]
    fn an_unreachable_broker_is_looked_for_anew_unless_its_answer_is_waited_for() {
        let mut rng = Rng::new(1);
        let error = Error::new(ErrorKind::Transport, "refused");
        let mut step = step(Ask::DeleteGroup("g".to_owned()));
        step.sent();
        step.found(BrokerId(7));
        step.unreachable(NOW, BrokerId(8), &error, &mut rng);
        assert_eq!(name(&step), "found");
        step.unreachable(NOW, BrokerId(7), &error, &mut rng);
        assert_eq!(name(&step), "looking");
        let late = step.late(None);
        assert!(late.to_string().contains("group \"g\": not done in time: transport: refused"), "{late}");
        assert!(late.is_retriable());
    }
}
