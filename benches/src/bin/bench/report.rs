//! Tables.

use std::fmt::Write as _;

use crate::clients::Run;
use crate::plan::{Limit, Measure, Special, Target, WorkSet};
use crate::run::{Results, Steadiness};
use crate::stats::Spread;

/// A target and what came of it.
#[derive(Debug)]
pub(crate) struct Ratio {
    pub(crate) target: Target,
    pub(crate) spread: Spread,
}

/// The ratios that are aimed at: the median of those of the rounds.
pub(crate) fn ratios(set: &WorkSet, results: &Results) -> Vec<Ratio> {
    set.targets
        .iter()
        .filter_map(|target| {
            let runs = results.runs.get(target.client)?;
            let per_record = match target.of {
                Measure::Cpu => Run::total,
                Measure::Time => Run::time,
            };
            let median = |runs: &&Vec<Run>| Spread::of(runs.iter().filter_map(per_record)).map(|s| s.median);
            let bases = target.base.iter().filter_map(|base| results.runs.get(base));
            let best = bases.min_by(|a, b| {
                f64::total_cmp(&median(a).unwrap_or(f64::MAX), &median(b).unwrap_or(f64::MAX))
            })?;
            let of_rounds =
                runs.iter().zip(best).filter_map(|(run, base)| Some(per_record(run)? / per_record(base)?));
            Some(Ratio { target: *target, spread: Spread::of(of_rounds)? })
        })
        .collect()
}

/// All about one work set, as Markdown.
pub(crate) fn work_set(set: &WorkSet, results: &Results) -> String {
    let mut text = format!("### {}\n\n", set.what);
    text += "| client | CPU ns/record (user + system), min–max | × floor | records/s | MB/s | peak RSS MB | peak heap MB | allocations/record | first record ms |\n";
    text += "|---|---|---|---|---|---|---|---|---|\n";
    for client in set.clients {
        let Some(runs) = results.runs.get(client) else { continue };
        let median = |value: fn(&Run) -> Option<f64>| Spread::of(runs.iter().filter_map(value));
        let show = |value: fn(&Run) -> Option<f64>, digits: usize| {
            median(value).map_or("–".to_owned(), |spread| format!("{:.digits$}", spread.median))
        };
        let total = median(Run::total).unwrap_or(Spread { median: 0.0, min: 0.0, max: 0.0 });
        let floor = Spread::of(
            runs.iter()
                .zip(results.floor_of(client))
                .filter_map(|(run, floor)| Some(run.total()? / floor.total()?)),
        );
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {client}{} | {:.1} ({} + {}), {:.1}–{:.1} | {} | {} | {} | {} | {} | {} | {} |",
            if results.is_of_first(client) { " ¹" } else { "" },
            total.median,
            show(|run| run.cpu().map(|cpu| cpu.0), 1),
            show(|run| run.cpu().map(|cpu| cpu.1), 1),
            total.min,
            total.max,
            floor.map_or("–".to_owned(), |floor| format!(
                "{:.2} ({:.2}–{:.2})",
                floor.median, floor.min, floor.max
            )),
            show(Run::rate, 0),
            show(Run::megabytes, 0),
            show(Run::peak_rss, 1),
            show(Run::peak_live, 1),
            show(Run::allocations, 4),
            show(Run::first_record, 1),
        );
    }
    if let Some(floor) = results.first_floor().and_then(|runs| Spread::of(runs.iter().filter_map(Run::total)))
    {
        let _ = writeln!(
            text,
            "\n¹ Of the first series, whose floor took {:.1} ns ({:.1}–{:.1}).",
            floor.median, floor.min, floor.max
        );
    }
    for (client, why) in &results.missing {
        let _ = writeln!(text, "\nNot measured: {client} ({why}).");
    }
    let ratios = ratios(set, results);
    if !ratios.is_empty() {
        text += "\n| ratio per record | median (min–max) | target | |\n|---|---|---|---|\n";
    }
    for Ratio { target, spread } in &ratios {
        let met = if spread.median <= target.at_most { "met" } else { "**missed**" };
        let _ = writeln!(
            text,
            "| {}: {} / {} | {:.3} ({:.3}–{:.3}) | ≤ {:.3} | {met} |",
            if target.of == Measure::Cpu { "CPU" } else { "time" },
            target.client,
            target.name,
            spread.median,
            spread.min,
            spread.max,
            target.at_most
        );
    }
    text += match results.steadiness {
        Steadiness::Steady => "",
        Steadiness::Repeated => {
            "\nMeasured twice, because the first ratios spread over more than 15 %; the steadier one is shown.\n"
        }
        Steadiness::Unsteady => {
            "\nThe ratios spread over more than 15 %, and there was no time to measure them again.\n"
        }
    };
    text
}

/// CPU per record against that of another work set: medians, since they were not measured in the same rounds.
pub(crate) fn across(set: &WorkSet, results: &Results, base: &WorkSet, of_base: &Results) -> String {
    let median = |results: &Results, client: &str| {
        Some(Spread::of(results.runs.get(client)?.iter().filter_map(Run::total))?.median)
    };
    let mut text = String::new();
    for client in set.clients {
        if let (Some(this), Some(that)) = (median(results, client), median(of_base, client)) {
            let _ = writeln!(text, "- {client}: {:.2} × its median of {}", this / that, base.name);
        }
    }
    format!("\nAgainst {} (aimed at for ottla-batch: ≤ 1.3):\n\n{text}", base.what)
}

/// All about one of the others, as Markdown.
pub(crate) fn special(special: &Special, results: &Results) -> String {
    let mut text = format!("### {}\n\n| client |", special.what);
    for (_, title) in special.columns {
        let _ = write!(text, " {title} |");
    }
    let _ = write!(text, "\n|---|{}\n", "---|".repeat(special.columns.len()));
    for client in special.clients {
        let Some(runs) = results.runs.get(client) else { continue };
        let _ = write!(text, "| {client} |");
        for (field, _) in special.columns {
            let _ = match Spread::of(runs.iter().filter_map(|run| run.number(field))) {
                Some(spread) => write!(text, " {:.1} ({:.1}–{:.1}) |", spread.median, spread.min, spread.max),
                None => write!(text, " – |"),
            };
        }
        text.push('\n');
    }
    for (client, why) in &results.missing {
        let _ = writeln!(text, "\nNot measured: {client} ({why}).");
    }
    if !special.aim.is_empty() {
        let _ = writeln!(text, "\nAimed at: {}{}.", special.aim, verdict(special, results));
    }
    text
}

/// Whether what is aimed at was reached: the median of the rounds, or of the ratios of the rounds.
fn verdict(special: &Special, results: &Results) -> String {
    let Some(Limit { client, field, at_most, of }) = special.limit else { return String::new() };
    let values = |client: &str| -> Vec<f64> {
        let runs = results.runs.get(client).into_iter().flatten();
        runs.filter_map(|run| run.number(field)).collect()
    };
    let (own, median) =
        (values(client), |values: &[f64]| Spread::of(values.iter().copied()).map(|s| s.median));
    let by_median = |a: &Vec<f64>, b: &Vec<f64>| {
        f64::total_cmp(&median(a).unwrap_or(f64::MAX), &median(b).unwrap_or(f64::MAX))
    };
    let found = match of.iter().map(|base| values(base)).filter(|values| !values.is_empty()).min_by(by_median)
    {
        Some(best) => Spread::of(own.iter().zip(&best).map(|(own, base)| own / base)),
        None if of.is_empty() => Spread::of(own),
        None => None,
    };
    match found {
        Some(Spread { median, min, max }) => {
            let met = if median <= at_most { "met" } else { "**missed**" };
            format!(": {median:.2} ({min:.2}–{max:.2}), at most {at_most}, {met}")
        }
        None => ": not measured".to_owned(),
    }
}
