//! What a client is told to do.

use std::net::SocketAddr;

use serde_json::Value;

use crate::Result;

/// The one argument of a client, as JSON.
#[derive(Debug, Clone)]
pub struct Job {
    value: Value,
}

impl Job {
    /// The argument of this process.
    ///
    /// # Errors
    /// When there is none or it is not JSON.
    pub fn from_args() -> Result<Self> {
        let text = std::env::args().nth(1).ok_or("no job; `cargo xtask bench` starts this program")?;
        Ok(Self { value: serde_json::from_str(&text)? })
    }

    fn text(&self, name: &str) -> Result<&str> {
        self.value[name].as_str().ok_or_else(|| format!("the job has no {name}").into())
    }

    fn number(&self, name: &str) -> Result<u64> {
        self.value[name].as_u64().ok_or_else(|| format!("the job has no {name}").into())
    }

    /// Which client.
    ///
    /// # Errors
    /// When it is not said, as below.
    pub fn client(&self) -> Result<&str> {
        self.text("client")
    }

    /// What to do: `throughput` and others.
    ///
    /// # Errors
    /// When it is not said.
    pub fn kind(&self) -> Result<&str> {
        self.text("kind")
    }

    /// Addresses with commas.
    ///
    /// # Errors
    /// When it is not said.
    pub fn bootstrap(&self) -> Result<&str> {
        self.text("bootstrap")
    }

    /// The first of them.
    ///
    /// # Errors
    /// When it is not a number.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.bootstrap()?.split(',').next().unwrap_or_default().parse()?)
    }

    /// The topic.
    ///
    /// # Errors
    /// When it is not said.
    pub fn topic(&self) -> Result<&str> {
        self.text("topic")
    }

    /// Its number of partitions.
    ///
    /// # Errors
    /// When it is not said.
    pub fn partitions(&self) -> Result<i32> {
        Ok(self.number("partitions")?.try_into()?)
    }

    /// How many records the topic holds: one pass.
    ///
    /// # Errors
    /// When it is not said.
    pub fn records(&self) -> Result<u64> {
        self.number("records")
    }

    /// How many passes over the topic are measured, after one that is not.
    ///
    /// # Errors
    /// When it is not said.
    pub fn passes(&self) -> Result<u64> {
        self.number("passes")
    }

    /// The most bytes of one fetch, and of one partition in it.
    ///
    /// # Errors
    /// When it is not said.
    pub fn fetch_bytes(&self) -> Result<i32> {
        Ok(self.number("fetch_bytes")?.try_into()?)
    }

    /// How long a fetch may wait for new records, in milliseconds, if it is said.
    ///
    /// Short where topics are read from the beginning again: whoever has read to the end has a fetch under way that
    /// waits, and going back may have to wait for its answer.
    pub fn max_wait_ms(&self) -> Option<u64> {
        self.value["max_wait_ms"].as_u64()
    }

    /// The group, for clients that are members of one.
    pub fn group(&self) -> Option<&str> {
        self.value["group"].as_str()
    }

    /// Any other number, with a default.
    pub fn extra(&self, name: &str, default: u64) -> u64 {
        self.value[name].as_u64().unwrap_or(default)
    }
}
