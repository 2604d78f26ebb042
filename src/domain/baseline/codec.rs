//! A baseline as bytes.
//!
//! ```text
//! file  = magic:8 version:u16 length:u64 body crc32c:u32       integers little-endian; the sum is over all before it
//! body  = time:varint floor:varint unreadable:varint root:string count:varint node*
//! node  = (length of name << 1 | is directory):varint name blocks:varint [entries:varint children:varint]
//! ```
//!
//! Time is zigzag seconds since the epoch, blocks are of 512 bytes. A directory comes before what is in it, so that no
//! part of a path is written twice. Nothing is compressed: names and small numbers are some 20 bytes for each entry that
//! is named, which is few of those that were scanned, and what is not compressed cannot unfold to more than it is.

use jiff::Timestamp;

use super::{Baseline, Builder};
use crate::domain::leb128;
use crate::domain::size::Bytes;
use crate::domain::text::HostPath;

const MAGIC: &[u8; 8] = b"unwedgeB";
const VERSION: u16 = 1;
const HEADER: usize = 18;
const SUM: usize = 4;
const BLOCK: u64 = 512;

/// Larger files are not read: one of these would be of a tree with more entries than the scanner can hold.
pub const MAX_BYTES: u64 = 256 << 20;

/// Why bytes are no baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// They do not begin as one.
    #[error("is not a snapshot that unwedge wrote")]
    NotOne,
    /// They are of another version.
    #[error("has format {0}; this version of unwedge reads format {VERSION}: take a new snapshot")]
    Version(u16),
    /// They end too early, or too late.
    #[error("is {found} bytes long and should be {expected}: it was not copied as a whole")]
    Length {
        /// What there is.
        found: u64,
        /// What there should be.
        expected: u64,
    },
    /// They are not what was written.
    #[error("is damaged: its checksum is wrong")]
    Checksum,
    /// They are what was written, but that is no tree.
    #[error("is not a snapshot that unwedge wrote: {0}")]
    Malformed(&'static str),
}

/// The root of the baseline that these bytes begin; none where they are no baseline. The rest is not looked at.
pub fn root_of(start: &[u8]) -> Option<HostPath> {
    let (MAGIC, VERSION) = (start.first_chunk()?, u16::from_le_bytes(*start.get(8..)?.first_chunk()?)) else {
        return None;
    };
    let mut reader = Reader { bytes: start.get(HEADER..)? };
    for _ in 0..3 {
        reader.varint().ok()?;
    }
    Some(HostPath::from_bytes(reader.string().ok()?))
}

impl Baseline {
    /// As the bytes of a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.names.len().saturating_add(self.nodes.len().saturating_mul(8)));
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        let secs = self.taken_at.as_second();
        leb128::put(&mut out, (secs.wrapping_shl(1) ^ (secs >> 63)).cast_unsigned());
        leb128::put(&mut out, self.floor.0);
        leb128::put(&mut out, self.unreadable);
        leb128::put(&mut out, self.root.as_bytes().len() as u64);
        out.extend_from_slice(self.root.as_bytes());
        leb128::put(&mut out, self.nodes.len() as u64);
        for (at, node) in self.nodes.iter().enumerate() {
            let name = self.name(at);
            leb128::put(&mut out, (name.len() as u64) << 1 | u64::from(node.directory));
            out.extend_from_slice(name);
            leb128::put(&mut out, node.allocated / BLOCK);
            if node.directory {
                leb128::put(&mut out, node.entries);
                leb128::put(&mut out, self.children(at));
            }
        }
        let length = (out.len() - HEADER) as u64;
        if let Some(place) = out.get_mut(10..HEADER) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        let sum = crc32c::crc32c(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    fn children(&self, at: usize) -> u64 {
        let end = self.nodes.get(at).map_or(0, |node| node.end as usize);
        let mut child = at + 1;
        let mut count = 0;
        while child < end {
            count += 1;
            child = self.nodes.get(child).map_or(end, |node| node.end as usize);
        }
        count
    }

    /// From the bytes of a file, which may be anybody's.
    ///
    /// # Errors
    /// Where they are not what was written, or no tree.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Damage> {
        let Some(rest) = bytes.strip_prefix(MAGIC) else { return Err(Damage::NotOne) };
        let found = bytes.len() as u64;
        let short = Damage::Length { found, expected: (HEADER + SUM) as u64 };
        let (version, rest) = rest.split_first_chunk().ok_or(short)?;
        let version = u16::from_le_bytes(*version);
        if version != VERSION {
            return Err(Damage::Version(version));
        }
        let (length, _) = rest.split_first_chunk().ok_or(short)?;
        let expected = u64::from_le_bytes(*length).saturating_add((HEADER + SUM) as u64);
        if found != expected {
            return Err(Damage::Length { found, expected });
        }
        let (summed, sum) = bytes.split_last_chunk().ok_or(short)?;
        if crc32c::crc32c(summed) != u32::from_le_bytes(*sum) {
            return Err(Damage::Checksum);
        }
        Reader { bytes: summed.get(HEADER..).ok_or(short)? }.baseline().map_err(Damage::Malformed)
    }
}

/// What an open directory still expects.
struct Level {
    children: u64,
    /// The name before, and whether that was a directory: they come in order.
    last: Option<(Vec<u8>, bool)>,
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn baseline(&mut self) -> Result<Baseline, &'static str> {
        let secs = self.varint()?;
        let secs = (secs >> 1).cast_signed() ^ -(secs & 1).cast_signed();
        let taken_at = Timestamp::from_second(secs).map_err(|_| "its time is none")?;
        let floor = Bytes(self.varint()?);
        let unreadable = self.varint()?;
        let root = self.string()?;
        if !root.starts_with(b"/") || root.contains(&0) {
            return Err("its root is not an absolute path");
        }
        let count = self.varint()?;
        let mut builder = Builder::new(taken_at, HostPath::from_bytes(root), floor, unreadable);
        let mut levels: Vec<Level> = Vec::new();
        for number in 0..count {
            let head = self.varint()?;
            let directory = head & 1 == 1;
            let name = self.take(head >> 1)?;
            let allocated = self.varint()?.checked_mul(BLOCK).ok_or("a size is too large")?;
            if number == 0 {
                if !directory || !name.is_empty() {
                    return Err("it does not begin with its root");
                }
            } else {
                let level = levels.last_mut().ok_or("something is in no directory")?;
                level.children -= 1;
                if name.is_empty()
                    || name == b"."
                    || name == b".."
                    || name.iter().any(|byte| [0, b'/'].contains(byte))
                {
                    return Err("a name is none");
                }
                if level.last.as_ref().is_some_and(|(last, was)| (last.as_slice(), *was) >= (name, directory))
                {
                    return Err("names are not in order");
                }
                level.last = Some((name.to_vec(), directory));
            }
            if directory {
                let entries = self.varint()?;
                builder.open(name, allocated, entries);
                levels.push(Level { children: self.varint()?, last: None });
            } else {
                builder.file(name, allocated);
            }
            while levels.pop_if(|level| level.children == 0).is_some() {
                builder.close();
            }
        }
        if count == 0 || !levels.is_empty() || !self.bytes.is_empty() {
            return Err("it does not end where it should");
        }
        Ok(builder.finish())
    }

    fn string(&mut self) -> Result<&'a [u8], &'static str> {
        let length = self.varint()?;
        self.take(length)
    }

    /// Names and paths: no path that the kernel takes is longer (`PATH_MAX`, limits.h), but one that is scanned can be.
    fn take(&mut self, length: u64) -> Result<&'a [u8], &'static str> {
        let length = usize::from(u16::try_from(length).map_err(|_| "a name is too long")?);
        let (head, rest) = self.bytes.split_at_checked(length).ok_or("a name is cut off")?;
        self.bytes = rest;
        Ok(head)
    }

    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.bytes.split_first().ok_or("a number is cut off")?;
            self.bytes = rest;
            let low = u64::from(byte & 0x7f);
            if shift == 63 && low > 1 {
                return Err("a number is too large");
            }
            value |= low << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number is too large")
    }
}
