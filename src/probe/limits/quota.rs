//! Quotas of users and groups (quotactl(2)): writes beyond them fail with EDQUOT while `df` shows free space.

use std::path::Path;

use nix::sys::quota::{Dqblk, QuotaType, quotactl_get};

use crate::domain::limits::{Limit, LimitKind};
use crate::domain::snapshot::FsClass;
use crate::domain::text::HostText;
use crate::probe::Context;
use crate::probe::host::{groups, users};
use crate::sys::fs_types;
use crate::sys::mount_table::MountTable;
use crate::sys::mountinfo::MountEntry;

/// Limits are in blocks of 1 KiB whatever the file system's own are (`QIF_DQBLKSIZE`, quotactl(2)); what is used is in
/// bytes.
const BLOCK: u64 = 1024;

/// Mount options that say that quotas are kept (ext4(5), xfs(5)).
const USER: [&[u8]; 5] = [b"usrquota", b"quota", b"uquota", b"usrjquota", b"uqnoenforce"];
const GROUP: [&[u8]; 4] = [b"grpquota", b"gquota", b"grpjquota", b"gqnoenforce"];

pub(super) fn look(context: &Context<'_>, table: &MountTable, missing: &mut Vec<String>) -> Vec<Limit> {
    let mut limits = Vec::new();
    let mut seen = Vec::new();
    for entry in table.entries() {
        let has = |names: &[&[u8]]| names.iter().any(|name| entry.has_super_option(name));
        let kinds = [(has(&USER), QuotaType::USRQUOTA), (has(&GROUP), QuotaType::GRPQUOTA)];
        let local = fs_types::classify(entry.fs_type.as_bytes(), entry.dev) == FsClass::Local;
        if !local || seen.contains(&entry.dev) || !kinds.iter().any(|(kept, _)| *kept) {
            continue;
        }
        seen.push(entry.dev);
        for (_, kind) in kinds.into_iter().filter(|(kept, _)| *kept) {
            of(context, entry, kind, &mut limits, missing);
        }
    }
    limits
}

fn of(
    context: &Context<'_>,
    entry: &MountEntry,
    kind: QuotaType,
    limits: &mut Vec<Limit>,
    missing: &mut Vec<String>,
) {
    use std::os::unix::ffi::OsStrExt as _;
    let device = Path::new(std::ffi::OsStr::from_bytes(entry.source.as_bytes()));
    let (what, ids) = match kind {
        QuotaType::GRPQUOTA => ("group", groups(context)),
        _ => ("user", users(context).into_iter().map(|user| (user.uid, user.name)).collect()),
    };
    for (id, name) in ids {
        let Ok(number) = i32::try_from(id) else { continue };
        match quotactl_get(kind, device, number) {
            Ok(block) => limits.extend(both(
                &block,
                &HostText::from(format!("{what} {name} on {}", entry.mount_point).as_str()),
            )),
            // Somebody without a quota (ENOENT on XFS), or quotas that are not switched on.
            Err(nix::Error::ENOENT | nix::Error::ESRCH | nix::Error::ENOSYS | nix::Error::EINVAL) => {}
            Err(why) => {
                missing.push(format!(
                    "quotas of {}: {}; run as root (sudo unwedge) to see them",
                    entry.mount_point,
                    why.desc()
                ));
                return;
            }
        }
    }
}

fn both(block: &Dqblk, of: &HostText) -> Vec<Limit> {
    let limit = |kind, used, limit| Limit {
        kind,
        of: of.clone(),
        used,
        limit,
        source: "quotactl(Q_GETQUOTA)".to_owned(),
    };
    let space = most(block.blocks_hard_limit(), block.blocks_soft_limit()).map(|blocks| {
        limit(LimitKind::QuotaSpace, block.occupied_space().unwrap_or(0), blocks.saturating_mul(BLOCK))
    });
    let inodes = most(block.inodes_hard_limit(), block.inodes_soft_limit())
        .map(|most| limit(LimitKind::QuotaInodes, block.allocated_inodes().unwrap_or(0), most));
    space.into_iter().chain(inodes).collect()
}

/// The hard limit where there is one, else the soft one; zero means none (quotactl(2)).
fn most(hard: Option<u64>, soft: Option<u64>) -> Option<u64> {
    hard.filter(|&limit| limit > 0).or(soft.filter(|&limit| limit > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hard_limit_counts_before_a_soft_one_and_zero_is_none() {
        assert_eq!(most(Some(1000), Some(900)), Some(1000));
        assert_eq!(most(Some(0), Some(900)), Some(900));
        assert_eq!(most(Some(0), Some(0)), None);
        assert_eq!(most(None, None), None);
    }
}
