//! `cargo xtask`: the commands of the project.

mod kafka;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  kafka start [--version V] [--brokers N]   a real Kafka on loopback that stays until stopped
  kafka stop [--version V] | status
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["kafka", rest @ ..] => kafka::run(rest),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}
