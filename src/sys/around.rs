//! The machine around what is to be touched: what is mounted, what the kernel uses, and what processes have open.

use std::path::Path;
use std::sync::OnceLock;

use super::holders::{self, Opened};
use super::kernel_uses::KernelUses;
use super::mount_namespaces::Namespaces;
use super::mounts_below::{self, Below};
use super::procfs::Proc;
use crate::domain::identity::{DevIno, FileId, MountId};

/// The machine as it was at one moment.
pub struct Around {
    /// The mounts of all namespaces.
    pub namespaces: Namespaces,
    /// The same, by what they have to do with a path.
    pub below: Below,
    /// What the kernel uses.
    pub kernel: KernelUses,
    proc: Proc,
    /// Looked at when it is asked for.
    opened: OnceLock<Result<Opened, String>>,
}

impl Around {
    /// Looks. `root` is `/`, or a fixture.
    pub fn look(root: &Path, proc: &Proc) -> Self {
        let namespaces = mounts_below::read(proc);
        let below = Below::new(&namespaces);
        let kernel = KernelUses::look(root, &namespaces);
        Self { namespaces, below, kernel, proc: proc.clone(), opened: OnceLock::new() }
    }

    /// Who has a file, or files below a directory, open, as sentences; empty if nobody has. Processes that may not be asked
    /// do not count.
    pub fn open_by(&self, path: &Path, id: &FileId) -> Vec<String> {
        self.opened().map(|opened| opened.by(&self.proc, path, id)).unwrap_or_default()
    }

    /// Whether a process has this file or directory in use.
    ///
    /// # Errors
    /// That this cannot be said of every process, as a sentence.
    pub fn uses(&self, key: DevIno) -> Result<bool, String> {
        self.opened().map_err(Clone::clone)?.uses(key)
    }

    /// Whether neither the kernel nor another mount holds it: no mount reaches it, and it is not, and does not contain, a disk,
    /// swap or a layer that is in use. Every change that takes something away asks this.
    ///
    /// # Errors
    /// What uses it, as a sentence.
    pub fn not_held(&self, path: &Path, id: &FileId, above: &[DevIno]) -> Result<(), String> {
        self.kernel.none_holds(id.key, above)?;
        self.below.at_or_below(path, id.mount)?.first().map_or(Ok(()), |found| Err(found.to_string()))
    }

    /// Whether a mount of our own can be written.
    ///
    /// # Errors
    /// Why not, as a sentence.
    pub fn writable(&self, mount: MountId) -> Result<(), String> {
        self.below.ours()?.writable(mount)
    }

    fn opened(&self) -> Result<&Opened, &String> {
        self.opened.get_or_init(|| holders::opened(&self.proc, true)).as_ref()
    }
}
