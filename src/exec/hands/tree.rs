//! Empties a directory that was set aside, through descriptors only: every system call names one component of
//! an open directory (SAFETY.md T1), no mount is entered (T6), and at most 60 directories are open however deep
//! the tree is (T11): in what is deeper one thread goes down and up through one open directory ([`deep`]).
//!
//! Each thread is confined to the tree by Landlock where the kernel has it (T3), and ends with the run.
//!
//! Several threads work in different directories (within one, the kernel lets in one at a time), and the
//! names in a directory go in the order of their inodes, which lie side by side on the disk that way. Measured on ext4
//! with 200,000 files against `rm -rf`: `benches/delete.rs`.
//!
//! A directory that its owner made read-only is opened up when the kernel says no ([`own`]), not before: root
//! never is told no, and pays nothing for it.
#![expect(clippy::disallowed_methods, reason = "this room makes the changes")]

mod deep;

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use rustix::fs::{AtFlags, FileType, RawDir, SeekFrom, unlinkat};
use rustix::io::{self, Errno, retry_on_intr};

use super::crew::{Crew, Item, MAX_WORKERS, Node, OpenDirs};
use super::own::{self, Before};
use super::remove::about;
use crate::domain::identity::DevIno;
use crate::domain::text::HostText;
use crate::exec::Stop;
use crate::sys::beneath::{is_exclusive, open_child_dir};
use crate::sys::{confine, file_id};

/// How often progress is told, in entries of one worker.
const EVERY: u64 = 256;
/// How often one directory is read before new entries in it count as a problem.
const MAX_ROUNDS: u32 = 5;
/// Bytes of directory entries read at once.
const BUFFER: usize = 64 << 10;
/// Bytes of names that are put in order at once: some 50,000 names.
const SORTED: usize = 1 << 20;

/// What is to be emptied.
pub struct Target<'a> {
    /// The top of the tree.
    pub top: &'a OwnedFd,
    /// Whether other users are shut off from it; where not, only directories that nobody else can write to are
    /// emptied.
    pub shut_off: bool,
    /// Whether it lies in a quarantine. If not, only the threads that are confined keep to the tree for certain.
    pub aside: bool,
    /// Files that stay wherever they are met, each with the reason.
    pub kept: Vec<(DevIno, String)>,
}

/// Removes everything in the top. Says whether it was cancelled, how many entries were removed, and what
/// stays and why.
///
/// `progress` is called by this thread while the worker that asked for it waits, so what it does (cancelling, say)
/// holds from that worker's next entry.
pub fn empty(target: &Target<'_>, stop: Stop<'_>, progress: &mut dyn FnMut(u64)) -> (bool, u64, Vec<String>) {
    let open = OpenDirs::new();
    let workers = thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
    let crew = Crew::new(workers, stop, &open);
    let top = match target.top.try_clone() {
        Ok(top) => crew.node(top, CString::default(), None),
        Err(error) => {
            crew.problem(format!("it could not be opened: {error}"));
            return crew.finish();
        }
    };
    let mut top = Some(top);
    thread::scope(|scope| {
        let (tell, told) = sync_channel(0);
        for own in 0..workers {
            let (crew, tell) = (&crew, tell.clone());
            // The first one gets the top; whether there is one is known after its start only.
            let start = if own == 0 { top.clone() } else { None };
            let work = move || {
                // Where the kernel cannot, quarantine and descriptors hold alone; `--health` tells.
                let confined = confine::to_tree(target.top).is_ok();
                let mut tell = |message| ask(&tell, message);
                Worker::new(crew, target, own, confined, &mut tell).work(start);
            };
            if thread::Builder::new().name("delete".to_owned()).spawn_scoped(scope, work).is_err() {
                break;
            }
            top = None;
        }
        drop(tell);
        let mut tell = |message| {
            if let Message::Removed(count) = message {
                progress(count);
            }
        };
        // This thread is not confined, because it has other work afterwards.
        let mut here = Worker::new(&crew, target, 0, false, &mut tell);
        // Until the last worker has ended.
        while let Ok(message) = told.recv() {
            match message {
                Message::Deep(item) => here.go_down(&item),
                Message::Removed(_) | Message::Dealt => (here.tell)(message),
            }
        }
        if let Some(top) = top.take() {
            // Not one thread could be started (a process limit): then this one does it.
            here.work(Some(top));
        }
    });
    crew.finish()
}

/// What a worker has the thread do that waits for all of them.
enum Message<'a> {
    /// Tell that so many entries were removed.
    Removed(u64),
    /// Empty and remove this: the kernel looks at every directory above one that a confined thread opens, which takes for
    /// ever if there are very many (60,000 levels: hours).
    Deep(Item<'a>),
    /// Nothing.
    Dealt,
}

/// Has the thread that waits for the workers do something, and returns when it has.
fn ask<'a>(tell: &SyncSender<Message<'a>>, message: Message<'a>) {
    // Nothing is buffered: a message is taken when the one before it was dealt with, so the second one returns when the
    // first was. Nobody listens where dealing with it panicked; then the run ends anyway.
    if tell.send(message).is_ok() {
        let _ = tell.send(Message::Dealt);
    }
}

/// Makes a call in a directory; once more where its mode forbade it and it can be opened up.
fn with_access<T>(node: &Node<'_>, call: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match retry_on_intr(&call) {
        Err(Errno::ACCESS) if node.open_up() => retry_on_intr(call),
        other => other,
    }
}

/// Names of one directory, to be put in the order of their inodes.
#[derive(Default)]
struct Names {
    /// Each with its NUL.
    text: Vec<u8>,
    /// Inode number, and where its name begins.
    order: Vec<(u64, usize)>,
}

impl Names {
    fn clear(&mut self) {
        self.text.clear();
        self.order.clear();
    }

    fn push(&mut self, inode: u64, name: &CStr) {
        self.order.push((inode, self.text.len()));
        self.text.extend_from_slice(name.to_bytes_with_nul());
    }

    fn is_full(&self) -> bool {
        self.text.len() >= SORTED
    }

    fn sorted(&mut self) -> impl Iterator<Item = &CStr> {
        self.order.sort_unstable();
        self.order.iter().filter_map(|&(_, start)| CStr::from_bytes_until_nul(self.text.get(start..)?).ok())
    }
}

/// One thread of a crew.
struct Worker<'w, 'a> {
    crew: &'w Crew<'a>,
    target: &'w Target<'w>,
    own: usize,
    confined: bool,
    tell: &'w mut dyn FnMut(Message<'a>),
    /// The next directory, kept back from the others: a chain of directories would go from thread to thread.
    next: Option<Item<'a>>,
    buffer: Vec<MaybeUninit<u8>>,
    names: Names,
    seen: u64,
}

impl Drop for Worker<'_, '_> {
    fn drop(&mut self) {
        // Also when it panicked: the others would wait for ever.
        self.crew.end();
    }
}

impl<'w, 'a> Worker<'w, 'a> {
    fn new(
        crew: &'w Crew<'a>,
        target: &'w Target<'w>,
        own: usize,
        confined: bool,
        tell: &'w mut dyn FnMut(Message<'a>),
    ) -> Self {
        Self {
            crew,
            target,
            own,
            confined,
            tell,
            next: None,
            buffer: vec![MaybeUninit::uninit(); BUFFER],
            names: Names::default(),
            seen: 0,
        }
    }

    /// Works until there is nothing left or the run is cancelled. The first worker is given the top.
    fn work(mut self, top: Option<Arc<Node<'a>>>) {
        if let Some(top) = top {
            self.read(&top);
            self.settle(top);
        }
        while let Some(item) = self.next.take().or_else(|| self.crew.take(self.own)) {
            if self.tick() {
                return;
            }
            match self.enter(&item) {
                Some(node) => {
                    drop(item);
                    self.read(&node);
                    self.settle(node);
                }
                None => self.settle(item.above),
            }
        }
    }

    /// Looks at the cancel flag, and tells the progress now and then.
    fn tick(&mut self) -> bool {
        self.seen += 1;
        if self.seen % EVERY == 1 {
            (self.tell)(Message::Removed(self.crew.removed.load(Ordering::Relaxed)));
        }
        self.crew.is_cancelled()
    }

    fn stays(&self, node: &Node<'_>, why: String) {
        node.stays.store(true, Ordering::Relaxed);
        self.crew.problem(why);
    }

    fn removed_one(&self) {
        self.crew.removed.fetch_add(1, Ordering::Relaxed);
    }

    /// Opens a subdirectory. Where too many are open already it is emptied and removed through one descriptor.
    fn enter(&mut self, item: &Item<'a>) -> Option<Arc<Node<'a>>> {
        let Item { above, name } = item;
        if !self.crew.may_open(above.above.is_none()) {
            if self.confined && self.target.aside {
                (self.tell)(Message::Deep(Item { above: Arc::clone(above), name: name.clone() }));
            } else {
                self.go_down(item);
            }
            return None;
        }
        let (dir, before) = self.open(above, name)?;
        Some(self.crew.node_opened_up(dir, name.clone(), Some(Arc::clone(above)), before))
    }

    /// Opens a subdirectory that is counted as open; none if it stays, which is said.
    fn open(&self, above: &Node<'a>, name: &CStr) -> Option<(OwnedFd, Option<Before>)> {
        let errno = match with_access(above, || open_child_dir(&above.dir, name)) {
            Ok(dir) => return Some((dir, None)),
            Err(Errno::ACCESS) => match own::open_child(&above.dir, name) {
                Ok((dir, before)) => return Some((dir, Some(before))),
                Err(errno) => errno,
            },
            Err(errno) => errno,
        };
        self.crew.not_opened();
        match errno {
            // Gone, or no directory any more: reading the one above again tells what is there now.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => {}
            Errno::XDEV => {
                let shown = HostText::new(name.to_bytes());
                self.stays(
                    above,
                    format!(
                        "{shown}: something is mounted on it (unmount it first), or it is a btrfs snapshot (btrfs subvolume \
                         delete removes it)"
                    ),
                );
            }
            errno => self.stays(above, about(name, errno)),
        }
        None
    }

    /// One part of a directory is done. After the last one it is removed from the one above, of which that was
    /// a part, and so on.
    fn settle(&mut self, mut node: Arc<Node<'a>>) {
        // Release what we know of it to whoever does the last part, and acquire what the others knew.
        while node.left.fetch_sub(1, Ordering::AcqRel) == 1 && !self.crew.is_cancelled() {
            let again = match &node.above {
                Some(above) => self.leave(above, &node),
                None => self.is_needed_again(&node),
            };
            if again {
                node.left.store(1, Ordering::Relaxed);
                if self.read(&node) == 0 && node.above.is_none() {
                    return self.crew.end();
                }
                continue;
            }
            match &node.above {
                Some(above) => node = Arc::clone(above),
                None => return self.crew.end(),
            }
        }
    }

    /// Whether the top must be read again, for what came in meanwhile.
    fn is_needed_again(&self, top: &Node<'_>) -> bool {
        if top.stays.load(Ordering::Relaxed) {
            return false;
        }
        if top.rounds.load(Ordering::Relaxed) < MAX_ROUNDS {
            return true;
        }
        self.crew.problem("new entries keep coming in; end the process that makes them".to_owned());
        false
    }

    /// Removes an emptied directory from the one above it. Says whether it must be read again.
    fn leave(&self, above: &Node<'_>, done: &Node<'_>) -> bool {
        if done.stays.load(Ordering::Relaxed) {
            above.stays.store(true, Ordering::Relaxed);
            return false;
        }
        match with_access(above, || unlinkat(&above.dir, &done.name, AtFlags::REMOVEDIR)) {
            Ok(()) => {
                done.gone.store(true, Ordering::Relaxed);
                self.removed_one();
            }
            Err(Errno::NOENT) => {}
            // Entries came in, or reading while removing passed some over (readdir(3) allows that).
            Err(Errno::NOTEMPTY | Errno::EXIST) if done.rounds.load(Ordering::Relaxed) < MAX_ROUNDS => {
                return true;
            }
            Err(errno) => self.stays(above, about(&done.name, errno)),
        }
        false
    }

    /// Reads a directory: removes what is no directory, hands out what is one. Says how many entries it saw.
    fn read(&mut self, node: &Arc<Node<'a>>) -> u64 {
        let (found, dirs) = self.list(node);
        self.hand_out(node, dirs);
        found
    }

    /// Reads a directory and removes what is no directory. Says how many entries it saw, and the subdirectories with their
    /// inode numbers.
    fn list(&mut self, node: &Arc<Node<'a>>) -> (u64, Vec<(u64, CString)>) {
        let round = node.rounds.fetch_add(1, Ordering::Relaxed) + 1;
        if !self.target.shut_off && !is_exclusive(&node.dir) {
            let why = format!(
                "{}: other users can write to it and it could not be shut off from them, so parts of it could be \
                 swapped meanwhile; free something else first",
                HostText::new(node.name.as_bytes())
            );
            self.stays(node, why);
            return (0, Vec::new());
        }
        if round > 1
            && let Err(errno) = rustix::fs::seek(&node.dir, SeekFrom::Start(0))
        {
            self.stays(node, about(&node.name, errno));
            return (0, Vec::new());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut names = std::mem::take(&mut self.names);
        let mut dirs: Vec<(u64, CString)> = Vec::new();
        let mut entries = RawDir::new(&node.dir, &mut buffer);
        let mut found = 0;
        loop {
            let more = self.read_some(node, &mut entries, &mut names, &mut dirs);
            found += u64::try_from(names.order.len()).unwrap_or(u64::MAX);
            let cancelled = self.unlink(node, &mut names, &mut dirs);
            if cancelled || !more {
                break;
            }
        }
        self.buffer = buffer;
        self.names = names;
        found += u64::try_from(dirs.len()).unwrap_or(u64::MAX);
        (found, dirs)
    }

    /// Reads names until there are enough of them to be removed. Says whether there are more.
    fn read_some(
        &self,
        node: &Node<'_>,
        entries: &mut RawDir<'_, &OwnedFd>,
        names: &mut Names,
        dirs: &mut Vec<(u64, CString)>,
    ) -> bool {
        names.clear();
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::INTR) => continue,
                // It was removed meanwhile.
                Err(Errno::NOENT) => return false,
                Err(errno) => {
                    self.stays(node, about(&node.name, errno));
                    return false;
                }
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                dirs.push((entry.ino(), name.to_owned()));
                continue;
            }
            if let Some(why) = self.kept(node, entry.ino(), name) {
                self.stays(node, format!("{}: {why}", HostText::new(name.to_bytes())));
                continue;
            }
            names.push(entry.ino(), name);
            if names.is_full() {
                return true;
            }
        }
        false
    }

    /// Why a file must stay that the kernel uses. The number in a directory is looked at first, and there hardly ever is one.
    fn kept(&self, node: &Node<'_>, inode: u64, name: &CStr) -> Option<&'w str> {
        let target = self.target;
        if !target.kept.iter().any(|(key, _)| key.ino.0 == inode) {
            return None;
        }
        let key = file_id::of_entry(&node.dir, name).ok()?.key;
        target.kept.iter().find(|(kept, _)| *kept == key).map(|(_, why)| why.as_str())
    }

    /// Removes files. Says whether the run was cancelled.
    fn unlink(&mut self, node: &Node<'_>, names: &mut Names, dirs: &mut Vec<(u64, CString)>) -> bool {
        for name in names.sorted() {
            if self.tick() {
                return true;
            }
            match with_access(node, || unlinkat(&node.dir, name, AtFlags::empty())) {
                Ok(()) => self.removed_one(),
                Err(Errno::NOENT) => {}
                // A directory after all (some file systems do not tell, DT_UNKNOWN in readdir(3)).
                Err(Errno::ISDIR) => dirs.push((0, name.to_owned())),
                Err(errno) => self.stays(node, about(name, errno)),
            }
        }
        false
    }

    /// Offers the subdirectories to everybody, but for the one that is entered next.
    fn hand_out(&mut self, node: &Arc<Node<'a>>, mut dirs: Vec<(u64, CString)>) {
        // The last one is taken first.
        dirs.sort_unstable_by(|a, b| b.cmp(a));
        node.left.fetch_add(dirs.len(), Ordering::Relaxed);
        let mut items = dirs.into_iter().map(|(_, name)| Item { above: Arc::clone(node), name });
        self.next = items.next_back();
        if items.len() > 0 {
            self.crew.add(self.own, items);
        }
    }
}
