//! The administrator: topics, groups, and the offsets of groups.

mod builder;

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_core::admin::{
    AdminAnswer, AdminCall, CreatedTopic, GroupDescription, GroupListing, Items, NewTopic, TopicListing,
};
use ottla_core::client::{Command, CommittedOffset, Offset, Outcome};
use ottla_core::{Error, TopicPartition};

use crate::link::{Link, unexpected};

pub use builder::AdminBuilder;

/// What becomes of each item of a call.
pub type Results<K, V> = BTreeMap<K, Result<V, Error>>;

/// Looks at topics and groups and changes them: what tests and tools of a consumer's user need.
///
/// Cheap to clone; every method takes `&self`, and calls may run side by side. It has connections and a driver of its
/// own, apart from those of any consumer, and ends when its last clone is dropped, without blocking.
///
/// # Errors
///
/// A call over several items has a result for each of them, with the broker's [`code`](Error::code) in its error. What
/// may pass is tried again inside (a controller or coordinator that moved, one that is loading, a connection that
/// broke), until [`default_api_timeout`](AdminBuilder::default_api_timeout) is over; then the error is of kind
/// [`Transport`](crate::ErrorKind::Transport), [retriable](Error::is_retriable), and says what stood in the way.
/// An answer that was lost may have been one of success: a topic can be told to exist already because this very call
/// has created it.
///
/// # Cancel safety
///
/// Every future may be dropped. Polled once, the call is carried out; only its answer is lost.
///
/// # Examples
///
/// ```
/// use ottla::{Admin, NewTopic};
///
/// # use ottla_broker::Broker;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let broker = Broker::builder().start().await?;
/// let admin = Admin::builder(broker.bootstrap()).connect().await?; // "localhost:9092"
/// let created = admin.create_topics([NewTopic::new("orders").num_partitions(6)]).await?;
/// assert!(created["orders"].is_ok());
/// assert_eq!(admin.list_topics().await?["orders"].partitions, 6);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "AdminClient")]
pub struct Admin(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    link: Link,
}

impl Drop for Inner {
    /// Never blocks: the driver sees the end and closes its connections.
    fn drop(&mut self) {
        self.link.delivery.lock().reader_gone();
    }
}

impl Admin {
    /// Begins the configuration with bootstrap addresses: `host:port`, several with commas.
    pub fn builder(bootstrap: impl Into<String>) -> AdminBuilder {
        AdminBuilder::new(bootstrap)
    }

    async fn ask(&self, call: AdminCall) -> Result<AdminAnswer, Error> {
        match self.0.link.ask(Command::Admin(call)).await? {
            Outcome::Admin(answer) => Ok(answer),
            Outcome::Failed(error) => Err(error),
            other => Err(unexpected(&other)),
        }
    }

    /// All topics that may be described, by name, the cluster's own among them.
    ///
    /// # Errors
    ///
    /// See [`Admin`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::Admin;
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 6).start().await?;
    /// let admin = Admin::builder(broker.bootstrap()).connect().await?;
    /// for (name, topic) in admin.list_topics().await? {
    ///     println!("{name}: {} partitions", topic.partitions);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "listTopics")]
    pub async fn list_topics(&self) -> Result<BTreeMap<String, TopicListing>, Error> {
        match self.ask(AdminCall::ListTopics).await? {
            AdminAnswer::Topics(topics) => Ok(topics.into_iter().map(|t| (t.name.clone(), t)).collect()),
            other => Err(unexpected(&Outcome::Admin(other))),
        }
    }

    /// Creates topics.
    ///
    /// A topic that was created is known to the controller; other brokers learn of it within moments.
    ///
    /// # Errors
    ///
    /// By topic, among others: `TOPIC_ALREADY_EXISTS`, `INVALID_TOPIC_EXCEPTION`, `INVALID_PARTITIONS`,
    /// `INVALID_REPLICATION_FACTOR`, `INVALID_CONFIG`, `POLICY_VIOLATION`. See also [`Admin`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::{Admin, ErrorCode, NewTopic};
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 6).start().await?;
    /// let admin = Admin::builder(broker.bootstrap()).connect().await?;
    /// let results = admin.create_topics([NewTopic::new("orders"), NewTopic::new("bills")]).await?;
    /// assert!(results["bills"].is_ok());
    /// let error = results["orders"].as_ref().unwrap_err();
    /// assert_eq!(error.code(), Some(ErrorCode::TopicAlreadyExists));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "createTopics")]
    pub async fn create_topics(
        &self,
        topics: impl IntoIterator<Item = NewTopic>,
    ) -> Result<Results<String, CreatedTopic>, Error> {
        self.make_topics(topics, false).await
    }

    /// Says what [`create_topics`](Self::create_topics) would, and creates nothing.
    ///
    /// # Errors
    ///
    /// As `create_topics`.
    #[doc(alias = "validateOnly")]
    pub async fn validate_topics(
        &self,
        topics: impl IntoIterator<Item = NewTopic>,
    ) -> Result<Results<String, CreatedTopic>, Error> {
        self.make_topics(topics, true).await
    }

    async fn make_topics(
        &self,
        topics: impl IntoIterator<Item = NewTopic>,
        validate_only: bool,
    ) -> Result<Results<String, CreatedTopic>, Error> {
        let topics = topics.into_iter().collect();
        match self.ask(AdminCall::CreateTopics { topics, validate_only }).await? {
            AdminAnswer::CreatedTopics(results) => Ok(map(results)),
            other => Err(unexpected(&Outcome::Admin(other))),
        }
    }

    /// Deletes topics, with their records and what groups have committed of them.
    ///
    /// # Errors
    ///
    /// By topic, among others: `UNKNOWN_TOPIC_OR_PARTITION`, `TOPIC_DELETION_DISABLED`,
    /// `TOPIC_AUTHORIZATION_FAILED`. See also [`Admin`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::Admin;
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 6).start().await?;
    /// let admin = Admin::builder(broker.bootstrap()).connect().await?;
    /// assert!(admin.delete_topics(["orders"]).await?["orders"].is_ok());
    /// assert!(admin.list_topics().await?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "deleteTopics")]
    pub async fn delete_topics<T: Into<String>>(
        &self,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<Results<String, ()>, Error> {
        match self.ask(AdminCall::DeleteTopics(strings(topics))).await? {
            AdminAnswer::DeletedTopics(results) => Ok(map(results)),
            other => Err(unexpected(&Outcome::Admin(other))),
        }
    }

    /// All groups that may be described, by id, of every protocol. Every broker is asked; the list is whole or an
    /// error.
    ///
    /// # Errors
    ///
    /// See [`Admin`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::{Admin, Consumer};
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 1).start().await?;
    /// # broker.set_committed("billing", "orders", 0, 1)?;
    /// let admin = Admin::builder(broker.bootstrap()).connect().await?;
    /// let groups = admin.list_groups().await?;
    /// assert!(groups.contains_key("billing"));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "listConsumerGroups")]
    pub async fn list_groups(&self) -> Result<BTreeMap<String, GroupListing>, Error> {
        match self.ask(AdminCall::ListGroups).await? {
            AdminAnswer::Groups(groups) => Ok(groups.into_iter().map(|g| (g.group_id.clone(), g)).collect()),
            other => Err(unexpected(&Outcome::Admin(other))),
        }
    }

    /// State and members of groups of consumers, classic or of the consumer protocol (KIP-848).
    ///
    /// # Errors
    ///
    /// By group: `GROUP_ID_NOT_FOUND` on every version of the brokers, `GROUP_AUTHORIZATION_FAILED`. See also
    /// [`Admin`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::{Admin, Consumer, GroupState};
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 1).start().await?;
    /// # broker.produce("orders", 0, ["a"])?;
    /// # let mut consumer =
    /// #     Consumer::builder(broker.bootstrap()).group("billing").subscribe(["orders"]).connect().await?;
    /// # let record = consumer.next_record().await?;
    /// let admin = Admin::builder(broker.bootstrap()).connect().await?;
    /// let groups = admin.describe_groups(["billing"]).await?;
    /// let billing = groups["billing"].as_ref().unwrap();
    /// assert_eq!(billing.state, GroupState::Stable);
    /// assert_eq!(billing.members[0].assignment.len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "describeConsumerGroups")]
    pub async fn describe_groups<G: Into<String>>(
        &self,
        groups: impl IntoIterator<Item = G>,
    ) -> Result<Results<String, GroupDescription>, Error> {
        match self.ask(AdminCall::DescribeGroups(strings(groups))).await? {
            AdminAnswer::DescribedGroups(results) => Ok(map(results)),
            other => Err(unexpected(&Outcome::Admin(other))),
        }
    }

    /// Deletes groups, with what they have committed.
    ///
    /// # Errors
    ///
    /// By group: `NON_EMPTY_GROUP` for one that has members, `GROUP_ID_NOT_FOUND`, `GROUP_AUTHORIZATION_FAILED`. See
    /// also [`Admin`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::Admin;
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 1).start().await?;
    /// # broker.set_committed("billing", "orders", 0, 1)?;
    /// let admin = Admin::builder(broker.bootstrap()).connect().await?;
    /// assert!(admin.delete_groups(["billing"]).await?["billing"].is_ok());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "deleteConsumerGroups")]
    pub async fn delete_groups<G: Into<String>>(
        &self,
        groups: impl IntoIterator<Item = G>,
    ) -> Result<Results<String, ()>, Error> {
        match self.ask(AdminCall::DeleteGroups(strings(groups))).await? {
            AdminAnswer::DeletedGroups(results) => Ok(map(results)),
            other => Err(unexpected(&Outcome::Admin(other))),
        }
    }

    /// All that a group has committed: stable offsets (KIP-447), those of open transactions are waited for. Empty for
    /// a group that does not exist.
    ///
    /// # Errors
    ///
    /// `GROUP_AUTHORIZATION_FAILED`; by partition `TOPIC_AUTHORIZATION_FAILED`. See also [`Admin`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::{Admin, TopicPartition};
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 1).start().await?;
    /// # broker.set_committed("billing", "orders", 0, 7)?;
    /// let admin = Admin::builder(broker.bootstrap()).connect().await?;
    /// let offsets = admin.list_group_offsets("billing").await?;
    /// let first = offsets[&TopicPartition::new("orders", 0)].as_ref().unwrap();
    /// assert_eq!(first.offset, 7);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "listConsumerGroupOffsets")]
    pub async fn list_group_offsets(
        &self,
        group: impl Into<String>,
    ) -> Result<Results<TopicPartition, CommittedOffset>, Error> {
        match self.ask(AdminCall::ListGroupOffsets(group.into())).await? {
            AdminAnswer::GroupOffsets(results) => Ok(map(results)),
            other => Err(unexpected(&Outcome::Admin(other))),
        }
    }

    /// Resets offsets of a group that has no members: to the [earliest](Offset::Earliest), the
    /// [latest](Offset::Latest), [an offset](Offset::At), so many [from the end](Offset::FromEnd) or a
    /// [time](Offset::Timestamp). The result is the offset that is committed now.
    ///
    /// The group need not exist; other partitions are left as they are. An offset is committed as it is given, inside
    /// the log or not; the leader epoch of an [`Offset::AtEpoch`] is not kept.
    ///
    /// # Errors
    ///
    /// By partition: code `NON_EMPTY_GROUP` while the group has members, whichever code the broker has for it: stop
    /// them first; `UNKNOWN_TOPIC_OR_PARTITION` or no code for a partition that does not exist,
    /// `GROUP_AUTHORIZATION_FAILED`, `TOPIC_AUTHORIZATION_FAILED`; kind
    /// [`ApiMisuse`](crate::ErrorKind::ApiMisuse) for [`Offset::Committed`]. See also [`Admin`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::{Admin, Offset, TopicPartition};
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 2).start().await?;
    /// # broker.produce("orders", 1, ["a", "b"])?;
    /// let admin = Admin::builder(broker.bootstrap()).connect().await?;
    /// let (first, second) = (TopicPartition::new("orders", 0), TopicPartition::new("orders", 1));
    /// let offsets = [(first, Offset::Earliest), (second.clone(), Offset::Latest)];
    /// let results = admin.alter_group_offsets("billing", offsets).await?;
    /// assert_eq!(*results[&second].as_ref().unwrap(), 2);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "alterConsumerGroupOffsets")]
    #[doc(alias = "reset_offsets")]
    pub async fn alter_group_offsets(
        &self,
        group: impl Into<String>,
        offsets: impl IntoIterator<Item = (TopicPartition, Offset)>,
    ) -> Result<Results<TopicPartition, i64>, Error> {
        let (group, offsets) = (group.into(), offsets.into_iter().collect());
        match self.ask(AdminCall::AlterGroupOffsets { group, offsets }).await? {
            AdminAnswer::AlteredOffsets(results) => Ok(map(results)),
            other => Err(unexpected(&Outcome::Admin(other))),
        }
    }

    /// Deletes what a group has committed of partitions whose topics no member of it reads. Where nothing is
    /// committed that is no error. Brokers from 2.4 on can do it.
    ///
    /// # Errors
    ///
    /// By partition: `GROUP_SUBSCRIBED_TO_TOPIC` while a member reads the topic, `NON_EMPTY_GROUP` for a group with
    /// members that are no consumers, `GROUP_ID_NOT_FOUND`, `UNKNOWN_TOPIC_OR_PARTITION`; kind
    /// [`Unsupported`](crate::ErrorKind::Unsupported) from older brokers. See also [`Admin`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use ottla::{Admin, TopicPartition};
    /// # use ottla_broker::Broker;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().topic("orders", 1).start().await?;
    /// # broker.set_committed("billing", "orders", 0, 7)?;
    /// let admin = Admin::builder(broker.bootstrap()).connect().await?;
    /// let orders = TopicPartition::new("orders", 0);
    /// assert!(admin.delete_group_offsets("billing", [&orders]).await?[&orders].is_ok());
    /// assert!(admin.list_group_offsets("billing").await?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "deleteConsumerGroupOffsets")]
    pub async fn delete_group_offsets<P: Borrow<TopicPartition>>(
        &self,
        group: impl Into<String>,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<Results<TopicPartition, ()>, Error> {
        let partitions = partitions.into_iter().map(|tp| tp.borrow().clone()).collect();
        match self.ask(AdminCall::DeleteGroupOffsets { group: group.into(), partitions }).await? {
            AdminAnswer::DeletedOffsets(results) => Ok(map(results)),
            other => Err(unexpected(&Outcome::Admin(other))),
        }
    }
}

fn strings<T: Into<String>>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    items.into_iter().map(Into::into).collect()
}

fn map<K: Ord, V>(items: Items<K, V>) -> Results<K, V> {
    items.into_iter().collect()
}
