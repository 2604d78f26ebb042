//! The built-in list of what must never be touched. The Filesystem Hierarchy Standard 3.0 and hier(7) name the system's
//! directories; the stores are where their owners' documentation puts them.

use crate::domain::protect::Reach;

/// One row: where, how far, and why (the end of "… is protected: ").
pub(super) struct Row {
    pub(super) path: &'static str,
    pub(super) reach: Reach,
    pub(super) why: &'static str,
}

const fn all(path: &'static str, why: &'static str) -> Row {
    Row { path, reach: Reach::Everything, why }
}

const fn itself(path: &'static str) -> Row {
    Row { path, reach: Reach::Itself, why: "a system directory; what is in it can be chosen one by one" }
}

const SYSTEM: &str = "the system does not work without it";
const PACKAGES: &str = "the package manager's record of what is installed";
const STORE: &str = "a store with its own database: let its owner clean it (docker, podman, ctr, crictl)";
const DATABASE: &str = "a database keeps its data there";

/// Absolute paths.
pub(super) const SYSTEM_PATHS: &[Row] = &[
    all("/bin", SYSTEM),
    all("/boot", SYSTEM),
    all("/dev", SYSTEM),
    all("/efi", SYSTEM),
    all("/etc", SYSTEM),
    all("/gnu/store", "the Guix store: use guix gc"),
    all("/lib", SYSTEM),
    all("/lib32", SYSTEM),
    all("/lib64", SYSTEM),
    all("/libx32", SYSTEM),
    all("/nix/store", "the Nix store: use nix-collect-garbage"),
    all("/nix/var", "the Nix store's database"),
    all("/proc", SYSTEM),
    all("/run/containerd", STORE),
    all("/run/docker", STORE),
    all("/run/systemd", SYSTEM),
    all("/run/udev", SYSTEM),
    all("/sbin", SYSTEM),
    all("/snap", "snaps are mounted there: use snap remove"),
    all("/sys", SYSTEM),
    all("/usr/bin", SYSTEM),
    all("/usr/include", PACKAGES),
    all("/usr/lib", SYSTEM),
    all("/usr/lib32", SYSTEM),
    all("/usr/lib64", SYSTEM),
    all("/usr/libexec", SYSTEM),
    all("/usr/libx32", SYSTEM),
    all("/usr/sbin", SYSTEM),
    all("/var/db", PACKAGES),
    all("/var/lib/apt/extended_states", PACKAGES),
    all("/var/lib/buildkit", STORE),
    all("/var/lib/clickhouse", DATABASE),
    all("/var/lib/containerd", STORE),
    all("/var/lib/containers", STORE),
    all("/var/lib/cri-dockerd", STORE),
    all("/var/lib/crio", STORE),
    all("/var/lib/docker", STORE),
    all("/var/lib/dpkg", PACKAGES),
    all("/var/lib/elasticsearch", DATABASE),
    all("/var/lib/etcd", DATABASE),
    all("/var/lib/grafana", DATABASE),
    all("/var/lib/incus", STORE),
    all("/var/lib/influxdb", DATABASE),
    all("/var/lib/kubelet", STORE),
    all("/var/lib/libvirt", "virtual machines live there"),
    all("/var/lib/lxc", STORE),
    all("/var/lib/lxd", STORE),
    all("/var/lib/machines", "machines of systemd-nspawn live there: use machinectl"),
    all("/var/lib/mongodb", DATABASE),
    all("/var/lib/mysql", DATABASE),
    all("/var/lib/opensearch", DATABASE),
    all("/var/lib/pacman", PACKAGES),
    all("/var/lib/pgsql", DATABASE),
    all("/var/lib/portables", "portable services live there: use portablectl"),
    all("/var/lib/postgresql", DATABASE),
    all("/var/lib/prometheus", DATABASE),
    all("/var/lib/rabbitmq", DATABASE),
    all("/var/lib/rancher", STORE),
    all("/var/lib/redis", DATABASE),
    all("/var/lib/rpm", PACKAGES),
    all("/var/lib/snapd", "the record of installed snaps: use snap remove"),
    all("/var/lib/systemd", SYSTEM),
    all("/var/snap/lxd", STORE),
    itself("/"),
    itself("/home"),
    itself("/media"),
    itself("/mnt"),
    itself("/nix"),
    itself("/opt"),
    itself("/root"),
    itself("/run"),
    itself("/run/lock"),
    itself("/run/user"),
    itself("/srv"),
    itself("/tmp"),
    itself("/usr"),
    itself("/usr/local"),
    itself("/usr/local/bin"),
    itself("/usr/local/lib"),
    itself("/usr/local/sbin"),
    itself("/usr/local/share"),
    itself("/usr/share"),
    itself("/usr/src"),
    itself("/var"),
    itself("/var/cache"),
    itself("/var/lib"),
    itself("/var/lib/apt"),
    itself("/var/local"),
    itself("/var/lock"),
    itself("/var/log"),
    itself("/var/mail"),
    itself("/var/opt"),
    itself("/var/run"),
    itself("/var/spool"),
    itself("/var/spool/cron"),
    itself("/var/tmp"),
];

const KEYS: &str = "keys and credentials of its owner";
const LOGIN: &str = "its owner's login reads it";

const fn home(path: &'static str, reach: Reach, why: &'static str) -> Row {
    Row { path, reach, why }
}

/// Paths below each home directory.
pub(super) const HOME_PATHS: &[Row] = &[
    home(".aws", Reach::Everything, KEYS),
    home(".bash_profile", Reach::Itself, LOGIN),
    home(".bashrc", Reach::Itself, LOGIN),
    home(".config", Reach::Itself, LOGIN),
    home(".config/containers", Reach::Everything, LOGIN),
    home(".gitconfig", Reach::Itself, LOGIN),
    home(".gnupg", Reach::Everything, KEYS),
    home(".kube", Reach::Itself, KEYS),
    home(".kube/config", Reach::Itself, KEYS),
    home(".local", Reach::Itself, LOGIN),
    home(".local/share", Reach::Itself, LOGIN),
    home(".local/share/buildkit", Reach::Everything, STORE),
    home(".local/share/containerd", Reach::Everything, STORE),
    home(".local/share/containers", Reach::Everything, STORE),
    home(".local/share/docker", Reach::Everything, STORE),
    home(".local/share/keyrings", Reach::Everything, KEYS),
    home(".local/state", Reach::Itself, LOGIN),
    home(".netrc", Reach::Itself, KEYS),
    home(".password-store", Reach::Everything, KEYS),
    home(".pgpass", Reach::Itself, KEYS),
    home(".pki", Reach::Everything, KEYS),
    home(".profile", Reach::Itself, LOGIN),
    home(".ssh", Reach::Everything, KEYS),
    home(".zshrc", Reach::Itself, LOGIN),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_well_formed() {
        let absolute = SYSTEM_PATHS.iter().all(|row| row.path.starts_with('/'));
        assert!(absolute && HOME_PATHS.iter().all(|row| !row.path.starts_with('/')));
        for reach in [Reach::Everything, Reach::Itself] {
            let paths: Vec<&str> =
                SYSTEM_PATHS.iter().filter(|row| row.reach == reach).map(|row| row.path).collect();
            assert!(paths.is_sorted(), "{paths:?}");
        }
        assert!(HOME_PATHS.is_sorted_by_key(|row| row.path));
    }
}
