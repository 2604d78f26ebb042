//! What file systems keep for themselves, from their own figures.

use std::os::fd::AsFd;
use std::time::Instant;

use crate::domain::identity::DevId;
use crate::domain::ledger::{Ledger, LedgerPart, PartKind};
use crate::domain::size::Bytes;
use crate::probe::Context;
use crate::scan::ext4::{self, Mounted, Reserved};
use crate::sys::block_device::open_for;
use crate::sys::{btrfs, fsmap, xfs};

/// Adds the lines of a file system's own space, and what of it could not be told.
pub(super) fn add(
    context: &Context<'_>,
    root: impl AsFd,
    until: Instant,
    ledger: &mut Ledger,
    explanations: &mut Vec<String>,
) {
    let fs_type = ledger.fs_type.as_bytes().to_vec();
    let told = match fs_type.as_slice() {
        b"ext2" | b"ext3" | b"ext4" => {
            ledger.outside = outside(context, ledger);
            ext4(context, root, until, ledger)
        }
        b"xfs" => {
            ledger.outside = outside(context, ledger);
            xfs(root, until, ledger)
        }
        b"btrfs" => btrfs(context, root, ledger, explanations),
        // Pages of files, and nothing else, count as used (shmem_statfs in mm/shmem.c).
        b"tmpfs" => Ok(()),
        _ => Err(format!(
            "how much {} keeps for itself is not known to this program: it is in it",
            ledger.fs_type
        )),
    };
    explanations.extend(told.err());
}

fn line(ledger: &mut Ledger, name: impl Into<String>, bytes: Bytes, source: &str) {
    if !bytes.is_zero() {
        ledger.parts.push(LedgerPart {
            kind: PartKind::Metadata,
            name: name.into(),
            bytes: Some(bytes),
            source: source.to_owned(),
        });
    }
}

/// What of the device statvfs(3) does not count at all.
fn outside(context: &Context<'_>, ledger: &Ledger) -> Option<Bytes> {
    let path = context.environment.rooted(format!("/sys/dev/block/{}/size", ledger.dev));
    let sectors: u64 = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
    // In units of 512 bytes whatever the disk uses (Documentation/ABI/stable/sysfs-block).
    Some(Bytes(sectors.saturating_mul(512)).saturating_sub(ledger.usage.total)).filter(|rest| !rest.is_zero())
}

/// ext2, ext3 and ext4 take their tables and the journal off the size (`ext4_statfs`), unless mounted with `minixdf`.
/// What is left are a few files of the file system's own.
fn ext4(context: &Context<'_>, root: impl AsFd, until: Instant, ledger: &mut Ledger) -> Result<(), String> {
    let all = mounted_with_minixdf(context, ledger.dev);
    if all {
        let owners = fsmap::owners(root, until)
            .map_err(|why| format!("with minixdf its tables and journal count as used, and {why}"))?;
        let tables = owners.fixed + owners.inodes + owners.other;
        line(ledger, "tables of blocks and inodes", tables, "FS_IOC_GETFSMAP");
    }
    let why = |why: String| {
        format!("its own files (lists of orphans, quotas, the map for growing) cannot be seen, because {why}")
    };
    let device = open_for(ledger.dev).map_err(|error| why(error.to_string()))?;
    let source = device.path().to_string();
    let opened = ext4::open(device, Mounted::Yes).map_err(|error| why(error.to_string()))?;
    let own: Vec<Reserved> = opened.reserved().map_err(|error| why(error.to_string()))?;
    for Reserved { name, allocated, .. } in own.into_iter().filter(|one| all || !one.journal) {
        line(ledger, name, allocated, &source);
    }
    Ok(())
}

fn mounted_with_minixdf(context: &Context<'_>, dev: DevId) -> bool {
    context.proc().own_mountinfo().is_ok_and(|mounts| {
        mounts.entries.iter().filter(|entry| entry.dev == dev).any(|entry| {
            entry.super_options.as_bytes().split(|&byte| byte == b',').any(|option| option == b"minixdf")
        })
    })
}

/// XFS takes the log off its size. In use count also: space that it holds free for its own trees and for emergencies,
/// the inodes, and trees and headers of all allocation groups.
fn xfs(root: impl AsFd, until: Instant, ledger: &mut Ledger) -> Result<(), String> {
    let figures = xfs::figures(&root).map_err(|why| format!("XFS does not tell its figures: {why}"))?;
    let owners = fsmap::owners(&root, until).map_err(|why| format!("XFS's own space is in it: {why}"))?;
    let source = "FS_IOC_GETFSMAP";
    line(
        ledger,
        "kept free for its own trees and for emergencies",
        owners.free.saturating_sub(ledger.usage.free),
        source,
    );
    if figures.reverse_map && !owners.trees.is_zero() {
        line(ledger, "space of inodes", owners.inodes, source);
        line(ledger, "trees and headers", owners.fixed + owners.trees + owners.other, source);
        line(ledger, "staged for copy-on-write", owners.cow, source);
        return Ok(());
    }
    line(ledger, "space of inodes", figures.inodes, "XFS_IOC_FSCOUNTS");
    line(ledger, "trees and headers, at least", figures.groups, "XFS_IOC_FSGEOMETRY");
    Err("without a reverse map (mkfs.xfs -m rmapbt=1) XFS does not tell how large its trees are: what they take beyond \
         the least is in it"
        .to_owned())
}

fn btrfs(
    context: &Context<'_>,
    root: impl AsFd,
    ledger: &mut Ledger,
    explanations: &mut Vec<String>,
) -> Result<(), String> {
    let figures = btrfs::figures(root, &context.environment.rooted("/sys"))?;
    let source = "/sys/fs/btrfs/*/allocation";
    line(ledger, "trees, with small files in them", figures.metadata, source);
    line(ledger, "chunk tree", figures.system, source);
    line(ledger, "global reserve", figures.reserve, source);
    explanations.push(format!(
        "btrfs has {} in data of files, whatever file shows it. Snapshots and other subvolumes are not in the scan; what \
         files share, compressed files and small files inside trees are counted at more than they take",
        figures.data
    ));
    Ok(())
}
