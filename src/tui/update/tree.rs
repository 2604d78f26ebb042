//! The directory tree: scans, listings, moving about.

use std::collections::BTreeMap;

use crate::domain::identity::FileKind;
use crate::domain::text::{HostPath, HostText};
use crate::scan::{NodeId, Page, Row, Window};
use crate::tui::effect::{Effect, Pick};
use crate::tui::event::{Listed, Ticket};
use crate::tui::layout;
use crate::tui::list_state::ListState;
use crate::tui::model::{Model, Order, Pane, Survey, Tree, pick_of};

use super::commands::dropped_marks;
use super::results::survey;

/// Starts a scan; the tree before it is dropped.
pub fn scan(model: &mut Model, path: HostPath) -> Vec<Effect> {
    let marks = model.tree.list.marks.len();
    if marks > 0 {
        model.notice = Some(dropped_marks(marks));
    }
    let scan = model.ticket();
    model.survey = Survey::Over;
    let tree = &mut model.tree;
    tree.scan = scan;
    tree.root = path.clone();
    tree.root_node = None;
    tree.dir = None;
    tree.page = None;
    tree.asked = false;
    tree.progress = crate::scan::Progress::default();
    tree.reading = crate::scan::Reading::default();
    tree.problem = None;
    tree.list = ListState::default();
    tree.came_from = None;
    tree.seek = None;
    tree.refreshing = None;
    tree.enter = None;
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

/// Rows around the cursor that are kept at hand, beyond those of the screen: held keys do not outrun them.
const MARGIN: usize = 200;
/// The most entries of a directory that is scanned again without being asked for: that takes well below a second.
const FEW: u64 = 50_000;

fn list(model: &Model, dir: NodeId) -> Effect {
    ask(model, dir, true)
}

fn ask(model: &Model, dir: NodeId, now: bool) -> Effect {
    Effect::List {
        dir,
        sort: model.tree.sort_key(),
        reverse: model.tree.reverse,
        window: window(model, dir),
        now,
    }
}

/// The rows of a directory to be made: those around the cursor.
fn window(model: &Model, dir: NodeId) -> Window {
    let tree = &model.tree;
    let height = usize::from(model.size.1);
    let names = tree.list.marks.values().filter(|pick| pick.parent == dir).map(|pick| pick.name.clone());
    let mut window = Window { margin: height * 3 + MARGIN, names: names.collect(), ..Window::default() };
    if !tree.settled() {
        window.node = tree.came_from;
    } else if tree.list.moved {
        window.node = tree.list.key;
        window.name = tree.seek.clone().or_else(|| Some(tree.current()?.name.clone()));
        window.index = tree.list.index;
    }
    window
}

/// The cursor was moved: rows are made around its new place from now on.
pub fn follow(model: &Model) -> Vec<Effect> {
    let tree = &model.tree;
    let growing = tree.scanning() || tree.listing().is_some_and(|listing| listing.dir.flags.scanning);
    tree.dir.filter(|_| growing).map(|dir| ask(model, dir, false)).into_iter().collect()
}

/// Asks for rows that are missing on the screen or soon will be.
pub fn missing(model: &mut Model) -> Option<Effect> {
    let tree = &model.tree;
    let page = tree.page.as_ref().filter(|_| tree.settled() && !tree.asked)?;
    let places = layout::of(model)?;
    let (_, area) = places.panes.into_iter().find(|(pane, _)| *pane == Pane::Tree)?;
    let height = layout::list_height(model, Pane::Tree, area);
    let from = tree.list.offset.saturating_sub(height);
    let to = tree.list.offset.saturating_add(height * 2).min(page.total);
    let end = page.first + page.listing.rows.len();
    if page.first <= from && to <= end {
        return None;
    }
    let effect = list(model, tree.dir?);
    model.tree.asked = true;
    Some(effect)
}

/// A directory changed on the machine after it was scanned: scans it again where that is quick, else says so.
pub fn changed(model: &mut Model, scan: Ticket, dir: NodeId) -> Vec<Effect> {
    let tree = &model.tree;
    if tree.scan != scan || tree.dir != Some(dir) || !tree.settled() {
        return Vec::new();
    }
    let entries = tree.listing().map_or(0, |listing| listing.dir.entries);
    if entries <= FEW {
        model.tree.refreshing = Some((dir, model.tree.rescans));
        return vec![Effect::Rescan { dir, or_else: None }];
    }
    model.notice = Some("This directory changed after it was scanned; r scans it again.".to_owned());
    Vec::new()
}

fn list_again(model: &Model) -> Vec<Effect> {
    model.tree.dir.map(|dir| list(model, dir)).into_iter().collect()
}

/// A directory as it is known now.
pub fn listed(model: &mut Model, listed: Listed) -> Vec<Effect> {
    if listed.scan != model.tree.scan {
        return Vec::new();
    }
    let ended = listed.progress.finished && !model.tree.progress.finished;
    let mut effects = show(model, listed);
    if ended {
        effects.extend(survey(model));
    }
    effects
}

fn show(model: &mut Model, listed: Listed) -> Vec<Effect> {
    let tree = &mut model.tree;
    tree.progress = listed.progress;
    tree.now = listed.now;
    tree.reading = listed.reading;
    if tree.dir != Some(listed.dir) {
        return Vec::new();
    }
    tree.asked = false;
    let Some(page) = listed.page else { return gone(model) };
    let dir = page.listing.dir.node;
    let arrived = tree.listing().map(|old| old.dir.node) != Some(dir);
    if let Some((refreshed, before)) = tree.refreshing
        && refreshed == dir
        && !arrived
        && (listed.rescans <= before || page.listing.dir.flags.scanning)
    {
        // Rows that are missing come with the end.
        tree.asked = true;
        return Vec::new();
    }
    tree.refreshing = None;
    tree.rescans = listed.rescans;
    if arrived {
        tree.enter = None;
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
    find_by_name(tree, &page);
    let rows = &page.listing.rows;
    let key_at = |at: usize| rows.get(at.checked_sub(page.first)?).map(|row| row.node);
    let find = |key: &NodeId| rows.iter().position(|row| row.node == *key).map(|at| page.first + at);
    tree.list.sync_by(page.total, find, key_at);
    renew_marks(&mut tree.list.marks, &page);
    let still = page.listing.dir.flags.scanning || !tree.progress.finished;
    tree.page = Some(page);
    if arrived && !still {
        return vec![Effect::Check { dir }];
    }
    if let Some(name) = model.tree.enter.take() {
        let row = model.tree.listing().and_then(|listing| listing.rows.iter().find(|row| row.name == name));
        if let Some(node) = row.map(|row| row.node) {
            model.tree.list.key = Some(node);
            return open_node(model, node);
        }
    }
    // The entry that the cursor waits for may come anywhere.
    if model.tree.seek.is_some() { follow(model) } else { Vec::new() }
}

/// After a rescan the cursor's entry is another node of the same name: puts the cursor on it, as soon as it
/// shows up.
fn find_by_name(tree: &mut Tree, page: &Page) {
    let listing = &page.listing;
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
    let parent = tree.listing().and_then(|listing| listing.parent).or(tree.root_node);
    if parent.is_none() || tree.dir == parent {
        tree.problem = Some(format!("{} is gone; press P to scan the directory above it", tree.root));
        tree.page = None;
        return Vec::new();
    }
    tree.dir = parent;
    model.notice = Some("The directory is gone; this is the one above it.".to_owned());
    list_again(model)
}

/// Takes the new figures of marked rows over, and drops marks of rows that are gone. A row that a rescan gave
/// another node is found by its name: what a mark means is frozen only when a plan is asked for.
fn renew_marks(marks: &mut BTreeMap<NodeId, Pick>, page: &Page) {
    let Page { listing, named, .. } = page;
    if marks.is_empty() || listing.dir.flags.scanning {
        return;
    }
    let dir = listing.dir.node;
    let here: Vec<(NodeId, HostText)> = marks
        .iter()
        .filter(|(_, pick)| pick.parent == dir)
        .map(|(node, pick)| (*node, pick.name.clone()))
        .collect();
    if here.is_empty() {
        return;
    }
    let rows: BTreeMap<&HostText, &Row> = listing.rows.iter().map(|row| (&row.name, row)).collect();
    let whole = rows.len() == page.total;
    for (node, name) in here {
        let row = rows.get(&name).copied().or_else(|| named.get(&name)?.as_ref());
        // What was marked after these rows were asked for, and is out of sight by now, was not looked for.
        if row.is_none() && !whole && !named.contains_key(&name) {
            continue;
        }
        marks.remove(&node);
        if let Some(row) = row {
            marks.insert(row.node, pick_of(row, dir));
        }
    }
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
        let path = tree.listing().map(|listing| HostPath::new(listing.path.as_path().join(os(&name))));
        let place = path.map_or_else(|| name.to_string(), |path| path.to_string());
        model.notice = Some(format!("{place} is another mount: it is not part of this scan."));
        return Vec::new();
    }
    if row.flags.subvolume {
        model.notice = Some(format!("{} is a btrfs snapshot: it is not part of this scan.", row.name));
        return Vec::new();
    }
    let node = row.node;
    if tree.refreshing.is_some() {
        // It gets another node any moment.
        let name = row.name.clone();
        model.tree.enter = Some(name);
        return Vec::new();
    }
    open_node(model, node)
}

fn open_node(model: &mut Model, node: NodeId) -> Vec<Effect> {
    model.tree.dir = Some(node);
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
    let Some((dir, parent)) = tree.listing().map(|listing| (listing.dir.node, listing.parent)) else {
        return Vec::new();
    };
    let Some(parent) = parent else {
        if tree.root.as_path().parent().is_some() {
            model.notice = Some("The scan starts here; P scans the directory above it.".to_owned());
        }
        return Vec::new();
    };
    tree.came_from = Some(dir);
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
