//! The layers of a mounted overlay, as its options name them (`ovl_show_options` in fs/overlayfs/params.c).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::mountinfo::{MountEntry, unescape};

/// Prefixes that paths of options begin with if the overlay was mounted in an initial RAM disk, where the system's root
/// was mounted there: dracut, initramfs-tools, NixOS.
const INITIAL: [&str; 3] = ["/sysroot", "/root", "/mnt-root"];

/// The lower directories, as the options spell them: relative ones are of a place nobody knows any more.
pub fn lower(entry: &MountEntry) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for option in entry.super_options.as_bytes().split(|&byte| byte == b',') {
        let whole = [&b"lowerdir="[..]].iter().find_map(|name| option.strip_prefix(*name));
        let one = [&b"lowerdir+="[..], b"datadir+="].iter().find_map(|name| option.strip_prefix(*name));
        if let Some(list) = whole {
            found.extend(split(&unescape(list)));
        } else if let Some(path) = one {
            found.push(PathBuf::from(OsString::from_vec(unescape(path).into_owned())));
        }
    }
    found
}

/// Splits at colons. One that belongs to a name has a backslash before it; two colons are before layers of data only.
fn split(list: &[u8]) -> Vec<PathBuf> {
    let mut parts = vec![Vec::new()];
    let mut bytes = list.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => parts.last_mut().into_iter().for_each(|part| part.extend(bytes.next())),
            b':' => parts.push(Vec::new()),
            other => parts.last_mut().into_iter().for_each(|part| part.push(other)),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts.into_iter().map(|part| PathBuf::from(OsString::from_vec(part))).collect()
}

/// Whether an overlay has the directory that it is mounted on among its lower ones: then everything in that is seen
/// through it. Merged system extensions, writable module directories and `/etc` of read-only systems are made so.
pub fn shows_what_it_covers(entry: &MountEntry) -> bool {
    let covered = entry.mount_point.as_path();
    entry.fs_type.as_bytes() == b"overlay" && lower(entry).iter().any(|layer| is(layer, covered))
}

fn is(layer: &Path, covered: &Path) -> bool {
    let of_initial =
        |prefix: &&str| layer.strip_prefix(prefix).is_ok_and(|rest| Path::new("/").join(rest) == covered);
    layer == covered || INITIAL.iter().any(of_initial)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mountinfo;

    fn mount(point: &str, options: &str) -> MountEntry {
        let line = format!("2 1 0:40 / {point} ro - overlay x ro,{options}\n");
        mountinfo::parse(line.as_bytes()).entries.remove(0)
    }

    #[test]
    fn layers_are_taken_apart_as_the_kernel_does() {
        let found = lower(&mount("/m", r"lowerdir=/a\134:b:/c::/d,upperdir=/u,workdir=/w"));
        assert_eq!(found, ["/a:b", "/c", "/d"].map(PathBuf::from));
        let found = lower(&mount("/m", r"lowerdir+=/a:b,datadir+=/c\054d"));
        assert_eq!(found, ["/a:b", "/c,d"].map(PathBuf::from));
    }

    #[test]
    fn an_overlay_over_its_own_lower_directory_hides_nothing() {
        for (point, options) in [
            ("/usr", "lowerdir=/run/systemd/sysext/meta/usr:/run/x/usr:/usr"),
            ("/usr", "lowerdir+=/run/x/usr,lowerdir+=/usr"),
            (
                "/etc",
                "lowerdir=/sysroot/var/lib/overlay/1/etc:/sysroot/etc,upperdir=/sysroot/var/lib/overlay/2/etc",
            ),
        ] {
            assert!(shows_what_it_covers(&mount(point, options)), "{point} {options}");
        }
        for (point, options) in [("/usr", "lowerdir=/run/x/usr:/opt/usr"), ("/usr", "lowerdir=/usr/local")] {
            assert!(!shows_what_it_covers(&mount(point, options)), "{point} {options}");
        }
    }
}
