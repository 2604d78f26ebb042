//! How fast file systems fill up, and who writes to them: what changed between two looks.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::identity::{DevIno, MountId, ProcId};
use super::reading::Millis;
use super::size::Bytes;
use super::text::{HostPath, HostText};

/// What changed between the first look and the last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Growth {
    /// Time between the two; none where nothing is measured, because `growth.interval_ms` is 0.
    pub over: Option<Millis>,
    /// Local file systems that can be written to, the fastest growing first.
    pub filesystems: Vec<FsGrowth>,
    /// Processes that wrote, the one that wrote most first.
    pub writers: Vec<WritingProcess>,
}

/// How a file system changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FsGrowth {
    /// Where it is mounted.
    pub mount_point: HostPath,
    /// The mount at `mount_point`.
    pub mount: MountId,
    /// Change of the space in use, in bytes; negative where it shrank.
    pub change: i64,
    /// What it grew by in a second, in the slower part of the time: a burst is not a trend. Zero where it did not grow
    /// all the time.
    pub per_second: Bytes,
    /// What users other than root could still have at the last look.
    pub available: Bytes,
    /// Seconds until nothing is available at that rate; none where it does not grow.
    pub full_in_secs: Option<u64>,
}

/// A process that wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WritingProcess {
    /// Which process.
    pub process: ProcId,
    /// Its name (`comm`).
    pub name: HostText,
    /// What it made the kernel write to devices: `write_bytes` less `cancelled_write_bytes` (`proc_pid_io(5)`). What goes
    /// to a tmpfs is not in it.
    pub written: Bytes,
    /// The same in a second.
    pub per_second: Bytes,
    /// Regular files on local file systems that it has open for writing and that grew, the fastest first.
    pub files: Vec<GrowingFile>,
}

/// A file that grew while a process had it open for writing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GrowingFile {
    /// Which file.
    pub key: DevIno,
    /// Its path as the kernel shows it; ends in ` (deleted)` where it has no name any more.
    pub path: HostPath,
    /// Where the file system is mounted that it is on; none where only another mount namespace shows that.
    pub on: Option<HostPath>,
    /// The descriptor.
    pub fd: i32,
    /// Apparent size at the last look.
    pub size: Bytes,
    /// What the apparent size grew by.
    pub grown: Bytes,
    /// The same in a second.
    pub per_second: Bytes,
}

/// What an amount in so much time is in a second.
pub fn per_second(amount: u64, time: Duration) -> Bytes {
    let nanos = time.as_nanos().max(1);
    let rate = u128::from(amount).saturating_mul(1_000_000_000) / nanos;
    Bytes(u64::try_from(rate).unwrap_or(u64::MAX))
}

/// Seconds until `left` is used up at a rate; none where nothing is added.
pub fn lasts(left: Bytes, per_second: Bytes) -> Option<u64> {
    left.0.checked_div(per_second.0)
}

/// A time in the unit a person would use, rounded down: `40 s`, `12 min`, `3 h`, `5 d`.
pub fn about(secs: u64) -> String {
    match secs {
        0..=119 => format!("{secs} s"),
        120..=7199 => format!("{} min", secs / 60),
        7200..=172_799 => format!("{} h", secs / 3600),
        _ => format!("{} d", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_times() {
        assert_eq!(per_second(500, Duration::from_millis(500)), Bytes(1000));
        assert_eq!(per_second(u64::MAX, Duration::ZERO), Bytes(u64::MAX));
        assert_eq!(lasts(Bytes(10), Bytes(0)), None);
        assert_eq!(lasts(Bytes(10), Bytes(3)), Some(3));
        let said: Vec<String> = [0, 119, 120, 7199, 7200, 172_799, 172_800].map(about).to_vec();
        assert_eq!(said, ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d"]);
    }
}
