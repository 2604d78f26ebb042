//! What finished scans tell beside sizes: caches of the catalogue, crowded directories, where the inodes are.

use std::path::Path;

use super::Engine;
use crate::assets;
use crate::domain::caches::{CacheKind, CacheSize};
use crate::domain::catalogue::Catalogue;
use crate::domain::protect::ProtectSet;
use crate::domain::reading::Reading;
use crate::domain::room;
use crate::domain::scanned::{CrowdedDir, EntryHog, Scanned};
use crate::domain::size::Bytes;
use crate::domain::snapshot::Snapshot;
use crate::domain::text::HostPath;
use crate::probe;
use crate::probe::caches::Candidate;
use crate::scan::{Crowd, Row, Scan};

/// Directories that are tried: those with at least so many entries, or this much metadata of their own, the most
/// crowded first.
const CROWDED_ENTRIES: u64 = 10_000;
const CROWDED_SIZE: Bytes = Bytes(1 << 20);
const CROWDED: usize = 20;
/// Directories that are named for their inodes, of each scan.
const HOGS: usize = 10;

impl Engine {
    /// Looks through finished scans and, where they point to something, at the machine. The snapshot must hold what is
    /// protected.
    pub fn scanned(&self, scans: &[&Scan], snapshot: &Snapshot) -> Reading<Scanned> {
        let (caches, missing) = self.caches(scans, &snapshot.protect);
        let mut hogs: Vec<EntryHog> = scans.iter().flat_map(|scan| hogs(scan, snapshot)).collect();
        hogs.sort_by(|a, b| b.inodes.cmp(&a.inodes).then_with(|| a.path.cmp(&b.path)));
        let scanned = Scanned {
            roots: scans.iter().map(|scan| scan.path(scan.root())).collect(),
            caches,
            crowded: self.crowded(scans, &snapshot.protect),
            most_entries: hogs,
        };
        Reading::with_missing(scanned, missing)
    }

    fn caches(&self, scans: &[&Scan], protect: &ProtectSet) -> (Vec<CacheKind>, Vec<String>) {
        let catalogue = match assets::catalogue() {
            Ok(catalogue) => catalogue,
            Err(why) => return (Vec::new(), vec![format!("the catalogue cannot be read: {why}")]),
        };
        let context = self.context();
        // What is missing of these the snapshot says already.
        let (mut candidates, _) = probe::caches::fixed(&context, catalogue);
        // A scan names what it found by its own root, and the usual place can be a bind mount of a directory below that.
        let names = probe::filesystems::Names::new(&context);
        for candidate in &mut candidates {
            let find = |path: &Path| scans.iter().find_map(|scan| scan.find(path));
            let row = find(&candidate.path)
                .or_else(|| names.others(&candidate.path).into_iter().find_map(|other| find(&other)));
            if let Some(row) = row {
                candidate.size = Some(size_of(&row));
                candidate.modified = Some(row.modified);
            }
        }
        for scan in scans {
            candidates.extend(by_name(catalogue, scan, &names));
        }
        probe::caches::judge(&context, candidates, protect)
    }

    fn crowded(&self, scans: &[&Scan], protect: &ProtectSet) -> Vec<CrowdedDir> {
        let mut crowds: Vec<Crowd> =
            scans.iter().flat_map(|scan| scan.crowded(CROWDED_ENTRIES, CROWDED_SIZE, CROWDED)).collect();
        crowds.sort_by(|a, b| b.entries.cmp(&a.entries).then_with(|| a.path.cmp(&b.path)));
        crowds.truncate(CROWDED);
        let paths: Vec<&Path> = crowds.iter().map(|crowd| crowd.path.as_path()).collect();
        let costs = probe::crowded::measure(&self.context(), &paths, protect);
        let each = crowds.into_iter().zip(costs).map(|(crowd, create)| CrowdedDir {
            // Where creating was tried, its server has answered.
            id: create.value().and_then(|_| probe::crowded::id(crowd.path.as_path())),
            holds: scans.iter().find_map(|scan| scan.find(crowd.path.as_path())).map(|row| row.allocated),
            path: crowd.path,
            entries: crowd.entries,
            directory_size: crowd.own_size,
            create,
        });
        each.collect()
    }
}

fn size_of(row: &Row) -> CacheSize {
    CacheSize { allocated: row.allocated, apparent: row.apparent, entries: row.entries }
}

/// The directories of a scan that have a name of the catalogue.
fn by_name<'c>(
    catalogue: &'c Catalogue,
    scan: &Scan,
    places: &probe::filesystems::Names,
) -> Vec<Candidate<'c>> {
    let wanted: Vec<_> = catalogue
        .entries()
        .iter()
        .flat_map(|entry| entry.named.iter().map(move |pattern| (entry, pattern)))
        .collect();
    let names: Vec<&[u8]> = wanted.iter().map(|(_, pattern)| pattern.name().as_bytes()).collect();
    let mut candidates = Vec::new();
    scan.each_named(&names, |path, row| {
        // What something is mounted on, or what is still being scanned, is not offered.
        if row.flags.mount_point || row.flags.scanning {
            return;
        }
        for (entry, _) in wanted.iter().filter(|(_, pattern)| pattern.ends(path.as_path())) {
            candidates.push(Candidate {
                entry,
                path: places.writable(path.as_path().to_path_buf()),
                home: None,
                by_name: true,
                size: Some(size_of(&row)),
                modified: Some(row.modified),
            });
        }
    });
    candidates
}

fn hogs(scan: &Scan, snapshot: &Snapshot) -> Vec<EntryHog> {
    let root = scan.path(scan.root());
    let all = snapshot.filesystems.value().map_or(&[][..], Vec::as_slice);
    let mount_point = room::holds(all, &root).map_or_else(|| root.clone(), |fs| fs.mount_point.clone());
    let found = scan.most_inodes(HOGS).into_iter().map(|one| EntryHog {
        path: HostPath::from(one.path.as_path()),
        mount_point: mount_point.clone(),
        inodes: one.inodes,
        allocated: one.allocated,
    });
    found.collect()
}
