//! The reading as a whole: opening, and the passes one after the other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::budget::Budget;
use super::bytes::index;
use super::directory::Entry;
use super::group::{self, Group};
use super::inode::{self, Inode};
use super::orphan::{self, Orphan};
use super::reserved::{self, Reserved};
use super::seen::Seen;
use super::superblock::Superblock;
use super::table::{Inodes, UNIT};
use super::tally::Tally;
use super::trouble::{Trouble, TroubleKind, Troubles};
use super::why::Why;
use super::{ROOT, bitmap, entry_pass, inode_pass};
use crate::domain::identity::FileKind;
use crate::domain::size::Bytes;
use crate::sys::block_device::ReadAt;

/// Whether the file system is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounted {
    /// It is mounted from this very device: the journal is replayed, and the page cache is what counts.
    Yes,
    /// It is not mounted: a journal that was not replayed is refused.
    No,
}

/// How to read.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Threads, at least one.
    pub threads: usize,
    /// Threads where the device has to be waited for.
    pub cold_threads: usize,
    /// Set to true from elsewhere, ends the reading with [`Why::Cancelled`] within one read of 256 KiB per thread.
    pub cancel: &'a AtomicBool,
    /// Memory that may be kept for inodes and places of directories.
    pub memory: Bytes,
    /// Directories of several blocks that changed at or after this moment become troubles: while entries move from
    /// block to block, some can be missed or come twice. The low 32 bits of seconds since the epoch, some time before the
    /// reading begins; none where nobody changes the file system.
    pub changed_since: Option<u32>,
    /// Told how far it is, where somebody watches.
    pub seen: Option<&'a Seen>,
}

/// Takes the entries of directories.
///
/// The worker is the state of one thread, so that nothing has to be locked. A directory can come in several batches, in any
/// order, from several threads. Batches of a directory named in [`Census::troubles`] are not to be used. Nothing here was
/// checked against the tree: a damaged file system can name an inode that is not in use, or a directory twice, or
/// have directories that nothing names, and so can one that changes while it is read (a directory that is moved, an
/// inode number that is used again for another file). [`super::listing()`] shows how to notice.
pub trait Sink: Sync {
    /// The state of one thread.
    type Worker: Send;

    /// Makes the state of one thread; all inodes are known by now.
    fn start(&self, inodes: &Inodes) -> Self::Worker;

    /// Takes some entries of a directory. Never empty.
    fn entries(&self, worker: &mut Self::Worker, inodes: &Inodes, directory: u32, entries: &[Entry<'_>]);
}

/// Where entries go, and the inodes they name.
pub(super) struct Out<'a, S> {
    sink: &'a S,
    inodes: &'a Inodes,
    /// Where there are no checksums, and every inode has a name.
    tally: Option<Tally>,
}

impl<S: Sink> Out<'_, S> {
    pub fn start(&self) -> S::Worker {
        self.sink.start(self.inodes)
    }

    pub fn entries(&self, worker: &mut S::Worker, directory: u32, entries: &[Entry<'_>]) {
        if let Some(tally) = &self.tally {
            tally.count(self.inodes, directory, entries);
        }
        self.sink.entries(worker, self.inodes, directory, entries);
    }
}

/// What a reading found.
#[derive(Debug)]
pub struct Census<W> {
    /// All inodes in use.
    pub inodes: Inodes,
    /// What the sink's workers collected.
    pub workers: Vec<W>,
    /// Inodes in use without a name.
    pub orphans: Vec<Orphan>,
    /// What has to be looked at by ordinary calls, ordered by inode.
    pub troubles: Vec<Trouble>,
    /// Directories whose entries were read.
    pub directories: usize,
}

/// An ext2, ext3 or ext4 file system that can be read exactly.
#[derive(Debug)]
pub struct Ext4<D> {
    device: D,
    sb: Superblock,
}

/// Looks at the superblock of a device.
///
/// # Errors
/// [`Why::NotExt4`], [`Why::Feature`] and others: then the ordinary scan has to do.
pub fn open<D: ReadAt>(device: D, mounted: Mounted) -> Result<Ext4<D>, Why> {
    let (sb, _) = Superblock::read(&device)?;
    if mounted == Mounted::No && sb.features.needs_recovery() {
        return Err(Why::NeedsRecovery);
    }
    Ok(Ext4 { device, sb })
}

/// How many inode tables are looked for in the page cache.
const LOOKS: usize = 16;

/// Whether the starts of most inode tables in use are in the page cache.
fn is_warm(device: &impl ReadAt, sb: &Superblock, groups: &[Group]) -> bool {
    let used: Vec<u64> =
        groups.iter().filter(|group| group.usable > 0).map(|group| sb.offset_of(group.table)).collect();
    let looks = used.iter().step_by(used.len().div_ceil(LOOKS).max(1));
    let (cold, warm): (Vec<u64>, Vec<u64>) = looks.partition(|&&offset| !device.is_cached(offset));
    warm.len() > cold.len() * 3
}

/// What all passes share.
pub(super) struct Pass<'a, D> {
    pub device: &'a D,
    pub sb: &'a Superblock,
    pub groups: &'a [Group],
    pub threads: usize,
    pub cancel: &'a AtomicBool,
    pub budget: &'a Budget,
    pub troubles: &'a Troubles,
    pub seen: Option<&'a Seen>,
    claimed: AtomicU64,
}

impl<D: ReadAt> Pass<'_, D> {
    /// Where an inode is on the device, in bytes.
    pub fn inode_offset(&self, ino: u32) -> Option<u64> {
        let zero_based = ino.checked_sub(1)?;
        let group = self.groups.get(index(zero_based.checked_div(self.sb.inodes_per_group)?))?;
        let within = zero_based.checked_rem(self.sb.inodes_per_group)?;
        Some(self.sb.offset_of(group.table).saturating_add(u64::from(within) * u64::from(self.sb.inode_size)))
    }

    /// Reads one inode into `raw`, which has the inode size, and decodes it.
    pub fn inode(&self, ino: u32, raw: &mut [u8]) -> Result<Result<Inode, &'static str>, Why> {
        let Some(offset) = self.inode_offset(ino) else { return Ok(Err("there is no such inode")) };
        self.device.read_at(raw, offset)?;
        Ok(inode::decode(self.sb, ino, raw))
    }

    /// Counts blocks that belong to directories.
    pub fn claim(&self, blocks: u32) -> Result<(), Why> {
        let before = self.claimed.fetch_add(blocks.into(), Ordering::Relaxed);
        if before.saturating_add(blocks.into()) > self.sb.blocks {
            return Err(Why::damaged("directories claim more blocks than there are"));
        }
        Ok(())
    }
}

/// Compares link counts with what was counted. Those of inodes that changed while all was read need not be right.
fn verify<D: ReadAt>(
    pass: &Pass<'_, D>,
    tally: &Tally,
    inodes: &Inodes,
    changed_since: Option<u32>,
) -> Result<(), Why> {
    // Names in a directory that is read by ordinary calls were not counted, and they can be anybody's.
    if !pass.troubles.is_empty() {
        return Ok(());
    }
    let mut raw = vec![0; usize::from(pass.sb.inode_size)];
    for (number, ino) in tally.wrong(inodes).enumerate() {
        if pass.cancel.load(Ordering::Relaxed) {
            return Err(Why::Cancelled);
        }
        let Some(since) = changed_since else { return Err(Why::damaged(LINK_COUNT)) };
        let gone = pass.inode(ino, &mut raw)?.is_err();
        if !gone && !inode::changed_since(&raw, since) {
            return Err(Why::damaged(LINK_COUNT));
        }
        if number > MOST_CHANGED {
            return Err(Why::Changed);
        }
    }
    Ok(())
}

const LINK_COUNT: &str = "an inode has not as many names as it says";
/// How many changed inodes are looked at again before it is given up.
const MOST_CHANGED: usize = 65_536;

impl<D: ReadAt> Ext4<D> {
    /// Which of these directories changed at or after a moment (see [`Options::changed_since`]), sorted. Where a directory
    /// has entries but nothing names it, it was moved while all was read, and one of these has its new name.
    ///
    /// # Errors
    /// See [`Why`]; [`Why::TooManyTroubles`] where that are too many to be worth it.
    pub fn changed(&self, options: &Options<'_>, directories: &[u32], since: u32) -> Result<Vec<u32>, Why> {
        let budget = Budget::new(options.memory);
        budget.spend(index(self.sb.groups), size_of::<Group>())?;
        let (groups, troubles) = (group::read_all(&self.device, &self.sb)?, Troubles::default());
        let pass = Pass {
            device: &self.device,
            sb: &self.sb,
            groups: &groups,
            threads: options.threads,
            cancel: options.cancel,
            budget: &budget,
            troubles: &troubles,
            seen: None,
            claimed: AtomicU64::new(0),
        };
        entry_pass::distrust_changed(&pass, directories, since)?;
        Ok(troubles.into_sorted().into_iter().map(|trouble| trouble.ino).collect())
    }

    /// Files of the file system's own that no directory names and that are not part of its fixed tables.
    ///
    /// # Errors
    /// See [`Why`].
    pub fn reserved(&self) -> Result<Vec<Reserved>, Why> {
        let (groups, troubles) = (group::read_all(&self.device, &self.sb)?, Troubles::default());
        let pass = Pass {
            device: &self.device,
            sb: &self.sb,
            groups: &groups,
            threads: 1,
            cancel: &AtomicBool::new(false),
            budget: &Budget::new(Bytes::ZERO),
            troubles: &troubles,
            seen: None,
            claimed: AtomicU64::new(0),
        };
        reserved::find(&pass)
    }

    /// Reads everything. See the module's documentation for the passes and for what the caller does before (syncfs) and
    /// after (troubles).
    ///
    /// # Errors
    /// See [`Why`]; then nothing that the sink was given is to be used.
    pub fn read<S: Sink>(&self, options: &Options<'_>, sink: &S) -> Result<Census<S::Worker>, Why> {
        let sb = &self.sb;
        let budget = Budget::new(options.memory);
        let troubles = Troubles::default();
        let units_per_group = sb.inodes_per_group.div_ceil(UNIT);
        let unit_count = index(sb.groups).saturating_mul(index(units_per_group));
        budget.spend(index(sb.groups), size_of::<Group>())?;
        budget.spend(unit_count, size_of::<usize>())?;
        let groups = group::read_all(&self.device, sb)?;
        let threads = if is_warm(&self.device, sb, &groups) { options.threads } else { options.cold_threads };
        let pass = Pass {
            device: &self.device,
            sb,
            groups: &groups,
            threads,
            cancel: options.cancel,
            budget: &budget,
            troubles: &troubles,
            seen: options.seen,
            claimed: AtomicU64::new(0),
        };
        let stretches = bitmap::read_all(&self.device, sb, &groups, threads, options.cancel, &budget)?;
        let found = inode_pass::read_all(&pass, &stretches)?;
        drop(stretches);

        let mut inodes = Inodes { per_group: sb.inodes_per_group, units_per_group, units: Vec::new() };
        inodes.units.resize_with(unit_count, || None);
        let (mut pieces, mut deep, mut inline, mut unlinked) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut directories = 0_usize;
        for found in found {
            for (at, unit) in found.units {
                if let Some(place) = inodes.units.get_mut(at) {
                    *place = Some(unit);
                }
            }
            directories = directories.saturating_add(found.shallow);
            pieces.extend(found.pieces);
            deep.extend(found.deep);
            inline.extend(found.inline);
            unlinked.extend(found.unlinked);
        }
        let root = inodes.get(ROOT);
        if root.is_none_or(|root| root.kind != FileKind::Directory) {
            return Err(Why::damaged("there is no root directory"));
        }
        directories = directories.saturating_add(deep.len()).saturating_add(inline.len());
        pieces.extend(entry_pass::find_deep(&pass, &deep)?);
        drop(deep);
        entry_pass::sort(&pass, &mut pieces)?;
        inline.sort_unstable();
        let counted = !sb.features.metadata_csum() && !sb.features.has_nameless_inodes();
        let tally = if counted { Some(Tally::new(&inodes, &budget)?) } else { None };
        let out = Out { sink, inodes: &inodes, tally };
        let workers = entry_pass::read_all(&pass, &pieces, &inline, &out)?;
        let tally = out.tally;
        let several = entry_pass::of_several_blocks(&pieces);
        drop(pieces);
        if let Some(since) = options.changed_since {
            entry_pass::distrust_changed(&pass, &several, since)?;
        }
        drop(several);

        let (now, volatile) = Superblock::read(&self.device)?;
        if !sb.same_shape(&now) {
            return Err(Why::Changed);
        }
        if let Some(tally) = tally {
            verify(&pass, &tally, &inodes, options.changed_since)?;
        }
        let orphans = orphan::find(&pass, &inodes, unlinked, volatile.last_orphan)?;
        // What is not read right of something that changes is no damage.
        let mut changes = false;
        if let Some(since) = options.changed_since
            && troubles.has(ROOT)
        {
            let mut root = vec![0; usize::from(pass.sb.inode_size)];
            changes = pass.inode(ROOT, &mut root)?.is_err() || inode::changed_since(&root, since);
        }
        let troubles = troubles.into_sorted();
        if troubles.iter().any(|trouble| trouble.ino == ROOT && trouble.kind != TroubleKind::Encrypted) {
            return Err(if changes {
                Why::Changing
            } else {
                Why::damaged("the root directory cannot be read")
            });
        }
        Ok(Census { inodes, workers, orphans, troubles, directories })
    }
}
