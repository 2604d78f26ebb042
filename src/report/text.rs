//! The audit for people and tickets: plain text, no colour, no terminal needed.

use std::io::{self, Write};

use jiff::Timestamp;

use super::ledger;
use super::table::{Align, Table};
use crate::domain::finding::Severity;
use crate::domain::reading::Reading;
use crate::domain::size::{Bytes, Percent};
use crate::domain::snapshot::{FileSystem, Snapshot};
use crate::engine::audit::{Audit, AuditFinding, Conclusion, Remedy, Sized};

/// More commands of one remedy than this are counted, not listed; the JSON has all.
const COMMANDS: usize = 24;

/// Writes the whole report.
///
/// # Errors
/// What writing says.
pub fn write(out: &mut dyn Write, audit: &Audit) -> io::Result<()> {
    let host = &audit.snapshot.host;
    writeln!(
        out,
        "unwedge {} on {} as {}, Linux {}, {}",
        audit.program_version,
        host.name,
        host.user,
        host.kernel,
        whole_seconds(audit.snapshot.taken_at)
    )?;
    writeln!(out, "{}", conclusion(audit))?;
    section(out, "Findings")?;
    if audit.findings.is_empty() {
        writeln!(out, "  none")?;
    }
    for found in &audit.findings {
        finding(out, found)?;
    }
    section(out, "File systems")?;
    file_systems(out, &audit.snapshot)?;
    for ledger in &audit.snapshot.ledgers {
        ledger::write(out, ledger)?;
    }
    for why in &audit.unaccounted {
        writeln!(out, "\nNo ledger: {why}")?;
    }
    super::growth::write(out, &audit.snapshot)?;
    section(out, "Scanned")?;
    scans(out, audit)?;
    sized(out, "Largest files", &audit.largest_files)?;
    sized(out, "Largest directories (with all below them)", &audit.largest_directories)?;
    super::caches::write(out, &audit.snapshot)?;
    super::engines::write(out, &audit.snapshot)?;
    super::builds::write(out, &audit.snapshot)?;
    section(out, "Also looked at")?;
    others(out, &audit.snapshot)?;
    writeln!(out, "\nDone in {}.", audit.took)
}

fn whole_seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn section(out: &mut dyn Write, title: &str) -> io::Result<()> {
    writeln!(out, "\n{title}")
}

fn conclusion(audit: &Audit) -> String {
    let worst = audit.findings.first().filter(|found| found.finding.severity > Severity::Info);
    let worst = worst.map(|found| found.finding.title.as_str()).unwrap_or_default();
    match audit.conclusion {
        Conclusion::Ok if audit.findings.is_empty() => "OK: nothing found.".to_owned(),
        Conclusion::Ok => "OK: nothing that must be done.".to_owned(),
        Conclusion::Warning => format!("WARNING: {worst}"),
        Conclusion::Critical => format!("CRITICAL: {worst}"),
        Conclusion::CouldNotTell if worst.is_empty() => {
            "COULD NOT TELL: not all directories could be read.".to_owned()
        }
        Conclusion::CouldNotTell => format!("COULD NOT TELL: {worst}"),
    }
}

/// Writes one finding with its remedies.
///
/// # Errors
/// What writing says.
pub fn finding(out: &mut dyn Write, found: &AuditFinding) -> io::Result<()> {
    let finding = &found.finding;
    writeln!(out, "  [{}] {}", finding.severity, finding.title)?;
    writeln!(out, "      id: {}   gives back: {}", finding.id, finding.reclaim)?;
    for evidence in &finding.evidence {
        writeln!(out, "      - {} ({})", evidence.fact, evidence.source)?;
    }
    writeln!(out, "      what to do: {}", finding.advice)?;
    for remedy in &found.remedies {
        self::remedy(out, remedy)?;
    }
    Ok(())
}

fn remedy(out: &mut dyn Write, remedy: &Remedy) -> io::Result<()> {
    if !remedy.commands.is_empty() {
        writeln!(out, "      remedy ({}, {}): {}", remedy.risk, remedy.undo, remedy.summary)?;
    }
    for command in remedy.commands.iter().take(COMMANDS) {
        writeln!(out, "        {command}")?;
    }
    let more = remedy.commands.len().saturating_sub(COMMANDS);
    if more > 0 {
        writeln!(out, "        … and {more} more (all are in --format json)")?;
    }
    if let Some(run) = &remedy.run {
        writeln!(out, "        from a shell: {run}")?;
    }
    for refusal in &remedy.refused {
        writeln!(out, "      not touched: {}: {}", refusal.what, refusal.why)?;
    }
    Ok(())
}

fn file_systems(out: &mut dyn Write, snapshot: &Snapshot) -> io::Result<()> {
    let mut table = Table::new([
        ("size", Align::Right),
        ("used", Align::Right),
        ("avail", Align::Right),
        ("reserved", Align::Right),
        ("use%", Align::Right),
        ("inode%", Align::Right),
        ("type", Align::Left),
        ("mounted on", Align::Left),
    ]);
    for fs in snapshot.filesystems.value().into_iter().flatten() {
        table.row(file_system(fs));
    }
    table.write(out)?;
    gaps(out, &snapshot.filesystems)
}

fn file_system(fs: &FileSystem) -> Vec<String> {
    let read_only = if fs.read_only { " (read-only)" } else { "" };
    let dash = || "-".to_owned();
    let Some(usage) = fs.usage.value() else {
        let why = fs.usage.unknown();
        let cells = [dash(), dash(), dash(), dash(), dash(), dash(), fs.fs_type.to_string()];
        return cells.into_iter().chain([format!("{}{read_only}: {why}", fs.mount_point)]).collect();
    };
    vec![
        usage.total.to_string(),
        usage.used().to_string(),
        usage.available.to_string(),
        usage.reserved().to_string(),
        usage.used_share().to_string(),
        if usage.inodes == 0 { dash() } else { usage.inodes_share().to_string() },
        fs.fs_type.to_string(),
        format!("{}{read_only}", fs.mount_point),
    ]
}

fn scans(out: &mut dyn Write, audit: &Audit) -> io::Result<()> {
    let mut table = Table::new([
        ("allocated", Align::Right),
        ("bytes", Align::Right),
        ("apparent", Align::Right),
        ("entries", Align::Right),
        ("directories", Align::Right),
        ("took", Align::Right),
        ("path", Align::Left),
    ]);
    for scan in audit.scanned() {
        table.row([
            scan.allocated.to_string(),
            scan.allocated.0.to_string(),
            scan.apparent.to_string(),
            scan.entries.to_string(),
            scan.directories.to_string(),
            scan.took.to_string(),
            scan.path.to_string(),
        ]);
    }
    table.write(out)?;
    for scan in audit.scanned() {
        writeln!(out, "  {}: {}", scan.path, scan.method_why)?;
        if scan.not_listed > 0 {
            writeln!(out, "  {}: {}", scan.path, not_listed(scan.not_listed))?;
        }
    }
    audit.scans.iter().try_for_each(|scan| gaps(out, scan))
}

pub(super) fn sized(out: &mut dyn Write, title: &str, all: &[Sized]) -> io::Result<()> {
    section(out, title)?;
    let mut table = Table::new([
        ("allocated", Align::Right),
        ("apparent", Align::Right),
        ("entries", Align::Right),
        ("path", Align::Left),
    ]);
    for one in all {
        table.row([
            one.allocated.to_string(),
            one.apparent.to_string(),
            one.entries.to_string(),
            one.path.to_string(),
        ]);
    }
    table.write(out)
}

fn others(out: &mut dyn Write, snapshot: &Snapshot) -> io::Result<()> {
    if let Some(census) = snapshot.mounts.value() {
        writeln!(
            out,
            "  mounts: {} in {} mount namespaces, {} of them made by BuildKit",
            census.total,
            census.namespaces,
            census.build_mounts.len()
        )?;
    }
    gaps(out, &snapshot.mounts)?;
    if let Some(processes) = snapshot.processes.value() {
        writeln!(out, "  build and package processes: {}", processes.len())?;
    }
    gaps(out, &snapshot.processes)?;
    if let Some(files) = snapshot.deleted.value() {
        let total: Bytes = files.iter().map(|file| file.allocated).sum();
        writeln!(out, "  deleted files still open: {} ({total})", files.len())?;
    }
    gaps(out, &snapshot.deleted)?;
    if let Some(hidden) = snapshot.hidden.value() {
        let total: Bytes = hidden.iter().map(|one| one.allocated).sum();
        writeln!(out, "  data under mount points: {} ({total})", hidden.len())?;
    }
    gaps(out, &snapshot.hidden)?;
    for dir in &snapshot.temp_dirs {
        if let Some(census) = dir.census.value() {
            writeln!(
                out,
                "  {}: {} entries, {} older than a day, the directory itself {}, inodes of its file system {} used",
                dir.path,
                census.entries,
                census.older_than_day,
                census.directory_size,
                Percent::of(census.inodes_used, census.inodes)
            )?;
        }
        gaps(out, &dir.census)?;
        gaps(out, &dir.create_test)?;
    }
    Ok(())
}

/// Says that files are counted, but not listed.
pub(super) fn not_listed(files: u64) -> String {
    format!("{files} files are counted, but not listed: the scan may not take more memory (scan.max_memory)")
}

pub(super) fn gaps<T>(out: &mut dyn Write, reading: &Reading<T>) -> io::Result<()> {
    reading.gaps().iter().try_for_each(|gap| writeln!(out, "  not seen: {gap}"))
}
