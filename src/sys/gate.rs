//! Keeps everybody from opening a file for a moment (`fanotify(7)`, `FAN_OPEN_PERM`).
//!
//! Whoever opens it waits until the gate is dropped, and goes on then. The kernel drops it for a program that is killed.

use std::os::fd::AsFd;

use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};

/// A gate before one file. We must not open the file ourselves meanwhile.
#[derive(Debug)]
pub struct Gate {
    _group: Fanotify,
}

impl Gate {
    /// Shuts it. None if that is not allowed here (it takes `CAP_SYS_ADMIN`) or the kernel cannot.
    pub fn shut(file: impl AsFd) -> Option<Self> {
        let kind = InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
        let events = EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC;
        let group = Fanotify::init(kind, events).ok()?;
        group.mark(MarkFlags::FAN_MARK_ADD, MaskFlags::FAN_OPEN_PERM, file, None::<&str>).ok()?;
        Some(Self { _group: group })
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "fixtures in a temporary directory")]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::Duration;

    #[test]
    fn who_opens_it_waits_until_the_gate_is_open_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        // Only the machine's own root may; the tests of rotation as root need it.
        let Some(gate) = Gate::shut(file.as_file()) else { return };
        std::thread::scope(|scope| {
            let opener = scope.spawn(|| File::open(file.path()).unwrap());
            std::thread::sleep(Duration::from_millis(50));
            assert!(!opener.is_finished());
            drop(gate);
            opener.join().unwrap();
        });
    }
}
