//! The administrator: topics, groups and their offsets, with everything that a cluster refuses.

use ottla::{
    Admin, Commit, Consumer, Error, ErrorCode, ErrorKind, GroupProtocol, GroupState, GroupType, NewTopic,
    Offset, TopicPartition,
};

use super::{Backend, Result, guarded};
use crate::kafka::{RecordSpec, unique};

fn code<T>(result: &std::result::Result<T, Error>) -> Option<ErrorCode> {
    result.as_ref().err().and_then(Error::code)
}

/// Topics are created, listed and deleted.
async fn topics(backend: &Backend, admin: &Admin) -> Result<()> {
    let topic = unique("made");
    let new = || NewTopic::new(topic.as_str()).num_partitions(3).replication_factor(1);
    let validated = admin.validate_topics([new().config("cleanup.policy", "compact")]).await?;
    assert!(validated[&topic].is_ok(), "{validated:?}");
    assert!(!admin.list_topics().await?.contains_key(&topic), "nothing was created");
    let created = admin
        .create_topics([new(), NewTopic::new("no/name").num_partitions(1).replication_factor(1)])
        .await?;
    let made = created[&topic].as_ref().map_err(Clone::clone)?.clone();
    let told = (made.num_partitions, made.replication_factor);
    assert_eq!(told, if backend.is_at_least(2, 4) { (Some(3), Some(1)) } else { (None, None) });
    assert_eq!(code(&created["no/name"]), Some(ErrorCode::InvalidTopicException));
    // Other brokers than the controller learn of it a moment later.
    let listed = guarded("the topic in the list", async {
        loop {
            if let Some(topic) = admin.list_topics().await?.remove(&topic).filter(|t| t.partitions == 3) {
                return Ok(topic);
            }
        }
    })
    .await?;
    assert_eq!((listed.topic_id, listed.is_internal), (made.topic_id, false));
    assert_eq!(code(&admin.create_topics([new()]).await?[&topic]), Some(ErrorCode::TopicAlreadyExists));
    let nowhere = unique("nowhere");
    let deleted = admin.delete_topics([&topic, &nowhere]).await?;
    assert!(deleted[&topic].is_ok(), "{deleted:?}");
    assert_eq!(code(&deleted[&nowhere]), Some(ErrorCode::UnknownTopicOrPartition));
    guarded("the topic's end", async {
        while admin.list_topics().await?.contains_key(&topic) {}
        Ok(())
    })
    .await
}

/// A group with a member is described and refuses everything; without one it does as it is told.
async fn groups(backend: &Backend, admin: &Admin) -> Result<()> {
    let (topic, group, nowhere) = (unique("looked-at"), unique("looked-at"), unique("nowhere"));
    backend.create_topic(&topic, 2)?;
    backend.produce(&topic, "none", &RecordSpec::new(100).partitions(2))?;
    let tp = |partition| TopicPartition::new(topic.as_str(), partition);
    let mut consumer = Consumer::builder(backend.bootstrap())
        .client_id("watched")
        .group(group.as_str())
        .group_protocol(GroupProtocol::Classic)
        .subscribe([topic.as_str()])
        .commit(Commit::Manual)
        .connect()
        .await?;
    let batch =
        guarded("the first batch", async { Ok(consumer.next_batch().await?.ok_or("the end")?) }).await?;
    consumer.commit(&batch).await?;
    backend.group_is(&group, "Stable", 1).await?;

    let told = |state| backend.is_at_least(2, 6).then_some(state);
    let listed = admin.list_groups().await?;
    let listing = listed.get(&group).ok_or("the group is not in the list")?;
    assert_eq!(listing.protocol_type, "consumer");
    assert_eq!(listing.state, told(GroupState::Stable));
    let described = admin.describe_groups([&group, &nowhere]).await?;
    let seen = described[&group].as_ref().map_err(Clone::clone)?;
    assert_eq!((seen.state, seen.group_type), (GroupState::Stable, GroupType::Classic));
    assert_eq!(seen.partition_assignor, "cooperative-sticky");
    assert_eq!(seen.coordinator.0 as u32, backend.coordinator(&group)?);
    let [member] = &seen.members[..] else { return Err(format!("{seen:?}").into()) };
    assert_eq!(member.client_id, "watched");
    assert_eq!(member.assignment, [tp(0), tp(1)]);
    assert_eq!(code(&described[&nowhere]), Some(ErrorCode::GroupIdNotFound));

    let before = backend.committed(&group, &topic)?;
    let deleted = admin.delete_groups([&group, &nowhere]).await?;
    assert_eq!(code(&deleted[&group]), Some(ErrorCode::NonEmptyGroup));
    assert_eq!(code(&deleted[&nowhere]), Some(ErrorCode::GroupIdNotFound));
    let altered = admin.alter_group_offsets(group.as_str(), [(tp(0), Offset::Earliest)]).await?;
    assert_eq!(code(&altered[&tp(0)]), Some(ErrorCode::NonEmptyGroup), "{altered:?}");
    // Single offsets can be deleted from 2.4 on.
    let delete_one = backend.is_at_least(2, 4);
    let deleted = admin.delete_group_offsets(group.as_str(), [tp(0)]).await?;
    if delete_one {
        assert_eq!(code(&deleted[&tp(0)]), Some(ErrorCode::GroupSubscribedToTopic), "{deleted:?}");
    } else {
        assert_eq!(deleted[&tp(0)].as_ref().err().map(Error::kind), Some(ErrorKind::Unsupported));
    }
    assert_eq!(backend.committed(&group, &topic)?, before, "nothing was moved");
    consumer.close().await?;

    let places = [(tp(0), Offset::At(7)), (tp(1), Offset::Latest), (tp(5), Offset::At(1))];
    let altered = admin.alter_group_offsets(group.as_str(), places).await?;
    assert_eq!(altered[&tp(0)].as_ref().ok(), Some(&7), "{altered:?}");
    assert_eq!(altered[&tp(1)].as_ref().ok(), Some(&50));
    assert_eq!(code(&altered[&tp(5)]), Some(ErrorCode::UnknownTopicOrPartition));
    assert_eq!(backend.committed(&group, &topic)?, [(0, 7), (1, 50)].into());
    let offsets = admin.list_group_offsets(group.as_str()).await?;
    let seen: Vec<_> =
        offsets.iter().map(|(tp, o)| (tp.partition(), o.as_ref().ok().map(|o| o.offset))).collect();
    assert_eq!(seen, [(0, Some(7)), (1, Some(50))]);
    let altered = admin.alter_group_offsets(group.as_str(), [(tp(1), Offset::Earliest)]).await?;
    assert_eq!(altered[&tp(1)].as_ref().ok(), Some(&0));
    if delete_one {
        let deleted = admin.delete_group_offsets(group.as_str(), [tp(1)]).await?;
        assert!(deleted[&tp(1)].is_ok(), "{deleted:?}");
        assert_eq!(backend.committed(&group, &topic)?, [(0, 7)].into());
    }
    assert_eq!(admin.list_groups().await?[&group].state, told(GroupState::Empty));
    let deleted = admin.delete_groups([&group]).await?;
    assert!(deleted[&group].is_ok(), "{deleted:?}");
    assert!(!admin.list_groups().await?.contains_key(&group));
    assert!(admin.list_group_offsets(group.as_str()).await?.is_empty(), "its offsets went with it");
    // A group that never was is made by its offsets.
    let altered = admin.alter_group_offsets(nowhere.as_str(), [(tp(0), Offset::FromEnd(5))]).await?;
    assert_eq!(altered[&tp(0)].as_ref().ok(), Some(&45), "{altered:?}");
    assert!(admin.list_groups().await?.contains_key(&nowhere));
    Ok(())
}

/// What an administrator does, and what the cluster refuses.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn admin(backend: &Backend) -> Result<()> {
    let admin = Admin::builder(backend.bootstrap()).connect().await?;
    topics(backend, &admin).await?;
    groups(backend, &admin).await
}
