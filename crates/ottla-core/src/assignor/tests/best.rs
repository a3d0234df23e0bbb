//! Differing subscriptions: no assignment is better, shown by trying all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::support::{Random, STICKY, far, member, owning, score, sizes, targets};
use crate::assignor::{Assignor, ClusterTopics, GroupMember, PartitionInfo, TopicInfo};

struct Small {
    members: Vec<GroupMember>,
    cluster: ClusterTopics,
    /// Who owns each partition, and who may have it.
    partitions: Vec<(String, i32, Option<usize>, Vec<usize>)>,
}

impl Small {
    fn new(random: &mut Random, assignor: Assignor, racks: usize) -> Self {
        let rack = |random: &mut Random| Arc::<str>::from(format!("rack-{}", random.below(racks)));
        let cluster: ClusterTopics = (0..1 + random.below(4))
            .map(|topic| {
                let partitions = (0..1 + random.below(3)).map(|_| {
                    let replicas = if racks == 0 { 0 } else { 1 + random.below(2) };
                    PartitionInfo { racks: (0..replicas).map(|_| rack(random)).collect() }
                });
                TopicInfo { name: format!("t{topic}"), partitions: partitions.collect() }
            })
            .collect();
        let mut members: Vec<GroupMember> = (0..2 + random.below(3))
            .map(|index| GroupMember {
                member_id: format!("m{index}"),
                topics: cluster
                    .iter()
                    .filter(|_| random.chance(60))
                    .map(|topic| topic.name.clone())
                    .collect(),
                rack_id: (racks > 0 && random.chance(80)).then(|| rack(random).to_string()),
                ..GroupMember::default()
            })
            .collect();
        let mut owned = vec![BTreeMap::<String, Vec<i32>>::new(); members.len()];
        let mut partitions = Vec::new();
        for (topic, number) in
            cluster.iter().flat_map(|topic| (0..topic.partitions.len() as i32).map(move |n| (topic, n)))
        {
            let may: Vec<usize> =
                (0..members.len()).filter(|&m| members[m].topics.contains(&topic.name)).collect();
            if may.is_empty() {
                continue;
            }
            let owner = random.chance(75).then(|| may[random.below(random.0 as usize % may.len() + 1)]);
            if let Some(owner) = owner {
                owned[owner].entry(topic.name.clone()).or_default().push(number);
            }
            partitions.push((topic.name.clone(), number, owner, may));
        }
        for (member, owned) in members.iter_mut().zip(owned) {
            *member = owning(member.clone(), assignor, 1, owned.into_iter().collect());
        }
        Self { members, cluster, partitions }
    }

    fn is_far(&self, topic: &str, number: i32, member: usize) -> bool {
        let replicas = &self.cluster.get(topic).expect("a topic").partitions[number as usize].racks;
        self.members[member]
            .rack_id
            .as_ref()
            .is_some_and(|rack| replicas.iter().all(|replica| **replica != **rack))
    }

    /// The best score, and with it the lowest cost: two for each move, three for each far reader.
    fn best(&self) -> (usize, usize) {
        let mut best = (usize::MAX, usize::MAX);
        let mut choice = vec![0; self.partitions.len()];
        loop {
            let mut sizes = vec![0; self.members.len()];
            let mut cost = 0;
            for ((topic, number, owner, may), &chosen) in self.partitions.iter().zip(&choice) {
                let member = may[chosen];
                sizes[member] += 1;
                cost += if owner.is_some_and(|owner| owner != member) { 2 } else { 0 };
                cost += if self.is_far(topic, *number, member) { 3 } else { 0 };
            }
            best = best.min((score(sizes), cost));
            // The next combination.
            let Some(at) = (0..choice.len()).find(|&at| choice[at] + 1 < self.partitions[at].3.len()) else {
                return best;
            };
            choice[at] += 1;
            choice[..at].fill(0);
        }
    }
}

fn check(seed: u64, racks: usize) {
    let mut random = Random(seed);
    for assignor in STICKY {
        let small = Small::new(&mut random, assignor, racks);
        let subscriptions_differ =
            small.members.iter().any(|member| member.topics != small.members[0].topics);
        let all_served = small.members.iter().filter_map(|member| member.rack_id.as_deref()).all(|rack| {
            small.partitions.iter().any(|(topic, number, ..)| {
                let info = &small.cluster.get(topic).expect("a topic").partitions[*number as usize];
                info.racks.iter().any(|replica| **replica == *rack)
            })
        });
        if !subscriptions_differ || !all_served {
            continue;
        }
        let answer = assignor.assign(&small.members, &small.cluster);
        let targets = targets(&answer);
        assert_eq!(targets.len(), small.partitions.len());
        let stays = |(topic, number, owner, _): &&(String, i32, Option<usize>, Vec<usize>)| {
            let target = &targets[&(topic.clone(), *number)];
            owner.is_none_or(|owner| small.members[owner].member_id == *target)
        };
        let moved = small.partitions.len() - small.partitions.iter().filter(stays).count();
        let cost = 2 * moved + 3 * far(&answer, &small.members, &small.cluster);
        assert_eq!(
            (score(sizes(&answer).into_values()), cost),
            small.best(),
            "seed {seed}: {:?}",
            small.members
        );
    }
}

#[test]
fn no_assignment_is_better_balanced_or_moves_less() {
    (0..400).for_each(|seed| check(seed, 0));
}

#[test]
fn no_assignment_is_better_when_racks_count() {
    (0..400).for_each(|seed| check(seed, 3));
}

#[test]
fn who_can_only_have_little_shares_it_evenly_all_the_same() {
    let cluster: ClusterTopics = [TopicInfo::new("a", 2), TopicInfo::new("b", 6)].into_iter().collect();
    for assignor in STICKY {
        let owned = vec![("a".to_owned(), vec![0, 1])];
        let group = [
            owning(member("m0", "a"), assignor, 1, owned),
            member("m1", "a other"),
            member("m2", "b"),
            member("m3", "b other"),
        ];
        let answer = assignor.assign(&group, &cluster);
        assert_eq!(sizes(&answer).into_values().collect::<Vec<_>>(), [1, 1, 3, 3]);
    }
}
