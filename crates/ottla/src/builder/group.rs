//! The settings of a group's member.

use std::time::Duration;

use ottla_core::assignor::{Assignor, OwnAssignor, PartitionAssignor};
use ottla_core::config::GroupProtocol;

use super::Builder;

impl Builder {
    /// Joins the group `group_id`: its members share the partitions of what they subscribe to.
    ///
    /// Default: none. Without a group, read with [`Consumer::assign`](crate::Consumer::assign). With a group and
    /// `assign`, the group only keeps committed offsets.
    #[doc(alias = "group.id")]
    pub fn group(mut self, group_id: impl Into<String>) -> Self {
        self.group_id = Some(group_id.into());
        self
    }

    /// Which protocol the members of the group speak.
    ///
    /// Default: [`GroupProtocol::Auto`]: the consumer protocol (KIP-848, Kafka 4.0 and later) where the brokers have it on
    /// (the feature `group.version`), and the classic one elsewhere, and where a setting is given that only that one
    /// has: [`session_timeout`](Self::session_timeout), [`heartbeat_interval`](Self::heartbeat_interval),
    /// [`assignors`](Self::assignors) or [`partition_assignor`](Self::partition_assignor). It is decided at the first
    /// join and kept until the consumer is closed; which and why is logged once. With
    /// [`from_properties`](Self::from_properties) it is the classic one unless the file says otherwise.
    ///
    /// With [`GroupProtocol::Consumer`] the coordinator assigns: a rebalance stops nobody who keeps what it has, and one
    /// member that is slow delays only what it holds. Session timeout, heartbeat interval and assignors are then the
    /// brokers' (`group.consumer.*`), and setting them here is an error;
    /// [`group_remote_assignor`](Self::group_remote_assignor) chooses among the brokers' assignors.
    ///
    /// A group may hold members of both protocols, other clients' too, where brokers migrate it online
    /// (`group.consumer.migration.policy`, on by default). The first member of the consumer protocol that joins a
    /// classic group **makes it a consumer group**: the classic members stay in it and keep what the coordinator leaves
    /// them, but it is the brokers' assignor that shares out from then on, whatever the members' own. When the last
    /// member of the consumer protocol has gone, it is a classic group again (not with the policy `upgrade`).
    /// Committed offsets survive any change. Where a group must stay classic, set [`GroupProtocol::Classic`]; where the
    /// brokers refuse the change, `Auto` joins as a classic member.
    ///
    /// # Examples
    ///
    /// ```
    /// use ottla::{Consumer, GroupProtocol};
    ///
    /// let builder = Consumer::builder("localhost:9092").group("billing").group_protocol(GroupProtocol::Consumer);
    /// builder.validate()?;
    /// // The brokers decide how long a session is.
    /// let error = builder.session_timeout(std::time::Duration::from_secs(10)).validate().unwrap_err();
    /// assert!(error.to_string().contains("group.consumer.session.timeout.ms"));
    /// # Ok::<(), ottla::ConfigError>(())
    /// ```
    #[doc(alias = "group.protocol")]
    pub fn group_protocol(mut self, protocol: GroupProtocol) -> Self {
        self.group_settings.push("group_protocol");
        self.group.protocol = protocol;
        self
    }

    /// The assignor that the brokers use for the group, under the [consumer protocol](Self::group_protocol).
    ///
    /// Default: none, which is the brokers' first one: `uniform`, unless they are configured otherwise
    /// (`group.consumer.assignors`). `range` gives the same partitions of several topics to the same member. Of what
    /// the members ask for the most frequent counts; a name that the brokers do not have is a fatal error.
    #[doc(alias = "group.remote.assignor")]
    pub fn group_remote_assignor(mut self, assignor: impl Into<String>) -> Self {
        self.group_settings.push("group_remote_assignor");
        self.group.remote_assignor = Some(assignor.into());
        self
    }

    /// Subscribes to these topics at the start; needs a [`group`](Self::group).
    ///
    /// Replaces what an earlier call said. A topic that does not exist is waited for. Partitions that appear
    /// later begin at their oldest record.
    pub fn subscribe<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.subscription = topics.into_iter().map(Into::into).collect();
        self.pattern = None;
        self
    }

    /// Subscribes at the start to all topics whose whole name matches `pattern`, those that are created later too;
    /// needs a [`group`](Self::group).
    ///
    /// Replaces what an earlier call, or [`subscribe`](Self::subscribe), said. The syntax is that of RE2: no lookaround
    /// and no backreferences. With the classic protocol the consumer looks for topics whenever it asks for metadata
    /// ([`metadata_max_age`](Self::metadata_max_age)), in those that it may describe; internal ones are
    /// [left out](Self::exclude_internal_topics). With the consumer protocol (KIP-848) the brokers do. Topics that come
    /// later are read from their oldest record; what is deleted is given back.
    ///
    /// # Examples
    ///
    /// ```
    /// use ottla::Consumer;
    ///
    /// Consumer::builder("localhost:9092").group("audit").subscribe_pattern(r"orders(-.+)?").validate()?;
    /// let error = Consumer::builder("localhost:9092").group("audit").subscribe_pattern("orders(").validate();
    /// assert!(error.unwrap_err().to_string().contains("no regular expression"));
    /// # Ok::<(), ottla::ConfigError>(())
    /// ```
    #[doc(alias = "SubscriptionPattern")]
    pub fn subscribe_pattern(mut self, pattern: impl Into<String>) -> Self {
        self.subscription.clear();
        self.pattern = Some(pattern.into());
        self
    }

    /// Whether [patterns](Self::subscribe_pattern) leave out the topics that brokers call internal, such as
    /// `__consumer_offsets`.
    ///
    /// Default: `true`, as in Java. Under the consumer protocol the brokers decide.
    #[doc(alias = "exclude.internal.topics")]
    pub fn exclude_internal_topics(mut self, exclude: bool) -> Self {
        self.config.exclude_internal_topics = exclude;
        self
    }

    /// Makes this a static member (KIP-345): restarted within the session timeout it takes up its partitions
    /// again, without a rebalance.
    ///
    /// Default: none. Each member needs an id of its own; a second one with the same id fences the first
    /// (under the consumer protocol it is refused).
    /// It costs detection: a static member that is gone for good holds its partitions for a whole session.
    #[doc(alias = "group.instance.id")]
    pub fn group_instance_id(mut self, id: impl Into<String>) -> Self {
        self.group_settings.push("group_instance_id");
        self.group.group_instance_id = Some(id.into());
        self
    }

    /// Without a heartbeat for this long the coordinator takes the member for dead. Classic
    /// [protocol](Self::group_protocol) only.
    ///
    /// Default: 45 seconds. Must lie within what brokers allow (6 seconds to 30 minutes, unless changed there).
    /// Shorter finds a dead process sooner, and a pause of a live one (a stopped virtual machine) costs a
    /// rebalance. A handler that blocks needs no longer one: heartbeats come from the driver's thread.
    #[doc(alias = "session.timeout.ms")]
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.group_settings.push("session_timeout");
        self.group.session_timeout = timeout;
        self
    }

    /// How often a heartbeat is sent, and with it how soon a rebalance is noticed. Classic
    /// [protocol](Self::group_protocol) only.
    ///
    /// Default: 3 seconds. At most a third of the session timeout, so that two may be lost. Costs one small
    /// request each.
    #[doc(alias = "heartbeat.interval.ms")]
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.group_settings.push("heartbeat_interval");
        self.group.heartbeat_interval = interval;
        self
    }

    /// How long the group waits for each member to rejoin once a rebalance began.
    ///
    /// Default: the [`max_poll_interval`](Self::max_poll_interval), or 5 minutes without one. It bounds how long
    /// a revocation may wait for work in hand, and how long one slow member holds up the group.
    #[doc(alias = "rebalance.timeout.ms")]
    pub fn rebalance_timeout(mut self, timeout: Duration) -> Self {
        self.group_settings.push("rebalance_timeout");
        self.rebalance_timeout = Some(timeout);
        self
    }

    /// How long the reader may stay away while something is there for it; `None` for ever.
    ///
    /// Default: 5 minutes, as in Java. After that the partitions are lost and the member leaves, so that others
    /// go on. The clock runs while data or an event is available and not taken, or something is handed out and
    /// the reader has not come back; it stands while nothing is available.
    #[doc(alias = "max.poll.interval.ms")]
    pub fn max_poll_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.group_settings.push("max_poll_interval");
        self.group.max_poll_interval = interval.into();
        self
    }

    /// How long a revocation waits for work in hand.
    ///
    /// Default: 60 seconds, and never longer than the rebalance timeout allows. Past it the partitions are lost:
    /// what was in hand is handed out again by their next owner.
    pub fn revoke_timeout(mut self, timeout: Duration) -> Self {
        self.group_settings.push("revoke_timeout");
        self.group.revoke_timeout = timeout;
        self
    }

    /// How the group shares partitions, in order of preference. Classic [protocol](Self::group_protocol) only.
    ///
    /// Default: cooperative-sticky alone: during a rebalance the partitions that stay go on being read. All
    /// members need one in common. A list that holds an eager one makes the member eager, as in Java.
    #[doc(alias = "partition.assignment.strategy")]
    pub fn assignors(mut self, assignors: impl IntoIterator<Item = Assignor>) -> Self {
        self.group_settings.push("assignors");
        self.group.assignors = assignors.into_iter().collect();
        self
    }

    /// Shares the group's partitions by an assignor of your own. Classic [protocol](Self::group_protocol) only.
    ///
    /// Default: none. It is preferred to those of [`assignors`](Self::assignors), and several are in the order of the
    /// calls; with `assignors([])` only your own are offered, so that nobody joins who does not have it. All members
    /// need one in common; the leader runs it. What it returns is checked: an error of it, a panic, or an assignment that
    /// cannot be is a fatal error of the leader's reads, of kind [`ApiMisuse`](crate::ErrorKind::ApiMisuse), and the
    /// leader leaves the group at once.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use std::error::Error;
    ///
    /// use ottla::{ClusterTopics, Consumer, GroupMember, PartitionAssignor};
    ///
    /// /// Everything to one member; the others stand by.
    /// struct OneReads;
    ///
    /// impl PartitionAssignor for OneReads {
    ///     fn name(&self) -> &str {
    ///         "one-reads"
    ///     }
    ///
    ///     fn assign(
    ///         &self,
    ///         members: &[GroupMember],
    ///         topics: &ClusterTopics,
    ///     ) -> Result<BTreeMap<String, Vec<(String, Vec<i32>)>>, Box<dyn Error + Send + Sync>> {
    ///         let one = members.iter().min_by_key(|m| &m.member_id).ok_or("nobody is there")?;
    ///         let all = |name: &String| Some((name.clone(), (0..topics.get(name)?.partitions.len() as i32).collect()));
    ///         Ok([(one.member_id.clone(), one.topics.iter().filter_map(all).collect())].into())
    ///     }
    /// }
    ///
    /// Consumer::builder("localhost:9092").group("billing").partition_assignor(OneReads).validate()?;
    /// # Ok::<(), ottla::ConfigError>(())
    /// ```
    #[doc(alias = "ConsumerPartitionAssignor")]
    pub fn partition_assignor(mut self, assignor: impl PartitionAssignor) -> Self {
        self.group_settings.push("assignors");
        self.group.own_assignors.push(OwnAssignor::new(assignor));
        self
    }

    /// Whether a static member leaves the group on close too.
    ///
    /// Default: `false`: it is expected back within the session timeout. Members without a
    /// [`group_instance_id`](Self::group_instance_id) always leave.
    #[doc(alias = "internal.leave.group.on.close")]
    pub fn leave_on_close(mut self, leave: bool) -> Self {
        self.group_settings.push("leave_on_close");
        self.group.leave_on_close = leave;
        self
    }
}
