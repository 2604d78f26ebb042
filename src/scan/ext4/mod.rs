//! Reading an ext2, ext3 or ext4 file system as a whole from its device, without a system call per file.
//!
//! [`open`] checks the superblock against a strict list of proven features. [`Ext4::read`] then makes four passes,
//! each shared out among threads and in the order of the disk: the inode bitmaps, the inode tables (which gives
//! [`Inodes`]), the block maps of directories too large for their inode, and the directory blocks, whose entries go
//! to a [`Sink`] in batches.
//!
//! Nothing is ever written. Every offset, length, number and depth is checked, and where the file system has
//! metadata checksums they are all verified, so that damage and reads in the middle of a change are noticed:
//! - what concerns the file system as a whole is a [`Why`], and the ordinary scan should run instead;
//! - what concerns one inode or directory is a [`Trouble`] in the [`Census`]: look at these by ordinary calls.
//!
//! A mounted file system keeps its metadata in the page cache of the device, which is what we read, so changes show at
//! once, with one exception: size and space of a file just written are set at write-back (delayed allocation).
//! The caller calls syncfs(2) on the mount before reading. Without metadata checksums (ext2, ext3, old ext4) an inode
//! read in the middle of a change cannot be told from a sound one; there, names are counted against link counts, which finds
//! much of the damage.

mod bitmap;
mod block_map;
mod budget;
mod bytes;
mod checksum;
mod coalesce;
mod directory;
mod entry_pass;
mod extent;
mod features;
mod group;
mod inline;
mod inode;
mod inode_pass;
mod listing;
mod mapping;
mod orphan;
mod read;
mod reserved;
mod seen;
mod superblock;
mod table;
mod tally;
mod trouble;
mod why;
mod work;

pub use directory::Entry;
pub use listing::{Listed, Listing, listing};
pub use orphan::Orphan;
pub use read::{Census, Ext4, Mounted, Options, Sink, open};
pub use reserved::Reserved;
pub use seen::Seen;
pub use table::{Inodes, Record};
pub use trouble::{Trouble, TroubleKind};
pub use why::Why;

/// The inode of the root directory (`EXT4_ROOT_INO`).
pub const ROOT: u32 = 2;
/// The first inode that is not reserved where the superblock does not say otherwise (`EXT4_GOOD_OLD_FIRST_INO`).
const FIRST_INO: u32 = 11;
