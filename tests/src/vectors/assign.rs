//! The family `assign`: partition assignors.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_core::assignor::{Assignor, ClusterTopics, GroupMember, PartitionInfo, TopicInfo};
use ottla_wire::consumer_protocol::Subscription;
use serde_json::Value;

use super::sha256::Sha256;
use super::{Report, files, hex, lines, unhex};

type Lists = BTreeMap<String, Vec<(String, Vec<i32>)>>;

/// Runs every vector of the family in `dir`.
pub fn run(dir: &Path) -> Report {
    let mut report = Report::new("assign");
    for line in files(dir, "assign").iter().flat_map(|file| lines(file)) {
        let id = text(&line["id"]);
        if line["shape"].is_null() {
            judge(&mut report, id, Case::read(&line).and_then(|case| case.check(&line["expect"])));
        } else {
            judge(&mut report, id, large(&line).0);
        }
    }
    report
}

fn judge(report: &mut Report, id: &str, outcome: Result<Option<String>, String>) {
    match outcome {
        Ok(Some(reason)) => report.except(id, &reason),
        outcome => report.count(id, outcome.map(|_| ())),
    }
}

/// The groups by formula: id, what our call took, what Java's call took.
pub fn timings(dir: &Path) -> Vec<(String, Duration, Duration)> {
    lines(&dir.join("assign/large.jsonl"))
        .iter()
        .map(|line| {
            let java = u64::try_from(number(&line["expect"]["javaMicros"])).expect("a time");
            (text(&line["id"]).to_owned(), large(line).1, Duration::from_micros(java))
        })
        .collect()
}

/// A line of `subscription/userdata.jsonl`: what the sticky assignors add to a subscription and take from it.
pub fn userdata_line(line: &Value) -> Result<(), String> {
    let assignor = assignor(line)?;
    let subscription = &line["inSubscription"];
    let member = GroupMember {
        member_id: "m".to_owned(),
        topics: strings(&subscription["topics"]),
        owned_partitions: pairs(&subscription["ownedPartitions"]),
        generation_id: int(&subscription["generationId"]),
        rack_id: subscription["rackId"].as_str().map(str::to_owned),
        user_data: subscription["userData"].as_str().map(|hex| Bytes::from(unhex(hex))),
        ..GroupMember::default()
    };
    let (owned, generation) = assignor.previous_assignment(&member);
    let expected = pairs(&line["expect"]["owned"]);
    same("owned", &sorted_topics(owned), &sorted_topics(expected))?;
    same("generation", &generation, &int(&line["expect"]["generation"]))?;

    let written = match text(&line["case"]) {
        "never assigned" => assignor.subscription_user_data(&[], -1),
        "after an assignment" => {
            let generation = int(&line["generation"]).ok_or("no generation")?;
            assignor.subscription_user_data(&pairs(&line["assigned"]), generation)
        }
        _ => return Ok(()),
    };
    let topics: BTreeSet<&str> =
        line["assigned"].as_array().into_iter().flatten().map(|entry| text(&entry[0])).collect();
    if assignor == Assignor::Sticky && topics.len() > 1 {
        // Java writes the topics in the order of a hash table: compare what it says.
        let read = |user_data: Option<Bytes>| {
            let (owned, generation) =
                assignor.previous_assignment(&GroupMember { user_data, ..member.clone() });
            (sorted_topics(owned), generation)
        };
        let java = Some(Bytes::from(unhex(text(&line["hex"]))));
        same("length", &written.as_ref().map(Bytes::len), &java.as_ref().map(Bytes::len))?;
        same("what the bytes say", &read(written), &read(java))
    } else {
        same("bytes", &written.map(|bytes| hex(&bytes)), &line["hex"].as_str().map(str::to_owned))
    }
}

/// One group of the random families.
struct Case {
    assignor: Assignor,
    topics: ClusterTopics,
    members: Vec<GroupMember>,
}

impl Case {
    fn read(line: &Value) -> Result<Self, String> {
        let racks: BTreeMap<String, Arc<str>> = line["brokerRacks"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(broker, rack)| Some((broker.clone(), Arc::from(rack.as_str()?))))
            .collect();
        let topics = array(&line["topics"]).iter().map(|topic| {
            let partitions = (0..usize::try_from(number(&topic["partitions"])).expect("a count"))
                .map(|index| {
                    let replicas = topic["replicas"][index].as_array().into_iter().flatten();
                    PartitionInfo {
                        racks: replicas
                            .filter_map(|broker| racks.get(&broker.to_string()).cloned())
                            .collect(),
                    }
                })
                .collect();
            TopicInfo { name: text(&topic["name"]).to_owned(), partitions }
        });
        let topics = topics.collect();
        let members = array(&line["members"]).iter().map(member).collect::<Result<_, _>>()?;
        Ok(Self { assignor: assignor(line)?, topics, members })
    }

    /// Whether the answer is right; if it is so by another measure than Java's, the reason.
    fn check(&self, expect: &Value) -> Result<Option<String>, String> {
        let answer = self.assignor.assign(&self.members, &self.topics);
        let mut shuffled = self.members.clone();
        shuffled.reverse();
        same(
            "the answer with the members turned round",
            &self.assignor.assign(&shuffled, &self.topics),
            &answer,
        )?;
        let targets = self.valid(answer.members(), answer.withheld())?;
        if !expect["error"].is_null() || !expect["javaFaults"].is_null() {
            return Ok(None);
        }
        let sticky = matches!(self.assignor, Assignor::Sticky | Assignor::CooperativeSticky);
        let subscriptions: BTreeSet<BTreeSet<&String>> =
            self.members.iter().map(|member| member.topics.iter().collect()).collect();
        let exact = expect["exact"] == Value::Bool(true) && (!sticky || subscriptions.len() < 2);
        if exact {
            same("assignment", answer.members(), &lists(&expect["assignment"]))?;
            if self.assignor == Assignor::CooperativeSticky {
                let mut withheld = lists(&expect["withheld"]);
                withheld.retain(|_, topics| !topics.is_empty());
                same("withheld", answer.withheld(), &withheld)?;
            }
        }
        let mut sizes: BTreeMap<&str, i64> = self.members.iter().map(|m| (m.member_id.as_str(), 0)).collect();
        targets.values().for_each(|member| *sizes.get_mut(member).expect("a member") += 1);
        let score = balance_score(sizes.values().copied().collect());
        let owners = self.owners();
        if sticky {
            same("previouslyOwned", &(owners.len() as i64), &number(&expect["previouslyOwned"]))?;
        }
        let moved =
            owners.iter().filter(|(partition, owner)| targets.get(*partition) != Some(*owner)).count() as i64;
        let mismatches =
            targets.iter().filter(|(partition, member)| self.mismatch(partition, member)).count() as i64;
        no_worse("balanceScore", score, &expect["balanceScore"])?;
        if Some(score) == expect["balanceScore"].as_i64() {
            let (java_moved, java_mismatches) = (expect["moved"].as_i64(), expect["rackMismatches"].as_i64());
            return match (java_moved, java_mismatches) {
                // Racks against moves, in a case where no answer is right: neither beats the other in both.
                (Some(java_moved), Some(java))
                    if subscriptions.len() > 1 && moved < java_moved && mismatches > java =>
                {
                    Ok(Some(format!(
                        "fewer moves ({moved}, Java {java_moved}), more far readers ({mismatches}, Java {java})"
                    )))
                }
                (Some(java_moved), Some(java))
                    if subscriptions.len() > 1 && moved > java_moved && mismatches < java =>
                {
                    Ok(Some(format!(
                        "more moves ({moved}, Java {java_moved}), fewer far readers ({mismatches}, Java {java})"
                    )))
                }
                _ => no_worse("moved", moved, &expect["moved"])
                    .and_then(|()| no_worse("rackMismatches", mismatches, &expect["rackMismatches"]))
                    .map(|()| None),
            };
        }
        Ok(None)
    }

    /// Each partition of each subscribed topic that exists goes to exactly one member subscribed to it.
    fn valid<'a>(
        &self,
        assigned: &'a Lists,
        withheld: &'a Lists,
    ) -> Result<BTreeMap<(&'a str, i32), &'a str>, String> {
        let subscribed: BTreeMap<&str, BTreeSet<&str>> = self
            .members
            .iter()
            .map(|member| (member.member_id.as_str(), member.topics.iter().map(String::as_str).collect()))
            .collect();
        same(
            "members",
            &assigned.keys().map(String::as_str).collect::<Vec<_>>(),
            &subscribed.keys().copied().collect(),
        )?;
        let mut targets = BTreeMap::new();
        for (member, topics) in assigned.iter().chain(withheld) {
            for (topic, partitions) in topics {
                if !subscribed[member.as_str()].contains(topic.as_str()) {
                    return Err(format!("{member} is not subscribed to {topic}"));
                }
                for &partition in partitions {
                    if let Some(other) = targets.insert((topic.as_str(), partition), member.as_str()) {
                        return Err(format!("{topic}-{partition} goes to {other} and to {member}"));
                    }
                }
            }
        }
        let wanted: BTreeSet<&str> = subscribed.values().flatten().copied().collect();
        let exist = self.topics.iter().filter(|topic| wanted.contains(topic.name.as_str()));
        let exist: usize = exist.map(|topic| topic.partitions.len()).sum();
        let known = targets.keys().filter(|(topic, partition)| {
            let count = self.topics.get(topic).map_or(0, |topic| topic.partitions.len());
            usize::try_from(*partition).is_ok_and(|partition| partition < count)
        });
        same("partitions assigned that exist", &known.count(), &exist)?;
        same("partitions assigned", &targets.len(), &exist)?;
        Ok(targets)
    }

    /// Partitions that exist, with one owner by the highest generation that claims them among the subscribed.
    fn owners(&self) -> BTreeMap<(&str, i32), &str> {
        let mut claims: BTreeMap<(String, i32), Vec<(i32, &str)>> = BTreeMap::new();
        for member in &self.members {
            let (owned, generation) = self.assignor.previous_assignment(member);
            for (topic, partition) in
                owned.into_iter().flat_map(|(t, list)| list.into_iter().map(move |p| (t.clone(), p)))
            {
                if member.topics.contains(&topic) {
                    let claim = (generation.unwrap_or(-1), member.member_id.as_str());
                    claims.entry((topic, partition)).or_default().push(claim);
                }
            }
        }
        let mut owners = BTreeMap::new();
        for ((topic, partition), mut claims) in claims {
            claims.sort_unstable();
            claims.dedup();
            let Some(&(generation, member)) = claims.last() else { continue };
            let alone = claims.iter().filter(|claim| claim.0 == generation).count() == 1;
            let Some(info) = self.topics.get(&topic) else { continue };
            if alone && usize::try_from(partition).is_ok_and(|p| p < info.partitions.len()) {
                owners.insert((info.name.as_str(), partition), member);
            }
        }
        owners
    }

    fn mismatch(&self, (topic, partition): &(&str, i32), member: &str) -> bool {
        let rack = self.members.iter().find(|m| m.member_id == member).and_then(|m| m.rack_id.as_deref());
        let partition = self.topics.get(topic).and_then(|topic| topic.partitions.get(*partition as usize));
        rack.is_some_and(|rack| partition.is_some_and(|p| p.racks.iter().all(|replica| **replica != *rack)))
    }
}

/// Sum over all pairs of the difference.
fn balance_score(mut sizes: Vec<i64>) -> i64 {
    sizes.sort_unstable();
    let last = sizes.len() as i64 - 1;
    sizes.iter().zip(0..).map(|(size, at)| size * (2 * at - last)).sum()
}

fn no_worse(what: &str, ours: i64, java: &Value) -> Result<(), String> {
    match java.as_i64() {
        Some(java) if ours > java => Err(format!("{what} is {ours}, with Java {java}")),
        _ => Ok(()),
    }
}

/// A member as its join request describes it; what the vector says of it must be what the bytes say.
fn member(json: &Value) -> Result<GroupMember, String> {
    let owned = json["owned"].as_object().into_iter().flatten();
    let said = GroupMember {
        member_id: text(&json["id"]).to_owned(),
        group_instance_id: json["instanceId"].as_str().map(str::to_owned),
        topics: strings(&json["topics"]),
        owned_partitions: owned.map(|(topic, list)| (topic.clone(), ints(list))).collect(),
        generation_id: int(&json["generation"]),
        rack_id: json["rack"].as_str().map(str::to_owned),
        user_data: json["userData"].as_str().map(|hex| Bytes::from(unhex(hex))),
    };
    let subscription =
        Subscription::decode(&unhex(text(&json["subscription"]))).map_err(|e| e.to_string())?;
    let read = GroupMember::new(said.member_id.clone(), said.group_instance_id.clone(), subscription);
    let sorted = |member: &GroupMember| GroupMember {
        owned_partitions: sorted_topics(member.owned_partitions.clone()),
        ..member.clone()
    };
    same("member", &sorted(&read), &sorted(&said))?;
    Ok(read)
}

/// A group by formula.
fn large(line: &Value) -> (Result<Option<String>, String>, Duration) {
    let count = |key: &str| usize::try_from(number(&line[key])).expect("a count");
    let (topics, per_topic, size) = (count("topics"), count("partitionsPerTopic"), count("members"));
    let (shape, prior) = (text(&line["shape"]), text(&line["prior"]));
    let assignor = assignor(line).expect("an assignor");
    let racks: [Arc<str>; 3] = std::array::from_fn(|rack| Arc::from(format!("rack-{rack}")));
    let subscribed = |member: usize, topic: usize| shape != "subset" || (7 * member + 13 * topic) % 10 < 3;
    let names: Vec<String> = (0..topics).map(|topic| format!("topic-{topic:05}")).collect();
    let cluster: ClusterTopics = (0..topics)
        .map(|topic| {
            let partitions = (0..per_topic).map(|partition| {
                let rack = |shift: usize| racks[(topic + partition + shift) % 9 % 3].clone();
                PartitionInfo { racks: if shape == "racks" { vec![rack(0), rack(3)] } else { Vec::new() } }
            });
            TopicInfo { name: names[topic].clone(), partitions: partitions.collect() }
        })
        .collect();
    let first = if prior == "changed" { size / 10 } else { 0 };
    let mut members: Vec<GroupMember> = (first..first + size)
        .enumerate()
        .map(|(index, member)| GroupMember {
            member_id: format!("member-{member:05}"),
            topics: (0..topics)
                .filter(|&topic| subscribed(member, topic))
                .map(|topic| names[topic].clone())
                .collect(),
            rack_id: (shape == "racks").then(|| racks[index % 3].to_string()),
            ..GroupMember::default()
        })
        .collect();
    if prior != "none" {
        let mut owned: Vec<Vec<(String, Vec<i32>)>> = vec![Vec::new(); first + size];
        for partition in 0..topics * per_topic {
            let (topic, member) = (partition / per_topic, partition % size);
            if subscribed(member, topic) {
                let number = i32::try_from(partition % per_topic).expect("a partition");
                match owned[member].last_mut() {
                    Some((name, list)) if *name == names[topic] => list.push(number),
                    _ => owned[member].push((names[topic].clone(), vec![number])),
                }
            }
        }
        for (member, owned) in members.iter_mut().zip(owned.into_iter().skip(first)).take(size - first) {
            member.user_data = assignor.subscription_user_data(&owned, 5);
            if assignor == Assignor::CooperativeSticky {
                member.generation_id = Some(5);
                member.owned_partitions = owned;
            }
        }
    }
    let started = Instant::now();
    let answer = assignor.assign(&members, &cluster);
    let took = started.elapsed();

    let expect = &line["expect"];
    let case = Case { assignor, topics: cluster, members };
    let verdict = if shape == "subset" && matches!(assignor, Assignor::Sticky | Assignor::CooperativeSticky) {
        case.check(expect)
    } else {
        let mut out = String::new();
        for (member, topics) in answer.members() {
            for (topic, list) in topics {
                let list: Vec<String> = list.iter().map(i32::to_string).collect();
                out.push_str(&format!("{member}\t{topic}\t{}\n", list.join(",")));
            }
        }
        let partitions =
            |lists: &Lists| lists.values().flatten().map(|(_, list)| list.len() as i64).sum::<i64>();
        same("assigned", &partitions(answer.members()), &number(&expect["assigned"]))
            .and_then(|()| same("withheld", &partitions(answer.withheld()), &number(&expect["withheld"])))
            .and_then(|()| {
                same("hash of the assignment", &Sha256::of(out.as_bytes()).as_str(), &text(&expect["sha256"]))
            })
            .map(|()| None)
    };
    (verdict, took)
}

fn assignor(line: &Value) -> Result<Assignor, String> {
    let name = text(&line["assignor"]);
    Assignor::from_name(name).ok_or_else(|| format!("no assignor {name}"))
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, ours: &T, expected: &T) -> Result<(), String> {
    if ours == expected { Ok(()) } else { Err(format!("{what}: expected {expected:?}, is {ours:?}")) }
}

fn lists(json: &Value) -> Lists {
    let of_member = |topics: &Value| {
        let topics = topics.as_object().into_iter().flatten();
        sorted_topics(topics.map(|(topic, list)| (topic.clone(), ints(list))).collect())
    };
    json.as_object()
        .into_iter()
        .flatten()
        .map(|(member, topics)| (member.clone(), of_member(topics)))
        .collect()
}

fn sorted_topics(mut topics: Vec<(String, Vec<i32>)>) -> Vec<(String, Vec<i32>)> {
    topics.sort();
    topics
}

/// Pairs of topic and partition, grouped by topic.
fn pairs(json: &Value) -> Vec<(String, Vec<i32>)> {
    let mut topics: Vec<(String, Vec<i32>)> = Vec::new();
    for entry in json.as_array().into_iter().flatten() {
        let partition = int(&entry[1]).expect("a partition");
        match topics.iter_mut().find(|(topic, _)| topic == text(&entry[0])) {
            Some((_, list)) => list.push(partition),
            None => topics.push((text(&entry[0]).to_owned(), vec![partition])),
        }
    }
    topics
}

fn text(json: &Value) -> &str {
    json.as_str().unwrap_or_else(|| panic!("no string: {json}"))
}

fn number(json: &Value) -> i64 {
    json.as_i64().unwrap_or_else(|| panic!("no number: {json}"))
}

fn int(json: &Value) -> Option<i32> {
    json.as_i64().map(|n| i32::try_from(n).expect("an int32"))
}

fn ints(json: &Value) -> Vec<i32> {
    array(json).iter().map(|n| int(n).expect("an int32")).collect()
}

fn strings(json: &Value) -> Vec<String> {
    array(json).iter().map(|name| text(name).to_owned()).collect()
}

fn array(json: &Value) -> &[Value] {
    json.as_array().map_or(&[], Vec::as_slice)
}
