//! The scanner's tree by itself: putting entries in, and a screen of a huge directory.
//!
//! ```console
//! $ cargo bench --bench tree
//! ```
//!
//! All by the scanner's public functions on directories in /dev/shm, where the system calls are cheapest: inserting
//! is what a scan takes, its system calls with it.
#![allow(clippy::disallowed_methods, clippy::expect_used, reason = "a benchmark makes trees of its own")]

use std::fs::{self, File};
use std::path::Path;
use std::sync::LazyLock;

use divan::Bencher;
use divan::counter::ItemsCount;
use tempfile::TempDir;
use unwedge::scan::{Method, Options, Scan, SortKey, Window};

/// Files in the one huge directory.
const FILES: usize = 250_000;
/// Rows of a large terminal.
const SCREEN: usize = 60;
/// Directories of a usual tree, with `EACH` files each.
const DIRECTORIES: usize = 2_000;
const EACH: usize = 10;

/// One huge directory, scanned.
static HUGE: LazyLock<(TempDir, Scan)> = LazyLock::new(|| {
    let dir = directory();
    for number in 0..FILES {
        // Names that share their start, and lengths that come often: as cache directories have them.
        let file =
            File::create(dir.path().join(format!("object-{:08x}.bin", number.wrapping_mul(2_654_435_761))))
                .expect("create");
        file.set_len((number % 977) as u64 * 512).expect("set_len");
    }
    let scan = scanned(dir.path());
    (dir, scan)
});

/// Many small directories.
static USUAL: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = directory();
    for number in 0..DIRECTORIES {
        let below = dir.path().join(format!("{}/crate-{number}", number % 40));
        fs::create_dir_all(&below).expect("create_dir_all");
        for name in 0..EACH {
            File::create(below.join(format!("file-{name}.rs"))).expect("create");
        }
    }
    dir
});

fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
        .expect("a temporary directory")
}

fn scanned(path: &Path) -> Scan {
    let options = Options { threads: Some(1), method: Method::Calls, ..Options::default() };
    let scan = Scan::start(path, &options).expect("start");
    scan.wait();
    scan
}

/// A scan of small directories by one worker.
#[divan::bench]
fn insert(bencher: Bencher) {
    let path = USUAL.path();
    bencher.counter(ItemsCount::new(DIRECTORIES * (EACH + 1))).bench(|| scanned(path));
}

/// A screen of a huge directory: everything looked at, its rows sorted and made. The aim is 15 ms.
#[divan::bench(args = [SortKey::Allocated, SortKey::Age, SortKey::Name])]
fn page(bencher: Bencher, sort: SortKey) {
    let (_, scan) = &*HUGE;
    let window = Window { margin: SCREEN, ..Window::default() };
    bencher.counter(ItemsCount::new(FILES)).bench(|| scan.page(scan.root(), sort, false, &window));
}

fn main() {
    divan::main();
}
