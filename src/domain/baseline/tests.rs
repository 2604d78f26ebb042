use proptest::prelude::*;

use super::diff::{Change, How, diff};
use super::*;

const MIB: u64 = 1 << 20;

/// A tree by its files, `a/b` → size; directories take what is in them.
fn tree(floor: u64, files: &[(&str, u64)]) -> Baseline {
    let mut builder = Builder::new(Timestamp::UNIX_EPOCH, "/srv".into(), Bytes(floor), 0);
    fill(&mut builder, "", files, floor);
    builder.finish()
}

fn fill(builder: &mut Builder, name: &str, files: &[(&str, u64)], floor: u64) {
    let sum = files.iter().map(|file| file.1).sum();
    builder.open(name.as_bytes(), sum, files.len() as u64 + 1);
    let mut inside: std::collections::BTreeMap<&str, Vec<(&str, u64)>> = std::collections::BTreeMap::new();
    for &(path, size) in files {
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        inside.entry(first).or_default().push((rest, size));
    }
    for (name, files) in inside {
        if files.iter().map(|file| file.1).sum::<u64>() < floor {
            continue;
        }
        if files[0].0.is_empty() {
            builder.file(name.as_bytes(), files[0].1);
        } else {
            fill(builder, name, &files, floor);
        }
    }
    builder.close();
}

fn told(old: &Baseline, new: &Baseline) -> Vec<(String, How, i64)> {
    let one = |change: &Change| {
        let slash = if change.directory { "/" } else { "" };
        (format!("{}{slash}", change.path), change.how, change.delta / i64::try_from(MIB).unwrap())
    };
    diff(old, new).unwrap().changes.iter().map(one).collect()
}

#[test]
fn growth_is_told_at_the_deepest_place_that_explains_it() {
    let small: Vec<(String, u64)> = (0..1000).map(|i| (format!("ci/target/deps/f{i:04}"), MIB)).collect();
    let mut before = vec![("home/al/movie", 100 * MIB), ("log/app.log", 50 * MIB), ("old/dump", 700 * MIB)];
    before.extend(small.iter().take(100).map(|(path, size)| (path.as_str(), *size)));
    let mut now = vec![
        ("home/al/movie", 100 * MIB),
        ("log/app.log", 2050 * MIB),
        ("new/cache/a/blob", 400 * MIB),
        ("new/cache/a/index", 10 * MIB),
        ("new/cache/z", 5 * MIB),
    ];
    now.extend(small.iter().map(|(path, size)| (path.as_str(), *size)));
    let (old, new) = (tree(MIB, &before), tree(MIB, &now));
    assert_eq!(
        told(&old, &new),
        [
            // One file, none of the directories above it.
            ("/srv/log/app.log".to_owned(), How::Grown, 2000),
            // A thousand files none of which matters.
            ("/srv/ci/target/deps/".to_owned(), How::Grown, 900),
            // Nearly all of what is new is one file.
            ("/srv/new/cache/a/blob".to_owned(), How::Appeared, 400),
            ("/srv/old/dump".to_owned(), How::Vanished, -700),
        ]
    );
    let all = diff(&old, &new).unwrap();
    assert_eq!(all.other, i64::try_from(15 * MIB).unwrap(), "index and z");
    assert_eq!((all.before, all.now), (old.allocated(), new.allocated()));
    assert_eq!(told(&new, &new), []);
}

#[test]
fn what_came_as_a_whole_is_one_thing() {
    let old = tree(MIB, &[("keep", 10 * MIB)]);
    let new = tree(MIB, &[("keep", 10 * MIB), ("x/y/a", 30 * MIB), ("x/y/b", 30 * MIB), ("x/y/c", 30 * MIB)]);
    assert_eq!(told(&old, &new), [("/srv/x/y/".to_owned(), How::Appeared, 90)]);
    assert_eq!(told(&new, &old), [("/srv/x/y/".to_owned(), How::Vanished, -90)]);
}

#[test]
fn small_files_count_with_their_directory_and_floors_may_differ() {
    let files: Vec<(String, u64)> = (0..64).map(|i| (format!("d/f{i:02}"), MIB / 4)).collect();
    let as_tree = |floor, count| {
        let some: Vec<(&str, u64)> =
            files.iter().take(count).map(|(path, size)| (path.as_str(), *size)).collect();
        tree(floor, &some)
    };
    let expected = [("/srv/d/".to_owned(), How::Grown, 8)];
    assert_eq!(told(&as_tree(MIB, 32), &as_tree(MIB, 64)), expected);
    // Only the older one names the files.
    assert_eq!(told(&as_tree(512, 32), &as_tree(MIB, 64)), expected);
}

#[test]
fn a_part_of_it_can_be_compared_and_a_stranger_not() {
    let old = tree(MIB, &[("a/b/file", 5 * MIB), ("other", 9 * MIB)]);
    let mut part = Builder::new(Timestamp::UNIX_EPOCH, "/srv/a/b".into(), Bytes(MIB), 0);
    part.open(b"", 8 * MIB, 2);
    part.file(b"file", 8 * MIB);
    assert_eq!(told(&old, &part.finish()), [("/srv/a/b/file".to_owned(), How::Grown, 3)]);
    for (root, why) in [("/home", "does not hold"), ("/srv/new", "is not named")] {
        let mut part = Builder::new(Timestamp::UNIX_EPOCH, root.into(), Bytes(MIB), 0);
        part.open(b"", 1, 1);
        let refused = diff(&old, &part.finish()).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn the_floor_rises_until_it_fits() {
    let names: Vec<String> = (0..20_000).map(|i| format!("{i:0>60}")).collect();
    let files: Vec<(&str, u64)> =
        names.iter().zip(0..).map(|(name, i)| (name.as_str(), 512 << (i % 14))).collect();
    let whole = tree(512, &files);
    let (fitting, bytes) = whole.clone().packed();
    assert!(bytes.len() as u64 <= budget(whole.entries()), "{}", bytes.len());
    assert!(fitting.floor > whole.floor && fitting.named() > 100, "{} {}", fitting.floor, fitting.named());
    assert_eq!((fitting.allocated(), fitting.entries()), (whole.allocated(), whole.entries()));
    assert_eq!(Baseline::from_bytes(&bytes), Ok(fitting));
}

#[test]
fn what_is_no_snapshot_is_refused_with_a_reason() {
    let bytes = tree(512, &[("a", 512), ("b/c", 1024)]).to_bytes();
    assert_eq!(root_of(&bytes), Some("/srv".into()));
    assert!(Baseline::from_bytes(&bytes).is_ok());
    assert_eq!(Baseline::from_bytes(b"{}"), Err(Damage::NotOne));
    for length in 8..bytes.len() {
        let damage = Baseline::from_bytes(&bytes[..length]).unwrap_err();
        assert!(matches!(damage, Damage::Length { .. }), "{length}: {damage}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Baseline::from_bytes(&flipped).is_err(), "bit {bit}");
    }
    // With a right checksum, but not in order.
    let mut twice = Builder::new(Timestamp::UNIX_EPOCH, "/srv".into(), Bytes(0), 0);
    twice.open(b"", 0, 3);
    twice.file(b"same", 0);
    twice.file(b"same", 0);
    let twice = Baseline::from_bytes(&twice.finish().to_bytes());
    assert_eq!(twice, Err(Damage::Malformed("names are not in order")));
}

/// Any body with a right head and checksum.
fn sealed(body: &[u8]) -> Vec<u8> {
    let mut bytes = b"unwedgeB\x01\x00".to_vec();
    bytes.extend((body.len() as u64).to_le_bytes());
    bytes.extend(body);
    let sum = crc32c::crc32c(&bytes);
    bytes.extend(sum.to_le_bytes());
    bytes
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Baseline::from_bytes(&body).is_err());
        let _ = root_of(&body);
        let mut almost = vec![0, 0, 0, 1, b'/'];
        almost.extend(&body);
        for body in [&body, &almost] {
            if let Ok(read) = Baseline::from_bytes(&sealed(body)) {
                prop_assert_eq!(Baseline::from_bytes(&read.to_bytes()), Ok(read.clone()));
                prop_assert_eq!(diff(&read, &read).unwrap().changes, vec![]);
                let _ = read.coarser(Bytes(4096));
            }
        }
    }

    #[test]
    fn every_tree_comes_back_and_every_byte_of_a_change_is_told_once(
        old in proptest::collection::btree_map("[a-c](/[a-c]){0,3}f", 0u64..99, 0..30),
        new in proptest::collection::btree_map("[a-c](/[a-c]){0,3}f", 0u64..99, 0..30),
        floor in 0u64..40,
    ) {
        let as_tree = |files: &std::collections::BTreeMap<String, u64>| {
            let files: Vec<(&str, u64)> = files.iter().map(|(path, size)| (path.as_str(), size * 512)).collect();
            tree(floor * 512, &files)
        };
        let (old, new) = (as_tree(&old), as_tree(&new));
        prop_assert_eq!(Baseline::from_bytes(&new.to_bytes()), Ok(new.clone()));
        let changes = diff(&old, &new).unwrap();
        let told: i64 = changes.changes.iter().map(|change| change.delta).sum();
        let whole = i64::try_from(new.allocated().0).unwrap() - i64::try_from(old.allocated().0).unwrap();
        prop_assert_eq!(told + changes.other, whole);
    }
}
