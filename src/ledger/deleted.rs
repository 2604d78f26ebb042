//! On which file system a deleted file takes space that only a container sees: the overlay it was written through is in
//! the container's mount namespace, and its upper directory is on a file system of ours.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use crate::domain::identity::DevId;
use crate::domain::snapshot::DeletedFile;
use crate::probe::{Context, filesystems};
use crate::sys::mount_table::MountTable;
use crate::sys::mountinfo;

/// Where overlays keep what is written, as far as it was asked for.
pub(super) struct Uppers<'a> {
    context: &'a Context<'a>,
    ours: Option<Arc<MountTable>>,
    known: HashMap<DevId, Option<DevId>>,
}

impl<'a> Uppers<'a> {
    pub(super) fn new(context: &'a Context<'a>) -> Self {
        let ours = filesystems::own_mounts(context).ok().map(|(table, _)| table);
        Self { context, ours, known: HashMap::new() }
    }

    /// The file system that holds the upper directory of the overlay that a file is on, by the mounts of a process that
    /// has it open. None if it is on no overlay, or the upper directory is not on a mount of ours.
    pub(super) fn of(&mut self, file: &DeletedFile) -> Option<DevId> {
        let dev = file.key.dev;
        // Overlays have no device.
        if dev.major != 0 {
            return None;
        }
        if let Some(known) = self.known.get(&dev) {
            return *known;
        }
        let proc = self.context.proc();
        let found = file.holders.iter().find_map(|holder| {
            let theirs = mountinfo::parse(&proc.read(holder.process.pid, "mountinfo").ok()?);
            let overlay = theirs.entries.iter().find(|entry| entry.dev == dev)?;
            let upper = PathBuf::from(OsString::from_vec(overlay.super_option(b"upperdir")?));
            // The path is one of the namespace that made the mount: the engine's, which is nearly always ours.
            self.ours.as_ref()?.at(&upper).map(|on| on.dev).filter(|on| *on != dev)
        });
        self.known.insert(dev, found);
        found
    }
}
