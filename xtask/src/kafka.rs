//! `cargo xtask kafka`: a real Kafka to try things on.

use ottla_kafka::{DEFAULT_VERSION, KafkaCluster, RecordSpec, Running, StartOptions};

const USAGE: &str = "\
usage: cargo xtask kafka start [--version 4.3.1] [--brokers 1..9]
       cargo xtask kafka stop [--version 4.3.1]      all of them without a version
       cargo xtask kafka status
       cargo xtask kafka produce TOPIC COUNT [PARTITIONS [BYTES [CODEC]]]
           records by formula into a topic of the running cluster, which is created if it is missing
           (1 partition, 100 bytes, none)";

pub(crate) fn run(arguments: &[&str]) -> Result<(), String> {
    match arguments {
        ["start", options @ ..] => start(options),
        ["stop"] => stop(None),
        ["stop", "--version", version] => stop(Some(version)),
        ["status"] => status(),
        ["produce", topic, count, rest @ ..] if rest.len() <= 3 => produce(topic, count, rest),
        _ => Err(USAGE.to_owned()),
    }
}

fn start(mut options: &[&str]) -> Result<(), String> {
    let mut version = DEFAULT_VERSION;
    let mut brokers = 1;
    while let [name, value, rest @ ..] = options {
        match *name {
            "--version" => version = value,
            "--brokers" => {
                brokers = value
                    .parse()
                    .ok()
                    .filter(|n| (1..=9).contains(n))
                    .ok_or_else(|| format!("--brokers takes a number from 1 to 9, not {value:?}"))?;
            }
            _ => return Err(USAGE.to_owned()),
        }
        options = rest;
    }
    if !options.is_empty() {
        return Err(USAGE.to_owned());
    }
    eprintln!("starting Kafka {version} (the first time its jars are resolved with Maven)");
    let running = Running::start(&StartOptions::new(version).brokers(brokers)).map_err(|e| e.to_string())?;
    println!("{}", running.bootstrap);
    eprintln!("Kafka {version} is ready; `cargo xtask kafka stop` ends it");
    Ok(())
}

fn stop(version: Option<&str>) -> Result<(), String> {
    let mut failures = Vec::new();
    let running = Running::list().into_iter().filter(|r| version.is_none_or(|v| v == r.version));
    for cluster in running {
        let name = cluster.version.clone();
        match cluster.stop() {
            Ok(()) => println!("stopped Kafka {name}"),
            Err(error) => failures.push(error.to_string()),
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

fn status() -> Result<(), String> {
    let running = Running::list();
    if running.is_empty() {
        println!("no Kafka is running");
    }
    for cluster in running {
        let state = if cluster.is_ready() { "ready" } else { "not ready" };
        println!("Kafka {} at {}: {state}", cluster.version, cluster.bootstrap);
    }
    Ok(())
}

fn produce(topic: &str, count: &str, rest: &[&str]) -> Result<(), String> {
    let number =
        |text: &str| text.replace('_', "").parse::<u64>().map_err(|_| format!("{text:?} is not a number"));
    let small = |text: Option<&&str>, default: u32| {
        let value = text.map_or(Ok(u64::from(default)), |t| number(t))?;
        u32::try_from(value).map_err(|_| format!("{value} is too large"))
    };
    let partitions = small(rest.first(), 1)?;
    let bytes = small(rest.get(1), 100)?;
    let codec = rest.get(2).copied().unwrap_or("none");
    let Some(running) = Running::list().into_iter().next_back() else {
        return Err("no Kafka is running; `cargo xtask kafka start` starts one".to_owned());
    };
    let work = || -> ottla_kafka::Result<()> {
        let cluster = KafkaCluster::running(&running.version, &running.bootstrap)?;
        let mut tool = cluster.tool()?;
        if tool.offsets(topic).is_err() {
            tool.create_topic(topic, partitions)?;
        }
        let spec = RecordSpec::new(number(count).unwrap_or(0))
            .partitions(partitions)
            .value_size(bytes, bytes)
            .codec(codec)
            .batching(128 << 10, 20);
        for p in tool.produce(topic, &spec)? {
            println!("{topic}-{}: {} records, offsets {} to {}", p.partition, p.count, p.first, p.last);
        }
        Ok(())
    };
    number(count)?;
    work().map_err(|e| e.to_string())
}
