//! How fast file systems fill up, and which processes write to what.
//!
//! Everything is looked at three times, half of `growth.interval_ms` apart, so that a burst can be told from growth that
//! goes on. By default that takes 200 ms, in which this thread sleeps: the other probes deliver meanwhile, so that it is
//! meant to fit into an assessment of 300 ms. Whoever keeps a [`Memory`] (the console does) compares with the end of the look
//! before, so that the second look covers all the time since the first.
//!
//! What cannot be seen in so short a time: btrfs changes its figures when it commits, every 30 s (btrfs(5)), so its
//! growth needs an interval longer than that, or the console.

mod sample;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Context;
use super::filesystems::own_mounts;
use super::mounts::hidden_processes;
use crate::domain::growth::{FsGrowth, GrowingFile, Growth, WritingProcess, lasts, per_second};
use crate::domain::identity::{DevId, ProcId};
use crate::domain::reading::{Millis, Reading};
use crate::domain::size::Bytes;
use crate::domain::text::HostPath;
use crate::sys::mount_table::MountTable;
use crate::sys::procfs::how_to_look;

use sample::{FsSample, ProcSample, Sample, Sampler};

/// The last look, for the next one to compare with. All clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Option<Sample>>>);

impl Memory {
    fn take(&self) -> Option<Sample> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn keep(&self, sample: Sample) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sample);
    }
}

/// How long it may take.
pub(super) fn deadline(context: &Context<'_>) -> Duration {
    context.deadline() + interval(context)
}

fn interval(context: &Context<'_>) -> Duration {
    Duration::from_millis(context.settings.growth.interval_ms)
}

/// Measures. Waits for the interval.
pub fn look(context: &Context<'_>) -> Reading<Growth> {
    let interval = interval(context);
    if interval.is_zero() {
        return Reading::ready(Growth::default());
    }
    let until = Instant::now() + deadline(context);
    let (table, mut missing) = match own_mounts(context) {
        Ok(read) => read,
        Err(why) => return Reading::Unavailable { why },
    };
    let sampler = Sampler::new(context, &table, until);
    let pause = interval / 2;
    let first = match context.memory.and_then(Memory::take) {
        Some(before) => before,
        None => match sampler.everything() {
            Ok(sample) => {
                thread::sleep(pause);
                sample
            }
            Err(why) => return Reading::Unavailable { why },
        },
    };
    let (middle, last) = match sampler.after(&first).and_then(|middle| {
        thread::sleep(pause);
        sampler.after(&middle).map(|last| (middle, last))
    }) {
        Ok(both) => both,
        Err(why) => return Reading::Unavailable { why },
    };
    let growth = compare(&first, &middle, &last, &table);
    missing.extend(hidden_processes(context, &table));
    missing.extend(gaps(&last));
    if let Some(memory) = context.memory {
        memory.keep(last);
    }
    Reading::with_missing(growth, missing)
}

fn gaps(last: &Sample) -> Vec<String> {
    let mut missing = Vec::new();
    if last.refused > 0 {
        missing.push(format!(
            "what {} of {} processes write could not be seen: {}",
            last.refused,
            last.asked,
            how_to_look()
        ));
    }
    if last.cut_short {
        missing.push("what processes write could not be read of all of them in time".to_owned());
    }
    missing
}

fn compare(first: &Sample, middle: &Sample, last: &Sample, table: &MountTable) -> Growth {
    let mut filesystems: Vec<FsGrowth> = last
        .filesystems
        .iter()
        .filter_map(|(dev, now)| {
            Some(fs_growth(first.filesystems.get(dev)?, middle.filesystems.get(dev), now))
        })
        .collect();
    filesystems.sort_by(|a, b| {
        (b.per_second, b.change)
            .cmp(&(a.per_second, a.change))
            .then_with(|| a.mount_point.cmp(&b.mount_point))
    });
    let places: BTreeMap<DevId, &HostPath> =
        last.filesystems.iter().map(|(dev, fs)| (*dev, &fs.mount_point)).collect();
    let mut writers: Vec<WritingProcess> = last
        .processes
        .iter()
        .filter_map(|(id, now)| {
            // One that was started meanwhile, or looked at too late before, is compared with the later look.
            let before = first.processes.get(id);
            let between = middle.processes.get(id);
            writer(*id, before.or(between)?, between, now, (&places, table))
        })
        .collect();
    writers.sort_by(|a, b| {
        let most =
            |writer: &WritingProcess| writer.written.max(writer.files.iter().map(|file| file.grown).sum());
        most(b).cmp(&most(a)).then_with(|| a.process.cmp(&b.process))
    });
    Growth { over: Some(Millis::from(last.at.saturating_duration_since(first.at))), filesystems, writers }
}

fn fs_growth(before: &FsSample, between: Option<&FsSample>, now: &FsSample) -> FsGrowth {
    let part = |from: &FsSample, to: &FsSample| {
        per_second(to.used.saturating_sub(from.used), to.at.saturating_duration_since(from.at))
    };
    let rate = match between {
        Some(between) => part(before, between).min(part(between, now)),
        None => part(before, now),
    };
    FsGrowth {
        mount_point: now.mount_point.clone(),
        mount: now.mount,
        change: i64::try_from(i128::from(now.used) - i128::from(before.used)).unwrap_or(i64::MAX),
        per_second: rate,
        available: now.available,
        full_in_secs: lasts(now.available, rate),
    }
}

fn writer(
    process: ProcId,
    before: &ProcSample,
    between: Option<&ProcSample>,
    now: &ProcSample,
    (places, table): (&BTreeMap<DevId, &HostPath>, &MountTable),
) -> Option<WritingProcess> {
    let written = now.written.saturating_sub(before.written);
    let wrote = now.handed_over > before.handed_over;
    let mut files: Vec<GrowingFile> = now
        .files
        .iter()
        .filter_map(|(key, file)| {
            let was = before.files.get(key).or_else(|| between?.files.get(key))?;
            let grown = file.size.saturating_sub(was.size);
            // The mount of the descriptor tells more than the device of the file, which on btrfs is another.
            let dev = file.mount.and_then(|id| table.by_id(id)).map_or(key.dev, |entry| entry.dev);
            (grown > 0).then(|| GrowingFile {
                key: *key,
                path: file.path.clone(),
                on: places.get(&dev).map(|&place| place.clone()),
                fd: file.fd,
                size: Bytes(file.size),
                grown: Bytes(grown),
                per_second: per_second(grown, file.at.saturating_duration_since(was.at)),
            })
        })
        .collect();
    // A descriptor is inherited by children: who has a growing file open need not be who writes it.
    if !wrote {
        files.clear();
    }
    if written == 0 && files.is_empty() {
        return None;
    }
    files.sort_by(|a, b| b.grown.cmp(&a.grown).then_with(|| a.key.cmp(&b.key)));
    Some(WritingProcess {
        process,
        name: now.name.clone(),
        written: Bytes(written),
        per_second: per_second(written, now.at.saturating_duration_since(before.at)),
        files,
    })
}
