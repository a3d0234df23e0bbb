//! `cargo xtask sim`.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::coverage::Coverage;
use super::faults::{FAULTS, Fault};
use super::oracle::INVARIANTS;
use super::planted;
use super::seed::{Figures, Outcome, Spec, run};
use super::shrink::shrink;
use super::trace::Trace;

const USAGE: &str = "\
usage: cargo xtask sim [--seeds A..B] [--scenario NAME] [--consumer] [--jobs N] [--trace | --live] [--hash] [--keep-going]
       cargo xtask sim --planted [NAME... | all] [--consumer] [--seeds A..B] [--jobs N] [--trace | --docs | --check]

  --seeds A..B       these seeds (default 0..5000); --seeds N is that one alone
  --scenario NAME    only this kind of fault instead of a mix of up to five, or `jepsen`; `list` names them
  --consumer         the members speak the consumer protocol (KIP-848)
  --jobs N           so many threads (default: one per processor)
  --trace            the readable trace of a single seed, with as few faults as it takes to fail
  --live             the same as it happens, with all faults: for a seed that does not come to an end
  --hash             the trace hash and the figures of each seed
  --keep-going       goes on after a seed that fails
  --planted          bugs on purpose, each until a seed fails because of it: at most 10,000, or these seeds
    --docs           writes docs/planted-bugs.md; bugs that are not named keep their lines
    --check          only holds that each bug of that table is still caught
";

#[derive(Debug)]
struct Arguments {
    from: u64,
    to: u64,
    scenario: Option<Fault>,
    consumer: bool,
    jepsen: bool,
    /// Only tell what the scenarios are.
    list: bool,
    jobs: usize,
    trace: bool,
    live: bool,
    hash: bool,
    keep_going: bool,
    planted: Option<Planted>,
}

/// Which bugs are planted.
#[derive(Debug, Default)]
pub(super) struct Planted {
    /// These bugs; `all`, or none, are all.
    pub(super) names: Vec<String>,
    /// Write the table.
    pub(super) docs: bool,
    /// Only hold the table.
    pub(super) check: bool,
    /// Only among members of the consumer protocol (KIP-848).
    pub(super) consumer: bool,
}

fn parse(arguments: &[String]) -> Result<Arguments, String> {
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut parsed = Arguments {
        from: 0,
        to: 5000,
        scenario: None,
        consumer: false,
        jepsen: false,
        list: false,
        jobs,
        trace: false,
        live: false,
        hash: false,
        keep_going: false,
        planted: None,
    };
    let mut rest = arguments.iter().peekable();
    let mut seeds_given = false;
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().map(String::as_str).ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--seeds" => {
                (parsed.from, parsed.to) = seeds(value()?)?;
                seeds_given = true;
            }
            "--scenario" => {
                let name = value()?;
                parsed.list = name == "list";
                if parsed.list {
                    continue;
                }
                parsed.jepsen = name == JEPSEN;
                if !parsed.jepsen {
                    parsed.scenario = Some(Fault::named(name).ok_or_else(scenarios)?);
                }
            }
            "--jobs" => parsed.jobs = value()?.parse().map_err(|_| "--jobs needs a number".to_owned())?,
            "--consumer" => parsed.consumer = true,
            "--trace" => parsed.trace = true,
            "--live" => parsed.live = true,
            "--hash" => parsed.hash = true,
            "--keep-going" => parsed.keep_going = true,
            "--planted" => {
                let planted = parsed.planted.get_or_insert_default();
                while let Some(name) = rest.next_if(|name| !name.starts_with("--")) {
                    planted.names.push(name.clone());
                }
            }
            "--docs" | "--check" if parsed.planted.is_some() => {
                let planted = parsed.planted.get_or_insert_default();
                planted.docs |= argument == "--docs";
                planted.check |= argument == "--check";
            }
            _ => return Err(USAGE.to_owned()),
        }
    }
    if let Some(planted) = &mut parsed.planted {
        planted.consumer = parsed.consumer;
        // A line of the table is of both.
        if planted.docs && planted.consumer {
            return Err(USAGE.to_owned());
        }
        if !seeds_given {
            parsed.to = 10_000;
        }
    }
    Ok(parsed)
}

/// Jepsen's workload, with the faults of the full mix.
const JEPSEN: &str = "jepsen";

fn scenarios() -> String {
    let mut text = format!(
        "the scenarios, with their rows of the fault matrix:\n  {JEPSEN:<20} the workload, any fault\n"
    );
    for (_, row, name) in FAULTS {
        text += &format!("  {name:<20} {row}\n");
    }
    text
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let number = |t: &str| t.parse::<u64>().map_err(|_| format!("{text:?} are no seeds: A..B, or one"));
    match text.split_once("..") {
        Some((from, to)) => Ok((number(from)?, number(to)?)),
        None => number(text).map(|n| (n, n + 1)),
    }
}

/// What many seeds came to.
#[derive(Debug, Default)]
struct Total {
    coverage: Coverage,
    figures: Vec<Figures>,
    failed: Vec<(u64, String)>,
    unlike: Vec<u64>,
    /// Simulated milliseconds of second runs.
    again: u64,
}

/// Runs what the command line asks for.
///
/// # Errors
/// A seed failed, or the arguments make no sense.
pub fn main(arguments: &[String]) -> Result<(), String> {
    let arguments = parse(arguments)?;
    if arguments.list {
        print!("{}", scenarios());
        return Ok(());
    }
    if let Some(asked) = &arguments.planted {
        if !arguments.trace && !arguments.live {
            return planted::main(asked, arguments.from..arguments.to, arguments.jobs);
        }
        planted::plant_one(asked)?;
    }
    let spec = |seed| Spec {
        seed,
        scenario: arguments.scenario,
        jepsen: arguments.jepsen,
        faults: None,
        consumer: arguments.consumer,
    };
    if arguments.trace {
        return trace(&spec(arguments.from));
    }
    if arguments.live {
        let (outcome, _) = run(&spec(arguments.from), Trace::printing());
        return outcome.violation.map_or(Ok(()), |violation| Err(violation.to_string()));
    }
    let (begun, spent) = (Instant::now(), cpu_seconds());
    let next = AtomicU64::new(arguments.from);
    let total = Mutex::new(Total::default());
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= arguments.to {
                        return;
                    }
                    one(&arguments, &spec(seed), &total, &next);
                }
            });
        }
    });
    let total = total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    report(&arguments, total, (begun.elapsed().as_secs_f64(), cpu_seconds() - spent))
}

/// What this process has used of processors so far, in seconds, where that can be told.
fn cpu_seconds() -> f64 {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return 0.0 };
    // The name of the program may have spaces.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

fn one(arguments: &Arguments, spec: &Spec, total: &Mutex<Total>, next: &AtomicU64) {
    let (outcome, _) = run(spec, Trace::default());
    // The same seed is the same run: looked at again now and then.
    let again = spec.seed.is_multiple_of(10) && run(spec, Trace::default()).0.hash != outcome.hash;
    let mut total = total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if arguments.hash {
        println!("seed {} hash {:016x} {:?}", spec.seed, outcome.hash, outcome.figures);
    }
    total.coverage.add(&outcome.coverage);
    total.figures.push(outcome.figures);
    if spec.seed.is_multiple_of(10) {
        total.again += outcome.figures.millis;
    }
    if again {
        println!("seed {} is not the same twice", spec.seed);
        total.unlike.push(spec.seed);
    }
    if let Some(violation) = &outcome.violation {
        println!("seed {} FAILED: {violation}\n  {}", spec.seed, replay(spec));
        total.failed.push((spec.seed, violation.to_string()));
        if !arguments.keep_going {
            next.store(u64::MAX / 2, Ordering::Relaxed);
            drop(total);
            explain(spec, &outcome);
        }
    }
}

fn replay(spec: &Spec) -> String {
    let name = spec.scenario.map(Fault::name).or(spec.jepsen.then_some(JEPSEN));
    let scenario = name.map_or(String::new(), |name| format!(" --scenario {name}"));
    let consumer = if spec.consumer { " --consumer" } else { "" };
    format!("replay: cargo xtask sim --seeds {}{scenario}{consumer} --trace", spec.seed)
}

/// The shortest list of faults that still fails.
fn explain(spec: &Spec, outcome: &Outcome) {
    let Some(violation) = &outcome.violation else { return };
    let left = shrink(spec, &outcome.faults, violation);
    println!("  of {} faults these are enough:", outcome.faults.len());
    left.iter().for_each(|f| println!("    {f}"));
}

/// One seed with everything that happened.
fn trace(spec: &Spec) -> Result<(), String> {
    let (outcome, _) = run(spec, Trace::default());
    let faults = match &outcome.violation {
        Some(violation) => shrink(spec, &outcome.faults, violation),
        None => outcome.faults,
    };
    let spec = Spec { faults: Some(faults), ..spec.clone() };
    let (outcome, trace) = run(&spec, Trace::with_text());
    let lines: VecDeque<&String> = trace.lines().iter().collect();
    lines.iter().for_each(|line| println!("{line}"));
    println!("faults:");
    outcome.faults.iter().for_each(|f| println!("  {f}"));
    println!("{:?}\nhash {:016x}", outcome.figures, outcome.hash);
    match outcome.violation {
        Some(violation) => Err(violation.to_string()),
        None => Ok(()),
    }
}

fn report(arguments: &Arguments, mut total: Total, (seconds, cpu): (f64, f64)) -> Result<(), String> {
    print!("{}{}", total.coverage, invariants());
    let count = total.figures.len();
    let middle = |of: fn(&Figures) -> u64, figures: &mut Vec<Figures>| {
        figures.sort_unstable_by_key(of);
        figures.get(figures.len() / 2).map_or(0, of)
    };
    let figures = &mut total.figures;
    let simulated: u64 = figures.iter().map(|f| f.millis).sum::<u64>() / 1000;
    println!("{}", histogram(figures));
    println!(
        "medians of {count} seeds: {} rebalances, {} hits, {} records, {} commits, {} members, {} steps",
        middle(|f| f.rebalances, figures),
        middle(|f| f.hits, figures),
        middle(|f| f.records, figures),
        middle(|f| f.commits, figures),
        middle(|f| f.members, figures),
        middle(|f| f.steps, figures),
    );
    let again = arguments.from.div_ceil(10)..arguments.to.div_ceil(10);
    println!(
        "{count} seeds, {simulated} simulated seconds, and {} of the seeds once more, in {seconds:.1} s with {} threads",
        again.count(),
        arguments.jobs,
    );
    if cpu > 0.0 {
        let all = simulated as f64 + total.again as f64 / 1000.0;
        println!("{:.0} simulated seconds per CPU second ({cpu:.1})", all / cpu);
    }
    // A run that proves little is a failure, too.
    if let Some(fault) = arguments.scenario.filter(|_| count >= ENOUGH_OF_ONE)
        && !total.coverage.has(fault)
    {
        total.failed.push((arguments.from, format!("{} never hit", fault.name())));
    }
    let unlisted = total.coverage.unlisted();
    if !unlisted.is_empty() {
        let text =
            format!("transitions that tests/sim/transitions.txt does not list: {}", unlisted.join(", "));
        total.failed.push((arguments.from, text));
    }
    if arguments.scenario.is_none() && count >= ENOUGH {
        let never = total.coverage.never_taken();
        if !never.is_empty() && !arguments.consumer {
            total
                .failed
                .push((arguments.from, format!("transitions that were never taken: {}", never.join(", "))));
        }
        let never = total.coverage.never();
        if !never.is_empty() {
            total.failed.push((arguments.from, format!("faults that never hit: {}", never.join(", "))));
        }
        let demands: [(&str, Figure, u64); 3] =
            [("rebalances", |f| f.rebalances, 1), ("hits", |f| f.hits, 2), ("records", |f| f.records, 1000)];
        for (what, of, least) in demands {
            let median = middle(of, &mut total.figures);
            if median < least {
                let text = format!("the median seed has {median} {what}, fewer than {least}");
                total.failed.push((arguments.from, text));
            }
        }
    }
    for (seed, why) in &total.failed {
        println!("FAILED {seed}: {why}");
    }
    if !total.unlike.is_empty() {
        return Err(format!("not the same twice: {:?}", total.unlike));
    }
    if total.failed.is_empty() {
        Ok(())
    } else {
        Err(format!("{} of {count} seeds failed", total.failed.len()))
    }
}

/// Which invariants are checked.
fn invariants() -> String {
    let mut text = "invariants:\n".to_owned();
    for (name, what, off) in INVARIANTS {
        let state = off.map_or("on".to_owned(), |why| format!("off: {why}"));
        text += &format!("  {name:<6} {what:<58} {state}\n");
    }
    text
}

/// So many seeds hit everything.
const ENOUGH: usize = 1000;
/// So many seeds hit the one that is asked for.
const ENOUGH_OF_ONE: usize = 100;

/// One figure of a run.
type Figure = fn(&Figures) -> u64;

/// How many seeds had how many members, rebalances, hits and records.
fn histogram(figures: &[Figures]) -> String {
    let mut text = String::new();
    let rows: [(&str, Figure); 6] = [
        ("members", |f| f.members),
        ("rebalances", |f| f.rebalances),
        ("hits", |f| f.hits),
        ("records", |f| f.records),
        ("commits", |f| f.commits),
        ("restarts", |f| f.restarts),
    ];
    for (name, of) in rows {
        let mut buckets = [0u64; 20];
        for figure in figures {
            let bits = (u64::BITS - of(figure).leading_zeros()) as usize;
            buckets[bits.min(19)] += 1;
        }
        text += &format!("{name:>11}:");
        for (bits, count) in buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            let from = if bits == 0 { 0 } else { 1u64 << (bits - 1) };
            text += &format!(" {from}+ {count}");
        }
        text.push('\n');
    }
    text
}
