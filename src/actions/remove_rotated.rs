//! Removes rotated logs, but never the newest of each.

use super::{counted, delete};
use crate::config::Settings;
use crate::domain::finding::ActionId;
use crate::domain::logs::{RotatedFile, removable};
use crate::domain::plan::{Guard, Plan, Refusal};
use crate::domain::size::Bytes;
use crate::domain::snapshot::{ChosenFile, Layer, Snapshot};

/// Makes the plan: that of deleting them, each only while nobody has it open.
pub fn plan(files: &[RotatedFile], snapshot: &Snapshot, settings: &Settings) -> Plan {
    let keep = settings.logs.keep_rotated;
    let going = removable(files, keep);
    let chosen: Vec<ChosenFile> = going
        .iter()
        .map(|file| ChosenFile {
            path: file.path.clone(),
            id: file.id,
            apparent: Bytes(file.id.size),
            allocated: file.allocated,
            entries: 1,
            // Looked at when it runs, as everything else that a guard asks.
            above: Vec::new(),
            held: Vec::new(),
            open_by: Vec::new(),
            layer: Layer::Own,
        })
        .collect();
    let mut plan = delete::plan(&chosen, snapshot);
    plan.action = ActionId::RemoveRotated;
    let count = u64::try_from(plan.steps.len()).unwrap_or(u64::MAX);
    plan.summary = format!("remove {} ({})", counted(count, "rotated log", "rotated logs"), plan.reclaim);
    for step in &mut plan.steps {
        // logrotate may be compressing it right now.
        step.guards.push(Guard::NotInUse);
    }
    let stays = files.iter().filter(|file| going.iter().all(|other| other.path != file.path));
    plan.refused.extend(stays.map(|file| Refusal {
        what: file.path.to_string(),
        why: format!("one of the {keep} newest of {}, which stay (logs.keep_rotated)", file.live),
    }));
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::{DevIno, FileId, FileTime, Inode};
    use jiff::Timestamp;

    fn file(live: &str, number: u64, modified: i64) -> RotatedFile {
        let key = DevIno { ino: Inode(number), ..DevIno::default() };
        let modified = FileTime { secs: modified, nanos: 0 };
        RotatedFile {
            live: live.into(),
            path: format!("{live}.{number}").as_str().into(),
            id: FileId { key, modified, links: 1, ..FileId::default() },
            allocated: Bytes(10),
        }
    }

    #[test]
    fn the_newest_of_each_log_stays() {
        let files = [file("/l/a", 1, 30), file("/l/a", 2, 20), file("/l/a", 3, 10), file("/l/b", 4, 5)];
        let snapshot = Snapshot::pending(Timestamp::UNIX_EPOCH);
        let mut settings = Settings::default();
        let shown = |plan: &Plan| -> Vec<String> { plan.steps.iter().map(|step| step.op.words()).collect() };
        let one = plan(&files, &snapshot, &settings);
        assert_eq!(shown(&one), ["delete /l/a.2", "delete /l/a.3"]);
        assert_eq!(one.refused.len(), 2);
        assert!(one.steps.iter().all(|step| step.guards.contains(&Guard::NotInUse)));
        settings.logs.keep_rotated = 0;
        assert_eq!(plan(&files, &snapshot, &settings).steps.len(), 4);
        settings.logs.keep_rotated = 9;
        assert!(plan(&files, &snapshot, &settings).is_empty());
    }
}
