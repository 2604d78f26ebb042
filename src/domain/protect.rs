//! What must never be touched, whatever is marked (SAFETY.md T7).
//!
//! The set is compared by device and inode of opened descriptors, never by path: `/home/../`, a bind mount
//! and a symlink all spell the same directory.

use std::collections::BTreeMap;

use super::identity::DevIno;
use super::text::HostPath;

/// How far protection reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The directory or file itself; what is in it may be deleted (`/tmp`, `/var/log`).
    Itself,
    /// Also everything below it (`/etc`, a container store).
    Everything,
}

/// One protected file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protected {
    /// The path it was protected under.
    pub path: HostPath,
    /// How far protection reaches.
    pub reach: Reach,
    /// Why, as the end of a sentence: "… is protected: {why}".
    pub why: String,
}

/// What must never be touched. Built by a probe from the machine and the settings.
#[derive(Clone, Debug, Default)]
pub struct ProtectSet {
    entries: BTreeMap<DevIno, Protected>,
    /// Every ancestor of a protected thing: removing it would remove the thing. Each with one reason.
    ancestors: BTreeMap<DevIno, HostPath>,
}

impl ProtectSet {
    /// Protects a file. Protection that reaches further wins over one that is there already.
    pub fn protect(&mut self, key: DevIno, what: Protected) {
        match self.entries.get(&key) {
            Some(there) if there.reach == Reach::Everything => {}
            _ => {
                self.entries.insert(key, what);
            }
        }
    }

    /// Protects an ancestor of something protected.
    pub fn protect_ancestor(&mut self, key: DevIno, of: &HostPath) {
        self.ancestors.entry(key).or_insert_with(|| of.clone());
    }

    /// Whether removing the file with this identity is refused, given the identities of all
    /// directories above it.
    ///
    /// # Errors
    /// Why it is refused, as a sentence.
    pub fn check(&self, key: DevIno, above: &[DevIno]) -> Result<(), String> {
        if let Some(found) = self.entries.get(&key) {
            return Err(format!("{} is protected: {}", found.path, found.why));
        }
        if let Some(inside) = self.ancestors.get(&key) {
            return Err(format!("it contains {inside}, which is protected"));
        }
        for dir in above {
            if let Some(found) = self.entries.get(dir)
                && found.reach == Reach::Everything
            {
                return Err(format!("it is inside {}, which is protected: {}", found.path, found.why));
            }
        }
        Ok(())
    }

    /// What protects this file with everything in it, or a directory above it: nothing at all may be changed there.
    pub fn covers(&self, key: DevIno, above: &[DevIno]) -> Option<&Protected> {
        std::iter::once(&key)
            .chain(above)
            .filter_map(|key| self.entries.get(key))
            .find(|found| found.reach == Reach::Everything)
    }

    /// Whether nothing at all is protected; a plan is never run with an empty set.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All that is protected.
    pub fn iter(&self) -> impl Iterator<Item = &Protected> {
        self.entries.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::{DevId, Inode};

    fn key(ino: u64) -> DevIno {
        DevIno { dev: DevId { major: 8, minor: 0 }, ino: Inode(ino) }
    }

    fn set() -> ProtectSet {
        let mut set = ProtectSet::default();
        let why = String::from("test");
        set.protect(key(1), Protected { path: "/etc".into(), reach: Reach::Everything, why: why.clone() });
        set.protect(key(1), Protected { path: "/etc".into(), reach: Reach::Itself, why: why.clone() });
        set.protect(key(2), Protected { path: "/a/b".into(), reach: Reach::Itself, why });
        set.protect_ancestor(key(3), &"/a/b".into());
        set
    }

    #[test]
    fn itself_its_contents_and_its_ancestors_are_refused() {
        assert!(set().check(key(1), &[]).is_err());
        assert!(set().check(key(9), &[key(1)]).unwrap_err().contains("inside /etc"));
        assert!(set().check(key(3), &[]).unwrap_err().contains("contains /a/b"));
    }

    #[test]
    fn contents_of_a_directory_protected_as_itself_may_go() {
        assert!(set().check(key(9), &[key(2), key(3)]).is_ok());
        assert!(set().covers(key(9), &[key(2), key(3)]).is_none());
        assert_eq!(set().covers(key(9), &[key(1)]).unwrap().path, "/etc".into());
        assert!(set().check(key(2), &[]).is_err());
    }
}
