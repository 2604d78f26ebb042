//! Confines a thread to one directory tree by Landlock (SAFETY.md T3): whatever path or descriptor a bug of ours
//! hands to the kernel, nothing is removed, made, renamed, or opened outside of the tree, not even in a directory
//! that was moved out of it meanwhile (T2b).
//!
//! It holds for the calling thread until that ends; threads share memory and descriptors, so this stops mistakes,
//! not hostile code. Not covered by Landlock at all: changing modes, owners, times or attributes; writing to and
//! truncating what some thread has open already. A thread that is confined changes modes alone, of directories in the
//! tree that it has open.

use std::os::fd::AsFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope,
};

/// The first version (Linux 5.13). Nothing is made or renamed in the tree, so it has all that is needed.
const NEEDED: ABI = ABI::V1;
/// The newest version whose rights were looked at; those that the kernel does not know are left out.
const KNOWN: ABI = ABI::V7;

fn everything_denied() -> Result<Ruleset, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(NEEDED))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))
}

/// Whether the kernel can do it, by making the rules without putting them on.
pub fn is_available() -> bool {
    everything_denied().and_then(Ruleset::create).is_ok()
}

/// From now on the calling thread can list and empty this tree, and nothing else. The thread also
/// gives up gaining privileges (`PR_SET_NO_NEW_PRIVS`), which Landlock asks for. There is no way back.
///
/// # Errors
/// Where the kernel has no Landlock; nothing is confined then.
pub fn to_tree(top: impl AsFd) -> Result<(), RulesetError> {
    let emptying: BitFlags<AccessFs> = AccessFs::ReadDir | AccessFs::RemoveFile | AccessFs::RemoveDir;
    everything_denied()?.create()?.add_rule(PathBeneath::new(top, emptying))?.restrict_self()?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, clippy::print_stderr, reason = "fixtures in a temporary directory")]
mod tests {
    use std::fs;
    use std::io::ErrorKind::PermissionDenied;

    use super::*;

    #[test]
    fn a_naive_delete_gets_nowhere_else_when_it_is_confined() {
        if !is_available() {
            eprintln!("SKIPPED: this kernel has no Landlock");
            assert!(std::env::var_os("UNWEDGE_TEST_REQUIRE").is_none(), "Landlock is required");
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let (tree, outside) = (temp.path().join("tree"), temp.path().join("outside"));
        let fill = || {
            for dir in [tree.join("a"), tree.join("b"), outside.join("sub")] {
                fs::create_dir_all(&dir).unwrap();
                fs::write(dir.join("f"), b"x").unwrap();
            }
        };
        // The control: without it, all of this works.
        fill();
        fs::rename(tree.join("a"), tree.join("b/up")).unwrap();
        fs::remove_dir_all(&outside).unwrap();
        fs::remove_dir_all(&tree).unwrap();

        fill();
        let top = fs::File::open(&tree).unwrap();
        let moved = fs::File::open(tree.join("a")).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                to_tree(&top).unwrap();
                for attempt in [
                    fs::remove_file(outside.join("sub/f")),
                    fs::remove_dir_all(&outside),
                    fs::rename(outside.join("sub"), tree.join("sub")),
                    fs::rename(tree.join("b"), outside.join("b")),
                    fs::write(outside.join("new"), b"x"),
                    fs::create_dir(outside.join("new")),
                    fs::read(tree.join("a/f")).map(|_| ()),
                    fs::rename(tree.join("b"), tree.join("a/b")),
                ] {
                    let error = attempt.unwrap_err();
                    assert!(
                        error.kind() == PermissionDenied
                            || error.kind() == std::io::ErrorKind::CrossesDevices,
                        "{error}"
                    );
                }
                fs::remove_file(tree.join("b/f")).unwrap();
                fs::remove_dir(tree.join("b")).unwrap();
            });
        });
        // Nobody else is confined. What was moved out is out of reach, also by its descriptor.
        fs::rename(tree.join("a"), outside.join("a")).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                to_tree(&top).unwrap();
                let flags = rustix::fs::AtFlags::empty();
                assert_eq!(rustix::fs::unlinkat(&moved, c"f", flags), Err(rustix::io::Errno::ACCESS));
            });
        });
        assert!(outside.join("a/f").exists() && outside.join("sub/f").exists());
    }
}
