//! The last pass: directory blocks, in the order of the disk.

use super::bytes::index;
use super::coalesce::{LONGEST, reads};
use super::directory::{self, Entry};
use super::inline;
use super::inode::{self, INLINE_DATA};
use super::mapping::Source;
use super::read::{Out, Pass, Sink};
use super::trouble::TroubleKind;
use super::why::{Fault, Why};
use super::work::share;
use crate::domain::identity::FileKind;
use crate::sys::block_device::ReadAt;

/// How often a directory block is read again where it does not fit together.
const TRIES: u32 = 2;
/// How many inline directories make one job, and how much of the inode table is read for them at once.
const INLINE_JOB: usize = 256;
const INLINE_WINDOW: u64 = 16 * 1024;
/// How many directories of several blocks are checked in one job.
const CHECK_JOB: usize = 256;

/// A stretch of one directory on the disk, in 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Piece {
    /// From the highest bit on: the first block (48 bits), how many less one (15), whether the directory has more.
    place: u64,
    ino: u32,
    seed: u32,
}

const COUNT_BITS: u32 = 15;

impl Piece {
    /// `count` is at least one and `single` whether it is all of the directory, and one block.
    fn new(block: u64, count: u32, ino: u32, seed: u32, single: bool) -> Self {
        let count = u64::from(count.saturating_sub(1)) & ((1 << COUNT_BITS) - 1);
        Self { place: (block << COUNT_BITS | count) << 1 | u64::from(!single), ino, seed }
    }

    fn block(&self) -> u64 {
        self.place >> (COUNT_BITS + 1)
    }

    fn count(&self) -> u32 {
        u32::try_from((self.place >> 1) & ((1 << COUNT_BITS) - 1)).unwrap_or(0).saturating_add(1)
    }

    fn single(&self) -> bool {
        self.place & 1 == 0
    }

    fn end(&self) -> u64 {
        self.block().saturating_add(self.count().into())
    }
}

/// Finds the blocks of the directories whose inode does not name them all.
///
/// # Errors
/// See [`Why`].
pub(super) fn find_deep<D: ReadAt>(pass: &Pass<'_, D>, deep: &[Source]) -> Result<Vec<Piece>, Why> {
    let found = share(pass.threads, deep.len(), pass.cancel, Vec::new, |found, job| {
        deep.get(job).map_or(Ok(()), |source| find(pass, source, found))
    })?;
    Ok(found.concat())
}

/// Sorts pieces by place on the disk. Directories that claim the same block become troubles.
///
/// # Errors
/// Too many troubles.
pub(super) fn sort<D>(pass: &Pass<'_, D>, pieces: &mut [Piece]) -> Result<(), Why> {
    pieces.sort_unstable();
    let mut previous: Option<&Piece> = None;
    for piece in pieces.iter() {
        if let Some(before) = previous.filter(|before| before.end() > piece.block()) {
            for ino in [before.ino, piece.ino] {
                pass.troubles.add(ino, TroubleKind::Entries("two directories claim the same block"))?;
            }
        }
        // The one that reaches furthest, so that none that it overlaps is missed.
        previous = previous.filter(|before| before.end() >= piece.end()).or(Some(piece));
    }
    Ok(())
}

/// Finds the blocks of one directory.
///
/// # Errors
/// See [`Why`].
pub(super) fn find<D: ReadAt>(
    pass: &Pass<'_, D>,
    source: &Source,
    found: &mut Vec<Piece>,
) -> Result<(), Why> {
    let runs = match source.runs(pass.device, pass.sb) {
        Ok(runs) => runs,
        Err(Fault::Torn(what)) => return pass.troubles.add(source.ino, TroubleKind::Entries(what)),
        Err(Fault::Fatal(why)) => return Err(why),
    };
    // A block can belong to one directory only, so all of them together cannot have more than there are.
    pass.claim(source.blocks)?;
    let longest = u32::try_from(LONGEST / u64::from(pass.sb.block_size)).unwrap_or(1).max(1);
    for run in runs {
        let mut done = 0;
        while done < run.count {
            let count = longest.min(run.count.saturating_sub(done));
            pass.budget.spend(1, size_of::<Piece>())?;
            let block = run.block.saturating_add(done.into());
            found.push(Piece::new(block, count, source.ino, source.seed, source.blocks == 1));
            done = done.saturating_add(count);
        }
    }
    Ok(())
}

/// Reads the pieces and hands their entries out.
///
/// # Errors
/// See [`Why`].
pub(super) fn read_all<D: ReadAt, S: Sink>(
    pass: &Pass<'_, D>,
    pieces: &[Piece],
    inline: &[u32],
    sink: &Out<'_, S>,
) -> Result<Vec<S::Worker>, Why> {
    let jobs = reads(pieces, pass.sb.block_size, |piece| (piece.block(), piece.count().into()));
    let inline_jobs: Vec<&[u32]> = inline.chunks(INLINE_JOB).collect();
    let states = share(
        pass.threads,
        jobs.len().saturating_add(inline_jobs.len()),
        pass.cancel,
        || (sink.start(), Vec::new()),
        |(worker, buffer): &mut (S::Worker, Vec<u8>), job| {
            if let Some(range) = jobs.get(job) {
                let pieces = pieces.get(range.clone()).unwrap_or_default();
                return blocks(pass, pieces, buffer, sink, worker);
            }
            let inos = inline_jobs.get(job.saturating_sub(jobs.len())).copied().unwrap_or_default();
            inline_directories(pass, inos, buffer, sink, worker)
        },
    )?;
    Ok(states.into_iter().map(|(worker, _)| worker).collect())
}

/// The directories of more than one block, sorted: while entries move between the blocks, some can be missed or come
/// twice.
pub(super) fn of_several_blocks(pieces: &[Piece]) -> Vec<u32> {
    let mut inos: Vec<u32> = pieces.iter().filter(|piece| !piece.single()).map(|piece| piece.ino).collect();
    inos.sort_unstable();
    inos.dedup();
    inos
}

/// Makes a trouble of every directory that was changed at or after a moment, in seconds since the epoch.
///
/// # Errors
/// See [`Why`].
pub(super) fn distrust_changed<D: ReadAt>(pass: &Pass<'_, D>, inos: &[u32], since: u32) -> Result<(), Why> {
    let jobs: Vec<&[u32]> = inos.chunks(CHECK_JOB).collect();
    share(
        pass.threads,
        jobs.len(),
        pass.cancel,
        || (),
        |(), job| {
            let mut raw = vec![0; usize::from(pass.sb.inode_size)];
            for &ino in jobs.get(job).copied().unwrap_or_default() {
                if pass.inode(ino, &mut raw)?.is_err() || inode::changed_since(&raw, since) {
                    pass.troubles.add(ino, TroubleKind::Entries("it changed while it was read"))?;
                }
            }
            Ok(())
        },
    )?;
    Ok(())
}

fn blocks<D: ReadAt, S: Sink>(
    pass: &Pass<'_, D>,
    pieces: &[Piece],
    buffer: &mut Vec<u8>,
    sink: &Out<'_, S>,
    worker: &mut S::Worker,
) -> Result<(), Why> {
    let Some(first) = pieces.first() else { return Ok(()) };
    let end = pieces.iter().map(Piece::end).max().unwrap_or(0);
    let bytes = usize::try_from(pass.sb.offset_of(end.saturating_sub(first.block()))).unwrap_or(usize::MAX);
    buffer.resize(bytes, 0);
    pass.device.read_at(buffer, pass.sb.offset_of(first.block()))?;
    let size = index(pass.sb.block_size);
    let mut entries: Vec<Entry<'_>> = Vec::with_capacity(directory::likely_entries(pass.sb.block_size));
    for piece in pieces {
        let start = pass.sb.offset_of(piece.block().saturating_sub(first.block()));
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let raw = buffer.get(start..).and_then(|tail| tail.get(..index(piece.count()).saturating_mul(size)));
        entries.clear();
        for (block, raw) in (piece.block()..).zip(raw.unwrap_or_default().chunks_exact(size)) {
            if directory::block(pass.sb, piece.seed, raw, &mut entries).is_err() {
                again(pass, piece, block, sink, worker)?;
            }
            if piece.single() && entries.is_empty() && directory::is_index_root(raw) {
                // Its entries are in blocks that it did not have when its inode was read.
                pass.troubles.add(piece.ino, TroubleKind::Entries("it grew while it was read"))?;
            }
        }
        if !entries.is_empty() {
            sink.entries(worker, piece.ino, &entries);
        }
    }
    Ok(())
}

/// Reads one block again: the kernel may have been writing it just now.
fn again<D: ReadAt, S: Sink>(
    pass: &Pass<'_, D>,
    piece: &Piece,
    block: u64,
    sink: &Out<'_, S>,
    worker: &mut S::Worker,
) -> Result<(), Why> {
    let mut problem = "";
    for _ in 0..TRIES {
        let mut raw = vec![0; index(pass.sb.block_size)];
        pass.device.read_at(&mut raw, pass.sb.offset_of(block))?;
        let mut entries = Vec::new();
        match directory::block(pass.sb, piece.seed, &raw, &mut entries) {
            Ok(()) => {
                sink.entries(worker, piece.ino, &entries);
                return Ok(());
            }
            Err(what) => problem = what,
        }
    }
    pass.troubles.add(piece.ino, TroubleKind::Entries(problem))
}

fn inline_directories<D: ReadAt, S: Sink>(
    pass: &Pass<'_, D>,
    inos: &[u32],
    buffer: &mut Vec<u8>,
    sink: &Out<'_, S>,
    worker: &mut S::Worker,
) -> Result<(), Why> {
    let size = usize::from(pass.sb.inode_size);
    // Inodes that follow each other are read at once: the buffer holds the device from `from` on.
    let mut from = 0_u64;
    buffer.clear();
    for &ino in inos {
        let Some(offset) = pass.inode_offset(ino) else { continue };
        let within = |from: u64, buffer: &[u8]| {
            let start = usize::try_from(offset.checked_sub(from)?).ok()?;
            (start.checked_add(size)? <= buffer.len()).then_some(start)
        };
        let start = if let Some(start) = within(from, buffer) {
            start
        } else {
            let left = pass.device.size().saturating_sub(offset).min(INLINE_WINDOW);
            buffer.resize(usize::try_from(left).unwrap_or(0).max(size), 0);
            pass.device.read_at(buffer, offset)?;
            from = offset;
            0
        };
        let raw = buffer.get(start..).and_then(|tail| tail.get(..size)).unwrap_or_default();
        if hand_out(pass, ino, raw, sink, worker).is_err() {
            let mut fresh = vec![0; size];
            pass.device.read_at(&mut fresh, offset)?;
            if let Err(what) = hand_out(pass, ino, &fresh, sink, worker) {
                pass.troubles.add(ino, TroubleKind::Entries(what))?;
            }
        }
    }
    Ok(())
}

fn hand_out<D: ReadAt, S: Sink>(
    pass: &Pass<'_, D>,
    ino: u32,
    raw: &[u8],
    sink: &Out<'_, S>,
    worker: &mut S::Worker,
) -> Result<(), &'static str> {
    let inode = inode::decode(pass.sb, ino, raw)?;
    if inode.kind != FileKind::Directory || inode.flags & INLINE_DATA == 0 {
        return Err("an inline directory changed while it was read");
    }
    let mut entries = Vec::new();
    for piece in inline::pieces(raw, &inode)? {
        directory::entries(pass.sb, piece, &mut entries)?;
    }
    if !entries.is_empty() {
        sink.entries(worker, ino, &entries);
    }
    Ok(())
}
