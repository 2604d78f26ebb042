//! The part of a tree that is deeper than there may be open directories on the way to it: one thread goes down and up in it
//! through one open directory. Nothing is moved for that, so whatever ends the run, all that is left is where it was.
//!
//! Where `..` leads on the way up is compared with where the thread came from: somebody may have moved a directory.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{self, Errno, retry_on_intr};

use super::{Item, Node, Worker};
use crate::domain::identity::DevIno;
use crate::domain::text::HostText;
use crate::exec::hands::own::{self, Before};
use crate::sys::file_id;

/// A directory on the way down, which is not open any more.
struct Level {
    name: CString,
    key: DevIno,
    /// Subdirectories that are still to be entered, the next one last.
    dirs: Vec<CString>,
    /// Something in it stays, and it was said why.
    stays: bool,
}

impl<'a> Worker<'_, 'a> {
    /// Empties a subdirectory and removes it.
    pub(super) fn go_down(&mut self, item: &Item<'a>) {
        if self.walk(item).is_none() && !self.crew.is_cancelled() {
            // It was said why.
            item.above.stays.store(true, Ordering::Relaxed);
        }
    }

    /// None if a part of it was not come to.
    fn walk(&mut self, item: &Item<'a>) -> Option<()> {
        let Some(mut here) = self.open_deep(&item.above, &item.name) else { return Some(()) };
        let mut levels = vec![self.level(&here)?];
        loop {
            if self.tick() {
                return None;
            }
            let level = levels.last_mut()?;
            level.stays |= here.stays.load(Ordering::Relaxed);
            if let Some(name) = level.dirs.pop() {
                if let Some(below) = self.open_deep(&here, &name) {
                    here = below;
                    levels.push(self.level(&here)?);
                }
                continue;
            }
            let done = levels.pop()?;
            here.stays.store(done.stays, Ordering::Relaxed);
            let again = if let Some(above) = levels.last() {
                let up = self.go_up(&here, above)?;
                let again = self.leave(&up, &here);
                if !again {
                    here = up;
                }
                again
            } else {
                self.leave(&item.above, &here)
            };
            if again {
                // What came in meanwhile.
                levels.push(self.level(&here)?);
            } else if levels.is_empty() {
                return Some(());
            }
        }
    }

    /// Opens a subdirectory; none if it stays, which is said.
    fn open_deep(&self, above: &Node<'a>, name: &CStr) -> Option<Arc<Node<'a>>> {
        // At most two of each thread, for which there is room.
        self.crew.may_open(true);
        let (dir, before) = self.open(above, name)?;
        Some(self.crew.node_opened_up(dir, name.to_owned(), None, before))
    }

    /// Removes what is no directory, and says what is one.
    fn level(&mut self, node: &Arc<Node<'a>>) -> Option<Level> {
        let key = match file_id::of_fd(&node.dir) {
            Ok(id) => id.key,
            Err(errno) => {
                self.stays(node, super::about(&node.name, errno));
                return None;
            }
        };
        let (_, mut dirs) = self.list(node);
        // The last one is taken first.
        dirs.sort_unstable_by(|a, b| b.cmp(a));
        let dirs = dirs.into_iter().map(|(_, name)| name).collect();
        Some(Level { name: node.name.clone(), key, dirs, stays: false })
    }

    /// Opens the directory above, if it is the one that this was entered from.
    fn go_up(&self, here: &Node<'a>, above: &Level) -> Option<Arc<Node<'a>>> {
        let name = HostText::new(above.name.as_bytes());
        let (dir, before) = match open_above(&here.dir) {
            Ok(opened) => opened,
            Err(errno) => {
                self.crew.problem(super::about(&above.name, errno));
                return None;
            }
        };
        self.crew.may_open(true);
        let up = self.crew.node_opened_up(dir, above.name.clone(), None, before);
        if !file_id::of_fd(&up.dir).is_ok_and(|id| id.key == above.key) {
            self.crew
                .problem(format!("{name}: what was in it was moved elsewhere meanwhile, and stays there"));
            return None;
        }
        up.stays.store(above.stays, Ordering::Relaxed);
        Some(up)
    }
}

/// Opens the directory above an open one; one of our own is opened up for that.
fn open_above(dir: &OwnedFd) -> io::Result<(OwnedFd, Option<Before>)> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let read = |from: &OwnedFd, name: &CStr| {
        retry_on_intr(|| openat(from, name, flags | OFlags::RDONLY, Mode::empty()))
    };
    match read(dir, c"..") {
        Ok(above) => Ok((above, None)),
        Err(Errno::ACCESS) => {
            let here = own::open_up(dir)?;
            let opened =
                retry_on_intr(|| openat(dir, c"..", flags | OFlags::PATH, Mode::empty())).and_then(|found| {
                    let before = own::open_up(&found)?;
                    read(&found, c".").map(|above| (above, before))
                });
            if let Some(before) = here {
                own::give_back(dir, before)?;
            }
            opened
        }
        Err(errno) => Err(errno),
    }
}
