//! The command table: id, keys, where they apply, and what they do. It feeds the keymap, the footer and
//! the help, so that none of them can say something else than what a key does.

use super::key::Key;

/// What a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Command {
    /// One row up.
    Up,
    /// One row down.
    Down,
    /// One page up.
    PageUp,
    /// One page down.
    PageDown,
    /// To the first row.
    First,
    /// To the last row.
    Last,
    /// Open the directory.
    Open,
    /// Show the row in full.
    Explain,
    /// To the parent directory.
    Parent,
    /// Scan the parent of the directory the scan started at.
    ScanParent,
    /// Mark or unmark the row.
    Mark,
    /// Unmark all rows of the pane.
    UnmarkAll,
    /// Delete what is marked, or the row.
    Delete,
    /// Unmount what is marked, or the row.
    Unmount,
    /// Repair builds, whether or not something is known to be wrong.
    RepairBuilds,
    /// End the marked processes, or the row's.
    EndProcess,
    /// Free the marked deleted files, or the row's.
    FreeDeleted,
    /// Start the action of the finding.
    Act,
    /// What can be done with the marked rows of the tree, or the row.
    ActOnRows,
    /// All that is marked anywhere, as one plan.
    Basket,
    /// So much space by the safest steps.
    Reclaim,
    /// Sort by size.
    SortSize,
    /// Sort by name.
    SortName,
    /// Sort by number of entries.
    SortEntries,
    /// Sort by age.
    SortAge,
    /// Between apparent size and space taken.
    ToggleApparent,
    /// Everything known about the row.
    Info,
    /// Where the space of the file system went.
    Ledger,
    /// The ledger of the next file system.
    NextLedger,
    /// The ledger of the file system before.
    PreviousLedger,
    /// Scan the file system whose ledger is shown.
    ScanLedger,
    /// Look again.
    Rescan,
    /// The next pane.
    NextPane,
    /// The pane before.
    PreviousPane,
    /// Straight to the tree.
    PaneTree,
    /// Straight to the findings.
    PaneFindings,
    /// Straight to the mounts.
    PaneMounts,
    /// Straight to the processes.
    PaneProcesses,
    /// Straight to the deleted files.
    PaneDeleted,
    /// One pane on the whole screen, and back.
    Zoom,
    /// All keys.
    Help,
    /// Close what is on top.
    Close,
    /// Agree to the plan by a key.
    Agree,
    /// Agree to the plan with what was typed.
    Submit,
    /// Take back the last character typed.
    Erase,
    /// Every name of the sweep.
    SweepList,
    /// Switch the row of the list.
    SweepSwitch,
    /// Switch all old files.
    SweepFiles,
    /// Switch all empty directories.
    SweepEmpty,
    /// Switch all old directories.
    SweepDirs,
    /// Switch the directories of root.
    SweepRoot,
    /// Keep the name of the row for good.
    SweepKeep,
    /// Back to the plan, made anew.
    SweepDone,
    /// Ask whether to cancel the run.
    AskCancel,
    /// Say that the run goes on.
    GoOn,
    /// Cancel the run under way.
    CancelRun,
    /// Leave the step under way as it is.
    SkipStep,
    /// Leave.
    Quit,
    /// Leave at once; a run under way is cancelled first.
    QuitNow,
    /// Stop the program and give the shell back.
    Suspend,
    /// Draw everything again.
    Redraw,
}

/// Where a key applies. The panes come first; an overlay on top takes the key before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Context {
    /// The directory tree.
    Tree,
    /// The findings.
    Findings,
    /// The leaked mounts.
    Mounts,
    /// The build processes.
    Processes,
    /// The deleted files that are still open.
    Deleted,
    /// An overlay to read: help, info, receipt, an error.
    Text,
    /// The full text of a row that something can be done about.
    Finding,
    /// What can be done about a finding, to choose from.
    Menu,
    /// Where the space of a file system went.
    Ledger,
    /// A plan that asks for a key.
    ConfirmKey,
    /// A plan that asks for a word; characters go into the answer.
    ConfirmTyped,
    /// A sweep that asks for a word, with its list at hand.
    ConfirmSweep,
    /// A sweep of which nothing goes as it is, with its list at hand.
    NoSweep,
    /// Every name of a sweep.
    SweepList,
    /// A question that comes before a plan; characters go into the answer.
    Goal,
    /// A plan is being made.
    Planning,
    /// A run is under way.
    Running,
    /// The question whether to cancel the run under way.
    CancelQuestion,
    /// The question whether to leave while a run is under way.
    QuitQuestion,
}

impl Context {
    /// All contexts.
    pub const ALL: [Self; 19] = [
        Self::Tree,
        Self::Findings,
        Self::Mounts,
        Self::Processes,
        Self::Deleted,
        Self::Text,
        Self::Finding,
        Self::Menu,
        Self::Ledger,
        Self::ConfirmKey,
        Self::ConfirmTyped,
        Self::ConfirmSweep,
        Self::NoSweep,
        Self::SweepList,
        Self::Goal,
        Self::Planning,
        Self::Running,
        Self::CancelQuestion,
        Self::QuitQuestion,
    ];

    /// Its heading in the help.
    pub fn title(self) -> &'static str {
        match self {
            Self::Tree => "In the tree",
            Self::Findings => "In the findings",
            Self::Mounts => "In the mounts",
            Self::Processes => "In the processes",
            Self::Deleted => "In the deleted files",
            Self::Text | Self::Finding => "In a text",
            Self::Menu => "In a menu",
            Self::Ledger => "Where the space went",
            Self::ConfirmKey | Self::ConfirmTyped | Self::ConfirmSweep | Self::NoSweep => "In a plan",
            Self::SweepList => "In the list of a sweep",
            Self::Planning | Self::Running => "While something runs",
            Self::Goal | Self::CancelQuestion | Self::QuitQuestion => "In a question",
        }
    }
}

/// One row of the command table.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// What it means.
    pub command: Command,
    /// Stable name, for documentation and settings.
    pub id: &'static str,
    /// The keys; the first is the one shown in the footer.
    pub keys: &'static [Key],
    /// Where.
    pub contexts: &'static [Context],
    /// The word in the footer, where it is shown there.
    pub hint: Option<&'static str>,
    /// What it does, as a sentence without a full stop.
    pub doc: &'static str,
}

use Context as At;
use Key::Char;

const PANES: &[At] = &[At::Tree, At::Findings, At::Mounts, At::Processes, At::Deleted];
const LISTS: &[At] = &[At::Findings, At::Mounts, At::Processes, At::Deleted];
const TREE: &[At] = &[At::Tree];
const TEXT: &[At] = &[At::Text, At::Finding, At::Menu, At::Ledger, At::NoSweep, At::Planning];
const TYPED: &[At] = &[At::ConfirmTyped, At::ConfirmSweep, At::Goal];
const SCROLL_LETTERS: &[At] = &[
    At::Tree,
    At::Findings,
    At::Mounts,
    At::Processes,
    At::Deleted,
    At::Text,
    At::Finding,
    At::Menu,
    At::Ledger,
    At::ConfirmKey,
    At::NoSweep,
    At::SweepList,
    At::Running,
];
const SCROLL: &[At] = &[
    At::Tree,
    At::Findings,
    At::Mounts,
    At::Processes,
    At::Deleted,
    At::Text,
    At::Finding,
    At::Menu,
    At::Ledger,
    At::ConfirmKey,
    At::ConfirmTyped,
    At::ConfirmSweep,
    At::NoSweep,
    At::SweepList,
    At::Running,
];
const EVERYWHERE: &[At] = &Context::ALL;

const fn row(
    command: Command,
    id: &'static str,
    keys: &'static [Key],
    contexts: &'static [At],
    hint: Option<&'static str>,
    doc: &'static str,
) -> Binding {
    Binding { command, id, keys, contexts, hint, doc }
}

/// Every command, in the order in which footer and help show them.
pub const COMMANDS: &[Binding] = &[
    row(
        Command::Open,
        "open",
        &[Key::Enter, Char('l'), Key::Right],
        TREE,
        Some("open"),
        "Open the directory",
    ),
    row(
        Command::Explain,
        "explain",
        &[Key::Enter, Char('l'), Key::Right],
        LISTS,
        Some("explain"),
        "Show everything about the row: what, why, evidence, what to do",
    ),
    row(Command::Mark, "mark", &[Char(' ')], PANES, Some("mark"), "Mark or unmark the row and step down"),
    row(
        Command::Delete,
        "delete",
        &[Char('d'), Key::Delete],
        TREE,
        Some("delete"),
        "Plan to delete what is marked, else the row; nothing happens before you agree",
    ),
    row(
        Command::ActOnRows,
        "act-on-rows",
        &[Char('x')],
        TREE,
        Some("act"),
        "Ask what to do with what is marked, else with the row: delete it, move it, sweep it, cut it to its last lines",
    ),
    row(
        Command::Unmount,
        "unmount",
        &[Char('x'), Char('d')],
        &[At::Mounts],
        Some("unmount"),
        "Plan to unmount what is marked, else the row",
    ),
    row(
        Command::RepairBuilds,
        "repair-builds",
        &[Char('B')],
        &[At::Findings, At::Mounts, At::Processes],
        None,
        "Plan the repair of builds: what is left over goes and the builders are made anew, also where nothing is found",
    ),
    row(
        Command::EndProcess,
        "end-process",
        &[Char('x'), Char('d')],
        &[At::Processes],
        Some("end"),
        "Plan to end the marked processes, else the row's",
    ),
    row(
        Command::FreeDeleted,
        "free-deleted",
        &[Char('x'), Char('d')],
        &[At::Deleted],
        Some("free"),
        "Plan to free the space of the marked files, else the row's",
    ),
    row(
        Command::Act,
        "act",
        &[Char('x'), Char('d')],
        &[At::Findings],
        Some("act"),
        "Start what can be done about the finding; a menu where that is several things",
    ),
    row(
        Command::Act,
        "act-on-text",
        &[Char('x'), Key::Enter],
        &[At::Finding],
        Some("act"),
        "Start what can be done about it",
    ),
    row(
        Command::Act,
        "act-on-choice",
        &[Key::Enter, Char('x'), Char('l'), Key::Right],
        &[At::Menu],
        Some("plan it"),
        "Plan what is under the cursor; nothing happens before you agree",
    ),
    row(
        Command::Basket,
        "basket",
        &[Char('b')],
        PANES,
        Some("basket"),
        "Plan all that is marked in any pane as one; nothing happens before you agree",
    ),
    row(
        Command::Reclaim,
        "reclaim",
        &[Char('R')],
        PANES,
        Some("reclaim"),
        "Ask for so much space: plans the safest steps that free it",
    ),
    row(
        Command::Parent,
        "parent",
        &[Key::Left, Char('h'), Key::Backspace],
        TREE,
        Some("up"),
        "Go to the parent directory",
    ),
    row(Command::Agree, "agree", &[Char('y')], &[At::ConfirmKey], Some("run it"), "Agree: run the plan"),
    row(
        Command::Submit,
        "submit",
        &[Key::Enter],
        &[At::ConfirmTyped, At::ConfirmSweep],
        Some("run it"),
        "Agree with what you typed: run the plan",
    ),
    row(
        Command::Submit,
        "submit-goal",
        &[Key::Enter],
        &[At::Goal],
        Some("plan it"),
        "Plan what you typed: so much space, what is so old, so many lines",
    ),
    row(Command::Erase, "erase", &[Key::Backspace], TYPED, None, "Take back a character"),
    row(
        Command::SweepList,
        "list-sweep",
        &[Key::Tab],
        &[At::ConfirmSweep, At::NoSweep],
        Some("list"),
        "Every name that goes or is left out, to switch each on and off",
    ),
    row(
        Command::SweepSwitch,
        "switch",
        &[Char(' ')],
        &[At::SweepList],
        Some("on/off"),
        "Switch the row: it goes, or it is left out",
    ),
    row(Command::SweepFiles, "switch-files", &[Char('1')], &[At::SweepList], None, "Switch all old files"),
    row(
        Command::SweepEmpty,
        "switch-empty",
        &[Char('2')],
        &[At::SweepList],
        None,
        "Switch all empty directories",
    ),
    row(
        Command::SweepDirs,
        "switch-dirs",
        &[Char('3')],
        &[At::SweepList],
        None,
        "Switch all old directories",
    ),
    row(
        Command::SweepRoot,
        "switch-root",
        &[Char('0'), Char('r')],
        &[At::SweepList],
        None,
        "Switch the directories of root, all together",
    ),
    row(
        Command::SweepKeep,
        "keep-name",
        &[Char('K')],
        &[At::SweepList],
        Some("keep for good"),
        "Plan to keep the name out of every sweep, by the configuration; nothing happens before you agree",
    ),
    row(
        Command::SweepDone,
        "leave-list",
        &[Key::Enter, Key::Esc, Key::Tab, Char('q')],
        &[At::SweepList],
        Some("back to the plan"),
        "Back to the plan, made anew from what is on",
    ),
    row(
        Command::SkipStep,
        "skip-step",
        &[Char('s')],
        &[At::Running],
        Some("skip"),
        "Leave the step under way as it is and go on with the next",
    ),
    row(
        Command::AskCancel,
        "ask-cancel",
        &[Char('c')],
        &[At::Running],
        Some("cancel"),
        "Stop after the change under way; asks first",
    ),
    row(Command::GoOn, "go-on", &[Key::Esc], &[At::Running], None, "Nothing: a run is not cancelled by Esc"),
    row(
        Command::CancelRun,
        "cancel-run",
        &[Char('y')],
        &[At::CancelQuestion],
        Some("cancel it"),
        "Cancel the run",
    ),
    row(
        Command::Close,
        "go-on-with-run",
        &[Key::Esc, Char('n')],
        &[At::CancelQuestion],
        Some("go on"),
        "Go on with the run",
    ),
    row(Command::NextPane, "next-pane", &[Key::Tab], PANES, Some("pane"), "Next pane"),
    row(Command::PreviousPane, "previous-pane", &[Key::BackTab], PANES, None, "Previous pane"),
    row(Command::Info, "info", &[Char('i')], PANES, Some("info"), "Show everything known about the row"),
    row(
        Command::Ledger,
        "ledger",
        &[Char('L')],
        PANES,
        Some("space"),
        "Show where the space of the file system went, and why df and du differ",
    ),
    row(
        Command::ScanLedger,
        "scan-ledger",
        &[Key::Enter],
        &[At::Ledger],
        Some("scan it"),
        "Count all files of the file system (again); the tree shows them then",
    ),
    row(
        Command::NextLedger,
        "next-ledger",
        &[Key::Tab, Key::Right, Char('l')],
        &[At::Ledger],
        Some("next file system"),
        "The next file system",
    ),
    row(
        Command::PreviousLedger,
        "previous-ledger",
        &[Key::BackTab, Key::Left, Char('h')],
        &[At::Ledger],
        None,
        "The file system before",
    ),
    row(Command::SortSize, "sort-size", &[Char('s')], TREE, Some("size"), "Sort by size; again: reverse"),
    row(Command::SortName, "sort-name", &[Char('n')], TREE, Some("name"), "Sort by name; again: reverse"),
    row(
        Command::SortEntries,
        "sort-entries",
        &[Char('C')],
        TREE,
        Some("count"),
        "Sort by number of entries; again: reverse",
    ),
    row(
        Command::SortAge,
        "sort-age",
        &[Char('M')],
        TREE,
        Some("age"),
        "Sort by age, oldest first; again: reverse",
    ),
    row(
        Command::ToggleApparent,
        "toggle-apparent",
        &[Char('a')],
        TREE,
        None,
        "Between space taken on disk and apparent size",
    ),
    row(Command::Rescan, "rescan", &[Char('r')], PANES, Some("rescan"), "Look again"),
    row(Command::Zoom, "zoom", &[Char('z')], PANES, Some("zoom"), "One pane on the whole screen, and back"),
    row(
        Command::ScanParent,
        "scan-parent",
        &[Char('P')],
        TREE,
        None,
        "Scan the directory above the one the scan started at",
    ),
    row(Command::UnmarkAll, "unmark-all", &[Char('u')], PANES, None, "Unmark all"),
    row(Command::Up, "up", &[Char('k')], SCROLL_LETTERS, None, "Up"),
    row(Command::Down, "down", &[Char('j')], SCROLL_LETTERS, None, "Down"),
    row(Command::Up, "arrow-up", &[Key::Up], SCROLL, None, "Up"),
    row(Command::Down, "arrow-down", &[Key::Down], SCROLL, None, "Down"),
    row(Command::PageUp, "page-up", &[Key::PageUp, Key::Ctrl('b')], SCROLL, None, "One page up"),
    row(Command::PageDown, "page-down", &[Key::PageDown, Key::Ctrl('f')], SCROLL, None, "One page down"),
    row(Command::First, "first", &[Key::Home], SCROLL, None, "To the start"),
    row(Command::Last, "last", &[Key::End], SCROLL, None, "To the end"),
    row(Command::First, "first-letter", &[Char('g')], SCROLL_LETTERS, None, "To the start"),
    row(Command::Last, "last-letter", &[Char('G')], SCROLL_LETTERS, None, "To the end"),
    row(Command::PaneTree, "pane-tree", &[Char('1')], PANES, None, "To the tree"),
    row(Command::PaneFindings, "pane-findings", &[Char('2')], PANES, None, "To the findings"),
    row(Command::PaneMounts, "pane-mounts", &[Char('3')], PANES, None, "To the leaked mounts"),
    row(Command::PaneProcesses, "pane-processes", &[Char('4')], PANES, None, "To the build processes"),
    row(Command::PaneDeleted, "pane-deleted", &[Char('5')], PANES, None, "To the deleted open files"),
    row(Command::Close, "close", &[Key::Esc, Char('q')], TEXT, Some("close"), "Close"),
    row(
        Command::Close,
        "close-plan",
        &[Key::Esc, Char('q')],
        &[At::ConfirmKey],
        Some("cancel"),
        "Do nothing",
    ),
    row(Command::Close, "close-typed", &[Key::Esc], TYPED, Some("cancel"), "Do nothing"),
    row(
        Command::Close,
        "stay",
        &[Key::Esc, Char('n')],
        &[At::QuitQuestion],
        Some("stay"),
        "Stay until the run is over",
    ),
    row(
        Command::QuitNow,
        "leave",
        &[Char('y')],
        &[At::QuitQuestion],
        Some("cancel it and quit"),
        "Cancel the run and quit",
    ),
    row(Command::Close, "unzoom", &[Key::Esc], PANES, None, "Leave the zoom, else go back to the tree"),
    row(Command::Help, "help", &[Char('?')], PANES, Some("help"), "Show all keys and marks"),
    row(Command::Quit, "quit", &[Char('q')], PANES, Some("quit"), "Quit"),
    row(
        Command::Quit,
        "quit-run",
        &[Char('q')],
        &[At::Running],
        None,
        "Quit; asks first while a run is under way",
    ),
    row(
        Command::QuitNow,
        "quit-now",
        &[Key::Ctrl('c')],
        EVERYWHERE,
        None,
        "Quit at once; a run is cancelled first",
    ),
    row(Command::Suspend, "suspend", &[Key::Ctrl('z')], EVERYWHERE, None, "Back to the shell; `fg` returns"),
    row(Command::Redraw, "redraw", &[Key::Ctrl('l')], EVERYWHERE, None, "Draw the screen again"),
];

/// What a key means in a context.
pub fn lookup(context: Context, key: Key) -> Option<Command> {
    COMMANDS
        .iter()
        .find(|binding| binding.contexts.contains(&context) && binding.keys.contains(&key))
        .map(|binding| binding.command)
}

/// The commands that apply in a context, in table order.
pub fn in_context(context: Context) -> impl Iterator<Item = &'static Binding> {
    COMMANDS.iter().filter(move |binding| binding.contexts.contains(&context))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_key_means_two_things_in_one_context() {
        for context in Context::ALL {
            let mut seen = Vec::new();
            for binding in in_context(context) {
                for key in binding.keys {
                    assert!(!seen.contains(key), "{key} is bound twice in {context:?} ({})", binding.id);
                    seen.push(*key);
                }
            }
        }
    }

    #[test]
    fn ids_are_unique_and_every_row_is_documented() {
        let ids: BTreeSet<_> = COMMANDS.iter().map(|binding| binding.id).collect();
        assert_eq!(ids.len(), COMMANDS.len());
        for binding in COMMANDS {
            assert!(!binding.doc.is_empty() && !binding.keys.is_empty() && !binding.contexts.is_empty());
        }
    }

    #[test]
    fn every_context_can_be_left() {
        for context in Context::ALL {
            assert_eq!(lookup(context, Key::Ctrl('c')), Some(Command::QuitNow), "{context:?}");
            assert!(lookup(context, Key::Esc).is_some(), "{context:?} ignores Esc");
        }
    }

    #[test]
    fn a_typed_answer_takes_every_printable_character() {
        for c in ' '..='~' {
            for typed in TYPED {
                assert_eq!(lookup(*typed, Key::Char(c)), None, "{c:?}");
            }
        }
    }
}
