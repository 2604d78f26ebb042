//! Builds that slow each other down, or wait for each other.

use std::collections::BTreeMap;

use super::{Found, Rule, counted};
use crate::config::Settings;
use crate::domain::builds::RunningBuild;
use crate::domain::finding::{Reclaim, Severity, Subject};
use crate::domain::identity::DevId;
use crate::domain::snapshot::{Evidence, Snapshot};
use crate::domain::text::{HostPath, HostText};

pub const RULE: Rule = Rule {
    id: "builds-competing",
    why: "Several builds at once share one disk, its free space and the page cache: each becomes slower than one after \
          the other would be, and together they need room for all their intermediate files. Two of the same tool in one \
          directory wait for each other's lock, which looks like a hang, or overwrite each other's files.",
    check,
};

fn check(snapshot: &Snapshot, settings: &Settings) -> Vec<Found> {
    let Some(builds) = snapshot.builds.value() else { return Vec::new() };
    let mut found = Vec::new();
    let mut same_place = BTreeMap::<_, Vec<&RunningBuild>>::new();
    let mut by_device: BTreeMap<DevId, Vec<&RunningBuild>> = BTreeMap::new();
    for build in &builds.running {
        let Some(key) = build.directory_key else { continue };
        if build.exclusive {
            same_place.entry((key, &build.tool)).or_default().push(build);
        }
        if build.by_engine || build.cpu.0 >= f64::from(settings.builds.busy_percent) {
            by_device.entry(key.dev).or_default().push(build);
        }
    }
    for ((_, tool), group) in same_place {
        if let [first, _, ..] = group.as_slice() {
            let place = first.directory.clone().unwrap_or_default();
            found.push(in_one_directory(tool, &place, &group));
        }
    }
    for (dev, group) in by_device {
        if group.len() >= usize::try_from(settings.builds.warn_competing.max(2)).unwrap_or(usize::MAX) {
            found.push(on_one_file_system(snapshot, dev, &group));
        }
    }
    found
}

fn in_one_directory(tool: &HostText, place: &HostPath, group: &[&RunningBuild]) -> Found {
    Found {
        key: format!("{tool}:{place}"),
        title: format!("{} runs of {tool} at once in {place}", group.len()),
        advice: format!(
            "Let the oldest finish, or end what nobody waits for. Where both are needed, give each a directory of its own \
             (a second checkout; for cargo --target-dir). ps --pid {} --forest shows who started them.",
            pids(group)
        ),
        ..common(group)
    }
}

fn on_one_file_system(snapshot: &Snapshot, dev: DevId, group: &[&RunningBuild]) -> Found {
    let mut all = snapshot.filesystems.value().into_iter().flatten();
    let place = all
        .find(|fs| fs.has_device(dev))
        .map_or_else(|| format!("device {dev}"), |fs| fs.mount_point.to_string());
    Found {
        key: place.clone(),
        title: format!("{} busy builds at once on {place}", group.len()),
        advice: format!(
            "Run them one after the other, or with fewer jobs each (-j, --parallel). To hold one back without losing its \
             work: kill -STOP PID, later kill -CONT PID. ps --pid {} --forest shows who started them.",
            pids(group)
        ),
        ..common(group)
    }
}

fn common(group: &[&RunningBuild]) -> Found {
    Found {
        key: String::new(),
        severity: Severity::Warning,
        subject: Subject::Processes { processes: group.iter().map(|build| build.root).collect() },
        title: String::new(),
        evidence: group.iter().map(|build| evidence(build)).collect(),
        reclaim: Reclaim::Nothing,
        actions: Vec::new(),
        advice: String::new(),
    }
}

fn evidence(build: &RunningBuild) -> Evidence {
    let pid = build.root.pid;
    let place = build
        .directory
        .as_ref()
        .map_or_else(|| "a directory that may not be read".to_owned(), HostPath::to_string);
    let work = if build.by_engine {
        "an engine works for it".to_owned()
    } else {
        format!("{} of one CPU", build.cpu)
    };
    Evidence::new(
        format!(
            "pid {pid} {} in {place}: has run for {} s, {}, {work}",
            build.command,
            build.age_secs,
            counted(usize::try_from(build.processes).unwrap_or(usize::MAX), "process", "processes")
        ),
        format!("/proc/{pid}/cwd, /proc/{pid}/stat"),
    )
}

fn pids(group: &[&RunningBuild]) -> String {
    let pids: Vec<String> = group.iter().map(|build| build.root.pid.to_string()).collect();
    pids.join(",")
}
