//! The only file with unsafe code: system calls that rustix and nix do not wrap safely.
#![expect(
    unsafe_code,
    reason = "fork, what a forked child may do, and ioctls have no safe wrapper (DESIGN.md)"
)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io;
use rustix::ioctl::{Getter, Opcode, Updater, ioctl, opcode};
use rustix::process::{Pid, Signal};

use super::child::{Answer, Question};

/// Forks a child that answers one question into a pipe and exits. Returns the child's pid.
///
/// # Errors
/// What fork(2) says: `EAGAIN` at a process limit, `ENOMEM`.
pub(super) fn fork_to_answer(question: &Question, pipe: BorrowedFd<'_>) -> io::Result<Pid> {
    // SAFETY: fork(2) in a program with several threads leaves the child with this thread only, and locks of
    // the others held for ever; the child may therefore only do what is async-signal-safe (fork(2) NOTES, signal-safety(7)).
    // `answer_and_exit` never returns and upholds that: see there.
    match unsafe { libc::fork() } {
        0 => answer_and_exit(question, pipe),
        pid if pid > 0 => Pid::from_raw(pid).ok_or(io::Errno::INVAL),
        _ => Err(last_error()),
    }
}

/// Forks a child that goes on as a copy of the program; returns its pid, or none in the child.
///
/// # Errors
/// What fork(2) says: `EAGAIN` at a process limit, `ENOMEM`.
pub(super) fn fork_alone() -> io::Result<Option<Pid>> {
    // SAFETY: fork(2) itself has no requirement. What makes a copy unsafe to go on with is a second thread, whose locks
    // it would find held for ever; `fork::fork` makes sure that there is none.
    match unsafe { libc::fork() } {
        0 => Ok(None),
        pid if pid > 0 => Pid::from_raw(pid).map(Some).ok_or(io::Errno::INVAL),
        _ => Err(last_error()),
    }
}

fn last_error() -> io::Errno {
    std::io::Error::last_os_error().raw_os_error().map_or(io::Errno::IO, io::Errno::from_raw_os_error)
}

/// What the forked child does. Allocates nothing, takes no lock, does not unwind: `child::answer` consists of
/// system calls on memory prepared before the fork and arithmetic that cannot overflow.
fn answer_and_exit(question: &Question, pipe: BorrowedFd<'_>) -> ! {
    // The child must not outlive us, and must not keep open what we have open: a reader of our standard output
    // would wait for a child that hangs on a dead server, and a lock of ours would stay held.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    close_all_but(pipe);
    let answer: Answer = super::child::answer(question);
    let _ = io::write(pipe.as_fd(), &answer.to_bytes());
    // SAFETY: _exit(2) ends the child at once, without running destructors or exit handlers of the parent's
    // copy of the program. It is async-signal-safe.
    unsafe { libc::_exit(0) }
}

/// Closes every descriptor but one, in a forked child.
fn close_all_but(keep: BorrowedFd<'_>) {
    let keep = keep.as_raw_fd().unsigned_abs();
    let close_range = |first: u32, last: u32| {
        if first > last {
            return 0;
        }
        // SAFETY: close_range(2) (Linux 5.9) takes three integers and touches no memory. The descriptors that it closes
        // belong to the child alone, where no Rust value owns them: the child exits without running destructors.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }
    };
    let below = if keep == 0 { 0 } else { close_range(0, keep - 1) };
    if below != 0 || close_range(keep.saturating_add(1), u32::MAX) != 0 {
        // Older kernels: one by one, up to the usual soft limit.
        for fd in (0..1024).filter(|&fd| fd != libc::c_int::try_from(keep).unwrap_or(-1)) {
            // SAFETY: close(2) is async-signal-safe and touches no memory; see above for ownership.
            unsafe { libc::close(fd) };
        }
    }
}

/// The longest file handle (`MAX_HANDLE_SZ`, linux/exportfs.h).
const MAX_HANDLE: usize = 128;

/// `struct file_handle` of linux/fcntl.h, with room for the longest.
#[repr(C)]
struct HandleRequest {
    bytes: u32,
    kind: i32,
    handle: [u8; MAX_HANDLE],
}

/// The handle of a file. Without memory of the heap: a forked child asks for it too.
pub(super) struct Handle {
    /// Its type, which the file system chooses.
    pub kind: i32,
    bytes: [u8; MAX_HANDLE],
    length: usize,
}

impl Handle {
    /// What only the file system can read.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// The handle of a file (`name_to_handle_at(2)`, Linux 2.6.39): its type and its bytes, which hold the inode and its
/// generation on file systems of this machine. Asks no server and mounts nothing. A symbolic link is not followed unless
/// `flags` says so.
///
/// # Errors
/// `EOPNOTSUPP` where the file system has none.
pub(super) fn file_handle(
    dir: BorrowedFd<'_>,
    name: &std::ffi::CStr,
    flags: libc::c_int,
) -> io::Result<Handle> {
    let mut request =
        HandleRequest { bytes: u32::try_from(MAX_HANDLE).unwrap_or(0), kind: 0, handle: [0; MAX_HANDLE] };
    let mut mount: libc::c_int = 0;
    // SAFETY: the kernel reads the name up to its NUL and writes one int and the handle, no longer than `bytes` says, which
    // is how much room there is (`do_sys_name_to_handle` in fs/fhandle.c). All fields are integers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            dir.as_raw_fd(),
            name.as_ptr(),
            &raw mut request,
            &raw mut mount,
            flags,
        )
    };
    if result != 0 {
        return Err(last_error());
    }
    Ok(Handle {
        kind: request.kind,
        bytes: request.handle,
        length: usize::try_from(request.bytes).unwrap_or(0),
    })
}

/// `struct mnt_ns_info` of linux/nsfs.h.
#[repr(C)]
#[derive(Default)]
struct NamespaceInfo {
    size: u32,
    mounts: u32,
    id: u64,
}

/// Which way to go through the mount namespaces of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// To older ones: `NS_MNT_GET_PREV`.
    Older,
    /// To newer ones: `NS_MNT_GET_NEXT`.
    Newer,
}

/// The next mount namespace that we may administer, whoever or whatever keeps it (`ioctl_nsfs(2)`, Linux 6.12).
///
/// # Errors
/// `ENOENT` after the last one, `ENOTTY` where the kernel cannot tell.
pub(super) fn next_mount_namespace(namespace: BorrowedFd<'_>, direction: Direction) -> io::Result<OwnedFd> {
    let number = match direction {
        Direction::Newer => 11,
        Direction::Older => 12,
    };
    let request = opcode::read::<NamespaceInfo>(0xb7, number);
    let size = u32::try_from(size_of::<NamespaceInfo>()).unwrap_or(0);
    let mut info = NamespaceInfo { size, ..NamespaceInfo::default() };
    // SAFETY: the kernel writes one `struct mnt_ns_info`, 16 bytes of integers, and returns a descriptor.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), libc::Ioctl::from(request), &raw mut info) };
    // SAFETY: a descriptor that the kernel has just made, close-on-exec, and that nobody else knows.
    if fd >= 0 { Ok(unsafe { OwnedFd::from_raw_fd(fd) }) } else { Err(last_error()) }
}

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    numbers: [u32; 4],
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `LOOP_GET_STATUS64` (`loop(4)`): the device and inode of the file behind a loop device.
///
/// # Errors
/// `ENXIO` where nothing is attached, `ENOTTY` where it is none.
pub(super) fn loop_status(device: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    /// `LOOP_GET_STATUS64` of linux/loop.h, older than the numbers that tell the size.
    const OPCODE: Opcode = 0x4c05;
    // SAFETY: the kernel writes one `struct loop_info64`, 232 bytes of integers, as laid out above.
    let info: LoopInfo = unsafe { ioctl(device, Getter::<OPCODE, LoopInfo>::new()) }?;
    Ok((info.device, info.inode))
}

/// Whether two threads share their table of descriptors (`kcmp(2)`); false where that may not be asked.
pub(super) fn share_descriptors(one: i32, other: i32) -> bool {
    /// `KCMP_FILES` of linux/kcmp.h.
    const FILES: libc::c_int = 2;
    // SAFETY: kcmp(2) takes integers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_kcmp, one, other, FILES, 0, 0) == 0 }
}

/// `struct mnt_id_req` of linux/mount.h, as far as Linux 6.8 knew it.
#[repr(C)]
struct MountRequest {
    size: u32,
    spare: u32,
    mount: u64,
    after: u64,
}

/// `listmount(2)` (Linux 6.8): one mount below a mount of our namespace, by the ids that are never used again; none if
/// nothing is mounted on it. Nothing is asked of its file system, and it does not count as a use of it.
///
/// # Errors
/// `ENOENT` if that mount is not in our namespace, `ENOSYS` before Linux 6.8.
pub(super) fn mounted_below(mount: u64) -> io::Result<Option<u64>> {
    /// The same on all architectures but alpha; libc has no name for it.
    const SYS_LISTMOUNT: libc::c_long = 458;
    let size = u32::try_from(size_of::<MountRequest>()).unwrap_or(0);
    let request = MountRequest { size, spare: 0, mount, after: 0 };
    let mut first = 0u64;
    // SAFETY: the kernel reads `size` bytes of the request, which are integers, and writes one u64 at most, as the count
    // says (`SYSCALL_DEFINE4(listmount)` in fs/namespace.c).
    let count = unsafe {
        libc::syscall(SYS_LISTMOUNT, &raw const request, &raw mut first, 1usize, 0 as libc::c_uint)
    };
    match count {
        0 => Ok(None),
        1 => Ok(Some(first)),
        _ => Err(last_error()),
    }
}

/// `F_SETSIG` (`fcntl(2)`): the signal that a broken lease sends.
///
/// # Errors
/// What fcntl(2) says.
pub(super) fn set_lease_signal(fd: BorrowedFd<'_>, signal: libc::c_int) -> io::Result<()> {
    /// `F_SETSIG` of asm-generic/fcntl.h; libc has no name for it.
    const F_SETSIG: libc::c_int = 10;
    // SAFETY: fcntl(2) with F_SETSIG takes an integer and touches no memory of ours.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), F_SETSIG, signal) };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

/// `F_SETLEASE` (`fcntl(2)`).
///
/// # Errors
/// `EAGAIN` where somebody else has the file open, `EACCES` where it is another user's, `EINVAL` where the file system
/// has no leases.
pub(super) fn set_lease(fd: BorrowedFd<'_>, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: fcntl(2) with F_SETLEASE takes an integer and touches no memory of ours.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, kind) };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

/// `F_GETLEASE` (`fcntl(2)`): the lease that is held, or that a lease being broken has to become.
///
/// # Errors
/// What fcntl(2) says.
pub(super) fn lease(fd: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    // SAFETY: fcntl(2) with F_GETLEASE takes no argument and touches no memory of ours.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETLEASE) };
    if result >= 0 { Ok(result) } else { Err(last_error()) }
}

/// `struct fsmap` of linux/fsmap.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FsmapRecord {
    /// Device id as the kernel encodes it for this call: only compared.
    pub device: u32,
    /// `FMR_OF_*`.
    pub flags: u32,
    /// First byte on the device.
    pub physical: u64,
    /// Owner: an inode, or a special owner where `FMR_OF_SPECIAL_OWNER` is set.
    pub owner: u64,
    /// First byte in the file.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    reserved: [u64; 3],
}

/// `struct fsmap_head` of linux/fsmap.h, without the records.
#[repr(C)]
struct FsmapHead {
    input_flags: u32,
    output_flags: u32,
    count: u32,
    entries: u32,
    reserved: [u64; 6],
    keys: [FsmapRecord; 2],
}

/// Records per call: 15 KiB.
const FSMAP_RECORDS: usize = 240;

#[repr(C)]
struct FsmapRequest {
    head: FsmapHead,
    records: [FsmapRecord; FSMAP_RECORDS],
}

/// One call of `FS_IOC_GETFSMAP` (`ioctl_getfsmap(2)`): the owners of a file system's space after `from`. Reads only.
///
/// # Errors
/// `EOPNOTSUPP`, `ENOTTY` or `EINVAL` where the file system cannot tell.
pub(super) fn fsmap(fs: BorrowedFd<'_>, from: FsmapRecord) -> io::Result<Vec<FsmapRecord>> {
    const OPCODE: Opcode = opcode::read_write::<FsmapHead>(b'X', 59);
    let last = FsmapRecord {
        device: u32::MAX,
        flags: u32::MAX,
        physical: u64::MAX,
        owner: u64::MAX,
        offset: u64::MAX,
        ..FsmapRecord::default()
    };
    let mut request = Box::new(FsmapRequest {
        head: FsmapHead {
            input_flags: 0,
            output_flags: 0,
            count: u32::try_from(FSMAP_RECORDS).unwrap_or(0),
            entries: 0,
            reserved: [0; 6],
            keys: [from, last],
        },
        records: [FsmapRecord::default(); FSMAP_RECORDS],
    });
    // SAFETY: the opcode has the size of the head alone, and the kernel writes at most `count` records behind it,
    // which is how many the request has room for (`xfs_ioc_getfsmap` in fs/xfs/xfs_fsmap.c). All fields are integers.
    unsafe { ioctl(fs, Updater::<OPCODE, FsmapRequest>::new(&mut request)) }?;
    let entries = usize::try_from(request.head.entries).unwrap_or(0);
    Ok(request.records.iter().take(entries).copied().collect())
}

/// `struct xfs_fsop_geom_v1` of `fs/xfs/libxfs/xfs_fs.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct XfsGeometry {
    pub block_size: u32,
    pub rt_extent_size: u32,
    pub ag_blocks: u32,
    pub ag_count: u32,
    pub log_blocks: u32,
    pub sector_size: u32,
    pub inode_size: u32,
    pub max_inode_percent: u32,
    pub data_blocks: u64,
    pub rt_blocks: u64,
    pub rt_extents: u64,
    /// First block of the log; 0 where it is on another device.
    pub log_start: u64,
    pub uuid: [u8; 16],
    pub stripe_unit: u32,
    pub stripe_width: u32,
    pub version: i32,
    /// `XFS_FSOP_GEOM_FLAGS_*`.
    pub flags: u32,
    pub log_sector_size: u32,
    pub rt_sector_size: u32,
    pub dir_block_size: u32,
}

/// `XFS_IOC_FSGEOMETRY_V1`: the shape of an XFS file system.
///
/// # Errors
/// `ENOTTY` where it is none.
pub(super) fn xfs_geometry(fs: BorrowedFd<'_>) -> io::Result<XfsGeometry> {
    const OPCODE: Opcode = opcode::read::<XfsGeometry>(b'X', 100);
    // SAFETY: the kernel writes one `struct xfs_fsop_geom_v1`, 112 bytes of integers, as laid out above.
    unsafe { ioctl(fs, Getter::<OPCODE, XfsGeometry>::new()) }
}

/// `struct xfs_fsop_counts` of `fs/xfs/libxfs/xfs_fs.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct XfsCounts {
    pub free_data: u64,
    pub free_rt: u64,
    pub free_inodes: u64,
    /// Inodes that have a place on the disk, free or not.
    pub allocated_inodes: u64,
}

/// `XFS_IOC_FSCOUNTS`: counters of an XFS file system.
///
/// # Errors
/// `ENOTTY` where it is none.
pub(super) fn xfs_counts(fs: BorrowedFd<'_>) -> io::Result<XfsCounts> {
    const OPCODE: Opcode = opcode::read::<XfsCounts>(b'X', 113);
    // SAFETY: the kernel writes one `struct xfs_fsop_counts`, four u64.
    unsafe { ioctl(fs, Getter::<OPCODE, XfsCounts>::new()) }
}

/// `struct btrfs_ioctl_fs_info_args` of linux/btrfs.h.
#[repr(C)]
struct BtrfsInfo {
    max_id: u64,
    num_devices: u64,
    fsid: [u8; 16],
    rest: [u64; 124],
}

/// `BTRFS_IOC_FS_INFO`: the id of a btrfs file system, by which sysfs names it.
///
/// # Errors
/// `ENOTTY` where it is none.
pub(super) fn btrfs_fsid(fs: BorrowedFd<'_>) -> io::Result<[u8; 16]> {
    const OPCODE: Opcode = opcode::read::<BtrfsInfo>(0x94, 31);
    // The kernel reads the flags in it first.
    let mut info = BtrfsInfo { max_id: 0, num_devices: 0, fsid: [0; 16], rest: [0; 124] };
    // SAFETY: the kernel writes one `struct btrfs_ioctl_fs_info_args`, 1024 bytes of integers.
    unsafe { ioctl(fs, Updater::<OPCODE, BtrfsInfo>::new(&mut info)) }?;
    Ok(info.fsid)
}

/// `struct btrfs_ioctl_get_subvol_info_args` of linux/btrfs.h.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct BtrfsSubvolume {
    pub id: u64,
    name: [u8; 256],
    parent_id: u64,
    directory: u64,
    generation: u64,
    /// `BTRFS_ROOT_SUBVOL_RDONLY` is bit 0.
    pub flags: u64,
    uuid: [u8; 16],
    /// Of the subvolume that this one is a snapshot of; zero if it is none.
    pub parent_uuid: [u8; 16],
    received_uuid: [u8; 16],
    generations: [u64; 4],
    times: [u64; 8],
    reserved: [u64; 8],
}

/// `BTRFS_IOC_GET_SUBVOL_INFO`: the subvolume that a file is in. Needs no privilege (Linux 4.18).
///
/// # Errors
/// `ENOTTY` on other file systems.
pub(super) fn btrfs_subvolume(file: BorrowedFd<'_>) -> io::Result<BtrfsSubvolume> {
    const OPCODE: Opcode = opcode::read::<BtrfsSubvolume>(0x94, 60);
    // SAFETY: the kernel writes one `struct btrfs_ioctl_get_subvol_info_args`, 504 bytes of integers.
    unsafe { ioctl(file, Getter::<OPCODE, BtrfsSubvolume>::new()) }
}

/// `struct bpf_insn` of linux/bpf.h.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Instruction {
    pub code: u8,
    registers: u8,
    pub offset: i16,
    pub number: i32,
}

impl Instruction {
    pub(super) fn new(code: u8, to: u8, from: u8, offset: i16, number: i32) -> Self {
        // Two bit fields of four bits.
        let registers = if cfg!(target_endian = "little") { to | from << 4 } else { from | to << 4 };
        Self { code, registers, offset, number }
    }
}

/// `union bpf_attr` for `BPF_PROG_LOAD`, as far as it is used here (linux/bpf.h); the fields that have no name here are
/// zero.
#[repr(C)]
struct LoadProgram {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    unused: [u64; 5],
    interface: u32,
    attach_kind: u32,
    information: [u32; 9],
    attach_function: u32,
    attach_program: u64,
}

/// One call of bpf(2), whose answer is a new descriptor.
fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `size` bytes of the attributes, which are integers and zero where they are not used. It
    // takes the numbers in them as descriptors and as addresses of memory that it reads: see the callers for those.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    match i32::try_from(fd) {
        // SAFETY: a descriptor that the kernel has just made, close-on-exec, and that nobody else knows.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(last_error()),
    }
}

/// Loads a program for an iterator: it is run inside the kernel for each thing that the function is given, after the
/// kernel has proved that it ends and reads only what it may.
///
/// # Errors
/// `EPERM` without `CAP_BPF` and `CAP_PERFMON`, `EINVAL` or `EACCES` where the kernel refuses the program.
pub(super) fn load_iterator(instructions: &[Instruction], function: u32) -> io::Result<OwnedFd> {
    const LOAD: libc::c_int = 5;
    const TRACING: u32 = 26;
    // Helpers that these programs need are there for such licences only; ours includes MIT.
    let license = c"Dual MIT/GPL";
    let attributes = LoadProgram {
        kind: TRACING,
        count: u32::try_from(instructions.len()).map_err(|_| io::Errno::INVAL)?,
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        unused: [0; 5],
        interface: 0,
        attach_kind: TRACE_ITERATOR,
        information: [0; 9],
        attach_function: function,
        attach_program: 0,
    };
    // The two addresses are of memory that outlives the call and is as long as `count` and the zero at its end say.
    bpf(LOAD, &attributes)
}

/// `BPF_TRACE_ITER`.
const TRACE_ITERATOR: u32 = 28;

/// A descriptor that, when it is read, runs the program for each thing there is and gives what it writes.
///
/// # Errors
/// What bpf(2) says.
pub(super) fn iterate(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const CREATE_LINK: libc::c_int = 28;
    const CREATE_ITERATOR: libc::c_int = 33;
    let number = |fd: BorrowedFd<'_>| fd.as_raw_fd().unsigned_abs();
    // Program, target, kind, flags; then link and flags. No addresses.
    let link = bpf(CREATE_LINK, &[number(program), 0, TRACE_ITERATOR, 0])?;
    bpf(CREATE_ITERATOR, &[number(link.as_fd()), 0])
}
