//! Time from writing to reading.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::Job;

/// Records at the beginning that do not count.
pub const WARM_UP: u64 = 1000;

/// The clock that both sides read.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos().try_into().unwrap_or(u64::MAX))
}

/// The latencies of a run.
#[derive(Debug)]
pub struct Latencies {
    seen: u64,
    wanted: usize,
    nanos: Vec<u64>,
}

impl Latencies {
    /// Of as many records as the job says, after the warm-up.
    pub fn new(job: &Job) -> Self {
        let wanted = usize::try_from(job.extra("records", 0)).unwrap_or(0);
        Self { seen: 0, wanted, nanos: Vec::with_capacity(wanted) }
    }

    /// Whether there are enough.
    pub fn is_full(&self) -> bool {
        self.nanos.len() >= self.wanted
    }

    /// A record is here; its value begins with the time it was written at.
    pub fn record(&mut self, value: Option<&[u8]>) {
        self.seen += 1;
        let written =
            value.and_then(|value| value.first_chunk()).map_or(0, |bytes| u64::from_be_bytes(*bytes));
        if self.seen > WARM_UP {
            self.nanos.push(now().saturating_sub(written));
        }
    }

    /// Percentiles in microseconds, and the CPU time for each record.
    pub fn result(mut self, cpu: Duration) -> Value {
        self.nanos.sort_unstable();
        let at = |part: f64| {
            let place = (self.nanos.len() as f64 * part) as usize;
            self.nanos.get(place.min(self.nanos.len().saturating_sub(1))).map(|nanos| *nanos as f64 / 1e3)
        };
        json!({
            "p50_us": at(0.5), "p99_us": at(0.99), "p999_us": at(0.999),
            "cpu_us_per_record": cpu.as_secs_f64() * 1e6 / self.seen.max(1) as f64,
        })
    }
}
