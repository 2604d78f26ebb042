//! Who has a log open for writing.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use crate::domain::identity::DevIno;
use crate::domain::logs::Writer;
use crate::domain::text::HostText;
use crate::probe::Context;
use crate::sys::file_id;
use crate::sys::process_dir::{self, ProcessDir, is_refused};
use crate::sys::procfs::{how_to_look, parse_open_flags};

/// Writers of one file that are told.
const TOLD: usize = 10;

/// What one thread has found.
#[derive(Default)]
struct Found {
    writers: BTreeMap<DevIno, Vec<Writer>>,
    refused: u32,
}

/// The writers of these files, each process once; those that do not append come first.
pub(super) fn look(
    context: &Context<'_>,
    files: &HashSet<DevIno>,
    until: Instant,
    missing: &mut Vec<String>,
) -> BTreeMap<DevIno, Vec<Writer>> {
    let mut writers: BTreeMap<DevIno, Vec<Writer>> = BTreeMap::new();
    if files.is_empty() {
        return writers;
    }
    let proc = context.proc();
    let pids = match proc.pids() {
        Ok(pids) => pids,
        Err(error) => {
            missing.push(format!("who writes to logs is not known: {error}"));
            return writers;
        }
    };
    let (parts, all) = process_dir::for_all(&pids, Some(until), Found::default, |found, pid, scratch| {
        let Ok(process) = ProcessDir::open(&proc, pid) else { return };
        let mut held = Vec::new();
        let listed = process.descriptors(scratch, |open| {
            let key = file_id::dev_ino(&open.stat);
            if files.contains(&key) {
                held.push((key, open.fd));
            }
        });
        if held.is_empty() {
            let refused = listed.is_err_and(is_refused)
                && process.stat(scratch).is_some_and(|stat| !stat.is_kernel_thread() && !stat.is_dead());
            found.refused += u32::from(refused);
            return;
        }
        let Some(stat) = process.stat(scratch) else { return };
        for (key, fd) in held {
            let Ok(info) = process.read(format!("fdinfo/{fd}"), scratch) else { continue };
            let flags = parse_open_flags(info).unwrap_or_default();
            if !is_writing(flags) {
                continue;
            }
            let of_file = found.writers.entry(key).or_default();
            let appends = flags & libc::O_APPEND.unsigned_abs() != 0;
            match of_file.iter_mut().find(|writer| writer.process == stat.id()) {
                // Of several descriptors the one that matters more is told.
                Some(writer) if writer.appends && !appends => {
                    writer.fd = fd;
                    writer.appends = false;
                }
                Some(_) => {}
                None => {
                    let name = HostText::new(stat.comm.as_bytes());
                    of_file.push(Writer { process: stat.id(), name, fd, appends });
                }
            }
        }
    });
    let mut refused = 0;
    for part in parts {
        refused += part.refused;
        for (key, more) in part.writers {
            writers.entry(key).or_default().extend(more);
        }
    }
    for of_file in writers.values_mut() {
        of_file.sort_by_key(|writer| (writer.appends, writer.process.pid));
        of_file.truncate(TOLD);
    }
    if !all {
        missing.push("not all processes could be asked which logs they write to in time".to_owned());
    }
    if refused > 0 {
        missing.push(format!(
            "{refused} of the processes could not be asked which logs they write to: {}",
            how_to_look()
        ));
    }
    writers
}

fn is_writing(flags: u32) -> bool {
    let mode = flags & libc::O_ACCMODE.unsigned_abs();
    mode == libc::O_WRONLY.unsigned_abs() || mode == libc::O_RDWR.unsigned_abs()
}
