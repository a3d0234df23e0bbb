//! The harness itself on real Kafka: what the suites build on must not be what fails.

use std::time::Duration;

use ottla_kafka::{
    Event, KafkaCluster, Member, MemberSpec, RecordSpec, Result, shared, unique, versions, wire,
};

const LONG: Duration = Duration::from_secs(60);

#[test]
fn records_arrive_where_the_tool_says() -> Result<()> {
    for version in versions() {
        let kafka = shared(&version)?;
        let topic = unique("produce");
        let mut tool = kafka.tool()?;
        tool.create_topic(&topic, 3)?;
        for (round, codec) in ["none", "gzip", "snappy", "lz4", "zstd"].into_iter().enumerate() {
            let spec = RecordSpec::new(300).partitions(3).codec(codec).headers().nulls();
            for produced in tool.produce(&topic, &spec)? {
                assert_eq!((produced.first, produced.count), (round as i64 * 100, 100));
            }
        }
        tool.delete_records(&topic, 1, 40)?;
        let offsets = tool.offsets(&topic)?;
        assert_eq!(
            offsets.iter().map(|o| (o.start, o.end)).collect::<Vec<_>>(),
            [(0, 500), (40, 500), (0, 500)]
        );
    }
    Ok(())
}

#[test]
fn the_formula_is_the_same_in_both_languages() -> Result<()> {
    for version in versions() {
        let kafka = shared(&version)?;
        let spec =
            RecordSpec::new(2_000).seed(u64::MAX - 5).partitions(7).nulls().headers().value_size(0, 300);
        for spec in [spec.clone().big(40, 100_000), spec.partition(3).first(1 << 40), RecordSpec::new(10)] {
            assert_eq!(kafka.tool()?.digest(&spec)?, spec.digest(), "{spec:?}");
        }
    }
    Ok(())
}

#[test]
fn a_transaction_leaves_its_marker() -> Result<()> {
    for version in versions() {
        let kafka = shared(&version)?;
        let topic = unique("transaction");
        let mut tool = kafka.tool()?;
        tool.create_topic(&topic, 1)?;
        tool.produce(&topic, &RecordSpec::new(10).transaction(&unique("tx"), true))?;
        assert_eq!(tool.offsets(&topic)?[0].end, 11);
    }
    Ok(())
}

#[test]
fn topics_can_be_changed_and_deleted() -> Result<()> {
    for version in versions() {
        let kafka = shared(&version)?;
        let topic = unique("change");
        let mut tool = kafka.tool()?;
        tool.create_topic_with(&topic, 1, Some(1), &[("cleanup.policy", "compact")])?;
        assert!(tool.create_topic(&topic, 1).is_err_and(|e| e.to_string().contains("TopicExists")));
        tool.create_partitions(&topic, 4)?;
        assert_eq!(tool.replicas(&topic)?.len(), 4);
        tool.alter_topic(&topic, &[("segment.ms", "1000")])?;
        tool.delete_topic(&topic)?;
    }
    Ok(())
}

/// Reads until both members have taken over what they share and all records have been seen.
#[test]
fn a_java_and_a_librdkafka_member_share_a_group() -> Result<()> {
    for version in versions() {
        let kafka = shared(&version)?;
        let (topic, group) = (unique("mixed"), unique("mixed"));
        let mut tool = kafka.tool()?;
        tool.create_topic(&topic, 4)?;
        tool.produce(&topic, &RecordSpec::new(400).partitions(4))?;
        let java = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor";
        let spec = MemberSpec::new(&group, &[&topic]).commit_each_poll();
        let mut first = Member::java(&kafka, &spec.clone().property("partition.assignment.strategy", java))?;
        let mut count = 0;
        first.until(LONG, |event| {
            count += if let Event::Records { count, .. } = event { *count } else { 0 };
            count == 400
        })?;
        first.until(LONG, |event| *event == Event::Committed)?;
        let spec = spec.property("partition.assignment.strategy", "cooperative-sticky");
        let mut second = Member::librdkafka(&kafka, &spec)?;
        let mut owned = 0;
        second.until(LONG, |event| {
            owned += if let Event::Assigned(list) = event { list.len() } else { 0 };
            owned == 2
        })?;
        let described = tool.group(&group)?;
        assert_eq!((described.state.as_str(), described.assignor.as_str()), ("Stable", "cooperative-sticky"));
        assert!(described.members.iter().all(|m| m.assignment[&topic].len() == 2), "{described:?}");
        second.close(LONG)?;
        first.until(LONG, |event| matches!(event, Event::Assigned(list) if list.len() == 2))?;
        assert_eq!(tool.committed(&group)?.values().map(|(offset, _)| offset).sum::<i64>(), 400);
        let text = tool.consumer_groups(&["--describe", "--group", &group])?;
        assert!(text.contains(&topic) && text.contains("LAG"), "{text}");
        first.close(LONG)?;
    }
    Ok(())
}

#[test]
fn brokers_stop_die_and_come_back() -> Result<()> {
    for version in versions() {
        let mut kafka = KafkaCluster::start(&version, 3)?;
        let topic = unique("brokers");
        {
            let mut tool = kafka.tool()?;
            tool.create_topic(&topic, 3)?;
            tool.move_leader(&topic, 0, 2)?;
            tool.produce(&topic, &RecordSpec::new(30).partitions(3))?;
        }
        kafka.stop_node(2)?;
        assert!(wire::api_versions(kafka.node_address(2)?).is_err());
        kafka.tool()?.produce(&topic, &RecordSpec::new(30).partitions(3))?;
        kafka.restart_node(2)?;
        kafka.kill_node(3)?;
        kafka.tool()?.produce(&topic, &RecordSpec::new(30).partitions(3))?;
        kafka.restart_node(3)?;
        let offsets = kafka.tool()?.offsets(&topic)?;
        assert!(offsets.iter().all(|o| o.end == 30), "{offsets:?}");
    }
    Ok(())
}
