//! Every feature on the allow-list, proven on real images: what is read from the device must equal what find(1) says.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::cast_sign_loss,
    reason = "tests make and change their own images in a temporary directory"
)]

#[path = "common/ext4.rs"]
mod common;

use std::fs;

use common::{Image, assert_equal, can_mount, oracle, populate, run};
use unwedge::scan::ext4::Why;

/// Makes an image, fills it, and compares mounted, mounted again, and unmounted.
fn exact(mib: u64, mkfs: &[&str], mount: &str, many: u32, expected_features: &[&str]) {
    if !can_mount() {
        return;
    }
    let mut image = Image::make(mib, mkfs);
    let features = image.features();
    for feature in expected_features {
        assert!(
            features.split_whitespace().any(|known| known == *feature),
            "{feature} is not in: {features}"
        );
    }
    image.mount(mount);
    populate(&image.root(), many);
    image.syncfs();
    let lines = oracle(&image.root());
    let listing = image.read_mounted().unwrap();
    assert_equal("mounted", &lines, &listing);
    // Once more with nothing of the kernel's in memory but what a fresh mount reads.
    image.unmount();
    image.mount(mount);
    let lines = oracle(&image.root());
    assert_equal("mounted again", &lines, &image.read_mounted().unwrap());
    image.unmount();
    assert_equal("image", &lines, &image.read_image().unwrap());
    eprintln!("{} lines equal, three times: {features}", lines.len());
}

macro_rules! exact {
    ($($name:ident: $mib:literal MiB $mkfs:expr, $mount:literal, $many:literal, $features:expr;)+) => {
        $(#[test]
        fn $name() {
            exact($mib, &$mkfs, $mount, $many, &$features);
        })+
    };
}

exact! {
    ext4_as_made_today: 128 MiB ["-t", "ext4", "-N", "40000"], "", 20_000,
        ["has_journal", "extent", "64bit", "flex_bg", "metadata_csum", "huge_file", "dir_nlink", "extra_isize", "dir_index", "resize_inode"];
    ext4_with_all_of_e2fsprogs_1_47: 128 MiB ["-t", "ext4", "-N", "40000", "-O", "metadata_csum_seed,orphan_file,fast_commit"], "", 20_000,
        ["metadata_csum_seed", "orphan_file", "fast_commit"];
    blocks_of_1k: 128 MiB ["-t", "ext4", "-b", "1024", "-N", "40000"], "", 20_000, ["metadata_csum"];
    blocks_of_2k: 64 MiB ["-t", "ext4", "-b", "2048", "-N", "16000"], "", 4000, ["metadata_csum"];
    inodes_of_128: 64 MiB ["-t", "ext4", "-I", "128", "-N", "16000"], "", 4000, ["metadata_csum"];
    inodes_of_512: 64 MiB ["-t", "ext4", "-I", "512", "-N", "16000"], "", 4000, ["metadata_csum"];
    inodes_of_1024_in_1k_blocks: 64 MiB ["-t", "ext4", "-b", "1024", "-I", "1024", "-N", "16000"], "", 4000, ["metadata_csum"];
    without_64bit: 64 MiB ["-t", "ext4", "-O", "^64bit", "-N", "16000"], "", 4000, ["metadata_csum"];
    without_checksums: 64 MiB ["-t", "ext4", "-O", "^metadata_csum", "-N", "16000"], "", 4000, ["flex_bg"];
    uninit_bg: 64 MiB ["-t", "ext4", "-O", "^metadata_csum,uninit_bg", "-N", "16000"], "", 4000, ["uninit_bg"];
    uninit_bg_without_64bit: 64 MiB ["-t", "ext4", "-O", "^metadata_csum,^64bit,uninit_bg", "-b", "1024", "-N", "16000"], "", 4000, ["uninit_bg"];
    meta_bg: 64 MiB ["-t", "ext4", "-O", "meta_bg,^resize_inode", "-b", "1024", "-g", "1024", "-N", "16000"], "", 4000, ["meta_bg"];
    meta_bg_in_4k_blocks: 256 MiB ["-t", "ext4", "-O", "meta_bg,^resize_inode,^flex_bg", "-g", "256", "-N", "16384"], "", 4000, ["meta_bg"];
    sparse_super2: 64 MiB ["-t", "ext4", "-O", "sparse_super2,^resize_inode", "-N", "16000"], "", 4000, ["sparse_super2"];
    sparse_super2_and_meta_bg: 64 MiB ["-t", "ext4", "-O", "sparse_super2,meta_bg,^resize_inode", "-b", "1024", "-g", "1024", "-N", "16000"], "", 4000,
        ["sparse_super2", "meta_bg"];
    without_sparse_super: 64 MiB ["-t", "ext4", "-O", "^sparse_super,^resize_inode", "-b", "1024", "-N", "16000"], "", 4000, ["ext_attr"];
    without_flex_bg: 64 MiB ["-t", "ext4", "-O", "^flex_bg", "-b", "1024", "-N", "16000"], "", 4000, ["metadata_csum"];
    without_journal: 64 MiB ["-t", "ext4", "-O", "^has_journal", "-N", "16000"], "", 4000, ["metadata_csum"];
    large_dir: 64 MiB ["-t", "ext4", "-O", "large_dir", "-b", "1024", "-N", "40000"], "", 20_000, ["large_dir"];
    inline_data: 64 MiB ["-t", "ext4", "-O", "inline_data", "-N", "16000"], "", 4000, ["inline_data"];
    inline_data_in_large_inodes: 64 MiB ["-t", "ext4", "-O", "inline_data,^metadata_csum", "-I", "1024", "-N", "16000"], "", 4000, ["inline_data"];
    inline_data_in_1k_blocks: 64 MiB ["-t", "ext4", "-O", "inline_data", "-b", "1024", "-I", "512", "-N", "16000"], "", 4000, ["inline_data"];
    ea_inode: 64 MiB ["-t", "ext4", "-O", "ea_inode", "-N", "16000"], "", 4000, ["ea_inode"];
    ea_inode_and_inline_data: 64 MiB ["-t", "ext4", "-O", "ea_inode,inline_data", "-N", "16000"], "", 4000, ["ea_inode", "inline_data"];
    bigalloc: 256 MiB ["-t", "ext4", "-O", "bigalloc", "-C", "16384", "-N", "16000"], "", 4000, ["bigalloc"];
    bigalloc_in_1k_blocks: 256 MiB ["-t", "ext4", "-O", "bigalloc", "-b", "1024", "-C", "8192", "-N", "16000"], "", 4000, ["bigalloc"];
    bigalloc_and_inline_data: 256 MiB ["-t", "ext4", "-O", "bigalloc,inline_data", "-C", "65536", "-N", "16000"], "", 2000, ["bigalloc", "inline_data"];
    mmp: 64 MiB ["-t", "ext4", "-O", "mmp", "-N", "16000"], "", 2000, ["mmp"];
    without_filetype: 64 MiB ["-t", "ext4", "-O", "^filetype", "-N", "16000"], "", 4000, ["metadata_csum"];
    without_huge_file: 64 MiB ["-t", "ext4", "-O", "^huge_file,^dir_nlink", "-N", "16000"], "", 4000, ["metadata_csum"];
    without_dir_index: 64 MiB ["-t", "ext4", "-O", "^dir_index", "-N", "16000"], "", 2000, ["metadata_csum"];
    without_extents: 64 MiB ["-t", "ext4", "-O", "^extents,^64bit", "-b", "1024", "-N", "16000"], "", 8000, ["metadata_csum"];
    lazytime_is_flushed: 64 MiB ["-t", "ext4", "-N", "16000"], "lazytime", 2000, ["metadata_csum"];
    ext2: 128 MiB ["-t", "ext2", "-N", "20000"], "", 4000, ["ext_attr", "large_file"];
    ext2_in_1k_blocks: 128 MiB ["-t", "ext2", "-b", "1024", "-N", "40000"], "", 12_000, ["ext_attr"];
    ext3: 128 MiB ["-t", "ext3", "-N", "20000"], "", 4000, ["has_journal"];
    ext3_in_1k_blocks: 128 MiB ["-t", "ext3", "-b", "1024", "-I", "128", "-N", "60000"], "", 40_000, ["has_journal"];
    stable_inodes_and_encrypt_unused: 64 MiB ["-t", "ext4", "-O", "encrypt,stable_inodes", "-N", "16000"], "", 2000, ["encrypt", "stable_inodes"];
}

/// The first revision knew no features, and inodes of 128 bytes only.
#[test]
fn revision_0() {
    if !can_mount() {
        return;
    }
    let mut image = Image::make(32, &["-t", "ext2", "-r", "0", "-O", "none", "-N", "4000"]);
    image.mount("");
    for at in 0..500 {
        fs::write(image.root().join(format!("file-{at}")), vec![b'x'; at * 40]).unwrap();
    }
    fs::create_dir(image.root().join("dir")).unwrap();
    image.syncfs();
    let lines = oracle(&image.root());
    assert_equal("mounted", &lines, &image.read_mounted().unwrap());
    image.unmount();
    assert_equal("image", &lines, &image.read_image().unwrap());
}

/// The kernel here may lack the quota format and then mounts this read-only: the tree is made before.
#[test]
fn quota_and_project() {
    if !can_mount() {
        return;
    }
    let mut image = Image::make(64, &["-t", "ext4", "-N", "16000"]);
    image.mount("");
    populate(&image.root(), 4000);
    image.unmount();
    let path = image.path();
    let args = ["-O", "quota,project", "-Q", "usrquota,grpquota,prjquota"].map(AsRef::as_ref);
    run("/sbin/tune2fs", &[&args[..], &[path.as_os_str()]].concat());
    assert!(
        image.features().contains(" quota") && image.features().contains(" project"),
        "{}",
        image.features()
    );
    image.mount("ro");
    let lines = oracle(&image.root());
    assert_equal("mounted", &lines, &image.read_mounted().unwrap());
    image.unmount();
    assert_equal("image", &lines, &image.read_image().unwrap());
}

/// What [`populate`] makes for this purpose really has deep trees, or the other tests would prove nothing.
#[test]
fn the_directories_are_as_deep_as_meant() {
    if !can_mount() {
        return;
    }
    for (kind, sign) in [("ext4", "ETB1"), ("ext3", "DIND")] {
        let mut image = Image::make(64, &["-t", kind, "-b", "1024", "-N", "40000"]);
        image.mount("");
        populate(&image.root(), 20_000);
        image.syncfs();
        let lines = oracle(&image.root());
        assert_equal(kind, &lines, &image.read_mounted().unwrap());
        image.unmount();
        let path = image.path();
        let out = run("/sbin/debugfs", &["-R".as_ref(), "stat /frag-a".as_ref(), path.as_os_str()]);
        let out = String::from_utf8_lossy(&out);
        assert!(out.contains(sign), "{out}");
    }
}

/// With more than 64998 subdirectories the link count is 1 (`dir_nlink`).
#[test]
fn a_directory_with_too_many_subdirectories_to_count() {
    if !can_mount() {
        return;
    }
    let mut image = Image::make(256, &["-t", "ext4", "-b", "1024", "-N", "80000", "-O", "^has_journal"]);
    image.mount("");
    let wide = image.root().join("wide");
    fs::create_dir(&wide).unwrap();
    for at in 0..65_100 {
        fs::create_dir(wide.join(at.to_string())).unwrap();
    }
    let lines = oracle(&image.root());
    assert_eq!(lines[&b"wide"[..]].4, 1);
    assert_equal("mounted", &lines, &image.read_mounted().unwrap());
}

/// What is not proven is refused, and by name.
#[test]
fn what_is_not_proven_is_refused() {
    let refused = |mkfs: &[&str]| match Image::make(32, mkfs).read_image() {
        Err(Why::Feature { name }) => name,
        other => panic!("{mkfs:?}: {other:?}"),
    };
    assert!(refused(&["-t", "ext4", "-O", "casefold"]).contains("casefold"));
    assert!(refused(&["-t", "ext4", "-O", "verity"]).contains("verity"));
    assert!(refused(&["-t", "ext4", "-b", "65536"]).contains("2^16"));
    assert!(
        refused(&["-t", "ext4", "-o", "hurd", "-I", "128", "-O", "^metadata_csum"])
            .contains("operating system 1")
    );
    assert!(refused(&["-O", "journal_dev"]).contains("journal_dev"));
    let empty = tempfile::NamedTempFile::new().unwrap();
    let blank = |len: u64| {
        empty.as_file().set_len(len).unwrap();
        let image = unwedge::sys::block_device::ImageFile::open(empty.path()).unwrap();
        common::read(image, unwedge::scan::ext4::Mounted::No)
    };
    assert!(matches!(blank(0), Err(Why::NotExt4)));
    assert!(matches!(blank(1 << 20), Err(Why::NotExt4)));
}
