//! A scan for people: plain text.

use std::io::{self, Write};

use super::text::{gaps, not_listed, sized};
use crate::engine::scan_once::ScanReport;

/// Writes the report.
///
/// # Errors
/// What writing says.
pub fn write(out: &mut dyn Write, report: &ScanReport) -> io::Result<()> {
    if let Some(scan) = report.scan.value() {
        writeln!(out, "{}", scan.path)?;
        writeln!(out, "  allocated    {} ({} bytes)", scan.allocated, scan.allocated.0)?;
        writeln!(out, "  apparent     {} ({} bytes)", scan.apparent, scan.apparent.0)?;
        writeln!(out, "  entries      {}", scan.entries)?;
        writeln!(out, "  directories  {}", scan.directories)?;
        if scan.not_listed > 0 {
            writeln!(out, "  not listed   {}", not_listed(scan.not_listed))?;
        }
        if let Some(first) = scan.snapshot_examples.first() {
            let many = if scan.snapshots == 1 {
                "btrfs snapshot (a subvolume that shares"
            } else {
                "btrfs snapshots (subvolumes that share"
            };
            writeln!(
                out,
                "  not counted  {} {many} space with what it was made of), first {first}",
                scan.snapshots
            )?;
        }
        writeln!(out, "  took         {}", scan.took)?;
        writeln!(out, "  method       {}", scan.method_why)?;
    }
    gaps(out, &report.scan)?;
    for (title, largest) in [
        ("Largest files", &report.largest_files),
        ("Largest directories (with all below them)", &report.largest_directories),
    ] {
        // An empty directory has none, and with --top 0 nobody wants any.
        if !largest.is_empty() {
            sized(out, title, largest)?;
        }
    }
    Ok(())
}
