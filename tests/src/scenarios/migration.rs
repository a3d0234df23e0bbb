//! Item 1: a group whose members speak different protocols, all of them ottla, and that goes from one protocol to the
//! other and back while it is read (KIP-848, online migration).

use std::collections::BTreeMap;
use std::time::Duration;

use ottla::{Admin, Assignor, ConsumerHandle, GroupProtocol, GroupType};

use super::{Backend, Group, Result, guarded};
use crate::kafka::{RecordSpec, unique};

const CLASSIC: GroupProtocol = GroupProtocol::Classic;
const CONSUMER: GroupProtocol = GroupProtocol::Consumer;
const PARTITIONS: u32 = 6;

struct Migration<'a> {
    backend: &'a Backend,
    admin: Admin,
    topic: String,
    group: Group,
    members: BTreeMap<usize, ConsumerHandle>,
    written: i64,
}

impl<'a> Migration<'a> {
    async fn new(backend: &'a Backend, assignor: Assignor) -> Result<Self> {
        let topic = unique("migration");
        backend.create_topic(&topic, PARTITIONS)?;
        let admin = Admin::builder(backend.bootstrap()).connect().await?;
        let group = Group::new(backend, &topic, assignor);
        Ok(Self { backend, admin, topic, group, members: BTreeMap::new(), written: 0 })
    }

    async fn join(&mut self, id: usize, protocol: GroupProtocol) -> Result<()> {
        let handle = self.group.join_as(id, protocol).await?;
        self.members.insert(id, handle);
        Ok(())
    }

    fn leave(&mut self, id: usize) {
        if let Some(handle) = self.members.remove(&id) {
            handle.shutdown();
        }
    }

    /// Waits until the members share evenly; then everybody reads what is written now, and nobody's partitions are
    /// anybody else's at any time. (The group asserts that, and that nobody reads what it does not own.)
    async fn settle(&mut self, what: &str, kind: GroupType) -> Result<()> {
        let shares = vec![PARTITIONS as usize / self.members.len(); self.members.len()];
        self.group.until(what, |g| g.sizes() == shares && g.held.is_empty()).await?;
        let spec =
            RecordSpec::new(60 * u64::from(PARTITIONS)).partitions(PARTITIONS).seed(self.group.next_seed());
        self.backend.produce(&self.topic, "none", &spec)?;
        self.group.wrote(spec);
        self.written += 60;
        let all = self.written as usize * PARTITIONS as usize;
        self.group.until(&format!("{what}: records"), |g| g.count() == all).await?;
        // Older brokers do not tell, and know one type only.
        if !self.backend.is_at_least(4, 0) {
            return Ok(());
        }
        let (admin, group) = (&self.admin, &self.group.group);
        guarded(&format!("{what}: a group of type {kind:?}"), async {
            while admin.list_groups().await?.get(group).and_then(|g| g.group_type) != Some(kind) {
                // Brokers that settle need the processor more than we do.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        })
        .await
    }

    async fn end(mut self) -> Result<()> {
        let ids: Vec<usize> = self.members.keys().copied().collect();
        ids.into_iter().for_each(|id| self.leave(id));
        self.group.until("nobody", |g| g.owned.is_empty()).await?;
        self.group.assert_each_record_once(PARTITIONS, self.written);
        let committed = self.backend.committed(&self.group.group, &self.topic)?;
        assert_eq!(committed, (0..PARTITIONS).map(|p| (p, self.written)).collect());
        Ok(())
    }
}

/// Members of ottla change from the classic protocol to the consumer protocol one by one, and back; then all at once,
/// there and back: each partition has one owner at any time, and every record is handed out once.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn a_group_of_ours_is_migrated_online_and_back(backend: &Backend) -> Result<()> {
    for assignor in [Assignor::CooperativeSticky, Assignor::Sticky, Assignor::RoundRobin, Assignor::Range] {
        one_by_one(backend, assignor).await.map_err(|error| format!("{assignor:?}: {error}"))?;
        all_at_once(backend, assignor).await.map_err(|error| format!("{assignor:?}: {error}"))?;
    }
    Ok(())
}

async fn one_by_one(backend: &Backend, assignor: Assignor) -> Result<()> {
    use GroupType::{Classic, Consumer};
    let mut m = Migration::new(backend, assignor).await?;
    m.join(0, CLASSIC).await?;
    m.join(1, CLASSIC).await?;
    m.settle("two classic members", Classic).await?;
    m.join(2, CONSUMER).await?;
    m.settle("the first of the consumer protocol", Consumer).await?;
    m.leave(0);
    m.settle("one of each", Consumer).await?;
    m.join(3, CONSUMER).await?;
    m.settle("one classic member of three", Consumer).await?;
    m.leave(1);
    m.settle("the consumer protocol alone", Consumer).await?;
    m.join(4, CLASSIC).await?;
    m.settle("a classic member is back", Consumer).await?;
    m.leave(2);
    m.settle("one of each again", Consumer).await?;
    m.join(5, CLASSIC).await?;
    m.settle("one of the consumer protocol of three", Consumer).await?;
    m.leave(3);
    m.settle("the classic protocol alone", Classic).await?;
    m.join(6, CLASSIC).await?;
    m.settle("a classic group as any other", Classic).await?;
    m.end().await
}

/// Upwards the new members are there before the old ones go. Downwards nobody is in between: members of the consumer
/// protocol that leave together leave a classic group whose generation its members have not heard of, and what they
/// have is lost to them (Kafka 4.3).
async fn all_at_once(backend: &Backend, assignor: Assignor) -> Result<()> {
    use GroupType::{Classic, Consumer};
    let mut m = Migration::new(backend, assignor).await?;
    for id in 0..3 {
        m.join(id, CLASSIC).await?;
    }
    m.settle("the classic protocol", Classic).await?;
    for id in 3..6 {
        m.join(id, CONSUMER).await?;
    }
    (0..3).for_each(|id| m.leave(id));
    m.settle("the consumer protocol", Consumer).await?;
    (3..6).for_each(|id| m.leave(id));
    m.group.until("nobody", |g| g.owned.is_empty()).await?;
    for id in 6..9 {
        m.join(id, CLASSIC).await?;
    }
    m.settle("the classic protocol again", Classic).await?;
    m.end().await
}

/// Members with the default settings: where the brokers have the consumer protocol they make a group of classic
/// members theirs, and it is classic again when they have gone. Elsewhere they are classic members.
///
/// # Errors
/// When it is otherwise, or hangs.
pub async fn members_with_the_default_protocol_join_a_classic_group(backend: &Backend) -> Result<()> {
    let mut m = Migration::new(backend, Assignor::CooperativeSticky).await?;
    let kind = match backend.is_at_least(4, 0) {
        true => GroupType::Consumer,
        false => GroupType::Classic,
    };
    m.join(0, CLASSIC).await?;
    m.settle("a classic member", GroupType::Classic).await?;
    m.join(1, GroupProtocol::Auto).await?;
    m.settle("a member with the defaults", kind).await?;
    m.join(2, GroupProtocol::Auto).await?;
    m.settle("two of them", kind).await?;
    m.leave(0);
    m.settle("they alone", kind).await?;
    m.join(3, CLASSIC).await?;
    m.settle("a classic member again", kind).await?;
    m.leave(1);
    m.settle("one of each", kind).await?;
    m.leave(2);
    m.settle("it alone", GroupType::Classic).await?;
    m.end().await
}
