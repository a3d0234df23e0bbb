//! A child process that speaks one JSON object a line and ends with its owner.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::Context;
use crate::{Error, Result};

/// A running helper. Dropping it kills the process.
pub struct Lines {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    ahead: VecDeque<Value>,
    log: PathBuf,
}

impl Lines {
    /// Starts `command`; its standard error goes to the file `log`.
    pub(crate) fn start(name: &str, command: &mut Command, log: PathBuf) -> Result<Self> {
        let errors = File::create(&log).context(|| format!("cannot create {}", log.display()))?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .context(|| format!("cannot start {name}"))?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or_else(|| Error::new("no standard output"))?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { name: name.to_owned(), child, input, lines, ahead: VecDeque::new(), log })
    }

    /// Sends one line.
    ///
    /// # Errors
    /// When the helper has ended.
    pub fn send(&mut self, line: &str) -> Result<()> {
        let name = &self.name;
        let Some(input) = self.input.as_mut() else {
            return Err(Error::new(format!("{name} was told to end")));
        };
        let sent = input.write_all(format!("{line}\n").as_bytes()).and_then(|()| input.flush());
        sent.map_err(|e| self.ended(&format!("does not listen ({e})")))
    }

    /// The next line, waiting at most `timeout`.
    ///
    /// # Errors
    /// When none comes in time, the helper ended, or the line is not JSON. The text holds the end of its log.
    pub fn next(&mut self, timeout: Duration) -> Result<Value> {
        if let Some(value) = self.ahead.pop_front() {
            return Ok(value);
        }
        match self.lines.recv_timeout(timeout) {
            Ok(line) => serde_json::from_str(&line).map_err(|e| self.ended(&format!("said {line:?} ({e})"))),
            Err(RecvTimeoutError::Timeout) => Err(self.ended(&format!("said nothing for {timeout:?}"))),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended("ended")),
        }
    }

    /// A line that is there already, without waiting. `None` also when the helper has ended.
    pub fn try_next(&mut self) -> Option<Value> {
        self.ahead
            .pop_front()
            .or_else(|| self.lines.try_recv().ok().and_then(|l| serde_json::from_str(&l).ok()))
    }

    /// Waits for a line that satisfies `wanted` and returns it with all lines before it.
    ///
    /// # Errors
    /// As [`Lines::next`]; the time is counted over all lines together.
    pub fn until(&mut self, timeout: Duration, mut wanted: impl FnMut(&Value) -> bool) -> Result<Vec<Value>> {
        let end = Instant::now() + timeout;
        let mut seen = Vec::new();
        loop {
            let value = self
                .next(end.saturating_duration_since(Instant::now()))
                .map_err(|e| Error::new(format!("{e}\nafter these lines: {seen:?}")))?;
            let found = wanted(&value);
            seen.push(value);
            if found {
                return Ok(seen);
            }
        }
    }

    /// Kills the helper at once, as a crash would.
    pub fn kill(mut self) {
        self.end();
    }

    /// Waits until the helper has ended by itself; kills it when that takes longer than `timeout`.
    ///
    /// # Errors
    /// When it had to be killed.
    pub fn wait(self, timeout: Duration) -> Result<()> {
        let end = Instant::now() + timeout;
        // Its output closes when it ends: an event, where a process handle could only be polled.
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(self.ended(&format!("did not end within {timeout:?}")));
                }
            }
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn ended(&self, what: &str) -> Error {
        Error::new(format!("{} {what}\n{}", self.name, tail(&self.log)))
    }

    fn end(&mut self) {
        self.input = None;
        // Both only fail when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.end();
        if !std::thread::panicking() {
            // Nobody needs the log of a test that passed.
            let _ = std::fs::remove_file(&self.log);
        }
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("name", &self.name)
            .field("id", &self.child.id())
            .finish_non_exhaustive()
    }
}

/// The last lines of a log, for an error text.
pub(crate) fn tail(log: &std::path::Path) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    format!("the end of {}:\n{}", log.display(), last_lines(&text).join("\n"))
}

/// Forty lines, or from the last error on: a broker that gives up says why, and then how each of its parts ends.
fn last_lines(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let from = |count: usize| lines.len().saturating_sub(count);
    let says = |line: &&str| line.contains(" ERROR ") || line.contains(" FATAL ");
    let error = lines.iter().skip(from(200)).rposition(says).map_or(usize::MAX, |at| from(200) + at);
    lines[error.min(from(40))..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_begins_with_what_went_wrong() {
        let info: Vec<String> = (0..300).map(|n| format!("12:00 INFO {n}")).collect();
        assert_eq!(last_lines(&info.join("\n")).first(), Some(&"12:00 INFO 260"));
        let mut log = info.clone();
        log[30] = "12:00 ERROR long ago".to_owned();
        log[230] = "12:00 ERROR first".to_owned();
        log[240] = "12:00 FATAL last".to_owned();
        let text = log.join("\n");
        assert_eq!((last_lines(&text)[0], last_lines(&text).len()), ("12:00 FATAL last", 60));
        assert_eq!(last_lines("one\ntwo"), ["one", "two"]);
    }
}
