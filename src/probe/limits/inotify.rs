//! inotify watches and instances by user. The kernel counts them by user and tells the count to nobody, so the
//! descriptors of all processes are looked through.

use std::collections::BTreeMap;
use std::time::Instant;

use super::numbers;
use crate::domain::identity::Pid;
use crate::domain::limits::{Limit, LimitKind};
use crate::probe::Context;
use crate::probe::host::user_or_number;
use crate::sys::process_dir::{self, ProcessDir, Scratch};
use crate::sys::procfs::{Proc, parse_uid};

/// What the link of such a descriptor says (`anon_inode_getfd("inotify")`, `fs/notify/inotify/inotify_user.c`).
const INOTIFY: &[u8] = b"anon_inode:inotify";

#[derive(Clone, Copy, Default)]
struct Use {
    watches: u64,
    instances: u64,
}

impl Use {
    fn add(&mut self, more: Self) {
        self.watches += more.watches;
        self.instances += more.instances;
    }
}

/// By user id.
type Users = BTreeMap<u32, Use>;

pub(super) fn look(context: &Context<'_>, missing: &mut Vec<String>) -> Vec<Limit> {
    let until = Instant::now() + context.deadline();
    let limit_of = |name| numbers(context, &format!("/proc/sys/fs/inotify/{name}"))?.first().copied();
    let (Some(watches), Some(instances)) = (limit_of("max_user_watches"), limit_of("max_user_instances"))
    else {
        return Vec::new();
    };
    let proc = context.proc();
    let Ok(pids) = proc.pids() else { return Vec::new() };
    let (parts, all) =
        process_dir::for_all(&pids, Some(until), BTreeMap::new, |users: &mut Users, pid, scratch| {
            count(&proc, pid, users, scratch);
        });
    if !all {
        missing.push("inotify watches: not all processes could be looked into in time".to_owned());
    }
    let mut users = Users::new();
    for (uid, more) in parts.into_iter().flatten() {
        users.entry(uid).or_default().add(more);
    }
    let limit = |kind, uid, used, limit| Limit {
        kind,
        of: user_or_number(context, uid),
        used,
        limit,
        source: "/proc/*/fdinfo/* and /proc/sys/fs/inotify".to_owned(),
    };
    users
        .into_iter()
        .flat_map(|(uid, used)| {
            [
                limit(LimitKind::InotifyWatches, uid, used.watches, watches),
                limit(LimitKind::InotifyInstances, uid, used.instances, instances),
            ]
        })
        .collect()
}

fn count(proc: &Proc, pid: Pid, users: &mut Users, scratch: &mut Scratch) {
    // A process that is gone, or that may not be looked into, adds nothing: the counts are lower bounds.
    let Ok(process) = ProcessDir::open(proc, pid) else { return };
    let mut instances = Vec::new();
    let listed = process.links(scratch, |fd, link| {
        if link == INOTIFY {
            instances.push(fd);
        }
    });
    if listed.is_err() || instances.is_empty() {
        return;
    }
    let mut found = Use { instances: instances.len() as u64, watches: 0 };
    for fd in instances {
        found.watches += process.read(format!("fdinfo/{fd}"), scratch).map_or(0, watches);
    }
    if let Some(uid) = process.read("status", scratch).ok().and_then(parse_uid) {
        users.entry(uid).or_default().add(found);
    }
}

/// One line for each watch (`proc_pid_fdinfo(5)`).
fn watches(info: &[u8]) -> u64 {
    info.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"inotify wd:")).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_a_line() {
        let info =
            b"pos:\t0\nflags:\t00\ninotify wd:3 ino:2 sdev:1 mask:2\ninotify wd:1 ino:1 sdev:1 mask:2\n";
        assert_eq!(watches(info), 2);
        assert_eq!(watches(b"pos:\t0\n"), 0);
    }

    #[test]
    fn our_own_watches_are_counted() {
        use rustix::fs::inotify;
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
        for dir in ["/", "/usr", "/etc"] {
            inotify::add_watch(&fd, dir, inotify::WatchFlags::CREATE).unwrap();
        }
        let mut users = BTreeMap::new();
        let us = i32::try_from(std::process::id()).unwrap();
        count(&Proc::new("/proc"), Pid(us), &mut users, &mut Scratch::default());
        let used = users.remove(&rustix::process::geteuid().as_raw()).unwrap();
        assert!(used.watches >= 3 && used.instances >= 1);
    }
}
