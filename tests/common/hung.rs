//! A FUSE file system whose server stopped answering.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Arc;

use nix::mount::{MsFlags, mount};

/// Mounts a FUSE file system and serves it just so far that it hangs for good: the first message is answered, all
/// later ones are taken and never answered, which leaves whoever asks in an uninterruptible sleep that KILL does not end.
pub fn mount_hung(at: &Path) -> Arc<File> {
    let device = Arc::new(File::options().read(true).write(true).open("/dev/fuse").unwrap());
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    mount(Some("dead:/export"), at, Some("fuse.sshfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
    let server = Arc::clone(&device);
    std::thread::spawn(move || {
        let mut request = vec![0; 1 << 17];
        while let Ok(len) = (&*server).read(&mut request) {
            // struct fuse_in_header: len, opcode, unique; FUSE_INIT is 26 (include/uapi/linux/fuse.h).
            if len >= 16 && u32::from_ne_bytes(request[4..8].try_into().unwrap()) == 26 {
                let mut reply = Vec::new();
                // struct fuse_out_header, then struct fuse_init_out of version 7.31.
                reply.extend(80u32.to_ne_bytes());
                reply.extend(0i32.to_ne_bytes());
                reply.extend(&request[8..16]);
                for word in [7u32, 31, 0, 0, 0, 4096, 1, 0] {
                    reply.extend(word.to_ne_bytes());
                }
                reply.resize(80, 0);
                (&*server).write_all(&reply).unwrap();
            }
        }
    });
    device
}
