//! Everything the console knows. Changed only by `update`, drawn only by `view`.

use std::sync::Arc;

use jiff::Timestamp;

use crate::config::{Settings, TerminalTraits};
use crate::domain::finding::{Finding, Severity};
use crate::domain::identity::{DevIno, MountId, ProcId};
use crate::domain::reading::Gap;
use crate::domain::room;
use crate::domain::size::Bytes;
use crate::domain::snapshot::{BuildMount, BuildProcess, DeletedFile, FileSystem, Snapshot};
use crate::domain::text::{HostPath, HostText};
use crate::scan::{Listing, NodeId, Page, Progress, Reading as Method, Row, SortKey};

use super::effect::{Exit, Pick, Target};
use super::event::Ticket;
use super::keymap::Context;
use super::list_state::ListState;
use super::overlay::Overlay;
use super::theme::Look;

/// A pane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    /// The directory tree.
    Tree,
    /// The findings.
    Findings,
    /// Leaked build mounts.
    Mounts,
    /// Build processes.
    Processes,
    /// Deleted files that are still open.
    Deleted,
}

impl Pane {
    /// All panes, in the order of Tab.
    pub const ALL: [Self; 5] = [Self::Tree, Self::Findings, Self::Mounts, Self::Processes, Self::Deleted];

    /// Its keymap context.
    pub fn context(self) -> Context {
        match self {
            Self::Tree => Context::Tree,
            Self::Findings => Context::Findings,
            Self::Mounts => Context::Mounts,
            Self::Processes => Context::Processes,
            Self::Deleted => Context::Deleted,
        }
    }
}

/// What the tree is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Size, apparent or on disk as shown.
    Size,
    /// Entries.
    Entries,
    /// Age, oldest first.
    Age,
    /// Name.
    Name,
}

/// The directory tree.
#[derive(Debug)]
pub struct Tree {
    /// The scan shown.
    pub scan: Ticket,
    /// Where it started.
    pub root: HostPath,
    /// Its root entry, once it has begun.
    pub root_node: Option<NodeId>,
    /// The directory asked for.
    pub dir: Option<NodeId>,
    /// Its rows on the screen and around it, as last seen. While they are of another directory than asked for,
    /// nothing can be marked or acted on.
    pub page: Option<Arc<Page>>,
    /// Whether rows that are missing on the screen were asked for.
    pub asked: bool,
    /// How far the scan is.
    pub progress: Progress,
    /// How it reads.
    pub reading: Method,
    /// Why there is no tree.
    pub problem: Option<String>,
    /// The order.
    pub order: Order,
    /// Whether it is reversed.
    pub reverse: bool,
    /// Whether apparent sizes are shown rather than space taken.
    pub apparent: bool,
    /// Cursor and marks. Marks are kept over all directories.
    pub list: ListState<NodeId, Pick>,
    /// The entry to put the cursor on when its directory is there: the one we came from.
    pub came_from: Option<NodeId>,
    /// The name of the entry to put the cursor on when it shows up: a rescan gives all entries new nodes, one by
    /// one.
    pub seek: Option<HostText>,
    /// The directory on the screen, while it is scanned again without being asked for, and how many rescans were seen
    /// before: its old rows stay until that is done, so that no key meets a list that is half there.
    pub refreshing: Option<(NodeId, u64)>,
    /// How many rescans there were when the rows were seen.
    pub rescans: u64,
    /// The name of the directory that was to be opened meanwhile.
    pub enter: Option<HostText>,
    /// When the rows were seen, in seconds since the epoch.
    pub now: i64,
}

impl Tree {
    fn new(root: HostPath) -> Self {
        Self {
            scan: Ticket(0),
            root,
            root_node: None,
            dir: None,
            page: None,
            asked: false,
            progress: Progress::default(),
            reading: Method::default(),
            problem: None,
            order: Order::Size,
            reverse: false,
            apparent: false,
            list: ListState::default(),
            came_from: None,
            seek: None,
            refreshing: None,
            rescans: 0,
            enter: None,
            now: 0,
        }
    }

    /// The directory on the screen.
    pub fn listing(&self) -> Option<&Listing> {
        self.page.as_ref().map(|page| &page.listing)
    }

    /// How many rows it has.
    pub fn len(&self) -> usize {
        self.page.as_ref().map_or(0, |page| page.total)
    }

    /// A row by its number; none where it was not made.
    pub fn row(&self, index: usize) -> Option<&Row> {
        let page = self.page.as_ref()?;
        page.listing.rows.get(index.checked_sub(page.first)?)
    }

    /// The largest size among all rows, for the bars.
    pub fn largest(&self) -> Bytes {
        let page = self.page.as_ref();
        page.map_or(Bytes::ZERO, |page| if self.apparent { page.most_apparent } else { page.most_allocated })
    }

    /// The size of a row as shown.
    pub fn size(&self, row: &Row) -> Bytes {
        if self.apparent { row.apparent } else { row.allocated }
    }

    /// The row under the cursor.
    pub fn current(&self) -> Option<&Row> {
        self.row(self.list.index)
    }

    /// Whether the rows are those of the directory asked for.
    pub fn settled(&self) -> bool {
        self.dir.is_some() && self.listing().map(|listing| listing.dir.node) == self.dir
    }

    /// Whether the scan is under way.
    pub fn scanning(&self) -> bool {
        self.problem.is_none() && (self.root_node.is_none() || !self.progress.finished)
    }

    /// What the scanner sorts by.
    pub fn sort_key(&self) -> SortKey {
        match self.order {
            Order::Size if self.apparent => SortKey::Apparent,
            Order::Size => SortKey::Allocated,
            Order::Entries => SortKey::Entries,
            Order::Age => SortKey::Age,
            Order::Name => SortKey::Name,
        }
    }

    /// A row as a person picks it.
    pub fn pick(&self, row: &Row) -> Option<Pick> {
        Some(pick_of(row, self.listing()?.dir.node))
    }
}

/// A row of a directory as a person picks it.
pub fn pick_of(row: &Row, parent: NodeId) -> Pick {
    Pick {
        node: row.node,
        parent,
        name: row.name.clone(),
        kind: row.kind,
        apparent: row.apparent,
        allocated: row.allocated,
        entries: row.entries,
    }
}

/// A row of the tree that a run is about.
#[derive(Clone, Debug)]
pub struct RunTarget {
    /// The command of its step, as it is shown.
    pub command: String,
    /// The row.
    pub target: Target,
    /// Whether it is still there when the step is done.
    pub stays: bool,
}

/// A run under way.
#[derive(Debug)]
pub struct Run {
    /// The plan's summary.
    pub summary: String,
    /// Which rows of the tree the run is about.
    pub targets: Vec<RunTarget>,
    /// Whether it was asked to stop.
    pub cancelled: bool,
}

/// Whether a finished scan is being looked through for what the rules judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survey {
    /// No.
    Over,
    /// Yes.
    UnderWay,
}

/// How it stands with ledgers. Those that are made are in the snapshot.
#[derive(Debug, Default)]
pub struct Accounts {
    /// Whether one is being made.
    pub busy: bool,
    /// The scan, and what it had counted, when the last one was asked for.
    pub asked: Option<(Ticket, Bytes)>,
    /// The file system that has none although it was scanned, and why.
    pub failed: Option<(HostPath, String)>,
}

/// Everything the console knows.
#[derive(Debug)]
pub struct Model {
    /// Columns and rows of the terminal.
    pub size: (u16, u16),
    /// Colours and signs.
    pub look: Look,
    /// The settings, for thresholds.
    pub settings: Settings,
    /// What the probes saw.
    pub snapshot: Snapshot,
    /// Whether probes are under way.
    pub probing: bool,
    /// Whether they must run again when they are done.
    pub probe_again: bool,
    /// Whether a finished scan is being looked through.
    pub survey: Survey,
    /// How it stands with ledgers.
    pub accounts: Accounts,
    /// What the rules find in the snapshot.
    pub findings: Vec<Finding>,
    /// The pane that has the keys.
    pub focus: Pane,
    /// Whether it has the whole screen.
    pub zoomed: bool,
    /// The directory tree.
    pub tree: Tree,
    /// The list of findings, by id.
    pub finding_list: ListState<String>,
    /// The list of mounts.
    pub mount_list: ListState<MountId>,
    /// The list of processes.
    pub process_list: ListState<ProcId>,
    /// The list of deleted files.
    pub deleted_list: ListState<DevIno>,
    /// What is on top, the last one foremost.
    pub overlays: Vec<Overlay>,
    /// One line to tell, until the next key.
    pub notice: Option<String>,
    /// The run under way.
    pub run: Option<Run>,
    /// How the program will end when the run under way is over.
    pub leaving: Option<Exit>,
    last_ticket: u64,
}

/// One thing that is not known in a pane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaneGap {
    /// Which part of the machine it belongs to, if the pane shows several.
    pub of: Option<&'static str>,
    /// What is not known.
    pub gap: Gap,
}

impl std::fmt::Display for PaneGap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.of {
            Some(of) => write!(f, "{of}: {}", self.gap),
            None => self.gap.fmt(f),
        }
    }
}

impl Model {
    /// The console before anything has answered.
    pub fn new(start: HostPath, settings: Settings, terminal: TerminalTraits, now: Timestamp) -> Self {
        Self {
            size: (80, 24),
            look: Look::new(terminal),
            settings,
            snapshot: Snapshot::pending(now),
            probing: false,
            probe_again: false,
            survey: Survey::Over,
            accounts: Accounts::default(),
            findings: Vec::new(),
            focus: Pane::Tree,
            zoomed: false,
            tree: Tree::new(start),
            finding_list: ListState::default(),
            mount_list: ListState::default(),
            process_list: ListState::default(),
            deleted_list: ListState::default(),
            overlays: Vec::new(),
            notice: None,
            run: None,
            leaving: None,
            last_ticket: 0,
        }
    }

    /// A new number for something that is asked for.
    pub fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    /// Where the next key applies.
    pub fn context(&self) -> Context {
        self.overlays.last().map_or_else(|| self.focus.context(), Overlay::context)
    }

    /// The file system that the directory is on where the scan started.
    pub fn file_system_of_tree(&self) -> Option<&FileSystem> {
        let all = self.snapshot.filesystems.value().map_or(&[][..], Vec::as_slice);
        room::holds(all, &self.tree.root)
    }

    /// The leaked mounts on the screen.
    pub fn mounts(&self) -> &[BuildMount] {
        self.snapshot.mounts.value().map_or(&[], |census| &census.build_mounts)
    }

    /// The processes on the screen: left over first, the others after them, each in the order of the probe.
    pub fn processes(&self) -> Vec<&BuildProcess> {
        let mut all: Vec<&BuildProcess> = self.snapshot.processes.value().into_iter().flatten().collect();
        all.sort_by_key(|process| process.verdict);
        all
    }

    /// The deleted files on the screen, largest first.
    pub fn deleted(&self) -> Vec<&DeletedFile> {
        let mut all: Vec<&DeletedFile> = self.snapshot.deleted.value().into_iter().flatten().collect();
        all.sort_by_key(|file| std::cmp::Reverse(file.allocated));
        all
    }

    /// Rows in a pane.
    pub fn len(&self, pane: Pane) -> usize {
        match pane {
            Pane::Tree => self.tree.len(),
            Pane::Findings => self.findings.len(),
            Pane::Mounts => self.mounts().len(),
            Pane::Processes => self.snapshot.processes.value().map_or(0, Vec::len),
            Pane::Deleted => self.snapshot.deleted.value().map_or(0, Vec::len),
        }
    }

    /// What is not known in a pane. Empty if all was read: only then may a pane say that there is nothing.
    pub fn gaps(&self, pane: Pane) -> Vec<PaneGap> {
        let own = |gaps: Vec<Gap>| gaps.into_iter().map(|gap| PaneGap { of: None, gap }).collect();
        match pane {
            Pane::Tree => Vec::new(),
            Pane::Mounts => own(self.snapshot.mounts.gaps()),
            Pane::Processes => own(self.snapshot.processes.gaps()),
            Pane::Deleted => own(self.snapshot.deleted.gaps()),
            Pane::Findings => {
                let named = [
                    ("file systems", self.snapshot.filesystems.gaps()),
                    ("mounts", self.snapshot.mounts.gaps()),
                    ("processes", self.snapshot.processes.gaps()),
                    ("deleted files", self.snapshot.deleted.gaps()),
                    ("data under mount points", self.snapshot.hidden.gaps()),
                ];
                let mut gaps: Vec<PaneGap> = named
                    .into_iter()
                    .flat_map(|(name, gaps)| gaps.into_iter().map(move |gap| PaneGap { of: Some(name), gap }))
                    .collect();
                // Each gap that is a finding is in the list already.
                if self.findings.iter().any(|finding| finding.severity == Severity::Unknown) {
                    gaps.retain(|known| known.gap.is_pending());
                }
                if self.snapshot.temp_dirs.is_empty() && self.probing {
                    gaps.push(PaneGap { of: Some("directories for temporary files"), gap: Gap::Pending });
                }
                gaps
            }
        }
    }
}
