//! File systems on a device that are read-only although they should not be: after an I/O error ext4 and others go on
//! read-only, and every build on them fails.

use super::number;
use crate::domain::identity::MountId;
use crate::domain::limits::ReadOnly;
use crate::domain::snapshot::Evidence;
use crate::probe::Context;
use crate::sys::mount_table::MountTable;
use crate::sys::mountinfo::MountEntry;

/// File systems that cannot be written at all.
const ALWAYS: [&[u8]; 6] = [b"squashfs", b"iso9660", b"erofs", b"udf", b"cramfs", b"romfs"];

pub(super) fn look(context: &Context<'_>, table: &MountTable) -> Vec<ReadOnly> {
    let fstab = std::fs::read(context.environment.rooted("/etc/fstab")).unwrap_or_default();
    let on_device = |entry: &&MountEntry| entry.source.as_bytes().starts_with(b"/dev/");
    table
        .entries()
        .iter()
        .filter(on_device)
        .filter(|entry| table.is_visible(entry) && entry.root.as_bytes() == b"/")
        .filter(|entry| entry.is_file_system_read_only() && !ALWAYS.contains(&entry.fs_type.as_bytes()))
        .filter_map(|entry| {
            let evidence = evidence(context, entry, &fstab);
            (!evidence.is_empty()).then(|| ReadOnly {
                mount: MountId { id: entry.id, unique: None },
                mount_point: entry.mount_point.clone(),
                evidence,
            })
        })
        .collect()
}

fn evidence(context: &Context<'_>, entry: &MountEntry, fstab: &[u8]) -> Vec<Evidence> {
    let mut evidence = Vec::new();
    // The kernel's own name of the device (`dm-0`, not `/dev/mapper/root`).
    let link = std::fs::read_link(context.environment.rooted(format!("/sys/dev/block/{}", entry.dev)));
    let name = link.ok().and_then(|link| Some(link.file_name()?.to_string_lossy().into_owned()));
    let path = format!("/sys/fs/ext4/{}/errors_count", name.unwrap_or_default());
    if let Some(count) = number(&context.environment.rooted(&path)).filter(|&count| count > 0) {
        evidence.push(Evidence::new(format!("{count} errors were found on {}", entry.source), path));
    }
    for (option, meaning) in [
        (&b"emergency_ro"[..], "the file system shut itself down for writing after an error"),
        (b"shutdown", "the file system was shut down after an error"),
    ] {
        if entry.has_super_option(option) {
            evidence.push(Evidence::new(meaning, "/proc/self/mountinfo"));
        }
    }
    if writable_by_fstab(fstab, entry.mount_point.as_bytes()) {
        evidence.push(Evidence::new(
            format!("{} is read-only, but /etc/fstab does not say ro", entry.mount_point),
            "/proc/self/mountinfo and /etc/fstab",
        ));
    }
    evidence
}

/// Whether fstab(5) mounts it, and without `ro`.
fn writable_by_fstab(fstab: &[u8], mount_point: &[u8]) -> bool {
    fstab.split(|&byte| byte == b'\n').any(|line| {
        let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
        let is_comment = line.trim_ascii_start().starts_with(b"#");
        let (target, options) = (fields.nth(1), fields.nth(1));
        !is_comment
            && target.is_some_and(|target| crate::sys::mountinfo::unescape(target).as_ref() == mount_point)
            && !options.unwrap_or_default().split(|&byte| byte == b',').any(|option| option == b"ro")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fstab_tells_what_should_be_writable() {
        let fstab = b"# /dev/x /a ext4 defaults 0 0\n/dev/a / ext4 errors=remount-ro 0 1\n\
                      /dev/b\t/a\\040b  xfs defaults\n/dev/c /ro ext4 noatime,ro 0 2\n/dev/d\n";
        assert!(writable_by_fstab(fstab, b"/"));
        assert!(writable_by_fstab(fstab, b"/a b"));
        assert!(!writable_by_fstab(fstab, b"/ro"));
        assert!(!writable_by_fstab(fstab, b"/a"));
        assert!(!writable_by_fstab(b"\xff\n\n", b"/"));
    }
}
