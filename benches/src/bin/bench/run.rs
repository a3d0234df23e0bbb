//! The rounds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::time::Instant;

use serde_json::json;

use ottla_benches::fill::Filling;
use ottla_benches::{Result, data};
use ottla_kafka::{DEFAULT_VERSION, KafkaCluster, StartOptions, unique};

use crate::Options;
use crate::clients::{Pinning, Program, Run, program};
use crate::plan::{WORK_SETS, WorkSet};
use crate::report;

/// Fetches of all clients that take a setting.
const FETCH_BYTES: u64 = 1 << 20;
/// A row whose ratios spread wider is measured again, once.
const WIDEST: f64 = 0.15;

/// The runs of one work set: for each client one per round.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) runs: BTreeMap<&'static str, Vec<Run>>,
    /// Clients that could not be measured, and why.
    pub(crate) missing: BTreeMap<&'static str, String>,
    pub(crate) repeated: bool,
}

/// Runs what is asked for.
pub(crate) fn all(options: &Options) -> Result<()> {
    let sets: Vec<&WorkSet> = WORK_SETS.iter().filter(|set| options.wants(set.name)).collect();
    if options.list {
        for set in &sets {
            println!("{:<16} {}: {}", set.name, set.what, set.clients.join(", "));
        }
        return Ok(());
    }
    if sets.is_empty() {
        return Err("there is no such work set; --list names them".into());
    }
    let pinning = Pinning::set_up();
    eprintln!("{}", pinning.text());
    let lines = ottla_kafka::target_dir().join("bench");
    std::fs::create_dir_all(&lines)?;
    let mut lines = File::create(lines.join("runs.jsonl"))?;
    let start = Instant::now();
    let brokers: BTreeSet<u32> = sets.iter().map(|set| set.brokers).collect();
    let mut all = Vec::new();
    for brokers in brokers {
        let cluster = cluster(options, brokers)?;
        for set in sets.iter().filter(|set| set.brokers == brokers) {
            let results = work_set(options, &cluster, set, pinning, &mut lines)?;
            println!("\n{}", report::work_set(set, &results));
            all.push((*set, results));
        }
    }
    eprintln!("took {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn cluster(options: &Options, brokers: u32) -> Result<KafkaCluster> {
    if let Some(bootstrap) = &options.bootstrap {
        return Ok(KafkaCluster::running(DEFAULT_VERSION, bootstrap)?);
    }
    eprintln!("starting Kafka {DEFAULT_VERSION} with {brokers} broker(s)");
    let options = StartOptions::new(DEFAULT_VERSION).brokers(brokers);
    // Old segments are never read from disk, and deleting them is no work.
    Ok(options
        .property("log.segment.bytes", "1073741824")
        .property("default.replication.factor", "1")
        .start()?)
}

/// Fills a topic, runs all clients in turn, round after round, and removes the topic.
fn work_set(
    options: &Options,
    cluster: &KafkaCluster,
    set: &WorkSet,
    pinning: Pinning,
    lines: &mut File,
) -> Result<Results> {
    let topic = unique(set.name);
    cluster.tool()?.create_topic_with(&topic, set.partitions, Some(1), &[])?;
    let filling = Filling {
        partitions: set.partitions,
        records: if options.quick { set.records / 3 } else { set.records },
        batch_records: set.batch_records(),
        value_bytes: set.value_bytes,
        codec: data::codec(set.codec).ok_or("no such codec")?,
    };
    let start = Instant::now();
    let bytes = filling.fill(cluster.address()?, &topic)?;
    eprintln!(
        "{}: {} records, {} MiB on disk, written in {:.1} s",
        set.name,
        filling.total(),
        bytes >> 20,
        start.elapsed().as_secs_f64()
    );
    let mut results = Results::default();
    let mut programs: Vec<(&'static str, Program)> = Vec::new();
    for client in set.clients {
        match program(client) {
            Ok(program) => programs.push((client, program)),
            Err(why) => drop(results.missing.insert(client, why)),
        }
    }
    let job = json!({
        "kind": "throughput", "bootstrap": cluster.bootstrap(), "topic": topic, "partitions": set.partitions,
        "records": filling.total(), "passes": if options.quick { 1 } else { set.passes }, "fetch_bytes": FETCH_BYTES,
    });
    let mut round = Rounds { set, job, programs, pinning, lines, results };
    round.run(options.rounds());
    let widest =
        report::ratios(set, &round.results).into_iter().map(|ratio| ratio.spread.width()).fold(0.0, f64::max);
    if widest > WIDEST {
        eprintln!("{}: the ratios spread over {:.0} %, so it is measured again", set.name, widest * 100.0);
        let missing = std::mem::take(&mut round.results.missing);
        let before =
            std::mem::replace(&mut round.results, Results { missing, repeated: true, ..Results::default() });
        round.run(options.rounds());
        let again =
            report::ratios(set, &round.results).into_iter().map(|r| r.spread.width()).fold(0.0, f64::max);
        if again > widest {
            round.results.runs = before.runs;
        }
    }
    let results = round.results;
    cluster.tool()?.delete_topic(&topic)?;
    Ok(results)
}

struct Rounds<'a> {
    set: &'a WorkSet,
    job: serde_json::Value,
    programs: Vec<(&'static str, Program)>,
    pinning: Pinning,
    lines: &'a mut File,
    results: Results,
}

impl Rounds<'_> {
    fn run(&mut self, rounds: usize) {
        for round in 0..rounds {
            for (client, program) in &self.programs {
                if self.results.missing.contains_key(client) {
                    continue;
                }
                let mut job = self.job.clone();
                job["client"] = (*client).into();
                if client.ends_with("-group") {
                    job["group"] = unique("bench").into();
                }
                match program.run(&job, self.pinning) {
                    Ok(run) => {
                        let mut line = run.value.clone();
                        line["work_set"] = self.set.name.into();
                        line["client"] = (*client).into();
                        line["round"] = round.into();
                        println!("{line}");
                        // The lines are on standard output too.
                        let _ = writeln!(self.lines, "{line}");
                        self.results.runs.entry(client).or_default().push(run);
                    }
                    Err(error) => {
                        eprintln!("{}: {client} {error}", self.set.name);
                        self.results.runs.remove(client);
                        self.results.missing.insert(client, error.to_string());
                    }
                }
            }
        }
        let sums: BTreeSet<_> = self.results.runs.values().flatten().map(Run::sums).collect();
        if sums.len() > 1 {
            eprintln!("{}: NOT ALL CLIENTS READ THE SAME: {sums:?}", self.set.name);
        }
    }
}
