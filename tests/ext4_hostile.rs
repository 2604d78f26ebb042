//! Damaged and hostile images, and devices that fail: an error or a counted trouble, never a panic, a hang, unbounded memory, or,
//! where there are checksums, a wrong total.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    reason = "tests make and change their own images in a temporary directory"
)]

#[path = "common/ext4.rs"]
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::{Facts, facts, run};
use unwedge::domain::size::Bytes;
use unwedge::domain::text::HostPath;
use unwedge::scan::ext4::{Listing, Mounted, Options, ROOT, Record, Why, listing, open};
use unwedge::sys::block_device::{self, ReadAt};

/// A device in memory that can fail at, or have something happen before, its n-th read.
struct Memory {
    bytes: Vec<u8>,
    reads: AtomicUsize,
    fail_at: usize,
    cancel_at: usize,
    cancel: AtomicBool,
    /// What the device holds from the n-th read on.
    later: Option<(usize, Vec<u8>)>,
}

impl Memory {
    fn new(bytes: Vec<u8>) -> Self {
        let (fail_at, cancel_at) = (usize::MAX, usize::MAX);
        Self {
            bytes,
            reads: AtomicUsize::new(0),
            fail_at,
            cancel_at,
            cancel: AtomicBool::new(false),
            later: None,
        }
    }

    fn list(&self, threads: usize, memory: u64) -> Result<Listing, Why> {
        let options = Options {
            threads,
            cold_threads: threads,
            cancel: &self.cancel,
            memory: Bytes(memory),
            changed_since: None,
            seen: None,
        };
        listing(&open(Shared(self), Mounted::No)?, &options, ROOT)
    }
}

struct Shared<'a>(&'a Memory);

impl ReadAt for Shared<'_> {
    fn size(&self) -> u64 {
        self.0.bytes.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), block_device::Why> {
        let number = self.0.reads.fetch_add(1, Ordering::Relaxed);
        let path = || HostPath::from("memory");
        let len = buffer.len();
        if number == self.0.cancel_at {
            self.0.cancel.store(true, Ordering::Relaxed);
        }
        if number == self.0.fail_at {
            let source = std::io::Error::from_raw_os_error(libc::EIO);
            return Err(block_device::Why::Read { path: path(), offset, len, source });
        }
        let from = usize::try_from(offset).ok();
        let bytes = match &self.0.later {
            Some((at, later)) if number >= *at => later,
            _ => &self.0.bytes,
        };
        match from.and_then(|from| bytes.get(from..)?.get(..len)) {
            Some(source) => buffer.copy_from_slice(source),
            None => return Err(block_device::Why::Short { path: path(), offset, len }),
        }
        Ok(())
    }
}

/// An image filled by mke2fs itself, which needs neither root nor a loop device.
fn image(features: &str, more: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    for d in 0..10 {
        let sub = tree.join(format!("dir{d}/sub"));
        fs::create_dir_all(&sub).unwrap();
        for f in 0..d * 4 {
            fs::write(sub.join(format!("file-{f}-{}", "x".repeat(f * 3))), vec![b'x'; f * 100]).unwrap();
        }
    }
    let crowd = tree.join("crowd");
    fs::create_dir(&crowd).unwrap();
    for at in 0..60 {
        fs::write(crowd.join(format!("{at}-{}", "y".repeat(200))), b"").unwrap();
    }
    fs::hard_link(tree.join("dir9/sub/file-0-"), tree.join("linked")).unwrap();
    std::os::unix::fs::symlink("nowhere", tree.join("symlink")).unwrap();
    let path = dir.path().join("image");
    fs::File::create(&path).unwrap().set_len(2 << 20).unwrap();
    let mut args = vec!["-q", "-F", "-b", "1024", "-N", "512", "-O", features];
    args.extend(more);
    args.extend(["-d", tree.to_str().unwrap(), path.to_str().unwrap()]);
    run("/sbin/mke2fs", &args.iter().map(AsRef::as_ref).collect::<Vec<_>>());
    // Makes a hashed index of the crowded directory, and dense directories.
    let _ =
        std::process::Command::new("/sbin/e2fsck").args(["-fyD", path.to_str().unwrap()]).output().unwrap();
    fs::read(&path).unwrap()
}

const CHECKED: &str = "^has_journal,extent,64bit,flex_bg,metadata_csum,huge_file,extra_isize";
const INLINE: &str = "^has_journal,extent,64bit,flex_bg,metadata_csum,huge_file,extra_isize,inline_data";
const UNCHECKED: &str = "^has_journal,extent,64bit,flex_bg,huge_file,extra_isize,^metadata_csum,^uninit_bg";
const UNCHECKED_INLINE: &str =
    "^has_journal,extent,64bit,flex_bg,huge_file,extra_isize,^metadata_csum,^uninit_bg,inline_data";
const BLOCK_MAPS: &str = "^has_journal,^extent,^64bit,^metadata_csum,^uninit_bg";

/// Numbers that repeat from run to run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }
}

/// Changes an image in one to three places, with a preference for what is in use.
fn mutate(dice: &mut Dice, image: &mut Vec<u8>, used: &[usize], copies: bool) {
    for _ in 0..=dice.below(3) {
        let block = match dice.below(4) {
            0 => 1,
            1 => 2,
            _ => used[dice.below(used.len())],
        };
        let at = (block * 1024 + dice.below(1024)).min(image.len().saturating_sub(8));
        match dice.below(8) {
            0..=2 => image[at] ^= 1 << dice.below(8),
            3 => image[at] = dice.below(256) as u8,
            4 | 5 => {
                const EXTREME: [u32; 12] =
                    [0, 1, 2, 4, 11, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, u32::MAX];
                let at = at & !3;
                let value = EXTREME[dice.below(EXTREME.len())];
                image[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
            6 if copies => {
                // One block in place of another: loops, and blocks that two claim.
                let from = used[dice.below(used.len())] * 1024;
                let to = used[dice.below(used.len())] * 1024;
                if from + 1024 <= image.len() && to + 1024 <= image.len() {
                    image.copy_within(from..from + 1024, to);
                }
            }
            _ => {
                if dice.below(20) == 0 {
                    let len = dice.below(image.len());
                    image.truncate(len);
                    return;
                }
                let value = dice.below(512) as u32;
                let at = at & !3;
                image[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
    }
}

fn used_blocks(image: &[u8]) -> Vec<usize> {
    image
        .chunks(1024)
        .enumerate()
        .filter(|(_, block)| block.iter().any(|&b| b != 0))
        .map(|(at, _)| at)
        .collect()
}

/// The most memory this process had, in KiB.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[derive(Debug, Default)]
struct Outcomes {
    refused: usize,
    troubled: usize,
    equal: usize,
    differing: usize,
}

/// Every line; unlike [`facts`], a path may come twice.
fn sorted(listing: &Listing) -> Vec<(HostPath, u32, Record)> {
    let mut lines: Vec<_> =
        listing.paths.iter().map(|listed| (listed.path.clone(), listed.ino, listed.record)).collect();
    lines.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    lines
}

fn fuzz(features: &str, more: &[&str], seed: u64, copies: bool) -> Outcomes {
    let rounds: usize =
        std::env::var("UNWEDGE_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4000);
    let sound = image(features, more);
    let used = used_blocks(&sound);
    let original = {
        let found = Memory::new(sound.clone()).list(1, 1 << 30).unwrap();
        assert!(found.troubles.is_empty(), "{:?}", found.troubles);
        sorted(&found)
    };
    assert!(original.len() > 250, "{}", original.len());
    let mut dice = Dice(seed);
    let mut outcomes = Outcomes::default();
    let before = peak_kib();
    for _ in 0..rounds {
        let mut bytes = sound.clone();
        mutate(&mut dice, &mut bytes, &used, copies);
        match Memory::new(bytes.clone()).list(1, 64 << 20) {
            Err(_) => outcomes.refused += 1,
            Ok(found)
                if !(found.troubles.is_empty() && found.unknown.is_empty() && found.repeated.is_empty()) =>
            {
                outcomes.troubled += 1;
            }
            Ok(found) => {
                let lines = sorted(&found);
                let same = lines == original;
                if !same && !copies {
                    // Where there are checksums, no difference is right: show it.
                    for pair in original.iter().filter(|line| !lines.contains(line)).take(3) {
                        eprintln!("missing or changed: {pair:?}");
                    }
                    for pair in lines.iter().filter(|line| !original.contains(line)).take(3) {
                        eprintln!("new or changed: {pair:?}");
                    }
                    let now = &bytes;
                    for (at, (was, is)) in
                        sound.iter().zip(now).enumerate().filter(|(_, (was, is))| was != is)
                    {
                        eprintln!("block {} byte {:#x}: {was:#x} became {is:#x}", at / 1024, at % 1024);
                    }
                }
                *(if same { &mut outcomes.equal } else { &mut outcomes.differing }) += 1;
            }
        }
    }
    let grown = peak_kib().saturating_sub(before);
    assert!(grown < 256 * 1024, "peak memory grew by {grown} KiB");
    eprintln!("{rounds} mutated images ({features} {more:?}): {outcomes:?}, peak memory grew by {grown} KiB");
    outcomes
}

#[test]
fn with_checksums_damage_never_gives_a_wrong_listing() {
    for (features, seed) in [(CHECKED, 1), (INLINE, 2)] {
        // A block written over another of the same directory keeps a right checksum: the kernel lists that too.
        let outcomes = fuzz(features, &["-t", "ext4", "-I", "256"], seed, false);
        assert_eq!(outcomes.differing, 0);
        assert!(outcomes.refused > 0 && outcomes.troubled > 0 && outcomes.equal > 0);
    }
}

#[test]
fn without_checksums_damage_never_panics_or_hangs() {
    for (features, kind, size, seed) in
        [(UNCHECKED, "ext4", "256", 3), (UNCHECKED_INLINE, "ext4", "256", 4), (BLOCK_MAPS, "ext3", "128", 5)]
    {
        let outcomes = fuzz(features, &["-t", kind, "-I", size], seed, true);
        assert!(outcomes.refused > 0 && outcomes.troubled > 0);
    }
}

#[test]
fn a_device_that_fails_at_any_read_is_an_error() {
    let sound = image(INLINE, &["-t", "ext4", "-I", "256"]);
    let memory = Memory::new(sound.clone());
    memory.list(1, 1 << 30).unwrap();
    let reads = memory.reads.load(Ordering::Relaxed);
    assert!(reads > 5);
    for fail_at in 0..reads {
        for threads in [1, 3] {
            let memory = Memory { fail_at, ..Memory::new(sound.clone()) };
            let why = memory.list(threads, 1 << 30).unwrap_err();
            assert!(matches!(why, Why::Device(block_device::Why::Read { .. })), "read {fail_at}: {why}");
            assert!(why.to_string().starts_with("cannot read "), "{why}");
        }
    }
    eprintln!("{reads} reads failed one after the other, each an error");
}

#[test]
fn a_reading_can_be_cancelled_at_any_read() {
    let sound = image(CHECKED, &["-t", "ext4"]);
    let memory = Memory::new(sound.clone());
    memory.list(1, 1 << 30).unwrap();
    // The last read is that of the superblock, after all work was done.
    for cancel_at in 0..memory.reads.load(Ordering::Relaxed) - 1 {
        let memory = Memory { cancel_at, ..Memory::new(sound.clone()) };
        assert!(matches!(memory.list(2, 1 << 30), Err(Why::Cancelled)), "at read {cancel_at}");
    }
}

/// Growing a mounted file system needs a capability that containers lack, so the image is grown aside.
#[test]
fn a_resize_meanwhile_is_noticed() {
    let mut sound = image(CHECKED, &["-t", "ext4"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    sound.resize(12 << 20, 0);
    fs::write(file.path(), &sound).unwrap();
    run("/sbin/resize2fs", &[file.path().as_os_str()]);
    let grown = fs::read(file.path()).unwrap();
    assert_eq!(
        facts(&Memory::new(grown.clone()).list(1, 1 << 30).unwrap()),
        facts(&Memory::new(sound.clone()).list(1, 1 << 30).unwrap())
    );
    let memory = Memory::new(sound.clone());
    memory.list(1, 1 << 30).unwrap();
    for at in 1..memory.reads.load(Ordering::Relaxed) {
        let memory = Memory { later: Some((at, grown.clone())), ..Memory::new(sound.clone()) };
        let why = memory.list(2, 1 << 30).unwrap_err();
        assert!(matches!(why, Why::Changed | Why::Damaged { .. }), "at read {at}: {why}");
    }
}

#[test]
fn memory_is_not_exceeded() {
    let sound = image(CHECKED, &["-t", "ext4"]);
    let why = Memory::new(sound.clone()).list(2, 3000).unwrap_err();
    assert!(matches!(why, Why::Memory { .. }), "{why}");
    Memory::new(sound).list(2, 100_000).unwrap();
}

#[test]
fn a_truncated_device_is_an_error() {
    let sound = image(CHECKED, &["-t", "ext4"]);
    for len in (0..sound.len()).step_by(60_000) {
        assert!(Memory::new(sound[..len].to_vec()).list(1, 1 << 30).is_err(), "{len} bytes");
    }
}

/// Where a directory's blocks are, from debugfs(8).
fn blocks_of(sound: &[u8], path: &str) -> Vec<usize> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), sound).unwrap();
    let out = debugfs(file.path(), &format!("blocks {path}"));
    out.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

fn debugfs(image: &Path, request: &str) -> String {
    let out = run("/sbin/debugfs", &["-w".as_ref(), "-R".as_ref(), request.as_ref(), image.as_os_str()]);
    String::from_utf8(out).unwrap()
}

#[test]
fn directory_blocks_that_lie_are_troubles_of_that_directory_only() {
    let sound = image(UNCHECKED, &["-t", "ext4"]);
    let whole = facts(&Memory::new(sound.clone()).list(1, 1 << 30).unwrap());
    let block = blocks_of(&sound, "/dir5/sub")[0] * 1024;
    let lies: [(&str, usize, &[u8]); 7] = [
        ("zero length", 4, &[0, 0]),
        ("length of 8", 4, &[8, 0]),
        ("odd length", 4, &[13, 0]),
        ("length beyond the block", 4, &[0xff, 0xff]),
        ("name longer than its entry", 6, &[255]),
        ("inode number out of range", 24, &[0xff, 0xff, 0xff, 0x7f]),
        ("a slash in a name", 32, b"/"),
    ];
    for (lie, at, bytes) in lies {
        let mut image = sound.clone();
        image[block + at..block + at + bytes.len()].copy_from_slice(bytes);
        let found = Memory::new(image).list(1, 1 << 30).unwrap();
        assert_eq!(found.troubles.len(), 1, "{lie}: {:?}", found.troubles);
        let dir = whole[&b"dir5/sub"[..]].0;
        assert_eq!(u64::from(found.troubles[0].ino), dir, "{lie}");
        let rest = |all: &BTreeMap<Vec<u8>, Facts>| {
            all.iter()
                .filter(|(path, _)| !path.starts_with(b"dir5/sub/"))
                .map(|(path, facts)| (path.clone(), *facts))
                .collect::<BTreeMap<_, _>>()
        };
        assert_eq!(rest(&facts(&found)), rest(&whole), "{lie}");
    }
}

#[test]
fn without_checksums_names_are_counted() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for (features, kind) in [(UNCHECKED, "ext4"), (BLOCK_MAPS, "ext3")] {
        let sound = image(features, &["-t", kind]);
        for change in [
            "ln / /dir3/up",
            "ln /dir5/sub/file-1-xxx /dir6/again",
            "unlink /dir5/sub/file-1-xxx",
            "sif /dir5/sub/file-1-xxx links_count 2",
            "sif /dir5 links_count 4",
            "unlink /dir5",
        ] {
            fs::write(file.path(), &sound).unwrap();
            debugfs(file.path(), change);
            let result = Memory::new(fs::read(file.path()).unwrap()).list(1, 1 << 30);
            let why = result.expect_err(change).to_string();
            assert!(why.contains("as many names as it says"), "{change}: {why}");
        }
    }
}

#[test]
fn directories_that_loop_or_share_blocks_are_noticed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let sound = image(CHECKED, &["-t", "ext4"]);
    let list = |change: &[&str]| {
        fs::write(file.path(), &sound).unwrap();
        for request in change {
            debugfs(file.path(), request);
        }
        Memory::new(fs::read(file.path()).unwrap()).list(1, 1 << 30)
    };
    let looped = list(&["ln / /dir3/up", "ln /dir4 /dir5/again"]).unwrap();
    assert_eq!(looped.repeated.len(), 2, "{:?}", looped.repeated);
    let freed = list(&["clri /dir9/sub/file-1-xxx"]).unwrap();
    assert_eq!(freed.unknown.len(), 1, "{:?}", freed.unknown);
    let block = blocks_of(&sound, "/dir6")[0];
    let shared = list(&[&format!("sif /dir7 block[5] {block}")]).unwrap();
    assert_eq!(shared.troubles.len(), 2, "{:?}", shared.troubles);
    let outside = list(&["sif /dir7 block[5] 4000000"]).unwrap();
    assert_eq!(outside.troubles.len(), 1, "{:?}", outside.troubles);
    let long = list(&["sif /dir7 size 0x7ffffc00"]).unwrap();
    assert_eq!(long.troubles.len(), 1, "{:?}", long.troubles);
    let depth = list(&["sif /dir7 block[1] 0x00050004"]).unwrap();
    assert_eq!(depth.troubles.len(), 1, "{:?}", depth.troubles);
    let negative = list(&["sif /dir7/sub/file-1-xxx size 0x8000000000000000"]).unwrap();
    assert_eq!(negative.troubles.len(), 1, "{:?}", negative.troubles);
    assert!(matches!(list(&["ssv blocks_count 4000000"]), Err(Why::Damaged { .. })));
    assert!(matches!(list(&["ssv inodes_count 4000000"]), Err(Why::Damaged { .. })));
    assert!(matches!(list(&["ssv state 2"]), Err(Why::HasErrors)));
    assert!(matches!(list(&["feature needs_recovery"]), Err(Why::NeedsRecovery)));
    assert!(matches!(list(&["set_bg 0 inode_table 3999999"]), Err(Why::Damaged { .. })));
    assert!(matches!(list(&["clri /"]), Err(Why::Damaged { .. })));
}
