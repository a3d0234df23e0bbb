//! What the sticky assignors write into subscriptions and read from them.

use bytes::Bytes;

use super::support::{member, partitions};
use crate::assignor::{Assignor, GroupMember, RebalanceProtocol};

fn with(user_data: &'static [u8]) -> GroupMember {
    GroupMember { user_data: Some(Bytes::from_static(user_data)), ..member("m", "t") }
}

#[test]
fn names_and_protocols() {
    for (assignor, name) in
        Assignor::ALL.into_iter().zip(["range", "roundrobin", "sticky", "cooperative-sticky"])
    {
        assert_eq!(assignor.name(), name);
        assert_eq!(Assignor::from_name(name), Some(assignor));
    }
    assert_eq!(Assignor::from_name("Range"), None);
    let cooperative = Assignor::ALL.into_iter().filter(|a| a.protocol() == RebalanceProtocol::Cooperative);
    assert!(cooperative.eq([Assignor::CooperativeSticky]));
}

#[test]
fn sticky_writes_partitions_and_generation_kip_341() {
    let written = Assignor::Sticky.subscription_user_data(&partitions("t-0 t-2"), 7).expect("user data");
    assert_eq!(written[..], *b"\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x02\0\0\0\x07");
}

#[test]
fn sticky_writes_nothing_before_the_first_assignment() {
    assert_eq!(Assignor::Sticky.subscription_user_data(&[], -1), None);
    assert!(Assignor::Sticky.subscription_user_data(&[], 3).is_some());
}

#[test]
fn cooperative_sticky_writes_the_generation() {
    let written =
        |generation| Assignor::CooperativeSticky.subscription_user_data(&partitions("t-0"), generation);
    assert_eq!(written(258).as_deref(), Some(&[0, 0, 1, 2][..]));
    assert_eq!(written(-1).as_deref(), Some(&[255, 255, 255, 255][..]));
}

#[test]
fn range_and_round_robin_write_and_read_nothing() {
    for assignor in [Assignor::Range, Assignor::RoundRobin] {
        assert_eq!(assignor.subscription_user_data(&partitions("t-0"), 1), None);
        assert_eq!(assignor.previous_assignment(&with(b"\0\0\0\x01")), (Vec::new(), None));
    }
}

#[test]
fn sticky_reads_version_0_without_a_generation() {
    let old = with(b"\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\x05\0\0\0\x02");
    assert_eq!(Assignor::Sticky.previous_assignment(&old), (vec![("t".to_owned(), vec![5, 2])], None));
}

#[test]
fn sticky_trusts_only_its_user_data() {
    let both = GroupMember {
        owned_partitions: partitions("t-9"),
        generation_id: Some(9),
        ..with(b"\0\0\0\0\0\0\0\x04")
    };
    assert_eq!(Assignor::Sticky.previous_assignment(&both), (Vec::new(), Some(4)));
    let none = GroupMember { user_data: None, ..both };
    assert_eq!(Assignor::Sticky.previous_assignment(&none), (Vec::new(), None));
}

#[test]
fn cooperative_sticky_takes_the_generation_of_the_subscription_first_kip_792() {
    let old = GroupMember { owned_partitions: partitions("t-1"), ..with(b"\0\0\0\x04") };
    assert_eq!(Assignor::CooperativeSticky.previous_assignment(&old), (partitions("t-1"), Some(4)));
    let new = GroupMember { generation_id: Some(9), ..old };
    assert_eq!(Assignor::CooperativeSticky.previous_assignment(&new), (partitions("t-1"), Some(9)));
    let none = GroupMember { generation_id: None, user_data: None, ..new };
    assert_eq!(Assignor::CooperativeSticky.previous_assignment(&none), (partitions("t-1"), None));
}

#[test]
fn user_data_that_cannot_be_read_is_generation_minus_one() {
    let broken: [&[u8]; 6] = [
        b"\x01",
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff\0\x01t",
        b"\0\0\0\x01\xff\xff\0\0\0\0",
        b"\0\0\0\x01\0\x01t\x7f\xff\xff\xff\0\0\0\0",
        b"\0\0\0\x01\0\x01t\xff\xff\xff\xff",
    ];
    for bytes in broken {
        assert_eq!(Assignor::Sticky.previous_assignment(&with(bytes)), (Vec::new(), Some(-1)), "{bytes:?}");
    }
    assert_eq!(Assignor::CooperativeSticky.previous_assignment(&with(b"\0\0\0")).1, Some(-1));
}

#[test]
fn what_was_written_is_read() {
    for assignor in [Assignor::Sticky, Assignor::CooperativeSticky] {
        let owned = partitions("a-0 a-3 b-1 c-2 c-4");
        let member = super::support::owning(member("m", "a b c"), assignor, 12, owned.clone());
        assert_eq!(assignor.previous_assignment(&member), (owned, Some(12)));
    }
}
