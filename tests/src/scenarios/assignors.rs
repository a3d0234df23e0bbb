//! Lists of assignors that change, and assignors of the user's own.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use ottla::{Assignor, Builder, ClusterTopics, GroupMember, GroupProtocol, PartitionAssignor};

use super::group::Join;
use super::{Backend, Group, Result};
use crate::kafka::unique;

const PARTITIONS: u32 = 6;

/// Two members are restarted one after the other with another list of assignors, twice, while somebody writes: first
/// with one more that they prefer, then with that alone. The old one is used until the last has the new one too, and
/// everything is handed out once.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn assignors_are_changed_one_member_after_the_other(backend: &Arc<Backend>) -> Result<()> {
    let topic = unique("upgrade");
    backend.create_topic(&topic, PARTITIONS)?;
    let mut group = Group::new(backend, &topic, Assignor::Range);
    let mut handles = Vec::new();
    for id in 0..2 {
        handles.push(group.join(id).await?);
    }
    group.write_on(backend, PARTITIONS);
    let steps: [(Join, [bool; 2]); 2] = [
        (|_, member| member.assignors([Assignor::RoundRobin, Assignor::Range]), [true, false]),
        (|_, member| member.assignors([Assignor::RoundRobin]), [false, false]),
    ];
    group.until("two members", settled).await?;
    assert!(is_range(&group), "{:?}", group.owned);
    for (join, still_range) in steps {
        group.with = join;
        for id in 0..2 {
            handles[id].shutdown();
            group.until("one gone", |g| !g.owned.contains_key(&id)).await?;
            handles[id] = group.join(id).await?;
            group.until("it is back", settled).await?;
            assert_eq!(is_range(&group), still_range[id], "{id}: {:?}", group.owned);
        }
    }
    let written = group.write_no_more();
    group.until("everything", |g| g.count() == written).await?;
    handles.iter().for_each(|handle| handle.shutdown());
    group.until("nobody", |g| g.owned.is_empty()).await?;
    group.assert_each_record_once(PARTITIONS, written as i64 / i64::from(PARTITIONS));
    Ok(())
}

fn settled(group: &Group) -> bool {
    group.sizes() == [3, 3] && group.held.is_empty()
}

/// Range gives neighbours to a member, round robin every second one.
fn is_range(group: &Group) -> bool {
    group.owned.values().all(|mine| {
        let numbers: Vec<i32> = mine.iter().map(|tp| tp.partition()).collect();
        numbers.windows(2).all(|two| two[1] == two[0] + 1)
    })
}

/// Partitions to the members by what they say they can carry.
struct ByWeight(u8);

type Assigned = std::result::Result<BTreeMap<String, Vec<(String, Vec<i32>)>>, Box<dyn Error + Send + Sync>>;

impl PartitionAssignor for ByWeight {
    fn name(&self) -> &str {
        "by-weight"
    }

    fn subscription_user_data(&self, _: &BTreeSet<String>, _: &Vec<(String, Vec<i32>)>) -> Option<Bytes> {
        Some(vec![self.0].into())
    }

    fn assign(&self, members: &[GroupMember], topics: &ClusterTopics) -> Assigned {
        let weight = |m: &GroupMember| m.user_data.as_ref().and_then(|data| data.first().copied());
        let mut places = Vec::new();
        for member in members {
            let weight = weight(member).ok_or("no weight")?;
            places.extend((0..weight).map(|_| member.member_id.clone()));
        }
        let mut assigned: BTreeMap<String, Vec<(String, Vec<i32>)>> = BTreeMap::new();
        for topic in topics.iter() {
            for (partition, member) in (0..topic.partitions.len() as i32).zip(places.iter().cycle()) {
                assigned.entry(member.clone()).or_default().push((topic.name.clone(), vec![partition]));
            }
        }
        Ok(assigned)
    }
}

/// An assignor of the user's own: the leader runs it with what the members say of themselves, and everything is handed
/// out once while members come and go.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn an_assignor_of_ones_own_shares_the_partitions_out(backend: &Arc<Backend>) -> Result<()> {
    let topic = unique("own");
    backend.create_topic(&topic, PARTITIONS)?;
    let mut group = Group::over(backend, &topic, GroupProtocol::Classic);
    group.with =
        |id, member: Builder| member.assignors([]).partition_assignor(ByWeight(if id == 0 { 1 } else { 2 }));
    let light = group.join(0).await?;
    group.write_on(backend, PARTITIONS);
    group.until("one member", |g| g.sizes() == [6]).await?;
    let heavy = group.join(1).await?;
    group.until("two members", |g| g.sizes() == [2, 4] && g.held.is_empty()).await?;
    let other = group.join(2).await?;
    group.until("three members", |g| g.sizes().iter().sum::<usize>() == 6 && g.sizes().len() == 3).await?;
    heavy.shutdown();
    let two = |g: &Group| g.sizes() == [2, 4] && g.held.is_empty() && !g.owned.contains_key(&1);
    group.until("two members again", two).await?;
    let written = group.write_no_more();
    group.until("everything", |g| g.count() == written).await?;
    [light, other].iter().for_each(|handle| handle.shutdown());
    group.until("nobody", |g| g.owned.is_empty()).await?;
    group.assert_each_record_once(PARTITIONS, written as i64 / i64::from(PARTITIONS));
    Ok(())
}
