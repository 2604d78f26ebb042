//! Taking entries out of the tree, and putting totals right afterwards.

use std::sync::RwLockWriteGuard;
use std::sync::atomic::Ordering;

use super::cell::{self, Dir, DirId, NOWHERE, Totals};
use super::codec::{self, Body};
use super::links::{Move, PathHash, Place};
use super::store::lock;
use super::tree::{Tree, hand_up};

impl Tree {
    /// Takes an entry and all below it out, and its sizes out of all above. Not the root.
    pub(super) fn forget(&self, address: u32) {
        self.take_out(&self.still(), address);
    }

    /// The same while the tree is held still already.
    pub(super) fn take_out(&self, _still: &RwLockWriteGuard<'_, ()>, address: u32) {
        let Some(Some((body, linked, counts, parent))) = self.entry(address, |entry, parent| {
            let counts = !entry.has(codec::ELSEWHERE);
            Some((entry.body, entry.has(codec::LINKED), counts, parent?))
        }) else {
            return;
        };
        if !matches!(body, Body::Folded(..)) {
            self.store.set_flags(address, codec::DEAD, 0);
        }
        let links = match body {
            // It stands for files that nobody can name one by one.
            Body::Folded(..) => false,
            Body::Leaf(leaf) => {
                let mut gone = Totals { entries: 1, newest: leaf.modified, ..Totals::default() };
                if counts {
                    gone.apparent = leaf.apparent;
                    gone.allocated = leaf.allocated;
                }
                self.counters.subtract(gone);
                self.take_from(parent, gone);
                linked
            }
            Body::Dir(dir) => {
                let Some(cell) = self.dir(dir) else { return };
                // What is not complete is not in its parent's totals either.
                let complete = cell.complete();
                let gone = cell.totals();
                let links = self.uproot(dir);
                if complete {
                    self.take_from(parent, gone);
                }
                links
            }
        };
        if links {
            self.recount_links();
        }
    }

    /// Takes everything below a directory out, so that it can be read again: it is not complete any
    /// more, nor is anything above it. `own` is its own size now. Says no where it is not complete or
    /// not part of the tree.
    pub(super) fn empty(&self, dir: DirId, own: Totals) -> bool {
        let _still = self.still();
        let Some(cell) = self.dir(dir) else { return false };
        if cell.has(cell::REMOVED) || !cell.complete() {
            return false;
        }
        let mut gone = cell.totals();
        let links = self.uproot(dir);
        self.counters.add(own);
        self.counters.directories.fetch_add(1, Ordering::Relaxed);
        cell.reset(own);
        let mut above = cell.parent();
        while let Some(parent) = above
            && let Some(cell) = self.dir(parent)
        {
            let before = cell.totals();
            cell.subtract(gone);
            let was_complete = cell.expect(1) == 0;
            self.renew(parent, cell);
            if !was_complete {
                break;
            }
            gone = before;
            above = cell.parent();
        }
        if links {
            self.recount_links();
        }
        true
    }

    /// Ends a scan that was cancelled: what is not complete hands up what it has, and is marked.
    pub(super) fn abandon(&self) {
        let _still = self.still();
        for (_, cell) in self.dirs_upwards() {
            if cell.complete() {
                continue;
            }
            if cell.entry.load(Ordering::Acquire) == NOWHERE {
                // Seen by a worker that never came back to say so.
                cell.mark(cell::REMOVED);
            }
            cell.give_up();
            cell.mark(if cell.has(cell::READ) { cell::UNREADABLE_BELOW } else { cell::CUT_SHORT });
            if let Some(parent) = cell.parent().and_then(|parent| self.dir(parent)) {
                hand_up(cell, parent);
            }
        }
    }

    /// Ends a scan: files with several names count where they should.
    pub(super) fn settle(&self) {
        let _still = self.still();
        self.carry_out(&self.links.settle());
    }

    fn recount_links(&self) {
        let alive = |address| self.entry(address, |_, _| ()).is_some();
        self.carry_out(&self.links.forget_dead(alive, |address| self.place(address)));
    }

    fn carry_out(&self, moves: &[Move]) {
        for link in moves {
            if let Some(from) = link.from
                && let Some((size, Some(parent))) =
                    self.entry(from, |entry, parent| (size_of(entry.body), parent))
            {
                self.store.set_flags(from, codec::ELSEWHERE, 0);
                self.climb(parent, |cell| cell.subtract(size));
                self.counters.subtract(size);
            }
            if let Some((size, Some(parent))) =
                self.entry(link.to, |entry, parent| (size_of(entry.body), parent))
            {
                self.store.set_flags(link.to, 0, codec::ELSEWHERE);
                self.climb(parent, |cell| cell.add(size));
                self.counters.add(size);
            }
        }
    }

    /// Visits a directory and those above it that its totals have reached.
    fn climb(&self, dir: DirId, mut visit: impl FnMut(Dir<'_>)) {
        let mut next = Some(dir);
        while let Some(cell) = next.and_then(|dir| self.dir(dir)) {
            visit(cell);
            next = cell.parent().filter(|_| cell.complete());
        }
    }

    fn take_from(&self, dir: DirId, gone: Totals) {
        let mut next = Some(dir);
        while let Some(dir) = next
            && let Some(cell) = self.dir(dir)
        {
            cell.subtract(gone);
            self.renew(dir, cell);
            next = cell.parent().filter(|_| cell.complete());
        }
    }

    /// Finds again what cannot be subtracted: the newest time, and whether something below could not
    /// be read.
    fn renew(&self, dir: DirId, cell: Dir<'_>) {
        let mut newest = self.base(cell).unwrap_or(i64::MIN);
        let mut unreadable = false;
        self.each_entry(dir, |_, entry| match entry.body {
            Body::Leaf(leaf) | Body::Folded(_, leaf) => newest = newest.max(leaf.modified),
            Body::Dir(child) => {
                if let Some(child) =
                    self.dir(child).filter(|child| child.complete() && !child.has(cell::REMOVED))
                {
                    newest = newest.max(child.totals().newest);
                    unreadable |= child.has(cell::INCOMPLETE);
                }
            }
        });
        cell.set_newest(newest);
        if !unreadable {
            cell.unmark(cell::UNREADABLE_BELOW);
        }
    }

    /// When a directory itself was last modified, as its first run has it.
    pub(super) fn base(&self, cell: Dir<'_>) -> Option<i64> {
        self.store.read(cell.first_run.load(Ordering::Acquire), |run| run.entries().base())
    }

    /// Takes a directory and all below it out of the tree and the counters. Says whether there were
    /// files with several names among it.
    fn uproot(&self, dir: DirId) -> bool {
        let mut links = false;
        let mut open = vec![dir];
        while let Some(dir) = open.pop() {
            let Some(cell) = self.dir(dir) else { continue };
            let mut counted = cell.totals();
            self.each_entry(dir, |_, entry| match entry.body {
                Body::Leaf(_) => links |= entry.has(codec::LINKED),
                Body::Folded(count, _) => {
                    cell::change(&self.counters.folded, |now| now.saturating_sub(count));
                }
                Body::Dir(child) => {
                    open.push(child);
                    if let Some(child) = self.dir(child).filter(|child| child.complete()) {
                        counted = less(counted, child.totals());
                    }
                }
            });
            for run in self.runs(dir) {
                self.store.remove(run);
            }
            lock(&self.more_runs).remove(&dir);
            cell.mark(cell::REMOVED);
            self.counters.subtract(counted);
            cell::change(&self.counters.directories, |now| now.saturating_sub(1));
            if cell.has(cell::UNREADABLE) {
                cell::change(&self.counters.unreadable, |now| now.saturating_sub(1));
            }
        }
        lock(&self.troubles).retain(|(dir, _)| !self.dir(*dir).is_some_and(|cell| cell.has(cell::REMOVED)));
        links
    }

    /// Where a name is, as the workers compute it on their way down.
    fn place(&self, address: u32) -> Option<Place> {
        let mut names = self.names_above(address)?;
        let name = names.pop()?;
        let depth = names.len();
        let hash = names.iter().fold(PathHash::ROOT, |hash, name| hash.child(name));
        Some(Place::new(depth, hash, &name))
    }

    /// The names from below the root down to an entry: none for the root itself.
    pub(super) fn names_above(&self, address: u32) -> Option<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        let mut next = address;
        loop {
            let (name, parent) = self.entry(next, |entry, parent| (entry.name.to_vec(), parent))?;
            let Some(parent) = parent else { break };
            names.push(name);
            next = self.dir(parent)?.entry.load(Ordering::Acquire);
        }
        names.reverse();
        Some(names)
    }
}

fn size_of(body: Body) -> Totals {
    match body {
        Body::Leaf(leaf) => {
            Totals { apparent: leaf.apparent, allocated: leaf.allocated, ..Totals::default() }
        }
        Body::Dir(_) | Body::Folded(..) => Totals::default(),
    }
}

fn less(from: Totals, what: Totals) -> Totals {
    Totals {
        apparent: from.apparent.saturating_sub(what.apparent),
        allocated: from.allocated.saturating_sub(what.allocated),
        entries: from.entries.saturating_sub(what.entries),
        newest: from.newest,
    }
}
