//! `/proc/PID/mountinfo`, parsed as bytes (`proc_pid_mountinfo(5)`; written by `show_mountinfo` in
//! `fs/proc_namespace.c`).
//!
//! A mount point can hold any byte but NUL, so nothing here assumes UTF-8. The kernel escapes space, tab, newline,
//! backslash and `#` as a backslash with three octal digits.

use std::borrow::Cow;
use std::path::Path;

use crate::domain::identity::DevId;
use crate::domain::text::{HostPath, HostText};

/// One line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// The mount's id, reused by the kernel after an unmount.
    pub id: u32,
    /// The id of the mount it is mounted on; for the root of the tree an id that is not in the list, or its own.
    pub parent: u32,
    /// `st_dev` of files on it.
    pub dev: DevId,
    /// The directory of the file system that is mounted; ends in `//deleted` where that was removed.
    pub root: HostPath,
    /// Where it is mounted, relative to the root directory of the process whose file was read.
    pub mount_point: HostPath,
    /// Options of this mount (`rw,relatime`).
    pub options: HostText,
    /// Optional fields: propagation (`shared:1`, `master:2`, `propagate_from:3`, `unbindable`).
    pub optional: Vec<HostText>,
    /// The file system type, with a subtype after a dot (`fuse.sshfs`).
    pub fs_type: HostText,
    /// What is mounted; may be empty.
    pub source: HostText,
    /// Options of the file system as a whole (superblock).
    pub super_options: HostText,
}

impl MountEntry {
    /// Whether nothing can be changed through this mount: it or its file system is read-only.
    pub fn is_read_only(&self) -> bool {
        has_option(&self.options, b"ro") || self.is_file_system_read_only()
    }

    /// Whether nothing can be changed on its file system. After an error ext4 still says `rw` and refuses to write
    /// (`EXT4_FLAGS_EMERGENCY_RO` and `EXT4_FLAGS_SHUTDOWN`, shown by `_ext4_show_options` in `fs/ext4/super.c`).
    pub fn is_file_system_read_only(&self) -> bool {
        [&b"ro"[..], b"emergency_ro", b"shutdown"]
            .iter()
            .any(|option| has_option(&self.super_options, option))
    }

    /// Whether the file system as a whole has an option (`ro`), whatever its value.
    pub fn has_super_option(&self, name: &[u8]) -> bool {
        has_option(&self.super_options, name) || self.super_option(name).is_some()
    }

    /// The value of an option of the file system (`upperdir=…`), its escapes undone.
    pub fn super_option(&self, name: &[u8]) -> Option<Vec<u8>> {
        self.super_options
            .as_bytes()
            .split(|&byte| byte == b',')
            .find_map(|option| option.strip_prefix(name)?.strip_prefix(b"="))
            .map(|value| unescape(value).into_owned())
    }
}

fn has_option(options: &HostText, name: &[u8]) -> bool {
    options.as_bytes().split(|&byte| byte == b',').any(|option| option == name)
}

/// What a mountinfo file held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The mounts, in the kernel's order: a parent before its children, older before newer.
    pub entries: Vec<MountEntry>,
    /// Lines that are not as the manual says. Counted so that a caller can say that something is missing.
    pub malformed: u32,
}

impl Parsed {
    /// What is missing from it, as a sentence, for the file it was read from.
    pub fn gap(&self, path: &Path) -> Option<String> {
        (self.malformed > 0).then(|| {
            format!("{} lines of {} are not in the format of proc(5)", self.malformed, path.display())
        })
    }
}

/// Parses a mountinfo file. Never fails: lines that make no sense are counted.
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut parsed = Parsed::default();
    for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        match parse_line(line) {
            Some(entry) => parsed.entries.push(entry),
            None => parsed.malformed = parsed.malformed.saturating_add(1),
        }
    }
    parsed
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    // Split at each single space: an empty source leaves two in a row.
    let mut fields = line.split(|&byte| byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let dev = device(fields.next()?)?;
    let root = HostPath::from_bytes(unescape(fields.next()?).into_owned());
    let mount_point = HostPath::from_bytes(unescape(fields.next()?).into_owned());
    let options = HostText::new(fields.next()?);
    let mut optional = Vec::new();
    loop {
        match fields.next()? {
            b"-" => break,
            field => optional.push(HostText::new(field)),
        }
    }
    let fs_type = HostText::new(unescape(fields.next()?).into_owned());
    let source = HostText::new(unescape(fields.next()?).into_owned());
    // Some file systems print option values with raw spaces: the rest of the line belongs to the options.
    let super_options = HostText::new(fields.collect::<Vec<_>>().join(&b' '));
    (!mount_point.as_bytes().is_empty()).then_some(MountEntry {
        id,
        parent,
        dev,
        root,
        mount_point,
        options,
        optional,
        fs_type,
        source,
        super_options,
    })
}

fn number(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// A device number written `major:minor` in decimal.
pub fn device(field: &[u8]) -> Option<DevId> {
    let (major, minor) = std::str::from_utf8(field).ok()?.split_once(':')?;
    Some(DevId { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

/// Undoes the kernel's octal escapes (`mangle_path` in `fs/seq_file.c`).
pub fn unescape(field: &[u8]) -> Cow<'_, [u8]> {
    if !field.contains(&b'\\') {
        return Cow::Borrowed(field);
    }
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        if let (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) = (byte, after) {
            out.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
            rest = tail;
        } else {
            out.push(byte);
            rest = after;
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Writes a field as the kernel does.
    fn escape(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for &byte in bytes {
            if b" \t\n\\#".contains(&byte) {
                out.extend(format!("\\{byte:03o}").bytes());
            } else {
                out.push(byte);
            }
        }
        out
    }

    fn print(entry: &MountEntry) -> Vec<u8> {
        let mut line =
            format!("{} {} {}:{} ", entry.id, entry.parent, entry.dev.major, entry.dev.minor).into_bytes();
        line.extend(escape(entry.root.as_bytes()));
        line.push(b' ');
        line.extend(escape(entry.mount_point.as_bytes()));
        line.push(b' ');
        line.extend(entry.options.as_bytes());
        for field in &entry.optional {
            line.push(b' ');
            line.extend(field.as_bytes());
        }
        line.extend(b" - ");
        line.extend(escape(entry.fs_type.as_bytes()));
        line.push(b' ');
        line.extend(escape(entry.source.as_bytes()));
        line.push(b' ');
        line.extend(entry.super_options.as_bytes());
        line
    }

    #[test]
    fn the_example_of_the_manual() {
        let line =
            b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue\n";
        let parsed = parse(line);
        assert_eq!(parsed.malformed, 0);
        let entry = &parsed.entries[0];
        assert_eq!((entry.id, entry.parent, entry.dev), (36, 35, DevId { major: 98, minor: 0 }));
        assert_eq!(entry.mount_point, "/mnt2".into());
        assert_eq!(entry.optional, vec![HostText::from("master:1"), HostText::from("shared:7")]);
        assert_eq!(entry.super_option(b"errors"), Some(b"continue".to_vec()));
        assert!(!entry.is_read_only());
    }

    #[test]
    fn an_empty_source_and_odd_names_keep_their_place() {
        let line = b"40 36 0:50 / /a\\040b\\134\\012\xff ro - tmpfs  rw,size=4k\n";
        let entry = parse(line).entries.remove(0);
        assert_eq!(entry.mount_point.as_bytes(), b"/a b\\\n\xff");
        assert!(entry.source.is_empty());
        assert_eq!(entry.super_options, "rw,size=4k".into());
        assert!(entry.is_read_only());
    }

    #[test]
    fn lines_that_make_no_sense_are_counted() {
        let parsed = parse(b"what\n1 2 3:4 / /x rw\n5 1 0:9 / /y rw - tmpfs t rw\n");
        assert_eq!((parsed.entries.len(), parsed.malformed), (1, 2));
    }

    #[test]
    fn twenty_thousand_mounts() {
        let mut file = Vec::new();
        for i in 0..20_000u32 {
            file.extend(
                format!(
                    "{i} 1 0:{i} / /run/a\\040{i} rw,relatime shared:{i} - overlay overlay rw,upperdir=/u/{i}\n"
                )
                .bytes(),
            );
        }
        let parsed = parse(&file);
        assert_eq!((parsed.entries.len(), parsed.malformed), (20_000, 0));
        assert_eq!(parsed.entries[19_999].mount_point, "/run/a 19999".into());
    }

    #[test]
    fn this_machine_has_no_malformed_lines() {
        let parsed = parse(&std::fs::read("/proc/self/mountinfo").unwrap());
        assert_eq!(parsed.malformed, 0);
        assert!(parsed.entries.iter().any(|entry| entry.mount_point == "/".into()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            parse(&bytes);
            unescape(&bytes);
        }

        #[test]
        fn nearly_right_bytes_are_taken(
            bytes in proptest::collection::vec(proptest::sample::select(b"0123 -:/\\\n\xff".to_vec()), 0..200),
        ) {
            let lines = bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty()).count();
            let parsed = parse(&bytes);
            prop_assert_eq!(parsed.entries.len() + parsed.malformed as usize, lines);
        }

        #[test]
        fn what_the_kernel_writes_is_read_back(
            numbers in any::<(u32, u32, u32, u32)>(),
            mount_point in proptest::collection::vec(1u8..=255, 1..40),
            root in proptest::collection::vec(1u8..=255, 0..40),
            source in proptest::collection::vec(1u8..=255, 0..40),
            optional in proptest::collection::vec("[a-z_]{1,9}:[0-9]{1,4}", 0..4),
        ) {
            let entry = MountEntry {
                id: numbers.0,
                parent: numbers.1,
                dev: DevId { major: numbers.2, minor: numbers.3 },
                root: HostPath::from_bytes(root),
                mount_point: HostPath::from_bytes(mount_point),
                options: "rw,relatime".into(),
                optional: optional.iter().map(|field| field.as_str().into()).collect(),
                fs_type: "fuse.x".into(),
                source: HostText::new(source),
                super_options: "rw,a=b".into(),
            };
            let parsed = parse(&print(&entry));
            prop_assert_eq!(parsed.malformed, 0);
            prop_assert_eq!(&parsed.entries, &[entry][..]);
        }
    }
}
