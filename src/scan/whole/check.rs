//! Looking at a sample of what was read from the device by ordinary calls, before it is trusted.

use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{RawDir, Statx};
use rustix::io::Errno;

use crate::domain::identity::FileKind;
use crate::domain::text::HostPath;
use crate::scan::batch::own_totals;
use crate::scan::cell::{self, DirId};
use crate::scan::codec::{self, Body};
use crate::scan::cursor::Cursor;
use crate::scan::method::Sample;
use crate::scan::open::{self, Mount};
use crate::scan::tree::Tree;
use crate::sys::file_id::kind_of;

/// How many files are looked at, each in another directory, as far as there are so many.
const FILES: usize = 200;
/// How many directories without a file are passed over for each.
const TRIES: usize = 16;
/// Directories with more names are not listed again.
const MOST_NAMES: usize = 1000;
/// One of so many may differ: beyond that nothing is trusted.
const BOUND: u32 = 100;
/// How many directories are kept open.
const DESCRIPTORS: usize = 32;
/// For getdents64(2).
const BUFFER: usize = 32 << 10;

/// Where the scan started, and what the sample is taken of.
pub(super) struct Checker<'a> {
    pub(super) tree: &'a Tree,
    pub(super) mount: &'a Mount,
    pub(super) root: BorrowedFd<'a>,
    pub(super) device: &'a HostPath,
    /// The root was listed by ordinary calls.
    pub(super) root_is_known: bool,
    /// What changed at this moment or later may differ: the low 32 bits of seconds since the epoch.
    pub(super) since: u32,
}

/// A file as the tree has it, and how many names its directory has there.
struct Kept {
    address: u32,
    name: CString,
    kind: FileKind,
    linked: bool,
    leaf: codec::Leaf,
    names: usize,
}

enum Outcome {
    Equal,
    Changed,
    Differs,
}

impl Checker<'_> {
    /// Compares files, and the number of names in their directories, spread evenly over the tree.
    ///
    /// # Errors
    /// What differs, where that is too much to trust the rest.
    pub(super) fn check(&self, cancelled: &AtomicBool) -> Result<Sample, String> {
        let entries = self.tree.counters.entries.load(Ordering::Relaxed);
        let mut sample = Sample { entries, ..Sample::default() };
        let (mut cursor, mut buffer) = (Cursor::new(DESCRIPTORS), Vec::with_capacity(BUFFER));
        let mut example = None;
        let count = self.tree.dir_count();
        let step = usize::try_from(count).unwrap_or(usize::MAX).div_ceil(FILES).max(1);
        for number in (0..count).step_by(step) {
            if cancelled.load(Ordering::Relaxed) {
                break;
            }
            let kept = (number..count).take(step.min(TRIES)).find_map(|number| {
                let dir = DirId(number);
                self.pick(dir).map(|kept| (dir, kept))
            });
            let Some((dir, kept)) = kept else { continue };
            sample.checked += 1;
            match self.look(dir, &kept, &mut cursor, &mut buffer) {
                Outcome::Equal => sample.equal += 1,
                Outcome::Changed => sample.changed += 1,
                Outcome::Differs => example = example.or(Some(kept.address)),
            }
        }
        match example {
            Some(address) if sample.differing().saturating_mul(BOUND) > sample.checked => Err(format!(
                "{} and statx(2) disagree on {} of {} files that did not change, one is {}",
                self.device,
                sample.differing(),
                sample.checked,
                self.tree.path(address)
            )),
            _ => Ok(sample),
        }
    }

    /// A file of a directory that was read from the device as a whole.
    fn pick(&self, dir: DirId) -> Option<Kept> {
        let cell = self.tree.dir(dir)?;
        if !cell.has(cell::READ) || cell.has(cell::REMOVED) || (self.root_is_known && dir == DirId::ROOT) {
            return None;
        }
        // Not always the first: another one for each directory.
        let wanted = usize::try_from(dir.0 % 7).unwrap_or(0);
        let (mut names, mut files, mut kept) = (0, 0, None);
        self.tree.each_entry(dir, |address, entry| {
            names += 1;
            let Body::Leaf(leaf) = entry.body else { return };
            if files <= wanted
                && let Ok(name) = CString::new(entry.name)
            {
                let linked = entry.has(codec::LINKED);
                kept = Some(Kept { address, name, kind: entry.kind, linked, leaf, names: 0 });
            }
            files += 1;
        });
        kept.map(|kept| Kept { names, ..kept })
    }

    fn look(&self, dir: DirId, kept: &Kept, cursor: &mut Cursor, buffer: &mut Vec<u8>) -> Outcome {
        let entered = cursor.enter(self.tree, self.mount, self.root, dir);
        let Some((fd, _, _)) = entered.ok().and_then(|()| cursor.here()) else {
            // Moved or removed, or one above it: that changed the directory it was in.
            return Outcome::Changed;
        };
        let names = (kept.names <= MOST_NAMES).then(|| count_names(fd, buffer));
        // Looked at last, so that a change before it shows.
        let found = open::stat_with_change(fd, &kept.name);
        let Ok(directory) = open::stat_with_change(fd, c"") else { return Outcome::Changed };
        let equal = names.is_none_or(|names| names == Ok(kept.names))
            && found.as_ref().is_ok_and(|stat| is_equal(stat, kept));
        if equal {
            return Outcome::Equal;
        }
        if self.changed(&directory) || found.is_ok_and(|stat| self.changed(&stat)) {
            return Outcome::Changed;
        }
        Outcome::Differs
    }

    /// Whether it changed while the device was read, by `st_ctime`, which no program can set.
    fn changed(&self, stat: &Statx) -> bool {
        let [.., a, b, c, d] = stat.stx_ctime.tv_sec.to_be_bytes();
        u32::from_be_bytes([a, b, c, d]).wrapping_sub(self.since) < 1 << 31
    }
}

fn is_equal(stat: &Statx, kept: &Kept) -> bool {
    let own = own_totals(stat);
    kept.kind == kind_of(stat.stx_mode)
        && kept.linked == (stat.stx_nlink > 1)
        && (kept.leaf.apparent, kept.leaf.allocated, kept.leaf.modified)
            == (own.apparent, own.allocated, own.newest)
}

/// How many names an open directory has.
fn count_names(fd: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
    let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
    let mut count = 0;
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) => count += usize::from(!matches!(entry.file_name().to_bytes(), b"." | b"..")),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}
