//! Gives back the space of deleted files that are still open: truncates them through a holder's descriptor.

use super::{counted, file_name, space_check, typed_name};
use crate::domain::finding::{ActionId, Reclaim};
use crate::domain::op::Op;
use crate::domain::plan::{Guard, OnError, Plan, Refusal, Risk, Step, Undo, When};
use crate::domain::size::Bytes;
use crate::domain::snapshot::{DeletedFile, Holder, Snapshot};

/// The descriptor to use, or why there is none.
fn descriptor(file: &DeletedFile) -> Result<(&Holder, i32), String> {
    if let Some(holder) = file.holders.iter().find(|holder| holder.mapped) {
        return Err(format!(
            "{} ({}) has it mapped into memory and would die of SIGBUS; restart it instead",
            holder.name, holder.process
        ));
    }
    file.holders
        .iter()
        .find_map(|holder| Some((holder, holder.fd?)))
        .ok_or_else(|| "no descriptor of it was found; look again".to_owned())
}

/// Makes the plan.
pub fn plan(files: &[DeletedFile], snapshot: &Snapshot) -> Plan {
    let mut refused = Vec::new();
    let mut freed: Vec<(&DeletedFile, &Holder, i32)> = Vec::new();
    for file in files {
        match descriptor(file) {
            Err(why) => refused.push(Refusal { what: file.last_path.to_string(), why }),
            Ok(_) if freed.iter().any(|(other, ..)| other.key == file.key) => {}
            Ok((holder, fd)) => freed.push((file, holder, fd)),
        }
    }
    freed.sort_by(|(a, ..), (b, ..)| {
        b.allocated.cmp(&a.allocated).then_with(|| a.last_path.cmp(&b.last_path))
    });
    let mut verify = Vec::new();
    for (file, ..) in &freed {
        let check = space_check(snapshot, file.key.dev, None, &file.last_path);
        if !verify.contains(&check) {
            verify.push(check);
        }
    }
    let total: Bytes = freed.iter().map(|(file, ..)| file.allocated).sum();
    let names: Vec<&[u8]> = freed.iter().map(|(file, ..)| file_name(&file.last_path)).collect();
    Plan {
        action: ActionId::FreeDeleted,
        summary: match freed.as_slice() {
            [] => "free nothing".to_owned(),
            [(file, holder, _)] => format!(
                "cut deleted file {} to nothing ({total}, open by {} {})",
                file.last_path, holder.name, holder.process
            ),
            many => {
                let count = u64::try_from(many.len()).unwrap_or(u64::MAX);
                format!("cut {} to nothing ({total})", counted(count, "deleted file", "deleted files"))
            }
        },
        // A running process loses what it wrote.
        risk: Risk::Destructive,
        steps: freed.iter().zip(0u32..).map(|(one, group)| step(*one, group)).collect(),
        refused,
        reclaim: Reclaim::exact(total),
        unknown: Vec::new(),
        undo: Undo::Impossible,
        verify,
        name: typed_name("truncate", &names),
        again: None,
    }
}

fn step((file, holder, fd): (&DeletedFile, &Holder, i32), group: u32) -> Step {
    let others = file.holders.iter().filter(|other| other.process != holder.process).count();
    let also = if others == 0 { String::new() } else { format!(" and {others} more") };
    Step {
        op: Op::TruncateDeleted {
            holder: holder.process,
            fd,
            id: file.id,
            last_path: file.last_path.clone(),
            allocated: file.allocated,
        },
        why: format!(
            "{} of {}, open by {} ({}){also}",
            file.allocated, file.last_path, holder.name, holder.process
        ),
        group,
        when: When::Always,
        guards: vec![Guard::StillDeleted],
        on_error: OnError::Continue,
        frees: Reclaim::exact(file.allocated),
        on: Some(file.key.dev),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::{DevId, DevIno, FileId, Inode, Pid, ProcId};
    use jiff::Timestamp;

    fn file(ino: u64, allocated: u64, mapped: bool, fd: Option<i32>) -> DeletedFile {
        DeletedFile {
            key: DevIno { dev: DevId::default(), ino: Inode(ino) },
            id: FileId::default(),
            last_path: "/var/log/big".into(),
            apparent: Bytes(allocated),
            allocated: Bytes(allocated),
            holders: vec![Holder {
                process: ProcId { pid: Pid(8), start: 1 },
                name: "logger".into(),
                fd,
                mapped,
            }],
        }
    }

    #[test]
    fn the_largest_comes_first_and_a_mapped_one_is_refused() {
        let snapshot = Snapshot::pending(Timestamp::UNIX_EPOCH);
        let files = [
            file(1, 10, false, Some(3)),
            file(2, 20, false, Some(4)),
            file(3, 30, true, Some(5)),
            file(4, 40, false, None),
            file(2, 20, false, Some(4)),
        ];
        let plan = plan(&files, &snapshot);
        let shown: Vec<String> = plan.steps.iter().map(|step| step.op.words()).collect();
        assert_eq!(
            shown,
            [
                "empty the deleted /var/log/big through descriptor 4 of pid 8",
                "empty the deleted /var/log/big through descriptor 3 of pid 8"
            ]
        );
        assert_eq!(plan.reclaim, Reclaim::exact(Bytes(30)));
        assert!(plan.refused[0].why.contains("SIGBUS"));
        assert_eq!(plan.refused.len(), 2);
        assert_eq!(plan.risk, Risk::Destructive);
        assert_eq!(plan.verify.len(), 1);
    }
}
