//! Safe wrappers of system calls, and read-only queries of the kernel's own files.

pub mod block_device;
pub mod file_id;
