//! The assignors that run in the broker: `uniform` (sticky, as even as the subscriptions allow) and `range`.

use std::collections::{BTreeMap, BTreeSet};

use super::member::{ConsumerMember, Part};
use crate::core::topics::TopicId;

/// Kafka's names, the first one is the default.
pub(crate) const ASSIGNORS: [&str; 2] = ["uniform", "range"];

/// Who shall have what.
pub(super) type Target = BTreeMap<String, BTreeSet<Part>>;

/// What is known of a topic that somebody subscribes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subscribed {
    pub(crate) id: TopicId,
    pub(crate) partitions: i32,
}

/// Topics by name.
pub(crate) type Topics = BTreeMap<String, Subscribed>;

/// A member with the topics that it subscribes to and that exist.
struct Reader<'a> {
    member: &'a ConsumerMember,
    topics: BTreeSet<&'a str>,
}

/// The target of all members. `before` is the former one: `uniform` moves as little as it can.
pub(super) fn compute(
    assignor: &str,
    members: &BTreeMap<String, ConsumerMember>,
    topics: &Topics,
    wants: impl Fn(&ConsumerMember, &str) -> bool,
    before: &Target,
) -> Target {
    let readers: Vec<Reader<'_>> = members
        .values()
        .map(|member| Reader {
            member,
            topics: topics.keys().map(String::as_str).filter(|topic| wants(member, topic)).collect(),
        })
        .collect();
    if assignor == "range" { range(&readers, topics) } else { uniform(&readers, topics, before) }
}

/// Per topic, neighbouring partitions to each subscriber; static members first, by instance id.
fn range(readers: &[Reader<'_>], topics: &Topics) -> Target {
    let mut target: Target = readers.iter().map(|r| (r.member.id.clone(), BTreeSet::new())).collect();
    let mut order: Vec<&Reader<'_>> = readers.iter().collect();
    order.sort_by_key(|r| (r.member.instance_id.is_none(), &r.member.instance_id, &r.member.id));
    for (name, topic) in topics {
        let takers: Vec<_> = order.iter().filter(|r| r.topics.contains(name.as_str())).collect();
        let mut next = 0;
        for (index, reader) in takers.iter().enumerate() {
            let count = takers.len() as i32;
            let share = topic.partitions / count + i32::from((index as i32) < topic.partitions % count);
            let parts = target.entry(reader.member.id.clone()).or_default();
            parts.extend((next..next + share).map(|p| (topic.id, p)));
            next += share;
        }
    }
    target
}

/// What everybody had stays where it may; what is free goes to whoever has least; then whoever has two more than
/// somebody who could take one gives one.
fn uniform(readers: &[Reader<'_>], topics: &Topics, before: &Target) -> Target {
    let names: BTreeMap<TopicId, &str> = topics.iter().map(|(name, t)| (t.id, name.as_str())).collect();
    let exists = |part: &Part| {
        names.get(&part.0).and_then(|n| topics.get(*n)).is_some_and(|t| (0..t.partitions).contains(&part.1))
    };
    let may =
        |reader: &Reader<'_>, part: &Part| names.get(&part.0).is_some_and(|n| reader.topics.contains(n));
    let mut held: Vec<BTreeSet<Part>> = Vec::new();
    let mut taken: BTreeSet<Part> = BTreeSet::new();
    for reader in readers {
        let mut own = BTreeSet::new();
        for part in before.get(&reader.member.id).into_iter().flatten() {
            if exists(part) && may(reader, part) && taken.insert(*part) {
                own.insert(*part);
            }
        }
        held.push(own);
    }
    let free =
        topics.values().flat_map(|t| (0..t.partitions).map(|p| (t.id, p))).filter(|p| !taken.contains(p));
    for part in free {
        let least = (0..readers.len()).filter(|i| may(&readers[*i], &part)).min_by_key(|i| held[*i].len());
        if let Some(least) = least {
            held[least].insert(part);
        }
    }
    // Each move makes the sum of squares smaller, so this ends.
    let mut moved = true;
    while moved {
        moved = false;
        for from in 0..readers.len() {
            let give = held[from].iter().rev().find_map(|part| {
                let takers = (0..readers.len()).filter(|to| may(&readers[*to], part));
                let to = takers.min_by_key(|to| held[*to].len())?;
                (held[to].len() + 2 <= held[from].len()).then_some((*part, to))
            });
            if let Some((part, to)) = give {
                held[from].remove(&part);
                held[to].insert(part);
                moved = true;
            }
        }
    }
    readers.iter().zip(held).map(|(r, parts)| (r.member.id.clone(), parts)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(subscriptions: &[(&str, &[&str])]) -> BTreeMap<String, ConsumerMember> {
        let member = |(id, topics): &(&str, &[&str])| {
            let mut member = ConsumerMember::new(id);
            member.topics = topics.iter().map(|t| (*t).to_owned()).collect();
            ((*id).to_owned(), member)
        };
        subscriptions.iter().map(member).collect()
    }

    fn topics(counts: &[(&str, i32)]) -> Topics {
        let topic = |(i, (name, partitions)): (usize, &(&str, i32))| {
            ((*name).to_owned(), Subscribed { id: [i as u8 + 1; 16], partitions: *partitions })
        };
        counts.iter().enumerate().map(topic).collect()
    }

    fn sizes(target: &Target) -> Vec<usize> {
        target.values().map(BTreeSet::len).collect()
    }

    fn run(assignor: &str, who: &BTreeMap<String, ConsumerMember>, what: &Topics, before: &Target) -> Target {
        let target = compute(assignor, who, what, |m, t| m.topics.contains(t), before);
        let all: Vec<_> = target.values().flatten().collect();
        assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len(), "one owner each");
        target
    }

    #[test]
    fn uniform_is_even_and_moves_only_what_it_must() {
        let what = topics(&[("a", 5), ("b", 4)]);
        let two =
            run("uniform", &members(&[("m1", &["a", "b"]), ("m2", &["a", "b"])]), &what, &Target::new());
        assert_eq!(sizes(&two), [5, 4]);
        let three = members(&[("m1", &["a", "b"]), ("m2", &["a", "b"]), ("m3", &["a", "b"])]);
        let after = run("uniform", &three, &what, &two);
        assert_eq!(sizes(&after), [3, 3, 3]);
        assert!(after["m1"].is_subset(&two["m1"]) && after["m2"].is_subset(&two["m2"]));
        let back = run("uniform", &members(&[("m1", &["a", "b"]), ("m2", &["a", "b"])]), &what, &after);
        assert!(back["m1"].is_superset(&after["m1"]) && back["m2"].is_superset(&after["m2"]));
    }

    #[test]
    fn uniform_gives_nobody_what_it_does_not_subscribe_to() {
        let what = topics(&[("a", 6), ("b", 2)]);
        let target = run("uniform", &members(&[("m1", &["a", "b"]), ("m2", &["b"])]), &what, &Target::new());
        assert_eq!(sizes(&target), [6, 2]);
    }

    #[test]
    fn range_gives_neighbours_and_co_partitions() {
        let what = topics(&[("a", 5), ("b", 5)]);
        let target =
            run("range", &members(&[("m1", &["a", "b"]), ("m2", &["a", "b"])]), &what, &Target::new());
        let of = |member: &str, topic: u8| -> Vec<i32> {
            target[member].iter().filter(|p| p.0 == [topic; 16]).map(|p| p.1).collect()
        };
        assert_eq!((of("m1", 1), of("m2", 1)), (vec![0, 1, 2], vec![3, 4]));
        assert_eq!((of("m1", 2), of("m2", 2)), (vec![0, 1, 2], vec![3, 4]));
    }
}
