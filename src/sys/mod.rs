//! Safe wrappers of system calls, and read-only queries of the kernel's own files.

pub mod beneath;
pub mod block_device;
pub mod btrfs;
pub mod child;
pub mod confine;
pub mod deadline;
pub mod detached;
pub mod file_id;
pub mod fork;
pub mod fs_types;
pub mod fsmap;
pub mod kernel;
pub mod memory;
pub mod mount_namespaces;
pub mod mount_table;
pub mod mountinfo;
pub mod mounts_below;
mod offspring;
pub mod process_dir;
pub mod procfs;
mod raw;
pub mod safe_path;
pub mod statvfs;
pub mod swaps;
pub mod tool;
pub mod xfs;
