//! inotify watches and instances by user. The kernel counts them by user and tells the count to nobody, so the
//! descriptors of all processes are looked through.

use std::collections::BTreeMap;
use std::time::Instant;

use super::numbers;
use crate::domain::identity::Pid;
use crate::domain::limits::{Limit, LimitKind};
use crate::probe::Context;
use crate::probe::host::user_or_number;
use crate::sys::procfs::Proc;

/// What the link of such a descriptor says (`anon_inode_getfd("inotify")`, `fs/notify/inotify/inotify_user.c`).
const INOTIFY: &[u8] = b"anon_inode:inotify";

#[derive(Default)]
struct Use {
    watches: u64,
    instances: u64,
}

pub(super) fn look(context: &Context<'_>, missing: &mut Vec<String>) -> Vec<Limit> {
    let until = Instant::now() + context.deadline();
    let limit_of = |name| numbers(context, &format!("/proc/sys/fs/inotify/{name}"))?.first().copied();
    let (Some(watches), Some(instances)) = (limit_of("max_user_watches"), limit_of("max_user_instances"))
    else {
        return Vec::new();
    };
    let proc = context.proc();
    let Ok(pids) = proc.pids() else { return Vec::new() };
    let mut users: BTreeMap<u32, Use> = BTreeMap::new();
    for pid in pids {
        if Instant::now() >= until {
            missing.push("inotify watches: not all processes could be looked into in time".to_owned());
            break;
        }
        count(&proc, pid, &mut users);
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

fn count(proc: &Proc, pid: Pid, users: &mut BTreeMap<u32, Use>) {
    // A process that is gone, or that may not be looked into, adds nothing: the counts are lower bounds.
    let Ok(descriptors) = proc.descriptors(pid) else { return };
    let mut found = Use::default();
    for fd in descriptors {
        if proc.link(pid, &format!("fd/{fd}")).is_ok_and(|link| link == INOTIFY) {
            found.instances += 1;
            found.watches += proc.read(pid, &format!("fdinfo/{fd}")).map_or(0, |info| watches(&info));
        }
    }
    if found.instances > 0
        && let Ok(uid) = proc.uid(pid)
    {
        let user = users.entry(uid).or_default();
        user.instances += found.instances;
        user.watches += found.watches;
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
        count(&Proc::new("/proc"), Pid(us), &mut users);
        let used = users.remove(&rustix::process::geteuid().as_raw()).unwrap();
        assert!(used.watches >= 3 && used.instances >= 1);
    }
}
