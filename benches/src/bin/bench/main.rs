//! Runs the benchmarks: `cargo xtask bench` builds and starts this program.

mod clients;
mod document;
mod plan;
mod report;
mod run;
mod stats;

use ottla_benches::Result;

const USAGE: &str = "\
usage: cargo xtask bench [--only WORK_SET...] [--rounds N] [--quick] [--bootstrap HOST:PORT] [--docs] [--list]

  --only       these work sets (or those whose names begin so) instead of all
  --rounds     interleaved rounds (7; 3 with --quick)
  --quick      fewer rounds and records
  --bootstrap  a Kafka that runs already, instead of one that is started; for the work sets with one broker
  --docs       write docs/benchmarks.md; with --only, these tables of it
  --list       name the work sets and clients, run nothing";

/// What to do.
#[derive(Debug, Default)]
pub(crate) struct Options {
    only: Vec<String>,
    rounds: Option<usize>,
    quick: bool,
    bootstrap: Option<String>,
    docs: bool,
    list: bool,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        let mut only = false;
        while let Some(argument) = arguments.next() {
            let is_name = !argument.starts_with("--");
            match argument.as_str() {
                "--only" => {}
                "--quick" => options.quick = true,
                "--docs" => options.docs = true,
                "--list" => options.list = true,
                "--rounds" => {
                    options.rounds =
                        Some(arguments.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0).ok_or(USAGE)?);
                }
                "--bootstrap" => options.bootstrap = Some(arguments.next().ok_or(USAGE)?),
                _ if only && is_name => options.only.push(argument.clone()),
                _ => return Err(USAGE.into()),
            }
            only = argument == "--only" || (only && is_name);
        }
        Ok(options)
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 3 } else { 7 })
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| name.starts_with(only.as_str()))
    }
}

fn main() -> std::process::ExitCode {
    let result = Options::parse(std::env::args().skip(1)).and_then(|options| run::all(&options));
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str) -> Result<Options> {
        Options::parse(arguments.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn names_belong_to_only() -> Result<()> {
        let options = parse("--quick --only 100b-none 1kb --rounds 5")?;
        assert_eq!(options.rounds(), 5);
        assert!(options.wants("100b-none") && options.wants("1kb-lz4") && !options.wants("100b-lz4"));
        assert!(
            parse("100b-none").is_err() && parse("--rounds 0").is_err() && parse("--quick 100b").is_err()
        );
        Ok(())
    }
}
