//! What a stretch of work took: wall time, processor time, memory.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Linux counts processor time in these, whatever its own tick.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a contestant took, and what it found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Wall time, in seconds.
    pub(crate) seconds: f64,
    /// Processor time of all its threads, in seconds.
    pub(crate) cpu_seconds: f64,
    /// The largest resident set, in bytes.
    pub(crate) peak_bytes: u64,
    /// Windows, each of one group; 0 where none are made.
    pub(crate) windows: u64,
    /// Events that went into them.
    pub(crate) events: u64,
}

/// Runs while something is measured.
pub(crate) struct Watch {
    began: Instant,
    cpu: f64,
}

impl Watch {
    /// From now on; the peak of memory starts at what is in use.
    pub(crate) fn start() -> Self {
        // Linux: 5 resets the peak. Where that is not allowed, the peak is the process's.
        std::fs::write("/proc/self/clear_refs", "5").ok();
        Self { began: Instant::now(), cpu: cpu_seconds().unwrap_or(f64::NAN) }
    }

    /// What it took until now.
    pub(crate) fn stop(&self, windows: u64, events: u64) -> Measured {
        Measured {
            seconds: self.began.elapsed().max(Duration::from_micros(1)).as_secs_f64(),
            cpu_seconds: cpu_seconds().unwrap_or(f64::NAN) - self.cpu,
            peak_bytes: peak_bytes().unwrap_or(0),
            windows,
            events,
        }
    }
}

/// Processor time of this thread, where the system tells it: what else runs on the machine does not count.
pub(super) fn thread_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}

/// Processor time of this process, in seconds, where the system tells it.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name, which may hold blanks: user time is the 12th field, system time the 13th.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string(Path::new("/proc/self/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
