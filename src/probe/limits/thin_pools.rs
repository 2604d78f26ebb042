//! Thin pools of the device mapper: when one is full, writes to file systems with free space fail or hang.

use crate::domain::limits::{Limit, LimitKind};
use crate::domain::reading::Reading;
use crate::domain::text::HostText;
use crate::probe::Context;
use crate::sys::tool::{self, Invocation};

pub(super) fn look(context: &Context<'_>, missing: &mut Vec<String>) -> Vec<Limit> {
    // Without the device mapper's control node there are no pools, and dmsetup would only complain.
    if !context.environment.rooted("/dev/mapper/control").exists() {
        return Vec::new();
    }
    // Only pools, and without waiting for I/O to end (--noflush, dmsetup(8)).
    let question = Invocation::new("dmsetup").args(["status", "--target", "thin-pool", "--noflush"]);
    let reading = tool::ask(&question, context.deadline()).reading("dmsetup", |output| Ok(parse(output)));
    match &reading {
        // Without the tool nothing of the kind was set up here.
        Reading::Ready { .. } | Reading::NotHere { .. } => {}
        // dmsetup needs root (dmsetup(8)) and says so in many ways.
        Reading::Refused { .. } if context.environment.uid != 0 => {
            missing.push("thin pools: only root may ask dmsetup: run as root (sudo unwedge)".to_owned());
        }
        Reading::Pending
        | Reading::Partial { .. }
        | Reading::Denied { .. }
        | Reading::TimedOut { .. }
        | Reading::Refused { .. }
        | Reading::Unavailable { .. } => {
            missing.extend(reading.gaps().into_iter().map(|gap| format!("thin pools: {gap}")));
        }
    }
    reading.value().cloned().unwrap_or_default()
}

/// `NAME: START LENGTH thin-pool TRANSACTION USED/TOTAL USED/TOTAL …`, metadata first
/// (Documentation/admin-guide/device-mapper/thin-provisioning.rst).
fn parse(output: &[u8]) -> Vec<Limit> {
    output.split(|&byte| byte == b'\n').filter_map(pool).flatten().collect()
}

fn pool(line: &[u8]) -> Option<[Limit; 2]> {
    let colon = line.windows(2).position(|pair| pair == b": ")?;
    let (name, rest) = (line.get(..colon)?, line.get(colon + 2..)?);
    let fields: Vec<&str> = std::str::from_utf8(rest).ok()?.split_ascii_whitespace().collect();
    let [_, _, "thin-pool", _, metadata, data, ..] = fields[..] else { return None };
    let limit = |kind, field: &str| {
        let (used, total) = field.split_once('/')?;
        Some(Limit {
            kind,
            of: HostText::new(name),
            used: used.parse().ok()?,
            limit: total.parse().ok()?,
            source: "dmsetup status --target thin-pool".to_owned(),
        })
    };
    Some([limit(LimitKind::ThinPoolMetadata, metadata)?, limit(LimitKind::ThinPoolData, data)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_has_data_and_metadata() {
        // As lvm2 2.03 prints it; the second pool is out of data space.
        let output = b"vg-pool-tpool: 0 8388608 thin-pool 1 13/2048 4096/65536 - rw discard_passdown queue_if_no_space - 1024 \n\
                       vg-full: 0 2097152 thin-pool 5 200/1024 16384/16384 - out_of_data_space discard_passdown error_if_no_space - 256 \n\
                       broken: 0 8 thin-pool Fail\nno colon\n";
        let found: Vec<(String, LimitKind, u64, u64)> = parse(output)
            .into_iter()
            .map(|limit| (limit.of.to_string(), limit.kind, limit.used, limit.limit))
            .collect();
        assert_eq!(
            found,
            [
                ("vg-pool-tpool".to_owned(), LimitKind::ThinPoolMetadata, 13, 2048),
                ("vg-pool-tpool".to_owned(), LimitKind::ThinPoolData, 4096, 65536),
                ("vg-full".to_owned(), LimitKind::ThinPoolMetadata, 200, 1024),
                ("vg-full".to_owned(), LimitKind::ThinPoolData, 16384, 16384),
            ]
        );
        assert_eq!(parse(b"\xff: 0 1 thin-pool 1 1/2 1/2"), parse(b"\xff: 0 1 thin-pool 1 1/2 1/2"));
        assert!(parse(b": ").is_empty());
    }
}
