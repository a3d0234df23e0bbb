//! The rounds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;

use ottla_benches::fill::{self, Filling};
use ottla_benches::{Result, data, latency};
use ottla_kafka::{DEFAULT_VERSION, KafkaCluster, StartOptions, unique};

use crate::Options;
use crate::clients::{Pinning, Program, Run, program};
use crate::document::{Document, TOOK, load};
use crate::plan::{Kind, MANY_AGAINST_FEW, SPECIALS, Special, WORK_SETS, WorkSet};
use crate::report;
use crate::stats::Spread;

/// Fetches of all clients that take a setting.
const FETCH_BYTES: u64 = 1 << 20;
/// How long their fetches wait at the end of a topic: not long, since they begin again. Data does not wait.
const MAX_WAIT_MS: u64 = 10;
/// A row whose ratios spread wider is measured again, once.
const WIDEST: f64 = 0.15;
/// But not when the whole has taken so long already.
const REPEAT_UNTIL: Duration = Duration::from_secs(15 * 60);

/// The runs of one work set: for each client one per round.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) runs: BTreeMap<&'static str, Vec<Run>>,
    /// Clients that could not be measured, and why.
    pub(crate) missing: BTreeMap<&'static str, String>,
    pub(crate) steadiness: Steadiness,
    /// The floor's runs next to which those clients were measured that are of the first series only.
    pub(crate) first: Option<First>,
}

/// A row whose ratios spread wide is measured again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Steadiness {
    #[default]
    Steady,
    Repeated,
    /// There was no time to measure it again.
    Unsteady,
}

/// What is left of a first series: a ratio is one of runs that were interleaved.
#[derive(Debug)]
pub(crate) struct First {
    pub(crate) clients: BTreeSet<&'static str>,
    pub(crate) floor: Vec<Run>,
}

/// Runs what is asked for.
pub(crate) fn all(options: &Options) -> Result<()> {
    // A Kafka that somebody else runs is taken for one broker.
    let fits = |set: &&WorkSet| options.bootstrap.is_none() || set.brokers == 1;
    let sets: Vec<&WorkSet> = WORK_SETS.iter().filter(|set| options.wants(set.name)).filter(fits).collect();
    let specials: Vec<&Special> = SPECIALS.iter().filter(|special| options.wants(special.name)).collect();
    if options.list {
        for set in &sets {
            println!("{:<16} {}: {}", set.name, set.what, set.clients.join(", "));
        }
        for special in &specials {
            println!("{:<16} {}: {}", special.name, special.what, special.clients.join(", "));
        }
        return Ok(());
    }
    if sets.is_empty() && specials.is_empty() {
        return Err("there is no such work set; --list names them".into());
    }
    let pinning = Pinning::set_up();
    eprintln!("{}", pinning.text());
    let lines = ottla_kafka::target_dir().join("bench");
    std::fs::create_dir_all(&lines)?;
    let mut lines = File::create(lines.join("runs.jsonl"))?;
    let start = Instant::now();
    let specials_brokers = (!specials.is_empty()).then_some(1);
    let brokers: BTreeSet<u32> = sets.iter().map(|set| set.brokers).chain(specials_brokers).collect();
    let mut document = Document::default();
    let mut few: Option<(&WorkSet, Results)> = None;
    let mut loads = Vec::new();
    for brokers in brokers {
        let cluster = cluster(options, brokers)?;
        for set in sets.iter().filter(|set| set.brokers == brokers) {
            let results = work_set(options, start, &cluster, set, pinning, &mut lines)?;
            let mut text = report::work_set(set, &results);
            if set.name == MANY_AGAINST_FEW.0
                && let Some((few, base)) = &few
            {
                text += &report::across(set, &results, few, base);
            }
            println!("\n{text}");
            document.add(&text);
            loads.extend(load());
            if set.name == MANY_AGAINST_FEW.1 {
                few = Some((set, results));
            }
        }
        for special in specials.iter().filter(|_| brokers == 1) {
            let results = run_special(options, &cluster, special, pinning, &mut lines)?;
            let text = report::special(special, &results);
            println!("\n{text}");
            document.add(&text);
            loads.extend(load());
        }
    }
    let took = format!("{TOOK} {:.0} minutes.", start.elapsed().as_secs_f64() / 60.0);
    eprintln!("{took}");
    document.add(&took);
    if options.docs { document.write(options, pinning, Spread::of(loads)) } else { Ok(()) }
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
    started: Instant,
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
        match program(client, cluster) {
            Ok(program) => programs.push((client, program)),
            Err(why) => drop(results.missing.insert(client, why)),
        }
    }
    let job = json!({
        "kind": "throughput", "bootstrap": cluster.bootstrap(), "topic": topic, "partitions": set.partitions,
        "records": filling.total(), "passes": if options.quick { 1 } else { set.passes }, "fetch_bytes": FETCH_BYTES,
        "max_wait_ms": MAX_WAIT_MS,
    });
    let mut round = Rounds { set, job, programs, pinning, lines, results };
    round.run(options.rounds(), |client| set.rounds_of(client));
    let widest =
        report::ratios(set, &round.results).into_iter().map(|ratio| ratio.spread.width()).fold(0.0, f64::max);
    if widest > WIDEST && (options.quick || started.elapsed() >= REPEAT_UNTIL) {
        round.results.steadiness = Steadiness::Unsteady;
    } else if widest > WIDEST {
        eprintln!("{}: the ratios spread over {:.0} %, so it is measured again", set.name, widest * 100.0);
        let missing = std::mem::take(&mut round.results.missing);
        let again = Results { missing, steadiness: Steadiness::Repeated, ..Results::default() };
        let before = std::mem::replace(&mut round.results, again);
        let in_targets = |client: &str| {
            client == "floor" || set.targets.iter().any(|t| t.client == client || t.base.contains(&client))
        };
        round.run(options.rounds(), |client| if in_targets(client) { set.rounds_of(client) } else { 0 });
        let again =
            report::ratios(set, &round.results).into_iter().map(|r| r.spread.width()).fold(0.0, f64::max);
        if again > widest {
            round.results.runs = before.runs;
        } else {
            round.results.keep_first(before);
        }
    }
    let results = round.results;
    cluster.tool()?.delete_topic(&topic)?;
    Ok(results)
}

/// Runs the clients of something else than throughput in turn.
fn run_special(
    options: &Options,
    cluster: &KafkaCluster,
    special: &Special,
    pinning: Pinning,
    lines: &mut File,
) -> Result<Results> {
    let topic = unique(special.name);
    let bootstrap = cluster.address()?;
    cluster.tool()?.create_topic_with(&topic, special.partitions, Some(1), &[])?;
    let millis = if options.quick { special.quick_millis } else { special.millis };
    let mut total = 0;
    if special.records > 0 {
        let filling = Filling {
            partitions: special.partitions,
            records: if options.quick { special.quick_records } else { special.records },
            batch_records: special.batch_records,
            value_bytes: 100,
            codec: data::codec("none").ok_or("no such codec")?,
        };
        let bytes = filling.fill(bootstrap, &topic)?;
        total = filling.total();
        eprintln!("{}: {total} records, {} MiB", special.name, bytes >> 20);
    }
    let mut results = Results::default();
    let mut written = 0;
    for round in 0..options.rounds().min(special.rounds) {
        for client in special.clients {
            let program = match program(client, cluster) {
                Ok(program) if !results.missing.contains_key(client) => program,
                Ok(_) => continue,
                Err(why) => {
                    results.missing.insert(client, why);
                    continue;
                }
            };
            let mut job = json!({
                "kind": special.kind.name(), "client": client, "bootstrap": cluster.bootstrap(), "topic": topic,
                "partitions": special.partitions, "records": total, "millis": millis, "fetch_bytes": FETCH_BYTES,
            });
            if client.ends_with("-group") {
                job["group"] = unique("bench").into();
            }
            let run = if special.kind == Kind::Latency {
                let records = millis + latency::WARM_UP;
                job["begin"] = written.into();
                job["records"] = millis.into();
                written += records;
                std::thread::scope(|scope| {
                    let pace = scope
                        .spawn(|| fill::pace(bootstrap, &topic, records, 1000).map_err(|e| e.to_string()));
                    let run = program.run(&job, pinning);
                    pace.join().map_err(|_| "the producer panicked")??;
                    run
                })
            } else {
                program.run(&job, pinning)
            };
            results.note(special.name, client, round, run, lines);
        }
    }
    cluster.tool()?.delete_topic(&topic)?;
    Ok(results)
}

impl Results {
    /// Takes over the clients of the first series that were not measured again.
    fn keep_first(&mut self, mut before: Self) {
        let floor = before.runs.remove("floor").unwrap_or_default();
        let mut clients = BTreeSet::new();
        for (client, runs) in before.runs {
            if !self.runs.contains_key(client) && !self.missing.contains_key(client) {
                self.runs.insert(client, runs);
                clients.insert(client);
            }
        }
        self.first = Some(First { clients, floor });
    }

    /// The floor's runs that took turns with this client's.
    pub(crate) fn floor_of(&self, client: &str) -> &[Run] {
        match &self.first {
            Some(first) if first.clients.contains(client) => &first.floor,
            _ => self.runs.get("floor").map_or(&[], Vec::as_slice),
        }
    }

    /// Whether this client was not measured again when the others were.
    pub(crate) fn is_of_first(&self, client: &str) -> bool {
        self.first.as_ref().is_some_and(|first| first.clients.contains(client))
    }

    /// The floor's runs next to those.
    pub(crate) fn first_floor(&self) -> Option<&[Run]> {
        self.first.as_ref().filter(|first| !first.clients.is_empty()).map(|first| &first.floor[..])
    }

    fn note(&mut self, set: &str, client: &'static str, round: usize, run: Result<Run>, lines: &mut File) {
        match run {
            Ok(run) => {
                let mut line = run.value.clone();
                line["work_set"] = set.into();
                line["client"] = client.into();
                line["round"] = round.into();
                println!("{line}");
                // The lines are on standard output too.
                let _ = writeln!(lines, "{line}");
                self.runs.entry(client).or_default().push(run);
            }
            Err(error) => {
                eprintln!("{set}: {client} {error}");
                self.runs.remove(client);
                self.missing.insert(client, error.to_string());
            }
        }
    }
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
    fn run(&mut self, rounds: usize, most: impl Fn(&str) -> usize) {
        for round in 0..rounds {
            for (client, program) in &self.programs {
                if round >= most(client) || self.results.missing.contains_key(client) {
                    continue;
                }
                let mut job = self.job.clone();
                job["client"] = (*client).into();
                if client.ends_with("-group") {
                    job["group"] = unique("bench").into();
                }
                if *client == "java" {
                    // Until its second compiler is through.
                    let records = job["records"].as_u64().unwrap_or(1).max(1);
                    job["warm_up"] = 3_000_000u64.div_ceil(records).into();
                }
                let run = program.run(&job, self.pinning);
                self.results.note(self.set.name, client, round, run, self.lines);
            }
        }
        let sums: BTreeSet<_> = self.results.runs.values().flatten().map(Run::sums).collect();
        if sums.len() > 1 {
            eprintln!("{}: NOT ALL CLIENTS READ THE SAME: {sums:?}", self.set.name);
        }
    }
}
