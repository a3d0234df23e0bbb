//! Running other programs.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Cargo's target folder.
pub(crate) fn target_dir() -> PathBuf {
    ottla_kafka::target_dir()
}

/// A command in the root of the workspace, without what cargo set for this program alone.
pub(crate) fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let own = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_PRIMARY_"];
        if name.to_str().is_some_and(|n| own.iter().any(|prefix| n.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
    command
}

/// `cargo` with these arguments.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    command("cargo", arguments)
}

/// Runs it with its output on ours.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let text = show(command);
    println!("$ {text}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{text}` failed ({status})")),
        Err(e) => Err(format!("cannot run `{text}`: {e}")),
    }
}

/// Runs it and returns its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let text = show(command);
    let output = command.stderr(Stdio::piped()).output().map_err(|e| format!("cannot run `{text}`: {e}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("`{text}` failed ({}):\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
    }
}

/// Runs it, shows each line of its standard output and hands it to `line` too. Tells whether it succeeded.
///
/// With a limit, it and everything it started is killed after that time: a test that hangs must not hang CI.
pub(crate) fn run_lines(
    command: &mut Command,
    limit: Option<Duration>,
    mut line: impl FnMut(&str),
) -> Result<bool, String> {
    let text = show(command);
    println!("$ {text}");
    if limit.is_some() {
        own_group(command);
    }
    let mut child =
        command.stdout(Stdio::piped()).spawn().map_err(|e| format!("cannot run `{text}`: {e}"))?;
    let (done, watched) = channel::<()>();
    let watchdog = limit.map(|limit| {
        let id = child.id();
        std::thread::spawn(move || {
            // The other end is dropped when the command has ended.
            let late = watched.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            if late {
                println!("still running after {limit:?}: killed");
                kill_group(id);
            }
            late
        })
    });
    if let Some(out) = child.stdout.take() {
        let mut reader = BufReader::new(out);
        let mut bytes = Vec::new();
        // Bytes, not text: what a test prints need not be UTF-8.
        while reader.read_until(b'\n', &mut bytes).map_err(|e| format!("cannot read from `{text}`: {e}"))? > 0
        {
            let one = String::from_utf8_lossy(&bytes);
            let one = one.trim_end_matches(['\r', '\n']);
            println!("{one}");
            line(one);
            bytes.clear();
        }
    }
    drop(done);
    // Before the wait: until then nobody else can have the id.
    let late = watchdog.map(std::thread::JoinHandle::join);
    let status = child.wait().map_err(|e| format!("cannot wait for `{text}`: {e}"))?;
    match late {
        Some(Ok(true)) => Err(format!("`{text}` took longer than {limit:?}")),
        _ => Ok(status.success()),
    }
}

#[cfg(unix)]
fn own_group(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
fn own_group(_command: &mut Command) {}

/// Only ever called with the id of a child that has not been waited for, so the id cannot be another's.
fn kill_group(id: u32) {
    let _ = Command::new("kill").args(["-s", "KILL", "--", &format!("-{id}")]).status();
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_command_beyond_its_limit_is_killed_with_its_children() {
        let script = "echo begun; sleep 600 & wait";
        let mut lines = Vec::new();
        let limit = Some(Duration::from_millis(300));
        let result = run_lines(&mut command("sh", &["-c", script]), limit, |l| lines.push(l.to_owned()));
        assert!(result.is_err_and(|e| e.contains("longer than")));
        assert_eq!(lines, ["begun"]);
    }

    #[test]
    fn a_command_within_its_limit_tells_how_it_ended() {
        let limit = Some(Duration::from_secs(60));
        assert_eq!(run_lines(&mut command("true", &[]), limit, |_| ()), Ok(true));
        assert_eq!(run_lines(&mut command("false", &[]), None, |_| ()), Ok(false));
    }
}
