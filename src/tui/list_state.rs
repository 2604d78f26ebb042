//! Cursor, scroll position and marks of a list whose rows come and go. Everything is kept by identity,
//! never by row number.

use std::collections::BTreeMap;

/// Cursor, scroll position and marks. `K` identifies a row, `M` is what a mark remembers.
#[derive(Clone, Debug)]
pub struct ListState<K, M = ()> {
    /// The row under the cursor.
    pub index: usize,
    /// The first row on the screen.
    pub offset: usize,
    /// What the cursor is on.
    pub key: Option<K>,
    /// Whether the person has moved the cursor. Until then it stays on top while rows are sorted anew.
    pub moved: bool,
    /// What is marked.
    pub marks: BTreeMap<K, M>,
}

impl<K, M> Default for ListState<K, M> {
    fn default() -> Self {
        Self { index: 0, offset: 0, key: None, moved: false, marks: BTreeMap::new() }
    }
}

impl<K: Clone + Ord, M> ListState<K, M> {
    /// Takes in new rows: finds the cursor's row again, on the same line of the screen where possible. A row
    /// that is gone leaves the cursor where it was.
    pub fn sync(
        &mut self,
        len: usize,
        mut keys: impl Iterator<Item = K>,
        key_at: impl Fn(usize) -> Option<K>,
    ) {
        self.sync_by(len, |key| keys.position(|candidate| candidate == *key), key_at);
    }

    /// As `sync`, where it is known how to find a row.
    pub fn sync_by(
        &mut self,
        len: usize,
        find: impl FnOnce(&K) -> Option<usize>,
        key_at: impl Fn(usize) -> Option<K>,
    ) {
        let line = self.index.saturating_sub(self.offset);
        if self.moved
            && let Some(key) = &self.key
            && let Some(found) = find(key)
        {
            self.index = found;
        } else {
            if !self.moved {
                self.index = 0;
            }
            self.index = self.index.min(len.saturating_sub(1));
        }
        self.key = key_at(self.index);
        self.offset = self.index.saturating_sub(line);
    }

    /// Puts the cursor on a row.
    pub fn go(&mut self, index: usize, len: usize, key_at: impl Fn(usize) -> Option<K>) {
        self.index = index.min(len.saturating_sub(1));
        self.key = key_at(self.index);
        self.moved = true;
    }

    /// Scrolls as little as needed to have the cursor among `height` rows on the screen.
    pub fn reveal(&mut self, height: usize, len: usize) {
        self.offset = reveal(self.offset, self.index, height, len);
    }
}

/// The first row to be shown, as near as possible to the one before, so that the cursor is among `height` rows.
pub fn reveal(offset: usize, index: usize, height: usize, len: usize) -> usize {
    let height = height.max(1);
    let offset = offset.min(len.saturating_sub(height));
    if index < offset {
        index
    } else if index >= offset + height {
        index + 1 - height
    } else {
        offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sync(list: &mut ListState<u32>, rows: &[u32]) {
        list.sync(rows.len(), rows.iter().copied(), |at| rows.get(at).copied());
    }

    #[test]
    fn the_cursor_follows_its_row_and_keeps_its_line_on_the_screen() {
        let mut list = ListState::<u32>::default();
        let rows: Vec<u32> = (0..50).collect();
        sync(&mut list, &rows);
        list.go(5, 50, |at| rows.get(at).copied());
        list.reveal(10, 50);
        let turned: Vec<u32> = (0..50).rev().collect();
        sync(&mut list, &turned);
        assert_eq!((list.key, list.index), (Some(5), 44));
        assert_eq!(list.index - list.offset, 5);
    }

    #[test]
    fn until_it_is_moved_the_cursor_stays_on_top() {
        let mut list = ListState::<u32>::default();
        sync(&mut list, &[1, 2, 3]);
        sync(&mut list, &[3, 1, 2]);
        assert_eq!((list.key, list.index), (Some(3), 0));
    }

    #[test]
    fn a_row_that_is_gone_leaves_the_cursor_where_it_was() {
        let mut list = ListState::<u32>::default();
        sync(&mut list, &[1, 2, 3]);
        list.go(2, 3, |_| Some(3));
        sync(&mut list, &[1, 2]);
        assert_eq!((list.key, list.index), (Some(2), 1));
        sync(&mut list, &[]);
        assert_eq!((list.key, list.index, list.offset), (None, 0, 0));
    }
}
