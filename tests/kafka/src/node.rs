//! One broker process.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::Context;
use crate::process::tail;
use crate::{Distribution, Error, Result, wire};

/// How often a process is asked whether it has ended or is ready.
pub(crate) const POLL: Duration = Duration::from_millis(25);

/// How long a broker may take to shut down in order.
const STOP: Duration = Duration::from_secs(40);

/// Who keeps a broker alive.
#[derive(Debug, Clone)]
pub(crate) enum Owner {
    /// This process, through a pipe.
    Pipe,
    /// This process until it says [`Node::stay`], then a file: the broker ends when it is gone.
    Lease(PathBuf),
}

/// A broker that is its own controller, a broker, or the ZooKeeper of some.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: u32,
    pub(crate) address: SocketAddr,
    dir: PathBuf,
    cluster_id: String,
    owner: Owner,
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    input: Option<ChildStdin>,
}

impl Node {
    /// Writes the settings; starts nothing.
    pub(crate) fn new(
        dir: &Path,
        id: u32,
        address: SocketAddr,
        cluster_id: &str,
        owner: Owner,
        settings: &str,
    ) -> Result<Self> {
        fs::create_dir_all(dir).context(|| format!("cannot create {}", dir.display()))?;
        fs::write(dir.join("server.properties"), settings)
            .context(|| "cannot write server.properties".to_owned())?;
        Ok(Self { id, address, dir: dir.to_owned(), cluster_id: cluster_id.to_owned(), owner, process: None })
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    /// Starts the JVM and returns at once.
    pub(crate) fn spawn(&mut self, distribution: &Distribution) -> Result<()> {
        if self.process.is_some() {
            return Err(Error::new(format!("broker {} is running", self.id)));
        }
        let context = || format!("cannot start broker {}", self.id);
        let log = File::options().create(true).append(true).open(self.log()).context(context)?;
        let mut command = distribution.broker("768m");
        command.arg("ottla.Launcher").stdin(Stdio::piped());
        match &self.owner {
            Owner::Pipe => {
                command.arg("stdin");
            }
            Owner::Lease(file) => {
                command.arg(file);
                detach(&mut command);
            }
        }
        command.arg(&self.cluster_id).arg(self.dir.join("server.properties"));
        command.stdout(log.try_clone().context(context)?).stderr(log);
        let mut child = command.spawn().context(context)?;
        let input = child.stdin.take();
        self.process = Some(Process { child, input });
        Ok(())
    }

    /// Waits until the broker answers and knows of `brokers` brokers.
    pub(crate) fn wait_ready(&mut self, brokers: usize, end: Instant) -> Result<()> {
        loop {
            let state = wire::api_versions(self.address)
                .and_then(|()| wire::metadata(self.address, &[]))
                .map(|metadata| metadata.brokers.len());
            if state.as_ref().is_ok_and(|known| *known >= brokers) {
                return Ok(());
            }
            self.still_runs()?;
            if Instant::now() > end {
                let why = match state {
                    Ok(known) => format!("it knows of {known} brokers of {brokers}"),
                    Err(e) => e.to_string(),
                };
                return Err(Error::new(format!(
                    "broker {} is not ready: {why}\n{}",
                    self.id,
                    tail(&self.log())
                )));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Waits until a ZooKeeper takes connections; its brokers wait for the rest.
    pub(crate) fn wait_listening(&mut self, end: Instant) -> Result<()> {
        while let Err(error) = TcpStream::connect(self.address) {
            self.still_runs()?;
            if Instant::now() > end {
                return Err(Error::new(format!(
                    "{} does not listen: {error}\n{}",
                    self.address,
                    tail(&self.log())
                )));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Whether it was started and ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.still_runs().is_err()
    }

    fn still_runs(&mut self) -> Result<()> {
        match self.process.as_mut().map(|process| process.child.try_wait()) {
            Some(Ok(Some(status))) => {
                Err(Error::new(format!("node {} ended with {status}\n{}", self.id, tail(&self.log()))))
            }
            _ => Ok(()),
        }
    }

    /// Whether its log says that another program has one of its ports.
    pub(crate) fn port_was_taken(&self) -> bool {
        fs::read(self.log()).is_ok_and(|log| String::from_utf8_lossy(&log).contains("Address already in use"))
    }

    /// Lets the broker outlive this process: from here on it follows its lease.
    pub(crate) fn stay(&mut self) -> Result<()> {
        let Some(input) = self.process.as_mut().and_then(|p| p.input.as_mut()) else { return Ok(()) };
        input
            .write_all(b"stay\n")
            .and_then(|()| input.flush())
            .context(|| format!("broker {} ended", self.id))
    }

    pub(crate) fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(|p| p.child.id())
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Shuts down in order: leaders move away, then the process ends.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let Some(process) = &mut self.process else { return Ok(()) };
        if let Some(input) = &mut process.input {
            // Fails only when the process is gone, which is what is wanted.
            let _ = input.write_all(b"stop\n").and_then(|()| input.flush());
        }
        let end = Instant::now() + STOP;
        while Instant::now() < end {
            if !matches!(process.child.try_wait(), Ok(None)) {
                self.process = None;
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        let text = format!("broker {} did not stop within {STOP:?}\n{}", self.id, tail(&self.log()));
        self.kill();
        Err(Error::new(text))
    }

    /// Kills the process, as a power failure would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Both only fail when the process is gone already.
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }

    /// Stops (`STOP`) or continues (`CONT`) the process without its knowing.
    pub(crate) fn signal(&self, signal: &str) -> Result<()> {
        let id = self.process_id().ok_or_else(|| Error::new(format!("broker {} is not running", self.id)))?;
        let status = Command::new("kill")
            .args(["-s", signal, &id.to_string()])
            .status()
            .context(|| "cannot run kill".to_owned())?;
        if status.success() { Ok(()) } else { Err(Error::new(format!("kill -s {signal} {id} failed"))) }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // One that stays has a lease; one that was not told to ends with its pipe.
        if matches!(self.owner, Owner::Pipe) {
            self.kill();
        }
    }
}

/// A group of its own, so that an interrupt meant for the starting command does not reach the broker.
#[cfg(unix)]
fn detach(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
fn detach(_command: &mut Command) {}

/// A free port on loopback, below the range that systems use for outgoing connections (a broker that is down must
/// find its port free when it comes back).
pub(crate) fn free_port(taken: &mut Vec<u16>) -> Result<u16> {
    let mut state = u64::from(std::process::id()) ^ crate::env::clock_micros();
    for _ in 0..2000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let port = 20_000 + u16::try_from((state >> 33) % 12_000).unwrap_or(0);
        if !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            taken.push(port);
            return Ok(port);
        }
    }
    Err(Error::new("no free port on loopback"))
}
