//! `cargo xtask`: the commands of the project.

mod r#gen;
mod kafka;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  gen [--check]                             message definitions to code, or only whether it is up to date
  gen --import FOLDER                       Kafka's JSON message definitions to ours
  kafka start [--version V] [--brokers N]   a real Kafka on loopback that stays until stopped
  kafka stop [--version V] | status
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["gen"] => r#gen::run(false),
        ["gen", "--check"] => r#gen::run(true),
        ["gen", "--import", folder] => r#gen::import(folder.as_ref()),
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
