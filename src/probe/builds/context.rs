//! Build contexts: what `COPY .` would send to an engine.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use walkdir::WalkDir;

use super::command;
use super::running::Seen;
use crate::domain::builds::{BuildContext, ContextContent, ContextFile, ContextReason};
use crate::domain::dockerfile::{UncachedStep, uncached_steps};
use crate::domain::dockerignore::{DockerIgnore, Judged};
use crate::domain::reading::Reading;
use crate::domain::size::Bytes;
use crate::domain::text::HostPath;
use crate::probe::Context;
use crate::sys::mount_table::MountTable;
use crate::sys::{plain_file, safe_path};

/// Largest files named.
const LARGEST: usize = 10;
/// Directories that seldom belong in a context.
const UNWANTED: &[&[u8]] = &[b".git", b".venv", b"node_modules", b"target"];
/// Contexts looked at.
const CONTEXTS: usize = 20;
/// More of a Dockerfile or an ignore file is not read: a device or a huge file may have its name.
const FILE: u64 = 4 << 20;

/// Looks at the contexts of running builds, of the directories in the settings, and at the one we were started in.
pub(super) fn look(
    context: &Context<'_>,
    mounts: &MountTable,
    builds: &[Seen],
    until: Instant,
) -> Vec<BuildContext> {
    let mut found = Vec::new();
    let mut seen: BTreeSet<PathBuf> = BTreeSet::new();
    let fixture = context.environment.root != Path::new("/");
    let mut add = |directory: PathBuf, dockerfile: Option<PathBuf>, because: ContextReason| {
        let directory = cleaned(&directory);
        if found.len() >= CONTEXTS || !seen.insert(directory.clone()) {
            return;
        }
        if !fixture && safe_path::may_hang(mounts, &directory) {
            if !matches!(because, ContextReason::Here) {
                found.push(unknown(&directory, because));
            }
            return;
        }
        let dockerfile = dockerfile.or_else(|| default_dockerfile(&directory));
        // A directory that is asked for need not be a context.
        if dockerfile.is_some() || matches!(because, ContextReason::Running { .. }) {
            found.push(one(context, mounts, &directory, dockerfile.as_deref(), because, until));
        }
    };
    for build in builds.iter().filter(|seen| seen.build.by_engine && seen.build.same_mounts) {
        let Some(working) = &build.build.directory else { continue };
        let Some(given) = command::read(&build.arguments) else { continue };
        let Some(directory) = given.directory else { continue };
        let working = working.as_path();
        let below = |path: &[u8]| working.join(OsStr::from_bytes(path));
        let because = ContextReason::Running { build: build.build.root };
        add(below(directory), given.dockerfile.map(below), because);
    }
    for directory in &context.settings.builds.directories {
        add(context.environment.rooted(directory), None, ContextReason::Asked);
    }
    let proc = context.proc();
    if let Some(here) = proc.self_pid().and_then(|pid| proc.link(pid, "cwd").ok()) {
        add(PathBuf::from(OsStr::from_bytes(&here)), None, ContextReason::Here);
    }
    found
}

/// A path without `.`, and with `..` taken with what is before it.
fn cleaned(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                cleaned.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => cleaned.push(component),
        }
    }
    cleaned
}

fn default_dockerfile(directory: &Path) -> Option<PathBuf> {
    ["Dockerfile", "Containerfile"].into_iter().map(|name| directory.join(name)).find(|path| path.is_file())
}

/// Docker takes `NAME.dockerignore` beside the Dockerfile before `.dockerignore`; podman `.containerignore` before that.
fn ignore_file(directory: &Path, dockerfile: Option<&Path>) -> Option<PathBuf> {
    let own = dockerfile.map(|file| {
        let mut name = file.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    let usual = [".containerignore", ".dockerignore"].into_iter().map(|name| directory.join(name));
    own.into_iter().chain(usual).find(|path| path.is_file())
}

fn unknown(directory: &Path, because: ContextReason) -> BuildContext {
    BuildContext {
        directory: directory.into(),
        because,
        dockerfile: None,
        ignore_file: None,
        content: Reading::Unavailable {
            why: format!(
                "{} lies on a server or a FUSE program and was not looked at",
                HostPath::from(directory)
            ),
        },
        uncached: Vec::new(),
    }
}

fn one(
    context: &Context<'_>,
    mounts: &MountTable,
    directory: &Path,
    dockerfile: Option<&Path>,
    because: ContextReason,
    until: Instant,
) -> BuildContext {
    let ignore_file = ignore_file(directory, dockerfile);
    let patterns = ignore_file.as_deref().map_or_else(
        || Ok(DockerIgnore::default()),
        |path| {
            let shown = HostPath::from(path);
            let bytes = read(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
            DockerIgnore::parse(&bytes).map_err(|why| format!("docker refuses {shown}: {why}"))
        },
    );
    let entries = context.settings.builds.context_entries;
    BuildContext {
        directory: directory.into(),
        because,
        uncached: dockerfile.map(steps).unwrap_or_default(),
        dockerfile: dockerfile.map(HostPath::from),
        ignore_file: ignore_file.map(HostPath::from),
        content: match patterns {
            Ok(patterns) => walk(directory, &patterns, mounts, entries, until),
            Err(why) => Reading::Unavailable { why },
        },
    }
}

fn steps(dockerfile: &Path) -> Vec<UncachedStep> {
    read(dockerfile).map(|bytes| uncached_steps(&bytes)).unwrap_or_default()
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    plain_file::start(path, FILE)
}

/// Sums up what of a directory is not left out. `entries` and `until` bound how much is looked at.
fn walk(
    directory: &Path,
    ignore: &DockerIgnore,
    mounts: &MountTable,
    entries: u64,
    until: Instant,
) -> Reading<ContextContent> {
    let mut content = ContextContent::default();
    let mut largest: BinaryHeap<Reverse<(u64, PathBuf)>> = BinaryHeap::new();
    let mut unwanted: BTreeMap<PathBuf, u64> = BTreeMap::new();
    let mut missing = Vec::new();
    let mut unreadable = 0_u64;
    // What was said of each directory on the way, and where the first that does not belong here begins.
    let mut way: Vec<(Judged, Option<PathBuf>)> = Vec::new();
    let shown = HostPath::from(directory);
    let mut walker = WalkDir::new(directory).min_depth(1).into_iter();
    while let Some(entry) = walker.next() {
        if content.looked_at >= entries || Instant::now() >= until {
            missing.push(format!(
                "{shown} is so large that only {} of its entries were looked at (builds.context_entries, probe.deadline_ms)",
                content.looked_at
            ));
            break;
        }
        content.looked_at += 1;
        let Ok(entry) = entry else {
            unreadable += 1;
            continue;
        };
        let Ok(path) = entry.path().strip_prefix(directory) else { continue };
        way.truncate(entry.depth().saturating_sub(1));
        let (above, in_unwanted) = way.last().cloned().unwrap_or_default();
        let (left_out, judged) = ignore.judge(path.as_os_str().as_bytes(), &above);
        if entry.file_type().is_dir() {
            if left_out && !ignore.may_hold_exceptions(path.as_os_str().as_bytes()) {
                walker.skip_current_dir();
            } else if mounts.any_may_hang() && mounts.may_hang(entry.path()) {
                missing
                    .push(format!("{} was not looked at: it may never answer", HostPath::from(entry.path())));
                walker.skip_current_dir();
            } else {
                let begins = || UNWANTED.contains(&entry.file_name().as_bytes()).then(|| path.to_path_buf());
                way.push((judged, in_unwanted.or_else(begins)));
            }
            continue;
        }
        if left_out {
            continue;
        }
        let size = match entry.metadata() {
            Ok(meta) if meta.is_file() => meta.len(),
            Ok(_) => 0,
            Err(_) => {
                unreadable += 1;
                continue;
            }
        };
        content.files += 1;
        content.size += Bytes(size);
        if let Some(begins) = in_unwanted {
            *unwanted.entry(begins).or_default() += size;
        }
        largest.push(Reverse((size, path.to_path_buf())));
        if largest.len() > LARGEST {
            largest.pop();
        }
    }
    if unreadable > 0 {
        missing.push(format!("{unreadable} entries of {shown} could not be read"));
    }
    let named = |(size, path): (u64, PathBuf)| ContextFile { path: path.into(), size: Bytes(size) };
    content.largest = largest.into_sorted_vec().into_iter().map(|Reverse(file)| named(file)).collect();
    content.unwanted = unwanted.into_iter().map(|(path, size)| named((size, path))).collect();
    content.unwanted.sort_by_key(|dir| Reverse(dir.size));
    content.unwanted.truncate(LARGEST);
    Reading::with_missing(content, missing)
}
