//! Assignors of the user's own, in groups of the classic protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::Duration;

use ottla::{
    Assignor, Builder, ClusterTopics, Consumer, ErrorKind, GroupMember, GroupProtocol, PartitionAssignor,
    RebalanceProtocol,
};
use ottla_broker::Broker;

type Assigned = Result<BTreeMap<String, Vec<(String, Vec<i32>)>>, Box<dyn Error + Send + Sync>>;

/// Partitions to the members by what they say they can carry.
struct ByWeight {
    weight: u8,
    protocol: RebalanceProtocol,
}

impl PartitionAssignor for ByWeight {
    fn name(&self) -> &str {
        "by-weight"
    }

    fn protocol(&self) -> RebalanceProtocol {
        self.protocol
    }

    fn subscription_user_data(
        &self,
        _: &BTreeSet<String>,
        _: &Vec<(String, Vec<i32>)>,
    ) -> Option<bytes::Bytes> {
        Some(vec![self.weight].into())
    }

    fn assign(&self, members: &[GroupMember], topics: &ClusterTopics) -> Assigned {
        let mut places: Vec<(u8, &str)> = Vec::new();
        for member in members {
            let weight =
                member.user_data.as_ref().and_then(|data| data.first().copied()).ok_or("no weight")?;
            places.extend((0..weight).map(|_| (weight, member.member_id.as_str())));
        }
        places.sort();
        let mut assigned: BTreeMap<String, Vec<(String, Vec<i32>)>> = BTreeMap::new();
        for topic in topics.iter() {
            for partition in 0..topic.partitions.len() {
                let (_, member) = places.get(partition % places.len()).ok_or("nobody")?;
                assigned
                    .entry((*member).to_owned())
                    .or_default()
                    .push((topic.name.clone(), vec![partition as i32]));
            }
        }
        Ok(assigned)
    }
}

type Assign = fn() -> Assigned;

struct Fails(Assign);

impl PartitionAssignor for Fails {
    fn name(&self) -> &str {
        "fails"
    }

    fn assign(&self, _: &[GroupMember], _: &ClusterTopics) -> Assigned {
        (self.0)()
    }
}

async fn broker() -> Broker {
    Broker::builder().topic("orders", 4).start().await.unwrap()
}

fn member(broker: &Broker) -> Builder {
    let builder = Consumer::builder(broker.bootstrap()).group("billing").subscribe(["orders"]);
    builder.heartbeat_interval(Duration::from_millis(100))
}

/// Two readers until they own so many partitions.
async fn until(first: &mut Consumer, second: &mut Consumer, sizes: [usize; 2]) {
    let owned = |c: &Consumer| c.assignment().unwrap().len();
    let reading = async {
        while [owned(first), owned(second)] != sizes {
            tokio::select! {
                read = first.next_event() => drop(read.unwrap()),
                read = second.next_event() => drop(read.unwrap()),
                () = tokio::task::yield_now() => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reading).await.expect("they never own that");
}

#[tokio::test]
async fn the_leader_runs_it_and_hears_what_the_members_say_of_themselves() {
    for protocol in [RebalanceProtocol::Eager, RebalanceProtocol::Cooperative] {
        let broker = broker().await;
        let weighs = |weight| member(&broker).assignors([]).partition_assignor(ByWeight { weight, protocol });
        let mut light = weighs(1).connect().await.unwrap();
        let mut heavy = weighs(3).connect().await.unwrap();
        until(&mut light, &mut heavy, [1, 3]).await;
        light.close().await.unwrap();
        heavy.close().await.unwrap();
    }
}

#[tokio::test]
async fn the_first_assignor_that_all_members_have_is_used() {
    let broker = broker().await;
    let own = ByWeight { weight: 3, protocol: RebalanceProtocol::Cooperative };
    let mut both = member(&broker).partition_assignor(own).connect().await.unwrap();
    let mut kafkas = member(&broker).assignors([Assignor::CooperativeSticky]).connect().await.unwrap();
    until(&mut both, &mut kafkas, [2, 2]).await;
    // Who has none of them is told which there are.
    let own = ByWeight { weight: 3, protocol: RebalanceProtocol::Cooperative };
    let mut alone = member(&broker).assignors([]).partition_assignor(own).connect().await.unwrap();
    let error = alone.next_batch().await.unwrap_err();
    let text = error.to_string();
    assert!(
        error.is_fatal() && text.contains("[by-weight]") && text.contains("cooperative-sticky"),
        "{text}"
    );
}

#[tokio::test]
async fn one_that_fails_or_panics_ends_its_member_and_the_group_goes_on() {
    let failures: [(Assign, &str); 3] = [
        (|| Err("the moon is full".into()), "the moon is full"),
        (|| panic!("oh no"), "oh no"),
        (|| Ok([("nobody".to_owned(), Vec::new())].into()), "no member"),
    ];
    for (assign, why) in failures {
        for instance in [None, Some("i1")] {
            let broker = broker().await;
            let mut builder = member(&broker).partition_assignor(Fails(assign));
            if let Some(id) = instance {
                builder = builder.group_instance_id(id);
            }
            let mut fails = builder.connect().await.unwrap();
            let error = fails.next_batch().await.unwrap_err();
            assert_eq!((error.kind(), error.is_fatal()), (ErrorKind::ApiMisuse, true));
            assert!(error.to_string().contains(why), "{error}");
            // It has left before it is closed: nobody waits for it.
            broker.wait_until(|b| b.group_members("billing").is_empty()).await;
            broker.produce("orders", 0, ["a"]).unwrap();
            let mut other = member(&broker).connect().await.unwrap();
            assert!(other.next_batch().await.unwrap().is_some());
        }
    }
}

#[test]
fn names_and_protocols_that_do_not_fit_are_refused() {
    struct Named(&'static str);
    impl PartitionAssignor for Named {
        fn name(&self) -> &str {
            self.0
        }
        fn assign(&self, _: &[GroupMember], _: &ClusterTopics) -> Assigned {
            Ok(BTreeMap::new())
        }
    }
    let builder = || Consumer::builder("a:1").group("g");
    for bad in ["", "range", "mine"] {
        let builder = builder().partition_assignor(Named(bad)).partition_assignor(Named("mine"));
        let error = builder.validate().unwrap_err().to_string();
        assert!(error.contains("partition_assignor: "), "{error}");
    }
    builder().partition_assignor(Named("mine")).assignors([]).validate().unwrap();
    assert!(builder().assignors([]).validate().is_err());
    let new = builder().group_protocol(GroupProtocol::Consumer).partition_assignor(Named("mine"));
    assert!(new.validate().unwrap_err().to_string().contains("the brokers assign"));
}
