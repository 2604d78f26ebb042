//! The directory tree: scans, listings, moving about.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::identity::FileKind;
use crate::domain::text::{HostPath, HostText};
use crate::scan::{Listing, NodeId};
use crate::tui::effect::{Effect, Pick};
use crate::tui::event::{Listed, Ticket};
use crate::tui::list_state::ListState;
use crate::tui::model::{Model, Order, Tree, pick_of};

use super::commands::dropped_marks;

/// Starts a scan; the tree before it is dropped.
pub fn scan(model: &mut Model, path: HostPath) -> Vec<Effect> {
    let marks = model.tree.list.marks.len();
    if marks > 0 {
        model.notice = Some(dropped_marks(marks));
    }
    let scan = model.ticket();
    let tree = &mut model.tree;
    tree.scan = scan;
    tree.root = path.clone();
    tree.root_node = None;
    tree.dir = None;
    tree.listing = None;
    tree.progress = crate::scan::Progress::default();
    tree.problem = None;
    tree.list = ListState::default();
    tree.came_from = None;
    tree.seek = None;
    vec![Effect::Scan { scan, path }]
}

/// A scan began.
pub fn scan_started(model: &mut Model, scan: Ticket, root: NodeId) -> Vec<Effect> {
    if model.tree.scan != scan {
        return Vec::new();
    }
    model.tree.root_node = Some(root);
    model.tree.dir = Some(root);
    vec![list(model, root)]
}

/// A scan could not begin.
pub fn scan_failed(model: &mut Model, scan: Ticket, why: String) -> Vec<Effect> {
    if model.tree.scan == scan {
        model.tree.problem = Some(why);
    }
    Vec::new()
}

fn list(model: &Model, dir: NodeId) -> Effect {
    Effect::List { dir, sort: model.tree.sort_key(), reverse: model.tree.reverse }
}

fn list_again(model: &Model) -> Vec<Effect> {
    model.tree.dir.map(|dir| list(model, dir)).into_iter().collect()
}

/// A directory as it is known now.
pub fn listed(model: &mut Model, listed: Listed) -> Vec<Effect> {
    let tree = &mut model.tree;
    if listed.scan != tree.scan {
        return Vec::new();
    }
    tree.progress = listed.progress;
    tree.now = listed.now;
    if tree.dir != Some(listed.dir) {
        return Vec::new();
    }
    let Some(listing) = listed.listing else { return gone(model) };
    let arrived = tree.listing.as_ref().map(|old| old.dir.node) != Some(listing.dir.node);
    if arrived {
        tree.list.index = 0;
        tree.list.offset = 0;
        tree.list.key = None;
        tree.list.moved = false;
        tree.seek = None;
        if let Some(from) = tree.came_from.take() {
            tree.list.key = Some(from);
            tree.list.moved = true;
        }
    }
    find_by_name(tree, &listing);
    let rows = &listing.rows;
    tree.list.sync(rows.len(), rows.iter().map(|row| row.node), |at| rows.get(at).map(|row| row.node));
    renew_marks(&mut tree.list.marks, &listing);
    tree.listing = Some(listing);
    measure(model);
    Vec::new()
}

/// After a rescan the cursor's entry is another node of the same name: puts the cursor on it, as soon as it
/// shows up.
fn find_by_name(tree: &mut Tree, listing: &Listing) {
    if !tree.list.moved {
        return;
    }
    let there = listing.rows.iter().any(|row| Some(row.node) == tree.list.key);
    let sought = tree.seek.take().or_else(|| (!there).then(|| Some(tree.current()?.name.clone())).flatten());
    let Some(name) = sought else { return };
    if let Some(row) = listing.rows.iter().find(|row| row.name == name) {
        tree.list.key = Some(row.node);
    } else if listing.dir.flags.scanning {
        tree.seek = Some(name);
    }
}

/// The directory on the screen is gone: goes to its parent.
fn gone(model: &mut Model) -> Vec<Effect> {
    let tree = &mut model.tree;
    let parent = tree.listing.as_ref().and_then(|listing| listing.parent).or(tree.root_node);
    if parent.is_none() || tree.dir == parent {
        tree.problem = Some(format!("{} is gone; press P to scan the directory above it", tree.root));
        tree.listing = None;
        return Vec::new();
    }
    tree.dir = parent;
    model.notice = Some("The directory is gone; this is the one above it.".to_owned());
    list_again(model)
}

/// Takes the new figures of marked rows over, and drops marks of rows that are gone. A row that a rescan gave
/// another node is found by its name: what a mark means is frozen only when a plan is asked for.
fn renew_marks(marks: &mut BTreeMap<NodeId, Pick>, listing: &Listing) {
    if marks.is_empty() || listing.dir.flags.scanning {
        return;
    }
    let here = |pick: &Pick| pick.parent == listing.dir.node;
    let mut names: BTreeSet<HostText> =
        marks.values().filter(|pick| here(pick)).map(|pick| pick.name.clone()).collect();
    marks.retain(|_, pick| !here(pick));
    for row in &listing.rows {
        // No mark left to look for: the rest of a million rows need not be looked at.
        if names.is_empty() {
            break;
        }
        if names.remove(&row.name) {
            marks.insert(row.node, pick_of(row, listing.dir.node));
        }
    }
}

/// The largest size among the rows.
fn measure(model: &mut Model) {
    let tree = &model.tree;
    model.tree.largest = tree.rows().iter().map(|row| tree.size(row)).max().unwrap_or_default();
}

/// Opens the directory under the cursor.
pub fn open(model: &mut Model) -> Vec<Effect> {
    let tree = &mut model.tree;
    if !tree.settled() {
        return Vec::new();
    }
    let Some(row) = tree.current() else { return Vec::new() };
    if row.kind != FileKind::Directory {
        model.notice = Some(format!("{} is not a directory; i shows what is known about it.", row.name));
        return Vec::new();
    }
    if row.flags.mount_point {
        let name = row.name.clone();
        let path = tree.listing.as_ref().map(|listing| HostPath::new(listing.path.as_path().join(os(&name))));
        model.notice = Some(match path {
            Some(path) => format!("{path} is another file system: it is not part of this scan."),
            None => format!("{name} is another file system: it is not part of this scan."),
        });
        return Vec::new();
    }
    tree.dir = Some(row.node);
    list_again(model)
}

/// A name from the machine for joining to a path.
fn os(name: &crate::domain::text::HostText) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(name.as_bytes())
}

/// Goes to the parent directory.
pub fn parent(model: &mut Model) -> Vec<Effect> {
    let tree = &mut model.tree;
    if !tree.settled() {
        return Vec::new();
    }
    let Some(listing) = &tree.listing else { return Vec::new() };
    let Some(parent) = listing.parent else {
        if tree.root.as_path().parent().is_some() {
            model.notice = Some("The scan starts here; P scans the directory above it.".to_owned());
        }
        return Vec::new();
    };
    tree.came_from = Some(listing.dir.node);
    tree.dir = Some(parent);
    list_again(model)
}

/// Scans the parent of the directory the scan started at.
pub fn scan_parent(model: &mut Model) -> Vec<Effect> {
    let Some(parent) = model.tree.root.as_path().parent().map(HostPath::from) else {
        model.notice = Some("There is nothing above /.".to_owned());
        return Vec::new();
    };
    scan(model, parent)
}

/// Sorts; by the same order again: reverses.
pub fn sort(model: &mut Model, order: Order) -> Vec<Effect> {
    let tree = &mut model.tree;
    if tree.order == order {
        tree.reverse = !tree.reverse;
    } else {
        tree.order = order;
        tree.reverse = false;
    }
    list_again(model)
}

/// Between apparent size and space taken.
pub fn toggle_apparent(model: &mut Model) -> Vec<Effect> {
    model.tree.apparent = !model.tree.apparent;
    measure(model);
    list_again(model)
}

/// Scans the directory on the screen again, or starts anew where there is none.
pub fn rescan(model: &mut Model) -> Vec<Effect> {
    if let (Some(dir), None) = (model.tree.dir, &model.tree.problem) {
        return vec![Effect::Rescan { dir, or_else: None }];
    }
    let root = model.tree.root.clone();
    scan(model, root)
}

/// Largest first, whatever the order was.
pub fn sort_by_size(model: &mut Model) -> Vec<Effect> {
    model.tree.order = Order::Size;
    model.tree.reverse = false;
    list_again(model)
}
