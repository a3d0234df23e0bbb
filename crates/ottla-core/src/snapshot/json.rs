//! A snapshot in the shape of librdkafka's statistics.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::time::Duration;

use super::{BrokerSnapshot, Latency, PartitionSnapshot, Snapshot};

/// What librdkafka writes for an offset that is not known.
const NO_OFFSET: i64 = -1001;

/// What it writes for a lag that is not known, and for no broker.
const NONE: i64 = -1;

impl Snapshot {
    /// The figures as JSON in the shape of [librdkafka's statistics], for dashboards that read those.
    ///
    /// Only fields whose meaning is the same are there; what librdkafka has and this has not is left out. Times are in
    /// microseconds, `throttle` in milliseconds. `rtt` covers everything since the start, not a window, and has no
    /// percentiles. `fetchq_cnt` counts records as their batches declare them. `consumer_lag` counts from the committed offset, `consumer_lag_stored` from the position; `-1` is a
    /// lag and `-1001` an offset that is not known. What librdkafka has no field for is in the object `ottla`, with the
    /// names of [`Snapshot`]; times are in microseconds there, too.
    ///
    /// [librdkafka's statistics]: https://github.com/confluentinc/librdkafka/blob/master/STATISTICS.md
    pub fn to_json(&self) -> String {
        let traffic = &self.traffic;
        let mut json = Object::default();
        json.text("name", &self.client_id).text("client_id", &self.client_id).text("type", "consumer");
        json.number("ts", micros(self.age)).number("time", self.unix_millis.div_euclid(1000));
        json.number("age", micros(self.age));
        json.object("brokers", brokers(&self.brokers)).object("topics", topics(&self.partitions));
        if let Some(group) = &self.group {
            let mut cgrp = Object::default();
            cgrp.text("state", if group.coordinator.is_some() { "up" } else { "query-coord" });
            cgrp.text("join_state", group.state);
            cgrp.number("rebalance_age", group.since_rebalance.map_or(0, |d| d.as_millis()));
            cgrp.number("rebalance_cnt", group.rebalances).number("assignment_size", self.partitions.len());
            json.object("cgrp", cgrp);
        }
        json.number("tx", traffic.requests);
        json.number("tx_bytes", traffic.bytes_sent);
        json.number("rx", traffic.latency.count);
        json.number("rx_bytes", traffic.bytes_received);
        json.number("rxmsgs", self.records).number("rxmsg_bytes", self.bytes);
        json.object("ottla", self.more());
        json.finish()
    }
}

impl Snapshot {
    /// What librdkafka has no field for.
    fn more(&self) -> Object {
        let mut more = Object::default();
        more.object("fetch", window(&self.fetch)).object("commit", window(&self.commit));
        more.number("commits_failed", self.commits_failed);
        if let Some(group) = &self.group {
            more.object("rebalance", window(&group.rebalance)).object("heartbeat", window(&group.heartbeat));
        }
        more.number("buffered_bytes", self.buffered_bytes).number("held_bytes", self.held_bytes);
        more.number("since_read", self.since_read.map_or(0, micros));
        more.number("brokers_down", self.brokers_down);
        more.number("throttled_brokers", self.brokers.iter().filter(|broker| broker.throttled).count());
        let mut topics = Object::default();
        for topic in &self.topics {
            let mut one = Object::default();
            one.number("records", topic.records).number("bytes", topic.bytes);
            topics.object(&topic.topic, one);
        }
        let mut errors = Object::default();
        for (kind, count) in &self.errors {
            errors.number(kind.name(), count);
        }
        more.object("topics", topics).object("errors", errors);
        more
    }
}

fn brokers(brokers: &[BrokerSnapshot]) -> Object {
    let mut all = Object::default();
    for broker in brokers {
        let (traffic, node) = (&broker.traffic, format!("{}:{}", broker.host, broker.port));
        let id = broker.id.map_or(NONE, |id| i64::from(id.0));
        let name = match broker.id {
            Some(id) => format!("{node}/{}", id.0),
            None => format!("{node}/bootstrap"),
        };
        let mut one = Object::default();
        one.text("name", &name).number("nodeid", id).text("nodename", &node);
        one.text("source", if broker.id.is_some() { "learned" } else { "configured" });
        one.text("state", if broker.connected > 0 { "UP" } else { "DOWN" });
        one.number("waitresp_cnt", broker.in_flight);
        one.number("tx", traffic.requests).number("txbytes", traffic.bytes_sent);
        one.number("rx", traffic.latency.count).number("rxbytes", traffic.bytes_received);
        one.number("connects", traffic.connects).number("disconnects", traffic.disconnects);
        one.object("rtt", window(&traffic.latency));
        let mut throttle = Object::default();
        throttle.number("sum", traffic.throttled.as_millis());
        one.object("throttle", throttle);
        all.object(&name, one);
    }
    all
}

fn topics(partitions: &[PartitionSnapshot]) -> Object {
    let mut topics: BTreeMap<&str, Object> = BTreeMap::new();
    for p in partitions {
        let marks = &p.watermarks;
        let offset = |offset: Option<i64>| offset.unwrap_or(NO_OFFSET);
        let end = p.lag.zip(p.position).map(|(lag, position)| position.saturating_add(lag));
        let behind = end.zip(p.committed).map(|(end, committed)| end.saturating_sub(committed).max(0));
        let leader = p.leader.map_or(NONE, |leader| i64::from(leader.0));
        let mut one = Object::default();
        one.number("partition", p.topic_partition.partition())
            .number("broker", leader)
            .number("leader", leader);
        one.number("leader_epoch", p.leader_epoch.map_or(NONE, |epoch| i64::from(epoch.0)));
        one.text("fetch_state", if p.position.is_some() { "active" } else { "offset-query" });
        one.number("fetchq_cnt", p.buffered_records).number("fetchq_size", p.buffered_bytes);
        one.number("app_offset", offset(p.position)).number("stored_offset", offset(p.position));
        one.number("committed_offset", offset(p.committed));
        one.number("lo_offset", offset(marks.log_start_offset));
        one.number("hi_offset", offset(marks.high_watermark));
        one.number("ls_offset", offset(marks.last_stable_offset));
        one.number("consumer_lag", behind.unwrap_or(NONE));
        one.number("consumer_lag_stored", p.lag.unwrap_or(NONE));
        one.number("rxmsgs", p.records).number("rxbytes", p.bytes);
        let topic = topics.entry(p.topic_partition.topic()).or_default();
        topic.object(&p.topic_partition.partition().to_string(), one);
    }
    let mut all = Object::default();
    for (name, partitions) in topics {
        let mut topic = Object::default();
        topic.text("topic", name).object("partitions", partitions);
        all.object(name, topic);
    }
    all
}

fn window(latency: &Latency) -> Object {
    let mut window = Object::default();
    window.number("max", micros(latency.max)).number("avg", micros(latency.mean()));
    window.number("sum", micros(latency.sum)).number("cnt", latency.count);
    window
}

fn micros(duration: Duration) -> u128 {
    duration.as_micros()
}

/// A JSON object that is being written.
#[derive(Default)]
struct Object(String);

impl Object {
    fn key(&mut self, key: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        quote(&mut self.0, key);
        self.0.push(':');
    }

    fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key);
        quote(&mut self.0, value);
        self
    }

    fn number(&mut self, key: &str, value: impl Display) -> &mut Self {
        self.key(key);
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{value}");
        self
    }

    fn object(&mut self, key: &str, value: Self) -> &mut Self {
        self.key(key);
        self.0.push_str(&value.finish());
        self
    }

    fn finish(mut self) -> String {
        if self.0.is_empty() {
            self.0.push('{');
        }
        self.0.push('}');
        self.0
    }
}

fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_does_not_allow_in_a_text_is_escaped() {
        let mut out = String::new();
        quote(&mut out, "a\"b\\c\n\u{1}é");
        assert_eq!(out, "\"a\\\"b\\\\c\\u000a\\u0001é\"");
    }

    #[test]
    fn objects_are_nested_and_may_be_empty() {
        let mut inner = Object::default();
        inner.number("n", -1).text("t", "x");
        let mut outer = Object::default();
        outer.object("a", inner).object("b", Object::default());
        assert_eq!(outer.finish(), r#"{"a":{"n":-1,"t":"x"},"b":{}}"#);
    }
}
