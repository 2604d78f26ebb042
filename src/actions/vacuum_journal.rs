//! Removes the oldest part of systemd's journal, by its own means: `journalctl` (journalctl(1)).

use super::{counted, device_at, space_at, typed_name};
use crate::config::{LogSettings, Settings};
use crate::domain::command::{ToolCommand, ToolTarget};
use crate::domain::finding::{ActionId, Reclaim};
use crate::domain::identity::DevId;
use crate::domain::logs::{Journal, JournalDir, JournalOwner, Journald};
use crate::domain::op::Op;
use crate::domain::plan::{OnError, Plan, Refusal, Risk, Step, Undo, When};
use crate::domain::size::Bytes;
use crate::domain::snapshot::Snapshot;
use crate::domain::text::HostPath;

/// How long journalctl may take: it looks into each file it removes.
const DEADLINE_SECS: u64 = 300;

/// Makes the plan.
pub fn plan(journal: &Journal, snapshot: &Snapshot, settings: &Settings) -> Plan {
    let limits = limits(&settings.logs);
    let keep = Bytes(settings.logs.keep_journal.as_u64());
    let days = settings.logs.keep_journal_days;
    let own: Vec<&JournalDir> = journal.dirs.iter().filter(|dir| dir.owner == JournalOwner::Own).collect();
    let mut refused: Vec<Refusal> = journal.dirs.iter().filter_map(|dir| not_ours(dir, &limits)).collect();
    refused.extend(own.iter().filter_map(|dir| active(dir)));
    let taken: Vec<&JournalDir> =
        own.into_iter().filter(|dir| dir.rotates() || dir.archived_files > 0).collect();
    let yields = |dirs: &[&JournalDir]| reclaim(dirs, keep, days);
    let steps = calls(&taken)
        .iter()
        .zip(0u32..)
        .map(|((call, dirs), group)| {
            let largest = dirs.iter().max_by_key(|dir| dir.size());
            let on = largest.and_then(|dir| device_at(snapshot, &dir.path));
            step(call.command(&limits), why(dirs), group, yields(dirs), on)
        })
        .collect();
    let mut verify = Vec::new();
    for check in taken.iter().map(|dir| space_at(snapshot, &dir.path)) {
        if !verify.contains(&check) {
            verify.push(check);
        }
    }
    Plan {
        action: ActionId::VacuumJournal,
        summary: if taken.is_empty() {
            "vacuum no journal".to_owned()
        } else {
            let size: Bytes = taken.iter().map(|dir| dir.size()).sum();
            format!("vacuum systemd's journal ({size}) down to {keep}")
        },
        // Old messages do not come back, but journald itself removes them all the time.
        risk: Risk::Disruptive,
        reclaim: yields(&taken),
        steps,
        refused,
        unknown: Vec::new(),
        undo: Undo::Impossible,
        verify,
        name: typed_name("vacuum", &[b"journal"]),
        again: None,
    }
}

/// What stays, as options of journalctl.
fn limits(settings: &LogSettings) -> Vec<String> {
    let mib = 1 << 20;
    let keep = settings.keep_journal.as_u64();
    // As journalctl takes it: powers of 1024 (`parse_size`).
    let size = if keep.is_multiple_of(mib) { format!("{}M", keep / mib) } else { keep.to_string() };
    let mut limits = vec![format!("--vacuum-size={size}")];
    if settings.keep_journal_days > 0 {
        limits.push(format!("--vacuum-time={}d", settings.keep_journal_days));
    }
    limits
}

fn step(command: ToolCommand, why: String, group: u32, frees: Reclaim, on: Option<DevId>) -> Step {
    Step {
        op: Op::Run { command, target: ToolTarget::Chosen },
        why,
        group,
        when: When::Always,
        guards: Vec::new(),
        on_error: OnError::Continue,
        frees,
        on,
    }
}

/// One run of journalctl.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call<'d> {
    /// Of a journald, or of that of a namespace: all its directories. It closes the active files first if it runs.
    Journald(&'d Journald),
    /// Of a directory that journalctl does not look at by itself.
    Directory(&'d HostPath),
}

impl Call<'_> {
    fn of(dir: &JournalDir) -> Call<'_> {
        dir.journald.as_ref().map_or(Call::Directory(&dir.path), Call::Journald)
    }

    fn command(self, limits: &[String]) -> ToolCommand {
        let limits = limits.iter().map(|limit| limit.as_bytes().to_vec());
        let mut arguments = Vec::new();
        match self {
            Self::Journald(Journald { namespace, running }) => {
                arguments
                    .extend(namespace.as_ref().map(|name| [&b"--namespace="[..], name.as_bytes()].concat()));
                arguments.extend(running.then(|| b"--rotate".to_vec()));
            }
            // Never a directory with those of machine ids in it: journalctl would take all of them.
            Self::Directory(path) => arguments.push([&b"--directory="[..], path.as_bytes()].concat()),
        }
        ToolCommand::new("journalctl", DEADLINE_SECS).args(arguments.into_iter().chain(limits)).root_only()
    }
}

/// The directories by the call that takes them, in the order in which they come.
fn calls<'d>(dirs: &[&'d JournalDir]) -> Vec<(Call<'d>, Vec<&'d JournalDir>)> {
    let mut calls: Vec<(Call<'d>, Vec<&'d JournalDir>)> = Vec::new();
    for &dir in dirs {
        let call = Call::of(dir);
        match calls.iter_mut().find(|(known, _)| *known == call) {
            Some((_, with)) => with.push(dir),
            None => calls.push((call, vec![dir])),
        }
    }
    calls
}

fn why(dirs: &[&JournalDir]) -> String {
    let rotates = dirs.iter().any(|dir| dir.rotates());
    match dirs {
        [dir] if !rotates => {
            let files = counted(dir.archived_files, "archived file", "archived files");
            format!("{} in {files} of {}: the oldest go", dir.archived, dir.path)
        }
        _ => {
            let size: Bytes = dirs.iter().map(|dir| dir.vacuumable()).sum();
            let count = counted(u64::try_from(dirs.len()).unwrap_or(u64::MAX), "directory", "directories");
            let closes = if rotates {
                "journald closes its active files, then the oldest go"
            } else {
                "the oldest go"
            };
            format!("{size} in {count}; {closes}")
        }
    }
}

/// What belongs to somebody else, and how that would be vacuumed.
fn not_ours(dir: &JournalDir, limits: &[String]) -> Option<Refusal> {
    let whose = match dir.owner {
        JournalOwner::Own => return None,
        JournalOwner::Other => {
            "it is the journal of another machine id (a container, or a disk that was cloned)"
        }
        JournalOwner::Remote => "it was received from other machines",
    };
    let command = step(Call::of(dir).command(limits), String::new(), 0, Reclaim::Unknown, None).op;
    Some(Refusal {
        what: format!("{} ({})", dir.path, dir.size()),
        why: format!(
            "{whose}, which this machine's journald never removes; if nobody needs it: sudo {}",
            command.words()
        ),
    })
}

fn active(dir: &JournalDir) -> Option<Refusal> {
    let why = match &dir.journald {
        _ if dir.active.is_zero() => return None,
        Some(Journald { running: true, .. }) => return None,
        Some(Journald { namespace: None, .. }) => {
            "only journald can close them, and it does not run".to_owned()
        }
        Some(Journald { namespace: Some(name), .. }) => {
            format!("only the journald of the namespace {name} can close them, and it does not run")
        }
        None => "no journald of this machine writes there that could close them".to_owned(),
    };
    Some(Refusal {
        what: format!("active files in {} ({})", dir.path, dir.active),
        why: format!("{why}; what is still written to cannot be vacuumed"),
    })
}

/// Whole files go, oldest first, in each directory on its own: at least what is above the limit, at most all that is or
/// can be closed. A limit of age may take everything.
fn reclaim(dirs: &[&JournalDir], keep: Bytes, days: u32) -> Reclaim {
    let all: Bytes = dirs.iter().map(|dir| dir.vacuumable()).sum();
    // Active files count, but stay.
    let above: Bytes = dirs.iter().map(|dir| dir.size().saturating_sub(keep).min(dir.vacuumable())).sum();
    let rotates = dirs.iter().any(|dir| dir.rotates());
    if all.is_zero() || (above.is_zero() && days == 0 && !rotates) {
        Reclaim::Nothing
    } else if above == all {
        Reclaim::exact(all)
    } else {
        Reclaim::Range { low: above, high: all }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    const MIB: u64 = 1 << 20;

    fn dir(path: &str, owner: JournalOwner, archived: u64, active: u64) -> JournalDir {
        JournalDir {
            path: path.into(),
            owner,
            journald: None,
            archived: Bytes(archived * MIB),
            archived_files: archived / 8,
            active: Bytes(active * MIB),
            modified: None,
        }
    }

    fn of(namespace: Option<&str>, running: bool, path: &str, archived: u64, active: u64) -> JournalDir {
        let journald = Some(Journald { namespace: namespace.map(Into::into), running });
        JournalDir { journald, ..dir(path, JournalOwner::Own, archived, active) }
    }

    fn plan(running: bool, days: u32) -> Plan {
        let journal = Journal {
            dirs: vec![
                of(None, running, "/var/log/journal/ID", 800, 16),
                of(Some("jobs"), running, "/var/log/journal/ID.jobs", 600, 8),
                dir("/var/log/journal/other", JournalOwner::Other, 80, 0),
                dir("/var/log/journal/remote", JournalOwner::Remote, 80, 0),
                dir("/var/log/journal/a b", JournalOwner::Own, 640, 8),
                of(None, running, "/run/log/journal/ID", 0, 8),
                of(Some("idle"), false, "/run/log/journal/ID.idle", 16, 0),
            ],
        };
        let mut settings = Settings::default();
        settings.logs.keep_journal_days = days;
        super::plan(&journal, &Snapshot::pending(Timestamp::UNIX_EPOCH), &settings)
    }

    fn shown(plan: &Plan) -> Vec<String> {
        plan.steps.iter().map(|step| step.op.words()).collect()
    }

    #[test]
    fn each_journald_that_runs_is_told_to_rotate_by_its_namespace() {
        let plan = plan(true, 0);
        assert_eq!(
            shown(&plan),
            [
                "journalctl --rotate --vacuum-size=500M",
                "journalctl --namespace=jobs --rotate --vacuum-size=500M",
                "journalctl '--directory=/var/log/journal/a b' --vacuum-size=500M",
                "journalctl --namespace=idle --vacuum-size=500M",
            ]
        );
        let frees: Vec<&Reclaim> = plan.steps.iter().map(|step| &step.frees).collect();
        let range = |low, high| Reclaim::Range { low: Bytes(low * MIB), high: Bytes(high * MIB) };
        assert_eq!(frees, [&range(316, 824), &range(108, 608), &range(148, 640), &Reclaim::Nothing]);
        assert_eq!(plan.reclaim, range(316 + 108 + 148, 824 + 608 + 640 + 16));
        let refused: Vec<&str> = plan.refused.iter().map(|refusal| refusal.what.as_str()).collect();
        assert_eq!(
            refused,
            [
                "/var/log/journal/other (80.0 MiB)",
                "/var/log/journal/remote (80.0 MiB)",
                "active files in /var/log/journal/a b (8.0 MiB)"
            ]
        );
        assert!(plan.refused[0].why.contains(
            "another machine id (a container, or a disk that was cloned), which this machine's journald never removes; \
             if nobody needs it: sudo journalctl --directory=/var/log/journal/other --vacuum-size=500M"
        ));
        assert!(plan.refused[2].why.starts_with("no journald of this machine writes there"));
    }

    #[test]
    fn without_a_journald_only_what_is_closed_is_vacuumed() {
        let plan = plan(false, 30);
        assert_eq!(
            shown(&plan),
            [
                "journalctl --vacuum-size=500M --vacuum-time=30d",
                "journalctl --namespace=jobs --vacuum-size=500M --vacuum-time=30d",
                "journalctl '--directory=/var/log/journal/a b' --vacuum-size=500M --vacuum-time=30d",
                "journalctl --namespace=idle --vacuum-size=500M --vacuum-time=30d",
            ]
        );
        let why = |what: &str| {
            plan.refused.iter().find(|refusal| refusal.what.starts_with(what)).unwrap().why.clone()
        };
        assert!(
            why("active files in /run/log/journal/ID (").contains("journald can close them, and it does not")
        );
        assert!(why("active files in /var/log/journal/ID.jobs").contains("of the namespace jobs can close"));
        assert_eq!(plan.refused.len(), 6, "{:?}", plan.refused);
        assert_eq!(plan.risk, Risk::Disruptive);
    }
}
