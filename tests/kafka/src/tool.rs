//! Kafka's own admin client, producer and `kafka-consumer-groups`, in a JVM that stays up between calls.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::Context;
use crate::node::POLL;
use crate::process::Lines;
use crate::{Distribution, Error, RecordSpec, Result, wire};

/// No call takes longer; big productions are a few seconds.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The running helper.
#[derive(Debug)]
pub struct Tool {
    lines: Lines,
    broken: bool,
    /// Where all brokers listen, if they run.
    brokers: Vec<SocketAddr>,
}

/// Where the records of one partition went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// The partition.
    pub partition: u32,
    /// The offset of its first record.
    pub first: i64,
    /// The offset of its last record.
    pub last: i64,
    /// How many there are.
    pub count: u64,
}

/// What a partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    /// The partition.
    pub partition: u32,
    /// The first offset there is.
    pub start: i64,
    /// The high watermark.
    pub end: i64,
}

/// What a consumer sees of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Offsets and values.
    pub records: Vec<(i64, String)>,
    /// Where the partition ends for it.
    pub end: i64,
}

/// A partition's replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicas {
    /// The leader, if there is one.
    pub leader: Option<u32>,
    /// All replicas, the preferred leader first.
    pub replicas: Vec<u32>,
    /// Those in sync.
    pub in_sync: Vec<u32>,
}

/// What the coordinator says of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// `Stable`, `PreparingRebalance`, `CompletingRebalance`, `Empty` or `Dead`.
    pub state: String,
    /// The assignor that was chosen.
    pub assignor: String,
    /// The coordinator's node id.
    pub coordinator: Option<u32>,
    /// The members.
    pub members: Vec<GroupMember>,
}

/// A member as the coordinator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// The member id.
    pub id: String,
    /// The client id.
    pub client_id: String,
    /// Topic → partitions.
    pub assignment: BTreeMap<String, Vec<u32>>,
}

impl Tool {
    /// `zookeeper` is asked for what brokers before 2.4 cannot be.
    pub(crate) fn start(
        distribution: &Distribution,
        bootstrap: &str,
        zookeeper: Option<SocketAddr>,
    ) -> Result<Self> {
        let log = distribution.helper_log("tool")?;
        let mut command = distribution.helper("512m");
        command.args(["ottla.Tool", bootstrap]);
        command.args(zookeeper.map(|address| address.to_string()));
        let brokers = bootstrap.split(',').filter_map(|address| address.parse().ok()).collect();
        Ok(Self { lines: Lines::start("the Java tool", &mut command, log)?, brokers, broken: false })
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    fn call(&mut self, command: &Value) -> Result<Value> {
        let answer = self.lines.send(&command.to_string()).and_then(|()| self.lines.next(TIMEOUT));
        let answer = answer.inspect_err(|_| self.broken = true)?;
        match answer.get("error").and_then(Value::as_str) {
            Some(error) => Err(Error::new(format!("{command} failed: {error}"))),
            None => Ok(answer),
        }
    }

    /// Creates a topic with the cluster's default replication; returns its id.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub fn create_topic(&mut self, topic: &str, partitions: u32) -> Result<String> {
        self.create_topic_with(topic, partitions, None, &[])
    }

    /// Creates a topic with a replication factor and settings; returns its id when every partition has a leader.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub fn create_topic_with(
        &mut self,
        topic: &str,
        partitions: u32,
        replication: Option<u16>,
        config: &[(&str, &str)],
    ) -> Result<String> {
        let config: BTreeMap<_, _> = config.iter().copied().collect();
        let answer = self.call(&json!({
            "command": "create_topic", "topic": topic, "partitions": partitions,
            "replication": replication.map_or(-1, i32::from), "config": config,
        }))?;
        Ok(text(&answer["id"]))
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub fn delete_topic(&mut self, topic: &str) -> Result<()> {
        self.call(&json!({"command": "delete_topic", "topic": topic})).map(drop)
    }

    /// Raises the number of partitions to `partitions`; returns when every broker that runs tells of them.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub fn create_partitions(&mut self, topic: &str, partitions: u32) -> Result<()> {
        self.call(&json!({"command": "create_partitions", "topic": topic, "partitions": partitions}))?;
        // The answer comes when the controller knows of them; whoever asks another broker next must not see fewer.
        let end = Instant::now() + TIMEOUT;
        for broker in &self.brokers {
            while let Ok(known) = wire::metadata(*broker, &[topic])
                && known.leaders.len() < partitions as usize
            {
                if Instant::now() > end {
                    return Err(Error::new(format!("{broker} does not tell of all partitions of {topic}")));
                }
                std::thread::sleep(POLL);
            }
        }
        Ok(())
    }

    /// Deletes the records of a partition below offset `before`.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub fn delete_records(&mut self, topic: &str, partition: u32, before: i64) -> Result<()> {
        let command =
            json!({"command": "delete_records", "topic": topic, "partition": partition, "before": before});
        self.call(&command).map(drop)
    }

    /// Changes settings of a topic.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub fn alter_topic(&mut self, topic: &str, config: &[(&str, &str)]) -> Result<()> {
        let config: BTreeMap<_, _> = config.iter().copied().collect();
        self.call(&json!({"command": "alter_topic", "topic": topic, "config": config})).map(drop)
    }

    /// The replicas of each partition, in order.
    ///
    /// # Errors
    /// When there is no such topic.
    pub fn replicas(&mut self, topic: &str) -> Result<Vec<Replicas>> {
        let answer = self.call(&json!({"command": "describe_topic", "topic": topic}))?;
        Ok(list(&answer["partitions"])
            .iter()
            .map(|p| Replicas {
                leader: number(&p["leader"]),
                replicas: numbers(&p["replicas"]),
                in_sync: numbers(&p["isr"]),
            })
            .collect())
    }

    /// First and end offset of each partition, in order.
    ///
    /// # Errors
    /// When there is no such topic.
    pub fn offsets(&mut self, topic: &str) -> Result<Vec<Offsets>> {
        let answer = self.call(&json!({"command": "offsets", "topic": topic}))?;
        Ok(list(&answer["partitions"])
            .iter()
            .map(|p| Offsets {
                partition: number(&p["partition"]).unwrap_or(0),
                start: p["start"].as_i64().unwrap_or(-1),
                end: p["end"].as_i64().unwrap_or(-1),
            })
            .collect())
    }

    /// What a group committed: topic and partition → offset and metadata.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub fn committed(&mut self, group: &str) -> Result<BTreeMap<(String, u32), (i64, String)>> {
        let answer = self.call(&json!({"command": "committed", "group": group}))?;
        Ok(list(&answer["partitions"])
            .iter()
            .map(|p| {
                let key = (text(&p["topic"]), number(&p["partition"]).unwrap_or(0));
                (key, (p["offset"].as_i64().unwrap_or(-1), text(&p["metadata"])))
            })
            .collect())
    }

    /// Sets the committed offset of a group without members.
    ///
    /// # Errors
    /// When the group has members.
    pub fn alter_committed(&mut self, group: &str, topic: &str, partition: u32, offset: i64) -> Result<()> {
        let command = json!({
            "command": "alter_committed", "group": group, "topic": topic, "partition": partition, "offset": offset,
        });
        self.call(&command).map(drop)
    }

    /// State and members of a group.
    ///
    /// # Errors
    /// When the coordinator does not answer; since 4.0 also when there is no such group.
    pub fn group(&mut self, group: &str) -> Result<Group> {
        let answer = self.call(&json!({"command": "describe_group", "group": group}))?;
        let members = list(&answer["members"])
            .iter()
            .map(|m| GroupMember {
                id: text(&m["id"]),
                client_id: text(&m["client_id"]),
                assignment: m["assignment"]
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(topic, partitions)| (topic.clone(), numbers(partitions)))
                    .collect(),
            })
            .collect();
        Ok(Group {
            state: text(&answer["state"]),
            assignor: text(&answer["assignor"]),
            coordinator: number(&answer["coordinator"]),
            members,
        })
    }

    /// Runs Kafka's own `kafka-consumer-groups` with these arguments and returns what it prints.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn consumer_groups(&mut self, arguments: &[&str]) -> Result<String> {
        let answer = self.call(&json!({"command": "consumer_groups", "arguments": arguments}))?;
        Ok(text(&answer["output"]))
    }

    /// Produces records by formula with the Java producer.
    ///
    /// # Errors
    /// When one cannot be produced, or their offsets have a gap.
    pub fn produce(&mut self, topic: &str, spec: &RecordSpec) -> Result<Vec<Produced>> {
        let answer = self.call(&spec.command(topic))?;
        let mut result = Vec::new();
        for p in list(&answer["partitions"]) {
            let produced = Produced {
                partition: number(&p["partition"]).unwrap_or(0),
                first: p["first"].as_i64().unwrap_or(-1),
                last: p["last"].as_i64().unwrap_or(-1),
                count: p["count"].as_u64().unwrap_or(0),
            };
            let span = u64::try_from(produced.last - produced.first + 1).unwrap_or(0);
            if span != produced.count {
                return Err(Error::new(format!("somebody else writes to {topic}: {produced:?}")));
            }
            result.push(produced);
        }
        Ok(result)
    }

    /// Writes values; with an id in the open transaction of that producer, or in a new one.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn transaction_send(
        &mut self,
        id: Option<&str>,
        topic: &str,
        partition: u32,
        values: &[String],
    ) -> Result<()> {
        let command = json!({
            "command": "transaction_send", "id": id, "topic": topic, "partition": partition, "values": values,
        });
        self.call(&command).map(drop)
    }

    /// Ends the open transaction of a producer; its markers are there when it returns.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub fn transaction_end(&mut self, id: &str, abort: bool) -> Result<()> {
        self.call(&json!({"command": "transaction_end", "id": id, "abort": abort})).map(drop)
    }

    /// What Java's consumer sees in each partition of a topic, and where it ends for it. `isolation` is
    /// `read_committed` or `read_uncommitted`.
    ///
    /// # Errors
    /// When it does not come to the end.
    pub fn read(&mut self, topic: &str, isolation: &str) -> Result<BTreeMap<u32, Seen>> {
        let answer = self.call(&json!({"command": "read", "topic": topic, "isolation": isolation}))?;
        let seen = |p: &Value| {
            let records = list(&p["values"]).iter();
            let records = records.map(|r| (r[0].as_i64().unwrap_or(-1), text(&r[1]))).collect();
            let end = p["end"].as_i64().unwrap_or(-1);
            (number(&p["partition"]).unwrap_or(0), Seen { records, end })
        };
        Ok(list(&answer["partitions"]).iter().map(seen).collect())
    }

    /// What [`RecordSpec::digest`] is in Java.
    ///
    /// # Errors
    /// When the helper has ended.
    pub fn digest(&mut self, spec: &RecordSpec) -> Result<u64> {
        let mut command = spec.command("");
        command["command"] = "digest".into();
        let answer = self.call(&command)?;
        u64::from_str_radix(&text(&answer["digest"]), 16).context(|| format!("no digest in {answer}"))
    }

    /// Makes broker `to` the leader of a partition and waits until it is.
    ///
    /// # Errors
    /// When it has not become the leader within half a minute.
    pub fn move_leader(&mut self, topic: &str, partition: u32, to: u32) -> Result<()> {
        let command = json!({"command": "move_leader", "topic": topic, "partition": partition, "to": to});
        self.call(&command).map(drop)
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|n| n.try_into().ok())
}

fn numbers(value: &Value) -> Vec<u32> {
    list(value).iter().filter_map(number).collect()
}
