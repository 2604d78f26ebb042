//! Files and directories that the kernel itself uses, though no process has them open: the files behind loop devices, swap,
//! the layers of overlays, and files that are mounted as they are.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, open, openat};

use super::mount_namespaces::Namespaces;
use super::mountinfo::{self, MountEntry};
use super::procfs::DELETED;
use super::{beneath, file_id, raw, safe_path, swaps};
use crate::domain::identity::{DevId, DevIno, FileKind, Inode};
use crate::domain::text::HostPath;

/// One of them.
struct KernelUse {
    /// Where it is.
    path: HostPath,
    /// What for, as the end of "it is …".
    what: String,
    /// Whether what is in it is used with it: an overlay must be the only one to change its upper and work directory
    /// (Documentation/filesystems/overlayfs.rst, "Changes to underlying filesystems"). A lower directory can be `/`.
    with_contents: bool,
}

/// All of them, by what they are and by what they are in: there can be tens of thousands, and as many questions.
#[derive(Default)]
pub struct KernelUses {
    all: Vec<KernelUse>,
    /// Each by what it is.
    by_key: HashMap<DevIno, usize>,
    /// One in each directory that there is one in.
    inside: HashMap<DevIno, usize>,
    /// Those of which nobody knows what they are in: the disk of a container that is attached by a path of its own.
    stray: Vec<(DevIno, usize)>,
}

impl KernelUses {
    /// Looks. `root` is `/`, or a fixture.
    pub fn look(root: &Path, namespaces: &Namespaces) -> Self {
        let mut search = Search { root, namespaces, found: Self::default(), above: HashMap::new() };
        search.loop_devices();
        search.swap_files();
        search.layers_and_images();
        search.found
    }

    /// Why this file must stay, or what is in this directory that must, or what it is in. `above` are the directories that it
    /// is in.
    ///
    /// # Errors
    /// The reason, as a sentence.
    pub fn none_holds(&self, key: DevIno, above: &[DevIno]) -> Result<(), String> {
        let found =
            |map: &HashMap<DevIno, usize>, key: &DevIno| map.get(key).and_then(|&index| self.all.get(index));
        if let Some(one) = found(&self.by_key, &key) {
            return Err(format!("in use: it is {}", one.what));
        }
        if let Some(one) = found(&self.inside, &key) {
            return Err(format!("in use: {} in it is {}", one.path, one.what));
        }
        let around = above.iter().filter_map(|dir| found(&self.by_key, dir)).find(|one| one.with_contents);
        around.map_or(Ok(()), |one| Err(format!("in use: it lies in {}, {}", one.path, one.what)))
    }

    /// What must be looked for in every tree, each with why it must stay: nobody knows what it is in.
    pub fn stray(&self) -> Vec<(DevIno, String)> {
        let found = self.stray.iter().filter_map(|(key, index)| Some((*key, self.all.get(*index)?)));
        found.map(|(key, one)| (key, format!("in use: it is {}", one.what))).collect()
    }

    fn add(&mut self, (key, above): (DevIno, &[DevIno]), one: KernelUse) {
        let index = self.all.len();
        if above.is_empty() {
            self.stray.push((key, index));
        }
        // What is changed by one overlay may be read by another.
        if one.with_contents {
            self.by_key.insert(key, index);
        } else {
            self.by_key.entry(key).or_insert(index);
        }
        for dir in above {
            self.inside.entry(*dir).or_insert(index);
        }
        self.all.push(one);
    }
}

struct Search<'a> {
    root: &'a Path,
    namespaces: &'a Namespaces,
    found: KernelUses,
    /// What the directories that were come by are in.
    above: HashMap<DevIno, Arc<[DevIno]>>,
}

impl Search<'_> {
    fn rooted(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn may_hang(&self, path: &Path) -> bool {
        self.namespaces.ours().is_none_or(|ours| safe_path::may_hang(&ours.mounts, path))
    }

    /// What a path leads to, links followed, with the directories that it is in; none where it leads nowhere here, or
    /// over a server.
    fn place(&mut self, path: &Path) -> Option<(DevIno, Arc<[DevIno]>)> {
        let path = self.rooted(path);
        if self.may_hang(&path) {
            return None;
        }
        let fd = openat(CWD, &path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let id = file_id::of_fd(&fd).ok()?;
        let parent = if id.kind == FileKind::Directory {
            beneath::up(&fd).ok()?
        } else {
            beneath::open_parent(&path.canonicalize().ok()?).ok()?.parent
        };
        Some((id.key, self.with_ancestors(&parent)?))
    }

    /// A directory and what it is in. Layers lie side by side in a few places.
    fn with_ancestors(&mut self, dir: &OwnedFd) -> Option<Arc<[DevIno]>> {
        let key = file_id::of_fd(dir).ok()?.key;
        if let Some(known) = self.above.get(&key) {
            return Some(Arc::clone(known));
        }
        let above: Arc<[DevIno]> = beneath::with_ancestors(dir).ok()?.into();
        self.above.insert(key, Arc::clone(&above));
        Some(above)
    }

    /// The files behind loop devices, mounted or not, deleted or not (`loop(4)`).
    fn loop_devices(&mut self) {
        let Ok(devices) = fs::read_dir(self.rooted("/sys/block")) else { return };
        for device in devices.flatten() {
            let name = device.file_name();
            let dir = device.path();
            if !name.as_bytes().starts_with(b"loop") {
                continue;
            }
            // Not there where nothing is attached.
            let Ok(text) = fs::read(dir.join("loop/backing_file")) else { continue };
            let text = text.strip_suffix(b"\n").unwrap_or(&text);
            let path = Path::new(OsStr::from_bytes(text.strip_suffix(DELETED).unwrap_or(text)));
            // Its file is no file of this machine, and asking the device asks its server.
            if self.may_hang(&self.rooted(path)) {
                continue;
            }
            let dev = fs::read(dir.join("dev")).ok().and_then(|text| mountinfo::device(text.trim_ascii()));
            let mounted = dev.and_then(|dev| {
                let all = self.namespaces.all.iter().chain(&self.namespaces.kept);
                all.flat_map(|namespace| namespace.mounts.entries()).find(|entry| entry.dev == dev)
            });
            let shown = HostPath::from(Path::new("/dev").join(&name));
            let what = match mounted {
                Some(entry) => {
                    format!("the disk of {shown}, mounted at {}; unmount that first", entry.mount_point)
                }
                None => format!("the disk of {shown}; detach it first (losetup --detach {shown})"),
            };
            let asked = dev.and_then(|dev| behind(&self.rooted(shown.as_path()), dev));
            let place = self.place(path);
            let at = match (asked, place) {
                (Some(key), Some((there, above))) if key == there => (key, above),
                (Some(key), _) => (key, Arc::default()),
                (None, Some(place)) => place,
                // It has no name here, so that nobody can delete it by one.
                (None, None) => continue,
            };
            self.add(at, KernelUse { path: HostPath::from(path), what, with_contents: false });
        }
    }

    fn swap_files(&mut self) {
        let Ok(text) = fs::read(self.rooted("/proc/swaps")) else { return };
        for file in swaps::files(&text) {
            if let Some(at) = self.place(file.path.as_path()) {
                let what = format!("swap that is in use; swapoff {} first", file.path.quoted());
                self.add(at, KernelUse { path: file.path, what, with_contents: false });
            }
        }
    }

    /// The directories that mounted overlays are made of, and files that are mounted without a loop device (erofs).
    fn layers_and_images(&mut self) {
        let mut seen: HashSet<(PathBuf, bool)> = HashSet::new();
        let namespaces = self.namespaces;
        let namespaces = namespaces.all.iter().chain(&namespaces.kept);
        for entry in namespaces.flat_map(|namespace| namespace.mounts.entries()) {
            let point = &entry.mount_point;
            let (layers, what) = match entry.fs_type.as_bytes() {
                b"overlay" => {
                    (layers(entry), format!("a layer of the overlay mounted at {point}; unmount that first"))
                }
                b"erofs" | b"squashfs" if entry.dev.major == 0 => (
                    vec![Layer { path: path_of(entry.source.as_bytes()), is_changed: false }],
                    format!("mounted as a file system at {point}; unmount that first"),
                ),
                _ => continue,
            };
            for path in absolute(&layers, point.as_path()) {
                if !seen.insert(path.clone()) {
                    continue;
                }
                let (path, with_contents) = path;
                if let Some(at) = self.place(&path) {
                    self.add(at, KernelUse { path: HostPath::from(path), what: what.clone(), with_contents });
                }
            }
        }
    }

    fn add(&mut self, (key, above): (DevIno, Arc<[DevIno]>), one: KernelUse) {
        self.found.add((key, &above), one);
    }
}

/// One directory that an overlay is made of.
#[derive(Debug, PartialEq, Eq)]
struct Layer {
    /// As whoever mounted it said.
    path: PathBuf,
    /// Whether the overlay changes it.
    is_changed: bool,
}

/// The absolute paths of layers, each with whether it is changed. One that is not absolute was so to the working directory of
/// whoever mounted it, which nobody kept: engines, which mount that way, and people stand above another layer or the mount
/// point, so that it is looked for in all that is above those.
fn absolute(layers: &[Layer], point: &Path) -> Vec<(PathBuf, bool)> {
    let mut all = Vec::new();
    for layer in layers {
        if layer.path.is_absolute() {
            all.push((layer.path.clone(), layer.is_changed));
            continue;
        }
        let known = layers.iter().map(|other| other.path.as_path()).filter(|path| path.is_absolute());
        let dirs: BTreeSet<&Path> = known.chain([point]).flat_map(|path| path.ancestors().skip(1)).collect();
        all.extend(dirs.into_iter().map(|dir| (dir.join(&layer.path), layer.is_changed)));
    }
    all
}

fn path_of(bytes: &[u8]) -> PathBuf {
    OsStr::from_bytes(bytes).into()
}

/// The file behind a loop device, as the device tells it; none where it may not be asked.
fn behind(path: &Path, dev: DevId) -> Option<DevIno> {
    let device = open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let stat = fstat(&device).ok()?;
    let is_it = FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice
        && (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)) == (dev.major, dev.minor);
    let (dev, ino) = raw::loop_status(device.as_fd()).ok().filter(|_| is_it)?;
    // As `huge_encode_dev` packs it (linux/kdev_t.h).
    let word = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let dev =
        DevId { major: word((dev & 0xf_ff00) >> 8), minor: word((dev & 0xff) | ((dev >> 12) & 0xf_ff00)) };
    Some(DevIno { dev, ino: Inode(ino) })
}

/// The directories that an overlay is made of (`ovl_show_options`, fs/overlayfs/params.c).
fn layers(entry: &MountEntry) -> Vec<Layer> {
    let mut all = Vec::new();
    for option in entry.super_options.as_bytes().split(|&byte| byte == b',') {
        let value =
            |name: &[u8]| option.strip_prefix(name).map(|value| mountinfo::unescape(value).into_owned());
        let mut add = |path: &[u8], is_changed| all.push(Layer { path: path_of(path), is_changed });
        if let Some(dir) = value(b"upperdir=").or_else(|| value(b"workdir=")) {
            add(&dir, true);
        } else if let Some(dir) = value(b"lowerdir+=").or_else(|| value(b"datadir+=")) {
            add(&dir, false);
        } else if let Some(list) = value(b"lowerdir=") {
            for dir in split_layers(&list) {
                add(&dir, false);
            }
        }
    }
    all
}

/// Takes a list of layers apart; a colon in a name has a backslash before it.
fn split_layers(list: &[u8]) -> Vec<Vec<u8>> {
    let (mut all, mut one) = (Vec::new(), Vec::new());
    let mut bytes = list.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => one.extend(bytes.next()),
            // Two stand before layers with data only.
            b':' => all.push(std::mem::take(&mut one)),
            other => one.push(other),
        }
    }
    all.push(one);
    all.retain(|layer| !layer.is_empty());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_taken_apart_at_colons_that_are_no_part_of_a_name() {
        let line = b"1 0 0:9 / /m rw - overlay overlay rw,lowerdir=/a\\134:b:/c\\040d::/data,upperdir=/u,workdir=/w,index=off\n\
                     2 0 0:9 / /m rw - overlay overlay rw,lowerdir+=/x,datadir+=/y\n";
        let entries = mountinfo::parse(line).entries;
        let dirs = |entry: &MountEntry| -> Vec<String> {
            layers(entry)
                .into_iter()
                .map(|layer| layer.path.into_os_string().into_string().unwrap())
                .collect()
        };
        assert_eq!(dirs(&entries[0]), ["/a:b", "/c d", "/data", "/u", "/w"]);
        assert_eq!(dirs(&entries[1]), ["/x", "/y"]);
        let layer = |path: &str, is_changed| Layer { path: path.into(), is_changed };
        let found = absolute(&[layer("l/AB", false), layer("/s/ID/diff", true)], Path::new("/s/ID/merged"));
        let found: Vec<_> = found.iter().map(|(path, _)| path.to_str().unwrap()).collect();
        assert_eq!(found, ["/l/AB", "/s/l/AB", "/s/ID/l/AB", "/s/ID/diff"]);
    }
}
