//! Where in a tree something is mounted.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// A directory on the way to a mount point, or one itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way(usize);

#[derive(Debug, Default)]
struct Step {
    below: HashMap<Box<[u8]>, usize>,
    mounted: bool,
}

/// Mount points below a directory, as a tree of names.
#[derive(Debug)]
pub(super) struct MountPoints {
    steps: Vec<Step>,
}

impl MountPoints {
    /// From paths below the directory.
    pub(super) fn new<'a>(below: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut steps = vec![Step::default()];
        for path in below {
            let mut at = 0;
            for name in path.iter().map(OsStr::as_bytes) {
                let next = steps.len();
                let Some(step) = steps.get_mut(at) else { break };
                at = *step.below.entry(name.into()).or_insert(next);
                if at == next {
                    steps.push(Step::default());
                }
            }
            // The directory itself is not a mount point of its own tree.
            if let Some(step) = steps.get_mut(at).filter(|_| at != 0) {
                step.mounted = true;
            }
        }
        Self { steps }
    }

    /// The way from the directory itself; none where nothing is mounted below it.
    pub(super) fn start(&self) -> Option<Way> {
        (self.steps.len() > 1).then_some(Way(0))
    }

    /// The way through a name.
    pub(super) fn step(&self, way: Way, name: &[u8]) -> Option<Way> {
        self.steps.get(way.0)?.below.get(name).copied().map(Way)
    }

    /// Whether something is mounted there.
    pub(super) fn is_mounted(&self, way: Way) -> bool {
        self.steps.get(way.0).is_some_and(|step| step.mounted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_way_to_a_mount_point_is_known() {
        let points = MountPoints::new(["a/b", "a/b/c", "d"].map(Path::new));
        let start = points.start().unwrap();
        let a = points.step(start, b"a").unwrap();
        assert!(!points.is_mounted(a) && !points.is_mounted(start));
        assert!(points.is_mounted(points.step(a, b"b").unwrap()));
        assert!(points.is_mounted(points.step(start, b"d").unwrap()));
        assert!(points.step(start, b"b").is_none());
        assert!(MountPoints::new([]).start().is_none());
        assert!(MountPoints::new([Path::new("")]).start().is_none());
    }
}
