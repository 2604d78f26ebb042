//! What could not be read exactly although the reading as a whole went on.

use std::sync::{Mutex, PoisonError};

use super::why::Why;

/// One inode or directory that has to be looked at by ordinary calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The inode, or the inode of the directory.
    pub ino: u32,
    /// What is wrong.
    pub kind: TroubleKind,
}

/// What is wrong with an inode or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TroubleKind {
    /// Its record cannot be trusted and is missing from [`super::Inodes`]. Where it is a directory, its entries
    /// are missing too.
    Inode(&'static str),
    /// Its entries cannot be trusted: some may have been handed out, some may be missing. Forget those and list it again.
    Entries(&'static str),
    /// Its names are encrypted on disk; none were handed out. What is below it is in the same state.
    Encrypted,
}

/// How many troubles are worth going on with.
const LIMIT: usize = 65_536;

/// Troubles from all threads.
#[derive(Default)]
pub(super) struct Troubles(Mutex<Vec<Trouble>>);

impl Troubles {
    /// Whether there is one with this inode.
    pub fn has(&self, ino: u32) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|trouble| trouble.ino == ino)
    }

    /// Notes one.
    ///
    /// # Errors
    /// [`Why::TooManyTroubles`].
    pub fn add(&self, ino: u32, kind: TroubleKind) -> Result<(), Why> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if list.len() >= LIMIT {
            return Err(Why::TooManyTroubles { limit: LIMIT });
        }
        list.push(Trouble { ino, kind });
        Ok(())
    }

    /// Whether there are none so far.
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// All of them, ordered by inode, one per inode.
    pub fn into_sorted(self) -> Vec<Trouble> {
        let mut list = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        list.sort_by_key(|trouble| trouble.ino);
        list.dedup_by_key(|trouble| trouble.ino);
        list
    }
}
