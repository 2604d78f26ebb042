//! The second pass: inode tables, in the order of the disk.

use super::FIRST_INO;
use super::ROOT;
use super::bitmap::Stretch;
use super::bytes::index;
use super::entry_pass::{self, Piece};
use super::inode::{self, ENCRYPTED, INLINE_DATA, Inode};
use super::mapping::Source;
use super::read::Pass;
use super::seen::Sums;
use super::table::Unit;
use super::trouble::TroubleKind;
use super::why::Why;
use super::work::share;
use crate::domain::identity::FileKind;
use crate::sys::block_device::ReadAt;

/// Reading over this many bytes of unused inodes is cheaper than another read.
const GAP: usize = 32 * 1024;

/// What one thread found.
#[derive(Default)]
pub(super) struct Found {
    /// Units with their numbers.
    pub units: Vec<(usize, Box<Unit>)>,
    /// The blocks of directories whose inode names them all.
    pub pieces: Vec<Piece>,
    /// How many directories those are.
    pub shallow: usize,
    /// Directories that need more reads.
    pub deep: Vec<Source>,
    /// Directories whose entries are in the inode.
    pub inline: Vec<u32>,
    /// Inodes in use that have no name.
    pub unlinked: Vec<u32>,
    buffer: Vec<u8>,
}

/// Reads all inodes in use.
///
/// # Errors
/// See [`Why`].
pub(super) fn read_all<D: ReadAt>(pass: &Pass<'_, D>, stretches: &[Stretch]) -> Result<Vec<Found>, Why> {
    share(pass.threads, stretches.len(), pass.cancel, Found::default, |found, job| {
        stretches.get(job).map_or(Ok(()), |stretch| unit(pass, stretch, found))
    })
}

fn unit<D: ReadAt>(pass: &Pass<'_, D>, stretch: &Stretch, found: &mut Found) -> Result<(), Why> {
    let size = usize::from(pass.sb.inode_size);
    let mut buffer = std::mem::take(&mut found.buffer);
    let mut sums = Sums::default();
    let mut unit = Unit::new(stretch.used.clone());
    // What the buffer holds: inodes `start..end` of the stretch.
    let (mut start, mut end) = (0_usize, 0_usize);
    for within in bits(&stretch.used) {
        if within >= end {
            start = within;
            end = end_of_read(&stretch.used, within, (GAP / size).max(1));
            buffer.resize(end.saturating_sub(start).saturating_mul(size), 0);
            let offset = u64::try_from(start.saturating_mul(size)).unwrap_or(u64::MAX);
            pass.device.read_at(&mut buffer, stretch.offset.saturating_add(offset))?;
        }
        let at = within.saturating_sub(start).saturating_mul(size);
        let raw = buffer.get(at..).and_then(|tail| tail.get(..size)).unwrap_or_default();
        let ino = stretch.first.saturating_add(u32::try_from(within).unwrap_or(u32::MAX));
        let decoded = one(pass, ino, raw, stretch.trusted, found)?;
        if let Some(inode) = decoded.as_ref().filter(|inode| is_visible(ino) && inode.links > 0) {
            sums.count(inode);
        }
        unit.push(decoded.as_ref());
    }
    if let Some(seen) = pass.seen {
        seen.add(&sums);
    }
    found.buffer = buffer;
    found.units.push((stretch.unit, Box::new(unit)));
    Ok(())
}

/// Takes one inode in; none where it is unused or cannot be trusted.
fn one<D: ReadAt>(
    pass: &Pass<'_, D>,
    ino: u32,
    raw: &[u8],
    trusted: bool,
    found: &mut Found,
) -> Result<Option<Inode>, Why> {
    if inode::blank(raw) {
        return Ok(None);
    }
    let visible = is_visible(ino);
    let mut fresh = Vec::new();
    let (decoded, raw) = match inode::decode(pass.sb, ino, raw) {
        Ok(decoded) => (decoded, raw),
        Err(_) if !visible => return Ok(None),
        Err(_) => {
            // The kernel may have been writing it just now.
            fresh.resize(raw.len(), 0);
            match pass.inode(ino, &mut fresh)? {
                Ok(decoded) => (decoded, &fresh[..]),
                // Where the bitmap does not say which inodes are in use, this one need not be.
                Err(_) if !trusted => return Ok(None),
                Err(what) => {
                    pass.troubles.add(ino, TroubleKind::Inode(what))?;
                    return Ok(None);
                }
            }
        }
    };
    if decoded.links == 0 {
        // Without a bitmap, a deleted inode cannot be told from one that is deleted but still open.
        if !trusted {
            return Ok(None);
        }
        if visible {
            pass.budget.spend(1, 4)?;
            found.unlinked.push(ino);
        }
        return Ok(Some(decoded));
    }
    // Its size as stat(2) shows it depends on whether the key is there (fscrypt_symlink_getattr).
    if decoded.kind == FileKind::Symlink && decoded.flags & ENCRYPTED != 0 {
        return Ok(None);
    }
    if decoded.kind == FileKind::Directory && visible {
        directory(pass, ino, &decoded, raw, found)?;
    }
    Ok(Some(decoded))
}

/// Reserved inodes (bad blocks, journal, quota, resize …) are not in the tree and keep their own rules.
pub(super) fn is_visible(ino: u32) -> bool {
    ino >= FIRST_INO || ino == ROOT
}

fn directory<D: ReadAt>(
    pass: &Pass<'_, D>,
    ino: u32,
    inode: &Inode,
    raw: &[u8],
    found: &mut Found,
) -> Result<(), Why> {
    if inode.flags & ENCRYPTED != 0 {
        return pass.troubles.add(ino, TroubleKind::Encrypted);
    }
    if inode.flags & INLINE_DATA != 0 {
        pass.budget.spend(1, 4)?;
        found.inline.push(ino);
        return Ok(());
    }
    match Source::new(pass.sb, ino, inode, raw) {
        Ok(source) => {
            if source.shallow() {
                found.shallow = found.shallow.saturating_add(1);
                return entry_pass::find(pass, &source, &mut found.pieces);
            }
            pass.budget.spend(1, size_of::<Source>())?;
            found.deep.push(source);
            Ok(())
        }
        Err(what) => pass.troubles.add(ino, TroubleKind::Entries(what)),
    }
}

/// The places of set bits, ascending.
fn bits(words: &[u64]) -> impl Iterator<Item = usize> + '_ {
    words.iter().enumerate().flat_map(|(at, &word)| {
        let mut left = word;
        std::iter::from_fn(move || {
            let bit = left.checked_ilog2().map(|_| left.trailing_zeros())?;
            left &= left.wrapping_sub(1);
            Some(at.saturating_mul(64).saturating_add(index(bit)))
        })
    })
}

/// Where a read that starts at `from` ends: behind the last used inode before a gap of `gap` unused ones.
fn end_of_read(words: &[u64], from: usize, gap: usize) -> usize {
    let mut end = from.saturating_add(1);
    let first_word = from / 64;
    for (at, &word) in words.iter().enumerate().skip(first_word) {
        let base = at.saturating_mul(64);
        let word = if at == first_word { word & (u64::MAX << (from % 64)) } else { word };
        if word == 0 {
            continue;
        }
        if base.saturating_add(index(word.trailing_zeros())) > end.saturating_add(gap) {
            break;
        }
        end = base.saturating_add(64).saturating_sub(index(word.leading_zeros()));
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_and_reads_follow_the_bitmap() {
        let words = [0b1001, 0, 0, 1 << 63];
        assert_eq!(bits(&words).collect::<Vec<_>>(), [0, 3, 255]);
        assert_eq!(end_of_read(&words, 0, 64), 4);
        assert_eq!(end_of_read(&words, 0, 300), 256);
        assert_eq!(end_of_read(&words, 255, 1), 256);
    }
}
