//! Finds what of the catalogue is on this machine: looks at every fixed place in a bounded way, and tells the real
//! things among directories that only have the name.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, statat};
use rustix::io::read;

use super::busy::Busy;
use super::chosen::path_of;
use super::{Context, filesystems, host};
use crate::assets;
use crate::domain::caches::{CacheKind, CachePlace, CacheSize};
use crate::domain::catalogue::{Catalogue, Entry, Mark, Pattern, Remove, Spot, matches};
use crate::domain::identity::DevIno;
use crate::domain::protect::ProtectSet;
use crate::domain::reading::Reading;
use crate::domain::snapshot::Evidence;
use crate::domain::text::{HostPath, HostText};
use crate::sys::mount_table::MountTable;
use crate::sys::{beneath, file_id, safe_path};

/// Names that one star is compared with, and names that it may stand for.
const LISTED: usize = 10_000;
const STARRED: usize = 256;
/// Entries that are looked at for a mark with a star.
const MARKED: usize = 1_000;
/// Candidates of one entry that are looked at on disk; a tree with more is a hostile or a very odd one.
const LOOKED_AT: usize = 50_000;
/// How a `CACHEDIR.TAG` begins (<https://bford.info/cachedir/>).
const SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";
/// Directories above a place in which [`Mark::Above`] is looked for.
const ABOVE: usize = 5;

/// A directory that may be what an entry of the catalogue describes.
#[derive(Clone, Debug)]
pub struct Candidate<'c> {
    /// The entry.
    pub entry: &'c Entry,
    /// The directory: absolute, without symbolic links.
    pub path: PathBuf,
    /// The home directory it was looked for in.
    pub home: Option<PathBuf>,
    /// Whether it was found by its name alone and not at a place where the entry's owner keeps it.
    pub by_name: bool,
    /// Its figures, where a scan has seen it.
    pub size: Option<CacheSize>,
    /// Newest modification time in it, where a scan has seen it.
    pub modified: Option<i64>,
}

/// Finds what is at fixed places. Their sizes are not known: only a scan tells.
pub fn look(context: &Context<'_>) -> Reading<Vec<CacheKind>> {
    match assets::catalogue() {
        Ok(catalogue) => {
            let (candidates, mut missing) = fixed(context, catalogue);
            let (kinds, more) = judge(context, candidates, &ProtectSet::default());
            missing.extend(more);
            Reading::with_missing(kinds, missing)
        }
        Err(why) => Reading::Unavailable { why: format!("the catalogue cannot be read: {why}") },
    }
}

/// What speaks against cleaning a place now.
///
/// # Errors
/// Where the catalogue has no such entry, as a sentence.
pub fn busy(
    context: &Context<'_>,
    entry: &str,
    path: &Path,
    home: Option<&Path>,
) -> Result<Vec<Evidence>, String> {
    let entry =
        assets::catalogue()?.get(entry).ok_or_else(|| format!("the catalogue has no entry {entry}"))?;
    Ok(Busy::read(context).reasons(&entry.refuse, std::iter::once(Spot { path, home })))
}

/// What speaks against cleaning something now, by every entry of the catalogue that it, or the directory it is in, may
/// belong to by its name.
///
/// # Errors
/// Where there is no catalogue, as a sentence.
pub fn busy_at(context: &Context<'_>, path: &Path) -> Result<Vec<Evidence>, String> {
    let catalogue = assets::catalogue()?;
    let now = Busy::read(context);
    let mut reasons = Vec::new();
    for place in [Some(path), path.parent()].into_iter().flatten() {
        for entry in catalogue.entries() {
            for pattern in
                entry.paths.iter().chain(&entry.home).chain(&entry.named).filter(|one| one.ends(place))
            {
                let depth = pattern.components().count();
                let home = entry.home.contains(pattern).then(|| place.ancestors().nth(depth)).flatten();
                reasons.extend(now.reasons(&entry.refuse, std::iter::once(Spot { path: place, home })));
            }
        }
    }
    Ok(reasons)
}

/// The directories at the fixed places of the catalogue, and what could not be looked at.
pub fn fixed<'c>(context: &Context<'_>, catalogue: &'c Catalogue) -> (Vec<Candidate<'c>>, Vec<String>) {
    let mut search = Search {
        context,
        fixture: context.environment.root != Path::new("/"),
        mounts: filesystems::own_mounts(context).map(|(table, _)| table).unwrap_or_default(),
        found: BTreeMap::new(),
        missing: BTreeSet::new(),
    };
    for entry in catalogue.entries() {
        for pattern in &entry.paths {
            search.places(entry, &context.environment.root, pattern, None);
        }
    }
    for home in homes(context) {
        let dir = context.environment.rooted(&home.path);
        if search.may_hang(&dir) {
            let shown = HostPath::from(home.path.as_path());
            search.missing.insert(format!(
                "caches in {shown} were not looked for: it lies on a server or a FUSE program (unwedge {} scans it)",
                shown.quoted()
            ));
            continue;
        }
        for entry in catalogue.entries() {
            for pattern in &entry.home {
                search.places(entry, &dir, pattern, Some(&home));
            }
        }
    }
    (search.found.into_values().collect(), search.missing.into_iter().collect())
}

/// A home directory and whose it is.
struct Home {
    path: PathBuf,
    uid: u32,
}

/// Home directories, that of the person at the keyboard first.
fn homes(context: &Context<'_>) -> Vec<Home> {
    let mut homes: Vec<Home> = host::users(context)
        .into_iter()
        .map(|user| Home { path: PathBuf::from(OsStr::from_bytes(&user.home)), uid: user.uid })
        .filter(|home| home.path.is_absolute() && home.path.parent().is_some())
        .collect();
    let person = &context.environment.home;
    if !homes.iter().any(|home| home.path == *person) {
        homes.push(Home { path: person.clone(), uid: context.environment.uid });
    }
    homes.sort_by_key(|home| (home.path != *person, home.path.clone()));
    homes.dedup_by(|a, b| a.path == b.path);
    homes
}

struct Search<'a, 'c> {
    context: &'a Context<'a>,
    fixture: bool,
    mounts: Arc<MountTable>,
    /// By path and entry, so that a home with two names counts once.
    found: BTreeMap<(PathBuf, &'c str), Candidate<'c>>,
    missing: BTreeSet<String>,
}

impl<'c> Search<'_, 'c> {
    fn may_hang(&self, path: &Path) -> bool {
        !self.fixture && safe_path::may_hang(&self.mounts, path)
    }

    fn places(&mut self, entry: &'c Entry, base: &Path, pattern: &Pattern, home: Option<&Home>) {
        let mut paths = vec![base.to_path_buf()];
        for component in pattern.components() {
            paths = if component.contains('*') {
                paths.iter().flat_map(|dir| self.starred(dir, component)).take(STARRED).collect()
            } else {
                paths.into_iter().map(|dir| dir.join(component)).collect()
            };
        }
        for path in paths {
            self.place(entry, &path, home);
        }
    }

    fn starred(&self, dir: &Path, component: &str) -> Vec<PathBuf> {
        if self.may_hang(dir) {
            return Vec::new();
        }
        let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
        let names = entries.take(LISTED).flatten().map(|entry| entry.file_name());
        names.filter(|name| matches(component, name.as_bytes())).map(|name| dir.join(name)).collect()
    }

    fn place(&mut self, entry: &'c Entry, path: &Path, home: Option<&Home>) {
        // The link itself may lead to a dead server: looked at only after that is ruled out.
        if self.may_hang(path) {
            return;
        }
        let Ok(fd) = open_dir(path) else { return };
        let Some(real) = path_of(&fd) else { return };
        if let Some(home) = home {
            let inside = self
                .context
                .environment
                .rooted(&home.path)
                .canonicalize()
                .is_ok_and(|home| real.starts_with(home));
            // A link out of a home directory is followed to what belongs to the same user and nowhere else.
            if !inside && fstat(&fd).is_ok_and(|stat| stat.st_uid != home.uid) {
                return;
            }
        }
        let candidate = Candidate {
            entry,
            path: real.clone(),
            home: home.map(|home| home.path.clone()),
            by_name: false,
            size: None,
            modified: None,
        };
        self.found.entry((real, entry.id.as_str())).or_insert(candidate);
    }
}

fn open_dir(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
}

/// Keeps the candidates that are what they look like, and puts them together by entry, largest first. What lies in
/// another one is left out, so that nothing is counted twice and nothing is offered inside a store. Also returns what
/// could not be told.
pub fn judge(
    context: &Context<'_>,
    mut candidates: Vec<Candidate<'_>>,
    protect: &ProtectSet,
) -> (Vec<CacheKind>, Vec<String>) {
    // Whatever is in a directory follows it at once in the order of paths; the place that the owner is known to use
    // comes before one that only has the name.
    candidates.sort_by(|a, b| (&a.path, a.by_name, &a.entry.id).cmp(&(&b.path, b.by_name, &b.entry.id)));
    let names: BTreeMap<u32, HostText> =
        host::users(context).into_iter().rev().map(|user| (user.uid, user.name)).collect();
    let mut looked_at: BTreeMap<&str, usize> = BTreeMap::new();
    let mut kinds: BTreeMap<&str, (&Entry, Vec<CachePlace>)> = BTreeMap::new();
    let mut outer: Option<PathBuf> = None;
    for candidate in candidates {
        if outer.as_ref().is_some_and(|outer| candidate.path.starts_with(outer)) {
            continue;
        }
        let count = looked_at.entry(&candidate.entry.id).or_default();
        *count += 1;
        if *count > LOOKED_AT {
            continue;
        }
        let Some(place) = prove(&candidate, protect, &names) else { continue };
        // What is protected and only has the name belongs to a package or a store.
        if candidate.by_name && place.protected.is_some() {
            continue;
        }
        outer = Some(candidate.path);
        kinds.entry(&candidate.entry.id).or_insert((candidate.entry, Vec::new())).1.push(place);
    }
    let missing = looked_at.into_iter().filter(|(_, count)| *count > LOOKED_AT).map(|(id, count)| {
        format!("{id}: {} of {count} directories of that name were not looked at", count - LOOKED_AT)
    });
    let missing = missing.collect();
    let busy = Busy::read(context);
    let mut kinds: Vec<CacheKind> =
        kinds.into_values().map(|(entry, places)| gather(entry, places, &busy)).collect();
    kinds.sort_by(|a, b| b.size.allocated.cmp(&a.size.allocated).then_with(|| a.entry.cmp(&b.entry)));
    (kinds, missing)
}

fn gather(entry: &Entry, mut places: Vec<CachePlace>, busy: &Busy) -> CacheKind {
    places.sort_by(|a, b| {
        let size = |place: &CachePlace| place.size.map(|size| size.allocated);
        size(b).cmp(&size(a)).then_with(|| a.path.cmp(&b.path))
    });
    let mut size = CacheSize::default();
    places.iter().filter_map(|place| place.size).for_each(|one| size.add(one));
    let found = places.len() as u64;
    let unsized_places = places.iter().filter(|place| place.size.is_none()).count() as u64;
    places.truncate(CacheKind::PLACES);
    let spots = places
        .iter()
        .map(|place| Spot { path: place.path.as_path(), home: place.home.as_ref().map(HostPath::as_path) });
    let busy = busy.reasons(&entry.refuse, spots);
    CacheKind {
        entry: entry.id.clone(),
        title: entry.title.clone(),
        found,
        unsized_places,
        size,
        places,
        busy,
    }
}

/// The candidate as it is on disk, if it has the marks of its entry.
fn prove(
    candidate: &Candidate<'_>,
    protect: &ProtectSet,
    names: &BTreeMap<u32, HostText>,
) -> Option<CachePlace> {
    let fd = open_dir(&candidate.path).ok()?;
    let proven = candidate.entry.proof.iter().all(|group| group.iter().any(|mark| has(&fd, mark)));
    if !proven {
        return None;
    }
    let uid = fstat(&fd).ok()?.st_uid;
    // Where what is above cannot be looked at, nothing is known to be safe.
    let (key, above) = identity_of(&fd)?;
    let check = protect.check(key, &above);
    let protected = match candidate.entry.remove {
        // Its contents may go where the directory itself may not (`/var/log`, a home's `.cache`).
        Remove::Contents => protect
            .covers(key, &above)
            .map(|what| format!("it is inside {}, which is protected: {}", what.path, what.why)),
        Remove::Tree | Remove::Never => check.err(),
    };
    Some(CachePlace {
        path: HostPath::from(candidate.path.as_path()),
        key,
        home: candidate.home.as_deref().map(HostPath::from),
        uid,
        user: names.get(&uid).cloned(),
        size: candidate.size,
        modified: candidate.modified,
        protected,
    })
}

/// Whether a directory has a mark. Only looks; opens nothing but directories and a tag.
fn has(dir: &OwnedFd, mark: &Mark) -> bool {
    match mark {
        Mark::Tag => is_tagged(dir),
        Mark::Inside(name) => has_entry(dir, name),
        Mark::Beside(name) => above(dir, 1).iter().any(|dir| has_entry(dir, name)),
        Mark::Above(name) => above(dir, ABOVE).iter().any(|dir| has_entry(dir, name)),
    }
}

fn has_entry(dir: &OwnedFd, name: &str) -> bool {
    if name.contains('*') {
        return any_entry(dir, name);
    }
    CString::new(name).is_ok_and(|name| statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok())
}

fn any_entry(dir: &OwnedFd, pattern: &str) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(entries) = openat(dir, c".", flags, Mode::empty()).and_then(Dir::new) else { return false };
    entries.take(MARKED).flatten().any(|entry| matches(pattern, entry.file_name().to_bytes()))
}

fn above(dir: &OwnedFd, levels: usize) -> Vec<OwnedFd> {
    let mut all: Vec<OwnedFd> = Vec::new();
    for _ in 0..levels {
        let below = all.last().unwrap_or(dir);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(below, c"..", flags, Mode::empty()) {
            Ok(parent) => all.push(parent),
            Err(_) => break,
        }
    }
    all
}

fn is_tagged(dir: &OwnedFd) -> bool {
    // Never a link, and never waits for whoever made a pipe of that name.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let is_file = statat(dir, c"CACHEDIR.TAG", AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    if !is_file {
        return false;
    }
    let mut start = [0; SIGNATURE.len()];
    openat(dir, c"CACHEDIR.TAG", flags, Mode::empty())
        .and_then(|file| read(file, &mut start))
        .is_ok_and(|length| start.get(..length) == Some(SIGNATURE))
}

/// The identity of a directory and of those above it, nearest first; none where it cannot be looked at.
pub(super) fn identity(path: &Path) -> Option<(DevIno, Vec<DevIno>)> {
    identity_of(&open_dir(path).ok()?)
}

fn identity_of(dir: &OwnedFd) -> Option<(DevIno, Vec<DevIno>)> {
    let key = file_id::of_fd(dir).ok()?.key;
    let above = beneath::with_ancestors(dir).ok()?.into_iter().skip(1).collect();
    Some((key, above))
}
