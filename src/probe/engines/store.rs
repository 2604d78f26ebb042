//! What a store takes on disk.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use walkdir::WalkDir;

use crate::domain::reading::Reading;
use crate::domain::size::Bytes;

/// How often the clock is looked at, in entries.
const EVERY: usize = 512;

/// Space that a directory and all below it on the same file system take; each file once. What was counted until the
/// deadline where there is not time for all.
pub(in crate::probe) fn size(dir: &Path, deadline: Duration) -> Reading<Bytes> {
    let until = Instant::now() + deadline;
    let mut total = Bytes::ZERO;
    let mut linked = HashSet::new();
    let mut unreadable = 0_u64;
    for (number, entry) in WalkDir::new(dir).same_file_system(true).into_iter().enumerate() {
        if number % EVERY == 0 && Instant::now() >= until {
            let shown = crate::domain::text::HostPath::from(dir);
            return Reading::with_missing(
                total,
                vec![format!("{shown} is so large that only a part was counted in time")],
            );
        }
        match entry.and_then(|entry| entry.metadata()) {
            Ok(meta) if meta.nlink() > 1 && !meta.is_dir() && !linked.insert((meta.dev(), meta.ino())) => {}
            Ok(meta) => total += Bytes(meta.blocks().saturating_mul(512)),
            Err(_) if number == 0 => {
                let shown = crate::domain::text::HostPath::from(dir);
                return Reading::Denied {
                    hint: format!("run as root (sudo unwedge) to see what {shown} takes"),
                };
            }
            Err(_) => unreadable += 1,
        }
    }
    let missing = (unreadable > 0).then(|| format!("{unreadable} entries of the store could not be read"));
    Reading::with_missing(total, missing.into_iter().collect())
}
