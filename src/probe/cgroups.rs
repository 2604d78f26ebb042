//! What a cgroup path says about who looks after a process (systemd.slice(5), and the paths that container engines
//! make, seen on docker, containerd, podman, CRI-O, LXC).

/// Who looks after the processes of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Keeper {
    /// A systemd service, by name.
    Service(Vec<u8>),
    /// A container or machine, by the component that names it.
    Container(Vec<u8>),
    /// Nobody that shows.
    Nobody,
}

/// Judges all lines of `/proc/PID/cgroup`.
pub(super) fn keeper(cgroup: &[u8]) -> Keeper {
    if let Some(container) = components(cgroup).find(|component| is_container(component)) {
        return Keeper::Container(container.to_vec());
    }
    // user@1000.service is the user's own manager: everything of a login is below it.
    let is_service = |component: &&[u8]| component.ends_with(b".service") && !component.starts_with(b"user@");
    components(cgroup).find(is_service).map_or(Keeper::Nobody, |service| Keeper::Service(service.to_vec()))
}

/// Judges those of a step of a build: the cgroup that its daemon made for it keeps nothing, a container around the daemon
/// does.
pub(super) fn keeper_of_step(cgroup: &[u8]) -> Keeper {
    components(cgroup)
        .find(|component| is_container(component) && *component != b"docker" && !holds_a_step(component))
        .map_or(Keeper::Nobody, |container| Keeper::Container(container.to_vec()))
}

/// Whether a process is a `RUN` step of `BuildKit`: its executor puts them below a cgroup named buildkit
/// (`defaultCgroupParent` of the executor, and docker's `docker/buildkit`), and docker with systemd into a scope of their
/// own (`newCgroupParent` of dockerd: `docker-ID.scope`).
pub(super) fn is_build_step(cgroup: &[u8]) -> bool {
    components(cgroup).any(holds_a_step)
}

fn components(cgroup: &[u8]) -> impl Iterator<Item = &[u8]> {
    cgroup
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.splitn(3, |&byte| byte == b':').nth(2))
        .flat_map(|path| path.split(|&byte| byte == b'/'))
        .filter(|component| !component.is_empty())
}

fn holds_a_step(component: &[u8]) -> bool {
    let scope = component.strip_prefix(b"docker-").and_then(|rest| rest.strip_suffix(b".scope"));
    component == b"buildkit" || scope.is_some_and(is_buildkit_id)
}

/// Whether it is an id as `BuildKit` makes them (25 digits to base 36, `identity.NewID`); a container's has 64 to base 16.
fn is_buildkit_id(id: &[u8]) -> bool {
    id.len() == 25 && id.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
}

fn is_container(component: &[u8]) -> bool {
    let starts = |prefix: &[u8]| component.starts_with(prefix);
    let is_id = component.len() == 64 && component.iter().all(u8::is_ascii_hexdigit);
    is_id
        || component == b"machine.slice"
        || component == b"lxc"
        || component == b"docker"
        || component == b"kubepods"
        || starts(b"lxc.payload")
        || starts(b"kubepods-")
        || starts(b"kubepods.slice")
        || component.ends_with(b".scope")
            && (starts(b"docker-")
                || starts(b"libpod-")
                || starts(b"crio-")
                || starts(b"cri-containerd-")
                || starts(b"machine-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_containers_and_sessions() {
        let service = |name: &str| Keeper::Service(name.as_bytes().to_vec());
        assert_eq!(keeper(b"0::/system.slice/docker.service\n"), service("docker.service"));
        assert_eq!(
            keeper(b"0::/user.slice/user-1000.slice/user@1000.service/app.slice/podman.service\n"),
            service("podman.service")
        );
        assert_eq!(keeper(b"0::/user.slice/user-1000.slice/user@1000.service/init.scope\n"), Keeper::Nobody);
        assert_eq!(keeper(b"0::/user.slice/user-1000.slice/session-3.scope\n"), Keeper::Nobody);
        assert!(matches!(keeper(b"0::/machine.slice/libpod-0a.scope\n"), Keeper::Container(_)));
        let docker = format!("9:name=systemd:/docker/{}\n0::/\n", "0a".repeat(32));
        assert!(matches!(keeper(docker.as_bytes()), Keeper::Container(_)));
        assert_eq!(keeper(b"9:name=systemd:/\n4:memory:/process_api/77\n0::/\n"), Keeper::Nobody);
        assert!(
            is_build_step(b"0::/docker/buildkit/x1\n")
                && !is_build_step(b"0::/system.slice/buildkit.service\n")
        );
        assert!(is_build_step(b"0::/system.slice/docker-p3k0yv4w2m1n5x7z9a8b6c4d2.scope\n"));
        let container = format!("0::/system.slice/docker-{}.scope\n", "0a".repeat(32));
        assert!(!is_build_step(container.as_bytes()));
        for free in ["/docker/buildkit/x1", "/system.slice/docker-p3k0yv4w2m1n5x7z9a8b6c4d2.scope"] {
            assert_eq!(keeper_of_step(format!("0::{free}\n").as_bytes()), Keeper::Nobody, "{free}");
        }
        let inside = format!("0::/docker/{}/buildkit/x1\n", "0a".repeat(32));
        assert!(matches!(keeper_of_step(inside.as_bytes()), Keeper::Container(_)));
    }
}
