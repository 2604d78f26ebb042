//! What changed between two baselines, each byte told at one place: at the deepest directory, or the file, that explains
//! it. A directory is told with what is left of its change when all that is told below it is taken away.

use std::cmp::Ordering;
use std::path::Path;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::Baseline;
use crate::domain::size::Bytes;
use crate::domain::text::HostPath;

/// Changes smaller than this part of all changes are told with their directory.
const PART: u64 = 200;

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Diff {
    /// The directory.
    pub root: HostPath,
    /// When the first was taken.
    #[schemars(with = "String")]
    pub from: Timestamp,
    /// When the second was.
    #[schemars(with = "String")]
    pub to: Timestamp,
    /// Bytes on disk of all of it then.
    pub before: Bytes,
    /// Bytes on disk of all of it later.
    pub now: Bytes,
    /// Entries in it then.
    pub entries_before: u64,
    /// Entries in it later.
    pub entries_now: u64,
    /// What takes less than this is not named in one of the two: it may have been there without a name.
    pub floor: Bytes,
    /// Smaller changes are told with their directory.
    pub least: Bytes,
    /// The changes, what grew most first.
    pub changes: Vec<Change>,
    /// What is left of the change of all when those are taken away, in bytes.
    pub other: i64,
}

/// How something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It was not there, or smaller than the floor.
    Appeared,
    /// It takes more.
    Grown,
    /// It takes less.
    Shrunk,
    /// It is not there any more, or smaller than the floor.
    Vanished,
}

/// A file or directory that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Change {
    /// Where it is.
    pub path: HostPath,
    /// Whether it is a directory.
    pub directory: bool,
    /// How it changed.
    pub how: How,
    /// Bytes on disk then, with all below it.
    pub before: Bytes,
    /// Bytes on disk later, with all below it.
    pub now: Bytes,
    /// The change in bytes, without what is told of things below it.
    pub delta: i64,
    /// Change of the number of entries in it and below, itself included.
    pub entries: i64,
}

/// The two sides of one path. A side is the number of a node.
#[derive(Clone, Copy)]
struct Pair {
    old: Option<usize>,
    new: Option<usize>,
    parent: usize,
    delta: i64,
}

/// Compares the part of `old` that `new` is of with it.
///
/// # Errors
/// A sentence where the one is not of the other.
pub fn diff(old: &Baseline, new: &Baseline) -> Result<Diff, String> {
    let Some(start) = old.at(new.root.as_path()) else {
        return Err(if new.root.as_path().starts_with(&old.root) {
            format!(
                "{} is not named in the snapshot of {}: it was not there or took less than {}",
                new.root, old.root, old.floor
            )
        } else {
            format!("the snapshot is of {}, which does not hold {}", old.root, new.root)
        });
    };
    let both = Both { old, new, floor: old.floor.max(new.floor) };
    let pairs = both.pair_up(start);
    // First everything, to see how much there is in all.
    let fine = both.explain(&pairs, both.floor.0);
    let all = fine.iter().map(|(_, delta)| delta.unsigned_abs()).fold(0, u64::saturating_add);
    let least = Bytes(both.floor.0.max(all / PART).max(1));
    let told = both.explain(&pairs, least.0);
    let mut changes: Vec<Change> =
        told.into_iter().filter_map(|(at, delta)| both.change(&pairs, at, delta)).collect();
    changes.sort_by(|a, b| b.delta.cmp(&a.delta).then_with(|| a.path.cmp(&b.path)));
    let whole = pairs.first().map_or(0, |root| root.delta);
    Ok(Diff {
        root: new.root.clone(),
        from: old.taken_at,
        to: new.taken_at,
        before: Bytes(old.size(Some(start)).0),
        now: new.allocated(),
        entries_before: old.size(Some(start)).1,
        entries_now: new.entries(),
        floor: both.floor,
        least,
        other: changes.iter().fold(whole, |left, change| left.saturating_sub(change.delta)),
        changes,
    })
}

impl Baseline {
    /// Bytes and entries of a node.
    fn size(&self, at: Option<usize>) -> (u64, u64) {
        at.and_then(|at| self.nodes.get(at)).map_or((0, 0), |node| (node.allocated, node.entries))
    }

    fn is_directory(&self, at: usize) -> bool {
        self.nodes.get(at).is_some_and(|node| node.directory)
    }

    fn end(&self, at: usize) -> usize {
        self.nodes.get(at).map_or(0, |node| node.end as usize)
    }
}

/// Walks the children of a node.
#[derive(Clone, Copy)]
struct Siblings {
    at: usize,
    end: usize,
}

impl Siblings {
    fn of(baseline: &Baseline, at: Option<usize>) -> Self {
        at.map_or(Self { at: 0, end: 0 }, |at| Self { at: at + 1, end: baseline.end(at) })
    }

    fn peek(self) -> Option<usize> {
        Some(self.at).filter(|&at| at < self.end)
    }
}

struct Both<'a> {
    old: &'a Baseline,
    new: &'a Baseline,
    floor: Bytes,
}

impl Both<'_> {
    /// All paths that either names, a directory before what is in it.
    fn pair_up(&self, start: usize) -> Vec<Pair> {
        let mut pairs = Vec::new();
        let mut open = Vec::new();
        self.add(&mut pairs, &mut open, Some(start), Some(0), 0);
        while let Some((parent, old, new)) = open.last_mut() {
            let order = match (old.peek(), new.peek()) {
                (None, None) => {
                    open.pop();
                    continue;
                }
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => (self.old.name(a), self.old.is_directory(a))
                    .cmp(&(self.new.name(b), self.new.is_directory(b))),
            };
            let left = old.peek().filter(|_| order.is_le());
            let right = new.peek().filter(|_| order.is_ge());
            if let Some(at) = left {
                old.at = self.old.end(at);
            }
            if let Some(at) = right {
                new.at = self.new.end(at);
            }
            let parent = *parent;
            self.add(&mut pairs, &mut open, left, right, parent);
        }
        pairs
    }

    fn add(
        &self,
        pairs: &mut Vec<Pair>,
        open: &mut Vec<(usize, Siblings, Siblings)>,
        old: Option<usize>,
        new: Option<usize>,
        parent: usize,
    ) {
        let delta = difference(self.old.size(old).0, self.new.size(new).0);
        open.push((pairs.len(), Siblings::of(self.old, old), Siblings::of(self.new, new)));
        pairs.push(Pair { old, new, parent, delta });
    }

    /// Which pairs tell at least `least`, each with what it tells.
    fn explain(&self, pairs: &[Pair], least: u64) -> Vec<(usize, i64)> {
        // What came or went as a whole is one thing, unless nearly all of it is one thing in it.
        let mut whole = vec![true; pairs.len()];
        for (at, pair) in pairs.iter().enumerate().skip(1) {
            let (above, may) = (pairs.get(pair.parent), whole.get(pair.parent).copied().unwrap_or(true));
            let told_apart = above.is_none_or(|above| {
                above.old.is_some() && above.new.is_some()
                    || i128::from(pair.delta).abs() * 10 >= i128::from(above.delta).abs() * 9
            });
            if let Some(slot) = whole.get_mut(at) {
                *slot = may && told_apart;
            }
        }
        // What is told below each. Children come after their parents, so backwards they come before them.
        let mut below = vec![0i64; pairs.len()];
        let mut told = Vec::new();
        for (at, pair) in pairs.iter().enumerate().rev() {
            let told_below = below.get(at).copied().unwrap_or(0);
            let rest = pair.delta.saturating_sub(told_below);
            let tells =
                whole.get(at) == Some(&true) && rest.unsigned_abs() >= least.max(1) && self.is_named(pair);
            if tells {
                told.push((at, rest));
            }
            if at > 0
                && let Some(slot) = below.get_mut(pair.parent)
            {
                *slot = slot.saturating_add(if tells { pair.delta } else { told_below });
            }
        }
        told
    }

    /// Whether both sides would name it: what one of them left out because it is small did not change by all its size.
    fn is_named(&self, pair: &Pair) -> bool {
        self.old.size(pair.old).0.max(self.new.size(pair.new).0) >= self.floor.0
    }

    fn change(&self, pairs: &[Pair], at: usize, delta: i64) -> Option<Change> {
        let pair = pairs.get(at)?;
        let (before, now) = (self.old.size(pair.old), self.new.size(pair.new));
        let how = match (pair.old, pair.new) {
            (None, _) => How::Appeared,
            (_, None) => How::Vanished,
            _ if delta < 0 => How::Shrunk,
            _ => How::Grown,
        };
        let mut names = Vec::new();
        let mut up = at;
        while up > 0 {
            let pair = pairs.get(up)?;
            names.push(match (pair.new, pair.old) {
                (Some(new), _) => self.new.name(new),
                (None, Some(old)) => self.old.name(old),
                (None, None) => return None,
            });
            up = pair.parent;
        }
        let directory = match (pair.new, pair.old) {
            (Some(new), _) => self.new.is_directory(new),
            (None, old) => old.is_some_and(|old| self.old.is_directory(old)),
        };
        Some(Change {
            path: path_of(self.new.root.as_path(), &names),
            directory,
            how,
            before: Bytes(before.0),
            now: Bytes(now.0),
            delta,
            entries: difference(before.1, now.1),
        })
    }
}

/// The path of names, the last first.
fn path_of(root: &Path, names: &[&[u8]]) -> HostPath {
    let mut bytes = HostPath::from(root).as_bytes().to_vec();
    for name in names.iter().rev() {
        if bytes.last() != Some(&b'/') {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
    }
    HostPath::from_bytes(bytes)
}

fn difference(before: u64, now: u64) -> i64 {
    let clamped = (i128::from(now) - i128::from(before)).clamp(i128::from(i64::MIN), i128::from(i64::MAX));
    i64::try_from(clamped).unwrap_or(0)
}
