//! Where the space of a file system went: every byte that `df` calls used, under a name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::identity::{DevId, MountId};
use super::size::{Bytes, Percent};
use super::snapshot::Usage;
use super::text::{HostPath, HostText};

/// Data that lies in a directory on which something is mounted: it takes space, and no path leads to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HiddenData {
    /// Where the file system that holds it is mounted.
    pub on: HostPath,
    /// The device number of that file system.
    pub dev: DevId,
    /// The mount point that covers it.
    pub mount_point: HostPath,
    /// What is mounted there: the type and the source.
    pub covered_by: HostText,
    /// Space it takes, without the covered directory itself.
    pub allocated: Bytes,
    /// Space that the covered directory or file itself takes.
    pub own: Bytes,
    /// Files and directories in it.
    pub entries: u64,
    /// Where another mount of the same file system shows it: then it is not out of sight, only not part of the scan.
    pub shown_at: Option<HostPath>,
    /// Why it is not all: then the figures are the least that there is.
    pub incomplete: Option<String>,
}

/// What a line of a ledger is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// Files and directories that the scan counted.
    Files,
    /// Files without a name that a process keeps open.
    Deleted,
    /// Data under mount points.
    Hidden,
    /// What the file system keeps for itself: metadata, and space that it holds ready for it.
    Metadata,
    /// Directories that could not be read. How much they hold is not known: it is in the residual.
    Unreadable,
}

/// A line of a ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerPart {
    /// What kind.
    pub kind: PartKind,
    /// Its name.
    pub name: String,
    /// How much; none where nobody can say, and then it is in the residual.
    pub bytes: Option<Bytes>,
    /// Where the figure was read.
    pub source: String,
}

/// What is left when everything that is known was taken off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Residual {
    /// Bytes in use that nothing explains; negative where more was counted than is in use.
    pub bytes: i64,
    /// What can be in it, each a sentence. What could not be read is always among them.
    pub explanations: Vec<String>,
}

/// A file that the kernel swaps to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SwapFile {
    /// Where it is.
    pub path: HostPath,
    /// Its size.
    pub size: Bytes,
}

/// The ledger of one file system: `used` is the sum of the parts and the residual.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ledger {
    /// Where it is mounted.
    pub mount_point: HostPath,
    /// The mount at that place.
    pub mount: MountId,
    /// What is mounted.
    pub source: HostText,
    /// The file system type.
    pub fs_type: HostText,
    /// The device number.
    pub dev: DevId,
    /// Its figures, read together with the parts.
    pub usage: Usage,
    /// What is in use, line by line.
    pub parts: Vec<LedgerPart>,
    /// What is left.
    pub residual: Residual,
    /// Data under mount points, largest first.
    pub hidden: Vec<HiddenData>,
    /// Swap files on it. They are files that the scan counted.
    pub swap_files: Vec<SwapFile>,
    /// Space of the device that `df` counts nowhere, because the file system's fixed tables and its journal are in it;
    /// none where the size of the device is not known.
    pub outside: Option<Bytes>,
}

impl Ledger {
    /// Bytes in use, as `df` says.
    pub fn used(&self) -> Bytes {
        self.usage.used()
    }

    /// The sum of the lines of one kind, as far as they are known.
    pub fn sum(&self, kind: PartKind) -> Bytes {
        self.parts.iter().filter(|part| part.kind == kind).filter_map(|part| part.bytes).sum()
    }

    /// What nothing explains, without its sign.
    pub fn unexplained(&self) -> Bytes {
        Bytes(self.residual.bytes.unsigned_abs())
    }

    /// Whether more was counted than is in use.
    pub fn overcounted(&self) -> bool {
        self.residual.bytes < 0
    }

    /// The residual's share of what is in use, without its sign.
    pub fn unexplained_share(&self) -> Percent {
        Percent::of(self.unexplained().0, self.used().0)
    }

    /// Bytes in use that are in no file a person can list: the difference between `df` and `du`, without what the
    /// file system keeps for itself.
    pub fn out_of_sight(&self) -> Bytes {
        let residual = if self.overcounted() { Bytes::ZERO } else { self.unexplained() };
        self.sum(PartKind::Deleted) + self.sum(PartKind::Hidden) + residual
    }

    /// Fills in the residual: what is in use, less all lines.
    pub fn close(&mut self) {
        let known: Bytes = self.parts.iter().filter_map(|part| part.bytes).sum();
        let wide = i128::from(self.used().0) - i128::from(known.0);
        self.residual.bytes = i64::try_from(wide).unwrap_or(if wide < 0 { i64::MIN } else { i64::MAX });
    }

    /// What free space is called that users cannot have.
    pub fn reserved_name(&self) -> &'static str {
        match self.fs_type.as_bytes() {
            b"ext2" | b"ext3" | b"ext4" => "free, kept for root",
            b"btrfs" => "free, but kept by btrfs for its trees",
            _ => "free, but not for users",
        }
    }

    /// In words: what `df` says, what `du` finds, and where the difference is.
    pub fn story(&self) -> String {
        let (used, files) = (self.used(), self.sum(PartKind::Files));
        let both = format!("df says that {used} are used, du finds {files} in files.");
        let mut where_: Vec<String> = [
            (PartKind::Deleted, "deleted files that are still open"),
            (PartKind::Hidden, "data hidden under mount points"),
            (PartKind::Metadata, "what the file system keeps for itself"),
        ]
        .into_iter()
        .map(|(kind, name)| (self.sum(kind), name))
        .filter(|(bytes, _)| worth(*bytes, used))
        .map(|(bytes, name)| format!("{bytes} {name}"))
        .collect();
        if !self.overcounted() && worth(self.unexplained(), used) {
            where_.push(format!("{} not explained", self.unexplained()));
        }
        if self.overcounted() && worth(self.unexplained(), used) {
            return format!(
                "{both} {} more were counted than are used: files share space, or changed during the scan.",
                self.unexplained()
            );
        }
        match where_.split_last() {
            None => format!("{both} They agree."),
            Some((last, [])) => format!("{both} The difference: {last}."),
            Some((last, others)) => format!("{both} The difference: {} and {last}.", others.join(", ")),
        }
    }
}

/// A piece of the stacked bar of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Lines of one kind.
    Part(PartKind),
    /// In use and not explained.
    Unexplained,
    /// Free, but kept for root.
    Reserved,
    /// Free.
    Free,
}

impl Segment {
    /// Its sign in ASCII, with that of the kinds of lines given.
    pub fn sign(self, of_part: impl Fn(PartKind) -> char) -> char {
        match self {
            Self::Part(kind) => of_part(kind),
            Self::Unexplained => '?',
            Self::Reserved => '%',
            Self::Free => '.',
        }
    }
}

impl Ledger {
    /// The bar: each piece with its number of cells, which add up to `cells`. What there is at all has a cell, and the
    /// largest pieces give way.
    pub fn segments(&self, cells: usize) -> Vec<(Segment, usize)> {
        let part = |kind| (Segment::Part(kind), self.sum(kind));
        let unexplained = if self.overcounted() { Bytes::ZERO } else { self.unexplained() };
        let all = [
            part(PartKind::Files),
            part(PartKind::Deleted),
            part(PartKind::Hidden),
            part(PartKind::Metadata),
            (Segment::Unexplained, unexplained),
            (Segment::Reserved, self.usage.reserved()),
            (Segment::Free, self.usage.available),
        ];
        let whole: u128 = all.iter().map(|(_, bytes)| u128::from(bytes.0)).sum::<u128>().max(1);
        let mut shares: Vec<(Segment, usize)> = all
            .into_iter()
            .filter(|(_, bytes)| !bytes.is_zero())
            .map(|(segment, bytes)| {
                let wide = (u128::from(bytes.0) * cells as u128 + whole / 2) / whole;
                (segment, usize::try_from(wide).unwrap_or(cells).max(1))
            })
            .collect();
        loop {
            let sum: usize = shares.iter().map(|(_, cells)| cells).sum();
            let Some((_, largest)) = shares.iter_mut().max_by_key(|(_, cells)| *cells) else { break };
            match sum.cmp(&cells) {
                std::cmp::Ordering::Greater if *largest > 0 => *largest -= 1,
                std::cmp::Ordering::Less => *largest += cells - sum,
                _ => break,
            }
        }
        shares
    }
}

/// Whether it would be noticed: a percent of what is used, or a GiB.
fn worth(bytes: Bytes, used: Bytes) -> bool {
    bytes.0 > 0 && (bytes.0 >= used.0 / 100 || bytes.0 >= 1 << 30)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A ledger of a file system with 1000 MiB in use.
    pub(crate) fn ledger(parts: &[(PartKind, u64)]) -> Ledger {
        let mut ledger = Ledger {
            mount_point: "/data".into(),
            mount: MountId::default(),
            source: "/dev/sdb1".into(),
            fs_type: "ext4".into(),
            dev: DevId::default(),
            usage: Usage {
                total: Bytes(2000 * MIB),
                free: Bytes(1000 * MIB),
                available: Bytes(900 * MIB),
                ..Usage::default()
            },
            parts: parts
                .iter()
                .map(|&(kind, mib)| LedgerPart {
                    kind,
                    name: format!("{kind:?}"),
                    bytes: Some(Bytes(mib * MIB)),
                    source: String::new(),
                })
                .collect(),
            residual: Residual::default(),
            hidden: Vec::new(),
            swap_files: Vec::new(),
            outside: None,
        };
        ledger.close();
        ledger
    }

    #[test]
    fn used_is_the_sum_of_the_parts_and_the_residual() {
        let some = ledger(&[(PartKind::Files, 600), (PartKind::Deleted, 250), (PartKind::Metadata, 50)]);
        assert_eq!(some.residual.bytes, 100 << 20);
        assert_eq!(some.unexplained_share().to_string(), "10%");
        assert_eq!(some.out_of_sight(), Bytes(350 * MIB));
        assert_eq!(
            some.story(),
            "df says that 1000.0 MiB are used, du finds 600.0 MiB in files. The difference: 250.0 MiB deleted files \
             that are still open, 50.0 MiB what the file system keeps for itself and 100.0 MiB not explained."
        );
    }

    #[test]
    fn what_was_counted_twice_is_a_residual_below_zero() {
        let shared = ledger(&[(PartKind::Files, 1200)]);
        assert_eq!(shared.residual.bytes, -(200 << 20));
        assert!(shared.overcounted() && shared.out_of_sight().is_zero());
        assert!(shared.story().contains("200.0 MiB more were counted"), "{}", shared.story());
    }

    proptest::proptest! {
        #[test]
        fn a_bar_is_as_long_as_it_should_be(
            files in 0u64..2000, deleted in 0u64..2000, hidden in 0u64..2000, cells in 8usize..100,
        ) {
            let some =
                ledger(&[(PartKind::Files, files), (PartKind::Deleted, deleted), (PartKind::Hidden, hidden)]);
            let bar = some.segments(cells);
            proptest::prop_assert_eq!(bar.iter().map(|(_, cells)| cells).sum::<usize>(), cells);
            for (kind, there) in [(PartKind::Deleted, deleted > 0), (PartKind::Hidden, hidden > 0)] {
                let drawn = bar.iter().any(|&(segment, cells)| segment == Segment::Part(kind) && cells > 0);
                proptest::prop_assert_eq!(drawn, there);
            }
        }
    }

    #[test]
    fn small_change_is_not_told() {
        assert!(ledger(&[(PartKind::Files, 999)]).story().ends_with("They agree."));
    }
}
