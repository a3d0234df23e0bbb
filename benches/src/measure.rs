//! What a run costs.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::alloc;

/// What every client does with every record: it looks at both ends of the value, and adds up. Equal sums show that all
/// clients read the same.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Touch {
    /// Records.
    pub records: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// First and last bytes of the values, and the lengths of the keys.
    pub checksum: u64,
}

impl Touch {
    /// Looks at a record.
    #[inline]
    pub fn record(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) {
        let key = key.map_or(0, <[u8]>::len) as u64;
        let value = value.unwrap_or_default();
        let first = value.first().copied().unwrap_or(0);
        let last = value.last().copied().unwrap_or(0);
        self.records += 1;
        self.bytes += key + value.len() as u64;
        self.checksum =
            self.checksum.wrapping_add(key).wrapping_add(u64::from(first)).wrapping_add(u64::from(last) << 8);
    }
}

/// Times and counts at one moment.
#[derive(Debug, Clone, Copy)]
struct Snapshot {
    at: Instant,
    user: Duration,
    system: Duration,
    allocations: u64,
}

impl Snapshot {
    fn take() -> Self {
        let (user, system) = cpu();
        Self { at: Instant::now(), user, system, allocations: alloc::allocations() }
    }
}

/// User and system time of this process, all threads together.
#[cfg(unix)]
pub fn cpu() -> (Duration, Duration) {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::{TimeVal, TimeValLike};
    let duration = |time: TimeVal| Duration::from_micros(time.num_microseconds().try_into().unwrap_or(0));
    getrusage(UsageWho::RUSAGE_SELF).map_or((Duration::ZERO, Duration::ZERO), |usage| {
        (duration(usage.user_time()), duration(usage.system_time()))
    })
}

/// User and system time of this process: not known here.
#[cfg(not(unix))]
pub fn cpu() -> (Duration, Duration) {
    (Duration::ZERO, Duration::ZERO)
}

/// The highest resident size of this process so far, in KiB. Not of `getrusage`: that begins with the size of whoever
/// started the process.
pub fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Measures one run.
#[derive(Debug)]
pub struct Meter {
    start: Instant,
    first_record: Option<Duration>,
    began: Option<Snapshot>,
    counts_allocations: bool,
}

impl Meter {
    /// Now the process starts.
    pub fn start(counts_allocations: bool) -> Self {
        Self { start: Instant::now(), first_record: None, began: None, counts_allocations }
    }

    /// The first record is here; later calls change nothing.
    #[inline]
    pub fn first_record(&mut self) {
        if self.first_record.is_none() {
            self.first_record = Some(self.start.elapsed());
        }
    }

    /// The warm-up is over.
    pub fn begin(&mut self) {
        alloc::reset_peak();
        self.began = Some(Snapshot::take());
    }

    /// What it was, from [`begin`](Self::begin) on, where `touch` is what was read since.
    pub fn finish(&self, touch: &Touch) -> Value {
        let end = Snapshot::take();
        let Some(begin) = &self.began else { return Value::Null };
        let mut result = json!({
            "records": touch.records,
            "bytes": touch.bytes,
            "checksum": touch.checksum,
            "user_ns": nanos(end.user - begin.user),
            "system_ns": nanos(end.system - begin.system),
            "wall_ns": nanos(end.at - begin.at),
            "peak_rss_kib": peak_rss(),
            "first_record_ns": self.first_record.map(nanos),
        });
        if self.counts_allocations {
            result["allocations"] = (end.allocations - begin.allocations).into();
            result["peak_live_bytes"] = alloc::peak().into();
        }
        result
    }
}

/// As a number for JSON.
pub fn nanos(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// In milliseconds, for JSON.
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
