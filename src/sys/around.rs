//! The machine around what is to be touched: what is mounted, what the kernel uses, and what processes have open.

use std::path::Path;
use std::sync::OnceLock;

use super::holders::{self, Opened};
use super::kernel_uses::KernelUses;
use super::mount_namespaces::Namespaces;
use super::mounts_below::{self, Below};
use super::procfs::Proc;
use crate::domain::identity::FileId;

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
        let opened = self.opened.get_or_init(|| holders::opened(&self.proc, true));
        opened.as_ref().map(|opened| opened.by(&self.proc, path, id)).unwrap_or_default()
    }
}
