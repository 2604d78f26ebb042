//! Safe wrappers of system calls, and read-only queries of the kernel's own files.

pub mod beneath;
pub mod file_id;
