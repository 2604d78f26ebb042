//! Which layers of protection the running kernel offers, by trying each, not by its version: a seccomp filter or a
//! distribution may take away or bring what the version does not tell.

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use schemars::JsonSchema;
use serde::Serialize;

use super::file_id;

/// Something the kernel may offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Layer {
    /// Its name.
    pub name: &'static str,
    /// The first version that has it.
    pub since: &'static str,
    /// Whether it works here.
    pub active: bool,
    /// What it is used for.
    pub what_for: &'static str,
    /// What happens without it.
    pub without: &'static str,
}

/// Every layer.
pub fn layers() -> Vec<Layer> {
    let layer = |name, since, active, what_for, without| Layer { name, since, active, what_for, without };
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    vec![
        layer(
            "openat2",
            "5.6",
            openat2(CWD, ".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), how).is_ok(),
            "opening the directory of a file that goes away, past no link and no mount",
            "the way is walked component by component, equally careful and slower",
        ),
        layer(
            "pidfd",
            "5.3",
            pidfd_open(getpid(), PidfdFlags::empty()).is_ok(),
            "signals that cannot hit a process that took over a pid",
            "processes are not signalled",
        ),
        layer(
            "Landlock",
            "5.13",
            super::confine::is_available(),
            "keeping the threads that delete a tree inside that tree",
            "quarantine and descriptors alone keep them there",
        ),
        layer(
            "unique mount ids",
            "6.8",
            file_id::of_path(c"/", true).is_ok_and(|id| id.mount.unique.is_some()),
            "telling a mount from one that took over its number",
            "mounts are told apart by their number and place",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_says_what_happens_without_it() {
        let layers = layers();
        assert!(layers.iter().all(|layer| !layer.without.is_empty() && !layer.what_for.is_empty()));
        // The tests need this one themselves.
        assert!(layers.iter().any(|layer| layer.name == "pidfd" && layer.active));
    }
}
