//! Removes the oldest part of systemd's journal, by its own means: `journalctl` (journalctl(1)).

use super::{counted, device_at, space_at, typed_name};
use crate::config::{LogSettings, Settings};
use crate::domain::command::{ToolCommand, ToolTarget};
use crate::domain::finding::{ActionId, Reclaim};
use crate::domain::identity::DevId;
use crate::domain::logs::{Journal, JournalDir, JournalOwner};
use crate::domain::op::Op;
use crate::domain::plan::{OnError, Plan, Refusal, Risk, Step, Undo, When};
use crate::domain::size::Bytes;
use crate::domain::snapshot::Snapshot;

/// How long journalctl may take: it looks into each file it removes.
const DEADLINE_SECS: u64 = 300;

/// Makes the plan.
pub fn plan(journal: &Journal, snapshot: &Snapshot, settings: &Settings) -> Plan {
    let limits = limits(&settings.logs);
    let keep = Bytes(settings.logs.keep_journal.as_u64());
    let days = settings.logs.keep_journal_days;
    let yields = |dirs: &[&JournalDir]| reclaim(dirs, keep, days, journal.running);
    let on = |dir: &JournalDir| device_at(snapshot, &dir.path);
    let own: Vec<&JournalDir> = journal.dirs.iter().filter(|dir| dir.owner == JournalOwner::Own).collect();
    let mut refused: Vec<Refusal> = journal.dirs.iter().filter_map(|dir| not_ours(dir, &limits)).collect();
    let (steps, taken) = if journal.running {
        let largest = own.iter().max_by_key(|dir| dir.size()).and_then(|dir| on(dir));
        (together(&own, &limits, yields(&own), largest), own)
    } else {
        refused.extend(own.iter().filter_map(|dir| active(dir)));
        let taken: Vec<&JournalDir> = own.into_iter().filter(|dir| dir.archived_files > 0).collect();
        let mut steps = one_by_one(&taken, &limits);
        for (step, dir) in steps.iter_mut().zip(&taken) {
            (step.frees, step.on) = (yields(&[*dir]), on(dir));
        }
        (steps, taken)
    };
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
        undo: Undo::Impossible,
        verify,
        name: typed_name("vacuum", &[b"journal"]),
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

fn journalctl(arguments: impl IntoIterator<Item = Vec<u8>>) -> ToolCommand {
    ToolCommand::new("journalctl", DEADLINE_SECS).args(arguments).root_only()
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

/// journald closes the active files first, in all its directories.
fn together(dirs: &[&JournalDir], limits: &[String], frees: Reclaim, on: Option<DevId>) -> Vec<Step> {
    if dirs.is_empty() {
        return Vec::new();
    }
    let size: Bytes = dirs.iter().map(|dir| dir.size()).sum();
    let arguments = std::iter::once("--rotate").chain(limits.iter().map(String::as_str));
    let command = journalctl(arguments.map(|argument| argument.as_bytes().to_vec()));
    let count = counted(u64::try_from(dirs.len()).unwrap_or(u64::MAX), "directory", "directories");
    let why = format!("{size} in {count}; journald closes its active files, then the oldest go");
    vec![step(command, why, 0, frees, on)]
}

/// Where no journald runs, nobody could close an active file.
fn one_by_one(dirs: &[&JournalDir], limits: &[String]) -> Vec<Step> {
    let one = |(dir, group): (&&JournalDir, u32)| {
        let directory = [b"--directory=", dir.path.as_bytes()].concat();
        let limits = limits.iter().map(|limit| limit.as_bytes().to_vec());
        let command = journalctl(std::iter::once(directory).chain(limits));
        let files = counted(dir.archived_files, "archived file", "archived files");
        step(
            command,
            format!("{} in {files} of {}: the oldest go", dir.archived, dir.path),
            group,
            Reclaim::Unknown,
            None,
        )
    };
    dirs.iter().zip(0u32..).map(one).collect()
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
    let command =
        one_by_one(&[dir], limits).pop().map(|step| format!("sudo {}", step.op)).unwrap_or_default();
    Some(Refusal {
        what: format!("{} ({})", dir.path, dir.size()),
        why: format!("{whose}, which this machine's journald never removes; if nobody needs it: {command}"),
    })
}

fn active(dir: &JournalDir) -> Option<Refusal> {
    (!dir.active.is_zero()).then(|| Refusal {
        what: format!("active files in {} ({})", dir.path, dir.active),
        why: "only journald can close them, and it does not run; what is still written to cannot be vacuumed"
            .to_owned(),
    })
}

/// Whole files go, oldest first, in each directory on its own: at least what is above the limit, at most all that is or
/// can be closed. A limit of age may take everything.
fn reclaim(dirs: &[&JournalDir], keep: Bytes, days: u32, running: bool) -> Reclaim {
    let closed = |dir: &&JournalDir| if running { dir.size() } else { dir.archived };
    let all: Bytes = dirs.iter().map(closed).sum();
    // Active files count, but stay.
    let above: Bytes = dirs.iter().map(|dir| dir.size().saturating_sub(keep).min(closed(dir))).sum();
    if all.is_zero() || (above.is_zero() && days == 0 && !running) {
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
            archived: Bytes(archived * MIB),
            archived_files: archived / 8,
            active: Bytes(active * MIB),
            modified: None,
        }
    }

    fn plan(running: bool, days: u32) -> Plan {
        let journal = Journal {
            dirs: vec![
                dir("/var/log/journal/own", JournalOwner::Own, 800, 16),
                dir("/var/log/journal/other", JournalOwner::Other, 80, 0),
                dir("/var/log/journal/remote", JournalOwner::Remote, 80, 0),
                dir("/run/log/journal/a b", JournalOwner::Own, 0, 8),
            ],
            running,
            ..Journal::default()
        };
        let mut settings = Settings::default();
        settings.logs.keep_journal_days = days;
        super::plan(&journal, &Snapshot::pending(Timestamp::UNIX_EPOCH), &settings)
    }

    fn shown(plan: &Plan) -> Vec<String> {
        plan.steps.iter().map(|step| step.op.to_string()).collect()
    }

    #[test]
    fn journald_is_told_to_rotate_where_it_runs() {
        let plan = plan(true, 0);
        assert_eq!(shown(&plan), ["journalctl --rotate --vacuum-size=500M"]);
        assert_eq!(plan.reclaim, Reclaim::Range { low: Bytes(316 * MIB), high: Bytes(824 * MIB) });
        assert_eq!(plan.refused.len(), 2, "{:?}", plan.refused);
        assert!(plan.refused[0].why.contains(
            "another machine id (a container, or a disk that was cloned), which this machine's journald never removes; \
             if nobody needs it: sudo journalctl --directory=/var/log/journal/other --vacuum-size=500M"
        ));
    }

    #[test]
    fn each_directory_is_vacuumed_where_it_does_not() {
        let plan = plan(false, 30);
        assert_eq!(
            shown(&plan),
            ["journalctl --directory=/var/log/journal/own --vacuum-size=500M --vacuum-time=30d"]
        );
        let refused: Vec<&str> = plan.refused.iter().map(|refusal| refusal.what.as_str()).collect();
        assert!(
            refused.iter().any(|what| what.starts_with("active files in /run/log/journal/a b")),
            "{refused:?}"
        );
        assert_eq!(plan.refused.len(), 4);
        assert_eq!(plan.risk, Risk::Disruptive);
    }
}
