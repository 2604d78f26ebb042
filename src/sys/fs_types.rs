//! What is known of file system types by name: which hold files, and which may never answer.

use crate::domain::identity::DevId;
use crate::domain::snapshot::FsClass;

/// Types that show kernel state and hold nobody's files (`/proc/filesystems` of a desktop and a server
/// kernel; each type is registered under this name in the kernel's `fs/`, `drivers/` or `security/`).
const PSEUDO: &[&[u8]] = &[
    b"anon_inodefs",
    b"autofs",
    b"bdev",
    b"binder",
    b"binfmt_misc",
    b"bpf",
    b"cgroup",
    b"cgroup2",
    b"configfs",
    b"cpuset",
    b"debugfs",
    b"devpts",
    b"dmabuf",
    b"efivarfs",
    b"fuse.gvfsd-fuse",
    b"fuse.lxcfs",
    b"fuse.portal",
    b"fusectl",
    b"hugetlbfs",
    b"mqueue",
    b"nfsd",
    b"nsfs",
    b"pipefs",
    b"proc",
    b"pstore",
    b"resctrl",
    b"rootfs",
    b"rpc_pipefs",
    b"securityfs",
    b"selinuxfs",
    b"smackfs",
    b"sockfs",
    b"sysfs",
    b"tracefs",
    b"xenfs",
];

/// Types served by another machine or by the host of a virtual machine.
const REMOTE: &[&[u8]] = &[
    b"9p",
    b"acfs",
    b"afs",
    b"beegfs",
    b"ceph",
    b"cifs",
    b"coda",
    b"gfs",
    b"gfs2",
    b"gpfs",
    b"lustre",
    b"ncpfs",
    b"nfs",
    b"nfs4",
    b"ocfs2",
    b"orangefs",
    b"prl_fs",
    b"pvfs2",
    b"smb3",
    b"smbfs",
    b"vboxsf",
    b"virtiofs",
    b"vmhgfs",
    b"wekafs",
];

/// Types without a block device of their own that this machine answers for itself.
const LOCAL_WITHOUT_DEVICE: &[&[u8]] = &[
    b"aufs",
    b"bcachefs",
    b"btrfs",
    b"devtmpfs",
    b"ecryptfs",
    b"jffs2",
    b"overlay",
    b"overlayfs",
    b"ramfs",
    b"shiftfs",
    b"tmpfs",
    b"ubifs",
    b"zfs",
];

/// Whether files of people and programs live on file systems of this type.
pub fn holds_files(fs_type: &[u8]) -> bool {
    !PSEUDO.contains(&fs_type)
}

/// Whether looking at it may mount something (autofs(5)).
pub fn is_autofs(fs_type: &[u8]) -> bool {
    fs_type == b"autofs"
}

/// How a file system may behave when it is asked something. A type nobody here has heard of, and without a
/// block device, is taken for remote: asking it costs a child process, trusting it could cost the program.
pub fn classify(fs_type: &[u8], dev: DevId) -> FsClass {
    if fs_type == b"fuse" || fs_type == b"fuseblk" || fs_type.starts_with(b"fuse.") {
        FsClass::Fuse
    } else if REMOTE.contains(&fs_type) {
        FsClass::Remote
    } else if LOCAL_WITHOUT_DEVICE.contains(&fs_type) || PSEUDO.contains(&fs_type) || dev.major != 0 {
        FsClass::Local
    } else {
        FsClass::Remote
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        let anonymous = DevId { major: 0, minor: 40 };
        let disk = DevId { major: 8, minor: 1 };
        assert_eq!(classify(b"ext4", disk), FsClass::Local);
        assert_eq!(classify(b"tmpfs", anonymous), FsClass::Local);
        assert_eq!(classify(b"nfs4", anonymous), FsClass::Remote);
        assert_eq!(classify(b"fuse.sshfs", anonymous), FsClass::Fuse);
        assert_eq!(classify(b"fuseblk", disk), FsClass::Fuse);
        assert_eq!(classify(b"neverheardof", anonymous), FsClass::Remote);
        assert!(!holds_files(b"cgroup2") && holds_files(b"overlay") && holds_files(b"fuse.sshfs"));
    }

    #[test]
    fn tables_are_sorted_and_do_not_overlap() {
        for table in [PSEUDO, REMOTE, LOCAL_WITHOUT_DEVICE] {
            assert!(table.is_sorted());
        }
        assert!(REMOTE.iter().all(|name| holds_files(name) && !LOCAL_WITHOUT_DEVICE.contains(name)));
    }
}
