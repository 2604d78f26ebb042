//! Whether something must be left alone for now: its program runs, its lock is held, its service is active.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use super::{Context, build_tools, process_list};
use crate::domain::catalogue::{Refuse, Spot, fill};
use crate::domain::identity::{DevId, DevIno, Inode, Pid};
use crate::domain::snapshot::Evidence;
use crate::sys::deadline::c_path;
use crate::sys::file_id;

/// Reasons named for one kind; one is enough.
const REASONS: usize = 3;
/// Where the cgroups of system services are (cgroup v2; systemd's own hierarchy on older systems).
const SLICES: [&str; 2] = ["/sys/fs/cgroup/system.slice", "/sys/fs/cgroup/systemd/system.slice"];

/// What runs and what is locked, read once.
pub(super) struct Busy {
    root: PathBuf,
    fixture: bool,
    /// One process of each name.
    running: BTreeMap<Vec<u8>, Pid>,
    /// One holder of each locked file; 0 where it lives in another pid namespace.
    locked: BTreeMap<DevIno, Pid>,
}

impl Busy {
    pub(super) fn read(context: &Context<'_>) -> Self {
        let mut running = BTreeMap::new();
        let mut name = |name: &[u8], pid: Pid| match running.get_mut(name) {
            Some(known) => *known = pid.min(*known),
            None => drop(running.insert(name.to_vec(), pid)),
        };
        if let Ok(processes) = process_list::processes(context) {
            for process in processes.all().filter(|process| process.is_program()) {
                name(process.stat.comm.as_bytes(), process.stat.pid);
            }
            for (process, command) in processes.programs() {
                let pid = process.stat.pid;
                if let Some(exe) = &command.exe {
                    name(build_tools::base_name(exe), pid);
                }
                if let Some(tool) = build_tools::recognise(command.exe.as_deref(), &command.arguments) {
                    name(tool.name.as_bytes(), pid);
                }
            }
        }
        let locked = locks(context);
        let root = context.environment.root.clone();
        Self { fixture: root != std::path::Path::new("/"), root, running, locked }
    }

    /// Why what these places hold must be left alone for now.
    pub(super) fn reasons<'s>(
        &self,
        refuse: &Refuse,
        spots: impl Iterator<Item = Spot<'s>>,
    ) -> Vec<Evidence> {
        let mut reasons = Vec::new();
        for name in &refuse.processes {
            if let Some(pid) = self.running.get(name.as_bytes()) {
                reasons.push(Evidence::new(
                    format!("{name} is running (pid {pid})"),
                    format!("/proc/{pid}/exe"),
                ));
            }
        }
        for unit in &refuse.services {
            reasons.extend(self.service(unit));
        }
        if !refuse.locks.is_empty() {
            for spot in spots {
                reasons.extend(refuse.locks.iter().filter_map(|lock| self.lock(lock, &spot)));
                if reasons.len() >= REASONS {
                    break;
                }
            }
            reasons.dedup();
        }
        reasons.truncate(REASONS);
        reasons
    }

    fn service(&self, unit: &str) -> Option<Evidence> {
        SLICES.iter().find_map(|slice| {
            let file = self.root.join(slice.trim_start_matches('/')).join(unit).join("cgroup.events");
            // Not empty in the sense of cgroups(7).
            let populated = std::fs::read_to_string(&file).ok()?.lines().any(|line| line == "populated 1");
            populated.then(|| {
                Evidence::new(
                    format!("the service {unit} is active"),
                    format!("{slice}/{unit}/cgroup.events"),
                )
            })
        })
    }

    fn lock(&self, lock: &str, spot: &Spot<'_>) -> Option<Evidence> {
        let path = PathBuf::from(fill(lock, spot)?);
        // Places are paths of the machine already; what is absolute in the catalogue is below the root.
        let path = if lock.starts_with('/') || (self.fixture && lock.starts_with("{home}")) {
            self.root.join(path.strip_prefix("/").unwrap_or(&path))
        } else {
            path
        };
        let key = file_id::of_path(&c_path(&path).ok()?, false).ok()?.key;
        let pid = self.locked.get(&key)?;
        let shown = crate::domain::text::sanitise(path.as_os_str().as_bytes()).into_owned();
        let who =
            if pid.0 > 0 { format!("pid {pid}") } else { "a process of another pid namespace".to_owned() };
        Some(Evidence::new(format!("{shown} is locked by {who}"), "/proc/locks"))
    }
}

/// One holder of each locked file; 0 where it lives in another pid namespace.
pub(super) fn locks(context: &Context<'_>) -> BTreeMap<DevIno, Pid> {
    let text = std::fs::read(context.environment.rooted("/proc/locks")).unwrap_or_default();
    text.split(|&byte| byte == b'\n').filter_map(parse_lock).collect()
}

/// A line of `/proc/locks` (`proc_locks(5)`): the file that is locked, and who holds the lock. None for one who waits
/// (`->`), and for leases and other kinds that keep nobody from writing.
fn parse_lock(line: &[u8]) -> Option<(DevIno, Pid)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.split_ascii_whitespace().skip(1);
    let kind = fields.next().filter(|kind| matches!(*kind, "FLOCK" | "POSIX" | "OFDLCK"));
    kind?;
    let pid = fields.nth(2)?.parse().ok()?;
    let mut file = fields.next()?.split(':');
    let mut number = |radix| u64::from_str_radix(file.next()?, radix).ok();
    let (major, minor) = (u32::try_from(number(16)?).ok()?, u32::try_from(number(16)?).ok()?);
    let ino = Inode(number(10)?);
    Some((DevIno { dev: DevId { major, minor }, ino }, Pid(pid)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::probe::tests::Surroundings;

    #[test]
    fn lines_of_proc_locks() {
        let key = |major, minor, ino| DevIno { dev: DevId { major, minor }, ino: Inode(ino) };
        let parse = |line: &str| parse_lock(line.as_bytes());
        assert_eq!(
            parse("1: POSIX  ADVISORY  WRITE 812 fe:1f:99 0 EOF"),
            Some((key(0xfe, 0x1f, 99), Pid(812)))
        );
        assert_eq!(parse("2: FLOCK  ADVISORY  WRITE 7 00:2d:4 0 EOF"), Some((key(0, 0x2d, 4), Pid(7))));
        assert_eq!(parse("3: OFDLCK ADVISORY  READ -1 00:2d:4 0 EOF"), Some((key(0, 0x2d, 4), Pid(-1))));
        assert_eq!(parse("1: -> POSIX  ADVISORY  WRITE 813 fe:1f:99 0 EOF"), None);
        assert_eq!(parse("4: LEASE  ACTIVE    WRITE 9 fe:1f:99 0 EOF"), None);
        assert_eq!(parse(""), None);
    }

    proptest! {
        #[test]
        fn any_line_is_taken(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse_lock(&line);
        }
    }

    #[test]
    fn a_lock_that_is_held_is_seen_and_one_that_was_let_go_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        #[allow(clippy::disallowed_methods)]
        let file = std::fs::File::create(&path).unwrap();
        let surroundings = Surroundings::real();
        let refuse = Refuse { locks: vec!["{path}/lock".to_owned()], ..Refuse::default() };
        let spot = Spot { path: dir.path(), home: None };
        let look = || Busy::read(&surroundings.context()).reasons(&refuse, std::iter::once(spot));
        assert_eq!(look(), []);
        file.lock().unwrap();
        let reasons = look();
        assert!(reasons[0].fact.contains("is locked by pid"), "{reasons:?}");
        file.unlock().unwrap();
        assert_eq!(look(), []);
    }

    #[test]
    fn a_program_that_runs_is_seen_by_its_exact_name() {
        let surroundings = Surroundings::real();
        let busy = Busy::read(&surroundings.context());
        let exe = std::env::current_exe().unwrap();
        let own = exe.file_name().unwrap().to_str().unwrap().to_owned();
        let reasons = |name: &str| {
            let refuse = Refuse { processes: vec![name.to_owned()], ..Refuse::default() };
            busy.reasons(&refuse, std::iter::empty())
        };
        assert_eq!(reasons(&own).len(), 1, "{own}");
        assert_eq!(reasons(&own[1..]), []);
    }

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn a_service_is_active_while_its_cgroup_has_processes() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("sys/fs/cgroup/system.slice/x.service");
        std::fs::create_dir_all(&dir).unwrap();
        let surroundings = Surroundings::fixture(root.path());
        let refuse = Refuse { services: vec!["x.service".to_owned()], ..Refuse::default() };
        let look = || Busy::read(&surroundings.context()).reasons(&refuse, std::iter::empty());
        for (events, active) in [("populated 1\nfrozen 0\n", 1), ("populated 0\nfrozen 0\n", 0)] {
            std::fs::write(dir.join("cgroup.events"), events).unwrap();
            assert_eq!(look().len(), active);
        }
    }
}
